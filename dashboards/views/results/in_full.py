"""Several settings on one page: what they are called, and how many are told in full."""

from __future__ import annotations

from collections.abc import Callable

import xarray as xr

from dashboards.views.parts.parts import Heading, Note, Part
from dashboards.views.results.choices import Datasets

MOST_IN_FULL = 4
"""Settings that are told one after the other, below what compares them all."""


def each_in_full(datasets: Datasets, tell: Callable[[str, xr.Dataset], list[Part]]) -> list[Part]:
    """Return all that is told of single settings, each under its name where there are several.

    Parameters
    ----------
    datasets : mapping of str to xr.Dataset
        By cell.
    tell : callable
        From a cell and its dataset to parts.
    """
    parts: list[Part] = []
    for cell, own in list(datasets.items())[:MOST_IN_FULL]:
        parts += [Heading(cell)] if len(datasets) > 1 else []
        parts += tell(cell, own)
    if len(datasets) > MOST_IN_FULL:
        more = len(datasets) - MOST_IN_FULL
        parts.append(Note(f"{more} more settings are compared above; choose fewer to see each."))
    return parts
