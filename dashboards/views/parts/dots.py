"""Dots and bars with intervals in rows, and clouds of dots against a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from dashboards.views.parts.charts import (
    DASHES,
    GREY,
    MOST_POINTS,
    PALETTE,
    ROW,
    SHAPES,
    VERMILION,
    series_colour,
)


def dots(frame: pd.DataFrame, *, x_title: str, **options: Any) -> Any:
    """Return dots in rows, each with its interval; several series in a row differ in shape.

    Parameters
    ----------
    frame : pd.DataFrame
        A row per dot: ``label``, ``value``; ``low`` and ``high`` of its interval, ``series`` and
        ``mark``, the compared value, where there are some. Labels are drawn in their order.
    x_title : str
        What the values are, with units.
    **options
        ``domain`` (pair of float) of the axis; ``form`` of values in tooltips, three digits by
        default; ``series``, their names; ``mark``, what a tick means, as ``published``; ``rule``,
        name and value that all are held against.
    """
    return _in_rows(frame, x_title, is_bars=False, **options)


def bars(frame: pd.DataFrame, *, x_title: str, **options: Any) -> Any:
    """Return horizontal bars from 0, each with its interval; as :func:`dots`."""
    return _in_rows(frame, x_title, is_bars=True, **options)


def _in_rows(
    frame: pd.DataFrame,
    x_title: str,
    *,
    is_bars: bool,
    domain: tuple[float, float] | None = None,
    form: str = ".3f",
    series: Sequence[str] = ("",),
    mark: str = "",
    rule: tuple[str, float] | None = None,
) -> Any:
    known = frame.assign(series=frame.get("series", series[0]))
    labels, limit = list(dict.fromkeys(known["label"].tolist())), alt.Axis(labelLimit=320)
    side: dict[str, Any] = {
        "y": alt.Y("label", type="nominal", sort=labels, title=None, axis=limit)
    }
    if len(series) > 1:
        side["yOffset"] = alt.YOffset("series", type="nominal", sort=list(series))
    scale = alt.Scale(domain=list(domain)) if domain else alt.Scale(zero=is_bars)
    axis = alt.Axis(tickMinStep=1 if form.endswith(".0f") else alt.Undefined, tickCount=10)
    x = alt.X("value", type="quantitative", title=x_title, scale=scale, axis=axis)
    step = ROW * len(series) if is_bars else max(ROW, 11 * len(series) + 6)
    base = alt.Chart(known, height={"step": step, "for": "position"})
    look: dict[str, Any] = {"x": x, "color": series_colour(series), **side}
    look["tooltip"] = _tips(known, ("value", "low", "high", "mark"), form, mark)
    if is_bars:
        values = base.mark_bar(opacity=0.85).encode(**look)
    else:
        points = base.mark_point(filled=True, size=50, opacity=1)
        values = points.encode(shape=series_shape(series), **look)
    beside = []
    if "low" in known:
        low = alt.X("low", type="quantitative", title=x_title, scale=scale)
        interval = base.mark_rule(color=GREY, strokeWidth=2, clip=True)
        beside.append(interval.encode(x=low, x2="high", **side))
    if "mark" in known and known["mark"].notna().any():
        at = alt.X("mark", type="quantitative", title=x_title, scale=scale)
        tick = base.mark_tick(color=VERMILION if is_bars else GREY, thickness=2, size=14)
        beside.append(tick.encode(x=at, tooltip=_tips(known, ("mark",), form, mark), **side))
    rules = [_rule_across(*rule)] if rule else []
    return alt.layer(values, *beside) if is_bars else alt.layer(*rules, *beside, values)


def series_shape(names: Sequence[str]) -> alt.Shape:
    """Return the shape of each of several series, in their order; its legend is the colour's."""
    shapes = [SHAPES[index % len(SHAPES)] for index in range(len(names))]
    legend = alt.Legend(title=None, orient="top", labelLimit=320) if len(names) > 1 else None
    scale = alt.Scale(domain=list(names), range=shapes)
    return alt.Shape("series", type="nominal", title=None, scale=scale, legend=legend)


