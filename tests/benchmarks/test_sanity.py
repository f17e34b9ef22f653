"""Sanity tests of metrics by counts against the same by arrays, and pairs against matrices."""

from __future__ import annotations

import numpy as np
import pytest

import evals
from evals.kernels.columns import Columns
from evals.metrics.table import Parameters
from evals.sanity.binary_neurons import BinaryNeurons, BinaryTrial
from evals.sanity.corruption import CorruptedLabels
from evals.sanity.protocol import TESTS
from evals.scoring.pairs import score_pair_arrays
from tests.benchmarks.clock import least, seconds
from tests.benchmarks.table import Table

pytestmark = pytest.mark.benchmark

N_DRAWS = 1000


def test_all_metrics_on_binary_neurons_in_less_than_a_second(table: Table) -> None:
    evals.theoretical_sanity(n_draws=2)  # compiles
    [taken] = least(evals.theoretical_sanity, rounds=3)
    name = f"theoretical sanity, {len(evals.list_metrics())} metrics, {N_DRAWS:,} draws"
    table.within(name, taken, 1, "s", asked=1)


@pytest.mark.parametrize("name", ["iou", "correlation", "auprc"])
def test_counts_are_faster_than_arrays(name: str, table: Table) -> None:
    row = evals.find_metric(name)

    def simulate(n_draws: int) -> float:
        trial = BinaryTrial(BinaryNeurons(), 1, n_draws)
        return seconds(lambda: trial.simulate(row)) / n_draws

    simulate(1)  # compiles
    few, many = simulate(2), simulate(6)
    assert many == pytest.approx(few, rel=0.5)  # so it may be scaled
    by_counts = seconds(lambda: BinaryTrial(BinaryNeurons(), N_DRAWS, 1).count(row))
    title = f"{name} of binary neurons, by counts"
    table.faster(title, by_counts, many * N_DRAWS, 1000, against="by arrays")


def test_pairs_take_seconds_where_matrices_take_minutes(table: Table) -> None:
    n_inputs, n_neurons, n_sets = 50_000, 60, 5
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 1000, n_inputs)
    labels = Columns((classes[:, None] == np.arange(n_neurons)).astype(np.float32))
    neurons = Columns(rng.normal(size=(n_inputs, n_neurons)).astype(np.float32))
    each = [(test, seed) for test in TESTS for seed in range(n_sets)]
    sets = [labels, *(CorruptedLabels(labels, test, seed=seed) for test, seed in each)]
    rows = list(evals.list_metrics().values())
    right = np.arange(n_neurons)

    def score(some: int) -> np.ndarray:
        part = Columns(neurons.block(0, some))
        return score_pair_arrays(rows, part, sets, right[:some], Parameters(alpha=0.005))

    score(2)  # compiles
    few, many = seconds(lambda: score(20)), seconds(lambda: score(60))
    per_neuron = (many - few) / 40
    name = f"a neuron by {len(rows)} metrics and {len(sets)} label sets, {n_inputs:,} inputs"
    table.within(name, per_neuron, 0.03, "s")
