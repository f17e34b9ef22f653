"""Means, deviations and inner products that no order of inputs can change.

Where a covariance nearly cancels, what a plain sum of products loses is far more than 1e-12 of it.
Here every column is brought to units in which its largest value is about 1, and split as
:mod:`evals.kernels.sums` does. Matrix products of the parts are ordinary ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from scipy import sparse

from evals.kernels.columns import Block, Columns
from evals.kernels.indicators import Indicators
from evals.kernels.ranking import rank_rows
from evals.kernels.statistics import Moments
from evals.kernels.sums import PRODUCT_INPUTS, Rows, Space, sum_true

MANTISSA_BITS = 53
GRIDS = (18, 24, MANTISSA_BITS)  # ranks, labels with 24 bits after the point, anything
WIDEST_LABELS = 24  # bits of a label that leave enough to activations
DESCRIBED_AT_ONCE = 16  # columns


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
    bits : int
        Values in units are multiples of 2 to the power of minus this: `GRIDS` has those tried.
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
    bits: int
    is_binary: bool

    @classmethod
    def of(cls, block: Block) -> Description:
        """Describe the columns of a block."""
        if sparse.issparse(block):
            values = block.data.astype(np.float64, copy=False)
            return cls._of_stored(values, block.indptr, block.shape[0])
        n_inputs, n_columns = block.shape
        parts = []
        for first in range(0, n_columns, DESCRIBED_AT_ONCE):
            part = block[:, first : first + DESCRIBED_AT_ONCE]
            values = np.ravel(part.astype(np.float64, order="F", copy=False), order="F")
            parts.append(cls._of_stored(values, np.arange(part.shape[1] + 1) * n_inputs, n_inputs))
        return cls.join(parts)

    @classmethod
    def _of_stored(cls, values: np.ndarray, starts: np.ndarray, n_inputs: int) -> Description:
        columns = np.empty((6, len(starts) - 1))
        grid, is_binary = _describe(values, starts, n_inputs, _bits(n_inputs), columns)
        shift, exponent, total, rest, deviation, norm = columns
        exponents = exponent.astype(np.int64)
        bits = GRIDS[grid]
        return cls(n_inputs, shift, exponents, total, rest, deviation, norm, bits, is_binary)

    @classmethod
    def of_truth(cls, truth: Indicators) -> Description:
        """Describe columns of 0 and 1."""
        total, n_inputs = truth.totals.astype(np.float64), truth.n_inputs
        nothing = np.zeros(len(total))
        deviation = np.sqrt(total * (n_inputs - total)) / n_inputs
        exponent = nothing.astype(np.int64)
        norm = np.sqrt(total)
        return cls(n_inputs, nothing, exponent, total, nothing, deviation, norm, GRIDS[0], True)

    @classmethod
    def join(cls, parts: Sequence[Description]) -> Description:
        """Put descriptions of columns of the same inputs side by side."""
        names = ("shift", "exponent", "total", "rest", "deviation", "norm")
        joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
        return cls(
            n_inputs=parts[0].n_inputs,
            bits=max(part.bits for part in parts),
            is_binary=all(part.is_binary for part in parts),
            **joined,
        )

    def read(self, values: Block | Columns) -> Rows:
        """Return the values that are described in units, to be read some inputs at a time."""
        return Rows.of(values, self.shift, np.ldexp(1.0, -self.exponent), self.bits)


def cross_moments(
    block: Block, neurons: Description, labels: Columns | Indicators, concepts: Description
) -> Moments:
    """Return the moments of every pair of a neuron and a concept.

    Parameters
    ----------
    block : Block
        (input, neuron) activations.
    neurons : Description
        Of the block.
    labels : Columns or Indicators
        (input, concept) labels, or which inputs are labelled.
    concepts : Description
        Of the labels.
    """
    if isinstance(labels, Indicators):
        bits = MANTISSA_BITS - _bits(neurons.n_inputs)
        product, rest = (sums.T for sums in sum_true(neurons.read(block), labels, bits))
    else:
        product, rest = _product(block, neurons, labels, concepts)
    n_inputs = neurons.n_inputs
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


def thin_moments(
    activations: Sequence[np.ndarray],
    inputs: Sequence[np.ndarray],
    labels: sparse.csr_array,
    ranked: bool,
) -> Moments:
    """Return the moments (neuron, concept) of a few inputs of each neuron, of labels mostly 0.

    They are those of :func:`sample_moments`; of all concepts that are 0 at a neuron's inputs, one
    is looked at.

    Parameters
    ----------
    activations, inputs : sequence of ndarray
        Of each neuron (drawn, 1) in float64, and the indices of the inputs (drawn,).
    labels : sparse.csr_array
        (input, concept).
    ranked : bool
        Whether a concept's midranks among a neuron's inputs stand for its labels.
    """
    columns = np.empty((6, len(inputs), labels.shape[1]))
    _describe_thin(
        np.concatenate(activations)[:, 0],
        np.concatenate(inputs),
        np.cumsum([0, *map(len, inputs)]),
        labels.indptr,
        labels.indices,
        labels.data.astype(np.float64, copy=False),
        ranked,
        columns,
    )
    return Moments(*columns)


def _from_units(values: np.ndarray, neurons: Description, concepts: Description) -> np.ndarray:
    return np.asarray(np.ldexp(values, neurons.exponent[:, None] + concepts.exponent))


def _unshift(inner: np.ndarray, neurons: Description, concepts: Description) -> np.ndarray:
    """Return sums of products of the data from those of shifted columns."""
    activation = np.ldexp(neurons.total, neurons.exponent)[:, None]
    label = np.ldexp(concepts.total, concepts.exponent)
    label_sum = label + neurons.n_inputs * concepts.shift
    return np.asarray(inner + neurons.shift[:, None] * label_sum + activation * concepts.shift)


def _product(
    block: Block, neurons: Description, columns: Columns, concepts: Description
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums of products in units, exact but for a rest, and the rest."""
    bits = MANTISSA_BITS - _bits(neurons.n_inputs)
    label_bits = concepts.bits if bits // 2 < concepts.bits <= WIDEST_LABELS else bits // 2
    activations, labels = neurons.read(block), concepts.read(columns)
    spaces = [Space(PRODUCT_INPUTS, rows.n_columns) for rows in (activations, labels)]
    product = np.zeros((block.shape[1], columns.n_columns))
    rest = np.zeros_like(product)
    whole = activations.is_sparse and labels.is_sparse
    for rows in activations.slabs(neurons.n_inputs if whole else PRODUCT_INPUTS):
        head, tail = activations.split(rows, bits - label_bits, spaces[0])
        label_head, label_tail = labels.split(rows, label_bits, spaces[1])
        product += _dot(head, label_head)
        if neurons.bits > bits - label_bits:
            rest += _dot(tail, label_head)
        if concepts.bits > label_bits:
            rest += _dot(head if tail is None else head + tail, label_tail)
    return product, rest


