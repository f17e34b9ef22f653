"""C2-scores: how alike the regions that a concept points at look to a foundation model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.concepts.concept_model import consistency_figure, score_bins
from dashboards.views.concepts.labels import LABEL
from dashboards.views.parts.charts import bars, binned, cloud, histogram, lines
from dashboards.views.parts.parts import Figure, Note, Part
from dashboards.views.results import answers
from dashboards.views.results.menu import MENU
from dashboards.views.results.view import Headline, ResultView, Setting, texts
from registry.columns import Column
from registry.wording import counted

COUNTS = "✓ counts"
COLUMNS = {
    "name": Column(help="label of the concept, or the label that most metrics choose"),
    "class": Column(help="class of the concept"),
    "score": Column(".3f", "C2-score", "mean pairwise cosine of the concept's encodings"),
    "baseline": Column(".3f", "random maps", "of the concept's class"),
    "n_images": Column(".0f", "images", "encodings of the concept"),
    "counts": Column(help="whether it has enough images to count in the mean"),
    "empty_maps": Column(".0f", "empty maps", "images whose map has no positive part"),
    "pixels": Column(".0f", "pixels", "mean number of pixels that hold 80 % of the map"),
}
CLASS_COLUMNS = {
    "concepts": Column("d", help="concepts of the class that have a score"),
    "score": Column(".3f", "mean C2-score", "of these concepts"),
}
MOST_CLASSES = 40
"""Classes that are drawn as bars; more are a histogram."""

SUMMARY = ("mean_score", "baseline", "difference")


def figure(settings: Sequence[Setting]) -> Iterator[Figure]:
    """Yield the scores of a setting, or the means of several, beside those of random maps."""
    if len(settings) == 1:
        (at,) = settings
        chart = consistency_figure(at.cell, at.own).chart
        yield at.figure("histogram", chart, "C2-scores of concepts")
        return
    rows = [
        {"label": at.cell, "value": float(at.own["mean_score"]), "mark": float(at.own["baseline"])}
        for at in settings
    ]
    chart = bars(pd.DataFrame(rows), x_title="mean C2-score", mark="random maps")
    yield Figure("consistency", chart, "Mean C2-score", "The tick is the score of random maps.")


def compared(settings: Sequence[Setting]) -> Iterator[Part]:
    """Yield all scores of settings overlaid, and whether their scales differ."""
    if len({at.own["variant"].item() for at in settings}) > 1:
        yield Note(
            "The encoders differ, or the centring: such scores are on different scales. Compare "
            "each with its own baseline.",
            "warning",
        )
    frames = [score_bins(at.own).assign(series=at.cell) for at in settings]
    overlaid = lines(
        pd.concat(frames, ignore_index=True).rename(columns={"low": "from"})[
            ["from", "value", "series"]
        ],
        x="from",
        y="value",
        x_title="C2-score",
        y_title="fraction of concepts",
        series=[at.cell for at in settings],
        is_stepped=True,
    )
    yield Figure("consistency-scores", overlaid, "C2-scores of concepts, settings overlaid")


def blocks(at: Setting) -> Iterator[Part]:
    """Yield the scores of one setting: overall, by class, by size of the map, one by one."""
    own = at.own
    frame = score_frame(own)
    yield Note(
        f"Variant: {own['variant'].item()}. Concepts count from "
        f"{counted(int(own['least_images']), 'image')} "
        f"on; {int(own['n_few_images'])} have fewer."
    )
    if own.sizes["baseline_class"] > 1:
        note = "Each class has random maps of its own; their mean is the baseline above."
        yield at.figure("baselines", _baselines(own), "Random maps, class by class", note)
    if "concept_class" in own:
        yield at.table("classes", class_frame(own), "Class by class", columns=CLASS_COLUMNS)
    yield from _sizes(at, frame)
    yield at.table("scores", frame, "Concepts", columns=COLUMNS)


def _above_random(own: xr.Dataset) -> float:
    """Return the fraction of concepts that count whose score lies above random maps."""
    random = own["concept_baseline" if "concept_baseline" in own else "baseline"]
    lifts = (own["score"] - random).values[own["n_images"].values >= int(own["least_images"])]
    lifts = lifts[~np.isnan(lifts)]
    return float((lifts > 0).mean()) if len(lifts) else np.nan


def score_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per concept, the highest score first; those of too few images come last."""
    named = next((name for name in ("concept_name", LABEL) if name in own), "")
    is_enough = (own["n_images"] >= int(own["least_images"])) & own["score"].notnull()
    columns = {
        "concept": own["concept"].values,
        "name": texts(own, named) if named else None,
        "class": texts(own, "concept_class") if "concept_class" in own else None,
        "score": own["score"].values,
        "baseline": own["concept_baseline"].values if "concept_baseline" in own else None,
        "n_images": own["n_images"].values,
        "counts": np.where(is_enough, COUNTS, "✗ too few"),
        "empty_maps": own["empty_maps"].values,
        "pixels": own["pixels"].values,
    }
    frame = pd.DataFrame({name: held for name, held in columns.items() if held is not None})
    by, ascending = ["counts", "score"], [True, False]
    return frame.sort_values(by, ascending=ascending, kind="stable", ignore_index=True)


