"""Copies of code and artifacts: files that are named after the MD5 digest of their content."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from registry.record.journal import journal_root, journal_uids
from registry.store.durable import at_once, whole_file

SOURCES, ARTIFACTS = "sources", "artifacts"

_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Copy:
    """One file, under every name that it has.

    Attributes
    ----------
    md5 : str
        The digest that its names say.
    paths : tuple of Path
        In the journals of the runs that used or made it, and in the pool of code.
    """

    md5: str
    paths: tuple[Path, ...]

    @property
    def is_whole(self) -> bool:
        """Whether its content is what its names say."""
        return is_copy(self.paths[0])

    def replace(self, content: bytes) -> None:
        """Put another file under all its names, which share it again.

        Raises
        ------
        ValueError
            If the content is not what the names say.
        OSError
            If it cannot be written.
        """
        if hashlib.md5(content).hexdigest() != self.md5:
            raise ValueError(f"this is no content of {self.md5}")
        first, *others = self.paths
        for path in self.paths:
            path.parent.mkdir(exist_ok=True)
        with whole_file(first) as written:
            written.write_bytes(content)
        for path in others:
            with whole_file(path) as linked:
                try:
                    linked.hardlink_to(first)
                except OSError:  # too many, or none here
                    linked.write_bytes(content)


def is_copy(path: Path) -> bool:
    """Return whether a file is there, and its content has the MD5 digest that is its name."""
    try:
        with open(path, "rb", opener=at_once) as file:
            return hashlib.file_digest(file, "md5").hexdigest() == path.name
    except OSError:
        return False


def copies(project_root: Path, *folders: str) -> Iterator[Copy]:
    """Yield the copies that a project keeps, each file once however many journals share it.

    Parameters
    ----------
    project_root : Path
        Folder of ``experiments.toml``.
    *folders : str
        `SOURCES`, `ARTIFACTS`, or both.
    """
    journals = journal_root(project_root)
    found: dict[tuple[str, int], list[Path]] = defaultdict(list)
    places = [journals / uid for uid in journal_uids(project_root)]
    for place in (journals.parent, *places):
        for folder in folders:
            for name, inode in _files(place / folder):
                found[name, inode].append(place / folder / name)
    for (md5, _), paths in sorted(found.items()):
        yield Copy(md5, tuple(paths))


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    try:
        with os.scandir(folder) as entries:
            yield from ((e.name, e.inode()) for e in entries if _MD5.fullmatch(e.name))
    except (FileNotFoundError, NotADirectoryError):
        return
