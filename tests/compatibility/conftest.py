"""A project that commit cdf6b02 left behind, unpacked elsewhere than where it was made."""

from __future__ import annotations

import json
import lzma
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bson.json_util
import pytest
from click.testing import CliRunner

import registry
from registry.catalog.access import Catalog
from registry.cli import main
from registry.mongo.database import URL_VARIABLE
from tests.conftest import MakeOnce

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def unpack(folder: Path) -> None:
    """Unpack the project into a folder."""
    with tarfile.open(HERE / "suite.tar.xz") as archive:
        archive.extractall(folder, filter="fully_trusted")


@pytest.fixture(scope="session")
def unpacked(make_once: MakeOnce) -> Callable[[Path], Path]:
    """Copies the project into a folder, and returns its root."""
    suite = make_once("suite", unpack) / "suite"
    return lambda folder: Path(shutil.copytree(suite, folder / "suite", symlinks=True))


@pytest.fixture(scope="session")
def left_behind(tmp_path_factory: pytest.TempPathFactory, unpacked: Callable[[Path], Path]) -> Path:
    """The project, to be read only."""
    return unpacked(tmp_path_factory.mktemp("left-behind"))


@pytest.fixture
def project_copy(tmp_path: Path, unpacked: Callable[[Path], Path]) -> Path:
    """The project, for one test that may change it."""
    return unpacked(tmp_path)


@pytest.fixture(scope="session")
def records() -> dict[str, list[dict[str, Any]]]:
    """The documents of its database, by collection."""
    text = lzma.decompress((HERE / "records.json.xz").read_bytes()).decode()
    options = bson.json_util.CANONICAL_JSON_OPTIONS.with_options(tz_aware=True)
    found: dict[str, list[dict[str, Any]]] = bson.json_util.loads(text, json_options=options)
    return found


@pytest.fixture(scope="session")
def values() -> dict[str, dict[str, Any]]:
    """What each current dataset held, by cell and variable."""
    found: dict[str, dict[str, Any]] = json.loads((HERE / "values.json").read_text("utf-8"))
    return found


@pytest.fixture(scope="session")
def catalog(left_behind: Path) -> Iterator[Catalog]:
    """The catalog of its datasets and journals, without a database."""
    with registry.open_catalog(left_behind, url="off") as catalog:
        yield catalog


@pytest.fixture(scope="session")
def factbook() -> Callable[..., str]:
    """What the command ``factbook`` prints in a project."""

    def call(project: Path, *arguments: str, mongo: str = "off") -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(URL_VARIABLE, mongo)
            patch.chdir(project)
            done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    return call
