"""Which concepts are drawn, and which images' decisions are explained."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fact.data.vocabulary import wordnet_names
from fact.networks.arrays import slices
from fact.traces.config import DecidedImages, GalleryConfig
from fact.traces.plots import EMPTY, decision_shares
from registry.suggest import RefusalError, nearest
from registry.wording import counted

IMAGES = 512
"""Images whose contributions are read at once."""

_PLACE = re.compile(r"(.+)\[(\d+)\]")

T = TypeVar("T")


class ChoiceError(RefusalError, ValueError):
    """Images or classes that are asked for and that were not measured."""


def alive_concepts(measured: xr.Dataset, most: int | None) -> NDArray[np.int64]:
    """Return the concepts that contribute somewhere, in order; or those of them in most images.

    Parameters
    ----------
    measured : Dataset
        Of the schema ``concepts``.
    most : int or None
        Most concepts; None for all that are alive.

    Raises
    ------
    ValueError
        If there is none.
    """
    share, alive = measured["image_share"].values, measured["contributing_share"].values > 0
    ranked = np.argsort(-np.where(alive, share, -1), kind="stable")[: int(alive.sum())]
    if not len(ranked):
        raise ValueError("no concept is alive: none contributes to any image")
    return np.sort(ranked[:most])


def choose_concepts(
    measured: xr.Dataset, config: GalleryConfig, consistency: xr.Dataset | None = None
) -> NDArray[np.int64]:
    """Return the concepts to draw, in order of their indices.

    Parameters
    ----------
    measured : Dataset
        Of the schema ``concepts``.
    config : GalleryConfig
        Its rule, see there.
    consistency : Dataset, optional
        Of the schema ``consistency``, for the rule ``consistency``.

    Raises
    ------
    ValueError
        If a listed concept does not exist, or the rule chooses none.
    """
    if config.concepts:
        return listed_concepts(measured, config.concepts)
    if config.choose == "presence":
        return alive_concepts(measured, config.most)
    if config.choose == "consistency":
        if consistency is None:
            raise ValueError("choose 'consistency' needs scores; fill the slot `consistency`")
        return _most_consistent(consistency, config.most)
    found = (
        strongest_of_classes(measured, config.each)
        if config.choose == "class"
        else concepts_of_decisions(measured, config.decided, config.each)
    )
    if not len(found):
        raise ValueError(f"choose {config.choose!r} found no concept that speaks for a logit")
    if config.most is None or len(found) <= config.most:
        return found
    share = measured["image_share"].values[found]
    return np.sort(found[np.argsort(-share, kind="stable")[: config.most]])


def listed_concepts(
    measured: xr.Dataset | xr.DataArray, concepts: Sequence[int]
) -> NDArray[np.int64]:
    """Return these concepts in order, each once; one that does not exist is an error."""
    known = measured["concept"].values
    chosen = np.unique(np.array(concepts, dtype=np.int64))
    if len(unknown := np.setdiff1d(chosen, known)):
        listed = ", ".join(map(str, unknown[:8]))
        raise ValueError(f"no concepts {listed}; expected indices from {known[0]} to {known[-1]}")
    return chosen


def _most_consistent(consistency: xr.Dataset, most: int | None) -> NDArray[np.int64]:
    """Return the concepts of highest C2-score among those with enough images to count."""
    if "concept_class" in consistency:
        raise ValueError("these scores are of concepts of one class each; expected those of an SAE")
    score = consistency["score"].values
    counted = (consistency["n_images"] >= consistency["least_images"]).values & ~np.isnan(score)
    ranked = np.argsort(-np.where(counted, score, -np.inf), kind="stable")[: int(counted.sum())]
    if not len(ranked):
        raise ValueError("no concept has a C2-score of enough images")
    return np.sort(consistency["concept"].values[ranked[:most]]).astype(np.int64)


def strongest_of_classes(measured: xr.Dataset, each: int) -> NDArray[np.int64]:
    """Return the concepts that contribute most to each class, over the images explained for it.

    Parameters
    ----------
    measured : Dataset
        Of the schema ``concepts``; ``target`` is the class whose logit was explained.
    each : int
        Most concepts of a class, of positive mean contribution; ties in order.

    Returns
    -------
    ndarray of int64
        Of all classes together, in order.
    """
    target = measured["target"].values
    sums = np.zeros((measured.sizes["class"], measured.sizes["concept"]))
    for rows in slices(len(target), IMAGES):
        contribution = measured["contribution"].isel(image=rows).transpose("image", "concept")
        np.add.at(sums, target[rows], contribution.values)
    order = np.argsort(-sums, axis=1, kind="stable")[:, :each]
    kept = order[np.take_along_axis(sums, order, axis=1) > 0]
    return np.unique(measured["concept"].values[kept]).astype(np.int64)


def concepts_of_decisions(
    measured: xr.Dataset, images: DecidedImages, each: int
) -> NDArray[np.int64]:
    """Return the concepts that `fact.explain_decisions` shows of the same images.

    Parameters
    ----------
    measured : Dataset
        Of the schema ``concepts``.
    images : DecidedImages
        Which images.
    each : int
        Most concepts of a decision.

    Returns
    -------
    ndarray of int64
        Of all decisions together, in order.
    """
    rows = rows_of_images(measured, images)
    found = [
        decision_shares(measured["contribution"].isel(image=rows[part]).load(), each)["top_concept"]
        for part in slices(len(rows), IMAGES)
    ]
    return np.setdiff1d(np.concatenate([part.values.ravel() for part in found]), [EMPTY])


def rows_of_images(measured: xr.Dataset, images: DecidedImages) -> NDArray[np.intp]:
    """Return where the images stand whose decisions are explained.

    Parameters
    ----------
    measured : Dataset
        Of the schema ``concepts``.
    images : DecidedImages
        Listed images, or the first of each class: by label, by prediction where there is none.

    Raises
    ------
    ChoiceError
        With every image that was not measured, and every class that there is not, or of which no
        image was; with the nearest name.
    """
    if images.images:
        ids = measured["image"].values.astype(str)
        known = {name: row for row, name in enumerate(ids)}
        return np.array(_each(images.images, lambda text: _row(measured, known, text)))
    if images.classes:
        found = _each(images.classes, lambda name: _rows_of_class(measured, name))
        return np.concatenate([rows[: images.per_class] for rows in found])
    label, prediction = (measured[name].values for name in ("label", "prediction"))
    label = np.where(label < 0, measured.sizes["class"] + prediction, label)  # as images go
    rows = [np.flatnonzero(label == value)[: images.per_class] for value in np.unique(label)]
    return np.concatenate(rows)


def _each(chosen: Iterable[str], find: Callable[[str], T]) -> list[T]:
    found, faults = [], []
    for text in chosen:
        try:
            found.append(find(text))
        except ChoiceError as error:
            faults.append(str(error))
    if faults:
        raise ChoiceError("; ".join(faults))
    return found


def _row(measured: xr.Dataset, known: dict[str, int], text: str) -> int:
    """Return the row of an image: by its id, or by its class and its place in it."""
    if text in known:
        return known[text]
    if (place := _PLACE.fullmatch(text)) is None:
        raise ChoiceError(f"image {text!r} was not measured{nearest(text, known)}")
    rows, number = _rows_of_class(measured, place[1]), int(place[2])
    if number >= len(rows):
        raise ChoiceError(
            f"image {text!r}: class {place[1]!r} has {counted(len(rows), 'image')}, from 0"
        )
    return int(rows[number])


def _rows_of_class(measured: xr.Dataset, name: str) -> NDArray[np.intp]:
    """Return the rows of a class, by its name, WordNet's number or its index.

    Images without labels count as what is predicted of them.
    """
    index = _class_index(measured["class"].values.astype(str).tolist(), name)
    label, prediction = (measured[own].values for own in ("label", "prediction"))
    rows = np.flatnonzero(np.where(label < 0, prediction, label) == index)
    if not len(rows):
        raise ChoiceError(f"no image of class {name!r} was measured")
    return rows


def _class_index(classes: list[str], name: str) -> int:
    if name in classes:
        return classes.index(name)
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    if (numbered := wordnet_names().get(name, "")) in classes:
        return classes.index(numbered)
    raise ChoiceError(f"no class {name!r}{nearest(name, classes)}")
