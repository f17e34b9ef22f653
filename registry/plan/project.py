"""A project: its declaration, its folders, and what the disk says of its tasks and their inputs."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from registry.declare.cells import Cell, Graph, expand
from registry.declare.declaration import (
    find_declaration,
    parse_tables,
    read_declaration,
    read_text,
    validate_tables,
)
from registry.declare.declared import Declaration, Resource
from registry.declare.faults import ConfigError
from registry.declare.plugins import kinds
from registry.declare.stage import Input, load_stage
from registry.plan.artifacts import ATTEMPTS, ExperimentStore
from registry.plan.plan import fingerprints, make_plan
from registry.plan.sources import sources_hash
from registry.plan.task import Plan, Reason, TaskState, Why
from registry.record.journal import journal_root
from registry.record.liveness import journal_status
from registry.record.states import State
from registry.record.tombstones import half_deleted, read_tombstone, remove_journal
from registry.store.durable import RESTORING, STATE_FOLDER, StoreError, read_json
from registry.store.manifest import read_manifest
from registry.suggest import RefusalError


class RestoringError(RefusalError):
    """A project of which half is there: a restoration runs, or was cut short."""


class MissingInputsError(RefusalError):
    """Inputs of a task that are not there, each with the command that makes it.

    Attributes
    ----------
    stage : str
        Which makes what is missing; "" where it is not one dataset.
    """

    def __init__(self, *args: object, stage: str = "", **others: Any):
        super().__init__(*args, **others)
        self.stage = stage


@dataclass(frozen=True)
class Project:
    """One ``experiments.toml`` and everything beside it.

    Attributes
    ----------
    declaration : Declaration
        What it declares.
    """

    declaration: Declaration

    @property
    def root(self) -> Path:
        """The folder of the declaration."""
        return self.declaration.root

    @property
    def state(self) -> Path:
        """The folder of journals and of the embedded database."""
        return self.root / STATE_FOLDER

    @cached_property
    def graph(self) -> Graph:
        """Every cell of every experiment."""
        return expand(self.declaration)

    @cached_property
    def store(self) -> ExperimentStore:
        """Where the outputs lie."""
        journals = journal_root(self.root)

        def read_status(uid: str) -> str:
            return journal_status(journals / uid).status

        folder = Path(self.declaration.project.store).expanduser()
        return ExperimentStore(self.root / folder, read_status)

    # -- what would run ---------------------------------------------------------------------

    def plan(
        self,
        targets: Iterable[str] = (),
        *,
        force: bool = False,
        rerun_changed_code: bool = False,
        verify: bool = False,
        graph: Graph | None = None,
    ) -> Plan:
        """Return what would run of ``targets``, why, and about how long it would take.

        Parameters
        ----------
        targets : iterable of str
            Names, patterns, suites and cells; none means all.
        force, rerun_changed_code : bool
            Whether complete targets run again; whether changed code is a reason to.
        verify : bool
            Compare the checksums of what is on disk, which reads every byte.
        graph : Graph, optional
            Cells to plan for, in place of the declared ones.

        Raises
        ------
        SelectionError
            If a target selects nothing.
        """
        graph = graph or self.graph
        chosen = [cell.name for cell in graph.select(targets)]
        cells = [graph.cells[name] for name in graph.behind(chosen) if name in graph.cells]
        return make_plan(
            graph,
            chosen,
            identities=self._identities(graph, chosen),
            states=self.store.states(verify),
            past=self.store.past,
            sources={cell.name: sources_hash(cell.stage, modules_of(cell)) for cell in cells},
            force=force,
            rerun_changed_code=rerun_changed_code,
        )

    def foreseen(
        self, made: Plan, found: Callable[[str], Mapping[str, Any]] = lambda fingerprint: {}
    ) -> tuple[str, ...]:
        """Return what the stages of a plan's open tasks say of it before they run, each once.

        Parameters
        ----------
        made : Plan
            The plan.
        found : callable
            From the fingerprint of a resource to what a first look has found of it.
        """
        known = {
            name: task.inputs[slot]
            for task in (*made.tasks, *made.settled)
            for slot, name in task.cell.needs.items()
        }
        resources = {
            name: replace(entry, found=found(known[name])) if name in known else entry
            for name, entry in self.declaration.resources.items()
        }
        said: dict[str, None] = {}
        for experiment in dict.fromkeys(task.experiment for task in made.open):
            cells = [task.cell for task in made.open if task.experiment == experiment]
            own = {name: resources[name] for name in self._exposed(cells[0].name)}
            for cell in cells:
                said.update(dict.fromkeys(load_stage(cell.stage).foresee(cell.config, own)))
        return tuple(said)

    def _exposed(self, name: str, made: frozenset[str] = frozenset()) -> dict[str, Resource]:
        """Return the resources that a cell rests on, by name.

        Those are left out of which an experiment made something of the same kind on the way, as a
        network that was trained on.
        """
        found: dict[str, Resource] = {}
        for needed in self.graph.cells[name].needs.values():
            if needed in self.graph.cells:
                found |= self._exposed(needed, made | {self.graph.cells[needed].provides})
            elif (resource := self.declaration.resources[needed]).provides not in made:
                found[needed] = resource
        return found

    def _identities(self, graph: Graph, cells: Iterable[str]) -> dict[str, str | None]:
        """Return the identity of the data behind cells; None where it cannot be read."""
        resources, behind = self.declaration.resources, graph.behind(cells)
        return {name: self.identity(resources[name])[0] for name in resources if name in behind}

    def identity(self, resource: Resource) -> tuple[str | None, str]:
        """Return the identity of a resource's data; or None, and why it cannot be read."""
        with contextlib.chdir(self.root):
            try:
                return str(resource.settings.identity()), ""
            except (OSError, ValueError) as error:
                return None, str(error)

    def data_notes(self, targets: Iterable[str] = ()) -> Iterator[tuple[str, str]]:
        """Yield the name of each dataset and network behind targets, and what is to say of it.

        A kind says it by a method ``notes() -> Iterable[str]``, without which there is nothing.
        """
        behind = self.graph.behind(cell.name for cell in self.graph.select(targets))
        for name, resource in self.declaration.resources.items():
            notes = getattr(resource.settings, "notes", None) if name in behind else None
            with contextlib.chdir(self.root), contextlib.suppress(OSError, ValueError):
                yield from [(name, str(note)) for note in (notes() if notes else ())]

    # -- one task ---------------------------------------------------------------------------

    def variant(
        self, name: str, stage: str, config: Mapping[str, Any], needs: Mapping[str, str]
    ) -> Graph:
        """Return the graph of an experiment as it is given, over what the file declares.

        Parameters
        ----------
        name : str
            The experiment; a declared one is replaced.
        stage : str
            The stage's module.
        config, needs : mapping
            As they would stand in the file; no matrix.

        Raises
        ------
        DeclarationError
            With everything that is wrong with it.
        """
        path = self.declaration.path
        if path is None:
            raise FileNotFoundError("this declaration was not read from a file")
        tables = parse_tables(read_text(path), path)
        declared = tables.get("experiments", {})
        entry = {"stage": stage, "config": dict(config), "needs": dict(needs)}
        names = {reference.partition("[")[0].strip() for reference in needs.values()}
        for other in reversed(self.declaration.order):
            if other in names:
                behind = self.declaration.experiments[other].needs
                names.update(name for need in behind for name in need.names)
        kept = {other: declared[other] for other in declared if other in names}
        tables["experiments"] = {**kept, name: entry}
        for other in ("suites", "executors", "resources"):
            tables.pop(other, None)
        return expand(validate_tables(tables, path))

    def declared_fingerprints(self) -> tuple[dict[str, str], set[str]]:
        """Return the fingerprints of all cells and resources as they are declared, by name.

        Returns
        -------
        dict and set of str
            The fingerprints; and the cells whose fingerprints nobody knows now, because data that
            they rest on cannot be read.
        """
        return self._fingerprints(self.graph.cells)

    def _fingerprints(self, names: Collection[str]) -> tuple[dict[str, str], set[str]]:
        identities = self._identities(self.graph, names)
        unreadable = {name for name, identity in identities.items() if identity is None}
        for cell in self.graph.cells.values():  # each after those that it needs
            if unreadable.intersection(cell.needs.values()):
                unreadable.add(cell.name)
        known = fingerprints(self.graph, names, identities)
        return known, unreadable & self.graph.cells.keys()

    def known_fingerprints(self, names: Iterable[str]) -> dict[str, str]:
        """Return the fingerprints of cells as they are declared, by name, and of what is behind.

        What rests on data that cannot be read here counts as it was when it was last read.
        """
        known, unreadable = self._fingerprints(names := list(names))
        for name in unreadable.intersection(names):
            known[name] = self._remembered_fingerprints(self.graph.cells[name])[name]
        return known

    def changes_since(self, name: str, fingerprint: str) -> tuple[Reason, ...]:
        """Return in what a cell as it is declared now differs from a task that it was before.

        Parameters
        ----------
        name : str
            The cell.
        fingerprint : str
            Of the earlier task, which the store holds.

        Returns
        -------
        tuple of Reason
            None where nothing is known of it, or nothing is another.
        """
        cell = self.graph.cells[name]
        earlier, states = self.store.past(cell.experiment, fingerprint), self.store.states()

        def state(one: Cell, own: str) -> TaskState:
            return TaskState(earlier=earlier) if one.name == name else states(one, own)

        made = make_plan(
            self.graph,
            [name],
            identities=self._identities(self.graph, [name]),
            states=state,
            past=self.store.past,
        )
        reasons = made.task(name).reasons
        return tuple(reason for reason in reasons if reason.why is not Why.NEVER)

    def fingerprints(self, graph: Graph, *names: str) -> dict[str, str]:
        """Return the fingerprints of cells and of all that they rest on, by name."""
        return fingerprints(graph, names, self._identities(graph, names))

    def inputs(self, graph: Graph, cell: Cell, known: Mapping[str, str]) -> dict[str, Input]:
        """Return the inputs of a cell, opened nowhere yet.

        Parameters
        ----------
        graph : Graph
            Where the cell belongs.
        cell : Cell
            What is to run.
        known : mapping of str to str
            Fingerprints by name, as :meth:`fingerprints` returns them.

        Raises
        ------
        MissingInputsError
            With every input that is not there, and the command that makes it.
        """
        found, missing = self._found_inputs(graph, cell, known)
        if missing:
            raise MissingInputsError("\n".join(dict.fromkeys(missing)))
        return found

    def _found_inputs(
        self, graph: Graph, cell: Cell, known: Mapping[str, str]
    ) -> tuple[dict[str, Input], list[str]]:
        """Return the inputs that are there, by slot, and why others are not."""
        found, missing = {}, []
        for slot, name in cell.needs.items():
            try:
                found[slot] = self._input(graph, slot, name, known)
            except MissingInputsError as error:
                missing.append(str(error))
        return found, missing

    def _input(self, graph: Graph, slot: str, name: str, known: Mapping[str, str]) -> Input:
        if (resource := graph.declaration.resources.get(name)) is not None:
            identity, why = self.identity(resource)
            if identity is None:
                raise MissingInputsError(f"{slot}: the data of {name!r} cannot be read: {why}")
            return Input(slot, name, resource.provides, known[name], settings=resource.settings)
        cell = graph.cells[name]
        state = self.store.state(cell.experiment, known[name])
        if state.status is not State.COMPLETE or state.folder is None:
            raise _absence(cell, state, f"{slot}: ")
        return Input(
            slot,
            name,
            cell.provides,
            known[name],
            path=state.folder,
            inputs=self._found_inputs(graph, cell, known)[0],
            run=state.folder.name,
            content=state.content,
        )

    def recorded(self, folder: Path) -> Input | None:
        """Return the dataset of a run as a stage would be given it: see :func:`recorded_input`.

        What is declared still, and is the same data still, is read where it lies by now: keys that
        do not count, as the folder of images, stand in no record.
        """
        return recorded_input(self.store, folder, self._still)

    def _still(self, name: str, need: Mapping[str, Any]) -> Any:
        """Return the settings of a resource that a run needed, None if it is another one by now."""
        resource = self.declaration.resources.get(name)
        kind = need.get("family"), need.get("kind")
        if resource is None or (resource.family, resource.kind) != kind:
            return None
        identity = self.identity(resource)[0]
        now = fingerprints(self.graph, [name], {name: identity})[name]
        return resource.settings if now == need.get("fingerprint") else None

    def cell(self, text: str) -> Cell:
        """Return the one declared cell that a name means; see :meth:`Graph.select_one`."""
        return self.graph.select_one(text)

    def current(self, text: str) -> Path:
        """Return the folder of the current dataset of a cell.

        A dataset outlives the data that it was made from: what is gone from this machine, or never
        was on it, counts as it was when it was last read.

        Raises
        ------
        SelectionError
            If the name means none or several cells.
        MissingInputsError
            If there is no whole dataset of the cell as it is declared now.
        """
        cell = self.cell(text)
        known = self._remembered_fingerprints(cell)
        state = self.store.state(cell.experiment, known[cell.name])
        if state.status is State.COMPLETE and state.folder is not None:
            return state.folder
        raise _absence(cell, state)

    def finished(self, text: str) -> Input:
        """Return the current dataset of a cell with all that it was made from behind it.

        It fills a slot of the name of its schema. What is behind it and gone is left out.

        Raises
        ------
        SelectionError
            If the name means none or several cells.
        MissingInputsError
            If there is no whole dataset of the cell as it is declared now.
        """
        cell = self.cell(text)
        known = self._remembered_fingerprints(cell)
        return self._input(self.graph, cell.provides, cell.name, known)

    def _remembered_fingerprints(self, cell: Cell) -> dict[str, str]:
        """Return fingerprints by name; of data that cannot be read, as it was last read."""
        behind = self.graph.behind([cell.name])
        identities = self._identities(self.graph, [cell.name])
        for name in [name for name, identity in identities.items() if identity is None]:
            identities[name] = self._remembered_identity(name, behind)
        return fingerprints(self.graph, [cell.name], identities)

    def _remembered_identity(self, resource: str, cells: Collection[str]) -> str | None:
        """Return what a resource was when one of these cells last read it; None if none has."""
        readings: list[tuple[str, Mapping[str, Any]]] = []
        for cell in self.graph.cells.values():
            for slot, name in cell.needs.items():
                if cell.name in cells and name == resource:
                    past = self.store.history(cell.experiment)
                    for task in (*past.get(cell.former_name, ()), *past.get(cell.name, ())):
                        attempt = self.store.last_attempt(cell.experiment, task.fingerprint)
                        readings.append((attempt, task.needs.get(slot, {})))
            if cell.aside and cell.name in cells:
                for task in self.store.history(cell.experiment).get(cell.name, ()):
                    attempt = self.store.last_attempt(cell.experiment, task.fingerprint)
                    own = {"name": resource, "identity": task.aside.get(resource)}
                    readings.append((attempt, own))
        readings.sort(key=lambda reading: reading[0], reverse=True)
        known = (need.get("identity") for _, need in readings if need.get("name") == resource)
        return next(filter(None, known), None)


