"""Stability: which concepts of one dictionary are recovered in another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import altair as alt
import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.concepts.labels import LABEL
from dashboards.views.parts.charts import bars, binned, dots, histogram, lines
from dashboards.views.parts.parts import Figure, Note, Part
from dashboards.views.parts.text import share_text
from dashboards.views.results import answers, view
from dashboards.views.results.menu import MENU
from registry.columns import Column

BASES = {
    "decoder": "cosine of the decoders",
    "presence": "correlation of presences in the same images",
}
SUMMARY_COLUMNS = {
    "value": Column(".3f"),
    "low": Column(".3f", help="lower end of its interval"),
    "high": Column(".3f", help="upper end of its interval"),
    "null": Column(".3f", help="what chance gives"),
}
MATCH_COLUMNS = {
    "label": Column(header="name", help="label that most metrics choose"),
    "match": Column(help="concept of the other set, one to one; – where there is none"),
    "similarity": Column(".3f", help="with the match"),
    "nearest": Column(help="most similar concept of the other set"),
    "nearest_similarity": Column(".3f", "its similarity"),
    "mutual": Column(header="mutual", help="whether each is the most similar one of the other"),
}
SHARES = {
    "mutual_share": "mutual nearest, fraction",
    "mean_nearest": "similarity to the nearest, mean",
    "mean_similarity": "similarity to the match, mean",
}


def stability_choices(datasets: view.Datasets) -> list[view.Choice]:
    """Return by what concepts are matched."""
    meaning = "; ".join(f"{name}: {what}" for name, what in BASES.items())
    return [view.Choice("basis", "Matches by", view.options_of(datasets, "basis"), meaning)]


# -- settings side by side, and over seeds ----------------------------------------------------


def summary(at: view.Setting) -> dict[str, float]:
    """Return matched fractions by threshold and what else is said of all concepts, by name."""
    if not at.has("basis"):
        return {}
    own = at.own.sel(basis=at.chosen["basis"])
    shares = {
        f"matched at {threshold:g}, fraction": float(own["matched_share"].sel(threshold=threshold))
        for threshold in own["threshold"].values
    }
    return shares | {title: float(own[name]) for name, title in SHARES.items()}


def figure(settings: Sequence[view.Setting]) -> Iterator[Figure]:
    """Yield which concepts of a setting are recovered beside chance, or of several how many."""
    if len(settings) > 1:
        yield from _compared_shares(settings)
        return
    own = settings[0].own
    bases = view.texts(own, "basis")
    chart = bars(
        recovered_frame(own),
        x_title="fraction of concepts",
        domain=(0, 1),
        series=[f"by {basis}" for basis in bases],
        mark="chance",
    )
    note = "Ticks: what chance gives. Grey bars: intervals over concepts."
    yield settings[0].figure("recovered", chart, "Concepts that are found again", note)


def recovered_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return fractions by what they count and basis: ``label``, ``series``, ``value``, ``low``,
    ``high`` and ``mark``, by chance.
    """
    frame = summary_frame(own)
    frame = frame[frame["what"].str.startswith(("fraction matched", "mutual"))]
    if "returned_share" in own:
        back = [
            _summary_row(own.sel(basis=basis), "returned_share", basis, "come back, fraction")
            for basis in view.texts(own, "basis")
        ]
        frame = pd.concat([pd.DataFrame(back), frame], ignore_index=True)
    columns = {"what": "label", "null": "mark"}
    frame = frame.rename(columns=columns).assign(series="by " + frame["basis"].astype(str))
    order = sorted(dict.fromkeys(frame["label"]), key=lambda label: label.startswith("fraction"))
    rank = {label: place for place, label in enumerate(order)}
    return frame.sort_values("label", key=lambda own: own.map(rank), kind="stable")


def _compared_shares(settings: Sequence[view.Setting]) -> Iterator[Figure]:
    """Yield which fraction of concepts is recovered in each setting, and over seeds."""
    basis = settings[0].chosen["basis"]
    known = [at for at in settings if at.has("basis")]
    frame = pd.concat([share_frame(at.own, [basis]).assign(label=at.cell) for at in known])
    frame = frame[~frame["is_null"]].assign(series=lambda shares: shares["at"])
    title = "fraction of concepts with a match"
    note = "Grey bars: intervals over concepts. Shapes: match threshold."
    chart = _shares_in_rows(frame, title)
    yield Figure("stability-shares", chart, f"Recovered concepts, by {basis}", note)


