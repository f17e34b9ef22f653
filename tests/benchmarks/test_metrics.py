"""Metrics of all pairs at once against plain ones called pair by pair, as ratios in one run.

The baseline is scikit-learn called pair by pair, NumPy where it has no such metric. It is measured
on a slice of the pairs and scaled by their number; that it may be scaled is checked by measuring
two slices.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, roc_auc_score

import evals
from tests.benchmarks.clock import least
from tests.benchmarks.table import Table

pytestmark = pytest.mark.benchmark

N_INPUTS, N_NEURONS, N_CONCEPTS = 10_000, 200, 200
ALPHA = 0.02
ALPHAS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
LAMBDAS = tuple(i / 100 for i in range(101))
ROUNDS = 3
Pair = Callable[[np.ndarray, np.ndarray], object]


def make_arrays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(N_INPUTS, N_NEURONS)), rng.random((N_INPUTS, N_CONCEPTS))


def binarise(a: np.ndarray, alpha: float = ALPHA) -> np.ndarray:
    top = round(alpha * len(a))
    return a >= np.partition(a, -top)[-top]  # continuous, so no ties


def mean_difference(a: np.ndarray, c: np.ndarray) -> float:
    return a[c >= 0.5].mean() - a[c < 0.5].mean()


def wpmi_grid(a: np.ndarray, c: np.ndarray) -> list[list[float]]:
    logarithms = np.log(np.maximum(c, 1e-8))
    return [
        [logarithms[binarise(a, alpha)].mean() - lam * np.log(c.mean()) for lam in LAMBDAS]
        for alpha in ALPHAS
    ]


def contingency_sweep(a: np.ndarray, c: np.ndarray) -> list[float]:
    return [jaccard_score(binarise(a, alpha), c >= 0.5) for alpha in ALPHAS]


BASELINES: dict[str, Pair] = {
    "auprc": lambda a, c: average_precision_score(binarise(a), c),
    "inverse_auprc": lambda a, c: average_precision_score(c >= 0.5, a),
    "auc": lambda a, c: roc_auc_score(binarise(a), c),
    "inverse_auc": lambda a, c: roc_auc_score(c >= 0.5, a),
    "f1_score": lambda a, c: f1_score(binarise(a), c >= 0.5),
    "mad": mean_difference,
    "spearman_correlation": lambda a, c: spearmanr(a, c).statistic,
    "correlation": lambda a, c: np.corrcoef(a, c)[0, 1],
}
RATIOS = {
    "auprc": 500,
    "inverse_auprc": 500,
    "auc": 40,
    "inverse_auc": 40,
    "f1_score": 40,
    "mad": 20,
    "spearman_correlation": 5,
    "correlation": 5,
}
UNASKED = {"f1_score", "correlation"}
SWEEPS: dict[str, tuple[Pair, float]] = {"wpmi": (wpmi_grid, 100), "iou": (contingency_sweep, 40)}


def loop(baseline: Pair, activations, labels, side: int) -> np.ndarray:
    return np.array([[baseline(a, c) for c in labels.T[:side]] for a in activations.T[:side]])


def compare(ours: Callable[[], object], pair: Pair, side: int) -> tuple[float, float]:
    """Return the seconds of all pairs at once, and of one after another."""
    arrays = make_arrays()
    fast, slow = least(ours, lambda: loop(pair, *arrays, side), rounds=ROUNDS)
    return fast, slow / side**2 * N_NEURONS * N_CONCEPTS


@pytest.mark.parametrize("name", RATIOS)
def test_faster_than_pair_by_pair(name: str, table: Table) -> None:
    activations, labels = make_arrays()
    metric, baseline = evals.find_metric(name), BASELINES[name]
    ours = metric(activations, labels, alpha=ALPHA)  # compiles
    np.testing.assert_allclose(ours[:3, :3], loop(baseline, activations, labels, 3), rtol=1e-9)
    sides = compare(lambda: metric(activations, labels, alpha=ALPHA), baseline, 8)
    wanted = RATIOS[name]
    asked = None if name in UNASKED else wanted
    table.faster(f"{name}, all pairs", *sides, wanted, against="pair by pair", asked=asked)


@pytest.mark.parametrize("name", SWEEPS)
def test_sweeps_are_faster_than_pair_by_pair(name: str, table: Table) -> None:
    pair, wanted = SWEEPS[name]
    neurons, concepts = make_arrays()
    arrays = (
        xr.DataArray(neurons, dims=("input", "neuron")),
        xr.DataArray(concepts, dims=("input", "concept")),
    )

    def sweep() -> xr.DataArray:
        return evals.score_matrix(*arrays, [name], ALPHAS, lams=LAMBDAS)[name]

    expected = np.moveaxis(loop(pair, neurons, concepts, 2), (0, 1), (-2, -1))
    np.testing.assert_allclose(sweep()[..., :2, :2], expected, rtol=1e-9)
    sides = compare(sweep, pair, 3)
    table.faster(f"{name}, swept", *sides, wanted, against="pair by pair", asked=wanted)


def test_the_baseline_scales_with_the_number_of_pairs():
    activations, labels = make_arrays()
    baseline = BASELINES["auprc"]
    few, many = least(*(lambda s=side: loop(baseline, activations, labels, s) for side in (4, 8)))
    assert many / 8**2 == pytest.approx(few / 4**2, rel=0.5)


WHOLE_TABLE = """
import sys, time
import numpy as np
from sklearn.metrics import average_precision_score
import evals
from evals.kernels.blocks import score_arrays
from evals.metrics.builtin import COMBINATIONS
from evals.metrics.table import Parameters
from tests.benchmarks.memory import peak

