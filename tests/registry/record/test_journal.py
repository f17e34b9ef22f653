"""What a journal says when it is read: whole, torn, growing, or left by a process that died."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from registry.record import liveness as process
from registry.record.journal import (
    CONSOLE,
    EVENTS,
    PROJECTED,
    STATUS_FILE,
    Journal,
    ReleasedError,
    Series,
    journal_root,
    journal_uids,
    new_uid,
    read_journal,
)
from registry.record.liveness import (
    ProcessIdentity,
    RunStatus,
    journal_status,
    note_death,
    shown_status,
    write_status,
)
from registry.record.observer import JournalObserver
from registry.record.plain import encode, open_event, seal_event
from registry.record.wholeness import (
    journal_faults,
    proven_status,
    read_summary,
    summary_status,
)
from tests.registry.recorded_run import reap

START = datetime(2026, 11, 22, 1, 33, 55, tzinfo=UTC)


def started(owner: ProcessIdentity | None = None) -> dict[str, object]:
    facts = (owner or ProcessIdentity.current()).facts()
    return {
        "event": "started",
        "time": "2026-11-22T01:33:55.000Z",
        "command": "main",
        "experiment": {"name": "x", "base_dir": "/", "sources": []},
        "host": {},
        "config": {"k": 1},
        "meta": {},
        "facts": facts,
    }


def write_journal(folder: Path, *events: dict[str, object]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"time": "2026-11-22T01:34:00.000Z", **event}) for event in events]
    (folder / EVENTS).write_text("".join(f"{line}\n" for line in lines))
    return folder


def gone() -> ProcessIdentity:
    """Identity of a process of this host that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = ProcessIdentity.of(child.pid)
    child.communicate(b"\n")
    return identity


def test_uids_sort_by_start() -> None:
    uid = new_uid(START)
    assert uid.startswith("20261122T013355-")
    assert len(uid) == 24
    assert new_uid(START) != uid
    assert new_uid(START + timedelta(seconds=1)) > uid


def test_nothing_is_an_empty_journal(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "none").status == ""
    assert journal_status(tmp_path / "none") == RunStatus("none", "")
    assert [journal_root(tmp_path) / uid for uid in journal_uids(tmp_path)] == []
    assert reap(tmp_path) == []


def test_torn_and_foreign_lines_are_passed_over(tmp_path: Path) -> None:
    folder = write_journal(tmp_path / "a", started(), {"event": "facts", "facts": {"a": 1}})
    with open(folder / EVENTS, "a") as file:
        file.write('{"event": "from a later version"}\nnonsense\n{"event": "facts", "fa')
    journal = read_journal(folder)
    assert (journal.status, journal.facts["a"], journal.unreadable) == ("RUNNING", 1, 2)
    with open(folder / EVENTS, "a") as file:
        file.write('cts": {"a": 2}}\n')
    assert journal.refresh().facts["a"] == 2
    assert journal.size == (folder / EVENTS).stat().st_size


def test_metrics_can_be_passed_over(tmp_path: Path) -> None:
    metrics = {"name": "metrics", "steps": [0], "values": [1.0], "timestamps": [0]}
    events: list[dict[str, object]] = [
        started(),
        {"event": "metrics", "time": "2026-11-22T01:33:56.000Z", "metrics": [metrics]},
        {"event": "info", "time": "2026-11-22T01:33:56.000Z", "set": {"metrics": 3}, "removed": []},
    ]
    (tmp_path / EVENTS).write_text("".join(json.dumps(event) + "\n" for event in events))
    whole, without = read_journal(tmp_path), read_journal(tmp_path, with_metrics=False)
    assert without.metrics == {}
    assert replace(without, metrics=whole.metrics, with_metrics=True) == whole
    assert without.info == {"metrics": 3}


