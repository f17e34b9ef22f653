"""Scores as the published code computes them where ties decide, for comparing with its figures.

The code of Oikarinen et al. 2025 (github.com/Trustworthy-ML-Lab/Neuron_Eval) breaks ties by
adding noise below 1e-7 in single precision and sorting. Near 1 the resolution is 1.2e-7: what is 1
stays so or moves to the next number, and within these two levels stands in the order of inputs.
What is 0 is put in random order. Scores therefore differ from call to call, and with the order of
inputs. Deviations are those of a sample, means those of a population, so that the correlation of
a column with itself is ``(n - 1) / n``; that of a constant column is 0. *Top and random* takes all
active inputs of a binary neuron, not 25 of them.

Nothing here is used unless it is asked for by ``compat="neuroneval"``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from evals.kernels.statistics import DRAWING, Drawing

NOISE = np.float32(1e-7)

Replay = Callable[[np.ndarray, np.ndarray, np.random.Generator], float]


def noisy_ranks(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return ranks (input,) from 0, ties broken by noise in single precision, then by position."""
    noisy = generator.random(len(values), dtype=np.float32)
    noisy *= NOISE
    noisy += values.astype(np.float32)
    keys = noisy.view(np.int32).astype(np.int64)
    keys ^= (keys >> 63) & 0x7FFFFFFF  # integers in the order of the numbers, below 0 too
    keys <<= 32
    keys |= np.arange(len(values))
    keys.sort()
    keys &= 0xFFFFFFFF
    ranks = np.empty(len(values))
    ranks[keys] = np.arange(len(values), dtype=np.float64)
    return ranks


def _pearson(
    one: np.ndarray, other: np.ndarray, generator: np.random.Generator | None = None
) -> float:
    n_inputs = len(one)
    deviations = one.std(ddof=1) * other.std(ddof=1)
    if not deviations:
        return 0.0
    return float(((one - one.mean()) @ (other - other.mean())) / n_inputs / deviations)


def _spearman(activations: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> float:
    one, other = (noisy_ranks(values, generator) for values in (activations, labels))
    return _pearson(one, other)


def _on_all_active_and_random(
    correlate: Replay,
    size: int,
    activations: np.ndarray,
    labels: np.ndarray,
    generator: np.random.Generator,
) -> float:
    drawn = generator.choice(len(activations), min(size, len(activations)), replace=False)
    inputs = np.concatenate([np.flatnonzero(activations == 1), drawn])
    return correlate(activations[inputs], labels[inputs], generator)


def _roc_area(scores: np.ndarray, truth: np.ndarray, generator: np.random.Generator) -> float:
    is_true = truth >= 0.5
    n_true = int(is_true.sum())
    wins = noisy_ranks(scores, generator)[is_true].sum() - n_true * (n_true - 1) / 2
    return float(wins / max(1, n_true * (len(truth) - n_true)))


def _auc(activations: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> float:
    return _roc_area(labels, activations, generator)


def replays(drawing: Drawing = DRAWING) -> Mapping[str, Replay]:
    """Return metrics that the published code computes otherwise on binary inputs.

    Each is a function of activations (input,), labels (input,) and what the noise is drawn from.
    """
    return {
        "auc": _auc,
        "inverse_auc": _roc_area,
        "correlation_top_and_random": partial(_on_all_active_and_random, _pearson, drawing.size),
        "spearman_correlation": _spearman,
        "spearman_correlation_top_and_random": partial(
            _on_all_active_and_random, _spearman, drawing.size
        ),
    }
