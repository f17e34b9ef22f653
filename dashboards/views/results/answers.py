"""What results say, each in one sentence, for the top of its page: counts, intervals and chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.parts.measured import commonest_of, of_images, split_of
from dashboards.views.parts.text import number_text, share_text
from evals.metrics.tolerance import faulty_names
from evals.naming.verdicts import ABOVE, AT_CHANCE, UNDECIDED, UNTESTED, chance_of
from evals.sanity.protocol import DECISIVE, FAILS, FORMS, PASSES, THEORETICAL
from evals.sanity.protocol import UNDECIDED as OPEN
from evals.sanity.published_tables import STATES
from registry.store.schema import decode_attribute
from registry.wording import counted, verb

MOST_NAMED = 3
"""Metrics that a sentence names."""


def interval_text(low: float, high: float, told: Callable[[float], str] = number_text) -> str:
    """Return an interval as ``95 % interval 1 to 2``; "" where there is none."""
    return "" if np.isnan(low) else f"95 % interval {told(low)} to {told(high)}"


def _rounded(value: float) -> str:
    """Return a score to three decimals."""
    return number_text(round(float(value), 3))


def _listed(names: Sequence[str]) -> str:
    """Return names as ``a, b and c``; of many the first, and how many more there are."""
    shown, more = list(names[:MOST_NAMED]), len(names) - MOST_NAMED
    if more > 0:
        shown.append(f"{more} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _brackets(*words: str) -> str:
    told = "; ".join(filter(None, words))
    return f" ({told})" if told else ""


# -- metrics ----------------------------------------------------------------------------------


def sanity(own: xr.Dataset) -> str:
    """Return how many metrics pass their checks, by which of them, and which decide nothing."""
    failed = own["metric"].isin(list(faulty_names(own.attrs))).values
    verdicts = own["passed"].values[~failed].astype(str).tolist()
    n_metrics, counts = len(failed), {v: verdicts.count(v) for v in (PASSES, FAILS, OPEN)}
    known = own["form"].values.astype(str)
    ran = [f for f in known if own["decrease_accuracy"].sel(form=f).notnull().any()]
    forms = [form for form in DECISIVE if form in ran]
    if not forms:
        return f"None of {counted(n_metrics, 'metric')} was checked."
    passing = f"{counts[PASSES]} of {counted(n_metrics, 'metric')}"
    first = f"{passing} {verb(counts[PASSES], 'passes', 'pass')} the sanity checks"
    if not counts[PASSES]:
        first = f"No metric of {n_metrics} passes the sanity checks"
    rest = [f"{counts[FAILS]} {verb(counts[FAILS], 'fails', 'fail')}"] if counts[FAILS] else []
    is_open = f"{counts[OPEN]} {verb(counts[OPEN], 'is', 'are')} undecided, within sampling error"
    rest += [is_open] if counts[OPEN] else []
    n_failed = int(failed.sum())
    rest += [f"{n_failed} failed {verb(n_failed, 'itself', 'themselves')}"] if n_failed else []
    n_unrun = len(verdicts) - sum(counts.values())
    rest += [f"{n_unrun} {verb(n_unrun, 'was', 'were')} not checked"] if n_unrun else []
    told = f"{first} ({_listed(forms)})"
    told += f"; {', '.join(rest)}" if rest else ""
    if beside := [form for form in FORMS if form in ran and form not in forms]:
        told += f". The {_listed(beside)} check is shown beside them, and decides nothing"
    elif forms == [THEORETICAL]:
        told += ". On real neurons none was checked here"
    return f"{told}."


def identification(own: xr.Dataset) -> str:
    """Return which metric finds known concepts best, beside chance, and how many do no better."""
    auprc, low = own["auprc"].values, own["auprc_low"].values
    neurons = counted(int(own["n_neurons"]), "neuron")
    if np.isnan(auprc).all():
        return f"No metric could be tested on {neurons} of known concept."
    chance = 1 / max(1, int(own["n_concepts"]))
    best = np.nanmax(auprc)
    names = own["metric"].values.astype(str)[np.isclose(auprc, best, rtol=0, atol=5e-4)]
    at = int(np.nanargmax(auprc))
    around = interval_text(float(low[at]), float(own["auprc_high"].values[at]))
    told = (
        f"{_listed(names)} {verb(len(names), 'finds', 'find')} the known concepts of {neurons} "
        f"best, with an AUPRC of {_rounded(best)}"
        f"{_brackets(around, f'chance {number_text(chance)}')}"
    )
    floor = np.where(np.isnan(low), auprc, low)
    n_lost, n_known = int((floor <= chance).sum()), int((~np.isnan(auprc)).sum())
    told += (
        f"; {n_lost} of {counted(n_known, 'metric')} {verb(n_lost, 'is', 'are')} not above chance"
        if n_lost
        else f"; all {n_known} are above chance"
    )
    return f"{told}."


def comparison(own: xr.Dataset) -> str:
    """Return how many published cells are ours too."""
    equal, explained, unknown = (int(own[f"n_{state}"]) for state in STATES)
    cells = counted(own.sizes["cell"], "published figure")
    first = f"{equal} of {cells} {verb(equal, 'is', 'are')} ours too"
    if not equal:
        first = f"None of {cells} is ours too"
    return (
        f"{first}; {explained} {verb(explained, 'differs', 'differ')} for a cause that was put "
        f"to the test, {unknown} {verb(unknown, 'is', 'are')} open."
    )


def scores(pairs: pd.DataFrame, metric: str, n_concepts: int) -> str:
    """Return how well the best concept of a neuron explains it, by one metric.

    Parameters
    ----------
    pairs : pd.DataFrame
        A row per neuron: ``score`` of its best concept, and ``margin`` over the second best.
    metric : str
        Which.
    n_concepts : int
        How many compete.
    """
    if pairs["score"].isna().all():
        return f"No pair of a neuron and a concept could be scored by {metric}."
    told = (
        f"By {metric}, the best of {counted(n_concepts, 'concept')} scores "
        f"{_rounded(pairs['score'].median())} in the median of {counted(len(pairs), 'neuron')}"
    )
    if pairs["margin"].notna().any():
        told += f", {_rounded(pairs['margin'].median())} more than the second best"
    return f"{told}; none of it was tested against chance."


# -- concepts ---------------------------------------------------------------------------------


def consistency(own: xr.Dataset, above: float) -> str:
    """Return whether concepts look more alike than random maps.

    Parameters
    ----------
    own : Dataset
        Of the schema ``consistency``.
    above : float
        Fraction of the concepts that count whose score lies above random maps.
    """
    n_scored = int(own["n_scored"])
    mean, random = float(own["mean_score"]), float(own["baseline"])
    if not n_scored or np.isnan(mean):
        return "No concept has enough images to be scored."
    beside = f"mean C2-score {_rounded(mean)}, random maps {_rounded(random)}"
    if np.isnan(random):
        return f"The mean C2-score of {counted(n_scored, 'concept')} is {_rounded(mean)}."
    is_more = "more alike than" if mean > random else "no more alike than"
    told = f"What concepts point at looks {is_more} random maps ({beside})"
    return f"{told}: {share_text(above)} of {counted(n_scored, 'concept')} lie above."


def fidelity(own: xr.Dataset) -> str:
    """Return what a network still says with concepts in a layer's place."""
    numbers = {
        name: float(own[name])
        for name in ("agreement", "agreement_low", "agreement_high", "accuracy")
    }
    around = interval_text(numbers["agreement_low"], numbers["agreement_high"], share_text)
    agree = (
        "With concepts in a layer's place, the network says the same in "
        f"{share_text(numbers['agreement'])} {of_images(int(own['n_images']), split_of(own))}"
        f"{_brackets(around)}"
    )
    others = []
    if not np.isnan(numbers["accuracy"]):
        before = share_text(float(own["network_accuracy"]))
        right = share_text(numbers["accuracy"])
        commonest = share_text(commonest_of(own))
        others.append(
            f"it is right in {right} of the {int(own['n_labelled']):,} with a label, the network "
            f"itself in {before}, always naming the commonest class in {commonest}"
        )
    if not np.isnan(kept := float(own["kl_recovered"])):
        around = interval_text(
            float(own["kl_recovered_low"]), float(own["kl_recovered_high"]), share_text
        )
        others.append(f"{share_text(kept)} of the divergence is recovered{_brackets(around)}")
    return f"{'; '.join([agree, *others])}."


