"""Activations and labels as datasets: from tables that were made elsewhere, and of data sets."""

from __future__ import annotations

import numpy as np
import xarray as xr

import registry
from fact.data.array_file import NamedArray
from fact.data.config import ImportActivationsConfig, ImportConfig, LabelConfig
from fact.data.images import ImageDataset
from registry.store.shards import Shards

SHARD_BYTES = 64 * 2**20


def import_activations(
    config: ImportActivationsConfig, inputs: registry.Inputs, run: registry.Run
) -> Shards:
    """Take a file's table of activations, shard by shard."""
    table: NamedArray = inputs["arrays"].load()
    known = table.columns if config.known == "name" else table.right_concepts
    ids, writer = table.image_ids(config.split), run.shards()
    size = max(1, SHARD_BYTES // (4 * len(table.columns)))
    for index, start in enumerate(range(0, len(table), size)):
        rows = slice(start, start + size)
        if index not in writer.done:
            part = xr.Dataset(
                {"activation": (("image", "neuron"), table.rows(rows))},
                {"image": ids[rows].astype(object), "neuron": np.arange(len(table.columns))},
            )
            writer.append(part, index)
        run.progress(min(start + size, len(table)), len(table), "inputs")
    summary = xr.Dataset(
        {
            "name": ("neuron", np.array(table.columns, dtype=object)),
            "right_concept": ("neuron", np.array(known, dtype=object)),
            "variant": f"from the file of {inputs['arrays'].name}",
            "n_images": len(table),
            "n_neurons": len(table.columns),
            "n_known": sum(map(bool, known)),
        }
    )
    return writer.finish(summary)


def import_labels(config: ImportConfig, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    """Take a file's table of labels, whose values are 0, 1, or probabilities."""
    table: NamedArray = inputs["arrays"].load()
    values = table.rows(slice(0, None))
    outside = int(((values < 0) | (values > 1)).sum())
    if outside:
        raise ValueError(f"{outside} labels are outside [0, 1]; expected 0, 1, or probabilities")
    coords = {
        "image": table.image_ids(config.split).astype(object),
        "label": np.array(table.columns, dtype=object),
    }
    return xr.Dataset({"value": (("image", "label"), values)}, coords)


def label_inputs(config: LabelConfig, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    """Take the labels that a data set has for its images."""
    images: ImageDataset = inputs["images"].load()
    labels = images.concepts(config.split)
    coords = {name: labels[name].values.astype(object) for name in ("image", "label")}
    values = labels.astype("float32").drop_attrs()
    return values.to_dataset(name="value").assign_coords(coords)
