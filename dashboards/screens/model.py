"""What the page of decisions reaches of a concept model, read and loaded once for all readers."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from dashboards.screens.frame import explained, tell
from dashboards.server.explainer import Explainer, ExplainerError, input_key
from dashboards.views.concepts import choosing, labels
from dashboards.views.concepts.concepts import Tile, maker_of, tiles
from dashboards.views.concepts.decisions import NAMELESS, Naming, naming_of
from dashboards.views.concepts.related import is_damaged
from dashboards.views.runs.advice import (
    EXPECTED,
    Advice,
    advise,
    made_again_by,
    without_datasets,
)
from dashboards.views.runs.datasets import open_made, read_small
from registry.catalog.access import Catalog
from registry.declare.inputs import Input
from registry.plan.project import MissingInputsError

NOT_HERE = "not-here"
"""Where a reader's session keeps which models cannot explain anything on this machine."""

SHOWN = "Shown is what was explained in advance: the strongest concepts of each decision."


@dataclass(frozen=True)
class Stored:
    """Where a dataset lies, and which stage makes it; an empty folder where there is none."""

    folder: str = ""
    stage: str = ""


@dataclass(frozen=True)
class Model:
    """One concept model with all that its page can reach.

    Attributes
    ----------
    cell : str
        That made the concepts.
    images : pd.DataFrame
        What can be chosen: ``image``, ``label``, ``prediction``.
    classes : list of str
        Names of the classes, none twice.
    explained : tuple of str
        Images that were explained in advance.
    decisions, gallery : Stored
        What else was made of it.
    concepts : Input or None
        What an explainer is loaded from; None where nothing can be explained here.
    device : str
        As configured.
    """

    cell: str
    images: pd.DataFrame
    classes: list[str]
    explained: tuple[str, ...]
    decisions: Stored
    gallery: Stored
    concepts: Input | None
    device: str

    def explain(
        self,
        name: str,
        target: int | None,
        against: int | None,
        uploaded: tuple[str, np.ndarray] | None = None,
    ) -> xr.Dataset:
        """Explain one of its images, or an uploaded one with its digest; what was is kept.

        Raises
        ------
        ExplainerError
            If that cannot be done.
        """
        if self.concepts is None:
            raise ExplainerError("the network or its concepts are not on this machine")
        key = (*input_key(self.concepts), self.device)
        side = _side_of(self.decisions)
        if _trouble(key, self.concepts, self.device, side):
            st.session_state[NOT_HERE] = {*st.session_state.get(NOT_HERE, ()), key}
            st.rerun()  # with what can be done without a network
        explainer = _explainer(key, self.concepts, self.device, side)
        digest, picture = uploaded or ("", None)
        named = "" if uploaded else name
        return _explain(key, named, digest, target, against, explainer, picture)


def read_model(catalog: Catalog, cell: str, decisions: str) -> Model:
    """Return what there is of a concept model; where there is nothing, the page ends here.

    Parameters
    ----------
    catalog : Catalog
        Where it is.
    cell : str
        That makes the concepts.
    decisions : str
        That explains images in advance; "" for none.
    """
    stored = _stored(catalog, decisions)
    known, measured = _images(stored, decisions), None
    if known is None:
        stored = Stored()  # refused, and told why
    with explained(cell):
        measured = _measured(str(catalog.path(cell)), catalog.project.cell(cell).stage)
    device = str(catalog.project.cell(cell).config.get("device", "auto"))
    side = _side_of(stored)
    concepts = None
    if measured is not None:
        concepts = _usable_input(catalog, cell, device, side, known is not None)
    shown = measured if concepts is not None else known
    if shown is None:
        st.info("No decision was explained in advance either.")
        tell(without_datasets(catalog.project, "decisions"))
        st.stop()
    return Model(
        cell,
        *shown,
        tuple(known[0]["image"]) if known is not None else (),
        stored,
        _pictures(catalog, maker_of(catalog, cell, "gallery")),
        concepts,
        device,
    )


def _stored(catalog: Catalog, cell: str) -> Stored:
    if not cell:
        return Stored()
    try:
        return Stored(str(catalog.path(cell)), catalog.project.cell(cell).stage)
    except MissingInputsError as error:
        if is_damaged(catalog.project, cell):
            tell(advise(error, cell))
        return Stored()


def _pictures(catalog: Catalog, cell: str) -> Stored:
    """Return a gallery that can be opened; tell what to do about one that cannot."""
    stored = _stored(catalog, cell)
    with explained(cell):
        if stored.folder:
            _gallery(stored)
        return stored
    return Stored()


