"""Labels are 0, 1, or probabilities: others are refused at every door, with what to do."""

from __future__ import annotations

import dask.array
import numpy as np
import pytest
from scipy import sparse

import evals
from evals.naming.naming import NamingOptions
from registry.arrays import RangeError, require_unit_interval

RNG = np.random.default_rng(0)
NEURONS = RNG.random((40, 4))
TRUTH = (RNG.random((40, 4)) < 0.5).astype(float)
RIGHT = np.arange(4)
WRONG = {
    "logits": (10 * (TRUTH - 0.3), r"from -3 to 7; .* of logits, pass 1 / \(1 \+ exp\(-x\)\)"),
    "signs": (2 * TRUTH - 1, "from -1 to 1; .* of -1 and 1, pass x > 0"),
    "bytes": ((255 * TRUTH).astype(np.uint8), "from 0 to 255; .* of 0 to 255, pass x / 255"),
    "percents": (100 * TRUTH, "of 0 to 100, pass x / 100"),
    "codes": (1 + TRUTH, "from 1 to 2; .* of 1 and 2, pass x == 2"),
    "counts": (1 + np.cumsum(TRUTH, axis=0), r"of counts, pass x > \d+$"),
    "rounding_up": (TRUTH * 1.0000001, r"from 0 to 1\.0000001; .* if that is rounding"),
    "rounding": (TRUTH * (1 + 1e-7), r"if that is rounding, pass np\.clip\(x, 0, 1\)"),
}
DOORS = {
    "score": lambda labels: evals.score("auc", NEURONS, labels, alpha=0.2),
    "score_matrix": lambda labels: evals.score_matrix(NEURONS, labels, ["iou"], alphas=[0.2]),
    "score_pairs": lambda labels: evals.score_pairs(NEURONS, [labels], RIGHT, ["mad"]),
    "metric": lambda labels: evals.find_metric("correlation")(NEURONS, labels),
    "names": lambda labels: evals.choose_names(NEURONS, labels, ["mad"], NamingOptions()),
    "parameters": lambda labels: evals.choose_parameters(NEURONS, labels, RIGHT, ["mad"]),
    "identify": lambda labels: evals.identify(NEURONS, labels, RIGHT, ["mad"]),
    "sanity": lambda labels: evals.experimental_sanity(NEURONS, labels, ["mad"]),
    "corruption": lambda labels: evals.corrupt_labels(labels, "missing"),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", WRONG)
def test_every_door_refuses_them(door, kind):
    labels, told = WRONG[kind]
    with pytest.raises(RangeError, match=rf"\d+ labels are outside \[0, 1\], .*{told}"):
        DOORS[door](labels)


@pytest.mark.parametrize("hold", [sparse.csr_array, lambda a: dask.array.from_array(a, (7, 4))])
def test_in_every_container(hold):
    with pytest.raises(RangeError, match="from -1 to 1"):
        evals.score("auc", NEURONS, hold(2 * TRUTH - 1), alpha=0.2)


def test_what_is_in_range_passes():
    for labels in (TRUTH, TRUTH.astype(bool), TRUTH.astype(np.uint8), RNG.random((40, 4))):
        assert np.isfinite(evals.score("inverse_auc", NEURONS, labels)).all()


@pytest.mark.parametrize("end", [np.nan, np.inf, -np.inf])
def test_labels_that_are_no_number_are_told_as_such(end):
    with pytest.raises(RangeError, match="1 of 4 labels are NaN or infinite; expected 0, 1, or"):
        require_unit_interval(np.array([0.0, 1.0, end, 0.5]), "labels")
