"""Sanity tests of metrics: does the score of a known concept fall when its labels are corrupted?

Oikarinen et al. 2025 (arXiv 2506.05774), section 4: a metric that does not notice that half of the
labels are missing, or that there are twice as many, says little about how well a concept explains
a neuron.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from evals.kernels.columns import LabelSet
from evals.kernels.sampling import input_keys
from evals.kernels.statistics import AnyArray, Shaped
from evals.metrics.registered import find_metrics
from evals.metrics.table import Metric
from evals.sanity.binary_neurons import BinaryNeurons, BinaryTrial, Outcomes
from evals.sanity.config import SANITY_OPTIONS, SanityOptions
from evals.sanity.corruption import CorruptedLabels, Hierarchy, SubstitutedLabels
from evals.sanity.protocol import (
    COMPATS,
    CRITERION,
    EXPERIMENTAL,
    EXTRA,
    FREQUENCIES,
    MISSING,
    N_DRAWS,
    N_INPUTS,
    PASSES,
    RATES,
    SEMANTIC,
    SIMULATED_DRAWS,
    TESTS,
    THEORETICAL,
    UNDECIDED,
    Criterion,
    Rates,
    Z,
    change_of_scores,
    error_of_mean,
    wilson_interval,
)
from evals.sanity.published_accuracy import OTHER_DATA, explain_difference, published_accuracy
from evals.sanity.tested_neurons import NeuronsUnderTest, find_neurons
from evals.scoring.labelled import UNKNOWN
from evals.scoring.original_ties import REPLAYS
from registry.suggest import nearest

PER_FREQUENCY = ("metric", "test", "frequency")
PER_TEST = ("metric", "test")
REAL_FORMS = (EXPERIMENTAL, SEMANTIC)


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
    progress : callable
        Told how many metrics of how many are done.

    Returns
    -------
    xr.Dataset
        (metric, test, frequency): ``score_change``, mean change in units of the metric's range;
        ``decrease_rate``, fraction of draws in which the score falls by more than epsilon;
        ``undefined_share``, of draws in which it is undefined, and counts as 0.
        (metric, test): ``decrease_accuracy``, mean rate over frequencies, its
        ``standard_error`` and 95 % interval ``decrease_accuracy_low`` and ``_high``, ``verdict``
        ("passes", "fails", "undecided": also where frequencies at which the mean fall may equal
        epsilon decide alone), ``passed``; ``published``, the share that the paper
        gives, where the setting is the paper's, ``published_error``, the standard error of one run
        of 1,000 draws, and ``difference``, why ours or its verdict differs, "" where it does not.

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
    rows = find_metrics(metrics)
    setting = BinaryNeurons(tuple(frequencies), n_inputs, rates, seed)
    replays = REPLAYS if compat else {}
    trial = BinaryTrial(setting, n_draws, simulated_draws, criterion, replays)
    outcomes = []
    for done, row in enumerate(rows, start=1):
        outcomes.append(trial.try_metric(row))
        progress(done, len(rows))
    tested = _judge(_stack_outcomes(rows, frequencies, outcomes), criterion)
    is_published = setting.n_active == BinaryNeurons().n_active and (
        n_inputs,
        rates,
        criterion.epsilon,
    ) == (N_INPUTS, RATES, CRITERION.epsilon)
    return tested.merge(_compare(tested, outcomes, criterion, is_published))


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
    cells = xr.full_like(tested["decrease_accuracy"], np.nan)
    run_error, reason = cells.copy(), xr.full_like(cells, "", dtype=object)
    for metric, held in zip(tested["metric"].values.tolist(), outcomes, strict=True):
        for test in TESTS if is_published else ():
            cell = {"metric": metric, "test": test}
            ours = tested.sel(cell)
            published = published_accuracy(metric, THEORETICAL, test)
            cells.loc[cell] = published
            run_error.loc[cell] = error_of_mean(
                [outcome.variance_of_run(N_DRAWS) for outcome in held[test]]
            )
            reason.loc[cell] = explain_difference(
                metric,
                test,
                ours["decrease_accuracy"].item(),
                math.hypot(ours["standard_error"].item(), run_error.sel(cell).item()),
                criterion.judge(published, 0) == ours["verdict"].item(),
            )
    return xr.Dataset(
        {"published": cells, "published_error": run_error, "difference": reason.astype(str)}
    )


def experimental_sanity(
    activations: AnyArray,
    labels: AnyArray,
    metrics: Sequence[str | Metric] | None = None,
    right_concept: Shaped | Sequence[str] | None = None,
    *,
    rates: Rates = RATES,
    criterion: Criterion = CRITERION,
    seeds: Sequence[int] = (0,),
    options: SanityOptions = SANITY_OPTIONS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> xr.Dataset:
    """Test metrics on real activations and labels.

    Parameters
    ----------
    activations : array
        (input, neuron), or a labelled one (image, concept): then concepts are the neurons.
    labels : array
        (input, concept) or (input, label), of the same inputs: 0 or 1, or probabilities.
    metrics : sequence of str or Metric, optional
        Names in the table; all of it by default.
    right_concept : array or sequence of str, optional
        (neuron,) name of each neuron's concept, "" where it is not known. If none is known, it is
        the one of highest IoU; otherwise neurons where it is not known are left out.
    rates : Rates
        How many labels are corrupted.
    criterion : Criterion
        By how much a score must fall, and how often.
    seeds : sequence of int
        Of the faults; scores on labels of several seeds are averaged.
    options : SanityOptions
        How neurons and parameters are chosen.
    progress : callable
        Told how many neurons of how many are done.

    Returns
    -------
    xr.Dataset
        With coordinate ``form``: "experimental", where labels are corrupted at random, and
        "semantic" (appendix E.3), where a class is replaced by its smallest superclass (extra), a
        superclass by a smaller one (missing), as far as labels lie within others.
        (metric, form, test): ``decrease_accuracy``, fraction of tested neurons whose score falls,
        its ``standard_error`` and 95 % interval ``decrease_accuracy_low`` and ``_high``
        (Wilson); ``mean_change``, in units of the metric's range; ``undefined``, fraction of scores
        on corrupted labels that are undefined, and count as 0; ``verdict``, ``published``, the
        share that the paper gives for other data, ``difference``. (metric, test, seed):
        ``seed_accuracy``, of each seed alone. (form, test): ``n_neurons``. (metric,): ``alpha``
        and ``lam``, as chosen. NaN and "" where a form could not be run. Attribute
        ``right_concepts``: "known", or "of highest IoU".

    Raises
    ------
    AlignmentError, UnknownMetricError, ValueError
        As :func:`evals.score`; if there is no seed, or fewer than three neurons have a concept.
    """
    if not len(seeds) or len(set(seeds)) < len(seeds):
        raise ValueError(f"expected one or more different seeds; got {list(seeds)}")
    rows = find_metrics(metrics)
    subjects = find_neurons(activations, labels, rows, right_concept, options)
    forms = [
        _corrupt_at_random(subjects, rates, criterion, seeds, progress),
        _corrupt_by_meaning(subjects, criterion, seeds),
    ]
    tested = xr.concat(
        [xr.concat(tests, xr.Variable("test", list(TESTS))) for tests in forms],
        xr.Variable("form", list(REAL_FORMS)),
    )
    judged = _judge_forms(tested, criterion).merge(subjects.chosen[["alpha", "lam"]])
    judged.attrs["right_concepts"] = "of highest IoU" if subjects.is_hidden else "known"
    return judged.transpose("metric", "form", "test", "seed")


def _corrupt_at_random(
    subjects: NeuronsUnderTest,
    rates: Rates,
    criterion: Criterion,
    seeds: Sequence[int],
    progress: Callable[[int, int], None],
) -> list[xr.Dataset]:
    """Return what became of the metrics in each test."""
    keys = input_keys(subjects.labels.inputs)
    corrupted = [
        CorruptedLabels(subjects.labels, test, rates, seed, keys)
        for test in TESTS
        for seed in seeds
    ]
    sets: list[LabelSet] = [subjects.labels, *corrupted]
    scores = subjects.score(sets, progress=progress)
    bounds = subjects.bounds(sets)
    parts = np.split(scores[:, 1:], len(TESTS), axis=1)
    return [_sum_up(subjects, scores[:, 0], part, bounds, criterion, seeds) for part in parts]


def _corrupt_by_meaning(
    subjects: NeuronsUnderTest, criterion: Criterion, seeds: Sequence[int]
) -> list[xr.Dataset]:
    """Return what became of the metrics in each test, on neurons whose concept has a substitute."""
    hierarchy = Hierarchy.of(subjects.labels)
    substitutes = {MISSING: hierarchy.subclasses(), EXTRA: hierarchy.superclasses()}
    bounds = subjects.bounds([subjects.labels])  # substitutes are among the labels
    parts = []
    for test in TESTS:
        indices = substitutes[test]
        is_tested = indices[subjects.right] != UNKNOWN
        scores = np.empty((len(subjects.metrics), 2, 0))
        if is_tested.any():
            other = SubstitutedLabels(subjects.labels, np.maximum(indices, 0))
            sets: list[LabelSet] = [subjects.labels, other]
            right = np.where(is_tested, subjects.right, UNKNOWN)
            scores = subjects.score(sets, right)[:, :, is_tested]
        parts.append(_sum_up(subjects, scores[:, 0], scores[:, 1:], bounds, criterion, seeds))
    return parts


def _sum_up(
    subjects: NeuronsUnderTest,
    original: np.ndarray,
    corrupted: np.ndarray,
    bounds: Sequence[tuple[float, float]],
    criterion: Criterion,
    seeds: Sequence[int],
) -> xr.Dataset:
    """Return what became of the metrics in one test.

    Parameters
    ----------
    original, corrupted : ndarray
        Scores (metric, neuron), and (metric, seed, neuron) or (metric, 1, neuron).
    """
    each = zip(original, corrupted, bounds, strict=True)
    changes = np.stack([change_of_scores(*scores) for scores in each])
    mean = changes.mean(axis=1)  # undefined scores count as 0 in it
    n_neurons = mean.shape[-1]
    accuracy = _mean_of_last(criterion.falls(mean))
    low, high = wilson_interval(accuracy, max(1, n_neurons))
    by_seed = np.full((len(mean), len(seeds)), np.nan)
    if changes.shape[1] == len(seeds):
        by_seed = _mean_of_last(criterion.falls(changes))
    return xr.Dataset(
        {
            "decrease_accuracy": ("metric", accuracy),
            "standard_error": ("metric", np.sqrt(accuracy * (1 - accuracy) / max(1, n_neurons))),
            "decrease_accuracy_low": ("metric", low),
            "decrease_accuracy_high": ("metric", high),
            "mean_change": ("metric", _mean_of_last(mean)),
            "undefined": ("metric", _mean_of_last(np.isnan(corrupted).mean(axis=1))),
            "seed_accuracy": (("metric", "seed"), by_seed),
            "n_neurons": n_neurons,
        },
        {"metric": [row.name for row in subjects.metrics], "seed": list(seeds)},
    )


def _mean_of_last(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis, NaN where it is empty."""
    if not values.shape[-1]:
        return np.full(values.shape[:-1], np.nan)
    return np.asarray(values.mean(axis=-1))


def _judge_forms(tested: xr.Dataset, criterion: Criterion) -> xr.Dataset:
    """Add verdicts and published accuracies, (metric, form, test)."""
    accuracy = tested["decrease_accuracy"]
    error = xr.apply_ufunc(criterion.error_of, accuracy, tested["n_neurons"])
    verdict = xr.apply_ufunc(criterion.judge, accuracy, error, vectorize=True).astype(str)
    published = xr.apply_ufunc(
        published_accuracy, tested["metric"], tested["form"], tested["test"], vectorize=True
    )
    of_form = xr.DataArray(
        [OTHER_DATA[form] for form in REAL_FORMS], {"form": list(REAL_FORMS)}, "form"
    )
    is_compared = published.notnull() & accuracy.notnull()
    difference = of_form.astype(object).where(is_compared, "").astype(str)
    return tested.assign(verdict=verdict, published=published, difference=difference)
