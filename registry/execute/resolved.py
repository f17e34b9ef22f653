"""One task, resolved: its configuration and inputs; and what a stage may ask of its run."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from registry.declare.cells import Cell, Graph
from registry.declare.faults import ConfigError, DeclarationError, Fault, StageError
from registry.declare.stage import Input, Stage, load_stage
from registry.interrupts import Check
from registry.plan.artifacts import Attempt, ExperimentStore
from registry.plan.looking import looked_at_once
from registry.plan.preflight import UnmetNeedsError, look_ahead
from registry.plan.project import Project, modules_of
from registry.plan.sources import Code, code_of
from registry.plan.task import Task
from registry.record.journal import journal_root
from registry.record.liveness import note_adoption
from registry.store.checkpoint import Checkpoint
from registry.store.manifest import Provenance
from registry.store.parts import Part, WrittenPart
from registry.suggest import RefusalError, nearest

if TYPE_CHECKING:
    from registry.store.shards import ShardWriter

PROGRESS = "progress.json"
PROGRESS_SECONDS = 0.5


class DataChangedError(RefusalError):
    """Outside data is another than when a task was planned, whose fingerprint is of what it was."""


@dataclass(frozen=True)
class ResolvedTask:
    """A task with everything that it needs to run.

    Attributes
    ----------
    cell : Cell
        What is to be made; where its configuration is nowhere declared, it has the name of its
        experiment.
    fingerprint : str
        16 hexadecimal digits.
    inputs : mapping of str to Input
        What fills each slot.
    record : mapping
        What ``task.json`` says.
    overrides : mapping
        Keys that differ from what is declared; ``needs.slot`` for an input.
    code : Code
        What it is made with.
    current : str
        Identifier of the task's current run, "" if there is none.
    part : Part or None
        The part of it that is to be written; None for all that is still missing, and its end.
    """

    cell: Cell
    fingerprint: str
    inputs: Mapping[str, Input]
    record: Mapping[str, Any]
    overrides: Mapping[str, Any]
    code: Code
    current: str = ""
    part: Part | None = None

    @property
    def title(self) -> str:
        """Name of the cell, and which part of it."""
        return f"{self.cell.name} {self.part}" if self.part else self.cell.name

    @property
    def stage(self) -> Stage:
        """The stage that is run."""
        return load_stage(self.cell.stage)

    @property
    def config(self) -> Any:
        """The validated configuration."""
        return self.stage.resolve(self.cell.config)

    def described_inputs(self) -> dict[str, dict[str, Any]]:
        """Return what a record says of the inputs, as plain values."""
        keys = ("name", "kind", "fingerprint", "run", "content")
        return {
            slot: {key: vars(given)[key] for key in keys if vars(given)[key] is not None}
            for slot, given in self.inputs.items()
        }

    def facts(self, project: Project) -> dict[str, Any]:
        """Return what stands under ``info.factbook`` from the start."""
        return {
            "experiment": self.cell.experiment,
            "cell": self.cell.name,
            "stage": self.cell.stage,
            "stage_version": self.cell.version,
            "fingerprint": self.fingerprint,
            "overrides": dict(self.overrides),
            "inputs": self.described_inputs(),
            "packages": dict(self.code.packages),
            "package_hashes": dict(self.code.package_hashes),
            "sources": self.code.digest,
            "commit": self.code.commit.commit if self.code.commit else None,
            "project": project.declaration.name,
            "root": str(project.root),
            **({"part": {"number": self.part.number, "of": self.part.of}} if self.part else {}),
        }

    @property
    def input_contents(self) -> dict[str, str]:
        """Slot to what distinguishes the data that fills it."""
        return {slot: given.content or given.fingerprint for slot, given in self.inputs.items()}

    def begin(self, store: ExperimentStore, uid: str, *, alone: bool = False) -> Attempt:
        """Open an attempt at this task; see :meth:`ExperimentStore.begin`."""
        task = self.cell.experiment, self.fingerprint, self.record
        given = uid, self.input_contents, self.code.digest
        current = self.current if alone else None
        return store.begin(*task, *given, current=current, part=self.part)

    def part_state(self, store: ExperimentStore) -> tuple[WrittenPart | None, str]:
        """Return what is known of its part; see :meth:`ExperimentStore.part_state`."""
        task = self.cell.experiment, self.fingerprint
        if self.part is None:
            return None, ""
        return store.part_state(*task, self.part, self.input_contents, self.code.digest)


def without_experiments(project: Project) -> Project:
    """Return a project without what running one task does not need, so that it is light."""
    bare = replace(project.declaration, experiments={}, suites={}, order=(), demands={})
    return Project(bare)


@looked_at_once()
def planned_task(project: Project, task: Task, graph: Graph | None = None) -> ResolvedTask:
    """Return a task of a plan with its inputs.

    Raises
    ------
    DataChangedError
        If outside data is another than when the task was planned.
    MissingInputsError
        With every input that is not there.
    """
    graph = graph or project.graph
    known = project.fingerprints(graph, task.name)
    if known[task.name] != task.fingerprint:
        _tell_changed_data(project, task, known)
    inputs = project.inputs(graph, task.cell, known)
    code = code_of(task.stage, project.root, modules_of(task.cell))
    current = project.store.current_run(task.cell.experiment, task.fingerprint)
    own = task.cell, task.fingerprint, inputs, task.record()
    return ResolvedTask(*own, {}, code, current, task.part)


def _tell_changed_data(project: Project, task: Task, known: Mapping[str, str]) -> None:
    """Raise that data has changed; of data that is gone, its absence tells more."""
    declared = project.declaration.resources
    own = {slot: task.cell.needs[slot] for slot in task.resources}
    if any(project.identity(declared[name])[0] is None for name in own.values()):
        return
    changed = [repr(name) for slot, name in own.items() if known[name] != task.inputs[slot]]
    what = f"the data of {' and '.join(changed)}" if changed else "data that it rests on"
    raise DataChangedError(
        f"{what} has changed since this was planned: run again, and what rests on it is made anew"
    )


def adopt_finished(project: Project, task: ResolvedTask) -> str:
    """Take the dataset that a run had finished when it was killed, and complete its record.

    Returns
    -------
    str
        Identifier of that run; "" if there is none.
    """
    journals = journal_root(project.root)
    return project.store.adopt(
        task.cell.experiment,
        task.fingerprint,
        task.input_contents,
        lambda run: note_adoption(journals / run),
    )


@looked_at_once()
def resolve_task(project: Project, stage: Stage, config: Mapping[str, Any]) -> ResolvedTask:
    """Return the task that a Sacred configuration describes.

    Parameters
    ----------
    project : Project
        Where the inputs are declared.
    stage : Stage
        What is run.
    config : mapping
        The stage's keys, ``seed``, ``experiment`` and ``needs``.

    Raises
    ------
    ConfigError, SelectionError, MissingInputsError, UnmetNeedsError
        If there is no such task, or its inputs or what else it needs are not there.
    """
    values = {key: config[key] for key in stage.settings.keys if key in config}
    _check_values(stage, config, values)
    name = str(config["experiment"]) or stage.name.rpartition(".")[2].replace("_", "-")
    needs = {slot: str(reference) for slot, reference in config["needs"].items() if reference}
    try:
        graph = project.variant(name, stage.name, values, needs)
    except DeclarationError as error:
        own = re.compile(rf"^(experiments\.{re.escape(name)}\.)?(config\.)?")  # not the file's
        faults = (Fault(own.sub("", fault.key), fault.message) for fault in error.faults)
        raise ConfigError(tuple(faults)) from error
    cell = graph.select_one(name)
    known = project.fingerprints(graph, cell.name)
    same = (  # the declared cells of the experiment with this configuration and fingerprint
        other
        for other in project.graph.by_experiment.get(name, ())
        if other.result_config == cell.result_config
        and project.fingerprints(project.graph, other.name)[other.name] == known[cell.name]
    )
    declared = next(same, None)
    task = project.plan([cell.name], graph=graph).task(cell.name)
    ahead = look_ahead(project, [task], graph)
    if ahead.missing:
        raise UnmetNeedsError(ahead)
    planned = planned_task(project, task, graph)
    nearest_cells = [declared] if declared else project.graph.by_experiment.get(name, ())
    differences = (_difference(candidate, cell) for candidate in nearest_cells)
    overrides = min(differences, key=len, default={})
    if declared is not None:
        cell = replace(cell, name=declared.name, values=declared.values)
    record = {**task.record(), "cell": cell.name}
    return replace(planned, cell=cell, record=record, overrides=overrides)


def _check_values(stage: Stage, config: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    known = (*stage.settings.keys, "seed", "experiment", "needs")
    unknown = sorted(config.keys() - set(known))
    faults = [Fault("", f"unknown key {key!r}{nearest(key, known)}") for key in unknown]
    if "seed" not in stage.settings.keys and config.get("seed"):
        faults.append(Fault("seed", f"{stage.name} draws nothing; it has no seed"))
    for name, slot in stage.slots.items():
        if not (slot.is_optional or config["needs"].get(name)):
            message = f"not given; name a declared experiment, or an input as needs.{name}=…"
            faults.append(Fault(f"needs.{name}", message))
    try:
        stage.resolve(values)
    except ConfigError as error:
        faults.extend(error.faults)
    if faults:
        raise ConfigError(tuple(faults))


def _difference(declared: Cell, cell: Cell) -> dict[str, Any]:
    """Return what differs from a declared cell."""
    config = {key: value for key, value in cell.config.items() if declared.config.get(key) != value}
    needs = {
        f"needs.{slot}": name
        for slot, name in cell.needs.items()
        if declared.needs.get(slot) != name
    }
    return config | needs


class TaskRun:
    """What a stage may ask of its run; see :class:`registry.declare.stage.Run`."""

    def __init__(
        self,
        task: ResolvedTask,
        attempt: Attempt,
        sacred_run: Any,
        journal: Path | None,
        check_signals: Check = lambda: None,
    ):
        self.uid = attempt.uid
        self.experiment = task.cell.name
        self.fingerprint = task.fingerprint
        self.partial = attempt.partial
        self._task = task
        self._attempt = attempt
        self._sacred_run = sacred_run
        self._journal = journal
        self._check_signals = check_signals
        self._reported = 0.0
        self._writers: list[ShardWriter] = []
        self._started = datetime.now(UTC)

    def log(self, name: str, value: float, step: int) -> None:
        """Record one point of a metric's curve."""
        self._check_signals()
        self._sacred_run.log_scalar(name, float(value), int(step))

    def progress(self, done: int, total: int, what: str = "") -> None:
        """Tell whoever watches how far the run is; at most twice a second."""
        self._check_signals()
        now = time.monotonic()
        if self._journal is None or (now - self._reported < PROGRESS_SECONDS and done < total):
            return
        self._reported = now
        scratch = self._journal / f".{PROGRESS}"
        with suppress(OSError):  # nobody loses anything by a progress that is not shown
            scratch.write_text(json.dumps({"done": done, "total": total, "what": what}))
            scratch.replace(self._journal / PROGRESS)

    def attach(self, name: str) -> Path:
        """Return the path of a file to write beside the dataset.

        Raises
        ------
        ValueError
            If the name leads out of the run's folder.
        """
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise ValueError(f"attachment {name!r}; expected a path inside the run's folder")
        path = self._attempt.output / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def checkpoint(self, name: str) -> Checkpoint:
        """Return a file of ``partial`` that the next attempt resumes from, if it is whole."""
        return Checkpoint(self.partial, name)

    def shards(self, count: int | None = None) -> ShardWriter:
        """Return the writer of the output in parts, which resumes what is there.

        Parameters
        ----------
        count : int, optional
            How many parts there will be; without, the task cannot be cut.

        Raises
        ------
        StageError
            If this run writes a part of the task, and their number is not given.
        PartWritten
            If this run writes a part of the task, and so few parts leave nothing to it.
        """
        from registry.store.shards import PartWritten, ShardWriter  # heavy: xarray

        own, part = None, self._task.part
        if part is not None and count is None:
            raise StageError(f"{self._task.cell.stage} does not say how many parts it writes")
        if part is not None:
            own = part.share(count or 0)
            named = f"{own.start} to {own.stop - 1} of {count}" if own else f"none of {count}"
            sys.stdout.write(f"{str(part).capitalize()}: files {named}, counted from 0\n")
            if not own:
                raise PartWritten
        attributes, attempt = self.provenance().attributes(), self._attempt
        guard, schema = attempt.require_held, self._task.stage.output
        writer = ShardWriter(attempt.output, schema, attributes, parts=own, guard=guard)
        self._writers.append(writer)
        return writer

    def close(self) -> None:
        """Wait for what is still being written: nothing is once the attempt is over."""
        for writer in self._writers:
            writer.close()

    def provenance(self) -> Provenance:
        """Return where the output comes from."""
        task, config, commit = self._task, self._task.cell.config, self._task.code.commit
        return Provenance(
            experiment=task.cell.name,
            run=self.uid,
            fingerprint=task.fingerprint,
            stage=task.cell.stage,
            version=task.cell.version,
            config=config,
            inputs=task.described_inputs(),
            commit=commit.commit if commit else "",
            sources=task.code.digest,
            seed=config.get("seed"),
            started=self._started,
            parts=tuple(part.entry() for part in self._attempt.written_parts),
        )
