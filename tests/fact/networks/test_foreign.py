"""Networks of timm by name, and modules that a function of one's own returns."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from fact import kinds  # noqa: F401  # registers them
from fact.data.images import Geometry
from fact.networks.bcosify import bcosify
from fact.networks.files import load_network, save_network
from fact.networks.network import NetworkError
from fact.networks.requirements import PythonFunction
from registry.declare.faults import ConfigError
from registry.declare.plugins import kinds as registered
from tests.fact import tiny

OWN = """
from torch import nn

class Small(nn.Sequential):
    def __init__(self, width=4):
        super().__init__(
            nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(width, 3),
        )

def no_module():
    return 3
"""
VIT = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 1, "num_heads": 3}


def settings(kind: str, **values):
    return registered("networks")[kind].settings.validate(values)


@pytest.fixture
def classes(tmp_path: Path) -> str:
    path = tmp_path / "classes.txt"
    path.write_text("\n".join(tiny.CLASSES))
    return str(path)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_small_network.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_small_network", raising=False)
    return "own_small_network:Small"


def test_a_network_of_timm_is_what_its_package_makes(tmp_path: Path, classes: str):
    import timm

    given = {"architecture": "vit_tiny_patch16_224", "settings": VIT, "classes": classes}
    network = settings("timm", **given, seed=1).load()
    assert (network.bcos, network.linear, network.classes) == (False, False, tiny.CLASSES)
    assert network.geometry == Geometry(17, 16)  # 16 / 0.9, rounded down
    assert network.normalisation.mean == (0.5, 0.5, 0.5)
    other = timm.create_model("vit_tiny_patch16_224", num_classes=3, **VIT).eval()
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(other.state_dict(), file)
    read = settings("timm", **given, file=str(file))
    images = tiny.images(2, 16)
    encoded = read.load().encode(images)
    expected = torch.from_numpy((images / 255 - 0.5) / 0.5).permute(0, 3, 1, 2).float()
    torch.testing.assert_close(encoded, expected)
    torch.testing.assert_close(read.load().logits(encoded), other(encoded).detach())
    assert read.identity() != settings("timm", **given).identity() != ""


def test_a_network_of_timm_that_does_not_exist_names_the_nearest(classes: str):
    with pytest.raises(NetworkError, match="did you mean 'resnet18'"):
        settings("timm", architecture="resnet-18", classes=classes).load()
    with pytest.raises(NetworkError, match=r"cannot be made: .*no_such_setting"):
        settings(
            "timm", architecture="resnet18", classes=classes, settings={"no_such_setting": 1}
        ).load()
    with pytest.raises(ConfigError, match="at most one"):
        settings("timm", architecture="resnet18", pretrained=True, file="x")


def test_a_module_of_ones_own_is_a_network_and_becomes_a_b_cos_one(
    tmp_path: Path, own: str, classes: str
):
    declared = settings("python", function=own, classes=classes, settings={"width": 5}, seed=2)
    network = declared.load()
    assert network.linear is None
    assert network.module[0].out_channels == 5
    images = tiny.images(2, 8)
    converted = bcosify(network, images)
    save_network(converted, tmp_path / "network.safetensors")
    again = load_network(tmp_path)
    np.testing.assert_allclose(
        again.logits(again.encode(images)), converted.logits(converted.encode(images))
    )
    weights = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(network.module.state_dict(), weights)
    given = {"function": own, "classes": classes, "settings": {"width": 5}}
    read = settings("python", **given, file=str(weights), crop=8).load()
    assert read.geometry == Geometry(None, 8)
    torch.testing.assert_close(read.module[0].weight, network.module[0].weight)


def test_the_code_of_ones_own_network_is_part_of_its_identity(
    tmp_path: Path, own: str, classes: str
):
    before = settings("python", function=own, classes=classes).identity()
    (tmp_path / "own_small_network.py").write_text(OWN + "\n# changed\n")
    assert settings("python", function=own, classes=classes).identity() != before
    with pytest.raises(ValueError, match="there is no module 'no_such_module'"):
        settings("python", function="no_such_module:Net", classes=classes).identity()
    with pytest.raises(NetworkError, match="there is no function 'own_small_network:Big'"):
        settings("python", function="own_small_network:Big", classes=classes).load()
    found = PythonFunction("own_small_network:no_modul").look()
    assert "has no 'no_modul'; did you mean 'no_module'" in str(found)
    assert PythonFunction(own).look() is None
    assert PythonFunction("own_small_network:nn").look() is None, "what it imports is there too"
    (tmp_path / "own_small_network.py").write_text("from os.path import *\n")
    assert PythonFunction("own_small_network:join").look() is None, "nobody can see it"
    (tmp_path / "own_small_network.py").write_text(OWN)
    with pytest.raises(NetworkError, match="returns a int; expected a module"):
        settings("python", function="own_small_network:no_module", classes=classes).load()
    with pytest.raises(ConfigError, match="function"):
        settings("python", function="no function", classes=classes)
