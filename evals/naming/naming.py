"""Names for concepts: the best label by each metric, chosen on one half of the inputs.

The best of many labels on the inputs that it was chosen by flatters; so a name is chosen on one
half and scored on the other, with a bootstrap interval and the margin over the second-best label.
Concepts are named a part at a time, so that neither presences nor scores are ever whole in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from evals.kernels.blocks import BlockStatistics, map_statistics
from evals.kernels.columns import Columns, read_column
from evals.kernels.draws import DrawnStatistics, Draws
from evals.kernels.statistics import AnyArray, Shaped, divide
from evals.kernels.threads import map_in_order
from evals.metrics.registered import find_metrics
from evals.metrics.table import DEFAULTS, Metric, Parameters
from evals.naming.consensus import elect, verdicts_of, voters
from evals.scoring.labelled import (
    UNKNOWN,
    align,
    find_concepts,
    join_by_neuron,
    read_columns,
)
from evals.scoring.scoring import bounds_of

BOOTSTRAP_BLOCK = 16
PART_VALUES = 1 << 26
"""Presences of a part: 67 million, 268 MB where they are dense."""

TIE = 1e-12
"""Scores that differ by no more than this fraction of the larger one are equal."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class NamingOptions:
    """How names are chosen and scored.

    Parameters
    ----------
    parameters : Parameters
        What metrics depend on.
    n_ranks : int
        Best labels that are kept, at least 1.
    n_bootstrap : int
        Draws of an interval; 0 for none.
    confidence : float
        Fraction of draws within an interval, in (0, 1).
    seed : int
        Draws the halves and the bootstrap.
    block_size, workers : int, optional
        Concepts that are scored at once, and in how many threads.
    """

    parameters: Parameters = DEFAULTS
    n_ranks: int = 5
    n_bootstrap: int = 200
    confidence: float = 0.95
    seed: int = 0
    block_size: int | None = None
    workers: int = 1


