"""Bilinear interpolation of maps, and its transpose.

A mean over an up-sampled feature map, weighted by a map of the image's size, is linear in the
features. Instead of making the large feature map, the weights are brought down to the small one by
the transpose of the interpolation: ``sum_p w_p (U f)_p = sum_q (U' w)_q f_q``, the same number.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def resize_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps ``(image, channel, y, x)`` in another size; smoothed where that is smaller.

    The same as torchvision's ``resize`` of a tensor: bilinear, with antialiasing.
    """
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return functional.interpolate(maps, size, mode="bilinear", antialias=True)


def gather_weights(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return what weights over an image weigh on the cells of a smaller feature map.

    Parameters
    ----------
    weights : Tensor
        ``(…, y, x)``.
    grid : tuple of int
        Rows and columns of the feature map, which :func:`resize_maps` would bring to ``(y, x)``.

    Returns
    -------
    Tensor
        ``(…, row, column)``, with the sum of ``weights``.
    """
    if tuple(weights.shape[-2:]) == tuple(grid):
        return weights
    by_row = _interpolation(grid[0], weights.shape[-2], weights)
    by_column = _interpolation(grid[1], weights.shape[-1], weights)
    return by_row.T @ weights @ by_column


def _interpolation(size: int, target: int, like: Tensor) -> Tensor:
    """Return the matrix ``(target, size)`` that interpolates along one axis."""
    # A row for each cell, never a column: torch 2.14 leaves maps one column wide as they are.
    unit_maps = torch.eye(size, dtype=like.dtype, device=like.device)[:, None, None, :]
    return resize_maps(unit_maps, (1, target))[:, 0, 0, :].T
