"""Concepts of a network: their statistics, and the images in which they are strongest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.concepts.exactness import APPROXIMATE, MARK, exactness_note, is_exact
from dashboards.views.concepts.image_choice import class_name
from dashboards.views.concepts.labels import CONSENSUS, doubts_of
from dashboards.views.concepts.neurons import MARK as MARK_OF_NEURONS
from dashboards.views.parts.measured import of_labelled
from dashboards.views.parts.parts import (
    PICTURE,
    Number,
    Picture,
    Pictures,
    Table,
    file_name,
    numbers_of,
)
from dashboards.views.parts.pictures import PLACE, colour_layers, thumbnail, veil
from dashboards.views.parts.text import number_text, share_text
from evals.naming.verdicts import IN_WORDS, UNTESTED
from fact.traces.plots import LOWEST, sides_of
from registry.columns import Column
from registry.wording import counted

SUMMARY = {
    "accuracy": ("accuracy, spliced", "of the network with the SAE in place of the layer"),
    "network_accuracy": ("accuracy, network", "of the network as it is, on the same images"),
    "alive_share": ("alive concepts", "fraction of concepts that contribute to some image"),
    "image_l0": (
        "concepts per image",
        "mean number whose presence in an image is not 0; that of channels may be negative",
    ),
    "concepts_for_80": (
        "concepts for 80 %",
        "mean number behind 80 % of the positive contribution",
    ),
    "residual_max": ("largest residual", "over images: |sum of contributions - logit|, relative"),
    "n_inputs": ("positions", "of texts, the last of each sequence left out"),
    "n_sequences": ("sequences", "of texts"),
    "mean_loss": ("mean loss", "-log of the probability of the token that comes next, in nats"),
    "n_neurons": ("neurons", "channels, logits, or columns of a file"),
    "n_images": ("images", "that activations are of"),
    "n_known": ("known neurons", "whose ground-truth concept is known"),
}
"""Scalars of a concepts dataset: how they are called, and what they mean."""

FRACTIONS = ("accuracy", "network_accuracy", "alive_share")
OF_CONTRIBUTIONS = ("alive_share", "concepts_for_80")
"""What is counted of contributions, and as approximate as they are."""

_MOST_DIGITS = 18

PAGE = 50
"""Concepts of a page of the table: only their pictures are read."""

STRONGEST = "activation"
"""The order of neurons by what they reach; those of tokens have one by name first."""

ORDERS = {
    "contribution": ("mean_contribution", False),
    "images": ("image_share", False),
    STRONGEST: (MARK_OF_NEURONS, False),
    "score": ("score", False),
    "C2-score": ("c2", False),
    "name": ("name", True),
    "number": ("concept", True),
}
"""In what orders concepts can be listed: by which column, and whether the smallest comes first."""

TABLE_COLUMNS = {
    "concept": Column("d"),
    "picture": Column(PICTURE, "image", "in which it is strongest"),
    "token": Column(header="next token", help="whose probability the neuron is"),
    "passage": Column(header="strongest", help="the position where it is largest"),
    "count": Column(",d", help="positions that hold the token"),
    "own_name": Column(header="own name", help="what it is called where it is from"),
    "name": Column(),
    "called": Column(help="what readers call it"),
    "score": Column(".2f", help="of the name, on held-out images"),
    "verdict": Column(
        header="checks",
        help="whether the naming metric passes the sanity checks; how many of those agree",
    ),
    "chance": Column(header="chance", help="whether the name is above what permuted labels give"),
    "c2": Column(".2g", "C2", "visual consistency of its regions; random maps are near 0"),
    "nearness": Column(
        "+.3g", help="how much nearer its images are to what is sought than all images are"
    ),
    "image_share": Column(".1%", "images", "fraction of images where it is present"),
    "mean_contribution": Column(".3g", "contribution", "mean contribution to the logit"),
    "mean_activation": Column(".3g", "mean", "mean activation over images"),
    MARK_OF_NEURONS: Column(
        ".3g", "largest", "largest activation over images, or positions of texts"
    ),
    "tags": Column(help="given by readers"),
}


def summary(concepts: xr.Dataset) -> list[Number]:
    """Return the numbers that describe a concept model as a whole; absent ones are left out."""
    numbers = numbers_of(concepts, SUMMARY, FRACTIONS, of_labelled(concepts))
    if is_exact(concepts):
        return numbers
    marked = {SUMMARY[name][0] for name in OF_CONTRIBUTIONS}
    numbers = [replace(n, value=f"≈ {n.value}") if n.label in marked else n for n in numbers]
    return [*numbers, Number("contributions", "approximate", exactness_note(concepts))]


def concepts_frame(
    concepts: xr.Dataset,
    best: pd.DataFrame | None = None,
    consistency: xr.Dataset | None = None,
) -> pd.DataFrame:
    """Return a row per concept, the largest mean contribution first.

    Parameters
    ----------
    concepts : xr.Dataset
        Variables (concept): ``image_share``, ``mean_contribution`` and others of that dimension.
    best : pd.DataFrame, optional
        ``name``, ``score``, ``verdict`` and ``chance`` by concept; concepts without a name are
        left empty.
    consistency : xr.Dataset, optional
        ``score`` (concept): the C2-scores.

    Returns
    -------
    pd.DataFrame
        Columns ``concept``, ``name``, ``score``, ``verdict``, ``chance``, ``c2``, the statistics;
        ``approximate``, where contributions are; ``own_name`` of neurons that have one beside
        their number.
    """
    index = pd.Index(concepts["concept"].values)
    frame = pd.DataFrame({"concept": index}, index=index)
    frame["name"] = "" if best is None else best["name"].reindex(index).fillna("")
    frame["score"] = np.nan if best is None else best["score"].reindex(index)
    if best is not None and "verdict" in best:
        frame["verdict"] = best["verdict"].reindex(index).fillna("")
    if best is not None and "chance" in best:
        frame["chance"] = best["chance"].reindex(index).fillna("")
    if consistency is not None:
        frame["c2"] = consistency["score"].to_series().reindex(index)
    for name, variable in concepts.data_vars.items():
        if variable.dims == ("concept",):
            frame[str(name)] = variable.values
    if "own_name" in frame and (frame["own_name"] == frame["concept"].astype(str)).all():
        frame = frame.drop(columns="own_name")
    if not is_exact(concepts):
        frame["approximate"] = True
    by = "mean_contribution" if "mean_contribution" in frame else "concept"
    bare = frame.reset_index(drop=True)  # an index that is called as a column cannot be sorted by
    return bare.sort_values(by, ascending=by == "concept", kind="stable", ignore_index=True)


def about(frame: pd.DataFrame, concept: int) -> tuple[str, str]:
    """Return a concept's number and name, and its statistics in one line.

    Parameters
    ----------
    frame : pd.DataFrame
        As :func:`concepts_frame` returns it.
    concept : int
        One of its concepts.
    """
    row = frame.set_index("concept").loc[concept]
    own = f" ({row['own_name']})" if row.get("own_name") else ""
    label, called = str(row["name"]), str(row.get("called") or "")
    if called:
        label = f"“{called}”" + (f" ({label})" if label else "")
    title = f"{noun(frame)} {concept}{own}" + (f": {label}" if label else "")
    if "token" in row:
        named = f", named {label}" if label else ""
        title = f"Neuron {concept}: next token {row['token']}{named}"
    lines = [f"name {IN_WORDS[row['chance']]}"] if row.get("chance") else []
    if "image_share" in row:
        lines.append(f"present in {share_text(row['image_share'])} of the images")
    sign, about_it = ("≈ ", " (approximate)") if "approximate" in row else ("", "")
    if "contributing_share" in row:
        lines.append(f"contributes in {sign}{share_text(row['contributing_share'])}")
    if "mean_contribution" in row:
        given = number_text(row["mean_contribution"])
        lines.append(f"{sign}{given} to the logit on average{about_it}")
    if MARK_OF_NEURONS in row:
        largest = f"{number_text(row[MARK_OF_NEURONS])} at most"
        mean = row.get("mean_activation")  # nobody counted that over positions of texts
        average = "" if mean is None else f"{number_text(mean)} on average, "
        what = "probability" if "token" in row else "activation"
        lines.append(f"{what} {average}{largest}")
    return title, ", ".join(lines)


def noun(frame: pd.DataFrame) -> str:
    """Return what the rows of a table are called: concepts, or neurons that are none."""
    return "Neuron" if MARK_OF_NEURONS in frame or "token" in frame else "Concept"


def with_noted(frame: pd.DataFrame, column: str, noted: Mapping[int, str]) -> pd.DataFrame:
    """Return the concepts with a column of what readers gave them, where they gave any.

    Parameters
    ----------
    frame : pd.DataFrame
        As :func:`concepts_frame` returns it.
    column : str
        ``called`` for names of their own, or ``tags``.
    noted : mapping of int to str
        By concept.
    """
    if not any(noted.values()):
        return frame
    return frame.assign(**{column: [noted.get(int(one), "") for one in frame["concept"]]})


def search(frame: pd.DataFrame, text: str) -> pd.DataFrame:
    """Return the rows whose names and tags have all words of a text, or of that number."""
    words = text.lower().split()
    names = frame["name"].astype(str).str.lower()
    if "token" in frame:
        names = names + " " + frame["token"].str.lower()
    for column in ("own_name", "called", "tags"):
        if column in frame:
            names = names + " " + frame[column].str.lower()
    chosen = np.logical_and.reduce([names.str.contains(word, regex=False) for word in words])
    if text.strip().isdecimal():
        chosen = chosen | (frame["concept"] == int(text))
    return frame[chosen] if words else frame


def orders_of(frame: pd.DataFrame) -> list[str]:
    """Return in what orders these concepts can be listed."""
    known = [name for name, (column, _) in ORDERS.items() if column in frame]
    return sorted(known, key=lambda name: name == STRONGEST and "token" in frame)


def order(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return the concepts in one of the orders of `ORDERS`; those without a value come last."""
    column, ascending = ORDERS.get(by, ORDERS[next(iter(ORDERS))])
    if column not in frame:
        return frame
    values = frame[column].replace("", None) if column == "name" else frame[column]
    indices = values.sort_values(ascending=ascending, kind="stable", na_position="last").index
    return frame.loc[indices].reset_index(drop=True)


