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

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, get_args, overload

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fact.data.images import Pixels
from fact.networks.arrays import (
    AnyArray,
    as_numpy,
    as_tensor,
    checked_labels,
    image_ids,
    slices,
    take,
)
from fact.networks.layers import from_positions
from fact.networks.linearity import N_IMAGES
from fact.networks.network import Network, as_network
from fact.networks.relevance import relevance_pass
from fact.sae.model import SAE
from fact.traces.code_maps import upsample_positions
from fact.traces.config import MapsBy
from fact.traces.pairs import Explain, Locate, Located, images_at_once
from fact.traces.spliced import (
    ConceptSource,
    LayerPass,
    SplicedPass,
    Target,
    forward_spliced,
    forward_until,
    picks,
)
from registry.wording import counted

COLOURS = ("red", "green", "blue", "not_red", "not_green", "not_blue")
"""Channels of an encoded image."""

RGBA = (*COLOURS[:3], "alpha")
"""Channels of a colour picture."""

EPSILON = 1e-12
"""Carried by the denominators of a colour picture, so that an empty one is transparent."""

OPAQUE = 99.5
"""Percentile of a picture's strengths that is wholly opaque."""

Explained = Literal["presence", "contribution"]

Maps = tuple[NDArray[np.floating] | None, NDArray[np.floating], NDArray[np.floating]]
"""Weights ``(image, …, colour, y, x)`` or None, a map without colour, and what it adds up to."""


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
        return _place(source, spliced, entries, wanted[rows])

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
        weights, values, total = _place(source, spliced, entries, None)
        given = 0 if offset is None else offset.cpu().numpy()
        return None if weights is None else weights[:, 0], values[:, 0], total[:, 0] + given

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
    picture = _colours(_floats(weights), as_tensor(map), smooth, percentile)
    return picture.numpy().astype(np.result_type(weights), copy=False)


