"""Harmonic means of two metrics, of which each sees what the other misses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from evals.kernels.contingency import divide
from evals.kernels.statistics import Statistics
from evals.metrics import contingency, correlation, likelihood, rank  # noqa: F401  theirs first
from evals.metrics.contingency import (
    balanced_accuracy,
    inverse_balanced_accuracy,
    precision,
    recall,
)
from evals.metrics.rank import auc, inverse_auc
from evals.metrics.table import Metric, Parameters, metric

COMBINATIONS: Mapping[str, tuple[Metric, Metric]] = {
    "combined_auc": (auc, inverse_auc),
    "combined_balanced_accuracy": (balanced_accuracy, inverse_balanced_accuracy),
    "recall_auc": (recall, auc),
    "recall_inverse_auc": (recall, inverse_auc),
    "precision_balanced_accuracy": (precision, balanced_accuracy),
    "precision_inverse_balanced_accuracy": (precision, inverse_balanced_accuracy),
}
"""Name to the two metrics that are combined."""


def harmonic_mean(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return ``2 x y / (x + y)``: 0 where both are 0, NaN where one is undefined."""
    mean = divide(2 * one * other, one + other)
    return np.where((one == 0) & (other == 0), 0.0, mean)


def combine(name: str, one: Metric, other: Metric) -> Metric:
    """Register the harmonic mean of two metrics with bounds 0 and 1."""

    def combined(statistics: Statistics, alpha: float | None) -> np.ndarray:
        parameters = Parameters(alpha=alpha)
        scores = [part.evaluate(statistics, parameters) for part in (one, other)]
        return harmonic_mean(*scores)

    combined.__doc__ = (
        f"Harmonic mean of {one.name} and {other.name}.\n\n"
        f"0 where both are 0, undefined where either is; float64 (neuron, concept)."
    )
    combined.__qualname__ = f"combine.{name}"
    register = metric(
        name,
        bounds=(0, 1),
        family="statistics",
        needs=("alpha",),
        partner=name if name.startswith("combined_") else None,
        source="Oikarinen et al. 2025, arXiv 2506.05774",
    )
    return register(combined)


for _name, _parts in COMBINATIONS.items():
    combine(_name, *_parts)
