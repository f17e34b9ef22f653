"""Metrics that depend on counts of active and labelled inputs alone.

Each is given `Counts`, whose arrays broadcast to (neuron, concept), and returns float64 of that
shape. A silent neuron, with no active input, is undefined by all of them.
"""

from __future__ import annotations

import numpy as np

from evals.kernels.contingency import Counts, divide
from evals.metrics.table import metric


@metric(
    "recall",
    bounds=(0, 1),
    family="contingency",
    needs=("alpha",),
    partner="precision",
    source="Zhou et al. 2015, arXiv 1412.6856; Oikarinen et al. 2025, arXiv 2506.05774",
)
def recall(counts: Counts) -> np.ndarray:
    """Fraction of active inputs that are labelled, ``tp / P``.

    0 for an empty concept, 1 for a full one; undefined for a silent neuron.
    """
    return divide(counts.both, counts.active)


@metric(
    "precision",
    bounds=(0, 1),
    family="contingency",
    needs=("alpha",),
    partner="recall",
    source="Huang et al. 2023, arXiv 2309.10312; Oikarinen et al. 2025, arXiv 2506.05774",
)
def precision(counts: Counts) -> np.ndarray:
    """Fraction of labelled inputs that are active, ``tp / Q``.

    Undefined for a silent neuron and for an empty concept.
    """
    return divide(counts.both, counts.labelled)


@metric(
    "f1_score",
    bounds=(0, 1),
    family="contingency",
    needs=("alpha",),
    partner="f1_score",
    source="Huang et al. 2023, arXiv 2309.10312; Oikarinen et al. 2025, arXiv 2506.05774",
)
def f1_score(counts: Counts) -> np.ndarray:
    """F1 score of the concept as a detector of active inputs, ``2 tp / (P + Q)``.

    The harmonic mean of recall and precision; 0 for an empty concept, undefined for a silent
    neuron.
    """
    return divide(2 * counts.both, counts.active + counts.labelled)


@metric(
    "iou",
    bounds=(0, 1),
    family="contingency",
    needs=("alpha",),
    partner="iou",
    source="Bau et al. 2017, arXiv 1704.05796; Oikarinen et al. 2025, arXiv 2506.05774",
)
def iou(counts: Counts) -> np.ndarray:
    """Intersection over union of active and labelled inputs, ``tp / (P + Q - tp)``.

    The Jaccard index; 0 for an empty concept, undefined for a silent neuron.
    """
    return divide(counts.both, counts.active + counts.labelled - counts.both)


@metric(
    "accuracy",
    bounds=(0, 1),
    family="contingency",
    needs=("alpha",),
    partner="accuracy",
    source="Koh et al. 2020, arXiv 2007.04612; Oikarinen et al. 2025, arXiv 2506.05774",
)
def accuracy(counts: Counts) -> np.ndarray:
    """Fraction of inputs that are active and labelled or neither, ``(tp + tn) / D``.

    Undefined for a silent neuron.
    """
    return divide(counts.both + counts.neither, np.asarray(counts.total))


@metric(
    "balanced_accuracy",
    bounds=(0, 1),
    family="contingency",
    needs=("alpha",),
    partner="inverse_balanced_accuracy",
    source="Oikarinen et al. 2025, arXiv 2506.05774",
)
def balanced_accuracy(counts: Counts) -> np.ndarray:
    """Mean fraction of labelled among active, and of not labelled among inactive inputs.

    ``(tp / P + tn / (D - P)) / 2``: the area under the ROC curve of binary labels. Undefined for a
    silent neuron and for one that is active on all inputs.
    """
    inactive = counts.total - counts.active
    return np.asarray((divide(counts.both, counts.active) + divide(counts.neither, inactive)) / 2)


@metric(
    "inverse_balanced_accuracy",
    bounds=(0, 1),
    family="contingency",
    needs=("alpha",),
    partner="balanced_accuracy",
    source="Oikarinen et al. 2025, arXiv 2506.05774",
)
def inverse_balanced_accuracy(counts: Counts) -> np.ndarray:
    """Mean fraction of active among labelled, and of inactive among not labelled inputs.

    ``(tp / Q + tn / (D - Q)) / 2``. Undefined for a silent neuron, and for an empty or a full
    concept.
    """
    unlabelled = counts.total - counts.labelled
    return np.asarray(
        (divide(counts.both, counts.labelled) + divide(counts.neither, unlabelled)) / 2
    )
