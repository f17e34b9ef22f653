"""The pipeline: what is declared, how far it is, and why each task would run."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from itertools import pairwise
from statistics import fmean
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from dashboards.views.parts.charts import layers
from dashboards.views.parts.parts import Figure, Number, Table
from dashboards.views.parts.text import duration_text
from dashboards.views.runs.states import STATES, state_of
from registry.columns import DURATION, Column
from registry.declare.declared import Declaration
from registry.plan.task import Plan, Task

_URGENT = ("unreadable", "failed or interrupted", "running", "changed", "never ran")
_WORST = (*_URGENT, "waiting for upstream", "complete", "data")
_INK, _FAINT_INK, _EDGE = "#1c1c1e", "#4a4a50", "#8a8a8a"
_HALF_WIDTH, _HALF_HEIGHT = 0.43, 0.36
_COLUMN, _ROW = 190, 66  # pixels of a layer, and of a position in it
_LEAST_COLUMN = 150  # pixels of a layer where a page is narrow, so that names of boxes stay apart
_LINE = 17  # letters of a name that stand on a line of its box
_LINES_AT = {0: (-6, 9), 1: (-14, 15)}
"""Pixels from the middle of a box to its name, and to what stands below: by breaks of the name."""
_LEGEND = 60  # pixels that a legend takes of the height in a browser
BOX = "box"
"""Name of the selection that a click on a box of the graph makes."""

_LEAST_LAYERS = 6  # so that the boxes of a short pipeline do not grow wide
_SWEEPS = 8


def reason_text(task: Task) -> str:
    """Return why a task would run, or what is worth knowing although it would not."""
    return "; ".join(filter(None, (task.reason, *task.notes)))


def tasks_of(plan: Plan) -> list[Task]:
    """Return all tasks of a plan, each after those that it needs."""
    return [*plan.settled, *plan.tasks]


# -- the table --------------------------------------------------------------------------------


def task_table(tasks: Sequence[Task]) -> Table:
    """Return a row per task: how it stands, why it would run, and about how long."""
    states = [state_of(task) for task in tasks]
    frame = pd.DataFrame(
        {
            "task": [task.name for task in tasks],
            "state": [_signed(state) for state in states],
            "reason": [reason_text(task) for task in tasks],
            "stage": [task.stage for task in tasks],
            "expected": pd.Series([task.seconds for task in tasks], dtype="float64"),
            "run": [task.state.run or "" for task in tasks],
        }
    )
    columns = {
        "reason": Column(help="why it would run, or a remark"),
        "expected": Column(DURATION, help="median of earlier runs, if due"),
        "run": Column(header="latest run"),
    }
    return Table("tasks", frame, "Tasks", columns=columns)


def plan_numbers(plan: Plan) -> list[Number]:
    """Return how many tasks stand how, and how long what is due will take."""
    tasks = tasks_of(plan)
    counts = Counter(map(state_of, tasks))
    numbers = [Number("tasks", f"{len(tasks):,}", "selected, or needed by a selected one")]
    numbers += [Number(_signed(state), f"{counts[state]:,}") for state in STATES if counts[state]]
    if plan.due:
        numbers.append(_expected(plan))
    return numbers


def _expected(plan: Plan) -> Number:
    """Return how long what is due takes, at least, where some of it never ran."""
    meaning = "sequentially, medians of earlier runs"
    if plan.unknown == len(plan.due):
        return Number("expected", "–", "no earlier runs")
    if plan.unknown:
        meaning += f"; {plan.unknown:,} more never ran"
    more = "> " if plan.unknown else ""
    return Number("expected", more + duration_text(plan.seconds), meaning)


def run_command_of(plan: Plan, targets: Sequence[str]) -> str:
    """Return what to type for all that is due, "" where nothing is."""
    return shlex.join(["factbook", "run", *targets]) if plan.due else ""


def choices(declaration: Declaration) -> list[str]:
    """Return what can be asked for: suites, then experiments."""
    return list(dict.fromkeys([*declaration.suites, *declaration.experiments]))


# -- the graph --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """One experiment with all its cells in the plan, or data from outside.

    Attributes
    ----------
    name : str
        As declared.
    states : mapping of str to int
        How many cells stand how.
    reasons : mapping of str to int
        Why how many of them would run.
    """

    name: str
    states: Mapping[str, int]
    reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of cells."""
        return sum(self.states.values())

    @property
    def state(self) -> str:
        """The state that asks for most attention."""
        return next(state for state in _WORST if self.states.get(state))

    @property
    def label(self) -> str:
        """Its sign and its name, in two lines where it is too long for one."""
        return in_two_lines(f"{STATES[self.state][0]} {self.name}", _LINE)

    @property
    def detail(self) -> str:
        """How many of several cells are complete, or the state of a single one."""
        if self.count == 1 or self.state == "data":
            return self.state
        complete = self.states.get("complete", 0)
        return f"{complete:,} of {self.count:,} complete"

    @property
    def why(self) -> str:
        """The most frequent reasons."""
        most = Counter(self.reasons).most_common(3)
        return "; ".join(f"{text} ({count:,})" if count > 1 else text for text, count in most)


