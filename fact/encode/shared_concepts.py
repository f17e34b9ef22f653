"""Where concepts are that all classes share, as those of an SAE or the channels of a layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import registry
from fact.data.images import ImageDataset, Pixels, batches
from fact.encode.config import SharedConceptsConfig
from fact.encode.encodings import MappedImage, MapSource, encode_parts
from fact.encode.image_encoder import ImageEncoder
from fact.encode.selection import select_images
from fact.networks.devices import choose_device
from fact.networks.network import Network
from fact.traces.concept_source import ConceptSource
from registry.store.shards import Shards

SHARD_IMAGES = 256


class Mapper(Protocol):
    """A network whose concepts can be located in images."""

    @property
    def network(self) -> Network:
        """The network."""

    def maps(self, pictures: Pixels, concepts: NDArray[np.int64]) -> NDArray[np.floating]:
        """Return where one concept (image,) is in each picture: (image, y, x)."""


def shared_concepts(
    mapper: Mapper, images: ImageDataset, presence: xr.DataArray, config: SharedConceptsConfig
) -> MapSource:
    """Return the images in which each concept is most present, with its maps.

    Parameters
    ----------
    mapper : Mapper
        Locates the concepts.
    images : ImageDataset
        Where to read.
    presence : DataArray
        ``(image, concept)`` of all images that may be drawn; may be lazy.
    config : SharedConceptsConfig
        Selects images. Maps are made a batch at a time, too.
    """
    presence = presence.isel(image=_drawn(presence.sizes["image"], config))
    ids = presence["image"].values.astype(str)
    selection = select_images(presence, config.quantile, config.least)
    size = -(-SHARD_IMAGES // config.batch) * config.batch  # whole batches, however often resumed

    def read(part: int) -> Iterator[list[MappedImage]]:
        first, own_ids = part * size, ids[part * size :][:size]
        for names, pictures in batches(images, own_ids, config.batch, mapper.network.geometry):
            pairs = selection.of_images(slice(first, first + len(names)))
            index, concepts = selection.image[pairs] - first, selection.concept[pairs]
            maps = _maps(mapper, pictures[index], concepts, config.batch)
            present = selection.presence[pairs]
            owns = [index == number for number in range(len(names))]
            yield [
                MappedImage(str(name), picture, concepts[own], present[own], list(maps[own]))
                for name, picture, own in zip(names, pictures, owns, strict=True)
            ]
            first += len(names)

    return MapSource(
        presence["concept"].values,
        [min(size, len(ids) - start) for start in range(0, len(ids), size)],
        "images",
        read,
        f"presence above the {config.quantile:g}-quantile, at least {config.least} images",
        {"threshold": ("concept", selection.threshold)},
    )


def _drawn(count: int, config: SharedConceptsConfig) -> NDArray[np.int64]:
    if config.n_images is None or config.n_images >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(config.seed).permutation(count)[: config.n_images])


def _maps(
    mapper: Mapper, pictures: Pixels, concepts: NDArray[np.int64], batch: int
) -> NDArray[np.floating]:
    """Return the map (pair, y, x) of one concept in each picture, a few at a time."""
    parts = [np.zeros((0, *pictures.shape[1:3]), np.float32)]
    for start in range(0, len(concepts), batch):
        own = slice(start, start + batch)
        parts.append(mapper.maps(pictures[own], concepts[own]))
    return np.concatenate(parts)


def encode_concepts(
    config: SharedConceptsConfig, inputs: registry.Inputs, run: registry.Run
) -> Shards:
    """Encode each concept in the images in which it is most present, by its maps."""
    concepts = inputs["concepts"]
    encoder = ImageEncoder(config, choose_device(config.device))
    mapper, images = ConceptSource.of_concepts(concepts, config.device), concepts.origin("images")
    with concepts.open() as measured:
        source = shared_concepts(mapper, images.load(), measured["presence"], config)
        return encode_parts(source, encoder, config.seed, run)
