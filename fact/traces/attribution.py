"""Where in the image a concept, or a logit, is: weights, maps and colour pictures.

With the dynamic weights frozen, a gradient at the image *is* the weight of each of its values, so
that weight times image, summed over colours, is a map that adds up to what it explains. Where a
network is not linear, maps are up-sampled codes (:mod:`fact.traces.code_maps`), or relevance that
is handed back from the layer (:mod:`fact.networks.relevance`). Sources: Parchami-Araghi et al.,
"FaCT", NeurIPS 2025, arXiv 2510.25512, section 3; colour pictures: Böhle et al., "B-cos Networks",
CVPR 2022, appendix; relevance: Achtibat et al., "From attribution maps to human-understandable
explanations through Concept Relevance Propagation", Nature Machine Intelligence 5, 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args, overload

import numpy as np
import torch
import xarray as xr
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor, nn

from fact.data.images import Pixels
from fact.networks.arrays import AnyArray, as_numpy, checked_labels, image_ids, slices, take
from fact.networks.layers import from_positions
from fact.networks.linearity import N_IMAGES
from fact.networks.network import Network, as_network
from fact.networks.relevance import propagate_relevance
from fact.sae.model import SAE
from fact.traces.code_maps import upsample_positions
from fact.traces.config import MapsBy
from fact.traces.spliced import ConceptSource, SplicedPass, Target, forward_spliced, picks
from registry.wording import counted

COLOURS = ("red", "green", "blue", "not_red", "not_green", "not_blue")
"""Channels of an encoded image."""

RGBA = (*COLOURS[:3], "alpha")
"""Channels of a colour picture."""

EPSILON = 1e-12
"""Carried by the denominators of a colour picture, so that an empty one is transparent."""

Explained = Literal["presence", "contribution"]

Maps = tuple[NDArray[np.floating] | None, NDArray[np.floating], NDArray[np.floating]]
"""Weights ``(image, …, colour, y, x)`` or None, a map without colour, and what it adds up to."""


Located = tuple[NDArray[np.floating] | None, NDArray[np.floating]]
"""Weights ``(pair, colour, y, x)``, None where there are none, and a map ``(pair, y, x)``."""


def concept_maps(
    network: Network | nn.Module,
    layer: str,
    sae: SAE | None,
    images: AnyArray,
    concepts: AnyArray,
    *,
    of: Explained = "presence",
    target: Target = "prediction",
    labels: AnyArray | None = None,
    against: Target | None = None,
    batch_size: int = 32,
    by: MapsBy = "auto",
) -> xr.Dataset:
    """Return where each concept is in each image.

    Parameters
    ----------
    network : Network or Module
        Spliced and frozen only while this function runs.
    layer : str
        Name of the layer whose output the concepts replace.
    sae : SAE or None
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
    by : str
        ``gradient``: of a network that is linear in its frozen weights the gradient at the image
        is its weight. ``codes``: the codes of the layer's positions, up-sampled (see
        :mod:`fact.traces.code_maps`), for any network. ``auto``: by the gradient where the network
        is linear, by the codes where it is not. ``crp``: what each channel of the layer gives to
        the concepts is its relevance, handed back to the image by the rules of zennit, for
        networks in which every step has one (:mod:`fact.networks.relevance`).

    Returns
    -------
    Dataset
        ``map`` (image, concept, y, x), what each pixel gives; ``total`` (image, concept), the
        presence or contribution. By the gradient also ``weights`` (image, concept, colour, y, x),
        the derivative by the encoded image; the map is weights times image, summed over colours,
        and sums to the total where the network is convolutional and linear, but for the part of
        an encoder's bias, which is in no pixel. By codes it sums to the total too, but for what a
        class token has of it; by CRP, but for what biases took on the way. With concepts of each
        image's own, ``rank`` stands for ``concept``, and ``concept`` (image, rank) names them. The
        attribute ``maps`` says how they were made, ``encoding`` of which encoded image the weights
        are (:attr:`fact.Network.encoding`).

    Raises
    ------
    LayerError
        If there is no such layer.
    NetworkError
        If maps are by CRP, and a step of the network has no rule.
    ValueError
        If a concept does not exist, or the target is unknown.
    """
    if of not in ("presence", "contribution"):
        raise ValueError(f"maps of {of!r}; expected 'presence' or 'contribution'")
    source = _mapped(network, layer, sae, images, by)
    wanted = _checked_concepts(concepts, len(image_ids(images)))
    known = None if labels is None else checked_labels(labels, images)

    def explain(spliced: SplicedPass, rows: slice) -> Maps:
        if of == "presence":
            entries = torch.ones_like(spliced.codes.values)
        else:
            chosen = picks(source.network, target, against, known, rows)
            entries = spliced.at_codes(spliced.explain(*chosen)[0])
        return _concept_batch(source, spliced, entries, wanted[rows])

    own = as_numpy(concepts).ndim == 2
    lead = ("image", "rank" if own else "concept")
    names = (lead, wanted) if own else as_numpy(concepts).astype(np.int64)
    return _explained(source, images, batch_size, explain, lead, of).assign_coords(concept=names)


def logit_maps(
    network: Network | nn.Module,
    layer: str,
    sae: SAE | None,
    images: AnyArray,
    *,
    target: Target = "prediction",
    labels: AnyArray | None = None,
    against: Target | None = None,
    batch_size: int = 32,
    by: MapsBy = "auto",
) -> xr.Dataset:
    """Return where in each image a logit of the spliced network comes from.

    The maps of the contributions of all concepts add up to this one.

    Parameters
    ----------
    network, layer, sae, images, target, labels, against, batch_size, by
        As in :func:`concept_maps`.

    Returns
    -------
    Dataset
        As of :func:`concept_maps`, without the dimension of concepts. ``total`` (image,) is the
        sum of all contributions and of what a decoder's bias gives: of a linear network the logit
        before the bias, or the difference of two. The biases of an SAE are in no pixel.

    Raises
    ------
    LayerError
        If there is no such layer.
    ValueError
        If the target is unknown.
    """
    source = _mapped(network, layer, sae, images, by)
    known = None if labels is None else checked_labels(labels, images)

    def explain(spliced: SplicedPass, rows: slice) -> Maps:
        chosen = picks(source.network, target, against, known, rows)
        logit = spliced.explain(*chosen)[0]
        offset, entries = spliced.offset(logit), spliced.at_codes(logit)
        weights, values, total = _place(source, spliced, entries)
        return weights, values, total if offset is None else total + offset.cpu().numpy()

    return _explained(source, images, batch_size, explain, ("image",), "logit before the bias")


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
    0; then ``rgb = w[:3] / (w[:3] + w[3:])``, whether they are of colours in [0, 1] or of
    normalised ones: a colour and its complement are divided by the same deviation. Opacity is the
    L2 norm of the weights over colours, 0 where the map is negative, box-smoothed with zeros around
    the picture, divided by its percentile and clipped to [0, 1]. Denominators carry 1e-12.

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
    opacity = _opacity(strength, smooth, percentile)
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


def _opacity(
    strength: NDArray[np.floating], smooth: int, percentile: float
) -> NDArray[np.floating]:
    """Return strengths (…, y, x), smoothed, over their percentile, in [0, 1]."""
    smoothed = _box_mean(strength, smooth)
    top = np.percentile(smoothed, percentile, axis=(-2, -1), keepdims=True)
    return np.asarray(np.clip(smoothed / (top + EPSILON), 0, 1))


def _box_mean(pictures: NDArray[np.floating], side: int) -> NDArray[np.floating]:
    """Mean over a square around each pixel of ``(…, y, x)``, zeros around the picture."""
    for axis in (-2, -1):
        edges = [(0, 0)] * pictures.ndim
        edges[axis] = (side // 2, side // 2)
        pictures = sliding_window_view(np.pad(pictures, edges), side, axis=axis).mean(axis=-1)
    return pictures


def highlight(
    pictures: AnyArray, map: AnyArray, smooth: int = 3, percentile: float = 99.5
) -> NDArray[np.floating]:
    """Show pictures where a map is, and leave them transparent where it is not.

    For maps that come without weights, whose colours would say what is looked for. Opacity is the
    map, 0 where it is negative, box-smoothed with zeros around the picture, divided by its
    percentile and clipped to [0, 1]. Denominators carry 1e-12.

    Parameters
    ----------
    pictures : array of uint8
        ``(…, y, x, colour)``, which may be broadcast against the maps.
    map : array
        ``(…, y, x)``.
    smooth, percentile
        As of :func:`colour_explanation`.

    Returns
    -------
    ndarray
        ``(…, y, x, colour)``: red, green, blue, opacity, each in [0, 1].
    """
    values, colours = as_numpy(map), as_numpy(pictures)
    opacity = _opacity(np.maximum(values, 0), smooth, percentile)
    rgb = np.broadcast_to(colours / 255, (*values.shape, 3))
    return np.concatenate([rgb, opacity[..., None]], axis=-1).astype(values.dtype, copy=False)


def paint(
    weights: NDArray[np.floating] | None,
    values: NDArray[np.floating],
    pictures: Pixels,
    smooth: int,
) -> NDArray[np.uint8]:
    """Return a picture of a map (…, y, x) as bytes (…, y, x, rgba).

    With weights of six colours (…, 6, y, x) in the colours that they look for; else in those of
    the pictures (…, y, x, colour).
    """
    if weights is not None and weights.shape[-3] == len(COLOURS):
        picture = colour_explanation(weights, values, smooth=smooth)
    else:
        picture = highlight(pictures, values, smooth)
    return np.asarray(np.rint(255 * picture).astype(np.uint8))


def pixel_coordinates() -> dict[str, NDArray[np.object_]]:
    """Return the coordinates of pictures and of explanations."""
    names = (*COLOURS[:3], "opacity")
    return {"colour": np.array(names[:3], dtype=object), "rgba": np.array(names, dtype=object)}


def pair_maps(source: ConceptSource, pictures: Pixels, concepts: NDArray[np.int64]) -> Located:
    """Return where one concept is in each picture: weights (pair, colour, y, x), map (pair, y, x).

    There are no weights where maps are of codes, or by CRP.

    Parameters
    ----------
    source : ConceptSource
        What the concepts are of, and how they are mapped.
    pictures : ndarray of uint8, (pair, y, x, colour)
        In the network's geometry; all are explained at once.
    concepts : ndarray of int64, (pair,)
        The concept of each.
    """
    given = source.network, source.layer, source.sae, pictures, concepts[:, None]
    found = concept_maps(*given, batch_size=len(concepts), by=source.maps)
    weights = found["weights"].values[:, 0] if "weights" in found else None
    return weights, found["map"].values[:, 0]


def _mapped(
    network: Network | nn.Module, layer: str, sae: SAE | None, images: AnyArray, by: MapsBy
) -> ConceptSource:
    """Return concepts with their way of mapping; a network's linearity is found out if need be.

    Raises
    ------
    ValueError
        If there is no such way.
    """
    if by not in get_args(MapsBy):
        raise ValueError(f"maps by {by!r}; expected one of {', '.join(get_args(MapsBy))}")
    few = take(images, slice(0, N_IMAGES))
    return ConceptSource(as_network(network), layer, sae, by).probed(few)


def _explained(
    source: ConceptSource,
    images: AnyArray,
    batch_size: int,
    explain: Callable[[SplicedPass, slice], Maps],
    lead: tuple[str, ...],
    what: str,
) -> xr.Dataset:
    """Explain batch after batch, and label what comes: dimensions ``lead``, then colour, y, x."""
    parts = []
    for rows in slices(len(image_ids(images)), batch_size):
        encoded = source.network.encode(take(images, rows))
        with torch.enable_grad():
            parts.append(explain(forward_spliced(source, encoded), rows))
    weights, *others = zip(*parts, strict=True)
    values, total = map(np.concatenate, others)

    def labelled(array: NDArray[np.floating], dims: tuple[str, ...], meaning: str) -> xr.Variable:
        return xr.Variable((*lead, *dims), array, {"long_name": meaning, "units": "1"})

    found = xr.Dataset(
        {
            "map": labelled(values, ("y", "x"), f"part of each pixel in the {what}"),
            "total": labelled(total, (), what),
        },
        {"image": image_ids(images)},
        {"network": source.network.name, "layer": source.layer, "maps": source.maps_by},
    )
    if source.maps_by != "gradient":
        return found
    found.attrs["encoding"] = source.network.encoding
    array = np.concatenate(weights)
    meaning = f"derivative of the {what}"
    found["weights"] = labelled(array, ("colour", "y", "x"), meaning)
    return found.assign_coords(colour=list(COLOURS[: array.shape[-3]]))


def _place(
    source: ConceptSource, spliced: SplicedPass, entries: Tensor, keep: bool = False
) -> Maps:
    """Return where the sum of entries times codes comes from, in the way that the source maps."""
    at_codes = entries * spliced.codes.values.detach()
    total, weights = at_codes.sum(dim=(1, 2)), None
    if source.maps_by == "codes":
        size = spliced.image.shape[2], spliced.image.shape[3]
        values = upsample_positions(at_codes.sum(dim=2), spliced.output, size)
    elif source.maps_by == "crp":
        weight = spliced.concepts.pull(spliced.codes, entries)
        values = propagate_relevance(
            source.network,
            source.layer,
            spliced.image,
            lambda output: output * from_positions(weight, like=output),
        )
    else:
        gradient = spliced.at_input(entries, keep=keep)[0]
        weights = gradient.cpu().numpy()
        values = (gradient * spliced.image.detach()).sum(dim=1)
    return weights, values.detach().cpu().numpy(), total.detach().cpu().numpy()


def _concept_batch(
    source: ConceptSource, spliced: SplicedPass, entries: Tensor, wanted: NDArray[np.int64]
) -> Maps:
    concepts, codes = spliced.concepts, spliced.codes
    if wanted.size and not 0 <= wanted.min() <= wanted.max() < concepts.count:
        raise ValueError(
            f"concepts {wanted.min()} to {wanted.max()}; expected 0 to {concepts.count - 1}"
        )
    columns = torch.tensor(wanted, device=entries.device).unbind(dim=1)
    parts = [
        _place(source, spliced, entries * concepts.selects(codes, column), keep=True)
        for column in columns
    ]
    weights, values, total = zip(*parts, strict=True)
    stacked = None if weights[0] is None else np.stack(weights, axis=1)
    return stacked, np.stack(values, axis=1), np.stack(total, axis=1)


def _checked_concepts(concepts: AnyArray, count: int) -> NDArray[np.int64]:
    """Return concepts as ``(image, rank)``."""
    array = given = as_numpy(concepts)
    if array.ndim == 1:
        array = np.broadcast_to(array, (count, len(array)))
    if array.ndim != 2 or len(array) != count or (not array.size and count):
        raise ValueError(
            f"concepts of shape {given.shape}; expected (concept,), at least one, or "
            f"(image, rank) for {counted(count, 'image')}"
        )
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"concepts of type {array.dtype}; expected indices")
    return array.astype(np.int64)
