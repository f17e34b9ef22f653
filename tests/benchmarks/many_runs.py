"""A project with as many recorded runs as one likes: made of one that ran, journals and records."""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

from registry.execute.schedule import run_plan
from registry.mongo.database import connect
from registry.plan.project import open_project
from registry.record.journal import EVENTS, journal_root
from registry.record.liveness import RunStatus, summary_of, write_status
from registry.record.plain import decode_event, encode, seal_event

DECLARATION = """
[project]
plugins = ["tests.registry.lab.kinds"]

[datasets.few]
kind = "numbers"

[experiments.wide]
stage = "tests.registry.lab.scale"
needs = { numbers = "few" }
matrix = { factor = [5.0], seed = [3] }
"""
STAGES = tuple(f"fact.stage_{number}" for number in range(4))
_AT_ONCE = 1000


def make(root: Path, count: int, *, with_records: bool = True) -> None:
    """Make a project in which one cell has run once, and was recorded `count` times.

    Every run has a cell, a start, settings and results of its own, in three experiments and of
    five stages; one of fifty has failed. With FACTBOOK_MONGO off, or without records, there are
    journals only.
    """
    (root / "experiments.toml").write_text(DECLARATION)
    project = open_project(root)
    [outcome] = run_plan(project, project.plan(), runner="here")
    first = journal_root(root) / str(outcome.uid)
    lines = (first / EVENTS).read_bytes().splitlines()
    events = [decode_event(line, first.name) for line in lines]
    told = list(_variations(count - 1))
    with mock.patch.object(os, "fsync"):  # nothing of it is worth keeping
        for own in told:
            _write_journal(first, events, own)
    database = connect(root) if with_records else None
    if database is None:
        return
    record = database.runs.find_one({"info.factbook.uid": first.name})
    assert record is not None
    copies = (_document(record, number, own) for number, own in enumerate(told, 1))
    while some := list(islice(copies, _AT_ONCE)):
        database.runs.insert_many(some, ordered=False)
    database.own.update_one(
        {"_id": "last_run"}, {"$set": {"number": record["_id"] + len(told)}}, upsert=True
    )
    database.close()


def _variations(count: int) -> Iterator[dict[str, Any]]:
    chance = random.Random(0)
    for number in range(1, count + 1):
        k, seed = number % 100, number // 100
        experiment = f"wide-{number % 3}"
        yield {
            "uid": f"20261121T{number:06d}-{number:08x}",
            "experiment": experiment,
            "cell": f"{experiment}[k={k},seed={seed}]",
            "stage": "tests.registry.lab.scale" if number % 5 == 0 else STAGES[number % 5 - 1],
            "fingerprint": f"{number:016x}",
            "status": "FAILED" if number % 50 == 0 else "COMPLETED",
            "later": timedelta(seconds=60 * number - 60 * count),
            "seconds": chance.random() * 100,
            "config": {
                **{"k": k, "seed": seed, "lr": 1e-3, "batch": 4096, "factor": float(k)},
                **{"auxiliary": {"k": 256, "coefficient": 0.03125}},
                **{f"setting_{n}": f"value {n}" for n in range(8)},
            },
            "result": {
                name: chance.random() for name in ("total", "accuracy", "final_loss", "dead")
            },
        }


_FACTS = ("uid", "experiment", "cell", "stage", "fingerprint")


def _write_journal(first: Path, events: list[dict[str, Any]], own: dict[str, Any]) -> None:
    folder = first.with_name(own["uid"])
    folder.mkdir()
    start, *between, end = copy.deepcopy(events)
    start["facts"] |= {name: own[name] for name in _FACTS}
    start["config"] |= own["config"]
    summary = summary_of(first)
    assert summary.start_time is not None
    began = summary.start_time + own["later"]
    ended = began + timedelta(seconds=own["seconds"])
    start["time"], end["time"] = began.isoformat(), ended.isoformat()
    between[-1]["result"] = own["result"]
    if own["status"] == "FAILED":
        end |= {"event": "failed", "status": "FAILED", "trace": ["RuntimeError: asked to\n"]}
    sealed = (seal_event(encode(each).encode(), uid=own["uid"]) for each in (start, *between, end))
    (folder / EVENTS).write_bytes(b"".join(line + b"\n" for line in sealed))
    with (folder / EVENTS).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
    status = RunStatus(own["uid"], own["status"], began, ended, summary.process)
    write_status(folder, replace(summary, **vars(status)))
    if (first / "projected.json").exists():
        text = (first / "projected.json").read_text()
        before = (first / EVENTS).stat().st_size
        (folder / "projected.json").write_text(text.replace(f"{before}", f"{size}", 1))


def _document(record: dict[str, Any], number: int, own: dict[str, Any]) -> dict[str, Any]:
    facts = {**record["info"]["factbook"], **{name: own[name] for name in _FACTS}}
    start = record["start_time"] + own["later"]
    stop = start + timedelta(seconds=own["seconds"])
    return {
        **record,
        "_id": record["_id"] + number,
        "start_time": start,
        "stop_time": stop,
        "heartbeat": stop,
        "status": own["status"],
        "config": {**record["config"], **own["config"]},
        "result": own["result"],
        "info": {**record["info"], "factbook": facts},
        "captured_out": "a line of the console\n" * 50,
    }
