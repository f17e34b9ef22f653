"""Labels with faults: positives that are missing, positives too many, classes for superclasses.

A metric that is worth its name falls when the labels of a neuron's own concept are corrupted
(Oikarinen et al. 2025, arXiv 2506.05774, section 4 and appendices E.1 and E.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy import sparse

from evals.kernels.columns import SPARSE_DENSITY, Block, Columns, stack_columns
from evals.kernels.sampling import choose_keyed, input_keys
from evals.kernels.statistics import LABEL_THRESHOLD, AnyArray
from evals.sanity.protocol import MISSING, RATES, TESTS, Rates
from evals.scoring.labelled import read_columns, take_concepts
from registry.suggest import nearest

SLAB_INPUTS = 4096
LARGEST_SUBCLASS = 0.75


class CorruptedLabels:
    """Labels of which some are missing, or to which some are added.

    Whether an input's label is corrupted follows from the names of input and concept and the seed
    alone, so it does not depend on the order of inputs or on what else is read.

    Parameters
    ----------
    labels : Columns
        (input, concept); positive is what is at or above 0.5.
    test : str
        "missing": positives become 0. "extra": negatives become 1.
    rates : Rates
        With what probability.
    seed : int
        Another one corrupts others.
    keys : ndarray, optional
        (input,) as of `input_keys`, where they are known already: they cost a hash each.
    """

    def __init__(
        self,
        labels: Columns,
        test: str,
        rates: Rates = RATES,
        seed: int = 0,
        keys: np.ndarray | None = None,
    ):
        if test not in TESTS:
            raise ValueError(f"unknown test {test!r}{nearest(test, TESTS)}")
        self._labels = labels
        self._test = test
        self._rates = rates
        self._seed = seed
        self._keys = input_keys(labels.inputs) if keys is None else keys
        self.n_inputs, self.n_columns = labels.n_inputs, labels.n_columns

    def block(self, start: int, stop: int) -> Block:
        """Return concepts ``start`` to ``stop`` (input, concept) as float64."""
        held = self._labels.block(start, stop)
        columns = [self._corrupt(*_stored(held, j), start + j) for j in range(stop - start)]
        inputs, values = (np.concatenate(parts) for parts in zip(*columns, strict=True))
        starts = np.cumsum([0, *(len(column[0]) for column in columns)])
        shape = (self.n_inputs, stop - start)
        corrupted = sparse.csc_array((values, inputs, starts), shape=shape)
        return corrupted if sparse.issparse(held) else corrupted.toarray(order="F")

    def _corrupt(
        self, inputs: np.ndarray, values: np.ndarray, concept: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Corrupt the labels of a concept that are not 0, given as inputs and values."""
        faults = self._test, self._labels.names[concept], self._seed
        is_positive = values >= LABEL_THRESHOLD
        positive = inputs[is_positive]
        if self._test == MISSING:
            lost = choose_keyed(self._keys[positive], 1 - self._rates.kept_share, *faults)
            is_kept = np.ones(len(inputs), dtype=bool)
            is_kept[np.flatnonzero(is_positive)[lost]] = False
            return inputs[is_kept], values[is_kept]
        probability = self._rates.flip_probability(len(positive), self.n_inputs)
        flipped = choose_keyed(self._keys, probability, *faults)
        extra = np.setdiff1d(flipped, positive, assume_unique=True)
        is_kept = ~np.isin(inputs, extra, assume_unique=True)
        labelled = np.concatenate([inputs[is_kept], extra])
        order = np.argsort(labelled)
        return labelled[order], np.concatenate([values[is_kept], np.ones(len(extra))])[order]


