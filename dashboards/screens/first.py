"""The first page: a project at a glance, its concepts, what is behind them, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import streamlit as st

from dashboards.screens import datasets
from dashboards.screens import frame as page
from dashboards.screens.notes import own_names
from dashboards.screens.parts import show_numbers, show_part
from dashboards.views.concepts import concepts as view
from dashboards.views.concepts import labels
from dashboards.views.concepts.neurons import without_pictures_line, words_of
from dashboards.views.parts.text import literal
from dashboards.views.runs import chain
from dashboards.views.runs.one_run import Progress, progress
from dashboards.views.runs.runs import RunQuery, newest_rows
from dashboards.views.runs.settings import maker_of
from registry.catalog.access import Catalog, UnknownRunError
from registry.catalog.lineage import Entry, Lineage
from registry.catalog.runs import RunView
from registry.plan.task import Plan, Task

HELP = (
    "What the networks of this project know, how far each chain of experiments is, and what to "
    "run next. Click a picture to enlarge it, a name to open its concept."
)
MOST_MODELS, MOST_CONCEPTS, MOST_RUNS = 4, 12, 8
MOST_LINKED, MOST_NAMED = 60, 6
REFRESH = "5s"
NUMBERS = 5
SEEN = "seen runs"
"""Where a session keeps the newest runs; no identifier, so that no address holds it."""


def show() -> None:
    """Show the page."""
    catalog = page.begin("Overview", HELP)
    newest = _newest(catalog)
    with page.explained(stop=True):
        plan = page.plan_of(catalog, ())
    if not newest and not plan.settled and len(plan.due) == len(plan.tasks):
        _steps(catalog)
        return
    tasks = {task.name: task for task in (*plan.settled, *plan.tasks)}
    lineage = page.lineage(catalog)
    sets = datasets.sets_of(lineage)
    made = [name for name in sets if lineage.is_made(name)]
    shown = sorted(made, key=lambda name: not _has_pictures(lineage, name))[:MOST_MODELS]
    missing = [name for name in sets if name not in made]
    groups = [shown, *([name] for name in missing)]
    _next(plan, (_tasks_of(catalog, lineage, names, tasks) for names in groups))
    for name in shown:
        _model(catalog, lineage, name, tasks)
    if others := [lineage.entries[name] for name in sets if name not in shown]:
        _others(others)
    _runs(newest)
    _watch(any(task.is_running for task in plan.tasks))


def _newest(catalog: Catalog) -> list[RunView]:
    """Return the newest runs, without waiting until all are read."""
    snapshot = page.run_index(catalog).peek()
    with page.explained():
        rows = snapshot.rows if snapshot else newest_rows(catalog, RunQuery(limit=MOST_RUNS))
        return [row.run for row in rows if not row.is_archived][:MOST_RUNS]
    return []


def _steps(catalog: Catalog) -> None:
    st.markdown("**Nothing has run yet.** Three steps:")
    for number, step in enumerate(chain.first_steps(catalog.project), start=1):
        sign = ":material/check_circle:" if step.is_done else f"{number}."
        st.markdown(f"{sign} **{step.title}.** {literal(step.words)}")
        if step.code:
            st.code(step.code, language=step.language, wrap_lines=True)


def _has_pictures(lineage: Lineage, name: str) -> bool:
    gallery = maker_of(lineage, name, "gallery")
    return bool(gallery) and lineage.is_made(gallery)


def _tasks_of(
    catalog: Catalog, lineage: Lineage, names: Sequence[str], tasks: Mapping[str, Task]
) -> list[Task]:
    """Return what makes all that concept models rest on, and all that rests on them."""
    chains = (chain.chain_of(catalog.project, lineage.entries[name].cell) for name in names)
    return [tasks[cell] for cells in chains for cell in cells if cell in tasks]


def _next(plan: Plan, chains: Iterable[Sequence[Task]]) -> None:
    """Say how all tasks stand; the first chain of which something is due, else all that is."""
    st.markdown(literal(chain.summary_line(plan)))
    due = next((tasks for tasks in chains if chain.next_command(tasks)), plan.tasks)
    command = chain.next_command(due)
    if command:
        st.markdown(f"**Next** {literal(chain.next_line(due))}")
        st.code(command, language="bash", wrap_lines=True)
    else:
        st.caption("Nothing is due.")


# -- one model ------------------------------------------------------------------------------------


def _model(catalog: Catalog, lineage: Lineage, name: str, tasks: Mapping[str, Task]) -> None:
    """Show a concept model: its strongest concepts, and the chain behind it."""
    entry = lineage.entries[name]
    st.subheader(literal(entry.title), anchor=False)
    with page.explained(entry.cell if entry.is_current else ""):
        _wall(catalog, lineage, datasets.made_by(catalog, lineage, name))
    if entry.cell in catalog.project.graph.cells:
        cells = chain.chain_of(catalog.project, entry.cell)
        own = [tasks[cell] for cell in cells if cell in tasks]
        st.html(chain.chain_html(chain.links_of(own, lambda task: _progress(catalog, task))))
        if line := chain.undeclared_line(catalog.project, entry.cell, cells):
            st.caption(literal(line))
    with st.container(horizontal=True):
        what = "concepts" if entry.provides == "concepts" else "neurons"
        page.link_to("concepts", f"All its {what}", **entry.address)
        if entry.provides == "concepts":
            page.link_to("decisions", "Its decisions", **entry.address)


def _wall(catalog: Catalog, lineage: Lineage, concepts: datasets.Made) -> None:
    kept = datasets.statistics(concepts)
    show_numbers(view.summary(kept)[:NUMBERS])
    names, gallery = (
        _if_readable(catalog, lineage, concepts.name, schema) for schema in ("names", "gallery")
    )
    namers = labels.namers_of(datasets.opened(names)) if names else []
    namer = namers[labels.preferred_namer(namers)] if namers else ""
    called = tuple(sorted(own_names(catalog, concepts.run, is_patient=False).items()))
    if gallery is None and not datasets.is_of_texts(concepts):
        drawer = maker_of(lineage, concepts.name, "gallery")
        st.caption(literal(without_pictures_line(drawer, words_of(kept))))
        with st.container(horizontal=True):
            for row in datasets.strongest_rows(concepts, names, namer, MOST_NAMED, called):
                title = literal(" · ".join(view.told(row, is_named=names is not None)))
                page.link_to("concepts", title, **concepts.address, concept=str(row["concept"]))
        return
    link = chain.query("concepts", **concepts.address)
    show_part(datasets.wall(concepts, names, gallery, namer, link, MOST_CONCEPTS, called))


def _if_readable(
    catalog: Catalog, lineage: Lineage, name: str, schema: str
) -> datasets.Made | None:
    maker = maker_of(lineage, name, schema)
    return datasets.readable(datasets.if_made(catalog, lineage, maker)) if maker else None


def _progress(catalog: Catalog, task: Task) -> tuple[Progress | None, float | None]:
    """Return how far a running task is, and since how many seconds it runs."""
    try:
        run = catalog.run(task.state.run or "")
    except UnknownRunError:
        return None, None
    seconds = (datetime.now(UTC) - run.started).total_seconds() if run.started else None
    return progress(catalog, run), seconds


def _others(entries: Sequence[Entry]) -> None:
    """Lead to concept models that are not shown."""
    with st.expander(f"{len(entries):,} more"), st.container(horizontal=True):
        for entry in entries[:MOST_LINKED]:
            page.link_to("concepts", literal(entry.title), **entry.address)


# -- runs -----------------------------------------------------------------------------------------


def _runs(newest: Sequence[RunView]) -> None:
    st.subheader("Latest runs", anchor=False)
    st.html(chain.runs_html(newest, datetime.now(UTC)))
    page.link_to("runs", "All runs")


@st.fragment(run_every=REFRESH)
def _watch(is_live: bool) -> None:
    """Show the page anew when a run has begun or ended, and while one runs."""
    with page.explained():
        snapshot = page.run_index(page.open_catalog()).peek()
        if snapshot is None:
            return
        now = [(row.run.uid, row.run.status) for row in snapshot.rows[:MOST_RUNS]]
        before, again = st.session_state.get(SEEN, (now, False))
        st.session_state[SEEN] = now, True
        if now != before or (is_live and again):
            st.session_state[SEEN] = now, False
            st.rerun()
