"""A folder of images with maps and presences, of the concepts of any method.

In the simplest layout every concept is a folder, and each image has its map beside it; a table
says how present the concept is in it::

    folder/presences.csv           concept,image,presence
    folder/wheels/car.jpg
    folder/wheels/car.npy          (y, x), any size; also .npz, .nc, .pt, or car_map.png

Where concepts share images, these lie together, and the maps apart::

    folder/presences.csv
    folder/images/car.jpg
    folder/maps/wheels/car.npy     also .npz, .nc, .pt or .png

Concepts of classes, as those of CRAFT, stand in a folder for each class: ``folder/class/concept/…``
or ``folder/maps/class/concept/…``, named ``class/concept`` in the table. What the published code of
FaCT writes is read as it is: ``folder/concept_7/id_12_act_3.5.jpg`` with ``id_12_actmap.pt``, the
presence in the image's name.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from fact.data.decoding import decode, image_suffixes, upright_size
from fact.data.images import ImageDataError
from fact.data.torch_file import read_torch
from fact.encode.encoders import EncoderChoice
from fact.encode.encodings import (
    MappedImage,
    MapSource,
    choose_threshold,
    encode_whole,
    random_weights,
)
from fact.encode.image_encoder import ImageEncoder
from fact.networks.arrays import slices
from fact.networks.network import choose_device
from registry.declare.stage import load_stage
from registry.suggest import nearest
from registry.wording import counted

SCORER = "evals.measure_consistency"

BATCH = 16
"""Images that the encoder sees together."""

TABLE = "presences.csv"
MAP_SUFFIXES = (".npy", ".npz", ".nc", ".pt")

_PUBLISHED = re.compile(r"(?P<stem>id_\d+)_act_(?P<presence>[0-9.eE+-]+)")


@dataclass(frozen=True)
class Pair:
    """An image of a concept.

    Attributes
    ----------
    concept : str
        Its name, "class/concept" where it is of a class.
    image : Path
        The image's file.
    map : Path
        The map's file.
    presence : float
        How present the concept is in the image, at least 0.
    """

    concept: str
    image: Path
    map: Path
    presence: float


@dataclass(frozen=True)
class ConceptFolder:
    """What a folder holds.

    Attributes
    ----------
    root : Path
        The folder.
    pairs : tuple of Pair
        Sorted by concept, then by file.
    """

    root: Path
    pairs: tuple[Pair, ...] = field(repr=False)

    @cached_property
    def concepts(self) -> tuple[str, ...]:
        """Names of the concepts, sorted."""
        return tuple(sorted({pair.concept for pair in self.pairs}))

    @cached_property
    def images(self) -> dict[str, tuple[Pair, ...]]:
        """Pairs by image: by content, so that a copy in another concept's folder is the same."""
        digests: dict[Path, str] = {}
        found: dict[str, list[Pair]] = {}
        for pair in self.pairs:
            if pair.image not in digests:
                digests[pair.image] = hashlib.sha256(pair.image.read_bytes()).hexdigest()
            found.setdefault(digests[pair.image], []).append(pair)
        return {
            pairs[0].image.relative_to(self.root).as_posix(): tuple(pairs)
            for pairs in found.values()
        }


def read_folder(root: Path) -> ConceptFolder:
    """Find the images, maps and presences of a folder; nothing is decoded yet.

    Raises
    ------
    ImageDataError
        With every fault at once: images without map or presence, rows without image, ….
    """
    faults: list[str] = []
    if not root.is_dir():
        raise ImageDataError(f"concepts {root}", ["there is no such folder"])
    table = _read_table(root / TABLE, faults)
    pairs = []
    apart = (root / "images").is_dir() and (root / "maps").is_dir()
    for concept, image, map_path in (_files_apart if apart else _files_together)(root, faults):
        presence = _presence(concept, image, table, faults, root)
        if presence is not None:
            pairs.append(Pair(concept, image, map_path, presence))
    faults += [
        f"{TABLE}, line {line}: no image {image!r} of concept {concept!r} with a map"
        for (concept, image), (_, line) in table.items()
        if not any(p.concept == concept and image in (p.image.name, p.image.stem) for p in pairs)
    ]
    if not pairs and not faults:
        faults.append("it holds no concepts; expected a folder for each, with images and maps")
    if faults:
        raise ImageDataError(f"concepts {root}", faults)
    return ConceptFolder(root, tuple(sorted(pairs, key=lambda p: (p.concept, p.image))))


