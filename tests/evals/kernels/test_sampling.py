"""Draws belong to a neuron and its inputs' names."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import evals
from evals.kernels.sampling import Sampler

IDS = np.array([f"test/{i:05d}" for i in range(2000)])
SAMPLER = Sampler(IDS, ["a", "b"])
TOP = np.arange(100, 140)


def test_25_of_the_top_and_25_of_all_without_replacement():
    drawn = SAMPLER.draw(0, TOP, seed=0)
    assert len(set(drawn[:25])) == len(set(drawn[25:])) == 25
    assert set(drawn[:25]) <= set(TOP)
    assert not set(drawn[25:]) <= set(TOP)


def test_all_of_them_where_there_are_fewer():
    drawn = Sampler(range(10), ["a"]).draw(0, np.array([3, 4]), seed=0)
    assert set(drawn[:2]) == {3, 4}
    assert sorted(drawn[2:]) == list(range(10))


def test_order_of_inputs_does_not_matter():
    order = np.random.default_rng(0).permutation(2000)
    moved = np.argsort(order)[TOP]
    drawn = Sampler(IDS[order], ["a"]).draw(0, moved, seed=0)
    np.testing.assert_array_equal(order[drawn], SAMPLER.draw(0, TOP, seed=0))


def test_neurons_and_seeds_draw_differently():
    drawn = [set(SAMPLER.draw(j, TOP, seed=s)[25:]) for j in (0, 1) for s in (0, 1)]
    assert len(set(map(frozenset, drawn))) == 4


def test_every_input_is_drawn_equally_often():
    sampler = Sampler(range(50), range(4000))
    counts = np.zeros(50)
    for neuron in range(4000):
        counts[sampler.draw(neuron, np.arange(1), seed=0, size=5)[1:]] += 1
    expected = 4000 * 5 / 50
    assert ((counts - expected) ** 2 / expected).sum() < 90  # chi-square, 49 degrees of freedom


@pytest.mark.parametrize("name", ["correlation_top_and_random"])
def test_scores_of_named_arrays_depend_on_names_alone(name):
    rng = np.random.default_rng(1)
    neurons = xr.DataArray(
        rng.normal(size=(2000, 6)),
        dims=("input", "neuron"),
        coords={"input": IDS, "neuron": list("uvwxyz")},
    )
    labels = xr.DataArray(rng.random((2000, 3)), dims=("input", "concept"), coords={"input": IDS})
    whole = evals.score(name, neurons, labels, seed=3)
    order = rng.permutation(2000)
    some = evals.score(name, neurons[order][:, [4, 1]], labels, seed=3)
    np.testing.assert_allclose(some, whole[[4, 1]], rtol=1e-12)
    assert not np.allclose(evals.score(name, neurons, labels, seed=4), whole)
