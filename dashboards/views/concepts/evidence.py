"""Can a concept, and its name, be trusted? What speaks for it, what against, and what is open."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.concepts.neurons import Words
from dashboards.views.concepts.one_concept import Return
from dashboards.views.parts.parts import Table
from dashboards.views.parts.text import number_text, share_text
from evals.kernels.statistics import count_top
from evals.naming.halves import halve_inputs, sequences_of
from evals.naming.verdicts import ABOVE, AT_CHANCE, UNTESTED, rank_of
from registry.columns import Column
from registry.wording import counted

FOR, AGAINST, OPEN = "✓ for", "✗ against", "– open"
COLUMNS = {
    "question": Column(header="question"),
    "finding": Column(header="what was found"),
    "speaks": Column(header="speaks"),
    "rule": Column(header="how it is read"),
}

FIT_METRIC = "auprc"
"""By which a name is judged by itself: it passes the sanity checks."""


@dataclass(frozen=True)
class Evidence:
    """One question about a name, and its answer.

    Attributes
    ----------
    question, finding : str
        In words.
    speaks : str
        `FOR`, `AGAINST` or `OPEN`.
    rule : str
        When it speaks for the name, and when against.
    """

    question: str
    finding: str
    speaks: str
    rule: str


def verdict_line(evidence: Sequence[Evidence]) -> str:
    """Return how many answers speak for a name or concept, against it, and neither; in a word."""
    counts = {kind: sum(one.speaks == kind for one in evidence) for kind in (FOR, AGAINST, OPEN)}
    sum_of_it = "" if counts[FOR] else ": nothing speaks for it yet"
    return (
        f"{counted(len(evidence), 'answer')}: {counts[FOR]} for it, {counts[AGAINST]} against it, "
        f"{counts[OPEN]} open{sum_of_it}."
    )


def evidence_title(what: str) -> str:
    """Return what is asked about a name, or about a concept without one."""
    return f"Can this {what} be trusted?"


def evidence_table(name: str, evidence: Iterable[Evidence], what: str = "name") -> Table:
    """Return the table of all questions about a name, or about a concept without one."""
    frame = pd.DataFrame(list(map(asdict, evidence)), columns=list(COLUMNS))
    return Table(f"{name}-evidence", frame, evidence_title(what), columns=COLUMNS)


def missing(question: str, what: str, command: str = "") -> Evidence:
    """Return a question that cannot be answered, with what would answer it."""
    text = f"not known: {what}" + (f"; {command}" if command else "")
    return Evidence(question, text, OPEN, "")


AGREE = "Do trusted metrics agree?"
CHANCE = "Is it more than chance?"
AHEAD = "Is it clearly ahead of the second-best label?"
FITS = "Does the label fit the concept?"
ALIKE = "Are its regions visually consistent?"
THERE = "Is it where its name is?"
AGAIN = "Is it recovered on retraining?"


def not_asked(words: Words) -> str:
    """Return which questions are asked of concepts alone, where a set is of neurons."""
    if words.input == "image":
        why = "Channels have answers where fact.measure_channels takes them for concepts."
        return f"Asked of concepts alone: {ALIKE} {AGAIN} {why}"
    return f"Asked of concepts of images alone: {ALIKE} {THERE} {AGAIN}"


def agreement(names: xr.Dataset, concept: int, label: str) -> Evidence:
    """Return whether metrics that vote choose a label.

    Parameters
    ----------
    names : xr.Dataset
        ``name`` (concept, metric), ``votes`` and ``verdict`` (metric), ``consensus`` (concept).
    concept : int
        One of its concepts.
    label : str
        The name in question; "" for none.
    """
    votes = _choosing(names, concept, label)
    voting = int(names["votes"].values.sum())
    rule = (
        "for: over half of them, and more than by chance; a metric can be trusted if it passes the "
        "sanity checks"
    )
    if not voting:
        return Evidence(AGREE, "no metric passed the sanity checks, so none votes", OPEN, rule)
    if not label:
        return Evidence(AGREE, "it has no name", AGAINST, rule)
    found = f"{int(votes.sum())} of {voting} choose {label!r}"
    most = str(names["consensus"].sel(concept=concept).values)
    found += f"; most choose {most!r}" if most not in ("", label) else ""
    if set(names["verdict"].values.astype(str)) == {"untested"}:
        return Evidence(AGREE, f"{found}; none was tested", OPEN, rule)
    by_chance, told = _votes_by_chance(names, concept)
    is_most = 2 * votes.sum() > voting
    is_more = not votes.sum() <= by_chance  # where nothing was tested, nothing is said
    speaks = AGAINST if not is_most else FOR if is_more else OPEN
    return Evidence(AGREE, f"{found}; {told}", speaks, rule)


def _votes_by_chance(names: xr.Dataset, concept: int) -> tuple[float, str]:
    """Return up to how many votes permuted labels give, NaN where none were made, and in words."""
    most = (
        float(names["votes_by_chance"].sel(concept=concept))
        if "votes_by_chance" in names
        else np.nan
    )
    if np.isnan(most):
        return most, "by chance: not tested"
    return most, f"by chance up to {number_text(most)}"


def beyond_chance(names: xr.Dataset, concept: int, label: str) -> Evidence:
    """Return whether a consensus scores above what permuted labels give; see :func:`agreement`.

    Of another name than the consensus, how many metrics that vote and choose it say so.
    """
    rule = (
        "for: above what permutations of labels give, counting all concepts; against: not even by "
        "itself"
    )
    own = names.sel(concept=concept)
    if not label or "consensus_chance" not in names:
        why = "it has no name" if not label else "permutations of labels were not made"
        return Evidence(CHANCE, why, AGAINST if not label else OPEN, rule)
    if label == str(own["consensus"].values):
        verdict = str(own["consensus_chance"].values)
        votes, by_chance = int(own["consensus_votes"]), _votes_by_chance(names, concept)[1]
        found = f"{verdict} by the mean score of the metrics that vote, "
        found += f"p = {number_text(float(own['consensus_p']), 2)}; votes alone do not decide: "
        found += f"{counted(votes, 'vote')}, {by_chance}"
    else:
        every = own["chance"].values.astype(str)
        verdicts = every[_choosing(names, concept, label)]
        if not len(verdicts):
            found, speaks = _untrusted(every[own["name"].values.astype(str) == label])
            return Evidence(CHANCE, found, speaks, rule)
        verdict = verdicts[np.argmax(rank_of(verdicts))]
        found = f"{verdict} by the least sure of {counted(len(verdicts), 'metric')}"
    if verdict == UNTESTED:
        found = "untested: the budget of permutations left this concept out"
    return Evidence(CHANCE, found, SPEAKS.get(verdict, OPEN), rule)


def _untrusted(verdicts: np.ndarray) -> tuple[str, str]:
    """Return what is found of a name that no metric chooses which can be trusted, and its verdict.

    Where all that choose it find it at chance, (metric,), nothing is left that could speak for it.
    """
    found = "no metric that can be trusted chooses it"
    if not len(verdicts) or (verdicts != AT_CHANCE).any():
        return found, OPEN
    return f"{found}; {AT_CHANCE} by all that do, {counted(len(verdicts), 'metric')}", AGAINST


SPEAKS = {ABOVE: FOR, AT_CHANCE: AGAINST}
"""What a verdict speaks for."""


def _choosing(names: xr.Dataset, concept: int, label: str) -> np.ndarray:
    """Return which metrics vote and choose a label, (metric,)."""
    chosen = names["name"].sel(concept=concept).values.astype(str) == label
    return np.asarray(chosen & names["votes"].values.astype(bool) & (label != ""))


def lead(names: xr.Dataset, concept: int, label: str) -> Evidence:
    """Return by how many voting metrics a name is clearly ahead of its second-best label.

    Clearly: the interval of its score, on images that it was not chosen on, lies above the score
    of the second-best label. Only metrics that choose it are asked; see :func:`agreement`.
    """
    own = names[["interval_low", "score", "margin", "tied"]].sel(concept=concept)
    asked = _choosing(names, concept, label)
    rule = "for: by over half of the metrics that choose it, its interval lies above the next score"
    if not asked.any():
        return Evidence(AHEAD, "no metric that can be trusted chooses it", OPEN, rule)
    second = own["score"].values - own["margin"].values
    clear = int((own["interval_low"].values > second)[asked].sum())
    tied = int((own["tied"].values > 0)[asked].sum())
    found = f"by {clear} of {int(asked.sum())} metrics that choose it"
    found += f"; {tied} give another label the same score" if tied else ""
    return Evidence(AHEAD, found, FOR if 2 * clear > asked.sum() else AGAINST, rule)


@dataclass(frozen=True)
class Reach:
    """What an average precision could be, of a label as frequent as the one in question.

    Attributes
    ----------
    alpha : float
        Fraction of images that count as those where the concept is strongest.
    share : float
        Fraction of images that show the label.
    ceiling, chance : float
        Score of a concept that ranks images just as the label does, and of one that has nothing
        to do with it.
    """

    alpha: float
    share: float
    ceiling: float
    chance: float


def reach(values: np.ndarray, alpha: float | None, present: float = 1.0) -> Reach | None:
    """Return what the score of a label could be; None where it has none.

    A label on more images than count as active cannot detect these without false alarms, and a
    rarer one misses most of them: of a binary label with share s the ceiling is ``alpha / s`` from
    alpha on, and below it ``s / alpha + (1 - s / alpha) alpha``.

    Parameters
    ----------
    values : ndarray of float
        (image,) 0 or 1, or probabilities, of the images that names are scored on.
    alpha : float or None
        Fraction of them that is active.
    present : float
        Fraction in which the concept is present at all: no more than these are active.
    """
    if alpha is None or len(values) < 2 or values.min() == values.max():
        return None
    alpha = min(alpha, max(present, 1 / len(values)))
    active = count_top(alpha, len(values))
    ceiling = _own_precision(values, min(active, len(values) - 1))  # the smallest counts as none
    return Reach(alpha, float(values.mean()), ceiling, active / len(values))


def _own_precision(values: np.ndarray, active: int) -> float:
    """Return the average precision of values (image,) at finding so many that they rank highest.

    As the metric has it, without its compiled code, which takes a page half a second to load.
    """
    ranked = -np.sort(-values)
    found = np.flatnonzero(np.diff(ranked, append=-np.inf)) + 1  # images from each value up
    hits = np.minimum(found, active)
    return float((np.diff(hits, prepend=0) * hits / found).sum() / active)


def scored_labels(
    names: xr.Dataset, labelled: xr.Dataset, images: np.ndarray
) -> xr.DataArray | None:
    """Return labels of the images that names were scored on, lazily, with ``alpha`` in attributes.

    None where these are not known: the inputs were halved otherwise than what is here.

    Parameters
    ----------
    names : xr.Dataset
        Of the schema ``names``.
    labelled : xr.Dataset
        Of the schema ``labels``: ``value`` (image, label).
    images : ndarray of str
        (image,) those of the concepts.
    """
    if "value" not in labelled or "image" not in labelled.indexes or "n_scoring" not in names:
        return None
    config = json.loads(str(names.attrs.get("config") or "{}"))
    rows = labelled.indexes["image"].get_indexer(images)
    both, rows = images[rows >= 0], rows[rows >= 0]
    if len(both) < 2:
        return None
    groups = sequences_of(both) if config.get("by_sequence") else None
    _, half = halve_inputs(both, int(config.get("seed") or 0), groups)
    if len(half) != int(names["n_scoring"]):
        return None
    return labelled["value"].isel(image=rows[half]).assign_attrs(alpha=config.get("alpha"))


def fit(names: xr.Dataset, concept: int, label: str, reached: Reach | None) -> Evidence:
    """Return how well a name fits by itself, not beside other labels: by its average precision.

    That is the AUPRC of Oikarinen et al. (ICML 2025, arXiv 2506.05774) with the label as a score
    of the images in which the concept is strongest. How high it can be depends on how frequent the
    label is, so it is judged between what chance gives and what a concept that ranks images just as
    the label does would score. The best of many labels can still be a poor one.

    Parameters
    ----------
    names : xr.Dataset
        ``name``, ``score``, ``interval_low``, ``interval_high`` (concept, metric).
    concept : int
        One of its concepts.
    label : str
        The name in question; "" for none.
    reached : Reach or None
        What its score could be; None where that is not known.
    """
    rule = (
        "for: the interval of its AUPRC lies above the middle between chance and the highest that "
        "a label on so many images can reach; against: below"
    )
    if FIT_METRIC not in names.indexes["metric"]:
        return Evidence(FITS, f"not known: {FIT_METRIC} was not asked", OPEN, rule)
    own = names[["name", "score", "interval_low", "interval_high"]]
    own = own.sel(concept=concept, metric=FIT_METRIC)
    low, high = float(own["interval_low"]), float(own["interval_high"])
    if not label or str(own["name"].values) != label:
        other = str(own["name"].values)
        text = f"by {FIT_METRIC} another label fits better: {other!r}" if other else "not known"
        return Evidence(FITS, text, OPEN, rule)
    told = (number_text(value, 2) for value in (float(own["score"]), low, high))
    found = "AUPRC of the label as detector of the images where it is strongest: {}, from {} to {}"
    found = found.format(*told)
    if reached is None:
        return Evidence(FITS, f"{found}; how high it can be is not known here", OPEN, rule)
    most, least = number_text(reached.ceiling, 2), number_text(reached.chance, 2)
    found += (
        f"; at most {most} for a label on {share_text(reached.share)} of the images and the "
        f"strongest {share_text(reached.alpha)}, by chance {least}"
    )
    middle = (reached.chance + reached.ceiling) / 2
    speaks = FOR if low > middle else AGAINST if high < middle else OPEN
    return Evidence(FITS, found, speaks, rule)


def alikeness(consistency: xr.Dataset, concept: int) -> Evidence:
    """Return how a concept's C2-score lies between random maps and other concepts."""
    rule = "for: above the mean of all concepts; against: not above random maps"
    scores = consistency["score"].values
    at = np.flatnonzero(consistency["concept"].values == concept)
    if not len(at) or np.isnan(scores[at[0]]):
        return Evidence(ALIKE, "it has no C2-score: too few images", OPEN, rule)
    score, few = float(scores[at[0]]), int(consistency["n_images"].values[at[0]])
    random, mean = _random(consistency, int(at[0])), float(consistency["mean_score"])
    higher = float((scores[np.isfinite(scores)] <= score).mean())
    found = (
        f"C2-score {number_text(score, 2)} over {counted(few, 'image')}; random maps "
        f"{number_text(round(random, 3), 2)}, all concepts {number_text(mean, 2)}; "
        f"{100 * higher:.0f} % score no higher"
    )
    if by := [part for part in str(consistency["variant"].item()).split("; ") if "maps by" in part]:
        found += f"; {by[0]}, an approximation"
    if few < int(consistency["least_images"]):
        return Evidence(ALIKE, f"{found}; too few images to count", OPEN, rule)
    speaks = FOR if score > max(mean, random) else AGAINST if score <= random else OPEN
    return Evidence(ALIKE, found, speaks, rule)


