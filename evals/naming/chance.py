"""What chance gives: names, margins, votes and consensus where rows of labels are permuted.

The best of many labels scores well on noise too, and metrics that see the same accident agree. So
whole rows of labels are permuted, within each half of the inputs, which keeps what labels have to
do with each other and takes what they have to do with concepts. Everything is done again, choosing
and scoring, with the same permutation for all metrics and concepts. With N permutations, of which
b give as much or more, ``p = (b + 1) / (N + 1)``: the data as they are count as one of them. What
is defined in only n of the N permutations, as a score that needs a label among the most active
inputs, is compared with these: ``(b + 1) / (n + 1)``, or p would be small by what is left out.

Over all concepts, ``family_p`` is by the smallest p (Westfall and Young 1993, single step): in how
many of the permutations is the smallest p of all concepts as small? So few permutations have few
p; of equal ones that is the smaller which lies further above the others of its concept, in units
of their deviation (`studentise`). A largest score instead would be ruled by rare concepts.

Where labels that are no classes are preferred, every permutation makes two choices, among these
and among all, and is worth the smaller of its two ranks. The data are worth the rank of what they
chose: of a label that is no class, if that is not at chance so, and else of the best of all. A
second name, the best label beside the name that is no class, is compared with the best of these.

The consensus is tested by the mean, over the metrics that vote, of its score above that of the
other permutations in units of their deviation: a nonparametric combination (Pesarin and Salmaso
2010).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Protocol, TypeAlias

import numpy as np

from evals.kernels.blocks import BlockStatistics, PreparedLabels, map_statistics, most_neurons
from evals.kernels.columns import Columns, read_column
from evals.kernels.ranking import tied_ranks
from evals.kernels.sampling import input_keys, keyed_numbers
from evals.kernels.threads import map_in_order, one_thread_each
from evals.metrics.table import ACTIVATION
from evals.naming.candidates import BEST, CONCEPTS
from evals.naming.choice import TIE, Choice, Chosen
from evals.naming.verdicts import judge

LEAST_PERMUTATIONS = 99
"""Down to so many, the budget makes fewer permutations, before it leaves concepts out."""

CHUNK_VALUES = 1 << 25
"""Presences, permuted labels, and scores of permutations, that are held at once."""

USUAL = 999_999
"""Under which number it is kept how much statistics deviate."""

USUAL_BY = 64
"""Concepts, at most, by which it is known how much a statistic deviates."""

LABELS_AT_ONCE, SCORES_AT_ONCE = 1 << 10, 1 << 21
"""Labels, in several permutations, that are scored together; and their scores with concepts."""

Found: TypeAlias = dict[tuple[str, str], np.ndarray]
"""Statistics by kind of labels and name: (permutation, concept, metric), or without metric."""

Pair: TypeAlias = tuple[np.ndarray | None, np.ndarray | None]
"""Usual deviations of two statistics."""

Read: TypeAlias = Callable[[np.ndarray], tuple[tuple[Columns, Columns], np.ndarray]]
"""From some concepts to their presences in both halves, and which are active on too few inputs."""

HeldBlock: TypeAlias = tuple[slice, BlockStatistics, BlockStatistics]
"""Some concepts, and their statistics on both halves."""

ELECTED = ("votes", "consensus_score", "consensus")
"""Tests of the consensus."""

SECONDS = ("second", "consensus_second")
"""Tests of second names, which have a p of their own alone."""


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
        Fraction of permutations in which it is defined, the data among them, that give as much;
        NaN where there is no name.
    chance : ndarray
        What only a fraction of 1 - confidence of these permutations exceed; of either of two
        choices, by itself.
    rank : ndarray
        As `p`; of equal ones the further above the mean is smaller, by less than one permutation.
    smallest : ndarray
        (permutation, …) the smallest rank over the concepts in each permutation, whether the data
        define theirs or not; the data first.
    """

    p: np.ndarray
    chance: np.ndarray
    rank: np.ndarray
    smallest: np.ndarray

    @classmethod
    def of(
        cls, values: np.ndarray, confidence: float, usual: np.ndarray | None = None
    ) -> Comparison:
        """Compare values (permutation, concept, …), the data first, NaN where undefined.

        ``usual`` is as of `studentise`.
        """
        is_known = ~np.isnan(values)
        chance = _known_quantile(values[1:], confidence)
        return cls._of_draws(is_known, _share_as_high(values), _further(values, usual), chance)

    @classmethod
    def of_either(
        cls,
        is_one: np.ndarray,
        one: np.ndarray,
        other: np.ndarray,
        confidence: float,
        usual: Pair = (None, None),
    ) -> Comparison:
        """Compare what was chosen of two statistics with the more unusual one of each permutation.

        Parameters
        ----------
        is_one : ndarray of bool
            (concept, …) whether the data chose the first.
        one, other : ndarray
            (permutation, concept, …) values, the data first, NaN where undefined.
        confidence, usual
            As of `of`; of both.
        """
        ranks = [_known_ranks(*of) for of in zip((one, other), usual, strict=True)]
        least = np.minimum(*ranks)
        least[0] = np.where(is_one, ranks[0][0], ranks[1][0])
        is_known = np.isfinite(least)
        p = _share_as_high(np.where(is_known, -least, np.nan))
        further = np.where(is_known, 1 - least, 0)
        chances = [cls.of(values, confidence).chance for values in (one, other)]
        return cls._of_draws(is_known, p, further, np.where(is_one, *chances))

    @classmethod
    def _of_draws(
        cls, is_known: np.ndarray, p: np.ndarray, further: np.ndarray, chance: np.ndarray
    ) -> Comparison:
        """Return the test by p of each draw, of which equal ones are ``further`` in [0, 1)."""
        rank = np.where(is_known, p - further / len(p), np.inf)
        own = np.where(is_known[0], p[0], np.nan)
        return cls(own, np.where(is_known[0], chance, np.nan), rank[0], rank.min(axis=1))

    @classmethod
    def join(cls, parts: Sequence[Comparison]) -> Comparison:
        """Put the tests of some concepts and of others together."""
        p, chance, rank = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("p", "chance", "rank")
        )
        return cls(p, chance, rank, np.min([part.smallest for part in parts], axis=0))

    def in_units(self, units: np.ndarray | None) -> Comparison:
        """Return the same of values that were divided by units (concept, metric), in their own."""
        if units is None or self.chance.ndim < 2:
            return self
        return replace(self, chance=self.chance * units)

    @cached_property
    def family_p(self) -> np.ndarray:
        """In which fraction of the permutations the smallest rank of all concepts is as small."""
        reached = np.mean([smallest <= self.rank + TIE for smallest in self.smallest], axis=0)
        return np.where(np.isnan(self.p), np.nan, reached)

    def verdicts(self, level: float) -> np.ndarray:
        """Return what follows for each concept at a level, "" where there is no name."""
        return judge(self.p, self.family_p, level)


