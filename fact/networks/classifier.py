"""The training of a small B-cos classifier, epoch by epoch, with explicit state.

Every class is a yes-or-no question (binary cross-entropy), so that a logit is evidence for its
class alone, as in Böhle et al., "B-cos Networks: Alignment is All We Need for Interpretability",
CVPR 2022.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fact.data.images import Geometry, ImageDataset, Pixels, batches
from fact.networks.bcos_networks import small_bcos, small_vit
from fact.networks.config import ClassifierConfig
from fact.networks.files import WEIGHTS_FILE, save_network
from fact.networks.network import Network, choose_device, predict_logits
from fact.networks.weights import read_tensors, write_tensors
from registry import Inputs, Run

MOST_KEPT = 2**28
"""Bytes of training images that are kept in memory, so that no epoch decodes them again."""


def train_classifier(config: ClassifierConfig, inputs: Inputs, run: Run) -> xr.Dataset:
    """Train, test, and leave the network beside its logits on the test images.

    Returns
    -------
    Dataset
        Of the schema ``network``.
    """
    images: ImageDataset = inputs["images"].load()
    network = _untrained(config, images).to(choose_device(config.device))
    losses = ClassifierTraining(network, images, config, run).train()
    save_network(network, run.attach(WEIGHTS_FILE))
    ids, labels = images.ids(config.test_split), images.labels(config.test_split)
    logits = predict_logits(network, images, ids)
    prediction = logits.argmax(axis=1).astype(np.int64)
    return xr.Dataset(
        {
            "logit": (("image", "class"), logits),
            "label": ("image", labels),
            "prediction": ("image", prediction),
            "loss": ("pass", np.asarray(losses)),
            "test_accuracy": float((prediction == labels).mean()),
            "parameters": sum(parameter.numel() for parameter in network.module.parameters()),
        },
        {"image": ids.astype(object), "class": np.array(network.classes, dtype=object)},
    )


def _untrained(config: ClassifierConfig, images: ImageDataset) -> Network:
    classes, geometry = images.classes, Geometry(config.resize, config.crop)
    shared: Any = {"temperature": config.temperature, "geometry": geometry, "seed": config.seed}
    if config.architecture == "small-bcos":
        sizes = config.channels, config.strides, config.kernel_size
        return small_bcos(classes, *sizes, **shared)
    side = images.read(images.ids(config.train_split)[:1], geometry).shape[1]
    return small_vit(
        classes, side, config.patch_size, config.dim, config.depth, config.heads, **shared
    )


class ClassifierTraining:
    """A training that can be stopped after any epoch and continued with the same result.

    The rate of Adam grows linearly in the warm-up and follows a cosine to 0 from there.

    Parameters
    ----------
    network : Network
        Trained in place.
    images : ImageDataset
        Read in batches, in the network's geometry.
    config : ClassifierConfig
        Split and schedule.
    run : Run
        Takes the losses; its ``partial`` folder keeps the state after each epoch, which is read
        if it is there.

    Attributes
    ----------
    losses : list of float
        Mean loss of every finished epoch.
    """

    def __init__(self, network: Network, images: ImageDataset, config: ClassifierConfig, run: Run):
        self.network, self.images, self.config, self.run = network, images, config, run
        self.ids, self.labels = images.ids(config.train_split), images.labels(config.train_split)
        self.losses: list[float] = []
        self._decoded: Pixels | None = None
        self.parameters = list(network.module.parameters())
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        self.optimiser = torch.optim.Adam(self.parameters, lr=config.lr)
        self.steps_per_epoch = math.ceil(len(self.ids) / config.batch)
        self.n_steps = config.epochs * self.steps_per_epoch
        self._state = run.checkpoint("training.safetensors")
        if (state := self._state.find()) is not None:
            self._restore(state)

    def train(self) -> list[float]:
        """Train all epochs that are left; return the mean loss of every epoch.

        Raises
        ------
        FloatingPointError
            If the loss is no longer finite.
        """
        module = self.network.module
        try:
            for epoch in range(len(self.losses), self.config.epochs):
                module.train()
                losses = list(self._train_epoch(epoch))
                self.losses.append(float(np.mean(losses)))
                self._save()
        finally:
            module.eval()
        return self.losses

    def rate(self, step: int) -> float:
        """Learning rate of update ``step``, from 0."""
        rising = max(round(self.config.warmup * self.n_steps), 1)
        if step < rising:
            return self.config.lr * (step + 1) / rising
        passed = (step - rising + 1) / (self.n_steps - rising + 1)
        return self.config.lr * 0.5 * (1 + math.cos(math.pi * passed))

    def _train_epoch(self, epoch: int) -> Iterator[float]:
        draws = np.random.default_rng([self.config.seed, epoch])
        order = draws.permutation(len(self.ids))
        size, first = self.config.batch, epoch * self.steps_per_epoch
        for step, pixels in enumerate(self._read(order), first):
            labels = self.labels[order[(step - first) * size :][:size]]
            if self.config.flip:
                mirrored = draws.random(len(pixels)) < 0.5
                pixels = np.where(mirrored[:, None, None, None], pixels[:, :, ::-1], pixels)
            loss = self._update(pixels, labels, step)
            self.run.log("training.loss", loss, step)
            self.run.progress(step + 1, self.n_steps, "updates")
            yield loss

    def _read(self, order: NDArray[np.int64]) -> Iterator[Pixels]:
        """Yield the images in this order, batch by batch; what memory holds is decoded once."""
        size, geometry = self.config.batch, self.network.geometry
        if self._decoded is None and self._can_be_kept():
            parts = [pixels for _, pixels in batches(self.images, self.ids, size, geometry)]
            self._decoded = np.concatenate(parts)
        if self._decoded is not None:
            for start in range(0, len(order), size):
                yield self._decoded[order[start : start + size]]
        else:
            yield from (
                pixels for _, pixels in batches(self.images, self.ids[order], size, geometry)
            )

    def _can_be_kept(self) -> bool:
        first = self.images.read(self.ids[:1], self.network.geometry)
        return self.config.epochs > 1 and first.nbytes * len(self.ids) <= MOST_KEPT

    def _update(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], step: int) -> float:
        network = self.network
        logits = network.module(network.encode(pixels))
        targets = torch.from_numpy(labels).to(logits.device)
        wanted = functional.one_hot(targets, logits.shape[1]).to(logits.dtype)
        loss = functional.binary_cross_entropy_with_logits(logits, wanted)
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"the loss of update {step} is {loss.item()}")
        self.optimiser.param_groups[0]["lr"] = self.rate(step)
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimiser.step()
        return loss.item()

    def _save(self) -> None:
        tensors = {f"weight.{k}": v for k, v in self.network.module.state_dict().items()}
        for number, parameter in enumerate(self.parameters):
            for key, value in self.optimiser.state[parameter].items():
                tensors[f"adam.{number}.{key}"] = value
        with self._state.write() as path:
            write_tensors(path, tensors, losses=self.losses)

    def _restore(self, state: Path) -> None:
        self.losses, tensors = read_tensors(state, "losses", self.network.device)
        self.network.module.load_state_dict(_with_prefix(tensors, "weight."))
        for number, parameter in enumerate(self.parameters):
            self.optimiser.state[parameter] = _with_prefix(tensors, f"adam.{number}.")


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
