"""Activations and labels as datasets: from tables that were made elsewhere, and of data sets."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import registry
from fact.data.array_file import ArrayFileError, NamedArray
from fact.data.config import ImportActivationsConfig, ImportConfig, InputLabelConfig
from fact.data.images import Ids, ImageDataset, write_parts
from registry.arrays import require_unit_interval
from registry.store.shards import Shards
from registry.suggest import nearest
from registry.wording import counted

SHARD_BYTES = 64 * 2**20

ROW_NAMES = "row_names"
"""Attribute of an imported dataset: where the names of its rows are from."""

FILE, COUNTED = "file", "counted"


def import_activations(
    config: ImportActivationsConfig, inputs: registry.Inputs, run: registry.Run
) -> Shards:
    """Take a file's table of activations, shard by shard."""
    table: NamedArray = inputs["arrays"].load()
    known = _known_concepts(table, config, inputs["arrays"].name)
    ids, told = name_rows(table, config.split, inputs["arrays"].name)
    tell_constant(table, inputs["arrays"].name)

    def part(_index: int, rows: slice) -> xr.Dataset:
        return activation_part(table.rows(rows), ids[rows])

    size = max(1, SHARD_BYTES // (4 * len(table.columns)))
    writer = write_parts(run, len(table), size, part, "inputs")
    variant = f"from the file of {inputs['arrays'].name}"
    summary = neuron_summary(table.columns, known, variant, len(table))
    if table.trained is not None:
        summary["trained"] = "training_input", np.array(table.trained, dtype=object)
    return writer.finish(summary.assign_attrs({ROW_NAMES: told}))


def _known_concepts(table: NamedArray, config: ImportActivationsConfig, name: str) -> Sequence[str]:
    if config.known == "file":
        return table.right_concepts
    if not table.are_columns_named:
        raise ArrayFileError(
            f"known = 'name' joins neurons to labels by name, and the columns of {name!r} have "
            f"none: expected an array 'name' in the file, or names = … in [datasets.{name}]"
        )
    return table.columns


def name_rows(table: NamedArray, split: str, name: str) -> tuple[Ids, str]:
    """Return the names of a table's rows, and where they are from.

    Parameters
    ----------
    table : NamedArray
        What is imported.
    split : str
        Begins the names of rows that are only counted.
    name : str
        What the table is called.

    Returns
    -------
    ids : ndarray of str, (image,)
        Names that are only counted are those of this table, or of tables of as many rows that are
        declared to have the same ``rows``, so that they join nothing else.
    source : str
        ``file``, ``counted``, or what ``rows`` is.
    """
    if table.are_rows_named:
        return table.inputs, FILE
    if not table.rows_of:
        names = f"are named {table.counter}" if table.counter else "have no names"
        sys.stdout.write(
            f"The rows of {name!r} {names}: counted, they join nothing. A word that tables "
            f'share, rows = "…" in [datasets.{name}], says that their rows are the same.\n'
        )
    count, called = len(table), table.rows_of or name
    ids = [f"{split}/{called} {row:05d} of {count}" for row in range(count)]
    return np.array(ids, dtype=str), table.rows_of or COUNTED


def tell_constant(table: NamedArray, name: str) -> None:
    """Tell which columns of a table are constant: as they are, or in single precision alone.

    Parameters
    ----------
    table : NamedArray
        What is imported.
    name : str
        What the table is called.
    """
    size = max(1, SHARD_BYTES // (8 * len(table.columns)))
    parts = [np.asarray(table.values[i : i + size]) for i in range(0, len(table), size)]
    if not parts:
        return
    low = np.min([part.min(axis=0) for part in parts], axis=0)
    high = np.max([part.max(axis=0) for part in parts], axis=0)
    _tell_columns(table, low == high, f"constant in {name!r}, of no use to tell inputs apart")
    lost = (low != high) & (low.astype(np.float32) == high.astype(np.float32))
    _tell_columns(
        table,
        lost,
        f"no longer varying in the single precision in which {name!r} is imported: take a constant "
        "away from such columns before, or scores of them are undefined",
    )


def _tell_columns(table: NamedArray, are: NDArray[np.bool_], what: str) -> None:
    """Tell how many columns are something, and the first of them."""
    if number := int(are.sum()):
        first = table.columns[int(are.argmax())]
        sys.stdout.write(
            f"{counted(number, 'column is', 'columns are')} {what}: {first!r}"
            f"{' and others' if number > 1 else ''}.\n"
        )


def activation_part(values: NDArray[np.float32], ids: Ids) -> xr.Dataset:
    """Return a part of the schema ``activations`` with values (image, neuron)."""
    coords = {"image": ids.astype(object), "neuron": np.arange(values.shape[1])}
    return xr.Dataset({"activation": (("image", "neuron"), values)}, coords)


def neuron_summary(
    names: Sequence[str], known: Sequence[str], variant: str, n_images: int
) -> xr.Dataset:
    """Return what the schema ``activations`` says of neurons; "" where no concept is ``known``."""
    return xr.Dataset(
        {
            "name": ("neuron", np.array(names, dtype=object)),
            "right_concept": ("neuron", np.array(known, dtype=object)),
            "variant": variant,
            "n_images": n_images,
            "n_neurons": len(names),
            "n_known": sum(map(bool, known)),
        }
    )


def import_labels(config: ImportConfig, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    """Take a file's table of labels, whose values are 0, 1, or probabilities."""
    table: NamedArray = inputs["arrays"].load()
    ids, told = name_rows(table, config.split, inputs["arrays"].name)
    tell_constant(table, inputs["arrays"].name)
    labels = label_part(table.rows(slice(0, None)), ids, table.columns)
    return labels.assign_attrs({ROW_NAMES: told})


def label_inputs(
    config: InputLabelConfig, inputs: registry.Inputs, run: registry.Run
) -> xr.Dataset:
    """Take the labels that a data set has for its images, or some of them.

    Raises
    ------
    ValueError
        If no label is called as one of ``config.only``.
    """
    images: ImageDataset = inputs["images"].load()
    labels = images.concepts(config.split).transpose("image", "label")
    if config.only:
        labels = labels.isel(label=_matching(labels["label"].values.tolist(), config.only))
    values = labels.values.astype(np.float32)
    return label_part(values, labels["image"].values, labels["label"].values.tolist())


def _matching(names: Sequence[str], patterns: Sequence[str]) -> list[int]:
    """Return the places of the names that one of the patterns matches, in their order."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"only: no label is called {pattern!r}{nearest(pattern, names)}")
    return [
        index
        for index, name in enumerate(names)
        if any(fnmatchcase(name, pattern) for pattern in patterns)
    ]


def label_part(values: NDArray[np.float32], ids: Ids, names: Sequence[str]) -> xr.Dataset:
    """Return a part of the schema ``labels`` with values (image, label).

    Raises
    ------
    RangeError
        If one is neither 0 or 1 nor a probability.
    """
    require_unit_interval(values, "labels")
    coords = {"image": ids.astype(object), "label": np.array(names, dtype=object)}
    return xr.Dataset({"value": (("image", "label"), values)}, coords)
