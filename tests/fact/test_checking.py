"""``factbook data check`` of weights: each is opened as a stage opens it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fact.data.checking import check_images, check_network, check_probe, check_sae
from fact.kinds import (
    ConceptBottleneck,
    ImageFolder,
    NetworkFile,
    ProbeFile,
    SAEFile,
    TorchvisionNetwork,
)
from registry import Finding


class Code:
    """What unpickling it would run."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def only(findings: Any) -> Finding:
    [found] = findings
    return found  # type: ignore[no-any-return]


@pytest.fixture
def labels(tmp_path: Path) -> str:
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    return str(tmp_path / "labels.txt")


def test_images_of_many_sizes(tmp_path: Path) -> None:
    for number, size in enumerate([(200, 180), (500, 240), (375, 500)]):  # widths and heights
        for split in ("train", "test"):
            path = tmp_path / split / "a" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size).save(path)
    told = [str(one) for one in check_images(ImageFolder(root=str(tmp_path)))]
    for split in ("train", "test"):
        assert f"{split}: 3 images decoded, 200 to 500 pixels wide, 180 to 500 high" in told


def test_probes(labels: str, tmp_path: Path) -> None:
    weight, bias = torch.ones(3, 500), torch.zeros(3)

    def found(name: str) -> Finding:
        return only(check_probe(ProbeFile(str(tmp_path / name), labels), False))

    torch.save(torch.nn.Linear(500, 3), tmp_path / "whole.pth")
    np.savez(tmp_path / "ok.npz", weight=weight, bias=bias)
    for name in ("whole.pth", "ok.npz"):
        assert str(found(name)) == "3 labels of 500 channels: red, green, blue"
        assert not found(name).is_missing
        path = tmp_path / f"cut{Path(name).suffix}"
        path.write_bytes((tmp_path / name).read_bytes()[:1000])
        assert found(path.name).is_missing
        assert str(path) in str(found(path.name))
    torch.save({"weight": torch.ones(4, 5)}, tmp_path / "wrong.pt")
    assert "(4, 5)" in str(found("wrong.pt"))
    torch.save({"weight": weight, "a": Code(tmp_path / "ran")}, tmp_path / "hostile.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Code(tmp_path / "ran"), 2))
    assert all(found(name).is_missing for name in ("wrong.pt", "hostile.pt", "pickle.pt", "none"))
    assert not (tmp_path / "ran").exists()


def test_saes(tmp_path: Path) -> None:
    def found(name: str) -> Finding:
        return only(check_sae(SAEFile(str(tmp_path / name)), False))

    state = {"encoder.weight": torch.ones(4, 3), "decoder.weight": torch.ones(3, 4)}
    torch.save({**state, "k": torch.tensor(2)}, tmp_path / "sae.pt")
    assert str(found("sae.pt")) == "4 concepts of 3 channels, topk, k 2"
    torch.save({**state, "k": Code(tmp_path / "ran")}, tmp_path / "hostile.pt")
    assert found("hostile.pt").is_missing
    assert "never run" in str(found("hostile.pt"))
    assert not (tmp_path / "ran").exists()


def test_networks(tmp_path: Path) -> None:
    path = tmp_path / "cut.pth.tar"
    path.write_bytes(b"PK" + bytes(1000))
    for settings in (
        TorchvisionNetwork("resnet18", file=str(path), classes="places365"),
        ConceptBottleneck(str(path)),
        NetworkFile(str(path)),
    ):
        assert only(check_network(settings, False)).is_missing
    assert "places365.pth.tar" in TorchvisionNetwork("resnet18", None, "x", "places365").source
    assert not TorchvisionNetwork("resnet18", None, "x").source
    assert "cub_linear_probe" in ProbeFile("x", "cub-attributes").source
