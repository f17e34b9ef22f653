"""Presences by concept for readers who do not wait: kept on the disk once they were read.

The first reader of a large dataset starts a thread that reads all of it once, and sees what was
read so far. What it made is kept under ``.factbook/cache``, by the content of the dataset, and is
there at once for the next server. Datasets are never written to.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import xarray as xr

from dashboards.views.concepts.presences import ENTRY, Block, Presences, read_blocks, read_presences
from registry.store.durable import StoreError, read_json, sync, write_json

VERSION = 1
HEADER, ENTRIES, POINTERS, MOMENTS = "header.json", "entries.bin", "pointers.npy", "moments.npy"

SMALL_CELLS = 2**24
"""Images times concepts up to which a dataset is read at once, in half a second, and not kept."""

MOST_ENTRIES = 80_000_000
"""Entries that are kept: 1 GB. A layer's own channels are present everywhere, and may have more."""

MOST_KEPT = 8
"""Datasets whose presences are kept; the one that was used longest ago is given up."""

ABANDONED = 86_400.0
"""Seconds after which what a stopped server left unfinished is removed."""


class DenseError(StoreError):
    """Presences that are too many to be kept without their zeros."""


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

    Attributes
    ----------
    trouble : str
        Why there is nothing, or nothing more; "" where there is no trouble.
    is_dense : bool
        Whether that is because there are too many presences, as of a layer's own channels.
    """

    def __init__(self, dataset: Callable[[], xr.Dataset], cells: int, folder: Path):
        self.trouble = ""
        self.is_dense = False
        self._dataset = dataset
        self._folder = folder
        self._blocks: list[Block] = []
        self._n_images = 0
        self._thread: threading.Thread | None = None
        self._whole: Presences | None = None
        if cells <= SMALL_CELLS:
            self._whole = read_presences(dataset())
        else:
            self._whole = open_kept(folder)
        if self._whole is None:
            self._n_images = dataset().sizes["image"]
            self._thread = threading.Thread(target=self._read, name="presences", daemon=False)
            self._thread.start()

    @property
    def is_reading(self) -> bool:
        """Whether more is to come."""
        return self._thread is not None and self._thread.is_alive()

    def presences(self) -> Presences:
        """Return what was read so far."""
        return self._whole or Presences(self._n_images, tuple(self._blocks))

    def wait(self, seconds: float | None = None) -> None:
        """Wait until all is read, so long at most."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _read(self) -> None:
        try:
            with Keeper(self._folder) as keeper:
                for block in read_blocks(self._dataset()):
                    if not threading.main_thread().is_alive():
                        return  # a thread that is ended while it reads would leave HDF5 locked
                    self._blocks.append(keeper.add(block))
                    _require_sparse(keeper.n_entries, block.stop, self._n_images)
                self._whole = keeper.keep()
        except (OSError, StoreError) as error:
            self.is_dense = isinstance(error, DenseError)
            self.trouble = str(error)


def _require_sparse(entries: int, read: int, images: int) -> None:
    if entries * images > MOST_ENTRIES * read:
        raise DenseError(
            f"{entries:,} presences in {read:,} of {images:,} images: too many to be kept"
        )


def cache_folder(root: Path, content: str) -> Path:
    """Return where the presences of a dataset are kept, by the digest of its content."""
    return root / ".factbook" / "cache" / f"presences-{VERSION}-{content[:32]}"


class Keeper:
    """Writes blocks into a folder that gets its name when it is whole.

    Parameters
    ----------
    folder : Path
        The name.

    Raises
    ------
    OSError
        If the disk is full, or not to be written to.
    """

    def __init__(self, folder: Path):
        self._final = folder
        self._temporary = folder.with_name(f".{folder.name}.{os.getpid()}-{secrets.token_hex(4)}")
        self._blocks: list[Block] = []
        self.n_entries = 0

    def __enter__(self) -> Keeper:
        _remove_abandoned(self._final.parent)
        self._temporary.mkdir(parents=True)
        (self._temporary / ENTRIES).touch()
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)

    def add(self, block: Block) -> Block:
        """Write a block; return it with its entries on the disk."""
        path = self._temporary / ENTRIES
        with open(path, "ab") as file:
            block.entries.tofile(file)
        entries = map_entries(path, self.n_entries, len(block.entries))
        self.n_entries += len(block.entries)
        kept = Block(block.start, block.stop, block.pointer, entries)
        kept.__dict__["moments"] = block.moments
        self._blocks.append(kept)
        return kept

    def keep(self) -> Presences:
        """Give the folder its name, unless another server was quicker; return all presences."""
        blocks = self._blocks
        moments = np.sum([block.moments for block in blocks], axis=0)
        np.save(self._temporary / POINTERS, np.stack([block.pointer for block in blocks]))
        np.save(self._temporary / MOMENTS, moments)
        for name in (ENTRIES, POINTERS, MOMENTS):
            sync(self._temporary / name)
        stops = [block.stop for block in blocks]
        write_json(self._temporary / HEADER, {"stops": stops, "entries": self.n_entries})
        with suppress(OSError):
            os.rename(self._temporary, self._final)
        _give_up_oldest(self._final.parent)
        return Presences(stops[-1], tuple(blocks), moments)


def map_entries(path: Path, start: int, count: int) -> np.ndarray:
    """Return entries of a file without reading them."""
    if count == 0:
        return np.empty(0, ENTRY)
    return np.memmap(path, ENTRY, "r", offset=start * ENTRY.itemsize, shape=(count,))


def open_kept(folder: Path) -> Presences | None:
    """Return the presences that are kept in a folder; None if there are none, or they are damaged.

    What is damaged is removed.
    """
    if not folder.exists():
        return None
    try:
        header = read_json(folder / HEADER) or {}
        stops, total = list(map(int, header["stops"])), int(header["entries"])
        pointers = np.load(folder / POINTERS, allow_pickle=False)
        moments = np.load(folder / MOMENTS, allow_pickle=False)
        _check(folder, stops, total, pointers, moments)
        blocks = _blocks_of(map_entries(folder / ENTRIES, 0, total), stops, pointers)
    except (OSError, ValueError, KeyError, TypeError):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    with suppress(OSError):
        os.utime(folder)
    return Presences(stops[-1], blocks, moments)


def _check(
    folder: Path, stops: Sequence[int], total: int, pointers: np.ndarray, moments: np.ndarray
) -> None:
    fits = (
        len(stops) == len(pointers) > 0
        and moments.shape == (2, pointers.shape[1] - 1)
        and int(pointers[:, -1].sum()) == total
        and (folder / ENTRIES).stat().st_size == total * ENTRY.itemsize
    )
    if not fits:
        raise ValueError(f"{folder} is damaged")


def _blocks_of(
    entries: np.ndarray, stops: Sequence[int], pointers: np.ndarray
) -> tuple[Block, ...]:
    ends = np.cumsum(pointers[:, -1])
    starts = [0, *stops[:-1]]
    return tuple(
        Block(start, stop, pointer, entries[end - pointer[-1] : end])
        for start, stop, pointer, end in zip(starts, stops, pointers, ends, strict=True)
    )


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(".presences-*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > ABANDONED:
                shutil.rmtree(folder, ignore_errors=True)


def _give_up_oldest(parent: Path) -> None:
    with suppress(OSError):
        kept = sorted(parent.glob("presences-*"), key=lambda folder: folder.stat().st_mtime)
        for folder in kept[:-MOST_KEPT]:
            shutil.rmtree(folder, ignore_errors=True)
