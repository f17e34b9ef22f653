"""How well concepts reconstruct a layer, and how many inputs and positions each is active on.

All is summed over batches: in float64, so that images weigh the same whatever the batches are.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fact.fidelity.tables import DENSE
from fact.traces.spliced import Codes, Concepts

Sums: TypeAlias = dict[str, NDArray[Any]]
"""What is added up over batches, by name."""


def batch_sums(concepts: Concepts, codes: Codes, positions: Tensor, reconstruction: Tensor) -> Sums:
    """Return the sums of a batch.

    Parameters
    ----------
    concepts, codes : Concepts, Codes
        What stands at the layer.
    positions, reconstruction : Tensor
        ``(image, position, channel)``, of the layer and of its concepts.

    Returns
    -------
    dict of str to ndarray
        ``positions``; ``total`` and ``rest_total`` (channel), sums of the layer's output and of
        what the concepts leave of it; ``square`` and ``rest_square``, sums of squares;
        ``active_positions`` and ``active_images`` (concept).
    """
    counts = concepts.collect(codes, (codes.values > 0).long())
    total, square = _moments(positions)
    rest_total, rest_square = _moments(positions - reconstruction)
    sums: dict[str, Any] = {
        "positions": positions.shape[0] * positions.shape[1],
        "total": total,
        "square": square,
        "rest_total": rest_total,
        "rest_square": rest_square,
        "active_positions": counts.sum(dim=0).cpu().numpy(),
        "active_images": (counts > 0).sum(dim=0).cpu().numpy(),
    }
    return {name: np.asarray(value) for name, value in sums.items()}


def _moments(values: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return sums by channel, and the sum of squares, each added up in float64."""
    flat = values.detach().flatten(0, 1)
    flat = flat.cpu() if flat.device.type == "mps" else flat  # which has no float64
    norm = torch.linalg.vector_norm(flat, dtype=torch.float64)
    return flat.sum(dim=0, dtype=torch.float64).cpu().numpy(), norm.square().cpu().numpy()


def add_sums(before: Sums, own: Sums) -> Sums:
    """Return the sums of batches together."""
    return {name: before.get(name, 0) + value for name, value in own.items()}


def summarise_reconstruction(sums: Sums, n_images: int) -> dict[str, Any]:
    """Return the error of reconstruction, and densities of concepts.

    Parameters
    ----------
    sums : dict of str to ndarray
        Of all batches.
    n_images : int
        How many they are.

    Returns
    -------
    dict of str to array or number
        Variables of the schema ``fidelity``. ``normalised_mse`` is the squared error over that of
        always giving the mean; ``explained_variance`` is as in training. Both are NaN of a layer
        that is the same everywhere.
    """
    count = float(sums["positions"])
    active, images = sums["active_positions"] / count, sums["active_images"] / n_images
    variance = _variance(sums["total"], sums["square"], count)
    error = _variance(sums["rest_total"], sums["rest_square"], count)
    return {
        "position_density": ("concept", active),
        "image_density": ("concept", images),
        "normalised_mse": _share(float(sums["rest_square"]), variance),
        "explained_variance": 1 - _share(error, variance),
        "l0": float(active.sum()),
        "dead_concepts": int((sums["active_positions"] == 0).sum()),
        "dense_concepts": int((active > DENSE).sum()),
        "n_concepts": len(active),
        "n_positions": int(count),
    }


def _variance(total: NDArray[np.float64], square: NDArray[np.float64], count: float) -> float:
    """Return the sum of squared deviations from the mean, of all channels."""
    spread = float(square - np.square(total).sum() / count)
    return spread if spread > 1e-12 * float(square) else 0.0  # what rounding leaves of none


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else float("nan")
