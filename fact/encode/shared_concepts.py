"""Where concepts are that all classes share, as those of an SAE or the channels of a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import registry
from fact.data.images import Geometry, ImageDataset, Pixels, batches
from fact.encode.config import MappedConceptsConfig, SharedConceptsConfig
from fact.encode.encodings import MappedImage, MapSource, encode_parts, select_images
from fact.networks.arrays import slices
from fact.traces.attribution import pair_maps
from fact.traces.spliced import ConceptSource
from registry.store.shards import Shards
from registry.wording import counted

SHARD_IMAGES = 256

Locate = Callable[[Pixels, NDArray[np.int64]], NDArray[np.floating]]
"""Takes pictures, and a concept (image,) for each; returns where it is: (image, y, x)."""


def encode_concepts(
    config: MappedConceptsConfig, inputs: registry.Inputs, run: registry.Run
) -> Shards:
    """Encode each concept in the images in which it is most present, by its maps."""
    concepts = inputs["concepts"]
    source = ConceptSource.of_concepts(concepts, config.device, config.maps)

    def locate(pictures: Pixels, wanted: NDArray[np.int64]) -> NDArray[np.floating]:
        return pair_maps(source, pictures, wanted)[1]

    images: ImageDataset = concepts.origin("images").load()
    with concepts.open() as measured:
        presence, geometry = measured["presence"], source.network.geometry
        by = "" if source.maps_by == "gradient" else f"; maps by {source.maps_by}"
        return encode_shared(config, locate, geometry, images, presence, run, by)


def encode_shared(
    config: SharedConceptsConfig,
    locate: Locate,
    geometry: Geometry,
    images: ImageDataset,
    presence: xr.DataArray,
    run: registry.Run,
    note: str = "",
) -> Shards:
    """Encode the images in which each concept is most present, by its maps.

    Parameters
    ----------
    config : SharedConceptsConfig
        Encodes, and selects images. Maps are made a batch at a time, too.
    locate : callable
        Returns where concepts are.
    geometry : Geometry
        In which it takes pictures.
    images : ImageDataset
        Where to read.
    presence : DataArray
        ``(image, concept)`` of all images that may be drawn; may be lazy.
    run : Run
        Takes the parts.
    note : str
        More that is said of the choice of images and maps.
    """
    if config.n_images is not None and config.n_images < presence.sizes["image"]:
        drawn = np.random.default_rng(config.seed).permutation(presence.sizes["image"])
        presence = presence.isel(image=np.sort(drawn[: config.n_images]))
    ids = presence["image"].values.astype(str)
    selection = select_images(presence, config.quantile, config.least)
    size = -(-SHARD_IMAGES // config.batch) * config.batch  # whole batches, however often resumed

    def read(part: int) -> Iterator[list[MappedImage]]:
        first, own_ids = part * size, ids[part * size :][:size]
        for names, pictures in batches(images, own_ids, config.batch, geometry):
            pairs = selection.of_images(slice(first, first + len(names)))
            index, concepts = selection.image[pairs] - first, selection.concept[pairs]
            present, maps = selection.presence[pairs], []
            for some in slices(len(index), config.batch) if len(index) else ():
                maps += list(locate(pictures[index[some]], concepts[some]))
            owns = [np.flatnonzero(index == number) for number in range(len(names))]
            yield [
                MappedImage(str(name), picture, concepts[own], present[own], [maps[i] for i in own])
                for name, picture, own in zip(names, pictures, owns, strict=True)
            ]
            first += len(names)

    starts = range(0, len(ids), size)
    pairs = [selection.of_images(slice(start, start + size)) for start in starts]
    parts = [min(size, len(ids) - start) for start in starts]
    source = MapSource(
        presence["concept"].values,
        parts,
        "images",
        read,
        f"presence above the {config.quantile:g}-quantile, at least "
        f"{counted(config.least, 'image')}{note}",
        {
            "threshold": ("concept", selection.threshold),
            "published_threshold": ("concept", selection.published),
        },
        # Of each image one of all of it, one under random weights, and one for each concept.
        [2 * n + own.stop - own.start for n, own in zip(parts, pairs, strict=True)],
    )
    return encode_parts(source, config, run)
