"""The statistics of every pair of a block of neurons and all concepts.

Sorts, counts and products are made when a metric first asks for them, and kept for the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_fields
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np
from scipy import sparse

from evals.kernels.bit_lanes import LANES
from evals.kernels.columns import (
    FAR,
    Block,
    Columns,
    bring_to_range,
    extremes,
    read_column,
    replace,
)
from evals.kernels.indicators import Indicators
from evals.kernels.moments import (
    DESCRIBED_AT_ONCE,
    Description,
    cross_moments,
    sample_moments,
    thin_moments,
)
from evals.kernels.ranking import (
    SMALL_INPUTS,
    Ranking,
    average_precision,
    count_found,
    midranks,
    roc_area,
)
from evals.kernels.sampling import Sampler
from evals.kernels.statistics import (
    DRAWING,
    LABEL_THRESHOLD,
    SMALLEST_LABEL,
    Counts,
    Drawing,
    Moments,
    count_top,
    kept,
    read_only,
)
from evals.kernels.sums import Rows, sum_true
from evals.kernels.threads import (
    Shared,
    count_processors,
    map_in_order,
    one_thread_each,
    shared_property,
)

T = TypeVar("T")

BLOCK_VALUES = 17 << 18  # activations in a block, by default
CONCEPTS_AT_ONCE = 64
HALVED_RANKS = np.dtype(np.uint16)
INPUTS_AT_ONCE = 1024  # whose labels are read together
FEW_STEPS = 1 << 27  # inputs of all pairs up to which one thread is enough, by default
LOGARITHM_UNIT = 32  # log 1e-8 is -18.4


class PreparedLabels(Shared):
    """All concepts, with what every block of neurons needs of them.

    Parameters
    ----------
    columns : Columns
        (input, concept) labels, 0 or 1, or probabilities.
    workers : int
        Threads that prepare some concepts each.
    """

    def __init__(self, columns: Columns, workers: int = 1):
        super().__init__()
        self.columns = columns.load()
        self._workers = workers

    def _map(self, work: Callable[[slice], T], size: int = CONCEPTS_AT_ONCE) -> Iterator[T]:
        return map_in_order(work, self.columns.slices(size), self._workers)

    def _block(self, concepts: slice) -> Block:
        return self.columns.block(concepts.start, concepts.stop, dtype=None)

    @shared_property
    def truth(self) -> Indicators:
        """Which inputs are labelled: at or above 0.5."""
        columns = self.columns
        if columns.is_sparse:
            return Indicators(_threshold(columns.whole()))
        labelled = np.empty((columns.n_inputs, columns.n_columns), dtype=np.bool_)
        for start in range(0, columns.n_inputs, INPUTS_AT_ONCE):
            rows = slice(start, start + INPUTS_AT_ONCE)
            np.greater_equal(columns.raw_slab(rows), LABEL_THRESHOLD, out=labelled[rows])
        return Indicators(labelled)

    @shared_property
    def rankings(self) -> list[Ranking]:
        """Inputs in order of each concept's labels, `CONCEPTS_AT_ONCE` in each ranking."""
        return list(self._map(lambda concepts: Ranking.of(self._block(concepts))))

    @shared_property
    def description(self) -> Description:
        """Sums and deviations of each concept's labels."""
        parts = self._map(lambda few: Description.of(self._block(few)), DESCRIBED_AT_ONCE)
        return Description.join(list(parts))

    @property
    def scaled(self) -> tuple[PreparedLabels, np.ndarray]:
        """The same concepts, none of whose labels are all tiny, and what they were divided by.

        Powers of 2, (concept,).
        """
        return self._brought or (self, np.zeros(self.columns.n_columns, dtype=np.int64))

    @shared_property
    def _brought(self) -> tuple[PreparedLabels, np.ndarray] | None:
        if (np.abs(self.description.exponent) <= FAR).all():
            return None
        block, exponents = bring_to_range(self.columns.block(0, self.columns.n_columns))
        return PreparedLabels(Columns(block), self._workers), exponents

    @shared_property
    def truth_description(self) -> Description:
        """Sums and deviations of which inputs are labelled."""
        return Description.of_truth(self.truth)

    @shared_property
    def ranks(self) -> PreparedLabels:
        """The same concepts with midranks for labels: doubled, and 0 for the smallest.

        Where no two labels of a concept are equal, every one is even: half of them is held then,
        which fits in uint16 up to 65,536 inputs.
        """
        rankings = self.rankings
        if self.columns.is_sparse:
            parts = [sparse.csc_array(ranking.doubled_ranks()) for ranking in rankings]
            return PreparedLabels(Columns(sparse.hstack(parts)), self._workers)
        halved = self.columns.n_inputs <= SMALL_INPUTS and all(map(_is_untied, rankings))
        kind = HALVED_RANKS if halved else np.int32
        ranks = np.empty((self.columns.n_inputs, self.columns.n_columns), dtype=kind)

        stops = np.cumsum([ranking.n_columns for ranking in rankings]).tolist()

        def fill(which: int) -> None:
            part, stop = rankings[which].doubled_ranks(), stops[which]
            concepts = slice(stop - part.shape[1], stop)
            part = part.toarray() if sparse.issparse(part) else part
            part = part // 2 if halved else part
            for start in range(0, len(part), INPUTS_AT_ONCE):  # turned while they are in the cache
                rows = slice(start, start + INPUTS_AT_ONCE)
                ranks[rows, concepts] = part[rows]

        for _ in map_in_order(fill, range(len(rankings)), self._workers):
            pass
        return PreparedLabels(Columns(ranks), self._workers)

    @shared_property
    def log_mean(self) -> np.ndarray:
        """(concept,) logarithm of the mean label, NaN where that is 0."""
        scaled, exponents = self.scaled
        of = scaled.description
        mean = np.ldexp(of.total, of.exponent) / of.n_inputs + of.shift
        logarithm = np.log(mean, out=np.full(len(mean), np.nan), where=mean > 0)
        return np.asarray(logarithm + exponents * math.log(2))

    def permuted(self, orders: np.ndarray) -> PreparedLabels:
        """Return the labels once for each order of the inputs (order, input), side by side.

        At input i of each order stand the labels of input ``orders[…, i]``. What is known of these
        labels by now is carried over, and not made again.
        """
        other = PreparedLabels(self.columns.permuted(orders), self._workers)
        known, n_orders = vars(self), len(orders)
        carried: dict[str, Any] = {
            name: Description.join([known[name]] * n_orders)
            for name in ("description", "truth_description")
            if name in known
        }
        for name in ("truth", "ranks"):
            if name in known:
                carried[name] = known[name].permuted(orders)
        if "log_mean" in known:
            carried["log_mean"] = np.tile(self.log_mean, n_orders)
        if "rankings" in known:
            numbers = np.argsort(orders, axis=1)  # where each input has gone
            carried["rankings"] = [
                ranking.renumbered(own) for own in numbers for ranking in self.rankings
            ]
        vars(other).update(carried)
        return other

    def logarithm_rows(self) -> Rows:
        """Return logarithms of labels, of those that are stored where they are sparse."""
        if self.columns.is_sparse:
            labels = sparse.csr_array(self.columns.whole())
            return Rows.of_sparse(replace(labels, _logarithms(labels.data) / LOGARITHM_UNIT))
        n_inputs, n_columns = self.columns.n_inputs, self.columns.n_columns

        def read(rows: slice) -> np.ndarray:
            return _logarithms(self.columns.slab(rows.start, rows.stop))

        shift, scale = np.zeros(n_columns), np.full(n_columns, 1 / LOGARITHM_UNIT)
        return Rows(n_inputs, n_columns, read, shift, scale)

    def stored_rows(self) -> Rows:
        """Return 1 for each label that is stored."""
        labels = sparse.csr_array(self.columns.whole())
        return Rows.of_sparse(replace(labels, np.ones_like(labels.data)))


