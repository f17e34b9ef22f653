"""The columns of a table of results, declared once for whatever shows it.

A table is declared in the room that makes its dataset, as ``BY_METRIC`` of
``evals/identification/identification_table.py``::

    BY_METRIC = ResultTable("metric", {
        "auprc": Column(".3f", "AUPRC"),
        "alpha": Column(value=lambda own: [most_common(v) for v in own["alpha"].values]),
    }, sort_by="auprc")

- a console prints ``BY_METRIC.text(dataset)``;
- a page, CSV or LaTeX takes ``pd.DataFrame(BY_METRIC.values(dataset))``, whose columns are the
  keys, and shows each by ``BY_METRIC.columns[key]``: its ``header``, its ``form`` (a format of
  Python), and its ``help``, which is the variable's ``long_name`` unless another is given.

A column whose variable a dataset does not have, or that has a value in no row, is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.terminal import text_table
from registry.wording import duration_text, formed, number_text, size_text

if TYPE_CHECKING:
    import xarray as xr  # half a second, for those who only declare

DURATION = "duration"
"""Form of a column of seconds, which are told in units that a person uses."""

BYTES = "bytes"
"""The same of a column of bytes."""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes
    ----------
    form : str
        A format of Python for a number, as ``.3f`` or ``.1%``, written as
        :func:`registry.wording.formed` does; `DURATION` of seconds, `BYTES` of sizes; "" shows the
        value as text.
    header : str
        What stands above it; its key by default.
    help : str
        What it holds, with units; by default what the schema says of the variable.
    value : str or callable
        A variable of the dataset, by default the one called as its key; or what gives one value a
        row from the dataset, labelled or in their order; None where it has none.
    short : str or None
        Its header on a console, by default as elsewhere; None where a console has no room for it.
    """

    form: str = ""
    header: str = ""
    help: str = ""
    value: str | Callable[[xr.Dataset], Any] = ""
    short: str | None = ""

    def text(self, value: Any, missing: str = "") -> str:
        """Return a value as it is shown, a number by the form; `missing` for None and NaN."""
        if value is None or value != value:
            return missing
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if self.form in (DURATION, BYTES):
            return (duration_text if self.form == DURATION else size_text)(float(value))
        return formed(value, self.form) if self.form and is_number else str(value)


@dataclass(frozen=True)
class ResultTable:
    """A table with a row for each element of one dimension, or each combination of several.

    Attributes
    ----------
    row : str or tuple of str
        The dimensions; their coordinates are the first columns.
    columns : mapping of str to Column
        The other columns, in order.
    sort_by : str
        The column whose largest value comes first, equal ones in the dataset's order; "" keeps
        that order.
    """

    row: str | tuple[str, ...]
    columns: Mapping[str, Column]
    sort_by: str = ""

    def values(self, dataset: xr.Dataset, keep_empty: bool = False) -> dict[str, np.ndarray]:
        """Return what each column holds, in the order of rows, numbers as they are.

        Parameters
        ----------
        dataset : xr.Dataset
            Of the table's schema.
        keep_empty : bool
            Whether columns stay that have a value in no row.
        """
        dims = self._dims
        across = np.meshgrid(*(dataset[name].values for name in dims), indexing="ij")
        held = {name: values.ravel() for name, values in zip(dims, across, strict=True)}
        for name in self.columns.keys() - held.keys():
            values = self._column(name, dataset)
            if values is not None and (keep_empty or not all(map(_is_missing, values.tolist()))):
                held[name] = values
        held = {name: held[name] for name in [*dims, *self.columns] if name in held}
        if self.sort_by not in held:
            return held
        key = held[self.sort_by].astype(np.float64)
        order = np.argsort(-np.where(np.isnan(key), -np.inf, key), kind="stable")
        return {name: values[order] for name, values in held.items()}

    def numbers(self, dataset: xr.Dataset) -> dict[str, float]:
        """Return every number of it by name, ``column.row``, as ``auprc.iou``; texts have none."""
        held, dims = self.values(dataset), self._dims
        rows = [
            ".".join(map(_row_text, row))
            for row in zip(*(held[n].tolist() for n in dims), strict=True)
        ]
        return {
            f"{name}.{row}": float(value)
            for name, values in held.items()
            if name not in dims and values.dtype.kind in "fiu"
            for row, value in zip(rows, values.tolist(), strict=True)
        }

    def text(self, dataset: xr.Dataset, most: int | None = None) -> str:
        """Return the table for a console, at most so many rows."""
        held, dims = self.values(dataset), self._dims
        columns = {name: self.columns.get(name, Column()) for name in held}
        columns = {name: own for name, own in columns.items() if own.short is not None}
        cells = [
            [own.text(value) for value in held[name].tolist()] for name, own in columns.items()
        ]
        header = [own.short or own.header or name for name, own in columns.items()]
        return text_table(header, list(zip(*cells, strict=True))[:most], len(dims))

    @property
    def _dims(self) -> tuple[str, ...]:
        return (self.row,) if isinstance(self.row, str) else self.row

    def _column(self, name: str, dataset: xr.Dataset) -> np.ndarray | None:
        value = self.columns[name].value or name
        if callable(value):
            found = value(dataset)
        else:
            found = dataset[value] if value in dataset.variables else None
        if hasattr(found, "dims"):
            found = found.transpose(*self._dims).values.ravel()
        return None if found is None else np.asarray(found)


def most_common(values: Sequence[float] | np.ndarray, counted: bool = False) -> str:
    """Return the value that stands most often, the smallest of equals; "" if there is none.

    Parameters
    ----------
    values : sequence of float
        NaN is no value.
    counted : bool
        Whether to say of several how often it stands.
    """
    held = np.asarray(values, dtype=np.float64)
    known, counts = np.unique(held[~np.isnan(held)], return_counts=True)
    if not len(known):
        return ""
    often = number_text(float(known[counts.argmax()]), 6)
    return f"{often} ({counts.max()} of {counts.sum()})" if counted and len(known) > 1 else often


def _row_text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or value != value
