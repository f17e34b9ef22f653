"""Print how often neurons of pure noise are named: ``python -m tests.benchmarks.noise``.

At the 5 % level one neuron in 20 has p <= 0.05 by chance, and one family of neurons in 20 has any
that stands above chance, whichever metric chose the name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import xarray as xr

from evals.metrics.table import Parameters
from evals.naming.naming import NamingOptions, choose_names

SEEDS, N_INPUTS, N_NEURONS, N_LABELS = 20, 2_000, 40, 20
METRICS = ("auc", "auprc", "iou", "correlation", "inverse_auc", "f1_score")
NOISE: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "normal": lambda random, shape: random.normal(size=shape),
    "active on 2 %": lambda random, shape: (
        (random.random(shape) < 0.02) * random.gamma(2.0, size=shape)
    ),
    "Student's t, 2 degrees of freedom": lambda random, shape: random.standard_t(2, size=shape),
}


def name_noise(noise: str, seed: int) -> xr.Dataset:
    """Choose names for neurons of noise among the classes of inputs, as a user would."""
    random = np.random.default_rng(seed)
    ids = [f"test/{i:06d}" for i in range(N_INPUTS)]
    classes = random.permutation(np.arange(N_INPUTS) % N_LABELS)
    labels = classes[:, None] == np.arange(N_LABELS)
    values = NOISE[noise](random, (N_INPUTS, N_NEURONS))
    return choose_names(
        pd.DataFrame(values, ids),
        pd.DataFrame(labels.astype(float), ids, [f"label {i}" for i in range(N_LABELS)]),
        METRICS,
        NamingOptions(Parameters(alpha=0.01), n_bootstrap=0, seed=seed),
    )


def verdicts(names: xr.Dataset) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what is said of each neuron by each metric, and by their consensus."""
    for metric in METRICS:
        yield metric, names["chance"].sel(metric=metric).values.astype(str)
    yield "consensus", names["consensus_chance"].values.astype(str)


def main() -> None:
    """Print a line for each kind of noise and each metric."""
    for noise in NOISE:
        found: dict[str, list[np.ndarray]] = {}
        for seed in range(SEEDS):
            for metric, verdict in verdicts(name_noise(noise, seed)):
                found.setdefault(metric, []).append(verdict)
        for metric, families in found.items():
            together = np.concatenate(families)
            small = np.isin(together, ["undecided", "above chance"]).sum()
            tested = (together != "").sum()
            surer = sum((family == "above chance").any() for family in families)
            print(
                f"{noise}, {metric}: p <= 0.05 for {small} of {tested} neurons "
                f"({small / tested:.1%}); above chance in {surer} of {SEEDS} families",
                flush=True,
            )


if __name__ == "__main__":
    main()
