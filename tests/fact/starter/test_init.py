"""`factbook init`: what it sees of a folder of images, and a declaration that runs."""

from __future__ import annotations

import csv
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import save_file

import fact
from fact.data.images import Geometry
from fact.kinds import NetworkFile, PythonNetwork
from fact.networks.config import ClassifierConfig
from fact.networks.standard import small_standard
from fact.starter import command, networks
from fact.starter.chain import OURS, Choices, chain_text, sae_settings
from fact.starter.command import init
from fact.starter.look import FolderLook, look_at
from registry.plan.project import open_project


def draw(folder: Path, count: int, colour: tuple[int, int, int], seed: int = 0) -> None:
    """Write RGBA pictures of odd sizes."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = Image.new("RGBA", (int(rng.integers(30, 90)), int(rng.integers(30, 90))))
        image.paste((*colour, 255), (4, 4, 22, 20))
        image.save(folder / f"{number:03d}.png")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder but for pictures in nested folders: 60 animals, 50 plants, 6 others."""
    draw(tmp_path / "stamps/animals/birds", 55, (220, 30, 30))
    draw(tmp_path / "stamps/animals", 5, (220, 30, 30), seed=1)
    draw(tmp_path / "stamps/plants/trees", 50, (30, 200, 40), seed=2)
    draw(tmp_path / "stamps/other", 6, (40, 40, 220), seed=3)
    (tmp_path / "stamps/__MACOSX").mkdir()
    (tmp_path / "stamps/animals/broken.png").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def begun(*words: str, answers: str | None = None) -> Result:
    return CliRunner().invoke(init, words, input=answers)


def test_a_project_begins_with_a_folder_of_images(here: Path) -> None:
    result = begun("--images", "stamps")
    assert result.exit_code == 0, result.output
    assert "broken: animals/broken.png: not an image" in result.output
    assert "other (6)" in result.output
    assert "of every image is right for" in result.output
    text = (here / "experiments.toml").read_text()
    declared = tomllib.loads(text)
    assert declared["datasets"]["images"] == {
        "kind": "image-folder",
        "root": "stamps",
        "test_share": 0.4,
        "labels": "labels.csv",
        "on_error": "skip",
    }
    assert all(len(line) <= 100 for line in text.splitlines() if line.startswith("#"))
    plan = open_project(here).plan()
    assert {"network", "sae", "concepts", "gallery", "names", "stability"} <= {
        task.name for task in plan.due
    }
    with (here / "labels.csv").open() as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert len(rows) == 117 - 1, "broken ones have no labels"
    assert rows["animals/birds/000.png"] == {
        "image": "animals/birds/000.png",
        "folder:birds": "1",
        "folder:trees": "0",
    }
    assert rows["animals/000.png"]["folder:birds"] == "0"
    dataset = open_project(here).declaration.resources["images"].settings.load()
    labels = dataset.concepts("test")
    assert labels.sizes["label"] == 5
    share = labels.sel(label="class:animals").mean().item()
    assert f"{share:.0%}" in text


def test_it_writes_over_nothing_and_says_what_is_missing(here: Path) -> None:
    result = begun()
    assert "--images FOLDER" in str(result.exception)
    own = here / "experiments.toml"
    mine = "".join(f"[experiments.e{number}]\nstage = 'x'\n" for number in range(8))
    for text, said in (
        ("# mine", "experiments.toml is here already, with nothing declared. Nothing was written"),
        ("[datasets", "is here already, and cannot be read: Expected ']'"),
        ("datasets = 3", "is here already"),
        (
            f"[datasets.d]\nkind = 'x'\n{mine}",
            "with 1 dataset, 8 experiments (e0, e1, e2, e3, e4, e5, …)",
        ),
    ):
        own.write_text(text)
        before = sorted(here.iterdir())
        result = begun("--images", "stamps")
        assert said in str(result.exception)
        assert own.read_text() == text
        assert sorted(here.iterdir()) == before
    assert "factbook plan says what of it would run" in str(result.exception)
    assert "in another folder" in str(result.exception)
    own.unlink()
    own.symlink_to(here / "elsewhere.toml")
    assert "is here already, and cannot be read" in str(begun("--images", "stamps").exception)
    assert not (here / "elsewhere.toml").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--images", "nowhere"), "there is no such folder"),
        (("--images", "stamps/plants"), "only one class, 'trees'"),
        (("--images", "stamps", "--network", "resnet"), "no network 'resnet'"),
        (("--images", "stamps", "--network", "torchvision:resnet81"), "did you mean 'resnet"),
        (("--images", "stamps", "--list", "val"), "expected it as val=val.txt"),
        (("--images", "stamps", "--list", "val=v.txt"), "there is no split 'val'"),
        (("--images", "stamps", "--sae", "a.nc"), "that the SAE was trained on: --network"),
        (("--images", "stamps/plants/trees", "--network", "train"), "images without classes"),
        (("--images", "stamps", "--network", "python:nowhere:build"), "classes"),
        (("--images", "stamps", "--sae-key", "k"), "expected it as k=32"),
    ],
)
def test_what_it_cannot_begin_with_is_said_before_anything_is_written(
    here: Path, words: tuple[str, ...], reason: str
) -> None:
    result = begun(*words)
    assert reason in str(result.exception)
    assert not (here / "experiments.toml").exists()


