"""The lines that an empty page gives are pasted into projects, and planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboards.views.runs.advice import without_datasets
from dashboards.views.runs.drafts import MAKERS, lines_for
from registry.declare.stage import load_stage
from registry.plan.project import Project, open_project
from tests.fact import chain

DEMO = (Path(__file__).parents[2] / "experiments.toml").read_text(encoding="utf-8")
TWO_SETS = """
[datasets.others]
kind = "shapes"
size = 48

[experiments.other-classifier]
stage = "fact.train_classifier"
needs = { images = "others" }

[experiments.other-labels]
stage = "fact.label_inputs"
needs = { images = "others" }
"""


def declared(folder: Path, text: str) -> Project:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiments.toml").write_text(text, encoding="utf-8")
    return open_project(folder / "experiments.toml")


@pytest.mark.parametrize(
    "text", ["", TWO_SETS + chain.DECLARATION, DEMO], ids=["none", "two", "demo"]
)
def test_what_is_pasted_can_be_planned_whole(tmp_path: Path, text: str) -> None:
    project = declared(tmp_path / "before", text)
    known = {*project.declaration.experiments, *project.declaration.resources}
    for schema in MAKERS:
        name, lines = lines_for(project, schema)
        assert name not in known
        pasted = declared(tmp_path / schema, "\n".join([text, *lines, ""]))
        planned = {task.name: task for task in pasted.plan([name]).tasks}
        assert planned[name].cell.provides == schema
        own = set(pasted.declaration.experiments) - known
        cells = pasted.graph.cells
        assert own <= {cells[one].experiment for one in behind(pasted, name)}, "nothing idle"


def behind(project: Project, name: str) -> set[str]:
    """Return the cells that a cell is made from, itself too."""
    cells = project.graph.cells
    return {name}.union(*(behind(project, n) for n in cells[name].needs.values() if n in cells))


def test_lines_take_what_is_there_and_belongs_together(tmp_path: Path) -> None:
    project = declared(tmp_path, TWO_SETS + chain.DECLARATION)
    _, lines = lines_for(project, "scores")
    assert lines == (
        "[experiments.my-scores]",
        'stage = "evals.score_explanations"',
        'needs = { activations = "concepts", labels = "labels" }',
    )
    _, lines = lines_for(project, "fidelity")
    assert 'needs = { model = "sae", images = "shapes" }' in lines
    _, lines = lines_for(project, "matching")
    assert "[experiments.my-other-sae]" in lines
    assert any("seed = 1" in line for line in lines)
    assert 'needs = { one = "concepts", other = "my-other-concepts" }' in lines
    _, lines = lines_for(project, "decisions")
    assert "[experiments.my-gallery]" in lines


def test_an_empty_page_names_the_stage_and_what_it_answers(tmp_path: Path) -> None:
    told = without_datasets(declared(tmp_path, chain.DECLARATION), "consistency")
    assert told.title == "No consistency experiment yet"
    assert load_stage("evals.measure_consistency").doc in told.reason
    assert told.commands == ("factbook run my-consistency",)
    assert 'needs = { concepts = "concepts" }' in told.lines
    declared_only = without_datasets(declared(tmp_path, chain.DECLARATION), "names")
    assert "evals.name_concepts: Name each concept" in declared_only.reason
    assert declared_only.lines == ()
