"""What counts as a fall, how sure a share is, and what follows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.stats import binomtest

from evals.sanity.protocol import (
    Criterion,
    Outcome,
    bounds_of_scores,
    change_of_scores,
    error_of_mean,
    judge_together,
    wilson_interval,
)

CRITERION = Criterion()
NAN = float("nan")


def test_a_fall_is_more_than_epsilon():
    change = np.array([-0.0011, -0.001, 499_500 / 500_000 - 1, -0.0009, 0, 0.5, NAN])
    assert change[2] < -0.001  # by rounding alone
    np.testing.assert_array_equal(CRITERION.falls(change), [True] + [False] * 6)
    assert Criterion(epsilon=0).falls(np.array([-1e-9]))


@pytest.mark.parametrize(
    ("accuracy", "error", "verdict"),
    [
        (1.0, 0.0, "passes"),
        (0.9, 0.0, "passes"),
        (0.95, 0.02, "passes"),
        (0.93, 0.02, "undecided"),
        (0.9, 0.001, "undecided"),
        (0.87, 0.02, "undecided"),
        (0.85, 0.02, "fails"),
        (0.0, 0.0, "fails"),
        (NAN, 0.0, ""),
    ],
)
def test_verdicts(accuracy, error, verdict):
    assert CRITERION.judge(accuracy, error) == verdict


@pytest.mark.parametrize(
    ("n_neurons", "verdict"), [(2, "undecided"), (7, "undecided"), (60, "passes")]
)
def test_few_neurons_leave_doubt_even_if_all_fall(n_neurons, verdict):
    assert CRITERION.judge(1.0, CRITERION.error_of(1.0, n_neurons)) == verdict
    doubt = binomtest(n_neurons, n_neurons, CRITERION.required, alternative="greater").pvalue
    assert (doubt > 0.05) == (verdict == "undecided")
    assert CRITERION.judge(0.0, CRITERION.error_of(0.0, n_neurons)) == "fails"


def test_the_required_share_is_a_parameter():
    assert Criterion(required=1).judge(1.0, 0.0) == "passes"
    assert Criterion(required=0.5).judge(0.6, 0.01) == "passes"
    with pytest.raises(ValueError, match="required is a fraction"):
        Criterion(required=0)
    with pytest.raises(ValueError, match="epsilon is a fraction"):
        Criterion(epsilon=-0.1)


@pytest.mark.parametrize(
    ("verdicts", "together"),
    [
        (["passes", "passes", "", ""], "passes"),
        (["passes", "undecided"], "undecided"),
        (["undecided", "fails", "passes"], "fails"),
        (["", ""], ""),
    ],
)
def test_verdicts_together(verdicts, together):
    assert judge_together(verdicts) == together


@pytest.mark.parametrize(("k", "n"), [(0, 8), (8, 8), (3, 8), (95, 106), (950, 1000)])
def test_wilson_interval_is_that_of_scipy(k, n):
    low, high = wilson_interval(np.array(k / n), n)
    expected = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose([low, high], [expected.low, expected.high], rtol=1e-9, atol=1e-12)


def test_undefined_scores_count_as_zero():
    change = change_of_scores(np.array([1.0, NAN, 1]), np.array([NAN, 0.5, 1]), (-1, 1))
    np.testing.assert_allclose(change, [-0.5, 0.25, 0])
    assert bounds_of_scores([np.array([2.0, NAN]), np.array([[3.0], [1.0]])]) == (0, 3)
    assert not change_of_scores(np.ones(3), np.zeros(3), (2, 2)).any()


def test_errors_of_means_of_shares_are_those_of_repeated_runs():
    rng = np.random.default_rng(0)
    shares = np.array([1.0, 0.5, 0.1])
    runs = rng.binomial(400, shares, size=(20_000, 3)) / 400
    got = error_of_mean(shares * (1 - shares) / 400)
    assert got == pytest.approx(runs.mean(axis=1).std(), rel=0.03)


def test_outcomes_of_runs_that_share_one_noisy_original():
    """Their spread is that of runs: one original each, many draws."""
    rng = np.random.default_rng(1)

    def draw(n):
        return rng.normal(0.5, 0.05, size=n)

    runs = [
        CRITERION.falls(change_of_scores(draw(1), draw(100) - 0.02, (0, 1))).mean()
        for _ in range(3000)
    ]
    outcome = Outcome.of(draw(3000), draw(3000) - 0.02, (0, 1), CRITERION, is_paired=False)
    assert outcome.rate == pytest.approx(np.mean(runs), abs=0.02)
    assert outcome.variance_of_run(100) == pytest.approx(np.var(runs), rel=0.1)
    paired = Outcome.of(draw(1000), draw(1000) - 0.02, (0, 1), CRITERION)
    assert paired.variance_of_run(100) == pytest.approx(paired.rate * (1 - paired.rate) / 100)


def test_a_fall_that_may_equal_epsilon_is_a_toss():
    change, error = np.array([-0.0011, -0.0011, -0.5, -0.001]), np.array([1e-4, 1e-5, 1e-4, 0])
    assert CRITERION.is_toss(change, error).tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("rates", "is_toss", "hinges"),
    [
        ([0.49, 1, 1, 1, 1], [1, 0, 0, 0, 0], True),  # between 0.8 and 1
        ([0.49, 1, 1, 0.5, 0], [1, 0, 0, 0, 0], False),  # fails by the others
        ([0.95, 1, 1, 1, 1], [0, 0, 0, 0, 0], False),
    ],
)
def test_a_verdict_is_open_where_tosses_alone_decide_it(rates, is_toss, hinges):
    assert CRITERION.hinges(np.array(rates), np.array(is_toss, dtype=bool)) == hinges
