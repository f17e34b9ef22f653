"""Which process a run is, so that it is known later whether it still lives."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import psutil

State = Literal["alive", "gone", "elsewhere"]


@dataclass(frozen=True)
class ProcessIdentity:
    """One process, distinguished from later ones with the same number.

    Attributes
    ----------
    pid : int
        Its number on its host.
    create_time : float
        When it began, in seconds: since the boot on Linux (which no adjustment of the clock
        moves), since 1970 elsewhere.
    boot : str
        Identity of the boot of the host.
    host : str
        Name of the host.
    """

    pid: int
    create_time: float
    boot: str
    host: str

    @classmethod
    def current(cls) -> ProcessIdentity:
        """Return the identity of this process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """Return the identity of a living process of this host.

        Raises
        ------
        ProcessLookupError
            If there is none.
        """
        began = create_time(pid)
        if began is None:
            raise ProcessLookupError(f"no process {pid}")
        return cls(pid, began, boot_id(), host_name())

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> ProcessIdentity | None:
        """Return the identity that stands in a journal or record, or None if there is none."""
        with suppress(KeyError, TypeError, ValueError):
            began = float(facts["create_time"])
            return cls(int(facts["pid"]), began, str(facts["boot"]), str(facts["host"]))
        return None

    def facts(self) -> dict[str, Any]:
        """Return the identity as plain values."""
        return asdict(self)

    def state(self) -> State:
        """Return whether the process lives, is gone, or cannot be seen because it is elsewhere."""
        if self.host != host_name():
            return "elsewhere"
        began = create_time(self.pid) if self.boot == boot_id() else None
        return "alive" if began is not None and abs(began - self.create_time) < 0.01 else "gone"


def create_time(pid: int) -> float | None:
    """Return when a process began, or None if there is none or only its remains (a zombie)."""
    with suppress(psutil.Error, OverflowError, ValueError):
        boot = psutil.boot_time() if psutil.LINUX else 0.0  # first, since psutil may keep it
        process = psutil.Process(pid)
        if process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return round(float(process.create_time()) - boot, 2)
    return None


@cache
def boot_id() -> str:
    """Return what changes with every boot of this host."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return str(round(psutil.boot_time()))


def host_name() -> str:
    """Return the name of this host."""
    return socket.gethostname()


@contextmanager
def handling_signals(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Handle SIGTERM and SIGHUP inside the block, in the main thread.

    Handlers are restored afterwards. A signal that is ignored (by ``nohup``) stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, signal.SIG_DFL if previous is None else previous)
