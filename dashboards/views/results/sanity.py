"""Sanity checks of metrics: the paper's table, ours beside the published, and why they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.parts.charts import lines
from dashboards.views.parts.dots import dots
from dashboards.views.parts.heat import heat
from dashboards.views.parts.parts import (
    MISSING,
    Column,
    Figure,
    Heading,
    Note,
    Number,
    Numbers,
    Part,
    Table,
    file_name,
)
from dashboards.views.results.choices import Choice, Datasets, options_of
from dashboards.views.results.in_full import each_in_full
from evals.commands import bounds_of
from evals.metrics.registered import list_metrics
from evals.metrics.table import Metric
from evals.sanity.protocol import THEORETICAL
from evals.sanity.verdicts import FAILS, NOT_RUN, PASSES, UNDECIDED

VERDICTS = {PASSES: "✓ passes", UNDECIDED: "? undecided", FAILS: "✗ fails", NOT_RUN: "– not run"}
"""Verdict to what is said of it, in the order of tables."""

ORDER = list(VERDICTS)
FORMS = {
    "theoretical": "binary neurons that are their own concept",
    "experimental": "real neurons, labels spoiled at random",
    "semantic": "real neurons, classes for superclasses and back",
}
CELL_COLUMNS = {
    "metric": Column(is_wide=True),
    "ours": Column(".2f", "ours, %", "share of draws or neurons in which the score falls"),
    "low": Column(".2f", "low, %", "lower end of its 95 % interval"),
    "high": Column(".2f", "high, %", "upper end of its 95 % interval"),
    "published": Column(".2f", "published, %", "the same in the paper"),
    "apart": Column("+.2f", "ours − published", "in points of per cent"),
    "change": Column("+.4f", "mean change", "of the score, in units of the metric's range"),
    "undefined": Column(".1%", "undefined", "share of scores on spoiled labels; they count as 0"),
    "reason": Column(title="why they differ", meaning="empty where they agree within sampling"),
}
METRIC_COLUMNS = {
    "metric": Column(is_wide=True),
    "meaning": Column(title="what it is"),
    "bounds": Column(meaning="smallest and largest possible value"),
    "needs": Column(meaning="parameters that the value depends on"),
    "partner": Column(meaning="the same with neuron and concept exchanged, on binary data"),
}


def sanity_choices(datasets: Datasets) -> list[Choice]:
    """Return that one metric may be looked at in detail."""
    meaning = "One metric in detail: every test, by frequency and by seed."
    metrics = options_of(datasets, "metric")
    return [Choice("metric", "One metric in detail", metrics, meaning, optional=True)]


def sanity_parts(datasets: Datasets, metric: str = "") -> list[Part]:
    """Return what became of metrics in their tests, a metric in detail, and the table of metrics.

    Parameters
    ----------
    datasets : mapping of str to xr.Dataset
        Of schema ``sanity``, by the cell that made each.
    metric : str
        The one to look at in detail; "" for none.
    """
    parts: list[Part] = [_compare(datasets)] if len(datasets) > 1 else []
    for cell, own in datasets.items() if metric else ():
        parts += _detail(cell, own, metric)
    return [*parts, *each_in_full(datasets, _setting), *_metrics(datasets)]


# -- all metrics of a setting -----------------------------------------------------------------


def _compare(datasets: Datasets) -> Table:
    frames = {
        cell: pd.Series(verdict_texts(_passed(own)), own["metric"].values.astype(str))
        for cell, own in datasets.items()
    }
    frame = pd.DataFrame(frames).reindex(options_of(datasets, "metric")).fillna(VERDICTS[NOT_RUN])
    rank = {text: place for place, text in enumerate(VERDICTS.values())}
    first = frame.columns[0]
    frame = frame.sort_values(first, key=lambda column: column.map(rank), kind="stable")
    frame = frame.rename_axis("metric").reset_index()
    columns = {"metric": CELL_COLUMNS["metric"]}
    return Table("sanity-compared", frame, "Verdicts, setting by setting", columns=columns)


def _setting(cell: str, own: xr.Dataset) -> list[Part]:
    own = by_verdict(own)
    return [
        Numbers(list(_numbers(own))),
        Note(f"{_forms_text(own)} Variant: {own['variant'].item()}."),
        Table(
            file_name(cell, "verdicts"),
            verdict_frame(own),
            "Verdicts",
            "Scores fell in so many per cent of the draws or neurons; in parentheses what the "
            f"paper gives. ✓: at least {_percent(own['required'])}, ✗: fewer, ?: sampling decides. "
            "A metric passes if it passes both tests in the theoretical and, "
            "where run, the experimental form. –: not run; the semantic form needs neurons of "
            "classes for extra labels, and of their superclasses for missing ones.",
            {"metric": CELL_COLUMNS["metric"]},
            in_sight=40,
        ),
        *(_accuracies(cell, own, form) for form in forms_run(own)),
        *_by_frequency(cell, own),
        Table(
            file_name(cell, "tests"),
            cell_frame(own),
            "Every test",
            "Intervals: 95 %, over draws or neurons (Wilson).",
            CELL_COLUMNS,
        ),
        *reasons(own),
    ]


def by_verdict(own: xr.Dataset) -> xr.Dataset:
    """Return a dataset with its metrics in the order of their verdicts: what passes comes first."""
    place = [ORDER.index(verdict) if verdict in ORDER else len(ORDER) for verdict in _passed(own)]
    return own.isel(metric=np.argsort(place, kind="stable"))


def _passed(own: xr.Dataset) -> list[str]:
    return [str(verdict) for verdict in own["passed"].values]


def verdict_texts(verdicts: Sequence[str]) -> list[str]:
    """Return verdicts with their signs."""
    return [VERDICTS.get(str(verdict), str(verdict)) for verdict in verdicts]


def forms_run(own: xr.Dataset) -> list[str]:
    """Return the forms of the tests that were run."""
    accuracy = own["decrease_accuracy"]
    return [f for f in own["form"].values.astype(str) if accuracy.sel(form=f).notnull().any()]


def _forms_text(own: xr.Dataset) -> str:
    told = []
    for form in forms_run(own):
        counts = sorted({int(n) for n in own["n_neurons"].sel(form=form).values if n})
        on = f" ({' and '.join(map(str, counts))} tested)" if counts else ""
        told.append(f"{form.capitalize()}: {FORMS.get(form, form)}{on}.")
    absent = [f for f in own["form"].values.astype(str) if f not in forms_run(own)]
    return " ".join([*told, *(f"{form.capitalize()}: not run here." for form in absent)])


def _numbers(own: xr.Dataset) -> Iterator[Number]:
    yield Number("✓ pass", str(int(own["n_passing"])), "metrics that pass every decisive test")
    yield Number("? undecided", str(int(own["n_undecided"])), "metrics of which sampling decides")
    yield Number("✗ fail", str(int(own["n_failing"])), "metrics that fail one")
    yield Number("required", _percent(own["required"]), "share in which a score must fall")
    meaning = "fall that counts, as a share of the range that the metric can have"
    yield Number("epsilon", f"{float(own['epsilon']):g}", meaning)
    yield Number("draws", f"{int(own['n_draws']):,}", "theoretical form: at each frequency")


def _percent(share: xr.DataArray | float) -> str:
    return f"{100 * float(share):g} %"


def verdict_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per metric: its verdict, and for each form and test ours (published), in %."""
    told = {"metric": own["metric"].values.astype(str), "verdict": verdict_texts(_passed(own))}
    names = ["decrease_accuracy", "published", "verdict"]
    for form in forms_run(own):
        for test in own["test"].values.astype(str):
            at = own[names].sel(form=form, test=test)
            values = zip(*(at[name].values.tolist() for name in names), strict=True)
            told[f"{form}, {test}"] = [_accuracy_text(*held) for held in values]
    return pd.DataFrame(told)


