"""Contract tests for metrics, of any row of the table, built in or not.

A metric that somebody adds is scored block by block, in threads, on inputs in any order, from any
container, and shown beside its bounds. Whatever breaks that is found here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from evals.kernels.blocks import score_arrays
from evals.kernels.columns import Columns
from evals.kernels.draws import DrawnStatistics, Draws
from evals.metrics.registered import find_metric
from evals.metrics.table import Metric, MetricError, Parameters, UnknownMetricError
from registry.wording import counted

ALPHA = 0.05
TOLERANCE = 1e-12  # relative, of what is built in
TOLERANCE_OF_ARRAYS = 1e-9  # of a formula whose sums over inputs may be taken in another order
SMALLEST = 1e-14  # absolute, of the same, relative to the largest score

Check = Callable[["Subject"], Iterator[str]]


@dataclass(frozen=True)
class Subject:
    """A metric, and data on which it is checked.

    Attributes
    ----------
    row : Metric
        What is checked.
    activations : ndarray
        (input, neuron): continuous, tied, rectified, sparse, negative, binary, constant.
    labels : ndarray
        (input, concept): probabilities, rounded ones, bits, rare, empty, full, a neuron's.
    """

    row: Metric
    activations: np.ndarray
    labels: np.ndarray

    def score(
        self, activations: object = None, labels: object = None, **options: int
    ) -> np.ndarray:
        """Return the scores (neuron, concept) of these data, or of others instead."""
        a = self.activations if activations is None else activations
        c = self.labels if labels is None else labels
        return score_arrays([self.unbounded], a, c, Parameters(ALPHA), **options)[self.row.name]

    @property
    def unbounded(self) -> Metric:
        """The metric without its bounds, which are a check of their own."""
        return replace(self.row, bounds=None)

    def differs(self, one: np.ndarray, other: np.ndarray) -> bool:
        """Return whether scores differ by more than rounding."""
        plain = self.row.family == "arrays"
        scale = np.abs(one[np.isfinite(one)]).max(initial=0.0)
        return not np.allclose(
            one,
            other,
            rtol=TOLERANCE_OF_ARRAYS if plain else TOLERANCE,
            atol=SMALLEST * scale,
            equal_nan=True,
        )


def _draw(rng: np.random.Generator, n_inputs: int = 300) -> tuple[np.ndarray, np.ndarray]:
    normal = rng.normal(size=n_inputs)
    neurons = [
        normal,
        np.round(normal, 1),
        np.maximum(rng.normal(size=n_inputs), 0),
        rng.gamma(2, size=n_inputs) * (rng.random(n_inputs) < 0.03),
        -1 - rng.random(n_inputs),
        (rng.random(n_inputs) < 0.1).astype(float),
        np.full(n_inputs, 0.25),  # whose mean is exact, so that formulas see that nothing varies
        np.zeros(n_inputs),
    ]
    uniform = rng.random(n_inputs)
    concepts = [
        uniform,
        np.round(uniform, 1),
        (rng.random(n_inputs) < 0.3).astype(float),
        (rng.random(n_inputs) < 0.02).astype(float),
        np.zeros(n_inputs),
        np.ones(n_inputs),
        neurons[5],  # the right concept of one, so that scores reach their bounds
    ]
    return np.stack(neurons, axis=1), np.stack(concepts, axis=1)


def examine(metric: str | Metric) -> list[str]:
    """Return what is wrong with a metric, nothing for one that keeps the contract.

    Parameters
    ----------
    metric : str or Metric
        A row of the table of metrics.

    Returns
    -------
    list of str
        A sentence for each fault, beginning with the name of the check in `CHECKS`.

    Examples
    --------
    >>> examine("iou")
    []
    """
    row = find_metric(metric)
    subject = Subject(row, *_draw(np.random.default_rng(0)))
    if faults := _told("scores", _defined, subject):
        return _told("untouched", _untouched, subject) or faults
    return [fault for name, check in CHECKS.items() for fault in _told(name, check, subject)]


def _told(name: str, check: Check, subject: Subject) -> list[str]:
    """Return what a check finds; other people's code may raise anything, which is found too."""
    faults: list[str] = []
    try:
        faults.extend(check(subject))
    except MetricError as error:
        faults.append(str(error))
    except Exception as error:
        faults.append(f"{type(error).__name__}: {error}")
    return [f"{name}: {fault}" for fault in faults]