def _dot(left: Block, right: Block) -> np.ndarray:
    product = left.T @ right
    return np.asarray(product.toarray() if sparse.issparse(product) else product)


@njit(nogil=True, cache=True)
def _describe(values, starts, n_inputs, sum_bits, columns):  # type: ignore[no-untyped-def]
    """Fill in shift, exponent, total, rest, deviation and norm (6, column).

    Returns the index in `GRIDS` of the finest grid that is needed, and whether all is binary.
    """
    grid, is_binary = 0, True
    exact = 2.0 ** (MANTISSA_BITS - sum_bits)
    for column in range(starts.size - 1):
        stored = values[starts[column] : starts[column + 1]]
        n_missing = n_inputs - stored.size
        low, high, n_binary = _find_extremes(stored)
        is_binary &= n_binary == stored.size
        if n_missing:
            low, high = min(low, 0.0), max(high, 0.0)
        shift = _shift(low, high)
        exponent = _exponent(max(abs(low - shift), abs(high - shift)))
        scale = math.ldexp(1.0, -exponent)
        while GRIDS[grid] < MANTISSA_BITS and not _is_on_grid(
            stored, shift, scale, 2.0 ** GRIDS[grid]
        ):
            grid += 1
        head, tail = _sum_terms(stored, shift, scale, 0.0, 1, exact)
        total = head + tail
        mean = total / n_inputs
        # a deviation from the mean may be 2 units, its square 4: 2 bits less
        scatter = _sum_terms(stored, shift, scale, mean, 2, exact / 4)
        mean_square = (scatter[0] + scatter[1] + n_missing * mean**2) / n_inputs
        size = _exponent(max(abs(low), abs(high)))
        square = _sum_terms(stored, 0.0, math.ldexp(1.0, -size), 0.0, 2, exact)
        columns[0, column] = shift
        columns[1, column] = exponent
        columns[2, column] = total
        columns[3, column] = tail - (total - head)
        columns[4, column] = 0.0 if low == high else math.sqrt(mean_square)
        columns[5, column] = math.ldexp(math.sqrt(square[0] + square[1]), size)
    return grid, is_binary


