"""Datasets larger than memory: a folder of parts along one dimension, each whole by itself."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from registry.store.digest import ContentDigest, content_digest
from registry.store.durable import TEMPORARY, Lock, StoreError, clear_temporary, lock, locked
from registry.store.manifest import FileFacts, facts_of
from registry.store.netcdf import WrittenFile, read_file, reading, write_file
from registry.store.schema import Schema, dtype_name
from registry.threads import Pipeline
from registry.wording import counted

_CLAIM = re.compile(rf"\.parts-(\d{{6}})-(\d{{6}}){re.escape(TEMPORARY)}")
SUMMARY = "summary.nc"
UNDER_WAY = 3
"""Parts that are written behind who submits them, at most: they are in memory until then."""
ROW_BYTES = 8 * 2**20
"""Size of the dask chunks in which parts are read, per variable: a compromise of rows and scans."""

_PART = re.compile(r"part-(\d{6})\.nc")


def part_name(index: int) -> str:
    """Return the file name of a part, counted from 0."""
    return f"part-{index:06d}.nc"


@dataclass(frozen=True)
class Shards:
    """A finished collection of parts, to be given a manifest.

    Attributes
    ----------
    folder : Path
        Where the parts and the summary lie.
    schema : Schema
        What they follow together.
    content : str
        Content digest of the whole: the same as if it had been written as one dataset.
    rows : tuple of int
        Size of each part along the sharded dimension.
    sizes : mapping of str to int
        Size of every dimension.
    scalars : mapping
        Scalars of the summary: value, units, long_name.
    files : mapping of str to FileFacts
        What is known of the parts that were written just now, by name.
    """

    folder: Path
    schema: Schema
    content: str
    rows: tuple[int, ...]
    sizes: Mapping[str, int]
    scalars: Mapping[str, Mapping[str, Any]]
    files: Mapping[str, FileFacts] = field(default_factory=dict)


@dataclass(frozen=True)
class _Part:
    """A part on its way to the disk."""

    index: int
    dataset: xr.Dataset
    path: Path
    then: Callable[[xr.Dataset], object]


class PartWritten(BaseException):  # which nobody should catch as an error
    """Ends a stage in a run that writes some parts alone: what it had to write is written."""


class ShardWriter:
    """Writes a dataset part by part; parts that are whole survive a killed process.

    Parts that are submitted are written by threads, behind whoever makes them: one writes, one
    reads back and compares, one waits for the disk and gives the name, one takes the digest. At
    most :data:`UNDER_WAY` parts are held for that. A part counts once it is whole and on the disk.

    One writer writes all parts and finishes. Or several writers, in any processes, write a range
    of parts each, and are closed; then one writer without a range finishes what all have written.
    The digest is the same.

    Parameters
    ----------
    folder : Path
        Where the parts go. Parts that are there already and whole are kept; one that is damaged,
        or follows another version of the schema, is removed.
    schema : Schema
        With a dimension to shard along.
    attributes : callable, mapping or None
        Attributes of every part, or what returns them: where it comes from.
    parts : range, optional
        The parts that this writer writes, while others may write others. By default all, for one
        writer at a time.
    guard : callable, optional
        Called before each part is written; raises where this writer must not write any more.

    Raises
    ------
    SchemaError, StoreError
        If the schema is not sharded, or another writer is at one of the parts; from
        :meth:`append`, if a part does not follow the schema or does not go with the parts before.
    """

    def __init__(
        self,
        folder: Path,
        schema: Schema,
        attributes: Callable[[], Mapping[str, Any]] | Mapping[str, Any] | None = None,
        *,
        parts: range | None = None,
        guard: Callable[[], None] = lambda: None,
    ):
        if schema.sharded_along is None:
            raise StoreError(f"schema {schema.name!r} declares no dimension to shard along")
        self.folder = folder
        self.schema = schema
        self.along: str = schema.sharded_along
        self._attributes = attributes or {}
        self._digest = ContentDigest(self.along)
        self._digested = 0
        self._layout: dict[str, Any] = {}
        self._done: dict[int, int] = {}
        self._files: dict[str, FileFacts] = {}
        self._submitted: set[int] = set()
        steps = self._write, self._prove, self._publish, self._account
        self._behind = Pipeline(steps, UNDER_WAY, "write-parts")
        self._following: int | None = None
        self._guard = guard
        self._range = parts
        self._claim = folder / ""
        self._lock: Lock | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if parts is None:
            _require_unclaimed(folder)
            clear_temporary(folder)
        else:
            if parts.step != 1 or not parts:
                raise StoreError(f"got {parts!r}; expected a range of consecutive parts")
            self._claim = folder / f".parts-{parts.start:06d}-{parts.stop:06d}{TEMPORARY}"
            with locked(folder):  # so that of two writers one looks first
                _require_unclaimed(folder, parts)
                self._lock = lock(self._claim)
            for index in parts:
                clear_temporary(folder, part_name(index))
        self._resume()

    # Used in a block, it has written all that was submitted when the block is left, in any way.

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self.close()

    def close(self) -> None:
        """Let others write the parts of the range; what is submitted is written, errors unsaid."""
        self._behind.close()
        if self._lock is not None and self._lock.is_held:  # in a forked child it is not
            self._claim.unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    def _resume(self) -> None:
        for path in sorted(self.folder.glob("part-*.nc")):
            found = _PART.fullmatch(path.name)
            if found and self._range is not None and int(found[1]) not in self._range:
                continue
            part = self._load_whole(path) if found else None
            if not found or part is None:
                path.unlink()
                continue
            self._count(int(found[1]), part)

    def _load_whole(self, path: Path) -> xr.Dataset | None:
        """Return a part in memory if it is as it was written, and goes with the others."""
        try:
            with read_file(path) as part:
                part.load()
            self.schema.check(part, part=True)
            whole = (
                part.attrs["schema"] == self.schema.name
                and int(part.attrs["schema_version"]) == self.schema.version
                and part.attrs["content"] == content_digest(part)
                and not self._misfits(part)
            )
        except (OSError, KeyError, ValueError, TypeError, RuntimeError):
            return None
        return part if whole else None

    def _count(self, index: int, part: xr.Dataset) -> None:
        self._done[index] = part.sizes[self.along]
        self._layout = self._layout or _layout(part, self.along)
        if index == self._digested:
            self._digest.update(part)
            self._digested += 1

    def indices(self, count: int) -> range:
        """Return the indices, of so many parts, that this writer writes, there or not."""
        return range(count) if self._range is None else self._range

    def end_part(self) -> None:
        """Wait for all parts; end the stage, if this writer writes a range of them alone.

        To be called when all parts are submitted, before what needs all of them.

        Raises
        ------
        PartWritten
            Which the run takes for its end.
        StoreError
            If a part could not be written.
        """
        self.wait()
        if self._range is not None:
            self.close()
            raise PartWritten

    @property
    def done(self) -> tuple[int, ...]:
        """Indices of the parts that are there, sorted."""
        return tuple(sorted(self._done))

    @property
    def next_index(self) -> int:
        """The first index that has no part yet; of a range, its end if there is none."""
        index = 0 if self._range is None else self._range.start
        while index in self._done:
            index += 1
        return index

    def append(self, dataset: xr.Dataset, index: int | None = None) -> Path:
        """Write one part; it counts when this returns, and not before.

        Parameters
        ----------
        dataset : xr.Dataset
            With every variable that has the sharded dimension, and its coordinates; what has not
            that dimension must be the same in every part.
        index : int or None
            Index of the part; by default :attr:`next_index` at first, and then one after the
            other. So a part beyond a missing one, as an earlier writer may have left, is replaced.

        Raises
        ------
        SchemaError
            If it does not follow the schema.
        StoreError
            If it does not go with the other parts, is there already, is not in this writer's
            range, or the disk is full.
        """
        path = self.submit(dataset, index)
        self.wait()
        return path

    def submit(
        self,
        dataset: xr.Dataset,
        index: int | None = None,
        then: Callable[[xr.Dataset], object] = lambda part: None,
    ) -> Path:
        """Have one part written behind who goes on; it counts at the latest after :meth:`wait`.

        Parameters
        ----------
        dataset, index
            As of :meth:`append`. The dataset must not be changed any more.
        then : callable
            Called with the dataset by a thread, one part after the other, once it counts.

        Returns
        -------
        Path
            Where the part comes to lie.

        Raises
        ------
        SchemaError, StoreError
            As :meth:`append`; of the disk, also on behalf of a part before, and then this one is
            not written.
        """
        if in_order := index is None:
            index = self.next_index if self._following is None else self._following
        if index in self._submitted or (index in self._done and not in_order):
            raise StoreError(f"{part_name(index)} is there already; next is {self.next_index}")
        if self._range is not None and index not in self._range:
            own = f"{self._range.start} to {self._range.stop - 1}"
            raise StoreError(f"got part {index}; this writer writes parts {own}")
        self._guard()
        self.schema.check(dataset, part=True)
        if misfits := self._misfits(dataset):
            raise StoreError(f"{part_name(index)} differs from the other parts in {misfits}")
        self._layout = self._layout or _layout(dataset, self.along)
        if in_order:
            self._forget(index)
        path = self.folder / part_name(index)
        with self._failing():
            self._submitted.add(index)
            self._behind.put(_Part(index, dataset, path, then))
        self._following = index + 1 if in_order else None
        return path

    def wait(self) -> None:
        """Wait until every part that was submitted counts.

        Raises
        ------
        StoreError
            If one could not be written; or what else a thread has met.
        """
        with self._failing():
            self._behind.wait()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """After an error nothing is known of what was submitted, but what is done."""
        try:
            yield
        except BaseException:
            self._behind.close()
            self._submitted.clear()
            self._following = None
            self._layout = self._layout if self._done else {}
            raise

    # Each step is taken by a thread of its own, in the order of the parts.

    def _write(self, part: _Part) -> tuple[_Part, WrittenFile]:
        self._guard()
        return part, WrittenFile(self._labelled(part.dataset), part.path, self.schema.by_rows)

    def _prove(self, given: tuple[_Part, WrittenFile]) -> tuple[_Part, WrittenFile]:
        given[1].prove()
        return given

    def _publish(self, given: tuple[_Part, WrittenFile]) -> _Part:
        part, written = given
        written.publish()
        self._files[part.path.name] = facts_of(part.path, written.sha256)
        return part

    def _account(self, part: _Part) -> None:
        self._count(part.index, part.dataset)
        self._submitted.discard(part.index)
        part.then(part.dataset)

    def _forget(self, index: int) -> None:
        """Remove a part that is made again, after one before it was missing."""
        if self._done.pop(index, None) is not None:
            (self.folder / part_name(index)).unlink()
            sys.stdout.write(f"{part_name(index)} is made again, as one before it was missing\n")

    def _labelled(self, dataset: xr.Dataset) -> xr.Dataset:
        attributes = self._attributes() if callable(self._attributes) else self._attributes
        return self.schema.label(dataset).assign_attrs(dict(attributes))

    def _misfits(self, dataset: xr.Dataset) -> str:
        """Return the names of what differs from the parts before, though it must not."""
        found = _layout(dataset, self.along)
        expected = self._layout or found
        names = found.keys() | expected.keys()
        return ", ".join(repr(n) for n in sorted(names) if found.get(n) != expected.get(n))

    def finish(self, summary: xr.Dataset | None = None, parts: int | None = None) -> Shards:
        """Close the collection with what is said of the whole of it.

        Parameters
        ----------
        summary : xr.Dataset or None
            Variables without the sharded dimension: scalars, statistics over all parts.
        parts : int, optional
            How many parts there must be, where several writers have written them: one that never
            began is missed by nobody else.

        Returns
        -------
        Shards
            What a stage returns in place of a dataset.

        Raises
        ------
        SchemaError
            If parts and summary together do not follow the schema, a coordinate that repeats
            across parts included.
        StoreError
            If a part is missing, the summary does not go with the parts, or this writer writes a
            range of the parts alone.
        """
        self.wait()
        self._behind.close()
        if self._range is not None:
            raise StoreError(
                f"this writer writes {self._range!r} alone; one for all parts finishes"
            )
        self._require_all_parts(parts)
        summary = xr.Dataset() if summary is None else summary
        if self.along in summary.dims:
            raise StoreError(f"the summary has the sharded dimension {self.along!r}; append it")
        for index in self.done[self._digested :]:
            with read_file(self.folder / part_name(index), cache=False) as part:
                self._digest.update(part)
        self._digest.update(summary)
        labelled = self._labelled(summary)
        write_file(labelled, self.folder / SUMMARY)
        rows = [self._done[index] for index in self.done]
        whole = open_parts(self.folder, rows, self.along)
        self.schema.check(whole)
        sizes = {str(name): size for name, size in whole.sizes.items()}
        content = self._digest.hexdigest()
        found = scalars(labelled)
        return Shards(
            self.folder, self.schema, content, tuple(rows), sizes, found, dict(self._files)
        )

    def _require_all_parts(self, expected: int | None) -> None:
        found = max(self._done, default=0) + 1
        expected = found if expected is None else expected
        missing = [part_name(i) for i in range(expected) if i not in self._done]
        if missing:
            raise StoreError(
                f"{counted(len(missing), 'part is', 'parts are')} missing: {', '.join(missing[:3])}"
            )
        if found > expected:
            raise StoreError(f"got {counted(found, 'part')}; expected {expected}")


def _layout(dataset: xr.Dataset, along: str) -> dict[str, Any]:
    """Return what must be the same in all parts: content, or form where it grows."""
    digest = ContentDigest()
    digest.update(dataset.isel({along: slice(0)}))
    return digest.rows()


def scalars(dataset: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Return every scalar variable with its value, units and long_name.

    JSON has no NaN and no infinity: their texts in a manifest are marked as numbers.
    """
    found = {}
    for name, variable in dataset.data_vars.items():
        if variable.ndim == 0:
            value, attrs = variable.values.item(), variable.attrs
            is_marked = isinstance(value, float) and not isfinite(value)
            marks = {"is_number": True} if is_marked else {}
            described = {key: attrs[key] for key in ("units", "long_name") if key in attrs}
            found[str(name)] = {"value": value, **marks, **described}
    return found


