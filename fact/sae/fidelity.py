"""How much of its accuracy a network keeps when concepts take the place of a layer."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from fact.data.images import ImageDataset, batches
from fact.networks import network as networks
from fact.networks.layers import splice
from fact.networks.network import Network
from fact.sae.features import held_out
from fact.sae.model import TopKSAE

if TYPE_CHECKING:
    from registry import Input

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class HeldOut:
    """The images that were kept out of the features, to validate concepts on.

    Attributes
    ----------
    network : Network
        Whose features they are.
    layer : str
        The layer.
    images : ImageDataset
        Where to read.
    ids : ndarray of str, (image,)
        What was held out.
    labels : ndarray of int64, (image,)
        Their classes.
    """

    network: Network
    layer: str
    images: ImageDataset
    ids: NDArray[np.str_]
    labels: NDArray[np.int64]

    @classmethod
    def of_features(cls, features: Input, device: torch.device) -> HeldOut:
        """Return what a collection of features held out, by its own configuration."""
        config = features.config
        images: ImageDataset = features.inputs["images"].load()
        network = networks.load(features.inputs["network"]).to(device)
        ids, labels = images.ids(config["split"]), images.labels(config["split"])
        mask = held_out(labels, config["seed"], config["held_out_per_class"])
        return cls(network, config["layer"], images, ids[mask], labels[mask])

    def accuracy(self, sae: TopKSAE | None) -> float:
        """Return the share of correct predictions with the SAE in place of the layer.

        Parameters
        ----------
        sae : TopKSAE or None
            None leaves the network as it is.

        Returns
        -------
        float
            0 to 1; NaN if no image was held out.
        """
        if not len(self.ids):
            return float("nan")
        logits = predict_logits(self.network, self.images, self.ids, self.layer, sae)
        return float((logits.argmax(axis=1) == self.labels).mean())


def predict_logits(
    network: Network,
    images: ImageDataset,
    ids: NDArray[np.str_],
    layer: str | None = None,
    sae: TopKSAE | None = None,
    batch: int = EVALUATION_BATCH,
) -> NDArray[np.float32]:
    """Return logits before the bias, of the network or with an SAE in place of a layer.

    Parameters
    ----------
    network : Network
        In evaluation mode.
    images : ImageDataset
        Where to read.
    ids : ndarray of str, (image,)
        What to read.
    layer, sae : str and TopKSAE, optional
        What is replaced, and by what.
    batch : int
        Images at a time.

    Returns
    -------
    ndarray of float32, (image, class)
    """
    parts = []
    with torch.no_grad(), _spliced(network, layer, sae):
        for _, pixels in batches(images, ids, batch, network.geometry):
            parts.append(network.logits(network.encode(pixels)).float().cpu().numpy())
    return np.concatenate(parts)


def _spliced(
    network: Network, layer: str | None, sae: TopKSAE | None
) -> AbstractContextManager[Any]:
    if layer is None or sae is None:
        return nullcontext()
    return splice(network.module, layer, sae)
