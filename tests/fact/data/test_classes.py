"""Classes join by name, never by position unless it is declared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fact.data.classes import ClassMatch, commonest_share
from fact.data.vocabulary import VocabularyError, name_folders, read_names


def test_equal_names_are_equal_classes_in_any_order() -> None:
    match = ClassMatch.of(["dog", "cat"], ["cat", "cow", "dog"], 3)
    assert match.logits.tolist() == [2, 0]
    assert match.note == ""
    assert match.attributes() == {}
    assert match.of_labels(np.array([0, 1, -1, 1])).tolist() == [2, 0, -1, 0]


def test_the_commonest_class_is_counted_among_images_with_a_label() -> None:
    assert commonest_share(np.array([2, 0, 2, -1, 1, -1, 2])) == 3 / 5
    assert commonest_share(np.array([4])) == 1
    assert np.isnan(commonest_share(np.array([-1, -1])))
    assert np.isnan(commonest_share(np.array([], dtype=np.int64)))


def test_classes_that_a_network_does_not_know_have_no_logit() -> None:
    names = read_names("imagenet")
    match = ClassMatch.of(["axolotl", "mole rat", "unicorn", "tench"], names, 1000)
    assert match.logits.tolist() == [29, -1, -1, 0]
    assert match.note == (
        "2 of 4 classes of the images ('mole rat', 'unicorn') are none of the network's 1000: "
        "their images have no label here, and count in no accuracy."
    )
    assert match.of_labels(np.arange(4)).tolist() == [29, -1, -1, 0]


def test_as_many_under_other_names_are_told_how_to_be_the_same() -> None:
    match = ClassMatch.of(["a", "b"], ["cat", "dog"], 2)
    assert match.note.endswith('the same order, say match = "order".')
    unnamed = ClassMatch.of(["0", "1"], (), 2)
    assert unnamed.logits.tolist() == [-1, -1]
    assert unnamed.note.startswith("The network does not name its 2 logits")
    assert ClassMatch.of(["a", "b"], ["cat", "dog"], 2, "order").logits.tolist() == [0, 1]


def test_an_order_of_texts_is_none_of_numbers() -> None:
    folders = sorted(map(str, range(11)))
    with pytest.raises(ValueError, match=r"numbers in the order of texts, 0, 1, 10, …"):
        ClassMatch.of(folders, (), 11, "order")
    padded = [f"{number:02d}" for number in range(11)]
    assert ClassMatch.of(padded, (), 11, "order").logits.tolist() == list(range(11))


@pytest.mark.parametrize("spell", [str, str.title, lambda name: name.replace(" ", "_")])
def test_an_order_that_names_contradict_is_none(spell) -> None:
    places = read_names("places365")
    with pytest.raises(
        ValueError, match=r"14 classes would get another's label: '[dD]esert"
    ) as told:
        ClassMatch.of([spell(name) for name in sorted(places)], places, 365, "order")
    assert "is number 116 of the images and 118 of the network" in str(told.value)
    same = ClassMatch.of([spell(name) for name in places], places, 365, "order")
    assert same.logits.tolist() == list(range(365))


def test_names_of_one_list_alone_contradict_no_order() -> None:
    ours, theirs = ("tench", "sunglasses", "shades"), ("tench", "sunglass", "sunglasses")
    assert ClassMatch.of(ours, theirs, 3, "order").logits.tolist() == [0, 1, 2]
    twice = ("crane", "crane", "maillot")
    assert ClassMatch.of(twice, twice, 3, "order").logits.tolist() == [0, 1, 2]
    from_one = ("1", "2", "3")
    assert ClassMatch.of(from_one, ("0", "1", "2"), 3, "order").logits.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="2 classes would get another's label: 'b' is number 1"):
        ClassMatch.of(("x", "b", "a"), ("y", "a", "b"), 3, "order")


# --- names of folders ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spell",
    [
        str,
        str.title,
        lambda name: name.replace(" ", "_"),
        lambda name: name.replace(", ", "-").replace(" ", "_"),
    ],
)
def test_places_that_are_called_by_their_clean_labels_have_their_own_names(spell) -> None:
    names = read_names("places365")
    of_folder = {spell(name): name for name in names}
    folders = sorted(of_folder)
    assert len(folders) == 365
    assert name_folders(folders, "places365") == tuple(of_folder[own] for own in folders)


def test_the_order_of_places_is_another_than_that_of_their_names() -> None:
    """So that by position some would be given another's name."""
    names = read_names("places365")
    moved = sum(a != b for a, b in zip(names, sorted(names), strict=True))
    assert moved > 0


def test_some_folders_of_a_list_have_its_names() -> None:
    assert name_folders(["Goldfish", "great_white_shark"], "imagenet") == (
        "goldfish",
        "great white shark",
    )


def test_other_folders_are_taken_in_order(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("one\ntwo\nthree\n")
    assert name_folders(["n01", "n02", "n07"], str(names)) == ("one", "two", "three")
    assert name_folders(["n01", "two", "n07"], str(names)) == ("one", "two", "three")
    with pytest.raises(VocabularyError, match=r"'two' is called as the name 'two', .* has 'three'"):
        name_folders(["n01", "n02", "two"], str(names))
    with pytest.raises(VocabularyError, match="2 folders of classes, but 3 names"):
        name_folders(["n01", "n02"], str(names))


def test_folders_that_are_numbers_are_taken_in_the_order_of_numbers(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("".join(f"class {number}\n" for number in range(12)))
    folders = sorted(map(str, range(12)))
    assert name_folders(folders, str(names)) == tuple(f"class {own}" for own in folders)


def test_a_file_may_map_folders_to_names(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_text(json.dumps({"a": "cat", "b": "dog", "c": "cow"}))
    assert name_folders(["b", "c"], str(path)) == ("dog", "cow")
    with pytest.raises(VocabularyError, match="no name of 1 folder: 'd'"):
        name_folders(["b", "d"], str(path))
    path.write_text('["cat"]')
    with pytest.raises(VocabularyError, match=r'expected \{"folder": "name", …\}'):
        name_folders(["b"], str(path))
