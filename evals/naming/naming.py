"""Names for concepts: the best label by each metric, chosen on one half of the inputs.

The best of many labels on the inputs that it was chosen by flatters; so a name is chosen on one
half and scored on the other, with a bootstrap interval, the margin over the second-best label, and
what chance gives (:mod:`evals.naming.chance`). Concepts are named a part at a time, so that neither
presences nor scores are ever whole in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import xarray as xr
from scipy.special import gammaln

from evals.kernels.blocks import BlockStatistics, PreparedLabels, map_statistics
from evals.kernels.columns import Columns, count_above_smallest, read_column
from evals.kernels.draws import DrawnStatistics, Draws
from evals.kernels.statistics import AnyArray, Shaped, divide
from evals.kernels.threads import map_in_order
from evals.metrics.registered import find_metrics
from evals.metrics.table import DEFAULTS, Metric, Parameters
from evals.metrics.tolerance import Tolerance, faults_of_parts
from evals.naming.candidates import (
    BEST,
    CONCEPTS,
    Preference,
    find_classes,
    leave_out,
    require_chance,
)
from evals.naming.chance import SECONDS, Budget, Chance, Keep, Permutations, Trial
from evals.naming.choice import Choice, Chosen
from evals.naming.config import BUDGET, FEW, N_PERMUTATIONS
from evals.naming.consensus import verdicts_of, voters
from evals.naming.halves import halve_inputs, number_groups, sequences_of
from evals.naming.verdicts import ABOVE, AT_CHANCE, UNTESTED
from evals.sanity.theoretical import exact_verdicts
from evals.scoring.labelled import (
    UNKNOWN,
    align,
    find_concepts,
    join_by_neuron,
    read_columns,
)
from evals.scoring.scoring import bounds_of
from registry.wording import counted

BOOTSTRAP_BLOCK = 16
PART_VALUES = 1 << 26
"""Presences of a part: 67 million, 268 MB where they are dense."""

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
        Fraction of draws within an interval, in (0, 1); names are above chance at 1 - confidence.
    seed : int
        Draws the halves, the bootstrap and the permutations.
    n_permutations : int
        Permutations of rows of labels, for what chance gives; 0 for none. They are so many at
        least that p can reach 1 - confidence.
    permutation_budget : int
        Permutations x concepts x labels x inputs at most: beyond, there are fewer permutations,
        down to 99, and then fewer concepts are tested, drawn by name.
    min_positives, min_active : int
        Inputs of each half that have the label, and that have it not, at least, and at which the
        concept exceeds its smallest value; the pair is undefined otherwise.
    by_sequence : bool
        Whether inputs are positions of sequences, named ``sequence/position``: then sequences are
        halved, redrawn and permuted whole.
    leave_out : tuple of str
        Labels that name nothing: by name, or groups of them, as ``class:*``.
    prefer : str
        Which label names a concept: the ``best``; or, of ``concepts``, the best that is no class,
        unless that is at chance, and else the best of all. The permutations choose likewise.
    block_size, workers : int, optional
        Concepts that are scored at once, and in how many threads.

    Raises
    ------
    ValueError
        A value out of its range.
    """

    parameters: Parameters = DEFAULTS
    n_ranks: int = 5
    n_bootstrap: int = 200
    confidence: float = 0.95
    seed: int = 0
    n_permutations: int = N_PERMUTATIONS
    permutation_budget: int = BUDGET
    min_positives: int = FEW
    min_active: int = FEW
    by_sequence: bool = False
    leave_out: tuple[str, ...] = ()
    prefer: Preference = BEST
    block_size: int | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        least = {
            "n_ranks": 1,
            "n_bootstrap": 0,
            "n_permutations": 0,
            "permutation_budget": 1,
            "min_positives": 0,
            "min_active": 0,
            "workers": 1,
        }
        for name, lowest in least.items():
            if (value := getattr(self, name)) < lowest:
                raise ValueError(f"{name} {value}; expected at least {lowest}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence {self.confidence}; expected a number in (0, 1)")
        if isinstance(self.leave_out, str):
            raise ValueError(f"leave_out {self.leave_out!r}; expected several labels, as a list")
        if self.prefer not in get_args(Preference):
            raise ValueError(f"prefer {self.prefer!r}; expected one of {get_args(Preference)}")
        require_chance(self.prefer, self.n_permutations)


