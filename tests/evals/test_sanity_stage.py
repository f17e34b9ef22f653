"""The stage that tests metrics: with and without inputs, and what it prints."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import evals.sanity_check as module
from evals import list_metrics, schemas
from evals.sanity.forms import sanity_table
from evals.sanity.protocol import EXPERIMENTAL, SEMANTIC, THEORETICAL
from registry.declare.faults import ConfigError
from tests.evals.runs import FakeInput, FakeRun

N_IMAGES, N_CLASSES = 400, 6
NAMES = [f"class {i}" for i in range(N_CLASSES)]


def make_inputs(folder, right: bool = True) -> dict[str, FakeInput]:
    rng = np.random.default_rng(0)
    images = [f"{'test' if i % 4 else 'train'}/{i:05d}" for i in range(N_IMAGES)]
    labels = np.eye(N_CLASSES, dtype=np.float32)[rng.integers(0, N_CLASSES, N_IMAGES)]
    neurons = 3 * labels + rng.normal(size=labels.shape).astype(np.float32)
    activations = xr.Dataset(
        {
            "activation": (("image", "neuron"), neurons.astype(np.float32)),
            "right_concept": ("neuron", NAMES if right else [""] * N_CLASSES),
        },
        {"image": images, "neuron": np.arange(N_CLASSES)},
    )
    concepts = xr.Dataset(
        {"presence": (("image", "concept"), np.maximum(neurons, 0).astype(np.float32))},
        {"image": images, "concept": np.arange(N_CLASSES)},
    )
    shown = xr.Dataset({"value": (("image", "label"), labels)}, {"image": images, "label": NAMES})
    return {
        "activations": FakeInput.of(activations, folder / "activations.nc"),
        "concepts": FakeInput.of(concepts, folder / "concepts.nc"),
        "labels": FakeInput.of(shown, folder / "labels.nc"),
    }


def run_stage(folder, inputs, **values) -> xr.Dataset:
    run = FakeRun(folder / "run", schemas.SANITY)
    config = module.stage.resolve({"alphas": [0.1, 0.2], "lams": [0.0, 1.0], **values})
    tested = module.stage(config, inputs, run)
    schemas.SANITY.check(tested)
    tested.to_netcdf(folder / "out.nc", engine="h5netcdf")
    return tested


@pytest.mark.slow
def test_without_inputs_metrics_are_tested_on_binary_neurons(tmp_path, capsys):
    tested = run_stage(tmp_path, {})
    assert tested.metric.values.tolist() == list(list_metrics())
    assert tested.decrease_accuracy.sel(form=THEORETICAL).notnull().all()
    assert tested.decrease_accuracy.sel(form=[EXPERIMENTAL, SEMANTIC]).isnull().all()
    assert (tested.n_passing, tested.n_failing, tested.n_undecided) == (11, 12, 1)
    assert "ground-truth concepts: none" in tested.variant.item()
    printed = capsys.readouterr().out
    assert "67.20" in printed
    assert "a coin toss" in printed
    assert "experimental" not in printed


@pytest.mark.slow
def test_with_inputs_real_neurons_are_tested_too(tmp_path, capsys):
    given = make_inputs(tmp_path)
    inputs = {slot: given[slot] for slot in ("activations", "labels")}
    tested = run_stage(tmp_path, inputs, metrics=["cosine", "recall"], seeds=[0, 1], n_draws=20)
    assert tested.decrease_accuracy.sel(form=EXPERIMENTAL).notnull().all()
    assert (tested.n_neurons.sel(form=EXPERIMENTAL) == N_CLASSES - 2).all()
    assert tested.seed.values.tolist() == [0, 1]
    assert (tested.decrease_accuracy.sel(form=EXPERIMENTAL, metric="cosine") == 1).all()
    assert tested.passed.values.tolist() == ["undecided", "fails"], "4 of 4 leave doubt, 0 none"
    assert "ground-truth concepts: known" in tested.variant.item()
    assert f"experimental: on {N_CLASSES - 2} neurons" in capsys.readouterr().out


@pytest.mark.slow
def test_concepts_are_hidden_neurons(tmp_path):
    given = make_inputs(tmp_path)
    inputs = {"activations": given["concepts"], "labels": given["labels"]}
    tested = run_stage(tmp_path, inputs, metrics=["cosine", "iou"], hidden_alpha=0.1, split="test")
    assert "ground-truth concepts: of highest IoU" in tested.variant.item()
    assert tested.alpha.sel(metric="iou") == 0.1
    assert (tested.decrease_accuracy.sel(form=EXPERIMENTAL, metric="cosine") == 1).all()


def test_activations_without_labels_are_refused(tmp_path):
    given = make_inputs(tmp_path)
    with pytest.raises(ValueError, match="activations and labels; got labels alone"):
        run_stage(tmp_path, {"labels": given["labels"]}, metrics=["iou"])


@pytest.mark.slow
def test_the_table_shows_verdicts_and_doubt(tmp_path):
    tested = run_stage(tmp_path, {}, metrics=["inverse_auprc", "recall", "spearman_correlation"])
    lines = sanity_table(tested).splitlines()
    assert lines[1].split() == ["metric", "verdict", "missing", "extra"]
    assert [line.split()[0] for line in lines[2:5]] == [
        "spearman_correlation",
        "inverse_auprc",
        "recall",
    ]
    assert "100.00 (67.20)" in lines[2]
    assert "?89" in lines[3]
    assert lines[4].split()[1] == "fails"
    # both cells of Spearman have one reason, which stands once
    assert sum("breaks ties" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"metrics": ["iuo"]}, "unknown metric 'iuo'; did you mean 'iou'"),
        ({"kept_share": 1.2}, "less than or equal to 1"),
        ({"extra_factor": 0.9}, "greater than or equal to 1"),
        ({"compat": "neuronevil"}, "neuroneval"),
        ({"seeds": [1, 1]}, "named twice"),
        ({"seeds": []}, "at least 1"),
        ({"frequencies": [1.5]}, "less than 1"),
        ({"epsilonn": 0.1}, "did you mean 'epsilon'"),
        ({"required": 0}, "greater than 0"),
    ],
)
def test_configurations_are_checked(values, message):
    with pytest.raises(ConfigError, match=message):
        module.stage.resolve(values)


def test_all_metrics_are_spelt_out_in_the_configuration():
    config = module.stage.resolve({})
    assert module.stage.configuration(config)["metrics"] == list(list_metrics())
    assert module.stage.settings.rules.runtime == {"workers"}
