"""Labels in other orders, beside activations that are kept: the same as both anew."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from evals.kernels.blocks import BlockStatistics, PreparedLabels, map_statistics
from evals.kernels.columns import Columns, count_above_smallest
from evals.metrics.registered import find_metrics
from evals.metrics.table import Parameters
from tests.evals import data

PARAMETERS = Parameters(alpha=0.1, seed=1)
N_INPUTS = 160
ORDERS = np.stack([np.random.default_rng(seed).permutation(N_INPUTS) for seed in range(3)])
NAMES = [f"input {i}" for i in range(N_INPUTS)]
RARE = np.where(np.random.default_rng(5).random((N_INPUTS, 70)) < 0.02, 1.0, 0)
KINDS = {
    "dense": (data.activations(), data.labels()),
    "binary": (data.activations(), data.one_hot()),
    "many labels": (data.activations(), np.hstack([data.labels()] * 7)),
    "sparse": (np.where(data.activations() > 3, data.activations(), 0), RARE),
}


def hold(activations: np.ndarray, labels: PreparedLabels | np.ndarray) -> BlockStatistics:
    """Return the statistics of all neurons."""
    held = labels if isinstance(labels, PreparedLabels) else PreparedLabels(Columns(labels))
    columns = Columns(activations, inputs=NAMES)
    (statistics,) = map_statistics(lambda _, own: own, columns, held, workers=1)
    return statistics


def scores(statistics: BlockStatistics) -> dict[str, np.ndarray]:
    return {row.name: row.evaluate(statistics, PARAMETERS) for row in find_metrics()}


@pytest.mark.parametrize("asked", ["all before", "some before", "none before"])
@pytest.mark.parametrize("kind", KINDS)
def test_labels_in_other_orders_are_scored_as_if_anew(kind, asked):
    activations, labels = KINDS[kind]
    prepared = PreparedLabels(Columns(labels))
    statistics = hold(activations, prepared)
    if asked == "all before":
        scores(statistics)
    elif asked == "some before":
        statistics.average_precision(0.1)  # rankings of labels, but no ranks
    moved = scores(statistics.relabelled(prepared.permuted(ORDERS)))
    for which, order in enumerate(ORDERS):
        expected = scores(hold(activations, labels[order]))
        own = slice(which * labels.shape[1], (which + 1) * labels.shape[1])
        for name, values in expected.items():
            np.testing.assert_allclose(moved[name][:, own], values, rtol=1e-12, err_msg=name)


def test_values_above_the_smallest_are_counted():
    block = np.array(
        [[0, 1, -1, 0.5, 2.0], [0, 0, 0, 0.5, 3], [2, 0, 0, 0.5, 2], [0, 0, -2, 0.5, 4]]
    )
    expected = (block > block.min(axis=0)).sum(axis=0)
    assert expected.tolist() == [1, 1, 3, 0, 2]
    for held in (np.asfortranarray(block), sparse.csc_array(block)):
        assert count_above_smallest(held).tolist() == expected.tolist()