def in_two_lines(text: str, longest: int) -> str:
    """Return a text that is too long for a line in two, broken behind a dash or a dot."""
    if len(text) <= longest:
        return text
    places = [place for place, letter in enumerate(text, 1) if letter in "-._[" and place > 3]
    fitting = [place for place in places if place <= longest]
    middle = min(fitting, key=lambda place: abs(place - len(text) / 2), default=longest)
    return f"{text[:middle]}\n{text[middle:]}"


def nodes_and_edges(tasks: Iterable[Task]) -> tuple[list[Node], list[tuple[str, str]]]:
    """Return experiments and data as nodes, and what needs what as pairs (needed, needing)."""
    states: dict[str, Counter[str]] = {}
    reasons: dict[str, Counter[str]] = {}
    edges: dict[tuple[str, str], None] = {}
    experiment_of: dict[str, str] = {}
    for task in tasks:
        experiment_of[task.name] = task.experiment
        for name in task.cell.needs.values():
            source = experiment_of.get(name, name)
            if source not in states:
                states[source] = Counter({"data": 1})
            edges[source, task.experiment] = None
        states.setdefault(task.experiment, Counter())[state_of(task)] += 1
        if text := reason_text(task):
            reasons.setdefault(task.experiment, Counter())[text] += 1
    nodes = [Node(name, dict(own), dict(reasons.get(name, {}))) for name, own in states.items()]
    return nodes, [edge for edge in edges if edge[0] != edge[1]]


def task_of_box(tasks: Sequence[Task], name: str) -> str:
    """Return the task behind a box: of several cells one that asks for most attention.

    Parameters
    ----------
    tasks : sequence of Task
        All that are drawn.
    name : str
        Of the box, an experiment's; "" is returned of any other, as of data from outside.
    """
    own = [task for task in tasks if task.experiment == name]
    return min(own, key=lambda task: _WORST.index(state_of(task))).name if own else ""


@dataclass(frozen=True)
class Layout:
    """Where nodes stand, and the points that each edge runs through.

    Attributes
    ----------
    positions : mapping of str to (int, float)
        Layer, from the left, and position in it, of each node.
    routes : list of (source, target, points)
        Points (layer, position), one in every layer from source to target.
    """

    positions: Mapping[str, tuple[int, float]]
    routes: Sequence[tuple[str, str, Sequence[tuple[int, float]]]]


