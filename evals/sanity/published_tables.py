"""Ours against the published tables, cell by cell: equal, explained, or open.

A cell that differs is explained only where computing it again under the named cause, by the rules
of the published code, gives the published figure; else it is open, whatever is suspected of it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr
from pydantic import Field

import registry
from evals.identification.config import OTHER_DATA
from evals.identification.identification_table import other_data_text
from evals.metrics.registered import find_metric
from evals.sanity.protocol import EXPERIMENTAL, FREQUENCIES, N_DRAWS, TESTS, THEORETICAL
from evals.sanity.published_accuracy import OTHER_DATA as OTHER_FORMS
from evals.sanity.published_accuracy import TESTED_NEURONS
from registry.columns import Column, ResultTable
from registry.declare.declared import format_value
from registry.suggest import nearest
from registry.wording import counted

EQUAL, EXPLAINED, OPEN = STATES = "equal", "explained", "open"
"""What becomes of a cell."""

PUBLISHED_DRAWS = N_DRAWS * len(FREQUENCIES)
"""Draws behind a published share, over all frequencies."""

MEAN = "mean"
"""What stands, in the names of cells, for the mean over all settings."""

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


Printed: TypeAlias = Mapping[str, Mapping[str, float]]
"""A printed table: column and metric to the number that stands there."""


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
    return _with_published(_figures(dataset))


def cells_of_settings(
    datasets: Mapping[str, xr.Dataset], printed: Printed | None = None
) -> pd.DataFrame:
    """Return the published cells of several settings, and of their mean, beside what they have.

    Parameters
    ----------
    datasets : mapping of str to Dataset
        By the name of the setting, all of the schema ``sanity``, of which real neurons alone are
        compared, or all ``identification``.
    printed : mapping of str to mapping, optional
        Column and metric to what is printed, in place of what the datasets hold of it. A column is
        headed ``mean`` or by a setting, its name or its number from 1. Of sanity checks, where
        cells are per cent, ``missing`` or ``extra`` stands behind that, or alone for the mean.

    Returns
    -------
    DataFrame
        As of `cells_of`, with the setting or ``mean`` behind the cell, as ``recall, known-7``. A
        mean is of all settings: a metric that one of them lacks has none.

    Raises
    ------
    ValueError
        If nothing is published of them, they are of both schemas, or a column or metric of the
        printed table is unknown.
    """
    of_neurons = {"split_auprc" in one for one in datasets.values()}
    if len(of_neurons) > 1:
        raise ValueError("expected results of one stage: sanity checks, or known neurons")
    is_sanity = not of_neurons.pop()
    if is_sanity:
        datasets = {name: one.sel(form=[EXPERIMENTAL]) for name, one in datasets.items()}
    each = {name: _figures(one) for name, one in datasets.items()}
    frames = {MEAN: _mean(list(each.values()))} | each
    published = {name: frame["published"] for name, frame in frames.items()}
    if printed is not None:
        published = _read(printed, list(datasets), is_sanity)
    elif is_sanity:  # each has beside it what is published of the mean
        published = {MEAN: published[MEAN]}
    nothing = pd.Series(dtype=float)
    rows = [
        frame.assign(published=published.get(name, nothing).reindex(frame.index)).rename(
            index=lambda cell, name=name: f"{cell}, {name}"
        )
        for name, frame in frames.items()
    ]
    return _with_published(pd.concat(rows))


def _figures(dataset: xr.Dataset) -> pd.DataFrame:
    """Return ``published``, ``ours`` and ``error`` of all that was computed, by cell."""
    if "split_auprc" in dataset:
        published, ours = dataset["published"], dataset["auprc"]
        error = xr.zeros_like(ours)
    else:
        published, ours = dataset["published"], dataset["decrease_accuracy"]
        is_drawn = dataset["form"] == THEORETICAL
        error = dataset["standard_error"].where(is_drawn, 0.0)
    columns = {"published": published, "ours": ours, "error": error}
    frame = xr.Dataset(columns).drop_vars(
        [name for name in dataset.coords if name not in published.dims], errors="ignore"
    )
    order = [name for name in ("metric", "form", "test") if name in frame.dims]
    rows = frame.to_dataframe(dim_order=order)[list(columns)].dropna(subset=["ours", "error"])
    names = [", ".join(map(str, np.atleast_1d(np.array(own, object)))) for own in rows.index]
    return rows.set_axis(pd.Index(names, name="cell"), axis=0)


def _with_published(rows: pd.DataFrame) -> pd.DataFrame:
    if (found := rows.dropna()).empty:
        raise ValueError(
            "the dataset has no published figures; they are known of the paper's settings alone"
        )
    return found


def _mean(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the means of what all have; published of it is what each of several says."""
    common = [cell for cell in frames[0].index if all(cell in frame.index for frame in frames)]
    ours = np.mean([frame.loc[common, "ours"] for frame in frames], axis=0)
    published = frames[0].loc[common, "published"] if len(frames) > 1 else np.nan
    return pd.DataFrame(
        {"published": published, "ours": ours, "error": 0.0}, pd.Index(common, name="cell")
    )


def _read(printed: Printed, settings: Sequence[str], is_sanity: bool) -> dict[str, pd.Series]:
    """Return the cells of a printed table by setting, as fractions."""
    found: dict[str, dict[str, float]] = {}
    for column, numbers in printed.items():
        words = column.split()
        tests = [words.pop()] if is_sanity and words else []
        setting = _setting(" ".join(words), settings)
        if setting is None or not set(tests) <= set(TESTS) or (is_sanity and not tests):
            ends = " before 'missing' or 'extra'" if is_sanity else ""
            raise ValueError(
                f"the printed table has a column {column!r}; expected {MEAN!r}, the name of a "
                f"setting or its number{ends}{nearest(column, settings)}"
            )
        for metric, number in numbers.items():
            name = find_metric(re.sub(r"[\s-]+", "_", metric.lower())).name
            cell = ", ".join([name, *([EXPERIMENTAL] if tests else []), *tests])
            found.setdefault(setting, {})[cell] = round(number / (100 if is_sanity else 1), 12)
    return {setting: pd.Series(cells, dtype=float) for setting, cells in found.items()}


