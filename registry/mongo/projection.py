"""Bring a journal into MongoDB: as often as one likes, from as many processes as one likes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from registry.mongo.database import Database, DuplicateError, as_object_id, errors
from registry.mongo.documents import MetricDocument, RunDocuments, StoredFile, documents
from registry.record.journal import Journal

_CHUNK = 255 * 1024  # bytes, GridFS's own
_UID = "info.factbook.uid"
_VERSION = "info.factbook.journal_bytes"
_SLOW_APPEND = 4_000  # points a second that the embedded server rewrites when it appends, at least
_REST = 20  # times as long as it took to append is waited until the next time
_CONSOLE = "captured_out"
_LONG_CONSOLE = 10_000  # characters; a longer console is stored every so often
_CONSOLE_EVERY = 15.0  # seconds
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Working = Callable[[float], None]


@dataclass
class Sent:
    """What one projector has already stored of one run, so that it need not send it again.

    Attributes
    ----------
    fields : dict
        Fields of the run as they were last stored.
    files : set of str
        Identities of stored files.
    points : dict of str to int
        Points stored, by identity of the metric's document.
    due : dict of str to float
        When long metrics and consoles are worth storing again, on the monotonic clock.
    release : bool
        Whether points that are stored are forgotten by the journal's state.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    points: dict[str, int] = field(default_factory=dict)
    due: dict[str, float] = field(default_factory=dict)
    release: bool = False


def store_journal(
    journal: Journal,
    database: Database,
    sent: Sent | None = None,
    working: Working = lambda seconds: None,
) -> int:
    """Store what a journal says as Sacred's MongoObserver would have, and as completely.

    Whoever is first inserts the run under the next free number; all others find it by its uid.
    Metrics are appended only where their count is still what it was. A journal that was read
    earlier never overwrites what was stored from a later state of it. The status of a run that
    ended is stored after everything else, so that whoever sees it sees all.

    Parameters
    ----------
    journal : Journal
        A journal that has been begun.
    database : Database
        Where to.
    sent : Sent or None
        What earlier calls for this journal and database have stored; updated.
    working : callable
        Told before every operation how many seconds it may take beyond the usual.

    Returns
    -------
    int
        The run's ``_id``.

    Raises
    ------
    DatabaseError
        If the database is away, or another one answers in its place.
    ReleasedError
        If the database has lost points that this journal's state has released: read it anew.
    """
    sent = Sent() if sent is None else sent
    working(0.0)
    database.check()
    wanted = documents(journal)
    sources = {file.filename: file for file in wanted.files if file.filename is not None}
    _store_files(sources, database, sent, working)
    run_id = _ensure_run(wanted, journal, database, sent)
    artifacts = {f"artifact://runs/{run_id}/{f.artifact}": f for f in wanted.files if f.artifact}
    _store_files(artifacts, database, sent, working)
    _store_metrics(wanted.metrics, run_id, database, sent, working, hurry=journal.ended)
    working(0.0)
    _update_run(wanted, journal, run_id, database, sent)
    return run_id


