"""Names of all concepts together: how often metrics agree, and which labels come up most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.concepts.concept_model import label_counts
from dashboards.views.concepts.labels import CONSENSUS, best_names, namers_of, names_note
from dashboards.views.parts.charts import bars, heat
from dashboards.views.parts.parts import Figure, Part, frame_of
from dashboards.views.results import answers, view
from dashboards.views.results.menu import MENU
from dashboards.views.results.sanity import verdict_texts
from evals.naming.tables import NAMERS
from evals.naming.verdicts import (
    chance_of,
    is_by_majority,
    is_unanimous,
    rank_of,
    second_texts,
    votes_by_chance,
)
from registry.columns import Column
from registry.wording import counted, verb

MOST_NAMES = 25
"""Names that are drawn."""

UNTESTED = {"untested": "– untested"}
CONCEPT_COLUMNS = {
    "votes": Column("d", help="voting metrics that choose it"),
    "share": Column(".0%", "of the voters"),
    "by_chance": Column(".0f", "by chance", "votes at most with permuted labels"),
    "chance": Column(
        "",
        "against chance",
        "above chance by the smallest p of all concepts; undecided by its own p alone",
    ),
    "p": Column(".3f", help="fraction of the permutations in which the consensus scores as much"),
    "margin": Column(".3f", "mean margin", "over the second-best label, of metrics that choose it"),
    "next": Column(help="consensus beside it that is no class, and whether it is at chance"),
    "right": Column(header="ground-truth label", help="where it is known"),
}
SUMMARY_COLUMNS = {
    "named_share": Column(".1%", "named", "concepts with a name by every metric"),
    "consensus_share": Column(".1%", "consensus", "concepts with a consensus"),
    "consensus_above_chance_share": Column(
        ".1%", "above chance", "of the tested ones, by the smallest p of all concepts"
    ),
    "consensus_at_chance_share": Column(".1%", "at chance", "of the tested ones"),
    "unanimous_share": Column(".1%", "unanimous", "of these, those that all voters choose"),
    "majority_share": Column(".1%", "majority", "of these, those that more than half choose"),
    "n_consensus_names": Column(",.0f", "different names"),
    "consensus_right_share": Column(".1%", "correct", "consensus names, where a label is known"),
}


def names_choices(datasets: view.Datasets) -> list[view.Choice]:
    """Return by what the most frequent names are counted: the consensus, or one metric."""
    namers = dict.fromkeys(namer for own in datasets.values() for namer in namers_of(own))
    meaning = "Consensus: what most voting metrics choose."
    return [view.Choice("metric", "Names by", list(namers), meaning)]


def figure(settings: Sequence[view.Setting]) -> Iterator[Figure]:
    """Yield how the names that metrics agree on stand against chance."""
    rows = [
        {"label": label, "series": at.cell, "value": value}
        for at in settings
        for label, value in _standing(at.own).items()
    ]
    chart = bars(
        pd.DataFrame(rows).sort_values("label", key=lambda own: own.map(_ORDER), kind="stable"),
        x_title=" and ".join(sorted({f"{answers.named_noun(at.own)}s" for at in settings})),
        form=".0f",
        series=[at.cell for at in settings],
    )
    note = "By chance: how often labels that are dealt out anew agree as much."
    yield Figure("names-chance", chart, "Consensus names against chance", note)


_NO_NAME, _SILENT = "no consensus", "silent, so without a name"
_ORDER = {
    label: place for place, label in enumerate((*answers.VERDICT_WORDS.values(), _NO_NAME, _SILENT))
}


def _standing(own: xr.Dataset) -> dict[str, int]:
    """Return in how many concepts the name stands how against chance, or why there is none."""
    counts = answers.chance_counts(own)
    found = {answers.VERDICT_WORDS[verdict]: n for verdict, n in counts.items()}
    silent = int(own["n_silent"])
    without = own.sizes["concept"] - sum(counts.values()) - silent
    found |= {_NO_NAME: max(0, without), _SILENT: silent}
    return {label: n for label, n in found.items() if n} or {_NO_NAME: 0}


def blocks(at: view.Setting) -> Iterator[Part]:
    """Yield metrics as namers, the most frequent names, agreement, and concepts."""
    own = at.own
    forms = str(own["sanity_forms"].item()) if "sanity_forms" in own else ""
    notes = (names_note(own), f"Verdicts rest on these forms: {forms}." if forms else "")
    note = " ".join(filter(None, notes))
    metrics = metric_frame(own)
    yield at.table("metrics", metrics, "Metrics as namers", note=note, columns=NAMERS.columns)
    if at.chosen["metric"] in namers_of(own):
        yield _frequent(at, at.chosen["metric"])
    yield _agreement(at)
    if CONSENSUS in own:
        note = "The surest come first: above chance, then most votes, then the larger margin."
        frame = concept_frame(own)
        noun = answers.named_noun(own)
        columns = CONCEPT_COLUMNS | {"concept": Column("d", noun)}
        yield at.table(f"{noun}s", frame, f"{noun.capitalize()}s", note=note, columns=columns)


def metric_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per metric: those that vote first, those that agree most with all first."""
    frame = frame_of(NAMERS, own).assign(
        verdict=[UNTESTED.get(v, v) for v in verdict_texts(view.texts(own, "verdict"))],
        votes=np.where(own["votes"].values.astype(bool), "✓ votes", "✗ no vote"),
    )
    by, ascending = ["votes", "agrees"], [True, False]
    return frame.sort_values(by, ascending=ascending, kind="stable", ignore_index=True)


