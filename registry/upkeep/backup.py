"""A backup of a project: database and journals in one file, hashed; and its restoration.

The file is a tar archive, which any tool can read: ``database/*.bson`` as mongodump writes them,
``state/`` with journals, tombstones and code, ``store/`` with datasets if asked, and last
``manifest.json`` with the checksum of everything: without it the archive is not whole.

The database is read first and the journals after it, so that these are never behind: what a run
recorded in between is brought to the restored database from its journal.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
import tomllib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from lzma import LZMAError
from pathlib import Path
from typing import IO, Any

from registry.catalog.access import Catalog
from registry.catalog.scope import NAMES
from registry.mongo.database import Database
from registry.mongo.dump import collections, dump, file_name, holds_anything, load
from registry.mongo.projector import sync
from registry.plan.artifacts import ATTEMPTS
from registry.record.appendfile import BALLAST_FILE
from registry.record.journal import CONSOLE, EVENTS, journal_root, journal_uids, timestamp
from registry.record.liveness import STATUS_FILE
from registry.record.tombstones import DELETED
from registry.store.durable import (
    STATE_FOLDER,
    TEMPORARY,
    disk_errors,
    file_sha256,
    read_json,
    whole_file,
    write_json,
)
from registry.store.manifest import CURRENT, MANIFEST
from registry.suggest import RefusalError

FORMAT = 1

_COMPRESSIONS = {".gz": "gz", ".tgz": "gz", ".xz": "xz"}

_DECLARATION = "experiments.toml"
_PLACES = (NAMES, DELETED, "journal")  # in the state; the journals come to their place last
_MARK = "restoring.json"
_IN_MEMORY = 16 * 1024 * 1024  # bytes of a file that is copied, at most
_DAMAGES = (tarfile.TarError, EOFError, zlib.error, LZMAError, KeyError, ValueError, TypeError)


class BackupError(RefusalError):
    """A backup that cannot be written or restored."""


@dataclass(frozen=True)
class Backup:
    """What a backup holds.

    Attributes
    ----------
    path : Path
        The file.
    collections : mapping of str to int
        Documents in each collection of the database; empty if there was none.
    journals, datasets : int
        How many of each.
    digest : str
        Of the manifest, by which it names everything in it.
    """

    path: Path
    collections: Mapping[str, int]
    journals: int
    datasets: int
    digest: str


# -- writing ----------------------------------------------------------------------------------


def write_backup(catalog: Catalog, path: Path, *, datasets: bool = False) -> Backup:
    """Write a backup, whole or not at all; runs may be running.

    Parameters
    ----------
    catalog : Catalog
        Of the project; all of its database is backed up, whoever wrote it.
    path : Path
        The file to write, ``.tar``, ``.tar.gz`` or ``.tar.xz``.
    datasets : bool
        Whether the whole datasets in the store are backed up too.

    Raises
    ------
    BackupError
        If the file is there, or MongoDB is away.
    StoreError
        If the disk is full.
    """
    if path.exists():
        raise BackupError(f"{path} is there already; nothing was written")
    if catalog.trouble:
        raise BackupError(f"{catalog.trouble}; nothing was written")
    mode: Any = f"w:{_COMPRESSIONS.get(path.suffix, '')}"
    with disk_errors(path), whole_file(path) as temporary, tarfile.open(temporary, mode) as tar:
        archive = _Archive(tar)
        database = catalog.database
        counts = {} if database is None else dict(_add_database(archive, database))
        root = catalog.project.root
        archive.add(root / _DECLARATION, _DECLARATION)
        n_journals = _add_state(archive, root)
        n_datasets = _add_store(archive, catalog.project.store.root) if datasets else 0
        manifest = {
            "format": FORMAT,
            "made": timestamp(datetime.now(UTC)),
            "project": catalog.project.declaration.name,
            "collections": counts,
            "journals": n_journals,
            "datasets": n_datasets,
            "files": archive.entries,
        }
        text = json.dumps(manifest, indent=1).encode()
        archive.add_bytes(text, MANIFEST)
    return Backup(path, counts, n_journals, n_datasets, hashlib.sha256(text).hexdigest())


@dataclass
class _Archive:
    """A tar archive that is written, and the checksum of each file in it."""

    tar: tarfile.TarFile
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, path: Path, name: str) -> bool:
        """Add a file as it is now; return whether it was there.

        It may grow or be cut meanwhile. Of several names of one file, the others are links.
        """
        try:
            info = self.tar.gettarinfo(path, name)
            if info.isreg():
                with open(path, "rb") as file, _copied(file) as copy:
                    self._add(info, copy)
                return True
        except FileNotFoundError:
            return False
        if info.islnk() or info.issym():
            self.tar.addfile(info)
            self.entries[name] = {"link" if info.islnk() else "symlink": info.linkname}
        return True

    def add_stream(self, stream: IO[bytes], name: str) -> None:
        """Add what a stream has."""
        with _copied(stream) as copy:
            self._add(tarfile.TarInfo(name), copy)

    def add_bytes(self, data: bytes, name: str) -> None:
        """Add a file that is not listed in the manifest."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self.tar.addfile(info, BytesIO(data))

    def _add(self, info: tarfile.TarInfo, copy: IO[bytes]) -> None:
        info.size = copy.seek(0, os.SEEK_END)
        copy.seek(0)
        self.tar.addfile(info, copy)
        copy.seek(0)
        digest = hashlib.file_digest(copy, "sha256").hexdigest()  # type: ignore[arg-type]
        self.entries[info.name] = {"size": info.size, "sha256": digest}


