"""The page of one kind of result: one setting of it, or several side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st
import xarray as xr

from dashboards.screens import frame as page
from dashboards.screens.datasets import Made, made_by, whole
from dashboards.screens.parts import show_parts
from dashboards.views.concepts.labels import with_names
from dashboards.views.parts.parts import Part
from dashboards.views.parts.text import literal
from dashboards.views.results.view import Choice, ResultView
from dashboards.views.runs.advice import without_datasets
from dashboards.views.runs.settings import behind, cells_meant, first_settings, settings_of
from registry.catalog.access import Catalog

MOST_AT_ONCE = 8
MOST_CELLS = 32
"""Cells that are read for one page: the page says how many are left out."""


def page_of(result: ResultView) -> Callable[[], None]:
    """Return the function that shows the page of a kind of result."""

    def show() -> None:
        show_result(result)

    show.__name__ = f"show_{result.schema}"
    return show


def show_result(result: ResultView) -> None:
    """Show the page."""
    catalog = page.begin(result.title, result.meaning)
    settings = settings_of(catalog.project, result.schema)
    if not settings:
        page.tell(without_datasets(catalog.project, result.schema))
        return
    cells = _chosen_cells(catalog, result, settings)
    datasets: dict[str, xr.Dataset] = {}
    made: list[Made] = []

    def read(name: str) -> xr.Dataset:
        one = made_by(catalog, name)
        own = whole(one)
        made.append(one)
        return own

    for cell in cells:
        with page.explained(cell):
            own = read(cell)
            datasets[cell] = with_names(catalog, cell, own, read) if result.is_named else own
    if datasets:
        with page.explained():
            chosen = tuple(_choose(result.choices(datasets)).items())
            show_parts(_parts(result.schema, tuple(made), chosen, result, datasets))
            _lead_on(catalog, list(datasets))


@st.cache_resource(max_entries=16, show_spinner=False)
def _parts(
    schema: str,
    made: tuple[Made, ...],
    chosen: tuple[tuple[str, str], ...],
    _result: ResultView,
    _datasets: dict[str, xr.Dataset],
) -> list[Part]:
    """Return what is shown of datasets, names among them, for what is chosen.

    It is kept, since every click draws the page anew.
    """
    return _result.parts(_datasets, **dict(chosen))


def _lead_on(catalog: Catalog, cells: Sequence[str]) -> None:
    """Link to the runs that made what is shown, and to the concepts and tests it rests on."""
    leads = {
        "concepts": ("concepts", "Concepts: {}"),
        "activations": ("concepts", "Neurons: {}"),
        "next_tokens": ("concepts", "Next tokens: {}"),
        "sanity": ("sanity", "Sanity checks of the metrics: {}"),
    }
    with st.container(horizontal=True):
        for cell in cells:
            page.link_to("runs", f"Run: {literal(cell)}", run=cell)
        for schema, (target, known) in leads.items():
            found = (behind(catalog.project, cell, schema) for cell in cells)
            for name in dict.fromkeys(filter(None, found)):
                page.link_to(target, known.format(literal(name)), cell=name)


def _chosen_cells(catalog: Catalog, result: ResultView, settings: Sequence[str]) -> list[str]:
    """Let a reader choose settings, and return their cells."""
    first = first_settings(catalog, settings, result.together)
    page.begin_with("cell", settings, first)
    chosen = st.multiselect(
        "Settings",
        settings,
        max_selections=MOST_AT_ONCE,
        key="cell",
        bind=page.BOUND,
        help="Experiments to show; several are compared. One with a matrix stands for all "
        "its cells.",
    )
    cells = cells_meant(catalog.project, chosen or first)
    if len(cells) > MOST_CELLS:
        st.caption(f"{len(cells) - MOST_CELLS} cells left out. Choose some by name.")
    return cells[:MOST_CELLS]


def _choose(choices: Sequence[Choice]) -> dict[str, str]:
    """Let a reader choose, and return what is chosen by its key."""
    chosen = {}
    for choice in choices:
        page.tell_unknown(choice.key, choice.options)
    for slot, choice in zip(st.columns(max(3, len(choices))), choices, strict=False):
        value = slot.selectbox(
            choice.label,
            choice.options,
            index=None if choice.optional or not choice.options else 0,
            key=choice.key,
            bind=page.BOUND,
            help=choice.meaning or None,
            placeholder="none",
        )
        chosen[choice.key] = value or ""
    return chosen
