"""Columns of numbers over inputs, from whatever array holds them, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
from scipy import sparse

from registry.arrays import require_unit_interval, to_plain
from registry.wording import counted

SPARSE_DENSITY = 0.05  # below this fraction of values that are not 0, a column is kept sparse
SLAB_BYTES = 1 << 26  # what is read of a lazy array at once
RESIDENT_BYTES = 1 << 29  # a lazy array up to this size is read once and kept
FAR = 500  # powers of 2 up to which squares and products of values are ordinary numbers
TURNED_INPUTS = 512  # inputs that are put in column order at once, while they are in the cache

Block: TypeAlias = Any
"""(input, column) floats: a dense array in column order, or a `scipy.sparse.csc_array`."""


class Columns:
    """An (input, column) array of numbers, read by blocks of columns.

    Whether it is kept dense or sparse depends on its values alone, never on what held them, so
    that results do not either.

    Parameters
    ----------
    source : array
        (input, column): an array of any library, of booleans, integers or floats.
    name : str
        What to call it in errors.
    inputs, names : sequence, optional
        Names of inputs and of columns, by which draws are made; their indices by default.
    are_labels : bool
        Whether every number has to be 0 or 1, or a probability.

    Raises
    ------
    ValueError
        If it is not two-dimensional, is empty, or holds NaN or infinity.
    RangeError
        If labels lie outside [0, 1].
    TypeError
        If it holds no real numbers.
    """

    def __init__(
        self,
        source: Any,
        name: str = "array",
        inputs: Sequence[Any] | np.ndarray | None = None,
        names: Sequence[Any] | np.ndarray | None = None,
        *,
        are_labels: bool = False,
    ):
        self.name = name
        self._are_labels = are_labels
        self._source = _admit(source, name)
        self.shape = self.n_inputs, self.n_columns = self._source.shape
        self.inputs = range(self.n_inputs) if inputs is None else inputs
        self.names = range(self.n_columns) if names is None else names
        if not self._is_lazy:
            self._check(self._source)

    def __repr__(self) -> str:
        return (
            f"Columns({self.name!r}, {counted(self.n_inputs, 'input')} x "
            f"{counted(self.n_columns, 'column')})"
        )

    @property
    def is_sparse(self) -> bool:
        """Whether only values that are not 0 are kept."""
        return bool(sparse.issparse(self._source))

    @property
    def dtype(self) -> np.dtype:
        """Of the numbers, as they are held."""
        held: np.dtype = self._source.dtype
        return held

    @property
    def _is_lazy(self) -> bool:
        return not (self.is_sparse or isinstance(self._source, np.ndarray))

    def _check(self, values: Any) -> None:
        _require_finite(values, self.name)
        if self._are_labels:
            require_unit_interval(stored(values), self.name)

    def block(self, start: int, stop: int, dtype: type[np.floating] | None = np.float64) -> Block:
        """Return columns ``start`` to ``stop``, as float32 or float64 for ``dtype=None``.

        The smaller of both is returned where it holds every value of the source's type.
        """
        part = self._source[:, start:stop]
        kind = np.promote_types(part.dtype, np.float32) if dtype is None else dtype
        if self.is_sparse:
            return part.astype(kind)
        if self._is_lazy:
            part = np.asarray(part)
            self._check(part)
        return by_column(np.asarray(part, dtype=kind))

    def slices(self, size: int) -> list[slice]:
        """Return consecutive runs of at most ``size`` columns."""
        starts = range(0, self.n_columns, size)
        return [slice(start, min(start + size, self.n_columns)) for start in starts]

    def take(self, inputs: np.ndarray) -> Columns:
        """Return the columns of some inputs, by position (input,)."""
        names = np.asarray(self.inputs, dtype=object)[inputs]
        return self._copy(self._source[inputs], names)

    def permuted(self, orders: np.ndarray) -> Columns:
        """Return the columns once for each order of the inputs (order, input), side by side.

        Inputs keep their names: at input i of each order stands what input ``orders[…, i]`` had.
        """
        return Columns(reorder(self.load()._source, orders), self.name, self.inputs)

    def load(self) -> Columns:
        """Return the columns in memory, for arrays that are read again and again."""
        return self._copy(np.asarray(self._source), self.inputs) if self._is_lazy else self

    def _copy(self, source: Any, inputs: Sequence[Any] | np.ndarray) -> Columns:
        is_open = self._is_lazy and self._are_labels  # what was in memory has been checked
        return Columns(source, self.name, inputs, self.names, are_labels=is_open)

    def rows(self, inputs: np.ndarray) -> np.ndarray:
        """Return some inputs of all columns, dense float64 (input, column)."""
        rows = (self.by_input if self.is_sparse else self._source)[inputs]
        return np.asarray(rows.toarray() if self.is_sparse else rows, dtype=np.float64)

    @cached_property
    def by_input(self) -> sparse.csr_array:
        """What is not 0 of sparse columns, by inputs."""
        return sparse.csr_array(self._source)

    def slab(self, start: int, stop: int) -> np.ndarray:
        """Return inputs ``start`` to ``stop`` of all columns, as dense float64."""
        part = self._source[start:stop]
        return np.asarray(part.toarray() if self.is_sparse else part, dtype=np.float64, order="C")

    def raw_slab(self, inputs: slice) -> np.ndarray:
        """Return inputs of all columns, dense (input, column), as they are held where they are."""
        if self.is_sparse:
            return self.slab(inputs.start, inputs.stop)
        rows = self._source[inputs]
        return np.ascontiguousarray(rows, None if rows.dtype.itemsize >= 4 else np.float32)

    def whole(self) -> sparse.csc_array:
        """Return all columns of a sparse array, as float64."""
        return self._source.astype(np.float64)


class LabelSet(Protocol):
    """Labels of concepts that are read a few concepts at a time: `Columns` are such."""

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""

    @property
    def n_columns(self) -> int:
        """Number of concepts."""

    def block(self, start: int, stop: int) -> Block:
        """Return concepts ``start`` to ``stop`` (input, concept) as float64."""


def by_column(rows: np.ndarray) -> np.ndarray:
    """Return an (input, column) array in column order, itself where it is."""
    if rows.flags.f_contiguous:
        return rows
    turned = np.empty(rows.shape[::-1], dtype=rows.dtype)
    for start in range(0, len(rows), TURNED_INPUTS):
        turned[:, start : start + TURNED_INPUTS] = rows[start : start + TURNED_INPUTS].T
    return turned.T


def _admit(source: Any, name: str) -> Any:
    source = to_plain(source)
    if source.ndim != 2 or 0 in source.shape:
        raise ValueError(f"{name}: expected (input, column), not empty; got shape {source.shape}")
    if source.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected booleans or real numbers; got dtype {source.dtype}")
    # what numba and BLAS know: the machine's own order of bytes, no more than double precision
    wide = source.dtype.itemsize > 8
    source = source.astype(np.float64 if wide else source.dtype.newbyteorder("="), copy=False)
    return _read(source) if hasattr(source, "dask") else _thin(source)


def _thin(source: Any) -> np.ndarray | sparse.csc_array:
    """Return a sparse array where few values are not 0, a dense one otherwise."""
    if sparse.issparse(source):
        thin = sparse.csc_array(source, copy=source.format == "csc")  # what follows is in place
        thin.sum_duplicates()
        thin.eliminate_zeros()
        return thin if _is_thin(thin.nnz, source.shape) else thin.toarray()
    is_thin = _is_thin(int(np.count_nonzero(source)), source.shape)
    return sparse.csc_array(source) if is_thin else source


def _is_thin(n_stored: int, shape: tuple[int, int]) -> bool:
    return n_stored <= SPARSE_DENSITY * shape[0] * shape[1]


def _read(lazy: Any) -> Any:
    """Return a dask array in memory where it fits there, sparse or dense; itself otherwise."""
    parts, n_stored = [], 0
    rows = max(1, SLAB_BYTES // max(1, lazy.shape[1] * lazy.dtype.itemsize))
    for start in range(0, lazy.shape[0], rows):
        if not _is_thin(n_stored, lazy.shape):
            return np.asarray(lazy) if lazy.nbytes <= RESIDENT_BYTES else lazy
        parts.append(sparse.csr_array(np.asarray(lazy[start : start + rows])))
        n_stored += parts[-1].nnz
    return _thin(sparse.vstack(parts, format="csc"))


def _require_finite(values: Any, name: str) -> None:
    stored = values.data if sparse.issparse(values) else values
    if stored.dtype.kind == "f" and not np.isfinite(stored).all():
        wrong = int(np.count_nonzero(~np.isfinite(stored)))
        raise ValueError(
            f"{name}: {counted(wrong, 'value is', 'values are')} NaN or infinite; expected numbers"
        )


def stored(block: Block) -> np.ndarray:
    """Return the values that a block stores: (input, column), or (stored,) where sparse."""
    return np.asarray(block.data if sparse.issparse(block) else block)


def spread(block: Block, numbers: np.ndarray) -> np.ndarray:
    """Return one number per column in the shape that broadcasts against `stored`."""
    return np.repeat(numbers, np.diff(block.indptr)) if sparse.issparse(block) else numbers


def replace(block: Block, values: np.ndarray) -> Block:
    """Return a block with other stored values."""
    if sparse.issparse(block):
        return type(block)((values, block.indices, block.indptr), shape=block.shape)
    return values


def bring_to_range(block: Block) -> tuple[Block, np.ndarray]:
    """Return a block in which no column's largest value is tiny or huge, and what was divided by.

    Parameters
    ----------
    block : Block
        (input, column). Values that are denormal have few digits, and so has what is computed of
        them; here each column keeps all that it has.

    Returns
    -------
    block : Block
        Itself where nothing is to be done.
    exponents : ndarray of int
        (column,) the power of 2 that each column was divided by, 0 for most.
    """
    exponents = np.zeros(block.shape[1], dtype=np.int64)
    if block.dtype.itemsize > 4:  # single precision does not reach so far
        low, high = extremes(block)
        sizes = np.frexp(np.maximum(np.abs(low), np.abs(high)))[1]
        exponents = np.where(np.abs(sizes) > FAR, sizes, 0).astype(np.int64)
    if exponents.any():
        block = replace(block, np.ldexp(stored(block), -spread(block, exponents)))
    return block, exponents


def extremes(block: Block) -> tuple[np.ndarray, np.ndarray]:
    """Return smallest and largest value of each column, values that are not stored included."""
    if not sparse.issparse(block):
        return block.min(axis=0), block.max(axis=0)
    return block.min(axis=0).toarray().ravel(), block.max(axis=0).toarray().ravel()


def count_above_smallest(block: Block) -> np.ndarray:
    """Return how many values of each column exceed its smallest one, 0 for a constant column."""
    low, _ = extremes(block)
    if not sparse.issparse(block):
        return np.asarray(np.count_nonzero(block > low, axis=0))
    n_above = np.diff(block.indptr) - _count_stored(block, block.data <= spread(block, low))
    return np.asarray(n_above + np.where(low < 0, block.shape[0] - np.diff(block.indptr), 0))


def _count_stored(block: Block, flags: np.ndarray) -> np.ndarray:
    """Count the flags (stored,) in each column of a sparse block."""
    return np.diff(np.concatenate([[0], np.cumsum(flags)])[block.indptr])


def reorder(block: Block, orders: np.ndarray) -> Block:
    """Return a block once for each order of its inputs (order, input), side by side."""
    if sparse.issparse(block):
        rows = sparse.csr_array(block)
        return sparse.hstack([rows[order] for order in orders], format="csc")
    return block[orders.T].reshape(block.shape[0], -1)


def read_column(block: Block, column: int) -> np.ndarray:
    """Return one column of a block, (input,), dense."""
    if sparse.issparse(block):
        return np.asarray(block[:, [column]].toarray().ravel())
    return np.asarray(block[:, column])


def stack_columns(blocks: Sequence[Block]) -> Block:
    """Put the columns of blocks side by side: sparse where all are, dense otherwise."""
    if not all(sparse.issparse(block) for block in blocks):
        dense = [block.toarray() if sparse.issparse(block) else block for block in blocks]
        return np.asfortranarray(np.hstack(dense))
    n_stored = np.concatenate([[0], *(np.diff(block.indptr) for block in blocks)])
    values, inputs = (
        np.concatenate([getattr(block, what) for block in blocks]) for what in ("data", "indices")
    )
    shape = (blocks[0].shape[0], len(n_stored) - 1)
    return sparse.csc_array((values, inputs, np.cumsum(n_stored)), shape=shape)
