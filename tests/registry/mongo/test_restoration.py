"""Records that somebody changed: what the registry owns comes back, what others write stays."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from registry.mongo.database import Database
from registry.mongo.documents import OWN_FIELDS
from registry.mongo.projection import store_journal
from registry.mongo.projector import sync
from registry.record.journal import (
    CONSOLE,
    EVENTS,
    PROJECTED,
    STATUS_FILE,
    journal_root,
    read_journal,
)
from registry.record.liveness import ProcessIdentity, journal_status
from registry.record.observer import JournalObserver
from registry.record.plain import decode_event, encode_event
from registry.store.manifest import MANIFEST
from tests.registry.record.test_journal import gone
from tests.registry.recorded_run import record

OTHERS = {
    "$set": {
        "omniboard": {"tags": ["good"], "notes": "mine"},
        "notes": "a note",
        "info.incense": {"seen": 1},
        "info.by@hand": [1, 2],
    }
}
PLANTED: dict[str, dict[str, Any]] = {
    "status": {"$set": {"status": "FAILED"}},
    "a key of config": {"$set": {"config.k": 9}},
    "a planted key of config": {"$set": {"config.planted": True}},
    "a removed key of config": {"$unset": {"config.k": ""}},
    "all of config": {"$set": {"config": "nothing"}},
    "result": {"$set": {"result": {"accuracy": 1.0}}},
    "no result": {"$unset": {"result": ""}},
    "times": {"$set": {"start_time": datetime(2000, 1, 1), "stop_time": None, "heartbeat": 5}},
    "a trace": {"$set": {"fail_trace": ["planted"]}},
    "host": {"$set": {"host.hostname": "elsewhere"}},
    "experiment": {"$set": {"experiment.sources": [["planted.py", 1]]}},
    "console": {"$set": {"captured_out": "planted"}},
    "facts": {"$set": {"info.factbook.output": {"path": "/elsewhere"}}},
    "a planted fact": {"$set": {"info.factbook.planted": 1}},
    "the version": {"$set": {"info.factbook.journal_bytes": 2**60}},
    "metrics": {"$set": {"info.metrics": []}},
    "the run's own info": {"$set": {"info.epoch": 99}},
    "whose it is": {"$unset": {"info.factbook.uid": ""}},
    "all facts": {"$set": {"info.factbook": 7}},
    "everything at once": {
        "$set": {"status": "RUNNING", "result": math.nan, "info.factbook.output": None},
        "$unset": {"config": "", "stop_time": "", "meta": "", "info.factbook.uid": ""},
    },
}


def recorded(root: Path, uid: str = "run", artifact: Path | None = None) -> None:
    """Write the journal of a run with everything in it; with an artifact it has a source too."""
    observer = JournalObserver(
        journal_root(root) / uid, {"experiment": "x", "output": {"path": "p"}}
    )
    told: dict[str, Any] = {"command": "main", "host_info": {"hostname": "h", "n": 1.5}}
    told |= {"config": {"k": 2, "big": 2**40, "b": {"z": 1, "a": None}}, "meta_info": {"m": []}}
    info = {"name": "x", "base_dir": str(root), "sources": []}
    if artifact:
        (root / "code.py").write_text("x = 1\n")
        info["sources"] = [("code.py", hashlib.md5(b"x = 1\n").hexdigest())]
    observer.started_event(ex_info=info, start_time=datetime.utcnow(), _id=None, **told)
    if artifact:
        observer.artifact_event(artifact.name, str(artifact))
    points = {"steps": [0, 1], "values": [1.0, math.nan], "timestamps": [datetime.utcnow()] * 2}
    observer.log_metrics({"loss": points}, {})
    observer.heartbeat_event({"epoch": 3}, "printed", datetime.utcnow(), None)
    observer.completed_event(datetime.utcnow(), {"accuracy": 0.5, "nan": math.nan})


def own(database: Database) -> list[Any]:
    """Return what the registry owns of all records, in a form that compares NaN."""
    found = []
    for run in database.runs.find().sort("_id", 1):
        info = {name: run["info"][name] for name in ("factbook", "metrics", "epoch")}
        found.append(repr([run["_id"], info, *(run.get(name) for name in OWN_FIELDS)]))
    return [
        *found,
        *(repr(sorted(part.items())) for part in database.metrics.find().sort("_id", 1)),
    ]


@pytest.fixture
def stored(tmp_path: Path, database: Database) -> Path:
    """A project with a run in the database, into whose record others have written too."""
    recorded(tmp_path)
    assert len(sync(tmp_path, database)) == 1
    database.runs.update_one({"_id": 1}, OTHERS)
    return tmp_path


def others_stay(database: Database) -> bool:
    run = database.runs.find_one({"_id": 1})
    assert run is not None
    kept = {**run["omniboard"], "note": run["notes"], **run["info"]["incense"]}
    assert run["info"]["by@hand"] == [1, 2]
    return kept == {"tags": ["good"], "notes": "mine", "note": "a note", "seen": 1}


@pytest.mark.parametrize("is_sealed", [True, False], ids=["sealed", "by an older version"])
def test_what_is_planted_is_put_back(stored: Path, database: Database, is_sealed: bool) -> None:
    before = own(database)
    assert sync(stored, database, verify=True) == []
    for what, planted in PLANTED.items():
        if not is_sealed:
            forget_seals(stored)
        database.runs.update_one({"_id": 1}, planted)
        assert own_or_broken(database) != before, what
        (one,) = sync(stored, database, verify=True)
        assert (one.uid, one.run_id, one.status, one.error) == ("run", 1, "COMPLETED", None), what
        assert one.restored, what
        assert own(database) == before, what
        assert others_stay(database), what
        assert sync(stored, database, verify=True) == [], what


def forget_seals(root: Path) -> None:
    for kept in (root / ".factbook").rglob("*.seals.json"):
        kept.unlink()
    for noted in journal_root(root).glob("*/projected.json"):
        noted.write_text(noted.read_text().replace('"seal"', '"unknown"'))


def own_or_broken(database: Database) -> Any:
    try:
        return own(database)
    except (KeyError, TypeError):
        return None


def test_info_that_is_none_any_more(stored: Path, database: Database) -> None:
    before = own(database)
    database.runs.update_one({"_id": 1}, {"$set": {"info": "planted"}})
    (one,) = sync(stored, database, verify=True)
    assert {"info.factbook", "info.metrics", "info.epoch"} <= set(one.restored)
    assert own(database) == before


def test_points_are_compared_when_asked(stored: Path, database: Database) -> None:
    before = own(database)
    database.metrics.update_one({}, {"$set": {"values": [7.0, 7.0]}})
    assert sync(stored, database, verify=True) == []
    done = sync(stored, database, again=True, verify=True)
    assert [one.restored for one in done] == [(), ("metric loss",)]
    assert own(database) == before
    database.metrics.delete_many({})
    database.runs.update_one({"_id": 1}, PLANTED["status"])
    (one,) = sync(stored, database, verify=True)
    assert one.restored == ("status", "metric loss")
    assert own(database) == before


def test_contents_of_files_are_compared_when_asked(tmp_path: Path, database: Database) -> None:
    content = random.Random(0).randbytes(600_000)
    (tmp_path / "made").write_bytes(content)
    recorded(tmp_path, artifact=tmp_path / "made")
    sync(tmp_path, database)
    run = database.runs.find_one({"_id": 1})
    assert run is not None
    [made], [[_, source]] = run["artifacts"], run["experiment"]["sources"]
    chunks, files = database.collection("fs.chunks"), database.collection("fs.files")
    planted: dict[str, Callable[[], object]] = {
        "made": lambda: chunks.update_one(
            {"files_id": made["file_id"], "n": 1}, {"$set": {"data": b"planted"}}
        ),
        "made, a chunk too few": lambda: chunks.delete_one({"files_id": made["file_id"], "n": 2}),
        "made, none": lambda: chunks.delete_many({"files_id": made["file_id"]}),
        "made, its length": lambda: files.update_one(
            {"_id": made["file_id"]}, {"$set": {"length": 3}}
        ),
        f"{tmp_path / 'code.py'}": lambda: chunks.update_one(
            {"files_id": source}, {"$set": {"data": b"planted"}}
        ),
    }
    for what, plant in planted.items():
        plant()
        assert sync(tmp_path, database, verify=True) == [], what
        *_, one = sync(tmp_path, database, again=True, verify=True)
        assert one.restored == (f"file {what.split(',')[0]}",), what
        assert database.read_file(made["file_id"]) == content, what
        assert database.read_file(source) == b"x = 1\n", what
    kept = next((journal_root(tmp_path) / "run" / "artifacts").iterdir())
    kept.write_bytes(b"damaged")
    assert [one.restored for one in sync(tmp_path, database, again=True, verify=True)] == [()]
    assert database.read_file(made["file_id"]) == content
    for collection in (chunks, files):
        collection.delete_many({"files_id": made["file_id"]})
        collection.delete_many({"_id": made["file_id"]})
    (one, *_) = sync(tmp_path, database, again=True, verify=True)
    assert one.lacks == "what is kept of made is damaged, and was not stored"
    assert files.find_one({"_id": made["file_id"]}) is None
    kept.write_bytes(content)
    sync(tmp_path, database, again=True, verify=True)
    assert database.read_file(made["file_id"]) == content


def test_what_others_wrote_outlives_the_run_and_every_sync(
    tmp_path: Path, database: Database
) -> None:
    recorded(tmp_path)
    events = journal_root(tmp_path) / "run" / EVENTS
    lines = events.read_bytes().splitlines(keepends=True)
    events.write_bytes(b"".join(lines[:-1]))
    sync(tmp_path, database)
    database.runs.update_one({"_id": 1}, OTHERS)
    events.write_bytes(b"".join(lines))
    sync(tmp_path, database)
    run = database.runs.find_one({"_id": 1})
    assert run is not None
    assert run["status"] == "COMPLETED"
    assert others_stay(database)
    sync(tmp_path, database, again=True, verify=True)
    assert others_stay(database)


def test_nothing_is_taken_from_a_damaged_journal(stored: Path, database: Database) -> None:
    events = journal_root(stored) / "run" / EVENTS
    content = bytearray(events.read_bytes())
    content[2] ^= 0xFF
    events.write_bytes(content)
    assert sync(stored, database, verify=True) == []
    database.runs.update_one({"_id": 1}, PLANTED["status"])
    before = own(database)
    (one,) = sync(stored, database, verify=True)
    assert one.error is not None
    assert "journal is damaged" in one.error
    assert own(database) == before


def journal_file(root: Path, name: str) -> Path:
    return journal_root(root) / "run" / name


def without_line(kind: str) -> Callable[[Path], object]:
    """Take the lines of a kind out of a journal."""

    def damage(root: Path) -> None:
        path = journal_file(root, EVENTS)
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(line for line in lines if f'"{kind}"' not in str(line[:24])))

    return damage


def of_a_former_version(root: Path) -> None:
    """Take the numbers out of a journal, and the checksum of its console."""
    path = journal_file(root, EVENTS)
    lines = (decode_event(line, "run") for line in path.read_bytes().splitlines())
    later = ("n", "console_crc32")
    old = ({key: value for key, value in line.items() if key not in later} for line in lines)
    path.write_text("".join(f"{encode_event(line)}\n" for line in old))


LESS: dict[str, Callable[[Path], object]] = {
    "an emptied console": lambda root: journal_file(root, CONSOLE).write_bytes(b""),
    "no console": lambda root: journal_file(root, CONSOLE).unlink(),
    "a shorter console": lambda root: journal_file(root, CONSOLE).write_bytes(b"print"),
    "another console": lambda root: journal_file(root, CONSOLE).write_bytes(b"Printed"),
    "no points": without_line("metrics"),
    "no heartbeat": without_line("heartbeat"),
    "no end": without_line("completed"),
    "no end, no summary": lambda root: (
        without_line("completed")(root),
        journal_file(root, STATUS_FILE).unlink(),
    ),
    "no points, no note": lambda root: (
        without_line("metrics")(root),
        journal_file(root, PROJECTED).unlink(),
    ),
    "no lines": lambda root: journal_file(root, EVENTS).write_bytes(b""),
}


@pytest.mark.parametrize("is_old", [False, True], ids=["numbered", "by a former version"])
def test_no_record_becomes_less_by_a_damaged_journal(
    tmp_path: Path, database: Database, is_old: bool
) -> None:
    recorded(tmp_path)
    if is_old:
        of_a_former_version(tmp_path)
    sync(tmp_path, database, verify=True)
    before, folder = own(database), journal_root(tmp_path) / "run"
    kept = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for what, damage in LESS.items():
        damage(tmp_path)
        for _ in range(2):
            done = sync(tmp_path, database, again=True, verify=True)
            assert own(database) == before, what
            assert {one.status for one in done} == {"COMPLETED"}, what
            if not (is_old and what == "another console"):  # which nobody can tell
                assert done[0].error, what
        for path, content in kept.items():
            path.write_bytes(content)
    assert [one.error for one in sync(tmp_path, database, again=True, verify=True)] == [None]


ENDS: dict[str, Callable[[bytes], bytes]] = {
    "torn": lambda line: line[: len(line) // 2],
    "gone": lambda line: b"",
    "flipped": lambda line: line.replace(b"completed", b"complete\xe4"),
}
SUMMARIES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "running": lambda path: path.write_text(path.read_text().replace("COMPLETED", "RUNNING")),
}


@pytest.mark.parametrize("name", [PROJECTED, STATUS_FILE])
def test_no_end_is_made_up_for_a_run_that_has_told_its_own(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Its end is damaged, its summary too, its dataset whole; a note or the record knows better."""
    with monkeypatch.context() as patch:
        patch.setattr(ProcessIdentity, "current", gone)
        recorded(tmp_path)
    (tmp_path / "p").mkdir()
    published = {"format": 1, "run": "run", "stopped": "2026-11-22T01:34:10Z"}
    (tmp_path / "p" / MANIFEST).write_text(json.dumps(published))
    sync(tmp_path, database, verify=True)
    before, folder = own(database), journal_root(tmp_path) / "run"
    kept = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    *lines, end = kept[folder / EVENTS].splitlines(keepends=True)
    for cut, summary in itertools.product(ENDS, SUMMARIES):
        for path, content in kept.items():
            path.write_bytes(content)
        (folder / EVENTS).write_bytes(b"".join([*lines, ENDS[cut](end)]))
        SUMMARIES[summary](folder / STATUS_FILE)
        if name == PROJECTED:
            (folder / PROJECTED).unlink()
        damaged = (folder / EVENTS).read_bytes()
        assert journal_status(folder).status == "COMPLETED"
        for again in (False, True):
            done = sync(tmp_path, database, again=again, verify=True)
            assert all("its end is missing" in str(one.error) for one in done)
            assert len(done) == 1 or (cut == "flipped" and not again), "of another size it is read"
            assert {one.status for one in done} <= {"COMPLETED"}
            assert own(database) == before, (cut, summary, again)
            assert (folder / EVENTS).read_bytes() == damaged, (cut, summary, again)


