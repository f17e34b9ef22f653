"""Values as short texts, and stored texts as Markdown that shows them as they are."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from typing import Any

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&^=])")
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_SIZES = ("B", "kB", "MB", "GB", "TB")


def literal(text: object) -> str:
    """Return a stored text as Markdown that shows it letter by letter, on one line.

    Names, labels and messages come from files and records: none of them may become a link, a
    picture that is fetched, or formatting. Several spaces in a row stay as many: of two they tell
    tokens apart.
    """
    lines = (line.strip() for line in str(text).expandtabs(1).splitlines())
    shown = " ".join(filter(None, lines)).replace("  ", " \N{NO-BREAK SPACE}")
    return _MARKDOWN.sub(r"\\\1", shown)


def visible(text: str) -> str:
    """Return a text on one line, with signs for what breaks it: a new line as ↵, a tab as ⇥."""
    return text.replace("\r", "").replace("\n", "↵").replace("\t", "⇥")


def value_text(value: Any) -> str:
    """Return a plain value as a table shows it: numbers to 6 digits, lists as JSON."""
    if value is None:
        return ""
    if isinstance(value, float):
        return number_text(value, 6)
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, str | bool | int):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def number_text(value: float | None, digits: int = 3) -> str:
    """Return a number to so many significant digits; "–" where there is none."""
    if value is None or math.isnan(value):
        return "–"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def time_text(moment: datetime | None) -> str:
    """Return a moment in UTC, to the second; "" where there is none."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if moment else ""


def duration_text(seconds: float | None) -> str:
    """Return a duration by its two largest units: ``3 min 20 s``; "" where it is not known."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    left = round(seconds)
    parts: list[str] = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
    return " ".join(part for part in parts[:2] if part)


def ago_text(moment: datetime | None, now: datetime) -> str:
    """Return how long ago a moment was, by its largest unit: ``3 h ago``; "" of none."""
    if moment is None:
        return ""
    seconds = (now - moment).total_seconds()
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "now"


def size_text(size: float | None) -> str:
    """Return a number of bytes: ``1.4 MB``; "" where it is not known."""
    if size is None:
        return ""
    unit = 0
    while size >= 1000 and unit < len(_SIZES) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.3g} {_SIZES[unit]}"
