"""Localisation: whether concepts are where the labels that name them are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.parts.dots import dots
from dashboards.views.parts.parts import Column, Figure, Number, Numbers, Part, Table, file_name
from dashboards.views.results.choices import Choice, Datasets, options_of
from dashboards.views.results.in_full import each_in_full

MEASURES = {
    "pointing": "pointing: is the strongest place of the map inside the mask",
    "energy": "energy: how much of the map lies inside the mask",
    "iou": "IoU: overlap of the strongest part of the map with the mask",
}
Z = 1.959963984540054  # of a 95 % interval
MOST_DRAWN = 25
"""Concepts that are drawn with their intervals."""

SERIES = {
    "score": "the name's masks",
    "elsewhere": "masks of other images",
    "chance": "chance",
}
MEASURE_COLUMNS = {
    "mean_score": Column(".3f", "score", "mean over concepts, on the masks of their names"),
    "mean_chance": Column(".3f", "chance", "the same of a map without any place"),
    "mean_elsewhere": Column(".3f", "elsewhere", "the same maps on the masks of other images"),
    "mean_lift": Column("+.3f", "above chance", "mean over concepts"),
    "located_share": Column(
        ".1%", "located", "share of judged concepts whose interval lies above chance"
    ),
    "best_share": Column(".1%", "best label", "share of shown names that no label exceeds in gain"),
}
CONCEPT_COLUMNS = {
    "shown": Column(meaning="images with a mask of the name, of those that were mapped"),
    "score": Column(".3f", meaning="mean in images that show the name"),
    "low": Column(".3f", meaning="lower end of its interval"),
    "high": Column(".3f", meaning="upper end of its interval"),
    "chance": Column(".3f", meaning="of a map without any place"),
    "elsewhere": Column(".3f", meaning="of the same maps on the masks of other images"),
    "lift": Column("+.3f", "above chance"),
    "verdict": Column(title="located", meaning="whether its interval lies above chance"),
    "best": Column(title="best label", meaning="label of the largest gain over all images"),
}


def localisation_choices(datasets: Datasets) -> list[Choice]:
    """Return by which measure concepts are listed: energy first, where it is measured."""
    measures = sorted(options_of(datasets, "measure"), key=lambda name: name != "energy")
    return [Choice("measure", "Concepts by", measures, "; ".join(MEASURES.values()) + ".")]


def localisation_parts(datasets: Datasets, measure: str = "") -> list[Part]:
    """Return how well concepts are located, settings side by side first.

    Parameters
    ----------
    datasets : mapping of str to xr.Dataset
        Of schema ``localisation``, by the cell that made each.
    measure : str
        By which single concepts are listed; "" for energy.
    """
    measure = measure or localisation_choices(datasets)[0].options[0]
    compared = [_compare(datasets)] if len(datasets) > 1 else []
    return [*compared, *each_in_full(datasets, lambda cell, own: _setting(cell, own, measure))]


def _compare(datasets: Datasets) -> Table:
    frames = [measure_frame(own).assign(setting=cell) for cell, own in datasets.items()]
    frame = pd.concat(frames, ignore_index=True)
    frame = frame[["measure", "setting", *MEASURE_COLUMNS]]
    frame = frame.sort_values("measure", kind="stable").reset_index(drop=True)
    return Table("localisation", frame, "Setting by setting", columns=MEASURE_COLUMNS)


def _setting(cell: str, own: xr.Dataset, measure: str) -> list[Part]:
    parts: list[Part] = [
        Numbers(list(_numbers(own))),
        _means(cell, own),
        Table(
            file_name(cell, "measures"),
            measure_frame(own),
            "Measures",
            "; ".join(MEASURES.values()) + ".",
            MEASURE_COLUMNS,
        ),
    ]
    if measure in own["measure"].values.astype(str):
        parts += _concepts(cell, own, measure)
    return parts


def _numbers(own: xr.Dataset) -> Iterator[Number]:
    yield Number("named concepts", f"{int(own['n_named']):,} of {own.sizes['concept']:,}")
    yield Number("judged", f"{int(own['n_judged']):,}", "of them, those with an interval")
    yield Number("without masks", f"{int(own['n_without_mask']):,}", "their name has none at all")
    meaning = "their name has masks, but their images do not show it"
    yield Number("not shown", f"{int(own['n_not_shown']):,}", meaning)
    shown = "share of mapped images that show the name, where it has masks"
    yield Number("images that show it", f"{float(own['shown_share']):.1%}", shown)


def measure_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per measure of what is said of all concepts."""
    frame = pd.DataFrame({name: own[name].values for name in MEASURE_COLUMNS})
    frame.insert(0, "measure", own["measure"].values.astype(str))
    return frame


