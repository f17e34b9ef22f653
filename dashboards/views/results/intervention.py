"""Interventions: what a network does when concepts are taken away, against what was promised."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.parts.charts import lines
from dashboards.views.parts.dots import cloud, dots
from dashboards.views.parts.parts import (
    Column,
    Figure,
    Note,
    Number,
    Numbers,
    Part,
    Table,
    file_name,
)
from dashboards.views.results.choices import Choice, Datasets
from dashboards.views.results.in_full import each_in_full
from dashboards.views.runs.sweep import over_seeds

RANDOM = "random"
MEASURES = {
    "probability": "probability of the target (1)",
    "logit": "logit of the target, before the bias",
    "accuracy": "accuracy (1)",
}
CURVES = {
    "deletion": ("Deletion", "From all concepts to none: sooner down is better."),
    "insertion": ("Insertion", "From no concept to all: sooner up is better."),
}
AREA_COLUMNS = {
    "area": Column(".3f", meaning="under the curve, over the share of concepts from 0 to 1"),
    "low": Column(".3f", meaning="lower end of its 95 % interval, by bootstrap over images"),
    "high": Column(".3f", meaning="upper end of it"),
    "gain": Column(
        "+.3f", "better than random by", "deletion: random less ours; insertion: ours less random"
    ),
}
CHANGE_COLUMNS = {
    "correlation": Column(".3f"),
    "slope": Column(".3f", meaning="of measured on promised changes; 1 would be as promised"),
    "relative_error": Column(".1%", "mean error", "over the mean absolute promise"),
    "deletion": Column(".3f", "area, deletion", "of the probability, by contribution; low is good"),
    "insertion": Column(".3f", "area, insertion", "likewise; high is good"),
}
MEAN_COLUMNS = {
    "mean": Column(".3f", meaning="over seeds"),
    "deviation": Column(".3f", meaning="of the sample of seeds"),
    "n": Column("d", "seeds"),
}
QUANTILE_COLUMNS = {
    "quantile": Column(".0%", "share of the errors below"),
    "error": Column("+.3f", "measured less promised", "change of the logit"),
}


def intervention_choices(datasets: Datasets) -> list[Choice]:
    """Return what of the network's output is followed, as far as it is known."""
    known = [
        name
        for name in MEASURES
        if any(own[name].notnull().any().item() for own in datasets.values())
    ]
    return [Choice("measure", "Curves of", known, "What of the network's output is followed.")]


def intervention_parts(datasets: Datasets, measure: str = "") -> list[Part]:
    """Return curves, areas, and changes against promises, settings side by side first.

    Parameters
    ----------
    datasets : mapping of str to xr.Dataset
        Of schema ``intervention``, by the cell that made each.
    measure : str
        A key of `MEASURES`; "" for the first.
    """
    measure = measure if measure in MEASURES else next(iter(MEASURES))
    compared = _compare(datasets) if len(datasets) > 1 else []
    return [
        *compared,
        *each_in_full(datasets, lambda cell, own: _setting(cell, own, measure)),
    ]


# -- settings side by side --------------------------------------------------------------------


def compared_frame(datasets: Datasets) -> pd.DataFrame:
    """Return a row per setting: how promises were kept, and areas by the first order."""
    rows = []
    for cell, own in datasets.items():
        areas = area_frame(own).query("measure == 'probability'")
        first = areas[areas["order"] == areas["order"].iloc[0]].set_index("curve")["area"]
        told = {name: float(own[name]) for name in ("correlation", "slope", "relative_error")}
        rows.append({"setting": cell, **told, **first.to_dict()})
    return pd.DataFrame(rows)


def _compare(datasets: Datasets) -> list[Part]:
    rows = [
        {"label": cell, "value": float(own["slope"])}
        | {end: float(own[f"slope_{end}"]) for end in ("low", "high")}
        for cell, own in datasets.items()
    ]
    chart = dots(
        pd.DataFrame(rows), x_title="slope of measured on promised changes (1)", rule=("kept", 1)
    )
    frame = compared_frame(datasets)
    parts: list[Part] = [
        Figure("intervention-slopes", chart, "How promises are kept", "Dashed: as promised."),
        Table("intervention", frame, "Setting by setting", columns=CHANGE_COLUMNS),
    ]
    numbers = frame.set_index("setting").to_dict("index")
    told = over_seeds({str(cell): held for cell, held in numbers.items()})
    if len(told):
        parts.append(Table("intervention-seeds", told, "Over seeds", columns=MEAN_COLUMNS))
    return parts


# -- one setting ------------------------------------------------------------------------------


def _setting(cell: str, own: xr.Dataset, measure: str) -> list[Part]:
    share = f"{float(own['scale']):g}"
    what = "taken away" if share == "0" else f"scaled by {share}"
    return [
        Numbers(list(_numbers(own))),
        *(_curve(cell, own, measure, str(name)) for name in own["curve"].values),
        _areas(cell, own, measure),
        Table(
            file_name(cell, "areas"),
            area_frame(own),
            "Areas under the curves",
            columns=AREA_COLUMNS,
        ),
        *_promises(cell, own),
        Table(
            file_name(cell, "errors"),
            pd.DataFrame(
                {"quantile": own["quantile"].values, "error": own["error_quantile"].values}
            ),
            "Errors of the promises",
            f"Of single concepts that were {what}.",
            QUANTILE_COLUMNS,
        ),
    ]


