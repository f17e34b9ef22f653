"""How neurons under test are chosen, and the configuration of the sanity check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

import registry
from evals.identification.config import VALIDATION_SHARE
from evals.metrics.registered import resolve_metrics
from evals.metrics.table import ALPHAS, LAMBDAS, Alpha
from evals.sanity.protocol import (
    FREQUENCIES,
    HIDDEN_ALPHA,
    N_DRAWS,
    N_INPUTS,
    SIMULATED_DRAWS,
    Criterion,
    Rates,
)
from evals.scoring.config import Compat, DrawingOptions, NeuronChoice
from evals.scoring.seen_images import REFUSE, SeenOption

Frequency = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class SanityOptions(DrawingOptions):
    """How real neurons and parameters are chosen, for the experimental and the semantic form.

    Parameters
    ----------
    hidden_alpha : float or None
        Fraction of inputs at which a neuron is active, in (0, 1], where no concept is known: the
        one of highest IoU is taken then, and no other alpha is tried. None where activations are
        0 or 1 already.
    validation_share : float
        Fraction of neurons that choose parameters, in (0, 1); at least 2 do.
    alphas, lams : tuple of float
        What these choose from for each metric: fractions of inputs, none where activations are 0
        or 1 already, and weights of ``wpmi``.
    seed : int
        Of the neurons that choose, of inputs that some metrics draw by neuron, and of the draws of
        the theoretical form.
    workers : int
        Threads; they do not change the result.
    experimental_compat : str
        "neuroneval" scores by the rules of the published code, of ties above all, draws anew for
        corrupted labels, and lets the neurons choose that it lets; what is undefined leaves a
        change, and the range where it is that of the data, undefined, which is no fall; by the
        definitions, for "", it counts as 0.
    """

    hidden_alpha: Alpha | None = HIDDEN_ALPHA
    validation_share: Annotated[float, Field(gt=0, lt=1)] = VALIDATION_SHARE
    alphas: tuple[Alpha, ...] = ALPHAS
    lams: tuple[float, ...] = LAMBDAS
    seed: Seed = 0
    workers: registry.Runtime[Annotated[int, Field(ge=1)]] = 1
    experimental_compat: Annotated[Compat, registry.Since("")] = ""


SANITY_OPTIONS = SanityOptions()
SubjectOptions = SanityOptions
"""The name it had first."""


@dataclass(frozen=True)
class SanityConfig(SanityOptions, NeuronChoice):
    """Configuration of ``evals.sanity_check``.

    Without inputs metrics are tested on binary neurons alone (the theoretical form); with
    activations and labels on real neurons too (the experimental and the semantic form), which has
    the keys of `SanityOptions`.

    Parameters
    ----------
    metrics : tuple of str
        Names in the table of metrics; all of it where none is named.
    kept_share : float
        Probability with which a positive label is kept where labels are missing, in [0, 1].
    extra_factor : float
        Factor by which positive labels grow where there are extra ones, at least 1.
    epsilon : float
        Fraction of a metric's range by which a score must fall, in [0, 1).
    required : float
        Fraction of draws, or of neurons, in which it must, in (0, 1].
    frequencies : tuple of float
        Theoretical: fractions of inputs at which neurons are active, in (0, 1).
    n_inputs : int
        Theoretical: number of inputs.
    n_draws : int
        Theoretical: draws at each frequency.
    simulated_draws : int
        Theoretical: draws for metrics that are functions of arrays, and for ``compat``.
    compat : str
        Theoretical: "neuroneval" breaks ties as the published code does, to compare with its
        figures; it takes minutes.
    seeds : tuple of int
        Experimental: of corrupted labels; scores on labels of several seeds are averaged.
    variable : str
        Experimental: what of the activations is tested; by default ``presence`` of concepts,
        ``activation`` of neurons.
    split : str
        Experimental: use the inputs of this split alone; all by default.
    seen_images : str
        Whether concepts may be tested on images that they were trained on: ``refuse``, or
        ``allow``. How many there are is said in either case.
    """

    metrics: tuple[str, ...] = ()
    kept_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    extra_factor: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0
    epsilon: Annotated[float, Field(ge=0, lt=1)] = 0.001
    required: Annotated[float, Field(gt=0, le=1)] = 0.9
    frequencies: Annotated[tuple[Frequency, ...], Field(min_length=1)] = FREQUENCIES
    n_inputs: Annotated[int, Field(ge=2)] = N_INPUTS
    n_draws: Annotated[int, Field(ge=1)] = N_DRAWS
    simulated_draws: Annotated[int, Field(ge=1)] = SIMULATED_DRAWS
    compat: Compat = ""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    variable: str = ""
    split: str = ""
    seen_images: Annotated[SeenOption, registry.Since(REFUSE)] = REFUSE

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", resolve_metrics(self.metrics))
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"a seed is named twice in {list(self.seeds)}")

    @property
    def rates(self) -> Rates:
        """How many labels are corrupted."""
        return Rates(self.kept_share, self.extra_factor)

    @property
    def criterion(self) -> Criterion:
        """When a metric passes."""
        return Criterion(self.epsilon, self.required)
