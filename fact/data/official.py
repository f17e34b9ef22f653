"""ImageNet and Places365 in the layouts that they are distributed in, with their lists."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

import registry
from fact.data.checking import of_official
from fact.data.config import Count, Seed
from fact.data.folder import FolderImages, FolderScan, ImageFolder, lacks_of
from fact.data.images import ImageDataset
from fact.data.lists import META, listed_classes, read_list
from fact.data.tree import ImageTree, Paths, with_prefix
from fact.data.vocabulary import plain, read_names, wordnet_numbers
from registry.declare.requirements import Finding
from registry.wording import counted

Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")


_SHOWN = 5
"""Folders of unknown classes that faults name."""

_OF_THEIR_OWN = ("ILSVRC2012", "LOC_val", "places365", "filelist_places365")
"""Begin names of lists that are of no other data set, and may lie beside the folder too."""


@dataclass(frozen=True, kw_only=True)
class _Official:
    """Keys that official data sets share.

    Parameters
    ----------
    root : str
        The folder, relative to that of the declaration; ``~`` is expanded.
    splits : tuple of str
        Which of ``train`` and ``val`` are used; what is not used is not read and may be missing.
    folders : dict of str to str
        The folder of a split in ``root``, where it is called otherwise: ``{ val = "validation" }``.
    list : str or None
        The list of the classes of flat validation images, where it lies elsewhere.
    on_error : str
        ``raise``: broken files are an error when they are read. ``skip``: they are left out, at the
        cost of decoding every file once when the data set is loaded.
    upright : bool
        Turn images as their EXIF orientation says; published numbers are of images as they lie.
    workers : int
        Threads that decode; 0 takes one for each processor.
    most_per_class, most : int or None
        Images of each class, and of all, that are kept of each split, drawn by ``seed``.
    seed : int
        Of the draw.
    """

    usual: ClassVar[Mapping[str, tuple[str, ...]]]
    lists: ClassVar[tuple[str, ...]]
    sizes: ClassVar[Mapping[str, int]]
    inside: ClassVar[tuple[str, ...]]

    root: registry.Runtime[str]
    splits: tuple[Split, ...] = SPLITS
    folders: registry.Runtime[dict[str, str]] = field(default_factory=dict)
    list: registry.Runtime[str | None] = None
    on_error: Literal["raise", "skip"] = "raise"
    upright: bool = False
    workers: registry.Runtime[Annotated[int, Field(ge=0)]] = 0
    most_per_class: Count | None = None
    most: Count | None = None
    seed: Seed = 0

    def __post_init__(self) -> None:
        if not self.splits or len(set(self.splits)) < len(self.splits):
            raise ValueError(f"splits {self.splits}; expected train, val or both, each once")
        for split, folder in self.folders.items():
            if split not in self.splits:
                raise ValueError(f"folders: {split} is none of the splits {list(self.splits)}")
            if Path(folder).is_absolute() or ".." in Path(folder).parts:
                raise ValueError(f"folders: {folder!r}; expected a folder in root, as {split!r}")

    # -- where things lie ----------------------------------------------------------------------

    @property
    def _root(self) -> Path:
        return Path(self.root).expanduser()

    def _folder(self, split: str) -> Path:
        """Return the folder of a split: that which is named, or the first usual one that is there.

        Of a single split it may be the root itself.
        """
        if split in self.folders:
            return self._root / self.folders[split]
        paths = [self._root / name for name in self.usual[split]]
        found = next((path for path in paths if path.is_dir()), None)
        if found is None and len(self.splits) == 1 and self._root.is_dir():
            inside = (path for name in self.inside for path in self._root.glob(name))
            found = self._root if next(inside, None) else None
        return found or paths[0]

    @property
    def _is_listed(self) -> bool:
        """Whether a list says of which classes the validation images are."""
        return "val" in self.splits and _is_flat(self._folder("val"))

    def _list(self) -> Path | None:
        """Return the list of validation images that is named, or found."""
        if self.list is not None:
            return Path(self.list).expanduser()
        above = [name for name in self.lists if name.startswith(_OF_THEIR_OWN)]
        paths = [self._root / name for name in self.lists]
        paths += [self._root.parent / name for name in above]
        return next((path for path in paths if path.is_file()), None)

    def _no_list(self) -> str:
        folder = self._folder("val").relative_to(self._root)
        return (
            f"{folder} is flat, and there is no list of its classes: put {self.lists[0]} beside "
            "it, or name it by `list`"
        )

    def _beside(self) -> Iterator[Path]:
        """Yield files that say what the list means."""
        yield from ()

    # -- what a kind says ----------------------------------------------------------------------

    def identity(self) -> str:
        """Return a content hash of the splits that are used, and of the lists.

        Raises
        ------
        registry.plan.contents.IdentityError
            If one of them is missing or cannot be read.
        ValueError
            If validation images are flat, and there is no list of their classes.
        """
        parts: dict[str, Path] = {split: self._folder(split) for split in self.splits}
        if self._is_listed:
            listed = self._list()
            if listed is None:
                raise ValueError(self._no_list())
            parts |= {"list": listed} | {path.name: path for path in self._beside()}
        found = {name: registry.content_identity(path) for name, path in parts.items()}
        return " ".join(f"{name} {digest}" for name, digest in found.items())

    def lacks(self) -> Callable[[Mapping[str, Any]], Iterable[str]]:
        """Return what tells of a task's configuration what it would fail for: splits, sizes."""
        return lacks_of(replace(self, on_error="raise").load)

    def remarks(self, images: ImageDataset) -> Iterator[Finding]:
        """Yield what differs from the published data, and what the list names and is not there."""
        for split in images.splits:
            found = of_official(split, len(images.ids(split)), self.sizes[split])
            if found is not None:
                yield found
        listed = self._list()
        if self._is_listed and listed is not None:
            yield from _not_there(listed, self._folder("val"))

    def load(self) -> FolderImages:
        """Find the images.

        Raises
        ------
        ImageDataError
            With everything that is wrong with them.
        """
        raise NotImplementedError

    # -- finding images ------------------------------------------------------------------------

    def _scan(self, known: Sequence[str], class_of: Callable[[str], str | None]) -> FolderScan:
        """Find the images.

        Parameters
        ----------
        known : sequence of str
            The classes, in order.
        class_of : callable
            Returns the class that a folder is of, by its path below that of the split.
        """
        scan = FolderScan(order=tuple(known))
        for split in self.splits:
            folder = self._folder(split)
            if not folder.is_dir():
                scan.faults.append(self._no_folder(split))
                continue
            scan.places[split] = folder.relative_to(self._root).as_posix().removeprefix(".")
            tree = ImageTree(folder)
            above = f"{scan.places[split]}/" if scan.places[split] else ""
            paths = scan.images_below(tree, at=above)
            if not len(paths):
                scan.faults.append(_no_images(split, folder))
            elif split == "val" and self._is_listed:
                scan.images[split] = {**self._listed(paths, known, scan)}
            else:
                scan.images[split] = _in_folders(split, tree, above, scan, class_of)
        return scan

    def _no_folder(self, split: str) -> str:
        other = "val" if split == "train" else "train"
        names = self.folders.get(split) or " or ".join(self.usual[split])
        return (
            f'split {split!r}: no folder {names}; folders = {{ {split} = "NAME" }} names another '
            f'one, splits = ["{other}"] leaves it out'
        )

    def _listed(self, paths: Paths, known: Sequence[str], scan: FolderScan) -> Mapping[str, Paths]:
        """Return flat images by the classes that a list has for them."""
        listed = self._list()
        if listed is None:
            scan.faults.append(self._no_list())
            return {}
        try:
            return listed_classes(paths, listed, known)
        except ValueError as error:
            scan.faults.append(str(error))
            return {}

    def _images(self, scan: FolderScan, names: str | None, groups: str | None) -> FolderImages:
        settings = ImageFolder(
            self.root,
            upright=self.upright,
            on_error=self.on_error,
            workers=self.workers,
            names=names,
            groups=groups,
            most_per_class=self.most_per_class,
            most=self.most,
            seed=self.seed,
        )
        return FolderImages(settings, scan)


