"""What a network does when concepts are taken away, against what their contributions promised.

Contributions are exact for the dynamic weights that an image chose: with these *frozen*, scaling
concept f by s changes the logit by ``(s - 1) * contribution_f``, and changes of several concepts
add up. That is the promise. When the network is run again on what is left, it chooses its weights
anew, and the logit is another one: that is measured here. Of a network that is not linear in its
frozen weights the promise is a first-order one. Source of splicing and contributions:
Parchami-Araghi et al., "FaCT", NeurIPS 2025, arXiv 2510.25512, section 3; of the curves: Petsiuk et
al., "RISE", BMVC 2018, section 4. Intervals are bootstrap intervals over images (Efron and
Tibshirani, "An Introduction to the Bootstrap", 1993): the 2.5 % and 97.5 % percentiles of what is
drawn.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from fact.data.images import batches, generator_for
from fact.networks.arrays import AnyArray, as_rgb, checked_labels, image_ids, slices, take
from fact.networks.layers import resume
from fact.networks.linearity import N_IMAGES
from fact.networks.network import Network, as_network
from fact.sae.model import SAE
from fact.traces.config import ORDERS, InterventionConfig, InterventionPlan, Order
from fact.traces.plots import EMPTY
from fact.traces.spliced import Codes, ConceptSource, Pick, Target, forward_spliced, picks
from registry import Inputs, Run

Floats = NDArray[np.float64]

CURVES = ("deletion", "insertion")
"""From all concepts to none, or from none to all."""

TAILS = (0.025, 0.975)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Of the errors of promises."""

_CURVE = ("curve", "order", "step")
_AREA = ("curve", "order")


def intervene_concepts(config: InterventionConfig, inputs: Inputs, run: Run) -> xr.Dataset:
    """Intervene in the logits that the concepts were measured for.

    Returns
    -------
    Dataset
        Of the schema ``intervention``.
    """
    source = ConceptSource.of_concepts(inputs["concepts"], config.device)
    images = inputs["concepts"].origin("images").load()
    with inputs["concepts"].open() as measured:
        drawn = np.random.default_rng(config.seed).permutation(measured.sizes["image"])
        chosen = np.sort(drawn[: config.n_images])
        ids = measured["image"].values[chosen].astype(str)
        labels, target = (measured[name].values[chosen] for name in ("label", "target"))
    parts: list[Outcome] = []
    done = 0
    for names, pictures in batches(images, ids, config.batch, source.network.geometry):
        rows = slice(done, done + len(names))
        pick, _ = picks(source.network, "label", None, target, rows)
        encoded = source.network.encode(pictures)
        parts.append(intervene(ConceptSurgery(source, encoded, pick), config, names.tolist()))
        done = rows.stop
        run.progress(done, len(ids), "images")
    summary = summarise(Outcome.join(parts), labels, config, config.n_bootstrap)
    sys.stdout.write(intervention_table(summary))
    summary = summary.assign(target=("image", target), exact=source.exact)
    return summary.assign_coords(image=ids.astype(object))


def measure_interventions(
    network: Network | nn.Module,
    layer: str,
    sae: SAE | None,
    images: AnyArray,
    plan: InterventionPlan | None = None,
    *,
    target: Target = "prediction",
    labels: AnyArray | None = None,
    batch_size: int = 32,
    n_draws: int = 500,
) -> xr.Dataset:
    """Take the concepts of images away and put them back, and compare with what was promised.

    Parameters
    ----------
    network, layer, sae, images, target, labels
        As for :func:`fact.traces.contributions.trace_concepts`.
    plan : InterventionPlan, optional
        What is done; by default, concepts are removed in ten steps.
    batch_size : int
        Images at a time.
    n_draws : int
        Draws of the bootstrap over images.

    Returns
    -------
    Dataset
        Of the schema ``intervention``. ``accuracy`` is NaN where labels are not given.

    Raises
    ------
    LayerError
        If there is no such layer.
    ValueError
        If an order or the target is unknown, or labels are missing or not one per image.
    """
    source = ConceptSource(as_network(network), layer, sae).probed(take(images, slice(0, N_IMAGES)))
    ids, plan = image_ids(images), plan or InterventionPlan()
    known = None if labels is None else checked_labels(labels, images)
    parts, targets = [], []
    for rows in slices(len(ids), batch_size):
        encoded = source.network.encode(take(images, rows))
        pick, _ = picks(source.network, target, None, known, rows)
        surgery = ConceptSurgery(source, encoded, pick)
        parts.append(intervene(surgery, plan, [str(name) for name in ids[rows]]))
        targets.append(surgery.target.cpu().numpy())
    labelled = np.full(len(ids), -1) if known is None else known
    summary = summarise(Outcome.join(parts), labelled, plan, n_draws)
    summary = summary.assign(target=("image", np.concatenate(targets)), exact=source.exact)
    return summary.assign_coords(image=ids)


