"""The append-only file keeps whole lines, and its last words on a full disk."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from registry.record.appendfile import BALLAST, BALLAST_FILE, AppendFile, ConsoleFile
from registry.record.wholeness import file_crc32

ROOT = Path(__file__).parents[3]


def test_lines_are_appended_at_once(tmp_path: Path) -> None:
    file = AppendFile(tmp_path / "deep" / "events")
    assert file.append("one")
    assert (tmp_path / "deep/events").read_text() == "one\n"
    assert (tmp_path / "deep" / BALLAST_FILE).stat().st_blocks * 512 >= BALLAST
    file.close()
    assert not (tmp_path / "deep" / BALLAST_FILE).exists()
    assert not file.append("late")  # and does not raise
    assert (tmp_path / "deep/events").read_text() == "one\n"


def test_half_a_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = AppendFile(tmp_path / "events")
    file.append("first")
    write, room = os.write, [3]

    def limited(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "full")
        written = write(descriptor, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", limited)
    assert not file.append("second")
    assert (tmp_path / "events").read_text() == "first\n"
    room[0] = 1000
    assert file.append("third")
    assert (tmp_path / "events").read_text() == "first\nsecond\nthird\n"


def test_forked_child_writes_nothing(tmp_path: Path) -> None:
    file = AppendFile(tmp_path / "events")
    child = os.fork()
    if child == 0:
        file.append("from the child", urgent=True)
        file.finish(lambda lost: "the end")
        file.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert file.append("from the parent")
    assert (tmp_path / "events").read_text() == "from the parent\n"
    assert (tmp_path / BALLAST_FILE).exists()


def test_what_is_small_comes_before_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = AppendFile(tmp_path / "events")
    with monkeypatch.context() as full:
        full.setattr(os, "write", _refuse)
        assert not file.append("points", points=3)
        assert not file.append("more points", points=4)
        assert not file.append("event")
    lost = file.finish(lambda lost: f"end, {lost or 'nothing'} lost")
    lines = ["event", "points", "more points", "end, nothing lost"]
    assert (tmp_path / "events").read_text().splitlines() == lines
    assert not lost


def test_what_is_lost_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = AppendFile(tmp_path / "events")
    with monkeypatch.context() as full:
        full.setattr(os, "write", _refuse)
        file.append("points", points=3)
        file.append("event")
        lost = file.finish(lambda lost: "end")
    assert (lost.events, lost.points) == (2, 3)  # the end is an event
    assert str(lost) == "3 logged points, 2 other events"
    assert not (tmp_path / BALLAST_FILE).exists()


def test_memory_for_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = AppendFile(tmp_path / "events")
    with monkeypatch.context() as full:
        full.setattr(os, "write", _refuse)
        file.append("event")
        for _ in range(20):
            file.append("x" * 1024 * 1024, points=5)
    lost = file.finish(lambda lost: f"{lost.points}")
    lines = (tmp_path / "events").read_text().splitlines()
    assert lines[0] == "event"
    assert int(lines[-1]) == lost.points == 5 * (20 - (len(lines) - 2)) > 0


def _refuse(descriptor: int, data: bytes) -> int:
    raise OSError(errno.ENOSPC, "full")


FULL_DISK = """
import json, pathlib, sys
sys.path.insert(0, sys.argv[2])
from datetime import datetime
from registry.record.journal import read_journal
from registry.record.observer import JournalError, JournalObserver
from registry.record.liveness import journal_status

disk = pathlib.Path(sys.argv[1])
observer = JournalObserver(disk / ".factbook/journal/full")
told = dict(command="main", host_info={}, config={}, meta_info={}, _id=None)
ex_info = {"name": "x", "base_dir": str(disk), "sources": []}

