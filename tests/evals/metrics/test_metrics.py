"""Conformance of every row of the table: definition, invariances, undefined pairs, containers."""

from __future__ import annotations

import dask.array
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

import evals
from evals.kernels.blocks import score_arrays
from evals.kernels.columns import Columns
from evals.metrics.table import Parameters
from tests.evals import data, oracles

METRICS = data.BUILT_IN
ALPHAS = (0.001, 0.02, 0.1, 0.5, 1.0)
every_metric = pytest.mark.parametrize("name", METRICS)


CASES = [
    (name, alpha)
    for name in METRICS
    for alpha in (ALPHAS if "alpha" in evals.find_metric(name).needs else [None])
]
FAR_FROM_ZERO = [5, 6]  # scaling rounds these so that their deviations change


def rounding(name: str) -> float:
    """What a value near 0 may be off by: a difference of two rounded logarithms, or of nothing."""
    return 1e-15 if name == "wpmi" else 1e-16


def assert_same(got, expected, rtol=1e-12, atol=0.0):
    assert np.array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol)


def test_every_metric_has_an_oracle():
    assert len(METRICS) == 24
    assert set(METRICS) == {*oracles.ORACLES, *oracles.COMBINED}


@pytest.mark.parametrize(("name", "alpha"), CASES)
def test_equals_its_definition(name, alpha):
    neurons, concepts = data.activations(), data.labels()
    got = evals.find_metric(name)(neurons, concepts, alpha=alpha)
    assert got.dtype == np.float64
    assert_same(got, oracles.score_pairs(name, neurons, concepts, alpha), atol=rounding(name))


@every_metric
@pytest.mark.slow
def test_equals_its_definition_on_one_hot_labels(name):
    neurons, concepts = data.activations(), data.one_hot()
    got = evals.find_metric(name)(neurons, concepts, alpha=0.1)
    assert_same(got, oracles.score_pairs(name, neurons, concepts, 0.1), atol=rounding(name))


@every_metric
@pytest.mark.slow
def test_equals_its_definition_on_binary_neurons(name):
    neurons = data.labels() >= 0.5
    got = evals.find_metric(name)(neurons, data.labels(seed=5), alpha=None)
    expected = oracles.score_pairs(name, neurons, data.labels(seed=5), None)
    assert_same(got, expected, atol=rounding(name))


few = st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0, 0.25])
shares = st.sampled_from([0.0, 1.0, 0.5, 0.25, 0.75])
sizes = st.integers(2, 12)


@every_metric
@settings(max_examples=20)
@given(drawn=st.data())
@pytest.mark.slow
def test_equals_its_definition_on_ties_and_small_inputs(name, drawn):
    n_inputs = drawn.draw(sizes)
    neurons = drawn.draw(hnp.arrays(np.float64, (n_inputs, 2), elements=few))
    labels = drawn.draw(hnp.arrays(np.float64, (n_inputs, 2), elements=shares))
    alpha = drawn.draw(st.sampled_from([0.01, 0.3, 0.5, 0.9, 1.0]))
    got = evals.find_metric(name)(neurons, labels, alpha=alpha)
    assert_same(got, oracles.score_pairs(name, neurons, labels, alpha), atol=rounding(name))


@every_metric
def test_order_of_inputs_does_not_matter(name):
    neurons, concepts = data.activations(3000), data.labels(3000)
    shuffled = np.random.default_rng(3).permutation(3000)
    named = Columns(neurons, inputs=np.arange(3000))
    reordered = Columns(neurons[shuffled], inputs=shuffled)
    metric = evals.find_metric(name)
    first = metric(named, concepts, alpha=0.05)
    second = metric(reordered, concepts[shuffled], alpha=0.05)
    assert_same(second, first)


@every_metric
@pytest.mark.parametrize("scale", [1e-12, 3e-5, 7.0, 1e12])
def test_scale_of_activations_does_not_matter(name, scale):
    metric = evals.find_metric(name)
    neurons = np.delete(data.activations(), FAR_FROM_ZERO, axis=1)
    first = metric(neurons, data.labels(), alpha=0.05)
    scaled = metric(neurons * scale, data.labels(), alpha=0.05)
    assert_same(scaled, first * factor(name, scale), atol=1e-16 * factor(name, scale))


def factor(name: str, scale: float) -> float:
    """What a scale of the activations does to a metric: a mean difference scales with them."""
    return scale if evals.find_metric(name).units == "activation" else 1


@every_metric
@pytest.mark.parametrize("exponent", [-40, 3, 40])
def test_powers_of_two_change_no_bit(name, exponent):
    metric = evals.find_metric(name)
    first = metric(data.activations(), data.labels(), alpha=0.05)
    scaled = metric(np.ldexp(data.activations(), exponent), data.labels(), alpha=0.05)
    np.testing.assert_array_equal(scaled, first * factor(name, 2.0**exponent))


@every_metric
@pytest.mark.parametrize("block_size", [1, 3, 100])
def test_blocks_do_not_matter(name, block_size):
    row = evals.find_metric(name)
    neurons, concepts = data.activations(), data.labels()
    whole = row(neurons, concepts, alpha=0.05)
    parts = score_arrays([row], neurons, concepts, Parameters(0.05), block_size=block_size)[name]
    assert_same(parts, whole)


