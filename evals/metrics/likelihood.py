"""Metrics that depend on logarithms of labels, read as probabilities."""

from __future__ import annotations

import numpy as np

from evals.kernels.statistics import Statistics
from evals.metrics.table import metric


@metric(
    "wpmi",
    family="statistics",
    needs=("alpha", "lam"),
    source="Hernandez et al. 2022, arXiv 2201.11114; Oikarinen et al. 2025, arXiv 2506.05774",
)
def wpmi(statistics: Statistics, alpha: float | None, lam: float) -> np.ndarray:
    """Weighted pointwise mutual information of activity and label.

    Mean over active inputs of ``log C``, clamped below at log 1e-8, less ``lam`` times the
    logarithm of the mean of C over all inputs; natural logarithms. Undefined for a silent neuron
    and for an empty concept.
    """
    return statistics.mean_log_label(alpha) - lam * statistics.log_mean_label()
