"""A forward pass of the FaCT network: a layer's output replaced by the sum of its concepts.

Source: Parchami-Araghi et al., "FaCT: Faithful Concept Traces for Explaining Neural Network
Decisions", NeurIPS 2025, arXiv 2510.25512, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fact.networks.layers import LayerError, splice, to_positions
from fact.networks.network import Network
from fact.sae.model import TopKSAE
from fact.traces.codes import Codes, Concepts, as_concepts
from registry.suggest import nearest

Target = str | int
"""``"prediction"``, ``"label"``, the index of a class, or its name."""

Pick = Callable[[Tensor], Tensor]
"""Takes logits ``(image, class)``, returns the index of a class for each image, ``(image,)``."""


class Explained(NamedTuple):
    """What is explained of each image: a logit, or the difference of two.

    Attributes
    ----------
    logit : Tensor
        ``(image,)``, that of ``target``, minus that of ``against`` where there is one; connected
        to the codes.
    target, against : Tensor
        ``(image,)``, indices of classes; None where there is no second.
    """

    logit: Tensor
    target: Tensor
    against: Tensor | None


@dataclass(frozen=True)
class SplicedPass:
    """One forward pass of the FaCT network, its dynamic weights frozen in the graph.

    What comes before the layer and what follows it are separate graphs, which meet in the codes.

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
        Concepts at each position; their values are leaves.
    reconstruction : Tensor
        ``(image, position, channel)``, what took the place of ``output``.
    logits : Tensor
        ``(image, class)`` before the bias, connected to the values of ``codes``.
    """

    image: Tensor
    embeddings: tuple[Tensor, ...]
    output: Tensor
    concepts: Concepts
    codes: Codes
    reconstruction: Tensor
    logits: Tensor

    def explain(self, target: Pick, against: Pick | None = None) -> Explained:
        """Return the logit of the class that is picked, minus that of another where one is."""
        logits = self.logits.detach()
        chosen, other = target(logits), None if against is None else against(logits)
        logit = self.logits.gather(1, chosen.unsqueeze(1)).squeeze(1)
        if other is not None:
            logit = logit - self.logits.gather(1, other.unsqueeze(1)).squeeze(1)
        return Explained(logit, chosen, other)

    def at_codes(self, logit: Tensor) -> Tensor:
        """Derivative of a logit per image, ``(image,)``, by each entry of the codes."""
        (gradient,) = torch.autograd.grad(logit.sum(), self.codes.values)
        return gradient

    def at_input(self, weights: Tensor, keep: bool = False) -> tuple[Tensor, ...]:
        """Derivative of ``sum(weights * codes)`` by the image, and by each embedding.

        Parameters
        ----------
        weights : Tensor
            ``(image, position, rank)``, one per entry of the codes.
        keep : bool
            Keep the graph for another call.
        """
        leaves = (self.image, *self.embeddings)
        cotangent = self.concepts.pull(self.codes, weights)
        gradients = torch.autograd.grad(
            to_positions(self.output), leaves, cotangent, retain_graph=keep, allow_unused=True
        )
        return tuple(
            torch.zeros_like(leaf) if gradient is None else gradient
            for gradient, leaf in zip(gradients, leaves, strict=True)
        )


def forward_spliced(
    network: Network, layer: str, sae: TopKSAE | None, encoded: Tensor
) -> SplicedPass:
    """Run the FaCT network on one batch, frozen, so that gradients can be asked of it.

    Gradients must be enabled.

    Raises
    ------
    LayerError
        If there is no such layer, the network calls it more than once, or not at all.
    """
    image = encoded.detach().requires_grad_()
    met: list[tuple[Concepts, Codes, Tensor]] = []

    def reconstruct(positions: Tensor) -> Tensor:
        if met:
            raise LayerError(f"layer {layer!r} is called twice in a forward pass; expected once")
        concepts = as_concepts(sae, positions)
        codes = concepts.encode(positions.detach())
        codes.values.requires_grad_()
        met.append((concepts, codes, concepts.decode(codes)))
        return met[0][2]

    with (
        network.explanation_mode(),
        splice(network.module, layer, reconstruct) as captured,
        _embeddings_as_leaves(network.module) as embeddings,
    ):
        logits = network.logits(image)
    output = captured.output  # an error if the layer was not reached
    return SplicedPass(image, tuple(embeddings), output, *met[0], logits)


def target_of(network: Network, target: Target, labels: Tensor | None = None) -> Pick:
    """Return the function that picks the class to explain from logits ``(image, class)``.

    Raises
    ------
    ValueError
        If labels are needed and missing, the class is unknown, or beyond the logits.
    """
    if target == "prediction":
        return lambda logits: logits.argmax(dim=1)
    if target == "label":
        if labels is None:
            raise ValueError("target 'label' needs labels; got none")
        return lambda logits: _within(labels, logits)
    index = _class_index(network, target)
    return lambda logits: _within(torch.full_like(logits[:, 0], index, dtype=torch.long), logits)


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
        As :func:`target_of`.
    """
    known = None if labels is None else torch.tensor(labels[rows])
    other = None if against is None else target_of(network, against, known)
    return target_of(network, target, known), other


def _embedding_layers(module: nn.Module) -> list[nn.Module]:
    try:
        from bcos.models.vit import PosEmbSinCos2d
    except ImportError:  # without einops there are no ViTs
        return []
    return [part for part in module.modules() if isinstance(part, PosEmbSinCos2d)]


@contextmanager
def _embeddings_as_leaves(module: nn.Module) -> Iterator[list[Tensor]]:
    """Turn positional embeddings into leaves, one per image, and list them as they come by."""
    leaves: list[Tensor] = []

    def keep(_part: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        leaf = output.detach().expand(len(args[0]), *output.shape).clone().requires_grad_()
        leaves.append(leaf)
        return leaf

    with ExitStack() as stack:
        for part in _embedding_layers(module):
            stack.callback(part.register_forward_hook(keep).remove)
        yield leaves


def _class_index(network: Network, target: Target) -> int:
    if isinstance(target, str):
        if target not in network.classes:
            known = (*network.classes, "prediction", "label")
            raise ValueError(f"unknown target {target!r}{nearest(target, known)}")
        return network.classes.index(target)
    return int(target)


def _within(chosen: Tensor, logits: Tensor) -> Tensor:
    count = logits.shape[1]
    if bool(((chosen < 0) | (chosen >= count)).any()):
        raise ValueError(
            f"target classes {torch.unique(chosen).tolist()}; expected 0 to {count - 1}"
        )
    return chosen.to(logits.device)
