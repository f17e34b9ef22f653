"""Connections: errors come in seconds and keep secrets; queries cannot be turned into others."""

from __future__ import annotations

import functools
import itertools
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from registry.mongo.database import (
    Database,
    DatabaseError,
    DuplicateError,
    connect,
    errors,
)
from registry.mongo.queries import find_metrics, find_run, find_runs

NOWHERE = "mongodb://someone:s3cr%25t@127.0.0.1:9/"  # the discard port: nobody listens


def test_off_is_no_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert connect(tmp_path, "off") is None
    monkeypatch.setenv("FACTBOOK_MONGO", "OFF")
    assert connect(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_unreachable_is_told_in_seconds_without_the_password(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(DatabaseError, match=r"127\.0\.0\.1:9") as caught:
        connect(tmp_path, NOWHERE)
    assert time.monotonic() - began < 8
    assert "someone" in str(caught.value)
    for secret in ("s3cr%25t", "s3cr%t"):
        assert secret not in str(caught.value)
    assert list(tmp_path.iterdir()) == []  # nothing was started instead


def test_name_comes_from_the_url_or_the_project(mongo_server: str, database_url: str) -> None:
    database = connect(Path(), database_url, name="ignored")
    assert database is not None
    assert database.handle.name in database_url
    database.close()
    named = connect(Path(), mongo_server, name="factbook_test_named")
    assert named is not None
    assert named.handle.name == "factbook_test_named"
    named.handle.client.drop_database("factbook_test_named")
    named.close()


def test_identity_is_the_database_s_own(database: Database, database_url: str) -> None:
    again = connect(Path(), database_url)
    assert again is not None
    assert again.identity == database.identity
    database.check()
    database.own.update_one({"_id": "identity"}, {"$set": {"token": "another"}})
    with pytest.raises(DatabaseError, match="another database"):
        database.check()
    again.close()


def test_indexes(database: Database) -> None:
    runs = database.runs.index_information()
    assert runs["info.factbook.uid_1"]["unique"]
    keys = {tuple(name for name, _ in index["key"]) for index in runs.values()}
    assert ("info.factbook.experiment", "start_time") in keys
    assert ("status", "start_time") in keys
    for number in range(2):  # records of other clients have no uid, and do not collide
        database.runs.insert_one({"_id": number, "info": {}})
    database.runs.insert_one({"_id": 2, "info": {"factbook": {"uid": "a"}}})
    with pytest.raises(DuplicateError), errors("here"):
        database.runs.insert_one({"_id": 3, "info": {"factbook": {"uid": "a"}}})


@pytest.fixture
def hundred(database: Database) -> Database:
    """A hundred runs, an hour apart, numbered out of order of their start for some."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    runs: list[dict[str, Any]] = [
        {
            "_id": n + 1,
            "status": "FAILED" if n % 10 == 0 else "COMPLETED",
            "start_time": start + timedelta(hours=n if n % 7 else n - 50),
            "config": {"k": n % 3, "when": start},
            "result": {"score": (n * 37) % 100 / 100} if n % 5 else None,
            "info": {"factbook": {"uid": f"u{n}", "stage": f"s{n % 4}"}},
            "captured_out": "text",
        }
        for n in range(100)
    ]
    database.runs.insert_many(runs)
    database.own.insert_one({"_id": "last_run", "number": 100})
    return database


QUERIES: list[dict[str, Any]] = [
    {},
    {"status": "FAILED"},
    {"config.k": 2},
    {"info.factbook.stage": "s1", "status": "COMPLETED"},
    {"status": ["FAILED", "DIED"], "config.k": 1},
    {"result": None},
    {"config.k": 99},
]


@pytest.mark.parametrize("few", [0, 100], ids=["many", "few"])
def test_runs_are_those_and_in_that_order(
    hundred: Database, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """Against the same question asked of all documents in Python."""
    monkeypatch.setattr("registry.mongo.queries._FEW", few)
    for query, sort in itertools.product(QUERIES, ["-start_time", "start_time", "-result.score"]):
        operators = {k: {"$in": v} if isinstance(v, list) else v for k, v in query.items()}
        order = functools.partial(_sorted_by, key=sort.lstrip("-"))
        everything = list(hundred.runs.find(operators))
        everything.sort(key=order, reverse=sort.startswith("-"))
        for limit in (1, 3, 10, 50, 1000, None):
            found = find_runs(hundred, query, sort=sort, limit=limit, fields=())
            assert [order(run) for run in found] == [order(run) for run in everything][:limit]
            assert {run["_id"] for run in found} <= {run["_id"] for run in everything}
            assert len({run["_id"] for run in found}) == len(found)


def _sorted_by(run: dict[str, Any], key: str) -> Any:
    value: Any = run
    for name in key.split("."):
        value = (value or {}).get(name)
    return -1.0 if value is None else value


def test_fields(hundred: Database) -> None:
    (run,) = find_runs(
        hundred, {"info.factbook.uid": "u5"}, fields=("config", "config.k", "status")
    )
    assert set(run) - {"start_time"} == {"_id", "config", "status"}
    assert run["config"]["when"].tzinfo is not None
    (run,) = find_runs(hundred, {"info.factbook.uid": "u5"})
    assert "captured_out" not in run


def test_one_run(hundred: Database) -> None:
    assert find_run(hundred, 5) == find_run(hundred, "5") == find_run(hundred, "u4")
    assert find_run(hundred, 5000) is None
    assert find_run(hundred, "nobody") is None
    assert find_metrics(hundred, 5) == {}


@pytest.mark.parametrize(
    "query",
    [
        {"status": {"$ne": "FAILED"}},
        {"status": {"a": 1}},
        {"$where": "true"},
        {"config.$gt": 1},
        {"status": [{"$gt": ""}]},
        {"status": object()},
        {"a..b": 1},
        {"": 1},
        {"a\0": 1},
        {"status": ["x"] * 101},
    ],
)
def test_values_never_become_operators(database: Database, query: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"status|dotted"):
        find_runs(database, query)


def test_values_that_look_like_operators_are_values(database: Database) -> None:
    database.runs.insert_one({"_id": 1, "status": "$gt"})
    assert [run["_id"] for run in find_runs(database, {"status": "$gt"}, sort="_id")] == [1]
    with pytest.raises(ValueError, match="dotted"):
        find_runs(database, sort="$natural")