def choose_names(
    presence: AnyArray,
    labels: AnyArray,
    metrics: Sequence[str | Metric],
    options: NamingOptions = NamingOptions(),
    progress: Progress = lambda done, total: None,
    *,
    sanity: Mapping[str, str] | None = None,
    right: Shaped | Sequence[str] | None = None,
    classes: Iterable[str] = (),
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
        Metric to the verdict of the sanity check, as "passes": only metrics that pass take part in
        the consensus. Without it, the exact theoretical tests are run; a metric that is a function
        of arrays has no verdict then, and no vote.
    right : array or sequence of str, optional
        (neuron,) or (concept,) the ground-truth label, "" where none is known. Where none
        of them is a label, the labels are of another kind, and none is known.
    classes : iterable of str, optional
        Names of the network's classes: labels that are called so are classes, as those are that
        begin with ``class:``.

    Returns
    -------
    xr.Dataset
        Of schema ``names``: (concept, metric) ``name``, ``score``, ``margin``, the interval, and
        (concept, metric, rank) the best labels; (concept,) the ``consensus``. A concept that is
        the same everywhere, or whose pairs are all undefined, has the name "" and score NaN.
        ``chance`` (concept, metric) and ``consensus_chance`` (concept,) say whether permuted
        labels give as much: "above chance" (among all concepts), "undecided" (for this concept
        alone, not among all), "at chance"; "untested" where the budget left the concept out.
        ``second_name`` (concept, metric) and ``consensus_second`` (concept,) are the best labels
        beside the name that are no classes, if there are such labels; their p is that of the best
        of these labels.

    Raises
    ------
    CandidatesError
        If a label to leave out is none, or none is left.
    AlignmentError, ValueError
        As :func:`evals.score`; where inputs have no names, or are fewer than two; and where some
        ground-truth labels are labels, and others are not; by sequence, where so few are of equal
        length that permutations cannot say anything.
    """
    naming = Namer.of(
        presence, labels, metrics, options, sanity=sanity, right=right, classes=classes
    )
    chance = naming.test()
    names = join_names(naming.parts(progress=progress, chance=chance))
    return names.merge(naming.summarise(names, chance), combine_attrs="override")


def join_names(parts: Iterable[xr.Dataset]) -> xr.Dataset:
    """Return the names of consecutive concepts as one dataset, with the metrics that failed."""
    listed = list(parts)
    if len(listed) == 1:
        return listed[0]
    whole = xr.concat(listed, "concept", data_vars="all", combine_attrs="drop")
    return whole.assign_attrs(faults_of_parts(listed))


@dataclass(frozen=True)
class Namer:
    """Concepts to name, labels to name them by, and how.

    Attributes
    ----------
    presence : xr.DataArray
        (input, neuron), read part by part.
    halves : tuple of ndarray
        Indices of the inputs that choose names, and of those that score them.
    labels : tuple of PreparedLabels
        (input, label) of each half.
    label_names : ndarray
        (label + 1,) names of the labels, and "" for none, at -1.
    choice : Choice
        The metrics by which to name, and which labels have too few positives.
    tolerance : Tolerance
        What became of them.
    options : NamingOptions
        How.
    verdicts : tuple of str
        (metric,) of the sanity check.
    voting : ndarray
        (metric,) which metrics take part in the consensus.
    right : ndarray or None
        (neuron,) index of the ground-truth label, -1 where none is known.
    groups : ndarray or None
        (input,) the sequence of each input, where sequences are kept whole.
    n_left_out : int
        Labels that were left out.
    """

    presence: xr.DataArray
    halves: tuple[np.ndarray, np.ndarray]
    labels: tuple[PreparedLabels, PreparedLabels]
    label_names: np.ndarray
    choice: Choice
    tolerance: Tolerance
    options: NamingOptions
    verdicts: tuple[str, ...]
    voting: np.ndarray
    right: np.ndarray | None
    groups: np.ndarray | None = None
    n_left_out: int = 0

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
        classes: Iterable[str] = (),
    ) -> Namer:
        """Prepare what `choose_names` describes; labels are read here, presences later."""
        tolerance = Tolerance(find_metrics(metrics))
        rows = tuple(tolerance.rows)
        presence, every_label = align(presence, labels)
        labels = leave_out(every_label, options.leave_out, classes)
        if "input" not in presence.coords or presence.sizes["input"] < 2:
            raise ValueError("naming halves the inputs by name: expected at least two named inputs")
        inputs = presence["input"].values
        groups = sequences_of(inputs) if options.by_sequence else None
        if groups is not None:
            _require_two(groups)
        halves = halve_inputs(inputs, options.seed, groups)
        columns = read_columns(labels, "labels")
        prepared = tuple(PreparedLabels(columns.take(half), options.workers) for half in halves)
        is_rare = np.minimum(*map(_rarer, prepared)) < options.min_positives
        names = np.append(labels["concept"].values.astype(str).astype(object), "")
        known = exact_verdicts(rows) if sanity is None else sanity
        verdicts = verdicts_of([row.name for row in rows], known)
        return cls(
            presence=presence,
            halves=halves,
            labels=(prepared[0], prepared[1]),
            label_names=names,
            choice=Choice(
                rows,
                options.parameters,
                options.n_ranks,
                is_rare,
                find_classes(names[:-1], classes),
            ),
            tolerance=tolerance,
            options=options,
            verdicts=tuple(verdicts),
            voting=voters(verdicts),
            right=None
            if right is None
            else _find_known(join_by_neuron(right, presence, "a label"), labels, every_label),
            groups=groups,
            n_left_out=every_label.sizes["concept"] - labels.sizes["concept"],
        )

    @property
    def rows(self) -> tuple[Metric, ...]:
        """The metrics by which to name."""
        return self.choice.rows

    @property
    def prefers_concepts(self) -> bool:
        """Whether labels that are no classes are preferred to others."""
        return self.options.prefer == CONCEPTS and self.choice.has_kinds

    @property
    def n_concepts(self) -> int:
        """Concepts to name."""
        return int(self.presence.sizes["neuron"])

    @property
    def part_size(self) -> int:
        """Concepts of a part: so many that it has `PART_VALUES` presences at most."""
        return max(1, PART_VALUES // self.presence.sizes["input"])

    def test(
        self,
        progress: Progress = lambda done, total: None,
        keep: Keep | None = None,
        forecast: Callable[[float], None] = lambda seconds: None,
    ) -> Chance | None:
        """Return what chance gives of as many concepts as the budget allows, None for no test.

        ``progress`` is called with the number of permutations done and their total; ``keep`` is
        where what is known outlives a run that is stopped; ``forecast`` is called once, when the
        first permutations are made, with the seconds that the rest takes.
        """
        options, names = self.options, self.presence["neuron"].values
        budget = Budget.of(
            options.n_permutations,
            options.permutation_budget,
            self.n_concepts,
            self.presence.sizes["input"] * (len(self.label_names) - 1),
            1 - options.confidence,
        )
        if not budget.n_permutations:
            return None
        if self.groups is not None:
            _require_exchangeable(
                [self.groups[half] for half in self.halves], 1 - options.confidence
            )
        inputs = self.presence["input"].values
        permutations = [
            Permutations(
                inputs[half], options.seed, None if self.groups is None else self.groups[half]
            )
            for half in self.halves
        ]
        trial = Trial(
            self.choice,
            self.voting,
            self.labels,
            (permutations[0], permutations[1]),
            budget.n_permutations,
            options.confidence,
            options.block_size,
            options.workers,
            self.prefers_concepts,
        )
        return trial.run(budget.sample(names, options.seed), self._read, progress, keep, forecast)

    def parts(
        self,
        first: int = 0,
        progress: Progress = lambda done, total: None,
        chance: Chance | None = None,
    ) -> Iterator[xr.Dataset]:
        """Yield the names of consecutive concepts, from part ``first`` on, with what chance gives.

        ``chance`` is what `test` returned.
        """
        for start in range(first * self.part_size, self.n_concepts, self.part_size):
            stop = min(start + self.part_size, self.n_concepts)

            def report(done: int, start: int = start) -> None:
                progress(start + done, self.n_concepts)

            named = self._name(slice(start, stop), report, chance)
            named = named.assign_attrs(self.tolerance.attributes())
            yield named if chance is None else named.assign(self._judge(chance, start, named))
            progress(stop, self.n_concepts)

    def _name(
        self, concepts: slice, report: Callable[[int], None], chance: Chance | None
    ) -> xr.Dataset:
        """Name some concepts: choose on one half, score and redraw on the other."""
        (choosing, scoring), is_few = self._read(concepts)
        right = None if self.right is None else self.right[concepts]
        ranked = _join(self._rank(choosing, is_few, right))
        chosen = self.choice.choose(ranked, self.voting)
        own, first = chosen[BEST], chosen[BEST]
        if self.prefers_concepts and chance is not None:
            preferred = chance.is_preferred(concepts)
            own = Chosen.either(preferred, chosen[CONCEPTS], first)
            ranked = self._prefer(preferred[0], ranked)
        n_ranks, best, label_names = self.options.n_ranks, own.best, self.label_names
        sought = np.concatenate([own.sought(n_ranks), first.best[:, :, :1]], axis=2)
        score = np.concatenate(list(self._look_up(scoring, sought)))
        low, high = self._redraw(scoring, best[:, :, 0], report)
        second = score[:, :, 1] if n_ranks > 1 else np.nan
        names, dims = label_names[best], ("concept", "metric", "rank")
        values: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
            "name": (dims[:2], names[:, :, 0]),
            "score": (dims[:2], score[:, :, 0]),
            "interval_low": (dims[:2], low),
            "interval_high": (dims[:2], high),
            "margin": (dims[:2], score[:, :, 0] - second),
            "tied": (dims[:2], ranked["tied"]),
            "undefined": (dims[:2], ranked["undefined"]),
            "top_label": (dims, names),
            "top_score": (dims, score[:, :, :n_ranks]),
            "chosen_score": (dims, ranked["score"]),
            "silent": (dims[:1], ranked["silent"]),
            "few_active": (dims[:1], is_few),
            "consensus": (dims[:1], label_names[own.consensus]),
            "consensus_votes": (dims[:1], own.votes),
            "consensus_score": (dims[:2], score[:, :, n_ranks + 1]),
            "second_name": (dims[:2], label_names[own.second]),
            "second_score": (dims[:2], score[:, :, n_ranks]),
            "consensus_second": (dims[:1], label_names[own.consensus_second]),
            "consensus_second_votes": (dims[:1], own.second_votes),
            "consensus_second_score": (dims[:2], score[:, :, n_ranks + 2]),
        }
        if self.prefers_concepts:
            is_other = first.best[:, :, 0] != best[:, :, 0]
            passed_over = np.where(is_other, label_names[first.best[:, :, 0]], "")
            values["passed_over"] = (dims[:2], passed_over)
            values["passed_over_score"] = (dims[:2], np.where(is_other, score[:, :, -1], np.nan))
            is_other = first.consensus != own.consensus
            passed_over = np.where(is_other, label_names[first.consensus], "")
            values["consensus_passed_over"] = (dims[:1], passed_over)
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

    def _prefer(
        self, is_concept: np.ndarray, ranked: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return ``ranked`` with what labels that are no classes give where these name concepts."""
        n_ranks = self.options.n_ranks
        score = ranked[f"{CONCEPTS}_score"][:, :, :n_ranks]
        return {
            **ranked,
            "score": np.where(is_concept[..., None], score, ranked["score"]),
            "tied": np.where(is_concept, ranked[f"{CONCEPTS}_tied"], ranked["tied"]),
        }

    def _judge(
        self, chance: Chance, start: int, named: xr.Dataset
    ) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        """Return what chance says of the named concepts, of which the first has index ``start``."""
        n_named, level = named.sizes["concept"], 1 - self.options.confidence
        own = (chance.concepts >= start) & (chance.concepts < start + n_named)
        to = chance.concepts[own] - start
        found: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}

        def put(name: str, values: np.ndarray, missing: Any = np.nan) -> None:
            whole = np.full((n_named, *values.shape[1:]), missing, dtype=values.dtype)
            whole[to] = values[own]
            found[name] = (("concept", "metric")[: values.ndim], whole)

        for name, test in chance.tests.items():
            put(f"{name}_p", test.p)
            if name in SECONDS:
                continue
            put(f"{name}_family_p", test.family_p)
            if name != "consensus":
                put(f"{name}_by_chance", test.chance)
        for name, of, has_name in (
            ("chance", "score", named["name"].values != ""),
            ("consensus_chance", "consensus", named["consensus"].values != ""),
        ):
            put(name, chance.tests[of].verdicts(level), UNTESTED)
            found[name] = (found[name][0], np.where(has_name, found[name][1], ""))
        return found

    def _read(self, concepts: slice | np.ndarray) -> tuple[tuple[Columns, Columns], np.ndarray]:
        """Return the presences of some concepts in both halves, and which are active too rarely."""
        columns = read_columns(self.presence.isel(neuron=concepts)).load()
        choosing, scoring = (columns.take(half) for half in self.halves)
        is_few = np.minimum(_count_active(choosing), _count_active(scoring))
        return (choosing, scoring), is_few < self.options.min_active

    @property
    def _blocks(self) -> dict[str, Any]:
        return {"block_size": self.options.block_size, "workers": self.options.workers}

    def _rank(
        self, presence: Columns, is_few: np.ndarray, right: np.ndarray | None
    ) -> Iterator[Mapping[str, np.ndarray]]:
        """Yield the best labels (concept, metric, rank) of blocks of concepts, and of what kind."""

        def rank(concepts: slice, statistics: BlockStatistics) -> Mapping[str, np.ndarray]:
            own = None if right is None else right[concepts]
            return self.choice.rank(statistics, is_few[concepts], own)

        yield from map_statistics(rank, presence, self.labels[0], **self._blocks)

    def _look_up(self, presence: Columns, sought: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the scores of the labels ``sought`` (concept, metric, rank), on other inputs."""

        def look_up(concepts: slice, statistics: BlockStatistics) -> np.ndarray:
            return self.choice.look_up(statistics, sought[concepts])

        yield from map_statistics(look_up, presence, self.labels[1], **self._blocks)

    def _redraw(
        self, presence: Columns, names: np.ndarray, report: Callable[[int], None]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the interval (concept, metric) of the scores of names, by redrawing the inputs."""
        options, labels = self.options, self.labels[1].columns
        intervals = np.full((2, *names.shape), np.nan)
        if not options.n_bootstrap:
            return intervals[0], intervals[1]
        generator = np.random.default_rng([options.seed, 1])
        draws = self._bootstrap(presence.n_inputs, generator)
        tail = (1 - options.confidence) / 2

        def work(concepts: slice) -> int:
            block = presence.block(concepts.start, concepts.stop)
            for j, concept in enumerate(range(concepts.start, concepts.stop)):
                of = _relabelling(read_column(block, j), draws)
                for label in set(names[concept].tolist()) - {-1}:
                    statistics = of(read_column(labels.block(label, label + 1), 0))
                    for m in np.flatnonzero(names[concept] == label):
                        scores = self.rows[int(m)].evaluate(statistics, options.parameters)
                        intervals[:, concept, m] = _quantiles(scores, [tail, 1 - tail])
            return int(concepts.stop)

        for done in map_in_order(work, presence.slices(BOOTSTRAP_BLOCK), options.workers):
            report(done)
        return intervals[0], intervals[1]

    def _bootstrap(self, n_inputs: int, generator: np.random.Generator) -> Draws:
        """Redraw the inputs of the scoring half, or its sequences."""
        if self.groups is None:  # by name, whatever order they stand in
            drawn = Draws.bootstrap(n_inputs, self.options.n_bootstrap, generator)
            by_name = np.argsort(self.presence["input"].values[self.halves[1]], kind="stable")
            return Draws.of(drawn.counts.T[:, np.argsort(by_name)].astype(np.int64))
        names, of_input = number_groups(self.groups[self.halves[1]])
        redrawn = Draws.bootstrap(len(names), self.options.n_bootstrap, generator)
        return Draws.of(redrawn.counts.T[:, of_input].astype(np.int64))

    def _has_worked(self, row: Metric, names: np.ndarray) -> bool:
        """Return whether a metric, of names (concept,), is none of one's own that failed."""
        is_silent = not row.is_built_in and bool((names == "").all())
        return not (is_silent or self.tolerance.has_failed(row.name))

    @staticmethod
    def _count_verdicts(names: xr.Dataset) -> dict[str, Any]:
        """Return the shares of tested names, and of tested consensus, that are above chance."""
        shares: dict[str, Any] = {}
        for name, dims in (("chance", ("metric",)), ("consensus_chance", ())):
            verdict = names[name].values
            is_tested = (verdict != "") & (verdict != UNTESTED)
            for what, kind in (("above", ABOVE), ("at", AT_CHANCE)):
                share = divide((verdict == kind).sum(axis=0), is_tested.sum(axis=0))
                shares[f"{name.removesuffix('chance')}{what}_chance_share"] = (dims, share)
        return shares

    def summarise(self, names: xr.Dataset, chance: Chance | None = None) -> xr.Dataset:
        """Return what is said of the names of all concepts together; those by rank may be left out.

        ``names`` is as `join_names` returns it, ``chance`` as `test`.
        """
        consensus, votes = names["consensus"].values, names["consensus_votes"].values
        best, is_elected = names["name"].values, votes > 0
        has_worked = np.array(
            [self._has_worked(row, own) for row, own in zip(self.rows, best.T, strict=True)]
        )
        whole, voting = best[:, has_worked], self.voting & has_worked
        n_voting = int(voting.sum())
        is_named = (whole != "").all(axis=1) & (whole.shape[1] > 0)
        agrees = is_named & (whole == whole[:, :1]).all(axis=1)
        n_pairs = len(best) * (len(self.label_names) - 1)
        summary = xr.Dataset(
            {
                "verdict": ("metric", np.array(self.verdicts, dtype=object)),
                "votes": ("metric", voting),
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
                "confidence": self.options.confidence,
                "min_positives": self.options.min_positives,
                "min_active": self.options.min_active,
                "n_rare_labels": int(self.choice.is_rare.sum()),
                "n_few_active": int(names["few_active"].sum()),
                "n_left_out": self.n_left_out,
                "n_class_labels": int(self.choice.is_class.sum()),
                "prefer": self.options.prefer,
                "n_permutations": 0 if chance is None else chance.n_permutations,
                "n_tested": 0 if chance is None else len(chance.concepts),
                **({} if chance is None else self._count_verdicts(names)),
                **bounds_of(self.rows),
            },
            {"metric": [row.name for row in self.rows]},
        )
        if self.right is None:
            return summary
        right = names["right_label"].values
        rare = np.asarray(self.label_names)[:-1][self.choice.is_rare]
        known = (right != "") & ~np.isin(right, rare)
        return summary.assign(
            right_share=(
                "metric",
                divide((best == right[:, None])[known].sum(axis=0), known.sum()),
            ),
            consensus_right_share=divide((consensus == right)[known].sum(), known.sum()),
            n_right_known=int(known.sum()),
        )


def _require_two(sequences: np.ndarray) -> None:
    """Raise unless inputs are of at least two sequences (input,), one for each half.

    Raises
    ------
    ValueError
        With what to do.
    """
    if len(np.unique(sequences.astype(str))) < 2:
        raise ValueError(
            "by_sequence: names are chosen on one half of the sequences and scored on the other; "
            f"all {counted(len(sequences), 'input')} are of one, {str(sequences[0])!r}. Bring "
            "more sequences, or cut it into several, whose names stand before the last '/'"
        )


def _require_exchangeable(halves: Sequence[np.ndarray], level: float) -> None:
    """Raise unless sequences (input,) of each half can change places often enough for a test.

    Raises
    ------
    ValueError
        If in a half no sequence is as long as another, or all their arrangements are so few that
        no p can reach the level.
    """
    sizes = [np.unique(half.astype(str), return_counts=True)[1] for half in halves]
    alike = [np.unique(own, return_counts=True)[1] for own in sizes]
    arrangements = [float(gammaln(own + 1).sum()) for own in alike]
    if min(arrangements) > 0 and sum(arrangements) >= -math.log(level + 1e-12):
        return
    movable = " and ".join(f"{own[own > 1].sum()} of {own.sum()}" for own in alike)
    are_alike = len(np.unique(np.concatenate(sizes))) == 1
    remedy = "Bring more of them" if are_alike else "Cut or pad sequences to equal lengths"
    raise ValueError(
        f"by_sequence: sequences change places with others of their length alone, as {movable} "
        f"of the two halves can: too few for a test against chance. {remedy}, or make no "
        "permutations (n_permutations = 0)"
    )


def _relabelling(activations: np.ndarray, draws: Draws) -> Callable[[np.ndarray], DrawnStatistics]:
    """Return what gives the statistics of activations (input,) and labels, drawn anew."""
    if not activations.all():
        return lambda labels: DrawnStatistics.of_draws(activations, labels, draws)
    return DrawnStatistics.of_draws(activations, activations, draws).relabelled


def _rarer(labels: PreparedLabels) -> np.ndarray:
    """Return on how many inputs (label,) each label is, or is not, whichever are fewer."""
    totals = labels.truth.totals
    return np.asarray(np.minimum(totals, labels.columns.n_inputs - totals))


def _count_active(presence: Columns) -> np.ndarray:
    """Return at how many inputs each concept exceeds its smallest value (concept,)."""
    counts = [
        count_above_smallest(presence.block(own.start, own.stop, dtype=None))
        for own in presence.slices(BOOTSTRAP_BLOCK)
    ]
    return np.concatenate(counts)


def _find_known(right: np.ndarray, labels: xr.DataArray, every_label: xr.DataArray) -> np.ndarray:
    """Return the index of each ground-truth label (neuron,), -1 if unknown or all are others.

    Of ``every_label`` some may be left out of ``labels``: they are not known.
    """
    known, kept = (own["concept"].values.astype(str) for own in (every_label, labels))
    names = right.astype(str)
    if np.isin(names, known).any():
        left_out = np.setdiff1d(known, kept)
        return find_concepts(np.where(np.isin(names, left_out), "", names), labels)
    return np.full(len(right), UNKNOWN)


def _join(parts: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    listed = list(parts)
    return {name: np.concatenate([part[name] for part in listed]) for name in listed[0]}


def _quantiles(scores: np.ndarray, shares: list[float]) -> np.ndarray:
    defined = scores[np.isfinite(scores)]
    return np.quantile(defined, shares) if len(defined) else np.full(len(shares), np.nan)
