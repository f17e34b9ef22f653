"""What a doctor finds in a project, and mends."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.catalog.access import open_catalog
from registry.mongo.database import URL_VARIABLE, Database
from registry.mongo.projector import sync
from registry.record.journal import journal_root
from registry.record.plain import decode_event, encode, seal_event
from registry.record.tombstones import (
    half_deleted,
    read_tombstone,
    tombstone_path,
    write_tombstone,
)
from registry.store.manifest import MANIFEST
from registry.upkeep import doctor
from registry.upkeep.deletion import delete_run, plan_deletion
from registry.upkeep.doctor import Finding, examine, mend
from tests.registry.lab.project import write_project
from tests.registry.test_cli import printed, typed
from tests.registry.upkeep.conftest import run


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has run, beside a copy that is its original."""
    root = write_project(tmp_path_factory.mktemp("ran") / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv(URL_VARIABLE, "off")
        run(root, "pair")
    copy_whole(root, root.with_name("original"))
    return root


def copy_whole(folder: Path, copy: Path) -> None:
    """Copy a folder; files that are one by several names stay one."""
    known: dict[int, str] = {}

    def copy_file(file: str, to: str) -> None:
        if (first := known.setdefault(os.stat(file).st_ino, to)) == to:
            shutil.copy2(file, to)
        else:
            os.link(first, to)

    shutil.copytree(folder, copy, symlinks=True, copy_function=copy_file)


@pytest.fixture
def patient(ran: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that has run, with its records; what a test has changed of it is put right."""
    shutil.rmtree(ran)
    copy_whole(ran.with_name("original"), ran)
    monkeypatch.chdir(ran)
    monkeypatch.setenv(URL_VARIABLE, database_url)
    with open_catalog(ran) as catalog:
        assert catalog.database is not None
        sync(ran, catalog.database)
    return ran


def found(root: Path, verify: bool = False) -> list[Finding]:
    with open_catalog(root) as catalog:
        return list(examine(catalog, verify=verify))


def folder_of(root: Path, name: str = "mean") -> Path:
    [link] = root.glob(f"artifacts/{name}/*/current")
    return link.resolve()


def flip(root: Path) -> None:
    path = folder_of(root) / "dataset.nc"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def break_link(root: Path) -> None:
    link = folder_of(root).parent / "current"
    link.unlink()
    link.symlink_to("20200101T000000-00000000")


def follow_link(root: Path) -> None:
    """As a copy does that follows links."""
    folder = folder_of(root)
    (folder.parent / "current").unlink()
    shutil.copytree(folder, folder.parent / "current")


def folder_for_link(root: Path, *files: str) -> None:
    link = folder_of(root).parent / "current"
    link.unlink()
    link.mkdir()
    for file in files:
        (link / file).touch()


def open_database(root: Path) -> None:
    (root / ".factbook" / "mongo").mkdir()
    (root / ".factbook").chmod(0o755)


def tear_a_line(root: Path) -> None:
    path = journal_root(root) / folder_of(root).name / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b'{"event":"metr\n', *lines[2:]]))


def change_journal(root: Path, change: Callable[[list[bytes]], object]) -> None:
    path = journal_root(root) / folder_of(root).name / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)
    path.write_bytes(b"".join(lines))


def with_points(root: Path, change: Callable[[bytes], bytes]) -> None:
    """Give the journal a numbered line of points, as one more of its own, and change it."""
    point = {"name": "loss", "steps": [0], "values": [0.5], "timestamps": [0]}
    event = {"event": "metrics", "time": "2026-11-22T01:34:00.000Z", "metrics": [point]}

    uid = folder_of(root).name

    def put(lines: list[bytes]) -> None:
        *others, end = (decode_event(line, uid) for line in lines)
        ended = seal_event(encode({**end, "n": len(others) + 1}).encode(), uid=uid)
        points = seal_event(encode(event).encode(), len(others), uid=uid)
        lines[-1:] = [change(points) + b"\n", ended + b"\n"]

    change_journal(root, put)


def say_otherwise(root: Path) -> None:
    path = journal_root(root) / folder_of(root).name / "status.json"
    path.write_text(path.read_text().replace("COMPLETED", "FAILED"))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a dataset is gone": (lambda root: shutil.rmtree(folder_of(root)), "is gone from"),
    "a file is gone": (lambda root: (folder_of(root) / "dataset.nc").unlink(), "is missing"),
    "no manifest": (lambda root: (folder_of(root) / MANIFEST).unlink(), f"no {MANIFEST}"),
    "a bit": (flip, "another checksum"),
    "a journal is gone": (
        lambda root: shutil.rmtree(journal_root(root) / folder_of(root).name),
        "has a record, and its journal is gone",
    ),
    "a stray file": (lambda root: (journal_root(root) / ".DS_Store").touch(), "is no journal"),
    "an unreadable line": (tear_a_line, "1 line cannot be read"),
    "a line of points": (
        lambda root: with_points(root, lambda line: line.replace(b"0.5", b"0.7")),
        "1 line cannot be read",
    ),
    "a line that is gone": (
        lambda root: change_journal(root, lambda lines: lines.pop(1)),
        "missing",
    ),
    "an end that is gone": (lambda root: change_journal(root, list.pop), "its end is missing"),
    "a console": (
        lambda root: (journal_root(root) / folder_of(root).name / "console").write_text("other"),
        "its console is not what was printed",
    ),
}
MENDED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a broken link": (break_link, "leads to no whole dataset"),
    "a copy for a link": (follow_link, "leads to no whole dataset"),
    "a folder for a link": (
        lambda root: folder_for_link(root, "kept"),
        "leads to no whole dataset",
    ),
    "an empty folder for a link": (folder_for_link, "leads to no whole dataset"),
    "another summary": (say_otherwise, "the summary of run"),
    "a database that is open to others": (open_database, "others may enter"),
}


def test_a_project_that_is_well(patient: Path) -> None:
    assert found(patient, verify=True) == []
    assert printed("doctor", "--verify") == "all is well\n"


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_needs_a_person_is_told(patient: Path, damage: str) -> None:
    cause, message = DAMAGES[damage]
    cause(patient)
    findings = found(patient, verify=True)
    assert any(message in finding.what for finding in findings), findings
    mend(findings)
    assert any(message in finding.what for finding in found(patient, verify=True))


@pytest.mark.parametrize("damage", MENDED)
def test_what_can_be_mended_is(patient: Path, damage: str) -> None:
    cause, message = MENDED[damage]
    cause(patient)
    with open_catalog(patient) as catalog:
        findings = list(examine(catalog))
        assert any(message in finding.what for finding in findings), findings
        mend(findings)
    assert found(patient, verify=True) == []


def test_tombstones_that_are_damaged_and_strays(patient: Path, database: Database) -> None:
    with open_catalog(patient) as catalog:
        deletion = plan_deletion(catalog, "mean")
        delete_run(catalog, deletion)
        path = tombstone_path(patient, deletion.tombstone.uid)
        assert list(examine(catalog)) == []
        whole = path.read_bytes()
        path.write_bytes(whole.replace(b'"mean"', b'"meen"'))
        (path.parent / "foo.json").write_text("{}")
        (path.parent / "notes").touch()
        damaged, *strays = examine(catalog)
        assert "is damaged" in damaged.what
        assert [stray.what.rpartition("/")[2] for stray in strays] == [
            "foo.json is no tombstone of a run",
            "notes is no tombstone of a run",
        ]
        mend([damaged])
        tombstone = read_tombstone(patient, deletion.tombstone.uid)
        assert tombstone is not None
        assert (tombstone.cell, tombstone.deleted) == ("mean", deletion.tombstone.deleted)
        path.write_bytes(whole.replace(b'"mean"', b'"meen"'))
        database.collection("factbook.deleted").delete_many({})
        [damaged, *_] = examine(catalog)
        assert "from a backup" in damaged.remedy
        old = {k: v for k, v in json.loads(whole).items() if k != "crc32"}
        path.write_text(json.dumps(old))  # by a former version
        assert len(list(examine(catalog))) == len(strays)


def test_damaged_copies_of_code_are_mended(
    patient: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the database, or by the file where it was; all its names share one again."""
    pool = (patient / ".factbook" / "sources").iterdir()
    pooled = max((path for path in pool if path.stat().st_size), key=lambda p: p.stat().st_nlink)
    md5, content = pooled.name, pooled.read_bytes()
    names = [pooled, *journal_root(patient).glob(f"*/sources/{md5}")]
    run = names[1].parents[1].name
    with open_catalog(patient) as catalog, open_catalog(patient, "off") as alone:
        pooled.write_bytes(b"damaged")
        assert content.decode() not in alone.sources(alone.run(run)).values()
        [finding] = examine(catalog)
        assert "is damaged" in finding.what
        with monkeypatch.context() as moved:
            moved.setattr(doctor, "_originals", lambda *_: [])
            mend(examine(catalog))
            assert [path.read_bytes() for path in names] == [content] * len(names)
            assert all(path.samefile(pooled) for path in names)
            database.collection("fs.chunks").delete_many({})
            pooled.write_bytes(b"damaged")
            [finding] = examine(catalog)
            assert (finding.repair, "backup" in finding.remedy) == (None, True)
        mend(examine(catalog))
        names[1].unlink()
        [finding] = examine(catalog)
        assert "is gone" in finding.what
        mend([finding])
        assert list(examine(catalog)) == []
        assert content.decode() in alone.sources(alone.run(run)).values()


def test_a_deletion_that_no_door_could_finish(patient: Path) -> None:
    with open_catalog(patient) as catalog:
        write_tombstone(patient, plan_deletion(catalog, "mean").tombstone)
        [finding] = [each for each in examine(catalog) if "was cut short" in each.what]
        mend([finding])
    assert half_deleted(patient) == []
    assert found(patient, verify=True) == []


def test_records_are_brought_back_from_journals(patient: Path, database: Database) -> None:
    database.runs.delete_one({"info.factbook.cell": "mean"})
    database.runs.update_one({"info.factbook.cell": "twice"}, {"$set": {"status": "RUNNING"}})
    told = typed("doctor")
    assert told.exit_code == 1
    assert "1 run with a journal and no record" in told.stdout
    assert "1 record with another status than the journal" in told.stdout
    assert printed("doctor", "--repair") == "2 of 2 findings mended\nall is well\n"
    statuses = {run["status"] for run in database.runs.find({})}
    assert statuses == {"COMPLETED"}
    assert database.runs.count_documents({}) == 2


def test_a_database_that_is_away(patient: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL_VARIABLE, "mongodb://me:s3cret@127.0.0.1:1")
    told = typed("doctor")
    assert told.exit_code == 1
    assert "database  MongoDB at" in told.stdout
    assert "s3cret" not in told.output


def test_packages_that_do_not_fit(patient: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.metadata.version
    versions = {"setuptools": "81.0", "numpy": "1.2"}
    monkeypatch.setattr(doctor.metadata, "version", lambda name: versions.get(name) or real(name))
    whats = {finding.what for finding in found(patient)}
    assert {"setuptools 81.0; expected setuptools<81", "numpy 1.2; expected numpy>=1.26"} <= whats
