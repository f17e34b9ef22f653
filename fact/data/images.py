"""Data sets of images with class, concept and mask labels; their geometry and their reading."""

from __future__ import annotations

import bisect
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from registry.suggest import nearest
from registry.wording import counted

if TYPE_CHECKING:
    import xarray as xr

    from registry import Run, ShardWriter

Ids = NDArray[np.str_]
Pixels = NDArray[np.uint8]


class ImageDataError(ValueError):
    """Everything that is wrong with a data set of images, one entry of ``faults`` for each.

    Parameters
    ----------
    subject : str
        What is at fault, as "image folder /data/birds".
    faults : iterable of str
        What is wrong with it; the message shows the first twenty.
    """

    shown = 20

    def __init__(self, subject: str, faults: Iterable[str]):
        self.subject = subject
        self.faults = tuple(faults)
        lines = [f"  {fault}" for fault in self.faults[: self.shown]]
        if len(self.faults) > self.shown:
            lines.append(f"  … and {len(self.faults) - self.shown} more")
        count = counted(len(self.faults), "fault")
        super().__init__("\n".join([f"{subject}: {count}", *lines]))

    def __reduce__(self) -> tuple[type[ImageDataError], tuple[str, tuple[str, ...]]]:
        return type(self), (self.subject, self.faults)


