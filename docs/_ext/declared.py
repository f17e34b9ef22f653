"""Directives ``stages`` and ``kinds``: all that can be declared, read from the code."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import registry
from registry.declare.plugins import families, kinds, load_plugins
from registry.declare.settings import Settings
from registry.declare.stage import known_stages, load_stage


def key_rows(settings: Settings) -> Iterator[str]:
    """Yield a Markdown table of the keys of a configuration."""
    if not settings.keys:
        return
    meaning = parameters_of(settings.cls)
    defaults = settings.defaults()
    required = {
        entry.name
        for entry in dataclasses.fields(settings.cls)
        if entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
    }
    yield "| key | default | |"
    yield "|---|---|---|"
    for key in settings.keys:
        default = "required" if key in required else f"`{short(json.dumps(defaults[key]))}`"
        note = "" if key not in settings.rules.runtime else " *(changes no result)*"
        yield f"| `{key}` | {default} | {meaning.get(key, '')}{note} |"
    yield ""


def short(text: str, most: int = 48) -> str:
    """Return a text of at most ``most`` characters."""
    return text if len(text) <= most else f"{text[: most - 2]} …"


def parameters_of(cls: type) -> dict[str, str]:
    """Return what the docstrings of a class and its bases say of each parameter, on one line."""
    text = inspect.cleandoc(cls.__doc__ or "")
    _, _, text = text.partition("Parameters\n----------\n")
    text = text.split("\n\n")[0]
    found: dict[str, str] = {}
    names: list[str] = []
    for line in text.splitlines():
        if line and not line.startswith(" "):
            names = [name.strip() for name in line.split(" : ")[0].split(",")]
            kind = line.partition(" : ")[2]
            found |= dict.fromkeys(names, f"{kind}.")
        else:
            for name in names:
                found[name] = f"{found[name]} {line.strip()}"
    inherited = parameters_of(cls.__base__) if cls.__base__ else {}
    return inherited | {
        name: re.sub(r"``([^`]+)``", r"`\1`", text).replace("|", "\\|")
        for name, text in found.items()
    }


def stage_lines() -> Iterator[str]:
    """Yield the stages of the installed packages, in Markdown."""
    load_plugins()
    for name in known_stages():
        stage = load_stage(name)
        yield f"### `{name}`"
        yield ""
        yield stage.doc
        yield ""
        slots = [
            f"`{slot.name}`: {' or '.join(f'`{kind}`' for kind in slot.kinds)}"
            + (" *(optional)*" if slot.is_optional else "")
            for slot in stage.slots.values()
        ]
        yield f"Needs {'; '.join(slots) or 'nothing'}. Makes `{stage.output.name}`."
        yield ""
        yield from key_rows(stage.settings)


def kind_lines() -> Iterator[str]:
    """Yield the kinds of datasets and networks, in Markdown."""
    load_plugins()
    for family in families():
        for name, kind in kinds(family).items():
            yield f'### `[{family}.…] kind = "{name}"`'
            yield ""
            yield (inspect.getdoc(kind.settings.cls) or "").split("\n\n")[0].replace("``", "`")
            yield ""
            yield f"Provides `{kind.provides}`."
            yield ""
            yield from key_rows(kind.settings)


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
