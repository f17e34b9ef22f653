"""Datasets as readers of pages need them: opened in today's form, small ones whole in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from dashboards.views.parts import Column, Table
from dashboards.views.text import value_text
from registry.durable import StoreError
from registry.manifest import file_faults
from registry.stage import load_stage
from registry.store import find_dataset, open_dataset

SMALL_BYTES = 64_000_000
"""Variables above this stay on the disk until a part of them is asked for."""

PROVEN_BYTES = 64_000_000
"""Datasets up to this size are compared with their checksums, which takes 0.1 s at most."""


def open_made(folder: str | Path, stage: str, **options: Any) -> xr.Dataset:
    """Open a dataset lazily, in today's form of its schema.

    A small one is proven to be what was written: a flipped bit can make a file that opens and
    means nonsense, which a page would fail on later. Of a large one, what cannot be read is told
    when it is read.

    Parameters
    ----------
    folder : str or Path
        Where it is, as :meth:`registry.catalog.Catalog.path` tells.
    stage : str
        The declared stage that makes it, never one that the files name; "" to open it as stored.
    **options
        For :func:`registry.store.open_dataset`, as ``drop_variables``.

    Raises
    ------
    StoreError
        If there is no whole dataset, or it is damaged.
    SchemaError
        If it was written in a version of its schema that cannot be read.
    """
    found = _proven(Path(folder))
    return open_dataset(found, load_stage(stage).output if stage else None, **options)


def _proven(folder: Path) -> Path:
    """Return the folder of a run, its files compared with their checksums if they are small."""
    found, manifest = find_dataset(folder)
    is_small = sum(entry["size"] for entry in manifest["files"]) <= PROVEN_BYTES
    if is_small and (faults := file_faults(found, manifest, verify=True)):
        raise StoreError(f"{found} is damaged: {'; '.join(faults[:3])}")
    return found


def read_small(folder: str | Path, stage: str) -> xr.Dataset:
    """Return a dataset with all that is small of it in memory; see :func:`open_made`."""
    dataset = open_made(folder, stage)
    small = [name for name, array in dataset.variables.items() if array.nbytes <= SMALL_BYTES]
    return dataset.assign({name: dataset[name].load() for name in small if name in dataset})


def scalar_table(name: str, dataset: xr.Dataset) -> Table:
    """Return the numbers of a dataset that have no dimension, with what they are and in what unit.

    Parameters
    ----------
    name : str
        Of the table's file.
    dataset : xr.Dataset
        Any.
    """
    scalars = {key: value for key, value in dataset.data_vars.items() if not value.dims}
    frame = pd.DataFrame(
        {
            "name": list(map(str, scalars)),
            "value": [value_text(value.item()) for value in scalars.values()],
            "unit": [str(value.attrs.get("units", "")) for value in scalars.values()],
            "meaning": [str(value.attrs.get("long_name", "")) for value in scalars.values()],
        },
        dtype=object,
    )
    return Table(name, frame, columns={"meaning": Column(title="what it is")})
