"""Sums over true inputs: every way to them is exact, and the same."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from evals.kernels import sums as module
from evals.kernels.indicators import Indicators
from evals.kernels.sums import Rows, split, sum_true

RNG = np.random.default_rng(0)
VALUES = RNG.uniform(-1, 1, (300, 40))


def rows(values, shift=0.0, scale=1.0):
    n_inputs, n_columns = values.shape
    parts = np.full(n_columns, shift), np.full(n_columns, scale)
    return Rows(n_inputs, n_columns, values.__getitem__, *parts)


def test_split_is_exact_and_its_first_part_is_short():
    head, tail = split(VALUES, 20)
    np.testing.assert_array_equal(head + tail, VALUES)
    np.testing.assert_array_equal(head * 2**20, np.rint(head * 2**20))
    assert np.abs(tail).max() <= 2**-21


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_sums_are_those_of_the_true_inputs(share, order, monkeypatch):
    monkeypatch.setattr(module, "PRODUCT_INPUTS", 64)
    monkeypatch.setattr(module, "CACHED_VALUES", 640)
    truth = RNG.random((300, 9)) < share
    total, rest = sum_true(rows(np.asarray(VALUES, order=order)), Indicators(truth), 30)
    head = np.rint(VALUES * 2**30) / 2**30
    np.testing.assert_array_equal(total, truth.T @ head)
    np.testing.assert_allclose(rest, truth.T @ (VALUES - head), rtol=1e-9, atol=1e-24)


@pytest.mark.parametrize("truth_share", [0.05, 0.5])
def test_sparse_values_are_summed_alike(truth_share):
    values = np.where(RNG.random(VALUES.shape) < 0.04, VALUES, 0)
    truth = Indicators(RNG.random((300, 9)) < truth_share)
    thin = sum_true(Rows.of_sparse(sparse.csr_array(values)), truth, 30)
    dense = sum_true(rows(values), truth, 30)
    np.testing.assert_array_equal(thin[0], dense[0])
    np.testing.assert_allclose(thin[1], dense[1], rtol=1e-9, atol=1e-24)


def test_numbers_are_brought_to_units():
    raw = (VALUES * 8 + 3).astype(np.float32)
    total, rest = sum_true(rows(raw, 3.0, 1 / 8), Indicators(np.ones((300, 1), dtype=bool)), 30)
    expected = ((raw.astype(float) - 3) / 8).sum(axis=0)
    np.testing.assert_allclose((total + rest)[0], expected, rtol=1e-13)


def test_few_rests_are_added_all_the_same():
    rest = np.zeros((300, 40))
    rest[7, 3] = 1e-9
    sums = np.zeros((40, 9))
    right = RNG.random((300, 9))
    module.add_rest(rest, right, sums)
    np.testing.assert_array_equal(sums, rest.T @ right)
