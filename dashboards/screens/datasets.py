"""Datasets that pages read, each opened once for all readers of a server."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr
from numpy.typing import NDArray

from dashboards.screens.frame import BOUND, explained, tell, tell_unknown
from dashboards.server.image_reader import ImageReader
from dashboards.server.map_cache import ConceptMap
from dashboards.server.meaning import Meaning
from dashboards.server.presence_index import PresenceIndex, cache_folder
from dashboards.views.concepts import concepts as view
from dashboards.views.concepts import labels
from dashboards.views.concepts import passages as texts
from dashboards.views.concepts.exactness import shown_below
from dashboards.views.concepts.labels import NEXT_LABELS
from dashboards.views.concepts.neurons import (
    Words,
    as_concepts,
    small_part,
    words_of,
)
from dashboards.views.concepts.similar import unit_directions
from dashboards.views.parts.parts import Passage, Passages, Picture, Pictures
from dashboards.views.runs.advice import Advice, advise, run_command
from dashboards.views.runs.datasets import WEIGHTS, open_made, read_small
from dashboards.views.runs.drafts import lines_of
from dashboards.views.runs.settings import (
    autoencoder_of,
    cells_of,
    fidelities_of,
    made_of,
    maker_of,
    other_set,
)
from fact.traces.by_concept import SMALL_CELLS, Presences, read_alone
from registry.catalog.access import Catalog
from registry.catalog.lineage import Lineage
from registry.declare.stage import Input
from registry.plan.project import MissingInputsError
from registry.store.manifest import find_dataset

if TYPE_CHECKING:
    from dashboards.views.concepts.evidence import Reach


@dataclass(frozen=True)
class Made:
    """A dataset that is there.

    Attributes
    ----------
    cell, stage : str
        What made it, as declared; no stage opens it as it is stored.
    folder : str
        Where it is.
    name : str
        What :class:`registry.catalog.lineage.Lineage` knows it by.
    run : str
        The run that made it.
    """

    cell: str
    stage: str
    folder: str
    name: str = ""
    run: str = ""

    @property
    def address(self) -> dict[str, str]:
        """What names it for good: its cell for readers, and its run."""
        return {"cell": self.cell, "run": self.run}


def made_by(catalog: Catalog, lineage: Lineage, name: str) -> Made:
    """Return the dataset of a cell, or of a run that no cell asks for.

    Raises
    ------
    MissingInputsError
        If there is none.
    """
    entry = lineage.entries.get(name)
    if entry is not None and entry.folder is not None and not entry.is_current:
        return Made(entry.cell, entry.stage, str(entry.folder), name, entry.run)
    folder = catalog.path(name)
    return Made(name, catalog.project.cell(name).stage, str(folder), name, folder.name)


def if_made(catalog: Catalog, lineage: Lineage, name: str) -> Made | None:
    """Return a dataset as :func:`made_by`; None if there is none, with advice if it is damaged."""
    try:
        return made_by(catalog, lineage, name)
    except MissingInputsError as error:
        if error.is_damaged:
            tell(advise(error, name))
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
MOST_LOOKED_AT = 60
"""Datasets that are looked for on the disk before none is said to be there."""

NEXT_TOKENS = "next_tokens"
SETS = ("concepts", "activations", NEXT_TOKENS)
"""Schemas of what a page shows one by one: concepts and neurons in images, next tokens in texts."""


@dataclass(frozen=True)
class Model:
    """What is known of one set of concepts.

    Attributes
    ----------
    lineage : Lineage
        What was made from what.
    concepts : Made
        Presence and contribution; activations of neurons that are no concepts.
    root : str
        The project's folder.
    gallery, names, consistency, localisation, sae, fidelity, decisions : Made or None
        None where there is no such dataset.
    matchings : sequence of (Made, str, bool)
        Each with the name of the other set, and whether this one is the first of both.
    wanted : mapping of str to str
        Schema to the command that would make a dataset that is declared and not there.
    cells : sequence of str
        Names of all sets of concepts.
    labels : Made or None
        By which they were named.
    """

    lineage: Lineage
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
    labels: Made | None = None

    @property
    def is_of_texts(self) -> bool:
        """Whether there are positions of texts in place of images."""
        return is_of_texts(self.concepts)

    @property
    def words(self) -> Words:
        """How its members are called, and what they were measured on."""
        return words_of(statistics(self.concepts))

    def title(self, name: str) -> str:
        """Return what readers call an entry of its lineage."""
        entry = self.lineage.entries.get(name)
        return entry.title if entry else name

    @property
    def made(self) -> frozenset[str]:
        """Schemas of what there is, or is declared, of the evidence for its names."""
        found = {
            "names": self.names is not None,
            "consistency": self.consistency is not None,
            "localisation": self.localisation is not None,
            "matching": bool(self.matchings),
        }
        return frozenset(self.wanted) | {name for name, is_there in found.items() if is_there}

    @property
    def beside(self) -> dict[str, Made]:
        """What was made of the concepts and is shown with them, by what it is."""
        every = {
            "Names": self.names,
            "Pictures": self.gallery,
            "C2-scores": self.consistency,
            "Places": self.localisation,
            "Decisions": self.decisions,
            "Fidelity": self.fidelity,
        }
        found = {what: made for what, made in every.items() if made is not None}
        others = (made for made, _, _ in self.matchings)
        return found | {f"Matching {number}": made for number, made in enumerate(others, 1)}

    @property
    def address(self) -> dict[str, Any]:
        """What names it for good, with all that is shown beside it."""
        return {**self.concepts.address, "beside": [made.run for made in self.beside.values()]}


def is_of_texts(made: Made) -> bool:
    """Return whether there are positions of texts in place of images."""
    return texts.is_of_texts(opened(made))


def sets_of(lineage: Lineage) -> list[str]:
    """Return names of all sets of concepts, then of other neurons; of each the declared first."""
    found = [name for schema in SETS for name in cells_of(lineage, schema)]
    return sorted(found, key=lambda name: not lineage.entries[name].is_current)


def find_model(catalog: Catalog, lineage: Lineage, name: str) -> Model:
    """Return what was made of a set of concepts; tell what to do about pictures and names.

    Raises
    ------
    MissingInputsError
        If there is no dataset of the concepts themselves.
    """
    concepts = made_by(catalog, lineage, name)
    wanted: dict[str, str] = {}

    def first(names: Sequence[str], schema: str, notes: dict[str, str]) -> Made | None:
        return _first(catalog, lineage, names, schema, notes)

    found = {
        schema: first(made_of(lineage, name, schema), schema, wanted)
        for schema in ("consistency", "localisation", "decisions")
    }
    sae = autoencoder_of(lineage, name)
    names, gallery = _of_images(catalog, lineage, name)
    named_by = lineage.entries[names.name].needs.get("labels", "") if names else ""
    return Model(
        labels=if_made(catalog, lineage, named_by) if named_by else None,
        lineage=lineage,
        concepts=concepts,
        root=str(catalog.project.root),
        names=names,
        gallery=gallery,
        sae=first([sae] if sae else [], "sae", {}),
        fidelity=first(fidelities_of(lineage, sae), "fidelity", {}),
        matchings=_matchings(catalog, lineage, name, sae, wanted),
        wanted=wanted,
        cells=sets_of(lineage),
        **found,
    )


def _of_images(catalog: Catalog, lineage: Lineage, name: str) -> tuple[Made | None, Made | None]:
    """Return names and gallery; neurons of next tokens need none, so that nothing is told then."""
    if lineage.entries[name].provides != NEXT_TOKENS:
        return _advised(catalog, lineage, name, "names"), _advised(
            catalog, lineage, name, "gallery"
        )
    makers = cells_of(lineage, "names", made_from=name)
    return _first(catalog, lineage, makers, "names", {}), None


def _first(
    catalog: Catalog,
    lineage: Lineage,
    names: Sequence[str],
    schema: str,
    wanted: dict[str, str],
) -> Made | None:
    """Return the first of these that has a dataset, preferred ones before others.

    If none has, the command that makes the first declared one is noted.
    """
    preferred = [name for name in names if lineage.entries[name].run in lineage.preferred]
    for name in list(dict.fromkeys([*preferred, *names]))[:MOST_LOOKED_AT]:
        if (made := if_made(catalog, lineage, name)) is not None:
            return readable(made)
    if names and lineage.entries[names[0]].is_current:
        wanted[schema] = run_command(names[0])
    return None


def readable(made: Made | None, read: Callable[[Made], object] = opened) -> Made | None:
    """Return a dataset if it can be opened; tell what to do if not."""
    with explained(made.cell if made else ""):
        if made is not None:
            read(made)
        return made
    return None


def _advised(catalog: Catalog, lineage: Lineage, name: str, schema: str) -> Made | None:
    """Return what was made directly of a set of concepts; tell what to do if nothing was."""
    maker = maker_of(lineage, name, schema)
    if not maker:
        entry = lineage.entries[name]
        reason = f"No experiment in experiments.toml makes one from {entry.cell}."
        if not entry.is_current:
            reason = f"None was made of this run of {entry.cell}."
        lines = lines_of(catalog.project, schema, entry.cell) if entry.is_current else ()
        if lines:
            reason += " These lines do:"
        tell(Advice(f"No {schema} dataset", reason, lines=lines))
        return None
    with explained(maker if lineage.entries[maker].is_current else ""):
        read = names_of if schema == "names" else opened
        return readable(made_by(catalog, lineage, maker), read)
    return None


def _matchings(
    catalog: Catalog, lineage: Lineage, name: str, sae: str, wanted: dict[str, str]
) -> list[tuple[Made, str, bool]]:
    matchings: list[tuple[Made, str, bool]] = []
    for one in sorted(lineage.entries.values(), key=lambda one: one.run not in lineage.preferred):
        other = other_set(one, name, sae) if one.provides == "matching" else None
        if other is None or len(matchings) == MOST_MATCHINGS:
            continue
        made = _first(catalog, lineage, [one.name], "matching", wanted)
        if made is not None:
            matchings.append((made, *other))
    return sorted(matchings, key=lambda own: own[0].run)  # whatever is declared by now


# -- kept for the next reader -----------------------------------------------------------------


@st.cache_resource(max_entries=8, show_spinner="Reading the concepts …")
def statistics(made: Made) -> xr.Dataset:
    """Return what is small of a concepts dataset: scalars, and what concepts and images have."""
    return small_part(concepts_of(made))


def concepts_of(made: Made) -> xr.Dataset:
    """Return a set of concepts lazily; of neurons that are none in the form of concepts."""
    return as_concepts(texts.with_presence(opened(made)))


def labels_of(made: Made, concept: int) -> xr.Dataset:
    """Return the names of one concept, the next-best labels too; of none if it has no names."""
    known = names_of(made)
    slots = known.indexes["concept"].get_indexer([concept])
    own = known.isel(concept=slots[slots >= 0])
    if not own.sizes["concept"]:
        return own
    rows = opened(made)[[*labels.NEXT_LABELS[:2]]].isel(concept=slots[:1])
    return own.assign(rows.load().data_vars)


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


@st.cache_resource(max_entries=32, show_spinner="Drawing the concepts …")
def wall(
    concepts: Made,
    names: Made | None,
    gallery: Made | None,
    namer: str,
    link: str,
    count: int,
    called: tuple[tuple[int, str], ...] = (),
) -> Pictures | Passages:
    """Return the strongest concepts that have pictures, with their names and what to think of them.

    Neurons of texts need no gallery. However many concepts there are, only names and pictures of
    those are read. `called` is what readers call some of them.
    """
    kept = statistics(concepts)

    def address(concept: int) -> str:
        return f"{link}&concept={concept}"

    if gallery is None:
        frame = _first_named(kept, names, namer, count, called)
        return replace(texts.strongest_passages(opened(concepts), frame, count, address), title="")
    drawn = opened(gallery)
    known = kept.isel(concept=np.isin(kept["concept"].values, drawn["concept"].values))
    frame = _first_named(known, names, namer, count, called)
    possible = shown_below(drawn, kept)
    found = view.strongest(frame, drawn, possible, count, address)
    return replace(found, title="", note="", below=next(iter(possible), ""))


def strongest_rows(
    concepts: Made,
    names: Made | None,
    namer: str,
    count: int,
    called: tuple[tuple[int, str], ...] = (),
) -> list[dict[Hashable, Any]]:
    """Return the strongest concepts as rows of their table; see :func:`wall`."""
    found = _first_named(statistics(concepts), names, namer, count, called)
    rows: list[dict[Hashable, Any]] = found.to_dict("records")
    return rows


def _first_named(
    known: xr.Dataset,
    names: Made | None,
    namer: str,
    count: int,
    called: Sequence[tuple[int, str]],
) -> pd.DataFrame:
    """Return the strongest of a set, with their names: of no others are these read."""
    every = view.concepts_frame(known)
    orders = view.orders_of(every)
    by = view.STRONGEST if view.STRONGEST in orders else orders[0]
    chosen = view.order(every, by)["concept"].head(count).to_numpy()
    best = None
    if names:
        all_names = opened(names).drop_vars(NEXT_LABELS, errors="ignore")
        slots = all_names.indexes["concept"].get_indexer(chosen)
        best = labels.best_names(all_names.isel(concept=slots[slots >= 0]).load(), namer)
    frame = view.concepts_frame(known.sel(concept=chosen), best)
    return view.with_noted(view.order(frame, by), "called", dict(called))


@st.cache_resource(max_entries=256, show_spinner=False)
def _first_tiles(made: Made, concepts: tuple[int, ...]) -> dict[int, view.Tile]:
    return view.first_tiles(opened(made), concepts)


def first_pictures(made: Made | None, concepts: tuple[int, ...]) -> dict[int, Picture]:
    """Return the strongest image of some concepts, without words; none of no gallery."""
    if made is None:
        return {}
    possible = shown_below(opened(made))
    tiles = _first_tiles(made, concepts)
    return {one: replace(view.drawn(tile, possible), caption="") for one, tile in tiles.items()}


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


@st.cache_resource(max_entries=8, show_spinner=False)
def image_reader(_catalog: Catalog, _lineage: Lineage, made: Made, side: int) -> ImageReader:
    """Return what reads the images that concepts were measured on."""
    return ImageReader(_input_of(_catalog, _lineage, made.name), side)


@st.cache_resource(max_entries=256, show_spinner="Reading images …")
def images_read(_reader: ImageReader, made: Made, ids: tuple[str, ...]) -> list[NDArray[np.uint8]]:
    """Return some images of a set of concepts, as :func:`image_reader` reads them."""
    return _reader.read(ids)


@st.cache_resource(max_entries=256, show_spinner=False)
def classes_read(_reader: ImageReader, made: Made, ids: tuple[str, ...]) -> list[str]:
    """Return the classes of some images of a set, "" of those that have none."""
    return _reader.classes(ids)


@st.cache_resource(max_entries=2, show_spinner=False)
def meaning(_catalog: Catalog, _lineage: Lineage, name: str, run: str) -> Meaning:
    """Return a model of images and texts with the vectors that it gave images, in a run."""
    return Meaning(_input_of(_catalog, _lineage, name))


def _input_of(catalog: Catalog, lineage: Lineage, name: str) -> Input | None:
    """Return a dataset with all behind it: as declared now, or as the run read it."""
    entry = lineage.entries[name]
    if entry.is_current:
        return catalog.input(name)
    return catalog.project.recorded(entry.folder) if entry.folder else None


@st.cache_resource(max_entries=64, show_spinner="Comparing with all images …")
def cosines_with(
    _meaning: Meaning, concepts: Made, run: str, key: str, _sought: str | NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Return the cosine of each image of a set of concepts with a text or an image."""
    return _meaning.cosines(statistics(concepts)["image"].values.astype(str), _sought)


