"""Where a channel of a standard network is in an image: concept relevance propagation (CRP).

The activation of one channel of a layer is its relevance there, and is handed back to the image by
the rules of :mod:`fact.networks.relevance`.

Sources: Achtibat et al., "From attribution maps to human-understandable explanations through
Concept Relevance Propagation", Nature Machine Intelligence 5, 2023; Parchami-Araghi et al.,
"FaCT", NeurIPS 2025, arXiv 2510.25512, section 5, where it is a baseline.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

import registry
from fact.data.images import ImageDataset
from fact.encode.config import SharedConceptsConfig
from fact.encode.shared_concepts import encode_shared
from fact.networks.arrays import AnyArray, as_numpy, image_ids, slices, take
from fact.networks.files import open_network
from fact.networks.layers import LayerError
from fact.networks.network import Network, as_network
from fact.networks.relevance import relevance_pass
from fact.traces.pairs import Locate, Located
from registry.store.shards import Shards
from registry.wording import counted


def relevance_maps(
    network: Network | nn.Module,
    layer: str,
    images: AnyArray,
    channels: AnyArray,
    *,
    batch_size: int = 32,
) -> xr.DataArray:
    """Return where one channel of a layer is in each image.

    Parameters
    ----------
    network : Network or Module
        Of torchvision, not B-cos: a ResNet, VGG or AlexNet, or a sequence of layers.
    layer : str
        Name of the layer, as ``layer4``.
    images : array, Tensor or DataArray
        As :func:`fact.traces.contributions.trace_concepts` takes them.
    channels : array of int
        ``(image,)``, of each image its own.
    batch_size : int
        Images at a time; bounds the memory.

    Returns
    -------
    DataArray
        ``(image, y, x)``, in the unit of the layer's output: the relevance of each pixel, summed
        over colours.

    Raises
    ------
    ImportError
        If zennit is not installed.
    NetworkError
        If the network has steps without a rule.
    LayerError
        If there is no such layer, it puts out neither maps nor vectors, or has no such channel.
    """
    network, ids = as_network(network), image_ids(images)
    wanted = as_numpy(channels).astype(np.int64)
    if wanted.shape != ids.shape:
        raise ValueError(
            f"{counted(len(ids), 'image')} and channels {wanted.shape}; expected one for each"
        )
    parts = []
    for rows in slices(len(ids), batch_size):
        with channel_relevances(network, layer, network.encode(take(images, rows))) as locate:
            parts.append(locate(torch.from_numpy(wanted[rows])[None])[1][0])
    attrs = {"long_name": "relevance of the pixel", "layer": layer, "network": network.name}
    values = np.concatenate([part.float().cpu().numpy() for part in parts])
    return xr.DataArray(values, {"image": ids}, ("image", "y", "x"), name="map", attrs=attrs)


@contextmanager
def channel_relevances(network: Network, layer: str, encoded: Tensor) -> Iterator[Locate]:
    """Find where channels of a layer are in encoded images, from one pass.

    Raises
    ------
    ImportError, NetworkError, LayerError
        As of :func:`relevance_maps`.
    """
    with relevance_pass(network, layer, encoded) as (output, propagate):

        def locate(channels: Tensor) -> Located:
            starts = [_start(layer, output, own) for own in channels.to(output.device)]
            return None, propagate(torch.stack(starts))

        yield locate


def collected_layer(activations: registry.Input, device: str) -> tuple[Network, str]:
    """Return the network, and the layer of it, whose activations were collected.

    Raises
    ------
    ValueError
        If they are no sums over the positions of a layer, which presences are.
    StageError
        If no network made them.
    """
    source, config = activations.origin("network"), activations.config
    layer, pooling, transform = (config[key] for key in ("layer", "pooling", "transform"))
    if not layer or (pooling, transform) != ("sum", "none"):
        raise ValueError(
            f"{activations.name!r} was collected with layer {layer!r}, pooling {pooling!r}, "
            f"transform {transform!r}; expected a layer, pooling 'sum', transform 'none'"
        )
    return open_network(source, device), layer


def _start(layer: str, output: Tensor, channels: Tensor) -> Tensor:
    """Return a layer's output with all channels but one of each image set to 0."""
    if output.ndim not in (2, 4):
        shape = tuple(output.shape)
        raise LayerError(f"layer {layer!r} puts out {shape}; expected maps or vectors")
    count = output.shape[1]
    if len(channels) and not (channels.min() >= 0 and channels.max() < count):
        raise LayerError(
            f"layer {layer!r} has {counted(count, 'channel')}; got {sorted(set(channels.tolist()))}"
        )
    rows, start = torch.arange(len(output), device=output.device), torch.zeros_like(output)
    start[rows, channels] = output[rows, channels]
    return start


def encode_crp(config: SharedConceptsConfig, inputs: registry.Inputs, run: registry.Run) -> Shards:
    """Encode each channel in the images in which it is strongest, by its relevance (CRP)."""
    activations = inputs["activations"]
    network, layer = collected_layer(activations, config.device)
    explain = partial(channel_relevances, network, layer)
    images: ImageDataset = activations.origin("images").load()
    with activations.open() as collected:
        presence = collected["activation"].rename(neuron="concept")
        return encode_shared(config, network, explain, images, presence, run)
