"""Charts that pages share: curves, histograms, rows of dots or bars, clouds, waterfalls, heat maps.

Colours are those of Okabe and Ito (2008), which the colour-blind can tell apart on light and dark
ground; no chart says anything by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from altair.utils.schemapi import disable_debug_mode

from dashboards.views.parts.parts import PADDING
from registry.wording import formed, signed_text

# A chart is validated whole when it is drawn, not each of its objects too; and channels are given
# as objects, since Altair looks through all its classes for one that is a string or a dict.
disable_debug_mode()

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
)
GREY = "#8a8a8a"  # of baselines, and of what is not decided; on both grounds
WORDS = "#707070"  # on white; pages, light or dark, draw it in the colour of their text
PALETTE = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY)
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "stroke")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [10, 3], [1, 4])

ROW = 22
"""Height of a bar with its gap, in pixels."""

FLOOR = 0.7
"""Where a logarithmic axis of counts begins, so that a count of 1 is seen."""

MOST_POINTS = 4_000
"""Rows that a chart holds at most; views thin what is longer."""

LEGEND = 30
"""Letters of the names of several series that stand in a line of a page of 400 pixels."""

CELL, LOW_CELL = 24, 15
"""Height of a cell of a heat map, in pixels, and of one that has no text."""

MOST_WITH_TEXT = 30
"""Columns up to which cells say their values."""


NUMBER = ".3~r"
"""Format of Vega for a measured value: three significant digits and no exponent."""

RANGE = "range"
"""Name of the selection of a histogram that lets a reader mark a part of it."""

CHECKED = ".5~r"
"""The same for terms of a sum that somebody checks."""


def _in_vega(form: str) -> str:
    """Return a format of Python as one of Vega that never writes an exponent."""
    return f"{form[:-1]}~r" if form.endswith("g") else form


def layers(*charts: Any, **shared: Any) -> alt.LayerChart:
    """Return charts drawn over each other.

    Parameters
    ----------
    *charts
        The lowest first.
    **shared
        What they have in common: `data`, `height`. Given to each of them, Altair copies and hashes
        it for each of them.
    """
    layered: alt.LayerChart = alt.layer(*charts, **shared)  # type: ignore[assignment]
    return layered


def series_legend(names: Sequence[str], **symbol: Any) -> alt.Legend:
    """Return how series are named above a chart: in columns where a narrow page would cut them."""
    look: dict[str, Any] = {"orient": "top", "labelLimit": 320, "symbolOpacity": 1}
    if len("".join(names)) > LEGEND:
        look["columns"] = 2 if max(map(len, names)) <= LEGEND // 2 else 1
    return alt.Legend(title=None, **look, **symbol)


def series_scale(names: Sequence[str], looks: Sequence[Any]) -> alt.Scale:
    """Return the look of each of several series, in their order."""
    return alt.Scale(
        domain=list(names), range=[looks[index % len(looks)] for index in range(len(names))]
    )


def series_colour(names: Sequence[str], legend: alt.Legend | None = None) -> alt.Color:
    """Return the colour of each of several series, in their order; a legend from two on."""
    if legend is None and len(names) > 1:
        legend = series_legend(names)
    return alt.Color("series:N", title=None, scale=series_scale(names, PALETTE), legend=legend)


def _series_shape(names: Sequence[str]) -> alt.Shape:
    """Return the shape of each of several series, in their order; its legend is the colour's."""
    legend = alt.Legend(title=None, orient="top", labelLimit=320) if len(names) > 1 else None
    return alt.Shape("series:N", title=None, scale=series_scale(names, SHAPES), legend=legend)


def _scale(log: bool = False, **options: Any) -> alt.Scale:
    return alt.Scale(type="log") if log else alt.Scale(zero=False, **options)


