"""Inputs in order of a score, and what is found on the way down: counts and precision.

A column is sorted once; one walk down its inputs then serves all columns of truth at once. The
inputs at a column's smallest value are never stored: whatever is found there follows from the
totals, and a sparse column costs its stored values alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numba import njit
from scipy import sparse

from evals.kernels.bit_lanes import LANES, STATE, UNROLLED, advance, count_bits, make_state
from evals.kernels.columns import SPARSE_DENSITY, Block
from evals.kernels.indicators import Indicators
from evals.kernels.statistics import count_top, require_binary

DENSE_COUNT = 0.01  # above this fraction of true values, counting bits is faster than lists
STEPS_AT_ONCE = 256  # steps that every word takes before they take more
MANY_TIED = 64  # inputs of one score above which their share is added once, not again and again
WORD_TIME, LIST_TIME, HIT_TIME = 11, 20, 2.5  # nanoseconds a step, of what `_fastest` counts
SMALL_INPUTS = 1 << 16  # inputs up to which their numbers take two bytes


@dataclass(frozen=True)
class Ranking:
    """The inputs of each column above its smallest value, from the largest value down.

    Attributes
    ----------
    n_inputs : int
        All inputs, stored or not.
    starts : ndarray
        (column + 1,) int64: column j stores ``inputs[starts[j]:starts[j + 1]]``.
    inputs : ndarray
        (stored,) uint16, or int32 where there are more inputs than that holds.
    is_last : ndarray
        (stored,) whether the next stored input of the column, if any, has another value.
    n_positive, n_nonnegative : ndarray
        (column,) int64, inputs above 0, and at or above 0.
    """

    n_inputs: int
    starts: np.ndarray
    inputs: np.ndarray
    is_last: np.ndarray
    n_positive: np.ndarray
    n_nonnegative: np.ndarray

    @classmethod
    def of(cls, block: Block, depth: int | None = None) -> Ranking:
        """Rank the columns of a block, or only their inputs down to the depth-th largest value.

        Such a short ranking serves to find what is active; to walk down, it takes all of it.
        """
        n_inputs, n_columns = block.shape
        columns = [_rank_column(*_column(block, j), n_inputs, depth) for j in range(n_columns)]
        inputs, is_last, *counts = zip(*columns, strict=True)
        starts = _starts(np.array([len(own) for own in inputs], dtype=np.int64))
        n_positive, n_nonnegative = (np.array(own, dtype=np.int64) for own in counts)
        stored = np.concatenate(inputs), np.concatenate(is_last)
        return cls(n_inputs, starts, *stored, n_positive, n_nonnegative)

    @classmethod
    def of_binary(cls, block: Block) -> Ranking:
        """Store the inputs at 1 of columns of 0 and 1, all inputs where a column has no 0.

        Raises
        ------
        ValueError
            If there is another value.
        """
        columns = sparse.csc_array(block)
        columns.eliminate_zeros()
        require_binary(columns.data)
        starts = columns.indptr.astype(np.int64)
        sizes = np.diff(starts)
        is_last = np.zeros(len(columns.indices), dtype=np.bool_)
        is_last[starts[1:][sizes > 0] - 1] = True
        inputs = columns.indices.astype(_small(block.shape[0]))
        everything = np.full(block.shape[1], block.shape[0])
        return cls(block.shape[0], starts, inputs, is_last, sizes, everything)

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return len(self.starts) - 1

    @property
    def sizes(self) -> np.ndarray:
        """(column,) int64, stored inputs."""
        return np.diff(self.starts)

    @property
    def above(self) -> np.ndarray:
        """(stored,) int32, for each stored input the number of inputs at or above its value."""
        return np.asarray(_count_above(self.starts, self.is_last))

    def doubled_ranks(self) -> Block:
        """Return twice the midrank of every input less that of the smallest: (input, column).

        Sparse where few inputs are stored, and int32 in any case.
        """
        shape = (self.n_inputs, self.n_columns)
        if len(self.inputs) < SPARSE_DENSITY * shape[0] * shape[1]:
            inputs = self.inputs.astype(np.int32)
            return sparse.csc_array((self._rank_stored(), inputs, self.starts), shape=shape)
        dense = np.zeros(shape[::-1], dtype=np.int32)
        _scatter(self.starts, self.inputs, self._rank_stored(), dense)
        return dense.T

    def _rank_stored(self) -> np.ndarray:
        return np.asarray(_rank_stored(self.starts, self.is_last, self.n_inputs))

    def count_active(self, alpha: float) -> np.ndarray:
        """Return how many inputs of each column are active: its first ones.

        The cut-off is the ``ceil(alpha * n_inputs)``-th largest value. Inputs at the cut-off are
        active, unless it is 0 or the column's smallest value.

        Returns
        -------
        ndarray
            (column,) int64, 0 for a silent column.
        """
        top = count_top(alpha, self.n_inputs)
        n_stored = self.sizes
        reached = top <= n_stored
        active = _end_groups(self.starts, self.is_last, np.where(reached, top, n_stored))
        at_zero = reached & (self.n_positive < top) & (top <= self.n_nonnegative)
        return np.where(at_zero, self.n_positive, active)

    def renumbered(self, numbers: np.ndarray) -> Ranking:
        """Return the ranking of the same values where input i is called ``numbers[i]``."""
        return replace(self, inputs=numbers[self.inputs].astype(self.inputs.dtype))

    def active(self, lengths: np.ndarray) -> Indicators:
        """Return which inputs are active: the first ``lengths`` (column,) of each column."""
        index = np.arange(len(self.inputs)) - np.repeat(self.starts[:-1], self.sizes)
        inputs = self.inputs[index < np.repeat(lengths, self.sizes)].astype(np.int32)
        shape = (self.n_inputs, self.n_columns)
        ones = np.ones(len(inputs), dtype=np.bool_)
        return Indicators(sparse.csc_array((ones, inputs, _starts(lengths)), shape=shape))


def _small(n_inputs: int) -> type[np.integer]:
    return np.uint16 if n_inputs <= SMALL_INPUTS else np.int32


def _column(block: Block, j: int) -> tuple[np.ndarray | None, np.ndarray]:
    """Return inputs (None for all) and values of one column, its smallest value left out if 0."""
    if not sparse.issparse(block):
        return None, block[:, j]
    part = slice(block.indptr[j], block.indptr[j + 1])
    inputs, values = block.indices[part], block.data[part]
    if 0 < len(values) < block.shape[0] and values.min() > 0:
        return inputs, values
    dense = np.zeros(block.shape[0])
    dense[inputs] = values
    return None, dense


def _rank_column(
    inputs: np.ndarray | None, values: np.ndarray, n_inputs: int, depth: int | None
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Return inputs and ``is_last`` of a ranked column, its positive and nonnegative inputs."""
    n_positive = int(np.count_nonzero(values > 0))
    n_nonnegative = n_inputs if inputs is not None else int(np.count_nonzero(values >= 0))
    if inputs is None and depth is None:
        order, is_last = _sort(values)
        ends = np.flatnonzero(is_last[:-1])
        n_stored = ends[-1] + 1 if len(ends) else 0
        order = order[:n_stored].astype(_small(n_inputs))
        return order, is_last[:n_stored], n_positive, n_nonnegative
    if inputs is None:
        inputs = _find_highest(values, depth or n_inputs)
        values = values[inputs]
    order, is_last = _sort(values)
    return inputs[order].astype(_small(n_inputs)), is_last, n_positive, n_nonnegative


