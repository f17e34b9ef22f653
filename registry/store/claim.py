"""Claims of writers to ranges of parts in one folder: of two that overlap, one is refused."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.store.durable import TEMPORARY, StoreError

_CLAIM = re.compile(rf"\.parts-(\d{{6}})-(\d{{6}}){re.escape(TEMPORARY)}")


class PartsClaim:
    """The right of one writer to write the parts of a range, until it is released or dies.

    Parameters
    ----------
    folder : Path
        Where the parts lie.
    parts : range
        Indices of the parts, one after the other.

    Raises
    ------
    StoreError
        If a writer that lives has claimed one of them.
    """

    def __init__(self, folder: Path, parts: range):
        if parts.step != 1 or not parts:
            raise StoreError(f"got {parts!r}; expected a range of consecutive parts")
        self.path = folder / f".parts-{parts.start:06d}-{parts.stop:06d}{TEMPORARY}"
        with _held(folder):
            require_unclaimed(folder, parts)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def release(self) -> None:
        """Let others write these parts."""
        if self._descriptor >= 0:
            self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1


def require_unclaimed(folder: Path, parts: range | None = None) -> None:
    """Make sure that no writer who lives has claimed one of these parts, or any at all.

    Raises
    ------
    StoreError
        If one has; with its range.
    """
    for path in folder.glob(f".parts-*{TEMPORARY}"):
        found = _CLAIM.fullmatch(path.name)
        if found is None:
            continue
        start, stop = int(found[1]), int(found[2])
        overlaps = parts is None or (start < parts.stop and parts.start < stop)
        if overlaps and not _remove_if_dead(path):
            raise StoreError(
                f"parts {start} to {stop - 1} in {folder} are being written by another"
            )


def _remove_if_dead(path: Path) -> bool:
    """Remove a claim that no process holds any more; return whether it is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the folder itself for a moment, so that of two writers one looks first."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
