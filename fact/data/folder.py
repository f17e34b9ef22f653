"""A folder of images as a data set: a folder for each class, in one for each split or without."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

import registry
from fact.data.config import Count
from fact.data.decoding import decode, upright_size
from fact.data.images import (
    Geometry,
    Ids,
    ImageDataError,
    ImageIds,
    Pixels,
    absent_splits,
    class_concepts,
    in_geometry,
    label_table,
    mask_table,
)
from fact.data.lists import listed_classes
from fact.data.masks import MaskError, MaskFiles, open_masks
from fact.data.tree import ImageTree, Paths, with_prefix
from fact.data.vocabulary import VocabularyError, identity, name_folders, read_groups
from registry import Since
from registry.declare.described import toml
from registry.declare.requirements import Extra, Finding, Package, Requirement
from registry.suggest import nearest
from registry.wording import counted

if TYPE_CHECKING:
    import xarray as xr

T = TypeVar("T")
Layout = Literal["auto", "splits", "classes", "flat"]

ALL = "all"
"""The one class of a folder whose images have none."""

SPLIT_NAMES = ("train", "training", "val", "valid", "validation", "test", "testing")
"""Names by which folders are taken for splits."""

_MASKS = re.compile(r" masks \S+| mask names .*$")
"""Parts of an identity: where masks are, and what they are called, which comes last."""

COCO = Extra("masks", (Package("pycocotools", least="2.0.7", why="masks in COCO's form"),))

SOURCES = {
    "imagenet": (
        "ImageNet is at https://image-net.org/download.php, under its terms of access; "
        'kind = "imagenet" reads it as it is distributed'
    ),
    "places365": (
        "Places365 is at http://places2.csail.mit.edu/download.html, under its terms; "
        'kind = "places365" reads it as it is distributed'
    ),
}
"""Where images can be had, by the list that names their classes."""

MOST_FAULTS = 3
"""Faults that a plan tells of a folder; ``factbook data check`` tells all."""

SAMPLED = 64
"""Images whose sizes a plan looks at, and whose masks a check does."""

FEW = 20
"""Images of a class below which a plan says so."""

CHECKED_AT_ONCE = 20_000
"""A broken image makes all images of a data set of up to this size be checked at once."""

PORTION = 16
"""Images that a thread takes at a time, at most: small ones take less than handing them over."""

# -- finding ---------------------------------------------------------------------------------


@dataclass
class FolderScan:
    """What a folder holds.

    Attributes
    ----------
    images : dict of str to dict of str to sequence of str
        Split to class to paths relative to the root, sorted; the split is "" without splits.
    ignored : list of str
        Files that were passed over: hidden ones, other suffixes, images beside the classes.
    faults : list of str
        What is wrong.
    order : tuple of str
        The classes in their order, where it is not that of their names.
    places : dict of str to str
        The folder of a split, where it is not called as the split is: ids begin with the split in
        its place.
    """

    images: dict[str, dict[str, Paths]] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    order: tuple[str, ...] = ()
    places: dict[str, str] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of all splits, sorted, or in the `order` that there is."""
        found = {name for members in self.images.values() for name in members}
        return tuple(name for name in self.order or sorted(found) if name in found)

    def images_below(self, tree: ImageTree, folder: str = "", at: str = "") -> Paths:
        """Return the paths of the images below a folder, and note what is passed over, or wrong.

        Parameters
        ----------
        tree : ImageTree
            What is there.
        folder : str
            The folder, relative to the tree's.
        at : str
            Put before every path, as the place of the tree's folder in the root: ``train/``.
        """
        self.ignored += [at + path for path in tree.ignored(folder)]
        self.faults += [at + fault for fault in tree.faults(folder)]
        images = tree.images(folder)
        return with_prefix(at, images) if at else images


