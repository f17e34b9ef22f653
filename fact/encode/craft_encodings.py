"""The encodings of concepts that are of one class each, class by class.

Source: Parchami-Araghi et al., "FaCT", NeurIPS 2025, arXiv 2510.25512, section 5, which compares
with CRAFT in this way. A concept is looked for in the images of its class alone; its presence in an
image is the sum of its coefficients over positions, and its map is the coefficients, enlarged. Of
each class's random maps, those with the largest sums are kept by the same quantile.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fact.data.class_images import images_by_class
from fact.data.images import Ids, ImageDataset, Pixels, batches
from fact.encode.chosen_images import choose_threshold
from fact.encode.craft import coefficients, position_activations
from fact.encode.encodings import (
    CONCEPT,
    WHOLE,
    ImageEncoder,
    MappedImage,
    as_dataset,
    encode_images,
    join_columns,
    random_weights,
)
from fact.networks.network import Network
from registry.store.datasets import open_dataset
from registry.store.shards import part_name

if TYPE_CHECKING:
    from registry import Run


@dataclass(frozen=True)
class ClassMaps:
    """Where the concepts of a class are in its images, and which images are chosen.

    Attributes
    ----------
    label : int
        Of the class.
    concepts : ndarray of int64, (concept,)
        Indices.
    maps : ndarray, (image, concept, row, column)
        Coefficients, at least 0.
    random : ndarray, (image,)
        Sums of the random maps.
    quantile : float
        Of presences and of these sums, from which on an image is chosen.
    least : int
        Images that remain, where there are as many.
    """

    label: int
    concepts: NDArray[np.int64]
    maps: NDArray[np.floating]
    random: NDArray[np.float64]
    quantile: float
    least: int

    @cached_property
    def presence(self) -> NDArray[np.float32]:
        """Sums over positions, (image, concept)."""
        return self.maps.sum(axis=(2, 3)).astype(np.float32)

    @cached_property
    def chosen(self) -> NDArray[np.bool_]:
        """Whether an image is among those of a concept, (image, concept)."""
        return np.stack([self._is_strong(column) for column in self.presence.T], axis=1)

    @cached_property
    def in_baseline(self) -> NDArray[np.bool_]:
        """Whether an image's random map counts, (image,)."""
        return self._is_strong(self.random)

    def _is_strong(self, presence: NDArray[np.floating]) -> NDArray[np.bool_]:
        return presence >= choose_threshold(presence, self.quantile, self.least)

    def image(self, row: int, name: str, picture: Pixels) -> MappedImage:
        """Return an image with the maps of the concepts that it was chosen for."""
        own = self.chosen[row]
        return MappedImage(
            name,
            picture,
            self.concepts[own],
            self.presence[row, own],
            list(self.maps[row, own]),
            (self.label,) if self.in_baseline[row] else (),
        )


@dataclass(frozen=True)
class CraftEncodings:
    """What is encoded, and how.

    Attributes
    ----------
    network : Network
        On its device.
    layer : str
        Whose activations were factorised.
    images : ImageDataset
        Where to read.
    split : str
        What to read.
    encoder : ImageEncoder
        What sees the images, in the network's geometry.
    quantile : float
        Of presences, from which on an image is chosen.
    least : int
        Images that remain of each concept, where it has as many.
    batch : int
        Images that are looked at together.
    seed : int
        Of the random maps.
    """

    network: Network
    layer: str
    images: ImageDataset
    split: str
    encoder: ImageEncoder
    quantile: float
    least: int
    batch: int
    seed: int

    def run(self, craft: xr.Dataset, run: Run) -> Any:
        """Encode the classes that are not encoded yet.

        Parameters
        ----------
        craft : Dataset
            Of the schema ``craft``; may be lazy.
        run : Run
            Takes the parts.

        Returns
        -------
        Shards
            Of the schema ``encodings``, a part for each class.

        Raises
        ------
        ValueError
            If no class with concepts has images in the split.
        """
        concepts = craft["concept"].values
        of_class = concepts // int(craft["per_class"])
        classes = [c for c in images_by_class(self.images, self.split) if c[0] in of_class]
        if not classes:
            raise ValueError(f"split {self.split!r} has no images of a class with concepts")
        writer, tally = run.shards(), _Tally(concepts)
        for index, (label, ids) in enumerate(classes):
            if index not in writer.done:
                own = craft["basis"].isel(concept=of_class == label).load()
                writer.append(self._part(label, ids, own, tally.samples), index)
            with open_dataset(writer.folder / part_name(index)) as part:
                tally.add(part)
            run.progress(index + 1, len(classes), "classes")
        return writer.finish(self._summary(craft, tally))

    def _part(self, label: int, ids: Ids, basis: xr.DataArray, first: int) -> xr.Dataset:
        found, columns, row = self._class_maps(label, ids, basis), [], 0
        for names, pictures in batches(self.images, ids, self.batch, self.network.geometry):
            mapped = [
                found.image(row + place, str(name), picture)
                for place, (name, picture) in enumerate(zip(names, pictures, strict=True))
            ]
            columns.append(encode_images(self.encoder, mapped, self.seed))
            row += len(names)
        return as_dataset(join_columns(columns), first)

    def _class_maps(self, label: int, ids: Ids, basis: xr.DataArray) -> ClassMaps:
        maps, random = [], []
        for names, pictures in batches(self.images, ids, self.batch, self.network.geometry):
            encoded = self.network.encode(pictures)
            activations = position_activations(self.network, self.layer, encoded)
            maps.append(np.moveaxis(coefficients(activations, basis.values), -1, 1))
            size = pictures.shape[1], pictures.shape[2]
            random += [random_weights(str(name), size, self.seed).sum() for name in names]
        return ClassMaps(
            label,
            basis["concept"].values,
            np.concatenate(maps),
            np.array(random),
            self.quantile,
            self.least,
        )

    def _summary(self, craft: xr.Dataset, tally: _Tally) -> xr.Dataset:
        choice = self.encoder.choice
        told = (
            f"{choice}; presence above the {self.quantile:g}-quantile in the class, "
            f"at least {self.least} images"
        )
        return xr.Dataset(
            {
                "threshold": ("concept", tally.threshold),
                "concept_name": ("concept", craft["concept_name"].values),
                "concept_class": ("concept", craft["concept_class"].values),
                "class_name": ("class", np.array(self.images.classes, dtype=object)),
                "n_images": tally.images,
                "n_encodings": tally.encodings,
                "n_empty": tally.empty,
                "variant": told,
            },
            {"concept": tally.concepts},
            attrs={"revisions": choice.revisions} if choice.revisions else {},
        )


class _Tally:
    """What is said of all parts together."""

    def __init__(self, concepts: NDArray[np.integer]):
        self.concepts = concepts
        self._weakest = np.full(len(concepts), np.inf)
        self.samples = self.images = self.encodings = self.empty = 0

    def add(self, part: xr.Dataset) -> None:
        """Count a part."""
        kind = part["map"].values
        own = part.isel(sample=kind == CONCEPT)
        place = np.searchsorted(self.concepts, own["group"].values)
        np.minimum.at(self._weakest, place, own["presence"].values.astype(np.float64))
        self.samples += len(kind)
        self.images += int((kind == WHOLE).sum())
        self.encodings += len(place)
        self.empty += int(np.isnan(part["encoding"][:, 0].values).sum())

    @property
    def threshold(self) -> NDArray[np.float64]:
        """The weakest presence that was chosen (concept,); NaN where none was."""
        return np.where(np.isinf(self._weakest), np.nan, self._weakest)