@st.cache_resource(max_entries=64, show_spinner="Reading labels …")
def rows_with(concepts: Made, names: Made | None, label: str) -> NDArray[np.int64] | None:
    """Return the indices of the images that show a label; None where that is not known.

    A label of classes is that of the images; another one is looked up in `names`, the labels that
    concepts were named by, where the probability that it is shown is at least a half.
    """
    kept = statistics(concepts)
    classes = kept["class"].values.astype(str).tolist() if "class" in kept.coords else []
    group, _, value = label.partition(":")
    if group == "class" and value in classes and "label" in kept:
        return np.flatnonzero(kept["label"].values == classes.index(value))
    if names is None:
        return None
    labelled = opened(names)
    if label not in labelled.indexes["label"]:
        return None
    shown = labelled["value"].sel(label=label)
    is_shown = np.asarray(shown.values) >= 0.5
    if texts.is_of_texts(labelled):
        return np.flatnonzero(is_shown)
    ids = labelled["image"].values.astype(str)[is_shown]
    rows = pd.Index(kept["image"].values.astype(str)).get_indexer(ids)
    return np.sort(rows[rows >= 0])


@st.cache_resource(max_entries=256, show_spinner=False)
def reach_of(
    concepts: Made, names: Made, labelled: Made | None, label: str, present: float
) -> Reach | None:
    """Return what the score of a label could be on the images that names are scored on.

    None where these are not known: the labels are gone, inputs were halved otherwise, or are
    positions of texts, which no statistics keep.

    Parameters
    ----------
    concepts, names : Made
        What was named, and how.
    labelled : Made or None
        The labels that named it.
    label : str
        One of them.
    present : float
        Fraction of the images in which the concept is present.
    """
    from dashboards.views.concepts.evidence import reach, scored_labels

    kept = statistics(concepts)
    if labelled is None or "image" not in kept:
        return None
    images = kept["image"].values.astype(str)
    scored = scored_labels(opened(names), opened(labelled), images)
    if scored is None or label not in scored.indexes["label"]:
        return None
    alpha = scored.attrs["alpha"]
    return reach(scored.sel(label=label).values.astype(float), alpha, present)


