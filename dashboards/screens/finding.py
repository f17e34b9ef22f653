"""Find concepts by what they mean: by any text, or by an image."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from dashboards.screens import datasets
from dashboards.screens.concept import go_to
from dashboards.screens.frame import BOUND, explained
from dashboards.server.meaning import MeaningError
from dashboards.views.concepts import meaning as ask
from dashboards.views.concepts.image_choice import SUFFIXES
from dashboards.views.parts.pictures import is_picture, pixels_of
from dashboards.views.parts.text import literal
from registry.catalog.access import Catalog
from registry.catalog.lineage import Entry

NOT_ENCODED = (
    "This needs vectors of the images by a model of images and texts. Add to experiments.toml, "
    "then run it:"
)


def find_by_meaning(catalog: Catalog, model: datasets.Model, frame: pd.DataFrame) -> pd.DataFrame:
    """Let a reader seek concepts by a text or an image; return them, the nearest first.

    Parameters
    ----------
    catalog : Catalog
        Whose store holds the vectors of images.
    model : Model
        What is known of the set of concepts.
    frame : pd.DataFrame
        All concepts in an order, which stays where nothing is sought.
    """
    entry = model.lineage.entries[model.concepts.name]
    found = ask.encoded(model.lineage, entry)
    with st.popover("Find by text or image", icon=":material/image_search:"):
        st.caption(ask.ABOUT)
        if not found:
            st.caption(NOT_ENCODED)
            st.code(ask.declaring(entry), language="toml", wrap_lines=True)
            return frame
        text = st.text_input(
            "Text",
            key="means",
            bind=BOUND,
            placeholder="a striped pattern",
            on_change=go_to,
            args=(None,),
        )
        file = st.file_uploader("Image", type=list(SUFFIXES), on_change=go_to, args=(None,))
    content = file.getvalue() if file else b""
    if content and not is_picture(content):
        st.warning("This file is no picture that can be read.")
        return frame
    sought: str | NDArray[np.uint8] = pixels_of(content) if content else (text or "").strip()
    if isinstance(sought, str) and not sought:
        return frame
    key = hashlib.sha256(content).hexdigest() if content else str(sought)
    with explained():
        try:
            return _ordered(catalog, model, frame, found[0], key, sought)
        except MeaningError as error:
            st.warning(literal(f"Concepts cannot be sought by meaning: {error}"))
    return frame


def _ordered(
    catalog: Catalog,
    model: datasets.Model,
    frame: pd.DataFrame,
    vectors: Entry,
    key: str,
    sought: str | NDArray[np.uint8],
) -> pd.DataFrame:
    """Return concepts with how near they are, the nearest first."""
    seeker = datasets.meaning(catalog, model.lineage, vectors.name, vectors.run)
    cosines = datasets.cosines_with(seeker, model.concepts, vectors.run, key, sought)
    index = datasets.presence_index(model.concepts, model.root)
    known = index.presences()
    if not known.n_read:
        st.caption("Presences are still being read.")
        return frame
    near = pd.Series(
        ask.nearness(known, cosines), index=datasets.statistics(model.concepts)["concept"].values
    )
    told = f"by its image ({key[:8]})" if not isinstance(sought, str) else f"near {sought!r}"
    st.caption(literal(f"Concepts {told}, the nearest first."))
    return (
        frame.assign(nearness=near.reindex(frame["concept"]).to_numpy())
        .sort_values("nearness", ascending=False, kind="stable", na_position="last")
        .reset_index(drop=True)
    )
