"""The content digest of a dataset: of its names, dimensions, dtypes and values, nothing else.

Two files with the same labelled numbers have the same digest, whatever their attributes,
compression, chunks and parts; one bit of one value changes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.store.durable import StoreError, canonical_json
from registry.store.schema import STORED_DTYPES, dtype_name

if TYPE_CHECKING:
    import xarray as xr

BLOCK_BYTES = 32 * 2**20
"""How much of a variable is held at once; one chunk along the first dimension at least."""


def content_digest(dataset: xr.Dataset) -> str:
    """Return the SHA-256 over names, dimensions, dtypes and values, in hexadecimal digits.

    Variables are read in blocks along their first dimension, so that a dataset larger than memory
    can be digested.

    Parameters
    ----------
    dataset : xr.Dataset
        In memory, lazy, or of dask arrays: the digest is the same.

    Raises
    ------
    TypeError
        If a variable is of a dtype that is not stored.
    """
    digest = ContentDigest()
    digest.update(dataset)
    return digest.hexdigest()


@dataclass
class VariableDigest:
    """The running digest of one variable, fed with its values in C order."""

    is_coord: bool
    dims: tuple[str, ...]
    dtype: str
    shape: tuple[int, ...]
    hash: Any = field(default_factory=hashlib.sha256)

    def feed(self, block: np.ndarray) -> None:
        """Feed the next values."""
        self.hash.update(value_bytes(block))

    def row(self) -> list[Any]:
        """Return what stands for this variable in the digest of the dataset."""
        return [self.is_coord, self.dims, self.dtype, self.shape, self.hash.hexdigest()]


class ContentDigest:
    """A content digest that is fed piece by piece.

    Parameters
    ----------
    along : str or None
        The dimension along which datasets follow each other; first where a variable has it.
    """

    def __init__(self, along: str | None = None):
        self._along = along
        self._variables: dict[str, VariableDigest] = {}

    def update(self, dataset: xr.Dataset) -> None:
        """Feed a dataset, or the next part of one.

        Raises
        ------
        StoreError
            If a variable does not go with that of an earlier part.
        """
        for name, variable in dataset.variables.items():
            running = self.begin(str(name), variable, name in dataset.coords)
            for _, block in blocks(variable):
                running.feed(block)
            self.end(str(name), running)

    def begin(self, name: str, variable: xr.Variable, is_coord: bool) -> VariableDigest:
        """Return what takes the values of one variable, until :meth:`end`."""
        dtype = dtype_name(variable.dtype)
        if dtype not in STORED_DTYPES:
            raise TypeError(f"{name!r} is {dtype}; expected one of {', '.join(STORED_DTYPES)}")
        new = VariableDigest(is_coord, tuple(map(str, variable.dims)), dtype, variable.shape)
        old = self._variables.get(name)
        if old is None or self._along not in new.dims:
            return new
        if (old.dims, old.dtype, old.shape[1:]) != (new.dims, new.dtype, new.shape[1:]):
            raise StoreError(
                f"{name!r} is {new.dtype} {new.dims} {new.shape}; "
                f"earlier parts have {old.dtype} {old.dims} {old.shape}"
            )
        old.shape = (old.shape[0] + new.shape[0], *old.shape[1:])
        return old

    def end(self, name: str, running: VariableDigest) -> None:
        """Take in a variable; one that does not grow must be the same in all parts."""
        old = self._variables.setdefault(name, running)
        if old.row() != running.row():
            raise StoreError(f"{name!r} differs from that of earlier parts; expected the same")

    def rows(self) -> dict[str, list[Any]]:
        """Return what the digest is made from, by variable."""
        return {name: variable.row() for name, variable in self._variables.items()}

    def differing(self, other: ContentDigest) -> list[str]:
        """Return the names of the variables that are not the same in both."""
        ours, theirs = self.rows(), other.rows()
        return sorted(name for name in ours.keys() | theirs if ours.get(name) != theirs.get(name))

    def hexdigest(self) -> str:
        """Return the digest of what was fed so far."""
        return hashlib.sha256(canonical_json(self.rows()).encode()).hexdigest()


def blocks(
    variable: xr.Variable, step: int = 1, most: int | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield a variable block by block along its first dimension, as slices and values.

    Parameters
    ----------
    variable : xr.Variable
        Of any kind; dask arrays are computed a block at a time, and a chunk is computed once
        unless it is larger than eight blocks. A scalar is one block.
    step : int
        Blocks of an array without chunks are multiples of this many rows.
    most : int, optional
        Bytes of a block; :data:`BLOCK_BYTES` by default, and `step` rows at least.
    """
    if variable.ndim == 0:
        yield slice(None), np.asarray(variable.values)
        return
    start = 0
    for stop in _edges(variable, step, BLOCK_BYTES if most is None else most):
        yield slice(start, stop), np.asarray(variable[start:stop].values)
        start = stop


def _edges(variable: xr.Variable, step: int, most_bytes: int) -> Iterator[int]:
    length = variable.shape[0]
    row_bytes = max(1, variable.nbytes // max(1, length))
    most = max(1, most_bytes // row_bytes)
    if variable.chunks is None:
        rows = max(step, most - most % step)
        yield from (min(stop, length) for stop in range(rows, length + rows, rows))
    else:
        yield from _group(variable.chunks[0], most)


def _group(chunks: Iterable[int], most: int) -> Iterator[int]:
    """Yield the ends of groups of chunks of at most `most` rows; only huge chunks are cut."""
    start = stop = 0
    for rows in chunks:
        if stop > start and stop + rows - start > most:
            yield stop
            start = stop
        stop += rows
        while stop - start > 8 * most:
            start += most
            yield start
    if stop > start:
        yield stop


def is_same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether numbers of one dtype are the same, of NaN and of 0 every bit."""
    return np.array_equal(np.asarray(value_bytes(one)), np.asarray(value_bytes(other)))


def value_bytes(block: np.ndarray) -> bytes | memoryview:
    """Return values as bytes that do not depend on the machine, or on how strings are held."""
    if dtype_name(block.dtype) == "str":
        return _text_bytes(block.ravel().tolist())
    block = block.astype(block.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(block).reshape(-1).view(np.uint8).data


def _text_bytes(values: list[Any]) -> bytes:
    """Return strings end to end, each closed by the NUL that netCDF strings cannot hold."""
    strange = set(map(type, values)) - {str}
    if strange:
        names = ", ".join(sorted(kind.__name__ for kind in strange))
        raise TypeError(f"got {names} among strings; expected str alone")
    text = "\0".join([*values, ""])
    if text.count("\0") > len(values):
        raise ValueError("got a string with a NUL character, which netCDF cannot store")
    return text.encode()
