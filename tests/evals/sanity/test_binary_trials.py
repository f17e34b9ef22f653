"""Binary neurons by counts, against the same neurons input by input."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import evals
from evals.kernels.blocks import score_arrays
from evals.kernels.columns import Columns
from evals.metrics.table import Metric
from evals.sanity.binary_neurons import (
    ACTIVE,
    LABELLED,
    BinaryNeurons,
    BinaryTrial,
    SimulatedInputs,
)
from evals.sanity.protocol import CRITERION, TESTS, change_of_scores

METRICS = evals.list_metrics()
SETTING = BinaryNeurons((0.45, 0.1, 0.01), 2000)
N_DRAWS = 400
IDENTICAL = 120  # neurons that are the same, each with its own draws


def spoil_inputs(active: np.ndarray, test: str, rng: np.random.Generator) -> np.ndarray:
    """Labels (input, neuron) with faults, by the words of the definition."""
    chance = rng.random((len(active), IDENTICAL))
    if test == "missing":
        return (active[:, None] & (chance < 0.5)).astype(float)
    q, d = active.sum(), len(active)
    return (active[:, None] | (chance < min(1, q / (d - q)))).astype(float)


@pytest.fixture(scope="module")
def simulated() -> dict[tuple[str, int, str], tuple[np.ndarray, np.ndarray]]:
    """Scores (neuron,) on original and corrupted labels of every metric, input by input."""
    rng = np.random.default_rng(11)
    found = {}
    for which, n_active in enumerate(SETTING.n_active):
        active = rng.permutation(SETTING.n_inputs) < n_active
        neurons = np.repeat(active[:, None], IDENTICAL, axis=1).astype(float)
        columns = Columns(neurons, names=[f"{which}/{i}" for i in range(IDENTICAL)])
        rows = list(METRICS.values())
        for test in TESTS:
            labels = spoil_inputs(active, test, rng)
            corrupted = score_arrays(rows, columns, np.hstack([labels, neurons[:, :1]]))
            for name, scores in corrupted.items():
                found[test, which, name] = scores[:, -1], np.diag(scores[:, :-1])
    return found


@pytest.fixture(scope="module")
def counted() -> dict[tuple[str, int, str], tuple[np.ndarray, np.ndarray]]:
    found = {}
    trial = BinaryTrial(SETTING, N_DRAWS, 1)
    for test in TESTS:
        for which in range(len(SETTING.n_active)):
            original, corrupted = trial._counted(test, which)
            for name, row in METRICS.items():
                found[test, which, name] = row.evaluate(original), row.evaluate(corrupted)
    return found


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("test", TESTS)
@pytest.mark.slow
def test_counts_are_distributed_like_inputs(name, test, counted, simulated):
    bounds = METRICS[name].bounds or (-20, 20)
    for which in range(len(SETTING.n_active)):
        (before, after), (held_before, held_after) = (
            found[test, which, name] for found in (counted, simulated)
        )
        got = change_of_scores(before, after, bounds)
        expected = change_of_scores(held_before, held_after, bounds)
        if np.ptp(expected) < 1e-9:
            np.testing.assert_allclose(got, expected[0], atol=1e-9)
            continue
        agreement = stats.ks_2samp(np.round(got, 9), np.round(expected, 9))
        assert agreement.pvalue > 1e-6, (which, agreement)
        rates = [CRITERION.falls(change).mean() for change in (got, expected)]
        undefined = [np.isnan(scores).mean() for scores in (after, held_after)]
        for one, other in (rates, undefined):
            pooled = (one * N_DRAWS + other * IDENTICAL) / (N_DRAWS + IDENTICAL)
            error = np.sqrt(pooled * (1 - pooled) * (1 / N_DRAWS + 1 / IDENTICAL))
            assert abs(one - other) <= 5 * error


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("auc", "balanced_accuracy"),
        ("inverse_auc", "inverse_balanced_accuracy"),
        ("spearman_correlation", "correlation"),
        ("spearman_correlation_top_and_random", "correlation_top_and_random"),
        ("combined_auc", "combined_balanced_accuracy"),
    ],
)
def test_identities_on_binary_data(one, other, counted):
    for test in TESTS:
        for which in range(len(SETTING.n_active)):
            got, expected = (counted[test, which, name][1] for name in (one, other))
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


def test_every_draw_holds_all_inputs_and_faults_of_one_kind():
    missing, extra = (SETTING.statistics(1, test, 50)._weights for test in TESTS)
    for weights in (missing, extra):
        np.testing.assert_array_equal(weights.sum(axis=0), 2000)
        np.testing.assert_array_equal(weights[ACTIVE == 1].sum(axis=0), 200)
    assert (missing[2] == 0).all()
    assert (extra[1] == 0).all()


def test_all_pairs_are_counted_on_nested_inputs():
    """The original labels' counts exactly; the first draw's labels in sum."""
    weights = SETTING.all_pairs._weights.reshape(4, 3, 3, 3)  # concept, label set, neuron
    for concept, n_labelled in enumerate(SETTING.n_active):
        for neuron, n_active in enumerate(SETTING.n_active):
            both = min(n_labelled, n_active)
            cells = [both, n_active - both, n_labelled - both]
            np.testing.assert_array_equal(weights[:3, concept, 0, neuron], cells)
        for number, test in enumerate(TESTS, start=1):
            own = SETTING.statistics(concept, test, 7)._weights[:, 0]
            np.testing.assert_array_equal(weights[:, concept, number, concept], own)
            totals = (weights[:, concept, number] * LABELLED[:, None]).sum(axis=0)
            assert len(set(totals.tolist())) == 1


def test_pairs_of_wrong_concepts_are_distributed_like_inputs():
    """How many of a rare neuron's inputs keep a common concept's label."""
    inside = []
    for seed in range(300):
        weights = BinaryNeurons((0.45, 0.1), 200, seed=seed).all_pairs._weights
        inside.append(weights.reshape(4, 2, 3, 2)[0, 0, 1, 1])  # 20 inputs, each kept by half
    agreement = stats.ks_2samp(inside, stats.binom(20, 0.5).rvs(3000, random_state=0))
    assert agreement.pvalue > 1e-4


def overlap(activations, labels):
    """IoU of binary arrays, as a stranger writes it."""
    both = activations.T @ labels
    return both / (activations.sum(axis=0)[:, None] + labels.sum(axis=0) - both)


def test_a_strangers_metric_is_simulated():
    trial = BinaryTrial(SETTING, 10, 30)
    got = trial.try_metric(Metric("overlap", overlap, bounds=(0, 1)))
    expected = BinaryTrial(SETTING, 4000, 1).try_metric(evals.find_metric("iou"))
    for test in TESTS:
        for one, other in zip(got[test], expected[test], strict=True):
            assert one.n_draws == 30
            assert one.rate == other.rate == 1
            assert one.change == pytest.approx(other.change, abs=0.06)


def test_a_metric_that_contains_a_strangers_is_simulated_too():
    stranger = Metric("overlap", overlap, bounds=(0, 1))
    whole = Metric(
        "half", lambda statistics: stranger.evaluate(statistics) / 2, "combination", (0, 1)
    )
    outcomes = BinaryTrial(SETTING, 10, 5).try_metric(whole)
    assert outcomes["missing"][0].n_draws == 5
    assert outcomes["missing"][0].change == pytest.approx(-0.25, abs=0.02)


def test_bounds_by_data_are_those_of_all_pairs():
    """A stranger's metric without bounds has as range what it gives for any pair."""

    def raised(activations, labels):
        return overlap(activations, labels) + 3

    rows = Metric("raised", raised), Metric("raised", raised, bounds=(0, 4))
    by_data, by_bounds = (BinaryTrial(SETTING, 1, 5).try_metric(row) for row in rows)
    inputs = SimulatedInputs(SETTING)
    sets = [inputs.concepts, *(inputs.corrupt(test, 0) for test in TESTS)]
    width = np.ptp([raised(inputs.concepts, labels) for labels in sets])
    assert width < 1.1
    for test in TESTS:
        for one, other in zip(by_data[test], by_bounds[test], strict=True):
            assert one.change == pytest.approx(4 * other.change / width, rel=1e-9)


def test_what_needs_draws_gets_others_in_every_draw():
    seen = []
    row = Metric(
        "draws",
        lambda a, c, seed: seen.append(seed) or overlap(a, c),
        bounds=(0, 1),
        needs=("seed",),
    )
    BinaryTrial(BinaryNeurons((0.1,), 100), 1, 4).try_metric(row)
    assert sorted(set(seen)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0.5, 0.0001), 1000), "0.0001 of 1,000 inputs are 0"),
        (((1.0,), 1000), "expected some, not all"),
        (((0.5, 0.5), 1000), "different frequencies"),
        (((), 1000), "different frequencies"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        BinaryNeurons(*arguments)
