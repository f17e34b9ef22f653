"""Every metric as the published code computes it on real neurons, to meet its figures by its rules.

The code of Oikarinen et al. 2025 (github.com/Trustworthy-ML-Lab/Neuron_Eval, ``metrics.py``) has
other rules than the definitions in :mod:`evals.metrics.builtin` in these places:

- an input is active from the cut-off on, ties included, so that a sparse neuron may be active
  everywhere; the number of active inputs is ``ceil(alpha * D)`` in floating point;
- ranks break ties by noise of 1e-7 in single precision (:mod:`evals.scoring.original_ties`);
- deviations are of a sample, means of a population: the correlation of a column with itself is
  ``(n - 1) / n``, that of a constant column 0;
- *top and random* draws 25 of exactly ``ceil(0.002 D)`` strongest inputs, ties cut off, and draws
  anew for every matrix of labels, so that corrupted labels are seen on other inputs;
- what is undefined is 0, by denominators that are at least 1, or infinite (``wpmi`` of a concept
  without any probability), or NaN (the harmonic mean of two zeros). What is made of such scores
  differs too: :func:`evals.identification.known_neurons.original_auprc`, and ``compat`` of
  :func:`evals.sanity.protocol.change_of_scores`.

Arithmetic is in double precision, theirs in single. That decides where scores are equal but for
rounding: of 0 and 1 as labels, ``wpmi`` adds up ``log 1e-8`` once for every active input without
the label, and such a sum is rounded by where in the column those inputs stand. Pairs of the same
counts fall apart by it, in single and in double precision, in an order that is nobody's rule: their
average precision is another one as soon as rows are in another order, and ours differs from it in
the same digits.

Noise and draws follow from the seed and the numbers themselves,
so that they are the same however neurons are divided into blocks; the published code draws them
anew in every call, and no two of its calls agree.

Nothing here is used unless it is asked for by ``compat="neuroneval"``.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from evals.kernels.statistics import DRAWING, Drawing
from evals.metrics.registered import find_metric, find_metrics
from evals.metrics.table import Metric
from evals.scoring.config import COMPATS
from evals.scoring.original_ties import noisy_ranks
from registry.suggest import nearest

LEAST_DEVIATION = 1e-9
SMALLEST_LABEL = 1e-8

Formula = Callable[..., np.ndarray]


def metrics_by_rule(names: Iterable[str | Metric] | None = None, compat: str = "") -> list[Metric]:
    """Return rows of the table of metrics, as they are defined or as the published code has them.

    Parameters
    ----------
    names : iterable of str or Metric, optional
        All of the table by default. A metric that the published code lacks stays as it is.
    compat : str
        "neuroneval" for the published rules; "" for the definitions.

    Raises
    ------
    UnknownMetricError, ValueError
        If there is no such metric or no such rule.
    """
    if compat not in COMPATS:
        raise ValueError(f"unknown compat {compat!r}{nearest(compat, COMPATS)}")
    rows = find_metrics(names)
    return [ORIGINAL.get(row.name, row) for row in rows] if compat else rows


def _active(activations: np.ndarray, alpha: float | None) -> np.ndarray:
    """Return 1 where a neuron is active (input, neuron): from the cut-off on, ties included."""
    if alpha is None:
        return activations
    n_inputs = len(activations)
    place = n_inputs - math.ceil(alpha * n_inputs)
    return np.asarray(
        (activations >= np.partition(activations, place, axis=0)[place]).astype(np.float64)
    )


def _labelled(labels: np.ndarray) -> np.ndarray:
    return (labels >= 0.5).astype(np.float64)


def _at_least_one(counts: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(counts, 1))


def _recall(activations: np.ndarray, labels: np.ndarray, alpha: float | None) -> np.ndarray:
    active = _active(activations, alpha)
    return np.asarray((active.T @ _labelled(labels)) / active.sum(axis=0)[:, None])


def _precision(activations: np.ndarray, labels: np.ndarray, alpha: float | None) -> np.ndarray:
    labelled = _labelled(labels)
    return np.asarray(
        (_active(activations, alpha).T @ labelled) / _at_least_one(labelled.sum(axis=0))
    )


def _f1_score(activations: np.ndarray, labels: np.ndarray, alpha: float | None) -> np.ndarray:
    active, labelled = _active(activations, alpha), _labelled(labels)
    return np.asarray(
        2 * (active.T @ labelled) / (active.sum(axis=0)[:, None] + labelled.sum(axis=0))
    )


def _iou(activations: np.ndarray, labels: np.ndarray, alpha: float | None) -> np.ndarray:
    active, labelled = _active(activations, alpha), _labelled(labels)
    both = active.T @ labelled
    return np.asarray(both / (active.sum(axis=0)[:, None] + labelled.sum(axis=0) - both))


def _accuracy(activations: np.ndarray, labels: np.ndarray, alpha: float | None) -> np.ndarray:
    active, labelled = _active(activations, alpha), _labelled(labels)
    return np.asarray((active.T @ labelled + (1 - active).T @ (1 - labelled)) / len(activations))


def _balanced_accuracy(
    activations: np.ndarray, labels: np.ndarray, alpha: float | None
) -> np.ndarray:
    active, labelled = _active(activations, alpha), _labelled(labels)
    inactive = 1 - active
    found = (active.T @ labelled) / _at_least_one(active.sum(axis=0))[:, None]
    left = (inactive.T @ (1 - labelled)) / _at_least_one(inactive.sum(axis=0))[:, None]
    return np.asarray((found + left) / 2)


def _inverse_balanced_accuracy(
    activations: np.ndarray, labels: np.ndarray, alpha: float | None
) -> np.ndarray:
    return _balanced_accuracy(_labelled(labels), _active(activations, alpha), None).T


def _auc(activations: np.ndarray, labels: np.ndarray, alpha: float | None, seed: int) -> np.ndarray:
    ranks = _label_ranks(labels, _generator(seed, labels))
    return _roc_area(ranks, _active(activations, alpha) == 1).T


def _inverse_auc(activations: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    return _roc_area(_neuron_ranks(activations, seed), _labelled(labels) == 1)


def _roc_area(ranks: np.ndarray, is_true: np.ndarray) -> np.ndarray:
    """Return the areas (column, truth) under the ROC curve of ranks from 0 (input, column)."""
    n_true = is_true.sum(axis=0)
    wins = ranks.T @ is_true.astype(np.float64) - n_true * (n_true - 1) / 2
    return np.asarray(wins / _at_least_one(n_true * (len(is_true) - n_true)))


def _correlation(activations: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.asarray((_standardise(activations).T @ _standardise(labels)) / len(activations))


def _standardise(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(axis=0)
    return np.asarray(centred / np.maximum(centred.std(axis=0, ddof=1), LEAST_DEVIATION))


def _spearman_correlation(activations: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    return _correlation(
        _neuron_ranks(activations, seed), _label_ranks(labels, _generator(seed, labels))
    )


def _correlation_top_and_random(
    activations: np.ndarray, labels: np.ndarray, seed: int, drawing: Drawing = DRAWING
) -> np.ndarray:
    rows = [
        _correlation(column[inputs, None], labels[inputs])
        for column, inputs, _ in _draws(activations, labels, seed, drawing)
    ]
    return np.concatenate(rows)


def _spearman_correlation_top_and_random(
    activations: np.ndarray, labels: np.ndarray, seed: int, drawing: Drawing = DRAWING
) -> np.ndarray:
    rows = [
        _correlation(
            noisy_ranks(column[inputs], generator)[:, None],
            _label_ranks(labels[inputs], generator),
        )
        for column, inputs, generator in _draws(activations, labels, seed, drawing)
    ]
    return np.concatenate(rows)


def _draws(
    activations: np.ndarray, labels: np.ndarray, seed: int, drawing: Drawing = DRAWING
) -> Iterator[tuple[np.ndarray, np.ndarray, np.random.Generator]]:
    """Yield each neuron (input,), the inputs drawn for it, and what its noise is drawn from."""
    n_inputs = len(activations)
    n_top = math.ceil(drawing.share * n_inputs)
    for column in activations.T:
        generator = _generator(seed, column, labels)
        top = np.argsort(-column, kind="stable")[:n_top]
        drawn = top[generator.permutation(n_top)[: drawing.size]]
        of_all = generator.permutation(n_inputs)[: drawing.size]
        yield column, np.append(drawn, of_all), generator


def _cosine(activations: np.ndarray, labels: np.ndarray) -> np.ndarray:
    one, other = (
        values / np.maximum(np.linalg.norm(values, axis=0), LEAST_DEVIATION)
        for values in (activations, labels)
    )
    return np.asarray(one.T @ other)


def _wpmi(
    activations: np.ndarray, labels: np.ndarray, alpha: float | None, lam: float
) -> np.ndarray:
    active = _active(activations, alpha)
    summed = active.T @ np.log(np.maximum(labels, SMALLEST_LABEL))
    mean = summed / _at_least_one(active.sum(axis=0))[:, None]
    return np.asarray(mean - lam * np.log(labels.mean(axis=0)))


def _mad(activations: np.ndarray, labels: np.ndarray) -> np.ndarray:
    labelled = _labelled(labels)
    inside = (activations.T @ labelled) / _at_least_one(labelled.sum(axis=0))
    outside = (activations.T @ (1 - labelled)) / _at_least_one((1 - labelled).sum(axis=0))
    return np.asarray(inside - outside)


def _auprc(activations: np.ndarray, labels: np.ndarray, alpha: float | None) -> np.ndarray:
    return _average_precision(labels, _active(activations, alpha)).T


def _inverse_auprc(activations: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return _average_precision(activations, _labelled(labels))


def _average_precision(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return average precision (column, truth), ties grouped; 0 where nothing is true."""
    return np.asarray(np.nan_to_num(find_metric("inverse_auprc")(scores, truth)))