def page_count(rows: int, size: int = PAGE) -> int:
    """Return how many pages a table of so many rows has, one at least."""
    return max(1, -(-rows // size))


def page_with(frame: pd.DataFrame, concept: int, size: int = PAGE) -> int:
    """Return the number of the page, from 1, on which a concept is; 1 if it is on none."""
    indices = np.flatnonzero(frame["concept"].to_numpy() == concept)
    return int(indices[0]) // size + 1 if len(indices) else 1


def pictures_of(gallery: xr.Dataset, concepts: Sequence[int]) -> dict[int, str]:
    """Return a thumbnail of the strongest image of some concepts, of those that have one.

    Parameters
    ----------
    gallery : xr.Dataset
        Of the schema ``gallery``; only these pictures are read.
    concepts : sequence of int
        Their indices.
    """
    indices = gallery.indexes["concept"].get_indexer(np.asarray(concepts, dtype=np.int64))
    known = np.unique(indices[indices >= 0])
    if not len(known):
        return {}
    own = gallery[["image", "picture"]].isel(concept=known, rank=0).load()
    drawn = zip(*(own[name].values for name in ("concept", "image", "picture")), strict=True)
    return {int(concept): thumbnail(picture) for concept, image, picture in drawn if image}


def strongest(
    frame: pd.DataFrame,
    gallery: xr.Dataset,
    possible: Collection[str] = (),
    count: int = 12,
    link: Callable[[int], str] = lambda _: "",
) -> Pictures:
    """Return the strongest image of the first concepts, with their names, none of them twice.

    Parameters
    ----------
    frame : pd.DataFrame
        As :func:`concepts_frame` returns it.
    gallery : xr.Dataset
        Of the schema ``gallery``.
    possible : collection of str
        Names of the layers that mean something.
    count : int
        How many.
    link : callable
        The address of a concept.
    """
    rows = {int(row["concept"]): row for row in frame.head(count).to_dict("records")}
    shown = first_tiles(gallery, list(rows), distinct=True)
    pictures = [
        replace(
            drawn(tile, possible),
            caption="\n".join(told(rows[c])),
            details=tile.image,
            link=link(c),
        )
        for c, tile in shown.items()
    ]
    note = f"A strong image of each of the first {counted(len(pictures), 'concept')}."
    return Pictures(pictures, "What the network knows", note)


def told(row: Mapping[Hashable, Any], is_named: bool = True) -> list[str]:
    """Return what is told of a concept beside its image or text: names, doubts, its number.

    Of a set that nothing names, `is_named` false, it is not told that one has no name.
    """
    named = row["name"] or row.get("own_name") or ("no name" if is_named else "")
    called = f"“{row['called']}”" if row.get("called") else ""
    chance = row.get("chance") if row.get("chance") != UNTESTED else ""
    doubts = doubts_of(row.get("verdict") or "", chance or "")
    kind = "neuron" if MARK_OF_NEURONS in row else "concept"
    token = f": next token {row['token']}" if row.get("token") else ""
    return list(filter(None, (named, called, doubts, f"{kind} {row['concept']}{token}")))


def concept_table(cell: str, frame: pd.DataFrame, namer: str = "", title: str = "") -> Table:
    """Return the table of concepts, with pictures where the frame has some.

    Parameters
    ----------
    cell : str
        The cell of the concepts.
    frame : pd.DataFrame
        As :func:`concepts_frame` returns it; ``picture``, a thumbnail, where there are some.
    namer : str
        What they are named by: a metric, or the consensus.
    title : str
        Above the table.
    """
    left_out = "score" if namer == CONSENSUS else ""  # which the verdict says in votes
    shown = [name for name in TABLE_COLUMNS if name in frame and name != left_out]
    columns = {name: TABLE_COLUMNS[name] for name in shown}
    columns["concept"] = replace(columns["concept"], header=noun(frame).lower())
    if "approximate" in frame and "mean_contribution" in columns:
        columns["mean_contribution"] = Column(".3g", MARK, f"mean, {APPROXIMATE}")
    if namer:
        columns["name"] = replace(columns["name"], help=f"by {namer}")
    return Table(file_name(cell, "concepts"), frame[shown], title, columns=columns)


def similar_table(
    name: str, frame: pd.DataFrame, similar: pd.Series, title: str, what: str
) -> Table:
    """Return concepts that are like another, with their names.

    Parameters
    ----------
    name : str
        Of the file.
    frame : pd.DataFrame
        As :func:`concepts_frame` returns it.
    similar : pd.Series
        Similarity by concept, the most similar first.
    title : str
        Above the table.
    what : str
        ``cosine`` or ``correlation``.
    """
    names = frame.set_index("concept")["name"].reindex(similar.index, fill_value="")
    columns = {"concept": similar.index, "name": names.to_numpy(), what: similar.to_numpy()}
    for name_of in ("own_name", "token", "called"):
        if name_of in frame:
            own = frame.set_index("concept")[name_of].reindex(similar.index, fill_value="")
            columns[name_of] = own.to_numpy()
    found = pd.DataFrame(columns)
    return Table(f"{name}-{what}", found, title, columns={what: Column(".3f")})


@dataclass(frozen=True)
class Tile:
    """One image in which a concept is strong.

    Attributes
    ----------
    image : str
        Its id: split and relative path.
    label, prediction : str
        Names of its class and of the predicted one; "" where they are not known.
    presence : float
        Of the concept in it.
    picture : np.ndarray
        uint8 (y, x, colour): the image.
    explanation : np.ndarray or None
        uint8 (y, x, rgba): what the concept looks for in it. None where it was not mapped.
    """

    image: str
    label: str
    prediction: str
    presence: float
    picture: np.ndarray
    explanation: np.ndarray | None

    @cached_property
    def layers(self) -> dict[str, np.ndarray]:
        """What can be laid over it, by name; nothing where it was not mapped."""
        if self.explanation is None:
            return {}
        return {**colour_layers(self.explanation), PLACE: veil(self.explanation)}

    @property
    def classes(self) -> str:
        """What the image is, and what it was taken for where that differs."""
        if self.label in ("", self.prediction):
            return self.prediction
        return f"{self.label}, taken for {self.prediction}" if self.prediction else self.label


def drawn(tile: Tile, possible: Collection[str], what: str = "presence") -> Picture:
    """Return an image of a concept with its class and its presence; its id on demand.

    Parameters
    ----------
    tile : Tile
        The image.
    possible : collection of str
        Names of the layers that mean something, of :func:`exactness.shown_below`.
    what : str
        What its strength is called.
    """
    caption = f"{tile.classes or tile.image}\n{what} {number_text(tile.presence)}"
    layers = {name: layer for name, layer in tile.layers.items() if name in possible}
    return Picture(tile.picture, caption, tile.image, layers)


def has_lowest(gallery: xr.Dataset) -> bool:
    """Return whether a gallery has images in which neurons are lowest."""
    return f"{LOWEST}image" in gallery


def tiles(
    gallery: xr.Dataset, concept: int, most: int | None = None, lowest: bool = False
) -> list[Tile]:
    """Return the images of one concept, the strongest first.

    Parameters
    ----------
    gallery : xr.Dataset
        Of schema ``gallery``.
    concept : int
        Its index; one that the gallery does not have gives no image.
    most : int, optional
        Images at most; all by default.
    lowest : bool
        The images in which a neuron is lowest, the lowest first, of a gallery that has them.
    """
    if concept not in gallery.indexes["concept"]:
        return []
    own = sides_of(gallery)[int(lowest)].sel(concept=concept).isel(rank=slice(most)).load()
    classes = own["class"].values.astype(str).tolist()
    return [_tile(own, rank, classes) for rank, image in enumerate(own["image"].values) if image]


def _tile(own: xr.Dataset, rank: int, classes: Sequence[str]) -> Tile:
    names = {
        name: class_name(int(own[name].values[rank]), classes) if name in own else ""
        for name in ("label", "prediction")
    }
    picture = own["picture"].values[rank]
    explanation = own["explanation"].values[rank] if "explanation" in own else None
    return Tile(
        str(own["image"].values[rank]),
        **names,
        presence=float(own["presence"].values[rank]),
        picture=picture,
        explanation=explanation,
    )


def first_tiles(
    gallery: xr.Dataset, concepts: Sequence[int], distinct: bool = False
) -> dict[int, Tile]:
    """Return the strongest image of some concepts, of those that have one.

    Parameters
    ----------
    gallery : xr.Dataset
        Of schema ``gallery``; only these pictures are read.
    concepts : sequence of int
        Their indices.
    distinct : bool
        Whether each shows its strongest image that none before it shows, where it has one.
    """
    slots = gallery.indexes["concept"].get_indexer(np.asarray(concepts, dtype=np.int64))
    known = {int(c): int(s) for c, s in zip(concepts, slots, strict=True) if s >= 0}
    if not known:
        return {}
    classes = gallery["class"].values.astype(str).tolist()
    images = gallery["image"].isel(concept=list(known.values())).values.astype(str)
    found: dict[int, Tile] = {}
    seen: set[str] = set()
    for (concept, slot), ids in zip(known.items(), images, strict=True):
        if not ids[0]:
            continue
        other = (rank for rank, image in enumerate(ids) if image and image not in seen)
        rank = next(other, 0) if distinct else 0
        seen.add(ids[rank])
        found[concept] = _tile(gallery.isel(concept=slot, rank=[rank]).load(), 0, classes)
    return found


def meant_concept(text: str, known: Sequence[int]) -> int:
    """Return the concept that a text means: the nearest number; the first one, if it is none."""
    if not text.strip().isdecimal() or len(text) > _MOST_DIGITS:
        return int(known[0])
    values = np.asarray(known)
    return int(values[np.abs(values - int(text)).argmin()])


def not_meant(text: str, concept: int) -> str:
    """Return what to tell where a text does not mean the concept that is shown for it, else ""."""
    asked = text.strip()
    if not asked or (asked.isdecimal() and int(asked[: _MOST_DIGITS + 1]) == concept):
        return ""
    return f"No concept {asked}. Showing concept {concept}."


def neighbour(concept: int, known: Sequence[int], step: int) -> int | None:
    """Return the concept so many positions after another, None beyond the ends.

    Of one that is not among them, the first one is next.
    """
    index = list(known).index(concept) + step if concept in known else max(step - 1, -1)
    return int(known[index]) if 0 <= index < len(known) else None
