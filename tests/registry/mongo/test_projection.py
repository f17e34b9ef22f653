"""Journals in MongoDB: as Sacred writes runs, once, whole, from any number of projectors."""

from __future__ import annotations

import json
import math
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gridfs
import pytest
from bson import ObjectId, encode
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError
from sacred.observers import MongoObserver
from sacred.serializer import flatten

from registry.mongo import documents as documents_module
from registry.mongo.database import DamagedError, Database, DatabaseError
from registry.mongo.documents import LARGEST, bson_size, documents, object_id
from registry.mongo.projection import Sent, store_journal, stored_status
from registry.mongo.queries import find_metrics, find_run
from registry.record import journal as metrics_module
from registry.record.journal import (
    EVENTS,
    Journal,
    ReleasedError,
    Series,
    journal_root,
    read_journal,
)
from registry.record.observer import JournalObserver
from registry.record.plain import plain
from tests.registry.recorded_run import record

OFF = "off"
OURS = {"count", "first"}  # what our documents of metrics have beyond Sacred's


def sources_of(database: Database, run_id: int) -> dict[str, str]:
    run = find_run(database, run_id)
    assert run is not None
    sources = run["experiment"]["sources"]
    return {name: database.read_file(file).decode() for name, file in sources}


def journal_of(root: Path, **settings: Any) -> Journal:
    """Run the experiment without a database and return its journal."""
    before = set(journal_root(root).iterdir()) if journal_root(root).exists() else set()
    record(root, OFF, **settings)
    (folder,) = set(journal_root(root).iterdir()) - before
    return read_journal(folder)


def scripted(
    root: Path, *calls: Callable[[JournalObserver], None], uid: str = "run", end: bool = True
) -> Journal:
    """Return the journal of a run that only tells what `calls` say."""
    observer = JournalObserver(journal_root(root) / uid, {"experiment": "x"})
    told: dict[str, Any] = {"command": "main", "host_info": {}, "config": {}, "meta_info": {}}
    info = {"name": "x", "base_dir": str(root), "sources": []}
    observer.started_event(ex_info=info, start_time=datetime.utcnow(), _id=None, **told)
    for call in calls:
        call(observer)
    if end:
        observer.completed_event(datetime.utcnow(), None)
    return read_journal(observer.folder)


def metric(name: str, count: int, value: Any = 0.5) -> Callable[[JournalObserver], None]:
    points = {"steps": list(range(count)), "values": [value] * count}
    moments = [datetime.utcnow()] * count
    return lambda observer: observer.log_metrics({name: {**points, "timestamps": moments}}, {})


@pytest.mark.parametrize("fail", [False, True])
def test_documents_are_those_of_sacreds_observer(
    tmp_path: Path, database: Database, fail: bool
) -> None:
    """One run, both observers; then the documents key by key, types and all."""
    sacreds = database.handle.client[f"{database.handle.name}_sacred"]
    observer = MongoObserver(client=sacreds.client, db_name=sacreds.name)
    artifact = tmp_path / "made.txt"
    artifact.write_text("made by the run")

    try:
        journal = record_both(tmp_path, observer, artifact, fail)
        run_id = store_journal(journal, database)
        theirs, ours = sacreds.runs.find_one(), database.runs.find_one({"_id": run_id})
        assert theirs is not None
        assert ours is not None
        assert_same_run(theirs, ours)
        assert_same_files(sacreds, database.handle, theirs, ours)
        assert_same_metrics(sacreds, database.handle, theirs, ours)
    finally:
        sacreds.client.drop_database(sacreds.name)


def record_both(root: Path, observer: MongoObserver, artifact: Path, fail: bool) -> Journal:
    def add_files(run: Any) -> None:
        run.add_resource(str(artifact))
        run.add_artifact(str(artifact), metadata={"kind": "text"})

    settings = {"fail": fail, "nested": {"list": [1, 2.5, None, "x"], "flag": True}}
    if fail:
        with pytest.raises(RuntimeError, match="it failed"):
            record(root, OFF, observers=[observer], prepare=add_files, **settings)
    else:
        record(root, OFF, observers=[observer], prepare=add_files, **settings)
    (folder,) = journal_root(root).iterdir()
    return read_journal(folder)


