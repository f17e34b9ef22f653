"""Labelled arrays of activations and labels, brought to the same inputs in the same order."""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from evals.kernels.arrays import (
    AlignmentError,
    is_default_index,
    is_plain,
    name_rows,
    to_labelled,
)
from evals.kernels.columns import Columns
from evals.kernels.statistics import AnyArray, Shaped
from registry.arrays import as_numbers, is_count, to_numpy
from registry.store.schema import decode_attribute
from registry.suggest import nearest
from registry.wording import counted, verb

MAIN_VARIABLES = ("presence", "activation")
"""What is meant of a dataset of concepts, and of one of neurons, unless something else is asked."""

PANDAS = (pd.DataFrame, pd.Series)

ROW_NAMES, FILE = "row_names", "file"
"""Attribute by which imports say where the names of rows are from, and its value where from a file.

Names that are counted today are no other dataset's; those of imports without the attribute may be.
"""

NUMBERED = r"^(.*?)(\d+)(\D*)$"
"""A name that may have been counted: its last digits, and what stands before and behind them."""

RANGE = r"(\d*):(\d*)"
"""Numbers from the first up to before the second."""

LAZY_INPUTS = 4096  # inputs of a dataset that are read at once


def align(activations: AnyArray, labels: AnyArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Return activations (input, neuron) and labels (input, concept) of the same inputs.

    The labels are put in the activations' order, by the exact names of inputs. Rows of a plain
    array, and of a pandas object with the default index, have no names: they are taken to be in
    the order of the other array, whose names they are given. So are the rows of two labelled
    arrays that both do not name their inputs. Where only one array has names, that is told by a
    warning, or refused if they are numbers out of order: its rows were moved, and the others not.

    Parameters
    ----------
    activations : array
        (input, neuron), or a labelled one (image, concept) where concepts are the neurons, in any
        order.
    labels : array
        (input, concept), or a labelled one (image, label).

    Raises
    ------
    AlignmentError
        If dimensions are others, inputs repeat, or the sets of inputs differ; if only one array
        names its inputs, and by numbers that are not in order.
    """
    plain = is_plain(activations), is_plain(labels)
    _require_counted_alike(activations, labels)
    pair = share_names(take_neurons(activations), take_concepts(labels), plain)
    if "input" not in pair[0].coords:
        return pair
    order = _order(pair[1].indexes["input"], pair[0].indexes["input"])
    in_order = np.array_equal(order, np.arange(len(order)))
    return pair[0], pair[1] if in_order else pair[1].isel(input=order)


def _require_counted_alike(activations: AnyArray, labels: AnyArray) -> None:
    """Raise where two pandas objects both number their rows, and one by its default index anew.

    They were one table's rows once, of which one has lost some, or has others' order.
    """
    given = name_rows(activations, "activations"), name_rows(labels, "labels")
    indexes = [array.index for array in given if isinstance(array, PANDAS)]
    if len(indexes) < 2 or not any(map(is_default_index, indexes)):
        return
    one, other = map(as_numbers, indexes)
    if one is None or other is None or np.array_equal(one, other):
        return
    if all(len(index) for index in indexes):
        first = [f"{index[0]} to {index[-1]}" for index in indexes]
        raise AlignmentError(
            f"activations number their rows {first[0]}, labels {first[1]}: if they are the same "
            "rows in the same order, reset_index(drop=True) of both says so; else name the rows"
        )


def share_names(
    one: xr.DataArray,
    other: xr.DataArray,
    plain: tuple[bool, bool],
    what: tuple[str, str] = ("activations", "labels"),
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return two arrays whose inputs both have names, or both have none and are as many.

    Parameters
    ----------
    one, other : xr.DataArray
        (input, …).
    plain : tuple of bool
        Which of them came without names of dimensions: it takes the other's names of inputs, or
        numbers where that is plain too.
    what : tuple of str
        What to call them in errors.

    Raises
    ------
    AlignmentError
        If only one names its inputs and the other is labelled, or they are not equally many.
    """
    arrays = [one, other]
    lacking = [i for i, array in enumerate(arrays) if "input" not in array.coords]
    if not lacking:
        return one, other
    if len(lacking) == 1 and not plain[lacking[0]]:
        bare = what[lacking[0]]
        raise AlignmentError(f"{bare} do not name their inputs, by a coordinate 'input'")
    if one.sizes["input"] != other.sizes["input"]:
        sizes = f"{one.sizes['input']} and {other.sizes['input']}"
        raise AlignmentError(f"{what[0]} and {what[1]} are of {sizes} inputs, not named")
    if len(lacking) == 1:
        names = arrays[1 - lacking[0]]["input"].values
        _warn_of_position(names, what[1 - lacking[0]], what[lacking[0]])
    elif all(plain):
        names = np.arange(one.sizes["input"])
    else:
        return one, other
    return one.assign_coords(input=names), other.assign_coords(input=names)


def _warn_of_position(names: np.ndarray, named: str, bare: str) -> None:
    """Warn that rows join by position though one array names them; refuse numbers out of order."""
    numbers = as_numbers(names)
    if numbers is not None and np.array_equal(numbers, np.arange(len(numbers))):
        return
    told = (
        f"{named} name their inputs ({quote_some(names)}), and {bare} do not: rows would join by "
        f"position. If they stand in the same order, {named}.to_numpy() says so; else give {bare} "
        "the same names"
    )
    if numbers is not None and (np.diff(numbers) <= 0).any():
        raise AlignmentError(told)
    warnings.warn(told.replace("would join", "join"), stacklevel=_depth_of_caller())


def _depth_of_caller() -> int:
    """Return how far above who asks the first function stands that is none of the evaluators."""
    depth, frame = 0, inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("evals."):
        depth, frame = depth + 1, frame.f_back
    return depth


def take_neurons(activations: AnyArray) -> xr.DataArray:
    """Return activations as (input, neuron), neurons named; concepts become neurons here."""
    return _take(activations, "activations", {"image": "input", "concept": "neuron"})


def take_concepts(labels: AnyArray) -> xr.DataArray:
    """Return labels as (input, concept), concepts named."""
    return _take(labels, "labels", {"image": "input", "label": "concept"})


def read_columns(array: xr.DataArray, what: str = "activations") -> Columns:
    """Return (input, column) as columns that know the names by which draws are made."""
    inputs = array["input"].values if "input" in array.coords else None
    return Columns(array, what, inputs, array[array.dims[1]].values, are_labels=what == "labels")


def select_inputs(labels: xr.DataArray, inputs: Sequence[str] | np.ndarray) -> xr.DataArray:
    """Return labels (input, concept) of the named inputs, in their order.

    Raises
    ------
    AlignmentError
        If an input is missing.
    """
    labels = take_concepts(labels)
    index = labels.indexes["input"]
    indices = index.get_indexer(inputs)
    if (indices < 0).any():
        missing = np.asarray(inputs)[indices < 0]
        told = f"labels lack {counted(len(missing), 'input')}: {quote_some(missing)}"
        others = index.difference(pd.Index(np.asarray(inputs)), sort=False)
        if len(others):
            told += f"; they have {counted(len(others), 'other')}: {quote_some(others)}"
        raise AlignmentError(told)
    return labels.isel(input=indices)


def find_labels(dataset: xr.Dataset) -> xr.DataArray:
    """Return the labels (input, concept) of a dataset: its one variable of these dimensions.

    Raises
    ------
    AlignmentError
        If there is none, or several.
    """
    dims = ({"input", "concept"}, {"input", "label"}, {"image", "concept"}, {"image", "label"})
    found = [str(name) for name, array in dataset.items() if set(array.dims) in dims]
    if len(found) != 1:
        raise AlignmentError(f"expected one variable of labels (input, label); got {found}")
    return take_concepts(dataset[found[0]])


def pair_datasets(
    activations: xr.Dataset,
    labels: xr.Dataset,
    variable: str,
    split: str = "",
    neurons: Sequence[str] = (),
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return activations (input, neuron) and labels (input, concept) of the activations' inputs.

    Parameters
    ----------
    activations, labels : xr.Dataset
        As stages open them; they stay lazy. The labels may be of more inputs.
    variable : str
        What of the activations is meant; for "", presences of concepts, or activations of neurons.
    split : str
        Keep only inputs whose names begin with this split; all for "".
    neurons : sequence of str
        Keep only these, see `choose_neurons`; all for none.

    Raises
    ------
    AlignmentError
        If there is no such variable, split or neuron, an input has no labels, or the inputs of one
        were only counted and nothing says that they are those of the other.
    """
    variable = variable or next((v for v in MAIN_VARIABLES if v in activations), "")
    if variable not in activations:
        raise AlignmentError(
            f"unknown variable {variable!r}{nearest(variable, map(str, activations))}"
        )
    chunked = activations[[variable]]
    if activations[variable].chunks is None:
        chunked = chunked.chunk({activations[variable].dims[0]: LAZY_INPUTS})
    _require_joinable(activations, labels)
    kept = _select_split(take_neurons(chunked[variable]), split)
    if neurons:
        names = activations["name"].values if "name" in activations else None
        is_chosen = choose_neurons(kept["neuron"].values, neurons, names=names)
        kept = kept.isel(neuron=np.flatnonzero(is_chosen))
    return kept, select_inputs(find_labels(labels), kept["input"].values)


def choose_neurons(
    known: np.ndarray,
    chosen: Sequence[str | int],
    of: str = "",
    names: np.ndarray | None = None,
) -> np.ndarray:
    """Return which neurons (neuron,) bool are chosen.

    Parameters
    ----------
    known : ndarray
        (neuron,) what they are called in their dataset: numbers, or names.
    chosen : sequence of str or int
        Numbers or names, of a neuron's number and another's name the number; or ranges of numbers,
        ``0:100`` for those below 100. Of neurons without numbers these are places, from 0.
    of : str
        What is said of them in errors, as "of known concept".
    names : ndarray, optional
        (neuron,) their names beside numbers, "" for none; several may share one.

    Raises
    ------
    AlignmentError
        If there is no such neuron, with the nearest, or none in a range.
    """
    called = known.astype(str)
    names = called if names is None else names.astype(str)
    numbers = known if known.dtype.kind in "iu" else np.arange(len(known))
    is_chosen = np.zeros(len(known), dtype=bool)
    for one in map(str, chosen):
        found = called == one
        if not found.any() and one:
            found = names == one
        if not found.any() and (ends := re.fullmatch(RANGE, one)):
            first, end = (int(number or -1) for number in ends.groups())
            found = (numbers >= first) & ((numbers < end) | (end < 0))
        if not found.any():
            told = f"no neuron {one!r} {of}".rstrip()
            raise AlignmentError(
                f"{told}{nearest(one, [*names[names != ''].tolist(), *called.tolist()])}"
            )
        is_chosen |= found
    return is_chosen


def _require_joinable(activations: xr.Dataset, labels: xr.Dataset) -> None:
    are_joined = _input_index(activations).isin(_input_index(labels)).all()
    for dataset, other in ((activations, labels), (labels, activations)):
        is_counted = dataset.attrs.get(ROW_NAMES, FILE) != FILE
        if (is_counted and not are_joined) or _was_counted(dataset):
            raise AlignmentError(_say_how_to_join(dataset, other))
    sys.stdout.write(_tell_counters(activations, labels))


def _tell_counters(activations: xr.Dataset, labels: xr.Dataset) -> str:
    """Return a line on imported tables of other lengths whose names look counted; "" for others."""
    indexes = [_input_index(given) for given in (activations, labels)]
    n_activations, n_labels = map(len, indexes)
    are_imported = all(map(_is_imported, (activations, labels)))
    if not are_imported or n_activations == n_labels or not all(map(_look_counted, indexes)):
        return ""
    return (
        f"Names that look counted, as {indexes[0][0]!r}, joined {counted(n_activations, 'row')} of "
        f"activations to {counted(n_labels, 'row')} of labels. If a table lost rows before its "
        "rows were "
        "counted, each has another's labels. Names of what the rows are, or a table of labels of "
        f"these {n_activations:,} rows alone, say that they belong together.\n"
    )


def _look_counted(index: pd.Index) -> bool:
    """Return whether names are numbered from 0 or 1 on without a gap, and alike but for that."""
    parts = index.astype(str).to_series().str.extract(NUMBERED)
    if parts.isna().any(axis=None) or (parts[[0, 2]].nunique() > 1).any():
        return False
    return is_count(np.sort(parts[1].astype(float).to_numpy()))


def _input_index(dataset: xr.Dataset) -> pd.Index:
    return dataset.indexes["image" if "image" in dataset.indexes else "input"]


def _is_imported(dataset: xr.Dataset) -> bool:
    return str(dataset.attrs.get("source")).startswith("fact.import")


def _was_counted(dataset: xr.Dataset) -> bool:
    """Return whether an import that does not say so has names that were only counted."""
    if is_count(_input_index(dataset)):
        return True
    if ROW_NAMES in dataset.attrs or not _is_imported(dataset):
        return False
    ids = _input_index(dataset).astype(str)
    split = ids[0].partition("/")[0]
    return bool(ids.tolist() == [f"{split}/{row:05d}" for row in range(len(ids))])


def _say_how_to_join(dataset: xr.Dataset, other: xr.Dataset) -> str:
    (own, n_own), (others, n_others) = (
        (str(given.attrs.get("experiment", "?")), len(_input_index(given)))
        for given in (dataset, other)
    )
    told = (
        f"the {counted(n_own, 'row')} of {own!r} {verb(n_own, 'was', 'were')} only counted, and so "
        f"{verb(n_own, 'joins', 'join')} none of {others!r}"
    )
    tables = [_table_of(given) for given in (dataset, other)]
    if not all(tables) or _names_its_rows(other):
        named = f'rows = "ids.txt" in [datasets.{tables[0] or "…"}]'
        return (
            f"{told}, whose rows have names: give them the same names, by a column or an array "
            f"'image' in the file, or by {named}"
        )
    if n_own != n_others:
        return f"{told}, which has {n_others}: name the rows of both in their files, not by counts"
    both = " and ".join(f"[datasets.{name}]" for name in tables)
    return f'{told}. If row by row they are the same, say so by the same word, rows = "…" in {both}'


def _names_its_rows(dataset: xr.Dataset) -> bool:
    return dataset.attrs.get(ROW_NAMES, FILE) == FILE and not _was_counted(dataset)


def _table_of(dataset: xr.Dataset) -> str:
    """Return the declared table that a dataset was imported from; "" where it was not."""
    inputs = decode_attribute(dataset.attrs.get("inputs", {}))
    return str(inputs.get("arrays", {}).get("name", ""))


def _select_split(activations: xr.DataArray, split: str) -> xr.DataArray:
    if not split:
        return activations
    splits = np.array([str(name).partition("/")[0] for name in activations["input"].values])
    if not (splits == split).any():
        raise AlignmentError(f"no input is of split {split!r}{nearest(split, splits.tolist())}")
    return activations.isel(input=np.flatnonzero(splits == split))


def _take(given: AnyArray, what: str, renamed: Mapping[str, str]) -> xr.DataArray:
    dims = tuple(renamed.values())
    array = to_labelled(given, dims, what)
    names = {
        old: new for old, new in renamed.items() if old in array.dims and new not in array.dims
    }
    kept = array.drop_vars([name for name in array.coords if name not in array.dims])
    kept = kept.rename(names)
    if set(kept.dims) != set(dims):
        raise AlignmentError(f"{what}: expected dimensions {dims}; got {array.dims}")
    if dims[1] not in kept.coords:
        kept = kept.assign_coords({dims[1]: np.arange(kept.sizes[dims[1]])})
    for dim in dims:
        if dim in kept.coords and not kept.indexes[dim].is_unique:
            repeated = kept.indexes[dim][kept.indexes[dim].duplicated()].unique()
            raise AlignmentError(f"{what}: {dim} repeats {quote_some(repeated)}")
    return kept.transpose(*dims)


def _order(have: pd.Index, want: pd.Index) -> np.ndarray:
    missing, extra = want.difference(have), have.difference(want)
    if len(missing) or len(extra):
        raise AlignmentError(
            f"activations and labels are of different inputs: labels lack {len(missing)} "
            f"({quote_some(missing)}), and have {counted(len(extra), 'other')} "
            f"({quote_some(extra)})"
        )
    return np.asarray(have.get_indexer(want))


def quote_some(names: Sequence[object] | np.ndarray) -> str:
    """Return the first three names, for a message."""
    shown = ", ".join(repr(name) for name in list(np.asarray(names).tolist())[:3])
    return shown + ", …" if len(names) > 3 else shown


UNKNOWN = -1
"""Index of a concept that is not known."""


def join_by_neuron(
    given: Shaped | Sequence[object], activations: xr.DataArray, what: str = "an index"
) -> np.ndarray:
    """Return what is known of neurons (neuron,), in the order of activations (input, neuron).

    Parameters
    ----------
    given : array, or sequence
        (neuron,) or (concept,), joined by name where it has names, else by position.
    activations : xr.DataArray
        Whose neurons are meant; ``given`` may name more.
    what : str
        What to call an element of ``given`` in errors.

    Raises
    ------
    AlignmentError
        If a neuron is missing, or neurons are not equally many and have no names.
    """
    array = to_labelled(given, ("neuron",), "right")
    (dim,) = array.dims
    n_neurons = activations.sizes["neuron"]
    if dim in array.coords:
        index = array.indexes[dim].get_indexer(activations.indexes["neuron"])
        if (index < 0).any():
            missing = activations["neuron"].values[index < 0]
            raise AlignmentError(
                f"nothing is known of {counted(len(missing), 'neuron')}: {quote_some(missing)}"
            )
        array = array.isel({dim: index})
    if array.size != n_neurons:
        raise AlignmentError(
            f"expected {what} for each of {counted(n_neurons, 'neuron')}; got {array.size}"
        )
    return to_numpy(array)


def find_concepts(right_concept: Shaped | Sequence[str], labels: AnyArray) -> np.ndarray:
    """Return the index of each neuron's known concept among the labels.

    Parameters
    ----------
    right_concept : array or sequence of str
        (neuron,) name of the label that is the neuron's concept, "" where it is not known.
    labels : array
        (input, concept) or (input, label), with names.

    Returns
    -------
    ndarray
        (neuron,) int64, -1 where the concept is not known.

    Raises
    ------
    ValueError
        For a name that the labels do not have, with the nearest.
    """
    names = to_numpy(right_concept).astype(str)
    known = take_concepts(labels)["concept"].values.astype(str)
    index = {name: i for i, name in enumerate(known.tolist())} | {"": UNKNOWN}
    for neuron, name in enumerate(names.tolist()):
        if name not in index:
            hint = nearest(name, known.tolist())
            raise ValueError(
                f"the ground-truth concept {name!r} of neuron {neuron} is no label{hint}"
            )
    return np.array([index[name] for name in names.tolist()], dtype=np.int64)


def require_indices(right: AnyArray, shape: tuple[int, ...]) -> np.ndarray:
    """Return indices of ground-truth concepts as int64, if they fit scores (neuron, concept).

    Raises
    ------
    ValueError
        If they do not, or no neuron is known.
    """
    indices = to_numpy(right)
    if indices.shape != shape[:1] or indices.dtype.kind not in "iu":
        raise ValueError(
            f"expected an index for each of {counted(shape[0], 'neuron')}; "
            f"got shape {indices.shape} of {indices.dtype}"
        )
    if indices.size and (indices.min() < UNKNOWN or indices.max() >= shape[1]):
        raise ValueError(
            f"the index of a concept lies in 0 to {shape[1] - 1}, or is {UNKNOWN} where not known; "
            f"got {indices.min()} to {indices.max()}"
        )
    if (indices == UNKNOWN).all():
        raise ValueError("expected at least one neuron whose concept is known; got none")
    return indices.astype(np.int64)
