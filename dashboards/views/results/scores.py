"""Scores of every pair of a neuron and a concept: the best pairs, and a part as a heat map."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.parts.charts import bars, heat
from dashboards.views.parts.parts import Figure, Note, Number, Numbers, Part, file_name
from dashboards.views.results import answers, view
from dashboards.views.results.menu import MENU
from dashboards.views.results.sanity import plain
from evals.metrics.registered import list_metrics
from evals.naming.verdicts import untested_best
from evals.sanity.published_accuracy import lowest_published
from registry.columns import Column, ResultTable
from registry.wording import counted

MOST_DRAWN = 60
"""Neurons, and concepts, of a heat map."""

MOST_PAIRS = 20
"""Best pairs that are drawn first."""

MOST_BYTES = 256_000_000
"""Of scores that are read for one page; what is larger is read in parts, by neuron."""

BLOCK_BYTES = 32_000_000
"""Of scores that are in memory at once."""

PAIR_COLUMNS = {
    "concept": Column(header="best concept"),
    "score": Column(".3f", help="of the best concept"),
    "second": Column(header="second best"),
    "second_score": Column(".3f", "its score"),
    "margin": Column(".3f", help="score of the best minus that of the second best"),
    "labelled_share": Column(".1%", "label frequency", "fraction of inputs with the label"),
    "undefined": Column("d", help="undefined pairs of the neuron"),
}


def _meanings(own: xr.Dataset) -> list[str]:
    known = list_metrics()
    names = view.texts(own, "metric")
    return [plain(known[n].title) if n in known else "not registered here" for n in names]


def _undefined(own: xr.Dataset) -> xr.DataArray:
    pairs = max(1, own.sizes["neuron"] * own.sizes["concept"])
    return own["undefined"].sum("neuron") / pairs


METRICS = ResultTable(
    "metric",
    {
        "meaning": Column(value=_meanings),
        "lower": Column("g", help="smallest possible value; – where the data bound it"),
        "upper": Column("g", help="largest possible value; – where the data bound it"),
        "undefined": Column(".2%", "", "fraction of undefined pairs", _undefined),
    },
)
CONCEPT_COLUMNS = {
    "neurons": Column("d", help="neurons that it explains best"),
    "neuron": Column("d", "best neuron"),
    "score": Column(".3f", help="with this neuron"),
    "labelled_share": Column(".1%", "label frequency", "fraction of inputs with the label"),
}


def scores_choices(datasets: view.Datasets) -> list[view.Choice]:
    """Return the metrics, and the parts of the neurons where there are too many for one page."""
    meaning = "In the order of their worst published sanity check (Oikarinen et al., section 4)."
    metrics = sorted(view.options_of(datasets, "metric"), key=_worst_published_last)
    choices = [view.Choice("metric", "Metric", metrics, meaning)]
    parts = max((parts_of(own) for own in datasets.values()), key=len)
    if len(parts) > 1:
        meaning = "Neurons are read in parts: there are too many for one page."
        choices.append(view.Choice("neurons", "Neurons", parts, meaning))
    return choices


def _worst_published_last(metric: str) -> tuple[bool, float]:
    worst = lowest_published(metric)
    return math.isnan(worst), 0.0 if math.isnan(worst) else -worst


def parts_of(own: xr.Dataset) -> list[str]:
    """Return into which parts the neurons fall, as ``0 to 999``."""
    n_neurons, row = own.sizes["neuron"], _row_bytes(own)
    step = max(1, MOST_BYTES // row)
    return [
        f"{start:,} to {min(start + step, n_neurons) - 1:,}"
        for start in range(0, max(n_neurons, 1), step)
    ]


def _row_bytes(own: xr.Dataset) -> int:
    """Return how much is read for one neuron: metrics lie beside each other in the files."""
    return max(1, own["score"].dtype.itemsize * own.sizes["metric"] * own.sizes["concept"])


def _part(at: view.Setting) -> tuple[list[str], int, xr.Dataset]:
    """Return the parts that there are, which is shown, and what it holds."""
    parts, asked = parts_of(at.own), at.chosen.get("neurons", "")
    number = parts.index(asked) if asked in parts else 0
    step = max(1, MOST_BYTES // _row_bytes(at.own))
    return parts, number, at.own.isel(neuron=slice(number * step, (number + 1) * step))


def _pairs(at: view.Setting) -> pd.DataFrame:
    """Return the best two concepts of the neurons that are shown, by the chosen metric."""
    pairs: pd.DataFrame = at.once("pairs", lambda: pair_frame(_part(at)[2], at.chosen["metric"]))
    return pairs


def sentence(at: view.Setting) -> str:
    """Return how well the best concepts explain the neurons that are shown."""
    if not at.has("metric"):
        return f"Nothing was scored by {at.chosen['metric']}."
    return answers.scores(_pairs(at), at.chosen["metric"], at.own.sizes["concept"])


def figure(settings: Sequence[view.Setting]) -> Iterator[Figure]:
    """Yield the best pairs, each beside the second-best concept of its neuron."""
    known = [at for at in settings if at.has("metric")]
    if not known:
        return
    metric, each = known[0].chosen["metric"], max(1, MOST_PAIRS // len(known))
    frames = []
    for at in known:
        best = _pairs(at).dropna(subset=["score"]).head(each)
        before = f"{at.cell}, " if len(known) > 1 else ""
        labels = [f"{before}{n}: {c}" for n, c in zip(best["neuron"], best["concept"], strict=True)]
        columns = {"score": "value", "second_score": "mark"}
        frames.append(best.rename(columns=columns).assign(label=labels))
    frame = pd.concat(frames, ignore_index=True)
    if len(frame):
        chart = bars(frame, x_title=metric, mark="second best")
        note = "Neuron and its best concept. The tick is the second-best concept of the neuron."
        yield Figure(f"scores-{file_name(metric)}-best", chart, f"Best pairs by {metric}", note)


def blocks(at: view.Setting) -> Iterator[Part]:
    """Yield the best pairs by one metric, and a heat map of the best of them."""
    own, metric = at.own, at.chosen["metric"]
    if not at.has("metric"):
        yield Note(f"Nothing was scored by {metric} here.")
        return
    yield from view.seen_notes(own)
    parts, number, part = _part(at)
    pairs = _pairs(at)
    median = f"{float(pairs['score'].median()):.3f}"
    meaning = f"by {metric}, over the neurons shown; not tested against chance"
    yield Numbers([*view.numbers(HEADLINES, own), Number("median best score", median, meaning)])
    if len(parts) > 1:
        yield Note(f"Neurons {parts[number]} of {own.sizes['neuron']:,}.")
    yield from _heat(at, part, pairs, metric)
    title = f"Best concept of every neuron, by {metric}"
    note = untested_best(own.sizes["concept"])
    yield at.table(f"{metric} pairs", pairs, title, note, columns=PAIR_COLUMNS)
    title = f"Concepts that explain a neuron best, by {metric}"
    frame = concept_frame(pairs, part)
    yield at.table(f"{metric} concepts", frame, title, note, columns=CONCEPT_COLUMNS)
    yield at.table("metrics", METRICS, "Metrics")


def pair_frame(own: xr.Dataset, metric: str) -> pd.DataFrame:
    """Return the best two concepts of every neuron by one metric, the best pair first.

    Scores are read in blocks of neurons; neurons without any defined score come last.
    """
    best, second = (np.zeros((2, own.sizes["neuron"])) for _ in range(2))
    rows = max(1, BLOCK_BYTES // _row_bytes(own))
    for start in range(0, own.sizes["neuron"], rows):
        at = slice(start, start + rows)
        scores = own["score"].isel(neuron=at).sel(metric=metric).transpose("neuron", "concept")
        best[:, at], second[:, at] = _best_two(scores.values)
    concepts = np.array(view.texts(own, "concept"))
    share = own["labelled_share"].values
    frame = pd.DataFrame(
        {
            "neuron": own["neuron"].values,
            "concept": _named(concepts, best),
            "score": best[1],
            "second": _named(concepts, second),
            "second_score": second[1],
            "margin": best[1] - second[1],
            "labelled_share": np.where(np.isnan(best[1]), np.nan, share[best[0].astype(int)]),
            "undefined": own["undefined"].sel(metric=metric).values,
        }
    )
    return frame.sort_values("score", ascending=False, kind="stable", ignore_index=True)


def _best_two(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return index and score (2, neuron) of the best, and of the second best; NaN for none."""
    held, rows = np.where(np.isnan(scores), -np.inf, scores), np.arange(len(scores))
    first = held.argmax(axis=1)
    found = [np.stack([first, held[rows, first]])]
    held[rows, first] = -np.inf
    second = held.argmax(axis=1)
    found.append(np.stack([second, held[rows, second]]))
    for pair in found:
        pair[1][np.isneginf(pair[1])] = np.nan
    return found[0], found[1]


