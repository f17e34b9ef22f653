"""Metrics that depend on the order of activations or labels.

Each returns float64 (neuron, concept). Ties count half in areas under ROC curves (midranks), and
are grouped in average precision, as scikit-learn has both.
"""

from __future__ import annotations

import numpy as np

from evals.kernels.statistics import Statistics
from evals.metrics.table import metric


@metric(
    "auc",
    bounds=(0, 1),
    family="statistics",
    needs=("alpha",),
    partner="inverse_auc",
    source="Oikarinen et al. 2025, arXiv 2506.05774",
)
def auc(statistics: Statistics, alpha: float | None) -> np.ndarray:
    """Area under the ROC curve of the label as a score of active inputs.

    The chance that an active input has a higher label than an inactive one. Undefined for a silent
    neuron and for one that is active on all inputs; 1/2 for a constant label.
    """
    return statistics.roc_area(alpha)


@metric(
    "inverse_auc",
    bounds=(0, 1),
    family="statistics",
    partner="auc",
    source="Bykov et al. 2023, arXiv 2310.17640; Oikarinen et al. 2025, arXiv 2506.05774",
)
def inverse_auc(statistics: Statistics) -> np.ndarray:
    """Area under the ROC curve of the activation as a score of labelled inputs.

    The chance that a labelled input has a higher activation than another. Undefined for an empty
    and for a full concept; 1/2 for a constant neuron.
    """
    return statistics.inverse_roc_area()


@metric(
    "auprc",
    bounds=(0, 1),
    family="statistics",
    needs=("alpha",),
    partner="inverse_auprc",
    source="Oikarinen et al. 2025, arXiv 2506.05774",
)
def auprc(statistics: Statistics, alpha: float | None) -> np.ndarray:
    """Average precision of the label as a score of active inputs.

    ``sum_g (R_g - R_(g-1)) P_g`` over groups of equal label, the highest first, with recall R and
    precision P of the inputs down to the group. Undefined for a silent neuron.
    """
    return statistics.average_precision(alpha)


@metric(
    "inverse_auprc",
    bounds=(0, 1),
    family="statistics",
    partner="auprc",
    source="Oikarinen et al. 2025, arXiv 2506.05774",
)
def inverse_auprc(statistics: Statistics) -> np.ndarray:
    """Average precision of the activation as a score of labelled inputs.

    As `auprc`, over groups of equal activation. Undefined for an empty concept.
    """
    return statistics.inverse_average_precision()
