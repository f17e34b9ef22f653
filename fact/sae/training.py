"""A whole training of an SAE: epochs over shards, evaluations, and states to go on from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from fact.data.classes import ClassMatch, commonest_share
from fact.data.images import ImageDataset
from fact.networks.files import open_network
from fact.networks.layers import splice
from fact.networks.network import Network, choose_device, match_classes, predict_logits
from fact.sae.config import SAEConfig
from fact.sae.dictionaries import ArchetypalDictionary, begin_with, draw_points
from fact.sae.features import ShuffledFeatures
from fact.sae.model import BatchTopKSAE, TopKSAE
from fact.sae.ranks import ALONE, Ranks, joined
from fact.sae.sampling import held_out_of
from fact.sae.steps import (
    StepLog,
    TrainedSAE,
    Trainer,
    TrainingConfig,
    calibrate_threshold,
    read_notes,
)
from fact.sae.validation import HeldOutLog, HeldOutSamples, reconstruct_sparse
from registry import Checkpoint, Input, Inputs, Run, StoreError

STATE, BEST = "training.safetensors", "best-{step}.safetensors"
CURVES = ("reconstruction_loss", "auxiliary_loss", "explained_variance", "dead")
LOGGED = ("loss", *CURVES, "l0", "rate")
RECORDED_POINTS = 2000
"""Points of a curve in the record; the dataset has them all."""

AHEAD = 2
"""Updates that the published code still makes of an epoch when it evaluates: it counts from 1, adds
1, and has not made the one at hand."""

CALIBRATED = 64
"""Batches at most on which a threshold is estimated."""
CLUSTERED = 2**15
"""Samples at most whose centroids become the points of an archetypal dictionary."""

Batches = Iterator[tuple[NDArray[np.float32], int]]
"""This process's rows of each batch, and how many the whole batch has."""
Evaluate = Callable[[TrainedSAE], float]
Validate = Callable[[TrainedSAE], HeldOutLog | None]


def train_sae(config: SAEConfig, inputs: Inputs, run: Run) -> xr.Dataset | None:
    """Train, keep the weights with the best spliced accuracy, and leave the final ones beside.

    Returns
    -------
    Dataset or None
        Of the schema ``sae``; of several processes the first one returns it.

    Raises
    ------
    FloatingPointError
        If the loss is no longer finite.
    """
    ranks = joined()
    if not ranks.is_first:
        SAETraining(config, inputs["features"], run, ranks).help()
        return None
    accuracy = HeldOutAccuracy.of(inputs["features"], config)
    accuracy.match.tell()
    training = SAETraining(config, inputs["features"], run, ranks)
    held_out_samples = accuracy.samples(inputs["features"], float(training.samples.scale))
    training.run(accuracy, held_out_samples)
    training.trainer.sae.to_dataset().to_netcdf(run.attach("final.nc"), engine="h5netcdf")
    trained = training.dataset(accuracy(None), held_out_samples)
    trained = trained.assign(
        n_held_out=np.int64(len(accuracy.ids)), commonest_share=commonest_share(accuracy.labels)
    )
    return trained.assign_attrs(accuracy.match.attributes())


@dataclass(frozen=True)
class HeldOutAccuracy:
    """The accuracy of a network on the images that a collection of features held out.

    Attributes
    ----------
    network : Network
        On its device.
    layer : str
        The layer that concepts stand in for.
    images : ImageDataset
        Where to read.
    ids : ndarray of str, (image,)
        Those held out that have a label among the network's classes.
    labels : ndarray of int64, (image,)
        Their logits.
    match : ClassMatch
        Which logit each class of the images is.
    held_out_ids : ndarray of str, (image,)
        All that are held out.
    """

    network: Network
    layer: str
    images: ImageDataset
    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    match: ClassMatch
    held_out_ids: NDArray[np.str_]

    @classmethod
    def of(cls, features: Input, config: SAEConfig) -> HeldOutAccuracy:
        """Find the images that a collection of features held out."""
        own = features.config
        images: ImageDataset = features.inputs["images"].load()
        network = open_network(features.inputs["network"], config.device)
        ids, classes = images.ids(own["split"]), images.labels(own["split"])
        match = match_classes(network, images, ids, config.match)
        labels = match.of_labels(classes)
        every = held_out_of(classes, own)
        mask = every & (labels >= 0)
        return cls(network, own["layer"], images, ids[mask], labels[mask], match, ids[every])

    def __call__(self, sae: TrainedSAE | None) -> float:
        """Return the fraction of correct predictions, 0 to 1; NaN if no image is left.

        ``sae`` stands in place of the layer; None leaves the network as it is.
        """
        if not len(self.ids):
            return float("nan")
        module = self.network.module
        concepts = None if sae is None else partial(reconstruct_sparse, sae)
        with nullcontext() if concepts is None else splice(module, self.layer, concepts):
            logits = predict_logits(self.network, self.images, self.ids)
        return float((logits.argmax(axis=1) == self.labels).mean())

    def samples(self, features: Input, scale: float) -> HeldOutSamples:
        """Return samples of all held-out images, drawn as those of a collection were."""
        own = features.config
        drawn = {"per_image": own["samples_per_image"], "batch": own["batch"], "seed": own["seed"]}
        drawn["precision"] = own.get("precision", "float32")  # which there was not always
        given = self.network, self.layer, self.images, self.held_out_ids
        return HeldOutSamples.draw(*given, scale, **drawn)


