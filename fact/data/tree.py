"""The images in a folder and below, among its other files, by their names alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from fact.data.decoding import image_suffixes
from registry.plan.listing import Listing, listing_of

Paths = Sequence[str] | NDArray[np.str_]
"""Relative paths of images, sorted."""

NO_DATA = ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information")
"""Names of folders that archivers and file systems leave; none is a class or a split."""

_TAIL = 8  # bytes that hold the suffix of any format
_ROWS = 2**17  # names that are looked at at once


class ImageTree:
    """The images below a folder, of which a million are found in a moment once it was listed.

    Parameters
    ----------
    root : Path
        The folder.

    Attributes
    ----------
    root : Path
        The folder.

    Raises
    ------
    OSError
        If it is not there, or a folder in it cannot be read.
    """

    def __init__(self, root: Path):
        self.root = root
        self._listing: Listing = listing_of(root)
        self._names = self._listing.text
        self._folders = sorted(map(os.fsdecode, self._listing.folders.tolist()))
        self._hidden = [path for path in self._folders if is_no_data(path)]

    def folders(self, folder: str = "") -> list[str]:
        """Return the paths of the folders in a folder that may hold data, sorted."""
        return [path for path in self._in(folder, self._folders) if not is_no_data(path)]

    def others(self, folder: str = "") -> Iterator[str]:
        """Yield the paths of all that lies in a folder and is no such folder."""
        yield from filter(is_no_data, self._in(folder, self._folders))
        yield from self._names[self._directly_in(folder)].tolist()

    @staticmethod
    def _in(folder: str, paths: Sequence[str]) -> Iterator[str]:
        above = f"{folder}/" if folder else ""
        for path in paths:
            if path and path.startswith(above) and "/" not in path[len(above) :]:
                yield path

    def images(self, folder: str = "") -> NDArray[np.str_]:
        """Return the paths of the images below a folder, at any depth, sorted."""
        rows = self._range(folder)
        return self._names[rows] if self._is_plain else self._names[rows][self._is_image[rows]]

    def by_folder(self) -> Iterator[tuple[str, NDArray[np.str_]]]:
        """Yield each folder with images in it, and their paths, without those of folders in it."""
        for folder in self._folders:
            rows = self._directly_in(folder)
            found: NDArray[np.str_] = self._names[rows[self._is_image[rows]]]
            if len(found):
                yield folder, found

    def ignored(self, folder: str = "") -> list[str]:
        """Return the paths of files, and of folders, below a folder that are passed over."""
        if self._is_plain:
            return []
        above = f"{folder}/" if folder else ""
        rows = self._range(folder)
        names = self._names[rows][~self._is_named[rows]].tolist()
        folders = [path for path in self._hidden if path.startswith(above)]
        return sorted({_topmost(path, len(above)) for path in (*names, *folders)})

    def faults(self, folder: str = "") -> list[str]:
        """Return what is wrong with links and names below a folder."""
        if self._is_plain:
            return []
        above = f"{folder}/" if folder else ""
        rows = self._range(folder)
        faults = self._rings(place for place in self._listing.rings if place.startswith(above))
        names = self._names[rows][self._is_named[rows] & ~self._is_image[rows]].tolist()
        return faults + [
            f"{name} is a link to nothing" if _is_utf8(name) else f"{name!r} is not named in UTF-8"
            for name in names
        ]

    def rings(self, folder: str = "") -> list[str]:
        """Return what is wrong with links that lie in a folder itself."""
        return self._rings(self._in(folder, self._listing.rings))

    @staticmethod
    def _rings(places: Iterable[str]) -> list[str]:
        return [
            f"{place} is a link to a folder that it lies in"
            for place in places
            if not any(map(is_no_data, PurePosixPath(place).parts))
        ]

    def _range(self, folder: str) -> slice:
        """Return where the names below a folder are."""
        if not folder:
            return slice(None)
        first, end = f"{folder}/", f"{folder}0"  # what follows a slash
        width = self._names.dtype.itemsize // 4
        if len(first) >= width:
            return slice(0, 0)
        return slice(*np.searchsorted(self._names, np.array([first, end], self._names.dtype)))

    def _directly_in(self, folder: str) -> NDArray[np.int64]:
        """Return where the names in a folder are that are in no folder in it."""
        rows = self._range(folder)
        depth = folder.count("/") + 1 if folder else 0
        return np.flatnonzero(self._depths[rows] == depth) + (rows.start or 0)

    @cached_property
    def _depths(self) -> NDArray[np.int64]:
        """In how many folders each name is."""
        return np.concatenate([(some == ord("/")).sum(axis=1) for some in self._letters()])

    def _letters(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the bytes of the names, (name, byte), some names at a time."""
        names = self._listing.names
        for start in range(0, max(len(names), 1), _ROWS):
            some = np.ascontiguousarray(names[start : start + _ROWS])
            yield some.view(np.uint8).reshape(len(some), names.dtype.itemsize)

    @cached_property
    def _is_plain(self) -> bool:
        """Whether there is nothing but images that can be read."""
        return not self._hidden and not self._listing.rings and bool(self._is_image.all())

    @cached_property
    def _is_named(self) -> NDArray[np.bool_]:
        """Whether each name is that of an image, and no folder on the way to it holds no data."""
        named = np.concatenate([_are_images(some) for some in self._letters()])
        for folder in self._hidden:
            named[self._range(folder)] = False
        return named

    @cached_property
    def _is_image(self) -> NDArray[np.bool_]:
        """Those of them that can be read."""
        found = self._is_named.copy()
        nowhere = np.flatnonzero(found & (self._listing.states[:, 0] < 0))
        found[nowhere] = [os.path.exists(self.root / name) for name in self._names[nowhere]]
        if self._listing.names.view(np.uint8).max(initial=0) > 127:
            found &= [_is_utf8(name) for name in self._names.tolist()]
        return found


