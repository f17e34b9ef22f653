"""Sixty-four columns of bits walked at once, one double per bit: what compilers find only if told.

The steps of a walk are written as vectors of eight doubles under a mask of eight bits. That is one
instruction each where a processor has such (AVX-512), and a few elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from evals.kernels.columns import by_column

LANES = 64  # columns whose bits make one word
UNROLLED = 16  # steps between two stores of the state
STATE = 2 * LANES  # doubles: of each lane the number found, then the sum
WIDTH = 8
_DOUBLE, _INT64, _INT32 = ir.DoubleType(), ir.IntType(64), ir.IntType(32)
_VECTOR = ir.VectorType(_DOUBLE, WIDTH)
_MASK = ir.VectorType(ir.IntType(1), WIDTH)


@intrinsic
def advance(
    typingctx: Any, state: Any, words: Any, stride: Any, rows: Any, gains: Any, shares: Any
) -> Any:
    """Take `UNROLLED` steps: where a bit is set, ``found += gain; sum += found * share``.

    All are addresses but ``stride``: of `STATE` doubles, of the word of the first row (rows are
    ``stride`` words apart), and of a row (uint32), a gain and a share for each step.
    """
    address = types.uintp
    signature = types.void(address, address, types.uint64, address, address, address)

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        _Walk(builder, *arguments).emit()
        return context.get_dummy_value()

    return signature, generate


class _Walk:
    """Emits the instructions of `advance`."""

    def __init__(
        self, builder: Any, state: Any, words: Any, stride: Any, rows: Any, gains: Any, shares: Any
    ):
        self._builder = builder
        self._stride = stride
        self._state = builder.inttoptr(state, _VECTOR.as_pointer())
        self._words = builder.inttoptr(words, _INT64.as_pointer())
        self._rows = builder.inttoptr(rows, _INT32.as_pointer())
        self._gains, self._shares = (
            builder.inttoptr(address, _DOUBLE.as_pointer()) for address in (gains, shares)
        )

    def emit(self) -> None:
        n_vectors = LANES // WIDTH
        indices = [self._at(self._state, i) for i in range(2 * n_vectors)]
        values = [self._builder.load(index, align=8) for index in indices]
        found, sums = values[:n_vectors], values[n_vectors:]
        for step in range(UNROLLED):
            word = self._read_word(step)
            gain, share = self._spread(self._gains, step), self._spread(self._shares, step)
            for i in range(n_vectors):
                found[i], sums[i] = self._step(self._mask(word, i), found[i], sums[i], gain, share)
        for index, value in zip(indices, found + sums, strict=True):
            self._builder.store(value, index, align=8)

    def _step(self, mask: Any, found: Any, total: Any, gain: Any, share: Any) -> tuple[Any, Any]:
        build, fused = self._builder, ("contract",)
        reached = build.select(mask, build.fadd(found, gain), found)
        more = build.fadd(total, build.fmul(reached, share, flags=fused), flags=fused)
        return reached, build.select(mask, more, total)

    def _read_word(self, step: int) -> Any:
        row = self._builder.zext(self._builder.load(self._at(self._rows, step)), _INT64)
        index = self._builder.mul(row, self._stride)
        return self._builder.load(self._builder.gep(self._words, [index]))

    def _at(self, pointer: Any, index: int) -> Any:
        return self._builder.gep(pointer, [ir.Constant(_INT64, index)])

    def _spread(self, pointer: Any, index: int) -> Any:
        nothing = ir.Constant(_VECTOR, ir.Undefined)
        number = self._builder.load(self._at(pointer, index))
        first = self._builder.insert_element(nothing, number, ir.Constant(_INT32, 0))
        everywhere = ir.Constant(ir.VectorType(_INT32, WIDTH), [0] * WIDTH)
        return self._builder.shuffle_vector(first, nothing, everywhere)

    def _mask(self, word: Any, vector: int) -> Any:
        bits = self._builder.lshr(word, ir.Constant(_INT64, WIDTH * vector))
        return self._builder.bitcast(self._builder.trunc(bits, ir.IntType(WIDTH)), _MASK)


@intrinsic
def count_bits(typingctx: Any, word: Any) -> Any:
    """Return how many bits of a uint64 are set."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


def make_state(n_words: int) -> np.ndarray:
    """Return zeros (word, STATE) that begin at a cache line."""
    held = np.zeros((n_words + 1) * STATE)
    skipped = (-held.ctypes.data % 64) // 8
    return held[skipped : skipped + n_words * STATE].reshape(n_words, STATE)


def pack_rows(bits: np.ndarray, n_words: int, in_group: int) -> np.ndarray:
    """Return bits of inputs as words (group, input, word) of `LANES` columns each.

    Parameters
    ----------
    bits : ndarray
        (input, byte) uint8: 8 columns in each byte, the first in the lowest bit.
    n_words : int
        Words that hold all columns.
    in_group : int
        Words in a group; what is beyond the last column is 0.
    """
    n_groups = -(-n_words // in_group)
    padded = np.zeros((len(bits), n_groups * in_group * LANES // 8), dtype=np.uint8)
    padded[:, : bits.shape[1]] = bits
    words = padded.view(np.uint64).reshape(len(bits), n_groups, in_group)
    return np.ascontiguousarray(words.transpose(1, 0, 2))


def pack_columns(bits: np.ndarray, n_columns: int) -> np.ndarray:
    """Return bits of inputs, as `pack_rows` takes them, as words (column, word) of 64 inputs."""
    n_inputs = len(bits)
    padded = np.zeros((n_columns, -(-n_inputs // 64) * 8), dtype=np.uint8)
    for first in range(0, n_columns, LANES):
        part = bits[:, first // 8 : (first + LANES) // 8]
        truth = np.unpackbits(part, axis=1, count=min(LANES, n_columns - first), bitorder="little")
        padded[first : first + LANES, : -(-n_inputs // 8)] = np.packbits(
            by_column(truth).T, axis=1, bitorder="little"
        )
    return padded.view(np.uint64)
