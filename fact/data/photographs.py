"""Real photographs that come with packages, each cut into many crops.

What each shows was looked up, not predicted: ImageNet's own labels for the photographs in
``foolbox``, corrected by eye where they are wrong, and the documented subjects of those in
``scikit-image`` and ``scikit-learn``. The table with reasons is ``vocabularies/photographs.csv``.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files
from importlib.util import find_spec
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

import registry
from fact.data.decoding import decode
from fact.data.images import (
    FixedSplits,
    Geometry,
    Ids,
    ImageDataError,
    ImageIds,
    Pixels,
    generator_for,
    in_geometry,
    label_table,
)
from fact.data.vocabulary import read_groups, read_names
from registry.declare.requirements import Extra, Package, Requirement

if TYPE_CHECKING:
    import xarray as xr

VERSION = 1
"""Raised when the same settings give other images."""

SIDE = 256
_TABLE = files("fact.data") / "vocabularies" / "photographs.csv"
_DISTRIBUTIONS = {"skimage": "scikit-image", "sklearn": "scikit-learn", "foolbox": "foolbox"}


@dataclass(frozen=True)
class Photograph:
    """One row of the table.

    Attributes
    ----------
    name : str
        Part of the ids of its crops.
    package, file : str
        Where it lies.
    subject : str
        What it shows: a class of ImageNet by the list's name, or something else.
    superclass : str
        A superclass of ImageNet to which the subject belongs, where it is no class of it; "" where
        there is none.
    reason : str
        How that is known.
    """

    name: str
    package: str
    file: str
    subject: str
    superclass: str
    reason: str

    @property
    def path(self) -> Path:
        """Where the photograph lies; the package itself is not imported.

        Raises
        ------
        FileNotFoundError
            If the package is not installed, or does not bring it; says how to install it.
        """
        spec = find_spec(self.package)
        found = Path(spec.origin).parent / self.file if spec and spec.origin else None
        if found is None or not found.is_file():
            raise FileNotFoundError(
                f"no photograph {self.name!r}: pip install {_DISTRIBUTIONS[self.package]}"
            )
        return found


def read_table() -> tuple[Photograph, ...]:
    """Return every photograph that is known, whether or not its package is installed."""
    _, *rows = csv.reader(_TABLE.read_text(encoding="utf-8").splitlines(), strict=True)
    return tuple(Photograph(*row) for row in rows)


@registry.kind("datasets", "photographs", provides="images")
@dataclass(frozen=True)
class Photographs(FixedSplits):
    """Crops of some thirty real photographs that come with packages; all of the split "test".

    They need ``pip install 'factbook[photos]'``: their files are read, and nothing is fetched.
    Crops are square, with ids such as "test/chelsea/03".

    Parameters
    ----------
    crops : int
        Crops of each photograph.
    smallest : float
        Smallest side of a crop, as a fraction of the photograph's shorter side; it is drawn
        uniformly from there on, then the position of the crop.
    seed : int
        Draws the crops; those of a photograph depend on nothing but it, its name and their number.

    Attributes
    ----------
    photographs : tuple of Photograph
        The table.
    classes : tuple of str
        What the photographs show, in the order of the table; some are classes of ImageNet.
    groups : dict of str to tuple of str
        Superclasses that show in several photographs, with all their classes of ImageNet.
    """

    crops: Annotated[int, Field(ge=1)] = 30
    smallest: Annotated[float, Field(gt=0, le=1)] = 0.6
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    name = "photographs"
    splits = ("test",)

    def identity(self) -> str:
        """Return a content hash of the table and of all photographs.

        Raises
        ------
        FileNotFoundError
            If a package is not installed.
        """
        digest = hashlib.sha256(f"{VERSION}\n{_TABLE.read_text(encoding='utf-8')}".encode())
        for photograph in self.photographs:
            digest.update(registry.content_identity(photograph.path).encode())
        return digest.hexdigest()

    def requires(self) -> Iterator[Requirement]:
        """Yield the packages that bring the photographs."""
        names = sorted({photograph.package for photograph in self.photographs})
        yield Extra("photos", tuple(Package(name, _DISTRIBUTIONS[name]) for name in names))

    def load(self) -> Photographs:
        """Find the photographs.

        Raises
        ------
        ImageDataError
            With everything that is not installed.
        """
        loaded, faults = replace(self), []
        for photograph in loaded.photographs:
            try:
                _ = photograph.path
            except FileNotFoundError as error:
                faults.append(str(error))
        if faults:
            raise ImageDataError("photographs", faults)
        return loaded

    @cached_property
    def photographs(self) -> tuple[Photograph, ...]:
        """The table of photographs."""
        return read_table()

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """What the photographs show."""
        return tuple(dict.fromkeys(photo.subject for photo in self.photographs))

    @cached_property
    def _index(self) -> ImageIds:
        names = [photo.name for photo in self.photographs]
        ids = [f"test/{name}/{number:02d}" for name in names for number in range(self.crops)]
        return ImageIds(self.name, {"test": ids})

    @cached_property
    def _superclasses(self) -> dict[str, NDArray[np.bool_]]:
        """Superclasses of ImageNet that tell some of the photographs from the others.

        A superclass is kept where it shows in photographs of at least two subjects and not in all;
        of those that show in the same ones, the smallest. In the order of ImageNet's list.
        """
        every = read_groups("imagenet", read_names("imagenet"))
        smallest: dict[bytes, str] = {}
        columns = {}
        for group, members in every.items():
            shown = [
                set(every.get(photo.superclass, (photo.subject,))) <= set(members)
                for photo in self.photographs
            ]
            subjects = {photo.subject for photo in compress(self.photographs, shown)}
            if len(subjects) >= 2 and not all(shown):
                columns[group] = column = np.array(shown)
                known = smallest.setdefault(column.tobytes(), group)
                if len(members) < len(every[known]):
                    smallest[column.tobytes()] = group
        kept = set(smallest.values())
        return {group: column for group, column in columns.items() if group in kept}

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Superclasses that show in several photographs."""
        every = read_groups("imagenet", read_names("imagenet"))
        return {group: every[group] for group in self._superclasses}

    def ids(self, split: str) -> Ids:
        """Return the ids of the crops, photograph by photograph."""
        return self._index.ids(split)

    def labels(self, split: str) -> NDArray[np.int64]:
        """Return what each crop's photograph shows, (image,)."""
        subjects = [self.classes.index(photo.subject) for photo in self.photographs]
        return np.repeat(np.array(subjects, dtype=np.int64), self.crops)[self._index.slice(split)]

    def read(self, ids: Sequence[str] | Ids, geometry: Geometry | None = None) -> Pixels:
        """Return crops by id, uint8 RGB (image, y, x, colour), 256 pixels wide and high."""
        return in_geometry(self._crops(self._index.rows(ids)), geometry)

    def _crops(self, rows: NDArray[np.int64]) -> Iterator[Pixels]:
        decoded: dict[int, Pixels] = {}
        for row in rows:
            index, number = divmod(int(row), self.crops)
            if index not in decoded:
                # Of the others none is needed again.
                decoded = {index: decode(self.photographs[index].path)}
            yield self._crop(decoded[index], self.photographs[index].name, number)

    def _crop(self, pixels: Pixels, name: str, number: int) -> Pixels:
        draws = generator_for(f"{name}\0{number}", self.seed).random(3)
        height, width = pixels.shape[:2]
        fraction = self.smallest + (1 - self.smallest) * draws[0]
        side = max(1, round(min(height, width) * fraction))
        top, left = round((height - side) * draws[1]), round((width - side) * draws[2])
        cut = Image.fromarray(pixels[top : top + side, left : left + side])
        return np.asarray(cut.resize((SIDE, SIDE), Image.Resampling.BILINEAR))

    def concepts(self, split: str) -> xr.DataArray:
        """Return what each crop's photograph shows, bool (image, label): classes, superclasses."""
        photo_shows = [
            [photo.subject == subject for photo in self.photographs] for subject in self.classes
        ]
        columns = np.array([*photo_shows, *self._superclasses.values()]).T
        labels = [f"class:{name}" for name in self.classes]
        labels += [f"group:{name}" for name in self._superclasses]
        rows = np.repeat(columns, self.crops, axis=0)[self._index.slice(split)]
        return label_table(rows, self.ids(split), labels)

    def masks(self, ids: Sequence[str] | Ids, geometry: Geometry | None = None) -> None:
        """Return None: nothing is known of where things are."""
        self._index.rows(ids)
