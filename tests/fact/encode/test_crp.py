"""Relevance of channels: the rules derived anew from their formulas, in double precision."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models
from torchvision.models.resnet import BasicBlock, ResNet

from fact.encode.crp import relevance_maps
from fact.networks.layers import LayerError
from fact.networks.network import Network, NetworkError, Normalisation
from tests.fact import tiny

CHANNELS = np.array([3, 0, 17])


def resnet(seed: int = 0, biased: bool = True) -> Network:
    """A ResNet of four basic blocks, with batch norms as after training, or without biases."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3).double().eval()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d) and biased:
                part.running_mean.normal_(0, 0.2)
                part.running_var.uniform_(0.5, 1.5)
                nn.init.normal_(part.bias, 0, 0.2)
    return Network(module.requires_grad_(False), bcos=False)


# -- the rules, by their formulas --------------------------------------------------------------


def stable(values: Tensor) -> Tensor:
    """Denominators are kept away from 0 by 1e-6, the default of zennit."""
    return values + torch.where(values < 0, -1e-6, 1e-6)


def merged(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with its batch norm."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


class Convolution:
    """A convolution with a batch norm behind it, and the way back through it by z-plus."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, given: Tensor):
        self.weight, self.bias = merged(conv, norm)
        self.how = {"stride": conv.stride, "padding": conv.padding}
        self.given = given
        self.output = functional.conv2d(given, self.weight, self.bias, **self.how)

    def transposed(self, weight: Tensor, relevance: Tensor) -> Tensor:
        return torch.nn.grad.conv2d_input(self.given.shape, weight, relevance, **self.how)

    def back(self, relevance: Tensor) -> Tensor:
        signs: list[Callable[[Tensor], Tensor]] = [
            lambda t: t.clamp(min=0),
            lambda t: t.clamp(max=0),
        ]
        whole = self.bias.clamp(min=0)[:, None, None] + sum(
            functional.conv2d(sign(self.given), sign(self.weight), **self.how) for sign in signs
        )
        share = relevance / stable(whole)
        return sum(sign(self.given) * self.transposed(sign(self.weight), share) for sign in signs)

    def back_flat(self, relevance: Tensor) -> Tensor:
        """Every pixel that a place sees, in every colour, gets the same."""
        one = torch.ones_like(self.weight)
        seen = functional.conv2d(torch.ones_like(self.given), one, **self.how)
        return self.transposed(one, relevance / stable(seen))


def back_through_pool(given: Tensor, relevance: Tensor) -> Tensor:
    """The largest of a window takes all."""
    _, places = functional.max_pool2d(given, 3, 2, 1, return_indices=True)
    found = torch.zeros_like(given).flatten(2)
    return found.scatter_add(2, places.flatten(2), relevance.flatten(2)).view_as(given)


def expected_maps(module: ResNet, image: Tensor, channels: np.ndarray) -> Tensor:
    stem = Convolution(module.conv1, module.bn1, image)
    before_pool = stem.output.relu()
    x, back = functional.max_pool2d(before_pool, 3, 2, 1), []
    for block in (module.layer1[0], module.layer2[0], module.layer3[0], module.layer4[0]):
        first = Convolution(block.conv1, block.bn1, x)
        second = Convolution(block.conv2, block.bn2, first.output.relu())
        short = Convolution(*block.downsample, x) if block.downsample else None
        identity = x if short is None else short.output
        back.append((first, second, short, identity))
        x = (second.output + identity).relu()
    relevance = torch.zeros_like(x)
    rows = torch.arange(len(x))
    relevance[rows, channels] = x[rows, channels]
    for first, second, short, identity in reversed(back):
        share = relevance / stable(second.output + identity)
        around = identity * share
        relevance = first.back(second.back(second.output * share))
        relevance = relevance + (around if short is None else short.back(around))
    return stem.back_flat(back_through_pool(before_pool, relevance)).sum(1)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.slow
def test_maps_of_a_resnet_are_those_of_the_formulas(seed: int) -> None:
    network, images = resnet(seed), tiny.images(3, side=48, seed=seed)
    with torch.no_grad():
        expected = expected_maps(network.module, network.encode(images), CHANNELS)
    got = relevance_maps(network, "layer4", images, CHANNELS)
    assert got.dims == ("image", "y", "x")
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-5, atol=1e-6)
    assert (expected.abs().sum((1, 2)) > 0.1).all()


def layer_sums(network: Network, layer: str, images: np.ndarray) -> np.ndarray:
    """Sums over positions, (image, channel)."""
    kept: list[Tensor] = []
    handle = network.module.get_submodule(layer).register_forward_hook(
        lambda _part, _args, output: kept.append(output)
    )
    network.module(network.encode(images))
    handle.remove()
    return kept[0].sum((2, 3)).numpy()


@pytest.mark.parametrize("layer", ["layer2", "layer4"])
@pytest.mark.slow
def test_relevance_is_conserved_without_biases_and_lost_to_positive_ones(layer: str) -> None:
    images = tiny.images(3, side=48)
    for biased in (False, True):
        network = resnet(biased=biased)
        sums = layer_sums(network, layer, images)
        total = relevance_maps(network, layer, images, sums.argmax(1)).sum(("y", "x")).values
        if biased:
            assert (total < 0.99 * sums.max(1)).all()
        else:
            np.testing.assert_allclose(total, sums.max(1), rtol=1e-3)


def test_two_layers_by_hand() -> None:
    """An image of 1 x 2 pixels; a flat layer that sees each alone, and one of z-plus."""
    first, second = nn.Conv2d(3, 2, 1, bias=False), nn.Conv2d(2, 1, (1, 2))
    first.weight.data = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).view(2, 3, 1, 1)
    second.weight.data = torch.tensor([[[[2.0, -1]], [[0, 3]]]])
    second.bias.data = torch.tensor([0.5])
    module = nn.Sequential(first, nn.ReLU(), second).eval()
    network = Network(module, bcos=False, normalisation=Normalisation((0, 0, 0), (1, 1, 1)))
    image = torch.tensor([[[0.5, 1]], [[0.25, 0.5]], [[0, 0]]])[None]
    # It puts out 0.5 * 2 - 1 * 1 + 0.5 * 3 + 0.5 = 2, and 1 + 1.5 + 0.5 of that is positive.
    got = relevance_maps(network, "2", image, [0]).values[0, 0]
    np.testing.assert_allclose(got, [2 * 1 / 3, 2 * 1.5 / 3], rtol=1e-5)


@pytest.mark.slow
def test_a_map_is_the_same_in_any_batch() -> None:
    network, images = resnet(), tiny.images(3, side=48)
    together = relevance_maps(network, "layer3", images, CHANNELS)
    alone = relevance_maps(network, "layer3", images, CHANNELS, batch_size=1)
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-9)


@pytest.mark.slow
def test_a_network_is_as_before_even_after_an_error() -> None:
    network, images = resnet(), tiny.images(3, side=48)
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    logits = network.module(network.encode(images))
    relevance_maps(network, "layer4", images, CHANNELS)
    with pytest.raises(LayerError, match=r"has 512 channels; got \[.*600"):
        relevance_maps(network, "layer4", images, [1, 2, 600])
    with pytest.raises(LayerError, match="did you mean 'layer4'"):
        relevance_maps(network, "layer5", images, CHANNELS)
    after = network.module.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(network.module(network.encode(images)), logits)
    assert not any(part.training for part in network.module.modules())


@pytest.mark.parametrize("build", [lambda: models.densenet121(), lambda: tiny.vit().module])
def test_networks_without_rules_are_refused(build: Callable[[], nn.Module]) -> None:
    network = Network(build(), bcos=False)
    with pytest.raises(NetworkError, match=r"no rules for .*; expected one of ResNet"):
        relevance_maps(network, "0", tiny.images(1, side=32), [0])


def test_without_zennit_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zennit.composites", None)
    with pytest.raises(ImportError, match=r"factbook\[baselines\]"):
        relevance_maps(resnet(), "layer4", tiny.images(1, side=48), [0])
