"""Means, deviations and inner products that no order of inputs can change.

A plain sum of products in float64 is off by some 1e-16 of the largest partial sum, in a way that
depends on the order of inputs and on how they are cut into blocks; where a covariance nearly
cancels, that is far more than 1e-12 of it. Here every column is brought to units in which its
largest value is about 1 and split into a part with so few bits that sums of its products are
exact, and a rest that is smaller by their number (the error-free transformation of Ozaki, Ogita,
Oishi and Rump, Numerical Algorithms 59, 2012). Matrix products of the parts are ordinary ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numba import njit
from scipy import sparse

from evals.columns import Block, Columns, replace, spread, stored

MANTISSA_BITS = 53
SLAB_VALUES = 1 << 21  # labels that are split at once


@dataclass(frozen=True)
class Moments:
    """Population moments of pairs; arrays broadcast to (neuron, concept) or (draw,).

    Attributes
    ----------
    covariance : ndarray
        Mean product of deviations from the mean.
    activation_deviation, label_deviation : ndarray
        Standard deviations, exactly 0 where a column is constant.
    inner : ndarray
        Sum of products.
    activation_norm, label_norm : ndarray
        Roots of the sums of squares.
    """

    covariance: np.ndarray
    activation_deviation: np.ndarray
    label_deviation: np.ndarray
    inner: np.ndarray
    activation_norm: np.ndarray
    label_norm: np.ndarray

    @classmethod
    def stack(cls, parts: Sequence[Moments], undefined: np.ndarray) -> Moments:
        """Put the moments of single neurons (concept,) together, NaN where undefined (neuron,)."""
        joined = {
            field.name: np.stack([getattr(part, field.name) for part in parts])
            for field in fields(cls)
        }
        for values in joined.values():
            values[undefined] = np.nan
        return cls(**joined)


@dataclass(frozen=True)
class Description:
    """What is known of each column of a block; every array is (column,).

    Attributes
    ----------
    n_inputs : int
        Number of inputs.
    shift : ndarray
        What is subtracted first: the value nearest 0 of a column whose values all lie within a
        factor of two, where subtraction is exact; 0 for any other.
    exponent : ndarray
        int; then values are divided by 2 to this power, so that the largest is at most 1.
    total, rest : ndarray
        Sum in these units, and what it lacks to twice the precision.
    deviation : ndarray
        Standard deviation in these units, 0 for a constant column.
    norm : ndarray
        Root of the sum of squares, in units of the data.
    is_binary : bool
        Whether every value is 0 or 1.
    """

    n_inputs: int
    shift: np.ndarray
    exponent: np.ndarray
    total: np.ndarray
    rest: np.ndarray
    deviation: np.ndarray
    norm: np.ndarray
    is_binary: bool

    @classmethod
    def of(cls, block: Block) -> Description:
        """Describe the columns of a block."""
        n_inputs, n_columns = block.shape
        if sparse.issparse(block):
            values, starts = block.data, block.indptr
        else:
            values = np.ravel(block, order="F")
            starts = np.arange(n_columns + 1) * n_inputs
        columns = np.empty((6, n_columns))
        is_binary = _describe(values, starts, n_inputs, _bits(n_inputs), columns)
        shift, exponent, total, rest, deviation, norm = columns
        exponents = exponent.astype(np.int64)
        return cls(n_inputs, shift, exponents, total, rest, deviation, norm, is_binary)

    @classmethod
    def of_columns(cls, columns: Columns, size: int = 64) -> Description:
        """Describe all columns, some at a time."""
        parts = [cls.of(block) for block in columns.blocks(size)]
        names = ("shift", "exponent", "total", "rest", "deviation", "norm")
        joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
        is_binary = all(part.is_binary for part in parts)
        return cls(n_inputs=columns.n_inputs, is_binary=is_binary, **joined)


def cross_moments(
    block: Block, neurons: Description, columns: Columns, concepts: Description
) -> Moments:
    """Return the moments of every pair of a neuron and a concept.

    Parameters
    ----------
    block : Block
        (input, neuron) activations.
    neurons : Description
        Of the block.
    columns : Columns
        (input, concept) labels.
    concepts : Description
        Of the labels.
    """
    n_inputs = neurons.n_inputs
    product, rest = _product(block, neurons, columns, concepts)
    sums, sums_error = _two_product(neurons.total[:, None], concepts.total)
    sums_error += neurons.total[:, None] * concepts.rest + neurons.rest[:, None] * concepts.total
    scaled, scaled_error = _two_product(product, np.float64(n_inputs))
    cross = (scaled - sums) + (scaled_error - sums_error + n_inputs * rest)
    inner = product + rest
    return Moments(
        covariance=_from_units(cross / n_inputs**2, neurons, concepts),
        activation_deviation=np.ldexp(neurons.deviation, neurons.exponent)[:, None],
        label_deviation=np.ldexp(concepts.deviation, concepts.exponent),
        inner=_unshift(_from_units(inner, neurons, concepts), neurons, concepts),
        activation_norm=neurons.norm[:, None],
        label_norm=concepts.norm,
    )


def sample_moments(activations: np.ndarray, labels: np.ndarray) -> Moments:
    """Return the moments (concept,) of a few inputs: activations (input, 1), labels."""
    columns = np.empty((6, labels.shape[1]))
    _describe_few(np.ravel(activations), np.ascontiguousarray(labels.T), columns)
    return Moments(*columns)


def _from_units(values: np.ndarray, neurons: Description, concepts: Description) -> np.ndarray:
    return np.ldexp(values, neurons.exponent[:, None] + concepts.exponent)


def _unshift(inner: np.ndarray, neurons: Description, concepts: Description) -> np.ndarray:
    """Return sums of products of the data from those of shifted columns."""
    activation = np.ldexp(neurons.total, neurons.exponent)[:, None]
    label = np.ldexp(concepts.total, concepts.exponent)
    label_sum = label + neurons.n_inputs * concepts.shift
    return inner + neurons.shift[:, None] * label_sum + activation * concepts.shift


def _product(
    block: Block, neurons: Description, columns: Columns, concepts: Description
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums of products in units, exact but for a rest, and the rest."""
    bits = MANTISSA_BITS - _bits(neurons.n_inputs)
    label_bits = 0 if concepts.is_binary else bits // 2
    units = to_units(block, neurons.shift, neurons.exponent)
    head, tail = split(units, bits - label_bits)
    has_tail = bool(np.any(stored(tail)))
    product = np.zeros((block.shape[1], columns.n_columns))
    rest = np.zeros_like(product)
    for rows, labels, label_head, label_tail in _split_labels(columns, concepts, label_bits):
        product += _dot(head[rows], label_head)
        rest += _dot(tail[rows], labels) if has_tail else 0
        rest += _dot(head[rows], label_tail) if label_tail is not None else 0
    return product, rest


