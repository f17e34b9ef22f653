"""Removes the records of deleted runs from MongoDB, as often as one likes, and keeps them out."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from registry.mongo.database import Database, errors
from registry.mongo.queries import run_number
from registry.record.plain import plain
from registry.record.tombstones import Tombstone, note_removed, read_tombstones
from registry.store.durable import StoreError

COLLECTION = "factbook.deleted"
"""What was deleted, by uid: no clone of the project brings it back, and every one can tell."""

_UID = "info.factbook.uid"
_TOLD = ("cell", "stage", "fingerprint", "status", "started", "deleted", "by", "command")


def apply_tombstones(project_root: Path, database: Database) -> None:
    """Remove from a database what a project has deleted since the last time.

    Raises
    ------
    DatabaseError
        If the database is away; what was removed until then stays removed.
    """
    for tombstone in read_tombstones(project_root):
        if database.identity not in tombstone.removed_from:
            remove_record(database, tombstone)
            with suppress(OSError, StoreError):  # it only saves time
                note_removed(project_root, tombstone, database.identity)


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
        database.collection("fs.chunks").delete_many({"files_id": file_id})
        database.collection("fs.files").delete_one({"_id": file_id})


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