def is_no_data(path: str) -> bool:
    """Whether a path is that of a hidden file or folder, or of one that holds no data."""
    name = path.rpartition("/")[2]
    return name.startswith(".") or name in NO_DATA


def _topmost(path: str, start: int) -> str:
    """Return the uppermost folder of a path, from a place in it on, that is passed over."""
    end = path.find("/", start)
    while end >= 0:
        if is_no_data(path[:end]):
            return path[:end]
        end = path.find("/", end + 1)
    return path


def _is_utf8(name: str) -> bool:
    return name == name.encode(errors="ignore").decode()


def with_prefix(prefix: str, paths: NDArray[np.str_], cut: int = 0) -> NDArray[np.str_]:
    """Return paths with a text in the place of their first ``cut`` letters."""
    if not len(paths):
        return paths
    letters = np.ascontiguousarray(paths).view(np.uint32).reshape(len(paths), -1)[:, cut:]
    start = np.array([prefix]).view(np.uint32) if prefix else np.zeros(0, np.uint32)
    joined = np.concatenate([np.broadcast_to(start, (len(paths), len(start))), letters], axis=1)
    return joined.view(f"U{joined.shape[1]}").ravel()


def _are_images(letters: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether each path ends in the suffix of an image, and nothing in it is hidden."""
    lengths = (letters != 0).sum(axis=1)
    places = lengths[:, None] + np.arange(-_TAIL, 0)
    ends = np.where(places >= 0, np.take_along_axis(letters, places.clip(min=0), axis=1), 0)
    tails, which = np.unique(ends.view(np.uint64).ravel(), return_inverse=True)
    good = np.array([_is_suffix(tail.tobytes()) for tail in tails], dtype=bool)
    slash, dot = ord("/"), ord(".")
    hidden = ((letters[:, :-1] == slash) & (letters[:, 1:] == dot)).any(axis=1)
    found: NDArray[np.bool_] = good[which.ravel()] & ~hidden & (letters[:, 0] != dot)
    return found


def _is_suffix(tail: bytes) -> bool:
    text = os.fsdecode(tail.lstrip(b"\0"))
    return text[text.rfind(".") :].lower() in image_suffixes() if "." in text else False
