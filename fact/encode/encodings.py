"""Encodings of images and concepts as a dataset: one driver for every source of maps.

A source yields images with the maps of the concepts that they were selected for. Of each image,
the driver makes encodings of all of it (for the mean to subtract), under random weights (for the
baselines) and under each map. A concept is judged by the images in which it is most present; ties
at the threshold are kept, where the published code compares strictly, which can leave eight images,
or none. Source: Parchami-Araghi et al., "FaCT", NeurIPS 2025, arXiv 2510.25512, section 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fact.data.images import Pixels, generator_for
from fact.encode.config import EncodingConfig
from fact.encode.encoders import EncoderChoice
from fact.encode.image_encoder import FeatureMap, ImageEncoder
from fact.networks.network import choose_device
from fact.schemas import ENCODINGS
from registry import Run
from registry.store.datasets import open_dataset
from registry.store.shards import Shards, part_name

COVERED = 0.8
"""Fraction of a map whose pixels are counted."""

COUNTED = 64
"""Maps whose pixels are counted at once."""

LEAST = 10
"""Images that remain, where there are as many."""

ROWS = 1024
"""Images whose presences are read at once."""

POSITIVES = 1 << 25
"""Positive presences that are held at once: 400 MB."""

CONCEPT, WHOLE, RANDOM = "concept", "whole", "random"
"""What weights an encoding: a concept's map, the whole image alike, or random numbers."""


Maps: TypeAlias = Tensor | Sequence[NDArray[np.floating]]


@dataclass(frozen=True)
class MappedImage:
    """An image, and where concepts are in it.

    Attributes
    ----------
    image : str
        Its name.
    picture : ndarray of uint8, (y, x, colour)
        As the network saw it.
    concepts : ndarray of int64, (map,)
        Indices.
    presence : ndarray, (map,)
        How present each concept is.
    maps : Tensor, sequence of ndarray, or callable
        ``(map, y, x)``: where; in any size, and what is below 0 counts as 0. A callable returns
        them, once, image after image.
    baselines : tuple of int
        The random baselines that the image counts for: 0, or its class where there is one for
        each class.
    """

    image: str
    picture: Pixels
    concepts: NDArray[np.int64]
    presence: NDArray[np.floating]
    maps: Maps | Callable[[], Maps]
    baselines: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class MapSource:
    """Where concepts are in images, part by part.

    Attributes
    ----------
    concepts : ndarray of int64, (concept,)
        Their numbers, at least 0.
    parts : sequence of int
        Size of each part, in ``unit``.
    unit : str
        What parts consist of: ``images`` or ``classes``.
    read : callable
        Given the index of a part, yields its images, those together that the encoder sees together.
    rule : str
        How images are selected, in words.
    samples : sequence of int, optional
        Encodings of each part, where that is known before: then parts can be encoded side by side.
    names : mapping
        Variables along ``concept`` or ``class``: names, and ``threshold``, which is by default the
        smallest presence that was encoded.
    """

    concepts: NDArray[np.int64]
    parts: Sequence[int]
    unit: str
    read: Callable[[int], Iterator[Sequence[MappedImage]]]
    rule: str
    names: Mapping[str, Any]
    samples: Sequence[int] | None = None


def encode_parts(source: MapSource, config: EncodingConfig, run: Run) -> Shards:
    """Encode what is not encoded yet, part by part.

    Parameters
    ----------
    source : MapSource
        What is encoded.
    config : EncodingConfig
        What sees the images, and the seed of the random maps.
    run : Run
        Takes the parts; one that was stopped continues at its next part.

    Returns
    -------
    Shards
        Of the schema ``encodings``.
    """
    encoder = ImageEncoder(config, choose_device(config.device), config.precision)
    n_parts = len(source.parts)
    writer, counts, done = (
        run.shards(None if source.samples is None else n_parts),
        _Counts(source),
        0,
    )
    own, there = writer.indices(n_parts), writer.done
    with writer:
        for index in own:
            if index in there:
                with open_dataset(writer.folder / part_name(index)) as opened:
                    counts.add(opened)
            else:
                first = counts.samples if source.samples is None else sum(source.samples[:index])
                part = encode_part(source, index, encoder, config.seed, first)
                counts.add(part)
                writer.submit(part, index)
            done += source.parts[index]
            run.progress(done, sum(source.parts[own.start : own.stop]), source.unit)
        writer.end_part()
    return writer.finish(counts.summary(config))