class ConceptSurgery:
    """A batch of images whose concepts can be scaled; the network is run again each time.

    Parameters
    ----------
    source : ConceptSource
        A B-cos network, the layer, and the concepts that replace it.
    encoded : Tensor
        Images from :meth:`fact.networks.network.Network.encode`.
    target : callable
        Takes the logits ``(image, class)``, returns the class to look at ``(image,)``; see
        :func:`fact.traces.spliced.picks`.
    against : callable, optional
        The same of a class whose logit is taken away from it.

    Attributes
    ----------
    source : ConceptSource
        As given.
    target : Tensor
        ``(image,)``, the class whose logit is looked at.
    against : Tensor or None
        ``(image,)``, the class whose logit is taken away; None where there is none.
    presence, contribution : Tensor
        ``(image, concept)``, of the untouched images.
    offset : Tensor or None
        ``(image,)``, what the bias of a decoder gives to the logit, whatever is done to concepts.
    is_there : Tensor
        ``(image, concept)``, whether the image has the concept.
    logits : Tensor
        ``(image, class)``, before the bias, of the untouched images.
    """

    def __init__(
        self, source: ConceptSource, encoded: Tensor, target: Pick, against: Pick | None = None
    ):
        self.source, self._one = source, encoded[:1]
        with torch.enable_grad():
            spliced = forward_spliced(source, encoded)
            logit, self.target, self.against = spliced.explain(target, against)
            self.offset = spliced.offset(logit)
            entries = spliced.at_codes(logit)
        self._concepts = spliced.concepts
        self._codes = Codes(spliced.codes.values.detach(), spliced.codes.indices)
        values, collect = self._codes.values, self._concepts.collect
        self.presence = collect(self._codes, values)
        self.contribution = collect(self._codes, values * entries)
        self.is_there = (self.presence != 0) | (self.contribution != 0)
        self.logits = spliced.logits.detach()
        # What contributions miss of the logit is nobody's, and stays.
        given = self.contribution.sum(dim=1) + (0 if self.offset is None else self.offset)
        self._missed = 0 if source.exact else logit.detach() - given

    @torch.no_grad()
    def measure(self, factors: Tensor) -> Tensor:
        """Return the logits ``(image, class)`` when concepts are scaled by ``(image, concept)``."""
        values = self._codes.values * self._concepts.at_entries(self._codes, factors)
        reconstruction = self._concepts.decode(Codes(values, self._codes.indices))
        network = self.source.network
        with network.explanation_mode(), resume(network.module, self.source.layer, reconstruction):
            return network.logits(self._one)

    def promise(self, factors: Tensor) -> Tensor:
        """Return the logit of the target ``(image,)`` that frozen weights would give.

        Of a network that is not linear in them: to first order.
        """
        promised = (self.contribution * factors).sum(dim=1) + self._missed
        return promised if self.offset is None else promised + self.offset


