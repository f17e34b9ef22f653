"""Tables of activations or labels from a file, (input, column), with names.

Anybody's neurons can be scored that way, without their network: the attributes that a concept
bottleneck predicts, the probabilities of a language model's next tokens.
"""

from __future__ import annotations

import math
import pickle
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray

import registry
from fact.data.torch_file import read_torch
from fact.data.vocabulary import distinct, identity, read_lines, read_names
from registry.declare.requirements import Extra, Package, Requirement
from registry.store.durable import StoreError
from registry.suggest import RefusalError, nearest
from registry.wording import counted, verb

if TYPE_CHECKING:
    import pandas as pd

PARQUET = Extra("parquet", (Package("pyarrow", least="14", why="parquet"),))
TORCH = Extra("networks", (Package("torch", least="2.7", why="files of torch"),))

LOOKED_AT = 64 * 2**20
"""Bytes of a file that a plan reads, at most."""

INPUT_NAMES = ("image", "input")
WORD = re.compile(r"[\w-]+")
UNNAMED = "Unnamed: "  # as pandas calls a column without a name
MISSING = ["", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "none"]
"""What stands in a table of numbers where one is missing."""
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
    counter : str
        What of the file only counts its rows, which names none; "" where nothing does.
    """

    values: Any
    inputs: NDArray[np.str_]
    columns: tuple[str, ...]
    right_concepts: tuple[str, ...]
    are_columns_named: bool = True
    rows_of: str = ""
    trained: tuple[str, ...] | None = None
    counter: str = ""

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
            raise ArrayFileError(
                f"{counted(bad, 'value is', 'values are')} not finite, of inputs {chosen.start} "
                "and on"
            )
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
        A file ``.csv``, ``.parquet``, ``.nc``, ``.npz``, ``.npy`` or ``.pt``, relative to the
        folder of the declaration; ``~`` is expanded.
    variable : str
        Name of the table in the file; may be left out where it has only one.
    names : str or None
        Names of the columns, where the file has none: ``cub-attributes``, ``imagenet``,
        ``places365``, or a text file with one on each line.
    rows : str or None
        Names of the rows, where the file has none: a text file with one on each line, ``ids.txt``;
        or a word that tables share whose rows are the same ones in the same order, ``cub-test``.
    id : str
        Column, or array of the file, that names the rows; by default ``image`` or ``input``, else
        the index that pandas wrote. One that only counts them, from 0 or 1 on, names none.

    Raises
    ------
    ValueError
        If ``rows`` is neither.
    """

    path: registry.Runtime[str]
    variable: str = ""
    names: registry.Runtime[str | None] = None
    rows: registry.Runtime[str | None] = None
    id: Annotated[str, registry.Since("")] = ""

    def __post_init__(self) -> None:
        if self.rows is not None and not (self._has_row_file or WORD.fullmatch(self.rows)):
            raise ValueError(
                f"rows {self.rows!r}; expected a text file, as 'ids.txt', or a word, as 'cub-test'"
            )

    @property
    def _has_row_file(self) -> bool:
        return self.rows is not None and self.rows.endswith(".txt")

    @property
    def is_small(self) -> bool:
        """Whether the file is there, and one that a plan reads."""
        path = Path(self.path).expanduser()
        return path.is_file() and path.stat().st_size <= LOOKED_AT

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

    def requires(self) -> Iterator[Requirement]:
        """Yield the package that reads the file, where one is needed."""
        suffix = Path(self.path).suffix
        if suffix == ".parquet":
            yield PARQUET
        elif suffix in (".pt", ".pth"):
            yield TORCH

    def load(self) -> NamedArray:
        """Open the file.

        Raises
        ------
        ArrayFileError
            If it is missing or damaged, or does not fit its names.
        """
        names = read_names(self.names) if self.names else ()
        found = read_array(self.path, self.variable, names, self.id)
        if not self.rows:
            return found
        if found.are_rows_named:
            raise ArrayFileError(f"{self.path} names its rows itself; leave rows {self.rows!r} out")
        if not self._has_row_file:
            return replace(found, rows_of=self.rows)
        return replace(found, inputs=self._read_rows(len(found)), counter="")

    def lacks(self) -> Callable[[Mapping[str, Any]], Iterable[str]]:
        """Return what tells of a task what it would fail for: a table that cannot be read.

        It says what ``factbook data check`` says. Larger files than `LOOKED_AT` are left to it.
        """
        from fact.data.checking import check_arrays  # which knows the kinds

        if not self.is_small:
            return lambda config: ()
        faults = [str(found) for found in check_arrays(self, True) if found.is_missing]
        return lambda config: faults

    def _read_rows(self, count: int) -> NDArray[np.str_]:
        names = read_lines(str(self.rows))
        if len(names) != count or len(set(names)) < count:
            raise ArrayFileError(
                f"{self.path} has {counted(count, 'row')}, {self.rows} "
                f"{counted(len(set(names)), 'different name')}"
            )
        if _is_count(names):
            raise ArrayFileError(
                f"{self.rows} only counts, {names[0]} to {names[-1]}, and so names no row of "
                f"{self.path}; a word in its place says that tables have the same rows"
            )
        return np.array(names, dtype=str)