# --- ImageNet -------------------------------------------------------------------------------

_TRUTH = "ILSVRC2012_validation_ground_truth.txt"


@registry.kind("datasets", "imagenet", provides="images")
@dataclass(frozen=True, kw_only=True)
class ImageNet(_Official):
    """ImageNet of 2012 as it is distributed: ``train/n01440764/…``, ``val`` in folders or flat.

    Classes are told by WordNet's numbers, never by their position: folders are called by them, and
    so are those of the lists of flat validation images. Names are those of the list ``imagenet``.

    Parameters
    ----------
    groups : bool
        Add its 400 superclasses as labels.
    root : str
        The folder with ``train`` and ``val``, or ``ILSVRC2012_img_train`` and
        ``ILSVRC2012_img_val``, or ``val_categorized``, or what Kaggle's archive holds; of a single
        split also the folder that holds its images. ``~`` is expanded.
    list : str or None
        The classes of flat validation images: of the development kit
        ``ILSVRC2012_validation_ground_truth.txt``, with ``meta.mat`` beside it; or lines of an
        image and its class, by WordNet's number or by its number from 0; or
        ``LOC_val_solution.csv``. Looked for in the folder by these names by default.
    """

    groups: bool = False

    usual: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "train": (
            *("train", "ILSVRC2012_img_train"),
            *("Data/CLS-LOC/train", "ILSVRC/Data/CLS-LOC/train"),
        ),
        "val": (
            *("val", "ILSVRC2012_img_val", "val_categorized"),
            *("Data/CLS-LOC/val", "ILSVRC/Data/CLS-LOC/val"),
        ),
    }
    lists = (
        *(f"ILSVRC2012_devkit_t12/data/{_TRUTH}", f"data/{_TRUTH}", _TRUTH),
        *("val.txt", "ILSVRC2012_val.txt", "LOC_val_solution.csv", "val_labels.txt"),
        "imagenet_2012_validation_synset_labels.txt",
    )
    sizes: ClassVar[Mapping[str, int]] = {"train": 1_281_167, "val": 50_000}
    inside = ("n[0-9]*", "ILSVRC2012_val_*")
    source = (
        "https://image-net.org/download.php has ILSVRC2012_img_val.tar (6.3 GB), the development "
        "kit ILSVRC2012_devkit_t12.tar.gz and ILSVRC2012_img_train.tar (138 GB, an archive for "
        "each class in it), under terms of access"
    )

    def _beside(self) -> Iterator[Path]:
        listed = self._list()
        if listed is not None and listed.with_name(META).is_file():
            yield listed.with_name(META)

    def load(self) -> FolderImages:
        """Find the images.

        Raises
        ------
        ImageDataError
            With everything that is wrong with them.
        """
        known = wordnet_numbers()
        numbers = {number: number for number in known}
        return self._images(
            self._scan(known, numbers.get), "imagenet", "imagenet" if self.groups else None
        )


