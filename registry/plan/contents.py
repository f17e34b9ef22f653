"""The content of data from outside the store: hashed once, and known again by its state.

A file is not read again while its path, size, times and inode are what they were; one that changed
less than two seconds before it was read is not trusted to that. What was hashed is kept file by
file, also when the hashing is interrupted, so that a folder of which one file has changed costs one
file.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.plan import listing as listings
from registry.plan.listing import (
    Listing,
    Names,
    folders_are_as_listed,
    keep_listing,
    kept_file,
    list_files,
    read_arrays,
    state_around,
    write_arrays,
)
from registry.plan.looking import SEEN, WATCH, Hashing
from registry.store.durable import at_once, make_state_folder, read_json, write_whole

CACHE = "identities.json"

ALGORITHM = "sha256"
"""What hashes data that was never hashed before, by its name in :mod:`hashlib`.

What was, keeps its algorithm: another one here changes no identity, nor any fingerprint, of data
that is what it was. Identities by others than SHA-256 begin with the name of their algorithm.
"""

_FIRST, _BLOCK = 2**16, 2**20
"""Bytes that are read at a time: most files are small, and small blocks cost no new pages."""

_MOST_FILES, _MOST_BYTES = 256, 2**24  # of what one thread takes at a time
_KEEP_EVERY = 60.0  # seconds of hashing that are lost at most when a process is killed
_TELL_EVERY = 0.2


class IdentityError(ValueError):
    """Outside data that is not there, cannot be read, or changes while it is read."""


def content_identity(path: str | Path, cache: Path | None = None) -> str:
    """Return a content hash of a file or folder: equal for equal bytes under equal names.

    Files are hashed by several threads. While nothing has changed by path, size, times and inode,
    nothing is read; else only what has changed.

    Parameters
    ----------
    path : str or Path
        A file, or a folder, whose files are counted, links followed, but not those that file
        managers leave (``.DS_Store``, ``Thumbs.db``, …). A folder's hash is of the sorted relative
        paths and the hash of each file.
    cache : Path or None
        The file that keeps hashes, beside a folder of those of files; by default
        ``.factbook/identities.json`` of the project around the working directory, if there is one.
        Both may be shared, damaged or removed at any time.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    IdentityError
        If there is nothing at `path`, or it cannot be read, or changes meanwhile.
    """
    root = Path(path).expanduser().resolve()
    if cache is None and (state := state_around(Path.cwd())) is not None:
        cache = state / CACHE
    seen = SEEN.get()
    if seen is None:
        return _identity(path, root, cache)
    if (root, cache) not in seen:
        seen[root, cache] = _identity(path, root, cache)
    return seen[root, cache]


def _identity(path: str | Path, root: Path, cache: Path | None) -> str:
    entry = (read_json(cache) or {}).get(str(root)) if cache else None
    entry = entry if isinstance(entry, dict) and isinstance(entry.get("hash"), str) else {}
    algorithm = str(entry.get("algorithm", "sha256" if entry else ALGORITHM))
    for _ in range(3):
        listing = _listed(root)
        state = _state(listing)
        known = _known(entry, listing, state)
        if known is None:
            found = _hashed(root, listing, algorithm, cache)
            if found is None:
                continue
            known = {"state": state, "hash": found, "algorithm": algorithm}
        if cache and listing.states[:, 1].max(initial=0) < listing.started - listings.RACY_NS:
            _keep(cache, root, known, listing)
        return str(known["hash"])
    raise IdentityError(f"{path} changes while it is being read")


def _listed(root: Path) -> Listing:
    """Return what counts of a file or folder."""
    try:
        found = list_files(root)
    except FileNotFoundError as error:
        raise IdentityError(f"no file or folder at {error.filename}") from error
    except OSError as error:
        raise IdentityError(f"{error.filename} cannot be read: {error.strerror}") from error
    if found.rings:
        raise IdentityError(f"{root / found.rings[0]} is a link to a folder that it lies in")
    nowhere = np.flatnonzero((found.states[:, 0] < 0) & ~found.strays)
    if len(nowhere):
        name = os.fsdecode(found.names[nowhere[0]])
        raise IdentityError(f"no file or folder at {root / name}")
    if found.strays.all():
        raise IdentityError(f"{root} holds no files")
    return found


def _state(listing: Listing) -> str:
    """Return a digest of names, sizes, times and inodes of what counts."""
    counts = ~listing.strays
    digest = hashlib.sha256(b"\0".join(listing.names[counts].tolist()))
    digest.update(b"\0\0" + listing.states[counts].astype("<i8").tobytes())
    return digest.hexdigest()


def _known(entry: Mapping[str, Any], listing: Listing, state: str) -> Mapping[str, Any] | None:
    """Return an entry if it is of this state; one in a form that it had once stays valid."""
    if not entry or entry.get("state") == state:
        return entry or None
    if "algorithm" in entry:
        return None
    if entry.get("state") == _former_state(listing, strays=False):
        return {"state": state, "hash": entry["hash"], "algorithm": "sha256"}
    return entry if entry.get("state") == _former_state(listing, strays=True) else None


def _former_state(listing: Listing, strays: bool) -> str:
    """Return the state as it was written before inodes were part of it, and once with strays."""
    digest = hashlib.sha256()
    rows = zip(listing.names.tolist(), listing.states.tolist(), listing.strays, strict=True)
    for name, (size, changed, _), is_stray in rows:
        if strays or not is_stray:
            digest.update(b"%s\0%d\0%d\n" % (name, size, changed))
    return digest.hexdigest()


# -- hashing ---------------------------------------------------------------------------------


def _hashed(root: Path, listing: Listing, algorithm: str, cache: Path | None) -> str | None:
    """Return the hash of what counts; None if it has changed since it was listed."""
    rows = np.flatnonzero(~listing.strays)
    names, states = listing.names[rows], listing.states[rows]
    kept = cache and kept_file(cache.parent, root, f"hashes-{algorithm}")
    hashes = Hashes(names, states, getattr(hashlib, algorithm)().digest_size)
    if kept:
        hashes.recall(read_arrays(kept, str(root)))
    try:
        new = getattr(hashlib, algorithm)
        is_same = _FileHasher(root, hashes, new, lambda: _keep_hashes(kept, root, hashes)).run()
    finally:
        _keep_hashes(kept, root, hashes)
    if not is_same or not folders_are_as_listed(root, listing):
        return None
    found = hashes.digests.tobytes()
    size = hashes.digests.shape[1]
    if not len(listing.folders):
        text = found.hex()
    else:
        parts = (
            name + b"\0" + found[row * size : (row + 1) * size]
            for row, name in enumerate(names.tolist())
        )
        text = getattr(hashlib, algorithm)(b"".join(parts)).hexdigest()
    return text if algorithm == "sha256" else f"{algorithm}:{text}"


class Hashes:
    """The hashes of files, by name and state; some are known.

    Parameters
    ----------
    names : ndarray of bytes, (file,)
        Sorted.
    states : ndarray of int64, (file, 3)
        Size, time, inode.
    size : int
        Bytes of a hash.
    """

    def __init__(self, names: Names, states: NDArray[np.int64], size: int):
        self.names, self.states = names, states
        self.digests = np.zeros((len(names), size), dtype=np.uint8)
        self.known = np.zeros(len(names), dtype=bool)
        self.started = time.time_ns()
        self.is_new = False
        self._others: dict[str, NDArray[Any]] = {}

    def recall(self, kept: Mapping[str, NDArray[Any]] | None) -> None:
        """Take what is kept of files whose state is what it was; others are kept on."""
        if not kept or not {"names", "states", "digests"} <= kept.keys():
            return
        order = np.argsort(kept["names"], kind="stable")
        former = kept["names"][order]
        at = np.searchsorted(former, self.names).clip(max=max(len(former) - 1, 0))
        if not len(former):
            return
        named = former[at] == self.names
        at = order[at]
        self.known = named & (kept["states"][at] == self.states).all(axis=1)
        self.digests[self.known] = kept["digests"][at[self.known]]
        gone = np.ones(len(former), dtype=bool)
        gone[at[named]] = False
        self._others = {name: kept[name][gone] for name in ("names", "states", "digests")}

    def add(self, rows: NDArray[np.int64], digests: bytes) -> None:
        """Take the hashes of files, one after the other."""
        self.digests[rows] = np.frombuffer(digests, dtype=np.uint8).reshape(len(rows), -1)
        self.known[rows] = self.is_new = True

    def lasting(self) -> dict[str, NDArray[Any]]:
        """Return what can be kept: all but files that had just changed when they were read."""
        last = self.known & (self.states[:, 1] < self.started - listings.RACY_NS)
        found = {name: getattr(self, name)[last] for name in ("names", "states", "digests")}
        for name, others in self._others.items():
            found[name] = np.concatenate([found[name], others])
        return found


def _keep_hashes(kept: Path | None, root: Path, hashes: Hashes) -> None:
    if kept and hashes.is_new:
        lasting = hashes.lasting()
        if len(lasting["names"]):
            write_arrays(kept, str(root), lasting)
        hashes.is_new = False


_Portion = tuple[NDArray[np.int64], bytes]
"""Rows of files, and their hashes one after the other."""


class _StoppedError(Exception):
    """Nobody waits for this hash any more."""


@dataclass
class _FileHasher:
    """Hashes the files that are not known yet, several at once."""

    root: Path
    hashes: Hashes
    new: Callable[[bytes], Any]
    keep: Callable[[], None]
    at_once: int = 1
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> bool:
        """Hash them; return whether each was what it had been when it was listed."""
        rows = np.flatnonzero(~self.hashes.known)
        sizes = self.hashes.states[rows, 0]
        self.told = Hashing(str(self.root), len(rows), int(sizes.sum()))
        if not len(rows):
            return True
        # More than there are processors: disks, and servers of files, answer many at once.
        threads = min(max(4 * (os.cpu_count() or 1), 8), 32)
        self.at_once = 2 * threads
        pool = ThreadPoolExecutor(threads, thread_name_prefix="hash")
        try:
            return self._run(pool, _portions(rows, sizes))
        finally:
            self.stop.set()
            pool.shutdown(cancel_futures=True)

    def _run(self, pool: ThreadPoolExecutor, portions: list[NDArray[np.int64]]) -> bool:
        waiting: set[Future[_Portion | None]] = set()
        left = iter(portions)
        kept = told = time.monotonic()
        watch = WATCH.get() or (lambda told: None)
        watch(self.told)
        while True:
            more = islice(left, self.at_once - len(waiting))
            waiting |= {pool.submit(self._hash_some, portion) for portion in more}
            if not waiting:
                break
            done, waiting = wait(waiting, _TELL_EVERY, FIRST_COMPLETED)
            for future in done:
                found = future.result()
                if found is None:
                    return False
                self.hashes.add(*found)
            if (now := time.monotonic()) - told > _TELL_EVERY:
                watch(self.told)
                told = now
            if now - kept > _KEEP_EVERY:
                self.keep()
                kept = time.monotonic()
        watch(self.told)
        return True

    def _hash_some(self, rows: NDArray[np.int64]) -> _Portion | None:
        """Return files and their hashes; None if one of them has changed."""
        found = []
        names, states = self.hashes.names[rows].tolist(), self.hashes.states[rows].tolist()
        for name, (size, changed, _) in zip(names, states, strict=True):
            path = os.path.join(self.root, os.fsdecode(name)) if name else os.fspath(self.root)
            try:
                digest, stat = self._hash(path)
            except OSError as error:
                raise IdentityError(f"{path} cannot be read: {error.strerror}") from error
            if (stat.st_size, max(stat.st_mtime_ns, stat.st_ctime_ns)) != (size, changed):
                return None
            found.append(digest)
        with self.lock:
            self.told.files += len(found)
            self.told.bytes += sum(min(size, _FIRST) for size, _, _ in states)
        return rows, b"".join(found)

    def _hash(self, path: str) -> tuple[bytes, os.stat_result]:
        """Return the hash of a file, and its state after it was read."""
        descriptor = at_once(path, os.O_RDONLY)
        try:
            block = os.read(descriptor, _FIRST)
            digest, read = self.new(block), len(block)
            while read < (stat := os.fstat(descriptor)).st_size and block:
                if self.stop.is_set():
                    raise _StoppedError
                digest.update(block := os.read(descriptor, _BLOCK))
                read += len(block)
                with self.lock:
                    self.told.bytes += len(block)
            return digest.digest(), stat
        finally:
            os.close(descriptor)


def _portions(rows: NDArray[np.int64], sizes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return rows in portions, each of few files and few bytes, or of a single file."""
    by_size = np.cumsum(sizes) // _MOST_BYTES
    by_count = np.arange(len(rows)) // _MOST_FILES
    is_next = (np.diff(by_size) > 0) | (np.diff(by_count) > 0)
    return np.split(rows, np.flatnonzero(is_next) + 1)


def _keep(cache: Path, root: Path, entry: Mapping[str, Any], listing: Listing) -> None:
    """Keep an identity beside what others learnt last, for good, and the listing behind it."""
    known = read_json(cache) or {}
    is_new = known.get(str(root)) != entry
    if is_new:
        with suppress(OSError, RuntimeError):
            make_state_folder(cache.parent)
            write_whole(cache, json.dumps({**known, str(root): entry}).encode())
    if is_new or not kept_file(cache.parent, root, "names").exists():
        keep_listing(cache.parent, root, listing)
