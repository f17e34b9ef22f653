"""The network and the SAE that words mean, and the layer that is worth explaining."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fact.networks.layers import capture, run_until, to_positions
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

LEAST_EXPLAINED = 0.1
"""Of a layer's variance, which an SAE that was trained on it explains: as its import asks for."""

GUESSED = 16
"""Images on which layers are tried."""


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
    names = [name for name, _ in network.module.named_modules() if name]
    if layer is not None and layer not in names:
        raise ValueError(f"network {word!r} has no layer {layer!r}{nearest(layer, names)}")
    found = ""
    if sae is not None:
        layer, found = layer_of(sae, network, look, layer)
    elif layer is None:
        layer = last_map(network, look)
    images: Any = look.images  # whose splits are read, never set
    note = match_classes(network, images, look.images.ids(look.test)).note
    if not look.has_classes:
        note = ""
    named = settings.keys() & {"weights", "file", "pretrained"}
    if settings["kind"] == "torchvision" and not named:
        note = (
            f"Its weights are random: name released ones, as {word}:IMAGENET1K_V1. {note}".strip()
        )
    if settings["kind"] == "python":
        note = (
            "Its weights are those that the function gives it, or a key file. It is shown images "
            "normalised as ImageNet's, unless keys mean and std say how it was trained to see "
            f"them. {note}"
        ).strip()
    return NetworkChoice(settings, layer, note=f"{found} {note}".strip())


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


def layer_of(sae: SAE, network: Network, look: FolderLook, layer: str | None) -> tuple[str, str]:
    """Return the layer that an SAE may be of, and how that was found.

    That is the one named, or of those with as many channels the one that it reconstructs best; of
    equally good ones the last, which is the outermost.

    Raises
    ------
    ValueError
        If there is none.
    """
    channels = sae.n_channels
    least = 1 if layer else LEAST_SIDE
    outputs = [output for output in outputs_of(network, look) if output.is_map(least)]
    found = [output for output in outputs if layer in (None, output.layer)]
    fitting = [output.layer for output in found if output.channels == channels]
    if not fitting:
        listed = ", ".join(f"{one.layer} ({one.channels})" for one in found or outputs) or "none"
        raise ValueError(
            f"the SAE reads {counted(channels, 'channel')}; layers of the network: {listed}"
        )
    if layer is not None:
        return layer, ""
    explained = dict(zip(fitting, _explained(sae, network, look, fitting), strict=True))
    best = max(reversed(fitting), key=explained.__getitem__)
    told = f"Its layer {best} is the one of {len(fitting)} that the SAE reconstructs best"
    others = sorted((value for name, value in explained.items() if name != best), reverse=True)
    after = f", {others[0]:.3f} of the next" if others else ""
    note = f"{told}: it explains {explained[best]:.3f} of the variance{after}."
    if not explained[best] >= LEAST_EXPLAINED:
        note += " That is a guess: name the one it was trained on, and what its features were "
        note += "divided by, which the SAE's keys scale and mean tell."
    return best, note


@torch.no_grad()
def _explained(sae: SAE, network: Network, look: FolderLook, layers: list[str]) -> list[float]:
    """Return how much of each layer's variance an SAE explains, on a few images; 1 for all."""
    ids = look.images.ids(look.test)[:GUESSED]
    encoded = network.encode(look.images.read(ids, network.geometry))
    sae, shares = sae.to(network.device, network.dtype), []
    for layer in layers:
        with network.explanation_mode():
            x = run_until(network.module, layer, encoded).positions.flatten(0, 1)
        total = (x - x.mean(dim=0)).square().sum()
        share = float(1 - (x - sae(x)).square().sum() / total)
        shares.append(share if math.isfinite(share) else -math.inf)
    return shares


def last_map(network: Network, look: FolderLook) -> str:
    """Return the name of the last layer that puts out a map of features, or tokens, of an image.

    Of a network that answers by a class token, tokens of the last encoder matter for nothing but
    that one: it is the encoder before.

    Raises
    ------
    ValueError
        If there is none.
    """
    pixels = look.images.read(look.images.ids(look.test)[:1], network.geometry)
    encoded = network.encode(pixels)
    with torch.no_grad():
        n_logits = network.logits(encoded).shape[1]
    maps = [
        output
        for output in outputs_of(network, look)
        if output.is_map(LEAST_SIDE) and output.has_weights and output.channels != n_logits
    ]
    if not maps:  # maps of logits are none of features
        raise ValueError("no layer puts out a map of features; name one by --layer")
    last = maps[-1]
    if last.is_of_tokens and not matters(network, last.layer, encoded):
        for before in reversed(maps):
            is_whole = next(network.module.get_submodule(before.layer).children(), None) is not None
            if is_whole and before.shape == last.shape and matters(network, before.layer, encoded):
                return before.layer
    return last.layer


def matters(network: Network, layer: str, encoded: Tensor) -> bool:
    """Return whether a logit hangs on what a layer puts out at most of its positions."""
    module, module_mode = network.module, network.explanation_mode()
    with torch.enable_grad(), module_mode, capture(module, layer, leaf=True) as captured:
        logits = network.logits(encoded)
        (gradient,) = torch.autograd.grad(logits.max(), captured.output)
    return bool((to_positions(gradient) != 0).any(dim=-1).float().mean() > 0.5)


@dataclass(frozen=True)
class LayerOutput:
    """What a layer puts out for one image.

    Attributes
    ----------
    layer : str
        Its name.
    shape : tuple of int
        (1, channel, y, x) or (1, token, channel).
    has_weights : bool
        Whether it has parameters, as dropout and activations have none.
    """

    layer: str
    shape: tuple[int, ...]
    has_weights: bool

    @property
    def channels(self) -> int:
        """Its channels."""
        return self.shape[1 if len(self.shape) == 4 else 2]

    @property
    def is_of_tokens(self) -> bool:
        """Whether it puts out tokens, rather than a map."""
        return len(self.shape) == 3

    def is_map(self, side: int) -> bool:
        """Whether it has so many positions along a side, at least."""
        if len(self.shape) == 4:
            return min(self.shape[2:]) >= side
        return self.shape[1] >= side**2


def outputs_of(network: Network, look: FolderLook) -> list[LayerOutput]:
    """Return what each layer puts out for an image, in the order of the pass: maps and tokens."""
    found: list[LayerOutput] = []

    def note(name: str, part: nn.Module, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim in (3, 4):
            has_weights = next(part.parameters(), None) is not None
            found.append(LayerOutput(name, tuple(output.shape), has_weights))

    hooks = [
        part.register_forward_hook(lambda part, _given, output, name=name: note(name, part, output))
        for name, part in network.module.named_modules()
        if name
    ]
    try:
        pixels = look.images.read(look.images.ids(look.test)[:1], network.geometry)
        with torch.no_grad():
            network.logits(network.encode(pixels))
    finally:
        for hook in hooks:
            hook.remove()
    return found