def test_a_terminal_is_asked(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fact.starter.command.is_asked", lambda: True)
    result = begun(answers="stamps\n\n")
    assert result.exit_code == 0, result.output
    assert "Folder of images" in result.output
    assert "fact.train_classifier" in (here / "experiments.toml").read_text()


def test_a_network_of_torchvision_is_looked_at(here: Path) -> None:
    result = begun("--images", "stamps", "--network", "torchvision:squeezenet1_1")
    assert result.exit_code == 0, result.output
    declared = tomllib.loads((here / "experiments.toml").read_text())
    assert declared["networks"]["network"] == {
        "kind": "torchvision",
        "architecture": "squeezenet1_1",
    }
    assert "network" not in declared["experiments"]
    assert declared["experiments"]["features"]["config"]["layer"] == "features"
    open_project(here).plan()


def test_splits_that_are_there_are_used(here: Path) -> None:
    for split, count in (("train", 30), ("val", 20)):
        for seed, name in enumerate(("cat", "dog")):
            draw(here / "pets" / split / name, count, (9, 99, 199), seed)
    result = begun("--images", "pets")
    assert result.exit_code == 0, result.output
    experiments = tomllib.loads((here / "experiments.toml").read_text())["experiments"]
    assert experiments["network"]["config"]["test_split"] == "val"
    for name in ("concepts", "other-concepts", "labels", "fidelity"):
        assert experiments[name]["config"]["split"] == "val"
    assert "test_share" not in (here / "experiments.toml").read_text()
    open_project(here).plan()


@pytest.mark.parametrize(("side", "strides"), [(64, [2, 2, 2]), (48, [2, 2, 2]), (28, None)])
def test_large_images_are_halved_three_times(here: Path, side: int, strides: list[int]) -> None:
    look = look_at(here / "stamps")
    look = FolderLook(look.folder, look.images, np.full((3, 2), side), {})
    own = tomllib.loads(chain_text(look, "stamps", Choices(OURS)))["experiments"]["network"]
    assert own["config"].get("strides") == strides
    assert own["config"]["epochs"] == 20


def test_sizes_say_how_a_small_network_sees_images(here: Path) -> None:
    look = look_at(here / "stamps")
    sides = {30: 32, 60: 64, 600: 64}
    for shorter, side in sides.items():
        sizes = np.array([[shorter, 900], [shorter, 80]])
        assert FolderLook(look.folder, look.images, sizes, {}).side() == side
    assert FolderLook(look.folder, look.images, np.full((3, 2), 28), {}).side() is None


@pytest.mark.parametrize("n_train", [20, 481, 5_000, 1_000_000])
def test_an_sae_is_no_larger_than_its_samples_allow(n_train: int) -> None:
    found = sae_settings(n_train)
    assert 32 <= found["n_concepts"] <= 512
    assert found["k"] * 4 <= found["n_concepts"]
    assert found["n_concepts"] == 32 or found["n_concepts"] * 300 <= 64 * n_train


# -- what comes from elsewhere -----------------------------------------------------------------

BUILDERS = """
import fact
from torch import nn


def bcos(width: int = 8):
    return fact.small_bcos(("a", "b"), (width, width), strides=(2, 1)).module


def ordinary():
    layers = nn.Conv2d(3, 5, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Conv2d(5, 2, 4)
    return nn.Sequential(*layers)
"""


@pytest.fixture
def flat(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, with a module of networks beside the pictures."""
    (here / "networks_of_init.py").write_text(BUILDERS)
    (here / "names.txt").write_text("a\nb\n")
    network = fact.small_bcos(("a", "b"), (8, 8), strides=(2, 1), geometry=fact.Geometry(36, 32))
    fact.save_network(network, here / "net.safetensors")
    monkeypatch.syspath_prepend(here)
    monkeypatch.delitem(sys.modules, "networks_of_init", raising=False)
    return here


def declared(*words: str) -> dict[str, Any]:
    result = begun(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    found = tomllib.loads(Path("experiments.toml").read_text())
    open_project(Path.cwd()).plan()
    return found


def test_a_flat_folder_has_no_classes_and_words_of_ones_own(flat: Path) -> None:
    (flat / "words.txt").write_text("a bird\na wheel\n")
    network = ("--network", "python:networks_of_init:bcos", "--classes", "names.txt")
    found = declared("--images", "stamps/plants/trees", *network, "--words", "words.txt")
    assert found["datasets"]["images"]["layout"] == "flat"
    assert found["networks"]["network"]["function"] == "networks_of_init:bcos"
    assert found["networks"]["network"]["crop"] in (32, 64), "images are of several sizes"
    assert found["datasets"]["words"] == {"kind": "words", "file": "words.txt"}
    assert found["experiments"]["word-names"]["needs"]["labels"] == "word-labels"
    assert not {"names", "labels", "sanity", "network"} & found["experiments"].keys()
    text = (flat / "experiments.toml").read_text()
    assert "add scale and shift" not in text, "that model is calibrated"
    images = open_project(flat).declaration.resources["images"].settings.load()
    assert images.classes == ("all",)
    assert {split: len(images.ids(split)) for split in images.splits} == {"train": 30, "test": 20}
    (flat / "experiments.toml").unlink()
    words = ("--words", "fur", "--words-model", "ViT-B-32")
    told = begun("--images", "stamps/plants/trees", "--layout", "flat", *network, *words)
    assert "Before it runs, [networks.image-text] needs more" in told.output
    assert "add scale and shift" in (flat / "experiments.toml").read_text()


def test_labels_of_ones_own_name_concepts_of_images_without_classes(flat: Path) -> None:
    network = ("--network", "python:networks_of_init:bcos", "--classes", "names.txt")
    trees = ("--images", "stamps/plants/trees", *network)
    lines = ["image,red,round", *(f"{row:03d}.png,{row % 2},0.5" for row in range(50))]
    (flat / "mine.csv").write_text("\n".join([*lines, "nowhere.png,1,1"]))
    refused = begun(*trees, "--labels", "mine.csv")
    assert "line 52: no image 'nowhere.png'" in str(refused.exception)
    (flat / "mine.csv").write_text("\n".join(lines))
    found = declared(*trees, "--labels", "mine.csv")
    assert found["datasets"]["images"]["labels"] == "mine.csv"
    assert {"labels", "sanity", "names"} <= found["experiments"].keys()
    labels = open_project(flat).declaration.resources["images"].settings.load().concepts("test")
    assert labels["label"].values.tolist()[-2:] == ["red", "round"]
    images = open_project(flat).declaration.resources["images"].settings.load()
    enough = int((labels.sel(label=["red", "round"]).sum("image") >= 20).sum())
    verb = "is" if enough == 1 else "are"
    told = command.nameable_labels(images, "test")
    assert told.startswith(f"{enough} of the 2 labels {verb} true of 20 test images")
    (flat / "experiments.toml").unlink()
    assert told in begun(*trees, "--labels", "mine.csv").output


def test_a_table_of_labels_that_is_here_is_not_written_over(here: Path) -> None:
    (here / "labels.csv").write_text("image,mine")
    assert "name it by --labels labels.csv" in str(begun("--images", "stamps").exception)
    assert (here / "labels.csv").read_text() == "image,mine"


def test_images_of_several_sizes_are_cropped_for_a_network_that_has_no_size(flat: Path) -> None:
    network = ("--network", "python:networks_of_init:ordinary", "--classes", "names.txt")
    found = declared("--images", "stamps", *network)
    assert "normalised as ImageNet's" in " ".join(
        (flat / "experiments.toml").read_text().replace("#", "").split()
    )
    own = found["networks"]["network"]
    assert own["crop"] * 9 // 8 == own["resize"]
    assert found["experiments"]["features"]["config"]["layer"] == "0"


def test_an_sae_from_a_file_takes_the_place_of_the_training(flat: Path) -> None:
    network = ("--network", "net.safetensors")
    draw = np.random.default_rng(0)
    sae = fact.TopKSAE(draw.normal(size=(24, 8)), draw.normal(size=(8, 24)), 4)
    fact.write_sae(sae, flat / "theirs.safetensors")
    matrices = {"encoder": sae.encoder, "decoder": sae.decoder}
    save_file({n: m.detach().contiguous() for n, m in matrices.items()}, flat / "plain.safetensors")
    refused = begun("--images", "stamps", *network, "--sae", "plain:plain.safetensors")
    assert "expected activation, one of topk" in str(refused.exception)
    keys = ("--sae-key", "activation=topk", "--sae-key", "k=4")
    keys = (*keys, "--layer", "features")
    found = declared("--images", "stamps", *network, "--sae", "plain:plain.safetensors", *keys)
    assert found["saes"]["theirs"] == {
        "kind": "file",
        "path": "plain.safetensors",
        "format": "plain",
        "activation": "topk",
        "k": 4,
    }
    assert found["networks"]["network"] == {"kind": "file", "path": "net.safetensors"}
    assert found["experiments"]["sae"]["stage"] == "fact.import_sae"
    assert found["experiments"]["sae"]["config"] == {"layer": "features"}
    assert not {"features", "other-sae", "stability"} & found["experiments"].keys()
    (flat / "experiments.toml").unlink()
    wide = fact.TopKSAE(draw.normal(size=(24, 7)), draw.normal(size=(7, 24)), 4)
    fact.write_sae(wide, flat / "wide.safetensors")
    refused = begun("--images", "stamps", *network, "--sae", "wide.safetensors")
    assert "reads 7 channels; layers of the network: features.0.0.linear (8)" in str(
        refused.exception
    )


def test_an_sae_is_of_the_layer_that_it_reconstructs_best(flat: Path) -> None:
    """Of three with as many channels two put out nothing below 0, as this SAE: the last one."""
    same = np.eye(5)
    fact.write_sae(fact.TopKSAE(same, same, 5), flat / "theirs.safetensors")
    named = ("--network", "python:networks_of_init:ordinary", "--classes", "names.txt")
    words = ("--images", "stamps", *named, "--sae", "theirs.safetensors")
    found = declared(*words)
    assert found["experiments"]["sae"]["config"] == {"layer": "2"}
    note = (
        "of 3 that the SAE reconstructs best: it explains 1.000 of the variance, 1.000 of the next"
    )
    assert f"layer 2 is the one {note}" in " ".join(
        Path("experiments.toml").read_text().replace("\n#", "").split()
    )
    for layer in ("0", "1"):
        for written in ("experiments.toml", "labels.csv"):
            Path(written).unlink()
        found = declared(*words, "--layer", layer)
        assert found["experiments"]["sae"]["config"] == {"layer": layer}
    for written in ("experiments.toml", "labels.csv"):
        Path(written).unlink()
    assert "has no layer '9'" in str(begun(*words, "--layer", "9").exception)


def test_a_network_file_says_whether_it_is_linear_and_names_no_code(flat: Path) -> None:
    known = NetworkFile("net.safetensors")
    assert known.linear is True
    assert known.load().classes == ("a", "b")
    (flat / "none.safetensors").write_bytes(b"no")
    assert NetworkFile("none.safetensors").linear is None
    foreign = PythonNetwork("networks_of_init:ordinary", "names.txt").load()
    fact.save_network(foreign, flat / "code.safetensors")
    with pytest.raises(ValueError, match="by the Python function 'networks_of_init:ordinary'"):
        NetworkFile("code.safetensors").load()


def test_a_network_of_timm_by_name_and_file(flat: Path) -> None:
    import timm

    save_file(timm.create_model("resnet10t").state_dict(), flat / "theirs.safetensors")
    found = declared("--images", "stamps", "--network", "timm:resnet10t:theirs.safetensors")
    own = {"kind": "timm", "architecture": "resnet10t", "file": "theirs.safetensors"}
    assert found["networks"]["network"] == own


@pytest.mark.parametrize(
    ("architecture", "layer"),
    [  # a class token answers, or the mean of all
        ("torchvision-vit", "encoder.layers.encoder_layer_1"),
        ("standard-vit", "transformer"),
    ],
)
def test_the_layer_of_a_vit_is_the_last_whose_tokens_all_matter(
    here: Path, architecture: str, layer: str
) -> None:
    sizes = {"patch_size": 4, "dim": 16, "depth": 3, "heads": 2}
    config = ClassifierConfig(architecture=architecture, **sizes)
    network = small_standard(config, ["a", "b"], 32)
    network = replace(network, geometry=Geometry(36, 32))
    for part in network.module.modules():  # torchvision's begin with a head of zeros
        if isinstance(part, torch.nn.Linear) and not part.weight.any():
            part.reset_parameters()
    assert networks.last_map(network, look_at(here / "stamps")) == layer


@pytest.mark.parametrize("kind", ["bcos", "timm", "torchvision"])
def test_a_mistyped_file_of_weights_is_no_wish_for_released_ones(kind: str) -> None:
    with pytest.raises(ValueError, match=r"no file of weights at typo\.pth"):
        networks._weights(kind, "typo.pth")
    assert networks._weights("torchvision", "IMAGENET1K_V1") == {"weights": "IMAGENET1K_V1"}
    assert networks._weights("timm", "") == {"pretrained": True}


def test_files_of_other_types_are_told_and_hidden_ones_are_not() -> None:
    names = ["a/x.svg", "a/y.SVG", "b/notes.txt", ".DS_Store", "a/._y.png", "__MACOSX", "README"]
    assert command.passed_over(names) == "2 .svg, 1 .txt"
    assert command.passed_over([f"x.{letter}" for letter in "abcdefg"]).endswith(", 2 others")
    assert command.passed_over([".DS_Store"]) == ""
