"""How much of its accuracy a network keeps when concepts take the place of a layer."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fact.data.images import ImageDataset
from fact.networks.files import open_network
from fact.networks.layers import splice
from fact.networks.network import Network, predict_logits
from fact.sae.model import TopKSAE
from fact.sae.sampling import held_out
from registry import Input


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
    def of_features(cls, features: Input, device: str) -> HeldOut:
        """Return what a collection of features held out, by its own configuration."""
        config = features.config
        images: ImageDataset = features.inputs["images"].load()
        network = open_network(features.inputs["network"], device)
        ids, labels = images.ids(config["split"]), images.labels(config["split"])
        mask = held_out(labels, config["seed"], config["held_out_per_class"])
        return cls(network, config["layer"], images, ids[mask], labels[mask])

    def accuracy(self, sae: TopKSAE | None) -> float:
        """Return the fraction of correct predictions with the SAE in place of the layer.

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
        replaced = nullcontext() if sae is None else splice(self.network.module, self.layer, sae)
        with replaced:
            logits = predict_logits(self.network, self.images, self.ids)
        return float((logits.argmax(axis=1) == self.labels).mean())
