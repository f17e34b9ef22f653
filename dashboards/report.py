"""Reports: what pages show of some experiments, as one HTML file that needs no server.

Nothing in the file is fetched and nothing in it runs: tables, SVG and PNG, all inside. Stored texts
are escaped, as everything that the template is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.resources import files
from typing import Any

import jinja2

from dashboards.views.parts.parts import (
    PICTURE,
    Figure,
    Heading,
    Part,
    Passages,
    Pictures,
    Table,
    file_name,
    is_numeric,
)
from dashboards.views.parts.pictures import pictures_html, style
from dashboards.views.parts.text import unbroken
from dashboards.views.sections import Section
from registry.columns import Column
from registry.wording import counted

MOST_ROWS = 500
"""Rows of a table that a report shows; it says how many more there are."""

SHOWN = (Figure, Table, Pictures, Passages)
"""What a section shows one of before the rest of it is folded."""

MOST_FOLDS = 6
"""Folds of a section that stand below each other; more are folded together."""

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
    chapters = [_chapter(*each) for each in enumerate(_each_meaning_once(sections))]
    template = templates().get_template("report.html")
    return template.render(
        title=title,
        subtitle=subtitle,
        chapters=chapters,
        most_folds=MOST_FOLDS,
        style=base_style(),
    )


def base_style() -> str:
    """Return how reports and sites look, pictures too, in CSS."""
    base = files("dashboards").joinpath("templates/base.css").read_text(encoding="utf-8")
    return f"{base}{style()}.fb-pictures figcaption {{ color: inherit; }}\n"


def parts_html(parts: Iterable[Part], level: int = 2) -> str:
    """Return parts as HTML in which nothing runs; their headings and titles are of a level."""
    shown: Any = templates().get_template("parts.html").module
    return str(shown.show(list(parts), level, level))


@cache
def templates() -> jinja2.Environment:
    """Return the templates of this package; all that they are given is escaped.

    No line of it ends between a number and its unit.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dashboards"),
        autoescape=True,
        finalize=lambda value: unbroken(value) if type(value) is str else value,  # not what is safe
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "kind": _kind,
        "shown": _shown,
        "laid_out": partial(pictures_html, inert=True),
    }
    return environment


# -- what is seen first, and what is folded ----------------------------------------------------


@dataclass(frozen=True)
class Fold:
    """What one opens to see: parts under a title, with an address in the file."""

    anchor: str
    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Chapter:
    """One section of a report: what is seen of it at once, and what is folded."""

    anchor: str
    title: str
    meaning: str
    lead: Sequence[Part]
    folds: Sequence[Fold]


def _each_meaning_once(sections: Iterable[Section]) -> Iterator[Section]:
    """Yield sections; what numbers mean is told of the first of several that say the same."""
    told: set[str] = set()
    for section in sections:
        yield replace(section, meaning="") if section.meaning in told else section
        told.add(section.meaning)


def _chapter(number: int, section: Section) -> Chapter:
    """Return a section up to its first figure, table or pictures; the rest by its headings."""
    anchor = f"s{number}-{file_name(section.title)}"
    groups: list[tuple[str, list[Part]]] = [("", [])]
    for part in section.parts:
        if isinstance(part, Heading):
            groups.append((part.text, []))
        else:
            groups[-1][1].append(part)
    first = groups[0][1]
    end = next((n for n, part in enumerate(first, 1) if isinstance(part, SHOWN)), len(first))
    lead, rest = first[:end], first[end:]
    folded = [(f"More: {_told(rest)}", rest)] if rest else []
    folded += [group for group in groups[1:] if group[1]]
    folds = [Fold(f"{anchor}-{n}", title, parts) for n, (title, parts) in enumerate(folded)]
    return Chapter(anchor, section.title, section.meaning, lead, folds)


def _told(parts: Iterable[Part]) -> str:
    """Return what some parts are about: their titles, else how many there are."""
    titles = [title for part in parts if (title := getattr(part, "title", ""))]
    return ", ".join(titles) or counted(len(list(parts)), "part")


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
