"""Presences and contributions concept by concept, without their zeros, and as they lie on the disk.

A dataset holds them image by image, in parts: one concept of 16,384 over 50,000 images took 11 s to
read from it, and a reader who wants any number of them reads all of it. Here they stand by concept,
in blocks of images, so that a concept is some slices, and its correlation with all others one
sparse product.

Of a large dataset they are laid down beside it when it is made, a block in memory at a time. No
manifest lists what can be made again: it changes no digest, and where it is missing or damaged,
readers read the dataset once, as they do those that were made before.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from registry.store.durable import StoreError, make_state_folder, sync
from registry.wording import counted

FOLDER = "by-concept"
ENTRIES, INDEX = "entries.bin", "index.npz"

SMALL_CELLS = 2**24
"""Images times concepts up to which a dataset is read at once, in half a second, and not kept."""

MOST_ENTRIES = 80_000_000
"""Entries that are kept: 1 GB. A layer's own channels are present everywhere, and may have more."""

ABANDONED = 86_400.0
"""Seconds after which what a stopped process left unfinished is removed."""

ENTRY = np.dtype([("row", "<i4"), ("presence", "<f4"), ("contribution", "<f4")])
"""One concept in one image: the image's index in the dataset, presence, contribution."""

BLOCK_CELLS = 2**23
"""Images times concepts of a block: 32 MB of each variable while it is read."""

READ_CELLS = 2**20
"""The same of one reading; other readers wait for no more, since HDF5 serves one at a time."""


@dataclass(frozen=True)
class Block:
    """The concepts of some images that follow each other.

    Attributes
    ----------
    start, stop : int
        Indices of the images: of the first, and after the last.
    pointer : ndarray of int64, (concept + 1,)
        Where the entries of each concept begin.
    entries : ndarray of `ENTRY`
        Concept by concept, in the order of images.
    expected : ndarray of uint32, (concept,), or None
        CRC-32 of each concept's entries as they were written.
    """

    start: int
    stop: int
    pointer: NDArray[np.int64]
    entries: np.ndarray
    expected: NDArray[np.uint32] | None = None

    @classmethod
    def of(cls, start: int, presence: np.ndarray, contribution: np.ndarray | None = None) -> Block:
        """Return the block of dense arrays (image, concept); entries are where one is not 0.

        Neurons that are no concepts have no contribution; it is 0.
        """
        contribution = np.zeros_like(presence) if contribution is None else contribution
        concepts, rows = np.nonzero(((presence != 0) | (contribution != 0)).T)
        counts = np.bincount(concepts, minlength=presence.shape[1])
        entries = np.empty(len(rows), ENTRY)
        entries["row"] = rows + start
        entries["presence"] = presence[rows, concepts]
        entries["contribution"] = contribution[rows, concepts]
        pointer = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(start, start + len(presence), pointer, entries)

    def column(self, concept: int) -> np.ndarray:
        """Return the entries of the concept at an index.

        Raises
        ------
        StoreError
            If they are not as they were written.
        """
        entries = self.entries[self.pointer[concept] : self.pointer[concept + 1]]
        if self.expected is not None and zlib.crc32(entries.tobytes()) != self.expected[concept]:
            raise StoreError(f"entries of images {self.start:,} to {self.stop:,} are damaged")
        return entries

    def checksums(self) -> NDArray[np.uint32]:
        """Return the CRC-32 of each concept's entries, (concept,)."""
        if self.expected is not None:
            return self.expected
        content, bounds = self.entries.tobytes(), self.pointer * ENTRY.itemsize
        pairs = pairwise(bounds)
        return np.array([zlib.crc32(content[a:b]) for a, b in pairs], np.uint32)

    @cached_property
    def moments(self) -> NDArray[np.float64]:
        """Sum and sum of squares of each concept's presences, (2, concept)."""
        ones = np.ones(self.stop - self.start)
        return np.stack([self.product(ones), self.product(ones, squared=True)])

    def product(self, values: NDArray[np.float64], squared: bool = False) -> NDArray[np.float64]:
        """Return the sum over images of presence, or its square, times a value, (concept,)."""
        presence = self.entries["presence"].astype(np.float64)
        matrix = sparse.csc_matrix(
            (presence**2 if squared else presence, self.entries["row"] - self.start, self.pointer),
            shape=(self.stop - self.start, len(self.pointer) - 1),
        )
        return np.asarray(matrix.T @ values)


