"""Files of the right size with flipped bytes: pages say that they are damaged, and no more."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from click.testing import CliRunner

from dashboards.views.runs.datasets import dataset_frame, open_made, read_small
from dashboards.views.runs.settings import cells_of
from dashboards.views.sections import RESULTS
from fact.networks.files import WEIGHTS_FILE
from registry.catalog.lineage import lineage_of
from registry.cli import main
from registry.plan.project import Project, open_project
from registry.store.datasets import DATASET
from registry.store.durable import StoreError
from registry.store.manifest import MANIFEST
from registry.store.shards import SUMMARY
from tests.dashboards import (
    test_decisions_page,
    test_pages,
    test_result_pages,
)
from tests.dashboards.fabricate_results import UNMADE
from tests.dashboards.test_pages import Open, told

open_page = test_pages.open_page
open_result = test_result_pages.open_page
open_decisions = test_decisions_page.open_page


@pytest.fixture
def results_copy(results: Path, tmp_path: Path) -> Project:
    """A copy of a project with a dataset of every kind of result."""
    return open_project(shutil.copytree(results, tmp_path / "copy", symlinks=True))


def flip(path: Path, seed: int) -> None:
    """Change some bytes of a file, which keeps its size."""
    draw = np.random.default_rng(seed)
    content = np.frombuffer(path.read_bytes(), np.uint8).copy()
    places = draw.choice(len(content), draw.integers(1, 40), replace=False)
    content[places] ^= draw.integers(1, 256, len(places), dtype=np.uint8)
    path.write_bytes(content.tobytes())


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.slow
def test_flipped_bytes_are_told_before_anything_is_made_of_them(mine: Project, seed: int) -> None:
    cell = mine.cell("toy-concepts")
    folder = mine.current(cell.name)
    flip(folder / DATASET, seed)
    for read in (open_made, read_small):
        with pytest.raises(StoreError, match=r"damaged: dataset\.nc has another checksum"):
            read(folder, cell.stage)
    with pytest.raises(StoreError, match="damaged"):
        dataset_frame(folder)


BESIDE = ["gallery", "names", "consistency", "localisation", "matching", "decisions"]


@pytest.mark.parametrize("schemas", [["concepts"], BESIDE], ids=["concepts", "all-beside"])
def test_the_page_of_concepts_tells(open_page: Open, mine: Project, schemas: list[str]) -> None:
    for schema in schemas:
        flip(mine.current(f"toy-{schema}") / DATASET, seed=len(schema))
    for section in ("Concepts", "The whole model"):
        page = open_page(mine, "concepts", {"concept": "0", "section": section})
        assert not page.exception
        words = told(page)
        assert words.count("The dataset is damaged") >= len(schemas), section
        for schema in schemas:
            assert f"factbook run --verify toy-{schema}" in words, section


@pytest.mark.parametrize("schema", [row.schema for row in RESULTS])
def test_pages_of_results_tell(open_result: Open, results_copy: Project, schema: str) -> None:
    cells = [cell for cell in cells_of(lineage_of(results_copy), schema) if cell != UNMADE]
    assert cells
    for cell in cells:
        folder = results_copy.current(cell)
        flip(folder / DATASET if (folder / DATASET).exists() else folder / SUMMARY, seed=7)
    page = open_result(results_copy, schema)
    assert not page.exception
    assert "The dataset is damaged" in told(page)
    assert "factbook run --verify " in told(page)


# -- decisions: datasets, and the weights behind them -------------------------------------------


def flip_one(folder: Path, name: str) -> None:
    """Change a bit in the numbers of a file, so that it can still be read."""
    content = bytearray((folder / name).read_bytes())
    content[len(content) * 3 // 4] ^= 0x40
    (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("cell", "name"), [("classifier", WEIGHTS_FILE), ("sae", DATASET)], ids=["network", "sae"]
)
def test_nothing_is_explained_by_damaged_weights(
    open_decisions: Open, explained_copy: Project, cell: str, name: str
) -> None:
    flip_one(explained_copy.current(cell), name)
    page = open_decisions(explained_copy.root)
    assert not page.exception
    assert "Cannot explain new images" in told(page)
    assert "has another checksum than when it was written" in told(page).replace("\\", "")
    assert f"factbook run --verify {cell}" in [code.value for code in page.code]
    assert "decisions explained in advance" in told(page)


@pytest.mark.parametrize("name", [DATASET, MANIFEST])
def test_the_page_of_decisions_tells_and_its_advice_mends(
    open_decisions: Open, explained_copy: Project, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    cells = ("gallery", "names", "decisions")
    for folder in map(explained_copy.current, cells):
        if name == MANIFEST:
            (folder / name).write_bytes(b"{")
        else:
            flip_one(folder, name)
    page = open_decisions(explained_copy.root)
    assert not page.exception
    assert told(page).count("damaged") >= len(cells)
    assert "Why " in told(page), "the network still answers"
    advised = [code.value for code in page.code if code.value.startswith("factbook run")]
    assert len(advised) == len(cells)
    assert {shlex.split(command)[-1] for command in advised} == set(cells)
    monkeypatch.chdir(explained_copy.root)
    for command in advised:
        outcome = CliRunner().invoke(main, [*shlex.split(command)[1:], "--here"])
        assert outcome.exit_code == 0, outcome.output
    st.cache_resource.clear()
    assert "damaged" not in told(open_decisions(explained_copy.root))


def test_what_is_too_large_to_be_proven_is_told_when_it_is_read(
    open_page: Open, mine: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.store.datasets.PROVEN_BYTES", 0)
    monkeypatch.setattr(
        "xarray.backends.h5netcdf_.H5NetCDFArrayWrapper._getitem",
        lambda *_: 1 / 0,
    )
    page = open_page(mine, "concepts", {"concept": "0"})
    assert not page.exception
    assert "The dataset is damaged" in told(page)