def _accuracy_text(accuracy: float, published: float, verdict: str) -> str:
    if np.isnan(accuracy):
        return MISSING
    sign = VERDICTS.get(verdict, " ")[0]
    beside = "" if np.isnan(published) else f" ({100 * published:.1f})"
    return f"{sign} {100 * accuracy:.1f}{beside}"


def cell_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per metric, form and test that was run, with all that is known of it."""
    cells = _cells(own)
    ours, published = 100 * cells["decrease_accuracy"], 100 * cells["published"]
    return pd.DataFrame(
        {
            "metric": cells["metric"],
            "form": cells["form"],
            "test": cells["test"],
            "verdict": verdict_texts(cells["verdict"].tolist()),
            "ours": ours,
            "low": 100 * cells["decrease_accuracy_low"],
            "high": 100 * cells["decrease_accuracy_high"],
            "published": published,
            "apart": ours - published,
            "change": cells["mean_change"],
            "undefined": cells["undefined"],
            "reason": cells["difference"],
        }
    )


def _cells(own: xr.Dataset) -> pd.DataFrame:
    """Return what has form and test as a row each, in order, of those that were run."""
    order = ["metric", "form", "test"]
    names = [name for name, variable in own.data_vars.items() if set(variable.dims) == set(order)]
    frame = own[names].to_dataframe(dim_order=order).reset_index()
    return frame[frame["decrease_accuracy"].notna()].reset_index(drop=True)


def _accuracies(cell: str, own: xr.Dataset, form: str) -> Figure:
    frame = cell_frame(own.sel(form=[form]))
    shown = pd.DataFrame(
        {
            "label": frame["metric"],
            "series": frame["test"] + " labels",
            "value": frame["ours"],
            "low": frame["low"],
            "high": frame["high"],
            "mark": frame["published"],
        }
    )
    chart = dots(
        shown,
        x_title="scores that fall (%)",
        domain=(0, 100),
        form=".1f",
        series=[f"{test} labels" for test in own["test"].values.astype(str)],
        mark="published",
        rule=("required", 100 * float(own["required"])),
    )
    note = "Grey ticks: published. Dashed: the required share. Grey bars: intervals"
    note += "." if form == THEORETICAL else ", which are wide where few neurons were tested."
    return Figure(file_name(cell, form), chart, f"{form.capitalize()}: {FORMS[form]}", note)


# -- by frequency -----------------------------------------------------------------------------


def frequency_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per metric, test and frequency: rate, change and undefined share."""
    names = ["decrease_rate", "score_change", "undefined_share"]
    tested = own[names].transpose("metric", "test", "frequency")
    metrics = own["metric"].values.astype(str)
    tests, frequencies = own["test"].values.astype(str), own["frequency"].values
    index = pd.MultiIndex.from_product(
        [metrics, tests, frequencies], names=["metric", "test", "frequency"]
    )
    columns = {name: tested[name].values.ravel() for name in names}
    return pd.DataFrame(columns, index=index).reset_index()


