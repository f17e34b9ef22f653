"""TOML to frozen, validated declarations; every fault of a file is listed at once."""

from __future__ import annotations

import heapq
import itertools
import math
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from registry.declare.declared import (
    CELL,
    Axis,
    Declaration,
    Experiment,
    Need,
    Reference,
    SelectionError,
    format_value,
    parse_reference,
)
from registry.declare.faults import (
    DEEPEST,
    ConfigError,
    DeclarationError,
    Fault,
    FaultList,
    KeyPath,
    is_too_deep,
)
from registry.declare.stage import Slot, Stage
from registry.declare.tables import Draft, DraftCell, DraftReader, Values
from registry.store.durable import RESTORING, STATE_FOLDER, read_json
from registry.suggest import nearest

FILE_NAME = "experiments.toml"
PROJECT_VARIABLE = "FACTBOOK_PROJECT"
MOST_CELLS = 1_000_000
"""Cells of one experiment beyond which a matrix is taken for a mistake."""


def find_declaration() -> Path:
    """Return the ``experiments.toml`` of this project.

    ``$FACTBOOK_PROJECT`` names it or its folder; without, it is in the current folder or above.

    Raises
    ------
    DeclarationError
        If there is none.
    """
    if chosen := os.environ.get(PROJECT_VARIABLE):
        path = Path(chosen)
        file = (path / FILE_NAME if path.is_dir() else path).absolute()
        if not file.is_file():
            message = f"no such file (named by {PROJECT_VARIABLE})"
            raise DeclarationError((Fault("", message),), file)
        return file
    folder = Path.cwd()
    for candidate in (folder, *folder.parents):
        if (candidate / FILE_NAME).is_file():
            return candidate / FILE_NAME
        if (mark := candidate / STATE_FOLDER / RESTORING).exists():
            command = (read_json(mark) or {}).get("command") or "factbook restore"
            raise DeclarationError((Fault("", f"{candidate} is half restored; {command}"),))
    message = (
        f"no {FILE_NAME} in {folder} or a folder above it; "
        f"go to a project's folder, name it in {PROJECT_VARIABLE}, or begin one: factbook init"
    )
    raise DeclarationError((Fault("", message),))


def read_declaration(path: Path | str | None = None) -> Declaration:
    """Read and validate a declaration.

    Parameters
    ----------
    path : Path or str, optional
        The file, or its folder; found as :func:`find_declaration` does if not given.

    Raises
    ------
    DeclarationError
        With every fault of the file.
    """
    file = find_declaration() if path is None else Path(path).absolute()
    file = file / FILE_NAME if file.is_dir() else file
    text = read_text(file)
    return validate_tables(parse_tables(text, file), file, text)


def read_text(file: Path) -> str:
    """Return the text of a declaration, without the mark that some editors put before it.

    Raises
    ------
    DeclarationError
        If it cannot be read as text.
    """
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        fault = Fault("", f"cannot be read: {error.strerror or error}")
        raise DeclarationError((fault,), file) from error
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text: {error.reason} at byte {error.start}; save it as UTF-8"
        raise DeclarationError((Fault("", message),), file) from error


def parse_tables(text: str, path: Path | None = None) -> dict[str, Any]:
    """Return the tables of a declaration's text, which are not validated yet.

    Raises
    ------
    DeclarationError
        If it is not TOML, or lies deeper inside itself than can be kept.
    """
    try:
        tables = tomllib.loads(text)
        is_deep = is_too_deep(tables)
    except RecursionError:
        is_deep = True
    except ValueError as error:  # also of what Python cannot convert, as 5,000 digits
        line = re.search(r"at line (\d+)", str(error))
        is_at_end = "at end of document" in str(error)
        number = int(line[1]) if line else len(text.splitlines()) * is_at_end
        fault = Fault("", f"not valid TOML: {error}", number or None)
        raise DeclarationError((fault,), path) from error
    if is_deep:
        message = f"tables or lists lie more than {DEEPEST} levels inside each other"
        raise DeclarationError((Fault("", message),), path)
    return tables


def parse_declaration(text: str, path: Path | None = None) -> Declaration:
    """Validate the text of a declaration; see :func:`read_declaration`."""
    return validate_tables(parse_tables(text, path), path, text)


