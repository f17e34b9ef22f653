"""Flat splits with lists, folders that are no data, some of the images, too few of a class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fact.data.folder import FolderImages, ImageFolder, draw_some
from fact.data.images import Geometry, ImageDataError
from registry.cli import main
from tests.fact.data.test_folder import colours, save

LISTS = {
    "by number": "a.png 1\nb.png 0\nc.png 1\n",
    "by name": "a.png\tdog\nb.png\tcat\nc.png\tdog\n",
    "of Kaggle": "ImageId,PredictionString\na,dog 85 1 499 272 \nb,cat 1 2 3 4\nc,dog 0 0 1 1\n",
    "by path": "val/a.png,dog\nval/b.png,cat\nval/c.png,dog\nval/beside.png,cat\n",
}


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """A folder whose split ``train`` has folders of classes, and ``val`` has none."""
    for name in ("cat", "dog"):
        for number in range(3):
            save(tmp_path / "train" / name / f"{number}.png", colours(seed=number))
    for number, name in enumerate("abc"):
        save(tmp_path / "val" / f"{name}.png", colours(seed=10 + number))
    return tmp_path


def opened(root: Path, **settings: object) -> FolderImages:
    return ImageFolder(str(root), **settings).load()


@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS)
def test_a_flat_split_has_the_classes_of_its_list(flat: Path, text: str) -> None:
    (flat / "val.txt").write_text(text)
    images = opened(flat, lists={"val": str(flat / "val.txt")})
    assert images.splits == ("train", "val")
    assert images.classes == ("cat", "dog")
    classes = dict(zip(images.ids("val").tolist(), images.labels("val").tolist(), strict=True))
    assert classes == {"val/a.png": 1, "val/b.png": 0, "val/c.png": 1}
    np.testing.assert_array_equal(images.read(["val/b.png"])[0], colours(seed=11))


def test_a_flat_split_without_a_list_is_told_of_it(flat: Path) -> None:
    with pytest.raises(ImageDataError, match=r"but images; name the list.*lists = .*FILE"):
        opened(flat)
    (flat / "LOC_val_solution.csv").write_text("x")
    with pytest.raises(ImageDataError, match=r"val = \".*LOC_val_solution.csv\""):
        opened(flat)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a.png dog\nb.png cat\n", "does not name 1 of the images, as 'val/c.png'"),
        ("a.png dog\nb.png cta\nc.png dog\n", "no class 'cta'; did you mean 'cat'?"),
        ("a.png 2\nb.png 0\nc.png 1\n", "no class '2'"),
        ("490\n361\n171\n", "'490' names no class of an image; expected an image and its class"),
        ("a.png dog\na.png cat\n", "line 2: 'a.png' occurs twice"),
    ],
)
def test_a_list_that_does_not_fit_says_how(flat: Path, text: str, fault: str) -> None:
    (flat / "val.txt").write_text(text)
    with pytest.raises(ImageDataError) as caught:
        opened(flat, lists={"val": str(flat / "val.txt")})
    assert fault in str(caught.value)


def test_what_a_list_says_is_part_of_the_data(flat: Path) -> None:
    (flat / "val.txt").write_text(LISTS["by number"])
    settings = ImageFolder(str(flat / "train"), lists={"val": str(flat / "val.txt")})
    before = settings.identity()
    assert ImageFolder(str(flat / "train")).identity() in before
    (flat / "val.txt").write_text(LISTS["by name"])
    assert settings.identity() != before


def test_folders_that_archivers_leave_are_no_classes(flat: Path) -> None:
    for place in (".", "train", "train/cat"):
        save(flat / place / "__MACOSX" / "x.png")
        save(flat / place / "@eaDir" / "y.png")
    images = opened(flat / "train", layout="classes")
    assert images.classes == ("cat", "dog")
    assert len(images.ids("train")) + len(images.ids("test")) == 6
    assert "cat/__MACOSX" in images.ignored


def test_some_of_the_images_are_a_fair_share_of_each_class() -> None:
    members = {"a": [f"a/{n}" for n in range(100)], "b": [f"b/{n}" for n in range(10)], "c": ["c"]}
    kept = draw_some(members, None, 37, seed=0)
    assert {name: len(paths) for name, paths in kept.items()} == {"a": 32, "b": 4, "c": 1}
    assert draw_some(members, None, 37, seed=0) == kept
    assert draw_some(members, None, 37, seed=1)["a"] != kept["a"]
    alone = draw_some({"a": members["a"][::-1]}, 5, None, seed=0)["a"]
    assert alone == draw_some(members, 5, None, seed=0)["a"], "other classes do not matter"
    assert len(alone) == 5
    assert draw_some(members, None, None, seed=0) == {n: sorted(p) for n, p in members.items()}
    with pytest.raises(ValueError, match="most = 2 is fewer than the 3 classes"):
        draw_some(members, None, 2, seed=0)


def test_so_many_images_a_class_or_in_all(flat: Path) -> None:
    (flat / "val.txt").write_text(LISTS["by number"])
    lists = {"val": str(flat / "val.txt")}
    images = opened(flat, lists=lists, most_per_class=1)
    assert [len(images.ids(split)) for split in images.splits] == [2, 2]
    images = opened(flat, lists=lists, most=3)
    assert [len(images.ids(split)) for split in images.splits] == [3, 3]


def test_images_of_several_sizes_are_told_which_keys_help(flat: Path) -> None:
    save(flat / "train" / "cat" / "0.png", colours(20, 30))
    images = opened(flat / "train")
    ids = np.concatenate([images.ids("train"), images.ids("test")])
    with pytest.raises(ValueError, match="resize = 64, crop = 64"):
        images.read(ids)
    assert images.read(ids, Geometry(8, 8)).shape == (6, 8, 8, 3)


def test_a_plan_says_of_which_classes_there_are_few(
    flat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(25):
        save(flat / "train" / "dog" / f"more{number}.png")
    (flat / "experiments.toml").write_text(
        '[datasets.mine]\nkind = "image-folder"\nroot = "train"\n'
        '[experiments.labels]\nstage = "fact.label_inputs"\nneeds = { images = "mine" }\n'
    )
    monkeypatch.chdir(flat)
    result = CliRunner().invoke(main, ["plan"])
    assert result.exit_code == 0, result.output
    assert "mine: fewer than 20 images, too few to learn or to test: cat (3)" in result.stdout
    assert "dog" not in result.stdout
    [kept] = ImageFolder("train", most_per_class=5).notes()
    assert kept.endswith("to test: cat (3), dog (5)"), "of those that are kept"
