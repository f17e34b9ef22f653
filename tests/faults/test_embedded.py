"""The embedded server: moved while it runs, killed while it starts, and asked by strangers."""

from __future__ import annotations

import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import registry
from registry.mongo import server
from registry.mongo.users import ServerError
from tests.faults.children import Fault
from tests.faults.conftest import DECLARATION, Site
from tests.registry.lab.project import write_project
from tests.registry.mongo.embedded import is_closed, start_as_before

EMBEDDED: dict[str, str | None] = {"FACTBOOK_MONGO": None}
STRANGER = 65534  # nobody


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A project without a state folder, whose database is the embedded one."""
    monkeypatch.delenv("FACTBOOK_MONGO", raising=False)
    root = write_project(tmp_path / "project", DECLARATION)
    yield Site(root)
    server.stop(root)


@pytest.fixture
def served(own_server: Path) -> Site:
    """A project in a folder of its own whose server has run before."""
    root = write_project(own_server / "project", DECLARATION)
    (own_server / ".factbook").rename(root / ".factbook")
    return Site(root)


def typed(site: Site, *words: str, status: int = 0) -> str:
    child = site.start("factbook", *words, environment=EMBEDDED)
    assert child.wait() == status, child.printed
    return child.printed


def servers_of(root: Path) -> list[psutil.Process]:
    """Return the server processes that work in a project's folder, wherever that is by now."""
    found = []
    for process in psutil.process_iter(["name"]):
        try:
            if process.cwd() == str(root / ".factbook" / "mongo"):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("is_old", [False, True], ids=["", "started by an older version"])
def test_a_project_moved_while_its_server_runs(
    served: Site, chance: random.Random, trial: int, is_old: bool
) -> None:
    root, names = served.root, ["twice", "mean", "parts", "training"]
    chance.shuffle(names)
    if is_old:
        start_as_before(root)
    else:
        typed(served, "run", *(done := names[:1]), "--here")
    told = ""
    try:
        for number, name in enumerate(names[0 if is_old else 1 :][:2]):
            moved = Site(root.rename(root.with_name(f"moved-{number}")), served._numbers)
            root = moved.root
            told += typed(moved, "runs") + typed(moved, "run", name, "--here")
            assert typed(moved, "sync").startswith("0 journals brought to ")
            assert len(servers_of(root)) == 1
        assert told.count("restarted the embedded database") == int(is_old)
        assert "error" not in told
        with registry.open_catalog(root) as catalog:
            assert catalog.database is not None, catalog.trouble
            recorded = {view.cell: view.status for view in catalog.runs() if view.cell}
        wanted = {*names[:2]} if is_old else {*done, *names[1:3]}
        assert recorded.keys() >= wanted
        assert set(recorded.values()) == {"COMPLETED"}
    finally:
        server.stop(root)


def test_a_starter_killed_at_any_moment(bare: Site, chance: random.Random, trial: int) -> None:
    """Whatever it left, the next one finds or ends it; and strangers are never let in."""
    for _ in range(2):
        child = bare.start("factbook", "mongo", "start", environment=EMBEDDED)
        time.sleep(chance.uniform(0, 2.5))
        if not child.has_ended:
            assert child.process.pid is not None
            os.kill(child.process.pid, signal.SIGKILL)
        child.wait()
    typed(bare, "mongo", "start")
    found = server.find(bare.root)
    assert found is not None
    assert is_closed(found)
    assert [process.pid for process in servers_of(bare.root)] == [found.process.pid]
    typed(bare, "run", "twice", "--here")
    with registry.open_catalog(bare.root) as catalog:
        assert catalog.database is not None, catalog.trouble
        assert [view.status for view in catalog.runs()] == ["COMPLETED"]


@pytest.mark.parametrize("number", [1, 2], ids=["the first process", "the second"])
def test_a_starter_killed_before_it_notes_a_process(bare: Site, number: int) -> None:
    """The next one ends that process, which is still loading and has no data open yet."""
    fault = Fault("os.rename", ".factbook/mongo/server.json", number)
    killed = bare.start("factbook", "mongo", "start", environment=EMBEDDED, fault=fault)
    assert killed.was_killed, killed.printed
    assert len(servers_of(bare.root)) == 1
    typed(bare, "mongo", "start")
    found = server.find(bare.root)
    assert found is not None
    assert [process.pid for process in servers_of(bare.root)] == [found.process.pid]


