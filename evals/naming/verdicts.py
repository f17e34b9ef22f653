"""Verdicts on names against what chance gives, and how they are read from datasets."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr

from evals.naming.candidates import BEST
from registry.wording import counted, share_text

ABOVE, UNDECIDED, UNTESTED, AT_CHANCE = VERDICTS = (
    "above chance",
    "undecided",
    "untested",
    "at chance",
)
"""The surest first. By the smallest p of all concepts; by the concept's own p alone; of a concept
that the budget left out; by neither."""


IN_WORDS = {
    ABOVE: "above chance",
    UNDECIDED: "above chance by itself, not among all concepts",
    UNTESTED: "not tested against chance",
    AT_CHANCE: "at chance",
}
"""A verdict within a sentence."""


def judge(p: np.ndarray, family_p: np.ndarray, level: float) -> np.ndarray:
    """Return the verdict that follows from p, of one concept and of all, at a level; "" for NaN."""
    level += 1e-12  # 1 - 0.95 is not 0.05
    verdict = np.where(p > level, AT_CHANCE, np.where(family_p > level, UNDECIDED, ABOVE))
    return np.where(np.isnan(p), "", verdict).astype(object)


def chance_of(names: xr.Dataset, metric: str = "") -> np.ndarray:
    """Return the verdict on each name (concept,) by a metric, or by the consensus for "".

    "untested" for names of datasets that are older than the test, "" where there is no name.
    """
    found = names["consensus"] if not metric else names["name"].sel(metric=metric)
    if "chance" not in names:
        return np.where(found.values.astype(str) == "", "", UNTESTED).astype(object)
    own = names["chance"].sel(metric=metric) if metric else names["consensus_chance"]
    return own.values.astype(str).astype(object)


def rank_of(verdicts: np.ndarray) -> np.ndarray:
    """Return the place of each verdict among `VERDICTS`; what is none of them comes last."""
    known = {verdict: place for place, verdict in enumerate(VERDICTS)}
    return np.array([known.get(str(own), len(known)) for own in verdicts], dtype=np.int64)


def subject_of(names: xr.Dataset) -> tuple[str, str]:
    """Return what is named, and on what: ``concept`` or ``neuron``, ``image`` or ``position``.

    Parameters
    ----------
    names : Dataset
        Of the schema ``names``, with what it was made from as the store has written it.
    """
    made_from = json.loads(names.attrs.get("inputs", "{}")).get("activations", {})
    kind = made_from.get("kind", "")
    noun = "neuron" if kind in ("activations", "next_tokens") else "concept"
    return noun, "position" if kind == "next_tokens" else "image"


def chance_note(names: xr.Dataset) -> str:
    """Return in words how names were tested against chance; see `chance_lines`."""
    return " ".join(chance_lines(names))


def chance_lines(names: xr.Dataset) -> list[str]:
    """Return how names were tested against chance, with what outcome, and what was left out.

    Parameters
    ----------
    names : Dataset
        Of the schema ``names``.
    """
    n_made = int(names["n_permutations"]) if "n_permutations" in names else 0
    if not n_made:
        return ["Names were not tested against chance."]
    n_tested, n_concepts = int(names["n_tested"]), names.sizes["concept"]
    of = f"all {n_tested:,}" if n_tested == n_concepts else f"{n_tested:,} of {n_concepts:,}"
    cause = "" if n_tested == n_concepts else ", as many as the budget allows"
    level = 1 - float(names["confidence"])
    noun, _ = subject_of(names)
    told = dict(zip(VERDICTS, _count(chance_of(names)), strict=True))
    lines = [
        f"Chance: {counted(n_made, 'permutation')} of labels, for {of} {noun}s{cause}; p "
        f"up to {level:.2g}.",
        f"The consensus of {told[ABOVE]:,} is above chance, of {told[UNDECIDED]:,} undecided (by "
        f"themselves, not among all), of {told[AT_CHANCE]:,} at chance.",
    ]
    left_out = []
    if n_rare := int(names["n_rare_labels"]):
        least = int(names["min_positives"])
        left_out.append(
            f"{counted(n_rare, 'label')} on fewer than {counted(least, 'input')}, or all but so "
            "few, of a half"
        )
    if n_few := int(names["n_few_active"]):
        least = int(names["min_active"])
        left_out.append(
            f"{counted(n_few, noun)} active on fewer than {counted(least, 'input')} of a half"
        )
    if n_left_out := int(names.get("n_left_out", 0)):
        left_out.append(f"{counted(n_left_out, 'label')} by leave_out")
    if left_out:
        lines.append(f"Left out: {', '.join(left_out)}.")
    return [*lines, *_preference(names)]


def votes_by_chance(names: xr.Dataset, which: np.ndarray) -> str:
    """Return in words how often permuted labels give some concepts as many votes as they have.

    Parameters
    ----------
    names : Dataset
        Of the schema ``names``.
    which : ndarray of bool
        (concept,) of the concepts that were tested.
    """
    p = names["votes_p"].values[which] if "votes_p" in names else np.empty(0)
    p = p[np.isfinite(p)]
    if not len(p):
        return "not tested against chance"
    return f"permuted labels give so many votes {share_text(p.mean())} of the time"


def is_unanimous(names: xr.Dataset) -> np.ndarray:
    """Return of which concepts (concept,) all voting metrics choose the consensus."""
    votes = names["consensus_votes"].values
    return np.asarray((votes > 0) & (votes == int(names["n_voting"])))


def is_by_majority(names: xr.Dataset) -> np.ndarray:
    """Return of which concepts (concept,) more than half of the voting metrics choose it."""
    return np.asarray(2 * names["consensus_votes"].values > int(names["n_voting"]))


def _preference(names: xr.Dataset) -> list[str]:
    """Return how many names are of labels that were preferred to others."""
    if str(names.get("prefer", xr.DataArray(BEST)).item()) == BEST:
        return []
    if "consensus_passed_over" not in names:
        return ["No label was preferred: all of them are classes, or none is."]
    n_preferred = int((names["consensus_passed_over"].values.astype(str) != "").sum())
    return [
        "Labels that are no classes are preferred where they are not at chance: as consensus of "
        f"{counted(n_preferred, 'concept')}, in place of another label."
    ]


BY_ITSELF = "not at chance by itself"
"""Of a second name, whose p is its own alone."""


def second_texts(names: xr.Dataset, metric: str = "", only_beyond: bool = False) -> np.ndarray:
    """Return second names (concept,) with their score and verdict; "" for none.

    They are tested one by one: nothing is said of them among all concepts.

    Parameters
    ----------
    names : Dataset
        Of the schema ``names``; older ones have no second names.
    metric : str
        Whose names; the consensus for "".
    only_beyond : bool
        Return the names alone, of what is not at chance.
    """
    of = "second" if metric else "consensus_second"
    found = "second_name" if metric else of
    if found not in names:
        return np.full(names.sizes["concept"], "", dtype=object)
    own = names[[name for name in (found, f"{of}_score", f"{of}_p") if name in names]]
    own = own.sel(metric=metric) if metric else own
    worth = (
        [f"{score:.2f}" for score in own["second_score"].values]
        if metric
        else [
            f"{n} of {counted(int(names['n_voting']), 'vote')}" for n in names[f"{of}_votes"].values
        ]
    )
    p = own[f"{of}_p"].values if f"{of}_p" in own else np.full(len(worth), np.nan)
    verdicts = judge_seconds(names, p)
    if only_beyond:
        return np.where(verdicts == BY_ITSELF, own[found].values.astype(str), "").astype(object)
    texts = zip(own[found].values.astype(str), worth, verdicts, strict=True)
    return np.array(
        [f"{name}, {one}, {verdict}" if name else "" for name, one, verdict in texts], dtype=object
    )


def judge_seconds(names: xr.Dataset, p: np.ndarray) -> np.ndarray:
    """Return the verdict on each p of a second name; "untested" for NaN."""
    confidence = float(names.get("confidence", xr.DataArray(0.95)))  # older ones do not say
    verdicts = judge(p, np.full(p.shape, np.inf), 1 - confidence)
    return np.where(verdicts == "", UNTESTED, np.where(verdicts == UNDECIDED, BY_ITSELF, verdicts))


def untested_best(n_labels: int) -> str:
    """Return in words that the best of so many labels was not tested against chance."""
    return (
        f"The best of {counted(n_labels, 'label')}, by the scores that are shown: not tested "
        "against "
        "chance, and on noise the best of many scores well too. evals.name_concepts tests names."
    )


def _count(verdicts: np.ndarray) -> list[int]:
    """Return how often each of `VERDICTS` stands."""
    return [int((verdicts == verdict).sum()) for verdict in VERDICTS]
