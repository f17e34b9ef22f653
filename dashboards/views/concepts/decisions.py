"""Decisions: a logit as a sum over concepts, each with its share and where it is in the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import xarray as xr
from PIL import ImageColor

from dashboards.views.concepts.exactness import APPROXIMATE, MARK, is_exact
from dashboards.views.concepts.image_choice import class_name, class_options
from dashboards.views.concepts.labels import CONSENSUS, best_names, namers_of, preferred_namer
from dashboards.views.parts.charts import BLUE, GREY, NUMBER, ROW, VERMILION, layers, waterfall
from dashboards.views.parts.parts import (
    Figure,
    Heading,
    Note,
    Number,
    Numbers,
    Part,
    Picture,
    Pictures,
    Table,
    file_name,
)
from dashboards.views.parts.pictures import (
    ABOUT_DOTS,
    AMOUNTS,
    COLOURS,
    EXACT_AMOUNTS,
    colour_layers,
    smoothed_map,
)
from dashboards.views.parts.text import number_text
from dashboards.views.runs.advice import EXPECTED
from dashboards.views.runs.datasets import read_small
from dashboards.views.runs.settings import maker_of
from evals.naming.candidates import repeats_class
from evals.naming.verdicts import IN_WORDS, second_texts
from fact.traces.plots import EMPTY, over_white
from registry.catalog.access import Catalog
from registry.catalog.lineage import Lineage
from registry.columns import Column
from registry.wording import counted, signed_text

CHECKED = 5
"""Significant digits of terms of a sum, in the table by which one checks it."""

MOST_CLASSES = 9
MOST_REPORTED = 40
LONGEST_NAME = 34
VERDICTS = {
    "passes": "passes the sanity checks",
    "fails": "fails the sanity checks",
    "undecided": "neither passes nor fails the sanity checks",
    "untested": "is untested",
}
REPEATS = "repeats the class"
AGAINST_MATTERS = 0.1
MEANING = (
    "Why does the network decide so? In the FaCT network a layer is replaced by its concepts, and "
    "every logit, before the bias, is exactly the sum of what they contribute; so is the "
    "difference of two logits (Parchami-Araghi et al., FaCT, NeurIPS 2025, arXiv 2510.25512, "
    "sections 3 and 4). Of a network that is not linear in its frozen weights, contributions are "
    "an approximation, gradient times activation, and what they miss of the logit stands beside "
    "them. Logits and contributions have no unit; each map shows what pixels give."
)
OFFSET = "offset (decoder's bias)"
MISSED = "not accounted for"
POSITION_MATTERS = 1e-3
"""Fraction of the logit from which on the page says what maps leave out."""


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
        given = self.positive + self.negative + (self.offset or 0.0)
        return 0.0 if self.exact else self.logit - given

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


# -- from datasets ----------------------------------------------------------------------------


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


# -- names ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Naming:
    """What concepts are called, and how far that can be trusted.

    Attributes
    ----------
    name : mapping of int to str
        By concept.
    verdict : mapping of int to str
        By whom it is named, with which score, and what the sanity checks say of them.
    second : mapping of int to str
        The best name beside it that is no class, with its score and verdict.
    beyond : mapping of int to str
        The same name alone, where it is not at chance.
    brief : mapping of int to str
        What stands for the name on axes.
    spoken : mapping of int to str
        What stands for the name in sentences.
    repeated : str
        The name that repeats the class, where one does.
    """

    name: Mapping[int, str]
    verdict: Mapping[int, str]
    second: Mapping[int, str] = field(default_factory=dict)
    beyond: Mapping[int, str] = field(default_factory=dict)
    brief: Mapping[int, str] = field(default_factory=dict)
    spoken: Mapping[int, str] = field(default_factory=dict)
    repeated: str = ""

    def explaining(self, name: str) -> Naming:
        """Return the names beside which a second stands where they only repeat a class.

        Parameters
        ----------
        name : str
            Of the class that is explained.
        """
        repeating = [own for own, label in self.name.items() if repeats_class(label, name)]
        following = {own: f"next: {self.second[own]}" for own in repeating if own in self.second}
        told = {
            own: f"{self.name[own]} ({'; '.join(filter(None, (REPEATS, following.get(own))))})"
            for own in repeating
        }
        brief = {own: self._name_on_axis(own) for own in repeating}
        spoken = {
            own: f"concept {own} ({following[own]})" if own in following else f"concept {own}"
            for own in repeating
        }
        return replace(
            self,
            name={**self.name, **told},
            brief=brief,
            spoken=spoken,
            repeated=self.name[repeating[0]] if repeating else "",
        )

    def _name_on_axis(self, concept: int) -> str:
        """Return a name with the second one, where that is not at chance, both cut to fit."""
        name, second = self.name[concept], self.beyond.get(concept, "")
        return f"{_cut(name, LONGEST_NAME // 2)}, then {second}" if second else name

    def title(self, concept: int) -> str:
        """Return the number of a concept with its name."""
        name = self.name.get(concept, "")
        return f"Concept {concept}: {name}" if name else f"Concept {concept}"

    def short(self, concept: int) -> str:
        """Return the same for an axis, cut where it is long."""
        name = self.brief.get(concept) or self.name.get(concept, "")
        return f"{concept} · {_cut(name, LONGEST_NAME)}" if name else f"concept {concept}"

    def called(self, concept: int) -> str:
        """Return the name with the number, for a sentence."""
        if concept in self.spoken:
            return self.spoken[concept]
        name = self.name.get(concept, "")
        return f"{name} ({concept})" if name else f"concept {concept}"


def _cut(text: str, longest: int) -> str:
    return f"{text[: longest - 1]}…" if len(text) > longest else text


NAMELESS = Naming({}, {})


def naming_of(names: xr.Dataset, namer: str) -> Naming:
    """Return what concepts are called by one metric, or by the consensus of metrics.

    Parameters
    ----------
    names : xr.Dataset
        Of schema ``names``.
    namer : str
        One of its metrics, or :data:`dashboards.views.concepts.labels.CONSENSUS`.
    """
    best = best_names(names, namer)
    if namer == CONSENSUS:
        voting = names["verdict"].values.astype(str)[names["votes"].values.astype(bool)]
        tested = len(voting) > 0 and (voting == "passes").all()
        which = "metrics that pass the sanity checks" if tested else "metrics (none sanity-tested)"
        of = f"of {max(int(names['n_voting']), 1)} {which}"
        verdicts = [f"chosen by {int(votes)} {of}" for votes in names["consensus_votes"].values]
    else:
        verdict = str(names["verdict"].sel(metric=namer).item())
        about = f"this metric {VERDICTS.get(verdict, verdict)}"
        verdicts = [f"{namer} {number_text(float(score))}; {about}" for score in best["score"]]
    told = zip(verdicts, best["chance"], strict=True)
    best["verdict"] = [f"{verdict}; {IN_WORDS.get(chance, chance)}" for verdict, chance in told]
    named = best[best["name"] != ""]
    name, found = ({int(c): str(v) for c, v in named[key].items()} for key in ("name", "verdict"))
    metric = "" if namer == CONSENSUS else namer
    second, beyond = (
        {
            concept: str(text)
            for concept, text in zip(names["concept"].values.tolist(), texts, strict=True)
            if text
        }
        for texts in (second_texts(names, metric), second_texts(names, metric, only_beyond=True))
    )
    return Naming(name, found, second, beyond)


# -- in words ---------------------------------------------------------------------------------


def percent_text(share: float) -> str:
    """Return a probability or a share in percent; nearly none or all as a bound."""
    if not np.isfinite(share):
        return "–"
    if 0 < share < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= share < 1:
        return "> 99.9 %"
    return f"{100 * share:.1f} %"


def probability_text(probability: float) -> str:
    """Return a probability in percent: a sigmoid is never 0 or 1, it is only rounded to them."""
    return percent_text(float(np.clip(probability, 1e-9, 1 - 1e-9)))


def verdict_line(decision: Decision) -> str:
    """Return what the network says of the image, and whether that is right."""
    probability = ""
    if decision.classes is not None:
        value = decision.classes.set_index("class")["probability"].loc[decision.prediction]
        unsure = ", and no class reaches 50 %" if float(value) < 0.5 else ""
        probability = f" (probability {probability_text(float(value))}{unsure})"
    said = f"The network says {decision.prediction}{probability}"
    if not decision.label:
        return f"{said}."
    if decision.label == decision.prediction:
        return f"{said}, and is right."
    return f"{said}, and is wrong: the label is {decision.label}."


def reason_line(decision: Decision, naming: Naming = NAMELESS) -> str:
    """Return the decision in one sentence: the sum, and the shares of what speaks for it."""
    count = (
        "its concepts" if decision.n_concepts is None else counted(decision.n_concepts, "concept")
    )
    total = number_text(decision.logit)
    count += f" and the offset ({signed_text(decision.offset)})" if decision.offset else ""
    parts = f"{signed_text(decision.positive)} for it, {signed_text(decision.negative)} against it"
    sums = f"The {decision.quantity} is {total}, which is exactly what {count} add up to: {parts}."
    if not decision.exact:
        sums = (
            f"The {decision.quantity} is {total}. What {count} give is {APPROXIMATE}: {parts}, and "
            f"{signed_text(decision.missed)} that no concept accounts for."
        )
    if not decision.for_it:
        return f"{sums} No concept speaks for it."
    lines = [
        f"{_mark(decision)}{percent_text(t.share)} {naming.called(t.concept)}"
        for t in decision.for_it
    ]
    lines += [f"{percent_text(decision.others_share)} all others"] if decision.others_share else []
    lines += [f"{percent_text(decision.offset_share)} the offset"] if decision.offset_share else []
    shown = [str(t.concept) for t in decision.for_it if t.concept in naming.spoken]
    several = len(shown) > 1
    note = (
        f" The name of concept{'s' * several} {', '.join(shown)}, {naming.repeated}, {REPEATS}."
        if shown
        else ""
    )
    return f"{sums} Of what speaks for it: {', '.join(lines)}.{note}"


def meaning_of_shares(decision: Decision) -> str:
    """Return what shares are of."""
    if decision.against:
        return (
            f"A concept contributes to both logits; counted is by how much more to that of "
            f"{decision.target} than to that of {decision.against}. Shares are of the sum of these "
            "differences where they are above 0; they add up to 100 %."
        )
    return "Shares are of the sum of all contributions above 0; they add up to 100 %."


def residual_line(decision: Decision) -> str:
    """Return how exact the sum is."""
    missed = f"{number_text(decision.residual, 2)} of the sum of their absolute values"
    if not decision.exact:
        return f"Contributions are {APPROXIMATE}. They miss it by {missed}."
    return (
        f"Before the bias. The contributions miss it by {missed}; up to {number_text(1e-5)} is "
        "allowed."
    )


def position_line(decision: Decision) -> str:
    """Return what the maps leave out, "" where that is nothing."""
    constant = decision.missed + (decision.offset or 0.0)
    missing = decision.logit - constant - float(decision.map.sum(dtype=np.float64))
    if abs(missing) <= POSITION_MATTERS * max(abs(decision.logit), decision.positive, 1e-12):
        return ""
    place = "a positional embedding or the bias of an encoder"
    return (
        f"{number_text(missing)} of it comes through "
        f"{place if decision.exact else 'a class token or biases'}, which are in no pixel: the "
        "maps leave it out."
    )


# -- figures and tables -----------------------------------------------------------------------


def waterfall_frame(decision: Decision, naming: Naming = NAMELESS) -> pd.DataFrame:
    """Return the terms of the sum in order, all others, the offset if any, and the total.

    Returns
    -------
    pd.DataFrame
        ``label``, ``value`` and ``kind``: for, against or total. The values but the last add up
        to the last.
    """
    rows = [(naming.short(term.concept), term.contribution) for term in decision.terms]
    rows += [("all others", decision.others)]
    rows += [(OFFSET, decision.offset)] if decision.offset else []
    rows += [] if decision.exact else [(MISSED, decision.missed)]
    lines = [(label, value, "for" if value >= 0 else "against") for label, value in rows]
    lines += [("difference" if decision.against else "logit", decision.logit, "total")]
    return pd.DataFrame(lines, columns=["label", "value", "kind"])


def waterfall_figure(decision: Decision, naming: Naming = NAMELESS, name: str = "") -> Figure:
    """Return the sum as a waterfall."""
    chart = waterfall(waterfall_frame(decision, naming), x_title=decision.quantity)
    title = "The difference, concept by concept" if decision.against else "The logit as a sum"
    return Figure(f"{name or 'decision'}-sum", chart, title, residual_line(decision))


def shares_frame(decision: Decision, naming: Naming = NAMELESS) -> pd.DataFrame:
    """Return a row per term with its share, then the others and the sums.

    Returns
    -------
    pd.DataFrame
        ``concept`` ("" in sums), ``name``, ``contribution``, ``share`` (NaN of what is against).
    """

    def terms(chosen: Sequence[Term]) -> list[tuple[str, str, float, float]]:
        return [
            (str(t.concept), naming.name.get(t.concept, ""), t.contribution, t.share)
            for t in chosen
        ]

    constant = decision.offset or 0.0
    offset = [("", OFFSET, constant, decision.offset_share if constant > 0 else np.nan)]
    rows = [
        *terms(decision.for_it),
        ("", "all others for it", decision.others_for, decision.others_share),
        *(offset if constant > 0 else []),
        ("", "all that speaks for it", decision.positive, 1.0 if decision.positive > 0 else np.nan),
        *terms(decision.against_it),
        ("", "all others against it", decision.others_against, np.nan),
        *(offset if constant < 0 else []),
        *([] if decision.exact else [("", MISSED, decision.missed, np.nan)]),
        ("", decision.quantity, decision.logit, np.nan),
    ]
    return pd.DataFrame(rows, columns=["concept", "name", "contribution", "share"])


def _contribution(exact: bool, meaning: str) -> Column:
    """Return the column of contributions, which says whether they are exact."""
    if exact:
        return Column(f"+.{CHECKED}g", help=meaning)
    return Column(f"+.{CHECKED}g", MARK, f"{meaning}; {APPROXIMATE}")


def shares_table(decision: Decision, naming: Naming = NAMELESS, name: str = "") -> Table:
    """Return what adds up, as a table."""
    columns = {
        "contribution": _contribution(decision.exact, f"to the {decision.quantity}"),
        "share": Column(".1%", f"{_mark(decision)}share", meaning_of_shares(decision)),
    }
    return Table(
        f"{name or 'decision'}-shares",
        shares_frame(decision, naming),
        "Shares of what speaks for it",
        meaning_of_shares(decision),
        columns,
    )


def classes_frame(decision: Decision, most: int = MOST_CLASSES) -> pd.DataFrame:
    """Return the classes with the largest logits, and those that are talked of.

    Returns
    -------
    pd.DataFrame
        ``label`` with what the class is, ``class``, ``logit``, ``probability``, ``text``; largest
        logit first. Empty where logits are not stored.
    """
    if decision.classes is None:
        return pd.DataFrame(columns=["label", "class", "logit", "probability", "text"])
    ranked = decision.classes.sort_values("logit", ascending=False, kind="stable")
    talked_of = {decision.target, decision.against, decision.label} - {""}
    keep = (np.arange(len(ranked)) < most) | ranked["class"].isin(talked_of).to_numpy()
    kept = ranked[keep].reset_index(drop=True)
    known = {"label": decision.label, "explained": decision.target, "against": decision.against}
    marks = [", ".join(m for m, marked in known.items() if marked == n) for n in kept["class"]]
    labels = [f"{n} ({m})" if m else n for n, m in zip(kept["class"], marks, strict=True)]
    text = [probability_text(value) for value in kept["probability"]]
    return kept.assign(label=labels, text=text)


def classes_figure(decision: Decision, name: str = "") -> Figure | None:
    """Return logits as bars, each with its probability; None where they are not stored."""
    frame = classes_frame(decision)
    if frame.empty:
        return None
    y = alt.Y("label:N", sort=frame["label"].tolist(), title=None, axis=alt.Axis(labelLimit=220))
    bar = alt.Chart().mark_bar()
    bar = bar.encode(
        x=alt.X("logit:Q", title="logit before the bias"),
        y=y,
        color=alt.condition("datum.logit >= 0", alt.value(BLUE), alt.value(VERMILION)),
        tooltip=[
            alt.Tooltip("class:N"),
            alt.Tooltip("logit:Q", format=NUMBER),
            alt.Tooltip("probability:Q", format=NUMBER),
        ],
    )
    text = alt.Chart().mark_text(align="left", dx=4, color=GREY)
    text = text.encode(x=alt.X("end:Q"), y=y, text=alt.Text("text:N"))
    data = frame.assign(end=frame["logit"].clip(lower=0))
    drawn = layers(bar, text, data=data, height={"step": ROW})
    note = (
        "Beside each bar the probability: by the logit with the network's bias, its sigmoid for a "
        "B-cos network, softmax for others."
    )
    return Figure(f"{name or 'decision'}-classes", drawn, "What it says", note)


def runner_up(decision: Decision) -> str:
    """Return the class to ask after: the label where it is missed, else the second; "" if none."""
    if decision.label and decision.label != decision.prediction:
        return decision.label
    if decision.classes is None:
        return ""
    ranked = decision.classes.sort_values("logit", ascending=False, kind="stable")["class"]
    return next((name for name in ranked if name != decision.prediction), "")


def contributions_table(explained: xr.Dataset, naming: Naming = NAMELESS, name: str = "") -> Table:
    """Return all concepts that are present or contribute, the largest contribution first.

    Parameters
    ----------
    explained : xr.Dataset
        As :func:`fact.explain_image` returns it.
    naming : Naming
        What they are called.
    name : str
        Of the file.
    """
    given = explained[["presence", "contribution"]].reset_coords(drop=True).astype(np.float64)
    frame = given.to_dataframe().query("presence != 0 or contribution != 0").reset_index()
    frame.insert(1, "name", [naming.name.get(int(one), "") for one in frame["concept"]])
    ranked = frame.sort_values("contribution", ascending=False, kind="stable", ignore_index=True)
    form = _contribution(is_exact(explained), "to what is explained")
    columns = {"presence": Column(".3g", help="sum of its activations"), "contribution": form}
    return Table(f"{name or 'decision'}-concepts", ranked, columns=columns)


# -- pictures ---------------------------------------------------------------------------------


def picture_in(decision: Decision, explanation: np.ndarray, map: np.ndarray) -> Picture:
    """Return the image of a decision with where something is in it, as layers.

    Parameters
    ----------
    decision : Decision
        Whose image it is.
    explanation : np.ndarray
        uint8 (y, x, rgba).
    map : np.ndarray
        float (y, x).
    """
    amounts = {AMOUNTS: heat(smoothed_map(map)), EXACT_AMOUNTS: heat(map)}
    return Picture(decision.picture, layers={**colour_layers(explanation), **amounts})


def whole_picture(decision: Decision) -> Picture:
    """Return the image of a decision with where its logit comes from."""
    return picture_in(decision, decision.explanation, decision.map)


def pictures_in(decision: Decision, explanation: np.ndarray, map: np.ndarray) -> Pictures:
    """Return two pictures of where something is in an image: its colours, and its amounts.

    A click on either enlarges the image with all its layers.
    """
    both = picture_in(decision, explanation, map)
    colours = replace(both, caption="colours here", face=over_white(both.layers[COLOURS]))
    ordered = {name: both.layers[name] for name in (AMOUNTS, EXACT_AMOUNTS, *both.layers)}
    face = over_faded(both.layers[AMOUNTS], decision.picture)
    return Pictures([colours, replace(both, caption="amounts here", layers=ordered, face=face)])


def subject_pictures(decision: Decision, image: str) -> Pictures:
    """Return the image, and where what is explained comes from."""
    whole = whole_picture(decision)
    seen = replace(
        whole, caption=f"{decision.label or image}\nas the network sees it", details=image
    )
    origin = replace(
        whole,
        caption=f"{decision.target}\nwhere the {decision.quantity} comes from",
        details=image,
        face=over_white(whole.layers[COLOURS]),
    )
    return Pictures([seen, origin])


def over_faded(layer: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Return a layer (y, x, rgba) over an image (y, x, colour) in faint grey."""
    grey = picture.astype(np.float64).mean(axis=2, keepdims=True)
    ground = 255 - 0.3 * (255 - grey)
    opacity = layer[..., 3:] / 255
    return np.asarray(np.rint(ground * (1 - opacity) + layer[..., :3] * opacity), dtype=np.uint8)


