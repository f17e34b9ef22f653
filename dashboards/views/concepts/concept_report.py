"""What reports show of concepts and of their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pandas as pd
import xarray as xr

from dashboards.views.concepts.concept_model import channels_note, model_parts
from dashboards.views.concepts.concepts import (
    Tile,
    concept_table,
    concepts_frame,
    pictures_of,
    strongest,
    summary,
    tiles,
)
from dashboards.views.concepts.labels import NEXT_LABELS, best_names, namers_of, preferred_namer
from dashboards.views.concepts.related import autoencoder_of, cells_of, first_made, made_of
from dashboards.views.parts.parts import Heading, Note, Numbers, Part, Picture, Pictures
from dashboards.views.parts.text import number_text
from dashboards.views.runs.advice import EXPECTED
from dashboards.views.runs.datasets import open_made
from registry.catalog.access import Catalog

LISTED = 100
"""Concepts of the table of a report."""

DRAWN, TILES = 24, 8
"""Concepts of a gallery that a report shows, and images of each."""


def concepts_parts(catalog: Catalog, cell: str, concepts: xr.Dataset) -> list[Part]:
    """Return what a report shows of a concept model: its figures, and its first concepts.

    Parameters
    ----------
    catalog : Catalog
        Where names, pictures and C2-scores are found.
    cell : str
        What made the concepts.
    concepts : xr.Dataset
        Of the schema ``concepts``.
    """
    project = catalog.project
    names = _found(catalog, cells_of(project, "names", made_from=cell), drop_variables=NEXT_LABELS)
    gallery = _found(catalog, cells_of(project, "gallery", made_from=cell))
    scores = _found(catalog, made_of(project, cell, "consistency"))
    namer, best = "", None
    if names is not None:
        namers = namers_of(names)
        namer = namers[preferred_namer(namers)]
        best = best_names(names, namer)
    frame = concepts_frame(concepts, best, scores)
    parts: list[Part] = [Numbers(summary(concepts))]
    if not autoencoder_of(project, cell):
        parts.append(Note(channels_note(cell)))
    if gallery is not None:
        parts.append(strongest(frame, gallery))
    parts += model_parts(cell, concepts, names, scores, best)
    return [*parts, concept_table(cell, _with_pictures(frame, gallery), namer, _title(frame))]


def _found(catalog: Catalog, cells: Sequence[str], **options: Any) -> xr.Dataset | None:
    """Return the first dataset of some cells; None where there is none that can be read."""
    if not cells:
        return None
    cell = cells[first_made(catalog, cells)]
    with suppress(*EXPECTED):
        stage = catalog.project.graph.cells[cell].stage
        return open_made(catalog.path(cell), stage, **options)
    return None


def _with_pictures(frame: pd.DataFrame, gallery: xr.Dataset | None) -> pd.DataFrame:
    first = frame.head(LISTED)
    if gallery is None:
        return first
    pictures = pictures_of(gallery, first["concept"].tolist())
    return first.assign(picture=[pictures.get(one, "") for one in first["concept"]])


def _title(frame: pd.DataFrame) -> str:
    if len(frame) <= LISTED:
        return "Concepts"
    return f"The {LISTED} of {len(frame):,} concepts that contribute most"


def gallery_parts(_catalog: Catalog, cell: str, gallery: xr.Dataset) -> list[Part]:
    """Return what a report shows of a gallery: images of the first concepts, and their colours."""
    concepts = gallery["concept"].values.tolist()
    parts: list[Part] = [
        part for concept in concepts[:DRAWN] for part in _concept(concept, tiles(gallery, concept))
    ]
    left_out = len(concepts) - DRAWN
    text = (
        f" {left_out:,} more concepts are on the dashboard page of {cell}." if left_out > 0 else ""
    )
    about = (
        "Images with the largest presence; below each, the input weights that make it, in the "
        f"colours that they look for, on white.{text}"
    )
    return [Note(about), *parts]


def _concept(concept: int, shown: Sequence[Tile]) -> list[Part]:
    first = shown[:TILES]
    pictures = [
        Picture(one.picture, f"{one.classes}\npresence {number_text(one.presence)}")
        for one in first
    ]
    colours = [Picture(one.explanation) for one in first]
    return [Heading(f"Concept {concept}"), Pictures(pictures, TILES), Pictures(colours, TILES)]