# --- Places365 ------------------------------------------------------------------------------

_CATEGORIES = "categories_places365.txt"


@registry.kind("datasets", "places365", provides="images")
@dataclass(frozen=True, kw_only=True)
class Places365(_Official):
    """Places365 as it is distributed: ``val_256/`` with ``places365_val.txt``, ``data_256/a/…``.

    Names are those of the list ``places365``; the published list of categories, where it is there,
    is held against them, name by name.

    Parameters
    ----------
    root : str
        The folder with ``val_256`` (or ``val_large``), ``places365_val.txt`` and
        ``categories_places365.txt``, and ``data_256`` (or ``data_large``) for the split ``train``;
        folders ``train`` and ``val`` with one for each class are read too, and of a single split
        the folder that holds its images. ``~`` is expanded.
    list : str or None
        ``places365_val.txt``, where it lies elsewhere: an image and the number of its category,
        from 0, on each line.
    """

    usual: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "train": ("data_256", "data_256_standard", "data_large", "data_large_standard", "train"),
        "val": ("val_256", "val_large", "val"),
    }
    lists = ("places365_val.txt", "filelist_places365-standard/places365_val.txt")
    sizes: ClassVar[Mapping[str, int]] = {"train": 1_803_460, "val": 36_500}
    inside = ("Places365_val_*", "airfield", "a/airfield")
    source = (
        "http://places2.csail.mit.edu/download.html has val_256.tar (501 MB), "
        "filelist_places365-standard.tar with the lists, and train_256_places365standard.tar "
        "(24 GB), under its terms"
    )

    def _beside(self) -> Iterator[Path]:
        """Yield the published list of categories, where it lies with the others."""
        listed = self._list()
        folders = [self._root, *([listed.parent] if listed else []), self._root.parent]
        paths = (folder / _CATEGORIES for folder in folders)
        yield from islice((path for path in paths if path.is_file()), 1)

    def load(self) -> FolderImages:
        """Find the images.

        Raises
        ------
        ImageDataError
            With everything that is wrong with them.
        """
        known = read_names("places365")
        by_words = {plain(name): name for name in known}

        def class_of(folder: str) -> str | None:
            letter, _, rest = folder.partition("/")  # a/airfield
            return by_words.get(plain(rest if len(letter) == 1 else folder))

        scan = self._scan(known, class_of)
        for categories in self._beside():
            scan.faults += category_faults(categories, known)
        return self._images(scan, None, None)

    def remarks(self, images: ImageDataset) -> Iterator[Finding]:
        """Yield what differs from the published data, and whether its order of classes is ours."""
        yield from super().remarks(images)
        text = f"without {_CATEGORIES}, the order of classes is not held against the published one"
        for categories in self._beside():
            text = f"{categories} has the classes of the list places365, in its order"
        yield Finding(text, is_missing=False)