def heat(map: np.ndarray) -> np.ndarray:
    """Return a map as a layer: blue adds, vermilion takes away.

    Parameters
    ----------
    map : np.ndarray
        float (y, x).

    Returns
    -------
    np.ndarray
        uint8 (y, x, rgba). Full colour is at the 99.5th percentile of the map's size.
    """
    size = np.abs(map)
    top = np.percentile(size, 99.5)
    strength = np.clip(size / top, 0, 1) if top > 0 else np.zeros_like(size, dtype=np.float64)
    adds, takes = (ImageColor.getrgb(colour) for colour in (BLUE, VERMILION))
    colour = np.where((map >= 0)[..., None], adds, takes)
    opacity = np.rint(255 * np.sqrt(strength))[..., None]
    return np.concatenate([colour, opacity], axis=2).astype(np.uint8)


ABOUT_PICTURES = (
    "Colours: what the network responds to there, white where nothing. Amounts: what each pixel "
    "adds (blue) or subtracts (orange-red), each map scaled to its largest. "
    f"{ABOUT_DOTS} "
    "A click enlarges, with the exact weights and amounts. For a concept against "
    "the class, the colours are of what it subtracts. Maps of codes that were up-sampled, and by "
    "CRP, have the image's own colours, and are an approximation. Where the sum is exact, it is so "
    "for this image as it is; removing a concept changes the others too: see Intervention."
)