@dataclass(frozen=True)
class Geometry:
    """How an image is brought to the size that a network reads.

    The same pixels as torchvision's ``Resize(resize)`` and ``CenterCrop(crop)`` give on a PIL
    image: bilinear with antialiasing, and black around images smaller than the crop.

    Attributes
    ----------
    resize : int or None
        Length of the shorter side, in pixels; None leaves the size.
    crop : int or None
        Side of the square cut from the centre, in pixels; None leaves the whole image.
    """

    resize: int | None = None
    crop: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("resize", self.resize), ("crop", self.crop)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is a number of pixels, at least 1; got {value}")

    def apply(self, image: Pixels) -> Pixels:
        """Return one image, uint8 (y, x, colour) or (y, x), in this geometry."""
        return self._cropped(self._resized(image))

    def apply_mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a mask (y, x) in this geometry: true where at least half a pixel was."""
        return self.apply(np.where(mask, 255, 0).astype(np.uint8)) >= 128

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width that an image has in this geometry, in pixels."""
        return (self.crop, self.crop) if self.crop else self._resized_to(height, width)

    def _resized_to(self, height: int, width: int) -> tuple[int, int]:
        if self.resize is None:
            return height, width
        long = int(self.resize * max(height, width) / min(height, width))
        return (long, self.resize) if width <= height else (self.resize, long)

    def _resized(self, image: Pixels) -> Pixels:
        height, width = image.shape[:2]
        if self.resize is None or min(height, width) == self.resize:
            return image
        size = self._resized_to(height, width)[::-1]
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))

    def _cropped(self, image: Pixels) -> Pixels:
        if self.crop is None:
            return image
        missing = [max(self.crop - length, 0) for length in image.shape[:2]]
        if any(missing):
            edges = [(gap // 2, (gap + 1) // 2) for gap in missing]
            image = np.pad(image, [*edges, *[(0, 0)] * (image.ndim - 2)])
        # Python and torchvision round halves to even here.
        top, left = (round((length - self.crop) / 2) for length in image.shape[:2])
        return image[top : top + self.crop, left : left + self.crop]


@runtime_checkable
class ImageDataset(Protocol):
    """A data set of RGB images, every one with an id, a class and binary concept labels.

    Attributes
    ----------
    name : str
        Its kind, as "fashion-mnist".
    classes : tuple of str
        Names of the classes; `labels` are indices into it.
    splits : tuple of str
        Names of the splits, as ``("train", "test")``.
    """

    name: str
    classes: tuple[str, ...]
    splits: tuple[str, ...]

    def ids(self, split: str) -> Ids:
        """Return the ids of a split, (image,), as "test/00042"; always in the same order."""

    def labels(self, split: str) -> NDArray[np.int64]:
        """Return the class of each image of a split, (image,), in the order of `ids`."""

    def read(self, ids: Sequence[str] | Ids, geometry: Geometry | None = None) -> Pixels:
        """Return images by id, uint8 RGB (image, y, x, colour).

        Raises
        ------
        KeyError
            If an id is unknown; with the nearest one.
        """

    def concepts(self, split: str) -> xr.DataArray:
        """Return what each image shows, (image, label): bool, or float32 in [0, 1].

        Labels are named by group and value, as "class:star" or "colour:red"; the classes are
        always among them.
        """

    def masks(
        self, ids: Sequence[str] | Ids, geometry: Geometry | None = None
    ) -> xr.Dataset | None:
        """Return where each labelled object is, or None where that is unknown.

        Returns
        -------
        Dataset or None
            ``mask`` (image, object, y, x) bool, and ``carries`` (image, object, label) bool:
            the labels of each object. An object that an image lacks has an empty mask and no
            label.
        """


class ImageIds:
    """The ids of a data set: in order by split, and the row of each over all splits.

    Parameters
    ----------
    name : str
        Of the data set, for errors.
    ids : mapping of str to sequence of str
        Split to ids.
    """

    def __init__(self, name: str, ids: Mapping[str, Sequence[str] | Ids]):
        self.name = name
        self._ids = {split: _as_ids(members) for split, members in ids.items()}

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self._ids)

    def ids(self, split: str) -> Ids:
        """Return the ids of a split; an unknown one is a KeyError with the nearest name."""
        if split not in self._ids:
            raise KeyError(f"{self.name} has no split {split!r}{nearest(split, self.splits)}")
        return self._ids[split].copy()

    def slice(self, split: str) -> slice:
        """Return the rows of a split."""
        count = len(self.ids(split))
        before = self.splits[: self.splits.index(split)]
        start = sum(len(self._ids[earlier]) for earlier in before)
        return slice(start, start + count)

    @cached_property
    def _sorted(self) -> dict[str, tuple[Ids, NDArray[np.int64] | None]]:
        """The ids of each split in the order of text, and where each is in it, if elsewhere."""
        return {split: _in_order(members) for split, members in self._ids.items()}

    def __len__(self) -> int:
        return sum(map(len, self._ids.values()))

    def rows(self, ids: Sequence[str] | Ids) -> NDArray[np.int64]:
        """Return the row of each id; unknown ones are a KeyError with the nearest id."""
        names = np.asarray(ids, dtype=str).ravel()
        rows = np.full(len(names), -1, dtype=np.int64)
        start = 0
        for ordered, order in self._sorted.values():
            if len(ordered):
                at = np.searchsorted(ordered, names.astype(ordered.dtype))
                at = at.clip(max=len(ordered) - 1)
                found = ordered[at] == names
                rows[found] = start + (at if order is None else order[at])[found]
            start += len(ordered)
        unknown = names[rows < 0].tolist()
        if unknown:
            more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
            near = nearest(unknown[0], self._around(unknown[0]), most=3)
            raise KeyError(f"{self.name} has no image {unknown[0]!r}{more}{near}")
        return rows

    def _around(self, name: str) -> set[str]:
        """Return the ids next to a name, in any split: near matches are sought among these."""
        known = sorted(name for members in self._ids.values() for name in members.tolist())
        tail = name.partition("/")[2]
        near_names = (name, *(f"{split}/{tail}" for split in self.splits))
        indices = [bisect.bisect(known, near) for near in near_names]
        return {near for at in indices for near in known[max(at - 1000, 0) : at + 1000]}


def _as_ids(members: Sequence[str] | Ids) -> Ids:
    return members if isinstance(members, np.ndarray) else np.array(list(members), dtype=str)


def _in_order(ids: Ids) -> tuple[Ids, NDArray[np.int64] | None]:
    """Return ids sorted, and where each was; those that are sorted are not copied."""
    if (ids[:-1] <= ids[1:]).all():
        return ids, None
    order = np.argsort(ids, kind="stable")
    return ids[order], order


def numbered_ids(split: str, count: int) -> Ids:
    """Return "split/00000", "split/00001", … for data sets whose images have no names."""
    return np.array([f"{split}/{index:05d}" for index in range(count)], dtype=str)


def generator_for(name: str, seed: int) -> np.random.Generator:
    """Return the random generator of a name, as an image's id, under a seed.

    What it draws is the same whatever else is drawn, and in whatever order.
    """
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))