def prefer(
    one: np.ndarray, other: np.ndarray, level: float, usual: Pair = (None, None)
) -> np.ndarray:
    """Return where (concept, …) the first of two statistics is above chance, being one of two.

    Values are (permutation, concept, …), the data first, NaN where undefined; ``usual``, of both,
    as of `studentise`.
    """
    ranks = [_known_ranks(*of) for of in zip((one, other), usual, strict=True)]
    own = ranks[0][0]
    as_small = np.mean(np.minimum(*ranks) <= own + TIE, axis=0)
    return np.asarray(np.isfinite(own) & (as_small <= level + TIE))


def _share_as_high(values: np.ndarray) -> np.ndarray:
    """Return in which fraction of the permutations (permutation, …) the value is as high.

    Of those in which it is defined, NaN where it is not: which these are says nothing of the order
    in them, so that each of them is as likely to be the data.
    """
    n_known = np.maximum((~np.isnan(values)).sum(axis=0), 1)
    _, at_most = tied_ranks(-_round(values))
    share = at_most / n_known
    return np.where(np.isnan(values), np.nan, share)


def _known_quantile(values: np.ndarray, fraction: float) -> np.ndarray:
    """Return the smallest value (permutation, …) that such a fraction of those known reach."""
    n_known = (~np.isnan(values)).sum(axis=0)
    place = np.maximum(np.ceil(fraction * n_known - 1e-9).astype(int) - 1, 0)
    ordered = np.sort(values, axis=0)  # NaN last
    return np.asarray(np.take_along_axis(ordered, place[None], axis=0)[0])