@contextmanager
def _copied(file: IO[bytes]) -> Iterator[IO[bytes]]:
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as copy:
        shutil.copyfileobj(file, copy)
        yield copy


def _add_database(archive: _Archive, database: Database) -> Iterator[tuple[str, int]]:
    """Add every collection; yield its name and how many documents it has."""
    for name in collections(database):
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
            count = dump(database, name, file)
            file.seek(0)
            archive.add_stream(file, f"database/{file_name(name)}")
        yield name, count


def _add_state(archive: _Archive, root: Path) -> int:
    """Add journals, tombstones, code and the names of the project; return how many journals."""
    state = root / STATE_FOLDER
    archive.add(state / NAMES, f"state/{NAMES}")
    for path in sorted((state / DELETED).glob("[!.]*.json")):
        archive.add(path, f"state/{DELETED}/{path.name}")
    number = 0
    for uid in journal_uids(root):
        number += _add_journal(archive, state / "journal" / uid, f"state/journal/{uid}")
    return number


def _add_journal(archive: _Archive, journal: Path, name: str) -> bool:
    """Add a journal that has begun: what its events refer to after them, their summary before."""
    try:
        with open(journal / EVENTS, "rb") as file:
            if not file.readline().endswith(b"\n"):
                return False
    except OSError:  # deleted, or no journal
        return False
    first = [STATUS_FILE, EVENTS, CONSOLE]
    found = [path.relative_to(journal).as_posix() for path in sorted(journal.rglob("*"))]
    names = [*first, *(each for each in found if each not in first)]
    for each in names:
        if _counts(each):
            archive.add(journal / each, f"{name}/{each}")
    return True


def _counts(name: str) -> bool:
    return name != BALLAST_FILE and not name.endswith(TEMPORARY)


def _add_store(archive: _Archive, store: Path) -> int:
    """Add the whole datasets, and which is current; return how many."""
    number = 0
    for manifest in sorted(store.glob(f"*/*/*/{MANIFEST}")):
        folder = manifest.parent
        listed = (read_json(manifest) or {}).get("files")
        if folder.is_symlink() or folder.name.startswith("partial") or not listed:
            continue
        task, name = folder.parent, f"store/{folder.relative_to(store).as_posix()}"
        for each in ("task.json", ATTEMPTS, CURRENT):
            if f"store/{(task / each).relative_to(store).as_posix()}" not in archive.entries:
                archive.add(task / each, f"store/{(task / each).relative_to(store).as_posix()}")
        for entry in listed:
            archive.add(folder / entry["name"], f"{name}/{entry['name']}")
        number += archive.add(manifest, f"{name}/{MANIFEST}")
    return number


# -- restoring --------------------------------------------------------------------------------


def restore_backup(
    path: Path, root: Path, database: Database | None, *, only_database: bool = False
) -> Backup:
    """Restore a backup into an empty project and an empty database; then bring the two together.

    Everything is compared with its checksum before anything is changed. A restoration that was
    killed is finished by another one of the same backup.

    Parameters
    ----------
    path : Path
        The backup.
    root : Path
        Folder of the project; a declaration is restored where it has none.
    database : Database or None
        Where the records go; None for the journals alone.
    only_database : bool
        Whether only the database is restored, into another one than before: the journals are here.

    Raises
    ------
    BackupError
        If the backup is damaged, or anything would be overwritten.
    StoreError
        If the disk is full.
    DatabaseError
        If the database is away.
    """
    state = root / STATE_FOLDER
    state.mkdir(mode=0o700, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=".restore-", suffix=TEMPORARY, dir=state))
    try:
        with disk_errors(staged):
            backup = _extract(path, staged)
        store = root / _settings(root, staged).get("store", "artifacts")
        mark = {"digest": backup.digest, "database": database.identity if database else ""}
        is_again = read_json(state / _MARK) == mark
        _refuse_to_overwrite(backup, staged, root, store, database, only_database, is_again)
        write_json(state / _MARK, mark)
        if database is not None:
            load(database, staged / "database")
        if not only_database:
            _move_in(staged, root, store)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    if database is not None:
        sync(root, database)
    (state / _MARK).unlink()
    return backup


