"""What can be wrong with a declaration or a configuration: all of it, with key and line."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.suggest import RefusalError
from registry.wording import counted

KeyPath = tuple[str | int, ...]

_KEY = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
_KEYS = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"\s*\[\s*({_KEYS})\s*\]\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(rf"\s*({_KEYS})\s*=")
_PART = re.compile(r"""([\w-]+)|"([^"]*)"|'([^']*)'""")
_INT64 = range(-(2**63), 2**63)

DEEPEST = 40
"""Levels of tables and lists inside each other that are kept; MongoDB takes no more than 100."""


class StageError(RefusalError):
    """A stage, a kind or a plug-in that cannot be found or is declared wrongly."""


class RenamedWarning(FutureWarning):
    """An old name that is read as today's: of a stage or of a key."""


def renamed(old: str, new: str) -> str:
    """Say that an old name was read as a new one."""
    return f"{old!r} was renamed {new!r}; the old name still works"


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a declaration or a configuration.

    Attributes
    ----------
    key : str
        Where, as ``experiments.fashion-sae.config.n_concept``; "" for the file, or the
        configuration, as a whole.
    message : str
        What was got and expected, with the nearest valid name.
    line : int or None
        Line of the file, from 1, where it is known.
    """

    key: str
    message: str
    line: int | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of a configuration that lead to it; none for the whole of it."""
        return tuple(self.key.split(".")) if self.key else ()

    def __str__(self) -> str:
        return ": ".join(part for part in (self.key, self.message) if part)


class ConfigError(RefusalError, ValueError):
    """All faults of one configuration, as ``faults``."""

    def __init__(self, faults: tuple[Fault, ...]):
        self.faults = faults
        super().__init__("; ".join(map(str, faults)))


class DeclarationError(RefusalError):
    """A declaration that cannot be used.

    Attributes
    ----------
    faults : tuple of Fault
        Everything that is wrong with it, by line.
    path : Path or None
        The file.
    """

    def __init__(self, faults: tuple[Fault, ...], path: Path | None = None):
        self.faults = faults
        self.path = path
        super().__init__(faults, path)  # both, so that it survives pickling

    def __str__(self) -> str:
        lines = [_located(fault, self.path) for fault in self.faults]
        count = f"{counted(len(lines), 'fault')}; nothing was run" if len(lines) > 1 else ""
        return "\n".join([*lines, count]).rstrip()


def _located(fault: Fault, path: Path | None) -> str:
    file = str(path) if path else "declaration"
    return f"{file}{f':{fault.line}' if fault.line else ''}: {fault}"


class FaultList:
    """Collects the faults of one file.

    Parameters
    ----------
    text : str
        The file, to find lines in.
    """

    def __init__(self, text: str):
        self._text = text
        self._found: dict[tuple[KeyPath, str], None] = {}  # in order, each once
        self._old_names: list[tuple[KeyPath, str]] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def add(self, where: KeyPath, message: str) -> None:
        """Add one fault; an equal one is kept once."""
        self._found[where, message] = None

    def add_old_name(self, where: KeyPath, old: str, new: str) -> None:
        """Note a name that is read as another one: no fault, only to be warned of."""
        self._old_names.append((where, renamed(old, new)))

    def warn_of_old_names(self, path: Path | None) -> None:
        """Issue a warning for each old name, with its position in the file."""
        for fault in self._located(self._old_names):
            warnings.warn(_located(fault, path), RenamedWarning, stacklevel=2)

    def sorted(self) -> tuple[Fault, ...]:
        """Return the faults in order of the file's lines."""
        return tuple(sorted(self._located(self._found), key=lambda fault: fault.line or 0))

    def _located(self, found: Collection[tuple[KeyPath, str]]) -> list[Fault]:
        lines = line_numbers(self._text) if found else {}
        return [Fault(format_path(where), text, _line_of(where, lines)) for where, text in found]


def format_path(where: KeyPath) -> str:
    """Return a path of keys as text: ``experiments.x.matrix.k[2]``."""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def line_numbers(text: str) -> dict[tuple[str, ...], int]:
    """Return the line of every table and key of a TOML text.

    A search, not a parse: it serves to point at a fault, and may miss inside multi-line values.
    """
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _parts(header[1])
            for length in range(1, len(table) + 1):
                lines.setdefault(table[:length], number)
        elif key := _ASSIGNMENT.match(line):
            lines.setdefault((*table, *_parts(key[1])), number)
    return lines


def _parts(keys: str) -> tuple[str, ...]:
    return tuple(bare or double or single for bare, double, single in _PART.findall(keys))


def _line_of(where: KeyPath, lines: dict[tuple[str, ...], int]) -> int | None:
    """Return the line of a path of keys, or of the nearest table or key around it."""
    names = tuple(part for part in where if isinstance(part, str))
    for length in range(len(names), 0, -1):
        if names[:length] in lines:
            return lines[names[:length]]
    return None


def is_too_deep(value: Any) -> bool:
    """Return whether tables and lists lie more than `DEEPEST` levels inside each other."""
    level = [value]
    for _ in range(DEEPEST + 1):
        inner = [own.values() if isinstance(own, dict) else own for own in level if _holds(own)]
        level = [item for items in inner for item in items]
    return bool(level)


def _holds(value: Any) -> bool:
    return isinstance(value, dict | list | tuple)


def unfit(value: Any) -> str:
    """Return why a plain scalar cannot stand in a configuration, "" where it can.

    JSON, MongoDB and HDF5 must all be able to hold it.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return f"expected a finite number; got {value}"
    if isinstance(value, int) and value not in _INT64:
        return f"expected an integer of at most 64 bits; got {describe_value(value)}"
    if isinstance(value, str) and "\0" in value:
        return f"expected a text without the letter NUL; got {describe_value(value)}"
    if not isinstance(value, str | bool | int | float | None):  # of TOML none is None
        return f"expected a value that JSON has; got {describe_value(value)}"
    return ""


def describe_value(value: Any) -> str:
    """Return what a TOML value is, for an error: ``a string 'x'``, ``a table``."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, int) and value not in _INT64:
        return f"an integer of {value.bit_length():,} bits"
    names = {bool: "boolean", int: "integer", float: "float", str: "string"}
    name = names.get(type(value), type(value).__name__)
    try:
        shown = json.dumps(value, default=str, ensure_ascii=False)
    except ValueError:  # integers in it have more digits than Python writes
        return f"a {name}"
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name} {shown}"