def lay_out(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> Layout:
    """Return a layered layout (Sugiyama et al., IEEE SMC 1981): few crossings, edges to the right.

    Parameters
    ----------
    names : sequence of str
        Nodes, each after those that it needs.
    edges : sequence of (str, str)
        Needed and needing node; without cycles.
    """
    layer = _layers(names, edges)
    chains = [_chain(edge, layer) for edge in edges]
    members: dict[int, list[Any]] = {}
    for name in names:
        members.setdefault(layer[name], []).append(name)
    for chain in chains:
        for level, point in chain[1:-1]:
            members.setdefault(level, []).append(point)
    links = [(a, b) for chain in chains for (_, a), (_, b) in pairwise(chain)]
    positions = _ordered([members[level] for level in sorted(members)], links)
    routes = [
        (edge[0], edge[1], [(level, positions[point]) for level, point in chain])
        for edge, chain in zip(edges, chains, strict=True)
    ]
    return Layout({name: (layer[name], positions[name]) for name in names}, routes)


def _layers(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return how far each node is from the left: by the longest path that leads to it.

    What needs nothing stands just before its first use.
    """
    before, after = _neighbours(edges)
    layer: dict[str, int] = {}
    for name in TopologicalSorter({name: before.get(name, ()) for name in names}).static_order():
        layer[name] = max((layer[other] + 1 for other in before.get(name, ())), default=0)
    for name in names:
        if name not in before and name in after:
            layer[name] = min(layer[other] for other in after[name]) - 1
    return layer


def _neighbours(links: Iterable[tuple[Any, Any]]) -> tuple[dict[Any, list[Any]], ...]:
    """Return what comes directly before each point, and what comes after it."""
    before: dict[Any, list[Any]] = {}
    after: dict[Any, list[Any]] = {}
    for a, b in links:
        before.setdefault(b, []).append(a)
        after.setdefault(a, []).append(b)
    return before, after


def _chain(edge: tuple[str, str], layer: Mapping[str, int]) -> list[tuple[int, Any]]:
    """Return an edge as points in consecutive layers; those between are its own."""
    source, target = edge
    between = range(layer[source] + 1, layer[target])
    return [
        (layer[source], source),
        *((level, (source, target, level)) for level in between),
        (layer[target], target),
    ]


def _ordered(layers: Sequence[list[Any]], links: Sequence[tuple[Any, Any]]) -> dict[Any, float]:
    """Return positions in layers: points near the mean of their neighbours, 1 apart at least."""
    from scipy.optimize import isotonic_regression  # takes long to import

    before, after = _neighbours(links)
    positions = {point: float(n) for layer in layers for n, point in enumerate(layer)}
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        neighbours = before if forward else after
        for layer in layers if forward else reversed(layers):
            wanted = {
                point: fmean(positions[other] for other in neighbours.get(point, [point]))
                for point in layer
            }
            layer.sort(key=lambda point: (wanted[point], positions[point]))
            # as near to what is wanted, by least squares, as a distance of one allows
            apart = np.arange(len(layer))
            near = isotonic_regression([wanted[point] for point in layer] - apart).x + apart
            positions.update(zip(layer, near.tolist(), strict=True))
    least = min(positions.values(), default=0.0)
    return {point: position - least for point, position in positions.items()}


def graph_figure(tasks: Sequence[Task]) -> Figure:
    """Return the graph of experiments as a figure, drawn without a network.

    Parameters
    ----------
    tasks : sequence of Task
        Each after those that it needs.
    """
    nodes, edges = nodes_and_edges(tasks)
    layout = lay_out([node.name for node in nodes], edges)
    points = _edge_frame(layout)
    xs, ys = zip(*layout.positions.values(), strict=True) if nodes else ((), ())
    layers_shown = max(max(xs, default=0) + 1, _LEAST_LAYERS)
    deepest = max([*ys, *points["y"]], default=0.0)
    across = alt.Scale(domain=[-0.5, layers_shown - 0.5], nice=False, zero=False)
    down = alt.Scale(domain=[deepest + 0.5, -0.5], nice=False, zero=False)

    def at(x: str, y: str) -> dict[str, Any]:
        return {
            "x": alt.X(f"{x}:Q", scale=across, axis=None),
            "y": alt.Y(f"{y}:Q", scale=down, axis=None),
        }

    line = alt.Chart(points).mark_line(
        color=_EDGE, opacity=0.7, strokeWidth=1.2, interpolate="monotone"
    )
    head = alt.Chart(points[points["end"].astype(bool)]).mark_point(
        shape="triangle-right", filled=True, color=_EDGE, size=40, xOffset=-3, opacity=1
    )
    arrows = layers(
        line.encode(**at("x", "y"), detail=alt.Detail("edge:N"), order=alt.Order("order:Q")),
        head.encode(**at("x", "y")),
    )
    base = alt.Chart(_node_frame(nodes, layout))
    tips = [alt.Tooltip(f"{name}:N") for name in ("name", "detail", "cells", "why")]
    box = base.mark_rect(stroke=_EDGE, cornerRadius=5, strokeWidth=1, cursor="pointer").encode(
        **at("left", "top"),
        x2=alt.X2("right"),
        y2=alt.Y2("bottom"),
        color=_state_colour(nodes),
        tooltip=tips,
    )
    shared: dict[str, Any] = {"limit": int(2 * _HALF_WIDTH * _LEAST_COLUMN) - 6}
    shared |= {"cursor": "pointer", "baseline": "middle", "lineBreak": "\n"}
    name = base.mark_text(color=_INK, fontSize=12, lineHeight=13, **shared)
    detail = base.mark_text(color=_FAINT_INK, fontSize=10.5, **shared)
    chart = layers(
        *([arrows] if edges else []),
        box.add_params(alt.selection_point(name=BOX, fields=["name"])),
        name.encode(**at("x", "name_y"), text=alt.Text("label:N"), tooltip=tips),
        detail.encode(**at("x", "detail_y"), text=alt.Text("detail:N"), tooltip=tips),
    ).properties(width=_COLUMN * layers_shown, height=int(_ROW * (deepest + 1)) + _LEGEND)
    note = (
        "Arrows lead from inputs to what needs them. An experiment with a matrix is one box, "
        "coloured by its most urgent cell; hover for reasons."
    )
    least = _LEAST_COLUMN * layers_shown
    return Figure("pipeline", chart.configure_view(stroke=None), note=note, least_width=least)


def _edge_frame(layout: Layout) -> pd.DataFrame:
    """Return each edge as points, from the right side of one box to the left side of another."""
    rows = []
    for edge, (_, _, points) in enumerate(layout.routes):
        inner = [0.0] * (len(points) - 2)
        sides = [_HALF_WIDTH, *inner, -_HALF_WIDTH]
        for order, ((x, y), side) in enumerate(zip(points, sides, strict=True)):
            is_end = order == len(points) - 1
            rows.append((str(edge), order, x + side, y, is_end))
    return pd.DataFrame(rows, columns=["edge", "order", "x", "y", "end"])


def _node_frame(nodes: Sequence[Node], layout: Layout) -> pd.DataFrame:
    rows = []
    for node in nodes:
        x, y = layout.positions[node.name]
        above, below = _LINES_AT[node.label.count("\n")]
        rows.append(
            {
                **{"x": x, "left": x - _HALF_WIDTH, "right": x + _HALF_WIDTH},
                **{"y": y, "top": y - _HALF_HEIGHT, "bottom": y + _HALF_HEIGHT},
                **{"name_y": y + above / _ROW, "detail_y": y + below / _ROW},
                **{"name": node.name, "label": node.label, "detail": node.detail},
                **{"state": _signed(node.state), "cells": node.count},
                "why": node.why or "nothing to do",
            }
        )
    return pd.DataFrame(rows)


def _signed(state: str) -> str:
    return f"{STATES[state][0]} {state}"


def _state_colour(nodes: Sequence[Node]) -> alt.Color:
    known = {node.state for node in nodes}
    shown = [state for state in STATES if state in known]
    scale = alt.Scale(
        domain=[_signed(state) for state in shown], range=[STATES[state][1] for state in shown]
    )
    legend = alt.Legend(title=None, orient="top", symbolStrokeWidth=1, symbolSize=140)
    return alt.Color("state:N", scale=scale, legend=legend)