def test_reading_on_equals_reading_at_once(tmp_path: Path) -> None:
    points = {"name": "m", "steps": [0, 1], "values": [0.5, 1.5], "timestamps": [1, 2]}
    folder = write_journal(
        tmp_path / "a",
        started(),
        {"event": "info", "set": {"a": 1, "b": 2}, "removed": []},
        {"event": "metrics", "metrics": [points]},
        {"event": "heartbeat", "console": 0, "result": 3},
        {"event": "info", "set": {"b": 3}, "removed": ["a"]},
        {"event": "resource", "path": "p", "md5": "1"},
        {"event": "resource", "path": "p", "md5": "1"},
        {"event": "metrics", "metrics": [points]},
        {"event": "completed", "status": "COMPLETED", "console": 0},
    )
    whole = (folder / EVENTS).read_bytes()
    growing = Journal(folder)
    for size in range(0, len(whole) + 50, 50):
        (folder / EVENTS).write_bytes(whole[:size])
        growing.refresh()
    assert growing == read_journal(folder)
    assert growing.info == {"b": 3}
    assert growing.result == 3
    assert growing.resources == [["p", "1"]]
    assert growing.metrics["m"].column("values") == [0.5, 1.5, 0.5, 1.5]


@pytest.mark.slow
def test_series_are_cut_by_what_they_weigh() -> None:
    series = Series()
    for step in range(700_000):
        series.append(step, 0.5, step)
    assert [part.first for part in series.parts] == [0, 300_000, 600_000]
    assert series.count == 700_000
    texts = Series()
    for step in range(400):
        texts.append(step, "x" * 1_000_000, step)
    assert all(len(value) < 11_000 for value in texts.column("values"))
    assert 2 <= len(texts.parts) <= 6
    assert [part.first for part in texts.parts[1:]] == [
        part.first + part.count for part in texts.parts[:-1]
    ]


def test_released_points_are_not_given_again() -> None:
    series = Series()
    for step in range(10):
        series.append(step, step / 2, step)
    part = series.parts[0]
    part.release(4)
    assert part.count == series.count == 10
    assert part.since(6)["steps"] == [6, 7, 8, 9]
    with pytest.raises(ReleasedError, match="released"):
        part.since(3)


