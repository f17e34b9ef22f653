"""Names of all concepts together: how often metrics agree, and which labels come up most."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.concepts.labels import CONSENSUS, best_names, names_note, ways_to_name
from dashboards.views.parts.charts import bars
from dashboards.views.parts.heat import heat
from dashboards.views.parts.parts import Column, Figure, Number, Numbers, Part, Table, file_name
from dashboards.views.results.choices import Choice, Datasets
from dashboards.views.results.in_full import each_in_full
from dashboards.views.results.sanity import verdict_texts

MOST_NAMES = 25
"""Names that are drawn."""

UNTESTED = "untested"
METRIC_COLUMNS = {
    "verdict": Column(title="sanity checks", meaning="of the metric"),
    "votes": Column(meaning="whether the metric takes part in the consensus"),
    "agrees": Column(".1%", meaning="share of concepts with a consensus that it names likewise"),
    "score": Column(".3f", "mean score", "of its names, on the scoring half"),
    "margin": Column(".3f", "mean margin", "over the second-best label"),
    "tied": Column("d", meaning="names that another label equals"),
    "undefined": Column(".2%", meaning="share of undefined pairs"),
    "names": Column("d", meaning="different names"),
    "right": Column(".1%", "right", "share of right names among concepts of known label"),
}
CONCEPT_COLUMNS = {
    "votes": Column("d", meaning="voting metrics that choose it"),
    "share": Column(".0%", "of the voters"),
    "margin": Column(".3f", "mean margin", "over the second-best label, of metrics that choose it"),
    "right": Column(title="right label", meaning="that is known"),
}
COMPARED = {
    "named_share": Column(".1%", "named", "concepts with a name by every metric"),
    "consensus_share": Column(".1%", "consensus", "concepts with a consensus"),
    "unanimous_share": Column(".1%", "unanimous", "of these, those that all voters choose"),
    "majority_share": Column(".1%", "majority", "of these, those that more than half choose"),
    "n_consensus_names": Column("d", "different names"),
    "consensus_right_share": Column(".1%", "right", "consensus names, where a label is known"),
}


def names_choices(datasets: Datasets) -> list[Choice]:
    """Return by what the most frequent names are counted: the consensus, or one metric."""
    ways = dict.fromkeys(way for own in datasets.values() for way in ways_to_name(own))
    return [Choice("metric", "Names by", list(ways), "Consensus: what most voting metrics choose.")]


def names_parts(datasets: Datasets, metric: str = "") -> list[Part]:
    """Return how sure the names of concepts are, settings side by side first.

    Parameters
    ----------
    datasets : mapping of str to xr.Dataset
        Of schema ``names``, by the cell that made each.
    metric : str
        By which names are counted, or ``consensus``; "" for the first.
    """
    metric = metric or names_choices(datasets)[0].options[0]
    compared = [_compare(datasets)] if len(datasets) > 1 else []
    return [*compared, *each_in_full(datasets, lambda cell, own: _setting(cell, own, metric))]


def _compare(datasets: Datasets) -> Table:
    rows = [
        {"setting": cell} | {name: float(own[name]) for name in COMPARED if name in own}
        for cell, own in datasets.items()
    ]
    frame = pd.DataFrame(rows).astype({"n_consensus_names": "Int64"})
    return Table("names", frame, "Setting by setting", columns=COMPARED)


def _setting(cell: str, own: xr.Dataset, metric: str) -> list[Part]:
    parts: list[Part] = [
        Numbers(list(_numbers(own))),
        Table(
            file_name(cell, "metrics"),
            metric_frame(own),
            "Metrics as namers",
            " ".join([names_note(own), _forms_note(own)]).strip(),
            METRIC_COLUMNS,
        ),
    ]
    if metric in ways_to_name(own):
        parts.append(_frequent(cell, own, metric))
    parts.append(_agreement(cell, own))
    if CONSENSUS in own:
        frame = concept_frame(own)
        note = "The surest come first: most votes, then the larger margin."
        parts.append(Table(file_name(cell, "concepts"), frame, "Concepts", note, CONCEPT_COLUMNS))
    return parts


def _forms_note(own: xr.Dataset) -> str:
    """Return on which forms of the tests the verdicts rest, where it is known."""
    forms = str(own["sanity_forms"].item()) if "sanity_forms" in own else ""
    return f"Verdicts rest on these forms: {forms}." if forms else ""


def _numbers(own: xr.Dataset) -> Iterator[Number]:
    yield Number("concepts", f"{own.sizes['concept']:,}", f"{int(own['n_silent'])} are silent")
    yield Number("with a consensus", f"{float(own['consensus_share']):.1%}", "share of concepts")
    yield Number(
        "of these unanimous",
        f"{float(own['unanimous_share']):.1%}",
        "of these, those that all voters choose",
    )
    more = "of these, those that more than half of the voters choose"
    yield Number("of these by majority", f"{float(own['majority_share']):.1%}", more)
    yield Number("voters", str(int(own["n_voting"])), f"of {own.sizes['metric']} metrics")
    yield Number("different names", f"{int(own['n_consensus_names']):,}", "of the consensus")
    if int(own.get("n_right_known", 0)):
        right = f"of {int(own['n_right_known'])} concepts whose label is known, by consensus"
        yield Number("right", f"{float(own['consensus_right_share']):.1%}", right)


def metric_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per metric: those that vote first, those that agree most with all first."""
    chosen = own["name"].transpose("concept", "metric").values.astype(str)
    consensus = own["consensus"].values.astype(str)
    agrees = (chosen == consensus[:, None])[consensus != ""]
    frame = pd.DataFrame(
        {
            "metric": own["metric"].values.astype(str),
            "verdict": [_verdict(text) for text in own["verdict"].values.astype(str)],
            "votes": ["✓ votes" if votes else "✗ no vote" for votes in own["votes"].values],
            "agrees": agrees.mean(axis=0) if len(agrees) else np.nan,
            "score": own["score"].mean("concept").values,
            "margin": own["margin"].mean("concept").values,
            "tied": (own["tied"] > 0).sum("concept").values,
            "undefined": own["undefined_share"].values,
            "names": [len(set(column) - {""}) for column in chosen.T],
        }
    )
    if "right_share" in own:
        frame["right"] = own["right_share"].values
    order = ["votes", "agrees"]
    return frame.sort_values(order, ascending=[True, False], kind="stable").reset_index(drop=True)


