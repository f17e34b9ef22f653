"""Files of a run in GridFS: stored so that it can be repeated, and held against the journal."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from registry.mongo.database import Database, DuplicateError, errors
from registry.mongo.documents import StoredFile

_CHUNK = 255 * 1024  # bytes, GridFS's own
_FILES, _CHUNKS = "fs.files", "fs.chunks"


def store_file(database: Database, name: str, file: StoredFile) -> bool:
    """Store one file by GridFS's specification, chunk by chunk, unless it is there.

    Returns
    -------
    bool
        False, and nothing is done, if its content is not what its digest says.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    content = file.path.read_bytes()
    if hashlib.md5(content).hexdigest() != file.md5:
        return False
    for number, start in enumerate(range(0, len(content), _CHUNK)):
        chunk = {"data": content[start : start + _CHUNK]}
        _add(database, _CHUNKS, {"files_id": file.id, "n": number}, chunk)
    moment = {"uploadDate": datetime.now(UTC)}
    _add(database, _FILES, {"_id": file.id}, _described(name, file, len(content)) | moment)
    return True


def put_back_file(database: Database, name: str, file: StoredFile) -> bool:
    """Store a file anew where another content is stored; return whether it was.

    What a journal keeps of a file and is damaged itself is no reason to change anything.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    content = file.path.read_bytes()
    wanted = _described(name, file, len(content))
    stored, found = hashlib.md5(), wanted
    with errors(database.address):
        for chunk in database.collection(_CHUNKS).find({"files_id": file.id}).sort("n", 1):
            stored.update(chunk["data"] if isinstance(chunk.get("data"), bytes) else b"?")
        found = database.collection(_FILES).find_one({"_id": file.id}) or {}
    is_same = all(found.get(key) == value for key, value in wanted.items())
    if (is_same and stored.hexdigest() == file.md5) or hashlib.md5(content).hexdigest() != file.md5:
        return False
    remove_file(database, file.id)
    return store_file(database, name, file)


def find_content(database: Database, md5: str) -> bytes | None:
    """Return the content of any stored file of a digest, None if there is none that is whole.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    with errors(database.address):
        for file in database.collection(_FILES).find({"md5": md5}, {"_id": 1}):
            chunks = database.collection(_CHUNKS).find({"files_id": file["_id"]}).sort("n", 1)
            content = b"".join(bytes(chunk.get("data") or b"") for chunk in chunks)
            if hashlib.md5(content).hexdigest() == md5:
                return content
    return None


def remove_file(database: Database, identity: Any) -> None:
    """Remove a file: first its name, so that nobody finds half of it.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    with errors(database.address):
        database.collection(_FILES).delete_one({"_id": identity})
        database.collection(_CHUNKS).delete_many({"files_id": identity})


def present_files(database: Database, identities: list[Any]) -> set[Any]:
    """Return which files are there; 100 at once, since long lists are slow when embedded.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    present: set[Any] = set()
    for start in range(0, len(identities), 100):
        query = {"_id": {"$in": identities[start : start + 100]}}
        with errors(database.address):
            present |= {file["_id"] for file in database.collection(_FILES).find(query, {"_id": 1})}
    return present


def _described(name: str, file: StoredFile, length: int) -> dict[str, Any]:
    own = {"filename": name, "md5": file.md5, "chunkSize": _CHUNK, "length": length}
    return own | (file.extra or {})


def _add(database: Database, collection: str, key: dict[str, Any], value: dict[str, Any]) -> None:
    with suppress(DuplicateError), errors(database.address):
        database.collection(collection).update_one(key, {"$setOnInsert": value}, upsert=True)