def category_faults(path: Path, known: Sequence[str]) -> Iterator[str]:
    """Yield where a published list of categories, ``/a/airfield 0``, differs from the names.

    Parameters
    ----------
    path : Path
        ``categories_places365.txt``.
    known : sequence of str
        The names, in order.
    """
    try:
        listed = read_list(path)
    except ValueError as error:
        yield str(error)
        return
    if len(listed) != len(known):
        yield f"{path} has {len(listed)} categories; expected {len(known)}"
    for category, number in listed.items():
        name = category.strip("/").partition("/")[2] or category
        expected = known[int(number)] if number.isdecimal() and int(number) < len(known) else ""
        if plain(name) != plain(expected):
            yield f"{path}: category {number} is {category!r}; expected {expected!r}"


# --- what both have in common ---------------------------------------------------------------


def _is_flat(folder: Path) -> bool:
    """Whether a folder holds no folders that could be classes."""
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:  # of 50,000 images, none of which is asked for its kind
        return not any(e.is_dir() and not e.name.startswith((".", "__")) for e in entries)


def _no_images(split: str, folder: Path) -> str:
    packed = sum(1 for path in folder.iterdir() if path.suffix == ".tar")
    hint = (
        f", but {counted(packed, 'archive')}: unpack each into a folder of its name"
        if packed
        else ""
    )
    return f"split {split!r} holds no images{hint}"


def _in_folders(
    split: str, tree: ImageTree, above: str, scan: FolderScan, class_of: Callable[[str], str | None]
) -> dict[str, Paths]:
    """Return images by the classes of the folders that they lie in."""
    found: dict[str, list[NDArray[np.str_]]] = {}
    unknown: dict[str, int] = {}
    for own, paths in tree.by_folder():
        name = class_of(own)
        if name is None:
            unknown[own] = len(paths)
        else:
            found.setdefault(name, []).append(with_prefix(above, paths))
    for own, count in list(unknown.items())[:_SHOWN]:
        where = f"folder {own!r}" if own else "no folder of a class"
        scan.faults.append(
            f"split {split!r}: {counted(count, 'image')} in {where}; expected one of its classes"
        )
    if len(unknown) > _SHOWN:
        scan.faults.append(f"split {split!r}: {len(unknown) - _SHOWN} more unknown folders")
    return {name: np.sort(np.concatenate(paths)) for name, paths in found.items()}


def _not_there(listed: Path, folder: Path) -> Iterator[Finding]:
    """Yield the images that a list names and that are not there."""
    there = {path.stem for path in folder.iterdir()}
    names = [Path(name).stem for name in read_list(listed)]  # none, if by the numbers of images
    lines = sum(bool(line.strip()) for line in listed.read_text("utf-8-sig").splitlines())
    lacking = [name for name in names if name not in there]
    if lacking:
        text = f"{len(lacking):,} of the {len(names):,} images that {listed} names are not in "
        yield Finding(f"{text}{folder}, as {lacking[0]}: unpack the archive again")
    elif not names and len(there) < lines:
        yield Finding(f"{folder} has {counted(len(there), 'image')}, {listed} classes of {lines:,}")
