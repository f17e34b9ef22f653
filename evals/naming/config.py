"""The configuration of names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from evals.naming.candidates import BEST, Preference, require_chance
from evals.scoring.config import ScoringConfig
from registry import Since

N_PERMUTATIONS = 199

BUDGET = 1 << 40
"""Permutations x concepts x labels x inputs."""

FEW = 10
"""Positives of a label, and active inputs of a concept, below which a pair is undefined."""


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
        Fraction of draws within an interval, in (0, 1); names are above chance at 1 - confidence.
    seed : int
        Draws the two halves of the inputs, the bootstrap, the permutations, and inputs for metrics
        that draw some.
    n_permutations : int
        Permutations of rows of labels that say what chance gives; 0 for none. They are so many at
        least that p can reach 1 - confidence: 19 for 0.95.
    permutation_budget : int
        Permutations x concepts x labels x inputs at most. Beyond, there are fewer permutations,
        down to 99, and then fewer concepts are tested; the dataset says how many. A processor
        takes some 10^8 (all metrics) to 10^9 (three) of them a second: the default is a quarter
        of an hour to three hours. How long it takes is told once the first are made.
    min_positives, min_active : int
        Inputs of each half that have a label, and that have it not, at least, and at which a
        concept exceeds its smallest value; pairs below are undefined, and counted.
    by_sequence : bool
        Whether inputs are positions of sequences, named ``sequence/position``: then sequences are
        halved, redrawn and permuted whole.
    leave_out : tuple of str
        Labels that name nothing: by name, or groups of them, as ``class:*``.
    prefer : str
        Which label names a concept: the ``best``; or, of ``concepts``, the best that is no class,
        unless that is at chance, and else the best of all. The permutations choose likewise.
    """

    n_ranks: Annotated[int, Field(ge=1)] = 5
    n_bootstrap: Annotated[int, Field(ge=0)] = 200
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    n_permutations: Annotated[int, Field(ge=0), Since(N_PERMUTATIONS)] = N_PERMUTATIONS
    permutation_budget: Annotated[int, Field(ge=1), Since(BUDGET)] = BUDGET
    min_positives: Annotated[int, Field(ge=0), Since(FEW)] = FEW
    min_active: Annotated[int, Field(ge=0), Since(FEW)] = FEW
    by_sequence: Annotated[bool, Since(False)] = False
    leave_out: Annotated[tuple[str, ...], Since(())] = ()
    prefer: Annotated[Preference, Since(BEST)] = BEST

    def __post_init__(self) -> None:
        super().__post_init__()
        require_chance(self.prefer, self.n_permutations)
