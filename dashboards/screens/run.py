"""One run, shown under the table that it was chosen from."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from dashboards.screens.frame import BOUND, explained, link_to_dataset, open_catalog, tell
from dashboards.views import run as view
from dashboards.views.advice import Advice
from dashboards.views.curves import AXES, Curve, curve_chart, curve_note, curves
from dashboards.views.runs import run_key
from dashboards.views.text import literal, number_text
from registry.catalog import Catalog, RunView

LIVE = "3s"
BADGES = {
    "RUNNING": ("blue", ":material/sync:"),
    "COMPLETED": ("green", ":material/check_circle:"),
    "FAILED": ("red", ":material/error:"),
    "DIED": ("orange", ":material/heart_broken:"),
    "INTERRUPTED": ("violet", ":material/stop_circle:"),
}
"""Colour and sign of a status, which is always written too."""


def show_run(catalog: Catalog, name: str) -> None:
    """Show one run, again and again while it runs.

    Parameters
    ----------
    catalog : Catalog
        Where it is.
    name : str
        Its number, its identifier, or a cell, whose newest run is meant.
    """
    with explained(stop=True):
        run = view.find_run(catalog, name)
    every = LIVE if run.status == "RUNNING" else None
    st.fragment(_show, run_every=every)(name, run.status)


def _show(name: str, status: str) -> None:
    with explained():
        catalog = open_catalog()
        run = view.find_run(catalog, name)
        if run.status != status or name not in (st.session_state.get("run") or name):
            st.rerun()
        st.subheader(literal(run.cell or run.uid), anchor=False)
        _head(catalog, run)
        section = st.segmented_control(
            "Section",
            list(SECTIONS),
            default="Overview",
            key="section",
            bind=BOUND,
            label_visibility="collapsed",
        )
        SECTIONS[section or "Overview"](catalog, run)


def _head(catalog: Catalog, run: RunView) -> None:
    colour, icon = BADGES.get(run.status, ("gray", ":material/help:"))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(literal(run.status), icon=icon, color=colour, width="content")  # type: ignore[arg-type]
        st.caption(literal(view.status_line(run)))
    if done := view.progress(catalog, run):
        told = f"{done.what} {number_text(done.done)} of {number_text(done.total)}"
        st.progress(done.share, literal(told.strip()))
    if note := view.status_note(run):
        st.info(note)


def _overview(catalog: Catalog, run: RunView) -> None:
    if trace := catalog.trace(run):
        tell(Advice("It failed", trace.strip().splitlines()[-1]), st.error)
        with st.expander("Traceback"):
            st.code(trace, language="python", wrap_lines=True)
    left, right = st.columns(2)
    with left:
        _frame("Configuration", view.config_frame(run), "This stage has no settings.")
        _inputs(run)
        if command := view.repeat_command(run):
            st.markdown("**Run it again**")
            st.code(command, language="bash", wrap_lines=True)
        _frame("Record", view.facts_frame(run), "")
    with right:
        _frame("Result", view.settings_frame(run.result), "It has no result.")
        _frame("Output", view.output_frame(run), "It made no dataset.")
        link_to_dataset(str(run.output.get("schema")), run.cell)
        with st.expander("Packages"):
            _frame("", view.packages_frame(run), "None were recorded.")


def _frame(title: str, frame: pd.DataFrame, empty: str) -> None:
    if title:
        st.markdown(f"**{title}**")
    if frame.empty:
        st.caption(empty)
    else:
        st.dataframe(frame, hide_index=True, height="content" if len(frame) <= 12 else 440)


def _inputs(run: RunView) -> None:
    st.markdown("**Inputs**")
    inputs = view.run_inputs(run)
    if not inputs:
        st.caption("It needs none.")
    for given in inputs:
        told = f"{given.slot}: {given.name} ({given.kind})"
        if given.run:
            st.button(
                literal(told),
                key=f"input-{given.slot}",
                on_click=_choose,
                args=(given.run,),
                type="tertiary",
                icon=":material/arrow_upward:",
                help="Show the run that made it.",
            )
        else:
            st.caption(literal(told))


def _choose(run: str) -> None:
    st.session_state["run"] = run


@st.cache_resource(max_entries=8, show_spinner="Reading metrics …")
def _curves_of(
    _catalog: Catalog, _run: RunView, project: str, run: str, state: tuple[str, float | None]
) -> list[Curve]:
    """Return the curves of a run as they are in this state; it logs no more once it has ended."""
    return curves(_catalog.metrics(_run))


def _curves(catalog: Catalog, run: RunView) -> None:
    state = (run.status, run.seconds)
    drawn = _curves_of(catalog, run, str(catalog.project.root), run_key(run), state)
    if not drawn:
        st.info("This run has logged no metric.")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        log = st.toggle("Logarithmic scale", key="log", bind=BOUND)
        axis = st.segmented_control("Axis", AXES, default="step", key="axis", bind=BOUND)
    columns = st.columns(2)
    for place, one in enumerate(drawn):
        with columns[place % 2]:
            _curve(one, axis or "step", log)


def _curve(drawn: Curve, axis: str, log: bool) -> None:
    st.markdown(f"**{literal(drawn.name)}** · last {literal(number_text(drawn.last, 5))}")
    if not drawn.points.empty:
        st.altair_chart(curve_chart(drawn, axis, log), width="stretch")
    if note := curve_note(drawn, log):
        st.caption(note)


def _console(catalog: Catalog, run: RunView) -> None:
    text = catalog.console(run)
    if not text.strip():
        st.info("This run has printed nothing.")
        return
    whole = st.toggle("Whole console", key="whole", bind=BOUND)
    shown, left_out = (text, 0) if whole else view.console_end(text)
    if left_out:
        st.caption(f"{left_out:,} lines before these are left out.")
    st.code(shown, language=None, height=520)


def _sources(catalog: Catalog, run: RunView) -> None:
    sources = catalog.sources(run)
    if not sources:
        st.info("No source was recorded with this run.")
        return
    name = st.selectbox("File", list(sources), key="file", bind=BOUND)
    st.code(sources[name], language="python", line_numbers=True, height=640)


SECTIONS: dict[str, Callable[[Catalog, RunView], None]] = {
    "Overview": _overview,
    "Curves": _curves,
    "Console": _console,
    "Sources": _sources,
}
