"""Configurations of the stages that train networks; no torch is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from fact.data.config import Count, OnDevice, Positive, Seed
from registry import Formerly


@dataclass(frozen=True)
class ClassifierConfig(OnDevice):
    """Configuration of ``fact.train_classifier``.

    Parameters
    ----------
    architecture : str
        ``small-bcos`` (convolutions) or ``small-vit`` (tokens).
    channels, strides : tuple of int
        Of the convolutions of ``small-bcos``, one of each per layer.
    kernel_size : int
        Side of a convolution's kernel, in pixels; odd.
    temperature : float
        Divides the logits, above 0; small values let a small network answer firmly.
    patch_size, dim, depth, heads : int
        Of ``small-vit``: side of a patch in pixels, channels of a token, encoders, heads.
    resize, crop : int or None
        Length of the shorter side, then of the central square, in pixels; None keeps the size.
    epochs, batch : int
        Times that the training images are gone through; images per update.
    lr, warmup : float
        Peak learning rate of Adam; fraction of the updates of its linear rise.
    flip : bool
        Mirror images left to right with probability 1/2.
    train_split, test_split : str
        Names of the splits.
    seed : int
        Draws weights, order of images and mirrors.
    """

    architecture: Literal["small-bcos", "small-vit"] = "small-bcos"
    channels: tuple[Count, ...] = (32, 64, 128)
    strides: tuple[Count, ...] = (2, 2, 1)
    kernel_size: Count = 3
    temperature: Positive = 0.1
    patch_size: Count = 8
    dim: Annotated[int, Field(ge=8)] = 64
    depth: Count = 2
    heads: Count = 2
    resize: Count | None = None
    crop: Count | None = None
    epochs: Annotated[Count, Formerly("passes")] = 4
    batch: Count = 128
    lr: Positive = 2e-2
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.2
    flip: bool = False
    train_split: str = "train"
    test_split: str = "test"
    seed: Seed = 0

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.strides):
            raise ValueError(
                f"{len(self.channels)} channels and {len(self.strides)} strides; expected as many"
            )
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {self.kernel_size}; expected an odd number")
