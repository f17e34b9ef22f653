"""Is an SAE of the layer that it stands at? An SAE of another layer may explain a share of it too.

Channels of two layers are not in the same order. An SAE that knows nothing of a layer does as well
with the layer's channels shuffled, and one that was trained on it does not: that is a permutation
test. Layers of one residual stream share their channels, and pass it; how much the SAE explains at
each other layer of its width says what this does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fact.networks.layers import layer_names, to_positions
from fact.networks.network import Network
from fact.sae.gradients import spread
from fact.sae.model import SAE
from fact.sae.validation import reconstruct_sparse

N_SHUFFLES = 39
"""Of the channels; one that does as well is chance in at most 1 of 20 draws."""

MOST_POSITIONS = 256
"""Of each batch of images, evenly spread."""

LEAST_CHANNELS = 5
"""Of which there are more orders than shuffles."""

ANYTHING = 0.999
"""Share that an SAE explains of channels in any order if it gives back whatever it gets."""


@dataclass(frozen=True)
class Placement:
    """How much an SAE explains at a layer, with its channels in order and not, and elsewhere.

    Attributes
    ----------
    explained : float
        Share of variance, at the layer.
    shuffled : ndarray of float64, (shuffle,)
        With the channels in another order; empty where there are too few.
    elsewhere : dict of str to float
        At each other layer with as many channels.
    """

    explained: float
    shuffled: NDArray[np.float64]
    elsewhere: dict[str, float]

    @property
    def is_chance(self) -> bool:
        """Whether channels in another order would do as well: p is above 0.05."""
        if not len(self.shuffled) or self.shuffled.min() >= ANYTHING:
            return False
        as_well = int((self.shuffled >= self.explained).sum())
        return (1 + as_well) / (1 + len(self.shuffled)) > 0.05

    @property
    def better(self) -> str:
        """The other layer of which the SAE leaves less than half as much; "" where none is."""
        name = max(self.elsewhere, key=self.elsewhere.__getitem__, default="")
        return name if name and 1 - self.elsewhere[name] < (1 - self.explained) / 2 else ""

    def told(self) -> str:
        """Return what is worth saying; "" where nothing is."""
        said = []
        if len(self.shuffled) and self.shuffled.min() >= ANYTHING:
            said.append("it gives back channels in any order, so that no layer can be told by it")
        elif self.is_chance:
            least, most = self.shuffled.min(), self.shuffled.max()
            said.append(
                f"it explains {self.explained:.3f} of the channels as they are and {least:.3f} to "
                f"{most:.3f} of them shuffled, so that it knows nothing of this layer"
            )
        if self.better:
            said.append(f"at {self.better} it would explain {self.elsewhere[self.better]:.3f}")
        return "; ".join(said)


@torch.no_grad()
def place(
    network: Network, layer: str, sae: SAE, encoded: Iterator[Tensor], seed: int = 0
) -> Placement:
    """Measure whether an SAE is of a layer.

    Parameters
    ----------
    network, layer : Network and str
        Where it stands.
    sae : SAE
        For as many channels as the layer has.
    encoded : iterator of Tensor
        Some images, in batches.
    seed : int
        Shuffles the channels.
    """
    rows = _rows_by_layer(network, sae.n_channels, encoded)
    shares = {name: _explained(sae, own) for name, own in rows.items()}
    draws, own = np.random.default_rng(seed), rows[layer]
    count = N_SHUFFLES if sae.n_channels >= LEAST_CHANNELS else 0
    orders = [torch.from_numpy(draws.permutation(sae.n_channels)) for _ in range(count)]
    shuffled = [_explained(sae, own[:, order.to(own.device)]) for order in orders]
    elsewhere = {name: s for name, s in shares.items() if name != layer and math.isfinite(s)}
    return Placement(shares[layer], np.array(shuffled), elsewhere)


def _explained(sae: SAE, rows: Tensor) -> float:
    left, whole = spread(rows - reconstruct_sparse(sae, rows[None])[0]), spread(rows)
    return float(1 - left / whole)


def _rows_by_layer(
    network: Network, n_channels: int, encoded: Iterator[Tensor]
) -> dict[str, Tensor]:
    """Return some of what each layer of that width puts out, (position, channel), by its name.

    A layer that is called several times is meant as it was called last.
    """
    found: dict[str, list[Tensor]] = {}
    for some in encoded:
        kept: dict[str, Tensor] = {}
        with network.explanation_mode(), ExitStack() as stack:
            for name in layer_names(network.module):
                part = network.module.get_submodule(name)
                hook = _keeping(kept, name, n_channels)
                stack.enter_context(part.register_forward_hook(hook))
            network.module(some)
        for name, rows in kept.items():
            found.setdefault(name, []).append(rows)
    return {name: torch.cat(parts) for name, parts in found.items()}


def _keeping(kept: dict[str, Tensor], name: str, n_channels: int) -> Any:
    def keep(_module: nn.Module, _args: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim in (2, 3, 4) and len(output):
            positions = to_positions(output)
            if positions.shape[-1] == n_channels:
                rows = positions.detach().flatten(0, 1)
                kept[name] = rows[:: math.ceil(len(rows) / MOST_POSITIONS)].clone()

    return keep
