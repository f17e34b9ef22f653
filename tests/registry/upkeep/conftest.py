"""A project whose runs lie in journals alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.catalog.access import Catalog, open_catalog
from registry.execute.schedule import run_plan
from registry.plan.project import Project, open_project


def run(root: Path, *targets: str, force: bool = False) -> dict[str, str]:
    """Run what is due; return the identifier of each run by its cell."""
    project = open_project(root)
    plan = project.plan(targets, force=force)
    outcomes = run_plan(project, plan, runner="here", journal_only=True)
    assert all(outcome.is_good for outcome in outcomes), outcomes
    return {outcome.name: str(outcome.uid) for outcome in outcomes}


def datasets(project: Project) -> set[str]:
    """Return the runs whose datasets are there."""
    return {
        path.parent.name
        for path in project.store.root.glob("*/*/*/manifest.json")
        if not path.parent.is_symlink()
    }


@pytest.fixture
def catalog(fresh: Path) -> Iterator[Catalog]:
    """The catalog of a fresh project, by its journals."""
    with open_catalog(fresh, "off") as found:
        yield found
