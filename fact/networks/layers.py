"""Layers by name: read what one puts out, or put something else in its place.

This is the only module that knows how a layer's output is laid out. Everywhere else it is
``(image, position, channel)``, whether the network works on maps ``(image, channel, y, x)``, on
tokens ``(image, token, channel)`` or on vectors ``(image, channel)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fact.networks.network import Network
from registry.suggest import nearest

Replace = Callable[[Tensor], Tensor]
"""Takes and returns ``(image, position, channel)``."""

_CALLS: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""How often a layer is called in a pass, of those that a whole pass was seen of."""

_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


class LayerError(ValueError):
    """A layer that does not exist, was not reached, or puts out what cannot be cut."""


def layer_names(module: nn.Module) -> tuple[str, ...]:
    """Names of all layers of a network that can be captured or spliced, in order.

    Containers that are never called (``ModuleList`` and the like) are left out.
    """
    return tuple(
        name
        for name, layer in module.named_modules()
        if name and not isinstance(layer, _CONTAINERS)
    )


def find_layer(module: nn.Module, name: str) -> nn.Module:
    """Return the layer of that name, as ``features.2`` or ``0.transformer.encoder_10``.

    Raises
    ------
    LayerError
        If there is none; with the nearest name.
    """
    names = layer_names(module)
    if name not in names:
        raise LayerError(f"unknown layer {name!r}{nearest(name, names)}")
    return module.get_submodule(name)


def to_positions(output: Tensor) -> Tensor:
    """Return a layer's output as ``(image, position, channel)``, rows of a map first.

    Parameters
    ----------
    output : Tensor
        A map ``(image, channel, y, x)``, tokens ``(image, token, channel)`` or vectors
        ``(image, channel)``, which have one position.

    Raises
    ------
    LayerError
        If the output has another number of dimensions.
    """
    if output.ndim == 4:
        return output.flatten(2).transpose(1, 2)
    if output.ndim == 3:
        return output
    if output.ndim == 2:
        return output.unsqueeze(1)
    raise LayerError(
        f"a layer's output of shape {tuple(output.shape)}; expected (image, channel, y, x), "
        "(image, token, channel) or (image, channel)"
    )


def from_positions(positions: Tensor, like: Tensor) -> Tensor:
    """Return ``(image, position, channel)`` laid out as the layer's output ``like``.

    Raises
    ------
    LayerError
        If the shapes do not belong together.
    """
    expected = to_positions(like).shape
    if positions.shape != expected:
        raise LayerError(
            f"a replacement of shape {tuple(positions.shape)}; expected {tuple(expected)}, "
            "(image, position, channel)"
        )
    if like.ndim == 4:  # contiguous, so that what follows computes as it does on a map of its own
        return positions.transpose(1, 2).reshape(like.shape).contiguous()
    return positions.reshape(like.shape)


def grid_shape(output: Tensor) -> tuple[int, int]:
    """Return the rows and columns in which the positions of a layer's output lie.

    Tokens lie in a square where their number is one, and in a single column where it is not.
    """
    if output.ndim == 4:
        return output.shape[2], output.shape[3]
    count = to_positions(output).shape[1]
    side = math.isqrt(count)
    return (side, side) if side * side == count else (count, 1)


class Capture:
    """What a layer put out in the latest forward pass."""

    def __init__(self, layer: str):
        self.layer = layer
        self._output: Tensor | None = None

    @property
    def output(self) -> Tensor:
        """The output as the layer lays it out, with its graph.

        Raises
        ------
        LayerError
            If no forward pass has reached the layer.
        """
        if self._output is None:
            raise LayerError(f"layer {self.layer!r} was not reached by a forward pass")
        return self._output

    @property
    def positions(self) -> Tensor:
        """The output as ``(image, position, channel)``."""
        return to_positions(self.output)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the positions."""
        return grid_shape(self.output)

    def cells(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return row and column of positions, each from 0."""
        return np.divmod(positions, self.grid[1])


@contextmanager
def capture(module: nn.Module, layer: str, leaf: bool = False) -> Iterator[Capture]:
    """Keep what a layer puts out while the context lasts.

    Parameters
    ----------
    module : Module
        The network.
    layer : str
        Name of the layer in it.
    leaf : bool
        Cut the output off from what came before and let it require a gradient. A gradient at
        the layer then costs nothing in front of it.

    Yields
    ------
    Capture
        Its ``output`` and ``positions`` are those of the latest forward pass.

    Raises
    ------
    LayerError
        If there is no such layer, or it puts out something else than one tensor.
    """
    captured = Capture(layer)

    def keep(output: Tensor) -> Tensor:
        captured._output = output.detach().requires_grad_() if leaf else output
        return captured._output

    with _forward_hook(module, layer, keep):
        yield captured


