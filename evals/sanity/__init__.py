"""Sanity tests of metrics: do scores fall when labels are corrupted?"""
