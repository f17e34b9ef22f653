"""Which images a concept is judged by: those in which it is most present.

Source: Parchami-Araghi et al., "FaCT", NeurIPS 2025, arXiv 2510.25512, section 5. Ties at the
threshold are kept; the published code compares strictly, which can leave eight images, or none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

LEAST = 10
"""Images that remain, where there are as many."""

ROWS = 1024
"""Images whose presences are read at once."""

POSITIVES = 1 << 25
"""Positive presences that are held at once: 400 MB."""


def choose_threshold(presence: ArrayLike, quantile: float = 0.95, least: int = LEAST) -> float:
    """Return the presence from which on an image is selected for a concept.

    Parameters
    ----------
    presence : array
        ``(image,)``; only those above 0 count.
    quantile : float
        Of the positive presences, in [0, 1], interpolated linearly.
    least : int
        Images that remain; the threshold is lowered so far, to the ``least``-th largest presence.

    Returns
    -------
    float
        The smallest positive presence where there are at most ``least``; NaN where there are
        fewer than two, and the concept is left out.
    """
    values = np.asarray(presence, dtype=np.float64)
    positive = np.sort(values[values > 0])
    if len(positive) < 2:
        return float("nan")
    if len(positive) <= least:
        return float(positive[0])
    return float(min(np.quantile(positive, quantile), positive[-least]))


@dataclass(frozen=True)
class Selection:
    """Images selected by concept: pairs, in the order of images and then of concepts.

    Attributes
    ----------
    image, concept : ndarray of int64, (pair,)
        Indices.
    presence : ndarray of float32, (pair,)
        Of the concept in the image.
    threshold : ndarray of float64, (concept,)
        NaN where a concept is left out.
    """

    image: NDArray[np.int64]
    concept: NDArray[np.int64]
    presence: NDArray[np.float32]
    threshold: NDArray[np.float64]

    def of_images(self, rows: slice) -> slice:
        """Return the pairs of consecutive images."""
        start, stop = np.searchsorted(self.image, [rows.start, rows.stop])
        return slice(int(start), int(stop))


def select_images(presence: xr.DataArray, quantile: float = 0.95, least: int = LEAST) -> Selection:
    """Select the images of every concept.

    Parameters
    ----------
    presence : DataArray
        ``(image, concept)``; may be lazy, and is read in blocks of images, more than once where
        there are many positive presences.
    quantile, least
        As for :func:`choose_threshold`.
    """
    counts = sum(((block > 0).sum(axis=0) for _, block in _blocks(presence)), np.int64(0))
    threshold = np.full(presence.sizes["concept"], np.nan)
    parts = []
    for concepts in _groups(np.asarray(counts)):
        image, concept, value = _positives(presence, concepts)
        for number, own in pd.Series(value).groupby(concept):
            threshold[number] = choose_threshold(own, quantile, least)
        kept = value >= threshold[concept]
        parts.append((image[kept], concept[kept], value[kept]))
    image, concept, value = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((concept, image))
    return Selection(image[order], concept[order], value[order], threshold)


def _blocks(presence: xr.DataArray) -> Iterator[tuple[int, NDArray[np.floating]]]:
    """Yield blocks (image, concept) with the index of their first image."""
    array = presence.transpose("image", "concept")
    for start in range(0, array.sizes["image"], ROWS):
        yield start, array.isel(image=slice(start, start + ROWS)).values


def _groups(counts: NDArray[np.integer]) -> Iterator[slice]:
    """Yield consecutive concepts that together have so many positive presences, at least one."""
    start, held = 0, 0
    for concept, count in enumerate(counts.tolist()):
        if held and held + count > POSITIVES:
            yield slice(start, concept)
            start, held = concept, 0
        held += count
    yield slice(start, len(counts))


def _positives(
    presence: xr.DataArray, concepts: slice
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return image, concept and value of the positive presences of some concepts."""
    parts = []
    for start, block in _blocks(presence.isel(concept=concepts)):
        image, concept = np.nonzero(block > 0)
        parts.append((image + start, concept + concepts.start, block[image, concept]))
    image, concept, value = (np.concatenate(column) for column in zip(*parts, strict=True))
    return image, concept, value
