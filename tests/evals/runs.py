"""A run and its inputs, without a registry around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from registry import Schema, ShardWriter
from registry.store.checkpoint import Checkpoint


@dataclass
class FakeRun:
    """Remembers what a stage tells, and writes parts where it is told."""

    folder: Path
    schema: Schema
    told: list[tuple[int, int, str]] = field(default_factory=list)

    def progress(self, done: int, total: int, what: str = "") -> None:
        self.told.append((done, total, what))

    def checkpoint(self, name: str) -> Checkpoint:
        partial = self.folder / "partial"
        partial.mkdir(parents=True, exist_ok=True)
        return Checkpoint(partial, name)

    def attach(self, name: str) -> Path:
        path = self.folder / "attached" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def shards(self, count: int | None = None) -> ShardWriter:
        return ShardWriter(self.folder, self.schema)


@dataclass(frozen=True)
class FakeInput:
    """A dataset in a file, opened anew and lazily each time."""

    path: Path
    name: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, FakeInput] = field(default_factory=dict)
    fingerprint: str = ""

    @classmethod
    def of(cls, dataset: xr.Dataset, path: Path, **told: Any) -> FakeInput:
        dataset.to_netcdf(path, engine="h5netcdf")
        return cls(path, **told)

    def open(self) -> xr.Dataset:
        return xr.open_dataset(self.path, engine="h5netcdf")