def modules_of(cell: Cell) -> tuple[str, ...]:
    """Return the modules whose code counts as the stage's own for a cell, plug-ins too."""
    return load_stage(cell.stage).code_modules(cell.config)


def _absence(cell: Cell, state: TaskState, before: str = "") -> MissingInputsError:
    """Return the error that says why there is no output, and what makes it."""
    absence = {
        State.NEVER: "has no dataset here as it is declared now",
        State.MISSING: "has lost its output",
        State.RUNNING: f"is being made now, by run {state.run}",
        State.INTERRUPTED: "was interrupted",
    }.get(state.status, f"is {state.status}" if state.status is State.DAMAGED else state.status)
    why = f" ({state.why})" if state.why else ""
    reason = f"{before}{cell.name!r} {absence}{why}"
    if state.status is State.RUNNING:
        return MissingInputsError(reason, stage=cell.stage)
    command = f"factbook run {shlex.quote(cell.name)}"
    is_damaged = state.status is State.DAMAGED
    reason = f"{reason}; {command}"
    return MissingInputsError(reason, stage=cell.stage, command=command, is_damaged=is_damaged)


def open_project(path: Path | str | None = None) -> Project:
    """Open the project of a folder, or of the current one and those above it.

    Raises
    ------
    DeclarationError
        If there is no ``experiments.toml``, or it has faults: all of them.
    RestoringError
        If it is half restored.
    """
    file = find_declaration() if path is None else Path(path)
    folder = str((file if file.is_dir() else file.parent).absolute())
    if folder not in sys.path:  # so that a project's own plug-ins and stages are found
        sys.path.append(folder)
    project = Project(read_declaration(file))
    if (mark := project.state / RESTORING).exists():
        command = str((read_json(mark) or {}).get("command") or "factbook restore")
        raise RestoringError(f"{project.root} is half restored; {command}", command=command)
    with contextlib.suppress(OSError, StoreError):  # full, or not ours to write: the next one does
        finish_deletions(project)
    return project