FREQUENCY_COLUMNS = {
    "frequency": Column(".2%", "active inputs", "share of inputs at which the neuron is active"),
    "decrease_rate": Column(".1%", "rate", "share of draws in which the score falls"),
    "score_change": Column("+.4f", "mean change", "in units of the metric's range"),
    "undefined_share": Column(".1%", "undefined", "share of undefined scores, which count as 0"),
}


def _by_frequency(cell: str, own: xr.Dataset) -> list[Part]:
    frame = frequency_frame(own)
    if frame["decrease_rate"].isna().all():
        return []
    shown = frame.assign(
        y=frame["metric"],
        x=[f"{t}, {100 * f:g} %" for t, f in zip(frame["test"], frame["frequency"], strict=True)],
    )
    largest = float(frame["score_change"].abs().max()) or 1.0
    columns = "spoiled labels, active inputs"
    rates = heat(
        shown.assign(value=100 * frame["decrease_rate"]),
        value_title="scores that fall (%)",
        domain=(0, 100),
        form=".0f",
        x_title=columns,
        y_title="",
    )
    changes = heat(
        shown.assign(value=frame["score_change"]),
        value_title="mean change (share of range)",
        domain=(-largest, largest),
        form="+.3f",
        is_signed=True,
        x_title=columns,
        y_title="",
    )
    why = "A metric that fails, fails on rare or on frequent concepts: here is on which."
    return [
        Figure(file_name(cell, "rates"), rates, "Theoretical: by frequency of the concept", why),
        Figure(
            file_name(cell, "changes"),
            changes,
            "Theoretical: how far scores move",
            "Falls are negative; a fall counts from epsilon on.",
        ),
        Table(file_name(cell, "frequencies"), frame, "By frequency", columns=FREQUENCY_COLUMNS),
    ]


# -- why ours differ --------------------------------------------------------------------------


