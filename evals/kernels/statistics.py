"""What metrics are computed from: statistics of pairs of a neuron and a concept.

A metric is a small formula over such statistics, and they come in several forms: of every pair of a
block of neurons and all concepts (:class:`evals.kernels.blocks.BlockStatistics`), which shares
sorts, counts and products between metrics, or of one pair with its inputs weighted anew in every
draw (:class:`evals.kernels.draws.DrawnStatistics`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import numpy as np

from evals.kernels.contingency import Counts

S = TypeVar("S")
T = TypeVar("T")
P = ParamSpec("P")


def kept(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Keep what a method returns, for the arguments that it is given."""

    @wraps(method)
    def ask(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        answers: dict[Any, T] = vars(self).setdefault("_kept", {})
        key = method.__name__, args, tuple(kwargs.items())
        if key not in answers:
            answers[key] = method(self, *args, **kwargs)
        return answers[key]

    return ask


@dataclass(frozen=True)
class Moments:
    """Population moments of pairs; arrays broadcast to (neuron, concept) or (draw,).

    Attributes
    ----------
    covariance : ndarray
        Mean product of deviations from the mean.
    activation_deviation, label_deviation : ndarray
        Standard deviations, exactly 0 where a column is constant.
    inner : ndarray
        Sum of products.
    activation_norm, label_norm : ndarray
        Roots of the sums of squares.
    """

    covariance: np.ndarray
    activation_deviation: np.ndarray
    label_deviation: np.ndarray
    inner: np.ndarray
    activation_norm: np.ndarray
    label_norm: np.ndarray

    @classmethod
    def stack(cls, parts: Sequence[Moments], undefined: np.ndarray) -> Moments:
        """Put the moments of single neurons (concept,) together, NaN where undefined (neuron,)."""
        joined = {
            field.name: np.stack([getattr(part, field.name) for part in parts])
            for field in fields(cls)
        }
        for values in joined.values():
            values[undefined] = np.nan
        return cls(**joined)


class Sample(Protocol):
    """Some of the inputs of each neuron."""

    @property
    def moments(self) -> Moments:
        """Means, deviations and inner products of activations and labels."""

    @property
    def rank_moments(self) -> Moments:
        """The same of midranks."""


class Statistics(Sample, Protocol):
    """What a metric may ask about a set of pairs; answers broadcast to the pairs' shape.

    ``alpha`` is the fraction of inputs at which a neuron is active, None where its activations
    are 0 or 1 already.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an answer: (neuron, concept), or (draw,)."""

    @property
    def label_moments(self) -> Moments:
        """Means, deviations and inner products of activations and binary labels."""

    def counts(self, alpha: float | None) -> Counts:
        """Inputs that are active, labelled, or both."""

    def average_precision(self, alpha: float | None) -> np.ndarray:
        """Average precision of labels as scores of active inputs."""

    def inverse_average_precision(self) -> np.ndarray:
        """Average precision of activations as scores of labelled inputs."""

    def roc_area(self, alpha: float | None) -> np.ndarray:
        """Area under the ROC curve of labels as scores of active inputs."""

    def inverse_roc_area(self) -> np.ndarray:
        """Area under the ROC curve of activations as scores of labelled inputs."""

    def mean_log_label(self, alpha: float | None) -> np.ndarray:
        """Mean over active inputs of the label's logarithm, clamped below at log 1e-8."""

    def log_mean_label(self) -> np.ndarray:
        """Logarithm of the label's mean over all inputs, NaN for an empty concept."""

    def top_and_random(self, seed: int) -> Sample:
        """Inputs drawn from those where a neuron is strongest, and from all."""

    def compute(self, function: Callable[..., np.ndarray], **parameters: Any) -> np.ndarray:
        """Call a function of activations (input, neuron) and labels (input, concept)."""
