"""Where the concepts of a set are present over all its images: how strongly, in which classes.

With examples of each quarter of the images that have a concept. All concepts draw theirs from the
same images of the dataset, so that a site of many concepts holds each picture once.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dashboards.server.image_reader import FALLBACK_SIDE, ImageReader, ImagesError
from dashboards.server.presence_index import PresenceIndex, cache_folder
from dashboards.site.content import Block, Publisher
from dashboards.site.folder import number
from dashboards.views.concepts import one_concept as one
from dashboards.views.concepts import passages as texts
from dashboards.views.concepts.examples import BANDS, IN_BAND, present
from dashboards.views.concepts.neurons import as_concepts
from dashboards.views.runs.advice import EXPECTED
from dashboards.views.runs.datasets import open_made
from registry.catalog.access import Catalog
from registry.store.durable import StoreError
from registry.store.manifest import find_dataset

if TYPE_CHECKING:
    from dashboards.site.concept_sets import ConceptSet

POOL = 4096
"""Images of a dataset, drawn at random, of which the examples of all its concepts are."""

CLASSES = 8
"""Classes of a concept that are listed."""

DIGITS = 3  # of numbers that are shown and no more


@dataclass
class Pool:
    """The images that examples are drawn from, written when the first concept shows them.

    Attributes
    ----------
    ids : ndarray of str, (image,)
        Of all images of the dataset.
    classes : ndarray of int, (image,)
        Of each the class that is told beside it; -1 for none.
    publisher : Publisher
        Which writes pictures where they may be passed on.
    reader : ImageReader or None
        Reads them; None where they cannot be read.
    listed : list
        Of each that was used: id, class, path of the picture ("" without one).
    """

    ids: NDArray[np.str_]
    classes: NDArray[np.integer]
    publisher: Publisher
    reader: ImageReader | None
    listed: list[list[Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        turns = np.random.default_rng(0).permutation(len(self.ids))
        self._turn = np.empty(len(self.ids), np.int64)
        self._turn[turns] = np.arange(len(turns))
        self._place: dict[int, int] = {}

    def drawn(self, entries: np.ndarray, count: int) -> np.ndarray:
        """Return some entries at random, in their order: those whose images come first of all."""
        turn = self._turn[entries["row"]]
        chosen = np.argsort(turn)[:count]
        return np.asarray(entries[np.sort(chosen[turn[chosen] < POOL])])

    def place(self, row: int) -> int:
        """Return which of those that are listed an image is."""
        if row not in self._place:
            self._place[row] = len(self.listed)
            self.listed.append([str(self.ids[row]), int(self.classes[row]), self._picture(row)])
        return self._place[row]

    def _picture(self, row: int) -> str:
        if self.reader is None:
            return ""
        try:
            [pixels] = self.reader.read([str(self.ids[row])])
        except ImagesError:
            self.reader = None  # the next ones cannot be read either
            return ""
        return self.publisher.folder.picture(pixels)


class Seen:
    """What the pages of concepts tell of all images.

    Parameters
    ----------
    known : ConceptSet
        The set.
    index : PresenceIndex
        Of its presences.
    pool : Pool
        Where examples come from.
    """

    def __init__(self, known: ConceptSet, index: PresenceIndex, pool: Pool):
        self.pool = pool
        self._index = index
        self._kept = known.statistics
        self._slots = known.statistics.indexes["concept"]
        self._classes = [""]
        self._known = ""
        if "label" in self._kept:
            self._classes = self._kept["class"].values.astype(str).tolist()
            self._known = "label" if (self._kept["label"].values >= 0).any() else "prediction"
            self._targets = self._kept["target"].values
            self._totals = {
                name: np.maximum(self._by_class(self._kept[name].values), 1)
                for name in (self._known, "target")
            }

    def about(self) -> Block:
        """Return what all concepts share: the images that were shown, and names of classes."""
        by = {"label": "labelled", "prediction": "predicted"}.get(self._known, "")
        return {
            "images": self.pool.listed,
            "classes": self._classes if self._known else [],
            "classes_by": by,
            "quarters": list(BANDS),
        }

    def of(self, concept: int) -> Block:
        """Return where a concept is present: histogram, classes, examples of each quarter."""
        column = self._column(int(self._slots.get_loc(concept)))
        ranked = present(column)
        if not len(ranked):
            return {}
        values = ranked["presence"].astype(np.float64)
        low, high = min(0.0, float(values[-1])), max(0.0, float(values[0]))
        counts, _ = np.histogram(values, np.linspace(low, high, one.BINS + 1))
        found: Block = {
            "present": len(ranked),
            "of": len(self.pool.ids),
            "from": number(low, DIGITS),
            "to": number(high, DIGITS),
            "counts": counts.tolist(),
            "quarters": [self._quarter(own) for own in np.array_split(ranked, len(BANDS))],
        }
        if self._known:
            labels = self._kept[self._known].values[ranked["row"]]
            found["classes"] = self._first(self._by_class(labels) / self._totals[self._known])
            targets = self._targets[column["row"]]
            given = self._by_class(targets, column["contribution"].astype(np.float64))
            found["given"] = self._first(given / self._totals["target"])
        return {"seen": found}

    def _column(self, slot: int) -> np.ndarray:
        try:
            return self._index.presences().column(slot)
        except StoreError:  # what is kept was damaged: it can be made again
            self._index.read_anew()
            return self._index.whole().column(slot)

    def _quarter(self, entries: np.ndarray) -> list[Any]:
        """Return the highest and lowest presence of a quarter, its images, and some of them."""
        if not len(entries):
            return [None, None, 0, []]
        shown = [
            [self.pool.place(int(own["row"])), number(own["presence"], DIGITS)]
            for own in self.pool.drawn(entries, IN_BAND)
        ]
        ends = (number(entries["presence"][end], DIGITS) for end in (0, -1))
        return [*ends, len(entries), shown]

    def _by_class(
        self, classes: NDArray[np.integer], weights: NDArray[np.floating] | None = None
    ) -> NDArray[np.floating]:
        inside = classes >= 0
        weights = None if weights is None else weights[inside]
        count = len(self._classes)
        return np.bincount(classes[inside], weights, count)[:count].astype(np.float64)

    def _first(self, values: NDArray[np.floating]) -> list[list[Any]]:
        """Return the classes of the largest amounts, by index, each with its value."""
        order = np.argsort(-np.abs(values), kind="stable")[:CLASSES]
        return [[int(own), number(values[own], DIGITS)] for own in order if values[own]]


def open_seen(catalog: Catalog, known: ConceptSet, publisher: Publisher) -> Seen | None:
    """Return where concepts are present; None of texts, and where presences are too many to read.

    What is not kept by concept is read now.
    """
    entry = known.entry
    if known.tokens is not None or entry.folder is None:
        return None
    dataset = as_concepts(texts.as_concepts(open_made(entry.folder, entry.stage)))
    folder, manifest = find_dataset(entry.folder)
    cells = dataset.sizes["image"] * dataset.sizes["concept"]
    kept = cache_folder(Path(catalog.project.root), str(manifest["content"]))
    index = PresenceIndex(lambda: dataset, cells, kept, folder)
    if not index.whole().is_whole:
        return None
    return Seen(known, index, _pool_of(catalog, known, publisher))


def _pool_of(catalog: Catalog, known: ConceptSet, publisher: Publisher) -> Pool:
    entry, kept = known.entry, known.statistics
    named = next((kept[name].values for name in ("label", "prediction") if name in kept), None)
    images = kept["image"].values.astype(str)
    classes = np.full(len(images), -1) if named is None else named
    reader = None
    if publisher.permission.is_given and entry.folder is not None:
        given = None
        with suppress(*EXPECTED):  # what is behind the concepts is gone: ids are told all the same
            if entry.is_current:
                given = catalog.input(entry.name)
            else:
                given = catalog.project.recorded(entry.folder)
        side = FALLBACK_SIDE
        if known.gallery is not None and "y" in known.gallery.sizes:
            side = int(min(known.gallery.sizes["y"], known.gallery.sizes["x"]))
        reader = ImageReader(given, side)
    return Pool(images, classes, publisher, reader)
