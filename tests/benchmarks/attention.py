"""How far does attention carry pictures of a grid into each other's maps? ``standard-vit`` alone.

In the folder of a project whose networks are there::

    python -m tests.benchmarks.attention 'fashion-vit-bcosified[cell=first]' …

Each network plays the grid pointing game as it is; with positions as in a picture of its own in
each cell, where sines go on across the grid otherwise; and with attention kept within cells. Also
printed is how much of what a token attends to lies in its own cell.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fact.data.images import Pixels
from fact.networks.files import load_network
from fact.networks.linearity import known_linearity
from fact.networks.network import Network, predict_logits
from fact.networks.pointing import _confident, draw_grids, pointing_scores, tile
from registry.plan.project import Project, open_project

ROWS, N_GRIDS, BATCH = 3, 40, 8
SMOOTHS = (1, 5)


@contextmanager
def in_cells(
    network: Network, positions: bool, attention: bool, shares: list[float]
) -> Iterator[None]:
    """Let positions, or attention, be those of each cell alone; note the share within cells."""

    def place(_module: Any, given: tuple[Tensor], output: Tensor) -> Tensor:
        side, channels = given[0].shape[1] // ROWS, output.shape[1]
        own = output.view(given[0].shape[1], -1, channels)[:side, :side]
        return own.repeat(ROWS, ROWS, 1).flatten(0, 1) if positions else output

    def attend(_module: Any, _given: Any, weights: Tensor) -> Tensor:
        side = math.isqrt(weights.shape[-1])
        of_row = torch.arange(side) // (side // ROWS)
        cell = (of_row[:, None] * ROWS + of_row).flatten()
        own = weights * (cell[:, None] == cell)
        shares.append(float(own.sum(dim=-1).mean()))
        return own / own.sum(dim=-1, keepdim=True) if attention else weights

    with ExitStack() as stack:
        for part in network.module.modules():
            hook = {"PosEmbSinCos2d": place, "Softmax": attend}.get(type(part).__name__)
            if hook is not None:
                stack.enter_context(part.register_forward_hook(hook))
        yield


def drawn(project: Project, name: str, seed: int) -> tuple[Network, Pixels, NDArray[np.int64]]:
    """Return a network, and grids of test images that it recognises, with their classes."""
    needs = project.graph.cells[project.cell(name).name].needs
    images: Any = project.declaration.resources[needs["images"]].settings.load()
    ids, labels = images.ids("test"), images.labels("test")
    network = load_network(project.current(name))
    network = known_linearity(network, images.read(ids[:8], network.geometry))
    sure = _confident(network, predict_logits(network, images, ids), labels, 0.5)
    chosen = draw_grids(np.where(sure, labels, -1), ROWS**2, N_GRIDS, seed)
    read = images.read(ids[chosen.ravel()], network.geometry)
    return network, tile(read.reshape(-1, ROWS**2, *read.shape[1:])), labels[chosen]


def main(names: list[str]) -> None:
    """Print a line for each network."""
    project = open_project(".")
    print(
        f"{'smoothed over 1 and 5 pixels':44}own cell  as it is       own positions  and attention"
    )
    for seed, name in enumerate(names):
        network, grids, targets = drawn(project, name, seed)
        told, shares = [], []
        for positions, attention in ((False, False), (True, False), (True, True)):
            own: list[float] = []
            for smooth in SMOOTHS:
                with in_cells(network, positions, attention, own):
                    parts = [
                        pointing_scores(
                            network, grids[i : i + BATCH], targets[i : i + BATCH], smooth
                        )
                        for i in range(0, N_GRIDS, BATCH)
                    ]
                told.append(f"{np.concatenate(parts).mean():.3f}")
            shares.append(np.mean(own))
        print(f"{name:44}{shares[0]:.3f}     " + "   ".join(told), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
