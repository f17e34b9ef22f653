"""A run is deleted with its record, journal and dataset; what stays tells what it was."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from registry.catalog.access import Catalog, DeletedRunError, open_catalog
from registry.mongo.database import URL_VARIABLE, Database
from registry.mongo.projection import Sent, store_journal
from registry.mongo.projector import sync
from registry.mongo.removal import DeletedError, apply_tombstones
from registry.plan.project import finish_deletions, open_project
from registry.record.journal import journal_root, read_journal
from registry.record.tombstones import (
    Tombstone,
    half_deleted,
    read_tombstone,
    tombstone_path,
    write_tombstone,
)
from registry.upkeep.deletion import (
    DeletionError,
    delete_run,
    plan_deletion,
)
from registry.upkeep.inventory import take_inventory
from tests.registry.mongo.test_restoration import recorded
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


def test_what_rests_on_a_run_at_second_hand_is_counted_too(fresh: Path, catalog: Catalog) -> None:
    """A superseded dataset is the current one of its task, and of no cell as it is declared."""
    uids = run(fresh, "pair")
    with_factor(fresh, 9.0)
    run(fresh, "twice")
    holdings = take_inventory(catalog.project).holdings
    mean = holdings[uids["mean"]]
    third = replace(mean, run="third", cell="third", inputs=(mean.run,))
    fourth = replace(mean, run="fourth", cell="fourth", inputs=("third", uids["twice"]))
    inventory = replace(
        take_inventory(open_project(fresh)),
        holdings={each.run: each for each in (fourth, third, *holdings.values())},
    )
    rest = inventory.readers(uids["twice"])
    assert [each.cell for each in rest] == ["fourth", "mean", "third"]
    assert mean.is_current
    with open_catalog(fresh, "off") as now:
        deletion = plan_deletion(now, uids["twice"])
    assert [each.run for each in deletion.readers] == [mean.run]
    assert deletion.current == frozenset()


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


def delete_at(
    steps: Iterator[int], step: int, root: Path, uid: str, database: Database, seconds: float
) -> None:
    """Delete a run when so many steps were made."""
    if next(steps) == step:
        write_tombstone(root, Tombstone(uid, *[""] * 8))
        apply_tombstones(root, database)


def test_a_run_that_is_deleted_while_it_is_stored_does_not_come_back(
    tmp_path: Path, database: Database
) -> None:
    """At each step in turn that the projector makes; deleted here, or in a clone."""
    (tmp_path / "made").write_text("made by the run")

    def left() -> list[int]:
        names = ("runs", "metrics", "fs.files", "fs.chunks")
        return [database.collection(name).count_documents({}) for name in names]

    recorded(tmp_path, "20261129T120000-00000000", tmp_path / "made")
    [kept] = sync(tmp_path, database)
    before, step, is_over = left(), 0, False
    while not is_over:
        step += 1
        uid = f"20261129T120001-{step:08x}"
        recorded(tmp_path, uid, tmp_path / "made")
        steps = count(1)
        clone = tmp_path if step % 2 else tmp_path / "clone"
        delete = partial(delete_at, steps, step, clone, uid, database)
        with suppress(DeletedError):
            store_journal(read_journal(journal_root(tmp_path) / uid), database, Sent(), delete)
        is_over = next(steps) <= step
        if not is_over:
            assert left() == before, step
            assert [one.uid for one in sync(tmp_path, database, again=True)] == [kept.uid]
            assert left() == before, step
    assert step > 4


def test_a_deleted_run_that_came_back_is_removed_again(
    fresh: Path, catalog: Catalog, database: Database
) -> None:
    """As where a database is restored by other means than ours."""
    uid = run(fresh, "twice")["twice"]
    sync(fresh, database)
    record = database.runs.find_one({})
    assert record is not None
    delete_run(catalog, plan_deletion(catalog, uid))
    sync(fresh, database)
    database.runs.insert_one(record)
    sync(fresh, database, again=True)
    assert database.runs.count_documents({}) == 0


def test_a_damaged_tombstone_is_written_anew(
    fresh: Path, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = run(fresh, "twice", force=True)["twice"]
    monkeypatch.setenv(URL_VARIABLE, database_url)
    sync(fresh, database)
    with open_catalog(fresh) as catalog:
        delete_run(catalog, plan_deletion(catalog, uid))
    path = tombstone_path(fresh, uid)
    was = read_tombstone(fresh, uid)
    path.write_bytes(b"\0\377{")
    damaged = read_tombstone(fresh, uid)
    assert damaged is not None
    assert damaged.told == f"run {uid} was deleted; the note of what it was is damaged"
    sync(fresh, database)
    again = read_tombstone(fresh, uid)
    assert was is not None
    assert again is not None
    assert (again.told, again.command) == (was.told, was.command)


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
