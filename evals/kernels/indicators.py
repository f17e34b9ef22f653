"""Binary columns over inputs: which inputs are labelled, or active, held as each use needs them."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from evals.kernels.bit_lanes import LANES, pack_columns, pack_rows
from evals.kernels.columns import Block, reorder
from evals.kernels.threads import Shared, shared_property

WORDS_AT_ONCE = 8  # words of a row that lie in one line of the cache


class Indicators(Shared):
    """Binary columns over inputs.

    Parameters
    ----------
    columns : sparse array or ndarray
        (input, column) booleans; a sparse array stores what is true, of a dense one bits are held.
    """

    def __init__(self, columns: Block):
        super().__init__()
        self.n_inputs, self.n_columns = columns.shape
        self._is_sparse = sparse.issparse(columns)
        if self._is_sparse:
            self._columns = sparse.csc_array(columns)
        else:
            self._bits = np.packbits(columns, axis=1, bitorder="little")

    def slab(self, inputs: slice) -> np.ndarray:
        """Return some inputs of all columns: (input, column), 0 or 1."""
        if self._is_sparse:
            return self.rows[inputs]
        return np.unpackbits(
            self._bits[inputs], axis=1, count=self.n_columns, bitorder="little"
        ).view(np.bool_)

    def permuted(self, orders: np.ndarray) -> Indicators:
        """Return the columns once for each order of the inputs (order, input), side by side."""
        return Indicators(reorder(self._columns if self._is_sparse else self.rows, orders))

    @shared_property
    def totals(self) -> np.ndarray:
        """(column,) int64, true inputs."""
        if self._is_sparse:
            return np.asarray(np.diff(self._columns.indptr).astype(np.int64))
        slabs = (slice(start, start + 1024) for start in range(0, self.n_inputs, 1024))
        counts = [self.slab(slab).sum(axis=0, dtype=np.int64) for slab in slabs]
        return np.asarray(np.sum(counts, axis=0))

    @shared_property
    def share(self) -> float:
        """Fraction of values that are true."""
        return float(self.totals.sum() / (self.n_inputs * self.n_columns))

    @shared_property
    def rows(self) -> np.ndarray:
        """(input, column) booleans."""
        return self._columns.toarray() if self._is_sparse else self.slab(slice(None))

    @property
    def _row_bits(self) -> np.ndarray:
        return np.packbits(self.rows, axis=1, bitorder="little") if self._is_sparse else self._bits

    @shared_property
    def row_words(self) -> np.ndarray:
        """(group, input, word) uint64: 64 columns in each word."""
        n_words = -(-self.n_columns // LANES)
        return pack_rows(self._row_bits, n_words, min(WORDS_AT_ONCE, n_words))

    @shared_property
    def column_words(self) -> np.ndarray:
        """(column, word) uint64: 64 inputs in each word."""
        return pack_columns(self._row_bits, self.n_columns)

    @shared_property
    def sparse(self) -> sparse.csc_array:
        """(input, column) booleans, of which what is true is stored, in order."""
        columns = sparse.csc_array(self._columns if self._is_sparse else self.rows)
        columns.sort_indices()
        return columns

    @shared_property
    def true_inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """The true inputs of each column, ascending: int64 starts (column + 1,), and int32."""
        columns = self.sparse
        return columns.indptr.astype(np.int64), columns.indices.astype(np.int32)

    @shared_property
    def lists(self) -> tuple[np.ndarray, np.ndarray]:
        """The true columns of each input: int64 starts (input + 1,), and int32."""
        rows = sparse.csr_array(self._columns if self._is_sparse else self.rows)
        return rows.indptr.astype(np.int64), rows.indices.astype(np.int32)
