"""Sanity checks on real neurons: labels corrupted at random, or those of a super- or subclass.

Some of the neurons choose what metrics depend on, by how well the known concepts are found among
all; the others are tested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from evals.identification.known_neurons import (
    choose_parameters,
    chosen_parameters,
    identification_auprc,
    original_auprc,
    original_validation_neurons,
    validation_neurons,
)
from evals.kernels.blocks import score_arrays
from evals.kernels.columns import Columns, LabelSet, stack_columns
from evals.kernels.sampling import input_keys
from evals.kernels.statistics import AnyArray, Shaped, divide, mean_defined
from evals.metrics.table import Metric, Parameters
from evals.metrics.tolerance import Tolerance
from evals.sanity.config import SANITY_OPTIONS, SanityOptions
from evals.sanity.corruption import CorruptedLabels, Hierarchy, SubstitutedLabels
from evals.sanity.protocol import (
    CRITERION,
    EXPERIMENTAL,
    EXTRA,
    MISSING,
    RATES,
    SEMANTIC,
    TESTS,
    Criterion,
    Rates,
    bounds_of_scores,
    change_of_scores,
    wilson_interval,
)
from evals.sanity.published_accuracy import OTHER_DATA, published_accuracy
from evals.scoring.labelled import UNKNOWN, align, find_concepts, join_by_neuron, read_columns
from evals.scoring.original_rules import metrics_by_rule
from evals.scoring.pairs import score_pair_arrays

LABEL_BYTES = 1 << 29  # label sets side by side, where all pairs are scored
REAL_FORMS = (EXPERIMENTAL, SEMANTIC)


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
        Called with the number of neurons done and their total.

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
        fraction that the paper gives for other data, ``difference``. (metric, test, seed):
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
    tolerance = Tolerance(metrics_by_rule(metrics, options.experimental_compat))
    rows = tolerance.rows
    activations, labels = align(activations, labels)
    concepts, are_known = _find_concepts(activations, labels, right_concept, options)
    has_concept = np.flatnonzero(concepts != UNKNOWN)
    draw = original_validation_neurons if options.experimental_compat else validation_neurons
    choosing = draw(len(has_concept), options.validation_share, options.seed)
    hidden_alphas = () if options.hidden_alpha is None else (options.hidden_alpha,)
    chosen = choose_parameters(
        activations.isel(neuron=has_concept[choosing]),
        labels,
        concepts[has_concept[choosing]],
        rows,
        options.alphas if are_known else hidden_alphas,
        options.lams,
        seed=options.seed,
        drawing=options.drawing,
        workers=options.workers,
        precision=original_auprc if options.experimental_compat else identification_auprc,
    )
    tested = has_concept[~choosing]
    trial = _Trial(
        metrics=rows,
        activations=read_columns(activations.isel(neuron=tested)),
        labels=read_columns(labels, "labels").load(),
        concepts=concepts[tested],
        parameters=chosen_parameters(chosen, options.seed, options.drawing),
        criterion=criterion,
        seeds=seeds,
        workers=options.workers,
        compat=bool(options.experimental_compat),
    )
    forms = [trial.corrupt_at_random(rates, progress), trial.corrupt_by_meaning()]
    tried = xr.concat(
        [xr.concat(tests, xr.Variable("test", list(TESTS))) for tests in forms],
        xr.Variable("form", list(REAL_FORMS)),
    )
    judged = _judge(tolerance.leave_open(tried), criterion).merge(chosen[["alpha", "lam"]])
    judged.attrs["right_concepts"] = "known" if are_known else "of highest IoU"
    judged.attrs |= tolerance.attributes()
    return judged.transpose("metric", "form", "test", "seed")


def _find_concepts(
    activations: xr.DataArray,
    labels: xr.DataArray,
    known: Shaped | Sequence[str] | None,
    options: SanityOptions,
) -> tuple[np.ndarray, bool]:
    """Return the index of each neuron's concept (neuron,), and whether these were known.

    If none is known, it is for each neuron the one of highest IoU, the first of equals.
    """
    if known is not None:
        indices = find_concepts(join_by_neuron(known, activations, "a concept"), labels)
        if (indices != UNKNOWN).any():
            return indices, True
    columns = read_columns(activations), read_columns(labels, "labels")
    parameters = Parameters(alpha=options.hidden_alpha)
    overlap = metrics_by_rule(["iou"], options.experimental_compat)
    scores = score_arrays(overlap, *columns, parameters, workers=options.workers)
    iou = scores["iou"]
    is_defined = ~np.isnan(iou).all(axis=1)
    return np.where(is_defined, np.argmax(np.nan_to_num(iou, nan=-1.0), axis=1), UNKNOWN), False


@dataclass(frozen=True)
class _Trial:
    """Neurons under test (input, neuron), the concept of each (neuron,), and how they are tested.

    Both forms return a dataset for each test.
    """

    metrics: Sequence[Metric]
    activations: Columns
    labels: Columns
    concepts: np.ndarray
    parameters: Mapping[str, Parameters]
    criterion: Criterion
    seeds: Sequence[int]
    workers: int
    compat: bool = False

    def corrupt_at_random(
        self, rates: Rates, progress: Callable[[int, int], None]
    ) -> list[xr.Dataset]:
        keys = input_keys(self.labels.inputs)
        corrupted = [
            CorruptedLabels(self.labels, test, rates, seed, keys)
            for test in TESTS
            for seed in self.seeds
        ]
        sets: list[LabelSet] = [self.labels, *corrupted]
        scores = self._score(sets, self.concepts, progress)
        bounds = self._bounds(sets)
        parts = np.split(scores[:, 1:], len(TESTS), axis=1)
        return [self._sum_up(scores[:, 0], part, bounds) for part in parts]

    def corrupt_by_meaning(self) -> list[xr.Dataset]:
        """Test the neurons whose concept has a substitute."""
        hierarchy = Hierarchy.of(self.labels)
        substitutes = {MISSING: hierarchy.subclasses(), EXTRA: hierarchy.superclasses()}
        bounds = self._bounds([self.labels])  # substitutes are among the labels
        parts = []
        for test in TESTS:
            indices = substitutes[test]
            is_tested = indices[self.concepts] != UNKNOWN
            scores = np.empty((len(self.metrics), 2, 0))
            if is_tested.any():
                other = SubstitutedLabels(self.labels, np.maximum(indices, 0))
                concepts = np.where(is_tested, self.concepts, UNKNOWN)
                scores = self._score([self.labels, other], concepts)[:, :, is_tested]
            parts.append(self._sum_up(scores[:, 0], scores[:, 1:], bounds))
        return parts

    def _score(
        self,
        label_sets: Sequence[LabelSet],
        concepts: np.ndarray,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> np.ndarray:
        """Return the scores (metric, label set, neuron) of one concept for each neuron."""

        def score(held: Sequence[LabelSet]) -> np.ndarray:
            pairs = self.metrics, self.activations, held, concepts
            return score_pair_arrays(*pairs, self.parameters, self.workers, progress)

        if not self.compat:
            return score(label_sets)
        return np.concatenate([score([held]) for held in label_sets], axis=1)

    def _bounds(self, label_sets: Sequence[LabelSet]) -> list[tuple[float, float]]:
        """Return the bounds of each metric: by the data, over all pairs, where it has none."""
        return [row.bounds or self._bounds_by_data(row, label_sets) for row in self.metrics]

    def _bounds_by_data(self, row: Metric, label_sets: Sequence[LabelSet]) -> tuple[float, float]:
        per_concept = 8 * self.labels.n_inputs * len(label_sets)
        seen = []
        for part in self.labels.slices(max(1, LABEL_BYTES // per_concept)):
            labels = stack_columns([held.block(part.start, part.stop) for held in label_sets])
            pairs = self.activations, Columns(labels, "labels"), self.parameters[row.name]
            scores = score_arrays([row], *pairs, workers=self.workers)[row.name]
            seen.append(np.array(bounds_of_scores([scores], self.compat)))
        return bounds_of_scores(seen, self.compat)

    def _sum_up(
        self, original: np.ndarray, corrupted: np.ndarray, bounds: Sequence[tuple[float, float]]
    ) -> xr.Dataset:
        """Summarise scores (metric, neuron), and (metric, seed, neuron) or (metric, 1, neuron)."""
        each = zip(original, corrupted, bounds, strict=True)
        changes = np.stack([change_of_scores(*scores, self.compat) for scores in each])
        mean = changes.mean(axis=1)  # undefined scores count as 0 in it, or leave it undefined
        n_neurons = mean.shape[-1]
        accuracy = mean_defined(self.criterion.falls(mean), axis=-1)
        low, high = wilson_interval(accuracy, max(1, n_neurons))
        by_seed = np.full((len(mean), len(self.seeds)), np.nan)
        if changes.shape[1] == len(self.seeds):
            by_seed = mean_defined(self.criterion.falls(changes), axis=-1)
        undefined = np.isnan(corrupted).mean(axis=1)
        return xr.Dataset(
            {
                "decrease_accuracy": ("metric", accuracy),
                "standard_error": (
                    "metric",
                    np.sqrt(accuracy * (1 - accuracy) / max(1, n_neurons)),
                ),
                "decrease_accuracy_low": ("metric", low),
                "decrease_accuracy_high": ("metric", high),
                "mean_change": ("metric", divide(mean.sum(axis=-1), np.full(len(mean), n_neurons))),
                "undefined": ("metric", mean_defined(undefined, axis=-1)),
                "seed_accuracy": (("metric", "seed"), by_seed),
                "n_neurons": n_neurons,
            },
            {"metric": [row.name for row in self.metrics], "seed": list(self.seeds)},
        )


def _judge(tested: xr.Dataset, criterion: Criterion) -> xr.Dataset:
    """Add verdicts and published accuracies, (metric, form, test)."""
    accuracy = tested["decrease_accuracy"]
    error = xr.apply_ufunc(criterion.error_of, accuracy, tested["n_neurons"])
    verdict = xr.apply_ufunc(criterion.judge, accuracy, error, vectorize=True).astype(str)
    published = xr.apply_ufunc(
        published_accuracy, tested["metric"], tested["form"], tested["test"], vectorize=True
    )
    reason = xr.DataArray([OTHER_DATA[form] for form in REAL_FORMS], tested["form"].coords)
    is_compared = published.notnull() & accuracy.notnull()
    difference = reason.astype(object).where(is_compared, "").astype(str)
    return tested.assign(verdict=verdict, published=published, difference=difference)
