"""Every metric against its definition on what breaks plain code: extremes, ties, nothing at all."""

from __future__ import annotations

import functools
import warnings

import dask.array
import numpy as np
import pytest
import torch
from scipy import sparse

import evals
from evals.kernels.blocks import score_arrays
from evals.kernels.columns import Columns
from evals.metrics.table import Parameters
from tests.evals import oracles

BUILT_IN = [*oracles.ORACLES, *oracles.COMBINED]
every_metric = pytest.mark.parametrize("name", BUILT_IN)


@functools.cache
def activations(n_inputs: int) -> np.ndarray:
    """(input, neuron): offsets, scales, signed zeros, one value, all but one value, negatives."""
    rng = np.random.default_rng(n_inputs)
    normal = rng.normal(size=n_inputs)
    first = np.arange(n_inputs) == 0
    columns = [
        normal,
        np.round(normal),
        np.minimum(normal, 0),
        -np.abs(normal) - 1,
        1 + 1e-15 * np.round(3 * normal),
        1e15 + np.round(4 * normal),
        normal * 1e-150,
        normal * 1e150,
        normal * 10.0 ** rng.integers(-12, 12, n_inputs),
        np.full(n_inputs, 2.5),
        np.zeros(n_inputs),
        np.where(normal > 0, -0.0, 0.0),
        np.where(normal > 0.5, 1.0, -0.0),
        np.ones(n_inputs),
        np.where(first, 1.0, 0.0),
        np.where(first, -1.0, 0.0),
        np.where(first, 2.0, 3.0),
        np.where(np.arange(n_inputs) % 7 == 0, np.exp(normal), 0),
    ]
    return np.stack(columns, axis=1)


@functools.cache
def labels(n_inputs: int) -> np.ndarray:
    """(input, concept): at and just below 1/2, near constant, empty, full, almost 0, one input."""
    rng = np.random.default_rng(n_inputs + 1)
    uniform = rng.random(n_inputs)
    columns = [
        uniform,
        np.round(uniform, 1),
        np.full(n_inputs, 0.5),
        np.full(n_inputs, np.nextafter(0.5, 0)),
        np.zeros(n_inputs),
        np.ones(n_inputs),
        np.where(uniform > 0.5, 1e-10, 0.0),
        np.where(uniform > 0.9, 1e-10, 0.9),
        0.5 + 1e-16 * np.round(8 * uniform),
        np.where(np.arange(n_inputs) == n_inputs - 1, 1.0, 0.0),
        uniform**40,
        np.where(uniform > 0.97, uniform, 0),
    ]
    return np.stack(columns, axis=1)


def assert_same(got, expected, atol=1e-15):
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=atol)


@every_metric
@pytest.mark.parametrize("n_inputs", [1, 2, 5, 40])
@pytest.mark.filterwarnings("ignore::UserWarning:sklearn")  # of the oracle, about few inputs
@pytest.mark.slow
def test_equals_its_definition(name, n_inputs):
    neurons, concepts = activations(n_inputs), labels(n_inputs)
    row = evals.find_metric(name)
    for alpha in (1e-4, 1 / 3, 1.0) if "alpha" in row.needs else (0.5,):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            got = row(neurons, concepts, alpha=alpha)
        expected = oracles.score_pairs(name, neurons, concepts, alpha)
        assert_same(got, expected, atol=0 if name == "mad" else 1e-15)


@every_metric
@pytest.mark.filterwarnings("ignore::UserWarning:sklearn")
@pytest.mark.slow
def test_binary_neurons_are_used_as_they_are(name):
    """Also where all, or all but one, are active, and with what looks like a cut-off at 0."""
    concepts = labels(50)
    neurons = np.stack(
        [concepts[:, 0] > 0.7, np.ones(50), np.arange(50) == 3, np.zeros(50)], axis=1
    )
    got = evals.find_metric(name)(neurons, concepts, alpha=None)
    assert_same(got, oracles.score_pairs(name, neurons, concepts, None))


