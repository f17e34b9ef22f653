"""Fidelity: what a network still says with concepts in a layer's place, and how dense they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.concepts.concept_model import DENSITIES, density_figure, fidelity_table
from dashboards.views.parts.charts import bars, cloud, dots
from dashboards.views.parts.measured import beside_commonest, of_counted
from dashboards.views.parts.parts import Figure, Note, Part, Table
from dashboards.views.parts.text import share_text
from dashboards.views.results import answers, view
from dashboards.views.results.menu import MENU
from fact.fidelity.tables import density_decades
from registry.columns import Column

FRACTIONS = {"kl_recovered": "divergence", "ce_recovered": "cross-entropy"}
SUMMARY_COLUMNS = {
    "kl": Column(".3g", "KL, nats", "mean divergence of the spliced network from the network"),
    "kl_recovered": Column(".1%", "KL recovered"),
    "ce_recovered": Column(".1%", "CE recovered"),
    "agreement": Column(".1%", help="with the network's own prediction, fraction of images"),
    "explained_variance": Column(".1%", "explained variance"),
    "l0": Column(".1f", "L0", "concepts active at a position, mean"),
    "dead": Column(".1%", help="fraction of concepts active at no position"),
    "dense": Column(".1%", help="fraction of concepts active at over 10 % of the positions"),
}
DENSITY_COLUMNS = {
    "from": Column(help="lower end of the fraction, as a power of 10; it ends at the next"),
    **{f"concepts, {of}": Column("d") for of in DENSITIES.values()},
}


# -- settings side by side --------------------------------------------------------------------


def summary(at: view.Setting) -> Mapping[str, float]:
    """Return the numbers of a setting."""
    own, count = at.own, float(at.own["n_concepts"])
    shares = {name: float(own[f"{name}_concepts"]) / count for name in ("dead", "dense")}
    scalars = {name: float(own[name]) for name in SUMMARY_COLUMNS if name not in shares}
    return {name: (scalars | shares)[name] for name in SUMMARY_COLUMNS}


def figure(settings: Sequence[view.Setting]) -> Iterator[Figure]:
    """Yield what is left of a network's outputs, or in each of several settings what is recovered.

    Beside it stands what is left where the layer is ablated.
    """
    note = "Grey bars: 95 % intervals over images, by bootstrap."
    if len(settings) == 1:
        chart = bars(kept_frame(settings[0].own), x_title="fraction", mark="layer ablated")
        note += " Ticks: the same with the layer ablated, which counts as nothing recovered."
        own = settings[0].own
        note += f" Accuracies {beside_commonest(of_counted(own), own)}."
        yield settings[0].figure("kept", chart, "What is left with concepts in place", note)
        return
    rows = pd.concat([fraction_frame(at.own).assign(label=at.cell) for at in settings])
    title = "fraction recovered"
    series = list(FRACTIONS.values())
    chart = dots(rows, x_title=title, series=series, rule=("as the layer", 1))
    yield Figure("fidelity-recovered", chart, "What is recovered", note)


def kept_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row for each share that is defined: ``label``, ``value``, ``low``, ``high``,
    ``mark``: with the layer ablated.
    """
    rows = [
        ("accuracy of the network itself", float(own["network_accuracy"]), "", np.nan),
        ("accuracy", float(own["accuracy"]), "", float(own["ablated_accuracy"])),
        ("agreement with the network", float(own["agreement"]), "agreement", np.nan),
        ("divergence recovered", float(own["kl_recovered"]), "kl_recovered", 0.0),
        ("cross-entropy recovered", float(own["ce_recovered"]), "ce_recovered", 0.0),
    ]
    ends = {"low": "_low", "high": "_high"}
    found = [
        {"label": label, "value": value, "mark": mark}
        | {end: float(own[name + suffix]) if name else np.nan for end, suffix in ends.items()}
        for label, value, name, mark in rows
    ]
    return pd.DataFrame(found).dropna(subset=["value"]).reset_index(drop=True)


def compared(settings: Sequence[view.Setting]) -> Iterator[Figure]:
    """Yield what is recovered against how many concepts are active."""
    points = [
        {"x": float(at.own["l0"]), "y": float(at.own["kl_recovered"]), "label": at.cell}
        for at in settings
    ]
    frame = pd.DataFrame(points).dropna()
    if frame["x"].nunique() > 1:
        x_title = "concepts active at a position, mean"
        chart = cloud(frame, x_title=x_title, y_title="fraction of the divergence recovered")
        note = "Up and to the left is better: more recovered by fewer concepts."
        yield Figure("fidelity-sparsity", chart, "Fidelity against sparsity", note)


