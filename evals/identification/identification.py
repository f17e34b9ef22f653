"""How well each metric identifies neurons whose concept is known.

A metric that cannot tell the known concept of an output neuron from the others is no judge of
explanations of hidden ones (Oikarinen et al. 2025, arXiv 2506.05774, section 5). Some of the
neurons choose what a metric depends on, the others are tested; this is done over several seeded
splits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import stdtrit

import registry
from evals.identification.config import (
    IDENTIFICATION_OPTIONS,
    OTHER_DATA,
    IdentificationConfig,
    IdentificationOptions,
    other_data,
    published_auprc,
)
from evals.identification.identification_table import identification_table
from evals.identification.known_neurons import (
    KnownNeurons,
    Precision,
    grid,
    identification_auprc,
    named_neurons,
    original_auprc,
    original_validation_neurons,
    validation_neurons,
    values_of,
)
from evals.kernels.ranking import tied_ranks
from evals.kernels.statistics import AnyArray, mean_defined
from evals.metrics.table import Metric, Parameters
from evals.metrics.tolerance import Tolerance
from evals.scoring.labelled import (
    UNKNOWN,
    find_concepts,
    join_by_neuron,
    pair_datasets,
    take_neurons,
)
from evals.scoring.original_rules import metrics_by_rule
from evals.scoring.seen_images import count_seen
from registry.arrays import to_numpy


def known_ranks(scores: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rank of each neuron's known concept, and the chance that it is the best.

    Parameters
    ----------
    scores : ndarray
        (neuron, concept), NaN where undefined.
    known : ndarray
        (neuron,) index of the known concept.

    Returns
    -------
    ranks : ndarray
        (neuron,) float64, from 1 among all concepts. Equal scores share the mean of their ranks;
        undefined ones are all equal, below the defined.
    chances : ndarray
        (neuron,) 1 or 0, but ``1 / n`` where the known concept is one of n that share the highest
        score, as if one of them were drawn. 0 where the known pair is undefined.
    """
    ranked = np.where(np.isnan(scores), -np.inf, scores)
    own = np.take_along_axis(ranked, known[:, None], axis=1)
    n_above, n_equal = (ranked > own).sum(axis=1), (ranked == own).sum(axis=1)
    is_best = (n_above == 0) & np.isfinite(own[:, 0])
    return n_above + (n_equal + 1) / 2, is_best / n_equal


def best_indices(scores: np.ndarray) -> np.ndarray:
    """Return the index of each neuron's best concept, the first of equals; -1 if undefined."""
    ranked = np.where(np.isnan(scores), -np.inf, scores)
    return np.where(np.isnan(scores).all(axis=1), -1, ranked.argmax(axis=1))


