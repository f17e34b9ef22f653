"""Bytes that are flipped in a file are told as damage, whenever they are met."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from registry.store.durable import StoreError
from registry.store.netcdf import read_file, reading, write_file
from registry.store.schema import SchemaError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with one compressed block of numbers."""
    path = tmp_path / "a.nc"
    numbers = np.arange(6000.0).reshape(60, 100)
    write_file(xr.Dataset({"number": (("x", "y"), numbers), "text": ("x", ["a b"] * 60)}), path)
    return path


def damage_block(path: Path) -> None:
    """Change bytes within the block, which the file's own structure says nothing of."""
    with h5py.File(path, "r") as file:
        block = file["number"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    middle = block.byte_offset + block.size // 2
    content[middle : middle + 40] = b"x" * 40
    path.write_bytes(content)


def test_a_block_that_is_damaged_is_told_when_it_is_read(file: Path) -> None:
    damage_block(file)
    with read_file(file) as read:
        assert read["text"].values[3] == "a b"
        with pytest.raises(StoreError, match=r"a\.nc is damaged and cannot be read"):
            read["number"].isel(x=3).load()
        with pytest.raises(StoreError, match=r"a\.nc is damaged and cannot be read"):
            _ = read["number"].values


def test_by_dask_it_is_told_too(file: Path) -> None:
    damage_block(file)
    with read_file(file, chunks={}) as read, pytest.raises(StoreError, match="is damaged"):
        read["number"].compute()


@pytest.mark.parametrize("error", [RuntimeError("Link iteration failed"), KeyError("x")])
def test_whatever_opening_raises_is_told(
    file: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("h5netcdf.File", fail)
    with pytest.raises(StoreError, match="is damaged and cannot be read"):
        read_file(file)


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyError("x"), MemoryError(), TypeError()])
def test_every_error_of_reading_becomes_one(error: Exception) -> None:
    with pytest.raises(StoreError, match=r"^file is damaged"), reading("file"):
        raise error


@pytest.mark.parametrize("error", [SchemaError("x", []), StoreError("y")])
def test_what_is_told_already_stays(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, reading("file"):
        raise error
    assert caught.value is error
