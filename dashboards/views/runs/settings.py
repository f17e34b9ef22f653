"""Which settings a page of results offers, what each stands for, and with which it begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from registry.catalog.access import Catalog
from registry.plan.project import MissingInputsError, Project

MOST_LOOKED_AT = 60
"""Cells that are looked for on the disk before a page begins with nothing."""


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
    made = _made(catalog, order[:MOST_LOOKED_AT])
    first = next(made, None)
    if first is None:
        return [settings[0]]
    needs = _needs(catalog.project, first)
    others = (name for name in made if together > 1 and _needs(catalog.project, name) == needs)
    return [first, *(name for name, _ in zip(others, range(together - 1), strict=False))]


def _made(catalog: Catalog, settings: Sequence[str]) -> Iterator[str]:
    for setting in settings:
        for cell in cells_meant(catalog.project, [setting])[:MOST_LOOKED_AT]:
            with suppress(MissingInputsError):
                catalog.path(cell)
                yield setting
                break


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