def identify(
    activations: AnyArray,
    labels: AnyArray,
    right: AnyArray,
    metrics: Sequence[str | Metric],
    options: IdentificationOptions = IDENTIFICATION_OPTIONS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> xr.Dataset:
    """Measure how well metrics identify neurons of known concept.

    Parameters
    ----------
    activations : array
        (input, neuron) or (image, neuron); a coordinate ``name`` (neuron,) has names of neurons.
    labels : array
        (input, concept) or (input, label), of the same inputs: all concepts that compete.
    right : array of int
        (neuron,) index of each neuron's concept among the labels, -1 where it is not known:
        see :func:`evals.scoring.labelled.find_concepts`.
    metrics : sequence of str or Metric
        Names in the table of metrics.
    options : IdentificationOptions
        How.
    progress : callable
        Called with the number of steps done and their total; a step is a choice or a test.

    Returns
    -------
    xr.Dataset
        Of schema ``identification``. Its interval is Student's t interval of the mean over splits:
        how much the choice of neurons for the choice of parameters matters, with these neurons,
        of which most are tested in every split. It says nothing of other neurons.

    Raises
    ------
    AlignmentError, UnknownMetricError, ValueError
        As :func:`evals.score`; and where there are fewer than 3 neurons of known concept.
    """
    tolerance = Tolerance(metrics_by_rule(metrics, options.compat))
    rows = tolerance.rows
    neurons = take_neurons(activations)
    is_known = to_numpy(join_by_neuron(right, neurons)) != UNKNOWN
    called = neurons["neuron"].assign_coords(name=_names_of(activations, neurons))[is_known]
    seeds, choosing = _splits(called, options)
    is_chooser = np.asarray(choosing.any(axis=0))
    known = KnownNeurons(activations, labels, right, options.workers, is_chooser)
    tried = options.alphas, options.lams, options.seed, options.drawing
    grids = [(row, grid(row, *tried)) for row in rows]
    precision = original_auprc if options.compat else identification_auprc
    chosen = []
    for own in known.choose(grids, list(choosing), precision):
        chosen.append(own)
        progress(len(chosen), 2 * len(rows))
    parts = []
    for part in _test_choices(rows, chosen, known, ~choosing, precision):
        parts.append(part)
        progress(len(rows) + len(parts), 2 * len(rows))
    found = _summarise(parts, rows, known, choosing, seeds, options)
    sizes = {what: int(found[f"n_{what}"]) for what in ("inputs", "neurons", "concepts")}
    told = other_data(options.published, **sizes)
    return found.assign_attrs(tolerance.attributes() | ({OTHER_DATA: told} if told else {}))


def _names_of(activations: AnyArray, neurons: xr.DataArray) -> tuple[str, np.ndarray]:
    """Return the names of neurons that stand beside their numbers, "" for none."""
    if isinstance(activations, xr.DataArray) and "name" in activations.coords:
        return "neuron", activations["name"].values.astype(str)
    return "neuron", np.full(neurons.sizes["neuron"], "")


def _splits(neurons: xr.DataArray, options: IdentificationOptions) -> tuple[np.ndarray, np.ndarray]:
    """Return the seed of each split, and which neurons of known concept choose (split, neuron)."""
    if options.choosing:
        chosen = named_neurons(neurons.values, options.choosing, neurons["name"].values)
        return np.array([options.seed]), chosen[None]
    draw = original_validation_neurons if options.compat else validation_neurons
    seeds = options.seed + np.arange(options.n_splits)
    return seeds, np.stack([draw(len(neurons), options.share, int(seed)) for seed in seeds])


def _test_choices(
    rows: Sequence[Metric],
    chosen: Sequence[Sequence[tuple[Parameters, float]]],
    known: KnownNeurons,
    tested: np.ndarray,
    precision: Precision,
) -> Iterator[dict[str, Any]]:
    """Yield what each metric makes of every split, by name: arrays (split,) or (neuron,).

    ``chosen`` holds of each metric and split the choice and its AUPRC; ``tested`` (split, neuron)
    the neurons that do not choose. What several splits chose is scored once.
    """
    points = [list(dict.fromkeys(point for point, _ in own)) for own in chosen]
    scored = known.score(
        [(row, point) for row, own in zip(rows, points, strict=True) for point in own]
    )
    for row, own, distinct in zip(rows, chosen, points, strict=True):
        auprc, best = np.empty(len(own)), np.empty(tested.shape, dtype=np.int64)
        ranks, chances, undefined = np.empty((3, *tested.shape))  # (split, neuron)
        for point in distinct:
            scores = next(scored)
            splits = [split for split, (choice, _) in enumerate(own) if choice == point]
            ranks[splits], chances[splits] = known_ranks(scores, known.right)
            undefined[splits] = np.isnan(scores).mean(axis=1)
            best[splits] = best_indices(scores)
            for split in splits:
                kept = tested[split]
                auprc[split] = precision(scores[kept], known.right[kept])
        ranks, chances, undefined = np.where(tested, (ranks, chances, undefined), np.nan)
        alphas, lams = np.transpose([values_of(row, point) for point, _ in own])
        yield {
            "alpha": alphas,
            "lam": lams,
            "validation_auprc": [validation for _, validation in own],
            "split_auprc": auprc,
            "top_share": mean_defined(chances, axis=1).mean(),
            "undefined_share": mean_defined(undefined, axis=1).mean(),
            "right_rank": mean_defined(ranks, axis=0),
            "best": _first_where(best, tested),
        }


def _first_where(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return (neuron,) the value in the first split (split, neuron) that is kept, -1 if none is."""
    first = values[kept.argmax(axis=0), np.arange(values.shape[1])]
    return np.where(kept.any(axis=0), first, -1)


def _summarise(
    parts: Sequence[dict[str, Any]],
    rows: Sequence[Metric],
    known: KnownNeurons,
    choosing: np.ndarray,
    seeds: np.ndarray,
    options: IdentificationOptions,
) -> xr.Dataset:
    def stack(name: str) -> np.ndarray:
        return np.stack([np.asarray(part[name]) for part in parts])

    auprc = stack("split_auprc")
    ranks = np.add(*tied_ranks(-auprc)) / 2
    low, high = mean_interval(auprc, options.confidence)
    concepts = np.append(known.concepts.astype(str), "")  # the last, "", is at -1
    published = published_auprc(options.published)
    by_split, by_neuron = ("metric", "seed"), ("neuron", "metric")
    return xr.Dataset(
        {
            "auprc": ("metric", auprc.mean(axis=1)),
            "auprc_low": ("metric", low),
            "auprc_high": ("metric", high),
            "mean_rank": ("metric", ranks.mean(axis=1)),
            "top_share": ("metric", stack("top_share")),
            "undefined_share": ("metric", stack("undefined_share")),
            "published": ("metric", [published.get(row.name, np.nan) for row in rows]),
            "split_auprc": (by_split, auprc),
            "split_rank": (by_split, ranks),
            "validation_auprc": (by_split, stack("validation_auprc")),
            "alpha": (by_split, stack("alpha")),
            "lam": (by_split, stack("lam")),
            "right_concept": ("neuron", concepts[known.right]),
            "right_rank": (by_neuron, stack("right_rank").T),
            "best_concept": (by_neuron, concepts[stack("best").T]),
            "is_choosing": (("neuron", "seed"), choosing.T),
            "n_inputs": known.n_inputs,
            "n_neurons": len(known),
            "n_choosing": int(choosing[0].sum()),
            "n_concepts": len(known.concepts),
            "best_auprc": auprc.mean(axis=1).max(),
        },
        {"metric": [row.name for row in rows], "seed": seeds, "neuron": known.neurons},
    )


def mean_interval(values: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Return Student's t interval (row,) of the mean of values (row, split), within [0, 1].

    NaN for a single split, which says nothing of others.
    """
    n_splits = values.shape[1]
    if n_splits < 2:
        return np.full(len(values), np.nan), np.full(len(values), np.nan)
    error = values.std(axis=1, ddof=1) / np.sqrt(n_splits)
    half = stdtrit(n_splits - 1, (1 + confidence) / 2) * error
    mean = values.mean(axis=1)
    return np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1)


def identify_neurons(
    config: IdentificationConfig, inputs: registry.Inputs, run: registry.Run
) -> xr.Dataset:
    """Identify the neurons whose concept is known."""
    dataset = inputs["activations"].open()
    opened = dataset, inputs["labels"].open()
    activations, labels = pair_datasets(*opened, "activation", config.split, config.neurons)
    ids = activations["input"].values
    seen = count_seen(inputs["activations"], ids, config.seen_images, "identify the neurons")

    names = dataset["name"].sel(neuron=activations["neuron"]).values.astype(str)
    shifted = activations.astype("float64") + config.shift  # in float32 the sum would lose digits
    found = identify(
        shifted.assign_coords(name=("neuron", names)),
        labels,
        find_concepts(dataset["right_concept"].sel(neuron=activations["neuron"]), labels),
        config.metrics,
        config,
        partial(run.progress, what="steps"),
    )
    found = found.assign(
        name=("neuron", dataset["name"].sel(neuron=found["neuron"]).values.astype(str)),
        shift=config.shift,
        confidence=config.confidence,
    ).assign(seen)
    if config.compat:
        found["compat"] = config.compat
    sys.stdout.write(identification_table(found))
    return found