def run_until(module: nn.Module, layer: str, encoded: Tensor, once: bool = False) -> Capture:
    """Run a network as far as a layer; what would follow costs nothing.

    A layer that is called several times in a pass, as a shared ReLU is, is meant as it was called
    last: the first pass goes all the way and counts, the later ones end at that call.

    Parameters
    ----------
    module : Module
        The network.
    layer : str
        Name of the layer in it.
    encoded : Tensor
        What the network takes.
    once : bool
        Refuse a layer that is called several times.

    Returns
    -------
    Capture
        What the layer put out.

    Raises
    ------
    LayerError
        If there is no such layer, it puts out something else than one tensor, or is called more
        than ``once``.
    """
    captured, found = Capture(layer), find_layer(module, layer)
    known, calls = _CALLS.get(found), 0

    def keep(output: Tensor) -> Tensor:
        nonlocal calls
        captured._output, calls = output, calls + 1
        if calls == known:
            raise _LayerReachedError
        return output

    with _forward_hook(module, layer, keep), suppress(_LayerReachedError):
        module(encoded)
        _CALLS[found] = calls
    if once and _CALLS[found] > 1:
        raise called_again(layer)
    return captured


def called_again(layer: str) -> LayerError:
    """Return the error of a layer that is called more than once, where one call was expected."""
    return LayerError(f"layer {layer!r} is called twice in a forward pass; expected once")


class _LayerReachedError(Exception):
    """Nothing that follows is asked for."""


@contextmanager
def splice(module: nn.Module, layer: str, replace: Replace) -> Iterator[Capture]:
    """Put ``replace(output)`` in the place of a layer's output while the context lasts.

    Parameters
    ----------
    module : Module
        The network.
    layer : str
        Name of the layer in it.
    replace : callable
        Takes the output and returns its replacement, both ``(image, position, channel)``.

    Yields
    ------
    Capture
        Holds the layer's own output, not the replacement.

    Raises
    ------
    LayerError
        If there is no such layer, or it puts out something else than one tensor.
    """
    captured = Capture(layer)

    def put(output: Tensor) -> Tensor:
        captured._output = output
        return from_positions(replace(to_positions(output)), like=output)

    with _forward_hook(module, layer, put):
        yield captured


@contextmanager
def resume(module: nn.Module, layer: str, positions: Tensor) -> Iterator[None]:
    """Let a forward pass go on from given outputs of a layer, however many, while it lasts.

    What comes before the layer runs on whatever images it is fed, one is enough, and is thrown
    away: what follows sees ``positions`` alone. The network must not go around the layer.

    Parameters
    ----------
    module : Module
        The network.
    layer : str
        Name of the layer in it.
    positions : Tensor
        ``(image, position, channel)``, of as many images as wanted.

    Raises
    ------
    LayerError
        If there is no such layer, it puts out something else than one tensor, or the positions
        and channels are not its own.
    """

    def put(output: Tensor) -> Tensor:
        return from_positions(positions, output[:1].expand(len(positions), *output.shape[1:]))

    with _forward_hook(module, layer, put):
        yield


def layer_shape(network: Network, layer: str, pixels: NDArray[np.uint8]) -> tuple[int, int]:
    """Return how many positions and channels a layer puts out for an image of this size.

    Raises
    ------
    LayerError
        If there is no such layer; with the nearest name.
    """
    with torch.no_grad(), capture(network.module, layer) as captured:
        network.module(network.encode(pixels[:1]))
    _, positions, channels = captured.positions.shape
    return positions, channels


@contextmanager
def _forward_hook(module: nn.Module, layer: str, hook: Replace) -> Iterator[None]:
    """Put what ``hook`` returns in the place of a layer's output, laid out as it is."""

    def called(_module: nn.Module, _args: object, output: object) -> Tensor:
        if isinstance(output, Tensor):
            return hook(output)
        raise LayerError(
            f"layer {layer!r} puts out a {type(output).__name__}; expected one tensor. "
            "Name a layer inside it, or the one that follows"
        )

    with find_layer(module, layer).register_forward_hook(called):
        yield
