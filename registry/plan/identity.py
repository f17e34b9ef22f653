"""Content hashes of data that lives outside the store: files and folders, cached by their state.

A file is not read again while its path, size and times are what they were. One that changed less
than two seconds before it was read is not trusted to that: clocks of file systems are coarse.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from registry.store.durable import file_sha256, read_json, write_json

CACHE = Path(".factbook", "identities.json")
RACY_NS = 2_000_000_000
"""A change so close to the reading may leave no trace in a file's times."""


class IdentityError(ValueError):
    """Outside data that is not there, cannot be read, or changes while it is read."""


class _Entry(NamedTuple):
    """One file of a tree: its path in it, its location, size and the latest of its times."""

    name: str
    path: str
    size: int
    changed_ns: int


def content_identity(path: str | Path, cache: Path | None = None) -> str:
    """Return a content hash of a file or folder: equal for equal bytes under equal names.

    Parameters
    ----------
    path : str or Path
        A file, or a folder, whose files are all counted, links followed. A folder's hash is of
        the sorted relative paths and the SHA-256 of each file.
    cache : Path or None
        The file that keeps hashes; by default ``.factbook/identities.json`` of the project around
        the working directory, if there is one. It may be shared, damaged or removed at any time.

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
    cache = cache or _project_cache()
    known = (read_json(cache) or {}) if cache else {}
    for _ in range(3):
        started = time.time_ns()
        state, entries = _state(root)
        entry = known.get(str(root))
        if isinstance(entry, dict) and entry.get("state") == state and "hash" in entry:
            return str(entry["hash"])
        found = _hash(root, entries)
        if _state(root)[0] == state:
            break
    else:
        raise IdentityError(f"{path} changes while it is being read")
    if cache and max(entry.changed_ns for entry in entries) < started - RACY_NS:
        _remember(cache, str(root), {"state": state, "hash": found})
    return found


def _state(root: Path) -> tuple[str, list[_Entry]]:
    """Return a digest of names, sizes and times, and the files behind it; nothing is read."""
    try:
        if root.is_dir():
            entries = sorted(_walk(str(root), "", frozenset()))
        else:
            entries = [_entry("", str(root), os.stat(root))]
    except FileNotFoundError as error:
        raise IdentityError(f"no file or folder at {error.filename}") from error
    except OSError as error:
        raise IdentityError(f"{error.filename} cannot be read: {error.strerror}") from error
    if not entries:
        raise IdentityError(f"{root} holds no files")
    text = "".join(f"{entry.name}\0{entry.size}\0{entry.changed_ns}\n" for entry in entries)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest(), entries


def _walk(folder: str, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[_Entry]:
    here = os.stat(folder)
    if (here.st_dev, here.st_ino) in above:
        raise IdentityError(f"{folder} is a link to a folder that it lies in")
    above |= {(here.st_dev, here.st_ino)}
    with os.scandir(folder) as scan:
        for item in scan:
            name = f"{prefix}{item.name}"
            if item.is_dir():
                yield from _walk(item.path, f"{name}/", above)
            else:
                yield _entry(name, item.path, item.stat())


def _entry(name: str, path: str, stat: os.stat_result) -> _Entry:
    # The change time catches what keeps size and modification time, as `cp -p` over a file does.
    return _Entry(name, path, stat.st_size, max(stat.st_mtime_ns, stat.st_ctime_ns))


def _hash(root: Path, entries: list[_Entry]) -> str:
    if not root.is_dir():
        return _file_hash(str(root))
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(entry.name.encode("utf-8", "surrogateescape"))
        digest.update(b"\0" + bytes.fromhex(_file_hash(entry.path)))
    return digest.hexdigest()


def _file_hash(path: str) -> str:
    try:
        return file_sha256(Path(path))
    except OSError as error:
        raise IdentityError(f"{path} cannot be read: {error.strerror}") from error


def _remember(cache: Path, root: str, entry: dict[str, str]) -> None:
    """Add to the cache as it is now; an entry that a race loses is only hashed again."""
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_json(cache, {**(read_json(cache) or {}), root: entry})
    except (OSError, RuntimeError):
        return  # a cache that cannot be written costs time, not a result


def _project_cache() -> Path | None:
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "experiments.toml").is_file():
            return folder / CACHE
    return None
