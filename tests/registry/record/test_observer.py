"""A run's journal tells all that the run did, and how it ended, whatever befell it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sacred.observers import RunObserver

from registry.record.journal import CONSOLE, EVENTS, Journal, journal_root, new_uid, read_journal
from registry.record.liveness import ProcessIdentity, journal_status
from registry.record.observer import LARGEST_ARTIFACT, JournalObserver
from tests import forked
from tests.forked import PROGRAM, Forked
from tests.registry.recorded_run import reap, record


@pytest.fixture(autouse=True)
def _no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACTBOOK_MONGO", "off")


@pytest.fixture
def observer(tmp_path: Path) -> JournalObserver:
    observer = JournalObserver(tmp_path / ".factbook/journal/run", {"fingerprint": "f"})
    begin(observer)
    return observer


def begin(observer: JournalObserver, **told: Any) -> None:
    usual: dict[str, Any] = {
        "ex_info": {"name": "x", "base_dir": "/", "sources": [], "mainfile": None},
        "command": "main",
        "host_info": {},
        "config": {},
        "meta_info": {},
        "_id": None,
    }
    observer.started_event(start_time=datetime.utcnow(), **(usual | told))


def beat(observer: JournalObserver, info: Any = None, text: str = "", result: Any = None) -> None:
    observer.heartbeat_event(info or {}, text, datetime.utcnow(), result)


def only_journal(root: Path) -> Journal:
    (folder,) = journal_root(root).iterdir()
    return read_journal(folder)


def test_a_run_that_goes_well(tmp_path: Path) -> None:
    outcome = record(tmp_path, None, points=5)
    journal = only_journal(tmp_path)
    assert (journal.status, journal.command, journal.result) == (
        "COMPLETED",
        "toy",
        {"accuracy": 0.75},
    )
    assert not outcome.recorded
    assert outcome.status == "COMPLETED"
    assert outcome.command == "factbook sync"
    assert journal.config["points"] == 5
    assert journal.info == {"note": {"list": [1, 2.5, None, True], "text": "a"}}
    assert journal.metrics["loss"].column("steps") == [0, 1, 2, 3, 4]
    assert journal.metrics["loss"].column("values") == [1 / (step + 1) for step in range(5)]
    assert journal.start_time
    assert journal.stop_time
    assert journal.heartbeat
    assert "step 4\n" in journal.console()
    assert journal.facts["uid"] == journal.uid
    assert journal.facts["experiment"] == "toy[k=2]"
    assert ProcessIdentity.from_facts(journal.facts) == ProcessIdentity.current()
    assert journal_status(journal.folder).status == "COMPLETED"
    assert not (journal.folder / "ballast").exists()
    for name, md5 in journal.experiment["sources"]:
        kept = journal.folder / "sources" / md5
        assert kept.read_bytes() == (Path(journal.experiment["base_dir"]) / name).read_bytes()


class Slow(RunObserver):
    """Takes longer for its first heartbeat than Sacred waits for."""

    def __init__(self) -> None:
        self.began = threading.Event()

    def heartbeat_event(self, **_: Any) -> None:
        if not self.began.is_set():
            self.began.set()
            time.sleep(2.2)


@pytest.mark.slow
def test_what_is_announced_has_all_points_whatever_a_heartbeat_takes(tmp_path: Path) -> None:
    slow = Slow()

    def publish(run: Any) -> None:
        slow.began.wait()
        run.log_scalar("late", 1.0, 0)
        own = next(o for o in run.observers if isinstance(o, JournalObserver))
        own.announce({"accuracy": 0.75})
        journal = read_journal(own.folder)
        assert journal.announced == journal.metrics["late"].count == 1

    record(tmp_path, None, observers=[slow], prepare=publish, beat=0.05)
    assert only_journal(tmp_path).status == "COMPLETED"


def test_sources_are_kept_once_for_all_runs(tmp_path: Path) -> None:
    for _ in range(2):
        record(tmp_path, None)
    first, second = (read_journal(folder) for folder in journal_root(tmp_path).iterdir())
    for _, md5 in first.experiment["sources"]:
        assert (first.folder / "sources" / md5).samefile(second.folder / "sources" / md5)


@pytest.mark.parametrize("is_loaded", [True, False])
def test_a_damaged_copy_of_code_is_not_given_to_the_next_run(
    tmp_path: Path, is_loaded: bool
) -> None:
    (tmp_path / "code.py").write_text("x = 1\n")
    md5 = hashlib.md5(b"x = 1\n").hexdigest()
    told = {"name": "x", "base_dir": str(tmp_path), "sources": [("code.py", md5)]}
    kept = []
    for number in range(3):
        folder = journal_root(tmp_path) / f"run{number}"
        observer = JournalObserver(folder, sources={md5: b"x = 1\n"} if is_loaded else {})
        begin(observer, ex_info=told)
        observer.completed_event(datetime.utcnow(), None)
        kept.append(folder / "sources" / md5)
        if number == 0:
            kept[0].write_bytes(b"x = 7\n")
    assert [path.read_bytes() for path in kept] == [b"x = 7\n", b"x = 1\n", b"x = 1\n"]
    assert kept[1].samefile(kept[2])


@pytest.mark.slow
@pytest.mark.parametrize("capture", ["sys", "fd"])
def test_a_run_that_fails_tells_why_and_what_it_printed_last(
    tmp_path: Path, capture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sacred forgets what was printed after the last heartbeat of a run that fails."""
    words = ("tests.registry.recorded_run", str(tmp_path), "u", "fail=1")
    assert forked.run(*words, environment={"CAPTURE": capture}).returncode == 1
    journal = only_journal(tmp_path)
    assert journal.status == "FAILED"
    assert "it failed" in "".join(journal.fail_trace or [])
    assert "about to fail\n" in journal.console()
    assert journal.result is None


