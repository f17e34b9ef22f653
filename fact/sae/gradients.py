"""Losses of a bias-free TopK SAE and their gradients, sparse where the codes are.

Automatic differentiation takes five products with a dense (sample, concept) matrix. Here only the
encoder's remains, a few samples at a time so that the matrix is never whole in memory; the others
run over the ``k`` concepts of each sample. Dead concepts, a few columns, stay dense. Decoders are
given by their directions, (concept, channel), the transpose of ``W_d``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fact.sae.model import weighted_rows

# Pre-activations made at a time: what stays in a processor's cache, or fills a GPU.
CHUNK_ON_CPU, CHUNK = 2**22, 2**26
# Groups whose maxima are sorted first; 16 was the fastest of 8, 16 and 32 at 4096 concepts.
GROUP = 16


@dataclass(frozen=True)
class Reconstruction:
    """What the concepts that are kept leave over, and how to improve it.

    Attributes
    ----------
    loss : Tensor, scalar
        Mean over samples of ``||x - x_hat||^2``.
    residual : Tensor, shape (sample, channel)
        ``x - x_hat``.
    values : Tensor, shape (sample, k)
        Activations that were kept, 0 or more.
    counts : Tensor of int64, shape (concept,)
        Samples in which the concept is among the ``k``, even at activation 0.
    by_encoder, by_directions : Tensor, shape (concept, channel)
        Gradients of the loss.
    """

    loss: Tensor
    residual: Tensor
    values: Tensor
    counts: Tensor
    by_encoder: Tensor
    by_directions: Tensor


@dataclass(frozen=True)
class Auxiliary:
    """What dead concepts could reconstruct of the residual.

    Attributes
    ----------
    loss : Tensor, scalar
        ``mean ||e - e_hat||^2 / mean ||e - mean(e)||^2``; 0 when no concept is dead or the
        quotient is not finite.
    by_encoder, by_directions : Tensor, shape (dead, channel)
        Gradients of the loss, by the dead concepts alone: by all others they are 0.
    """

    loss: Tensor
    by_encoder: Tensor
    by_directions: Tensor


@torch.no_grad()
def reconstruct(x: Tensor, encoder: Tensor, directions: Tensor, k: int) -> Reconstruction:
    """Reconstruct samples from the ``k`` largest of their activations.

    Parameters
    ----------
    x : Tensor, shape (sample, channel)
        Samples.
    encoder, directions : Tensor, shape (concept, channel)
        Weights.
    k : int
        Concepts kept per sample.

    Returns
    -------
    Reconstruction
        The loss's gradients are those of automatic differentiation up to rounding.
    """
    values, indices = top_codes(x, encoder, k)
    with torch.enable_grad():
        values.requires_grad_()
        x_hat = weighted_rows(directions, indices, values)
        residual = x - x_hat
        loss = residual.pow(2).sum(-1).mean()
    by_x_hat, by_value = torch.autograd.grad(loss, (x_hat, values))
    values = values.detach()
    codes = _ByConcept(indices, len(encoder))
    return Reconstruction(
        loss.detach(),
        residual.detach(),
        values,
        codes.counts,
        codes.product(by_value * (values > 0), x),
        codes.product(values, by_x_hat),
    )


@torch.no_grad()
def reconstruct_residual(
    x: Tensor, residual: Tensor, encoder: Tensor, directions: Tensor, dead: Tensor, k: int
) -> Auxiliary:
    """Reconstruct the residual from dead concepts (Gao et al., arXiv 2406.04093, A.2).

    Parameters
    ----------
    x, residual : Tensor, shape (sample, channel)
        Samples and what the living concepts leave over, a constant here.
    encoder, directions : Tensor, shape (concept, channel)
        Weights.
    dead : Tensor of int64, shape (dead,)
        Dead concepts; the `k` with the largest activations of a sample are kept.
    k : int
        Dead concepts kept per sample, at most.
    """
    encoder, directions = encoder[dead].requires_grad_(), directions[dead].requires_grad_()
    loss, variance = x.new_zeros(()), spread(residual)
    size = rows_at_once(max(len(dead), 1), x.device)
    for samples, rest in zip(torch.split(x, size), torch.split(residual, size), strict=True):
        if len(dead):
            with torch.enable_grad():
                activations = _keep_largest((samples @ encoder.T).relu(), k)
                part = (rest - activations @ directions).pow(2).sum() / variance
                torch.autograd.backward(part)
            loss += part.detach()
    # A residual without variance, as of one sample, makes it NaN or infinite.
    if encoder.grad is None or directions.grad is None or not loss.isfinite():
        return Auxiliary(x.new_zeros(()), torch.zeros_like(encoder), torch.zeros_like(directions))
    return Auxiliary(loss, encoder.grad, directions.grad)


@torch.no_grad()
def top_codes(x: Tensor, encoder: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the concepts that are kept for each sample, a few samples at a time.

    Parameters
    ----------
    x : Tensor, shape (sample, channel)
        Samples.
    encoder : Tensor, shape (concept, channel)
        Encoder weights.
    k : int
        Concepts kept per sample.

    Returns
    -------
    values : Tensor, shape (sample, k)
        Activations, 0 or more.
    indices : Tensor of int64, shape (sample, k)
        Their concepts: those of ``relu(x @ encoder.T).topk(k)``, with its choice among zeros;
        which of equal positive activations is kept may differ.
    """
    values = x.new_empty(len(x), k)
    indices = torch.empty(len(x), k, dtype=torch.int64, device=x.device)
    size = rows_at_once(len(encoder), x.device)
    buffer = x.new_empty(min(size, len(x)), len(encoder))
    for start in range(0, len(x), size):
        samples = x[start : start + size]
        activations = torch.mm(samples, encoder.T, out=buffer[: len(samples)])
        values[start : start + size], indices[start : start + size] = _largest(activations, k)
    return values, indices


