"""The manifest of a run's folder: what it holds, and where that came from. Written last."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from registry.store.durable import (
    TEMPORARY,
    StoreError,
    file_sha256,
    json_object,
    json_text,
    read_small,
    sync,
    write_whole,
)
from registry.store.schema import json_value

MANIFEST = "manifest.json"
CURRENT = "current"
DERIVED = ".derived"
"""Folder beside a dataset for what can be made of it again; no manifest lists what lies in it."""

FORMAT = 2
_WITHOUT_CHECKSUM = 1  # the format of manifests that were written before they had one


class FileFacts(NamedTuple):
    """What is known of a file as it lies on the disk: it is not read again to tell."""

    size: int
    changed: int
    inode: int
    sha256: str


def facts_of(path: Path, sha256: str) -> FileFacts:
    """Return what is known of a file whose bytes have this hash."""
    stat = path.stat()
    return FileFacts(stat.st_size, stat.st_mtime_ns, stat.st_ino, sha256)


@dataclass(frozen=True)
class Provenance:
    """Where a dataset comes from: written into its file and its manifest.

    Parameters
    ----------
    experiment : str
        Name of the cell, as ``fashion-sae[k=8,seed=1]``.
    run, fingerprint : str
        Identifier of the run, and fingerprint of the task.
    stage : str
        Module of the stage.
    version : int
        Version of the stage.
    config : mapping
        The resolved configuration.
    inputs : mapping of str to mapping
        Slot to what filled it: ``experiment``, ``fingerprint``, ``run`` and ``content``, the
        content digest of what was read.
    commit, sources : str
        The git commit, and the digest of the stage's code.
    seed : int or None
        Where the configuration has one.
    started : datetime or None
        Start of the run, with a time zone.
    parts : tuple of mapping
        Which runs have written parts of it before this one closed it, and in how many seconds.
    """

    experiment: str = ""
    run: str = ""
    fingerprint: str = ""
    stage: str = ""
    version: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    commit: str = ""
    sources: str = ""
    seed: int | None = None
    started: datetime | None = None
    parts: tuple[Mapping[str, Any], ...] = ()

    def attributes(self) -> dict[str, Any]:
        """Return the attributes of a file that came from here; what is not known is left out."""
        start = self.started or datetime.now(UTC)
        known = {
            "experiment": self.experiment,
            "run": self.run,
            "fingerprint": self.fingerprint,
            "source": f"{self.stage} version {self.version}" if self.stage else "",
            "history": f"{_iso(start)}: made by {self.stage}" if self.stage else "",
            "commit": self.commit,
            "seed": "" if self.seed is None else self.seed,
        }
        known = {name: value for name, value in known.items() if value != ""}
        return known | {"config": dict(self.config), "inputs": dict(self.inputs)}

    def entries(self) -> dict[str, Any]:
        """Return the entries of the manifest; the run stops now."""
        stopped = datetime.now(UTC)
        started = self.started or stopped
        names = "experiment run fingerprint stage version config inputs commit sources seed"
        return {
            **{name: json_value(getattr(self, name)) for name in names.split()},
            "started": _iso(started),
            "stopped": _iso(stopped),
            "duration": round((stopped - started).total_seconds(), 3),
            **({"parts": [dict(part) for part in self.parts]} if self.parts else {}),
        }


def seconds_of(manifest: Mapping[str, Any]) -> float | None:
    """Return how long a dataset took to be made, by all runs that wrote parts of it together."""
    duration = manifest.get("duration")
    parts = manifest.get("parts") or ()
    return None if duration is None else sum((part["seconds"] for part in parts), duration)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def write_manifest(
    folder: Path,
    entries: Mapping[str, Any],
    announce: Callable[[dict[str, Any]], object] = lambda manifest: None,
    known: Mapping[str, FileFacts] | None = None,
) -> dict[str, Any]:
    """Hash every file of a folder and write its manifest, by which the folder is whole.

    Its last entry, ``checksum``, is the SHA-256 of all bytes of the manifest before it.

    Parameters
    ----------
    folder : Path
        With its datasets and attachments, in sub-folders too.
    entries : mapping
        What the manifest says besides, as plain JSON.
    announce : callable
        Called with the manifest before it is written.
    known : mapping of str to FileFacts, optional
        Files of the folder that are not read again while they are as they were.

    Raises
    ------
    StoreError
        If the disk is full.
    """
    (folder / MANIFEST).unlink(missing_ok=True)  # what it said is no longer so
    files = list(_hashed(folder, known or {}))
    manifest = {"format": FORMAT, **entries, "files": files}
    announce(manifest)
    write_whole(folder / MANIFEST, _sealed(json_text(manifest).removesuffix(_END).encode()))
    return manifest


_END = "\n}\n"
_CHECKSUM = ',\n "checksum": "'


def _sealed(body: bytes) -> bytes:
    """Return the text of a manifest that lacks its end, with its checksum and its end."""
    return body + f'{_CHECKSUM}{hashlib.sha256(body).hexdigest()}"{_END}'.encode()


def _hashed(folder: Path, known: Mapping[str, FileFacts]) -> Iterator[dict[str, Any]]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - {DERIVED})
        for name in sorted(names):
            path = Path(parent, name)
            is_temporary = name.startswith(".") and name.endswith(TEMPORARY)
            if is_temporary or path == folder / MANIFEST:
                continue
            sync(path)
            relative = path.relative_to(folder).as_posix()
            facts = known.get(relative)
            if facts is None or facts != facts_of(path, facts.sha256):
                facts = facts_of(path, file_sha256(path))
            yield {"name": relative, "size": facts.size, "sha256": facts.sha256}
        sync(Path(parent))


_TEXTS = ("experiment", "run", "fingerprint", "stage", "schema", "content", "sources", "stopped")
_OBJECTS = ("config", "inputs")


def read_manifest(folder: str | Path) -> dict[str, Any] | None:
    """Return the manifest of a folder, None where there is none, or none that is as written.

    It is compared with its checksum; those of format 1 have none. What other entries than
    ``files`` hold is of the types that are written; see :func:`file_faults`.
    """
    data = read_small(f"{folder}/{MANIFEST}")
    found = json_object(data)
    if found is None or not _is_sound(found):
        return None
    if found.pop("checksum", None) is None and found.get("format") == _WITHOUT_CHECKSUM:
        return found
    return found if data == _sealed(data.rpartition(_CHECKSUM.encode())[0]) else None


def _is_sound(manifest: Mapping[str, Any]) -> bool:
    known = {name: value for name, value in manifest.items() if value is not None}
    inputs = known.get("inputs", {})
    try:
        datetime.fromisoformat(known.get("stopped", "2000-01-01"))
    except (TypeError, ValueError):
        return False
    return (
        all(isinstance(known.get(name, ""), str) for name in _TEXTS)
        and all(isinstance(known.get(name, {}), dict) for name in _OBJECTS)
        and isinstance(known.get("duration", 0), int | float)
        and all(isinstance(entry, dict) for entry in inputs.values())
        and all(
            isinstance(entry.get(name) or "", str)
            for entry in inputs.values()
            for name in ("content", "fingerprint", "run", "experiment")
        )
    )


def find_dataset(path: str | Path, proven: float = 0) -> tuple[Path, Mapping[str, Any]]:
    """Return the run's folder that a path means, and its manifest.

    Parameters
    ----------
    path : str or Path
        The folder of a run, or of a task: then of its current run.
    proven : float
        Bytes up to which all files are compared with their checksums, not with their sizes alone;
        ``math.inf`` for always.

    Raises
    ------
    StoreError
        If there is no whole dataset.
    """
    folder = Path(path)
    if not (folder / MANIFEST).exists() and (folder / CURRENT).is_symlink():
        folder = folder / CURRENT
    folder = folder.resolve()  # what is opened stays the same run, whatever is published later
    manifest = read_manifest(folder)
    if manifest is None:
        raise StoreError(f"{path} holds no whole dataset: no {MANIFEST}, or a damaged one")
    faults = file_faults(folder, manifest)
    if not faults and sum(entry["size"] for entry in manifest["files"]) <= proven:
        faults = file_faults(folder, manifest, verify=True)
    if faults:
        raise StoreError(f"{folder} is damaged: {'; '.join(faults[:3])}")
    return folder, manifest


def file_faults(folder: str | Path, manifest: Mapping[str, Any], verify: bool = False) -> list[str]:
    """Return what is wrong with the files that a manifest lists.

    Parameters
    ----------
    folder : str or Path
        The run's folder.
    manifest : mapping
        As read; one that lists no files is itself at fault.
    verify : bool
        Whether checksums are compared too, instead of names and sizes alone.
    """
    files = manifest.get("files")
    if not isinstance(files, list):
        return [f"{MANIFEST} lists no files"]
    return [fault for entry in files if (fault := _fault(str(folder), entry, verify))]


def _fault(folder: str, entry: Any, verify: bool) -> str:
    try:
        name, size, sha256 = entry["name"], entry["size"], entry["sha256"]
        path = f"{folder}/{name}"
        got = os.stat(path).st_size
        if got != size:
            return f"{name} has {got:,} bytes; expected {size:,}"
        if verify and file_sha256(Path(path)) != sha256:
            return f"{name} has another checksum than when it was written"
    except (KeyError, TypeError):
        return f"{MANIFEST} has an entry that it should not: {entry!r}"
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}"
    return ""
