"""Child processes that meet a fault at a chosen call of the file system.

A child is forked from a server that has loaded everything, so that it costs a tenth of a second.
In it, every call that changes a file below the project's folder is counted: those that Python
audits (open to write, rename, remove, mkdir, symlink, link, truncate) and ``os.write``,
``os.pwrite`` and ``os.fsync``.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import re
import runpy
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

from registry.interrupts import STOPPING

OFF: dict[str, str | None] = {"FACTBOOK_MONGO": "off"}
PRELOAD = "tests.faults.warm"

_NAMES = (
    (re.compile(r"\d{8}T\d{6}-[0-9a-f]{8}"), "RUN"),
    (re.compile(r"\.\d+-[0-9a-f]{8}(?=\.tmp)"), ""),
    (re.compile(r"(?<=\.current)-[0-9a-f]+"), ""),
    (re.compile(r"(?<=discarded)-[0-9a-f]+"), ""),
    (re.compile(r"[0-9a-f]{16,}"), "HASH"),
    (re.compile(r"part-\d{6}"), "part-N"),
)


@dataclass(frozen=True)
class Fault:
    """A moment, and what happens then.

    Attributes
    ----------
    call, path : str
        Only calls of this name, on paths of this kind, are counted; "" means any.
    number : int
        The call that it is about, from 1; 0 means every one.
    torn : bool
        Whether the call is a write of which half is done first.
    seconds : float or None
        Wait so long before the call goes on; None means the process is sent the signal.
    until : Path or None
        The wait ends earlier when this file is there.
    signal : int
        By default the process is killed.
    """

    call: str = ""
    path: str = ""
    number: int = 1
    torn: bool = False
    seconds: float | None = None
    until: Path | None = None
    signal: int = signal.SIGKILL

    def __str__(self) -> str:
        what = f"{self.call or 'any call'} {self.path}".strip()
        return f"{what}, number {self.number}{', torn' if self.torn else ''}"


@dataclass(frozen=True)
class Command:
    """What a child does, and what it meets.

    Attributes
    ----------
    root : Path
        The project's folder, where it works.
    words : tuple of str
        ``("factbook", "run", …)``, or ``("tests.registry.lab.collect", "with", …)`` for a stage
        as a module.
    fault : Fault or None
        What happens to it.
    log, trace : Path
        For what it prints; for the calls that it makes, one a line.
    environment : mapping of str to str or None
        By default without a database; None unsets a variable.
    """

    root: Path
    words: tuple[str, ...]
    fault: Fault | None
    log: Path
    trace: Path
    environment: Mapping[str, str | None] = field(default_factory=lambda: OFF)


@dataclass(frozen=True)
class Call:
    """One call of the file system that changes something: its name, and the kind of its path."""

    name: str
    path: str


class Child:
    """A process that has been started.

    Attributes
    ----------
    command : Command
        What it does.
    process : process
        Of :mod:`multiprocessing`.
    """

    def __init__(self, command: Command, barrier: Any = None):
        self.command = command
        with warm_context() as context:
            self.process: BaseProcess = context.Process(target=_work, args=(command, barrier))
            self.process.start()

    def wait(self, seconds: float = 120.0) -> int:
        """Return its exit status, negative for a signal; kill it if it does not end.

        What its threads were at is printed then.
        """
        self.process.join(seconds)
        if self.process.exitcode is None and self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGUSR1)
            self.process.join(2)
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"{self.command.words} did not end:\n{self.printed}")
        return self.process.exitcode

    @property
    def has_ended(self) -> bool:
        """Whether it runs no longer."""
        return self.process.exitcode is not None

    @property
    def printed(self) -> str:
        """All that it has printed so far."""
        log = self.command.log
        return log.read_text(errors="replace") if log.exists() else ""

    @property
    def calls(self) -> list[Call]:
        """The calls that it has made, the one at which it was killed included."""
        trace = self.command.trace
        text = trace.read_text() if trace.exists() else ""
        whole = text[: text.rfind("\n") + 1].splitlines()  # one may be half written
        return [Call(*line.split(" ", 1)) for line in whole]

    @property
    def was_killed(self) -> bool:
        """Whether it ended by SIGKILL."""
        return self.wait() == -signal.SIGKILL


def barrier(children: int) -> Any:
    """Return what holds children back until all of them are there."""
    return multiprocessing.get_context("forkserver").Barrier(children)


@contextmanager
def warm_context() -> Iterator[Any]:
    """Start processes from a server that has loaded everything, and not what runs the tests.

    One that was started for workers, by a suite in this process, has loaded their stages instead.
    """
    server: Any = forkserver._forkserver
    context = multiprocessing.get_context("forkserver")
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        if server._forkserver_pid not in (None, *_WARM):
            server._stop()
        context.set_forkserver_preload([PRELOAD])
        server.ensure_running()
        _WARM.add(server._forkserver_pid)
        yield context
    finally:
        sys.modules["__main__"] = main


_WARM: set[int] = set()


def _work(command: Command, barrier: Any) -> None:
    """Be a child."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)  # as a server of workers has them
    for name, value in command.environment.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    os.chdir(command.root)
    sys.path.insert(0, str(command.root))  # as `python -m` has it
    log = os.open(command.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.register(signal.SIGUSR1)
    if barrier is not None:
        barrier.wait()
    _Watch(command)
    program, *words = command.words
    if program == "factbook":
        from registry.cli import main

        main(words, prog_name="factbook")
    sys.argv = [program, *words]
    runpy.run_module(program, run_name="__main__", alter_sys=True)


class _Watch:
    """Writes down the calls of this process from now on, and causes the fault."""

    def __init__(self, command: Command):
        self.root = f"{command.root.resolve()}/"
        self.fault = command.fault
        self.counted = 0
        self._trace = os.open(command.trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._write = os.write
        self._lock = threading.RLock()  # what Python frees meanwhile may write too
        sys.addaudithook(self._audit)
        for name in ("write", "pwrite", "fsync"):
            setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self._meet("open", path)
        elif event in ("os.rename", "os.symlink", "os.link"):
            self._meet(event, arguments[1])
        elif event in ("os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
            self._meet(event, arguments[0])

    def _wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(descriptor: int, *arguments: Any) -> Any:
            def half() -> None:
                if arguments:  # fsync has none, and nothing to do by half
                    data = memoryview(arguments[0]).cast("B")
                    function(descriptor, data[: len(data) // 2], *arguments[1:])

            self._meet(f"os.{name}", descriptor, half)
            return function(descriptor, *arguments)

        return call

    def _meet(self, name: str, path: Any, half: Callable[[], None] = lambda: None) -> None:
        place = self._place(path)
        if place is None:
            return
        with self._lock:
            self._write(self._trace, f"{name} {place}\n".encode())
            fault = self.fault
            if fault is None or fault.call not in ("", name) or fault.path not in ("", place):
                return
            self.counted += 1
            if fault.number not in (0, self.counted):
                return
        if fault.seconds is not None:
            end = time.monotonic() + fault.seconds
            while not (fault.until and fault.until.exists()) and time.monotonic() < end:
                time.sleep(min(0.02, fault.seconds))
            return
        if fault.torn:
            half()
        os.kill(os.getpid(), fault.signal)

    def _place(self, path: Any) -> str | None:
        """Return the kind of a path below the project's folder, None for any other path."""
        if isinstance(path, int):
            try:
                path = os.readlink(f"/proc/self/fd/{path}")
            except OSError:
                return None
        place = os.path.abspath(os.fsdecode(path))
        if not place.startswith(self.root):
            return None
        place = place.removeprefix(self.root)
        for pattern, name in _NAMES:
            place = pattern.sub(name, place)
        return place
