"""Questions to the database of runs. Answers are plain dicts, and fast with 10,000 runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from registry.mongo.database import INDEXED, Database, errors, plain_document
from registry.record.plain import plain
from registry.wording import counted

COLLECTION = "factbook.projects"
PROJECT = "info.factbook.project"
_UID = "info.factbook.uid"

_FACTS = (
    *("uid", "experiment", "cell", "stage", "stage_version", "fingerprint", "overrides"),
    *("inputs", "output", "sources", "commit", "project", "root", "part", "parts"),
    *("pid", "create_time", "boot", "host", "pid_namespace", "interrupted_by", "death_noted"),
)
SUMMARY = (
    *("experiment.name", "command", "status", "start_time", "stop_time", "heartbeat"),
    *("config", "result"),
    *(f"info.factbook.{name}" for name in _FACTS),
)
"""What is returned of each run where nothing else is asked for: all but the packages, and what is
long."""

_SCALARS = (str, int, float, bool, datetime, type(None))
_MOST_CHOICES = 100
_TELLING = tuple(f"info.factbook.{name}" for name in ("fingerprint", "cell", "experiment"))
_ALL = 100_000  # runs in one answer
_BATCH = 500
_AT_ONCE = 16  # numbers of one question
_MOST_DIGITS = 18  # that all fit into 64 bits
_FEW = 100  # runs that are read sooner than it is found where the newest are
_WINDOWS = (2, 16)  # times the limit: how many of the newest runs are looked at first
_LAST = (0, 10, 100)  # runs before the last number; those that were synced late are older


@dataclass(frozen=True)
class Scope:
    """The runs of one project in a database.

    Attributes
    ----------
    name : str
        Of the project; "" for all runs, whatever their project.
    adopts : bool
        Whether runs that name no project are its own: those of other clients of Sacred, and those
        from before projects had names.
    recorded : frozenset of str
        Identifiers of runs that are its own, and name another project: it had another name then.
    """

    name: str = ""
    adopts: bool = False
    recorded: frozenset[str] = frozenset()

    def holds(self, record: Mapping[str, Any]) -> bool:
        """Whether a document of ``runs`` is one of the project's."""
        project = value_at(record, PROJECT)
        return (
            project == self.name
            or not self.name
            or (self.adopts and _is_nameless(project))
            or value_at(record, _UID) in self.recorded
        )

    def alternatives(self) -> list[dict[str, Any]]:
        """Return what MongoDB is asked for, beside all else, one after the other.

        As one question, with ``$or``, the embedded server would use no index.
        """
        if not self.name:
            return [{}]
        own: list[dict[str, Any]] = [{PROJECT: self.name}]
        if self.adopts:
            own += [{PROJECT: None}, {PROJECT: {"$gte": "/", "$lt": "0"}}]
        former = sorted(self.recorded)
        for start in range(0, len(former), _MOST_CHOICES):
            own.append({_UID: {"$in": former[start : start + _MOST_CHOICES]}})
        return own


EVERYTHING = Scope()


def _is_nameless(project: Any) -> bool:
    """Whether a record names no project; in those from before there were names stood a folder."""
    return project is None or (isinstance(project, str) and project.startswith("/"))


