"""TOML to frozen, validated declarations; every fault of a file is listed at once."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry.declare.declared import (
    Axis,
    Declaration,
    Experiment,
    Need,
    Picks,
    ProjectTable,
    Resource,
)
from registry.declare.faults import DeclarationError, Fault, FaultList, KeyPath
from registry.declare.matrix import Matrix
from registry.declare.order import cycles, topological_order
from registry.declare.reference import Reference, SelectionError, parse_reference
from registry.declare.stage import Slot
from registry.declare.tables import Draft, DraftReader
from registry.suggest import nearest

__all__ = [
    "Axis",
    "Declaration",
    "DeclarationError",
    "Experiment",
    "Fault",
    "Need",
    "Picks",
    "ProjectTable",
    "Resource",
    "find_declaration",
    "parse_declaration",
    "read_declaration",
    "validate_tables",
]

FILE_NAME = "experiments.toml"
PROJECT_VARIABLE = "FACTBOOK_PROJECT"


def find_declaration(start: Path | None = None) -> Path:
    """Return the ``experiments.toml`` of this project.

    Parameters
    ----------
    start : Path, optional
        A folder; it and those above are searched. By default ``$FACTBOOK_PROJECT``, a folder or
        the file itself, and without it the current folder.

    Raises
    ------
    DeclarationError
        If there is none.
    """
    chosen = os.environ.get(PROJECT_VARIABLE)
    if start is None and chosen:
        return _file_of(Path(chosen))
    folder = (start or Path.cwd()).absolute()
    for candidate in (folder, *folder.parents):
        if (candidate / FILE_NAME).is_file():
            return candidate / FILE_NAME
    message = (
        f"no {FILE_NAME} in {folder} or a folder above it; "
        f"go to a project's folder, or name it in {PROJECT_VARIABLE}"
    )
    raise DeclarationError((Fault("", message),))


def _file_of(path: Path) -> Path:
    file = (path / FILE_NAME if path.is_dir() else path).absolute()
    if not file.is_file():
        raise DeclarationError((Fault("", f"no such file (named by {PROJECT_VARIABLE})"),), file)
    return file


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
    try:
        text = file.read_bytes().decode("utf-8")
    except OSError as error:
        fault = Fault("", f"cannot be read: {error.strerror or error}")
        raise DeclarationError((fault,), file) from error
    except UnicodeDecodeError as error:
        raise DeclarationError((Fault("", f"is not UTF-8 text: {error}"),), file) from error
    return parse_declaration(text, file)


def parse_declaration(text: str, path: Path | None = None) -> Declaration:
    """Validate the text of a declaration; see :func:`read_declaration`."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        number = int(line[1]) if line else len(text.splitlines()) or None
        raise DeclarationError((Fault("", f"not valid TOML: {error}", number),), path) from error
    return validate_tables(tables, path, text)


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
    reader = DraftReader(faults)
    reader.read(tables)
    declaration = _Joiner(reader, faults).join(path)
    if faults:
        raise DeclarationError(faults.sorted(), path)
    faults.warn_of_old_names(path)
    return declaration


