"""Scores of neurons and concepts as labelled arrays."""
