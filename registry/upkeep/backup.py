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
import shlex
import shutil
import tarfile
import tempfile
import tomllib
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from io import BytesIO
from lzma import LZMAError
from pathlib import Path
from typing import IO, Any

from registry.catalog.access import Catalog
from registry.catalog.notes import NOTES_FILE
from registry.catalog.scope import NAMES
from registry.mongo.database import Database
from registry.mongo.dump import (
    collections,
    dump,
    file_name,
    holds_anything,
    holds_others,
    load,
)
from registry.mongo.projector import sync
from registry.plan.artifacts import ATTEMPTS, read_attempts
from registry.record.appendfile import BALLAST_FILE
from registry.record.journal import (
    CONSOLE,
    EVENTS,
    PROJECTED,
    STATUS_FILE,
    journal_root,
    journal_uids,
    timestamp,
)
from registry.record.tombstones import DELETED
from registry.store.durable import (
    RESTORING,
    STATE_FOLDER,
    TEMPORARY,
    at_once,
    disk_errors,
    file_sha256,
    lock,
    make_state_folder,
    read_json,
    whole_file,
    whole_file_told,
    write_json,
)
from registry.store.manifest import CURRENT, MANIFEST, read_manifest
from registry.suggest import RefusalError

FORMAT = 1

_COMPRESSIONS = {".gz": "gz", ".tgz": "gz", ".xz": "xz"}

_DECLARATION = "experiments.toml"
STAGED = f".restore{TEMPORARY}"
"""The folder, beside what it is to become, that a backup is extracted to."""

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
    with whole_file_told(path) as temporary, _private_tar(temporary, mode) as tar:
        archive = _Archive(tar, path.parent)
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


def _private_tar(path: Path, mode: Any) -> tarfile.TarFile:
    """Open an archive to be written that only its owner may read: it holds what runs printed."""
    path.touch(mode=0o600)
    return tarfile.open(path, mode)


