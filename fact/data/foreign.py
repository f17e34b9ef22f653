"""Image data sets of other libraries: torchvision's by name, and Hugging Face's on disk."""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import AfterValidator

import registry
from fact.data.array_file import PARQUET
from fact.data.decoding import as_rgb, decode
from fact.data.images import (
    Geometry,
    Ids,
    ImageDataError,
    ImageIds,
    Pixels,
    absent_splits,
    class_concepts,
    in_geometry,
    numbered_ids,
)
from fact.data.saved import INFO, KEPT, saved_files
from fact.data.vocabulary import identity, read_names
from registry.declare.requirements import Extra, Package, Requirement
from registry.suggest import nearest
from registry.wording import counted, verb

if TYPE_CHECKING:
    import pyarrow as pa
    import xarray as xr

TORCHVISION = Extra(
    "networks",
    (Package("torchvision", least="0.22", why="its data sets"), Package("torch", least="2.7")),
)


class NumberedImages:
    """Images that are told apart by split and number; ids are "train/00000" and so on.

    Parameters
    ----------
    name : str
        What the data set is called.
    classes : sequence of str
        Names of the classes.
    labels : mapping of str to ndarray of int, (image,)
        Split to the class of each image.
    fetch : callable
        Returns an image, uint8 (y, x, colour), by split and number.
    """

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        labels: Mapping[str, NDArray[np.int64]],
        fetch: Callable[[str, int], Pixels],
    ):
        self.name, self.classes = name, tuple(classes)
        self._labels, self._fetch = dict(labels), fetch
        ids = {split: numbered_ids(split, len(own)) for split, own in labels.items()}
        self._index = ImageIds(name, ids)
        self.splits = self._index.splits

    def ids(self, split: str) -> Ids:
        """Return the ids of a split, (image,), in its own order."""
        return self._index.ids(split)

    def labels(self, split: str) -> NDArray[np.int64]:
        """Return the class of each image of a split, (image,)."""
        self._index.ids(split)  # knows which splits there are
        return self._labels[split].copy()

    def read(self, ids: Sequence[str] | Ids, geometry: Geometry | None = None) -> Pixels:
        """Return images by id, uint8 RGB (image, y, x, colour).

        Raises
        ------
        ImageDataError
            With every image that is broken.
        """
        self._index.rows(ids)
        names = [str(image) for image in np.asarray(ids).ravel()]
        images, faults = [], []
        for name in names:
            split, _, number = name.rpartition("/")
            try:
                pixels = self._fetch(split, int(number))
            except (OSError, ValueError) as error:
                faults.append(f"{name}: {error}")
            else:
                images.append(geometry.apply(pixels) if geometry else pixels)
        if faults:
            raise ImageDataError(self.name, faults)
        return in_geometry(images, None)

    def concepts(self, split: str) -> xr.DataArray:
        """Return the classes, bool (image, label)."""
        return class_concepts(self.ids(split), self.labels(split), self.classes)

    def masks(self, ids: Sequence[str] | Ids, geometry: Geometry | None = None) -> None:
        """Return None: nothing is known of where objects are."""
        self._index.rows(ids)


def _by_name(
    classes: Mapping[str, Sequence[str]], labels: Mapping[str, NDArray[np.int64]]
) -> tuple[tuple[str, ...], dict[str, NDArray[np.int64]]]:
    """Return classes of all splits, and labels that mean the same in each, by the names.

    Raises
    ------
    ValueError
        If a label is of no class.
    """
    every = tuple(dict.fromkeys(name for names in classes.values() for name in names))
    place = {name: index for index, name in enumerate(every)}
    found = {}
    for split, own in labels.items():
        names = classes[split]
        if len(own) and not 0 <= own.min() <= own.max() < len(names):
            raise ValueError(
                f"labels of {split} are {own.min()} to {own.max()}; there "
                f"{verb(len(names), 'is', 'are')} {counted(len(names), 'name')}"
            )
        found[split] = np.array([place[name] for name in names], np.int64)[own]
    return every, found


