"""Known neurons: how well each metric finds the concept that a neuron is known to have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.parts.dots import dots
from dashboards.views.parts.heat import heat
from dashboards.views.parts.parts import Column, Figure, Note, Part, Table
from dashboards.views.results.view import (
    ABOUT_METRICS,
    Choice,
    Datasets,
    Headline,
    ResultView,
    Setting,
    options_of,
    texts,
)

FALL = 0.05
"""Difference of AUPRC between settings that is put in words."""

MOST_NEURONS = 60
"""Neurons up to which the ranks of ground-truth concepts are drawn."""

COLUMNS = {
    "auprc": Column(".3f", "AUPRC", "mean over splits, of the tested neurons; 1 at best"),
    "low": Column(".3f", meaning="lower end of the t interval of the mean"),
    "high": Column(".3f", meaning="upper end of the t interval of the mean"),
    "published": Column(".3f", meaning="AUPRC that the paper's notebooks give for the setting"),
    "mean_rank": Column(".1f", "mean rank", "among the metrics by AUPRC, mean over splits"),
    "top_share": Column(
        ".1%", "top 1", "fraction of tested neurons whose best concept is the ground truth"
    ),
    "alpha": Column(meaning="fraction of active inputs that most splits chose"),
    "lam": Column(title="lambda", meaning="weight of how common a concept is, likewise"),
    "undefined_share": Column(".1%", "undefined", "fraction of undefined pairs of tested neurons"),
}
SPLIT_COLUMNS = {
    "auprc": Column(".3f", "AUPRC", "of the tested neurons of the split"),
    "rank": Column(".1f", "rank", "among the metrics"),
    "validation": Column(".3f", "AUPRC, choosing", "of the neurons that chose alpha and lambda"),
    "alpha": Column("g", meaning="chosen fraction of active inputs"),
    "lam": Column("g", "lambda", "chosen weight of how common a concept is"),
}
NEURON_COLUMNS = {
    "right": Column(title="ground truth", meaning="concept that the neuron is known to have"),
    "best": Column(title="best concept", meaning="in the first split that tests the neuron"),
    "found": Column(title="found", meaning="whether the best concept is the ground truth"),
    "rank": Column(".1f", "rank of the ground truth", "mean over splits that test it; 1 is best"),
}


def identification_choices(datasets: Datasets) -> list[Choice]:
    """Return that neurons are listed by one metric: the one of the highest AUPRC at first."""
    first = next(iter(datasets.values()))
    metrics = list(dict.fromkeys([*texts(_by_auprc(first), "metric"),
                                  *options_of(datasets, "metric")]))  # fmt: skip
    return [Choice("metric", "Neurons by", metrics, "The metric by which concepts are ranked.")]


def _by_auprc(own: xr.Dataset) -> xr.Dataset:
    """Return a dataset with its metrics by AUPRC, the highest first, undefined ones last."""
    order = np.argsort(-np.nan_to_num(own["auprc"].values, nan=-np.inf), kind="stable")
    return own.isel(metric=order)


# -- settings side by side --------------------------------------------------------------------


def auprc_frame(datasets: Datasets) -> pd.DataFrame:
    """Return rows of every metric and setting, metrics in the order of the first setting."""
    names = {"auprc": "value", "auprc_low": "low", "auprc_high": "high", "published": "mark"}
    frames = [
        _by_auprc(own)[list(names)].to_dataframe().reset_index().assign(series=cell)
        for cell, own in datasets.items()
    ]
    joined = pd.concat(frames, ignore_index=True).rename(columns={**names, "metric": "label"})
    order = {label: at for at, label in enumerate(dict.fromkeys(joined["label"]))}
    columns = ["label", "series", "value", "low", "high", "mark"]
    by = joined["label"].map(order).to_numpy()
    return joined[columns].iloc[np.argsort(by, kind="stable")].reset_index(drop=True)


def above(settings: Sequence[Setting]) -> Iterator[Part]:
    """Yield AUPRC of every metric, and what changes between several settings."""
    cells = [at.cell for at in settings]
    frame = auprc_frame({at.cell: at.own for at in settings})
    values = frame.pivot_table("value", "label", "series", sort=False)
    for cell in cells[1:]:
        moved = [
            f"{metric} {row[cells[0]]:.3f} → {row[cell]:.3f}"
            for metric, row in values.iterrows()
            if abs(row[cell] - row[cells[0]]) > FALL
        ]
        text = f"From {cells[0]} to {cell}, AUPRC changes by more than {FALL:g}: "
        yield Note(text + (f"{', '.join(moved)}." if moved else "by no metric."), "info")
    chart = dots(frame, x_title="AUPRC (1)", domain=(0, 1), series=cells, mark="published")
    note = "Grey bars: intervals of the mean over splits."
    note += " Grey ticks: published." if frame["mark"].notna().any() else ""
    yield Figure("identification", chart, "AUPRC of every metric", note)
    if len(cells) > 1:
        yield _side_by_side(values[cells])


def _side_by_side(values: pd.DataFrame) -> Table:
    first, *others = cells = list(map(str, values))
    apart = (values.max(axis=1) - values.min(axis=1)).fillna(0)
    columns = {cell: Column(".3f", cell, "AUPRC") for cell in cells}
    for cell in others:
        values = values.assign(**{f"change {cell}": values[cell] - values[first]})
        columns[f"change {cell}"] = Column("+.3f", f"change, {cell}", f"AUPRC minus {first}'s")
    ranked = values.iloc[np.argsort(-apart, kind="stable")]
    table = ranked.rename_axis(index="metric", columns=None).reset_index()
    note = "Metrics that differ most come first."
    return Table("identification-compared", table, "Setting by setting", note, columns)


# -- one setting ------------------------------------------------------------------------------


def blocks(at: Setting) -> Iterator[Part]:
    """Yield metrics, splits and neurons of one setting."""
    own, metric = at.own, at.chosen["metric"]
    yield at.table(
        "metrics",
        metric_frame(own),
        "Metrics",
        note="AUPRC is of neurons that chose neither alpha nor lambda; intervals are t intervals "
        f"of {100 * float(own['confidence']):g} % over {own.sizes['seed']} splits, which share "
        "neurons, so that they are somewhat too narrow.",
        columns=COLUMNS,
        in_sight=30,
    )
    splits = split_frame(own)
    chart = heat(
        splits.assign(y=splits["metric"], x=splits["seed"].astype(str), value=splits["auprc"]),
        x_title="split",
        y_title="",
        value_title="AUPRC (1)",
        domain=(0, 1),
    )
    note = "Each split lets other neurons choose alpha and lambda, and tests the rest."
    yield at.figure("splits", chart, "Split by split", note)
    if at.has("metric"):
        frame = neuron_frame(own, metric)
        found = int((frame["found"] == "✓ found").sum())
        yield at.table(
            f"{metric} neurons",
            frame,
            f"Neurons by {metric}",
            note=f"{found} of {len(frame)} are found; the hardest come first.",
            columns=NEURON_COLUMNS,
        )
    if own.sizes["neuron"] <= MOST_NEURONS:
        yield _ranks(at)
    yield at.table("splits", splits, "Split by split", columns=SPLIT_COLUMNS)


def metric_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per metric, the highest AUPRC first; without columns that say nothing."""
    own = _by_auprc(own)
    frame = pd.DataFrame(
        {
            "metric": texts(own, "metric"),
            "auprc": own["auprc"].values,
            "low": own["auprc_low"].values,
            "high": own["auprc_high"].values,
            "published": own["published"].values,
            "mean_rank": own["mean_rank"].values,
            "top_share": own["top_share"].values,
            "alpha": [_most_common(row) for row in own["alpha"].transpose("metric", ...).values],
            "lam": [_most_common(row) for row in own["lam"].transpose("metric", ...).values],
            "undefined_share": own["undefined_share"].values,
        }
    )
    silent = [name for name in ("published", "low", "high") if frame[name].isna().all()]
    return frame.drop(columns=silent)


