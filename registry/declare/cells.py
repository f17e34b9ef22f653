"""Declarations to a graph of cells: the fan-out of matrices, and the choice of cells by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from registry.declare.declared import (
    CELL,
    Axis,
    Declaration,
    Experiment,
    Need,
    Picks,
    SelectionError,
    format_value,
)
from registry.declare.settings import KeyRules


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of an experiment's matrix; an experiment without axes is one cell.

    Attributes
    ----------
    name : str
        ``fashion-sae[k=8,seed=1]``, or the experiment's name.
    experiment, stage, version, provides : str, str, int, str
        Of its experiment.
    config : mapping
        The whole configuration as plain JSON values.
    rules : KeyRules
        What of it enters the fingerprint, and how its keys were spelled.
    values : mapping
        The value of each axis, by label, inherited axes too.
    needs : mapping of str to str
        Slot to the name of the cell or the resource that fills it.
    former_stages : tuple of str
        Names that the stage had before.
    former_name : str
        Name that the cell had when keys of axes had their first names; "" if it is the same.
    aside : bool
        Whether its stage reads of data what others do not.
    """

    name: str
    experiment: str
    stage: str
    version: int
    provides: str
    config: Mapping[str, Any]
    rules: KeyRules
    values: Mapping[str, Any]
    needs: Mapping[str, str]
    former_stages: tuple[str, ...] = ()
    former_name: str = ""
    aside: bool = False

    @property
    def result_config(self) -> dict[str, Any]:
        """What of the configuration enters the fingerprint, under frozen names."""
        return self.rules.hashed(self.config)


@dataclass(frozen=True)
class Graph:
    """Every cell of a declaration.

    Attributes
    ----------
    declaration : Declaration
        Where the cells come from.
    cells : mapping of str to Cell
        By name, each after those that it needs.
    by_experiment : mapping of str to tuple of Cell
        The cells of each experiment, the last axis running fastest.
    """

    declaration: Declaration
    cells: Mapping[str, Cell]
    by_experiment: Mapping[str, tuple[Cell, ...]]

    def behind(self, names: Iterable[str]) -> set[str]:
        """Return the names of cells and of all, resources too, that they rest on."""
        needed = set(names)
        for cell in reversed(tuple(self.cells.values())):
            if cell.name in needed:
                needed.update(cell.needs.values())
        return needed

    def select(self, texts: Iterable[str] = ()) -> tuple[Cell, ...]:
        """Return the cells that names, patterns, suites and partial cells mean.

        Parameters
        ----------
        texts : iterable of str
            ``fashion-sae`` (all its cells), ``fashion-sae[k=8]`` (those with this k),
            ``shapes-*``, the name of a suite. None at all means every cell.

        Returns
        -------
        tuple of Cell
            Each once, after those that it needs.

        Raises
        ------
        SelectionError
            With what every text that selects nothing has wrong.
        """
        texts = list(texts)
        chosen: set[str] = set() if texts else set(self.cells)
        errors = []
        for text in texts:
            try:
                chosen.update(cell.name for cell in self._cells_of(text))
            except SelectionError as error:
                errors.append(str(error))
        if errors:
            raise SelectionError("\n".join(errors))
        return tuple(cell for cell in self.cells.values() if cell.name in chosen)

    def select_one(self, text: str) -> Cell:
        """Return the one cell that a name means.

        Raises
        ------
        SelectionError
            If it means none, or several: then they are listed.
        """
        cells = self.select([text])
        if len(cells) == 1:
            return cells[0]
        names = "".join(f"\n  {cell.name}" for cell in cells[:8])
        more = f"\n  … and {len(cells) - 8} more" if len(cells) > 8 else ""
        raise SelectionError(f"{text!r} means {len(cells)} cells; name one of{names}{more}")

    def _cells_of(self, text: str) -> Iterator[Cell]:
        if text in self.cells:
            yield self.cells[text]
            return
        for member in self.declaration.suites.get(text, (text,)):
            for experiment, picks in self.declaration.match(member):
                yield from self._picked(experiment, picks)

    def _picked(self, experiment: Experiment, picks: Picks) -> Iterator[Cell]:
        cells, axes = self.by_experiment[experiment.name], experiment.axes
        steps = [
            [stride * index for index in _chosen(axis, pick)]
            for axis, stride, pick in zip(axes, _strides(axes), picks, strict=True)
        ]
        yield from (cells[sum(point)] for point in product(*steps))