def _further(values: np.ndarray, usual: np.ndarray | None) -> np.ndarray:
    """Return how far values (permutation, …) lie above the others, brought to [0, 1)."""
    return np.where(np.isnan(values), 0, np.arctan(studentise(values, usual)) / math.pi + 0.5)


def _known_ranks(values: np.ndarray, usual: np.ndarray | None) -> np.ndarray:
    """Return the rank of each permutation, infinite where it is undefined."""
    rank = _share_as_high(values) - _further(values, usual) / len(values)
    return np.where(np.isnan(values), np.inf, rank)


def _round(values: np.ndarray) -> np.ndarray:
    """Return values without what rounding adds, minus infinity for NaN: equal ones are equal."""
    size = np.abs(np.where(np.isnan(values), 0, values)).max(axis=0)
    size = np.where(size == 0, 1, size)
    return np.where(np.isnan(values), -np.inf, np.round(values / size, 12) * size)


def studentise(values: np.ndarray, usual: np.ndarray | None = None) -> np.ndarray:
    """Return how far each value lies above the others of its concept, in units of their deviation.

    A concept that is active on few inputs scores in few permutations, and each of these would lie
    infinitely far above the others. So no deviation counts as smaller than is usual.

    Parameters
    ----------
    values : ndarray
        (permutation, concept, …), NaN where undefined.
    usual : ndarray, optional
        (…,) of :func:`usual_deviation`; of the values themselves by default.

    Returns
    -------
    ndarray
        Likewise; 0 for 0 / 0.
    """
    from_others, deviation = _leave_one_out(values)
    usual = usual_deviation(values) if usual is None else usual
    size = np.abs(np.where(np.isnan(values), 0, values)).max(axis=0)
    deviation = np.maximum(deviation, np.where(np.isnan(usual), 1e-12 * size, usual))
    is_equal = np.abs(from_others) <= 1e-12 * size
    units = np.where(is_equal, 0, from_others) / np.where(deviation > 0, deviation, 1)
    return np.where(np.isnan(values), np.nan, units)


def usual_deviation(values: np.ndarray) -> np.ndarray:
    """Return the root mean square over concepts of their deviation, where it is not 0.

    Each is without the permutation that lies furthest off, which may be the data of a concept that
    is well named. Whichever permutation the data are, it is the same. A rare concept that only
    some permutations reach deviates by nearly nothing in the others, so that a median of few
    permutations may be that of no concept that counts.

    Parameters
    ----------
    values : ndarray
        (permutation, concept, …), NaN where undefined.

    Returns
    -------
    ndarray
        (…,) NaN where no concept deviates.
    """
    deviation = np.where(np.isnan(values), np.inf, _leave_one_out(values)[1]).min(axis=0)
    is_known = np.isfinite(deviation) & (deviation > 0)
    squares = np.where(is_known, deviation, 0.0) ** 2
    count = is_known.sum(axis=0)
    return np.where(count > 0, np.sqrt(squares.sum(axis=0) / np.maximum(count, 1)), np.nan)


