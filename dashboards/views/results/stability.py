"""Stability: which concepts of one dictionary come back in another."""

from __future__ import annotations

from collections.abc import Iterator

import altair as alt
import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.concepts.concept_names import LABEL
from dashboards.views.parts.charts import histogram, lines
from dashboards.views.parts.dots import dots
from dashboards.views.parts.parts import (
    Column,
    Figure,
    Note,
    Number,
    Numbers,
    Part,
    Table,
    file_name,
)
from dashboards.views.results.choices import Choice, Datasets, options_of
from dashboards.views.results.in_full import each_in_full
from dashboards.views.runs.sweep import over_seeds

BASES = {
    "decoder": "cosine of the decoders",
    "presence": "correlation of presences in the same images",
}
SUMMARY_COLUMNS = {
    "value": Column(".3f"),
    "low": Column(".3f", meaning="lower end of its interval"),
    "high": Column(".3f", meaning="upper end of its interval"),
    "null": Column(".3f", meaning="what chance gives"),
}
MATCH_COLUMNS = {
    "label": Column(title="name", meaning="label that most metrics choose"),
    "match": Column(meaning="concept of the other set, one to one; – where there is none"),
    "similarity": Column(".3f", meaning="with the match"),
    "nearest": Column(meaning="most similar concept of the other set"),
    "nearest_similarity": Column(".3f", "its similarity"),
    "mutual": Column(title="mutual", meaning="whether each is the most similar one of the other"),
}
SEED_COLUMNS = {
    "mean": Column(".3f", meaning="over seeds"),
    "deviation": Column(".3f", meaning="of the sample of seeds"),
    "n": Column("d", "seeds"),
}
SHARES = {
    "mutual_share": "mutual nearest, share",
    "mean_nearest": "similarity to the nearest, mean",
    "mean_similarity": "similarity to the match, mean",
}


def stability_choices(datasets: Datasets) -> list[Choice]:
    """Return by what concepts are matched."""
    meaning = "; ".join(f"{name}: {what}" for name, what in BASES.items())
    return [Choice("basis", "Matches by", options_of(datasets, "basis"), meaning)]


def stability_parts(datasets: Datasets, basis: str = "") -> list[Part]:
    """Return what share of concepts comes back, settings side by side and over seeds first.

    Parameters
    ----------
    datasets : mapping of str to xr.Dataset
        Of schema ``matching``, by the cell that made each.
    basis : str
        By which single matches are listed; "" for the first.
    """
    basis = basis or stability_choices(datasets)[0].options[0]
    compared = _compare(datasets, basis) if len(datasets) > 1 else []
    return [*compared, *each_in_full(datasets, lambda cell, own: _setting(cell, own, basis))]


# -- settings side by side, and over seeds ----------------------------------------------------


def numbers_of(own: xr.Dataset, basis: str) -> dict[str, float]:
    """Return matched shares by threshold and what else is said of all concepts, by name."""
    at = own.sel(basis=basis)
    shares = {
        f"matched at {threshold:g}, share": float(at["matched_share"].sel(threshold=threshold))
        for threshold in own["threshold"].values
    }
    return shares | {title: float(at[name]) for name, title in SHARES.items()}


def _compare(datasets: Datasets, basis: str) -> list[Part]:
    known = {c: own for c, own in datasets.items() if basis in own["basis"].values.astype(str)}
    numbers = {cell: numbers_of(own, basis) for cell, own in known.items()}
    frame = pd.DataFrame.from_dict(numbers, orient="index").rename_axis("setting").reset_index()
    told = {name: Column(".3f") for name in frame.columns if name != "setting"}
    parts: list[Part] = [*_overlaid(known, basis), *_over_seeds(numbers, basis)]
    table = Table("stability", frame, f"Setting by setting, by {basis}", columns=told)
    return [*parts, table]


def _overlaid(datasets: Datasets, basis: str) -> list[Part]:
    frames = [share_frame(own, [basis]).assign(cell=cell) for cell, own in datasets.items()]
    frame = pd.concat(frames, ignore_index=True)
    frame = frame[~frame["is_null"]].assign(label=lambda f: f["cell"], series=lambda f: f["at"])
    chart = dots(
        frame,
        x_title="concepts with a match (share)",
        domain=(0, 1),
        series=list(dict.fromkeys(frame["at"])),
    )
    title = f"Concepts that come back, by {basis}"
    note = "Grey bars: intervals over concepts. Shapes: similarity from which on a match counts."
    return [Figure("stability-shares", chart, title, note)]


def _over_seeds(numbers: dict[str, dict[str, float]], basis: str) -> list[Part]:
    told = over_seeds(numbers)
    if told.empty:
        return []
    shown = told.assign(
        label=told["setting"],
        series=told["what"],
        value=told["mean"],
        low=told["mean"] - told["deviation"].fillna(0),
        high=told["mean"] + told["deviation"].fillna(0),
    )
    matched = shown[shown["what"].str.startswith("matched")]
    chart = dots(
        matched,
        x_title="concepts with a match (share, mean over seeds)",
        domain=(0, 1),
        series=list(dict.fromkeys(matched["what"])),
    )
    note = "Grey bars: one standard deviation over seeds to either side."
    return [
        Figure("stability-seeds", chart, f"Over seeds, by {basis}", note),
        Table("stability-seeds", told, f"Over seeds, by {basis}", columns=SEED_COLUMNS),
    ]


# -- one setting ------------------------------------------------------------------------------


def _setting(cell: str, own: xr.Dataset, basis: str) -> list[Part]:
    return [
        Numbers(list(_numbers(own))),
        _shares(cell, own),
        Table(
            file_name(cell, "summary"),
            summary_frame(own),
            "All concepts",
            "The null: random directions that fill the layer as the other decoders do, and "
            "presences whose images are shuffled.",
            SUMMARY_COLUMNS,
        ),
        *_matches(cell, own, basis),
    ]


