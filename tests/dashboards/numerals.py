"""Numbers in what people read: which of them are not written for people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

MOST_DIGITS = 4
_EXPONENT = re.compile(r"\d[eE][-+]?\d+(?![\w.])")
_DECIMAL = re.compile(r"(?<![\w./:+-])(?<!arXiv )[-+]?\d+\.\d+(?![\w.])")
_NO_UNIT = re.compile(r"\w \(1\)")
_SECONDS = re.compile(r"(?<![\w.,])\d[\d,]{2,}(?:\.\d+)? s(?:econds)?\b")
_NOT_READ = re.compile(r"data:[^\"']*|<(style|script|svg)\b.*?</\1>", re.DOTALL)
_TERMS = re.compile(r"Shares of what speaks for it.*?</table>", re.DOTALL)
"""The table of a decision by which one checks its sum: five digits."""


def badly_written(text: str) -> list[str]:
    """Return numbers with an exponent, or with a point and more than four significant digits.

    And hundreds of seconds, which are minutes, and a 1 for a unit where there is none. Identifiers,
    versions, dates and addresses are no numbers.
    """
    bare = text.replace("\\", "")
    decimals = [found[0] for found in _DECIMAL.finditer(bare)]
    many = [n for n in decimals if len(n.strip("+-").replace(".", "").lstrip("0")) > MOST_DIGITS]
    others = (_EXPONENT, _NO_UNIT, _SECONDS)
    return [found[0] for pattern in others for found in pattern.finditer(bare)] + many


def words_of(html: str) -> str:
    """Return what stands in a file to be read, without pictures and the table of terms."""
    return unescape(re.sub(r"<[^>]*>", " ", _TERMS.sub("", _NOT_READ.sub("", html))))


# -- a page ---------------------------------------------------------------------------------------

WORDS = ("title", "header", "subheader", "markdown", "caption", "info", "warning", "error", "html")
SET_BY_SOMEBODY = re.compile(r"config\.|Configuration")
"""Columns of what was set, which have all their digits."""


def badly_written_of(test: AppTest) -> list[str]:
    """Return the numbers of a page that are not written for people, where each stands with it.

    Read are its words, its numbers side by side, its tables as they are shown, and the titles of
    its figures. A column of measured numbers must have a form.
    """
    said = [words_of(str(one.value)) for kind in WORDS for one in getattr(test, kind, ())]
    said += [words_of(str(one.proto.body)) for one in test.get("html")]
    said += [f"{one.label} {one.value}" for one in test.metric]
    said += [title for one in _charts(test) for title in _titles(json.loads(one.proto.spec))]
    found = [f"{number} in {text!r}" for text in said for number in badly_written(text)]
    return [*found, *(place for frame in test.dataframe for place in _of_table(frame))]


def _charts(test: AppTest) -> list[Any]:
    return [*test.get("vega_lite_chart"), *test.get("arrow_vega_lite_chart")]


def _titles(value: Any) -> Iterator[str]:
    """Yield the titles of a figure's axes, legends and tooltips."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "title" and isinstance(inner, str):
                yield inner
            elif key not in ("datasets", "values"):
                yield from _titles(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _titles(inner)


def _of_table(element: Any) -> Iterator[str]:
    shown, frame = json.loads(element.proto.columns or "{}"), element.value
    for name, column in frame.items():
        config = shown.get(str(name), {})
        heading = str(config.get("label") or name)
        if SET_BY_SOMEBODY.search(str(name)):
            continue
        yield from (f"{bad} as a heading" for bad in badly_written(heading))
        if pd.api.types.is_float_dtype(column):
            form = (config.get("type_config") or {}).get("format")
            if not form and any(badly_written(repr(one)) for one in column.dropna()):
                yield f"{heading}: numbers without a form"
            if "second" in heading or heading.endswith("(s)"):
                yield f"{heading}: plain seconds"
        elif column.dtype == object or pd.api.types.is_string_dtype(column):
            texts = (str(one) for one in column.dropna() if isinstance(one, str))
            yield from (f"{bad} in {heading}" for text in texts for bad in badly_written(text))
