"""The images in which concepts are strongest, each with the colours that the concept looks for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fact.data.images import ImageDataset
from fact.traces.attribution import colour_explanation, concept_maps
from fact.traces.concept_source import ConceptSource
from fact.traces.config import GalleryConfig
from fact.traces.plots import gallery_picture, select_gallery
from registry import Inputs, Run

PAIRS = 128
"""Pairs of image and concept that are explained at once."""

COLOURS = ("red", "green", "blue")
RGBA = (*COLOURS, "opacity")


CONCEPTS = 32
"""Concepts that are drawn at once."""


def draw_concepts(config: GalleryConfig, inputs: Inputs, run: Run) -> xr.Dataset:
    """Find the strongest images, explain them, and paint a picture per concept.

    Returns
    -------
    Dataset
        Of the schema ``gallery``.
    """
    source = ConceptSource.of_concepts(inputs["concepts"], config.device)
    images = inputs["concepts"].origin("images").load()
    with inputs["concepts"].open() as measured:
        chosen = alive_concepts(measured, config.most)
        parts = []
        for start in range(0, len(chosen), CONCEPTS):
            some = chosen[start : start + CONCEPTS]
            found = select_gallery(measured["presence"].isel(concept=some), config.n_images)
            parts.append(draw_gallery(source, images, measured, found, config.smooth))
            run.progress(start + len(some), len(chosen), "concepts")
    gallery = xr.concat(parts, "concept", data_vars="all", join="exact")
    if config.pictures:
        for concept in chosen:
            picture = gallery_picture(gallery, int(concept))
            picture.save(run.attach(f"pictures/concept-{concept:05d}.png"))
    return gallery


def draw_gallery(
    source: ConceptSource,
    images: ImageDataset,
    measured: xr.Dataset,
    chosen: xr.Dataset,
    smooth: int = 3,
) -> xr.Dataset:
    """Return the gallery of some concepts; see the schema ``gallery``.

    Parameters
    ----------
    source : ConceptSource
        What the concepts are of.
    images : ImageDataset
        Where to read.
    measured : Dataset
        Of the schema ``concepts``.
    chosen : Dataset
        ``image`` and ``presence`` (concept, rank), from :func:`fact.traces.plots.select_gallery`.
    smooth : int
        Side of the box that the opacity is averaged over, in pixels; odd.
    """
    names = chosen["image"].values.astype(str)
    filled = names != ""
    unique, inverse = np.unique(names[filled], return_inverse=True)
    pictures = images.read(unique, source.network.geometry)
    rows = measured.indexes["image"].get_indexer(names[filled])
    concepts = np.broadcast_to(chosen["concept"].values[:, None], filled.shape)[filled]
    picture = _spread(filled, pictures[inverse])
    painted = np.stack(list(explain_pairs(source, pictures[inverse], concepts, smooth)))
    classes = {
        name: (("concept", "rank"), _spread(filled, measured[name].values[rows], -1))
        for name in ("label", "prediction")
    }
    return xr.Dataset(
        {
            "image": (("concept", "rank"), names.astype(object)),
            "presence": chosen["presence"].variable,
            **classes,
            "picture": (("concept", "rank", "y", "x", "colour"), picture),
            "explanation": (("concept", "rank", "y", "x", "rgba"), _spread(filled, painted)),
        },
        {
            "concept": chosen["concept"].values,
            "rank": chosen["rank"].values,
            "class": measured["class"].values.astype(object),
            **pixel_coordinates(),
        },
    )


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


def pixel_coordinates() -> dict[str, NDArray[np.object_]]:
    """Return the coordinates of pictures and of explanations."""
    return {"colour": np.array(COLOURS, dtype=object), "rgba": np.array(RGBA, dtype=object)}


def explain_pairs(
    source: ConceptSource, pictures: NDArray[np.uint8], concepts: NDArray[np.int64], smooth: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield the colour explanation of one concept in each image, uint8 (y, x, rgba).

    Parameters
    ----------
    source : ConceptSource
        Network, layer and SAE.
    pictures : ndarray of uint8, (pair, y, x, colour)
        In the network's geometry.
    concepts : ndarray of int64, (pair,)
        The concept of each.
    smooth : int
        Side of the box that the opacity is averaged over, in pixels; odd.
    """
    for start in range(0, len(concepts), PAIRS):
        rows = slice(start, start + PAIRS)
        own = concepts[rows, None]
        maps = concept_maps(
            source.network, source.layer, source.sae, pictures[rows], own, batch_size=PAIRS
        )
        yield from paint(maps["weights"].values[:, 0], maps["map"].values[:, 0], smooth)


def paint(
    weights: NDArray[np.floating], values: NDArray[np.floating], smooth: int
) -> NDArray[np.uint8]:
    """Return the colour explanation of weights (…, 6, y, x), with map (…, y, x), as bytes."""
    picture = colour_explanation(weights, values, smooth=smooth)
    painted: NDArray[np.uint8] = np.rint(255 * picture).astype(np.uint8)
    return painted


def _spread(
    filled: NDArray[np.bool_], values: NDArray[np.generic], empty: int = 0
) -> NDArray[np.generic]:
    """Put values where it is filled, ``empty`` elsewhere."""
    whole = np.full((*filled.shape, *values.shape[1:]), empty, dtype=values.dtype)
    whole[filled] = values
    return whole
