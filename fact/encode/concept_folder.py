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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fact.data.decoding import decode, image_suffixes
from fact.data.images import ImageDataError
from registry.suggest import nearest

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
        return {self.name_of(pairs[0].image): tuple(pairs) for pairs in found.values()}

    def name_of(self, path: Path) -> str:
        """Return a file's path relative to the folder."""
        return path.relative_to(self.root).as_posix()


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
    for concept, image, map_path in _files(root, faults):
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
    found: NDArray[np.float64] = array.astype(np.float64)
    return found


# --- finding ----------------------------------------------------------------------------------


def _files(root: Path, faults: list[str]) -> Iterator[tuple[str, Path, Path]]:
    """Yield concept, image and map of every pair."""
    if (root / "images").is_dir() and (root / "maps").is_dir():
        yield from _files_apart(root, faults)
        return
    for folder in _concept_folders(root, root, faults):
        for image in _by_stem(_images_in(folder), root, faults).values():
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
    images = _by_stem(_images_in(root / "images"), root, faults)
    for folder in _concept_folders(root / "maps", root, faults):
        for stem, path in _by_stem(_maps_in(folder), root, faults).items():
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


def _images_in(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in image_suffixes() and not path.stem.endswith("_map")
    ]


def _maps_in(folder: Path) -> list[Path]:
    return [
        path for path in sorted(folder.iterdir()) if path.suffix.lower() in (*MAP_SUFFIXES, ".png")
    ]


def _by_stem(paths: list[Path], root: Path, faults: list[str]) -> dict[str, Path]:
    """Return files by the name that an image and its map share; two of one name are a fault."""
    found: dict[str, Path] = {}
    for path in paths:
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
        found: NDArray[np.generic] = arrays[arrays.files[0]]
        return found


def _read_netcdf(path: Path) -> NDArray[np.generic]:
    import xarray as xr

    with xr.open_dataset(path, engine="h5netcdf") as dataset:
        names = list(dataset.data_vars)
        if len(names) != 1:
            raise ValueError(f"holds {len(names)} variables; expected one")
        return dataset[names[0]].values


def _read_torch(path: Path) -> NDArray[np.generic]:
    import torch

    tensor: torch.Tensor = torch.load(path, map_location="cpu", weights_only=True)  # never code
    return tensor.detach().float().numpy()


_READERS: Mapping[str, Callable[[Path], NDArray[Any]]] = {
    ".npy": lambda path: np.load(path, allow_pickle=False),
    ".npz": _read_npz,
    ".nc": _read_netcdf,
    ".pt": _read_torch,
    ".png": lambda path: decode(path).mean(axis=2),
}
