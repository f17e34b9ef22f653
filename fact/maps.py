"""Maps of concepts in a few images each, in cells of pixels; masks of objects in the same cells.

What evaluators compare: where a concept is (:func:`fact.attribution.concept_maps`), and where the
objects are that a data set knows of. Both are of the images as the network sees them.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fact.attribution import concept_maps
from fact.concept_source import ConceptSource
from fact.gallery import PAIRS
from fact.images import Geometry, ImageDataset
from fact.plots import select_gallery

CHOICES = ("strongest", "random")


def choose_images(
    presence: xr.DataArray, n_images: int, choice: str = "strongest", seed: int = 0
) -> xr.Dataset:
    """Choose a few images for each concept, among those in which it is present.

    Parameters
    ----------
    presence : DataArray, (image, concept)
        0 where a concept is not present.
    n_images : int
        Most images of a concept.
    choice : str
        ``strongest`` takes those with the largest presence, ``random`` any, by the images' ids.
    seed : int
        Draws them.

    Returns
    -------
    Dataset
        ``image`` (concept, rank) ids, "" where there are fewer; ``presence`` (concept, rank), NaN
        there. By presence, the largest first.

    Raises
    ------
    ValueError
        If there is no such choice.
    """
    if choice not in CHOICES:
        raise ValueError(f"images {choice!r}; expected one of {', '.join(CHOICES)}")
    if choice == "random":
        presence = _keep_drawn(presence, n_images, seed)
    return select_gallery(presence, n_images)


def _keep_drawn(presence: xr.DataArray, n_images: int, seed: int) -> xr.DataArray:
    """Set presences to 0 except where an image is drawn for a concept."""
    kept = presence.transpose("image", "concept").copy(data=np.zeros(presence.shape, np.float32))
    by_name = np.argsort(presence["image"].values.astype(str), kind="stable")
    for column, concept in enumerate(presence["concept"].values.tolist()):
        values = presence.isel(concept=column).values
        there = by_name[values[by_name] > 0]
        generator = np.random.default_rng([seed, concept])
        drawn = generator.choice(there, min(n_images, len(there)), replace=False)
        kept.values[drawn, column] = values[drawn]
    return kept


def map_images(
    source: ConceptSource, images: ImageDataset, chosen: xr.Dataset, cell: int = 1
) -> xr.Dataset:
    """Return where concepts are in the images that are chosen for them.

    Parameters
    ----------
    source : ConceptSource
        What the concepts are of.
    images : ImageDataset
        Where to read.
    chosen : Dataset
        From :func:`choose_images`.
    cell : int
        Side of a cell, in pixels, over which maps are summed.

    Returns
    -------
    Dataset
        ``image``, ``presence`` (concept, rank) as given, and ``map`` (concept, rank, y, x)
        float32, which sums to the presence where the network is convolutional; 0 for no image.
    """
    names = chosen["image"].values.astype(str)
    filled = names != ""
    concepts = np.broadcast_to(chosen["concept"].values[:, None], filled.shape)[filled]
    parts = []
    for start in range(0, len(concepts), PAIRS):
        rows = slice(start, start + PAIRS)
        unique, own = np.unique(names[filled][rows], return_inverse=True)
        pictures = images.read(unique, source.network.geometry)[own]
        maps = concept_maps(
            source.network,
            source.layer,
            source.sae,
            pictures,
            concepts[rows, None],
            batch_size=PAIRS,
        )
        parts.append(sum_cells(maps["map"].values[:, 0], cell).astype(np.float32))
    found = np.concatenate(parts) if parts else np.zeros((0, 1, 1), np.float32)
    whole = np.zeros((*filled.shape, *found.shape[1:]), np.float32)
    whole[filled] = found
    return xr.Dataset(
        {
            "image": (("concept", "rank"), names.astype(object)),
            "presence": chosen["presence"].variable,
            "map": (("concept", "rank", "y", "x"), whole),
        },
        {"concept": chosen["concept"].values, "rank": chosen["rank"].values},
    )


def mask_images(
    images: ImageDataset, ids: NDArray[np.str_], geometry: Geometry | None, cell: int = 1
) -> xr.Dataset:
    """Return where the labelled objects of images are, in cells.

    Parameters
    ----------
    images : ImageDataset
        That knows masks.
    ids : ndarray of str
        Which images.
    geometry : Geometry or None
        Of the images, as the network sees them.
    cell : int
        Side of a cell, in pixels: it is in a mask where at least half of it is.

    Returns
    -------
    Dataset
        ``mask`` (image, object, y, x) and ``carries`` (image, object, label), bool.

    Raises
    ------
    ValueError
        If the data set knows no masks.
    """
    known = images.masks(ids, geometry)
    if known is None:
        raise ValueError(f"images {images.name!r} have no masks: nothing tells where labels are")
    pixels = known["mask"].transpose("image", "object", "y", "x").values
    area = sum_cells(np.ones(pixels.shape[-2:]), cell)
    mask = 2 * sum_cells(pixels.astype(np.float32), cell) >= area
    carries = known["carries"].transpose("image", "object", "label")
    return xr.Dataset(
        {
            "mask": (("image", "object", "y", "x"), mask),
            "carries": (("image", "object", "label"), carries.values),
        },
        {
            "image": np.asarray(ids).astype(object),
            "label": carries["label"].values.astype(str).astype(object),
        },
    )


def sum_cells(values: NDArray[np.floating], cell: int) -> NDArray[np.floating]:
    """Return sums over square cells of ``(…, y, x)``; the last of a row may be smaller."""
    if cell == 1:
        return values
    for axis in (-2, -1):
        starts = np.arange(0, values.shape[axis], cell)
        values = np.add.reduceat(values, starts, axis=axis)
    return values
