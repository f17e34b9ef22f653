"""A first look at a network, a layer and images, before features are collected or measured."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fact.data.images import ImageDataset
from fact.networks.files import open_network
from fact.networks.layers import layer_shape
from fact.networks.linearity import N_IMAGES, known_linearity
from fact.networks.network import Network
from fact.networks.relevance import without_rules
from fact.sae.config import FeatureConfig
from fact.sae.sampling import held_out_of, samples_per_image
from registry import Inputs


def probe_features(config: FeatureConfig, inputs: Inputs) -> dict[str, Any]:
    """Return how many features there will be of how many channels, and whether all is linear.

    Returns
    -------
    dict
        ``n_samples``, ``channels``, and of the ``network`` ``linear`` and ``probe``, as
        :class:`fact.Network` has them, and ``crp``, whether concepts can be mapped by CRP.

    Raises
    ------
    LayerError, ValueError
        If there is no such layer or split, or nothing can be loaded.
    """
    network, images = open_network(inputs["network"]), inputs["images"].load()
    kept_out = held_out_of(images.labels(config.split), asdict(config))
    found, positions = _look(network, images, config.split, config.layer)
    drawn = min(config.samples_per_image or samples_per_image(found["channels"]), positions)
    return {"n_samples": int((~kept_out).sum()) * drawn, **found}


def probe_channels(config: Any, inputs: Inputs) -> dict[str, Any]:
    """Return how many channels a layer has, and what :func:`probe_features` says of the network.

    Raises
    ------
    LayerError, ValueError
        If there is no such layer or split, or nothing can be loaded.
    """
    network, images = open_network(inputs["network"]), inputs["images"].load()
    return _look(network, images, config.split, config.layer)[0]


def _look(
    network: Network, images: ImageDataset, split: str, layer: str
) -> tuple[dict[str, Any], int]:
    """Return what is found of a network and a layer, and the layer's number of positions."""
    first = images.read(images.ids(split)[:N_IMAGES], network.geometry)
    network = known_linearity(network, first)
    positions, channels = layer_shape(network, layer, first)
    found = {
        "channels": channels,
        "network": {
            "linear": network.linear,
            "probe": network.probe,
            "crp": not without_rules(network.module),
        },
    }
    return found, positions