def finish_deletions(project: Project) -> list[str]:
    """Remove datasets and journals of deleted runs that are still there; return these runs."""
    unfinished = half_deleted(project.root)
    for uid in unfinished:
        tombstone = read_tombstone(project.root, uid)
        fingerprint = (tombstone and tombstone.fingerprint) or "*"
        for task in project.store.root.glob(f"*/{fingerprint}"):
            if (task / ATTEMPTS).exists():
                project.store.forget_run(task / uid)
        remove_journal(project.root, uid)
    return unfinished


Still: TypeAlias = Callable[[str, Mapping[str, Any]], Any]
"""Returns the settings of what a run needed, by its name and record; None if they are unknown."""


def recorded_input(
    store: ExperimentStore, folder: Path, still: Still, slot: str = ""
) -> Input | None:
    """Return the dataset of a run as a stage would be given it, with what is behind it.

    By what lies on disk: what was superseded, or is declared no more, is found as it was.

    Parameters
    ----------
    store : ExperimentStore
        Where the datasets behind it lie.
    folder : Path
        The folder of the run.
    still : callable
        What knows resources that are declared still.
    slot : str
        The slot that it fills; by default one of the name of its schema.

    Returns
    -------
    Input or None
        None if there is no whole dataset. What is gone of all behind it is left out.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    needs = (read_json(folder.parent / "task.json") or {}).get("needs", {})
    found = {
        name: _recorded_behind(store, name, facts, needs.get(name, {}), still)
        for name, facts in manifest["inputs"].items()
    }
    return Input(
        slot or manifest["schema"],
        manifest["experiment"],
        manifest["schema"],
        manifest["fingerprint"],
        path=folder,
        inputs={name: given for name, given in found.items() if given is not None},
        run=folder.name,
        content=manifest["content"],
    )


def _recorded_behind(
    store: ExperimentStore,
    slot: str,
    facts: Mapping[str, Any],
    need: Mapping[str, Any],
    still: Still,
) -> Input | None:
    """Return what filled a slot: the dataset of a run, or what was declared then."""
    name, fingerprint, run = facts["name"], facts["fingerprint"], facts.get("run")
    if run is not None:
        behind = store.folder(name.partition("[")[0], fingerprint) / run
        return recorded_input(store, behind, still, slot)
    if (known := still(name, need)) is not None:
        return Input(slot, name, facts["kind"], fingerprint, settings=known)
    kind = kinds(need.get("family", "")).get(need.get("kind", ""))
    if kind is None:
        return None
    try:
        settings = kind.settings.validate(kind.settings.rules.completed(need["settings"]))
    except ConfigError:  # declared in a form that this code does not know
        return None
    return Input(slot, name, facts["kind"], fingerprint, settings=settings)
