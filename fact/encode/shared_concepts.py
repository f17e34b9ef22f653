"""Where concepts are that all classes share, as those of an SAE or the channels of a layer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import xarray as xr

import registry
from fact.data.images import ImageDataset, batches
from fact.encode.config import MappedConceptsConfig, SharedConceptsConfig
from fact.encode.encodings import MappedImage, MapSource, encode_parts, select_images
from fact.networks.network import Network
from fact.traces.attribution import explain_concepts
from fact.traces.pairs import Explain, Pairs, maps_by_image
from fact.traces.spliced import ConceptSource
from registry.store.shards import Shards
from registry.wording import counted

SHARD_IMAGES = 256


def encode_concepts(
    config: MappedConceptsConfig, inputs: registry.Inputs, run: registry.Run
) -> Shards:
    """Encode each concept in the images in which it is most present, by its maps."""
    concepts = inputs["concepts"]
    source = ConceptSource.of_concepts(concepts, config.device, config.maps)
    images: ImageDataset = concepts.origin("images").load()
    with concepts.open() as measured:
        by = "" if source.maps_by == "gradient" else f"; maps by {source.maps_by}"
        found = source.network, explain_concepts(source), images, measured["presence"]
        return encode_shared(config, *found, run, by)


def encode_shared(
    config: SharedConceptsConfig,
    network: Network,
    explain: Explain,
    images: ImageDataset,
    presence: xr.DataArray,
    run: registry.Run,
    note: str = "",
) -> Shards:
    """Encode the images in which each concept is most present, by its maps.

    Parameters
    ----------
    config : SharedConceptsConfig
        Encodes, and selects images.
    network : Network
        That concepts are of.
    explain : callable
        Finds them in images, with one pass of the network for each.
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
        for names, pictures in batches(images, own_ids, config.batch, network.geometry):
            pairs = selection.of_images(slice(first, first + len(names)))
            index, concepts = selection.image[pairs] - first, selection.concept[pairs]
            present = selection.presence[pairs]
            maps = maps_by_image(network, explain, Pairs(pictures, index, concepts))
            owns = [np.flatnonzero(index == number) for number in range(len(names))]
            yield [
                MappedImage(str(name), picture, concepts[own], present[own], partial(next, maps))
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
