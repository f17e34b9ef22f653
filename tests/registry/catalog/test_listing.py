"""Summaries of runs: they answer as the records themselves do, and only save time."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from registry.catalog import access, listing
from registry.catalog.access import Catalog
from registry.catalog.feed import RunFeed
from registry.catalog.listing import Listing
from registry.mongo.database import Database
from registry.mongo.projector import sync
from registry.plan.project import Project
from registry.record.journal import journal_root
from tests.dashboards import fabricate
from tests.dashboards.fabricate import Told, record
from tests.registry.catalog.test_feed import END, append

OLD = datetime(2020, 1, 1, tzinfo=UTC)
OTHERS: list[dict[str, Any]] = [
    {"_id": "five", "start_time": OLD, "status": "FAILED", "config": {"k": 8, "list": ["a", "b"]}},
    {"_id": 900, "status": "QUEUED", "config": None, "result": float("nan")},
]
QUESTIONS: list[dict[str, Any]] = [
    {},
    {"limit": 3},
    {"sort": "start_time", "limit": 3},
    {"sort": "-result.x", "limit": 2},
    {"sort": "config.k"},
    {"sort": "-seconds", "limit": 2},
    {"experiment": "toy-sae"},
    {"experiment": "toy-sae[k=16]", "status": "COMPLETED"},
    {"status": "FAILED"},
    {"status": "RUNNING"},
    {"stage": "tests.dashboards.toy.train", "limit": 2},
    {"where": {"config.k": 8}},
    {"where": {"config.k": [8, 16], "status": "COMPLETED"}, "sort": "result.x"},
    {"where": "config.k>=9, result.x<4"},
    {"where": "result.x!=2", "limit": 2},
    {"where": "seconds>80, status=COMPLETED"},
    {"where": "config.k=null"},
    {"where": "host~la"},
]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = fabricate.declare(tmp_path / "project")
    for n in range(6):
        status = "FAILED" if n == 4 else "RUNNING" if n == 5 else "COMPLETED"
        cell = f"toy-sae[k={8 * (1 + n % 2)}]"
        record(made, Told(cell, status, minutes=n, seconds=70.0 + 5 * n, result={"x": n}))
    return made


@pytest.fixture(params=["journals", pytest.param("database", marks=pytest.mark.server)])
def catalog(request: pytest.FixtureRequest, project: Project) -> Catalog:
    if request.param == "journals":
        return Catalog(project)
    database: Database = request.getfixturevalue("database")
    sync(project.root, database)
    database.runs.insert_many(OTHERS)
    return Catalog(project, database)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Keep summaries of however few runs, for as long as it is not undone."""
    monkeypatch.setattr(access, "FEW", -1)
    return monkeypatch


def told(catalog: Catalog, **question: Any) -> list[tuple[Any, ...]]:
    runs = catalog.runs(**question)
    return [(run.key, run.status, dict(run.config), run.seconds, run.inputs) for run in runs]


def test_summaries_answer_as_the_records_do(
    catalog: Catalog, listed: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    by_summary = [told(catalog, **question) for question in QUESTIONS]
    assert list((catalog.project.root / ".factbook" / "cache").glob("runs-*.sqlite"))
    listed.undo()
    by_record = [told(catalog, **question) for question in QUESTIONS]
    for question, own, other in zip(QUESTIONS, by_summary, by_record, strict=True):
        if question.get("sort") == "config.k":  # which several have in common
            own, other = sorted(own, key=str), sorted(other, key=str)
        assert own == other, question
    assert all(by_summary[:13])


def test_what_changes_is_found(catalog: Catalog, listed: pytest.MonkeyPatch) -> None:
    before = told(catalog)
    root, database = catalog.project.root, catalog.database
    [running] = [run.uid for run in catalog.runs(status="RUNNING") if run.uid]
    append(catalog.project, running, END)
    late = record(catalog.project, Told("toy-concepts", minutes=-500, result={"x": 99}))
    [gone] = [run for run in catalog.runs(experiment="toy-sae", limit=2) if run.uid != running]
    if database is not None:
        sync(root, database)
        database.runs.delete_one({"_id": gone.id})
    else:
        shutil.rmtree(journal_root(root) / gone.uid)
    after = {run.uid: run.status for run in catalog.runs()}
    assert after[running] == "COMPLETED"
    assert gone.uid not in after
    assert catalog.runs(sort="-result.x", limit=1)[0].uid == late
    assert len(after) == len({key for key, *_ in before}) - (len(OTHERS) - 1) * bool(database)


def test_a_damaged_file_is_made_anew(catalog: Catalog, listed: pytest.MonkeyPatch) -> None:
    before = told(catalog)
    [path] = (catalog.project.root / ".factbook" / "cache").glob("runs-*.sqlite")
    for damage in (b"no database", path.read_bytes()[:5_000], b""):
        path.write_bytes(damage)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(listing, "_PATIENCE", 1.0)
            assert told(catalog) == before
    path.unlink()
    path.mkdir()  # what cannot be written: nothing is kept
    assert told(catalog) == before


def test_a_feed_begins_with_what_is_kept(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    one = RunFeed(catalog)
    one.refresh()
    monkeypatch.setattr("registry.catalog.feed.FEW", -1)
    other = RunFeed(catalog)
    assert other.refresh()
    assert other.runs == one.runs
    assert not other.refresh()


def test_only_what_is_kept_is_answered(catalog: Catalog, listed: pytest.MonkeyPatch) -> None:
    assert len(told(catalog, where="host.hostname=lab")) == 6
    for key in ("command", "experiment.base_dir"):
        assert told(catalog, sort=key) == told(catalog, sort=key)
    with pytest.raises(ValueError, match=r"no dotted key|is not a dotted key"):
        Listing(catalog.project.root, catalog.database).select({}, sort="$where")
