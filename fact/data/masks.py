"""Masks of labels in images, from files: folders of them, maps of labels, COCO's annotations."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fact.data.decoding import decode
from fact.data.vocabulary import distinct, read_lines

Mask = NDArray[np.bool_]
BACKGROUND = "background"


class MaskError(ValueError):
    """A file or folder that holds no masks, or none that can be read."""


class MaskFiles(ABC):
    """Where labels are in images.

    Attributes
    ----------
    names : tuple of str
        The labels, one object for each.
    """

    names: tuple[str, ...]

    @abstractmethod
    def read(self, path: str, size: tuple[int, int]) -> list[Mask | str]:
        """Return the mask of each label, (y, x), in an image, or what is wrong with it.

        Parameters
        ----------
        path : str
            Of the image, relative to the folder of images. One of which nothing is known has no
            label.
        size : tuple of int
            Of the image, (y, x).
        """

    @abstractmethod
    def known(self, paths: Sequence[str]) -> list[str]:
        """Return those of some images, by their paths, of which there is a mask."""

    @property
    @abstractmethod
    def form(self) -> str:
        """What masks are expected to be called or to say, where none is of any image."""


def open_masks(path: Path, names: str | None = None) -> MaskFiles:
    """Open masks of any form.

    Parameters
    ----------
    path : Path
        A file ``.json`` of COCO's annotations; a folder of maps of labels, with ``names``; or a
        folder with a folder of masks for each label.
    names : str or None
        Names of the values in maps of labels, from 0: ``voc``, or a text file.

    Raises
    ------
    MaskError
        If it is none of these.
    """
    if path.suffix == ".json":
        return CocoMasks(path)
    return LabelMaps(path, names) if names else LabelFolders(path)


class LabelFolders(MaskFiles):
    """A folder for each label, with ``path.png`` for the image ``path.jpg``: where it is not black.

    Parameters
    ----------
    folder : Path
        The folder of these.

    Raises
    ------
    MaskError
        If it has no folder in it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        found = folder.iterdir() if folder.is_dir() else ()
        self.names = tuple(
            sorted(p.name for p in found if p.is_dir() and not p.name.startswith("."))
        )
        if not self.names:
            raise MaskError(f"{folder}: expected a folder in it for each label")

    def known(self, paths: Sequence[str]) -> list[str]:
        """Return those of some images of which a folder has a mask."""
        found = set().union(*(_stems(self.folder / name) for name in self.names))
        return [path for path in paths if _stem(path) in found]

    @property
    def form(self) -> str:
        """How files are to be called."""
        return (
            f"expected {self.folder}/LABEL/path.png for the image path.jpg, and found folders of "
            f"labels called {', '.join(self.names[:3])}; are they maps whose pixels are numbers of "
            'labels? mask_names = "voc", or a text file with a name on each line, says which'
        )

    def read(self, path: str, size: tuple[int, int]) -> list[Mask | str]:
        """Return the mask in each folder."""
        return [self._read(self.folder / name / path, size) for name in self.names]

    def _read(self, image: Path, size: tuple[int, int]) -> Mask | str:
        path = image.with_suffix(".png")
        if not path.exists():
            return np.zeros(size, dtype=bool)
        try:
            mask: Mask = np.asarray(decode(path).any(axis=-1))
        except ValueError as error:
            return f"{path}: {error}"
        return _of_size(mask, size, path)


class LabelMaps(MaskFiles):
    """Maps ``path.png`` for the image ``path.jpg``, whose pixels are numbers of labels.

    As those of Pascal VOC's folders ``SegmentationClass``. A map may lie in the folder itself too,
    by the image's name alone. Numbers without a name, as VOC's 255 of borders, are no label, nor is
    what is named ``background``.

    Parameters
    ----------
    folder : Path
        The folder of the maps.
    names : str
        Of the numbers, from 0: a list that comes along, or a text file with one on each line.

    Raises
    ------
    MaskError
        If there is no such folder.
    """

    def __init__(self, folder: Path, names: str):
        if not folder.is_dir():
            raise MaskError(f"{folder}: no such folder")
        self.folder = folder
        named = enumerate(distinct(read_lines(names)))
        self._numbers = {name: number for number, name in named if name != BACKGROUND}
        self.names = tuple(self._numbers)

    def known(self, paths: Sequence[str]) -> list[str]:
        """Return those of some images that have a map."""
        found = _stems(self.folder)
        return [p for p in paths if not found.isdisjoint((_stem(p), Path(p).stem))]

    @property
    def form(self) -> str:
        """How files are to be called."""
        return (
            f"expected the map {self.folder}/path.png for the image path.jpg; are there folders of "
            "masks for each label in it? Leave mask_names out"
        )

    def read(self, path: str, size: tuple[int, int]) -> list[Mask | str]:
        """Return where the map has each number."""
        beside = Path(path).with_suffix(".png")
        found = [file for p in (beside, beside.name) if (file := self.folder / p).exists()]
        if not found:
            return [np.zeros(size, dtype=bool) for _ in self.names]
        try:
            with Image.open(found[0]) as image:
                values = np.asarray(image)
        except (OSError, ValueError) as error:
            return [f"{found[0]}: {error}"]
        if values.ndim != 2:
            return [f"{found[0]}: {image.mode} pixels; expected one number for each, as a palette"]
        whole = _of_size(values, size, found[0])
        if isinstance(whole, str):
            return [whole]
        return [whole == number for number in self._numbers.values()]