@dataclass(frozen=True)
class Presences:
    """All concepts in the images that were read so far.

    Attributes
    ----------
    n_images : int
        Images of the dataset.
    blocks : sequence of Block
        From the first image, without a gap.
    """

    n_images: int
    blocks: Sequence[Block]

    @property
    def n_read(self) -> int:
        """Images that were read."""
        return self.blocks[-1].stop if self.blocks else 0

    @property
    def is_whole(self) -> bool:
        """Whether all images were read."""
        return self.n_read == self.n_images

    def column(self, concept: int) -> np.ndarray:
        """Return the entries of the concept at an index, in the order of images.

        Parameters
        ----------
        concept : int
            Its index in the dataset.

        Returns
        -------
        ndarray of `ENTRY`
            One per image in which it is present or contributes.
        """
        found = [block.column(concept) for block in self.blocks]
        return np.concatenate(found) if found else np.empty(0, ENTRY)

    @cached_property
    def moments(self) -> NDArray[np.float64]:
        """Sum and sum of squares of each concept's presences, (2, concept)."""
        return np.asarray(np.sum([block.moments for block in self.blocks], axis=0))

    def correlations(self, concept: int) -> NDArray[np.float64]:
        """Return Pearson's correlation of presences, of one concept with every one.

        Parameters
        ----------
        concept : int
            Its index in the dataset.

        Returns
        -------
        ndarray, (concept,)
            In [-1, 1]; NaN for a concept that is the same in all images that were read.
        """
        total, square = self.moments
        count = self.n_read
        products = np.zeros(len(total))
        for block in self.blocks:
            own = np.zeros(block.stop - block.start)
            column = block.column(concept)
            own[column["row"] - block.start] = column["presence"]
            products += block.product(own)
        covariance = products - total * total[concept] / count
        variance = square - total**2 / count
        variance[variance <= 1e-12 * square] = np.nan  # the same in all images, up to rounding
        return np.asarray(np.clip(covariance / np.sqrt(variance * variance[concept]), -1, 1))


