"""The configuration of names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from evals.scoring.config import ScoringConfig


@dataclass(frozen=True)
class NamingConfig(ScoringConfig):
    """Configuration of ``evals.name_concepts``, with the keys of ``evals.score_explanations``.

    Parameters
    ----------
    metrics : tuple of str
        Names in the table of metrics, all of it where none is named; a concept gets a name by
        each.
    variable : str
        What of the concepts is explained: ``presence`` or ``contribution``, or ``activation`` of
        neurons; by default the first of them that there is.
    n_ranks : int
        Best labels that are kept for each concept and metric, at least 1.
    n_bootstrap : int
        Draws of an interval; 0 for none. With 200 draws from 25,000 inputs, all metrics take
        some 20 ms for a sparse concept and a rare label, and a second where both are dense.
    confidence : float
        Fraction of draws within an interval, in (0, 1).
    seed : int
        Draws the two halves of the inputs, the bootstrap, and inputs for metrics that draw some.
    """

    n_ranks: Annotated[int, Field(ge=1)] = 5
    n_bootstrap: Annotated[int, Field(ge=0)] = 200
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
