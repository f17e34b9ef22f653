"""Where a concept is, by the positions of its codes: up-sampled to the image, nothing lost.

Of a network that is not linear in its frozen weights, no gradient at the image adds up to a
presence. Its codes still have places: those of the layer's map, or of the tokens. Each position is
spread over the pixels by the bilinear kernel around it, which holds all of it: maps of all concepts
add up to the map of their sum, and a map to what stands at its positions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fact.networks.layers import LayerError, grid_shape


def upsample_positions(values: Tensor, output: Tensor, size: tuple[int, int]) -> Tensor:
    """Spread what stands at the positions of a layer over the pixels of the image.

    Parameters
    ----------
    values : Tensor
        ``(image, position)``.
    output : Tensor
        The layer's output, which says how positions lie: in a map ``(image, channel, y, x)``, in
        tokens ``(image, token, channel)`` of a square grid, with a class token before them or
        without, or in a vector ``(image, channel)``, which is everywhere alike.
    size : tuple of int
        Rows and columns of the image, in pixels.

    Returns
    -------
    Tensor
        ``(image, y, x)``, whose sum is that of the values, but for a class token's, which has no
        place.

    Raises
    ------
    LayerError
        If tokens lie in no square.
    """
    rows, columns = grid_shape(output)
    if output.ndim == 3 and columns == 1 and rows > 1:
        values = values[:, 1:]
        rows, columns = grid_shape(output[:, 1:])
        if rows != columns:
            raise LayerError(
                f"{output.shape[1]} tokens, which lie in no square, with a class token or without: "
                "codes cannot be mapped; map by another way"
            )
    cells = values.reshape(-1, rows, columns)
    down, across = _kernels(rows, size[0], cells), _kernels(columns, size[1], cells)
    return torch.einsum("nrc,yr,xc->nyx", cells, down, across)


def _kernels(count: int, size: int, like: Tensor) -> Tensor:
    """Bilinear weights ``(pixel, position)`` along an axis, those of a position adding up to 1."""
    unit = torch.eye(count, dtype=like.dtype, device=like.device).unsqueeze(0)
    weights = functional.interpolate(unit, size=size, mode="linear", align_corners=False)[0].T
    return weights / weights.sum(dim=0)
