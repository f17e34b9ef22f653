"""C2-scores: how alike what each concept points at looks to a foundation model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.charts import bars, histogram
from dashboards.views.parts import Column, Figure, Heading, Note, Number, Numbers, Part, Table
from dashboards.views.text import number_text

COLUMNS = {
    "score": Column(".3f", "C2-score", "mean pairwise cosine of the concept's encodings"),
    "n_images": Column(".0f", "images", "encodings of the concept"),
    "empty_maps": Column(".0f", "empty maps", "images whose map has no positive part"),
    "pixels": Column(".0f", "pixels", "mean number of pixels that hold 80 % of the map"),
}


def consistency_parts(datasets: Mapping[str, xr.Dataset]) -> list[Part]:
    """Return the C2-scores of some settings: one after another, several also side by side.

    Parameters
    ----------
    datasets : mapping of str to xr.Dataset
        Of schema ``consistency``, by the cell that made each.
    """
    compared: list[Part] = [_compare(datasets)] if len(datasets) > 1 else []
    return compared + [part for cell, own in datasets.items() for part in _setting(cell, own)]


def _compare(datasets: Mapping[str, xr.Dataset]) -> Figure:
    rows = [
        {
            "label": cell,
            "value": float(own["mean_score"]),
            "mark": float(own["baseline"]),
        }
        for cell, own in datasets.items()
    ]
    chart = bars(pd.DataFrame(rows), x_title="mean C2-score (1)", mark="random maps")
    return Figure("consistency", chart, "Mean C2-score", "The tick is the score of random maps.")


def _setting(cell: str, own: xr.Dataset) -> list[Part]:
    numbers = [
        Number("mean C2-score", number_text(float(own["mean_score"])), "of concepts that count"),
        Number("random maps", number_text(float(own["baseline"])), "the same of random weights"),
        Number("difference", number_text(float(own["difference"])), "of the two"),
        Number("concepts", number_text(float(own["n_scored"])), "with enough images to count"),
        Number("empty maps", number_text(float(own["empty_total"])), "without a positive part"),
    ]
    rules = [("random", float(own["baseline"])), ("mean", float(own["mean_score"]))]
    shares = histogram(
        score_bins(own), x_title="C2-score (1)", y_title="share of concepts", rules=rules
    )
    least = int(own["least_images"])
    return [
        Heading(cell),
        Numbers(numbers),
        Note(f"Variant: {own['variant'].item()}. Concepts count from {least} images on."),
        Figure(f"{cell}-scores", shares, "C2-scores of concepts"),
        Table(f"{cell}-scores", score_frame(own), "Concepts", columns=COLUMNS),
    ]


def score_bins(own: xr.Dataset) -> pd.DataFrame:
    """Return the histogram of a dataset as ``low``, ``high``, ``value`` (share of concepts)."""
    low = own["bin"].values
    width = float(np.diff(low).mean()) if len(low) > 1 else 1.0
    return pd.DataFrame({"low": low, "high": low + width, "value": own["share"].values})


def score_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per concept, the highest score first; those without a score come last."""
    names = ["score", "n_images", "empty_maps", "pixels"]
    frame = pd.DataFrame({"concept": own["concept"].values} | {n: own[n].values for n in names})
    if "concept_name" in own:
        frame.insert(1, "name", own["concept_name"].values.astype(str))
    return frame.sort_values("score", ascending=False, kind="stable").reset_index(drop=True)
