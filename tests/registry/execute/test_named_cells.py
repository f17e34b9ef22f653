"""Cells with names, run by both doors and found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.catalog.access import open_catalog
from registry.execute.schedule import run_plan
from registry.plan.project import open_project
from tests.registry.lab.project import write_project
from tests.registry.test_cli import printed

NAMED = """
[datasets.more]
kind = "numbers"
values = [5, 6]
[experiments.scaled]
stage = "tests.registry.lab.scale"
matrix = { seed = [0, 1], cell = [
    { cell = "small", needs = { numbers = "few" }, factor = 2.0 },
    { cell = "large", needs = { numbers = "more" }, factor = 3.0 },
] }
[experiments.means]
stage = "tests.registry.lab.average"
needs = { scaled = "scaled" }
"""


def test_named_cells_are_run_and_found_by_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_project(tmp_path / "project", NAMED)
    monkeypatch.setenv("FACTBOOK_MONGO", "off")
    monkeypatch.chdir(root)
    project = open_project(root)
    outcomes = run_plan(project, project.plan(["*[small]"]), runner="here", journal_only=True)
    assert [outcome.name for outcome in outcomes] == [
        "scaled[cell=small,seed=0]",
        "scaled[cell=small,seed=1]",
        "means[cell=small,seed=0]",
        "means[cell=small,seed=1]",
    ]
    with open_catalog(root) as catalog:
        for name in ("means[small,seed=1]", "means[seed=1,cell=small]"):
            assert catalog.run(name).cell == "means[cell=small,seed=1]"
            assert catalog.dataset(name)["mean"] == pytest.approx(2 * 6.5 / 3)
    assert "means[cell=small,seed=1]" in printed("show", "means[small,seed=1]")
    assert "/artifacts/scaled/" in printed("path", "scaled[seed=0,small]")
