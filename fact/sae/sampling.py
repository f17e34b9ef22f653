"""The features worth training on: positions drawn by how much they matter for the logit.

Positions are drawn by their importance for the predicted class, as many as keep the stored size of
an image the same for every layer. Source: Parchami-Araghi et al., "FaCT", NeurIPS 2025, arXiv
2510.25512, section 3 and its published code.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from fact.data.config import Precision
from fact.data.images import batches, write_parts
from fact.networks.arrays import AnyArray, as_numpy
from fact.networks.files import open_network
from fact.networks.layers import capture, layer_shape, to_positions
from fact.networks.linearity import N_IMAGES, known_linearity, tell_linearity
from fact.networks.network import Network
from fact.networks.precision import computing_in, exact
from fact.sae.config import Compat, FeatureConfig
from fact.sae.features import SquaredNorms, root_mean_square, squared_norms
from fact.schemas import FEATURES
from registry import Inputs, Run, Shards
from registry.store.shards import part_name

SHARD_BYTES = 32 * 2**20
SHARD_IMAGES = 64

VALUES_PER_IMAGE = 72 * 512
HELD_OUT_PER_CLASS, HELD_OUT_FRACTION = 50, 5
PUBLISHED_SEED = 42
"""Of the images that the published code holds out (``fact/training/train.py``)."""

Array = TypeVar("Array", bound=Any)


def collect_features(config: FeatureConfig, inputs: Inputs, run: Run) -> Shards:
    """Draw features shard by shard; a stopped collection goes on at its next shard.

    Returns
    -------
    Shards
        Of the schema ``features``.

    Raises
    ------
    LayerError
        If there is no such layer.
    ValueError
        If all images are held out.
    """
    images, network = inputs["images"].load(), open_network(inputs["network"], config.device)
    kept_out = held_out_of(images.labels(config.split), asdict(config))
    ids = images.ids(config.split)[~kept_out]
    if not len(ids):
        raise ValueError(f"split {config.split!r} has no image that is not held out")
    first = images.read(ids[:N_IMAGES], network.geometry)
    network = known_linearity(network, first)
    tell_linearity(network)  # before an SAE is trained on it
    positions, channels = layer_shape(network, config.layer, first)
    count = min(config.samples_per_image or samples_per_image(channels), positions)
    # Whole multiples of a number, so that the shards do not depend on the batch.
    size = max(1, SHARD_BYTES // (4 * channels * count * SHARD_IMAGES)) * SHARD_IMAGES

    def part(index: int, rows: slice) -> xr.Dataset:
        generator, first = np.random.default_rng([config.seed, index]), rows.start
        parts = []
        for names, pixels in batches(images, ids[rows], config.batch, network.geometry):
            drawn = draw_features(network, config.layer, pixels, count, generator, config.precision)
            number, rank = drawn.pop("image"), drawn.pop("rank")
            columns = {"image": names[number].astype(object), **drawn}
            coords = {"sample": ((first + number) * count + rank).astype(np.int64)}
            variables = {n: (FEATURES.variables[n].dims, values) for n, values in columns.items()}
            parts.append(xr.Dataset(variables, coords))
            first += len(names)
        return xr.concat(parts, "sample", join="exact")

    norms: dict[int, SquaredNorms] = {}

    def note(index: int, made: xr.Dataset) -> None:
        norms[index] = squared_norms(made)

    writer = write_parts(run, len(ids), size, part, then=note)
    for index in set(writer.done) - set(norms):  # of a run that was stopped
        norms[index] = squared_norms(writer.folder / part_name(index))
    summary = {
        "root_mean_square": root_mean_square(norms[index] for index in writer.done),
        "n_samples": np.int64(sum(norm.n_samples for norm in norms.values())),
        "n_images": np.int64(len(ids)),
        "n_held_out": np.int64(kept_out.sum()),
        **({} if network.probe is None else {"probe": network.probe}),
    }
    return writer.finish(xr.Dataset(summary))


class Positions(NamedTuple):
    """Drawn positions of a batch, by image and then by position.

    Attributes
    ----------
    image : ndarray of int64, shape (sample,)
        Index of the image in the batch.
    position : ndarray of int64, shape (sample,)
        Index of the position in the image.
    """

    image: NDArray[np.int64]
    position: NDArray[np.int64]


def importance(x: Array, gradient: Array) -> Array:
    """Importance of positions for a logit.

    Parameters
    ----------
    x : Tensor or ndarray, shape (..., channel)
        Features.
    gradient : Tensor or ndarray, shape (..., channel)
        Gradient of the predicted class's logit by them, in explanation mode.

    Returns
    -------
    Tensor or ndarray, shape (...)
        ``|sum_c x_c gradient_c|``: the absolute contribution of the position.
    """
    absolute: Array = abs((x * gradient).sum(-1))
    return absolute


def samples_per_image(n_channels: int) -> int:
    """Count the positions that are drawn from an image of a layer with so many channels.

    Parameters
    ----------
    n_channels : int
        Channels of the layer, at least 1.

    Returns
    -------
    int
        ``floor(72 * 512 / n_channels)``, at least 1.
    """
    return max(1, VALUES_PER_IMAGE // n_channels)


def sample_positions(importance: AnyArray, count: int, generator: np.random.Generator) -> Positions:
    """Draw positions without replacement, with probability proportional to importance.

    Parameters
    ----------
    importance : array_like, shape (image, position)
        Importances, 0 or more and finite; a Tensor on any device will do.
    count : int
        Positions per image, at least 1. Where fewer have importance above 0: those, no others.
    generator : numpy.random.Generator
        Source of randomness; what it draws depends on the shape alone.

    Raises
    ------
    ValueError
        An importance that is negative or not finite, another number of dimensions, or a `count`
        below 1.

    Notes
    -----
    The `count` smallest of independent exponential times with these rates are distributed as
    successive draws without replacement (Efraimidis and Spirakis, Information Processing Letters
    97(5), 2006). Times are compared by logarithm, so that no importance is too small.
    """
    weights = as_numpy(importance).astype(np.float64)
    if weights.ndim != 2:
        raise ValueError(f"importance of shape {weights.shape}; expected (image, position)")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("an importance is negative or not finite; expected 0 or more")
    if count < 1:
        raise ValueError(f"count is {count}; expected at least 1")
    with np.errstate(divide="ignore"):
        times = np.log(generator.standard_exponential(weights.shape)) - np.log(weights)
    chosen = weights > 0
    if count < weights.shape[1]:
        earliest = np.argpartition(times, count - 1, axis=1)[:, :count]
        among = np.zeros_like(chosen)
        np.put_along_axis(among, earliest, True, axis=1)
        chosen &= among
    return Positions(*np.nonzero(chosen))


def held_out_of(labels: AnyArray, config: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Choose the images that a collection of features holds out, by its configuration."""
    compat = config.get("compat", "")  # which there was not always
    return held_out(labels, config["seed"], config["held_out_per_class"], compat)


