"""The commands with 10,000 cells that ran, beside the same with one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import timeit
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from registry.catalog.access import open_catalog
from registry.execute.schedule import run_plan
from registry.mongo import server
from registry.mongo.database import URL_VARIABLE, connect
from registry.mongo.queries import COLLECTION, PROJECT, enter
from registry.plan.project import Project, open_project
from registry.plan.task import Task
from registry.record.journal import EVENTS, journal_root
from registry.record.liveness import summary_of, write_status
from registry.record.plain import decode_event, encode, seal_event
from tests.benchmarks.table import Table

pytestmark = pytest.mark.benchmark

SOURCE = Path(__file__).parents[2]
DECLARATION = f"""
[project]
plugins = ["tests.registry.lab.kinds"]

[datasets.few]
kind = "numbers"

[experiments.wide]
stage = "tests.registry.lab.scale"
needs = {{ numbers = "few" }}
matrix = {{ factor = {[float(factor) for factor in range(100)]}, seed = {list(range(100))} }}
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project of 10,000 cells: one has run, the others are made of what it left."""
    root = tmp_path_factory.mktemp("many")
    (root / "experiments.toml").write_text(DECLARATION)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(URL_VARIABLE, raising=False)
        project = open_project(root)
        first, *others = project.plan().tasks
        [outcome] = run_plan(project, project.plan([first.name]), runner="here")
        runs = {f"20261121T{n:06d}-{n:08x}": task for n, task in enumerate(others, 1)}
        for uid, task in runs.items():
            copy_output(project, project.current(first.name), uid, task)
            copy_journal(journal_root(root) / str(outcome.uid), uid)
        copy_records(root, str(outcome.uid), runs)
        yield root
        server.stop(root)


@pytest.fixture
def few(many: Path) -> Iterator[Path]:
    """The same records, while one cell is declared."""
    file = many / "experiments.toml"
    file.write_text(with_one_cell(DECLARATION))
    yield many
    file.write_text(DECLARATION)


def copy_output(project: Project, source: Path, uid: str, task: Task) -> None:
    folder = project.store.folder(task.experiment, task.fingerprint)
    (folder / uid).mkdir(parents=True)
    for file in source.iterdir():
        os.link(file, folder / uid / file.name)
    (folder / "task.json").write_text(json.dumps(task.record()))
    (folder / "attempts").write_text(f"{uid}\n")
    (folder / "current").symlink_to(uid)


def copy_journal(source: Path, uid: str) -> None:
    folder = source.with_name(uid)
    folder.mkdir()
    os.link(source / "projected.json", folder / "projected.json")
    lines = (source / EVENTS).read_bytes().splitlines()
    events = (decode_event(line, source.name) for line in lines)
    mine = (encode(event).replace(source.name, uid).encode() for event in events)
    (folder / EVENTS).write_bytes(b"".join(seal_event(text, uid=uid) + b"\n" for text in mine))
    write_status(folder, replace(summary_of(source), uid=uid))


def copy_records(root: Path, source: str, runs: dict[str, Task]) -> None:
    database = connect(root)
    assert database is not None
    record = database.runs.find_one({"info.factbook.uid": source})
    assert record is not None
    copies = []
    for number, (uid, task) in enumerate(runs.items(), 1):
        mine = {"uid": uid, "cell": task.name, "fingerprint": task.fingerprint}
        facts = {**record["info"]["factbook"], **mine}
        copies.append(
            {
                **record,
                "_id": record["_id"] + number,
                "start_time": record["start_time"] + timedelta(seconds=number),
                "info": {**record["info"], "factbook": facts},
                "config": {**record["config"], **task.cell.config},
            }
        )
    for first in range(0, len(copies), 500):
        database.runs.insert_many(copies[first : first + 500])
    database.own.update_one({"_id": "last_run"}, {"$set": {"number": record["_id"] + len(runs)}})
    database.close()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project of one cell, which has run."""
    root = tmp_path_factory.mktemp("one")
    (root / "experiments.toml").write_text(with_one_cell(DECLARATION))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(URL_VARIABLE, raising=False)
        project = open_project(root)
        run_plan(project, project.plan(), runner="here")
        yield root
        server.stop(root)


