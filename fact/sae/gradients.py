"""Losses of bias-free TopK and BatchTopK SAEs and their gradients, sparse where the codes are.

Automatic differentiation takes five products with a dense (sample, concept) matrix. Here only the
encoder's remains, a few samples at a time so that the matrix is never whole in memory; the others
run over the concepts that are active in each sample. Dead concepts, a few columns, stay dense.
Decoders are given by their directions, (concept, channel), the transpose of ``W_d``. Within
:class:`torch.autocast` products of whole matrices are computed from bfloat16, all else in float32.

Sources: BatchTopK: Bussmann et al., arXiv 2412.06410, section 3; Matryoshka: Bussmann et al.,
"Learning multi-level features with Matryoshka sparse autoencoders", arXiv 2503.17547, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from fact.networks.precision import exact
from fact.sae.model import SAE, JumpReLUSAE, TopKSAE, sampled_products, weighted_rows
from fact.sae.ranks import ALONE, Ranks

# Pre-activations made at a time: what stays in a processor's cache, or fills a GPU.
CHUNK_ON_CPU, CHUNK = 2**22, 2**26
# Groups whose maxima are sorted first; 16 was the fastest of 8, 16 and 32 at 4096 concepts.
GROUP = 16
# Concepts that a product in bfloat16 proposes for each that is kept, and at least how many more.
CANDIDATES, MORE = 2, 16
# Samples whose activations tell about where the largest of a batch begin, and how many more than
# looked for are taken: which of them are kept does not depend on it.
GUESSED, SPARE = 256, 1.5

Candidates = Literal["float32", "bf16"]
"""By which product the concepts that are kept of a sample are looked for."""


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
        counts = count_each(self.samples, self.n_samples)
        return weighted_rows(directions, self.concepts, self.values, counts.cumsum(0) - counts)

    def of(self, first: int, stop: int) -> Codes:
        """Return the codes of some concepts, the first of them becoming concept 0."""
        kept = (self.concepts >= first) & (self.concepts < stop)
        return Codes(
            self.values[kept], self.concepts[kept] - first, self.samples[kept], self.n_samples
        )


@dataclass(frozen=True)
class Aside:
    """Pre-activations of some concepts, kept as those of all are made.

    Attributes
    ----------
    concepts : Tensor of int64, shape (concept,)
        Whose.
    values : Tensor, shape (sample, concept)
        Filled, a few samples at a time.
    """

    concepts: Tensor
    values: Tensor


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
    idle : Tensor, shape (sample, idle)
        Pre-activations of the concepts that were asked for.
    uncertain : Tensor of int64, scalar
        Samples whose concepts are not proven to be the largest; see `certified_codes`.
    """

    loss: Tensor
    minimised: Tensor
    residual: Tensor
    values: Tensor
    counts: Tensor
    by_encoder: Tensor
    by_directions: Tensor
    idle: Tensor
    uncertain: Tensor


@dataclass(frozen=True)
class Auxiliary:
    """What dead concepts could reconstruct of the residual.

    Attributes
    ----------
    loss : Tensor, scalar
        ``mean ||e - e_hat||^2 / mean ||e - mean(e)||^2``; 0 when no concept is dead or the
        quotient is not finite.
    by_encoder, by_directions : Tensor, shape (idle, channel)
        Gradients of the loss, 0 by concepts that are not dead, as by all others.
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
    idle: Tensor | None = None,
    n_samples: int | None = None,
    ranks: Ranks = ALONE,
    candidates: Candidates = "float32",
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
    idle : Tensor of int64, shape (idle,), optional
        Concepts whose pre-activations are kept, since they are made here anyway.
    n_samples : int, optional
        Samples of the whole batch, where these are part of it: losses and gradients are the part's
        share, which add up to those of the whole.
    ranks : Ranks
        Processes that have the other parts.
    candidates : str
        By which product the concepts kept of each sample are looked for: ``bf16`` by
        `certified_codes`.

    Returns
    -------
    Reconstruction
        The loss's gradients are those of automatic differentiation up to rounding.
    """
    n = len(x) if n_samples is None else n_samples
    none = torch.empty(0, dtype=torch.int64, device=x.device)
    aside = Aside(
        none if idle is None else idle, x.new_empty(len(x), 0 if idle is None else len(idle))
    )
    uncertain = torch.zeros((), dtype=torch.int64, device=x.device)
    if over_batch:
        kept = batch_codes(x, encoder, k, aside, n, ranks)
    elif candidates == "bf16":
        values, indices, uncertain = certified_codes(x, encoder, k)
        kept = _codes_of(values, indices)
        torch.mm(x, encoder[aside.concepts].T, out=aside.values)
    else:
        kept = _each_top(x, encoder, k, aside)
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
        losses = [residual.pow(2).sum(-1).sum() / n for residual in residuals]
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
        aside.values,
        uncertain,
    )


