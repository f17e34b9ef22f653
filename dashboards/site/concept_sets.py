"""A set of concepts, or of neurons: an index to search, and all that is known of each, in parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from dashboards.site.content import Block, Publisher
from dashboards.site.folder import number
from dashboards.site.seen import Seen
from dashboards.views.concepts import concepts as view
from dashboards.views.concepts import evidence as ask
from dashboards.views.concepts import labels
from dashboards.views.concepts import one_concept as one
from dashboards.views.concepts import passages as texts
from dashboards.views.concepts.concept_model import channels_note, model_parts
from dashboards.views.concepts.exactness import exactness_note, meaning_of_maps, shown_below
from dashboards.views.concepts.image_choice import class_name
from dashboards.views.concepts.neurons import (
    MARK,
    as_concepts,
    is_of_neurons,
    neurons_note,
    small_part,
)
from dashboards.views.concepts.similar import unit_directions
from dashboards.views.parts.parts import Part, Pictures, numbers_of
from dashboards.views.runs.advice import EXPECTED
from dashboards.views.runs.datasets import WEIGHTS, open_made, read_small
from dashboards.views.runs.settings import (
    autoencoder_of,
    cells_of,
    chosen_of,
    fidelities_of,
    made_of,
    other_set,
)
from registry.catalog.lineage import Entry, Lineage

PER_PART = 64
"""Concepts of one file."""

THREADS = 4
"""That encode pictures."""

SIMILAR, MOST_DECISIONS, MOST_MATCHINGS = 6, 12, 3
MOST_IMAGES, LEAST_IMAGES, ALL_IMAGES = 6, 2, 32_768
"""Images of a concept, at most and at least; of all concepts of a set together, in between."""


def images_of_each(concepts: int) -> int:
    """Return how many images of each concept a site shows of a set of so many."""
    return int(np.clip(ALL_IMAGES // max(concepts, 1), LEAST_IMAGES, MOST_IMAGES))


@dataclass(frozen=True)
class ConceptSet:
    """What is known of a set of concepts, as pages of the dashboard put it together.

    Attributes
    ----------
    entry : Entry
        What measured it.
    statistics : xr.Dataset
        What is small of it.
    frame : pd.DataFrame
        A row per concept, as :func:`dashboards.views.concepts.concepts.concepts_frame` returns it.
    namer : str
        By what they are named, "" where they are not.
    beside : mapping of str to Entry
        What was made of it and is shown beside, by schema.
    names, gallery, consistency, localisation, sae, tokens, decisions : xr.Dataset or None
        Opened lazily, the pictures at least.
    matchings : sequence of (xr.Dataset, str, bool)
        Each with the title of the other set, and whether this one is the first of both.
    labels : xr.Dataset or None
        By which they were named.
    """

    entry: Entry
    statistics: xr.Dataset
    frame: pd.DataFrame
    namer: str
    beside: Mapping[str, Entry]
    names: xr.Dataset | None
    gallery: xr.Dataset | None
    consistency: xr.Dataset | None
    localisation: xr.Dataset | None
    sae: xr.Dataset | None
    tokens: xr.Dataset | None
    decisions: xr.Dataset | None
    matchings: Sequence[tuple[xr.Dataset, str, bool]]
    labels: xr.Dataset | None = None

    @property
    def concepts(self) -> NDArray[np.int64]:
        """Their indices, in the order of the datasets."""
        return np.asarray(self.statistics["concept"].values, dtype=np.int64)

    @property
    def noun(self) -> str:
        """What one of it is called."""
        return view.noun(self.frame)


def open_set(lineage: Lineage, entry: Entry, called: Mapping[int, str] = {}) -> ConceptSet:
    """Return what is known of a set of concepts; `called` is what readers call some of them."""
    name = entry.name
    if entry.folder is None:
        raise ValueError(f"{name} has no dataset")
    opened = open_made(entry.folder, entry.stage)
    tokens = opened if texts.is_of_texts(opened) else None
    sae = autoencoder_of(lineage, name)
    makers = {
        "names": cells_of(lineage, "names", made_from=name),
        "gallery": cells_of(lineage, "gallery", made_from=name),
        **{s: made_of(lineage, name, s) for s in ("consistency", "localisation", "decisions")},
        "sae": [sae] if sae else [],
    }
    chosen = {
        schema: lineage.entries.get(chosen_of(lineage, own)) for schema, own in makers.items()
    }
    beside = {s: made for s, made in chosen.items() if made is not None and made.folder is not None}
    found = {schema: _read(made, schema) for schema, made in beside.items()}
    found = {schema: found.get(schema) for schema in makers}
    statistics = small_part(as_concepts(texts.as_concepts(opened)))
    names = found["names"]
    namers = labels.namers_of(names) if names is not None else []
    namer = namers[labels.preferred_namer(namers)] if namers else ""
    best = labels.best_names(names, namer) if names is not None and namer else None
    frame = view.concepts_frame(statistics, best, found["consistency"])
    frame = view.with_noted(frame, "called", called)
    matchings = list(_matchings(lineage, name, sae))
    named_by = beside["names"].needs.get("labels", "") if "names" in beside else ""
    labelled = lineage.entries.get(named_by)
    by = _read(labelled, "labels") if labelled is not None and labelled.folder else None
    return ConceptSet(
        entry,
        statistics,
        frame,
        namer,
        beside,
        tokens=tokens,
        matchings=matchings,
        labels=by,
        **found,
    )


def _read(made: Entry, schema: str) -> xr.Dataset | None:
    """Return a dataset; None where it cannot be read."""
    with suppress(*EXPECTED):
        assert made.folder is not None
        if schema == "names":
            left_out = {"drop_variables": labels.NEXT_LABELS}
            return open_made(made.folder, made.stage, **left_out).load()
        if schema in ("consistency", "localisation"):
            return read_small(made.folder, made.stage)
        if schema == "decisions":
            wanted = ["top_concept", "contribution", "share", "target", "class"]
            return open_made(made.folder, made.stage)[wanted].load()
        return open_made(made.folder, made.stage)
    return None


def _matchings(lineage: Lineage, name: str, sae: str) -> Iterator[tuple[xr.Dataset, str, bool]]:
    count = 0
    for made in lineage.entries.values():
        other = other_set(made, name, sae) if made.provides == "matching" else None
        if other is None or made.folder is None or count == MOST_MATCHINGS:
            continue
        with suppress(*EXPECTED):
            title = lineage.entries[other[0]].title if other[0] in lineage.entries else other[0]
            yield read_small(made.folder, made.stage), title, other[1]
            count += 1


# -- of the whole set ----------------------------------------------------------------------------


def about_set(known: ConceptSet) -> Block:
    """Return what stands above the list of a set."""
    of_texts = known.tokens is not None
    summary = (
        numbers_of(known.tokens, view.SUMMARY, ())
        if known.tokens is not None
        else view.summary(known.statistics)
    )
    notes = [exactness_note(known.statistics)]
    if of_texts:
        notes.append(texts.texts_note(known.entry.cell, known.statistics))
    elif is_of_neurons(known.statistics):
        notes.append(neurons_note(known.entry.cell, known.statistics))
    elif not known.entry.needs.get("sae"):
        notes.append(channels_note(known.entry.cell))
    if known.names is not None:
        notes.append(labels.names_note(known.names))
    return {
        "run": known.entry.run,
        "cell": known.entry.cell,
        "noun": known.noun,
        "count": len(known.concepts),
        "per_part": PER_PART,
        "namer": known.namer,
        "numbers": [{"name": n.title, "value": n.value, "is": n.meaning} for n in summary],
        "notes": [note for note in notes if note],
        "orders": view.orders_of(known.frame),
        "metrics": [] if known.names is None else known.names["metric"].values.astype(str).tolist(),
        "metric_verdicts": []
        if known.names is None
        else known.names["verdict"].values.astype(str).tolist(),
        "made_of_it": {s: made.run for s, made in sorted(known.beside.items())},
        "has_model": not of_texts,
    }


def whole_model(lineage: Lineage, known: ConceptSet, publisher: Publisher) -> list[Block]:
    """Return the figures of a set as a whole."""
    fidelity = None
    for name in fidelities_of(lineage, autoencoder_of(lineage, known.entry.name)):
        made = lineage.entries[name]
        if fidelity is None and made.folder is not None:
            fidelity = _read(made, "consistency")
    sae = None
    if known.sae is not None:
        sae = known.sae.drop_vars(WEIGHTS, errors="ignore").load()
    best = None
    if known.names is not None and known.namer:
        best = labels.best_names(known.names, known.namer)
    parts: list[Part] = model_parts(
        known.entry.cell,
        known.statistics,
        known.names,
        known.consistency,
        best,
        fidelity=fidelity,
        sae=sae,
    )
    return publisher.blocks(parts)


# -- one by one ----------------------------------------------------------------------------------


class Writer:
    """Writes the concepts of a set one by one, and remembers what the index needs of each."""

    def __init__(self, known: ConceptSet, publisher: Publisher, seen: Seen | None = None):
        self.known = known
        self.publisher = publisher
        self.seen = seen
        self.images = images_of_each(len(known.concepts))
        self.thumbs: dict[int, str] = {}
        self.counts: dict[int, tuple[int, int, int]] = {}
        self.reaches: dict[tuple[str, float], ask.Reach | None] = {}
        self._below = {} if known.gallery is None else shown_below(known.gallery, known.statistics)
        self._directions = self._unit_directions()
        self._rows = known.frame.set_index("concept", drop=False).rename_axis(None)
        named = ("image", "label", "prediction", "presence")
        self._references = None
        if known.gallery is not None:
            self._references = known.gallery[[n for n in named if n in known.gallery]].load()
            self._classes = known.gallery["class"].values.astype(str).tolist()

    def parts(self) -> Iterator[tuple[int, Block]]:
        """Yield the number of each file, and what it holds."""
        concepts = self.known.concepts
        for part, start in enumerate(range(0, len(concepts), PER_PART)):
            slots = np.arange(start, min(start + PER_PART, len(concepts)))
            own = concepts[slots].tolist()
            names, rows = self._names_of(concepts[slots]), self._rows.loc[own]
            with ThreadPoolExecutor(THREADS) as threads:
                shown = list(threads.map(self._shown, own))
            told = zip(own, shown, self._similar(slots), strict=True)
            found = [
                self._concept(concept, names, rows, what, similar)
                for concept, what, similar in told
            ]
            rules = {row[0]: row[3] for each in found for row in each["evidence"] if row[3]}
            for each in found:
                each["evidence"] = [row[:3] for row in each["evidence"]]
            yield part, {"rules": rules, "concepts": found}

    def index(self) -> Block:
        """Return what concepts are searched, filtered and sorted by, in columns, in their order."""
        frame = self.known.frame
        concepts = frame["concept"].tolist()
        columns: Block = {
            "concept": concepts,
            "name": frame["name"].astype(str).tolist(),
            "thumb": [self.thumbs.get(int(concept), "") for concept in concepts],
            "evidence": [list(self.counts.get(int(concept), (0, 0, 0))) for concept in concepts],
        }
        for name in ("own_name", "called", "token"):
            if name in frame:
                columns[name] = frame[name].astype(str).tolist()
        for name in ("verdict", "chance"):
            if name in frame:
                codes, values = pd.factorize(frame[name].astype(str), sort=True)
                columns[name] = {"values": values.tolist(), "codes": codes.tolist()}
        for name in (
            "score",
            "c2",
            "image_share",
            "mean_contribution",
            "mean_activation",
            MARK,
        ):
            if name in frame:
                columns[name] = [number(value) for value in frame[name]]
        return columns

    def _names_of(self, concepts: NDArray[np.int64]) -> xr.Dataset | None:
        """Return the names of some concepts."""
        if self.known.names is None:
            return None
        slots = self.known.names.indexes["concept"].get_indexer(concepts)
        return self.known.names.isel(concept=slots[slots >= 0])

    def _concept(
        self,
        concept: int,
        names: xr.Dataset | None,
        rows: pd.DataFrame,
        shown: Block,
        similar: list[Any],
    ) -> Block:
        title, line = view.about(rows.drop(columns="called", errors="ignore"), concept)
        label = str(rows.loc[concept, "name"])
        called = rows.loc[concept, "called"] if "called" in rows else ""
        if drawn := shown.get("pictures"):
            self.thumbs[concept] = drawn[0]["face"] or drawn[0]["layers"][0]["src"]
        evidence = self._evidence(concept, label, names)
        self.counts[concept] = tuple(  # type: ignore[assignment]
            sum(each.speaks == kind for each in evidence)
            for kind in (ask.FOR, ask.AGAINST, ask.OPEN)
        )
        return {
            "concept": concept,
            "title": title,
            **({"called": called} if called else {}),
            "line": line,
            "evidence": [[e.question, e.finding, e.speaks, e.rule] for e in evidence],
            **self._labels(concept, names),
            **shown,
            **(self.seen.of(concept) if self.seen else {}),
            "similar": similar,
            "decisions": self._decisions(concept),
        }

    def _evidence(self, concept: int, label: str, names: xr.Dataset | None) -> list[ask.Evidence]:
        """Return all questions about a name, answered as far as there are datasets."""
        known = self.known
        answers: list[ask.Evidence] = []
        if names is not None and concept in names.indexes["concept"]:
            asked = (ask.agreement, ask.beyond_chance, ask.lead)
            answers += [question(names, concept, label) for question in asked]
            answers.append(ask.fit(names, concept, label, self._reach(concept, label)))
        elif known.consistency is None and known.localisation is None and not known.matchings:
            return []
        if known.tokens is not None:
            return answers
        answers.append(
            ask.alikeness(known.consistency, concept)
            if known.consistency is not None
            else ask.missing(ask.ALIKE, "C2-scores")
        )
        answers.append(
            ask.location(known.localisation, concept)
            if known.localisation is not None
            else ask.missing(ask.THERE, "localisation")
        )
        answers += [
            ask.recurrence(title, one.returns(matching, concept, is_first))
            for matching, title, is_first in known.matchings
        ] or [ask.missing(ask.AGAIN, "matching with another seed")]
        return answers

    @cached_property
    def _scored(self) -> xr.DataArray | None:
        """Labels (image, label) of the images that names were scored on; None if not known."""
        known = self.known
        if known.names is None or known.labels is None or "image" not in known.statistics:
            return None
        images = known.statistics["image"].values.astype(str)
        return ask.scored_labels(known.names, known.labels, images)

    def _reach(self, concept: int, label: str) -> ask.Reach | None:
        """Return what the score of a name could be; None where that is not known."""
        scored, own = self._scored, self.known.statistics
        if scored is None or label not in scored.indexes["label"]:
            return None
        shares = own.get("image_share")
        present = float(shares.sel(concept=concept)) if shares is not None else 1.0
        key = label, min(present, scored.attrs["alpha"] or 1.0)
        if key not in self.reaches:
            values = scored.sel(label=label).values.astype(float)
            self.reaches[key] = ask.reach(values, scored.attrs["alpha"], present)
        return self.reaches[key]

    def _labels(self, concept: int, names: xr.Dataset | None) -> Block:
        """Return the name by each metric, in the order of the set's metrics."""
        if names is None or concept not in names.indexes["concept"]:
            return {}
        own = names.sel(concept=concept)
        found: Block = {"labels": own["name"].values.astype(str).tolist()}
        for key, name in (("scores", "score"), ("low", "interval_low"), ("high", "interval_high")):
            found[key] = [number(value) for value in own[name].values]
        if "chance" in own:
            found["by_chance"] = own["chance"].values.astype(str).tolist()
        return found

    def _shown(self, concept: int) -> Block:
        """Return images or texts in which a concept is strong, and how all of them are called."""
        if self.known.tokens is not None:
            return self._texts(concept)
        if self.known.gallery is None:
            return {"pictures": [], "references": []}
        tiles = view.tiles(self.known.gallery, concept, self.images)
        what = "activation" if is_of_neurons(self.known.statistics) else "presence"
        drawn = [view.drawn(tile, self._below, what) for tile in tiles]
        below = next(iter(self._below), "")
        note = f"Images with the largest {what}. {meaning_of_maps(below, self._below)}".strip()
        block = self.publisher.pictures(Pictures(drawn, note=note, below=below))
        shown = {"note": block["note"], "pictures": block["pictures"]}
        return {**shown, "references": self._references_of(concept)}

    def _references_of(self, concept: int) -> list[list[Any]]:
        """Return each image of the gallery in which a concept is strong: id, class, presence."""
        assert self._references is not None
        if concept not in self._references.indexes["concept"]:
            return []
        own = self._references.sel(concept=concept)
        known = next((name for name in ("label", "prediction") if name in own), "")
        classes = own[known].values if known else np.full(own.sizes["rank"], -1)
        found = zip(own["image"].values.astype(str), classes, own["presence"].values, strict=True)
        return [
            [str(image), class_name(int(of), self._classes), number(presence)]
            for image, of, presence in found
            if image
        ]

    def _texts(self, neuron: int) -> Block:
        assert self.known.tokens is not None
        if not self.publisher.permission.is_given:
            return {"note": f"Texts are not published: {self.publisher.permission.reason}."}
        found = texts.passages_of(self.known.tokens, neuron, MOST_IMAGES)
        return {"texts": [[*each.texts, each.caption] for each in found]}

    def _unit_directions(self) -> NDArray[np.float32] | None:
        if self.known.sae is None or "decoder" not in self.known.sae:
            return None
        return unit_directions(self.known.sae["decoder"])

    def _similar(self, slots: NDArray[np.int64]) -> list[list[Any]]:
        """Return, of some concepts, those whose directions in the layer are most like theirs."""
        directions, concepts = self._directions, self.known.concepts
        if directions is None or slots[-1] >= directions.shape[1]:
            return [[] for _ in slots]
        cosines = np.nan_to_num(directions[:, slots].T @ directions, nan=-np.inf).round(3)
        cosines[np.arange(len(slots)), slots] = -np.inf  # not itself
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :SIMILAR]
        found = np.take_along_axis(cosines, order, axis=1)
        return [
            [[int(concepts[o]), number(v)] for o, v in zip(*both, strict=True) if np.isfinite(v)]
            for both in zip(order, found, strict=True)
        ]

    def _decisions(self, concept: int) -> list[list[Any]]:
        if self.known.decisions is None:
            return []
        frame = one.decision_frame(self.known.decisions, concept).head(MOST_DECISIONS)
        rows = frame[["image", "explained", "share"]].itertuples(index=False)
        return [[image, explained, number(share)] for image, explained, share in rows]
