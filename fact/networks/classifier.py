"""The training of a small B-cos classifier, pass by pass, with explicit state.

Every class is a yes-or-no question (binary cross-entropy), so that a logit is evidence for its
class alone, as in Boehle et al., "B-cos Networks: Alignment is All We Need for Interpretability",
CVPR 2022.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from fact.data.images import ImageDataset, batches
from fact.networks.network import Network


@dataclass(frozen=True)
class Schedule:
    """How a classifier is trained.

    Parameters
    ----------
    passes : int
        Passes over the training images, at least 1.
    batch : int
        Images per update, at least 1; the last, smaller batch of a pass is used too.
    lr : float
        Peak learning rate of Adam.
    warmup : float
        Share of the updates with a rate that grows linearly; the rest follows a cosine to 0.
    flip : bool
        Mirror images left to right with probability 1/2.
    seed : int
        Orders the images, and draws what is mirrored.
    """

    passes: int = 4
    batch: int = 128
    lr: float = 2e-2
    warmup: float = 0.2
    flip: bool = False
    seed: int = 0

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of update ``step`` (from 0) of ``steps``."""
        rising = max(round(self.warmup * steps), 1)
        if step < rising:
            return self.lr * (step + 1) / rising
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - rising + 1) / (steps - rising + 1)))


class ClassifierTraining:
    """A training that can be stopped after any pass and continued with the same result.

    Parameters
    ----------
    network : Network
        Trained in place.
    images : ImageDataset
        Read in batches, in the network's geometry.
    split : str
        The split to train on.
    schedule : Schedule
        See there.
    state : Path or None
        File that keeps the state after each pass; read if it is there.

    Attributes
    ----------
    losses : list of float
        Mean loss of every finished pass.
    """

    def __init__(
        self,
        network: Network,
        images: ImageDataset,
        split: str,
        schedule: Schedule,
        state: Path | None = None,
    ):
        self.network, self.images, self.schedule, self.state = network, images, schedule, state
        self.ids, self.labels = images.ids(split), images.labels(split)
        self.losses: list[float] = []
        self.parameters = list(network.module.parameters())
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        self.optimiser = torch.optim.Adam(self.parameters, lr=schedule.lr)
        if state is not None and state.is_file():
            self._restore(state)

    @property
    def steps_per_pass(self) -> int:
        """Updates of one pass."""
        return math.ceil(len(self.ids) / self.schedule.batch)

    def run(self, on_step: Callable[[int, float], None] = lambda step, loss: None) -> list[float]:
        """Train all passes that are left; return the mean loss of every pass.

        Parameters
        ----------
        on_step : callable
            Told the update, from 0, and its loss.

        Raises
        ------
        FloatingPointError
            If the loss is no longer finite.
        """
        module = self.network.module
        try:
            for number in range(len(self.losses), self.schedule.passes):
                module.train()
                losses = list(self._one_pass(number, on_step))
                self.losses.append(float(np.mean(losses)))
                if self.state is not None:
                    self._save(self.state)
        finally:
            module.eval()
        return self.losses

    def _one_pass(self, number: int, on_step: Callable[[int, float], None]) -> Iterator[float]:
        draws = np.random.default_rng([self.schedule.seed, number])
        order = draws.permutation(len(self.ids))
        size, first = self.schedule.batch, number * self.steps_per_pass
        read = batches(self.images, self.ids[order], size, self.network.geometry)
        for index, (_, pixels) in enumerate(read):
            labels = self.labels[order[index * size : (index + 1) * size]]
            if self.schedule.flip:
                pixels = _mirrored(pixels, draws.random(len(pixels)) < 0.5)
            loss = self._update(pixels, labels, first + index)
            on_step(first + index, loss)
            yield loss

    def _update(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], step: int) -> float:
        network = self.network
        logits = network.module(network.encode(pixels))
        targets = torch.from_numpy(labels).to(logits.device)
        loss = _one_against_rest(logits, targets)
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"the loss of update {step} is {loss.item()}")
        steps = self.schedule.passes * self.steps_per_pass
        self.optimiser.param_groups[0]["lr"] = self.schedule.rate(step, steps)
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimiser.step()
        return loss.item()

    def _save(self, path: Path) -> None:
        tensors = {f"weight.{k}": v for k, v in self.network.module.state_dict().items()}
        for number, parameter in enumerate(self.parameters):
            for key, value in self.optimiser.state[parameter].items():
                tensors[f"adam.{number}.{key}"] = value
        scratch = path.with_name(path.name + ".part")
        tensors = {key: value.detach().contiguous() for key, value in tensors.items()}
        save_file(tensors, scratch, {"losses": json.dumps(self.losses)})
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        scratch.replace(path)

    def _restore(self, path: Path) -> None:
        with safe_open(path, framework="pt", device=str(self.network.device)) as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            self.losses = json.loads((file.metadata() or {})["losses"])
        self.network.module.load_state_dict(_with_prefix(tensors, "weight."))
        for number, parameter in enumerate(self.parameters):
            self.optimiser.state[parameter] = _with_prefix(tensors, f"adam.{number}.")


def _one_against_rest(logits: Tensor, targets: Tensor) -> Tensor:
    wanted = functional.one_hot(targets, logits.shape[1]).to(logits.dtype)
    return nn.functional.binary_cross_entropy_with_logits(logits, wanted)


def _mirrored(pixels: NDArray[np.uint8], chosen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.where(chosen[:, None, None, None], pixels[:, :, ::-1], pixels)


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
