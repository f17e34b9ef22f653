"""The connection to MongoDB, real or embedded. Nothing else imports pymongo."""

from __future__ import annotations

import atexit
import hashlib
import math
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import bson
import gridfs
import pymongo
from bson import CodecOptions, ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.errors import (
    ConnectionFailure,
    DuplicateKeyError,
    InvalidName,
    OperationFailure,
    PyMongoError,
)
from pymongo.uri_parser import parse_uri

from registry.mongo import server
from registry.mongo.address import EXPECTED, Address, read_address
from registry.mongo.users import ServerError
from registry.store.durable import StoreError
from registry.suggest import RefusalError

URL_VARIABLE = "FACTBOOK_MONGO"
OFF = "off"

_TIMEOUTS = {"serverSelectionTimeoutMS": 3000, "connectTimeoutMS": 3000, "socketTimeoutMS": 60000}
OWN = "factbook"  # a collection of our own: identity, last number of a run
_INTERNAL_ERROR = 1  # MongoDB's code; the embedded server's answer to data that it cannot read
ADVICE = "factbook doctor says what to do"
_SCHEMA = 2  # version of the indexes
INDEXED = (
    "info.factbook.fingerprint",
    "info.factbook.cell",
    "info.factbook.experiment",
    "info.factbook.stage",
    "info.factbook.project",
    "experiment.name",
    "status",
)
"""Keys that runs are asked for by, the most telling first, each indexed with the start."""


class DatabaseError(RefusalError):
    """A database that cannot be reached or used; the message never holds a password."""


class AwayError(DatabaseError):
    """A database that does not answer."""


class PasswordError(DatabaseError):
    """An embedded database that does not take the password of its project."""


class DamagedError(DatabaseError):
    """A database that fails at its own data."""


class DuplicateError(DatabaseError):
    """A document that is already there."""


@dataclass(frozen=True)
class Database:
    """A MongoDB database of runs in Sacred's schema, and how to find it again.

    Attributes
    ----------
    handle : pymongo.database.Database
        For queries of one's own. Times come back in UTC, with their zone.
    address : str
        Where it is, without a password, for people to read.
    identity : str
        What distinguishes it from every other database, wherever it moves.
    reopen : callable
        Connects anew; finds the embedded server where it is by now.
    """

    handle: Any = field(repr=False)
    address: str
    identity: str
    reopen: Callable[[], Database]

    def collection(self, name: str) -> Collection[dict[str, Any]]:
        """Return a collection; operations belong inside :func:`errors`."""
        collection: Collection[dict[str, Any]] = self.handle[name]
        return collection

    @property
    def runs(self) -> Collection[dict[str, Any]]:
        """One document per run."""
        return self.collection("runs")

    @property
    def metrics(self) -> Collection[dict[str, Any]]:
        """One document per metric of a run, or several where it is long."""
        return self.collection("metrics")

    @property
    def own(self) -> Collection[dict[str, Any]]:
        """What is kept about the database itself."""
        return self.collection(OWN)

    def check(self) -> None:
        """Make sure that this is still the database that was connected to.

        Raises
        ------
        DatabaseError
            If it is away, or if another one answers in its place.
        """
        with errors(self.address):
            found = self.own.find_one({"_id": "identity"}, {"token": 1})
        if found is None or found.get("token") != self.identity:
            raise DatabaseError(f"another database answers at {self.address}")

    def read_file(self, file: str) -> bytes:
        """Return the content of a file of GridFS.

        Raises
        ------
        DatabaseError
            If it is not there, or the database is away.
        """
        with errors(self.address):
            return gridfs.GridFS(self.handle).get(ObjectId(file)).read()

    def close(self) -> None:
        """End the connection."""
        self.handle.client.close()


def connect(
    project_root: Path, url: str | None = None, *, name: str = "factbook"
) -> Database | None:
    """Return the database of a project, ready to be written to.

    Parameters
    ----------
    project_root : Path
        Folder of ``experiments.toml``.
    url : str or None
        A MongoDB URL, or ``off``; by default ``$FACTBOOK_MONGO``. Without one the embedded server
        is found, or started.
    name : str
        Name of the database, where the URL names none.

    Returns
    -------
    Database or None
        None if it is ``off``: journals alone are written.

    Raises
    ------
    DatabaseError
        If it cannot be reached within seconds. The message names it, without its password.
    """
    url = (url or os.environ.get(URL_VARIABLE) or "").strip()
    if url.lower() == OFF:
        return None
    return _open(url, name) if url else _open_embedded(project_root, name, server.start)


