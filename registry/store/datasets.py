"""Datasets on disk: whole, or not there."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from registry.store.durable import StoreError
from registry.store.manifest import (
    DERIVED,
    MANIFEST,
    FileFacts,
    Provenance,
    facts_of,
    find_dataset,
    write_manifest,
)
from registry.store.netcdf import WrittenFile, read_file, reading
from registry.store.schema import Schema, json_value
from registry.store.shards import SUMMARY, Shards, open_parts, part_name, scalar_value, scalars

DATASET = "dataset.nc"

PROVEN_BYTES = 64_000_000
"""Datasets up to this size are compared with their checksums when opened: 0.1 s at most."""


@dataclass(frozen=True)
class Written:
    """A dataset that is on disk, with its manifest.

    Attributes
    ----------
    folder : Path
        The run's folder.
    content : str
        Content digest: equal for equal labelled numbers.
    manifest : mapping
        What stands in ``manifest.json``.
    """

    folder: Path
    content: str
    manifest: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry["size"] for entry in self.manifest["files"])

    @property
    def result(self) -> dict[str, Any]:
        """Value of every scalar, by name; NaN and infinities are numbers."""
        return {name: scalar_value(entry) for name, entry in self.manifest["scalars"].items()}


def write_dataset(
    dataset: xr.Dataset | Shards,
    folder: Path,
    schema: Schema,
    provenance: Provenance,
    announce: Callable[[Written], object] = lambda written: None,
) -> Written:
    """Write a run's output into its folder; the manifest comes last, and makes it whole.

    Parameters
    ----------
    dataset : xr.Dataset or Shards
        What a stage returned: written as ``dataset.nc``, or already there in parts.
    folder : Path
        The run's folder; attachments that lie in it are hashed into the manifest.
    schema : Schema
        What the dataset must follow.
    provenance : Provenance
        Where it comes from.
    announce : callable
        Called when all but the manifest is on the disk.

    Raises
    ------
    SchemaError
        If it does not follow the schema; nothing is written.
    StoreError
        If the disk is full, or something was not read back as written.
    """
    if isinstance(dataset, Shards):
        if dataset.folder.resolve() != folder.resolve():
            raise StoreError(f"the parts lie in {dataset.folder}; expected {folder}")
        given = dataset.schema
        if (given.name, given.version) != (schema.name, schema.version):
            raise StoreError(f"the parts follow {given.name!r}; expected {schema.name!r}")
        facts: dict[str, Any] = {
            "content": dataset.content,
            "sizes": dict(dataset.sizes),
            "sharded_along": schema.sharded_along,
            "rows": list(dataset.rows),
        }
        values: Mapping[str, Any] = dataset.scalars
        known: Mapping[str, FileFacts] = dataset.files
    else:
        schema.check(dataset)
        folder.mkdir(parents=True, exist_ok=True)
        labelled = schema.label(dataset).assign_attrs(provenance.attributes())
        file = WrittenFile(labelled, folder / DATASET, schema.by_rows)
        file.prove()
        file.publish()
        sizes = {str(name): size for name, size in labelled.sizes.items()}
        facts = {"content": file.content, "sizes": sizes}
        values, known = scalars(labelled), {DATASET: facts_of(file.path, file.sha256)}
    entries = {
        "schema": schema.name,
        "schema_version": schema.version,
        **facts,
        "scalars": json_value(values),
        **provenance.entries(),
    }

    def written(manifest: dict[str, Any]) -> Written:
        return Written(folder, facts["content"], manifest)

    def said(manifest: dict[str, Any]) -> None:
        announce(written(manifest))

    return written(write_manifest(folder, entries, said, known))


def lay_down(dataset: xr.Dataset | Shards, check: Callable[[], object]) -> None:
    """Make of a dataset in parts what its schema derives, beside it; its manifest lists none of it.

    Where that fails, as on a full disk, there is nothing: readers do without.

    Parameters
    ----------
    dataset : xr.Dataset or Shards
        What a stage returned.
    check : callable
        Called now and then; what it raises passes.
    """
    if isinstance(dataset, Shards) and dataset.schema.derived:
        derive = pkgutil.resolve_name(dataset.schema.derived)
        with (
            suppress(OSError, StoreError),
            open_parts(dataset.folder, dataset.rows, str(dataset.schema.sharded_along)) as whole,
        ):
            derive(whole, dataset.folder / DERIVED, check)


def open_dataset(path: str | Path, schema: Schema | None = None, **options: Any) -> xr.Dataset:
    """Open a dataset lazily; threads may share it, and other processes may publish meanwhile.

    A small one is proven to be what was written: a flipped bit can make a file that opens and
    means nonsense. Of one above `PROVEN_BYTES`, what cannot be read is an error when it is read.

    Parameters
    ----------
    path : str or Path
        A netCDF file, the folder of a run, or of a task: then its current run is opened, and stays
        open when another is published.
    schema : Schema or None
        To read older versions in today's form, and to refuse what this code cannot read.
    **options
        For :func:`xarray.open_dataset`, where the dataset is a single file (``chunks={}`` for
        dask arrays). Parts are dask arrays always.

    Raises
    ------
    StoreError
        If there is no whole dataset there.
    SchemaError
        If it follows another schema, or a version that cannot be read.
    """
    path = Path(path)
    dataset = _open_folder(path, options) if path.is_dir() else _open_file(path, options)
    return dataset if schema is None else schema.upgrade(dataset)


def _open_file(path: Path, options: Mapping[str, Any]) -> xr.Dataset:
    if not path.exists():
        raise StoreError(f"no dataset at {path}")
    return read_file(path.resolve(), **options)


def _open_folder(path: Path, options: Mapping[str, Any]) -> xr.Dataset:
    folder, manifest = find_dataset(path, PROVEN_BYTES)
    along = manifest.get("sharded_along")
    if along is None:
        return _open_file(folder / DATASET, options)
    with reading(folder):
        needed = {SUMMARY, *(part_name(index) for index in range(len(manifest["rows"])))}
        if missing := sorted(needed - {entry["name"] for entry in manifest["files"]}):
            names = ", ".join(missing[:3])
            raise StoreError(f"{folder} is damaged: {MANIFEST} does not list {names}")
        return open_parts(folder, manifest["rows"], along)
