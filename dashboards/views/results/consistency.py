"""C2-scores: how alike what each concept points at looks to a foundation model."""

from __future__ import annotations

from collections.abc import Iterator

import altair as alt
import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.concepts.concept_model import score_bins
from dashboards.views.concepts.concept_names import LABEL
from dashboards.views.parts.charts import DASHES, bars, histogram, series_colour
from dashboards.views.parts.dots import cloud
from dashboards.views.parts.parts import (
    MISSING,
    Column,
    Figure,
    Note,
    Number,
    Numbers,
    Part,
    Table,
    file_name,
)
from dashboards.views.parts.text import number_text
from dashboards.views.results.choices import Datasets
from dashboards.views.results.in_full import each_in_full
from dashboards.views.runs.sweep import over_seeds

COUNTS = "✓ counts"
COLUMNS = {
    "name": Column(meaning="label of the concept, or the label that most metrics choose"),
    "class": Column(meaning="class of the concept"),
    "score": Column(".3f", "C2-score", "mean pairwise cosine of the concept's encodings"),
    "baseline": Column(".3f", "random maps", "of the concept's class"),
    "n_images": Column(".0f", "images", "encodings of the concept"),
    "counts": Column(meaning="whether it has enough images to count in the mean"),
    "empty_maps": Column(".0f", "empty maps", "images whose map has no positive part"),
    "pixels": Column(".0f", "pixels", "mean number of pixels that hold 80 % of the map"),
}
SWEEP_COLUMNS = {
    "mean": Column(".3f", meaning="over seeds"),
    "deviation": Column(".3f", meaning="of the sample of seeds"),
    "n": Column("d", "seeds"),
}
CLASS_COLUMNS = {
    "concepts": Column("d", meaning="concepts of the class that have a score"),
    "score": Column(".3f", "mean C2-score", "of these concepts"),
}
MOST_CLASSES = 40
"""Classes that are drawn as bars; more are a histogram."""


def consistency_parts(datasets: Datasets) -> list[Part]:
    """Return the C2-scores of some settings: one after another, several also side by side.

    Parameters
    ----------
    datasets : mapping of str to xr.Dataset
        Of schema ``consistency``, by the cell that made each.
    """
    compared = _compare(datasets) if len(datasets) > 1 else []
    return [*compared, *each_in_full(datasets, _setting)]


# -- settings side by side --------------------------------------------------------------------


def _compare(datasets: Datasets) -> list[Part]:
    rows = [
        {"label": cell, "value": float(own["mean_score"]), "mark": float(own["baseline"])}
        for cell, own in datasets.items()
    ]
    chart = bars(pd.DataFrame(rows), x_title="mean C2-score (1)", mark="random maps")
    means = Figure("consistency", chart, "Mean C2-score", "The tick is the score of random maps.")
    variants = {own["variant"].item() for own in datasets.values()}
    warn = "Scores of other encoders, centred or not, are not on the same scale: compare each "
    warn += "with its own baseline."
    notes: list[Part] = [Note(warn, "warning")] if len(variants) > 1 else []
    return [means, *notes, _overlaid(datasets), *_over_seeds(datasets)]


def _overlaid(datasets: Datasets) -> Figure:
    frames = [score_bins(own).assign(series=cell) for cell, own in datasets.items()]
    chart = steps(pd.concat(frames, ignore_index=True), list(datasets))
    return Figure("consistency-scores", chart, "C2-scores of concepts, settings overlaid")


def steps(frame: pd.DataFrame, series: list[str]) -> alt.Chart:
    """Return histograms as outlines, each in its colour and dash, so that any number overlay.

    Parameters
    ----------
    frame : pd.DataFrame
        A row per bin: ``low``, ``value``, ``series``.
    series : list of str
        Names, in the order of colours.
    """
    dashes = [DASHES[place % len(DASHES)] for place in range(len(series))]
    chart: alt.Chart = (
        alt.Chart(frame, height=280)
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=alt.X("low", type="quantitative", title="C2-score (1)", scale=alt.Scale(zero=False)),
            y=alt.Y("value", type="quantitative", title="share of concepts (1)"),
            color=series_colour(series),
            strokeDash=alt.StrokeDash(
                "series",
                type="nominal",
                scale=alt.Scale(domain=series, range=dashes),
                legend=alt.Legend(title=None, orient="top", labelLimit=320),
            ),
            tooltip=[
                alt.Tooltip("series", type="nominal"),
                alt.Tooltip("low", type="quantitative", format=".2f"),
                alt.Tooltip("value", type="quantitative", format=".1%"),
            ],
        )
    )
    return chart


def _over_seeds(datasets: Datasets) -> list[Part]:
    names = ("mean_score", "baseline", "difference")
    told = over_seeds({c: {n: float(own[n]) for n in names} for c, own in datasets.items()})
    if told.empty:
        return []
    return [Table("consistency-seeds", told, "Over seeds", columns=SWEEP_COLUMNS)]


# -- one setting ------------------------------------------------------------------------------


