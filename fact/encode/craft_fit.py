"""The factorisation of the activations of each class, class by class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from fact.data.class_images import images_by_class
from fact.data.images import Ids, ImageDataset, batches
from fact.encode.craft import crop_activations, factorise
from fact.networks.network import Network

if TYPE_CHECKING:
    from registry import Run


@dataclass(frozen=True)
class CraftFit:
    """What is factorised, and how.

    Attributes
    ----------
    network : Network
        On its device.
    images : ImageDataset
        Where to read.
    layer : str
        Whose activations.
    n_concepts : int
        Of each class.
    split : str
        What to read.
    images_per_class : int or None
        At most so many, drawn by ``seed``.
    crop : int
        Side of a crop, in pixels.
    iterations : int
        Of a factorisation, at most.
    seed : int
        Of draws and factorisations.
    batch : int
        Crops at a time.
    """

    network: Network
    images: ImageDataset
    layer: str
    n_concepts: int
    split: str
    images_per_class: int | None
    crop: int
    iterations: int
    seed: int
    batch: int

    def run(self, run: Run) -> Any:
        """Factorise the classes that are not factorised yet.

        Returns
        -------
        Shards
            Of the schema ``craft``, a part for each class.

        Raises
        ------
        ValueError
            If the split has no images, or crops are larger than images.
        LayerError
            If the layer puts out numbers below 0.
        """
        classes = list(images_by_class(self.images, self.split, self.images_per_class, self.seed))
        if not classes:
            raise ValueError(f"split {self.split!r} has no images")
        writer = run.shards()
        for index, (label, ids) in enumerate(classes):
            if index not in writer.done:
                writer.append(self._part(label, ids), index)
            run.progress(index + 1, len(classes), "classes")
        told = f"{self.layer}, crops of {self.crop} pixels"
        scalars = {"n_classes": len(classes), "per_class": self.n_concepts, "variant": told}
        return writer.finish(xr.Dataset(scalars))

    def _part(self, label: int, ids: Ids) -> xr.Dataset:
        activations = np.concatenate(
            [
                crop_activations(
                    self.network, self.layer, self.network.encode(pixels), self.crop, self.batch
                )
                for _, pixels in batches(self.images, ids, self.batch, self.network.geometry)
            ]
        )
        factors = factorise(activations, self.n_concepts, self.seed, self.iterations)
        count, name = self.n_concepts, self.images.classes[label]
        return xr.Dataset(
            {
                "basis": (("concept", "channel"), factors.basis),
                "concept_name": (
                    "concept",
                    np.array([f"{name}/{k}" for k in range(count)], dtype=object),
                ),
                "concept_class": ("concept", np.array([name] * count, dtype=object)),
                "error": ("concept", np.full(count, factors.error)),
                "iterations": ("concept", np.full(count, factors.iterations)),
                "crops": ("concept", np.full(count, len(activations))),
            },
            {"concept": label * count + np.arange(count)},
        )
