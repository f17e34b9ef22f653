"""The encodings of concepts that all classes share, image by image and shard by shard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fact.data.images import ImageDataset, Pixels, batches
from fact.encode.chosen_images import Choice, choose_images
from fact.encode.encodings import ImageEncoder, MappedImage, as_dataset, encode_images, join_columns
from fact.networks.network import Network
from registry.store.datasets import open_dataset
from registry.store.shards import part_name

if TYPE_CHECKING:
    from registry import Run

SHARD_IMAGES = 256


class MapSource(Protocol):
    """What tells where concepts are in images."""

    @property
    def network(self) -> Network:
        """The network whose concepts they are."""

    def maps(self, pictures: Pixels, concepts: NDArray[np.int64]) -> NDArray[np.floating]:
        """Return where one concept (image,) is in each picture: (image, y, x)."""


@dataclass(frozen=True)
class ConceptEncodings:
    """What is encoded, and how.

    Attributes
    ----------
    source : MapSource
        Where the concepts are: a :class:`fact.traces.concept_source.ConceptSource`, or a
        :class:`fact.encode.crp.ChannelSource`.
    images : ImageDataset
        Where to read.
    encoder : ImageEncoder
        What sees the images, in the network's geometry.
    quantile : float
        Of a concept's positive presences, from which on an image is chosen.
    least : int
        Images that remain of each concept, where it has as many.
    n_images : int or None
        Only so many images, drawn by ``seed``; None takes all.
    batch : int
        Images that are looked at together, and maps that are made together.
    seed : int
        Of the draw and of the random maps.
    """

    source: MapSource
    images: ImageDataset
    encoder: ImageEncoder
    quantile: float
    least: int
    n_images: int | None
    batch: int
    seed: int

    def run(self, presence: xr.DataArray, run: Run) -> Any:
        """Encode what is not encoded yet.

        Parameters
        ----------
        presence : DataArray
            ``(image, concept)``; may be lazy.
        run : Run
            Takes the parts.

        Returns
        -------
        Shards
            Of the schema ``encodings``.
        """
        presence = presence.isel(image=self._drawn(presence.sizes["image"]))
        ids = presence["image"].values.astype(str)
        choice = choose_images(presence, self.quantile, self.least)
        writer = run.shards()
        size = -(-SHARD_IMAGES // self.batch) * self.batch  # whole batches, however often resumed
        empty = 0
        for index, start in enumerate(range(0, len(ids), size)):
            rows = slice(start, min(start + size, len(ids)))
            if index not in writer.done:
                writer.append(self._part(ids, rows, choice), index)
            with open_dataset(writer.folder / part_name(index)) as part:
                empty += int(np.isnan(part["encoding"][:, 0].values).sum())
            run.progress(rows.stop, len(ids), "images")
        return writer.finish(self._summary(presence, choice, empty))

    def _drawn(self, count: int) -> NDArray[np.int64]:
        if self.n_images is None or self.n_images >= count:
            return np.arange(count)
        return np.sort(np.random.default_rng(self.seed).permutation(count)[: self.n_images])

    def _part(self, ids: NDArray[np.str_], rows: slice, choice: Choice) -> xr.Dataset:
        columns = []
        done = rows.start
        for names, pictures in batches(
            self.images, ids[rows], self.batch, self.source.network.geometry
        ):
            own = slice(done, done + len(names))
            mapped = list(self._mapped(names, pictures, own, choice))
            columns.append(encode_images(self.encoder, mapped, self.seed))
            done = own.stop
        before = 2 * rows.start + choice.of_images(rows).start
        return as_dataset(join_columns(columns), before)

    def _mapped(
        self, names: NDArray[np.str_], pictures: Pixels, rows: slice, choice: Choice
    ) -> Iterator[MappedImage]:
        """Yield the images of a batch, each with the maps of the concepts it was chosen for."""
        pairs = choice.of_images(rows)
        place = choice.image[pairs] - rows.start
        concepts, presence = choice.concept[pairs], choice.presence[pairs]
        maps = self._maps(pictures[place], concepts)
        for number, name in enumerate(names):
            own = place == number
            yield MappedImage(
                str(name), pictures[number], concepts[own], presence[own], list(maps[own])
            )

    def _maps(self, pictures: Pixels, concepts: NDArray[np.int64]) -> NDArray[np.floating]:
        """Return the map (pair, y, x) of one concept in each picture."""
        parts = [np.zeros((0, *pictures.shape[1:3]), np.float32)]
        for start in range(0, len(concepts), self.batch):  # the weights of a few pairs at a time
            own = slice(start, start + self.batch)
            parts.append(self.source.maps(pictures[own], concepts[own]))
        return np.concatenate(parts)

    def _summary(self, presence: xr.DataArray, choice: Choice, empty: int) -> xr.Dataset:
        revisions = self.encoder.choice.revisions
        told = (
            f"{self.encoder.choice}; presence above the {self.quantile:g}-quantile, "
            f"at least {self.least} images"
        )
        return xr.Dataset(
            {
                "threshold": ("concept", choice.threshold),
                "n_images": presence.sizes["image"],
                "n_encodings": len(choice.image),
                "n_empty": empty,
                "variant": told,
            },
            {"concept": presence["concept"].values},
            attrs={"revisions": revisions} if revisions else {},
        )
