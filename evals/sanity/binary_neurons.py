"""A binary neuron that is its concept, and what faults in the concept's labels leave of it.

Where activations and labels are 0 or 1, a metric depends on four numbers alone: how many inputs
are active and labelled, active only, labelled only, neither. Their distribution under random
faults is known, so numbers are drawn, not inputs. A metric of which nothing is known is given
inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from evals.kernels.draws import DrawnStatistics
from evals.kernels.statistics import DRAWING, Drawing, NeedsInputsError, kept
from evals.metrics.table import Metric, Parameters
from evals.sanity.protocol import (
    CRITERION,
    FREQUENCIES,
    MISSING,
    N_INPUTS,
    RATES,
    TESTS,
    Criterion,
    Outcome,
    Rates,
    bounds_of_scores,
)
from evals.scoring.original_ties import Replay
from registry.wording import counted

ACTIVE = np.array([1, 1, 0, 0])
LABELLED = np.array([1, 0, 1, 0])
"""The four kinds of inputs: their activation, and their label."""

PairScore: TypeAlias = Callable[[np.ndarray, np.ndarray, int], Any]
"""Of activations (input, 1), labels (input, 1) and the number of the draw."""


class CountedStatistics(DrawnStatistics):
    """Statistics of inputs that are only counted."""

    def compute(self, function: Callable[..., np.ndarray], **parameters: Any) -> np.ndarray:
        """Raise NeedsInputsError: arrays of so many inputs in so many draws take minutes."""
        raise NeedsInputsError(getattr(function, "__name__", "metric"))


@dataclass(frozen=True)
class BinaryNeurons:
    """Binary neurons of several frequencies, the inputs of a rarer one among a commoner one's.

    Parameters
    ----------
    frequencies : tuple of float
        Fraction of inputs at which each neuron is active, and its concept present, in (0, 1).
    n_inputs : int
        Number of inputs.
    rates : Rates
        How many labels are corrupted.
    seed : int
        Another one draws others.

    Raises
    ------
    ValueError
        If a frequency is given twice, or comes to no input, or to all.
    """

    frequencies: tuple[float, ...] = FREQUENCIES
    n_inputs: int = N_INPUTS
    rates: Rates = RATES
    seed: int = 0

    def __post_init__(self) -> None:
        for frequency, n_active in zip(self.frequencies, self.n_active, strict=True):
            if not 0 < n_active < self.n_inputs:
                raise ValueError(
                    f"frequency {frequency!r} of {counted(self.n_inputs, 'input')} are {n_active}; "
                    "expected some, not all"
                )
        if len(set(self.n_active)) < len(self.n_active) or not self.frequencies:
            raise ValueError(f"expected different frequencies; got {self.frequencies}")

    @cached_property
    def n_active(self) -> tuple[int, ...]:
        """Inputs at which each neuron is active."""
        return tuple(round(frequency * self.n_inputs) for frequency in self.frequencies)

    def generator(self, *index: int) -> np.random.Generator:
        """Return the randomness of one index in the test."""
        return np.random.default_rng([self.seed, *index])

    def statistics(self, which: int, test: str, n_draws: int) -> CountedStatistics:
        """Return a neuron with its own concept's labels after faults, drawn many times.

        Parameters
        ----------
        which : int
            Index of the frequency.
        test : str
            "missing" or "extra".
        n_draws : int
            Draws.
        """
        n_active, labelled = self.n_active[which], self.draw_labelled(which, test, n_draws)
        n_inactive = self.n_inputs - n_active
        inside, outside = (labelled, 0) if test == MISSING else (n_active, labelled)
        cells = [inside, n_active - inside, outside, n_inactive - outside]
        weights = np.stack(np.broadcast_arrays(*cells))
        return CountedStatistics(ACTIVE, LABELLED, weights)

    def draw_labelled(self, which: int, test: str, n_draws: int) -> np.ndarray:
        """Return the positives (draw,) that are kept, or the negatives that became positive."""
        n_active = self.n_active[which]
        generator = self.generator(n_active, TESTS.index(test))
        if test == MISSING:
            return generator.binomial(n_active, self.rates.kept_share, size=n_draws)
        probability = self.rates.flip_probability(n_active, self.n_inputs)
        return generator.binomial(self.n_inputs - n_active, probability, size=n_draws)

    @cached_property
    def all_pairs(self) -> CountedStatistics:
        """Every neuron with every concept, on original, missing and extra labels.

        Pairs stand where draws do elsewhere; faults are those of the first draw.
        """
        pairs = [
            self._cells(n_active, bands)
            for which in range(len(self.n_active))
            for bands in self._label_bands(which)
            for n_active in self.n_active
        ]
        return CountedStatistics(ACTIVE, LABELLED, np.stack(pairs, axis=1))

    @cached_property
    def _edges(self) -> np.ndarray:
        return np.array([0, *sorted(self.n_active), self.n_inputs])

    def _label_bands(self, which: int) -> Iterator[np.ndarray]:
        """Yield how many inputs of each band, between two frequencies, have one concept's label."""
        widths, n_active = np.diff(self._edges), self.n_active[which]
        is_own = self._edges[1:] <= n_active
        own = np.where(is_own, widths, 0)
        yield own
        for number, test in enumerate(TESTS):
            labelled = self.draw_labelled(which, test, 1)[0]
            among = own if test == MISSING else widths - own
            generator = self.generator(n_active, number, 1)
            drawn = generator.multivariate_hypergeometric(among, labelled)
            yield drawn if test == MISSING else own + drawn

    def _cells(self, n_active: int, labelled: np.ndarray) -> np.ndarray:
        inside = labelled[self._edges[1:] <= n_active].sum()
        outside = labelled.sum() - inside
        n_inactive = self.n_inputs - n_active
        return np.array([inside, n_active - inside, outside, n_inactive - outside])