def _setting(cell: str, own: xr.Dataset) -> list[Part]:
    rules = [("random", float(own["baseline"])), ("mean", float(own["mean_score"]))]
    shares = histogram(
        score_bins(own), x_title="C2-score (1)", y_title="share of concepts (1)", rules=rules
    )
    least = int(own["least_images"])
    return [
        Numbers(list(_numbers(own))),
        Note(
            f"Variant: {own['variant'].item()}. Concepts count from {least} images on; "
            f"{int(own['n_few_images'])} have fewer."
        ),
        Figure(file_name(cell, "histogram"), shares, "C2-scores of concepts"),
        *_classes(cell, own),
        *_sizes(cell, own),
        Table(file_name(cell, "scores"), score_frame(own), "Concepts", columns=COLUMNS),
    ]


def _numbers(own: xr.Dataset) -> Iterator[Number]:
    random = own["concept_baseline" if "concept_baseline" in own else "baseline"]
    lifts = (own["score"] - random).values[own["n_images"].values >= int(own["least_images"])]
    lifts = lifts[~np.isnan(lifts)]
    yield Number("mean C2-score", f"{float(own['mean_score']):.3f}", "of concepts that count")
    yield Number("random maps", f"{float(own['baseline']):.3f}", "the same of random weights")
    yield Number("difference", f"{float(own['difference']):+.3f}", "of the two")
    above = f"{(lifts > 0).mean():.0%}" if len(lifts) else MISSING
    whose = "; random maps of their own class, where there are some"
    yield Number("above random", above, f"share of concepts that count{whose}")
    yield Number("concepts", number_text(float(own["n_scored"])), "with enough images to count")
    yield Number("empty maps", number_text(float(own["empty_total"])), "without a positive part")


def score_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per concept, the highest score first; those of too few images come last."""
    names = ["score", "n_images", "empty_maps", "pixels"]
    frame = pd.DataFrame({"concept": own["concept"].values} | {n: own[n].values for n in names})
    if "concept_baseline" in own:
        frame.insert(2, "baseline", own["concept_baseline"].values)
    if "concept_class" in own:
        frame.insert(1, "class", own["concept_class"].values.astype(str))
    named = next((name for name in ("concept_name", LABEL) if name in own), None)
    if named:
        frame.insert(1, "name", own[named].values.astype(str))
    is_enough = (frame["n_images"] >= int(own["least_images"])) & frame["score"].notna()
    counts = np.where(is_enough, COUNTS, "✗ too few")
    frame.insert(frame.columns.get_loc("n_images") + 1, "counts", counts)
    order = ["counts", "score"]
    return frame.sort_values(order, ascending=[True, False], kind="stable").reset_index(drop=True)


def _sizes(cell: str, own: xr.Dataset) -> list[Part]:
    frame = score_frame(own)
    frame = frame[frame["counts"] == COUNTS]
    labels = frame["name"] + ", " if "name" in frame else ""
    points = pd.DataFrame(
        {
            "x": frame["pixels"],
            "y": frame["score"],
            "label": labels + "concept " + frame["concept"].astype(str),
        }
    ).dropna()
    points = points[points["x"] > 0]
    if points.empty:
        return []
    chart = cloud(
        points,
        x_title="pixels with 80 % of the map",
        y_title="C2-score (1)",
        x_log=True,
        height=280,
    )
    note = "Large maps see much of the image, which makes encodings alike whatever the concept. "
    note += f"Concepts of fewer than {int(own['least_images'])} images are left out."
    return [Figure(file_name(cell, "sizes"), chart, "C2-score and size of the map", note)]


# -- classes ----------------------------------------------------------------------------------


def _classes(cell: str, own: xr.Dataset) -> list[Part]:
    parts: list[Part] = []
    if own.sizes["baseline_class"] > 1:
        parts.append(_baselines(cell, own))
    if "concept_class" in own:
        frame = class_frame(own)
        table = Table(file_name(cell, "classes"), frame, "Class by class", columns=CLASS_COLUMNS)
        parts.append(table)
    return parts


def _baselines(cell: str, own: xr.Dataset) -> Figure:
    scores = own["baseline_score"].values
    note = "Each class has random maps of its own; their mean is the baseline above."
    name = file_name(cell, "baselines")
    if len(scores) > MOST_CLASSES:
        counts, edges = np.histogram(scores[~np.isnan(scores)], bins=30)
        frame = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "value": counts})
        chart = histogram(frame, x_title="C2-score of random maps (1)", y_title="classes")
        return Figure(name, chart, "Random maps, class by class", note)
    labels = [f"class {value}" for value in own["baseline_class"].values]
    if "baseline_name" in own:
        labels = own["baseline_name"].values.astype(str).tolist()
    frame = pd.DataFrame({"label": labels, "value": scores})
    frame = frame.sort_values("value", ascending=False, kind="stable")
    chart = bars(frame, x_title="C2-score of random maps (1)")
    return Figure(name, chart, "Random maps, class by class", note)


def class_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return the mean score of each class's concepts, the highest first."""
    frame = score_frame(own).dropna(subset=["score"])
    told = frame.groupby("class", sort=True)["score"].agg(concepts="count", score="mean")
    return told.sort_values("score", ascending=False, kind="stable").reset_index()
