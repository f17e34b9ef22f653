"""One run, shown under the table that it was chosen from."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from dashboards.screens import frame as page
from dashboards.screens.notes import show_note
from dashboards.screens.parts import (
    BADGES,
    show_downloads,
    show_figure,
    show_numbers,
    show_table,
)
from dashboards.screens.removal import offer_removal
from dashboards.screens.shown import tell_earlier_run
from dashboards.views.parts.parts import Figure, Table, file_name
from dashboards.views.parts.pictures import is_picture
from dashboards.views.parts.text import literal, number_text
from dashboards.views.runs import one_run as view
from dashboards.views.runs.advice import Advice
from dashboards.views.runs.curve_charts import curve_chart
from dashboards.views.runs.curves import AXES, MOST_SMOOTH, Curve, curve_note, curves
from dashboards.views.runs.datasets import dataset_frame
from dashboards.views.runs.headlines import headline
from dashboards.views.runs.runs import named_runs, run_key
from registry.catalog.access import Catalog
from registry.catalog.notes import run_subject
from registry.catalog.runs import RunView
from registry.wording import counted

LIVE = "3s"
MOST_LINKS = 12
FRAME_HEIGHT = 560
CONSOLE_HEIGHT = 520


def show_run(catalog: Catalog, name: str) -> None:
    """Show one run, again and again while it runs.

    Parameters
    ----------
    catalog : Catalog
        Where it is.
    name : str
        Its number, its identifier, or a cell, whose newest run is meant.
    """
    with page.explained(stop=True):
        run = view.find_run(catalog, name)
    every = LIVE if run.status == "RUNNING" else None
    st.fragment(_show, run_every=every)(name, run.status)


def _show(name: str, status: str) -> None:
    with page.explained():
        chosen = st.session_state.get("run")
        if chosen is not None and name not in named_runs(chosen):  # as one that was deleted
            st.rerun()
        catalog = page.open_catalog()
        run = view.find_run(catalog, name)
        if run.status != status:
            st.rerun()
        st.subheader(literal(run.title or run.uid or f"run {run.id}"), anchor=False)
        tell_earlier_run(catalog, page.lineage(catalog), run.uid)
        _head(catalog, run)
        SECTIONS[page.choose_view(SECTIONS, "section")](catalog, run)


def _head(catalog: Catalog, run: RunView) -> None:
    colour, icon = BADGES.get(run.status, ("gray", ":material/help:"))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(literal(run.status), icon=icon, color=colour, width="content")  # type: ignore[arg-type]
        st.caption(literal(view.status_line(run)))
    if done := view.progress(catalog, run):
        text = f"{done.what} {number_text(done.done)} of {number_text(done.total)}"
        st.progress(done.share, literal(text.strip()))
    if note := view.status_note(run):
        st.info(note)
    if numbers := headline(run):
        show_numbers(numbers)
    about = {"cell": run.cell, "experiment": run.experiment, "number": str(run.id or "")}
    show_note(catalog, run_subject(run), about)
    offer_removal(catalog, run)


# -- overview ---------------------------------------------------------------------------------


def _overview(catalog: Catalog, run: RunView) -> None:
    if trace := catalog.trace(run):
        page.tell(Advice("It failed", trace.strip().splitlines()[-1]), st.error)
        with st.expander("Traceback"):
            st.code(trace, language="python", wrap_lines=True)
    left, right = st.columns(2)
    with left:
        _configuration(run)
        if command := view.repeat_command(run):
            entry = page.lineage(catalog).of_run(run.uid)
            is_earlier = entry is not None and not entry.is_current and not run.overrides
            st.markdown(f"**Run it {'as it is declared now' if is_earlier else 'again'}**")
            st.code(command, language="bash", wrap_lines=True)
        _frame(run, "Record", view.facts_frame(run), "")
    with right:
        _frame(run, "Result", view.results_frame(run), "No result.")
        _inputs(run)
        _frame(run, "Output", view.output_frame(run), "No dataset.")
        page.link_to(str(run.output.get("schema")), "Open", cell=run.cell, run=run.uid)
        _parts(run)
        _users(catalog, run)


def _configuration(run: RunView) -> None:
    tree = view.config_tree(run)
    st.markdown("**Configuration**")
    if not tree:
        st.caption("No settings.")
        return
    if run.overrides:
        st.caption(f"Overridden: {literal(', '.join(map(str, run.overrides)))}")
    if page.choose_view(("tree", "table"), "as", "Configuration as") == "table":
        _frame(run, "Configuration", view.config_frame(run), "", title="")
    else:
        st.json(tree, expanded=2)


def _frame(
    run: RunView, name: str, frame: pd.DataFrame, empty: str, title: str | None = None
) -> None:
    """Show a table of a run, or that it is empty."""
    title = name if title is None else title
    if frame.empty:
        st.markdown(f"**{title}**")
        st.caption(empty)
    else:
        show_table(Table(file_name(name, run.cell or run_key(run)), frame, title))


def _inputs(run: RunView) -> None:
    st.markdown("**Inputs**")
    inputs = view.run_inputs(run)
    if not inputs:
        st.caption("No inputs.")
    for given in inputs:
        text = f"{given.slot}: {given.name}" + (f" ({given.kind})" if given.kind else "")
        if given.run:
            _link(f"input-{given.slot}", text, given.run, ":material/arrow_upward:", "made it")
        else:
            st.caption(literal(text))


def _users(catalog: Catalog, run: RunView) -> None:
    """Link to the runs that read what this one made."""
    if not run.output or not run.uid:
        return
    st.markdown("**Used by**")
    snapshot = page.run_index(catalog).peek()
    known = [
        row
        for row in (snapshot.rows if snapshot else ())
        if any(found["run"] == run.uid for found in row.run.inputs.values())
    ]
    if not known:
        st.caption("No run has read it yet." if snapshot else "Reading all runs …")
    for row in known[:MOST_LINKS]:
        text = f"{row.run.title}, {row.run.status.lower()}"
        _link(f"user-{run_key(row.run)}", text, run_key(row.run), ":material/arrow_downward:", "")
    if len(known) > MOST_LINKS:
        st.caption(f"and {len(known) - MOST_LINKS:,} more")


def _parts(run: RunView) -> None:
    """Link to the runs that wrote parts of what this one closed."""
    parts = run.parts()
    if parts:
        st.markdown("**Parts**")
    for part, written in parts[:MOST_LINKS]:
        _link(f"part-{written}", str(part), written, ":material/arrow_upward:", "wrote it")
    if len(parts) > MOST_LINKS:
        st.caption(f"and {len(parts) - MOST_LINKS:,} more")


def _link(key: str, label: str, run: str, icon: str, what: str) -> None:
    st.button(
        literal(label),
        key=key,
        on_click=_choose,
        args=(run,),
        type="tertiary",
        icon=icon,
        help=f"Show the run that {what}." if what else "Show this run.",
    )


def _choose(run: str) -> None:
    st.session_state["run"] = run


# -- curves -----------------------------------------------------------------------------------


def curves_of(catalog: Catalog, run: RunView) -> list[Curve]:
    """Return the curves of a run, kept until it has logged more."""
    state = (run.status, run.seconds)
    return _curves_of(catalog, run, str(catalog.project.root), run_key(run), state)


@st.cache_resource(max_entries=24, show_spinner="Reading metrics …")
def _curves_of(
    _catalog: Catalog, _run: RunView, project: str, run: str, state: tuple[str, float | None]
) -> list[Curve]:
    """Return the curves of a run as they are in this state; it logs no more once it has ended."""
    return curves(_catalog.metrics(_run))


def curve_controls() -> tuple[str, bool, float]:
    """Return the axis, whether it is logarithmic, and the weight of smoothing."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        axis = st.segmented_control("Axis", AXES, default="step", key="axis", bind=page.BOUND)
        smooth = st.slider(
            "Smoothing",
            0.0,
            MOST_SMOOTH,
            0.0,
            0.001,
            key="smooth",
            bind=page.BOUND,
            width=260,
            help="Weight of an exponential moving average, corrected for its start. The raw curve "
            "stays behind it.",
        )
        log = st.toggle("Logarithmic scale", key="log", bind=page.BOUND)
    return axis or "step", log, float(smooth)


