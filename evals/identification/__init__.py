"""Neurons whose concept is known: how well each metric finds it."""
