"""A file that only grows, line by line, and keeps room on a full disk for its last words."""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from registry.store.durable import make_state_folder, write_at

BALLAST = 256 * 1024
"""Bytes held back on the disk for the last words."""

BALLAST_FILE = "ballast"

_MOST_WAITING = 16 * 1024 * 1024  # bytes kept in memory while the disk is full
_SYNC_EVERY = 1.0  # seconds
_LONGEST_SEAL = 64  # bytes
_BLOCK = 8192  # bytes: a file's last block is taken whole


@dataclass(frozen=True)
class Lost:
    """What could not be written to a full disk.

    Attributes
    ----------
    events : int
        Lines without points.
    points : int
        Points of series.
    characters : int
        Of the console.
    """

    events: int = 0
    points: int = 0
    characters: int = 0

    def __bool__(self) -> bool:
        return bool(self.events or self.points or self.characters)

    def __str__(self) -> str:
        found = {
            "logged points": self.points,
            "characters of the console": self.characters,
            "other events": self.events,
        }
        return ", ".join(f"{number:,} {what}" for what, number in found.items() if number)


class AppendFile:
    """An append-only file of lines. After it is open, nothing it does raises.

    Every line is written at once. What does not fit on the disk waits in memory, up to 16 MB, and
    is tried again with the next line: what is small and matters before points of series. A
    ballast file beside it is given up for what is urgent. A line is whole or not there, but for
    the last one if the machine stops.

    Parameters
    ----------
    path : Path
        The file; its folder is made. The ballast lies beside it as ``ballast``.
    seal : callable, optional
        From a line and how many were written before it to what is written, a few bytes longer.

    Raises
    ------
    OSError
        If it cannot be made, or the disk has no room for the ballast.
    """

    def __init__(self, path: Path, seal: Callable[[bytes, int], bytes] = lambda line, _: line):
        make_state_folder(path.parent)
        self.path = path
        self._seal = seal
        self._lines = 0
        self._ballast = path.with_name(BALLAST_FILE)
        _reserve(self._ballast, BALLAST)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._events: deque[bytes] = deque()
        self._series: deque[tuple[bytes, int]] = deque()
        self._dropped = Lost()
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._synced = time.monotonic()

    def append(self, line: str, *, points: int = 0, urgent: bool = False) -> bool:
        """Append one line, given without its end.

        Parameters
        ----------
        line : str
            Plain text without line breaks.
        points : int
            How many points of series it holds; with any, it comes after what has none.
        urgent : bool
            Whether the ballast is used for it, and its being on the disk is waited for.

        Returns
        -------
        bool
            Whether it and all before it stand in the file.
        """
        data = line.encode()
        with self._lock:
            if os.getpid() != self._owner:  # a forked worker must not write its parent's journal
                return False
            if points:
                self._series.append((data, points))
            else:
                self._events.append(data)
            self._drain()
            if urgent and self._events:
                size = sum(len(data) + _LONGEST_SEAL for data in self._events)
                self._give_up_ballast(size, keep=BALLAST // 2)
                self._drain()
            self._limit()
            self._sync(now=urgent)
            return not (self._events or self._series)

    def finish(self, last: Callable[[Lost], str]) -> Lost:
        """Write all that fits, with the ballast's room too, and a last line; close the file.

        Parameters
        ----------
        last : callable
            Returns the last line, given what will be missing.

        Returns
        -------
        Lost
            What is missing.
        """
        with self._lock:
            if self._file < 0 or os.getpid() != self._owner:
                return Lost()
            self._drain()
            if self._missing():
                self._give_up_ballast(BALLAST, keep=len(last(self._missing()).encode()) + _BLOCK)
                self._drain()
            missing = self._missing()
            self._ballast.unlink(missing_ok=True)
            if not self._write(last(missing).encode()):
                missing = replace(missing, events=missing.events + 1)
            self._close()
            return missing

    def close(self) -> None:
        """Write what still fits, wait until it is on the disk, and give up the ballast."""
        with self._lock:
            if self._file < 0 or os.getpid() != self._owner:
                return
            self._ballast.unlink(missing_ok=True)
            self._drain()
            self._close()

    def __del__(self) -> None:
        with suppress(Exception):  # a journal that was never begun should not keep its ballast
            self.close()

    def _close(self) -> None:
        self._sync(now=True)
        os.close(self._file)
        self._file = -1

    def _missing(self) -> Lost:
        return Lost(
            self._dropped.events + len(self._events),
            self._dropped.points + sum(points for _, points in self._series),
        )

    def _drain(self) -> None:
        while self._events and self._write(self._events[0]):
            self._events.popleft()
        while self._series and not self._events and self._write(self._series[0][0]):
            self._series.popleft()

    def _limit(self) -> None:
        """Drop the oldest points, and then the oldest lines, beyond what memory may hold.

        What waits first, perhaps how it all began, and what came last are kept.
        """
        lines = (*self._events, *(data for data, _ in self._series))
        excess = sum(map(len, lines)) - _MOST_WAITING
        while excess > 0 and self._series:
            data, points = self._series.popleft()
            self._dropped = replace(self._dropped, points=self._dropped.points + points)
            excess -= len(data)
        while excess > 0 and len(self._events) > 2:
            excess -= len(self._events[1])
            del self._events[1]
            self._dropped = replace(self._dropped, events=self._dropped.events + 1)

    def _give_up_ballast(self, size: int, keep: int) -> None:
        """Give up so many bytes of the ballast, but keep some."""
        with suppress(OSError):
            before = self._ballast.stat().st_size
            os.truncate(self._ballast, min(before, max(before - size - _BLOCK, keep)))

    def _write(self, line: bytes) -> bool:
        if self._file < 0:
            return False
        data = self._seal(line, self._lines) + b"\n"
        size = -1
        try:
            size = os.fstat(self._file).st_size
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
            self._lines += 1
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
        self._wanted = 0
        self._size = 0
        self._owner = os.getpid()

    @property
    def length(self) -> int:
        """Characters that stand in the file."""
        return len(self._text)

    @property
    def crc32(self) -> str:
        """CRC-32 of the file, in hexadecimal digits."""
        return f"{zlib.crc32(_encode(self._text)):08x}"

    @property
    def missing(self) -> int:
        """Characters that did not fit on the disk."""
        return max(0, self._wanted - len(self._text))

    def update(self, text: str) -> None:
        """Make the file say `text`; on a full disk what fits of it, at least what it said."""
        if text == self._text or os.getpid() != self._owner:
            return
        self._wanted = len(text)
        lines = self._text.rfind("\n") + 1
        starts = (n for n in (len(self._text), lines, 0) if text.startswith(self._text[:n]))
        common = next(starts)
        start = self._size - len(_encode(self._text[common:]))
        data = _encode(text[common:])
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                kept = data[: _write_what_fits(file, data, start)]
                said = (
                    text if len(kept) == len(data) else text[:common] + kept.decode(errors="ignore")
                )
                if len(kept) < len(data) and len(said) < len(self._text):
                    said = self._text
                    write_at(file, _encode(said[common:]), start)  # which had its room
                size = start + len(_encode(said[common:]))
                os.ftruncate(file, size)
            finally:
                os.close(file)
        except OSError:
            return
        self._text, self._size = said, size


def _write_what_fits(file: int, data: bytes, start: int) -> int:
    """Write bytes into an open file, from a position on; return how many the disk has taken."""
    written = 0
    with suppress(OSError):
        while written < len(data):
            written += os.pwrite(file, data[written:], start + written)
    return written


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
