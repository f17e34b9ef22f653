"""The xarray engine ``factbook``: ``xr.open_dataset(folder)`` for the folder of a run or a task."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import xarray as xr
from xarray.backends import BackendEntrypoint

from registry.store.manifest import MANIFEST


class FactbookBackend(BackendEntrypoint):
    """Opens the dataset of a folder lazily, in one file or in parts.

    Registered under the entry point group ``xarray.backends``, so that xarray finds it.
    """

    description = "Open the folder of a factbook run"
    open_dataset_parameters = ("filename_or_obj", "drop_variables")

    def open_dataset(
        self, filename_or_obj: Any, *, drop_variables: str | Iterable[str] | None = None
    ) -> xr.Dataset:
        """Open a folder as :func:`registry.open_dataset` does."""
        from registry.store.datasets import open_dataset

        dropped = [drop_variables] if isinstance(drop_variables, str) else drop_variables or []
        return open_dataset(Path(filename_or_obj)).drop_vars(dropped, errors="ignore")

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Return whether this is a folder with a manifest, or with a current run that has one."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        folder = os.fspath(filename_or_obj)
        paths = (os.path.join(folder, MANIFEST), os.path.join(folder, "current", MANIFEST))
        return any(os.path.isfile(path) for path in paths)
