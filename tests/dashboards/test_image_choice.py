"""Which image of many."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from dashboards.views.concepts import image_choice
from dashboards.views.concepts.image_choice import UnknownImageError

FRAME = pd.DataFrame(
    {
        "image": ["test/0", "test/1", "test/2", "test/3"],
        "label": ["ape", "bee", "bee", ""],
        "prediction": ["ape", "ape", "bee", "ape"],
    }
)
NAMES = FRAME["image"].tolist()


def test_images_with_the_names_of_their_classes() -> None:
    dataset = xr.Dataset(
        {"label": ("image", [1, -1, 7]), "prediction": ("image", [0, 1, 0])},
        {"image": ["a", "b", "c"], "class": ["ape", "bee"]},
    )
    frame = image_choice.images_frame(dataset)
    assert frame["label"].tolist() == ["bee", "", ""]
    assert frame["prediction"].tolist() == ["ape", "bee", "ape"]


@pytest.mark.parametrize(
    ("which", "label", "expected"),
    [
        (image_choice.ALL, "", NAMES),
        (image_choice.RIGHT, "", ["test/0", "test/2"]),
        (image_choice.WRONG, "", ["test/1"]),
        (image_choice.ALL, "bee", ["test/1", "test/2"]),
        (image_choice.WRONG, "ape", []),
        (image_choice.EXPLAINED, "", ["test/1", "test/3"]),
        (image_choice.EXPLAINED, "bee", ["test/1"]),
        ("$where", "", NAMES),
        (image_choice.ALL, '{"$gt": ""}', []),
    ],
)
def test_images_by_class_and_by_whether_they_are_right(
    which: str, label: str, expected: list[str]
) -> None:
    assert image_choice.select_images(FRAME, which, label, ["test/3", "test/1"]) == expected


def test_the_image_that_a_text_means() -> None:
    assert image_choice.meant_image("", FRAME, ["test/2", "test/3"]) == "test/2"
    assert image_choice.meant_image(" test/1 ", FRAME, []) == "test/1"
    with pytest.raises(UnknownImageError, match="no image matches"):
        image_choice.meant_image("", FRAME, [])
    with pytest.raises(UnknownImageError, match="'test/11' among 4; did you mean 'test/1'"):
        image_choice.meant_image("test/11", FRAME, NAMES)
    with pytest.raises(UnknownImageError, match="no image"):
        image_choice.meant_image("x" * 100_000, FRAME, NAMES)


def test_a_misspelt_name_among_very_many_is_told_quickly() -> None:
    names = [f"test/{number:05d}" for number in range(50_000)]
    frame = pd.DataFrame({"image": names, "label": "", "prediction": ""})
    with pytest.raises(UnknownImageError, match="did you mean 'test/3333"):
        image_choice.meant_image("test/33333x", frame, names)


def test_the_images_before_and_after() -> None:
    assert image_choice.neighbours("test/0", NAMES) == ("", "test/1")
    assert image_choice.neighbours("test/2", NAMES) == ("test/1", "test/3")
    assert image_choice.neighbours("test/3", NAMES) == ("test/2", "")
    assert image_choice.neighbours("test/1", ["test/0", "test/3"]) == ("test/0", "test/3")
    assert image_choice.neighbours("", []) == ("", "")


def test_an_image_by_chance_is_another_one() -> None:
    random = np.random.default_rng(0)
    drawn = {image_choice.any_of(NAMES, "test/1", random) for _ in range(60)}
    assert drawn == {"test/0", "test/2", "test/3"}
    assert image_choice.any_of(["test/1"], "test/1", random) == "test/1"
    assert image_choice.any_of([], "test/1", random) == ""


def test_classes_of_one_name_are_told_apart() -> None:
    dataset = xr.Dataset(
        {"label": ("image", [2]), "prediction": ("image", [0])},
        {"image": ["a"], "class": ["crane", "ape", "crane"]},
    )
    [row] = image_choice.images_frame(dataset).to_dict("records")
    assert row == {"image": "a", "label": "crane [2]", "prediction": "crane [0]"}
    options = image_choice.class_options(["crane", "ape", "crane"])
    assert options == ["crane [0]", "ape", "crane [2]"]
