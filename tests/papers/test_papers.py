"""The papers' declarations with other folders and sizes: what is changed, and that it is there."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from registry.plan.project import open_project
from tests.papers.declarations import PAPERS, declaration
from tests.papers.smoke import PAPERS as RUN
from tests.papers.smoke import Paper


@pytest.mark.parametrize("paper", RUN, ids=lambda paper: paper.name)
def test_what_is_run_is_declared_and_only_sizes_differ(paper: Paper, tmp_path: Path) -> None:
    file = tmp_path / "experiments.toml"
    file.write_text(declaration(paper.name, paper.changes))
    project = open_project(file)
    own = open_project(PAPERS / paper.name / "experiments.toml")
    assert project.graph.cells.keys() == own.graph.cells.keys()
    assert project.plan(paper.targets).tasks
    for name, cell in project.graph.cells.items():
        assert (cell.stage, cell.needs) == (
            own.graph.cells[name].stage,
            own.graph.cells[name].needs,
        )


def test_nothing_is_written_that_no_paper_declares() -> None:
    text = declaration("fact", {})
    own = (PAPERS / "fact/experiments.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text) == tomllib.loads(own)
    cells = tomllib.loads(declaration("fact", {"experiments": {"sae": {"matrix": {"k": 3}}}}))
    assert {cell["k"] for cell in cells["experiments"]["sae"]["matrix"]} == {3}
    with pytest.raises(ValueError, match=r"there is no fact\.experiments\.saes"):
        declaration("fact", {"experiments": {"saes": {"config": {"k": 3}}}})
    with pytest.raises(ValueError, match=r"lr is neither a folder nor a size"):
        declaration("fact", {"experiments": {"sae": {"config": {"lr": 3}}}})