def scan_folder(
    root: Path,
    layout: Layout = "auto",
    leave_out: Iterable[Path] = (),
    lists: Mapping[str, Path] | None = None,
) -> FolderScan:
    """Find the images of a folder, and everything that is wrong with it, without decoding.

    Parameters
    ----------
    root : Path
        The folder.
    layout : str
        ``splits`` for ``root/split/class/…``, ``classes`` for ``root/class/…``; ``auto`` tells by
        the names of the folders, whether they are `SPLIT_NAMES`; ``flat`` for images without
        classes, at any depth.
    leave_out : iterable of Path
        Folders and files in it that are no images of it: masks, labels.
    lists : mapping of str to Path, optional
        Split whose folder holds images and no classes, to the list that names theirs.
    """
    scan = FolderScan()
    lists = lists or {}
    if not root.is_dir():
        scan.faults.append("there is no such folder" if not root.exists() else "it is not a folder")
        return scan
    tree = ImageTree(root)
    skipped = {path.resolve() for path in leave_out}
    if layout == "flat":
        scan.images[""] = {ALL: _outside(scan.images_below(tree), root, skipped)}
        scan.faults += [] if len(scan.images[""][ALL]) else ["it holds no images"]
        return scan
    folders = _entries(tree, "", scan, skipped)
    if not folders:
        scan.faults.append(
            "it holds no folders; expected one for each class, with images in it, or "
            'layout = "flat" for images without classes'
        )
        return scan
    splits = [folder for folder in folders if folder.lower() in SPLIT_NAMES]
    others = [folder for folder in folders if folder not in splits]
    if layout == "auto" and splits and others:
        scan.faults.append(
            f"folder {others[0]!r} lies beside the split {splits[0]!r}; expected either splits or "
            'classes: say which by layout = "splits" or "classes"'
        )
    if layout == "splits" or (layout == "auto" and splits):
        for folder in folders:
            if folder not in lists:
                inner = _entries(tree, folder, scan, skipped)
                if not inner:
                    scan.faults.append(_no_classes(tree, folder))
                scan.images[folder] = _classes(tree, inner, scan)
        _add_flat(tree, scan, lists)
    else:
        scan.images[""] = _classes(tree, folders, scan)
        scan.faults += [f"lists: there is no split {split!r}" for split in lists]
    return scan


def _add_flat(tree: ImageTree, scan: FolderScan, lists: Mapping[str, Path]) -> None:
    """Add the splits whose classes a list names; those of the others are known by then."""
    classes = scan.classes
    for split, source in lists.items():
        if not (tree.root / split).is_dir():
            scan.faults.append(f"lists: there is no folder {split!r}")
            continue
        paths = scan.images_below(tree, split)
        try:
            scan.images[split] = {**listed_classes(paths, source, classes)}
        except ValueError as error:
            scan.faults.append(str(error))
    scan.images = dict(sorted(scan.images.items()))


def _no_classes(tree: ImageTree, folder: str) -> str:
    """Return the fault of a split without folders; of a flat one, with how to name its list."""
    fault = f"split {folder!r} holds no folders of classes"
    if not len(tree.images(folder)):
        return fault
    near = (path for path in sorted(tree.root.glob("*")) if path.suffix in (".txt", ".csv"))
    likely = next((path for path in near if folder in path.name), None)
    name = toml(str(likely) if likely else "FILE")
    return f"{fault}, but images; name the list of their classes: lists = {{ {folder} = {name} }}"


def _entries(tree: ImageTree, folder: str, scan: FolderScan, skipped: set[Path]) -> list[str]:
    """Return the paths of the folders in a folder, sorted; its files are noted as ignored."""

    def counts(path: str) -> bool:
        return not skipped or (tree.root / path).resolve() not in skipped

    scan.faults += tree.rings(folder)
    scan.ignored += filter(counts, tree.others(folder))
    return list(filter(counts, tree.folders(folder)))


def _outside(paths: Paths, root: Path, folders: set[Path]) -> Paths:
    """Return the paths of what lies neither in any of these folders, nor is one of them."""
    if not folders:
        return paths
    resolved = ((path, (root / path).resolve()) for path in paths)
    return [path for path, at in resolved if folders.isdisjoint((at, *at.parents))]


def _classes(tree: ImageTree, folders: list[str], scan: FolderScan) -> dict[str, Paths]:
    found = {}
    for folder in folders:
        name = folder.rpartition("/")[2]
        found[name] = scan.images_below(tree, folder)
        if not len(found[name]):
            scan.faults.append(f"class {folder!r} has no images")
    return found


