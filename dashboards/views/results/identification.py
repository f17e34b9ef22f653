"""Known neurons: how well each metric finds the concept that a neuron is known to have."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.parts.dots import dots
from dashboards.views.parts.heat import heat
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
from dashboards.views.parts.text import number_text
from dashboards.views.results.choices import Choice, Datasets, options_of
from dashboards.views.results.in_full import each_in_full

FALL = 0.05
"""Difference of AUPRC between settings that is told in words."""

MOST_NEURONS = 60
"""Neurons up to which the ranks of right concepts are drawn."""

COLUMNS = {
    "auprc": Column(".3f", "AUPRC", "mean over splits, of the tested neurons; 1 at best"),
    "low": Column(".3f", meaning="lower end of the t interval of the mean"),
    "high": Column(".3f", meaning="upper end of the t interval of the mean"),
    "published": Column(".3f", meaning="AUPRC that the paper's notebooks give for the setting"),
    "mean_rank": Column(".1f", "place", "place among the metrics by AUPRC, mean over splits"),
    "top_share": Column(
        ".1%", "right at the top", "share of tested neurons whose best concept is the right one"
    ),
    "alpha": Column(meaning="fraction of active inputs that most splits chose"),
    "lam": Column(title="lambda", meaning="weight of how common a concept is, likewise"),
    "undefined_share": Column(".1%", "undefined", "share of undefined pairs of tested neurons"),
}
SPLIT_COLUMNS = {
    "auprc": Column(".3f", "AUPRC", "of the tested neurons of the split"),
    "rank": Column(".1f", "place", "place among the metrics"),
    "validation": Column(".3f", "AUPRC, choosing", "of the neurons that chose alpha and lambda"),
    "alpha": Column("g", meaning="chosen fraction of active inputs"),
    "lam": Column("g", "lambda", "chosen weight of how common a concept is"),
}
NEURON_COLUMNS = {
    "right": Column(title="right concept"),
    "best": Column(title="best concept", meaning="in the first split that tests the neuron"),
    "found": Column(title="found", meaning="whether the best concept is the right one"),
    "rank": Column(".1f", "rank of the right one", "mean over splits that test the neuron; 1 best"),
}


def identification_choices(datasets: Datasets) -> list[Choice]:
    """Return that neurons are listed by one metric: the one of the highest AUPRC at first."""
    first = next(iter(datasets.values()))
    best = first["metric"].values.astype(str)[np.argsort(-_known(first["auprc"]), kind="stable")]
    metrics = list(dict.fromkeys([*best.tolist(), *options_of(datasets, "metric")]))
    return [Choice("metric", "Neurons by", metrics, "The metric by which concepts are ranked.")]


def _known(values: xr.DataArray) -> np.ndarray:
    return np.nan_to_num(values.values, nan=-np.inf)


def identification_parts(datasets: Datasets, metric: str = "") -> list[Part]:
    """Return how well known neurons are identified, settings side by side first.

    Parameters
    ----------
    datasets : mapping of str to xr.Dataset
        Of schema ``identification``, by the cell that made each.
    metric : str
        By which single neurons are listed; "" for the first that may be chosen.
    """
    metric = metric or identification_choices(datasets)[0].options[0]
    return [
        *_compare(datasets),
        *each_in_full(datasets, lambda cell, own: _setting(cell, own, metric)),
    ]


# -- settings side by side --------------------------------------------------------------------


def auprc_frame(datasets: Datasets) -> pd.DataFrame:
    """Return a row per metric and setting, the best metric of the first setting first."""
    frames = [
        pd.DataFrame(
            {
                "label": own["metric"].values.astype(str),
                "series": cell,
                "value": own["auprc"].values,
                "low": own["auprc_low"].values,
                "high": own["auprc_high"].values,
                "mark": own["published"].values,
            }
        )
        for cell, own in datasets.items()
    ]
    order = frames[0].sort_values("value", ascending=False, kind="stable")["label"].tolist()
    joined = pd.concat(frames, ignore_index=True)
    order += [label for label in joined["label"] if label not in order]
    place = joined["label"].map({label: at for at, label in enumerate(order)})
    return joined.iloc[np.argsort(place, kind="stable")].reset_index(drop=True)


def _compare(datasets: Datasets) -> list[Part]:
    frame = auprc_frame(datasets)
    is_published = bool(frame["mark"].notna().any())
    chart = dots(frame, x_title="AUPRC (1)", domain=(0, 1), series=list(datasets), mark="published")
    note = "Grey bars: intervals of the mean over splits."
    note += " Grey ticks: published." if is_published else ""
    figure = Figure("identification", chart, "AUPRC of every metric", note)
    if len(datasets) == 1:
        return [figure]
    return [*_told_changes(frame, list(datasets)), figure, _side_by_side(frame, list(datasets))]


def _told_changes(frame: pd.DataFrame, cells: list[str]) -> Iterator[Part]:
    """Tell of every later setting which metrics fall, or rise, far from the first."""
    values = frame.pivot_table("value", "label", "series", sort=False)
    for cell in cells[1:]:
        told = [
            f"{metric} {row[cells[0]]:.3f} → {row[cell]:.3f}"
            for metric, row in values.iterrows()
            if abs(row[cell] - row[cells[0]]) > FALL
        ]
        text = f"From {cells[0]} to {cell}, AUPRC changes by more than {FALL:g}: "
        yield Note(text + (f"{', '.join(told)}." if told else "by no metric."), "info")


def _side_by_side(frame: pd.DataFrame, cells: list[str]) -> Table:
    values = frame.pivot_table("value", "label", "series", sort=False)[cells]
    told = {cell: Column(".3f", cell, "AUPRC") for cell in cells}
    for cell in cells[1:]:
        values[f"change {cell}"] = values[cell] - values[cells[0]]
        told[f"change {cell}"] = Column("+.3f", f"change, {cell}", f"AUPRC less {cells[0]}'s")
    apart = values[cells].max(axis=1) - values[cells].min(axis=1)
    values = values.iloc[np.argsort(-apart.fillna(0), kind="stable")]
    table = values.rename_axis(index="metric", columns=None).reset_index()
    note = "Metrics that differ most come first."
    return Table("identification-compared", table, "Setting by setting", note, told)


# -- one setting ------------------------------------------------------------------------------


def _setting(cell: str, own: xr.Dataset, metric: str) -> list[Part]:
    return [
        Numbers(list(_numbers(own))),
        Table(
            file_name(cell, "metrics"),
            metric_frame(own),
            "Metrics",
            "AUPRC is of neurons that chose neither alpha nor lambda; intervals are t intervals "
            f"of {100 * float(own['confidence']):g} % over {own.sizes['seed']} splits, which share "
            "neurons, so that they are somewhat too narrow.",
            COLUMNS,
            in_sight=30,
        ),
        _splits(cell, own),
        *_neurons(cell, own, metric),
        Table(file_name(cell, "splits"), split_frame(own), "Split by split", columns=SPLIT_COLUMNS),
    ]


def _numbers(own: xr.Dataset) -> Iterator[Number]:
    best = own["metric"].values.astype(str)[int(np.argmax(_known(own["auprc"])))]
    yield Number("highest AUPRC", f"{float(own['best_auprc']):.3f}", f"first reached by {best}")
    yield Number("neurons", str(int(own["n_neurons"])), "of known concept")
    yield Number("choosing", str(int(own["n_choosing"])), "of these, in each split")
    yield Number("concepts", f"{int(own['n_concepts']):,}", "labels that compete")
    yield Number("inputs", f"{int(own['n_inputs']):,}")
    yield Number("shift", number_text(float(own["shift"])), "added to every activation")


def metric_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per metric, the highest AUPRC first; without columns that say nothing."""
    frame = pd.DataFrame(
        {
            "metric": own["metric"].values.astype(str),
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
    frame = frame.drop(columns=silent)
    return frame.sort_values("auprc", ascending=False, kind="stable").reset_index(drop=True)


def _most_common(values: np.ndarray) -> str:
    """Return the value that most splits chose, and how many did; "" where none is needed."""
    known, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    if not len(known):
        return ""
    often = f"{known[counts.argmax()]:g}"
    return often if len(known) == 1 else f"{often} ({counts.max()} of {counts.sum()})"


def split_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per metric and split, metrics by their mean."""
    order = np.argsort(-_known(own["auprc"]), kind="stable")
    held = own.isel(metric=order)
    names = {
        "split_auprc": "auprc",
        "split_rank": "rank",
        "validation_auprc": "validation",
        "alpha": "alpha",
        "lam": "lam",
    }
    frame = held[list(names)].to_dataframe(dim_order=["metric", "seed"]).reset_index()
    return frame.rename(columns=names)[["metric", "seed", *names.values()]]


def _splits(cell: str, own: xr.Dataset) -> Figure:
    frame = split_frame(own)
    chart = heat(
        frame.assign(y=frame["metric"], x=frame["seed"].astype(str), value=frame["auprc"]),
        x_title="split",
        y_title="",
        value_title="AUPRC (1)",
        domain=(0, 1),
    )
    note = "Each split lets other neurons choose alpha and lambda, and tests the rest."
    return Figure(file_name(cell, "splits"), chart, "Split by split", note)


# -- neurons ----------------------------------------------------------------------------------


def _neurons(cell: str, own: xr.Dataset, metric: str) -> list[Part]:
    parts: list[Part] = []
    if metric in own["metric"].values.astype(str):
        frame = neuron_frame(own, metric)
        table = Table(
            file_name(cell, metric, "neurons"),
            frame,
            f"Neurons by {metric}",
            f"{int((frame['found'] == '✓ found').sum())} of {len(frame)} are found; "
            "the hardest come first.",
            NEURON_COLUMNS,
        )
        parts.append(table)
    if own.sizes["neuron"] <= MOST_NEURONS:
        parts.append(_ranks(cell, own))
    return parts


def neuron_frame(own: xr.Dataset, metric: str) -> pd.DataFrame:
    """Return a row per neuron by one metric, those of the lowest rank of the right concept last."""
    at = own[["right_rank", "best_concept", "name", "right_concept"]].sel(metric=metric)
    right, best = at["right_concept"].values.astype(str), at["best_concept"].values.astype(str)
    frame = pd.DataFrame(
        {
            "neuron": at["neuron"].values,
            "name": at["name"].values.astype(str),
            "right": right,
            "best": best,
            "found": [_found(*pair) for pair in zip(right, best, strict=True)],
            "rank": at["right_rank"].values,
        }
    )
    return frame.sort_values("rank", ascending=False, kind="stable").reset_index(drop=True)


def _found(right: str, best: str) -> str:
    if not best:
        return "– not tested"
    return "✓ found" if right == best else "✗ another"


def _ranks(cell: str, own: xr.Dataset) -> Figure:
    order = np.argsort(-_known(own["auprc"]), kind="stable")
    ranks = own["right_rank"].isel(metric=order).transpose("metric", "neuron").to_series()
    frame = ranks.rename("value").reset_index()
    names = dict(zip(own["neuron"].values, own["name"].values.astype(str), strict=True))
    frame["x"] = [f"{neuron}: {names[neuron]}" for neuron in frame["neuron"]]
    largest = min(int(own["n_concepts"]), 10)
    chart = heat(
        frame.assign(y=frame["metric"]),
        x_title="neuron",
        y_title="",
        value_title="rank of the right concept",
        domain=(1, max(largest, 2)),
        form=".1f",
    )
    note = "1: the right concept scores highest. Mean over splits that test the neuron."
    return Figure(file_name(cell, "ranks"), chart, "Rank of the right concept", note)
