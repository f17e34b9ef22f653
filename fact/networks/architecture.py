"""Architectures: what rebuilds a network's module without its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from registry.suggest import nearest


class NetworkError(ValueError):
    """A network that cannot be built, loaded, saved, or fed with these images."""


@dataclass(frozen=True)
class Architecture:
    """What rebuilds a network's module without its weights.

    Attributes
    ----------
    builder : str
        A row of the table that :func:`builder` fills.
    settings : mapping
        Its keyword arguments, plain JSON values.
    """

    builder: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def build(self, seed: int = 0) -> nn.Module:
        """Return the module with random weights drawn from ``seed``; no global seed is moved.

        Raises
        ------
        NetworkError
            If there is no such builder; with the nearest name.
        """
        if self.builder not in _BUILDERS:
            raise NetworkError(
                f"unknown builder {self.builder!r}{nearest(self.builder, _BUILDERS)}"
            )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return _BUILDERS[self.builder](**self.settings)


_BUILDERS: dict[str, Callable[..., nn.Module]] = {}


def builder(name: str) -> Callable[[Callable[..., nn.Module]], Callable[..., nn.Module]]:
    """Register a function that builds a module from plain keyword arguments.

    What it builds can be saved by :func:`save_network` and rebuilt by :func:`load_network`.
    """

    def register(function: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        _BUILDERS[name] = function
        return function

    return register