def scalar_value(entry: Mapping[str, Any]) -> Any:
    """Return the value that an entry of :func:`scalars` means, also as a manifest holds it."""
    return float(entry["value"]) if entry.get("is_number") else entry["value"]


def open_parts(folder: Path, rows: Sequence[int], along: str) -> xr.Dataset:
    """Open the parts of a folder as one lazy dataset of dask arrays, with the summary.

    Only the first part is opened in full: the others are known to have the same form, which makes
    this some twenty times as fast as :func:`xarray.open_mfdataset`.

    Parameters
    ----------
    folder : Path
        The folder of the run.
    rows : sequence of int
        Size of each part along the dimension.
    along : str
        The dimension in which they follow each other.
    """
    first = read_file(folder / part_name(0))
    summary = read_file(folder / SUMMARY)
    growing = {
        name: _joined(folder, str(name), variable, rows)
        for name, variable in first.variables.items()
        if along in variable.dims
    }
    fixed = first.drop_vars(list(growing))
    whole = xr.merge([fixed, summary], join="exact", compat="override")
    whole = whole.assign_coords({n: v for n, v in growing.items() if n in first.coords})
    whole = whole.assign({n: v for n, v in growing.items() if n in first.data_vars})
    whole.attrs = dict(summary.attrs)
    return whole


