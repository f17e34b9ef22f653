"""A file that only grows, line by line, and keeps room on a full disk for its last words."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

from registry.store.durable import make_state_folder, write_at

BALLAST = 256 * 1024
"""Bytes held back on the disk for the last words."""

BALLAST_FILE = "ballast"

_MOST_WAITING = 16 * 1024 * 1024  # bytes kept in memory while the disk is full
_SYNC_EVERY = 1.0  # seconds


class AppendFile:
    """An append-only file of lines. After it is open, nothing it does raises.

    Every line is written at once. What does not fit on the disk waits in memory, up to 16 MB, and
    is tried again with the next line. A ballast file beside it is given up for the last words.
    A line is whole or not there, but for the last one if the machine stops.

    Parameters
    ----------
    path : Path
        The file; its folder is made. The ballast lies beside it as ``ballast``.

    Raises
    ------
    OSError
        If it cannot be made, or the disk has no room for the ballast.
    """

    def __init__(self, path: Path):
        make_state_folder(path.parent)
        self.path = path
        self.lost = 0
        self._ballast = path.with_name(BALLAST_FILE)
        _reserve(self._ballast, BALLAST)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._waiting: deque[bytes] = deque()
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._synced = time.monotonic()

    def append(self, line: str, last_words: bool = False) -> bool:
        """Append one line, given without its end.

        Parameters
        ----------
        line : str
            Plain text without line breaks.
        last_words : bool
            Whether the line must not be lost: it comes before all that waits, gives up the
            ballast if there is no other room, and waits until it is on the disk.

        Returns
        -------
        bool
            Whether it and all before it stand in the file.
        """
        data = f"{line}\n".encode()
        with self._lock:
            if os.getpid() != self._owner:  # a forked worker must not write its parent's journal
                return False
            if last_words:
                self._append_last(data)
            else:
                self._waiting.append(data)
                while sum(map(len, self._waiting)) > _MOST_WAITING and len(self._waiting) > 1:
                    self._waiting.popleft()
                    self.lost += 1
            self._drain()
            self._sync(now=last_words)
            return not self._waiting

    def close(self) -> None:
        """Write what still fits, wait until it is on the disk, and give up the ballast."""
        with self._lock:
            if self._file < 0 or os.getpid() != self._owner:
                return
            self._ballast.unlink(missing_ok=True)
            self._drain()
            self._sync(now=True)
            os.close(self._file)
            self._file = -1

    def __del__(self) -> None:
        with suppress(Exception):  # a journal that was never begun should not keep its ballast
            self.close()

    def _append_last(self, data: bytes) -> None:
        self._drain()
        if not self._write(data):
            with suppress(OSError):
                self._ballast.unlink()
            if not self._write(data):
                self._waiting.appendleft(data)

    def _drain(self) -> None:
        while self._waiting and self._write(self._waiting[0]):
            self._waiting.popleft()

    def _write(self, data: bytes) -> bool:
        if self._file < 0:
            return False
        size = -1
        try:
            size = os.fstat(self._file).st_size
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
            return True
        except OSError:
            with suppress(OSError):  # half a line would be taken for a torn one
                if size >= 0:
                    os.ftruncate(self._file, size)
            return False

    def _sync(self, now: bool) -> None:
        if now or time.monotonic() - self._synced >= _SYNC_EVERY:
            with suppress(OSError):
                os.fsync(self._file)
            self._synced = time.monotonic()


def _reserve(path: Path, size: int) -> None:
    """Make a file whose blocks are really taken from the disk."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, size)
        else:
            os.write(file, os.urandom(size))  # not zeros: file systems leave those out
        os.fsync(file)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)


class ConsoleFile:
    """Keeps a file equal to a text that mostly grows at its end. Nothing it does raises.

    A filter that interprets carriage returns, for progress bars, also rewrites the last line:
    then the file is rewritten from there, new text first, so that a kill loses nothing that was
    printed.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._text = ""
        self._size = 0
        self._owner = os.getpid()

    @property
    def length(self) -> int:
        """Characters that stand in the file."""
        return len(self._text)

    def update(self, text: str) -> None:
        """Make the file say `text`; on a full disk it keeps what it said."""
        if text == self._text or os.getpid() != self._owner:
            return
        lines = self._text.rfind("\n") + 1
        starts = (n for n in (len(self._text), lines, 0) if text.startswith(self._text[:n]))
        common = next(starts)
        start = self._size - len(_encode(self._text[common:]))
        data = _encode(text[common:])
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                write_at(file, data, start)
                os.ftruncate(file, start + len(data))
            finally:
                os.close(file)
        except OSError:
            return
        self._text = text
        self._size = start + len(data)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