def noted(path: Path, how: str) -> bytes:
    """Return what a note of a server says after something happened to it."""
    facts = json.loads(path.read_text())
    changed = {
        "another process": {"pid": facts["pid"] + (1 << 23)},
        "another start": {"create_time": facts["create_time"] - 100},
        "no process": {"pid": None},
        "stopped": {"stopped": True},
    }
    if how == "cut short":
        return path.read_bytes()[:20]
    return json.dumps({**facts, **changed.get(how, {})}).encode()


NOTES = ("lost", "cut short", "another process", "another start", "no process", "stopped")


def test_a_server_whose_note_is_lost_is_found(
    served: Site, chance: random.Random, trial: int
) -> None:
    """Else a second one would be started, which finds the data locked."""
    typed(served, "mongo", "start")
    first, note = server.find(served.root), served.root / ".factbook/mongo/server.json"
    assert first is not None
    try:
        for how, words in zip(
            chance.sample(NOTES, 3),
            (("runs",), ("run", "twice", "--here"), ("mongo", "stop")),
            strict=True,
        ):
            if how == "lost":
                note.unlink()
            else:
                note.write_bytes(noted(note, how))
            told = typed(served, *words)
            assert "did not start" not in told, how
            if words[0] != "mongo":
                assert server.find(served.root) == first, how
        assert not servers_of(served.root)
    finally:
        server.stop(served.root)


def damage(folder: Path, chance: random.Random) -> str:
    """Damage one file of an embedded server's data, and return how."""
    file = chance.choice(sorted(path for path in folder.iterdir() if path.stat().st_size))
    return damage_file(file, chance.choice(("removed", "emptied", "cut", "overwritten")), chance)


def damage_file(file: Path, how: str, chance: random.Random) -> str:
    size = file.stat().st_size
    if how == "removed":
        file.unlink()
    elif how == "overwritten":
        begin = chance.randrange(size)
        with file.open("r+b") as opened:
            opened.seek(begin)
            opened.write(chance.randbytes(min(size - begin, 40_000)))
    else:
        os.truncate(file, 0 if how == "emptied" else size // 2)
    return f"{file.name} {how}"


def test_damaged_data_lose_no_run(served: Site, chance: random.Random, trial: int) -> None:
    """The journals have all of them: a command that cannot use the data says what brings them."""
    typed(served, "run", "twice", "--here")
    typed(served, "mongo", "stop")
    data = served.root / ".factbook/mongo/data"
    if trial == 0:  # the engine begins anew without it, and knows no user
        how = damage_file(data / "WiredTiger.turtle", "removed", chance)
    else:
        how = damage(data, chance)
    try:
        told = served.start("factbook", "runs", environment=EMBEDDED)
        if told.wait() or "did not start" in told.printed:
            assert "factbook doctor" in told.printed, how
        assert "Traceback" not in told.printed, how
        served.start("factbook", "doctor", "--repair", environment=EMBEDDED).wait()
        assert typed(served, "doctor") == "all is well\n", how
        with registry.open_catalog(served.root) as catalog:
            assert catalog.database is not None, (how, catalog.trouble)
            found = {view.cell: view.status for view in catalog.runs()}
        assert found == {"twice": "COMPLETED"}, how
    finally:
        server.stop(served.root)


def as_a_stranger(attempt: Callable[[], Any]) -> bool:
    """Do something in a process of another user; return whether it was allowed."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(STRANGER)
            os.setuid(STRANGER)
            attempt()
        except (PermissionError, ServerError):
            os._exit(1)
        except BaseException:
            os._exit(2)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 1)
    return status == 0


@pytest.fixture
def public() -> Iterator[Site]:
    """A project in a folder that every user may read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        root = write_project(Path(folder) / "project", DECLARATION)
        yield Site(root)
        server.stop(root)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("words", [("run", "twice", "--here"), ("mongo", "start")], ids=" ".join)
def test_another_user_reads_and_writes_nothing(
    public: Site, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.delenv("FACTBOOK_MONGO", raising=False)
    typed(public, *words)
    state = public.root / ".factbook"
    assert as_a_stranger((public.root / "experiments.toml").read_text)
    for attempt in (
        lambda: os.listdir(state),
        (state / "mongo" / "user.json").read_text,
        lambda: (state / "mongo" / "planted").write_text(""),
        lambda: server.start(public.root),
    ):
        assert not as_a_stranger(attempt)
    state.chmod(0o755)  # as where a group shares the journals
    assert as_a_stranger(lambda: os.listdir(state))
    assert not as_a_stranger(lambda: os.listdir(state / "mongo"))
