"""Activations of neurons: what a layer puts out for an image, one number for each channel.

A neuron is a logit, a channel of a layer, or the sum of the outputs of a group of classes. Source:
Oikarinen et al., "Evaluating Neuron Explanations: A Unified Framework with Sanity Checks", ICML
2025, arXiv 2506.05774, section 2 and appendix B.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from fact.data.classes import UNKNOWN, ClassMatch, Match
from fact.data.images import ImageDataset, batches, write_parts
from fact.data.tables import SHARD_BYTES, activation_part, neuron_summary
from fact.networks.arrays import AnyArray, image_ids, slices, take
from fact.networks.files import open_network
from fact.networks.layers import LayerError, run_until, to_positions
from fact.networks.network import Network, as_network, without_logit_bias
from fact.traces.config import ActivationConfig, Pooling, Transform
from registry import Inputs, Run, Shards
from registry.suggest import nearest

_POOL: Mapping[Pooling, Callable[[Tensor], Tensor]] = {
    "mean": lambda positions: positions.mean(dim=1),
    "max": lambda positions: positions.amax(dim=1),
    "sum": lambda positions: positions.sum(dim=1),
}


def read_neurons(network: Network, encoded: Tensor, config: ActivationConfig) -> Tensor:
    """Return activations (image, neuron) of encoded images.

    Parameters
    ----------
    network : Network
        In evaluation mode.
    encoded : Tensor
        From :meth:`fact.networks.network.Network.encode`.
    config : ActivationConfig
        What of the network is taken for neurons: layer, pooling, transform, bias.

    Raises
    ------
    LayerError
        If there is no such layer, or it does not put out one tensor of maps, tokens or vectors.
    """
    pooled = _POOL[config.pooling](to_positions(_output(network, encoded, config)))
    if config.transform == "softmax":
        return pooled.softmax(dim=1)
    return pooled.sigmoid() if config.transform == "sigmoid" else pooled


def _output(network: Network, encoded: Tensor, config: ActivationConfig) -> Tensor:
    if config.layer:
        with torch.no_grad():
            return run_until(network.module, config.layer, encoded).output
    bypassed = nullcontext() if config.with_bias else without_logit_bias(network.module)
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
    network, ids = as_network(network), image_ids(images)
    config = ActivationConfig(layer, transform, pooling)
    parts = [
        read_neurons(network, network.encode(take(images, rows)), config).float().cpu().numpy()
        for rows in slices(len(ids), batch_size)
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

    def with_sums(self, activations: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return activations (image, output) with the sums of the groups behind them.

        Summed in double precision, in the order of the classes.
        """
        double = activations.astype(np.float64)
        sums = [double[:, list(outputs)].sum(axis=1) for outputs in self.members]
        return np.column_stack([activations, *sums]).astype(np.float32)


def output_neurons(
    names: Sequence[str],
    classes: Sequence[str],
    groups: Mapping[str, Sequence[str]] | None = None,
    match: Match = "name",
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
    logits = ClassMatch.of(classes, names, len(names), match).logits
    of_class = zip(classes, logits.tolist(), strict=True)
    output_of = {name: output for name, output in of_class if output != UNKNOWN}
    known = {output: f"class:{name}" for name, output in output_of.items()}
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


def label_neurons(names: Sequence[str], labels: Sequence[str]) -> Neurons:
    """Return the neurons of an output that stand for labels of any kind, not for classes.

    Parameters
    ----------
    names : sequence of str
        Names of the outputs.
    labels : sequence of str
        Labels of the dataset. One is meant by its whole name, or by what follows its kind, as
        ``red`` for ``colour:red`` where no other label ends so.

    Raises
    ------
    ValueError
        If no output is called as a label.
    """
    tails: dict[str, list[str]] = {}
    for label in labels:
        tails.setdefault(label.partition(":")[2], []).append(label)
    whole = set(labels)
    found = [name if name in whole else _only(tails.get(name, ())) for name in names]
    if not any(found):
        raise ValueError(
            f"no output is called as a label: {names[0]!r}, …{nearest(names[0], labels)}"
        )
    return Neurons(tuple(names), tuple(found))


def _only(found: Sequence[str]) -> str:
    return found[0] if len(found) == 1 else ""


# --- over a whole dataset -------------------------------------------------------------------


def collect_activations(config: ActivationConfig, inputs: Inputs, run: Run) -> Shards:
    """Collect shard by shard; a stopped collection goes on at its next shard."""
    network = open_network(inputs["network"], config.device)
    return collect(network, inputs["images"].load(), config, run)


def collect(network: Network, images: ImageDataset, config: ActivationConfig, run: Run) -> Shards:
    """Collect what is not collected yet: shards of the schema ``activations``.

    Parameters
    ----------
    network : Network
        On its device.
    images : ImageDataset
        Where to read.
    config : ActivationConfig
        What is taken for neurons, of which split.
    run : Run
        Takes the shards.

    Raises
    ------
    ValueError
        If the split has no images, or outputs and classes do not go together.
    """
    ids, batch = images.ids(config.split), config.batch
    if not len(ids):
        raise ValueError(f"split {config.split!r} has no images")
    encoded = network.encode(images.read(ids[:1], network.geometry))
    count = read_neurons(network, encoded, config).shape[1]
    if config.layer:
        neurons = Neurons(tuple(map(str, range(count))), ("",) * count)
    elif config.match == "label":
        labels = images.concepts(config.split)["label"].values.tolist()
        neurons = label_neurons(network.class_names(count), labels)
    else:
        groups = getattr(images, "groups", {}) if config.groups else {}
        names = network.class_names(count)
        found = ClassMatch.of(images.classes, network.classes, count, config.match)
        found.tell()
        is_known = network.classes or config.match == "order"
        neurons = output_neurons(names, images.classes if is_known else (), groups, config.match)

    def part(_index: int, rows: slice) -> xr.Dataset:
        parts = []
        for _, pixels in batches(images, ids[rows], batch, network.geometry):
            outputs = read_neurons(network, network.encode(pixels), config)
            parts.append(neurons.with_sums(outputs.float().cpu().numpy()))
        return activation_part(np.concatenate(parts), ids[rows])

    # Whole batches, so that every batch is the same after a stop.
    size = max(1, SHARD_BYTES // (4 * len(neurons) * batch)) * batch
    writer = write_parts(run, len(ids), size, part)
    bias = "" if config.with_bias or config.layer else " before the bias"
    transform = "" if config.transform == "none" else f", {config.transform}"
    variant = f"{config.layer or 'logits'}{bias}, {config.pooling} over positions{transform}"
    return writer.finish(neuron_summary(neurons.names, neurons.right_concepts, variant, len(ids)))
