"""Summaries of all runs in one file of this host, so that any question about many is answered soon.

A database answers quickly what it has an index for. By any other key it reads every record, which
takes the embedded server a minute for 100,000 runs, and so does reading as many journals. What a
list shows of each run is kept in ``.factbook/cache/runs-….sqlite``, and brought up to date, before
it is asked, at the price of what changed. It only saves time: it is made anew where it is missing,
damaged or of another version, and what it finds is read again where the records are.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import math
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from registry.catalog.runs import SECONDS, record_of, seconds_of
from registry.mongo import queries
from registry.mongo.database import Database, packed, plain_document, unpacked
from registry.mongo.queries import SUMMARY, Scope, sort_value, value_at
from registry.mongo.removal import deleted_from
from registry.record.journal import EVENTS, aware, journal_root, journal_uids
from registry.record.plain import plain
from registry.store.durable import make_state_folder

FEW = 1_000
"""Runs of which the records themselves are read; of more, summaries are kept."""

COUNTED = 5_000
"""Runs that are counted each time, lest some were removed; more are counted now and then."""

COUNTING = 0.006
"""Seconds between two counts, for each run: the embedded server reads all that it counts."""

VERSION = 1
_OPEN = ("RUNNING", "QUEUED", "DIED", "")
_MOST_OPEN = 1_000  # that are looked at again each time; the newest
_OVERLAP = timedelta(minutes=2)  # in which runs may be stored in another order than they began
_AHEAD = 100  # numbers that are tried beyond the largest known one
_AT_ONCE = 1_000  # runs that are decoded at once
_CONFIRMED = 200  # runs that are read again before they are shown
_PATIENCE = 60.0  # seconds that one process waits for another that writes

_FACTS = ("uid", "experiment", "cell", "stage", "fingerprint", "project")
_COLUMNS = {
    "_id": "id",
    **{f"info.factbook.{name}": name for name in _FACTS},
    "experiment.name": "name",
    "status": "status",
    SECONDS: "seconds",
    "start_time": "start",
}
"""Keys of a record that are columns of their own; all else is in one of three packed groups."""

_GROUPS = ("config", "result")
_FETCHED = (
    *("command", "status", "start_time", "stop_time", "heartbeat", "config", "result"),
    *("experiment.name", "info.factbook", "host.hostname"),
)
KEPT = (*SUMMARY, "host.hostname")
"""What is kept of each run: the fields of a summary."""

_TABLES = """
CREATE TABLE known (name PRIMARY KEY, value);
CREATE TABLE runs (
    id PRIMARY KEY, uid, experiment, cell, stage, fingerprint, project, name, status, seconds,
    start,     size INTEGER, config BLOB, result BLOB, rest BLOB
);
CREATE INDEX by_seconds ON runs (seconds);
CREATE INDEX by_start ON runs (start);
CREATE INDEX by_uid ON runs (uid);
CREATE INDEX by_cell ON runs (cell, start);
CREATE INDEX by_experiment ON runs (experiment, start);
CREATE INDEX by_stage ON runs (stage, start);
CREATE INDEX by_status ON runs (status, start);
"""
_INSERT = f"INSERT OR REPLACE INTO runs VALUES ({', '.join('?' * 15)})"


def is_kept(key: str) -> bool:
    """Return whether a dotted key is one of a summary, or lies within it."""
    return key in ("_id", SECONDS) or any(key == own or key.startswith(f"{own}.") for own in KEPT)


class Listing:
    """Summaries of the runs of one database, or of the journals of one project.

    Parameters
    ----------
    root : Path
        Folder of the project.
    database : Database or None
        None for the journals.
    """

    def __init__(self, root: Path, database: Database | None):
        self._root = root
        self._database = database
        of = database.identity if database else "journals"
        host = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
        name = f"runs-{VERSION}-{host}-{of[:32]}.sqlite"
        self._path = root / ".factbook" / "cache" / name

    @property
    def is_filled(self) -> bool:
        """Whether everything was read before, so that a refresh takes little."""
        if not self._path.exists():
            return False
        with self._open() as file:
            return bool(_known(file, "filled"))

    def select(
        self,
        query: Mapping[str, Any],
        *,
        sort: str = "-start_time",
        limit: int | None = None,
        scope: Scope = queries.EVERYTHING,
        deleted: Iterable[str] = (),
        holds: Callable[[Mapping[str, Any]], bool] | None = None,
    ) -> list[dict[str, Any]]:
        """Return runs, brought up to date before.

        Parameters
        ----------
        query : mapping
            Values by dotted key, as for :func:`registry.mongo.queries.find_runs`; a list or tuple
            means any of its values.
        sort : str
                Dotted key, or ``seconds``; with ``-`` before it the largest come first.
        limit : int or None
            How many at most.
        scope : Scope
            Whose.
        deleted : iterable of str
            Identifiers of runs to leave out.
        holds : callable, optional
            What else must hold of a record.

        Returns
        -------
        list of dict
            Records with the fields of a summary.

        Raises
        ------
        ValueError
            If a key or value could act as an operator.
        DatabaseError
            If the database is away.
        """
        queries.conditions_of(query)
        key = queries.safe_key(sort.removeprefix("-"))
        clauses, values, late = _asked(query)
        own, scoped = _of_scope(scope)
        clauses.append(own)
        if left_out := sorted(deleted):
            clauses.append("uid NOT IN (SELECT value FROM json_each(?))")
            scoped.append(json.dumps(left_out))
        where = " AND ".join(clauses)
        is_reversed, is_in_order = sort.startswith("-"), key in ("start_time", SECONDS)
        if is_in_order:
            where += f" ORDER BY {_COLUMNS[key]} {'DESC' if is_reversed else 'ASC'}"
        looked_at = {name.partition(".")[0] for name in (*late, *(() if is_in_order else (key,)))}
        is_part = holds is None and looked_at <= {*_GROUPS}
        groups = [group for group in _GROUPS if group in looked_at] if is_part else []
        sql = f"SELECT {', '.join(['id', *(groups if is_part else (_PACKED,))])} FROM runs"

        def order(pair: tuple[Any, Mapping[str, Any]]) -> Any:
            return sort_value(pair[1], key)

        def is_wanted(pair: tuple[Any, Mapping[str, Any]]) -> bool:
            return all(
                any(_is_equal(value_at(pair[1], key), each) for each in choices)
                for key, choices in late.items()
            ) and (holds is None or holds(pair[1]))

        def seen(row: Sequence[Any]) -> tuple[Any, Mapping[str, Any]]:
            number, *packs = row
            if not is_part:
                return number, _Summary(*packs)
            pairs = zip(groups, packs, strict=True)
            return number, {group: unpacked(pack)[""] for group, pack in pairs}

        def asked(file: sqlite3.Connection) -> list[dict[str, Any]]:
            rows = file.execute(f"{sql} WHERE {where}", [*values, *scoped])
            found: Iterable[tuple[Any, Mapping[str, Any]]] = filter(is_wanted, map(seen, rows))
            if is_in_order:
                found = islice(found, limit)
            elif limit is not None:
                best = heapq.nlargest if is_reversed else heapq.nsmallest
                found = best(limit, found, key=order)
            else:
                found = sorted(found, key=order, reverse=is_reversed)
            return [_whole(file, number) for number, _ in found]

        with self._open() as file:
            self._refresh(file)
            found = asked(file)
            while self._has_changed(file, found):
                found = asked(file)
            return found

    def _has_changed(self, file: sqlite3.Connection, found: list[dict[str, Any]]) -> bool:
        """Read runs that are about to be shown again; return whether some are not as they were."""
        if self._database is None or len(found) > _CONFIRMED:
            return False
        numbers = [run["_id"] for run in found]
        now = {run["_id"]: run for run in queries.runs_of(self._database, numbers, _FETCHED)}
        has_changed = False
        for number in numbers:
            row = file.execute("SELECT * FROM runs WHERE id = ?", (number,)).fetchone()
            if number not in now and not isinstance(number, str):  # else it may be another's
                file.execute("DELETE FROM runs WHERE id = ?", (number,))
                has_changed = True
            elif number in now and row != _row(now[number]):
                has_changed = bool(_take(file, [now[number]]))
        return has_changed

    def refresh(self, progress: Callable[[int], None] = lambda count: None) -> None:
        """Read what is new, at first everything, telling how many runs there are meanwhile."""
        with self._open() as file:
            self._refresh(file, progress)

    def sizes(self) -> dict[str, int]:
        """Return how long each journal was when it was read, by its uid."""
        with self._open() as file:
            return dict(file.execute("SELECT uid, size FROM runs"))

    def records(self, scope: Scope = queries.EVERYTHING) -> Iterator[list[dict[str, Any]]]:
        """Yield the summaries of all runs that are known, many at once, the newest first."""
        where, values = _of_scope(scope)
        sql = f"SELECT {_PACKED} FROM runs WHERE {where} ORDER BY start DESC"
        with self._open() as file:
            cursor = file.execute(sql, values)
            while rows := cursor.fetchmany(_AT_ONCE):
                yield [plain_document(dict(_Summary(*row))) for row in rows]

    # -- the file ---------------------------------------------------------------------------

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open the file, made anew where it is damaged; in memory where it cannot be written."""
        file = self._connected()
        try:
            yield file
        except sqlite3.DatabaseError:
            with suppress(OSError):
                self._path.unlink()
            raise
        finally:
            file.close()

    def _connected(self) -> sqlite3.Connection:
        try:
            make_state_folder(self._path.parent)
            return _prepared(self._path)
        except (sqlite3.DatabaseError, OSError):
            with suppress(OSError):
                self._path.unlink()
        try:
            return _prepared(self._path)
        except (sqlite3.DatabaseError, OSError):
            return _prepared(":memory:")

    def _refresh(
        self, file: sqlite3.Connection, progress: Callable[[int], None] = lambda count: None
    ) -> None:
        file.execute("BEGIN IMMEDIATE")  # whoever comes second waits, and finds it done
        try:
            if self._database is None:
                self._read_journals(file, progress)
            elif not _known(file, "filled"):
                self._fill(file, self._database, progress)
            else:
                self._read_new(file, self._database)
            _note(file, "filled", 1)
        finally:
            if file.in_transaction:  # what was read until something went wrong is right
                file.execute("COMMIT")

    # -- from a database --------------------------------------------------------------------

    def _fill(
        self, file: sqlite3.Connection, database: Database, progress: Callable[[int], None]
    ) -> None:
        """Read everything, by number: a server that answers at once would hold all in memory."""
        self._read_numbered(file, database, progress)
        self._reconcile(file, database)

    def _read_new(self, file: sqlite3.Connection, database: Database) -> None:
        for number in _changed(file, database):
            file.execute("DELETE FROM runs WHERE id = ?", (number,))
        newest = file.execute("SELECT max(start) FROM runs").fetchone()[0]
        if newest is not None:
            since = datetime.fromtimestamp(newest, UTC) - _OVERLAP
            for part in queries.each_run(database, _FETCHED, since):
                _take(file, part)
        self._read_numbered(file, database)
        self._reconcile(file, database)

    def _read_numbered(
        self,
        file: sqlite3.Connection,
        database: Database,
        progress: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Read what was numbered since, however long ago it began, and what others numbered."""
        given, last, done = queries.last_number(database), _known(file, "last"), _count(file)
        start = last + 1
        while True:
            ahead = range(start, start + _AHEAD)
            found = queries.runs_of(database, list(ahead), _FETCHED)
            done += _take(file, found)
            progress(done)
            last = max([last, *(run["_id"] for run in found)])
            start += _AHEAD
            _go_on(file, "last", min(last, given))
            if start > given and not found:
                break
        _note(file, "last", max(given, last))

    def _reconcile(self, file: sqlite3.Connection, database: Database) -> None:
        """Compare all numbers where the count says that runs were removed, or written elsewhere."""
        known, now = _count(file), time.time()
        if known > COUNTED and now < _known(file, "counted") + COUNTING * known:
            return
        _note(file, "counted", now)
        if queries.count_runs(database) == known:
            return
        gone = json.dumps(sorted(deleted_from(database)))
        file.execute("DELETE FROM runs WHERE uid IN (SELECT value FROM json_each(?))", (gone,))
        if (count := queries.count_runs(database)) == _count(file):
            return
        if count - _count(file) == _known(file, "difference"):
            return
        ids = {row[0] for row in file.execute("SELECT id FROM runs")}
        if count < len(ids):  # a few at a time: nobody waits for a server that reads all at once
            found = queries.runs_of(database, [n for n in ids if isinstance(n, int)], ("_id",))
            numbers = {run["_id"] for run in found} | {n for n in ids if isinstance(n, str)}
        else:
            numbers = queries.run_numbers(database)
        for number in ids - numbers:
            file.execute("DELETE FROM runs WHERE id = ?", (number,))
        unknown = sorted(numbers - ids, key=str)
        for start in range(0, len(unknown), _AHEAD):
            numbered = unknown[start : start + _AHEAD]
            _take(file, queries.runs_of(database, numbered, _FETCHED))
        if queries.count_runs(database) > _count(file):  # identities that are no numbers
            for part in queries.each_run(database, _FETCHED):
                _take(file, part)
        _note(file, "difference", queries.count_runs(database) - _count(file))

    # -- from journals ----------------------------------------------------------------------

    def _read_journals(self, file: sqlite3.Connection, progress: Callable[[int], None]) -> None:
        root, uids = journal_root(self._root), journal_uids(self._root)
        rows = file.execute("SELECT uid, size, status FROM runs")
        known = {uid: (size, status) for uid, size, status in rows}
        for done, uid in enumerate(reversed(uids)):
            size, status = known.pop(uid, (None, ""))
            now = _size(f"{root}/{uid}/{EVENTS}")
            if now != size or status in _OPEN:
                record = record_of(root / uid)
                if record is None:
                    file.execute("DELETE FROM runs WHERE uid = ?", (uid,))
                else:
                    file.execute(_INSERT, _row({**record, "_id": uid}, now))
                progress(done + 1)
                if done % _AT_ONCE == 0:
                    _go_on(file)
        for uid in known:
            file.execute("DELETE FROM runs WHERE uid = ?", (uid,))


def _size(path: str) -> int:
    with suppress(OSError):
        return os.stat(path).st_size
    return -1


def _prepared(path: Path | str) -> sqlite3.Connection:
    file = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
    try:
        file.execute("PRAGMA synchronous = OFF")
        if not file.execute("SELECT 1 FROM sqlite_master").fetchone():
            file.execute("BEGIN IMMEDIATE")
            if not file.execute("SELECT 1 FROM sqlite_master").fetchone():
                for statement in _TABLES.split(";"):
                    file.execute(statement)
            file.execute("COMMIT")
        file.execute("SELECT id FROM runs LIMIT 1")
    except BaseException:
        file.close()
        raise
    return file


def _known(file: sqlite3.Connection, name: str) -> Any:
    found = file.execute("SELECT value FROM known WHERE name = ?", (name,)).fetchone()
    return found[0] if found else 0


def _note(file: sqlite3.Connection, name: str, value: Any) -> None:
    file.execute("INSERT OR REPLACE INTO known VALUES (?, ?)", (name, value))


def _go_on(file: sqlite3.Connection, name: str = "", value: Any = None) -> None:
    """Let what was read so far stay, whatever becomes of this process, and note how far that is."""
    if name:
        _note(file, name, value)
    file.execute("COMMIT")
    file.execute("BEGIN IMMEDIATE")


def _count(file: sqlite3.Connection) -> int:
    return int(file.execute("SELECT count(*) FROM runs").fetchone()[0])


def _changed(file: sqlite3.Connection, database: Database) -> set[Any]:
    """Read again the runs that had not ended, and return those that are gone."""
    is_open = f"status IN ({', '.join('?' * len(_OPEN))})"
    sql = f"SELECT id FROM runs WHERE {is_open} ORDER BY start DESC LIMIT ?"
    numbers = [row[0] for row in file.execute(sql, (*_OPEN, _MOST_OPEN))]
    found = [
        run
        for start in range(0, len(numbers), _AHEAD)
        for run in queries.runs_of(database, numbers[start : start + _AHEAD], _FETCHED)
    ]
    _take(file, found)
    return set(numbers) - {run["_id"] for run in found}


def _take(file: sqlite3.Connection, records: Iterable[Mapping[str, Any]]) -> int:
    rows = [_row(record) for record in records]
    file.executemany(_INSERT, rows)
    return len(rows)


def _row(record: Mapping[str, Any], size: int = 0) -> tuple[Any, ...]:
    columns = [value_at(record, key) for key in _COLUMNS]
    columns = [value if isinstance(value, str | int | float) else None for value in columns]
    start = record.get("start_time")
    columns[-2:] = seconds_of(record) or 0.0, None
    if isinstance(start, datetime):
        columns[-1] = aware(start).timestamp()
    groups = [_packed({"": record.get(group)}) for group in _GROUPS]
    rest: dict[str, Any] = {"_id": None if size else record["_id"]}
    for key in KEPT:
        if key.partition(".")[0] not in _GROUPS:
            _put(rest, key, value_at(record, key), record)
    return (*columns, size, *groups, _packed(rest))


def _put(into: dict[str, Any], key: str, value: Any, record: Mapping[str, Any]) -> None:
    """Put a value at a dotted key, where the record has it."""
    if value is None and key not in record:
        return
    *above, last = key.split(".")
    for name in above:
        into = into.setdefault(name, {})
    into[last] = value


def _packed(document: Mapping[str, Any]) -> bytes:
    try:
        return packed(document)
    except Exception:  # what a journal holds and MongoDB cannot
        return packed(plain(document))


# -- what is asked ----------------------------------------------------------------------------


class _Summary(Mapping[str, Any]):
    """One run as it is kept: unpacked as far as it is looked at."""

    def __init__(self, *row: bytes):
        self._packed = dict(zip(_GROUPS, row, strict=False))
        self._rest = row[-1]
        self._known: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            if name in self._packed:
                self._known[name] = unpacked(self._packed[name])[""]
            else:
                self._known |= unpacked(self._rest)
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*unpacked(self._rest), *_GROUPS))

    def __len__(self) -> int:
        return len(list(iter(self)))


_PACKED = "config, result, rest"


def _whole(file: sqlite3.Connection, number: Any) -> dict[str, Any]:
    """Return the summary of one run."""
    row = file.execute(f"SELECT {_PACKED} FROM runs WHERE id = ?", (number,)).fetchone()
    summary: dict[str, Any] = plain_document(dict(_Summary(*row)))
    return summary


def _of_scope(scope: Scope) -> tuple[str, list[Any]]:
    if not scope.name:
        return "1", []
    nameless = "project IS NULL OR substr(project, 1, 1) = '/'" if scope.adopts else "0"
    recorded = "uid IN (SELECT value FROM json_each(?))"
    where = f"(project = ? OR {nameless} OR {recorded})"
    return where, [scope.name, json.dumps(sorted(scope.recorded))]


def _asked(query: Mapping[str, Any]) -> tuple[list[str], list[Any], dict[str, list[Any]]]:
    """Return clauses on columns with their values, and what no column answers."""
    clauses, values, late = [], [], {}
    for key, wanted in query.items():
        choices = list(wanted) if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
        choices = [each if isinstance(each, datetime) else plain(each) for each in choices]
        column = _COLUMNS.get(key, "")
        kinds = (str, int) if column == "id" else (str,)
        if column not in ("", "start", "seconds") and all(type(each) in kinds for each in choices):
            clauses.append(f"{column} IN ({', '.join('?' * len(choices))})")
            values += choices
        else:
            late[key] = choices
    return clauses, values, late


def _is_equal(value: Any, wanted: Any) -> bool:
    """Return whether MongoDB finds a value by another one."""
    if isinstance(value, list) and not isinstance(wanted, list):
        return any(_is_equal(each, wanted) for each in value)
    if isinstance(value, float) and isinstance(wanted, float) and math.isnan(value):
        return math.isnan(wanted)
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)