def stored_status(run_id: int, database: Database) -> str | None:
    """Return the status that stands in the database.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    with errors(database.address):
        found = database.runs.find_one({"_id": run_id}, {"status": 1})
    return found.get("status") if found else None


def _ensure_run(wanted: RunDocuments, journal: Journal, database: Database, sent: Sent) -> int:
    """Return the number of the run, inserted as running if it is not there."""
    with errors(database.address):
        found = database.runs.find_one({_UID: journal.uid}, {"_id": 1})
    if found is None:
        sent.fields, sent.points = {}, {}  # new here, or removed by somebody
        first = {**wanted.run, "status": "RUNNING" if journal.start_time else "QUEUED"}
        for name in ("stop_time", "fail_trace"):  # stored last, when everything else is stored
            first.pop(name, None)
        return _insert(_converted(first, journal.size), journal.uid, database)
    return int(found["_id"])


def _insert(run: dict[str, Any], uid: str, database: Database) -> int:
    """Insert a run under the next free number, or return the number somebody else gave it."""
    number = _last_number(database)
    tries = 0
    while True:
        number += 1
        try:
            with errors(database.address):
                database.runs.insert_one({"_id": number, **run})
                database.own.update_one(
                    {"_id": "last_run"}, {"$max": {"number": number}}, upsert=True
                )
            return number
        except DuplicateError:
            with errors(database.address):
                found = database.runs.find_one({_UID: uid}, {"_id": 1})
            if found is not None:
                return int(found["_id"])
        tries += 1
        if tries % 20 == 0:  # others than us write here too
            number = max(number, _highest_number(database))


def _last_number(database: Database) -> int:
    """Return the last number that was given, from our own note: searching reads all runs."""
    with errors(database.address):
        found = database.own.find_one({"_id": "last_run"})
    return int(found["number"]) if found else _highest_number(database)


def _highest_number(database: Database) -> int:
    with errors(database.address):
        newest = database.runs.find({"_id": {"$type": "number"}}, {"_id": 1})
        return max((int(run["_id"]) for run in newest.sort("_id", -1).limit(1)), default=0)


def _update_run(
    wanted: RunDocuments, journal: Journal, run_id: int, database: Database, sent: Sent
) -> None:
    """Store the fields that changed, unless a later state of the journal is stored already."""
    fields = _converted(wanted.run, journal.size)
    if not journal.ended:
        fields[_CONSOLE] = _spared_console(fields[_CONSOLE], sent)
    changed = {name: fields[name] for name in fields if fields[name] != sent.fields.get(name)}
    if not changed:
        return
    query = {"_id": run_id, _UID: journal.uid, _VERSION: {"$lte": journal.size}}
    with errors(database.address):
        database.runs.update_one(query, {"$set": changed})
    sent.fields = fields


def _spared_console(text: str, sent: Sent) -> str:
    """Return the console to store now: a long one changes rarely, since servers log each change."""
    now = time.monotonic()
    if len(text) > _LONG_CONSOLE and now < sent.due.get(_CONSOLE, 0.0):
        return str(sent.fields.get(_CONSOLE, text))
    sent.due[_CONSOLE] = now + _CONSOLE_EVERY
    return text


def _converted(run: dict[str, Any], journal_bytes: int) -> dict[str, Any]:
    """Return a run's document with references in MongoDB's own type, and the journal's state."""
    sources = [[name, as_object_id(file)] for name, file in run["experiment"]["sources"]]
    artifacts = [{**file, "file_id": as_object_id(file["file_id"])} for file in run["artifacts"]]
    facts = {**run["info"]["factbook"], "journal_bytes": journal_bytes}
    return {
        **run,
        "experiment": {**run["experiment"], "sources": sources},
        "artifacts": artifacts,
        "info": {**run["info"], "factbook": facts},
    }


def _store_metrics(
    metrics: tuple[MetricDocument, ...],
    run_id: int,
    database: Database,
    sent: Sent,
    working: Working,
    hurry: bool,
) -> None:
    """Store what metrics have grown by; all of it in a hurry, long ones now and then otherwise."""
    pending = [metric for metric in metrics if metric.part.count > sent.points.get(metric.id, 0)]
    if any(metric.id not in sent.points for metric in pending):
        sent.points = _stored_points(run_id, database) | sent.points
    for metric in pending:
        while (hurry or time.monotonic() >= sent.due.get(metric.id, 0.0)) and (
            (have := sent.points.get(metric.id, 0)) < metric.part.count
        ):
            began = time.monotonic()
            working(metric.part.count / _SLOW_APPEND)
            _store_points(metric, have, run_id, database, sent)
            ended = time.monotonic()
            sent.due[metric.id] = ended + _REST * (ended - began)
        if sent.release:
            metric.part.release(sent.points.get(metric.id, 0))


