"""Tables of activations or labels from a file, (input, column), with names.

Anybody's neurons can be scored that way, without their network: the attributes that a concept
bottleneck predicts, the probabilities of a language model's next tokens.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import registry
from fact.data.vocabulary import distinct, identity, read_lines, read_names
from registry.store.durable import StoreError
from registry.suggest import RefusalError, nearest

INPUT_NAMES = ("image", "input")
WORD = re.compile(r"[\w-]+")
COLUMN_NAMES = ("name", "neuron", "concept", "label")


class ArrayFileError(RefusalError, ValueError):
    """A file that holds no such array, or one that does not fit its names."""


@dataclass(frozen=True)
class NamedArray:
    """A table of numbers whose rows are inputs.

    Attributes
    ----------
    values : array
        (input, column); of a netCDF file, read as it is sliced.
    inputs : ndarray of str, (input,)
        Names of the inputs, "" for all where the file does not say.
    columns : tuple of str
        Names of the columns, all different; their numbers where nothing names them.
    right_concepts : tuple of str
        Of each column, as a neuron: the label that is its known concept; "" where unknown.
    are_columns_named : bool
        Whether somebody named the columns.
    rows_of : str
        What tables are declared to share whose rows are the same ones in the same order; "" where
        nothing is.
    trained : tuple of str or None
        Names of the inputs that neurons were trained on; None where the file does not say.
    """

    values: Any
    inputs: NDArray[np.str_]
    columns: tuple[str, ...]
    right_concepts: tuple[str, ...]
    are_columns_named: bool = True
    rows_of: str = ""
    trained: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def rows(self, chosen: slice) -> NDArray[np.float32]:
        """Return some rows in memory.

        Raises
        ------
        ArrayFileError
            If one holds a number that is not finite.
        """
        values = np.asarray(self.values[chosen]).astype(np.float32)
        bad = int((~np.isfinite(values)).sum())
        if bad:
            raise ArrayFileError(f"{bad} values are not finite, of inputs {chosen.start} and on")
        return values

    @property
    def are_rows_named(self) -> bool:
        """Whether the file names its inputs."""
        return bool(self.inputs.all())


@registry.kind("datasets", "array-file", provides="arrays")
@dataclass(frozen=True)
class ArrayFile:
    """A table (input, column) that was made elsewhere: activations or labels.

    Parameters
    ----------
    path : str
        A file ``.nc``, ``.npz``, ``.npy`` or ``.csv``, relative to the folder of the declaration;
        ``~`` is expanded.
    variable : str
        Name of the table in the file; may be left out where it has only one.
    names : str or None
        Names of the columns, where the file has none: ``cub-attributes``, ``imagenet``,
        ``places365``, or a text file with one on each line.
    rows : str or None
        Names of the rows, where the file has none: a text file with one on each line, ``ids.txt``;
        or a word that tables share whose rows are the same ones in the same order, ``cub-test``.

    Raises
    ------
    ValueError
        If ``rows`` is neither.
    """

    path: registry.Runtime[str]
    variable: str = ""
    names: registry.Runtime[str | None] = None
    rows: registry.Runtime[str | None] = None

    def __post_init__(self) -> None:
        if self.rows is not None and not (self._has_row_file or WORD.fullmatch(self.rows)):
            raise ValueError(
                f"rows {self.rows!r}; expected a text file, as 'ids.txt', or a word, as 'cub-test'"
            )

    @property
    def _has_row_file(self) -> bool:
        return self.rows is not None and self.rows.endswith(".txt")

    def identity(self) -> str:
        """Return a content hash of the file, and of the names.

        Raises
        ------
        ValueError
            If one of them is missing or cannot be read.
        """
        found = registry.content_identity(self.path)
        if self.names:
            found += f" names {identity(self.names) or self.names}"
        if self.rows:
            found += f" rows {identity(self.rows) if self._has_row_file else self.rows}"
        return found

    def load(self) -> NamedArray:
        """Open the file.

        Raises
        ------
        ArrayFileError
            If it is missing or damaged, or does not fit its names.
        """
        found = read_array(self.path, self.variable, read_names(self.names) if self.names else ())
        if not self.rows:
            return found
        if found.are_rows_named:
            raise ArrayFileError(f"{self.path} names its rows itself; leave rows {self.rows!r} out")
        if not self._has_row_file:
            return replace(found, rows_of=self.rows)
        return replace(found, inputs=self._read_rows(len(found)))

    def _read_rows(self, count: int) -> NDArray[np.str_]:
        names = read_lines(str(self.rows))
        if len(names) != count or len(set(names)) < count:
            raise ArrayFileError(
                f"{self.path} has {count} rows, {self.rows} {len(set(names))} different names"
            )
        return np.array(names, dtype=str)


def read_array(path: Path | str, variable: str = "", names: Sequence[str] = ()) -> NamedArray:
    """Read a table of numbers, (input, column).

    Parameters
    ----------
    path : path
        ``.nc`` (netCDF), ``.npz`` or ``.npy`` (NumPy, no pickles), or ``.csv`` with a line of
        names above and a column ``image`` or ``input``. Beside the table, files may hold arrays
        ``image`` or ``input`` (names of the rows), ``name``, ``neuron``, ``concept`` or ``label``
        (names of the columns), ``right_concept``, and ``trained`` (names of the inputs that the
        neurons were trained on, any number).
    variable : str
        Name of the table; may be left out where the file has only one.
    names : sequence of str
        Names of the columns, instead of those in the file.

    Raises
    ------
    ArrayFileError
        If the file is missing or damaged, has no such table, or its names are not as many as its
        rows or columns, or repeat.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ArrayFileError(f"no file at {path}")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ArrayFileError(f"{path.name}: expected one of {', '.join(_READERS)}")
    try:
        arrays = reader(path)
    except (OSError, ValueError, KeyError, StoreError, zipfile.BadZipFile) as error:
        raise ArrayFileError(f"{path} cannot be read: {error}") from error
    try:
        return _named(arrays, variable, names)
    except ArrayFileError as error:
        raise ArrayFileError(f"{path}: {error}") from None


