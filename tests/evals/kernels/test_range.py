"""Tiny and huge activations: right values, against exact rationals."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import sparse

import evals
from evals.kernels.draws import DrawnStatistics, Draws
from evals.metrics.table import Parameters

DENORMAL = 5e-324
SCALES = [DENORMAL * 3, DENORMAL * 2**20, 1e-310, 1e-290, 1e-200, 1.0, 1e200, 1e305]
METRICS = ("correlation", "cosine", "mad")
N_INPUTS = 60


def whole_numbers() -> np.ndarray:
    """Multiples of 1, so that every scale holds them exactly or nearly so."""
    rng = np.random.default_rng(0)
    columns = [
        rng.integers(0, 1000, N_INPUTS),
        rng.integers(-50, 50, N_INPUTS),
        1000 + rng.integers(0, 9, N_INPUTS),  # all within a factor of two
        rng.integers(1, 9, N_INPUTS) * (rng.random(N_INPUTS) < 0.1),
        np.full(N_INPUTS, 7),
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def root(value: Fraction) -> Fraction:
    """Return a square root to 60 digits."""
    scale = 10**800
    return Fraction(math.isqrt(value.numerator * value.denominator * scale**2)) / (
        value.denominator * scale
    )


def expected(name: str, activations: np.ndarray, labels: np.ndarray) -> float:
    a, c = ([Fraction(value) for value in column.tolist()] for column in (activations, labels))
    n = len(a)
    inner = sum(x * y for x, y in zip(a, c, strict=True))
    if name == "cosine":
        norms = root(sum(x * x for x in a)) * root(sum(y * y for y in c))
        return float(inner / norms) if norms else math.nan
    if name == "mad":
        own = [x for x, y in zip(a, c, strict=True) if y >= Fraction(1, 2)]
        others = [x for x, y in zip(a, c, strict=True) if y < Fraction(1, 2)]
        return float(sum(own) / len(own) - sum(others) / len(others))
    means = sum(a) / n, sum(c) / n
    spread = [sum((x - mean) ** 2 for x in own) for own, mean in zip((a, c), means, strict=True)]
    covariance = inner - n * means[0] * means[1]
    norms = root(spread[0] * spread[1])
    return float(covariance / norms) if norms else math.nan


def labels() -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.stack([rng.random(N_INPUTS), rng.random(N_INPUTS) < 0.3], axis=1).astype(float)


def assert_right(got: np.ndarray, activations: np.ndarray, concepts: np.ndarray, name: str) -> None:
    for neuron, column in enumerate(activations.T):
        for concept, own in enumerate(concepts.T):
            right = expected(name, column, own)
            np.testing.assert_allclose(
                got[neuron, concept], right, rtol=1e-12, atol=DENORMAL, equal_nan=True
            )


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_at_any_scale(scale, container):
    activations, concepts = whole_numbers() * scale, labels()
    scores = evals.score_matrix(container(activations), container(concepts), METRICS)
    for name in METRICS:
        assert_right(scores[name].values, activations, concepts, name)


@pytest.mark.parametrize("scale", [DENORMAL * 3, 1e-310, 1e-200])
def test_of_labels_that_are_all_tiny(scale):
    activations, concepts = whole_numbers(), labels() * scale
    scores = evals.score_matrix(activations, concepts, ["correlation", "cosine"])
    for name in ("correlation", "cosine"):
        assert_right(scores[name].values, activations, concepts, name)
    logarithm = evals.find_metric("wpmi")(activations, concepts, alpha=0.1, lam=1)
    means = [sum(map(Fraction, own.tolist())) / N_INPUTS for own in concepts.T]
    right = [math.log(1e-8) - math.log(m.numerator) + math.log(m.denominator) for m in means]
    np.testing.assert_allclose(logarithm[0], right, rtol=1e-12)


@pytest.mark.parametrize("scale", SCALES)
def test_where_inputs_are_drawn_again(scale):
    activations, concepts = whole_numbers()[:, 0] * scale, labels()[:, 0]
    draws = Draws.bootstrap(N_INPUTS, 3, np.random.default_rng(2))
    statistics = DrawnStatistics.of_draws(activations, concepts, draws)
    for name in METRICS:
        got = evals.find_metric(name).evaluate(statistics)
        for draw, times in enumerate(draws.counts.T):
            pair = np.repeat(activations, times), np.repeat(concepts, times)
            right = expected(name, *pair)
            np.testing.assert_allclose(got[draw], right, rtol=1e-9, atol=2 * DENORMAL)


@pytest.mark.parametrize("name", ["correlation", "spearman_correlation"])
def test_a_drawn_sample_does_not_depend_on_the_scale(name):
    name = f"{name}_top_and_random"
    activations, concepts = whole_numbers()[:, :3], labels()
    usual = evals.score(name, activations, concepts, seed=1)
    for scale in (DENORMAL, 1e-310, 1e300):
        tiny = evals.score(name, activations * scale, concepts, seed=1)
        np.testing.assert_allclose(tiny, usual, rtol=1e-12)


@pytest.mark.parametrize("name", [n for n in evals.list_metrics() if "random" not in n])
def test_every_metric_is_the_same_at_a_tiny_scale(name):
    row = evals.find_metric(name)
    usual = row(whole_numbers(), labels(), alpha=0.1)
    tiny = row(whole_numbers() * DENORMAL, labels(), **vars(Parameters(alpha=0.1)))
    np.testing.assert_allclose(
        tiny, usual * (DENORMAL if name == "mad" else 1), rtol=1e-12, atol=DENORMAL
    )
