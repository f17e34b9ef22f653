"""How neurons are split, what is tried, and the configuration that says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

import registry
from evals.identification.published_auprc import published_auprc
from evals.metrics.registered import resolve_metrics
from evals.metrics.table import ALPHAS, LAMBDAS, Alpha

VALIDATION_SHARE = 0.05
"""Fraction of neurons that choose parameters, unless another is given."""


@dataclass(frozen=True)
class IdentificationOptions:
    """How neurons are split, and what is tried.

    Parameters
    ----------
    alphas : tuple of float
        Fractions of inputs at which a neuron may be active, in (0, 1]; none where activations are
        0 or 1 already.
    lams : tuple of float
        Weights that ``wpmi`` may give to how common a concept is.
    n_splits : int
        Splits of the neurons into those that choose and those that are tested, at least 1.
    share : float
        Fraction of neurons that choose, in (0, 1); at least 2 do.
    seed : int
        Of the first split, and of inputs that are drawn by neuron; the next split has the next.
    confidence : float
        Of the interval, in (0, 1).
    published : str
        Setting whose published figures stand beside, as :func:`published_auprc` knows it; "" for
        none.
    workers : int
        Threads; they do not change the result.
    """

    alphas: tuple[Alpha, ...] = ALPHAS
    lams: tuple[float, ...] = LAMBDAS
    n_splits: Annotated[int, Field(ge=1)] = 10
    share: Annotated[float, Field(gt=0, lt=1)] = VALIDATION_SHARE
    seed: Annotated[int, Field(ge=0)] = 0
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    published: str = ""
    workers: registry.Runtime[Annotated[int, Field(ge=1)]] = 1


IDENTIFICATION_OPTIONS = IdentificationOptions()


@dataclass(frozen=True)
class IdentificationConfig(IdentificationOptions):
    """Configuration of ``evals.identify_neurons``.

    Parameters
    ----------
    metrics : tuple of str
        Names in the table of metrics; all of it where none is named.
    alphas : tuple of float
        Fractions of inputs at which a neuron may be active, in (0, 1]; the best is chosen for
        each metric. None where activations are 0 or 1 already.
    lams : tuple of float
        Weights that ``wpmi`` may give to how common a label is; the best is chosen.
    n_splits : int
        Splits of the neurons into those that choose and those that are tested.
    share : float
        Fraction of neurons that choose, in (0, 1); at least 2 do.
    seed : int
        Of the first split, and of inputs that some metrics draw by neuron.
    shift : float
        Added to all activations, in units of theirs: what is learned of a neuron should not depend
        on it, and by cosine it does (appendix E.2 adds 1).
    split : str
        Use the inputs of this split alone; all by default.
    confidence : float
        Of the intervals, in (0, 1).
    published : str
        Setting whose published figures stand beside, where the inputs are those: ``cub-cbm``,
        ``cub-cbm-shifted``.
    workers : int
        Threads.
    """

    metrics: tuple[str, ...] = ()
    shift: float = 0.0
    split: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", resolve_metrics(self.metrics))
        published_auprc(self.published)
