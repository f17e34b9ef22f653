"""Statistics of one pair, its inputs weighted anew in every draw.

Weights say how often an input counts: in a bootstrap, how often it was drawn; where everything is
binary, how many inputs there are of each of four kinds. Inputs that agree in activation and label
may stand together as one cell with their joint weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numba import njit

from evals.kernels.columns import bring_to_range
from evals.kernels.statistics import (
    DRAWING,
    LABEL_THRESHOLD,
    SMALLEST_LABEL,
    Counts,
    Drawing,
    Moments,
    count_top,
    divide,
    kept,
    require_binary,
)

FEW_CELLS = 64  # up to which one hypergeometric number a cell is cheapest


@dataclass(frozen=True)
class _Groups:
    """Cells in groups of equal value, from the largest value down.

    Attributes
    ----------
    order : ndarray
        (cell,) cells in that order.
    ends : ndarray
        (group,) index in `order` after each group's last cell.
    values : ndarray
        (group,) value of the group.
    of_cell : ndarray
        (cell,) the group of each cell.
    """

    order: np.ndarray
    ends: np.ndarray
    values: np.ndarray
    of_cell: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> _Groups:
        distinct, of_cell = np.unique(-values, return_inverse=True)
        ends = np.cumsum(np.bincount(of_cell))
        return cls(np.argsort(of_cell, kind="stable"), ends, -distinct, of_cell)

    def cumulate(self, weights: np.ndarray) -> np.ndarray:
        """Return the weight (group, draw) of all cells (cell, draw) down to each group's last."""
        return np.asarray(_cumulate(weights, self.order, self.ends))


@dataclass(frozen=True)
class Draws:
    """How often each input was drawn.

    Attributes
    ----------
    counts : ndarray
        (input, draw) whole numbers, at least 0.
    totals : ndarray
        (draw,) inputs in each draw, at least 1.
    """

    counts: np.ndarray
    totals: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray) -> Draws:
        """Return the draws of counts (draw, input), in a small type that holds their sums."""
        totals = counts.sum(axis=1)
        dtype = np.uint16 if totals.max() < 1 << 16 else np.uint32
        return cls(np.ascontiguousarray(counts.T, dtype=dtype), totals)

    @classmethod
    def bootstrap(cls, n_inputs: int, n_draws: int, generator: np.random.Generator) -> Draws:
        """Draw as many inputs as there are, with replacement."""
        shares = np.full(n_inputs, 1 / n_inputs)
        return cls.of(generator.multinomial(n_inputs, shares, size=n_draws))


