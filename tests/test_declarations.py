"""The declarations that come along: each is read, and can be planned as far as its data is here."""

from __future__ import annotations

from pathlib import Path

import pytest

import evals
from registry.declare.stage import load_stage
from registry.plan.project import open_project

ROOT = Path(__file__).parent.parent
SHIPPED = [ROOT, *sorted(path.parent for path in (ROOT / "papers").glob("*/experiments.toml"))]


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda path: path.name)
def test_every_declaration_can_be_planned(folder: Path) -> None:
    project = open_project(folder / "experiments.toml")
    plan = project.plan()
    assert {task.name for task in plan.tasks} == set(project.graph.cells)
    for cell in project.graph.cells.values():
        stage = load_stage(cell.stage)
        assert stage.configuration(stage.resolve(cell.config)) == cell.config


def test_the_settings_of_the_paper_are_all_there() -> None:
    project = open_project(ROOT / "papers/neuron-eval/experiments.toml")
    suites = project.declaration.suites
    assert {f"s{number}" for number in range(1, 9)} <= set(suites)
    cells = project.graph.cells
    known = [name for name in cells if cells[name].stage == "evals.identify_neurons"]
    assert {f"known-{number}" for number in range(1, 11)} <= set(known)
    assert cells["vit-neurons"].config["transform"] == "softmax"
    hidden = cells["resnet50-neurons"].config
    assert (hidden["layer"], hidden["pooling"], hidden["transform"]) == ("layer4", "mean", "none")


@pytest.mark.parametrize("data", ["shapes", "fashion", "photos"])
def test_concepts_are_scored_and_named_by_every_metric_beside_tests_on_real_neurons(
    data: str,
) -> None:
    cells = open_project(ROOT).graph.cells
    every = list(evals.list_metrics())
    assert cells[f"{data}-scores"].config["metrics"] == every
    named = [name for name in cells if name.startswith(f"{data}-") and name.endswith("names")]
    assert named
    for name in named:
        assert cells[name].config["metrics"] == every
        tested = cells[cells[name].needs["sanity"]]
        assert tested.needs.keys() == {"activations", "labels"}
