"""The protocol of the sanity check: what is corrupted, in how many forms, and what follows.

Oikarinen et al. 2025 (arXiv 2506.05774), section 4 and appendices E.1 and E.3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MISSING, EXTRA = TESTS = ("missing", "extra")
"""What is wrong with the labels."""

THEORETICAL, EXPERIMENTAL, SEMANTIC = FORMS = ("theoretical", "experimental", "semantic")
"""Where metrics are tested: on binary neurons that are their concept; on real neurons, with labels
corrupted at random, or by replacing classes by superclasses and back."""

DECISIVE = (THEORETICAL, EXPERIMENTAL)
"""Forms that a metric must pass, as far as they were run."""

FREQUENCIES = (0.499, 0.1, 0.01, 0.001, 0.0001)
N_INPUTS = 500_000
N_DRAWS = 1000
SIMULATED_DRAWS = 20
HIDDEN_ALPHA = 0.005


@dataclass(frozen=True)
class Rates:
    """How many labels are corrupted.

    Parameters
    ----------
    kept_share : float
        Probability with which a positive is kept where labels are missing, in [0, 1]: ``r-``.
    extra_factor : float
        Factor by which positives grow, in expectation, where there are extra ones, at least 1:
        ``r+``.

    Raises
    ------
    ValueError
        If a rate lies elsewhere.
    """

    kept_share: float = 0.5
    extra_factor: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.kept_share <= 1:
            raise ValueError(f"kept_share is a probability in [0, 1]; got {self.kept_share!r}")
        if not 1 <= self.extra_factor < float("inf"):
            raise ValueError(f"extra_factor is a factor of at least 1; got {self.extra_factor!r}")

    def flip_probability(self, n_labelled: int, n_inputs: int) -> float:
        """Return how probable it is that a negative becomes positive.

        ``(r+ - 1) Q / (D - Q)``, at most 1; 0 where there is no negative.
        """
        n_negative = n_inputs - n_labelled
        if not n_negative:
            return 0.0
        return min(1.0, (self.extra_factor - 1) * n_labelled / n_negative)


RATES = Rates()

PASSES, FAILS, UNDECIDED, NOT_RUN = "passes", "fails", "undecided", ""

Z = 1.959963984540054  # of a 95 % interval
TOSS = 4  # standard errors within which a mean fall counts as equal to epsilon
ROUNDING = 1e-12  # a fall that equals epsilon but for this is not more than epsilon


@dataclass(frozen=True)
class Criterion:
    """When a metric passes.

    Parameters
    ----------
    epsilon : float
        A score falls where it falls by more than this fraction of the metric's range, at least 0.
    required : float
        Fraction of draws, or of neurons, in which it must fall, in (0, 1].

    Raises
    ------
    ValueError
        If one lies elsewhere.
    """

    epsilon: float = 0.001
    required: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon < 1:
            raise ValueError(f"epsilon is a fraction of the range in [0, 1); got {self.epsilon!r}")
        if not 0 < self.required <= 1:
            raise ValueError(f"required is a fraction in (0, 1]; got {self.required!r}")

    def falls(self, change: np.ndarray) -> np.ndarray:
        """Return where a change, in units of the metric's range, is a fall."""
        return np.asarray(-change > self.epsilon + ROUNDING)

    def judge(self, accuracy: float, error: float) -> str:
        """Return the verdict on a decrease accuracy with its standard error.

        Undecided where the required fraction lies within two standard errors; "" for NaN.
        """
        if math.isnan(accuracy):
            return NOT_RUN
        if abs(accuracy - self.required) < 2 * error:
            return UNDECIDED
        return PASSES if accuracy >= self.required else FAILS

    def error_of(self, accuracy: np.ndarray, n_trials: np.ndarray) -> np.ndarray:
        """Return the standard error of a fraction of so many neurons, for `judge`.

        At least that of a fraction which just suffices: by its own variance alone, 2 of 2 neurons
        would leave no doubt.
        """
        variance = np.maximum(accuracy * (1 - accuracy), self.required * (1 - self.required))
        return np.asarray(np.sqrt(variance / np.maximum(n_trials, 1)))

    def is_toss(self, change: np.ndarray, error: np.ndarray) -> np.ndarray:
        """Return where a mean change, with its standard error, may well be a fall of epsilon.

        Then about half of the draws are falls, by chance alone.
        """
        return np.asarray((error > 0) & (np.abs(change + self.epsilon) <= TOSS * error))

    def hinges(self, rates: np.ndarray, is_toss: np.ndarray) -> np.ndarray:
        """Return where tosses alone decide whether the mean of rates (…, frequency) suffices."""
        least = np.where(is_toss, 0, rates).mean(axis=-1)
        most = np.where(is_toss, 1, rates).mean(axis=-1)
        return np.asarray((least < self.required) & (most >= self.required))


