"""Networks from elsewhere: those of ``timm`` by name, and modules that a function returns."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from fact.data.images import Geometry
from fact.data.vocabulary import read_names
from fact.networks.network import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    WHOLE,
    Architecture,
    Network,
    NetworkError,
    Normalisation,
    builder,
)
from fact.networks.weights import load_weights, read_state
from registry.suggest import nearest


@builder("timm")
def build_timm(architecture: str, n_classes: int, settings: Mapping[str, Any]) -> nn.Module:
    """Return an untrained network of ``timm``, with so many logits.

    Raises
    ------
    NetworkError
        If there is no such architecture, or it does not take the settings.
    """
    return _created(architecture, n_classes, settings, pretrained=False)


def _created(
    architecture: str, n_classes: int, settings: Mapping[str, Any], pretrained: bool
) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise NetworkError("timm is not installed: pip install 'factbook[timm]'") from error
    name = architecture.partition(".")[0]
    if name not in timm.list_models():
        raise NetworkError(
            f"unknown architecture {architecture!r}{nearest(name, timm.list_models())}"
        )
    options = {**settings, "num_classes": n_classes, "pretrained": pretrained}
    try:
        module: nn.Module = timm.create_model(architecture, **options)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise NetworkError(f"{architecture!r} of timm cannot be made: {error}") from error
    return module


def timm_network(
    architecture: str,
    pretrained: bool = False,
    file: Path | str | None = None,
    classes: str = "imagenet",
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Network:
    """Return a network of ``timm``, trained or not.

    Images are resized, cropped and normalised as the architecture asks for, always bilinearly.

    Parameters
    ----------
    architecture : str
        As ``vit_small_patch16_224`` or ``resnet18.a1_in1k``.
    pretrained : bool
        Fetch the weights released under that name.
    file : path or None
        A local file instead: safetensors, or a state dict or checkpoint of torch, of which only
        weights are read.
    classes : str
        Names of the classes, as :func:`fact.data.vocabulary.read_names` takes them; as many as
        there are logits.
    settings : mapping or None
        More of what ``timm.create_model`` takes, plain JSON values.
    seed : int
        Draws the weights of an untrained network.

    Raises
    ------
    NetworkError
        If the architecture is unknown, or does not go together with settings, weights or classes.
    """
    names, settings = read_names(classes), dict(settings or {})
    chosen = {"architecture": architecture, "n_classes": len(names), "settings": settings}
    recipe = Architecture("timm", chosen)
    module = recipe.build(seed)
    if pretrained:
        module = _created(architecture, len(names), settings, pretrained=True)
    elif file is not None:
        load_weights(module, read_state(file), str(file))
    from timm.data.config import resolve_model_data_config

    asked: dict[str, Any] = resolve_model_data_config(module, settings)  # type: ignore[no-untyped-call]
    crop = int(asked["input_size"][-1])
    return Network(
        module.eval().requires_grad_(False),
        name=architecture,
        classes=names,
        geometry=Geometry(math.floor(crop / asked["crop_pct"]), crop),
        bcos=False,
        linear=False,
        architecture=recipe,
        normalisation=Normalisation(tuple(asked["mean"]), tuple(asked["std"])),
    )


@builder("python")
def build_python(function: str, settings: Mapping[str, Any]) -> nn.Module:
    """Return what a function of one's own returns.

    Raises
    ------
    NetworkError
        If there is no such function, or it returns no module.
    """
    module, _, name = function.partition(":")
    try:
        make = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise NetworkError(f"there is no function {function!r}: {error}") from error
    made = make(**settings)
    if not isinstance(made, nn.Module):
        raise NetworkError(
            f"{function} returns a {type(made).__name__}; expected a module of torch"
        )
    return made


def python_network(
    function: str,
    settings: Mapping[str, Any] | None = None,
    file: Path | str | None = None,
    classes: str = "imagenet",
    *,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
    linear: bool | None = None,
    seed: int = 0,
) -> Network:
    """Return a network around a module that a function of one's own returns.

    Parameters
    ----------
    function : str
        As ``package.module:function``, on Python's path.
    settings : mapping or None
        Its keyword arguments, plain JSON values.
    file : path or None
        Weights: safetensors, or a state dict or checkpoint of torch, of which only weights are
        read.
    classes : str
        Names of the classes, as :func:`fact.data.vocabulary.read_names` takes them.
    mean, std : tuple of float
        By which images are normalised.
    linear : bool or None
        As of :class:`fact.Network`.
    seed : int
        Draws the weights of an untrained network.

    Raises
    ------
    NetworkError
        If there is no such function, it returns no module, or the weights are of another one.
    """
    recipe = Architecture("python", {"function": function, "settings": dict(settings or {})})
    module = recipe.build(seed)
    if file is not None:
        load_weights(module, read_state(file), str(file))
    return Network(
        module.eval().requires_grad_(False),
        name=function.partition(":")[2],
        classes=read_names(classes),
        geometry=WHOLE,
        linear=linear,
        architecture=recipe,
        normalisation=Normalisation(mean, std),
    )
