"""An SAE from elsewhere, held against the layer that it is said to be of before all else."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from fact.data.images import ImageDataset, batches
from fact.fidelity.measurement import Fidelity, SAEModel, measure_batch
from fact.fidelity.placement import place
from fact.networks.files import open_network
from fact.networks.layers import capture, layer_shape
from fact.networks.network import Network
from fact.sae.config import ImportSAEConfig
from fact.sae.formats import SAEFileError
from fact.sae.model import SAE
from fact.traces.spliced import ConceptSource
from registry import Inputs, Run
from registry.wording import counted

GUESSED = 16
"""Images that are looked at for a hint."""


def import_sae(config: ImportSAEConfig, inputs: Inputs, run: Run) -> xr.Dataset:
    """Read an SAE, and check that it reconstructs its layer.

    Returns
    -------
    Dataset
        Of the schema ``sae``, without a training.

    Raises
    ------
    SAEFileError
        If the file cannot be read, the SAE does not fit the layer, or its reconstruction explains
        less of the layer than asked for, what it is off by everywhere included; or no more of it
        than with the layer's channels shuffled.
    """
    network = open_network(inputs["network"], config.device)
    sae: SAE = inputs["weights"].load().to(network.device, network.dtype).requires_grad_(False)
    images: ImageDataset = inputs["images"].load()
    ids = images.ids(config.split)
    drawn = np.random.default_rng(config.seed).permutation(len(ids))[: config.n_images]
    ids = ids[np.sort(drawn)]

    def encoded(most: int) -> Iterator[Tensor]:
        for _, pixels in batches(images, ids[:most], config.batch, network.geometry):
            yield network.encode(pixels)

    name = inputs["weights"].name
    _require_fit(network, config.layer, sae, images.read(ids[:1], network.geometry), name)
    model, found = SAEModel(ConceptSource(network, config.layer, sae)), Fidelity()
    for some in encoded(len(ids)):
        labels = np.full(len(some), -1, dtype=np.int64)
        found.add(*measure_batch(model, some, labels, torch.zeros(())))
        run.progress(found.done, len(ids), "images")
    checked = found.summarise(ids, "zero", 2, config.seed)
    told = (
        f"{name} at {config.layer}: explained variance "
        f"{float(checked['explained_variance']):.3f}, L0 {float(checked['l0']):.1f} of "
        f"{sae.n_concepts}, {int(checked['dead_concepts'])} dead, on {counted(len(ids), 'image')}"
    )
    sys.stdout.write(f"{told}\n")
    least = f"expected at least {config.least_explained:g}"
    if not float(checked["explained_variance"]) >= config.least_explained:
        hint = scale_hint(network, config.layer, sae, encoded(GUESSED))
        raise SAEFileError(f"{told}; {least}. {hint}")
    whole = 1 - float(checked["normalised_mse"])  # of the error itself, not of its deviation
    if not whole >= config.least_explained:
        raise SAEFileError(
            f"{told}. That leaves out a constant by which its reconstruction is off; with it, "
            f"{whole:.3f} is explained; {least}. Check the layer, that the network has the weights "
            "it was trained on, the decoder's bias, and `mean`"
        )
    placed = place(network, config.layer, sae, encoded(GUESSED), config.seed)
    if placed.is_chance and config.least_explained > 0:
        raise SAEFileError(f"{told}. But on a few of them {placed.told()}. Is it of another layer?")
    if placed.told():
        sys.stdout.write(f"On a few of them {placed.told()}\n")
    return (
        sae.float()
        .to_dataset()
        .assign(
            checked_explained_variance=float(checked["explained_variance"]),
            checked_l0=float(checked["l0"]),
            checked_dead=np.int64(checked["dead_concepts"]),
            checked_agreement=float(checked["agreement"]),
            checked_shuffled=float(placed.shuffled.mean()) if len(placed.shuffled) else np.nan,
            n_checked=np.int64(len(ids)),
        )
    )


def _require_fit(network: Network, layer: str, sae: SAE, pixels: np.ndarray, name: str) -> None:
    _, channels = layer_shape(network, layer, pixels)
    if channels != sae.n_channels:
        raise SAEFileError(
            f"{name} is for {counted(sae.n_channels, 'channel')}; layer {layer!r} of "
            f"{network.name!r} has "
            f"{channels}. Is it of another layer?"
        )


@torch.no_grad()
def scale_hint(network: Network, layer: str, sae: SAE, encoded: Iterator[Tensor]) -> str:
    """Return what may be wrong with an SAE that does not reconstruct its layer.

    Parameters
    ----------
    network, layer : Network and str
        Where it stands.
    sae : SAE
        As it was read.
    encoded : iterator of Tensor
        Some images, in batches.
    """
    parts = []
    for some in encoded:
        with network.explanation_mode(), capture(network.module, layer) as captured:
            network.module(some)
        parts.append(captured.positions.flatten(0, 1))
    x = torch.cat(parts)
    size, centre = float(x.square().sum(dim=1).mean().sqrt()), x.mean(dim=0)
    spread = float((x - centre).square().sum(dim=1).mean().sqrt())
    tried = {
        f"scale = {size:.4g}, the root mean squared norm here": sae(x / size) * size,
        "features centred by their mean here": sae(x - centre) + centre,
        f"both, with scale = {spread:.4g}": sae((x - centre) / spread) * spread + centre,
    }
    total = float((x - centre).square().sum())
    shares = {what: 1 - float((x - y).square().sum()) / total for what, y in tried.items()}
    best = max(shares, key=shares.__getitem__)
    told = f"With {best} it would be {shares[best]:.3f}. "
    return (told if shares[best] > 0 else "") + (
        "Check the layer, and what features were divided by (scale) and centred by (mean) in "
        "training"
    )
