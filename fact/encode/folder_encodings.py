"""The encodings of the concepts of a folder, whatever method found them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from fact.data.decoding import decode, upright_size
from fact.encode.chosen_images import choose_threshold
from fact.encode.concept_folder import ConceptFolder, Pair, read_map
from fact.encode.encoders import EncoderChoice
from fact.encode.encodings import (
    CONCEPT,
    ImageEncoder,
    MappedImage,
    as_dataset,
    encode_images,
    join_columns,
    random_weights,
)
from fact.networks.devices import choose_device


@dataclass(frozen=True)
class FolderChoice:
    """Which images count for a concept, and for which baselines.

    Attributes
    ----------
    thresholds : mapping of str to float
        By concept, the presence from which on an image counts; NaN where the concept is left out.
    classes : tuple of str
        Names of the classes; none where all images share one baseline.
    baselines : mapping of str to tuple of int
        By image, the random baselines that it counts for.
    """

    thresholds: Mapping[str, float]
    classes: tuple[str, ...]
    baselines: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, folder: ConceptFolder, quantile: float, by_class: bool, seed: int) -> FolderChoice:
        """Choose by the quantile of the presences of each concept, at least ten images.

        By class, random maps are chosen through the same quantile, of the presences that random
        maps have in the images of the class.

        Raises
        ------
        ValueError
            If concepts are to be of classes and a name has none.
        """
        presences: dict[str, list[float]] = {}
        for pair in folder.pairs:
            presences.setdefault(pair.concept, []).append(pair.presence)
        thresholds = {
            name: choose_threshold(values, quantile) for name, values in presences.items()
        }
        if not by_class:
            return cls(thresholds, (), dict.fromkeys(folder.images, (0,)))
        classes = tuple(sorted({class_of(name) for name in folder.concepts}))
        baselines: dict[str, list[int]] = {name: [] for name in folder.images}
        for number, name in enumerate(classes):
            for image in _random_images(folder, name, quantile, seed):
                baselines[image].append(number)
        return cls(thresholds, classes, {name: tuple(own) for name, own in baselines.items()})

    def counts(self, pair: Pair) -> bool:
        """Whether an image counts for its concept."""
        return pair.presence >= self.thresholds[pair.concept]


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


def _random_images(folder: ConceptFolder, name: str, quantile: float, seed: int) -> list[str]:
    """Return the images of a class whose random maps are chosen."""
    members = [
        image
        for image, pairs in folder.images.items()
        if any(class_of(pair.concept) == name for pair in pairs)
    ]
    presence = [
        float(random_weights(image, upright_size(folder.root / image), seed).sum())
        for image in members
    ]
    threshold = choose_threshold(presence, quantile)
    return [image for image, p in zip(members, presence, strict=True) if p >= threshold]


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
    folder : ConceptFolder
        Images, maps and presences.
    choice : EncoderChoice
        Encoder and up-sampler.
    quantile : float, optional
        Only images from this quantile of a concept's presences on, at least ten; all by default.
    by_class : bool
        Concepts are of classes, and each class has a random baseline of its own.
    seed : int
        Of the random maps.
    device : str
        ``auto``, ``cpu``, ``cuda``, ….
    batch_size : int
        Images at a time.
    """
    encoder = ImageEncoder(choice, choose_device(device))
    chosen = FolderChoice.of(folder, quantile or 0.0, by_class, seed)
    names = list(folder.images)
    columns = []
    for start in range(0, len(names), batch_size):
        batch = list(_mapped_images(folder, chosen, names[start : start + batch_size]))
        columns.append(encode_images(encoder, batch, seed))
    encodings = as_dataset(join_columns(columns))
    if by_class:
        own = [class_of(name) for name in folder.concepts]
        encodings = encodings.assign(
            concept_class=("concept", own), class_name=("class", list(chosen.classes))
        )
    return encodings.assign(
        concept_name=("concept", list(folder.concepts)),
        threshold=("concept", [chosen.thresholds[name] for name in folder.concepts]),
        n_images=len(names),
        n_encodings=int((encodings["map"].values == CONCEPT).sum()),
        n_empty=int(np.isnan(encodings["encoding"].values[:, 0]).sum()),
        variant=f"{choice}; {_told(quantile, by_class)}",
    ).assign_coords(concept=np.arange(len(folder.concepts)))


def _mapped_images(
    folder: ConceptFolder, chosen: FolderChoice, names: list[str]
) -> Iterator[MappedImage]:
    number = {name: index for index, name in enumerate(folder.concepts)}
    for name in names:
        pairs = [pair for pair in folder.images[name] if chosen.counts(pair)]
        yield MappedImage(
            name,
            decode(folder.root / name),
            np.array([number[pair.concept] for pair in pairs], dtype=np.int64),
            np.array([pair.presence for pair in pairs], dtype=np.float64),
            [read_map(pair.map) for pair in pairs],
            chosen.baselines[name],
        )


def _told(quantile: float | None, by_class: bool) -> str:
    images = "all images"
    if quantile is not None:
        images = f"presence from the {quantile:g}-quantile on, at least 10 images"
    return f"{images}; a baseline for each class" if by_class else images