def absent_splits(splits: Sequence[str], config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a task asks for of splits that are not there, with the key that chooses others.

    Parameters
    ----------
    splits : sequence of str
        Those of the images.
    config : mapping
        The task's configuration; its keys ``split``, ``train_split``, ….
    """
    for key, split in config.items():
        if f"_{key}".endswith("_split") and isinstance(split, str) and split not in (*splits, ""):
            there = f"only {', '.join(map(repr, splits))}" if splits else "nor any other"
            yield f"has no split {split!r}, {there}: `{key}` in `config` says which is taken"


class FixedSplits:
    """A kind of data set whose splits are known before it is loaded.

    Attributes
    ----------
    splits : tuple of str
        Their names.
    """

    splits: tuple[str, ...]

    def lacks(self) -> Callable[[Mapping[str, Any]], Iterable[str]]:
        """Return what tells of a task's configuration which splits are not there."""
        return partial(absent_splits, self.splits)


def images_by_class(
    images: ImageDataset, split: str, most: int | None = None, seed: int = 0
) -> Iterator[tuple[int, Ids]]:
    """Yield the index of each class that has images, and their ids in the split's order.

    Parameters
    ----------
    images : ImageDataset
        Where they are.
    split : str
        Of which.
    most : int, optional
        Images of a class, drawn where it has more; all by default.
    seed : int
        Of the draw, which depends on the class's name and no other class.
    """
    ids, labels = images.ids(split), images.labels(split)
    for label, name in enumerate(images.classes):
        own: Ids = ids[labels == label]
        if most is not None and len(own) > most:
            drawn = generator_for(f"{label} {name}", seed).permutation(len(own))[:most]
            own = own[np.sort(drawn)]
        if len(own):
            yield label, own


def class_concepts(
    ids: Ids,
    labels: NDArray[np.int64],
    classes: Sequence[str],
    groups: Mapping[str, Sequence[str]] | None = None,
) -> xr.DataArray:
    """Return classes, and groups of classes, as binary concept labels.

    Parameters
    ----------
    ids : ndarray of str, (image,)
        Ids of the images.
    labels : ndarray of int, (image,)
        Class of each image.
    classes : sequence of str
        Names of the classes.
    groups : mapping of str to sequence of str, optional
        Name of a group to the classes in it.

    Returns
    -------
    DataArray of bool, (image, label)
        Labels "class:…", then "group:…".
    """
    members = [{name} for name in classes] + [set(names) for names in (groups or {}).values()]
    table = np.array([[name in group for group in members] for name in classes], dtype=bool)
    names = [f"class:{name}" for name in classes] + [f"group:{name}" for name in groups or {}]
    return label_table(table.reshape(len(classes), len(members))[labels], ids, names)


def label_table(values: NDArray[Any], ids: Ids, labels: Sequence[str]) -> xr.DataArray:
    """Return what images show as :meth:`ImageDataset.concepts` does, (image, label)."""
    import xarray as xr  # heavy: a plan reads the kinds of data sets

    coords = {"image": ids, "label": list(labels)}
    return xr.DataArray(values, coords, ("image", "label"), name="concepts")


def mask_table(
    masks: Iterable[Iterable[NDArray[np.bool_]]],
    carries: NDArray[np.bool_],
    ids: Sequence[str] | Ids,
    labels: Sequence[str],
    geometry: Geometry | None,
) -> xr.Dataset:
    """Return where objects are as :meth:`ImageDataset.masks` does.

    Parameters
    ----------
    masks : array or iterable of bool, (image, object, y, x)
        Where each object is.
    carries : ndarray of bool, (image, object, label)
        Its labels.
    ids, labels : sequence of str
        Names of the images, and of the labels.
    geometry : Geometry or None
        To which masks are brought.
    """
    import xarray as xr  # heavy: a plan reads the kinds of data sets

    if geometry:
        masks = [[geometry.apply_mask(mask) for mask in objects] for objects in masks]
    return xr.Dataset(
        {
            "mask": (("image", "object", "y", "x"), np.asarray(masks)),
            "carries": (("image", "object", "label"), carries),
        },
        {"image": np.asarray(ids, dtype=str), "label": list(labels)},
    )


def in_geometry(images: Pixels | Iterable[Pixels], geometry: Geometry | None) -> Pixels:
    """Return images stacked, uint8 (image, y, x, colour), each in the geometry.

    Raises
    ------
    ValueError
        If they still differ in size.
    """
    if geometry is None and isinstance(images, np.ndarray):
        return images
    placed = [geometry.apply(image) if geometry else image for image in images]
    if not placed:
        side = (geometry.crop or 0) if geometry else 0
        return np.zeros((0, side, side, 3), np.uint8)
    sizes = sorted({image.shape[:2] for image in placed})
    if len(sizes) > 1:
        raise ValueError(
            f"images of {len(sizes)} sizes (y, x) cannot be stacked, as {sizes[0]} and "
            f"{sizes[-1]}; bring them to one by the keys resize = 64, crop = 64 (pixels) of the "
            f"network or of the stage that trains it; got {geometry}"
        )
    return np.stack(placed)


def batches(
    dataset: ImageDataset,
    ids: Sequence[str] | Ids,
    size: int,
    geometry: Geometry | None = None,
    ahead: int = 2,
) -> Iterator[tuple[Ids, Pixels]]:
    """Read images in batches, the next ones in the background while one is worked on.

    Parameters
    ----------
    dataset : ImageDataset
        Where to read.
    ids : sequence of str
        What to read, in this order.
    size : int
        Images in a batch; the last may be smaller.
    geometry : Geometry, optional
        Applied to every image.
    ahead : int
        Batches read in advance; they stay in memory until they are asked for.

    Yields
    ------
    ids : ndarray of str, (image,)
    images : ndarray of uint8, (image, y, x, colour)

    Raises
    ------
    ValueError
        If ``size`` or ``ahead`` is below 1. What reading raises is raised where its batch is due.
    """
    if size < 1 or ahead < 1:
        raise ValueError(f"size and ahead are at least 1; got {size} and {ahead}")
    wanted = np.asarray(ids, dtype=str)
    parts = [wanted[start : start + size] for start in range(0, len(wanted), size)]
    return _read_ahead(dataset, parts, geometry, ahead)


def _read_ahead(
    dataset: ImageDataset, parts: list[Ids], geometry: Geometry | None, ahead: int
) -> Iterator[tuple[Ids, Pixels]]:
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
        pending = deque(reader.submit(dataset.read, part, geometry) for part in parts[:ahead])
        try:
            for number, part in enumerate(parts):
                images = pending.popleft().result()
                if number + ahead < len(parts):
                    upcoming = parts[number + ahead]
                    pending.append(reader.submit(dataset.read, upcoming, geometry))
                yield part, images
        finally:
            for future in pending:
                future.cancel()


def write_parts(
    run: Run,
    count: int,
    size: int,
    make: Callable[[int, slice], xr.Dataset],
    unit: str = "images",
    then: Callable[[int, xr.Dataset], object] = lambda index, part: None,
) -> ShardWriter:
    """Write a stage's parts behind what makes them; a run that was stopped goes on at its next.

    In a run that writes some of the parts alone, the stage ends here.

    Parameters
    ----------
    run : Run
        Takes the parts, and is kept informed.
    count, size : int
        Rows of all parts together, and of each but the last.
    make : callable
        Returns a part, given its index and its rows.
    unit : str
        What rows are.
    then : callable
        Called with index and dataset of each part that was made now, once it is on the disk, by
        the thread that writes.
    """
    starts = range(0, count, size)
    writer = run.shards(len(starts))
    own, done = writer.indices(len(starts)), writer.done
    first, last = own.start * size, min(own.stop * size, count)
    with writer:
        for index in own:
            stop = min(starts[index] + size, count)
            if index not in done:
                part = make(index, slice(starts[index], stop))
                writer.submit(part, index, partial(then, index))
            run.progress(stop - first, last - first, unit)
        writer.end_part()
    return writer
