"""The choice of labels for a block of concepts: ranked on one half of the inputs, then looked up.

The same steps give the names of concepts and, with rows of labels permuted, what chance gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from evals.kernels.blocks import BlockStatistics
from evals.metrics.table import Metric, Parameters
from evals.naming.candidates import BEST, CONCEPTS
from evals.naming.consensus import elect, elect_second

TIE = 1e-12
"""Scores that differ by no more than this fraction of the larger one are equal."""


@dataclass(frozen=True)
class Choice:
    """How labels are chosen.

    Attributes
    ----------
    rows : tuple of Metric
        By which.
    parameters : Parameters
        What they depend on.
    n_ranks : int
        Best labels that are kept, at least 1.
    is_rare : ndarray
        (label,) whether a label has too few positives, so that its pairs are undefined.
    is_class : ndarray
        (label,) whether a label is a class; second names are none, if there are other labels.
    """

    rows: tuple[Metric, ...]
    parameters: Parameters
    n_ranks: int
    is_rare: np.ndarray
    is_class: np.ndarray

    @property
    def has_kinds(self) -> bool:
        """Whether some labels are classes, and others are not."""
        return bool(self.is_class.any() and not self.is_class.all())

    def rank(
        self, statistics: BlockStatistics, is_few: np.ndarray, right: np.ndarray | None = None
    ) -> Mapping[str, np.ndarray]:
        """Rank the labels of a block of concepts by every metric; see `rank_labels`.

        Parameters
        ----------
        statistics : BlockStatistics
            Of the choosing half, with all labels once, or in several orders side by side: results
            are then (concept x order, …).
        is_few : ndarray
            (concept,) whether a concept has too few active inputs, so that its pairs are undefined.
        right : ndarray, optional
            (concept,) a label whose rank is wanted, -1 for none.

        Returns
        -------
        mapping of str to ndarray
            (concept, metric, …) as `rank_labels` has them; the same as ``concepts_best``, …, of the
            labels that are no classes, two of them at least; ``silent`` (concept,).
        """
        n_orders = statistics.shape[1] // len(self.is_rare)
        silent, is_few = (np.repeat(own, n_orders) for own in (statistics.is_constant, is_few))
        hidden, by_metric = is_few[:, None] | self.is_rare, []
        for scores in self._scores(statistics):
            scores = np.where(hidden, np.nan, scores)
            ranked = rank_labels(scores, silent, self.n_ranks, right)
            others = self._rank_concepts(scores, silent, ranked)
            by_metric.append(ranked | {f"{CONCEPTS}_{name}": own for name, own in others.items()})
        stacked = {k: np.stack([found[k] for found in by_metric], 1) for k in by_metric[0]}
        return {**stacked, "silent": silent}

    def _rank_concepts(
        self, scores: np.ndarray, silent: np.ndarray, ranked: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Rank the labels that are no classes; all that are ``ranked``, if all are of one kind."""
        if not self.has_kinds and self.n_ranks > 1:
            return {name: ranked[name] for name in ("best", "score", "tied")}
        own = np.where(self.is_class, np.nan, scores) if self.has_kinds else scores
        found = rank_labels(own, silent, max(self.n_ranks, 2))
        return {name: found[name] for name in ("best", "score", "tied")}

    def look_up(self, statistics: BlockStatistics, sought: np.ndarray) -> np.ndarray:
        """Return the scores of the labels ``sought`` (concept, metric, rank), NaN for none (-1).

        Infinite ones are NaN too: as for `rank`, they are undefined.
        Where labels are there in several orders, as for `rank`, (concept x order, metric, rank).
        """
        found = np.empty(sought.shape)
        for m, scores in enumerate(self._scores(statistics)):
            found[:, m] = np.take_along_axis(scores, sought[:, m], axis=-1)
        return np.where((sought < 0) | np.isinf(found), np.nan, found)

    def choose(self, ranked: Mapping[str, np.ndarray], voting: np.ndarray) -> dict[str, Chosen]:
        """Return the names from all labels, and where some are classes, from all others.

        ``ranked`` is as `rank` returns it; ``voting`` (metric,) which metrics vote.
        """
        others = ranked[f"{CONCEPTS}_best"]
        chosen = {BEST: Chosen.of(ranked["best"], others, voting)}
        if self.has_kinds:
            chosen[CONCEPTS] = Chosen.of(others[:, :, : self.n_ranks], others, voting)
        return chosen

    def _scores(self, statistics: BlockStatistics) -> Iterator[np.ndarray]:
        """Yield scores (concept x order, label) by each metric."""
        for row in self.rows:
            scores = row.evaluate(statistics, self.parameters)
            yield scores.reshape(-1, len(self.is_rare))


