"""What the metrics are compared with is what scikit-learn says."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from tests.evals import oracles


@pytest.mark.parametrize("values", [2, 5, 10**6], ids=lambda n: f"{n} values")
@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_definitions_are_those_of_scikit_learn(values: int, share: float) -> None:
    rng = np.random.default_rng(values)
    for count in (40, 400):
        truth, score = rng.random(count) < share, rng.integers(0, values, count) / values
        truth[:2] = True, False
        found = rng.random(count) < 0.4
        assert oracles.pairs_in_order(truth, score) == pytest.approx(sk.roc_auc_score(truth, score))
        expected = sk.average_precision_score(truth, score)
        assert oracles.precision_by_threshold(truth, score) == pytest.approx(expected)
        expected = sk.balanced_accuracy_score(truth, found)
        assert oracles.both_recalls(truth, found) == pytest.approx(expected)


def test_accuracy_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    a, c = rng.random((2, 300))
    expected = sk.accuracy_score(oracles.binarise(a, 0.1), c >= 0.5)
    assert oracles.accuracy(a, c, 0.1) == pytest.approx(expected)
