"""The protocol of the sanity tests: what is corrupted, by how much, in how many forms.

Oikarinen et al. 2025 (arXiv 2506.05774), section 4 and appendices E.1 and E.3.
"""

from __future__ import annotations

from dataclasses import dataclass

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

NEURONEVAL = "neuroneval"
COMPATS = ("", NEURONEVAL)
"""Whose handling of ties is replayed."""


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