def reasons(own: xr.Dataset) -> list[Part]:
    """Return each reason of a difference once, with the tests that it explains."""
    told: dict[str, list[str]] = {}
    cells = _cells(own)
    for row in cells[cells["difference"] != ""].to_dict("records"):
        is_own = row["form"] == THEORETICAL  # of other forms all tests have one reason
        where = f"{row['metric']} ({row['test']})" if is_own else str(row["form"])
        told.setdefault(str(row["difference"]), []).append(where)
    notes = [
        Note(f"{', '.join(dict.fromkeys(where))}: {reason}.") for reason, where in told.items()
    ]
    return [Heading("Why ours differ from the published"), *notes] if notes else []


# -- one metric -------------------------------------------------------------------------------


def _detail(cell: str, own: xr.Dataset, metric: str) -> list[Part]:
    if metric not in own["metric"].values.astype(str):
        return []
    at = own.sel(metric=[metric])
    known = list_metrics().get(metric)
    parts: list[Part] = [Heading(f"{metric}: {verdict_texts(_passed(at))[0]} ({cell})")]
    if known is not None:
        parts.append(Note(plain(known.description or known.title)))
    parts.append(
        Table(file_name(cell, metric, "tests"), cell_frame(at), "Its tests", columns=CELL_COLUMNS)
    )
    parts += _curves(cell, at, metric)
    seeds = seed_frame(at)
    if len(seeds):
        told = {"accuracy": Column(".1%", "scores that fall", "share of neurons")}
        parts.append(Table(file_name(cell, metric, "seeds"), seeds, "Seed by seed", columns=told))
    return parts


def _curves(cell: str, at: xr.Dataset, metric: str) -> list[Part]:
    frame = frequency_frame(at).rename(columns={"test": "series"})
    if frame["decrease_rate"].isna().all():
        return []
    tests = at["test"].values.astype(str).tolist()
    frame["rate"] = 100 * frame["decrease_rate"]
    shared = {"x": "frequency", "x_title": "share of active inputs (1)", "series": tests}
    rates = lines(
        frame, y="rate", y_title="scores that fall (%)", x_log=True, domain=(0, 100), **shared
    )
    changes = lines(
        frame, y="score_change", y_title="mean change (share of range)", x_log=True, **shared
    )
    return [
        Figure(file_name(cell, metric, "rates"), rates, "Scores that fall, by frequency"),
        Figure(file_name(cell, metric, "changes"), changes, "Change of the score, by frequency"),
    ]


def seed_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return the decrease accuracy of each seed, a row per metric, form, test and seed."""
    if "seed_accuracy" not in own:
        return pd.DataFrame(columns=["metric", "form", "test", "seed", "accuracy"])
    frame = own["seed_accuracy"].to_series().rename("accuracy").dropna().reset_index()
    return frame[["metric", "form", "test", "seed", "accuracy"]]


# -- the table of metrics ---------------------------------------------------------------------


def _metrics(datasets: Datasets) -> list[Part]:
    return [
        Heading("The table of metrics"),
        Table(
            "metrics",
            metric_frame(datasets),
            note="Every registered metric: built in, of installed packages, and the project's own.",
            columns=METRIC_COLUMNS,
        ),
    ]


def metric_frame(datasets: Datasets) -> pd.DataFrame:
    """Return a row per registered metric, and per tested one that is registered no more."""
    table = list_metrics()
    tested = options_of(datasets, "metric")
    return pd.DataFrame(
        [_metric_row(name, table.get(name), datasets) for name in dict.fromkeys([*table, *tested])],
        columns=["metric", "verdict", "meaning", "bounds", "needs", "family", "partner", "source"],
    )


def plain(text: str) -> str:
    """Return the text of a docstring on one line, without the marks of its formulas."""
    return " ".join(text.replace("`", "").split())


def _metric_row(name: str, row: Metric | None, datasets: Datasets) -> dict[str, str]:
    verdicts = [
        str(own["passed"].sel(metric=name).item())
        for own in datasets.values()
        if name in own["metric"].values.astype(str)
    ]
    told = {"metric": name, "verdict": " / ".join(verdict_texts(verdicts)) or VERDICTS[NOT_RUN]}
    if row is None:
        return told | {"meaning": "not registered here"}
    return told | {
        "meaning": plain(row.title),
        "bounds": bounds_of(row),
        "needs": ", ".join(row.needs),
        "family": row.family,
        "partner": row.partner or "",
        "source": row.source,
    }
