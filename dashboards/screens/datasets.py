"""Datasets that pages read, each opened once for all readers of a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr
from numpy.typing import NDArray

from dashboards.screens.frame import BOUND, explained, tell, tell_unknown
from dashboards.server.presence_index import PresenceIndex, cache_folder
from dashboards.views.concepts import concepts as view
from dashboards.views.concepts import labels
from dashboards.views.concepts import passages as texts
from dashboards.views.concepts.labels import NEXT_LABELS
from dashboards.views.concepts.neurons import as_concepts, is_of_neurons, with_statistics
from dashboards.views.concepts.one_concept import unit_directions
from dashboards.views.concepts.training import WEIGHTS
from dashboards.views.parts.parts import Passage
from dashboards.views.runs.advice import Advice, advise, run_command
from dashboards.views.runs.datasets import open_made, read_small
from dashboards.views.runs.settings import (
    MOST_LOOKED_AT,
    autoencoder_of,
    cells_of,
    fidelities_of,
    made_of,
    maker_of,
    other_set,
)
from fact.traces.by_concept import Presences, read_alone
from registry.catalog.access import Catalog
from registry.plan.project import MissingInputsError, Project
from registry.store.datasets import DATASET
from registry.store.manifest import find_dataset
from registry.store.netcdf import read_row


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
        if error.is_damaged:
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


@st.cache_resource(max_entries=8, show_spinner="Reading the training …")
def training_of(made: Made) -> xr.Dataset:
    """Return an SAE in memory without its weights."""
    with open_made(made.folder, made.stage, drop_variables=WEIGHTS) as dataset:
        return dataset.load()


@st.cache_resource(max_entries=8, show_spinner="Reading the names …")
def names_of(made: Made) -> xr.Dataset:
    """Return names in memory; the next-best labels, millions of strings, stay on the disk."""
    with open_made(made.folder, made.stage, drop_variables=NEXT_LABELS) as dataset:
        return dataset.load()


def choose_namer(made: Made | None, slot: Any, label: str, **options: Any) -> str:
    """Let a reader choose what names concepts; "" where there are no names.

    Parameters
    ----------
    made : Made or None
        The names.
    slot : streamlit or a container of it
        Where to draw the box.
    label : str
        Of the box.
    **options
        Of the box, as ``width``.
    """
    namers: list[str] = []
    with explained(made.cell if made else ""):
        namers = labels.namers_of(names_of(made)) if made else []
    tell_unknown("metric", namers)
    first = labels.preferred_namer(namers) if namers else None
    chosen = slot.selectbox(
        label,
        namers,
        index=first,
        help="Consensus: the label chosen by most metrics that pass the sanity checks of Oikarinen "
        "et al. (ICML 2025, arXiv 2506.05774). Its score is the fraction that choose it.",
        key="metric",
        bind=BOUND,
        **options,
    )
    return str(chosen or next(iter(namers[first:]), ""))  # none right after Back


# -- what was made of one set of concepts --------------------------------------------------------

MOST_MATCHINGS = 3
NEXT_TOKENS = "next_tokens"
SETS = ("concepts", "activations", NEXT_TOKENS)
"""Schemas of what a page shows one by one: concepts and neurons in images, next tokens in texts."""

OF_IMAGES = ("label", "prediction", "target")
"""What is read of every image."""


@dataclass(frozen=True)
class Model:
    """What is known of one set of concepts.

    Attributes
    ----------
    concepts : Made
        Presence and contribution; activations of neurons that are no concepts.
    root : str
        The project's folder.
    gallery, names, consistency, localisation, sae, fidelity, decisions : Made or None
        None where there is no such dataset.
    matchings : sequence of (Made, str, bool)
        Each with the other set, and whether this one is the first of both.
    wanted : mapping of str to str
        Schema to the command that would make a dataset that is declared and not there.
    cells : sequence of str
        All cells of concepts.
    """

    concepts: Made
    root: str
    gallery: Made | None
    names: Made | None
    consistency: Made | None
    localisation: Made | None
    sae: Made | None
    fidelity: Made | None
    decisions: Made | None
    matchings: Sequence[tuple[Made, str, bool]]
    wanted: dict[str, str]
    cells: Sequence[str]

    @property
    def is_of_texts(self) -> bool:
        """Whether there are positions of texts in place of images."""
        return texts.is_of_texts(opened(self.concepts))


def sets_of(project: Project) -> list[str]:
    """Return all cells of concepts, then those of other neurons."""
    return [cell for schema in SETS for cell in cells_of(project, schema)]


def find_model(catalog: Catalog, cell: str) -> Model:
    """Return what was made of a set of concepts; tell what to do about pictures and names.

    Raises
    ------
    MissingInputsError
        If there is no dataset of the concepts themselves.
    """
    project = catalog.project
    concepts = made_by(catalog, cell)
    wanted: dict[str, str] = {}
    found = {
        schema: _first(catalog, made_of(project, cell, schema), schema, wanted)
        for schema in ("consistency", "localisation", "decisions")
    }
    sae = autoencoder_of(project, cell)
    names, gallery = _of_images(catalog, cell)
    return Model(
        concepts=concepts,
        root=str(project.root),
        names=names,
        gallery=gallery,
        sae=_first(catalog, [sae] if sae else [], "sae", {}),
        fidelity=_first(catalog, fidelities_of(project, sae), "fidelity", {}),
        matchings=_matchings(catalog, cell, sae, wanted),
        wanted=wanted,
        cells=sets_of(project),
        **found,
    )


def _of_images(catalog: Catalog, cell: str) -> tuple[Made | None, Made | None]:
    """Return names and gallery; neurons of next tokens need none, so that nothing is told then."""
    if catalog.project.graph.cells[cell].provides != NEXT_TOKENS:
        return _advised(catalog, cell, "names"), _advised(catalog, cell, "gallery")
    makers = cells_of(catalog.project, "names", made_from=cell)
    return _first(catalog, makers, "names", {}), None


def _first(
    catalog: Catalog, cells: Sequence[str], schema: str, wanted: dict[str, str]
) -> Made | None:
    """Return the first of these cells that has a dataset; note the command if none has."""
    for cell in cells[:MOST_LOOKED_AT]:
        if (made := if_made(catalog, cell)) is not None:
            return readable(made)
    if cells:
        wanted[schema] = run_command(cells[0])
    return None


def readable(made: Made | None, read: Callable[[Made], object] = opened) -> Made | None:
    """Return a dataset if it can be opened; tell what to do if not."""
    with explained(made.cell if made else ""):
        if made is not None:
            read(made)
        return made
    return None


def _advised(catalog: Catalog, cell: str, schema: str) -> Made | None:
    """Return what was made directly of a cell; tell what to do if nothing was."""
    maker = maker_of(catalog, cell, schema)
    if not maker:
        reason = f"No experiment in experiments.toml makes one from {cell}."
        tell(Advice(f"No {schema} dataset", reason))
        return None
    with explained(maker):
        return readable(made_by(catalog, maker), names_of if schema == "names" else opened)
    return None


def _matchings(
    catalog: Catalog, cell: str, sae: str, wanted: dict[str, str]
) -> list[tuple[Made, str, bool]]:
    matchings: list[tuple[Made, str, bool]] = []
    for one in catalog.project.graph.cells.values():
        other = other_set(one, cell, sae) if one.provides == "matching" else None
        if other is None or len(matchings) == MOST_MATCHINGS:
            continue
        made = _first(catalog, [one.name], "matching", wanted)
        if made is not None:
            matchings.append((made, *other))
    return matchings


# -- kept for the next reader -----------------------------------------------------------------


@st.cache_resource(max_entries=8, show_spinner="Reading the concepts …")
def statistics(made: Made) -> xr.Dataset:
    """Return what is small of a concepts dataset: scalars, and what concepts and images have."""
    dataset = concepts_of(made)
    left_out = [
        name
        for name, variable in dataset.data_vars.items()
        if variable.ndim > 1 or ("image" in variable.dims and name not in OF_IMAGES)
    ]
    counted = with_statistics(dataset) if is_of_neurons(dataset) else dataset
    return counted.drop_vars(left_out).load()


def concepts_of(made: Made) -> xr.Dataset:
    """Return a set of concepts lazily; of neurons that are none in the form of concepts."""
    return as_concepts(texts.as_concepts(opened(made)))


def labels_of(made: Made, concept: int) -> xr.Dataset:
    """Return the names of one concept, the next-best labels too; of none if it has no names."""
    known = names_of(made)
    slots = known.indexes["concept"].get_indexer([concept])
    own = known.isel(concept=slots[slots >= 0])
    if not own.sizes["concept"]:
        return own
    file = Path(made.folder) / DATASET
    rows = {name: read_row(file, name, int(slots[0]))[None] for name in labels.NEXT_LABELS[:2]}
    dims = ("concept", "metric", "rank")
    return own.assign({name: (dims, values) for name, values in rows.items()})


@st.cache_resource(max_entries=16, show_spinner="Listing the concepts …")
def frame_of(
    concepts: Made, names: Made | None, consistency: Made | None, namer: str
) -> pd.DataFrame:
    """Return the table of all concepts."""
    best = labels.best_names(names_of(names), namer) if names and namer else None
    scores = whole(consistency) if consistency else None
    return view.concepts_frame(statistics(concepts), best, scores)


@st.cache_resource(max_entries=256, show_spinner=False)
def thumbnails(made: Made, concepts: tuple[int, ...]) -> dict[int, str]:
    """Return thumbnails of some concepts."""
    return view.pictures_of(opened(made), concepts)


@st.cache_resource(max_entries=256, show_spinner=False)
def tiles_of(
    made: Made, concept: int, most: int | None = None, lowest: bool = False
) -> list[view.Tile]:
    """Return the images of one concept, the strongest first, or the lowest; so many at most."""
    return view.tiles(opened(made), concept, most, lowest)


@st.cache_resource(max_entries=256, show_spinner=False)
def passages_of(made: Made, neuron: int) -> list[Passage]:
    """Return the positions of texts where a neuron is strongest, the strongest first."""
    return texts.passages_of(opened(made), neuron)


@st.cache_resource(max_entries=256, show_spinner=False)
def strongest_texts(made: Made, neurons: tuple[int, ...]) -> dict[int, str]:
    """Return the strongest position of some neurons, in one line."""
    return texts.strongest_texts(opened(made), neurons)


@st.cache_resource(max_entries=2, show_spinner="Reading the decoder …")
def directions(made: Made) -> NDArray[np.float32]:
    """Return the directions of an SAE's concepts in the layer, each of length 1."""
    return unit_directions(opened(made)["decoder"])


@st.cache_resource(max_entries=4, show_spinner="Reading presences …")
def presence_index(concepts: Made, root: str) -> PresenceIndex:
    """Return the presences of a set of concepts, which may still be being read."""
    dataset = concepts_of(concepts)
    folder, manifest = find_dataset(concepts.folder)
    cells = dataset.sizes["image"] * dataset.sizes["concept"]
    kept = cache_folder(Path(root), str(manifest["content"]))
    return PresenceIndex(lambda: dataset, cells, kept, folder)


@st.cache_resource(max_entries=16, show_spinner="Reading presences …")
def presences_alone(made: Made, index: int) -> Presences:
    """Return the presences of the concept at an index, read from the dataset itself."""
    return read_alone(concepts_of(made), index)