def _tips(frame: pd.DataFrame, names: Sequence[str], form: str, mark: str) -> list[alt.Tooltip]:
    titles = {"mark": mark or "mark"}
    tips = [alt.Tooltip("label", type="nominal"), alt.Tooltip("series", type="nominal")]
    return tips + [
        alt.Tooltip(name, type="quantitative", format=form, title=titles.get(name, name))
        for name in names
        if name in frame
    ]


def _rule_across(name: str, value: float) -> alt.Chart:
    chart = alt.Chart(pd.DataFrame({"x": [value], "name": [name]}))
    rule: alt.Chart = chart.mark_rule(
        color=VERMILION, strokeDash=DASHES[1], strokeWidth=1.5
    ).encode(
        x=alt.X("x", type="quantitative"),
        tooltip=[alt.Tooltip("name", type="nominal"), alt.Tooltip("x", type="quantitative")],
    )
    return rule


def cloud(
    frame: pd.DataFrame,
    *,
    x_title: str,
    y_title: str,
    lines: Sequence[tuple[str, float, float]] = (),
    series: Sequence[str] = ("",),
    x_log: bool = False,
    form: str = ".3f",
    height: int = 360,
) -> Any:
    """Return points of two numbers each, thinned, with named straight lines across them.

    Parameters
    ----------
    frame : pd.DataFrame
        A row per point: ``x`` and ``y``; ``series`` and ``label`` where there are some.
    x_title, y_title : str
        What they are, with units.
    lines : sequence of (name, slope, intercept)
        Each is drawn from the smallest to the largest x.
    series : sequence of str
        Names of the series.
    x_log : bool
        Whether the x axis is logarithmic; then points must be above 0.
    form : str
        Format of values in tooltips.
    height : int
        Pixels.
    """
    known = thinned(frame.assign(series=frame.get("series", series[0])))
    scale = alt.Scale(type="log") if x_log else alt.Scale(zero=False)
    x = alt.X("x", type="quantitative", title=x_title, scale=scale)
    tips = [alt.Tooltip("label", type="nominal")] if "label" in known else []
    tips += [
        alt.Tooltip("x", type="quantitative", title=x_title, format=form),
        alt.Tooltip("y", type="quantitative", title=y_title, format=form),
    ]
    points = (
        alt.Chart(known, height=height)
        .mark_point(size=26, opacity=0.75, filled=True)
        .encode(
            x=x,
            y=alt.Y("y", type="quantitative", title=y_title, scale=alt.Scale(zero=False)),
            color=series_colour(series),
            shape=series_shape(series),
            tooltip=tips,
        )
    )
    ends = float(known["x"].min()), float(known["x"].max())
    return alt.layer(points, *_straight_lines(lines, ends))


def thinned(frame: pd.DataFrame, most: int = MOST_POINTS) -> pd.DataFrame:
    """Return so many rows at most, drawn evenly at random, in their order; the same ones always."""
    if len(frame) <= most:
        return frame
    kept = np.random.default_rng(0).choice(len(frame), most, replace=False)
    return frame.iloc[np.sort(kept)]


def _straight_lines(
    lines: Sequence[tuple[str, float, float]], ends: tuple[float, float]
) -> list[alt.Chart]:
    """Return lines, each with its name at the end where they lie apart."""
    at = [[slope * x + intercept for x in ends] for _, slope, intercept in lines]
    spreads = [max(held) - min(held) for held in zip(*at, strict=True)]
    where = int(np.argmax(spreads)) if spreads else 0
    layers = []
    for index, ((name, *_), heights) in enumerate(zip(lines, at, strict=True)):
        data = pd.DataFrame({"x": ends, "y": heights, "name": name})
        colour = (GREY, *PALETTE[3:])[index % 5]
        x, y = alt.X("x", type="quantitative"), alt.Y("y", type="quantitative")
        drawn = alt.Chart(data).mark_line(
            color=colour, strokeWidth=2, strokeDash=DASHES[(index + 1) % len(DASHES)]
        )
        is_upper = heights[where] >= max(held[where] for held in at)
        text = alt.Chart(data.iloc[[where]]).mark_text(
            align="right" if where else "left",
            color=colour,
            dx=-4 if where else 4,
            dy=-14 if is_upper else 14,
            fontSize=12,
        )
        tip = [alt.Tooltip("name", type="nominal")]
        layers += [drawn.encode(x=x, y=y, tooltip=tip), text.encode(x=x, y=y, text="name")]
    return layers
