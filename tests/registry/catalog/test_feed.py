"""The feed of runs: read once, then only what changed, and never another picture than the truth."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry.catalog import feed as feed_module
from registry.catalog.access import Catalog
from registry.catalog.feed import RunFeed
from registry.catalog.notes import Note, NoteSubject, write_note
from registry.mongo import queries
from registry.mongo.database import Database, DatabaseError
from registry.mongo.projector import sync
from registry.plan.project import Project
from registry.record.journal import EVENTS, journal_root
from tests.dashboards import fabricate
from tests.dashboards.fabricate import Told, record

END = {"event": "completed", "time": "2026-11-22T03:00:00.000Z", "status": "COMPLETED"}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return fabricate.declare(tmp_path / "project")


def append(project: Project, uid: str, event: dict[str, str]) -> None:
    with open(journal_root(project.root) / uid / EVENTS, "a") as file:
        file.write(json.dumps(event) + "\n")


def statuses(feed: RunFeed) -> dict[str, str]:
    return {run.uid: run.status for run in feed.runs.values()}


@pytest.fixture(params=["journals", pytest.param("database", marks=pytest.mark.server)])
def catalog(request: pytest.FixtureRequest, project: Project) -> Catalog:
    if request.param == "journals":
        return Catalog(project)
    return Catalog(project, request.getfixturevalue("database"))


def settle(catalog: Catalog) -> None:
    if catalog.database is not None:
        sync(catalog.project.root, catalog.database)


@pytest.mark.slow
def test_what_begins_and_ends_is_found(catalog: Catalog) -> None:
    project = catalog.project
    first = record(project, Told("toy-sae[k=8]", result={"x": 1}))
    running = record(project, Told("toy-sae[k=16]", "RUNNING", minutes=1))
    settle(catalog)
    feed = RunFeed(catalog)
    assert feed.refresh()
    assert statuses(feed) == {first: "COMPLETED", running: "RUNNING"}
    assert not feed.refresh()
    version = feed.version

    append(project, running, END)
    third = record(project, Told("toy-concepts", minutes=-500))  # that was synced late
    settle(catalog)
    assert feed.refresh()
    assert statuses(feed) == {first: "COMPLETED", running: "COMPLETED", third: "COMPLETED"}
    assert feed.version == version + 1
    [run] = [run for run in feed.runs.values() if run.uid == third]
    assert run.inputs == {"sae": {"name": "toy-sae[k=8]", "run": "run-toy-sae[k=8]"}}
    assert run.facts == {}


@pytest.mark.slow
def test_a_run_in_a_feed_is_what_the_catalog_lists(catalog: Catalog) -> None:
    fabricate.live_in(catalog.project)
    settle(catalog)
    feed = RunFeed(catalog)
    feed.refresh()
    listed = {run.uid: run.row() for run in catalog.runs()}
    assert {run.uid: run.row() for run in feed.runs.values()} == listed
    assert len(listed) == 9


def test_runs_that_were_removed_are_forgotten(catalog: Catalog) -> None:
    uids = [record(catalog.project, Told("toy-sae[k=8]", minutes=n)) for n in range(3)]
    settle(catalog)
    feed = RunFeed(catalog)
    feed.refresh()
    if catalog.database is None:
        shutil.rmtree(journal_root(catalog.project.root) / uids[1])
    else:
        catalog.database.runs.delete_one({"info.factbook.uid": uids[1]})
    assert feed.refresh()
    assert set(statuses(feed)) == {uids[0], uids[2]}
    assert not feed.refresh()


def test_runs_of_other_clients_are_found_whatever_they_are_called(
    project: Project, database: Database
) -> None:
    feed = RunFeed(Catalog(project, database))
    feed.refresh()
    old = datetime(2020, 1, 1, tzinfo=UTC)
    others = [
        {"_id": "five", "start_time": old, "status": "COMPLETED", "experiment": {"name": "a"}},
        {"_id": 5_000, "start_time": old, "status": "FAILED", "host": {"hostname": "far"}},
        {"_id": 6_000, "status": "QUEUED", "config": None, "info": {}},
    ]
    database.runs.insert_many(others)
    assert feed.refresh()
    assert {run.id: run.status for run in feed.runs.values()} == {
        "five": "COMPLETED",
        5_000: "FAILED",
        6_000: "QUEUED",
    }
    assert feed.runs[5_000].host == "far"
    database.runs.update_one({"_id": 6_000}, {"$set": {"status": "COMPLETED"}})
    assert feed.refresh()
    assert feed.runs[6_000].status == "COMPLETED"


def test_only_what_may_have_changed_is_read_again(
    project: Project, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    documents = [
        {"_id": n, "start_time": start + timedelta(hours=n), "status": "COMPLETED"}
        for n in range(1, 301)
    ]
    documents[7]["status"] = "RUNNING"
    database.runs.insert_many(documents)
    feed = RunFeed(Catalog(project, database))
    feed.refresh()
    read: list[int] = []
    monkeypatch.setattr(queries, "plain_document", lambda value: (read.append(1), value)[1])
    feed.refresh()
    assert len(read) == 2  # the one that runs, and the newest
    assert len(feed.runs) == 300


def test_notes_come_and_change(project: Project, database: Database) -> None:
    feed = RunFeed(Catalog(project, database))
    feed.refresh()
    kept = write_note(database, Note(NoteSubject("run", "a"), "x", ("t",)))
    assert feed.refresh()
    assert feed.notes == {"run a": kept}
    assert not feed.refresh()


def test_no_more_runs_are_kept_than_memory_should_hold(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "MOST_RUNS", 2)
    for n in range(4):
        record(catalog.project, Told("toy-sae[k=8]", minutes=n))
    settle(catalog)
    feed = RunFeed(catalog)
    told: list[int] = []
    feed.refresh(told.append)
    assert feed.is_partial
    assert told


def test_a_database_that_is_away_is_told(project: Project, database: Database) -> None:
    feed = RunFeed(Catalog(project, database))
    database.handle.client.close()
    with pytest.raises(DatabaseError):
        feed.refresh()
