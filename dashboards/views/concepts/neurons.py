"""Neurons that are no concepts of an SAE, in the form of concepts, so that pages show them alike.

They are channels of a layer, logits, or columns of a file: datasets of the schema ``activations``.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from fact.traces.by_concept import READ_CELLS, read_rows

MARK = "largest_activation"
"""What statistics and tables have of neurons alone."""


def as_concepts(dataset: xr.Dataset) -> xr.Dataset:
    """Return activations of neurons as presences of concepts; what are concepts, as it is."""
    if "activation" not in dataset:
        return dataset
    return dataset.rename(neuron="concept", activation="presence", name="own_name")


def with_statistics(neurons: xr.Dataset) -> xr.Dataset:
    """Return neurons with their mean and largest activation over images; each image is read once.

    Parameters
    ----------
    neurons : xr.Dataset
        As :func:`as_concepts` returns them.

    Returns
    -------
    xr.Dataset
        With ``mean_activation`` and ``largest_activation`` (concept); NaN where all are.
    """
    presence, count = neurons["presence"], neurons.sizes["concept"]
    total, known = np.zeros(count), np.zeros(count, dtype=np.int64)
    largest = np.full(count, -np.inf)
    step = max(1, READ_CELLS // max(count, 1))
    for start in range(0, neurons.sizes["image"], step):
        values = read_rows(presence, start, start + step).astype(np.float64)
        there = ~np.isnan(values)
        total += np.where(there, values, 0).sum(axis=0)
        known += there.sum(axis=0)
        largest = np.maximum(largest, np.where(there, values, -np.inf).max(axis=0, initial=-np.inf))
    with np.errstate(invalid="ignore"):
        mean = total / known
    return neurons.assign(
        {
            "mean_activation": ("concept", mean),
            MARK: ("concept", np.where(known > 0, largest, np.nan)),
        }
    )


def is_of_neurons(statistics: xr.Dataset) -> bool:
    """Return whether a set is of neurons that are no concepts of an SAE."""
    return "own_name" in statistics


def neurons_note(cell: str, statistics: xr.Dataset) -> str:
    """Return what the neurons of a cell are."""
    return (
        f"Neurons of {cell}: {statistics['variant'].item()}. They are no concepts of an SAE: they "
        "have activations, which may be negative, and no contributions."
    )