class _Joiner:
    """Joins what was read: experiments with what they need, suites with their members."""

    def __init__(self, read: DraftReader, faults: FaultList):
        self.read = read
        self.faults = faults
        self.experiments: dict[str, Experiment] = {}

    def join(self, path: Path | None) -> Declaration:
        """Return the declaration; to be used only if no fault was found."""
        read = self.read
        order = self._order()
        for name in dict.fromkeys((*order, *read.drafts)):  # what is in cycles has faults too
            self._join(read.drafts[name])
        for suite, members in read.suites.items():
            for index, text in enumerate(members):
                self._check_member(("suites", suite, index), text)
        experiments = {n: self.experiments[n] for n in read.drafts if n in self.experiments}
        return Declaration(
            path, read.project, read.resources, experiments, read.suites, tuple(order)
        )

    def _order(self) -> list[str]:
        """Return the names, each after those it needs; what waits for a cycle is left out."""
        behind = {
            name: {r.name for r in draft.references.values() if r and r.name in self.read.drafts}
            for name, draft in self.read.drafts.items()
        }
        order = topological_order(behind)
        for cycle in cycles(behind, set(behind) - set(order)):
            loop = " -> ".join((*cycle, cycle[0]))
            self.faults.add(("experiments", cycle[0], "needs"), f"a cycle: {loop}")
        return order

    def _join(self, draft: Draft) -> None:
        """Turn a draft into an experiment, if nothing is wrong with it or behind it."""
        before = len(self.faults)
        needs = self._needs(draft)
        if draft.stage is None:
            return
        matrix = Matrix(draft, draft.stage, self.faults)
        configs, own = matrix.resolve()
        if needs is None or not configs:
            return
        experiment = Experiment(
            draft.name,
            draft.stage.name,
            draft.stage.version,
            draft.stage.output.name,
            needs,
            (*self._inherited(draft, needs), *own),
            configs,
            draft.stage.settings.rules,
            draft.description,
            draft.stage.formerly,
        )
        matrix.check_size(axis.values for axis in experiment.axes)
        if len(self.faults) == before:
            self.experiments[draft.name] = experiment

    def _needs(self, draft: Draft) -> tuple[Need, ...] | None:
        """Return what fills each slot, or None where something is wrong, here or behind it."""
        slots: Mapping[str, Slot]
        if draft.stage is None:  # what a slot wants is not known then; that names exist still is
            slots = {slot: Slot(slot, ()) for slot in draft.references}
        else:
            slots = draft.stage.slots
        empty = self._check_slots(draft, slots)
        needs = [
            self._need(draft.path("needs", name), slot, reference)
            for name, slot in slots.items()
            if (reference := draft.references.get(name))
        ]
        whole = tuple(need for need in needs if need)
        return whole if not empty and len(whole) == len(draft.references) else None

    def _check_slots(self, draft: Draft, slots: Mapping[str, Slot]) -> list[str]:
        """Return the slots that must be filled and are not."""
        for slot in sorted(draft.references.keys() - slots.keys()):
            near = nearest(slot, slots) or "; the stage needs nothing"
            self.faults.add(draft.path("needs", slot), f"the stage has no such slot{near}")
        required = {slot for slot, wanted in slots.items() if not wanted.is_optional}
        empty = sorted(required - draft.references.keys())
        for slot in empty:
            near = nearest("", self.read.fitting(slots[slot].kinds) - {draft.name})
            message = f"slot {slot!r} wants {slots[slot]}, and nothing fills it{near}"
            self.faults.add(draft.path("needs"), message)
        return empty

    def _need(self, where: KeyPath, slot: Slot, reference: Reference) -> Need | None:
        name, fitting = reference.name, self.read.fitting(slot.kinds)
        if name not in self.read.owners:
            what = "unknown dataset, network or experiment"
            self.read.add_unknown(where, what, name, fitting, self.read.owners)
            return None
        kind = self.read.provided.get(name, "")
        if slot.kinds and kind and kind not in slot.kinds:
            message = f"slot {slot.name!r} wants {slot}; {name!r} provides {kind!r}"
            self.faults.add(where, message + nearest(name, fitting))
            return None
        picks = self._picks(where, reference)
        return None if picks is None else Need(slot.name, kind, name, picks)

    def _picks(self, where: KeyPath, reference: Reference) -> Picks | None:
        """Return the cells of its experiment that a reference names; none for a resource."""
        if reference.name in self.read.resources:
            if reference.values:
                self.faults.add(where, f"{reference.name!r} has no cells; got {str(reference)!r}")
            return ()
        experiment = self.experiments.get(reference.name)
        try:
            return experiment.pick(reference) if experiment else None
        except SelectionError as error:
            self.faults.add(where, str(error))
            return None

    def _inherited(self, draft: Draft, needs: tuple[Need, ...]) -> tuple[Axis, ...]:
        """Return the axes that the needs leave open, each once."""
        free: dict[tuple[str, str], tuple[str, Axis]] = {}
        pinned: dict[tuple[str, str], str] = {}
        for need in needs:
            axes = self.experiments[need.name].axes if need.picks else ()
            for axis, pick in zip(axes, need.picks, strict=True):
                if pick is None:
                    free.setdefault(axis.identity, (need.slot, axis))
                else:
                    pinned.setdefault(axis.identity, need.slot)
        for origin, key in sorted(free.keys() & pinned.keys()):
            message = (
                f"names one {key!r} of {origin!r}, while slot {free[origin, key][0]!r} takes all; "
                "name the value in both, or in neither"
            )
            self.faults.add(draft.path("needs", pinned[origin, key]), message)
        return tuple(axis for _, axis in free.values())

    def _check_member(self, where: KeyPath, text: str) -> None:
        try:
            reference = parse_reference(text)
            names = [name for name in self.read.drafts if reference.matches(name)]
            if not names:
                near = nearest(reference.name.replace("*", ""), self.read.drafts)
                raise SelectionError(f"{text!r} matches no experiment{near}")
            if reference.values and all(name in self.experiments for name in names):
                self._pick_any(reference, names)
        except SelectionError as error:
            self.faults.add(where, str(error))

    def _pick_any(self, reference: Reference, names: list[str]) -> None:
        """Check that at least one of the experiments has such cells."""
        errors = []
        for name in names:
            try:
                self.experiments[name].pick(reference)
            except SelectionError as error:
                errors.append(error)
        if len(errors) == len(names):
            raise errors[0]
