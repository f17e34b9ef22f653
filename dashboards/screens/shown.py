"""Which runs a page shows: chosen by a reader, kept in the address, and told where they are others
than experiments.toml now asks for.

The address names every dataset that is shown by its run, so that a link opens the same for ever. A
cell alone means what is declared now; where that is not there, the last run of this cell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from dashboards.screens import frame as page
from dashboards.screens.datasets import Made
from dashboards.screens.frame import BESIDE, CELL, RUN
from dashboards.views.parts.text import literal
from dashboards.views.runs.advice import Advice, advise
from dashboards.views.runs.earlier import Divergence, divergence, divergence_beside, way_back
from dashboards.views.runs.settings import chosen_of, first_made, settings_for
from registry.catalog.access import Catalog, UnknownRunError
from registry.catalog.lineage import Entry, Lineage
from registry.catalog.runs import is_run
from registry.declare.declared import SelectionError
from registry.plan.project import MissingInputsError

OVER = ":material/arrow_forward:"
MOST_EARLIER = 200
"""Runs that no cell asks for, and that a box offers; links lead to all."""

GONE = "gone runs"
"""Where a session keeps which runs an address named beside a dataset, and that are gone."""


def choose_shown(
    catalog: Catalog,
    lineage: Lineage,
    slot: Any,
    label: str,
    names: Sequence[str],
    width: int | str = "stretch",
) -> Entry:
    """Let a reader choose one dataset; at first it is what the address names.

    Where that is gone, it says so, and the page ends here.

    Parameters
    ----------
    catalog : Catalog
        Of the project.
    lineage : Lineage
        What there is.
    slot : streamlit or a container of it
        Where to draw the box.
    label : str
        Of the box.
    names : sequence of str
        What can be chosen, at least one.
    width : int or str
        Of the box, in pixels.
    """
    cell = str(st.session_state.get(CELL) or st.query_params.get(CELL, ""))
    runs = page.asked(RUN)[:1]
    here = _still_there(catalog, lineage, runs, names)
    if here:
        name = here[0]
    elif cell in names:
        name = lineage.standing_for(cell)
    else:
        name = lineage.standing_for(names[first_made(lineage, names)])
        if cell:
            page.tell_absent([cell], f" Showing {lineage.entries[name].title}.")
    if runs and not here:
        _offer_another(lineage, cell, names)
        st.stop()
    st.session_state[CELL] = name
    slot.selectbox(
        label,
        _offered(lineage, names, [name]),
        format_func=lambda one: lineage.entries[one].title,
        key=CELL,
        on_change=_choose_anew,
        width=width,
        help="Declared experiments; then finished runs that none of them asks for now.",
    )
    entry = lineage.entries[name]
    keep_in_address([entry.cell], [entry.run] if entry.run else [])
    return entry


def choose_beside(
    lineage: Lineage, slot: Any, label: str, names: Sequence[str], key: str, width: int
) -> str:
    """Let a reader choose one of several datasets that were made of the one that is shown.

    Parameters
    ----------
    lineage : Lineage
        What there is.
    slot, label, width
        As for :func:`choose_shown`.
    names : sequence of str
        What can be chosen, at least one.
    key : str
        Of the box, and of the address.
    """
    held = str(st.session_state.get(key) or st.query_params.get(key, ""))
    st.session_state[key] = held if held in names else chosen_of(lineage, names)
    found = slot.selectbox(
        label,
        names,
        format_func=lambda one: lineage.entries[one].title,
        key=key,
        width=width,
    )
    if st.query_params.get(key) != found:
        st.query_params[key] = found
    return str(found)


def choose_several(
    catalog: Catalog,
    lineage: Lineage,
    settings: Sequence[str],
    first: Sequence[str],
    most: int,
) -> list[str]:
    """Let a reader choose settings; at first they are those that show what the address names.

    Parameters
    ----------
    catalog : Catalog
        Of the project.
    lineage : Lineage
        What there is.
    settings : sequence of str
        What can be chosen, at least one.
    first : sequence of str
        What is chosen where the address names nothing.
    most : int
        How many can be chosen.
    """
    held = st.session_state.get(CELL)
    named = st.query_params.get_all(CELL) if held is None else list(held)
    runs = page.asked(RUN)
    chosen = [name for name in dict.fromkeys(named) if name in settings]
    if runs:
        here = _still_there(catalog, lineage, runs, settings)
        if not here:
            _offer_another(lineage, next(iter(chosen), ""), settings)
            st.stop()
        known = [lineage.entries[name].run for name in here]
        chosen = settings_for(lineage, chosen, known, settings)
    elif len(chosen) < len(named):
        shown = ", ".join(_title(lineage, one) for one in chosen or first)
        page.tell_absent([name for name in named if name not in settings], f" Showing {shown}.")
    st.session_state[CELL] = chosen or list(first)
    found = st.multiselect(
        "Settings",
        _offered(lineage, settings, st.session_state[CELL]),
        max_selections=max(most, len(st.session_state[CELL])),
        format_func=lambda one: _title(lineage, one),
        key=CELL,
        on_change=_choose_anew,
        help="Experiments to show; several are compared. One with a matrix stands for all its "
        "cells. Finished runs that no experiment asks for now come last.",
    )
    return list(found or first)


def _title(lineage: Lineage, setting: str) -> str:
    entry = lineage.entries.get(setting)
    return entry.title if entry else setting


def _offered(lineage: Lineage, names: Sequence[str], chosen: Sequence[str]) -> list[str]:
    """Return what can be chosen: of runs that no cell asks for the first, and what is chosen."""
    entries = lineage.entries
    earlier = [name for name in names if name in entries and not entries[name].is_current]
    left_out = set(earlier[MOST_EARLIER:]).difference(chosen)
    return [*(name for name in names if name not in left_out), *set(chosen).difference(names)]


def _choose_anew() -> None:
    """Show what is chosen, as it is now."""
    st.session_state[RUN] = []
    st.session_state[BESIDE] = []


def keep_in_address(
    cells: Sequence[str], runs: Sequence[str], beside: Iterable[str] | None = None
) -> None:
    """Let the address name what is shown, and the session keep it.

    Parameters
    ----------
    cells, runs : sequence of str
        What the page is about.
    beside : iterable of str, optional
        Runs of what is shown beside it; what was named before stays if it is not given.
    """
    named = {CELL: list(cells), RUN: list(dict.fromkeys(runs))}
    if beside is not None:
        named[BESIDE] = [run for run in dict.fromkeys(beside) if run]
    for key, values in named.items():
        if key != CELL:
            st.session_state[key] = values
        if st.query_params.get_all(key) == values:
            continue
        if values:
            st.query_params[key] = values if len(values) > 1 else values[0]
        else:
            del st.query_params[key]


# -- what is told -----------------------------------------------------------------------------


def _still_there(
    catalog: Catalog, lineage: Lineage, runs: Iterable[str], names: Collection[str]
) -> list[str]:
    """Return the names of runs that can be shown here; tell of each other one why not."""
    found = []
    for run in runs:
        entry = lineage.of_run(run)
        if entry is not None and entry.name in names:
            found.append(entry.name)
        else:
            page.tell(_absence(catalog, entry, run), st.warning)
            if entry is not None:
                page.link_to(entry.provides, f"Open {literal(entry.title)}", **entry.address)
    return found


def _absence(catalog: Catalog, entry: Entry | None, run: str) -> Advice:
    """Return what to tell of a run that an address names, and that is not shown."""
    if entry is not None:
        return Advice(f"Run {run} made {entry.provides}", "This page shows something else.")
    try:
        if not is_run(run):
            raise UnknownRunError(f"no run {run[:100]!r}")
        made = catalog.run(run)
        folder = catalog.path(made)
    except (UnknownRunError, SelectionError) as error:
        return advise(error)
    except MissingInputsError as error:
        advice = advise(error)
        title = "The dataset of this run is gone" if made.output else "This run made no dataset"
        if not (made.output and advice.commands):
            return replace(advice, title=title)
        way = "\n".join(way_back(catalog, made.cell, made.fingerprint))
        return replace(advice, title=title, reason=f"{advice.reason}.\n{way}")
    return Advice("This run's dataset is in another project", f"It lies in {folder}.")


def _offer_another(lineage: Lineage, cell: str, names: Sequence[str]) -> None:
    """Offer what an address names beside a run that is gone, as it is now; else the first."""
    other = cell if cell in names else names[first_made(lineage, names)]
    text = f"Show {literal(_title(lineage, other))} as it is now"
    st.button(text, on_click=_go_over, args=(other, ""), icon=OVER)


def tell_earlier(catalog: Catalog, lineage: Lineage, entries: Iterable[Entry]) -> None:
    """Say of each run that is shown in what it differs from what is now asked for."""
    for entry in entries:
        with page.explained():
            if found := divergence(catalog, lineage, entry):
                _banner(lineage, entry, found)


def tell_earlier_run(catalog: Catalog, lineage: Lineage, run: str) -> None:
    """Say of a run, on its own page, in what it differs from what is now asked for."""
    entry = lineage.of_run(run)
    with page.explained():
        if entry is None or (found := divergence(catalog, lineage, entry)) is None:
            return
        _warn(found)
        other = lineage.entries[found.over].run if found.over else ""
        with st.container(horizontal=True, vertical_alignment="center"):
            if other:
                st.button(
                    f"Show the run of what is asked for now: {literal(found.over)}",
                    key=f"over-{run}",
                    on_click=_show_run,
                    args=(other,),
                    icon=OVER,
                )
            _how_to_make(found)


def _show_run(run: str) -> None:
    st.session_state[RUN] = run


def _warn(found: Divergence) -> None:
    lines = [f"**{literal(found.title)}.**", *(f"- {literal(line)}" for line in found.lines)]
    st.warning("\n".join(lines), icon=":material/history:")


def _banner(lineage: Lineage, entry: Entry, found: Divergence) -> None:
    _warn(found)
    with st.container(horizontal=True, vertical_alignment="center"):
        if found.over:
            other = lineage.entries[found.over]
            st.button(
                f"Show what is asked for now: {literal(other.title)}",
                key=f"over-{entry.run}",
                on_click=_go_over,
                args=(found.over, entry.name),
                icon=OVER,
            )
        page.link_to("runs", "The run that made this", run=entry.run)
        _how_to_make(found)


def _how_to_make(found: Divergence) -> None:
    if found.absence:
        st.markdown(literal(f"{found.absence}:" if found.command else f"{found.absence}."))
    if found.command:
        st.code(found.command, language="bash", wrap_lines=True, width="content")


def _go_over(name: str, before: str) -> None:
    """Show one dataset in place of another."""
    held = st.session_state.get(CELL)
    if isinstance(held, list):
        st.session_state[CELL] = [name if one == before else one for one in held] or [name]
    else:
        st.session_state[CELL] = name
    _choose_anew()


def tell_beside(catalog: Catalog, lineage: Lineage, name: str, beside: Mapping[str, Made]) -> None:
    """Say of what is shown beside a dataset where it is of an earlier run, with the way over."""
    _tell_gone(catalog, lineage, name)
    told: dict[str, tuple[Entry, Divergence]] = {}
    for what, made in beside.items():
        entry = lineage.entries.get(made.name)
        with page.explained():
            found = divergence_beside(catalog, lineage, name, entry) if entry else None
            if entry is not None and found is not None:
                told[what] = (entry, found)
    if not told:
        return
    lines = (_line_beside(what, found) for what, (_, found) in told.items())
    st.info("\n".join(lines), icon=":material/history:")
    with st.container(horizontal=True, vertical_alignment="center"):
        for what, (entry, found) in told.items():
            if found.over:
                st.button(
                    f"{what}: show those of the newer run",
                    key=f"over-{entry.run}",
                    on_click=_put_beside,
                    args=(entry.run,),
                    icon=OVER,
                )
            page.link_to("runs", f"{what}: the run that made them", run=entry.run)
    commands = [found.command for _, found in told.values() if found.command]
    if commands:
        st.code("\n".join(dict.fromkeys(commands)), language="bash", wrap_lines=True)


def _tell_gone(catalog: Catalog, lineage: Lineage, name: str) -> None:
    """Tell of each run that an address names beside a dataset, and that is there no more."""
    held = st.session_state.setdefault(GONE, {})
    if gone := [run for run in page.asked(BESIDE) if lineage.of_run(run) is None]:
        held[name] = gone
    for run in held.get(name, ()):
        page.tell(_absence(catalog, None, run), st.warning)


def _line_beside(what: str, found: Divergence) -> str:
    lines = f": {literal('; '.join(found.lines))}" if found.lines else ""
    return f"- **{what}: {literal(found.title)}**{lines}"


def _put_beside(before: str) -> None:
    """Prefer a run no more to newer ones."""
    st.session_state[BESIDE] = [run for run in page.asked(BESIDE) if run != before]
