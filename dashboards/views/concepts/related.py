"""What has been made of a set of concepts: pictures, names, scores, matches, decisions."""

from __future__ import annotations

from registry.declare.cells import Cell
from registry.plan.project import Project
from registry.record.states import State


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


def made_directly(project: Project, cell: str, schema: str) -> list[str]:
    """Return the cells that make a dataset of a schema and need a cell by its name."""
    return [
        one.name
        for one in project.graph.cells.values()
        if one.provides == schema and cell in one.needs.values()
    ]


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