def read_blocks(concepts: xr.Dataset, cells: int = BLOCK_CELLS) -> Iterator[Block]:
    """Read a dataset image by image, and yield its blocks; HDF5 is held only briefly at a time.

    Parameters
    ----------
    concepts : xr.Dataset
        Of the schema ``concepts``: ``presence`` and ``contribution`` (image, concept), which
        neurons lack that are no concepts.
    cells : int
        Images times concepts of a block.
    """
    n_images, n_concepts = concepts.sizes["image"], max(concepts.sizes["concept"], 1)
    step, reading = max(1, cells // n_concepts), max(1, READ_CELLS // n_concepts)
    for start in range(0, n_images, step):
        stop = min(start + step, n_images)
        dense = [
            np.concatenate(
                [
                    read_rows(concepts[name], first, min(first + reading, stop))
                    for first in range(start, stop, reading)
                ]
            )
            for name in ("presence", "contribution")
            if name in concepts
        ]
        yield Block.of(start, *dense)


def read_rows(array: xr.DataArray, start: int, stop: int) -> np.ndarray:
    """Read images (image, concept) in this thread, whatever scheduler dask has."""
    values = array.transpose("image", "concept").isel(image=slice(start, stop))
    return values.compute(scheduler="synchronous").values if values.chunks else values.values


def read_presences(concepts: xr.Dataset) -> Presences:
    """Return all presences of a small dataset, in memory."""
    return Presences(concepts.sizes["image"], tuple(read_blocks(concepts)))


def read_alone(concepts: xr.Dataset, index: int) -> Presences:
    """Return the presences of one concept, which is at index 0 then.

    Quick where concepts are few: one of 2,048 channels over 50,000 images.

    Parameters
    ----------
    concepts : xr.Dataset
        Of the schema ``concepts``.
    index : int
        Of the concept, in the dataset.
    """
    dense = [
        concepts[name].transpose("image", "concept").isel(concept=[index]).values
        for name in ("presence", "contribution")
        if name in concepts
    ]
    n_images = concepts.sizes["image"]
    return Presences(n_images, (Block.of(0, *dense),))


# -- on the disk ------------------------------------------------------------------------------


class DenseError(StoreError):
    """Presences that are too many to be kept without their zeros."""


def lay_down(
    concepts: xr.Dataset, folder: Path, check: Callable[[], object] = lambda: None
) -> None:
    """Write the presences of a large dataset by concept; nothing of one that is quickly read.

    Parameters
    ----------
    concepts : xr.Dataset
        Of the schema ``concepts``, which need not be in memory.
    folder : Path
        In which `FOLDER` is made: whole, or not at all.
    check : callable
        Called between two blocks; what it raises ends it.

    Raises
    ------
    DenseError
        If there are too many to be kept.
    OSError
        If the disk is full.
    """
    if concepts.sizes["image"] * concepts.sizes["concept"] > SMALL_CELLS:
        for _ in kept_blocks(concepts, folder / FOLDER):
            check()


def kept_blocks(concepts: xr.Dataset, final: Path) -> Iterator[Presences]:
    """Read a dataset block by block into a folder; yield what was read so far, at last the whole.

    The folder gets its name when all is there. What was read stays open, whatever becomes of it.

    Raises
    ------
    DenseError
        If there are too many to be kept.
    OSError
        If the disk is full.
    """
    n_images, blocks = concepts.sizes["image"], list[Block]()
    n_entries = 0
    with _until_whole(final) as folder:
        for block in read_blocks(concepts):
            blocks.append(_on_disk(block, folder / ENTRIES, n_entries))
            n_entries += len(block.entries)
            if n_entries * n_images > MOST_ENTRIES * block.stop:
                raise DenseError(
                    f"{counted(n_entries, 'presence')} in {block.stop:,} of "
                    f"{counted(n_images, 'image')}: too many to be kept"
                )
            if block.stop < n_images:
                yield Presences(n_images, tuple(blocks))
        whole = Presences(n_images, tuple(blocks))
        _keep(whole, folder, final)
    yield whole


@contextmanager
def _until_whole(final: Path) -> Iterator[Path]:
    """Make a folder to write to, which is removed unless it gets its name."""
    for folder in final.parent.glob(f".{final.name.partition('-')[0]}-*"):
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
    entries = _mapped(path, start, len(block.entries))
    kept = Block(block.start, block.stop, block.pointer, entries, block.checksums())
    kept.__dict__["moments"] = block.moments
    return kept


def _mapped(path: Path, start: int, count: int) -> np.ndarray:
    """Return entries of a file without reading them."""
    if count == 0:
        return np.empty(0, ENTRY)
    return np.memmap(path, ENTRY, "r", offset=start * ENTRY.itemsize, shape=(count,))


def _keep(whole: Presences, folder: Path, final: Path) -> None:
    """Give what was written its name, unless another process was quicker."""
    pointers = np.stack([block.pointer for block in whole.blocks])
    checksums = np.stack([block.checksums() for block in whole.blocks])
    stops = [block.stop for block in whole.blocks]
    np.savez(
        folder / INDEX,
        stops=stops,
        pointers=pointers,
        checksums=checksums,
        moments=whole.moments,
    )
    for name in (ENTRIES, INDEX):
        sync(folder / name)
    with suppress(OSError):
        os.rename(folder, final)


def open_kept(folder: Path) -> Presences | None:
    """Return the presences that are kept in a folder; None if there are none, or they are damaged.

    Lengths, and the checksum of the index, are compared at once; those of a concept's entries
    where they are read.
    """
    try:
        with np.load(folder / INDEX, allow_pickle=False) as index:  # with a checksum of each array
            stops, pointers = index["stops"].tolist(), index["pointers"]
            moments, checksums = index["moments"], index["checksums"]
        total = int(pointers[:, -1].sum())
        if (folder / ENTRIES).stat().st_size != total * ENTRY.itemsize:
            return None
        entries = _mapped(folder / ENTRIES, 0, total)
        ends = np.cumsum(pointers[:, -1])
        rows = zip([0, *stops[:-1]], stops, pointers, ends, checksums, strict=True)
        blocks = [
            Block(a, b, own, entries[end - own[-1] : end], sums) for a, b, own, end, sums in rows
        ]
        whole = Presences(stops[-1], tuple(blocks))
    except (OSError, ValueError, KeyError, IndexError, EOFError, BadZipFile):
        return None
    whole.__dict__["moments"] = moments
    return whole
