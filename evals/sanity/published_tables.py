"""Ours against the published tables, cell by cell: equal, explained, or open.

A cell that differs is explained only where computing it again under the named cause, by the rules
of the published code, gives the published figure; else it is open, whatever is suspected of it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pandas as pd
import xarray as xr
from pydantic import Field

import registry
from evals.identification.config import OTHER_DATA
from evals.identification.identification_table import other_data_text
from evals.sanity.protocol import FREQUENCIES, N_DRAWS
from evals.sanity.published_accuracy import OTHER_DATA as OTHER_FORMS
from registry.columns import Column, ResultTable

EQUAL, EXPLAINED, OPEN = STATES = "equal", "explained", "open"
"""What becomes of a cell."""

PUBLISHED_DRAWS = N_DRAWS * len(FREQUENCIES)
"""Draws behind a published share, over all frequencies."""

CAUSE = "rules of the published code: ties, cut-offs, draws, division of neurons"


@dataclass(frozen=True)
class ComparisonConfig:
    """Configuration of ``evals.compare_published``.

    Parameters
    ----------
    digits : int
        Decimals of the published fractions; half of the last one is no difference. Accuracies of
        sanity tests are published in per cent with two decimals, AUPRC with four.
    errors : float
        Standard errors of draws, theirs and ours together, that are no difference either; only
        where cells are shares of draws.
    """

    digits: Annotated[int, Field(ge=1, le=12)] = 4
    errors: Annotated[float, Field(ge=0)] = 2.0


def cells_of(dataset: xr.Dataset) -> pd.DataFrame:
    """Return the published cells of a dataset beside what it has.

    Parameters
    ----------
    dataset : Dataset
        Of the schema ``sanity`` or ``identification``.

    Returns
    -------
    DataFrame
        By the name of the cell, as ``recall, missing, theoretical`` or ``recall``: ``published``,
        ``ours``, and ``error``, the standard error of ours. Cells without a published figure, or
        that were not computed, are left out.

    Raises
    ------
    ValueError
        If the dataset has none.
    """
    if "split_auprc" in dataset:
        published, ours = dataset["published"], dataset["auprc"]
        error = xr.zeros_like(ours)
    else:
        published, ours = dataset["published"], dataset["decrease_accuracy"]
        is_drawn = dataset["form"] == "theoretical"
        error = dataset["standard_error"].where(is_drawn, 0.0)
    columns = {"published": published, "ours": ours, "error": error}
    frame = xr.Dataset(columns).drop_vars(
        [name for name in dataset.coords if name not in published.dims], errors="ignore"
    )
    rows = frame.to_dataframe()[list(columns)].dropna()
    if rows.empty:
        raise ValueError(
            "the dataset has no published figures; they are known of the paper's settings alone"
        )
    names = [", ".join(map(str, np.atleast_1d(np.array(own, object)))) for own in rows.index]
    return rows.set_axis(pd.Index(names, name="cell"), axis=0)


def compare_cells(
    ours: xr.Dataset, theirs: xr.Dataset | None, digits: int = 4, errors: float = 2.0
) -> xr.Dataset:
    """Hold every published cell against ours, and against ours by the published rules.

    Parameters
    ----------
    ours : Dataset
        Of the schema ``sanity`` or ``identification``, by the definitions.
    theirs : Dataset or None
        Of the same schema and inputs, with ``compat = "neuroneval"``.
    digits, errors
        As in :class:`ComparisonConfig`.

    Returns
    -------
    Dataset
        Of the schema ``comparison``; its attribute ``other_data`` says which of the published
        figures are of other data than ours.
    """
    cells = cells_of(ours)
    again = None if theirs is None else cells_of(theirs).reindex(cells.index)
    is_equal = _agrees(cells, digits, errors)
    is_explained = np.zeros(len(cells), bool) if again is None else _agrees(again, digits, errors)
    state = np.where(is_equal, EQUAL, np.where(is_explained, EXPLAINED, OPEN))
    return xr.Dataset(
        {
            "published": ("cell", cells["published"].to_numpy()),
            "ours": ("cell", cells["ours"].to_numpy()),
            "theirs": (
                "cell",
                np.full(len(cells), np.nan) if again is None else again["ours"].to_numpy(),
            ),
            "difference": ("cell", (cells["ours"] - cells["published"]).to_numpy()),
            "error": ("cell", np.asarray(cells["error"])),
            "theirs_error": (
                "cell",
                np.full(len(cells), np.nan) if again is None else np.asarray(again["error"]),
            ),
            "state": ("cell", state.astype(object)),
            "cause": ("cell", np.where(state == EXPLAINED, CAUSE, "").astype(object)),
            **{f"n_{name}": int((state == name).sum()) for name in STATES},
        },
        {"cell": cells.index.to_numpy().astype(object)},
        {OTHER_DATA: told} if (told := _other_data(ours)) else {},
    )


def _other_data(ours: xr.Dataset) -> str:
    """Return which of the published figures are of other data than ours, "" for none."""
    if "form" not in ours.dims:
        return str(ours.attrs.get(OTHER_DATA, ""))
    held = ours["published"].notnull() & ours["decrease_accuracy"].notnull()
    forms = [form for form in OTHER_FORMS if form in ours["form"] and held.sel(form=form).any()]
    return "; ".join(f"{form}, {OTHER_FORMS[form]}" for form in forms)


def _agrees(cells: pd.DataFrame, digits: int, errors: float) -> np.ndarray:
    """Return where a figure is the published one, up to its digits and to chance."""
    apart = (cells["ours"] - cells["published"]).abs()
    # The published run had 1,000 draws at each frequency: its error is no larger than theirs allow,
    # and where ours has as many or more, is taken to be ours.
    share = cells["published"]
    of_published = np.minimum(cells["error"] ** 2, share * (1 - share) / PUBLISHED_DRAWS)
    slack = 0.5 * 10.0**-digits + errors * np.sqrt(cells["error"] ** 2 + of_published)
    return np.asarray(apart <= slack * (1 + 1e-9))


def compare_published(
    config: ComparisonConfig, inputs: registry.Inputs, run: registry.Run
) -> xr.Dataset:
    """Compare a dataset with the published table of its setting."""
    given = inputs.get("theirs")
    compared = compare_cells(
        inputs["ours"].open().load(),
        None if given is None else given.open().load(),
        config.digits,
        config.errors,
    )
    sys.stdout.write(comparison_table(compared))
    return compared


BY_CELL = ResultTable(
    "cell",
    {
        "published": Column(".4f"),
        "ours": Column(".4f", help="by the definitions"),
        "theirs": Column(".4f", "by their rules", help="computed again by the published rules"),
        "theirs_error": Column(".4f", "±", help="standard error of that, of draws; 0 for none"),
        "difference": Column("+.4f", help="ours less what is published"),
        "state": Column(help="explained: by their rules it is the published figure; else open"),
    },
)
"""A row for each published cell, of schema ``comparison``."""


def comparison_table(compared: xr.Dataset) -> str:
    """Return `BY_CELL`, open ones last, then how many are equal, explained and open.

    A console ends with what matters.
    """
    order = np.argsort([STATES.index(str(own)) for own in compared["state"].values], kind="stable")
    counts = ", ".join(f"{int(compared[f'n_{name}'])} {name}" for name in STATES)
    rows = BY_CELL.text(compared.isel(cell=np.array(order, dtype=np.intp)))
    told = other_data_text(compared.attrs)
    return f"{rows}{told}{compared.sizes['cell']} published cells: {counts}\n"