def term_line(term: Term, decision: Decision) -> str:
    """Return what a concept gives, in words."""
    amount = f"{_mark(decision)}{signed_text(term.contribution)}"
    if term.contribution < 0:
        return f"{amount} of the {signed_text(decision.negative)} against it"
    return f"{amount} of the {signed_text(decision.positive)} for it: {percent_text(term.share)}"


def _mark(decision: Decision) -> str:
    """Return what stands before amounts that are an approximation."""
    return "" if decision.exact else "≈ "


def matters(decision: Decision) -> bool:
    """Return whether what speaks against it is worth a look: a tenth of what speaks for it."""
    return -decision.negative >= AGAINST_MATTERS * decision.positive


def others_line(decision: Decision) -> str:
    """Return what all concepts without a map give together."""
    text = f"{_mark(decision)}{signed_text(decision.others)} in all"
    parts = f"{signed_text(decision.others_for)} for it"
    if decision.positive > 0:
        parts += f", {percent_text(decision.others_share)} of the {signed_text(decision.positive)}"
    return f"{text}: {parts}; {signed_text(decision.others_against)} against it"


def decision_pictures(decision: Decision, naming: Naming = NAMELESS) -> Pictures:
    """Return the image, where its logit comes from, and every term."""
    pictures = [replace(whole_picture(decision), caption=f"all\n{decision.quantity}")]
    pictures += [
        replace(
            picture_in(decision, term.explanation, term.map),
            caption=f"{naming.title(term.concept)}\n{term_line(term, decision)}",
        )
        for term in decision.terms
    ]
    others = picture_in(decision, decision.others_explanation, decision.others_map)
    pictures += [replace(others, caption=f"all others\n{others_line(decision)}")]
    note = (
        "Below each image, where the concept is in it: the colours that it responds to, on white. "
        f"{ABOUT_DOTS}"
    )
    return Pictures(pictures, note=note, below=COLOURS)