def _logarithms(labels: np.ndarray) -> np.ndarray:
    logarithms = np.maximum(labels, SMALLEST_LABEL)
    return np.asarray(np.log(logarithms, out=logarithms))


def rank_scale(n_inputs: int) -> float:
    """Return a power of 2 that brings doubled ranks to at most 1."""
    return math.ldexp(1.0, -math.ceil(math.log2(2 * n_inputs)))


def read_ranks(ranks: Block | Columns) -> Rows:
    """Return doubled ranks in units, to be read some inputs at a time."""
    scale = rank_scale(ranks.shape[0])
    unit = 2 * scale if ranks.dtype == HALVED_RANKS else scale
    n_columns = ranks.shape[1]
    parts = np.zeros(n_columns), np.full(n_columns, unit)
    return Rows.of(ranks, *parts, digits=-round(math.log2(scale)))


def _is_untied(ranking: Ranking) -> bool:
    return bool(ranking.is_last.all() and (ranking.sizes == ranking.n_inputs - 1).all())


def most_neurons(n_inputs: int) -> int:
    """Return how many neurons make a block by default: whole words of them, if any."""
    most = max(1, BLOCK_VALUES // n_inputs)
    return most // LANES * LANES or most


def _threshold(labels: sparse.csc_array) -> sparse.csc_array:
    labelled = replace(labels, labels.data >= LABEL_THRESHOLD)
    labelled.eliminate_zeros()
    return labelled


class BlockStatistics:
    """Every pair of a block of neurons and all concepts: arrays (neuron, concept).

    Parameters
    ----------
    block : Block
        (input, neuron) activations.
    concepts : PreparedLabels
        Of the same inputs.
    sampler : Sampler
        Draws inputs for neurons.
    first : int
        Index of the block's first neuron among all.
    """

    def __init__(self, block: Block, concepts: PreparedLabels, sampler: Sampler, first: int = 0):
        self._block = block
        self._concepts = concepts
        self._sampler = sampler
        self._first = first
        self._top: Ranking
        self._depth = 0
        self._counts: dict[float | None, Counts] = {}

    def relabelled(self, concepts: PreparedLabels) -> BlockStatistics:
        """Return the statistics of the same activations with other labels of the same inputs.

        What is known of the activations by now is not made again.
        """
        other = BlockStatistics(self._block, concepts, self._sampler, self._first)
        known = vars(self)
        vars(other).update({name: known[name] for name in self._OF_BLOCK if name in known})
        vars(other)["_kept"] = {
            key: answer for key, answer in known.get("_kept", {}).items() if key[0] in self._KEPT
        }
        return other

    def narrow(self, n_neurons: int) -> BlockStatistics:
        """Return the statistics of the first neurons alone, or of all where they are fewer."""
        block = self._block[:, :n_neurons]
        return BlockStatistics(block, self._concepts, self._sampler, self._first)

    _OF_BLOCK = (
        *("ranking", "_scaled", "_description", "_ranks", "_ranks_description"),
        *("_top", "_depth"),
    )
    _KEPT = ("_activity", "_active_truth", "_drawn")
    """What follows from the activations alone: properties, and answers that are kept."""

    @property
    def shape(self) -> tuple[int, int]:
        """Neurons and concepts."""
        return self._block.shape[1], self._concepts.columns.n_columns

    @property
    def is_constant(self) -> np.ndarray:
        """(neuron,) whether all activations are equal."""
        low, high = extremes(self._block)
        return np.asarray(low == high)

    @cached_property
    def ranking(self) -> Ranking:
        """Inputs in order of each neuron's activations."""
        return Ranking.of(self._block)

    @cached_property
    def _scaled(self) -> tuple[Block, np.ndarray]:
        return bring_to_range(self._block)

    @cached_property
    def _description(self) -> Description:
        return Description.of(self._scaled[0])

    @cached_property
    def moments(self) -> Moments:
        """Means, deviations and inner products."""
        if self._concepts.description.is_binary:
            return self.label_moments
        concepts, _ = self._concepts.scaled
        return self._cross_moments(concepts.columns, concepts.description)

    def _cross_moments(self, labels: Columns | Indicators, concepts: Description) -> Moments:
        block, exponents = self._scaled
        found = cross_moments(block, self._description, labels, concepts)
        return with_fields(found, exponent=exponents[:, None]) if exponents.any() else found

    @cached_property
    def label_moments(self) -> Moments:
        """Means, deviations and inner products of activations and binary labels."""
        return self._cross_moments(self._concepts.truth, self._concepts.truth_description)

    @cached_property
    def _ranks(self) -> Block:
        return self.ranking.doubled_ranks()

    @cached_property
    def rank_moments(self) -> Moments:
        """Means, deviations and inner products of midranks."""
        concepts = self._concepts.ranks
        return cross_moments(
            self._ranks, self._ranks_description, concepts.columns, concepts.description
        )

    @cached_property
    def _ranks_description(self) -> Description:
        return Description.of(self._ranks)

    @kept
    def _activity(self, alpha: float | None) -> tuple[Ranking, np.ndarray]:
        """Return a ranking whose first inputs are active, and how many of them (neuron,)."""
        if alpha is None:
            ranking = Ranking.of_binary(self._block)
            return ranking, ranking.sizes
        self._rank_top(alpha)
        return self._top, self._top.count_active(alpha)

    def _rank_top(self, alpha: float) -> None:
        """See to it that inputs are ranked at least as far down as this fraction."""
        depth = count_top(alpha, self._block.shape[0])
        if "ranking" in self.__dict__:
            self._top, self._depth = self.ranking, self._block.shape[0]
        elif depth > self._depth:
            self._top, self._depth = Ranking.of(self._block, depth), depth

    def counts(self, alpha: float | None) -> Counts:
        """Inputs that are active, labelled, or both."""
        if alpha not in self._counts:
            self._count([alpha])
        return self._counts[alpha]

    def sweep(self, alphas: Sequence[float]) -> None:
        """Count at several fractions in one walk, for `counts` to answer from."""
        if len(alphas):
            self._rank_top(max(alphas))
            self._count(sorted(alphas))

    def _count(self, alphas: Sequence[float | None]) -> None:
        """Count at fractions that do not decrease."""
        truth, activities = self._concepts.truth, [self._activity(alpha) for alpha in alphas]
        ranking = activities[-1][0]  # down to the last fraction at least
        found = count_found(ranking, np.stack([active for _, active in activities]), truth)
        for alpha, both, (_, active) in zip(alphas, found, activities, strict=True):
            labelled = truth.totals.astype(np.float64)
            self._counts[alpha] = Counts.of(both, active[:, None], labelled, float(truth.n_inputs))

    @kept
    def _active_truth(self, alpha: float | None) -> Indicators:
        ranking, lengths = self._activity(alpha)
        return ranking.active(lengths)

    @kept
    def average_precision(self, alpha: float | None) -> np.ndarray:
        """Average precision of labels as scores of active inputs."""
        active, rankings = self._active_truth(alpha), self._concepts.rankings
        return np.vstack([average_precision(ranking, active) for ranking in rankings]).T

    @kept
    def inverse_average_precision(self) -> np.ndarray:
        """Average precision of activations as scores of labelled inputs."""
        return average_precision(self.ranking, self._concepts.truth)

    @kept
    def roc_area(self, alpha: float | None) -> np.ndarray:
        """Area under the ROC curve of labels as scores of active inputs."""
        active, ranks = self._active_truth(alpha), read_ranks(self._concepts.ranks.columns)
        sizes = np.concatenate([ranking.sizes for ranking in self._concepts.rankings])
        return roc_area(_sum_ranks(ranks, active), sizes, active)

    @kept
    def inverse_roc_area(self) -> np.ndarray:
        """Area under the ROC curve of activations as scores of labelled inputs."""
        truth = self._concepts.truth
        return roc_area(_sum_ranks(read_ranks(self._ranks), truth), self.ranking.sizes, truth).T

    @kept
    def mean_log_label(self, alpha: float | None) -> np.ndarray:
        """Mean over active inputs of the label's logarithm, clamped below at log 1e-8."""
        active = self._active_truth(alpha)
        n_active = np.where(active.totals > 0, active.totals, np.nan)[:, None]
        return np.asarray(_sum_logarithms(self._concepts, active) / n_active)

    def log_mean_label(self) -> np.ndarray:
        """Logarithm of the label's mean over all inputs, NaN for an empty concept."""
        return self._concepts.log_mean

    @kept
    def top_and_random(self, seed: int, drawing: Drawing = DRAWING) -> DrawnInputs:
        """Inputs drawn from those where a neuron is strongest, and from all."""
        return DrawnInputs(self._drawn(seed, drawing), self._concepts.scaled[0].columns)

    @kept
    def _drawn(self, seed: int, drawing: Drawing) -> Drawn:
        ranking, lengths = self._activity(drawing.share)
        inputs = [
            self._sampler.draw(
                self._first + j, ranking.inputs[start : start + length], seed, drawing.size
            )
            for j, (start, length) in enumerate(zip(ranking.starts, lengths, strict=False))
        ]
        return Drawn(self._block, inputs, lengths == 0)

    def compute(self, function: Callable[..., np.ndarray], **parameters: Any) -> np.ndarray:
        """Call a function of activations (input, neuron) and labels (input, concept)."""
        block = self._block.toarray() if sparse.issparse(self._block) else self._block
        block = np.asarray(block, dtype=np.float64)
        columns = self._concepts.columns
        labels = columns.slab(0, columns.n_inputs)
        return function(read_only(block), read_only(labels), **parameters)


def _sum_ranks(ranks: Rows, truth: Indicators) -> np.ndarray:
    """Sum doubled ranks over true inputs: (truth, column), exact."""
    sums, _ = sum_true(ranks, truth, 53 - math.ceil(math.log2(truth.n_inputs)))
    return sums / rank_scale(truth.n_inputs)


def _sum_logarithms(concepts: PreparedLabels, active: Indicators) -> np.ndarray:
    """Sum logarithms of labels over active inputs (neuron, concept); labels not stored are 0."""
    bits = 52 - math.ceil(math.log2(active.n_inputs))
    sums, rests = sum_true(concepts.logarithm_rows(), active, bits)
    total = LOGARITHM_UNIT * (sums + rests)
    if concepts.columns.is_sparse:
        n_stored, _ = sum_true(concepts.stored_rows(), active, 0)
        total += math.log(SMALLEST_LABEL) * (active.totals[:, None] - n_stored)
    return np.asarray(total)


@dataclass(frozen=True)
class Drawn:
    """A few inputs of each neuron of a block, and what it has there.

    Attributes
    ----------
    block : Block
        (input, neuron) activations.
    inputs : sequence of ndarray
        Indices of the inputs of each neuron.
    is_silent : ndarray
        (neuron,) whether nothing could be drawn from the top, so that nothing is defined.
    """

    block: Block
    inputs: Sequence[np.ndarray]
    is_silent: np.ndarray

    @cached_property
    def values(self) -> list[np.ndarray]:
        """Activations (drawn, 1) of each neuron, none tiny or huge."""
        return [bring_to_range(own)[0] for own in self._columns]

    @cached_property
    def ranks(self) -> list[np.ndarray]:
        """Midranks of the activations of each neuron, likewise."""
        return [midranks(own) for own in self._columns]

    @property
    def _columns(self) -> list[np.ndarray]:
        return [
            read_column(self.block, j)[own, None].astype(np.float64)
            for j, own in enumerate(self.inputs)
        ]


@dataclass(frozen=True)
class DrawnInputs:
    """A few inputs of each neuron of a block.

    Attributes
    ----------
    drawn : Drawn
        Which, and the activations there.
    labels : Columns
        (input, concept), of all inputs.
    """

    drawn: Drawn
    labels: Columns

    @cached_property
    def moments(self) -> Moments:
        """Means, deviations and inner products."""
        return self._moments(self.drawn.values, ranked=False)

    @cached_property
    def rank_moments(self) -> Moments:
        """Means, deviations and inner products of midranks among the drawn inputs."""
        return self._moments(self.drawn.ranks, ranked=True)

    def _moments(self, activations: Sequence[np.ndarray], *, ranked: bool) -> Moments:
        inputs = self.drawn.inputs
        if self.labels.is_sparse:
            return thin_moments(activations, inputs, self.labels.by_input, ranked).without(
                self.drawn.is_silent
            )
        parts = []
        for own, drawn in zip(activations, inputs, strict=True):
            labels = self.labels.rows(drawn)
            parts.append(sample_moments(own, midranks(labels) if ranked else labels))
        return Moments.stack(parts).without(self.drawn.is_silent)


def map_statistics(
    function: Callable[[slice, BlockStatistics], T],
    activations: Columns,
    labels: Columns | PreparedLabels,
    *,
    block_size: int | None = None,
    workers: int | None = None,
) -> Iterator[T]:
    """Yield what a function makes of the statistics of consecutive blocks of neurons.

    Parameters
    ----------
    function : callable
        Of the neurons (slice) and their statistics.
    activations, labels : Columns
        (input, neuron) and (input, concept), of the same inputs; labels as `PreparedLabels` where
        they serve several calls.
    block_size : int, optional
        Neurons in a block; by default so many that a block holds 4 million activations.
    workers : int, optional
        Threads that work on blocks side by side; by default as many as there are processors, one
        where there is little to do.

    Raises
    ------
    ValueError
        If the numbers of inputs differ.
    """
    columns = labels.columns if isinstance(labels, PreparedLabels) else labels
    if activations.n_inputs != columns.n_inputs:
        raise ValueError(
            f"activations and labels must be of the same inputs; "
            f"got {activations.n_inputs} and {columns.n_inputs}"
        )
    if workers is None:
        n_steps = activations.n_inputs * activations.n_columns * columns.n_columns
        workers = count_processors() if n_steps > FEW_STEPS else 1
    concepts = labels if isinstance(labels, PreparedLabels) else PreparedLabels(labels, workers)
    sampler = Sampler(activations.inputs, activations.names)
    for_all = math.ceil(activations.n_columns / max(1, workers))
    size = block_size or min(most_neurons(activations.n_inputs), for_all)

    def work(neurons: slice) -> T:
        block = activations.block(neurons.start, neurons.stop, dtype=None)
        return function(neurons, BlockStatistics(block, concepts, sampler, neurons.start))

    with one_thread_each(workers):
        yield from map_in_order(work, activations.slices(size), workers)


class Formula(Protocol):
    """What is computed of pairs: a row of the table of metrics."""

    @property
    def name(self) -> str:
        """Its name."""

    def evaluate(self, statistics: BlockStatistics, parameters: Any) -> np.ndarray:
        """Return one number for each pair (neuron, concept)."""


def score_arrays(
    metrics: Sequence[Formula],
    activations: Any,
    labels: Any,
    parameters: Any = None,
    *,
    block_size: int | None = None,
    workers: int | None = None,
) -> dict[str, np.ndarray]:
    """Score every pair with several metrics that share sorts, counts and products.

    Parameters
    ----------
    metrics : sequence of Formula
        What to compute.
    activations, labels : array, or Columns
        (input, neuron) and (input, concept), of any library.
    parameters : object
        What the metrics depend on besides, handed to each as it is; None for their defaults.
    block_size, workers : int, optional
        Neurons that are scored at once, and in how many threads.

    Returns
    -------
    dict of str to ndarray
        Name of each metric to (neuron, concept) float64, NaN where undefined.
    """
    columns, concepts = (
        held if isinstance(held, Columns) else Columns(held, name, are_labels=name == "labels")
        for held, name in ((activations, "activations"), (labels, "labels"))
    )
    shape = (columns.n_columns, concepts.n_columns)
    scores = {metric.name: np.empty(shape) for metric in metrics}

    def fill(neurons: slice, statistics: BlockStatistics) -> None:
        for metric in metrics:
            scores[metric.name][neurons] = metric.evaluate(statistics, parameters)

    blocks = map_statistics(fill, columns, concepts, block_size=block_size, workers=workers)
    for _ in blocks:
        pass
    return scores
