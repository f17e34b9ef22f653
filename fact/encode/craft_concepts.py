"""Where concepts are that are of one class each, as those of CRAFT.

A concept is sought in the images of its class alone; its presence in an image is the sum of its
coefficients over positions, and its map is the coefficients, enlarged. Of each class's random maps,
those with the largest sums are kept by the same quantile. Source: Parchami-Araghi et al., "FaCT",
NeurIPS 2025, arXiv 2510.25512, section 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import registry
from fact.data.images import Ids, ImageDataset, batches, images_by_class
from fact.encode.craft import coefficients, position_activations
from fact.encode.encodings import MappedImage, encode_parts, random_weights
from fact.encode.image_encoder import ImageEncoder
from fact.encode.selection import choose_threshold
from fact.encode.settings import CraftConceptsConfig
from fact.networks import network as networks
from fact.networks.devices import choose_device
from fact.networks.network import Network
from registry.store.shards import Shards


@dataclass(frozen=True)
class CraftConcepts:
    """The images of each class in which its concepts are most present, with their maps.

    Attributes
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

    network: Network
    layer: str
    images: ImageDataset
    craft: xr.Dataset
    config: CraftConceptsConfig

    unit = "classes"

    @property
    def rule(self) -> str:
        """How images are selected, in words."""
        of_class = f"presence above the {self.config.quantile:g}-quantile in the class"
        return f"{of_class}, at least {self.config.least} images"

    @property
    def concepts(self) -> NDArray[np.int64]:
        """Numbers of the concepts, (concept,)."""
        numbers: NDArray[np.int64] = self.craft["concept"].values
        return numbers

    @cached_property
    def _class_of(self) -> NDArray[np.int64]:
        return self.concepts // int(self.craft["per_class"])

    @cached_property
    def _classes(self) -> list[tuple[int, Ids]]:
        split = self.config.split
        found = [c for c in images_by_class(self.images, split) if c[0] in self._class_of]
        if not found:
            raise ValueError(f"split {split!r} has no images of a class with concepts")
        return found

    @property
    def sizes(self) -> list[int]:
        """A part is a class."""
        return [1] * len(self._classes)

    def batches(self, part: int) -> Iterator[list[MappedImage]]:
        """Yield the images of a class, each with the maps of the concepts it was selected for."""
        label, ids = self._classes[part]
        own = self._class_of == label
        maps, random = self._maps(ids, self.craft["basis"].isel(concept=own).values)
        presence = maps.sum(axis=(2, 3)).astype(np.float32)
        selected = np.stack([self._is_strong(column) for column in presence.T], axis=1)
        in_baseline, concepts, row = self._is_strong(random), self.concepts[own], 0
        for names, pictures in self._read(ids):
            yield [
                MappedImage(
                    str(name),
                    picture,
                    concepts[selected[row]],
                    presence[row, selected[row]],
                    list(maps[row, selected[row]]),
                    (label,) if in_baseline[row] else (),
                )
                for row, (name, picture) in enumerate(zip(names, pictures, strict=True), start=row)
            ]
            row += len(names)

    def _is_strong(self, presence: NDArray[np.floating]) -> NDArray[np.bool_]:
        return presence >= choose_threshold(presence, self.config.quantile, self.config.least)

    def _read(self, ids: Ids) -> Iterator[tuple[Ids, NDArray[np.uint8]]]:
        return batches(self.images, ids, self.config.batch, self.network.geometry)

    def _maps(
        self, ids: Ids, basis: NDArray[np.floating]
    ) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
        """Return coefficients (image, concept, row, column), and sums of random maps (image,)."""
        maps, random = [], []
        for names, pictures in self._read(ids):
            encoded = self.network.encode(pictures)
            activations = position_activations(self.network, self.layer, encoded)
            maps.append(np.moveaxis(coefficients(activations, basis), -1, 1))
            size, seed = (pictures.shape[1], pictures.shape[2]), self.config.seed
            random += [random_weights(str(name), size, seed).sum() for name in names]
        return np.concatenate(maps), np.array(random)

    def summary(self, weakest: NDArray[np.float64]) -> xr.Dataset:
        """Return the weakest presence that was selected, and names, along ``concept``."""
        return xr.Dataset(
            {
                "threshold": ("concept", weakest[self.concepts]),
                "concept_name": ("concept", self.craft["concept_name"].values),
                "concept_class": ("concept", self.craft["concept_class"].values),
                "class_name": ("class", np.array(self.images.classes, dtype=object)),
            }
        )


def encode_craft(
    config: CraftConceptsConfig, inputs: registry.Inputs, run: registry.Run
) -> Shards:
    """Encode each class's concepts in the images of it in which they are most present."""
    device, craft = choose_device(config.device), inputs["craft"]
    network = networks.load(craft.origin("network")).to(device)
    encoder, images = ImageEncoder(config, device), craft.origin("images").load()
    with craft.open() as fitted:
        source = CraftConcepts(network, craft.config["layer"], images, fitted, config)
        return encode_parts(source, encoder, config.seed, run)