def _random(consistency: xr.Dataset, index: int) -> float:
    """Return the score of random maps: of the concept's own class, where there are some."""
    own = (
        float(consistency["concept_baseline"][index]) if "concept_baseline" in consistency else None
    )
    return float(consistency["baseline"]) if own is None or np.isnan(own) else own


def location(localisation: xr.Dataset, concept: int) -> Evidence:
    """Return whether a concept's maps lie on what its name names, beyond chance."""
    rule = (
        "for: by every measure the interval lies above chance, and above the same maps on the "
        "masks of other images; against: by one it lies below chance"
    )
    if concept not in localisation.indexes["concept"]:
        return Evidence(THERE, "it was not mapped", OPEN, rule)
    own = localisation.sel(concept=concept)
    low, high = own["lift_low"].values, own["lift_high"].values
    known = np.isfinite(low) & np.isfinite(high)
    if not known.any():
        return Evidence(THERE, "no interval: too few images show its name", OPEN, rule)
    elsewhere = own["elsewhere"].values
    lines = [
        f"{measure} {number_text(score, 2)} (chance {number_text(chance, 2)}, on other images "
        f"{number_text(other, 2)})"
        for measure, score, chance, other in zip(
            own["measure"].values, own["score"].values, own["chance"].values, elsewhere, strict=True
        )
    ]
    shown = f"in the {int(own['n_shown'])} of {counted(int(own['n_images']), 'image')} that show"
    above = (low[known] > 0).all() and not (own["interval_low"].values <= elsewhere)[known].any()
    speaks = FOR if above else AGAINST if (high[known] < 0).any() else OPEN
    found = f"{shown} {str(own['name'].values)!r}: {', '.join(lines)}"
    if "maps" in localisation:
        found += f"; maps by {localisation['maps'].item()}, an approximation"
    return Evidence(THERE, found, speaks, rule)


def recurrence(other: str, found: Sequence[Return]) -> Evidence:
    """Return whether a concept was found again in another set.

    Parameters
    ----------
    other : str
        The cell of the other set.
    found : sequence of Return
        By each basis.
    """
    known = [one for one in found if one.is_there]
    threshold = found[0].threshold if found else float("nan")
    rule = f"for: every similarity at least {number_text(threshold)}; against: none above chance"
    if not known:
        return Evidence(AGAIN, f"nothing in {other} is matched to it", AGAINST, rule)
    text = f"in {other}, {'; '.join(one.text for one in found)}"
    if all(one.is_there and one.similarity >= one.threshold for one in found):
        return Evidence(AGAIN, text, FOR, rule)
    at_chance = all(one.similarity <= one.chance for one in known)
    return Evidence(AGAIN, text, AGAINST if at_chance else OPEN, rule)
