"""Arrays of any library as labelled ones, with the names that they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import sparse

from registry.arrays import to_plain
from registry.suggest import RefusalError
from registry.wording import counted

SPARSE_CHUNK = 1 << 22  # values of a sparse array that are dense at once, where it is labelled


ROW_COLUMNS = ("image", "input")
"""Columns that name the rows of a table, as in files; dimensions that rows are."""


class AlignmentError(RefusalError, ValueError):
    """Two arrays that are not of the same inputs, or an array of other dimensions."""


def is_plain(array: Any) -> bool:
    """Return whether an array's dimensions have no names, so that its rows are known by index."""
    if not isinstance(array, xr.DataArray):
        return True
    return all(dim == f"dim_{axis}" for axis, dim in enumerate(array.dims))  # xarray's own


def is_default_index(index: pd.Index) -> bool:
    """Return whether an index of pandas is the one that it gives where nothing is named.

    That of a slice, or of reversed rows, counts too, but from elsewhere.
    """
    return isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1


def require_same_rows(activations: Any, labels: Any) -> None:
    """Raise where rows that are to join by position have names, and others on the other side.

    Raises
    ------
    AlignmentError
        If both name equally many rows, and not alike in the same order.
    """
    one, other = _row_names(activations), _row_names(labels)
    if one is None or other is None or len(one) != len(other) or one.equals(other):
        return
    is_named = [not is_default_index(own) for own in (one, other)]
    if all(is_named) or all(pd.api.types.is_numeric_dtype(own.dtype) for own in (one, other)):
        raise AlignmentError(
            f"rows of activations and labels have other names ({one[0]!r} and {other[0]!r} the "
            "first), or another order: evals.score joins them by name; that they are the same "
            "in the same order, .to_numpy() of both says"
        )


def _row_names(array: Any) -> pd.Index | None:
    """Return the names of rows, a default index of pandas too; None where there are none."""
    if isinstance(array, pd.DataFrame | pd.Series):
        return array.index
    if isinstance(array, xr.DataArray) and array.ndim and array.dims[0] in array.indexes:
        return array.indexes[array.dims[0]]
    return None


def name_rows(array: Any, what: str = "a table") -> Any:
    """Return an array whose rows are named by a column, as in files, with these names as its index.

    Parameters
    ----------
    array : array
        Of any library. Of a pandas DataFrame with the default index, a column ``image``, or else
        ``input``, names the rows.
    what : str
        What to call it in errors.

    Raises
    ------
    TypeError
        If other columns of a DataFrame hold no numbers.
    """
    if not isinstance(array, pd.DataFrame):
        return array
    if is_default_index(array.index):
        column = next((name for name in ROW_COLUMNS if name in array.columns), None)
        array = array if column is None else array.set_index(column)
    others = [
        name for name, dtype in array.dtypes.items() if not pd.api.types.is_numeric_dtype(dtype)
    ]
    if others:
        count = counted(len(others), "column holds", "columns hold")
        named = ", ".join(map(repr, others[:3]))
        is_text = pd.api.types.infer_dtype(array[others[0]]) == "string"
        remedy = f"set_index({others[0]!r}) names the rows by it" if is_text else "astype(float)"
        raise TypeError(
            f"{what}: expected booleans or real numbers; {count} others: {named}; {remedy}"
        )
    return array


def to_labelled(array: Any, dims: Sequence[str], what: str) -> xr.DataArray:
    """Return an array with named dimensions; one that has names of dimensions keeps them.

    Parameters
    ----------
    array : array
        Of any library. The index and the columns of a pandas object become coordinates, except
        its default one, from 0 on, which is no name; a column ``image`` or ``input`` of a DataFrame
        with that one names its rows. A SciPy-sparse array becomes a dask array,
        dense in the parts that are being read.
    dims : sequence of str
        The dimensions of a plain array, in order.
    what : str
        What to call it in errors.

    Raises
    ------
    AlignmentError
        If a plain array has another number of dimensions, or rows of several levels.
    """
    if isinstance(array, xr.DataArray) and not is_plain(array):
        return array
    array = name_rows(array, what) if dims[0] in ROW_COLUMNS else array
    plain = to_plain(array)
    if plain.ndim != len(dims):
        raise AlignmentError(f"{what}: expected {tuple(dims)}; got an array of {plain.shape}")
    if sparse.issparse(plain):
        plain = _densify(plain)
    axes = array.axes if isinstance(array, (pd.DataFrame, pd.Series)) else ()
    names = {}
    for dim, index in zip(dims, axes, strict=False):
        if isinstance(index, pd.MultiIndex):
            raise AlignmentError(f"{what}: {dim} is named on {index.nlevels} levels; expected 1")
        if not is_default_index(index):
            names[dim] = index.to_numpy()
    return xr.DataArray(plain, names, tuple(dims))


def to_dataset(
    arrays: xr.Dataset | Mapping[str, Any], dims: Mapping[str, Sequence[str]], what: str
) -> xr.Dataset:
    """Return a dataset, of plain arrays by name where it is none yet.

    Parameters
    ----------
    arrays : xr.Dataset or mapping
        Name to an array of any library.
    dims : mapping
        Name to the dimensions of each; a one-dimensional array that is called as its dimension
        names what lies along it.

    Raises
    ------
    AlignmentError
        If an array is missing, unknown, or has another number of dimensions.
    """
    if isinstance(arrays, xr.Dataset):
        return arrays
    if arrays.keys() != dims.keys():
        raise AlignmentError(f"{what}: expected {list(dims)}; got {list(arrays)}")
    labelled = {
        name: to_labelled(arrays[name], own, f"{what}.{name}") for name, own in dims.items()
    }
    return xr.Dataset({name: array.drop_vars(array.coords) for name, array in labelled.items()})


class _SparseParts:
    """A SciPy-sparse array whose parts are dense when they are taken."""

    def __init__(self, array: Any):
        self._array = sparse.csr_array(array)
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, index: Any) -> np.ndarray:
        part = self._array[index]
        return np.asarray(part.toarray() if sparse.issparse(part) else part)


def _densify(array: Any) -> Any:
    import dask.array  # half a second, for what is sparse alone

    rows = max(1, SPARSE_CHUNK // max(1, array.shape[1]))
    from_array: Any = dask.array.from_array
    return from_array(
        _SparseParts(array), chunks=(rows, -1), name=False, meta=np.empty((0, 0), array.dtype)
    )
