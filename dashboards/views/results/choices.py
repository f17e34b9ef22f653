"""What a reader may choose on a page of results, besides the settings that it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import xarray as xr

Datasets: TypeAlias = Mapping[str, xr.Dataset]
"""Of one schema, by the cell that made each."""


@dataclass(frozen=True)
class Choice:
    """One thing to choose; a view is given the chosen option by keyword.

    Attributes
    ----------
    key : str
        The keyword, and the name in the address.
    label : str
        What it is called.
    options : sequence of str
        The first is chosen at first, unless the choice is optional.
    meaning : str
        What it changes.
    optional : bool
        Whether nothing may be chosen, which is how it begins.
    """

    key: str
    label: str
    options: Sequence[str]
    meaning: str = ""
    optional: bool = False


def no_choices(_datasets: Datasets) -> list[Choice]:
    """Return what there is to choose where there is nothing."""
    return []


def options_of(datasets: Datasets, name: str) -> list[str]:
    """Return the values of a coordinate of texts, of all datasets together, each once."""
    return list(dict.fromkeys(str(v) for own in datasets.values() for v in own[name].values))
