"""Checks of a project: environment, database, journals and store, held against each other."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from registry.catalog.access import REMOVED, Catalog, scoped
from registry.catalog.runs import UID
from registry.declare.plugins import ShadowedPackageError, require_own_packages
from registry.mongo import queries, server
from registry.mongo.database import (
    ADVICE,
    URL_VARIABLE,
    AwayError,
    DamagedError,
    Database,
    DatabaseError,
    DuplicateError,
    PasswordError,
    connect,
)
from registry.mongo.files import find_content
from registry.mongo.projection import unnamed_record
from registry.mongo.projector import sync
from registry.mongo.removal import apply_tombstones, find_deleted
from registry.plan.project import Project, finish_deletions
from registry.plan.sources import DISTRIBUTION
from registry.record.copies import ARTIFACTS, SOURCES, Copy, copies
from registry.record.journal import OPEN, STATUS_FILE, Journal, journal_root, read_journal
from registry.record.liveness import status_of, write_status
from registry.record.tombstones import DELETED, deleted_uids, half_deleted, read_tombstone
from registry.record.wholeness import journal_faults, summary_status
from registry.store.durable import TEMPORARY, StoreError
from registry.store.manifest import CURRENT, MANIFEST, file_faults, read_manifest
from registry.suggest import RefusalError
from registry.upkeep.inventory import Holding, Inventory, take_inventory
from registry.wording import counted, size_text

REPAIR = "factbook doctor --repair"
_ANEW = (
    f"{REPAIR} sets its data aside and stores all runs again from their journals; "
    f"notes and tags are in backups alone"
)
_ROOM = 64 << 20  # bytes; with less, what fails may be the disk
_UID, _ROOT = "info.factbook.uid", "info.factbook.root"

Repair = Callable[[], object]


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes
    ----------
    about : str
        ``environment``, ``permissions``, ``database``, ``records``, ``journals`` or ``store``.
    what : str
        What is wrong, with where.
    remedy : str
        What to do, or to type.
    repair : callable or None
        Mends it without losing anything; None where that takes a person, or time.
    """

    about: str
    what: str
    remedy: str
    repair: Repair | None = None


@dataclass(frozen=True)
class _Told:
    """What a journal says, of what is held against other things."""

    status: str
    has_begun: bool
    faults: tuple[str, ...]
    size: int
    cell: str
    output: str
    kept: frozenset[Path]

    @classmethod
    def by(cls, folder: Path) -> _Told:
        journal = read_journal(folder)
        faults = journal_faults(journal)
        output = journal.facts.get("output")
        path = output.get("path") if isinstance(output, Mapping) else None
        cell = str(journal.facts.get("cell", ""))
        begun = bool(journal.experiment)
        kept = frozenset(folder / kind / md5 for kind, md5 in _kept(journal))
        return cls(journal.status, begun, faults, journal.size, cell, str(path or ""), kept)

    @property
    def ended(self) -> bool:
        return self.status not in OPEN


def _kept(journal: Journal) -> Iterator[tuple[str, str]]:
    """Yield which copies a journal refers to: code or artifacts, and the digest of each."""
    with suppress(KeyError, TypeError, ValueError):  # a journal of another form
        yield from ((SOURCES, str(md5)) for _, md5 in journal.experiment["sources"])
        yield from ((ARTIFACTS, str(each["md5"])) for each in journal.artifacts if each["kept"])


def examine(catalog: Catalog, *, verify: bool = False) -> Iterator[Finding]:
    """Yield what is not as it should be.

    Parameters
    ----------
    catalog : Catalog
        Of the project.
    verify : bool
        Whether checksums of datasets are compared too: reads every byte.
    """
    project = catalog.project
    yield from _environment()
    yield from _permissions(project)
    yield from _deletions(catalog)
    inventory = take_inventory(project)
    folder, gone = journal_root(project.root), deleted_uids(project.root)
    told = {uid: _Told.by(folder / uid) for uid in sorted(inventory.journals - gone)}
    yield from _journals(project, told)
    yield from _copies(catalog, told, verify)
    for path in inventory.unbegun:
        yield Finding(
            "journals", f"run {path.name} never began; its journal is empty", "factbook gc"
        )
    yield from _records(catalog, told)
    yield from _store(inventory, verify)
    yield from _outputs(inventory, told)


def mend(findings: Iterable[Finding]) -> None:
    """Mend what can be mended without losing anything; what cannot is found again."""
    for finding in findings:
        if finding.repair is not None:
            with suppress(OSError, RefusalError):
                finding.repair()


# -- the environment --------------------------------------------------------------------------


