"""Tasks that are cut into parts: as many runs, the digest of one, each part written once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from registry import open_catalog
from registry.cli import main
from registry.commands.run import print_results
from registry.declare.faults import DeclarationError, StageError
from registry.execute.resolved import planned_task
from registry.execute.runner import TaskOutcome
from registry.execute.schedule import Watcher, run_plan
from registry.plan.project import Project, open_project
from registry.plan.task import Task
from registry.record.journal import new_uid
from registry.record.states import State
from tests.registry.lab.project import edit, write_project

DECLARATION = """
[parts]
"tests.registry.lab.collect" = 3

[experiments.parts]
stage = "tests.registry.lab.collect"
needs = { numbers = "few" }
config = { n_parts = 5, part_size = 3 }

[experiments.at-once]
stage = "tests.registry.lab.collect"
needs = { numbers = "few" }
config = { n_parts = 5, part_size = 3 }
parts = 1
"""
QUICK: dict[str, Any] = {"runner": "here", "journal_only": True}


@pytest.fixture
def project(fresh: Path) -> Project:
    return open_project(write_project(fresh, DECLARATION))


def run(project: Project, name: str = "parts", **options: Any) -> list[TaskOutcome]:
    return run_plan(project, project.plan([name]), **{**QUICK, **options})


def endings(outcomes: list[TaskOutcome]) -> dict[str, str]:
    return {outcome.name.removeprefix("parts "): str(outcome.ending) for outcome in outcomes}


def content(project: Project, name: str) -> str:
    return str(json.loads((project.current(name) / "manifest.json").read_text())["content"])


def test_parts_are_runs_of_their_own_and_give_the_digest_of_one(project: Project) -> None:
    outcomes = run(project)
    parts = ["part 1 of 3", "part 2 of 3", "part 3 of 3"]
    assert endings(outcomes) == dict.fromkeys([*parts, "parts"], "completed")
    run(project, "at-once")
    assert content(project, "parts") == content(project, "at-once")
    *written, last = [str(outcome.uid) for outcome in outcomes]
    with open_catalog(project.root, "off") as catalog:
        assert catalog.run("parts").uid == last
        assert catalog.run("parts").title == "parts"
        assert [run for _, run in catalog.run("parts").parts()] == written
        views = [catalog.run(uid) for uid in written]
        assert [str(view.part) for view in views] == parts
        assert [view.title for view in views] == [f"parts {part}" for part in parts]
        assert len(catalog.runs(experiment="parts")) == 4
        assert all(view.output == {} and view.status == "COMPLETED" for view in views)
        assert "Part 2 of 3: files 1 to 2 of 5" in catalog.console(views[1])
    plan = project.plan(["parts"], force=True).cut(2, {"parts"})
    assert len(run_plan(project, plan, **QUICK)) == 3
    assert content(project, "parts") == content(project, "at-once")


def test_a_part_that_is_written_is_not_written_again(project: Project) -> None:
    class Impatient(Watcher):
        def begun(self, task: Task, uid: str) -> None:
            if task.title == "parts part 2 of 3":
                raise KeyboardInterrupt

    first = run(project, watcher=Impatient())
    assert endings(first)["part 1 of 3"] == "completed"
    assert endings(first)["parts"] == "interrupted"
    state = project.plan(["parts"]).task("parts").state
    assert state.status in (State.INTERRUPTED, State.DIED)
    second = run(project)
    assert endings(second) == {
        "part 1 of 3": "unchanged",
        "part 2 of 3": "completed",
        "part 3 of 3": "completed",
        "parts": "completed",
    }
    assert second[0].message == f"run {first[0].uid} has written it"


class Other(Watcher):
    """Another process at a part, until it is waited for."""

    def __init__(self, project: Project):
        plan = project.plan(["parts"])
        [first, *_] = plan.task("parts").in_parts()
        self.attempt = planned_task(project, first).begin(project.store, new_uid())
        self.waited: list[str] = []

    def waits(self, task: Task, run: str) -> None:
        assert run == self.attempt.uid
        self.waited.append(task.title)
        self.attempt.close()


def test_who_finds_another_at_a_part_writes_the_others_meanwhile(project: Project) -> None:
    plan, other = project.plan(["parts"]), Other(project)
    outcomes = run_plan(project, plan, **QUICK, watcher=other)
    assert other.waited == ["parts part 1 of 3"]
    names = [outcome.name for outcome in outcomes]
    assert names == [*(f"parts part {n} of 3" for n in (2, 3, 1)), "parts"]
    assert {outcome.ending for outcome in outcomes} == {State.COMPLETED}


@pytest.mark.slow
def test_a_part_that_fails_leaves_the_dataset_open_and_the_others_whole(project: Project) -> None:
    project = edit(
        project.root,
        "n_parts = 5, part_size = 3 }\n\n",
        "n_parts = 5, part_size = 3, die_at = 2 }\n\n",
    )
    outcomes = run_plan(project, project.plan(["parts"]), workers=2, journal_only=True)
    found = {outcome.name: outcome for outcome in outcomes}
    assert endings(outcomes) == {
        "part 1 of 3": "completed",
        "part 2 of 3": "failed",
        "part 3 of 3": "completed",
        "parts": "blocked",
    }
    assert found["parts"].message == "needs parts part 2 of 3"
    task = project.plan(["parts"]).task("parts")
    assert task.reason == f"died in run {found['parts part 2 of 3'].uid}: part 2 of 3"
    project = edit(project.root, ", die_at = 2", "")
    again = run(project)
    assert endings(again)["part 2 of 3"] == "completed"
    assert list(endings(again).values()).count("unchanged") == 2
    with open_catalog(project.root, "off") as catalog:
        [resumed] = catalog.metrics(catalog.run(str(again[1].uid)))["resumed"]["values"]
        assert resumed == 1, "it goes on at its next file"
    run(project, "at-once")
    assert content(project, "parts") == content(project, "at-once")


def test_an_input_that_comes_out_the_same_leaves_all_parts_be(project: Project) -> None:
    """Parts heed what the whole task heeds: here, that another process has made it since."""
    plan = project.plan(["parts"])
    run(project)
    outcomes = run_plan(project, plan, **QUICK)
    assert {outcome.ending for outcome in outcomes} == {State.UNCHANGED}


def test_parts_are_declared_by_stage_or_by_experiment(project: Project) -> None:
    tasks = {task.name: task for task in project.plan().tasks}
    assert (tasks["parts"].parts, tasks["at-once"].parts, tasks["twice"].parts) == (3, 1, 1)
    assert tasks["parts"].fingerprint == tasks["at-once"].fingerprint
    [first, second, third, whole] = tasks["parts"].in_parts()
    assert whole.needs == ("few", first.title, second.title, third.title)


def test_what_cannot_be_cut_is_told_with_the_reason(project: Project) -> None:
    reason = (
        "tests.registry.lab.scale cannot be cut into parts: "
        "it does not go through images or neurons one by one"
    )
    with pytest.raises(StageError, match=reason):
        project.plan(["twice"]).cut(2, {"twice"})
    both = project.plan(["twice", "at-once"]).cut(2, {"twice", "at-once"})
    assert (both.task("twice").parts, both.task("at-once").parts) == (1, 2)
    text = DECLARATION.replace(
        "[parts]", '[parts]\n"tests.registry.lab.scale" = 2\n"tests.registry.lab.colect" = 2'
    ).replace("parts = 1", "parts = 0")
    write_project(project.root, text)
    with pytest.raises(DeclarationError) as error:
        open_project(project.root)
    assert [str(fault) for fault in error.value.faults] == [
        f"parts.tests.registry.lab.scale: {reason}",
        "parts.tests.registry.lab.colect: unknown stage 'tests.registry.lab.colect'; "
        "did you mean 'tests.registry.lab.collect'?",
        "experiments.at-once.parts: expected a number of parts, 1 to 10,000; got an integer 0",
    ]


def test_the_command_says_what_is_cut_and_what_cannot_be(project: Project) -> None:
    def typed(*words: str) -> str:
        done = CliRunner().invoke(main, list(words))
        assert done.exit_code == (1 if "twice" in words else 0), done.output
        return done.output

    assert "cut into parts: parts (3)" in typed("plan", "parts")
    assert "tests.registry.lab.scale cannot be cut" in typed("run", "twice", "--parts", "2")
    told = typed("run", "parts", "--parts", "2", "--here")
    assert "✓ parts part 1 of 2  completed" in told
    table = told.rpartition("\nexperiment")[2]
    assert "parts" in table
    assert "files 0 to 1 of 5" not in table
    listed = typed("runs", "parts")
    assert "parts part 2 of 2" in listed


def test_what_parts_took_counts_as_of_the_whole(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = project.plan(["parts"], force=True)
    (task,) = plan.open
    outcomes = [
        TaskOutcome(each.title, State.COMPLETED, f"run {number}", 10.0 + number)
        for number, each in enumerate(task.in_parts())
    ]
    assert len(outcomes) == 4
    print_results(outcomes, plan)
    assert "46.0 s" in capsys.readouterr().out