@contextmanager
def errors(address: str, shown: Callable[[str], str] = str) -> Iterator[None]:
    """Turn pymongo's errors into `DatabaseError`.

    Parameters
    ----------
    address : str
        Where, for people to read.
    shown : callable
        From pymongo's reason to what may be shown of it.
    """
    try:
        yield
    except (PyMongoError, gridfs.errors.GridFSError, bson.errors.BSONError, OSError) as error:
        text = re.split(r", Timeout:| \(configured timeouts:|, full error:", str(error))[0]
        told = shown(text)
        raise _raised(error, f"MongoDB at {address}: {told}") from (error if told == text else None)


def _raised(error: Exception, text: str) -> DatabaseError:
    if isinstance(error, DuplicateKeyError):
        return DuplicateError(text)
    if isinstance(error, ConnectionFailure):
        return AwayError(text)
    if isinstance(error, OperationFailure) and error.code == _INTERNAL_ERROR:
        return DamagedError(f"{text.strip()}; {ADVICE}")
    return DatabaseError(text)


def digest(document: Mapping[str, Any]) -> str:
    """Return a digest of what MongoDB holds of a document, whatever the order of its own keys."""
    return hashlib.sha256(bson.encode(dict(sorted(document.items())))).hexdigest()[:32]


as_object_id = ObjectId
"""From 24 hexadecimal digits to MongoDB's own type."""


def plain_document(value: Any) -> Any:
    """Return what MongoDB gave as plain values: identities become strings, times keep UTC."""
    kind = type(value)  # 10,000 documents have a million values, most of them plain
    if kind is dict:
        return {key: plain_document(item) for key, item in value.items()}
    if kind is list:
        return [plain_document(item) for item in value]
    if kind is float and value != value:
        return math.nan  # one for all: containers that hold the same object are equal
    return str(value) if kind is ObjectId else value


_PLAIN: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True)


def packed(document: Mapping[str, Any]) -> bytes:
    """Return a document of plain values as bytes, which any MongoDB would hold as they are."""
    return bytes(bson.encode(document))


def unpacked(content: bytes) -> dict[str, Any]:
    """Return what :func:`packed` was given; times have a zone (UTC)."""
    return dict(bson.decode(content, _PLAIN))


def raw_documents(database: Database, name: str) -> Iterator[tuple[Any, bytes]]:
    """Yield the documents of a collection as they are stored, each after its ``_id``."""
    options = CodecOptions(document_class=RawBSONDocument)
    for found in database.handle.get_collection(name, codec_options=options).find():
        yield found["_id"], found.raw


def read_raw(file: IO[bytes]) -> Iterator[Any]:
    """Yield the documents that were written to a file one after the other."""
    yield from bson.decode_file_iter(file, CodecOptions(document_class=RawBSONDocument))


def replace_all(database: Database, name: str, documents: Iterable[Any]) -> None:
    """Store documents in place of those with the same ``_id``."""
    stores = [pymongo.ReplaceOne({"_id": each["_id"]}, each, upsert=True) for each in documents]
    database.collection(name).bulk_write(stores, ordered=False)


# At its end the process need not wait for pymongo's threads, which sleep up to half a second: its
# closed clients have nothing left to do then, and the threads are daemons.
with suppress(ImportError):
    from pymongo.synchronous.monitor import _shutdown_resources

    atexit.unregister(_shutdown_resources)


def _open_embedded(
    project_root: Path, name: str, find: Callable[[Path], server.Server]
) -> Database:
    try:
        found = find(project_root)
    except server.DamagedError as error:
        raise DamagedError(f"{error}; {ADVICE}") from error
    except (ServerError, StoreError, OSError) as error:
        raise DatabaseError(str(error)) from error
    again = partial(_open_embedded, project_root, name, server.revive)
    try:
        return _open(found.uri, name, again, found.address)
    except AwayError as error:
        hint = f"process {found.process.pid} runs; if it hangs, `factbook mongo stop` ends it"
        raise AwayError(f"{error}; {hint}") from error
    except DatabaseError as error:
        if "authentication failed" not in str(error).lower():
            raise
        raise PasswordError(f"{error}; for a new password: factbook doctor --repair") from error


