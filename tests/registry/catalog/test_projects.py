"""Projects that share a database: each finds its own runs, and one has adopted the nameless."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from registry.catalog.access import UnknownRunError, open_catalog
from registry.catalog.feed import RunFeed
from registry.catalog.scope import NAMES
from registry.declare.declaration import parse_declaration
from registry.declare.faults import DeclarationError
from registry.execute.schedule import run_plan
from registry.mongo import server
from registry.mongo.database import URL_VARIABLE, Database
from registry.plan.project import Project, open_project
from tests.registry.lab.project import DECLARATION


def project(folder: Path, name: str, run: bool = True) -> Project:
    folder.mkdir(exist_ok=True)
    text = DECLARATION.replace("[project]", f'[project]\nname = "{name}"' if name else "[project]")
    (folder / "experiments.toml").write_text(text)
    found = open_project(folder)
    if run:
        [outcome] = run_plan(found, found.plan(["twice"]), runner="here")
        assert outcome.recorded, outcome
    return found


def listed(root: Path, **how: Any) -> set[str]:
    """Return whose runs are listed; the feed and a look-up by name agree on them."""
    with open_catalog(root, **how) as catalog:
        feed = RunFeed(catalog)
        feed.refresh()
        feed.refresh()
        runs = catalog.runs()
        assert {run.uid for run in feed.runs.values()} == {run.uid for run in runs}
        if runs:
            assert catalog.run("twice").uid == runs[0].uid
        return {run.project or "nameless" for run in runs}


@pytest.fixture
def shared(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database that every project records to."""
    monkeypatch.setenv(URL_VARIABLE, database_url)
    return database_url


def test_each_project_finds_its_own_runs(tmp_path: Path, shared: str, database: Database) -> None:
    roots = {name: project(tmp_path / name, name).root for name in ("one", "two")}
    for name, root in roots.items():
        assert listed(root) == {name}, "also when the other one has never looked"
        assert listed(root, all_projects=True) == {"one", "two"}
    assert listed(project(tmp_path / "three", "three", run=False).root) == set()
    [other] = database.runs.find({"info.factbook.project": "two"})
    uid = other["info"]["factbook"]["uid"]
    with open_catalog(roots["one"]) as catalog:
        for name in (other["_id"], str(other["_id"]), uid):
            with pytest.raises(UnknownRunError, match="is of project 'two'") as refused:
                catalog.run(name)
            assert refused.value.command == f"factbook show {name} --all-projects"
        assert not catalog.runs(where={"info.factbook.project": "two"})
    with open_catalog(roots["one"], all_projects=True) as catalog:
        run = catalog.run(uid)
        assert (run.project, run.id) == ("two", other["_id"])
        assert catalog.path(run).is_relative_to(roots["two"])
        assert len(catalog.runs(where={"project": "two"})) == 1


def test_clones_of_a_project_share_its_runs(tmp_path: Path, shared: str) -> None:
    first, second = (project(tmp_path / folder, "shared").root for folder in ("here", "there"))
    for root in (first, second):
        with open_catalog(root) as catalog:
            found = catalog.runs()
            assert len(found) == 2
            assert {catalog.path(run.uid).parents[3] for run in found} == {first, second}


@pytest.mark.parametrize("name", ["", "declared"])
def test_a_project_that_is_moved_and_named_anew_keeps_its_runs(
    tmp_path: Path, shared: str, name: str
) -> None:
    old = project(tmp_path / "old", name).root
    project(tmp_path / "other", "other")
    moved = tmp_path / "moved" / "new"
    moved.parent.mkdir()
    old.rename(moved)
    expected = {name or "factbook/old"}
    assert listed(moved) == expected
    renamed = project(moved, "renamed", run=False)
    assert listed(renamed.root) == expected
    [outcome] = run_plan(renamed, renamed.plan(["twice"], force=True), runner="here")
    assert outcome.recorded
    assert listed(moved) == expected | {"renamed"}
    assert listed(tmp_path / "other") == {"other"}


def test_what_names_no_project_belongs_to_the_first(
    tmp_path: Path, shared: str, database: Database
) -> None:
    first = project(tmp_path / "first", "").root
    before = project(tmp_path / "before", "before").root
    names = {"info.factbook.project": "before"}
    database.runs.update_one(names, {"$set": {"info.factbook.project": "/where/it/was"}})
    other = {"_id": 9, "experiment": {"name": "sacred"}, "status": "COMPLETED", "config": {}}
    database.runs.insert_one(other)
    for _ in range(2):
        with open_catalog(first) as catalog:
            assert {run.project for run in catalog.runs()} == {
                *("", "/where/it/was", "factbook/first")
            }
            assert catalog.run(9).experiment == "sacred"
        with open_catalog(before) as catalog, pytest.raises(UnknownRunError):
            catalog.run(9)
        first = first.rename(tmp_path / "moved")  # what it has adopted moves along


def test_a_guest_in_the_embedded_database_is_not_listed_by_its_owner(
    own_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = project(own_server, "owner")
    assert listed(owner.root) == {"owner"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(URL_VARIABLE, server.start(owner.root).uri)
        guest = project(tmp_path / "guest", "guest")
        assert listed(guest.root) == {"guest"}
    assert listed(owner.root) == {"owner"}
    assert listed(owner.root, all_projects=True) == {"owner", "guest"}


@pytest.mark.parametrize("damage", ["{", "[]", '{"mine": 3}', ""])
def test_the_names_that_a_folder_had_are_found_again(
    tmp_path: Path, shared: str, damage: str
) -> None:
    old = project(tmp_path / "old", "mine").root
    assert listed(old) == {"mine"}
    (old / ".factbook" / NAMES).write_text(damage)
    (old / ".factbook" / "journal" / ".DS_Store").write_text("stray")
    assert listed(project(old, "yours", run=False).root) == {"mine"}


def test_a_project_is_named_after_its_database_and_folder(tmp_path: Path) -> None:
    declared = parse_declaration('[project]\ndatabase = "lab"', tmp_path / "home" / "a.toml")
    assert declared.name == "lab/home"
    assert parse_declaration('[project]\nname = "mine"').name == "mine"


@pytest.mark.parametrize("name", ['""', '"a b"', '"factbook/x"', "3"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(DeclarationError, match=r"project\.name: expected"):
        parse_declaration(f"[project]\nname = {name}")
