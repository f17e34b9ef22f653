"""Which cells make what: those that a page of results offers, and what was made of concepts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from registry.catalog.access import Catalog
from registry.declare.cells import Cell
from registry.plan.project import MissingInputsError, Project

MOST_LOOKED_AT = 60
"""Cells that are looked for on the disk before a page begins with nothing."""


def is_made(catalog: Catalog, cell: str) -> bool:
    """Return whether a cell has a whole dataset."""
    with suppress(MissingInputsError):
        catalog.path(cell)
        return True
    return False


def settings_of(project: Project, schema: str) -> list[str]:
    """Return the cells that make datasets of a schema; before those of a matrix its experiment.

    Parameters
    ----------
    project : Project
        What is declared.
    schema : str
        Name of the schema, as ``matching``.
    """
    settings: list[str] = []
    for experiment, cells in project.graph.by_experiment.items():
        names = [cell.name for cell in cells if cell.provides == schema]
        settings += [experiment, *names] if len(names) > 1 else names
    return settings


def cells_meant(project: Project, settings: Iterable[str]) -> list[str]:
    """Return the cells that settings stand for, each once; an experiment for all of its cells."""
    graph = project.graph
    meant: dict[str, None] = {}
    for setting in settings:
        cells = graph.by_experiment.get(setting, ())
        meant.update(dict.fromkeys([cell.name for cell in cells] or [setting]))
    return list(meant)


def first_settings(catalog: Catalog, settings: Sequence[str], together: int = 1) -> list[str]:
    """Return with which settings to begin: the first that has a dataset, and others like it.

    What some other experiment needs comes before what none does: verdicts on metrics that names
    stand beside, before those that nothing rests on.

    Parameters
    ----------
    catalog : Catalog
        Where datasets are looked up.
    settings : sequence of str
        As :func:`settings_of` returns them, at least one.
    together : int
        How many, at most. Others are like the first if they are made from the same inputs, so
        that they differ in their configuration alone.
    """
    needed = _needed(catalog.project)
    order = sorted(settings, key=lambda setting: setting not in needed)
    made = (
        setting
        for setting in order[:MOST_LOOKED_AT]
        if any(
            is_made(catalog, cell)
            for cell in cells_meant(catalog.project, [setting])[:MOST_LOOKED_AT]
        )
    )
    first = next(made, None)
    if first is None:
        return [settings[0]]
    needs = _needs(catalog.project, first)
    others = (name for name in made if together > 1 and _needs(catalog.project, name) == needs)
    return [first, *(name for name, _ in zip(others, range(together - 1), strict=False))]


def _needed(project: Project) -> set[str]:
    """Return the cells and experiments that some cell needs."""
    cells = project.graph.cells
    named = {name for cell in cells.values() for name in cell.needs.values()}
    return named | {cells[name].experiment for name in named if name in cells}


def _needs(project: Project, setting: str) -> dict[str, str]:
    return dict(project.cell(cells_meant(project, [setting])[0]).needs)


def behind(project: Project, cell: str, schema: str) -> str:
    """Return the nearest cell of a schema that a cell is made from, "" if there is none."""
    cells = project.graph.cells
    level = [cell]
    while level:
        needed = [name for name in level if name in cells for name in cells[name].needs.values()]
        found = next((n for n in needed if n in cells and cells[n].provides == schema), "")
        if found:
            return found
        level = list(dict.fromkeys(needed))
    return ""


# -- what was made of a set of concepts ----------------------------------------------------------


def made_of(project: Project, cell: str, schema: str) -> list[str]:
    """Return the cells that make a dataset of a schema from a cell, through any number of steps.

    Parameters
    ----------
    project : Project
        What is declared.
    cell : str
        What they rest on.
    schema : str
        Name of the schema, as ``consistency``.
    """
    resting = {cell}
    found = []
    for one in project.graph.cells.values():  # each after those that it needs
        if resting.intersection(one.needs.values()):
            resting.add(one.name)
            if one.provides == schema:
                found.append(one.name)
    return found


def cells_of(project: Project, schema: str, made_from: str = "") -> list[str]:
    """Return the cells that make a dataset of a schema, of those made from a cell if it is named.

    Parameters
    ----------
    project : Project
        What is declared.
    schema : str
        Name of the schema, as ``gallery``.
    made_from : str
        A cell that they need directly.
    """
    return [
        cell.name
        for cell in project.graph.cells.values()
        if cell.provides == schema and (not made_from or made_from in cell.needs.values())
    ]


def first_made(catalog: Catalog, cells: Sequence[str]) -> int:
    """Return the index of the first of these cells that has a whole dataset; 0 if none has."""
    looked_at = enumerate(cells[:MOST_LOOKED_AT])
    return next((index for index, cell in looked_at if is_made(catalog, cell)), 0)


def maker_of(catalog: Catalog, cell: str, schema: str) -> str:
    """Return the cell that makes a dataset of a schema from another cell; "" if none does."""
    makers = cells_of(catalog.project, schema, made_from=cell)
    return makers[first_made(catalog, makers)] if makers else ""


def autoencoder_of(project: Project, cell: str) -> str:
    """Return the cell of the SAE whose concepts a cell measures; "" for a layer's own channels."""
    name = project.graph.cells[cell].needs.get("sae", "")
    return name if name in project.graph.cells else ""


def fidelities_of(project: Project, autoencoder: str) -> list[str]:
    """Return the cells that measure the fidelity of an SAE; none of no SAE."""
    return cells_of(project, "fidelity", made_from=autoencoder) if autoencoder else []


def other_set(matching: Cell, cell: str, sae: str = "") -> tuple[str, bool] | None:
    """Return what a set of concepts is matched with, and whether it is itself the first of both.

    Parameters
    ----------
    matching : Cell
        Of a ``matching`` dataset.
    cell, sae : str
        The set of concepts, and its SAE, which may have been matched in its place.

    Returns
    -------
    pair of str and bool, or None
        None where the set is neither of both.
    """
    one, other = matching.needs.get("one", ""), matching.needs.get("other", "")
    own = {name for name in (cell, sae) if name}
    if one in own:
        return other, True
    return (one, False) if other in own else None
