"""What a project would run and why, by its disk; and what fills the inputs of a task."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from registry.declare.declared import SelectionError
from registry.declare.faults import DeclarationError
from registry.execute.schedule import run_plan
from registry.mongo.database import OFF, URL_VARIABLE
from registry.plan.project import MissingInputsError, Project, open_project
from registry.plan.task import Why
from registry.record.states import State
from tests.registry.lab.project import DECLARATION, edit, write_project


def run(project: Project, *targets: str, force: bool = False) -> dict[str, State]:
    outcomes = run_plan(project, project.plan(targets, force=force), runner="here")
    assert all(outcome.is_good for outcome in outcomes), outcomes
    return {outcome.name: outcome.ending for outcome in outcomes}


def due(project: Project, *targets: str) -> dict[str, str]:
    return {task.name: task.reason for task in project.plan(targets).due}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose ``twice`` and ``mean`` have run, to be copied."""
    root = write_project(tmp_path_factory.mktemp("template") / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(URL_VARIABLE, OFF)
        run(open_project(root), "pair")
    return root


@pytest.fixture
def pair(template: Path, fresh: Path) -> Project:
    """A project of the test alone whose ``twice`` and ``mean`` have run."""
    shutil.copytree(template, fresh, symlinks=True, dirs_exist_ok=True)
    return open_project(fresh)


@pytest.mark.slow
def test_everything_is_due_at_first_and_nothing_after_it_ran(fresh: Path) -> None:
    project = open_project(fresh)
    assert due(project, "pair") == {"twice": "never ran", "mean": "never ran"}
    assert run(project, "pair") == {"twice": State.COMPLETED, "mean": State.COMPLETED}
    assert due(project, "pair") == {}


@pytest.mark.slow
def test_one_changed_value_is_named_and_only_what_depends_on_it_is_due(pair: Project) -> None:
    changed = edit(
        pair.root,
        'scale"\nneeds = { numbers = "few" }\n\n[experiments.mean]',
        'scale"\nneeds = { numbers = "few" }\nconfig = { factor = 4.5 }\n\n[experiments.mean]',
    )
    text = "configuration changed: factor 2.0 -> 4.5"
    assert due(changed, "pair") == {
        "twice": text,
        "mean": f"input scaled changed (twice: {text})",
    }
    assert due(edit(pair.root, "config = { factor = 4.5 }\n", ""), "pair") == {}


def test_a_change_of_the_last_task_leaves_the_others(pair: Project) -> None:
    old = 'average"\nneeds = { scaled = "twice" }'
    changed = edit(pair.root, old, f"{old}\nconfig = {{ offset = 1.0 }}")
    assert due(changed, "pair") == {"mean": "configuration changed: offset 0.0 -> 1.0"}


def test_layout_comments_and_the_order_of_keys_change_nothing(pair: Project) -> None:
    reordered = DECLARATION.replace(
        'stage = "tests.registry.lab.scale"\nneeds = { numbers = "few" }',
        "needs={numbers='few'} # why\n\nstage    =    'tests.registry.lab.scale'",
    ).replace("[suites]", "# a comment\n\n[suites]")
    tables = reordered.split("\n[")
    (pair.root / "experiments.toml").write_text("\n[".join([tables[0], *reversed(tables[1:])]))
    assert due(open_project(pair.root), "pair") == {}


def test_defaults_that_are_spelt_out_change_nothing(pair: Project) -> None:
    old = 'average"\nneeds = { scaled = "twice" }'
    assert due(edit(pair.root, old, f"{old}\nconfig = {{ offset = 0 }}"), "pair") == {}


def test_runtime_settings_change_nothing(pair: Project) -> None:
    old = 'scale"\nneeds = { numbers = "few" }\n\n[experiments.mean]'
    new = old.replace("\n\n", '\nconfig = { sleep = 0.01, then = "attach" }\n\n')
    assert due(edit(pair.root, old, new), "pair") == {}


def test_other_names_for_the_same_data_change_nothing(pair: Project) -> None:
    more = '[datasets.same]\nkind = "numbers"\nvalues = [1.0, 2, 3.5]\n\n[experiments.twice]'
    edit(pair.root, "[experiments.twice]", more)
    old = 'scale"\nneeds = { numbers = "few" }\n\n[experiments.mean]'
    assert due(edit(pair.root, old, old.replace("few", "same")), "pair") == {}


def test_changed_settings_of_a_dataset_are_named(pair: Project) -> None:
    changed = edit(pair.root, "[1, 2, 3.5]", "[1, 2, 4]")
    reasons = due(changed, "pair")
    assert reasons["twice"].startswith("input numbers changed (few: values [1.0,2.0,3.5] -> ")
    assert reasons["mean"].startswith("input scaled changed (few: values")


@pytest.mark.slow
def test_data_that_changed_is_noticed_and_data_that_is_gone_is_told(fresh: Path) -> None:
    data = fresh / "data.txt"
    data.write_text("1 2 3")
    project = edit(fresh, "values = [1, 2, 3.5]", 'file = "data.txt"')
    run(project, "pair")
    os.utime(data, ns=(0, 0))
    assert due(project, "pair") == {}
    data.write_text("1 2 4")
    assert due(project, "twice") == {"twice": "input numbers changed (few: its data changed)"}
    data.unlink()
    task = project.plan(["twice"]).task("twice")
    assert [reason.why for reason in task.reasons] == [Why.UNREADABLE]
    graph = project.graph
    known = project.fingerprints(graph, "twice")
    with pytest.raises(MissingInputsError, match=r"the data of 'few' cannot be read: .*data\.txt"):
        project.inputs(graph, graph.cells["twice"], known)


@pytest.mark.slow
def test_a_dataset_outlives_the_data_that_it_was_made_from(fresh: Path) -> None:
    data = fresh / "data.txt"
    data.write_text("1 2 3")
    project = edit(fresh, "values = [1, 2, 3.5]", 'file = "data.txt"')
    with pytest.raises(MissingInputsError, match="'twice' has no dataset here"):
        project.current("twice")
    run(project, "pair")
    made = {name: project.current(name) for name in ("twice", "mean")}
    data.write_text("1 2 4")
    with pytest.raises(
        MissingInputsError, match="'mean' has no dataset here as it is declared now"
    ):
        project.current("mean")  # other data is there: what was made is of data that is not
    data.unlink()
    assert {name: project.current(name) for name in made} == made
    scaled = project.finished("mean").inputs["scaled"]
    assert scaled.path == made["twice"]
    assert dict(scaled.inputs) == {}
    changed = edit(fresh, 'file = "data.txt"', 'file = "other.txt"')
    with pytest.raises(
        MissingInputsError, match="'mean' has no dataset here as it is declared now"
    ):
        changed.current("mean")


def test_a_finished_dataset_with_all_behind_it(pair: Project) -> None:
    mean = pair.finished("mean")
    assert (mean.slot, mean.name, mean.path) == (mean.kind, "mean", pair.current("mean"))
    assert mean.origin("numbers").load() == [1, 2, 3.5]
    assert mean.origin("scaled").path == pair.current("twice")
    with mean.open() as dataset:
        assert dataset.attrs["experiment"] == "mean"
    shutil.rmtree(pair.current("twice"))
    assert pair.finished("mean").inputs == {}
    with pytest.raises(MissingInputsError, match="'twice' is damaged"):
        pair.finished("twice")
    with pytest.raises(SelectionError, match="'sweep' means 4 cells"):
        pair.finished("sweep")


@pytest.mark.slow
def test_an_input_that_was_recomputed_to_other_bits_is_noticed(pair: Project) -> None:
    old = 'scale"\nneeds = { numbers = "few" }\n\n[experiments.mean]'
    drifting = edit(pair.root, old, old.replace("\n\n", '\nconfig = { then = "drift" }\n\n'))
    run(drifting, "twice", force=True)
    assert due(drifting, "twice") == {}
    [reason] = drifting.plan(["mean"]).task("mean").reasons
    assert reason.why is Why.RECOMPUTED
    assert "input scaled was recomputed to other bits" in reason.text
    run(drifting, "mean")
    assert due(drifting, "pair") == {}


@pytest.mark.slow
def test_an_input_that_was_recomputed_to_the_same_bits_leaves_the_rest_alone(
    pair: Project,
) -> None:
    run(pair, "twice", force=True)
    assert due(pair, "pair") == {}
    shutil.rmtree(pair.current("twice"))
    assert due(pair, "pair")["mean"] == "upstream will run: twice"
    assert run(pair, "pair") == {"twice": State.COMPLETED, "mean": State.UNCHANGED}
    assert due(pair, "pair") == {}


@pytest.mark.parametrize(
    ("remove", "why"),
    [
        ("dataset.nc", "dataset.nc is missing"),
        ("manifest.json", "manifest.json is missing"),
        ("", "is missing"),
    ],
)
def test_a_store_that_was_half_deleted_is_damaged_and_says_how(
    pair: Project, remove: str, why: str
) -> None:
    folder = pair.current("twice")
    shutil.rmtree(folder) if not remove else (folder / remove).unlink()
    task = pair.plan(["twice"]).task("twice")
    assert task.state.status is State.DAMAGED
    assert why in task.reason
    with pytest.raises(MissingInputsError, match=rf"'twice' is damaged \(.*{why}\); factbook run"):
        pair.current("twice")
    assert run(pair, "twice") == {"twice": State.COMPLETED}


def test_bytes_that_changed_are_found_when_they_are_asked_for(pair: Project) -> None:
    file = pair.current("twice") / "dataset.nc"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert not pair.plan(["twice"]).due
    assert "dataset.nc" in pair.plan(["twice"], verify=True).task("twice").reason


def test_a_store_that_is_gone_is_made_anew(pair: Project) -> None:
    shutil.rmtree(pair.root / "artifacts")
    assert due(pair, "pair") == {"twice": "never ran", "mean": "never ran"}


def test_changed_code_is_noted_and_run_again_only_if_asked(
    pair: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.plan.project.sources_hash", lambda stage, plugged: "other")
    plan = pair.plan(["twice"])
    assert not plan.due
    assert "code of tests.registry.lab.scale changed since" in plan.tasks[0].notes[0]
    assert pair.plan(["twice"], rerun_changed_code=True).due


def test_the_current_dataset_of_a_cell(pair: Project) -> None:
    folder = pair.current("twice")
    assert folder == pair.root / "artifacts" / "twice" / folder.parent.name / folder.name
    assert json.loads((folder / "manifest.json").read_text())["run"] == folder.name
    with pytest.raises(SelectionError, match="'sweep' means 4 cells"):
        pair.current("sweep")
    with pytest.raises(SelectionError, match="did you mean 'twice'"):
        pair.current("twise")
    with pytest.raises(
        MissingInputsError, match=r"'sweep\[.*\]' has no dataset here as it is declared"
    ):
        pair.current("sweep[factor=1.0,seed=0]")


def test_what_fills_the_inputs_is_reached_as_far_back_as_it_goes(pair: Project) -> None:
    graph = pair.graph
    known = pair.fingerprints(graph, "mean")
    [scaled] = pair.inputs(graph, graph.cells["mean"], known).values()
    assert (scaled.name, scaled.kind, scaled.path) == ("twice", "scaled", pair.current("twice"))
    assert scaled.fingerprint == known["twice"]
    with scaled.open() as dataset:
        assert dataset["value"].values.tolist() == [2, 4, 7]
    assert scaled.config["factor"] == 2.0
    assert scaled.origin("numbers").load() == [1, 2, 3.5]


def test_every_missing_input_is_told_with_what_makes_it(fresh: Path) -> None:
    project = open_project(fresh)
    known = project.fingerprints(project.graph, "mean")
    with pytest.raises(MissingInputsError, match=r"'twice' has no dataset .* run twice"):
        project.inputs(project.graph, project.graph.cells["mean"], known)


def test_a_variant_is_an_experiment_as_it_is_typed(pair: Project) -> None:
    stage, needs = "tests.registry.lab.scale", {"numbers": "few"}
    graph = pair.variant("twice", stage, {"factor": 3.0}, needs)
    assert graph.cells["twice"].config["factor"] == 3.0
    assert pair.graph.cells["twice"].config["factor"] == 2.0
    same = pair.variant("other", stage, {}, needs)
    ours, theirs = pair.fingerprints(same, "other"), pair.fingerprints(pair.graph, "twice")
    assert ours["other"] == theirs["twice"]
    with pytest.raises(DeclarationError) as error:
        pair.variant("twice", stage, {"factr": 3.0, "seed": "a"}, {"numbers": "fex"})
    assert len(error.value.faults) == 3


def test_a_variant_may_rest_on_one_cell_of_a_sweep(pair: Project) -> None:
    needs = {"scaled": "sweep[factor=2.0,seed=1]"}
    graph = pair.variant("one", "tests.registry.lab.average", {}, needs)
    assert graph.cells["one"].needs == needs
    fan = pair.variant("all", "tests.registry.lab.average", {}, {"scaled": "sweep"})
    assert len(fan.by_experiment["all"]) == 4


def test_a_project_needs_a_declaration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DeclarationError, match=r"no experiments\.toml in .* or a folder above it"):
        open_project()
    root = write_project(tmp_path / "project")
    (root / "deep" / "down").mkdir(parents=True)
    monkeypatch.chdir(root / "deep" / "down")
    assert open_project().root == root
