"""A project of the lab that has run once, recorded to MongoDB; and fresh ones without."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.execute.runner import TaskOutcome
from registry.execute.schedule import run_plan
from registry.mongo.database import URL_VARIABLE
from registry.plan.project import Project, open_project
from tests.registry.lab.project import write_project


@dataclass(frozen=True)
class Lab:
    """A project that has run, and where its records are."""

    project: Project
    url: str
    outcomes: dict[str, TaskOutcome]

    @property
    def root(self) -> Path:
        return self.project.root


@pytest.fixture(scope="session")
def run_once(mongo_server: str, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The project, run in this process; tests may add runs, and must not change its outputs."""
    root = write_project(tmp_path_factory.mktemp("lab") / "project")
    address, _, options = mongo_server.partition("?")
    url = f"{address.rstrip('/')}/factbook_lab_{secrets.token_hex(6)}?{options}"
    project = open_project(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(URL_VARIABLE, url)
        patch.chdir(root)
        outcomes = run_plan(project, project.plan(), runner="here")
    return Lab(project, url, {outcome.name: outcome for outcome in outcomes})


@pytest.fixture
def lab(run_once: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The project that has run, as the current folder, with its database in the environment."""
    monkeypatch.setenv(URL_VARIABLE, run_once.url)
    monkeypatch.chdir(run_once.root)
    return run_once


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project where nothing ran, as the current folder, without a database."""
    root = write_project(tmp_path / "project")
    monkeypatch.setenv(URL_VARIABLE, "off")
    monkeypatch.chdir(root)
    return root