def held_out(
    labels: AnyArray, seed: int, per_class: int = HELD_OUT_PER_CLASS, compat: Compat = ""
) -> NDArray[np.bool_]:
    """Choose the images that are held out from training, the same number of every class.

    Parameters
    ----------
    labels : array_like, shape (image,)
        Class of each image of the training set.
    seed : int
        Seed of the choice, 0 or more.
    per_class : int
        Images per class; a fifth of the class (rounded down) where that is less.
    compat : str
        "fact" draws, whatever the seed, as the published code does: by Python's own generator from
        42, class after class, of images in the order of their names.

    Returns
    -------
    ndarray of bool, shape (image,)
        True where held out.
    """
    labels = as_numpy(labels)
    generator, published = np.random.default_rng(seed), random.Random(PUBLISHED_SEED)
    mask = np.zeros(labels.shape, dtype=bool)
    for label in np.unique(labels):
        images = np.flatnonzero(labels == label)
        count = min(per_class, len(images) // HELD_OUT_FRACTION)
        if compat:
            mask[published.sample(images.tolist(), count)] = True
        else:
            mask[generator.choice(images, count, replace=False)] = True
    return mask


def draw_features(
    network: Network,
    layer: str,
    pixels: NDArray[np.uint8],
    count: int,
    generator: np.random.Generator,
    precision: Precision = "float32",
) -> dict[str, NDArray[Any]]:
    """Draw positions by their importance for the predicted class, with one forward pass.

    Parameters
    ----------
    network : Network
        A B-cos network; frozen while this runs, so that the gradient is the weight.
    layer : str
        Name of the layer.
    pixels : ndarray of uint8, (image, y, x, colour)
        Images in the network's geometry.
    count : int
        Positions per image; fewer where fewer have importance above 0.
    generator : numpy.random.Generator
        Draws the positions; images one after the other, so that batches can be cut anywhere.
    precision : str
        In which the network computes; importances are computed and compared in float32.

    Returns
    -------
    dict of str to ndarray, (sample, …)
        By image and then by position: ``row``, ``column``, ``importance`` and ``feature`` of the
        schema ``features``; ``image``, the index of the image in the batch; and ``rank``, how many
        samples of the image come before.
    """
    with (
        torch.enable_grad(),
        network.explanation_mode(),
        capture(network.module, layer, leaf=True) as captured,
        computing_in(precision, network.device),
    ):
        logits = exact(network.logits(network.encode(pixels)))
        # Of equal logits, which are many in bf16, amax would take the mean.
        highest = logits.amax(dim=1) if precision == "float32" else logits.max(dim=1).values
        gradient = torch.autograd.grad(highest.sum(), captured.output)[0]
    features = exact(captured.positions.detach())
    importances = importance(features, exact(to_positions(gradient))).cpu().numpy()
    image, position = sample_positions(importances, count, generator)
    chosen = tuple(torch.from_numpy(index).to(features.device) for index in (image, position))
    row, column = captured.cells(position)
    return {
        "image": image,
        "rank": np.arange(len(image)) - np.searchsorted(image, image, side="left"),
        "row": row.astype(np.int32),
        "column": column.astype(np.int32),
        "importance": importances[image, position].astype(np.float32),
        "feature": features[chosen].float().cpu().numpy(),
    }
