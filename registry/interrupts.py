"""Signals that stop a run: raised where Python is in charge, never within a library's callback."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TypeVar

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a run to stop."""

_PATIENCE = 5.0  # seconds within which a second signal is taken for the same wish
_LEAVING_SECONDS = 10.0

T = TypeVar("T")
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
def signals_noted() -> Iterator[list[int]]:
    """Note the `STOPPING` signals inside the block, in the main thread; they do nothing else.

    Yields
    ------
    list of int
        Their numbers, in the order in which they came.
    """
    noted: list[int] = []
    with handling_signals(lambda number, frame: noted.append(number)):
        yield noted


@contextmanager
def signals_end() -> Iterator[None]:
    """End this process at once by the `STOPPING` signals inside the block, status 128 + the number.

    For a program that has begun nothing yet: an exception that a signal raises while modules are
    imported may come out of them as another one.
    """

    def end(number: int, frame: FrameType | None) -> None:
        with suppress(OSError):
            os.write(2, b"interrupted\n")
        os._exit(128 + number)

    with handling_signals(end):
        yield


@contextmanager
def signals_interrupt(noted: Sequence[int] = ()) -> Iterator[Check]:
    """Turn the `STOPPING` signals into `SignalInterrupt` inside the block, in the main thread.

    A second signal within 5 seconds is taken for the same wish, so that it cannot spoil the
    recording of the end.

    Parameters
    ----------
    noted : sequence of int
        Signals that came before, and were noted: the first acts at once.

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

    with handling_signals(interrupt), _quiet_where_lost(lambda: bool(raised)):
        if noted:
            interrupt(noted[0], None)
        yield check


@contextmanager
def _quiet_where_lost(was_raised: Callable[[], bool]) -> Iterator[None]:
    """Print no traceback of an interrupt that ``__del__`` or a callback has swallowed.

    Nor of what ``__del__`` finds in an object that an interrupt left half made.
    """
    before = sys.unraisablehook

    def hook(lost: sys.UnraisableHookArgs) -> None:
        if not (was_raised() or issubclass(lost.exc_type, SignalInterrupt)):
            before(lost)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def leave_soon(status: int) -> None:
    """Let this process end at last, once it has come to its end.

    An exception that a signal raised while a pool was starting a thread leaves a thread that nobody
    tells to end, and Python waits for it for ever. It is waited for 10 seconds. So long, objects
    that it left half made go in silence.

    Parameters
    ----------
    status : int
        What the process then ends with.
    """

    def leave() -> None:
        threading.main_thread().join()
        time.sleep(_LEAVING_SECONDS)
        os._exit(status)

    before, quiet_until = sys.unraisablehook, time.monotonic() + _LEAVING_SECONDS

    def hook(lost: sys.UnraisableHookArgs) -> None:
        if time.monotonic() > quiet_until:
            before(lost)

    sys.unraisablehook = hook
    threading.Thread(target=leave, name="leave", daemon=True).start()


class Held:
    """Signals that are held for code that they must not interrupt."""

    def __init__(self, handlers: Mapping[int, Handler]):
        self.handlers = handlers
        self._noted: list[int] = []
        self._acts = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """Hold a signal."""
        self._noted.append(number)
        if self._acts:
            self.act()

    def act(self) -> None:
        """Let those that are held act now."""
        while self._noted:
            number = signal.Signals(self._noted.pop(0))
            self.handlers[number](number, None)

    def act_within(self, items: Iterable[T]) -> Iterator[T]:
        """Yield items; while one is made, signals act at once."""
        made = iter(items)
        while True:
            self._acts = True
            try:
                self.act()
                item = next(made)
            except StopIteration:
                return
            finally:
                self._acts = False
            yield item


@contextmanager
def signals_held() -> Iterator[Held]:
    """Note signals inside the block, and let them act at its end.

    For code that a library calls back, as HDF5 does to write to a file of Python's: an exception
    there leaves the library's state broken, or crashes the process.

    Yields
    ------
    Held
        Lets them act between two calls of the library.
    """
    found = {number: signal.getsignal(number) for number in STOPPING}
    held = Held({number: handler for number, handler in found.items() if callable(handler)})
    try:
        with _handled(list(held.handlers), held.note):
            yield held
    finally:
        held.act()


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
