"""Charts that result pages share: bars with intervals, curves with bands, histograms, waterfalls.

Colours are those of Okabe and Ito (2008), which the colour-blind can tell apart on light and dark
ground; no chart says anything by colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, YELLOW = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
)
GREY = "#8a8a8a"  # of baselines, and of what is not decided; on both grounds
PALETTE = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY)
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "stroke")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [10, 3], [1, 4])

ROW = 22
"""Height of a bar with its gap, in pixels."""

FLOOR = 0.7
"""Where a logarithmic axis of counts begins, so that a count of 1 is seen."""

MOST_POINTS = 4_000
"""Rows that a chart holds at most; views thin what is longer."""


def _layers(*charts: Any) -> alt.LayerChart:
    layered: alt.LayerChart = alt.layer(*charts)  # type: ignore[assignment]
    return layered


def series_legend(title: str | None = None, **symbol: Any) -> alt.Legend:
    """Return how series are named above a chart."""
    return alt.Legend(title=title, orient="top", labelLimit=320, symbolOpacity=1, **symbol)


def series_colour(
    names: Sequence[str], title: str | None = None, legend: alt.Legend | None = None
) -> alt.Color:
    """Return the colour of each of several series, in their order; a legend from two on."""
    colours = [PALETTE[index % len(PALETTE)] for index in range(len(names))]
    if legend is None and len(names) > 1:
        legend = series_legend(title)
    return alt.Color(
        "series",
        type="nominal",
        title=title,
        scale=alt.Scale(domain=list(names), range=colours),
        legend=legend,
    )


def lines(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    x_title: str,
    y_title: str,
    series: Sequence[str],
    x_log: bool = False,
    domain: tuple[float, float] | None = None,
    height: int = 280,
    form: str = ".3f",
    is_stepped: bool = False,
) -> alt.LayerChart:
    """Return curves, each in its own colour and dash, with bands where ``low`` and ``high`` are.

    Parameters
    ----------
    frame : pd.DataFrame
        ``series``, and the columns named by ``x`` and ``y``; ``low`` and ``high`` of the band.
    x, y : str
        Columns.
    x_title, y_title : str
        What they are, with units.
    series : sequence of str
        Names, in the order of colours.
    x_log : bool
        Whether the x axis is logarithmic.
    domain : pair of float, optional
        Of the y axis.
    height : int
        Pixels.
    form : str
        Format of values in tooltips.
    is_stepped : bool
        Whether a value holds until the next x, as of bins by their lower end.
    """
    base = alt.Chart(frame, height=height)
    scale = alt.Scale(type="log") if x_log else alt.Scale(zero=False, nice=False)
    across = alt.X(x, type="quantitative", title=x_title, scale=scale)
    up = alt.Scale(domain=list(domain)) if domain else alt.Scale(zero=False)
    legend = None
    if len(series) > 1:  # one for both: pieces of the lines, with their dashes
        legend = series_legend(symbolType="stroke", symbolSize=300, symbolStrokeWidth=2.5)
    colour = series_colour(series, legend=legend)
    dash = alt.StrokeDash(
        "series",
        type="nominal",
        scale=alt.Scale(
            domain=list(series), range=[DASHES[i % len(DASHES)] for i in range(len(series))]
        ),
        legend=legend,
    )
    tips = [alt.Tooltip("series", type="nominal")] if len(series) > 1 else []
    tips += [
        alt.Tooltip(x, type="quantitative", title=x_title),
        alt.Tooltip(y, type="quantitative", title=y_title, format=form),
    ]
    layers = []
    if "low" in frame and frame["low"].notna().any():
        layers.append(
            base.mark_area(opacity=0.18).encode(
                x=across, y=alt.Y("low", type="quantitative"), y2="high", color=colour
            )
        )
    points = len(frame) <= 60 * max(1, len(series)) and not is_stepped
    drawn = base.mark_line(interpolate="step-after") if is_stepped else base.mark_line(point=points)
    layers.append(
        drawn.encode(
            x=across,
            y=alt.Y(y, type="quantitative", title=y_title, scale=up),
            color=colour,
            strokeDash=dash,
            tooltip=tips,
        )
    )
    return _layers(*layers)


def histogram(
    frame: pd.DataFrame,
    *,
    x_title: str,
    y_title: str = "share",
    rules: Sequence[tuple[str, float]] = (),
    series: Sequence[str] = ("",),
    height: int = 260,
    x_log: bool = False,
    y_log: bool = False,
    x_form: str = "",
) -> alt.LayerChart:
    """Return a histogram whose bins are given, with named vertical rules, as of a baseline.

    Parameters
    ----------
    frame : pd.DataFrame
        A row per bin: ``low``, ``high``, ``value``, and ``series`` where there are several.
    x_title, y_title : str
        What is counted, and how.
    rules : sequence of (name, place)
        Values to compare with, each in a colour and a dash of its own.
    series : sequence of str
        Names of the series.
    height : int
        Pixels.
    x_log, y_log : bool
        Whether an axis is logarithmic; the y axis is of counts then, and begins below 1.
    x_form : str
        Format of Vega for the x axis, as ``~%``.
    """
    known = frame.assign(series=frame.get("series", series[0]))
    across = alt.Scale(type="log", nice=False) if x_log else alt.Scale(zero=False)
    axis = alt.Axis(
        format=x_form or alt.Undefined,
        values=[10.0**power for power in range(-9, 10)] if x_log else alt.Undefined,
    )
    up, floor = alt.Scale(zero=True), {}
    if y_log:
        known = known[known["value"] > 0]
        up, floor = alt.Scale(type="log", domainMin=FLOOR, clamp=True), {"y2": alt.datum(FLOOR)}
    shown = (
        alt.Chart(known, height=height)
        .mark_bar(opacity=0.6 if len(series) > 1 else 0.85, stroke=None, binSpacing=1)
        .encode(
            x=alt.X(
                "low", type="quantitative", bin="binned", title=x_title, scale=across, axis=axis
            ),
            x2="high",
            y=alt.Y("value", type="quantitative", title=y_title, stack=None, scale=up),
            **floor,
            color=series_colour(series),
            tooltip=[
                alt.Tooltip("low", type="quantitative", format=".3g"),
                alt.Tooltip("high", type="quantitative", format=".3g"),
                alt.Tooltip("value", type="quantitative", format=".3g", title=y_title),
            ],
        )
    )
    return _layers(shown, *(layer for rule in enumerate(rules) for layer in _rule(*rule)))


def _rule(index: int, rule: tuple[str, float]) -> list[alt.Chart]:
    name, value = rule
    data = pd.DataFrame({"x": [value], "name": [name]})
    base = alt.Chart(data)
    colour = PALETTE[(index + 3) % len(PALETTE)]
    at = alt.X("x", type="quantitative")
    return [
        base.mark_rule(color=colour, strokeWidth=2, strokeDash=DASHES[1]).encode(
            x=at, tooltip=[alt.Tooltip("name"), alt.Tooltip("x", format=".3g")]
        ),
        base.mark_text(color=colour, align="left", dx=4, dy=8 + 14 * index).encode(
            x=at, y=alt.value(0), text="name"
        ),
    ]


def waterfall(frame: pd.DataFrame, *, x_title: str, form: str = ".4f") -> alt.LayerChart:
    """Return how a sum is reached term by term, from the top to its total.

    Parameters
    ----------
    frame : pd.DataFrame
        A row per term, in order: ``label``, ``value``, and ``kind``: ``for``, ``against`` or
        ``total``. Totals begin at 0.
    x_title : str
        What is summed, with units.
    form : str
        Format of values.
    """
    is_total = frame["kind"] == "total"
    ends = frame["value"].where(~is_total, 0.0).cumsum()
    known = frame.assign(
        start=(ends - frame["value"]).where(~is_total, 0.0),
        end=ends.where(~is_total, frame["value"]),
        signed=[format(value, f"+{form}") for value in frame["value"]],
    )
    known["right"] = known[["start", "end"]].max(axis=1)
    order = known["label"].tolist()
    y = alt.Y("label", type="nominal", sort=order, title=None, axis=alt.Axis(labelLimit=320))
    kinds = ["for", "against", "total"]
    base = alt.Chart(known, height={"step": ROW + 4})
    bar = base.mark_bar().encode(
        x=alt.X("start", type="quantitative", title=x_title, scale=alt.Scale(zero=True)),
        x2="end",
        y=y,
        color=alt.Color(
            "kind",
            type="nominal",
            title=None,
            scale=alt.Scale(domain=kinds, range=[BLUE, VERMILION, GREY]),
            legend=alt.Legend(orient="top"),
        ),
        tooltip=[
            alt.Tooltip("label", type="nominal"),
            alt.Tooltip("value", type="quantitative", format=form),
            alt.Tooltip("end", type="quantitative", format=form, title="sum so far"),
        ],
    )
    text = base.mark_text(align="left", dx=4, color=GREY).encode(
        x=alt.X("right", type="quantitative"), y=y, text="signed"
    )
    return _layers(bar, text)