def test_what_scripts_hand_over_becomes_plain(observer: JournalObserver) -> None:
    class Odd:
        shape = (2,)
        dtype = "odd"

    points = {
        "values": [np.float32(1), float("nan"), 2**80, Odd()],
        "steps": [np.int64(0), 1, 2, 3],
    }
    observer.log_metrics({"a.b": {**points, "timestamps": [datetime.utcnow()] * 4}}, {})
    beat(observer, {"a.b": np.float64(2), "$c": {1, 2}}, result={"score": np.float32(0.5)})
    observer.completed_event(datetime.utcnow(), {"score": np.float32(0.5)})
    journal = read_journal(observer.folder)
    assert journal.info == {"a,b": 2.0, "@c": [1, 2]}
    assert journal.result == {"score": 0.5}
    values = journal.metrics["a.b"].column("values")
    assert values[0] == 1.0
    assert np.isnan(values[1])
    assert values[2] == str(2**80)
    assert "Odd" in values[3]
    for line in (observer.folder / EVENTS).read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_only_what_changed_is_written(observer: JournalObserver) -> None:
    info = {"large": "x" * 10_000, "n": 0}
    for number in range(20):
        info["n"] = number
        beat(observer, info, text="line\n" * number)
    beat(observer, {"n": 19})
    assert (observer.folder / EVENTS).stat().st_size < 20_000
    assert read_journal(observer.folder).info == {"n": 19}


def test_facts_come_before_and_during(tmp_path: Path) -> None:
    observer = JournalObserver(tmp_path / "j" / "run", {"a": 1, "uid": "no", "pid": -1})
    observer.set_facts(b=2)
    begin(observer)
    observer.set_facts(a=3, output={"path": Path("p")})
    facts = read_journal(observer.folder).facts
    assert (facts["a"], facts["b"], facts["output"]) == (3, 2, {"path": "p"})
    assert (facts["uid"], facts["pid"]) == ("run", os.getpid())


