"""Listings of folders of outside data: what lies in them, and the state of every folder and file.

A listing is kept. Names are taken from it for as long as every folder is the one that it was, with
the times that it had: whatever adds, removes, renames or relinks a file changes the times of the
folder that it lies in. What only changes a file's bytes does not, and is looked for in the file's
own state, each time that its content matters. A folder that had changed less than two seconds
before it was listed is listed again: clocks of file systems are coarse.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
import zipfile
import zlib
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.store.durable import STATE_FOLDER, make_state_folder, whole_file

RACY_NS = 2_000_000_000
"""A change so close to the reading may leave no trace in times."""

LISTINGS = "listings"
"""Folder of what is kept, in that of a project's state."""

_FORM = 1
_STRAYS = frozenset((".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini"))
_NOWHERE = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)
_BITS = (1 << 63) - 1  # numbers of devices and inodes may be unsigned
DAMAGED = (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error)
"""Errors of a file that is not there, or is not what was written."""

Names = NDArray[np.bytes_]


@dataclass(frozen=True)
class Listing:
    """What a folder holds, links followed; or a single file, whose name is "".

    Attributes
    ----------
    folders : ndarray of bytes, (folder,)
        Paths relative to the root, "" for itself.
    folder_states : ndarray of int64, (folder, 4)
        Device, inode, times of modification and of change in ns.
    names : ndarray of bytes, (file,)
        Paths relative to the root as the file system has them, sorted.
    states : ndarray of int64, (file, 3)
        Size in bytes, the later of both times in ns, inode; -1 for a link to nothing.
    strays : ndarray of bool, (file,)
        Whether it is one that file managers leave (``.DS_Store``, ``Thumbs.db``, …).
    rings : tuple of str
        Links to folders that they lie in; they are not followed.
    started : int
        When it was begun, in ns.
    """

    folders: Names
    folder_states: NDArray[np.int64]
    names: Names
    states: NDArray[np.int64]
    strays: NDArray[np.bool_]
    rings: tuple[str, ...]
    started: int

    @cached_property
    def text(self) -> NDArray[np.str_]:
        """The names as text; bytes that are not UTF-8 are surrogates."""
        return as_text(self.names)

    @property
    def is_settled(self) -> bool:
        """Whether a later change of a folder is bound to show in its times."""
        return bool(self.folder_states[:, 2:].max(initial=0) < self.started - RACY_NS)


def as_text(names: Names) -> NDArray[np.str_]:
    """Return names as text; bytes that are not UTF-8 become surrogates."""
    width = names.dtype.itemsize
    letters = np.ascontiguousarray(names).view(np.uint8)
    if letters.max(initial=0) < 128:  # a million names in a moment
        return letters.astype(np.uint32).view(f"U{width}")
    return np.array([os.fsdecode(name) for name in names.tolist()], dtype=str)


def as_names(names: list[str]) -> Names:
    """Return text as names, which may be none."""
    return np.array([os.fsencode(name) for name in names], dtype=bytes).reshape(len(names))


def list_files(root: str | Path) -> Listing:
    """List a folder, or a file, with the state of everything in it.

    Raises
    ------
    OSError
        If it is not there, or a folder in it cannot be read.
    """
    started, found = time.time_ns(), _Found()
    root = os.fspath(root)
    here = os.stat(root)
    if os.path.isdir(root):
        found.walk(root)
    else:
        found.add("", here)
    return found.listing(started)


