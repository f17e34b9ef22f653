"""Activations of neurons, against plain forward passes with hooks of their own."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.special import expit, softmax
from torch import Tensor, nn

from fact.data.images import Geometry, class_concepts, in_geometry, numbered_ids
from fact.networks.layers import LayerError
from fact.networks.network import Network
from fact.schemas import ACTIVATIONS
from fact.traces.activations import (
    Neurons,
    collect,
    neuron_activations,
    output_neurons,
    read_neurons,
)
from fact.traces.config import ActivationConfig
from registry.store.shards import ShardWriter
from tests.fact import tiny
from tests.in_parts import closed_over

TRANSFORMS = {"none": lambda x: x, "sigmoid": expit, "softmax": lambda x: softmax(x, axis=1)}


class Photographs:
    """Random images of three kinds of animals, of which two are in a group."""

    name, classes, splits = "tiny", tiny.CLASSES, ("test",)
    groups = MappingProxyType({"with legs to spare": ("bee",), "mammals": ("ape", "cow")})

    def __init__(self, count: int = 11):
        self.pixels = tiny.images(count)

    def ids(self, split: str) -> np.ndarray:
        return numbered_ids(split, len(self.pixels))

    def labels(self, split: str) -> np.ndarray:
        return np.arange(len(self.pixels)) % 3

    def read(self, ids: Any, geometry: Geometry | None = None) -> np.ndarray:
        rows = [int(str(name).rpartition("/")[2]) for name in ids]
        return in_geometry(self.pixels[rows], geometry)

    def concepts(self, split: str) -> xr.DataArray:
        return class_concepts(self.ids(split), self.labels(split), self.classes, self.groups)

    def masks(self, ids: Any, geometry: Geometry | None = None) -> None:
        return None


class FolderRun:
    """A run that writes shards into a folder, and may be stopped."""

    def __init__(self, folder: Path, stop_after: int | None = None):
        self.folder, self.stop_after, self.calls = folder, stop_after, 0

    def shards(self, count: int | None = None) -> ShardWriter:
        return ShardWriter(self.folder, ACTIVATIONS)

    def progress(self, done: int, total: int, what: str = "") -> None:
        self.calls += 1
        if self.calls == self.stop_after:
            raise KeyboardInterrupt


def hooked(network: Network, layer: str, pixels: np.ndarray) -> np.ndarray:
    """What a layer puts out, by a hook set by hand."""
    kept: list[Tensor] = []
    part = dict(network.module.named_modules())[layer]
    handle = part.register_forward_hook(lambda _part, _args, output: kept.append(output))
    with torch.no_grad():
        network.module(network.encode(pixels))
    handle.remove()
    return kept[0].numpy()


@pytest.mark.parametrize("transform", sorted(TRANSFORMS))
@pytest.mark.parametrize("pooling", ["mean", "max", "sum"])
def test_channels_of_maps_and_tokens_are_pooled_then_transformed(
    pooling: Any, transform: Any
) -> None:
    pixels = tiny.images(5)
    pool = {"mean": np.mean, "max": np.max, "sum": np.sum}[pooling]
    for network, layer, axes in (
        (tiny.convnet(), "features.1", (2, 3)),
        (tiny.vit(), "0.transformer.encoder_1", (1,)),
    ):
        expected = TRANSFORMS[transform](pool(hooked(network, layer, pixels), axis=axes))
        got = neuron_activations(
            network, pixels, layer, pooling=pooling, transform=transform, batch_size=2
        )
        np.testing.assert_allclose(got, expected, rtol=1e-6)
        assert got.dims == ("image", "neuron")


@pytest.mark.parametrize("transform", sorted(TRANSFORMS))
def test_logits_are_the_output_with_its_bias_or_without(transform: Any) -> None:
    network, pixels = tiny.convnet(), tiny.images(4)
    with torch.no_grad():
        output = network.module(network.encode(pixels))
        before = network.logits(network.encode(pixels))
    bias = network.logit_bias
    assert bias is not None
    assert bias < 0
    np.testing.assert_allclose(output - before, bias, rtol=1e-9)
    got = neuron_activations(network, pixels, transform=transform)
    np.testing.assert_allclose(got, TRANSFORMS[transform](output.numpy()), rtol=1e-6)
    without = ActivationConfig(transform=transform, with_bias=False)
    got = read_neurons(network, network.encode(pixels), without).numpy()
    np.testing.assert_allclose(got, TRANSFORMS[transform](before.numpy()), rtol=1e-9)


def test_a_plain_module_and_its_vectors_will_do() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4)).double().eval()
    pixels = tiny.images(3)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    flat = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2).reshape(3, -1)
    weights = [value.detach().numpy() for value in module[1].parameters()]
    expected = flat @ weights[0].T + weights[1]
    np.testing.assert_allclose(neuron_activations(module, pixels), expected, rtol=1e-5)


def test_layers_that_are_not_there_or_give_no_tensor_are_errors() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    with pytest.raises(LayerError, match=r"did you mean 'features\.1'"):
        neuron_activations(tiny.convnet(), tiny.images(1), "featurs.1")
    with pytest.raises(LayerError, match="puts out a tuple"):
        neuron_activations(Network(Pair(), bcos=False), tiny.images(1))


def test_outputs_stand_for_the_classes_of_their_name() -> None:
    found = output_neurons(["bee", "yak", "ape"], ["ape", "bee", "cat"], {"all": ["bee", "ape"]})
    assert found == Neurons(
        ("bee", "yak", "ape", "all"), ("class:bee", "", "class:ape", "group:all"), ((0, 2),)
    )
    assert sum(map(bool, found.right_concepts)) == 3
    with pytest.raises(ValueError, match="group 'two': the network knows no class 'cat'"):
        output_neurons(["bee", "ape"], ["ape", "bee", "cat"], {"two": ["ape", "cat"]})


def test_outputs_stand_for_the_classes_in_their_place() -> None:
    found = output_neurons(["0", "1"], ["n01", "n02"], {"both": ["n02", "n01"]}, match="order")
    assert found.right_concepts == ("class:n01", "class:n02", "group:both")
    with pytest.raises(ValueError, match="2 outputs, 3 classes"):
        output_neurons(["0", "1"], ["a", "b", "c"], match="order")


def test_groups_are_sums_of_their_members(tmp_path: Path) -> None:
    network, images = tiny.convnet(dtype=torch.float32), Photographs()
    config = ActivationConfig(transform="softmax", groups=True, batch=4)
    collect(network, images, config, FolderRun(tmp_path))
    with torch.no_grad():
        output = network.module(network.encode(images.pixels)).double().numpy()
    shares = softmax(output, axis=1)
    expected = np.column_stack([shares, shares[:, 1], shares[:, 0] + shares[:, 2]])
    part = xr.open_dataset(tmp_path / "part-000000.nc")
    np.testing.assert_allclose(part["activation"], expected, rtol=1e-5)
    np.testing.assert_allclose(part["activation"][:, 3:].sum("neuron"), 1, rtol=1e-6)
    summary = xr.open_dataset(tmp_path / "summary.nc")
    assert summary["name"].values.tolist() == [*tiny.CLASSES, "with legs to spare", "mammals"]
    assert set(summary["right_concept"].values) == set(images.concepts("test")["label"].values)
    assert summary["n_known"] == 5


@pytest.mark.slow
def test_a_stopped_collection_goes_on_at_its_next_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fact.traces.activations.SHARD_BYTES", 1)
    given = tiny.convnet(), Photographs(), ActivationConfig(batch=4)
    whole = collect(*given, FolderRun(tmp_path / "whole"))
    assert whole.rows == (4, 4, 3)
    with pytest.raises(KeyboardInterrupt):
        collect(*given, FolderRun(tmp_path / "stopped", stop_after=2))
    first = tmp_path / "stopped/part-000000.nc"
    written = first.stat().st_mtime_ns
    again = collect(*given, FolderRun(tmp_path / "stopped"))
    assert again.content == whole.content
    assert first.stat().st_mtime_ns == written


@pytest.mark.slow
@pytest.mark.parametrize("of", [2, 3, 5])
def test_parts_of_a_collection_give_the_digest_of_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: int
) -> None:
    monkeypatch.setattr("fact.traces.activations.SHARD_BYTES", 1)
    given = tiny.convnet(), Photographs(), ActivationConfig(batch=3)
    whole = collect(*given, FolderRun(tmp_path / "whole"))
    closed = closed_over(lambda run: collect(*given, run), lambda: FolderRun(tmp_path / "a"), of)
    assert (closed.content, closed.rows) == (whole.content, (3, 3, 3, 2))


def test_hidden_neurons_are_not_known(tmp_path: Path) -> None:
    config = ActivationConfig(layer="features.1")
    collect(tiny.convnet(), Photographs(), config, FolderRun(tmp_path))
    summary = xr.open_dataset(tmp_path / "summary.nc")
    assert summary["name"].values.tolist() == list("012345")
    assert not any(summary["right_concept"].values)
    assert summary["n_known"] == 0


def test_a_split_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="split 'test' has no images"):
        collect(tiny.convnet(), Photographs(0), ActivationConfig(), FolderRun(tmp_path))
