"""Binary columns, dense and sparse, in every form that is asked of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from evals.kernels.indicators import Indicators

TRUTH = np.random.default_rng(2).random((150, 130)) < 0.3


@pytest.mark.parametrize("hold", [np.asarray, sparse.csr_array, sparse.csc_array])
def test_truth_is_the_same_however_it_is_held(hold):
    truth = Indicators(hold(TRUTH))
    np.testing.assert_array_equal(truth.totals, TRUTH.sum(axis=0))
    assert truth.share == pytest.approx(TRUTH.mean())
    np.testing.assert_array_equal(truth.rows, TRUTH)
    for (starts, places), rows in ((truth.lists, TRUTH), (truth.true_inputs, TRUTH.T)):
        for i, row in enumerate(rows):
            np.testing.assert_array_equal(places[starts[i] : starts[i + 1]], np.flatnonzero(row))


def test_words_hold_the_bits_of_rows_and_columns():
    truth = Indicators(TRUTH)
    words = truth.row_words.transpose(1, 0, 2).reshape(150, -1)
    bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
    np.testing.assert_array_equal(bits[:, :130], TRUTH)
    assert not bits[:, 130:].any()
    bits = np.unpackbits(truth.column_words.view(np.uint8), axis=1, bitorder="little")
    np.testing.assert_array_equal(bits[:, :150], TRUTH.T)
    assert not bits[:, 150:].any()
