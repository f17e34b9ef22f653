"""Concepts at a layer: the codes of its positions, and the linear maps that codes allow.

A position's code holds a few concepts of many. Everything here works on those few alone: nothing
of size ``(image, position, concept)`` is made, but for a piece of it at a time in the encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from fact.sae.model import TopKSAE, weighted_rows

CHUNK_ON_CPU, CHUNK = 1 << 22, 1 << 26
"""Pre-activations made at a time: what stays in a processor's cache, or fills a GPU."""


@dataclass(frozen=True)
class Codes:
    """Codes of the positions of a layer.

    Attributes
    ----------
    values : Tensor
        ``(image, position, rank)``: what is left of each code, 0 or more for an SAE.
    indices : Tensor or None
        ``(image, position, rank)``: the concept of each value; None where rank is concept.
    """

    values: Tensor
    indices: Tensor | None = None


class Concepts(Protocol):
    """Concepts as linear maps from a layer's channels and back.

    Weights are given per entry of the codes, ``(image, position, rank)``; the masks of relu and
    top-k are constants, as in the explanation mode of a B-cos network.
    """

    count: int

    def encode(self, positions: Tensor) -> Codes:
        """Codes of ``(image, position, channel)``."""

    def decode(self, codes: Codes) -> Tensor:
        """Reconstruction ``(image, position, channel)``."""

    def collect(self, codes: Codes, entries: Tensor) -> Tensor:
        """Sum over positions of what belongs to each concept, ``(image, concept)``."""

    def pull(self, codes: Codes, weights: Tensor) -> Tensor:
        """Derivative by the channels of ``sum(weights * values)``, masks held constant."""

    def selects(self, codes: Codes, concept: Tensor) -> Tensor:
        """Which entries are of the concept chosen per image, ``(image,)``, as 0 and 1."""


def as_concepts(sae: TopKSAE | None, positions: Tensor) -> Concepts:
    """Return the concepts of an SAE, or the layer's own channels if it is None.

    Parameters
    ----------
    sae : TopKSAE or None
        Of another device or floating type than the network, a copy of it is used.
    positions : Tensor
        ``(image, position, channel)``, what the layer puts out.

    Raises
    ------
    ValueError
        If the SAE was made for another number of channels.
    """
    channels = positions.shape[2]
    if sae is None:
        return ChannelConcepts(channels)
    if sae.n_channels != channels:
        raise ValueError(
            f"the layer has {channels} channels; the SAE was made for {sae.n_channels}"
        )
    if (sae.encoder.device, sae.encoder.dtype) != (positions.device, positions.dtype):
        sae = TopKSAE(sae.encoder.to(positions), sae.decoder.to(positions), sae.k, sae.scale)
    return SAEConcepts(sae)


class ChannelConcepts:
    """The channels of a layer as its concepts: nothing is left out, nothing approximated."""

    def __init__(self, channels: int):
        self.count = channels

    def encode(self, positions: Tensor) -> Codes:
        """Return the channels themselves."""
        return Codes(positions.detach())

    def decode(self, codes: Codes) -> Tensor:
        """Return the channels themselves."""
        return codes.values

    def collect(self, codes: Codes, entries: Tensor) -> Tensor:
        """Return the sum over positions."""
        return entries.sum(dim=1)

    def pull(self, codes: Codes, weights: Tensor) -> Tensor:
        """Return the weights themselves."""
        return weights

    def selects(self, codes: Codes, concept: Tensor) -> Tensor:
        """Return 1 in one channel per image."""
        chosen = functional.one_hot(concept, self.count).to(codes.values.dtype)
        return chosen.unsqueeze(1).expand_as(codes.values)


class SAEConcepts:
    """The concepts of a bias-free TopK SAE, at most k of them at a position."""

    def __init__(self, sae: TopKSAE):
        self.count = sae.n_concepts
        self._sae = sae

    def encode(self, positions: Tensor) -> Codes:
        """Return the k largest concepts of each position."""
        rows = positions.detach().flatten(0, 1)
        with torch.no_grad():
            chunk = CHUNK_ON_CPU if rows.device.type == "cpu" else CHUNK
            pieces = torch.split(rows, max(1, chunk // self.count))
            values, indices = zip(*map(self._sae.encode_topk, pieces), strict=True)
        shape = (*positions.shape[:2], -1)
        return Codes(torch.cat(values).view(shape), torch.cat(indices).view(shape))

    def decode(self, codes: Codes) -> Tensor:
        """Return the decoder's columns, weighted by the codes."""
        return self._sae.decode_topk(codes.values, _indices(codes))

    def collect(self, codes: Codes, entries: Tensor) -> Tensor:
        """Return the sums of entries by concept."""
        sums = entries.new_zeros(len(entries), self.count)
        return sums.scatter_add_(1, _indices(codes).flatten(1), entries.flatten(1))

    def pull(self, codes: Codes, weights: Tensor) -> Tensor:
        """Return the encoder's rows, weighted, of the entries that relu let through."""
        open_weights = weights * (codes.values > 0)
        rows = weighted_rows(
            self._sae.encoder.detach(), _indices(codes).flatten(0, 1), open_weights.flatten(0, 1)
        )
        return rows.view(*weights.shape[:2], -1)

    def selects(self, codes: Codes, concept: Tensor) -> Tensor:
        """Return 1 where an entry's index is the concept."""
        return (_indices(codes) == concept.view(-1, 1, 1)).to(codes.values.dtype)


def _indices(codes: Codes) -> Tensor:
    if codes.indices is None:
        raise ValueError("codes without indices; expected those of an SAE")
    return codes.indices
