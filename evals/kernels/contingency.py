"""What is active, what is labelled, and how many inputs are both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

LABEL_THRESHOLD = 0.5
SMALLEST_LABEL = 1e-8  # below which a label's logarithm is that of this


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
            f"without alpha, activations must be 0 or 1; got {others} other values: "
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
        cls,
        both: np.ndarray,
        active: np.ndarray,
        labelled: np.ndarray,
        total: float | np.ndarray,
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
