"""A backup is whole or not there, and a restoration that was killed can be finished."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from registry import open_catalog
from registry.catalog.notes import Note, find_notes, run_subject, write_note
from registry.record.journal import journal_root, journal_uids, read_journal
from tests.faults.children import Fault
from tests.faults.conftest import ALL, Reference, Site

NAME = "backup.tar"


def url(address: str) -> Mapping[str, str | None]:
    return {"FACTBOOK_MONGO": address}


def test_a_backup_killed_at_a_random_call_is_whole_or_not_there(
    complete: Site, reference: Reference, tmp_path: Path, chance: random.Random, trial: int
) -> None:
    words = ("factbook", "backup", NAME, "--datasets")
    complete.start(*words, fault=Fault(number=chance.randint(1, 150))).wait()
    if not (complete.root / NAME).exists():
        complete.factbook(*words[1:])
    new = Site(tmp_path / "new")
    new.root.mkdir()
    new.factbook("restore", str(complete.root / NAME))
    assert new.contents() == reference.contents


def test_a_restoration_killed_at_random_calls_is_finished_by_another(
    complete: Site,
    reference: Reference,
    tmp_path: Path,
    database_url: str,
    chance: random.Random,
    trial: int,
) -> None:
    with open_catalog(complete.root, "off") as catalog:
        was = [(view.uid, view.status) for view in catalog.runs()]
    complete.factbook("backup", NAME, "--datasets")
    words = ("factbook", "restore", str(complete.root / NAME))
    new = Site(tmp_path / "new")
    new.root.mkdir()
    for _ in range(chance.randint(1, 3)):
        fault = Fault(number=chance.randint(1, 200))
        new.start(*words, fault=fault, environment=url(database_url)).wait()
    last = new.start(*words, environment=url(database_url))
    assert last.wait() == 0 or "nothing was changed" in last.printed, last.printed
    assert not list((new.root / ".factbook").glob("restoring*"))
    assert new.contents() == reference.contents
    assert set(new.statuses().values()) == {"complete"}
    with open_catalog(new.root, database_url) as catalog:
        assert [(view.uid, view.status) for view in catalog.runs()] == was


def test_a_backup_beside_running_runs(
    complete: Site, tmp_path: Path, database_url: str, chance: random.Random, trial: int
) -> None:
    fault = Fault("os.fsync", number=chance.randint(5, 20), seconds=0.5)
    with open_catalog(complete.root, database_url) as catalog:
        assert catalog.database is not None
    running = complete.start(
        "factbook", "run", *ALL, "--force", "--here", fault=fault, environment=url(database_url)
    )
    made = 0
    while not running.has_ended:
        child = complete.start("factbook", "backup", f"{made}.tar", environment=url(database_url))
        assert child.wait() == 0, child.printed
        made += 1
    assert running.wait() == 0, running.printed
    for number in range(made):
        new = Site(tmp_path / f"new-{number}")
        new.root.mkdir()
        new.factbook("restore", str(complete.root / f"{number}.tar"))
        for uid in journal_uids(new.root):
            journal = read_journal(journal_root(new.root) / uid)
            assert journal.status
            assert journal.unreadable == 0
    assert made


def test_what_is_only_in_the_database_moves_along(
    complete: Site, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here from a URL to the embedded one, with the notes that stand in no journal."""
    monkeypatch.delenv("FACTBOOK_MONGO", raising=False)
    with open_catalog(complete.root, database_url) as catalog:
        assert catalog.database is not None
        complete.start("factbook", "sync", environment=url(database_url)).wait()
        write_note(catalog.database, Note(run_subject(catalog.run("mean")), "good"))
        numbers = {view.uid: view.id for view in catalog.runs()}
    child = complete.start("factbook", "backup", NAME, environment=url(database_url))
    assert child.wait() == 0, child.printed
    words = ("factbook", "restore", NAME, "--only-database")
    child = complete.start(*words, environment={"FACTBOOK_MONGO": None})
    try:
        assert child.wait() == 0, child.printed
        with open_catalog(complete.root) as catalog:
            assert {view.uid: view.id for view in catalog.runs()} == numbers
            assert catalog.database is not None
            assert [note.text for note in find_notes(catalog.database)] == ["good"]
    finally:
        complete.start("factbook", "mongo", "stop", environment={"FACTBOOK_MONGO": None}).wait()
