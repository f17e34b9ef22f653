"""Values as texts, and texts as Markdown that shows them letter by letter."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.views.parts.text import (
    duration_text,
    literal,
    number_text,
    size_text,
    time_text,
    value_text,
)
from registry.catalog.runs import flat
from registry.wording import counted


@given(st.text())
def test_literal_leaves_no_markdown_unescaped_and_loses_no_letter(text: str) -> None:
    shown = literal(text)
    assert re.sub(r"\\(.)", r"\1", shown).split() == text.split()
    assert "  " not in shown
    bare = re.sub(r"\\.", "", shown)
    assert not set(bare) & set("\\`*_{}[]()<>#+-.!|~$:&\n")


def test_spaces_in_a_row_stay_as_many() -> None:
    assert [len(literal(f'"{" " * n}"')) for n in (1, 2, 3, 4)] == [3, 4, 5, 6]
    assert literal(" a\t b\n\n  c ") == "a \N{NO-BREAK SPACE}b c"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "True"),
        (3, "3"),
        (0.1 + 0.2, "0.3"),
        (math.nan, "–"),
        (["a", 1], '["a", 1]'),
        ({"a": {"b": None}}, '{"a": {"b": null}}'),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02 03:04:05 UTC"),
    ],
)
def test_values(value: object, text: str) -> None:
    assert value_text(value) == text


def test_times_are_told_in_utc() -> None:
    elsewhere = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    assert time_text(elsewhere) == "2026-01-02 01:04:05 UTC"
    assert time_text(None) == ""


@pytest.mark.parametrize(
    ("number", "text"),
    [(1234567.0, "1,234,567"), (0.123456, "0.123"), (1e-7, "1e-07"), (None, "–"), (-2.0, "-2")],
)
def test_numbers(number: float | None, text: str) -> None:
    assert number_text(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.04, "0.0 s"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (90_000, "1 d 1 h"),
        (86_459, "1 d"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(None, ""), (0, "0 B"), (999, "999 B"), (1_400_000, "1.4 MB"), (3e15, "3e+03 TB")],
)
def test_sizes(size: float | None, text: str) -> None:
    assert size_text(size) == text


def test_counts() -> None:
    assert [counted(count, "run") for count in (0, 1, 2000)] == ["0 runs", "1 run", "2,000 runs"]


def test_nested_settings_have_dotted_keys() -> None:
    assert dict(flat({"a": {"b": 1, "c": {"d": 2}}, "e": {}})) == {"a.b": 1, "a.c.d": 2, "e": {}}
