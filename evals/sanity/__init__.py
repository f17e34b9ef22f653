"""Sanity check of metrics: do scores fall when labels are corrupted?"""
