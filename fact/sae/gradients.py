"""Losses of bias-free TopK and BatchTopK SAEs and their gradients, sparse where the codes are.

Automatic differentiation takes five products with a dense (sample, concept) matrix. Here only the
encoder's remains, a few samples at a time so that the matrix is never whole in memory; the others
run over the concepts that are active in each sample. Dead concepts, a few columns, stay dense.
Decoders are given by their directions, (concept, channel), the transpose of ``W_d``.

Sources: BatchTopK: Bussmann et al., arXiv 2412.06410, section 3; Matryoshka: Bussmann et al.,
"Learning multi-level features with Matryoshka sparse autoencoders", arXiv 2503.17547, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from fact.sae.model import SAE, JumpReLUSAE, TopKSAE, weighted_rows

# Pre-activations made at a time: what stays in a processor's cache, or fills a GPU.
CHUNK_ON_CPU, CHUNK = 2**22, 2**26
# Groups whose maxima are sorted first; 16 was the fastest of 8, 16 and 32 at 4096 concepts.
GROUP = 16
# Samples whose activations tell about where the largest of a batch begin, and how many more than
# looked for are taken: which of them are kept does not depend on it.
GUESSED, SPARE = 256, 1.5


@dataclass(frozen=True)
class Codes:
    """Sparse codes, by their entries: sample after sample.

    Attributes
    ----------
    values : Tensor, shape (entry,)
        Activations, 0 or more.
    concepts, samples : Tensor of int64, shape (entry,)
        Where they are; samples in ascending order.
    n_samples : int
        Number of samples, those without entries counted.
    """

    values: Tensor
    concepts: Tensor
    samples: Tensor
    n_samples: int

    def decode(self, directions: Tensor) -> Tensor:
        """Return the reconstructions (sample, channel) by directions (concept, channel)."""
        counts = torch.bincount(self.samples, minlength=self.n_samples)
        return weighted_rows(directions, self.concepts, self.values, counts.cumsum(0) - counts)

    def of(self, first: int, stop: int) -> Codes:
        """Return the codes of some concepts, the first of them becoming concept 0."""
        kept = (self.concepts >= first) & (self.concepts < stop)
        return Codes(
            self.values[kept], self.concepts[kept] - first, self.samples[kept], self.n_samples
        )


@dataclass(frozen=True)
class Reconstruction:
    """What the concepts that are kept leave over, and how to improve it.

    Attributes
    ----------
    loss : Tensor, scalar
        Mean over samples of ``||x - x_hat||^2``.
    minimised : Tensor, scalar
        The same, summed over all prefixes of the dictionary that reconstruct; `loss` without any.
    residual : Tensor, shape (sample, channel)
        ``x - x_hat``.
    values : Tensor, shape (entry,)
        Activations that were kept, 0 or more.
    counts : Tensor of int64, shape (concept,)
        Samples in which the concept is kept: of a TopK SAE also at activation 0.
    by_encoder, by_directions : Tensor, shape (concept, channel)
        Gradients of what is minimised.
    """

    loss: Tensor
    minimised: Tensor
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
def reconstruct(
    x: Tensor,
    encoder: Tensor,
    directions: Tensor,
    k: int,
    over_batch: bool = False,
    prefixes: Sequence[int] = (),
) -> Reconstruction:
    """Reconstruct samples from the largest of their activations.

    Parameters
    ----------
    x : Tensor, shape (sample, channel)
        Samples.
    encoder, directions : Tensor, shape (concept, channel)
        Weights.
    k : int
        Concepts kept per sample.
    over_batch : bool
        Keep the ``sample x k`` largest of all samples together, instead of `k` of each.
    prefixes : sequence of int
        Ascending sizes, below the number of concepts: so many of the first concepts reconstruct
        the samples too, by what is kept of them, and their losses are added.

    Returns
    -------
    Reconstruction
        The loss's gradients are those of automatic differentiation up to rounding.
    """
    kept = batch_codes(x, encoder, k) if over_batch else _each_top(x, encoder, k)
    ends = (0, *prefixes, len(encoder))
    parts = [kept.of(*between) for between in pairwise(ends)] if prefixes else [kept]
    with torch.enable_grad():
        for part in parts:
            part.values.requires_grad_()
        shares = [
            part.decode(directions[first:stop])
            for part, (first, stop) in zip(parts, pairwise(ends), strict=True)
        ]
        residuals = [x - x_hat for x_hat in accumulate(shares)]
        losses = [residual.pow(2).sum(-1).mean() for residual in residuals]
        minimised = torch.stack(losses).sum() if prefixes else losses[0]
    wanted = [*shares, *(part.values for part in parts)]
    gradients = torch.autograd.grad(minimised, wanted)
    by_share, by_value = gradients[: len(parts)], gradients[len(parts) :]
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    for i, (part, (first, stop)) in enumerate(zip(parts, pairwise(ends), strict=True)):
        values, codes = part.values.detach(), _ByConcept(part, stop - first)
        encoded = codes.product(by_value[i] * (values > 0), x)
        rows.append((codes.counts, encoded, codes.product(values, by_share[i])))
    counts, by_encoder, by_directions = (torch.cat(each) for each in zip(*rows, strict=True))
    return Reconstruction(
        losses[-1].detach(),
        minimised.detach(),
        residuals[-1].detach(),
        kept.values.detach(),
        counts,
        by_encoder,
        by_directions,
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
    for start, activations in _chunks(x, encoder):
        rows = slice(start, start + len(activations))
        values[rows], indices[rows] = _largest(activations, k)
    return values, indices


@torch.no_grad()
def batch_codes(x: Tensor, encoder: Tensor, k: int) -> Codes:
    """Find the activations that BatchTopK keeps of a batch, a few samples at a time.

    Parameters
    ----------
    x : Tensor, shape (sample, channel)
        Samples.
    encoder : Tensor, shape (concept, channel)
        Encoder weights.
    k : int
        Concepts kept per sample, on average.

    Returns
    -------
    Codes
        The ``sample x k`` largest activations of all, or all above 0 where there are fewer; of
        equal ones at the end those of the first samples.
    """
    most = k * len(x)
    found = threshold_codes(x, encoder, bound := _likely_bound(x, encoder, k))
    if len(found.values) < most and bound > 0:
        found = threshold_codes(x, encoder, bound.new_zeros(()))
    if (spare := len(found.values) - most) <= 0:
        return found
    least = found.values.kthvalue(spare + 1).values
    kept, ties = found.values > least, (found.values == least).nonzero()[:, 0]
    kept[ties[: most - int(kept.sum())]] = True
    return Codes(found.values[kept], found.concepts[kept], found.samples[kept], len(x))


@torch.no_grad()
def threshold_codes(x: Tensor, encoder: Tensor, threshold: Tensor) -> Codes:
    """Find the activations above a threshold, a few samples at a time.

    Parameters
    ----------
    x : Tensor, shape (sample, channel)
        Samples.
    encoder : Tensor, shape (concept, channel)
        Encoder weights.
    threshold : Tensor, scalar or of shape (concept,)
        0 or more.
    """
    values, places = [x.new_empty(0)], [torch.empty(0, 2, dtype=torch.int64, device=x.device)]
    for start, activations in _chunks(x, encoder):
        found = (activations > threshold).nonzero()
        values.append(activations[found[:, 0], found[:, 1]])
        found[:, 0] += start
        places.append(found)
    where = torch.cat(places)
    return Codes(torch.cat(values), where[:, 1].contiguous(), where[:, 0].contiguous(), len(x))


def served_codes(sae: SAE, x: Tensor) -> Codes:
    """Return the codes of samples that are divided by an SAE's scale, as it is served.

    Parameters
    ----------
    sae : SAE
        Without biases.
    x : Tensor, shape (sample, channel)
        Samples, divided by ``sae.scale``.
    """
    encoder = sae.encoder.detach()
    if isinstance(sae, TopKSAE):
        return _each_top(x, encoder, sae.k)
    assert isinstance(sae, JumpReLUSAE)
    return threshold_codes(x, encoder, sae.threshold / sae.scale)


def spread(x: Tensor) -> Tensor:
    """Sum over samples and channels of the squared deviation from the mean sample."""
    norm: Tensor = torch.linalg.vector_norm(x - x.mean(0))
    return norm.square()


def _chunks(x: Tensor, encoder: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield first sample and pre-activations (sample, concept), in memory that is used again."""
    size = rows_at_once(len(encoder), x.device)
    buffer = x.new_empty(min(size, len(x)), len(encoder))
    for start in range(0, len(x), size):
        samples = x[start : start + size]
        yield start, torch.mm(samples, encoder.T, out=buffer[: len(samples)])


