"""What each metric is, for one pair, by definition: loops, exact fractions, SciPy."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
from scipy import stats

from evals.kernels.sampling import Sampler

NAN = float("nan")


def binarise(a: np.ndarray, alpha: float | None) -> np.ndarray:
    """Which inputs are active, by the words of the definition."""
    if alpha is None:
        return a == 1
    k = math.ceil(Fraction(Decimal(repr(alpha))) * len(a))
    cutoff = sorted(a.tolist(), reverse=True)[k - 1]
    if cutoff in (0, min(a.tolist())):
        return a > cutoff
    return a >= cutoff


def _contingency(a, c, alpha):
    active, labelled = binarise(a, alpha), c >= 0.5
    tp = sum(1 for x, y in zip(active, labelled, strict=True) if x and y)
    return tp, int(active.sum()), int(labelled.sum()), len(a)


def _ratio(numerator, denominator):
    return numerator / denominator if denominator else NAN


def recall(a, c, alpha):
    tp, p, _, _ = _contingency(a, c, alpha)
    return _ratio(tp, p)


def precision(a, c, alpha):
    tp, p, q, _ = _contingency(a, c, alpha)
    return _ratio(tp, q) if p else NAN


def f1_score(a, c, alpha):
    tp, p, q, _ = _contingency(a, c, alpha)
    return _ratio(2 * tp, p + q) if p else NAN


def iou(a, c, alpha):
    tp, p, q, _ = _contingency(a, c, alpha)
    return _ratio(tp, p + q - tp) if p else NAN


def accuracy(a, c, alpha):
    active = binarise(a, alpha)
    return _share(active == (c >= 0.5)) if active.any() else NAN


def balanced_accuracy(a, c, alpha):
    active = binarise(a, alpha)
    return both_recalls(active, c >= 0.5) if 0 < active.sum() < len(a) else NAN


def inverse_balanced_accuracy(a, c, alpha):
    active, labelled = binarise(a, alpha), c >= 0.5
    defined = active.any() and 0 < labelled.sum() < len(a)
    return both_recalls(labelled, active) if defined else NAN


def _share(which: np.ndarray) -> float:
    return np.count_nonzero(which) / len(which)


def both_recalls(truth: np.ndarray, found: np.ndarray) -> float:
    """The balanced accuracy: the mean of the shares that are found of either class."""
    return (_share(found[truth]) + _share(~found[~truth])) / 2


def pairs_in_order(truth: np.ndarray, score: np.ndarray) -> float:
    """The AUC: of all pairs of a positive and a negative, how many the score has in order."""
    above = score[truth][:, None] - score[~truth]
    return (np.count_nonzero(above > 0) + np.count_nonzero(above == 0) / 2) / above.size


def precision_by_threshold(truth: np.ndarray, score: np.ndarray) -> float:
    """The average precision: at every value of the score, times the recall that it adds."""
    found = score >= np.unique(score)[::-1, None]
    right = np.count_nonzero(found & truth, axis=1)
    added = np.diff(right, prepend=0) / np.count_nonzero(truth)
    return float(added @ (right / np.count_nonzero(found, axis=1)))


def _root(value: Fraction) -> Decimal:
    with localcontext() as context:
        context.prec = 60
        return (Decimal(value.numerator) / Decimal(value.denominator)).sqrt()


def _exact_quotient(numerator: Fraction, squared_denominator: Fraction) -> float:
    if squared_denominator == 0:
        return NAN
    with localcontext() as context:
        context.prec = 60
        top = Decimal(numerator.numerator) / Decimal(numerator.denominator)
        return float(top / _root(squared_denominator))


def _integers(values):
    """The values times a power of two that makes integers of them, and that power: all exact."""
    ratios = [float(value).as_integer_ratio() for value in values]
    scale = max((denominator for _, denominator in ratios), default=1)
    return [numerator * (scale // denominator) for numerator, denominator in ratios], scale


def correlation(a, c, alpha=None):
    """In exact rational arithmetic, rounded once."""
    (x, _), (y, _) = _integers(a), _integers(c)  # scales cancel
    n = len(x)
    cross = n * sum(p * q for p, q in zip(x, y, strict=True)) - sum(x) * sum(y)
    spread_x = n * sum(p * p for p in x) - sum(x) ** 2
    spread_y = n * sum(q * q for q in y) - sum(y) ** 2
    return _exact_quotient(Fraction(cross), Fraction(spread_x * spread_y))


def cosine(a, c, alpha=None):
    (x, _), (y, _) = _integers(a), _integers(c)
    inner = sum(p * q for p, q in zip(x, y, strict=True))
    return _exact_quotient(Fraction(inner), Fraction(sum(p * p for p in x) * sum(q * q for q in y)))


def spearman_correlation(a, c, alpha=None):
    return correlation(stats.rankdata(a), stats.rankdata(c))


def auc(a, c, alpha):
    active = binarise(a, alpha)
    return pairs_in_order(active, c) if 0 < active.sum() < len(a) else NAN


def inverse_auc(a, c, alpha=None):
    labelled = c >= 0.5
    return pairs_in_order(labelled, a) if 0 < labelled.sum() < len(a) else NAN


def auprc(a, c, alpha):
    active = binarise(a, alpha)
    return precision_by_threshold(active, c) if active.any() else NAN


def inverse_auprc(a, c, alpha=None):
    labelled = c >= 0.5
    return precision_by_threshold(labelled, a) if labelled.any() else NAN


def wpmi(a, c, alpha):
    active = binarise(a, alpha)
    if not active.any() or c.sum() == 0:
        return NAN
    mean = math.fsum(math.log(max(v, 1e-8)) for v in c[active]) / active.sum()
    return mean - math.log(math.fsum(c) / len(c))


def mad(a, c, alpha=None):
    labelled = c >= 0.5
    if not 0 < labelled.sum() < len(a):
        return NAN
    values, scale = _integers(a)
    inside = sum(v for v, one in zip(values, labelled, strict=True) if one)
    outside = sum(values) - inside
    n_inside, n_outside = int(labelled.sum()), int((~labelled).sum())
    return float((Fraction(inside, n_inside) - Fraction(outside, n_outside)) / scale)


def correlation_top_and_random(a, c, alpha=None, neuron=0, of=correlation):
    """On the very inputs that the sampler draws; what it may draw is tested for itself."""
    top = np.flatnonzero(binarise(a, 0.002))
    if not len(top):
        return NAN
    drawn = Sampler(range(len(a)), range(neuron + 1)).draw(neuron, top, seed=0)
    return of(a[drawn], c[drawn])


def spearman_correlation_top_and_random(a, c, alpha=None, neuron=0):
    return correlation_top_and_random(a, c, neuron=neuron, of=spearman_correlation)


ORACLES: dict[str, Callable[..., float]] = {
    "recall": recall,
    "precision": precision,
    "f1_score": f1_score,
    "iou": iou,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "inverse_balanced_accuracy": inverse_balanced_accuracy,
    "correlation": correlation,
    "correlation_top_and_random": correlation_top_and_random,
    "spearman_correlation": spearman_correlation,
    "spearman_correlation_top_and_random": spearman_correlation_top_and_random,
    "cosine": cosine,
    "mad": mad,
    "wpmi": wpmi,
    "auc": auc,
    "inverse_auc": inverse_auc,
    "auprc": auprc,
    "inverse_auprc": inverse_auprc,
}

COMBINED = {
    "combined_auc": (auc, inverse_auc),
    "combined_balanced_accuracy": (balanced_accuracy, inverse_balanced_accuracy),
    "recall_auc": (recall, auc),
    "recall_inverse_auc": (recall, inverse_auc),
    "precision_balanced_accuracy": (precision, balanced_accuracy),
    "precision_inverse_balanced_accuracy": (precision, inverse_balanced_accuracy),
}


def score_pairs(name: str, activations, labels, alpha=None) -> np.ndarray:
    """The oracle's value of every pair."""
    held = [(array.astype(float).tobytes(), array.shape) for array in (activations, labels)]
    if name in COMBINED:
        one, other = (_score_pairs(part.__name__, *held, alpha) for part in COMBINED[name])
        both = np.stack([one, other])
        with np.errstate(divide="ignore"):
            mean = 2 / (1 / both).sum(axis=0)
        return np.where(np.isnan(both).any(axis=0), NAN, np.where((both == 0).any(axis=0), 0, mean))
    return _score_pairs(name, *held, alpha)


@functools.lru_cache(maxsize=64)
def _score_pairs(name: str, held_activations, held_labels, alpha) -> np.ndarray:
    oracle = ORACLES[name]
    activations, labels = (
        np.frombuffer(content).reshape(shape) for content, shape in (held_activations, held_labels)
    )
    return np.array(
        [
            [float(oracle(a, c, alpha, **_whose(name, neuron))) for c in labels.T]
            for neuron, a in enumerate(activations.T)
        ]
    )


def _whose(name: str, neuron: int) -> dict[str, int]:
    return {"neuron": neuron} if name.endswith("top_and_random") else {}
