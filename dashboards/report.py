"""Reports: what pages show of some experiments, as one HTML file that needs no server.

Nothing in the file is fetched and nothing in it runs: tables, SVG and PNG, all inside. Stored texts
are escaped, as everything that the template is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from dashboards.views.parts.parts import (
    PICTURE,
    Figure,
    Heading,
    Note,
    Numbers,
    Part,
    Pictures,
    Table,
    file_name,
)
from dashboards.views.parts.pictures import ADDRESS, data_address
from dashboards.views.parts.text import count_text
from dashboards.views.sections import Section
from registry.columns import Column

MOST_ROWS = 500
"""Rows of a table that a report shows; it says how many more there are."""

SEEN_AT_ONCE = 15
"""Rows of a table that a reader sees before one scrolls in it."""


def render(title: str, subtitle: str, sections: Iterable[Section]) -> str:
    """Return a report as HTML.

    Parameters
    ----------
    title, subtitle : str
        Plain text.
    sections : iterable of Section
        In order.
    """
    source = files("dashboards").joinpath("templates/report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    lines = [
        {
            "title": section.title,
            "anchor": f"s{number}-{file_name(section.title)}",
            "meaning": section.meaning,
            "parts": [_told(part) for part in section.parts],
        }
        for number, section in enumerate(sections)
    ]
    return environment.from_string(source).render(title=title, subtitle=subtitle, sections=lines)


def _told(part: Part) -> Mapping[str, Any]:
    """Return a part as the template takes it."""
    kind = {"kind": type(part).__name__}
    if isinstance(part, Heading):
        return kind | {"text": part.text}
    if isinstance(part, Note):
        return kind | {"text": part.text, "style": "note" if part.kind == "caption" else part.kind}
    if isinstance(part, Numbers):
        return kind | {"numbers": part.numbers}
    if isinstance(part, Table):
        return kind | _table(part)
    if isinstance(part, Figure):
        values = {"title": part.title, "name": part.title or part.name, "note": part.note}
        return kind | values | {"svg": Markup(part.svg())}
    return kind | _pictures(part)


def _table(table: Table) -> dict[str, Any]:
    shown = Table(table.name, table.frame.head(MOST_ROWS), columns=table.columns).texts()
    left_out = len(table.frame) - len(shown)
    count = f"{count_text(len(table.frame), 'row')}." if len(table.frame) > SEEN_AT_ONCE else ""
    more = f"{left_out:,} of them left out." if left_out > 0 else ""
    sides = ["right" if _is_number(table.frame[name]) else "" for name in table.frame]
    meanings = [table.columns.get(str(name), Column()).help for name in table.frame]
    head = [
        {"text": title, "side": side, "meaning": meaning}
        for title, side, meaning in zip(shown.columns, sides, meanings, strict=True)
    ]
    kinds = [table.columns.get(str(name), Column()).form == PICTURE for name in table.frame]
    rows = [
        [_cell(*cell) for cell in zip(row, sides, kinds, strict=True)]
        for row in shown.itertuples(index=False, name=None)
    ]
    note = " ".join(filter(None, (table.note, count, more)))
    return {"title": table.title, "note": note, "head": head, "rows": rows}


def _cell(text: str, side: str, is_picture: bool) -> dict[str, str]:
    if not is_picture:
        return {"text": text, "side": side, "picture": ""}
    return {"text": "", "side": side, "picture": text if text.startswith(ADDRESS) else ""}


def _is_number(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column)) and column.dtype != bool


def _pictures(part: Pictures) -> dict[str, Any]:
    pictures = [
        {
            "source": data_address(picture.pixels),
            "caption": picture.caption,
            "lines": picture.caption.split("\n"),
        }
        for picture in part.pictures
    ]
    return {"title": part.title, "note": part.note, "in_row": part.in_row, "pictures": pictures}
