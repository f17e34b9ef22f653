"""The projector beside a run, when all is well and when the server or the run is killed."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from registry.mongo import server
from registry.mongo.database import AwayError, Database, DatabaseError, connect
from registry.mongo.projector import SYNC, Projector, RecordOutcome, is_projected, sync
from registry.mongo.queries import find_metrics, find_run, find_runs
from registry.record.journal import EVENTS, journal_root, new_uid, read_journal
from registry.record.observer import JournalObserver
from tests.forked import PROGRAM, Forked
from tests.registry.recorded_run import record


def started(root: Path, uid: str = "run") -> JournalObserver:
    observer = JournalObserver(journal_root(root) / uid, {"experiment": "x"})
    told: dict[str, Any] = {"command": "main", "host_info": {}, "config": {}, "meta_info": {}}
    info = {"name": "x", "base_dir": str(root), "sources": []}
    observer.started_event(ex_info=info, start_time=datetime.utcnow(), _id=None, **told)
    return observer


def log(observer: JournalObserver, first: int, count: int) -> None:
    steps = list(range(first, first + count))
    points = {"steps": steps, "values": steps, "timestamps": [datetime.utcnow()] * count}
    observer.log_metrics({"m": points}, {})


def kill(process: server.Server) -> None:
    os.kill(process.process.pid, signal.SIGKILL)
    while process.process.state() == "alive":
        time.sleep(0.01)


def wait_for(database: Database, uid: str, key: str, value: Any) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        run = find_run(database, uid)
        if run is not None and run[key] == value:
            return run
        time.sleep(0.02)
    raise AssertionError(f"{key} is not {value!r} but {run and run[key]!r}")


def test_a_run_that_goes_well_is_read_back(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    outcome = record(tmp_path, database_url, points=5)
    assert outcome.recorded
    assert (outcome.run_id, outcome.status, outcome.command) == (1, "COMPLETED", None)
    (run,) = find_runs(database, {"info.factbook.experiment": "toy[k=2]"})
    assert (run["_id"], run["status"], run["result"]) == (1, "COMPLETED", {"accuracy": 0.75})
    (folder,) = journal_root(tmp_path).iterdir()
    assert is_projected(folder, database)


def test_seen_while_it_runs(tmp_path: Path, database: Database) -> None:
    observer = started(tmp_path)
    with Projector(observer.folder, database, interval=0.05) as projector:
        run = wait_for(database, "run", "status", "RUNNING")
        observer.heartbeat_event({"a": 1}, "printed", datetime.utcnow(), None)
        log(observer, 0, 10)
        wait_for(database, "run", "captured_out", "printed")
        observer.heartbeat_event({"a": 2}, "printed more", datetime.utcnow(), None)
        wait_for(database, "run", "captured_out", "printed more")
        observer.failed_event(datetime.utcnow(), ["why"])
    outcome = projector.finish()
    assert outcome.recorded
    assert outcome.run_id == run["_id"]
    stored = find_run(database, "run")
    assert stored is not None
    assert (stored["status"], stored["fail_trace"], stored["info"]["a"]) == ("FAILED", ["why"], 2)
    assert find_metrics(database, run["_id"])["m"]["steps"] == list(range(10))


def test_no_database_is_wanted(tmp_path: Path) -> None:
    observer = started(tmp_path)
    with Projector(observer.folder, None) as projector:
        observer.completed_event(datetime.utcnow(), None)
    outcome = projector.finish()
    assert (outcome.recorded, outcome.status, outcome.command) == (False, "COMPLETED", SYNC)


@pytest.mark.parametrize("back", ["by itself", "by somebody"])
def test_server_killed_in_the_middle(own_server: Path, back: str) -> None:
    """Points from before, during and after the outage are all there, once."""
    database = connect(own_server)
    assert database is not None
    observer = started(own_server)
    with Projector(observer.folder, database, interval=0.05, grace=30) as projector:
        log(observer, 0, 10)
        wait_for(database, "run", "status", "RUNNING")
        running = server.find(own_server)
        assert running is not None
        kill(running)
        log(observer, 10, 10)
        time.sleep(0.2)
        if back == "by somebody":
            server.start(own_server)
        log(observer, 20, 10)
        observer.completed_event(datetime.utcnow(), {"a": 1})
    outcome = projector.finish()
    assert outcome.recorded, outcome
    again = connect(own_server)
    assert again is not None
    stored = find_run(again, "run")
    assert stored is not None
    assert (stored["status"], stored["result"]) == ("COMPLETED", {"a": 1})
    assert find_metrics(again, stored["_id"])["m"]["steps"] == list(range(30))
    assert again.runs.count_documents({}) == 1
    again.close()
    database.close()


def test_server_stopped_for_good(own_server: Path) -> None:
    """The run ends in seconds, the caller is told, and `sync` makes up for it."""
    database = connect(own_server)
    assert database is not None
    observer = started(own_server)
    with Projector(observer.folder, database, interval=0.05, grace=1) as projector:
        log(observer, 0, 10)
        wait_for(database, "run", "status", "RUNNING")
        server.stop(own_server)
        log(observer, 10, 10)
        observer.completed_event(datetime.utcnow(), None)
    began = time.monotonic()
    outcome = projector.finish()
    assert time.monotonic() - began < 12  # what is under way may take its time
    assert (outcome.recorded, outcome.command) == (False, SYNC)
    assert re.search("stopped|MongoDB at|in time", outcome.message)
    assert read_journal(observer.folder).status == "COMPLETED"
    assert server.find(own_server) is None  # and it was not started against somebody's wish
    again = connect(own_server)
    assert again is not None
    for synced in sync(own_server, again):  # or what was under way has found the server again
        assert (synced.uid, synced.run_id, synced.status) == ("run", 1, "COMPLETED")
    stored = find_run(again, 1)
    assert stored is not None
    assert stored["status"] == "COMPLETED"
    assert find_metrics(again, 1)["m"]["steps"] == list(range(20))
    assert sync(own_server, again) == []
    again.close()
    database.close()


def test_server_that_hangs(own_server: Path) -> None:
    database = connect(own_server)
    assert database is not None
    observer = started(own_server)
    running = server.find(own_server)
    assert running is not None
    os.kill(running.process.pid, signal.SIGSTOP)
    try:
        with Projector(observer.folder, database, interval=0.05, grace=1) as projector:
            observer.completed_event(datetime.utcnow(), None)
            time.sleep(0.2)
        began = time.monotonic()
        outcome = projector.finish()
        assert time.monotonic() - began < 12
        assert not outcome.recorded
        assert "in time" in outcome.message
        with pytest.raises(AwayError, match="factbook mongo stop"):
            connect(own_server)
    finally:
        os.kill(running.process.pid, signal.SIGCONT)
        database.close()


def test_short_runs_are_not_held_up(tmp_path: Path, database: Database) -> None:
    began = time.monotonic()
    for number in range(5):
        observer = started(tmp_path, f"run{number}")
        with Projector(observer.folder, database) as projector:
            observer.completed_event(datetime.utcnow(), None)
        assert projector.finish().recorded
    assert time.monotonic() - began < 5  # 0.03 s each on a quiet machine, never an interval


def test_a_run_without_an_end_is_not_taken_for_recorded(tmp_path: Path, database: Database) -> None:
    observer = started(tmp_path)
    with Projector(observer.folder, database, interval=0.05, grace=0.5) as projector:
        pass
    outcome: RecordOutcome = projector.finish()
    assert not outcome.recorded
    assert outcome.status == "RUNNING"


def test_sync_brings_all_and_notes_the_dead(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    for number in range(3):
        observer = started(tmp_path, f"run{number}")
        log(observer, 0, 5)
        observer.completed_event(datetime.utcnow(), number)
    JournalObserver(journal_root(tmp_path) / "begun", {})  # killed before its first event
    uid = new_uid()
    words = ("tests.registry.recorded_run", tmp_path, uid, "sleep=60")
    program = Forked(PROGRAM, *words, environment={"FACTBOOK_MONGO": database_url})
    wait_for(database, uid, "status", "RUNNING")
    program.kill()
    program.finish()
    done = sync(tmp_path, database)
    assert {synced.uid: (synced.status, synced.died) for synced in done} == {
        "run0": ("COMPLETED", False),
        "run1": ("COMPLETED", False),
        "run2": ("COMPLETED", False),
        uid: ("DIED", True),
    }
    assert wait_for(database, uid, "status", "DIED")["stop_time"]
    assert sync(tmp_path, database) == []


def test_sync_is_not_held_up_by_one_bad_journal(tmp_path: Path, database: Database) -> None:
    for uid in ("a", "b", "c"):
        started(tmp_path, uid).completed_event(datetime.utcnow(), None)
    events = journal_root(tmp_path) / "b" / EVENTS
    events.write_text(events.read_text().replace('"sources":[]', '"sources":[["x"]]'))
    done = sync(tmp_path, database)
    assert [(synced.uid, synced.error is None) for synced in done] == [
        ("a", True),
        ("b", False),
        ("c", True),
    ]


def test_sync_without_a_database_raises(tmp_path: Path, own_server: Path) -> None:
    database = connect(own_server)
    assert database is not None
    started(tmp_path).completed_event(datetime.utcnow(), None)
    server.stop(own_server)
    with pytest.raises(DatabaseError):
        sync(tmp_path, database)
    database.close()


def test_another_database_gets_everything(
    tmp_path: Path, database: Database, mongo_server: str
) -> None:
    """After a move from the embedded server to a URL of one's own."""
    for uid in ("a", "b"):
        started(tmp_path, uid).completed_event(datetime.utcnow(), None)
    assert len(sync(tmp_path, database)) == 2
    other = connect(tmp_path, mongo_server, name=f"{database.handle.name}_moved")
    assert other is not None
    try:
        assert len(sync(tmp_path, other)) == 2
        assert other.runs.count_documents({"status": "COMPLETED"}) == 2
        assert sync(tmp_path, database) == sync(tmp_path, other) == []
    finally:
        other.handle.client.drop_database(other.handle.name)
        other.close()


