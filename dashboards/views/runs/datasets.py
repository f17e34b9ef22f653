"""Datasets as readers of pages need them: opened in today's form, small ones whole in memory."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from dashboards.views.parts.parts import Table
from dashboards.views.parts.text import value_text
from registry.columns import Column
from registry.declare.stage import load_stage
from registry.store.datasets import open_dataset

SMALL_BYTES = 64_000_000
"""Variables above this stay on the disk until a part of them is asked for."""

WEIGHTS = ("encoder", "decoder")
"""Variables of an SAE that need not be read for what is told of its training."""


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
    return Table(name, frame, columns={"meaning": Column(header="what it is")})


# -- as xarray shows it --------------------------------------------------------------------------

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_INK = {"light": "#1c1c1e", "dark": "#fafafa"}


def dataset_frame(folder: str | Path, theme: str = "light", height: int = 560) -> str:
    """Return the HTML of a frame that shows a dataset.

    xarray escapes what is stored; should it ever miss something, the frame is sandboxed: no script
    runs in it, it belongs to no origin, and its policy lets nothing be fetched.

    Parameters
    ----------
    folder : str or Path
        Of the dataset, which is opened lazily: no array is read.
    theme : str
        ``light`` or ``dark``.
    height : int
        Pixels.

    Raises
    ------
    StoreError
        If there is no whole dataset.
    """
    with open_made(folder, "") as dataset:
        body = dataset._repr_html_()
    scheme = theme if theme in _INK else "light"
    look = (
        f":root {{ color-scheme: {scheme}; background: transparent; }} "
        f"body {{ margin: 0; background: transparent; color: {_INK[scheme]}; "
        "font: 14px/1.4 system-ui, sans-serif; }"
    )
    page = (
        f"<!doctype html><html theme='{scheme}'><head>"
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<style>{look}</style></head><body>{body}</body></html>"
    )
    style = f"border: 0; width: 100%; height: {int(height)}px; color-scheme: {scheme}"
    return f'<iframe sandbox="" title="dataset" style="{style}" srcdoc="{escape(page)}"></iframe>'
