"""Kinds of data sets: declared without torch, validated, loaded, identified."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fact import kinds
from fact.data.images import ImageDataError
from registry.declare.faults import ConfigError
from registry.declare.plugins import kinds as registered
from registry.plan.contents import IdentityError


def settings(kind, **values):
    return registered("datasets")[kind].settings.validate(values)


@pytest.fixture
def folder(tmp_path):
    for number in range(6):
        path = tmp_path / "data" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(path)
    return tmp_path / "data"


@pytest.mark.slow
def test_declaring_loads_nothing_heavy():
    code = (
        "import fact.kinds, sys;"
        "from registry.declare.plugins import kinds;"
        "k = kinds('datasets'); k['shapes'].settings.validate({'n_train': 3}).identity();"
        "print([m for m in ('torch', 'xarray', 'sacred', 'pandas') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_kinds_are_registered_and_provide_images():
    table = registered("datasets")
    assert {"shapes", "fashion-mnist", "image-folder"} <= set(table)
    assert {table[name].provides for name in ("shapes", "fashion-mnist", "image-folder")} == {
        "images"
    }
    assert "bcos" in registered("networks")


def test_what_cannot_change_the_images_is_left_out_of_fingerprints():
    table = registered("datasets")
    assert table["shapes"].settings.rules.runtime == frozenset()
    assert table["fashion-mnist"].settings.rules.runtime == {"path"}
    named = {"root", "lists", "labels", "masks", "mask_names", "names", "groups", "workers"}
    assert table["image-folder"].settings.rules.runtime == named


@pytest.mark.parametrize(
    ("kind", "values", "fault"),
    [
        ("shapes", {"n_trian": 3}, "n_trian: unknown key; did you mean 'n_train'"),
        ("shapes", {"size": 8}, "size: .*24; got 8"),
        ("shapes", {"max_objects": 3}, "max_objects"),
        ("fashion-mnist", {"n_train": 60_001}, "n_train: .*60000"),
        ("image-folder", {}, "root: missing"),
        ("image-folder", {"root": "x", "on_error": "ignore"}, "on_error"),
        ("image-folder", {"root": "x", "test_share": 1.0}, "test_share"),
    ],
)
def test_settings_are_checked(kind, values, fault):
    with pytest.raises(ConfigError, match=fault):
        settings(kind, **values)


def test_shapes_are_what_the_settings_say():
    dataset = settings("shapes", n_train=5, n_test=3, size=32, max_objects=1, seed=4).load()
    assert [len(dataset.ids(split)) for split in dataset.splits] == [5, 3]
    assert dataset.read(dataset.ids("test")).shape == (3, 32, 32, 3)
    assert not dataset.scenes.present[:, 1].any()
    assert settings("shapes").identity() == "shapes 1"


def test_an_image_folder_is_what_the_settings_say(folder):
    dataset = settings("image-folder", root=str(folder), test_share=0.34, workers=1).load()
    assert dataset.classes == ("a", "b")
    assert len(dataset.ids("test")) == 2
    assert dataset.workers == 1


def test_the_identity_of_a_folder_is_its_content(folder, tmp_path):
    first = settings("image-folder", root=str(folder)).identity()
    moved = folder.rename(tmp_path / "moved")
    again = settings("image-folder", root=str(moved))
    assert again.identity() == first
    table = tmp_path / "labels.csv"
    table.write_text("image,x\n")
    labelled = settings("image-folder", root=str(moved), labels=str(table))
    assert labelled.identity() not in (first, "")
    named = settings("image-folder", root=str(moved), names="imagenet").identity()
    grouped = settings("image-folder", root=str(moved), groups="imagenet").identity()
    assert len({first, named, grouped, labelled.identity()}) == 4
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(moved / "a" / "0.png", compress_level=0)
    assert again.identity() != first


def test_a_folder_that_is_not_there_is_an_error_in_both(tmp_path):
    absent = settings("image-folder", root=str(tmp_path / "absent"))
    with pytest.raises(IdentityError, match="absent"):
        absent.identity()
    with pytest.raises(ImageDataError, match="absent: 1 fault\n  there is no such folder"):
        absent.load()


def test_a_named_folder_without_fashion_mnist_is_never_filled_by_a_download(tmp_path, monkeypatch):
    monkeypatch.setattr("fact.data.fashion_mnist.download", lambda *_: pytest.fail("downloaded"))
    named = settings("fashion-mnist", path=str(tmp_path))
    with pytest.raises(ImageDataError, match="4 faults"):
        named.load()
    assert isinstance(named, kinds.FashionMNIST)
