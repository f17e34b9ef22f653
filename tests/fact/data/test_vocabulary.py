"""Names and groups that come along, and those of files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fact.data.vocabulary import (
    LISTS,
    VocabularyError,
    as_written,
    identity,
    read_groups,
    read_lines,
    read_names,
)


@pytest.mark.parametrize(("name", "count"), [*zip(LISTS, (1000, 365, 112, 21), strict=True)])
def test_lists_are_whole_and_all_different(name: str, count: int) -> None:
    names = read_names(name)
    assert len(names) == len(set(names)) == count
    assert all(text == text.strip() for text in names)


def test_imagenet_is_in_the_order_of_its_indices() -> None:
    names = read_names("imagenet")  # indices as published with the challenge of 2012
    known = {0: "tench", 1: "goldfish", 22: "bald eagle", 251: "Dalmatian", 949: "strawberry"}
    assert {index: names[index] for index in known} == known
    assert names[999] == "toilet paper"
    assert names[744] == "missile (2)"


def test_numbers_of_names_that_repeat_are_taken_off_again() -> None:
    names = read_names("imagenet")
    written = as_written(names)
    assert written == read_lines("imagenet")
    assert written[744] == written[657] == "missile"
    assert as_written(["route (66)", "class:crane", "class:crane (2)"])[:2] == [
        "route (66)",
        "class:crane",
    ]
    assert as_written(["class:crane", "class:crane (2)"]) == ["class:crane"] * 2


def test_there_are_400_superclasses_from_the_whole_down() -> None:
    names = read_names("imagenet")
    groups = read_groups("imagenet", names)
    assert len(groups) == 400
    assert next(iter(groups)) == "entity"
    assert groups["entity"] == names
    assert set(names[151:269]) <= set(groups["dog"])  # 118 breeds of dogs stand together
    assert not any("_" in group for group in groups)
    assert min(map(len, groups.values())) >= 2


def test_superclasses_keep_only_classes_that_are_there() -> None:
    groups = read_groups("imagenet", ["Dalmatian", "tench", "martian"])
    assert groups["dog"] == ("Dalmatian",)
    assert groups["entity"] == ("tench", "Dalmatian")
    assert "bird" not in groups


def test_files_name_classes_by_name_or_index(tmp_path: Path) -> None:
    path = tmp_path / "groups.json"
    path.write_text(json.dumps({"pets": ["cat", 1], "all": [0, 1, 2]}))
    groups = read_groups(str(path), ["cat", "dog", "yak"])
    assert groups == {"pets": ("cat", "dog"), "all": ("cat", "dog", "yak")}
    names = tmp_path / "names.txt"
    names.write_text("cat\r\ndog\r\ndog\r\n")
    assert read_names(str(names)) == ("cat", "dog", "dog (2)")


def test_faults_are_named_together_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "groups.json"
    path.write_text(json.dumps({"pets": ["cta"], "others": [7, True]}))
    with pytest.raises(VocabularyError, match=r"(?s)'cta' among 2; did you mean 'cat'.*class 7"):
        read_groups(str(path), ["cat", "dog"])
    path.write_text('{"pets": "cat"}')
    with pytest.raises(VocabularyError, match="expected"):
        read_groups(str(path), ["cat", "dog"])
    path.write_text('{"pets": ')
    with pytest.raises(VocabularyError, match="no JSON"):
        read_groups(str(path), ["cat", "dog"])
    with pytest.raises(VocabularyError, match="did you mean 'imagenet'"):
        read_names("imagenett")
    path.write_text("cat\n\ndog\n")
    with pytest.raises(VocabularyError, match="line 2 is empty; expected a name"):
        read_names(str(path))


def test_identity_is_that_of_the_content(tmp_path: Path) -> None:
    assert identity("imagenet") == ""
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("cat\n")
    second.write_text("cat\n")
    assert identity(str(first)) == identity(str(second)) != ""
    second.write_text("dog\n")
    assert identity(str(first)) != identity(str(second))