def open_image(
    source: ConceptSource, picture: AnyArray, target: int, against: int | None = None
) -> ConceptSurgery:
    """Return one image whose concepts can be scaled, see :func:`scale_concepts`.

    Parameters
    ----------
    source : ConceptSource
        A network, the layer, and its concepts.
    picture : array of uint8, (y, x, colour) or (y, x)
        As for :func:`fact.explain_image`.
    target : int
        Index of the class whose logit is looked at.
    against : int, optional
        Index of a class whose logit is taken away from it.

    Raises
    ------
    ValueError
        If there is no such class, or the picture is none.
    """
    pixels = source.network.geometry.apply(as_rgb(picture))[None]
    source = source.probed(pixels)
    pick, other = picks(source.network, target, against, None, slice(0, 1))
    return ConceptSurgery(source, source.network.encode(pixels), pick, other)


def scale_concepts(surgery: ConceptSurgery, factors: Mapping[int, float]) -> xr.Dataset:
    """Run a network on an image some of whose concepts are scaled, beside what was promised.

    Parameters
    ----------
    surgery : ConceptSurgery
        Of one image; see :func:`open_image`.
    factors : mapping of int to float
        By concept: 0 takes it away, 1 leaves it. What is not named is left.

    Returns
    -------
    Dataset
        Dimensionless. ``logits``, before the bias, and ``probability`` (class): of the network on
        the scaled concepts. ``before``, ``promised``, ``measured``: what is looked at, a logit or
        the difference of two, with all concepts as they are; by contributions scaled alike, with
        frozen weights; and by the network. ``prediction``; ``exact``, whether contributions are.

    Raises
    ------
    ValueError
        If there is no such concept.
    """
    count = surgery.presence.shape[1]
    if unknown := [one for one in factors if not 0 <= one < count]:
        raise ValueError(f"concepts {unknown[:4]}; expected 0 to {count - 1}")
    scale = torch.ones_like(surgery.presence)
    for concept, factor in factors.items():
        scale[0, concept] = factor
    logits, network = surgery.measure(scale), surgery.source.network

    def looked_at(given: Tensor) -> float:
        rival = 0.0 if surgery.against is None else given[0, surgery.against[0]].item()
        return float(given[0, surgery.target[0]].item() - rival)

    numbers = {
        "before": looked_at(surgery.logits),
        "promised": float(surgery.promise(scale)[0]),
        "measured": looked_at(logits),
    }
    return xr.Dataset(
        {
            "logits": ("class", logits[0].cpu().numpy()),
            "probability": ("class", network.probabilities(logits)[0].cpu().numpy()),
            "prediction": int(logits[0].argmax()),
            "exact": surgery.source.exact,
            **numbers,
        },
        {"class": np.array(network.class_names(logits.shape[1]), dtype=object)},
    )


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
        logits, chosen = surgery.measure(factors), surgery.target.unsqueeze(1)
        seen = (
            logits.gather(1, chosen).squeeze(1),
            surgery.promise(factors),
            logits.softmax(dim=1).gather(1, chosen).squeeze(1),
            logits.argmax(dim=1),
        )
        for column, values in zip(found, seen, strict=True):
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
        rows = [generator_for(name, seed).random(surgery.presence.shape[1]) for name in ids]
        keys = torch.tensor(np.array(rows)).to(surgery.presence)
    else:
        raise ValueError(f"unknown order {order!r}; expected one of {', '.join(ORDERS)}")
    sorted_concepts = _descending(surgery, keys)
    positions = torch.arange(keys.shape[1], device=keys.device).expand_as(sorted_concepts)
    return torch.empty_like(sorted_concepts).scatter_(1, sorted_concepts, positions)


def _descending(surgery: ConceptSurgery, keys: Tensor) -> Tensor:
    """Return concepts (image, rank): by key, the largest first, then by index; absent ones last."""
    keys = keys.masked_fill(~surgery.is_there, -torch.inf)
    return keys.sort(dim=1, descending=True, stable=True).indices


