"""The network and the SAE that words mean, and the layer that is worth explaining."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fact.networks.network import Network, match_classes
from fact.networks.standard import resized
from fact.sae.formats import FORMATS
from fact.sae.model import SAE
from fact.starter.chain import NetworkChoice
from fact.starter.look import FolderLook
from registry.declare.faults import ConfigError
from registry.declare.plugins import kinds, load_plugins
from registry.suggest import RefusalError, nearest
from registry.wording import counted

LEAST_SIDE = 4
"""Positions along a side of a layer's map, at least, that are worth telling apart."""


def choose_network(
    word: str,
    layer: str | None,
    classes: str | None,
    look: FolderLook,
    sae: SAE | None = None,
) -> NetworkChoice:
    """Return the network that a word means: loaded once, so that what is wrong is said now.

    Parameters
    ----------
    word : str
        ``KIND:ARCHITECTURE`` and, for ``torchvision`` and ``timm``, ``:WEIGHTS``, which may be a
        file; ``python:MODULE:FUNCTION``; a file; or a kind alone.
    layer : str or None
        The layer to explain; by default the last one with a map of features.
    classes : str or None
        As the key ``classes`` of its kind.
    look : FolderLook
        The images, one of which it is shown.
    sae : SAE, optional
        An SAE that is of one of its layers.

    Raises
    ------
    ValueError
        If there is no such network, or it has no such layer.
    """
    load_plugins()
    settings = _settings(word, classes)
    kind = kinds("networks")[settings["kind"]]
    try:
        network: Network = kind.settings.validate(
            {key: value for key, value in settings.items() if key != "kind"}
        ).load()
    except (ConfigError, OSError, RefusalError) as error:
        raise ValueError(f"network {word!r}: {error}") from error
    side = look.side()
    if network.geometry.crop is None and side and "crop" in kind.settings.keys:
        settings |= {"resize": side * 9 // 8, "crop": side}  # images of several sizes
        network = resized(network, settings["resize"], side)
    if sae is not None:
        layer = layer_of(sae, network, look, layer)
    elif layer is None:
        layer = last_map(network, look)
    elif layer not in dict(network.module.named_modules()):
        names = [name for name, _ in network.module.named_modules()]
        raise ValueError(f"network {word!r} has no layer {layer!r}{nearest(layer, names)}")
    images: Any = look.images  # whose splits are read, never set
    note = match_classes(network, images, look.images.ids(look.test)).note
    if not look.has_classes:
        note = ""
    named = settings.keys() & {"weights", "file", "pretrained"}
    if settings["kind"] == "torchvision" and not named:
        note = (
            f"Its weights are random: name released ones, as {word}:IMAGENET1K_V1. {note}".strip()
        )
    return NetworkChoice(settings, layer, note=note)


def _settings(word: str, classes: str | None) -> dict[str, Any]:
    name, _, rest = word.partition(":")
    known = [kind.name for kind in kinds("networks").values() if kind.provides == "network"]
    if name not in known and Path(word).is_file():
        name, rest = "file", word
    if name not in known:
        forms = ["train", *known]
        raise ValueError(f"no network {name!r}{nearest(name, forms)}, or a file")
    settings: dict[str, Any] = {"kind": name}
    if name in ("file", "python"):
        settings["path" if name == "file" else "function"] = rest
    elif rest:
        settings["architecture"], _, weights = rest.partition(":")
        settings |= _weights(name, weights)
    if classes:
        settings["classes"] = classes
    return settings


def _weights(kind: str, weights: str) -> dict[str, Any]:
    """Return what says which weights: a file, released ones, or none."""
    if Path(weights).is_file():
        return {"weights" if kind == "bcos" else "file": weights}
    if weights and (kind in ("bcos", "timm") or Path(weights).suffix or "/" in weights):
        raise ValueError(f"no file of weights at {weights}")
    if kind in ("bcos", "timm"):
        return {"pretrained": True}
    return {"weights": weights} if weights else {}


def choose_sae(word: str, keys: Mapping[str, Any]) -> tuple[SAE, dict[str, Any]]:
    """Return the SAE that a word means, read once, and how it is declared.

    Parameters
    ----------
    word : str
        ``FORMAT:FILE``, or a file whose format is recognised.
    keys : mapping of str to value
        More keys of ``[saes.…]``, as ``activation`` and ``k``.

    Raises
    ------
    ValueError
        If it cannot be read; with what has to be told of it.
    """
    load_plugins()
    form, colon, path = word.partition(":")
    if not colon or form not in ("auto", *FORMATS):
        form, path = "auto", word
    settings = {"path": path} | ({} if form == "auto" else {"format": form}) | dict(keys)
    kind = kinds("saes")["file"]
    try:
        return kind.settings.validate(settings).load(), {"kind": "file"} | settings
    except (ConfigError, RefusalError, OSError) as error:
        raise ValueError(f"SAE {word!r}: {error}") from error


def layer_of(sae: SAE, network: Network, look: FolderLook, layer: str | None) -> str:
    """Return the layer that an SAE may be of: the one named, or the last of as many channels.

    Raises
    ------
    ValueError
        If there is none.
    """
    channels = sae.encoder.shape[1]
    found = [(name, count) for name, count in maps_of(network, look) if layer in (None, name)]
    fitting = [name for name, count in found if count == channels]
    if not fitting:
        listed = ", ".join(f"{name} ({count})" for name, count in found) or "none"
        raise ValueError(
            f"the SAE reads {counted(channels, 'channel')}; layers of the network: {listed}"
        )
    return fitting[-1]


def last_map(network: Network, look: FolderLook) -> str:
    """Return the name of the last layer that puts out a map of features, or tokens, of an image.

    Raises
    ------
    ValueError
        If there is none.
    """
    pixels = look.images.read(look.images.ids(look.test)[:1], network.geometry)
    with torch.no_grad():
        n_logits = network.logits(network.encode(pixels)).shape[1]
    names = [name for name, channels in maps_of(network, look) if channels != n_logits]
    if not names:  # maps of logits are none of features
        raise ValueError("no layer puts out a map of features; name one by --layer")
    return names[-1]


def maps_of(network: Network, look: FolderLook) -> list[tuple[str, int]]:
    """Return the layers that put out a map, or tokens, of an image, with their channels."""
    found: list[tuple[str, int]] = []

    def note(name: str, output: object) -> None:
        if isinstance(output, Tensor) and _is_map(output):
            found.append((name, output.shape[1 if output.ndim == 4 else 2]))

    hooks = [
        part.register_forward_hook(lambda _part, _given, output, name=name: note(name, output))
        for name, part in network.module.named_modules()
        if name and next(part.parameters(), None) is not None  # no dropout, no activation
    ]
    try:
        pixels = look.images.read(look.images.ids(look.test)[:1], network.geometry)
        with torch.no_grad():
            network.logits(network.encode(pixels))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _is_map(output: Tensor) -> bool:
    """Whether an output is (1, channel, y, x) or (1, token, channel), with positions enough."""
    if output.ndim == 4:
        return min(output.shape[2:]) >= LEAST_SIDE
    return output.ndim == 3 and output.shape[1] >= LEAST_SIDE**2
