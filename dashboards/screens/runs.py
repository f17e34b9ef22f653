"""The page of all runs, and of those that are chosen in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboards.screens import frame as page
from dashboards.screens.parts import BADGES, as_shown, columns_of, show_downloads
from dashboards.screens.removal import tell_removed
from dashboards.server.index import Snapshot
from dashboards.server.sparks import Sparks
from dashboards.views.parts.parts import Table
from dashboards.views.parts.text import literal, size_text
from dashboards.views.runs import runs as view
from dashboards.views.runs.advice import first_steps
from dashboards.views.runs.live import live_runs
from dashboards.views.runs.one_run import progress
from dashboards.views.runs.runs import Row
from registry.catalog.access import Catalog
from registry.catalog.conditions import STATUSES
from registry.catalog.notes import NOTED
from registry.catalog.runs import COLUMNS
from registry.declare.stage import find_stage
from registry.wording import counted

HELP = (
    "Every execution of a stage, as recorded in Sacred's schema (Greff et al., SciPy 2017). "
    "DIED: its record says RUNNING, but its process is gone. Times are UTC. Copy the address of "
    "this page to share the view."
)
ABOUT_TEXT = "Searches names, host, settings, results and notes."
ABOUT_WHERE = (
    "Comparisons by column, separated by commas: = != < <= > >=, and ~ for contains. "
    "config.k>=16, result.best_accuracy>0.9, config.layer~features, seconds<60"
)
ABOUT_TIME = "In UTC: 2026-11-22, 2026-11-22 14:30, or how long ago: 30min, 24h, 7d."
TABLE = "table-of-runs"
SHOWN = ("id", "cell", "status", "results", "loss", "started", "seconds", "size", "tags")
DRAWN = {
    "started": {"type": "datetime", "format": "YYYY-MM-DD HH:mm:ss"},
    view.LOSS: {"type": "line_chart"},
}
REFRESH, LIVE = "5s", "3s"
MOST_SPARKS = 100
"""Runs of a list, the first, whose losses are read."""

TRAINED = ("sae", "network")
"""What runs make that log a loss."""

MOST_CHOSEN = 100
"""Runs that can be chosen by their boxes; Compare takes more by the name of an experiment."""

ROW_HEIGHT, TABLE_HEIGHT, HEIGHT_ABOVE_A_RUN = 35, 560, 260

FILTERS = (
    *("stage", "where", "since", "until", "host", "tags", "sort", "limit"),
    "columns",
)
"""Keys of an address that show filters open."""

QUESTIONS = (
    ("concepts", "concepts", "What does the network know?"),
    ("decisions", "concepts", "Why did it decide so?"),
    ("names", "names", "Can its names be trusted?"),
)
"""Page, the schema of a dataset that it needs, and what it answers."""


def show() -> None:
    """Show the page."""
    catalog = page.begin("Runs", HELP)
    _questions(catalog)
    known = page.run_index(catalog).peek() or Snapshot(0, ())
    query, columns = _query(catalog, known)
    with page.explained(stop=True):
        found = _find(catalog, query)
    tell_removed()
    _live()
    _chips(known)
    slot = st.container()
    chosen = _chosen()
    with slot:
        if found:
            _table(catalog, found, query.limit, columns, chosen)
        elif query.is_open:
            page.tell(first_steps(catalog.project))
        else:
            st.info("No runs match. Relax a filter.")
    _watch(query)
    if chosen:
        if len(chosen) > 1:
            page.link_to(
                "compare", f"Compare these {counted(len(chosen), 'run')}", runs=" ".join(chosen)
            )
        from dashboards.screens.run import show_run  # charts, which take long to import

        show_run(catalog, chosen[-1])


def _questions(catalog: Catalog) -> None:
    """Lead to the pages that answer what a reader has come for, where there are concepts."""
    made = {cell.provides for cell in catalog.project.graph.cells.values()}
    with st.container(horizontal=True):
        for name, schema, question in QUESTIONS:
            if schema in made:
                page.link_to(name, question)


def _find(catalog: Catalog, query: view.RunQuery) -> tuple[Row, ...]:
    """Return the runs that are asked for, of all; of the newest until all have been read."""
    index = page.run_index(catalog)
    if index.peek() is None and query.is_quick:
        st.caption("Newest runs first. Reading the rest …")
        st.session_state["filling"] = True
        return view.newest_rows(catalog, query)
    with st.spinner("Reading all runs …", show_time=True):
        snapshot = index.look()
    if snapshot.is_partial:
        st.caption(f"Only the newest {counted(len(snapshot.rows), 'run is', 'runs are')} searched.")
    return view.select(snapshot.rows, query)


# -- what is asked ----------------------------------------------------------------------------


def _query(catalog: Catalog, known: Snapshot) -> tuple[view.RunQuery, Sequence[str]]:
    """Return which runs are asked for, by widgets that the address holds, and what to show."""
    declared = catalog.project.declaration.experiments
    slots = st.columns([3, 4])
    asked = view.RunQuery(
        experiment=_any_of(slots[0], "Experiment", list(declared)),
        text=_words(slots[1], "Text", "words of a run", ABOUT_TEXT),
    )
    is_narrowed = any(st.query_params.get(key) for key in FILTERS)
    with st.expander("Filters and columns", expanded=is_narrowed, icon=":material/filter_list:"):
        return _filters(catalog, known, asked)


def _filters(
    catalog: Catalog, known: Snapshot, asked: view.RunQuery
) -> tuple[view.RunQuery, Sequence[str]]:
    declared = catalog.project.declaration.experiments
    slots = st.columns([3, 3, 6])
    stages = sorted({experiment.stage for experiment in declared.values()})
    asked = replace(
        asked,
        stage=_any_of(slots[0], "Stage", stages),
        status=_any_of(slots[1], "Status", STATUSES),
        where=_words(slots[2], "Where", "config.k>=16, result.accuracy>0.9", ABOUT_WHERE),
    )
    page.tell_unknown("limit", view.LIMITS)
    slots = st.columns([3, 2, 2, 2, 3, 2, 2], vertical_alignment="bottom")
    columns = list(dict.fromkeys([*COLUMNS, *NOTED, *known.columns]))
    extra = [view.RESULTS, view.SIZE, view.LOSS]
    hosts, tags = known.hosts_and_tags
    query = replace(
        asked,
        sort=_sort(slots[0], columns),
        since=_words(slots[1], "Since", "7d", f"Started at or after this time. {ABOUT_TIME}"),
        until=_words(slots[2], "Until", "2026-11-22", f"Started before this time. {ABOUT_TIME}"),
        host=_any_of(slots[3], "Host", hosts),
        tags=tuple(_several_of(slots[4], "Tags", tags, (), "Runs with all of these tags.")),
        limit=slots[5].selectbox("At most", view.LIMITS, index=1, key="limit", bind=page.BOUND),
        archived=st.toggle(
            "Archived runs too",
            key="archived",
            bind=page.BOUND,
            help="Archiving leaves a run out of this list; its dataset stays where it is.",
        ),
    )
    popover = slots[6].popover("Columns", icon=":material/view_column:", width="stretch")
    shown = _several_of(popover, "Columns", [*columns, *extra], SHOWN, "Settings and results.")
    return query, shown or SHOWN


def _any_of(slot: DeltaGenerator, label: str, options: Sequence[str]) -> str | None:
    return slot.selectbox(
        label,
        options,
        index=None,
        placeholder="any",
        accept_new_options=True,
        key=label.lower(),
        bind=page.BOUND,
    )


def _several_of(
    slot: DeltaGenerator, label: str, options: Sequence[str], chosen: Sequence[str], meaning: str
) -> list[str]:
    return slot.multiselect(
        label,
        list(dict.fromkeys([*options, *chosen])),
        default=chosen,
        placeholder="any",
        help=meaning,
        accept_new_options=True,
        key=label.lower(),
        bind=page.BOUND,
    )


def _sort(slot: DeltaGenerator, columns: Sequence[str]) -> str:
    orders = [view.NEWEST_FIRST, *(sign + name for name in columns for sign in ("", "-"))]
    asked = st.session_state.get("sort") or st.query_params.get("sort")
    orders += [asked] if asked else []  # a column that is not known before all runs are read
    return (
        slot.selectbox(
            "Sort by",
            list(dict.fromkeys(orders)),
            help="With -, largest first; runs without a value come last.",
            accept_new_options=True,
            key="sort",
            bind=page.BOUND,
        )
        or view.NEWEST_FIRST
    )


def _words(slot: DeltaGenerator, label: str, example: str, meaning: str) -> str:
    text = slot.text_input(
        label, placeholder=example, help=meaning, key=label.lower(), bind=page.BOUND
    )
    return text or ""


# -- what is shown ----------------------------------------------------------------------------


def _chips(known: Snapshot) -> None:
    """Show how many runs stand how; a click shows these alone, another one all."""
    shown = [row for row in known.rows if not row.is_archived or st.session_state.get("archived")]
    with st.container(horizontal=True, gap="small"):
        for status, count in view.status_counts(shown).items():
            _, icon = BADGES.get(status, ("gray", ":material/help:"))
            is_on = st.session_state.get("status") == status
            st.button(
                f"{status.capitalize()} {count:,}",
                key=f"chip-{status}",
                icon=icon,
                type="primary" if is_on else "secondary",
                on_click=_set_status,
                args=(None if is_on else status,),
                help="Show all again." if is_on else f"Show only runs that are {status}.",
            )


def _set_status(status: str | None) -> None:
    st.session_state["status"] = status


@st.fragment(run_every=LIVE)
def _live() -> None:
    """Show how far the runs are that are running."""
    with page.explained():
        catalog = page.open_catalog()
        snapshot = page.run_index(catalog).peek()
        if snapshot is None:
            return
        found = live_runs(snapshot.rows, partial(progress, catalog), datetime.now(UTC))
        for one in found:
            st.progress(one.share, literal(one.text))


@st.cache_resource(max_entries=4, show_spinner=False)
def _sparks(root: str) -> Sparks:
    return Sparks()


def _losses(catalog: Catalog, rows: Sequence[Row]) -> list[list[float] | None]:
    """Return the losses of the first runs that log some, as far as they have been read."""
    sparks = _sparks(str(catalog.project.root))
    stages = [find_stage(row.run.stage) for row in rows[:MOST_SPARKS]]
    found = [
        sparks.of(catalog, row.run) if stage and stage.output.name in TRAINED else None
        for row, stage in zip(rows, stages, strict=False)
    ]
    return found + [None] * (len(rows) - len(found))


def _table(
    catalog: Catalog,
    found: Sequence[Row],
    limit: int,
    columns: Sequence[str],
    chosen: Sequence[str],
) -> None:
    """Show the runs; choosing rows chooses their runs."""
    shown = found[:limit]
    keys = [view.run_key(row.run) for row in shown]
    page.mark_rows(TABLE, keys, chosen)
    frame = view.runs_frame(shown, columns)
    if view.LOSS in columns:
        losses = _losses(catalog, shown)
        frame[view.LOSS] = pd.Series(losses, dtype=object)
        frame = frame if any(losses) else frame.drop(columns=view.LOSS)
    told = Table("runs", frame, columns=view.TOLD)
    config = columns_of(told)
    for name in DRAWN.keys() & config.keys():
        config[name] = {**config[name], "type_config": DRAWN[name]}
    st.dataframe(
        as_shown(frame, view.TOLD),
        key=TABLE,
        height=min(
            HEIGHT_ABOVE_A_RUN if chosen else TABLE_HEIGHT, 5 + ROW_HEIGHT * (len(shown) + 1)
        ),
        hide_index=True,
        placeholder="",
        alt="Runs",
        on_select=lambda: _choose(keys),
        selection_mode="multi-row",
        column_config=config,
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        more = f", the first {len(shown):,} shown" if len(shown) < len(found) else ""
        st.caption(
            f"{counted(len(found), 'run')}{more}. {size_text(view.total_size(found))} of datasets. "
            "Tick a box to open a run, several to compare them. CSV holds all columns of all "
            "matches."
        )
        show_downloads(
            ("runs.csv", lambda: view.runs_csv(found), "text/csv"),
            ("runs.tex", told.latex, "application/x-tex"),
        )


def _choose(keys: Sequence[str]) -> None:
    """Keep the runs that were chosen before, or are not in the table; the newest choice is last.

    All rows can be marked at once: an address holds no more than `MOST_CHOSEN`.
    """
    marked = [keys[row] for row in page.marked_rows(TABLE)][:MOST_CHOSEN]
    before = view.named_runs(st.session_state["run"] or "")
    kept = [name for name in before if name in marked or name not in keys]
    st.session_state["run"] = " ".join(dict.fromkeys([*kept, *marked][-MOST_CHOSEN:]))


def _chosen() -> list[str]:
    """Return the runs that are chosen; the last one is shown."""
    slot, _ = st.columns([2, 3])
    names = slot.text_input(
        "Run",
        placeholder="number, identifier, or a cell",
        help="Number, identifier, or a cell (its newest run). Of several, separated by spaces, the "
        "last is shown below, and all can be compared.",
        key="run",
        bind=page.BOUND,
    )
    return view.named_runs(names or "")


@st.fragment(run_every=REFRESH)
def _watch(asked: view.RunQuery) -> None:
    """Show the page anew when a run has begun, ended, or given a sign of life."""
    with page.explained():
        snapshot = page.run_index(page.open_catalog()).peek()
        if snapshot is None:
            return
        found = view.select(snapshot.rows, asked)[: asked.limit]
        now = (
            asked,
            _sparks(str(page.open_catalog().project.root)).version,
            tuple((row.run.uid, row.run.status, row.run.seconds, row.note) for row in found),
        )
        before = st.session_state.get("seen", now)
        st.session_state["seen"] = now
        is_filled = st.session_state.pop("filling", False)
        if is_filled or (before[0] == asked and before != now):
            st.rerun()
