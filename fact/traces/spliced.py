"""A forward pass of the FaCT network: a layer's output replaced by the sum of its concepts.

A position's code holds a few concepts of many. Everything here works on those few alone: nothing
of size ``(image, position, concept)`` is made, but for a piece of it at a time in the encoder.
Source: Parchami-Araghi et al., "FaCT: Faithful Concept Traces for Explaining Neural Network
Decisions", NeurIPS 2025, arXiv 2510.25512, section 3.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fact.networks.arrays import AnyArray
from fact.networks.files import open_network
from fact.networks.layers import called_again, run_until, splice, to_positions
from fact.networks.linearity import embeddings_as_leaves, known_linearity
from fact.networks.network import Network
from fact.sae.gradients import rows_at_once, top_codes
from fact.sae.model import SAE, TopKSAE, weighted_rows
from fact.traces.config import MapsBy
from registry import Input
from registry.suggest import nearest
from registry.wording import counted

Target = str | int
"""``"prediction"``, ``"label"``, the index of a class, or its name."""

Pick = Callable[[Tensor], Tensor]
"""Takes logits ``(image, class)``, returns the index of a class for each image, ``(image,)``."""


@dataclass(frozen=True)
class ConceptSource:
    """A network with the concepts of one of its layers.

    Attributes
    ----------
    network : Network
        On the chosen device.
    layer : str
        Name of the layer.
    sae : SAE or None
        None where the layer's own channels are the concepts.
    maps : str
        How concepts are mapped: ``gradient``, ``codes``, ``crp``, or ``auto``.
    """

    network: Network
    layer: str
    sae: SAE | None
    maps: MapsBy = "auto"

    @property
    def maps_by(self) -> MapsBy:
        """How concepts are mapped: by default by the gradient where it is the weight."""
        if self.maps != "auto":
            return self.maps
        return "gradient" if self.exact else "codes"

    @classmethod
    def of_sae(cls, sae: Input, device: str) -> ConceptSource:
        """Return an SAE with the network and the layer whose features it was trained on."""
        known = sae if "layer" in sae.config else sae.origin("features")  # imported, or trained
        with sae.open(proven=math.inf) as dataset:
            weights = SAE.from_dataset(dataset.load())
        network = open_network(known.origin("network"), device)
        own = weights.to(network.device).requires_grad_(False)
        return cls(network, known.config["layer"], own)

    @classmethod
    def of_concepts(cls, concepts: Input, device: str, maps: MapsBy = "auto") -> ConceptSource:
        """Return what the statistics of concepts were measured on, as exact as they were."""
        if "sae" in concepts.inputs:
            source = cls.of_sae(concepts.inputs["sae"], device)
        else:
            network = open_network(concepts.inputs["network"], device)
            source = cls(network, concepts.config["layer"], None)
        with concepts.open() as measured:  # all were exact once
            exact = bool(measured["exact"]) if "exact" in measured else True
        return replace(source, network=replace(source.network, linear=exact), maps=maps)

    @property
    def exact(self) -> bool:
        """Whether contributions add up to logits, and are held to it; else an approximation."""
        return bool(self.network.linear)

    def probed(self, images: AnyArray) -> ConceptSource:
        """Return the same, with a network of which it is known whether it is linear."""
        return replace(self, network=known_linearity(self.network, images))


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


class Concepts:
    """The channels of a layer as its concepts: nothing is left out, nothing approximated.

    Concepts are linear maps from a layer's channels and back, but for constants: a decoder's bias
    in every reconstruction, an encoder's in every code. Weights are given per entry of the codes,
    ``(image, position, rank)``; the masks of relu, top-k and thresholds are constants, as in the
    explanation mode of a B-cos network.

    Attributes
    ----------
    count : int
        How many they are.
    bias : Tensor or None
        ``(channel,)``, what every reconstruction has beside its concepts; None for nothing.
    """

    def __init__(self, count: int, bias: Tensor | None = None):
        self.count, self.bias = count, bias

    def encode(self, positions: Tensor) -> Codes:
        """Codes of ``(image, position, channel)``."""
        return Codes(positions.detach())

    def decode(self, codes: Codes) -> Tensor:
        """Reconstruction ``(image, position, channel)``."""
        return codes.values

    def collect(self, codes: Codes, entries: Tensor) -> Tensor:
        """Sum over positions of what belongs to each concept, ``(image, concept)``."""
        return entries.sum(dim=1)

    def at_entries(self, codes: Codes, factors: Tensor) -> Tensor:
        """Factor, of ``(image, concept)``, of the concept of each entry of the codes."""
        return factors.unsqueeze(1)

    def pull(self, codes: Codes, weights: Tensor) -> Tensor:
        """Derivative by the channels of ``sum(weights * values)``, masks held constant."""
        return weights

    def constants(self, codes: Codes) -> Tensor | None:
        """Part of each value that is there whatever the channels are; None where none is."""
        return None

    def selects(self, codes: Codes, concept: Tensor) -> Tensor:
        """Which entries are of the concept chosen per image, ``(image,)``, as 0 and 1."""
        chosen = functional.one_hot(concept, self.count).to(codes.values.dtype)
        return chosen.unsqueeze(1).expand_as(codes.values)


class SparseConcepts(Concepts):
    """Concepts of which a position has a few, named by the indices of its code."""

    def collect(self, codes: Codes, entries: Tensor) -> Tensor:
        """Return the sums of entries by concept."""
        sums = entries.new_zeros(len(entries), self.count)
        return sums.scatter_add_(1, codes_indices(codes).flatten(1), entries.flatten(1))

    def at_entries(self, codes: Codes, factors: Tensor) -> Tensor:
        """Return the factor of each entry's concept."""
        return factors.gather(1, codes_indices(codes).flatten(1)).view_as(codes.values)

    def selects(self, codes: Codes, concept: Tensor) -> Tensor:
        """Return 1 where an entry's index is the concept."""
        return (codes_indices(codes) == concept.view(-1, 1, 1)).to(codes.values.dtype)


