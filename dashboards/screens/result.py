"""The page of one kind of result: one setting of it, or several side by side."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st
import xarray as xr

from dashboards.screens.frame import BOUND, begin, explained, tell
from dashboards.screens.parts import show_parts
from dashboards.views.advice import without_datasets
from dashboards.views.concepts import cells_of, first_made
from dashboards.views.datasets import read_small
from dashboards.views.results import Result

MOST_AT_ONCE = 8


def page_of(result: Result) -> Callable[[], None]:
    """Return the function that shows the page of a kind of result."""

    def show() -> None:
        show_result(result)

    show.__name__ = f"show_{result.schema}"
    return show


def show_result(result: Result) -> None:
    """Show the page."""
    catalog = begin(result.title, result.meaning)
    cells = cells_of(catalog.project, result.schema)
    if not cells:
        tell(without_datasets(catalog.project, result.schema))
        return
    first = cells[first_made(catalog, cells)]
    chosen = st.multiselect(
        "Settings",
        cells,
        default=[first],
        max_selections=MOST_AT_ONCE,
        key="cell",
        bind=BOUND,
        help="Experiments whose results are shown, and compared if there are several.",
    )
    datasets = {}
    for cell in chosen or [first]:
        with explained(cell):
            stage = catalog.project.cell(cell).stage
            datasets[cell] = read_whole(str(catalog.path(cell)), stage)
    if datasets:
        with explained():
            show_parts(result.parts(datasets))


@st.cache_resource(max_entries=16, show_spinner="Reading the results …")
def read_whole(folder: str, stage: str) -> xr.Dataset:
    """Return a dataset, what is small of it in memory, kept for the next reader."""
    return read_small(folder, stage)
