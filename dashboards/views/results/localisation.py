"""Localisation: whether concepts are where the labels that name them are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.parts.charts import dots
from dashboards.views.parts.parts import Figure, Note, Part, Table, frame_of
from dashboards.views.results import answers, view
from dashboards.views.results.menu import MENU
from evals.concepts.approximate import maps_note
from evals.concepts.localisation import BY_MEASURE
from registry.columns import Column, ResultTable

ABOUT = {
    "pointing": "pointing: is the strongest point of the map inside the mask",
    "energy": "energy: how much of the map lies inside the mask",
    "iou": "IoU: overlap of the strongest part of the map with the mask",
}
ABOUT_MEASURES = "; ".join(ABOUT.values()) + "."
Z = 1.959963984540054  # of a 95 % interval
MOST_DRAWN = 25
"""Concepts that are drawn with their intervals."""

SERIES = {
    "score": "the name's masks",
    "elsewhere": "masks of other images",
    "chance": "chance",
}


def _shown(at: xr.Dataset) -> list[str]:
    counts = zip(at["n_shown"].values, at["n_images"].values, strict=True)
    return [f"{shown} of {total}" for shown, total in counts]


def _verdicts(at: xr.Dataset) -> list[str]:
    signs = {True: "✓ above chance", False: "✗ not above"}
    lows = at["lift_low"].values
    return ["– not judged" if np.isnan(low) else signs[bool(low > 0)] for low in lows]


CONCEPTS = ResultTable(
    "concept",
    {
        "name": Column(),
        "name_chance": Column("", "of the name", "whether the name itself is above chance"),
        "shown": Column(
            help="images with a mask of the name, of those that were mapped", value=_shown
        ),
        "score": Column(".3f", help="mean in images that show the name"),
        "low": Column(".3f", "", "lower end of its interval", "interval_low"),
        "high": Column(".3f", "", "upper end of its interval", "interval_high"),
        "chance": Column(".3f", help="of a uniform map"),
        "elsewhere": Column(".3f", help="of the same maps on the masks of other images"),
        "lift": Column("+.3f", "above chance", "score minus chance"),
        "verdict": Column("", "located", "whether its interval lies above chance", _verdicts),
        "best": Column(
            "",
            "best label",
            "label of the largest gain over all images",
            lambda at: view.texts(at.isel(rank=0), "top_label"),
        ),
    },
    sort_by="lift",
)
"""Concepts by one measure, the furthest above chance first."""


def sentence(at: view.Setting) -> str:
    """Return how many concepts are where their labels are, by the chosen measure."""
    if not at.has("measure"):
        return f"Nothing was measured by {at.chosen['measure']}."
    return answers.localisation(at.own, at.chosen["measure"])


def localisation_choices(datasets: view.Datasets) -> list[view.Choice]:
    """Return by which measure concepts are listed: energy first, where it is measured."""
    measures = sorted(view.options_of(datasets, "measure"), key=lambda name: name != "energy")
    return [view.Choice("measure", "Concepts by", measures, ABOUT_MEASURES)]


def figure(settings: Sequence[view.Setting]) -> Iterator[Figure]:
    """Yield the means of a setting beside chance, or those of several by the chosen measure."""
    if len(settings) == 1:
        yield _means(settings[0])
        return
    measure = settings[0].chosen["measure"]
    frames = [mean_frame(at.own).assign(cell=at.cell) for at in settings]
    frame = pd.concat(frames, ignore_index=True).query("label == @measure")
    frame = frame.assign(label=frame["cell"]).drop(columns="cell")
    title = f"{measure}, mean over concepts"
    chart = dots(frame, x_title=title, domain=(0, 1), series=[*SERIES.values()])
    note = "Grey bars: 95 % intervals of the mean over concepts."
    yield Figure("localisation-means", chart, "Are concepts where their labels are?", note)


def compared(settings: Sequence[view.Setting]) -> Iterator[Table]:
    """Yield what is said of all concepts, measure by measure and setting by setting."""
    frames = [frame_of(BY_MEASURE, at.own).assign(setting=at.cell) for at in settings]
    frame = pd.concat(frames, ignore_index=True)[["measure", "setting", *BY_MEASURE.columns]]
    frame = frame.sort_values("measure", kind="stable", ignore_index=True)
    yield Table("localisation", frame, "Setting by setting", columns=BY_MEASURE.columns)


def blocks(at: view.Setting) -> Iterator[Part]:
    """Yield the measures of one setting, and its concepts by one of them."""
    yield from view.seen_notes(at.own)
    if told := maps_note(at.own):
        yield Note(f"≈ {told}")
    if at.is_compared:
        yield _means(at)
    yield at.table("measures", BY_MEASURE, "Measures", ABOUT_MEASURES)
    if at.has("measure"):
        yield from _concepts(at, at.chosen["measure"])


def mean_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return the mean over concepts of each measure, beside chance and elsewhere.

    Returns
    -------
    pd.DataFrame
        ``label`` (measure), ``series``, ``value``, ``low`` and ``high``: the interval of 95 % of
        the mean over concepts, by their deviation; NaN for fewer than two.
    """
    rows = []
    for index, measure in enumerate(view.texts(own, "measure")):
        for name, series in SERIES.items():
            values = own[name].isel(measure=index).values
            values = values[~np.isnan(values)]
            mean = values.mean() if len(values) else np.nan
            half = Z * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
            ends = {"low": mean - half, "high": mean + half}
            rows.append({"label": measure, "series": series, "value": mean, **ends})
    return pd.DataFrame(rows)


