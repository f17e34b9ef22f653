"""Directives ``stages`` and ``kinds``: all that can be declared, read from the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import registry
from registry.declare.described import Declarable, described_kinds, described_stages
from registry.declare.plugins import load_plugins


def entry_lines(entry: Declarable) -> Iterator[str]:
    """Yield what a kind or stage needs and makes, its keys, and a table to paste, in Markdown."""
    yield entry.doc.replace("``", "`")
    yield ""
    needs = "; ".join(entry.fillings())
    cut = (
        f" Can be [cut into parts](../how-to/parts.md), by {entry.cut_by}." if entry.cut_by else ""
    )
    yield (f"Needs {needs}. " if needs else "") + f"Makes `{entry.makes}`.{cut}"
    yield ""
    if keys := (*entry.keys, *entry.common):
        yield "| key | type | default | |"
        yield "|---|---|---|---|"
    for key in keys:
        default = "required" if key.is_required else f"`{short(str(key.default))}`"
        note = " *(changes no result)*" if key.is_runtime else ""
        meaning = re.sub(r"``([^`]+)``", r"`\1`", key.meaning).replace("|", "\\|")
        yield f"| `{key.name}` | {key.type} | {default} | {meaning}{note} |"
    yield ""
    yield from ("```toml", *entry.snippet.splitlines(), "```", "")


def short(text: str, most: int = 48) -> str:
    """Return a text of at most ``most`` characters."""
    return text if len(text) <= most else f"{text[: most - 2]} …"


def stage_lines() -> Iterator[str]:
    """Yield the stages of the installed packages, in Markdown."""
    load_plugins()
    for entry in described_stages():
        yield from (f"### `{entry.name}`", "", *entry_lines(entry))


def kind_lines() -> Iterator[str]:
    """Yield the kinds of datasets, networks and the rest, in Markdown."""
    load_plugins()
    for entry in described_kinds():
        yield from (f'### `[{entry.family}.…] kind = "{entry.name}"`', "", *entry_lines(entry))


class _Lines(SphinxDirective):
    lines: Any

    def run(self) -> list[nodes.Node]:
        text = StringList(list(type(self).lines()), source=registry.__file__)
        return self.parse_text_to_nodes("\n".join(text), allow_section_headings=True)


class Stages(_Lines):
    """``{stages}``."""

    lines = staticmethod(stage_lines)


class Kinds(_Lines):
    """``{kinds}``."""

    lines = staticmethod(kind_lines)


def escape_asterisks(_app: Sphinx, _context: Any, lines: list[str]) -> None:
    """Keep the asterisks of a command's help, which is plain text."""
    lines[:] = [line.replace("*", "\\*") for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.setup_extension("sphinx_click")
    app.add_directive("stages", Stages)
    app.add_directive("kinds", Kinds)
    for part in ("description", "options", "arguments"):
        app.connect(f"sphinx-click-process-{part}", escape_asterisks)
    return {"parallel_read_safe": True}