@dataclass
class _Archive:
    """A tar archive that is written, and the checksum of each file in it."""

    tar: tarfile.TarFile
    folder: Path
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, path: Path, name: str) -> bool:
        """Add a file as it is now; return whether it was there.

        It may grow or be cut meanwhile. Of several names of one file, the others are links.
        """
        try:
            info = self.tar.gettarinfo(path, name)
            if info.isreg():
                with open(path, "rb") as file, self.copied(file) as copy:
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
        with self.copied(stream) as copy:
            self._add(tarfile.TarInfo(name), copy)

    def add_bytes(self, data: bytes, name: str) -> None:
        """Add a file that is not listed in the manifest."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self.tar.addfile(info, BytesIO(data))

    def spool(self) -> IO[bytes]:
        """Return a file for a moment: in memory if it is small, else where the archive is."""
        return tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(self.folder))

    @contextmanager
    def copied(self, file: IO[bytes]) -> Iterator[IO[bytes]]:
        """Yield a copy, which does not change."""
        with self.spool() as copy:
            shutil.copyfileobj(file, copy)
            yield copy

    def _add(self, info: tarfile.TarInfo, copy: IO[bytes]) -> None:
        info.size = copy.seek(0, os.SEEK_END)
        copy.seek(0)
        self.tar.addfile(info, copy)
        copy.seek(0)
        digest = hashlib.file_digest(copy, "sha256").hexdigest()  # type: ignore[arg-type]
        self.entries[info.name] = {"size": info.size, "sha256": digest}


def _add_database(archive: _Archive, database: Database) -> Iterator[tuple[str, int]]:
    """Add every collection; yield its name and how many documents it has."""
    for name in collections(database):
        with archive.spool() as file:
            count = dump(database, name, file)
            file.seek(0)
            archive.add_stream(file, f"database/{file_name(name)}")
        yield name, count


def _add_state(archive: _Archive, root: Path) -> int:
    """Add journals, tombstones, code and the names of the project; return how many journals."""
    state = root / STATE_FOLDER
    for name in (NAMES, NOTES_FILE):
        archive.add(state / name, f"state/{name}")
    for path in sorted((state / DELETED).glob("[!.]*.json")):
        archive.add(path, f"state/{DELETED}/{path.name}")
    number = 0
    for uid in journal_uids(root):
        number += _add_journal(archive, state / "journal" / uid, f"state/journal/{uid}")
    return number


def _add_journal(archive: _Archive, journal: Path, name: str) -> bool:
    """Add a journal that has begun: what its events refer to after them, summaries before."""
    try:
        with open(journal / EVENTS, "rb", opener=at_once) as file:
            if not file.readline().endswith(b"\n"):
                return False
    except OSError:  # deleted, or no journal
        return False
    first = [STATUS_FILE, PROJECTED, EVENTS, CONSOLE]
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
        listed = (read_manifest(folder) or {}).get("files")
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
    mark = {
        "digest": "",
        "database": database.identity if database else "",
        "only_database": only_database,
    }
    with _Staging(root) as staging:
        backup = _extract(path, staging)
        mark["digest"] = backup.digest
        begun = read_json(state / RESTORING) or {}
        is_again = all(begun.get(name, False) == value for name, value in mark.items())
        is_loaded = is_again and bool(begun.get("is_loaded"))
        _refuse_to_overwrite(backup, staging, database, begun, is_again, only_database)
        mark["command"] = _command(path, only_database)
        if database is not None and not is_loaded:
            write_json(state / RESTORING, mark)
            load(database, staging.path("database"))
        write_json(state / RESTORING, {**mark, "is_loaded": True})
        if not only_database:
            _move_in(staging)
        if database is not None:
            sync(root, database, again=True)
        os.sync()  # all of it, before it is said to be done
        for stray in state.glob(f".{RESTORING}.*{TEMPORARY}"):  # of one that was killed
            stray.unlink(missing_ok=True)
    (state / RESTORING).unlink(missing_ok=True)
    return backup


def _command(path: Path, only_database: bool) -> str:
    return f"factbook restore {shlex.quote(str(path))}{' --only-database' * only_database}"


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


def _settings(*declarations: Path) -> dict[str, Any]:
    """Return the table ``[project]`` of the first file that there is, however faulty the rest."""
    path = next((path for path in declarations if path.exists()), None)
    with suppress(OSError, ValueError):
        if path is not None:
            return dict(tomllib.loads(path.read_text(encoding="utf-8")).get("project", {}))
    return {}


def database_name(path: Path, root: Path) -> str:
    """Return the name of the database that a project, or else the one in a backup, declares."""
    with suppress(*_DAMAGES, OSError), tempfile.TemporaryDirectory() as folder:
        if not (root / _DECLARATION).exists():
            with tarfile.open(path) as tar:
                tar.extract(_DECLARATION, folder, filter="data")
        declared = _settings(root / _DECLARATION, Path(folder, _DECLARATION))
        return str(declared.get("database", "factbook"))
    return "factbook"


class _Staging:
    """Where a backup is extracted: beside what it is to become, so that renaming moves it there.

    Each folder that something goes to, on whatever file system, has a folder for that while this
    context lasts, and no other restoration has it.
    """

    def __init__(self, root: Path):
        self.root = root
        self.names: set[str] = set()
        self._folders: dict[Path, Path] = {}
        self._end = ExitStack()

    def __enter__(self) -> _Staging:
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()

    @cached_property
    def store(self) -> Path:
        """The store of the project; in a backup the declaration comes before any dataset."""
        declared = _settings(self.root / _DECLARATION, self.path(_DECLARATION))
        return self.root / Path(str(declared.get("store", "artifacts"))).expanduser()

    def extract(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Extract one file."""
        folder = self._folder(member.name)
        with disk_errors(folder / member.name):
            tar.extract(member, folder, filter="data")
        self.names.add(member.name)

    def path(self, name: str) -> Path:
        """Return where a file or a folder of the backup was extracted."""
        return self._folder(name) / name

    def moves(self) -> Iterator[tuple[Path, Path]]:
        """Yield what was extracted and its place: tombstones, tasks, and last the journals."""
        state = self.root / STATE_FOLDER
        heads = {tuple(name.split("/")[:3]) for name in self.names}
        for above, place in (
            (("state", DELETED), state / DELETED),
            (("store",), self.store),
            (("state", "journal"), journal_root(self.root)),
        ):
            for head in sorted(head for head in heads if head[: len(above)] == above):
                yield self.path("/".join(head)), place.joinpath(*head[len(above) :])

    def _folder(self, name: str) -> Path:
        above = name.split("/")
        place = self.root / STATE_FOLDER
        if above[0] == "store":
            place = self.store
        elif above[:2] == ["state", "journal"]:
            place = journal_root(self.root)
        if place not in self._folders:
            self._folders[place] = self._begin(place)
        return self._folders[place]

    def _begin(self, place: Path) -> Path:
        if not place.exists():
            self._end.callback(_remove_empty, place)
        make_state_folder(place)
        folder = place / STAGED
        folder.mkdir(exist_ok=True)
        held = lock(folder, wait=False)
        if held is None:
            raise BackupError(f"another restoration is at work in {place}; nothing was changed")
        self._end.callback(held.release)
        self._end.callback(shutil.rmtree, folder, ignore_errors=True)
        for left in folder.iterdir():  # by one that was killed
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        return folder


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _extract(path: Path, staging: _Staging) -> Backup:
    """Extract a backup and compare everything with its checksum."""
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                staging.extract(tar, member)
        data = staging.path(MANIFEST).read_bytes()
        manifest = json.loads(data)
        if manifest["format"] != FORMAT:
            raise BackupError(f"{path} has format {manifest['format']}; expected {FORMAT}")
        listed = manifest["files"]
        faults = sorted(staging.names ^ {*listed, MANIFEST})
        faults += [name for name in listed if _differs(staging, name, listed)]
        counts = (manifest["collections"], manifest["journals"], manifest["datasets"])
    except FileNotFoundError as error:
        what = f"is no whole backup: it has no {MANIFEST}"
        raise BackupError(f"{path} {what}; nothing was changed") from error
    except _DAMAGES as error:
        raise BackupError(f"{path} is damaged: {error}; nothing was changed") from error
    if faults:
        raise BackupError(f"{path} is damaged: {faults[0]} is not as written; nothing was changed")
    return Backup(path, *counts, hashlib.sha256(data).hexdigest())


