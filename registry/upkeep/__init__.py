"""Upkeep: what a project holds, and what of it is garbage, deleted, checked and backed up."""
