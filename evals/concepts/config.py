"""How concepts are evaluated, and the configurations that say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field

import registry
from evals.scoring.seen_images import REFUSE, SeenOption

KEEP: Final = "keep"

CONSENSUS = "consensus"
"""Whose names are localised, unless a metric is named."""


@dataclass(frozen=True)
class ConsistencyConfig:
    """Configuration of ``evals.measure_consistency``.

    Parameters
    ----------
    centred : bool
        Subtract the dataset's mean feature from every encoding before angles are measured.
    least_images : int
        Encodings that a concept needs to count in the mean score; at least 2.
    n_bins : int
        Bins of the histogram of scores, over [-1, 1].
    """

    centred: bool = True
    least_images: Annotated[int, Field(ge=2)] = 5
    n_bins: Annotated[int, Field(ge=1)] = 50


@dataclass(frozen=True)
class MatchingOptions:
    """How sets of concepts are compared; the configuration of ``evals.match_concepts``.

    Parameters
    ----------
    thresholds : tuple of float
        Similarities, in [-1, 1], from which on matched concepts count as the same.
    n_null : int
        Draws of the null: random directions, and presences of shuffled images.
    n_bootstrap : int
        Draws of an interval, over concepts; 0 for none.
    confidence : float
        Fraction of draws within an interval, in (0, 1).
    seed : int
        Draws null and bootstrap.
    workers : int
        Threads.
    """

    thresholds: Annotated[tuple[Annotated[float, Field(ge=-1, le=1)], ...], Field(min_length=1)] = (
        0.5,
        0.7,
        0.9,
    )
    n_null: Annotated[int, Field(ge=0)] = 5
    n_bootstrap: Annotated[int, Field(ge=0)] = 1000
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    seed: Annotated[int, Field(ge=0)] = 0
    workers: registry.Runtime[Annotated[int, Field(ge=1)]] = 1

    def __post_init__(self) -> None:
        if len(set(self.thresholds)) < len(self.thresholds):
            raise ValueError(f"a threshold is named twice in {list(self.thresholds)}")


MATCHING_OPTIONS = MatchingOptions()


@dataclass(frozen=True)
class LocalisationOptions:
    """How maps are compared with masks.

    Parameters
    ----------
    tolerance : float
        Distance from a mask, in cells of the maps, up to which a map's maximum counts as in it.
    mass : float
        Fraction of a map's positive part that the fewest cells hold, in (0, 1], whose intersection
        over union with the mask is taken.
    n_ranks : int
        Labels of the largest gain that are kept for each concept, at least 1.
    n_bootstrap : int
        Draws of an interval, over a concept's images; 0 for none.
    confidence : float
        Fraction of draws within an interval, in (0, 1).
    seed : int
        Draws the bootstrap.
    """

    tolerance: Annotated[float, Field(ge=0)] = 0.0
    mass: Annotated[float, Field(gt=0, le=1)] = 0.8
    n_ranks: Annotated[int, Field(ge=1)] = 3
    n_bootstrap: Annotated[int, Field(ge=0)] = 1000
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    seed: Annotated[int, Field(ge=0)] = 0


LOCALISATION_OPTIONS = LocalisationOptions()


@dataclass(frozen=True)
class LocalisationConfig(LocalisationOptions):
    """Configuration of ``evals.localise_concepts``, with the keys of `LocalisationOptions`.

    Parameters
    ----------
    names_by : str
        Whose names are localised: those of the ``consensus``, or of one metric.
    names_at_chance : str
        Whether names at chance are localised: ``keep``, or ``leave_out``. Which ones they are is
        said in either case.
    seen_images : str
        Whether concepts may be localised in images that they were trained on: ``refuse``, or
        ``allow``. How many there are, and how many chose the names, is said in either case.
    """

    names_by: str = CONSENSUS
    names_at_chance: Annotated[Literal["keep", "leave_out"], registry.Since(KEEP)] = KEEP
    seen_images: Annotated[SeenOption, registry.Since(REFUSE)] = REFUSE
