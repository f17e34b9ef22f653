"""Images of other classes than a network's: all runs but what equates a label with a logit."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import registry
from fact.data.shapes import CLASSES
from registry.execute.schedule import run_plan
from registry.plan.project import Project, open_project
from registry.record.states import State

DECLARATION = """
[datasets.shapes]
kind = "shapes"
n_train = 60
n_test = 20
size = 24

[datasets.foreign]
kind = "image-folder"
root = "foreign"
test_share = 0.5

[datasets.mixed]
kind = "image-folder"
root = "mixed"
test_share = 0.5

[experiments.classifier]
stage = "fact.train_classifier"
needs = { images = "shapes" }
config = { channels = [4], strides = [2], epochs = 1, batch = 32 }

[experiments.features]
stage = "fact.collect_features"
needs = { images = "foreign", network = "classifier" }
config = { layer = "features.0", samples_per_image = 8, held_out_per_class = 2 }

[experiments.sae]
stage = "fact.train_sae"
needs = { features = "features" }
config = { n_concepts = 8, k = 2, batch = 64, epochs = 2 }

[experiments.concepts]
stage = "fact.measure_concepts"
needs = { sae = "sae", images = "foreign" }

[experiments.by-order]
stage = "fact.measure_concepts"
needs = { sae = "sae", images = "foreign" }
config = { match = "order" }

[experiments.of-labels]
stage = "fact.measure_concepts"
needs = { sae = "sae", images = "foreign" }
config = { target = "label" }

[experiments.partly]
stage = "fact.measure_channels"
needs = { network = "classifier", images = "mixed" }
config = { layer = "features.0" }

[experiments.gallery]
stage = "fact.draw_concepts"
needs = { concepts = "concepts" }
config = { n_images = 2 }

[experiments.decisions]
stage = "fact.explain_decisions"
needs = { concepts = "concepts", gallery = "gallery" }

[experiments.intervention]
stage = "fact.intervene_concepts"
needs = { concepts = "concepts" }
config = { n_images = 8, n_steps = 2, n_single = 1, n_bootstrap = 2 }

[experiments.fidelity]
stage = "fact.measure_fidelity"
needs = { model = "sae", images = "foreign" }
config = { n_bootstrap = 2 }

[experiments.logits]
stage = "fact.collect_activations"
needs = { images = "foreign", network = "classifier" }

[experiments.labels]
stage = "fact.label_inputs"
needs = { images = "foreign" }

[experiments.names]
stage = "evals.name_concepts"
needs = { activations = "concepts", labels = "labels" }
config = { metrics = ["correlation"], n_bootstrap = 2 }

[experiments.seen]
stage = "fact.measure_concepts"
needs = { sae = "sae", images = "foreign" }
config = { split = "train" }

[experiments.seen-labels]
stage = "fact.label_inputs"
needs = { images = "foreign" }
config = { split = "train" }

[experiments.seen-names]
stage = "evals.name_concepts"
needs = { activations = "seen", labels = "seen-labels" }
config = { metrics = ["correlation"], n_bootstrap = 2 }

[experiments.allowed-names]
stage = "evals.name_concepts"
needs = { activations = "seen", labels = "seen-labels" }
config = { metrics = ["correlation"], n_bootstrap = 2, seen_images = "allow" }

[experiments.seen-scores]
stage = "evals.score_explanations"
needs = { activations = "seen", labels = "seen-labels" }
config = { metrics = ["correlation"] }

