"""Whether a network is exactly linear in its frozen weights: asked of the network itself.

With its dynamic weights frozen, such a network is a product of matrices that its image chose, and
what a gradient at the image gives back, times the image, *is* the output. Any bias, and any part
whose weight is not frozen, leaves a difference, which the probe measures.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from fact.networks.arrays import AnyArray
from fact.networks.foresight import APPROXIMATION
from fact.networks.frozen import Embedding
from fact.networks.network import Network, as_network

TOLERANCE = 1e-4
"""Residual of a probe up to which a network is linear: float32 leaves 1e-6, a bias 1e-2 and more.
Contributions are held to less, image by image."""

FLOOR = 1e-12
"""Smallest denominator of a residual: it keeps 0 / 0 of a dead output at 0."""

N_IMAGES = 8
"""Images of a probe by default: a bias shows in one."""


def probe_linearity(network: Network | nn.Module, images: AnyArray, seed: int = 0) -> Network:
    """Find out whether a network is exactly linear in its frozen weights.

    The residual of an image is ``|sum of gradient times image - y|`` over the sum of their absolute
    products, where ``y`` is a random combination of all logits, before a bias that a logit layer
    adds; what comes through a positional embedding of the package ``bcos`` counts as the image's.

    Parameters
    ----------
    network : Network or Module
        In evaluation mode; it is frozen only while this runs.
    images : array
        As :meth:`fact.Network.encode` takes them; the first 8 are looked at.
    seed : int
        Draws the combination.

    Returns
    -------
    Network
        The same with ``probe``, the largest residual, and ``linear``, whether that is at most
        1e-4; :func:`fact.save_network` keeps both with the weights.

    Raises
    ------
    NetworkError
        If the network does not take such images, or puts out no logits.
    """
    network = as_network(network)
    image = network.encode(images)[:N_IMAGES].detach().requires_grad_()
    with (
        torch.enable_grad(),
        network.explanation_mode(),
        embeddings_as_leaves(network.module) as embeddings,
    ):
        logits = network.logits(image)
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randn(logits.shape[1], generator=generator).to(logits)
        combined = logits @ weights
        leaves = (image, *embeddings)
        gradients = torch.autograd.grad(combined.sum(), leaves, allow_unused=True)
    products = [
        (leaf.detach() * gradient).double().flatten(1)
        for leaf, gradient in zip(leaves, gradients, strict=True)
        if gradient is not None
    ]
    found = sum((product.sum(dim=1) for product in products), torch.zeros(()))
    scale = sum((product.abs().sum(dim=1) for product in products), torch.zeros(()))
    missed = (found - combined.detach().double()).abs() / torch.as_tensor(scale).clamp(min=FLOOR)
    residual = float(missed.max())
    return replace(network, linear=residual <= TOLERANCE, probe=residual)


def known_linearity(network: Network, images: AnyArray) -> Network:
    """Return a network of which it is known whether it is linear: probed, where it was not."""
    return network if network.linear is not None else probe_linearity(network, images)


def tell_linearity(network: Network) -> None:
    """Print what follows for a network that is not linear; nothing for one that is."""
    if not network.linear:
        found = (
            "" if network.probe is None else f" (a probe missed its logits by {network.probe:.1e})"
        )
        sys.stdout.write(
            f"{network.name} is not linear in its frozen weights{found}: {APPROXIMATION}\n"
        )


@contextmanager
def embeddings_as_leaves(module: nn.Module) -> Iterator[list[Tensor]]:
    """Turn positions and tokens that no pixel gives into leaves, one per image, as they come by.

    They are the positional embeddings of the package ``bcos``, and what a conversion to a B-cos
    network marked as such.
    """
    leaves: list[Tensor] = []
    count = 1
    kinds: tuple[type[nn.Module], ...] = (Embedding, *_sines())

    def begin(_part: nn.Module, args: tuple[Tensor, ...]) -> None:
        nonlocal count
        count = len(args[0])

    def keep(part: nn.Module, _args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        shape = (
            output.shape[1:] if isinstance(part, Embedding) and len(output) == 1 else output.shape
        )
        leaf = output.detach().expand(count, *shape).clone().requires_grad_()
        leaves.append(leaf)
        return leaf

    with ExitStack() as stack:
        stack.enter_context(module.register_forward_pre_hook(begin))
        for part in module.modules():
            if isinstance(part, kinds):
                stack.enter_context(part.register_forward_hook(keep))
        yield leaves


def _sines() -> tuple[type[nn.Module], ...]:
    try:
        from bcos.models.vit import PosEmbSinCos2d
    except ImportError:  # without einops there are no ViTs
        return ()
    sines: type[nn.Module] = PosEmbSinCos2d
    return (sines,)
