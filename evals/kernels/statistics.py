"""What metrics are computed from: statistics of pairs of a neuron and a concept.

A metric is a small formula over such statistics, and they come in several forms: of every pair of a
block of neurons and all concepts (:class:`evals.kernels.blocks.BlockStatistics`), which shares
sorts, counts and products between metrics, or of one pair with its inputs weighted anew in every
draw (:class:`evals.kernels.draws.DrawnStatistics`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar

import numpy as np

from registry.wording import counted


class Shaped(Protocol):
    """An array of any library: NumPy, torch, pandas, SciPy-sparse, dask or xarray."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of its dimensions."""


AnyArray: TypeAlias = Shaped | Sequence[float] | Sequence[Sequence[float]]
"""What functions take: an array of any library, or nested sequences of numbers."""


LABEL_THRESHOLD = 0.5
SMALLEST_LABEL = 1e-8  # below which a label's logarithm is that of this


class NeedsInputsError(Exception):
    """Something is asked of counts alone that needs the inputs, one by one."""


def mean_defined(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Return the mean of the values that are not NaN, NaN where there is none."""
    known = ~np.isnan(values)
    return divide(np.where(known, values, 0).sum(axis=axis), known.sum(axis=axis))


def count_top(alpha: float, n_inputs: int) -> int:
    """Return ``ceil(alpha * n_inputs)``, as written in decimals: 0.07 of 100 inputs are 7.

    Parameters
    ----------
    alpha : float
        Fraction of inputs, in (0, 1].
    n_inputs : int
        Number of inputs, at least 1.

    Raises
    ------
    ValueError
        If alpha lies outside (0, 1].
    """
    fraction = Fraction(str(alpha)) if math.isfinite(alpha) else Fraction(-1)
    if not 0 < fraction <= 1:
        raise ValueError(f"alpha is a fraction of inputs in (0, 1], or None; got {alpha!r}")
    return math.ceil(fraction * n_inputs)


def require_binary(activations: np.ndarray) -> None:
    """Raise ValueError unless activations are 0 or 1, and so need no alpha."""
    others = int(np.count_nonzero((activations != 0) & (activations != 1)))
    if others:
        raise ValueError(
            f"without alpha, activations must be 0 or 1; got {counted(others, 'other value')}: "
            "pass the fraction of inputs at which a neuron is active as alpha"
        )


@dataclass(frozen=True)
class Counts:
    """The contingency of pairs of a neuron and a concept.

    The neuron is the truth, the concept the prediction. All arrays broadcast against each other,
    are of dtype float64, and hold whole numbers. A silent neuron, with no active input, has NaN in
    `both` and `active`, so that everything computed from it is undefined.

    Attributes
    ----------
    both : ndarray
        Active and labelled inputs (true positives, tp).
    active : ndarray
        Active inputs (P).
    labelled : ndarray
        Labelled inputs (Q).
    total : float or ndarray
        All inputs (D).
    """

    both: np.ndarray
    active: np.ndarray
    labelled: np.ndarray
    total: float | np.ndarray

    @classmethod
    def of(
        cls, both: np.ndarray, active: np.ndarray, labelled: np.ndarray, total: float | np.ndarray
    ) -> Counts:
        """Return plain counts as such, silent neurons undefined."""
        is_silent = active == 0
        return cls(
            np.where(is_silent, np.nan, both), np.where(is_silent, np.nan, active), labelled, total
        )

    @property
    def neither(self) -> np.ndarray:
        """Inputs that are neither active nor labelled (true negatives, tn)."""
        return np.asarray(self.total - self.active - self.labelled + self.both)


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the quotient, NaN wherever the denominator is 0 (also for 1 / 0)."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    quotient = np.full(numerator.shape, np.nan)
    return np.asarray(np.divide(numerator, denominator, out=quotient, where=denominator != 0))


S = TypeVar("S")
T = TypeVar("T")
P = ParamSpec("P")


def read_only(value: T) -> T:
    """Return an array as a view that nobody can change, anything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    view = value.view()
    view.flags.writeable = False
    return view


def kept(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Keep what a method returns, for the arguments that it is given."""

    @wraps(method)
    def ask(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        answers: dict[Any, T] = vars(self).setdefault("_kept", {})
        key = method.__name__, args, tuple(kwargs.items())
        if key not in answers:
            answers[key] = read_only(method(self, *args, **kwargs))
        return answers[key]

    return ask


@dataclass(frozen=True)
class Drawing:
    """How many inputs *top and random* draws, and from how many of the strongest.

    Attributes
    ----------
    size : int
        Inputs that are drawn from the strongest, and as many from all; at least 1.
    share : float
        Fraction of all inputs that the strongest are, in (0, 1].

    Raises
    ------
    ValueError
        If one of them makes no sense.
    """

    size: int = 25
    share: float = 0.002

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 < self.share <= 1:
            raise ValueError(f"{self}; expected at least 1 input, of a share in (0, 1]")


DRAWING = Drawing()
"""As published (Oikarinen et al. 2025, arXiv 2506.05774)."""


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
    exponent : ndarray of int, or int
        Activations are in units of 2 to this power: 0 but where all of a neuron's are tiny or huge,
        whose products would be no ordinary numbers.
    """

    covariance: np.ndarray
    activation_deviation: np.ndarray
    label_deviation: np.ndarray
    inner: np.ndarray
    activation_norm: np.ndarray
    label_norm: np.ndarray
    exponent: np.ndarray | int = 0

    @classmethod
    def stack(cls, parts: Sequence[Moments]) -> Moments:
        """Put the moments of single neurons (concept,) together."""
        return cls(
            **{
                field.name: np.stack([getattr(part, field.name) for part in parts])
                for field in fields(cls)
                if field.name != "exponent"  # samples are compared with each other alone
            }
        )

    def without(self, undefined: np.ndarray) -> Moments:
        """Return arrays (neuron, concept) with NaN where undefined (neuron,)."""
        held = {
            field.name: np.where(undefined[:, None], np.nan, getattr(self, field.name))
            for field in fields(self)
            if field.name != "exponent"
        }
        return replace(self, **held)


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

    def top_and_random(self, seed: int, drawing: Drawing = DRAWING) -> Sample:
        """Inputs drawn from those where a neuron is strongest, and from all."""

    def compute(self, function: Callable[..., np.ndarray], **parameters: Any) -> np.ndarray:
        """Call a function of activations (input, neuron) and labels (input, concept)."""
