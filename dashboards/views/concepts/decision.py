"""A decision: a logit as a sum over concepts, each with its share and where it is in the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.concepts.exactness import is_exact
from dashboards.views.concepts.image_choice import class_name, class_options
from fact.traces.plots import EMPTY


@dataclass(frozen=True)
class Term:
    """One concept of a decision.

    Attributes
    ----------
    concept : int
        Its index.
    contribution : float
        To what is explained.
    share : float
        Of all that speaks for it, rounded so that all shares add up to 1; NaN of one against it.
    explanation : np.ndarray
        uint8 (y, x, rgba): where it is, in the colours that it looks for.
    map : np.ndarray
        float (y, x): what every pixel contributes through it.
    """

    concept: int
    contribution: float
    share: float
    explanation: np.ndarray
    map: np.ndarray


@dataclass(frozen=True)
class Decision:
    """Why a logit is what it is, or how far it is from another.

    Attributes
    ----------
    target, against, prediction, label : str
        Names of classes: explained, held against it, predicted, true; "" where there is none.
    logit : float
        What is explained, before the bias.
    residual : float
        ``|sum of contributions - logit|`` over the sum of absolute contributions.
    exact : bool
        Whether contributions must add up to it; else they are an approximation.
    terms : tuple of Term
        The strongest for it, then the strongest against it.
    positive, negative : float
        Sums of all contributions above and below 0, of concepts without a term and of the offset
        too.
    picture : np.ndarray
        uint8 (y, x, colour): as the network sees it.
    explanation : np.ndarray
        uint8 (y, x, rgba): the colours behind the logit.
    map : np.ndarray
        float (y, x): what every pixel gives to the logit.
    others_explanation, others_map : np.ndarray
        The same of all concepts without a term.
    n_concepts : int or None
        Concepts that contribute; None where it is not stored.
    classes : pd.DataFrame or None
        ``class``, ``logit`` and ``probability``; None where they are not stored.
    offset : float or None
        What the bias of the SAE's decoder gives; None where it has none.
    """

    target: str
    against: str
    prediction: str
    label: str
    logit: float
    residual: float
    terms: tuple[Term, ...]
    positive: float
    negative: float
    picture: np.ndarray
    explanation: np.ndarray
    map: np.ndarray
    others_explanation: np.ndarray
    others_map: np.ndarray
    n_concepts: int | None = None
    classes: pd.DataFrame | None = None
    offset: float | None = None
    exact: bool = True

    @property
    def missed(self) -> float:
        """What contributions that are an approximation miss of it; 0 where they are exact."""
        return 0.0 if self.exact else self.logit - self.positive - self.negative

    @property
    def for_it(self) -> tuple[Term, ...]:
        """Terms above 0."""
        return tuple(term for term in self.terms if term.contribution > 0)

    @property
    def against_it(self) -> tuple[Term, ...]:
        """Terms below 0."""
        return tuple(term for term in self.terms if term.contribution < 0)

    @property
    def others(self) -> float:
        """Contributions of all concepts without a term, together."""
        return self.others_for + self.others_against

    @property
    def others_for(self) -> float:
        """What of it is above 0."""
        shown = sum(term.contribution for term in self.for_it) + max(0.0, self.offset or 0.0)
        return max(0.0, self.positive - shown)

    @property
    def others_against(self) -> float:
        """What of it is below 0."""
        shown = sum(term.contribution for term in self.against_it) + min(0.0, self.offset or 0.0)
        return min(0.0, self.negative - shown)

    @property
    def others_share(self) -> float:
        """Share of all others in what speaks for it; with all other shares it adds up to 1."""
        shown = sum(term.share for term in self.for_it) + self.offset_share
        return round(1 - shown, 3) if self.positive > 0 else 0.0

    @property
    def offset_share(self) -> float:
        """Share of the offset in what speaks for it; 0 where it does not."""
        return round(max(0.0, self.offset or 0.0) / self.positive, 3) if self.positive > 0 else 0.0

    @property
    def question(self) -> str:
        """What is explained, as a question."""
        if self.against:
            return f"Why {self.target}, and not {self.against}?"
        if self.target == self.prediction:
            return f"Why {self.target}?"
        return f"What speaks for {self.target}?"

    @property
    def favours(self) -> str:
        """What speaks for it, in words that follow *concepts that*."""
        if self.against:
            return f"speak more for {self.target} than for {self.against}"
        return f"speak for {self.target}"

    @property
    def opposes(self) -> str:
        """What speaks against it, likewise."""
        if self.against:
            return f"speak more for {self.against} than for {self.target}"
        return f"speak against {self.target}"

    @property
    def quantity(self) -> str:
        """What is explained, as a quantity."""
        if self.against:
            return f"logit of {self.target} minus that of {self.against}"
        return f"logit of {self.target}"


def of_image(explained: xr.Dataset, label: str = "") -> Decision:
    """Return a decision that was computed just now.

    Parameters
    ----------
    explained : xr.Dataset
        As :func:`fact.explain_image` returns it.
    label : str
        Name of the true class; "" where it is not known.
    """
    classes = class_options(explained["class"].values.tolist())
    contribution = explained["contribution"].values.astype(np.float64)
    constant = float(explained["offset"]) if "offset" in explained else 0.0
    return _decision(
        explained,
        contribution[explained["top_concept"].values],
        classes,
        against=class_name(int(explained["against"]), classes),
        label=label,
        positive=float(contribution.clip(min=0).sum()) + max(0.0, constant),
        negative=float(contribution.clip(max=0).sum()) + min(0.0, constant),
        n_concepts=int((contribution != 0).sum()),
        classes=pd.DataFrame(
            {
                "class": classes,
                "logit": explained["logits"].values.astype(np.float64),
                "probability": explained["probability"].values.astype(np.float64),
            }
        ),
    )


def of_stored(decisions: xr.Dataset, image: str) -> Decision:
    """Return a decision that was stored.

    Parameters
    ----------
    decisions : xr.Dataset
        Of schema ``decisions``; only what belongs to the image is read.
    image : str
        One of its images.
    """
    index = decisions["image"].values.astype(str).tolist().index(image)
    own = decisions.isel(image=index).load()
    classes = class_options(own["class"].values.tolist())
    there = own["top_concept"].values != EMPTY
    own = own.isel(rank=there)
    contribution = own["contribution"].values.astype(np.float64)
    share = own["share"].values.astype(np.float64)
    # Shares are over all positive contributions, which are not stored themselves.
    positive = float(contribution[0] / share[0]) if len(share) and share[0] > 0 else 0.0
    constant = float(own["offset"]) if "offset" in own else 0.0
    if not positive and constant > 0:  # it alone speaks for it
        positive = constant
    alone = float(own["others"]) + min(0.0, constant)
    against = float(own["against_share"]) * positive if positive else alone
    label = class_name(int(own["label"]), classes)
    return _decision(
        own, contribution, classes, against="", label=label, positive=positive, negative=against
    )


def _decision(
    own: xr.Dataset, contribution: np.ndarray, names: list[str], *, positive: float, **others: Any
) -> Decision:
    # Contributions are of the concepts that are shown.
    for_it = contribution > 0
    offset = float(own["offset"]) if "offset" in own else None
    parts = [*contribution[for_it], max(0.0, offset or 0.0)]
    shares = np.full(len(contribution), np.nan)
    shares[for_it] = whole_shares([*parts, max(0.0, positive - sum(parts))])[: for_it.sum()]
    explanations = own["explanation"].values
    maps = own["concept_map"].values
    terms = zip(own["top_concept"].values, contribution, shares, explanations, maps, strict=True)
    return Decision(
        target=class_name(int(own["target"]), names),
        prediction=class_name(int(own["prediction"]), names),
        logit=float(own["logit"]),
        residual=float(own["residual"]),
        exact=is_exact(own),
        terms=tuple(
            Term(int(c), float(value), float(share), *drawn) for c, value, share, *drawn in terms
        ),
        positive=positive,
        picture=own["picture"].values,
        explanation=own["logit_explanation"].values,
        map=own["logit_map"].values,
        others_explanation=own["others_explanation"].values,
        others_map=own["others_map"].values,
        offset=offset,
        **others,
    )


def whole_shares(parts: Sequence[float], digits: int = 3) -> np.ndarray:
    """Return shares that add up to 1 as they are shown, by largest remainders.

    Parameters
    ----------
    parts : sequence of float
        0 or more.
    digits : int
        Of a share after the point.

    Returns
    -------
    np.ndarray
        Each within one unit of the last digit of the exact share; zeros where all parts are 0.
    """
    values = np.asarray(parts, dtype=np.float64)
    total, unit = values.sum(), 10**digits
    if not total > 0:
        return np.zeros(len(values))
    exact = values / total * unit
    floor = np.floor(exact)
    left = round(unit - floor.sum())
    floor[np.argsort(floor - exact, kind="stable")[:left]] += 1
    return np.asarray(floor / unit)
