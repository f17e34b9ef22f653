"""What a network does when concepts are taken away, against what their contributions promised.

Contributions are exact for the dynamic weights that an image chose: with these *frozen*, scaling
concept f by s changes the logit by ``(s - 1) * contribution_f``, and changes of several concepts
add up. That is the promise. When the network is run again on what is left, it chooses its weights
anew, and the logit is another one: that is measured here. Source of splicing and contributions:
Parchami-Araghi et al., "FaCT", NeurIPS 2025, arXiv 2510.25512, section 3; of the curves: Petsiuk et
al., "RISE", BMVC 2018, section 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fact.data.images import generator_for
from fact.networks.layers import resume
from fact.networks.network import Network
from fact.sae.model import TopKSAE
from fact.traces.codes import Codes
from fact.traces.config import ORDERS, InterventionPlan, Order
from fact.traces.plots import EMPTY
from fact.traces.spliced import Pick, SplicedPass, forward_spliced

CURVES = ("deletion", "insertion")
"""From all concepts to none, or from none to all."""


class ConceptSurgery:
    """A batch of images whose concepts can be scaled; the network is run again each time.

    Parameters
    ----------
    network : Network
        A B-cos network.
    layer : str
        The layer that the concepts replace.
    sae : TopKSAE or None
        The concepts; None takes the layer's own channels.
    encoded : Tensor
        Images from :meth:`fact.networks.network.Network.encode`.
    target : callable
        Takes the logits ``(image, class)``, returns the class to look at ``(image,)``; see
        :func:`fact.traces.spliced.target_of`.

    Attributes
    ----------
    target : Tensor
        ``(image,)``, the class whose logit is looked at.
    presence, contribution : Tensor
        ``(image, concept)``, of the untouched images.
    logits : Tensor
        ``(image, class)``, before the bias, of the untouched images.
    """

    def __init__(
        self,
        network: Network,
        layer: str,
        sae: TopKSAE | None,
        encoded: Tensor,
        target: Pick,
    ):
        self._network, self._layer, self._one = network, layer, encoded[:1]
        with torch.enable_grad():
            spliced = forward_spliced(network, layer, sae, encoded)
            explained = spliced.explain(target)
            entries = spliced.at_codes(explained.logit)
        self.target = explained.target
        self._concepts, self._codes = spliced.concepts, _detached(spliced)
        values, collect = self._codes.values, self._concepts.collect
        self.presence = collect(self._codes, values)
        self.contribution = collect(self._codes, values * entries)
        self.logits = spliced.logits.detach()

    @torch.no_grad()
    def measure(self, factors: Tensor) -> Tensor:
        """Return the logits ``(image, class)`` when concepts are scaled by ``(image, concept)``."""
        codes = Codes(self._codes.values * _by_entry(self._codes, factors), self._codes.indices)
        reconstruction = self._concepts.decode(codes)
        with (
            self._network.explanation_mode(),
            resume(self._network.module, self._layer, reconstruction),
        ):
            return self._network.logits(self._one)

    def promise(self, factors: Tensor) -> Tensor:
        """Return the logit of the target ``(image,)`` that frozen weights would give."""
        return (self.contribution * factors).sum(dim=1)


def _detached(spliced: SplicedPass) -> Codes:
    return Codes(spliced.codes.values.detach(), spliced.codes.indices)


def _by_entry(codes: Codes, factors: Tensor) -> Tensor:
    """Return the factor of the concept of each entry of the codes."""
    if codes.indices is None:
        return factors.unsqueeze(1)
    return factors.gather(1, codes.indices.flatten(1)).view_as(codes.values)


# --- plans ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What came of a plan.

    Attributes
    ----------
    logit, promised, probability : ndarray
        ``(image, curve, order, step)``: logit of the target, measured and promised; its
        probability, by softmax over the measured logits.
    prediction : ndarray of int64
        ``(image, curve, order, step)``.
    single : ndarray of int64
        ``(image, rank)``: concepts taken away alone, by contribution; -1 where there are fewer.
    measured_change, promised_change : ndarray
        ``(image, rank)``: of the target's logit; NaN where there is no concept.
    """

    logit: NDArray[np.float64]
    promised: NDArray[np.float64]
    probability: NDArray[np.float64]
    prediction: NDArray[np.int64]
    single: NDArray[np.int64]
    measured_change: NDArray[np.float64]
    promised_change: NDArray[np.float64]

    @classmethod
    def join(cls, parts: Sequence[Outcome]) -> Outcome:
        """Return the outcomes of several batches as one."""
        names = [entry.name for entry in fields(cls)]
        return cls(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})


