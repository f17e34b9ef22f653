"""A backup is whole or not there, and a restoration that was killed can be finished."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from registry import open_catalog
from registry.catalog.notes import Note, find_notes, run_subject, write_note
from registry.record.journal import journal_root, journal_uids, read_journal
from registry.store.durable import RESTORING
from registry.upkeep.backup import STAGED
from tests.faults.children import Fault, barrier
from tests.faults.conftest import ALL, Reference, Site

NAME = "backup.tar"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than the project, where there is one."""
    shared = Path("/dev/shm")
    with TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


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
    elsewhere: Path,
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
    if trial % 2 == 0:
        (new.root / "artifacts").symlink_to(elsewhere)
    for _ in range(chance.randint(1, 3)):
        fault = Fault(number=chance.randint(1, 200))
        new.start(*words, fault=fault, environment=url(database_url)).wait()
        if (new.root / ".factbook" / RESTORING).exists():
            refused = new.factbook("run", "mean", status=1)
            assert "is half restored; factbook restore" in refused
    last = new.start(*words, environment=url(database_url))
    assert last.wait() == 0 or "nothing was changed" in last.printed, last.printed
    assert not list(new.root.rglob("*restor*"))
    assert not list(elsewhere.glob(".*"))
    assert new.contents() == reference.contents
    assert set(new.statuses().values()) == {"complete"}
    with open_catalog(new.root, database_url) as catalog:
        assert [(view.uid, view.status) for view in catalog.runs()] == was


def test_a_restoration_takes_away_what_a_killed_one_was_writing(
    complete: Site, tmp_path: Path
) -> None:
    complete.factbook("backup", NAME)
    new, backup = Site(tmp_path / "new"), str(complete.root / NAME)
    new.root.mkdir()
    at = Fault("os.rename", f".factbook/{RESTORING}")
    assert new.start("factbook", "restore", backup, fault=at).was_killed
    assert list(new.root.rglob("*restor*"))
    new.factbook("restore", backup)
    assert not list(new.root.rglob("*restor*"))


def test_a_run_that_a_restoration_meets_is_not_passed_over(complete: Site, tmp_path: Path) -> None:
    """As by an older factbook, which runs in a project that is half restored."""
    complete.factbook("backup", NAME, "--datasets")
    new, backup = Site(tmp_path / "new"), str(complete.root / NAME)
    new.root.mkdir()
    at = Fault("os.rename", "artifacts/parts/HASH")
    assert new.start("factbook", "restore", backup, fault=at).was_killed
    mark = new.root / ".factbook" / RESTORING
    aside = mark.rename(new.root / "aside")
    new.factbook("run", "mean", "--force", "--here")
    aside.rename(mark)
    for left in new.root.rglob(STAGED):
        shutil.rmtree(left)
    before = sorted(new.root.rglob("*"))
    printed = new.factbook("restore", backup, status=1)
    assert printed.count("has another run") == 2, printed
    assert "nothing was changed" in printed
    assert sorted(new.root.rglob("*")) == before
    for name in ("mean", "twice"):
        shutil.rmtree(new.root / "artifacts" / name)
    own = journal_uids(new.root)
    new.factbook("restore", backup)
    assert set(new.statuses().values()) == {"complete"}
    assert journal_uids(new.root) == sorted({*own, *journal_uids(complete.root)})


def test_of_two_restorations_at_once_one_is_refused(complete: Site, tmp_path: Path) -> None:
    complete.factbook("backup", NAME, "--datasets")
    new = Site(tmp_path / "new")
    new.root.mkdir()
    words = ("factbook", "restore", str(complete.root / NAME))
    at, gate = Fault("os.rename", "artifacts/mean/HASH", seconds=1), barrier(2)
    both = [new.start(*words, barrier=gate, fault=at) for _ in range(2)]
    assert sorted(child.wait() for child in both) == [0, 1]
    assert any("nothing was changed" in child.printed for child in both)
    assert set(new.statuses().values()) == {"complete"}


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