def _means(at: view.Setting) -> Figure:
    frame = mean_frame(at.own)
    chart = dots(frame, x_title="mean over concepts", domain=(0, 1), series=[*SERIES.values()])
    note = (
        "Grey bars: 95 % intervals of the mean over concepts. A map that follows its label scores "
        "lower on the masks of other images; one that always points to the same spot does not."
    )
    return at.figure("means", chart, "Are concepts where their labels are?", note)


# -- concepts ---------------------------------------------------------------------------------


def concept_frame(own: xr.Dataset, measure: str) -> pd.DataFrame:
    """Return a row per concept with a name, by one measure: the furthest above chance first, those
    without an interval last.
    """
    frame = frame_of(CONCEPTS, own.sel(measure=measure))
    frame = frame[frame["name"] != ""]
    is_open = frame["low"].isna()
    return pd.concat([frame[~is_open], frame[is_open]], ignore_index=True)


def _concepts(at: view.Setting, measure: str) -> Iterator[Part]:
    frame = concept_frame(at.own, measure)
    drawn = frame.dropna(subset=["lift", "low"])
    if len(drawn) > MOST_DRAWN:
        half = MOST_DRAWN // 2
        drawn = pd.concat([drawn.head(MOST_DRAWN - half), drawn.tail(half)])
    labels = [f"{name} ({c})" for name, c in zip(drawn["name"], drawn["concept"], strict=True)]
    shown = drawn.assign(label=labels, value=drawn["score"], mark=drawn["chance"])
    chart = dots(shown, x_title=f"{measure}", domain=(0, 1), mark="chance")
    title = "Concepts furthest above chance, and least" if len(drawn) < len(frame) else "Concepts"
    note = "Grey ticks: chance. Grey bars: intervals. In parentheses: the concept's index."
    if len(drawn):
        yield at.figure(measure, chart, f"{title}, by {measure}", note)
    title = f"Concepts by {measure}"
    note = "Best labels are those of the largest gain of all: not tested against chance."
    yield at.table(f"{measure} concepts", frame, title, note, columns=CONCEPTS.columns)


VIEW = view.ResultView(
    *MENU["localisation"],
    "Is a concept where its label is? Its map is held against the masks of the label that names "
    "it: is the strongest point inside (pointing), how much of the map lies inside (energy), how "
    "well do the two overlap (IoU). Chance is a uniform map; elsewhere is the same map on masks "
    "of other images (Zhang et al. 2018; Wang et al. 2020).",
    blocks,
    sentence,
    figure,
    (
        view.Headline(
            "named concepts", lambda own: f"{int(own['n_named']):,} of {own.sizes['concept']:,}"
        ),
        view.Headline(
            "names at chance",
            lambda own: own.get("n_at_chance"),
            ",",
            lambda own: f"{int(own['n_left_out'])} more were left out",
        ),
        view.Headline("judged", "n_judged", ",", "named concepts with an interval"),
        view.Headline("without masks", "n_without_mask", ",", "their name has no mask at all"),
        view.Headline(
            "not shown", "n_not_shown", ",", "their name has masks, but not in their images"
        ),
        view.Headline(
            "images that show it",
            "shown_share",
            ".1%",
            "fraction of mapped images that show the name, where it has masks",
        ),
    ),
    localisation_choices,
    compared=compared,
    replicated=view.columns_of(BY_MEASURE, "mean_score", "mean_lift", "located_share"),
)
