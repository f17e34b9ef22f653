"""The features of a batch of images that are worth training on: those that matter for the logit.

Source: Parchami-Araghi et al., "FaCT", NeurIPS 2025, arXiv 2510.25512, section 3 and its published
code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fact.networks.layers import capture, to_positions
from fact.networks.network import Network
from fact.sae.features import importance, sample_positions


@dataclass(frozen=True)
class DrawnFeatures:
    """Feature vectors of a batch, by image and then by position.

    Attributes
    ----------
    feature : ndarray of float32, (sample, channel)
        What the layer puts out there.
    image : ndarray of int64, (sample,)
        Index of the image in the batch.
    rank : ndarray of int64, (sample,)
        How many samples of the image come before.
    row, column : ndarray of int32, (sample,)
        Where in the layer's grid.
    importance : ndarray of float32, (sample,)
        ``|sum over channels of feature times gradient of the predicted class's logit|``.
    """

    feature: NDArray[np.float32]
    image: NDArray[np.int64]
    rank: NDArray[np.int64]
    row: NDArray[np.int32]
    column: NDArray[np.int32]
    importance: NDArray[np.float32]


@dataclass(frozen=True)
class LayerShape:
    """Shape of a layer's output for one image: its ``positions`` and its ``channels``."""

    positions: int
    channels: int


def layer_shape(network: Network, layer: str, pixels: NDArray[np.uint8]) -> LayerShape:
    """Return the shape of a layer's output for images of this size.

    Raises
    ------
    LayerError
        If there is no such layer; with the nearest name.
    """
    with torch.no_grad(), capture(network.module, layer) as captured:
        network.module(network.encode(pixels[:1]))
    return LayerShape(*captured.positions.shape[1:])


def draw_features(
    network: Network,
    layer: str,
    pixels: NDArray[np.uint8],
    count: int,
    generator: np.random.Generator,
) -> DrawnFeatures:
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
    """
    with (
        torch.enable_grad(),
        network.explanation_mode(),
        capture(network.module, layer, leaf=True) as captured,
    ):
        logits = network.logits(network.encode(pixels))
        gradient = torch.autograd.grad(logits.amax(dim=1).sum(), captured.output)[0]
    features = captured.positions.detach()
    importances = importance(features, to_positions(gradient)).cpu().numpy()
    drawn = sample_positions(importances, count, generator)
    return DrawnFeatures(
        feature=_pick(features, drawn.image, drawn.position),
        image=drawn.image,
        rank=_rank_in_group(drawn.image),
        row=captured.rows[drawn.position].astype(np.int32),
        column=captured.columns[drawn.position].astype(np.int32),
        importance=importances[drawn.image, drawn.position].astype(np.float32),
    )


def _pick(
    features: Tensor, image: NDArray[np.int64], position: NDArray[np.int64]
) -> NDArray[np.float32]:
    rows = torch.from_numpy(image).to(features.device)
    columns = torch.from_numpy(position).to(features.device)
    return features[rows, columns].float().cpu().numpy()


def _rank_in_group(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each entry of a sorted array how many equal ones come before it."""
    first = np.searchsorted(groups, groups, side="left")
    return np.arange(len(groups)) - first
