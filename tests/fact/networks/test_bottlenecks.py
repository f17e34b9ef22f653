"""The concept bottleneck out of its checkpoint, against the module that was pickled."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import transforms

from fact.data.images import Geometry
from fact.data.vocabulary import read_names
from fact.kinds import ConceptBottleneck
from fact.networks.bottlenecks import concept_bottleneck
from fact.networks.files import load_network, save_network
from fact.networks.network import NetworkError
from tests.fact.networks.bottleneck import save_bottleneck


@pytest.mark.slow
def test_logits_are_those_of_the_original_module(tmp_path: Path) -> None:
    expected = save_bottleneck(tmp_path / "cbm.pth")
    assert "CUB" not in sys.modules
    settings = ConceptBottleneck(str(tmp_path / "cbm.pth"))
    network = settings.load()
    assert network.classes == read_names("cub-attributes")
    assert network.geometry == Geometry(None, 299)
    assert (network.linear, network.bcos) == (False, False)
    # As the original prepares images: the centre, in [0, 1], less 0.5, over 2.
    photograph = np.random.default_rng(0).integers(0, 256, (310, 350, 3), dtype=np.uint8)
    prepare = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.CenterCrop(299),
            transforms.ToTensor(),
            transforms.Normalize([0.5, 0.5, 0.5], [2, 2, 2]),
        ]
    )
    shown = network.encode(network.geometry.apply(photograph)[None])
    theirs = prepare(photograph)[None]
    torch.testing.assert_close(shown, theirs, rtol=0, atol=1e-7)
    with torch.no_grad():
        found = network.module(shown)
    assert found.shape == (1, 112)
    assert float(found.std()) > 1e-3
    torch.testing.assert_close(found, expected(theirs), rtol=1e-5, atol=1e-5)
    save_network(network, tmp_path / "again.safetensors")
    again = load_network(tmp_path / "again.safetensors")
    assert again.normalisation == network.normalisation
    assert torch.equal(again.module.fc.weight, network.module.fc.weight)


@pytest.mark.slow
def test_attributes_beside_birds_and_within_a_joint_model(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("a\nb\nc\n")
    save_bottleneck(tmp_path / "m.pth", 3, bottleneck=False, joint=True, is_zip=False)
    network = concept_bottleneck(tmp_path / "m.pth", str(names))
    assert network.module.fc.weight.shape == (3, 2048)
    with pytest.raises(NetworkError, match="has 4 attributes, 112 names of them"):
        concept_bottleneck(tmp_path / "m.pth")
    with pytest.raises(NetworkError, match="no weights at"):
        concept_bottleneck(tmp_path / "absent.pth")


@pytest.mark.parametrize(
    ("state", "fault"),
    [
        ({"fc.weight": torch.zeros(2, 3)}, "has no layers all_fc.0"),
        ({"all_fc.0.fc_new.weight": torch.zeros(4, 5)}, "expand_dim"),
        (
            {"all_fc.0.fc.weight": torch.zeros(2, 5), "all_fc.0.fc.bias": torch.zeros(2)},
            "2 outputs",
        ),
        (
            {"all_fc.0.fc.weight": torch.zeros(1, 5), "all_fc.0.fc.bias": torch.zeros(1)},
            "does not belong to this architecture",
        ),
    ],
)
def test_other_files_are_refused(tmp_path: Path, state: dict[str, Any], fault: str) -> None:
    names = tmp_path / "names.txt"
    names.write_text("a\n")
    torch.save(state, tmp_path / "m.pth")
    with pytest.raises(NetworkError, match=fault):
        concept_bottleneck(tmp_path / "m.pth", str(names))
