"""CUB-200-2011: 11,788 photographs of 200 birds, with attributes, in the official layout.

Source: Wah, Branson, Welinder, Perona, Belongie, "The Caltech-UCSD Birds-200-2011 Dataset",
CNS-TR-2011-001, 2011. The 112 attributes of each class, ``class_attr_data_10``, are those of Koh et
al., "Concept Bottleneck Models", ICML 2020, arXiv 2007.04612.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

import registry
from fact.data.checking import of_official
from fact.data.folder import FolderImages, FolderScan, ImageFolder, lacks_of
from fact.data.images import ImageDataError, absent_splits, class_concepts, label_table
from fact.data.pickles import PickleError, read_pickle, require_keys
from fact.data.vocabulary import read_names
from registry.declare.requirements import Finding

if TYPE_CHECKING:
    import xarray as xr

FOLDER = "CUB_200_2011"
SIZES = {"train": 5_994, "test": 5_794}
PICKLES = ("train", "val", "test")
NAMES = "cub-attributes"
SHOWN = 3


@registry.kind("datasets", "cub", provides="images")
@dataclass(frozen=True, kw_only=True)
class CUB:
    """CUB-200-2011 as it is distributed: 200 birds, and their attributes as labels.

    Parameters
    ----------
    root : str
        The folder ``CUB_200_2011``, with ``images.txt``, ``classes.txt``,
        ``image_class_labels.txt``, ``train_test_split.txt`` and ``images/``, or the one that it
        lies in; relative to the folder of the declaration, ``~`` is expanded.
    attributes : str or None
        A folder as ``class_attr_data_10`` with ``test.pkl``, and ``train.pkl`` and ``val.pkl`` if
        they are used: 112 attributes of each bird, by the names of the list ``cub-attributes``.
        They are read as plain data, and nothing that they name is run. By default the 312 official
        ones of each photograph, where ``attributes/image_attribute_labels.txt`` is there.
    upright : bool
        Turn photographs as their EXIF orientation says; published numbers are of them as they lie.
    on_error : str
        ``raise``: broken files are an error when they are read. ``skip``: they are left out, at the
        cost of decoding every file once when the data set is loaded.
    workers : int
        Threads that decode; 0 takes one for each processor.
    """

    root: registry.Runtime[str]
    attributes: registry.Runtime[str | None] = None
    upright: bool = False
    on_error: Literal["raise", "skip"] = "raise"
    workers: registry.Runtime[Annotated[int, Field(ge=0)]] = 0

    source = (
        "https://data.caltech.edu/records/65de6-vp158 has CUB_200_2011.tgz (1.2 GB); "
        "class_attr_data_10 is in CUB_processed, which download_cub.sh of "
        "https://github.com/Trustworthy-ML-Lab/Neuron_Eval fetches"
    )

    @property
    def folder(self) -> Path:
        """The folder with the official lists."""
        given = Path(self.root).expanduser()
        return given / FOLDER if (given / FOLDER).is_dir() else given

    @property
    def pickles(self) -> dict[str, Path]:
        """The pickles of attributes that are there, by split."""
        if self.attributes is None:
            return {}
        folder = Path(self.attributes).expanduser()
        paths = {split: folder / f"{split}.pkl" for split in PICKLES}
        return {split: path for split, path in paths.items() if path.is_file()}

    def identity(self) -> str:
        """Return a content hash of the photographs, of the lists and of the attributes.

        Raises
        ------
        registry.plan.contents.IdentityError
            If one of them is missing or cannot be read.
        """
        parts = {name: self.folder / name for name in ("images", *_LISTS)}
        if self.attributes is not None:
            parts["attributes"] = Path(self.attributes).expanduser()
        else:
            official = self.folder / _OFFICIAL
            parts |= {_OFFICIAL: official} if official.is_file() else {}
        found = {name: registry.content_identity(path) for name, path in parts.items()}
        return " ".join(f"{name} {digest}" for name, digest in found.items())

    def load(self) -> CUBImages:
        """Read the lists, and the attributes of pickles.

        Raises
        ------
        ImageDataError
            With everything that is wrong with them.
        """
        return CUBImages(self)

    def lacks(self) -> Callable[[Mapping[str, Any]], Iterable[str]]:
        """Return what tells of a task's configuration what it would fail for: splits, sizes.

        Pickles of attributes take seconds to read, and are left to ``factbook data check``.
        """
        photographs = lacks_of(replace(self, attributes=None, on_error="raise").load)
        if self.attributes is None:
            return photographs
        splits = tuple(self.pickles)

        def look(config: Mapping[str, Any]) -> Iterator[str]:
            absent = list(absent_splits(splits, config))
            train = {
                key: "train" for key, split in config.items() if split == "val"
            }  # a part of it
            yield from absent or photographs({**config, **train})

        return look

    def remarks(self, images: CUBImages) -> Iterator[Finding]:
        """Yield which attributes there are, and what differs from the published data."""
        names = images.attribute_names
        text = f"{len(names)} attributes of each {'bird' if self.attributes else 'photograph'}"
        yield Finding(f"{text}, as {names[0]}" if names else "no attributes", is_missing=False)
        for split in set(images.splits) & set(SIZES) - ({"train"} if self.attributes else set()):
            found = of_official(split, len(images.ids(split)), SIZES[split])
            if found is not None:
                yield found


# --- official lists -------------------------------------------------------------------------

_LISTS = ("images.txt", "classes.txt", "image_class_labels.txt", "train_test_split.txt")
_OFFICIAL = "attributes/image_attribute_labels.txt"
_ATTRIBUTE_NAMES = ("attributes/attributes.txt", "attributes.txt", "../attributes.txt")


@dataclass
class _Lists:
    """The official lists: of each photograph by its number."""

    paths: dict[int, str] = field(default_factory=dict)
    classes: dict[int, str] = field(default_factory=dict)
    class_of: dict[int, int] = field(default_factory=dict)
    is_train: dict[int, int] = field(default_factory=dict)


def _pairs(path: Path, faults: list[str]) -> dict[int, str]:
    """Read lines of a number and what it stands for."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        cells = [line.split(None, 1) for line in lines if line.strip()]
        return {int(number): text.strip() for number, text in cells}
    except FileNotFoundError:
        faults.append(f"no file {path.name}")
    except (OSError, ValueError) as error:
        faults.append(f"{path.name} cannot be read: {error}; expected a number and more on a line")
    return {}


