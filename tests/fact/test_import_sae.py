"""An SAE from a file, through the whole chain, with biases and thresholds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import fact
import registry
from dashboards.views.concepts import decision_charts as charts
from dashboards.views.concepts.decision import of_stored
from dashboards.views.concepts.decision_words import reason_line
from dashboards.views.concepts.training import sae_parts
from fact.networks.files import open_network
from fact.networks.layers import capture
from registry.execute.schedule import Watcher, run_plan
from registry.plan.project import Project, open_project
from registry.record.states import State
from tests.fact.fidelity.test_placement import principal_sae
from tests.fact.test_stages import PartialRun, inputs_of, load_stage, run_stage

pytestmark = pytest.mark.slow  # a network and two SAEs are trained

CHANNELS = 6
DECLARATION = """
[datasets.shapes]
kind = "shapes"
n_train = 40
n_test = 12
size = 24

[experiments.classifier]
stage = "fact.train_classifier"
needs = { images = "shapes" }
config = { channels = [4, 6], strides = [2, 1], epochs = 1, batch = 20 }

[saes.foreign]
kind = "file"
path = "foreign.safetensors"
activation = "jumprelu"
centred = false
scale = 3.0

[experiments.sae]
stage = "fact.import_sae"
needs = { weights = "foreign", network = "classifier", images = "shapes" }
config = { layer = "features.1", n_images = 8 }

[experiments.concepts]
stage = "fact.measure_concepts"
needs = { sae = "sae", images = "shapes" }

[experiments.gallery]
stage = "fact.draw_concepts"
needs = { concepts = "concepts" }
config = { n_images = 2, most = 3, pictures = false }

[experiments.decisions]
stage = "fact.explain_decisions"
needs = { concepts = "concepts", gallery = "gallery" }
config = { per_class = 1, most = 3 }