class DrawnStatistics:
    """One pair under many weightings of its inputs: arrays (draw,).

    Parameters
    ----------
    activations, labels : ndarray
        (cell,) values; a label is 0 or 1, or a probability.
    weights : ndarray
        (cell, draw) whole numbers, at least 0: inputs in each cell. Every draw holds an input.
    """

    def __init__(self, activations: np.ndarray, labels: np.ndarray, weights: np.ndarray):
        self._activations = np.asarray(activations, dtype=np.float64)
        self._labels = np.asarray(labels, dtype=np.float64)
        dtype = weights.dtype if weights.dtype in (np.uint16, np.uint32) else np.float64
        self._weights = np.ascontiguousarray(weights, dtype=dtype)
        self._total = self._weights.sum(axis=0, dtype=np.float64)
        self._active: dict[float | None, np.ndarray] = {}
        self._draws: dict[tuple[int, Drawing], np.ndarray] = {}

    def relabelled(self, labels: np.ndarray) -> DrawnStatistics:
        """Return the statistics of the same inputs with other labels (cell,).

        Inputs that metrics draw are the same ones.
        """
        other = type(self)(self._activations, labels, self._weights)
        other._active, other._draws = self._active, self._draws
        known = vars(self)
        vars(other).update({k: known[k] for k in ("_by_activation", "_reached") if k in known})
        return other

    @classmethod
    def of_draws(cls, activations: np.ndarray, labels: np.ndarray, draws: Draws) -> DrawnStatistics:
        """Return the statistics of inputs (input,) that were each drawn some times.

        Inputs with activation and label 0 stand together in one cell, so that sparse pairs cost
        little. Where no activation is 0, `relabelled` gives those of other labels.
        """
        kept = np.flatnonzero((activations != 0) | (labels != 0))
        if len(kept) == len(activations):
            return cls(activations, labels, draws.counts)
        weights = np.empty((len(kept) + 1, len(draws.totals)), dtype=draws.counts.dtype)
        np.take(draws.counts, kept, axis=0, out=weights[:-1])
        weights[-1] = draws.totals - weights[:-1].sum(axis=0, dtype=np.int64)
        return cls(np.append(activations[kept], 0), np.append(labels[kept], 0), weights)

    @property
    def shape(self) -> tuple[int]:
        """Number of draws."""
        return (len(self._total),)

    @cached_property
    def _by_activation(self) -> _Groups:
        return _Groups.of(self._activations)

    @cached_property
    def _by_label(self) -> _Groups:
        return _Groups.of(self._labels)

    @cached_property
    def _is_labelled(self) -> np.ndarray:
        return self._labels >= LABEL_THRESHOLD

    @cached_property
    def _reached(self) -> np.ndarray:
        return self._by_activation.cumulate(self._weights)

    def _activity(self, alpha: float | None) -> np.ndarray:
        """Return how many inputs of each cell are active (cell, draw)."""
        if alpha not in self._active:
            is_active = self._by_activation.of_cell[:, None] < self._count_active_groups(alpha)
            self._active[alpha] = self._weights * is_active
        return self._active[alpha]

    def _count_active_groups(self, alpha: float | None) -> np.ndarray:
        """Return in each draw how many of the highest groups are active."""
        values = self._by_activation.values
        if alpha is None:
            require_binary(values)
            return np.full(len(self._total), np.count_nonzero(values == 1))
        tops = {total: count_top(alpha, int(total)) for total in set(self._total.tolist())}
        top = np.array([tops[total] for total in self._total.tolist()], dtype=np.float64)
        cutoff = _first_reaching(self._reached, top)
        reached = np.take_along_axis(self._reached, cutoff[None], axis=0)[0]
        at_end = (values[cutoff] == 0) | (reached == self._total)
        return np.asarray(np.where(at_end, cutoff, cutoff + 1))

    @kept
    def counts(self, alpha: float | None) -> Counts:
        """Inputs that are active, labelled, or both."""
        active = self._activity(alpha)
        both, labelled = (held[self._is_labelled] for held in (active, self._weights))
        sums = (held.sum(axis=0, dtype=np.float64) for held in (both, active, labelled))
        n_both, n_active, n_labelled = sums
        return Counts.of(n_both, n_active, n_labelled, self._total)

    @cached_property
    def moments(self) -> Moments:
        """Means, deviations and inner products."""
        return self._moments(self._labels, self._by_label)

    @cached_property
    def label_moments(self) -> Moments:
        """Means, deviations and inner products of activations and binary labels."""
        labelled = self._is_labelled.astype(np.float64)
        return self._moments(labelled, _Groups.of(labelled))

    def _moments(self, labels: np.ndarray, groups: _Groups) -> Moments:
        (a, exponents), (c, _) = (bring_to_range(v[:, None]) for v in (self._activations, labels))
        a, c, w, total = a[:, 0], c[:, 0], self._weights, self._total
        weight = np.nansum(w, axis=1, dtype=np.float64)  # NaN: a draw in which nothing is drawn
        shares = weight / max(1, weight.sum())
        u, v = a - np.sum(shares * a), c - np.sum(shares * c)
        terms = np.stack([u, v, u * v, u * u, v * v, a * c, a * a, c * c], axis=1)
        sums = _sum_weighted(w, terms)
        mean = sums / total
        return Moments(
            covariance=mean[2] - mean[0] * mean[1],
            activation_deviation=self._deviation(mean[3], mean[0], self._by_activation),
            label_deviation=self._deviation(mean[4], mean[1], groups),
            inner=sums[5],
            activation_norm=np.sqrt(sums[6]),
            label_norm=np.sqrt(sums[7]),
            exponent=int(exponents[0]),
        )

    def _deviation(self, square: np.ndarray, mean: np.ndarray, groups: _Groups) -> np.ndarray:
        is_varied = _find_varied(self._weights, groups.of_cell)
        return np.where(is_varied, np.sqrt(np.maximum(square - mean**2, 0)), 0)

    @cached_property
    def rank_moments(self) -> Moments:
        """Means, deviations and inner products of midranks, doubled and centred."""
        w, total, ranks = self._weights, self._total, []
        for reached in (self._reached, self._by_label.cumulate(w)):
            doubled = total - reached
            doubled[1:] -= reached[:-1]
            ranks.append(doubled)
        of_cell = self._by_activation.of_cell, self._by_label.of_cell
        *squares, inner = _sum_products(w, *of_cell, *ranks)
        norms = np.sqrt(squares[0]), np.sqrt(squares[1])
        roots = np.sqrt(total)
        return Moments(inner / total, norms[0] / roots, norms[1] / roots, inner, *norms)

    def mean_log_label(self, alpha: float | None) -> np.ndarray:
        """Mean over active inputs of the label's logarithm, clamped below at log 1e-8."""
        logarithms = np.log(np.maximum(self._labels, SMALLEST_LABEL))
        active = self._activity(alpha)
        n_active = active.sum(axis=0)
        return np.asarray(logarithms @ active / np.where(n_active > 0, n_active, np.nan))

    def log_mean_label(self) -> np.ndarray:
        """Logarithm of the label's mean over all inputs, NaN for an empty concept."""
        mean = _sum_weighted(self._weights, self._labels[:, None])[0] / self._total
        return np.asarray(np.log(mean, out=np.full(len(mean), np.nan), where=mean > 0))

    @kept
    def top_and_random(self, seed: int, drawing: Drawing = DRAWING) -> DrawnStatistics:
        """Inputs drawn from those where the neuron is strongest, and from all."""
        drawn = self.draw_weights(seed, drawing)
        some = (drawn != 0).any(axis=1)
        return DrawnStatistics(self._activations[some], self._labels[some], drawn[some])

    def draw_weights(self, seed: int, drawing: Drawing = DRAWING) -> np.ndarray:
        """Return how often inputs of each cell were drawn (cell, draw), from the top and from all.

        NaN in a draw in which nothing is at the top.
        """
        key = seed, drawing
        if key not in self._draws:
            self._draws[key] = self._draw_weights(seed, drawing)
        return self._draws[key]

    def _draw_weights(self, seed: int, drawing: Drawing) -> np.ndarray:
        weights, top = (
            held.astype(np.int64) for held in (self._weights, self._activity(drawing.share))
        )
        generator = np.random.default_rng(seed)
        drawn = _draw(top, drawing.size, generator)
        drawn += _draw(weights, drawing.size, generator)
        drawn[:, ~top.any(axis=0)] = np.nan
        return drawn

    @kept
    def _detect_active(self, alpha: float | None) -> tuple[np.ndarray, np.ndarray]:
        return self._detect(self._by_label, self._activity(alpha))

    @kept
    def _detect_labelled(self) -> tuple[np.ndarray, np.ndarray]:
        return self._detect(self._by_activation, self._weights * self._is_labelled[:, None])

    def _detect(self, groups: _Groups, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return average precision and area under the ROC curve."""
        reached, found, precision, wins = np.zeros((4, true.shape[1]))
        _walk(self._weights, true, groups.order, groups.ends, reached, found, precision, wins)
        pairs = found * (reached - found)
        return divide(precision, found), divide(wins, pairs)

    def average_precision(self, alpha: float | None) -> np.ndarray:
        """Average precision of labels as scores of active inputs."""
        return self._detect_active(alpha)[0]

    def inverse_average_precision(self) -> np.ndarray:
        """Average precision of activations as scores of labelled inputs."""
        return self._detect_labelled()[0]

    def roc_area(self, alpha: float | None) -> np.ndarray:
        """Area under the ROC curve of labels as scores of active inputs."""
        return self._detect_active(alpha)[1]

    def inverse_roc_area(self) -> np.ndarray:
        """Area under the ROC curve of activations as scores of labelled inputs."""
        return self._detect_labelled()[1]

    def compute(self, function: Callable[..., np.ndarray], **parameters: Any) -> np.ndarray:
        """Call a function of activations (input, neuron) and labels (input, concept), per draw."""
        scores = np.empty(len(self._total))
        for draw, weights in enumerate(self._weights.T.astype(np.int64)):
            activations = np.repeat(self._activations, weights)[:, None]
            labels = np.repeat(self._labels, weights)[:, None]
            scores[draw] = _only_number(function(activations, labels, **parameters))
        return scores


def _only_number(returned: Any) -> float:
    array = np.asarray(returned)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise ValueError(f"expected one real number for one pair; got {array.dtype} {array.shape}")
    return float(array.item())


def _draw(weights: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """Draw inputs without replacement in each draw: their number in each cell (cell, draw)."""
    drawn = np.zeros(weights.shape)
    left = weights.sum(axis=0)
    sizes = np.minimum(size, left)
    if len(weights) <= FEW_CELLS:  # cell by cell, given what those before have taken
        for cell, here in enumerate(weights):
            left = left - here
            drawn[cell] = taken = generator.hypergeometric(here, left, sizes)
            sizes = sizes - taken
        return drawn
    cells = np.flatnonzero(weights.any(axis=1))
    in_a_row = np.cumsum(np.ascontiguousarray(weights[cells].T), axis=1)
    places = []
    for draw in np.flatnonzero(sizes):  # inputs in a row, of which some are drawn
        ends = in_a_row[draw]
        indices = generator.choice(ends[-1], sizes[draw], replace=False, shuffle=False)
        taken = cells[np.searchsorted(ends, indices, side="right")]
        places.append(taken * weights.shape[1] + draw)
    if places:
        np.add.at(drawn.reshape(-1), np.concatenate(places), 1)
    return drawn


@njit(nogil=True, cache=True)
def _first_reaching(reached, least):  # type: ignore[no-untyped-def]
    """Return the first group of each draw down to which its weight (group, draw) is at least so."""
    found = np.empty(least.size, np.int64)
    for draw in range(least.size):
        low, high = 0, reached.shape[0] - 1
        while low < high:
            middle = (low + high) // 2
            if reached[middle, draw] >= least[draw]:
                high = middle
            else:
                low = middle + 1
        found[draw] = low
    return found


@njit(nogil=True, cache=True)
def _find_varied(weights, of_cell):  # type: ignore[no-untyped-def]
    """Return in which draws cells of more than one group have weight."""
    first = np.full(weights.shape[1], -1)
    is_varied = np.zeros(weights.shape[1], np.bool_)
    left = weights.shape[1]
    for cell in range(weights.shape[0]):
        if not left:
            break
        for draw in range(weights.shape[1]):
            if is_varied[draw] or not weights[cell, draw] > 0:
                continue
            if first[draw] < 0:
                first[draw] = of_cell[cell]
            elif first[draw] != of_cell[cell]:
                is_varied[draw] = True
                left -= 1
    return is_varied


@njit(nogil=True, cache=True)
def _sum_products(weights, of_cell, other_of_cell, ranks, others):  # type: ignore[no-untyped-def]
    """Return sums (3, draw) of weighted squares and products of ranks (group, draw) of cells."""
    sums = np.zeros((3, weights.shape[1]))
    for cell in range(weights.shape[0]):
        own, other = ranks[of_cell[cell]], others[other_of_cell[cell]]
        for draw in range(weights.shape[1]):
            of_own, of_other = weights[cell, draw] * own[draw], weights[cell, draw] * other[draw]
            sums[0, draw] += of_own * own[draw]
            sums[1, draw] += of_other * other[draw]
            sums[2, draw] += of_own * other[draw]
    return sums


@njit(nogil=True, cache=True)
def _cumulate(weights, order, ends):  # type: ignore[no-untyped-def]
    """Return the weight (group, draw) down to the end of each group."""
    reached = np.empty((ends.size, weights.shape[1]))
    cell = 0
    for group in range(ends.size):
        for draw in range(weights.shape[1]):
            reached[group, draw] = reached[group - 1, draw] if group else 0
        while cell < ends[group]:
            for draw in range(weights.shape[1]):
                reached[group, draw] += weights[order[cell], draw]
            cell += 1
    return reached


@njit(nogil=True, cache=True)
def _walk(weights, true, order, ends, reached, found, precision, wins):  # type: ignore[no-untyped-def]
    """Sum precision at each true cell, and pairs in order (draw,), from the highest group on."""
    before, missed_before = np.zeros_like(found), np.zeros_like(found)
    cell = 0
    for group in range(ends.size):
        for draw in range(found.size):
            before[draw], missed_before[draw] = found[draw], reached[draw] - found[draw]
        while cell < ends[group]:
            for draw in range(found.size):
                reached[draw] += weights[order[cell], draw]
                found[draw] += true[order[cell], draw]
            cell += 1
        for draw in range(found.size):
            gained, missed = found[draw] - before[draw], reached[draw] - found[draw]
            precision[draw] += gained * (found[draw] / max(reached[draw], 1.0))
            wins[draw] += (missed - missed_before[draw]) * ((before[draw] + found[draw]) / 2)


@njit(nogil=True, cache=True)
def _sum_weighted(weights, terms):  # type: ignore[no-untyped-def]
    """Return (term, draw) sums of terms (cell, term): a product too small for BLAS's threads."""
    sums = np.zeros((terms.shape[1], weights.shape[1]))
    for cell in range(weights.shape[0]):
        for term in range(terms.shape[1]):
            value = terms[cell, term]
            for draw in range(weights.shape[1]):
                sums[term, draw] += value * weights[cell, draw]
    return sums