def _verdict(text: str) -> str:
    return "– untested" if text == UNTESTED else verdict_texts([text])[0]


def frequent_names(own: xr.Dataset, metric: str) -> pd.DataFrame:
    """Return how many concepts have each name: ``label``, ``value``, the most frequent first."""
    names = best_names(own, metric)["name"]
    counts = names[names != ""].value_counts(sort=False)
    frame = counts.rename_axis("label").rename("value").reset_index()
    return frame.sort_values("value", ascending=False, kind="stable").reset_index(drop=True)


def _frequent(cell: str, own: xr.Dataset, metric: str) -> Figure:
    frame = frequent_names(own, metric)
    chart = bars(frame.head(MOST_NAMES), x_title="concepts of that name", form=".0f")
    note = f"The {MOST_NAMES} most frequent of {len(frame)}." if len(frame) > MOST_NAMES else ""
    name = file_name(cell, metric, "names")
    return Figure(name, chart, f"Most frequent names, by {metric}", note)


def agreement(own: xr.Dataset) -> pd.DataFrame:
    """Return in which share of concepts two metrics choose one name: ``x``, ``y``, ``value``.

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


def _agreement(cell: str, own: xr.Dataset) -> Figure:
    frame = agreement(own)
    chart = heat(
        frame.assign(value=100 * frame["value"]),
        x_title="",
        y_title="",
        value_title="same name (%)",
        domain=(0, 100),
        form=".0f",
    )
    note = "Share of concepts that both metrics name alike. Metrics that vote come first."
    return Figure(file_name(cell, "agreement"), chart, "Agreement of metrics", note)


def concept_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per concept with a consensus, the surest first."""
    consensus, votes = own["consensus"].values.astype(str), own["consensus_votes"].values
    chosen = own["name"].transpose("concept", "metric").values.astype(str)
    margin = own["margin"].transpose("concept", "metric").values
    counts = (chosen == consensus[:, None]) & own["votes"].values & ~np.isnan(margin)
    total = np.where(counts, margin, 0).sum(axis=1)
    frame = pd.DataFrame(
        {
            "concept": own["concept"].values,
            "name": consensus,
            "votes": votes,
            "share": votes / max(1, int(own["n_voting"])),
            "margin": np.where(
                counts.any(axis=1), total / np.maximum(counts.sum(axis=1), 1), np.nan
            ),
        }
    )
    if "right_label" in own:
        frame["right"] = own["right_label"].values.astype(str)
    frame = frame[consensus != ""]
    order = ["votes", "margin"]
    return frame.sort_values(order, ascending=False, kind="stable").reset_index(drop=True)
