"""The pipeline: how tasks stand, and a graph whose edges go one way and whose boxes stand apart."""

from __future__ import annotations

import shlex
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.views.parts.parts import Figure
from dashboards.views.runs import pipeline as view
from dashboards.views.runs.states import STATES, state_of
from dashboards.views.sections import sections_of
from registry.catalog.access import Catalog, open_catalog
from registry.plan.project import Project
from registry.plan.task import Plan, Reason, Task, TaskState, Why
from registry.record.states import State
from tests.dashboards import fabricate
from tests.dashboards.fabricate import HOSTILE


def tasks_by_name(catalog: Catalog) -> dict[str, Task]:
    return {task.name: task for task in view.tasks_of(catalog.plan())}


@pytest.mark.slow
def test_states_of_tasks(catalog: Catalog) -> None:
    tasks = tasks_by_name(catalog)
    known = {name: state_of(task) for name, task in tasks.items()}
    assert known["toy-concepts"] == known["toy-gallery"] == "waiting for upstream"
    assert known["toy-sae[k=8]"] == "never ran"


@pytest.mark.parametrize(
    ("status", "why", "state"),
    [
        (State.NEVER, (Why.NEVER,), "never ran"),
        (State.NEVER, (Why.CONFIG,), "changed"),
        (State.NEVER, (Why.NEVER, Why.INPUT), "changed"),
        (State.COMPLETE, (Why.FORCED,), "changed"),
        (State.COMPLETE, (Why.UPSTREAM,), "waiting for upstream"),
        (State.COMPLETE, (), "complete"),
        (State.FAILED, (Why.FAILED,), "failed or interrupted"),
        (State.DIED, (Why.DIED,), "failed or interrupted"),
        (State.INTERRUPTED, (Why.INTERRUPTED,), "failed or interrupted"),
        (State.MISSING, (Why.MISSING,), "failed or interrupted"),
        (State.DAMAGED, (Why.DAMAGED,), "failed or interrupted"),
        (State.NEVER, (Why.UNREADABLE,), "unreadable"),
        (State.RUNNING, (), "running"),
    ],
)
def test_every_reason_has_a_state_with_a_sign(
    catalog: Catalog, status: State, why: tuple[Why, ...], state: str
) -> None:
    task = tasks_by_name(catalog)["toy-concepts"]
    reasons = tuple(Reason(kind, str(kind)) for kind in why)
    task = replace(task, state=TaskState(status), reasons=reasons)
    assert state_of(task) == state
    assert view.reason_text(task) == "; ".join(why)


def test_signs_and_grounds_are_all_different() -> None:
    signs, grounds = zip(*STATES.values(), strict=True)
    assert len(set(signs)) == len(set(grounds)) == len(STATES)


def test_the_table_tells_why_and_where(catalog: Catalog) -> None:
    table = view.task_table(view.tasks_of(catalog.plan())).frame.set_index("task")
    assert table.loc["toy-sae[k=8]", "state"] == "○ never ran"
    assert table.loc["toy-sae[k=8]", "reason"] == "never ran"
    assert table.loc["toy-concepts", "run"] == fabricate.run_uid("toy-concepts", 6)
    assert "toy.train" in table.loc["toy-sae[k=16]", "stage"]


def test_the_command_is_safe_to_paste(catalog: Catalog) -> None:
    plan = catalog.plan()
    command = view.run_command_of(plan, ["toy-sae[k=8]", "$(x)"])
    assert shlex.split(command) == ["factbook", "run", "toy-sae[k=8]", "$(x)"]
    assert view.run_command_of(Plan(()), ["x"]) == ""


def test_numbers_of_a_plan(project: Project) -> None:
    plan = open_catalog(project.root, "off").plan()
    numbers = {number.label: number.value for number in view.plan_numbers(plan)}
    assert numbers == {"tasks": "5", "○ never ran": "5", "expected": "–"}


def test_known_durations_are_a_lower_bound(project: Project) -> None:
    plan = open_catalog(project.root, "off").plan()
    first, *others = plan.tasks
    told = view.plan_numbers(Plan((replace(first, seconds=65.0), *others)))
    assert told[-1].value == "> 1 min 5 s"
    assert "; 4 more" in told[-1].meaning


def test_cells_are_grouped_and_the_worst_is_shown(catalog: Catalog) -> None:
    nodes, edges = view.nodes_and_edges(view.tasks_of(catalog.plan()))
    named = {node.name: node for node in nodes}
    assert named["toy-sae"].count == 2
    assert named["toy-sae"].detail == "0 of 2 complete"
    assert named["toy-concepts"].label == "… toy-concepts"
    assert "toy-sae[k=8]" in named["toy-concepts"].why
    assert named["toy-sae"].why == "never ran (2)" or "died" in named["toy-sae"].why
    assert set(edges) == {
        ("toy-sae", "toy-concepts"),
        ("toy-concepts", "toy-gallery"),
        ("toy-concepts", "toy-names"),
    }


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("shapes-concepts", ["shapes-concepts"]),
        ("shapes-seed1-concepts", ["shapes-seed1-", "concepts"]),
        ("fashion-sweep-interventions", ["fashion-sweep-", "interventions"]),
        ("nothingtobreakittherein", ["nothingtobreakit", "therein"]),
        ("a-verylongnamewithonedash", ["a-verylongnamewi", "thonedash"]),
        ("", [""]),
    ],
)
def test_long_names_stand_in_two_lines(name: str, lines: list[str]) -> None:
    assert view.in_two_lines(name, 16).split("\n") == lines