def expand(declaration: Declaration) -> Graph:
    """Return the graph of every cell that a declaration has.

    An experiment has a cell for each point of the product of its axes: those that it inherits
    from what it needs, and its own. Two needs that inherit the same axis, by origin and key, are
    aligned on it. Cells with names are one axis; own settings for inherited ones choose among them.
    """
    by_experiment: dict[str, tuple[Cell, ...]] = {}
    for name in declaration.order:
        experiment = declaration.experiments[name]
        by_experiment[name] = tuple(_cells(experiment, declaration, by_experiment))
    cells = {cell.name: cell for row in by_experiment.values() for cell in row}
    return Graph(declaration, cells, by_experiment)


def _cells(
    experiment: Experiment, declaration: Declaration, by_experiment: Mapping[str, Sequence[Cell]]
) -> Iterator[Cell]:
    labels = experiment.labels
    names = _names(experiment, labels)
    former_labels = [
        label.removesuffix(axis.key) + axis.former_key if axis.former_key else label
        for label, axis in zip(labels, experiment.axes, strict=True)
    ]
    former = [] if former_labels == list(labels) else _names(experiment, former_labels)
    slots = [need.slot for need in experiment.needs]
    filled = [
        _fill(experiment, need, declaration, by_experiment, len(names)) for need in experiment.needs
    ]
    points = product(*(axis.values for axis in experiment.axes))
    for index, (name, point) in enumerate(zip(names, points, strict=True)):
        yield Cell(
            name,
            experiment.name,
            experiment.stage,
            experiment.version,
            experiment.provides,
            experiment.configs[index % len(experiment.configs)],  # own axes run fastest
            experiment.rules,
            dict(zip(labels, point, strict=True)),
            {slot: column[index] for slot, column in zip(slots, filled, strict=True)},
            experiment.former_stages,
            former[index] if former else "",
            experiment.aside,
        )


def _chosen(axis: Axis, pick: int | tuple[int, ...] | None) -> Sequence[int]:
    if pick is None:
        return range(len(axis.values))
    return (pick,) if isinstance(pick, int) else pick


def _names(experiment: Experiment, labels: Iterable[str]) -> list[str]:
    parts = [
        [f"{label}={format_value(value)}" for value in axis.values]
        for label, axis in zip(labels, experiment.axes, strict=True)
    ]
    if not parts:
        return [experiment.name]
    return [f"{experiment.name}[{','.join(point)}]" for point in product(*parts)]


def _fill(
    experiment: Experiment,
    need: Need,
    declaration: Declaration,
    by_experiment: Mapping[str, Sequence[Cell]],
    count: int,
) -> list[str]:
    """Return the name of what fills a slot, for each cell of the experiment."""
    if need.by_cell:
        filled = [_named(one, declaration, by_experiment) for one in need.by_cell]
        position = [axis.key for axis in experiment.axes].index(CELL)
        places = product(*(range(len(axis.values)) for axis in experiment.axes))
        return [filled[place[position]] for place in places]
    if need.name in declaration.resources:
        return [need.name] * count
    cells, axes = by_experiment[need.name], declaration.experiments[need.name].axes
    start = _start(need, axes)
    free = {
        axis.identity: (axis, stride)
        for axis, stride, pick in zip(axes, _strides(axes), need.picks, strict=True)
        if pick is None
    }
    steps = [_steps(axis, *free.get(axis.identity, (axis, 0))) for axis in experiment.axes]
    return [cells[sum(point, start)].name for point in product(*steps)]


def _named(
    need: Need, declaration: Declaration, by_experiment: Mapping[str, Sequence[Cell]]
) -> str:
    """Return the resource or the cell that a need of one named cell means."""
    if need.name in declaration.resources:
        return need.name
    return by_experiment[need.name][_start(need, declaration.experiments[need.name].axes)].name


def _start(need: Need, axes: Sequence[Axis]) -> int:
    """Return where the first cell stands that has the values which a need names."""
    picked = zip(_strides(axes), need.picks, strict=True)
    return sum(stride * pick for stride, pick in picked if isinstance(pick, int))


def _steps(axis: Axis, source: Axis, stride: int) -> list[int]:
    """Return how far each value leads along the source's axis, of which it may be a part.

    An axis that the source does not have (a stride of 0) leaves it where it is.
    """
    values = axis.values
    places = map(source.values.index, values) if axis.key == CELL else range(len(values))
    return [stride * place for place in places]


def _strides(axes: Sequence[Axis]) -> list[int]:
    """Return how far apart neighbours along each axis stand, the last axis running fastest."""
    return [math.prod(len(a.values) for a in axes[index + 1 :]) for index in range(len(axes))]
