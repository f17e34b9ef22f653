"""Images of a concept beyond those that its gallery holds, read when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import streamlit as st

from dashboards.screens import datasets
from dashboards.screens.parts import show_part
from dashboards.server.image_reader import FALLBACK_SIDE, ImagesError
from dashboards.views.concepts import concepts as view
from dashboards.views.concepts import examples as ask
from dashboards.views.concepts.image_choice import class_name
from dashboards.views.concepts.neurons import is_of_neurons
from dashboards.views.parts.parts import Picture, Pictures
from dashboards.views.parts.text import literal
from dashboards.views.runs.chain import query
from dashboards.views.runs.settings import behind
from fact.traces.by_concept import Presences
from registry.catalog.access import Catalog
from registry.wording import counted

NOT_READ = "Not all presences are read yet; these are of {}."
LEADS = "A name leads to the decision on the image."


def kinds_of(model: datasets.Model, label: str, sides: Sequence[str]) -> list[str]:
    """Return which images of a concept can be asked for; `sides` are those of its gallery."""
    if model.is_of_texts:
        return []
    named = (
        [ask.WITHOUT] if label and not is_of_neurons(datasets.statistics(model.concepts)) else []
    )
    return [*(sides or [ask.STRONGEST]), ask.ACROSS, ask.RANDOM, *named]


def column_of(model: datasets.Model, concept: int) -> tuple[np.ndarray, Presences]:
    """Return the entries of a concept as far as they are read, and what they are of."""
    slot = int(datasets.statistics(model.concepts).indexes["concept"].get_loc(concept))
    index = datasets.presence_index(model.concepts, model.root)
    if index.is_dense:
        alone = datasets.presences_alone(model.concepts, slot)
        return alone.column(0), alone
    known = index.presences()
    return known.column(slot), known


def show_examples(
    catalog: Catalog, model: datasets.Model, concept: int, label: str, kind: str
) -> None:
    """Show images of a concept of one kind.

    Parameters
    ----------
    catalog : Catalog
        Whose store holds what the concepts were made from.
    model : Model
        What is known of its set.
    concept : int
        Its index.
    label : str
        Its name; "" if it has none.
    kind : str
        Of :func:`kinds_of`.
    """
    column, known = column_of(model, concept)
    if not known.is_whole:
        st.caption(NOT_READ.format(counted(known.n_read, "image")))
    if kind == ask.ACROSS:
        groups = ask.across(column, seed=concept)
    elif kind == ask.RANDOM:
        groups = [ask.at_random(column, seed=concept)]
    elif kind == ask.WITHOUT:
        groups = [_without(catalog, model, column, known, label, concept)]
    else:
        groups = [ask.strongest(column)]
    show_groups(catalog, model, groups)
    if kind == ask.ACROSS:
        st.caption(f"Images of a quarter are drawn with seed {concept}. {LEADS}")


def show_groups(catalog: Catalog, model: datasets.Model, groups: Sequence[ask.Examples]) -> None:
    """Show examples with their pictures; where these cannot be read, say why."""
    try:
        shown = [_pictures(catalog, model, group) for group in groups]
    except ImagesError as error:
        st.info(literal(f"Images cannot be shown: {error}."))
        return
    if not any(len(group.rows) for group in groups):
        notes = " ".join(group.note for group in groups if group.note)
        st.info(literal(notes or "There are none: it is present in no image."))
        return
    for pictures in shown:
        show_part(pictures)


def _without(
    catalog: Catalog,
    model: datasets.Model,
    column: np.ndarray,
    known: Presences,
    label: str,
    concept: int,
) -> ask.Examples:
    named = behind(model.lineage, model.names.name, "labels") if model.names else ""
    made = datasets.if_made(catalog, model.lineage, named) if named else None
    rows = datasets.rows_with(model.concepts, made, label)
    if rows is None:
        note = f"Which images show {label!r} is not known here: the labels behind it are gone."
        return ask.Examples("", np.zeros(0, np.int64), np.zeros(0), note)
    return ask.without(column, rows[rows < known.n_read], label, seed=concept)


def _pictures(catalog: Catalog, model: datasets.Model, group: ask.Examples) -> Pictures:
    kept = datasets.statistics(model.concepts)
    ids = kept["image"].values.astype(str)[group.rows]
    reader = datasets.image_reader(catalog, model.lineage, model.concepts, _side(model))
    read = datasets.images_read(reader, model.concepts, tuple(map(str, ids)))
    is_concept = not is_of_neurons(kept)
    what = "presence" if is_concept else "activation"
    classes = kept["class"].values.astype(str).tolist() if "class" in kept.coords else []
    drawn: list[Picture] = []
    for image, pixels, row, presence in zip(ids, read, group.rows, group.presence, strict=True):
        named = {
            name: class_name(int(kept[name].values[row]), classes) if name in kept else ""
            for name in ("label", "prediction")
        }
        tile = view.Tile(str(image), **named, presence=presence, picture=pixels, explanation=None)
        link = query("decisions", **model.concepts.address, image=image) if is_concept else ""
        drawn.append(replace(view.drawn(tile, (), what), link=link))
    return Pictures(drawn, group.title, group.note)


def _side(model: datasets.Model) -> int:
    """Return the pixels of a side that images are shown by, as in the gallery."""
    if model.gallery is None:
        return FALLBACK_SIDE
    sizes = datasets.opened(model.gallery).sizes
    return int(min(sizes["y"], sizes["x"]))