def validate_tables(
    tables: Mapping[str, Any], path: Path | None = None, text: str = ""
) -> Declaration:
    """Validate the tables of a declaration.

    Parameters
    ----------
    tables : mapping
        What its TOML holds.
    path : Path, optional
        The file; relative paths start from its folder.
    text : str
        The file's text, to tell the lines of faults.

    Raises
    ------
    DeclarationError
        With every fault.
    """
    faults = FaultList(text)
    joiner = _Joiner(faults)
    joiner.read(tables)
    declaration = joiner.join(path)
    if faults:
        raise DeclarationError(faults.sorted(), path)
    faults.warn_of_old_names(path)
    return declaration


class _Joiner(DraftReader):
    """Joins what was read: experiments with what they need, suites with their members."""

    def __init__(self, faults: FaultList):
        super().__init__(faults)
        self.experiments: dict[str, Experiment] = {}

    def join(self, path: Path | None) -> Declaration:
        """Return the declaration; to be used only if no fault was found."""
        order = self._order()
        for name in dict.fromkeys((*order, *self.drafts)):  # what is in cycles has faults too
            self._join(self.drafts[name])
        for suite, members in self.suites.items():
            for index, text in enumerate(members):
                self._check_member(("suites", suite, index), text)
        experiments = {n: self.experiments[n] for n in self.drafts if n in self.experiments}
        parts = self.project, self.resources, experiments, self.suites, tuple(order)
        return Declaration(path, *parts, self.executors, self.demands)

    def _order(self) -> list[str]:
        """Return the names, each after those it needs; what waits for a cycle is left out."""
        behind = {
            name: {r.name for r in draft.all_references() if r.name in self.drafts}
            for name, draft in self.drafts.items()
        }
        order = _topological_order(behind)
        for cycle in _cycles(behind, set(behind) - set(order)):
            loop = " -> ".join((*cycle, cycle[0]))
            self.faults.add(("experiments", cycle[0], "needs"), f"a cycle: {loop}")
        return order

    def _join(self, draft: Draft) -> None:
        """Turn a draft into an experiment, if nothing is wrong with it or behind it."""
        before = len(self.faults)
        needs = self._needs(draft)
        if draft.stage is None:
            return
        matrix = _Matrix(draft, draft.stage, self.faults)
        configs, own = matrix.resolve()
        if needs is None or not configs:
            return
        inherited = self._inherited(draft, needs)
        named = self._named_axis(draft, inherited)
        axes = (*(axis for axis in inherited if axis.identity != named.identity), named, *own)
        experiment = Experiment(
            draft.name,
            draft.stage.name,
            draft.stage.version,
            draft.stage.output.name,
            needs,
            axes if draft.cells else (*inherited, *own),
            configs,
            draft.stage.settings.rules,
            draft.description,
            draft.stage.formerly,
            frozenset(key for cell in draft.cells for key in cell.config),
            draft.parts,
            draft.stage.aside,
        )
        matrix.check_size(axis.values for axis in experiment.axes)
        if len(self.faults) == before:
            self.experiments[draft.name] = experiment

    def _needs(self, draft: Draft) -> tuple[Need, ...] | None:
        """Return what fills each slot, or None where something is wrong, here or behind it."""
        if draft.stage is None:  # what a slot wants is not known then; that names exist still is
            slots: Mapping[str, Slot] = {slot: Slot(slot, ()) for slot in draft.slots}
        else:
            slots = draft.stage.slots_of(draft.slots)
        empty = self._check_slots(draft, slots)
        needs = [
            self._need_of_cells(draft, slot)
            if name in draft.slots_of_cells
            else self._need(draft.path("needs", name), slot, draft.references[name])
            for name, slot in slots.items()
            if name in draft.slots
        ]
        whole = tuple(need for need in needs if need)
        return whole if not empty and len(whole) == len(draft.slots) else None

    def _need_of_cells(self, draft: Draft, slot: Slot) -> Need | None:
        """Return what fills a slot that named cells fill on their own."""
        before, found = len(self.faults), []
        for cell in draft.cells:
            where: KeyPath = (*cell.where, "needs", slot.name)
            if slot.name in cell.references:
                reference = cell.references[slot.name]
            elif slot.name in draft.references:
                where, reference = draft.path("needs", slot.name), draft.references[slot.name]
            else:
                self.faults.add(cell.where, f"nothing fills slot {slot.name!r}, as in other cells")
                continue
            need = self._need(where, slot, reference)
            if need is not None and None in need.picks:
                message = f"{str(reference)!r} means several cells; name one for this cell"
                self.faults.add(where, message)
            found.append(need)
        needs = tuple(need for need in found if need)
        if len(self.faults) > before or len(needs) < len(draft.cells):
            return None
        return replace(needs[0], by_cell=needs)

    def _check_slots(self, draft: Draft, slots: Mapping[str, Slot]) -> list[str]:
        """Return the slots that must be filled and are not."""
        for slot in sorted(draft.slots.keys() - slots.keys()):
            near = nearest(slot, slots) or "; the stage needs nothing"
            for where in draft.slots[slot]:
                self.faults.add(where, f"the stage has no such slot{near}")
        required = {slot for slot, wanted in slots.items() if not wanted.is_optional}
        empty = sorted(required - draft.slots.keys())
        for slot in empty:
            near = nearest("", self.fitting(slots[slot].kinds) - {draft.name})
            message = f"slot {slot!r} wants {slots[slot]}, and nothing fills it{near}"
            self.faults.add(draft.path("needs"), message)
        return empty

    def _need(self, where: KeyPath, slot: Slot, reference: Reference | None) -> Need | None:
        if reference is None:  # a faulty one has been reported
            return None
        name, fitting = reference.name, self.fitting(slot.kinds)
        if name not in self.owners:
            what = "unknown dataset, network or experiment"
            self.add_unknown(where, what, name, fitting, self.owners)
            return None
        kind = self.provided.get(name, "")
        if slot.kinds and kind and kind not in slot.kinds:
            message = f"slot {slot.name!r} wants {slot}; {name!r} provides {kind!r}"
            self.faults.add(where, message + nearest(name, fitting))
            return None
        if name in self.resources:
            if reference.values:
                self.faults.add(where, f"{name!r} has no cells; got {str(reference)!r}")
            return Need(slot.name, kind, name)
        try:
            experiment = self.experiments.get(name)
            return Need(slot.name, kind, name, experiment.pick(reference)) if experiment else None
        except SelectionError as error:
            self.faults.add(where, str(error))
            return None

    def _inherited(self, draft: Draft, needs: tuple[Need, ...]) -> tuple[Axis, ...]:
        """Return the axes that the needs leave open, each once: named cells those of all."""
        free: dict[tuple[str, str], tuple[str, Axis]] = {}
        pinned: dict[tuple[str, str], str] = {}
        for need in needs:
            is_open = need.picks and not need.by_cell
            axes = self.experiments[need.name].axes if is_open else ()
            for axis, pick in zip(axes, need.picks if is_open else (), strict=True):
                if pick is None:
                    slot, known = free.setdefault(axis.identity, (need.slot, axis))
                    free[axis.identity] = (slot, self._common(draft, need, slot, known, axis))
                else:
                    pinned.setdefault(axis.identity, need.slot)
        for origin, key in sorted(free.keys() & pinned.keys()):
            message = (
                f"names one {key!r} of {origin!r}, while slot {free[origin, key][0]!r} takes all; "
                "name the value in both, or in neither"
            )
            self.faults.add(draft.path("needs", pinned[origin, key]), message)
        return tuple(axis for _, axis in free.values())

    def _common(self, draft: Draft, need: Need, slot: str, one: Axis, other: Axis) -> Axis:
        """Return the values that an axis has by both of two slots: named cells may be fewer."""
        both = tuple(value for value in one.values if one.key != CELL or value in other.values)
        if not both:
            message = f"has no named cell in common with slot {slot!r}"
            self.faults.add(draft.path("needs", need.slot), message)
        return replace(one, values=both)

    def _named_axis(self, draft: Draft, inherited: tuple[Axis, ...]) -> Axis:
        """Return the axis of an experiment's named cells: a part of the inherited one, or new."""
        names = tuple(cell.name for cell in draft.cells)
        sources = [axis for axis in inherited if axis.key == CELL]
        if draft.cells and len(sources) > 1:
            origins = " and ".join(repr(axis.origin) for axis in sources)
            message = f"its needs have the named cells of {origins}; name one cell of all but one"
            self.faults.add(draft.path("needs"), message)
        if not sources:
            return Axis(draft.name, CELL, names)
        for cell in draft.cells:
            if cell.name not in sources[0].values:
                near = nearest(cell.name, sources[0].values)
                message = f"{sources[0].origin!r} has no cell {cell.name!r}{near}"
                self.faults.add((*cell.where, CELL), message)
        return replace(sources[0], values=names)

    def _check_member(self, where: KeyPath, text: str) -> None:
        try:
            reference = parse_reference(text)
            names = [name for name in self.drafts if reference.matches(name)]
            if not names:
                near = nearest(reference.name.replace("*", ""), self.drafts)
                raise SelectionError(f"{text!r} matches no experiment{near}")
            if reference.values and all(name in self.experiments for name in names):
                errors = [self._pick_error(name, reference) for name in names]
                if errors[0] and all(errors):  # at least one of the experiments has such cells
                    raise errors[0]
        except SelectionError as error:
            self.faults.add(where, str(error))

    def _pick_error(self, name: str, reference: Reference) -> SelectionError | None:
        try:
            self.experiments[name].pick(reference)
        except SelectionError as error:
            return error
        return None


