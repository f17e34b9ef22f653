"""Files that we wrote, read through HDF5 itself: twice as fast as by a library that reads any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import h5netcdf.attrs
import h5py
import xarray as xr
from xarray.backends import BackendArray, CachingFileManager
from xarray.backends.common import AbstractDataStore
from xarray.backends.locks import HDF5_LOCK
from xarray.coding.strings import create_vlen_dtype
from xarray.core.indexing import IndexingSupport, LazilyIndexedArray, explicit_indexing_adapter

from registry.store.damage import reading

CONTENT = "content"
"""The attribute of a file that we wrote."""
_HIDDEN = frozenset(h5netcdf.attrs._HIDDEN_ATTRS)
_NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"


class OwnFile(AbstractDataStore):
    """A file that we wrote, as xarray opens it.

    Parameters
    ----------
    path : str
        The file.
    """

    def __init__(self, path: str):
        self.source = path
        self.manager = CachingFileManager(h5py.File, path, mode="r")

    def is_plain(self) -> bool:
        """Whether it is as we write: no groups, nothing unlimited, numbers and strings alone."""
        with HDF5_LOCK:
            file = self.manager.acquire(needs_lock=False)
            self._variables = _variables(file) if CONTENT in file.attrs else None
            self._attributes = attributes(file)
        return self._variables is not None

    def load(self) -> tuple[dict[str, xr.Variable], dict[str, Any]]:
        """Return variables, which are read when they are indexed, and attributes."""
        found, self._variables = self._variables or [], None
        return {one.name: one.opened(self) for one in found}, self._attributes

    def get_encoding(self) -> dict[str, Any]:
        """Return what xarray is told of the whole file."""
        return {"unlimited_dims": set()}

    def close(self) -> None:
        """Close it."""
        self.manager.close()


@dataclass(frozen=True)
class _Stored:
    """What a file says of a variable."""

    name: str
    dims: tuple[str, ...]
    dataset: h5py.Dataset
    is_text: bool

    def opened(self, file: OwnFile) -> xr.Variable:
        array = _Array(file, self)
        encoding = {
            **_encoding(self.dataset, self.dims, self.is_text),
            "source": file.source,
            "original_shape": array.shape,
        }
        given = attributes(self.dataset)
        return xr.Variable(self.dims, LazilyIndexedArray(array), given, encoding, fastpath=True)


class _Array(BackendArray):
    """An array on the disk; a StoreError tells that it is damaged."""

    def __init__(self, file: OwnFile, stored: _Stored):
        self.file, self.name, self.is_text = file, stored.name, stored.is_text
        self.shape = stored.dataset.shape
        self.dtype = create_vlen_dtype(str) if stored.is_text else stored.dataset.dtype
        self._dataset: h5py.Dataset | None = stored.dataset

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_dataset": None}  # which is of this process

    def __getitem__(self, key: Any) -> Any:
        return explicit_indexing_adapter(key, self.shape, IndexingSupport.OUTER_1VECTOR, self._read)

    def _read(self, key: Any) -> Any:
        with reading(self.file.source), HDF5_LOCK:
            if not self._dataset:  # its file was closed, since many others are open
                self._dataset = self.file.manager.acquire(needs_lock=False)[self.name]
            return (self._dataset.asstr() if self.is_text else self._dataset)[key]


def attributes(owner: Any) -> dict[str, Any]:
    """Return the attributes of an HDF5 file or variable, without those of netCDF's own."""
    given = owner.attrs
    others = h5netcdf.attrs.Attributes(given, None, h5py, "NETCDF4")
    found = {}
    for key in given:
        if key not in _HIDDEN:
            value = given[key]
            found[key] = value if isinstance(value, str) else others[key]
    return found


def _variables(file: h5py.File) -> list[_Stored] | None:
    """Return what a file says of its variables, in its order; None if it is not as we write."""
    found: list[_Stored] = []
    sizes: dict[str, int] = {}
    for name in file:
        stored = file[name]
        if not isinstance(stored, h5py.Dataset) or stored.shape is None:
            return None
        if stored.maxshape != stored.shape:
            return None
        if h5py.h5ds.is_scale(stored.id):
            if len(stored.shape) != 1:
                return None
            sizes[name] = stored.shape[0]
            if _NO_VARIABLE in h5py.h5ds.get_scale_name(stored.id):
                continue
            dims: tuple[str, ...] | None = (name,)
        else:
            dims = _dimensions(stored)
        text = h5py.check_string_dtype(stored.dtype)
        is_text = text is not None and text.length is None
        if dims is None or not (is_text or stored.dtype.kind in "iuf"):
            return None
        found.append(_Stored(name, dims, stored, is_text))
    fits = (one.dataset.shape == tuple(sizes.get(name, -1) for name in one.dims) for one in found)
    return found if all(fits) else None


def _dimensions(stored: h5py.Dataset) -> tuple[str, ...] | None:
    if not stored.shape:
        return ()
    scales = stored.attrs.get("DIMENSION_LIST", ())
    if len(scales) != len(stored.shape) or not all(map(len, scales)):
        return None
    names = (h5py.h5r.get_name(found[-1], stored.id) for found in scales)
    return tuple(name.decode().rpartition("/")[2] for name in names)


def _encoding(stored: h5py.Dataset, dims: tuple[str, ...], is_text: bool) -> dict[str, Any]:
    """Return what xarray keeps of how a variable is stored."""
    chunks = stored.chunks
    encoding: dict[str, Any] = {
        "dtype": str if is_text else stored.dtype,
        "contiguous": chunks is None,
        "chunksizes": chunks,
        **dict.fromkeys(("zlib", "szip", "bzip2", "blosc", "zstd"), False),
        "shuffle": stored.shuffle,
        "fletcher32": stored.fletcher32,
    }
    if chunks:
        encoding["preferred_chunks"] = dict(zip(dims, chunks, strict=True))
    if stored.compression == "gzip":
        encoding |= {"zlib": True, "complevel": stored.compression_opts}
    return encoding