def _curve_factors(
    surgery: ConceptSurgery, plan: InterventionPlan, positions: dict[Order, Tensor]
) -> Iterator[Tensor]:
    """Yield the factors (image, concept) of every step of every curve."""
    there = surgery.is_there.sum(dim=1, keepdim=True)
    one = torch.ones_like(surgery.presence)
    for curve in CURVES:
        for order in plan.orders:
            for step in range(plan.n_steps + 1):
                taken = (there * step + plan.n_steps - 1) // plan.n_steps  # rounded up
                moved = positions[order] < taken
                touched = moved if curve == "deletion" else ~moved
                yield one.masked_fill(touched, plan.scale)


def _single(
    surgery: ConceptSurgery, plan: InterventionPlan
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Take away each of the concepts of largest contribution alone."""
    concepts = _descending(surgery, surgery.contribution)[:, : plan.n_single]
    known = surgery.is_there.gather(1, concepts)
    chosen = surgery.target.unsqueeze(1)
    whole = surgery.logits.gather(1, chosen)
    measured = torch.full_like(concepts, torch.nan, dtype=whole.dtype)
    for rank in range(concepts.shape[1]):
        factors = torch.ones_like(surgery.presence)
        factors.scatter_(1, concepts[:, rank : rank + 1], plan.scale)
        measured[:, rank] = (surgery.measure(factors).gather(1, chosen) - whole).squeeze(1)
    promised = (plan.scale - 1) * surgery.contribution.gather(1, concepts)
    changes = (t.masked_fill(~known, torch.nan).cpu().numpy() for t in (measured, promised))
    first, second = (change.astype(np.float64) for change in changes)
    return concepts.masked_fill(~known, EMPTY).cpu().numpy(), first, second


# --- over many images ------------------------------------------------------------------------


def _bootstrap(n_images: int, n_draws: int, seed: int) -> Floats:
    """Return draws of images with replacement, as weights (draw, image) that sum to 1."""
    chances = np.full(n_images, 1 / n_images)
    counts = np.random.default_rng(seed).multinomial(n_images, chances, size=n_draws)
    return counts / n_images


def weighted_means(weights: Floats, values: NDArray[Any]) -> Floats:
    """Return the mean of values (image, …) in every draw, (draw, …); NaN is left out."""
    known = ~np.isnan(values)
    total = np.tensordot(weights, np.where(known, values, 0), axes=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / np.tensordot(weights, known.astype(np.float64), axes=1))


def interval(draws: Floats) -> tuple[Floats, Floats]:
    """Return the ends of the interval of draws (draw, …)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice")
        low, high = np.nanquantile(draws, TAILS, axis=0)
    return low, high


def _mean(values: Floats) -> Floats:
    """Return the mean over images of those that are not NaN; NaN where none is."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0).sum(axis=0) / known.sum(axis=0))


def summarise(
    outcome: Outcome, labels: NDArray[np.int64], plan: InterventionPlan, n_draws: int = 500
) -> xr.Dataset:
    """Return curves, areas under them, and changes against promises; see ``intervention``.

    Parameters
    ----------
    outcome : Outcome
        Of all images.
    labels : ndarray of int64, (image,)
        Labelled class of each; -1 where there is none.
    plan : InterventionPlan
        What was done.
    n_draws : int
        Draws of the bootstrap.
    """
    weights = _bootstrap(len(labels), n_draws, plan.seed)
    of_image = labels[:, None, None, None]
    correct = np.where(of_image < 0, np.nan, outcome.prediction == of_image)
    variables: dict[str, Any] = {
        "share": ("step", plan.fractions),
        "promised_logit": (_CURVE, outcome.promised.mean(axis=0)),
    }
    measured = {"logit": outcome.logit, "probability": outcome.probability, "accuracy": correct}
    for name, values in measured.items():
        mean, draws = _mean(values), weighted_means(weights, values)
        variables[name] = (_CURVE, mean)
        variables[f"{name}_area"] = (_AREA, area(mean))
        for end, of_curve, of_area in zip(
            ("low", "high"), interval(draws), interval(area(draws)), strict=True
        ):
            variables[f"{name}_{end}"] = (_CURVE, of_curve)
            variables[f"{name}_area_{end}"] = (_AREA, of_area)
    variables |= _changes(outcome, weights)
    variables |= {"n_images": len(labels), "scale": float(plan.scale)}
    coords = {
        "curve": list(CURVES),
        "order": list(plan.orders),
        "step": np.arange(len(plan.fractions)),
    }
    return xr.Dataset(variables, {**coords, "rank": np.arange(outcome.single.shape[1])})


def area(curves: Floats) -> Floats:
    """Return the area under curves (…, step) over shares from 0 to 1, by the trapezoidal rule."""
    inner = curves[..., 1:-1].sum(axis=-1)
    return np.asarray((inner + (curves[..., 0] + curves[..., -1]) / 2) / (curves.shape[-1] - 1))


def _changes(outcome: Outcome, weights: Floats) -> dict[str, Any]:
    promised, measured = outcome.promised_change, outcome.measured_change
    known = ~np.isnan(promised)
    error = (measured - promised)[known]
    scale = np.abs(promised[known]).mean() if known.any() else np.nan
    sums = _pair_sums(promised, measured)
    correlation, slope = _fit(sums.sum(axis=0))
    drawn = _fit(weighted_means(weights, sums))
    ends = {
        f"{name}_{end}": float(value)
        for name, draws in zip(("correlation", "slope"), drawn, strict=True)
        for end, value in zip(("low", "high"), interval(draws), strict=True)
    }
    quantiles = np.quantile(error, QUANTILES) if len(error) else np.full(len(QUANTILES), np.nan)
    return {
        "removed": (("image", "rank"), outcome.single),
        "promised_change": (("image", "rank"), promised),
        "measured_change": (("image", "rank"), measured),
        "error_quantile": ("quantile", quantiles),
        "quantile": ("quantile", np.array(QUANTILES)),
        "correlation": float(correlation),
        "slope": float(slope),
        **ends,
        "relative_error": float(np.abs(error).mean() / scale) if len(error) else float("nan"),
    }


def _pair_sums(x: Floats, y: Floats) -> Floats:
    """Return count, and sums of x, y, x², y² and xy, of every image, (image, 6); NaN left out."""
    known = ~np.isnan(x)
    x, y = np.where(known, x, 0), np.where(known, y, 0)
    columns = (known, x, y, x * x, y * y, x * y)
    return np.stack([column.sum(axis=1, dtype=np.float64) for column in columns], axis=1)


def _fit(sums: Floats) -> tuple[Floats, Floats]:
    """Return Pearson's correlation and the least-squares slope of y on x, of sums (…, 6)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        count, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
        covariance = xy / count - x * y / count**2
        variance_x, variance_y = xx / count - (x / count) ** 2, yy / count - (y / count) ** 2
        return covariance / np.sqrt(variance_x * variance_y), covariance / variance_x


def intervention_table(summary: xr.Dataset) -> str:
    """Return areas under the curves, a line for each order, and how promises were kept."""
    lines = [
        "area under the curve of the target's probability [95 % interval]",
        f"{'order':<14}{'deletion (low is good)':<26}insertion (high is good)",
    ]
    for order in summary["order"].values:
        own = summary.sel(order=order)
        cells = []
        for curve in CURVES:
            at = own.sel(curve=curve)
            low, high = (at[f"probability_area_{end}"].item() for end in ("low", "high"))
            cells.append(f"{at['probability_area'].item():.3f} [{low:.3f}, {high:.3f}]")
        lines.append(f"{order:<14}{cells[0]:<26}{cells[1]}")
    numbers = {str(name): value.item() for name, value in summary.items() if not value.dims}
    lines.append(
        f"one concept taken away, logit measured against promised: correlation "
        f"{numbers['correlation']:.3f} [{numbers['correlation_low']:.3f}, "
        f"{numbers['correlation_high']:.3f}], slope {numbers['slope']:.3f}, "
        f"mean error {100 * numbers['relative_error']:.0f} % of the mean promise"
    )
    return "\n".join(lines) + "\n"
