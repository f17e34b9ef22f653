"""Outcomes of interventions over many images: mean curves, areas, and how promises were kept.

Intervals are bootstrap intervals over images (Efron and Tibshirani, "An Introduction to the
Bootstrap", 1993): the 2.5 % and 97.5 % percentiles of what is drawn.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from torch import nn

from fact.data.images import batches
from fact.networks.arrays import AnyArray, checked_labels, image_ids, slices, take
from fact.networks.network import Network, as_network
from fact.sae.model import TopKSAE
from fact.traces.concept_source import ConceptSource
from fact.traces.config import InterventionConfig, InterventionPlan
from fact.traces.interventions import CURVES, ConceptSurgery, Outcome, intervene
from fact.traces.spliced import Target, picks
from registry import Inputs, Run

Floats = NDArray[np.float64]

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
        surgery = ConceptSurgery(source.network, source.layer, source.sae, encoded, pick)
        parts.append(intervene(surgery, config, names.tolist()))
        done = rows.stop
        run.progress(done, len(ids), "images")
    summary = summarise(Outcome.join(parts), labels, config, config.n_bootstrap)
    sys.stdout.write(intervention_table(summary))
    return summary.assign(target=("image", target)).assign_coords(image=ids.astype(object))


@dataclass(frozen=True)
class Bootstrap:
    """Draws of images with replacement, as weights (draw, image) that sum to 1."""

    weights: Floats

    @classmethod
    def of(cls, n_images: int, n_draws: int, seed: int) -> Bootstrap:
        """Draw ``n_draws`` times."""
        counts = np.random.default_rng(seed).multinomial(
            n_images, np.full(n_images, 1 / n_images), size=n_draws
        )
        return cls(counts / n_images)

    def means(self, values: NDArray[Any]) -> Floats:
        """Return the mean of values (image, …) in every draw, (draw, …); NaN is left out."""
        known = ~np.isnan(values)
        total = np.tensordot(self.weights, np.where(known, values, 0), axes=1)
        with np.errstate(invalid="ignore"):
            means: Floats = total / np.tensordot(self.weights, known.astype(np.float64), axes=1)
        return means


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
        means: Floats = np.where(known, values, 0).sum(axis=0) / known.sum(axis=0)
    return means


def measure_interventions(
    network: Network | nn.Module,
    layer: str,
    sae: TopKSAE | None,
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
    network, ids, plan = as_network(network), image_ids(images), plan or InterventionPlan()
    known = None if labels is None else checked_labels(labels, images)
    parts, targets = [], []
    for rows in slices(len(ids), batch_size):
        encoded = network.encode(take(images, rows))
        pick, _ = picks(network, target, None, known, rows)
        surgery = ConceptSurgery(network, layer, sae, encoded, pick)
        parts.append(intervene(surgery, plan, [str(name) for name in ids[rows]]))
        targets.append(surgery.target.cpu().numpy())
    labelled = np.full(len(ids), -1) if known is None else known
    summary = summarise(Outcome.join(parts), labelled, plan, n_draws)
    return summary.assign(target=("image", np.concatenate(targets))).assign_coords(image=ids)


def summarise(
    outcome: Outcome,
    labels: NDArray[np.int64],
    plan: InterventionPlan,
    n_draws: int = 500,
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
    bootstrap = Bootstrap.of(len(labels), n_draws, plan.seed)
    of_image = labels[:, None, None, None]
    correct = np.where(of_image < 0, np.nan, outcome.prediction == of_image)
    variables: dict[str, Any] = {
        "share": ("step", plan.fractions),
        "promised_logit": (_CURVE, outcome.promised.mean(axis=0)),
    }
    measured = {"logit": outcome.logit, "probability": outcome.probability, "accuracy": correct}
    for name, values in measured.items():
        mean, draws = _mean(values), bootstrap.means(values)
        areas = area(draws)
        variables[name] = (_CURVE, mean)
        variables[f"{name}_area"] = (_AREA, area(mean))
        for end, of_curve, of_area in zip(
            ("low", "high"), interval(draws), interval(areas), strict=True
        ):
            variables[f"{name}_{end}"] = (_CURVE, of_curve)
            variables[f"{name}_area_{end}"] = (_AREA, of_area)
    variables |= _changes(outcome, bootstrap)
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
    whole: Floats = (inner + (curves[..., 0] + curves[..., -1]) / 2) / (curves.shape[-1] - 1)
    return whole


def _changes(outcome: Outcome, bootstrap: Bootstrap) -> dict[str, Any]:
    promised, measured = outcome.promised_change, outcome.measured_change
    known = ~np.isnan(promised)
    error = (measured - promised)[known]
    scale = np.abs(promised[known]).mean() if known.any() else np.nan
    sums = _pair_sums(promised, measured)
    correlation, slope = _fit(sums.sum(axis=0))
    drawn = _fit(bootstrap.means(sums))
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
