"""The dashboard over 10,000 runs, and over a curve of 200,000 steps: seconds that a reader waits.

A page is cold where the server has just started and nothing is known; then everything is asked of
the embedded server, which is the slowest there is.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from streamlit.testing.v1 import AppTest

from dashboards import pages
from dashboards.screens import frame, run
from registry.mongo import server
from registry.mongo.database import URL_VARIABLE, Database, connect
from registry.mongo.projection import store_journal as store
from registry.record.journal import read_journal
from tests.benchmarks.table import Table
from tests.dashboards import conftest, fabricate
from tests.dashboards.fabricate import Told, record

pytestmark = pytest.mark.benchmark
pages_alone = conftest._pages_alone

RUNS, STEPS = 10_000, 200_000
COLD, WARM, CLICK = 5.0, 2.0, 1.0
"""Seconds; of a click less is asked."""
MOST_MEMORY = 1500.0  # megabytes
SETTINGS: dict[str, Any] = {
    **{"lr": 1e-3, "batch": 4096, "passes": 16, "auxiliary": {"k": 256, "coefficient": 0.03125}},
    **{f"setting_{n}": f"value {n}" for n in range(8)},
}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with 10,000 runs of a matrix in the embedded server, and one long curve."""
    root = tmp_path_factory.mktemp("dashboard") / "project"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(URL_VARIABLE, raising=False)
        project = fabricate.declare(root)
        database = connect(root)
        assert database is not None
        curve = np.exp(-np.arange(STEPS) / 50_000) + np.random.default_rng(0).normal(0, 0.01, STEPS)
        long = record(project, Told("toy-sae[k=16]", metrics={"training.loss": curve.tolist()}))
        store(read_journal(root / ".factbook" / "journal" / long), database)
        copy_runs(database)
        database.close()
        yield root
        server.stop(root)


def copy_runs(database: Database) -> None:
    """Insert 10,000 runs like the one that is there, each with settings and results of its own."""
    first = database.runs.find_one({})
    assert first is not None
    chance = random.Random(0)
    for start in range(1, RUNS, 500):
        numbers = range(start, min(start + 500, RUNS))
        database.runs.insert_many([like(first, number, chance) for number in numbers])
    database.own.update_one({"_id": "last_run"}, {"$set": {"number": first["_id"] + RUNS - 1}})


def like(first: dict[str, Any], number: int, chance: random.Random) -> dict[str, Any]:
    document = copy.deepcopy(first)
    k, seed = number % 100, number // 100
    start = first["start_time"] + timedelta(seconds=60 * number)
    document["info"].pop("metrics", None)
    document["info"]["factbook"] |= {
        "uid": f"20261122T{number:06d}-{number:08x}",
        "cell": f"toy-sae[k={k},seed={seed}]",
        "packages": {f"package-{n}": "1.0" for n in range(30)},
    }
    config = {**document["config"], **SETTINGS, "k": k, "seed": seed}
    results = ("best_accuracy", "final_loss", "explained_variance", "dead", "scale")
    return {
        **document,
        "_id": first["_id"] + number,
        "start_time": start,
        "stop_time": start + timedelta(seconds=chance.random() * 100),
        "status": "FAILED" if number % 50 == 0 else "COMPLETED",
        "config": config,
        "result": {name: chance.random() for name in results},
        "captured_out": "a line of the console\n" * 100,
    }


def show_runs() -> None:
    from dashboards.screens import runs

    runs.show()


@pytest.fixture
def open_page(many: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., AppTest]]:
    """Open the dashboard, cold at the first time."""
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    monkeypatch.setenv("FACTBOOK_PROJECT", str(many))
    monkeypatch.chdir(many)
    clear()

    def open_it(**address: Any) -> AppTest:
        if not address:  # of none it is the first page
            return AppTest.from_function(show_runs, default_timeout=120)
        page = AppTest.from_file(pages.__file__, default_timeout=120)
        for key, value in address.items():
            page.query_params[key] = value
        return page

    yield open_it
    clear()


def clear() -> None:
    for kept in (frame.connection, frame._index, run._curves_of):
        kept.clear()


def seconds(page: AppTest) -> float:
    """Return how long a page takes, which must not fail."""
    start = time.perf_counter()
    page.run()
    taken = time.perf_counter() - start
    assert not page.exception
    assert not page.error
    return taken