def _defined(subject: Subject) -> Iterator[str]:
    scores = subject.score()
    if not np.isfinite(scores).any():
        yield f"all {scores.size} are undefined (NaN) or infinite, also where neuron and label vary"


def _finite(subject: Subject) -> Iterator[str]:
    n_infinite = int(np.isinf(subject.score()).sum())
    if n_infinite:
        yield (
            f"{counted(n_infinite, 'score is', 'scores are')} infinite; expected numbers, or NaN "
            "where undefined"
        )


def _bounds(subject: Subject) -> Iterator[str]:
    bounds, scores = subject.row.bounds, subject.score()
    if bounds is None or np.isnan(scores).all():
        return
    low, high = np.nanmin(scores), np.nanmax(scores)
    if low < bounds[0] or high > bounds[1]:
        yield f"scores from {low:.6g} to {high:.6g}; expected {bounds[0]:g} to {bounds[1]:g}"


def _order(subject: Subject) -> Iterator[str]:
    order = np.random.default_rng(1).permutation(len(subject.activations))
    named = Columns(subject.activations, inputs=np.arange(len(order)))
    moved = Columns(subject.activations[order], inputs=order)
    first, second = subject.score(named), subject.score(moved, subject.labels[order])
    if subject.differs(first, second):
        yield "another order of inputs gives other scores"


def _blocks(subject: Subject) -> Iterator[str]:
    if subject.differs(subject.score(), subject.score(block_size=1)):
        yield "a neuron has another score beside others than alone"
    if subject.differs(subject.score(), subject.score(block_size=3, workers=2)):
        yield "in two threads the scores are others"


def _concepts(subject: Subject) -> Iterator[str]:
    alone = [subject.score(labels=subject.labels[:, [m]]) for m in range(subject.labels.shape[1])]
    if subject.differs(subject.score(), np.concatenate(alone, axis=1)):
        yield "a concept has another score beside others than alone"


def _containers(subject: Subject) -> Iterator[str]:
    held = sparse.csr_array(subject.activations), sparse.csr_array(subject.labels)
    if subject.differs(subject.score(), subject.score(*held)):
        yield "sparse arrays give other scores than dense ones of the same numbers"


def _untouched(subject: Subject) -> Iterator[str]:
    before = subject.activations.copy(), subject.labels.copy()
    is_tried = False
    try:
        subject.score()
    except Exception as error:  # any other is told already
        is_tried = "read-only" in str(error)
    if is_tried or not all(map(np.array_equal, before, (subject.activations, subject.labels))):
        yield "the arrays that were given are changed"


def _repeated(subject: Subject) -> Iterator[str]:
    if not np.array_equal(subject.score(), subject.score(), equal_nan=True):
        yield "the same call gives other scores; draw by needs=('seed',)"


def _partner(subject: Subject) -> Iterator[str]:
    if subject.row.partner is None:
        return
    try:
        partner = find_metric(subject.row.partner)
    except UnknownMetricError as error:
        yield str(error)
        return
    one, other = subject.activations[:, :4] > 0.4, subject.labels[:, :4] > 0.6
    if subject.differs(subject.unbounded(one, other), partner(other, one).T):
        yield f"with neuron and concept exchanged it is not {partner.name!r}, on binary data"


def _redrawn(subject: Subject) -> Iterator[str]:
    """Check what intervals are made of: inputs drawn several times count several times."""
    if "seed" in subject.row.needs:  # draws by name, which a repeated input has once
        return
    draws = Draws.bootstrap(len(subject.labels), 3, np.random.default_rng(2))
    for j, m in ((0, 0), (1, 2), (2, 1)):
        pair = subject.activations[:, j], subject.labels[:, m]
        statistics = DrawnStatistics.of_draws(*pair, draws)
        got = subject.unbounded.evaluate(statistics, Parameters(ALPHA))
        repeated = [
            [np.repeat(values, times)[:, None] for values in pair] for times in draws.counts.T
        ]
        expected = np.concatenate([subject.score(*each)[0] for each in repeated])
        if subject.differs(expected, got):
            yield "inputs that are drawn twice do not count twice"
            return


CHECKS: Mapping[str, Check] = {
    "finite": _finite,
    "bounds": _bounds,
    "order": _order,
    "blocks": _blocks,
    "concepts": _concepts,
    "containers": _containers,
    "untouched": _untouched,
    "repeated": _repeated,
    "redrawn": _redrawn,
    "partner": _partner,
}
"""Name to a check, which yields what is wrong."""
