"""Bring a journal into MongoDB: as often as one likes, from as many processes as one likes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from registry.mongo.database import ADVICE, DamagedError, Database, DuplicateError, errors
from registry.mongo.documents import MetricDocument, StoredFile, fields_of
from registry.mongo.files import present_files, store_file
from registry.mongo.queries import enter, find_run, value_at
from registry.mongo.removal import unless_deleted
from registry.record.journal import OPEN, Journal, aware
from registry.record.wholeness import stored_notes

_UID = "info.factbook.uid"
_VERSION = "info.factbook.journal_bytes"
_SLOW_APPEND = 4_000  # points a second that the embedded server rewrites when it appends, at least
_REST = 20  # times as long as it took to append is waited until the next time
_CONSOLE = "captured_out"
_FACTS = "info.factbook"
TRIES = 20
"""Numbers that are tried for a run until those of others are looked at."""
_GROWING = (_CONSOLE, "result", "fail_trace", "resources", "artifacts")
_LONG_CONSOLE = 10_000  # characters; a longer console is stored every so often
_CONSOLE_EVERY = 15.0  # seconds

Working = Callable[[float], None]


@dataclass
class Sent:
    """What one projector has already stored of one run, so that it need not send it again.

    Attributes
    ----------
    fields : dict
        Fields of the run as they were last stored.
    files : set of ObjectId
        Identities of stored files.
    damaged : dict of ObjectId to str
        Files that are not stored, because what the journal keeps of them is damaged, and why.
    points : dict of ObjectId to int
        Points stored, by identity of the metric's document.
    due : dict of (ObjectId or str) to float
        When long metrics and consoles are worth storing again, on the monotonic clock.
    release : bool
        Whether points that are stored are forgotten by the journal's state.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    files: set[Any] = field(default_factory=set)
    damaged: dict[Any, str] = field(default_factory=dict)
    points: dict[Any, int] = field(default_factory=dict)
    due: dict[Any, float] = field(default_factory=dict)
    release: bool = False


