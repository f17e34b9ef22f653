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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import xarray as xr

from dashboards.views.concepts.presences import ENTRY, Block, Presences, read_blocks, read_presences
from registry.store.durable import StoreError, make_state_folder, sync
from registry.wording import counted

VERSION = 2
ENTRIES, INDEX = "entries.bin", "index.npz"

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

    def _read(self) -> None:
        try:
            with _until_whole(self._folder) as folder:
                n_entries = 0
                for block in read_blocks(self._dataset()):
                    if not threading.main_thread().is_alive():
                        return  # a thread that is ended while it reads would leave HDF5 locked
                    self._blocks.append(_on_disk(block, folder / ENTRIES, n_entries))
                    n_entries += len(block.entries)
                    _require_sparse(n_entries, block.stop, self._n_images)
                whole = Presences(self._n_images, tuple(self._blocks))
                _keep(whole, folder, self._folder)
                self._whole = whole
        except (OSError, StoreError) as error:
            self.is_dense = isinstance(error, DenseError)
            self.trouble = str(error)


def _require_sparse(entries: int, read: int, images: int) -> None:
    if entries * images > MOST_ENTRIES * read:
        raise DenseError(
            f"{counted(entries, 'presence')} in {read:,} of {counted(images, 'image')}: too many "
            "to be kept"
        )


def cache_folder(root: Path, content: str) -> Path:
    """Return where the presences of a dataset are kept, by the digest of its content."""
    return root / ".factbook" / "cache" / f"presences-{VERSION}-{content[:32]}"


@contextmanager
def _until_whole(final: Path) -> Iterator[Path]:
    """Make a folder to write to, which is removed unless it gets its name."""
    for folder in final.parent.glob(".presences-*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > ABANDONED:
                shutil.rmtree(folder, ignore_errors=True)
    folder = final.with_name(f".{final.name}.{os.getpid()}-{secrets.token_hex(4)}")
    make_state_folder(folder.parent)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _on_disk(block: Block, path: Path, start: int) -> Block:
    """Write the entries of a block behind those before them; return it with what was written."""
    with open(path, "ab") as file:
        block.entries.tofile(file)
    kept = Block(block.start, block.stop, block.pointer, _mapped(path, start, len(block.entries)))
    kept.__dict__["moments"] = block.moments
    return kept


def _mapped(path: Path, start: int, count: int) -> np.ndarray:
    """Return entries of a file without reading them."""
    if count == 0:
        return np.empty(0, ENTRY)
    return np.memmap(path, ENTRY, "r", offset=start * ENTRY.itemsize, shape=(count,))


def _keep(whole: Presences, folder: Path, final: Path) -> None:
    """Give what was written its name, unless another server was quicker."""
    pointers = np.stack([block.pointer for block in whole.blocks])
    stops = [block.stop for block in whole.blocks]
    np.savez(folder / INDEX, stops=stops, pointers=pointers, moments=whole.moments)
    for name in (ENTRIES, INDEX):
        sync(folder / name)
    with suppress(OSError):
        os.rename(folder, final)
    with suppress(OSError):
        kept = sorted(final.parent.glob("presences-*"), key=lambda own: own.stat().st_mtime)
        for oldest in kept[:-MOST_KEPT]:
            shutil.rmtree(oldest, ignore_errors=True)


def open_kept(folder: Path) -> Presences | None:
    """Return the presences that are kept in a folder; None if there are none, or they are damaged.

    What is damaged is removed.
    """
    if not folder.exists():
        return None
    try:
        with np.load(folder / INDEX, allow_pickle=False) as index:  # with a checksum of each array
            stops, pointers = index["stops"].tolist(), index["pointers"]
            moments = index["moments"]
        total = int(pointers[:, -1].sum())
        if (folder / ENTRIES).stat().st_size != total * ENTRY.itemsize:
            raise ValueError(f"{folder / ENTRIES} has another size than when it was written")
        entries = _mapped(folder / ENTRIES, 0, total)
        of_block = zip([0, *stops[:-1]], stops, pointers, np.cumsum(pointers[:, -1]), strict=True)
        blocks = [Block(a, b, own, entries[end - own[-1] : end]) for a, b, own, end in of_block]
        whole = Presences(stops[-1], tuple(blocks))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    with suppress(OSError):
        os.utime(folder)
    whole.__dict__["moments"] = moments
    return whole