def _numbers(path: Path, faults: list[str]) -> dict[int, int]:
    pairs = _pairs(path, faults)
    try:
        return {number: int(text) for number, text in pairs.items()}
    except ValueError as error:
        faults.append(f"{path.name}: {error}; expected two numbers on a line")
        return {}


def _read_lists(folder: Path, faults: list[str]) -> _Lists:
    paths, classes = (_pairs(folder / name, faults) for name in _LISTS[:2])
    class_of, is_train = (_numbers(folder / name, faults) for name in _LISTS[2:])
    if faults:
        return _Lists()
    for name, found in ((_LISTS[2], class_of), (_LISTS[3], is_train)):
        lacking = [number for number in paths if number not in found]
        if lacking:
            faults.append(f"{name} lacks {len(lacking)} photographs, as number {lacking[0]}")
    for number, label in class_of.items():
        own = paths.get(number, "").partition("/")[0]
        if own and classes.get(label) != own:
            faults.append(
                f"photograph {number} lies in {own!r}, and its class is {label}, which classes.txt "
                f"calls {classes.get(label)!r}"
            )
    return _Lists(paths, classes, class_of, is_train)


def bird(folder: str) -> str:
    """Return the name of a bird by its folder's: ``001.Black_footed_Albatross``."""
    number, _, name = folder.partition(".")
    return (name if number.isdecimal() and name else folder).replace("_", " ")


# --- attributes of pickles ------------------------------------------------------------------


@dataclass
class _Attributes:
    """What pickles say: photographs by split, and the attributes of each, by path."""

    splits: dict[str, list[str]] = field(default_factory=dict)
    values: dict[str, list[int]] = field(default_factory=dict)


