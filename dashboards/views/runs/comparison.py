"""Runs side by side: what differs in them, how they went, and what is typical of a group."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from dashboards.views.parts.charts import (
    DASHES,
    MOST_POINTS,
    NUMBER,
    PALETTE,
    bars,
    lines,
    series_scale,
)
from dashboards.views.parts.parts import MISSING, Figure, Part, Table
from dashboards.views.parts.replicates import replicate_tables
from dashboards.views.parts.text import setting_text, value_text
from dashboards.views.runs.curve_charts import curve_layers
from dashboards.views.runs.curves import Curve, smoothed, thin
from dashboards.views.runs.headlines import measured_on
from dashboards.views.runs.runs import Row, is_value, run_key, typed_column
from registry.catalog.seeds import is_seed
from registry.declare.cells import Graph
from registry.declare.declared import SelectionError
from registry.replicates import Replicated, Replicates

SIDE_BY_SIDE = 8
"""Runs that stand in columns at most; more stand in rows."""

MOST_RUNS = 200
MOST_CURVES = 12
OWN_AXIS = "matrix."
"""Before the name of an axis that is none of the configuration."""

_LESS = (
    *("loss", "error", "residual", "dead", "silent", "seconds", "perplexity", "divergence"),
    *("undefined", "empty", "missing", "deviation", "gap", "distance", "mse", "mae"),
    *("never", "always", "without", "l0", "concepts_for", "common"),
)
_OWN_KEYS = ("experiment", "needs")
_CELL = re.compile(r"([^\[]+)\[(.*)\]")
_LEGEND_ROW = 20  # pixels


# -- which runs -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chosen:
    """Runs to compare.

    Attributes
    ----------
    rows : tuple of Row
        Each once, in the order in which they were named.
    unknown : tuple of str
        Names that mean no run.
    left_out : int
        Runs beyond those that are compared at most.
    """

    rows: tuple[Row, ...]
    unknown: tuple[str, ...] = ()
    left_out: int = 0


def choose(names: Sequence[str], rows: Sequence[Row], graph: Graph) -> Chosen:
    """Return the runs that names mean.

    Parameters
    ----------
    names : sequence of str
        Numbers, identifiers, and cells, experiments, patterns or suites, of each cell of which the
        newest complete run is meant, or the newest where none is complete.
    rows : sequence of Row
        All runs, the newest first.
    graph : Graph
        The declared cells.
    """
    by_key = {key: row for row in rows for key in (run_key(row.run), str(row.run.id))}
    newest = newest_of_cells(rows)
    found: dict[str, Row] = {}
    unknown = []
    for name in names:
        meant = [by_key[name]] if name in by_key else _of_cells(name, newest, graph)
        if not meant:
            unknown.append(name)
        found.update((run_key(row.run), row) for row in meant)
    chosen = tuple(found.values())
    return Chosen(chosen[:MOST_RUNS], tuple(unknown), max(0, len(chosen) - MOST_RUNS))


def newest_of_cells(rows: Iterable[Row]) -> dict[str, Row]:
    """Return the newest complete run of each cell, else its newest; rows come newest first."""
    newest: dict[str, Row] = {}
    for row in (row for row in rows if row.run.part is None):
        known = newest.get(row.run.cell)
        is_better = row.run.status == "COMPLETED" and known and known.run.status != "COMPLETED"
        if known is None or is_better:
            newest[row.run.cell] = row
    return newest


# -- what may be worth comparing ----------------------------------------------------------------

MOST_SUGGESTED = 6
MOST_LISTED = 60
"""Runs that a picker lists beside the experiments."""


@dataclass(frozen=True)
class Suggestion:
    """Runs that may be worth comparing.

    Attributes
    ----------
    title : str
        What they are.
    names : tuple of str
        As an address has them.
    """

    title: str
    names: tuple[str, ...]


def options_of(rows: Sequence[Row]) -> dict[str, str]:
    """Return what can be picked: experiments with complete runs, then the newest of all runs.

    Parameters
    ----------
    rows : sequence of Row
        The newest first.

    Returns
    -------
    dict of str to str
        By the name that an address has, what a reader sees.
    """
    complete = [row.run for row in rows if row.run.status == "COMPLETED" and row.run.part is None]
    found = {run.experiment: run.experiment for run in complete if run.experiment}
    for row in rows[:MOST_LISTED]:
        run = row.run
        number = f"run {run.id}" if run.id is not None else run.uid
        when = f"{run.started:%Y-%m-%d %H:%M}" if run.started else ""
        told = ", ".join(filter(None, (run.title, run.status.lower(), when)))
        found.setdefault(run_key(run), f"{number}: {told}")
    return found


def partners_of(name: str, rows: Sequence[Row]) -> list[str]:
    """Return the options of the same stage as one that mean other runs than that."""
    stages = {row.run.experiment: row.run.stage for row in rows}
    stages |= {run_key(row.run): row.run.stage for row in rows}
    meant: dict[str, set[str]] = {}
    for row in newest_of_cells(rows).values():
        meant.setdefault(row.run.experiment, set()).add(run_key(row.run))
    mine = meant.get(name, {name})
    return [
        own
        for own in options_of(rows)
        if stages[own] == stages.get(name) and meant.get(own, {own}) - mine
    ]


def suggestions(rows: Sequence[Row]) -> list[Suggestion]:
    """Return what may be worth comparing: cells of a matrix, experiments of a stage, repetitions.

    Parameters
    ----------
    rows : sequence of Row
        The newest first; only complete runs are suggested.
    """
    complete = [row.run for row in rows if row.run.status == "COMPLETED" and row.run.part is None]
    cells: dict[str, dict[str, list[str]]] = {}
    stages: dict[str, dict[str, None]] = {}
    for run in complete:
        cells.setdefault(run.experiment, {}).setdefault(run.cell, []).append(run_key(run))
        stages.setdefault(run.stage, {})[run.experiment] = None
    found = [
        Suggestion(f"The {len(own)} cells of {name}", (name,))
        for name, own in cells.items()
        if len(own) > 1
    ]
    pairs = [
        Suggestion(f"{one} and {other}", (one, other))
        for stage, (one, other, *_) in ((s, list(e)) for s, e in stages.items() if len(e) > 1)
        if stage
    ]
    again = [
        Suggestion(f"The last two runs of {cell}", tuple(reversed(keys[:2])))
        for own in cells.values()
        for cell, keys in own.items()
        if len(keys) > 1
    ]
    kinds = [kind for kind in (found, pairs, again) if kind]
    each = -(-MOST_SUGGESTED // max(1, len(kinds)))
    return [one for kind in kinds for one in kind[:each]][:MOST_SUGGESTED]


def _of_cells(name: str, newest: Mapping[str, Row], graph: Graph) -> list[Row]:
    if name in newest:
        return [newest[name]]
    try:
        cells = [cell.name for cell in graph.select([name])]
    except SelectionError:
        cells = []
    declared = [newest[cell] for cell in cells if cell in newest]
    return declared or [row for row in newest.values() if row.run.experiment == name]


def labels_of(rows: Sequence[Row]) -> list[str]:
    """Return what each run is called: its cell, with its number where cells come twice."""
    cells = [row.run.cell or run_key(row.run) for row in rows]
    twice = {cell for cell in cells if cells.count(cell) > 1}
    numbers = [row.run.uid if row.run.id is None else f"#{row.run.id}" for row in rows]
    return [
        f"{cell} {number}" if cell in twice else cell
        for cell, number in zip(cells, numbers, strict=True)
    ]


def short_labels(labels: Sequence[str]) -> list[str]:
    """Return what tells labels apart, for a legend: of cells of one experiment what differs."""
    split = [_CELL.fullmatch(label) for label in labels]
    parts = [match[2].split(",") if match else [] for match in split]
    names = {match[1] if match else "" for match in split}
    if len(labels) < 2 or len(names) > 1 or len(set(map(len, parts))) > 1 or not parts[0]:
        return list(labels)
    differ = [index for index, found in enumerate(zip(*parts, strict=True)) if len(set(found)) > 1]
    short = [", ".join(own[index] for index in differ) for own in parts]
    return short if len(set(short)) == len(labels) else list(labels)


# -- settings and results ---------------------------------------------------------------------


def settings(rows: Sequence[Row], everything: bool = False) -> list[str]:
    """Return the keys of configurations: those that differ, or all."""
    keys = dict.fromkeys(key for row in rows for key in row.values if key.startswith("config."))
    return [key for key in keys if everything or _differs(rows, key)]


def _differs(rows: Sequence[Row], key: str) -> bool:
    held = [row.values[key] for row in rows if key in row.values]
    texts = {json.dumps(value, sort_keys=True, default=str) for value in held}
    return len(texts) + (len(held) < len(rows)) > 1


def result_keys(rows: Sequence[Row], numeric: bool = False) -> list[str]:
    """Return the keys of results; on demand those that are numbers wherever they are."""
    keys = dict.fromkeys(key for row in rows for key in row.values if key.startswith("result."))
    return [key for key in keys if not numeric or _is_numeric(rows, key)]


def _is_numeric(rows: Sequence[Row], key: str) -> bool:
    values = [row.values[key] for row in rows if row.values.get(key) is not None]
    return bool(values) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )


def numeric_results(rows: Sequence[Row]) -> list[str]:
    """Return the results that are numbers, by name; those that differ come first, settings last."""
    names = [key.removeprefix("result.") for key in result_keys(rows, numeric=True)]
    settings_too = {name for name in names if any(f"config.{name}" in row.values for row in rows)}
    return sorted(
        names, key=lambda name: (name in settings_too, not _differs(rows, f"result.{name}"))
    )


def less_is_better(key: str) -> bool:
    """Return a guess by the name of a result, as ``final_loss``."""
    return any(word in key.lower() for word in _LESS)


def best_of(rows: Sequence[Row], key: str, lower: bool) -> list[int]:
    """Return the indices of the runs with the best value; none where all are alike."""
    valued = {
        index: row.values[key]
        for index, row in enumerate(rows)
        if _is_numeric([row], key) and is_value(row.values[key])
    }
    if len(set(valued.values())) < 2:
        return []
    best = min(valued.values()) if lower else max(valued.values())
    return [index for index, value in valued.items() if value == best]


def settings_table(rows: Sequence[Row], everything: bool = False) -> Table:
    """Return configurations side by side; runs in columns if they are few."""
    labels, keys = labels_of(rows), settings(rows, everything)
    columns = {key: [_text(row.values.get(key), key in row.values) for row in rows] for key in keys}
    note = "" if everything else "Only settings that differ."
    frame = _sided(labels, columns, "setting", "config.")
    return Table("compared-settings", frame, "Settings", note)


def _text(value: Any, is_there: bool) -> str:
    return (setting_text(value) or "None") if is_there else MISSING


def results_table(rows: Sequence[Row], lower: Collection[str]) -> Table:
    """Return results side by side, with which run is best in what.

    Parameters
    ----------
    rows : sequence of Row
        The runs.
    lower : collection of str
        Results of which the smallest is best.
    """
    labels, keys = labels_of(rows), result_keys(rows)
    best = {key: best_of(rows, key, key in lower) for key in keys}
    columns: dict[str, list[Any]] = {key: _values(rows, key) for key in keys}
    frame = _sided(labels, columns, "result", "result.")
    if len(rows) <= SIDE_BY_SIDE:
        texts = [", ".join(labels[index] for index in best[key]) for key in keys]
        frame["best"] = [f"★ {text}" if text else "" for text in texts]
    else:
        names = [
            [key.removeprefix("result.") for key in keys if index in best[key]]
            for index in range(len(rows))
        ]
        frame["best in"] = [f"★ {', '.join(own)}" if own else "" for own in names]
    note = "★: best value, the smallest where smaller is better; ties share it."
    of = [measured_on(row.run) for row in rows]
    if told := list(dict.fromkeys(filter(None, of))):
        note += f" Accuracies {'; '.join(told)}{', by run' * (len(told) > 1)}."
    return Table("compared-results", frame, "Results", note)


def _values(rows: Sequence[Row], key: str) -> list[Any]:
    if _is_numeric(rows, key):
        return [np.nan if row.values.get(key) is None else float(row.values[key]) for row in rows]
    return [
        (value_text(row.values[key]) or "None") if key in row.values else MISSING for row in rows
    ]


def _sided(
    labels: Sequence[str], columns: Mapping[str, list[Any]], head: str, prefix: str
) -> pd.DataFrame:
    """Return runs in columns if they are few, else in rows; one type in each column."""
    names = [key.removeprefix(prefix) for key in columns]
    if len(labels) > SIDE_BY_SIDE:
        own = dict(zip(names, columns.values(), strict=True))
        return pd.DataFrame({"run": list(labels), **own})
    sides = {
        label: typed_column([values[index] for values in columns.values()])
        for index, label in enumerate(labels)
    }
    return pd.DataFrame({head: names, **sides})


# -- groups -----------------------------------------------------------------------------------


def facets(rows: Sequence[Row], graph: Graph) -> dict[str, list[Any]]:
    """Return what runs can be grouped by: differing settings, and axes of matrices, by name.

    Inherited axes, as the seed of what a cell was made from, stand under ``matrix.``, those of
    what was made first coming first.
    """
    columns: dict[str, list[Any]] = {}
    if len({row.run.experiment for row in rows}) > 1:
        columns["experiment"] = [row.run.experiment for row in rows]
    for key in settings(rows):
        name = key.removeprefix("config.")
        if name.partition(".")[0] not in _OWN_KEYS:
            columns[name] = [row.values.get(key) for row in rows]
    cells = [graph.cells.get(row.run.cell) for row in rows]
    axes = dict.fromkeys(label for cell in cells if cell for label in cell.values)
    for label in axes:
        values = [cell.values.get(label) if cell else None for cell in cells]
        if label not in columns and len(set(map(repr, values))) > 1:
            columns[f"{OWN_AXIS}{label}"] = values
    return columns


def default_facets(names: Iterable[str]) -> list[str]:
    """Return what to group by at first: everything but seeds.

    Experiments that differ by nothing but a seed are the same one, declared twice.
    """
    known = list(names)
    kept = [name for name in known if not is_seed(name)]
    return [] if kept == ["experiment"] != known else kept


def groups(
    rows: Sequence[Row],
    columns: Mapping[str, Sequence[Any]],
    by: Sequence[str],
    keys: Sequence[str] | None = None,
) -> Replicates:
    """Return the numeric results of runs, by group, over what else they differ in.

    Parameters
    ----------
    rows : sequence of Row
        The runs.
    columns : mapping of str to sequence
        As :func:`facets` returns them.
    by : sequence of str
        Names of them; runs that are alike in all of these are one group.
    keys : sequence of str, optional
        Of the results, as ``result.accuracy``; all by default.

    Returns
    -------
    Replicates
        A setting for each group. A replicate is a seed, the one that was drawn first where several
        vary; what else runs of a group differ in, where that is no seed; or a run, where they
        differ in nothing. Runs without a result are missing.
    """
    names, units = group_names(columns, by, len(rows)), _units(rows, columns, by)
    keys, labels = keys or result_keys(rows, numeric=True), labels_of(rows)
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    made = []
    for name, own in places.items():
        known = [place for place in own if rows[place].run.result]
        numbers = [(units[place], _numbers(rows[place], keys)) for place in known]
        missing = [labels[place] for place in own if place not in known]
        made.append(Replicated.of(name, numbers, missing, rows[own[0]].run.stage))
    return Replicates(tuple(made))


def group_names(columns: Mapping[str, Sequence[Any]], by: Sequence[str], n_rows: int) -> list[str]:
    """Return in words which group each run is of: what differs between runs of its experiment."""
    kinds = columns["experiment"] if "experiment" in by else [""] * n_rows
    held: dict[tuple[str, str], set[str]] = {}
    for name in by:
        for kind, value in zip(kinds, columns[name], strict=True):
            held.setdefault((kind, name), set()).add(setting_text(value))
    return [
        ", ".join(
            f"{name} {setting_text(columns[name][place])}"
            for name in by
            if name == "experiment" or len(held[kind, name]) > 1
        )
        or "all"
        for place, kind in enumerate(kinds)
    ]


def _units(
    rows: Sequence[Row], columns: Mapping[str, Sequence[Any]], by: Sequence[str]
) -> list[Any]:
    """Return what each run is a replicate by."""
    others = [name for name in columns if name not in by and name != "experiment"]
    seeds = sorted(filter(is_seed, others), key=lambda name: not name.startswith(OWN_AXIS))
    if seeds and len(seeds) == len(others):
        return [setting_text(value) for value in columns[seeds[0]]]
    if not others:
        return [run_key(row.run) for row in rows]
    return group_names(columns, others, len(rows))


def _numbers(row: Row, keys: Sequence[str]) -> dict[str, float]:
    held = {key: row.values[key] for key in keys if key in row.values}
    return {
        key.removeprefix("result."): np.nan if value is None else float(value)
        for key, value in held.items()
    }


def group_parts(
    rows: Sequence[Row],
    columns: Mapping[str, Sequence[Any]],
    by: Sequence[str],
    result: str,
    against: str = "",
) -> list[Part]:
    """Return one result by group as a figure and two tables, then the means of all results.

    Parameters
    ----------
    rows, columns, by
        As for :func:`groups`.
    result : str
        What is drawn and compared, without ``result.``.
    against : str
        Name of the group that others are compared with; the first by default.
    """
    found, one = groups(rows, columns, by), groups(rows, columns, by, [f"result.{result}"])
    places = {name: place for place, name in enumerate(group_names(columns, by, len(rows)))}
    frame = one.means().dropna(subset="mean")
    values = {name: [columns[name][places[own]] for own in frame["setting"]] for name in by}
    note = f"Mean over the replicates of each group, and its t interval of {found.percent}."
    figure = Figure(f"groups-{result}", _group_chart(frame, values, result), result, note)
    every, *_ = replicate_tables(found, "groups", ", all results")
    return [figure, *replicate_tables(one, f"groups-{result}", f", {result}", against), every]


def _group_chart(frame: pd.DataFrame, values: Mapping[str, list[Any]], result: str) -> Any:
    found = frame.rename(columns={"mean": "value"})
    across = next((name for name, held in values.items() if _is_axis(held)), None)
    others = [name for name in values if name != across]
    series = [
        ", ".join(f"{name} {setting_text(values[name][place])}" for name in others)
        for place in range(len(found))
    ]
    names = list(dict.fromkeys(series))
    if across is None or len(names) > len(PALETTE):
        return bars(found.rename(columns={"setting": "label"}), x_title=result, form=".3g")
    points = found[["value", "low", "high"]].assign(
        x=np.array(values[across], dtype=np.float64), series=series
    )
    axes: dict[str, Any] = {"x_title": across, "y_title": result, "form": ".3g"}
    return lines(points.sort_values("x"), x="x", y="value", series=names, **axes)


def _is_axis(values: Sequence[Any]) -> bool:
    is_number = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    return is_number and len(set(values)) > 2


# -- curves -----------------------------------------------------------------------------------


def metric_names(curves: Iterable[Sequence[Curve]]) -> list[str]:
    """Return the metrics that some run has logged."""
    return sorted({curve.name for own in curves for curve in own if not curve.points.empty})


def overlay(
    rows: Sequence[Row],
    curves: Sequence[Sequence[Curve]],
    metric: str,
    axis: str = "step",
    log: bool = False,
    smooth: float = 0.0,
) -> alt.LayerChart:
    """Return the curves of one metric in one chart, a colour and a dash for each run.

    Parameters
    ----------
    rows : sequence of Row
        The runs.
    curves : sequence of sequence of Curve
        Of each run.
    metric : str
        Name of the metric.
    axis : str
        ``step``, or ``time``: seconds since each run started.
    log, smooth
        As for :func:`dashboards.views.runs.curve_charts.curve_chart`.
    """
    labels = short_labels(labels_of(rows))
    found = [
        (label, row, curve)
        for label, row, own in zip(labels, rows, curves, strict=True)
        for curve in own
        if curve.name == metric and not curve.points.empty
    ]
    budget = max(50, MOST_POINTS // max(1, len(found)))
    parts = [
        _points(curve, row, smooth, budget).assign(series=label) for label, row, curve in found
    ]
    points = pd.concat(parts) if parts else pd.DataFrame({"series": [], "value": []})
    x = alt.X("step:Q", title="step")
    if axis == "time":
        x = alt.X("seconds:Q", title="time since the run started (s)")
    tips = [alt.Tooltip("series:N"), alt.Tooltip("step:Q"), alt.Tooltip("value:Q", format=NUMBER)]
    # one legend for both: up to 49 series differ in one or the other
    legend = alt.Legend(title=None, orient="top", labelLimit=260, columns=2, symbolOpacity=1)
    dashes = [DASHES[(n + n // len(DASHES)) % len(DASHES)] for n in range(len(labels))]
    dash_scale = alt.Scale(domain=labels, range=dashes)
    return curve_layers(
        points,
        "average" if smooth else "",
        log,
        260 + _LEGEND_ROW * ((len(labels) + 1) // 2),
        x=x,
        color=alt.Color("series:N", scale=series_scale(labels, PALETTE), legend=legend),
        strokeDash=alt.StrokeDash("series:N", scale=dash_scale, legend=legend),
        tooltip=tips,
        detail=alt.Detail("series:N"),
    )


def _points(curve: Curve, row: Row, smooth: float, budget: int) -> pd.DataFrame:
    points = curve.points
    start = row.run.started or points["time"].min()
    points = points.assign(
        seconds=(points["time"] - pd.Timestamp(start)).dt.total_seconds(),
        average=smoothed(curve, smooth) if smooth else points["value"],
    ).drop(columns="time")
    return points.iloc[thin(points["value"].to_numpy(), budget)]


# -- code -------------------------------------------------------------------------------------


def package_diff(first: pd.DataFrame, second: pd.DataFrame, labels: Sequence[str]) -> Table:
    """Return the packages whose versions differ between two runs.

    Parameters
    ----------
    first, second : pd.DataFrame
        As :func:`dashboards.views.runs.one_run.packages_frame` returns them.
    labels : sequence of str
        What the two runs are called.
    """
    old, new = (dict(zip(f["package"], f["version"], strict=True)) for f in (first, second))
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    columns = [names, [old.get(name) for name in names], [new.get(name) for name in names]]
    heads = ["package", *(labels if len(set(labels)) == 2 else ("first", "second"))]
    frame = pd.DataFrame(dict(zip(heads, columns, strict=True)), dtype=object)
    return Table("compared-packages", frame, "Packages that differ")


# -- pictures ---------------------------------------------------------------------------------


def gallery_of(row: Row, rows: Iterable[Row]) -> Row | None:
    """Return the run that drew the concepts of another: itself, or the newest that read it.

    Parameters
    ----------
    row : Row
        A run that made concepts, or an SAE of which others made concepts.
    rows : iterable of Row
        All runs, the newest first.
    """
    if row.run.output.get("schema") == "gallery":
        return row
    known = list(rows)
    behind = {row.run.uid} - {""}
    for _ in range(2):  # from an SAE to its concepts, to their pictures
        users = [
            user
            for user in known
            if user.run.status == "COMPLETED"
            and behind & {found["run"] for found in user.run.inputs.values()}
        ]
        drawn = [user for user in users if user.run.output.get("schema") == "gallery"]
        if drawn:
            return drawn[0]
        behind = {user.run.uid for user in users}
    return None
