"""Walks, sorts and products find the same, and what SciPy and scikit-learn find."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import sparse, stats
from sklearn.metrics import average_precision_score

from evals.kernels import ranking as module
from evals.kernels.indicators import Indicators
from evals.kernels.ranking import Ranking, average_precision, count_found, roc_area
from evals.kernels.statistics import count_top
from evals.metrics.registered import find_metric
from tests.evals import data

NEURONS = np.hstack([data.activations(), data.labels()])


@pytest.mark.parametrize("hold", [np.asarray, sparse.csc_array])
def test_stored_inputs_are_those_above_the_smallest_from_the_top(hold):
    ranking = Ranking.of(hold(NEURONS))
    for j, values in enumerate(NEURONS.T):
        stored = slice(ranking.starts[j], ranking.starts[j + 1])
        inputs = ranking.inputs[stored]
        assert set(inputs) == set(np.flatnonzero(values > values.min()))
        assert (np.diff(values[inputs]) <= 0).all()
        expected = [np.count_nonzero(values >= values[i]) for i in inputs]
        np.testing.assert_array_equal(ranking.above[stored], expected)
        assert ranking.n_positive[j] == np.count_nonzero(values > 0)
        assert ranking.n_nonnegative[j] == np.count_nonzero(values >= 0)


@pytest.mark.parametrize("alpha", [0.001, 0.02, 0.3, 1.0])
def test_a_short_ranking_finds_the_same_active_inputs(alpha):
    whole = Ranking.of(NEURONS)
    short = Ranking.of(NEURONS, depth=count_top(alpha, len(NEURONS)))
    lengths = whole.count_active(alpha)
    np.testing.assert_array_equal(short.count_active(alpha), lengths)
    expected = whole.active(lengths).rows
    np.testing.assert_array_equal(short.active(lengths).rows, expected)
    assert len(short.inputs) <= len(whole.inputs)


@pytest.mark.parametrize("small", [1 << 16, 10])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_doubled_ranks_are_midranks(dtype, small, monkeypatch):
    monkeypatch.setattr(module, "SMALL_INPUTS", small)
    neurons = NEURONS.astype(dtype)
    ranks = Ranking.of(neurons).doubled_ranks()
    dense = ranks.toarray() if sparse.issparse(ranks) else ranks
    midranks = stats.rankdata(neurons, axis=0)
    np.testing.assert_array_equal(dense, 2 * (midranks - midranks.min(axis=0)))


@pytest.mark.parametrize("shape", [(0, 3), (1, 4), (20,), (50, 7), (30, 4, 5)])
def test_tied_ranks_are_the_lowest_and_the_highest_of_equal_values(shape):
    values = np.random.default_rng(0).integers(-2, 4, shape) / 3
    values.flat[:3] = np.inf
    for ranks, method in zip(module.tied_ranks(values), ("min", "max"), strict=True):
        np.testing.assert_array_equal(ranks, stats.rankdata(values, method=method, axis=0))


def test_midranks_of_a_few():
    few = np.random.default_rng(4).integers(0, 9, (30, 7)).astype(float)
    for values in (few, few / 3, 1e300 * few):  # the same in float32, and not
        np.testing.assert_array_equal(module.midranks(values), stats.rankdata(values, axis=0))


@pytest.mark.slow
@pytest.mark.parametrize("small", [1 << 16, 10])
@pytest.mark.parametrize("share", [0.01, 0.05, 0.4])
def test_two_ways_to_precision_are_that_of_scikit_learn(share, small, monkeypatch):
    monkeypatch.setattr(module, "SMALL_INPUTS", small)
    truth = np.random.default_rng(0).random((len(NEURONS), 150)) < share
    truth[:, 0] = False
    truth[:, 1] = True
    ranking = Ranking.of(NEURONS)
    found = {}
    for way in ("words", "lists"):
        monkeypatch.setattr(module, "_fastest", lambda *_, way=way: way)
        found[way] = average_precision(ranking, Indicators(truth))
    np.testing.assert_allclose(found["words"], found["lists"], rtol=1e-14)
    for i, values in enumerate(NEURONS.T):
        for j in [*range(1, 12), 149]:
            expected = average_precision_score(truth[:, j], values) if truth[:, j].any() else np.nan
            np.testing.assert_allclose(found["words"][i, j], expected, rtol=1e-13)


@pytest.mark.slow
def test_a_walk_of_more_steps_than_are_gathered_at_once():
    rng = np.random.default_rng(5)
    values = np.stack([rng.random(1500), rng.integers(0, 400, 1500), np.arange(1500) // 700.0], 1)
    truth = rng.random((1500, 70)) < 0.3
    found = average_precision(Ranking.of(values), Indicators(truth))
    expected = [[average_precision_score(hits, column) for hits in truth.T] for column in values.T]
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("share", [0.005, 0.4])
def test_counts_by_bits_and_by_lists(share):
    truth = np.random.default_rng(6).random((len(NEURONS), 9)) < share
    ranking = Ranking.of(NEURONS)
    lengths = np.stack([ranking.sizes // 3, ranking.sizes])
    found = count_found(ranking, lengths, Indicators(truth))
    for cut in range(2):
        active = ranking.active(lengths[cut]).rows
        np.testing.assert_array_equal(found[cut], active.T.astype(int) @ truth)


@pytest.mark.parametrize("share", [0.03, 0.4])
def test_roc_area_is_the_share_of_pairs_in_order(share):
    truth = np.random.default_rng(1).random((len(NEURONS), 8)) < share
    ranking = Ranking.of(NEURONS)
    ranks = ranking.doubled_ranks()
    dense = ranks.toarray() if sparse.issparse(ranks) else ranks
    areas = roc_area(truth.T @ dense.astype(float), ranking.sizes, Indicators(truth)).T
    for i, values in enumerate(NEURONS.T):
        for j, hits in enumerate(truth.T):
            difference = values[hits][:, None] - values[~hits]
            expected = ((difference > 0) + 0.5 * (difference == 0)).mean()
            np.testing.assert_allclose(areas[i, j], expected, rtol=1e-13)


@pytest.mark.parametrize("frequency", [0.001, 0.02, 0.4, 0.9])
@pytest.mark.parametrize("decimals", [0, 1])
@pytest.mark.slow
def test_precision_keeps_its_digits_where_many_are_tied(frequency, decimals):
    """Shuffling rows cannot show that the same rounding is repeated a hundred thousand times."""
    rng = np.random.default_rng(8)
    scores = np.round(rng.normal(size=(200_000, 2)), decimals)
    true = rng.random((200_000, 70)) < frequency
    got = find_metric("inverse_auprc")(scores, true)
    for neuron, concept in ((0, 0), (1, 69)):
        _, group = np.unique(-scores[:, neuron], return_inverse=True)
        hits = np.bincount(group, weights=true[:, concept])
        found, above = np.cumsum(hits), np.cumsum(np.bincount(group))
        expected = math.fsum(hits * (found / above)) / found[-1]
        np.testing.assert_allclose(got[neuron, concept], expected, rtol=1e-13)


def test_ranks_of_labels_at_the_border_of_what_is_sparse():
    """One-hot labels of 20 classes: exactly a twentieth of the values is not 0."""
    rng = np.random.default_rng(0)
    activations, labels = rng.normal(size=(400, 3)), np.eye(20)[rng.permutation(400) % 20]
    got = find_metric("spearman_correlation")(activations, labels)
    expected = [[stats.spearmanr(a, c).statistic for c in labels.T] for a in activations.T]
    np.testing.assert_allclose(got, expected, rtol=1e-12)
