"""What every page has: title, help line, the catalog, and errors that say what to do."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import dask
import streamlit as st
from dask import threaded
from streamlit.errors import StreamlitAPIException

from dashboards.server.connection import Connection, written_at
from dashboards.server.index import RunIndex
from dashboards.views.parts.text import literal
from dashboards.views.runs.advice import EXPECTED, Advice, advise, database_trouble
from registry.catalog.access import Catalog
from registry.catalog.lineage import FinishedRuns, Lineage, lineage_of
from registry.declare.declaration import PROJECT_VARIABLE
from registry.mongo.database import DatabaseError
from registry.plan.project import MissingInputsError, Project
from registry.plan.task import Plan

BOUND: Final = "query-params"
"""Binds a widget to the address, under its key; values that it cannot have are ignored."""

PAGES, PAGE, VIEWS = "pages", "shown page", "views"
"""Where a session keeps all pages, the one that is shown with what it shares, and what others
have shown."""

CELL, RUN, BESIDE = "cell", "run", "beside"
"""What an address names a dataset by: its cell for readers, its run for good, and the runs of what
is shown beside it."""

OF_A_MODEL = (CELL, RUN, BESIDE, "metric")
"""What the pages of one concept model share: which one it is, and what names its concepts."""

ALL_PROJECTS_VARIABLE = "FACTBOOK_ALL_PROJECTS"
"""Set where a server shows the runs of every project that shares its database."""

LOOKING = 0.05
"""Share of a server's time in which it looks through the store, while somebody reads."""

JOURNALS = "FACTBOOK_MONGO is off. Showing runs from local journals."


@st.cache_resource(show_spinner="Opening the catalog …")
def connection(folder: str | None) -> Connection:
    """Return the connection of this server to a project; None is the current folder's."""
    dask.config.set(scheduler=threaded.get)  # else it imports distributed to look for a cluster
    path = None if folder is None else Path(folder).resolve()
    return Connection(path, all_projects=bool(os.environ.get(ALL_PROJECTS_VARIABLE)))


def current_connection() -> Connection:
    """Return the connection to the project that this server was started for."""
    return connection(os.environ.get(PROJECT_VARIABLE))


def open_catalog() -> Catalog:
    """Return the catalog of this server's project.

    Raises
    ------
    DeclarationError
        If there is none, or its declaration has faults.
    """
    catalog = current_connection().catalog()
    if os.getcwd() != str(catalog.project.root):
        os.chdir(catalog.project.root)  # paths in a declaration are relative to it
    return catalog


@st.cache_resource(max_entries=4, show_spinner=False)
def _index(_catalog: Catalog, root: str, source: str) -> RunIndex:
    return RunIndex(_catalog)


def run_index(catalog: Catalog) -> RunIndex:
    """Return all runs of a catalog, shared by the readers of this server."""
    source = "journals"
    if catalog.database:
        source = f"{catalog.database.identity} {catalog.scope.name}"
    index = _index(catalog, str(catalog.project.root), source)
    index.follow(catalog)
    return index


@st.cache_resource(max_entries=4, show_spinner=False)
def _finished(store: str) -> FinishedRuns:
    return FinishedRuns(Path(store))


@st.cache_resource(max_entries=4, ttl=10, show_spinner="Looking through the store …")
def _lineage(_project: Project, root: str, written: int, version: int) -> Lineage:
    return lineage_of(_project, _finished(str(_project.store.root)))


def lineage(catalog: Catalog) -> Lineage:
    """Return what was made from what, shared by the readers of this server.

    The runs that the address names come first where one of several is meant.
    """
    project = catalog.project
    version = _finished(str(project.store.root)).refresh(LOOKING)
    known = _lineage(project, str(project.root), written_at(catalog), version)
    return known.preferring([*asked(RUN), *asked(BESIDE)])


def plan_of(catalog: Catalog, targets: tuple[str, ...]) -> Plan:
    """Return the plan of some targets, shared by the readers of this server for a moment."""
    return _planned(catalog, str(catalog.project.root), written_at(catalog), targets)


@st.cache_resource(max_entries=16, ttl=3, show_spinner="Planning …")
def _planned(_catalog: Catalog, root: str, written: int, targets: tuple[str, ...]) -> Plan:
    return _catalog.plan(targets)


def asked(key: str) -> list[str]:
    """Return the runs that a session has shown last under a key; at first, those of the address."""
    held = st.session_state.get(key)
    return st.query_params.get_all(key) if held is None else list(held)


def begin(title: str, help_line: str, shares: Sequence[str] = ()) -> Catalog:
    """Write the head of a page and return the catalog; without one the page ends here.

    Parameters
    ----------
    title, help_line : str
        What the page is called, and what its numbers mean.
    shares : sequence of str
        Keys of widgets that keep their value when a reader comes from a page that shares them too.
    """
    _come_to(title, shares)
    st.header(title, anchor=False)
    st.caption(help_line)
    with explained(stop=True):
        catalog = open_catalog()
        if trouble := database_trouble(catalog):
            tell(trouble, st.warning)
        elif catalog.database is None:
            st.caption(JOURNALS)
    return catalog