def _environment() -> Iterator[Finding]:
    if not (3, 11) <= sys.version_info[:2] < (3, 14):
        version = ".".join(map(str, sys.version_info[:3]))
        yield Finding("environment", f"Python {version}; expected 3.11 to 3.13", "use another one")
    try:
        require_own_packages()
    except ShadowedPackageError as error:
        yield Finding("environment", str(error), "see there")
    for requirement in _requirements():
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            found = ""
        if not found or not requirement.specifier.contains(found, prereleases=True):
            what = f"{requirement.name} {found}" if found else f"no {requirement.name}"
            wanted = f"{requirement.name}{requirement.specifier}"
            remedy = f"pip install {wanted!r}"
            yield Finding("environment", f"{what}; expected {wanted}", remedy)


def _requirements() -> Iterator[Requirement]:
    """Yield what the distribution needs: always, and for the extras of which something is there."""
    for line in metadata.requires(DISTRIBUTION) or ():
        requirement = Requirement(line)
        marker = requirement.marker
        is_extra = marker is not None and not marker.evaluate({"extra": ""})
        if not is_extra or _is_installed(requirement.name):
            yield requirement


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _permissions(project: Project) -> Iterator[Finding]:
    state, store = project.state, project.store.root
    for folder in (project.root, state, journal_root(project.root), store, *store.glob("*")):
        if folder.is_dir() and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            yield Finding("permissions", f"{folder} cannot be written", f"chmod u+rwx {folder}")
    if (state / "mongo").is_dir() and state.stat().st_mode & 0o077:
        what = f"others may enter {state}, where the database is"
        yield Finding("permissions", what, REPAIR, lambda: state.chmod(0o700))


# -- records ----------------------------------------------------------------------------------


def _deletions(catalog: Catalog) -> Iterator[Finding]:
    for uid in half_deleted(catalog.project.root):
        what = f"the deletion of run {uid} was cut short"
        yield Finding("records", what, REPAIR, partial(_finish_deletions, catalog))
    folder = catalog.project.state / DELETED
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        tombstone = (
            read_tombstone(catalog.project.root, path.stem) if path.suffix == ".json" else None
        )
        if path.name.endswith(TEMPORARY):
            continue
        if tombstone is None or not UID.fullmatch(path.stem):
            yield Finding("records", f"{path} is no tombstone of a run", "move it elsewhere")
        elif tombstone.is_damaged:
            yield _damaged_tombstone(catalog, path)


def _damaged_tombstone(catalog: Catalog, path: Path) -> Finding:
    """Return that a tombstone says nothing any more; perhaps the database knows what it said."""
    what, database = f"the tombstone of run {path.stem} is damaged", catalog.database
    with suppress(DatabaseError):
        known = find_deleted(database, path.stem) if database is not None else None
        if known is not None and not known.is_damaged:
            return Finding("records", what, REPAIR, partial(_finish_deletions, catalog))
    return Finding("records", f"{what}; the run stays deleted", f"bring {path} back from a backup")


def _finish_deletions(catalog: Catalog) -> None:
    if catalog.database is not None:
        apply_tombstones(catalog.project.root, catalog.database)
    finish_deletions(catalog.project)


def _journals(project: Project, told: Mapping[str, _Told]) -> Iterator[Finding]:
    folder = journal_root(project.root)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not UID.fullmatch(path.name) and not path.name.endswith(TEMPORARY):
            yield Finding("journals", f"{path} is no journal", "move it elsewhere")
    for uid, said in told.items():
        remedy = f"look at {folder / uid}"
        if said.faults:
            what = f"the journal of run {uid} is damaged: {', '.join(said.faults)}"
            yield Finding("journals", what, f"{remedy}; what can be read of it is used")
        summary, repair = summary_status(folder / uid), partial(_sum_up, folder / uid)
        if said.size and not summary and (folder / uid / STATUS_FILE).exists():
            what = f"the summary of run {uid} is damaged"
            yield Finding("journals", what, *((remedy,) if said.faults else (REPAIR, repair)))
        if said.ended and summary != said.status and summary not in OPEN:
            what = f"the summary of run {uid} says {summary}, and its journal {said.status}"
            yield Finding("journals", what, *((remedy,) if said.faults else (REPAIR, repair)))
        if said.size and not said.has_begun:
            yield Finding("journals", f"the journal of run {uid} has no beginning", remedy)


