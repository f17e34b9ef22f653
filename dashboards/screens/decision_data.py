"""What the page of decisions reaches of a concept model, read and loaded once for all readers."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from dashboards.screens import datasets
from dashboards.screens.frame import explained, tell
from dashboards.screens.notes import own_names
from dashboards.server.explainer import Explainer, ExplainerError, input_key
from dashboards.server.preparation import PREPARATION
from dashboards.views.concepts import image_choice
from dashboards.views.concepts.concepts import drawn
from dashboards.views.concepts.decision_names import NAMELESS, Naming, naming_of
from dashboards.views.concepts.exactness import shown_below
from dashboards.views.parts.parts import Picture
from dashboards.views.runs.advice import (
    EXPECTED,
    Advice,
    without_datasets,
)
from dashboards.views.runs.settings import maker_of
from registry.catalog.access import Catalog
from registry.catalog.lineage import Entry, Lineage
from registry.declare.stage import Input

if TYPE_CHECKING:
    from fact.traces.interventions import ConceptSurgery

SHOWN = "Showing decisions explained in advance: the strongest concepts of each."


Uploaded: TypeAlias = tuple[str, np.ndarray]
"""Digest and picture, uint8 (y, x, colour), of what a reader brought."""


@dataclass(frozen=True)
class Model:
    """One concept model with all that its page can reach.

    Attributes
    ----------
    address : mapping of str to str
        What names the concepts for good.
    images : pd.DataFrame
        What can be chosen: ``image``, ``label``, ``prediction``.
    classes : list of str
        Names of the classes, none twice.
    explained : tuple of str
        Images that were explained in advance.
    decisions, gallery : Made or None
        What else was made of it.
    concepts : Input or None
        What an explainer is loaded from; None where nothing can be explained here.
    device : str
        As configured.
    is_awaited : bool
        Whether the server still imports what explains.
    """

    address: Mapping[str, str]
    images: pd.DataFrame
    classes: list[str]
    explained: tuple[str, ...]
    decisions: datasets.Made | None
    gallery: datasets.Made | None
    concepts: Input | None
    device: str
    is_awaited: bool = False

    @property
    def _explainer(self) -> tuple[tuple[Any, ...], Explainer]:
        """What explains its images, with the key of what it has explained."""
        if self.concepts is None:
            raise ExplainerError("the network or its concepts are not on this machine")
        key = (*input_key(self.concepts), self.device)
        return key, _explainer(key, self.concepts, self.device, _side_of(self.decisions))

    def explain(
        self,
        name: str,
        target: int | None,
        against: int | None,
        uploaded: Uploaded | None = None,
    ) -> xr.Dataset:
        """Explain one of its images, or an uploaded one with its digest; what was is kept.

        Raises
        ------
        ExplainerError
            If that cannot be done.
        """
        key, explainer = self._explainer
        return _explain(key, *_named(name, uploaded), target, against, explainer, uploaded)

    def scale(
        self,
        name: str,
        explained: xr.Dataset,
        factors: Mapping[int, float],
        uploaded: Uploaded | None = None,
    ) -> xr.Dataset:
        """Run the network on scaled concepts of an image that was explained.

        Parameters
        ----------
        name, uploaded
            As for :meth:`explain`.
        explained : xr.Dataset
            What that returned.
        factors : mapping of int to float
            By concept.

        Raises
        ------
        ExplainerError
            If that cannot be done.
        """
        key, explainer = self._explainer
        against = int(explained["against"])
        given = int(explained["target"]), None if against < 0 else against
        opened = _opened(key, *_named(name, uploaded), *given, explainer, uploaded)
        return explainer.scale(opened, factors)


def read_model(catalog: Catalog, lineage: Lineage, entry: Entry, decisions: str) -> Model:
    """Return what there is of a concept model; where there is nothing, the page ends here.

    Parameters
    ----------
    catalog : Catalog
        Where it is.
    lineage : Lineage
        What was made from what.
    entry : Entry
        The concepts.
    decisions : str
        Name of what explains images in advance; "" for none.
    """
    stored = datasets.if_made(catalog, lineage, decisions) if decisions else None
    known = measured = None
    if stored is not None:
        with explained(stored.cell):
            known = _listed(datasets.whole(stored))
    if known is None:
        stored = None  # it cannot be read, as the page says
    with explained(entry.cell if entry.is_current else ""):
        measured = _measured(datasets.made_by(catalog, lineage, entry.name))
    device = str(entry.config.get("device", "auto"))
    side = _side_of(stored)
    concepts, is_awaited = None, PREPARATION.is_busy
    if measured is not None:
        concepts = _usable_input(catalog, entry, device, side, known is not None, is_awaited)
    shown = measured if concepts is not None else known
    if shown is None:
        st.info("No decisions were explained in advance either.")
        tell(without_datasets(catalog.project, "decisions"))
        st.stop()
    gallery = maker_of(lineage, entry.name, "gallery")
    return Model(
        entry.address,
        *shown,
        tuple(known[0]["image"]) if known is not None else (),
        stored,
        datasets.readable(datasets.if_made(catalog, lineage, gallery)) if gallery else None,
        concepts,
        device,
        is_awaited and concepts is not None,
    )


Images = tuple[pd.DataFrame, list[str]]


@st.cache_resource(max_entries=8, show_spinner="Reading the images …")
def _measured(made: datasets.Made) -> Images:
    """Return the images that concepts were measured on, and the classes."""
    return _listed(datasets.opened(made))


def _listed(dataset: xr.Dataset) -> Images:
    classes = dataset["class"].values.astype(str).tolist()
    return image_choice.images_frame(dataset), image_choice.class_options(classes)


# -- what explains ----------------------------------------------------------------------------


def _side_of(stored: datasets.Made | None) -> int | None:
    """Return the side of the pictures that were explained in advance, in pixels."""
    return int(min(datasets.whole(stored)["picture"].shape[1:3])) if stored else None


def _usable_input(
    catalog: Catalog,
    entry: Entry,
    device: str,
    side: int | None,
    is_stored: bool,
    is_awaited: bool,
) -> Input | None:
    """Return what an explainer is loaded from; None, with the reason shown, if it cannot be.

    Whether it can be is not known as long as what loads it is awaited.
    """
    with explained(entry.cell if entry.is_current else ""):
        given = _input_of(catalog, entry)
        if is_awaited:
            return given
        trouble, command = _trouble((*input_key(given), device), given, device, side)
        if not trouble:
            return given
        text = f"\n{SHOWN}" if is_stored else ""
        if not command and entry.is_current:
            command = shlex.join(["factbook", "plan", "--verify", entry.cell])
        commands = (command,) if command else ()
        tell(Advice("Cannot explain new images on this machine", f"{trouble}{text}", commands))
    return None


def _input_of(catalog: Catalog, entry: Entry) -> Input:
    """Return concepts with all behind them: of a run that no cell asks for, as it read it."""
    given = None
    if not entry.is_current and entry.folder is not None:
        given = catalog.project.recorded(entry.folder)
    return catalog.input(entry.name) if given is None else given


@st.cache_resource(max_entries=2, show_spinner="Loading the network and its concepts …")
def _explainer(key: tuple[Any, ...], _concepts: Input, device: str, side: int | None) -> Explainer:
    return Explainer(_concepts, device, side)


@st.cache_data(ttl=60, max_entries=16, show_spinner=False)
def _trouble(
    key: tuple[Any, ...], _concepts: Input, device: str, side: int | None
) -> tuple[str, str]:
    """Return why nothing can be explained, "" if it can, and a command; kept for a while."""
    try:
        _explainer(key, _concepts, device, side)
    except (ExplainerError, *EXPECTED) as error:
        return str(error) or type(error).__name__, getattr(error, "command", "")
    return "", ""


@st.cache_resource(max_entries=24, show_spinner="Explaining …")
def _explain(
    key: tuple[Any, ...],
    name: str,
    digest: str,
    target: int | None,
    against: int | None,
    _explainer: Explainer,
    _uploaded: Uploaded | None,
) -> xr.Dataset:
    return _explainer.explain(_picture(_explainer, name, _uploaded), target, against)


@st.cache_resource(max_entries=8, show_spinner=False)
def _opened(
    key: tuple[Any, ...],
    name: str,
    digest: str,
    target: int,
    against: int | None,
    _explainer: Explainer,
    _uploaded: Uploaded | None,
) -> ConceptSurgery:
    return _explainer.open_concepts(_picture(_explainer, name, _uploaded), target, against)


def _named(name: str, uploaded: Uploaded | None) -> tuple[str, str]:
    """Return what tells pictures apart: the name of one of the images, or a digest."""
    return ("", uploaded[0]) if uploaded else (name, "")


def _picture(explainer: Explainer, name: str, uploaded: Uploaded | None) -> np.ndarray:
    return explainer.fit(uploaded[1]) if uploaded else explainer.read(name)


# -- what concepts are called, and where they are -----------------------------------------------


def read_naming(
    catalog: Catalog, lineage: Lineage, name: str, slot: Any, width: int
) -> tuple[Naming, datasets.Made | None]:
    """Return what concepts are called, by what a reader chooses in a box, and by which dataset."""
    maker = maker_of(lineage, name, "names")
    own = own_names(catalog, lineage.entries[name].run)
    with explained(maker):
        found = datasets.if_made(catalog, lineage, maker) if maker else None
        made = datasets.readable(found, datasets.names_of)
        if made and (namer := datasets.choose_namer(made, slot, "Concepts named by", width=width)):
            return replace(naming_of(datasets.names_of(made), namer), own=own), made
    return replace(NAMELESS, own=own), None


def strongest_images(gallery: datasets.Made | None, concept: int, most: int) -> list[Picture]:
    """Return the images in which a concept is strongest; none where no gallery can be read."""
    with suppress(*EXPECTED):  # the top of the page says why it cannot be read
        if gallery:
            possible = shown_below(datasets.opened(gallery))
            found = datasets.tiles_of(gallery, concept, most)
            return [drawn(tile, possible) for tile in found]
    return []
