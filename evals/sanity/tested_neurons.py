"""Neurons whose ground-truth concept is corrupted to see which metrics notice.

Some of them choose what metrics depend on, by how well the right pairs are found among all; the
others are tested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from evals.identification.known_neurons import (
    choose_parameters,
    chosen_parameters,
    validation_neurons,
)
from evals.kernels.blocks import score_arrays
from evals.kernels.columns import Columns, LabelSet, stack_columns
from evals.kernels.statistics import AnyArray, Shaped
from evals.metrics.registered import find_metric
from evals.metrics.table import Metric, Parameters
from evals.sanity.config import SANITY_OPTIONS, SanityOptions
from evals.sanity.protocol import bounds_of_scores
from evals.scoring.labelled import UNKNOWN, align, read_columns, right_places, take_right
from evals.scoring.pairs import score_pair_arrays

LABEL_BYTES = 1 << 29  # label sets side by side, where all pairs are scored


@dataclass(frozen=True)
class NeuronsUnderTest:
    """Neurons under test.

    Attributes
    ----------
    metrics : sequence of Metric
        What is tested on them.
    activations, labels : Columns
        (input, neuron) of tested neurons, and (input, concept), of the same inputs.
    right : ndarray
        (neuron,) index of the ground-truth concept.
    parameters : mapping of str to Parameters
        Metric to what it depends on.
    chosen : Dataset
        The same, as `choose_parameters` returns it.
    is_hidden : bool
        Whether the ground-truth concepts are those of highest IoU.
    workers : int
        Threads.
    """

    metrics: Sequence[Metric]
    activations: Columns
    labels: Columns
    right: np.ndarray
    parameters: Mapping[str, Parameters]
    chosen: xr.Dataset
    is_hidden: bool
    workers: int

    def score(
        self,
        label_sets: Sequence[LabelSet],
        right: np.ndarray | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> np.ndarray:
        """Return the scores (metric, label set, neuron) of known concepts, or of other ones."""
        indices = self.right if right is None else right
        return score_pair_arrays(
            self.metrics,
            self.activations,
            label_sets,
            indices,
            self.parameters,
            self.workers,
            progress,
        )

    def bounds(self, label_sets: Sequence[LabelSet]) -> list[tuple[float, float]]:
        """Return the bounds of each metric: by the data, over all pairs, where it has none."""
        return [row.bounds or self._bounds_by_data(row, label_sets) for row in self.metrics]

    def _bounds_by_data(self, row: Metric, label_sets: Sequence[LabelSet]) -> tuple[float, float]:
        per_concept = 8 * self.labels.n_inputs * len(label_sets)
        size = max(1, LABEL_BYTES // per_concept)
        seen = []
        for part in self.labels.slices(size):
            labels = stack_columns([held.block(part.start, part.stop) for held in label_sets])
            scores = score_arrays(
                [row],
                self.activations,
                Columns(labels, "labels"),
                self.parameters[row.name],
                workers=self.workers,
            )
            seen.append(np.array(bounds_of_scores([scores[row.name]])))
        return bounds_of_scores(seen)


def find_neurons(
    activations: AnyArray,
    labels: AnyArray,
    metrics: Sequence[Metric],
    right_concept: Shaped | Sequence[str] | None = None,
    options: SanityOptions = SANITY_OPTIONS,
) -> NeuronsUnderTest:
    """Find the ground-truth concept of each neuron, and let some neurons choose parameters.

    Parameters
    ----------
    activations : array
        (input, neuron), or a labelled one (image, concept): then concepts are the neurons.
    labels : array
        (input, concept) or (input, label), of the same inputs.
    metrics : sequence of Metric
        What is to be tested.
    right_concept : array or sequence of str, optional
        (neuron,) name of each neuron's concept, "" where it is not known. If none is known, it is
        for each neuron the one of highest IoU, the first of equals; otherwise neurons where it is
        not known are left out.
    options : SanityOptions
        How.

    Raises
    ------
    AlignmentError, ValueError
        As of `choose_parameters`; and where fewer than three neurons have a concept.
    """
    activations, labels = align(activations, labels)
    right, is_hidden = _find_right(activations, labels, right_concept, options)
    is_known = np.flatnonzero(right != UNKNOWN)
    choosing = validation_neurons(len(is_known), options.validation_share, options.seed)
    chosen = choose_parameters(
        activations.isel(neuron=is_known[choosing]),
        labels,
        right[is_known[choosing]],
        metrics,
        _only(options.hidden_alpha) if is_hidden else options.alphas,
        options.lams,
        seed=options.seed,
        workers=options.workers,
    )
    tested = is_known[~choosing]
    return NeuronsUnderTest(
        metrics=metrics,
        activations=read_columns(activations.isel(neuron=tested)),
        labels=read_columns(labels, "labels").load(),
        right=right[tested],
        parameters=chosen_parameters(chosen, options.seed),
        chosen=chosen,
        is_hidden=is_hidden,
        workers=options.workers,
    )


def _find_right(
    activations: xr.DataArray,
    labels: xr.DataArray,
    right_concept: Shaped | Sequence[str] | None,
    options: SanityOptions,
) -> tuple[np.ndarray, bool]:
    """Return the index (neuron,) of each ground-truth concept, and whether these are by IoU."""
    if right_concept is not None:
        right = right_places(take_right(right_concept, activations, "a concept"), labels)
        if (right != UNKNOWN).any():
            return right, False
    columns = read_columns(activations), read_columns(labels, "labels")
    parameters = Parameters(alpha=options.hidden_alpha)
    scores = score_arrays([find_metric("iou")], *columns, parameters, workers=options.workers)
    iou = scores["iou"]
    is_defined = ~np.isnan(iou).all(axis=1)
    return np.where(is_defined, np.argmax(np.nan_to_num(iou, nan=-1.0), axis=1), UNKNOWN), True


def _only(alpha: float | None) -> tuple[float, ...]:
    return () if alpha is None else (alpha,)