[experiments.fidelity]
stage = "fact.measure_fidelity"
needs = { model = "sae", images = "shapes" }
config = { n_bootstrap = 5 }
"""


def write_exact_sae(path: Path, scale: float = 3.0) -> None:
    """One that gives every feature back: its channels up and down from a centre, as concepts."""
    one = torch.eye(CHANNELS)
    encoder, centre = torch.cat([one, -one]), torch.linspace(-0.02, 0.03, CHANNELS) / scale
    tensors = {
        "encoder": encoder,
        "decoder": encoder.T.contiguous(),
        "encoder_bias": -encoder @ centre,
        "decoder_bias": centre,
        "threshold": torch.full((2 * CHANNELS,), 1e-4 / scale),
    }
    safetensors.torch.save_file(tensors, path)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("imported")
    write_exact_sae(root / "foreign.safetensors")
    (root / "experiments.toml").write_text(DECLARATION)
    project = open_project(root / "experiments.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        given = {"runner": "here", "journal_only": True, "watcher": Watcher()}
        outcomes = run_plan(project, project.plan(), **given)
    failures = [o for o in outcomes if o.ending is not State.COMPLETED]
    assert not failures, failures
    return project


def open_(project: Project, name: str):
    with registry.open_dataset(project.current(name)) as dataset:
        return dataset.load()


def test_an_imported_sae_is_checked_on_its_layer(project: Project) -> None:
    sae = open_(project, "sae")
    load_stage("fact.import_sae").output.check(sae)
    assert float(sae["checked_explained_variance"]) > 0.999
    assert int(sae["n_checked"]) == 8
    assert float(sae["checked_agreement"]) == 1
    assert "step" not in sae.variables
    back = fact.SAE.from_dataset(sae)
    assert isinstance(back, fact.JumpReLUSAE)
    np.testing.assert_allclose(back.threshold, 1e-4, rtol=1e-5)
    assert back.scale == 3.0
    numbers = sae_parts("sae", sae)[0].numbers
    assert {"explained variance", "L0"} <= {number.label for number in numbers}


def test_contributions_and_offset_add_up_through_the_chain(project: Project) -> None:
    concepts = open_(project, "concepts")
    target = concepts["target"].values
    logit = np.take_along_axis(concepts["logit"].values, target[:, None], 1)[:, 0]
    contribution = concepts["contribution"].values.astype(np.float64)
    total = contribution.sum(1) + concepts["offset"].values
    size = np.abs(contribution).sum(1) + np.abs(concepts["offset"].values)
    assert (np.abs(total - logit) / size).max() < 1e-5
    assert (concepts["residual"] < 1e-5).all()
    assert (concepts["input_residual"] < 1e-5).all()
    assert (concepts["offset"] != 0).all()
    assert (concepts["encoder_bias_share"] != 0).any()
    share = np.abs(concepts["offset"].values) / size
    assert float(concepts["offset_share"]) == pytest.approx(share.mean(), rel=1e-5)
    assert float(concepts["mean_offset"]) == pytest.approx(concepts["offset"].values.mean())


def test_decisions_show_the_offset(project: Project) -> None:
    decisions = open_(project, "decisions")
    total = decisions["contribution"].sum("rank") + decisions["others"] + decisions["offset"]
    np.testing.assert_allclose(total, decisions["logit"], atol=1e-5)
    for image in decisions["image"].values.astype(str):
        decision = of_stored(decisions, image)
        frame = charts.waterfall_frame(decision)
        assert charts.OFFSET in frame["label"].tolist()
        assert frame["value"][:-1].sum() == pytest.approx(decision.logit, abs=1e-5)
        shares = charts.shares_frame(decision)
        rows = shares["contribution"].to_numpy()
        summed = (shares["name"] == "all that speaks for it").to_numpy().copy()
        summed[-1] = True
        assert rows[~summed].sum() == pytest.approx(decision.logit, abs=1e-5)
        assert "and the offset" in reason_line(decision)


def test_an_sae_of_another_scale_is_refused_with_a_hint(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = inputs_of(project, "sae")
    encoder = torch.cat([torch.eye(CHANNELS), -torch.eye(CHANNELS)])
    far = fact.JumpReLUSAE(encoder, encoder.T, 0.2)  # as if features had been divided
    run = PartialRun(tmp_path, load_stage("fact.import_sae").output)
    monkeypatch.setattr("fact.kinds.SAEFile.load", lambda _: far)
    with pytest.raises(fact.SAEFileError, match=r"expected at least 1\. With .* it would be"):
        run_stage(project, "sae", run, least_explained=1.0)
    shift = torch.full((CHANNELS,), 5.0)
    moved = fact.ReLUSAE(encoder, encoder.T, decoder_bias=shift)  # whose deviations are right
    monkeypatch.setattr("fact.kinds.SAEFile.load", lambda _: moved)
    with pytest.raises(fact.SAEFileError, match=r"a constant by which its .* is off; with it, -"):
        run_stage(project, "sae", run)
    monkeypatch.setattr("fact.kinds.SAEFile.load", lambda _: far)
    with pytest.raises(fact.SAEFileError, match=r"6 channels; layer 'features\.0'.* has 4"):
        run_stage(project, "sae", run, layer="features.0")
    assert inputs["weights"].kind == "sae_weights"


def test_an_sae_that_knows_nothing_of_its_layer_is_refused(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    inputs = inputs_of(project, "sae")
    network, images = open_network(inputs["network"]), inputs["images"].load()
    encoded = network.encode(images.read(images.ids("test"), network.geometry))
    with torch.no_grad(), capture(network.module, "features.1") as captured:
        network.module(encoded)
    rows = captured.positions.flatten(0, 1)
    other = rows[:, [3, 0, 4, 1, 5, 2]]  # a layer of the same numbers, its channels elsewhere
    other = other - other.mean(0) + rows.mean(0)
    run = PartialRun(tmp_path, load_stage("fact.import_sae").output)
    monkeypatch.setattr("fact.kinds.SAEFile.load", lambda _: principal_sae(other, 2))
    with pytest.raises(fact.SAEFileError, match="shuffled, so that it knows nothing of this layer"):
        run_stage(project, "sae", run, least_explained=0.01)
    told = run_stage(project, "sae", run, least_explained=0.0)
    assert "knows nothing of this layer" in capsys.readouterr().out
    assert float(told["checked_shuffled"]) > 0
    monkeypatch.setattr("fact.kinds.SAEFile.load", lambda _: principal_sae(rows, 2))
    own = run_stage(project, "sae", run)
    assert float(own["checked_shuffled"]) < float(own["checked_explained_variance"])