class SAEConcepts(SparseConcepts):
    """The concepts of an SAE, of which a few are active at a position."""

    def __init__(self, sae: SAE):
        bias = sae.decoder_bias
        super().__init__(sae.n_concepts, None if bias is None else bias.detach())
        self._sae = sae

    def encode(self, positions: Tensor) -> Codes:
        """Return the active concepts of each position."""
        rows, shape = positions.detach().flatten(0, 1), (*positions.shape[:2], -1)
        sae = self._sae
        if isinstance(sae, TopKSAE) and sae.encoder_bias is None:
            values, indices = top_codes(rows, sae.encoder.detach(), sae.k)
            return Codes(values.view(shape), indices.view(shape))
        with torch.no_grad():
            pieces = torch.split(rows, rows_at_once(self.count, rows.device))
            several = zip(*map(sae.encode_sparse, pieces), strict=True)
            values, indices = map(_join_ranks, several)
        return Codes(values.view(shape), indices.view(shape))

    def decode(self, codes: Codes) -> Tensor:
        """Return the decoder's columns, weighted by the codes, and its bias."""
        return self._sae.decode_sparse(codes.values, codes_indices(codes))

    def constants(self, codes: Codes) -> Tensor | None:
        """Return the encoder's bias, of the entries that are active."""
        bias = self._sae.encoder_bias
        return None if bias is None else bias.detach()[codes_indices(codes)] * (codes.values > 0)

    def pull(self, codes: Codes, weights: Tensor) -> Tensor:
        """Return the encoder's rows, weighted, of the entries that are active."""
        open_weights = weights * (codes.values > 0)
        rows = weighted_rows(
            self._sae.encoder.detach(),
            codes_indices(codes).flatten(0, 1),
            open_weights.flatten(0, 1),
        )
        return rows.view(*weights.shape[:2], -1)


def _join_ranks(pieces: Sequence[Tensor]) -> Tensor:
    """Put pieces (row, rank) one after the other, filled up with 0 to the longest rank."""
    rank = max(piece.shape[1] for piece in pieces)
    return torch.cat([functional.pad(piece, (0, rank - piece.shape[1])) for piece in pieces])


def codes_indices(codes: Codes) -> Tensor:
    """Return the concept of each entry, (image, position, rank).

    Raises
    ------
    ValueError
        If codes are of channels, which need none.
    """
    if codes.indices is None:
        raise ValueError("codes without indices; expected those of a few concepts each")
    return codes.indices


