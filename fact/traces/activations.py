"""Activations of neurons: what a layer puts out for an image, one number for each channel.

A neuron is a logit, a channel of a layer, or the sum of the outputs of a group of classes. Source:
Oikarinen et al., "Evaluating Neuron Explanations: A Unified Framework with Sanity Checks", ICML
2025, arXiv 2506.05774, section 2 and appendix B.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from fact.data.images import ImageDataset, batches, class_groups
from fact.networks.arrays import AnyArray, image_ids, slices, take
from fact.networks.files import open_network
from fact.networks.layers import LayerError, capture, to_positions
from fact.networks.network import Network, as_network, without_logit_bias
from fact.traces.config import ActivationConfig, Pooling, Transform
from registry import Inputs, Run, Shards
from registry.suggest import nearest

SHARD_BYTES = 64 * 2**20

_POOL: Mapping[Pooling, Callable[[Tensor], Tensor]] = {
    "mean": lambda positions: positions.mean(dim=1),
    "max": lambda positions: positions.amax(dim=1),
    "sum": lambda positions: positions.sum(dim=1),
}


@dataclass(frozen=True)
class Readout:
    """What of a network is taken for neurons.

    Attributes
    ----------
    layer : str
        Name of the layer, as ``layer4``; "" takes the network's output, its logits.
    pooling : str
        How a map's positions, or tokens, become one number: ``mean``, ``max`` or ``sum``.
    transform : str
        What is done with the pooled numbers: ``none``, ``softmax`` over all neurons, ``sigmoid``.
    with_bias : bool
        Whether the output keeps the constant that a B-cos network adds to all its logits. Other
        networks always give their output as it is, and hidden layers do not depend on it.
    """

    layer: str = ""
    pooling: Pooling = "mean"
    transform: Transform = "none"
    with_bias: bool = True

    def __str__(self) -> str:
        bias = "" if self.with_bias or self.layer else " before the bias"
        transform = "" if self.transform == "none" else f", {self.transform}"
        return f"{self.layer or 'logits'}{bias}, {self.pooling} over positions{transform}"

    def activations(self, network: Network, encoded: Tensor) -> Tensor:
        """Return activations (image, neuron) of encoded images.

        Parameters
        ----------
        network : Network
            In evaluation mode.
        encoded : Tensor
            From :meth:`fact.networks.network.Network.encode`.

        Raises
        ------
        LayerError
            If there is no such layer, or it does not put out one tensor of maps, tokens or vectors.
        """
        positions = to_positions(self._output(network, encoded))
        pooled = _POOL[self.pooling](positions)
        if self.transform == "softmax":
            return pooled.softmax(dim=1)
        return pooled.sigmoid() if self.transform == "sigmoid" else pooled

    def _output(self, network: Network, encoded: Tensor) -> Tensor:
        if self.layer:
            with torch.no_grad(), capture(network.module, self.layer) as captured:
                network.module(encoded)
                return captured.output
        bypassed = nullcontext() if self.with_bias else without_logit_bias(network.module)
        with torch.no_grad(), bypassed:
            output = network.module(encoded)
        if not isinstance(output, Tensor):
            raise LayerError(f"the network puts out a {type(output).__name__}; expected a tensor")
        return output


def neuron_activations(
    network: Network | nn.Module,
    images: AnyArray,
    layer: str = "",
    *,
    pooling: Pooling = "mean",
    transform: Transform = "none",
    batch_size: int = 32,
) -> xr.DataArray:
    """Return the activations of a layer's neurons, or of the logits.

    Parameters
    ----------
    network : Network or Module
        B-cos or not, in evaluation mode.
    images : array
        ``(image, y, x, colour)`` RGB of any library, or a Tensor ``(image, colour, y, x)``, in the
        size that the network takes. A DataArray's coordinate ``image`` is kept.
    layer : str
        Name of the layer; "" takes the network's output, its bias included.
    pooling : str
        ``mean``, ``max`` or ``sum`` over a map's positions, or over tokens.
    transform : str
        ``none``, ``softmax`` over neurons, or ``sigmoid``; of the pooled numbers.
    batch_size : int
        Images at a time; bounds the memory.

    Returns
    -------
    DataArray
        (image, neuron) float32, ready for :func:`evals.score`.

    Raises
    ------
    LayerError
        If there is no such layer; with the nearest name.
    """
    network, readout = as_network(network), Readout(layer, pooling, transform)
    ids = image_ids(images)
    parts = [
        readout.activations(network, network.encode(take(images, chosen))).float().cpu().numpy()
        for chosen in slices(len(ids), batch_size)
    ]
    values = np.concatenate(parts)
    coords = {"image": ids, "neuron": np.arange(values.shape[1])}
    return xr.DataArray(values, coords, ("image", "neuron"), name="activation")


# --- names of neurons -----------------------------------------------------------------------


@dataclass(frozen=True)
class Neurons:
    """Names of neurons, what is known of them, and which are sums of others.

    Attributes
    ----------
    names : tuple of str
        One for each neuron: first the outputs, then the groups.
    right_concepts : tuple of str
        The label, as ``class:star`` or ``group:tops``, that each stands for; "" where unknown.
    members : tuple of tuple of int
        For each group, the outputs that it sums.
    """

    names: tuple[str, ...]
    right_concepts: tuple[str, ...]
    members: tuple[tuple[int, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def n_known(self) -> int:
        """How many neurons are known."""
        return sum(bool(concept) for concept in self.right_concepts)

    def with_sums(self, activations: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return activations (image, output) with the sums of the groups behind them.

        Summed in double precision, in the order of the classes.
        """
        double = activations.astype(np.float64)
        sums = [double[:, list(outputs)].sum(axis=1) for outputs in self.members]
        return np.column_stack([activations, *sums]).astype(np.float32)