def halve_inputs(inputs: Sequence[str] | np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of two random halves of the inputs, the first the larger by at most one.

    The draw is by the inputs' names, so that their order does not matter.
    """
    by_name = np.argsort(np.asarray(inputs), kind="stable")
    drawn = by_name[np.random.default_rng(seed).permutation(len(by_name))]
    middle = (len(drawn) + 1) // 2
    return np.sort(drawn[:middle]), np.sort(drawn[middle:])


def choose_names(
    presence: AnyArray,
    labels: AnyArray,
    metrics: Sequence[str | Metric],
    options: NamingOptions = NamingOptions(),
    progress: Progress = lambda done, total: None,
    *,
    sanity: Mapping[str, str] | None = None,
    right: Shaped | Sequence[str] | None = None,
) -> xr.Dataset:
    """Name every concept by its best label under each metric, and by what the metrics agree on.

    Parameters
    ----------
    presence : array
        (image, concept) or (input, neuron): how strongly each concept is in each input.
    labels : array
        (input, label) or (input, concept): 0 or 1, or probabilities; of the same inputs.
    metrics : sequence of str or Metric
        By which to name.
    options : NamingOptions
        How.
    progress : callable
        Called with the number of concepts done and their total.
    sanity : mapping of str to str, optional
        Metric to the verdict of the sanity check, as "passes". Then only metrics that pass take
        part in the consensus; without it, all do.
    right : array or sequence of str, optional
        (neuron,) or (concept,) the ground-truth label, "" where none is known. Where none
        of them is a label, the labels are of another kind, and none is known.

    Returns
    -------
    xr.Dataset
        Of schema ``names``: (concept, metric) ``name``, ``score``, ``margin``, the interval, and
        (concept, metric, rank) the best labels; (concept,) the ``consensus``. A concept that is
        the same everywhere, or whose pairs are all undefined, has the name "" and score NaN.

    Raises
    ------
    AlignmentError, ValueError
        As :func:`evals.score`; where inputs have no names, or are fewer than two; and where some
        ground-truth labels are labels, and others are not.
    """
    naming = Namer.of(presence, labels, metrics, options, sanity=sanity, right=right)
    names = join_names(naming.parts(progress=progress))
    return names.merge(naming.summarise(names))


def join_names(parts: Iterable[xr.Dataset]) -> xr.Dataset:
    """Return the names of consecutive concepts as one dataset."""
    listed = list(parts)
    return listed[0] if len(listed) == 1 else xr.concat(listed, "concept", data_vars="all")


@dataclass(frozen=True)
class Namer:
    """Concepts to name, labels to name them by, and how.

    Attributes
    ----------
    presence : xr.DataArray
        (input, neuron), read part by part.
    halves : tuple of ndarray
        Indices of the inputs that choose names, and of those that score them.
    labels : tuple of Columns
        (input, label) of each half.
    label_names : ndarray
        (label + 1,) names of the labels, and "" for none, at -1.
    rows : tuple of Metric
        By which to name.
    options : NamingOptions
        How.
    verdicts : tuple of str
        (metric,) of the sanity check.
    voting : ndarray
        (metric,) which metrics take part in the consensus.
    right : ndarray or None
        (neuron,) index of the ground-truth label, -1 where none is known.
    """

    presence: xr.DataArray
    halves: tuple[np.ndarray, np.ndarray]
    labels: tuple[Columns, Columns]
    label_names: np.ndarray
    rows: tuple[Metric, ...]
    options: NamingOptions
    verdicts: tuple[str, ...]
    voting: np.ndarray
    right: np.ndarray | None

    @classmethod
    def of(
        cls,
        presence: AnyArray,
        labels: AnyArray,
        metrics: Sequence[str | Metric],
        options: NamingOptions = NamingOptions(),
        *,
        sanity: Mapping[str, str] | None = None,
        right: Shaped | Sequence[str] | None = None,
    ) -> Namer:
        """Prepare what `choose_names` describes; labels are read here, presences later."""
        rows = tuple(find_metrics(metrics))
        presence, labels = align(presence, labels)
        if "input" not in presence.coords or presence.sizes["input"] < 2:
            raise ValueError("naming halves the inputs by name: expected at least two named inputs")
        halves = halve_inputs(presence["input"].values, options.seed)
        columns = read_columns(labels, "labels")
        names = np.append(labels["concept"].values.astype(str).astype(object), "")
        verdicts = verdicts_of([row.name for row in rows], sanity)
        return cls(
            presence=presence,
            halves=halves,
            labels=(columns.take(halves[0]), columns.take(halves[1])),
            label_names=names,
            rows=rows,
            options=options,
            verdicts=tuple(verdicts),
            voting=voters(verdicts, is_tested=sanity is not None),
            right=None
            if right is None
            else _find_known(join_by_neuron(right, presence, "a label"), labels),
        )

    @property
    def n_concepts(self) -> int:
        """Concepts to name."""
        return int(self.presence.sizes["neuron"])

    @property
    def part_size(self) -> int:
        """Concepts of a part: so many that it has `PART_VALUES` presences at most."""
        return max(1, PART_VALUES // self.presence.sizes["input"])

    def parts(
        self, first: int = 0, progress: Progress = lambda done, total: None
    ) -> Iterator[xr.Dataset]:
        """Yield the names of consecutive concepts, from part ``first`` on."""
        for start in range(first * self.part_size, self.n_concepts, self.part_size):
            stop = min(start + self.part_size, self.n_concepts)

            def report(done: int, start: int = start) -> None:
                progress(start + done, self.n_concepts)

            yield self._name(slice(start, stop), report)
            progress(stop, self.n_concepts)

    def _name(self, concepts: slice, report: Callable[[int], None]) -> xr.Dataset:
        """Name some concepts: choose on one half, score and redraw on the other."""
        choosing, scoring = self._read(concepts)
        right = None if self.right is None else self.right[concepts]
        ranked = _join(self._rank(choosing, right))
        best = ranked.pop("best")
        consensus, votes = elect(best, self.voting)
        sought = np.concatenate([best, np.repeat(consensus[:, None, None], len(self.rows), 1)], 2)
        score = np.concatenate(list(self._look_up(scoring, sought)))
        low, high = self._redraw(scoring, best[:, :, 0], report)
        second = score[:, :, 1] if self.options.n_ranks > 1 else np.nan
        names, dims = self.label_names[best], ("concept", "metric", "rank")
        values: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
            "name": (dims[:2], names[:, :, 0]),
            "score": (dims[:2], score[:, :, 0]),
            "interval_low": (dims[:2], low),
            "interval_high": (dims[:2], high),
            "margin": (dims[:2], score[:, :, 0] - second),
            "tied": (dims[:2], ranked["tied"]),
            "undefined": (dims[:2], ranked["undefined"]),
            "top_label": (dims, names),
            "top_score": (dims, score[:, :, :-1]),
            "chosen_score": (dims, ranked["score"]),
            "silent": (dims[:1], ranked["silent"]),
            "consensus": (dims[:1], self.label_names[consensus]),
            "consensus_votes": (dims[:1], votes),
            "consensus_score": (dims[:2], score[:, :, -1]),
        }
        if right is not None:
            values["right_label"] = (dims[:1], self.label_names[right])
            values["right_rank"] = (dims[:2], ranked["right_rank"])
        return xr.Dataset(
            values,
            {
                "concept": self.presence["neuron"].values[concepts],
                "metric": [row.name for row in self.rows],
                "rank": np.arange(self.options.n_ranks),
            },
        )

    def _read(self, concepts: slice) -> tuple[Columns, Columns]:
        """Return the presences of some concepts in the choosing and in the scoring half."""
        columns = read_columns(self.presence.isel(neuron=concepts)).load()
        return columns.take(self.halves[0]), columns.take(self.halves[1])

    @property
    def _blocks(self) -> dict[str, Any]:
        return {"block_size": self.options.block_size, "workers": self.options.workers}

    def _rank(
        self, presence: Columns, right: np.ndarray | None
    ) -> Iterator[Mapping[str, np.ndarray]]:
        """Yield the best labels (concept, metric, rank) of blocks of concepts, and of what kind."""

        def rank(concepts: slice, statistics: BlockStatistics) -> Mapping[str, np.ndarray]:
            own = None if right is None else right[concepts]
            silent = statistics.is_constant
            by_metric = [
                rank_labels(
                    row.evaluate(statistics, self.options.parameters),
                    silent,
                    self.options.n_ranks,
                    own,
                )
                for row in self.rows
            ]
            stacked = {k: np.stack([found[k] for found in by_metric], 1) for k in by_metric[0]}
            return {**stacked, "silent": silent}

        yield from map_statistics(rank, presence, self.labels[0], **self._blocks)

    def _look_up(self, presence: Columns, sought: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the scores of the labels ``sought`` (concept, metric, rank), on other inputs."""

        def look_up(concepts: slice, statistics: BlockStatistics) -> np.ndarray:
            own = sought[concepts]
            found = np.empty(own.shape)
            for m, row in enumerate(self.rows):
                scores = row.evaluate(statistics, self.options.parameters)
                found[:, m] = np.take_along_axis(scores, own[:, m], axis=-1)
            return np.where(own < 0, np.nan, found)

        yield from map_statistics(look_up, presence, self.labels[1], **self._blocks)

    def _redraw(
        self, presence: Columns, names: np.ndarray, report: Callable[[int], None]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the interval (concept, metric) of the scores of names, by redrawing the inputs."""
        options, labels = self.options, self.labels[1]
        intervals = np.full((2, *names.shape), np.nan)
        if not options.n_bootstrap:
            return intervals[0], intervals[1]
        generator = np.random.default_rng([options.seed, 1])
        draws = Draws.bootstrap(presence.n_inputs, options.n_bootstrap, generator)
        tail = (1 - options.confidence) / 2

        def work(concepts: slice) -> int:
            block = presence.block(concepts.start, concepts.stop)
            for j, concept in enumerate(range(concepts.start, concepts.stop)):
                for label in set(names[concept].tolist()) - {-1}:
                    pair = read_column(block, j), read_column(labels.block(label, label + 1), 0)
                    statistics = DrawnStatistics.of_draws(*pair, draws)
                    for m in np.flatnonzero(names[concept] == label):
                        scores = self.rows[int(m)].evaluate(statistics, options.parameters)
                        intervals[:, concept, m] = _quantiles(scores, [tail, 1 - tail])
            return int(concepts.stop)

        for done in map_in_order(work, presence.slices(BOOTSTRAP_BLOCK), options.workers):
            report(done)
        return intervals[0], intervals[1]

    def summarise(self, names: xr.Dataset) -> xr.Dataset:
        """Return what is said of the names of all concepts together; those by rank may be left out.

        ``names`` is as `join_names` returns it.
        """
        consensus, votes = names["consensus"].values, names["consensus_votes"].values
        best, is_elected, n_voting = names["name"].values, votes > 0, int(self.voting.sum())
        is_named = (best != "").all(axis=1)
        agrees = is_named & (best == best[:, :1]).all(axis=1)
        n_pairs = len(best) * (len(self.label_names) - 1)
        summary = xr.Dataset(
            {
                "verdict": ("metric", np.array(self.verdicts, dtype=object)),
                "votes": ("metric", self.voting),
                "undefined_share": names["undefined"].sum("concept") / n_pairs,
                "n_choosing": len(self.halves[0]),
                "n_scoring": len(self.halves[1]),
                "n_silent": int(names["silent"].sum()),
                "named_share": is_named.mean(),
                "agreeing_share": divide(agrees.sum(), is_named.sum()),
                "n_names": len(set(best.ravel()) - {""}),
                "n_voting": n_voting,
                "consensus_share": is_elected.mean(),
                "unanimous_share": divide((votes[is_elected] == n_voting).sum(), is_elected.sum()),
                "majority_share": divide((2 * votes > n_voting).sum(), is_elected.sum()),
                "mean_votes": divide(votes.sum(), is_elected.sum()),
                "n_consensus_names": len(set(consensus.tolist()) - {""}),
                "tied_share": divide((names["tied"].values > 0).sum(), (best != "").sum()),
                **bounds_of(self.rows),
            },
            {"metric": [row.name for row in self.rows]},
        )
        if self.right is None:
            return summary
        right = names["right_label"].values
        known = right != ""
        return summary.assign(
            right_share=(
                "metric",
                divide((best == right[:, None])[known].sum(axis=0), known.sum()),
            ),
            consensus_right_share=divide((consensus == right)[known].sum(), known.sum()),
            n_right_known=int(known.sum()),
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


def _find_known(right: np.ndarray, labels: xr.DataArray) -> np.ndarray:
    """Return the index of each ground-truth label (neuron,), -1 if unknown or all are others."""
    if np.isin(right.astype(str), labels["concept"].values.astype(str)).any():
        return find_concepts(right, labels)
    return np.full(len(right), UNKNOWN)


def _join(parts: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    listed = list(parts)
    return {name: np.concatenate([part[name] for part in listed]) for name in listed[0]}


def _quantiles(scores: np.ndarray, shares: list[float]) -> np.ndarray:
    defined = scores[~np.isnan(scores)]
    return np.quantile(defined, shares) if len(defined) else np.full(len(shares), np.nan)
