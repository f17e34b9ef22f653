"""Scores of one concept per neuron, under many sets of labels.

A neuron is sorted once, and every metric and every set of labels reads the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import xarray as xr
from scipy import sparse

from evals.kernels.blocks import BlockStatistics, PreparedLabels
from evals.kernels.columns import Block, Columns, LabelSet, stack_columns
from evals.kernels.sampling import Sampler
from evals.kernels.statistics import AnyArray
from evals.kernels.threads import map_in_order
from evals.metrics.registered import find_metrics
from evals.metrics.table import DEFAULTS, Metric, Parameters
from evals.metrics.tolerance import Tolerance
from evals.scoring.labelled import UNKNOWN, align, join_by_neuron, read_columns, require_indices

READ_AT_ONCE = 64  # neurons
SPARSE_TOGETHER = 16  # neurons: with sparse labels, wrong pairs cost less than a call does


def score_pairs(
    activations: AnyArray,
    label_sets: Sequence[AnyArray],
    right: AnyArray,
    metrics: Sequence[str | Metric] | None = None,
    parameters: Parameters | Mapping[str, Parameters] = DEFAULTS,
    *,
    workers: int = 1,
) -> xr.Dataset:
    """Score each neuron with one concept, under several sets of labels.

    Parameters
    ----------
    activations : array
        (input, neuron), or a labelled one (image, concept): then concepts are the neurons.
    label_sets : sequence of array
        (input, concept) or (input, label) each, of the same inputs and the same concepts: 0 or 1,
        or probabilities.
    right : array of int
        (neuron,) index of each neuron's concept, -1 where there is none.
    metrics : sequence of str or Metric, optional
        Names in the table; all of it by default.
    parameters : Parameters, or mapping of str to Parameters
        What metrics depend on, for all of them or by name.
    workers : int
        Threads; they do not change the result.

    Returns
    -------
    xr.Dataset
        One variable per metric, (label_set, neuron): what `score_matrix` gives for that pair with
        those labels; NaN where undefined, or where a neuron has no concept.

    Raises
    ------
    AlignmentError
        If the arrays are not of the same inputs, or have other dimensions.
    ValueError
        If there is no set of labels, they are of different concepts, or ``right`` does not fit.
    """
    tolerance = Tolerance(find_metrics(metrics))
    rows = tolerance.rows
    pairs = [align(activations, labels) for labels in label_sets]
    if len({tuple(labels["concept"].values.tolist()) for _, labels in pairs}) != 1:
        raise ValueError("expected one or more sets of labels of the same concepts")
    neurons = pairs[0][0]
    indices = join_by_neuron(right, neurons)
    columns = [read_columns(labels, "labels") for _, labels in pairs]
    scores = score_pair_arrays(rows, read_columns(neurons), columns, indices, parameters, workers)
    dims = ("label_set", "neuron")
    return xr.Dataset(
        {
            row.name: (dims, part, {"long_name": row.title})
            for row, part in zip(rows, scores, strict=True)
        },
        {"neuron": neurons["neuron"]},
        tolerance.attributes(),
    )


def score_pair_arrays(
    metrics: Sequence[Metric],
    activations: Columns,
    label_sets: Sequence[LabelSet],
    right: AnyArray,
    parameters: Parameters | Mapping[str, Parameters] = DEFAULTS,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Return the scores (metric, label set, neuron) of each neuron with its own concept.

    As `score_pairs`, of arrays; ``progress`` gets the neurons done and their total.
    """
    indices = require_indices(right, (activations.n_columns, label_sets[0].n_columns))
    sampler = Sampler(activations.inputs, activations.names)
    scores = np.full((len(metrics), len(label_sets), len(indices)), np.nan)

    def score(block: Block, first: int, concepts: np.ndarray, rows: Iterable[int]) -> None:
        """Fill in the scores of consecutive neurons, by some of the metrics."""
        labels = stack_columns(
            [held.block(concept, concept + 1) for concept in concepts for held in label_sets]
        )
        statistics = BlockStatistics(block, PreparedLabels(Columns(labels)), sampler, first)
        own = np.arange(len(concepts))
        for row in rows:
            found = metrics[row].evaluate(statistics, _of(parameters, metrics[row]))
            by_concept = found.reshape(len(concepts), len(concepts), len(label_sets))
            scores[row, :, first + own] = by_concept[own, own]

    alone = [row for row, metric in enumerate(metrics) if metric.family == "arrays"]
    together = [row for row in range(len(metrics)) if row not in alone]

    def work(neurons: slice) -> int:
        block = activations.block(neurons.start, neurons.stop)
        is_sparse = all(sparse.issparse(held.block(0, 1)) for held in label_sets)
        for size, rows in ((SPARSE_TOGETHER if is_sparse else 1, together), (1, alone)):
            for some in _runs(indices[neurons], size if rows else 0):
                first = neurons.start + some.start
                score(block[:, some], first, indices[first : neurons.start + some.stop], rows)
        return int(neurons.stop)

    for done in map_in_order(work, activations.slices(READ_AT_ONCE), workers):
        progress(done, activations.n_columns)
    return scores


def _runs(indices: np.ndarray, size: int) -> Iterator[slice]:
    """Yield consecutive neurons that have a concept, at most ``size`` at once; none for 0."""
    start = 0
    while size and start < len(indices):
        stop = start
        while stop < len(indices) and stop - start < size and indices[stop] != UNKNOWN:
            stop += 1
        if stop > start:
            yield slice(start, stop)
        start = max(stop, start + 1)


def _of(parameters: Parameters | Mapping[str, Parameters], metric: Metric) -> Parameters:
    return parameters if isinstance(parameters, Parameters) else parameters[metric.name]