def test_what_a_damaged_journal_has_is_stored(tmp_path: Path, database: Database) -> None:
    recorded(tmp_path)
    without_line("completed")(tmp_path)
    journal_file(tmp_path, CONSOLE).unlink()
    (one,) = sync(tmp_path, database)
    assert (one.status, one.error) == ("COMPLETED", None)
    assert "its end is missing" in one.lacks
    run = database.runs.find_one({"_id": 1})
    assert run is not None
    assert run["status"] == "COMPLETED"
    assert run["info"]["epoch"] == 3
    assert sync(tmp_path, database, verify=True) == []


def test_a_record_that_went_on_keeps_what_its_journal_lost(
    tmp_path: Path, database: Database
) -> None:
    recorded(tmp_path)
    path = journal_file(tmp_path, EVENTS)
    *before, end = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(before))
    store_journal(read_journal(path.parent), database)
    path.write_bytes(b"".join([*before, end]))
    with open(path, "rb+") as file:
        file.seek(len(b"".join(before[:2])) - 20)  # in the metrics
        file.write(b"#")
    journal_file(tmp_path, CONSOLE).write_bytes(b"")
    (one,) = sync(tmp_path, database)
    assert (one.status, one.error) == ("COMPLETED", None)
    assert "1 line cannot be read, its console is not what was printed" in one.lacks
    run = database.runs.find_one({"_id": 1})
    assert run is not None
    assert (run["status"], run["captured_out"]) == ("COMPLETED", "printed")
    assert run["result"]["accuracy"] == 0.5
    assert [part["count"] for part in database.metrics.find()] == [2]


