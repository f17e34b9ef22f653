"""A metric tried on binary neurons that are their own concept, one outcome per test and frequency.

What is drawn is drawn once, and serves all metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evals.kernels.draws import DrawnStatistics
from evals.metrics.table import Metric, Parameters
from evals.sanity.binary_neurons import (
    ACTIVE,
    BinaryNeurons,
    CountedStatistics,
    NeedsInputsError,
    PairScore,
    SimulatedInputs,
)
from evals.sanity.protocol import TESTS
from evals.sanity.verdicts import CRITERION, Criterion, Outcome, bounds_of_scores
from evals.scoring.original_ties import Replay

Outcomes = Mapping[str, Sequence[Outcome]]
"""Test to the outcome at each frequency."""


@dataclass
class BinaryTrial:
    """Where metrics are tried.

    Parameters
    ----------
    setting : BinaryNeurons
        The neurons and their faults.
    n_draws : int
        Draws of counts.
    simulated_draws : int
        Draws of arrays, for metrics that are functions of arrays and for replays.
    criterion : Criterion
        By how much a score must fall.
    replays : mapping of str to Replay
        Metrics that are computed as other code does.
    """

    setting: BinaryNeurons
    n_draws: int
    simulated_draws: int
    criterion: Criterion = CRITERION
    replays: Mapping[str, Replay] = field(default_factory=dict)
    _statistics: dict[tuple[str, int], tuple[DrawnStatistics, DrawnStatistics]] = field(
        default_factory=dict
    )
    _pairs: list[CountedStatistics] = field(default_factory=list)

    def try_metric(self, row: Metric) -> Outcomes:
        """Return the outcomes of a metric: by counts, or by arrays where counts do not do."""
        if row.name in self.replays:
            return self.replay(row, self.replays[row.name])
        try:
            return self.count(row)
        except NeedsInputsError:
            return self.simulate(row)

    def count(self, row: Metric) -> Outcomes:
        """Draw how many inputs there are of each kind.

        Raises
        ------
        NeedsInputsError
            If the metric is a function of arrays.
        """
        bounds = row.bounds or bounds_of_scores([row.evaluate(self._all_pairs())])
        outcomes: dict[str, list[Outcome]] = {test: [] for test in TESTS}
        for test, which in self._indices():
            seed = self.setting.generator(which, TESTS.index(test), 2).integers(1 << 62)
            parameters = Parameters(seed=int(seed))
            held = self._counted(test, which)
            original, corrupted = (row.evaluate(statistics, parameters) for statistics in held)
            outcomes[test].append(Outcome.of_draws(original, corrupted, bounds, self.criterion))
        return outcomes

    def simulate(self, row: Metric) -> Outcomes:
        """Draw every input."""

        def score(activations: np.ndarray, labels: np.ndarray, draw: int) -> np.ndarray:
            return row(activations, labels, seed=draw)

        inputs = SimulatedInputs(self.setting)
        bounds = row.bounds
        if bounds is None:
            first = [inputs.concepts, *(inputs.corrupt(test, 0) for test in TESTS)]
            bounds = bounds_of_scores([inputs.score_all(score, first)])
        original = self._score(inputs, score, lambda draw: inputs.concepts)
        return {
            test: [
                Outcome.of_draws(*scores, bounds, self.criterion)
                for scores in zip(original, self._score_corrupted(inputs, score, test), strict=True)
            ]
            for test in TESTS
        }

    def replay(self, row: Metric, replay: Replay) -> Outcomes:
        """Test as the published code does: one noisy score on original labels serves all draws."""
        inputs = SimulatedInputs(self.setting, in_order=True)
        noise = self.setting.generator(len(TESTS))

        def score(activations: np.ndarray, labels: np.ndarray, draw: int) -> float:
            return replay(activations.ravel(), labels.ravel(), noise)

        original = self._score(inputs, score, lambda draw: inputs.concepts)
        bounds = row.bounds or bounds_of_scores([original])
        return {
            test: [
                Outcome.of_single_original(*scores, bounds, self.criterion)
                for scores in zip(original, self._score_corrupted(inputs, score, test), strict=True)
            ]
            for test in TESTS
        }

    def _indices(self) -> Iterator[tuple[str, int]]:
        for test in TESTS:
            for which in range(len(self.setting.n_active)):
                yield test, which

    def _counted(self, test: str, which: int) -> tuple[DrawnStatistics, DrawnStatistics]:
        """Return statistics of original and of corrupted labels, of the same inputs."""
        if (test, which) not in self._statistics:
            corrupted = self.setting.statistics(which, test, self.n_draws)
            self._statistics[test, which] = corrupted.relabelled(ACTIVE), corrupted
        return self._statistics[test, which]

    def _all_pairs(self) -> CountedStatistics:
        if not self._pairs:
            self._pairs.append(self.setting.all_pairs())
        return self._pairs[0]

    def _score_corrupted(self, inputs: SimulatedInputs, score: PairScore, test: str) -> np.ndarray:
        return self._score(inputs, score, lambda draw: inputs.corrupt(test, draw))

    def _score(
        self, inputs: SimulatedInputs, score: PairScore, label: Callable[[int], Any]
    ) -> np.ndarray:
        """Return the scores (frequency, draw) of every neuron with its own concept."""
        draws = range(self.simulated_draws)
        return np.array([inputs.score(score, label(draw), draw) for draw in draws]).T