[experiments.allowed-scores]
stage = "evals.score_explanations"
needs = { activations = "seen", labels = "seen-labels" }
config = { metrics = ["correlation"], seen_images = "allow" }
"""
pytestmark = pytest.mark.slow
FOREIGN = ["aardvark", "bat", "cat", "dog"]
SHAPES = sorted(CLASSES)


def write_images(root: Path, classes: list[str]) -> None:
    rng = np.random.default_rng(len(classes))
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(8):
            pixels = rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict[str, str]]:
    root = tmp_path_factory.mktemp("foreign")
    (root / "experiments.toml").write_text(DECLARATION)
    project = open_project(root)
    write_images(root / "foreign", FOREIGN)
    write_images(root / "mixed", [FOREIGN[0], SHAPES[-1]])
    with contextlib.chdir(root):
        outcomes = run_plan(project, project.plan(), runner="here", journal_only=True)
    return project, {
        one.name: "" if one.ending is State.COMPLETED else str(one.message) for one in outcomes
    }


def open_one(project: Project, name: str) -> xr.Dataset:
    with registry.open_dataset(project.current(name)) as dataset:
        return dataset.load()


def test_everything_runs_but_what_explains_labels(ran: tuple[Project, dict[str, str]]) -> None:
    _, told = ran
    failed = {name for name, message in told.items() if message}
    assert failed == {"by-order", "of-labels", "seen-names", "seen-scores"}
    assert "8 outputs, 4 classes; expected as many" in told["by-order"].replace(
        str(len(CLASSES)), "8"
    )
    assert "target = 'label' needs a label of every image; 16 of 16 have none" in told["of-labels"]
    assert "explain target = 'prediction'" in told["of-labels"]


def test_no_label_is_equated_with_a_logit(ran: tuple[Project, dict[str, str]]) -> None:
    project, _ = ran
    concepts, sae = open_one(project, "concepts"), open_one(project, "sae")
    for dataset in (concepts, sae):
        assert dataset.attrs["unmatched_classes"].startswith("4 of 4 classes of the images")
        assert np.isnan(dataset["network_accuracy"])
        assert np.isnan(dataset["commonest_share"])
    assert (concepts["label"] == -1).all()
    assert np.isnan(concepts["accuracy"])
    assert (concepts["prediction"] >= 0).all()
    assert np.isnan(sae["held_out_accuracy"]).all()
    assert sae["best_step"] > 0
    assert not any(open_one(project, "logits")["right_concept"].values)
    intervention = open_one(project, "intervention")
    assert np.isnan(intervention["accuracy"]).all()
    assert np.isfinite(intervention["logit"]).all()
    fidelity = open_one(project, "fidelity")
    assert fidelity["n_labelled"] == 0
    assert np.isnan(fidelity["ce"])
    assert np.isnan(fidelity["ce_recovered"])
    assert np.isfinite(fidelity["kl"])
    assert fidelity.attrs["unmatched_classes"] == concepts.attrs["unmatched_classes"]
    assert "there is no cross-entropy" in fidelity.attrs["undefined_fractions"]
    assert "held_out_reconstruction_loss" not in sae  # of 4 images a class none is held out
    names = open_one(project, "names")["name"].values.ravel().tolist()
    assert {name for name in names if name} <= {f"class:{name}" for name in FOREIGN}


def test_decisions_are_of_every_prediction_where_there_are_no_labels(
    ran: tuple[Project, dict[str, str]],
) -> None:
    decisions = open_one(ran[0], "decisions")
    seen = open_one(ran[0], "concepts")["prediction"].values
    assert set(decisions["prediction"].values.tolist()) == set(seen.tolist())


def test_classes_of_one_name_keep_their_labels(ran: tuple[Project, dict[str, str]]) -> None:
    partly = open_one(ran[0], "partly")
    index = partly["class"].values.tolist().index(SHAPES[-1])
    is_shape = np.char.startswith(partly["image"].values.astype(str), f"test/{SHAPES[-1]}/")
    np.testing.assert_array_equal(partly["label"], np.where(is_shape, index, -1))
    right = (partly["prediction"].values == index)[is_shape].mean()
    assert partly["accuracy"] == right
    assert partly["commonest_share"] == 1  # of those with a label, all of one class
    assert partly.attrs["unmatched_classes"].startswith("1 of 2 classes of the images ('aardvark')")


def test_images_that_the_sae_was_trained_on_score_no_names_unless_asked(
    ran: tuple[Project, dict[str, str]],
) -> None:
    project, told = ran
    trained = set(open_one(project, "features")["image"].values.tolist())
    allowed, unseen = open_one(project, "allowed-names"), open_one(project, "names")
    n_seen = int(allowed["n_trained_choosing"]) + int(allowed["n_trained_scoring"])
    assert n_seen == len(trained & set(open_one(project, "seen")["image"].values.tolist())) > 0
    assert unseen["n_trained_choosing"] == unseen["n_trained_scoring"] == 0
    n_scoring = int(allowed["n_trained_scoring"])
    assert f"the concepts were trained on {n_scoring} of the 8 images" in told["seen-names"]
    assert f"trained on {n_seen} of the 16 images that would score" in told["seen-scores"]
    assert open_one(project, "allowed-scores")["n_trained_scoring"] == n_seen
