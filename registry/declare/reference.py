"""How a cell of an experiment is named, ``fashion-sae[k=8,seed=1]``, and how a name is read."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fnmatch import translate
from typing import Any

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_./+-]*")
_WORD = re.compile(r'[^\s,=\[\]{}"]+')
_LABEL = re.compile(r"\s*([^\s,=\[\]]+)\s*=\s*")
_END = re.compile(r"\s*([,\]])")
_KEYWORDS = {"true": True, "false": False, "null": None}


class SelectionError(ValueError):
    """A name that selects nothing, or several where one is wanted, or cannot be read."""


@dataclass(frozen=True)
class Reference:
    """A name of an experiment, a resource or a cell, as somebody wrote it.

    Attributes
    ----------
    name : str
        The declared name; where experiments are selected it may hold ``*`` and ``?``.
    values : tuple of (str, value)
        The axes that are named, with one value each: all of them for a cell, some of them for
        a partial cell, none for the whole experiment.
    """

    name: str
    values: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        parts = ",".join(f"{label}={format_value(value)}" for label, value in self.values)
        return f"{self.name}[{parts}]" if parts else self.name

    @property
    def is_pattern(self) -> bool:
        """Whether the name stands for every name that it matches."""
        return "*" in self.name or "?" in self.name

    def matches(self, name: str) -> bool:
        """Whether ``name`` is the one that is meant, or one of those."""
        if not self.is_pattern:
            return name == self.name
        return re.fullmatch(translate(self.name), name) is not None


def format_value(value: Any) -> str:
    """Return a value as it stands in a cell's name: JSON, a plain word without its quotes."""
    if isinstance(value, str) and _BARE.fullmatch(value) and value not in _KEYWORDS:
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def same_value(left: Any, right: Any) -> bool:
    """Whether two values name the same cell: ``1`` and ``1.0`` do, ``1`` and ``true`` do not."""
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def parse_reference(text: str) -> Reference:
    """Read a name with its axes, the inverse of ``str(reference)``.

    Raises
    ------
    SelectionError
        If the text is no such name; it says where.
    """
    name, bracket, _ = text.partition("[")
    if not name.strip():
        raise SelectionError(f"cannot read {text!r}: expected a name first")
    values: dict[str, Any] = {}
    position = len(name) + 1
    while bracket != "]" and bracket:
        label, value, bracket, position = _parse_value(text, position)
        if label in values:
            raise SelectionError(f"cannot read {text!r}: {label!r} is given twice")
        values[label] = value
    if values and text[position:].strip():
        raise SelectionError(f"cannot read {text!r}: {text[position:]!r} after the closing ']'")
    return Reference(name.strip(), tuple(values.items()))


def _parse_value(text: str, position: int) -> tuple[str, Any, str, int]:
    """Return label, value, what follows (a comma or the closing bracket) and where that ends."""
    label = _LABEL.match(text, position)
    if label is None:
        raise _unreadable(text, position, "axis=value")
    value, position = _decode(text, label.end())
    end = _END.match(text, position)
    if end is None:
        raise _unreadable(text, position, "',' or ']' (a word with other characters needs quotes)")
    return label[1], value, end[1], end.end()


def _decode(text: str, position: int) -> tuple[Any, int]:
    if text[position : position + 1] in set('"[{-0123456789'):
        try:
            return json.JSONDecoder().raw_decode(text, position)
        except ValueError:
            raise _unreadable(text, position, "a JSON value") from None
    word = _WORD.match(text, position)
    if word is None:
        raise _unreadable(text, position, "a value")
    return _KEYWORDS.get(word[0], word[0]), word.end()


def _unreadable(text: str, position: int, expected: str) -> SelectionError:
    found = repr(text[position:]) if text[position:] else "the end"
    return SelectionError(f"cannot read {text!r}: expected {expected}; got {found}")
