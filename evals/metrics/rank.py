"""Metrics that depend on the order of activations or labels.

Each returns float64 (neuron, concept). Ties count half in areas under ROC curves (midranks), and
are grouped in average precision, as scikit-learn has both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evals.metrics.table import metric

if TYPE_CHECKING:
    from evals.metrics.evidence import Evidence


@metric(
    "auc",
    bounds=(0, 1),
    family="ranking",
    needs=("alpha",),
    partner="inverse_auc",
    source="Oikarinen et al. 2025, arXiv 2506.05774",
)
def auc(evidence: Evidence, alpha: float | None) -> np.ndarray:
    """Area under the ROC curve of the label as a score of active inputs.

    The chance that an active input has a higher label than an inactive one. Undefined for a silent
    neuron and for one that is active on all inputs; 1/2 for a constant label.
    """
    return evidence.roc_area(alpha)


@metric(
    "inverse_auc",
    bounds=(0, 1),
    family="ranking",
    partner="auc",
    source="Bykov et al. 2023, arXiv 2310.17640; Oikarinen et al. 2025, arXiv 2506.05774",
)
def inverse_auc(evidence: Evidence) -> np.ndarray:
    """Area under the ROC curve of the activation as a score of labelled inputs.

    The chance that a labelled input has a higher activation than another. Undefined for an empty
    and for a full concept; 1/2 for a constant neuron.
    """
    return evidence.inverse_roc_area()


@metric(
    "auprc",
    bounds=(0, 1),
    family="ranking",
    needs=("alpha",),
    partner="inverse_auprc",
    source="Oikarinen et al. 2025, arXiv 2506.05774",
)
def auprc(evidence: Evidence, alpha: float | None) -> np.ndarray:
    """Average precision of the label as a score of active inputs.

    ``sum_g (R_g - R_(g-1)) P_g`` over groups of equal label, the highest first, with recall R and
    precision P of the inputs down to the group. Undefined for a silent neuron.
    """
    return evidence.average_precision(alpha)


@metric(
    "inverse_auprc",
    bounds=(0, 1),
    family="ranking",
    partner="auprc",
    source="Oikarinen et al. 2025, arXiv 2506.05774",
)
def inverse_auprc(evidence: Evidence) -> np.ndarray:
    """Average precision of the activation as a score of labelled inputs.

    As `auprc`, over groups of equal activation. Undefined for an empty concept.
    """
    return evidence.inverse_average_precision()