def as_concepts(sae: SAE | None, positions: Tensor) -> Concepts:
    """Return an SAE's concepts, in the type and on the device of positions; or the channels."""
    channels = positions.shape[2]
    if sae is None:
        return Concepts(channels)
    if sae.n_channels != channels:
        raise ValueError(
            f"the layer has {counted(channels, 'channel')}; the SAE was made for {sae.n_channels}"
        )
    if (sae.encoder.device, sae.encoder.dtype) != (positions.device, positions.dtype):
        sae = copy.deepcopy(sae).to(positions)
    return SAEConcepts(sae)


@dataclass(frozen=True)
class LayerPass:
    """One forward pass as far as the layer, its dynamic weights frozen in the graph.

    Attributes
    ----------
    image : Tensor
        The encoded images ``(image, colour, y, x)``; a leaf.
    embeddings : tuple of Tensor
        Positional embeddings that were added on the way, one per image; leaves.
    output : Tensor
        What the layer itself put out, connected to ``image`` and ``embeddings``.
    concepts : Concepts
        What stands at the layer.
    codes : Codes
        Concepts at each position.
    """

    image: Tensor
    embeddings: tuple[Tensor, ...]
    output: Tensor
    concepts: Concepts
    codes: Codes

    def at_input(self, weights: Tensor) -> tuple[Tensor, ...]:
        """Derivative of ``sum(weights * codes)`` by the image, and by each embedding.

        Parameters
        ----------
        weights : Tensor
            ``(image, position, rank)``, one per entry of the codes. The graph is used up.
        """
        leaves = (self.image, *self.embeddings)
        cotangent = self.concepts.pull(self.codes, weights)
        gradients = torch.autograd.grad(
            to_positions(self.output), leaves, cotangent, allow_unused=True
        )
        return tuple(
            torch.zeros_like(leaf) if gradient is None else gradient
            for gradient, leaf in zip(gradients, leaves, strict=True)
        )

    def each_at_image(self, weights: Tensor) -> Tensor:
        """Derivatives by the image of several ``sum(weights * codes)``, from one graph.

        Parameters
        ----------
        weights : Tensor
            ``(vector, image, position, rank)``.

        Returns
        -------
        Tensor
            ``(vector, image, colour, y, x)``. The graph is kept.
        """
        cotangents = torch.stack([self.concepts.pull(self.codes, own) for own in weights])
        return each_gradient(to_positions(self.output), self.image, cotangents)


