"""Activations and labels as datasets: from tables that were made elsewhere, and of data sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import registry
from fact.data.array_file import NamedArray
from fact.data.config import ImportActivationsConfig, ImportConfig, LabelConfig
from fact.data.images import Ids, ImageDataset, write_parts
from registry.store.shards import Shards

SHARD_BYTES = 64 * 2**20


def import_activations(
    config: ImportActivationsConfig, inputs: registry.Inputs, run: registry.Run
) -> Shards:
    """Take a file's table of activations, shard by shard."""
    table: NamedArray = inputs["arrays"].load()
    known = table.columns if config.known == "name" else table.right_concepts
    ids = table.image_ids(config.split)

    def part(_index: int, rows: slice) -> xr.Dataset:
        return activation_part(table.rows(rows), ids[rows])

    size = max(1, SHARD_BYTES // (4 * len(table.columns)))
    writer = write_parts(run, len(table), size, part, "inputs")
    variant = f"from the file of {inputs['arrays'].name}"
    return writer.finish(neuron_summary(table.columns, known, variant, len(table)))


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
    values = table.rows(slice(0, None))
    outside = int(((values < 0) | (values > 1)).sum())
    if outside:
        raise ValueError(f"{outside} labels are outside [0, 1]; expected 0, 1, or probabilities")
    return label_part(values, table.image_ids(config.split), table.columns)


def label_inputs(config: LabelConfig, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    """Take the labels that a data set has for its images."""
    images: ImageDataset = inputs["images"].load()
    labels = images.concepts(config.split).transpose("image", "label")
    values = labels.values.astype(np.float32)
    return label_part(values, labels["image"].values, labels["label"].values.tolist())


def label_part(values: NDArray[np.float32], ids: Ids, names: Sequence[str]) -> xr.Dataset:
    """Return a part of the schema ``labels`` with values (image, label)."""
    coords = {"image": ids.astype(object), "label": np.array(names, dtype=object)}
    return xr.Dataset({"value": (("image", "label"), values)}, coords)