@torch.no_grad()
def reconstruct_residual(
    x: Tensor,
    residual: Tensor,
    activations: Tensor,
    directions: Tensor,
    is_dead: Tensor,
    k: int,
    variance: Tensor,
) -> Auxiliary:
    """Reconstruct the residual from dead concepts (Gao et al., arXiv 2406.04093, A.2).

    With kept activations ``A`` and directions ``D`` of the dead, what is left over is
    ``R = e - A D``; of ``||R||^2`` the gradients are ``-2 A^T R`` by ``D``, and by the encoder
    ``-2 S^T x``, where ``S`` is ``R D^T`` at what is kept: four products, which is all that costs.

    Parameters
    ----------
    x, residual : Tensor, shape (sample, channel)
        Samples and what the living concepts leave over, a constant here.
    activations : Tensor, shape (sample, idle)
        Pre-activations of concepts that may be dead, used up; of each sample the `k` largest of
        the dead are kept.
    directions : Tensor, shape (idle, channel)
        Their directions.
    is_dead : Tensor of bool, shape (idle,)
        Which of them are.
    k : int
        Dead concepts kept per sample, at most.
    variance : Tensor, scalar
        What the squared error is divided by: `spread` of the residual.
    """
    by_encoder, by_directions = torch.zeros_like(directions), torch.zeros_like(directions)
    loss = x.new_zeros(())
    if not len(directions):
        return Auxiliary(loss, by_encoder, by_directions)
    size = rows_at_once(len(directions), x.device)
    parts = (torch.split(rows, size) for rows in (x, residual, activations))
    for samples, wanted, found in zip(*parts, strict=True):
        kept = _keep_largest(_only(found.relu_(), is_dead), k)
        rest = _added(wanted, kept, directions, alpha=-1)
        loss += torch.linalg.vector_norm(rest).square()
        by_directions = _added(by_directions, kept.T, rest)
        # The derivative of relu, in one pass: 0 where nothing is kept.
        back = exact(torch.mm(rest, directions.T))
        back = torch.ops.aten.threshold_backward(back, kept, 0)
        by_encoder = _added(by_encoder, back.T, samples)
    # A residual without variance, as of one sample, makes it NaN or infinite.
    counts = (loss / variance).isfinite() & is_dead.any()
    return Auxiliary(
        (loss / variance).where(counts, 0),
        by_encoder.mul_(-2 / variance).where(counts, 0),
        by_directions.mul_(-2 / variance).where(counts, 0),
    )


def _added(given: Tensor, first: Tensor, second: Tensor, alpha: float = 1.0) -> Tensor:
    """Return ``given + alpha first @ second``, of which the product alone may be from bfloat16."""
    if torch.is_autocast_enabled(given.device.type):
        return torch.add(given, first @ second, alpha=alpha)
    return torch.addmm(given, first, second, alpha=alpha)


@torch.no_grad()
def top_codes(
    x: Tensor, encoder: Tensor, k: int, aside: Aside | None = None
) -> tuple[Tensor, Tensor]:
    """Find the concepts that are kept for each sample, a few samples at a time.

    Parameters
    ----------
    x : Tensor, shape (sample, channel)
        Samples.
    encoder : Tensor, shape (concept, channel)
        Encoder weights.
    k : int
        Concepts kept per sample.
    aside : Aside, optional
        What else to keep.

    Returns
    -------
    values : Tensor, shape (sample, k)
        Activations, 0 or more.
    indices : Tensor of int64, shape (sample, k)
        Their concepts: those of ``relu(x @ encoder.T).topk(k)``; which of equal activations is
        kept may differ, but on a CPU not among zeros.
    """
    values = x.new_empty(len(x), k)
    indices = _empty_indices(len(x), k, x.device)
    for start, activations in _chunks(x, encoder, aside):
        rows = slice(start, start + len(activations))
        values[rows], indices[rows] = _largest(activations, k)
    return values, indices


