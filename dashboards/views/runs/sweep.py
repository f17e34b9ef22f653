"""Cells of a matrix put together: mean and deviation over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import pandas as pd

from registry.declare.declared import Reference, SelectionError, parse_reference

SEED = "seed"


def over_seeds(values: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Return the mean and the deviation of numbers over seeds, a row per setting and number.

    Parameters
    ----------
    values : mapping of str to mapping of str to float
        Numbers by name, by the cell that they are of, as ``sweep[k=8,seed=1]``.

    Returns
    -------
    pd.DataFrame
        ``setting``, the axes besides the seed; ``what``, the number; ``mean``, ``deviation`` of
        the sample (NaN of one) and ``n``, its size. Only settings that have a seed as an axis;
        empty where no cell has.
    """
    rows = [
        {"setting": setting, "what": what, "value": value}
        for cell, numbers in values.items()
        if (setting := _without_seed(cell))
        for what, value in numbers.items()
    ]
    frame = pd.DataFrame(rows, columns=["setting", "what", "value"])
    by = frame.groupby(["what", "setting"], sort=False)["value"]
    found = by.agg(mean="mean", deviation="std", n="count").reset_index()
    return found[["setting", "what", "mean", "deviation", "n"]]


def _without_seed(cell: str) -> str:
    """Return a cell's experiment and axes without those that are seeds; "" if none is."""
    with suppress(SelectionError):
        reference = parse_reference(cell)
        axes = tuple((name, value) for name, value in reference.values if not _is_seed(name))
        if len(axes) < len(reference.values):
            return str(Reference(reference.name, axes))
    return ""


def _is_seed(axis: str) -> bool:
    return axis == SEED or axis.endswith((f".{SEED}", f"_{SEED}", f"-{SEED}"))
