"""Faults that are really caused: the promises of the README, kept when something goes wrong.

Every test here goes through the doors that users have (the command ``factbook``, ``python -m
stage``, ``registry.open_catalog``, ``xarray.open_dataset``) and looks at files only to damage them,
so that what stands behind the doors can be rebuilt.

The moments are fixed. ``FACTBOOK_FAULT_TRIALS=20 python -m pytest tests/faults`` makes that many
trials of each kind at random moments, and prints its seed at the head; ``FACTBOOK_FAULT_SEED``
repeats those of another session.
"""
