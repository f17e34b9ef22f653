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
    setting_text,
    share_text,
    size_text,
    time_text,
    value_text,
)
from registry.catalog.runs import flat
from registry.wording import counted, formed
from tests.dashboards.numerals import badly_written


@given(st.text())
def test_literal_leaves_no_markdown_unescaped_and_loses_no_letter(text: str) -> None:
    shown = literal(text)
    assert re.sub(r"\\(.)", r"\1", shown).split() == text.split()
    assert "  " not in shown
    bare = re.sub(r"\\.", "", shown)
    assert not set(bare) & set("\\`*_{}[]()<>#+-.!|~$:&\n")


def test_spaces_in_a_row_stay_as_many() -> None:
    assert [len(literal(f'"{" " * n}"')) for n in (1, 2, 3, 4)] == [3, 4, 5, 6]
    assert literal("2.79 × 10⁻⁷").count("\N{NO-BREAK SPACE}") == 2
    assert literal("100 % of a % b") == "100\N{NO-BREAK SPACE}% of a % b"
    assert literal("1 min 2 s, 3 KiB in 4 sets") == "1~min 2~s, 3~KiB in 4 sets".replace(
        "~", "\N{NO-BREAK SPACE}"
    )
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
    [
        (1234567.0, "1,234,567"),
        (12345.6, "12,300"),
        (0.123456, "0.123"),
        (0.00012345, "0.000123"),
        (0.9996, "1"),
        (99.96, "100"),
        (1e-7, "10⁻⁷"),
        (-2.894e-7, "-2.89 × 10⁻⁷"),
        (9.996e-5, "10⁻⁴"),
        (2.5e16, "2.5 × 10¹⁶"),
        (None, "–"),
        (math.nan, "–"),
        (-math.inf, "-∞"),
        (-2.0, "-2"),
        (-0.0, "0"),
    ],
)
def test_numbers(number: float | None, text: str) -> None:
    assert number_text(number) == text


@given(st.floats(min_value=-1e300, max_value=1e300), st.integers(1, 6))
def test_a_number_is_told_to_its_digits_without_an_exponent(number: float, digits: int) -> None:
    text = number_text(number, digits).replace(",", "")
    assert "e" not in text
    if raised := re.fullmatch(r"(?:(.+) × |(-)?)10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", text):
        power = raised[3].translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
        mantissa = raised[1] or f"{raised[2] or ''}1"
        read = float(f"{mantissa}e{power}")
    else:
        read = float(text)
    assert read == pytest.approx(number, rel=0.51 * 10 ** (1 - digits), abs=1e-320)


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e14, max_value=1e14))
def test_what_was_set_is_told_with_all_its_digits(number: float) -> None:
    text = setting_text(number)
    if number == 0 or abs(number) >= 1e-7:
        assert float(text) == number
    assert "e" not in text


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (0.12345, ".3f", "0.123"),
        (12.3456, ".3f", "12.3"),
        (12.3456, ".4f", "12.35"),
        (123.456, "+.3f", "+123"),
        (98.674, ".2f", "98.7"),
        (2.89e-7, ".3g", "2.89 × 10⁻⁷"),
        (2.5, "+.3g", "+2.5"),
        (0.5, ".1%", "50 %"),
        (0.8976, ".1%", "89.8 %"),
        (1.0, ".1%", "100 %"),
        (0.012, "+.1%", "+1.2 %"),
        (1200, ",d", "1,200"),
    ],
)
def test_formats_of_columns_are_read_by_people(value: float, form: str, text: str) -> None:
    assert formed(value, form) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.1234, "12.3 %"), (1, "100 %"), (0.00041, "0.041 %"), (math.nan, "–")]
)
def test_shares(share: float, text: str) -> None:
    assert share_text(share) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.04, "below 0.1 s"),
        (3.0, "3 s"),
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
    [(None, ""), (0, "0 B"), (999, "999 B"), (1_400_000, "1.34 MiB"), (3e18, "2,660 PiB")],
)
def test_sizes(size: float | None, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("lr 1e-05 and 2.89e-7", ["1e-05", "9e-7"]),
        ("logit 12.3456, of 12\\.345", ["12.3456", "12.345"]),
        ("logit (1), after 1,234.5 s, in 99 s", ["t (1)", "1,234.5 s"]),
        ("0.0001234, 50,000 images, arXiv 2506.05774, 1.10.12345, run 20261130T1, 2.89 × 10⁻⁷", []),
    ],
)
def test_numbers_that_are_not_written_for_people_are_found(text: str, found: list[str]) -> None:
    assert badly_written(text) == found


def test_counts() -> None:
    assert [counted(count, "run") for count in (0, 1, 2000)] == ["0 runs", "1 run", "2,000 runs"]


def test_nested_settings_have_dotted_keys() -> None:
    assert dict(flat({"a": {"b": 1, "c": {"d": 2}}, "e": {}})) == {"a.b": 1, "a.c.d": 2, "e": {}}