@torch.no_grad()
def certified_codes(x: Tensor, encoder: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find the concepts that are kept for each sample by a product in bfloat16, and prove them.

    With ``x = x' + dx`` and ``w = w' + dw``, where ``x'`` and ``w'`` are rounded to bfloat16,
    ``x . w = x' . w' + dx . w' + x . dw``, at most
    ``x' . w' + |dx| |w'| + |x| |dw|`` (Cauchy and Schwarz). This bound is itself one product in
    bfloat16: the norms, rounded up, are two more channels. Products of two bfloat16 numbers are
    exact in float32, and a sum of n terms in float32, in any order and also where it is truncated
    as tensor cores do, is off by at most ``n 2^-22`` of the sum of the terms' sizes, which is at
    most ``2 |x| |w|``; rounding the sum u to bfloat16 moves it by at most ``2^-7 |u|``. The
    concepts of largest bound, `CANDIDATES` times k, are then multiplied in float32. Where the k-th
    of these products is above the least bound that was taken, by more than all of these errors and
    those of float32 itself, none that was left out can be among the k. All other samples are done
    again by the whole product.

    Which of two concepts is kept whose products differ by less than the rounding of float32 depends
    on the order in which it adds up, as between two devices; and values differ from those of
    `top_codes` by that rounding.

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
        Their concepts.
    uncertain : Tensor of int64, scalar
        Samples that should have been done again and were not: 0 on a CPU. Elsewhere their number is
        not looked at, and an eighth of the samples can be.
    """
    count = min(max(CANDIDATES * k, k + MORE), len(encoder))
    ours, theirs = _bounding(x, encoder)
    values, indices = x.new_empty(len(x), k), _empty_indices(len(x), k, x.device)
    is_certain = torch.empty(len(x), dtype=torch.bool, device=x.device)
    norms = torch.linalg.vector_norm(x, dim=1) * torch.linalg.vector_norm(encoder, dim=1).max()
    slack = 2**-20 * ours.shape[1] * norms  # 4 sums: of the bound, and in float32 on both sides
    for start, bounds in _chunks(ours, theirs):
        rows = slice(start, start + len(bounds))
        highest, found = _top(bounds, count)
        exact = sampled_products(x[rows], encoder, found)
        values[rows], places = exact.topk(k, sorted=False)
        indices[rows] = found.gather(1, places)
        least = highest.amin(1).to(x.dtype)
        excluded = (least + 2**-7 * least.abs()).clamp_min(0) + slack[rows]
        is_certain[rows] = (values[rows].amin(1) > excluded) | (count == len(encoder))
    return values.relu_(), indices, _do_again(x, encoder, is_certain, values, indices)


def _bounding(x: Tensor, encoder: Tensor) -> tuple[Tensor, Tensor]:
    """Return two matrices whose product bounds that of samples and encoder from above."""
    parts = []
    for given, is_first in ((x, True), (encoder, False)):
        near = given.bfloat16()
        norms = [
            torch.linalg.vector_norm(each, dim=1) for each in (given - near, given, near.to(given))
        ]
        # Up, once they are rounded, and where squares are too small for float32.
        least = given.shape[1] ** 0.5 * 2**-62
        error, whole, rounded = (each * (1 + 2**-6) + least for each in norms)
        own = torch.stack([error, whole] if is_first else [rounded, error], dim=1).bfloat16()
        rest = near.new_zeros(len(near), -(near.shape[1] + 2) % 16)  # as matrix units take them
        parts.append(torch.cat([near, own, rest], dim=1))
    is_made = x.device.type != "cpu" or has_bfloat16()
    first, second = parts if is_made else (part.float() for part in parts)
    return first, second


@cache
def has_bfloat16() -> bool:
    """Return whether this processor multiplies in bfloat16, adding up in float32."""
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(known.get(name) for name in ("amx_bf16", "avx512_bf16"))


def _do_again(
    x: Tensor, encoder: Tensor, is_certain: Tensor, values: Tensor, indices: Tensor
) -> Tensor:
    """Replace, in place, the codes of samples that are not certain; return how many are left."""
    k, none = values.shape[1], torch.zeros((), dtype=torch.int64, device=x.device)
    if may_look(is_certain):
        rows = (~is_certain).nonzero()[:, 0]
        values[rows], indices[rows] = top_codes(x[rows], encoder, k)
        return none
    room = -(-len(x) // 8)
    rows = is_certain.to(torch.uint8).argsort(stable=True)[:room]
    again = top_codes(x[rows], encoder, k)
    values.index_copy_(0, rows, again[0])
    indices.index_copy_(0, rows, again[1])
    return torch.maximum(none, (~is_certain).sum() - room)


def _empty_indices(n_samples: int, k: int, device: torch.device) -> Tensor:
    return torch.empty(n_samples, k, dtype=torch.int64, device=device)


@torch.no_grad()
def batch_codes(
    x: Tensor,
    encoder: Tensor,
    k: int,
    aside: Aside | None = None,
    n_samples: int | None = None,
    ranks: Ranks = ALONE,
) -> Codes:
    """Find the activations that BatchTopK keeps of a batch, a few samples at a time.

    Parameters
    ----------
    x : Tensor, shape (sample, channel)
        Samples.
    encoder : Tensor, shape (concept, channel)
        Encoder weights.
    k : int
        Concepts kept per sample, on average.
    aside : Aside, optional
        What else to keep.
    n_samples : int, optional
        Samples of the whole batch, where these are part of it; counted where it is None.
    ranks : Ranks
        Processes that have the other parts, those of lower rank the samples before these.

    Returns
    -------
    Codes
        The ``sample x k`` largest activations of all, or all above 0 where there are fewer; of
        equal ones at the end those of the first samples.
    """
    if ranks.size > 1:
        return _shared_batch_codes(x, encoder, k, aside, n_samples, ranks)
    most = k * len(x)
    found = threshold_codes(x, encoder, bound := _likely_bound(x, encoder, k), aside)
    if len(found.values) < most and bound > 0:
        found = threshold_codes(x, encoder, bound.new_zeros(()))
    if (spare := len(found.values) - most) <= 0:
        return found
    least = found.values.kthvalue(spare + 1).values
    kept, ties = found.values > least, (found.values == least).nonzero()[:, 0]
    kept[ties[: most - int(kept.sum())]] = True
    return Codes(found.values[kept], found.concepts[kept], found.samples[kept], len(x))


def _shared_batch_codes(
    x: Tensor, encoder: Tensor, k: int, aside: Aside | None, n_samples: int | None, ranks: Ranks
) -> Codes:
    """Find the activations that BatchTopK keeps of a batch which several processes share."""
    bound = _likely_bound(x, encoder, k)
    ranks.least(bound)
    count = torch.tensor(len(x) if n_samples is None else 0, device=x.device)
    ranks.add(count)
    most = k * (int(count) if n_samples is None else n_samples)
    found = threshold_codes(x, encoder, bound, aside)
    every = ranks.gather(found.values)
    if sum(map(len, every)) < most and bound > 0:
        found = threshold_codes(x, encoder, bound.new_zeros(()))
        every = ranks.gather(found.values)
    values = torch.cat(every)
    if (spare := len(values) - most) <= 0:
        return found
    least = values.kthvalue(spare + 1).values
    kept, ties = found.values > least, (found.values == least).nonzero()[:, 0]
    before = sum(int((each == least).sum()) for each in every[: ranks.rank])
    room = most - int((values > least).sum()) - before
    kept[ties[: max(room, 0)]] = True
    return Codes(found.values[kept], found.concepts[kept], found.samples[kept], len(x))


@torch.no_grad()
def threshold_codes(
    x: Tensor, encoder: Tensor, threshold: Tensor, aside: Aside | None = None
) -> Codes:
    """Find the activations above a threshold, a few samples at a time.

    Parameters
    ----------
    x : Tensor, shape (sample, channel)
        Samples.
    encoder : Tensor, shape (concept, channel)
        Encoder weights.
    threshold : Tensor, scalar or of shape (concept,)
        0 or more.
    aside : Aside, optional
        What else to keep.
    """
    values, places = [x.new_empty(0)], [torch.empty(0, 2, dtype=torch.int64, device=x.device)]
    for start, activations in _chunks(x, encoder, aside):
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


def _chunks(x: Tensor, encoder: Tensor, aside: Aside | None = None) -> Iterator[tuple[int, Tensor]]:
    """Yield first sample and pre-activations (sample, concept), in memory that is used again."""
    size = rows_at_once(len(encoder), x.device)
    buffer = x.new_empty(min(size, len(x)), len(encoder))
    for start in range(0, len(x), size):
        samples = x[start : start + size]
        if torch.is_autocast_enabled(x.device.type):  # which what is written to would escape
            made = buffer[: len(samples)].copy_(samples @ encoder.T)
        else:
            made = torch.mm(samples, encoder.T, out=buffer[: len(samples)])
        if aside is not None and len(aside.concepts):
            rows = aside.values[start : start + size]
            torch.index_select(made, 1, aside.concepts, out=rows)
        yield start, made


def _each_top(x: Tensor, encoder: Tensor, k: int, aside: Aside | None = None) -> Codes:
    return _codes_of(*top_codes(x, encoder, k, aside))


def _codes_of(values: Tensor, indices: Tensor) -> Codes:
    n_samples, k = values.shape
    samples = torch.arange(n_samples, device=values.device).repeat_interleave(k)
    return Codes(values.flatten(), indices.flatten(), samples, n_samples)


def _likely_bound(x: Tensor, encoder: Tensor, k: int) -> Tensor:
    """Return a number, 0 or more, that about ``SPARE x k`` activations of a sample are above."""
    activations = exact(x[:GUESSED] @ encoder.T).flatten()
    most = int(SPARE * k * min(len(x), GUESSED))
    if most >= len(activations):
        return x.new_zeros(())
    return activations.kthvalue(len(activations) - most).values.clamp_(min=0)


def _largest(activations: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``relu(activations).topk(k)`` in less time: they lie in the k groups of largest maximum."""
    n_concepts = activations.shape[1]
    if n_concepts % GROUP or n_concepts < 4 * k * GROUP:
        values, indices = activations.relu_().topk(k, sorted=False)
        return values, indices
    values, indices = _top(activations, k)
    if not may_look(values):
        return values.relu_(), indices
    # Which zeros are among the k decides which concepts are dead: torch.topk's own choice.
    short = values.amin(1) <= 0
    if short.any():
        values[short], indices[short] = activations[short].relu_().topk(k, sorted=False)
    return values, indices


def _top(activations: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``activations.topk(k)``, by the groups of largest maximum where that takes less time."""
    n_samples, n_concepts = activations.shape
    if n_concepts % GROUP or n_concepts < 4 * k * GROUP:
        values, indices = activations.topk(k, sorted=False)
        return values, indices
    grouped = activations.view(n_samples, GROUP, -1)
    groups = grouped.amax(1).topk(k, sorted=False).indices
    candidates = grouped.gather(2, groups[:, None].expand(-1, GROUP, -1)).flatten(1)
    values, positions = candidates.topk(k, sorted=False)
    return values, positions // k * grouped.shape[2] + groups.gather(1, positions % k)


def _only(activations: Tensor, chosen: Tensor) -> Tensor:
    """Set to 0, in place, the activations of all concepts but the chosen ones."""
    if may_look(chosen) and chosen.all():
        return activations
    return activations.masked_fill_(~chosen, 0)


def _keep_largest(activations: Tensor, k: int) -> Tensor:
    """Set to 0, in place, all but the `k` largest of each sample; none is below 0."""
    if activations.shape[1] <= k:
        return activations
    if not may_look(activations):
        values, indices = activations.topk(k, sorted=False)
        return activations.zero_().scatter_(1, indices, values)
    many = activations.count_nonzero(1) > k
    if many.any():
        found = activations[many]
        values, indices = found.topk(k, sorted=False)
        activations[many] = found.zero_().scatter_(1, indices, values)
    return activations


def may_look(tensor: Tensor) -> bool:
    """Return whether Python may look at values: only where no device works behind its back.

    Elsewhere a look waits for all that was asked of the device, which then waits for Python: there
    everything has shapes that are known beforehand.
    """
    return tensor.device.type == "cpu"


def count_each(indices: Tensor, size: int) -> Tensor:
    """Count how often each index comes, as `torch.bincount`, which looks for the largest one."""
    if may_look(indices):
        return torch.bincount(indices, minlength=size)
    counts = torch.zeros(size, dtype=torch.int64, device=indices.device)
    return counts.scatter_add_(0, indices, torch.ones_like(indices))


def rows_at_once(n_concepts: int, device: torch.device) -> int:
    """Return for how many samples, or positions, activations of all concepts are made at a time."""
    return max(1, (CHUNK_ON_CPU if device.type == "cpu" else CHUNK) // n_concepts)


class _ByConcept:
    """Entries of codes in the order of their concepts: the transposed matrix."""

    def __init__(self, codes: Codes, n_concepts: int) -> None:
        self._order = codes.concepts.argsort(stable=True)
        self._samples = codes.samples[self._order]
        self.counts = count_each(codes.concepts, n_concepts)
        self._offsets = self.counts.cumsum(0) - self.counts

    def product(self, weights: Tensor, rows: Tensor) -> Tensor:
        """Sum the rows (sample, channel) of each concept's samples by weights (entry,)."""
        return weighted_rows(rows, self._samples, weights[self._order], self._offsets)