def intervention(own: xr.Dataset) -> str:
    """Return whether removing concepts does what contributions promise."""
    found = {name: float(own[name]) for name in ("correlation", "slope", "relative_error")}
    low, high = float(own["slope_low"]), float(own["slope_high"])
    if np.isnan(found["correlation"]):
        return "Whether contributions keep their promises could not be measured."
    size = f"{number_text(round(found['slope'], 2))} times as large as promised"
    if low <= 1 <= high:
        size = "as large as promised, within the interval"
    around = interval_text(float(own["correlation_low"]), float(own["correlation_high"]))
    return (
        f"Changes of the logit follow what contributions promise with a correlation of "
        f"{_rounded(found['correlation'])}{_brackets(around)} and are {size}, with a "
        f"mean error of {share_text(found['relative_error'])}."
    )


def matching(own: xr.Dataset) -> str:
    """Return how many concepts are found again in another set, beside chance."""
    n_concepts = int(own["n_alive_one"])
    name, what = "returned_share", "come back in the other set"
    if name not in own:
        name, what = "mutual_share", "are each other's nearest in both sets"
    told = []
    for basis in own["basis"].values.astype(str):
        share, chance = (float(own[n].sel(basis=basis)) for n in (name, f"null_{name}"))
        no_more = ", so no more than that" if share <= chance else ""
        told.append(f"{share_text(share)} by {basis} (chance {share_text(chance)}{no_more})")
    if not told or not n_concepts:
        return "Nothing was matched."
    return f"Of {counted(n_concepts, 'concept')}, {_listed(told)} {what}."