CRITERION = Criterion()


def judge_together(verdicts: Iterable[str]) -> str:
    """Return the verdict on several tests: what fails one fails, what passes all passes.

    Tests that were not run do not count; "" where none was.
    """
    run = [verdict for verdict in verdicts if verdict != NOT_RUN]
    for verdict in (FAILS, UNDECIDED, PASSES):
        if verdict in run:
            return verdict
    return NOT_RUN


def change_of_scores(
    original: np.ndarray,
    corrupted: np.ndarray,
    bounds: tuple[float, float],
    compat: bool = False,
) -> np.ndarray:
    """Return how far scores move, in units of the metric's range; undefined scores count as 0.

    With ``compat``, as in the published code, a change is undefined where a score is, or where the
    range is or has no width; in an infinite range it is 0.
    """
    width = bounds[1] - bounds[0]
    if compat:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((corrupted - original) / np.float64(width))
    change = np.nan_to_num(corrupted) - np.nan_to_num(original)
    return change / width if width > 0 else np.zeros_like(change)


def bounds_of_scores(scores: Iterable[np.ndarray], compat: bool = False) -> tuple[float, float]:
    """Return the smallest and largest score seen; undefined scores count as 0.

    With ``compat``, as in the published code, both are undefined where a score is.
    """
    seen = [part if compat else np.nan_to_num(part) for part in scores]
    return float(np.min([part.min() for part in seen])), float(
        np.max([part.max() for part in seen])
    )


def error_of_mean(variances: npt.ArrayLike) -> np.ndarray:
    """Return the standard error of a mean over the last axis, from independent variances."""
    held = np.asarray(variances)
    return np.asarray(np.sqrt(held.sum(axis=-1)) / held.shape[-1])


def wilson_interval(fraction: np.ndarray, n_trials: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % interval of a fraction of so many trials (Wilson 1927), NaN for NaN."""
    middle = (fraction + Z**2 / (2 * n_trials)) / (1 + Z**2 / n_trials)
    spread = np.sqrt(fraction * (1 - fraction) / n_trials + (Z / (2 * n_trials)) ** 2)
    half = Z * spread / (1 + Z**2 / n_trials)
    return np.maximum(middle - half, 0), np.minimum(middle + half, 1)


@dataclass(frozen=True)
class Outcome:
    """What became of a metric's scores in one test.

    Attributes
    ----------
    rate : float
        Fraction of draws in which the score fell.
    change : float
        Mean change, in units of the metric's range.
    undefined : float
        Fraction of scores on corrupted labels that are undefined.
    n_draws : int
        Draws.
    within, between : float
        Variance of one draw, and of what a run of many draws that share one score on original
        labels would find.
    change_error : float
        Standard error of `change`; 0 where draws share a score on original labels.
    """

    rate: float
    change: float
    undefined: float
    n_draws: int
    within: float
    between: float = 0.0
    change_error: float = 0.0

    @classmethod
    def of(
        cls,
        original: np.ndarray,
        corrupted: np.ndarray,
        bounds: tuple[float, float],
        criterion: Criterion,
        is_paired: bool = True,
    ) -> Outcome:
        """Compare scores (draw,) on original and on corrupted labels, draw by draw.

        If not paired, each of the original scores with all corrupted ones: for runs in which one
        noisy score on original labels serves all draws, and what is found depends on that score.
        """
        change = change_of_scores(original if is_paired else original[:, None], corrupted, bounds)
        rates = np.atleast_1d(criterion.falls(change).mean(axis=-1))
        return cls(
            rate=float(rates.mean()),
            change=float(change.mean()),
            undefined=float(np.isnan(corrupted).mean()),
            n_draws=len(corrupted),
            within=float(np.mean(rates * (1 - rates))),
            between=float(rates.var(ddof=1)) if len(rates) > 1 else 0.0,
            change_error=float(change.std() / math.sqrt(len(change))) if is_paired else 0.0,
        )

    @property
    def variance(self) -> float:
        """Squared standard error of `rate`."""
        return (self.between + self.within) / self.n_draws

    def variance_of_run(self, n_draws: int) -> float:
        """Squared standard error of the rate that one run of so many draws finds."""
        return self.between + self.within / n_draws
