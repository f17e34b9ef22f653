"""Where concepts of a folder are, whatever method found them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fact.data.decoding import decode, upright_size
from fact.encode.concept_folder import ConceptFolder, Pair, read_map
from fact.encode.encoders import EncoderChoice
from fact.encode.encodings import MappedImage, encode_whole, random_weights
from fact.encode.image_encoder import ImageEncoder
from fact.encode.selection import choose_threshold
from fact.networks.devices import choose_device


@dataclass(frozen=True)
class FolderConcepts:
    """The images of a folder, with the maps of the concepts that they count for.

    Attributes
    ----------
    folder : ConceptFolder
        Images, maps and presences.
    quantile : float or None
        Only images from this quantile of a concept's presences on, at least ten; None takes all.
    by_class : bool
        Concepts are of classes, and each class has a random baseline: of its images, those whose
        random maps are selected by the same quantile.
    seed : int
        Of the random maps.
    batch : int
        Images that the encoder sees together.

    Raises
    ------
    ValueError
        If concepts are to be of classes and a name has none.
    """

    folder: ConceptFolder
    quantile: float | None
    by_class: bool
    seed: int
    batch: int

    unit = "images"

    @property
    def rule(self) -> str:
        """How images are selected, in words."""
        images = "all images"
        if self.quantile is not None:
            images = f"presence from the {self.quantile:g}-quantile on, at least 10 images"
        return f"{images}; a baseline for each class" if self.by_class else images

    @property
    def concepts(self) -> NDArray[np.int64]:
        """Numbers of the concepts, (concept,), in the order of their names."""
        return np.arange(len(self.folder.concepts))

    @property
    def sizes(self) -> list[int]:
        """All images are one part."""
        return [len(self.folder.images)]

    @cached_property
    def _number(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.folder.concepts)}

    @cached_property
    def _thresholds(self) -> dict[str, float]:
        """Presence from which on an image counts, by concept; NaN where one is left out."""
        presences: dict[str, list[float]] = {name: [] for name in self.folder.concepts}
        for pair in self.folder.pairs:
            presences[pair.concept].append(pair.presence)
        return {name: self._threshold(values) for name, values in presences.items()}

    def _threshold(self, presences: list[float]) -> float:
        return choose_threshold(presences, self.quantile or 0.0)

    @cached_property
    def _classes(self) -> list[str]:
        return sorted({class_of(name) for name in self.folder.concepts}) if self.by_class else []

    @cached_property
    def _baselines(self) -> dict[str, tuple[int, ...]]:
        """Random baselines that an image counts for, by image."""
        if not self.by_class:
            return dict.fromkeys(self.folder.images, (0,))
        selected = [self._random_images(name) for name in self._classes]
        return {
            image: tuple(number for number, own in enumerate(selected) if image in own)
            for image in self.folder.images
        }

    def _random_images(self, name: str) -> set[str]:
        """Return the images of a class whose random maps are selected."""
        presence = {
            image: float(random_weights(image, self._size(image), self.seed).sum())
            for image, pairs in self.folder.images.items()
            if any(class_of(pair.concept) == name for pair in pairs)
        }
        threshold = self._threshold(list(presence.values()))
        return {image for image, value in presence.items() if value >= threshold}

    def _size(self, image: str) -> tuple[int, int]:
        return upright_size(self.folder.root / image)

    def batches(self, part: int) -> Iterator[list[MappedImage]]:
        """Yield all images, each with the maps of the concepts that it counts for."""
        images = list(self.folder.images.items())
        for start in range(0, len(images), self.batch):
            yield [self._mapped(name, pairs) for name, pairs in images[start : start + self.batch]]

    def _mapped(self, image: str, pairs: tuple[Pair, ...]) -> MappedImage:
        own = [pair for pair in pairs if pair.presence >= self._thresholds[pair.concept]]
        return MappedImage(
            image,
            decode(self.folder.root / image),
            np.array([self._number[pair.concept] for pair in own], dtype=np.int64),
            np.array([pair.presence for pair in own], dtype=np.float64),
            [read_map(pair.map) for pair in own],
            self._baselines[image],
        )

    def summary(self, weakest: NDArray[np.float64]) -> xr.Dataset:
        """Return thresholds and names along ``concept``, and the names of classes."""
        names = self.folder.concepts
        found = xr.Dataset(
            {
                "concept_name": ("concept", list(names)),
                "threshold": ("concept", [self._thresholds[name] for name in names]),
            }
        )
        if not self.by_class:
            return found
        return found.assign(
            concept_class=("concept", [class_of(name) for name in names]),
            class_name=("class", self._classes),
        )


def class_of(concept: str) -> str:
    """Return the class of a concept, "zebra" of "zebra/3".

    Raises
    ------
    ValueError
        If the name has none.
    """
    name, slash, _ = concept.rpartition("/")
    if not slash:
        raise ValueError(f"concept {concept!r} is of no class; expected 'class/concept'")
    return name


def encode_folder(
    folder: ConceptFolder,
    choice: EncoderChoice,
    *,
    quantile: float | None = None,
    by_class: bool = False,
    seed: int = 0,
    device: str = "auto",
    batch_size: int = 16,
) -> xr.Dataset:
    """Return the encodings of a folder's concepts, of the schema ``encodings``.

    Parameters
    ----------
    folder, quantile, by_class, seed, batch_size
        As for :class:`FolderConcepts`.
    choice : EncoderChoice
        Encoder and up-sampler.
    device : str
        ``auto``, ``cpu``, ``cuda``, ….
    """
    encoder = ImageEncoder(choice, choose_device(device))
    source = FolderConcepts(folder, quantile, by_class, seed, batch_size)
    return encode_whole(source, encoder, seed)
