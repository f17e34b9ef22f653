"""Columns read the same numbers from every container."""

from __future__ import annotations

import dask.array
import numpy as np
import pytest
import torch
from scipy import sparse

from evals.kernels import columns
from evals.kernels.columns import Columns

RNG = np.random.default_rng(0)
DENSE = RNG.normal(size=(50, 8)).astype(np.float32)
THIN = np.where(RNG.random((200, 10)) < 0.02, 1.5, 0)


def dense(block):
    return block.toarray() if sparse.issparse(block) else block


@pytest.mark.parametrize("values", [DENSE, THIN], ids=["dense", "thin"])
@pytest.mark.parametrize(
    "hold",
    [
        np.asarray,
        torch.from_numpy,
        sparse.coo_matrix,
        sparse.csc_array,
        lambda x: dask.array.from_array(x, chunks=(7, 3)),
    ],
)
def test_blocks_and_slabs(values, hold):
    read = Columns(hold(values))
    assert read.is_sparse == (values is THIN)
    np.testing.assert_array_equal(dense(read.block(2, 5)), values[:, 2:5].astype(float))
    np.testing.assert_array_equal(read.slab(3, 9), values[3:9].astype(float))
    assert dense(read.block(0, 1)).dtype == read.slab(0, 1).dtype == np.float64
    joined = np.hstack([dense(read.block(part.start, part.stop, None)) for part in read.slices(3)])
    np.testing.assert_array_equal(joined, values)


def test_a_lazy_array_too_large_to_keep_is_read_by_blocks(monkeypatch):
    monkeypatch.setattr(columns, "RESIDENT_BYTES", 100)
    monkeypatch.setattr(columns, "SLAB_BYTES", 64)
    read = Columns(dask.array.from_array(DENSE, chunks=(9, 9)))
    assert isinstance(read._source, dask.array.Array)
    np.testing.assert_array_equal(read.block(1, 4), DENSE[:, 1:4])


def test_a_lazy_array_that_is_thin_is_never_held_dense(monkeypatch):
    monkeypatch.setattr(columns, "SLAB_BYTES", 800)
    read = Columns(dask.array.from_array(THIN, chunks=(20, 10)))
    assert read.is_sparse
    np.testing.assert_array_equal(dense(read.block(0, 10)), THIN)


def test_the_caller_keeps_its_array():
    held = sparse.csc_array(
        (np.array([1.0, 2.0, 0.0]), np.array([0, 0, 3]), np.array([0, 2, 3])), shape=(90, 2)
    )
    before = held.data.copy(), held.indices.copy(), held.nnz
    read = Columns(held)
    assert dense(read.block(0, 1))[0, 0] == 3  # duplicates are summed
    np.testing.assert_array_equal(held.data, before[0])
    assert held.nnz == before[2]


def test_bfloat16_and_booleans():
    brain = torch.tensor([[0.5], [2.0]], dtype=torch.bfloat16)
    np.testing.assert_array_equal(Columns(brain).block(0, 1), [[0.5], [2.0]])
    np.testing.assert_array_equal(Columns(np.array([[True], [False]])).block(0, 1), [[1], [0]])


@pytest.mark.parametrize("lazy", [True, False])
def test_nan_is_refused(lazy, monkeypatch):
    monkeypatch.setattr(columns, "RESIDENT_BYTES", 1)
    values = np.full((40, 3), np.nan)
    with pytest.raises(ValueError, match=r"presence: (80|120) values are NaN"):
        Columns(dask.array.from_array(values) if lazy else values, "presence").block(0, 2)
