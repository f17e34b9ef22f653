"""Sums over true inputs that no order of inputs can change.

A plain sum in float64 is off by some 1e-16 of its largest partial sum, in a way that depends on the
order of inputs. Here every value is split into a part with so few bits that sums of it are exact,
and a rest that is smaller by their number (the error-free transformation of Ozaki, Ogita, Oishi and
Rump, Numerical Algorithms 59, 2012).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import sparse

from evals.kernels.columns import Block, Columns, replace, spread, stored
from evals.kernels.indicators import Indicators

DENSE_SUM = 0.2  # above this fraction of true values, a matrix product is faster than adding rows
FEW_RESTS = 0.02  # below this fraction of values with a rest, rests are multiplied sparsely
PRODUCT_INPUTS = 1024  # inputs that are multiplied at once
CACHED_VALUES = 1 << 16  # values whose rows are added while they are in the cache


@dataclass(frozen=True)
class Rows:
    """Numbers (input, column) that are brought to units as they are read: at most 1 in size.

    Attributes
    ----------
    n_inputs, n_columns : int
        Their shape.
    read : callable
        From a slice of inputs to their numbers, a dense or a CSR array (input, column).
    shift, scale : ndarray
        (column,) what is subtracted, and a power of 2 by which the difference is multiplied.
    is_sparse : bool
        Whether CSR arrays are read; these are in units already.
    digits : int
        Binary digits after the point that no value in units has more of, as far as is known.
    """

    n_inputs: int
    n_columns: int
    read: Callable[[slice], Block]
    shift: np.ndarray
    scale: np.ndarray
    is_sparse: bool = False
    digits: int = 1 << 11  # as many as any double

    @classmethod
    def of(cls, values: Block | Columns, shift: np.ndarray, scale: np.ndarray, digits: int) -> Rows:
        """Return rows of numbers that are not in units; a sparse column with zeros has shift 0."""
        shape: tuple[int, int] = values.shape
        if isinstance(values, Columns):
            if not values.is_sparse or shift.any():
                return cls(*shape, values.raw_slab, shift, scale, digits=digits)
            values = values.whole()
        if sparse.issparse(values):
            units = stored(values).astype(np.float64) - spread(values, shift)
            return cls.of_sparse(sparse.csr_array(replace(values, units * spread(values, scale))))
        return cls(*shape, values.__getitem__, shift, scale, digits=digits)

    @classmethod
    def of_sparse(cls, rows: sparse.csr_array) -> Rows:
        """Return the rows of an array that is in units."""
        n_inputs, n_columns = rows.shape
        shift, scale = np.zeros(n_columns), np.ones(n_columns)
        return cls(n_inputs, n_columns, rows.__getitem__, shift, scale, is_sparse=True)

    def slabs(self, size: int) -> Iterator[slice]:
        """Yield consecutive runs of at most ``size`` inputs."""
        for start in range(0, self.n_inputs, size):
            yield slice(start, min(start + size, self.n_inputs))

    def split(self, rows: slice, bits: int, space: Space) -> tuple[Block, Block | None]:
        """Return inputs in units as `split` does, in the space that is given if they are dense.

        Without the second part, if it is known to be 0.
        """
        raw = self.read(rows)
        if self.is_sparse:
            return split(raw, bits)
        head, tail = space.take(*raw.shape)
        if self.digits <= bits:
            if raw.flags.c_contiguous:
                _scale_rows(raw, self.shift, self.scale, head)
                return head, None
            head = head.reshape(raw.shape[::-1]).T
            np.subtract(raw, self.shift, out=head)
            return np.multiply(head, self.scale, out=head), None
        if raw.flags.c_contiguous:
            _split_rows(raw, self.shift, self.scale, anchor(bits), head, tail)
        else:  # by columns, as blocks are
            head, tail = head.reshape(raw.shape[::-1]).T, tail.reshape(raw.shape[::-1]).T
            np.subtract(raw, self.shift, out=tail)
            np.multiply(tail, self.scale, out=tail)
            np.add(tail, anchor(bits), out=head)
            np.subtract(head, anchor(bits), out=head)
            np.subtract(tail, head, out=tail)
        return head, tail


class Space:
    """Memory for two parts of a slab of numbers, used again for every slab."""

    def __init__(self, n_inputs: int, n_columns: int):
        self._parts = np.empty((2, n_inputs * n_columns))

    def take(self, n_inputs: int, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
        """Return two arrays (input, column)."""
        head, tail = self._parts[:, : n_inputs * n_columns]
        return head.reshape(n_inputs, n_columns), tail.reshape(n_inputs, n_columns)


def sum_true(values: Rows, truth: Indicators, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Sum values over the true inputs of every column of truth.

    Parameters
    ----------
    values : Rows
        (input, column), at most 1 in size.
    truth : Indicators
        (input, truth).
    bits : int
        Binary digits after the point of the part of a value that is summed exactly.

    Returns
    -------
    sums, rests : ndarray
        (truth, column) float64: sums of the first parts, exact, and of the rests.
    """
    by_column = not values.is_sparse and truth.share > DENSE_SUM
    shape = (truth.n_columns, values.n_columns)
    sums, rests = (np.zeros(shape, order="F" if by_column else "C") for _ in range(2))
    if values.is_sparse:
        _multiply_sparse(values, truth, bits, sums, rests)
    elif by_column:
        _multiply(values, truth, bits, sums, rests)
    else:
        _add(values, truth, bits, sums, rests)
    return sums, rests