# --- formats: each to a mapping of arrays by name -------------------------------------------


def _read_netcdf(path: Path) -> Mapping[str, Any]:
    from registry.store.netcdf import read_file

    dataset = read_file(path)
    return {str(name): dataset[name] for name in dataset.variables}


def _read_npz(path: Path) -> Mapping[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _read_csv(path: Path) -> Mapping[str, Any]:
    import pandas as pd

    table = pd.read_csv(path, dtype=dict.fromkeys(INPUT_NAMES, str))
    rows = {name: table.pop(name).to_numpy(dtype=str) for name in INPUT_NAMES if name in table}
    return {**rows, "name": table.columns.to_numpy(dtype=str), "values": table.to_numpy(float)}


_READERS: Mapping[str, Callable[[Path], Mapping[str, Any]]] = {
    ".nc": _read_netcdf,
    ".npz": _read_npz,
    ".npy": lambda path: {"values": np.load(path, allow_pickle=False, mmap_mode="r")},
    ".csv": _read_csv,
}


# --- from arrays to a table -----------------------------------------------------------------


def _named(arrays: Mapping[str, Any], variable: str, names: Sequence[str]) -> NamedArray:
    values = _table(arrays, variable)
    n_inputs, n_columns = values.shape
    inputs = _texts(arrays, INPUT_NAMES, n_inputs) or ("",) * n_inputs
    named = tuple(names) or _texts(arrays, COLUMN_NAMES, n_columns)
    columns = named or tuple(map(str, range(n_columns)))
    if len(columns) != n_columns:
        raise ArrayFileError(f"{n_columns} columns, but {len(columns)} names of them")
    if any(inputs) and (unnamed := sum(name in ("", "nan") for name in inputs)):
        raise ArrayFileError(f"{unnamed} of {n_inputs} inputs have no name; expected all or none")
    if any(inputs) and len(set(inputs)) < n_inputs:
        raise ArrayFileError(f"{n_inputs - len(set(inputs))} names of inputs repeat others")
    right = _texts(arrays, ("right_concept",), n_columns) or ("",) * n_columns
    ids = np.array(inputs, dtype=str)
    trained = _trained(arrays)
    return NamedArray(values, ids, tuple(distinct(columns)), right, bool(named), "", trained)


def _table(arrays: Mapping[str, Any], variable: str) -> Any:
    tables = {n: a for n, a in arrays.items() if a.ndim == 2 and a.dtype.kind in "fiub"}
    if variable:
        if variable not in tables:
            raise ArrayFileError(f"no table {variable!r}{nearest(variable, tables)}")
        return tables[variable]
    if len(tables) != 1:
        found = ", ".join(map(repr, tables)) or "none"
        raise ArrayFileError(f"expected one table (input, column); got {found}. Say which")
    return next(iter(tables.values()))


def _trained(arrays: Mapping[str, Any]) -> tuple[str, ...] | None:
    if "trained" not in arrays:
        return None
    return tuple(sorted({str(value) for value in np.ravel(np.asarray(arrays["trained"]))}))


def _texts(arrays: Mapping[str, Any], known: Sequence[str], count: int) -> tuple[str, ...]:
    """Return the first of some arrays of names that has the right length; () if none is there."""
    for name in known:
        if name in arrays and arrays[name].ndim == 1:
            found = tuple(str(value) for value in np.asarray(arrays[name]).tolist())
            if len(found) != count:
                raise ArrayFileError(f"{name!r} has {len(found)} entries; expected {count}")
            return found
    return ()
