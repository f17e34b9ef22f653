"""Sums of products: exact, whatever the order of inputs."""

from __future__ import annotations

from dataclasses import fields
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import evals
from evals.kernels.columns import Columns
from evals.kernels.moments import Description, cross_moments, sample_moments, thin_moments
from evals.kernels.ranking import midranks
from tests.evals import oracles


def moments_of(activations, labels):
    block = Columns(activations).block(0, activations.shape[1])
    columns = Columns(labels)
    concepts = Description.join(
        [Description.of(columns.block(part.start, part.stop, None)) for part in columns.slices(64)]
    )
    return cross_moments(block, Description.of(block), columns, concepts)


@pytest.mark.slow
@pytest.mark.parametrize("binary", [True, False])
def test_nearly_uncorrelated_pairs_do_not_depend_on_order(binary):
    rng = np.random.default_rng(1)
    neurons, concepts = rng.normal(size=(20_000, 60)), rng.random((20_000, 60))
    concepts = (concepts > 0.5).astype(float) if binary else concepts
    order = rng.permutation(20_000)
    first = evals.find_metric("correlation")(neurons, concepts)
    second = evals.find_metric("correlation")(neurons[order], concepts[order])
    assert np.abs(first).min() < 1e-5  # where a plain sum would be off by more than 1e-12
    np.testing.assert_allclose(second, first, rtol=1e-14)


def test_products_that_cancel_are_correct_beyond_double_precision():
    rng = np.random.default_rng(2)
    neurons, concepts = rng.normal(size=(500, 3)) ** 5, rng.random((500, 2))
    neurons[:, 0] -= neurons[:, 0] @ concepts[:, 0] / concepts[:, 0].sum()  # inner product near 0
    inner = moments_of(neurons, concepts).inner
    for i, a in enumerate(neurons.T):
        for j, c in enumerate(concepts.T):
            exact = sum(Fraction(x) * Fraction(y) for x, y in zip(a, c, strict=True))
            beyond = 2.0**-66 * np.linalg.norm(a) * np.linalg.norm(c)
            np.testing.assert_allclose(inner[i, j], float(exact), rtol=4e-16, atol=beyond)


spans = st.tuples(st.integers(0, 300), st.integers(0, 12), st.integers(-8, 8))


@settings(max_examples=25)
@given(span=spans, seed=st.integers(0, 5))
def test_far_from_zero_and_with_outliers(span, seed):
    exponent, offset, outlier = span
    rng = np.random.default_rng(seed)
    a = rng.normal(size=40) + 10.0**offset
    a[0] *= 10.0**outlier
    a = a * 10.0 ** (exponent - 150)
    c = 0.9 + 0.09 * rng.random(40)
    got = evals.find_metric("correlation")(a[:, None], c[:, None])[0, 0]
    np.testing.assert_allclose(got, oracles.correlation(a, c), rtol=1e-12, atol=1e-15)


def test_a_column_with_itself():
    x = np.random.default_rng(3).random((999, 1))
    assert evals.find_metric("correlation")(x, x)[0, 0] == pytest.approx(1, abs=1e-15)
    assert evals.find_metric("correlation")(-x, x)[0, 0] == pytest.approx(-1, abs=1e-15)
    assert evals.find_metric("cosine")(x, x)[0, 0] == pytest.approx(1, abs=1e-15)


def test_disjoint_columns_have_a_cosine_of_exactly_0():
    a = np.zeros((100, 1))
    a[::2] = np.random.default_rng(4).random((50, 1))
    c = np.ones((100, 1))
    c[::2] = 0
    assert evals.find_metric("cosine")(a, c)[0, 0] == 0


def test_one_input():
    assert np.isnan(evals.find_metric("correlation")(np.ones((1, 1)), np.ones((1, 1)))[0, 0])


def test_deviations_and_norms_in_units_of_the_data():
    rng = np.random.default_rng(5)
    neurons = rng.gamma(2, size=(300, 4)) * (rng.random((300, 4)) < 0.04) * 1e-9
    concepts = rng.random((300, 3)) * 0.2 + 0.7
    for held in (neurons, sparse.csr_array(neurons)):
        m = moments_of(held, concepts)
        np.testing.assert_allclose(m.activation_deviation[:, 0], neurons.std(axis=0), rtol=1e-14)
        np.testing.assert_allclose(m.label_deviation, concepts.std(axis=0), rtol=1e-13)
        np.testing.assert_allclose(m.inner, neurons.T @ concepts, rtol=1e-14)
        np.testing.assert_allclose(m.label_norm, np.linalg.norm(concepts, axis=0), rtol=1e-14)
        centred = neurons - neurons.mean(axis=0)
        np.testing.assert_allclose(m.covariance, centred.T @ concepts / 300, rtol=1e-11)


@pytest.mark.parametrize("kind", [bool, np.float32, np.float64])
@pytest.mark.parametrize("ranked", [False, True])
def test_few_inputs_of_labels_mostly_0_have_the_moments_of_all_labels(kind, ranked):
    rng = np.random.default_rng(2)
    labels = ((rng.random((300, 40)) < 0.03) * rng.choice([0.25, 0.5, 1.0], (300, 40))).astype(kind)
    inputs = [rng.integers(0, 300, rng.integers(1, 60)) for _ in range(20)]
    neurons = [rng.normal(size=(len(own), 1)) for own in inputs]
    neurons = [midranks(own) for own in neurons] if ranked else neurons
    found = thin_moments(neurons, inputs, sparse.csr_array(labels), ranked)
    for j, (own, drawn) in enumerate(zip(neurons, inputs, strict=True)):
        there = labels[drawn].astype(float)
        expected = sample_moments(own, midranks(there) if ranked else there)
        for field in fields(expected):
            if field.name != "exponent":
                got = getattr(found, field.name)[j]
                np.testing.assert_array_equal(got, getattr(expected, field.name))