def divide(
    members: Mapping[str, Paths], test_share: float, seed: int
) -> dict[str, dict[str, list[str]]]:
    """Divide the images of each class into "train" and "test".

    Parameters
    ----------
    members : mapping of str to sequence of str
        Class to paths.
    test_share : float
        Fraction of each class that becomes test, rounded; where a class has two images or more,
        each part gets at least one.
    seed : int
        Keys the hash of the path by which images are drawn, so that the order of files and
        those of other classes do not matter.
    """

    def draw(path: str) -> bytes:
        return hashlib.sha256(f"{seed}\0{path}".encode()).digest()

    parts: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for name, found in members.items():
        paths = list(map(str, found))
        most = max(len(paths) - 1, 0)
        count = min(max(round(test_share * len(paths)), min(1, most)), most)
        test = set(sorted(paths, key=draw)[:count])
        parts["train"][name] = [path for path in paths if path not in test]
        parts["test"][name] = [path for path in paths if path in test]
    return parts


def draw_some(
    members: Mapping[str, Paths], most_per_class: int | None, most: int | None, seed: int
) -> dict[str, list[str]]:
    """Return at most so many images of each class and of all, drawn by a hash of their paths.

    Of all, each class keeps its share, and one image at least.

    Parameters
    ----------
    members : mapping of str to sequence of str
        Class to paths.
    most_per_class, most : int or None
        Images of each class, and of all; None keeps them.
    seed : int
        Of the draw.

    Raises
    ------
    ValueError
        If there are more classes than images that are kept.
    """
    if most is not None and most < len(members):
        raise ValueError(f"most = {most} is fewer than the {counted(len(members), 'class')}")

    def draw(path: str) -> bytes:
        return hashlib.sha256(f"kept {seed}\0{path}".encode()).digest()

    texts = {name: list(map(str, paths)) for name, paths in members.items()}
    kept = {name: sorted(paths, key=draw)[:most_per_class] for name, paths in texts.items()}
    ranked = [
        (rank / len(paths), draw(path), path)
        for paths in kept.values()
        for rank, path in enumerate(paths)
    ]
    chosen = {path for _, _, path in sorted(ranked)[:most]}
    return {name: sorted(chosen.intersection(paths)) for name, paths in kept.items()}


# -- labels and masks ------------------------------------------------------------------------


def read_labels(path: Path, known: Iterable[str]) -> tuple[tuple[str, ...], dict[str, list[float]]]:
    """Read a table of concept labels.

    Parameters
    ----------
    path : Path
        A CSV file. Its column ``image`` holds paths relative to the folder of images; every
        other column is a label, 0 or 1 or a probability.
    known : iterable of str
        Paths that may occur.

    Returns
    -------
    labels : tuple of str
        Names of the labels.
    rows : dict of str to list of float
        Path to the value of each label.

    Raises
    ------
    ImageDataError
        With everything that is wrong with the table.
    """
    subject = f"labels {path}"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            lines, columns = list(reader), list(reader.fieldnames or ())
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise ImageDataError(subject, [f"cannot be read: {error}"]) from error
    labels = tuple(name for name in columns if name != "image")
    faults = _column_faults(columns)
    rows: dict[str, list[float]] = {}
    images = set(known)
    for number, line in enumerate(lines if not faults else [], start=2):
        image = line["image"]
        if image not in images:
            faults.append(f"line {number}: no image {image!r}{nearest(str(image), images, most=3)}")
        elif image in rows:
            faults.append(f"line {number}: {image!r} occurs twice")
        else:
            rows[image] = [_label_value(line[name], name, number, faults) for name in labels]
    if faults:
        raise ImageDataError(subject, faults)
    return labels, rows


def _column_faults(columns: list[str]) -> list[str]:
    faults = []
    if "image" not in columns:
        faults.append(f"has no column 'image'{nearest('image', columns)}")
    if columns == ["image"]:
        faults.append("has no column of labels")
    twice = sorted({name for name in columns if columns.count(name) > 1})
    faults.extend(f"column {name!r} occurs twice" for name in twice)
    taken = [name for name in columns if name.startswith(("class:", "group:"))]
    return faults + [
        f"column {name!r}: classes come from folders and groups from `groups`; rename the column"
        for name in taken
    ]


