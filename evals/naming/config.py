"""The configuration of names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

import registry
from evals.metrics.registered import resolve_metrics


@dataclass(frozen=True)
class NamingConfig:
    """Configuration of ``evals.name_concepts``.

    Parameters
    ----------
    metrics : tuple of str
        Names in the table of metrics, all of it where none is named; a concept gets a name by
        each.
    alpha : float or None
        Fraction of inputs at which a concept is active, in (0, 1]; None where it is 0 or 1.
    lam : float
        Weight of how common a label is, in ``wpmi``.
    variable : str
        What of the concepts is explained: ``presence`` or ``contribution``, or ``activation`` of
        neurons; by default the first of them that there is.
    split : str
        Use the inputs of this split alone; all by default.
    n_ranks : int
        Best labels that are kept for each concept and metric, at least 1.
    n_bootstrap : int
        Draws of an interval; 0 for none. With 200 draws from 25,000 inputs, all metrics take
        some 20 ms for a sparse concept and a rare label, and a second where both are dense.
    confidence : float
        Fraction of draws within an interval, in (0, 1).
    seed : int
        Draws the two halves of the inputs, the bootstrap, and inputs for metrics that draw some.
    workers : int
        Threads.
    """

    metrics: tuple[str, ...] = ()
    alpha: Annotated[float, Field(gt=0, le=1)] | None = 0.02
    lam: float = 1.0
    variable: str = ""
    split: str = ""
    n_ranks: Annotated[int, Field(ge=1)] = 5
    n_bootstrap: Annotated[int, Field(ge=0)] = 200
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    seed: Annotated[int, Field(ge=0)] = 0
    workers: registry.Runtime[Annotated[int, Field(ge=1)]] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", resolve_metrics(self.metrics))