def enter(database: Database, name: str) -> tuple[str, set[str]]:
    """Enter a project into the list that a database keeps.

    The first project that is entered adopts the runs that name none, once and for all.

    Returns
    -------
    tuple of str and set of str
        The project that has adopted those runs, and all that are known.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    projects = database.collection(COLLECTION)
    with errors(database.address):
        known = {str(entry["_id"]): bool(entry.get("adopts")) for entry in projects.find({})}
        if name not in known or not any(known.values()):
            known[name] = not any(known.values())
            projects.update_one({"_id": name}, {"$set": {"adopts": known[name]}}, upsert=True)
    return min((each for each, adopts in known.items() if adopts), default=name), set(known)


def find_runs(
    database: Database,
    query: Mapping[str, Any] | None = None,
    *,
    sort: str = "-start_time",
    limit: int | None = 50,
    fields: Sequence[str] = SUMMARY,
    scope: Scope = EVERYTHING,
) -> list[dict[str, Any]]:
    """Return the runs that have given values.

    Parameters
    ----------
    database : Database
        Where.
    query : mapping, optional
        Values by dotted key: ``{"status": "FAILED", "config.k": 16}``. A list or tuple means any
        of its values. Values are compared, and never act as operators.
    sort : str
        Dotted key; with ``-`` before it the largest come first.
    limit : int or None
        How many at most; None for all.
    fields : sequence of str
        Dotted keys to return beside ``_id``; empty for whole records.
    scope : Scope
        Whose runs; by default those of every project.

    Returns
    -------
    list of dict
        Identities are strings, times have a zone (UTC).

    Raises
    ------
    ValueError
        If a key or value could act as an operator.
    DatabaseError
        If the database is away.
    """
    conditions = conditions_of(query or {})
    direction = -1 if sort.startswith("-") else 1
    key = safe_key(sort.lstrip("-"))
    if fields and scope.name:
        fields = (*fields, PROJECT, _UID)
    with errors(database.address):
        for bound in _bounds(database, key, direction, limit):
            found = _find_own(database, conditions | bound, key, direction, limit, fields, scope)
            if not bound or len(found) == limit:
                break
    return [plain_document(run) for run in found]


def each_run(
    database: Database,
    fields: Sequence[str],
    since: datetime | None = None,
    scope: Scope = EVERYTHING,
) -> Iterator[list[dict[str, Any]]]:
    """Yield all runs, or those that started since a moment, many at once, in no order.

    See :func:`find_runs` for fields, scope and errors.
    """
    query = {} if since is None else {"start_time": {"$gte": since}}
    with errors(database.address):
        for own in scope.alternatives():
            cursor = database.runs.find(query | own, _projection(fields)).batch_size(_BATCH)
            while part := list(islice(cursor, _BATCH)):
                yield [plain_document(run) for run in part]


def runs_by_number(
    database: Database, numbers: Sequence[Any], fields: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the runs of these numbers that are there; see :func:`find_runs`."""
    found: list[dict[str, Any]] = []
    for start in range(0, len(numbers), _MOST_CHOICES):
        query = {"_id": list(numbers[start : start + _MOST_CHOICES])}
        found += find_runs(database, query, limit=None, fields=fields)
    return found