def _curves(catalog: Catalog, run: RunView) -> None:
    drawn = curves_of(catalog, run)
    if not drawn:
        st.info("No metrics logged.")
        return
    axis, log, smooth = curve_controls()
    columns = st.columns(2)
    for index, one in enumerate(drawn):
        with columns[index % 2]:
            title = f"{one.name} · last {number_text(one.last)}"
            note = curve_note(one, log)
            if one.points.empty:
                st.markdown(f"**{literal(title)}**")
                st.caption(note)
            else:
                chart = curve_chart(one, axis, log, smooth=smooth)
                name = file_name(run.cell or run_key(run), one.name)
                show_figure(Figure(name, chart, title, note))


# -- the other sections -----------------------------------------------------------------------


def _console(catalog: Catalog, run: RunView) -> None:
    text = catalog.console(run)
    if not text.strip():
        st.info("No console output.")
        return
    with st.container(horizontal=True):
        follow = st.toggle("Follow", value=run.status == "RUNNING", key="follow", bind=page.BOUND)
        whole = st.toggle("Whole console", key="whole", bind=page.BOUND)
    shown, left_out = (text, 0) if whole else view.console_end(text)
    if left_out:
        st.caption(f"{counted(left_out, 'earlier line')} hidden.")
    with st.container(height=CONSOLE_HEIGHT, autoscroll=follow, border=False):
        st.code(shown, language=None, height="content")


