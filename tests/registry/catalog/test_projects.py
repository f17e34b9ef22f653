"""Projects that share a database: each lists its own runs, and one has adopted the nameless."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.catalog.access import open_catalog
from registry.catalog.feed import RunFeed
from registry.declare.declaration import parse_declaration
from registry.declare.faults import DeclarationError
from registry.execute.schedule import run_plan
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


def listed(root: Path) -> set[str]:
    with open_catalog(root) as catalog:
        feed = RunFeed(catalog)
        feed.refresh()
        feed.refresh()
        runs = catalog.runs()
        assert {run.uid for run in feed.runs.values()} == {run.uid for run in runs}
        return {str(run.facts.get("project", "nameless")) for run in runs}


def test_each_project_lists_its_own_runs(
    tmp_path: Path, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, database_url)
    for name in ("one", "two", "old"):
        project(tmp_path / name, name if name != "old" else "")
    old = "/where/it/was"
    nameless = {"info.factbook.project": "factbook/old"}
    database.runs.update_one(nameless, {"$set": {"info.factbook.project": old}})
    assert listed(tmp_path / "one") == {"one", "two", old}, "the first adopts; no other is known"
    assert listed(tmp_path / "two") == {"two"}
    assert listed(tmp_path / "one") == {"one", old}, "adopted once, also when others come"
    assert listed(project(tmp_path / "three", "three", run=False).root) == set()


def test_a_project_is_named_after_its_database_and_folder(tmp_path: Path) -> None:
    declared = parse_declaration('[project]\ndatabase = "lab"', tmp_path / "home" / "a.toml")
    assert declared.name == "lab/home"
    assert parse_declaration('[project]\nname = "mine"').name == "mine"


@pytest.mark.parametrize("name", ['""', '"a b"', '"factbook/x"', "3"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(DeclarationError, match=r"project\.name: expected"):
        parse_declaration(f"[project]\nname = {name}")
