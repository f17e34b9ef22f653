"""Comparisons of runs by column, in one grammar for the command line, pages and scripts.

``config.k>=16, result.accuracy>0.9, config.layer~features``: a column of the table of runs, or any
dotted key of Sacred's record; one of ``= != < <= > >= ~``; a value. They are made in Python, so
that nothing typed can act as an operator of a database, and mean the same wherever runs come from.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import ge, gt, le, lt
from typing import Any, Protocol

from registry.suggest import RefusalError, nearest

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)
_CONDITION = re.compile(r"\s*([^=<>!~]+?)\s*(>=|<=|!=|==?|<|>|~)\s*((?![=<>!~]).*?)\s*", re.DOTALL)
_JOINED = re.compile(r"\s+(and|&&?|or|\|\|?)\s+(?=[\w.\-]+\s*[=<>!~])", re.IGNORECASE)
_DATE = re.compile(r"\d{4}(-|$)")
_AGO = re.compile(r"(\d{1,6})\s*(min|h|d|w)")
_UNITS = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {">": gt, ">=": ge, "<": lt, "<=": le}
_NON_FINITE = ("nan", "inf", "-inf", "infinity", "-infinity")
STATUSES = ("RUNNING", "COMPLETED", "FAILED", "INTERRUPTED", "DIED", "QUEUED", "TIMEOUT")
"""What runs of this registry, and of Sacred's other clients, are shown as."""
_HEADINGS = {"run": "id", "took": "seconds", "results": "result.…", "result": "result.…"}
_LARGE = re.compile(r"-?\d{19,1000}")  # integers beyond 64 bits are recorded as texts


class QueryError(RefusalError, ValueError):
    """A question about runs that cannot be asked."""


class Columns(Protocol):
    """One run, as conditions see it."""

    @property
    def values(self) -> Mapping[str, Any]:
        """What stands in the row of a table."""

    def value(self, column: str) -> Any:
        """Return what stands in a column, None where the run has no such thing."""