def compared(settings: Sequence[view.Setting]) -> Iterator[Figure]:
    """Yield which fraction of concepts is recovered over seeds."""
    basis = settings[0].chosen["basis"]
    known = [at for at in settings if at.has("basis")]
    title = "fraction of concepts with a match"
    seeds = view.over_seeds({at.cell: summary(at) for at in known})
    if not seeds.settings:
        return
    columns = {"setting": "label", "result": "series", "mean": "value"}
    rows = seeds.means().rename(columns=columns)
    chart = _shares_in_rows(rows[rows["series"].str.startswith("matched")], f"{title}, over seeds")
    note = f"Grey bars: t intervals over seeds, {seeds.percent}, as far as they are in sight."
    yield Figure("stability-seeds", chart, f"Over seeds, by {basis}", note)


def _shares_in_rows(frame: pd.DataFrame, title: str) -> object:
    series = list(dict.fromkeys(frame["series"]))
    return dots(frame, x_title=title, domain=(0, 1), series=series)


# -- one setting ------------------------------------------------------------------------------


def blocks(at: view.Setting) -> Iterator[Part]:
    """Yield fractions over thresholds, all numbers, and single matches of one setting."""
    own, basis = at.own, at.chosen["basis"]
    frame = share_frame(own, view.texts(own, "basis"))
    chart = lines(
        frame,
        x="threshold",
        y="value",
        x_title="match threshold, of similarity",
        y_title="fraction of concepts with a match",
        series=list(dict.fromkeys(frame["series"])),
        domain=(0, 1),
    )
    note = "Bands: intervals over concepts. The null is what chance gives."
    yield at.figure("shares", chart, "Recovered concepts", note)
    yield at.table(
        "summary",
        summary_frame(own),
        "All concepts",
        note="The null: random directions that fill the layer as the other decoders do, and "
        "presences whose images are shuffled.",
        columns=SUMMARY_COLUMNS,
    )
    if not at.has("basis"):
        yield Note(f"Nothing was matched by {basis}.")
        return
    note = "Recovered concepts lie at the right."
    yield at.figure("similarities", _similarities(own), "Similarity of matches", note)
    yield at.table(
        f"{basis} matches",
        match_frame(own, basis),
        f"Matches by {basis}",
        note=f"Similarity: {BASES.get(basis, basis)}.",
        columns=MATCH_COLUMNS,
    )


def _alive(side: str) -> view.Headline:
    def counts(own: xr.Dataset) -> str:
        return f"{int(own[f'n_alive_{side}']):,} of {int(own[f'n_{side}']):,}"

    meaning = "concepts that differ between images"
    return view.Headline(f"alive, the {side}", counts, meaning=meaning)


def _beside_null(at: xr.Dataset, name: str) -> str:
    shares = (share_text(float(at[one])) for one in (name, f"null_{name}"))
    return "{} ({})".format(*shares)


def _returned(basis: str) -> view.Headline:
    def beside_chance(own: xr.Dataset) -> str | None:
        if "returned_share" not in own or basis not in view.texts(own, "basis"):
            return None
        at = own.sel(basis=basis)
        return _beside_null(at, "returned_share")

    meaning = (
        f"more like their nearest, by {BASES[basis]}, than in every draw of chance; beside it how "
        "many are where nothing comes back. Presences are shuffled within predicted classes."
    )
    return view.Headline(f"come back, {basis} (chance)", beside_chance, meaning=meaning)


def _mutual(basis: str) -> view.Headline:
    def beside_chance(own: xr.Dataset) -> str | None:
        if basis not in view.texts(own, "basis"):
            return None
        at = own.sel(basis=basis)
        return _beside_null(at, "mutual_share")

    meaning = f"each is the other's nearest, by {BASES[basis]}; beside it what chance gives"
    return view.Headline(f"mutual, {basis} (chance)", beside_chance, meaning=meaning)