def test_resources_and_artifacts(observer: JournalObserver, tmp_path: Path) -> None:
    small, large = tmp_path / "small.png", tmp_path / "large.bin"
    small.write_bytes(b"picture")
    with open(large, "wb") as file:
        file.truncate(LARGEST_ARTIFACT + 1)
    observer.resource_event(str(small))
    observer.resource_event(str(tmp_path / "missing"))
    observer.artifact_event("small", str(small), {"dpi": np.int32(90)})
    observer.artifact_event("large", str(large))
    observer.artifact_event("missing", str(tmp_path / "missing"))
    small.write_bytes(b"changed since")
    journal = read_journal(observer.folder)
    assert [path for path, _ in journal.resources] == [str(small)]
    first, second = journal.artifacts
    assert (first["name"], first["bytes"], first["kept"], first["content_type"]) == (
        "small",
        7,
        True,
        "image/png",
    )
    assert first["metadata"] == {"dpi": 90}
    assert (journal.folder / "artifacts" / first["md5"]).read_bytes() == b"picture"
    assert not second["kept"]
    assert not (journal.folder / "artifacts" / second["md5"]).exists()


def test_console_follows_progress_bars(observer: JournalObserver) -> None:
    texts = ["start\n", "start\n 10 %", "start\n 50 % é", "start\n100 %\n", "start\n100 %\nend ü"]
    for text in texts:
        beat(observer, text=text)
        assert (observer.folder / CONSOLE).read_text("utf-8") == text


@pytest.mark.parametrize(
    "event",
    [
        lambda o: o.started_event(),
        lambda o: o.heartbeat_event(3, None, "no time", object()),
        lambda o: o.log_metrics({"m": {}}, {}),
        lambda o: o.resource_event("/nowhere"),
        lambda o: o.artifact_event("a", "/nowhere"),
        lambda o: o.set_facts(**{"a": lambda: 1}),
        lambda o: o.failed_event(None, 3),
    ],
)
def test_no_event_raises(
    observer: JournalObserver, event: Callable[[JournalObserver], None]
) -> None:
    event(observer)
    observer.completed_event(datetime.utcnow(), object())
    assert read_journal(observer.folder).status == "COMPLETED"


def test_nothing_is_written_after_the_end(observer: JournalObserver) -> None:
    observer.completed_event(datetime.utcnow(), 1)
    size = (observer.folder / EVENTS).stat().st_size
    beat(observer, {"late": 1})
    assert (observer.folder / EVENTS).stat().st_size == size


def run_program(root: Path, *settings: str) -> Forked:
    """Start the experiment as a program, and wait until it has begun."""
    uid = new_uid()
    program = Forked(PROGRAM, "tests.registry.recorded_run", root, uid, *settings)
    folder = journal_root(root) / uid
    deadline = time.monotonic() + 60
    while read_journal(folder).heartbeat is None:
        assert not program.has_ended, program.finish()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return program


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_run_that_is_stopped(tmp_path: Path, number: signal.Signals) -> None:
    program = run_program(tmp_path, "sleep=60")
    os.kill(program.pid, number)
    program.finish()
    journal = only_journal(tmp_path)
    assert journal.status == "INTERRUPTED"
    assert journal.facts["interrupted_by"] == number.name


@pytest.mark.slow
def test_a_run_that_is_killed(tmp_path: Path) -> None:
    program = run_program(tmp_path, "sleep=60")
    (folder,) = journal_root(tmp_path).iterdir()
    assert journal_status(folder).status == "RUNNING"
    program.kill()
    program.finish()
    assert journal_status(folder).status == "DIED"
    assert reap(tmp_path) == [folder.name]
    assert reap(tmp_path) == []
    assert read_journal(folder).status == "DIED"
    assert read_journal(folder).metrics["loss"].count == 3
    assert not (folder / "ballast").exists()


def test_where_sacred_itself_records_is_not_recorded(tmp_path: Path) -> None:
    observer = JournalObserver(tmp_path / ".factbook/journal/run")
    options = {"--sql": "postgresql://me:s3cret@host/db", "--mongo_db": None, "--queue": False}
    begin(observer, meta_info={"options": options, "command": "main"})
    kept = read_journal(observer.folder).meta
    assert kept == {"options": {**options, "--sql": "***"}, "command": "main"}
    assert "s3cret" not in (observer.folder / "events.jsonl").read_text()