def _label_value(text: str | None, label: str, line: int, faults: list[str]) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        faults.append(f"line {line}: {label} is {text!r}; expected 0, 1 or a number between")
    return value


# -- the data set ----------------------------------------------------------------------------


@registry.kind("datasets", "image-folder", provides="images")
@dataclass(frozen=True)
class ImageFolder:
    """A folder of images: ``root/class/…``, ``root/split/class/…``, or without classes.

    Parameters
    ----------
    root : str
        The folder, relative to that of the declaration; ``~`` is expanded.
    layout : str
        ``splits`` or ``classes``; ``auto`` tells by the folders' names whether they are splits
        (train, val, test, …). ``flat`` takes all images, at any depth, for one class ``all``, which
        names nothing: for images without classes.
    test_share, seed : float, int
        Fraction of each class that becomes the split "test" where the folder has none, and what
        draws it.
    on_error : str
        ``raise``: broken files are an error when they are read, with every broken file named.
        ``skip``: they are left out, at the cost of decoding every file once when the data set is
        loaded.
    upright : bool
        Turn images as their EXIF orientation says, as people see them. False reads them as
        torchvision's ``ImageFolder`` does, for published numbers.
    labels : str or None
        A CSV file of concept labels, as `read_labels` reads it. It must name every image of a
        split, or none.
    masks : str or None
        A folder ``masks/label/path.png`` of masks for the images at ``path.jpg``; what is not
        black is where the label is, and an image without a file does not have it. Or annotations
        of COCO's form, ``….json``. Or a folder ``masks/path.png`` of maps whose pixels are numbers
        of labels, as of Pascal VOC, with ``mask_names``.
    mask_names : str or None
        Names of the numbers in maps of labels, from 0: ``voc``, or a text file with one on each
        line; ``background`` is none.
    names : str or None
        Names of the classes: ``imagenet`` for folders named ``n01440764`` and so on,
        ``places365``, a text file with one on each line, or a JSON file ``{"folder": "name"}``.
        Folders that are called as these names are have them; others are taken in their order. The
        folders' own by default.
    groups : str or None
        Groups of classes: ``imagenet`` for its 400 superclasses, or a JSON file,
        ``{"pets": ["cat", "dog"]}``, of names or indices.
    workers : int
        Threads that decode; 0 takes one for each processor.
    lists : table
        For a split whose folder holds images and no folders of classes, as the official validation
        set of ImageNet, the file that has a class for each: ``{ val = "val.txt" }``. A line of it
        is an image and its class, by name or by number from 0, parted by blanks or commas.
    most_per_class, most : int or None
        Images of each class, and of all, that are kept of each split, or of the whole where the
        folder has none; drawn by ``seed``. Of all, each class keeps its share.
    """

    root: registry.Runtime[str]
    layout: Layout = "auto"
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    on_error: Literal["raise", "skip"] = "raise"
    upright: bool = True
    labels: registry.Runtime[str | None] = None
    masks: registry.Runtime[str | None] = None
    mask_names: registry.Runtime[str | None] = None
    names: registry.Runtime[str | None] = None
    groups: registry.Runtime[str | None] = None
    workers: registry.Runtime[Annotated[int, Field(ge=0)]] = 0
    lists: registry.Runtime[dict[str, str]] = field(default_factory=dict)
    most_per_class: Annotated[Count | None, Since(None)] = None
    most: Annotated[Count | None, Since(None)] = None

    def identity(self) -> str:
        """Return a content hash of the images, and of each list, table and mask that is given.

        Raises
        ------
        ValueError
            If one of them is missing or cannot be read.
        """
        paths = {"root": self.root, "labels": self.labels, "masks": self.masks}
        paths |= {f"list of {split}": path for split, path in sorted(self.lists.items())}
        named = {"names": self.names, "groups": self.groups, "mask names": self.mask_names}
        found = {part: registry.content_identity(path) for part, path in paths.items() if path}
        found |= {part: identity(source) or source for part, source in named.items() if source}
        return " ".join(f"{part} {content}" for part, content in found.items())

    def common(self, identity: str) -> str:
        """Return an identity without masks and their names, which are for localisation alone."""
        return _MASKS.sub("", identity)

    def requires(self) -> Iterator[Requirement]:
        """Yield the package that reads the masks, where one is needed."""
        if self.masks and self.masks.endswith(".json"):
            yield COCO

    @property
    def source(self) -> str:
        """Where images can be had whose classes are those of a known list; else ""."""
        return SOURCES.get(self.names or "", "")

    def notes(self) -> Iterator[str]:
        """Yield what a plan says of the images: classes of which there are too few."""
        root, lists = Path(self.root).expanduser(), self._list_paths()
        inside = [Path(path).expanduser() for path in (self.labels, self.masks) if path]
        scan = scan_folder(root, self.layout, inside, lists)
        for split, members in self.kept(scan.images).items():
            counts = {name: len(members.get(name, ())) for name in scan.classes}
            few = {name: count for name, count in counts.items() if count < FEW}
            if few:
                listed = ", ".join(
                    f"{name} ({few[name]})" for name in sorted(few, key=few.__getitem__)
                )
                where = f" in {split!r}" if split else ""
                yield (f"fewer than {FEW} images{where}, too few to learn or to test: {listed}")

    def kept(self, images: Mapping[str, Mapping[str, Paths]]) -> Mapping[str, Mapping[str, Paths]]:
        """Return the images of each split and class that are drawn where not all are wanted.

        Raises
        ------
        ValueError
            If there are more classes than images that are kept.
        """
        if self.most is None and self.most_per_class is None:
            return images
        return {
            split: draw_some(members, self.most_per_class, self.most, self.seed)
            for split, members in images.items()
        }

    def remarks(self, images: FolderImages) -> Iterator[Finding]:
        """Yield how many images have masks, and what is wrong with these."""
        yield from images.mask_findings()

    def lacks(self) -> Callable[[Mapping[str, Any]], Iterable[str]]:
        """Return what tells of a task's configuration what it would fail for: splits, sizes."""
        return lacks_of(replace(self, on_error="raise").load)  # decodes nothing

    def _list_paths(self) -> dict[str, Path]:
        return {split: Path(path).expanduser() for split, path in self.lists.items()}

    def load(self) -> FolderImages:
        """Find the images.

        Raises
        ------
        ImageDataError
            With everything that is wrong with the folder.
        """
        return FolderImages(self)