def _find_highest(values: np.ndarray, depth: int) -> np.ndarray:
    """Return the inputs at or above the depth-th largest value, and above the smallest."""
    smallest = values.min()
    if depth < len(values):
        cutoff = np.partition(values, len(values) - depth)[len(values) - depth]
        if cutoff > smallest:
            return np.flatnonzero(values >= cutoff)
    return np.flatnonzero(values > smallest)


def _sort(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the order from the largest value down, and where it ends a group of equal ones."""
    if values.dtype != np.float32:
        order = np.argsort(values)[::-1]
        ordered = values[order]
    else:
        keys = _make_keys((values + np.float32(0)).view(np.uint32))  # -0 + 0 is 0
        keys.sort()  # half the time of an argsort
        order = keys.astype(np.uint32)
        ordered = keys >> np.uint64(32)
    is_last = np.ones(len(values), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=is_last[:-1])
    return order, is_last


@njit(nogil=True, cache=True)
def _make_keys(bits):  # type: ignore[no-untyped-def]
    """Return numbers that ascend as float32 values descend, each with its index in the low half."""
    keys = np.empty(bits.size, dtype=np.uint64)
    for i in range(bits.size):
        negative = bits[i] >> np.uint32(31)
        descending = bits[i] if negative else bits[i] ^ np.uint32(0x7FFFFFFF)
        keys[i] = (np.uint64(descending) << np.uint64(32)) | np.uint64(i)
    return keys


def _starts(sizes: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


@njit(nogil=True, cache=True)
def _count_above(starts, is_last):  # type: ignore[no-untyped-def]
    """Return for each stored input how many of its column are at or above its value."""
    above = np.empty(is_last.size, dtype=np.int32)
    for column in range(starts.size - 1):
        for i in range(starts[column + 1] - 1, starts[column] - 1, -1):
            above[i] = i + 1 - starts[column] if is_last[i] else above[i + 1]
    return above


@njit(nogil=True, cache=True)
def _end_groups(starts, is_last, lengths):  # type: ignore[no-untyped-def]
    """Return the lengths (column,), each extended to the end of the group that it ends in."""
    ends = lengths.copy()
    for column in range(starts.size - 1):
        while ends[column] and not is_last[starts[column] + ends[column] - 1]:
            ends[column] += 1
    return ends


@njit(nogil=True, cache=True)
def _rank_stored(starts, is_last, n_inputs):  # type: ignore[no-untyped-def]
    """Return of each stored input twice its midrank, less that of the column's smallest value."""
    ranks = np.empty(is_last.size, dtype=np.int32)
    for column in range(starts.size - 1):
        first, end = starts[column], starts[column + 1]
        begin = first
        for i in range(first, end):
            if is_last[i]:
                ranks[begin : i + 1] = n_inputs + end - begin - (i + 1 - first)
                begin = i + 1
    return ranks


@njit(nogil=True, cache=True)
def _scatter(starts, inputs, values, columns):  # type: ignore[no-untyped-def]
    """Put values at their inputs: (column, input)."""
    for column in range(starts.size - 1):
        scattered = columns[column]
        for i in range(starts[column], starts[column + 1]):
            scattered[inputs[i]] = values[i]


def count_found(ranking: Ranking, lengths: np.ndarray, truth: Indicators) -> np.ndarray:
    """Count the true inputs among the first ones of each column.

    Parameters
    ----------
    ranking : Ranking
        Its columns are walked down.
    lengths : ndarray
        (cut, column) int64, how far; not decreasing along ``cut``.
    truth : Indicators
        What is counted.

    Returns
    -------
    ndarray
        (cut, column, truth) int64.
    """
    shape = (*lengths.shape, truth.n_columns)
    counts = np.zeros(shape, dtype=np.int64)
    walk = (ranking.starts, ranking.inputs, lengths)
    if truth.share > DENSE_COUNT:
        _count_in_words(*walk, truth.column_words, counts)
    else:
        _count_in_lists(*walk, *truth.lists, counts)
    return counts


def average_precision(ranking: Ranking, truth: Indicators) -> np.ndarray:
    """Return the average precision of each ranking as a detector of each truth.

    ``sum_g (found_g - found_(g-1)) * found_g / at_or_above_g / total`` over groups of equal score.

    Returns
    -------
    ndarray
        (column, truth) float64, NaN where nothing is true.
    """
    precision = np.zeros((ranking.n_columns, truth.n_columns))
    walk = (ranking.starts, ranking.inputs, ranking.is_last, ranking.n_inputs, truth.totals)
    if _fastest(truth) == "words":
        words = truth.row_words
        _precision_in_words(*walk, words, make_state(words.shape[2]), precision)
    else:
        _precision_in_lists(*walk, *truth.lists, precision)
    return precision


def _fastest(truth: Indicators) -> str:
    """Return the way to precision that takes the least time, which changes no result."""
    hits = HIT_TIME * float(truth.totals.sum()) / truth.n_inputs
    return "words" if WORD_TIME * -(-truth.n_columns // LANES) < LIST_TIME + hits else "lists"


def roc_area(rank_sums: np.ndarray, sizes: np.ndarray, truth: Indicators) -> np.ndarray:
    """Return the area under the ROC curve of each ranking as a detector of each truth.

    ``1/2 + S / (2 Q (D - Q))`` with S the sum of the ranks of true inputs, doubled and centred
    (``2 midrank - (D + 1)``), an integer.

    Parameters
    ----------
    rank_sums : ndarray
        (truth, column) sums of `Ranking.doubled_ranks` over the true inputs.
    sizes : ndarray
        (column,) stored inputs of each ranking.
    truth : Indicators
        What is detected.

    Returns
    -------
    ndarray
        (truth, column) float64, NaN where nothing or everything is true.
    """
    centred = rank_sums - np.outer(truth.totals, sizes)
    pairs = (truth.totals * (truth.n_inputs - truth.totals)).astype(np.float64)
    pairs[pairs == 0] = np.nan
    return np.asarray(0.5 + centred / (2 * pairs)[:, None])


def tied_ranks(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest of the ranks that equal values share, from 1.

    By pandas, which is imported anyway; :mod:`scipy.stats` takes a second to import.

    Parameters
    ----------
    values : np.ndarray
        Values (row, …), ranked down the rows; none is NaN.
    """
    columns = pd.DataFrame(values.reshape(len(values), math.prod(values.shape[1:])))
    lowest, highest = (columns.rank(method=method).to_numpy() for method in ("min", "max"))
    return lowest.reshape(values.shape), highest.reshape(values.shape)


def midranks(values: np.ndarray) -> np.ndarray:
    """Return the midranks of a few inputs in each column, from 1: (input, column)."""
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)  # compared twice as fast, where it is the same
    return np.asarray(_rank_few(narrow if np.array_equal(narrow, values) else values))


@njit(nogil=True, cache=True)
def _rank_few(values):  # type: ignore[no-untyped-def]
    """Return midranks by comparing all pairs of a column."""
    ranks = np.empty(values.shape)
    above = np.empty(values.shape[1], dtype=np.int32)
    for i in range(values.shape[0]):
        above[:] = 1
        for j in range(values.shape[0]):
            for k in range(values.shape[1]):
                above[k] += np.int32(values[i, k] > values[j, k]) + np.int32(
                    values[i, k] >= values[j, k]
                )
        for k in range(values.shape[1]):
            ranks[i, k] = 0.5 * above[k]
    return ranks


@njit(nogil=True, cache=True)
def rank_rows(values):  # type: ignore[no-untyped-def]
    """Replace a few values of each row by their midranks in it, from 1: (row, value) of float64."""
    ranks = np.empty(values.shape[1])
    for row in values:
        for i in range(row.size):
            above = 1
            for j in range(row.size):
                above += int(row[i] > row[j]) + int(row[i] >= row[j])
            ranks[i] = 0.5 * above
        row[:] = ranks


@njit(nogil=True, cache=True)
def _count_in_lists(starts, inputs, lengths, row_starts, row_columns, counts):  # type: ignore[no-untyped-def]
    for column in range(starts.size - 1):
        done = 0
        for cut in range(lengths.shape[0]):
            found = counts[cut, column]
            if cut:
                for k in range(found.size):
                    found[k] = counts[cut - 1, column, k]
            for i in range(starts[column] + done, starts[column] + lengths[cut, column]):
                for k in range(row_starts[inputs[i]], row_starts[inputs[i] + 1]):
                    found[row_columns[k]] += 1
            done = lengths[cut, column]


@njit(nogil=True, cache=True)
def _count_in_words(starts, inputs, lengths, words, counts):  # type: ignore[no-untyped-def]
    """Mark the first inputs of each column as bits, and count those that a truth has too."""
    marks = np.empty(words.shape[1], dtype=np.uint64)
    for column in range(starts.size - 1):
        marks[:] = 0
        done = 0
        for cut in range(lengths.shape[0]):
            for i in range(starts[column] + done, starts[column] + lengths[cut, column]):
                index = np.uint64(inputs[i])
                marks[index >> np.uint64(6)] |= np.uint64(1) << (index & np.uint64(63))
            done = lengths[cut, column]
            for k in range(words.shape[0]):
                found = np.uint64(0)
                for word in range(marks.size):
                    found += count_bits(marks[word] & words[k, word])  # type: ignore[call-arg]
                counts[cut, column, k] = found


# Two ways to the same sums: each hit adds ``found / at_or_above``, where both count the
# whole group of equal score, from the highest score down.


@njit(nogil=True, cache=True, fastmath={"contract"})
def _precision_in_lists(  # type: ignore[no-untyped-def]
    starts, inputs, is_last, n_inputs, totals, row_starts, row_columns, precision
):
    """Walk down the stored inputs, and along the list of what is true of each."""
    state = np.zeros((totals.size, 2))
    before = np.zeros(totals.size)
    for column in range(starts.size - 1):
        state[:] = 0
        before[:] = 0
        begin = starts[column]
        for i in range(begin, starts[column + 1]):
            for index in range(row_starts[inputs[i]], row_starts[inputs[i] + 1]):
                state[row_columns[index], 0] += 1
            if not is_last[i]:
                continue
            share = 1.0 / (i + 1 - starts[column])
            for j in range(begin, i + 1):
                for index in range(row_starts[inputs[j]], row_starts[inputs[j] + 1]):
                    k = row_columns[index]
                    found = state[k, 0]
                    state[k, 1] += (found - before[k]) * (found * share)  # once for a group
                    before[k] = found
            begin = i + 1
        for k in range(totals.size):
            precision[column, k] = _finish(state[k, 0], state[k, 1], totals[k], n_inputs)


@njit(nogil=True, cache=True)
def _precision_in_words(  # type: ignore[no-untyped-def]
    starts, inputs, is_last, n_inputs, totals, words, states, precision
):
    """Walk down the stored inputs, 64 columns of truth at a time."""
    n_groups, _, n_words = words.shape
    sums = states[:, LANES:]
    before = np.empty((n_words, LANES))
    most_legs = 2 * (n_inputs // MANY_TIED) + 2
    most = 2 * n_inputs + UNROLLED * most_legs
    order = np.empty(most, dtype=np.uint32)
    gains, shares = np.empty(most), np.empty(most)
    ends, scales = np.empty(most_legs, dtype=np.int64), np.empty(most_legs)
    at_state, at_order = states.ctypes.data, order.ctypes.data
    at_gains, at_shares = gains.ctypes.data, shares.ctypes.data
    for column in range(starts.size - 1):
        stored = slice(starts[column], starts[column + 1])
        plan = (order, gains, shares, ends, scales)
        n_legs = _plan_steps(inputs[stored], is_last[stored], *plan)
        for group in range(n_groups):
            states[:] = 0
            at_words = words[group].ctypes.data
            begin = 0
            for leg in range(n_legs):
                if scales[leg] != 1:
                    _move(sums, before)
                for first in range(begin, ends[leg], STEPS_AT_ONCE):
                    end = min(first + STEPS_AT_ONCE, ends[leg])
                    for word in range(n_words):  # the first one brings the others to the cache
                        for i in range(first, end, UNROLLED):
                            advance(  # type: ignore[call-arg]
                                at_state + 8 * word * STATE,
                                at_words + 8 * word,
                                np.uint64(n_words),
                                at_order + 4 * i,
                                at_gains + 8 * i,
                                at_shares + 8 * i,
                            )
                if scales[leg] != 1:
                    _add_scaled(sums, scales[leg], before)
                begin = ends[leg]
            for word in range(n_words):
                lane = (group * n_words + word) * LANES
                for k in range(lane, min(lane + LANES, totals.size)):
                    found, total = states[word, k - lane], states[word, LANES + k - lane]
                    precision[column, k] = _finish(found, total, totals[k], n_inputs)


@njit(nogil=True, cache=True)
def _move(sums, before):  # type: ignore[no-untyped-def]
    """Keep sums in another array, and begin anew."""
    # In loops, as in all kernels: numba compiles six seconds at a slice that is set to an array.
    for word in range(sums.shape[0]):
        for k in range(sums.shape[1]):
            before[word, k], sums[word, k] = sums[word, k], 0


@njit(nogil=True, cache=True)
def _add_scaled(sums, scale, before):  # type: ignore[no-untyped-def]
    for word in range(sums.shape[0]):
        for k in range(sums.shape[1]):
            sums[word, k] = before[word, k] + sums[word, k] * scale


@njit(nogil=True, cache=True)
def _plan_steps(inputs, is_last, order, gains, shares, ends, scales):  # type: ignore[no-untyped-def]
    """Fill in which inputs to step on: those of a group of equal score twice.

    The first time they are counted, the second time they add their share. Where many are tied,
    that share is 1 on a leg of their own, whose sum is a whole number, and is scaled at its end:
    the same share added again and again would err by half a bit each time, always in the same
    direction. Returns the number of legs; ``ends`` are multiples of `UNROLLED`.
    """
    n_steps = n_legs = begin = 0
    for i in range(inputs.size):
        if not is_last[i]:
            continue
        share = 1.0 / (i + 1)
        alone, many = i == begin, i + 1 - begin > MANY_TIED
        for j in range(begin, i + 1):
            order[n_steps], gains[n_steps] = inputs[j], 1
            shares[n_steps] = share if alone else 0
            n_steps += 1
        if many:
            n_steps = _end_leg(n_steps, order, gains, shares)
            ends[n_legs], scales[n_legs] = n_steps, 1
            n_legs += 1
        if not alone:
            for j in range(begin, i + 1):
                order[n_steps], gains[n_steps] = inputs[j], 0
                shares[n_steps] = 1 if many else share
                n_steps += 1
        if many:
            n_steps = _end_leg(n_steps, order, gains, shares)
            ends[n_legs], scales[n_legs] = n_steps, share
            n_legs += 1
        begin = i + 1
    ends[n_legs], scales[n_legs] = _end_leg(n_steps, order, gains, shares), 1
    return n_legs + 1


@njit(nogil=True, cache=True)
def _end_leg(n_steps, order, gains, shares):  # type: ignore[no-untyped-def]
    """Add steps that change nothing, up to a whole stride; return the number of steps then."""
    end = -(-n_steps // UNROLLED) * UNROLLED
    for step in range(n_steps, end):
        order[step], gains[step], shares[step] = 0, 0, 0
    return end


@njit(nogil=True, cache=True)
def _finish(found, total, n_true, n_inputs):  # type: ignore[no-untyped-def]
    """Add the group of smallest scores, which holds all that was not found, and divide."""
    if n_true == 0:
        return np.nan
    return (total + (n_true - found) * (n_true * (1.0 / n_inputs))) / n_true
