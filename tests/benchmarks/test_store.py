"""What the store costs: writing, opening shards, asking what is there, hashing outside data."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from registry.plan.artifacts import ExperimentStore
from registry.record.states import State
from registry.store.manifest import MANIFEST, write_manifest
from registry.store.netcdf import read_file, write_file
from registry.store.schema import Schema, Variable
from registry.store.shards import ShardWriter, open_parts
from tests.benchmarks.clock import least, seconds
from tests.benchmarks.table import Table

pytestmark = pytest.mark.benchmark

UID = "20261122T013355-1a2b3c4d"


def test_sparse_presences_are_small_and_quick_to_read(tmp_path: Path, table: Table) -> None:
    generator = np.random.default_rng(0)
    presence = np.zeros((2000, 16384), "float32")
    for row in presence:
        row[generator.choice(16384, 328, replace=False)] = generator.random(328)
    dataset = xr.Dataset({"presence": (("image", "concept"), presence)})
    path = tmp_path / "a.nc"
    write = seconds(lambda: write_file(dataset, path))
    with xr.open_dataset(path, engine="h5netcdf", cache=False) as read:
        row, column = least(
            lambda: read["presence"][1000].values,
            lambda: read["presence"][:, 1000].values,
            rounds=3,
        )
    sizes = path.stat().st_size / 1e6, presence.nbytes / 1e6
    table.costs("file of sparse presences", *sizes, 1 / 10, against="dense", unit="MB")
    for name, taken in (("a row", row), ("a column", column)):
        table.costs(f"{name} of sparse presences", taken, write, 1 / 10, against="writing all")


def test_a_file_of_many_variables_is_read_faster_than_by_xarray(
    tmp_path: Path, table: Table
) -> None:
    values = np.zeros((50, 4))
    dataset = xr.Dataset({f"x{index}": (("a", "b"), values) for index in range(40)})
    path = tmp_path / "a.nc"
    write_file(dataset, path)
    sides = least(
        lambda: read_file(path).load().close(),
        lambda: xr.open_dataset(path, engine="h5netcdf").load().close(),
    )
    table.faster("a file of 40 variables read", *sides, 2, against="xarray")


def test_two_hundred_shards_open_faster_than_by_xarray(tmp_path: Path, table: Table) -> None:
    schema = Schema(
        "features",
        1,
        "Features",
        {"feature": Variable(("sample", "channel"), "float32", "feature")},
        {"sample": Variable(("sample",), "int64", "sample")},
        sharded_along="sample",
    )
    writer = ShardWriter(tmp_path, schema)
    values = np.random.default_rng(0).random((400, 64), "float32")
    for index in range(200):
        rows = {"sample": np.arange(400) + 400 * index}
        writer.append(xr.Dataset({"feature": (("sample", "channel"), values)}, coords=rows))
    shards = writer.finish()
    [ours] = least(lambda: open_parts(tmp_path, shards.rows, "sample"), rounds=3)
    theirs = seconds(lambda: xr.open_mfdataset(str(tmp_path / "part-*.nc")).close())
    table.faster("200 shards opened", ours, theirs, 3, against="open_mfdataset")


def test_ten_thousand_tasks_are_looked_up_in_a_second(tmp_path: Path, table: Table) -> None:
    scalars = {f"s{i}": {"value": 0.1, "units": "1", "long_name": "a scalar"} for i in range(12)}
    manifest = {"content": "a" * 64, "config": {f"k{i}": i for i in range(20)}}
    (made := tmp_path / "made").mkdir()
    (made / "dataset.nc").write_text("abcd")
    write_manifest(made, manifest | {"scalars": scalars, "duration": 1.0})
    text = (made / MANIFEST).read_text()
    for index in range(10_000):
        run = tmp_path / "sae" / f"{index:016x}" / UID
        run.mkdir(parents=True)
        (run / MANIFEST).write_text(text)
        (run / "dataset.nc").write_text("abcd")
        (run.parent / "current").symlink_to(UID)
    cell = SimpleNamespace(name="sae", experiment="sae")

    def look() -> None:
        states = ExperimentStore(tmp_path).states()
        found = {states(cell, f"{index:016x}").status for index in range(10_000)}
        assert found == {State.COMPLETE}

    # A bound in seconds: not those of others.
    [taken] = least(look, rounds=3, clock=time.process_time)
    table.within("10,000 complete tasks looked up", taken, 1, "s", note="processor time")