def _sources(catalog: Catalog, run: RunView) -> None:
    sources = catalog.sources(run)
    if not sources:
        st.info("No sources recorded.")
        return
    name = st.selectbox("File", list(sources), key="file", bind=page.BOUND)
    st.code(sources[name], language="python", line_numbers=True, height=640)


def _environment(catalog: Catalog, run: RunView) -> None:
    details = catalog.details(run)
    left, right = st.columns(2)
    with left:
        _frame(run, "Host", view.host_frame(run, details), "No host recorded.")
        _frame(run, "Code", view.git_frame(details), "No repository recorded.")
    with right:
        frame = view.packages_frame(run, details)
        _frame(run, "Packages", frame, "No packages recorded.")


def _dataset(catalog: Catalog, run: RunView) -> None:
    if not run.output:
        st.info("This run made no dataset.")
        return
    folder = catalog.path(run)
    theme = getattr(st.context.theme, "type", None) or "light"
    with page.explained(run.cell):
        st.iframe(dataset_frame(folder, theme, FRAME_HEIGHT), height=FRAME_HEIGHT + 8)
        st.caption("As xarray shows it, without reading arrays. In a script:")
        st.code(
            f"xr.open_dataset({str(folder)!r}, engine='factbook')",
            language="python",
            wrap_lines=True,
        )


def _files(catalog: Catalog, run: RunView) -> None:
    names = list(dict.fromkeys(catalog.details(run).artifacts))
    if not names:
        st.info("No files. A stage writes one to the path that run.attach(name) returns.")
        return
    name = st.selectbox("File", names, key="artifact", bind=page.BOUND)
    content = catalog.artifact(run, name)
    if is_picture(content):
        st.image(content, alt=name)
    show_downloads((name.replace("/", "-"), lambda: content, "application/octet-stream"))


SECTIONS: dict[str, Callable[[Catalog, RunView], None]] = {
    "Overview": _overview,
    "Curves": _curves,
    "Console": _console,
    "Sources": _sources,
    "Environment": _environment,
    "Dataset": _dataset,
    "Files": _files,
}