def read_map(path: Path) -> NDArray[np.float64]:
    """Read a map, (y, x).

    Raises
    ------
    ImageDataError
        If the file cannot be read, or holds anything but one array of numbers with two
        dimensions, apart from such of length 1.
    """
    try:
        array = np.squeeze(_READERS[path.suffix.lower()](path))
        if array.ndim != 2 or array.dtype.kind not in "bfiu":
            raise ValueError(f"holds {array.dtype} of shape {array.shape}; expected (y, x) numbers")
        if not np.isfinite(array).all():
            raise ValueError("holds values that are not finite")
    except Exception as error:  # readers raise many types for broken files
        raise ImageDataError(f"map {path}", [str(error)]) from error
    return np.asarray(array.astype(np.float64))


# --- finding ----------------------------------------------------------------------------------


def _files_together(root: Path, faults: list[str]) -> Iterator[tuple[str, Path, Path]]:
    """Yield concept, image and map of every pair where maps lie beside their images."""
    for folder in _concept_folders(root, root, faults):
        for image in _by_stem(folder, False, root, faults).values():
            maps = _maps_beside(image)
            shown = image.relative_to(root)
            if not maps:
                expected = f"{image.stem}{MAP_SUFFIXES[0]}"
                faults.append(f"{shown} has no map; expected {expected} by it")
                continue
            if len(maps) > 1:
                faults.append(f"{shown} has several maps: {', '.join(m.name for m in maps)}")
            yield folder.relative_to(root).as_posix(), image, maps[0]


def _files_apart(root: Path, faults: list[str]) -> Iterator[tuple[str, Path, Path]]:
    """Yield concept, image and map of every pair where images lie together, and maps apart."""
    images = _by_stem(root / "images", False, root, faults)
    for folder in _concept_folders(root / "maps", root, faults):
        for stem, path in _by_stem(folder, True, root, faults).items():
            if stem in images:
                yield folder.relative_to(root / "maps").as_posix(), images[stem], path
            else:
                faults.append(f"{path.relative_to(root)}: no image {stem!r}{nearest(stem, images)}")


def _concept_folders(top: Path, root: Path, faults: list[str]) -> Iterator[Path]:
    """Yield the folders that may hold concepts: those below ``top``, and one deeper."""
    for folder in _folders_in(top):
        yield folder
        for inner in _folders_in(folder):
            yield inner
            faults += [
                f"{deeper.relative_to(root)} lies too deep; expected a folder for each concept, or "
                "one for each class with such folders in it"
                for deeper in _folders_in(inner)
                if any(deeper.iterdir())
            ]


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")


def _by_stem(folder: Path, maps: bool, root: Path, faults: list[str]) -> dict[str, Path]:
    """Return images, or maps, by the name that they share; two of one name are a fault."""
    suffixes = (*MAP_SUFFIXES, ".png") if maps else image_suffixes()
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or (not maps and path.stem.endswith("_map")):
            continue
        first = found.setdefault(path.stem, path)
        if first is not path:
            faults.append(f"{path.relative_to(root)} is called as {first.name} is; expected one")
    return found


def _maps_beside(image: Path) -> list[Path]:
    published = _PUBLISHED.fullmatch(image.stem)
    stems = [image.stem, *([f"{published['stem']}_actmap"] if published else [])]
    candidates = [image.with_name(stem + suffix) for stem in stems for suffix in MAP_SUFFIXES]
    candidates.append(image.with_name(f"{image.stem}_map.png"))
    return [path for path in candidates if path.is_file()]


# --- presences --------------------------------------------------------------------------------

Table = Mapping[tuple[str, str], tuple[float, int]]