def refuse_labels(_config: Mapping[str, Any], loaded: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the values of a file of labels, which a plan can read.

    Parameters
    ----------
    _config : mapping
        Of a stage that imports labels.
    loaded : mapping
        The declared resource by its slot, ``arrays``.
    """
    settings = loaded["arrays"].settings
    if not isinstance(settings, ArrayFile) or not settings.is_small:
        return
    try:
        values = settings.load().rows(slice(0, None))
    except (OSError, ValueError, RuntimeError, ImportError):
        return  # the table itself is refused
    if wrong := int(((values < 0) | (values > 1)).sum()):
        low, high = values.min(), values.max()
        yield (
            f"{settings.path}: {counted(wrong, 'value is', 'values are')} no label, neither 0 or 1 "
            f"nor a probability: they are from {low:g} to {high:g}"
        )


def read_array(
    path: Path | str, variable: str = "", names: Sequence[str] = (), id: str = ""
) -> NamedArray:
    """Read a table of numbers, (input, column).

    Parameters
    ----------
    path : path
        ``.nc`` (netCDF), ``.npz`` or ``.npy`` (NumPy, no pickles), ``.pt`` (a tensor, or tensors
        and lists of names by name, read as weights are: no code is run), or ``.csv`` and
        ``.parquet`` with a column ``image`` or ``input``, or with pandas' index, whose other
        columns are the table. What only counts the rows does not name them.
        Beside the table, files may hold arrays ``image`` or ``input`` (names of the rows),
        ``name``, ``neuron``, ``concept`` or ``label`` (names of the columns), ``right_concept``,
        and ``trained`` (names of the inputs that the neurons were trained on, any number).
    variable : str
        Name of the table; may be left out where the file has only one.
    names : sequence of str
        Names of the columns, instead of those in the file.
    id : str
        The column or array that names the rows, where it is called otherwise.

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
        arrays = reader(path, (id,) if id else INPUT_NAMES)
    except ArrayFileError as error:
        raise ArrayFileError(f"{path}: {error}") from None
    except _UNREADABLE as error:
        raise ArrayFileError(f"{path} cannot be read: {error}") from error
    try:
        return _named(arrays, variable, names, (id,) if id else INPUT_NAMES)
    except ArrayFileError as error:
        raise ArrayFileError(f"{path}: {error}") from None


def _is_count(names: Any) -> bool:
    from registry.arrays import is_count  # heavy: a plan reads the kinds of data sets

    return is_count(names)


# --- formats: each to a mapping of arrays by name -------------------------------------------

_UNREADABLE = (
    *(OSError, EOFError, ImportError, KeyError, RuntimeError, ValueError),
    *(StoreError, pickle.UnpicklingError, zipfile.BadZipFile),
)


def _read_netcdf(path: Path, ids: Sequence[str]) -> Mapping[str, Any]:
    from registry.store.netcdf import read_file

    dataset = read_file(path)
    return {str(name): dataset[name] for name in dataset.variables}


def _read_npz(path: Path, ids: Sequence[str]) -> Mapping[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _read_npy(path: Path, ids: Sequence[str]) -> Mapping[str, Any]:
    return {"values": np.load(path, allow_pickle=False, mmap_mode="r")}


def _read_torch(path: Path, ids: Sequence[str]) -> Mapping[str, Any]:
    found = read_torch(path)
    entries = found if isinstance(found, Mapping) else {"values": found}
    return {str(name): _as_array(value) for name, value in entries.items()}


def _as_array(value: Any) -> NDArray[Any]:
    """Return a tensor, NumPy has no bfloat16, or a list, as an array."""
    if not hasattr(value, "detach"):
        return np.asarray(value)
    tensor = value.detach()
    return np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy())


def _read_csv(path: Path, ids: Sequence[str]) -> Mapping[str, Any]:
    import pandas as pd

    texts = dict.fromkeys([*ids, f"{UNNAMED}0"], str)
    header = pd.read_csv(path, nrows=0).columns
    first = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False)
    _require_names([name for name in first.iloc[0].tolist() if name])
    missing = {str(column): MISSING for column in header if column not in texts}
    # Names of rows stand as they are: NA is one, and nan.
    table = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=missing)
    return _columns(table, ids)