@st.cache_resource(max_entries=2, show_spinner="Reading the decoder …")
def directions(made: Made) -> NDArray[np.float32]:
    """Return the directions of an SAE's concepts in the layer, each of length 1."""
    return unit_directions(opened(made)["decoder"])


@st.cache_resource(max_entries=8, show_spinner="Reading the map …")
def map_of(concepts: Made, sae: Made | None, root: str) -> tuple[ConceptMap, str] | None:
    """Return the map of a set of concepts, and by what they are alike on it, in words.

    By the directions of their SAE, else by their presences; None where these are too many.
    """
    kept = statistics(concepts)
    source, cells = concepts, _cells(concepts)
    words = words_of(kept)
    by = f"by their {words.entries} over {words.input}s"
    if sae is not None and opened(sae).sizes["concept"] == kept.sizes["concept"]:
        source, by = sae, "by their directions in the layer"
    elif cells > SMALL_CELLS:
        return None

    from dashboards.views.concepts.concept_map import (  # heavy: charts
        by_presence,
        laid_out,
        rough_map,
    )

    def own_directions() -> NDArray[np.float32]:
        if source is sae:
            return directions(sae)
        return by_presence(presence_index(concepts, root).presences())

    found = ConceptMap(
        Path(root),
        str(find_dataset(source.folder)[1]["content"]),
        kept.sizes["concept"],
        own_directions,
        rough_map,
        laid_out,
    )
    return found, by


@st.cache_resource(max_entries=4, show_spinner="Reading presences …")
def presence_index(concepts: Made, root: str) -> PresenceIndex:
    """Return the presences of a set of concepts, which may still be being read."""
    dataset = concepts_of(concepts)
    folder, manifest = find_dataset(concepts.folder)
    kept = cache_folder(Path(root), str(manifest["content"]))
    return PresenceIndex(lambda: dataset, _cells(concepts), kept, folder)


def _cells(concepts: Made) -> int:
    """Return how many presences a set has, zeros too."""
    sizes = concepts_of(concepts).sizes
    return int(sizes["image"] * sizes["concept"])


@st.cache_resource(max_entries=16, show_spinner="Reading presences …")
def presences_alone(made: Made, index: int) -> Presences:
    """Return the presences of the concept at an index, read from the dataset itself."""
    return read_alone(concepts_of(made), index)
