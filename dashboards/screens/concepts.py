"""The page of concepts: which there are, where each is strongest, and what names it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st
import xarray as xr
from streamlit.delta_generator import DeltaGenerator

from dashboards.screens.frame import BOUND, begin, explained, mark_row, marked_row, tell
from dashboards.views import concepts as view
from dashboards.views import labels
from dashboards.views.advice import Advice, without_datasets
from dashboards.views.text import count_text, literal, number_text
from registry.catalog import Catalog
from registry.store import open_dataset

HELP = (
    "A concept is one latent of a bias-free TopK SAE in place of a layer. Its presence in an image "
    "is the sum of its activations, and its contributions add up to the logit (Parchami-Araghi et "
    "al., FaCT, NeurIPS 2025, arXiv 2510.25512). Names are labels, scored by the metrics of "
    "Oikarinen et al. (ICML 2025, arXiv 2506.05774) on images that they were not chosen on."
)
ABOUT_GALLERY = (
    "Images with the largest presence. Below each, where the concept is in it: the input weights "
    "that make its presence, in colour, on white."
)
TABLE = "concepts"
TABLE_HEIGHT = 720
ROW_HEIGHT = 52
TILES_IN_ROW = 6


def show() -> None:
    """Show the page."""
    catalog = begin("Concepts", HELP)
    cells = view.cells_of(catalog.project, "concepts")
    if not cells:
        tell(without_datasets(catalog.project, "concepts"))
        return
    places = st.columns([3, 2, 3])
    first = view.first_made(catalog, cells)
    cell = places[0].selectbox("Experiment", cells, index=first, key="cell", bind=BOUND)
    with explained(cell, stop=True):
        statistics = _statistics(str(catalog.path(cell)))
    names, metric = _naming(catalog, cell, places[1])
    text = places[2].text_input(
        "Search", key="label", bind=BOUND, placeholder="a name, or a concept's number"
    )
    gallery = _made_from(catalog, cell, "gallery")
    frame = view.concepts_frame(statistics, labels.best_names(names, metric) if names else None)
    _summary(statistics)
    table, chosen = st.columns([2, 3], gap="medium")
    with chosen:
        concept = _choice(frame["concept"].tolist())
        _about(frame, concept)
        _labels(names, concept)
        _gallery(gallery, concept)
    with table:
        _table(view.search(frame, text or ""), concept, gallery, metric)


# -- datasets ---------------------------------------------------------------------------------


def _made_from(catalog: Catalog, cell: str, schema: str) -> str:
    """Return the folder of the dataset that was made from a cell; tell what to do if none was."""
    makers = view.cells_of(catalog.project, schema, made_from=cell)
    if not makers:
        reason = f"No experiment of experiments.toml makes one from {cell}."
        tell(Advice(f"There is no {schema!r} dataset", reason))
        return ""
    maker = makers[view.first_made(catalog, makers)]
    with explained(maker):
        return str(catalog.path(maker))
    return ""


def _naming(catalog: Catalog, cell: str, place: DeltaGenerator) -> tuple[xr.Dataset | None, str]:
    """Return the names of concepts, and the metric to name them by, or their consensus."""
    folder = _made_from(catalog, cell, "names")
    with explained():
        names = _names(folder) if folder else None
        ways = labels.ways_to_name(names) if names else []
        way = place.selectbox(
            "Named by",
            ways,
            index=labels.preferred_way(ways) if ways else None,
            help="Consensus: the label that most of the metrics choose which pass the sanity tests "
            "(all metrics, where none was tested). Its score is their share.",
            key="metric",
            bind=BOUND,
        )
        return names, way or ""
    return None, ""


@st.cache_resource(max_entries=8, show_spinner="Reading the concepts …")
def _statistics(folder: str) -> xr.Dataset:
    """Return what is small of a concepts dataset: scalars, and what concepts and images have."""
    with open_dataset(folder) as dataset:
        return dataset.drop_vars(
            [name for name, v in dataset.data_vars.items() if v.ndim > 1]
        ).load()


@st.cache_resource(max_entries=8, show_spinner="Reading the names …")
def _names(folder: str) -> xr.Dataset:
    with open_dataset(folder) as dataset:
        return dataset.load()


@st.cache_resource(max_entries=4, show_spinner="Reading pictures …")
def _thumbnails(folder: str) -> dict[int, str] | None:
    with open_dataset(folder) as dataset:
        return view.first_pictures(dataset)


@st.cache_resource(max_entries=128, show_spinner=False)
def _tiles(folder: str, concept: int) -> list[view.Tile]:
    with open_dataset(folder) as dataset:
        return view.tiles(dataset, concept)


# -- what is shown ----------------------------------------------------------------------------


def _summary(statistics: xr.Dataset) -> None:
    numbers = view.summary(statistics)
    for place, number in zip(st.columns(len(numbers) or 1), numbers, strict=False):
        place.metric(number.label, number.value, help=number.meaning)


def _table(frame: pd.DataFrame, concept: int, gallery: str, metric: str) -> None:
    """Show the concepts; choosing a row chooses its concept."""
    if frame.empty:
        st.info("No concept has such a name. Look for less, or clear the search.")
        return
    with explained():
        pictures = _thumbnails(gallery) if gallery else None
        if pictures:
            frame = frame.assign(picture=[pictures.get(one) for one in frame["concept"]])
    keys = frame["concept"].tolist()
    mark_row(TABLE, keys, concept)
    config = st.column_config
    st.dataframe(
        frame,
        key=TABLE,
        height=min(TABLE_HEIGHT, 40 + ROW_HEIGHT * len(frame)),
        row_height=ROW_HEIGHT,
        hide_index=True,
        placeholder="",
        column_order=["concept", "picture", "name", "score", "image_share", "mean_contribution"],
        on_select=lambda: _choose(keys),
        selection_mode="single-row",
        column_config={
            "concept": config.NumberColumn("concept", format="%d", width=55),
            "picture": config.ImageColumn("strongest", width=60),
            "name": config.TextColumn("name", help=f"By {metric}." if metric else None, width=115),
            "score": config.NumberColumn("score", format="%.2f", width=55),
            "image_share": config.NumberColumn("images", format="percent", width=60),
            "mean_contribution": config.NumberColumn("contribution", format="%.3g", width=85),
        },
    )
    st.caption(
        f"{count_text(len(frame), 'concept')}. Choose one by the box at the left of its row."
    )


def _choose(concepts: Sequence[int]) -> None:
    row = marked_row(TABLE)
    if row is not None:
        _go_to(concepts[row])


def _choice(concepts: Sequence[int]) -> int:
    """Return the concept to show: the one that is asked for, at first that of the first row."""
    asked, back, on = st.columns([6, 1, 1], vertical_alignment="bottom")
    text = asked.text_input(
        "Concept",
        placeholder=f"{concepts[0]}, which contributes most",
        help="By its number, or by the box at the left of its row.",
        key="concept",
        bind=BOUND,
    )
    concept = view.meant_concept(text or "", concepts)
    for place, label, step in ((back, "Previous", -1), (on, "Next", 1)):
        other = view.neighbour(concept, concepts, step)
        place.button(label, width="stretch", on_click=_go_to, args=(other,), disabled=other is None)
    return concept


def _go_to(concept: int | None) -> None:
    st.session_state["concept"] = "" if concept is None else str(concept)


def _about(frame: pd.DataFrame, concept: int) -> None:
    name, line = view.about(frame, concept)
    st.subheader(literal(name), anchor=False)
    st.caption(literal(line))


def _labels(names: xr.Dataset | None, concept: int) -> None:
    if names is None:
        return
    config = st.column_config
    st.dataframe(
        labels.label_frame(names, concept),
        hide_index=True,
        placeholder="",
        column_config={
            name: config.NumberColumn(name, format="%.3f", width="small")
            for name in ("score", "low", "high", "margin")
        },
    )
    st.caption(labels.names_note(names))


def _gallery(gallery: str, concept: int) -> None:
    with explained():
        tiles = _tiles(gallery, concept) if gallery else []
        if gallery and not tiles:
            st.info("No image of this concept was drawn: it contributes to none, or to too few.")
        for start in range(0, len(tiles), TILES_IN_ROW):
            for place, tile in zip(st.columns(TILES_IN_ROW), tiles[start:], strict=False):
                _tile(place, tile)
        if tiles:
            st.caption(ABOUT_GALLERY)


def _tile(place: DeltaGenerator, tile: view.Tile) -> None:
    place.image(tile.picture, width="stretch")
    place.image(tile.explanation, width="stretch")
    about = f"**{literal(tile.classes)}**  \n{literal(tile.image)}"
    place.caption(f"{about}  \npresence {literal(number_text(tile.presence))}")