def intervene(surgery: ConceptSurgery, plan: InterventionPlan, ids: Sequence[str]) -> Outcome:
    """Carry out a plan on a batch of images.

    Parameters
    ----------
    surgery : ConceptSurgery
        The images.
    plan : InterventionPlan
        What is done.
    ids : sequence of str
        Names of the images, which key their random orders.
    """
    positions = {order: rank_concepts(surgery, order, ids, plan.seed) for order in plan.orders}
    found: list[list[Tensor]] = [[], [], [], []]
    for factors in _curve_factors(surgery, plan, positions):
        logits = surgery.measure(factors)
        for column, values in zip(found, _seen(surgery, factors, logits), strict=True):
            column.append(values)
    shape = (len(ids), len(CURVES), len(plan.orders), plan.n_steps + 1)
    curves = [torch.stack(column, 1).cpu().numpy().reshape(shape) for column in found]
    logit, promised, probability = (curve.astype(np.float64) for curve in curves[:3])
    return Outcome(logit, promised, probability, curves[3], *_single(surgery, plan))


def rank_concepts(
    surgery: ConceptSurgery, order: Order, ids: Sequence[str], seed: int = 0
) -> Tensor:
    """Return the position of each concept ``(image, concept)`` in an order, from 0.

    Concepts that an image lacks come after all others; equal ones in order of their index.

    Raises
    ------
    ValueError
        If the order is unknown.
    """
    if order == "contribution":
        keys = surgery.contribution
    elif order == "presence":
        keys = surgery.presence
    elif order == "random":
        keys = _random_keys(ids, seed, surgery.presence)
    else:
        raise ValueError(f"unknown order {order!r}; expected one of {', '.join(ORDERS)}")
    absent = ~_is_there(surgery)
    sorted_concepts = _descending(keys.masked_fill(absent, -torch.inf))
    positions = torch.arange(keys.shape[1], device=keys.device).expand_as(sorted_concepts)
    return torch.empty_like(sorted_concepts).scatter_(1, sorted_concepts, positions)


def _descending(keys: Tensor) -> Tensor:
    """Return concepts (image, rank) by key, the largest first; equal ones by index."""
    return keys.sort(dim=1, descending=True, stable=True).indices


def _is_there(surgery: ConceptSurgery) -> Tensor:
    return (surgery.presence != 0) | (surgery.contribution != 0)


def _random_keys(ids: Sequence[str], seed: int, like: Tensor) -> Tensor:
    rows = [generator_for(name, seed).random(like.shape[1]) for name in ids]
    return torch.tensor(np.array(rows)).to(like)


def _curve_factors(
    surgery: ConceptSurgery, plan: InterventionPlan, positions: dict[Order, Tensor]
) -> Iterator[Tensor]:
    """Yield the factors (image, concept) of every step of every curve."""
    there = _is_there(surgery).sum(dim=1, keepdim=True)
    one = torch.ones_like(surgery.presence)
    for curve in CURVES:
        for order in plan.orders:
            for step in range(plan.n_steps + 1):
                taken = (there * step + plan.n_steps - 1) // plan.n_steps  # rounded up
                moved = positions[order] < taken
                touched = moved if curve == "deletion" else ~moved
                yield one.masked_fill(touched, plan.scale)


def _seen(surgery: ConceptSurgery, factors: Tensor, logits: Tensor) -> tuple[Tensor, ...]:
    """Return logit, promised logit, probability of the target and prediction, each (image,)."""
    chosen = surgery.target.unsqueeze(1)
    probability = logits.softmax(dim=1).gather(1, chosen).squeeze(1)
    logit = logits.gather(1, chosen).squeeze(1)
    return logit, surgery.promise(factors), probability, logits.argmax(dim=1)


def _single(
    surgery: ConceptSurgery, plan: InterventionPlan
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Take away each of the concepts of largest contribution alone."""
    there = _is_there(surgery)
    ranked = surgery.contribution.masked_fill(~there, -torch.inf)
    count = min(plan.n_single, ranked.shape[1])
    concepts = _descending(ranked)[:, :count]
    known = there.gather(1, concepts)
    chosen = surgery.target.unsqueeze(1)
    whole = surgery.logits.gather(1, chosen)
    measured = torch.full_like(concepts, torch.nan, dtype=whole.dtype)
    for rank in range(count):
        factors = torch.ones_like(surgery.presence)
        factors.scatter_(1, concepts[:, rank : rank + 1], plan.scale)
        measured[:, rank] = (surgery.measure(factors).gather(1, chosen) - whole).squeeze(1)
    promised = (plan.scale - 1) * surgery.contribution.gather(1, concepts)
    changes = (t.masked_fill(~known, torch.nan).cpu().numpy() for t in (measured, promised))
    first, second = (change.astype(np.float64) for change in changes)
    return concepts.masked_fill(~known, EMPTY).cpu().numpy(), first, second
