"""The columns of a table of results, declared once for whatever shows it.

A table is declared in the room that makes its dataset, as ``METRICS`` of
``evals/identification/identification_table.py``::

    METRICS = ResultTable("metric", {
        "auprc": ResultColumn("AUPRC", "auprc", ".3f"),
        "alpha": ResultColumn("alpha", lambda own: [most_common(v) for v in own["alpha"].values]),
    }, sort_by="auprc")

- a console prints ``METRICS.text(dataset)``;
- a page, CSV or LaTeX takes ``pd.DataFrame(METRICS.values(dataset))``, whose columns are the keys,
  and shows each by ``METRICS.columns[key]``: its ``header``, its ``form`` (a format of Python), and
  its ``help``, which is the variable's ``long_name`` by the schema unless another is given
  (``METRICS.help(key, schema)``).

A column whose variable a dataset does not have, or that says nothing in any row, is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.store.schema import Schema
from registry.terminal import text_table

if TYPE_CHECKING:
    import xarray as xr  # half a second, for those who only declare


@dataclass(frozen=True)
class ResultColumn:
    """One column.

    Attributes
    ----------
    header : str
        What stands above it.
    value : str or callable
        A variable (row,) of the dataset, or what gives one value a row from the dataset.
    form : str
        A format of Python for a number, as ``.3f`` or ``.1%``; "" shows the value as text.
    help : str
        What it holds, with units; by default what the schema says of the variable.
    """

    header: str
    value: str | Callable[[xr.Dataset], Any]
    form: str = ""
    help: str = ""

    def values(self, dataset: xr.Dataset) -> np.ndarray | None:
        """Return a value for each row, None where the dataset lacks the variable."""
        if callable(self.value):
            return np.asarray(self.value(dataset))
        if self.value not in dataset.variables:
            return None
        return np.asarray(dataset[self.value].values)

    def text(self, value: Any) -> str:
        """Return a value as it is shown, "" for NaN."""
        if _is_missing(value):
            return ""
        return format(value, self.form) if self.form else str(value)


@dataclass(frozen=True)
class ResultTable:
    """A table with a row for each element of one dimension.

    Attributes
    ----------
    row : str
        The dimension; its coordinate is the first column.
    columns : mapping of str to ResultColumn
        The other columns, in order.
    sort_by : str
        The column whose largest value comes first, equal ones in the dataset's order; "" keeps
        that order.
    """

    row: str
    columns: Mapping[str, ResultColumn]
    sort_by: str = ""

    def values(self, dataset: xr.Dataset) -> dict[str, np.ndarray]:
        """Return what each column holds, in the order of rows, numbers as they are."""
        held = {self.row: np.asarray(dataset[self.row].values)}
        for name, column in self.columns.items():
            values = column.values(dataset)
            if values is not None and not all(map(_is_missing, values.tolist())):
                held[name] = values
        if self.sort_by not in held:
            return held
        key = held[self.sort_by].astype(np.float64)
        order = np.argsort(-np.where(np.isnan(key), -np.inf, key), kind="stable")
        return {name: values[order] for name, values in held.items()}

    def text(self, dataset: xr.Dataset, most: int | None = None) -> str:
        """Return the table for a console, at most so many rows."""
        held = self.values(dataset)
        shown = {name: self.columns[name] for name in held if name != self.row}
        cells = [[str(name) for name in held[self.row].tolist()]]
        cells += [[column.text(v) for v in held[name].tolist()] for name, column in shown.items()]
        header = [self.row, *(column.header for column in shown.values())]
        return text_table(header, list(zip(*cells, strict=True))[:most])

    def help(self, name: str, schema: Schema) -> str:
        """Return what a column holds: its own words, or those of the schema on its variable."""
        column = self.columns[name]
        if column.help or not isinstance(column.value, str):
            return column.help
        return {**schema.coords, **schema.variables}[column.value].long_name


def most_common(values: Sequence[float] | np.ndarray) -> str:
    """Return the value that stands most often, the smallest of equals; "" if there is none."""
    held = np.asarray(values, dtype=np.float64)
    known, counts = np.unique(held[~np.isnan(held)], return_counts=True)
    return f"{known[counts.argmax()]:g}" if len(known) else ""


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or value != value