def _numbers(own: xr.Dataset) -> Iterator[Number]:
    alive = "concepts that differ between images"
    for side in ("one", "other"):
        shown = f"{int(own[f'n_alive_{side}']):,} of {int(own[f'n_{side}']):,}"
        yield Number(f"alive, the {side}", shown, alive)
    for place, basis in enumerate(own["basis"].values.astype(str)):
        share, null = (float(own[name][place]) for name in ("mutual_share", "null_mutual_share"))
        meaning = f"each is the other's nearest, by {BASES[basis]}; beside it what chance gives"
        yield Number(f"mutual, {basis} (chance)", f"{share:.1%} ({null:.1%})", meaning)
    same = float(own["same_match_share"])
    both = "share of concepts with both matches that decoder and presence match alike"
    yield Number("matched alike", "–" if np.isnan(same) else f"{same:.1%}", both)


def share_frame(own: xr.Dataset, bases: list[str]) -> pd.DataFrame:
    """Return matched shares as rows: ``series``, ``threshold``, ``at``, ``value``, ``low``,
    ``high``, ``is_null``; every basis is followed by its null.
    """
    rows = []
    for basis in bases:
        for is_null, prefix in ((False, ""), (True, "null_")):
            for threshold in own["threshold"].values:
                at = own.sel(basis=basis, threshold=threshold)
                ends = dict.fromkeys(("low", "high"), np.nan)
                if not is_null:
                    ends = {end: float(at[f"matched_share_{end}"]) for end in ends}
                rows.append(
                    {
                        "series": f"{basis}, null" if is_null else basis,
                        "threshold": float(threshold),
                        "at": f"from {threshold:g} on",
                        "value": float(at[f"{prefix}matched_share"]),
                        **ends,
                        "is_null": is_null,
                    }
                )
    return pd.DataFrame(rows)


def _shares(cell: str, own: xr.Dataset) -> Figure:
    frame = share_frame(own, own["basis"].values.astype(str).tolist())
    chart = lines(
        frame,
        x="threshold",
        y="value",
        x_title="similarity from which on a match counts (1)",
        y_title="concepts with a match (share)",
        series=list(dict.fromkeys(frame["series"])),
        domain=(0, 1),
    )
    note = "Bands: intervals over concepts. The null is what chance gives."
    return Figure(file_name(cell, "shares"), chart, "Concepts that come back", note)


def summary_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per basis and number of all concepts: value, interval, null."""
    rows = []
    for basis in own["basis"].values.astype(str):
        at = own.sel(basis=basis)
        for threshold in own["threshold"].values:
            held = at.sel(threshold=threshold)
            title = f"share matched from {threshold:g} on"
            rows.append(_summary_row(held, "matched_share", basis, title))
        rows += [_summary_row(at, name, basis, title) for name, title in SHARES.items()]
    return pd.DataFrame(rows)


def _summary_row(at: xr.Dataset, name: str, basis: str, title: str) -> dict[str, object]:
    ends = {end: float(at[f"{name}_{end}"]) if f"{name}_{end}" in at else np.nan
            for end in ("low", "high")}  # fmt: skip
    return {
        "basis": basis,
        "what": title,
        "value": float(at[name]),
        **ends,
        "null": float(at[f"null_{name}"]),
    }


# -- matches ----------------------------------------------------------------------------------


def match_frame(own: xr.Dataset, basis: str) -> pd.DataFrame:
    """Return a row per concept by one basis, the most similar match first."""
    at = own.sel(basis=basis)
    match = at["match"].values
    frame = pd.DataFrame(
        {
            "concept": at["concept"].values,
            "match": pd.array(np.where(match < 0, -1, match), dtype="Int64"),
            "similarity": np.where(match < 0, np.nan, at["similarity"].values),
            "nearest": pd.array(at["nearest"].values, dtype="Int64"),
            "nearest_similarity": at["nearest_similarity"].values,
            "mutual": ["✓ mutual" if mutual else "✗ not" for mutual in at["mutual"].values],
        }
    )
    for column in ("match", "nearest"):
        frame.loc[frame[column] < 0, column] = pd.NA
    if LABEL in own:
        frame.insert(1, "label", own[LABEL].values.astype(str))
    return frame.sort_values("similarity", ascending=False, kind="stable").reset_index(drop=True)


def _matches(cell: str, own: xr.Dataset, basis: str) -> list[Part]:
    if basis not in own["basis"].values.astype(str):
        return [Note(f"Nothing was matched by {basis}.")]
    frame = match_frame(own, basis)
    return [
        Figure(
            file_name(cell, "similarities"),
            _similarities(own),
            "Similarity of matches",
            "Concepts that come back lie at the right.",
        ),
        Table(
            file_name(cell, basis, "matches"),
            frame,
            f"Matches by {basis}",
            f"Similarity: {BASES.get(basis, basis)}.",
            MATCH_COLUMNS,
        ),
    ]


def _similarities(own: xr.Dataset) -> alt.LayerChart:
    bases = own["basis"].values.astype(str).tolist()
    frames = []
    for basis in bases:
        similarity = match_frame(own, basis)["similarity"].dropna()
        counts, edges = np.histogram(similarity, bins=np.linspace(-1, 1, 51))
        share = counts / max(1, len(similarity))
        held = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "value": share})
        frames.append(held[held["value"] > 0].assign(series=basis))
    return histogram(
        pd.concat(frames, ignore_index=True),
        x_title="similarity with the match (1)",
        y_title="share of matched concepts (1)",
        series=bases,
    )