def _setting(text: str, settings: Sequence[str]) -> str | None:
    if text in ("", MEAN):
        return MEAN
    if text.isdecimal() and 1 <= int(text) <= len(settings):
        return settings[int(text) - 1]
    return text if text in settings else None


def compare_cells(
    ours: xr.Dataset | Mapping[str, xr.Dataset],
    theirs: xr.Dataset | Mapping[str, xr.Dataset] | None,
    digits: int = 4,
    errors: float = 2.0,
    printed: Printed | None = None,
    cause: str = CAUSE,
) -> xr.Dataset:
    """Hold every published cell against ours, and against ours under a named cause.

    Parameters
    ----------
    ours : Dataset or mapping of str to Dataset
        Of the schema ``sanity`` or ``identification``, by the definitions; of several settings by
        their names.
    theirs : Dataset, mapping of str to Dataset, or None
        Of the same schema, inputs and settings, computed again under the cause.
    digits, errors
        As in :class:`ComparisonConfig`.
    printed : mapping, optional
        The published cells, as of `cells_of_settings`.
    cause : str
        What differs in ``theirs``.

    Returns
    -------
    Dataset
        Of the schema ``comparison``; its attribute ``other_data`` says which of the published
        figures are of other data than ours.

    Raises
    ------
    ValueError
        As of `cells_of_settings`, and if ``theirs`` has other settings.
    """
    settings = _by_setting(ours)
    cells = _cells(settings, printed)
    again = None
    if theirs is not None:
        repeated = _by_setting(theirs)
        if len(repeated) != len(settings):
            raise ValueError(
                f"ours has {counted(len(settings), 'setting')}, theirs {len(repeated)}; expected "
                "the same, in the same order"
            )
        named = dict(zip(settings, repeated.values(), strict=True))
        again = _cells(named, printed).reindex(cells.index)
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
            "cause": ("cell", np.where(state == EXPLAINED, cause, "").astype(object)),
            **{f"n_{name}": int((state == name).sum()) for name in STATES},
        },
        {"cell": cells.index.to_numpy().astype(object)},
        {OTHER_DATA: told} if (told := _other_data(settings, printed)) else {},
    )


def _by_setting(given: xr.Dataset | Mapping[str, xr.Dataset]) -> Mapping[str, xr.Dataset]:
    return {"": given} if isinstance(given, xr.Dataset) else given


def _cells(settings: Mapping[str, xr.Dataset], printed: Printed | None) -> pd.DataFrame:
    if len(settings) == 1 and printed is None:
        return cells_of(next(iter(settings.values())))
    return cells_of_settings(settings, printed)


def _other_data(settings: Mapping[str, xr.Dataset], printed: Printed | None) -> str:
    """Return which of the published figures are of other data than ours, "" for none."""
    first = next(iter(settings.values()))
    if "form" not in first.dims:
        told = [str(one.attrs.get(OTHER_DATA, "")) for one in settings.values()]
        return "" if printed is not None else "; ".join(dict.fromkeys(filter(None, told)))
    if len(settings) == 1 and printed is None:
        held = first["published"].notnull() & first["decrease_accuracy"].notnull()
        forms = [
            form for form in OTHER_FORMS if form in first["form"] and held.sel(form=form).any()
        ]
        return "; ".join(f"{form}, {OTHER_FORMS[form]}" for form in forms)
    here = sorted(int(one["n_neurons"].sel(form=EXPERIMENTAL).max()) for one in settings.values())
    if here == sorted(TESTED_NEURONS):
        return ""
    expected, found = (", ".join(map("{:,}".format, own)) for own in (TESTED_NEURONS, here))
    return f"the published means are of settings that test {expected} neurons (here {found})"


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
    """Compare datasets with the published table of their settings."""
    ours, theirs = (registry.listed(inputs, slot) for slot in ("ours", "theirs"))
    printed = inputs.get("published")
    compared = compare_cells(
        {one.name: one.open().load() for one in ours},
        {one.name: one.open().load() for one in theirs} or None,
        config.digits,
        config.errors,
        None if printed is None else printed.load(),
        _cause(ours, theirs) or CAUSE,
    )
    sys.stdout.write(comparison_table(compared))
    return compared


def _cause(ours: Sequence[registry.Input], theirs: Sequence[registry.Input]) -> str:
    """Return the keys and the inputs in which what is computed again is declared otherwise."""
    changed: dict[str, Any] = {}
    for one, other in zip(ours, theirs, strict=False):
        changed |= {key: value for key, value in other.config.items() if one.config[key] != value}
        for slot, filled in other.inputs.items():
            if slot not in one.inputs or one.inputs[slot].fingerprint != filled.fingerprint:
                changed[slot] = filled.name
    return ", ".join(f"{key} = {format_value(value)}" for key, value in changed.items())


BY_CELL = ResultTable(
    "cell",
    {
        "published": Column(".4f"),
        "ours": Column(".4f", help="by the definitions"),
        "theirs": Column(".4f", "by their rules", help="computed again by the published rules"),
        "theirs_error": Column(".4f", "±", help="standard error of that, of draws; 0 for none"),
        "difference": Column("+.4f", help="ours less what is published"),
        "state": Column(help="explained: computed again it is the published figure; else open"),
        "cause": Column(help="what was declared otherwise, by which it is the published figure"),
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
