"""The page of the pipeline: how far the declared experiments are, and why each would run."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboards.screens import frame as page
from dashboards.screens.parts import show_figure, show_numbers, show_parts, show_table
from dashboards.server.connection import written_at
from dashboards.views.parts.parts import Part
from dashboards.views.parts.text import literal
from dashboards.views.runs import pipeline as view
from dashboards.views.runs.advice import first_steps, run_command
from dashboards.views.runs.holdings import store_parts
from dashboards.views.runs.states import STATES, state_of
from registry.catalog.access import Catalog
from registry.plan.task import Plan, Task
from registry.upkeep.garbage import find_garbage
from registry.upkeep.inventory import take_inventory

HELP = (
    "Every declared experiment and what it needs. A task is due if it never ran, if its "
    "configuration or an input changed, or if its dataset is gone, judged by its fingerprint: a "
    "hash of all that can change the result. In a terminal: factbook plan."
)
TABLE = "table-of-tasks"
GRAPH = "graph-of-tasks"
LIVE = "5s"
MOST_NODES = 150


def show() -> None:
    """Show the page."""
    catalog = page.begin("Pipeline", HELP)
    names = view.choices(catalog.project.declaration)
    targets = st.multiselect(
        "Suites, experiments, patterns",
        names,
        default=[name for name in ("demo",) if name in names],
        accept_new_options=True,
        placeholder="all experiments",
        help="As for factbook plan: shapes-*, or cells, as sweep[k=8].",
        key="of",
        bind=page.BOUND,
    )
    if not names:
        page.tell(first_steps(catalog.project))
        return
    with page.explained(stop=True):
        plan = page.plan_of(catalog, tuple(targets))
    is_live = any(task.is_running for task in plan.tasks)
    st.fragment(_body, run_every=LIVE if is_live else None)(tuple(targets), is_live)
    if st.toggle("What the store holds", key="store", bind=page.BOUND):
        with page.explained():
            show_parts(_held(catalog, str(catalog.project.root), written_at(catalog)))


@st.cache_resource(max_entries=4, ttl=30, show_spinner="Looking through the store …")
def _held(_catalog: Catalog, root: str, written: int) -> list[Part]:
    garbage = find_garbage(_catalog.project)
    return store_parts(take_inventory(_catalog.project), garbage)


def _body(targets: tuple[str, ...], was_live: bool) -> None:
    with page.explained():
        plan = page.plan_of(page.open_catalog(), targets)
        if was_live and not any(task.is_running for task in plan.tasks):
            st.rerun()
        show_numbers(view.plan_numbers(plan))
        tasks = view.tasks_of(plan)
        nodes, _ = view.nodes_and_edges(tasks)
        if len(nodes) <= MOST_NODES:
            show_figure(
                view.graph_figure(tasks),
                key=GRAPH,
                on_select=lambda: _choose_box(tasks),
                selection_mode=[view.BOX],
            )
        else:
            st.info(f"Too many experiments to draw ({len(nodes):,}). Choose a suite or a pattern.")
        _chosen(tasks)
        _due(plan, targets)
        _table(tasks)


def _due(plan: Plan, targets: Sequence[str]) -> None:
    command = view.run_command_of(plan, targets)
    if command:
        st.markdown("**Run what is due**")
        st.code(command, language="bash", wrap_lines=True)
    else:
        st.caption("Nothing is due.")


def _chosen(tasks: Sequence[Task]) -> None:
    """Offer to choose a task, and tell of the chosen one."""
    with st.container(width=420):
        name = st.text_input(
            "Task", placeholder="click a box or a row", key="task", bind=page.BOUND
        )
    if task := next((task for task in tasks if task.name == name), None):
        _task(task)
    elif name:
        st.caption("No such task here.")


def _choose_box(tasks: Sequence[Task]) -> None:
    marked = st.session_state[GRAPH]["selection"].get(view.BOX) or [{}]
    st.session_state["task"] = view.task_of_box(tasks, str(marked[0].get("name", "")))


def _table(tasks: Sequence[Task]) -> None:
    names = [task.name for task in tasks]
    chosen = st.session_state.get("task") or st.query_params.get("task", "")
    page.mark_rows(TABLE, names, [chosen])
    show_table(
        view.task_table(tasks),
        key=TABLE,
        on_select=lambda: _choose(names),
        selection_mode="single-row",
    )


def _choose(names: Sequence[str]) -> None:
    st.session_state["task"] = next((names[row] for row in page.marked_rows(TABLE)), "")


def _task(task: Task) -> None:
    """Show why a task would run, and where to look further."""
    state = state_of(task)
    st.subheader(literal(task.name), anchor=False)
    st.caption(f"{STATES[state][0]} {state}")
    for reason in task.reasons:
        st.markdown(f"- {literal(reason)}")
    for note in task.notes:
        st.caption(literal(note))
    if run := task.state.earlier_run:
        st.caption(f"Complete as it was declared before: run {literal(run)}.")
    with st.container(horizontal=True):
        if task.state.run:
            page.link_to("runs", "Latest run", run=task.state.run)
        if state == "complete":
            page.link_to(task.cell.provides, "Open", cell=task.name)
        elif run := task.state.earlier_run:
            label = "Open what was made before"
            page.link_to(task.cell.provides, label, cell=task.name, run=run)
    if task.due:
        st.code(run_command(task.name), language="bash", wrap_lines=True)