def runs_of(
    database: Database, numbers: Sequence[Any], fields: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the runs of some numbers that are there, in no order; see :func:`find_runs`.

    They are asked for a few at a time: the embedded server compares each with all of a question.
    """
    found: list[dict[str, Any]] = []
    with errors(database.address):
        for start in range(0, len(numbers), _AT_ONCE):
            query = {"_id": {"$in": list(numbers[start : start + _AT_ONCE])}}
            found += map(plain_document, database.runs.find(query, _projection(fields)))
    return found


def last_number(database: Database) -> int:
    """Return the last number that was given to a run, 0 for none.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    with errors(database.address):
        found = database.own.find_one({"_id": "last_run"}) or {}
    return int(found.get("number", 0))


def run_numbers(database: Database, scope: Scope = EVERYTHING) -> set[Any]:
    """Return the numbers of all runs, which takes the embedded server 2 s for 10,000.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    with errors(database.address):
        return {
            plain_document(run["_id"])
            for own in scope.alternatives()
            for run in database.runs.find(own, {"_id": 1})
        }


def are_many(database: Database, few: int) -> bool:
    """Return whether there are more than a few runs, quickly.

    The embedded server reads all that it counts: 2 s for 100,000 runs.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    return last_number(database) > few or count_runs(database) > few


def count_runs(database: Database) -> int:
    """Return how many runs there are.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    with errors(database.address):
        return int(database.runs.estimated_document_count())


def run_number(run: int | str) -> int | str | None:
    """Return the number that names a run, None for an identifier; one beyond 64 bits is a text."""
    if isinstance(run, str) and run.isdecimal() and len(run) <= _MOST_DIGITS:
        run = int(run)
    number: int | str = plain(run)
    return number if isinstance(run, int) or run.isdecimal() else None


def find_run(database: Database, run: int | str) -> dict[str, Any] | None:
    """Return one whole record by its number or its uid, or None if there is none.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    number = run_number(run)
    query = {_UID: plain(run)} if number is None else {"_id": number}
    with errors(database.address):
        found = database.runs.find_one(query)
    return None if found is None else dict(plain_document(found))


def find_metrics(database: Database, run_id: int) -> dict[str, dict[str, list[Any]]]:
    """Return the metrics of a run.

    Parameters
    ----------
    database : Database
        Where.
    run_id : int
        The run's number.

    Returns
    -------
    dict of str to dict
        By name, ``steps``, ``values`` and ``timestamps``, each in the order of logging.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    with errors(database.address):
        found = list(database.metrics.find({"run_id": run_id}))
    metrics: dict[str, dict[str, list[Any]]] = {}
    for part in sorted(found, key=lambda part: part.get("first", 0)):
        columns = metrics.setdefault(part["name"], {"steps": [], "values": [], "timestamps": []})
        for column, values in columns.items():
            values.extend(part.get(column, ()))
    return metrics


def _bounds(
    database: Database, key: str, direction: int, limit: int | None
) -> Iterator[dict[str, Any]]:
    """Yield conditions that narrow down where the newest runs are, and none at last.

    Sorting by an index while filtering is beyond the embedded server, which then reads all. What
    started lately is a short range of the index on the start; if it holds as many matches as are
    asked for, they are the newest. Of a few runs all are read at once.
    """
    if key == "start_time" and direction < 0 and limit and are_many(database, _FEW):
        newest = _newest_start(database)
        for doublings in range(0, 32, 2):  # a second to 34 years
            lately = {"start_time": {"$gte": newest - timedelta(seconds=2**doublings)}}
            number = database.runs.count_documents(lately)
            if number >= _WINDOWS[0] * limit:
                yield lately
            if number >= _WINDOWS[1] * limit:
                break
    yield {}


def _newest_start(database: Database) -> datetime:
    """Return when one of the newest runs started, going by their numbers."""
    last = (database.own.find_one({"_id": "last_run"}) or {}).get("number", 0)
    found = (database.runs.find_one({"_id": last - n}, {"start_time": 1}) for n in _LAST)
    starts = [run["start_time"] for run in found if run and run.get("start_time")]
    return max(starts, default=datetime.now(UTC))


def _find_own(
    database: Database,
    conditions: dict[str, Any],
    key: str,
    direction: int,
    limit: int | None,
    fields: Sequence[str],
    scope: Scope,
) -> list[dict[str, Any]]:
    """Return the runs of a scope: by another index if there is one, else by that on projects."""
    if not scope.name:
        return _find(database, conditions, key, direction, limit, fields)
    is_narrow = not conditions.keys().isdisjoint(("start_time", "_id", _UID, *_TELLING))
    found = {
        run["_id"]: run
        for own in ([{}] if is_narrow else scope.alternatives())
        for run in _find(database, own | conditions, key, direction, None, fields)
        if scope.holds(run)
    }
    ordered = sorted(found.values(), key=lambda run: sort_value(run, key), reverse=direction < 0)
    return ordered[:limit]


def _find(
    database: Database,
    conditions: dict[str, Any],
    key: str,
    direction: int,
    limit: int | None,
    fields: Sequence[str],
) -> list[dict[str, Any]]:
    first = "start_time" if "start_time" in conditions else None
    # The embedded server takes the first condition that has an index.
    order = [first, "_id", _UID, *_TELLING, PROJECT, *INDEXED]
    query = {name: conditions[name] for name in order if name in conditions} | conditions
    cursor = database.runs.find(query, _projection([*fields, key] if fields else []))
    if limit:
        return list(cursor.sort(key, direction).limit(min(limit, _ALL)))
    everything = cursor.batch_size(_ALL)  # sorted here, which is quicker than in the server
    return sorted(everything, key=lambda run: sort_value(run, key), reverse=direction < 0)


def _projection(fields: Sequence[str]) -> dict[str, int] | None:
    """Return what MongoDB is asked for; it refuses a key together with one inside of it."""
    names = {safe_key(name) for name in fields}
    inside = {name for name in names for other in names if name.startswith(f"{other}.")}
    return dict.fromkeys(sorted(names - inside), 1) or None


def value_at(run: Mapping[str, Any], key: str) -> Any:
    """Return the value of a record at a dotted key, None where there is none."""
    value: Any = run
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def sort_value(run: Mapping[str, Any], key: str) -> tuple[int, Any]:
    """Return what a run is sorted by; missing values come first, and no two types are compared."""
    value = value_at(run, key)
    if isinstance(value, (int, float)):
        return (1, -math.inf if math.isnan(value) else value)
    if isinstance(value, datetime):
        return (3, value.timestamp())
    return (0, 0) if value is None else (2, str(value))


def conditions_of(query: Mapping[str, Any]) -> dict[str, Any]:
    """Return conditions on equality as MongoDB takes them.

    Raises
    ------
    ValueError
        If a key or value could act as an operator.
    """
    return {safe_key(key): _condition(key, value) for key, value in query.items()}


def _condition(key: str, value: Any) -> Any:
    """Return a condition on equality. Only plain scalars pass, and those cannot be operators."""
    if isinstance(value, (list, tuple, set, frozenset)):
        if len(value) > _MOST_CHOICES:
            raise ValueError(
                f"{key}: {counted(len(value), 'value')} to choose from; at most {_MOST_CHOICES}"
            )
        return {"$in": [_condition(key, item) for item in value]}
    if not isinstance(value, _SCALARS):
        raise ValueError(f"{key}: got {value!r}; expected a text, number, boolean, time or None")
    return value if isinstance(value, datetime) else plain(value)  # as records hold it


def safe_key(key: str) -> str:
    """Return a dotted key that cannot act as an operator.

    Raises
    ------
    ValueError
        If it is not one.
    """
    is_text = key == plain(key) and "\0" not in key
    if not is_text or any(part.startswith("$") or not part for part in key.split(".")):
        raise ValueError(f"{key!r} is not a dotted key such as 'config.k'")
    return key
