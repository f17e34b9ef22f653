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
from dashboards.views.concepts.passages import passage_at
from dashboards.views.parts.parts import Passages, Picture, Pictures
from dashboards.views.parts.text import literal
from dashboards.views.runs.chain import query
from fact.traces.by_concept import Presences
from registry.catalog.access import Catalog
from registry.wording import counted

NOT_READ = "Not all {} are read yet; these are of {}."
LEADS = "A name leads to the decision on the image."


def kinds_of(model: datasets.Model, label: str, sides: Sequence[str]) -> list[str]:
    """Return which images or texts can be asked for; `sides` are those of the gallery."""
    named = [ask.WITHOUT] if label else []
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
    """Show images of a concept, or texts, of one kind.

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
    words = model.words
    if not known.is_whole:
        st.caption(NOT_READ.format(words.entries, counted(known.n_read, words.input)))
    if kind == ask.ACROSS:
        groups = ask.across(column, seed=concept, words=words)
    elif kind == ask.RANDOM:
        groups = [ask.at_random(column, seed=concept, words=words)]
    elif kind == ask.WITHOUT:
        groups = [_without(catalog, model, column, known, label, concept)]
    else:
        groups = [ask.strongest(column, words=words)]
    show_groups(catalog, model, groups, concept)
    if kind == ask.ACROSS:
        leads = f" {LEADS}" if words.is_concept else ""
        inputs = f"{words.input.capitalize()}s of a quarter"
        st.caption(f"{inputs} are drawn with seed {concept}.{leads}")


def show_groups(
    catalog: Catalog,
    model: datasets.Model,
    groups: Sequence[ask.Examples],
    concept: int | None = None,
) -> None:
    """Show examples with their pictures or texts; where these cannot be read, say why.

    All are of one concept where it is given.
    """
    try:
        shown = [
            _passages(model, group, concept)
            if model.is_of_texts
            else _pictures(catalog, model, group)
            for group in groups
        ]
    except ImagesError as error:
        st.info(literal(f"Images cannot be shown: {error}."))
        return
    if not any(len(group.rows) for group in groups):
        notes = " ".join(group.note for group in groups if group.note)
        st.info(literal(notes or f"There are none: no {model.words.input} {model.words.where}."))
        return
    for part in shown:
        show_part(part)


def _without(
    catalog: Catalog,
    model: datasets.Model,
    column: np.ndarray,
    known: Presences,
    label: str,
    concept: int,
) -> ask.Examples:
    named = model.lineage.entries[model.names.name].needs.get("labels", "") if model.names else ""
    made = datasets.if_made(catalog, model.lineage, named) if named else None
    rows = datasets.rows_with(model.concepts, made, label)
    if rows is None:
        inputs = f"{model.words.input}s"
        note = f"Which {inputs} show {label!r} is not known here: the labels behind it are gone."
        return ask.Examples("", np.zeros(0, np.int64), np.zeros(0), note)
    rows = rows[rows < known.n_read]
    return ask.without(column, rows, label, seed=concept, words=model.words)


def _passages(model: datasets.Model, group: ask.Examples, concept: int | None) -> Passages:
    dataset = datasets.opened(model.concepts)
    entries = zip(group.rows.tolist(), group.presence, strict=True)
    found = [passage_at(dataset, row, value, concept) for row, value in entries]
    return Passages(found, group.title, group.note)


def _pictures(catalog: Catalog, model: datasets.Model, group: ask.Examples) -> Pictures:
    kept = datasets.statistics(model.concepts)
    ids = kept["image"].values.astype(str)[group.rows]
    reader = datasets.image_reader(catalog, model.lineage, model.concepts, _side(model))
    read = datasets.images_read(reader, model.concepts, tuple(map(str, ids)))
    words = model.words
    classes = kept["class"].values.astype(str).tolist() if "class" in kept.coords else []
    given = [] if classes else datasets.classes_read(reader, model.concepts, tuple(map(str, ids)))
    drawn: list[Picture] = []
    for slot, (image, row) in enumerate(zip(ids, group.rows, strict=True)):
        named = {
            name: class_name(int(kept[name].values[row]), classes) if name in kept else ""
            for name in ("label", "prediction")
        }
        named |= {"label": given[slot]} if given else {}
        tile = view.Tile(
            str(image),
            **named,
            presence=group.presence[slot],
            picture=read[slot],
            explanation=None,
        )
        link = query("decisions", **model.concepts.address, image=image) if words.is_concept else ""
        drawn.append(replace(view.drawn(tile, (), words.strength), link=link))
    return Pictures(drawn, group.title, group.note)


def _side(model: datasets.Model) -> int:
    """Return the pixels of a side that images are shown by, as in the gallery."""
    if model.gallery is None:
        return FALLBACK_SIDE
    sizes = datasets.opened(model.gallery).sizes
    return int(min(sizes["y"], sizes["x"]))
