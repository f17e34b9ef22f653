"""Curves as charts."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from dashboards.views.parts.charts import BLUE, NUMBER, layers
from dashboards.views.runs.curves import Curve, smoothed

HEIGHT = 220  # pixels
FAINT = 0.3  # opacity of what was logged, behind its average


def curve_chart(
    drawn: Curve, axis: str = "step", log: bool = False, smooth: float = 0.0
) -> alt.LayerChart:
    """Return the chart of a curve, with its moving average in front where that is asked for.

    Parameters
    ----------
    drawn : Curve
        What to draw.
    axis : str
        ``step`` or ``time``.
    log : bool
        Whether the values are on a logarithmic scale; those that are not positive are left out.
    smooth : float
        Weight of :func:`smoothed`; 0 for none.
    """
    points = drawn.points.assign(smooth=smoothed(drawn, smooth)) if smooth else drawn.points
    x = alt.X("step:Q", title="step")
    if axis == "time":
        x = alt.X("time:T", title="time (UTC)", scale=alt.Scale(type="utc"))
    tips = [alt.Tooltip("step:Q"), alt.Tooltip("value:Q", format=NUMBER)]
    if smooth:
        tips.append(alt.Tooltip("smooth:Q", format=NUMBER, title="average"))
    tips.append(
        alt.Tooltip("time", timeUnit="utcyearmonthdatehoursminutesseconds", title="time (UTC)")
    )
    average = "smooth" if smooth else ""
    return curve_layers(points, average, log, HEIGHT, x=x, tooltip=tips, color=alt.ColorValue(BLUE))


def curve_layers(
    points: pd.DataFrame, average: str, log: bool, height: int, **look: Any
) -> alt.LayerChart:
    """Return what was logged as lines, faint behind its average where there is one.

    Parameters
    ----------
    points : pd.DataFrame
        ``value``, and what else is drawn.
    average : str
        Its column; "" for none.
    log : bool
        Whether the values are on a logarithmic scale; those that are not positive are left out.
    height : int
        Pixels.
    **look
        What encodes all else.
    """
    points = points[points["value"] > 0] if log else points
    scale = alt.Scale(type="log", nice=False) if log else alt.Scale(zero=False)
    raw = alt.Chart().mark_line(point=len(points) <= 30, opacity=FAINT if average else 1.0)
    drawn = [raw.encode(y=alt.Y("value:Q", title=None, scale=scale), **look)]
    if average:
        y = alt.Y(f"{average}:Q", title=None, scale=scale)
        drawn.append(alt.Chart().mark_line(strokeWidth=2.5).encode(y=y, **look))
    return layers(*drawn, data=points, height=height)
