"""A backup is whole, and restored whole or not at all."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import bson
import pytest

from registry.catalog.access import Catalog, open_catalog
from registry.catalog.notes import Note, find_notes, run_subject, write_note
from registry.mongo.database import OFF, URL_VARIABLE, Database
from registry.record.journal import journal_uids
from registry.upkeep.backup import (
    BackupError,
    database_name,
    restore_backup,
    write_backup,
)
from registry.upkeep.deletion import delete_run, plan_deletion
from tests.conftest import fresh_database
from tests.registry.test_cli import printed, refused
from tests.registry.upkeep.conftest import run


@pytest.fixture
def lived(fresh: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Catalog]:
    """A project with records, a note, a deleted run, and what another client has written."""
    run(fresh, "pair")
    run(fresh, "twice", force=True)
    monkeypatch.setenv(URL_VARIABLE, database_url)
    printed("sync")
    with open_catalog(fresh) as catalog:
        assert catalog.database is not None
        run(fresh, "twice", force=True)
        printed("sync")
        write_note(catalog.database, Note(run_subject(catalog.run("mean")), "good", ("best",)))
        old = catalog.runs(experiment="twice")[1]
        delete_run(catalog, plan_deletion(catalog, old.uid))
        strange = {"_id": "x/y", "big": bson.Int64(3), "bytes": b"\0\1", "info": {"a.b": None}}
        catalog.database.collection("other.things").insert_one(strange)
        yield catalog


@pytest.fixture
def elsewhere(mongo_server: str, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """An empty folder, and the URL of an empty database."""
    with fresh_database(mongo_server) as url:
        folder = tmp_path / "elsewhere"
        folder.mkdir()
        yield folder, url


def documents(database: Database) -> dict[str, list[bytes]]:
    """Return everything but what every connection writes and what distinguishes a database."""
    handle = database.handle
    names = [name for name in handle.list_collection_names() if name != "factbook"]
    raw = bson.CodecOptions(document_class=bson.raw_bson.RawBSONDocument)
    return {
        name: sorted(each.raw for each in handle.get_collection(name, codec_options=raw).find())
        for name in sorted(names)
    }


def told(catalog: Catalog) -> list[tuple[object, ...]]:
    return [
        (
            r.id,
            r.uid,
            r.cell,
            r.status,
            str(r.result),
            catalog.console(r),
            catalog.metrics(r),
            catalog.sources(r),
        )
        for r in catalog.runs()
    ]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.xz"])
def test_everything_comes_back(
    lived: Catalog,
    elsewhere: tuple[Path, str],
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = write_backup(lived, tmp_path / name, datasets=True)
    assert (made.journals, made.datasets, made.collections["runs"]) == (3, 3, 3)
    assert made.path.stat().st_mode & 0o777 == 0o600  # it holds what runs printed
    root, url = elsewhere
    monkeypatch.setenv(URL_VARIABLE, url)
    monkeypatch.chdir(root)
    assert "restored 3 records, 3 journals, 3 datasets" in printed("restore", str(made.path))
    with open_catalog(root) as catalog:
        assert catalog.database is not None
        assert lived.database is not None
        expected = documents(lived.database)
        expected.pop("factbook.projects")
        found = documents(catalog.database)
        found.pop("factbook.projects")
        assert found == expected
        assert catalog.database.identity != lived.database.identity
        assert told(catalog) == told(lived)
        [note] = find_notes(catalog.database)
        assert (note.text, note.tags) == ("good", ("best",))
        assert catalog.path("mean").is_relative_to(root)
        assert {str(task.state.status) for task in catalog.plan(["pair"], verify=True).tasks} == {
            "complete"
        }
    assert not list((root / ".factbook").glob(".*"))
    assert printed("doctor", "--verify") == "all is well\n"
    [tombstone] = (root / ".factbook" / "deleted").iterdir()
    assert "was deleted on" in refused("show", tombstone.stem)
    assert "nothing was changed" in refused("restore", str(made.path))


def test_journals_alone(lived: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "new"
    root.mkdir()
    monkeypatch.setenv(URL_VARIABLE, OFF)
    with open_catalog(lived.project.root) as catalog:
        path = write_backup(catalog, tmp_path / "a.tar").path
    restore_backup(path, root, None)
    with open_catalog(root) as catalog:
        assert [run.uid for run in catalog.runs()] == [run.uid for run in lived.runs()]


def test_the_move_to_another_database(
    lived: Catalog,
    elsewhere: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "move.tar.gz"
    assert f"{path}: 3 records, 3 journals" in printed("backup", str(path))
    monkeypatch.setenv(URL_VARIABLE, elsewhere[1])
    assert "--only-database restores the records alone" in refused("restore", str(path))
    printed("restore", str(path), "--only-database")
    with open_catalog(lived.project.root) as catalog:
        assert told(catalog) == told(lived)
        assert catalog.database is not None
        assert len(find_notes(catalog.database)) == 1
    assert printed("sync").startswith("0 journals brought to ")
    assert printed("doctor") == "all is well\n"


def test_nothing_is_overwritten(lived: Catalog, tmp_path: Path) -> None:
    path = write_backup(lived, tmp_path / "a.tar").path
    before = path.read_bytes()
    with pytest.raises(BackupError, match="is there already; nothing was written"):
        write_backup(lived, path)
    assert path.read_bytes() == before
    database = lived.database
    assert database is not None
    was = documents(database)
    told = r"has documents in .* and .* has journals.*; all runs of this backup are here already$"
    with pytest.raises(BackupError, match=told):
        restore_backup(path, lived.project.root, database)
    (tmp_path / "new").mkdir()
    with pytest.raises(BackupError, match="has documents in"):
        restore_backup(path, tmp_path / "new", database)
    assert documents(database) == was
    assert journal_uids(tmp_path / "new") == []


@pytest.mark.parametrize("damage", ["a bit", "cut", "cut at the end", "empty", "text"])
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_a_damaged_backup_changes_nothing(
    fresh: Path, catalog: Catalog, tmp_path: Path, damage: str, name: str
) -> None:
    run(fresh, "twice")
    path = write_backup(catalog, tmp_path / name).path
    data = bytearray(path.read_bytes())
    if damage == "a bit":  # not one of the zeros between files
        data[data.find(b"numbers") if name == "a.tar" else len(data) // 2] ^= 1
    last = len(data.rstrip(b"\0")) * 9 // 10  # a tar ends in zeros
    part = {"cut": len(data) // 2, "cut at the end": last, "empty": 0}
    data = data[: part.get(damage, len(data))] if damage != "text" else bytearray(b"text" * 99)
    path.write_bytes(data)
    root = tmp_path / "new"
    root.mkdir()
    with pytest.raises(BackupError, match="nothing was changed"):
        restore_backup(path, root, None)
    assert list(root.iterdir()) == []


def test_a_backup_that_leads_out_of_its_folder_is_refused(fresh: Path, tmp_path: Path) -> None:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(fresh / "experiments.toml", "../evil.toml")
    (tmp_path / "new").mkdir()
    with pytest.raises(BackupError, match="nothing was changed"):
        restore_backup(path, tmp_path / "new", None)
    assert not list(tmp_path.rglob("evil.toml"))


def test_the_database_is_the_one_that_is_declared(
    fresh: Path, catalog: Catalog, tmp_path: Path
) -> None:
    text = (fresh / "experiments.toml").read_text()
    (fresh / "experiments.toml").write_text(text.replace("[project]", '[project]\ndatabase = "x"'))
    path = write_backup(catalog, tmp_path / "a.tar").path
    assert database_name(path, fresh) == database_name(path, tmp_path / "new") == "x"