Images = tuple[pd.DataFrame, list[str]]


def _images(stored: Stored, cell: str) -> Images | None:
    """Return the images that were explained in advance, and the classes."""
    if stored.folder:
        with explained(cell):
            return _listed(read_decisions(stored))
    return None


@st.cache_resource(max_entries=8, show_spinner="Reading the images …")
def _measured(folder: str, stage: str) -> Images:
    """Return the images that concepts were measured on, and the classes."""
    with open_made(folder, stage) as dataset:
        return _listed(dataset)


def _listed(dataset: xr.Dataset) -> Images:
    classes = dataset["class"].values.astype(str).tolist()
    return choosing.images_frame(dataset), choosing.class_options(classes)


def read_decisions(stored: Stored) -> xr.Dataset:
    """Return stored decisions, what is small of them in memory."""
    return _decisions(stored.folder, stored.stage)


@st.cache_resource(max_entries=8, show_spinner="Reading decisions …")
def _decisions(folder: str, stage: str) -> xr.Dataset:
    return read_small(folder, stage)


# -- what explains ----------------------------------------------------------------------------


def _side_of(stored: Stored) -> int | None:
    """Return the side of the pictures that were explained in advance, in pixels."""
    return int(min(read_decisions(stored)["picture"].shape[1:3])) if stored.folder else None


def _usable_input(
    catalog: Catalog, cell: str, device: str, side: int | None, is_stored: bool
) -> Input | None:
    """Return what an explainer is loaded from; None, and told why, if it is known to fail."""
    with explained(cell):
        given = catalog.input(cell)
        key = (*input_key(given), device)
        failed = key in st.session_state.get(NOT_HERE, ())
        if not failed or not (trouble := _trouble(key, given, device, side)):
            return given
        told = f"\n{SHOWN}" if is_stored else ""
        command = made_again_by(trouble) or shlex.join(["factbook", "plan", "--verify", cell])
        tell(Advice("Nothing new can be explained on this machine", f"{trouble}{told}", (command,)))
    return None


@st.cache_resource(max_entries=2, show_spinner="Loading the network and its concepts …")
def _explainer(key: tuple[Any, ...], _concepts: Input, device: str, side: int | None) -> Explainer:
    return Explainer(_concepts, device, side)


@st.cache_data(ttl=60, max_entries=16, show_spinner=False)
def _trouble(key: tuple[Any, ...], _concepts: Input, device: str, side: int | None) -> str:
    """Return why nothing can be explained, "" if it can; not tried again for a while."""
    try:
        _explainer(key, _concepts, device, side)
    except (ExplainerError, *EXPECTED) as error:
        return str(error) or type(error).__name__
    return ""


@st.cache_resource(max_entries=24, show_spinner="Explaining …")
def _explain(
    key: tuple[Any, ...],
    name: str,
    digest: str,
    target: int | None,
    against: int | None,
    _explainer: Explainer,
    _picture: np.ndarray | None,
) -> xr.Dataset:
    picture = _explainer.read(name) if _picture is None else _explainer.fit(_picture)
    return _explainer.explain(picture, target, against)


# -- what concepts are called, and where they are -----------------------------------------------


def read_naming(catalog: Catalog, cell: str, choose: Any) -> Naming:
    """Return what concepts are called.

    Parameters
    ----------
    catalog : Catalog
        Where names are.
    cell : str
        That made the concepts.
    choose : callable
        From the ways to name, and the place of the preferred one, to one of them.
    """
    maker = maker_of(catalog, cell, "names")
    with explained(maker):
        stored = _stored(catalog, maker)
        if stored.folder:
            names = _names(stored.folder, stored.stage)
            ways: Sequence[str] = labels.ways_to_name(names)
            return naming_of(names, choose(ways, labels.preferred_way(ways)))
    return NAMELESS


@st.cache_resource(max_entries=8, show_spinner="Reading the names …")
def _names(folder: str, stage: str) -> xr.Dataset:
    return read_small(folder, stage)


@st.cache_resource(max_entries=256, show_spinner=False)
def strongest_images(gallery: Stored, concept: int, most: int) -> list[Tile]:
    """Return the images in which a concept is strongest; none where no gallery can be read."""
    try:
        if gallery.folder:
            return tiles(_gallery(gallery).isel(rank=slice(most)), concept)
    except EXPECTED:
        pass  # told at the top of the page where the whole of it cannot be read
    return []


@st.cache_resource(max_entries=4, show_spinner=False)
def _gallery(gallery: Stored) -> xr.Dataset:
    """Return a gallery, open for a decision's many concepts."""
    return open_made(gallery.folder, gallery.stage)