def _require_names(header: Sequence[str]) -> None:
    """Raise where the first line of a file holds no names of columns, or some of them twice.

    Whole numbers may be names, and are where pandas wrote a table whose columns have none.
    """
    counts = [name for name in header if name.strip().isdecimal()]
    if len(counts) < len(header) and all(map(_is_number, header)):
        wrong = next(name for name in header if name not in counts)
        raise ArrayFileError(
            f"its first line holds numbers, as {wrong}: expected the names of the columns; a table "
            "without them may be an .npy file"
        )
    if repeated := _repeated(header):
        hint = "; is it a line of values?" if len(counts) == len(header) else ""
        raise ArrayFileError(f"names of columns repeat others: {repeated}{hint}")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _read_parquet(path: Path, ids: Sequence[str]) -> Mapping[str, Any]:
    import pandas as pd

    return _columns(pd.read_parquet(path), ids)


def _columns(table: pd.DataFrame, ids: Sequence[str]) -> Mapping[str, Any]:
    table = _with_index(table, ids)
    rows = {name: _as_names(table.pop(name)) for name in ids if name in table}
    index = _pop_index(table)
    if ids == INPUT_NAMES and not rows:
        rows = index
    elif not rows:
        raise ArrayFileError(_no_such_column(ids[0], table.columns))
    if table.shape[1] and len(table) > 2 and _is_count(table.iloc[:, 0]):  # two may be 0 and 1
        raise ArrayFileError(
            f"column {table.columns[0]!r} counts the rows, as an index does: leave it out"
        )
    other = table.columns[[dtype.kind not in "fiub" for dtype in table.dtypes]]
    if len(other):
        named = ", ".join(map(repr, other[:3]))
        hint = "" if rows else '; id = "…" says which column names the rows'
        raise ArrayFileError(
            f"{counted(len(other), 'column holds', 'columns hold')} no numbers: {named}{hint}"
        )
    names = table.columns.to_numpy(dtype=str)
    return {**rows, "name": names, "values": table.to_numpy(float)}


def _no_such_column(name: str, columns: Sequence[object]) -> str:
    """Return what is said where the column that is to name the rows is not there."""
    known = [str(column) for column in columns if not str(column).startswith(UNNAMED)]
    if len(known) == 1 and (mark := next((m for m in ";\t|" if m in known[0]), None)):
        return (
            f"no column or array {name!r}: its only column is {known[0]!r}, whose names are "
            f"parted by {mark!r}; expected commas"
        )
    default = next((each for each in INPUT_NAMES if each in known), None)
    own = f"; {default!r} names rows without id" if default else ""
    return f"no column or array {name!r} that would name the rows{nearest(name, known)}{own}"


def _as_names(column: pd.Series) -> NDArray[np.str_]:
    """Return the names in a column as texts, "" where there is none."""
    return np.where(column.isna(), "", column.astype(object)).astype(str)