def _copies(catalog: Catalog, told: Mapping[str, _Told], verify: bool) -> Iterator[Finding]:
    """Yield the copies of code, and of artifacts, that are not what their names say, or gone."""
    root, whole = catalog.project.root, dict[str, Path]()
    gone = {path for said in told.values() for path in said.kept}
    known = {path.name for path in gone}
    damaged: list[Copy] = []
    for copy in copies(root, SOURCES, ARTIFACTS):
        gone.difference_update(copy.paths)
        if not verify and copy.paths[0].parent.name == ARTIFACTS:
            continue
        if copy.is_whole:
            whole[copy.md5] = copy.paths[0]
        elif copy.md5 in known:  # what is of no run is garbage
            damaged.append(copy)
    digests = sorted({path.name for path in gone if not os.path.lexists(path)})
    damaged += [Copy(md5, tuple(sorted(p for p in gone if p.name == md5))) for md5 in digests]
    for copy in damaged:
        users = [path.parents[1] for path in copy.paths if path.parents[2] == journal_root(root)]
        more = f" and {counted(len(users) - 1, 'other run')}" if len(users) > 1 else ""
        of = f" of run {users[0].name}{more}" if users else ""
        is_there = os.path.lexists(copy.paths[0])
        what = f"the copy {copy.paths[0]}{of} is {'damaged' if is_there else 'gone'}"
        if not users:
            yield Finding("journals", what, REPAIR, copy.paths[0].unlink)
        elif (content := _content(copy, whole, users, catalog.database)) is None:
            yield Finding("journals", what, "bring it back from a backup")
        else:
            yield Finding("journals", what, REPAIR, partial(copy.replace, content))


def _content(
    copy: Copy, whole: Mapping[str, Path], users: Iterable[Path], database: Database | None
) -> bytes | None:
    """Return what a damaged copy was: by another one, a file that is as it was, or the database."""
    known = [whole[copy.md5]] if copy.md5 in whole else []
    for path in dict.fromkeys([*known, *_originals(copy.md5, users)]):
        with suppress(OSError):
            content = path.read_bytes()
            if hashlib.md5(content).hexdigest() == copy.md5:
                return content
    with suppress(DatabaseError):
        return find_content(database, copy.md5) if database is not None else None
    return None


def _originals(md5: str, users: Iterable[Path]) -> Iterator[Path]:
    """Yield where the files were that runs have used or made, of a digest."""
    for folder in users:
        journal = read_journal(folder, with_metrics=False)
        with suppress(KeyError, TypeError, ValueError):  # a journal of another form
            base = Path(journal.experiment["base_dir"])
            sources = journal.experiment["sources"]
            yield from (base / name for name, digest in sources if digest == md5)
            yield from (Path(each["path"]) for each in journal.artifacts if each["md5"] == md5)


def _sum_up(folder: Path) -> None:
    write_status(folder, status_of(read_journal(folder)))


def _records(catalog: Catalog, told: Mapping[str, _Told]) -> Iterator[Finding]:
    """Yield what is wrong between the database and the journals."""
    database, root = catalog.database, catalog.project.root
    if catalog.trouble:
        yield _trouble(catalog)
    if database is None:
        return
    try:
        recorded = dict(_recorded(database, catalog))
    except DatabaseError as error:
        yield _trouble(replace(catalog, database=None, trouble=str(error)))
        return

    def again() -> None:
        try:
            sync(root, database, again=True, verify=True)
        except DamagedError:
            if os.environ.get(URL_VARIABLE):
                raise
            _begin_anew(catalog)

    missing = [uid for uid, said in told.items() if said.has_begun and uid not in recorded]
    for uid in list(missing):
        journal = read_journal(journal_root(root) / uid, with_metrics=False)
        if (record := unnamed_record(journal, database)) is not None:
            missing.remove(uid)
            what = f"record {record['_id']} has lost what says that it is of run {uid}"
            yield Finding("records", what, REPAIR, again)
    if missing:
        what = f"{counted(len(missing), 'run')} with a journal and no record, as {missing[0]}"
        yield Finding("records", what, REPAIR, again)
    known = told.keys() & recorded.keys()
    differing = [u for u in known if told[u].ended and recorded[u]["status"] != told[u].status]
    if differing:
        many = counted(len(differing), "record")
        what = f"{many} with another status than the journal, as {min(differing)}"
        yield Finding("records", what, REPAIR, again)
    for uid in sorted(u for u in known if not (told[u].ended or told[u].faults)):
        status, folder = str(recorded[uid]["status"]), journal_root(root) / uid
        if status not in OPEN and not read_journal(folder, with_metrics=False).ended:
            what = f"the record of run {uid} says {status}, and its journal has no end"
            yield Finding("records", what, f"look at {folder}")
    for uid in sorted(recorded.keys() - told.keys() - deleted_uids(root)):
        if queries.value_at(recorded[uid], _ROOT) == str(root):
            what = f"run {uid} has a record, and its journal is gone"
            yield Finding("records", what, "bring .factbook/journal back from a backup")