def _colours(weights: Tensor, map: Tensor, smooth: int, percentile: float) -> Tensor:
    """Return pictures (…, y, x, rgba) of weights (…, 6, y, x) and maps (…, y, x)."""
    scaled = weights / (weights.abs().amax(dim=-3, keepdim=True) + EPSILON)
    looked_for, avoided = torch.split(scaled.clamp_(min=0), len(COLOURS) // 2, dim=-3)
    rgb = looked_for / (looked_for + avoided + EPSILON)
    strength: Tensor = torch.linalg.vector_norm(weights, dim=-3)
    opacity = _opacity(strength.masked_fill(map < 0, 0), smooth, percentile)
    return torch.cat([rgb.movedim(-3, -1), opacity.unsqueeze(-1)], dim=-1)


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


def _opacity(strength: Tensor, smooth: int, percentile: float) -> Tensor:
    """Return strengths (…, y, x), smoothed, over their percentile, in [0, 1]."""
    flat = _box_mean(strength, smooth).flatten(-2)
    place = percentile / 100 * (flat.shape[-1] - 1)
    below, above = (flat.kthvalue(k + 1).values for k in (math.floor(place), math.ceil(place)))
    top = torch.lerp(below, above, place - math.floor(place))
    return (flat / (top.unsqueeze(-1) + EPSILON)).clamp_(0, 1).view(strength.shape)


def _box_mean(pictures: Tensor, side: int) -> Tensor:
    """Mean over a square around each pixel of ``(…, y, x)``, zeros around the picture."""
    if side == 1:
        return pictures
    flat = pictures.reshape(-1, 1, *pictures.shape[-2:])
    means: Tensor = functional.avg_pool2d(flat, side, stride=1, padding=side // 2)
    return means.view(pictures.shape)


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
    picture = _highlighted(as_tensor(colours), _floats(values), smooth, percentile)
    return picture.numpy().astype(values.dtype, copy=False)


def _floats(values: AnyArray) -> Tensor:
    tensor = as_tensor(values)
    return tensor if tensor.is_floating_point() else tensor.double()


def _highlighted(pictures: Tensor, map: Tensor, smooth: int, percentile: float) -> Tensor:
    opacity = _opacity(map.clamp(min=0), smooth, percentile)
    rgb = (pictures.to(map) / 255).expand(*map.shape, 3)
    return torch.cat([rgb, opacity.unsqueeze(-1)], dim=-1)


def paint(
    weights: NDArray[np.floating] | Tensor | None,
    values: NDArray[np.floating] | Tensor,
    pictures: Pixels,
    smooth: int,
) -> NDArray[np.uint8]:
    """Return a picture of a map (…, y, x) as bytes (…, y, x, rgba), made where the map lies.

    With weights of six colours (…, 6, y, x) in the colours that they look for; else in those of
    the pictures (…, y, x, colour).
    """
    map = _floats(values)
    if weights is not None and weights.shape[-3] == len(COLOURS):
        picture = _colours(as_tensor(weights), map, smooth, OPAQUE)
    else:
        picture = _highlighted(as_tensor(pictures).to(map.device), map, smooth, OPAQUE)
    painted: NDArray[np.uint8] = picture.mul_(255).round_().to(torch.uint8).cpu().numpy()
    return painted


def pixel_coordinates() -> dict[str, NDArray[np.object_]]:
    """Return the coordinates of pictures and of explanations."""
    names = (*COLOURS[:3], "opacity")
    return {"colour": np.array(names[:3], dtype=object), "rgba": np.array(names, dtype=object)}


def explain_concepts(source: ConceptSource) -> Explain:
    """Return what finds the presence of a source's concepts in images, in the way that it maps.

    There are no weights where maps are of codes, or by CRP.
    """

    @contextmanager
    def explain(encoded: Tensor) -> Iterator[Locate]:
        with torch.enable_grad():
            found = forward_until(source, encoded)

        def chosen(concepts: Tensor) -> Tensor:
            _require_concepts(concepts, found.concepts.count)
            return torch.stack([found.concepts.selects(found.codes, own) for own in concepts])

        with _locating(source, found) as locate:
            yield lambda concepts: locate(chosen(concepts))

    return explain


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


@contextmanager
def _locating(source: ConceptSource, found: LayerPass) -> Iterator[Locate]:
    """Find where sums of entries times codes come from, in the way that the source maps.

    What is yielded takes entries ``(vector, image, position, rank)``.
    """
    concepts, codes, image = found.concepts, found.codes, found.image.detach()

    def by_gradient(entries: Tensor) -> Located:
        weights = found.each_at_image(entries)
        return weights, (weights * image).sum(dim=2)

    def by_codes(entries: Tensor) -> Located:
        at_positions = (entries * codes.values.detach()).sum(dim=3)
        size = image.shape[2], image.shape[3]
        values = upsample_positions(at_positions.flatten(0, 1), found.output, size)
        return None, values.reshape(*entries.shape[:2], *size)

    if source.maps_by != "crp":
        yield by_codes if source.maps_by == "codes" else by_gradient
        return
    with relevance_pass(source.network, source.layer, image) as (output, propagate):

        def by_relevance(entries: Tensor) -> Located:
            weights = [from_positions(concepts.pull(codes, own), like=output) for own in entries]
            return None, propagate(output * torch.stack(weights))

        yield by_relevance


def _place(
    source: ConceptSource, found: LayerPass, entries: Tensor, wanted: NDArray[np.int64] | None
) -> Maps:
    """Return where the sum of entries times codes comes from, in all, or of each wanted concept.

    What is returned is ``(image, 1, …)`` in all, of concepts wanted ``(image, rank)`` as they are.
    """
    pixels, codes = found.image.shape[2] * found.image.shape[3], found.codes
    at_once = max(1, images_at_once(pixels, entries.device) // len(entries))
    columns = None if wanted is None else torch.tensor(wanted.T, device=entries.device)
    if columns is not None:
        _require_concepts(columns, found.concepts.count)
    weights: list[NDArray[np.floating]] = []
    values: list[NDArray[np.floating]] = []
    totals: list[NDArray[np.floating]] = []
    with _locating(source, found) as locate:
        for some in slices(1 if columns is None else len(columns), at_once):
            own = entries.unsqueeze(0)
            if columns is not None:
                chosen = [found.concepts.selects(codes, column) for column in columns[some]]
                own = own * torch.stack(chosen)
            weight, value = locate(own)
            if weight is not None:
                weights.append(_by_image(weight))
            values.append(_by_image(value))
            totals.append(_by_image((own * codes.values.detach()).sum(dim=(2, 3))))
    whole = np.concatenate(weights, axis=1) if weights else None
    return whole, np.concatenate(values, axis=1), np.concatenate(totals, axis=1)


def _by_image(values: Tensor) -> NDArray[np.floating]:
    """Return values (vector, image, …) as an array (image, vector, …)."""
    array: NDArray[np.floating] = values.detach().cpu().numpy()
    return array.swapaxes(0, 1)


def _require_concepts(wanted: Tensor, count: int) -> None:
    """Raise where a concept does not exist."""
    if not wanted.numel():
        return
    low, high = int(wanted.min()), int(wanted.max())
    if low < 0 or high >= count:
        raise ValueError(f"concepts {low} to {high}; expected 0 to {count - 1}")


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
