"""What has been made of a set of concepts: pictures, names, scores, matches, decisions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from registry.catalog.access import Catalog
from registry.declare.cells import Cell
from registry.plan.project import MissingInputsError, Project
from registry.record.states import State

MOST_LOOKED_AT = 30
"""Cells that are looked for on the disk before a page begins with nothing."""


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
    for index, cell in enumerate(cells[:MOST_LOOKED_AT]):
        with suppress(MissingInputsError):
            catalog.path(cell)
            return index
    return 0


def maker_of(catalog: Catalog, cell: str, schema: str) -> str:
    """Return the cell that makes a dataset of a schema from another cell; "" if none does."""
    makers = cells_of(catalog.project, schema, made_from=cell)
    return makers[first_made(catalog, makers)] if makers else ""


def is_damaged(project: Project, cell: str) -> bool:
    """Return whether there is a dataset of a cell, which is not as it was written."""
    one = project.graph.cells[cell]
    known = project.fingerprints(project.graph, cell)
    return project.store.state(one.experiment, known[cell]).status is State.DAMAGED


def autoencoder_of(project: Project, cell: str) -> str:
    """Return the cell of the SAE whose concepts a cell measures; "" for a layer's own channels."""
    name = project.graph.cells[cell].needs.get("sae", "")
    return name if name in project.graph.cells else ""


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