class _Found:
    """What has been found so far."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.numbers = array("q")
        self.folders: list[str] = []
        self.folder_numbers = array("q")
        self.rings: list[str] = []

    def walk(self, root: str) -> None:
        waiting: list[tuple[str, str, frozenset[tuple[int, int]]]] = [(root, "", frozenset())]
        while waiting:
            folder, place, above = waiting.pop()
            here = os.stat(folder)
            key = here.st_dev, here.st_ino
            if key in above:
                self.rings.append(place)
                continue
            self.folders.append(place)
            self.folder_numbers.extend(_state_of_folder(here))
            prefix, inside = f"{place}/" if place else "", above | {key}
            with os.scandir(folder) as items:
                for item in items:
                    name = prefix + item.name
                    if item.is_dir():
                        waiting.append((item.path, name, inside))
                    else:
                        self.add(name, _stat_of(item))

    def add(self, name: str, stat: os.stat_result | None) -> None:
        self.names.append(name)
        if stat is None:
            self.numbers.extend((-1, -1, -1))
            return
        # The change time catches what keeps size and modification time, as `cp -p` over a file.
        modified, changed = stat.st_mtime_ns, stat.st_ctime_ns
        latest = modified if modified > changed else changed
        self.numbers.extend((stat.st_size, latest, stat.st_ino & _BITS))

    def listing(self, started: int) -> Listing:
        order = sorted(range(len(self.names)), key=self.names.__getitem__)
        names = [self.names[index] for index in order]
        bases = (name.rpartition("/")[2] for name in names)
        strays = [base[:2] == "._" or base.lower() in _STRAYS for base in bases]
        return Listing(
            as_names(self.folders),
            np.array(self.folder_numbers, dtype=np.int64).reshape(-1, 4),
            as_names(names),
            np.array(self.numbers, dtype=np.int64).reshape(-1, 3)[order],
            np.array(strays, dtype=bool),
            tuple(self.rings),
            started,
        )


def _stat_of(item: os.DirEntry[str]) -> os.stat_result | None:
    """Return the state of a file; None of a link to nothing."""
    try:
        return item.stat()
    except OSError as error:
        if error.errno in _NOWHERE:
            return None
        raise


def _state_of_folder(stat: os.stat_result) -> tuple[int, int, int, int]:
    return stat.st_dev & _BITS, stat.st_ino & _BITS, stat.st_mtime_ns, stat.st_ctime_ns


# -- what is kept ----------------------------------------------------------------------------


def state_around(folder: Path) -> Path | None:
    """Return the folder of state of the project around a folder; None outside of projects."""
    around = (folder, *folder.parents)
    root = next((f for f in around if (f / "experiments.toml").is_file()), None)
    return root / STATE_FOLDER if root else None


def kept_file(state: Path, root: str | Path, what: str) -> Path:
    """Return the file in which something of a folder is kept."""
    key = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    return state / LISTINGS / f"{key}.{what}.npz"


def listing_of(root: str | Path, state: Path | None = None) -> Listing:
    """Return the listing of a folder: the one that is kept while no folder in it has changed.

    States of files in it are those of the day that it was made; folders and names are as they are.

    Parameters
    ----------
    root : str or Path
        The folder.
    state : Path, optional
        Folder of a project's state; by default of the project around the working directory.

    Raises
    ------
    OSError
        If it is not there, or a folder in it cannot be read.
    """
    root = Path(root).expanduser().resolve()
    state = state or state_around(Path.cwd())
    kept = read_listing(state, root) if state else None
    if kept is not None and kept.is_settled and _are_as_listed(root, kept):
        return kept
    listing = list_files(root)
    if state:
        keep_listing(state, root, listing)
    return listing


def _are_as_listed(root: Path, listing: Listing) -> bool:
    try:
        now = [_state_of_folder(os.stat(path)) for path in _paths(root, listing.folders)]
    except OSError:
        return False
    return bool(now) and np.array_equal(np.array(now, dtype=np.int64), listing.folder_states)


def folders_are_as_listed(root: Path, listing: Listing) -> bool:
    """Return whether each folder has the times that it had."""
    return not len(listing.folders) or _are_as_listed(root, listing)


def _paths(root: Path, names: Names) -> Iterator[str]:
    for name in names.tolist():
        yield os.path.join(root, os.fsdecode(name)) if name else os.fspath(root)


def read_listing(state: Path, root: str | Path) -> Listing | None:
    """Return the listing that is kept of a folder; None where there is none that can be read."""
    kept = read_arrays(kept_file(state, root, "names"), str(root))
    if kept is None:
        return None
    with suppress(*DAMAGED):
        return Listing(
            kept["folders"],
            kept["folder_states"],
            kept["names"],
            kept["states"],
            kept["strays"],
            (),
            int(kept["started"]),
        )
    return None


def keep_listing(state: Path, root: str | Path, listing: Listing) -> None:
    """Keep a listing; one with rings, or that cannot be written, only costs time."""
    if not listing.rings and len(listing.folders) and listing.is_settled:
        kept = kept_file(state, root, "names")
        arrays = {name: value for name, value in vars(listing).items() if name != "rings"}
        arrays.pop("text", None)
        write_arrays(kept, str(root), arrays)


def read_arrays(path: Path, root: str) -> dict[str, NDArray[Any]] | None:
    """Return arrays that were kept of a folder; None if there are none, or they are damaged."""
    with suppress(*DAMAGED), np.load(path, allow_pickle=False) as kept:
        if int(kept["form"]) == _FORM and str(kept["root"]) == root:
            return {name: kept[name] for name in kept.files if name not in ("form", "root")}
    return None


def write_arrays(path: Path, root: str, arrays: dict[str, Any]) -> None:
    """Keep arrays of a folder, all or none of them; what cannot be written costs time."""
    with suppress(OSError):
        make_state_folder(path.parent)
        with whole_file(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, form=_FORM, root=root, **arrays)
