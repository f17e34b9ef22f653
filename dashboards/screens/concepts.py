"""The page of concepts: which there are, where each is strongest, and what names it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboards.screens import datasets
from dashboards.screens import frame as page
from dashboards.screens.concept import OTHER, REFRESH, go_to, show_beside, show_concept, show_pair
from dashboards.screens.finding import find_by_meaning
from dashboards.screens.notes import concept_notes
from dashboards.screens.parts import (
    as_shown,
    column_of,
    offer_table,
    show_figure,
    show_numbers,
    show_part,
    wide_columns,
)
from dashboards.screens.shown import choose_shown, keep_in_address, tell_beside, tell_earlier
from dashboards.server.map_cache import ConceptMap
from dashboards.views.concepts import concepts as view
from dashboards.views.concepts.concept_map import MARKED, map_figure
from dashboards.views.concepts.concept_model import channels_note, model_parts
from dashboards.views.concepts.exactness import shown_below
from dashboards.views.concepts.neurons import is_of_neurons, neurons_note
from dashboards.views.concepts.passages import strongest_passages, texts_note
from dashboards.views.parts.parts import Figure, file_name, numbers_line
from dashboards.views.parts.pictures import key_script
from dashboards.views.parts.text import literal
from dashboards.views.runs.advice import without_datasets
from registry.catalog.access import Catalog
from registry.wording import counted

HELP = (
    "A concept is one latent of an SAE in place of a layer; what concepts contribute adds up to "
    "the logit, or is marked as approximate (FaCT, arXiv 2510.25512). Neurons are channels of a "
    "layer, logits, or probabilities of tokens. Names are labels, scored on images or texts that "
    "they were not chosen on (arXiv 2506.05774)."
)
TABLE = "concepts"
NARROW = 165  # pixels of a box
KEYS_HINT = "Keys: j, k, / and ? for all"
TABLE_HEIGHT = 720
ROW_HEIGHT = 52
WIDTHS = {
    "concept": 62,
    "picture": 58,
    "token": 90,
    "passage": 300,
    "count": 62,
    "name": 125,
    "called": 110,
    "score": 48,
    "verdict": 96,
    "chance": 100,
    "nearness": 72,
    "c2": 48,
    "image_share": 62,
    "mean_contribution": 106,
    "tags": 90,
}
TABLE_AND_CONCEPT = (11, 14)
"""Widths: four pictures stand side by side in a window of 1,400 pixels."""
SECTIONS = ("Concepts", "The whole model", "Map")
MAP = "map-of-concepts"


def show() -> None:
    """Show the page."""
    catalog = page.begin("Concepts", HELP, shares=page.OF_A_MODEL)
    lineage = page.lineage(catalog)
    names = datasets.sets_of(lineage)
    if not names:
        page.tell(without_datasets(catalog.project, "concepts"))
        return
    slots = st.columns([3, 2, 3, 2])
    entry = choose_shown(catalog, lineage, slots[0], "Experiment", names)
    cell = entry.cell
    tell_earlier(catalog, lineage, [entry])
    with page.explained(cell if entry.is_current else "", stop=True):
        model = datasets.find_model(catalog, lineage, entry.name)
        numbers = view.summary(datasets.statistics(model.concepts))
    tell_beside(catalog, lineage, entry.name, model.beside)
    keep_in_address([cell], [model.concepts.run], model.address["beside"])
    namer = datasets.choose_namer(model.names, slots[1], "Named by")
    with page.explained(cell, stop=True):
        frame = datasets.frame_of(model.concepts, model.names, model.consistency, namer)
    with st.container(horizontal=True, vertical_alignment="center"):
        section = page.choose_view(SECTIONS, "section")
        if section == SECTIONS[0]:
            st.caption(literal(numbers_line(numbers)))
    if section == SECTIONS[1]:
        show_numbers(numbers)
    if is_of_neurons(kept := datasets.statistics(model.concepts)):
        st.caption(literal(neurons_note(cell, kept)))
    elif model.is_of_texts:
        st.caption(literal(texts_note(cell, kept)))
    if section == SECTIONS[1]:
        _whole_model(model, frame, namer)
    elif frame.empty:
        st.info("No concepts in this dataset.")
    elif section == SECTIONS[2]:
        _map(model, _tagged(catalog, model.concepts, frame))
    else:
        _browse(catalog, model, _tagged(catalog, model.concepts, frame), namer, slots)


# -- one by one -------------------------------------------------------------------------------


def _browse(
    catalog: Catalog,
    model: datasets.Model,
    frame: pd.DataFrame,
    namer: str,
    slots: Sequence[DeltaGenerator],
) -> None:
    """Show the table, and beside it the concept that is chosen."""
    text = slots[2].text_input(
        "Search",
        key="label",
        bind=page.BOUND,
        placeholder="name or index",
        on_change=go_to,  # the first of those that are found
        args=(None,),
    )
    by = slots[3].selectbox("Sort by", view.orders_of(frame), key="sort", bind=page.BOUND)
    ordered = view.order(frame, by)
    if not model.is_of_texts:
        ordered = find_by_meaning(catalog, model, ordered)
    found = view.search(ordered, text or "")
    asked = st.session_state.get("concept", st.query_params.get("concept"))
    if found.empty and not asked:
        _table(model, found, -1, namer)
        return
    table, chosen = wide_columns(TABLE_AND_CONCEPT)
    with chosen:
        known = ordered["concept"].tolist()
        concept = _choice(found["concept"].tolist() or known, known)
        show_concept(catalog, model, frame, concept)
    with table:
        _table(model, found, concept, namer)
    _beside(catalog, model, frame, concept)
    show_beside(catalog, model, frame, concept)


def _beside(catalog: Catalog, model: datasets.Model, frame: pd.DataFrame, concept: int) -> None:
    """Show another concept beside the one that is shown, where a reader asks for one."""
    text = st.text_input(
        "Compare with", key=OTHER, bind=page.BOUND, width=NARROW, placeholder="index"
    )
    if not text:
        return
    others = [one for one in frame["concept"].tolist() if one != concept]
    other = view.meant_concept(text, others or [concept])
    if found := view.not_meant(text, other):
        st.info(literal(found))
    show_pair(catalog, model, frame, concept, other)


def _tagged(catalog: Catalog, made: datasets.Made, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the concepts with the names and tags that readers gave them."""
    with page.explained(made.cell):
        noted = concept_notes(catalog, made.run)
        tags = {one: " ".join(note.tags) for one, note in noted.items()}
        called = {one: note.name for one, note in noted.items()}
        return view.with_noted(view.with_noted(frame, "called", called), "tags", tags)
    return frame


