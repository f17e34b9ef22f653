"""Where concepts of a folder are, whatever method found them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr

from fact.data.decoding import decode, upright_size
from fact.encode.concept_folder import ConceptFolder, read_map
from fact.encode.encoders import EncoderChoice
from fact.encode.encodings import MappedImage, MapSource, encode_whole, random_weights
from fact.encode.image_encoder import ImageEncoder
from fact.encode.selection import choose_threshold
from fact.networks.devices import choose_device


def folder_concepts(
    folder: ConceptFolder, quantile: float | None, by_class: bool, seed: int, batch: int
) -> MapSource:
    """Return the images of a folder, with the maps of the concepts that they count for.

    Parameters
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
    numbers = {name: number for number, name in enumerate(folder.concepts)}
    presences: dict[str, list[float]] = {name: [] for name in numbers}
    for pair in folder.pairs:
        presences[pair.concept].append(pair.presence)
    thresholds = [choose_threshold(values, quantile or 0.0) for values in presences.values()]
    baselines: dict[str, tuple[int, ...]] = dict.fromkeys(folder.images, (0,))
    names = {"threshold": ("concept", thresholds), "concept_name": ("concept", list(numbers))}
    if by_class:
        own = [class_of(name) for name in numbers]
        classes = sorted(set(own))
        names |= {"concept_class": ("concept", own), "class_name": ("class", classes)}
        baselines = _baselines(folder, classes, quantile or 0.0, seed)

    def read(part: int) -> Iterator[list[MappedImage]]:
        images = list(folder.images)
        for start in range(0, len(images), batch):
            yield [_mapped(name) for name in images[start : start + batch]]

    def _mapped(image: str) -> MappedImage:
        pairs = [p for p in folder.images[image] if p.presence >= thresholds[numbers[p.concept]]]
        return MappedImage(
            image,
            decode(folder.root / image),
            np.array([numbers[pair.concept] for pair in pairs], dtype=np.int64),
            np.array([pair.presence for pair in pairs], dtype=np.float64),
            [read_map(pair.map) for pair in pairs],
            baselines[image],
        )

    rule = "all images"
    if quantile is not None:
        rule = f"presence from the {quantile:g}-quantile on, at least 10 images"
    rule = f"{rule}; a baseline for each class" if by_class else rule
    count = np.arange(len(numbers))
    return MapSource(count, [len(folder.images)], "images", read, rule, names)


def _baselines(
    folder: ConceptFolder, classes: Sequence[str], quantile: float, seed: int
) -> dict[str, tuple[int, ...]]:
    """Return the classes' baselines that an image counts for, by image."""
    found: dict[str, tuple[int, ...]] = dict.fromkeys(folder.images, ())
    for number, name in enumerate(classes):
        presence = {
            image: random_weights(image, upright_size(folder.root / image), seed).sum()
            for image, pairs in folder.images.items()
            if any(class_of(pair.concept) == name for pair in pairs)
        }
        threshold = choose_threshold(list(presence.values()), quantile)
        for image, value in presence.items():
            found[image] += (number,) * bool(value >= threshold)
    return found


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
        As for :func:`folder_concepts`; batch_size is its batch.
    choice : EncoderChoice
        Encoder and up-sampler.
    device : str
        ``auto``, ``cpu``, ``cuda``, ….
    """
    encoder = ImageEncoder(choice, choose_device(device))
    source = folder_concepts(folder, quantile, by_class, seed, batch_size)
    return encode_whole(source, encoder, seed)
