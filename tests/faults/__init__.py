"""Faults that are really caused: the promises of the README, kept when something goes wrong.

Every test here goes through the doors that users have (the command ``factbook``, ``python -m
stage``, ``registry.open_catalog``, ``xarray.open_dataset``) and looks at files only to damage them,
so that what stands behind the doors can be rebuilt.

The moments are fixed; ``FACTBOOK_FAULT_TRIALS=20 python -m pytest tests/faults`` adds that many
trials of each kind at random moments. ``FACTBOOK_FAULT_SEED`` repeats those of another session;
the seed is printed at the head of it.
"""
