"""Presences and contributions concept by concept, without their zeros.

A dataset holds them image by image, in parts: one concept of 16,384 over 50,000 images took 11 s to
read from it. Here they stand by concept, in blocks of images, so that a concept is some slices, and
its correlation with all others one sparse product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

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
    """

    start: int
    stop: int
    pointer: NDArray[np.int64]
    entries: np.ndarray

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
        """Return the entries of the concept at an index."""
        return self.entries[self.pointer[concept] : self.pointer[concept + 1]]

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
