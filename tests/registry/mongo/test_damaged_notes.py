"""Notes that only save time: one that was damaged costs time, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from registry.mongo.database import Database
from registry.mongo.projector import sync
from registry.record.journal import PROJECTED, journal_root, journal_uids
from tests.registry.upkeep.conftest import run

BAD = (7, [7], None, "text", {}, {"cytes": 5}, {"bytes": "5"}, {"bytes": True})
SEALS = (5, [1], ["", 2], None)


@pytest.fixture
def synced(fresh: Path, database: Database) -> Path:
    run(fresh, "twice")
    assert [one.status for one in sync(fresh, database)] == ["COMPLETED"]
    return fresh


def change(path: Path, value: Any) -> None:
    held = json.loads(path.read_text())
    path.write_text(json.dumps(dict.fromkeys(held, value)))


def test_damaged_notes_and_caches_are_made_anew(synced: Path, database: Database) -> None:
    [uid] = journal_uids(synced)
    note = journal_root(synced) / uid / PROJECTED
    sound = json.loads(note.read_text())[database.identity]
    sync(synced, database, verify=True)
    caches = sorted((synced / ".factbook" / "projected").glob("*.json"))
    assert len(caches) == 2
    before = database.runs.find_one({})
    for bad in (*BAD, *({**sound, "seal": seal} for seal in SEALS)):
        change(note, bad)
        for cache in caches:
            cache.unlink(missing_ok=True)
        sync(synced, database, verify=True)
        assert json.loads(note.read_text())[database.identity] == sound, bad
    for bad in (None, "5", [1], {"bytes": 3}, [True, ""], [5]):
        for cache in caches:
            change(cache, bad)
        sync(synced, database, verify=True)
        assert json.loads(caches[0].read_text()) != {uid: bad}
    assert database.runs.find_one({}) == before