def lines(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    x_title: str,
    y_title: str,
    series: Sequence[str] = ("",),
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
        The columns named by ``x`` and ``y``; ``series`` where there are several; ``low`` and
        ``high`` of the band.
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
    shared: dict[str, Any] = {"height": height}
    shared["data"] = frame.assign(series=frame.get("series", series[0]))
    across = alt.X(f"{x}:Q", title=x_title, scale=_scale(x_log, nice=False))
    up = alt.Scale(domain=list(domain)) if domain else alt.Scale(zero=False)
    legend = None
    if len(series) > 1:  # one for both: pieces of the lines, with their dashes
        legend = series_legend(series, symbolType="stroke", symbolSize=300, symbolStrokeWidth=2.5)
    colour = series_colour(series, legend)
    points = len(frame) <= 60 * max(1, len(series)) and not is_stepped
    look: dict[str, Any] = {"interpolate": "step-after"} if is_stepped else {"point": points}
    curves = alt.Chart().mark_line(**look)
    curves = curves.encode(
        x=across,
        y=alt.Y(f"{y}:Q", title=y_title, scale=up),
        color=colour,
        strokeDash=alt.StrokeDash("series:N", scale=series_scale(series, DASHES), legend=legend),
        tooltip=[
            *([alt.Tooltip("series:N")] if len(series) > 1 else []),
            alt.Tooltip(f"{x}:Q", title=x_title),
            alt.Tooltip(f"{y}:Q", title=y_title, format=_in_vega(form)),
        ],
    )
    if "low" not in frame or frame["low"].isna().all():
        return layers(curves, **shared)
    band = alt.Chart().mark_area(opacity=0.18)
    band = band.encode(x=across, y=alt.Y("low:Q"), y2=alt.Y2("high"), color=colour)
    return layers(band, curves, **shared)


def binned(values: Any, edges: Any) -> pd.DataFrame:
    """Return a histogram as :func:`histogram` takes it: ``low``, ``high``, ``value``, a count.

    Parameters
    ----------
    values : array of float
        Those that are no number are left out.
    edges : int or array of float
        Of the bins, or how many of equal width there are.
    """
    known = np.asarray(values, dtype=np.float64)
    counts, edges = np.histogram(known[~np.isnan(known)], edges)
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "value": counts})


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
    is_marked: bool = False,
) -> alt.LayerChart:
    """Return a histogram whose bins are given, with named vertical rules, as of a baseline.

    Parameters
    ----------
    frame : pd.DataFrame
        A row per bin: ``low``, ``high``, ``value``, and ``series`` where there are several.
    x_title, y_title : str
        What is counted, and how.
    rules : sequence of (name, value)
        Values to compare with, each in a colour and a dash of its own.
    series : sequence of str
        Names of the series.
    height : int
        Pixels.
    x_log, y_log : bool
        Whether an axis is logarithmic; the y axis is of counts then, and begins below 1.
    x_form : str
        Format of Vega for the x axis, as ``~%``.
    is_marked : bool
        Whether a reader can mark a part of it, as the selection `RANGE`.
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
        up, floor = alt.Scale(type="log", domainMin=FLOOR, clamp=True), {"y2": alt.Y2Datum(FLOOR)}
    bar: dict[str, Any] = {
        "opacity": 0.6 if len(series) > 1 else 0.85,
        "stroke": None,
        "binSpacing": 1,
    }
    shown = alt.Chart().mark_bar(**bar)
    shown = shown.encode(
        x=alt.X("low:Q", bin="binned", title=x_title, scale=across, axis=axis),
        x2=alt.X2("high"),
        y=alt.Y("value:Q", title=y_title, stack=None, scale=up),
        **floor,
        color=series_colour(series),
        tooltip=[
            alt.Tooltip("low:Q", format=NUMBER),
            alt.Tooltip("high:Q", format=NUMBER),
            alt.Tooltip("value:Q", format=NUMBER, title=y_title),
        ],
    )
    if is_marked:
        shown = shown.add_params(alt.selection_interval(name=RANGE, encodings=["x"]))
    named = [
        named_rule(*rule, PALETTE[(index + 3) % len(PALETTE)], 8 + 14 * index)
        for index, rule in enumerate(rules)
    ]
    drawn = (shown, *(layer for rule in named for layer in rule))
    return layers(*drawn, data=known, height=height)


def named_rule(name: str, value: float, colour: str, down: int = 8) -> tuple[alt.Chart, alt.Chart]:
    """Return a vertical rule, and its name so many pixels below the top."""
    base = alt.Chart(pd.DataFrame({"x": [value], "name": [name]}))
    tips = [alt.Tooltip("name:N"), alt.Tooltip("x:Q", format=NUMBER)]
    rule = base.mark_rule(color=colour, strokeWidth=2, strokeDash=DASHES[1])
    text = base.mark_text(color=WORDS, align="left", dx=4, dy=down)
    top = alt.YValue(0)  # type: ignore[no-untyped-call]
    return (
        rule.encode(x=alt.X("x:Q"), tooltip=tips),
        text.encode(x=alt.X("x:Q"), y=top, text=alt.Text("name:N")),
    )


def waterfall(frame: pd.DataFrame, *, x_title: str) -> alt.LayerChart:
    """Return how a sum is reached term by term, from the top to its total.

    Parameters
    ----------
    frame : pd.DataFrame
        A row per term, in order: ``label``, ``value``, and ``kind``: ``for``, ``against`` or
        ``total``. Totals begin at 0. ``mark``, where it is there, stands before the value.
    x_title : str
        What is summed, with units.
    """
    is_total = frame["kind"] == "total"
    ends = frame["value"].where(~is_total, 0.0).cumsum()
    known = frame.assign(
        start=(ends - frame["value"]).where(~is_total, 0.0),
        end=ends.where(~is_total, frame["value"]),
        signed=frame.get("mark", "") + frame["value"].map(signed_text),
    )
    known["right"] = known[["start", "end"]].max(axis=1)
    y = _rows_of(known["label"])
    across = _with_room(known[["start", "end"]].to_numpy())
    kinds = alt.Scale(domain=["for", "against", "total"], range=[BLUE, VERMILION, GREY])
    bar = alt.Chart().mark_bar()
    bar = bar.encode(
        x=alt.X("start:Q", title=x_title, scale=across),
        x2=alt.X2("end"),
        y=y,
        color=alt.Color("kind:N", title=None, scale=kinds, legend=alt.Legend(orient="top")),
        tooltip=[
            alt.Tooltip("label:N"),
            alt.Tooltip("value:Q", format=CHECKED),
            alt.Tooltip("end:Q", format=CHECKED, title="sum so far"),
        ],
    )
    text = alt.Chart().mark_text(align="left", dx=4, color=WORDS)
    text = text.encode(x=alt.X("right:Q", scale=across), y=y, text=alt.Text("signed:N"))
    chart = layers(bar, text, data=known, height={"step": ROW - 2})
    return chart.properties(padding={**PADDING, "right": 44})  # for numbers beside a narrow chart


def _with_room(values: np.ndarray) -> alt.Scale:
    """Return a scale from 0 that ends where a number beside the longest bar ends."""
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    span = high - low
    if not (np.isfinite(span) and span > 0):
        return alt.Scale(zero=True)
    return alt.Scale(domain=[low, high + 0.12 * span], nice=False)


def _rows_of(labels: pd.Series) -> alt.Y:
    """Return rows by their labels, in their order."""
    order = list(dict.fromkeys(labels.tolist()))
    return alt.Y("label:N", sort=order, title=None, axis=alt.Axis(labelLimit=320))


# -- rows and clouds --------------------------------------------------------------------------


_OF_DOTS = ("label", "series", "value", "low", "high", "mark")


def dots(
    frame: pd.DataFrame,
    *,
    x_title: str,
    is_bars: bool = False,
    domain: tuple[float, float] | None = None,
    form: str = ".3f",
    series: Sequence[str] = ("",),
    mark: str = "",
    rule: tuple[str, float] | None = None,
) -> Any:
    """Return dots in rows, each with its interval; several series in a row differ in shape.

    Parameters
    ----------
    frame : pd.DataFrame
        A row per dot: ``label``, ``value``; ``low`` and ``high`` of its interval, ``series`` and
        ``mark``, the compared value, where there are some. Labels are drawn in their order.
    x_title : str
        What the values are, with units.
    is_bars : bool
        Whether bars from 0 are drawn in place of dots.
    domain : pair of float, optional
        Of the axis.
    form : str
        Format of values in tooltips.
    series : sequence of str
        Names of the series.
    mark : str
        What a tick means, as ``published``.
    rule : pair of str and float, optional
        Name and value that all are held against.
    """
    known = frame.assign(series=frame.get("series", series[0]))
    known = known[[name for name in _OF_DOTS if name in known]]
    side: dict[str, Any] = {"y": _rows_of(known["label"])}
    if len(series) > 1:
        side["yOffset"] = alt.YOffset("series:N", sort=list(series))
    scale = alt.Scale(domain=list(domain)) if domain else alt.Scale(zero=is_bars)
    axis = alt.Axis(tickMinStep=1 if form.endswith(".0f") else alt.Undefined, tickCount=10)

    def tips(*names: str) -> list[alt.Tooltip]:
        shown = [name for name in names if name in known]
        titles = {"mark": mark or "mark"}
        numbers = [
            alt.Tooltip(f"{n}:Q", format=_in_vega(form), title=titles.get(n, n)) for n in shown
        ]
        return [alt.Tooltip("label:N"), alt.Tooltip("series:N"), *numbers]

    step = ROW * len(series) if is_bars else max(ROW, 11 * len(series) + 6)
    x = alt.X("value:Q", title=x_title, scale=scale, axis=axis)
    look = {"x": x, "color": series_colour(series), **side}
    look["tooltip"] = tips("value", "low", "high", "mark")
    if is_bars:
        values = alt.Chart().mark_bar(opacity=0.85).encode(**look)
    else:
        points = alt.Chart().mark_point(filled=True, size=50, opacity=1)
        values = points.encode(shape=_series_shape(series), **look)
    beside = []
    if "low" in known:
        low = alt.X("low:Q", title=x_title, scale=scale)
        interval = alt.Chart().mark_rule(color=GREY, strokeWidth=2, clip=True)
        beside.append(interval.encode(x=low, x2=alt.X2("high"), **side))
    if "mark" in known and known["mark"].notna().any():
        at = alt.X("mark:Q", title=x_title, scale=scale)
        if is_bars:  # so that it is seen on a bar
            under = alt.Chart().mark_tick(color="white", thickness=6, size=16)
            beside.append(under.encode(x=at, **side))
        tick = alt.Chart().mark_tick(color=VERMILION if is_bars else GREY, thickness=2, size=14)
        beside.append(tick.encode(x=at, tooltip=tips("mark"), **side))
    across = named_rule(*rule, VERMILION)[:1] if rule else ()  # without its name
    drawn = (values, *beside) if is_bars else (*across, *beside, values)
    return layers(*drawn, data=known, height={"step": step, "for": "position"})


def bars(frame: pd.DataFrame, *, x_title: str, **options: Any) -> Any:
    """Return horizontal bars from 0, each with its interval; as :func:`dots`."""
    return dots(frame, x_title=x_title, is_bars=True, **options)


def cloud(
    frame: pd.DataFrame,
    *,
    x_title: str,
    y_title: str,
    straight: Sequence[tuple[str, float, float]] = (),
    x_log: bool = False,
    height: int = 360,
) -> Any:
    """Return points of two numbers each, thinned, with named straight lines across them.

    Parameters
    ----------
    frame : pd.DataFrame
        A row per point: ``x``, ``y`` and ``label``.
    x_title, y_title : str
        What they are, with units.
    straight : sequence of (name, slope, intercept)
        Lines, each drawn from the smallest to the largest x.
    x_log : bool
        Whether the x axis is logarithmic; then points must be above 0.
    height : int
        Pixels.
    """
    known = thinned(frame)
    points = alt.Chart(known, height=height)
    points = points.mark_point(size=26, opacity=0.75, filled=True, shape="circle", color=BLUE)
    points = points.encode(
        x=alt.X("x:Q", title=x_title, scale=_scale(x_log)),
        y=alt.Y("y:Q", title=y_title, scale=_scale()),
        tooltip=[
            alt.Tooltip("label:N"),
            alt.Tooltip("x:Q", title=x_title, format=NUMBER),
            alt.Tooltip("y:Q", title=y_title, format=NUMBER),
        ],
    )
    if not straight:
        return points
    names, ends = [name for name, *_ in straight], np.array([known["x"].min(), known["x"].max()])
    held = [pd.DataFrame({"x": ends, "y": b * ends + a, "name": name}) for name, b, a in straight]
    legend = series_legend(names, symbolType="stroke", symbolSize=300)  # one for both
    across = alt.Chart(pd.concat(held)).mark_line(strokeWidth=2)
    across = across.encode(
        x=alt.X("x:Q"),
        y=alt.Y("y:Q"),
        color=alt.Color("name:N", scale=series_scale(names, PALETTE[3:]), legend=legend),
        strokeDash=alt.StrokeDash("name:N", scale=series_scale(names, DASHES[1:]), legend=legend),
        tooltip=[alt.Tooltip("name:N")],
    )
    return layers(points, across)


def thinned(frame: pd.DataFrame, most: int = MOST_POINTS) -> pd.DataFrame:
    """Return so many rows at most, drawn evenly at random, in their order; the same ones always."""
    if len(frame) <= most:
        return frame
    kept = np.random.default_rng(0).choice(len(frame), most, replace=False)
    return frame.iloc[np.sort(kept)]


# -- heat maps --------------------------------------------------------------------------------


def heat(
    frame: pd.DataFrame,
    *,
    value_title: str,
    domain: tuple[float, float],
    x_title: str = "",
    y_title: str = "",
    form: str = ".2f",
    is_signed: bool = False,
) -> Any:
    """Return a heat map whose cells say their values, so that nothing is said by colour alone.

    Parameters
    ----------
    frame : pd.DataFrame
        A row per cell: ``x``, ``y`` (texts, drawn in their order), ``value``. Where a value is
        missing, the cell says so.
    value_title, x_title, y_title : str
        What they are, with units.
    domain : pair of float
        Values of the ends of the scale of colours.
    form : str
        Format of the values in cells.
    is_signed : bool
        Whether 0 is the middle of the scale, in white.
    """
    columns, rows = (list(dict.fromkeys(frame[name].tolist())) for name in ("x", "y"))
    low, high = domain
    position = (frame["value"] - low) / ((high - low) or 1.0)
    is_dark = (2 * position - 1).abs() > 0.6 if is_signed else position > 0.55
    known = frame[["x", "y", "value"]].assign(
        text=["–" if pd.isna(value) else formed(value, form) for value in frame["value"]],
        ink=is_dark.map({True: "white", False: "black"}),
    )
    x_axis = alt.Axis(labelAngle=_angle(columns), labelLimit=160, labelOverlap=False)
    y_axis = alt.Axis(labelLimit=320, labelOverlap=False)
    side = {
        "x": alt.X("x:N", sort=columns, title=x_title or None, axis=x_axis),
        "y": alt.Y("y:N", sort=rows, title=y_title or None, axis=y_axis),
        "tooltip": [
            alt.Tooltip("y:N", title=y_title or "row"),
            alt.Tooltip("x:N", title=x_title or "column"),
            alt.Tooltip("text:N", title=value_title),
        ],
    }
    scale = alt.Scale(
        domain=[low, 0, high] if is_signed and low < 0 < high else [low, high],
        scheme="blueorange" if is_signed else "blues",
        clamp=True,
    )
    legend = alt.Legend(orient="top", gradientLength=160, format=_in_vega(form))
    has_text = len(columns) <= MOST_WITH_TEXT
    shared: dict[str, Any] = {"data": known, "height": {"step": CELL if has_text else LOW_CELL}}
    colour = alt.Color("value:Q", title=value_title, scale=scale, legend=legend)
    cells = alt.Chart().mark_rect().encode(color=colour, **side)
    if not has_text:
        return cells.properties(**shared)
    ink = alt.Color("ink:N", scale=None)
    texts = alt.Chart().mark_text(fontSize=11).encode(text=alt.Text("text:N"), color=ink, **side)
    return layers(cells, texts, **shared).resolve_scale(color="independent")


TINTS = ("#99d8c7", "#f5d899", "#eebf99", "#d0d0d0")
"""Green, orange, vermilion and grey on which black is read, on either ground."""


def signs(frame: pd.DataFrame, *, looks: Mapping[str, str]) -> Any:
    """Return a matrix of states: each cell has a colour, and says its state by a sign too.

    Parameters
    ----------
    frame : pd.DataFrame
        A row per cell: ``x``, ``y`` (texts, drawn in their order), ``state``, a key of the looks,
        and ``text``, what the cell says.
    looks : mapping of str to str
        At most four states, the best first, with what they are called in the legend.
    """
    columns, rows = (list(dict.fromkeys(frame[name].tolist())) for name in ("x", "y"))
    known = frame[["x", "y", "text"]].assign(name=frame["state"].map(looks))
    is_tilted = len(columns) > 2
    x_axis = alt.Axis(labelAngle=-40 if is_tilted else 0, labelLimit=160, orient="top",
                      labelOverlap=False)  # fmt: skip
    y_axis = alt.Axis(labelLimit=260, labelOverlap=False)
    side = {
        "x": alt.X("x:N", sort=columns, title=None, axis=x_axis),
        "y": alt.Y("y:N", sort=rows, title=None, axis=y_axis),
        "tooltip": [alt.Tooltip("y:N", title="row"), alt.Tooltip("x:N", title="column"),
                    alt.Tooltip("name:N", title="state"), alt.Tooltip("text:N", title="says")],
    }  # fmt: skip
    names = list(dict.fromkeys(looks.values()))
    scale = alt.Scale(domain=names, range=list(TINTS[: len(names)]))
    legend = alt.Legend(title=None, orient="top", symbolType="square", symbolStrokeWidth=0)
    colour = alt.Color("name:N", scale=scale, legend=legend)
    cells = alt.Chart().mark_rect(stroke="white", strokeWidth=1)
    cells = cells.encode(color=colour, **side)
    texts = (
        alt.Chart().mark_text(fontSize=12, color="black").encode(text=alt.Text("text:N"), **side)
    )
    chart = layers(cells, texts, data=known, height={"step": CELL})
    return chart.properties(padding={**PADDING, "right": 80}) if is_tilted else chart


def _angle(columns: Sequence[str]) -> int:
    """Return how far the names of columns are turned: those that are long, where there are many."""
    if len(columns) <= 4 or max(map(len, columns)) <= 3:
        return 0
    return -40 if len(columns) <= MOST_WITH_TEXT else -90
