"""Every error that a reader can meet says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboards.views.runs.advice import (
    EXPECTED,
    advise,
    database_trouble,
    first_steps,
    run_command,
    without_datasets,
)
from dashboards.views.runs.drafts import MAKERS
from registry.catalog.access import Catalog, DeletedRunError, UnknownRunError
from registry.catalog.conditions import QueryError
from registry.catalog.notes import NoteError
from registry.declare.declared import SelectionError
from registry.declare.faults import DeclarationError, Fault
from registry.declare.stage import load_stage
from registry.mongo.database import DatabaseError
from registry.plan.project import MissingInputsError, Project
from registry.record.tombstones import Tombstone
from registry.store.durable import StoreError
from registry.store.schema import SchemaError
from registry.upkeep.deletion import DeletionError
from tests.dashboards import fabricate

ERRORS = [
    (MissingInputsError("toy-sae is never", command="factbook run 'toy-sae[k=8]'"), "factbook run"),
    (StoreError("/x is damaged: dataset.nc is missing"), "factbook run --verify toy-concepts"),
    (SchemaError("'concepts' dataset of another version", ["version 9"]), "factbook run"),
    (OSError("unable to read chunk"), "factbook run --verify toy-concepts"),
    (DeclarationError((Fault("experiments.x", "unknown key"),), Path(__file__)), "factbook list"),
    (DatabaseError("MongoDB at localhost: refused"), "factbook sync"),
    (UnknownRunError("no run '7'"), "factbook runs"),
    (SelectionError("no experiment 'x'"), "factbook list"),
    (QueryError("'a'; expected key=value"), ""),
    (NoteError("no tag: '<'"), ""),
    (DeletionError("run 7 is RUNNING"), ""),
]


@pytest.mark.parametrize(("error", "command"), ERRORS, ids=lambda value: type(value).__name__)
def test_every_error_has_a_title_a_reason_and_a_command(error: Exception, command: str) -> None:
    assert isinstance(error, EXPECTED)
    advice = advise(error, "toy-concepts")
    assert advice.title
    assert str(error).partition(";")[0].splitlines()[0] in advice.reason
    assert command in "\n".join(advice.commands)


def test_every_expected_error_is_tried_above() -> None:
    assert {type(error) for error, _ in ERRORS} == set(EXPECTED)


def test_a_deleted_run_tells_what_makes_it_again() -> None:
    told = ("7-uid", "toy", "stage", "0", "COMPLETED", "", "2026-11-29T08:01:00Z", "me@here")
    advice = advise(DeletedRunError(Tombstone(*told, "factbook run toy")))
    assert advice.title == "This run was deleted"
    assert advice.reason == "run 7-uid of 'toy' was deleted on 2026-11-29 08:01 UTC by me@here"
    assert advice.commands == ("factbook run toy",)


def test_a_missing_dataset_tells_the_command_of_the_error_itself() -> None:
    command = "factbook run 'a[k=8]'"
    advice = advise(MissingInputsError(f"a is never; {command}", command=command), "b")
    assert advice.reason == "a is never"
    assert advice.commands == (command,)
    assert advise(MissingInputsError("gone"), "b[k=1]").commands == ("factbook run 'b[k=1]'",)
    assert advise(MissingInputsError("gone")).commands == ()


@pytest.mark.parametrize("cell", ["a; rm -rf /", "$(x)", "a b", "s[k=8,seed=1]"])
def test_commands_are_safe_to_paste(cell: str) -> None:
    import shlex

    assert shlex.split(run_command(cell)) == ["factbook", "run", cell]


def test_first_steps_are_the_demo_or_what_is_declared(project: Project) -> None:
    assert first_steps(project).commands == ("factbook run demo",)
    text = fabricate.DECLARATION.partition("[suites]")[0]
    other = fabricate.declare(project.root.parent / "other", text)
    assert first_steps(other).commands == ("factbook run toy-sae",)
    empty = fabricate.declare(project.root.parent / "empty", "")
    told = first_steps(empty)
    assert told.commands == ("factbook run my-gallery",)
    assert "[experiments.my-gallery]" in told.lines


def test_what_is_missing_is_said_with_the_stage_that_makes_it(project: Project) -> None:
    with pytest.raises(MissingInputsError) as missing:
        project.current("toy-concepts")
    assert "\ntests.dashboards.toy.measure" in advise(missing.value).reason


def test_missing_kinds_of_datasets_name_who_would_make_them(project: Project) -> None:
    told = without_datasets(project, "concepts")
    assert told.commands == ("factbook run toy-concepts",)
    assert "toy-concepts" in told.reason
    told = without_datasets(project, "decisions")
    assert 'stage = "fact.explain_decisions"' in told.lines
    assert told.commands == ("factbook run my-decisions",)
    assert without_datasets(project, "unheard-of").commands == ("factbook list",)


@pytest.mark.parametrize("schema", MAKERS)
def test_stages_that_are_advised_make_what_is_missing(schema: str) -> None:
    output = load_stage(MAKERS[schema]).output
    assert output is not None
    assert output.name == schema


@pytest.mark.parametrize("path", [None, Path("nowhere/experiments.toml")])
def test_without_a_project_it_is_told_how_to_name_one(path: Path | None) -> None:
    advice = advise(DeclarationError((Fault("", "no such file"),), path))
    assert "project" in advice.title
    assert advice.commands == ("export FACTBOOK_PROJECT=FOLDER",)


def test_a_server_that_is_named_and_dead_cannot_be_started_by_us(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACTBOOK_MONGO", "mongodb://127.0.0.1:1")
    told = database_trouble(Catalog(project, None, "MongoDB at 127.0.0.1:1: refused"))
    assert told is not None
    assert "Start the server that FACTBOOK_MONGO names" in told.reason
    assert [command.partition("  #")[0] for command in told.commands] == [
        "unset FACTBOOK_MONGO",
        "export FACTBOOK_MONGO=off",
    ]


def test_trouble_with_the_database(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACTBOOK_MONGO", raising=False)
    assert database_trouble(Catalog(project)) is None  # FACTBOOK_MONGO is off
    told = database_trouble(Catalog(project, None, "the embedded database was stopped"))
    assert told is not None
    assert told.commands == ("factbook mongo start",)
    assert "journals" in told.reason
    remote = database_trouble(Catalog(project, None, "MongoDB at db.example.org: refused"))
    assert remote is not None
    assert remote.commands == ()
