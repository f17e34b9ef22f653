"""Claims of writers to ranges of parts in one folder: of two that overlap, one is refused."""

from __future__ import annotations

import os
import re
from pathlib import Path

from registry.store.durable import TEMPORARY, StoreError, lock, locked

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
        with locked(folder):  # so that of two writers one looks first
            require_unclaimed(folder, parts)
            self._descriptor = lock(self.path)

    def release(self) -> None:
        """Let others write these parts."""
        if self._descriptor is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None


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
    if not path.exists():
        return True
    descriptor = lock(path, wait=False)
    if descriptor is None:
        return False
    path.unlink(missing_ok=True)
    os.close(descriptor)
    return True