def test_console_is_complete_at_both_ends(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    text = "début\n" + "é" * 300_000 + "\nfin"
    (tmp_path / "console").write_text(text)
    journal.console_length = len(text)
    shown = journal.console()
    assert shown.startswith("début")
    assert shown.endswith("fin")
    assert f"{len(text) - 100_000} characters left out" in shown
    assert len(shown) < 100_200
    (tmp_path / "console").write_text(text[:1000])
    journal.console_length = 1000
    assert journal.console() == text[:1000]


def test_process_identities() -> None:
    own = ProcessIdentity.current()
    assert own.state() == "alive"
    assert ProcessIdentity.from_facts(own.facts()) == own
    assert ProcessIdentity.from_facts({"pid": 1}) is None
    assert replace(own, create_time=own.create_time - 1).state() == "gone"  # its number was reused
    assert replace(own, boot="another").state() == "elsewhere"  # of a machine of the same name
    assert replace(own, host="another").state() == "elsewhere"
    assert replace(own, pid_namespace="pid:[1]").state() == "elsewhere"
    assert replace(own, pid_namespace="").state() == "alive"  # records so far do not say
    assert gone().state() == "gone"


def test_zombies_are_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = ProcessIdentity.of(child.pid)
    assert identity.state() == "alive"
    os.kill(child.pid, signal.SIGKILL)
    for _ in range(500):
        if identity.state() == "gone":
            break
        time.sleep(0.01)
    assert identity.state() == "gone"  # though nobody has waited for it
    child.communicate()


def test_portable_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on Linux it counts from 1970."""
    since_boot = process.create_time(os.getpid())
    monkeypatch.setattr(psutil, "LINUX", False)
    since_1970 = process.create_time(os.getpid())
    assert since_boot is not None
    assert since_1970 == pytest.approx(since_boot + psutil.boot_time(), abs=1.0)
    assert ProcessIdentity.current().state() == "alive"
    assert process.create_time(2**22 + 1) is None


def test_identity_is_that_of_the_kernel() -> None:
    """Records so far hold what /proc says: seconds since the boot, by the clock's ticks."""
    fields = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    assert process.create_time(os.getpid()) == pytest.approx(ticks, abs=1e-6)


@pytest.mark.parametrize("summary", [True, False])
def test_status_of_a_run_that_died(tmp_path: Path, summary: bool) -> None:
    folder = write_journal(tmp_path / "a", started(gone()))
    if summary:
        write_status(folder, RunStatus("a", "RUNNING", START, process=gone()))
    assert journal_status(folder).status == "DIED"
    assert read_journal(folder).status == "RUNNING"  # nobody has noted it


def test_summary_that_came_too_late(tmp_path: Path) -> None:
    """Killed between the last event and the summary: the journal is right."""
    end = {"event": "completed", "status": "COMPLETED", "console": 0}
    folder = write_journal(tmp_path / "a", started(gone()), end)
    write_status(folder, RunStatus("a", "RUNNING", START, process=gone()))
    assert journal_status(folder).status == "COMPLETED"
    assert not note_death(folder)


@pytest.mark.parametrize(("kept", "status"), [(2, "COMPLETED"), (1, "FAILED")])
def test_killed_after_it_had_published(tmp_path: Path, kept: int, status: str) -> None:
    """It went well, unless its journal lacks points that it had logged."""
    output = tmp_path / "artifacts" / "run"
    output.mkdir(parents=True)
    manifest = {"format": 1, "run": "a", "stopped": "2026-11-22T01:34:10Z"}
    (output / "manifest.json").write_text(json.dumps(manifest))
    points = {"name": "loss", "steps": [0, 1], "values": [2.0, 1.0], "timestamps": [0, 1]}
    metrics = {
        "event": "metrics",
        "metrics": [points | {k: points[k][:kept] for k in list(points)[1:]}],
    }
    facts = {"output": {"path": "artifacts/run"}}
    announced = {"event": "facts", "facts": facts, "logged": 2, "result": {"score": 0.5}}
    folder = write_journal(journal_root(tmp_path) / "a", started(gone()), metrics, announced)
    assert journal_status(folder).status == status
    assert note_death(folder)
    journal = read_journal(folder)
    assert journal.status == journal_status(folder).status == status
    assert journal.result == {"score": 0.5}
    assert (journal.fail_trace is None) == (status == "COMPLETED")
    (output / "manifest.json").unlink()
    other = write_journal(journal_root(tmp_path) / "b", started(gone()), metrics, announced)
    assert journal_status(other).status == "DIED", "it had not published"


@pytest.mark.parametrize("where", ["host", "boot", "pid_namespace"])
def test_runs_elsewhere_go_by_their_heartbeat(tmp_path: Path, where: str) -> None:
    """On another host, another machine of this one's name, in another container."""
    own = ProcessIdentity.current()
    folder = write_journal(tmp_path / "a", started(replace(own, **{where: "another"})))
    now = datetime.now(UTC)
    assert journal_status(folder, now + timedelta(seconds=30)).status == "RUNNING"
    assert journal_status(folder, now + timedelta(seconds=90)).status == "DIED"
    assert not note_death(folder)
    os.utime(folder / EVENTS, (0, 0))
    assert note_death(folder) == (where != "host")  # which is for its own host to tell
    assert read_journal(folder).status == ("RUNNING" if where == "host" else "DIED")


def test_one_event_however_many_reap(tmp_path: Path) -> None:
    owner = gone()
    for number in range(20):
        write_journal(journal_root(tmp_path) / f"run{number:02}", started(owner))
    alive = write_journal(journal_root(tmp_path) / "alive", started())
    with open(journal_root(tmp_path) / "run00" / EVENTS, "a") as file:
        file.write('{"torn')
    with ThreadPoolExecutor(4) as pool:
        noted = [uid for uids in pool.map(reap, [tmp_path] * 4) for uid in uids]
    assert sorted(noted) == [f"run{number:02}" for number in range(20)]
    for uid in noted:
        journal = read_journal(journal_root(tmp_path) / uid)
        assert (journal.status, journal.stop_time) == ("DIED", START)
        assert (journal.folder / EVENTS).read_text().count('"died"') == 1
        assert journal_status(journal.folder).status == "DIED"
    assert read_journal(alive).status == "RUNNING"


def numbered(folder: Path, *events: dict[str, object]) -> list[bytes]:
    """Write events as a run does, and return the lines."""
    lines = [
        seal_event(encode({"time": "2026-11-22T01:34:00.000Z", **event}).encode(), n) + b"\n"
        for n, event in enumerate(events)
    ]
    folder.mkdir(parents=True)
    (folder / EVENTS).write_bytes(b"".join(lines))
    return lines


def test_a_note_of_death_proves_what_there_was(tmp_path: Path) -> None:
    """Every line and the console, to the last one before it."""
    folder = journal_root(tmp_path) / "a"
    facts: dict[str, object] = {"event": "facts", "facts": {"a": 1}}
    lines = numbered(folder, started(gone()), {"event": "heartbeat", "console": 7}, facts)
    (folder / CONSOLE).write_text("printed")
    assert note_death(folder)
    whole = (folder / EVENTS).read_bytes()
    journal = read_journal(folder)
    assert (journal.status, journal.is_proven, journal_faults(journal)) == ("DIED", True, ())
    for number, line in enumerate(lines):
        (folder / EVENTS).write_bytes(whole.replace(line, b""))
        assert journal_faults(read_journal(folder)) == ("1 line is missing",), number
        (folder / EVENTS).write_bytes(whole.replace(line, line[:9] + b"#" + line[10:]))
        assert journal_faults(read_journal(folder)) == ("1 line cannot be read",), number
        (folder / EVENTS).write_bytes(whole.replace(line, line + line))
        assert number == 0 or journal_faults(read_journal(folder)) == ("1 line cannot be read",)
    (folder / EVENTS).write_bytes(whole)
    (folder / CONSOLE).write_text("planted")
    assert journal_faults(read_journal(folder)) == ("its console is not what was printed",)


def observed(folder: Path, value: float) -> Path:
    """Write a journal as a run does, of one that went well."""
    observer = JournalObserver(folder)
    told: dict[str, Any] = {"command": "main", "host_info": {}, "config": {}, "meta_info": {}}
    info = {"name": "x", "base_dir": str(folder), "sources": []}
    observer.started_event(ex_info=info, start_time=datetime.utcnow(), _id=None, **told)
    points = {"steps": [0], "values": [value], "timestamps": [datetime.utcnow()]}
    observer.log_metrics({"loss": points}, {})
    observer.completed_event(datetime.utcnow(), {"loss": value})
    return folder


def test_a_line_of_another_run_is_not_believed(tmp_path: Path) -> None:
    """Nor all of them; those of a former version have checksums that do not say whose they are."""
    mine, other = observed(tmp_path / "mine", 1.0), observed(tmp_path / "other", 2.0)
    lines, theirs = (
        (folder / EVENTS).read_bytes().splitlines(keepends=True) for folder in (mine, other)
    )
    for number in range(len(lines)):
        mixed = [*lines[:number], theirs[number], *lines[number + 1 :]]
        (mine / EVENTS).write_bytes(b"".join(mixed))
        journal = read_journal(mine)
        assert journal_faults(journal)
        assert journal.result in (None, {"loss": 1.0})
        assert all(series.column("values") == [1.0] for series in journal.metrics.values())
    (mine / EVENTS).write_bytes(b"".join(theirs))
    journal = read_journal(mine)
    assert (journal.unreadable, journal.status, journal.metrics) == (len(theirs), "", {})
    former = [seal_event(open_event(line, "other")[0]) + b"\n" for line in theirs]
    (mine / EVENTS).write_bytes(b"".join(former))
    journal = read_journal(mine)
    assert (journal.status, journal.metrics) == ("", {})
    assert "it has the beginning of run other" in journal_faults(journal)
    (mine / EVENTS).write_bytes(b"".join([*lines[:2], former[1], lines[2]]))
    assert read_journal(mine).metrics["loss"].column("values") == [1.0]
    (other / EVENTS).write_bytes(b"".join(former))
    assert read_journal(other).status == "COMPLETED"
    assert journal_faults(read_journal(other)) == ()


def test_a_beginning_after_the_end_sets_nothing_running(tmp_path: Path) -> None:
    folder = observed(tmp_path / "a", 1.0)
    lines = (folder / EVENTS).read_bytes().splitlines(keepends=True)
    for mixed in ([lines[-1], *lines[:-1]], [*lines, lines[0]]):
        (folder / EVENTS).write_bytes(b"".join(mixed))
        journal = read_journal(folder)
        assert journal.status == "COMPLETED"
        assert not journal.is_proven
        assert journal_faults(journal)


@pytest.mark.parametrize("status", ["FAILED", "COMPLETEE", "QUEUED", "RUNNING", "", 5, ["a"]])
def test_a_summary_that_was_changed_is_not_believed(tmp_path: Path, status: object) -> None:
    folder = observed(tmp_path / "a", 1.0)
    said = json.loads((folder / STATUS_FILE).read_text())
    (folder / STATUS_FILE).write_text(json.dumps({**said, "status": status}))
    assert (read_summary(folder), summary_status(folder)) == (None, "")
    assert journal_status(folder).status == "COMPLETED"
    former = {name: said[name] for name in ("status", "start_time", "stop_time", "process")}
    (folder / STATUS_FILE).write_text(json.dumps(former))
    assert summary_status(folder) == "COMPLETED", "by a former version"
    assert proven_status(folder) == ""
    (folder / STATUS_FILE).write_text(json.dumps({**former, "crc33": said["crc32"]}))
    assert summary_status(folder) == ""


def test_the_summary_of_another_run_is_not_believed(tmp_path: Path) -> None:
    mine, other = observed(tmp_path / "mine", 1.0), observed(tmp_path / "other", 2.0)
    (mine / STATUS_FILE).write_bytes((other / STATUS_FILE).read_bytes())
    assert summary_status(mine) == ""
    assert summary_status(other) == "COMPLETED"


def test_points_that_are_passed_over_are_checked_too(tmp_path: Path) -> None:
    point = {"name": "m", "steps": [0], "values": [0.5], "timestamps": [1]}
    points: dict[str, object] = {"event": "metrics", "metrics": [point]}
    lines = numbered(tmp_path / "a", started(), points, points, {"event": "facts", "facts": {}})
    lines[1:3] = [lines[1].replace(b"0.5", b"0.7")]
    (tmp_path / "a" / EVENTS).write_bytes(b"".join(lines))
    for with_metrics in (True, False):
        journal = read_journal(tmp_path / "a", with_metrics=with_metrics)
        assert (journal.unreadable, journal.missing) == (1, 1)
        assert journal.metrics == {}


def test_a_run_that_was_stored_with_its_end_has_not_died(tmp_path: Path) -> None:
    folder = write_journal(journal_root(tmp_path) / "a", started(gone()))
    (folder / PROJECTED).write_text('{"a database": {"bytes": 5000, "run": 1}}')
    assert not note_death(folder)
    assert journal_faults(read_journal(folder)) == ("its end is missing",)


def test_a_run_that_lives_after_all_has_the_last_word(tmp_path: Path) -> None:
    died = {"event": "died", "status": "DIED"}
    end = {"event": "completed", "status": "COMPLETED", "console": 0}
    assert read_journal(write_journal(tmp_path / "a", started(), died, end)).status == "COMPLETED"
    assert read_journal(write_journal(tmp_path / "b", started(), end, died)).status == "COMPLETED"


def test_shown_status(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    sacred = {"status": "RUNNING", "heartbeat": now - timedelta(seconds=20), "info": {}}
    assert shown_status(sacred, now) == "RUNNING"
    assert shown_status(sacred, now + timedelta(seconds=60)) == "DIED"
    own = {"status": "RUNNING", "info": {"factbook": ProcessIdentity.current().facts()}}
    assert shown_status(own, now + timedelta(days=1)) == "RUNNING"
    dead = {"status": "RUNNING", "info": {"factbook": {"uid": "a", **gone().facts()}}}
    assert shown_status(dead, now) == "DIED"
    assert shown_status({**dead, "status": "FAILED"}, now) == "FAILED"
    end = {"event": "completed", "status": "COMPLETED", "console": 0}
    write_journal(tmp_path / "a", started(gone()), end)
    assert shown_status(dead, now, journals=tmp_path) == "COMPLETED"


@pytest.mark.slow
def test_statuses_of_ten_thousand_runs_are_quick(tmp_path: Path) -> None:
    status = RunStatus("x", "COMPLETED", START, START, ProcessIdentity.current())
    for number in range(100):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        write_status(folder, status)
    began = time.perf_counter()
    assert all(journal_status(tmp_path / f"{n % 100}").ended for n in range(10_000))
    assert time.perf_counter() - began < 5  # 0.6 s on a quiet machine
