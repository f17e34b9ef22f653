"""One dataset in one netCDF-4 file, written whole or not at all, in bounded memory."""

from __future__ import annotations

import hashlib
import io
import math
import os
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import numpy as np
import xarray as xr
from xarray.backends import BackendArray, CachingFileManager, H5NetCDFStore
from xarray.conventions import encode_dataset_coordinates
from xarray.core.indexing import LazilyIndexedArray

from registry.interrupts import Held, signals_held
from registry.store.digest import (
    ContentDigest,
    VariableDigest,
    blocks,
    is_same_bits,
    value_bytes,
)
from registry.store.durable import StoreError, whole_file_told, write_at
from registry.store.schema import SchemaError, dtype_name, encode_attributes

CHUNK_BYTES = 128 * 2**10
HEADER_BYTES = 64 * 2**10
"""What a file takes beside its numbers: names, texts, the structure of HDF5."""
LEVEL = 1
COMPRESSION = {"compression": "gzip", "compression_opts": LEVEL, "shuffle": True}
LEAST_GAIN = 0.25
"""Fraction of its bytes that a variable must lose by compression to be compressed.

Float32 features lose a seventh, at 20 to 40 MB/s; presences, of which few are not 0, nearly all.
"""
READ_BYTES = 2**20
"""How much of a file is read at once to be hashed."""
TRIED, TRIED_BYTES = 4, 16 * 2**10
"""Pieces of a variable on which the gain is measured, and their size: 3 ms where there is none."""


def write_file(dataset: xr.Dataset, path: Path, by_rows: Collection[str] = ()) -> str:
    """Write a dataset to one netCDF-4 file.

    It is written under a temporary name, read back and compared, synced, and then renamed. Lazy
    variables and dask arrays are written in blocks along their first dimension. What loses a
    quarter of its bytes by it is compressed.

    Parameters
    ----------
    dataset : xr.Dataset
        Numbers, booleans and strings; attributes of any kind that JSON can hold.
    path : Path
        The file; one that is there is replaced, and stays as it is for those who have it open.
    by_rows : collection of str
        Variables that are read by whole rows: in one piece, where they are not compressed.

    Returns
    -------
    str
        The content digest, which also stands in the file's attribute ``content``.

    Raises
    ------
    StoreError
        If the disk is full, or what was read back is not what was written. Nothing is left.
    """
    written = WrittenFile(dataset, path, by_rows)
    written.prove()
    written.publish()
    return written.content


