"""The training of a classifier, epoch by epoch, with explicit state.

Every class is a yes-or-no question (binary cross-entropy), so that a logit is evidence for its
class alone, as in Böhle et al., "B-cos Networks: Alignment is All We Need for Interpretability",
CVPR 2022.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fact.data.classes import commonest_share
from fact.data.config import Precision
from fact.data.images import Geometry, ImageDataset, Pixels, batches
from fact.networks.bcos_networks import small_bcos, small_vit
from fact.networks.clipping import clip_adaptively
from fact.networks.config import ClassifierConfig
from fact.networks.files import WEIGHTS_FILE, save_network
from fact.networks.network import Network, choose_device, predict_logits
from fact.networks.precision import computing_in, exact
from fact.networks.standard import small_standard
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
    ids, labels = images.ids(config.train_split), images.labels(config.train_split)
    losses = ClassifierTraining(network, images, (ids, labels), config, run).train()
    ids, labels = images.ids(config.test_split), images.labels(config.test_split)
    return finish_training(network, images, (ids, labels), losses, run)


Labelled = tuple[NDArray[np.str_], NDArray[np.int64]]
"""Ids of images, and the logit that each should have, (image,) both."""


def finish_training(
    network: Network, images: ImageDataset, tested: Labelled, losses: list[float], run: Run
) -> xr.Dataset:
    """Leave a network beside its logits on the test images, and return these."""
    save_network(network, run.attach(WEIGHTS_FILE))
    ids, labels = tested
    logits = predict_logits(network, images, ids)
    prediction = logits.argmax(axis=1).astype(np.int64)
    known = labels >= 0
    right = prediction[known] == labels[known]
    return xr.Dataset(
        {
            "logit": (("image", "class"), logits),
            "label": ("image", labels),
            "prediction": ("image", prediction),
            "loss": ("pass", np.asarray(losses)),
            "test_accuracy": float(right.mean()) if len(right) else float("nan"),
            "n_labelled": np.int64(known.sum()),
            "commonest_share": commonest_share(labels),
            "parameters": sum(parameter.numel() for parameter in network.module.parameters()),
        },
        {
            "image": ids.astype(object),
            "class": np.array(network.class_names(logits.shape[1]), dtype=object),
        },
    )


def _untrained(config: ClassifierConfig, images: ImageDataset) -> Network:
    classes, geometry = images.classes, Geometry(config.resize, config.crop)
    shared: Any = {"temperature": config.temperature, "geometry": geometry, "seed": config.seed}
    if config.architecture == "small-bcos":
        sizes = config.channels, config.strides, config.kernel_size
        return small_bcos(classes, *sizes, **shared)
    side = images.read(images.ids(config.train_split)[:1], geometry).shape[1]
    if config.architecture != "small-vit":
        return small_standard(config, classes, side)
    return small_vit(
        classes, side, config.patch_size, config.dim, config.depth, config.heads, **shared
    )


class Schedule(Protocol):
    """What a training has to be told; :class:`fact.networks.config.ClassifierConfig` has it all."""

    @property
    def epochs(self) -> int:
        """Times that the images are gone through."""

    @property
    def batch(self) -> int:
        """Images per update."""

    @property
    def lr(self) -> float:
        """Peak learning rate of Adam."""

    @property
    def warmup(self) -> float:
        """Fraction of the updates in which it rises."""

    @property
    def flip(self) -> bool:
        """Whether images are mirrored at random."""

    @property
    def off_labels(self) -> bool:
        """Whether each other class should have the probability 1 / classes, instead of 0."""

    @property
    def clip(self) -> float | None:
        """Factor of the adaptive clipping of gradients; None for no clipping."""

    @property
    def precision(self) -> Precision:
        """In which the network computes while it is trained."""

    @property
    def seed(self) -> int:
        """Draws order of images and mirrors."""


class ClassifierTraining:
    """A training that can be stopped after any epoch and continued with the same result.

    The rate of Adam grows linearly in the warm-up and follows a cosine to 0 from there.

    Parameters
    ----------
    network : Network
        Trained in place.
    images : ImageDataset
        Read in batches, in the network's geometry.
    labelled : tuple of ndarray
        Ids of the images to train on, and their logits; those without one, -1, are left out.
    config : Schedule
        How to train.
    run : Run
        Takes the losses; its ``partial`` folder keeps the state after each epoch, which is read
        if it is there.
    evaluate : callable or None
        Asked for the network's accuracy after every epoch.

    Attributes
    ----------
    losses : list of float
        Mean loss of every finished epoch.
    accuracies : list of float
        What ``evaluate`` said after each.
    """

    def __init__(
        self,
        network: Network,
        images: ImageDataset,
        labelled: Labelled,
        config: Schedule,
        run: Run,
        evaluate: Callable[[], float] | None = None,
    ):
        self.network, self.images, self.config, self.run = network, images, config, run
        ids, labels = labelled
        self.ids, self.labels = ids[labels >= 0], labels[labels >= 0]
        self.losses: list[float] = []
        self.accuracies: list[float] = []
        self._evaluate = evaluate
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
                if self._evaluate is not None:
                    module.eval()
                    self.accuracies.append(self._evaluate())
                    self.run.log("validation.accuracy", self.accuracies[-1], self._done - 1)
                self._save()
        finally:
            module.eval()
        return self.losses

    @property
    def _done(self) -> int:
        """Updates of the epochs that are finished."""
        return len(self.losses) * self.steps_per_epoch

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
        with computing_in(self.config.precision, network.device):
            logits = exact(network.module(network.encode(pixels)))
        targets = torch.from_numpy(labels).to(logits.device)
        wanted = functional.one_hot(targets, logits.shape[1]).to(logits.dtype)
        if self.config.off_labels:
            wanted = wanted.clamp(min=1 / logits.shape[1])
        loss = functional.binary_cross_entropy_with_logits(logits, wanted)
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"the loss of update {step} is {loss.item()}")
        self.optimiser.param_groups[0]["lr"] = self.rate(step)
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if self.config.clip is not None:
            clip_adaptively(self.parameters, self.config.clip)
        self.optimiser.step()
        return loss.item()

    def _save(self) -> None:
        tensors = {f"weight.{k}": v for k, v in self.network.module.state_dict().items()}
        for number, parameter in enumerate(self.parameters):
            for key, value in self.optimiser.state[parameter].items():
                tensors[f"adam.{number}.{key}"] = value
        with self._state.write() as path:
            write_tensors(path, tensors, losses=self.losses, accuracies=self.accuracies)

    def _restore(self, state: Path) -> None:
        self.losses, tensors = read_tensors(state, "losses", self.network.device)
        self.accuracies = read_tensors(state, "accuracies")[0] or []
        self.network.module.load_state_dict(_with_prefix(tensors, "weight."))
        for number, parameter in enumerate(self.parameters):
            self.optimiser.state[parameter] = _with_prefix(tensors, f"adam.{number}.")


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