@dataclass(frozen=True)
class SplicedPass(LayerPass):
    """One forward pass of the FaCT network, its dynamic weights frozen in the graph.

    What comes before the layer and what follows it are separate graphs, which meet in the codes,
    whose values are leaves.

    Attributes
    ----------
    image, embeddings, output, concepts, codes
        As of :class:`LayerPass`.
    reconstruction : Tensor
        ``(image, position, channel)``, what took the place of ``output``.
    logits : Tensor
        ``(image, class)`` before the bias, connected to the values of ``codes``.
    """

    reconstruction: Tensor
    logits: Tensor

    def explain(
        self, target: Pick, against: Pick | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the logit of the class that is picked, minus that of another where one is.

        It is ``(image,)`` and connected to the codes; behind it come the indices of both classes,
        ``(image,)``, None where there is no second.
        """
        logits = self.logits.detach()
        chosen, other = target(logits), None if against is None else against(logits)
        logit = self.logits.gather(1, chosen.unsqueeze(1)).squeeze(1)
        if other is not None:
            logit = logit - self.logits.gather(1, other.unsqueeze(1)).squeeze(1)
        return logit, chosen, other

    def offset(self, logit: Tensor) -> Tensor | None:
        """What the decoder's bias gives to a logit per image, ``(image,)``; None without one.

        It is the bias times the derivative by the reconstruction, summed over positions: exact,
        since what follows the layer is linear. The graph is kept, for :meth:`at_codes`.
        """
        if self.concepts.bias is None:
            return None
        (gradient,) = torch.autograd.grad(logit.sum(), self.reconstruction, retain_graph=True)
        return (gradient @ self.concepts.bias).sum(dim=1)

    def at_codes(self, logit: Tensor) -> Tensor:
        """Derivative of a logit per image, ``(image,)``, by each entry of the codes."""
        (gradient,) = torch.autograd.grad(logit.sum(), self.codes.values)
        return gradient


def each_gradient(output: Tensor, leaf: Tensor, vectors: Tensor) -> Tensor:
    """Gradients of an output by a leaf, one for each vector, together; the graph is kept.

    Parameters
    ----------
    output, leaf : Tensor
        Of one graph.
    vectors : Tensor
        ``(vector, *output)``.

    Returns
    -------
    Tensor
        ``(vector, *leaf)``.
    """

    def one(vector: Tensor) -> Tensor:
        return torch.autograd.grad(output, leaf, vector, retain_graph=True)[0]

    if len(vectors) == 1:
        return one(vectors[0]).unsqueeze(0)
    found: Tensor = torch.func.vmap(one)(vectors)
    return found


def forward_until(source: ConceptSource, encoded: Tensor) -> LayerPass:
    """Run a network as far as its concepts, frozen, so that their gradients can be asked of it.

    Gradients must be enabled.

    Raises
    ------
    LayerError
        If there is no such layer, the network calls it more than once, or not at all.
    """
    image = encoded.detach().requires_grad_()
    with source.network.explanation_mode():
        captured = run_until(source.network.module, source.layer, image, once=True)
    positions = captured.positions.detach()
    concepts = as_concepts(source.sae, positions)
    return LayerPass(image, (), captured.output, concepts, concepts.encode(positions))


def forward_spliced(source: ConceptSource, encoded: Tensor) -> SplicedPass:
    """Run the FaCT network on one batch, frozen, so that gradients can be asked of it.

    Gradients must be enabled.

    Raises
    ------
    LayerError
        If there is no such layer, the network calls it more than once, or not at all.
    """
    network, layer = source.network, source.layer
    image = encoded.detach().requires_grad_()
    met: list[tuple[Concepts, Codes, Tensor]] = []

    def reconstruct(positions: Tensor) -> Tensor:
        if met:
            raise called_again(layer)
        concepts = as_concepts(source.sae, positions)
        codes = concepts.encode(positions.detach())
        codes.values.requires_grad_()
        met.append((concepts, codes, concepts.decode(codes)))
        return met[0][2]

    with (
        network.explanation_mode(),
        splice(network.module, layer, reconstruct) as captured,
        embeddings_as_leaves(network.module) as embeddings,
    ):
        logits = network.logits(image)
    output = captured.output  # an error if the layer was not reached
    return SplicedPass(image, tuple(embeddings), output, *met[0], logits)


def picks(
    network: Network,
    target: Target,
    against: Target | None,
    labels: NDArray[np.int64] | None,
    rows: slice,
) -> tuple[Pick, Pick | None]:
    """Return what picks the two classes of some of the images, whose ``labels`` are ``(image,)``.

    Raises
    ------
    ValueError
        If labels are needed and missing, the class is unknown, or beyond the logits.
    """
    known = None if labels is None else torch.tensor(labels[rows])
    other = None if against is None else _pick(network, against, known)
    return _pick(network, target, known), other


def _pick(network: Network, target: Target, labels: Tensor | None) -> Pick:
    if target == "prediction":
        return lambda logits: logits.argmax(dim=1)
    if target == "label":
        if labels is None:
            raise ValueError("target 'label' needs labels; got none")
        return lambda logits: _within(labels, logits)
    if isinstance(target, str) and target not in network.classes:
        known = (*network.classes, "prediction", "label")
        raise ValueError(f"unknown target {target!r}{nearest(target, known)}")
    index = network.classes.index(target) if isinstance(target, str) else int(target)
    return lambda logits: _within(torch.full_like(logits[:, 0], index, dtype=torch.long), logits)


def _within(chosen: Tensor, logits: Tensor) -> Tensor:
    count = logits.shape[1]
    if bool(((chosen < 0) | (chosen >= count)).any()):
        raise ValueError(
            f"target classes {torch.unique(chosen).tolist()}; expected 0 to {count - 1}"
        )
    return chosen.to(logits.device)