def lacks_of(
    load: Callable[[], FolderImages],
) -> Callable[[Mapping[str, Any]], Iterable[str]]:
    """Return what tells of a task's configuration what it would fail for in images of a folder.

    Parameters
    ----------
    load : callable
        Finds the images, without decoding them.
    """
    try:
        return load().lacks
    except ImageDataError as error:
        faults = "; ".join(error.faults[:MOST_FAULTS])
        more = len(error.faults) - MOST_FAULTS
        text = f"{error.subject}: {faults}" + (f"; and {more} more" if more > 0 else "")
        return lambda config: [text]


class FolderImages:
    """The images of a folder; `scan_folder` says what it looks like, `decode` how files are read.

    Ids are paths relative to the root, as "val/dog/a.jpg"; without splits in the folder, those
    with the split before them. Classes and images are sorted by name. A class that only some
    splits have keeps its index in all of them.

    Parameters
    ----------
    folder : ImageFolder
        Where they are, and how they are read.
    scan : FolderScan, optional
        What the folder holds, where that has been found out already.

    Attributes
    ----------
    groups : dict of str to tuple of str
        Group to the names of its classes.
    skipped : dict of str to str
        Id of each image left out, to the reason.
    ignored : tuple of str
        Files that were not taken for images.
    is_divided : bool
        Whether the splits were drawn here, not found.

    Raises
    ------
    ImageDataError
        With everything that is wrong with the folder.
    """

    name = "image-folder"

    def __init__(self, folder: ImageFolder, scan: FolderScan | None = None):
        self.root = Path(folder.root).expanduser()
        self.upright = folder.upright
        affinity = getattr(os, "sched_getaffinity", None)  # not everywhere
        self.workers = folder.workers or (len(affinity(0)) if affinity else os.cpu_count() or 1)
        labels, self.masks_path = (
            Path(path).expanduser() if path else None for path in (folder.labels, folder.masks)
        )
        inside = [path for path in (labels, self.masks_path) if path]
        scan = scan or scan_folder(self.root, folder.layout, inside, folder._list_paths())
        self._masks: MaskFiles | None = None
        try:
            if self.masks_path:
                self._masks = open_masks(self.masks_path, folder.mask_names)
        except (MaskError, VocabularyError) as error:
            scan.faults.append(f"masks {error}")
        if scan.faults:
            raise ImageDataError(self._subject, scan.faults)
        self.classes = scan.classes
        self.ignored = tuple(sorted(scan.ignored))
        self.skipped: dict[str, str] = {}
        images, self.is_divided = self._kept(scan, folder), "" in scan.images
        if self.is_divided:
            images = divide(images[""], folder.test_share, folder.seed)
        self._use(images, scan.places | (dict.fromkeys(images, "") if self.is_divided else {}))
        if folder.names:
            self.classes = self._named(scan.classes, folder.names)
        self.groups = read_groups(folder.groups, self.classes) if folder.groups else {}
        if folder.on_error == "skip":
            self._leave_out_broken()
        known = map(self.path, self._every) if labels else ()
        self._labels = read_labels(labels, known) if labels else ((), {})

    def _kept(self, scan: FolderScan, folder: ImageFolder) -> Mapping[str, Mapping[str, Paths]]:
        """Return the images that are drawn where not all are wanted."""
        try:
            return folder.kept(scan.images)
        except ValueError as error:
            raise ImageDataError(self._subject, [str(error)]) from error

    def _named(self, folders: tuple[str, ...], source: str) -> tuple[str, ...]:
        try:
            return name_folders(folders, source)
        except VocabularyError as error:
            raise ImageDataError(self._subject, [str(error)]) from error

    @property
    def _subject(self) -> str:
        return f"image folder {self.root}"

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, sorted; "train" and "test" where the folder has none."""
        return self._index.splits

    def _use(self, images: Mapping[str, Mapping[str, Paths]], places: Mapping[str, str]) -> None:
        """Take these images, by split and class; their ids begin with the split."""
        ids: dict[str, Ids] = {}
        self._classes: dict[str, NDArray[np.int64]] = {}
        self._places: dict[str, str] = {}
        index = {name: label for label, name in enumerate(self.classes)}
        for split, members in images.items():
            place = places.get(split, split)
            names = sorted(name for name in members if len(members[name]))
            paths = [np.asarray(members[name], dtype=str) for name in names]
            own = np.concatenate(paths) if paths else np.zeros(0, dtype=str)
            above = f"{place}/" if place else ""
            ids[split] = own if place == split else with_prefix(f"{split}/", own, cut=len(above))
            labels = np.array([index[name] for name in names], dtype=np.int64)
            self._classes[split] = np.repeat(labels, [len(some) for some in paths])
            self._places[split] = above
        self._index = ImageIds(self.name, ids)

    @property
    def _every(self) -> Iterator[str]:
        """The ids of all images."""
        for split in self.splits:
            yield from self.ids(split).tolist()

    def ids(self, split: str) -> Ids:
        """Return the ids of a split, (image,), sorted by class and path."""
        return self._index.ids(split)

    def labels(self, split: str) -> NDArray[np.int64]:
        """Return the class of each image of a split, (image,)."""
        self._index.slice(split)
        return self._classes[split].copy()

    def read(self, ids: Sequence[str] | Ids, geometry: Geometry | None = None) -> Pixels:
        """Return images by id, uint8 RGB (image, y, x, colour); several are decoded at once.

        Raises
        ------
        ImageDataError
            If an image is broken; with every other broken one of the data set.
        ValueError
            If the images differ in size in this geometry.
        """
        wanted = self._known(ids)
        images = self._each(wanted, lambda image: self._decoded(image, geometry))
        if any(isinstance(image, str) for image in images):
            self.check(self._every if len(self._index) <= CHECKED_AT_ONCE else wanted)
        return in_geometry([image for image in images if not isinstance(image, str)], None)

    def _known(self, ids: Sequence[str] | Ids) -> list[str]:
        self._index.rows(ids)
        return [str(image) for image in np.asarray(ids).ravel()]

    def _each(self, ids: Iterable[str], work: Callable[[str], T]) -> list[T]:
        every = list(ids)
        if self.workers == 1:
            return list(map(work, every))
        size = min(max(len(every) // (4 * self.workers), 1), PORTION)
        portions = [every[start : start + size] for start in range(0, len(every), size)]
        done = _decoders(self.workers).map(lambda some: list(map(work, some)), portions)
        return [found for portion in done for found in portion]

    def _decoded(self, image: str, geometry: Geometry | None) -> Pixels | str:
        """Return an image in the geometry, or what is wrong with its file."""
        try:
            pixels = decode(self.root / self.path(image), self.upright)
        except (OSError, ValueError) as error:
            return str(error)
        return geometry.apply(pixels) if geometry else pixels

    def path(self, image: str) -> str:
        """Return the path of an image's file, relative to the root."""
        split, _, name = image.partition("/")
        return self._places[split] + name

    def sizes(self, ids: Sequence[str] | Ids) -> NDArray[np.int64]:
        """Return height and width of images in pixels, (image, 2), without decoding them."""
        found = self._each(
            self._known(ids),
            lambda image: upright_size(self.root / self.path(image), self.upright),
        )
        return np.array(found, dtype=np.int64).reshape(-1, 2)

    def lacks(self, config: Mapping[str, Any]) -> Iterator[str]:
        """Yield what a task would fail for: a split that is not there, images of several sizes.

        Parameters
        ----------
        config : mapping
            The task's configuration.
        """
        yield from absent_splits(self.splits, config)
        if self._masked == []:
            yield self._no_mask()
        if not {"resize", "crop"} <= config.keys() or config["crop"]:
            return
        geometry = Geometry(config["resize"])
        asked = {value for key, value in config.items() if f"_{key}".endswith("_split")}
        splits = [split for split in self.splits if split in asked] or self.splits
        some = [_some(self.ids(split)) for split in splits]
        try:
            found = self.sizes(np.concatenate(some)) if some else np.zeros((0, 2), np.int64)
        except (OSError, ValueError):
            return  # reading them says which are broken
        sizes = sorted({geometry.size_of(*size) for size in found.tolist()})
        if len(sizes) > 1:
            keys = "crop = 64" if config["resize"] else "resize = 64, crop = 64"
            yield (
                f"has images of {len(sizes)} sizes (y, x), as {sizes[0]} and {sizes[-1]}: "
                f"{keys} (pixels) in `config` brings them to one"
            )

    @cached_property
    def _masked(self) -> list[str] | None:
        """The images that have masks; None where there are no masks."""
        if self._masks is None:
            return None
        paths = {self.path(image): image for image in self._every}
        return [paths[path] for path in self._masks.known(list(paths))]

    def _no_mask(self) -> str:
        files = self._masks
        return f"no mask in {self.masks_path} is of any image; {files.form if files else ''}"

    def mask_findings(self) -> Iterator[Finding]:
        """Yield how many images have masks, of how many labels, and what is wrong with some."""
        if self._masks is None or self._masked is None:
            return
        if not self._masked:
            yield Finding(self._no_mask())
            return
        some, is_any = _some(np.array(self._masked)).tolist(), False
        for image in some:
            for mask in self._image_masks(image, self._masks):
                if isinstance(mask, str):
                    yield Finding(f"masks: {mask}")
                    is_any = True
                else:
                    is_any = is_any or bool(mask.any())
        if not is_any:
            images = counted(len(some), "image")
            yield Finding(
                f"masks of {images} that were looked at are all empty; {self._masks.form}"
            )
            return
        labels = counted(len(self._masks.names), "label")
        text = f"masks: {len(self._masked):,} of {counted(len(self._index), 'image')}, {labels}"
        yield Finding(text, is_missing=False)

    def faults(self, ids: Iterable[str]) -> dict[str, str]:
        """Return what is wrong with each broken image; all of them are decoded."""

        def fault(image: str) -> tuple[str, str]:
            found = self._decoded(image, None)
            return image, found if isinstance(found, str) else ""

        return {image: reason for image, reason in self._each(ids, fault) if reason}

    def check(self, ids: Iterable[str] | None = None) -> None:
        """Decode every image, or those named.

        Raises
        ------
        ImageDataError
            With all broken files and their reasons.
        """
        broken = self.faults(self._every if ids is None else ids)
        if broken:
            hint = 'on_error = "skip" leaves such images out'
            faults = [f"{self.path(image)}: {reason}" for image, reason in broken.items()]
            raise ImageDataError(f"{self._subject} ({hint})", faults)

    def _leave_out_broken(self) -> None:
        self.skipped = self.faults(self._every)
        kept = {}
        for split in self.splits:
            ids = self.ids(split)
            whole = np.array([image not in self.skipped for image in ids.tolist()], dtype=bool)
            kept[split], self._classes[split] = ids[whole], self._classes[split][whole]
        left = set(np.concatenate([*self._classes.values()]).tolist())
        empty = [name for label, name in enumerate(self.classes) if label not in left]
        if empty:
            faults = [f"class {name!r} has no image that is not broken" for name in empty]
            raise ImageDataError(self._subject, faults)
        self._index = ImageIds(self.name, kept)

    def concepts(self, split: str) -> xr.DataArray:
        """Return the classes, their groups, and the table of labels where it names the images.

        Returns
        -------
        DataArray, (image, label)
            bool, or float32 where the table holds probabilities.

        Raises
        ------
        ImageDataError
            If the table names some of the split's images and not others.
        """
        ids = self.ids(split)
        classes = class_concepts(ids, self.labels(split), self.classes, self.groups)
        labels, rows = self._labels
        paths = [self.path(image) for image in ids.tolist()]
        missing = [path for path in paths if path not in rows]
        if len(missing) == len(ids):
            return classes
        if missing:
            faults = [f"no line for {path}" for path in missing]
            raise ImageDataError(f"labels of {self._subject}, split {split!r}", faults)
        values = np.array([rows[path] for path in paths], dtype=np.float32)
        table = values.astype(bool) if np.isin(values, (0, 1)).all() else values
        joined = np.concatenate([classes.values.astype(table.dtype), table], axis=1)
        return label_table(joined, ids, [*classes["label"].values.tolist(), *labels])

    def masks(
        self, ids: Sequence[str] | Ids, geometry: Geometry | None = None
    ) -> xr.Dataset | None:
        """Return where each label of the folder of masks is; None without such a folder.

        Returns
        -------
        Dataset or None
            ``mask`` (image, object, y, x) and ``carries`` (image, object, label), bool: one
            object for each label.

        Raises
        ------
        ImageDataError
            With every mask that is broken or of another size than its image.
        """
        files = self._masks
        if files is None:
            return None
        wanted = self._known(ids)
        if not self._masked:
            raise ImageDataError(self._subject, [self._no_mask()])
        found = self._each(wanted, lambda image: self._image_masks(image, files))
        faults = [f for masks in found for f in masks if isinstance(f, str)]
        if faults:
            raise ImageDataError(f"masks {self.masks_path}", faults)
        masks = [[m for m in image if not isinstance(m, str)] for image in found]
        there = np.array([[m.any() for m in image] for image in masks])
        names, own = list(files.names), np.eye(len(files.names), dtype=bool)
        classes = [f"class:{name}" if name in self.classes else "" for name in names]
        are_new = [bool(name) and name not in names for name in classes]  # folders may be called so
        own = np.concatenate([own, own[:, are_new]], axis=1)
        names += [name for name, is_new in zip(classes, are_new, strict=True) if is_new]
        carries = there.reshape(-1, len(files.names))[:, :, None] & own
        return mask_table(masks, carries, wanted, names, geometry)

    def _image_masks(self, image: str, masks: MaskFiles) -> list[NDArray[np.bool_] | str]:
        """Return the mask of each label in an image, or what is wrong with it."""
        path = self.path(image)
        try:
            return masks.read(path, upright_size(self.root / path, self.upright))
        except OSError as error:
            return [f"{path}: {error}"]


def _some(ids: Ids) -> Ids:
    """Return some ids, from the first to the last."""
    steps = np.linspace(0, len(ids) - 1, min(SAMPLED, len(ids)))
    chosen: Ids = ids[steps.astype(int)]
    return chosen


@cache
def _decoders(workers: int) -> ThreadPoolExecutor:
    """Return the threads that decode, which last."""
    return ThreadPoolExecutor(workers, thread_name_prefix="decode")


os.register_at_fork(after_in_child=_decoders.cache_clear)  # which has none of them
