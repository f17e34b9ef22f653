"""Whether an SAE is of the layer that it stands at, on networks whose layers have one width."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fact
from fact.fidelity.placement import Placement, place
from fact.networks.layers import capture

CHANNELS = 12


def a_network(seed: int = 0) -> fact.Network:
    """Return three layers of one width, all of positive numbers that grow with brightness."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        widths = itertools.pairwise([3, CHANNELS, CHANNELS, CHANNELS])
        blocks = [nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.ReLU()) for i, o in widths]
        module = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4))
    return fact.Network(module.eval().requires_grad_(False), bcos=False)


def pictures(count: int = 12) -> Tensor:
    return torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def features(network: fact.Network, layer: str) -> Tensor:
    with torch.no_grad(), capture(network.module, layer) as captured:
        network.module(pictures())
    return captured.positions.flatten(0, 1)


def principal_sae(rows: Tensor, k: int = 5) -> fact.SAE:
    """Return one that keeps the first principal components, each up and down from the mean."""
    mean = rows.mean(0)
    directions = torch.linalg.svd(rows - mean, full_matrices=False)[2][:k]
    encoder = torch.cat([directions, -directions])
    return fact.ReLUSAE(encoder, encoder.T, encoder_bias=-encoder @ mean, decoder_bias=mean)


def found(at: str, of: str) -> Placement:
    network = a_network()
    return place(network, at, principal_sae(features(network, of)), iter([pictures()]))


def test_an_sae_of_its_own_layer_is_told_from_channels_in_another_order() -> None:
    placed = found("1", "1")
    rows = features(a_network(), "1")
    values = torch.linalg.svdvals(rows - rows.mean(0)).square()
    assert placed.explained == pytest.approx(float(values[:5].sum() / values.sum()), abs=0.02)
    assert len(placed.shuffled) == 39
    assert placed.shuffled.max() < placed.explained
    assert not placed.is_chance
    assert placed.better == ""
    assert placed.told() == ""
    assert {"0", "2", "1.1"} <= placed.elsewhere.keys()
    assert placed.elsewhere["1.1"] == placed.explained


@pytest.mark.parametrize(("at", "of"), [("2", "1"), ("0", "2"), ("1", "0"), ("2", "0")])
def test_an_sae_of_another_layer_is_chance_and_its_own_layer_is_named(at: str, of: str) -> None:
    placed = found(at, of)
    assert placed.explained > 0.1  # which alone would pass
    assert placed.is_chance
    assert placed.better.partition(".")[0] == of
    assert "knows nothing of this layer" in placed.told()
    assert f"at {placed.better} it would explain" in placed.told()


def test_an_sae_that_gives_back_anything_is_of_no_layer() -> None:
    one = torch.eye(CHANNELS)
    encoder = torch.cat([one, -one])
    placed = place(a_network(), "1", fact.ReLUSAE(encoder, encoder.T), iter([pictures()]))
    assert placed.explained == pytest.approx(1)
    assert not placed.is_chance
    assert "in any order" in placed.told()


def test_too_few_channels_have_too_few_orders() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = fact.Network(module.eval(), bcos=False)
    encoder = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    placed = place(network, "1", fact.ReLUSAE(encoder, encoder.T), iter([pictures()]))
    assert len(placed.shuffled) == 0
    assert not placed.is_chance


def test_p_is_counted_as_of_any_permutation_test() -> None:
    shuffled = np.linspace(0, 0.38, 39)
    assert not Placement(0.5, shuffled, {}).is_chance  # p = 1 / 40
    assert not Placement(0.38, shuffled, {}).is_chance  # p = 2 / 40
    assert Placement(0.37, shuffled, {}).is_chance  # p = 3 / 40
