"""One decision: the sum in words and bars, and its concepts beside their galleries."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import streamlit as st
import xarray as xr
from streamlit.delta_generator import DeltaGenerator

from dashboards.screens.datasets import Made
from dashboards.screens.decision_data import Model, strongest_images
from dashboards.screens.frame import link_to
from dashboards.screens.parts import show_part
from dashboards.views.concepts import decisions as view
from dashboards.views.concepts.decisions import Decision, Naming, Term
from dashboards.views.parts.parts import file_name
from dashboards.views.parts.pictures import enlarge
from dashboards.views.parts.text import literal

TILES = 5
PLACES = (3, 3, 4, 2 * TILES)
"""Widths of a concept's row: its colours, its amounts, words, and its gallery."""


def show_decision(
    model: Model,
    decision: Decision,
    naming: Naming,
    image: str,
    ask_further: Callable[[], None] = lambda: None,
) -> None:
    """Show a decision.

    Parameters
    ----------
    model : Model
        Whose concepts it is of.
    decision : Decision
        What is explained.
    naming : Naming
        What concepts are called.
    image : str
        What the image is called.
    ask_further : callable
        Shows what can be asked next.
    """
    st.subheader(literal(decision.question), anchor=False)
    st.markdown(literal(view.verdict_line(decision)))
    st.markdown(literal(view.reason_line(decision, naming)))
    if decision.against:
        st.caption(literal(view.meaning_of_shares(decision)))
    if line := view.position_line(decision):
        st.caption(literal(line))
    ask_further()
    name = file_name("decision", image)
    left, right = st.columns([5, 8], gap="large")
    with left:
        _subject(decision, image)
        if (figure := view.classes_figure(decision, name)) is not None:
            show_part(figure)
    with right:
        show_part(view.waterfall_figure(decision, naming, name))
        with st.expander("Shares as a table"):
            show_part(view.shares_table(decision, naming, name))
    _terms(model, decision, naming)


def show_concepts(explained: xr.Dataset, naming: Naming, image: str) -> None:
    """Offer the table of every concept that is present in an image."""
    with st.expander("Every concept present in the image"):
        show_part(view.contributions_table(explained, naming, file_name("decision", image)))


def _subject(decision: Decision, image: str) -> None:
    left, right = st.columns(2)
    left.image(enlarge(decision.picture), width="stretch", alt=image)
    left.caption(literal(f"{image}, as the network sees it"))
    origin = f"where the {decision.quantity} comes from"
    right.image(enlarge(decision.explanation), width="stretch", alt=origin)
    right.caption(literal(origin))


def _terms(model: Model, decision: Decision, naming: Naming) -> None:
    if decision.for_it:
        st.markdown(f"**{literal(f'Concepts that {decision.favours}')}**")
        _titles()
        _rows(model, decision, naming, decision.for_it)
    if decision.against_it:
        title = literal(f"Concepts that {decision.opposes}")
        with st.expander(title, expanded=view.matters(decision)):
            _rows(model, decision, naming, decision.against_it)
    _others(decision)
    st.caption(view.ABOUT_PICTURES)


def _titles() -> None:
    words = ("colours here", "amounts here", "", "where the concept is strongest")
    for slot, word in zip(st.columns(PLACES), words, strict=True):
        if word:
            slot.caption(word)


def _rows(model: Model, decision: Decision, naming: Naming, terms: Sequence[Term]) -> None:
    for term in terms:
        colours, amounts, words, gallery = st.columns(PLACES)
        title = naming.title(term.concept)
        _places(colours, amounts, decision, term.explanation, term.map, title)
        with words:
            st.markdown(f"**{literal(title)}**")
            st.markdown(literal(view.term_line(term, decision)))
            if verdict := naming.verdict.get(term.concept):
                st.caption(literal(verdict))
            link_to("concepts", "About this concept", cell=model.cell, concept=term.concept)
        with gallery:
            _strip(model.gallery, term.concept)


def _others(decision: Decision) -> None:
    colours, amounts, words, _ = st.columns(PLACES)
    title = "All others together"
    _places(colours, amounts, decision, decision.others_explanation, decision.others_map, title)
    words.markdown(f"**{title}**")
    words.markdown(literal(view.others_line(decision)))


def _places(
    colours: DeltaGenerator,
    amounts: DeltaGenerator,
    decision: Decision,
    explanation: np.ndarray,
    amount: np.ndarray,
    title: str,
) -> None:
    """Show where concepts are in the image: their colours, and their amounts on it."""
    heat = view.heat(amount, decision.picture)
    colours.image(enlarge(explanation), width="stretch", alt=f"{title}: colours in this image")
    amounts.image(enlarge(heat), width="stretch", alt=f"{title}: amounts in this image")


def _strip(gallery: Made | None, concept: int) -> None:
    """Show the images in which a concept is strongest, each above where it is in it."""
    tiles = strongest_images(gallery, concept, TILES)
    if not tiles:
        st.caption("No pictures drawn.")
    for slot, tile in zip(st.columns(TILES), tiles, strict=False):
        slot.image(tile.picture, width="stretch", alt=tile.image)
        slot.image(tile.explanation, width="stretch", alt=f"colours in {tile.image}")