# One active input more or less, where a product in floats lies on the wrong side of an integer.
@pytest.mark.parametrize(
    ("alpha", "n_inputs", "active"),
    [
        (0.07, 100, 7),
        (0.29, 100, 29),
        (0.57, 100, 57),
        (0.0001, 50_000, 5),
        (0.0001, 10_001, 2),
        (0.005, 5794, 29),
        (1e-9, 10, 1),
        (1.0, 10, 9),
        (np.float64(0.07), 100, 7),
        (np.float32(0.07), 100, 7),
        (1, 10, 9),
    ],
)
def test_as_many_inputs_are_active_as_the_fraction_says(alpha, n_inputs, active):
    neuron = np.random.default_rng(0).permutation(n_inputs)[:, None] + 1.0
    everything = np.ones((n_inputs, 1))
    accuracy = evals.find_metric("accuracy")(neuron, everything, alpha=alpha)
    assert accuracy[0, 0] == active / n_inputs  # the smallest is never active


@pytest.mark.parametrize(
    ("values", "alpha", "active"),
    [
        ([3, 2, 2, 2, 1, 0], 0.3, [1, 1, 1, 1, 0, 0]),  # ties at the cut-off are all active
        ([3, 2, 0, 0, 0, 0], 0.5, [1, 1, 0, 0, 0, 0]),  # but not at 0
        ([3, 2, -1, -1, -1, -1], 0.5, [1, 1, 0, 0, 0, 0]),  # nor at the smallest
        ([3, 0, 0, -1, -1, -2], 0.5, [1, 0, 0, 0, 0, 0]),  # 0 above the smallest
        ([-1, -1, -2, -3, -3, -3], 0.2, [1, 1, 0, 0, 0, 0]),
        ([0, -1, -2, -3, -3, -3], 0.1, [0, 0, 0, 0, 0, 0]),  # silent
        ([0, -1, -2, -3, -3, -3], 0.5, [1, 1, 1, 0, 0, 0]),  # 0 above the cut-off is active
        ([5, 5, 5, 5, 5, 5], 0.5, [0, 0, 0, 0, 0, 0]),
        ([5, 4, 5, 5, 5, 5], 1.0, [1, 0, 1, 1, 1, 1]),
        ([1e-300, 0, 0, 0, 0, 0], 1.0, [1, 0, 0, 0, 0, 0]),
    ],
)
def test_what_is_active_at_ties(values, alpha, active):
    neuron = np.array(values, dtype=float)[:, None]
    each = np.eye(6)
    recall = evals.find_metric("recall")(neuron, each, alpha=alpha)[0]
    if not any(active):
        assert np.isnan(recall).all()
    else:
        np.testing.assert_array_equal(recall > 0, np.array(active, dtype=bool))
    thin = evals.find_metric("recall")(sparse.csr_array(neuron), each, alpha=alpha)[0]
    np.testing.assert_array_equal(thin, recall)


# What holds the same numbers gives the same scores. Values are multiples of 1/8 up to 15, which
# every type below that is not of integers holds exactly.
_RNG = np.random.default_rng(5)
EIGHTHS = _RNG.integers(-120, 120, (90, 6)) / 8 * (_RNG.random((90, 6)) < 0.5)
INTEGERS = np.abs(np.round(EIGHTHS)) * (EIGHTHS > 0)
BITS = EIGHTHS > 0.5


def _with_explicit_zeros(values: np.ndarray) -> sparse.coo_array:
    """Every value in halves, zeros stored, in no order."""
    rows, columns = map(np.ravel, np.indices(values.shape))
    order = np.random.default_rng(1).permutation(2 * rows.size)
    halves = np.tile(values.ravel() / 2, 2)[order]
    return sparse.coo_array(
        (halves, (np.tile(rows, 2)[order], np.tile(columns, 2)[order])), shape=values.shape
    )


