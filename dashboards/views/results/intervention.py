"""Interventions: what a network does when concepts are removed, against what was promised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.concepts.exactness import exactness_note
from dashboards.views.parts.charts import cloud, dots, lines
from dashboards.views.parts.measured import of_images, split_of
from dashboards.views.parts.parts import Figure, Note, Part
from dashboards.views.results import answers, view
from dashboards.views.results.menu import MENU
from registry.columns import Column
from registry.wording import counted

RANDOM = "random"
MEASURES = {
    "probability": "probability of the target",
    "logit": "logit of the target, before the bias",
    "accuracy": "accuracy",
}
CURVES = {
    "deletion": ("Deletion", "From all concepts to none: a faster drop is better."),
    "insertion": ("Insertion", "From no concept to all: a faster rise is better."),
}
AREA_COLUMNS = {
    "area": Column(".3f", help="under the curve, over the fraction of concepts from 0 to 1"),
    "low": Column(".3f", help="lower end of its 95 % interval, by bootstrap over images"),
    "high": Column(".3f", help="upper end of it"),
    "gain": Column(
        "+.3f", "better than random by", "deletion: random minus ours; insertion: ours minus random"
    ),
}
CHANGE_COLUMNS = {
    "correlation": Column(".3f"),
    "slope": Column(".3f", help="of measured on promised changes; 1 would be as promised"),
    "relative_error": Column(".1%", "mean error", "over the mean absolute promise"),
    "deletion": Column(".3f", "area, deletion", "of the probability, by contribution; low is good"),
    "insertion": Column(".3f", "area, insertion", "likewise; high is good"),
}
QUANTILE_COLUMNS = {
    "quantile": Column(".0%", "fraction of errors below"),
    "error": Column("+.3f", "measured minus promised", "change of the logit"),
}


def intervention_choices(datasets: view.Datasets) -> list[view.Choice]:
    """Return what of the network's output is followed, as far as it is known."""
    known = [
        name
        for name in MEASURES
        if any(own[name].notnull().any().item() for own in datasets.values())
    ]
    return [view.Choice("measure", "Curves of", known, "What of the network's output is followed.")]


# -- settings side by side --------------------------------------------------------------------


def summary(at: view.Setting) -> dict[str, float]:
    """Return how promises were kept, and areas under the probability by the first order."""
    areas = area_frame(at.own).query("measure == 'probability'")
    first = areas[areas["order"] == areas["order"].iloc[0]].set_index("curve")["area"]
    kept = {name: float(at.own[name]) for name in ("correlation", "slope", "relative_error")}
    return kept | {str(curve): float(area) for curve, area in first.items()}


def figure(settings: Sequence[view.Setting]) -> Iterator[Figure]:
    """Yield how far a setting is from random, or how each of several keeps its promises."""
    if len(settings) == 1:
        (at,) = settings
        measure = at.chosen["measure"]
        areas = area_frame(at.own)
        yield _areas(at, areas[areas["measure"] == measure], measure)
        return
    names = {"slope": "value", "slope_low": "low", "slope_high": "high"}
    rows = [
        {"label": at.cell, **{name: float(at.own[key]) for key, name in names.items()}}
        for at in settings
    ]
    title = "slope of measured on promised changes"
    chart = dots(pd.DataFrame(rows), x_title=title, rule=("kept", 1))
    yield Figure("intervention-slopes", chart, "How promises are kept", "Dashed: as promised.")


# -- one setting ------------------------------------------------------------------------------


def blocks(at: view.Setting) -> Iterator[Part]:
    """Yield curves, areas, and changes against promises of one setting."""
    own, measure = at.own, at.chosen["measure"]
    if note := exactness_note(own):
        yield Note(f"{note} Promises are first-order ones.")
    for curve in view.texts(own, "curve"):
        yield _curve(at, measure, curve)
    areas = area_frame(own)
    if at.is_compared:
        yield _areas(at, areas[areas["measure"] == measure], measure)
    yield at.table("areas", areas, "Areas under the curves", columns=AREA_COLUMNS)
    yield _promises(at)
    scale = float(own["scale"])
    yield at.table(
        "errors",
        pd.DataFrame({"quantile": own["quantile"].values, "error": own["error_quantile"].values}),
        "Errors of the promises",
        note=f"Of single concepts that were {f'scaled by {scale:g}' if scale else 'removed'}.",
        columns=QUANTILE_COLUMNS,
    )


def _with_interval(name: str, meaning: str) -> view.Headline:
    def interval(own: xr.Dataset) -> str:
        low, high = float(own[f"{name}_low"]), float(own[f"{name}_high"])
        return f"{meaning}; 95 % interval {low:.3f} to {high:.3f}, by bootstrap over images"

    return view.Headline(name, name, ".3f", interval)