@pytest.mark.parametrize("name", ["all facts", "whose it is", "everything at once"])
def test_a_record_that_lost_whose_it_is_stays_one(
    stored: Path, database: Database, name: str
) -> None:
    before = own(database)
    database.runs.update_one({"_id": 1}, PLANTED[name])
    sync(stored, database, again=True, verify=True)
    assert own(database) == before
    assert others_stay(database)


def test_a_record_of_somebody_else_under_the_noted_number_is_not_taken(
    stored: Path, database: Database
) -> None:
    database.runs.delete_many({})
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    foreign = {"_id": 1, "status": "COMPLETED", "start_time": long_ago, "info": {}}
    database.runs.insert_one(foreign)
    sync(stored, database, again=True)
    assert database.runs.find_one({"_id": 1}) == foreign
    assert database.runs.count_documents({}) == 2


def test_the_status_of_a_summary_without_proof_is_stored_nowhere(
    tmp_path: Path, database: Database
) -> None:
    recorded(tmp_path)
    without_line("completed")(tmp_path)
    path = journal_file(tmp_path, STATUS_FILE)
    path.write_text(path.read_text().replace("COMPLETED", "RUNNINO"))
    (one,) = sync(tmp_path, database)
    assert one.status == "RUNNING"


def test_removed_records_stay_away_unless_asked(stored: Path, database: Database) -> None:
    database.runs.delete_many({})
    assert sync(stored, database, verify=True) == []
    assert database.runs.count_documents({}) == 0
    assert [one.run_id for one in sync(stored, database, again=True, verify=True)] == [2]