def _choice(concepts: Sequence[int], known: Sequence[int]) -> int:
    """Return the concept to show: the one that is asked for, at first that of the first row.

    Of all that are known any can be asked for; one goes on among those that were found.
    """
    row = st.container(horizontal=True, vertical_alignment="bottom")
    text = row.text_input(
        "Concept",
        placeholder=f"{concepts[0]}",
        label_visibility="collapsed",
        key="concept",
        bind=page.BOUND,
        width=NARROW,
    )
    concept = view.meant_concept(text or str(concepts[0]), known)
    if found := view.not_meant(text or "", concept):
        st.info(literal(found))
    for label, step, keys in (("Previous", -1, "k or ←"), ("Next", 1, "j or →")):
        other = view.neighbour(concept, concepts, step)
        row.button(
            label,
            key=f"{label.lower()}-concept",
            on_click=go_to,
            args=(other,),
            disabled=other is None,
            help=f"Key {keys}; ? shows all keys.",
        )
    row.caption(KEYS_HINT, width="content")
    st.html(f"<script>{key_script()}</script>", unsafe_allow_javascript=True)
    return concept


def _table(model: datasets.Model, found: pd.DataFrame, concept: int, namer: str) -> None:
    """Show one page of the concepts that were found; choosing a row chooses its concept."""
    if found.empty:
        st.info("No concept matches. Relax the search.")
        return
    number = _page(found, concept)
    rows = found.iloc[(number - 1) * view.PAGE : number * view.PAGE]
    keys = [int(one) for one in rows["concept"]]
    with page.explained():
        pictures = datasets.thumbnails(model.gallery, tuple(keys)) if model.gallery else {}
        if pictures:
            rows = rows.assign(picture=[pictures.get(one) for one in keys])
        if model.is_of_texts:
            passages = datasets.strongest_texts(model.concepts, tuple(keys))
            rows = rows.assign(passage=[passages.get(one, "") for one in keys])
    table = view.concept_table(model.concepts.cell, rows, namer)
    config: dict[str, Any] = {
        name: {**column_of(name, column), "width": WIDTHS.get(name, "small")}
        for name, column in table.columns.items()
    }
    page.mark_rows(TABLE, keys, [concept])
    st.dataframe(
        as_shown(table.frame, table.columns),
        key=TABLE,
        height=min(TABLE_HEIGHT, 40 + ROW_HEIGHT * len(rows)),
        row_height=ROW_HEIGHT,
        hide_index=True,
        placeholder="",
        alt="Concepts",
        on_select=lambda: _choose(keys),
        selection_mode="single-row",
        column_config=config,
    )
    st.caption(f"{counted(len(found), view.noun(found).lower())}. Tick a box to open one.")
    offer_table(view.concept_table(model.concepts.cell, found, namer))


