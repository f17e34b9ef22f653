"""Which inputs count as active, and the quotients of counts."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from evals.kernels.columns import Columns
from evals.kernels.indicators import Indicators
from evals.kernels.ranking import Ranking, count_found
from evals.kernels.statistics import count_top, divide


@pytest.mark.parametrize(
    ("alpha", "n_inputs", "top"),
    [
        (0.07, 100, 7),  # 0.07 * 100 is 7.000000000000001
        (0.29, 100, 29),
        (0.55, 100, 55),
        (0.0001, 10_000, 1),
        (0.0001, 10_001, 2),
        (1e-9, 5, 1),
        (1, 5, 5),
        (1.0, 5, 5),
        (0.5, 5, 3),
        (np.float32(0.07), 100, 7),
        (np.float64(0.07), 100, 7),
        (Decimal("0.07"), 100, 7),
    ],
)
def test_count_top_knows_no_rounding(alpha, n_inputs, top):
    assert count_top(alpha, n_inputs) == top


@pytest.mark.parametrize("alpha", [0, -0.1, 1.0000001, float("nan"), float("inf")])
def test_count_top_refuses_what_is_no_fraction(alpha):
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        count_top(alpha, 10)


def count_active(values, alpha):
    column = np.array(values, dtype=float)[:, None]
    return int(Ranking.of(Columns(column).block(0, 1)).count_active(alpha)[0])


@pytest.mark.parametrize(
    ("values", "alpha", "active"),
    [
        ([5, 4, 3, 2, 1], 0.4, 2),
        ([5, 4, 4, 4, 1], 0.4, 4),  # ties at the cut-off are active
        ([5, 0, 0, 0, 0], 0.4, 1),  # but not at a cut-off of 0
        ([5, 4, 0, 0, -1], 0.6, 2),
        ([5, 4, 0, 0, -1], 1.0, 4),  # cut-off at the minimum -1: all but that
        ([-1, -2, -3, -3, -3], 0.6, 2),  # nor at the minimum
        ([-1, -2, -3, -3, -4], 0.6, 4),
        ([0, 0, -1, -1, -1], 0.2, 0),
        ([0, 0, 0, 0, 0], 0.2, 0),
        ([2, 2, 2, 2, 2], 0.2, 0),
        ([2, 1, 1, 1, 1], 0.4, 1),
        ([-0.0, 0.0, -1, -1, -2], 0.2, 0),
    ],
)
def test_ties_at_zero_or_the_minimum_are_not_active(values, alpha, active):
    assert count_active(values, alpha) == active
    padded = [*values, *([min(values)] * 95)]  # stored sparsely where the minimum is 0
    if alpha * 5 <= active:
        assert count_active(padded, alpha * 5 / 100) == active


def test_counting_at_several_cuts_is_counting_at_each():
    rng = np.random.default_rng(0)
    values = np.round(rng.normal(size=(300, 6)), 1)
    ranking = Ranking.of(values)
    alphas = (0.01, 0.05, 0.2, 0.9)
    lengths = np.stack([ranking.count_active(alpha) for alpha in alphas])
    for share in (0.02, 0.5):  # lists and rows
        labels = rng.random((300, 9)) < share
        found = count_found(ranking, lengths, Indicators(labels))
        for cut, alpha in enumerate(alphas):
            k = count_top(alpha, 300)
            cutoff = np.sort(values, axis=0)[::-1][k - 1]
            above_zero = (cutoff == 0) | (cutoff == values.min(axis=0))
            active = np.where(above_zero, values > cutoff, values >= cutoff)
            expected = active.astype(int).T @ labels
            np.testing.assert_array_equal(found[cut], expected)


def test_divide_is_nan_by_zero_and_nothing_warns():
    with np.errstate(all="raise"):
        quotient = divide(np.array([0.0, 1.0, 3.0]), np.array([0.0, 0.0, 2.0]))
    np.testing.assert_array_equal(quotient, [np.nan, np.nan, 1.5])