def with_one_cell(text: str) -> str:
    return text.partition("matrix")[0] + "matrix = { factor = [5.0], seed = [3] }"


def compared(table: Table, most: float, many: Path, one: Path, *words: str) -> list[str]:
    """Return the lines that a command prints, whose time may be so many times that with one run.

    The two take turns, five times each; the least time of each counts.
    """
    taken: dict[Path, list[float]] = {many: [], one: []}
    for _ in range(5):
        for root in (one, many):
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "registry.cli", *words],
                cwd=root,
                env={**os.environ, "PYTHONPATH": str(SOURCE)},
                capture_output=True,
                text=True,
                check=True,
            )
            taken[root].append(time.perf_counter() - start)
    least = {root: min(times) for root, times in taken.items()}
    name = f"10,000 runs: factbook {' '.join(words)}"
    table.costs(name, least[many], least[one], most, against="one run")
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["runs"], 31),
        (["runs", "--stage", "tests.registry.lab.scale", "--status", "completed"], 31),
        (["runs", "wide[factor=5.0,seed=3]"], 2),
    ],
)
def test_ten_thousand_runs_are_listed_as_one(
    few: Path, one: Path, words: list[str], lines: int, table: Table
) -> None:
    assert len(compared(table, 2, few, one, *words)) == lines


def test_a_filter_without_an_index_reads_ten_thousand_runs(
    few: Path, one: Path, table: Table
) -> None:
    most = 8  # nearly all of it in the embedded server
    printed = compared(table, most, few, one, "runs", "wide", "--where", "config.factor=5.0")
    assert len(printed) == 31


def test_one_of_ten_thousand_runs_is_shown_as_one(few: Path, one: Path, table: Table) -> None:
    printed = compared(table, 2, few, one, "show", "wide[factor=5.0,seed=3]")
    assert any(line.split() == ["cell", "wide[factor=5.0,seed=3]"] for line in printed)


@pytest.mark.parametrize(
    ("words", "lines"), [(["plan"], 1), (["status"], 10_001), (["plan", "--force"], 10_003)]
)
def test_ten_thousand_cells_are_planned_in_the_time_of_a_few_commands(
    many: Path, one: Path, words: list[str], lines: int, table: Table
) -> None:
    assert len(compared(table, 5, many, one, *words)) == lines


def test_a_change_of_ten_thousand_cells_is_explained_as_soon(
    many: Path, one: Path, table: Table
) -> None:
    file = many / "experiments.toml"
    text = file.read_text()
    file.write_text(text.replace("matrix =", "config = { noise = 0.5 }\nmatrix ="))
    try:
        printed = compared(table, 5, many, one, "plan")
    finally:
        file.write_text(text)
    assert printed[1].endswith("configuration changed: noise 0.0 -> 0.5")
    assert len(printed) == 10_003


@pytest.fixture
def shared(few: Path) -> Iterator[Path]:
    """The same records, of which another project's are the older half."""
    database = connect(few)
    assert database is not None
    half = {"_id": {"$lte": 5_000}}
    [name] = database.runs.distinct(PROJECT)
    enter(database, "other")
    database.runs.update_many(half, {"$set": {PROJECT: "other"}})
    yield few
    database.runs.update_many(half, {"$set": {PROJECT: name}})
    database.collection(COLLECTION).delete_one({"_id": "other"})
    database.close()


@pytest.mark.parametrize(
    ("asked", "most"),
    [
        ({"experiment": "wide[factor=99.0,seed=3]"}, 1.5),
        ({"limit": 30}, 4.0),
        ({"limit": 30, "where": "config.factor>=50"}, 4.0),
    ],
)
def test_a_shared_database_answers_about_as_soon(
    shared: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], most: float, table: Table
) -> None:
    """As where every project is asked for, which needs no look at whose a run is."""
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    taken = []
    for all_projects in (True, False):
        with open_catalog(shared, all_projects=all_projects) as catalog:
            assert bool(catalog.scope.name) is not all_projects
            own = partial(catalog.runs, **asked)
            assert len(own()) == asked.get("limit", 1)
            taken.append(min(timeit.repeat(own, number=1, repeat=3)))
    name = f"runs of one project of a shared database, {asked}"
    table.costs(name, taken[1], taken[0], most, against="all projects")