FLOATS = {
    "float16": lambda x: x.astype(np.float16),
    "float32": lambda x: x.astype(np.float32),
    "longdouble": lambda x: x.astype(np.longdouble),
    "big-endian": lambda x: x.astype(">f8"),
    "read-only": lambda x: np.frombuffer(x.tobytes()).reshape(x.shape),
    "backwards": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "every other": lambda x: np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)[::2, ::3],
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "lists": lambda x: x.tolist(),
    "torch half": lambda x: torch.from_numpy(x).half(),
    "torch bfloat16": lambda x: torch.from_numpy(x).bfloat16(),
    "torch transposed": lambda x: torch.from_numpy(np.ascontiguousarray(x.T)).T,
    "torch sparse": lambda x: torch.from_numpy(x).to_sparse(),
    "torch csr": lambda x: torch.from_numpy(x).to_sparse_csr(),
    "explicit zeros": _with_explicit_zeros,
    "csc float32": lambda x: sparse.csc_array(x.astype(np.float32)),
    "bsr": sparse.bsr_array,
    "lil": sparse.lil_array,
    "dok": sparse.dok_array,
    "dia": sparse.dia_array,
    "dask float32": lambda x: dask.array.from_array(x.astype(np.float32), chunks=(13, 2)),
    "dask one chunk": lambda x: dask.array.from_array(x, chunks=-1),
}
WHOLE = {
    "int8": lambda x: x.astype(np.int8),
    "uint8": lambda x: x.astype(np.uint8),
    "int64": lambda x: x.astype(np.int64),
    "uint64": lambda x: x.astype(np.uint64),
    "torch int32": lambda x: torch.from_numpy(x).int(),
    "torch uint8": lambda x: torch.from_numpy(x).byte(),
    "csr int16": lambda x: sparse.csr_array(x.astype(np.int16)),
    "dask int8": lambda x: dask.array.from_array(x.astype(np.int8), chunks=(20, -1)),
}
TRUTH = {
    "bool": lambda x: x,
    "torch bool": torch.from_numpy,
    "csr bool": sparse.csr_array,
    "coo bool": sparse.coo_array,
    "dask bool": lambda x: dask.array.from_array(x, chunks=(20, -1)),
    "lists": lambda x: x.tolist(),
}
HELD = [
    *((kind, hold, EIGHTHS, np.abs(EIGHTHS) / 16) for kind, hold in FLOATS.items()),
    *((kind, hold, INTEGERS, (INTEGERS > 1) * 1.0) for kind, hold in WHOLE.items()),
    *((kind, hold, BITS, BITS[:, ::-1].copy()) for kind, hold in TRUTH.items()),
]


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize(
    ("hold", "neurons", "concepts"),
    [held[1:] for held in HELD],
    ids=[kind for kind, *_ in HELD],
)
@pytest.mark.slow
def test_what_holds_the_numbers_does_not_matter(hold, neurons, concepts):
    for name in BUILT_IN:
        row = evals.find_metric(name)
        expected = row(neurons.astype(float), concepts.astype(float), alpha=0.1)
        np.testing.assert_array_equal(row(hold(neurons), hold(concepts), alpha=0.1), expected)


@every_metric
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_order_scale_and_blocks_together(name, scale):
    """Rows shuffled, columns scaled, another size of blocks: 1e-12 all at once."""
    rng = np.random.default_rng(11)
    neurons = rng.normal(size=(2000, 6)) * (rng.random((2000, 6)) < [1, 1, 0.3, 0.03, 1, 1])
    neurons[:, 4] = np.round(neurons[:, 4], 1)
    neurons[:, 5] = rng.integers(0, 3, 2000)
    concepts = np.stack(
        [rng.random(2000), rng.random(2000) < 0.1, rng.random(2000) < 0.001], axis=1
    )
    shuffled = rng.permutation(2000)
    row = evals.find_metric(name)
    first = row(Columns(neurons, inputs=np.arange(2000)), concepts, alpha=0.02)
    moved = Columns((neurons * scale)[shuffled], inputs=shuffled)
    options = {"block_size": 1, "workers": 2}
    second = score_arrays([row], moved, concepts[shuffled], Parameters(0.02), **options)[name]
    factor = scale if row.units == "activation" else 1
    np.testing.assert_array_equal(np.isnan(second), np.isnan(first))
    np.testing.assert_allclose(second, first * factor, rtol=1e-12, atol=1e-16 * factor)
