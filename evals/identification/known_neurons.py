"""Choice of alpha and lambda on neurons whose concept is known.

A metric is good where the known concept of a neuron scores above all wrong ones. How far it is so
is the average precision of its scores, over all pairs of a neuron and a concept, as a detector of
the known pairs. Every metric is given the parameters that are best by this on a few neurons, and
judged on the others (Oikarinen et al. 2025, arXiv 2506.05774, sections 4 and 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import islice
from typing import Any

import numpy as np
import xarray as xr

from evals.identification.config import VALIDATION_SHARE
from evals.kernels.blocks import BlockStatistics, PreparedLabels, map_statistics, most_neurons
from evals.kernels.statistics import DRAWING, AnyArray, Drawing
from evals.metrics.registered import find_metrics
from evals.metrics.table import ALPHAS, LAMBDAS, Metric, Parameters
from evals.scoring.labelled import (
    UNKNOWN,
    align,
    choose_neurons,
    join_by_neuron,
    read_columns,
    require_indices,
)
from evals.scoring.scoring import SWEPT
from registry.arrays import to_numpy
from registry.wording import counted

LEAST_VALIDATION = 2
LONG_NAMES = {
    **SWEPT,
    "auprc": "average precision of scores as a detector of ground-truth pairs",
}
SCORE_BYTES = 1 << 26  # of scores that are held at once
ROUNDING = 1e-14  # of an average precision; two that differ do so by more

Job = tuple[Metric, Parameters]
Precision = Callable[[np.ndarray, np.ndarray], float]


def validation_neurons(
    n_neurons: int, share: float = VALIDATION_SHARE, seed: int = 0, most: int | None = None
) -> np.ndarray:
    """Return which neurons choose the parameters; the others are tested.

    Parameters
    ----------
    n_neurons : int
        Neurons whose concept is known, at least 3.
    share : float
        Fraction of them that choose, in (0, 1): ``int(share * n_neurons)``, computed without float
        error, and at least 2.
    seed : int
        Another one draws others.
    most : int, optional
        No more than so many choose.

    Returns
    -------
    ndarray
        (neuron,) bool.

    Raises
    ------
    ValueError
        If nothing is left to be tested, or the fraction lies elsewhere.
    """
    if n_neurons <= LEAST_VALIDATION:
        raise ValueError(
            f"got {counted(n_neurons, 'neuron')} of known concept; expected at least "
            f"{LEAST_VALIDATION + 1}: {LEAST_VALIDATION} that choose parameters, 1 that is tested"
        )
    if not 0 < share < 1:
        raise ValueError(f"the fraction of neurons that choose lies in (0, 1); got {share!r}")
    wanted = max(math.floor(Fraction(str(share)) * n_neurons), LEAST_VALIDATION)
    chosen = np.random.default_rng(seed).permutation(n_neurons)[: min(wanted, most or wanted)]
    is_chosen = np.zeros(n_neurons, dtype=bool)
    is_chosen[chosen] = True
    return is_chosen


def original_validation_neurons(
    n_neurons: int, share: float = VALIDATION_SHARE, seed: int = 0
) -> np.ndarray:
    """Return which neurons choose in the published code with ``torch.manual_seed(seed)``.

    They are the first ``int(share * n)`` of ``torch.randperm(n)`` on a CPU: a shuffle from the
    front by the remainders of 32-bit numbers of the Mersenne Twister.

    Parameters
    ----------
    n_neurons : int
        Neurons whose concept is known.
    share : float
        Fraction of them that choose, in (0, 1).
    seed : int
        Below 2**32.

    Returns
    -------
    ndarray
        (neuron,) bool.

    Raises
    ------
    ValueError
        If no neuron chooses, or none is tested.
    """
    count = int(share * n_neurons)
    if not 0 < count < n_neurons:
        raise ValueError(
            f"share = {share} of {counted(n_neurons, 'neuron')} lets {count} choose, rounded down "
            "as by the published code; expected some, not all: set share, or name them by choosing"
        )
    order = np.arange(n_neurons)
    numbers = np.random.RandomState(seed).randint(0, 2**32, n_neurons - 1, dtype=np.uint64)
    for place, number in enumerate(numbers.tolist()):
        other = place + number % (n_neurons - place)
        order[[place, other]] = order[[other, place]]
    is_chosen = np.zeros(n_neurons, dtype=bool)
    is_chosen[order[:count]] = True
    return is_chosen


def named_neurons(
    known: np.ndarray, chosen: Sequence[str], names: np.ndarray | None = None
) -> np.ndarray:
    """Return which neurons (neuron,) bool are named, or in ranges, of those of known concept.

    Raises
    ------
    ValueError
        If there is no such neuron, with the nearest; or all are named.
    """
    is_chosen = choose_neurons(known, chosen, "of known concept", names)
    if is_chosen.all():
        raise ValueError("all neurons of known concept choose; expected some to be tested")
    return is_chosen


def identification_auprc(scores: AnyArray, right: AnyArray) -> float:
    """Return the average precision of scores as a detector of ground-truth pairs.

    Over all pairs of a known neuron and a concept, ties grouped. An undefined score says nothing
    for its pair, so it counts as less than every defined one, whatever a metric's bounds; all
    undefined pairs are tied.

    Parameters
    ----------
    scores : array
        (neuron, concept), NaN where undefined.
    right : array of int
        (neuron,) index of each neuron's concept. Neurons where it is -1 are left out: it is not
        known which of their pairs are wrong.

    Returns
    -------
    float
        In (0, 1]; 1 where every ground-truth pair scores above every wrong one.

    Raises
    ------
    ValueError
        If the shapes do not fit, an index is no concept, or no neuron is known.
    """
    values = to_numpy(scores).astype(np.float64)
    indices = require_indices(right, values.shape)
    known = np.flatnonzero(indices != UNKNOWN)
    if len(known) < len(indices):
        values = values[known]
    ranked = np.where(np.isnan(values), -np.inf, values)
    hits = np.sort(ranked[np.arange(len(known)), indices[known]])
    found = len(hits) - np.searchsorted(hits, hits)
    at_or_above = ranked.size - np.searchsorted(np.sort(ranked, axis=None), hits)
    return float(np.mean(found / at_or_above))


def original_auprc(scores: AnyArray, right: AnyArray) -> float:
    """Return what the published code has for :func:`identification_auprc`.

    It sorts by torch, for which an undefined score is above all others, and opens a threshold
    wherever the difference to the score before is not 0, as that of two undefined or of two equal
    infinite scores is not: each of these stands alone, in the order of neurons and concepts. It is
    the same where all scores are finite.

    Parameters
    ----------
    scores, right
        As of `identification_auprc`.

    Returns
    -------
    float
        In (0, 1].

    Raises
    ------
    ValueError
        As `identification_auprc`.
    """
    values = to_numpy(scores).astype(np.float64)
    if np.isfinite(values).all():
        return identification_auprc(values, right)
    indices = require_indices(right, values.shape)
    known = np.flatnonzero(indices != UNKNOWN)
    is_right = indices[known, None] == np.arange(values.shape[1])
    ranked = values[known].ravel()
    is_defined = ~np.isnan(ranked)
    order = np.lexsort((np.where(is_defined, -ranked, 0.0), is_defined))
    with np.errstate(invalid="ignore"):  # of two infinite scores
        is_last = np.append(np.diff(ranked[order]) != 0, True)
    found = np.cumsum(is_right.ravel()[order])[is_last]
    at_or_above = np.flatnonzero(is_last) + 1
    return float(np.diff(found, prepend=0) @ (found / at_or_above) / found[-1])


def choose_parameters(
    activations: AnyArray,
    labels: AnyArray,
    right: AnyArray,
    metrics: Sequence[str | Metric],
    alphas: Sequence[float] = ALPHAS,
    lams: Sequence[float] = LAMBDAS,
    *,
    seed: int = 0,
    drawing: Drawing = DRAWING,
    workers: int = 1,
    precision: Precision = identification_auprc,
) -> xr.Dataset:
    """Choose for each metric the alpha and lambda that identify neurons best.

    Every metric is tried with every value of what it needs, alphas in the outer loop; of equally
    good ones the first is chosen.

    Parameters
    ----------
    activations : array
        (input, neuron) of the neurons that choose, and of no others.
    labels : array
        (input, concept) or (input, label): all concepts that compete.
    right : array of int
        (neuron,) index of each neuron's concept, as of `find_concepts`; neurons with -1 are left
        out.
    metrics : sequence of str or Metric
        Names in the table of metrics.
    alphas : sequence of float
        Fractions of inputs, in (0, 1]; none where activations are 0 or 1 already.
    lams : sequence of float
        Weights of how common a concept is; 1 where there is none.
    seed : int
        Of the inputs that some metrics draw by neuron.
    drawing : Drawing
        How many of these.
    workers : int
        Threads; they do not change the result.
    precision : callable
        How good scores are: `identification_auprc`, or `original_auprc`.

    Returns
    -------
    xr.Dataset
        (metric,) ``alpha`` and ``lam``, NaN where a metric does not depend on them, and ``auprc``,
        what was reached with them.

    Raises
    ------
    AlignmentError, UnknownMetricError, ValueError
        As :func:`evals.score`; and where ``right`` does not fit.
    """
    rows = find_metrics(metrics)
    known = KnownNeurons(activations, labels, right, workers)
    grids = [(row, grid(row, alphas, lams, seed, drawing)) for row in rows]
    everyone = np.ones(len(known), dtype=bool)
    best = [own[0] for own in known.choose(grids, [everyone], precision)]
    chosen = [
        (*values_of(row, point), auprc) for row, (point, auprc) in zip(rows, best, strict=True)
    ]
    columns = {
        name: ("metric", np.array(values), {"long_name": long_name, "units": "1"})
        for (name, long_name), values in zip(LONG_NAMES.items(), np.transpose(chosen), strict=True)
    }
    return xr.Dataset(columns, {"metric": [row.name for row in rows]})


def chosen_parameters(
    chosen: xr.Dataset, seed: int = 0, drawing: Drawing = DRAWING
) -> dict[str, Parameters]:
    """Return what `choose_parameters` chose, ready to be given to each metric, by name."""
    columns = (chosen[name].values.tolist() for name in ("metric", "alpha", "lam"))
    return {
        name: Parameters(
            alpha=None if math.isnan(alpha) else alpha,
            lam=1.0 if math.isnan(lam) else lam,
            seed=seed,
            drawing=drawing,
        )
        for name, alpha, lam in zip(*columns, strict=True)
    }


class KnownNeurons:
    """Neurons whose concept is known.

    They are scored a block at a time, and no more scores (neuron, concept) are held at once than
    take `SCORE_BYTES`, or one: memory does not grow with the inputs of all neurons, nor with what
    is tried. Statistics is gathered anew for the next scores.

    Parameters
    ----------
    activations, labels, right, workers
        As of `choose_parameters`.
    choosers : ndarray, optional
        (neuron,) bool, of the neurons whose concept is known: those that may choose, and so are
        scored with all that is tried; all by default.

    Attributes
    ----------
    right : ndarray
        (neuron,) index of each neuron's concept; neurons where it is not known are left out.
    neurons, concepts : ndarray
        Their names.
    n_inputs : int
        Number of inputs.
    """

    def __init__(
        self,
        activations: AnyArray,
        labels: AnyArray,
        right: AnyArray,
        workers: int = 1,
        choosers: np.ndarray | None = None,
    ):
        activations, labels = align(activations, labels)
        shape = activations.sizes["neuron"], labels.sizes["concept"]
        indices = require_indices(join_by_neuron(right, activations), shape)
        known = np.flatnonzero(indices != UNKNOWN)
        self.right = indices[known]
        self.neurons = activations["neuron"].values[known]
        self.concepts = labels["concept"].values
        self.n_inputs = labels.sizes["input"]
        self._workers = workers

        is_chooser = np.ones(len(known), dtype=bool) if choosers is None else choosers
        order = np.argsort(~is_chooser, kind="stable")  # choosers first, in blocks of their own
        self._row = np.argsort(order)
        n_choosers = int(is_chooser.sum())
        most = min(most_neurons(self.n_inputs), math.ceil(n_choosers / max(1, workers)))
        n_blocks = math.ceil(n_choosers / most)
        self._size = math.ceil(n_choosers / n_blocks)
        self._n_first = min(n_blocks * self._size, len(known))
        self._activations = activations.isel(neuron=known[order])
        self._labels = PreparedLabels(read_columns(labels, "labels"), workers)

    def __len__(self) -> int:
        return len(self.right)

    def choose(
        self,
        grids: Sequence[tuple[Metric, Sequence[Parameters]]],
        choosers: Sequence[np.ndarray],
        precision: Precision = identification_auprc,
    ) -> Iterator[list[tuple[Parameters, float]]]:
        """Yield for each metric what each set of neurons chooses: the first best, and its AUPRC.

        Parameters
        ----------
        grids : sequence of (Metric, sequence of Parameters)
            What is to be computed, and what is tried.
        choosers : sequence of ndarray
            Each (neuron,) bool: the neurons that choose, all of them choosers.
        precision : callable
            As of `choose_parameters`.
        """
        jobs = [(row, point) for row, points in grids for point in points]
        scored = self._score(jobs, self._n_first)
        for _, points in grids:
            grades = np.array(
                [
                    [precision(scores[self._row[own]], self.right[own]) for own in choosers]
                    for scores in islice(scored, len(points))
                ]
            )
            first = np.argmax(grades >= grades.max(axis=0) - ROUNDING, axis=0)
            yield [(points[j], float(grades[j, i])) for i, j in enumerate(first)]

    def score(self, jobs: Sequence[Job]) -> Iterator[np.ndarray]:
        """Yield scores (neuron, concept) by each metric with parameters, NaN where undefined."""
        for scores in self._score(jobs, len(self)):
            yield scores[self._row]

    def _score(self, jobs: Sequence[Job], n_neurons: int) -> Iterator[np.ndarray]:
        """Yield the scores (neuron, concept) of the first neurons, choosers before others."""
        size = max(1, SCORE_BYTES // (8 * n_neurons * len(self.concepts)))
        for start in range(0, len(jobs), size):
            yield from self._score_together(jobs[start : start + size], n_neurons)

    def _score_together(self, jobs: Sequence[Job], n_neurons: int) -> list[np.ndarray]:
        scores = [np.empty((n_neurons, len(self.concepts))) for _ in jobs]
        alphas = sorted({point.alpha for _, point in jobs if point.alpha is not None})

        def fill(neurons: slice, statistics: BlockStatistics) -> None:
            statistics.sweep(alphas)
            for (row, point), values in zip(jobs, scores, strict=True):
                values[neurons] = row.evaluate(statistics, point)

        columns = read_columns(self._activations.isel(neuron=slice(n_neurons)))
        options: Any = {"block_size": self._size, "workers": self._workers}
        for _ in map_statistics(fill, columns, self._labels, **options):
            pass
        return scores


def grid(
    row: Metric,
    alphas: Sequence[float] = ALPHAS,
    lams: Sequence[float] = LAMBDAS,
    seed: int = 0,
    drawing: Drawing = DRAWING,
) -> list[Parameters]:
    """Return every choice of what a metric needs, alphas in the outer loop."""
    return [
        Parameters(alpha=alpha, lam=lam, seed=seed, drawing=drawing)
        for alpha in (alphas if "alpha" in row.needs and len(alphas) else (None,))
        for lam in (lams if "lam" in row.needs and len(lams) else (1.0,))
    ]


def values_of(row: Metric, parameters: Parameters) -> tuple[float, float]:
    """Return the alpha and the lambda that a metric is computed at, NaN where it needs none."""
    alpha = parameters.alpha if "alpha" in row.needs else None
    lam = parameters.lam if "lam" in row.needs else math.nan
    return math.nan if alpha is None else float(alpha), float(lam)