def assert_same_run(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    assert list(theirs) == list(ours)
    different = {"info", "experiment", "artifacts", "heartbeat", "captured_out"}
    for key in theirs.keys() - different:
        assert_same(theirs[key], ours[key], key)
    assert ours["captured_out"].startswith(theirs["captured_out"])  # Sacred's lacks a failure's end
    assert abs(theirs["heartbeat"] - ours["heartbeat"]).total_seconds() < 0.1
    assert ours["info"].keys() - theirs["info"].keys() == {"factbook"}
    for key in theirs["info"].keys() - {"metrics"}:
        assert_same(theirs["info"][key], ours["info"][key], key)
    names = [[metric["name"] for metric in run["info"]["metrics"]] for run in (theirs, ours)]
    assert names[0] == names[1]
    assert all(isinstance(metric["id"], str) for metric in ours["info"]["metrics"])
    for key in theirs["experiment"].keys() - {"sources"}:
        assert_same(theirs["experiment"][key], ours["experiment"][key], key)


def assert_same(theirs: Any, ours: Any, where: str) -> None:
    assert type(theirs) is type(ours), where
    if isinstance(theirs, dict):
        assert theirs.keys() == ours.keys(), where
        for key in theirs:
            assert_same(theirs[key], ours[key], f"{where}.{key}")
    elif isinstance(theirs, list):
        assert len(theirs) == len(ours), where
        for place, (one, other) in enumerate(zip(theirs, ours, strict=True)):
            assert_same(one, other, f"{where}.{place}")
    elif isinstance(theirs, datetime):  # Mongo keeps milliseconds: Sacred's are cut, ours rounded
        assert abs((theirs - ours.replace(tzinfo=theirs.tzinfo)).total_seconds()) <= 0.001, where
    else:
        assert theirs == ours, where


def assert_same_files(sacreds: Any, ours_in: Any, theirs: Any, ours: Any) -> None:
    pairs = zip(theirs["experiment"]["sources"], ours["experiment"]["sources"], strict=True)
    for (name, their_id), (our_name, our_id) in pairs:
        assert name == our_name
        assert type(their_id) is type(our_id) is ObjectId
        one, other = gridfs.GridFS(sacreds).get(their_id), gridfs.GridFS(ours_in).get(our_id)
        assert (one.read(), one.filename) == (other.read(), other.filename)
    (their_artifact,), (our_artifact,) = theirs["artifacts"], ours["artifacts"]
    assert their_artifact["name"] == our_artifact["name"]
    one = gridfs.GridFS(sacreds).get(their_artifact["file_id"])
    other = gridfs.GridFS(ours_in).get(our_artifact["file_id"])
    assert one.read() == other.read() == b"made by the run"
    assert (one.filename, one._file["contentType"], one.metadata) == (
        other.filename,
        other._file["contentType"],
        other.metadata,
    )


def assert_same_metrics(sacreds: Any, ours_in: Any, theirs: Any, ours: Any) -> None:
    for their_entry, our_entry in zip(
        theirs["info"]["metrics"], ours["info"]["metrics"], strict=True
    ):
        one = sacreds.metrics.find_one({"_id": ObjectId(their_entry["id"])})
        other = ours_in.metrics.find_one({"_id": ObjectId(our_entry["id"])})
        assert set(other) - set(one) == OURS
        for key in one.keys() - {"_id"}:
            assert_same(one[key], other[key], key)


def test_sacred_s_config_is_ours() -> None:
    """What Sacred flattens with jsonpickle is the same where it is plain already."""
    config = {"a": [1, 2.5, {"b": None}], "c": "x", "d": True, "e": 2**62}
    assert plain(config) == flatten(config)


def test_queries_of_other_clients(tmp_path: Path, database: Database) -> None:
    run_id = store_journal(journal_of(tmp_path, k=16), database)
    db = database.handle
    query = {"info.factbook.experiment": "toy[k=2]", "status": "COMPLETED"}
    assert [run["_id"] for run in db.runs.find(query)] == [run_id]
    assert db.runs.count_documents({"config.k": 16, "result.accuracy": {"$gt": 0.7}}) == 1
    assert db.metrics.find_one({"run_id": run_id, "name": "loss"})["steps"] == [0, 1, 2]
    # incense: a run's metrics, artifacts and sources by what the run itself names
    run = db.runs.find_one(run_id)
    for entry in run["info"]["metrics"]:
        assert db.metrics.find_one({"_id": ObjectId(entry["id"])})["name"] == entry["name"]
    name, file = run["experiment"]["sources"][-1]
    assert name == "recorded_run.py"
    assert b"small Sacred experiment" in gridfs.GridFS(db).get(file).read()
    # Sacred finds a source that is stored by path and md5
    stored = gridfs.GridFS(db).find_one({"_id": file})
    assert gridfs.GridFS(db).exists(filename=stored.filename, md5=stored._file["md5"])


def test_reading_back(tmp_path: Path, database: Database) -> None:
    journal = journal_of(tmp_path)
    run_id = store_journal(journal, database)
    assert stored_status(run_id, database) == "COMPLETED"
    assert stored_status(run_id + 1, database) is None
    run = find_run(database, journal.uid)
    assert run is not None
    assert run["_id"] == run_id
    json.dumps({**run, **dict.fromkeys(["start_time", "stop_time", "heartbeat"])})  # all plain
    assert find_metrics(database, run_id)["loss"]["values"] == [1.0, 0.5, 1 / 3]
    assert "def make_experiment" in sources_of(database, run_id)["recorded_run.py"]


def test_twice_is_once(tmp_path: Path, database: Database) -> None:
    journal = journal_of(tmp_path)
    sent = Sent()
    first = store_journal(journal, database, sent)
    before = snapshot(database)
    assert store_journal(journal, database, sent) == store_journal(
        read_journal(journal.folder), database
    )
    assert snapshot(database) == before
    assert first == 1


def snapshot(database: Database) -> dict[str, list[Any]]:
    names = ("runs", "metrics", "fs.files", "fs.chunks")
    return {name: list(database.collection(name).find().sort("_id", 1)) for name in names}


def test_numbers_go_on_from_other_clients_runs(tmp_path: Path, database: Database) -> None:
    database.runs.insert_one({"_id": 41, "status": "COMPLETED"})
    assert store_journal(scripted(tmp_path, uid="a"), database) == 42
    for number in range(43, 70):
        database.runs.insert_one({"_id": number, "status": "COMPLETED"})
    assert store_journal(scripted(tmp_path, uid="b"), database) == 70
    assert store_journal(scripted(tmp_path, uid="c"), database) == 71


@pytest.mark.timeout(60)
def test_an_index_that_has_what_is_found_nowhere_is_damage(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = Collection.insert_one

    def refuse(own: Any, document: Any, *given: Any, **named: Any) -> Any:
        if own.name == "runs":
            raise DuplicateKeyError("E11000 duplicate key")
        return insert(own, document, *given, **named)

    monkeypatch.setattr(Collection, "insert_one", refuse)
    journal = scripted(tmp_path)
    with pytest.raises(DamagedError, match=r"is not found; factbook doctor"):
        store_journal(journal, database)


def test_eight_projectors_of_one_journal(tmp_path: Path, database: Database) -> None:
    journal = scripted(tmp_path, *[metric(f"m{n}", 50) for n in range(5)])
    assert racing(database, [journal] * 8) == [1] * 8
    (run,) = database.runs.find()
    assert run["status"] == "COMPLETED"
    metrics = find_metrics(database, 1)
    assert {name: column["steps"] for name, column in metrics.items()} == {
        f"m{n}": list(range(50)) for n in range(5)
    }
    assert database.metrics.count_documents({}) == 5


def test_eight_projectors_of_a_growing_journal(tmp_path: Path, database: Database) -> None:
    """Each reads it at another state; the latest state wins, and no point is twice or missing."""
    whole = scripted(tmp_path, *[metric("m", 10) for _ in range(20)])
    lines = (whole.folder / EVENTS).read_bytes().splitlines(keepends=True)
    states = []
    for count in range(2, len(lines) + 1):
        (whole.folder / EVENTS).write_bytes(b"".join(lines[:count]))
        states.append(read_journal(whole.folder))
    assert set(racing(database, states)) == {1}
    assert find_metrics(database, 1)["m"]["steps"] == list(range(10)) * 20
    assert stored_status(1, database) == "COMPLETED"


def test_eight_projectors_of_different_journals(tmp_path: Path, database: Database) -> None:
    journals = [scripted(tmp_path, metric("m", 5), uid=f"run{n:02}") for n in range(16)]
    assert sorted(racing(database, journals)) == list(range(1, 17))
    for journal in journals:
        run = find_run(database, journal.uid)
        assert run is not None
        assert find_metrics(database, run["_id"])["m"]["steps"] == list(range(5))


def racing(database: Database, journals: list[Journal]) -> list[int]:
    """Project journals from eight threads with connections of their own, all at once."""
    barrier = threading.Barrier(8)

    def work(share: list[Journal]) -> list[int]:
        own = database.reopen()
        barrier.wait()
        numbers = [store_journal(journal, own) for journal in share]
        own.close()
        return numbers

    with ThreadPoolExecutor(8) as pool:
        return [
            n for numbers in pool.map(work, [journals[n::8] for n in range(8)]) for n in numbers
        ]


def test_an_older_state_overwrites_nothing(tmp_path: Path, database: Database) -> None:
    running = scripted(tmp_path, metric("m", 3), end=False)
    ended = scripted(tmp_path, metric("m", 3))
    assert running.uid == ended.uid
    assert running.size < ended.size
    store_journal(ended, database)
    before = snapshot(database)
    store_journal(running, database)
    assert snapshot(database) == before


def test_metrics_go_on_where_they_were(tmp_path: Path, database: Database) -> None:
    sent = Sent(release=True)
    journal = Journal(journal_root(tmp_path) / "run")
    step = 0

    def log_and_project(observer: JournalObserver) -> None:
        nonlocal step
        moments = [datetime.utcnow()] * 4
        steps = list(range(step, step + 4))
        observer.log_metrics({"m": {"steps": steps, "values": steps, "timestamps": moments}}, {})
        step += 4
        sent.due.clear()
        store_journal(journal.refresh(), database, sent)
        assert journal.metrics["m"].column("steps") == []  # stored, so forgotten

    scripted(tmp_path, *[log_and_project] * 5)
    run_id = store_journal(journal.refresh(), database, sent)
    assert find_metrics(database, run_id)["m"]["steps"] == list(range(20))
    database.metrics.delete_many({})
    point = {"name": "m", "steps": [20], "values": [1], "timestamps": [0]}
    points = {"event": "metrics", "time": "2026-01-01T00:00:00Z", "metrics": [point]}
    with open(journal.folder / EVENTS, "a") as file:
        file.write(json.dumps(points) + "\n")
    with pytest.raises(ReleasedError):
        store_journal(journal.refresh(), database, sent)
    store_journal(read_journal(journal.folder), database)
    assert find_metrics(database, run_id)["m"]["steps"] == list(range(21))


def test_a_long_console_is_stored_now_and_then(tmp_path: Path, database: Database) -> None:
    sent = Sent()
    journal = Journal(journal_root(tmp_path) / "run")
    text = "x" * 20_000
    stored = []

    def beat_and_project(observer: JournalObserver) -> None:
        nonlocal text
        text += "y"
        observer.heartbeat_event({"n": len(text)}, text, datetime.utcnow(), None)
        run = find_run(database, store_journal(journal.refresh(), database, sent))
        assert run is not None
        stored.append((run["info"]["n"], len(run["captured_out"])))

    scripted(tmp_path, *[beat_and_project] * 3)
    assert stored == [(20_001, 20_001), (20_002, 20_001), (20_003, 20_001)]
    run = find_run(database, store_journal(journal.refresh(), database, sent))
    assert run is not None
    assert run["captured_out"] == text


def test_a_removed_run_comes_back_whole(tmp_path: Path, database: Database) -> None:
    journal = scripted(tmp_path, metric("m", 3))
    sent = Sent()
    store_journal(journal, database, sent)
    database.runs.delete_one({"_id": 1})  # as other clients do; the metrics stay behind
    assert store_journal(journal, database, sent) == 2
    assert stored_status(2, database) == "COMPLETED"
    assert find_metrics(database, 2)["m"]["steps"] == [0, 1, 2]


def test_long_metrics_lose_nothing(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More points than one document holds, stored in two goes."""
    monkeypatch.setattr(metrics_module, "_PART", 3000 * metrics_module._POINT)
    store_journal(scripted(tmp_path, metric("loss", 2900), end=False), database)
    run_id = store_journal(scripted(tmp_path, metric("loss", 3300, math.nan)), database)
    parts = list(database.metrics.find({"run_id": run_id}).sort("first", 1))
    expected = [(0, 3000), (3000, 3000), (6000, 200)]
    assert [(part["first"], part["count"]) for part in parts] == expected
    column = find_metrics(database, run_id)["loss"]
    assert column["steps"] == [*range(2900), *range(3300)]
    assert math.isnan(column["values"][-1])
    assert len(column["timestamps"]) == 6200
    run = find_run(database, run_id)
    assert run is not None
    assert [m["name"] for m in run["info"]["metrics"]] == ["loss"] * 3


@pytest.mark.slow
def test_the_longest_part_fits_a_document() -> None:
    series = Series()
    for step in range(300_001):
        series.append(2**40 + step, 0.5, step)
    first, second = series.parts
    assert (first.count, second.count) == (300_000, 1)
    moment = datetime.now(UTC)
    columns = {"steps": first.steps, "values": first.values, "timestamps": [moment] * 300_000}
    assert 14_000_000 < len(encode(columns)) < 16_000_000


def test_documents_always_fit(tmp_path: Path, database: Database) -> None:
    info = {"large": "x" * 9_000_000, "larger": ["é" * 100] * 60_000, "small": 1}

    def heartbeat(observer: JournalObserver) -> None:
        text = "begin\n" + "y" * 40_000_000 + "\nend"
        observer.heartbeat_event(info, text, datetime.utcnow(), {"list": [1] * 1_000_000})

    journal = scripted(tmp_path, heartbeat)
    run = documents(journal).run
    assert bson_size(run) <= LARGEST
    run_id = store_journal(journal, database)
    stored = find_run(database, run_id)
    assert stored is not None
    assert stored["info"]["small"] == 1
    assert "bytes left out" in stored["info"]["larger"]
    assert stored["captured_out"].startswith("begin")
    assert stored["captured_out"].endswith("end")
    assert journal.info == info  # the journal keeps all


def test_sizes_are_not_underestimated() -> None:
    value = {"a": [1, 2.5, None, True, "é", {"b": "x" * 1000}], "c": datetime.now(UTC)}
    values = {"a": [list(range(2000)), ["text"] * 300, value], "é" * 50: 2**62}
    assert len(encode(values)) <= bson_size(values) <= 2 * len(encode(values))


def test_resources_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents_module, "_MOST_RESOURCES", 2)
    for number in range(3):
        (tmp_path / f"{number}").touch()
    reads = [lambda o, n=n: o.resource_event(str(tmp_path / f"{n}")) for n in range(3)]
    run = documents(scripted(tmp_path, *reads)).run
    assert len(run["resources"]) == 2
    assert run["info"]["factbook"]["resources_not_stored"] == 1


def test_artifacts(tmp_path: Path, database: Database) -> None:
    small = tmp_path / "small.bin"
    small.write_bytes(bytes(range(256)) * 3000)  # three chunks
    large = tmp_path / "large.bin"
    with open(large, "wb") as file:
        file.truncate(17 * 1024 * 1024)
    journal = scripted(
        tmp_path,
        lambda o: o.artifact_event("small", str(small)),
        lambda o: o.artifact_event("large", str(large)),
    )
    run_id = store_journal(journal, database)
    run = find_run(database, run_id)
    assert run is not None
    ((name, file),) = ((kept["name"], kept["file_id"]) for kept in run["artifacts"])
    assert (name, database.read_file(file)) == ("small", small.read_bytes())
    (left_out,) = run["info"]["factbook"]["artifacts_not_stored"]
    assert (left_out["name"], left_out["bytes"]) == ("large", 17 * 1024 * 1024)


def test_half_a_file_is_completed(tmp_path: Path, database: Database) -> None:
    """A projector that died between a file's chunks and its entry."""
    journal = journal_of(tmp_path)
    source = documents(journal).files[0]
    chunk = {"files_id": ObjectId(source.id), "n": 0, "data": source.path.read_bytes()}
    database.collection("fs.chunks").insert_one(chunk)
    run_id = store_journal(journal, database)
    assert source.path.read_text() in sources_of(database, run_id).values()


def test_identities_are_stable() -> None:
    assert object_id("a", "bc") == object_id("a", "bc") != object_id("ab", "c")
    assert ObjectId(object_id("a"))


def test_a_dead_run_is_recorded_as_such(tmp_path: Path, database: Database) -> None:
    journal = scripted(tmp_path, end=False)
    died = {"event": "died", "time": "2026-11-22T01:00:00.000Z", "status": "DIED"}
    with open(journal.folder / EVENTS, "a") as file:
        file.write(json.dumps(died) + "\n")
    run = find_run(database, store_journal(read_journal(journal.folder), database))
    assert run is not None
    assert (run["status"], run["stop_time"]) == ("DIED", datetime(2026, 11, 22, 1, tzinfo=UTC))


def test_another_database_is_not_written_to(tmp_path: Path, database: Database) -> None:
    database.own.delete_many({})
    with pytest.raises(DatabaseError, match="another database"):
        store_journal(scripted(tmp_path), database)
    assert database.runs.count_documents({}) == 0


def test_nothing_is_decoded_by_jsonpickle(tmp_path: Path, database: Database) -> None:
    """A record that would run code if it were restored is data here."""
    evil = {"py/object": "os.system", "py/reduce": [{"py/function": "os.system"}, ["false"]]}
    beat = lambda o: o.heartbeat_event({"evil": evil}, "", datetime.utcnow(), evil)  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = find_run(database, store_journal(scripted(tmp_path, beat, end=False), database))
    assert run is not None
    assert run["result"] == evil
