"""The network that a word means, and the layer of it that is worth explaining."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fact.networks.network import Network, match_classes
from fact.starter.chain import NetworkChoice
from fact.starter.look import FolderLook
from registry.declare.faults import ConfigError
from registry.declare.plugins import kinds, load_plugins
from registry.suggest import nearest

LEAST_SIDE = 4
"""Positions along a side of a layer's map, at least, that are worth telling apart."""


def choose_network(
    word: str, layer: str | None, classes: str | None, look: FolderLook
) -> NetworkChoice:
    """Return the network that a word means: loaded once, so that what is wrong is said now.

    Parameters
    ----------
    word : str
        ``KIND:ARCHITECTURE`` and, for ``torchvision``, ``:WEIGHTS``; ``python:MODULE:FUNCTION``;
        or a kind alone.
    layer : str or None
        The layer to explain; by default the last one with a map of features.
    classes : str or None
        As the key ``classes`` of its kind.
    look : FolderLook
        The images, one of which it is shown.

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
    except ConfigError as error:
        raise ValueError(f"network {word!r}: {error}") from error
    if layer is None:
        layer = last_map(network, look)
    elif layer not in dict(network.module.named_modules()):
        names = [name for name, _ in network.module.named_modules()]
        raise ValueError(f"network {word!r} has no layer {layer!r}{nearest(layer, names)}")
    images: Any = look.images  # whose splits are read, never set
    note = match_classes(network, images, look.images.ids(look.test)).note
    if settings["kind"] == "torchvision" and "weights" not in settings:
        note = (
            f"Its weights are random: name released ones, as {word}:IMAGENET1K_V1. {note}".strip()
        )
    return NetworkChoice(settings, layer, note=note)


def _settings(word: str, classes: str | None) -> dict[str, Any]:
    name, _, rest = word.partition(":")
    known = [kind.name for kind in kinds("networks").values() if kind.provides == "network"]
    if name not in known:
        raise ValueError(f"no network {name!r}{nearest(name, ['train', *known])}")
    settings: dict[str, Any] = {"kind": name}
    if rest and name == "python":
        settings["function"] = rest
    elif rest:
        settings["architecture"], _, weights = rest.partition(":")
        if name in ("bcos", "timm"):
            settings["pretrained"] = True
        elif weights:
            settings["weights"] = weights
    if classes:
        settings["classes"] = classes
    return settings


def last_map(network: Network, look: FolderLook) -> str:
    """Return the name of the last layer that puts out a map of features, or tokens, of an image.

    Raises
    ------
    ValueError
        If there is none.
    """
    found: list[tuple[str, int]] = []

    def note(name: str, output: object) -> None:
        if isinstance(output, Tensor) and _is_map(output):
            found.append((name, output.shape[1 if output.ndim == 4 else 2]))

    parts = [(name, part) for name, part in network.module.named_modules() if name]
    hooks = [
        part.register_forward_hook(lambda _part, _given, output, name=name: note(name, output))
        for name, part in parts
        if next(part.parameters(), None) is not None  # neither dropout nor an activation
    ]
    try:
        pixels = look.images.read(look.images.ids(look.test)[:1], network.geometry)
        with torch.no_grad():
            n_logits = network.logits(network.encode(pixels)).shape[1]
    finally:
        for hook in hooks:
            hook.remove()
    names = [name for name, channels in found if channels != n_logits]  # no maps of logits
    if not names:
        raise ValueError("no layer puts out a map of features; name one by --layer")
    return names[-1]


def _is_map(output: Tensor) -> bool:
    """Whether an output is (1, channel, y, x) or (1, token, channel), with positions enough."""
    if output.ndim == 4:
        return min(output.shape[2:]) >= LEAST_SIDE
    return output.ndim == 3 and output.shape[1] >= LEAST_SIDE**2