def encode_whole(source: MapSource, encoder: ImageEncoder, seed: int) -> xr.Dataset:
    """Return the encodings of a source's only part, of the schema ``encodings``, in memory."""
    encodings, counts = encode_part(source, 0, encoder, seed), _Counts(source)
    counts.add(encodings)
    return encodings.merge(counts.summary(encoder.choice))


class _Counts:
    """What is said of all parts together."""

    def __init__(self, source: MapSource):
        self.source = source
        self.samples = self.images = self.encodings = self.empty = 0
        self.weakest = np.full(source.concepts.max(initial=-1) + 1, np.nan)

    def add(self, part: xr.Dataset) -> None:
        """Count a part."""
        kind = part["map"].values
        own = kind == CONCEPT
        presence = part["presence"].values[own].astype(np.float64)
        np.fmin.at(self.weakest, part["group"].values[own], presence)
        self.samples += len(kind)
        self.images += int((kind == WHOLE).sum())
        self.encodings += int(own.sum())
        self.empty += int(np.isnan(part["encoding"][:, 0].values).sum())

    def summary(self, choice: EncoderChoice) -> xr.Dataset:
        """Return the variables without ``sample``."""
        return xr.Dataset(
            {
                "threshold": ("concept", self.weakest[self.source.concepts]),
                **self.source.names,
                "n_images": self.images,
                "n_encodings": self.encodings,
                "n_empty": self.empty,
                "variant": f"{choice}; {self.source.rule}",
            },
            {"concept": self.source.concepts},
            attrs={"revisions": choice.revisions} if choice.revisions else {},
        )


def encode_part(
    source: MapSource, part: int, encoder: ImageEncoder, seed: int, first: int = 0
) -> xr.Dataset:
    """Return the encodings of a part along ``sample``, numbered from ``first``."""
    columns = join([encode_images(encoder, images, seed) for images in source.read(part)])
    variables = {name: (ENCODINGS.variables[name].dims, values) for name, values in columns.items()}
    return xr.Dataset(variables, {"sample": np.arange(first, first + len(columns["group"]))})


def encode_images(
    encoder: ImageEncoder, images: Sequence[MappedImage], seed: int
) -> dict[str, NDArray[Any]]:
    """Return all encodings of some images: whole, under random weights, and under each map.

    Parameters
    ----------
    encoder : ImageEncoder
        What sees them.
    images : sequence of MappedImage
        Seen together.
    seed : int
        Of the random weights.

    Returns
    -------
    dict of str to ndarray
        Columns (sample, …) of the schema ``encodings``.
    """
    seen = encoder.features([image.picture for image in images])
    return join([_encode_image(s, image, seed) for s, image in zip(seen, images, strict=True)])


def _encode_image(seen: FeatureMap, image: MappedImage, seed: int) -> dict[str, NDArray[Any]]:
    random = random_weights(image.image, seen.size, seed)
    plain = np.stack([np.ones(seen.size), *[random for _ in image.baselines]])
    maps = image.maps() if callable(image.maps) else image.maps
    resized = [seen.resize(plain), *(seen.resize(map[None]) for map in maps)]
    weights, count = torch.cat(resized), len(image.baselines)
    return {
        "encoding": seen.encode(weights),
        "map": np.array([WHOLE, *[RANDOM] * count, *[CONCEPT] * len(maps)], dtype=object),
        "group": np.concatenate([[-1], image.baselines, image.concepts]).astype(np.int64),
        "image": np.array([image.image] * len(weights), dtype=object),
        "presence": np.concatenate(
            [[np.nan], [random.sum()] * count, np.asarray(image.presence, dtype=np.float64)]
        ).astype(np.float32),
        "pixels": count_pixels(weights),
    }


