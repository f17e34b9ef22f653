"""Arrays of any library, brought to NumPy, SciPy-sparse or dask, without importing their libraries.

The one conversion that public functions of `fact` and `evals` go through: NumPy, torch, pandas,
SciPy-sparse, dask, xarray, and nested sequences.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import sparse

from registry.suggest import RefusalError


class RangeError(RefusalError, ValueError):
    """Numbers outside the range that they must lie in."""


def to_plain(array: Any) -> Any:
    """Return an array as NumPy, SciPy-sparse or dask, whichever it is nearest to, without names.

    A torch tensor comes to the processor, from a graph or another device; bfloat16, which NumPy
    lacks, becomes float32.
    """
    if hasattr(array, "detach"):  # a torch tensor; torch itself is not imported here
        return _from_torch(array)
    if isinstance(array, xr.DataArray):
        return array.data if array.chunks is not None else array.values
    if isinstance(array, (pd.DataFrame, pd.Series)):
        values = array.to_numpy()  # of mixed columns, these are objects
        return array.to_numpy(np.float64) if values.dtype == object and _is_real(array) else values
    if sparse.issparse(array) or hasattr(array, "dask"):
        return array
    return np.asarray(array)


def to_numpy(array: Any) -> np.ndarray:
    """Return an array of any library as a dense one of NumPy."""
    plain = to_plain(array)
    return np.asarray(plain.toarray() if sparse.issparse(plain) else plain)


def as_numbers(names: Any) -> np.ndarray | None:
    """Return names that are numbers, or are written as numbers, as such; None of any others."""
    array = np.asarray(names)
    if array.dtype.kind in "iuf":
        return array
    if array.dtype.kind not in "OSTU":
        return None
    try:
        return array.astype(str).astype(np.float64)
    except ValueError:
        return None


def is_count(names: Any) -> bool:
    """Return whether names only count: 0 to n - 1 or 1 to n, in order, as numbers or as texts.

    Who counts a table that has lost its first row gives each of the others another's name.
    """
    numbers = as_numbers(names)
    return (
        numbers is not None
        and numbers.size > 0
        and any(np.array_equal(numbers, np.arange(numbers.size) + first) for first in (0, 1))
    )


ROUNDING = 1e-5
"""By which sums of probabilities in single precision exceed 1, and no scale does."""


def require_unit_interval(values: np.ndarray, what: str) -> None:
    """Raise unless numbers lie in [0, 1], as labels do: 0, 1, or probabilities.

    Parameters
    ----------
    values : ndarray
        Of any shape.
    what : str
        What to call them in the error.

    Raises
    ------
    RangeError
        With how many do not, and what would bring them there.
    """
    if values.dtype.kind == "b" or not values.size:
        return
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        return
    if not (math.isfinite(low) and math.isfinite(high)):
        n_undefined = int(np.count_nonzero(~np.isfinite(values)))
        raise RangeError(
            f"{n_undefined} of {values.size} {what} are NaN or infinite; expected 0, 1, or "
            "probabilities: leave such inputs out, or label them"
        )
    outside = int(np.count_nonzero((values < 0) | (values > 1)))
    raise RangeError(
        f"{outside} {what} are outside [0, 1], from {_text(low)} to {_text(high)}; expected 0, 1, "
        f"or probabilities: {_remedy(values, low, high)}"
    )


def _text(end: float) -> str:
    """Return the end of a range, with as many digits as show on which side of 0 and 1 it lies."""
    short = f"{end:.6g}"
    return short if (0 <= float(short) <= 1) == (0 <= end <= 1) else repr(end)


def _remedy(values: np.ndarray, low: float, high: float) -> str:
    """Return what brings numbers into [0, 1], by what they look like."""
    if low >= -ROUNDING and high <= 1 + ROUNDING:
        return "if that is rounding, pass np.clip(x, 0, 1)"
    if low == -1 and high <= 1 and np.isin(values, (-1, 0, 1)).all():
        return "of -1 and 1, pass x > 0"
    if low >= 0 and high in (100, 255) and not (values % 1).any():
        return f"of 0 to {high:.0f}, pass x / {high:.0f}"
    if low >= 0 and not (values % 1).any():
        codes = np.unique(values)
        pair = f"of {low:g} and {high:g}, pass x == {high:g}"
        return pair if codes.size == 2 else f"of counts, pass x > {low:g}"
    return "of logits, pass 1 / (1 + exp(-x)); of counts, x > 0"


def _is_real(array: pd.DataFrame | pd.Series) -> bool:
    kinds = array.dtypes if isinstance(array, pd.DataFrame) else [array.dtype]
    return all(pd.api.types.is_numeric_dtype(kind) for kind in kinds)


def _from_torch(tensor: Any) -> np.ndarray | sparse.coo_array:
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    if str(tensor.layout) == "torch.strided":
        return np.asarray(tensor.resolve_conj().resolve_neg().numpy())
    tensor = tensor.to_sparse_coo().coalesce()
    stored = tensor.values().numpy(), tensor.indices().numpy()
    return sparse.coo_array(stored, shape=tuple(tensor.shape))