def _come_to(title: str, shares: Sequence[str]) -> None:
    """Forget what widgets of another page hold: here the same keys may mean something else.

    What they held is kept for the way back to that page.
    """
    before, shared = st.session_state.get(PAGE, (title, shares))
    st.session_state[PAGE] = (title, tuple(shares))
    if before == title:
        return
    views = st.session_state.setdefault(VIEWS, {})
    views[before] = _current_view()
    kept = {PAGES, PAGE, VIEWS, *(key for key in shares if key in shared)}
    if CELL in st.query_params or RUN in st.query_params:
        kept -= {CELL, RUN, BESIDE}  # a link says what to show
    for key in [key for key in st.session_state if key not in kept]:
        del st.session_state[key]
    _return_to(views.get(title, {}), shares)


def _current_view() -> dict[str, Any]:
    """Return what widgets hold, of those that the address may hold too."""
    held = {str(key): value for key, value in st.session_state.items() if str(key).isidentifier()}
    return {
        key: value
        for key, value in held.items()
        if value and isinstance(value, str | int | list) and key not in (PAGES, VIEWS)
    }


def _return_to(view: Mapping[str, Any], shares: Sequence[str]) -> None:
    """Show what a page has shown before, unless the address or the page before says another.

    Streamlit takes what widgets have written out of the address of a page that a reader leaves, so
    Back comes to one that says less than was shown there.
    """
    about = [key for key in shares if key != BESIDE]  # pages show different things beside it
    other = any(st.session_state.get(key, view.get(key)) != view.get(key) for key in about)
    said = st.query_params.to_dict()
    if not view or other or any(not _is_said(view, key) for key in said):
        return
    for key, value in view.items():
        st.session_state[key] = value
    with suppress(StreamlitAPIException):  # else each widget writes its own
        st.query_params.from_dict({key: _in_address(value) for key, value in view.items()})
    st.rerun()  # on the way Back widgets begin as the empty address says; in the next run not


def _is_said(view: Mapping[str, Any], key: str) -> bool:
    """Whether an address says of a key what a view holds."""
    value = _in_address(view.get(key, ""))
    return st.query_params.get_all(key) == (value if isinstance(value, list) else [value])


def _in_address(value: Any) -> str | list[str]:
    if isinstance(value, list):
        return [str(one) for one in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


@contextmanager
def explained(cell: str = "", stop: bool = False) -> Iterator[None]:
    """Tell what is wrong, and what to do, in place of what the block would have shown.

    Parameters
    ----------
    cell : str
        The cell whose dataset is read in the block.
    stop : bool
        Whether nothing more of the page makes sense then.
    """
    try:
        yield
    except EXPECTED as error:
        if isinstance(error, DatabaseError) and current_connection().lost():
            st.rerun()  # from the journals
        tell(advise(error, cell), st.info if isinstance(error, MissingInputsError) else st.error)
        if stop:
            st.stop()


def remember_pages(pages: Mapping[str, Any]) -> None:
    """Note the page that shows the datasets of a schema, by its name."""
    st.session_state[PAGES] = dict(pages)


def link_to(page: str, label: str, /, **address: object) -> None:
    """Link to a page as `remember_pages` names it, with values in the address."""
    target = st.session_state.get(PAGES, {}).get(page)
    if target is not None:
        values = {
            key: list(map(str, value)) if isinstance(value, list) else str(value)
            for key, value in address.items()
        }
        st.page_link(target, label=label, query_params=values)


def choose_view(options: Iterable[str], key: str, label: str = "Section") -> str:
    """Let a reader choose, by unlabelled buttons, one of several views; the first to begin with."""
    first, *others = options
    chosen = st.segmented_control(
        label, [first, *others], default=first, key=key, bind=BOUND, label_visibility="collapsed"
    )
    return chosen or first


def tell_unknown(key: str, options: Sequence[object]) -> None:
    """Tell what an address names for a widget that is drawn next, and that is not among these."""
    known = set(map(str, options))
    if key not in st.session_state:  # later it says what was chosen
        tell_absent([name for name in st.query_params.get_all(key) if name not in known])


def tell_absent(names: Sequence[str], shown: str = "") -> None:
    """Tell what an address names and is not there, and what is shown in its place."""
    if names:
        text = ", ".join(repr(name[:100]) for name in names)
        tell(Advice(f"No {text} here", f"The address asks for it.{shown}"))


def mark_rows(table: str, rows: Sequence[object], chosen: Sequence[object]) -> None:
    """Mark the chosen rows of a table that is about to be drawn, whoever chose them."""
    indices = [index for index, row in enumerate(rows) if row in chosen]
    st.session_state[table] = {"selection": {"rows": indices, "columns": [], "cells": []}}


def marked_rows(table: str) -> list[int]:
    """Return the rows that a reader has marked."""
    return [int(row) for row in st.session_state[table]["selection"]["rows"]]


def tell(advice: Advice, box: object = st.info) -> None:
    """Show one piece of advice."""
    lines = [f"**{literal(advice.title)}**"]
    lines += [literal(line) for line in advice.reason.splitlines() if line.strip()]
    box("  \n".join(lines))  # type: ignore[operator]
    if advice.lines:
        st.code("\n".join(advice.lines), language="toml", wrap_lines=True)
    if advice.commands:
        st.code("\n".join(advice.commands), language="bash", wrap_lines=True)
