"""Where concepts lie on their map: computed once, and kept for the next reader and server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from registry.store.durable import make_state_folder, whole_file

VERSION = 1
MOST_KEPT = 32
"""Maps that are kept, of 128 kB for 16,384 concepts; the oldest is given up."""

_LOCK = threading.Lock()


def kept_map(
    root: Path, content: str, concepts: int, compute: Callable[[], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Return where concepts lie, (concept, 2), computed unless it is kept.

    Parameters
    ----------
    root : Path
        Of the project.
    content : str
        Digest of what the map is made from.
    concepts : int
        How many there are; what is kept of another number is damaged, and made anew.
    compute : callable
        Takes up to a minute for 16,384.
    """
    path = root / ".factbook" / "cache" / f"map-{VERSION}-{content[:32]}.npy"
    with _LOCK:  # two readers who come at once wait for one computation
        with suppress(OSError, ValueError, EOFError):
            kept = np.load(path, allow_pickle=False)
            if kept.shape == (concepts, 2):
                return np.asarray(kept, np.float32)
        found = compute()
        with suppress(OSError):  # a full disk, or one that is read only: it is computed again
            make_state_folder(path.parent)
            with whole_file(path) as temporary, open(temporary, "wb") as file:
                np.save(file, found)
            maps = sorted(path.parent.glob("map-*.npy"), key=lambda own: own.stat().st_mtime)
            for oldest in maps[:-MOST_KEPT]:
                oldest.unlink()
    return found
