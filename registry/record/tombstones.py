"""Runs that were deleted: what stays in place of their journals, so that they do not come back.

``.factbook/deleted/<uid>.json`` is written first: from then on the run is deleted, and whoever
finds its journal still there finishes that.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from registry.record.journal import journal_root
from registry.store.durable import CHECK, TEMPORARY, checked, is_as_checked, read_json, write_json

DELETED = "deleted"


@dataclass(frozen=True)
class Tombstone:
    """A run that was deleted.

    Attributes
    ----------
    uid : str
        Identifier of the run.
    cell, stage, fingerprint, status : str
        What it was.
    started, deleted : str
        When it began, and when it was deleted; ISO 8601, UTC.
    by : str
        Who deleted it: user and host.
    command : str
        What makes it again; "" where nobody knows.
    config : mapping
        Its configuration.
    output : str
        Where its dataset was, relative to the project; "" if it had none.
    numbers : mapping of str to int
        Its number in each database that held it, by the identity of that.
    removed_from : tuple of str
        The databases that hold it no more, by identity.
    """

    uid: str
    cell: str
    stage: str
    fingerprint: str
    status: str
    started: str
    deleted: str
    by: str
    command: str
    config: Mapping[str, Any] = field(default_factory=dict)
    output: str = ""
    numbers: Mapping[str, int] = field(default_factory=dict)
    removed_from: tuple[str, ...] = ()

    @property
    def is_damaged(self) -> bool:
        """Whether nothing is known but that the run was deleted."""
        return not self.deleted

    @property
    def told(self) -> str:
        """What to say to whoever asks for the run, without the command."""
        if self.is_damaged:
            return f"run {self.uid} was deleted; the note of what it was is damaged"
        day = f"{self.deleted[:10]} {self.deleted[11:16]} UTC"
        return f"run {self.uid} of {self.cell!r} was deleted on {day} by {self.by}"


_FIELDS = {entry.name for entry in fields(Tombstone)}
_TEXTS = ("cell", "stage", "fingerprint", "status", "started", "deleted", "by", "command")


def tombstone_path(project_root: Path, uid: str) -> Path:
    """Return where the tombstone of a run is, or would be."""
    return Path(project_root) / ".factbook" / DELETED / f"{uid}.json"


def deleted_uids(project_root: Path) -> frozenset[str]:
    """Return the runs of a project that were deleted."""
    folder = Path(project_root) / ".factbook" / DELETED
    return frozenset(path.stem for path in folder.glob("[!.]*.json"))


def read_tombstone(project_root: Path, uid: str) -> Tombstone | None:
    """Return the tombstone of a run, None if it was not deleted; one that is damaged says less."""
    path = tombstone_path(project_root, uid)
    found = read_json(path)
    if found is None and not path.exists():
        return None
    if found is None or not _is_as_written(found):
        found = {}
    known: dict[str, Any] = dict.fromkeys(_TEXTS, "")
    known |= {name: value for name, value in found.items() if name in _FIELDS}
    known |= {"uid": uid, "removed_from": tuple(known.get("removed_from") or ())}
    return Tombstone(**known)


def read_tombstones(project_root: Path) -> list[Tombstone]:
    """Return all runs of a project that were deleted, the oldest first."""
    found = (read_tombstone(project_root, uid) for uid in sorted(deleted_uids(project_root)))
    return [tombstone for tombstone in found if tombstone is not None]


def write_tombstone(project_root: Path, tombstone: Tombstone) -> None:
    """Write or replace a tombstone, whole or not at all.

    Raises
    ------
    StoreError
        If the disk is full.
    """
    path = tombstone_path(project_root, tombstone.uid)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, checked(asdict(tombstone)))


def _is_as_written(found: Mapping[str, Any]) -> bool:
    """Return whether nobody has changed a tombstone; those of former versions have no checksum."""
    return found.get(CHECK) is None or is_as_checked(found)


def note_removed(project_root: Path, tombstone: Tombstone, identity: str) -> None:
    """Note in a tombstone that a database holds nothing of the run any more."""
    removed_from = (*tombstone.removed_from, identity)
    write_tombstone(project_root, replace(tombstone, removed_from=removed_from))


def half_deleted(project_root: Path) -> list[str]:
    """Return the deleted runs whose journals are still there: their deletion was cut short."""
    journals = journal_root(project_root)
    return [uid for uid in sorted(deleted_uids(project_root)) if (journals / uid).exists()]


def remove_journal(project_root: Path, uid: str) -> None:
    """Remove the journal of a deleted run: renamed away first, so that nobody reads half of one."""
    hidden = tombstone_path(project_root, uid).with_name(f".{uid}{TEMPORARY}")
    shutil.rmtree(hidden, ignore_errors=True)
    with suppress(FileNotFoundError):
        (journal_root(project_root) / uid).rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)
