"""100,000 recorded runs: seconds until any question about them is answered, once summarised.

On the embedded server, which is the slowest there is, and on the journals alone. Making them takes
some minutes, and so does summarising them, which happens once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.catalog.access import Catalog, open_catalog
from registry.mongo import server
from registry.mongo.database import OFF, URL_VARIABLE
from tests.benchmarks import many_runs

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


def answered(catalog: Catalog, question: dict[str, Any], count: int) -> float:
    start = time.perf_counter()
    found = catalog.runs(**question, limit=30)
    taken = time.perf_counter() - start
    assert len(found) == count or (count < 0 < len(found))
    return taken


@pytest.mark.parametrize("url", [None, OFF])
def test_questions_about_100_000_runs(
    many: Path, monkeypatch: pytest.MonkeyPatch, url: str | None
) -> None:
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    with open_catalog(many, url) as catalog:
        first = answered(catalog, {}, 30)
        once = answered(catalog, *QUESTIONS["sorted by a result"])
        print(f"\n{url or 'embedded'}: the newest {first:.2f} s; summarised once in {once:.0f} s")
        taken = {
            name: min(answered(catalog, *asked) for _ in range(3))
            for name, asked in QUESTIONS.items()
        }
    for name, seconds in taken.items():
        print(f"{name}: {seconds:.2f} s")
    assert max(taken.values()) < MOST
