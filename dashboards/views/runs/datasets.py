"""Datasets as readers of pages need them: opened in today's form, small ones whole in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from dashboards.views.parts.parts import Column, Table
from dashboards.views.parts.text import value_text
from registry.declare.stage import load_stage
from registry.store.datasets import open_dataset

SMALL_BYTES = 64_000_000
"""Variables above this stay on the disk until a part of them is asked for."""


def open_made(folder: str | Path, stage: str, **options: Any) -> xr.Dataset:
    """Open a dataset lazily, in today's form of its schema.

    Parameters
    ----------
    folder : str or Path
        Where it is, as :meth:`registry.catalog.access.Catalog.path` tells.
    stage : str
        The declared stage that makes it, never one that the files name; "" to open it as stored.
    **options
        For :func:`registry.store.datasets.open_dataset`, as ``drop_variables``.

    Raises
    ------
    StoreError
        If there is no whole dataset, or it is damaged.
    SchemaError
        If it was written in a version of its schema that cannot be read.
    """
    return open_dataset(folder, load_stage(stage).output if stage else None, **options)


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
