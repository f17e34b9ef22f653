"""A foundation model that sees images, and its mean features where a map is: encodings.

The encoding of an image and a map is the mean of the model's feature map, up-sampled to the
image's size, weighted by the positive part of the map. Source: Parchami-Araghi et al., "FaCT",
NeurIPS 2025, arXiv 2510.25512, section 5.

That mean is linear in the features. Instead of making the large feature map, the weights are
brought down to the small one by the transpose of the bilinear interpolation:
``sum_p w_p (U f)_p = sum_q (U' w)_q f_q``, the same number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fact.data.config import Precision
from fact.data.images import Pixels
from fact.encode.encoders import EncoderChoice
from fact.networks.arrays import AnyArray, Dims, as_numpy, image_ids, slices
from fact.networks.network import OF_IMAGENET, choose_device
from fact.networks.precision import computing_in, exact
from registry.wording import counted


@dataclass(frozen=True)
class FeatureMap:
    """Features of one image.

    Attributes
    ----------
    values : Tensor
        ``(channel, row, column)``, up-sampled or still to be interpolated to the image's size.
    size : tuple of int
        Rows and columns of the image.
    """

    values: Tensor
    size: tuple[int, int]

    def encode(self, weights: NDArray[np.floating] | Tensor) -> NDArray[np.float32]:
        """Return the mean feature (map, channel) under weights (map, y, x).

        Weights below 0 count as 0. Maps of another size are interpolated to the image's. Where
        nothing is above 0, the encoding is NaN.
        """
        maps = self.resize(weights)
        gathered = gather_weights(maps, (self.values.shape[1], self.values.shape[2]))
        sums = gathered.flatten(1) @ self.values.to(gathered).flatten(1).T
        encodings: NDArray[np.float64] = (sums / maps.sum(dim=(1, 2))[:, None]).cpu().numpy()
        return encodings.astype(np.float32)

    def resize(self, weights: NDArray[np.floating] | Tensor) -> Tensor:
        """Return the positive part of weights (map, y, x) in the image's size."""
        double = torch.float32 if self.values.device.type == "mps" else torch.float64
        given = weights if isinstance(weights, Tensor) else np.ascontiguousarray(weights)
        maps = torch.as_tensor(given).to(self.values.device, double)
        return resize_maps(maps.clamp(min=0)[None], self.size)[0]


class ImageEncoder:
    """A foundation model with an up-sampler, on a device.

    Parameters
    ----------
    choice : EncoderChoice
        Which ones.
    device : torch.device
        Where they run.
    precision : str
        In which they compute; features are float32.

    Raises
    ------
    UntrustedCodeError
        If they run code from outside that nobody has trusted.
    """

    def __init__(
        self, choice: EncoderChoice, device: torch.device, precision: Precision = "float32"
    ):
        choice.require_trust()
        self.choice = choice
        self.device, self.precision = device, precision
        encoder, upsampler = choice.rows
        self._multiple = max(encoder.multiple, upsampler.multiple)
        self._encode, self._upsample = encoder.load(device), upsampler.load(device)

    @torch.no_grad()
    def features(self, pictures: Sequence[Pixels] | Pixels) -> Iterator[FeatureMap]:
        """Yield the feature map of each image, uint8 (y, x, colour), of the same or other sizes.

        Images of one size go through the encoder together; the up-sampler takes each alone when
        it is asked for, since a feature map of the image's size is large.
        """
        by_size: dict[tuple[int, ...], list[int]] = {}
        for number, picture in enumerate(pictures):
            by_size.setdefault(picture.shape, []).append(number)
        seen: dict[int, tuple[Tensor, Tensor]] = {}
        for numbers in by_size.values():
            images = self._normalised(np.stack([pictures[number] for number in numbers]))
            with computing_in(self.precision, self.device):
                encoded = exact(self._encode(images))
            pairs = zip(encoded[:, None], images[:, None], strict=True)
            seen.update(zip(numbers, pairs, strict=True))
        for number, picture in enumerate(pictures):
            features, image = seen.pop(number)
            height, width = picture.shape[:2]
            with computing_in(self.precision, self.device):
                up = exact(self._upsample(features, image)[0])
            yield FeatureMap(up, (height, width))

    def _normalised(self, pictures: Pixels) -> Tensor:
        """Return images (image, colour, y, x) as the encoder takes them."""
        rgb = torch.as_tensor(pictures).to(self.device).permute(0, 3, 1, 2).float() / 255
        rgb = resize_maps(rgb, self._seen_size(rgb.shape[2], rgb.shape[3]))
        return OF_IMAGENET.apply(rgb)

    def _seen_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size in which the encoder sees an image: its shorter side at ``side``."""
        scale = 1.0 if self.choice.side is None else self.choice.side / min(height, width)
        unit = self._multiple
        height, width = (max(1, round(scale * side / unit)) * unit for side in (height, width))
        return height, width


def encode_maps(
    images: AnyArray | Sequence[AnyArray],
    maps: AnyArray | Sequence[AnyArray],
    choice: EncoderChoice | None = None,
    *,
    device: str = "auto",
    batch_size: int = 16,
) -> xr.DataArray:
    """Return the encoding of each image where its map is: what :func:`evals.c2_score` compares.

    Parameters
    ----------
    images : array or sequence of array
        uint8 RGB, each ``(y, x, colour)``, of any library; a DataArray has a dimension ``image``.
    maps : array or sequence of array
        Of one concept in each image, each ``(y, x)`` in any size; what is below 0 counts as 0.
    choice : EncoderChoice, optional
        Encoder and up-sampler; EfficientNet-Lite0 and bilinear interpolation by default.
    device : str
        ``auto``, ``cpu``, ``cuda``, ….
    batch_size : int
        Images at a time.

    Returns
    -------
    DataArray
        ``(image, feature)``; NaN where a map has no positive part.

    Raises
    ------
    ValueError
        If there are not as many maps as images.
    UntrustedCodeError
        If code from outside would be run that nobody has trusted.
    """
    pictures = _each(images, ("image", "y", "x", "colour"))
    weights = _each(maps, ("image", "y", "x"))
    if len(pictures) != len(weights):
        raise ValueError(
            f"{counted(len(pictures), 'image')} and {counted(len(weights), 'map')}; expected as "
            "many"
        )
    choice = choice or EncoderChoice()
    encoder = ImageEncoder(choice, choose_device(device))
    rows: list[NDArray[np.float32]] = []
    for own in slices(len(pictures), batch_size) if pictures else ():
        seen = encoder.features(pictures[own])
        rows += [s.encode(w[None]) for s, w in zip(seen, weights[own], strict=True)]
    values = np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)
    attrs = {"long_name": "mean feature where the map is", "units": "1", "encoder": str(choice)}
    coords = {"image": image_ids(images)} if isinstance(images, xr.DataArray) else None
    return xr.DataArray(values, coords, dims=("image", "feature"), attrs=attrs)


def _each(arrays: AnyArray | Sequence[AnyArray], dims: Dims) -> list[NDArray[Any]]:
    """Return arrays along the first dimension; those of a sequence may differ in size."""
    if isinstance(arrays, list | tuple):
        return [as_numpy(array, dims[1:]) for array in arrays]
    return list(as_numpy(cast(AnyArray, arrays), dims))


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
