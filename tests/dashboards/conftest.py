"""A fabricated project, and its catalog over the journals alone."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.catalog.access import Catalog, open_catalog
from registry.plan.project import Project, open_project
from tests.conftest import MakeOnce
from tests.dashboards import explained, fabricate, fabricate_concepts, fabricate_results
from tests.dashboards.drawn import pages_alone


@pytest.fixture(scope="session", autouse=True)
def _pages_alone() -> Iterator[None]:
    with pages_alone():
        yield


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project that has declared much, and run nothing."""
    return fabricate.declare(tmp_path / "project")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with runs of every ending, and with all datasets of the page of concepts."""
    project = fabricate.declare(tmp_path_factory.mktemp("dashboards") / "project")
    fabricate.live_in(project)  # some are of this process, and live as long as it does
    return project.root


@pytest.fixture
def lived_in(template: Path, tmp_path: Path) -> Project:
    """A copy of the project that is lived in, to be changed at will."""
    return open_project(shutil.copytree(template, tmp_path / "copy", symlinks=True))


@pytest.fixture
def catalog(template: Path) -> Catalog:
    """The catalog of the project that is lived in, without a database; to be read only."""
    return open_catalog(template, "off")


@pytest.fixture(scope="session")
def judged(make_once: MakeOnce) -> Path:
    """A project with concepts and all that can stand beside them; to be read only."""

    def fill(folder: Path) -> None:
        fabricate_concepts.live_in(fabricate_concepts.declare(folder))

    return make_once("judged", fill)


@pytest.fixture
def mine(judged: Path, tmp_path: Path) -> Project:
    """A copy of it, to be changed at will."""
    return open_project(shutil.copytree(judged, tmp_path / "copy", symlinks=True))


@pytest.fixture(scope="session")
def results(make_once: MakeOnce) -> Path:
    """A project with a dataset of every kind of result; to be read only."""
    return make_once("results", fabricate_results.made)


@pytest.fixture(scope="session")
def explained_template(make_once: MakeOnce) -> Path:
    """A tiny project whose stages really ran; to be read only."""
    return make_once("explained", functools.partial(explained.run_everything, make_once))


@pytest.fixture
def explained_copy(explained_template: Path, tmp_path: Path) -> Project:
    """A copy of it, to be changed at will."""
    return open_project(shutil.copytree(explained_template, tmp_path / "copy", symlinks=True))