# -- one setting ------------------------------------------------------------------------------


def blocks(at: view.Setting) -> Iterator[Part]:
    """Yield outputs, fractions and densities of one setting."""
    if told := str(at.own.attrs.get("undefined_fractions", "")):
        yield Note(told)
    yield fidelity_table(at.cell, at.own)
    yield _fractions(at)
    yield density_figure(at.cell, at.own)
    yield _densities(at)


def fraction_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row for each fraction that is defined: ``series``, ``value``, ``low``, ``high``."""
    rows = [
        {
            "series": what,
            "value": float(own[name]),
            "low": float(own[f"{name}_low"]),
            "high": float(own[f"{name}_high"]),
        }
        for name, what in FRACTIONS.items()
    ]
    return pd.DataFrame(rows).dropna(subset=["value"]).reset_index(drop=True)


def _fractions(at: view.Setting) -> Part:
    frame = fraction_frame(at.own)
    if frame.empty:
        return Note("No fraction is defined: the ablated layer loses nothing.")
    rows = frame.assign(label=frame["series"]).drop(columns="series")
    chart = dots(rows, x_title="fraction recovered", rule=("as the layer", 1))
    note = "Grey bars: 95 % intervals over images, by bootstrap. Better than the layer: above 1."
    return at.figure("recovered", chart, "What is recovered", note)


def density_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return how many concepts have a density in each decade: ``from``, and a column for each."""
    counts = {}
    for name, of in DENSITIES.items():
        exponents, found = density_decades(own[name].values)
        counts[f"concepts, {of}"] = pd.Series(found, index=exponents)
    frame = pd.DataFrame(counts).fillna(0).astype(np.int64).rename_axis("exponent").reset_index()
    frame.insert(0, "from", [f"10^{exponent}" for exponent in frame.pop("exponent")])
    return frame


def _densities(at: view.Setting) -> Table:
    frame = density_frame(at.own)
    return at.table("densities", frame, "Concepts by density", columns=DENSITY_COLUMNS)


def _with_interval(label: str, name: str, meaning: str) -> view.Headline:
    def interval(own: xr.Dataset) -> str:
        low, high = float(own[f"{name}_low"]), float(own[f"{name}_high"])
        if np.isnan(low):
            return meaning
        around = answers.interval_text(low, high, share_text)
        return f"{meaning}; {around}, by bootstrap over images"

    return view.Headline(label, name, ".1%", interval)


def _which_images(own: xr.Dataset) -> str:
    """Return how many have a label, and which were left out."""
    told = [f"{int(own['n_labelled']):,} with a label"]
    if int(own.get("n_omitted", 0)):
        told.append(f"{int(own['n_omitted']):,} omitted, on which the concepts were fitted")
    if int(own.get("n_fitted", 0)):
        told.append(f"the concepts were fitted on {int(own['n_fitted']):,} of them")
    if int(own["n_without_concepts"]):
        told.append(f"{int(own['n_without_concepts']):,} left out, of classes without concepts")
    return "; ".join(told)


VIEW = view.ResultView(
    *MENU["fidelity"],
    "Does the network still say the same when concepts stand in a layer's place? Divergence from "
    "what it said, and cross-entropy of the labels, in nats, beside those of an ablated layer, "
    "which counts as nothing recovered (Gao et al., arXiv 2406.04093, section 4). The density of "
    "a concept is the fraction of images, or of positions in them, at which it is active.",
    blocks,
    lambda at: answers.fidelity(at.own),
    figure,
    (
        _with_interval("KL recovered", "kl_recovered", "1 - divergence, spliced over ablated"),
        _with_interval("CE recovered", "ce_recovered", "of what the ablated layer loses"),
        _with_interval("agreement", "agreement", "with the network's own prediction"),
        view.Headline(
            "accuracy lost",
            lambda own: float(own["network_accuracy"] - own["accuracy"]),
            "+.1%",
            "of the network itself minus that of the spliced one",
            of_counted,
        ),
        view.Headline("explained variance", "explained_variance", ".1%", "at all positions"),
        view.Headline("L0", "l0", ".1f", "concepts active at a position, mean"),
        view.Headline("dead", "dead_concepts", ",", "concepts active at no position"),
        view.Headline("dense", "dense_concepts", ",", "active at over 10 % of the positions"),
        view.Headline("images", "n_images", ",", _which_images),
    ),
    compared=compared,
    summary=summary,
    summary_columns=SUMMARY_COLUMNS,
)
