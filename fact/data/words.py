"""Words of one's own, as labels that a model of images and texts scores."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import registry
from fact.data.vocabulary import read_words


@registry.kind("datasets", "words", provides="words")
@dataclass(frozen=True)
class Words:
    """Words to name concepts by, where nobody labelled the images.

    Parameters
    ----------
    words : tuple of str
        The words, or short texts: ``["beak", "a striped wing"]``.
    file : str or None
        Instead: a text file in UTF-8 with one on each line, empty lines aside, relative to the
        folder of the declaration; or ``imagenet``, ``places365`` or ``cub-attributes``, lists that
        come along.

    Raises
    ------
    ValueError
        If neither or both are given, or a word is empty.
    """

    words: tuple[str, ...] = ()
    file: registry.Runtime[str | None] = None

    def __post_init__(self) -> None:
        if bool(self.words) == (self.file is not None):
            raise ValueError("expected either words or a file of them")
        if not all(word.strip() for word in self.words):
            raise ValueError("a word is empty")

    def identity(self) -> str:
        """Return a content hash of the file's words; "" where the settings hold them.

        Raises
        ------
        fact.data.vocabulary.VocabularyError
            If it cannot be read.
        """
        if self.file is None:
            return ""
        return hashlib.sha256("\n".join(self.load()).encode()).hexdigest()

    def load(self) -> tuple[str, ...]:
        """Return the words in order, as they are written; some may repeat.

        Raises
        ------
        fact.data.vocabulary.VocabularyError
            If there is no such file, or no word in it.
        """
        return tuple(self.words) if self.file is None else tuple(read_words(self.file))
