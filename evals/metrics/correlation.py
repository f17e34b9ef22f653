"""Metrics that depend on means, deviations and inner products, of values or of ranks.

Moments are those of the population: a column correlates with itself to exactly 1. Their arrays
broadcast to (neuron, concept), and what a metric returns is float64 of that shape.
"""

from __future__ import annotations

import numpy as np

from evals.kernels.contingency import divide
from evals.kernels.statistics import Moments, Statistics
from evals.metrics.table import metric


@metric(
    "correlation",
    bounds=(-1, 1),
    family="moment",
    partner="correlation",
    source="Bills et al. 2023; Oikarinen et al. 2025, arXiv 2506.05774",
)
def correlation(moments: Moments) -> np.ndarray:
    """Pearson correlation of activation and label.

    ``cov(A, C) / (sd(A) sd(C))`` over all inputs; undefined where either is constant.
    """
    return _pearson(moments)


@metric(
    "correlation_top_and_random",
    bounds=(-1, 1),
    family="statistics",
    needs=("seed",),
    source="Bills et al. 2023; Oikarinen et al. 2025, arXiv 2506.05774",
)
def correlation_top_and_random(statistics: Statistics, seed: int) -> np.ndarray:
    """Pearson correlation on 25 of the strongest 0.2 % of inputs and 25 of all.

    Each are drawn without replacement, all of them where there are fewer; an input in both draws
    counts twice. Draws are keyed by the names of neuron and input, and by the seed. Undefined
    where activation or label is constant on the drawn inputs, and for a silent neuron.
    """
    return _pearson(statistics.top_and_random(seed).moments)


@metric(
    "spearman_correlation",
    bounds=(-1, 1),
    family="statistics",
    partner="spearman_correlation",
    source="Bills et al. 2023; Oikarinen et al. 2025, arXiv 2506.05774",
)
def spearman_correlation(statistics: Statistics) -> np.ndarray:
    """Pearson correlation of midranks.

    Equal values share the mean of their ranks (Kendall 1945). Undefined where activation or label
    is constant.
    """
    return _pearson(statistics.rank_moments)


@metric(
    "spearman_correlation_top_and_random",
    bounds=(-1, 1),
    family="statistics",
    needs=("seed",),
    source="Bills et al. 2023; Oikarinen et al. 2025, arXiv 2506.05774",
)
def spearman_correlation_top_and_random(statistics: Statistics, seed: int) -> np.ndarray:
    """Pearson correlation of midranks on 25 of the strongest 0.2 % of inputs and 25 of all.

    The inputs are those of `correlation_top_and_random`, ranked among themselves; undefined
    likewise.
    """
    return _pearson(statistics.top_and_random(seed).rank_moments)


@metric(
    "cosine",
    bounds=(-1, 1),
    family="moment",
    partner="cosine",
    source="Oikarinen and Weng 2023, arXiv 2204.10965; Oikarinen et al. 2025, arXiv 2506.05774",
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
    units="activation",
    source="Kopf et al. 2024, arXiv 2405.20331; Oikarinen et al. 2025, arXiv 2506.05774",
)
def mad(statistics: Statistics) -> np.ndarray:
    """Mean activation on labelled inputs minus mean activation on the others.

    ``cov(A, L) / var(L)`` with binary labels L, which is the same; in units of the activation,
    with which it scales. Undefined for an empty and for a full concept.
    """
    moments = statistics.label_moments
    return divide(moments.covariance, moments.label_deviation**2)


def _pearson(moments: Moments) -> np.ndarray:
    deviations = moments.activation_deviation * moments.label_deviation
    return np.asarray(np.clip(divide(moments.covariance, deviations), -1, 1))
