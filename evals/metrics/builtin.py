"""The metrics that are built in, grouped by what they are computed from.

Their arrays broadcast to (neuron, concept), and what a metric returns is float64 of that shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from evals.kernels.statistics import DRAWING, Counts, Drawing, Moments, Statistics, divide
from evals.metrics.table import ACTIVATION, Metric, Parameters, metric

SURVEY = "Oikarinen et al. 2025, arXiv 2506.05774"
BILLS = f"Bills et al. 2023; {SURVEY}"
HUANG = f"Huang et al. 2023, arXiv 2309.10312; {SURVEY}"

# --- counts of active and labelled inputs: a silent neuron, with no active input, is undefined ---

of_counts = partial(metric, bounds=(0, 1), family="contingency", needs=("alpha",))


@of_counts("recall", partner="precision", source=f"Zhou et al. 2015, arXiv 1412.6856; {SURVEY}")
def recall(counts: Counts) -> np.ndarray:
    """Fraction of active inputs that are labelled, ``tp / P``.

    0 for an empty concept, 1 for a full one; undefined for a silent neuron.
    """
    return divide(counts.both, counts.active)


@of_counts("precision", partner="recall", source=HUANG)
def precision(counts: Counts) -> np.ndarray:
    """Fraction of labelled inputs that are active, ``tp / Q``.

    Undefined for a silent neuron and for an empty concept.
    """
    return divide(counts.both, counts.labelled)


@of_counts("f1_score", partner="f1_score", source=HUANG)
def f1_score(counts: Counts) -> np.ndarray:
    """F1 score of the concept as a detector of active inputs, ``2 tp / (P + Q)``.

    The harmonic mean of recall and precision; 0 for an empty concept, undefined for a silent
    neuron.
    """
    return divide(2 * counts.both, counts.active + counts.labelled)


@of_counts("iou", partner="iou", source=f"Bau et al. 2017, arXiv 1704.05796; {SURVEY}")
def iou(counts: Counts) -> np.ndarray:
    """Intersection over union of active and labelled inputs, ``tp / (P + Q - tp)``.

    The Jaccard index; 0 for an empty concept, undefined for a silent neuron.
    """
    return divide(counts.both, counts.active + counts.labelled - counts.both)


@of_counts("accuracy", partner="accuracy", source=f"Koh et al. 2020, arXiv 2007.04612; {SURVEY}")
def accuracy(counts: Counts) -> np.ndarray:
    """Fraction of inputs that are active and labelled or neither, ``(tp + tn) / D``.

    Undefined for a silent neuron.
    """
    return divide(counts.both + counts.neither, np.asarray(counts.total))


@of_counts("balanced_accuracy", partner="inverse_balanced_accuracy", source=SURVEY)
def balanced_accuracy(counts: Counts) -> np.ndarray:
    """Mean fraction of labelled among active, and of not labelled among inactive inputs.

    ``(tp / P + tn / (D - P)) / 2``: the area under the ROC curve of binary labels. Undefined for a
    silent neuron and for one that is active on all inputs.
    """
    inactive = counts.total - counts.active
    return np.asarray((divide(counts.both, counts.active) + divide(counts.neither, inactive)) / 2)


@of_counts("inverse_balanced_accuracy", partner="balanced_accuracy", source=SURVEY)
def inverse_balanced_accuracy(counts: Counts) -> np.ndarray:
    """Mean fraction of active among labelled, and of inactive among not labelled inputs.

    ``(tp / Q + tn / (D - Q)) / 2``. Undefined for a silent neuron, and for an empty or a full
    concept.
    """
    unlabelled = counts.total - counts.labelled
    return np.asarray(
        (divide(counts.both, counts.labelled) + divide(counts.neither, unlabelled)) / 2
    )


# --- means, deviations and inner products, of values or of ranks ---------------------------------
# Moments are those of the population: a column correlates with itself to exactly 1.

correlating = partial(metric, bounds=(-1, 1))


@correlating("correlation", family="moment", partner="correlation", source=BILLS)
def correlation(moments: Moments) -> np.ndarray:
    """Pearson correlation of activation and label.

    ``cov(A, C) / (sd(A) sd(C))`` over all inputs; undefined where either is constant.
    """
    return _pearson(moments)


@correlating(
    "correlation_top_and_random", family="statistics", needs=("seed", "drawing"), source=BILLS
)
def correlation_top_and_random(
    statistics: Statistics, seed: int, drawing: Drawing = DRAWING
) -> np.ndarray:
    """Pearson correlation on 25 of the strongest 0.2 % of inputs and 25 of all.

    The two numbers are those of ``drawing``, and so by default.
    Each are drawn without replacement, all of them where there are fewer; an input in both draws
    counts twice. Draws are keyed by the names of neuron and input, and by the seed. Undefined
    where activation or label is constant on the drawn inputs, and for a silent neuron.
    """
    return _pearson(statistics.top_and_random(seed, drawing).moments)


@correlating(
    "spearman_correlation", family="statistics", partner="spearman_correlation", source=BILLS
)
def spearman_correlation(statistics: Statistics) -> np.ndarray:
    """Pearson correlation of midranks.

    Equal values share the mean of their ranks (Kendall 1945). Undefined where activation or label
    is constant.
    """
    return _pearson(statistics.rank_moments)


@correlating(
    "spearman_correlation_top_and_random",
    family="statistics",
    needs=("seed", "drawing"),
    source=BILLS,
)
def spearman_correlation_top_and_random(
    statistics: Statistics, seed: int, drawing: Drawing = DRAWING
) -> np.ndarray:
    """Pearson correlation of midranks on 25 of the strongest 0.2 % of inputs and 25 of all.

    The inputs are those of `correlation_top_and_random`, ranked among themselves; undefined
    likewise.
    """
    return _pearson(statistics.top_and_random(seed, drawing).rank_moments)


@correlating(
    "cosine",
    family="moment",
    partner="cosine",
    source=f"Oikarinen and Weng 2023, arXiv 2204.10965; {SURVEY}",
)
def cosine(moments: Moments) -> np.ndarray:
    """Cosine of the angle between activation and label, ``A.C / (|A| |C|)``.

    Undefined where either is 0 on all inputs. What is added to all activations changes it.
    """
    norms = moments.activation_norm * moments.label_norm
    return np.asarray(np.clip(divide(moments.inner, norms), -1, 1))


@metric(
    "mad",
    family="statistics",
    units=ACTIVATION,
    source=f"Kopf et al. 2024, arXiv 2405.20331; {SURVEY}",
)
def mad(statistics: Statistics) -> np.ndarray:
    """Mean activation on labelled inputs minus mean activation on the others.

    ``cov(A, L) / var(L)`` with binary labels L, which is the same; in units of the activation,
    with which it scales. Undefined for an empty and for a full concept.
    """
    moments = statistics.label_moments
    in_units = divide(moments.covariance, moments.label_deviation**2)
    return np.asarray(np.ldexp(in_units, moments.exponent))


def _pearson(moments: Moments) -> np.ndarray:
    deviations = moments.activation_deviation * moments.label_deviation
    return np.asarray(np.clip(divide(moments.covariance, deviations), -1, 1))


# --- logarithms of labels, read as probabilities -------------------------------------------------


@metric(
    "wpmi",
    family="statistics",
    needs=("alpha", "lam"),
    source=f"Hernandez et al. 2022, arXiv 2201.11114; {SURVEY}",
)
def wpmi(statistics: Statistics, alpha: float | None, lam: float) -> np.ndarray:
    """Weighted pointwise mutual information of activity and label.

    Mean over active inputs of ``log C``, clamped below at log 1e-8, less ``lam`` times the
    logarithm of the mean of C over all inputs; natural logarithms. Undefined for a silent neuron
    and for an empty concept.
    """
    return statistics.mean_log_label(alpha) - lam * statistics.log_mean_label()


# --- the order of activations or labels ----------------------------------------------------------
# Ties count half in areas under ROC curves (midranks), and are grouped in average precision, as
# scikit-learn has both.

of_order = partial(metric, bounds=(0, 1), family="statistics")


@of_order("auc", needs=("alpha",), partner="inverse_auc", source=SURVEY)
def auc(statistics: Statistics, alpha: float | None) -> np.ndarray:
    """Area under the ROC curve of the label as a score of active inputs.

    The chance that an active input has a higher label than an inactive one. Undefined for a silent
    neuron and for one that is active on all inputs; 1/2 for a constant label.
    """
    return statistics.roc_area(alpha)


@of_order("inverse_auc", partner="auc", source=f"Bykov et al. 2023, arXiv 2310.17640; {SURVEY}")
def inverse_auc(statistics: Statistics) -> np.ndarray:
    """Area under the ROC curve of the activation as a score of labelled inputs.

    The chance that a labelled input has a higher activation than another. Undefined for an empty
    and for a full concept; 1/2 for a constant neuron.
    """
    return statistics.inverse_roc_area()


@of_order("auprc", needs=("alpha",), partner="inverse_auprc", source=SURVEY)
def auprc(statistics: Statistics, alpha: float | None) -> np.ndarray:
    """Average precision of the label as a score of active inputs.

    ``sum_g (R_g - R_(g-1)) P_g`` over groups of equal label, the highest first, with recall R and
    precision P of the inputs down to the group. Undefined for a silent neuron.
    """
    return statistics.average_precision(alpha)


@of_order("inverse_auprc", partner="auprc", source=SURVEY)
def inverse_auprc(statistics: Statistics) -> np.ndarray:
    """Average precision of the activation as a score of labelled inputs.

    As `auprc`, over groups of equal activation. Undefined for an empty concept.
    """
    return statistics.inverse_average_precision()


# --- harmonic means of two metrics, of which each sees what the other misses ---------------------

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
    partner = name if name.startswith("combined_") else None
    return of_order(name, needs=("alpha",), partner=partner, source=SURVEY)(combined)


for _name, _parts in COMBINATIONS.items():
    combine(_name, *_parts)
