"""Known neurons: how well each metric finds the concept that a neuron is known to have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.parts.charts import dots, heat
from dashboards.views.parts.parts import Figure, Note, Part, Table, frame_of
from dashboards.views.results import answers, view
from dashboards.views.results.menu import MENU
from evals.identification.identification_table import BY_METRIC
from evals.naming.verdicts import untested_best
from registry.columns import Column, ResultTable
from registry.wording import counted

FALL = 0.05
"""Difference of AUPRC between settings that is put in words."""

MOST_NEURONS = 60
"""Neurons up to which the ranks of ground-truth concepts are drawn."""


def _found(at: xr.Dataset) -> list[str]:
    pairs = zip(view.texts(at, "right_concept"), view.texts(at, "best_concept"), strict=True)
    signs = {True: "✓ found", False: "✗ another"}
    return [signs[truth == best] if best else "– not tested" for truth, best in pairs]


SPLITS = ResultTable(
    ("metric", "seed"),
    {
        "auprc": Column(".3f", "AUPRC", "of the tested neurons of the split", "split_auprc"),
        "rank": Column(".1f", "rank", "among the metrics", "split_rank"),
        "validation": Column(
            ".3f",
            "AUPRC, choosing",
            "of the neurons that chose alpha and lambda",
            "validation_auprc",
        ),
        "alpha": Column("g", help="chosen fraction of active inputs"),
        "lam": Column("g", "lambda", "chosen weight of how common a concept is"),
    },
)
NEURONS = ResultTable(
    "neuron",
    {
        "name": Column(),
        "right": Column(
            "", "ground truth", "concept that the neuron is known to have", "right_concept"
        ),
        "best": Column(
            "", "best concept", "in the first split that tests the neuron", "best_concept"
        ),
        "found": Column("", "found", "whether the best concept is the ground truth", _found),
        "rank": Column(
            ".1f",
            "rank of the ground truth",
            "mean over splits that test it; 1 is best",
            "right_rank",
        ),
    },
    sort_by="rank",
)
"""Neurons by one metric, by rank of their ground-truth concept, best last."""


def identification_choices(datasets: view.Datasets) -> list[view.Choice]:
    """Return that neurons are listed by one metric: the one of the highest AUPRC at first."""
    first = view.texts(_by_auprc(next(iter(datasets.values()))), "metric")
    metrics = list(dict.fromkeys([*first, *view.options_of(datasets, "metric")]))
    return [
        view.Choice("metric", "Neurons by", metrics, "The metric by which concepts are ranked.")
    ]


def _by_auprc(own: xr.Dataset) -> xr.Dataset:
    """Return a dataset with its metrics by AUPRC, the highest first, undefined ones last."""
    order = np.argsort(-np.nan_to_num(own["auprc"].values, nan=-np.inf), kind="stable")
    return own.isel(metric=order)


# -- settings side by side --------------------------------------------------------------------


def auprc_frame(datasets: view.Datasets) -> pd.DataFrame:
    """Return rows of every metric and setting, metrics in the order of the first setting."""
    names = {"auprc": "value", "auprc_low": "low", "auprc_high": "high", "published": "mark"}
    frames = [
        _by_auprc(own)[list(names)].to_dataframe().reset_index().assign(series=cell)
        for cell, own in datasets.items()
    ]
    joined = pd.concat(frames, ignore_index=True).rename(columns={**names, "metric": "label"})
    order = {label: at for at, label in enumerate(dict.fromkeys(joined["label"]))}
    ranked = joined.sort_values("label", key=lambda own: own.map(order), kind="stable")
    return ranked[["label", "series", "value", "low", "high", "mark"]].reset_index(drop=True)


def by_chance(own: xr.Dataset) -> float:
    """Return about which AUPRC random scores give: the share of true pairs."""
    return 1 / max(1, int(own["n_concepts"]))


def figure(settings: Sequence[view.Setting]) -> Iterator[Figure]:
    """Yield AUPRC of every metric in every setting, beside chance."""
    frame = auprc_frame({at.cell: at.own for at in settings})
    chances = {by_chance(at.own) for at in settings}
    chart = dots(
        frame,
        x_title="AUPRC",
        domain=(0, 1),
        series=[at.cell for at in settings],
        mark="published",
        rule=("chance", chances.pop()) if len(chances) == 1 else None,
    )
    note = "Grey bars: intervals of the mean over splits. Dashed: chance."
    note += " Grey ticks: published." if frame["mark"].notna().any() else ""
    yield Figure("identification", chart, "AUPRC of every metric", note)


def _values(settings: Sequence[view.Setting]) -> pd.DataFrame:
    """Return AUPRC of every metric (row) in every setting (column)."""
    frame = auprc_frame({at.cell: at.own for at in settings})
    return frame.pivot_table("value", "label", "series", sort=False)


def compared(settings: Sequence[view.Setting]) -> Iterator[Table]:
    """Yield AUPRC setting by setting."""
    yield _side_by_side(_values(settings)[[at.cell for at in settings]])


def above(settings: Sequence[view.Setting]) -> Iterator[Part]:
    """Yield what changes between several settings."""
    cells, values = [at.cell for at in settings], _values(settings)
    for cell in cells[1:]:
        moved = [
            f"{metric} {row[cells[0]]:.3f} → {row[cell]:.3f}"
            for metric, row in values.iterrows()
            if abs(row[cell] - row[cells[0]]) > FALL
        ]
        text = f"From {cells[0]} to {cell}, AUPRC changes by more than {FALL:g}: "
        yield Note(text + (f"{', '.join(moved)}." if moved else "by no metric."), "info")


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


def blocks(at: view.Setting) -> Iterator[Part]:
    """Yield metrics, splits and neurons of one setting."""
    own, metric = _by_auprc(at.own), at.chosen["metric"]
    yield from view.seen_notes(own)
    note = (
        "AUPRC is of neurons that chose neither alpha nor lambda; intervals are t intervals "
        f"of {100 * float(own['confidence']):g} % over {counted(own.sizes['seed'], 'split')}, "
        "which share "
        "neurons, so that they are somewhat too narrow."
    )
    metrics = metric_frame(own)
    yield at.table("metrics", metrics, "Metrics", note, columns=BY_METRIC.columns, in_sight=30)
    splits = frame_of(SPLITS, own)
    cells = splits.assign(y=splits["metric"], x=splits["seed"].astype(str), value=splits["auprc"])
    chart = heat(cells, x_title="split", value_title="AUPRC", domain=(0, 1))
    note = "Each split lets other neurons choose alpha and lambda, and tests the rest."
    yield at.figure("splits", chart, "Split by split", note)
    if at.has("metric"):
        frame = frame_of(NEURONS, own.sel(metric=metric))
        found = int((frame["found"] == "✓ found").sum())
        note = (
            f"{found} of {len(frame)} are found; the hardest come first. Best concept: "
            f"{_uncapitalised(untested_best(int(own['n_concepts'])))}"
        )
        title = f"Neurons by {metric}"
        yield at.table(f"{metric} neurons", frame, title, note, columns=NEURONS.columns)
    if own.sizes["neuron"] <= MOST_NEURONS:
        yield _ranks(at, own)
    yield at.table("splits", splits, "Split by split", columns=SPLITS.columns)


def _uncapitalised(text: str) -> str:
    return text[:1].lower() + text[1:]


def metric_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per metric, the highest AUPRC first; without columns that say nothing."""
    frame = frame_of(BY_METRIC, own)
    silent = [name for name in ("published", "low", "high") if frame[name].isna().all()]
    return frame.drop(columns=silent)