def _joined(folder: Path, name: str, like: xr.Variable, rows: Sequence[int]) -> xr.Variable:
    """Return one variable of all parts; a coordinate of its own dimension is read, as an index."""
    import dask.array as da  # takes a second to import

    dtype = np.dtype(object) if dtype_name(like.dtype) == "str" else like.dtype
    parts = [
        _PartArray(str(folder / part_name(index)), name, (size, *like.shape[1:]), dtype)
        for index, size in enumerate(rows)
    ]
    if like.dims == (name,):
        return xr.IndexVariable(name, np.concatenate([part[:] for part in parts]), like.attrs)
    chunks = (_chunk_rows(like), *like.shape[1:])
    arrays = [
        da.from_array(part, chunks, name=f"{part.path}:{name}", lock=False, meta=part.meta)
        for part in parts
    ]
    return xr.Variable(like.dims, da.concatenate(arrays), like.attrs)


@dataclass(frozen=True)
class _PartArray:
    """A variable of a part, as dask wants an array: read when it is indexed, and no sooner.

    Files are opened for each read, so that thousands of parts need no more than a few descriptors.
    h5py's own lock serves the threads.
    """

    path: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def meta(self) -> np.ndarray:
        return np.empty((0,) * self.ndim, self.dtype)

    def __getitem__(self, key: Any) -> np.ndarray:
        with reading(self.path), h5py.File(self.path, "r") as file:
            return self._values(file[self.name], key)

    def _values(self, stored: h5py.Dataset, key: Any) -> np.ndarray:
        if stored.shape != self.shape:
            where = f"{self.name!r} of {self.path}"
            raise StoreError(f"{where} is {stored.shape}; expected {self.shape}")
        values = stored.asstr()[key] if self.dtype == object else stored[key]
        return np.asarray(values).astype(self.dtype, copy=False)


def _chunk_rows(variable: xr.Variable) -> int:
    """Return how many rows fill a dask chunk, in whole stored chunks."""
    length = max(1, variable.shape[0])
    stored = max(1, (variable.encoding.get("chunksizes") or (1,))[0])
    rows = ROW_BYTES * length // max(1, variable.nbytes)
    return min(length, max(stored, rows - rows % stored))


def _require_unclaimed(folder: Path, parts: range | None = None) -> None:
    """Make sure that no writer who lives has claimed one of these parts, or any at all."""
    for path in folder.glob(f".parts-*{TEMPORARY}"):
        found = _CLAIM.fullmatch(path.name)
        start, stop = map(int, found.groups()) if found else (0, 0)
        overlaps = found and (parts is None or (start < parts.stop and parts.start < stop))
        if overlaps and path.exists():
            if (held := lock(path, wait=False)) is None:
                raise StoreError(
                    f"parts {start} to {stop - 1} in {folder} are being written by another"
                )
            path.unlink(missing_ok=True)  # its writer died
            held.release()