@dataclass(frozen=True)
class Chosen:
    """Names of some concepts, by each metric and by their consensus, and what comes second.

    Attributes
    ----------
    best : ndarray
        (concept, metric, rank) the best labels, -1 for none.
    consensus, votes : ndarray
        (concept,) as `elect` returns them.
    second : ndarray
        (concept, metric) the best label beside the name that is no class.
    consensus_second, second_votes : ndarray
        (concept,) the consensus among such labels.
    """

    best: np.ndarray
    consensus: np.ndarray
    votes: np.ndarray
    second: np.ndarray
    consensus_second: np.ndarray
    second_votes: np.ndarray

    @classmethod
    def of(cls, best: np.ndarray, others: np.ndarray, voting: np.ndarray) -> Chosen:
        """Choose from labels (concept, metric, rank), and from others what comes second."""
        consensus, votes = elect(best, voting)
        second = np.where(others[:, :, 0] == best[:, :, 0], others[:, :, 1], others[:, :, 0])
        return cls(best, consensus, votes, second, *elect_second(others, consensus, voting))

    def sought(self, n_ranks: int) -> np.ndarray:
        """Return the labels (concept, metric, rank + 3) whose scores count.

        The best ones, the second, the consensus and its second.
        """
        elected = np.stack([self.consensus, self.consensus_second], axis=1)[:, None]
        everywhere = np.repeat(elected, self.best.shape[1], axis=1)
        return np.concatenate(
            [self.best[:, :, :n_ranks], self.second[:, :, None], everywhere], axis=2
        )

    @classmethod
    def either(cls, is_one: tuple[np.ndarray, np.ndarray], one: Chosen, other: Chosen) -> Chosen:
        """Return one's names where ``is_one`` by (concept, metric) and by consensus (concept,)."""
        named, elected = is_one
        return cls(
            np.where(named[..., None], one.best, other.best),
            np.where(elected, one.consensus, other.consensus),
            np.where(elected, one.votes, other.votes),
            np.where(named, one.second, other.second),
            np.where(elected, one.consensus_second, other.consensus_second),
            np.where(elected, one.second_votes, other.second_votes),
        )


def rank_labels(
    scores: np.ndarray, silent: np.ndarray, n_ranks: int, right: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Rank the labels of concepts by one metric, best first, equal ones in their order.

    Parameters
    ----------
    scores : ndarray
        (concept, label), NaN where undefined.
    silent : ndarray of bool
        (concept,) concepts that are the same everywhere: an area of 1/2 with every label is no
        reason for a name.
    n_ranks : int
        Labels to keep.
    right : ndarray of int, optional
        (concept,) a label whose index is wanted, -1 for none.

    Returns
    -------
    dict of ndarray
        ``best`` (concept, rank) labels, -1 for none; their ``score``; ``undefined`` (concept,)
        pairs; ``tied`` (concept,) labels that score as well as the best one; with ``right``,
        ``right_rank`` (concept,) labels that score higher than it, -1 where that is not known.
    """
    is_defined = np.isfinite(scores)
    left = np.where(is_defined & ~silent[:, None], scores, -np.inf)
    undefined, tied = (~is_defined).sum(axis=1), np.zeros(len(left), dtype=np.int64)
    ranks: dict[str, np.ndarray] = {}
    if right is not None:
        own = np.take_along_axis(left, np.maximum(right, 0)[:, None], axis=1)
        higher = (left > own + _tolerance(own)).sum(axis=1)
        ranks["right_rank"] = np.where((right < 0) | np.isinf(own[:, 0]), -1, higher)
    best = np.full((len(left), n_ranks), -1, dtype=np.int64)
    best_score = np.full((len(left), n_ranks), np.nan)
    rows = np.arange(len(left))
    for rank in range(min(n_ranks, left.shape[1])):
        top = left.max(axis=1)
        equal = left >= (top - _tolerance(top))[:, None]
        first, found = equal.argmax(axis=1), ~np.isinf(top)
        if rank == 0:
            tied = np.where(found, equal.sum(axis=1) - 1, 0)
        best[:, rank] = np.where(found, first, -1)
        best_score[:, rank] = np.where(found, left[rows, first], np.nan)
        left[rows, first] = -np.inf
    return {"best": best, "score": best_score, "undefined": undefined, "tied": tied, **ranks}


def _tolerance(scores: np.ndarray) -> np.ndarray:
    """Return by how much equal scores may differ; 0 for none at all, which are minus infinity."""
    return TIE * np.abs(np.where(np.isinf(scores), 0, scores))