def _leave_one_out(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each value (permutation, …) is from the others' mean, and their deviation.

    Of those that are defined; 0 where rounding alone deviates.
    """
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    mean = np.where(known, values, 0).sum(axis=0) / np.maximum(count, 1)
    from_mean = np.where(known, values - mean, 0)
    squares, n_others = from_mean**2, np.maximum(count - 1, 1)
    variance = (squares.sum(axis=0) - squares) / n_others - (from_mean / n_others) ** 2
    least = (1e-7 * np.abs(np.where(known, values, 0)).max(axis=0)) ** 2
    return from_mean * (1 + 1 / n_others), np.sqrt(np.where(variance > least, variance, 0))


def combine(scores: np.ndarray, voting: np.ndarray, usual: np.ndarray | None = None) -> np.ndarray:
    """Return the mean studentised score (permutation, concept) over the metrics that vote.

    Parameters
    ----------
    scores : ndarray
        (permutation, concept, metric) of the consensus of each permutation; one that a metric does
        not define is worth the least that this metric gives. NaN where there is no consensus.
    voting : ndarray
        (metric,) which metrics vote.
    usual : ndarray, optional
        (metric,) as of `studentise`.
    """
    if not voting.any():
        return np.full(scores.shape[:2], np.nan)
    own = scores[:, :, voting]
    is_known = ~np.isnan(own)
    units = studentise(own, None if usual is None else usual[voting])
    least = np.where(is_known, units, np.inf).min(axis=0)
    filled = np.where(is_known, units, np.where(np.isinf(least), 0, least))
    return np.where(is_known.any(axis=2), filled.mean(axis=2), np.nan)


Tested: TypeAlias = tuple[dict[str, Comparison], tuple[np.ndarray, np.ndarray]]
"""Tests by name; and where labels that are no classes are preferred, as `Chance` has it."""

PREFERRED = "preferred"


class Keep(Protocol):
    """What keeps the tests of some concepts, for a run that is resumed."""

    def read(self, number: int) -> dict[str, np.ndarray] | None:
        """Return what was written under that number; None where nothing was."""

    def write(self, number: int, tested: dict[str, np.ndarray]) -> None:
        """Write what is known of some concepts."""


def _packed(tested: Tested) -> dict[str, np.ndarray]:
    tests, preferred = tested
    fields = ("p", "chance", "rank", "smallest")
    packed = {f"{name}.{key}": getattr(own, key) for name, own in tests.items() for key in fields}
    return packed | {f"{PREFERRED}.{which}": own for which, own in enumerate(preferred)}


def _unpacked(packed: Mapping[str, np.ndarray]) -> Tested:
    by_name: dict[str, dict[str, np.ndarray]] = {}
    for key, values in packed.items():
        name, _, of = key.rpartition(".")
        by_name.setdefault(name, {})[of] = values
    preferred = by_name.pop(PREFERRED)
    tests = {name: Comparison(**fields) for name, fields in by_name.items()}
    return tests, (preferred["0"], preferred["1"])


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
        metrics that vote (tested,); of the ``second`` name by each metric, and of the
        ``consensus_second``.
    preferred : tuple of ndarray
        Whether a label is named that is no class, since such are preferred: by each metric
        (tested, metric), and by the consensus (tested,).
    """

    concepts: np.ndarray
    n_permutations: int
    tests: Mapping[str, Comparison]
    preferred: tuple[np.ndarray, np.ndarray]

    def is_preferred(self, concepts: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return `preferred` of consecutive concepts; what was not tested is not preferred."""
        own = (self.concepts >= concepts.start) & (self.concepts < concepts.stop)
        found = []
        for preferred in self.preferred:
            whole = np.zeros((concepts.stop - concepts.start, *preferred.shape[1:]), dtype=bool)
            whole[self.concepts[own] - concepts.start] = preferred[own]
            found.append(whole)
        return found[0], found[1]


class Clock:
    """Tells once how long something takes, by how long its first part did.

    Parameters
    ----------
    forecast : callable
        Called with seconds.
    """

    def __init__(self, forecast: Callable[[float], None]):
        self._forecast = forecast
        self._started = 0.0
        self._has_told = False

    def note(self, done: int, total: int) -> None:
        """Note that so much is done; time counts from the last call with nothing done."""
        now = time.monotonic()
        if not done:
            self._started = now
        elif not self._has_told:
            self._has_told = True
            self._forecast((now - self._started) / done * (total - done))


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
    prefers_concepts : bool
        Whether labels that are no classes are preferred.
    """

    choice: Choice
    voting: np.ndarray
    labels: tuple[PreparedLabels, PreparedLabels]
    permutations: tuple[Permutations, Permutations]
    n_permutations: int
    confidence: float
    block_size: int | None = None
    workers: int = 1
    prefers_concepts: bool = False

    @property
    def _n_inputs(self) -> int:
        return max(int(labels.columns.n_inputs) for labels in self.labels)

    @property
    def _chunk_size(self) -> int:
        n_scores = (
            3 * (1 + self.choice.has_kinds) * (self.n_permutations + 1) * len(self.choice.rows)
        )
        return max(1, CHUNK_VALUES // max(2 * self._n_inputs, n_scores))

    def run(
        self,
        concepts: np.ndarray,
        read: Read,
        progress: Callable[[int, int], None] = lambda done, total: None,
        keep: Keep | None = None,
        forecast: Callable[[float], None] = lambda seconds: None,
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
        keep : Keep, optional
            Where the tests of a chunk of concepts outlive a run that is stopped.
        forecast : callable
            Called once, when the first permutations are made, with the seconds that the rest takes.
        """
        size = self._chunk_size
        chunks = [concepts[start : start + size] for start in range(0, len(concepts), size)]
        total, parts = len(chunks) * self.n_permutations, []
        clock, some = Clock(forecast), _some(len(concepts))
        usual = self._usual_by(concepts[some], read, keep) if len(chunks) > 1 else None
        for done, chunk in enumerate(chunks):
            known = None if keep is None else keep.read(done)
            if known is not None and np.array_equal(known.pop(CONCEPTS), chunk):
                parts.append(_unpacked(known))
                progress((done + 1) * self.n_permutations, total)
                continue
            drawn, left = [], self.n_permutations * sum(map(len, chunks[done:]))
            halves, is_few = read(chunk)
            units = self._units(halves[0])
            for found in self._draw(halves, is_few):
                drawn.append(_divided(found, units))
                n_made = sum(len(own[BEST, "votes"]) for own in drawn) - 1  # the data come first
                progress(done * self.n_permutations + n_made, total)
                clock.note(n_made * len(chunk), left)
            tests, preferred = self._compare(drawn, usual or self._usual(drawn, some))
            tests = {name: own.in_units(units) for name, own in tests.items()}
            parts.append((tests, preferred))
            if keep is not None:
                keep.write(done, _packed(parts[-1]) | {CONCEPTS: chunk})
        tests = {name: Comparison.join([part[name] for part, _ in parts]) for name in parts[0][0]}
        named, elected = (np.concatenate([own[which] for _, own in parts]) for which in (0, 1))
        return Chance(concepts, self.n_permutations, tests, (named, elected))

    def _usual_by(self, some: np.ndarray, read: Read, keep: Keep | None) -> Found:
        """Return the deviation that is usual of each statistic, by draws of some concepts."""
        known = None if keep is None else keep.read(USUAL)
        if known is not None and np.array_equal(known.pop(CONCEPTS), some):
            parted = ((name.partition("."), values) for name, values in known.items())
            return {(kind, name): values for (kind, _, name), values in parted}
        halves, is_few = read(some)
        units = self._units(halves[0])
        usual = self._usual([_divided(found, units) for found in self._draw(halves, is_few)])
        if keep is not None:
            packed = {".".join(name): values for name, values in usual.items()}
            keep.write(USUAL, packed | {CONCEPTS: some})
        return usual

    def _units(self, presence: Columns) -> np.ndarray | None:
        """Return by what scores (concept, metric) are divided, so that concepts can be compared.

        By the deviation of a concept, where a metric is in units of activations; else by 1. None
        where no metric is.
        """
        is_in_units = np.array([row.units == ACTIVATION for row in self.choice.rows])
        if not is_in_units.any():
            return None
        deviation = np.array(
            [
                read_column(block, j).std(dtype=np.float64)
                for concepts in presence.slices(self._block_size(presence.n_columns))
                for block in [presence.block(concepts.start, concepts.stop)]
                for j in range(concepts.stop - concepts.start)
            ]
        )
        deviation[~(np.isfinite(deviation) & (deviation > 0))] = 1
        return np.where(is_in_units, deviation[:, None], 1.0)

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
        chosen = self.choice.choose(self.choice.rank(halves[0], is_few[concepts]), self.voting)
        sought = [own.sought(n_ranks=2) for own in chosen.values()]
        scores = self.choice.look_up(halves[1], np.concatenate(sought, axis=2))
        split = np.split(scores, len(sought), axis=2)
        found = {
            (kind, name): values
            for (kind, own), held in zip(chosen.items(), split, strict=True)
            for name, values in _statistics(own, held).items()
            if labels is None or name not in SECONDS
        }
        n_concepts = concepts.stop - concepts.start
        return {
            name: np.moveaxis(own.reshape(n_concepts, -1, *own.shape[1:]), 1, 0)
            for name, own in found.items()
        }

    def _compare(self, drawn: Sequence[Found], usual: Found) -> Tested:
        """Return the tests of some concepts, and where labels that are no classes are preferred."""
        best = self._gather(drawn, BEST, usual)
        own_kind = self._second_kind
        concepts = self._gather(drawn, own_kind, usual)
        usual_of = {name: (usual[own_kind, name], usual[BEST, name]) for name in best}
        preferred = self._prefer(concepts, best, usual_of)
        tests = {}
        for name, own in best.items():
            is_concept = preferred[name in ELECTED]
            is_concept = np.broadcast_to(is_concept.T, own.shape[1:][::-1]).T
            either = concepts[name], own
            tests[name] = (
                Comparison.of_either(is_concept, *either, self.confidence, usual_of[name])
                if self.prefers_concepts
                else Comparison.of(own, self.confidence, usual[BEST, name])
            )
        seconds = self._gather_seconds(drawn[0], concepts, preferred, usual)
        tests |= {name: Comparison.of(own, self.confidence) for name, own in seconds.items()}
        return tests, preferred

    @property
    def _second_kind(self) -> str:
        """Of which kind second names are."""
        return CONCEPTS if self.choice.has_kinds else BEST

    def _usual(self, drawn: Sequence[Found], some: np.ndarray | None = None) -> Found:
        """Return the deviation that is usual of each statistic, by some of the concepts."""
        taken = slice(None) if some is None else some
        own = [{name: values[:, taken] for name, values in found.items()} for found in drawn]
        usual: Found = {}
        for kind in {BEST, self._second_kind}:
            held = self._gather(own, kind, usual)
            usual |= {(kind, name): usual_deviation(values) for name, values in held.items()}
        return usual

    def _gather(
        self, drawn: Sequence[Found], kind: str, usual: Mapping[tuple[str, str], np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return statistics of names of a kind (permutation, concept, …), the data first."""
        names = [name for of, name in drawn[-1] if of == kind]
        values = {name: np.concatenate([own[kind, name] for own in drawn]) for name in names}
        of_consensus = values["consensus_score"], self.voting, usual.get((kind, "consensus_score"))
        return values | {"consensus": combine(*of_consensus)}

    def _prefer(
        self,
        concepts: Mapping[str, np.ndarray],
        best: Mapping[str, np.ndarray],
        usual: Mapping[str, Pair],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return where labels that are no classes win (concept, metric), and as consensus."""
        level = 1 - self.confidence
        named, elected = (
            prefer(concepts[of], best[of], level, usual[of]) for of in ("score", "consensus")
        )
        return named & self.prefers_concepts, elected & self.prefers_concepts

    def _gather_seconds(
        self,
        data: Found,
        concepts: Mapping[str, np.ndarray],
        preferred: tuple[np.ndarray, np.ndarray],
        usual: Found,
    ) -> dict[str, np.ndarray]:
        """Return statistics of second names, above those of first ones in the permutations."""
        named, elected = preferred
        own = self._second_kind
        one = np.where(named, data[own, "second"], data[BEST, "second"])
        is_one = elected[:, None]
        other = np.where(is_one, data[own, "consensus_second"], data[BEST, "consensus_second"])
        scores = np.concatenate([other, concepts["consensus_score"][1:]])
        return {
            "second": np.concatenate([one, concepts["score"][1:]]),
            "consensus_second": combine(scores, self.voting, usual[own, "consensus_score"]),
        }


def _divided(found: Found, units: np.ndarray | None) -> Found:
    """Return statistics with those by metric (permutation, concept, metric) divided by units."""
    if units is None:
        return found
    return {name: own / units if own.ndim == 3 else own for name, own in found.items()}


def _some(count: int) -> np.ndarray:
    """Return the indices of some concepts, the same ones whatever is scored at once."""
    return np.random.default_rng(count).permutation(count)[:USUAL_BY]


def _statistics(chosen: Chosen, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Return what is tested (concept, …) by scores (concept, metric, sought)."""
    second = scores[:, :, 1] if chosen.best.shape[2] > 1 else np.nan
    return {
        "score": scores[:, :, 0],
        "margin": scores[:, :, 0] - second,
        "votes": np.where(chosen.votes > 0, chosen.votes, np.nan),
        "consensus_score": scores[:, :, -2],
        "second": scores[:, :, -3],
        "consensus_second": scores[:, :, -1],
    }
