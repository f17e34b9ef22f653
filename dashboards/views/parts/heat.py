"""Heat maps whose cells say their values, so that nothing is told by colour alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

CELL, LOW_CELL = 24, 15
"""Height of a cell, in pixels, and of one that has no text."""

MOST_WITH_TEXT = 30
"""Columns up to which cells say their values."""


def heat(
    frame: pd.DataFrame,
    *,
    x_title: str,
    y_title: str,
    value_title: str,
    domain: tuple[float, float],
    form: str = ".2f",
    is_signed: bool = False,
) -> Any:
    """Return a heat map.

    Parameters
    ----------
    frame : pd.DataFrame
        A row per cell: ``x``, ``y`` (texts, drawn in their order), ``value``. Where a value is
        missing, the cell says so.
    x_title, y_title, value_title : str
        What they are, with units.
    domain : pair of float
        Values of the ends of the scale of colours.
    form : str
        Format of the values in cells.
    is_signed : bool
        Whether 0 is the middle of the scale, in white.
    """
    known = frame.copy()
    order = _in_order(known["x"])
    low, high = domain
    width = (high - low) or 1.0
    position = (known["value"] - low) / width
    known["text"] = [_text(value, form) for value in known["value"]]
    known["ink"] = ["white" if _is_dark(at, is_signed) else "black" for at in position]
    side = {
        "x": alt.X(
            "x",
            type="nominal",
            sort=order,
            title=x_title or None,
            axis=alt.Axis(labelAngle=_angle(order), labelLimit=160, labelOverlap=False),
        ),
        "y": alt.Y(
            "y",
            type="nominal",
            sort=_in_order(known["y"]),
            title=y_title or None,
            axis=alt.Axis(labelLimit=320, labelOverlap=False),
        ),
    }
    colour = alt.Color(
        "value",
        type="quantitative",
        title=value_title,
        scale=alt.Scale(
            domain=[low, 0, high] if is_signed and low < 0 < high else [low, high],
            scheme="blueorange" if is_signed else "blues",
            clamp=True,
        ),
        legend=alt.Legend(orient="top", gradientLength=160, format=form),
    )
    tips = [
        alt.Tooltip("y", type="nominal", title=y_title or "row"),
        alt.Tooltip("x", type="nominal", title=x_title or "column"),
        alt.Tooltip("text", type="nominal", title=value_title),
    ]
    has_text = len(order) <= MOST_WITH_TEXT
    base = alt.Chart(known, height={"step": CELL if has_text else LOW_CELL})
    cells = base.mark_rect().encode(color=colour, tooltip=tips, **side)
    if not has_text:
        return cells
    ink = alt.Color("ink", type="nominal", scale=None)
    texts = base.mark_text(fontSize=11).encode(text="text", color=ink, tooltip=tips, **side)
    return alt.layer(cells, texts).resolve_scale(color="independent")


def _angle(columns: Sequence[str]) -> int:
    """Return how far the names of columns are turned: those that are long, where there are many."""
    if len(columns) <= 4 or max(map(len, columns)) <= 3:
        return 0
    return -40 if len(columns) <= MOST_WITH_TEXT else -90


def _in_order(column: pd.Series) -> Sequence[str]:
    return list(dict.fromkeys(column.tolist()))


def _is_dark(position: float, is_signed: bool) -> bool:
    return abs(2 * position - 1) > 0.6 if is_signed else position > 0.55


def _text(value: float, form: str) -> str:
    return "–" if pd.isna(value) else format(value, form)
