"""Signals while the modules of a command are imported: it ends, and shows no traceback."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType, TracebackType

COMMAND = "factbook"
_MODULE = "registry.cli"
_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_quietly() -> None:
    """Show no traceback of Ctrl-C in this process, if it is the command, or runs a module.

    The command ends by each of the signals that stop a run as it does by Ctrl-C, from here on.
    Programs that import the registry keep what they have.
    """
    is_starting = sys.argv[:1] == ["-m"]
    is_module = is_starting or getattr(sys.modules["__main__"], "__spec__", None)
    is_command = bool(sys.argv[:1]) and sys.argv[0].rpartition("/")[2] == COMMAND
    if is_module or is_command:
        show_no_traceback(KeyboardInterrupt)
    if is_command or (is_starting and _MODULE in sys.orig_argv):
        _replace(signal.SIG_DFL, _end)
        _replace(signal.default_int_handler, _end)


def leave_signals() -> None:
    """Let signals end this process without a word: the command is over, and has said all."""
    _replace(_end, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    """End at once, since nothing has begun."""
    with suppress(OSError):
        os.write(2, b"interrupted\n")
    os._exit(128 + signal.SIGINT)


def _replace(known: object, handler: signal._HANDLER) -> None:
    if threading.current_thread() is threading.main_thread():
        for number in _NUMBERS:
            if signal.getsignal(number) == known:
                signal.signal(number, handler)


def show_no_traceback(*kinds: type[BaseException]) -> None:
    """End this process without a word where an error of these kinds ends it."""

    def end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, kinds):
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = end
