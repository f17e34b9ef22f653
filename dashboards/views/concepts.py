"""Concepts of a network: their statistics, and the images in which they are strongest."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.parts import Number
from dashboards.views.pictures import enlarge, thumbnail
from dashboards.views.text import number_text
from fact.plots import over_white
from registry.catalog import Catalog
from registry.project import MissingInputsError, Project

SUMMARY = {
    "accuracy": ("accuracy, spliced", "of the network with the SAE in place of the layer"),
    "network_accuracy": ("accuracy, network", "of the network as it is, on the same images"),
    "alive_share": ("alive concepts", "share of the concepts that contribute to some image"),
    "image_l0": ("concepts per image", "mean number of concepts that are present in an image"),
    "concepts_for_80": (
        "concepts for 80 %",
        "mean number that makes up 80 % of the positive contribution",
    ),
    "residual_max": ("largest residual", "of any image: |sum of contributions - logit|, relative"),
}
"""Scalars of a concepts dataset: how they are called, and what they mean."""

SHARES = ("accuracy", "network_accuracy", "alive_share")
COLUMNS = ("concept", "name", "score", "image_share", "mean_contribution")
_MOST_DIGITS = 18
_MOST_LOOKED_AT = 30
THUMBNAIL_BYTES = 64_000_000
"""Pictures above this, all first ranks together, are not read for a table."""


def cells_of(project: Project, schema: str, made_from: str = "") -> list[str]:
    """Return the cells that make a dataset of a schema, of those made from a cell if it is named.

    Parameters
    ----------
    project : Project
        What is declared.
    schema : str
        Name of the schema, as ``gallery``.
    made_from : str
        A cell that they need directly.
    """
    return [
        cell.name
        for cell in project.graph.cells.values()
        if cell.provides == schema and (not made_from or made_from in cell.needs.values())
    ]


def first_made(catalog: Catalog, cells: Sequence[str]) -> int:
    """Return the place of the first of these cells that has a whole dataset; 0 if none has."""
    for place, cell in enumerate(cells[:_MOST_LOOKED_AT]):
        with suppress(MissingInputsError):
            catalog.path(cell)
            return place
    return 0


def maker_of(catalog: Catalog, cell: str, schema: str) -> str:
    """Return the cell that makes a dataset of a schema from another cell; "" if none does."""
    makers = cells_of(catalog.project, schema, made_from=cell)
    return makers[first_made(catalog, makers)] if makers else ""


def summary(concepts: xr.Dataset) -> list[Number]:
    """Return the numbers that describe a concept model as a whole; absent ones are left out."""
    return [
        Number(label, _scalar_text(name, float(concepts[name])), meaning)
        for name, (label, meaning) in SUMMARY.items()
        if name in concepts
    ]


def _scalar_text(name: str, value: float) -> str:
    return f"{100 * value:.1f} %" if name in SHARES else number_text(value)


def concepts_frame(concepts: xr.Dataset, best: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return a row per concept, the largest mean contribution first.

    Parameters
    ----------
    concepts : xr.Dataset
        Variables (concept): ``image_share``, ``mean_contribution`` and others of that dimension.
    best : pd.DataFrame, optional
        ``name`` and ``score`` by concept; concepts without a name are left empty.

    Returns
    -------
    pd.DataFrame
        Columns ``concept``, ``name``, ``score`` and the statistics.
    """
    index = pd.Index(concepts["concept"].values, name="concept")
    frame = pd.DataFrame({"concept": index}, index=index)
    frame["name"] = "" if best is None else best["name"].reindex(index).fillna("")
    frame["score"] = np.nan if best is None else best["score"].reindex(index)
    for name, variable in concepts.data_vars.items():
        if variable.dims == ("concept",):
            frame[str(name)] = variable.values
    by = "mean_contribution" if "mean_contribution" in frame else "concept"
    return frame.sort_values(by, ascending=by == "concept", kind="stable").reset_index(drop=True)


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
    title = f"Concept {concept}" + (f": {row['name']}" if row["name"] else "")
    told = []
    if "image_share" in row:
        told.append(f"present in {100 * row['image_share']:.1f} % of the images")
    if "contributing_share" in row:
        told.append(f"contributes in {100 * row['contributing_share']:.1f} %")
    if "mean_contribution" in row:
        told.append(f"{number_text(row['mean_contribution'])} to the logit on average")
    return title, ", ".join(told)


def search(frame: pd.DataFrame, text: str) -> pd.DataFrame:
    """Return the rows whose name has all words of a text, or whose concept is that number."""
    words = text.lower().split()
    names = frame["name"].astype(str).str.lower()
    chosen = np.logical_and.reduce([names.str.contains(word, regex=False) for word in words])
    if text.strip().isdecimal():
        chosen = chosen | (frame["concept"] == int(text))
    return frame[chosen] if words else frame


def first_pictures(gallery: xr.Dataset) -> dict[int, str] | None:
    """Return a thumbnail of each concept's strongest image; None where that is too much to read."""
    pictures = gallery["picture"].isel(rank=0)
    if pictures.nbytes > THUMBNAIL_BYTES:
        return None
    shown = gallery["image"].isel(rank=0).values != ""
    concepts = gallery["concept"].values
    return {
        int(concept): thumbnail(picture)
        for concept, picture, is_there in zip(concepts, pictures.values, shown, strict=True)
        if is_there
    }


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
    picture, explanation : np.ndarray
        uint8 (y, x, colour): the image, and where the concept is in it, on white.
    """

    image: str
    label: str
    prediction: str
    presence: float
    picture: np.ndarray
    explanation: np.ndarray

    @property
    def classes(self) -> str:
        """What the image is, and what it was taken for where that differs."""
        if self.label in ("", self.prediction):
            return self.prediction
        return f"{self.label}, taken for {self.prediction}" if self.prediction else self.label


def tiles(gallery: xr.Dataset, concept: int) -> list[Tile]:
    """Return the images of one concept, the strongest first.

    Parameters
    ----------
    gallery : xr.Dataset
        Of schema ``gallery``.
    concept : int
        Its index; one that the gallery does not have gives no image.
    """
    if concept not in gallery.indexes["concept"]:
        return []
    own = gallery.sel(concept=concept).load()
    classes = own["class"].values.astype(str).tolist()
    return [
        Tile(
            str(image),
            _class_name(int(own["label"].values[rank]), classes),
            _class_name(int(own["prediction"].values[rank]), classes),
            float(own["presence"].values[rank]),
            enlarge(own["picture"].values[rank]),
            enlarge(over_white(own["explanation"].values[rank])),
        )
        for rank, image in enumerate(own["image"].values)
        if image
    ]


def _class_name(index: int, classes: Sequence[str]) -> str:
    return str(classes[index]) if 0 <= index < len(classes) else ""


def meant_concept(text: str, known: Sequence[int]) -> int:
    """Return the concept that a text means: the nearest number; the first one, if it is none."""
    if not text.strip().isdecimal() or len(text) > _MOST_DIGITS:
        return int(known[0])
    values = np.asarray(known)
    return int(values[np.abs(values - int(text)).argmin()])


def neighbour(concept: int, known: Sequence[int], step: int) -> int | None:
    """Return the concept so many places after another, None beyond the ends."""
    place = list(known).index(concept) + step
    return int(known[place]) if 0 <= place < len(known) else None