def require_backup(path: Path) -> None:
    """Make sure that there is a file that may be a backup, before a database is started for it.

    Raises
    ------
    BackupError
        If there is none.
    """
    if not path.is_file() or not tarfile.is_tarfile(path):
        what = "is no backup" if path.is_file() else "is not there"
        raise BackupError(f"{path} {what}; nothing was changed")


def _settings(root: Path, staged: Path) -> dict[str, Any]:
    """Return the table ``[project]``, whatever else is declared and whether that can be loaded."""
    path = root / _DECLARATION
    path = path if path.exists() else staged / _DECLARATION
    with suppress(OSError, ValueError):
        return dict(tomllib.loads(path.read_text(encoding="utf-8")).get("project", {}))
    return {}


def database_name(path: Path, root: Path) -> str:
    """Return the name of the database that a project, or else the one in a backup, declares."""
    with suppress(*_DAMAGES, OSError), tempfile.TemporaryDirectory() as folder:
        if not (root / _DECLARATION).exists():
            with tarfile.open(path) as tar:
                tar.extract(_DECLARATION, folder, filter="data")
        return str(_settings(root, Path(folder)).get("database", "factbook"))
    return "factbook"


def _extract(path: Path, staged: Path) -> Backup:
    """Extract a backup and compare everything with its checksum."""
    try:
        with tarfile.open(path) as tar:
            tar.extractall(staged, filter="data")
        data = (staged / MANIFEST).read_bytes()
        manifest = json.loads(data)
        if manifest["format"] != FORMAT:
            raise BackupError(f"{path} has format {manifest['format']}; expected {FORMAT}")
        faults = [
            name for name, entry in manifest["files"].items() if _differs(staged, name, entry)
        ]
        counts = (manifest["collections"], manifest["journals"], manifest["datasets"])
    except FileNotFoundError as error:
        what = f"is no whole backup: it has no {MANIFEST}"
        raise BackupError(f"{path} {what}; nothing was changed") from error
    except _DAMAGES as error:
        raise BackupError(f"{path} is damaged: {error}; nothing was changed") from error
    if faults:
        raise BackupError(f"{path} is damaged: {faults[0]} is not as written; nothing was changed")
    return Backup(path, *counts, hashlib.sha256(data).hexdigest())


def _differs(staged: Path, name: str, entry: Mapping[str, Any]) -> bool:
    path = staged / name
    if "symlink" in entry:
        return not path.is_symlink() or os.readlink(path) != entry["symlink"]
    if "link" in entry:
        return not (path.exists() and path.samefile(staged / entry["link"]))
    return not path.is_file() or file_sha256(path) != entry["sha256"]


def _refuse_to_overwrite(
    backup: Backup,
    staged: Path,
    root: Path,
    store: Path,
    database: Database | None,
    only_database: bool,
    is_again: bool,
) -> None:
    there: list[str] = []
    held = holds_anything(database) if database is not None and not is_again else ""
    if database is not None and held:
        there.append(f"{database.address} has documents in {held!r}")
    if not only_database and not is_again:
        there += [f"{journal_root(root)} has journals"] if journal_uids(root) else []
        there += [f"{store} has datasets"] if backup.datasets and any(store.glob("*/*")) else []
    if there:
        hint = ""
        if journal_uids(root) and not held and not only_database:
            hint = "; --only-database restores the records alone, where the journals are here"
        raise BackupError(f"{' and '.join(there)}; nothing was changed{hint}")


def _move_in(staged: Path, root: Path, store: Path) -> None:
    """Give what was extracted its place, by renaming; the journals come last."""
    if not (root / _DECLARATION).exists():
        (staged / _DECLARATION).rename(root / _DECLARATION)
    moves: Iterable[tuple[Path, Path]] = (
        (staged / "store", store),
        *((staged / "state" / each, root / STATE_FOLDER / each) for each in _PLACES),
    )
    for source, target in moves:
        if source.exists() and not (target.is_dir() and any(target.iterdir())):
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