def store_journal(
    journal: Journal,
    database: Database,
    sent: Sent | None = None,
    working: Working = lambda seconds: None,
    *,
    is_damaged: bool = False,
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
        Called before every operation with the seconds it may take beyond the usual.
    is_damaged : bool
        Whether the journal is known to lack something: then nothing that is stored is replaced by
        less.

    Returns
    -------
    int
        The run's ``_id``.

    Raises
    ------
    DatabaseError
        If the database is away, or another one answers in its place.
    DeletedError
        If the run was deleted; then nothing of it is there.
    ReleasedError
        If the database has lost points that this journal's state has released: read it anew.
    """
    sent = Sent() if sent is None else sent
    return _Storing(journal, database, sent, working, is_damaged).run()


@dataclass(frozen=True)
class StoredState:
    """What a record says of which state of its journal it was made of.

    Attributes
    ----------
    run_id : int
        Its number.
    status : str
        Its status.
    size : int
        Bytes of the journal; 0 where it does not say so.
    """

    run_id: int
    status: str
    size: int

    @property
    def is_final(self) -> bool:
        """Whether the run has told its end: one that was taken for dead may tell it later."""
        return self.status not in (*OPEN, "DIED")


def unnamed_record(journal: Journal, database: Database) -> Mapping[str, Any] | None:
    """Return the record of a run that has lost what says whose it is, None if there is none.

    It has the number that the journal notes, no other run's uid, and the run's start.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    note = stored_notes(journal.folder).get(database.identity)
    if note is None or journal.start_time is None:
        return None
    with errors(database.address):
        query = {"_id": note.get("run"), _UID: {"$exists": False}}
        found: Mapping[str, Any] | None = database.runs.find_one(query)
    start = found.get("start_time") if found else None
    if not isinstance(start, datetime) or aware(start) != aware(journal.start_time):
        return None
    return found


def stored_state(journal: Journal, database: Database) -> StoredState | None:
    """Return how far the record of a run has come, None if there is none.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    with errors(database.address):
        query = {_UID: journal.uid}
        found: Mapping[str, Any] | None
        found = database.runs.find_one(query, {"status": 1, _VERSION: 1})
    if found is None:
        found = unnamed_record(journal, database)
    if found is None:
        return None
    size = value_at(found, _VERSION)
    known = int(size) if isinstance(size, int | float) else 0
    return StoredState(int(found["_id"]), str(found.get("status") or ""), known)


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


@dataclass
class _Storing:
    """One call of :func:`store_journal`."""

    journal: Journal
    database: Database
    sent: Sent
    working: Working
    is_damaged: bool = False
    run_id: int = 0

    def run(self) -> int:
        """Store everything; return the run's number."""
        self.working(0.0)
        self.database.check()
        with unless_deleted(self.database, self.journal) as wanted:
            self._store_files(wanted.files_by_name())
            self.run_id = self._find_run() or self._insert_run(wanted.run)
            self._store_files(wanted.files_by_name(self.run_id))
            self._store_metrics(wanted.metrics)
            self.working(0.0)
            self._update_run(wanted.run)
        return self.run_id

    def _find_run(self) -> int | None:
        found: Mapping[str, Any] | None
        with errors(self.database.address):
            found = self.database.runs.find_one({_UID: self.journal.uid}, {"_id": 1})
        if found is None and (found := unnamed_record(self.journal, self.database)):
            self._name(found)
        return int(found["_id"]) if found else None

    def _name(self, record: Mapping[str, Any]) -> None:
        """Say in a record again whose it is; all else is put back when it is stored."""
        facts = {"uid": self.journal.uid, "journal_bytes": 0}
        has_info = isinstance(record.get("info"), Mapping)
        named = {_FACTS: facts} if has_info else {"info": {"factbook": facts}}
        query = {"_id": record["_id"], _UID: {"$exists": False}}
        with errors(self.database.address):
            self.database.runs.update_one(query, {"$set": named})

    def _insert_run(self, run: dict[str, Any]) -> int:
        """Insert the run as running, under the next free number, or find that somebody else did.

        DamagedError: an index has what is found nowhere.
        """
        self.sent.fields, self.sent.points = {}, {}  # new here, or removed by somebody
        first = {**run, "status": "RUNNING" if self.journal.start_time else "QUEUED"}
        facts = {**run["info"]["factbook"], "journal_bytes": 0}  # as long as its end is not there
        first["info"] = {**run["info"], "factbook": facts}
        if project := self.journal.facts.get("project"):
            enter(self.database, str(project))
        for name in ("stop_time", "fail_trace"):  # stored last, when everything else is stored
            first.pop(name, None)
        number, highest = self._last_number(), None
        for tries in itertools.count(1):
            number += 1
            try:
                with errors(self.database.address):
                    self.database.runs.insert_one({"_id": number, **first})
                    self.database.own.update_one(
                        {"_id": "last_run"}, {"$max": {"number": number}}, upsert=True
                    )
                break
            except DuplicateError:
                if (found := self._find_run()) is not None:
                    return found
            if tries % TRIES == 0:  # others than us write here too
                before, highest = highest, self._highest_number()
                if highest == before:  # and numbers above it are taken all the same
                    raise DamagedError(
                        f"MongoDB at {self.database.address}: run {self.journal.uid} is there "
                        f"already, and is not found; {ADVICE}"
                    )
                number = max(number, highest)
        return number

    def _last_number(self) -> int:
        """Return the last number that was given, from our own note: searching reads all runs."""
        with errors(self.database.address):
            found = self.database.own.find_one({"_id": "last_run"})
        return int(found["number"]) if found else self._highest_number()

    def _highest_number(self) -> int:
        with errors(self.database.address):
            newest = self.database.runs.find({"_id": {"$type": "number"}}, {"_id": 1})
            return max((int(run["_id"]) for run in newest.sort("_id", -1).limit(1)), default=0)

    def _update_run(self, run: dict[str, Any]) -> None:
        """Store the fields that changed, unless a later state of the journal is stored already."""
        fields, sent = fields_of(run), self.sent
        if not self.journal.ended:
            fields[_CONSOLE] = _spared_console(fields[_CONSOLE], sent)
        if self.is_damaged:
            fields = _no_less(fields, find_run(self.database, self.run_id) or {})
        changed = {name: fields[name] for name in fields if fields[name] != sent.fields.get(name)}
        had = sent.fields.keys() | {"fail_trace"}  # of a run whose dataset was adopted
        removed = {} if self.is_damaged else dict.fromkeys(had - fields.keys(), "")
        if not changed:
            return
        # Of two readings of one state the later is right, unless it may be of less than was there.
        is_doubtful = self.journal.ended and not self.journal.is_proven
        size = {_VERSION: {"$lt" if is_doubtful else "$lte": self.journal.size}}
        update = {"$set": changed, **({"$unset": removed} if removed else {})}
        with errors(self.database.address):
            self.database.runs.update_one(
                {"_id": self.run_id, _UID: self.journal.uid, **size}, update
            )
        sent.fields = fields

    def _store_metrics(self, metrics: tuple[MetricDocument, ...]) -> None:
        """Store what metrics have grown by; long ones now and then only, until the run is over."""
        sent, hurry = self.sent, self.journal.ended
        pending = [
            metric for metric in metrics if metric.part.count > sent.points.get(metric.id, 0)
        ]
        if any(metric.id not in sent.points for metric in pending):
            sent.points = self._stored_points() | sent.points
        for metric in pending:
            while (hurry or time.monotonic() >= sent.due.get(metric.id, 0.0)) and (
                (have := sent.points.get(metric.id, 0)) < metric.part.count
            ):
                began = time.monotonic()
                self.working(metric.part.count / _SLOW_APPEND)
                self._store_points(metric, have)
                ended = time.monotonic()
                sent.due[metric.id] = ended + _REST * (ended - began)
            if sent.release:
                metric.part.release(sent.points.get(metric.id, 0))

    def _stored_points(self) -> dict[Any, int]:
        with errors(self.database.address):
            found = self.database.metrics.find({"run_id": self.run_id}, {"count": 1})
            return {metric["_id"]: metric.get("count", 0) for metric in found}

    def _store_points(self, metric: MetricDocument, have: int) -> None:
        """Append points if nobody else has; otherwise learn how many there are by now."""
        identity = metric.id
        points = metric.points(have)
        count = {"count": metric.part.count}
        if have == 0:
            head = {"_id": identity, "run_id": self.run_id, "name": metric.name}
            stored = self._insert_metric({**head, **points, **count, "first": metric.part.first})
        else:
            push = {name: {"$each": column} for name, column in points.items()}
            with errors(self.database.address):
                query = {"_id": identity, "count": have}
                result = self.database.metrics.update_one(query, {"$push": push, "$set": count})
            stored = result.matched_count == 1
        if stored:
            self.sent.points[metric.id] = metric.part.count
        else:
            self.sent.points.pop(metric.id, None)
            self.sent.points |= self._stored_points()

    def _insert_metric(self, document: dict[str, Any]) -> bool:
        """Insert a metric's document; if it is there already, make sure that it is this run's."""
        try:
            with errors(self.database.address):
                self.database.metrics.insert_one(document)
            return True
        except DuplicateError:
            query = {"_id": document["_id"], "run_id": {"$ne": self.run_id}}
            with errors(self.database.address):  # its run was removed, and came back
                self.database.metrics.update_one(query, {"$set": {"run_id": self.run_id}})
            return False

    def _store_files(self, files: dict[str, StoredFile]) -> None:
        """Store files, by their names in GridFS, that nobody has stored."""
        known = self.sent.files
        missing = {name: file for name, file in files.items() if file.id not in known}
        known |= present_files(self.database, [file.id for file in missing.values()])
        for name, file in missing.items():
            if file.id not in known:
                self.working(0.0)
                if store_file(self.database, name, file):
                    known.add(file.id)
                else:
                    what = f"what is kept of {file.name} is damaged, and was not stored"
                    self.sent.damaged[file.id] = what


def _no_less(fields: dict[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a record without those of which more is stored."""
    kept = dict(fields)
    for name, new in fields.items():
        old = value_at(stored, name)
        if name == _FACTS and isinstance(old, Mapping):
            kept[name] = {**old, **new}
        elif (name in _GROWING or name.startswith("info.")) and _is_more(old, new):
            del kept[name]
    return kept


def _is_more(old: Any, new: Any) -> bool:
    if isinstance(old, str | list | dict) and isinstance(new, type(old)):
        return len(old) > len(new)
    return old is not None and new is None


def _spared_console(text: str, sent: Sent) -> str:
    """Return the console to store now: a long one changes rarely, since servers log each change."""
    now = time.monotonic()
    if len(text) > _LONG_CONSOLE and now < sent.due.get(_CONSOLE, 0.0):
        return str(sent.fields.get(_CONSOLE, text))
    sent.due[_CONSOLE] = now + _CONSOLE_EVERY
    return text
