"""Where concepts lie on their map: laid out once, and kept for the next reader and server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from registry.store.durable import make_state_folder, whole_file

VERSION = 2
MOST_KEPT = 32
"""Maps that are kept, of 128 kB for 16,384 concepts; the oldest is given up."""

PATIENCE = 1.0
"""Seconds that a reader waits for a map that is being laid out, before a rough one is shown."""

SOON = 1024
"""Concepts up to which laying out begins at once: it takes about a second."""

AFTER = 1.5
"""Seconds after the first look from which on more are laid out: their rough map is drawn first."""

Points = NDArray[np.float32]


class ConceptMap:
    """Where the concepts of one set lie, laid out in the background where it is not kept.

    Parameters
    ----------
    root : Path
        Of the project.
    content : str
        Digest of what the map is made from.
    concepts : int
        How many there are; what is kept of another number is damaged, and made anew.
    directions : callable
        Returns what they are alike by, (channel, concept).
    rough : callable
        Returns by these where they lie roughly, (concept, 2), in a second.
    lay_out : callable
        Returns where they lie, and is given too what to call with the share that is done. Takes up
        to a minute for 16,384.
    """

    def __init__(
        self,
        root: Path,
        content: str,
        concepts: int,
        directions: Callable[[], Points],
        rough: Callable[[Points], Points],
        lay_out: Callable[[Points, Callable[[float], None]], Points],
    ):
        self.share = 0.0
        """How much of laying out is done, in [0, 1]."""
        self._path = root / ".factbook" / "cache" / f"map-{VERSION}-{content[:32]}.npy"
        self._directions = directions
        self._lay_out = lay_out
        self._due = 0.0 if concepts <= SOON else np.inf
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None
        self._whole = _read(self._path, concepts)
        self._rough = rough(directions()) if self._whole is None else self._whole

    @property
    def is_busy(self) -> bool:
        """Whether concepts are being laid out."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def is_over(self) -> bool:
        """Whether another look tells more: concepts are laid out, or that has failed."""
        return self._whole is not None or self._error is not None

    def is_rough(self, points: Points) -> bool:
        """Return whether what a look has returned is not how concepts are laid out."""
        return points is not self._whole

    def begin(self) -> None:
        """Lay concepts out where that is not done, in the background.

        Many only when the first look is a while ago: laying out takes all of a machine, and who
        looks first sees them roughly before.
        """
        now = time.monotonic()
        self._due = min(self._due, now + AFTER)
        if not self.is_over and not self.is_busy and now >= self._due:
            args = (self._directions(),)
            self._thread = threading.Thread(target=self._work, args=args, name="map", daemon=True)
            self._thread.start()

    def look(self, patience: float = PATIENCE) -> Points:
        """Return where concepts lie, (concept, 2): roughly, until they are laid out.

        Raises
        ------
        Exception
            What laying out raised; the next look tries again.
        """
        self.begin()
        if self._whole is None and self._thread is not None:
            self._thread.join(patience)
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._rough if self._whole is None else self._whole

    def _tell(self, share: float) -> None:
        self.share = share

    def _work(self, directions: Points) -> None:
        try:
            found = self._lay_out(directions, self._tell)
        except Exception as error:
            self._error = error
            return
        self._whole = found
        with suppress(OSError):  # a full disk, or one that is read only: it is computed again
            _keep(self._path, found)


def _read(path: Path, concepts: int) -> Points | None:
    with suppress(OSError, ValueError, EOFError):
        kept = np.load(path, allow_pickle=False)
        if kept.shape == (concepts, 2):
            return np.asarray(kept, np.float32)
    return None


def _keep(path: Path, points: Points) -> None:
    make_state_folder(path.parent)
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        np.save(file, points)
    maps = sorted(path.parent.glob("map-*.npy"), key=lambda own: own.stat().st_mtime)
    for oldest in maps[:-MOST_KEPT]:
        oldest.unlink()