def _with_index(table: pd.DataFrame, ids: Sequence[str]) -> pd.DataFrame:
    """Return a table whose index, if it says anything, stands in columns."""
    if any(name in ids for name in table.index.names):
        return table.reset_index()
    if table.index.nlevels == 1 and _is_count(table.index):
        return table
    return table.reset_index(names=[f"{UNNAMED}{i} of index" for i in range(table.index.nlevels)])


def _pop_index(table: pd.DataFrame) -> dict[str, NDArray[np.str_]]:
    """Take the first columns out that have no name, as pandas writes an index: names of rows."""
    is_named = [not str(name).startswith(UNNAMED) for name in table]
    n_first = is_named.index(True) if any(is_named) else len(is_named)
    if not all(is_named[n_first:]):
        raise ArrayFileError(
            f"column {is_named.index(False, n_first)} of {table.shape[1]} has no name"
        )
    found = [_as_names(table.pop(name)) for name in table.columns[:n_first]]
    names = [texts for texts in found if not _is_count(texts)] or found[:1]
    if len(names) > 1:
        raise ArrayFileError(f"{len(names)} columns have no name; expected one at most, the index")
    return dict.fromkeys(INPUT_NAMES[:1], names[0]) if names else {}


_READERS: Mapping[str, Callable[[Path, Sequence[str]], Mapping[str, Any]]] = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".nc": _read_netcdf,
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".pt": _read_torch,
    ".pth": _read_torch,
}


# --- from arrays to a table -----------------------------------------------------------------


def _named(
    arrays: Mapping[str, Any], variable: str, names: Sequence[str], ids: Sequence[str]
) -> NamedArray:
    values = _table(arrays, variable)
    n_inputs, n_columns = values.shape
    if ids != INPUT_NAMES and not arrays.keys() & set(ids):
        found = [*arrays, *np.asarray(arrays.get("name", ())).tolist()]
        raise ArrayFileError(f"no column or array {ids[0]!r}{nearest(ids[0], found)}")
    inputs = _texts(arrays, ids, n_inputs) or ("",) * n_inputs
    named = tuple(names) or _texts(arrays, COLUMN_NAMES, n_columns)
    columns = named or tuple(map(str, range(n_columns)))
    if len(columns) != n_columns:
        raise ArrayFileError(
            f"{counted(n_columns, 'column')}, but {counted(len(columns), 'name')} of them"
        )
    if any(inputs) and (unnamed := inputs.count("")):
        raise ArrayFileError(
            f"{unnamed} of {counted(n_inputs, 'input')} {verb(unnamed, 'has', 'have')} no name; "
            "expected all or none"
        )
    if any(inputs) and (repeated := n_inputs - len(set(inputs))):
        raise ArrayFileError(
            f"{counted(repeated, 'name of an input repeats', 'names of inputs repeat')} others: "
            f"{_repeated(inputs)}"
        )
    right = _texts(arrays, ("right_concept",), n_columns) or ("",) * n_columns
    counter = f"{inputs[0]} to {inputs[-1]}" if _is_count(inputs) else ""
    return NamedArray(
        values,
        np.array([""] * n_inputs if counter else inputs, dtype=str),
        tuple(distinct(columns)),
        right,
        are_columns_named=bool(named),
        trained=_trained(arrays),
        counter=counter,
    )


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


def _repeated(names: Sequence[str]) -> str:
    """Return the first three names that stand more than once."""
    often = [repr(name) for name, count in Counter(names).items() if count > 1]
    return ", ".join(often[:3]) + (", …" if len(often) > 3 else "")


def _texts(arrays: Mapping[str, Any], known: Sequence[str], count: int) -> tuple[str, ...]:
    """Return the first of some arrays of names that has the right length; () if none is there."""
    for name in known:
        if name in arrays and arrays[name].ndim == 1:
            found = tuple(_text(value) for value in np.asarray(arrays[name]).tolist())
            if len(found) != count:
                raise ArrayFileError(
                    f"{name!r} has {counted(len(found), 'entry')}; expected {count}"
                )
            return found
    return ()


def _text(value: Any) -> str:
    """Return a name as text, "" where there is none."""
    return "" if value is None or value != value else str(value)
