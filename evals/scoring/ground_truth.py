"""The ground-truth concept of each neuron, as a name or as an index among the labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from evals.kernels.arrays import AlignmentError, to_labelled
from evals.kernels.containers import AnyArray, Shaped
from evals.scoring.labelled import quote_some, take_concepts
from registry.arrays import to_numpy
from registry.suggest import nearest

UNKNOWN = -1
"""Index of a concept that is not known."""


def take_right(
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
                f"nothing is known of {len(missing)} neurons: {quote_some(missing)}"
            )
        array = array.isel({dim: index})
    if array.size != n_neurons:
        raise AlignmentError(f"expected {what} for each of {n_neurons} neurons; got {array.size}")
    return to_numpy(array)


def right_places(right_concept: Shaped | Sequence[str], labels: AnyArray) -> np.ndarray:
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
            raise ValueError(f"the right concept {name!r} of neuron {neuron} is no label{hint}")
    return np.array([index[name] for name in names.tolist()], dtype=np.int64)


def require_right(right: AnyArray, shape: tuple[int, ...]) -> np.ndarray:
    """Return indices of ground-truth concepts as int64, if they fit scores (neuron, concept).

    Raises
    ------
    ValueError
        If they do not, or no neuron is known.
    """
    indices = to_numpy(right)
    if indices.shape != shape[:1] or indices.dtype.kind not in "iu":
        raise ValueError(
            f"expected an index for each of {shape[0]} neurons; "
            f"got shape {indices.shape} of {indices.dtype}"
        )
    if indices.size and (indices.min() < UNKNOWN or indices.max() >= shape[1]):
        raise ValueError(
            f"a right concept lies in 0 to {shape[1] - 1}, or is {UNKNOWN} where not known; "
            f"got {indices.min()} to {indices.max()}"
        )
    if (indices == UNKNOWN).all():
        raise ValueError("expected at least one neuron whose concept is known; got none")
    return indices.astype(np.int64)