def _differs(staging: _Staging, name: str, listed: Mapping[str, Mapping[str, Any]]) -> bool:
    path, entry = staging.path(name), listed[name]
    if "symlink" in entry:
        return not path.is_symlink() or os.readlink(path) != entry["symlink"]
    if not path.is_file():
        return True
    if "link" in entry:
        first = staging.path(entry["link"])
        entry = listed[entry["link"]]
        if path.samefile(first):
            return False
    return bool(file_sha256(path) != entry["sha256"])


def _refuse_to_overwrite(
    backup: Backup,
    staging: _Staging,
    database: Database | None,
    begun: Mapping[str, Any],
    is_again: bool,
    only_database: bool,
) -> None:
    journals = bool(journal_uids(staging.root)) and not only_database
    held = "" if database is None else _held(database, staging, begun, is_again)
    there = [f"{database.address} has documents in {held!r}"] if database and held else []
    if is_again and not only_database:
        others = (target for source, target in staging.moves() if _is_other(source, target))
        there += [f"{target}, which has another run, is in the way" for target in others]
    elif not only_database:
        there += [f"{journal_root(staging.root)} has journals"] if journals else []
        has_datasets = backup.datasets and any(staging.store.glob("[!.]*/*"))
        there += [f"{staging.store} has datasets"] if has_datasets else []
    if there:
        hint = ""
        if begun and not is_again:
            hint = f"; another restoration was cut short here: {begun.get('command', '')}"
        elif journals and not held and not is_again:
            hint = "; --only-database restores the records alone, where the journals are here"
        elif not is_again and _are_here(staging):
            hint = "; all runs of this backup are here already"
        raise BackupError(f"{' and '.join(there)}; nothing was changed{hint}")


def _are_here(staging: _Staging) -> bool:
    """Return whether every journal of a backup stands in its place, as after a restoration."""
    root = journal_root(staging.root)
    places = [place for _, place in staging.moves() if place.parent == root]
    return bool(places) and all(place.is_dir() for place in places)


def _held(database: Database, staging: _Staging, begun: Mapping[str, Any], is_again: bool) -> str:
    """Return the name of a collection with documents that a restoration would overwrite."""
    if not is_again:
        return holds_anything(database)
    return "" if begun.get("is_loaded") else holds_others(database, staging.path("database"))


def _is_other(source: Path, target: Path) -> bool:
    """Return whether what stands in a place is not what a restoration would put there.

    Runs have identifiers of their own; a task may have been run again.
    """
    is_there = os.path.lexists(target)
    return is_there and read_attempts(source) != read_attempts(target)


def _move_in(staging: _Staging) -> None:
    """Give what was extracted its place, by renaming, unless it has it already."""
    declared, names = staging.root / _DECLARATION, staging.path(f"state/{NAMES}")
    if not declared.exists():
        with whole_file(declared) as temporary:  # perhaps on another file system
            shutil.copyfile(staging.path(_DECLARATION), temporary)
    if names.exists():
        names.replace(staging.root / STATE_FOLDER / NAMES)
    notes, place = staging.path(f"state/{NOTES_FILE}"), staging.root / STATE_FOLDER / NOTES_FILE
    if notes.exists() and not place.exists():
        notes.replace(place)
    for source, target in staging.moves():
        if _is_other(source, target):
            raise BackupError(f"{target} was made meanwhile; move it elsewhere, and repeat this")
        if not os.path.lexists(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