def _stored(block: Block, column: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs of one column where it is not 0, in order, and its values there."""
    if sparse.issparse(block):
        part = slice(block.indptr[column], block.indptr[column + 1])
        order = np.argsort(block.indices[part])
        return block.indices[part][order], block.data[part][order]
    inputs = np.flatnonzero(block[:, column])
    return inputs, block[inputs, column]


def corrupt_labels(
    labels: AnyArray, test: str, rates: Rates = RATES, seed: int = 0
) -> xr.DataArray:
    """Return labels of which some are missing, or to which some are added.

    Parameters
    ----------
    labels : array
        (input, concept) or (input, label): 0 or 1, or probabilities; positive is what is at or
        above 0.5.
    test : str
        "missing": every positive is kept with probability ``rates.kept_share``, and is 0
        otherwise. "extra": every negative becomes 1 with probability
        ``(rates.extra_factor - 1) Q / (D - Q)``, at most 1, Q positives of D inputs.
    rates : Rates
        With what probability.
    seed : int
        Another one corrupts others.

    Returns
    -------
    xr.DataArray
        (input, concept) float64. What is corrupted follows from names and seed alone.
    """
    labels = take_concepts(labels)
    columns = read_columns(labels, "labels")
    block = CorruptedLabels(columns, test, rates, seed).block(0, columns.n_columns)
    return labels.copy(data=block.toarray() if sparse.issparse(block) else block)


spoil_labels = corrupt_labels
"""The name it had first."""


class SubstitutedLabels:
    """Labels in which every concept stands for another.

    Parameters
    ----------
    labels : Columns
        (input, concept).
    indices : sequence of int
        (concept,) the concept whose labels each one is given.
    """

    def __init__(self, labels: Columns, indices: Sequence[int] | np.ndarray):
        self._labels = labels
        self._indices = np.asarray(indices)
        self.n_inputs, self.n_columns = labels.n_inputs, len(self._indices)

    def block(self, start: int, stop: int) -> Block:
        """Return concepts ``start`` to ``stop`` (input, concept) as float64."""
        return stack_columns(
            [self._labels.block(index, index + 1) for index in self._indices[start:stop]]
        )


@dataclass(frozen=True)
class Hierarchy:
    """Which labels lie within which, as the inputs show.

    A label lies within another where every input that has it has the other too, and some have
    only the other. A *superclass* is a label within which another lies, a *class* one within
    which none does; a label that no input has is neither.

    Attributes
    ----------
    within : ndarray
        (concept, concept) bool, whether the first lies within the second.
    sizes : ndarray
        (concept,) int64, inputs that have the label.
    """

    within: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, labels: Columns) -> Hierarchy:
        """Find it from labels (input, concept)."""
        shared = np.zeros((labels.n_columns, labels.n_columns), dtype=np.int64)
        for start in range(0, labels.n_inputs, SLAB_INPUTS):
            shared += _count_shared(labels.slab(start, start + SLAB_INPUTS) >= LABEL_THRESHOLD)
        sizes = np.diag(shared)
        is_subset = (shared == sizes[:, None]) & (sizes[:, None] > 0)
        return cls(is_subset & (sizes[:, None] < sizes), sizes)

    @property
    def is_superclass(self) -> np.ndarray:
        """(concept,) bool."""
        return np.asarray(self.within.any(axis=0))

    @property
    def is_class(self) -> np.ndarray:
        """(concept,) bool."""
        return np.asarray((self.sizes > 0) & ~self.is_superclass)

    def superclasses(self) -> np.ndarray:
        """Return the smallest superclass (concept,) of each class, -1 where there is none.

        Of equal ones the first in the labels' order.
        """
        sizes = np.where(self.within, self.sizes.astype(np.float64), np.inf)
        return np.where(self.is_class & self.within.any(axis=1), sizes.argmin(axis=1), -1)

    def subclasses(self, largest: float = LARGEST_SUBCLASS) -> np.ndarray:
        """Return what stands for each superclass (concept,) where labels are missing.

        Its largest superclass of at most the fraction ``largest`` of its inputs; where it has none,
        its first class; -1 for what is no superclass. Of equal ones the first in the labels'
        order.
        """
        below = self.within.T
        is_small = self.sizes <= largest * self.sizes[:, None]
        is_candidate = below & is_small & self.is_superclass
        best = np.where(is_candidate, self.sizes, -1).argmax(axis=1)
        first_class = (below & self.is_class).argmax(axis=1)
        found = np.where(is_candidate.any(axis=1), best, first_class)
        return np.where(self.is_superclass, found, -1)


def _count_shared(is_labelled: np.ndarray) -> np.ndarray:
    """Count the inputs (concept, concept) that have both of two labels (input, concept)."""
    if np.count_nonzero(is_labelled) < SPARSE_DENSITY * is_labelled.size:
        held = sparse.csr_array(is_labelled.astype(np.int32))
        return np.asarray((held.T @ held).toarray())
    dense = is_labelled.astype(np.float32)  # exact up to 2**24
    return np.asarray((dense.T @ dense).astype(np.int64))
