"""The console of a run as a file that follows what was printed."""

from __future__ import annotations

import os
from pathlib import Path


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
            _write_at(self.path, start, data)
        except OSError:
            return
        self._text = text
        self._size = start + len(data)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _write_at(path: Path, start: int, data: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        written = 0
        while written < len(data):
            written += os.pwrite(file, data[written:], start + written)
        os.ftruncate(file, start + len(data))
    finally:
        os.close(file)
