"""A run is deleted with its record, journal and dataset; what stays tells what it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from registry.catalog.access import Catalog, DeletedRunError, open_catalog
from registry.mongo.database import URL_VARIABLE, Database
from registry.mongo.projector import sync
from registry.plan.project import finish_deletions, open_project
from registry.record.journal import journal_root
from registry.record.tombstones import half_deleted, write_tombstone
from registry.upkeep.deletion import (
    DeletionError,
    delete_run,
    plan_deletion,
)
from tests.registry.upkeep.conftest import datasets, run
from tests.registry.upkeep.test_garbage import with_factor


def test_what_a_cell_needs_is_told(fresh: Path, catalog: Catalog) -> None:
    uids = run(fresh, "pair")
    assert plan_deletion(catalog, "mean").tombstone.command == "factbook run mean"
    twice, mean = (plan_deletion(catalog, uids[name]) for name in ("twice", "mean"))
    assert mean.needed == "the current dataset of 'mean'"
    assert [reader.cell for reader in twice.readers] == ["mean"]
    assert twice.needed == "the current dataset of 'twice'"
    again = run(fresh, "twice", force=True)
    needed = plan_deletion(catalog, uids["twice"]).needed
    assert needed == f"an input of 'mean', run {uids['mean']}"
    assert plan_deletion(catalog, "twice").tombstone.uid == again["twice"]


def test_a_run_goes_as_a_whole(
    fresh: Path, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uids = [run(fresh, "twice", force=True)["twice"] for _ in range(3)]
    monkeypatch.setenv(URL_VARIABLE, database_url)
    sync(fresh, database)
    with open_catalog(fresh) as catalog:
        number = catalog.run(uids[1]).id
        deletion = plan_deletion(catalog, str(number))
        assert (deletion.needed, deletion.readers) == ("", ())
        delete_run(catalog, deletion)
        for name in (str(number), uids[1]):
            with pytest.raises(DeletedRunError, match="of 'twice' was deleted on 20") as told:
                catalog.run(name)
            assert told.value.command == "factbook run twice --force"
        assert [view.uid for view in catalog.runs()] == [uids[2], uids[0]]
    assert datasets(open_project(fresh)) == {uids[0], uids[2]}
    assert not (journal_root(fresh) / uids[1]).exists()
    assert half_deleted(fresh) == []
    assert database.runs.count_documents({}) == 2
    assert database.metrics.count_documents({"run_id": number}) == 0
    assert sync(fresh, database, again=True)
    assert database.runs.count_documents({}) == 2
    with open_catalog(fresh, "off") as catalog, pytest.raises(DeletedRunError):
        catalog.run(uids[1])


def test_the_one_before_becomes_current_again(fresh: Path, catalog: Catalog) -> None:
    uids = [run(fresh, "twice", force=True)["twice"] for _ in range(2)]
    delete_run(catalog, plan_deletion(catalog, uids[1]))
    assert catalog.path("twice").name == uids[0]
    delete_run(catalog, plan_deletion(catalog, uids[0]))
    assert str(catalog.plan(["twice"]).task("twice").state.status) == "never"


def test_a_deletion_that_was_cut_short_is_finished(
    fresh: Path, catalog: Catalog, database: Database
) -> None:
    uids = [run(fresh, "twice", force=True)["twice"] for _ in range(2)]
    sync(fresh, database)
    write_tombstone(fresh, plan_deletion(catalog, uids[0]).tombstone)
    assert [view.uid for view in catalog.runs()] == [uids[1]]
    assert half_deleted(fresh) == finish_deletions(catalog.project) == [uids[0]]
    assert half_deleted(fresh) == finish_deletions(catalog.project) == []
    sync(fresh, database)
    assert database.runs.count_documents({}) == 1


def test_no_clone_brings_a_deleted_run_back(
    fresh: Path, tmp_path: Path, catalog: Catalog, database: Database
) -> None:
    uid = run(fresh, "twice")["twice"]
    os.system(f"cp -a {fresh} {tmp_path / 'clone'}")
    sync(fresh, database)
    delete_run(catalog, plan_deletion(catalog, uid))
    sync(fresh, database)
    assert sync(tmp_path / "clone", database) == []
    assert database.runs.count_documents({}) == 0


def test_how_it_is_made_again(fresh: Path, catalog: Catalog) -> None:
    uid = run(fresh, "twice")["twice"]
    changed = with_factor(fresh, 7.0)
    with open_catalog(changed.root, "off") as later:
        command = plan_deletion(later, uid).tombstone.command
    assert command == "python -m tests.registry.lab.scale with twice factor=2.0"


def test_what_is_not_here_is_not_deleted(fresh: Path, catalog: Catalog, database_url: str) -> None:
    database = None
    with open_catalog(fresh, database_url) as there:
        database = there.database
        assert database is not None
        database.runs.insert_one({"_id": 1, "experiment": {"name": "x"}, "status": "COMPLETED"})
        with pytest.raises(DeletionError, match="by another client of Sacred; delete it there"):
            plan_deletion(there, "1")
