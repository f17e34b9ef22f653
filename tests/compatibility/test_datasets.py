"""Datasets and tasks that commit cdf6b02 left behind are found, whole, and never made again."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import fact
import registry
from registry.catalog.access import Catalog
from tests.compatibility.values import described

CELLS = sorted(json.loads((Path(__file__).parent / "values.json").read_text("utf-8")))
UNFINISHED = {"failing": "failed", "interrupted": "interrupted", "killed": "died"}
RENAMED: dict[str, str] = {}
"""Variables and dimensions that are called otherwise by now where datasets are read: old to new."""


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.slow
def test_a_dataset_holds_what_it_held(
    catalog: Catalog, values: dict[str, dict[str, Any]], cell: str
) -> None:
    expected = {
        RENAMED.get(name, name): told | {"dims": [RENAMED.get(dim, dim) for dim in told["dims"]]}
        for name, told in values[cell].items()
    }
    with catalog.dataset(cell) as dataset:
        assert described(dataset) == expected


@pytest.mark.parametrize("cell", ["features", "concepts", "sae", "labels", "sweep[k=4]"])
def test_xarray_alone_opens_what_is_stored(
    catalog: Catalog, values: dict[str, dict[str, Any]], cell: str
) -> None:
    with xr.open_dataset(catalog.path(cell)) as dataset:
        assert set(map(str, dataset.variables)) == {RENAMED.get(n, n) for n in values[cell]}
        assert dataset.attrs["experiment"] == cell


def test_some_datasets_have_several_parts_and_some_are_one_file(catalog: Catalog) -> None:
    parts = {
        cell: len(list(catalog.path(cell).glob("part-*.nc")))
        for cell in ("features", "concepts", "logits", "sae", "labels")
    }
    assert min(parts["features"], parts["concepts"], parts["logits"]) >= 3
    assert parts["sae"] == parts["labels"] == 0


TABLES = ("names", "identification", "consistency", "sweep-matching[k=2]", "localisation")
SHOWN = {  # texts, and figures
    **dict.fromkeys((*TABLES, "intervention"), (1, 0)),
    "sanity": (1, 1),
    "gallery": (0, 4),
    "decisions": (0, 2),
}


@pytest.mark.parametrize("cell", SHOWN)
@pytest.mark.slow
def test_a_dataset_shows_itself_in_jupyter(catalog: Catalog, cell: str) -> None:
    with catalog.dataset(cell) as dataset:
        html = dataset.factbook._repr_html_()
        assert (html.count("<pre>"), html.count("<img src=")) == SHOWN[cell]
        for table in dataset.factbook.tables():
            assert len(table)


@pytest.mark.parametrize("cell", ["sanity", "gallery"])
def test_without_matplotlib_a_dataset_shows_its_texts_and_what_is_missing(
    catalog: Catalog, cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with catalog.dataset(cell) as dataset:
        html = dataset.factbook._repr_html_()
        assert html.count("<pre>") == SHOWN[cell][0] + 1
        assert "pip install &#x27;factbook[figures]&#x27;" in html


def test_what_has_no_tables_shows_itself_as_xarray_does(catalog: Catalog) -> None:
    with catalog.dataset("labels") as dataset:
        assert "xarray.Dataset" in dataset.factbook._repr_html_()
        assert repr(dataset.factbook) == repr(dataset)


@pytest.mark.slow
def test_nothing_is_due_and_every_checksum_holds(catalog: Catalog) -> None:
    plan = catalog.plan(["whole"], verify=True)
    assert {task.name: task.reason for task in plan.due} == {}
    states = {task.name: str(task.state.status) for task in (*plan.tasks, *plan.settled)}
    assert states == dict.fromkeys(CELLS, "complete")


def test_what_did_not_end_well_is_known_to_be_due(catalog: Catalog) -> None:
    plan = catalog.plan(list(UNFINISHED))
    states = {task.name: str(task.state.status) for task in plan.due}
    assert states == UNFINISHED


@pytest.mark.slow
def test_a_byte_that_changed_is_noticed(project_copy: Path, factbook: Callable[..., str]) -> None:
    with registry.open_catalog(project_copy, url="off") as catalog:
        (file,) = catalog.path("labels").glob("*.nc")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    lines = factbook(project_copy, "status", "--verify", "whole").splitlines()
    (line,) = [line for line in lines if line.split()[0] == "labels"]
    assert "damaged" in line


@pytest.mark.slow
def test_the_command_line_finds_everything_complete(
    project_copy: Path, factbook: Callable[..., str]
) -> None:
    shown = factbook(project_copy, "status", "--verify", "whole").splitlines()
    rows = {line.split()[0]: line.split()[1] for line in shown if line.split()[:1] != ["task"]}
    assert {cell: rows[cell] for cell in CELLS} == dict.fromkeys(CELLS, "complete")
    before = sorted(project_copy.rglob("*"))
    assert "nothing to run" in factbook(project_copy, "run", "whole")
    left = set(project_copy.rglob("*")) - set(before)
    assert not [path for path in left if path.parent.name == "journal" or path.suffix == ".nc"]


@pytest.mark.slow
def test_the_command_line_says_where_a_dataset_is(
    left_behind: Path, catalog: Catalog, factbook: Callable[..., str]
) -> None:
    for cell in ("sweep[k=2]", "concepts"):
        path = Path(factbook(left_behind, "path", cell).strip())
        assert path == catalog.path(cell)
        assert path.resolve().is_relative_to(left_behind.resolve())


def test_both_datasets_of_a_task_that_ran_twice_are_there(catalog: Catalog) -> None:
    runs = [run for run in catalog.runs(experiment="labels") if not run.overrides]
    assert len(runs) == 2
    newest, first = (catalog.path(run.uid) for run in runs)
    assert newest != first
    assert catalog.path("labels").resolve() == newest.resolve()
    with registry.open_dataset(newest) as one, registry.open_dataset(first) as other:
        xr.testing.assert_equal(one, other)


@pytest.mark.slow
def test_networks_and_concepts_that_were_stored_say_today_what_they_said(
    catalog: Catalog, left_behind: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(left_behind)
    concepts = catalog.input("concepts")
    path = concepts.origin("network").path
    assert path is not None
    network = fact.load_network(path)
    with catalog.dataset("sae") as trained:
        sae = fact.TopKSAE.from_dataset(trained.load())
    with catalog.dataset("concepts") as stored, catalog.dataset("logits") as neurons:
        stored, ids = stored.load(), stored["image"].values[:20].tolist()
        probability = neurons["activation"].sel(image=ids).values
    pixels = concepts.origin("images").load().read(ids)
    with torch.no_grad():
        logits = network.module(network.encode(pixels))
    np.testing.assert_allclose(torch.sigmoid(logits), probability, rtol=1e-3, atol=1e-5)
    traced = fact.trace_concepts(network, "features.1", sae, pixels)
    targets = stored["target"].values[:20]
    expected = {
        "presence": stored["presence"].values[:20],
        "contribution": stored["contribution"].values[:20],
        "logit": stored["logit"].values[np.arange(20), targets],
    }
    np.testing.assert_array_equal(traced["target"], targets)
    for name, array in expected.items():
        np.testing.assert_allclose(traced[name], array, rtol=1e-3, atol=1e-4, err_msg=name)
        assert abs(array).max() > 0.1


def test_images_and_tables_from_outside_are_what_they_were(
    catalog: Catalog, left_behind: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(left_behind)
    table = catalog.input("imported").origin("arrays").load()
    with catalog.dataset("imported") as stored:
        np.testing.assert_array_equal(table.rows(slice(None)), stored["activation"].values)
        assert list(table.columns) == stored["name"].values.tolist()
