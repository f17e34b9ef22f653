"""One concept per neuron under many label sets: the diagonal of each score matrix."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import sparse

import evals
from evals.kernels.columns import Columns
from evals.metrics.table import Metric, Parameters
from evals.sanity.corruption import CorruptedLabels
from evals.sanity.protocol import TESTS
from evals.scoring.pairs import score_pair_arrays
from tests.evals import data

N_INPUTS = 160
NAMES = [f"test/{i:03d}" for i in range(N_INPUTS)]


def gap(activations: np.ndarray, labels: np.ndarray, alpha: float) -> np.ndarray:
    """How far the mean activation on labelled inputs lies above alpha: a stranger's metric."""
    return activations.T @ labels / np.maximum(labels.sum(axis=0), 1) - alpha


STRANGER = Metric("gap", gap, needs=("alpha",))
ROWS = [*evals.list_metrics().values(), STRANGER]


def make_pair(labels: np.ndarray) -> tuple[xr.DataArray, list[xr.DataArray], np.ndarray]:
    """Neurons of every kind, and their labels, whole, corrupted, and in another order of inputs."""
    neurons = xr.DataArray(data.activations(), {"input": NAMES}, ("input", "neuron"))
    whole = xr.DataArray(
        labels.astype(float),
        {"input": NAMES, "concept": [f"c{i}" for i in range(labels.shape[1])]},
        ("input", "concept"),
    )
    sets = [whole, *(evals.corrupt_labels(whole, test, seed=s) for test in TESTS for s in (0, 1))]
    sets[2] = sets[2][::-1]
    right = np.random.default_rng(4).integers(0, labels.shape[1], neurons.sizes["neuron"])
    return neurons, sets, right


@pytest.fixture(scope="module", params=["probabilities", "one-hot"])
def pairs(request):
    return make_pair(data.labels() if request.param == "probabilities" else data.one_hot())


@pytest.fixture(scope="module")
def scored(pairs):
    return evals.score_pairs(*pairs, ROWS, Parameters(alpha=0.1, lam=0.7, seed=2))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_diagonal_of_every_matrix(row, pairs, scored):
    neurons, sets, right = pairs
    for which, labels in enumerate(sets):
        matrix = evals.score(row, neurons, labels, alpha=0.1, lam=0.7, seed=2).values
        expected = matrix[np.arange(len(right)), right]
        got = scored[row.name].values[which]
        assert np.array_equal(np.isnan(got), np.isnan(expected))
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


def test_neurons_without_a_concept_have_no_score(pairs):
    neurons, sets, right = pairs
    some = np.where(np.arange(len(right)) % 3 == 0, -1, right)
    scored = evals.score_pairs(neurons, sets, some, ["cosine", "correlation_top_and_random"])
    whole = evals.score_pairs(neurons, sets, right, ["cosine", "correlation_top_and_random"])
    for name in scored:
        assert np.isnan(scored[name][:, some == -1]).all()
        np.testing.assert_array_equal(scored[name][:, some >= 0], whole[name][:, some >= 0])


def test_parameters_by_name_threads_and_reading_in_parts(pairs, monkeypatch):
    neurons, sets, right = pairs
    metrics = ["iou", "wpmi", "auprc"]
    alphas = {"iou": 0.05, "wpmi": 0.2, "auprc": 0.5}
    parameters = {name: Parameters(alpha=alpha) for name, alpha in alphas.items()}
    monkeypatch.setattr("evals.scoring.pairs.READ_AT_ONCE", 3)
    scored = evals.score_pairs(neurons, sets, right, metrics, parameters, workers=2)
    for name, alpha in alphas.items():
        alone = evals.score_pairs(neurons, sets, right, [name], Parameters(alpha=alpha))
        np.testing.assert_array_equal(scored[name], alone[name])


@pytest.mark.parametrize("together", [1, 3, 16])
def test_sparse_labels_are_read_a_few_columns_at_a_time(together, monkeypatch):
    monkeypatch.setattr("evals.scoring.pairs.SPARSE_TOGETHER", together)
    rng = np.random.default_rng(0)
    labels = Columns(sparse.csc_array((rng.random((N_INPUTS, 9)) < 0.03).astype(float)))
    neurons = Columns(data.activations())
    right = rng.integers(0, 9, neurons.n_columns)
    right[[0, 5, 6]] = -1
    sets = [labels, CorruptedLabels(labels, "extra")]
    names = ("auprc", "mad", "spearman_correlation", "correlation_top_and_random")
    rows = [*(evals.find_metric(name) for name in names), STRANGER]
    told = []
    got = score_pair_arrays(
        rows, neurons, sets, right, Parameters(alpha=0.1), progress=lambda *done: told.append(done)
    )
    assert told[-1] == (neurons.n_columns, neurons.n_columns)
    for row, scores in zip(rows, got, strict=True):
        for held, found in zip(sets, scores, strict=True):
            matrix = row(neurons, held.block(0, 9), alpha=0.1)
            expected = np.where(right < 0, np.nan, matrix[np.arange(len(right)), right])
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_what_does_not_fit_is_refused(pairs):
    neurons, sets, right = pairs
    with pytest.raises(ValueError, match="an index for each of 16 neurons"):
        evals.score_pairs(neurons, sets, right[:-1], ["cosine"])
    with pytest.raises(ValueError, match="one or more sets of labels of the same concepts"):
        evals.score_pairs(neurons, [], right, ["cosine"])
    with pytest.raises(ValueError, match="of the same concepts"):
        evals.score_pairs(neurons, [sets[0], sets[0][:, ::-1]], right, ["cosine"])
