"""What an interrupted run leaves for the next one: a file that is whole, or is not read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.store.durable import TEMPORARY, file_sha256, sync

_DIGITS = 16


class Checkpoint:
    """A file that is replaced as a run goes on, with its checksum in its name.

    One that was cut short, as by a power cut, or whose bits have flipped is never resumed from.

    Parameters
    ----------
    folder : Path
        The ``partial`` folder of a run.
    name : str
        As ``training.safetensors``; on the disk ``training.0123456789abcdef.safetensors``.
    """

    def __init__(self, folder: Path, name: str):
        self.folder = folder
        self.name = name

    @contextmanager
    def write(self) -> Iterator[Path]:
        """Yield a path to write to; if all goes well, that file takes the former one's place."""
        before, written = self._files(), self.folder / f".{self.name}{TEMPORARY}"
        try:
            yield written
            sync(written)
            current = self._path(file_sha256(written)[:_DIGITS])
            os.replace(written, current)
            sync(self.folder)
        finally:
            written.unlink(missing_ok=True)
        for path in before:
            if path != current:
                path.unlink(missing_ok=True)

    def find(self) -> Path | None:
        """Return the file, None if there is none that is as it was written.

        One that is not is removed, and a line is printed that says so.
        """
        for path in self._files():
            if path == self._path(file_sha256(path)[:_DIGITS]):
                return path
            path.unlink()
            sys.stdout.write(f"{path} is damaged; what it would have resumed begins again\n")
        return None

    def remove(self) -> None:
        """Remove the file, if there is one."""
        for path in self._files():
            path.unlink()

    def _path(self, digest: str) -> Path:
        stem, dot, suffix = self.name.partition(".")
        return self.folder / f"{stem}.{digest}{dot}{suffix}"

    def _files(self) -> list[Path]:
        """Return the files of this name, the newest first: two, if a writer was killed."""
        found = self.folder.glob(self._path("[0-9a-f]" * _DIGITS).name)
        return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)
