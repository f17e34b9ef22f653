"""Where in the image a concept, or a logit, is: weights, maps and colour pictures.

With the dynamic weights frozen, a gradient at the image *is* the weight of each of its values, so
that weight times image, summed over colours, is a map that adds up to what it explains. Sources:
Parchami-Araghi et al., "FaCT", NeurIPS 2025, arXiv 2510.25512, section 3; colour pictures: Böhle
et al., "B-cos Networks", CVPR 2022, appendix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
import torch
import xarray as xr
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor, nn

from fact.networks.arrays import AnyArray, as_numpy, checked_labels, image_ids, slices, take
from fact.networks.network import Network, as_network
from fact.sae.model import TopKSAE
from fact.traces.spliced import SplicedPass, Target, forward_spliced, picks

COLOURS = ("red", "green", "blue", "not_red", "not_green", "not_blue")
"""Channels of an encoded image."""

RGBA = ("red", "green", "blue", "alpha")
"""Channels of a colour picture."""

EPSILON = 1e-12
"""Carried by the denominators of a colour picture, so that an empty one is transparent."""

Explained = Literal["presence", "contribution"]


def concept_maps(
    network: Network | nn.Module,
    layer: str,
    sae: TopKSAE | None,
    images: AnyArray,
    concepts: AnyArray,
    *,
    of: Explained = "presence",
    target: Target = "prediction",
    labels: AnyArray | None = None,
    against: Target | None = None,
    batch_size: int = 32,
) -> xr.Dataset:
    """Return where each concept is in each image.

    Parameters
    ----------
    network : Network or Module
        A B-cos network; it is spliced and frozen only while this function runs.
    layer : str
        Name of the layer whose output the concepts replace.
    sae : TopKSAE or None
        The concepts; None takes the layer's own channels.
    images : array, Tensor or DataArray
        As :func:`fact.traces.contributions.trace_concepts` takes them.
    concepts : array of int
        ``(concept,)``, the same for every image, or ``(image, rank)``, of each image its own.
    of : str
        Maps of the "presence", or of the "contribution" to the target's logit.
    target, labels, against
        The logit of contributions, or the difference of two, as in
        :func:`fact.traces.contributions.trace_concepts`.
    batch_size : int
        Images at a time; bounds the memory.

    Returns
    -------
    Dataset
        ``weights`` (image, concept, colour, y, x), the derivative by the encoded image; ``map``
        (image, concept, y, x), weights times image summed over colours, which for a convolutional
        network sums to ``total`` (image, concept), the presence or contribution. With concepts
        of each image's own, ``rank`` stands for ``concept``, and ``concept`` (image, rank) names
        them.

    Raises
    ------
    LayerError
        If there is no such layer.
    ValueError
        If a concept does not exist, or the target is unknown.
    """
    if of not in ("presence", "contribution"):
        raise ValueError(f"maps of {of!r}; expected 'presence' or 'contribution'")
    network, ids = as_network(network), image_ids(images)
    wanted = _checked_concepts(concepts, len(ids))
    logit_of = _logit_of(network, target, against, labels, images)

    def explain(spliced: SplicedPass, rows: slice) -> _Maps:
        if of == "presence":
            entries = torch.ones_like(spliced.codes.values)
        else:
            entries = spliced.at_codes(logit_of(spliced, rows))
        return _concept_batch(spliced, entries, wanted[rows])

    parts = _each_batch(network, layer, sae, images, batch_size, explain)
    own = as_numpy(concepts).ndim == 2
    dataset = _dataset(parts, ids, ("image", "rank" if own else "concept"), of)
    names = (("image", "rank"), wanted) if own else as_numpy(concepts).astype(np.int64)
    return dataset.assign_coords(concept=names).assign_attrs(network=network.name, layer=layer)


def logit_maps(
    network: Network | nn.Module,
    layer: str,
    sae: TopKSAE | None,
    images: AnyArray,
    *,
    target: Target = "prediction",
    labels: AnyArray | None = None,
    against: Target | None = None,
    batch_size: int = 32,
) -> xr.Dataset:
    """Return where in each image a logit of the spliced network comes from.

    The maps of the contributions of all concepts add up to this one.

    Parameters
    ----------
    network, layer, sae, images, target, labels, against, batch_size
        As in :func:`concept_maps`.

    Returns
    -------
    Dataset
        ``weights`` (image, colour, y, x), ``map`` (image, y, x), which for a convolutional
        network sums to ``total`` (image,), the logit before the bias, or the difference of two.

    Raises
    ------
    LayerError
        If there is no such layer.
    ValueError
        If the target is unknown.
    """
    network, ids = as_network(network), image_ids(images)
    logit_of = _logit_of(network, target, against, labels, images)

    def explain(spliced: SplicedPass, rows: slice) -> _Maps:
        entries = spliced.at_codes(logit_of(spliced, rows))
        total = (entries * spliced.codes.values.detach()).sum(dim=(1, 2))
        return _Maps.of(spliced.at_input(entries)[0], spliced.image, total)

    parts = _each_batch(network, layer, sae, images, batch_size, explain)
    dataset = _dataset(parts, ids, ("image",), "logit before the bias")
    return dataset.assign_attrs(network=network.name, layer=layer)


@overload
def colour_explanation(  # type: ignore[overload-overlap]  # a DataArray is an array too
    weights: xr.DataArray, map: AnyArray, smooth: int = 3, percentile: float = 99.5
) -> xr.DataArray: ...


@overload
def colour_explanation(
    weights: AnyArray, map: AnyArray, smooth: int = 3, percentile: float = 99.5
) -> NDArray[np.floating]: ...


def colour_explanation(
    weights: AnyArray, map: AnyArray, smooth: int = 3, percentile: float = 99.5
) -> xr.DataArray | NDArray[np.floating]:
    """Paint weights as the colours that they look for.

    Per pixel, the weights are divided by the largest of their absolute values and clipped below
    0; then ``rgb = w[:3] / (w[:3] + w[3:])``. Opacity is the L2 norm of the weights over
    colours, 0 where the map is negative, box-smoothed with zeros around the picture, divided by
    its percentile and clipped to [0, 1]. Denominators carry 1e-12.

    Parameters
    ----------
    weights : array
        ``(…, colour, y, x)`` with six colours, as :func:`concept_maps` returns them. A DataArray
        may have its dimensions in any order.
    map : array
        ``(…, y, x)``.
    smooth : int
        Side of the box in pixels, odd; 1 does not smooth. The authors of B-cos take 15 for logits.
    percentile : float
        In [0, 100], of all pixels of a picture, interpolated linearly.

    Returns
    -------
    array
        ``(…, y, x, colour)``: red, green, blue, opacity, each in [0, 1]; a DataArray where
        ``weights`` is one, else of NumPy.

    Raises
    ------
    ValueError
        If the weights have not six colours, the shapes do not fit, or ``smooth`` is even.
    """
    if isinstance(weights, xr.DataArray):
        return _labelled_explanation(weights, map, smooth, percentile)
    weights, map = as_numpy(weights), as_numpy(map)
    if smooth < 1 or smooth % 2 == 0:
        raise ValueError(f"smooth {smooth}; expected an odd number of pixels")
    shape = np.shape(weights)
    if len(shape) < 3 or shape[-3] != len(COLOURS) or np.shape(map) != (*shape[:-3], *shape[-2:]):
        raise ValueError(
            f"weights {shape} and map {np.shape(map)}; expected (…, 6, y, x) and (…, y, x)"
        )
    scaled = weights / (np.abs(weights).max(axis=-3, keepdims=True) + EPSILON)
    scaled = np.maximum(scaled, 0)
    looked_for, avoided = scaled[..., :3, :, :], scaled[..., 3:, :, :]
    rgb = looked_for / (looked_for + avoided + EPSILON)
    strength = np.where(map < 0, 0, np.linalg.norm(weights, axis=-3))
    opacity = _box_mean(strength, smooth)
    top = np.percentile(opacity, percentile, axis=(-2, -1), keepdims=True)
    opacity = np.clip(opacity / (top + EPSILON), 0, 1)
    picture = np.concatenate([rgb, opacity[..., None, :, :]], axis=-3)
    return np.moveaxis(picture, -3, -1).astype(np.result_type(weights), copy=False)


def _labelled_explanation(
    weights: xr.DataArray, map: AnyArray, smooth: int, percentile: float
) -> xr.DataArray:
    if not isinstance(map, xr.DataArray):
        lead = [dim for dim in weights.dims if dim not in ("colour", "y", "x")]
        map = xr.DataArray(as_numpy(map), dims=(*lead, "y", "x"))
    picture: xr.DataArray = xr.apply_ufunc(
        lambda w, m: colour_explanation(w, m, smooth, percentile),
        weights.drop_vars("colour", errors="ignore").compute(),
        map.compute(),
        input_core_dims=[["colour", "y", "x"], ["y", "x"]],
        output_core_dims=[["y", "x", "colour"]],
        exclude_dims={"colour"},
    )
    picture.attrs = {"long_name": "colour picture of the weights", "units": "1"}
    return picture.assign_coords(colour=list(RGBA))


def _box_mean(pictures: NDArray[np.floating], side: int) -> NDArray[np.floating]:
    """Mean over a square around each pixel of ``(…, y, x)``, zeros around the picture."""
    for axis in (-2, -1):
        edges = [(0, 0)] * pictures.ndim
        edges[axis] = (side // 2, side // 2)
        pictures = sliding_window_view(np.pad(pictures, edges), side, axis=axis).mean(axis=-1)
    return pictures


@dataclass(frozen=True)
class _Maps:
    """Weights ``(image, …, colour, y, x)``, their map without colour, and what it adds up to."""

    weights: NDArray[np.floating]
    map: NDArray[np.floating]
    total: NDArray[np.floating]

    @classmethod
    def of(cls, weights: Tensor, image: Tensor, total: Tensor) -> _Maps:
        product = (weights * image.detach()).sum(dim=-3)
        return cls(*(tensor.detach().cpu().numpy() for tensor in (weights, product, total)))


def _each_batch(
    network: Network,
    layer: str,
    sae: TopKSAE | None,
    images: AnyArray,
    batch_size: int,
    explain: Callable[[SplicedPass, slice], _Maps],
) -> list[_Maps]:
    parts = []
    for rows in slices(len(image_ids(images)), batch_size):
        encoded = network.encode(take(images, rows))
        with torch.enable_grad():
            parts.append(explain(forward_spliced(network, layer, sae, encoded), rows))
    return parts


def _logit_of(
    network: Network,
    target: Target,
    against: Target | None,
    labels: AnyArray | None,
    images: AnyArray,
) -> Callable[[SplicedPass, slice], Tensor]:
    """Return what takes a pass of some of the images to the logit ``(image,)`` to explain."""
    known = None if labels is None else checked_labels(labels, images)

    def of(spliced: SplicedPass, rows: slice) -> Tensor:
        return spliced.explain(*picks(network, target, against, known, rows)).logit

    return of


def _concept_batch(spliced: SplicedPass, entries: Tensor, wanted: NDArray[np.int64]) -> _Maps:
    concepts, codes = spliced.concepts, spliced.codes
    if wanted.size and not 0 <= wanted.min() <= wanted.max() < concepts.count:
        raise ValueError(
            f"concepts {wanted.min()} to {wanted.max()}; expected 0 to {concepts.count - 1}"
        )
    weights, totals = [], []
    for column in torch.tensor(wanted, device=entries.device).unbind(dim=1):
        own = entries * concepts.selects(codes, column)
        weights.append(spliced.at_input(own, keep=True)[0])
        totals.append((own * codes.values.detach()).sum(dim=(1, 2)))
    return _Maps.of(torch.stack(weights, 1), spliced.image.unsqueeze(1), torch.stack(totals, 1))


def _checked_concepts(concepts: AnyArray, count: int) -> NDArray[np.int64]:
    """Return concepts as ``(image, rank)``."""
    array = given = as_numpy(concepts)
    if array.ndim == 1:
        array = np.broadcast_to(array, (count, len(array)))
    if array.ndim != 2 or len(array) != count or (not array.size and count):
        raise ValueError(
            f"concepts of shape {given.shape}; expected (concept,), at least one, or "
            f"(image, rank) for {count} images"
        )
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"concepts of type {array.dtype}; expected indices")
    return array.astype(np.int64)


def _dataset(parts: list[_Maps], ids: np.ndarray, lead: tuple[str, ...], what: str) -> xr.Dataset:
    def whole(name: str, dims: tuple[str, ...], long_name: str) -> xr.Variable:
        array = np.concatenate([getattr(part, name) for part in parts])
        return xr.Variable((*lead, *dims), array, {"long_name": long_name, "units": "1"})

    return xr.Dataset(
        {
            "weights": whole("weights", ("colour", "y", "x"), f"derivative of the {what}"),
            "map": whole("map", ("y", "x"), f"part of each pixel in the {what}"),
            "total": whole("total", (), what),
        },
        coords={"image": ids, "colour": list(COLOURS)},
    )
