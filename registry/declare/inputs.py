"""What a stage is given when it runs: its inputs, and what it may ask of its run."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from registry.declare.faults import StageError
from registry.declare.stage import load_stage
from registry.store.durable import StoreError
from registry.store.manifest import find_dataset

if TYPE_CHECKING:  # heavy: xarray, which planning does without
    import xarray as xr

    from registry.store.shards import ShardWriter

MAKES_AGAIN = " makes it again"
"""How the reason ends why a damaged input cannot be used, after a command."""


@dataclass(frozen=True)
class Input:
    """One resolved input of a task: a declared resource, or the output of an earlier task.

    Attributes
    ----------
    slot, name : str
        The slot it fills, and the declared name (of a cell, where there are several).
    kind : str
        Schema name of a dataset, or the type that a resource provides.
    fingerprint : str
        16 hexadecimal digits.
    path : Path or None
        The folder of the run that made it; None for a resource.
    settings : object or None
        Validated settings of a resource; None for a task's output.
    inputs : mapping of str to Input
        What it was made from, so that a stage can reach the network behind its features.
    run, content : str or None
        Identifier of the run that made it and digest of its content; None for a resource.
    """

    slot: str
    name: str
    kind: str
    fingerprint: str
    path: Path | None = None
    settings: Any = None
    inputs: Mapping[str, Input] = field(default_factory=dict)
    run: str | None = None
    content: str | None = None

    def open(self, proven: float | None = None) -> xr.Dataset:
        """Open the dataset lazily, in today's form of its schema.

        Parameters
        ----------
        proven : float, optional
            Bytes up to which files are compared with their checksums; small ones are by default.

        Raises
        ------
        StageError
            If this input is a declared resource, which has no dataset.
        registry.SchemaError
            If it was written in a version of its schema that cannot be read.
        """
        if self.path is None:
            raise StageError(f"{self.name!r} is a declared {self.kind}; it has no dataset to open")
        from registry.store.datasets import open_dataset  # heavy: xarray

        folder, manifest = self.proven(proven or 0)
        try:
            return open_dataset(folder, load_stage(manifest["stage"]).output)
        except StoreError as error:
            raise self._damaged(error) from error

    def proven(self, most: float = math.inf) -> tuple[Path, Mapping[str, Any]]:
        """Return the folder of the run that made it, and its manifest, its files being whole.

        Parameters
        ----------
        most : float
            Bytes up to which files are compared with their checksums, not with their sizes alone.

        Raises
        ------
        StageError
            If this input is a declared resource.
        registry.StoreError
            If files are gone or not as they were written, with the command that makes them again.
        """
        if self.path is None:
            raise StageError(f"{self.name!r} is a declared {self.kind}; it has no dataset")
        try:
            return find_dataset(self.path, most)
        except StoreError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> Exception:
        command = f"factbook run --verify {shlex.quote(self.name)}"
        return type(error)(f"{error}; {command}{MAKES_AGAIN}")

    @property
    def config(self) -> Mapping[str, Any]:
        """The whole configuration that a task's output was made with.

        Raises
        ------
        StageError
            If this input is a declared resource.
        """
        if self.path is None:
            raise StageError(f"{self.name!r} is a declared {self.kind}; see its settings")
        manifest = find_dataset(self.path)[1]
        return load_stage(manifest["stage"]).settings.rules.completed(manifest["config"])

    def load(self) -> Any:
        """Load a declared resource, as its kind defines."""
        if self.settings is None:
            raise StageError(f"{self.name!r} is a dataset on disk; open it instead")
        return self.settings.load()

    def origin(self, slot: str) -> Input:
        """Return the nearest input behind this one, or itself, that fills ``slot``.

        Raises
        ------
        StageError
            If nothing that this input was made from fills the slot.
        """
        if self.slot == slot:
            return self
        layer = list(self.inputs.values())
        while layer:
            for candidate in layer:
                if candidate.slot == slot:
                    return candidate
            layer = [deeper for candidate in layer for deeper in candidate.inputs.values()]
        raise StageError(f"nothing that {self.name!r} was made from fills the slot {slot!r}")


Inputs = Mapping[str, Input]


@runtime_checkable
class Run(Protocol):
    """What a stage may ask of the run that executes it."""

    uid: str
    experiment: str
    fingerprint: str
    partial: Path
    """A folder for resumable state, kept when the run is killed and found by the next one."""

    def log(self, name: str, value: float, step: int) -> None:
        """Record one point of a metric's curve."""

    def progress(self, done: int, total: int, what: str = "") -> None:
        """Tell whoever watches how far the run is; never recorded."""

    def attach(self, name: str) -> Path:
        """Return the path of a file to write beside the dataset, as ``pictures/3.png``."""

    def shards(self) -> ShardWriter:
        """Return the writer of the stage's output in shards, resuming what is there."""
