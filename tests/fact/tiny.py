"""Networks, SAEs and images small enough for Jacobians by brute force, in double precision."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from fact.networks.bcos_networks import small_bcos, small_vit
from fact.networks.network import Network
from fact.sae.model import TopKSAE

CLASSES = ("ape", "bee", "cow")


def convnet(seed: int = 0, dtype: torch.dtype = torch.float64) -> Network:
    """Three B-cos convolutions on 8 x 8 images; ``features.1`` is 6 channels of 4 x 4."""
    network = small_bcos(CLASSES, channels=(5, 6, 7), strides=(1, 2, 1), temperature=0.5, seed=seed)
    _randomise_norms(network.module, seed)
    network.module.to(dtype)
    return network


def vit(seed: int = 0, dtype: torch.dtype = torch.float64) -> Network:
    """A ViT on 8 x 8 images: 4 tokens of 8 channels at ``0.transformer.encoder_0`` and ``_1``."""
    network = small_vit(CLASSES, image_size=8, patch_size=4, dim=8, depth=2, heads=2, seed=seed)
    network.module.to(dtype)
    return network


def sae(
    channels: int, concepts: int = 9, k: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64
) -> TopKSAE:
    """An untrained SAE whose encoder is not its decoder's transpose."""
    generator = torch.Generator().manual_seed(seed)
    start = TopKSAE.initialise(concepts, channels, k, generator, dtype=dtype)
    noise = torch.randn(concepts, channels, generator=generator, dtype=dtype)
    return TopKSAE(start.encoder + 0.3 * noise, start.decoder, k)


def images(count: int = 3, side: int = 8, seed: int = 0) -> np.ndarray:
    """Random RGB images, uint8 ``(image, y, x, colour)``."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def add_bias(part: nn.Module, size: float = 0.01) -> None:
    """Slip a bias in behind one part of a network; not the same everywhere, since a layer norm
    would take that away again."""

    def add(_part: nn.Module, _args: object, output: torch.Tensor) -> torch.Tensor:
        return output + size * torch.linspace(0.5, 1.5, output.shape[-1], dtype=output.dtype)

    part.register_forward_hook(add)


def _randomise_norms(module: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_var.uniform_(0.05, 0.2, generator=generator)
            part.weight.data.uniform_(0.5, 1.5, generator=generator)
