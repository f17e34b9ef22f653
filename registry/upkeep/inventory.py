"""Every dataset in the store of a project, and what needs it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from registry.catalog.runs import UID
from registry.plan.artifacts import read_attempts
from registry.plan.project import Project
from registry.record.appendfile import BALLAST_FILE
from registry.record.journal import EVENTS, aware, journal_root, journal_uids, read_journal
from registry.record.liveness import journal_status
from registry.store.durable import read_json
from registry.store.manifest import CURRENT, MANIFEST, read_manifest

WRITTEN = timedelta(hours=1)
"""In which whoever writes a temporary file, or has made a journal, may still be at it."""

_LIVE = ("RUNNING", "QUEUED")
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Holding:
    """The folder of one run in the store.

    Attributes
    ----------
    run : str
        Identifier of the run.
    folder : Path
        Where it lies.
    cell : str
        What it is a dataset of.
    schema, content : str
        Of the dataset; "" where it is not whole.
    made : datetime
        When it was made, UTC.
    size : int
        Bytes of its files.
    inputs : tuple of str
        Identifiers of the runs whose datasets it was made from.
    is_whole : bool
        Whether it has a manifest that is as it was written.
    is_current : bool
        Whether it is the current one of its task, declared or not.
    """

    run: str
    folder: Path
    cell: str
    schema: str
    content: str
    made: datetime
    size: int
    inputs: tuple[str, ...]
    is_whole: bool
    is_current: bool

    @property
    def experiment(self) -> str:
        """The experiment in whose folder it lies."""
        return self.folder.parents[1].name

    @property
    def fingerprint(self) -> str:
        """Fingerprint of its task."""
        return self.folder.parent.name


@dataclass(frozen=True)
class Inventory:
    """What the store of a project holds, as it was found at one moment.

    Attributes
    ----------
    project : Project
        Whose store.
    holdings : mapping of str to Holding
        By run, the oldest first.
    live : mapping of str to (frozenset of str)
        The runs that run now, each with the runs whose datasets it reads.
    journals : frozenset of str
        The runs whose journals are here.
    tasks : tuple of Path
        The folder of every task that was ever begun.
    claimed : frozenset of str
        Content digests of what runs read that have claimed their tasks, perhaps without a journal
        yet.
    """

    project: Project
    holdings: Mapping[str, Holding]
    live: Mapping[str, frozenset[str]]
    journals: frozenset[str]
    tasks: tuple[Path, ...]
    claimed: frozenset[str] = frozenset()

    @cached_property
    def declared(self) -> dict[tuple[str, str], str]:
        """The cells by experiment and fingerprint of their tasks, as they are declared now."""
        known, _ = self._fingerprints
        cells = self.project.graph.cells.values()
        return {(cell.experiment, known[cell.name]): cell.name for cell in cells}

    @cached_property
    def _fingerprints(self) -> tuple[dict[str, str], set[str]]:
        return self.project.declared_fingerprints()

    @cached_property
    def _unclear(self) -> set[str]:
        """Experiments of which nobody knows which tasks they are now: their data is away."""
        cells = self.project.graph.cells
        return {cells[name].experiment for name in self._fingerprints[1]}

    @cached_property
    def current(self) -> dict[str, str]:
        """The runs whose datasets are the current ones of cells as they are declared, with these.

        Where the data behind a cell cannot be read, the current dataset of every task of its
        experiment counts; where a run was killed before it could publish, its whole dataset.
        """
        found: dict[Path, str] = {}
        for each in self.holdings.values():  # the newest is the last
            task = each.folder.parent
            if (each.is_current and self.is_declared(task)) or (
                each.is_whole and self.is_due(task)
            ):
                found[task] = each.run
        return {run: self.cell_of(task) for task, run in found.items()}

    def is_declared(self, task: Path) -> bool:
        """Whether a task is that of some cell, as far as anybody knows."""
        return _key(task) in self.declared or task.parent.name in self._unclear

    def is_due(self, task: Path) -> bool:
        """Whether a task is declared, and has no dataset yet."""
        return self.is_declared(task) and not (task / CURRENT / MANIFEST).exists()

    def is_running(self, task: Path) -> bool:
        """Whether a run is at a task now."""
        return bool(self.live) and not self.live.keys().isdisjoint(read_attempts(task))

    def cell_of(self, task: Path) -> str:
        """Return the cell that a task is of, or was."""
        past = read_json(task / "task.json") or {}
        return self.declared.get(_key(task)) or str(past.get("cell") or task.parent.name)

    @cached_property
    def unbegun(self) -> tuple[Path, ...]:
        """The journals of runs that were killed before they began: nothing stands in them."""
        folders = (journal_root(self.project.root) / uid for uid in sorted(self.journals))
        latest = datetime.now(UTC) - WRITTEN
        return tuple(path for path in folders if _is_empty(path) and changed_at(path) < latest)

    @cached_property
    def strangers(self) -> set[str]:
        """Runs whose journals are not here: another project may share the store."""
        return self.holdings.keys() - self.journals

    def needed_by_declared(self) -> dict[str, str]:
        """Return the runs whose datasets some declared cell needs now, and what as."""
        return self._with_inputs(
            {run: f"the current dataset of {cell!r}" for run, cell in self.current.items()}
        )

    def needed(self, also: Iterable[str] = ()) -> dict[str, str]:
        """Return the runs whose datasets something needs, and what that is.

        Parameters
        ----------
        also : iterable of str
            Runs that are kept for another reason, whose inputs are needed too.
        """
        reasons = dict.fromkeys(also, "kept")
        reasons |= dict.fromkeys(self.strangers, "recorded elsewhere")
        claimed = (run for run, each in self.holdings.items() if each.content in self.claimed)
        reasons |= dict.fromkeys(claimed, "read by a run that begins")
        for run, read in self.live.items():
            reasons |= dict.fromkeys(read, f"read by run {run}, which is running")
        return self._with_inputs(reasons) | self.needed_by_declared()

    def _with_inputs(self, reasons: dict[str, str]) -> dict[str, str]:
        """Return runs and what is said of them, with all that their datasets were made from."""
        waiting = list(reasons)
        while waiting:
            holding = self.holdings.get(waiting.pop())
            if holding is None:
                continue
            for run in holding.inputs:
                if run not in reasons:
                    reasons[run] = f"an input of {holding.cell!r}, run {holding.run}"
                    waiting.append(run)
        return reasons

    def readers(self, run: str) -> list[Holding]:
        """Return the datasets that rest on that of a run, those made from it itself first."""
        found: dict[str, Holding] = {}
        waiting = [run]
        for one in waiting:  # grows while it is gone through
            made = [each for each in self.holdings.values() if one in each.inputs]
            waiting += [each.run for each in made if each.run not in found]
            found |= {each.run: each for each in made if each.run not in found}
        return list(found.values())


def take_inventory(project: Project) -> Inventory:
    """Return what the store of a project holds now."""
    live = live_runs(project.root, set())
    store = project.store.root
    tasks = tuple(sorted(path for path in store.glob("*/*") if _FINGERPRINT.fullmatch(path.name)))
    found = (_holding(path) for task in tasks for path in task.iterdir() if _is_of_run(path))
    ordered = sorted(found, key=lambda each: (each.made, changed_at(each.folder / MANIFEST)))
    holdings = {holding.run: holding for holding in ordered}
    journals = frozenset(filter(UID.fullmatch, journal_uids(project.root)))
    claimed = frozenset().union(*(project.store.claimed_inputs(task) for task in tasks))
    return Inventory(project, holdings, live, journals, tasks, claimed)


def _is_empty(journal: Path) -> bool:
    """Whether there is nothing but what a journal is begun with."""
    names = set(os.listdir(journal)) - {BALLAST_FILE}
    events = journal / EVENTS
    return names <= {EVENTS} and not (events.exists() and events.stat().st_size)


def _is_of_run(path: Path) -> bool:
    return bool(UID.fullmatch(path.name)) and path.is_dir()


def _key(task: Path) -> tuple[str, str]:
    return task.parent.name, task.name


def live_runs(project_root: Path, known: set[str]) -> dict[str, frozenset[str]]:
    """Return the runs that run now, each with the runs whose datasets it reads.

    Parameters
    ----------
    project_root : Path
        Folder of the project.
    known : set of str
        Runs that are not looked at again; those that were looked at are added.
    """
    live, journals = {}, journal_root(project_root)
    for uid in journal_uids(project_root):
        if uid in known or not UID.fullmatch(uid):
            continue
        status = journal_status(journals / uid).status
        if status:  # else it has not said yet what it reads
            known.add(uid)
        if status in _LIVE:
            facts = read_journal(journals / uid, with_metrics=False).facts
            live[uid] = frozenset(_runs_read(facts))
    return live


def _holding(folder: Path) -> Holding:
    manifest = read_manifest(folder) or {}
    task = read_json(folder.parent / "task.json") or {}
    return Holding(
        folder.name,
        folder,
        str(manifest.get("experiment") or task.get("cell") or folder.parents[1].name),
        str(manifest.get("schema", "")),
        str(manifest.get("content", "")),
        _made(manifest, folder),
        size_of(folder),
        tuple(_runs_read(manifest)),
        bool(manifest),
        _link(folder.parent) == folder.name,
    )


def _made(manifest: Mapping[str, Any], folder: Path) -> datetime:
    with suppress(KeyError, TypeError, ValueError):
        return aware(datetime.fromisoformat(manifest["stopped"]))
    return changed_at(folder)


def _runs_read(facts: Mapping[str, Any]) -> Iterable[str]:
    inputs = facts.get("inputs")
    given = inputs.values() if isinstance(inputs, Mapping) else ()
    return [str(each["run"]) for each in given if isinstance(each, Mapping) and each.get("run")]


def _link(task: Path) -> str:
    with suppress(OSError):
        return os.readlink(task / CURRENT)
    return ""


def changed_at(path: Path) -> datetime:
    """Return when a file or folder was changed last, UTC; now, of one that is gone."""
    with suppress(OSError):
        return datetime.fromtimestamp(path.lstat().st_mtime, UTC)
    return datetime.now(UTC)


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder; what vanishes meanwhile is 0."""
    if path.is_dir() and not path.is_symlink():
        return sum(size_of(inside) for inside in path.iterdir())
    with suppress(OSError):
        return path.lstat().st_size
    return 0
