"""100,000 recorded runs: seconds until any question about them is answered, once summarised.

On the embedded server, which is the slowest there is, and on the journals alone. Making them takes
some minutes, and so does summarising them, which happens once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.catalog.access import Catalog, open_catalog
from registry.mongo import server
from registry.mongo.database import OFF, URL_VARIABLE
from tests.benchmarks import many_runs
from tests.benchmarks.clock import least
from tests.benchmarks.table import Table

pytestmark = pytest.mark.benchmark

RUNS = 100_000
MOST = 3.0
QUESTIONS: dict[str, tuple[dict[str, Any], int]] = {
    "the newest": ({}, 30),
    "the oldest": ({"sort": "start_time"}, 30),
    "of an experiment": ({"experiment": "wide-1"}, 30),
    "of a stage, completed": (
        {"stage": "tests.registry.lab.scale", "status": "COMPLETED"},
        30,
    ),
    "failed": ({"status": "FAILED"}, 30),
    "died": ({"status": "DIED"}, 0),
    "of a setting": ({"where": {"config.k": 16}}, 30),
    "by comparisons": ({"where": "config.k>=90, result.accuracy>0.9"}, 30),
    "by a rare comparison": ({"where": "config.k=90, result.accuracy>0.99"}, -1),
    "sorted by a result": ({"sort": "-result.accuracy"}, 30),
    "sorted by a setting": ({"sort": "config.k"}, 30),
    "the longest": ({"sort": "-seconds"}, 30),
    "of an experiment, sorted": ({"experiment": "wide-1", "sort": "-result.accuracy"}, 30),
}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("many")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(URL_VARIABLE, raising=False)
        many_runs.make(root, RUNS)
        yield root
        server.stop(root)


def answered(catalog: Catalog, question: dict[str, Any], count: int, rounds: int = 3) -> float:
    def ask() -> None:
        found = catalog.runs(**question, limit=30)
        assert len(found) == count or (count < 0 < len(found))

    return least(ask, rounds=rounds)[0]


@pytest.mark.parametrize(("url", "asked"), [(None, MOST), (OFF, None)])
def test_questions_about_100_000_runs(
    many: Path,
    monkeypatch: pytest.MonkeyPatch,
    url: str | None,
    asked: float | None,
    table: Table,
) -> None:
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    where = "journals alone" if url == OFF else "embedded server"
    with open_catalog(many, url) as catalog:
        first = answered(catalog, {}, 30, rounds=1)
        once = answered(catalog, *QUESTIONS["sorted by a result"], rounds=1)
        table.within(f"the newest of 100,000 runs, before all else, {where}", first, None, "s")
        table.within(f"100,000 runs summarised once, {where}", once, None, "s")
        for name, question in QUESTIONS.items():
            taken = answered(catalog, *question)
            table.within(f"100,000 runs: {name}, {where}", taken, MOST, "s", asked=asked)