def _read_attributes(
    pickles: Mapping[str, Path], lists: _Lists, n_attributes: int, faults: list[str]
) -> _Attributes:
    found = _Attributes()
    numbers = {path: number for number, path in lists.paths.items()}
    for split, path in pickles.items():
        try:
            records = read_pickle(path)
            own = [_record(r, f"{path.name}, {i}", n_attributes) for i, r in enumerate(records)]
        except (PickleError, TypeError) as error:
            faults.append(str(error))
            continue
        told: list[str] = []
        for image, label, values in own:
            told += _record_faults(image, label, split, lists, numbers)
            if image in found.values:
                told.append(f"{path.name}: {image} occurs twice")
            found.values[image] = values
        faults += told[:SHOWN] + (
            [f"{len(told) - SHOWN} more in {path.name}"] * (len(told) > SHOWN)
        )
        found.splits[split] = sorted(image for image, _, _ in own)
    return found


def _record(record: Any, where: str, n_attributes: int) -> tuple[str, int, list[int]]:
    """Return the path below ``images``, the class from 0, and the attributes of a photograph."""
    found = require_keys(record, ("img_path", "class_label", "attribute_label"), where)
    values = [int(value) for value in found["attribute_label"]]
    if len(values) != n_attributes or not set(values) <= {0, 1}:
        raise PickleError(
            f"{where}: {len(values)} attributes of {min(values, default=0)} to "
            f"{max(values, default=0)}; expected {n_attributes} of 0 or 1"
        )
    parts = str(found["img_path"]).replace("\\", "/").split("/")
    return "/".join(parts[-2:]), int(found["class_label"]), values


def _record_faults(
    image: str, label: int, split: str, lists: _Lists, numbers: Mapping[str, int]
) -> Iterator[str]:
    """Yield where a record contradicts the official lists."""
    number = numbers.get(image)
    if number is None:
        yield f"{split}.pkl: images.txt has no {image!r}"
        return
    if lists.class_of[number] != label + 1:
        yield (
            f"{split}.pkl: {image} has class {label}, from 0; image_class_labels.txt has "
            f"{lists.class_of[number]}, from 1"
        )
    if lists.is_train[number] != (split != "test"):
        yield f"{split}.pkl: {image} is of the other split in train_test_split.txt"


def name_faults(names: Sequence[str], official: Sequence[str]) -> Iterator[str]:
    """Yield which names of attributes are none of the official ones, or in another order.

    Parameters
    ----------
    names : sequence of str
        Of the attributes that are used.
    official : sequence of str
        All 312, in their order.
    """
    position = {name: index for index, name in enumerate(official)}
    unknown = [name for name in names if name not in position]
    if unknown:
        yield f"attributes.txt has no {unknown[0]!r}, nor {len(unknown) - 1} others of the list"
        return
    places = [position[name] for name in names]
    if places != sorted(places):
        yield "attributes.txt has the attributes in another order than the list"


# --- the data set ---------------------------------------------------------------------------


