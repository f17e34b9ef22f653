"""The stages behind a paper's settings, together, on a small folder of images."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image
from torchvision import models

import registry
from registry.declare.stage import load_stage
from registry.execute.schedule import Watcher, run_plan
from registry.plan.project import Project, open_project
from registry.record.states import State

COLOURS = {"n01": (220, 40, 40), "n02": (40, 200, 60), "n03": (40, 60, 220), "n04": (200, 200, 40)}
NAMES = ("red", "green", "blue", "yellow")

pytestmark = pytest.mark.slow
DECLARATION = """
[datasets.colours]
kind = "image-folder"
root = "images"
names = "names.txt"
groups = "groups.json"

[networks.resnet]
kind = "torchvision"
architecture = "resnet18"
file = "weights.pt"
classes = "names.txt"
resize = 32
crop = 32

[datasets.outside-neurons]
kind = "array-file"
path = "neurons.npz"
rows = "outside"

[datasets.outside-labels]
kind = "array-file"
path = "labels.npz"
rows = "outside"

[experiments.labels]
stage = "fact.label_inputs"
needs = { images = "colours" }
config = { split = "val" }

[experiments.logits]
stage = "fact.collect_activations"
needs = { images = "colours", network = "resnet" }
config = { split = "val", transform = "softmax", groups = true, batch = 7 }

[experiments.channels]
stage = "fact.collect_activations"
needs = { images = "colours", network = "resnet" }
config = { split = "val", layer = "layer1" }

[experiments.identified]
stage = "evals.identify_neurons"
needs = { activations = "logits", labels = "labels" }
config = { metrics = ["correlation", "iou"], n_splits = 2 }

[experiments.imported]
stage = "fact.import_activations"
needs = { arrays = "outside-neurons" }
config = { known = "name" }

[experiments.imported-labels]
stage = "fact.import_labels"
needs = { arrays = "outside-labels" }

[experiments.imported-identified]
stage = "evals.identify_neurons"
needs = { activations = "imported", labels = "imported-labels" }
config = { metrics = ["correlation", "inverse_auprc"], n_splits = 2 }
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("settings")
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / "images/val" / name).mkdir(parents=True)
        for number in range(5):
            pixels = np.clip(np.array(colour) + rng.normal(0, 30, (32, 40, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(root / f"images/val/{name}/{number}.png")
    (root / "names.txt").write_text("\n".join(NAMES))
    (root / "groups.json").write_text(json.dumps({"warm": ["red", "yellow"], "cold": [1, 2]}))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(models.resnet18(num_classes=4).state_dict(), root / "weights.pt")
    truth = rng.random((400, 6)) < 0.3
    np.savez(root / "labels.npz", label=list("abcdef"), values=truth)
    np.savez(root / "neurons.npz", name=list("abcdef"), values=truth + rng.normal(0, 0.1, (400, 6)))
    (root / "experiments.toml").write_text(DECLARATION)
    project = open_project(root / "experiments.toml")
    with contextlib.chdir(root):  # as the command line does: paths are relative to the declaration
        outcomes = run_plan(
            project, project.plan(), runner="here", journal_only=True, watcher=Watcher()
        )
    assert not [outcome for outcome in outcomes if outcome.ending is not State.COMPLETED]
    return project


def open_one(project: Project, name: str) -> xr.Dataset:
    with registry.open_dataset(project.current(name)) as dataset:
        return dataset.load()


def test_every_dataset_follows_its_schema(project: Project) -> None:
    for cell in project.graph.cells.values():
        load_stage(cell.stage).output.check(open_one(project, cell.name))


def test_known_concepts_are_labels_of_the_same_images(project: Project) -> None:
    logits, labels = open_one(project, "logits"), open_one(project, "labels")
    assert logits["name"].values.tolist() == [*NAMES, "warm", "cold"]
    assert logits["right_concept"].values.tolist() == labels["label"].values.tolist()
    assert logits["image"].values.tolist() == labels["image"].values.tolist()
    share = logits["activation"].values
    np.testing.assert_allclose(share[:, :4].sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(share[:, 4], share[:, 0] + share[:, 3], rtol=1e-5)
    np.testing.assert_allclose(share[:, 5], share[:, 1] + share[:, 2], rtol=1e-5)
    warm = labels["value"].sel(label="group:warm")
    assert (warm.values == [1.0] * 5 + [0.0] * 10 + [1.0] * 5).all()


def test_hidden_channels_are_those_of_the_network(project: Project) -> None:
    channels = open_one(project, "channels")
    assert channels.sizes == {"image": 20, "neuron": 64}
    assert not any(channels["right_concept"].values)
    assert channels["variant"].item() == "layer1, mean over positions"
    network = project.declaration.resources["resnet"].settings
    root = project.root
    module = models.resnet18(num_classes=4)
    module.load_state_dict(torch.load(root / network.file, weights_only=True))
    body = torch.nn.Sequential(
        module.conv1, module.bn1, module.relu, module.maxpool, module.layer1
    ).eval()
    with Image.open(root / "images/val/n01/0.png") as image:
        pixels = np.asarray(image)[:, 4:36] / 255
    shown = (pixels - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    with torch.no_grad():
        encoded = torch.from_numpy(shown).permute(2, 0, 1)[None].float()
        expected = body(encoded).mean(dim=(2, 3))[0]
    got = channels["activation"].sel(image="val/n01/0.png")
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_neurons_from_outside_are_identified(project: Project) -> None:
    found = open_one(project, "imported-identified")
    assert found["n_neurons"] == found["n_concepts"] == 6
    assert (found["top_share"] == 1).all()
    assert open_one(project, "identified")["n_neurons"] == 6