def _named(concepts: np.ndarray, pair: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(pair[1]), "", concepts[pair[0].astype(int)])


def concept_frame(pairs: pd.DataFrame, own: xr.Dataset) -> pd.DataFrame:
    """Return a row per concept that explains a neuron best, those of most neurons first."""
    known = pairs[pairs["concept"] != ""]
    by = known.groupby("concept", sort=False)
    best = by.agg(neurons=("neuron", "count"), neuron=("neuron", "first"), score=("score", "first"))
    shares = pd.Series(own["labelled_share"].values, np.array(view.texts(own, "concept")))
    best["labelled_share"] = shares.reindex(best.index).to_numpy()
    order = ["neurons", "score"]
    return best.sort_values(order, ascending=False, kind="stable").reset_index()


def _heat(at: view.Setting, own: xr.Dataset, pairs: pd.DataFrame, metric: str) -> Iterator[Figure]:
    neurons = pairs["neuron"].head(MOST_DRAWN).tolist()
    if not neurons or not own.sizes["concept"]:
        return
    scores = own["score"].sel(metric=metric, neuron=neurons).transpose("neuron", "concept")
    values = scores.values
    kept = _best_columns(values)
    frame = pd.DataFrame(
        {
            "y": np.repeat([str(n) for n in neurons], len(kept)),
            "x": np.tile(np.array(view.texts(own, "concept"))[kept], len(neurons)),
            "value": values[:, kept].ravel(),
        }
    )
    low, high = _domain(own, metric, frame["value"])
    chart = heat(
        frame,
        x_title="concept",
        y_title="neuron",
        value_title=metric,
        domain=(low, high),
        is_signed=low < 0 < high,
    )
    is_whole = len(neurons) == own.sizes["neuron"] and len(kept) == own.sizes["concept"]
    cut = (
        f"The {counted(len(neurons), 'neuron')} of the best pairs, and the "
        f"{counted(len(kept), 'concept')} that score "
    )
    note = "The best pairs come first." if is_whole else f"{cut}highest with them."
    yield at.figure(f"{metric} heat", chart, f"Scores by {metric}", note)