# --- torchvision ----------------------------------------------------------------------------


def _no_download(settings: dict[str, Any]) -> dict[str, Any]:
    refused = {"download", "transform", "transforms", "target_transform", "root"} & set(settings)
    if refused:
        raise ValueError(f"{sorted(refused)[0]} is not a setting here")
    return settings


@registry.kind("datasets", "torchvision", provides="images")
@dataclass(frozen=True, kw_only=True)
class TorchvisionDataset:
    """A data set of ``torchvision.datasets`` by its name, from files on this machine.

    Parameters
    ----------
    dataset : str
        Name of the class, as ``Flowers102``; of images with one class each.
    root : str or None
        The folder that the class calls so, relative to that of the declaration; ``~`` is expanded.
        Nothing is ever downloaded. All files in it are taken for the data.
    splits : dict of str to str
        Splits, each to the class's own ``split``: ``{ train = "train", val = "val" }``; ``train``
        and ``test`` by default. Of classes that take ``train`` they are always those two, and of
        those that take neither, ``all`` is the only one.
    settings : dict
        More of what the class takes, as ``{ split = "letters" }`` of EMNIST.
    names : str or None
        Names of the classes, ``imagenet``, ``places365`` or a text file with one on each line,
        where the class does not know them.
    """

    dataset: str
    root: registry.Runtime[str | None] = None
    splits: dict[str, str] = field(default_factory=dict)
    settings: Annotated[dict[str, Any], AfterValidator(_no_download)] = field(default_factory=dict)
    names: registry.Runtime[str | None] = None

    @property
    def source(self) -> str:
        """How the files can be had."""
        made = f'torchvision.datasets.{self.dataset}("{self.root}", download=True)'
        return f"where torchvision can fetch them, {made} does"

    def identity(self) -> str:
        """Return a content hash of the folder; "" where there is none.

        Raises
        ------
        registry.plan.contents.IdentityError
            If it is missing or cannot be read.
        """
        parts = [registry.content_identity(self.root)] if self.root else []
        if self.names:
            parts.append(f"names {identity(self.names) or self.names}")
        return " ".join(parts)

    def requires(self) -> Iterator[Requirement]:
        """Yield the package."""
        yield TORCHVISION

    def load(self) -> NumberedImages:
        """Open the data set.

        Raises
        ------
        ImageDataError
            If torchvision has no such data set, does not find its files, or knows no classes.
        """
        subject = f"torchvision's {self.dataset}"
        try:
            taken = inspect.signature(self._class).parameters
            options = self._options(taken)
            parts = {split: self._open(own, taken) for split, own in options.items()}
            labels = {split: _targets(part) for split, part in parts.items()}
            names = {split: self._names(part, labels[split]) for split, part in parts.items()}
            classes, labels = _by_name(names, labels)
        except (OSError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise ImageDataError(subject, [" ".join(str(error).split())]) from error

        def fetch(split: str, number: int) -> Pixels:
            return _pixels(parts[split][number][0])

        return NumberedImages(subject, classes, labels, fetch)

    @cached_property
    def _class(self) -> Any:
        from torchvision import datasets

        if self.dataset not in datasets.__all__:
            raise ValueError(f"there is no such data set{nearest(self.dataset, datasets.__all__)}")
        return getattr(datasets, self.dataset)

    def lacks(self) -> Callable[[Mapping[str, Any]], Iterable[str]]:
        """Return what tells of a task's configuration which splits are not there."""
        try:
            splits = tuple(self._options(taken_by(self.dataset)))
        except ValueError as error:
            wrong = f"torchvision's {self.dataset}: {error}"
            return lambda config: [wrong]
        return partial(absent_splits, splits)

    def _options(self, taken: Collection[str]) -> dict[str, dict[str, Any]]:
        if "train" in taken and "train" not in self.settings:
            if self.splits:
                raise ValueError("its splits are train and test; leave `splits` out")
            return {"train": {"train": True}, "test": {"train": False}}
        if "split" in taken and "split" not in self.settings:
            chosen = self.splits or {"train": "train", "test": "test"}
            return {split: {"split": own} for split, own in chosen.items()}
        if self.splits:
            raise ValueError("it has no splits; leave `splits` out")
        return {"all": {}}

    def _open(self, options: Mapping[str, Any], taken: Collection[str]) -> Any:
        given = {**self.settings, **options}
        if "root" in taken:
            if self.root is None:
                raise ValueError("it needs a `root`")
            given["root"] = str(Path(self.root).expanduser())
        if "download" in taken:
            given["download"] = False
        return self._class(**given)

    def _names(self, part: Any, labels: NDArray[np.int64]) -> Sequence[str]:
        if self.names:
            return read_names(self.names)
        known = getattr(part, "classes", None) or getattr(part, "categories", None)
        if known and all(isinstance(name, str) for name in known):
            return list(known)
        return [str(number) for number in range(int(labels.max(initial=-1)) + 1)]


def taken_by(dataset: str) -> Collection[str]:
    """Return the names of what a class of ``torchvision.datasets`` takes; torch is not imported.

    Raises
    ------
    ValueError
        If there is no such class.
    """
    classes = _declared_classes()
    if dataset not in classes:
        raise ValueError(f"there is no such data set{nearest(dataset, classes)}")
    waiting = [dataset]
    for name in waiting:
        taken, bases = classes[name]
        if taken is not None:
            return taken
        waiting += [base for base in bases if base in classes]
    return ()


@cache
def _declared_classes() -> dict[str, tuple[list[str] | None, list[str]]]:
    """Return what each class of ``torchvision.datasets`` itself takes, if it says, and bases."""
    spec = find_spec("torchvision")
    folders = (spec.submodule_search_locations if spec else None) or ()
    return {
        node.name: (_taken(node), [base.id for base in node.bases if isinstance(base, ast.Name)])
        for folder in folders
        for path in sorted(Path(folder, "datasets").glob("*.py"))
        for node in ast.parse(path.read_bytes()).body
        if isinstance(node, ast.ClassDef)
    }


def _taken(node: ast.ClassDef) -> list[str] | None:
    """Return the names of what a class is made with, None where it defines no ``__init__``."""
    for made in node.body:
        if isinstance(made, ast.FunctionDef) and made.name == "__init__":
            return [each.arg for each in (*made.args.args, *made.args.kwonlyargs)]
    return None


def _targets(part: Any) -> NDArray[np.int64]:
    """Return the class of each image: as the data set lists them, or by reading it through."""
    ends = sorted({0, len(part) - 1}) if len(part) else []
    for name in ("targets", "_labels", "labels", "y"):
        listed = getattr(part, name, None)
        if listed is not None and len(listed) == len(part):
            found = np.asarray(listed)
            if found.ndim == 1 and all(found[i] == part[i][1] for i in ends):
                return found.astype(np.int64)
    read = [part[index][1] for index in range(len(part))]
    if not all(isinstance(label, (int, np.integer)) for label in read):
        raise ValueError(f"its labels are {type(read[0]).__name__}; expected one class an image")
    return np.array(read, np.int64)


def _pixels(image: Any) -> Pixels:
    if isinstance(image, Image.Image):
        return as_rgb(image)
    raise ValueError(f"an image is a {type(image).__name__}; expected one of Pillow")


# --- Hugging Face ---------------------------------------------------------------------------

_SHARD = re.compile(r"(?P<split>.+?)-\d+-of-\d+(-[0-9a-f]+)?")
"""How the hub calls a file of a split; older ones end in a hash."""


@registry.kind("datasets", "hugging-face", provides="images")
@dataclass(frozen=True, kw_only=True)
class HuggingFaceDataset:
    """Images that Hugging Face's ``datasets`` keeps on the disk, or files of parquet of its hub.

    Parameters
    ----------
    path : str
        A folder that ``save_to_disk`` wrote, or that in which ``load_dataset`` keeps a data set
        (``NAME-train.arrow`` beside ``dataset_info.json``), or with ``….parquet`` as a repository
        of the hub has them, ``data/train-00000-of-00002.parquet``; relative to the folder of the
        declaration.
    image, label : str or None
        The columns, where there are several of images, or of classes.
    names : str or None
        Names of the classes, ``imagenet``, ``places365`` or a text file with one on each line,
        where the data set does not say them.
    upright : bool
        Turn images as their EXIF orientation says, as that library does.
    """

    path: registry.Runtime[str]
    image: str | None = None
    label: str | None = None
    names: registry.Runtime[str | None] = None
    upright: bool = True

    source = (
        'datasets.load_dataset("NAME").save_to_disk("FOLDER") makes such a folder; '
        "huggingface-cli download NAME --repo-type dataset fetches a repository's files"
    )

    def identity(self) -> str:
        """Return a content hash of the folder.

        Raises
        ------
        registry.plan.contents.IdentityError
            If it is missing or cannot be read.
        """
        found = registry.content_identity(self.path)
        return f"{found} names {identity(self.names) or self.names}" if self.names else found

    def requires(self) -> Iterator[Requirement]:
        """Yield the package that reads the files."""
        yield PARQUET

    def lacks(self) -> Callable[[Mapping[str, Any]], Iterable[str]]:
        """Return what tells of a task's configuration which splits are not there."""
        try:
            splits = tuple(split_files(Path(self.path).expanduser()))
        except (OSError, ValueError, KeyError) as error:
            wrong = f"data set of Hugging Face {self.path}: {error}"
            return lambda config: [wrong]
        return partial(absent_splits, splits)

    def load(self) -> NumberedImages:
        """Open the files; images are read from disk as they are asked for.

        Raises
        ------
        ImageDataError
            If they cannot be read, or have no column of images or of classes.
        """
        subject = f"data set of Hugging Face {self.path}"
        try:
            tables = open_tables(Path(self.path).expanduser())
            features = {split: table.features for split, table in tables.items()}
            image = {s: _column(f, "Image", self.image) for s, f in features.items()}
            label = {s: _column(f, "ClassLabel", self.label) for s, f in features.items()}
            labels, names = {}, {}
            for split, table in tables.items():
                labels[split], names[split] = self._labels(table, label[split])
            classes, labels = _by_name(names, labels)
        except (OSError, ValueError, KeyError) as error:
            raise ImageDataError(subject, [" ".join(str(error).split())]) from error

        def fetch(split: str, number: int) -> Pixels:
            return self._decoded(tables[split].value(image[split], number))

        return NumberedImages(subject, classes, labels, fetch)

    def _labels(self, table: Table, column: str) -> tuple[NDArray[np.int64], Sequence[str]]:
        values = table.column(column)
        named = table.features.get(column, {}).get("names")
        if values and all(isinstance(value, str) for value in values):
            names = sorted(set(values))
            place = {name: index for index, name in enumerate(names)}
            return np.array([place[value] for value in values], np.int64), names
        if any(value is None for value in values):
            raise ValueError(f"column {column!r} has images without a class")
        labels = np.array(values, np.int64)
        if self.names is not None:
            return labels, read_names(self.names)
        if named is None:
            raise ValueError(f"column {column!r} has numbers; name the classes by `names`")
        return labels, list(named)

    def _decoded(self, value: Any) -> Pixels:
        if not isinstance(value, Mapping) or not (value.get("bytes") or value.get("path")):
            raise ValueError("no bytes and no path of an image")
        if value.get("bytes"):
            return decode(io.BytesIO(value["bytes"]), self.upright)
        return decode(Path(self.path).expanduser() / value["path"], self.upright)


class Table:
    """One split: what its columns are, and their values.

    Parameters
    ----------
    features : mapping of str to dict
        Column to what it is, as ``{"_type": "ClassLabel", "names": […]}``.
    parts : sequence of callable
        Each opens some rows: given names of columns, all of them by default, returns a table.
    counts : sequence of int
        Rows of each.
    """

    def __init__(
        self,
        features: Mapping[str, dict[str, Any]],
        parts: Sequence[Callable[[list[str]], pa.Table]],
        counts: Sequence[int],
    ):
        self.features = features
        self._parts, self._ends = parts, np.cumsum(counts)
        self._held: tuple[int, str, Any] = (-1, "", None)
        self._lock = threading.Lock()

    def column(self, name: str) -> list[Any]:
        """Return all values of a column."""
        return [value for part in self._parts for value in part([name])[name].to_pylist()]

    def value(self, name: str, row: int) -> Any:
        """Return one value; the part that it is in is kept for the next."""
        index = int(np.searchsorted(self._ends, row, side="right"))
        start = int(self._ends[index - 1]) if index else 0
        with self._lock:
            if self._held[:2] != (index, name):
                self._held = (index, name, self._parts[index]([name])[name])
            return self._held[2][row - start].as_py()


def open_tables(folder: Path) -> dict[str, Table]:
    """Open the splits of a folder of ``datasets``, or of files of parquet.

    Parameters
    ----------
    folder : Path
        Where they lie.

    Raises
    ------
    ValueError
        If it is neither, or was saved with a selection of rows beside it.
    OSError
        If a file is missing or damaged.
    """
    return {
        split: _saved(own) if all(path.suffix == ".arrow" for path in own) else _parquet(own)
        for split, own in split_files(folder).items()
    }


def split_files(folder: Path) -> dict[str, list[Path]]:
    """Return the files of each split, of Arrow as ``datasets`` keeps them, or of parquet.

    Parameters
    ----------
    folder : Path
        Where they lie.

    Raises
    ------
    ValueError
        If it holds neither, or was saved with a selection of rows beside it.
    """
    if files := saved_files(folder):
        return files
    for path in sorted(folder.rglob("*.parquet")):
        shard = _SHARD.fullmatch(path.stem)
        own = path.stem if path.parent in (folder, folder / "data") else path.parent.name
        files.setdefault(shard["split"] if shard else own, []).append(path)
    if not files:
        raise ValueError(f"it holds {KEPT}")
    return files


def _saved(paths: Sequence[Path]) -> Table:
    import pyarrow as pa

    info = json.loads(paths[0].with_name(INFO).read_text(encoding="utf-8")) if paths else {}
    tables: list[pa.Table] = []
    for path in paths:
        with pa.memory_map(str(path)) as source:
            tables.append(pa.ipc.open_stream(source).read_all())
    parts = [table.select for table in tables]
    return Table(info.get("features") or {}, parts, [table.num_rows for table in tables])


def _parquet(paths: Sequence[Path]) -> Table:
    import pyarrow.parquet as pq

    parts: list[Callable[[list[str]], pa.Table]] = []
    counts: list[int] = []
    features: dict[str, Any] = {}
    for path in paths:
        file = pq.ParquetFile(path)
        told = (file.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
        features = features or json.loads(told).get("info", {}).get("features", {})
        for group in range(file.num_row_groups):
            parts.append(partial(_row_group, file, group))
            counts.append(file.metadata.row_group(group).num_rows)
    return Table(features, parts, counts)


def _row_group(file: Any, group: int, names: list[str]) -> pa.Table:
    return file.read_row_group(group, columns=names)


def _column(features: Mapping[str, Any], kind: str, chosen: str | None) -> str:
    """Return the column that is chosen, or the only one of a kind."""
    if chosen is not None:
        if chosen not in features:
            raise ValueError(f"no column {chosen!r}{nearest(chosen, features)}")
        return chosen
    found = [name for name, feature in features.items() if _type(feature) == kind]
    key = "image" if kind == "Image" else "label"
    if not found and key in features:
        return key
    if len(found) != 1:
        listed = ", ".join(found) or f"none; it has {', '.join(features) or 'no columns'}"
        raise ValueError(f"columns of {kind}: {listed}; say which by `{key}`")
    return found[0]


def _type(feature: Any) -> str:
    return str(feature.get("_type", "")) if isinstance(feature, Mapping) else ""