def _ranks(at: view.Setting, own: xr.Dataset) -> Figure:
    frame = own["right_rank"].transpose("metric", "neuron").to_series().rename("value")
    names = dict(zip(own["neuron"].values, view.texts(own, "name"), strict=True))
    shown = frame.reset_index().rename(columns={"metric": "y"})
    shown["x"] = [f"{neuron}: {names[neuron]}" for neuron in shown["neuron"]]
    domain = 1, max(min(int(own["n_concepts"]), 10), 2)
    title = "rank of the ground truth"
    chart = heat(shown, x_title="neuron", value_title=title, domain=domain, form=".1f")
    note = "1: the ground-truth concept scores highest. Mean over splits that test the neuron."
    return at.figure("ranks", chart, "Rank of the ground-truth concept", note)


VIEW = view.ResultView(
    *MENU["identification"],
    "Does a metric find what is known? Output neurons have a known concept: AUPRC is the average "
    "precision of a metric's scores as a detector of the true pairs of neuron and concept, 1 at "
    "best (Oikarinen et al., ICML 2025, arXiv 2506.05774, section 5 and appendix E.2).",
    blocks,
    lambda at: answers.identification(at.own),
    figure,
    (
        view.Headline(
            "highest AUPRC",
            "best_auprc",
            ".3f",
            lambda own: f"first reached by {view.texts(_by_auprc(own), 'metric')[0]}",
        ),
        view.Headline(
            "AUPRC by chance",
            by_chance,
            ".3f",
            "about what random scores give: the share of true pairs",
        ),
        view.Headline("neurons", "n_neurons", ",", "of known concept"),
        view.Headline("choosing", "n_choosing", ",", "of these, in each split"),
        view.Headline("concepts", "n_concepts", ",", "labels that compete"),
        view.Headline("inputs", "n_inputs", ","),
        view.Headline("shift", "shift", meaning="added to every activation"),
    ),
    identification_choices,
    above,
    compared,
    replicated=view.columns_of(BY_METRIC, "auprc"),
    together=4,
)