@dataclass(frozen=True)
class SimulatedInputs:
    """The same setting, input by input.

    Parameters
    ----------
    setting : BinaryNeurons
        What to make.
    in_order : bool
        Whether active inputs stand first, and not anywhere.
    """

    setting: BinaryNeurons
    in_order: bool = False

    @cached_property
    def concepts(self) -> np.ndarray:
        """(input, frequency) float64: activations, and labels without faults."""
        n_inputs = self.setting.n_inputs
        indices = np.arange(n_inputs)
        if not self.in_order:
            indices = self.setting.generator().permutation(n_inputs)
        return np.asarray(indices[:, None] < np.array(self.setting.n_active), dtype=np.float64)

    def corrupt(self, test: str, draw: int) -> np.ndarray:
        """Return labels (input, frequency) after faults."""
        concepts, setting = self.concepts, self.setting
        numbers = setting.generator(TESTS.index(test), draw).random(concepts.shape)
        if test == MISSING:
            return concepts * (numbers < setting.rates.kept_share)
        flips = [setting.rates.flip_probability(n, setting.n_inputs) for n in setting.n_active]
        return np.asarray(np.maximum(concepts, numbers < np.array(flips)))

    def score(
        self, function: PairScore, labels: np.ndarray, draw: int = 0, all_pairs: bool = False
    ) -> np.ndarray:
        """Return what a function makes of every neuron and its own concept, or every concept."""
        own = range(labels.shape[1])
        pairs = product(own, own) if all_pairs else zip(own, own, strict=True)
        scores = (function(self.concepts[:, [i]], labels[:, [j]], draw) for i, j in pairs)
        return np.array([np.asarray(score).item() for score in scores], dtype=np.float64)


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
    drawing: Drawing = DRAWING

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
        bounds = row.bounds or bounds_of_scores([row.evaluate(self.setting.all_pairs)])
        outcomes: dict[str, list[Outcome]] = {test: [] for test in TESTS}
        for test, which in product(TESTS, range(len(self.setting.n_active))):
            seed = self.setting.generator(which, TESTS.index(test), 2).integers(1 << 62)
            parameters = Parameters(seed=int(seed), drawing=self.drawing)
            held = self._counted(test, which)
            original, corrupted = (row.evaluate(statistics, parameters) for statistics in held)
            outcomes[test].append(Outcome.of(original, corrupted, bounds, self.criterion))
        return outcomes

    def simulate(self, row: Metric) -> Outcomes:
        """Draw every input."""

        def score(activations: np.ndarray, labels: np.ndarray, draw: int) -> np.ndarray:
            return row(activations, labels, seed=draw, drawing=self.drawing)

        inputs = SimulatedInputs(self.setting)
        bounds = row.bounds
        if bounds is None:
            first = [inputs.concepts, *(inputs.corrupt(test, 0) for test in TESTS)]
            bounds = bounds_of_scores(
                [inputs.score(score, labels, all_pairs=True) for labels in first]
            )
        original = self._score(inputs, score, lambda draw: inputs.concepts)
        return self._compare(inputs, score, original, bounds)

    def replay(self, row: Metric, replay: Replay) -> Outcomes:
        """Test as the published code does: one noisy score on original labels serves all draws."""
        inputs = SimulatedInputs(self.setting, in_order=True)
        noise = self.setting.generator(len(TESTS))

        def score(activations: np.ndarray, labels: np.ndarray, draw: int) -> float:
            return replay(activations.ravel(), labels.ravel(), noise)

        original = self._score(inputs, score, lambda draw: inputs.concepts)
        bounds = row.bounds or bounds_of_scores([original])
        return self._compare(inputs, score, original, bounds, is_paired=False)

    @kept
    def _counted(self, test: str, which: int) -> tuple[DrawnStatistics, DrawnStatistics]:
        """Return statistics of original and of corrupted labels, of the same inputs."""
        corrupted = self.setting.statistics(which, test, self.n_draws)
        return corrupted.relabelled(ACTIVE), corrupted

    def _compare(
        self,
        inputs: SimulatedInputs,
        score: PairScore,
        original: np.ndarray,
        bounds: tuple[float, float],
        is_paired: bool = True,
    ) -> Outcomes:
        """Return what becomes of scores on original labels (frequency, draw) in each test."""
        outcomes = {}
        for test in TESTS:
            corrupted = self._score(inputs, score, partial(inputs.corrupt, test))
            pairs = zip(original, corrupted, strict=True)
            outcomes[test] = [
                Outcome.of(*scores, bounds, self.criterion, is_paired) for scores in pairs
            ]
        return outcomes

    def _score(
        self, inputs: SimulatedInputs, score: PairScore, label: Callable[[int], Any]
    ) -> np.ndarray:
        """Return the scores (frequency, draw) of every neuron with its own concept."""
        draws = range(self.simulated_draws)
        return np.array([inputs.score(score, label(draw), draw) for draw in draws]).T
