"""Runs as flat rows, and which of them are asked for. Pure: nothing typed reaches a database."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import ge, gt, le, lt
from sys import intern
from typing import Any

from dashboards.views.parts.text import time_text, value_text
from registry.catalog.notes import Note
from registry.catalog.runs import COLUMNS, RunView
from registry.suggest import nearest

NOTED = ("tags", "note")
"""Columns of what people noted on a run."""

_EPOCH = datetime.fromtimestamp(0, UTC)
_CONDITION = re.compile(r"\s*([^=<>!~]+?)\s*(>=|<=|!=|=|<|>|~)\s*(.*?)\s*", re.DOTALL)
_PART = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,])+')
_AGO = re.compile(r"(\d{1,6})\s*(min|h|d|w)")
_UNITS = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {">": gt, ">=": ge, "<": lt, "<=": le}


class QueryError(ValueError):
    """A question about runs that cannot be asked."""


@dataclass(frozen=True, slots=True)
class Row:
    """One run, ready to be looked for.

    Attributes
    ----------
    run : RunView
        Without its ``facts``.
    values : mapping of str to object
        As :meth:`RunView.row` gives them.
    text : str
        All that words are looked for in, in lower case.
    note : Note or None
        What somebody noted.
    """

    run: RunView
    values: Mapping[str, Any]
    text: str
    note: Note | None = None

    @property
    def start(self) -> datetime:
        """When it started; long ago if it has not."""
        return self.run.started or _EPOCH

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags."""
        return self.note.tags if self.note else ()

    def value(self, column: str) -> Any:
        """Return what stands in a column, None where the run has no such thing."""
        if column in NOTED:
            noted = " ".join(self.tags) if column == "tags" else self.note.text if self.note else ""
            return noted or None
        if column in self.values:
            return self.values[column]
        return _inside(self.run, column)


def row_of(run: RunView, note: Note | None = None) -> Row:
    """Return the row of a run."""
    values = {intern(key): value for key, value in run.row().items()}
    names = (run.id, run.uid, run.cell, run.stage, run.status, run.host, time_text(run.started))
    settings = json.dumps([run.config, run.result], ensure_ascii=False, default=str)
    noted = f"{' '.join(note.tags)} {note.text}" if note else ""
    return Row(run, values, f"{' '.join(map(str, names))} {settings} {noted}".lower(), note)


def _inside(run: RunView, column: str) -> Any:
    """Return a whole group of settings, as ``config.needs``."""
    group, _, key = column.partition(".")
    value: Any = getattr(run, group) if key and group in ("config", "result") else None
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def known_columns(rows: Iterable[Row]) -> list[str]:
    """Return every column that some run has: the catalog's, notes, ``config.*``, ``result.*``."""
    found = dict.fromkeys(key for row in rows for key in row.values)
    return list(dict.fromkeys([*COLUMNS, *NOTED, *found]))


# -- conditions -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Condition:
    """A comparison of one column with one value, made in Python.

    Attributes
    ----------
    column : str
        As ``config.k``.
    sign : str
        ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, or ``~`` for a text that contains another.
    text : str
        The value as it was typed.
    """

    column: str
    sign: str
    text: str

    def holds(self, row: Row) -> bool:
        """Return whether a run fulfils it; one without such a value never does."""
        value = row.value(self.column)
        if value is None:
            return self.sign == "=" and self.text == "null" and self.column in row.values
        if self.sign == "~":
            return self.text.lower() in value_text(value).lower()
        if self.sign in "=!=":
            return _equal(value, self.text) is (self.sign == "=")
        return _ordered(value, self.sign, self.text)


def conditions_of(text: str) -> list[Condition]:
    """Return the conditions in a text: ``config.k>=16, result.accuracy>0.9, config.layer~feat``.

    Raises
    ------
    QueryError
        If a part of it is none.
    """
    found = []
    for part in filter(str.strip, _PART.findall(text)):
        match = _CONDITION.fullmatch(part)
        if match is None:
            raise QueryError(
                f"{part.strip()[:100]!r}; expected a key, one of = != < <= > >= ~, and a value, "
                "as config.k>=16"
            )
        found.append(Condition(*match.groups()))
    return found


def check_columns(conditions: Iterable[Condition], columns: Sequence[str]) -> None:
    """Make sure that some run has what is compared.

    Raises
    ------
    QueryError
        With the nearest name.
    """
    for condition in conditions:
        name = condition.column
        if name not in columns and not any(known.startswith(f"{name}.") for known in columns):
            raise QueryError(f"no run has {name[:100]!r}{nearest(name, columns)}")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _equal(value: Any, text: str) -> bool:
    if isinstance(value, str):
        return value == text or value == _parsed(text)
    if isinstance(value, datetime):
        return value_text(value).startswith(text)
    wanted = _parsed(text)
    is_truth = isinstance(value, bool), isinstance(wanted, bool)
    return is_truth[0] == is_truth[1] and bool(value == wanted)


def _ordered(value: Any, sign: str, text: str) -> bool:
    if isinstance(value, datetime):
        return _ORDERS[sign](value, moment_of(text))
    wanted = _parsed(text)
    numbers = [isinstance(v, int | float) and not isinstance(v, bool) for v in (value, wanted)]
    if all(numbers):
        return _ORDERS[sign](value, wanted)
    return isinstance(value, str) and _ORDERS[sign](value, text)


def moment_of(text: str, *, is_end: bool = False, now: datetime | None = None) -> datetime:
    """Return a moment in UTC: a date, a date with a time, or how long ago, as ``24h`` or ``7d``.

    Parameters
    ----------
    text : str
        As it was typed.
    is_end : bool
        Whether a date means the end of its day.
    now : datetime, optional
        What is now.

    Raises
    ------
    QueryError
        If it is none of these.
    """
    try:
        if ago := _AGO.fullmatch(text.strip()):
            return (now or datetime.now(UTC)) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(text.strip())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        is_day = len(text.strip()) <= len("2026-11-22")
        return moment + timedelta(days=1) if is_end and is_day else moment
    except (ValueError, OverflowError):
        raise QueryError(
            f"{text[:100]!r} is no time; expected 2026-11-22, 2026-11-22 14:30 (UTC), "
            "or how long ago: 30min, 24h, 7d"
        ) from None


# -- order ------------------------------------------------------------------------------------


def sort_rows(rows: Iterable[Row], sort: str) -> list[Row]:
    """Return rows by a column, with ``-`` the largest first; those without a value come last."""
    column = sort.removeprefix("-")
    valued = [(row, row.value(column)) for row in rows]
    present = [pair for pair in valued if is_value(pair[1])]
    absent = [row for row, value in valued if not is_value(value)]
    present.sort(key=lambda pair: _order(pair[1]), reverse=sort.startswith("-"))
    return [row for row, _ in present] + absent


def is_value(value: Any) -> bool:
    """Return whether there is something to compare: neither None nor NaN."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _order(value: Any) -> tuple[str, Any]:
    if isinstance(value, bool | int | float):
        return "number", value
    return ("time", value) if isinstance(value, datetime) else ("text", value_text(value))
