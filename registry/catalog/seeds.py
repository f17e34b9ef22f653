"""Cells that differ in their seed alone, as one setting: their results, and which are missing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from registry.declare.cells import Cell
from registry.declare.declared import Reference, SelectionError, parse_reference
from registry.declare.stage import find_stage
from registry.plan.project import MissingInputsError, Project
from registry.replicates import SEED, Replicated, Replicates, ReplicatesError
from registry.store.datasets import open_dataset
from registry.store.manifest import read_manifest
from registry.store.schema import SchemaError
from registry.store.shards import scalar_value
from registry.suggest import nearest

EXPERIMENT = "experiment"
"""What is named instead of an axis where each name's experiments are its replicates."""


@dataclass(frozen=True)
class SeededName:
    """The name of a cell, apart into what was asked and the seeds that it was asked with.

    Attributes
    ----------
    setting : str
        The cell without its seeds, as ``fashion-matching[k=8]``.
    seeds : mapping
        The value of each seed by its label, that of what is made first coming first; empty where
        the cell has none.
    """

    setting: str
    seeds: Mapping[str, Any]

    @property
    def unit(self) -> Any:
        """The seed that counts as one replicate: that of what is made first; "" where none is."""
        return next(iter(self.seeds.values()), "")


def seeded_name(cell: str, over: str = SEED) -> SeededName:
    """Return the parts of a cell's name.

    Parameters
    ----------
    cell : str
        As ``fashion-matching[k=8,seed=1]``; any other name is a setting without seeds.
    over : str
        The axis that is a seed, in whatever experiment it was declared: ``seed`` is
        ``fashion-sae.seed`` too.
    """
    with suppress(SelectionError):
        name = parse_reference(cell)
        seeds = {label: value for label, value in name.values if is_seed(label, over)}
        rest = tuple((label, value) for label, value in name.values if label not in seeds)
        return SeededName(str(Reference(name.name, rest)), seeds)
    return SeededName(cell, {})


def is_seed(label: str, over: str = SEED) -> bool:
    """Return whether an axis is the one that is meant, by its name or by its key."""
    return label == over or label.endswith(f".{over}")


def over_seeds(
    project: Project,
    names: Sequence[str],
    *,
    over: str = SEED,
    results: Sequence[str] = (),
    confidence: float = 0.95,
) -> Replicates:
    """Return the results of cells over seeds; see :meth:`registry.Catalog.over_seeds`."""
    settings = _settings(project, names, over)
    cells = list({cell.name: cell for own in settings.values() for cell in own}.values())
    known = {label for cell in cells for label in cell.values}
    if over not in (SEED, EXPERIMENT) and not any(is_seed(label, over) for label in known):
        raise ReplicatesError(f"no axis {over[:100]!r} in what was named{nearest(over, known)}")
    found = {cell.name: _numbers(project, cell, bool(results)) for cell in cells}
    shown = _chosen([own for own in found.values() if own is not None], results)
    made = tuple(_setting(name, own, found, shown, over) for name, own in settings.items())
    return Replicates(made, confidence, tuple(_remarks(cells, over)), over)


def _settings(project: Project, names: Sequence[str], over: str) -> dict[str, list[Cell]]:
    """Return the cells of each setting, every cell once.

    ReplicatesError: experiments that are to be replicates are of several stages.
    """
    settings: dict[str, dict[str, Cell]] = {}
    for name in names:
        for cell in project.graph.select([name]):
            settings.setdefault(_setting_of(cell, name, over), {})[cell.name] = cell
    for setting, cells in settings.items():
        stages = sorted({cell.stage for cell in cells.values()})
        if over == EXPERIMENT and len(stages) > 1:
            raise ReplicatesError(f"{setting}: of {' and '.join(stages)}; expected one stage")
    return {setting: list(cells.values()) for setting, cells in settings.items()}


def _setting_of(cell: Cell, name: str, over: str) -> str:
    if over == EXPERIMENT:
        return str(Reference(name, tuple(cell.values.items())))
    return seeded_name(cell.name, over).setting


def _setting(
    name: str,
    cells: Iterable[Cell],
    found: Mapping[str, Mapping[str, float] | None],
    shown: Collection[str],
    over: str,
) -> Replicated:
    rows, missing, kind = [], [], ""
    for cell in cells:
        numbers, kind = found[cell.name], cell.stage
        if numbers is None:
            missing.append(cell.name)
        else:
            held = {result: numbers[result] for result in shown if result in numbers}
            unit = cell.experiment if over == EXPERIMENT else seeded_name(cell.name, over).unit
            rows.append((unit, held))
    return Replicated.of(name, rows, missing, kind)


def _remarks(cells: Iterable[Cell], over: str) -> Iterable[str]:
    several = {}
    for cell in cells:
        labels = list(seeded_name(cell.name, over).seeds)
        if len(labels) > 1:
            several[cell.experiment] = labels
    for experiment, (first, *others) in several.items():
        yield (
            f"{experiment}: n counts the values of {first}, which comes first; results are means "
            f"over {', '.join(others)}."
        )


# -- numbers of a cell -------------------------------------------------------------------------


def _numbers(project: Project, cell: Cell, with_tables: bool) -> dict[str, float] | None:
    """Return the numbers of a cell's current dataset by name; None where it has no whole one."""
    try:
        folder = project.current(cell.name)
    except MissingInputsError:
        return None
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    scalars = {name: scalar_value(entry) for name, entry in manifest["scalars"].items()}
    numbers = {
        name: float(value)
        for name, value in scalars.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if not with_tables:  # a result that only repeats what was asked says nothing
        return {name: value for name, value in numbers.items() if cell.config.get(name) != value}
    return numbers | _table_numbers(folder, cell.stage)


def _table_numbers(folder: Path, stage_name: str) -> dict[str, float]:
    stage = find_stage(stage_name)
    if stage is None or not stage.table_paths:
        return {}
    with open_dataset(folder) as stored:
        dataset = stored
        with suppress(SchemaError):
            dataset = stage.output.upgrade(stored)
        tables = [table.numbers(dataset) for table in stage.tables()]
        return {name: value for numbers in tables for name, value in numbers.items()}


def _chosen(found: Sequence[Mapping[str, float]], patterns: Sequence[str]) -> list[str]:
    """Return the results that patterns name; by default those that are not the same in all cells.

    ReplicatesError: a pattern names none.
    """
    known = list(dict.fromkeys(name for numbers in found for name in numbers))
    if not patterns:
        return [name for name in known if len(found) == 1 or _differs(found, name)]
    for pattern in patterns:
        if found and not any(fnmatchcase(name, pattern) for name in known):
            raise ReplicatesError(f"no result {pattern[:100]!r}{nearest(pattern, known)}")
    return [name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _differs(found: Iterable[Mapping[str, float]], name: str) -> bool:
    return len({repr(numbers.get(name)) for numbers in found}) > 1