class CocoMasks(MaskFiles):
    """Annotations of COCO's form: polygons, or runs of pixels, of the objects of each category.

    Objects of one category in an image are one. Images are found by their path, or where that is
    clear by their name alone.

    Parameters
    ----------
    file : Path
        As ``instances_val2017.json``.

    Raises
    ------
    MaskError
        If it is damaged, is none, or ``pycocotools`` is not installed.
    """

    def __init__(self, file: Path):
        try:
            import pycocotools.mask  # noqa: F401 - at once, not after hours
        except ImportError as error:
            raise MaskError(
                "masks of COCO need pycocotools: pip install 'factbook[masks]'"
            ) from error
        self.file = file
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            categories = sorted(content["categories"], key=lambda each: each["id"])
            self._categories = [each["id"] for each in categories]
            self.names = tuple(distinct([str(each["name"]) for each in categories]))
            self._images = {str(each["file_name"]): each for each in content["images"]}
            self._found: Mapping[Any, Sequence[Any]] = _by_image(content["annotations"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MaskError(f"{file}: no annotations of COCO's form: {error!r}") from error

    @cached_property
    def _by_name(self) -> dict[str, Mapping[str, Any] | None]:
        """Images by name alone; None for names of several."""
        found: dict[str, Mapping[str, Any] | None] = {}
        for path, image in self._images.items():
            name = Path(path).name
            found[name] = None if name in found else image
        return found

    def known(self, paths: Sequence[str]) -> list[str]:
        """Return those of some images that were annotated, be it without any object."""
        return [path for path in paths if self._image(path) is not None]

    @property
    def form(self) -> str:
        """What images are called in it."""
        some = ", ".join(map(repr, list(self._images)[:3])) or "none"
        return f"it has annotations of images called {some}; expected paths in the folder, or names"

    def _image(self, path: str) -> Mapping[str, Any] | None:
        return self._images.get(path) or self._by_name.get(Path(path).name)

    def read(self, path: str, size: tuple[int, int]) -> list[Mask | str]:
        """Return what is covered by each category's objects."""
        image = self._image(path)
        masks = {category: np.zeros(size, dtype=bool) for category in self._categories}
        if image is None:
            return list(masks.values())
        own = (int(image["height"]), int(image["width"]))
        if own != size:
            return [f"{self.file}: {path} is {own} pixels (y, x); expected {size}, as its image"]
        for annotation in self._found.get(image["id"], ()):
            try:
                masks[annotation["category_id"]] |= _drawn(annotation["segmentation"], size)
            except (KeyError, TypeError, ValueError) as error:
                number = annotation.get("id")
                return [f"{self.file}: annotation {number} cannot be read: {error!r}"]
        return list(masks.values())


def _by_image(annotations: Sequence[Mapping[str, Any]]) -> dict[Any, list[Mapping[str, Any]]]:
    found = defaultdict(list)
    for annotation in annotations:
        found[annotation["image_id"]].append(annotation)
    return found


def _drawn(segmentation: Any, size: tuple[int, int]) -> Mask:
    """Return polygons, or runs of pixels, as a mask (y, x)."""
    from pycocotools import mask

    if isinstance(segmentation, list):
        runs = mask.merge(mask.frPyObjects(segmentation, *size))
    elif isinstance(segmentation["counts"], list):
        runs = mask.frPyObjects(segmentation, *size)
    else:
        runs = segmentation
    drawn: Mask = mask.decode(runs).astype(bool)
    if drawn.shape != size:
        raise ValueError(f"{drawn.shape} pixels (y, x); expected {size}")
    return drawn


def _stem(path: str) -> str:
    return Path(path).with_suffix("").as_posix()


def _stems(folder: Path) -> set[str]:
    """Return the paths of the masks below a folder, without their suffix."""
    return {_stem(str(file.relative_to(folder))) for file in folder.rglob("*.png")}


def _of_size(mask: NDArray[Any], size: tuple[int, int], path: Path) -> NDArray[Any] | str:
    if mask.shape != size:
        return f"{path}: {mask.shape} pixels (y, x); expected {size}, as its image has"
    return mask
