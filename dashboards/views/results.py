"""What each kind of result is shown as: a page of its own, and a section of a report.

One row per schema of a dataset: a new kind of result needs a function of its datasets and a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import xarray as xr

from dashboards.views.consistency import consistency_parts
from dashboards.views.parts import Part


@dataclass(frozen=True)
class Result:
    """How datasets of one schema are shown.

    Attributes
    ----------
    schema : str
        Name of the schema.
    title : str
        Of the page.
    path : str
        Of the page, in the address.
    meaning : str
        The help line: what the numbers mean, and the source.
    parts : callable
        From datasets, by the cell that made each, to what is shown.
    """

    schema: str
    title: str
    path: str
    meaning: str
    parts: Callable[[Mapping[str, xr.Dataset]], list[Part]]


RESULTS = (
    Result(
        "consistency",
        "Consistency",
        "consistency",
        "Does a concept mean one thing? The C2-score is the mean cosine between what a foundation "
        "model sees where the concept is, over the images it is strongest in; random maps are the "
        "baseline (Parchami-Araghi et al., FaCT, NeurIPS 2025, arXiv 2510.25512, section 5).",
        consistency_parts,
    ),
)
"""In the order of the menu."""
