"""The steps of the training of a bias-free SAE, with sparse gradients and explicit state.

What is kept of a sample (TopK, BatchTopK), which prefixes of the dictionary reconstruct
(Matryoshka) and what a decoder is made of (unit columns, mixtures of data points) are independent
of each other. Sources: Parchami-Araghi et al., "FaCT", NeurIPS 2025, arXiv 2510.25512, section 3;
auxiliary loss: Gao et al., "Scaling and evaluating sparse autoencoders", arXiv 2406.04093, appendix
A.2; BatchTopK: Bussmann et al., arXiv 2412.06410; Matryoshka: Bussmann et al., arXiv 2503.17547.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
import xarray as xr
from torch import Tensor

from fact.data.config import Precision
from fact.networks.arrays import AnyArray, as_tensor
from fact.networks.precision import computing_in
from fact.networks.weights import read_tensors, write_tensors
from fact.sae.dictionaries import ArchetypalDictionary, Dictionary, UnitDictionary
from fact.sae.gradients import (
    Candidates,
    batch_codes,
    may_look,
    reconstruct,
    reconstruct_residual,
)
from fact.sae.model import BatchTopKSAE, TopKSAE
from fact.sae.ranks import ALONE, Ranks
from registry.wording import counted

BETAS = (0.9, 0.999)
STATE_FORMAT = 1
AHEAD = 4
"""Updates that are asked of a device before the first of them is waited for."""
IDLE_GROUP = 256
"""Concepts that may be dead are taken in multiples of so many where they cannot be counted."""

TrainedSAE = TopKSAE | BatchTopKSAE
"""What can be trained."""


@dataclass(frozen=True)
class TrainingConfig:
    """Schedule and coefficients of a training, counted in updates and samples.

    Parameters
    ----------
    steps : int
        Updates of the whole training, at least 1.
    lr : float
        Peak learning rate of Adam (betas 0.9 and 0.999), above 0.
    warmup : int
        Updates of linear warm-up from 0: the first update has rate 0 unless this is 0.
    decay_start : int, optional
        Update at which the cosine decay to 0 begins, `warmup` to `steps`; None: no decay.
    dead_after : int, optional
        Samples after which a concept that has not fired is dead, at least 1; None: never.
    auxiliary_coefficient : float
        Weight of the auxiliary loss, 0 or more.
    auxiliary_k : int
        Dead concepts that may reconstruct the residual of a sample, at least 1.
    clip : float
        Largest norm of the total gradient, above 0.
    prefixes : tuple of int
        Sizes of prefixes of the dictionary, ascending: so many of its first concepts have to
        reconstruct the samples too, and their losses are added (Matryoshka). The whole dictionary
        always does.
    candidates : str
        ``bf16``: a TopK SAE looks for what it keeps of a sample by a product in bfloat16, proves
        that it found the largest, and computes these in float32
        (:func:`fact.sae.gradients.certified_codes`); ``float32``: by the whole product.
    precision : str
        ``bf16``: pre-activations, and the products of the auxiliary loss, are computed from
        bfloat16; weights, moments, sums, losses and all other products are in float32.

    Raises
    ------
    ValueError
        Every value that is out of its range.
    """

    steps: int
    lr: float = 1e-3
    warmup: int = 0
    decay_start: int | None = None
    dead_after: int | None = None
    auxiliary_coefficient: float = 1 / 32
    auxiliary_k: int = 256
    clip: float = 1.0
    prefixes: tuple[int, ...] = ()
    candidates: Candidates = "float32"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefixes", tuple(self.prefixes))
        last = self.steps if self.decay_start is None else self.decay_start
        ranges = {
            "steps": (self.steps >= 1, "at least 1"),
            "lr": (self.lr > 0, "above 0"),
            "warmup": (0 <= self.warmup <= last, f"0 to {last}"),
            "decay_start": (last <= self.steps, f"at most {self.steps}, the steps"),
            "dead_after": (self.dead_after is None or self.dead_after >= 1, "at least 1, or None"),
            "auxiliary_coefficient": (self.auxiliary_coefficient >= 0, "0 or more"),
            "auxiliary_k": (self.auxiliary_k >= 1, "at least 1"),
            "clip": (self.clip > 0, "above 0"),
            "prefixes": (is_ascending(self.prefixes), "ascending, from at least 1"),
            "candidates": (self.candidates in get_args(Candidates), "float32 or bf16"),
            "precision": (self.precision in get_args(Precision), "float32 or bf16"),
        }
        faults = [
            f"{name} is {getattr(self, name)}; expected {expected}"
            for name, (holds, expected) in ranges.items()
            if not holds
        ]
        if faults:
            raise ValueError("; ".join(faults))

    @classmethod
    def for_epochs(
        cls,
        n_samples: int,
        batch: int,
        epochs: int = 16,
        warmup: int = 1,
        decay_start: int = 2,
        **others: Any,
    ) -> TrainingConfig:
        """Translate a schedule in epochs, by default the paper's.

        Parameters
        ----------
        n_samples, batch : int
            Samples of an epoch and of an update; the last update of an epoch takes the rest.
        epochs, warmup, decay_start : int
            Length of the training and of its parts, in epochs; what exceeds `epochs` is cut.
        **others
            Fields of the configuration. Dead is what has not fired for half an epoch (integer
            half).
        """
        per_epoch = math.ceil(n_samples / batch)
        schedule = {
            "steps": epochs * per_epoch,
            "warmup": min(warmup, epochs) * per_epoch,
            "decay_start": min(decay_start, epochs) * per_epoch,
            "dead_after": max(1, n_samples // 2),
        }
        return cls(**{**schedule, **others})

    def rate(self, step: int) -> float:
        """Learning rate of an update.

        Parameters
        ----------
        step : int
            Update, from 0.

        Returns
        -------
        float
            0 to `lr`: linear from 0 in the warm-up, then `lr`, then
            ``0.5 lr (1 + cos(pi (step - decay_start) / (steps - decay_start)))``.
        """
        if step < self.warmup:
            return self.lr * step / self.warmup
        if self.decay_start is None or step < self.decay_start:
            return self.lr
        passed = (step - self.decay_start) / max(self.steps - self.decay_start, 1)
        return self.lr * 0.5 * (1 + math.cos(math.pi * min(passed, 1.0)))


@dataclass(frozen=True)
class StepLog:
    """What one update measured, with the weights from before it.

    Attributes
    ----------
    step : int
        Update, from 0.
    loss : float
        Reconstruction loss plus the weighted auxiliary loss: what is minimised.
        With prefixes, theirs is part of it.
    reconstruction_loss : float
        Mean over samples of ``||x - x_hat||^2``.
    auxiliary_loss : float
        Fraction of the residual's variance that dead concepts leave over; 0 when none is dead.
    l0 : float
        Mean number of concepts above 0 in a sample, at most ``k``.
    explained_variance : float
        ``1 - sum var(x - x_hat) / sum var(x)``, at most 1; NaN where all samples are equal.
    rate : float
        Learning rate.
    dead : int
        Concepts that have not fired for `dead_after` samples, this batch counted.
    """

    step: int
    loss: float
    reconstruction_loss: float
    auxiliary_loss: float
    l0: float
    explained_variance: float
    rate: float
    dead: int


class EpochLog(NamedTuple):
    """How often concepts fired since the last call of `Trainer.end_epoch`.

    Of ``samples`` that were seen, ``always_active`` concepts fired in at least 60 %, and
    ``never_firing`` ones in none.
    """

    samples: int
    always_active: int
    never_firing: int


@dataclass(frozen=True)
class _Pending:
    """What an update measures, on its way from the device.

    ``values``: losses (reconstruction, auxiliary, minimised), L0, number of samples whose codes are
    not proven, explained variance, number of dead concepts, and of those that may be so within the
    next updates; ``event`` is over when they are there, None if they are.
    """

    step: int
    rate: float
    values: Tensor
    event: Any = None

    @classmethod
    def of(cls, step: int, rate: float, values: Tensor) -> _Pending:
        if may_look(values) or values.device.type != "cuda":
            return cls(step, rate, values)
        there = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        there.copy_(values, non_blocking=True)
        event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(values.device))
        return cls(step, rate, there, event)

    @property
    def is_over(self) -> bool:
        return self.event is None or bool(self.event.query())

    def read(self) -> list[float]:
        """Wait, so that signals are heard."""
        while not self.is_over:
            time.sleep(1e-4)
        values: list[float] = self.values.tolist()
        return values


class Trainer:
    """Train an SAE in place, one batch at a time.

    An update is: loss, gradients, removal of the decoder gradient's component along each decoder
    column, clipping of the total norm, Adam, normalisation of the decoder's columns; of an
    archetypal dictionary, whose columns are not normalised, its constraints instead. The first
    and the second moments decay for concepts without gradient too.

    On a GPU no update waits for Python, nor Python for an update: `advance` returns what earlier
    ones measured. With the codes of single samples and without prefixes every shape is known
    beforehand; BatchTopK and Matryoshka look at how many activations they keep, and wait.

    Parameters
    ----------
    sae : TopKSAE or BatchTopKSAE
        Weights to start from; they are changed in place, and must not be moved meanwhile. The
        threshold of BatchTopK is left as it is: see `calibrate_threshold`.
    config : TrainingConfig
        Schedule and coefficients.
    dictionary : ArchetypalDictionary, optional
        What the decoder is made of; it becomes the SAE's decoder. None: columns of unit norm.
    ranks : Ranks
        Processes that train it together, each with the same arguments and its own rows of each
        batch: losses, counts and thresholds are those of the whole batch, and so are updates.

    Attributes
    ----------
    step_count : int
        Updates made.
    since_fired : Tensor of int64, shape (concept,)
        Samples since the concept was last among the ``k`` of one, even at activation 0.
    notes : dict
        Plain JSON that is saved along, for whoever drives the training.
    """

    def __init__(
        self,
        sae: TrainedSAE,
        config: TrainingConfig,
        dictionary: ArchetypalDictionary | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.sae, self.config, self.ranks = sae, config, ranks
        self.step_count = 0
        self.since_fired = torch.zeros(sae.n_concepts, dtype=torch.int64, device=sae.encoder.device)
        self.fired_in_epoch = torch.zeros_like(self.since_fired)
        self.samples_in_epoch = 0
        self.notes: dict[str, Any] = {}
        # Both (concept, channel), in the memory of the SAE's own parameters.
        self._encoder, self._directions = sae.encoder.detach(), sae.decoder.detach().T
        if not (self._encoder.is_contiguous() and self._directions.is_contiguous()):
            raise ValueError("weights do not lie concept by concept; make a new SAE of them")
        if sae.has_bias:
            raise ValueError("an SAE with a bias; only bias-free ones are trained")
        if config.prefixes and config.prefixes[-1] >= sae.n_concepts:
            raise ValueError(f"prefixes {config.prefixes}; expected less than {sae.n_concepts}")
        self.dictionary: Dictionary = UnitDictionary(self._directions)
        if dictionary is not None:
            self.dictionary = dictionary
            self._directions.copy_(dictionary.directions)
            dictionary.directions = self._directions
        fused = self._encoder.device.type in {"cpu", "cuda"}
        weights = list(self._weights().values())
        for tensor in (self._encoder, self._directions, *weights):
            ranks.share(tensor)
        self._adam = torch.optim.Adam(weights, lr=config.lr, betas=BETAS, fused=fused)
        self._pending: deque[_Pending] = deque()
        self._over: list[StepLog] = []
        self._longest, self._room = 0, -1  # of batches; for concepts that may be dead
        self._broken = torch.zeros((), device=self._encoder.device)

    def step(self, samples: AnyArray, n_samples: int | None = None) -> StepLog:
        """Make one update, and wait for what it measures.

        Parameters
        ----------
        samples : array, shape (sample, channel)
            Already divided by their scale; brought to the type and device of the weights. Of
            several processes each gives its own rows of the batch, none if there are too few.
        n_samples : int, optional
            Samples of the whole batch; counted where it is None.

        Raises
        ------
        ValueError
            Samples of another shape, or a schedule that is over.
        FloatingPointError
            A loss that is not finite; the weights are left as they were.
        """
        return [*self.advance(samples, n_samples), *self.drain()][-1]

    @torch.no_grad()
    def advance(self, samples: AnyArray, n_samples: int | None = None) -> list[StepLog]:
        """Ask for one update.

        Parameters
        ----------
        samples, n_samples
            As of :meth:`step`.

        Returns
        -------
        list of StepLog
            What is known by now of this update and those before it, each once and in order: on a
            CPU this one; on another device it comes a few updates later.

        Raises
        ------
        ValueError
            Samples of another shape, or a schedule that is over.
        FloatingPointError
            A loss that is not finite, of this update or one before it. No update was made since,
            except that directions may be normalised once more.
        """
        x = self._check(samples)
        n = self._count(x) if n_samples is None else n_samples
        idle = self._idle(n)
        with computing_in(self.config.precision, x.device):
            main = reconstruct(
                x,
                self._encoder,
                self._directions,
                self.sae.k,
                isinstance(self.sae, BatchTopKSAE),
                self.config.prefixes,
                idle,
                n,
                self.ranks,
                self.config.candidates,
            )
        self.ranks.add(main.counts)
        of_residual, of_samples = self._spread([main.residual, x], n)
        is_dead = self._is_dead(main.counts, idle, n)
        with computing_in(self.config.precision, x.device):
            auxiliary = reconstruct_residual(
                x,
                main.residual,
                main.idle,
                self._directions[idle],
                is_dead,
                self.config.auxiliary_k,
                of_residual,
            )
        l0, uncertain = _l0(main.values, n), main.uncertain.to(x.dtype)
        means = torch.stack([main.loss, auxiliary.loss, main.minimised, l0, uncertain])
        self.ranks.add(means)
        explained, dead = 1 - of_residual / of_samples, is_dead.sum()
        soon = self._soon_idle(torch.where(main.counts > 0, 0, self.since_fired + n))
        measured = torch.stack([*means, *(each.to(means) for each in (explained, dead, soon))])
        rate = self.config.rate(self.step_count)
        self._pending.append(_Pending.of(self.step_count, rate, measured))
        if may_look(measured):
            self._read()
        else:
            self._note_broken(means)
        self.since_fired.add_(n).masked_fill_(main.counts > 0, 0)
        self.fired_in_epoch.add_(main.counts)
        self.samples_in_epoch += n
        # Both losses' gradients add up: of a dead concept, among no k, the first has none.
        weight = self.config.auxiliary_coefficient
        main.by_encoder.index_add_(0, idle, auxiliary.by_encoder, alpha=weight)
        main.by_directions.index_add_(0, idle, auxiliary.by_directions, alpha=weight)
        self.ranks.add(main.by_encoder, main.by_directions)
        self._update(main.by_encoder, main.by_directions, rate)
        while self._pending and (len(self._pending) > AHEAD or self._pending[0].is_over):
            self._read()
        return self._take()

    def drain(self) -> list[StepLog]:
        """Wait for all updates, and return what they measured that was not returned yet.

        Raises
        ------
        FloatingPointError
            As of :meth:`advance`.
        """
        while self._pending:
            self._read()
        return self._take()

    def end_epoch(self) -> EpochLog:
        """Report how often concepts fired, and count from 0 again."""
        # In integers: 0.6 is not a float, and a concept in exactly 60 % counts.
        often = 5 * self.fired_in_epoch >= 3 * self.samples_in_epoch
        never = self.fired_in_epoch == 0
        log = EpochLog(self.samples_in_epoch, int(often.sum()), int(never.sum()))
        self.fired_in_epoch.zero_()
        self.samples_in_epoch = 0
        return log

    def save(self, path: str | Path) -> None:
        """Write the whole state to one file, atomically.

        Parameters
        ----------
        path : str or Path
            A safetensors file: weights, moments, counters; in its metadata all else as JSON.
        """
        facts = {
            "format": STATE_FORMAT,
            "config": asdict(self.config),
            "activation": self.sae.activation,
            "k": self.sae.k,
            "scale": self.sae.scale,
            "step_count": self.step_count,
            "samples_in_pass": self.samples_in_epoch,
            "notes": self.notes,
        }
        if isinstance(self.sae, BatchTopKSAE):
            facts["threshold"] = float(self.sae.threshold[0])
        if isinstance(self.dictionary, ArchetypalDictionary):
            facts["most_relaxed"] = self.dictionary.most
        write_tensors(Path(path), self._tensors(), training=facts)

    @classmethod
    def load(
        cls, path: str | Path, device: str | torch.device = "cpu", ranks: Ranks = ALONE
    ) -> Trainer:
        """Continue from `save`, to the same bits on the same device and thread count.

        Parameters
        ----------
        path : str or Path
            What `save` wrote.
        device : str or torch.device
            Where to train.
        ranks : Ranks
            Processes that train it together; each loads the same file. Their number may be another
            than before.

        Returns
        -------
        Trainer
            With an SAE of its own.

        Raises
        ------
        ValueError
            A file of another kind or format.
        """
        facts, tensors = read_tensors(path, "training", device)
        facts = _require_format(path, facts)
        trainer = cls(
            _sae(facts, tensors),
            TrainingConfig(**facts["config"]),
            _archetypes(facts, tensors),
            ranks,
        )
        trainer.step_count = facts["step_count"]
        trainer.samples_in_epoch = facts["samples_in_pass"]
        trainer.notes = facts["notes"]
        trainer.since_fired = tensors["since_fired"]
        trainer.fired_in_epoch = tensors["fired_in_pass"]
        for name, weight in trainer._weights().items():
            trainer._adam.state[weight] = {
                "step": torch.tensor(float(trainer.step_count), device=weight.device),
                "exp_avg": tensors[f"{name}.exp_avg"],
                "exp_avg_sq": tensors[f"{name}.exp_avg_sq"],
            }
        return trainer

    def _weights(self) -> dict[str, Tensor]:
        """Return what is optimised, by name."""
        return {"encoder": self._encoder, **self.dictionary.weights()}

    def _check(self, samples: AnyArray) -> Tensor:
        if self.step_count >= self.config.steps:
            raise ValueError(f"the schedule of {counted(self.config.steps, 'step')} is over")
        x = as_tensor(samples, ("sample", "channel"))
        if self._encoder.is_cuda and not x.is_cuda:
            x = x.pin_memory()  # from other memory a copy waits for the device
        x = x.to(self._encoder, non_blocking=True)
        is_empty = not len(x) and self.ranks.size == 1
        if x.ndim != 2 or x.shape[1] != self.sae.n_channels or is_empty:
            raise ValueError(
                f"samples of shape {tuple(x.shape)}; expected (sample, {self.sae.n_channels})"
            )
        return x

    def _count(self, x: Tensor) -> int:
        if self.ranks.size == 1:
            return len(x)
        count = torch.tensor(len(x), device=x.device)
        self.ranks.add(count)
        return int(count)

    def _idle(self, n_samples: int) -> Tensor:
        """Return concepts, all that may be dead once a batch is counted among them."""
        after = self.config.dead_after
        if after is None:
            return torch.empty(0, dtype=torch.int64, device=self.since_fired.device)
        if may_look(self.since_fired):
            return (self.since_fired + n_samples >= after).nonzero()[:, 0]
        if n_samples > self._longest:
            while self._pending:  # they looked ahead by shorter batches
                self._read()
            self._longest, self._room = n_samples, -1
        if self._room < 0:
            self._room = int(self._soon_idle(self.since_fired))
        room = min(-(-self._room // IDLE_GROUP) * IDLE_GROUP, self.sae.n_concepts)
        is_idle = self.since_fired + n_samples >= after
        return is_idle.to(torch.uint8).argsort(descending=True, stable=True)[:room]

    def _soon_idle(self, since_fired: Tensor) -> Tensor:
        """Count the concepts that may be dead in one of the updates until this one is read."""
        soonest = math.inf if self.config.dead_after is None else self.config.dead_after
        return (since_fired + (AHEAD + 1) * self._longest >= soonest).sum()

    def _is_dead(self, counts: Tensor, idle: Tensor, n_samples: int) -> Tensor:
        since = self.since_fired[idle] + n_samples
        return (counts[idle] == 0) & (since >= (self.config.dead_after or 0))

    def _spread(self, parts: list[Tensor], n_samples: int) -> Tensor:
        """Sum, over all samples and channels, the squared deviation of each from its mean."""
        means = torch.stack([part.sum(0) for part in parts])
        self.ranks.add(means)
        means /= n_samples
        norms = [
            torch.linalg.vector_norm(part - mean) for part, mean in zip(parts, means, strict=True)
        ]
        squares = torch.stack(norms).square()
        self.ranks.add(squares)
        return squares

    def _note_broken(self, means: Tensor) -> None:
        """Keep the weights as they are from the first loss on that is not finite."""
        is_broken = ~means[1:3].isfinite().all() | (means[4] > 0)
        torch.logical_or(self._broken, is_broken, out=self._broken)
        if self._adam.defaults["fused"]:
            # What a gradient scaler would tell it: no update is made, and nothing is looked at.
            vars(self._adam).update(grad_scale=None, found_inf=self._broken)

    def _read(self) -> None:
        """Take the log of the earliest update that is not read yet."""
        pending = self._pending.popleft()
        loss, auxiliary, minimised, l0, uncertain, explained, dead, soon = pending.read()
        self._room = int(soon)
        total = minimised + self.config.auxiliary_coefficient * auxiliary
        if not math.isfinite(total):
            raise FloatingPointError(f"the loss of step {pending.step} is {total}")
        if uncertain:
            raise FloatingPointError(
                f"step {pending.step}: for {int(uncertain)} samples more than can be done again it "
                'is not proven which concepts are largest; train with candidates = "float32"'
            )
        parts = pending.step, total, loss, auxiliary, l0, explained, pending.rate, int(dead)
        self._over.append(StepLog(*parts))

    def _take(self) -> list[StepLog]:
        over, self._over = self._over, []
        return over

    def _update(self, by_encoder: Tensor, by_directions: Tensor, rate: float) -> None:
        weights = list(self._weights().values())
        gradients = [by_encoder, *self.dictionary.gradients(by_directions)]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        torch.nn.utils.clip_grad_norm_(weights, self.config.clip)
        self._adam.param_groups[0]["lr"] = rate
        self._adam.step()
        self.dictionary.settle()
        self._adam.zero_grad()
        self.step_count += 1

    def _tensors(self) -> dict[str, Tensor]:
        weights = self._weights()
        tensors = {
            **weights,
            "directions": self._directions,
            **self.dictionary.constants(),
            "since_fired": self.since_fired,
            "fired_in_pass": self.fired_in_epoch,
        }
        if isinstance(self.dictionary, ArchetypalDictionary):
            tensors["relaxation"] = self.dictionary.relaxation
        for name, weight in weights.items():
            for moment in ("exp_avg", "exp_avg_sq"):
                state = self._adam.state.get(weight, {})
                tensors[f"{name}.{moment}"] = state.get(moment, torch.zeros_like(weight))
        return tensors


def read_notes(path: str | Path) -> dict[str, Any]:
    """Return the notes of a saved state, without its tensors.

    Raises
    ------
    ValueError
        A file of another kind or format.
    """
    facts, _ = read_tensors(path, "training")
    notes: dict[str, Any] = _require_format(path, facts)["notes"]
    return notes


def _require_format(path: str | Path, facts: dict[str, Any] | None) -> dict[str, Any]:
    if facts is None or facts["format"] != STATE_FORMAT:
        found = None if facts is None else facts["format"]
        raise ValueError(
            f"{path}: not the state of a training: format {found}; expected {STATE_FORMAT}"
        )
    return facts


def _l0(values: Tensor, n_samples: int) -> Tensor:
    return (values > 0).sum().to(values.dtype) / n_samples


def _sae(facts: dict[str, Any], tensors: dict[str, Tensor]) -> TrainedSAE:
    """Return the SAE of a saved state; one that was saved before there were others is TopK."""
    weights, scale = (tensors["encoder"], tensors["directions"].T, facts["k"]), facts["scale"]
    if facts.get("activation", TopKSAE.activation) == TopKSAE.activation:
        return TopKSAE(*weights, scale)
    return BatchTopKSAE(*weights, facts["threshold"], scale)


def _archetypes(facts: dict[str, Any], tensors: dict[str, Tensor]) -> ArchetypalDictionary | None:
    if "points" not in tensors:
        return None
    points, mixing, *rest = (
        tensors[name] for name in ("points", "mixing", "relaxation", "log_gain", "directions")
    )
    return ArchetypalDictionary(points, mixing, facts["most_relaxed"], *rest)


def calibrate_threshold(
    sae: BatchTopKSAE, batches: Iterable[AnyArray], ranks: Ranks = ALONE
) -> float:
    """Estimate the threshold that a BatchTopK SAE is served by, and give it to the SAE.

    Parameters
    ----------
    sae : BatchTopKSAE
        Its threshold is changed in place.
    batches : iterable of arrays, each of shape (sample, channel)
        Samples as in training: divided by the SAE's scale, in batches of its size.
    ranks : Ranks
        Processes that do so together, each with its own rows of each batch.

    Returns
    -------
    float
        The mean over batches of the smallest activation above 0 that is kept of each (Bussmann et
        al., arXiv 2412.06410, section 3), times the scale: 0 where none is kept of any.
    """
    least = []
    for samples in batches:
        x = as_tensor(samples, ("sample", "channel")).to(sae.encoder)
        values = batch_codes(x, sae.encoder.detach(), sae.k, ranks=ranks).values
        smallest = torch.cat([values, values.new_full((1,), math.inf)]).min()
        ranks.least(smallest)
        if smallest.isfinite():
            least.append(float(smallest))
    threshold = sae.scale * sum(least) / max(len(least), 1)
    sae.threshold.fill_(threshold)
    return threshold


def train_topk_sae(
    batches: Iterable[AnyArray],
    sae: TrainedSAE,
    config: TrainingConfig,
    on_step: Callable[[StepLog], object] | None = None,
    dictionary: ArchetypalDictionary | None = None,
) -> xr.DataArray:
    """Train an SAE on given batches: the optimisation alone.

    Parameters
    ----------
    batches : iterable of arrays, each of shape (sample, channel)
        Samples, already scaled, in the order of the updates. No more than ``config.steps`` are
        taken; fewer leave the schedule unfinished.
    sae : TopKSAE or BatchTopKSAE
        Weights to start from, changed in place. BatchTopK is served by a threshold that is
        estimated afterwards: `calibrate_threshold`.
    config : TrainingConfig
        Schedule and coefficients; prefixes of the dictionary for Matryoshka.
    on_step : callable, optional
        Called with the `StepLog` of every update; on a GPU a few updates later.
    dictionary : ArchetypalDictionary, optional
        What the decoder is made of; None: columns of unit norm.

    Returns
    -------
    xarray.DataArray, shape (step,)
        Loss of every update, taken before it: ``||x - x_hat||^2``, mean over samples, plus the
        weighted auxiliary loss. Its two parts and the rate are coordinates along ``step``.

    Raises
    ------
    ValueError
        A batch of another shape.
    FloatingPointError
        A loss that is not finite.
    """
    trainer = Trainer(sae, config, dictionary)
    logs = []

    def note(known: list[StepLog]) -> None:
        logs.extend(known)
        for log in known:
            if on_step is not None:
                on_step(log)

    for _, samples in zip(range(config.steps), batches, strict=False):
        note(trainer.advance(samples))
    note(trainer.drain())
    parts = ("step", "reconstruction_loss", "auxiliary_loss", "rate")
    coords = {name: ("step", [getattr(log, name) for log in logs]) for name in parts}
    return xr.DataArray([log.loss for log in logs], coords, ("step",), name="loss")


def is_ascending(sizes: Sequence[int]) -> bool:
    """Return whether sizes of prefixes are 1 or more, each larger than the one before."""
    return all(first < then for first, then in pairwise((0, *sizes)))
