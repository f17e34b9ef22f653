"""Reports: what pages show of some experiments, as one HTML file that needs no server.

Nothing in the file is fetched and nothing in it runs: tables, SVG and PNG, all inside. Stored texts
are escaped, as everything that the template is given.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from importlib.resources import files
from typing import Any

import jinja2

from dashboards.views.parts.parts import PICTURE, Part, Table, file_name, is_numeric
from dashboards.views.parts.pictures import pictures_html, style
from dashboards.views.sections import Section
from registry.columns import Column
from registry.wording import counted

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
    environment.filters |= {
        "kind": _kind,
        "shown": _shown,
        "laid_out": partial(pictures_html, inert=True),
    }
    anchored = [(f"s{n}-{file_name(section.title)}", section) for n, section in enumerate(sections)]
    return environment.from_string(source).render(
        title=title, subtitle=subtitle, sections=anchored, pictures=style()
    )


def _kind(part: Part) -> str:
    return type(part).__name__


def _shown(table: Table) -> dict[str, Any]:
    """Return the columns, the texts of the first rows, and the note of a table."""
    texts = replace(table, frame=table.frame.head(MOST_ROWS)).texts()
    left_out = len(table.frame) - len(texts)
    count = f"{counted(len(table.frame), 'row')}." if len(table.frame) > SEEN_AT_ONCE else ""
    more = f"{left_out:,} of them left out." if left_out > 0 else ""
    head = []
    for title, name in zip(texts.columns, table.frame, strict=True):
        column = table.columns.get(str(name), Column())
        side = "right" if is_numeric(table.frame[name]) else ""
        is_picture = column.form == PICTURE
        head.append({"text": title, "side": side, "meaning": column.help, "is_picture": is_picture})
    note = " ".join(filter(None, (table.note, count, more)))
    return {"note": note, "head": head, "rows": texts.to_numpy().tolist()}