kind, n_inputs, n_neurons, n_concepts = sys.argv[1], *map(int, sys.argv[2:])
rows = [row for row in evals.list_metrics().values() if row.name not in COMBINATIONS]
rng = np.random.default_rng(0)

def make(n_inputs, n_neurons, n_concepts):
    activations = rng.standard_normal((n_inputs, n_neurons), dtype=np.float32)
    if kind == "continuous":
        return activations, rng.random((n_inputs, n_concepts), dtype=np.float32)
    labels = np.zeros((n_inputs, n_concepts), dtype=np.float32)
    labels[np.arange(n_inputs), rng.integers(0, n_concepts, n_inputs)] = 1
    return activations, labels

for size in ((3000, 20, 30), (30000, 20, 100)):  # compiles all that is used
    score_arrays(rows, *make(*size), Parameters(alpha=0.02))
activations, labels = make(n_inputs, n_neurons, n_concepts)
start = time.perf_counter()
score_arrays(rows, activations, labels, Parameters(alpha=0.02))
ours = time.perf_counter() - start
used = peak()
a, c = activations[:, 0], labels[:, 0] >= 0.5
start = time.perf_counter()
for _ in range(20):
    average_precision_score(c, a)
one = (time.perf_counter() - start) / 20
print(ours, used, one)
"""


@pytest.mark.parametrize(
    ("kind", "wanted", "asked"), [("continuous", 250, 20), ("one-hot", 1000, 6)]
)
def test_the_whole_table_in_bounded_time_and_memory(
    kind: str, wanted: float, asked: float, table: Table
) -> None:
    """All 18 metrics of 50,000 x 1,000 x 1,000 against one of them, pair by pair."""
    size = [50_000, 1000, 1000]
    command = [sys.executable, "-c", WHOLE_TABLE, kind, *map(str, size)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    ours, used, one = map(float, told.split())
    name = f"18 metrics of 50,000 x 1,000 x 1,000, {kind}"
    pairs = one * size[1] * size[2]
    table.within(name, ours, None, "s", asked=asked)
    table.faster(name, ours, pairs, wanted, against="one metric pair by pair")
    table.within(f"memory of {name}", used, 1500, "MiB", asked=1.5e9 / 2**20)