def _sizes(at: Setting, frame: pd.DataFrame) -> Iterator[Figure]:
    frame = frame[(frame["counts"] == COUNTS) & (frame["pixels"] > 0)]
    names = frame["name"] + ", " if "name" in frame else ""
    points = pd.DataFrame(
        {
            "x": frame["pixels"],
            "y": frame["score"],
            "label": names + "concept " + frame["concept"].astype(str),
        }
    ).dropna()
    if points.empty:
        return
    chart = cloud(
        points,
        x_title="pixels with 80 % of the map",
        y_title="C2-score",
        x_log=True,
        height=280,
    )
    note = "Large maps see much of the image, which makes encodings alike whatever the concept. "
    note += f"Concepts of fewer than {counted(int(at.own['least_images']), 'image')} are left out."
    yield at.figure("sizes", chart, "C2-score and size of the map", note)


def _baselines(own: xr.Dataset) -> object:
    scores, title = own["baseline_score"].values, "C2-score of random maps"
    if len(scores) > MOST_CLASSES:
        return histogram(binned(scores, 30), x_title=title, y_title="classes")
    labels = [f"class {value}" for value in own["baseline_class"].values]
    if "baseline_name" in own:
        labels = texts(own, "baseline_name")
    frame = pd.DataFrame({"label": labels, "value": scores})
    return bars(frame.sort_values("value", ascending=False, kind="stable"), x_title=title)


def class_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return the mean score of each class's concepts, the highest first."""
    frame = score_frame(own).dropna(subset=["score"])
    means = frame.groupby("class", sort=True)["score"].agg(concepts="count", score="mean")
    return means.sort_values("score", ascending=False, kind="stable").reset_index()


VIEW = ResultView(
    *MENU["consistency"],
    "Does a concept mean one thing? The C2-score is the mean cosine between what a foundation "
    "model sees where the concept is, over the images it is strongest in; random maps are the "
    "baseline (Parchami-Araghi et al., FaCT, NeurIPS 2025, arXiv 2510.25512, section 5).",
    blocks,
    lambda at: answers.consistency(at.own, _above_random(at.own)),
    figure,
    (
        Headline("mean C2-score", "mean_score", ".3f", "of concepts that count"),
        Headline("random maps", "baseline", ".3f", "the same for random weights"),
        Headline("difference", "difference", "+.3f", "of the two"),
        Headline(
            "above random",
            _above_random,
            ".0%",
            "fraction of concepts that count; against random maps of their own class, if any",
        ),
        Headline("concepts", "n_scored", meaning="with enough images to count"),
        Headline("empty maps", "empty_total", meaning="without a positive part"),
    ),
    compared=compared,
    summary=lambda at: {name: float(at.own[name]) for name in SUMMARY},
    is_named=True,
)