def _page(found: pd.DataFrame, concept: int) -> int:
    """Return which page of the table to show: that of the chosen concept, until one is chosen."""
    last = view.page_count(len(found))
    if last == 1:
        return 1
    asked = st.number_input(
        f"Page (of {last:,})",
        min_value=1,
        value=None,
        step=1,
        placeholder=f"Page {view.page_with(found, concept):,} of {last:,}",
        label_visibility="collapsed",
        key="page",
        bind=page.BOUND,
    )
    return min(int(asked), last) if asked else view.page_with(found, concept)


def _choose(concepts: Sequence[int]) -> None:
    for row in page.marked_rows(TABLE):
        go_to(concepts[row])


# -- all together -----------------------------------------------------------------------------


def _map(model: datasets.Model, frame: pd.DataFrame) -> None:
    """Show all concepts in two dimensions; a click opens one."""
    with page.explained():
        found = datasets.map_of(model.concepts, model.sae, model.root)
        if found is None:
            st.info(
                "Without an autoencoder concepts are laid out by their presences, and these are "
                "too many. The list has all of them."
            )
            return
        known, by = found
        points = known.look()
        if np.isnan(points).all():
            st.info("Too few concepts to lay out. The list has all of them.")
            return
        if is_rough := known.is_rough(points):
            _laying_out(known)
        slots = datasets.statistics(model.concepts).indexes["concept"].get_indexer(frame["concept"])
        own = np.where(slots[:, None] >= 0, points[slots], np.nan)
        name = file_name(model.concepts.cell, "map")
        show_figure(
            map_figure(name, frame, own, view.noun(frame), "" if is_rough else by),
            key=MAP,
            alt="Map of all concepts",
            on_select=_open_marked,
            selection_mode=[MARKED],
        )


@st.fragment(run_every=REFRESH)
def _laying_out(known: ConceptMap) -> None:
    """Tell how far a map is that is shown roughly, and show it when it is there."""
    known.begin()
    if known.is_over:
        st.rerun()
    st.progress(
        known.share,
        "The map is being laid out, once. Until then concepts lie along the two main directions "
        "of all.",
    )


def _open_marked() -> None:
    marked = st.session_state[MAP]["selection"].get(MARKED) or [{}]
    if "concept" in marked[0]:
        go_to(int(marked[0]["concept"]))
        st.query_params["concept"] = st.session_state["concept"]  # its box is not there yet
        st.session_state["section"] = SECTIONS[0]


def _whole_model(model: datasets.Model, frame: pd.DataFrame, namer: str) -> None:
    """Show what is said of all concepts together."""
    if model.is_of_texts:
        with page.explained():
            show_part(strongest_passages(datasets.opened(model.concepts), frame))
        return
    if model.sae is None and not is_of_neurons(datasets.statistics(model.concepts)):
        st.caption(channels_note(model.concepts.cell))
    with page.explained():
        if model.gallery:
            gallery = datasets.opened(model.gallery)
            show_part(view.strongest(frame, gallery, shown_below(gallery)))
    names = datasets.names_of(model.names) if model.names else None
    scores = datasets.whole(model.consistency) if model.consistency else None
    best = frame.set_index("concept") if model.names else None
    parts = model_parts(
        model.concepts.cell,
        datasets.statistics(model.concepts),
        names,
        scores,
        best,
        datasets.whole(model.fidelity) if model.fidelity else None,
        datasets.training_of(model.sae) if model.sae else None,
    )
    figures = [part for part in parts if isinstance(part, Figure)]
    for start in range(0, len(figures), 2):
        for slot, figure in zip(st.columns(2, gap="medium"), figures[start:], strict=False):
            with slot:
                show_part(figure)
    for part in parts:
        if not isinstance(part, Figure):
            show_part(part)