def test_sync_again_brings_back_what_was_removed(tmp_path: Path, database: Database) -> None:
    started(tmp_path).completed_event(datetime.utcnow(), None)
    sync(tmp_path, database)
    database.runs.delete_many({})
    assert sync(tmp_path, database) == []
    assert [synced.uid for synced in sync(tmp_path, database, again=True)] == ["run"]
    assert find_run(database, "run")


def test_syncs_race_with_each_other(tmp_path: Path, database: Database) -> None:
    for number in range(10):
        observer = started(tmp_path, f"run{number}")
        log(observer, 0, 5)
        observer.completed_event(datetime.utcnow(), None)
    threads = [threading.Thread(target=sync, args=(tmp_path, database)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runs = find_runs(database, limit=None)
    assert sorted(run["_id"] for run in runs) == list(range(1, 11))
    for run in runs:
        assert find_metrics(database, run["_id"])["m"]["steps"] == list(range(5))


@pytest.fixture
def finished(tmp_path: Path, database: Database) -> Path:
    started(tmp_path, "template").completed_event(datetime.utcnow(), None)
    sync(tmp_path, database)
    template = journal_root(tmp_path) / "template"
    for number in range(1000):
        folder = journal_root(tmp_path) / f"run{number}"
        folder.mkdir()
        for name in (EVENTS, "projected.json", "status.json"):
            (folder / name).hardlink_to(template / name)
    return tmp_path


def test_a_scan_of_finished_journals_is_quick(finished: Path, database: Database) -> None:
    began = time.perf_counter()
    assert sync(finished, database) == []
    assert time.perf_counter() - began < 1  # 1,000 of them: 0.05 s on a quiet machine
