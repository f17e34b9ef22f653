"""Where concepts are that all classes share, as those of an SAE or the channels of a layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import registry
from fact.data.images import ImageDataset, Pixels, batches
from fact.encode.encodings import MappedImage, encode_parts
from fact.encode.image_encoder import ImageEncoder
from fact.encode.selection import Selection, select_images
from fact.encode.settings import SharedConceptsConfig
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


@dataclass(frozen=True)
class SharedConcepts:
    """The images in which each concept is most present, with its maps.

    Attributes
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

    mapper: Mapper
    images: ImageDataset
    presence: xr.DataArray
    config: SharedConceptsConfig

    unit = "images"

    @property
    def rule(self) -> str:
        """How images are selected, in words."""
        least = self.config.least
        return f"presence above the {self.config.quantile:g}-quantile, at least {least} images"

    @property
    def concepts(self) -> NDArray[np.int64]:
        """Numbers of the concepts, (concept,)."""
        numbers: NDArray[np.int64] = self.presence["concept"].values
        return numbers

    @cached_property
    def _drawn(self) -> xr.DataArray:
        count, most = self.presence.sizes["image"], self.config.n_images
        if most is None or most >= count:
            return self.presence
        rows = np.random.default_rng(self.config.seed).permutation(count)[:most]
        return self.presence.isel(image=np.sort(rows))

    @cached_property
    def _ids(self) -> NDArray[np.str_]:
        return self._drawn["image"].values.astype(str)

    @cached_property
    def _selection(self) -> Selection:
        return select_images(self._drawn, self.config.quantile, self.config.least)

    @property
    def _size(self) -> int:
        """Images of a part: whole batches, so that every batch is the same after a stop."""
        return -(-SHARD_IMAGES // self.config.batch) * self.config.batch

    @property
    def sizes(self) -> list[int]:
        """Images of each part."""
        count = len(self._ids)
        return [min(self._size, count - start) for start in range(0, count, self._size)]

    def batches(self, part: int) -> Iterator[list[MappedImage]]:
        """Yield the images of a part, each with the maps of the concepts it was selected for."""
        done = part * self._size
        chosen = self._ids[done : done + self._size]
        for names, pictures in batches(
            self.images, chosen, self.config.batch, self.mapper.network.geometry
        ):
            yield self._mapped(names, pictures, done)
            done += len(names)

    def _mapped(self, names: NDArray[np.str_], pictures: Pixels, first: int) -> list[MappedImage]:
        selection = self._selection
        pairs = selection.of_images(slice(first, first + len(names)))
        index = selection.image[pairs] - first
        concepts, presence = selection.concept[pairs], selection.presence[pairs]
        maps = self._maps(pictures[index], concepts)
        return [
            MappedImage(str(name), picture, concepts[own], presence[own], list(maps[own]))
            for number, (name, picture) in enumerate(zip(names, pictures, strict=True))
            for own in [index == number]
        ]

    def _maps(self, pictures: Pixels, concepts: NDArray[np.int64]) -> NDArray[np.floating]:
        """Return the map (pair, y, x) of one concept in each picture."""
        parts = [np.zeros((0, *pictures.shape[1:3]), np.float32)]
        for start in range(0, len(concepts), self.config.batch):  # their weights need memory
            own = slice(start, start + self.config.batch)
            parts.append(self.mapper.maps(pictures[own], concepts[own]))
        return np.concatenate(parts)

    def summary(self, weakest: NDArray[np.float64]) -> xr.Dataset:
        """Return the thresholds along ``concept``, NaN where a concept is left out."""
        return xr.Dataset({"threshold": ("concept", self._selection.threshold)})


def encode_concepts(
    config: SharedConceptsConfig, inputs: registry.Inputs, run: registry.Run
) -> Shards:
    """Encode each concept in the images in which it is most present, by its maps."""
    concepts = inputs["concepts"]
    encoder = ImageEncoder(config, choose_device(config.device))
    mapper, images = ConceptSource.of_concepts(concepts, config.device), concepts.origin("images")
    with concepts.open() as measured:
        source = SharedConcepts(mapper, images.load(), measured["presence"], config)
        return encode_parts(source, encoder, config.seed, run)