def decision_parts(decision: Decision, naming: Naming, name: str, heading: str) -> list[Part]:
    """Return all that a report shows of a decision."""
    numbers = [
        Number("prediction", decision.prediction, "of the network with its concepts in place"),
        Number("label", decision.label or "–", "the true class"),
        Number("logit", number_text(decision.logit), decision.quantity),
        Number("residual", number_text(decision.residual, 2), residual_line(decision)),
        *([] if decision.exact else [Number("contributions", "approximate", APPROXIMATE)]),
    ]
    naming, figure = naming.explaining(decision.target), classes_figure(decision, name)
    missing = position_line(decision)
    return [
        Heading(heading),
        Note(verdict_line(decision)),
        Note(reason_line(decision, naming)),
        *([Note(missing)] if missing else []),
        Numbers(numbers),
        decision_pictures(decision, naming),
        waterfall_figure(decision, naming, name),
        shares_table(decision, naming, name),
        *([figure] if figure else []),
    ]


def report_parts(catalog: Catalog, cell: str, decisions: xr.Dataset) -> list[Part]:
    """Return what a report shows of stored decisions: each image with its sum, shares, pictures.

    Parameters
    ----------
    catalog : Catalog
        Where the names of concepts are, if there are some.
    cell : str
        That made the decisions.
    decisions : xr.Dataset
        Of schema ``decisions``.
    """
    images = decisions["image"].values.astype(str).tolist()
    lineage = catalog.lineage()
    naming = _known_naming(lineage, lineage.entries[cell].needs.get("concepts", ""))
    parts: list[Part] = [Note(MEANING)]
    for image in images[:MOST_REPORTED]:
        decision = of_stored(decisions, image)
        name = file_name(cell, image)
        parts += decision_parts(decision, naming, name, f"{image}: {decision.question}")
    if len(images) > MOST_REPORTED:
        parts.append(Note(f"{counted(len(images) - MOST_REPORTED, 'more image')} left out."))
    return parts


def _known_naming(lineage: Lineage, concepts: str) -> Naming:
    """Return the preferred names of some concepts, if there are any."""
    entry = lineage.entries.get(maker_of(lineage, concepts, "names") if concepts else "")
    with suppress(*EXPECTED):
        if entry is not None and entry.folder is not None:
            names = read_small(entry.folder, entry.stage)
            namers = namers_of(names)
            return naming_of(names, namers[preferred_namer(namers)])
    return NAMELESS
