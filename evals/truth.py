"""Binary columns over inputs: which inputs are labelled, or active, held as each use needs them."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from evals.columns import Block
from evals.lanes import LANES, pack_columns, pack_rows
from evals.threads import Shared, shared_property

WORDS_AT_ONCE = 8  # words of a row that lie in one line of the cache


class Truth(Shared):
    """Binary columns over inputs.

    Parameters
    ----------
    columns : sparse array or ndarray
        (input, column) booleans; a sparse array stores what is true.
    """

    def __init__(self, columns: Block):
        super().__init__()
        self.columns = sparse.csc_array(columns) if sparse.issparse(columns) else columns
        self.n_inputs, self.n_columns = columns.shape

    @shared_property
    def totals(self) -> np.ndarray:
        """(column,) int64, true inputs."""
        if sparse.issparse(self.columns):
            return np.diff(self.columns.indptr).astype(np.int64)
        return np.count_nonzero(self.columns, axis=0)

    @shared_property
    def share(self) -> float:
        """Share of values that are true."""
        return float(self.totals.sum() / (self.n_inputs * self.n_columns))

    @shared_property
    def rows(self) -> np.ndarray:
        """(input, column) booleans."""
        columns = self.columns
        return columns.toarray() if sparse.issparse(columns) else columns

    @shared_property
    def row_words(self) -> np.ndarray:
        """(group, input, word) uint64: 64 columns in each word."""
        return pack_rows(self.rows, min(WORDS_AT_ONCE, -(-self.n_columns // LANES)))

    @shared_property
    def column_words(self) -> np.ndarray:
        """(column, word) uint64: 64 inputs in each word."""
        return pack_columns(self.rows)

    @shared_property
    def sparse(self) -> sparse.csc_array:
        """(input, column) booleans, of which what is true is stored, in order."""
        columns = sparse.csc_array(self.columns)
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
        rows = sparse.csr_array(self.columns)
        return rows.indptr.astype(np.int64), rows.indices.astype(np.int32)

    @shared_property
    def groups(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Columns of similar size together: their numbers, and their true inputs (column, place).

        Shorter columns are filled up with ``n_inputs``, which is no input.
        """
        scales = np.frexp(self.totals.astype(np.float64))[1]
        return [self._group(np.flatnonzero(scales == s)) for s in np.unique(scales) if s > 0]

    def _group(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        starts, true = self.true_inputs
        inputs = np.full((len(columns), self.totals[columns].max()), self.n_inputs, dtype=np.int32)
        for row, column in zip(inputs, columns, strict=True):
            row[: self.totals[column]] = true[starts[column] : starts[column + 1]]
        return columns, inputs
