"""Where concepts are that are of one class each, as those of CRAFT.

A concept is sought in the images of its class alone; its presence in an image is the sum of its
coefficients over positions, and its map is the coefficients, enlarged. Of each class's random maps,
those with the largest sums are kept by the same quantile. Source: Parchami-Araghi et al., "FaCT",
NeurIPS 2025, arXiv 2510.25512, section 5.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import registry
from fact.data.images import Ids, ImageDataset, Pixels, batches, images_by_class
from fact.encode.config import CraftConceptsConfig
from fact.encode.craft import coefficients, position_activations
from fact.encode.encodings import MappedImage, MapSource, encode_parts, random_weights
from fact.encode.image_encoder import ImageEncoder
from fact.encode.selection import choose_threshold
from fact.networks.devices import choose_device
from fact.networks.files import open_network
from fact.networks.network import Network
from registry.store.shards import Shards


def craft_concepts(
    network: Network,
    layer: str,
    images: ImageDataset,
    craft: xr.Dataset,
    config: CraftConceptsConfig,
) -> MapSource:
    """Return the images of each class in which its concepts are most present, with their maps.

    Parameters
    ----------
    network : Network
        On its device.
    layer : str
        Whose activations were factorised.
    images : ImageDataset
        Where to read.
    craft : Dataset
        Of the schema ``craft``; may be lazy.
    config : CraftConceptsConfig
        Selects images.

    Raises
    ------
    ValueError
        If no class with concepts has images in the split.
    """
    concepts: NDArray[np.int64] = craft["concept"].values
    class_of = concepts // int(craft["per_class"])
    classes = [c for c in images_by_class(images, config.split) if c[0] in class_of]
    if not classes:
        raise ValueError(f"split {config.split!r} has no images of a class with concepts")

    def read(part: int) -> Iterator[list[MappedImage]]:
        label, ids = classes[part]
        own = class_of == label
        maps, random = _maps(craft["basis"].isel(concept=own).values, ids)
        presence = maps.sum(axis=(2, 3)).astype(np.float32)
        selected = np.stack([_is_strong(column, config) for column in presence.T], axis=1)
        in_baseline, row = _is_strong(random, config), 0
        for names, pictures in _read(ids):
            yield [
                MappedImage(
                    str(name),
                    picture,
                    concepts[own][selected[row]],
                    presence[row, selected[row]],
                    list(maps[row, selected[row]]),
                    (label,) if in_baseline[row] else (),
                )
                for row, (name, picture) in enumerate(zip(names, pictures, strict=True), row)
            ]
            row += len(names)

    def _read(ids: Ids) -> Iterator[tuple[Ids, Pixels]]:
        return batches(images, ids, config.batch, network.geometry)

    def _maps(
        basis: NDArray[np.floating], ids: Ids
    ) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
        """Return coefficients (image, concept, row, column), and sums of random maps (image,)."""
        maps, random = [], []
        for names, pictures in _read(ids):
            activations = position_activations(network, layer, network.encode(pictures))
            maps.append(np.moveaxis(coefficients(activations, basis), -1, 1))
            size = pictures.shape[1], pictures.shape[2]
            random += [random_weights(str(name), size, config.seed).sum() for name in names]
        return np.concatenate(maps), np.array(random)

    of_class = f"presence above the {config.quantile:g}-quantile in the class"
    names = {name: ("concept", craft[name].values) for name in ("concept_name", "concept_class")}
    return MapSource(
        concepts,
        [1] * len(classes),
        "classes",
        read,
        f"{of_class}, at least {config.least} images",
        {**names, "class_name": ("class", np.array(images.classes, dtype=object))},
    )


def _is_strong(presence: NDArray[np.floating], config: CraftConceptsConfig) -> NDArray[np.bool_]:
    return presence >= choose_threshold(presence, config.quantile, config.least)


def encode_craft(config: CraftConceptsConfig, inputs: registry.Inputs, run: registry.Run) -> Shards:
    """Encode each class's concepts in the images of it in which they are most present."""
    device, craft = choose_device(config.device), inputs["craft"]
    network = open_network(craft.origin("network"), config.device)
    encoder, images = ImageEncoder(config, device), craft.origin("images").load()
    with craft.open() as fitted:
        source = craft_concepts(network, craft.config["layer"], images, fitted, config)
        return encode_parts(source, encoder, config.seed, run)