class WrittenFile:
    """A file that is written, and not yet in its place: :func:`write_file` in three steps.

    First it is made, then proven, then published: each in any thread, none twice. After an error of
    a step nothing is left.

    Parameters
    ----------
    dataset, path, by_rows
        As of :func:`write_file`.

    Attributes
    ----------
    dataset : xr.Dataset
        What was written.
    path : Path
        The file.
    content : str
        The content digest.
    sha256 : str
        SHA-256 of the bytes of the file, once it is proven.
    """

    sha256: str

    def __init__(self, dataset: xr.Dataset, path: Path, by_rows: Collection[str] = ()):
        self.dataset, self.path = dataset, path
        with ExitStack() as stack:
            needed = dataset.nbytes + HEADER_BYTES
            self._temporary = stack.enter_context(whole_file_told(path, needed))
            self._digest = _write(dataset, self._temporary, by_rows)
            self._ending = stack.pop_all()
        self.content = self._digest.hexdigest()

    def prove(self) -> None:
        """Read back what was written, and compare.

        Raises
        ------
        StoreError
            If it is something else.
        """
        with self._ending:
            self.sha256 = _compare(self.dataset, self._digest, self._temporary, self.path)
            self._ending = self._ending.pop_all()

    def publish(self) -> None:
        """Wait until it is on the disk, and put it in its place.

        Raises
        ------
        StoreError
            If the disk is full.
        """
        self._ending.close()


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Tell of every error of reading a file that the file is damaged.

    Libraries raise nearly anything on bytes that they do not expect: h5py RuntimeError and
    KeyError, h5netcdf AttributeError and TypeError, NumPy MemoryError.

    Parameters
    ----------
    path : str or Path
        What is read in the block, and nothing else.

    Raises
    ------
    StoreError
        If it cannot be read.
    """
    try:
        yield
    except (StoreError, SchemaError):
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise StoreError(f"{path} is damaged and cannot be read: {reason}") from error


def read_file(path: Path, **options: Any) -> xr.Dataset:
    """Open one netCDF file lazily. Always by h5netcdf: threads crash the netCDF4 library.

    Raises
    ------
    StoreError
        If it cannot be read; later reads of its variables raise it too.
    """
    with reading(path):
        kept = {"phony_dims": "access", "decode_vlen_strings": True}
        manager = CachingFileManager(_File, str(path), mode="r", kwargs=kept)
        return xr.open_dataset(_Store(manager, mode="r"), engine="store", **options)


class _Store(H5NetCDFStore):
    """A file whose variables raise a StoreError, whenever they are read, if they are damaged.

    Texts of two dimensions or more stay on the disk until they are asked for, and are objects
    then; xarray would read all of them as soon as it opens the file.
    """

    def open_store_variable(self, name: str, var: Any) -> xr.Variable:
        variable: xr.Variable = super().open_store_variable(name, var)  # type: ignore[no-untyped-call]
        lazy: Any = variable._data
        data = LazilyIndexedArray(_StoredArray(lazy.array, self._filename))
        encoding = variable.encoding
        if variable.ndim > 1 and encoding.get("dtype") is str:
            encoding = {key: value for key, value in encoding.items() if key != "dtype"}
        return xr.Variable(variable.dims, data, variable.attrs, encoding, fastpath=True)


class _Attributes(h5netcdf.attrs.Attributes):  # type: ignore[misc]
    """Attributes of which each text is looked up once, not three times."""

    def __getitem__(self, key: str) -> Any:
        found = self._h5attrs[key]
        return found if isinstance(found, str) else super().__getitem__(key)


class _Variable(h5netcdf.Variable):  # type: ignore[misc]
    """A variable that is looked up in its file once, not for each of its properties."""

    @cached_property
    def _h5ds(self) -> Any:
        return super()._h5ds

    @cached_property
    def dtype(self) -> Any:
        return super().dtype

    @cached_property
    def shape(self) -> Any:
        return tuple(map(self._size, self.dimensions))

    def _size(self, name: str) -> int:
        dimension = self._parent._all_dimensions[name]
        known: dict[str, int] = self._root.sizes
        if dimension._h5path not in known:
            known[dimension._h5path] = dimension.size
        return known[dimension._h5path]

    @property
    def attrs(self) -> Any:
        given = super().attrs
        return _Attributes(given._h5attrs, given._check_dtype, given._h5py, given._format)

    def _get_padding(self, key: Any) -> Any:
        """Return what is missing of a variable that is shorter than its dimensions."""
        return False if self._h5ds.shape == self.shape else super()._get_padding(key)

    def _lookup_dimensions(self) -> Any:
        """Return the names of the dimensions, without opening them; else as h5netcdf does."""
        scales = self._h5ds.attrs.get("DIMENSION_LIST", ())
        if len(scales) == 0 or not all(map(len, scales)):
            return super()._lookup_dimensions()
        names = (h5py.h5r.get_name(found[-1], self._h5ds.id) for found in scales)
        return tuple(name.decode().rpartition("/")[2] for name in names)


class _Dimension(h5netcdf.dimensions.Dimension):  # type: ignore[misc]
    """A dimension that is looked up in its file once."""

    @cached_property
    def _h5ds(self) -> Any:
        return super()._h5ds

    @cached_property
    def size(self) -> Any:
        return super().size

    @cached_property
    def _maxsize(self) -> Any:
        return super()._maxsize

    @cached_property
    def _dimid(self) -> Any:
        return super()._dimid


class _File(h5netcdf.File):  # type: ignore[misc]
    """A file whose variables, and the sizes of whose dimensions, are looked up once."""

    _variable_cls = _Variable
    _closed = True  # until it is open: a signal may come meanwhile, and nothing is to be closed

    @cached_property
    def sizes(self) -> dict[str, int]:
        return {}

    @cached_property
    def _h5group(self) -> Any:
        return super()._h5group

    def keep_dimensions(self) -> None:
        """Look up each dimension once from now on: all have the variables of their names."""
        for dimension in self.dimensions.values():
            dimension.__class__ = _Dimension


class _StoredArray(BackendArray):
    """An array on the disk, as xarray reads it, with errors of :func:`reading`."""

    def __init__(self, array: Any, path: str):
        self.array, self.path = array, path
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, key: Any) -> Any:
        with reading(self.path):
            return self.array[key]


def _write(dataset: xr.Dataset, path: Path, by_rows: Collection[str]) -> ContentDigest:
    digest = ContentDigest()
    with signals_held() as held, _new_file(path) as (file, raw):
        file.dimensions = {str(name): size for name, size in dataset.sizes.items()}
        variables, attributes = encode_dataset_coordinates(dataset.drop_encoding())
        # Those of dimensions first: a later one is detached from, and attached to, all before it.
        first = [name for name in variables if name in dataset.sizes]
        for place, name in enumerate([*first, *(n for n in variables if n not in dataset.sizes)]):
            if place == len(first):
                file.keep_dimensions()
            running = digest.begin(str(name), variables[name], name in dataset.coords)
            given = str(name), variables[name], name in by_rows
            for block in _write_variable(file, raw, *given, held):
                running.feed(block)
                raw.raise_error()
            digest.end(str(name), running)
        file.attrs.update(encode_attributes(attributes))
        file.attrs["content"] = digest.hexdigest()
    return digest


def _write_variable(
    file: h5netcdf.File,
    raw: _UnfailingFile,
    name: str,
    variable: xr.Variable,
    is_by_rows: bool,
    held: Held,
) -> Iterator[np.ndarray]:
    """Write a variable block by block, and yield each once it is written."""
    rows = chunk_rows(variable.shape, variable.dtype.itemsize)
    # To compute a block may take long, and nothing of HDF5's is under way meanwhile.
    made = held.act_within(blocks(variable, step=rows))
    first = list(islice(made, 1))  # none of what is empty
    stored = _create(file, name, variable, is_by_rows, *(block for _, block in first))
    offset = stored._h5ds.id.get_offset()  # of what lies in one piece alone
    stored.attrs.update(encode_attributes(variable.attrs))
    if dtype_name(variable.dtype) == "bool":
        stored.attrs["dtype"] = "bool"
    for place, block in chain(first, made):
        if offset is not None:  # past HDF5, which would copy it, and call Python for its writes
            raw.write_at(value_bytes(block), offset)
            offset += block.nbytes
            yield block
            continue
        kind = dtype_name(block.dtype)
        raw_block = block.view("int8") if kind == "bool" else block
        stored[place if variable.ndim else ...] = (
            raw_block.astype(object) if kind == "str" else raw_block
        )
        yield block


def _compare(dataset: xr.Dataset, digest: ContentDigest, temporary: Path, path: Path) -> str:
    """Make sure that a file holds a dataset; return the SHA-256 of its bytes."""
    # xarray decodes all texts of a file when it opens it, which takes longer than all the rest.
    texts = [str(n) for n, v in dataset.variables.items() if dtype_name(v.dtype) == "str"]
    try:
        with _File(str(temporary), "r") as file:
            names = [name for name in texts if not _has_text(file, name, digest)]
            dataset = dataset.drop_vars(texts)
            pieces = _pieces(file, dataset)
        with read_file(temporary, cache=False, drop_variables=texts) as written:
            names += _differing(dataset, digest, written, pieces.values())
        given = {offset: value_bytes(dataset[name].values) for offset, name in pieces.items()}
        sha256, others = _hash(temporary, given)
        names += [pieces[offset] for offset in others]
    except (OSError, KeyError, ValueError, StoreError) as error:
        raise StoreError(f"{path} could not be read back; nothing was kept: {error}") from error
    if names:
        listed = ", ".join(map(repr, sorted(set(names))))
        raise StoreError(f"{path} did not read back as written: {listed}; nothing was kept")
    return sha256


def _pieces(file: h5netcdf.File, dataset: xr.Dataset) -> dict[int, str]:
    """Return where in a file the values of variables lie as they do in memory, and whose."""
    found = {}
    for name in map(str, dataset.variables.keys() & file.variables.keys()):
        given, stored = dataset.variables[name], file.variables[name]._h5ds
        offset, dtype = stored.id.get_offset(), given.dtype.newbyteorder("<")
        if offset is not None and given.ndim and given._in_memory and stored.dtype == dtype:
            found[offset] = name
    return found


def _hash(path: Path, expected: Mapping[int, bytes | memoryview]) -> tuple[str, list[int]]:
    """Return the SHA-256 of a file, and at which offsets it holds other bytes than expected."""
    sha256, buffer, others = hashlib.sha256(), memoryview(bytearray(READ_BYTES)), []
    with open(path, "rb", buffering=0) as file:
        for offset, given in [*sorted(expected.items()), (path.stat().st_size, b"")]:
            while size := file.readinto(buffer[: max(0, offset - file.tell())]):
                sha256.update(buffer[:size])
            rest, is_same = np.frombuffer(given, np.uint8), True
            while size := file.readinto(buffer[: len(rest)]):
                sha256.update(buffer[:size])
                is_same &= np.array_equal(np.frombuffer(buffer[:size], np.uint8), rest[:size])
                rest = rest[size:]
            if len(rest) or not is_same:
                others.append(offset)
    return sha256.hexdigest(), others


def _differing(
    dataset: xr.Dataset, digest: ContentDigest, written: xr.Dataset, pieces: Collection[str]
) -> list[str]:
    """Return the names of what is not the same in a file, in values or in form.

    Values that are in memory are compared, of pieces the first row alone; others are not computed
    again, but digested.
    """
    expected, names = digest.rows(), dataset.variables.keys() ^ written.variables.keys()
    for name in dataset.variables.keys() & written.variables.keys():
        read, given, row = written.variables[name], dataset.variables[name], expected[str(name)]
        found = ContentDigest().begin(str(name), read, name in written.coords)
        if given._in_memory:
            some = slice(1 if name in pieces else None)
            given, read = (v[some] if v.ndim else v for v in (given, read))
            is_same = found.row()[:-1] == row[:-1] and _is_same(given, read)
        else:
            for _, block in blocks(read):
                found.feed(block)
            is_same = found.row() == row
        if not is_same:
            names.add(name)
    return list(map(str, names))


def _is_same(given: xr.Variable, read: xr.Variable) -> bool:
    rows = chunk_rows(given.shape, given.dtype.itemsize)
    pairs = zip(blocks(given, rows, most=1), blocks(read, rows, most=1), strict=True)
    return all(is_same_bits(one, other) for (_, one), (_, other) in pairs)


def _has_text(file: h5netcdf.File, name: str, digest: ContentDigest) -> bool:
    """Return whether a file holds the texts that were digested, which are not decoded."""
    stored, row = file.variables[name], digest.rows()[name]
    texts = np.asarray(stored._h5ds[()], dtype=object).ravel().tolist()
    read = VariableDigest(row[0], stored.dimensions, "str", stored.shape)
    read.hash.update(b"\0".join([*texts, b""]))
    return read.row() == row


def _create(
    file: h5netcdf.File,
    name: str,
    variable: xr.Variable,
    is_by_rows: bool,
    first: np.ndarray | None = None,
) -> h5netcdf.Variable:
    kind = dtype_name(variable.dtype)  # booleans are bytes, as xarray writes and reads them
    dtype = h5py.string_dtype() if kind == "str" else "int8" if kind == "bool" else kind
    dims = tuple(map(str, variable.dims))
    if not dims or first is None or kind == "str":
        return file.create_variable(name, dims, dtype)
    filters = COMPRESSION if gain(first) >= LEAST_GAIN else {}
    if is_by_rows and not filters:
        little = np.dtype(dtype).newbyteorder("<")
        return file.create_variable(name, dims, little, dcpl=_in_one_piece())
    chunks = chunk_shape(variable.shape, variable.dtype.itemsize)
    return file.create_variable(name, dims, dtype, chunks=chunks, **filters)


def _in_one_piece() -> h5py.h5p.PropDCID:
    """Return how to store a variable whose place in the file is known before it is written."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return layout