@dataclass(frozen=True)
class _Matrix:
    """The matrix of a draft, to be resolved by its stage.

    Each value of each axis and each named cell is tried first, with the others at their first, so
    that a bad one is reported once; then the product, for what only a combination violates.
    """

    draft: Draft
    stage: Stage
    faults: FaultList

    def resolve(self) -> tuple[tuple[Values, ...], tuple[Axis, ...]]:
        """Return the configuration of each cell, and the axes with validated values.

        Configurations are of the product of named cells, if there are any, and the axes; nothing
        is returned after a fault.
        """
        before = len(self.faults)
        draft = self.draft
        cells = self._named()
        varied = {key: values[0] for key, values in draft.matrix.items()}
        first = {**draft.config, **cells[0].config, **varied}
        resolved = self._first_cell(first, cells[0])
        former = {key: names[0] for key, names in self.stage.settings.rules.formerly.items()}
        axes = tuple(
            Axis(draft.name, key, self._values(first, resolved, key), former.get(key, ""))
            for key in draft.matrix
        )
        for cell in cells[1:]:
            self._try_cell(cell, varied)
        if len(self.faults) > before or draft.faulty:
            return (), ()
        return self._product(), axes

    def _named(self) -> tuple[DraftCell, ...]:
        """Return the named cells, or the one that an experiment without any is."""
        return self.draft.cells or (DraftCell("", {}, {}, ()),)

    def _first_cell(self, values: Values, cell: DraftCell) -> Values:
        """Resolve the first cell; every key that is wrong in it is reported."""
        try:
            return self._configuration(values)
        except ConfigError as error:
            for fault in error.faults:
                is_of_product = not fault.key and (self.draft.matrix or self.draft.cells)
                if not is_of_product and not self.draft.faulty.intersection(fault.keys[:1]):
                    self._report(fault, 0, cell)
            return values

    def _try_cell(self, cell: DraftCell, varied: Values) -> None:
        """Resolve a named cell; what is wrong in what it sets itself is reported."""
        try:
            self._configuration({**self.draft.config, **cell.config, **varied})
        except ConfigError as error:
            for fault in error.faults:
                if cell.config.keys() & fault.keys[:1]:
                    self._report(fault, 0, cell)

    def _values(self, first: Values, resolved: Values, key: str) -> tuple[Any, ...]:
        """Return the validated values of an axis; a 1 for a float stands as 1.0."""
        declared = self.draft.matrix[key]
        values = [_scalar(resolved, key, declared[0])]
        for index, value in enumerate(declared[1:], 1):
            try:
                other = self._configuration({**first, key: value})
                values.append(_scalar(other, key, value))
            except ConfigError as error:
                values.append(value)
                for fault in error.faults:
                    if fault.keys[:1] == (key,):
                        self._report(fault, index)
        self._check_duplicates(key, values)
        return tuple(values)

    def _configuration(self, values: Values) -> Values:
        return self.stage.configuration(self.stage.resolve(values))

    def _report(self, fault: Fault, index: int, cell: DraftCell | None = None) -> None:
        """Add a fault at its key of the configuration or of a cell, or at a value of an axis."""
        key, *inner = fault.key.split(".")
        where: KeyPath = self.draft.path("config", *fault.keys)
        if cell is not None and key in cell.config:
            where = (*cell.where, *fault.keys)
        if key in self.draft.matrix:
            is_unknown = fault.message.startswith("unknown key")
            at: KeyPath = ("matrix", key) if is_unknown else ("matrix", key, index, *inner)
            where = self.draft.path(*at)
        self.faults.add(where, fault.message)

    def _check_duplicates(self, key: str, values: list[Any]) -> None:
        seen: dict[str, int] = {}
        for index, value in enumerate(values):
            first = seen.setdefault(format_value(value), index)
            if first != index:
                message = f"{format_value(value)} is a duplicate of the value at [{first}]"
                self.faults.add(self.draft.path("matrix", key, index), message)

    def _product(self) -> tuple[Values, ...]:
        """Resolve every cell; what only combinations violate is reported once, and counted."""
        if not self.check_size((self._named(), *self.draft.matrix.values())):
            return ()
        configs: list[Values] = []
        bad: dict[str, list[str]] = {}
        for named, *values in itertools.product(self._named(), *self.draft.matrix.values()):
            point = dict(zip(self.draft.matrix, values, strict=True))
            try:
                configs.append(self._configuration({**self.draft.config, **named.config, **point}))
            except ConfigError as error:
                point = {CELL: named.name, **point} if self.draft.cells else point
                name = str(Reference(self.draft.name, tuple(point.items())))
                for fault in error.faults:
                    bad.setdefault(str(fault).split("; got")[0], []).append(name)
        for message, names in bad.items():
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            self.faults.add(self.draft.path("matrix"), f"{message}; in cell {names[0]}{more}")
        return tuple(configs)

    def check_size(self, axes: Iterable[Sequence[Any]]) -> bool:
        """Check that axes do not span more cells than anybody wants."""
        size = math.prod(map(len, axes))
        if size > MOST_CELLS:
            message = f"expected at most {MOST_CELLS} cells; got {size}"
            self.faults.add(self.draft.path("matrix"), message)
        return size <= MOST_CELLS


