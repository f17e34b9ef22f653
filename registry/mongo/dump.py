"""All documents of a database as BSON, and back into an empty one."""

from __future__ import annotations

from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import IO
from urllib.parse import quote, unquote

from registry.mongo import queries
from registry.mongo.database import OWN, Database, errors, raw_documents, read_raw, replace_all

_BATCH = 500  # documents
_ENDING = ".bson"
_IDENTITY = "identity"  # what distinguishes a database from every other
_UNASKED = (OWN, queries.COLLECTION)  # written by whoever connects


def collections(database: Database) -> list[str]:
    """Return the names of all collections.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    with errors(database.address):
        names = database.handle.list_collection_names()
    return sorted(name for name in names if not name.startswith("system."))


def file_name(collection: str) -> str:
    """Return the name of the file for a collection."""
    return f"{quote(collection, safe='')}{_ENDING}"


def dump(database: Database, name: str, file: IO[bytes]) -> int:
    """Write the documents of a collection one after the other; return how many.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    count = 0
    with errors(database.address):
        for identity, data in raw_documents(database, name):
            if (name, identity) != (OWN, _IDENTITY):
                file.write(data)
                count += 1
    return count


def holds_anything(database: Database) -> str:
    """Return the name of a collection that somebody has written to; "" if there is none.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    for name in collections(database):
        with errors(database.address):
            if name not in _UNASKED and database.collection(name).find_one({}, {"_id": 1}):
                return name
    return ""


def holds_others(database: Database, folder: Path) -> str:
    """Return the name of a collection with a document that a folder has not; "" if there is none.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    for name in collections(database):
        known, path = set(), folder / file_name(name)
        if path.exists():
            with open(path, "rb") as file:
                known = {sha256(each.raw).digest() for each in read_raw(file)}
        with errors(database.address):
            found = (raw for _, raw in raw_documents(database, name))
            if name not in _UNASKED and not all(sha256(raw).digest() in known for raw in found):
                return name
    return ""


def load(database: Database, folder: Path) -> None:
    """Store all documents of a folder of ``.bson`` files, as often as one likes.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    for path in sorted(folder.glob(f"*{_ENDING}")):
        with open(path, "rb") as file, errors(database.address):
            documents = read_raw(file)
            while part := list(islice(documents, _BATCH)):
                replace_all(database, unquote(path.name.removesuffix(_ENDING)), part)
