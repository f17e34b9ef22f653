"""``factbook kinds`` and ``stages``: all that can be declared, with keys and snippets to paste."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatch
from functools import wraps
from typing import Any

import click
from rich.markup import escape

from registry.commands.tasks import HELP
from registry.declare.declaration import find_declaration, parse_tables, read_text
from registry.declare.described import Declarable, Key, described_kinds, described_stages
from registry.declare.faults import DeclarationError
from registry.declare.plugins import load_plugins, plugin_packages
from registry.suggest import RefusalError, nearest
from registry.terminal import out, print_table


class UnknownNameError(RefusalError):
    """A kind or stage that nobody registered."""


def _choice(what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the arguments by which kinds or stages are chosen and shown."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @click.argument("names", nargs=-1)
        @click.option("--all", "everything", is_flag=True, help=f"Show every key of all {what}.")
        @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
        @wraps(command)
        def with_choice(**options: Any) -> None:
            command(**options)

        return with_choice

    return decorate


@click.command(context_settings=HELP)
@_choice("kinds")
def kinds(names: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """List the kinds of datasets, networks, … that there are.

    NAMES or patterns, as 'image-*', show every key with its type and default, and a table to paste.
    Kinds of the plug-ins of the current folder's project are among them.
    """
    _load_all()
    _show(list(described_kinds()), names, everything, as_json)


@click.command(context_settings=HELP)
@_choice("stages")
def stages(names: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """List the stages: what an experiment can do.

    NAMES or patterns, as 'train_sae' or '*concepts', show every key with its type and default, and
    a table to paste. Stages of the plug-ins of the current folder's project are among them.
    """
    _load_all()
    _show(list(described_stages(*sorted(plugin_packages()))), names, everything, as_json)


def _load_all() -> None:
    """Load installed plug-ins and those of a project around, whatever else is wrong with it."""
    modules: tuple[str, ...] = ()
    try:
        file = find_declaration()
        declared = parse_tables(read_text(file), file).get("project", {}).get("plugins", [])
        modules = tuple(map(str, declared))
        sys.path.append(str(file.parent))
    except (DeclarationError, AttributeError, TypeError):  # no project, or one with faults
        pass
    load_plugins(modules)


def _show(known: list[Declarable], names: tuple[str, ...], everything: bool, as_json: bool) -> None:
    chosen = list(_chosen(known, names))
    if as_json:
        click.echo(json.dumps([_plain(entry) for entry in chosen], indent=2, ensure_ascii=False))
    elif everything or names:
        for entry in chosen:
            _print_whole(entry)
    else:
        _print_overview(chosen)


def _chosen(known: list[Declarable], names: tuple[str, ...]) -> Iterator[Declarable]:
    """Yield what the names or patterns mean; the last part of a stage's name is enough."""

    def is_meant(entry: Declarable, name: str) -> bool:
        return any(fnmatch(text, name) for text in (entry.name, entry.name.rpartition(".")[2]))

    for name in names:
        if not any(is_meant(entry, name) for entry in known):
            tail = nearest(name, (entry.name for entry in known))
            raise UnknownNameError(f"nothing is called {name!r}{tail}")
    yield from (e for e in known if not names or any(is_meant(e, name) for name in names))


def _plain(entry: Declarable) -> dict[str, Any]:
    return dataclasses.asdict(entry) | {
        "optional": sorted(entry.optional),
        "snippet": entry.snippet,
    }


def _print_overview(entries: Iterable[Declarable]) -> None:
    entries = list(entries)
    is_of_stages = all(entry.family == "experiments" for entry in entries)
    columns: tuple[str, ...] = ("stage", "makes", "asks for", "")
    rows = [(e.name, e.makes, ", ".join(_required(e)), e.doc.replace("``", "`")) for e in entries]
    if is_of_stages:
        print_table(columns, rows)
    else:
        families = ((entry.family, *row) for entry, row in zip(entries, rows, strict=True))
        print_table(("table", "kind", *columns[1:]), families)
    word = "stages" if is_of_stages else "kinds"
    out.print(f"\nfactbook {word} NAME shows every key and a table to paste; --all, of all {word}")


def _required(entry: Declarable) -> Iterator[str]:
    """Yield what has to be given: slots, then keys."""
    yield from (f"{slot}?" if slot in entry.optional else slot for slot in entry.needs)
    yield from (key.name for key in entry.keys if key.is_required)


def _print_whole(entry: Declarable) -> None:
    out.print(escape(entry.name), style="bold")
    out.print(escape(entry.doc.replace("``", "`")))
    needs = "; ".join(entry.fillings())
    out.print(escape(f"needs {needs}" if needs else f"table [{entry.family}.…]"), style="dim")
    out.print(f"makes {entry.makes}", style="dim")
    if entry.cut_by:
        out.print(f"can be cut into parts, by {entry.cut_by}", style="dim")
    if keys := (*entry.keys, *entry.common):
        out.print()
        print_table(("key", "type", "default", ""), map(_row, keys))
    out.print()
    click.echo(entry.snippet)


def _row(key: Key) -> tuple[str, ...]:
    meaning = key.meaning.replace("``", "`")
    note = " (changes no result)" if key.is_runtime else ""
    default = key.default or "required"
    return (
        key.name,
        key.type,
        default if len(default) <= 48 else f"{default[:46]} …",
        meaning + note,
    )
