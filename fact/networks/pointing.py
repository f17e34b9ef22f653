"""The grid pointing game: does the map of a class lie on the picture of that class?

Pictures that a network recognises, each of another class, stand in a square grid. Of the positive
part of the map of each class's logit, the share that lies in its own cell is the score; chance is
one over the number of cells. Source: Böhle, Fritz, Schiele, "Convolutional Dynamic Alignment
Networks for Interpretable Classifications", CVPR 2021, arXiv 2104.00032, section 4.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fact.data.images import ImageDataset, Pixels
from fact.networks.arrays import slices
from fact.networks.config import PointingConfig
from fact.networks.files import open_network
from fact.networks.linearity import known_linearity, tell_linearity
from fact.networks.network import Architecture, Network, NetworkError, match_classes, predict_logits
from registry import Inputs, Run
from registry.wording import counted

FLOOR = 1e-12
"""Smallest denominator of a share: a map without positive part scores 0."""


def measure_pointing(config: PointingConfig, inputs: Inputs, run: Run) -> xr.Dataset:
    """Draw grids, map every class in each, and score the maps.

    Returns
    -------
    Dataset
        Of the schema ``pointing``.

    Raises
    ------
    NetworkError
        If the network recognises images of too few classes, or takes none as large as a grid.
    """
    images: ImageDataset = inputs["images"].load()
    network = open_network(inputs["network"], config.device)
    ids = images.ids(config.split)
    network = known_linearity(network, images.read(ids[:8], network.geometry))
    tell_linearity(network)
    match = match_classes(network, images, ids, config.match)
    labels = match.of_labels(images.labels(config.split))
    match.tell()
    logits = predict_logits(network, images, ids)
    sure = _confident(network, logits, labels, config.least_confidence)
    chosen = draw_grids(np.where(sure, labels, -1), config.rows**2, config.n_grids, config.seed)
    enlarged = enlarge(network, config.rows)
    scores = []
    for rows in slices(len(chosen), config.batch):
        read = images.read(ids[chosen[rows].ravel()], network.geometry)
        grids = tile(read.reshape(-1, config.rows**2, *read.shape[1:]))
        scores.append(pointing_scores(enlarged, grids, labels[chosen[rows]], config.smooth))
        run.progress(rows.stop, len(chosen), "grids")
    score = np.concatenate(scores)
    return xr.Dataset(
        {
            "image": (("grid", "cell"), ids[chosen].astype(object)),
            "class_index": (("grid", "cell"), labels[chosen]),
            "score": (("grid", "cell"), score),
            "mean_score": float(score.mean()),
            "chance": 1 / config.rows**2,
            "n_confident": int(sure.sum()),
            "exact": bool(network.linear),
        }
    )


def _confident(
    network: Network, logits: NDArray[np.float32], labels: NDArray[np.int64], least: float
) -> NDArray[np.bool_]:
    """Return which images are predicted rightly with a probability above ``least``, (image,)."""
    biased = torch.from_numpy(logits + (network.logit_bias or 0.0))
    probability = biased.sigmoid() if network.bcos else biased.softmax(dim=1)
    right = logits.argmax(axis=1) == labels
    return np.asarray(right & (probability.max(dim=1).values.numpy() > least))


def draw_grids(
    labels: NDArray[np.int64], n_cells: int, n_grids: int, seed: int
) -> NDArray[np.int64]:
    """Return which images stand in each grid, ``(grid, cell)``, each of another class.

    Parameters
    ----------
    labels : ndarray of int64, (image,)
        Class of every image that may be drawn; -1 for the others.
    n_cells, n_grids : int
        Images of a grid, and how many grids.
    seed : int
        Draws classes and images.

    Raises
    ------
    NetworkError
        If there are fewer classes than cells.
    """
    classes = np.setdiff1d(labels, [-1])
    if len(classes) < n_cells:
        raise NetworkError(
            f"images of {counted(len(classes), 'class')} are recognised confidently; expected at "
            "least "
            f"{n_cells}, one for each cell of a grid"
        )
    draws = np.random.default_rng(seed)
    return np.array(
        [
            [
                draws.choice(np.flatnonzero(labels == label))
                for label in draws.choice(classes, n_cells, replace=False)
            ]
            for _ in range(n_grids)
        ]
    )


def tile(pictures: Pixels) -> Pixels:
    """Return pictures ``(grid, cell, y, x, colour)`` as squares ``(grid, y, x, colour)``."""
    count, cells, height, width, colours = pictures.shape
    rows = math.isqrt(cells)
    apart = pictures.reshape(count, rows, rows, height, width, colours)
    return apart.transpose(0, 1, 3, 2, 4, 5).reshape(count, rows * height, rows * width, colours)


def pointing_scores(
    network: Network, grids: Pixels, targets: NDArray[np.int64], smooth: int = 1
) -> NDArray[np.float64]:
    """Return the share of each class's positive map that lies in its own cell, ``(grid, cell)``.

    The map is the gradient at the encoded image, with dynamic weights frozen, times that image,
    summed over colours.

    Parameters
    ----------
    network : Network
        That takes images as large as a grid.
    grids : ndarray of uint8, (grid, y, x, colour)
        From :func:`tile`.
    targets : ndarray of int64, (grid, cell)
        Logit of the class in each cell, row by row.
    smooth : int
        Side of the box that maps are averaged over, in pixels; odd.

    Raises
    ------
    NetworkError
        If the network does not take such images.
    """
    rows = math.isqrt(targets.shape[1])
    image = network.encode(grids).detach().requires_grad_()
    with torch.enable_grad(), network.explanation_mode():
        try:
            logits = network.logits(image)
        except (RuntimeError, AssertionError) as error:
            raise NetworkError(
                f"{network.name} does not take images of {grids.shape[2]} x {grids.shape[1]} "
                f"pixels, as large as a grid: {error}"
            ) from error
    scores = np.zeros(targets.shape)
    for cell in range(targets.shape[1]):
        own = torch.from_numpy(targets[:, cell]).to(logits.device)
        picked = logits.gather(1, own[:, None]).sum()
        (gradient,) = torch.autograd.grad(picked, image, retain_graph=True)
        by_cell = _by_cell((gradient * image.detach()).sum(dim=1), rows, smooth)
        total = by_cell.sum(dim=1).clamp(min=FLOOR)
        scores[:, cell] = (by_cell[:, cell] / total).cpu().numpy()
    return scores


def _by_cell(maps: Tensor, rows: int, smooth: int) -> Tensor:
    """Sum the positive part of maps (grid, y, x) over cells, (grid, cell)."""
    smoothed = functional.avg_pool2d(maps[:, None], smooth, stride=1, padding=smooth // 2)
    positive = smoothed[:, 0].clamp(min=0).double()
    count, height, width = positive.shape
    apart = positive.view(count, rows, height // rows, rows, width // rows)
    return apart.sum(dim=(2, 4)).flatten(1)


def enlarge(network: Network, times: int) -> Network:
    """Return a network that takes images several times as large, its positions interpolated.

    Networks whose architecture knows no size of images are given back as they are.

    Parameters
    ----------
    network : Network
        Its positions, if it has any, are learned for a square grid of tokens, behind the tokens
        that stand for no patch.
    times : int
        How many times as large.
    """
    recipe = network.architecture and _enlarged(network.architecture, times)
    if recipe is None:
        return network
    module = recipe.build().to(network.device, network.dtype)
    wanted = module.state_dict()
    state = {
        name: value if value.shape == wanted[name].shape else _interpolated(value, times)
        for name, value in network.module.state_dict().items()
    }
    module.load_state_dict(state)
    return replace(network, module=module.eval().requires_grad_(False), architecture=recipe)


def _enlarged(recipe: Architecture, times: int) -> Architecture | None:
    settings: dict[str, Any] = dict(recipe.settings)
    if "original" in settings:
        own = _enlarged(Architecture(**settings["original"]), times)
        if own is None:
            return None
        settings["original"] = {"builder": own.builder, "settings": own.settings}
        return replace(recipe, settings=settings)
    if "image_size" not in settings:
        return None
    return replace(recipe, settings={**settings, "image_size": times * settings["image_size"]})


def _interpolated(positions: Tensor, times: int) -> Tensor:
    """Return positions (1, token, channel) of a square grid, of one several times as large."""
    side = math.isqrt(positions.shape[1])
    n_others = positions.shape[1] - side**2
    others, grid = positions[:, :n_others], positions[:, n_others:]
    maps = grid.transpose(1, 2).reshape(1, -1, side, side)
    larger = functional.interpolate(maps, scale_factor=times, mode="bicubic", align_corners=False)
    return torch.cat([others, larger.flatten(2).transpose(1, 2)], dim=1)
