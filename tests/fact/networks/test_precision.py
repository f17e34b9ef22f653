"""Networks in bf16 are near those in float32; bytes become floats on the device, bit for bit."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fact.encode.encoders import EncoderChoice
from fact.encode.image_encoder import ImageEncoder
from fact.networks import network as networks
from fact.networks.classifier import ClassifierTraining
from fact.networks.config import ClassifierConfig
from fact.networks.precision import computing_in, exact
from fact.sae.sampling import draw_features
from registry.declare.stage import load_stage
from tests.fact import tiny

STAGES = (
    "collect_features",
    "train_classifier",
    "train_sae",
    "bcosify_network",
    "encode_concepts",
    "encode_craft",
    "encode_crp",
    "encode_images",
)
NETWORKS = {
    "convolutions": (tiny.convnet, "features.1"),
    "ViT": (tiny.vit, "0.transformer.encoder_0"),
}
BF16 = 2**-8
"""Largest relative error of a number rounded to bfloat16."""


@pytest.mark.parametrize("verb", STAGES)
def test_precision_is_hashed_only_where_it_is_not_float32(verb: str) -> None:
    settings = load_stage(f"fact.{verb}").settings
    values = {**settings.defaults()}
    assert values["precision"] == "float32"
    hashed = settings.rules.hashed(values)
    assert "precision" not in hashed
    assert settings.rules.hashed(values | {"precision": "bf16"}) == hashed | {"precision": "bf16"}


@pytest.mark.parametrize("named", NETWORKS)
def test_features_in_bf16_are_near_those_in_float32(named: str) -> None:
    make, layer = NETWORKS[named]
    network, pixels = make(dtype=torch.float32), tiny.images(6)
    every = 10**6  # positions: all with importance, the same ones
    exactly, nearly = (
        draw_features(network, layer, pixels, every, np.random.default_rng(0), precision)
        for precision in ("float32", "bf16")
    )
    assert all(values.dtype == exactly[name].dtype for name, values in nearly.items())
    np.testing.assert_array_equal(nearly["image"], exactly["image"])
    for name in ("feature", "importance"):
        error = np.linalg.norm(nearly[name] - exactly[name]) / np.linalg.norm(exactly[name])
        assert 0 < error < 8 * BF16, name


def test_weights_and_what_is_chosen_by_size_stay_in_float32() -> None:
    network = tiny.convnet(dtype=torch.float32)
    products = []
    first = next(part for part in network.module.modules() if isinstance(part, nn.Conv2d))
    first.register_forward_hook(lambda part, args, output: products.append(output.dtype))
    with computing_in("bf16", network.device):
        logits = network.logits(network.encode(tiny.images(2)))
    assert products == [torch.bfloat16]
    assert {p.dtype for p in network.module.parameters()} == {torch.float32}
    assert exact(logits).dtype == torch.float32
    double = torch.zeros(2, dtype=torch.float64)
    assert exact(double) is double


class Shown:
    """Images in memory, as a training asks for them."""

    def __init__(self, pixels: np.ndarray):
        self.pixels = pixels

    def read(self, ids: np.ndarray, geometry: object = None) -> np.ndarray:
        return self.pixels[[int(name) for name in ids]]


class Told:
    """A run that notes what is logged."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def log(self, name: str, value: float, step: int) -> None:
        self.losses.append(value)

    def progress(self, *_: object) -> None: ...

    def checkpoint(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(find=lambda: None)


def test_a_training_in_bf16_learns_as_one_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClassifierTraining, "_save", lambda self: None)
    labels = np.arange(24) % 3
    pixels = (tiny.images(24) // 4 + 60 * labels[:, None, None, None]).astype(np.uint8)
    ids, losses = np.array([str(i) for i in range(24)]), {}
    for precision in ("float32", "bf16"):
        network, run = tiny.convnet(dtype=torch.float32), Told()
        config = ClassifierConfig(epochs=6, batch=8, lr=5e-2, precision=precision)
        ClassifierTraining(network, Shown(pixels), (ids, labels), config, run).train()
        losses[precision] = run.losses
        assert {p.dtype for p in network.module.parameters()} == {torch.float32}
    exactly, nearly = np.array(losses["float32"]), np.array(losses["bf16"])
    assert exactly[-1] < 0.8 * exactly[0]
    assert nearly[0] != exactly[0]
    np.testing.assert_allclose(nearly[:3], exactly[:3], rtol=8 * BF16)
    assert nearly[-1] < 0.8 * nearly[0]


def test_an_encoder_in_bf16_is_near_one_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    row = SimpleNamespace(
        multiple=4,
        hub=None,
        load=lambda device: lambda images: functional.conv2d(images, weights, stride=4),
    )
    same = SimpleNamespace(
        multiple=1, hub=None, load=lambda device: lambda features, images: features
    )
    monkeypatch.setattr(EncoderChoice, "rows", property(lambda self: (row, same)))
    cpu = torch.device("cpu")
    exactly, nearly = (
        [
            found.values
            for found in ImageEncoder(EncoderChoice(side=None), cpu, precision).features(
                tiny.images(3)
            )
        ]
        for precision in ("float32", "bf16")
    )
    for one, other in zip(exactly, nearly, strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert 0 < (one - other).norm() < 4 * BF16 * one.norm()


# -- what is sent to a device ----------------------------------------------------------------


def as_once(pixels: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """Floats as they were made before bytes were sent: laid out, then divided."""
    laid_out = np.ascontiguousarray(np.moveaxis(pixels, -1, 1))
    return torch.from_numpy(laid_out).to(dtype) / 255


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["bytes", "read-only", "strided", "wide", "floats"])
def test_the_floats_are_bit_for_bit_what_they_were(kind: str, dtype: torch.dtype) -> None:
    pixels = np.arange(2 * 12 * 11 * 3, dtype=np.int64).reshape(2, 12, 11, 3) % 256
    given = pixels.astype(np.int32 if kind == "wide" else np.uint8)
    given = given[:, ::-1, ::2] if kind == "strided" else given
    wanted = as_once(given.astype(np.uint8), dtype)
    if kind == "floats":
        given = np.moveaxis(wanted.numpy(), 1, -1)
    given.setflags(write=kind != "read-only")
    found = networks._as_rgb(given, torch.device("cpu"), dtype)
    assert torch.equal(found, wanted)
    assert found.stride() == wanted.stride()


def test_no_device_is_waited_for_to_look_at_bytes() -> None:
    """A tensor on `meta` has no values to look at."""
    network = tiny.convnet(dtype=torch.float32)
    network.module.to("meta")
    encoded = network.encode(tiny.images(2))
    assert (encoded.device.type, tuple(encoded.shape)) == ("meta", (2, 6, 8, 8))


@pytest.mark.parametrize("named", NETWORKS)
def test_colours_last_in_memory_change_rounding_alone(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, layer = NETWORKS[named]
    network, pixels = make(), tiny.images(4)
    usual = draw_features(network, layer, pixels, 10**6, np.random.default_rng(0))
    monkeypatch.setattr(networks, "memory_format", lambda device: torch.channels_last)
    assert network.encode(pixels).is_contiguous(memory_format=torch.channels_last)
    other = draw_features(network, layer, pixels, 10**6, np.random.default_rng(0))
    for name in ("feature", "importance"):
        np.testing.assert_allclose(other[name], usual[name], rtol=1e-5, atol=1e-9)
