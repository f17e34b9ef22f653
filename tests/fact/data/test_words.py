"""Words of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from fact.data.vocabulary import VocabularyError, read_lines
from fact.data.words import Words


def test_words_stand_in_the_declaration_or_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("beak\na striped wing\n\nbeak\n")
    assert Words(file=str(path)).load() == ("beak", "a striped wing", "beak")
    assert Words(("beak", "claw")).load() == ("beak", "claw")
    assert Words(file="imagenet").load() == tuple(read_lines("imagenet"))


def test_the_identity_is_that_of_the_words(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    for path, text in zip(paths, ("beak\nclaw\n", "beak \nclaw", "beak\npaw\n"), strict=True):
        path.write_text(text)
    first, again, other = (Words(file=str(path)).identity() for path in paths)
    assert first == again != other
    assert Words(("beak",)).identity() == ""  # the settings are hashed anyway


@pytest.mark.parametrize("given", [{}, {"words": ("a",), "file": "b.txt"}, {"words": ("a", " ")}])
def test_neither_both_and_empty_words_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="word"):
        Words(**given)  # type: ignore[arg-type]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match=r"no file .*none\.txt"):
        Words(file=str(tmp_path / "none.txt")).identity()
    (tmp_path / "bare.txt").write_text("\n \n")
    with pytest.raises(VocabularyError, match="it is empty; expected a word"):
        Words(file=str(tmp_path / "bare.txt")).load()
