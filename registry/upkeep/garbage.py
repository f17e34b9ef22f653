"""What nothing refers to any more, and its removal.

Datasets that nothing needs, what dead runs have left to be resumed, temporary files, room that dead
journals hold back, and copies of code, logs and caches that belong to nothing. All of it is removed
such that it is whole or gone, also if that is killed, and while runs are running.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from registry.catalog.access import REMOVED
from registry.plan.artifacts import PARTIAL, read_attempts
from registry.plan.project import Project
from registry.record.appendfile import BALLAST_FILE
from registry.record.journal import journal_root, timestamp
from registry.record.liveness import RunStatus, journal_status
from registry.record.tombstones import DELETED
from registry.store.durable import TEMPORARY, StoreError, lock, write_json
from registry.store.manifest import MANIFEST
from registry.upkeep.inventory import (
    WRITTEN,
    Holding,
    Inventory,
    changed_at,
    live_runs,
    size_of,
    take_inventory,
)

KINDS = ("dataset", "partial", "temporary", "journal", "ballast", "code", "log", "cache")

_FOLLOWED = timedelta(days=1)  # for which a suite that runs may follow an older declaration
_OWN_TEMPORARY = re.compile(rf"\.\d+-[0-9a-f]{{8}}{re.escape(TEMPORARY)}$")
_CACHED = re.compile(r"presences-\d+-([0-9a-f]{32})")  # as dashboards name them


@dataclass(frozen=True)
class Garbage:
    """One thing that nothing refers to.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    path : Path
        The file or folder.
    what : str
        The cell, the run or the file that it belonged to.
    why : str
        Why it is garbage.
    size : int
        Bytes that its removal frees.
    made : datetime
        When it was written last, UTC.
    is_shown : bool
        Whether pages of the dashboard show it until it is removed.
    """

    kind: str
    path: Path
    what: str
    why: str
    size: int
    made: datetime
    is_shown: bool = False


def find_garbage(
    project: Project, older_than: timedelta = timedelta(0), keep: int = 0
) -> list[Garbage]:
    """Return what nothing refers to.

    Parameters
    ----------
    project : Project
        Where. A store may be shared: datasets of runs that have no journal here are left alone.
    older_than : timedelta
        What is younger is kept, with all that it was made from.
    keep : int
        How many of the newest datasets of each cell are kept at least, with all that they were
        made from; those that are needed count.

    Returns
    -------
    list of Garbage
        By kind, the oldest first. Never what is current for any cell, nor anything that this, or
        a running run, was made from.
    """
    inventory = take_inventory(project)
    found = [
        *_datasets(inventory, older_than, keep),
        *_partials(inventory),
        *_of_journals(inventory),
        *_of_state(inventory),
    ]
    latest = datetime.now(UTC) - older_than
    old = [each for each in found if each.made <= latest]
    return sorted(old, key=lambda each: (KINDS.index(each.kind), each.made))


def remove_garbage(project: Project, garbage: Iterable[Garbage]) -> Iterator[Garbage]:
    """Remove garbage, and yield each thing that is gone; what came into use meanwhile stays."""
    known: set[str] = set()
    read: set[str] = set()
    for each in garbage:
        if each.kind == "dataset":
            read.update(*live_runs(project.root, known).values())
        if each.path.name not in read:
            with suppress(FileNotFoundError):  # somebody else was quicker
                _remove(project, each)
            if not os.path.lexists(each.path):
                yield each


def _remove(project: Project, garbage: Garbage) -> None:
    path, store = garbage.path, project.store
    if garbage.kind == "dataset":
        is_noted = _note_removal(project, path.name)
        if not is_noted and not _is_on_one_disk(journal_root(project.root), path):
            folder = journal_root(project.root)
            raise StoreError(f"that {path} is removed cannot be noted at {folder}: it stays there")
        store.remove_run(path)
        if not is_noted:  # the disk was full; now there is room
            _note_removal(project, path.name)
    elif garbage.kind == "partial" or path.parents[2] == store.root:
        store.remove_partials(path.parent, resumable=path.name == PARTIAL)
    elif garbage.kind == "code":
        _unlink_unless_linked(path)
    elif path.is_dir():
        hidden = path.with_name(f".{path.name.lstrip('.')}{TEMPORARY}")
        path.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)
    else:
        path.unlink()


def _is_on_one_disk(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev


def _note_removal(project: Project, run: str) -> bool:
    """Note in the journal of a run that its dataset is removed on purpose; whether it could be."""
    try:
        note = {"removed": timestamp(datetime.now(UTC)), "by": "factbook gc"}
        write_json(journal_root(project.root) / run / REMOVED, note)
    except (OSError, StoreError):  # the dataset is garbage all the same
        return False
    return True


def _unlink_unless_linked(path: Path) -> None:
    """Remove a file of code, unless a run that begins just now has linked it."""
    hidden = path.with_name(f".{path.name}{TEMPORARY}")
    path.rename(hidden)
    if hidden.stat().st_nlink > 1:
        hidden.rename(path)
    else:
        hidden.unlink()


# -- in the store -----------------------------------------------------------------------------


def _datasets(inventory: Inventory, older_than: timedelta, keep: int) -> Iterator[Garbage]:
    needed = inventory.needed(_kept(inventory, older_than, keep))
    for run, holding in inventory.holdings.items():
        if run not in needed and not inventory.is_running(holding.folder.parent):
            why = _why(inventory, holding)
            facts = (holding.folder, holding.cell, why, holding.size, holding.made)
            yield Garbage("dataset", *facts, is_shown=holding.is_whole)


def _kept(inventory: Inventory, older_than: timedelta, keep: int) -> Iterator[str]:
    """Yield the runs whose datasets are young, or among the newest of their cells."""
    now = datetime.now(UTC)
    seen: Counter[str] = Counter()
    for run, holding in reversed(tuple(inventory.holdings.items())):
        seen[holding.cell] += 1
        age = now - holding.made
        is_followed = bool(inventory.live) and holding.is_current and age < _FOLLOWED
        if age < older_than or seen[holding.cell] <= keep or is_followed:
            yield run


def _why(inventory: Inventory, holding: Holding) -> str:
    if not holding.is_whole:
        return "not whole"
    if not holding.is_current:
        return "superseded"
    is_declared = holding.experiment in inventory.project.declaration.experiments
    return "of a former configuration" if is_declared else "declared no more"


def _partials(inventory: Inventory) -> Iterator[Garbage]:
    for task in inventory.tasks:
        attempts = read_attempts(task)
        is_own = attempts[-1:] and attempts[-1] in inventory.journals
        if not is_own or inventory.is_running(task):
            continue
        for path in sorted(task.glob(f"{PARTIAL}*")):
            if path.name != PARTIAL or not _is_of_use(inventory, task):
                yield _garbage("partial", path, inventory.cell_of(task), "its run is over")
        for path in sorted(task.glob(f".*{TEMPORARY}")):
            yield _garbage("temporary", path, inventory.cell_of(task), "its writer is gone")


def _is_of_use(inventory: Inventory, task: Path) -> bool:
    """Whether a task can be resumed, or what a killed run has made whole can be published."""
    is_whole = (task / PARTIAL / "output" / MANIFEST).exists()
    return inventory.is_due(task) or (is_whole and inventory.is_declared(task))


# -- beside the journals ----------------------------------------------------------------------


def _of_journals(inventory: Inventory) -> Iterator[Garbage]:
    """Yield what runs that are over have left in their journals, and the logs of their workers."""
    state, now = inventory.project.state, datetime.now(UTC)
    journals = journal_root(inventory.project.root)
    for path in inventory.unbegun:
        yield _garbage("journal", path, path.name, "its run never began")
    over = [uid for uid in inventory.journals if _is_over(journal_status(journals / uid))]
    for uid in over:
        for path in (journals / uid).glob(BALLAST_FILE):
            yield _garbage("ballast", path, uid, "its run is over")
        for path in (journals / uid).rglob(f".*{TEMPORARY}"):
            yield _garbage("temporary", path, uid, "its run is over")
    for path in state.glob("workers/*.log"):
        is_old = now - changed_at(path) > WRITTEN and path.stem not in inventory.journals
        if path.stem in over or is_old:
            yield _garbage("log", path, path.stem, "its run is over")


def _is_over(status: RunStatus) -> bool:
    """Whether a run is over for certain; one of another host only seems to have died."""
    process = status.process
    is_sure = status.status != "DIED" or (process is not None and process.is_of_this_host)
    return status.ended and is_sure


def _of_state(inventory: Inventory) -> Iterator[Garbage]:
    """Yield temporary files, copies of code and caches that nothing refers to."""
    state, now = inventory.project.state, datetime.now(UTC)
    names = ("sources", "projected", "cache", DELETED, "journal")
    store, root = inventory.project.store.root, inventory.project.root
    for folder in (state, *(state / name for name in names), store, root):
        for path in folder.glob(f".*{TEMPORARY}"):
            if folder == root and not _OWN_TEMPORARY.search(path.name):
                continue
            if now - changed_at(path) > WRITTEN and not _is_held(path):
                yield _garbage("temporary", path, path.name, "its writer is gone")
    for path in state.glob("sources/[!.]*"):
        if path.stat().st_nlink == 1:
            yield _garbage("code", path, path.name, "of no run")
    contents = {holding.content[:32] for holding in inventory.holdings.values()}
    for path in state.glob("cache/*"):
        content = _CACHED.fullmatch(path.name)
        if content and content[1] not in contents:
            yield _garbage("cache", path, path.name, "its dataset is gone")


def _is_held(folder: Path) -> bool:
    """Whether a restoration is at work in a folder, which may take hours."""
    held = lock(folder, wait=False) if folder.is_dir() else None
    if held is not None:
        held.release()
    return held is None and folder.is_dir()


def _garbage(kind: str, path: Path, what: str, why: str) -> Garbage:
    return Garbage(kind, path, what, why, size_of(path), changed_at(path))
