"""Metrics as curves: few enough points to draw, no peak lost; `curve_charts` draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from registry.wording import counted

MOST_POINTS = 2_000
"""Points of a curve that are drawn; more are thinned, which a screen cannot show anyway."""

THINNED_ABOVE = 5_000
AXES = ("step", "time")
MOST_SMOOTH = 0.999


@dataclass(frozen=True)
class Curve:
    """One metric of a run.

    Attributes
    ----------
    name : str
        As it was logged.
    points : pd.DataFrame
        ``step``, ``time`` (UTC) and ``value``, in the order of logging; thinned where long.
    logged : int
        Points that were logged.
    undrawable : int
        Points whose value is no finite number.
    values : np.ndarray
        float32, every value that can be drawn, thinned or not.
    indices : np.ndarray
        Which of them `points` holds.
    """

    name: str
    points: pd.DataFrame
    logged: int
    undrawable: int = 0
    values: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32), repr=False)
    indices: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64), repr=False)

    @property
    def last(self) -> float | None:
        """The last value that can be drawn."""
        return None if self.points.empty else float(self.points["value"].iloc[-1])

    @property
    def not_positive(self) -> int:
        """Drawn points that a logarithmic scale cannot show."""
        return int((self.points["value"] <= 0).sum())


def curves(metrics: Mapping[str, Mapping[str, Sequence[Any]]]) -> list[Curve]:
    """Return the curves of :meth:`registry.catalog.access.Catalog.metrics`, by name."""
    return [curve(name, metrics[name]) for name in sorted(metrics)]


def curve(name: str, metric: Mapping[str, Sequence[Any]]) -> Curve:
    """Return one curve, thinned where it has more than 5,000 points.

    Parameters
    ----------
    name : str
        Name of the metric.
    metric : mapping
        ``steps``, ``values`` and ``timestamps`` (moments, or milliseconds since 1970), equally
        long; where a run is being written meanwhile, the shortest counts.
    """
    values = _numbers(metric["values"])
    steps = _numbers(metric["steps"])
    times = _times(metric["timestamps"])
    count = min(len(values), len(steps), len(times))
    frame = pd.DataFrame({"step": steps[:count], "time": times[:count], "value": values[:count]})
    drawable = frame[np.isfinite(frame["value"]) & np.isfinite(frame["step"])]
    values = drawable["value"].to_numpy()
    is_long = len(values) > THINNED_ABOVE
    indices = thin(values, MOST_POINTS) if is_long else np.arange(len(values))
    kept = drawable.iloc[indices].reset_index(drop=True)
    with np.errstate(over="ignore"):
        small = values.astype(np.float32)
    return Curve(name, kept, count, count - len(drawable), small, indices)


SPARK = 40
"""Points of a curve in a cell of a table."""


def spark(metrics: Mapping[str, Mapping[str, Sequence[Any]]]) -> list[float] | None:
    """Return the loss that a run has logged, in few points; None where it has logged none.

    Parameters
    ----------
    metrics : mapping
        As :meth:`registry.catalog.access.Catalog.metrics` returns them.
    """
    losses = sorted((name for name in metrics if name.endswith("loss")), key=len)
    if not losses:
        return None
    values = curve(losses[0], metrics[losses[0]]).values
    if len(values) < 2:
        return None
    return [float(value) for value in values[thin(values, SPARK)]]


def smoothed(drawn: Curve, weight: float) -> np.ndarray:
    """Return the exponential moving average of all values, at the points that are drawn.

    Corrected for its start, as TensorBoard does: ``sum w^i x[t-i] / sum w^i``.

    Parameters
    ----------
    drawn : Curve
        A curve.
    weight : float
        What the average so far counts, from 0 (no smoothing) up to `MOST_SMOOTH`.
    """
    weight = min(max(weight, 0.0), MOST_SMOOTH)
    average = pd.Series(drawn.values, dtype="float64").ewm(alpha=1 - weight, adjust=True).mean()
    return np.asarray(average.to_numpy()[drawn.indices])


def _numbers(values: Sequence[Any]) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = pd.to_numeric(pd.Series(list(values), dtype=object), errors="coerce")
        return np.asarray(numbers, dtype=np.float64)


def _times(values: Sequence[Any]) -> pd.DatetimeIndex:
    if values and isinstance(values[0], datetime):
        return pd.DatetimeIndex(pd.to_datetime(list(values), utc=True, errors="coerce"))
    return pd.DatetimeIndex(
        pd.to_datetime(_numbers(values), unit="ms", utc=True, errors="coerce"), tz=UTC
    )


def thin(values: np.ndarray, most: int) -> np.ndarray:
    """Return indices of at most `most` points: of each stretch its smallest and its largest.

    The first and the last point are always kept, so that no peak, dip or end is lost.
    """
    if len(values) <= most:
        return np.arange(len(values))
    stretches = max(1, (most - 2) // 2)
    edges = np.linspace(0, len(values), stretches + 1).astype(np.int64).tolist()
    lowest = [start + int(np.argmin(values[start:end])) for start, end in pairwise(edges)]
    highest = [start + int(np.argmax(values[start:end])) for start, end in pairwise(edges)]
    return np.unique([0, *lowest, *highest, len(values) - 1])


def curve_note(drawn: Curve, log: bool = False) -> str:
    """Return what a chart leaves out, "" if nothing."""
    notes = []
    if len(drawn.points) + drawn.undrawable < drawn.logged:
        notes.append(f"{counted(drawn.logged, 'point')}, thinned to {len(drawn.points):,}")
    if drawn.undrawable:
        notes.append(f"{counted(drawn.undrawable, 'value is', 'values are')} not finite")
    if log and drawn.not_positive:
        notes.append(
            f"{counted(drawn.not_positive, 'value of 0 or less does', 'values of 0 or less do')} "
            "not fit a logarithmic scale"
        )
    return "; ".join(notes)