def share_frame(own: xr.Dataset, bases: list[str]) -> pd.DataFrame:
    """Return matched fractions as rows: ``series``, ``threshold``, ``at``, ``value``, ``low``,
    ``high``, ``is_null``; every basis is followed by its null.
    """
    frames = []
    for basis in bases:
        for is_null, prefix in ((False, ""), (True, "null_")):
            columns = {
                "series": f"{basis}, null" if is_null else basis,
                "threshold": own["threshold"].values,
                "at": [f"≥ {threshold:g}" for threshold in own["threshold"].values],
                "value": own[f"{prefix}matched_share"].sel(basis=basis).values,
                "low": np.nan if is_null else own["matched_share_low"].sel(basis=basis).values,
                "high": np.nan if is_null else own["matched_share_high"].sel(basis=basis).values,
                "is_null": is_null,
            }
            frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def summary_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per basis and number of all concepts: value, interval, null."""
    rows = []
    for basis in view.texts(own, "basis"):
        at = own.sel(basis=basis)
        for threshold in own["threshold"].values:
            held = at.sel(threshold=threshold)
            title = f"fraction matched at {threshold:g}"
            rows.append(_summary_row(held, "matched_share", basis, title))
        rows += [_summary_row(at, name, basis, title) for name, title in SHARES.items()]
    return pd.DataFrame(rows)


def _summary_row(at: xr.Dataset, name: str, basis: str, title: str) -> dict[str, object]:
    ends = {end: float(at.get(f"{name}_{end}", np.nan)) for end in ("low", "high")}
    numbers = {"value": float(at[name]), **ends, "null": float(at[f"null_{name}"])}
    return {"basis": basis, "what": title, **numbers}


# -- matches ----------------------------------------------------------------------------------


def match_frame(own: xr.Dataset, basis: str) -> pd.DataFrame:
    """Return a row per concept by one basis, the most similar match first."""
    at = own.sel(basis=basis)
    match, nearest = (pd.array(at[name].values, dtype="Int64") for name in ("match", "nearest"))
    match[match < 0], nearest[nearest < 0] = pd.NA, pd.NA
    columns = {
        "concept": at["concept"].values,
        "label": view.texts(own, LABEL) if LABEL in own else None,
        "match": match,
        "similarity": np.where(at["match"].values < 0, np.nan, at["similarity"].values),
        "nearest": nearest,
        "nearest_similarity": at["nearest_similarity"].values,
        "mutual": np.where(at["mutual"].values, "✓ mutual", "✗ not"),
    }
    frame = pd.DataFrame({name: held for name, held in columns.items() if held is not None})
    return frame.sort_values("similarity", ascending=False, kind="stable", ignore_index=True)


def _similarities(own: xr.Dataset) -> alt.LayerChart:
    bases = view.texts(own, "basis")
    frames = []
    for basis in bases:
        similarity = match_frame(own, basis)["similarity"].dropna()
        held = binned(similarity, np.linspace(-1, 1, 51))
        held["value"] /= max(1, len(similarity))
        frames.append(held[held["value"] > 0].assign(series=basis))
    return histogram(
        pd.concat(frames, ignore_index=True),
        x_title="similarity with the match",
        y_title="fraction of matched concepts",
        series=bases,
    )


VIEW = view.ResultView(
    *MENU["stability"],
    "Are concepts recovered on retraining? Those of one dictionary are matched one to one with "
    "those of another, as of another seed: by the cosine of their decoders, or the correlation of "
    "their presence in the same images. The null is what chance gives (Kuhn 1955; Sharkey et al. "
    "2022).",
    blocks,
    lambda at: answers.matching(at.own),
    figure,
    (
        _alive("one"),
        _alive("other"),
        *map(_returned, BASES),
        *map(_mutual, BASES),
        view.Headline(
            "matched alike",
            "same_match_share",
            ".1%",
            "fraction of concepts with both matches that decoder and presence match alike",
        ),
    ),
    stability_choices,
    compared=compared,
    summary=summary,
    by="basis",
    is_named=True,
)