def _numbers(own: xr.Dataset) -> Iterator[Number]:
    yield _with_interval(own, "correlation", "of measured and promised changes of the logit")
    yield _with_interval(own, "slope", "of measured on promised changes; 1 is as promised")
    yield Number(
        "mean error", f"{float(own['relative_error']):.0%}", "over the mean absolute promise"
    )
    yield Number("images", f"{int(own['n_images']):,}")


def _with_interval(own: xr.Dataset, name: str, meaning: str) -> Number:
    low, high = float(own[f"{name}_low"]), float(own[f"{name}_high"])
    told = f"{meaning}; 95 % interval {low:.3f} to {high:.3f}, by bootstrap over images"
    return Number(name, f"{float(own[name]):.3f}", told)


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
        frame = pd.concat([frame, promised.assign(series=promised_name(own))], ignore_index=True)
    share = dict(zip(own["step"].values, own["share"].values, strict=True))
    frame["share"] = frame["step"].map(share)
    columns = ["series", "share", "value", "low", "high"]
    return frame.reindex(columns=columns)


def promised_name(own: xr.Dataset) -> str:
    """Return what the promised curve of the first order is called."""
    return f"{own['order'].values[0]}, promised"


def _curve(cell: str, own: xr.Dataset, measure: str, curve: str) -> Figure:
    frame = curve_frame(own, measure, curve)
    title, meaning = CURVES.get(curve, (curve, ""))
    chart = lines(
        frame,
        x="share",
        y="value",
        x_title="share of the image's concepts that are moved (1)",
        y_title=MEASURES[measure],
        series=list(dict.fromkeys(frame["series"])),
        domain=None if measure == "logit" else (0, 1),
        height=340,
    )
    name = file_name(cell, curve, measure)
    return Figure(name, chart, title, f"{meaning} Bands: 95 % intervals over images.")


def area_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per measure, curve and order: the area, its interval, gain over random."""
    rows = [
        _area(own.sel(curve=curve, order=order), own, measure)
        | {"measure": measure, "curve": str(curve), "order": str(order)}
        for measure in MEASURES
        if own[measure].notnull().any()
        for curve in own["curve"].values
        for order in own["order"].values
    ]
    columns = ["measure", "curve", "order", "area", "low", "high", "gain"]
    return pd.DataFrame(rows, columns=columns)


def _area(at: xr.Dataset, own: xr.Dataset, measure: str) -> dict[str, float]:
    area = float(at[f"{measure}_area"])
    gain = np.nan
    order, curve = at["order"].item(), at["curve"].item()
    if order != RANDOM and RANDOM in own["order"].values:
        ahead = area - float(own[f"{measure}_area"].sel(curve=curve, order=RANDOM))
        gain = -ahead if curve == "deletion" else ahead
    ends = {end: float(at[f"{measure}_area_{end}"]) for end in ("low", "high")}
    return {"area": area, **ends, "gain": gain}


def _areas(cell: str, own: xr.Dataset, measure: str) -> Figure:
    frame = area_frame(own)
    frame = frame[frame["measure"] == measure]
    shown = frame.assign(label=frame["order"], series=frame["curve"], value=frame["area"])
    chart = dots(
        shown,
        x_title=f"area under the curve of the {measure}",
        domain=None if measure == "logit" else (0, 1),
        series=list(dict.fromkeys(frame["curve"])),
    )
    note = "Deletion: low is good. Insertion: high is good. Both should lie far from random."
    return Figure(file_name(cell, "areas"), chart, "Areas under the curves", note)


def change_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per concept that was moved alone: ``x`` promised, ``y`` measured change."""
    names = ["removed", "promised_change", "measured_change"]
    frame = own[names].to_dataframe(dim_order=["image", "rank"]).reset_index()
    frame = frame.dropna(subset=["promised_change", "measured_change"])
    label = frame["image"].astype(str) + ", concept " + frame["removed"].astype(str)
    return pd.DataFrame(
        {"x": frame["promised_change"], "y": frame["measured_change"], "label": label}
    ).reset_index(drop=True)


def _promises(cell: str, own: xr.Dataset) -> list[Part]:
    frame = change_frame(own)
    if frame.empty:
        return [Note("No concept was moved alone.")]
    slope = float(own["slope"])
    intercept = float(frame["y"].mean() - slope * frame["x"].mean())
    chart = cloud(
        frame,
        x_title="promised change of the logit",
        y_title="measured change of the logit",
        lines=[("as promised", 1.0, 0.0), (f"slope {slope:.2f}", slope, intercept)],
    )
    note = f"{len(frame):,} concepts of {int(own['n_images']):,} images, moved one at a time."
    note += " On the line, contributions say what the network does; the farther, the less."
    return [Figure(file_name(cell, "promises"), chart, "Measured against promised", note)]