def fill():
    with open(disk / "filler", "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass

if sys.argv[3] == "failed":  # before the run could say that it begins
    fill()
observer.started_event(ex_info=ex_info, start_time=datetime.utcnow(), **told)
begun = read_journal(observer.folder).status
if sys.argv[3] == "completed":
    observer.heartbeat_event({}, "once\\n99 %", datetime.utcnow(), None)
    fill()
    observer.heartbeat_event({}, "once\\n" + "100 % " * 10_000, datetime.utcnow(), None)
console = (observer.folder / "console").read_text() if sys.argv[3] == "completed" else ""
points = {"steps": list(range(500)), "values": [0.5] * 500, "timestamps": [datetime.utcnow()] * 500}
for beat in range(40):
    observer.log_metrics({"loss": points}, {})
    observer.heartbeat_event({}, "x" * 1000 * beat, datetime.utcnow(), None)
during = read_journal(observer.folder)
if sys.argv[3] == "failed":
    observer.failed_event(datetime.utcnow(), ["Traceback", "é" * 80_000, "OSError: disk full"])
else:
    observer.set_facts(output={"path": "somewhere"})
    observer.completed_event(datetime.utcnow(), {"accuracy": 0.5})
after = read_journal(observer.folder)
try:
    JournalObserver(disk / ".factbook/journal/next")
    refused = ""
except JournalError as error:
    refused = str(error)
print(json.dumps({
    "begun": begun, "console": console,
    "during": during.metrics["loss"].count if "loss" in during.metrics else 0,
    "status": after.status, "trace": after.fail_trace, "unreadable": after.unreadable,
    "points": after.metrics["loss"].count, "quick": journal_status(observer.folder).status,
    "refused": refused, "result": after.result, "output": after.facts.get("output"),
    "lost": after.facts.get("lost"), "known": observer.lost.points,
}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["failed", "completed"])
def test_failure_is_told_on_a_full_disk(tmp_path: Path, ending: str) -> None:
    """On a real small file system, filled up by others: the end is there, and why."""
    mount = f'mount -t tmpfs -o size=1m tmpfs {tmp_path} && exec "$@"'
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh"]
    if not shutil.which("unshare") or subprocess.run([*command, "true"]).returncode:
        pytest.skip("no file system can be mounted here")
    program = [sys.executable, "-c", FULL_DISK, str(tmp_path), str(ROOT), ending]
    done = subprocess.run([*command, *program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["during"] < 40 * 500  # the disk was full indeed
    assert told["begun"] == "RUNNING"
    whole = "once\n" + "100 % " * 10_000  # of which the beginning fits
    assert whole.startswith(told["console"])
    assert (len(told["console"]) > len("once\n99 %")) == (ending == "completed")
    assert told["status"] == told["quick"] == "FAILED"
    assert told["unreadable"] == 0
    assert told["known"] == told["lost"]["points"] == 40 * 500 - told["points"] > 0
    if ending == "failed":
        assert told["trace"][0].endswith("OSError: disk full")
    else:
        assert f"{told['known']:,} logged points" in told["trace"][0]
        assert told["result"] == {"accuracy": 0.5}
        assert told["output"] == {"path": "somewhere"}
    assert told["points"] >= told["during"]
    assert "No space left" in told["refused"]


def test_a_console_keeps_what_fits_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not is counted, and follows when there is room; nothing is cut within a letter."""
    console, room, pwrite = ConsoleFile(tmp_path / "console"), 8, os.pwrite

    def full(file: int, data: bytes, start: int) -> int:
        if start >= room:
            raise OSError(errno.ENOSPC, "full")
        return pwrite(file, data[: room - start], start)

    monkeypatch.setattr(os, "pwrite", full)
    for text, kept in (("ä" * 3, "ä" * 3), ("äääxäöü", "äääx"), ("äääxäöü\n12", "äääx")):
        console.update(text)
        assert (tmp_path / "console").read_text() == kept
        assert (console.length, console.missing) == (len(kept), len(text) - len(kept))
        assert console.crc32 == file_crc32(tmp_path / "console")
    console.update("rewritten")
    assert (tmp_path / "console").read_text() == "rewritte"
    room = 100
    console.update("rewritten\n12")
    assert (tmp_path / "console").read_text() == "rewritten\n12"
    assert console.missing == 0
