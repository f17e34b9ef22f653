"""Concepts of many images, each image run through the network once."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from fact.networks.network import Network
from fact.sae.validation import reconstruct_sparse
from fact.traces import pairs
from fact.traces.attribution import concept_maps, explain_concepts
from fact.traces.measurement import measure_batch
from fact.traces.pairs import Pairs, map_pairs, maps_by_image
from fact.traces.spliced import ConceptSource
from tests.fact import tiny

IMAGES = tiny.images(4)
IMAGE = np.array([2, 0, 0, 3, 0, 2, 0])
CONCEPT = np.array([1, 4, 0, 8, 2, 4, 7])


@contextmanager
def images_seen(network: Network) -> Iterator[list[int]]:
    """Count the images of each run of a network."""
    seen: list[int] = []
    first = next(part for part in network.module.modules() if not list(part.children()))
    handle = first.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    try:
        yield seen
    finally:
        handle.remove()


@pytest.mark.parametrize("by", ["gradient", "codes", "crp"])
@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_pairs_are_mapped_as_each_alone(
    by: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "PIXELS_ON_CPU", at_once * 64)
    network, layer, channels = tiny.convnet(), "features.1", 6
    if by == "crp":
        module = torch.nn.Sequential(
            torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(6, 5, 3)
        )
        network, layer = Network(module.double().eval(), bcos=False, linear=False), "1"
    source = ConceptSource(network, layer, tiny.sae(channels), by)
    asked, told = Pairs(IMAGES, IMAGE, CONCEPT), []
    for found in list(map_pairs(network, explain_concepts(source), asked)):
        told += found.pairs.tolist()
        own = IMAGES[IMAGE[found.pairs]], CONCEPT[found.pairs][:, None]
        expected = concept_maps(network, layer, source.sae, *own, by=by)
        np.testing.assert_allclose(found.values, expected["map"].values[:, 0], atol=1e-12)
        if by == "gradient":
            np.testing.assert_allclose(found.weights, expected["weights"].values[:, 0], atol=1e-12)
    assert sorted(told) == list(range(len(IMAGE)))


def test_an_image_runs_through_the_network_once() -> None:
    source = ConceptSource(tiny.convnet(), "features.1", tiny.sae(6))
    explain = explain_concepts(source)
    list(map_pairs(source.network, explain, Pairs(IMAGES, IMAGE, CONCEPT)))  # counts calls of it
    with images_seen(source.network) as seen:
        list(map_pairs(source.network, explain, Pairs(IMAGES, IMAGE, CONCEPT)))
    assert sum(seen) == len(np.unique(IMAGE))


@pytest.mark.parametrize("held", [1, 2 * 64, 10**6])
def test_maps_come_image_by_image(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "HELD", held)
    source = ConceptSource(tiny.convnet(), "features.1", tiny.sae(6))
    order = np.argsort(IMAGE, kind="stable")
    asked = Pairs(IMAGES, IMAGE[order], CONCEPT[order])
    explain = explain_concepts(source)
    expected = np.empty((len(IMAGE), 8, 8))
    for found in map_pairs(source.network, explain, asked):
        expected[found.pairs] = found.values
    maps = list(maps_by_image(source.network, explain, asked))
    assert [len(own) for own in maps] == [4, 0, 2, 1]
    np.testing.assert_allclose(torch.cat([own for own in maps if len(own)]), expected, atol=1e-12)


@pytest.mark.parametrize("is_linear", [True, False])
def test_a_measurement_runs_images_once_and_knows_what_the_network_says(
    is_linear: bool,
) -> None:
    network = tiny.convnet() if is_linear else small_standard_network()
    layer = "features.1" if is_linear else "1"
    source = ConceptSource(network, layer, tiny.sae(6))
    with images_seen(network) as seen:
        found = measure_batch(source, "prediction", IMAGES, np.zeros(4, dtype=np.int64))
    assert sum(seen) == (4 + 1 if is_linear else 4 + 4)
    alone = network.logits(network.encode(IMAGES)).argmax(dim=1)
    np.testing.assert_array_equal(found["network_prediction"], alone)


def small_standard_network() -> Network:
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU(), torch.nn.Conv2d(6, 3, 3)
    )
    return Network(module.double().eval(), bcos=False, linear=False)


def test_a_reconstruction_by_sparse_codes_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    sae, x = tiny.sae(6), torch.rand(3, 16, 6, dtype=torch.float64)
    monkeypatch.setattr("fact.sae.validation.rows_at_once", lambda *_: 5)
    torch.testing.assert_close(reconstruct_sparse(sae, x), sae(x))