def spread(x: Tensor) -> Tensor:
    """Sum over samples and channels of the squared deviation from the mean sample."""
    norm: Tensor = torch.linalg.vector_norm(x - x.mean(0))
    return norm.square()


def _largest(activations: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``relu(activations).topk(k)`` in less time: they lie in the k groups of largest maximum."""
    n_samples, n_concepts = activations.shape
    if n_concepts % GROUP or n_concepts < 4 * k * GROUP:
        values, indices = activations.relu_().topk(k, sorted=False)
        return values, indices
    grouped = activations.view(n_samples, GROUP, -1)
    groups = grouped.amax(1).topk(k, sorted=False).indices
    candidates = grouped.gather(2, groups[:, None].expand(-1, GROUP, -1)).flatten(1)
    values, positions = candidates.topk(k, sorted=False)
    indices = positions // k * grouped.shape[2] + groups.gather(1, positions % k)
    # Which zeros are among the k decides which concepts are dead: torch.topk's own choice.
    short = values.amin(1) <= 0
    if short.any():
        values[short], indices[short] = activations[short].relu_().topk(k, sorted=False)
    return values, indices


def _keep_largest(activations: Tensor, k: int) -> Tensor:
    if activations.shape[1] <= k:
        return activations
    values, indices = activations.topk(k, sorted=False)
    return torch.zeros_like(activations).scatter(1, indices, values)


def rows_at_once(n_concepts: int, device: torch.device) -> int:
    """Return for how many samples, or positions, activations of all concepts are made at a time."""
    return max(1, (CHUNK_ON_CPU if device.type == "cpu" else CHUNK) // n_concepts)


class _ByConcept:
    """Entries of a (sample, k) code in the order of their concepts: the transposed matrix."""

    def __init__(self, indices: Tensor, n_concepts: int) -> None:
        concepts = indices.flatten()
        self._order = concepts.argsort(stable=True)
        self._samples = self._order // indices.shape[1]
        self.counts = torch.bincount(concepts, minlength=n_concepts)
        self._offsets = self.counts.cumsum(0) - self.counts

    def product(self, weights: Tensor, rows: Tensor) -> Tensor:
        """Sum the rows (sample, channel) of each concept's samples by weights (sample, k)."""
        return weighted_rows(rows, self._samples, weights.flatten()[self._order], self._offsets)