def _harmonic(one: str, other: str) -> Formula:
    """Return the harmonic mean of two metrics; 0 / 0 where both are 0."""

    def mean(activations: np.ndarray, labels: np.ndarray, **parameters: Any) -> np.ndarray:
        scores = [
            ORIGINAL[name].function(
                activations, labels, **{key: parameters[key] for key in ORIGINAL[name].needs}
            )
            for name in (one, other)
        ]
        return np.asarray(2 * scores[0] * scores[1] / (scores[0] + scores[1]))

    return mean


def _neuron_ranks(activations: np.ndarray, seed: int) -> np.ndarray:
    return np.column_stack(
        [noisy_ranks(column, _generator(seed, column)) for column in activations.T]
    )


def _label_ranks(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return np.column_stack([noisy_ranks(column, generator) for column in labels.T])


def _generator(seed: int, *arrays: np.ndarray) -> np.random.Generator:
    """Return what noise and draws come from: it follows from the seed and sums of the arrays."""
    keys = [zlib.crc32(np.ascontiguousarray(array.sum(axis=0)).tobytes()) for array in arrays]
    return np.random.default_rng([seed, *keys])


def _row(name: str, function: Formula, needs: tuple[str, ...]) -> Metric:
    as_defined = find_metric(name)
    return Metric(
        name,
        function,
        bounds=as_defined.bounds,
        needs=needs,
        partner=as_defined.partner,
        units=as_defined.units,
        source="github.com/Trustworthy-ML-Lab/Neuron_Eval, metrics.py",
    )


_ALONE: Mapping[str, tuple[Formula, tuple[str, ...]]] = {
    "recall": (_recall, ("alpha",)),
    "precision": (_precision, ("alpha",)),
    "f1_score": (_f1_score, ("alpha",)),
    "iou": (_iou, ("alpha",)),
    "accuracy": (_accuracy, ("alpha",)),
    "balanced_accuracy": (_balanced_accuracy, ("alpha",)),
    "inverse_balanced_accuracy": (_inverse_balanced_accuracy, ("alpha",)),
    "auc": (_auc, ("alpha", "seed")),
    "inverse_auc": (_inverse_auc, ("seed",)),
    "correlation": (_correlation, ()),
    "correlation_top_and_random": (_correlation_top_and_random, ("seed", "drawing")),
    "spearman_correlation": (_spearman_correlation, ("seed",)),
    "spearman_correlation_top_and_random": (
        _spearman_correlation_top_and_random,
        ("seed", "drawing"),
    ),
    "cosine": (_cosine, ()),
    "wpmi": (_wpmi, ("alpha", "lam")),
    "mad": (_mad, ()),
    "auprc": (_auprc, ("alpha",)),
    "inverse_auprc": (_inverse_auprc, ()),
}
_PAIRS: Mapping[str, tuple[str, str]] = {
    "combined_auc": ("auc", "inverse_auc"),
    "combined_balanced_accuracy": ("balanced_accuracy", "inverse_balanced_accuracy"),
    "recall_auc": ("recall", "auc"),
    "recall_inverse_auc": ("recall", "inverse_auc"),
    "precision_balanced_accuracy": ("precision", "balanced_accuracy"),
    "precision_inverse_balanced_accuracy": ("precision", "inverse_balanced_accuracy"),
}

ORIGINAL: Mapping[str, Metric] = {
    name: _row(name, function, needs) for name, (function, needs) in _ALONE.items()
} | {
    name: _row(name, _harmonic(one, other), tuple(dict.fromkeys(_ALONE[one][1] + _ALONE[other][1])))
    for name, (one, other) in _PAIRS.items()
}
"""Name to the metric as the published code has it; every metric that is built in is there."""
