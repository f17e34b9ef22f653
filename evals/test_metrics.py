"""Test metrics themselves: do their scores fall when the labels of a right concept are spoiled?"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

import registry
from evals import schemas
from evals.metrics.registered import metric_modules, resolve_metrics
from evals.metrics.table import ALPHAS, LAMBDAS
from evals.sanity.protocol import (
    FREQUENCIES,
    HIDDEN_ALPHA,
    N_DRAWS,
    N_INPUTS,
    SIMULATED_DRAWS,
    Rates,
)
from evals.sanity.verdicts import Criterion

if TYPE_CHECKING:
    import xarray as xr

Alpha = Annotated[float, Field(gt=0, le=1)]
Frequency = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Config:
    """Configuration of ``evals.test_metrics``.

    Without inputs metrics are tested on binary neurons alone (the theoretical form); with
    activations and labels on real neurons too (the experimental and the semantic form).

    Parameters
    ----------
    metrics : tuple of str
        Names in the table of metrics; all of it where none is named.
    kept_share : float
        Probability with which a positive label is kept where labels are missing, in [0, 1].
    extra_factor : float
        Factor by which positive labels grow where there are extra ones, at least 1.
    epsilon : float
        Share of a metric's range by which a score must fall, in [0, 1).
    required : float
        Share of draws, or of neurons, in which it must, in (0, 1].
    frequencies : tuple of float
        Theoretical: shares of inputs at which neurons are active, in (0, 1).
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
        Experimental: of spoiled labels; scores on labels of several seeds are averaged.
    hidden_alpha : float or None
        Experimental: fraction of inputs at which a neuron is active, in (0, 1], where no right
        concept is known and the one of highest IoU is taken; None where activations are 0 or 1.
    alphas : tuple of float
        Experimental: fractions that neurons of known concept choose from, for each metric; none
        where activations are 0 or 1.
    lams : tuple of float
        Experimental: weights of ``wpmi`` to choose from.
    validation_share : float
        Experimental: share of neurons that choose, in (0, 1); at least 2 do. The rest is tested.
    variable : str
        Experimental: what of the activations is tested; by default ``presence`` of concepts,
        ``activation`` of neurons.
    split : str
        Experimental: use the inputs of this split alone; all by default.
    seed : int
        Of theoretical draws, of the neurons that choose, and of inputs that some metrics draw.
    workers : int
        Threads.
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
    compat: Literal["", "neuroneval"] = ""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    hidden_alpha: Alpha | None = HIDDEN_ALPHA
    alphas: tuple[Alpha, ...] = ALPHAS
    lams: tuple[float, ...] = LAMBDAS
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.05
    variable: str = ""
    split: str = ""
    seed: Seed = 0
    workers: registry.Runtime[Annotated[int, Field(ge=1)]] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", resolve_metrics(self.metrics))
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"a seed is named twice in {list(self.seeds)}")

    @property
    def rates(self) -> Rates:
        """How many labels are spoiled."""
        return Rates(self.kept_share, self.extra_factor)

    @property
    def criterion(self) -> Criterion:
        """When a metric passes."""
        return Criterion(self.epsilon, self.required)


stage = registry.Stage(
    "evals.test_metrics",
    version=2,
    config=Config,
    needs={"activations": "activations | concepts?", "labels": "labels?"},
    output=schemas.SANITY,
    preload=("evals.sanity.sanity", "evals.sanity.sanity_table"),
    plugged=metric_modules,
)


@stage.main
def try_metrics(config: Config, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    """Test metrics in every form that the inputs allow."""
    from evals.sanity.sanity import combine_forms, theoretical_sanity
    from evals.sanity.sanity_table import sanity_table

    def tell(done: int, total: int) -> None:
        run.progress(done, total, "metrics")

    _require_both(inputs)
    theoretical = theoretical_sanity(
        config.metrics,
        frequencies=config.frequencies,
        n_inputs=config.n_inputs,
        n_draws=config.n_draws,
        simulated_draws=config.simulated_draws,
        rates=config.rates,
        criterion=config.criterion,
        seed=config.seed,
        compat=config.compat,
        progress=tell,
    )
    real = _test_on_data(config, inputs, run) if "labels" in inputs else None
    tested = _summarise(config, combine_forms(theoretical, real), real)
    sys.stdout.write(sanity_table(tested))
    return tested


def _require_both(inputs: registry.Inputs) -> None:
    given = [slot for slot in ("activations", "labels") if slot in inputs]
    if len(given) == 1:
        raise ValueError(f"metrics are tested on activations and labels; got {given[0]} alone")


def _test_on_data(config: Config, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    """Return what became of the metrics on real neurons."""
    from evals.sanity.sanity import experimental_sanity
    from evals.sanity.tested_neurons import SanityOptions
    from evals.scoring.labelled import pair_datasets

    activations, labels = inputs["activations"].open(), inputs["labels"].open()

    def tell(done: int, total: int) -> None:
        run.progress(done, total, "neurons")

    return experimental_sanity(
        *pair_datasets(activations, labels, config.variable, config.split),
        config.metrics,
        activations.get("right_concept"),
        rates=config.rates,
        criterion=config.criterion,
        seeds=config.seeds,
        options=SanityOptions(
            hidden_alpha=config.hidden_alpha,
            validation_share=config.validation_share,
            alphas=config.alphas,
            lams=config.lams,
            seed=config.seed,
            workers=config.workers,
        ),
        progress=tell,
    )


def _summarise(config: Config, tested: xr.Dataset, real: xr.Dataset | None) -> xr.Dataset:
    """Add what is said of all metrics together."""
    passed = tested["passed"].values.tolist()
    right = "none" if real is None else real.attrs["right_concepts"]
    return tested.assign(
        n_passing=passed.count("passes"),
        n_failing=passed.count("fails"),
        n_undecided=passed.count("undecided"),
        epsilon=config.epsilon,
        required=config.required,
        n_draws=config.n_draws,
        variant=(
            f"kept {config.kept_share:g}, extra {config.extra_factor:g}; right concepts: {right}; "
            f"ties: {config.compat or 'midranks'}"
        ),
    )


if __name__ == "__main__":
    registry.run_module(__spec__.name)
