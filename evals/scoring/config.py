"""The configuration of scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field

import registry
from evals.kernels.statistics import DRAWING, Drawing
from evals.metrics.registered import resolve_metrics
from evals.metrics.table import Alpha
from evals.scoring.seen_images import REFUSE, SeenOption

Compat = Literal["", "neuroneval"]
"""Whose rules metrics follow: those of their definitions, or of the published code."""

COMPATS: tuple[str, ...] = get_args(Compat)


@dataclass(frozen=True, kw_only=True)
class DrawingOptions:
    """How many inputs the metrics of *top and random* draw of each neuron.

    Parameters
    ----------
    n_drawn : int
        Inputs that are drawn from the strongest, and as many from all.
    drawn_share : float
        Fraction of the inputs that the strongest are, in (0, 1].
    """

    n_drawn: Annotated[int, Field(ge=1), registry.Since(DRAWING.size)] = DRAWING.size
    drawn_share: Annotated[Alpha, registry.Since(DRAWING.share)] = DRAWING.share

    @property
    def drawing(self) -> Drawing:
        """The two together."""
        return Drawing(self.n_drawn, self.drawn_share)


def _as_text(given: object) -> object:
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


Neuron = Annotated[str, BeforeValidator(_as_text)]
"""Name or number of a neuron, or a range of numbers, as ``0:100``."""


@dataclass(frozen=True, kw_only=True)
class NeuronChoice:
    """Which neurons of a dataset are meant.

    Parameters
    ----------
    neurons : tuple of str
        Names or numbers of neurons, or ranges of numbers, as ``0:100`` for the first hundred; all
        by default.
    """

    neurons: Annotated[tuple[Neuron, ...], registry.Since(())] = ()


@dataclass(frozen=True)
class ScoringConfig(DrawingOptions, NeuronChoice):
    """Configuration of ``evals.score_explanations``.

    Parameters
    ----------
    metrics : tuple of str
        Names in the table of metrics; all of it where none is named.
    alpha : float or None
        Fraction of inputs at which a neuron is active, in (0, 1]; None where activations are 0 or
        1 already.
    lam : float
        Weight of how common a concept is, in ``wpmi``.
    seed : int
        Of the inputs that some metrics draw by neuron.
    variable : str
        What of the activations' dataset is scored; by default ``presence`` of concepts,
        ``activation`` of neurons.
    split : str
        Use the inputs of this split alone; all by default.
    workers : int
        Threads.
    seen_images : str
        Whether concepts may be scored on images that they were trained on: ``refuse``, or
        ``allow``. How many there are is said in either case.
    compat : str
        "neuroneval" scores by the rules of the published code, of ties above all, to compare with
        its figures; "" by the definitions.
    """

    metrics: tuple[str, ...] = ()
    alpha: Alpha | None = 0.02
    lam: float = 1.0
    seed: Annotated[int, Field(ge=0)] = 0
    variable: str = ""
    split: str = ""
    workers: registry.Runtime[Annotated[int, Field(ge=1)]] = 1
    seen_images: Annotated[SeenOption, registry.Since(REFUSE)] = REFUSE
    compat: Annotated[Compat, registry.Since("")] = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", resolve_metrics(self.metrics))
