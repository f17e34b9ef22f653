"""Configurations of the stages that train networks; no torch is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from fact.data.classes import Match
from fact.data.config import Count, InPrecision, Odd, OnDevice, Positive, Seed
from registry import Formerly, Since
from registry.wording import counted


@dataclass(frozen=True)
class ClassifierConfig(InPrecision):
    """Configuration of ``fact.train_classifier``.

    Parameters
    ----------
    architecture : str
        B-cos are ``small-bcos`` (convolutions) and ``small-vit`` (tokens). Ordinary networks, with
        biases, are ``standard-cnn``, ``standard-vit``, and the small ones of torchvision's classes,
        ``torchvision-resnet`` and ``torchvision-vit``.
    channels, strides : tuple of int
        Of the convolutions of ``small-bcos`` and ``standard-cnn``, one of each per layer; of
        ``torchvision-resnet`` per stage, of which there are at most four.
    kernel_size : int
        Side of a convolution's kernel, in pixels; odd.
    temperature : float
        Divides the logits of a B-cos network, above 0; small values let a small network answer
        firmly.
    patch_size, dim, depth, heads : int
        Of ViTs: side of a patch in pixels, channels of a token, encoders, heads. ``depth`` is also
        the number of blocks in a stage of ``torchvision-resnet``.
    stem : tuple of int
        Channels of convolutions of 3 x 3 pixels before the patches of ``standard-vit``, which make
        a ViTc of it; each with more than come in halves the image, and ``patch_size`` still counts
        pixels of the image. None by default.
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

    off_labels: ClassVar[bool] = False
    clip: ClassVar[float | None] = None

    architecture: Literal[
        "small-bcos",
        "small-vit",
        "standard-cnn",
        "standard-vit",
        "torchvision-resnet",
        "torchvision-vit",
    ] = "small-bcos"
    channels: tuple[Count, ...] = (32, 64, 128)
    strides: tuple[Count, ...] = (2, 2, 1)
    kernel_size: Count = 3
    temperature: Positive = 0.1
    patch_size: Count = 8
    dim: Annotated[int, Field(ge=8)] = 64
    depth: Count = 2
    heads: Count = 2
    stem: Annotated[tuple[Count, ...], Since(())] = ()
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
                f"{counted(len(self.channels), 'channel')} and "
                f"{counted(len(self.strides), 'stride')}; expected as many"
            )
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {self.kernel_size}; expected an odd number")
        if self.architecture == "torchvision-resnet" and len(self.channels) > 4:
            raise ValueError(f"{len(self.channels)} stages of a ResNet; expected at most 4")
        if self.stem and self.architecture != "standard-vit":
            raise ValueError(f"a stem of {self.architecture}; expected one of standard-vit")


@dataclass(frozen=True)
class BcosifyConfig(InPrecision):
    """Configuration of ``fact.bcosify_network``.

    Parameters
    ----------
    b : float
        Exponent of the B-cos transform, which takes the place of 1 at once.
    epochs, batch : int
        Times that the training images are gone through; images per update.
    lr, warmup : float
        Peak learning rate of Adam, which falls to 0 along a cosine; fraction of the updates of its
        linear rise before. The authors take 1e-4 without a rise, and up to 90 epochs of ImageNet;
        for ViTs also 1e-3 with 10,000 updates of rise.
    flip : bool
        Mirror images left to right with probability 1/2.
    off_labels : bool
        Each class that is not an image's should have the probability 1 / classes, instead of 0.
    clip : float or None
        Largest norm of a unit's gradient over that of its weights (adaptive gradient clipping);
        None does not clip.
    from_scratch : bool
        Draw all weights anew: the same network trained as B-cos from the start, for comparison.
    match : str
        How classes of the images belong to the network's: by ``name``, or by ``order``.
    train_split, test_split : str
        Names of the splits.
    seed : int
        Draws order of images, mirrors, and weights that are drawn anew.
    """

    b: Annotated[float, Field(ge=1)] = 2
    epochs: Count = 10
    batch: Count = 64
    lr: Positive = 1e-4
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.0
    flip: bool = False
    off_labels: bool = True
    clip: Positive | None = 0.01
    from_scratch: bool = False
    match: Match = "name"
    train_split: str = "train"
    test_split: str = "test"
    seed: Seed = 0


@dataclass(frozen=True)
class PointingConfig(OnDevice):
    """Configuration of ``fact.measure_pointing``.

    Parameters
    ----------
    rows : int
        Of a grid, which has as many columns; at least 2.
    n_grids : int
        How many are drawn.
    least_confidence : float
        Probability that a network has to give the right class of an image, for it to be drawn.
    smooth : int
        Side of the box that maps are averaged over, in pixels; odd.
    match : str
        How classes of the images belong to the network's: by ``name``, or by ``order``.
    split : str
        The split to draw from.
    batch : int
        Grids at a time.
    seed : int
        Draws the grids.
    """

    rows: Annotated[int, Field(ge=2)] = 3
    n_grids: Count = 100
    least_confidence: Annotated[float, Field(ge=0, lt=1)] = 0.5
    smooth: Odd = 1
    match: Match = "name"
    split: str = "test"
    batch: Count = 16
    seed: Seed = 0


@dataclass(frozen=True)
class ProbeConfig(OnDevice):
    """Configuration of ``fact.train_probe``.

    What is minimised is the mean over labels of ``mean over inputs of BCE(label, sigmoid(w x + b))
    + penalty / 2 |w|^2``, in nats; the minimum for a label is that of scikit-learn's
    ``LogisticRegression`` with ``C = 1 / (penalty n_inputs)``.

    Parameters
    ----------
    solver : str
        ``adam``: so many steps, each over all inputs, from weights that are drawn, in single
        precision, which is how the paper's probe was trained. ``lbfgs``: to the minimum, from
        zeros, in double precision.
    epochs : int
        Steps of ``adam``; of ``lbfgs`` at most.
    lr : float
        Learning rate of ``adam``.
    penalty : float
        Of the squared weights, 0 or more. With 0, ``lbfgs`` has no minimum to reach for labels that
        features tell apart without an error.
    seed : int
        Draws the first weights of ``adam``.
    """

    solver: Literal["adam", "lbfgs"] = "adam"
    epochs: Count = 2400
    lr: Positive = 1e-3
    penalty: Annotated[float, Field(ge=0)] = 0.0
    seed: Seed = 0


@dataclass(frozen=True)
class ApplyProbeConfig:
    """Configuration of ``fact.apply_probe``.

    Parameters
    ----------
    transform : str
        ``sigmoid`` of the logits, or ``none``.
    """

    transform: Literal["sigmoid", "none"] = "sigmoid"
