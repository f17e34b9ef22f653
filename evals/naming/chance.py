"""What chance gives: names, margins, votes and consensus where rows of labels are permuted.

The best of many labels scores well on noise too, and metrics that see the same accident agree. So
whole rows of labels are permuted, within each half of the inputs, which keeps what labels have to
do with each other and takes what they have to do with concepts. Everything is done again, choosing
and scoring, with the same permutation for all metrics and concepts. With N permutations, of which
b give as much or more, ``p = (b + 1) / (N + 1)``: the data as they are count as one of them.

Over all concepts, ``family_p`` is by the smallest p (Westfall and Young 1993, single step): in how
many of the permutations is the smallest p of all concepts as small? So few permutations have few
p; of equal ones that is the smaller which lies further above its concept's mean, in units of its
deviation. A largest score instead would be ruled by rare concepts.

The consensus is tested by the mean, over the metrics that vote, of its score above the mean of
permutations in units of their deviation: a nonparametric combination (Pesarin and Salmaso 2010).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeAlias

import numpy as np
from scipy import stats

from evals.kernels.blocks import BlockStatistics, PreparedLabels, map_statistics, most_neurons
from evals.kernels.columns import Columns
from evals.kernels.sampling import input_keys, keyed_numbers
from evals.kernels.threads import map_in_order, one_thread_each
from evals.naming.choice import TIE, Choice
from evals.naming.consensus import elect
from evals.naming.verdicts import judge

LEAST_PERMUTATIONS = 99
"""Down to so many, the budget makes fewer permutations, before it leaves concepts out."""

CHUNK_VALUES = 1 << 25
"""Presences, permuted labels, and scores of permutations, that are held at once."""

LABELS_AT_ONCE, SCORES_AT_ONCE = 1 << 10, 1 << 21
"""Labels, in several permutations, that are scored together; and their scores with concepts."""

Found: TypeAlias = dict[str, np.ndarray]
"""Statistics by name: (concept, metric), or (concept,)."""

HeldBlock: TypeAlias = tuple[slice, BlockStatistics, BlockStatistics]
"""Some concepts, and their statistics on both halves."""


@dataclass(frozen=True)
class Permutations:
    """Permutations of rows of labels within some inputs, the same whatever the inputs' order.

    Parameters
    ----------
    inputs : ndarray
        (input,) their names.
    seed : int
        Another one permutes otherwise.
    groups : ndarray, optional
        (input,) what belongs together, as the positions of a text: groups of equal size change
        places whole, each input with the one that has its place by name.
    """

    inputs: np.ndarray
    seed: int
    groups: np.ndarray | None = None

    def draw(self, number: int, which: int = 0) -> np.ndarray:
        """Return which input's labels each input gets (input,).

        Parameters
        ----------
        number : int
            Of the permutation.
        which : int
            Of the half of the inputs.
        """
        generator, order = np.random.default_rng([self.seed, 2, which, number]), self._order
        drawn = np.empty_like(order)
        if self.groups is None:
            drawn[order] = generator.permutation(order)
        else:
            drawn[order] = order[_move_groups(self.groups[order], generator)]
        return drawn

    @cached_property
    def _order(self) -> np.ndarray:
        """The inputs by name, in groups where there are some."""
        order = np.argsort(np.asarray(self.inputs), kind="stable")
        return (
            order if self.groups is None else order[np.argsort(self.groups[order], kind="stable")]
        )


def _move_groups(groups: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return for sorted groups (input,) where each input's new row stands."""
    starts = np.flatnonzero(np.append(True, groups[1:] != groups[:-1]))
    sizes = np.diff(np.append(starts, len(groups)))
    taken = np.empty_like(starts)
    for size in np.unique(sizes):
        own = np.flatnonzero(sizes == size)
        taken[own] = generator.permutation(own)
    return np.repeat(starts[taken] - starts, sizes) + np.arange(len(groups))