def _each_top(x: Tensor, encoder: Tensor, k: int) -> Codes:
    values, indices = top_codes(x, encoder, k)
    samples = torch.arange(len(x), device=x.device).repeat_interleave(k)
    return Codes(values.flatten(), indices.flatten(), samples, len(x))


def _likely_bound(x: Tensor, encoder: Tensor, k: int) -> Tensor:
    """Return a number, 0 or more, that about ``SPARE x k`` activations of a sample are above."""
    activations = (x[:GUESSED] @ encoder.T).flatten()
    most = int(SPARE * k * min(len(x), GUESSED))
    if most >= len(activations):
        return x.new_zeros(())
    return activations.kthvalue(len(activations) - most).values.clamp_(min=0)


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
    """Entries of codes in the order of their concepts: the transposed matrix."""

    def __init__(self, codes: Codes, n_concepts: int) -> None:
        self._order = codes.concepts.argsort(stable=True)
        self._samples = codes.samples[self._order]
        self.counts = torch.bincount(codes.concepts, minlength=n_concepts)
        self._offsets = self.counts.cumsum(0) - self.counts

    def product(self, weights: Tensor, rows: Tensor) -> Tensor:
        """Sum the rows (sample, channel) of each concept's samples by weights (entry,)."""
        return weighted_rows(rows, self._samples, weights[self._order], self._offsets)
