"""Files that we wrote are opened as h5netcdf opens them, and others are left to it."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from registry.store.netcdf import read_file, write_file
from registry.store.ours import OwnFile


def whole() -> xr.Dataset:
    """A dataset of every kind that is stored."""
    rng = np.random.default_rng(0)
    variables: dict[str, object] = {
        f"number_{kind}": (("row", "column"), rng.integers(0, 9, (5, 3)).astype(kind))
        for kind in ("int8", "uint8", "int16", "int64", "uint64", "float32", "float64")
    }
    variables |= {
        "large": (("row", "place"), rng.random((5, 30_000))),
        "is_there": ("row", [True, False, True, True, False]),
        "text": (("row", "column"), np.array([["ä", "", "x" * 300]] * 5, dtype=object)),
        "nothing": ("none", np.zeros(0)),
        "scalar": 1.5,
        "flag": True,
        "word": "why",
        "gaps": ("row", [1.0, np.nan, np.inf, -np.inf, 0.0], {"long_name": "gaps", "units": ""}),
    }
    attributes = {"list": [1, 2], "one": [3], "words": ["a", "b"], "number": 2.5, "text": "ü"}
    return xr.Dataset(
        variables,
        {
            "row": [f"train/{row}" for row in range(5)],
            "column": ("column", [3, 1, 2], {"units": "1"}),
            "beside": ("row", np.arange(5.0)),
            "alone": 7,
        },
        attributes,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_file(whole(), tmp_path / "own.nc")
    return tmp_path / "own.nc"


def by_h5netcdf(file: Path, monkeypatch: pytest.MonkeyPatch) -> xr.Dataset:
    with monkeypatch.context() as patch:
        patch.setattr(OwnFile, "is_plain", lambda _: False)
        return read_file(file)


@pytest.mark.parametrize("without", [[], ["nothing"]], ids=["any", "plain"])
def test_they_are_opened_as_h5netcdf_opens_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: list[str]
) -> None:
    write_file(whole().drop_vars(without), tmp_path / "a.nc")
    assert OwnFile(str(tmp_path / "a.nc")).is_plain() or not without
    with read_file(tmp_path / "a.nc") as own, by_h5netcdf(tmp_path / "a.nc", monkeypatch) as other:
        assert list(own.variables) == list(other.variables)
        assert list(own.attrs.items()) == list(other.attrs.items())
        assert own.encoding == other.encoding
        for name, variable in own.variables.items():
            assert variable.encoding == other[name].encoding, name
            assert variable.dtype == other[name].dtype, name
            assert list(variable.attrs.items()) == list(other[name].attrs.items()), name
        for part in ({}, {"row": [4, 0]}, {"row": 2, "column": slice(None, None, -1)}):
            xr.testing.assert_identical(own.isel(part).load(), other.isel(part).load())


def test_they_are_read_after_others_were_opened_and_in_copies(file: Path) -> None:
    expected = whole()
    with read_file(file, cache=False) as own:
        again, apart = pickle.loads(pickle.dumps(own)), copy.deepcopy(own)
        for lazy in (own, again, apart):
            xr.testing.assert_equal(lazy["large"].load(), expected["large"])
    with read_file(file, cache=False) as own, xr.set_options(file_cache_maxsize=1):
        others = [read_file(file) for _ in range(3)]  # which closes the first
        xr.testing.assert_equal(own["large"].load(), expected["large"])
        for other in others:
            other.close()


@pytest.mark.parametrize("change", ["a group", "no mark", "a longer one", "an enumeration"])
def test_what_is_not_as_we_write_is_left_to_h5netcdf(file: Path, change: str) -> None:
    with h5py.File(file, "r+") as opened:
        if change == "a group":
            opened.create_group("more")
        elif change == "no mark":
            del opened.attrs["content"]
        elif change == "a longer one":
            opened.create_dataset("grows", (2,), "f4", maxshape=(None,), chunks=(2,))
        else:
            opened.create_dataset("flags", data=np.array([True]))
    assert not OwnFile(str(file)).is_plain()
    if change in ("a group", "no mark"):
        with read_file(file) as read:
            xr.testing.assert_equal(read["text"].load(), whole()["text"])