def _split_labels(
    columns: Columns, concepts: Description, bits: int
) -> Iterator[tuple[slice, Block, Block, Block | None]]:
    """Yield the labels in their units, whole and split: some inputs at a time, or all if sparse.

    Binary labels have no second part: ``bits`` is 0.
    """
    if columns.is_sparse and not concepts.shift.any():
        labels = to_units(columns.whole(), concepts.shift, concepts.exponent)
        head, tail = split(labels, bits) if bits else (labels, None)
        yield slice(None), labels, head, tail if tail is not None and tail.data.any() else None
        return
    scale, anchor = np.ldexp(1.0, -concepts.exponent), _anchor(bits)
    size = max(1, SLAB_VALUES // columns.n_columns)
    for start in range(0, columns.n_inputs, size):
        rows = slice(start, min(start + size, columns.n_inputs))
        labels = columns.slab(rows.start, rows.stop)
        if not bits:
            yield rows, labels, labels, None
            continue
        units, head, tail = (np.empty_like(labels) for _ in range(3))
        _split_rows(labels, concepts.shift, scale, anchor, units, head, tail)
        yield rows, units, head, tail if tail.any() else None


def _dot(left: Block, right: Block) -> np.ndarray:
    product = left.T @ right
    return product.toarray() if sparse.issparse(product) else product


def to_units(block: Block, shift: np.ndarray, exponent: np.ndarray) -> Block:
    """Return ``(values - shift) / 2**exponent``, which is exact.

    A sparse column with values that are not stored has shift 0.
    """
    values = stored(block) - spread(block, shift) if shift.any() else stored(block)
    return replace(block, values * spread(block, np.ldexp(1.0, -exponent)))


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
    head = (values + _anchor(bits)) - _anchor(bits)
    return replace(block, head), replace(block, values - head)


@njit(nogil=True, cache=True)
def _anchor(bits):  # type: ignore[no-untyped-def]
    """Return what rounds to multiples of ``2**-bits`` where it is added and subtracted."""
    return math.ldexp(1.5, 52 - bits)


@njit(nogil=True, cache=True)
def _describe(values, starts, n_inputs, sum_bits, columns):  # type: ignore[no-untyped-def]
    """Fill in shift, exponent, total, rest, deviation and norm (6, column); return if binary."""
    is_binary = True
    for column in range(starts.size - 1):
        stored = values[starts[column] : starts[column + 1]]
        n_missing = n_inputs - stored.size
        low, high = (0.0, 0.0) if n_missing else (np.inf, -np.inf)
        for value in stored:
            low, high = min(low, value), max(high, value)
            is_binary &= value == 0 or value == 1
        shift = _shift(low, high)
        exponent = _exponent(max(abs(low - shift), abs(high - shift)))
        head, tail = _sum_terms(stored, shift, exponent, 0.0, 1, MANTISSA_BITS - sum_bits)
        total = head + tail
        mean = total / n_inputs
        # a deviation from the mean may be 2 units, its square 4: 2 bits less
        scatter = _sum_terms(stored, shift, exponent, mean, 2, MANTISSA_BITS - sum_bits - 2)
        mean_square = (scatter[0] + scatter[1] + n_missing * mean**2) / n_inputs
        size = _exponent(max(abs(low), abs(high)))
        square = _sum_terms(stored, 0.0, size, 0.0, 2, MANTISSA_BITS - sum_bits)
        columns[0, column] = shift
        columns[1, column] = exponent
        columns[2, column] = total
        columns[3, column] = tail - (total - head)
        columns[4, column] = 0.0 if low == high else math.sqrt(mean_square)
        columns[5, column] = math.ldexp(math.sqrt(square[0] + square[1]), size)
    return is_binary


@njit(nogil=True, cache=True)
def _sum_terms(values, shift, exponent, centre, power, bits):  # type: ignore[no-untyped-def]
    """Sum powers of values from the centre, in units: exact but for a rest, and the rest."""
    anchor, scale = _anchor(bits), math.ldexp(1.0, -exponent)
    total, rest = 0.0, 0.0
    for value in values:
        term = (value - shift) * scale - centre
        if power == 2:
            term *= term
        head = (term + anchor) - anchor
        total += head
        rest += term - head
    return total, rest


@njit(nogil=True, cache=True)
def _describe_few(activations, labels, columns):  # type: ignore[no-untyped-def]
    """Fill in `Moments` (6, concept) of one neuron and labels (concept, input), a few inputs.

    Columns are centred in the units of `_describe`; sums of so few terms need no splitting.
    """
    n_inputs = activations.size
    a, c = np.empty(n_inputs), np.empty(n_inputs)
    exponent = _centre(activations, a)
    columns[1] = math.ldexp(math.sqrt(_dot_few(a, a) / n_inputs), exponent)
    columns[4] = math.sqrt(_dot_few(activations, activations))
    for j in range(labels.shape[0]):
        label_exponent = _centre(labels[j], c)
        columns[0, j] = math.ldexp(_dot_few(a, c) / n_inputs, exponent + label_exponent)
        columns[2, j] = math.ldexp(math.sqrt(_dot_few(c, c) / n_inputs), label_exponent)
        columns[3, j] = _dot_few(activations, labels[j])
        columns[5, j] = math.sqrt(_dot_few(labels[j], labels[j]))


@njit(nogil=True, cache=True)
def _centre(values, centred):  # type: ignore[no-untyped-def]
    """Fill in values less their mean, in units of a power of 2, and return that: 0 if constant."""
    low, high = values.min(), values.max()
    shift = _shift(low, high)
    exponent = _exponent(max(abs(low - shift), abs(high - shift)))
    scale, total = math.ldexp(1.0, -exponent), 0.0
    for i in range(values.size):
        centred[i] = (values[i] - shift) * scale if low < high else 0.0
        total += centred[i]
    centred -= total / values.size
    return exponent


@njit(nogil=True, cache=True)
def _dot_few(left, right):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(left.size):
        total += left[i] * right[i]
    return total


@njit(nogil=True, cache=True)
def _shift(low, high):  # type: ignore[no-untyped-def]
    """Return the value nearest 0 where all are within a factor of two, and not all equal, or 0."""
    if low < high and low > 0 and high <= 2 * low:
        return low
    if low < high < 0 and low >= 2 * high:
        return high
    return 0.0


@njit(nogil=True, cache=True)
def _exponent(largest):  # type: ignore[no-untyped-def]
    """Return the least int e with ``largest <= 2**e``, 0 for 0."""
    fraction, exponent = math.frexp(largest)
    return exponent - (fraction == 0.5)


@njit(nogil=True, cache=True)
def _split_rows(rows, shift, scale, anchor, units, head, tail):  # type: ignore[no-untyped-def]
    """Bring labels (input, concept) to their units and split them, in one pass."""
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            unit = (rows[i, j] - shift[j]) * scale[j]
            units[i, j] = unit
            head[i, j] = (unit + anchor) - anchor
            tail[i, j] = unit - head[i, j]


def _bits(n_inputs: int) -> int:
    return math.ceil(math.log2(n_inputs))


def _two_product(left: np.ndarray, right: np.ndarray | np.float64) -> tuple[np.ndarray, np.ndarray]:
    """Return the product and its rounding error (Dekker 1971)."""
    product = left * right
    left_head, left_tail = _halve(left)
    right_head, right_tail = _halve(right)
    error = left_head * right_head - product
    error += left_head * right_tail + left_tail * right_head
    return product, error + left_tail * right_tail


def _halve(value: Any) -> tuple[np.ndarray, np.ndarray]:
    scaled = value * 134217729.0  # 2**27 + 1
    head = scaled - (scaled - value)
    return head, value - head