def _multiply(
    values: Rows, truth: Indicators, bits: int, sums: np.ndarray, rests: np.ndarray
) -> None:
    space = Space(PRODUCT_INPUTS, values.n_columns)
    flags = np.empty((PRODUCT_INPUTS, truth.n_columns))
    for rows in values.slabs(PRODUCT_INPUTS):
        head, rest = values.split(rows, bits, space)
        flagged = flags[: len(head)]
        flagged[:] = truth.slab(rows)
        sums.T[:] += head.T @ flagged  # in this order for speed, where values are few columns
        if rest is not None:
            add_rest(rest, flagged, rests.T)


def add_rest(rest: np.ndarray, right: np.ndarray, rests: np.ndarray) -> None:
    """Add ``rest.T @ right`` to ``rests``, at little cost where most of ``rest`` is 0."""
    n_rests = np.count_nonzero(rest)
    if n_rests > FEW_RESTS * rest.size:
        rests += rest.T @ right
    elif n_rests:
        rests += sparse.csr_array(np.ascontiguousarray(rest.T)) @ right


def _multiply_sparse(
    values: Rows, truth: Indicators, bits: int, sums: np.ndarray, rests: np.ndarray
) -> None:
    dense = truth.share > DENSE_SUM
    flags = None if dense else sparse.csr_array(truth.sparse, dtype=np.float64)
    for rows in values.slabs(PRODUCT_INPUTS if dense else values.n_inputs):
        head, rest = split(values.read(rows), bits)
        left = truth.slab(rows).astype(np.float64) if flags is None else flags
        for part, total in ((head, sums), (rest, rests)):
            if part.data.any():
                product = left.T @ part
                total += product.toarray() if sparse.issparse(product) else product


def _add(values: Rows, truth: Indicators, bits: int, sums: np.ndarray, rests: np.ndarray) -> None:
    starts, inputs = truth.true_inputs
    indices = starts[:-1].copy()
    size = max(16, CACHED_VALUES // values.n_columns)
    space = Space(size, values.n_columns)
    for rows in values.slabs(size):
        head, rest = values.split(rows, bits, space)
        begin = indices.copy()
        _add_rows(starts, inputs, indices, rows.start, np.ascontiguousarray(head), sums)
        if rest is not None:
            _add_rows(starts, inputs, begin, rows.start, np.ascontiguousarray(rest), rests)


def split(block: Block, bits: int) -> tuple[Block, Block]:
    """Return a block as multiples of ``2**-bits`` plus a rest of at most half of that.

    Parameters
    ----------
    block : Block
        Values of at most 1 in size.
    bits : int
        Binary digits after the point of the first part.
    """
    values = stored(block)
    head = (values + anchor(bits)) - anchor(bits)
    return replace(block, head), replace(block, values - head)


@njit(nogil=True, cache=True)
def anchor(bits):  # type: ignore[no-untyped-def]
    """Return what rounds to multiples of ``2**-bits`` where it is added and subtracted."""
    return math.ldexp(1.5, 52 - bits)


@njit(nogil=True, cache=True)
def _split_rows(raw, shift, scale, step, head, tail):  # type: ignore[no-untyped-def]
    """Bring numbers (input, column) to units and split them, in one pass."""
    for i in range(raw.shape[0]):
        for j in range(raw.shape[1]):
            unit = (np.float64(raw[i, j]) - shift[j]) * scale[j]
            head[i, j] = (unit + step) - step
            tail[i, j] = unit - head[i, j]


@njit(nogil=True, cache=True)
def _scale_rows(raw, shift, scale, units):  # type: ignore[no-untyped-def]
    """Bring numbers (input, column) to units."""
    for i in range(raw.shape[0]):
        for j in range(raw.shape[1]):
            units[i, j] = (np.float64(raw[i, j]) - shift[j]) * scale[j]


@njit(nogil=True, cache=True)
def _add_rows(starts, inputs, indices, first, values, sums):  # type: ignore[no-untyped-def]
    """Add the rows of a slab's true inputs, which each column goes on to read at its index."""
    for column in range(starts.size - 1):
        total = sums[column]
        index = indices[column]
        while index < starts[column + 1] and inputs[index] < first + values.shape[0]:
            row = values[inputs[index] - first]
            for j in range(row.size):
                total[j] += row[j]
            index += 1
        indices[column] = index