def _most_common(values: np.ndarray) -> str:
    """Return the value that most splits chose, and how many did; "" where none is needed."""
    known, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    if not len(known):
        return ""
    often = f"{known[counts.argmax()]:g}"
    return often if len(known) == 1 else f"{often} ({counts.max()} of {counts.sum()})"


def split_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per metric and split, metrics by their mean."""
    names = {
        "split_auprc": "auprc",
        "split_rank": "rank",
        "validation_auprc": "validation",
        "alpha": "alpha",
        "lam": "lam",
    }
    frame = _by_auprc(own)[list(names)].to_dataframe(dim_order=["metric", "seed"]).reset_index()
    return frame.rename(columns=names)[["metric", "seed", *names.values()]]


def neuron_frame(own: xr.Dataset, metric: str) -> pd.DataFrame:
    """Return a row per neuron by one metric, by rank of its ground-truth concept, best last."""
    at = own[["right_rank", "best_concept", "name", "right_concept"]].sel(metric=metric)
    right, best = texts(at, "right_concept"), texts(at, "best_concept")
    frame = pd.DataFrame(
        {
            "neuron": at["neuron"].values,
            "name": texts(at, "name"),
            "right": right,
            "best": best,
            "found": [_found(*pair) for pair in zip(right, best, strict=True)],
            "rank": at["right_rank"].values,
        }
    )
    return frame.sort_values("rank", ascending=False, kind="stable", ignore_index=True)


def _found(right: str, best: str) -> str:
    if not best:
        return "– not tested"
    return "✓ found" if right == best else "✗ another"


def _ranks(at: Setting) -> Figure:
    own = _by_auprc(at.own)
    frame = own["right_rank"].transpose("metric", "neuron").to_series().rename("value")
    names = dict(zip(own["neuron"].values, texts(own, "name"), strict=True))
    shown = frame.reset_index().assign(
        y=lambda rows: rows["metric"],
        x=lambda rows: [f"{neuron}: {names[neuron]}" for neuron in rows["neuron"]],
    )
    chart = heat(
        shown,
        x_title="neuron",
        y_title="",
        value_title="rank of the ground truth",
        domain=(1, max(min(int(own["n_concepts"]), 10), 2)),
        form=".1f",
    )
    note = "1: the ground-truth concept scores highest. Mean over splits that test the neuron."
    return at.figure("ranks", chart, "Rank of the ground-truth concept", note)


VIEW = ResultView(
    "identification",
    "Known neurons",
    "known-neurons",
    ABOUT_METRICS,
    "Does a metric find what is known? Output neurons have a known concept: AUPRC is the average "
    "precision of a metric's scores as a detector of the true pairs of neuron and concept, 1 at "
    "best (Oikarinen et al., ICML 2025, arXiv 2506.05774, section 5 and appendix E.2).",
    blocks,
    (
        Headline(
            "highest AUPRC",
            "best_auprc",
            ".3f",
            lambda own: f"first reached by {texts(_by_auprc(own), 'metric')[0]}",
        ),
        Headline("neurons", "n_neurons", ",", "of known concept"),
        Headline("choosing", "n_choosing", ",", "of these, in each split"),
        Headline("concepts", "n_concepts", ",", "labels that compete"),
        Headline("inputs", "n_inputs", ","),
        Headline("shift", "shift", meaning="added to every activation"),
    ),
    identification_choices,
    above,
    together=4,
)
