"""Evaluations of concepts: consistency, localisation, matching."""