def test_any_number_of_fields_of_any_run(tmp_path: Path, database: Database) -> None:
    chance = random.Random(0)
    for number in range(8):
        recorded(tmp_path, f"run{number}")
    sync(tmp_path, database)
    before = own(database)
    change: Callable[[int], Any] = lambda number: database.runs.update_one(  # noqa: E731
        {"_id": number}, PLANTED[chance.choice(sorted(PLANTED))]
    )
    for _ in range(5):
        numbers = chance.sample(range(1, 9), 3)
        for number in numbers:
            change(number)
        done = sync(tmp_path, database, verify=True)
        assert sorted(one.run_id or 0 for one in done) == sorted(numbers)
        assert own(database) == before


@pytest.mark.parametrize("is_sealed", [True, False], ids=["sealed", "by an older version"])
def test_what_was_projected_beside_its_run_is_what_its_journal_says(
    tmp_path: Path, database: Database, database_url: str, is_sealed: bool
) -> None:
    assert record(tmp_path, database_url, points=5).recorded
    if not is_sealed:
        forget_seals(tmp_path)
    assert sync(tmp_path, database, verify=True) == []
    assert len(sync(tmp_path, database, again=True, verify=True)) == 1


def test_records_of_others_are_left_alone(stored: Path, database: Database) -> None:
    foreign = {"_id": 2, "status": "DIED", "info": {"factbook": {"uid": "of another clone"}}}
    database.runs.insert_one(foreign)
    database.runs.insert_one({"_id": 3, "status": "x", "start_time": datetime.now(UTC)})
    assert sync(stored, database, verify=True) == []
    assert database.runs.find_one({"_id": 2}) == foreign