def curve_frame(own: xr.Dataset, measure: str, curve: str) -> pd.DataFrame:
    """Return one curve as rows: ``share``, ``series`` (order), ``value``, ``low``, ``high``.

    The promise of the first order stands beside, where the logit is followed.
    """
    at = own.sel(curve=curve)
    named = {measure: "value", f"{measure}_low": "low", f"{measure}_high": "high"}
    names = [name for name in named if name in at]
    frame = at[names].to_dataframe(dim_order=["order", "step"]).reset_index().rename(columns=named)
    frame = frame.rename(columns={"order": "series"})
    if measure == "logit":
        first = own["order"].values[0]
        promised = at["promised_logit"].sel(order=first).to_series().rename("value").reset_index()
        frame = pd.concat([frame, promised.assign(series=f"{first}, promised")], ignore_index=True)
    frame["share"] = frame["step"].map(own["share"].to_series())
    return frame.reindex(columns=["series", "share", "value", "low", "high"])


def _domain(measure: str) -> tuple[float, float] | None:
    return None if measure == "logit" else (0, 1)


def _curve(at: view.Setting, measure: str, curve: str) -> Figure:
    frame = curve_frame(at.own, measure, curve)
    title, meaning = CURVES.get(curve, (curve, ""))
    chart = lines(
        frame,
        x="share",
        y="value",
        x_title="fraction of the image's concepts that are moved",
        y_title=MEASURES[measure],
        series=list(dict.fromkeys(frame["series"])),
        domain=_domain(measure),
        height=340,
    )
    of = of_images(int(at.own["n_images"]), split_of(at.own))
    among = ", those with a label" if measure == "accuracy" else ""
    note = f"{meaning} Means {of}{among}; bands: 95 % intervals."
    return at.figure(f"{curve} {measure}", chart, title, note)


def area_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per measure, curve and order: the area, its interval, gain over random."""
    columns = ["measure", "curve", "order", "area", "low", "high", "gain"]
    sign = xr.where(own["curve"] == "deletion", -1.0, 1.0)
    is_random = own["order"] == RANDOM
    frames = []
    for measure in (name for name in MEASURES if own[name].notnull().any()):
        area = f"{measure}_area"
        names = {area: "area", f"{area}_low": "low", f"{area}_high": "high"}
        at = own[list(names)].rename(names).astype(np.float64)
        random = at["area"].where(is_random).sum("order", min_count=1)
        at["gain"] = (sign * (at["area"] - random)).where(~is_random)
        frame = at.to_dataframe(dim_order=["curve", "order"]).reset_index()
        frames.append(frame.assign(measure=measure)[columns])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def _areas(at: view.Setting, frame: pd.DataFrame, measure: str) -> Figure:
    chart = dots(
        frame.assign(label=frame["order"], series=frame["curve"], value=frame["area"]),
        x_title=f"area under the curve of the {measure}",
        domain=_domain(measure),
        series=list(dict.fromkeys(frame["curve"])),
    )
    note = "Deletion: low is good. Insertion: high is good. Both should lie far from random."
    return at.figure("areas", chart, "Areas under the curves", note)


def change_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per concept that was moved alone: ``x`` promised, ``y`` measured change."""
    names = ["removed", "promised_change", "measured_change"]
    frame = own[names].to_dataframe(dim_order=["image", "rank"]).reset_index()
    frame = frame.dropna(subset=["promised_change", "measured_change"])
    label = frame["image"].astype(str) + ", concept " + frame["removed"].astype(str)
    return pd.DataFrame(
        {"x": frame["promised_change"], "y": frame["measured_change"], "label": label}
    ).reset_index(drop=True)


def _promises(at: view.Setting) -> Part:
    frame = change_frame(at.own)
    if frame.empty:
        return Note("No concept was moved alone.")
    slope = float(at.own["slope"])
    intercept = float(frame["y"].mean() - slope * frame["x"].mean())
    chart = cloud(
        frame,
        x_title="promised change of the logit",
        y_title="measured change of the logit",
        straight=[("as promised", 1.0, 0.0), (f"slope {slope:.2f}", slope, intercept)],
    )
    note = (
        f"{counted(len(frame), 'concept')} of {counted(int(at.own['n_images']), 'image')}, moved "
        "one at a time."
    )
    note += " On the line, contributions say what the network does; the farther, the less."
    return at.figure("promises", chart, "Measured against promised", note)


VIEW = view.ResultView(
    *MENU["intervention"],
    "Are contributions what the network uses? Concepts are removed (deletion) or put back "
    "(insertion) in order of their contribution, and the network is run again: its output should "
    "fall, or rise, faster than in random order, and by what was promised (Petsiuk et al., RISE, "
    "BMVC 2018, section 4; FaCT, arXiv 2510.25512, section 3).",
    blocks,
    lambda at: answers.intervention(at.own),
    figure,
    (
        _with_interval("correlation", "of measured and promised changes of the logit"),
        _with_interval("slope", "of measured on promised changes; 1 is as promised"),
        view.Headline("mean error", "relative_error", ".0%", "over the mean absolute promise"),
        view.Headline("images", "n_images", ","),
    ),
    intervention_choices,
    summary=summary,
    summary_columns=CHANGE_COLUMNS,
)