def localisation(own: xr.Dataset, measure: str) -> str:
    """Return how many concepts are where the labels are that name them, by one measure."""
    at = own.sel(measure=measure)
    lows = at["lift_low"].values
    judged = ~np.isnan(lows)
    n_judged, n_above = int(judged.sum()), int((lows[judged] > 0).sum())
    if not n_judged:
        return f"No concept could be judged by {measure}: too few images show the names."
    first = f"{n_above} of {counted(n_judged, 'judged concept')} {verb(n_above, 'is', 'are')}"
    if not n_above:
        first = f"None of {counted(n_judged, 'judged concept')} is"
    means = {name: float(at[f"mean_{name}"]) for name in ("score", "chance", "elsewhere")}
    values = {name: _rounded(value) for name, value in means.items()}
    return (
        f"{first} where the label is that names it, above chance by {measure} (mean "
        f"{values['score']}; chance {values['chance']}, masks of other images "
        f"{values['elsewhere']})."
    )


VERDICT_WORDS: Mapping[str, str] = {
    ABOVE: "above chance",
    UNDECIDED: "undecided",
    AT_CHANCE: "at chance",
    UNTESTED: "not tested against chance",
}


def names(own: xr.Dataset) -> str:
    """Return how many concepts have a consensus name, and how these stand against chance."""
    n_concepts = counted(own.sizes["concept"], named_noun(own))
    n_voting = int(own["n_voting"])
    voters = f"{n_voting} voting {'metric' if n_voting == 1 else 'metrics'}"
    found = chance_counts(own)
    named = sum(found.values())
    if not n_voting:
        return f"No metric may vote, so none of {n_concepts} has a consensus name."
    if not named:
        return f"None of {n_concepts} has a consensus name by {voters}."
    told = [f"{n} {VERDICT_WORDS[verdict]}" for verdict, n in found.items() if n]
    if len(told) == 1 and named > 1:
        told = [told[0].replace(str(named), "all", 1)]
    have = verb(named, "has", "have")
    return f"{named} of {n_concepts} {have} a consensus name by {voters}: {', '.join(told)}."


def named_noun(own: xr.Dataset) -> str:
    """Return what names are of, ``concept`` or ``neuron``, as their dataset says what it read."""
    inputs = decode_attribute(own.attrs.get("inputs", {}))
    kind = inputs.get("activations", {}).get("kind", "")
    return "neuron" if kind in ("activations", "next_tokens") else "concept"


def chance_counts(own: xr.Dataset) -> dict[str, int]:
    """Return how many names of the consensus stand how against chance, the surest first."""
    held = (
        chance_of(own)[own["consensus"].values.astype(str) != ""].tolist()
        if ("consensus" in own)
        else []
    )
    return {verdict: held.count(verdict) for verdict in VERDICT_WORDS}
