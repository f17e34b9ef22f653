"""Photographs of packages: their crops, and what is known of them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fact.data import photographs
from fact.data.images import Geometry, ImageDataError, ImageDataset
from fact.data.photographs import Photographs, read_table
from fact.data.vocabulary import read_groups, read_names


@pytest.fixture(scope="module")
def dataset() -> Photographs:
    return Photographs(crops=4).load()


def test_every_photograph_is_there_with_a_reason() -> None:
    table = read_table()
    names, known = read_names("imagenet"), read_groups("imagenet", read_names("imagenet"))
    assert len({photo.name for photo in table}) == len(table) == 32
    for photo in table:
        assert photo.path.is_file()
        assert photo.reason
        assert photo.superclass in {"", *known}
        # either a class of ImageNet, or something else of which at most the superclass is known
        assert not (photo.subject in names and photo.superclass)
    assert sum(photo.subject in names for photo in table) == 20


def test_labels_of_imagenet_are_as_published_or_say_why_not() -> None:
    names = read_names("imagenet")
    for photo in read_table():
        if found := re.search(r"_(\d+)\.jpg$", photo.file):
            published = names[int(found[1])]
            if photo.subject == published:
                assert photo.reason == "as ImageNet labels it"
            else:
                assert f"ImageNet says {published}" in photo.reason


def test_crops_are_squares_of_their_photograph(dataset: Photographs) -> None:
    assert isinstance(dataset, ImageDataset)
    ids = dataset.ids("test")
    assert len(ids) == 128
    assert ids[:2].tolist() == ["test/bullmastiff/00", "test/bullmastiff/01"]
    crops = dataset.read(ids[:8], Geometry(256, 224))
    assert crops.shape == (8, 224, 224, 3)
    assert len({crop.tobytes() for crop in crops}) == 8


def test_a_whole_photograph_is_its_largest_square() -> None:
    dataset = Photographs(crops=2, smallest=1.0)
    with Image.open(dataset.photographs[0].path) as image:  # 512 pixels wide and high
        expected = np.asarray(image.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR))
    for crop in dataset.read(["test/bullmastiff/00", "test/bullmastiff/01"]):
        np.testing.assert_array_equal(crop, expected)


def test_a_crop_depends_on_nothing_but_seed_name_and_number(dataset: Photographs) -> None:
    chosen = ["test/chelsea/03", "test/rocket/00", "test/chelsea/01"]
    together = dataset.read(chosen)
    np.testing.assert_array_equal(dataset.read(chosen[::-1]), together[::-1])
    np.testing.assert_array_equal(Photographs(crops=9).read(chosen), together)
    assert (Photographs(crops=4, seed=1).read(chosen) != together).any(axis=(1, 2, 3)).all()


def test_labels_are_those_of_the_table(dataset: Photographs) -> None:
    concepts = dataset.concepts("test")
    assert concepts.sizes["image"] == 128
    jeeps = concepts.sel(label="class:jeep")
    expected = np.isin(
        [name.split("/")[1] for name in dataset.ids("test")], ["sepia-car", "blue-car"]
    )
    np.testing.assert_array_equal(jeeps, expected)
    subjects = concepts.isel(label=slice(len(dataset.classes))).values
    np.testing.assert_array_equal(subjects.argmax(axis=1), dataset.labels("test"))
    assert (subjects.sum(axis=1) == 1).all()
    cat = concepts.sel(image="test/chelsea/00")
    shown = {str(label) for label in concepts["label"].values[cat.values]}
    assert {"class:striped cat", "group:domestic animal", "group:animal"} <= shown
    assert "group:dog" not in shown


def test_no_two_labels_are_the_same(dataset: Photographs) -> None:
    columns = dataset.concepts("test").values.T
    assert len({column.tobytes() for column in columns}) == len(columns)
    assert all(len(members) >= 2 for members in dataset.groups.values())
    every = read_groups("imagenet", read_names("imagenet"))
    assert all(dataset.groups[group] == every[group] for group in dataset.groups)


def test_packages_that_are_missing_are_all_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "find_spec", lambda package: None)
    with pytest.raises(FileNotFoundError, match="pip install foolbox"):
        Photographs().identity()
    with pytest.raises(ImageDataError, match="32 faults") as error:
        Photographs().load()
    assert any("scikit-image" in fault for fault in error.value.faults)


def test_identity_is_the_content_of_the_photographs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = Photographs().identity()
    assert Photographs(crops=2, seed=5).identity() == before
    original = photographs.Photograph.path.fget
    copy = tmp_path / "other.png"
    Image.new("RGB", (8, 8)).save(copy)

    def replaced(photo: photographs.Photograph) -> Path:
        return copy if photo.name == "chelsea" else original(photo)

    monkeypatch.setattr(photographs.Photograph, "path", property(replaced))
    assert Photographs().identity() != before
