"""Activations and labels of every kind that metrics meet."""

from __future__ import annotations

import numpy as np

import evals

BUILT_IN = [
    name
    for name, row in evals.list_metrics().items()
    if row.function.__module__.startswith("evals.metrics.")
]
"""Metrics that have an oracle; those of strangers are held to `evals.metrics.conformance`."""


def activations(n_inputs: int = 160, seed: int = 0) -> np.ndarray:
    """(input, neuron): continuous, tied, sparse, binary, one-hot, far from 0, degenerate."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=n_inputs)
    sparse = np.where(rng.random(n_inputs) < 0.03, rng.gamma(2, size=n_inputs), 0)
    single = np.zeros(n_inputs)
    single[rng.integers(n_inputs)] = 0.7
    columns = [
        normal,
        np.round(normal, 1),
        np.maximum(normal, 0),
        -np.maximum(normal, 0),
        np.exp(3 * normal),
        normal + 1e6,
        -1e3 - rng.random(n_inputs),
        normal.astype(np.float32),
        sparse,
        sparse * (normal > 0) - 0.1 * sparse,
        (normal > 1).astype(float),
        rng.integers(0, 4, n_inputs) - 1.0,
        single,
        np.full(n_inputs, 0.3),
        np.zeros(n_inputs),
        np.ones(n_inputs),
    ]
    return np.stack(columns, axis=1)


def labels(n_inputs: int = 160, seed: int = 1) -> np.ndarray:
    """(input, concept): probabilities, rounded ones, bits, rare, empty, full, constant."""
    rng = np.random.default_rng(seed)
    uniform = rng.random(n_inputs)
    rare = np.zeros(n_inputs)
    rare[rng.choice(n_inputs, 3, replace=False)] = 1
    columns = [
        uniform,
        np.round(uniform, 1),
        (uniform > 0.7).astype(float),
        (uniform > 0.3).astype(float),
        np.where(uniform > 0.95, uniform, 0),
        0.999 + 1e-6 * uniform,
        rare,
        np.zeros(n_inputs),
        np.ones(n_inputs),
        np.full(n_inputs, 0.25),
    ]
    return np.stack(columns, axis=1)


def one_hot(n_inputs: int = 160, n_classes: int = 7, seed: int = 2) -> np.ndarray:
    """(input, class) booleans, one true in every row; the last class is empty."""
    rng = np.random.default_rng(seed)
    return np.eye(n_classes, dtype=bool)[rng.integers(0, n_classes - 1, n_inputs)]
