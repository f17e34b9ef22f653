"""A project that commit cdf6b02 left behind, unpacked elsewhere than where it was made."""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bson.json_util
import pytest

import registry
from registry.catalog.access import Catalog

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def unpacked(folder: Path) -> Path:
    """Unpack the project into a folder, and return its root."""
    with tarfile.open(HERE / "suite.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "suite"


@pytest.fixture(scope="session")
def left_behind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, to be read only."""
    return unpacked(tmp_path_factory.mktemp("left-behind"))


@pytest.fixture
def project_copy(tmp_path: Path) -> Path:
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
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        own = {"FACTBOOK_MONGO": mongo, "PYTHONPATH": path, "COLUMNS": "200"}
        done = subprocess.run(
            [sys.executable, "-m", "registry.cli", *arguments],
            cwd=project,
            env={**os.environ, **own},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return call
