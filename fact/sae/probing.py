"""A first look at a network, a layer and images, before features are collected of them."""

from __future__ import annotations

from typing import Any

from fact.networks.files import open_network
from fact.networks.layers import layer_shape
from fact.networks.linearity import N_IMAGES, known_linearity
from fact.sae.config import FeatureConfig
from fact.sae.sampling import held_out, samples_per_image
from registry import Inputs


def probe_features(config: FeatureConfig, inputs: Inputs) -> dict[str, Any]:
    """Return how many features there will be of how many channels, and whether all is linear.

    Returns
    -------
    dict
        ``n_samples``, ``channels``, and of the ``network`` ``linear`` and ``probe``, as
        :class:`fact.Network` has them.

    Raises
    ------
    LayerError, ValueError
        If there is no such layer or split, or nothing can be loaded.
    """
    network, images = open_network(inputs["network"]), inputs["images"].load()
    kept_out = held_out(images.labels(config.split), config.seed, config.held_out_per_class)
    first = images.read(images.ids(config.split)[:N_IMAGES], network.geometry)
    network = known_linearity(network, first)
    positions, channels = layer_shape(network, config.layer, first)
    drawn = min(config.samples_per_image or samples_per_image(channels), positions)
    return {
        "n_samples": int((~kept_out).sum()) * drawn,
        "channels": channels,
        "network": {"linear": network.linear, "probe": network.probe},
    }
