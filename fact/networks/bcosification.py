"""A network B-cosified step by step, each measured, then fine-tuned."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import nn

from fact.data.images import ImageDataset
from fact.networks.bcosify import ConversionError, Recipe, bcosify, examine, steps
from fact.networks.classifier import ClassifierTraining, Labelled, finish_training
from fact.networks.config import BcosifyConfig
from fact.networks.files import open_network
from fact.networks.linearity import N_IMAGES, probe_linearity
from fact.networks.network import Network, NetworkError, match_classes, predict_logits
from registry import Inputs, Run

LARGEST_PROBE = 1e-5
"""Residual up to which later stages take a network as linear."""

EQUAL = 1e-4
"""Mean change of logits, over their mean size, up to which six colours changed nothing."""


def bcosify_network(config: BcosifyConfig, inputs: Inputs, run: Run) -> xr.Dataset:
    """Convert, measure each step, fine-tune, and leave the network beside its logits.

    Returns
    -------
    Dataset
        Of the schema ``network``.

    Raises
    ------
    ConversionError
        Before anything is trained, with every layer that cannot be converted.
    NetworkError
        If the network cannot be rebuilt from a file, or knows none of the images' classes.
    """
    images: ImageDataset = inputs["images"].load()
    original = _rebuildable(open_network(inputs["network"], config.device))
    trained = _labelled(original, images, config.train_split, config)
    tested = _labelled(original, images, config.test_split, config)
    converted = bcosify(original, _few(images, trained[0], original), Recipe(b=config.b))
    measured = measure_steps(original, images, tested, config.b)
    sys.stdout.write(measured.told())
    network = draw_anew(converted, config.seed) if config.from_scratch else converted
    if zero := _zero_layers(network.module):
        sys.stdout.write(f"all weights are 0, and stay so: {', '.join(zero)}\n")

    def evaluate() -> float:
        return _accuracy(predict_logits(network, images, tested[0]), tested[1])

    training = ClassifierTraining(network, images, trained, config, run, evaluate)
    losses = training.train()
    proven = _proven(network, images, tested[0])
    found = finish_training(proven, images, tested, losses, run)
    return found.assign(
        {
            "conversion": ("step", np.array(list(measured.accuracy), dtype=object)),
            "conversion_accuracy": ("step", np.array(list(measured.accuracy.values()))),
            "conversion_change": ("step", np.array(list(measured.change.values()))),
            "original_accuracy": measured.original,
            "epoch_accuracy": ("pass", np.asarray(training.accuracies)),
            "probe": proven.probe,
        }
    )


def probe_conversion(config: BcosifyConfig, inputs: Inputs) -> dict[str, Any]:
    """Take a first look at a network, before a suite's first task: convert it, and train nothing.

    Returns
    -------
    dict
        What :class:`fact.networks.bcosify.Anatomy` has.

    Raises
    ------
    NetworkError
        As :func:`bcosify_network` does before it trains.
    """
    images: ImageDataset = inputs["images"].load()
    original = _rebuildable(open_network(inputs["network"], "cpu"))
    ids, _ = _labelled(original, images, config.train_split, config)
    few = _few(images, ids, original)
    bcosify(original, few, Recipe(b=config.b))
    return asdict(examine(original, few))


def _rebuildable(network: Network) -> Network:
    if network.architecture is None:
        raise NetworkError(
            f"network {network.name!r} cannot be saved once it is converted: nothing says how to "
            "rebuild its module; give it an Architecture"
        )
    return network


@dataclass(frozen=True)
class Measured:
    """What each step of a conversion does to a network, before any training.

    Attributes
    ----------
    original : float
        Accuracy of the original.
    accuracy : dict of str to float
        After each step.
    change : dict of str to float
        Mean absolute change of the logits by each step, over their mean size before it.
    """

    original: float
    accuracy: dict[str, float]
    change: dict[str, float]

    def told(self) -> str:
        """Return a line for the original, and one for each step."""
        lines = [f"accuracy of the original {self.original:.4f}"]
        lines += [
            f"  after {step}: {accuracy:.4f} (logits change by {self.change[step]:.1e})"
            for step, accuracy in self.accuracy.items()
        ]
        return "\n".join(lines) + "\n"


def measure_steps(
    network: Network, images: ImageDataset, tested: Labelled, b: float = 2
) -> Measured:
    """Convert a network step by step, and measure each.

    Parameters
    ----------
    network : Network
        Not B-cos.
    images : ImageDataset
        Where to read.
    tested : tuple of ndarray
        Ids of images, and their logits; -1 counts in no accuracy.
    b : float
        Exponent of the last step.

    Raises
    ------
    ConversionError
        If the first step changes what the network computes.
    """
    ids, labels = tested
    few = _few(images, ids, network)
    before = predict_logits(network, images, ids)
    original, accuracy, change = _accuracy(before, labels), {}, {}
    for step, recipe in steps(b).items():
        converted = bcosify(network, few, recipe)
        logits = predict_logits(converted, images, ids)
        size = np.abs(before, dtype=np.float64).mean()
        change[step] = float(np.abs(logits - before, dtype=np.float64).mean() / max(size, 1e-12))
        accuracy[step] = _accuracy(logits, labels)
        if not accuracy.keys() - {step} and not change[step] <= EQUAL:
            raise ConversionError(
                f"{network.name} with six colours, biases and B = 1 is not what it was: its logits "
                f"differ by {change[step]:.1e}, allowed {EQUAL:.0e}. It computes something between "
                "its layers that its layers do not say"
            )
        before = logits
    return Measured(original, accuracy, change)


def _accuracy(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    known = labels >= 0
    return float((logits.argmax(axis=1) == labels)[known].mean()) if known.any() else float("nan")


def _few(images: ImageDataset, ids: NDArray[np.str_], network: Network) -> NDArray[np.uint8]:
    return images.read(ids[:N_IMAGES], network.geometry)


def _labelled(
    network: Network, images: ImageDataset, split: str, config: BcosifyConfig
) -> Labelled:
    """Return the images of a split, and the network's logit of each.

    Raises
    ------
    NetworkError
        If the network has a logit for none of them.
    """
    ids = images.ids(split)
    match = match_classes(network, images, ids, config.match)
    labels = match.of_labels(images.labels(split))
    match.tell()
    if not (labels >= 0).any():
        raise NetworkError(f"no image of the split {split!r} has a class of {network.name!r}")
    return ids, labels


def draw_anew(network: Network, seed: int) -> Network:
    """Return a network of the same structure with weights drawn from a seed.

    Layers that an ordinary network may begin with at 0, as torchvision's ViTs do with their head,
    are drawn as torch draws any layer: where B exceeds 1, the gradient of weights at 0 is 0.
    """
    assert network.architecture is not None
    module = network.architecture.build(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for part in _zero_layers(module).values():
            part.reset_parameters()
    return replace(network, module=module.to(network.device, network.dtype).eval())


def _zero_layers(module: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    """Return layers whose weights are all 0, by name."""
    layers = {
        name: part
        for name, part in module.named_modules()
        if isinstance(part, (nn.Linear, nn.Conv2d))
    }
    return {name: part for name, part in layers.items() if not part.weight.any()}


def _proven(network: Network, images: ImageDataset, ids: NDArray[np.str_]) -> Network:
    """Return the network with what a probe finds; later stages hold it to that.

    Raises
    ------
    ConversionError
        If it is not linear in its frozen weights.
    """
    probed = probe_linearity(network, _few(images, ids, network))
    if probed.probe is None or not probed.probe <= LARGEST_PROBE:
        raise ConversionError(
            f"{network.name} is not linear in its frozen weights once trained: a probe missed "
            f"its logits by {probed.probe:.1e}, allowed {LARGEST_PROBE:.0e}"
        )
    return probed
