"""Datasets that pages read, each opened once for all readers of a server."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st
import xarray as xr

from dashboards.screens.frame import tell
from dashboards.views.concepts.labels import NEXT_LABELS
from dashboards.views.concepts.related import is_damaged
from dashboards.views.runs.advice import advise
from dashboards.views.runs.datasets import open_made, read_small
from registry.catalog.access import Catalog
from registry.plan.project import MissingInputsError


@dataclass(frozen=True)
class Made:
    """A dataset that is there.

    Attributes
    ----------
    cell, stage : str
        What made it, as declared; no stage opens it as it is stored.
    folder : str
        Where it is.
    """

    cell: str
    stage: str
    folder: str


def made_by(catalog: Catalog, cell: str) -> Made:
    """Return the dataset of a cell.

    Raises
    ------
    MissingInputsError
        If there is none.
    """
    return Made(cell, catalog.project.cell(cell).stage, str(catalog.path(cell)))


def if_made(catalog: Catalog, cell: str) -> Made | None:
    """Return the dataset of a cell; None if there is none, with advice if it is damaged."""
    try:
        return made_by(catalog, cell)
    except MissingInputsError as error:
        if is_damaged(catalog.project, cell):
            tell(advise(error, cell))
        return None


@st.cache_resource(max_entries=32, show_spinner="Opening a dataset …")
def opened(made: Made) -> xr.Dataset:
    """Return a dataset lazily, in today's form of its schema."""
    return open_made(made.folder, made.stage)


@st.cache_resource(max_entries=32, show_spinner="Reading the results …")
def whole(made: Made) -> xr.Dataset:
    """Return a dataset with all that is small of it in memory."""
    return read_small(made.folder, made.stage)


@st.cache_resource(max_entries=8, show_spinner="Reading the names …")
def names_of(made: Made) -> xr.Dataset:
    """Return names in memory; the next-best labels, millions of strings, stay on the disk."""
    with open_made(made.folder, made.stage, drop_variables=NEXT_LABELS) as dataset:
        return dataset.load()
