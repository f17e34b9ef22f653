"""What was made from what: declared cells and finished runs in one graph, to be looked at.

A declared cell stands in it under its name, for the dataset that it asks for now. Any other run of
which the dataset is whole stands there under its identifier: superseded, made under another
configuration, or of an experiment that is declared no more. What a dataset was made from is what
its run has read, whatever is declared by now.
"""

from __future__ import annotations

import math
import os
import re
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from registry.catalog.runs import UID
from registry.declare.cells import Graph
from registry.declare.stage import find_stage
from registry.plan.project import Project
from registry.record.tombstones import deleted_uids
from registry.store.manifest import CURRENT, read_manifest

_FINGERPRINT = re.compile(r"[0-9a-f]{16}")
_QUICK = 0.05  # seconds
_UNSETTLED = 1_000_000_000  # ns in which a folder may change again without another time


@dataclass(frozen=True)
class Finished:
    """The whole dataset of a run, as its manifest tells.

    Attributes
    ----------
    run, cell, stage, schema, fingerprint, content : str
        Identifier of the run, what it was called and what made it, and digest of what it holds.
    config : mapping
        The resolved configuration.
    inputs : mapping of str to mapping
        Slot to ``name``, ``fingerprint``, ``content`` and, of a dataset, ``run``.
    folder : Path
        Where it is.
    """

    run: str
    cell: str
    stage: str
    schema: str
    fingerprint: str
    content: str
    config: Mapping[str, Any]
    inputs: Mapping[str, Mapping[str, Any]]
    folder: Path

    @classmethod
    def read(cls, folder: Path) -> Finished | None:
        """Return what the manifest of a run's folder tells, None where there is none."""
        manifest = read_manifest(folder)
        if manifest is None:
            return None
        cell, stage, schema, fingerprint, content = (
            str(manifest.get(name) or "")
            for name in ("experiment", "stage", "schema", "fingerprint", "content")
        )
        config, inputs = manifest.get("config") or {}, manifest.get("inputs") or {}
        told = (cell, stage, schema, fingerprint, content)
        return cls(folder.name, *told, config, inputs, folder)

    @property
    def experiment(self) -> str:
        """Name of its experiment, which is its folder in the store."""
        return self.folder.parent.parent.name


