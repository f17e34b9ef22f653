"""Concepts in a few images each: in the colours that they look for, and as maps in cells of pixels.

What evaluators compare: where a concept is (:func:`fact.traces.attribution.concept_maps`),
and where the objects are that a data set knows of. Both are of the images as the network sees them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fact.data.images import Geometry, ImageDataset, mask_table, write_parts
from fact.networks.arrays import slices
from fact.networks.files import open_network
from fact.traces.attribution import explain_concepts, paint, pixel_coordinates
from fact.traces.choices import alive_concepts, choose_concepts, listed_concepts
from fact.traces.config import GalleryConfig, MapConfig, MaskConfig
from fact.traces.neurons import (
    NeuronSource,
    choose_extremes,
    labels_of,
    look_up,
    varying_neurons,
)
from fact.traces.pairs import MapPairs, Pairs, map_pairs
from fact.traces.plots import LOWEST, gallery_picture, select_gallery
from fact.traces.spliced import ConceptSource
from registry import Input, Inputs, Run, Shards, open_dataset
from registry.store.shards import part_name
from registry.suggest import nearest

DRAWN_CONCEPTS, DRAWN_TOGETHER, MAPPED_CONCEPTS = 32, 128, 64
"""Concepts that are drawn of a part; that are drawn at once where a gallery is whole, so that each
of their images is run through the network once; that are mapped at once, and of a part."""

WHOLE_BYTES, MEANT_BYTES = 1 << 29, 20 * 10**9
"""Pictures that a gallery has in one file at most; that a rule without a bound may draw at most."""

MASKED_IMAGES = 256
"""Images of a part of masks."""

RANKED = ("concept", "rank")
"""What the images of a gallery are by."""


def draw_concepts(config: GalleryConfig, inputs: Inputs, run: Run) -> xr.Dataset | Shards:
    """Find the images of concepts, or of neurons, map them, and paint a picture of each.

    Galleries of many concepts go to the disk part by part; a run that was stopped goes on at its
    next part.

    Returns
    -------
    Dataset or Shards
        Of the schema ``gallery``.

    Raises
    ------
    ValueError
        If no concept is chosen, no neuron varies, they cannot be mapped as asked for, or so many
        are drawn that nobody meant it: more than :data:`MEANT_BYTES` of pictures by a rule that
        has no bound.
    """
    given = inputs["concepts"]
    images: ImageDataset = inputs.get("images", given).origin("images").load()
    if given.kind == "activations":
        return _draw_neurons(config, given, images, run)
    source = ConceptSource.of_concepts(given, config.device, config.maps)
    with ExitStack() as opened:
        measured = opened.enter_context(given.open())
        scores = inputs.get("consistency")
        scored = None if scores is None else opened.enter_context(scores.open())
        chosen = choose_concepts(measured, config, scored)
        size = _gallery_bytes(images, measured, source.network.geometry, config.n_images)
        _require_meant(config, len(chosen), size)

        def draw(_index: int, rows: slice) -> xr.Dataset:
            presence = measured["presence"].isel(concept=chosen[rows])
            found = select_gallery(presence, config.n_images)
            gallery = draw_gallery(source, images, measured, found, config.smooth)
            return _with_pictures(gallery, config, run)

        summary = {"maps": source.maps_by, "exact": source.exact}
        return _in_parts(draw, len(chosen), size, summary, config, run)


def _draw_neurons(
    config: GalleryConfig, activations: Input, images: ImageDataset, run: Run
) -> xr.Dataset | Shards:
    """Draw the strongest and the lowest images of collected or imported neurons."""
    if config.choose != "presence":
        raise ValueError(
            f"choose = {config.choose!r} is of concepts that contribute, and neurons do not; "
            "expected 'presence', or the neurons themselves by `concepts`"
        )
    source = NeuronSource.of_activations(activations, images, config.device, config.maps)
    with activations.open() as collected:
        activation = collected["activation"].rename(neuron="concept")
        chosen, is_below = varying_neurons(activation, config.most)
        if config.concepts:
            chosen = listed_concepts(activation, config.concepts)
        sides = 1 + is_below
        size = sides * _gallery_bytes(images, activation, source.geometry, config.n_images)
        _require_meant(config, len(chosen), size)
        names = collected["name"].values.astype(object)

        def draw(_index: int, rows: slice) -> xr.Dataset:
            found = choose_extremes(activation.isel(concept=chosen[rows]), config.n_images)
            gallery = _draw_sides(source, images, found, config.smooth, is_below)
            gallery["name"] = "concept", names[chosen[rows]]
            return _with_pictures(gallery, config, run)

        summary = {"maps": source.maps_by, "exact": source.exact} if source.maps_by else {}
        return _in_parts(draw, len(chosen), size, summary, config, run)


def _with_pictures(gallery: xr.Dataset, config: GalleryConfig, run: Run) -> xr.Dataset:
    """Return a part of a gallery, once a picture of each concept is beside it."""
    for concept in gallery["concept"].values.tolist() if config.pictures else ():
        path = run.attach(f"pictures/concept-{concept:05d}.png")
        if not path.exists():
            gallery_picture(gallery, concept).save(path)
    return gallery


def _in_parts(
    draw: Callable[[int, slice], xr.Dataset],
    count: int,
    size: int,
    summary: dict[str, Any],
    config: GalleryConfig,
    run: Run,
) -> xr.Dataset | Shards:
    """Draw so many concepts, each of so many bytes: in shards, or whole where they are few.

    Of shards that a run before this one has written, the pictures are painted again: what lies
    beside a dataset is not kept from run to run.
    """
    if count * size > WHOLE_BYTES:
        rows = max(1, min(DRAWN_CONCEPTS, WHOLE_BYTES // size))
        writer = write_parts(run, count, rows, draw, "concepts")
        for index in writer.done:
            with open_dataset(writer.folder / part_name(index)) as part:
                _with_pictures(part, config, run)
        return writer.finish(xr.Dataset(summary))
    parts = []
    for some in slices(count, DRAWN_TOGETHER):
        parts.append(draw(0, some))
        run.progress(some.stop, count, "concepts")
    return xr.concat(parts, "concept", data_vars="all", join="exact").assign(summary)


def _gallery_bytes(
    images: ImageDataset,
    measured: xr.Dataset | xr.DataArray,
    geometry: Geometry | None,
    n_images: int,
) -> int:
    """Return what the gallery of one concept takes: RGB and RGBA of each of its images."""
    first = images.read(measured["image"].values[:1].astype(str), geometry)
    return n_images * (3 + 4) * math.prod(first.shape[1:3])


def _require_meant(config: GalleryConfig, count: int, size: int) -> None:
    """Check that whoever asked for that many pictures has said so."""
    is_bound = bool(config.most or config.concepts or config.choose in ("class", "decisions"))
    if not is_bound and count * size > MEANT_BYTES:
        raise ValueError(
            f"galleries of {count:,} concepts take {count * size / 1e9:.0f} GB; choose fewer by "
            f"`choose`, `concepts` or `most`, or say that all are meant: most = {count}"
        )


def draw_gallery(
    source: ConceptSource,
    images: ImageDataset,
    measured: xr.Dataset,
    chosen: xr.Dataset,
    smooth: int = 3,
) -> xr.Dataset:
    """Return the gallery of some concepts; see the schema ``gallery``.

    Parameters
    ----------
    source : ConceptSource
        What the concepts are of.
    images : ImageDataset
        Where to read.
    measured : Dataset
        Of the schema ``concepts``.
    chosen : Dataset
        ``image`` and ``presence`` (concept, rank), from :func:`fact.traces.plots.select_gallery`.
    smooth : int
        Side of the box that the opacity is averaged over, in pixels; odd.
    """
    names, filled, _ = _pairs(chosen)
    rows = measured.indexes["image"].get_indexer(names[filled])
    classes = {
        name: (RANKED, _spread(filled, measured[name].values[rows], -1))
        for name in ("label", "prediction")
    }
    locate = partial(map_pairs, source.network, explain_concepts(source))
    drawn = _draw_pairs(locate, source.network.geometry, images, chosen, smooth)
    chosen_images = {name: drawn[name] for name in ("image", "presence")}
    variables = {**chosen_images, **classes, **drawn}  # in the order that they always had
    return xr.Dataset(variables, _coordinates(chosen, measured["class"].values))


def _draw_sides(
    source: NeuronSource, images: ImageDataset, chosen: xr.Dataset, smooth: int, lowest: bool
) -> xr.Dataset:
    """Return the gallery of some neurons, chosen by :func:`fact.traces.neurons.choose_extremes`."""
    locate = source.map_pairs if source.maps_by else None
    drawn: dict[str, Any] = {}
    for side in ("", LOWEST)[: 1 + lowest]:
        own = chosen[[f"{side}image", f"{side}presence"]]
        own = own.rename({f"{side}{name}": name for name in ("image", "presence") if side})
        pairs = _draw_pairs(locate, source.geometry, images, own, smooth, signed=True)
        labels = RANKED, labels_of(images, own["image"].values.astype(str))
        drawn |= {f"{side}{name}": value for name, value in (pairs | {"label": labels}).items()}
    drawn["prediction"] = RANKED, np.full(chosen["image"].shape, -1, dtype=np.int64)
    return xr.Dataset(drawn, _coordinates(chosen, np.array(images.classes)))


def _coordinates(chosen: xr.Dataset, classes: NDArray[np.str_]) -> dict[str, Any]:
    own = {name: chosen[name].values for name in ("concept", "rank")}
    return own | {"class": classes.astype(object)} | pixel_coordinates()


def _draw_pairs(
    locate: MapPairs | None,
    geometry: Geometry | None,
    images: ImageDataset,
    chosen: xr.Dataset,
    smooth: int,
    signed: bool = False,
) -> dict[str, Any]:
    """Return pictures of the images that are chosen for concepts, and where the concepts are.

    Parameters
    ----------
    locate : callable or None
        Maps each concept in its pictures; None where they have no place.
    geometry : Geometry or None
        In which images are read.
    images : ImageDataset
        Where to read.
    chosen : Dataset
        ``image`` and ``presence`` (concept, rank).
    smooth : int
        Side of the box that the opacity is averaged over, in pixels; odd.
    signed : bool
        Paint what is below 0 of maps that add up to less than 0.
    """
    names, filled, concepts = _pairs(chosen)
    drawn: dict[str, Any] = {
        "image": (RANKED, names.astype(object)),
        "presence": chosen["presence"].variable,
    }
    unique, inverse = np.unique(names[filled], return_inverse=True)
    if not len(unique):
        unique, inverse = images.ids(images.splits[0])[:1], np.zeros(0, dtype=np.int64)
    pictures = images.read(unique, geometry)
    drawn["picture"] = (*RANKED, "y", "x", "colour"), _spread(filled, pictures[inverse])
    if locate is None:
        return drawn
    painted = np.zeros((len(concepts), *pictures.shape[1:3], 4), np.uint8)
    for pairs, weights, values in locate(Pairs(pictures, inverse, concepts)):
        if signed:
            sign = torch.where(values.sum(dim=(1, 2), keepdim=True) < 0, -1, 1)
            values = sign * values
            weights = None if weights is None else sign[:, None] * weights
        painted[pairs] = paint(weights, values, pictures[inverse[pairs]], smooth)
    drawn["explanation"] = (*RANKED, "y", "x", "rgba"), _spread(filled, painted)
    return drawn


def _pairs(chosen: xr.Dataset) -> tuple[NDArray[np.str_], NDArray[np.bool_], NDArray[np.int64]]:
    """Return ids (concept, rank), which of them are of an image, and the concept of each such."""
    names = chosen["image"].values.astype(str)
    filled = names != ""
    return names, filled, np.broadcast_to(chosen["concept"].values[:, None], filled.shape)[filled]


def _spread(
    filled: NDArray[np.bool_], values: NDArray[np.generic], empty: int = 0
) -> NDArray[np.generic]:
    """Put values where it is filled, ``empty`` elsewhere."""
    whole = np.full((*filled.shape, *values.shape[1:]), empty, dtype=values.dtype)
    whole[filled] = values
    return whole


def map_concepts(config: MapConfig, inputs: Inputs, run: Run) -> Shards:
    """Choose images for every concept that is alive, or neuron that varies, and map it in them.

    Returns
    -------
    Shards
        Of the schema ``maps``, written part by part.

    Raises
    ------
    ValueError
        If neurons have no place in an image, or none varies.
    """
    given = inputs["concepts"]
    images: ImageDataset = given.origin("images").load()
    are_neurons = given.kind == "activations"
    source = (
        NeuronSource.of_activations(given, images, config.device, config.maps)
        if are_neurons
        else ConceptSource.of_concepts(given, config.device, config.maps)
    )
    if not source.maps_by:
        raise ValueError(f"{given.name!r} cannot be mapped: {getattr(source, 'reason', '')}")
    with given.open() as measured:
        if are_neurons:
            presence = measured["activation"].rename(neuron="concept")
            alive, _ = varying_neurons(presence, config.most)
        else:
            presence, alive = measured["presence"], alive_concepts(measured, config.most)

        def part(_index: int, rows: slice) -> xr.Dataset:
            own = presence.isel(concept=alive[rows]).load()
            chosen = choose_images(
                own - own.min("image") if are_neurons else own,
                config.n_images,
                config.images,
                config.seed,
            )
            if are_neurons:
                chosen["presence"] = look_up(own, chosen["image"])[1]
            return map_images(source, images, chosen, config.cell)

        writer = write_parts(run, len(alive), MAPPED_CONCEPTS, part, "concepts")
    summary = {"cell": config.cell, "n_concepts": len(alive)}
    return writer.finish(xr.Dataset(summary).assign(maps=source.maps_by, exact=source.exact))


def choose_images(
    presence: xr.DataArray, n_images: int, choice: str = "strongest", seed: int = 0
) -> xr.Dataset:
    """Choose a few images for each concept, among those in which it is present.

    Parameters
    ----------
    presence : DataArray, (image, concept)
        0 where a concept is not present.
    n_images : int
        Most images of a concept.
    choice : str
        ``strongest`` takes those with the largest presence, ``random`` any, by the images' ids.
    seed : int
        Draws them.

    Returns
    -------
    Dataset
        ``image`` (concept, rank) ids, "" where there are fewer; ``presence`` (concept, rank), NaN
        there. By presence, the largest first.

    Raises
    ------
    ValueError
        If there is no such choice.
    """
    if choice not in ("strongest", "random"):
        raise ValueError(f"images {choice!r}; expected one of strongest, random")
    if choice == "random":
        presence = _keep_drawn(presence, n_images, seed)
    return select_gallery(presence, n_images)


def _keep_drawn(presence: xr.DataArray, n_images: int, seed: int) -> xr.DataArray:
    """Set presences to 0 except where an image is drawn for a concept."""
    ordered = presence.transpose("image", "concept")
    kept = ordered.copy(data=np.zeros(ordered.shape, np.float32))
    by_name = np.argsort(presence["image"].values.astype(str), kind="stable")
    for column, concept in enumerate(presence["concept"].values.tolist()):
        values = presence.isel(concept=column).values
        there = by_name[values[by_name] > 0]
        generator = np.random.default_rng([seed, concept])
        drawn = generator.choice(there, min(n_images, len(there)), replace=False)
        kept.values[drawn, column] = values[drawn]
    return kept


def map_images(
    source: ConceptSource | NeuronSource,
    images: ImageDataset,
    chosen: xr.Dataset,
    cell: int = 1,
) -> xr.Dataset:
    """Return where concepts are in the images that are chosen for them.

    Parameters
    ----------
    source : ConceptSource or NeuronSource
        What the concepts, or neurons, are of.
    images : ImageDataset
        Where to read.
    chosen : Dataset
        From :func:`choose_images`.
    cell : int
        Side of a cell, in pixels, over which maps are summed.

    Returns
    -------
    Dataset
        ``image``, ``presence`` (concept, rank) as given, and ``map`` (concept, rank, y, x)
        float32, which sums to the presence where the network is convolutional, or maps are of
        codes, and to less by CRP where biases took some; 0 for no image. Of a channel it sums to
        that of its values over the layer's positions.
    """
    if isinstance(source, NeuronSource):
        geometry, locate = source.geometry, source.map_pairs
    else:
        geometry = source.network.geometry
        locate = partial(map_pairs, source.network, explain_concepts(source))
    names, filled, concepts = _pairs(chosen)
    maps = np.zeros((0, 1, 1), np.float32)
    if len(concepts):
        unique, own = np.unique(names[filled], return_inverse=True)
        pictures = images.read(unique, geometry)
        sides = (-(-side // cell) for side in pictures.shape[1:3])
        maps = np.empty((len(concepts), *sides), np.float32)
        for pairs, _, values in locate(Pairs(pictures, own, concepts)):
            maps[pairs] = sum_cells(values, cell).cpu().numpy()
    return xr.Dataset(
        {
            "image": (("concept", "rank"), names.astype(object)),
            "presence": chosen["presence"].variable,
            "map": (("concept", "rank", "y", "x"), _spread(filled, maps)),
        },
        {"concept": chosen["concept"].values, "rank": chosen["rank"].values},
    )


def mask_inputs(config: MaskConfig, inputs: Inputs, run: Run) -> Shards:
    """Take the masks of the dataset, as the network that was mapped sees its images."""
    maps = inputs["maps"]
    concepts, images = maps.origin("concepts"), maps.origin("images").load()
    geometry = open_network(concepts.origin("network")).geometry
    with maps.open() as mapped:
        ids = np.setdiff1d(mapped["image"].values.astype(str), [""])
        cell = int(mapped["cell"])

    def part(_index: int, rows: slice) -> xr.Dataset:
        return mask_images(images, ids[rows], geometry, cell, config.background)

    writer = write_parts(run, len(ids), MASKED_IMAGES, part)
    return writer.finish(xr.Dataset({"n_images": len(ids)}))


def mask_images(
    images: ImageDataset,
    ids: NDArray[np.str_],
    geometry: Geometry | None,
    cell: int = 1,
    background: str = "",
) -> xr.Dataset:
    """Return where the labelled objects of images are, in cells.

    Parameters
    ----------
    images : ImageDataset
        That knows masks.
    ids : ndarray of str
        Which images.
    geometry : Geometry or None
        Of the images, as the network sees them.
    cell : int
        Side of a cell, in pixels: it is in a mask where at least half of it is.
    background : str
        Group of labels of an image, as ``ground``, that are carried by what no object covers: one
        more object, the last. None for "".

    Returns
    -------
    Dataset
        ``mask`` (image, object, y, x) and ``carries`` (image, object, label), bool.

    Raises
    ------
    ValueError
        If the data set knows no masks, or has no label of that group.
    """
    known = images.masks(ids, geometry)
    if known is None:
        raise ValueError(f"images {images.name!r} have no masks of their labels")
    pixels = known["mask"].transpose("image", "object", "y", "x").values
    carries = known["carries"].transpose("image", "object", "label")
    carried, labels = carries.values.astype(bool), carries["label"].values.astype(str)
    if background:
        own = _labels_of_group(images, ids, background)
        pixels = np.concatenate([pixels, ~pixels.any(axis=1, keepdims=True)], axis=1)
        carried = np.pad(carried, ((0, 0), (0, 1), (0, own.sizes["label"])))
        carried[:, -1, len(labels) :] = own.values
        labels = np.concatenate([labels, own["label"].values.astype(str)])
    area = sum_cells(torch.ones(pixels.shape[-2:]), cell)
    mask = 2 * sum_cells(torch.from_numpy(pixels).float(), cell) >= area
    return mask_table(mask.numpy(), carried, ids, labels.tolist(), None)


def _labels_of_group(images: ImageDataset, ids: NDArray[np.str_], group: str) -> xr.DataArray:
    """Return which labels of a group images have, bool (image, label), in the order of ids."""
    splits = sorted({str(name).partition("/")[0] for name in ids})
    whole = xr.concat([images.concepts(split) for split in splits], "image")
    names = whole["label"].values.astype(str)
    chosen = np.flatnonzero([name.startswith(f"{group}:") for name in names])
    if not len(chosen):
        groups = {name.partition(":")[0] for name in names.tolist()}
        raise ValueError(f"no labels of the group {group!r}{nearest(group, groups)}")
    return whole.isel(label=chosen).sel(image=ids) >= 0.5


def sum_cells(values: Tensor, cell: int) -> Tensor:
    """Return sums over square cells of ``(…, y, x)``; the last of a row may be smaller."""
    if cell == 1:
        return values
    flat = values.reshape(-1, 1, *values.shape[-2:])
    sums: Tensor = functional.avg_pool2d(flat, cell, ceil_mode=True, divisor_override=1)
    return sums.view(*values.shape[:-2], *sums.shape[-2:])
