"""`factbook init`: what it sees of a folder of images, and a declaration that runs."""

from __future__ import annotations

import csv
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from fact.starter.chain import sae_settings
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
    (here / "experiments.toml").write_text("# mine")
    result = begun("--images", "stamps")
    assert "is here already" in str(result.exception)
    assert (here / "experiments.toml").read_text() == "# mine"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--images", "nowhere"), "there is no such folder"),
        (("--images", "stamps/plants"), "only one class, 'trees'"),
        (("--images", "stamps", "--network", "resnet"), "no network 'resnet'"),
        (("--images", "stamps", "--network", "torchvision:resnet81"), "did you mean 'resnet"),
        (("--images", "stamps", "--list", "val"), "expected SPLIT=FILE"),
        (("--images", "stamps", "--list", "val=v.txt"), "there is no split 'val'"),
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
