"""What chance gives, against choosing and scoring once: what a permutation costs, as a ratio.

Sorts, ranks and counts of the activations are made once for all permutations, and names are chosen
by the same kernels: a permutation must cost less than naming once does.
"""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from evals.metrics.registered import list_metrics
from evals.metrics.table import Parameters
from evals.naming.naming import Namer, NamingOptions
from tests.benchmarks.clock import least
from tests.benchmarks.table import Table

pytestmark = pytest.mark.benchmark

N_PERMUTATIONS, ROUNDS = 19, 3
SHAPES = {
    "small": (2_000, 200, 40, ()),
    "many labels": (2_000, 200, 200, ("auprc", "correlation", "iou")),
    "many inputs": (20_000, 64, 100, ()),
}
"""Inputs, concepts, labels, and metrics (all of them where none is named)."""

LIMIT = 1.0
"""What a permutation may cost, in units of naming once. It costs some 0.2 to 0.5."""


def make(n_inputs: int, n_concepts: int, n_labels: int, kinds: bool) -> tuple[xr.DataArray, ...]:
    rng = np.random.default_rng(0)
    ids = [f"test/{i:06d}" for i in range(n_inputs)]
    names = [f"{'class:' if kinds and i % 2 else ''}label {i}" for i in range(n_labels)]
    presence = np.maximum(rng.normal(size=(n_inputs, n_concepts)) - 1, 0)
    labels = rng.random((n_inputs, n_labels)) < 0.1
    return (
        xr.DataArray(presence, {"input": ids}, ("input", "neuron")),
        xr.DataArray(labels, {"input": ids, "concept": names}, ("input", "concept")),
    )


@pytest.mark.parametrize("prefer", ["best", "concepts"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_permutation_costs_less_than_naming_once(shape: str, prefer: str, table: Table) -> None:
    *sizes, metrics = SHAPES[shape]
    options = NamingOptions(
        Parameters(alpha=0.02), n_bootstrap=0, n_permutations=N_PERMUTATIONS, prefer=prefer
    )
    pair = make(*sizes, kinds=prefer == "concepts")
    naming = Namer.of(*pair, metrics or tuple(list_metrics()), options, sanity={})
    list(naming.parts())  # what is prepared of labels is kept
    once, all_of_them = least(lambda: list(naming.parts()), naming.test, rounds=ROUNDS)
    own = all_of_them / N_PERMUTATIONS
    table.costs(f"a permutation, {shape}, {prefer}", own, once, LIMIT, against="naming once")