def test_ten_thousand_runs_are_shown_sorted_searched_and_filtered(
    open_page: Callable[..., AppTest], table: Table
) -> None:
    page = open_page()
    table.within("runs, cold", seconds(page), COLD, "s", asked=COLD)
    assert len(page.dataframe[0].value) == 200
    start = time.perf_counter()
    [index] = [frame.run_index(frame.open_catalog())]
    assert len(index.look().rows) == RUNS
    table.within("all runs read after", time.perf_counter() - start, None, "s")
    table.within("runs, warm", seconds(page), WARM, "s", asked=CLICK)

    questions: list[tuple[str, dict[str, Any], int]] = [
        ("sorted by a result", {"sort": "-result.best_accuracy", "limit": "10000"}, RUNS),
        ("sorted by a setting", {"sort": "config.k"}, 200),
        ("searched", {"text": "k=37, value 7", "limit": "10000"}, 100),
        ("searched for a cell", {"text": "k=37,", "limit": "10000"}, 100),
        ("compared", {"where": "config.k>=90, result.best_accuracy>0.5", "limit": "1000"}, -1),
        ("filtered", {"status": "FAILED", "limit": "1000"}, 199),
        ("by time", {"since": "2026-11-22", "until": "2026-11-23", "limit": "10000"}, -1),
    ]
    for name, address, count in questions:
        shown = open_page(**address)
        table.within(f"runs, {name}", seconds(shown), WARM, "s", asked=CLICK)
        found = len(shown.dataframe[0].value) if shown.dataframe else 0
        assert found == count or (count < 0 < found < RUNS)
    memory = psutil.Process().memory_info().rss / 1e6
    table.within("memory of the server", memory, MOST_MEMORY, "MB", asked=MOST_MEMORY)


@pytest.mark.parametrize("address", [{"sort": "result.final_loss"}, {"text": "k=37,seed=5]"}])
def test_a_question_about_all_runs_on_a_cold_server(
    open_page: Callable[..., AppTest], address: dict[str, str], table: Table
) -> None:
    page, [asked] = open_page(**address), address.values()
    # The price of reading all, once.
    table.within(f"runs by {asked}, cold", seconds(page), 2 * COLD, "s", asked=COLD)
    table.within(f"runs by {asked}, warm", seconds(page), WARM, "s", asked=CLICK)


def test_a_new_run_is_seen_without_reading_all_again(
    open_page: Callable[..., AppTest], many: Path, table: Table
) -> None:
    page = open_page(where="config.k=101")
    table.within("all runs, cold", seconds(page), None, "s")
    database = connect(many)
    assert database is not None
    newest = database.runs.find_one({"_id": RUNS})
    assert newest is not None
    fresh = like(newest, 1, random.Random(1))
    fresh["config"]["k"], fresh["info"]["factbook"]["uid"] = 101, "20261123T000000-0000ffff"
    try:
        database.runs.insert_one({**fresh, "_id": RUNS + 1})
        time.sleep(2.1)  # the period of refreshes
        page = open_page(where="config.k=101")
        table.within("a new run", seconds(page), WARM, "s", asked=CLICK)
        assert len(page.dataframe[0].value) == 1
    finally:
        database.runs.delete_one({"_id": RUNS + 1})
        database.close()


def test_a_curve_of_200_000_steps(
    open_page: Callable[..., AppTest], many: Path, table: Table
) -> None:
    [uid] = [folder.name for folder in (many / ".factbook" / "journal").iterdir()]
    page = open_page(run=uid, section="Curves")
    table.within("curve of 200,000 steps, cold", seconds(page), COLD, "s", asked=COLD)
    assert "200,000 points, thinned" in "".join(caption.value for caption in page.caption)
    table.within("curve, warm", seconds(page), WARM, "s", asked=CLICK)
    page.slider(key="smooth").set_value(0.99)
    table.within("curve, smoothed", seconds(page), WARM, "s", asked=CLICK)
    page.toggle(key="log").set_value(True)
    table.within("curve, logarithmic", seconds(page), WARM, "s", asked=CLICK)


WIDE = f"""
[experiments.sae]
stage = "tests.dashboards.toy.train"
matrix = {{ k = {list(range(1, 101))}, seed = {list(range(50))} }}

[experiments.concepts]
stage = "tests.dashboards.toy.measure"
needs = {{ sae = "sae" }}
"""


def show_pipeline() -> None:
    from dashboards.screens import pipeline

    pipeline.show()


def test_a_pipeline_of_10_000_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: Table
) -> None:
    fabricate.declare(tmp_path / "wide", WIDE)
    monkeypatch.setenv(URL_VARIABLE, "off")
    monkeypatch.setenv("FACTBOOK_PROJECT", str(tmp_path / "wide"))
    monkeypatch.chdir(tmp_path)
    clear()
    page = AppTest.from_function(show_pipeline, default_timeout=60)
    table.within("pipeline of 10,000 cells, cold", seconds(page), COLD, "s", asked=COLD)
    assert len(page.dataframe[0].value) == RUNS
    time.sleep(3.1)  # until what was planned is forgotten
    table.within("pipeline, planned anew", seconds(page), WARM, "s", asked=CLICK)
    clear()
