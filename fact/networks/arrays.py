"""Arrays of any library: what public functions take, and how it becomes NumPy or torch.

NumPy, torch, pandas, SciPy-sparse, dask and xarray are taken alike. Where a DataArray or an index
of pandas names images, the names are kept, and labels are joined to images by them; a default
index counts as no name, and plain arrays are joined by position.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import EllipsisType
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from registry.arrays import to_numpy
from registry.suggest import nearest


class SparseArray(Protocol):
    """A sparse matrix of SciPy, or what is made dense like one."""

    def toarray(self) -> NDArray[Any]:
        """Return the dense array."""


AnyArray = ArrayLike | Tensor | xr.DataArray | SparseArray
"""NumPy, torch, pandas, SciPy-sparse, dask or xarray; nested sequences of numbers too."""


Dims = Sequence[str | EllipsisType]
"""Names of dimensions in their order; ``...`` stands for any others, in the order they have."""


def as_numpy(values: AnyArray, dims: Dims = ()) -> NDArray[Any]:
    """Return any array as a NumPy array; a Tensor is detached and brought to the CPU.

    Parameters
    ----------
    values : array
        See `AnyArray`. What is lazy is computed, what is sparse becomes dense.
    dims : sequence of str or ...
        Order in which the dimensions of a DataArray are laid out; as they are where none is given.

    Raises
    ------
    ValueError
        If a DataArray has other dimensions.
    """
    if isinstance(values, xr.DataArray) and dims:
        others = set(values.dims).symmetric_difference(dims) - {...}
        if others if ... not in dims else others - set(values.dims):
            raise ValueError(f"got dimensions {values.dims}; expected {tuple(dims)}")
        values = values.transpose(*dims)
    return to_numpy(values)


def as_tensor(values: AnyArray, dims: Dims = (), like: Tensor | None = None) -> Tensor:
    """Return any array as a Tensor; a dense Tensor itself is returned as it is.

    Parameters
    ----------
    values : array
        See `AnyArray`.
    dims : sequence of str or ...
        Order in which the dimensions of a DataArray are laid out.
    like : Tensor, optional
        Whose device and floating type others than Tensors are brought to.

    Raises
    ------
    ValueError
        If a DataArray has other dimensions.
    """
    if isinstance(values, Tensor):
        return values if values.layout == torch.strided else values.to_dense()
    array = as_numpy(values, dims)
    tensor = torch.as_tensor(array) if array.flags.writeable else torch.tensor(array)
    return tensor if like is None else tensor.to(like)


def as_rgb(picture: AnyArray) -> NDArray[np.uint8]:
    """Return a picture as uint8 (y, x, colour)."""
    flat = isinstance(picture, xr.DataArray) and picture.ndim == 2
    array = as_numpy(picture, ("y", "x") if flat else ("y", "x", "colour"))
    grey = array.ndim == 2
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[2] == 3)):
        raise ValueError(
            f"a picture of shape {array.shape} and type {array.dtype}; expected uint8 (y, x, 3) "
            "or (y, x)"
        )
    if not array.size:
        raise ValueError(f"a picture of shape {array.shape}; expected at least one pixel")
    return np.repeat(array[..., None], 3, axis=2) if grey else array


def image_ids(images: AnyArray) -> NDArray[Any]:
    """Return the ids of images: those of a DataArray, else their numbers, as strings."""
    names = _names(images)
    if names is not None:
        return names
    return np.array([str(number) for number in range(_length(images))], dtype=object)


def take(images: AnyArray, chosen: slice) -> NDArray[Any] | Tensor:
    """Return some images, as :meth:`fact.networks.network.Network.encode` takes them.

    Of lazy images no more than these are computed.
    """
    if isinstance(images, Tensor):
        return images[chosen]
    if isinstance(images, xr.DataArray) and "image" in images.dims:
        return as_numpy(images.isel(image=chosen), ("image", "y", "x", "colour"))
    some: Any = images
    return as_numpy(some[chosen], ("image", "y", "x", "colour"))


def checked_labels(labels: AnyArray, images: AnyArray) -> NDArray[np.int64]:
    """Return the class index of every image, int64 ``(image,)``.

    Labels whose images are named, as by the index of a Series, are joined by name to images with
    names of their own; others by position.

    Raises
    ------
    ValueError
        If they are no indices, not one per image, or of other images; with the nearest name.
    """
    array, count = as_numpy(labels), _length(images)
    if array.shape != (count,) or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"labels of shape {array.shape} and type {array.dtype}; expected {count} class indices"
        )
    own, wanted = _names(labels), _names(images)
    if own is None or wanted is None:
        return array.astype(np.int64)
    index = pd.Index(own)
    if not index.is_unique:
        raise ValueError(f"several labels of image {str(own[index.duplicated()][0])!r}")
    rows = index.get_indexer(wanted)
    if (rows < 0).any():
        name = str(wanted[rows < 0][0])
        raise ValueError(f"no label of image {name!r}{nearest(name, map(str, own))}")
    return np.asarray(array[rows].astype(np.int64))


def slices(count: int, size: int) -> Iterator[slice]:
    """Yield slices of at most ``size`` that cover ``count``; one empty slice where it is 0.

    Raises
    ------
    ValueError
        If ``size`` is below 1.
    """
    if size < 1:
        raise ValueError(f"batch_size {size}; expected at least 1")
    for start in range(0, max(count, 1), size):
        yield slice(start, min(start + size, count))


def _length(values: AnyArray) -> int:
    sized: Any = values
    return int(sized.shape[0]) if hasattr(sized, "shape") else len(sized)


def _names(values: AnyArray) -> NDArray[Any] | None:
    """Return the names along the images, or the only dimension; None where it has none."""
    if isinstance(values, xr.DataArray):
        dim = "image" if "image" in values.dims else values.dims[0]
        return values[dim].to_numpy() if dim in values.coords else None
    index = values.index if isinstance(values, pd.Series | pd.DataFrame) else None
    return None if index is None or isinstance(index, pd.RangeIndex) else index.to_numpy()
