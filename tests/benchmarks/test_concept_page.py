"""The page of concepts with 16,384 concepts over 50,000 images: 2 s warm, 5 s cold, 1.5 GB.

The model is fabricated: 300 concepts are present in each image, as after a TopK SAE. Writing it
takes some two minutes and 1 GB.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.mongo.database import URL_VARIABLE
from tests.benchmarks.table import Table
from tests.dashboards import fabricate_large

pytestmark = pytest.mark.benchmark

COLD, WARM, CLICK, MEMORY = 5.0, 2.0, 1.0, 1500.0
"""Seconds, of which a click is asked to take less; megabytes."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("large")
    yield fabricate_large.live_in(root).root
    shutil.rmtree(root)


def visit(root: Path) -> tuple[dict[str, float], float]:
    """Return the seconds of each visit by a fresh server, and the most memory that it had."""
    path = os.pathsep.join(filter(None, sys.path))
    environment = {"FACTBOOK_PROJECT": str(root), URL_VARIABLE: "off", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.concept_visits"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    return told["taken"], told["memory"] / 1e6


def test_visits_by_a_new_server(large: Path, table: Table) -> None:
    """Presences by concept are laid down with the concepts: no visit waits for them."""
    size = sum(file.stat().st_size for file in large.rglob("*") if file.is_file())
    table.within("the model's files", size / 1e6, 3000, "MB")
    taken, memory = visit(large)
    for name in ("concepts, the first page of all", "the first page, after it"):
        table.within(name, taken.pop(name), COLD, "s", asked=COLD)
    for name, seconds in taken.items():
        table.within(name, seconds, WARM, "s", asked=CLICK)
    table.within("memory of the server", memory, MEMORY, "MB", asked=MEMORY)
    assert not (large / ".factbook" / "cache").exists(), "nothing was read once more"
