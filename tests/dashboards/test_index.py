"""All runs in a server's memory: who waits, who does not, and who is told of trouble."""

from __future__ import annotations

import threading

import pytest

from dashboards.server.index import RunIndex
from registry.catalog.access import Catalog
from registry.catalog.feed import RunFeed
from registry.mongo.database import DatabaseError, connect
from registry.mongo.projector import sync
from registry.plan.project import Project


def test_a_reader_waits_for_the_first_filling_and_for_no_more(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    refresh = RunFeed.refresh

    def slow(feed: RunFeed, *told: object) -> bool:
        assert go.wait(30)
        return refresh(feed)

    monkeypatch.setattr(RunFeed, "refresh", slow)
    index = RunIndex(catalog)
    assert index.peek() is None
    with pytest.raises(DatabaseError, match="0 runs were read"):
        index.look(filling=0.05)
    go.set()
    first = index.look()
    assert [row.start for row in first.rows] == sorted(
        (row.start for row in first.rows), reverse=True
    )
    assert len(first.rows) == 9
    assert "config.k" in first.columns
    assert len(first.hosts_and_tags[0]) == 1

    go.clear()
    index.hurry()
    assert index.look(patience=0.05) is first
    assert index.peek() is first
    go.set()


def test_trouble_is_told_once_and_what_was_known_stays(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = RunIndex(catalog)
    known = index.look()

    def refuse(*_: object) -> bool:
        raise DatabaseError("refused")

    monkeypatch.setattr(RunFeed, "refresh", refuse)
    index.hurry()
    with pytest.raises(DatabaseError, match="refused"):
        index.look()
    monkeypatch.undo()
    index.hurry()
    assert index.look().rows == known.rows


def test_rows_that_have_not_changed_are_the_same(catalog: Catalog) -> None:
    index = RunIndex(catalog)
    before = index.look()
    index.hurry()
    assert index.look() is before


def test_a_database_that_moved_is_followed(
    lived_in: Project, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = connect(lived_in.root, database_url)
    assert database is not None
    sync(lived_in.root, database)
    index = RunIndex(Catalog(lived_in, database))
    assert len(index.look().rows) == 9
    database.handle.client.close()
    index.hurry()
    with pytest.raises(DatabaseError):
        index.look(patience=30)
    moved = database.reopen()
    moved.runs.delete_one({"info.factbook.cell": "toy-names"})
    index.follow(Catalog(lived_in, moved))
    index.hurry()
    assert len(index.look(patience=30).rows) == 8
    moved.close()