def _open(
    url: str, name: str, reopen: Callable[[], Database] | None = None, shown: str = ""
) -> Database:
    """Connect to a URL, ask who answers, and see to the indexes."""
    address = _readable(url)
    client, name = _client(url, name, address)
    where = f"{shown or address.shown}, database {name}"
    try:
        with errors(where, address.without_secrets):
            _greet(client)
            identity = _identify(client[name])
    except DatabaseError:
        client.close()
        raise
    return Database(client[name], where, identity, reopen or (lambda: _open(url, name)))


def _readable(url: str) -> Address:
    address = read_address(url)
    if address is None:
        raise DatabaseError(f"{URL_VARIABLE} is no URL of a MongoDB, and not shown: {EXPECTED}")
    for option in address.options:
        name, equals, _ = option.partition("=")
        if not name.lower().startswith("srv") and not _is_taken(option):
            which = repr(name) if equals and name.isalpha() else "an option"
            raise DatabaseError(f"{URL_VARIABLE}, {address.shown}: pymongo refuses {which}")
    return address


def _is_taken(option: str) -> bool:
    """Return whether pymongo takes an option; its reason, which may hold the value, is not told."""
    try:
        parse_uri(f"mongodb://host/?{option}", validate=True, warn=False)
    except Exception:
        return False
    return True


def _client(
    url: str, name: str, address: Address
) -> tuple[pymongo.MongoClient[dict[str, Any]], str]:
    try:
        parsed = parse_uri(url, validate=True, warn=False)
        given = {option.lower() for option in parsed["options"]}
        timeouts: Any = {key: ms for key, ms in _TIMEOUTS.items() if key.lower() not in given}
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
            url, tz_aware=True, appname="factbook", **timeouts
        )
        return client, parsed["database"] or name
    except (PyMongoError, InvalidName, OSError, TypeError, ValueError) as error:
        reason = address.without_secrets(str(error))
        raise DatabaseError(f"{URL_VARIABLE}, {address.shown}, cannot be used: {reason}") from None


def _greet(client: pymongo.MongoClient[dict[str, Any]]) -> None:
    """Make sure that the server answers, and lets us in."""
    try:
        client.admin.command("ping")
    except (TypeError, ValueError) as error:  # a password that cannot be one
        raise PyMongoError(str(error)) from None


def _identify(handle: Any) -> str:
    """Return the identity of a database, given to it at the first time, and see to its indexes."""
    own = handle[OWN]
    found = own.find_one({"_id": "identity"})
    if found is None:
        with suppress(DuplicateKeyError):
            own.insert_one({"_id": "identity", "token": secrets.token_hex(16), "schema": 0})
        found = own.find_one({"_id": "identity"})
    if found is None:  # there, by the index, and not there
        raise OperationFailure("its identity cannot be read", _INTERNAL_ERROR)
    if found.get("schema", 0) < _SCHEMA:
        _ensure_indexes(handle)
        own.update_one({"_id": "identity"}, {"$set": {"schema": _SCHEMA}})
    return str(found["token"])


def _ensure_indexes(handle: Any) -> None:
    """Make the indexes that recording and listing need.

    The embedded server neither sorts by an index where it also filters, nor looks at ``_id`` by
    range: what is listed is asked for by ranges of ``start_time`` after an equality.
    """
    handle.runs.create_index("info.factbook.uid", unique=True, sparse=True)
    handle.runs.create_index([("start_time", -1)])
    for key in INDEXED:
        handle.runs.create_index([(key, 1), ("start_time", -1)])
    handle.metrics.create_index([("run_id", 1), ("name", 1)])
    handle["fs.files"].create_index([("filename", 1), ("md5", 1)])
    handle["fs.chunks"].create_index([("files_id", 1), ("n", 1)], unique=True)