def hidden_neurons(count: int) -> Neurons:
    """Return neurons of which nothing is known, named by their numbers."""
    return Neurons(tuple(map(str, range(count))), ("",) * count)


def output_neurons(
    names: Sequence[str],
    classes: Sequence[str],
    groups: Mapping[str, Sequence[str]] | None = None,
    match: Literal["name", "order"] = "name",
) -> Neurons:
    """Return the neurons of a network's output, with the labels that they stand for.

    Parameters
    ----------
    names : sequence of str
        Names of the network's classes.
    classes : sequence of str
        Names of the classes of the dataset.
    groups : mapping of str to sequence of str, optional
        Groups of the dataset's classes; each becomes a neuron, the sum of its members.
    match : str
        ``name``: outputs stand for the class of the same name, and others are unknown. ``order``:
        the outputs are the dataset's classes, in this order, whatever their names.

    Raises
    ------
    ValueError
        If there are not as many outputs as classes where they are matched by order, or a group has
        a class without an output.
    """
    if match == "order":
        if len(names) != len(classes):
            raise ValueError(f"{len(names)} outputs, {len(classes)} classes; expected as many")
        output_of = {name: output for output, name in enumerate(classes)}
    else:
        output_of = {name: output for output, name in enumerate(names)}
    known = {output_of[name]: f"class:{name}" for name in classes if name in output_of}
    groups = groups or {}
    for group, members in groups.items():
        for name in members:
            if name not in output_of:
                hint = nearest(name, output_of)
                raise ValueError(f"group {group!r}: the network knows no class {name!r}{hint}")
    return Neurons(
        (*names, *groups),
        (*(known.get(output, "") for output in range(len(names))), *(f"group:{g}" for g in groups)),
        tuple(tuple(sorted(output_of[name] for name in members)) for members in groups.values()),
    )


# --- over a whole dataset -------------------------------------------------------------------


def collect_activations(config: ActivationConfig, inputs: Inputs, run: Run) -> Shards:
    """Collect shard by shard; a stopped collection goes on at its next shard."""
    network = open_network(inputs["network"], config.device)
    return Collection(network, inputs["images"].load(), config).run(run)


@dataclass(frozen=True)
class Collection:
    """Which activations are collected, and where.

    Attributes
    ----------
    network : Network
        On its device.
    images : ImageDataset
        Where to read.
    config : ActivationConfig
        What is taken for neurons, of which split.
    """

    network: Network
    images: ImageDataset
    config: ActivationConfig

    @property
    def readout(self) -> Readout:
        """What of the network is taken for neurons."""
        config = self.config
        return Readout(config.layer, config.pooling, config.transform, config.with_bias)

    def run(self, run: Run) -> Shards:
        """Collect what is not collected yet: shards of the schema ``activations``.

        Raises
        ------
        ValueError
            If the split has no images, or outputs and classes do not go together.
        """
        ids, batch = self.images.ids(self.config.split), self.config.batch
        if not len(ids):
            raise ValueError(f"split {self.config.split!r} has no images")
        neurons, writer = self._neurons(ids), run.shards()
        # Whole batches, so that every batch is the same after a stop.
        size = max(1, SHARD_BYTES // (4 * len(neurons) * batch)) * batch
        for index, start in enumerate(range(0, len(ids), size)):
            if index not in writer.done:
                writer.append(self._part(ids[start : start + size], neurons), index)
            run.progress(min(start + size, len(ids)), len(ids), "images")
        return writer.finish(self._summary(neurons, len(ids)))

    def _neurons(self, ids: NDArray[np.str_]) -> Neurons:
        encoded = self.network.encode(self.images.read(ids[:1], self.network.geometry))
        count = self.readout.activations(self.network, encoded).shape[1]
        if self.readout.layer:
            return hidden_neurons(count)
        groups = class_groups(self.images) if self.config.groups else None
        return output_neurons(
            self.network.class_names(count), self.images.classes, groups, self.config.match
        )

    def _part(self, ids: NDArray[np.str_], neurons: Neurons) -> xr.Dataset:
        parts = []
        for _, pixels in batches(self.images, ids, self.config.batch, self.network.geometry):
            outputs = self.readout.activations(self.network, self.network.encode(pixels))
            parts.append(neurons.with_sums(outputs.float().cpu().numpy()))
        return xr.Dataset(
            {"activation": (("image", "neuron"), np.concatenate(parts))},
            {"image": ids.astype(object), "neuron": np.arange(len(neurons))},
        )

    def _summary(self, neurons: Neurons, n_images: int) -> xr.Dataset:
        return xr.Dataset(
            {
                "name": ("neuron", np.array(neurons.names, dtype=object)),
                "right_concept": ("neuron", np.array(neurons.right_concepts, dtype=object)),
                "variant": str(self.readout),
                "n_images": n_images,
                "n_neurons": len(neurons),
                "n_known": neurons.n_known,
            }
        )