@every_metric
def test_one_neuron_does_not_see_another(name):
    row = evals.find_metric(name)
    neurons, concepts = data.activations(), data.labels()
    whole = row(neurons, concepts, alpha=0.05)
    alone = row(Columns(neurons[:, [4]], names=[4]), concepts[:, [1]], alpha=0.05)
    assert_same(alone, whole[[4]][:, [1]])


CONTAINERS = {
    "float32": lambda x: x.astype(np.float32),
    "fortran": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=0)[::2],
    "torch": torch.from_numpy,
    "torch with gradient": lambda x: torch.from_numpy(x).requires_grad_(),
    "csr": sparse.csr_array,
    "csc matrix": sparse.csc_matrix,
    "coo": sparse.coo_array,
    "dask by inputs": lambda x: dask.array.from_array(x, chunks=(17, -1)),
    "dask by columns": lambda x: dask.array.from_array(x, chunks=(-1, 3)),
}


@every_metric
@pytest.mark.parametrize("container", CONTAINERS)
def test_container_does_not_matter(name, container):
    row = evals.find_metric(name)
    neurons = data.activations().astype(np.float32).astype(np.float64)
    concepts = data.labels().astype(np.float32).astype(np.float64)
    held = CONTAINERS[container]
    expected = row(neurons, concepts, alpha=0.05)
    np.testing.assert_array_equal(row(held(neurons), held(concepts), alpha=0.05), expected)
    np.testing.assert_array_equal(row(held(neurons), concepts, alpha=0.05), expected)


@every_metric
@pytest.mark.slow
def test_sparse_columns_give_what_dense_ones_give(name):
    rng = np.random.default_rng(8)
    neurons = rng.gamma(1, size=(400, 30)) * (rng.random((400, 30)) < 0.02)
    neurons[:, 3] *= -1
    neurons[:, 4] = 1e6 + rng.random(400)
    concepts = (rng.random((400, 20)) < 0.03).astype(float)
    full = rng.random((400, 500))  # beside these, the same columns are kept dense
    row = evals.find_metric(name)
    thin = row(neurons, concepts, alpha=0.05)
    dense = row(np.hstack([neurons, full]), np.hstack([concepts, full]), alpha=0.05)[:30, :20]
    assert_same(thin, dense, atol=1e-16)


@every_metric
def test_values_stay_within_bounds(name):
    row = evals.find_metric(name)
    neurons = data.activations()[:, :13]
    values = row(neurons, np.abs(neurons) / np.abs(neurons).max(axis=0), alpha=0.05)
    if row.bounds is not None:
        assert np.nanmin(values) >= row.bounds[0]
        assert np.nanmax(values) <= row.bounds[1]


@pytest.mark.parametrize("name", [name for name in METRICS if evals.find_metric(name).partner])
def test_partner_exchanges_neuron_and_concept(name):
    one, other = data.labels(seed=6) >= 0.5, data.labels(seed=7) >= 0.5
    both = (one.any(axis=0) & ~one.all(axis=0)), (other.any(axis=0) & ~other.all(axis=0))
    one, other = one[:, both[0]], other[:, both[1]]
    row = evals.find_metric(name)
    partner = evals.find_metric(row.partner)
    assert_same(row(one, other), partner(other, one).T)


@every_metric
def test_undefined_pairs_are_nan(name):
    row = evals.find_metric(name)
    neurons, concepts = data.activations(), data.labels()
    values = row(neurons, concepts, alpha=0.05)
    assert not np.isinf(values).any()
    constant = [13, 14, 15]
    if "alpha" in row.needs or name == "correlation":
        assert np.isnan(values[constant]).all()
    if name == "correlation":
        assert np.isnan(values[:, [7, 8, 9]]).all()
    if name == "inverse_auc":
        assert np.isnan(values[:, [7, 8]]).all()
    if name == "cosine":
        assert np.isnan(values[14]).all()
        assert np.isnan(values[:, 7]).all()


@every_metric
def test_refuses_what_it_cannot_score(name):
    row = evals.find_metric(name)
    neurons, concepts = data.activations(), data.labels()
    with pytest.raises(ValueError, match="160 and 159"):
        row(neurons, concepts[:-1], alpha=0.1)
    with pytest.raises(ValueError, match="2 values are NaN or infinite"):
        row(np.where(np.arange(160)[:, None] == [3, 5], np.nan, 1), concepts, alpha=0.1)
    with pytest.raises(TypeError, match="complex"):
        row(neurons.astype(complex), concepts, alpha=0.1)
    with pytest.raises(ValueError, match=r"\(input, column\)"):
        row(neurons[:, 0], concepts, alpha=0.1)
    if "alpha" in row.needs:
        with pytest.raises(ValueError, match="alpha"):
            row(neurons, concepts, alpha=1.5)
        with pytest.raises(ValueError, match="without alpha"):
            row(neurons, concepts)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("auc", "balanced_accuracy"),
        ("inverse_auc", "inverse_balanced_accuracy"),
        ("spearman_correlation", "correlation"),
        ("combined_auc", "combined_balanced_accuracy"),
    ],
)
@pytest.mark.slow
def test_identities_on_binary_data(one, other):
    neurons, concepts = data.labels(seed=6) >= 0.5, data.labels(seed=7) >= 0.5
    defined = neurons.any(axis=0)  # a silent neuron has no area, but may have an inverse one
    values = evals.find_metric(one)(neurons[:, defined], concepts)
    assert_same(values, evals.find_metric(other)(neurons[:, defined], concepts), atol=1e-15)