def started_of(run: str) -> datetime:
    """Return when a run began, UTC, by its identifier."""
    return datetime.strptime(run[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)


@dataclass
class _Task:
    """What is known of one folder of a task: what it holds, as of its time of change."""

    changed: int
    runs: dict[str, Finished]
    current: str


class FinishedRuns:
    """Every whole dataset of a store: read once, then kept up to date at the price of what changed.

    Parameters
    ----------
    root : Path
        The store.
    left_out : collection of str
        Experiments that are not looked at.

    Attributes
    ----------
    version : int
        Counts the refreshes that found something new.
    """

    def __init__(self, root: Path, left_out: Collection[str] = ()):
        self._root = root
        self._left_out = left_out
        self._lock = threading.Lock()
        self._tasks: dict[tuple[str, str], _Task] = {}
        self._due = 0.0
        self.version = 0

    def refresh(self, often: float = math.inf) -> int:
        """Read what is new; return the version.

        Parameters
        ----------
        often : float
            Which share of the time may be spent on it at most, where it is not quick: nothing is
            read again before that.
        """
        with self._lock:
            if time.monotonic() < self._due:
                return self.version
            begin = time.thread_time()
            found = dict(self._looked_at())
            if found != self._tasks:
                self._tasks = found
                self.version += 1
            took = time.thread_time() - begin
            self._due = time.monotonic() + (took / often if took > _QUICK else 0.0)
            return self.version

    def runs(self) -> dict[str, Finished]:
        """Return the datasets by run, as of the last refresh."""
        with self._lock:
            return {uid: one for task in self._tasks.values() for uid, one in task.runs.items()}

    def experiments(self) -> set[str]:
        """Return the experiments of which some task was begun."""
        return {experiment for experiment, _ in self._tasks}

    def current(self, experiment: str, fingerprint: str) -> str:
        """Return the current run of a task, "" where none is whole."""
        task = self._tasks.get((experiment, fingerprint))
        return task.current if task and task.current in task.runs else ""

    def _looked_at(self) -> Iterator[tuple[tuple[str, str], _Task]]:
        for experiment in _folders_in(self._root):
            if experiment.name in self._left_out:
                continue
            for task in _folders_in(experiment.path):
                if _FINGERPRINT.fullmatch(task.name):
                    key = (experiment.name, task.name)
                    changed = task.stat(follow_symlinks=False).st_mtime_ns
                    yield key, self._look(Path(task.path), changed, self._tasks.get(key))

    def _look(self, folder: Path, changed: int, known: _Task | None) -> _Task:
        if known is not None and known.changed == changed:
            return known
        before = known.runs if known else {}
        runs = {}
        for one in _folders_in(folder):
            if UID.fullmatch(one.name):
                found = before.get(one.name) or Finished.read(folder / one.name)
                if found is not None:
                    runs[one.name] = found
        try:
            current = os.readlink(folder / CURRENT)
        except OSError:
            current = ""
        is_settled = changed < time.time_ns() - _UNSETTLED
        return _Task(changed if is_settled else 0, runs, current)


def _folders_in(path: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as found:
            return [one for one in found if one.is_dir(follow_symlinks=False)]
    except OSError:
        return []


@dataclass(frozen=True)
class Entry:
    """One dataset that can be looked at, or that is declared and not there.

    Attributes
    ----------
    name : str
        Name of the cell that asks for it now; the identifier of its run, where none does.
    cell, experiment : str
        What made it: of a run as it was called then.
    stage, provides : str
        What makes it, "" where that is not known here, and of which schema it is.
    config : mapping
        The resolved configuration.
    needs : mapping of str to str
        Slot to the name of what fills it: an entry, a resource, or a run that is gone.
    run : str
        Whose dataset it is; "" where there is none.
    folder : Path or None
        Where it is.
    fingerprint : str
        Of its task; "" where there is no dataset.
    """

    name: str
    cell: str
    experiment: str
    stage: str
    provides: str
    config: Mapping[str, Any]
    needs: Mapping[str, str]
    run: str = ""
    folder: Path | None = None
    fingerprint: str = ""

    @property
    def is_current(self) -> bool:
        """Whether it is what a declared cell asks for now."""
        return self.name == self.cell

    @property
    def title(self) -> str:
        """Name of its cell; of a run that none asks for, with the time at which that began."""
        if self.is_current:
            return self.cell
        return f"{self.cell} ({started_of(self.run):%Y-%m-%d %H:%M:%S})"

    @property
    def address(self) -> dict[str, str]:
        """What names it for good: its cell for readers, and its run."""
        return {"cell": self.cell, **({"run": self.run} if self.run else {})}


@dataclass(frozen=True)
class Lineage:
    """Declared cells and finished runs, with what each was made from.

    Attributes
    ----------
    graph : Graph
        The declared cells.
    entries : mapping of str to Entry
        By name: the declared cells, each after those that it needs, then all other finished runs,
        those of experiments that are declared first before others, the newest first.
    preferred : frozenset of str
        Runs that come before others where one of several is meant.
    """

    graph: Graph
    entries: Mapping[str, Entry]
    preferred: frozenset[str] = field(default=frozenset())

    def preferring(self, runs: Iterable[str]) -> Lineage:
        """Return the same, where these runs come before others; both share their indices."""
        indices = {"_by_run": self._by_run, "_users": self._users, "_earlier": self._earlier}
        other = replace(self, preferred=frozenset(runs))
        vars(other).update(indices)  # as `cached_property` keeps them
        return other

    @cached_property
    def _by_run(self) -> dict[str, Entry]:
        return {entry.run: entry for entry in self.entries.values() if entry.run}

    @cached_property
    def _users(self) -> dict[str, list[Entry]]:
        users: dict[str, list[Entry]] = {}
        for entry in self.entries.values():
            for name in dict.fromkeys(entry.needs.values()):
                users.setdefault(name, []).append(entry)
        return users

    @cached_property
    def _earlier(self) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = {}
        for entry in self.entries.values():
            if not entry.is_current:
                found.setdefault(entry.cell, []).append(entry)
        return found

    def of_run(self, run: str) -> Entry | None:
        """Return the entry of a run's dataset, None where there is none."""
        return self._by_run.get(run)

    def earlier(self, cell: str) -> list[Entry]:
        """Return the finished runs of a cell that it does not ask for now, the newest first."""
        return list(self._earlier.get(cell, ()))

    def standing_for(self, name: str) -> str:
        """Return the name of what is shown for a name: where a cell has nothing, its last run."""
        entry = self.entries.get(name)
        if entry is not None and not entry.run and (earlier := self._earlier.get(name)):
            return earlier[0].name
        return name

    def is_made(self, name: str) -> bool:
        """Return whether there is a dataset under a name."""
        entry = self.entries.get(name)
        return entry is not None and bool(entry.run)

    def users(self, name: str) -> list[Entry]:
        """Return what was, or is to be, made directly from an entry."""
        return list(self._users.get(name, ()))

    def made_from(self, name: str) -> list[Entry]:
        """Return what was, or is to be, made from an entry, through any number of steps."""
        reached, waiting = {name}, [name]
        while waiting:
            for user in self._users.get(waiting.pop(), ()):
                if user.name not in reached:
                    reached.add(user.name)
                    waiting.append(user.name)
        reached.discard(name)
        return [entry for entry in self.entries.values() if entry.name in reached]


def lineage_of(project: Project, store: FinishedRuns | None = None) -> Lineage:
    """Return what was made from what in a project.

    Parameters
    ----------
    project : Project
        What is declared, and where the store is.
    store : FinishedRuns, optional
        What is known of the store, refreshed; read anew by default.
    """
    if store is None:
        store = FinishedRuns(project.store.root)
        store.refresh()
    return _Reading(project, store).lineage()


class _Reading:
    """Puts declaration and store together."""

    def __init__(self, project: Project, store: FinishedRuns):
        self.graph = project.graph
        deleted = deleted_uids(project.root)
        self.runs = {uid: one for uid, one in store.runs().items() if uid not in deleted}
        begun = store.experiments()
        cells = [cell for cell in self.graph.cells.values() if cell.experiment in begun]
        self.known = project.known_fingerprints(cell.name for cell in cells)
        current = {
            cell.name: store.current(cell.experiment, self.known[cell.name]) for cell in cells
        }
        self.current = {name: uid for name, uid in current.items() if uid in self.runs}
        self.cell_of = {uid: name for name, uid in self.current.items()}
        self.former = {cell.former_name: cell.name for cell in cells if cell.former_name}

    def lineage(self) -> Lineage:
        entries = [self._declared(name) for name in self.graph.cells]
        order = {name: place for place, name in enumerate(self.graph.by_experiment)}
        others = [self._earlier(one) for uid, one in self.runs.items() if uid not in self.cell_of]
        others.sort(key=lambda entry: entry.run, reverse=True)
        others.sort(key=lambda entry: order.get(entry.experiment, len(order)))
        return Lineage(self.graph, {entry.name: entry for entry in (*entries, *others)})

    def _declared(self, name: str) -> Entry:
        cell = self.graph.cells[name]
        made = self.runs.get(self.current.get(name, ""))
        needs = {**cell.needs, **(self._needs(made, cell.needs) if made else {})}
        about = (name, name, cell.experiment, cell.stage, cell.provides, cell.config, needs)
        return Entry(*about, made.run, made.folder, made.fingerprint) if made else Entry(*about)

    def _earlier(self, made: Finished) -> Entry:
        name = self.former.get(made.cell, made.cell)
        cell, stage = self.graph.cells.get(name), find_stage(made.stage)
        known = stage.name if stage else ""
        if cell is not None and made.stage in (cell.stage, *cell.former_stages):
            known = cell.stage
        needs = self._needs(made, {})
        about = (made.run, name, made.experiment, known, made.schema, made.config, needs)
        return Entry(*about, made.run, made.folder, made.fingerprint)

    def _needs(self, made: Finished, declared: Mapping[str, str]) -> dict[str, str]:
        return {
            slot: self._standing(facts, declared.get(slot, ""))
            for slot, facts in made.inputs.items()
            if facts.get("name")
        }

    def _standing(self, facts: Mapping[str, Any], declared: str) -> str:
        """Return the name of what filled a slot: of what has the same bits, the current one."""
        name, run = str(facts["name"]), str(facts.get("run") or "")
        if not run:
            return declared or name
        if run in self.cell_of:
            return self.cell_of[run]
        for cell in (declared, self.former.get(name, name)):
            current = self.runs.get(self.current.get(cell, ""))
            if current is not None and current.content == facts.get("content"):
                return cell
            is_gone = current is None and run not in self.runs
            if is_gone and cell and self.known.get(cell) == facts.get("fingerprint"):
                return cell
        return run
