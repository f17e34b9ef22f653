"""A finished run that is shown, and what experiments.toml now asks for in its place."""

from __future__ import annotations

from dataclasses import dataclass

from dashboards.views.parts.text import setting_text
from dashboards.views.runs.advice import run_command
from dashboards.views.runs.settings import chosen_of
from registry.catalog.access import Catalog
from registry.catalog.lineage import Entry, Lineage, started_of
from registry.plan.project import MissingInputsError
from registry.plan.task import Change

MOST_TWINS = 60
"""Cells that are compared with one that is declared no more."""


@dataclass(frozen=True)
class Divergence:
    """How what is shown differs from what is now asked for.

    Attributes
    ----------
    title : str
        In one line.
    lines : tuple of str
        Each thing that differs, with both sides.
    over : str
        Name of what is asked for, where that is there; else "".
    command : str
        What makes it, where it is not; else "".
    absence : str
        Why it is not there.
    """

    title: str
    lines: tuple[str, ...] = ()
    over: str = ""
    command: str = ""
    absence: str = ""


def divergence(catalog: Catalog, lineage: Lineage, entry: Entry) -> Divergence | None:
    """Return what a page says above a dataset; None where it is just what a cell asks for.

    Parameters
    ----------
    catalog : Catalog
        Of the project.
    lineage : Lineage
        What there is.
    entry : Entry
        What is shown.
    """
    if entry.is_current:
        return _recomputed(lineage, entry)
    day = f"the run of {started_of(entry.run):%Y-%m-%d %H:%M:%S} UTC"
    if entry.cell not in lineage.graph.cells:
        return _undeclared(catalog, lineage, entry, day)
    lines = _changes(catalog, entry.cell, entry.fingerprint)
    over, command, absence = _asked_for(catalog, lineage, entry.cell)
    if lines:
        title = f"This is {day}, not what experiments.toml now asks for as {entry.cell}"
        return Divergence(title, tuple(lines), over, command, absence)
    if over:
        title = f"This is {day}; a newer run of the same configuration has taken its place"
        return Divergence(title, (), over)
    return Divergence(f"This is {day} of {entry.cell}", (), "", command, absence)


def _recomputed(lineage: Lineage, entry: Entry) -> Divergence | None:
    """Return what to say of what a cell asks for, where its inputs were made again since."""
    declared = lineage.graph.cells[entry.cell].needs
    used = ((slot, lineage.entries.get(name)) for slot, name in entry.needs.items())
    lines = tuple(
        f"input {slot} is of an earlier run, {other.title}"
        for slot, other in used
        if other is not None and not other.is_current
        if lineage.is_made(declared.get(slot, ""))
    )
    title = f"What {entry.cell} was made from has been made again since, to other bits"
    return Divergence(title, lines, "", run_command(entry.cell)) if lines else None


def _undeclared(catalog: Catalog, lineage: Lineage, entry: Entry, day: str) -> Divergence:
    """Return what to say of a run whose cell is not declared: perhaps it has another name now."""
    title = f"This is {day}; experiments.toml does not declare {entry.cell} any more"
    alike = [
        cell.name
        for cell in lineage.graph.cells.values()
        if cell.provides == entry.provides and entry.stage in ("", cell.stage)
    ][:MOST_TWINS]
    known = catalog.project.known_fingerprints(alike)
    twin = next((name for name in alike if known[name] == entry.fingerprint), "")
    if not twin:
        return Divergence(title)
    over, command, absence = _asked_for(catalog, lineage, twin)
    return Divergence(title, (f"{twin} now asks for the same",), over, command, absence)


def _asked_for(catalog: Catalog, lineage: Lineage, cell: str) -> tuple[str, str, str]:
    """Return where what a cell asks for is, or the command that makes it, and why it is not."""
    if lineage.is_made(cell):
        return cell, "", ""
    try:
        catalog.path(cell)
    except MissingInputsError as error:
        return "", error.command, str(error).removesuffix(f"; {error.command}")
    return cell, "", ""


def _changes(catalog: Catalog, cell: str, fingerprint: str) -> list[str]:
    """Return in what a cell as it is declared now differs from an earlier task of it."""
    return [
        line
        for reason in catalog.project.changes_since(cell, fingerprint)
        for line in ([_both_sides(change) for change in reason.changes] or [reason.text])
    ]


def way_back(catalog: Catalog, cell: str, fingerprint: str) -> list[str]:
    """Return in lines how a dataset that is gone can be made again, as a command follows them.

    Parameters
    ----------
    catalog : Catalog
        Of the project.
    cell, fingerprint : str
        Of the run that made it.
    """
    if cell not in catalog.project.graph.cells:
        return [f"experiments.toml does not declare {cell} any more; where it does again:"]
    changes = _changes(catalog, cell, fingerprint)
    lines = ["To make it again, declare what it was made by, then run it:", *changes]
    lines = lines if changes else ["This makes it again:"]
    cells = catalog.project.graph.cells
    if cells.keys() & set(cells[cell].needs.values()):
        lines.append("One command is enough: what it needs, and is gone too, is made before it.")
    return lines


def _both_sides(change: Change) -> str:
    if change.difference:
        return f"{change.key}: now {change.difference}"
    return f"{change.key}: {_side(change.old)} in this run, {_side(change.new)} now"


def _side(value: str | None) -> str:
    return "unset" if value is None else setting_text(value)


def divergence_beside(
    catalog: Catalog, lineage: Lineage, name: str, entry: Entry
) -> Divergence | None:
    """Return what to say of something that is shown beside a dataset, and was made from that.

    Parameters
    ----------
    catalog : Catalog
        Of the project.
    lineage : Lineage
        What there is.
    name : str
        What the page is about.
    entry : Entry
        What is shown beside it.

    Returns
    -------
    Divergence or None
        None where nothing newer is there, and nothing else is asked for.
    """
    others = [other.name for other in lineage.made_from(name) if other.cell == entry.cell]
    best = chosen_of(lineage.preferring(()), others)
    found = divergence(catalog, lineage, entry)
    if best and best != entry.name and lineage.is_made(best):
        lines = found.lines if found else ()
        return Divergence(f"of an earlier run of {entry.cell}", lines, best)
    declared = lineage.entries.get(entry.cell)
    if found is None or declared is None or declared.name not in others:
        return None
    title = f"of an earlier run of {entry.cell}"
    if entry.is_current:
        title = "made from what has been made again since"
    return Divergence(title, found.lines, "", found.command, found.absence)