class SAETraining:
    """A training that goes on where it was stopped, with the same result.

    Its state is one file, replaced in one step; the best weights so far are another, which the
    state names.

    Parameters
    ----------
    config : SAEConfig
        Sizes and schedule.
    features : Input
        The collected features.
    run : Run
        Whose ``partial`` folder keeps the state.
    ranks : Ranks
        Processes that train together: each reads its own rows of each batch, and the first of them
        records, evaluates and keeps the state, from which all go on.
    """

    def __init__(self, config: SAEConfig, features: Input, run: Run, ranks: Ranks = ALONE):
        if features.path is None:
            raise ValueError(f"{features.name!r} is no dataset")
        with features.open() as dataset:
            scale = float(dataset["root_mean_square"])
        self.config, self.run_context, self.ranks = config, run, ranks
        self.device = choose_device(config.device)
        self.samples = ShuffledFeatures(
            features.path, config.batch, config.seed, scale, config.memory
        )
        self._state = run.checkpoint(STATE)
        resumed = self._resume()
        if resumed is not None:
            self.trainer = resumed
        else:
            schedule = TrainingConfig.for_epochs(
                self.samples.n_samples,
                config.batch,
                config.epochs,
                config.warmup_epochs,
                config.decay_start,
                lr=config.lr,
                auxiliary_coefficient=config.auxiliary_coefficient,
                auxiliary_k=config.auxiliary_k,
                prefixes=config.prefixes,
                candidates=config.candidates,
                precision=config.precision,
            )
            self.trainer = Trainer(*self._start(scale, schedule), self.ranks)
            self.trainer.notes = {
                "curves": {name: [] for name in CURVES},
                "evaluations": [],
                "best_step": 0,
                "best_accuracy": -1.0,
                "always_active": 0,
                "never_firing": 0,
            }
        self._saved = time.monotonic()

    def _start(
        self, scale: float, schedule: TrainingConfig
    ) -> tuple[TrainedSAE, TrainingConfig, ArchetypalDictionary | None]:
        """Draw the weights that the training begins with."""
        config = self.config
        kind = {sae.activation: sae for sae in (TopKSAE, BatchTopKSAE)}[config.activation]
        generator = torch.Generator().manual_seed(config.seed)
        sizes = config.n_concepts, self.samples.n_channels, config.k
        sae = kind.initialise(*sizes, generator, scale).to(self.device)
        if config.dictionary == "unit":
            return sae, schedule, None
        count = config.n_points or config.n_concepts
        points = draw_points(self._some_samples(CLUSTERED), count, config.seed).to(self.device)
        dictionary = ArchetypalDictionary.start(points, config.n_concepts, config.relaxation)
        begin_with(sae, dictionary)
        return sae, schedule, dictionary

    def _some_samples(self, most: int) -> NDArray[np.float32]:
        """Return samples of an order that no epoch has, at most so many."""
        batches = islice(self.samples.batches(self.config.epochs), -(-most // self.config.batch))
        return np.concatenate(list(batches))[:most]

    def _resume(self) -> Trainer | None:
        """Return the training that was stopped, if its state and its best weights are whole."""
        state = self.ranks.word(self._whole_state() if self.ranks.is_first else "")
        return Trainer.load(state, self.device, self.ranks) if state else None

    def _whole_state(self) -> str:
        """Return the file of the state, "" if it or the best weights it names are not whole."""
        if (state := self._state.find()) is None:
            return ""
        best = read_notes(state)["best_step"]
        return str(state.resolve()) if not best or self._best(best).find() else ""

    def _best(self, step: int) -> Checkpoint:
        return self.run_context.checkpoint(BEST.format(step=step))

    @property
    def notes(self) -> dict[str, Any]:
        """What is saved beside the weights: curves, evaluations, where the best is."""
        return self.trainer.notes

    def run(self, evaluate: Evaluate, validate: Validate) -> None:
        """Train what is left of the schedule, and evaluate on the way.

        Parameters
        ----------
        evaluate : callable
            Returns the accuracy of the network with the given SAE spliced in.
        validate : callable
            Returns what the SAE measures on held-out samples; asked after every epoch.

        Raises
        ------
        FloatingPointError
            If the loss is no longer finite.
        """
        per_epoch, total = self.samples.n_batches, self.trainer.config.steps
        for epoch, batches in self._epochs():
            for batch, n_samples in batches:
                if self.config.compat and self._is_published_moment():
                    self._evaluate(evaluate)
                self._note(self.trainer.advance(batch, n_samples))
                self.run_context.progress(self.trainer.step_count, total, "updates")
                waited = time.monotonic() - self._saved
                is_end = self.trainer.step_count % per_epoch == 0  # saved once it is evaluated
                if waited > self.config.checkpoint_seconds and not is_end:
                    self._save()
            self._note(self.trainer.drain())
            self._calibrate()
            self._validate(validate)
            self._end_epoch(epoch + 1, evaluate)

    def help(self) -> None:
        """Train what is left of the schedule together with the first process, which does the rest.

        Raises
        ------
        FloatingPointError
            If the loss is no longer finite.
        """
        total = self.trainer.config.steps
        for _, batches in self._epochs():
            for batch, n_samples in batches:
                self.trainer.advance(batch, n_samples)
                self.run_context.progress(self.trainer.step_count, total, "updates")
            self.trainer.drain()
            self._calibrate()
            self.trainer.end_epoch()

    def _epochs(self) -> Iterator[tuple[int, Batches]]:
        """Yield the epochs that are left, the first of them perhaps in part, with their batches.

        One is read while the epoch before ends, unless a threshold is estimated then: samples for
        that take the same memory.
        """
        per_epoch, total = self.samples.n_batches, self.trainer.config.steps
        is_calibrated = isinstance(self.trainer.sae, BatchTopKSAE)
        while (first := self.trainer.step_count) < total:
            last = first - first % per_epoch + per_epoch if is_calibrated else total
            with closing(self.samples.stream(first, last)) as batches:
                for epoch in range(first // per_epoch, last // per_epoch):
                    left = (epoch + 1) * per_epoch - self.trainer.step_count
                    yield epoch, self._own(islice(batches, left))

    def _own(self, batches: Iterable[NDArray[np.float32]]) -> Batches:
        """Yield of each batch what this process trains on."""
        for batch in batches:
            yield batch[self.ranks.rows(len(batch))], len(batch)

    def _calibrate(self) -> None:
        """Estimate the threshold of BatchTopK on the same batches each time, of no epoch."""
        if isinstance(sae := self.trainer.sae, BatchTopKSAE):
            with closing(self.samples.batches(self.config.epochs)) as samples:
                batches = self._own(islice(samples, CALIBRATED))
                calibrate_threshold(sae, (batch for batch, _ in batches), self.ranks)

    def _note(self, logs: list[StepLog]) -> None:
        for log in logs:
            self._note_one(log)

    def _note_one(self, log: StepLog) -> None:
        for name in CURVES:
            self.notes["curves"][name].append(getattr(log, name))
        every = max(self.trainer.config.steps // RECORDED_POINTS, 1)
        if log.step % every == 0 or log.step + 1 == self.trainer.config.steps:
            for name in LOGGED:
                self.run_context.log(f"training.{name}", getattr(log, name), log.step)

    def _validate(self, validate: Validate) -> None:
        """Note the loss on held-out samples."""
        step = self.trainer.step_count
        if (log := validate(self.trainer.sae)) is None:
            return
        # A state that was saved before there was such a loss has no list of them.
        self.notes.setdefault("held_out", []).append([step, *log])
        for name, value in log._asdict().items():
            self.run_context.log(f"validation.{name}", value, step - 1)

    def _end_epoch(self, epochs: int, evaluate: Evaluate) -> None:
        """Count what fired, and evaluate where that is due."""
        log, step = self.trainer.end_epoch(), self.trainer.step_count
        for name in ("always_active", "never_firing"):
            self.notes[name] = getattr(log, name)
            self.run_context.log(f"training.{name}", self.notes[name], step - 1)
        is_last = epochs == self.config.epochs
        if self.config.compat:
            is_due = is_last and not self.notes["evaluations"]
        else:
            is_due = is_last or epochs % self.config.evaluate_every == 0
        if not (is_due and self._evaluate(evaluate)):
            self._save()

    def _is_published_moment(self) -> bool:
        """Whether the published code evaluates now, and a training that was resumed has not."""
        step, known = self.trainer.step_count, self.notes["evaluations"]
        every = self.config.evaluate_every * self.samples.n_batches
        return (step + AHEAD) % every == 0 and not (known and known[-1][0] == step)

    def _evaluate(self, evaluate: Evaluate) -> bool:
        """Note the accuracy of the weights; keep and save them if none were better, and say so."""
        self._note(self.trainer.drain())
        step = self.trainer.step_count
        accuracy, best = evaluate(self.trainer.sae), self.notes["best_accuracy"]
        self.run_context.log("validation.accuracy", accuracy, max(step - 1, 0))
        self.notes["evaluations"].append([step, accuracy])
        if accuracy < best or (accuracy == best and not self.config.compat):
            return False
        former = self.notes["best_step"]
        self.notes["best_step"], self.notes["best_accuracy"] = step, accuracy
        with self._best(step).write() as path:
            self.trainer.save(path)
        self._save()
        if former != step:
            self._best(former).remove()
        return True

    def _save(self) -> None:
        self._note(self.trainer.drain())
        with self._state.write() as path:
            self.trainer.save(path)
        self._saved = time.monotonic()

    def dataset(self, network_accuracy: float, samples: HeldOutSamples) -> xr.Dataset:
        """Return the best weights, the curves, and what was measured.

        Parameters
        ----------
        network_accuracy : float
            Accuracy of the network itself on the held-out images.
        samples : HeldOutSamples
            On which prefixes are measured, where there are any.
        """
        curves = {name: ("step", np.asarray(self.notes["curves"][name])) for name in CURVES}
        steps, accuracies = np.array(self.notes["evaluations"], dtype=float).T
        explained = np.asarray(
            self.notes["curves"]["explained_variance"][-self.samples.n_batches :]
        )
        measured = {
            "best_step": np.int64(self.notes["best_step"]),
            "best_accuracy": float(self.notes["best_accuracy"]),
            "network_accuracy": network_accuracy,
            "final_explained_variance": float(explained.mean()),
            "final_dead": np.int64(self.notes["curves"]["dead"][-1]),
            "never_firing": np.int64(self.notes["never_firing"]),
            "always_active": np.int64(self.notes["always_active"]),
        }
        evaluations = {
            "held_out_accuracy": ("evaluation", accuracies),
            "evaluated_step": ("evaluation", steps.astype(np.int64)),
        }
        if self.notes.get("held_out"):
            curves |= _held_out_curves(self.notes["held_out"], len(self.notes["curves"]["dead"]))
        best = self._best(self.notes["best_step"]).find()
        if best is None:
            raise StoreError("the best weights are damaged; run the training again")
        trained = Trainer.load(best, self.device)
        weights = trained.sae.to_dataset().merge(trained.dictionary.to_dataset())
        coords = {"step": np.arange(len(curves["dead"][1]))}
        if self.config.prefixes:
            coords["prefix"] = np.array([*self.config.prefixes, self.config.n_concepts])
            shares = samples.by_prefix(trained.sae, coords["prefix"].tolist())
            measured["prefix_explained_variance"] = ("prefix", shares)
        return weights.assign({**curves, **evaluations, **measured}).assign_coords(coords)


def _held_out_curves(
    logs: list[list[float]], n_steps: int
) -> dict[str, tuple[str, NDArray[np.float64]]]:
    """Return the variables of held-out images along ``step``, NaN but at the end of an epoch."""
    steps, *columns = np.array(logs, dtype=float).T
    curves = {}
    for name, values in zip(HeldOutLog._fields, columns, strict=True):
        whole = np.full(n_steps, np.nan)
        whole[steps.astype(np.int64) - 1] = values
        curves[f"held_out_{name}"] = ("step", whole)
    return curves