def _read_table(path: Path, faults: list[str]) -> Table:
    """Return presence and line by concept and image; empty where there is no table."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or ())
        rows = list(reader)
    missing = [name for name in ("concept", "image", "presence") if name not in columns]
    if missing:
        faults.append(f"{TABLE} has columns {columns}; expected concept, image, presence")
        return {}
    table: dict[tuple[str, str], tuple[float, int]] = {}
    for line, row in enumerate(rows, start=2):
        key = row["concept"] or "", row["image"] or ""
        value = _number(row["presence"])
        if value is None:
            faults.append(f"{TABLE}, line {line}: presence {row['presence']!r}; expected 0 or more")
        elif key in table:
            faults.append(f"{TABLE}, line {line}: {key[1]!r} of {key[0]!r} occurs twice")
        else:
            table[key] = value, line
    return table


def _presence(
    concept: str, image: Path, table: Table, faults: list[str], root: Path
) -> float | None:
    for name in (image.name, image.stem):
        if (concept, name) in table:
            return table[concept, name][0]
    published = _PUBLISHED.fullmatch(image.stem)
    value = _number(published["presence"]) if published else None
    if value is None:
        faults.append(
            f"{image.relative_to(root)} has no presence of concept {concept!r}; expected a line "
            f"'{concept},{image.name},…' in {TABLE}"
        )
    return value


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


# --- reading ----------------------------------------------------------------------------------


def _read_npz(path: Path) -> NDArray[np.generic]:
    with np.load(path, allow_pickle=False) as arrays:
        if len(arrays.files) != 1:
            raise ValueError(f"holds {len(arrays.files)} arrays; expected one")
        return np.asarray(arrays[arrays.files[0]])


def _read_netcdf(path: Path) -> NDArray[np.generic]:
    with xr.open_dataset(path, engine="h5netcdf") as dataset:
        names = list(dataset.data_vars)
        if len(names) != 1:
            raise ValueError(f"holds {counted(len(names), 'variable')}; expected one")
        return dataset[names[0]].values


def _read_torch(path: Path) -> NDArray[np.generic]:
    tensor = read_torch(path)
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"holds a {type(tensor).__name__}; expected a tensor")
    return tensor.detach().float().numpy()


_READERS: Mapping[str, Callable[[Path], NDArray[Any]]] = {
    ".npy": lambda path: np.load(path, allow_pickle=False),
    ".npz": _read_npz,
    ".nc": _read_netcdf,
    ".pt": _read_torch,
    ".png": lambda path: decode(path).mean(axis=2),
}


# --- encoding and scoring ---------------------------------------------------------------------


def folder_concepts(
    folder: ConceptFolder, quantile: float | None, by_class: bool, seed: int
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
        for rows in slices(len(images), BATCH):
            yield [mapped(name) for name in images[rows]]

    def mapped(image: str) -> MappedImage:
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


def score_folder(
    folder: Path,
    choice: EncoderChoice | None = None,
    *,
    centred: bool = False,
    quantile: float | None = None,
    by_class: bool = False,
    least_images: int = 2,
    seed: int = 0,
    device: str = "auto",
) -> xr.Dataset:
    """Score the concepts of a folder; prints their table.

    The encodings of the regions that the maps show are passed, as a dataset, to the stage
    ``evals.measure_consistency``: images are read on this side, scores made on the other.

    Parameters
    ----------
    folder : Path
        As this module describes it.
    choice : EncoderChoice, optional
        Encoder and up-sampler; EfficientNet-Lite0 and bilinear interpolation by default.
    centred : bool
        Subtract the mean feature of all images first.
    quantile : float, optional
        Only images with a presence above this quantile of the concept's, at least ten; by default
        all images of the folder.
    by_class : bool
        Concepts are named "class/concept", and each class has a random baseline of its own.
    least_images : int
        Images that a concept needs to count in the mean.
    seed : int
        Of the random maps.
    device : str
        ``auto``, ``cpu``, ``cuda``, ….

    Returns
    -------
    Dataset
        Of the schema ``consistency``.

    Raises
    ------
    ImageDataError
        With everything that is wrong with the folder.
    UntrustedCodeError
        If code from outside would be run that nobody has trusted.
    """
    encoder = ImageEncoder(choice or EncoderChoice(), choose_device(device))
    source = folder_concepts(read_folder(folder), quantile, by_class, seed)
    encodings = encode_whole(source, encoder, seed)
    stage = load_stage(SCORER)
    config = stage.resolve({"centred": centred, "least_images": max(least_images, 2)})
    given: Any = SimpleNamespace(open=lambda: encodings)
    unrecorded: Any = SimpleNamespace(progress=lambda *_, **__: None)
    scores: xr.Dataset = stage(config, {"encodings": given}, unrecorded)
    return stage.output.label(scores)
