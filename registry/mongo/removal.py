"""Removes the records of deleted runs from MongoDB, as often as one likes, and keeps them out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from registry.mongo.database import AwayError, Database, DatabaseError, errors
from registry.mongo.documents import RunDocuments, documents
from registry.mongo.files import remove_file
from registry.mongo.queries import run_number
from registry.record.journal import Journal
from registry.record.plain import plain
from registry.record.tombstones import (
    Tombstone,
    note_removed,
    read_tombstones,
    tombstone_path,
    write_tombstone,
)
from registry.store.durable import StoreError

COLLECTION = "factbook.deleted"
"""What was deleted, by uid: no clone of the project brings it back, and every one can tell."""

_UID = "info.factbook.uid"
_TOLD = ("cell", "stage", "fingerprint", "status", "started", "deleted", "by", "command")


class DeletedError(DatabaseError):
    """A run that was deleted, and is not stored any more."""


@contextmanager
def unless_deleted(database: Database, journal: Journal) -> Iterator[RunDocuments]:
    """Yield the documents of a run, to be stored in the block; of one that is deleted none stay.

    A deletion writes its tombstones before it removes anything. What was stored before them it
    finds; what was stored after them, in this block, is removed at its end.

    Raises
    ------
    DeletedError
        If the run was deleted, before the block or meanwhile.
    DatabaseError
        If the database is away.
    """
    wanted = documents(journal)
    _withdraw_if_deleted(database, journal, wanted)
    try:
        yield wanted
    except AwayError:
        raise
    except Exception:
        _withdraw_if_deleted(database, journal, wanted)
        raise
    _withdraw_if_deleted(database, journal, wanted)


def _withdraw_if_deleted(database: Database, journal: Journal, wanted: RunDocuments) -> None:
    tombstone = tombstone_path(journal.folder.parents[2], journal.uid)
    if not tombstone.exists() and find_deleted(database, journal.uid) is None:
        return
    with errors(database.address):
        for metric in wanted.metrics:
            database.metrics.delete_one({"_id": metric.id})
        for artifact in wanted.run["artifacts"]:
            remove_file(database, artifact["file_id"])
        database.runs.delete_one({_UID: journal.uid})
    raise DeletedError(f"run {journal.uid} was deleted")


def apply_tombstones(project_root: Path, database: Database, *, again: bool = False) -> None:
    """Remove from a database what a project has deleted since the last time, or ever.

    Raises
    ------
    DatabaseError
        If the database is away; what was removed until then stays removed.
    """
    for tombstone in read_tombstones(project_root):
        if tombstone.is_damaged:
            tombstone = _restored(project_root, tombstone, database)
        is_noted = database.identity in tombstone.removed_from
        if again or not is_noted:
            remove_record(database, tombstone)
        if not is_noted:
            with suppress(OSError, StoreError):  # it only saves time
                note_removed(project_root, tombstone, database.identity)


def _restored(project_root: Path, damaged: Tombstone, database: Database) -> Tombstone:
    """Write anew what a damaged tombstone said, as far as the database knows it."""
    known = find_deleted(database, damaged.uid)
    if known is None or not known.deleted:
        return damaged
    with suppress(OSError, StoreError):
        write_tombstone(project_root, known)
    return known


def remove_record(database: Database, tombstone: Tombstone) -> None:
    """Remove the record of a run, its metrics and its artifacts; the run itself comes last.

    Files that other runs refer to stay, and so do notes.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    with errors(database.address):
        found = list(database.runs.find({_UID: tombstone.uid}, {"artifacts": 1}))
        numbers = [run["_id"] for run in found] or [tombstone.numbers.get(database.identity)]
        document = {name: getattr(tombstone, name) for name in _TOLD}
        database.collection(COLLECTION).update_one(
            {"_id": tombstone.uid},
            {"$setOnInsert": {**document, "number": numbers[0]}},
            upsert=True,
        )
        for run in found:
            database.metrics.delete_many({"run_id": run["_id"]})
            for artifact in run.get("artifacts") or ():
                _remove_file(database, run["_id"], artifact.get("file_id"))
            database.runs.delete_one({"_id": run["_id"], _UID: tombstone.uid})


def _remove_file(database: Database, run_id: Any, file_id: Any) -> None:
    shared = {"artifacts.file_id": file_id, "_id": {"$ne": run_id}}
    if file_id is not None and database.runs.find_one(shared, {"_id": 1}) is None:
        remove_file(database, file_id)


def deleted_from(database: Database) -> set[str]:
    """Return the identifiers of all runs that were deleted from a database.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    with errors(database.address):
        return {str(each["_id"]) for each in database.collection(COLLECTION).find({}, {"_id": 1})}


def find_deleted(database: Database, run: int | str) -> Tombstone | None:
    """Return what is known of a deleted run by its number or its uid; None if there is nothing.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    number = run_number(run)
    query = {"_id": plain(run)} if number is None else {"number": number}
    with errors(database.address):
        found = database.collection(COLLECTION).find_one(query)
    if found is None:
        return None
    told: dict[str, Any] = {name: str(found.get(name) or "") for name in _TOLD}
    return Tombstone(found["_id"], **told)
