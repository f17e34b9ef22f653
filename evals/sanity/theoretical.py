"""Sanity checks on binary neurons: does a score fall when the labels of the concept are corrupted?

Oikarinen et al. 2025 (arXiv 2506.05774), section 4: a metric that does not notice that half of the
labels are missing, or that there are twice as many, says little about how well a concept explains
a neuron.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from evals.kernels.statistics import DRAWING, Drawing, NeedsInputsError
from evals.metrics.registered import find_metrics
from evals.metrics.table import Metric, MetricError
from evals.metrics.tolerance import Tolerance
from evals.sanity.binary_neurons import BinaryNeurons, BinaryTrial, Outcomes
from evals.sanity.protocol import (
    CRITERION,
    FREQUENCIES,
    N_DRAWS,
    N_INPUTS,
    PASSES,
    RATES,
    SIMULATED_DRAWS,
    TESTS,
    THEORETICAL,
    UNDECIDED,
    Criterion,
    Rates,
    Z,
    error_of_mean,
    judge_together,
)
from evals.sanity.published_accuracy import explain_difference, published_accuracy
from evals.scoring.config import COMPATS
from evals.scoring.original_ties import replays
from registry.suggest import nearest

PER_FREQUENCY = ("metric", "test", "frequency")
PER_TEST = ("metric", "test")


def theoretical_sanity(
    metrics: Sequence[str | Metric] | None = None,
    *,
    frequencies: Sequence[float] = FREQUENCIES,
    n_inputs: int = N_INPUTS,
    n_draws: int = N_DRAWS,
    simulated_draws: int = SIMULATED_DRAWS,
    rates: Rates = RATES,
    criterion: Criterion = CRITERION,
    seed: int = 0,
    compat: str = "",
    drawing: Drawing = DRAWING,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> xr.Dataset:
    """Test metrics on binary neurons that are their own concept.

    Parameters
    ----------
    metrics : sequence of str or Metric, optional
        Names in the table; all of it by default.
    frequencies : sequence of float
        Fractions of inputs at which neurons are active, in (0, 1).
    n_inputs : int
        Number of inputs.
    n_draws : int
        Draws of faults, at least 1, for metrics that depend on counts of inputs alone: all that
        are built in. Counts are drawn from their exact distribution.
    simulated_draws : int
        Draws, at least 1, for a metric that is a function of arrays, and for ``compat``: there
        every input is drawn.
    rates : Rates
        How many labels are corrupted.
    criterion : Criterion
        By how much a score must fall, and how often.
    seed : int
        Another one draws others.
    compat : str
        "neuroneval": break ties as the published code does, for its figures; "" for no such thing.
    drawing : Drawing
        How many inputs *top and random* draws.
    progress : callable
        Called with the number of metrics done and their total.

    Returns
    -------
    xr.Dataset
        (metric, test, frequency): ``score_change``, mean change in units of the metric's range;
        ``decrease_rate``, fraction of draws in which the score falls by more than epsilon;
        ``undefined_share``, of draws in which it is undefined, and counts as 0.
        (metric, test): ``decrease_accuracy``, mean rate over frequencies, its
        ``standard_error`` and 95 % interval ``decrease_accuracy_low`` and ``_high``, ``verdict``
        ("passes", "fails", "undecided": also where frequencies at which the mean fall may equal
        epsilon decide alone), ``passed``; ``published``, what the paper gives, where the setting is
        the paper's, ``published_error``, the standard error of one run of 1,000 draws, and
        ``difference``, why ours or its verdict differs, "" where it does not. ``required``, the
        criterion's. A metric of somebody's own that raises, or is undefined everywhere, has no
        verdict (""), and NaN; ``faulty_metrics`` names it.

    Raises
    ------
    UnknownMetricError
        If there is no such metric.
    ValueError
        If a frequency, a number of draws or ``compat`` makes no sense.
    """
    if compat not in COMPATS:
        raise ValueError(f"unknown compat {compat!r}{nearest(compat, COMPATS)}")
    if min(n_draws, simulated_draws) < 1:
        raise ValueError(f"expected at least 1 draw; got {n_draws} and {simulated_draws}")
    tolerance = Tolerance(find_metrics(metrics))
    rows = tolerance.rows
    setting = BinaryNeurons(tuple(frequencies), n_inputs, rates, seed)
    replayed = replays(drawing) if compat else {}
    trial = BinaryTrial(setting, n_draws, simulated_draws, criterion, replayed, drawing)
    outcomes = []
    for done, row in enumerate(rows, start=1):
        outcomes.append(trial.try_metric(row))
        progress(done, len(rows))
    stacked = tolerance.leave_open(_stack_outcomes(rows, frequencies, outcomes))
    tested = _judge(stacked, criterion)
    of_paper = N_INPUTS, RATES, CRITERION.epsilon, DRAWING, BinaryNeurons().n_active
    is_published = (n_inputs, rates, criterion.epsilon, drawing, setting.n_active) == of_paper
    compared = tested.merge(_compare(tested, outcomes, criterion, is_published))
    compared["required"] = criterion.required
    return compared.assign_attrs(tolerance.attributes())


def exact_verdicts(metrics: Sequence[str | Metric]) -> dict[str, str]:
    """Return the verdict of the theoretical tests on every metric that counts of inputs decide.

    For where nobody asked for a sanity check: it takes milliseconds. A metric that is a function
    of arrays would take minutes, and is left out.

    Parameters
    ----------
    metrics : sequence of str or Metric
        Names in the table.

    Returns
    -------
    dict of str to str
        Metric to "passes", "fails" or "undecided", as `theoretical_sanity` finds by default; one
        that raises, or is undefined everywhere, is left out too.
    """
    return dict(_exact_verdicts(tuple(find_metrics(metrics))))


@functools.lru_cache(maxsize=16)
def _exact_verdicts(rows: tuple[Metric, ...]) -> tuple[tuple[str, str], ...]:
    trial, counted = BinaryTrial(BinaryNeurons(), N_DRAWS, SIMULATED_DRAWS), {}
    tolerance = Tolerance(rows)
    for row in tolerance.rows:
        with suppress(NeedsInputsError, MetricError):
            counted[row] = trial.count(row)
    counted = {row: held for row, held in counted.items() if row.name not in tolerance.faults}
    if not counted:
        return ()
    stacked = _stack_outcomes(list(counted), FREQUENCIES, list(counted.values()))
    cells = _judge(stacked, CRITERION)["verdict"].transpose("metric", "test").values
    verdicts = map(judge_together, cells.tolist())
    return tuple(zip((row.name for row in counted), verdicts, strict=True))


def _stack_outcomes(
    rows: Sequence[Metric], frequencies: Sequence[float], outcomes: Sequence[Outcomes]
) -> xr.Dataset:
    def stack(what: str) -> np.ndarray:
        return np.array(
            [[[getattr(o, what) for o in held[test]] for test in TESTS] for held in outcomes]
        )

    rate = stack("rate")
    return xr.Dataset(
        {
            "score_change": (PER_FREQUENCY, stack("change")),
            "decrease_rate": (PER_FREQUENCY, rate),
            "undefined_share": (PER_FREQUENCY, stack("undefined")),
            "decrease_accuracy": (PER_TEST, rate.mean(axis=-1)),
            "standard_error": (PER_TEST, error_of_mean(stack("variance"))),
            "change_error": (PER_FREQUENCY, stack("change_error")),
        },
        {
            "metric": [row.name for row in rows],
            "test": list(TESTS),
            "frequency": np.asarray(frequencies, dtype=np.float64),
        },
    )


def _judge(tested: xr.Dataset, criterion: Criterion) -> xr.Dataset:
    """Add intervals and verdicts to accuracies with their standard errors.

    Where a mean fall may equal epsilon, a draw falls or not by chance; a verdict that such
    frequencies alone decide is open, whatever one sample of draws says.
    """
    accuracy, error = tested["decrease_accuracy"], tested["standard_error"]
    verdict = xr.apply_ufunc(criterion.judge, accuracy, error, vectorize=True).astype(str)
    is_toss = criterion.is_toss(tested["score_change"].values, tested["change_error"].values)
    is_open = criterion.hinges(tested["decrease_rate"].values, is_toss)
    verdict = verdict.where(~is_open, UNDECIDED).astype(str)
    return tested.drop_vars("change_error").assign(
        decrease_accuracy_low=(accuracy - Z * error).clip(0, 1),
        decrease_accuracy_high=(accuracy + Z * error).clip(0, 1),
        verdict=verdict,
        passed=verdict == PASSES,
    )


def _compare(
    tested: xr.Dataset, outcomes: Sequence[Outcomes], criterion: Criterion, is_published: bool
) -> xr.Dataset:
    """Return the published accuracies beside ours, and why they differ."""
    each: Any = partial(xr.apply_ufunc, vectorize=True)
    metric, test = tested["metric"], tested["test"]
    published = each(published_accuracy, metric, THEORETICAL, test)
    of_runs = [
        [[outcome.variance_of_run(N_DRAWS) for outcome in held[name]] for name in TESTS]
        for held in outcomes
    ]
    run_error = published.copy(data=error_of_mean(of_runs))
    error = np.hypot(tested["standard_error"], run_error)
    is_same = each(partial(criterion.judge, error=0), published) == tested["verdict"]
    reason = each(explain_difference, metric, test, tested["decrease_accuracy"], error, is_same)
    return xr.Dataset(
        {
            "published": published.where(is_published),
            "published_error": run_error.where(is_published),
            "difference": reason.where(is_published, "").astype(str),
        }
    )