def _best_columns(values: np.ndarray) -> np.ndarray:
    """Return the indices of the concepts to draw, in the order of the neurons that they suit."""
    held = np.where(np.isnan(values), -np.inf, values)
    chosen = list(dict.fromkeys(held.argmax(axis=1).tolist()))
    ranked = np.argsort(-held.max(axis=0), kind="stable")
    others = [index for index in ranked if index not in chosen]
    return np.array([*chosen, *others][:MOST_DRAWN], dtype=int)


def _domain(own: xr.Dataset, metric: str, values: pd.Series) -> tuple[float, float]:
    """Return the ends of the colours: the metric's bounds, else what is drawn."""
    at = own[["lower", "upper"]].sel(metric=metric)
    low, high = float(at["lower"]), float(at["upper"])
    low = float(values.min()) if np.isnan(low) else low
    return low, float(values.max()) if np.isnan(high) else high


HEADLINES = (
    view.Headline("neurons", lambda own: own.sizes["neuron"], ","),
    view.Headline("concepts", lambda own: own.sizes["concept"], ","),
    view.Headline("inputs", "n_inputs", ",", "for which both were known"),
    view.Headline(
        "undefined", "undefined_share", ".2%", "fraction of undefined pairs, all metrics"
    ),
)

VIEW = view.ResultView(
    *MENU["scores"],
    "How well does each concept explain each neuron? One number for every pair, by each metric, on "
    "the same activations and labels; what a metric is worth stands under Sanity checks (Oikarinen "
    "et al., ICML 2025, arXiv 2506.05774).",
    blocks,
    sentence,
    figure,
    choices=scores_choices,
)
