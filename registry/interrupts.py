"""Signals that stop a run: raised where Python is in charge, never within a library's callback."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a run to stop."""

_PATIENCE = 5.0  # seconds within which a second signal is taken for the same wish

Check = Callable[[], None]
Handler = Callable[[int, FrameType | None], Any]


class SignalInterrupt(KeyboardInterrupt):
    """A run that was stopped by a signal; Sacred records it as ``INTERRUPTED``.

    It is no :class:`Exception`, so that code that recovers from errors does not swallow it.

    Attributes
    ----------
    signal_name : str
        As ``SIGTERM``.
    """

    STATUS = "INTERRUPTED"

    def __init__(self, number: int):
        self.signal_name = signal.Signals(number).name
        super().__init__(f"stopped by {self.signal_name}")


@contextmanager
def handling_signals(handler: Handler) -> Iterator[None]:
    """Handle the `STOPPING` signals inside the block, in the main thread.

    Handlers are restored afterwards. A signal that is ignored (by ``nohup``) stays so.
    """
    numbers = [n for n in STOPPING if signal.getsignal(n) != signal.SIG_IGN]
    with _handled(numbers, handler):
        yield


@contextmanager
def signals_interrupt() -> Iterator[Check]:
    """Turn the `STOPPING` signals into `SignalInterrupt` inside the block, in the main thread.

    A second signal within 5 seconds is taken for the same wish, so that it cannot spoil the
    recording of the end.

    Yields
    ------
    callable
        Raises a `SignalInterrupt` if one was raised before and got lost, as in ``__del__`` or in
        code that catches everything.
    """
    last, raised = -_PATIENCE, 0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal last, raised
        now = time.monotonic()
        if now - last >= _PATIENCE:
            last, raised = now, number
            raise SignalInterrupt(number)

    def check() -> None:
        if raised:
            raise SignalInterrupt(raised)

    with handling_signals(interrupt):
        yield check


@contextmanager
def signals_held() -> Iterator[Check]:
    """Note signals inside the block, and let them act at its end.

    For code that a library calls back, as HDF5 does to write to a file of Python's: an exception
    there leaves the library's state broken, or crashes the process.

    Yields
    ------
    callable
        Lets what was noted act now, between two calls of the library.
    """
    noted: list[int] = []
    found = {number: signal.getsignal(number) for number in STOPPING}
    before = {number: handler for number, handler in found.items() if callable(handler)}

    def act() -> None:
        while noted:
            number = signal.Signals(noted.pop(0))
            before[number](number, None)

    try:
        with _handled(list(before), lambda number, frame: noted.append(number)):
            yield act
    finally:
        act()


@contextmanager
def _handled(numbers: list[Any], handler: Handler) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, signal.SIG_DFL if previous is None else previous)