def _scalar(resolved: Values, key: str, declared: Any) -> Any:
    return declared if isinstance(declared, dict | list) else resolved.get(key, declared)


def _topological_order(behind: Mapping[str, set[str]]) -> list[str]:
    """Sort names after those behind them, else as given; what waits for a cycle is left out."""
    names = list(behind)
    position = {name: index for index, name in enumerate(names)}
    sorter = TopologicalSorter(behind)
    with suppress(CycleError):  # what is in no cycle is sorted all the same
        sorter.prepare()
    order: list[str] = []
    ready = [position[name] for name in sorter.get_ready()]
    heapq.heapify(ready)
    while ready:
        order.append(names[heapq.heappop(ready)])
        sorter.done(order[-1])
        for name in sorter.get_ready():
            heapq.heappush(ready, position[name])
    return order


def _cycles(behind: Mapping[str, set[str]], stuck: set[str]) -> Iterator[tuple[str, ...]]:
    """Yield a shortest cycle through every name that is in one, unless it was in one before."""
    found: set[str] = set()
    for name in behind:
        if name in stuck and name not in found:
            cycle = _shortest_cycle(name, behind)
            found.update(cycle)
            if cycle:
                yield cycle


def _shortest_cycle(start: str, behind: Mapping[str, set[str]]) -> tuple[str, ...]:
    paths: dict[str, tuple[str, ...]] = {start: (start,)}
    queue = [start]
    for name in queue:  # grows while it is walked: breadth first
        if start in behind[name]:
            return paths[name]
        for other in sorted(behind[name] - paths.keys()):
            paths[other] = (*paths[name], other)
            queue.append(other)
    return ()