def _frequent(at: view.Setting, metric: str) -> Figure:
    frame = label_counts(best_names(at.own, metric))
    title = f"{answers.named_noun(at.own)}s of that name"
    chart = bars(frame.head(MOST_NAMES), x_title=title, form=".0f")
    note = f"The {MOST_NAMES} most frequent of {len(frame)}." if len(frame) > MOST_NAMES else ""
    return at.figure(f"{metric} names", chart, f"Most frequent names, by {metric}", note)


def agreement(own: xr.Dataset) -> pd.DataFrame:
    """Return in which fraction of concepts two metrics choose one name: ``x``, ``y``, ``value``.

    Of concepts that both name; NaN where there is none.
    """
    order = metric_frame(own)["metric"].tolist()
    chosen = own["name"].transpose("metric", "concept").sel(metric=order).values.astype(str)
    rows = []
    for one, mine in zip(order, chosen, strict=True):
        for other, theirs in zip(order, chosen, strict=True):
            both = (mine != "") & (theirs != "")
            share = float((mine == theirs)[both].mean()) if both.any() else np.nan
            rows.append({"y": one, "x": other, "value": share})
    return pd.DataFrame(rows)


def _agreement(at: view.Setting) -> Figure:
    frame = agreement(at.own)
    frame["value"] *= 100
    chart = heat(frame, value_title="same name (%)", domain=(0, 100), form=".0f")
    note = (
        f"Fraction of {answers.named_noun(at.own)}s that both metrics name alike. Metrics that "
        "vote come first."
    )
    return at.figure("agreement", chart, "Agreement of metrics", note)


def concept_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per concept with a consensus, the surest first."""
    consensus, votes = own["consensus"].values.astype(str), own["consensus_votes"].values
    chosen = own["name"].transpose("concept", "metric").values.astype(str)
    margin = own["margin"].transpose("concept", "metric").values
    counts = (chosen == consensus[:, None]) & own["votes"].values & ~np.isnan(margin)
    total = np.where(counts, margin, 0).sum(axis=1)
    mean = np.where(counts.any(axis=1), total / np.maximum(counts.sum(axis=1), 1), np.nan)
    frame = pd.DataFrame(
        {
            "concept": own["concept"].values,
            "name": consensus,
            "votes": votes,
            "share": votes / max(1, int(own["n_voting"])),
            "chance": chance_of(own),
            "margin": mean,
        }
    )
    if "consensus_p" in own:
        frame = frame.assign(by_chance=own["votes_by_chance"], p=own["consensus_p"])
    if "consensus_second" in own:
        frame["next"] = second_texts(own)
    if "right_label" in own:
        frame["right"] = view.texts(own, "right_label")
    frame = frame[[name for name in ("concept", "name", *CONCEPT_COLUMNS) if name in frame]]
    order = np.lexsort((np.nan_to_num(-mean, nan=np.inf), -votes, rank_of(frame["chance"])))
    return frame.iloc[[row for row in order if consensus[row]]].reset_index(drop=True)


def _correct(own: xr.Dataset) -> float | None:
    known = int(own.get("n_right_known", 0))
    return float(own["consensus_right_share"]) if known else None


def summary(at: view.Setting) -> dict[str, float]:
    """Return what is said of all names together."""
    return {name: float(at.own[name]) for name in SUMMARY_COLUMNS if name in at.own}


def replicated(at: view.Setting) -> dict[str, float]:
    """Return what is compared over seeds: of the consensus, or of the metric that is chosen."""
    metric = at.chosen["metric"]
    if metric not in view.texts(at.own, "metric"):
        return summary(at)
    numbers = NAMERS.numbers(at.own.sel(metric=[metric]))
    return {key.partition(".")[0]: value for key, value in numbers.items()}


def _count(noun: str) -> view.Headline:
    """Return how many have been named, of datasets whose names are of that."""

    def count(own: xr.Dataset) -> int | None:
        return own.sizes["concept"] if answers.named_noun(own) == noun else None

    def silent(own: xr.Dataset) -> str:
        return f"{int(own['n_silent'])} {verb(int(own['n_silent']), 'is', 'are')} silent"

    return view.Headline(f"{noun}s", count, ",", silent)


VIEW = view.ResultView(
    *MENU["names"],
    "How sure are names? Every metric chooses a label for each concept, on one half of the images, "
    "and scores it on the other; those that pass the sanity checks vote for a consensus (metrics: "
    "Oikarinen et al., ICML 2025, arXiv 2506.05774). Single concepts stand under Concepts.",
    blocks,
    lambda at: answers.names(at.own),
    figure,
    (
        *map(_count, ("concept", "neuron")),
        view.Headline("with a consensus", "consensus_share", ".1%", "fraction of them"),
        view.Headline(
            "of these above chance",
            lambda own: own.get("consensus_above_chance_share"),
            ".1%",
            lambda own: (
                f"of those tested, by {counted(int(own['n_permutations']), 'permutation')} of "
                "labels"
            ),
        ),
        view.Headline(
            "of these unanimous",
            "unanimous_share",
            ".1%",
            lambda own: f"chosen by all voters; {votes_by_chance(own, is_unanimous(own))}",
        ),
        view.Headline(
            "of these by majority",
            "majority_share",
            ".1%",
            lambda own: f"chosen by over half of them; {votes_by_chance(own, is_by_majority(own))}",
        ),
        view.Headline(
            "voters", "n_voting", ",", lambda own: f"of {counted(own.sizes['metric'], 'metric')}"
        ),
        view.Headline("different names", "n_consensus_names", ",", "of the consensus"),
        view.Headline(
            "correct",
            _correct,
            ".1%",
            lambda own: (
                f"of {counted(int(own['n_right_known']), answers.named_noun(own))} with a known "
                "label, by consensus"
            ),
        ),
    ),
    names_choices,
    summary=summary,
    summary_columns=SUMMARY_COLUMNS,
    replicated=replicated,
    by="metric",
)
