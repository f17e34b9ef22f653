"""Where concepts come from: a network, a layer of it, and an SAE or the layer's own channels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fact.data.images import Pixels
from fact.networks.files import open_network
from fact.networks.network import Network
from fact.sae.model import TopKSAE
from fact.traces.attribution import concept_maps
from registry import Input


@dataclass(frozen=True)
class ConceptSource:
    """A network with the concepts of one of its layers.

    Attributes
    ----------
    network : Network
        On the chosen device.
    layer : str
        Name of the layer.
    sae : TopKSAE or None
        None where the layer's own channels are the concepts.
    """

    network: Network
    layer: str
    sae: TopKSAE | None

    @classmethod
    def of_sae(cls, sae: Input, device: str) -> ConceptSource:
        """Return a trained SAE with the network and the layer whose features it was trained on."""
        features = sae.origin("features")
        layer = features.config["layer"]
        with sae.open(proven=math.inf) as dataset:
            weights = TopKSAE.from_dataset(dataset.load())
        network = open_network(features.origin("network"), device)
        return cls(network, layer, weights.to(network.device).requires_grad_(False))

    @classmethod
    def of_concepts(cls, concepts: Input, device: str) -> ConceptSource:
        """Return what the statistics of concepts were measured on."""
        if "sae" in concepts.inputs:
            return cls.of_sae(concepts.inputs["sae"], device)
        network = open_network(concepts.inputs["network"], device)
        return cls(network, concepts.config["layer"], None)

    def maps(self, pictures: Pixels, concepts: NDArray[np.int64]) -> NDArray[np.floating]:
        """Return where one concept (image,) is in each picture: (image, y, x)."""
        found = concept_maps(
            self.network,
            self.layer,
            self.sae,
            pictures,
            concepts[:, None],
            batch_size=len(concepts),
        )
        maps: NDArray[np.floating] = found["map"].values[:, 0]
        return maps
