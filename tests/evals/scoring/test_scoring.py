"""Scores as labelled arrays: alignment, attributes, many metrics at once."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import evals
from evals.scoring.labelled import AlignmentError, align, select_inputs
from tests.evals import data

IDS = np.array([f"test/{i:05d}" for i in range(160)])
NEURONS = xr.DataArray(data.activations(), dims=("input", "neuron"), coords={"input": IDS})
NAMES = ["uniform", "tenths", "often", "oftener", "peak", "high", "rare", "empty", "full", "flat"]
LABELS = xr.DataArray(
    data.labels(), dims=("input", "concept"), coords={"input": IDS, "concept": NAMES}
)
SHUFFLED = np.random.default_rng(0).permutation(160)


def test_a_score_explains_itself():
    scores = evals.score("iou", NEURONS, LABELS, alpha=0.05)
    assert scores.dims == ("neuron", "concept")
    assert scores.name == "iou"
    assert scores.concept.values.tolist() == NAMES
    assert scores.dtype == np.float64
    assert scores.attrs["units"] == "1"
    assert scores.attrs["valid_range"] == [0.0, 1.0]
    assert scores.attrs["alpha"] == 0.05
    assert scores.attrs["undefined"] == int(scores.isnull().sum()) > 0
    assert "union" in scores.attrs["long_name"]


def test_inputs_are_matched_by_name():
    expected = evals.score("auprc", NEURONS, LABELS, alpha=0.05)
    reordered = evals.score("auprc", NEURONS, LABELS[SHUFFLED], alpha=0.05)
    xr.testing.assert_identical(reordered, expected)
    other = evals.score("auprc", NEURONS[SHUFFLED], LABELS, alpha=0.05)
    xr.testing.assert_allclose(other, expected, rtol=1e-12)


def test_concepts_become_neurons_and_labels_concepts():
    presence = NEURONS.rename(input="image", neuron="concept").assign_coords(
        concept=np.arange(16) * 10, label=("image", np.zeros(160))
    )
    named = LABELS.rename(concept="label").transpose("label", "input")
    scores = evals.score("correlation", presence, named)
    assert scores.neuron.values.tolist() == (np.arange(16) * 10).tolist()
    np.testing.assert_array_equal(scores, evals.score("correlation", NEURONS, LABELS))


def test_inputs_without_names_are_in_order():
    bare = NEURONS.drop_vars("input"), LABELS.drop_vars("input")
    np.testing.assert_array_equal(
        evals.score("cosine", *bare), evals.score("cosine", NEURONS, LABELS)
    )
    with pytest.raises(AlignmentError, match="160 and 159"):
        evals.score("cosine", bare[0], bare[1][:-1])
    with pytest.raises(AlignmentError, match="labels do not name"):
        evals.score("cosine", NEURONS, bare[1])


def test_different_inputs_are_an_error_that_names_them():
    with pytest.raises(AlignmentError, match=r"lack 1 \('test/00159'\), and have 0"):
        align(NEURONS, LABELS[:-1])
    with pytest.raises(AlignmentError, match=r"have 2 others \('test/00158', 'test/00159'\)"):
        align(NEURONS[:-2], LABELS)
    with pytest.raises(AlignmentError, match="input repeats 'test/00000'"):
        align(NEURONS, LABELS[[0, 0, 1]])
    with pytest.raises(AlignmentError, match="expected dimensions"):
        align(NEURONS.rename(neuron="channel"), LABELS)


def test_select_inputs():
    chosen = select_inputs(LABELS, IDS[[5, 2]])
    np.testing.assert_array_equal(chosen, LABELS[[5, 2]])
    with pytest.raises(AlignmentError, match=r"lack 1 input: 'val/9'"):
        select_inputs(LABELS, np.array(["test/00001", "val/9"]))


@pytest.mark.parametrize(
    ("block_size", "chunks", "workers"),
    [
        (None, None, 1),
        (1, None, 3),
        (5, {"input": 33}, 1),
        (5, {"neuron": 4}, 2),
        (None, {"input": 33, "neuron": 4}, 2),
    ],
)
@pytest.mark.slow
def test_many_metrics_at_once_are_each_alone(block_size, chunks, workers):
    neurons = NEURONS if chunks is None else NEURONS.chunk(chunks)
    labels = LABELS if chunks is None else LABELS.chunk(input=50)
    alphas = [0.3, 0.02]
    together = evals.score_matrix(
        neurons, labels, alphas=alphas, block_size=block_size, workers=workers
    )
    assert set(together.data_vars) == set(evals.list_metrics())
    assert together.alpha.values.tolist() == alphas
    for name, row in evals.list_metrics().items():
        if "alpha" not in row.needs:
            alone = evals.score(name, NEURONS, LABELS)
            np.testing.assert_allclose(together[name], alone, rtol=1e-14)
            assert together[name].attrs == alone.attrs
            continue
        for alpha in alphas:
            alone = evals.score(name, NEURONS, LABELS, alpha=alpha)
            np.testing.assert_allclose(together[name].sel(alpha=alpha), alone, rtol=1e-14)
        assert together[name].attrs["undefined"] == int(together[name].isnull().sum())


def test_without_alphas_neurons_are_binary():
    bits = (NEURONS > 0.5).isel(neuron=slice(0, 4))
    together = evals.score_matrix(bits, LABELS, ["iou", "cosine"])
    assert "alpha" not in together.dims
    np.testing.assert_array_equal(together.iou, evals.score("iou", bits, LABELS))


def test_a_sweep_of_two_parameters_is_each_alone():
    alphas, lams = [0.05, 0.3], [0.0, 0.5, 1.0]
    swept = evals.score_matrix(NEURONS, LABELS, ["wpmi", "iou", "mad"], alphas, lams=lams)
    assert swept.wpmi.dims == ("alpha", "lam", "neuron", "concept")
    assert swept.iou.dims == ("alpha", "neuron", "concept")
    assert swept.mad.dims == ("neuron", "concept")
    for alpha in alphas:
        for lam in lams:
            alone = evals.score("wpmi", NEURONS, LABELS, alpha=alpha, lam=lam)
            np.testing.assert_array_equal(swept.wpmi.sel(alpha=alpha, lam=lam), alone)


@pytest.mark.slow
def test_a_matrix_can_be_written(tmp_path):
    together = evals.score_matrix(NEURONS, LABELS, alphas=[0.1])
    together.to_netcdf(tmp_path / "scores.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "scores.nc", engine="h5netcdf") as back:
        xr.testing.assert_equal(back, together)
        assert back.iou.attrs["undefined"] == together.iou.attrs["undefined"]