class CUBImages(FolderImages):
    """Photographs of birds; labels are the birds, then the attributes.

    Ids are the split and the path below ``images``: "test/001.Black_footed_Albatross/….jpg". Splits
    are the official ones, or those of the pickles of attributes.

    Parameters
    ----------
    settings : CUB
        Where they are.

    Attributes
    ----------
    attribute_names : tuple of str
        As ``has_bill_shape::dagger``; empty where there are no attributes.

    Raises
    ------
    ImageDataError
        With everything that is wrong with the lists, the attributes, or missing photographs.
    """

    def __init__(self, settings: CUB):
        self._settings = settings
        faults: list[str] = []
        lists = self._lists = _read_lists(settings.folder, faults)
        official = self._official_names()
        self.attribute_names: tuple[str, ...] = ()
        self._values: dict[str, list[int]] = {}
        splits = self._official_splits()
        if settings.attributes is not None:
            self.attribute_names = read_names(NAMES)
            faults += name_faults(self.attribute_names, official) if official else ()
            if not settings.pickles:
                faults.append(f"no test.pkl, train.pkl or val.pkl in {settings.attributes}")
            if not faults:
                n_names = len(self.attribute_names)
                found = _read_attributes(settings.pickles, lists, n_names, faults)
                splits, self._values = found.splits, found.values
        elif (settings.folder / _OFFICIAL).is_file():
            self.attribute_names = official
            if not official:
                faults.append(f"{_OFFICIAL} is there, and attributes.txt, which names them, is not")
        scan = FolderScan(faults=faults, places=dict.fromkeys(splits, ""))
        scan.images = {split: {**_by_class(images)} for split, images in splits.items()}
        scan.faults += self._missing(splits)
        root = str(settings.folder / "images")
        folder = ImageFolder(
            root,
            upright=settings.upright,
            on_error=settings.on_error,
            workers=settings.workers,
        )
        super().__init__(folder, scan)
        self.classes = tuple(map(bird, self.classes))

    @property
    def _subject(self) -> str:
        return f"CUB in {self._settings.folder}"

    def _official_splits(self) -> dict[str, list[str]]:
        splits: dict[str, list[str]] = {"train": [], "test": []}
        for number, path in self._lists.paths.items():
            splits["train" if self._lists.is_train.get(number) else "test"].append(path)
        return splits

    def _missing(self, splits: Mapping[str, Sequence[str]]) -> Iterator[str]:
        folder = self._settings.folder / "images"
        if not folder.is_dir():
            yield "no folder images"
            return
        wanted = [path for images in splits.values() for path in images]
        lacking = [path for path in wanted if not (folder / path).is_file()]
        if lacking:
            yield (
                f"{len(lacking):,} of {len(wanted):,} photographs that images.txt names are not in "
                f"images, as {lacking[0]}: unpack the archive again"
            )

    def _official_names(self) -> tuple[str, ...]:
        """Return the names of the 312 attributes; none where their list is not there."""
        for name in _ATTRIBUTE_NAMES:
            path = self._settings.folder / name
            if path.is_file():
                return tuple(_pairs(path, []).values())
        return ()

    @cached_property
    def _official_values(self) -> dict[int, NDArray[np.bool_]]:
        """The official attributes of each photograph, by its number: whether one is present."""
        count = len(self.attribute_names)
        rows = {number: row for row, number in enumerate(sorted(self._lists.paths))}
        values = np.zeros((len(rows), count), bool)
        table = self._official_table()
        known = np.isin(table[:, 0], list(rows)) & (table[:, 1] >= 1) & (table[:, 1] <= count)
        numbers, attributes, present = table[known].T
        if known.sum() != values.size:
            fault = (
                f"{_OFFICIAL} has {known.sum():,} values of photographs and attributes that are "
                f"known; expected {values.size:,}"
            )
            raise ImageDataError(self._subject, [fault])
        values[[rows[number] for number in numbers.tolist()], attributes - 1] = present == 1
        return {number: values[row] for number, row in rows.items()}

    def _official_table(self) -> NDArray[np.int64]:
        """Return photograph, attribute, and whether it is present, (line, 3)."""
        path = self._settings.folder / _OFFICIAL
        try:
            return np.loadtxt(path, np.int64, usecols=(0, 1, 2), ndmin=2)  # lines vary in length
        except (OSError, ValueError) as error:
            raise ImageDataError(self._subject, [f"{_OFFICIAL} cannot be read: {error}"]) from error

    def concepts(self, split: str) -> xr.DataArray:
        """Return the birds, ``class:Black footed Albatross``, and the attributes, (image, label).

        Raises
        ------
        ImageDataError
            If the official attributes are not all there.
        """
        ids = self.ids(split)
        classes = class_concepts(ids, self.labels(split), self.classes)
        if not self.attribute_names:
            return classes
        paths = [self.path(image) for image in ids]
        if self._settings.attributes is not None:
            values = np.array([self._values[path] for path in paths], dtype=bool)
        else:
            numbers = {path: number for number, path in self._lists.paths.items()}
            values = np.array([self._official_values[numbers[path]] for path in paths])
        values = values.reshape(len(ids), len(self.attribute_names))
        names = [*classes["label"].values.tolist(), *self.attribute_names]
        return label_table(np.concatenate([classes.values, values], axis=1), ids, names)


def _by_class(images: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sorted(images):
        found.setdefault(path.partition("/")[0], []).append(path)
    return found
