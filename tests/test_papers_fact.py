"""The declared settings of FaCT against those of the released checkpoints."""

from __future__ import annotations

from pathlib import Path

from registry.plan.project import open_project

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
            assert (sae["epochs"], sae["batch"]) == (16, 32786)
    assert len(declared) == len(RELEASED)
    assert set(declared) == RELEASED


def test_the_baselines_are_declared_as_published() -> None:
    project = open_project(FOLDER / "experiments.toml")
    cells = project.graph.cells
    channels, craft = cells["crp-channels"], cells["craft-concepts"]
    assert cells["crp-encodings"].needs == {"activations": "crp-channels"}
    assert cells["craft-encodings"].needs == {"craft": "craft-concepts"}
    for cell in (channels, craft):
        network = project.declaration.resources[cell.needs["network"]].config
        assert (network["architecture"], network["weights"]) == ("resnet50", "IMAGENET1K_V2")
        assert (network["resize"], cell.config["layer"]) == (256, "layer4")
    assert (channels.config["pooling"], channels.config["split"]) == ("sum", "val")
    assert (craft.config["n_concepts"], craft.config["crop"]) == (16, 64)
    of_sae = cells["encodings[cell=resnet50-layer4]"].config
    for name in ("crp-encodings", "craft-encodings"):
        for key in ("encoder", "upsampler", "side", "quantile", "least"):
            assert cells[name].config[key] == of_sae[key]