@dataclass(frozen=True)
class Budget:
    """How many permutations are made, and of how many concepts.

    Attributes
    ----------
    n_permutations : int
        Permutations; 0 for no test at all.
    n_concepts : int
        Concepts that are tested.
    """

    n_permutations: int
    n_concepts: int

    @classmethod
    def of(
        cls, n_permutations: int, steps: int, n_concepts: int, n_pairs: int, level: float = 0.05
    ) -> Budget:
        """Share out steps: first fewer permutations, down to 99, then fewer concepts.

        Parameters
        ----------
        n_permutations : int
            Asked for; there are so many at least that p, which begins at 1 / (N + 1), can reach
            the level.
        steps : int
            What the permutations may take: their number x concepts x labels x inputs.
        n_concepts, n_pairs : int
            Concepts, and inputs x labels of each.
        level : float
            Up to which p is above chance, in (0, 1).
        """
        if not n_permutations:
            return cls(0, 0)
        needed = math.ceil(1 / level - 1e-9) - 1
        asked = max(n_permutations, needed)
        least = min(asked, max(needed, LEAST_PERMUTATIONS))
        made = min(asked, max(least, steps // (n_concepts * n_pairs)))
        return cls(made, min(n_concepts, max(1, steps // (made * n_pairs))))

    def sample(self, names: Sequence[Any] | np.ndarray, seed: int) -> np.ndarray:
        """Return the indices of the concepts that are tested, by their names."""
        if self.n_concepts >= len(names):
            return np.arange(len(names))
        numbers = keyed_numbers(input_keys(names), "chance", seed)
        return np.sort(np.argsort(numbers, kind="stable")[: self.n_concepts])


@dataclass(frozen=True)
class Comparison:
    """One statistic of concepts against its permutations; arrays (concept, …).

    Attributes
    ----------
    p : ndarray
        Fraction of permutations, the data among them, that give as much; NaN where there is no
        name.
    chance : ndarray
        What only a fraction of 1 - confidence of the permutations exceed.
    rank : ndarray
        As `p`; of equal ones the further above the mean is smaller, by less than one permutation.
    smallest : ndarray
        (permutation, …) the smallest rank over the concepts in each permutation, the data first.
    """

    p: np.ndarray
    chance: np.ndarray
    rank: np.ndarray
    smallest: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, confidence: float) -> Comparison:
        """Compare values (permutation, concept, …), the data first, NaN where undefined."""
        is_known, rounded = ~np.isnan(values), _round(values)
        p = stats.rankdata(-rounded, method="max", axis=0) / len(values)
        further = np.where(is_known, np.arctan(studentise(values)) / math.pi + 0.5, 0)
        rank = np.where(is_known[0], p - further / len(values), np.inf)
        drawn = np.where(is_known, values, -np.inf)[1:]
        chance = np.quantile(drawn, confidence, axis=0, method="inverted_cdf")
        own = np.where(is_known[0], p[0], np.nan)
        chance = np.where(is_known[0] & np.isfinite(chance), chance, np.nan)
        return cls(own, chance, rank[0], rank.min(axis=1))

    @classmethod
    def join(cls, parts: Sequence[Comparison]) -> Comparison:
        """Put the tests of some concepts and of others together."""
        p, chance, rank = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("p", "chance", "rank")
        )
        return cls(p, chance, rank, np.min([part.smallest for part in parts], axis=0))

    @cached_property
    def family_p(self) -> np.ndarray:
        """In which fraction of the permutations the smallest rank of all concepts is as small."""
        reached = np.mean([smallest <= self.rank + TIE for smallest in self.smallest], axis=0)
        return np.where(np.isnan(self.p), np.nan, reached)

    def verdicts(self, level: float) -> np.ndarray:
        """Return what follows for each concept at a level, "" where there is no name."""
        return judge(self.p, self.family_p, level)


def _round(values: np.ndarray) -> np.ndarray:
    """Return values without what rounding adds, minus infinity for NaN: equal ones are equal."""
    size = np.abs(np.where(np.isnan(values), 0, values)).max(axis=0)
    size = np.where(size == 0, 1, size)
    return np.where(np.isnan(values), -np.inf, np.round(values / size, 12) * size)


def studentise(values: np.ndarray) -> np.ndarray:
    """Return values (permutation, …) less their mean, in units of their deviation; 0 for 0 / 0."""
    known = ~np.isnan(values)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0).sum(axis=0) / count
    from_mean = np.where(known, values - mean, 0)
    deviation = np.sqrt((from_mean**2).sum(axis=0) / count)
    size = np.abs(np.where(known, values, 0)).max(axis=0)
    deviation = np.where(deviation > 1e-12 * size, deviation, np.inf)
    return np.where(known, from_mean / deviation, np.nan)


def combine(scores: np.ndarray, voting: np.ndarray) -> np.ndarray:
    """Return the mean studentised score (permutation, concept) over the metrics that vote.

    Parameters
    ----------
    scores : ndarray
        (permutation, concept, metric) of the consensus of each permutation; one that a metric does
        not define is worth the least that this metric gives. NaN where there is no consensus.
    voting : ndarray
        (metric,) which metrics vote.
    """
    if not voting.any():
        return np.full(scores.shape[:2], np.nan)
    own = scores[:, :, voting]
    is_known = ~np.isnan(own)
    units = studentise(own)
    least = np.where(is_known, units, np.inf).min(axis=0)
    filled = np.where(is_known, units, np.where(np.isinf(least), 0, least))
    return np.where(is_known.any(axis=2), filled.mean(axis=2), np.nan)


@dataclass(frozen=True)
class Chance:
    """What the permutations of labels say of concepts.

    Attributes
    ----------
    concepts : ndarray
        (tested,) their indices.
    n_permutations : int
        How many were made.
    tests : mapping of str to Comparison
        Of the ``score`` and the ``margin`` of names, and of ``consensus_score``, by each metric
        (tested, metric); of the ``votes`` for the consensus, and of the ``consensus`` by all
        metrics that vote (tested,).
    """

    concepts: np.ndarray
    n_permutations: int
    tests: Mapping[str, Comparison]


@dataclass(frozen=True)
class Trial:
    """Names of some concepts, chosen and scored again and again with permuted rows of labels.

    Parameters
    ----------
    choice : Choice
        How labels are chosen.
    voting : ndarray
        (metric,) which metrics vote.
    labels : tuple of PreparedLabels
        Of the choosing and of the scoring half.
    permutations : tuple of Permutations
        Of each half.
    n_permutations : int
        How many.
    confidence : float
        Fraction of the permutations that do not exceed what is called chance, in (0, 1).
    block_size, workers : int, optional
        Concepts that are scored at once, and in how many threads.
    """

    choice: Choice
    voting: np.ndarray
    labels: tuple[PreparedLabels, PreparedLabels]
    permutations: tuple[Permutations, Permutations]
    n_permutations: int
    confidence: float
    block_size: int | None = None
    workers: int = 1

    @property
    def _n_inputs(self) -> int:
        return max(int(labels.columns.n_inputs) for labels in self.labels)

    @property
    def _chunk_size(self) -> int:
        n_scores = 3 * (self.n_permutations + 1) * len(self.choice.rows)
        return max(1, CHUNK_VALUES // max(2 * self._n_inputs, n_scores))

    def run(
        self,
        concepts: np.ndarray,
        read: Callable[[np.ndarray], tuple[tuple[Columns, Columns], np.ndarray]],
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Chance:
        """Test concepts.

        Parameters
        ----------
        concepts : ndarray
            (tested,) their indices.
        read : callable
            From some of them to their presences in both halves, and which are active on too few
            inputs (concept,).
        progress : callable
            Called with the number of permutations done and their total, over all chunks.
        """
        size = self._chunk_size
        chunks = [concepts[start : start + size] for start in range(0, len(concepts), size)]
        total, parts = len(chunks) * self.n_permutations, []
        for done, chunk in enumerate(chunks):
            drawn = []
            for found in self._draw(*read(chunk)):
                drawn.append(found)
                n_made = sum(len(own["votes"]) for own in drawn) - 1  # the data come first
                progress(done * self.n_permutations + n_made, total)
            parts.append(self._compare(drawn))
        tests = {name: Comparison.join([part[name] for part in parts]) for name in parts[0]}
        return Chance(concepts, self.n_permutations, tests)

    def _draw(self, halves: tuple[Columns, Columns], is_few: np.ndarray) -> Iterator[Found]:
        """Yield what is found with the labels as they are, then with some permutations at a time.

        Each (permutation, concept, …).
        """
        size = self._block_size(len(is_few))
        held = [
            list(map_statistics(lambda _, own: own, half, labels, block_size=size, workers=1))
            for half, labels in zip(halves, self.labels, strict=True)
        ]
        blocks = list(zip(halves[0].slices(size), *held, strict=True))
        at_once = self._orders_at_once(size)
        for first in range(1 - at_once, self.n_permutations + 1, at_once):
            numbers = range(max(first, 1), min(first + at_once, self.n_permutations + 1))
            work = partial(self._choose, self._permute(numbers) if numbers else None, is_few)
            with one_thread_each(self.workers):
                found = list(map_in_order(work, blocks, self.workers))
            yield {name: np.concatenate([own[name] for own in found], 1) for name in found[0]}

    def _block_size(self, n_concepts: int) -> int:
        most = self.block_size or most_neurons(self._n_inputs)
        return min(most, math.ceil(n_concepts / self.workers))

    def _orders_at_once(self, n_concepts: int) -> int:
        """Return how many permutations are scored side by side: small ones cost a call alone."""
        n_labels = len(self.choice.is_rare)
        most = min(
            LABELS_AT_ONCE,
            SCORES_AT_ONCE // n_concepts,
            CHUNK_VALUES // self._n_inputs,
        )
        return max(1, most // n_labels)

    def _permute(self, numbers: Iterable[int]) -> list[PreparedLabels]:
        return [
            labels.permuted(np.stack([own.draw(number, which) for number in numbers]))
            for which, (labels, own) in enumerate(zip(self.labels, self.permutations, strict=True))
        ]

    def _choose(
        self, labels: list[PreparedLabels] | None, is_few: np.ndarray, block: HeldBlock
    ) -> Found:
        """Choose labels of a block on one half, and score them on the other."""
        concepts, *halves = block
        if labels is not None:
            halves = [half.relabelled(own) for half, own in zip(halves, labels, strict=True)]
        best = self.choice.rank(halves[0], is_few[concepts])["best"]
        consensus, votes = elect(best, self.voting)
        everywhere = np.repeat(consensus[:, None, None], best.shape[1], 1)
        sought = np.concatenate([best[:, :, :2], everywhere], axis=2)
        scores = self.choice.look_up(halves[1], sought)
        second = scores[:, :, 1] if best.shape[2] > 1 else np.nan
        found = {
            "score": scores[:, :, 0],
            "margin": scores[:, :, 0] - second,
            "votes": np.where(votes > 0, votes, np.nan),
            "consensus_score": scores[:, :, -1],
        }
        n_concepts = concepts.stop - concepts.start
        return {
            name: np.moveaxis(own.reshape(n_concepts, -1, *own.shape[1:]), 1, 0)
            for name, own in found.items()
        }

    def _compare(self, drawn: Sequence[Found]) -> dict[str, Comparison]:
        values = {name: np.concatenate([found[name] for found in drawn]) for name in drawn[0]}
        values["consensus"] = combine(values["consensus_score"], self.voting)
        return {name: Comparison.of(own, self.confidence) for name, own in values.items()}
