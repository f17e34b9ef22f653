"""Statistics of weighted inputs are those of inputs repeated."""

from __future__ import annotations

import numpy as np
import pytest

import evals
from evals.kernels.draws import DrawnStatistics, Draws
from evals.metrics.table import Parameters
from tests.evals import data

METRICS = [name for name, row in evals.list_metrics().items() if "seed" not in row.needs]
SAMPLES = [name for name, row in evals.list_metrics().items() if "seed" in row.needs]


def assert_same(got, expected, **tolerance):
    assert np.array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_allclose(got, expected, **{"rtol": 1e-12, "atol": 1e-14, **tolerance})


@pytest.mark.slow
@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("alpha", [0.02, 0.3, 1.0])
def test_unit_weights_give_the_matrix(name, alpha):
    row = evals.find_metric(name)
    neurons, concepts = data.activations(), data.labels()
    neurons[:, 5] -= 1e6  # a deviation of 1e-6 of the mean is not what draws are for
    expected = row(neurons, concepts, alpha=alpha)
    once = np.ones((len(neurons), 1))
    for i, a in enumerate(neurons.T):
        for j, c in enumerate(concepts.T):
            got = row.evaluate(DrawnStatistics(a, c, once), Parameters(alpha=alpha))
            assert got.shape == (1,)
            rtol = 1e-9 if j == 5 else 1e-12  # a label of 0.999 +- 1e-6
            assert_same(got[0], expected[i, j], rtol=rtol, atol=1e-11)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.slow
def test_weights_repeat_inputs(name):
    rng = np.random.default_rng(0)
    row = evals.find_metric(name)
    draws = rng.multinomial(160, np.full(160, 1 / 160), size=4)
    for a in data.activations()[:, [0, 1, 2, 8, 9, 10, 12]].T:
        for c in data.labels()[:, [0, 1, 2, 4, 6]].T:
            statistics = DrawnStatistics.of_draws(a, c, Draws.of(draws))
            got = row.evaluate(statistics, Parameters(alpha=0.1))
            expected = [
                row(np.repeat(a, w)[:, None], np.repeat(c, w)[:, None], alpha=0.1)[0, 0]
                for w in draws
            ]
            assert_same(got, np.array(expected))


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.slow
def test_four_cells_stand_for_all_binary_inputs(name):
    row = evals.find_metric(name)
    weights = np.array([30, 20, 50, 400])
    a = np.repeat([1.0, 1.0, 0.0, 0.0], weights)
    c = np.repeat([1.0, 0.0, 1.0, 0.0], weights)
    cells = DrawnStatistics(np.array([1, 1, 0, 0]), np.array([1, 0, 1, 0]), weights[:, None])
    assert_same(row.evaluate(cells, Parameters(alpha=None))[0], row(a[:, None], c[:, None])[0, 0])


def test_a_strangers_function_sees_the_repeated_arrays():
    def mean_product(activations, labels):
        return (activations.T @ labels) / len(activations)

    draws = np.array([[1, 1, 1], [0, 3, 0]])
    statistics = DrawnStatistics.of_draws(
        np.array([1.0, 2, 0]), np.array([1.0, 1, 0]), Draws.of(draws)
    )
    np.testing.assert_allclose(statistics.compute(mean_product), [1, 2])


def test_without_alpha_activations_are_bits():
    statistics = DrawnStatistics(np.array([0.5, 1]), np.array([0.0, 1]), np.ones((2, 1)))
    with pytest.raises(ValueError, match="without alpha"):
        statistics.counts(None)


@pytest.mark.parametrize("name", SAMPLES)
def test_draws_that_take_all_give_the_matrix(name):
    row = evals.find_metric(name)
    neurons, labels = data.activations(20)[:, :4], data.labels(20)[:, :3]  # 25 are all of them
    expected = row(neurons, labels)
    for i, a in enumerate(neurons.T):
        for j, c in enumerate(labels.T):
            got = row.evaluate(DrawnStatistics(a, c, np.ones((20, 2))))
            assert_same(got, np.repeat(expected[i, j], 2))


def test_draws_from_cells_have_their_sizes_and_nothing_from_a_silent_neuron():
    weights = np.array([[40, 3, 0], [100, 100, 50]])
    statistics = DrawnStatistics(np.array([1.0, 0]), np.array([1.0, 0]), weights)
    drawn = statistics.draw_weights(seed=0)
    np.testing.assert_array_equal(drawn[:, :2].sum(axis=0), [50, 28])
    assert (drawn[0, :2] >= [25, 3]).all()
    assert np.isnan(drawn[:, 2]).all()
    score = evals.find_metric("correlation_top_and_random").evaluate(statistics)
    np.testing.assert_array_equal(np.isnan(score), [False, False, True])


@pytest.mark.parametrize("few_cells", [3, 2])  # few cells, and more than a few
def test_draws_from_cells_are_hypergeometric(few_cells, monkeypatch):
    monkeypatch.setattr("evals.kernels.draws.FEW_CELLS", few_cells)
    weights = np.repeat([[30.0], [10], [60]], 4000, axis=1)
    statistics = DrawnStatistics(np.array([1.0, 1, 0]), np.array([1.0, 0, 0]), weights)
    drawn = statistics.draw_weights(seed=1)
    expected = [25 * 30 / 40 + 25 * 0.3, 25 * 10 / 40 + 25 * 0.1, 25 * 0.6]
    np.testing.assert_allclose(drawn.mean(axis=1), expected, atol=0.2)
    # 25 of 40 that hold 30, and 25 of 100 that hold 30: variances of two such draws
    variance = 25 * 0.75 * 0.25 * 15 / 39 + 25 * 0.3 * 0.7 * 75 / 99
    assert drawn[0].var() == pytest.approx(variance, rel=0.1)


@pytest.mark.parametrize("n_inputs", [40, 200])
def test_other_labels_of_the_same_draws_are_those_of_a_pair_of_its_own(n_inputs):
    rng = np.random.default_rng(3)
    draws = Draws.bootstrap(n_inputs, 6, rng)
    activations = rng.integers(1, 30, n_inputs) / 7
    first = DrawnStatistics.of_draws(activations, rng.random(n_inputs), draws)
    for name in (*METRICS, *SAMPLES):
        row, labels = evals.find_metric(name), (rng.random(n_inputs) < 0.3).astype(float)
        row.evaluate(first, Parameters(alpha=0.1))  # what is known of activations is kept
        alone = DrawnStatistics.of_draws(activations, labels, draws)
        got, expected = (
            row.evaluate(own, Parameters(alpha=0.1)) for own in (first.relabelled(labels), alone)
        )
        np.testing.assert_array_equal(got, expected)
