"""Files of the right size with flipped bytes: pages say that they are damaged, and no more."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dashboards.views.datasets import open_made, read_small
from dashboards.views.preview import dataset_frame
from registry.project import Project, open_project
from registry.store import DATASET, StoreError
from tests.dashboards import fabricate_concepts
from tests.dashboards.test_pages import Open, open_page, told

__all__ = ["open_page"]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with concepts and all that can stand beside them; to be read only."""
    project = fabricate_concepts.declare(tmp_path_factory.mktemp("judged") / "project")
    fabricate_concepts.live_in(project)
    return project.root


@pytest.fixture
def mine(judged: Path, tmp_path: Path) -> Project:
    """A copy, to be changed at will."""
    return open_project(shutil.copytree(judged, tmp_path / "copy", symlinks=True))


def flip(path: Path, seed: int) -> None:
    """Change some bytes of a file, which keeps its size."""
    draw = np.random.default_rng(seed)
    content = np.frombuffer(path.read_bytes(), np.uint8).copy()
    places = draw.choice(len(content), draw.integers(1, 40), replace=False)
    content[places] ^= draw.integers(1, 256, len(places), dtype=np.uint8)
    path.write_bytes(content.tobytes())


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bytes_are_told_before_anything_is_made_of_them(mine: Project, seed: int) -> None:
    cell = mine.cell("toy-concepts")
    folder = mine.current(cell.name)
    flip(folder / DATASET, seed)
    for read in (open_made, read_small):
        with pytest.raises(StoreError, match=r"damaged: dataset\.nc has another checksum"):
            read(folder, cell.stage)
    with pytest.raises(StoreError, match="damaged"):
        dataset_frame(folder)


SCHEMAS = ["concepts", "gallery", "names", "consistency", "localisation", "matching", "decisions"]


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("section", ["Concepts", "The whole model"])
def test_the_page_of_concepts_tells(
    open_page: Open, mine: Project, schema: str, section: str
) -> None:
    flip(mine.current(f"toy-{schema}") / DATASET, seed=len(schema))
    page = open_page(mine, "concepts", {"concept": "0", "section": section})
    assert not page.exception
    assert "The dataset is damaged" in told(page)
    assert f"factbook run toy-{schema}" in told(page)


def test_what_is_too_large_to_be_proven_is_told_when_it_is_read(
    open_page: Open, mine: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboards.views.datasets.PROVEN_BYTES", 0)
    monkeypatch.setattr(
        "xarray.backends.h5netcdf_.H5NetCDFArrayWrapper._getitem",
        lambda *_: 1 / 0,
    )
    page = open_page(mine, "concepts", {"concept": "0"})
    assert not page.exception
    assert "The dataset is damaged" in told(page)
