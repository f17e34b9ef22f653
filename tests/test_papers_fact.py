"""The declared settings of FaCT against those of the released checkpoints."""

from __future__ import annotations

from pathlib import Path

from registry.project import open_project

FOLDER = Path(__file__).parent.parent / "papers/fact"
RELEASED = {
    ("densenet121_long", "features.norm5", 16384, 16, 1e-3),
    ("densenet121_long", "features.transition3", 16384, 32, 1e-3),
    ("densenet121_long", "features.transition2", 8192, 32, 1e-4),
    ("resnet50_long", "layer4", 16384, 16, 1e-3),
    ("resnet50_long", "layer3", 16384, 32, 1e-3),
    ("resnet50_long", "layer2", 8192, 32, 1e-3),
    ("vitc_s_patch1_14", "0.transformer.encoder_10", 8192, 32, 1e-3),
    ("vitc_s_patch1_14", "0.transformer.encoder_9", 16384, 32, 1e-4),
    ("vitc_s_patch1_14", "0.transformer.encoder_8", 16384, 32, 1e-3),
    ("vitc_s_patch1_14", "0.transformer.encoder_4", 16384, 64, 1e-4),
}
"""Architecture, layer, concepts, k and learning rate (README of the paper's code)."""


def test_every_released_configuration_is_declared_once() -> None:
    project = open_project(FOLDER / "experiments.toml")
    cells = project.graph.cells
    declared = []
    for cell in cells.values():
        if cell.stage == "fact.train_sae":
            features = cells[cell.needs["features"]]
            network = project.declaration.resources[features.needs["network"]]
            sae = cell.config
            found = network.config["architecture"], features.config["layer"]
            declared.append((*found, sae["n_concepts"], sae["k"], sae["lr"]))
            assert (sae["passes"], sae["batch"]) == (16, 32786)
    assert len(declared) == len(RELEASED)
    assert set(declared) == RELEASED