def _trouble(catalog: Catalog) -> Finding:
    """Return what is wrong with a database that cannot be used."""
    trouble = catalog.trouble.removesuffix(f"; {ADVICE}")
    if os.environ.get(URL_VARIABLE):
        return Finding("database", trouble, "start it, or correct its URL")
    error = _failure(catalog)
    if error is None or isinstance(error, AwayError):
        return Finding("database", trouble, "factbook mongo stop; it is started again")
    if isinstance(error, StoreError):
        return Finding("database", str(error), "make room there")
    if isinstance(error, PasswordError):
        remedy = f"{REPAIR} makes a new password"
        return Finding("database", trouble, remedy, partial(_mend_database, catalog))
    if isinstance(error, DamagedError | DuplicateError):
        return Finding("database", trouble, _ANEW, partial(_mend_database, catalog))
    return Finding("database", str(error), f"see {catalog.project.state / 'mongo' / 'server.log'}")


def _failure(catalog: Catalog) -> RefusalError | None:
    """Return how the embedded server fails, None if it does not; whoever uses it goes on."""
    project = catalog.project
    for folder in filter(Path.is_dir, (project.state, project.state / "mongo")):
        if shutil.disk_usage(folder).free < _ROOM:
            return StoreError(f"disk full: less than {size_text(_ROOM)} at {folder}")
    try:
        with _connected(project) as database:
            sync(project.root, database)
            list(_recorded(database, scoped(Catalog(project, database))))
    except RefusalError as error:
        return error
    return None


def _mend_database(catalog: Catalog) -> None:
    """Let the project in again, and set aside what still cannot be read."""
    root = catalog.project.root
    server.stop(root)
    error = _failure(catalog)
    if isinstance(error, PasswordError):
        server.renew_password(root)
        error = _failure(catalog)
    if isinstance(error, DamagedError | DuplicateError):
        _begin_anew(catalog)


def _begin_anew(catalog: Catalog) -> None:
    """Set the embedded server's data aside, and store all runs again from their journals."""
    root = catalog.project.root
    server.stop(root)
    server.begin_anew(root)
    with _connected(catalog.project) as database:
        sync(root, database)


def _connected(project: Project) -> AbstractContextManager[Database]:
    database = connect(project.root, name=project.declaration.project.database)
    assert database is not None  # it is not off
    return closing(database)


def _recorded(database: Database, catalog: Catalog) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the records of the project's runs by their identifiers."""
    for part in queries.each_run(database, ("status", _UID, _ROOT), scope=catalog.scope):
        for record in part:
            if uid := queries.value_at(record, _UID):
                yield str(uid), record


# -- the store --------------------------------------------------------------------------------


def _store(inventory: Inventory, verify: bool) -> Iterator[Finding]:
    for task in inventory.tasks:
        link = task / CURRENT
        if os.path.lexists(link) and not (link.is_symlink() and (link / MANIFEST).is_file()):
            store = inventory.project.store
            what = f"{link} leads to no whole dataset"
            yield Finding("store", what, REPAIR, partial(store.repair_current, task))
    for run, holding in inventory.holdings.items():
        if run in inventory.strangers:
            what = f"the dataset {holding.folder} is of a run that has no journal here"
            yield Finding("store", what, "leave it, if another project shares the store")
        if fault := _fault(holding, verify):
            command = f"factbook run {shlex.quote(holding.cell)} --verify"
            remedy = command if run in inventory.current else "factbook gc"
            what = f"the dataset of run {run} of {holding.cell!r} is damaged: {fault}"
            yield Finding("store", what, remedy)


def _fault(holding: Holding, verify: bool) -> str:
    manifest = read_manifest(holding.folder)
    if manifest is None:
        return f"no {MANIFEST}, or a damaged one"
    return next(iter(file_faults(holding.folder, manifest, verify)), "")


def _outputs(inventory: Inventory, told: Mapping[str, _Told]) -> Iterator[Finding]:
    """Yield the runs that made a dataset which is gone, and nobody removed it on purpose."""
    root = inventory.project.root
    for uid, said in told.items():
        has_made = said.output and said.status == "COMPLETED"  # others only meant to publish it
        is_gone = has_made and not (root / said.output).is_dir()
        if is_gone and not (journal_root(root) / uid / REMOVED).exists():
            what = f"the dataset of run {uid} is gone from {root / said.output}"
            yield Finding("store", what, f"factbook run {shlex.quote(said.cell)}")
