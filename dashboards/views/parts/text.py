"""Values as short texts, and stored texts as Markdown that shows them as they are."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from registry.wording import duration_text as duration_text
from registry.wording import exact_text
from registry.wording import number_text as number_text
from registry.wording import share_text as share_text
from registry.wording import size_text as size_text

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&^=])")
_KEPT = re.compile(r"(?<=\d) (?=%|× 10|(?:[KMGTP]iB|B|d|h|min|s)\b)|(?<=\d ×) (?=10)")
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def literal(text: object) -> str:
    """Return a stored text as Markdown that shows it letter by letter, on one line.

    Names, labels and messages come from files and records: none of them may become a link, a
    picture that is fetched, or formatting. Several spaces in a row stay as many: of two they tell
    tokens apart.
    """
    lines = (line.strip() for line in str(text).expandtabs(1).splitlines())
    shown = unbroken(" ".join(filter(None, lines)).replace("  ", " \N{NO-BREAK SPACE}"))
    return _MARKDOWN.sub(r"\\\1", shown)


def unbroken(text: str) -> str:
    """Return a text in which no line ends between a number and its unit or power of ten."""
    return _KEPT.sub("\N{NO-BREAK SPACE}", text)


def visible(text: str) -> str:
    """Return a text on one line, with signs for what breaks it: a new line as ↵, a tab as ⇥."""
    return text.replace("\r", "").replace("\n", "↵").replace("\t", "⇥")


def value_text(value: Any) -> str:
    """Return a plain value that was found: numbers to three digits, lists as JSON."""
    return number_text(value) if isinstance(value, float) else setting_text(value)


def setting_text(value: Any) -> str:
    """Return a plain value that somebody set: numbers with all their digits, lists as JSON."""
    if value is None:
        return ""
    if isinstance(value, float):
        return exact_text(value)
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, str | bool | int):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def time_text(moment: datetime | None) -> str:
    """Return a moment in UTC, to the second; "" where there is none."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if moment else ""


def ago_text(moment: datetime | None, now: datetime) -> str:
    """Return how long ago a moment was, by its largest unit: ``3 h ago``; "" of none."""
    if moment is None:
        return ""
    seconds = (now - moment).total_seconds()
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "now"
