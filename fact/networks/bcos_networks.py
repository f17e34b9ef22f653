"""B-cos networks: small ones for small images, and those of the package ``bcos`` by name.

Böhle et al., "B-cos Networks: Alignment is All We Need for Interpretability", CVPR 2022; ViTs:
Böhle et al., "B-cos Alignment for Inherently Interpretable CNNs and Vision Transformers", TPAMI
2024.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bcos.common import BcosUtilMixin
from bcos.modules import BcosConv2d, BcosLinear, BcosSequential, LogitLayer, norms
from torch import Tensor, nn

from fact.data.images import Geometry
from fact.data.vocabulary import read_names
from fact.networks.network import WHOLE, Architecture, Network, NetworkError, builder
from fact.networks.weights import load_weights, read_state
from registry.suggest import nearest
from registry.wording import counted


@builder("small-bcos")
class SmallBcos(BcosUtilMixin, nn.Module):  # type: ignore[misc]  # bcos is untyped
    """A few B-cos convolutions, a linear B-cos classifier at every position, and their mean.

    Untrained; see :func:`small_bcos`.
    """

    def __init__(
        self,
        n_classes: int,
        channels: Sequence[int],
        strides: Sequence[int],
        kernel_size: int,
        b: float,
        temperature: float | None,
    ):
        super().__init__()
        norm = norms.NoBias(norms.BatchNormUncentered2d)
        blocks, width = [], 6
        for out, stride in zip(channels, strides, strict=True):
            conv = BcosConv2d(width, out, kernel_size, stride, padding=kernel_size // 2, b=b)
            blocks.append(nn.Sequential(conv, norm(out)))
            width = out
        self.features = nn.Sequential(*blocks)
        self.classifier = BcosConv2d(width, n_classes, kernel_size=1, b=b)
        self.logit_layer = LogitLayer(logit_temperature=temperature, logit_bias=_bias(n_classes))

    def forward(self, encoded: Tensor) -> Tensor:
        """Return logits ``(image, class)`` of encoded images ``(image, 6, y, x)``."""
        maps: Tensor = self.classifier(self.features(encoded))
        logits: Tensor = self.logit_layer(maps.mean(dim=(2, 3)))
        return logits


def small_bcos(
    classes: Sequence[str],
    channels: Sequence[int] = (32, 64, 128),
    strides: Sequence[int] = (2, 2, 1),
    kernel_size: int = 3,
    b: float = 2,
    temperature: float | None = None,
    geometry: Geometry = WHOLE,
    seed: int = 0,
    name: str = "small-bcos",
) -> Network:
    """Return a small untrained B-cos network for small images.

    Layers ``features.0``, ``features.1``, … are B-cos convolutions, each followed by an
    uncentred batch norm without bias, without which it does not train.

    Parameters
    ----------
    classes : sequence of str
        Names of the classes, at least 2.
    channels, strides : sequence of int
        One of each per convolution.
    kernel_size : int
        Odd; the padding keeps the size of the map.
    b : float
        Exponent of the B-cos transform; 1 gives a linear network.
    temperature : float or None
        Divides the logits; below 1 it lets a small network answer firmly.
    geometry : Geometry
        How an image is resized and cropped.
    seed : int
        Draws the initial weights.
    name : str
        Name of the network.

    Raises
    ------
    NetworkError
        If there are fewer than two classes, or not as many strides as channels.
    """
    if len(channels) != len(strides) or not channels:
        raise NetworkError(
            f"{counted(len(channels), 'channel')} and {counted(len(strides), 'stride')}; expected "
            "as many"
        )
    settings = {
        "channels": list(channels),
        "strides": list(strides),
        "kernel_size": kernel_size,
        "b": b,
        "temperature": temperature,
    }
    return _built("small-bcos", classes, settings, geometry, seed, name)


@builder("small-vit")
def build_small_vit(
    n_classes: int,
    image_size: int,
    patch_size: int,
    dim: int,
    depth: int,
    heads: int,
    temperature: float | None,
) -> nn.Module:
    """Return an untrained B-cos SimpleViT; see :func:`small_vit`."""
    from bcos.models.vit import SimpleViT

    with warnings.catch_warnings():  # it warns that a logit layer must follow: one does
        warnings.simplefilter("ignore")
        vit = SimpleViT(
            image_size=image_size,
            patch_size=patch_size,
            num_classes=n_classes,
            dim=dim,
            depth=depth,
            heads=heads,
            mlp_dim=4 * dim,
            linear_layer=partial(BcosLinear, b=2),
            norm_layer=norms.NoBias(norms.DetachableLayerNorm),
            act_layer=nn.Identity,
        )
    logits = LogitLayer(logit_temperature=temperature, logit_bias=_bias(n_classes))
    module: nn.Module = BcosSequential(vit, logits)
    return module


def small_vit(
    classes: Sequence[str],
    image_size: int = 32,
    patch_size: int = 8,
    dim: int = 32,
    depth: int = 2,
    heads: int = 2,
    temperature: float | None = None,
    geometry: Geometry | None = None,
    seed: int = 0,
) -> Network:
    """Return a small untrained B-cos ViT, whose layers put out tokens.

    Layers ``0.transformer.encoder_0``, … put out ``(image, token, channel)``, without a class
    token, as those of the ``vitc_*`` architectures do.

    Parameters
    ----------
    classes : sequence of str
        Names of the classes, at least 2.
    image_size, patch_size : int
        Side of an image and of a patch, in pixels; the former a multiple of the latter.
    dim : int
        Channels of a token; a multiple of 4 and of ``heads``, at least 8.
    depth, heads : int
        Encoders, and attention heads of each.
    temperature : float or None
        Divides the logits; below 1 it lets a small network answer firmly.
    geometry : Geometry or None
        How an image is resized and cropped; to ``image_size`` by default.
    seed : int
        Draws the initial weights.

    Raises
    ------
    NetworkError
        If the sizes do not fit together, or there are fewer than two classes.
    """
    if image_size % patch_size or dim % 4 or dim % heads or dim < 8:
        raise NetworkError(
            f"image_size {image_size}, patch_size {patch_size}, dim {dim}, heads {heads}; expected "
            "image_size a multiple of patch_size, dim one of 4 and of heads, at least 8"
        )
    sizes = {"image_size": image_size, "patch_size": patch_size, "dim": dim}
    settings = {**sizes, "depth": depth, "heads": heads, "temperature": temperature}
    geometry = geometry or Geometry(image_size, image_size)
    return _built("small-vit", classes, settings, geometry, seed, "small-vit")


@builder("bcos")
def build_bcos(architecture: str) -> nn.Module:
    """Return an untrained network of the package ``bcos``, by the name of its architecture.

    Raises
    ------
    NetworkError
        If there is no such architecture; with the nearest name.
    """
    return _entry_point(architecture)(pretrained=False)


def bcos_network(
    architecture: str,
    pretrained: bool = False,
    weights: Path | str | None = None,
    geometry: Geometry | None = None,
    seed: int = 0,
) -> Network:
    """Return a network of the package ``bcos``, trained on ImageNet or not.

    Parameters
    ----------
    architecture : str
        As ``densenet121_long``, ``resnet50_long`` or ``vitc_s_patch1_14``.
    pretrained : bool
        Fetch the released weights, whose hash is checked.
    weights : path or None
        A local file with a state dict: safetensors, or one that torch saved, of which only
        weights are read.
    geometry : Geometry or None
        How an image is resized and cropped; as the network's own transform does by default.
    seed : int
        Draws the weights of an untrained network.

    Raises
    ------
    NetworkError
        If the architecture is unknown, the weights cannot be fetched, or do not belong to it.
    """
    recipe = Architecture("bcos", {"architecture": architecture})
    module = _fetch(architecture) if pretrained else recipe.build(seed)
    if weights is not None:
        load_weights(module, read_state(weights), str(weights))
    module.eval().requires_grad_(False)
    return Network(
        module,
        name=architecture,
        classes=read_names("imagenet"),
        geometry=geometry or _own_geometry(module),
        bcos=not architecture.startswith("standard_"),
        architecture=recipe,
        linear=not architecture.startswith("standard_"),
    )


def _own_geometry(module: nn.Module) -> Geometry:
    """Return the resizing and cropping of the transform that a ``bcos`` network carries."""
    transform: Any = module.transform
    crop = transform.center_crop.size
    return Geometry(transform.resize.size, crop[0] if isinstance(crop, Sequence) else crop)


def _fetch(architecture: str) -> nn.Module:
    try:
        return _entry_point(architecture)(pretrained=True)
    except (OSError, RuntimeError) as error:  # no connection, or another hash than announced
        raise NetworkError(
            f"the weights of {architecture!r} cannot be fetched: {error}; a copy on this machine "
            "can be named as `weights`"
        ) from error


def _entry_point(architecture: str) -> Callable[..., nn.Module]:
    from bcos.models import pretrained

    known = pretrained.list_available()
    if architecture not in known:
        raise NetworkError(f"unknown architecture {architecture!r}{nearest(architecture, known)}")
    entry_point: Callable[..., nn.Module] = getattr(pretrained, architecture)
    return entry_point


def _built(
    builder_name: str,
    classes: Sequence[str],
    settings: dict[str, Any],
    geometry: Geometry,
    seed: int,
    name: str,
) -> Network:
    if len(classes) < 2 or isinstance(classes, str):
        raise NetworkError(f"classes {classes!r}; expected names of at least 2")
    recipe = Architecture(builder_name, {"n_classes": len(classes), **settings})
    module = recipe.build(seed)
    return Network(
        module.eval(), name, tuple(classes), geometry, bcos=True, architecture=recipe, linear=True
    )


def _bias(n_classes: int) -> float:
    """The logit of ``1 / n_classes``: what a network that knows nothing should answer."""
    return math.log(1 / (n_classes - 1)) if n_classes > 1 else 0.0