@njit(nogil=True, cache=True)
def _find_extremes(values):  # type: ignore[no-untyped-def]
    """Return the smallest and the largest of some values, and how many are 0 or 1."""
    low, high, n_binary = np.inf, -np.inf, 0
    for value in values:
        low = value if value < low else low
        high = value if value > high else high
        n_binary += (value == 0) | (value == 1)
    return low, high, n_binary


@njit(nogil=True, cache=True)
def _is_on_grid(values, shift, scale, grid):  # type: ignore[no-untyped-def]
    for value in values:
        term = (value - shift) * scale * grid
        if term != np.rint(term):
            return False
    return True


@njit(nogil=True, cache=True, fastmath={"reassoc"})
def _sum_terms(values, shift, scale, centre, power, exact):  # type: ignore[no-untyped-def]
    """Sum powers of values from the centre, in units: exact but for a rest, and the rest.

    Terms are rounded to multiples of ``1 / exact``, whose sum has no rounding in any order.
    """
    total, rest, grain = 0.0, 0.0, 1 / exact
    for i in range(values.size):
        term = (values[i] - shift) * scale - centre
        term = term * term if power == 2 else term
        head = np.floor(term * exact + 0.5)
        total += head
        rest += term - head * grain
    return total * grain, rest


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
def _describe_thin(  # type: ignore[no-untyped-def]
    activations, inputs, starts, row_starts, row_columns, row_values, ranked, columns
):
    """Fill in `Moments` (6, neuron, concept): of each neuron by concepts that are not all 0."""
    place = np.full(columns.shape[2], -1)
    for neuron in range(starts.size - 1):
        own = activations[starts[neuron] : starts[neuron + 1]]
        drawn = inputs[starts[neuron] : starts[neuron + 1]]
        n_stored = 0
        for i in drawn:
            n_stored += row_starts[i + 1] - row_starts[i]
        there, n_there = np.empty(n_stored, np.int64), 0
        few = np.zeros((n_stored + 1, own.size))  # the last one that is used is 0 everywhere
        for i in range(own.size):
            for k in range(row_starts[drawn[i]], row_starts[drawn[i] + 1]):
                concept = row_columns[k]
                if place[concept] < 0:
                    place[concept] = n_there
                    there[n_there] = concept
                    n_there += 1
                few[place[concept], i] = row_values[k]
        few = few[: n_there + 1]
        if ranked:
            rank_rows(few)
        found = np.empty((6, n_there + 1))
        _describe_few(own, few, found)
        for which in range(6):
            columns[which, neuron, :] = found[which, n_there]
            for k in range(n_there):
                columns[which, neuron, there[k]] = found[which, k]
        place[there[:n_there]] = -1


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
