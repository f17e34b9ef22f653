"""CIFAR-10 and CIFAR-100: 60,000 photographs of 32 x 32 pixels, in the official files for Python.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

import registry
from fact.data.checking import of_official
from fact.data.config import Count
from fact.data.images import (
    FixedSplits,
    Geometry,
    Ids,
    ImageDataError,
    ImageDataset,
    ImageIds,
    Pixels,
    class_concepts,
    in_geometry,
    numbered_ids,
)
from fact.data.pickles import PickleError, as_text, read_pickle, require_keys
from registry.declare.requirements import Finding
from registry.wording import counted

if TYPE_CHECKING:
    import xarray as xr

SIDE = 32
SIZES = {"train": 50_000, "test": 10_000}


@dataclass(frozen=True, kw_only=True)
class _CIFAR(FixedSplits):
    """Keys of both.

    Parameters
    ----------
    root : str
        The folder with the official files for Python, or the one that it lies in; relative to the
        folder of the declaration, ``~`` is expanded.
    n_train, n_test : int or None
        How many images to take of each split, from the first; None takes all.
    """

    folder_name: ClassVar[str]
    files: ClassVar[Mapping[str, tuple[str, ...]]]
    meta: ClassVar[str]
    label_key: ClassVar[str]
    names_key: ClassVar[str]
    order: ClassVar[tuple[str, ...]] = ()
    splits = tuple(SIZES)

    root: registry.Runtime[str]
    n_train: Count | None = None
    n_test: Count | None = None

    @property
    def folder(self) -> Path:
        """The folder with the files."""
        given = Path(self.root).expanduser()
        inner = given / self.folder_name
        return inner if inner.is_dir() else given

    def identity(self) -> str:
        """Return a content hash of the files.

        Raises
        ------
        registry.plan.contents.IdentityError
            If one is missing or cannot be read.
        """
        files = [name for names in self.files.values() for name in names]
        found = {name: registry.content_identity(self.folder / name) for name in files}
        found[self.meta] = registry.content_identity(self.folder / self.meta)
        return " ".join(f"{name} {digest}" for name, digest in found.items())

    def load(self) -> CIFARImages:
        """Read the files into memory, 184 MB.

        Raises
        ------
        ImageDataError
            With everything that is wrong with them.
        """
        return CIFARImages(self)

    def remarks(self, images: ImageDataset) -> Iterator[Finding]:
        """Yield what differs from the published data."""
        limits = {"train": self.n_train, "test": self.n_test}
        for split, size in SIZES.items():
            found = of_official(split, len(images.ids(split)), limits[split] or size)
            if found is not None:
                yield found


@registry.kind("datasets", "cifar10", provides="images")
@dataclass(frozen=True, kw_only=True)
class CIFAR10(_CIFAR):
    """CIFAR-10: ``cifar-10-batches-py`` with ``data_batch_1`` to ``5``, ``test_batch`` and names.

    The files are pickles; they are read as plain data, and nothing that they name is run.
    """

    folder_name = "cifar-10-batches-py"
    files: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
        "test": ("test_batch",),
    }
    meta, label_key, names_key = "batches.meta", "labels", "label_names"
    order = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )
    source = (
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz (170 MB), to be unpacked there"
    )


@registry.kind("datasets", "cifar100", provides="images")
@dataclass(frozen=True, kw_only=True)
class CIFAR100(_CIFAR):
    """CIFAR-100: ``cifar-100-python`` with ``train``, ``test`` and ``meta``; 20 groups of classes.

    The files are pickles; they are read as plain data, and nothing that they name is run.
    """

    folder_name = "cifar-100-python"
    files: ClassVar[Mapping[str, tuple[str, ...]]] = {"train": ("train",), "test": ("test",)}
    meta, label_key, names_key = "meta", "fine_labels", "fine_label_names"
    source = (
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz (169 MB), to be unpacked there"
    )


COARSE, COARSE_NAMES = "coarse_labels", "coarse_label_names"


class CIFARImages:
    """The images of CIFAR in memory; ids are "train/00000" and so on, in the files' order.

    Parameters
    ----------
    settings : CIFAR10 or CIFAR100
        Where they are.

    Attributes
    ----------
    groups : dict of str to tuple of str
        CIFAR-100's 20 groups, to the names of their classes; none of CIFAR-10.

    Raises
    ------
    ImageDataError
        With everything that is wrong with the files.
    """

    splits = tuple(SIZES)

    def __init__(self, settings: _CIFAR):
        self.name = settings.folder_name.rpartition("-")[0].replace("-batches", "")
        self._folder, self._settings = settings.folder, settings
        faults: list[str] = []
        meta = self._read(settings.meta, [settings.names_key], faults)
        self.classes = tuple(map(as_text, meta.get(settings.names_key, ())))
        order = settings.order
        if self.classes != order and set(self.classes) == set(order):
            faults.append(
                f"{settings.meta} has the classes in another order than the published one"
            )
        limits = {"train": settings.n_train, "test": settings.n_test}
        parts = {
            split: self._split(names, limits[split], faults)
            for split, names in settings.files.items()
        }
        if not faults:
            faults += self._label_faults(parts)
        if faults:
            raise ImageDataError(f"CIFAR in {self._folder}", faults)
        ids = {s: numbered_ids(s, len(part[0])) for s, part in parts.items()}
        self._index = ImageIds(self.name, ids)
        self._pixels, self._labels, coarse = (
            np.concatenate(column) for column in zip(*parts.values(), strict=True)
        )
        self.groups = _groups(self._labels, coarse, self.classes, meta.get(COARSE_NAMES, ()))

    def _read(self, name: str, keys: Sequence[str], faults: list[str]) -> Mapping[str, Any]:
        path = self._folder / name
        try:
            return require_keys(read_pickle(path), keys, str(path))
        except PickleError as error:
            faults.append(str(error))
            return {}

    def _split(
        self, names: Sequence[str], most: int | None, faults: list[str]
    ) -> tuple[Pixels, NDArray[np.int64], NDArray[np.int64]]:
        """Return pixels, labels and coarse labels (-1 without) of a split's files."""
        pixels, labels, coarse = [np.zeros((0, 3, SIDE, SIDE), np.uint8)], [], []
        for name in names:
            found = self._read(name, ["data", self._settings.label_key], faults)
            if not found:
                continue
            data, own = np.asarray(found["data"]), list(found[self._settings.label_key])
            if data.dtype != np.uint8 or data.shape != (len(own), 3 * SIDE * SIDE):
                faults.append(
                    f"{self._folder / name} has data {data.shape} of {data.dtype} and {len(own)} "
                    f"labels; expected ({len(own)}, {3 * SIDE * SIDE}) of uint8"
                )
                continue
            pixels.append(data.reshape(-1, 3, SIDE, SIDE))
            labels += own
            coarse += list(found.get(COARSE, [-1] * len(own)))
        every = np.concatenate(pixels).transpose(0, 2, 3, 1)[:most]
        return every, np.array(labels, np.int64)[:most], np.array(coarse, np.int64)[:most]

    def _label_faults(self, parts: Mapping[str, tuple[Any, ...]]) -> Iterator[str]:
        for split, (_, labels, _) in parts.items():
            if len(labels) and not (labels.min() >= 0 and labels.max() < len(self.classes)):
                yield (
                    f"labels of {split} are {labels.min()} to {labels.max()}; "
                    f"{self._settings.meta} names {counted(len(self.classes), 'class')}"
                )

    def ids(self, split: str) -> Ids:
        """Return the ids of a split, (image,), in the order of the files."""
        return self._index.ids(split)

    def labels(self, split: str) -> NDArray[np.int64]:
        """Return the class of each image of a split, (image,)."""
        return self._labels[self._index.slice(split)]

    def read(self, ids: Sequence[str] | Ids, geometry: Geometry | None = None) -> Pixels:
        """Return images by id, uint8 RGB (image, y, x, colour)."""
        return in_geometry(self._pixels[self._index.rows(ids)], geometry)

    def concepts(self, split: str) -> xr.DataArray:
        """Return the classes and the groups of classes, bool (image, label)."""
        return class_concepts(self.ids(split), self.labels(split), self.classes, self.groups)

    def masks(self, ids: Sequence[str] | Ids, geometry: Geometry | None = None) -> None:
        """Return None: nothing is known of where objects are."""
        self._index.rows(ids)


def _groups(
    labels: NDArray[np.int64],
    coarse: NDArray[np.int64],
    classes: Sequence[str],
    names: Sequence[str],
) -> dict[str, tuple[str, ...]]:
    """Return the classes of each group, of two at least, as images say which are whose."""
    pairs = sorted({(int(c), int(f)) for c, f in zip(coarse, labels, strict=True) if c >= 0})
    found: dict[str, list[str]] = {}
    for group, label in pairs:
        if group < len(names):
            found.setdefault(as_text(names[group]), []).append(classes[label])
    return {group: tuple(members) for group, members in found.items() if len(members) > 1}
