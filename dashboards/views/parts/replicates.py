"""Means over seeds and differences of settings as tables, wherever they are shown."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from dashboards.views.parts.parts import Part, Table
from registry.columns import Column
from registry.replicates import DIFFERENCES, MEANS, Replicates, without_zeros


def replicate_tables(found: Replicates, name: str, by: str = "", against: str = "") -> list[Part]:
    """Return the means of settings as a table, and how they differ as another, if several do.

    Parameters
    ----------
    found : Replicates
        Settings with their results over seeds.
    name : str
        Of the files.
    by : str
        What the titles end with, as ``, by presence``.
    against : str
        The setting that others are compared with; the first by default.
    """
    means, differences = found.means(), found.differences(against)
    note = " ".join(found.mean_notes())
    tables: list[Part] = [_table(f"{name}-seeds", means, f"Over seeds{by}", note, MEANS)]
    if len(differences):
        note = " ".join(found.difference_notes(differences))
        title = f"Compared over seeds{by}"
        tables.append(_table(f"{name}-differences", differences, title, note, DIFFERENCES))
    return tables


def _table(
    name: str, frame: pd.DataFrame, title: str, note: str, columns: Mapping[str, Column]
) -> Table:
    return Table(name, without_zeros(frame), title, note, columns)
