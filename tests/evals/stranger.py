"""A metric of somebody else, as a package, a project or a script brings it: one function."""

from __future__ import annotations

import numpy as np

import evals


@evals.metric("stranger_gap", bounds=(-1, 1), source="a stranger")
def stranger_gap(activations: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean label at the larger half of activations, less the mean label of all."""
    active = activations > np.median(activations, axis=0)
    n_active = active.sum(axis=0)[:, None]
    shares = (active.T @ labels) / np.where(n_active, n_active, np.nan)
    return shares - labels.mean(axis=0)