def test_data_from_outside_is_a_node() -> None:
    node = view.Node("shapes", {"data": 1})
    assert (node.label, node.detail) == ("◇ shapes", "data")
    mixed = view.Node("x", {"complete": 7, "failed or interrupted": 1, "never ran": 2})
    assert (mixed.state, mixed.detail) == ("failed or interrupted", "7 of 10 complete")


def test_what_can_be_asked_for(project: Project) -> None:
    assert view.choices(project.declaration)[:2] == ["demo", "toy-sae"]


# -- the graph --------------------------------------------------------------------------------

graphs = st.integers(1, 14).flatmap(
    lambda count: st.tuples(
        st.just([f"n{n}" for n in range(count)]),
        st.lists(st.sampled_from(list(combinations(range(count), 2)) or [None]), max_size=40),
    )
)


@given(graphs)
@pytest.mark.slow
def test_edges_lead_to_the_right_and_nothing_overlaps(drawn: tuple[list[str], list[Any]]) -> None:
    names, pairs = drawn
    edges = list(dict.fromkeys((names[a], names[b]) for a, b in filter(None, pairs)))
    layout = view.lay_out(names, edges)
    assert set(layout.positions) == set(names)
    points: dict[int, list[float]] = {}
    for source, target, route in layout.routes:
        levels = [level for level, _ in route]
        assert levels == list(range(layout.positions[source][0], layout.positions[target][0] + 1))
        assert len(levels) >= 2
        for level, place in route[1:-1]:
            points.setdefault(level, []).append(place)
    for level, place in layout.positions.values():
        assert level >= 0
        points.setdefault(level, []).append(place)
    for places in points.values():
        ordered = sorted(places)
        assert ordered[0] >= -1e-9
        assert all(b - a >= 1 - 1e-9 for a, b in pairwise(ordered))


def test_a_chain_is_straight_and_a_tree_does_not_cross() -> None:
    chain = view.lay_out(list("abcd"), [("a", "b"), ("b", "c"), ("c", "d")])
    assert {place for _, place in chain.positions.values()} == {0.0}
    names = ["root", "l", "r", "l1", "l2", "r1", "r2"]
    edges = [("root", "r"), ("root", "l"), *(("l", f"l{n}") for n in (1, 2))]
    edges += [("r", f"r{n}") for n in (2, 1)]
    places = view.lay_out(names, edges).positions
    left, right = ({places[f"{side}{n}"][1] for n in (1, 2)} for side in "lr")
    assert max(left) < min(right) or max(right) < min(left)


def test_a_box_stands_for_the_cell_that_asks_for_most_attention(catalog: Catalog) -> None:
    tasks = view.tasks_of(catalog.plan())
    assert view.task_of_box(tasks, "toy-concepts") == "toy-concepts"
    first = view.task_of_box(tasks, "toy-sae")
    other = next(task for task in tasks if task.experiment == "toy-sae" and task.name != first)
    failed = replace(other, state=TaskState(State.FAILED))
    mixed = [failed if task is other else task for task in tasks]
    assert view.task_of_box(mixed, "toy-sae") == other.name
    assert view.task_of_box(tasks, "data from outside") == view.task_of_box(tasks, "") == ""


def test_the_figure_is_drawn_without_a_network(catalog: Catalog) -> None:
    figure = view.graph_figure(view.tasks_of(catalog.plan()))
    svg = figure.svg()
    for text in ("… toy-gallery", "0 of 2 complete", "waiting for upstream"):
        assert text in svg
    assert "http" not in svg.replace("http://www.w3.org", "")


def test_hostile_names_are_drawn_as_text(catalog: Catalog) -> None:
    task = tasks_by_name(catalog)["toy-concepts"]
    cell = replace(task.cell, name=HOSTILE, experiment=HOSTILE, needs={})
    svg = view.graph_figure([replace(task, cell=cell)]).svg()
    assert "<script" not in svg
    assert "&lt;script&gt;alert" in svg


@pytest.mark.slow
def test_a_report_of_several_cells_begins_with_the_pipeline(catalog: Catalog) -> None:
    sections = sections_of(catalog, ["demo"])
    assert [section.title for section in sections[:2]] == ["Pipeline", "toy-sae[k=8]"]
    [one] = sections_of(catalog, ["toy-sae[k=8]"])
    figures = {part.title for part in one.parts if isinstance(part, Figure)}
    assert figures == {"accuracy", "training.loss"}