def gain(values: np.ndarray) -> float:
    """Return the fraction of their bytes that numbers lose by :data:`COMPRESSION`, from a sample.

    Parameters
    ----------
    values : ndarray
        Numbers or booleans; of those larger than the sample, pieces at equal distances are tried.
    """
    size = max(1, TRIED_BYTES // values.dtype.itemsize)
    flat = values.reshape(-1)
    last = max(0, flat.size - size)
    starts = sorted({last * number // (TRIED - 1) for number in range(TRIED)})
    pieces = [np.ascontiguousarray(flat[start : start + size]) for start in starts]
    shuffled = [piece.view(np.uint8).reshape(len(piece), -1).T for piece in pieces]
    packed = sum(len(zlib.compress(piece.tobytes(), LEVEL)) for piece in shuffled)
    size = sum(piece.nbytes for piece in pieces)
    return 1 - packed / size


def chunk_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return the shape of the stored chunks, of at most :data:`CHUNK_BYTES`.

    The first two dimensions are cut into equally many pieces, so that a row and a column of a
    matrix cost the same; further ones (of pictures, of maps) only where that is not enough.
    """
    chunk = list(shape)
    while itemsize * math.prod(chunk) > CHUNK_BYTES:
        leading = [axis for axis in range(min(2, len(shape))) if chunk[axis] > 1]
        if leading:
            axis = max(leading, key=lambda axis: chunk[axis] / shape[axis])
        else:
            axis = max(range(len(chunk)), key=chunk.__getitem__)
        chunk[axis] = -(-chunk[axis] // 2)
    return tuple(chunk)


def chunk_rows(shape: tuple[int, ...], itemsize: int) -> int:
    """Return how many rows are stored together, at least 1."""
    return max(1, chunk_shape(shape, itemsize)[0]) if shape else 1


@contextmanager
def _new_file(path: Path) -> Iterator[tuple[h5netcdf.File, _UnfailingFile]]:
    """Open a netCDF file over an :class:`_UnfailingFile`, whose error is raised after the close."""
    raw = _UnfailingFile(path)
    try:
        with _File(raw, "w") as file:
            yield file, raw
    finally:
        raw.close()
    raw.raise_error()


class _UnfailingFile(io.RawIOBase):
    """A file whose writes never fail for those who write: HDF5.

    HDF5 that cannot flush a file on a full disk cannot close it either, and crashes the process
    at its end. So after the first error, writes are kept in memory (a block at most, since the
    error is looked for after each), the file is closed in order, and then the error is raised.
    """

    def __init__(self, path: Path):
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        self._position = 0
        self._end = 0
        self._kept: list[tuple[int, bytes]] = []
        self._error: OSError | None = None

    def raise_error(self) -> None:
        """Raise the first error of a write, if there was one."""
        if self._error is not None:
            raise self._error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end}[whence]
        self._position = base + offset
        return self._position

    def write(self, data: Any) -> int:
        data = memoryview(data).cast("B")
        self.write_at(data, self._position)
        if self._error is not None:
            self._kept.append((self._position, bytes(data)))
        self._position += len(data)
        return len(data)

    def write_at(self, data: bytes | memoryview, offset: int) -> None:
        """Write what HDF5 has made room for, and does not look at before the file is closed."""
        if self._error is None:
            try:
                write_at(self._descriptor, data, offset)
            except OSError as error:
                self._error = error
        self._end = max(self._end, offset + len(data))

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        view = view[: max(0, self._end - self._position)]
        found = os.pread(self._descriptor, len(view), self._position)
        view[: len(found)] = found
        view[len(found) :] = bytes(len(view) - len(found))
        for start, stop, data in self._kept_between(self._position, self._position + len(view)):
            view[start:stop] = data
        self._position += len(view)
        return len(view)

    def _kept_between(self, start: int, stop: int) -> Iterator[tuple[int, int, bytes]]:
        for offset, data in self._kept:
            low, high = max(start, offset), min(stop, offset + len(data))
            if low < high:
                yield low - start, high - start, data[low - offset : high - offset]

    def truncate(self, size: int | None = None) -> int:
        self._end = self._position if size is None else size
        if self._error is None:
            try:
                os.truncate(self._descriptor, self._end)
            except OSError as error:
                self._error = error
        return self._end

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()