@dataclass(frozen=True)
class Condition:
    """A comparison of one column with one value.

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

    def holds(self, run: Columns) -> bool:
        """Return whether a run fulfils it; one without such a value never does."""
        value = run.value(self.column)
        if value is None:
            return self.sign == "=" and self.text == "null" and self.column in run.values
        if self.sign == "~":
            return self.text.lower() in _text(value).lower()
        if self.sign in "=!=":
            return _equal(value, self.text) is (self.sign == "=")
        return _ordered(value, self.sign, self.text)

    def fits(self, value: Any) -> bool:
        """Return whether a value is of a kind that can be compared in this way.

        Of a text, it is whether it is equal: what else may be meant, only all of them can tell.
        """
        wanted = _parsed(self.text)
        if self.sign == "~" or wanted is None:
            return True
        is_order = self.sign in _ORDERS
        if isinstance(value, datetime):
            return is_order or bool(_DATE.match(self.text))
        if isinstance(value, bool):
            return not is_order and isinstance(wanted, bool)
        if _is_number(value):
            return _is_number(wanted)
        if isinstance(value, str):
            return is_order or _equal(value, self.text)
        return not is_order

    def doubts(self, seen: Sequence[Any]) -> str:
        """Return why it makes no sense, where none of these values fits; "" where it may."""
        if not seen:
            return ""
        texts = [value for value in seen if isinstance(value, str)]
        what = f"{self.column}{self.sign}{self.text}"[:100]
        if self.column == "status":
            hint = nearest(self.text[:100], {*texts, *STATUSES})
            return "" if self.text in STATUSES else f"{what!r}: no such status{hint}"
        if texts:
            alike = {text for text in texts if text.casefold() == self.text.casefold()}
            return f"{what!r}: no run has it{nearest(self.text, alike)}" if alike else ""
        return f"{what!r}: {self.column[:100]} is {_kind(seen[0])}"

    @property
    def equal_scalars(self) -> list[Any]:
        """What a scalar is equal to that fulfils it; none where that is no short list."""
        parsed = _parsed(self.text)
        is_plain = isinstance(parsed, str | bool | int) or (
            isinstance(parsed, float) and math.isfinite(parsed)
        )
        return [self.text, parsed] if self.sign == "=" and is_plain else []


_EXPECTED = "expected a key, one of = != < <= > >= ~, and a value, as config.k>=16"


def _joined_advice(joined: re.Match[str]) -> str:
    if joined[1].lower() in ("or", "|", "||"):
        return "there is no word for or: ask once for each"
    apart = _JOINED.sub(", ", joined.string.strip())
    return f"commas separate conditions; did you mean {apart[:200]!r}?"


def conditions_of(text: str) -> list[Condition]:
    """Return the conditions in a text, which commas separate outside of quotes and brackets.

    Raises
    ------
    QueryError
        If a part of it is none.
    """
    found = []
    parts = list(_parts(text)) if text.strip() else []
    if len(parts) > 1 and not parts[-1].strip():
        parts.pop()  # after the last comma, as one types it
    for part in parts:
        match = _CONDITION.fullmatch(part)
        if match is None:
            raise QueryError(f"{part.strip()[:100]!r}; {_EXPECTED}")
        column, sign, value = match.groups()
        if not value and sign not in ("=", "==", "!="):
            raise QueryError(f"{part.strip()[:100]!r} has no value; {_EXPECTED}")
        if sign in _ORDERS and value.lower() == "nan":
            raise QueryError(
                f"{part.strip()[:100]!r}: nothing is more or less than NaN; use = or !="
            )
        if sign in _ORDERS and _is_overflow(value):
            raise QueryError(f"{part.strip()[:100]!r}: expected at most {sys.float_info.max:.2g}")
        if not value.startswith('"') and (joined := _JOINED.search(part)):
            raise QueryError(f"{part.strip()[:100]!r}; {_joined_advice(joined)}")
        found.append(Condition(column, sign.replace("==", "="), value))
    return found


def require_columns(
    conditions: Iterable[Condition], runs: Iterable[Columns], known: Iterable[str] = ()
) -> None:
    """Make sure that some run has what is compared, in a way that makes sense for its values.

    Where there is no run, nothing is wrong.

    Parameters
    ----------
    conditions : iterable of Condition
        What is asked.
    runs : iterable of Columns
        All there are; read until every column was met.
    known : iterable of str
        Columns that every run may have.

    Raises
    ------
    QueryError
        With the nearest column or value.
    """
    known = set(known)
    conditions = list(conditions)
    missing = dict.fromkeys(own.column for own in conditions if own.column not in known)
    doubtful: dict[Condition, dict[Any, Any]] = {own: {} for own in conditions}
    if not doubtful:
        return
    is_empty = True
    for run in runs:
        is_empty = False
        known.update(run.values)
        for name in [n for n in missing if n in run.values or run.value(n) is not None]:
            del missing[name]
        for own, seen in list(doubtful.items()):
            value = run.value(own.column)
            if value is not None and own.fits(value):
                del doubtful[own]
            elif value is not None:
                seen[value if isinstance(value, str) else type(value)] = value
        if not (missing or doubtful):
            return
    for name in missing if not is_empty else ():
        raise QueryError(f"no run has {name[:100]!r}{nearest_column(name, known)}")
    for own, seen in doubtful.items():
        if why := own.doubts(list(seen.values())):
            raise QueryError(why)


def nearest_column(name: str, known: Iterable[str]) -> str:
    """Return the tail of an error about a column that no run has; headings of tables are known."""
    if name.lower() in _HEADINGS:
        return f"; did you mean {_HEADINGS[name.lower()]!r}?"
    return nearest(name, known)


def _parts(text: str) -> Iterator[str]:
    depth = start = 0
    for token in _TOKEN.finditer(text):
        depth += (token[0] in ("[", "{")) - (token[0] in ("]", "}"))
        if token[0] == "," and depth <= 0:
            yield text[start : token.start()]
            start = token.end()
    yield text[start:]


def _parsed(text: str) -> Any:
    if text.lower() in _NON_FINITE:
        return float(text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _is_overflow(text: str) -> bool:
    """Return whether a value is typed as a finite number that no run can have."""
    number = _parsed(text)
    is_infinite = isinstance(number, float) and math.isinf(number)
    return is_infinite and text.lower() not in _NON_FINITE


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _equal(value: Any, text: str) -> bool:
    if isinstance(value, datetime):
        return _text(value).startswith(text)
    wanted = _parsed(text)
    if isinstance(value, str):
        return value in (text, wanted)
    if isinstance(value, float) and isinstance(wanted, float) and math.isnan(value):
        return math.isnan(wanted)
    is_truth = isinstance(value, bool), isinstance(wanted, bool)
    return is_truth[0] == is_truth[1] and bool(value == wanted)


def _ordered(value: Any, sign: str, text: str) -> bool:
    if isinstance(value, datetime):
        return _ORDERS[sign](value, moment_of(text))
    wanted = _parsed(text)
    if isinstance(value, str) and _LARGE.fullmatch(value) and _is_number(wanted):
        value = int(value)
    if _is_number(value) and _is_number(wanted):
        return _ORDERS[sign](value, wanted)
    return isinstance(value, str) and _ORDERS[sign](value, text)


def _kind(value: Any) -> str:
    if isinstance(value, datetime):
        return "a time; expected one as 2026-11-22 or 2026-11-22 14:30"
    if isinstance(value, bool):
        return "true or false; expected = or != and one of these"
    if _is_number(value):
        return "a number; expected one to compare it with"
    return "no number and no text; expected = or !="


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


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
