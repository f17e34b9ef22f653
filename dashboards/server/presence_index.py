"""Presences by concept for readers who do not wait: as they were laid down beside the dataset.

Of a dataset that has none, as one that was made by a former version, the first reader starts a
thread that reads all of it once, and sees what was read so far. What it made is kept under
``.factbook/cache``, by the content of the dataset, and is there at once for the next server.
Datasets are never written to.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import xarray as xr

from fact.traces.by_concept import (
    FOLDER,
    SMALL_CELLS,
    DenseError,
    Presences,
    kept_blocks,
    open_kept,
    read_presences,
)
from registry.store.durable import StoreError
from registry.store.manifest import DERIVED

VERSION = 3

MOST_KEPT = 8
"""Datasets whose presences are kept; the one that was used longest ago is given up."""


class PresenceIndex:
    """The presences of one dataset, read in the background where it is large.

    Parameters
    ----------
    dataset : callable
        Opens the concepts dataset.
    cells : int
        Its images times its concepts.
    folder : Path
        Where to keep what was read; see :func:`cache_folder`.
    laid_down : Path or None
        The folder of the dataset, beside which presences by concept may lie.

    Attributes
    ----------
    trouble : str
        Why there is nothing, or nothing more; "" where there is no trouble.
    is_dense : bool
        Whether that is because there are too many presences, as of a layer's own channels.
    """

    def __init__(
        self,
        dataset: Callable[[], xr.Dataset],
        cells: int,
        folder: Path,
        laid_down: Path | None = None,
    ):
        self.trouble = ""
        self.is_dense = False
        self._dataset = dataset
        self._folder = folder
        self._known = Presences(0, ())
        self._thread: threading.Thread | None = None
        if cells <= SMALL_CELLS:
            self._known = read_presences(dataset())
            return
        known = _open_cached(folder)  # first: also made where what lay beside was damaged
        if known is None and laid_down is not None:
            known = open_kept(laid_down / DERIVED / FOLDER)
        if known is not None:
            self._known = known
        else:
            self._start()

    def read_anew(self) -> None:
        """Read the dataset, in the background: what is kept of it is damaged."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._start()

    def _start(self) -> None:
        self._known = Presences(self._dataset().sizes["image"], ())
        self._thread = threading.Thread(target=self._read, name="presences", daemon=False)
        self._thread.start()

    def whole(self) -> Presences:
        """Wait until all that can be read is read, and return it."""
        if self._thread is not None:
            self._thread.join()
        return self._known

    @property
    def is_reading(self) -> bool:
        """Whether more is to come."""
        return self._thread is not None and self._thread.is_alive()

    def presences(self) -> Presences:
        """Return what was read so far."""
        return self._known

    def _read(self) -> None:
        try:
            for known in kept_blocks(self._dataset(), self._folder):
                if not threading.main_thread().is_alive():
                    return  # a thread that is ended while it reads would leave HDF5 locked
                self._known = known
            _give_up_oldest(self._folder.parent)
        except (OSError, StoreError) as error:
            self.is_dense = isinstance(error, DenseError)
            self.trouble = str(error)


def cache_folder(root: Path, content: str) -> Path:
    """Return where the presences of a dataset are kept, by the digest of its content."""
    return root / ".factbook" / "cache" / f"presences-{VERSION}-{content[:32]}"


def _open_cached(folder: Path) -> Presences | None:
    """Return what an earlier server kept; what is damaged is removed."""
    known = open_kept(folder)
    if known is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        with suppress(OSError):
            os.utime(folder)
    return known


def _give_up_oldest(folder: Path) -> None:
    with suppress(OSError):
        kept = sorted(folder.glob("presences-*"), key=lambda own: own.stat().st_mtime)
        for oldest in kept[:-MOST_KEPT]:
            shutil.rmtree(oldest, ignore_errors=True)