def mean_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return the mean over concepts of each measure, beside chance and elsewhere.

    Returns
    -------
    pd.DataFrame
        ``label`` (measure), ``series``, ``value``, ``low`` and ``high``: the interval of 95 % of
        the mean over concepts, by their deviation; NaN for fewer than two.
    """
    rows = []
    for place, measure in enumerate(own["measure"].values.astype(str)):
        for name, series in SERIES.items():
            values = own[name].isel(measure=place).values
            values = values[~np.isnan(values)]
            mean = values.mean() if len(values) else np.nan
            half = Z * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
            ends = {"low": mean - half, "high": mean + half}
            rows.append({"label": measure, "series": series, "value": mean, **ends})
    return pd.DataFrame(rows)


def _means(cell: str, own: xr.Dataset) -> Figure:
    frame = mean_frame(own)
    chart = dots(frame, x_title="mean over concepts (1)", domain=(0, 1), series=[*SERIES.values()])
    note = (
        "Grey bars: 95 % intervals of the mean over concepts. Masks of other images tell a map "
        "that follows its label from one that always points to the same place."
    )
    return Figure(file_name(cell, "means"), chart, "Are concepts where their labels are?", note)


# -- concepts ---------------------------------------------------------------------------------


def concept_frame(own: xr.Dataset, measure: str) -> pd.DataFrame:
    """Return a row per concept with a name, by one measure: the furthest above chance first, those
    without an interval last.
    """
    at = own.sel(measure=measure)
    shown = [
        f"{n} of {total}"
        for n, total in zip(at["n_shown"].values, at["n_images"].values, strict=True)
    ]
    frame = pd.DataFrame(
        {
            "concept": at["concept"].values,
            "name": at["name"].values.astype(str),
            "shown": shown,
            "score": at["score"].values,
            "low": at["interval_low"].values,
            "high": at["interval_high"].values,
            "chance": at["chance"].values,
            "elsewhere": at["elsewhere"].values,
            "lift": at["lift"].values,
            "verdict": [_verdict(low) for low in at["lift_low"].values],
            "best": at["top_label"].isel(rank=0).values.astype(str),
        }
    )
    frame = frame[frame["name"] != ""].sort_values("lift", ascending=False, kind="stable")
    is_open = frame["low"].isna()
    return pd.concat([frame[~is_open], frame[is_open]], ignore_index=True)


def _verdict(low: float) -> str:
    if np.isnan(low):
        return "– not judged"
    return "✓ above chance" if low > 0 else "✗ not above"


def _concepts(cell: str, own: xr.Dataset, measure: str) -> list[Part]:
    frame = concept_frame(own, measure)
    drawn = frame.dropna(subset=["lift", "low"])
    if len(drawn) > MOST_DRAWN:
        half = MOST_DRAWN // 2
        drawn = pd.concat([drawn.head(MOST_DRAWN - half), drawn.tail(half)])
    labels = [f"{name} ({c})" for name, c in zip(drawn["name"], drawn["concept"], strict=True)]
    shown = drawn.assign(label=labels, value=drawn["score"], mark=drawn["chance"])
    chart = dots(shown, x_title=f"{measure} (1)", domain=(0, 1), mark="chance")
    title = "Concepts furthest above chance, and least" if len(drawn) < len(frame) else "Concepts"
    note = "Grey ticks: chance. Grey bars: intervals. In parentheses the number of the concept."
    parts: list[Part] = []
    if len(drawn):
        parts.append(Figure(file_name(cell, measure), chart, f"{title}, by {measure}", note))
    table = Table(
        file_name(cell, measure, "concepts"),
        frame,
        f"Concepts by {measure}",
        columns=CONCEPT_COLUMNS,
    )
    return [*parts, table]