def join(parts: Sequence[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Return columns of several parts, one after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def count_pixels(
    maps: NDArray[np.floating] | Tensor, covered: float = COVERED
) -> NDArray[np.int64]:
    """Return the smallest number of pixels (map,) that hold a fraction of maps (map, y, x).

    Parameters
    ----------
    maps : ndarray or Tensor
        At least 0; counted where they lie.
    covered : float
        In (0, 1]; reached up to rounding, so that 0.8 of equal pixels is four of five.

    Returns
    -------
    ndarray of int64
        0 where a map is 0 everywhere.
    """
    values = torch.as_tensor(maps).flatten(1)
    values = values if values.device.type == "mps" else values.double()  # which has no float64
    parts = [_count_largest(some, covered) for some in torch.split(values, COUNTED)]
    found: NDArray[np.int64] = torch.cat(parts).cpu().numpy()
    return found


def _count_largest(values: Tensor, covered: float) -> Tensor:
    """Return how many of the largest values (map, pixel) hold a fraction of all, (map,)."""
    sums = values.sort(dim=1, descending=True).values.cumsum(dim=1)
    total = sums[:, -1:]
    count = (sums < covered * (1 - 1e-12) * total).sum(dim=1) + 1
    return count.where(total[:, 0] > 0, 0)


def random_weights(image: str, size: tuple[int, int], seed: int) -> NDArray[np.float64]:
    """Return the random map (y, x) of an image: uniform, clipped from below at a uniform number.

    It depends on the image's name, its size and the seed alone, not on other images.
    """
    generator = generator_for(image, seed)
    lowest = generator.random()
    return np.maximum(generator.random(size), lowest)


# --- selection --------------------------------------------------------------------------------


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


def published_threshold(presence: ArrayLike, quantile: float = 0.95, least: int = LEAST) -> float:
    """Return the presence above which the published code selects an image for a concept.

    It keeps what is strictly above the quantile, so that eight images or none may be left; the
    threshold is lowered to the presence that comes after the ``least`` largest. All of them are
    selected by :func:`choose_threshold` too. Source: github.com/m-parchami/FaCT,
    ``fact/analysis/dino_consistency.py``.

    Parameters
    ----------
    presence : array
        ``(image,)``; only those above 0 count.
    quantile, least
        As for :func:`choose_threshold`.

    Returns
    -------
    float
        0 where there are at most ``least`` positive presences.
    """
    values = np.asarray(presence, dtype=np.float64)
    positive = np.sort(values[values > 0])
    if len(positive) <= least:
        return 0.0
    return float(min(np.quantile(positive, quantile), positive[-least - 1]))


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
    published : ndarray of float64, (concept,)
        Presence above which the published code selects, see :func:`published_threshold`.
    """

    image: NDArray[np.int64]
    concept: NDArray[np.int64]
    presence: NDArray[np.float32]
    threshold: NDArray[np.float64]
    published: NDArray[np.float64]

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
    threshold, published = np.full((2, presence.sizes["concept"]), np.nan)
    parts = []
    for concepts in _groups(np.asarray(counts)):
        image, concept, value = _positives(presence, concepts)
        for number, own in pd.Series(value).groupby(concept):
            threshold[number] = choose_threshold(own, quantile, least)
            published[number] = published_threshold(own, quantile, least)
        kept = value >= threshold[concept]
        parts.append((image[kept], concept[kept], value[kept]))
    image, concept, value = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((concept, image))
    return Selection(image[order], concept[order], value[order], threshold, published)


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