def _stored_points(run_id: int, database: Database) -> dict[str, int]:
    with errors(database.address):
        found = database.metrics.find({"run_id": run_id}, {"count": 1})
        return {str(metric["_id"]): metric.get("count", 0) for metric in found}


def _store_points(
    metric: MetricDocument, have: int, run_id: int, database: Database, sent: Sent
) -> None:
    """Append points if nobody else has; otherwise learn how many there are by now."""
    identity = as_object_id(metric.id)
    points = {name: _column(name, column) for name, column in metric.part.since(have).items()}
    count = {"count": metric.part.count}
    if have == 0:
        head = {"_id": identity, "run_id": run_id, "name": metric.name}
        document = {**head, **points, **count, "first": metric.part.first}
        stored = _insert_metric(document, database)
    else:
        push = {name: {"$each": column} for name, column in points.items()}
        with errors(database.address):
            query = {"_id": identity, "count": have}
            result = database.metrics.update_one(query, {"$push": push, "$set": count})
        stored = result.matched_count == 1
    if stored:
        sent.points[metric.id] = metric.part.count
    else:
        sent.points.pop(metric.id, None)
        sent.points |= _stored_points(run_id, database)


def _insert_metric(document: dict[str, Any], database: Database) -> bool:
    """Insert a metric's document; if it is there already, make sure that it is this run's."""
    try:
        with errors(database.address):
            database.metrics.insert_one(document)
        return True
    except DuplicateError:
        query = {"_id": document["_id"], "run_id": {"$ne": document["run_id"]}}
        with errors(database.address):  # its run was removed, and came back under a new number
            database.metrics.update_one(query, {"$set": {"run_id": document["run_id"]}})
        return False


def _column(name: str, column: list[Any]) -> list[Any]:
    if name != "timestamps":
        return column
    return [_EPOCH + timedelta(milliseconds=milliseconds) for milliseconds in column]


def _store_files(
    files: dict[str, StoredFile], database: Database, sent: Sent, working: Working
) -> None:
    """Store files, by their names in GridFS, that nobody has stored."""
    missing = {name: file for name, file in files.items() if file.id not in sent.files}
    sent.files |= _present([file.id for file in missing.values()], database)
    for name, file in missing.items():
        if file.id not in sent.files:
            working(0.0)
            _store_file(name, file, database)
            sent.files.add(file.id)


def _present(files: list[str], database: Database) -> set[str]:
    """Return which files are there; a hundred at once, since long lists are slow when embedded."""
    present: set[str] = set()
    for start in range(0, len(files), 100):
        identities = [as_object_id(file) for file in files[start : start + 100]]
        with errors(database.address):
            found = database.collection("fs.files").find({"_id": {"$in": identities}}, {"_id": 1})
            present |= {str(file["_id"]) for file in found}
    return present


def _store_file(name: str, file: StoredFile, database: Database) -> None:
    """Store one file by GridFS's specification, chunk by chunk, so that it can be repeated."""
    content = file.path.read_bytes()
    identity = as_object_id(file.id)
    for number, start in enumerate(range(0, len(content), _CHUNK)):
        _add(
            database.collection("fs.chunks"),
            {"files_id": identity, "n": number},
            {"data": content[start : start + _CHUNK]},
            database,
        )
    described: dict[str, Any] = {
        "filename": name,
        "md5": file.md5,
        "chunkSize": _CHUNK,
        "length": len(content),
        "uploadDate": datetime.now(UTC),
    }
    if file.artifact is not None:
        described |= {"contentType": file.content_type, "metadata": file.metadata}
    _add(database.collection("fs.files"), {"_id": identity}, described, database)


def _add(collection: Any, key: dict[str, Any], value: dict[str, Any], database: Database) -> None:
    with suppress(DuplicateError), errors(database.address):
        collection.update_one(key, {"$setOnInsert": value}, upsert=True)
