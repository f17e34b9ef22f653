"""Sanity checks of metrics: the paper's table, ours beside the published, and why they differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.parts.charts import dots, heat, lines, signs
from dashboards.views.parts.parts import MISSING, Figure, Heading, Note, Part, Table, frame_of
from dashboards.views.results import answers, view
from dashboards.views.results.menu import MENU
from evals.commands import bounds_of
from evals.metrics.registered import list_metrics
from evals.metrics.table import Metric
from evals.metrics.tolerance import faulty_names
from evals.sanity.protocol import FAILS, NOT_RUN, PASSES, THEORETICAL, UNDECIDED
from registry.columns import Column, ResultTable

VERDICTS = {PASSES: "✓ passes", UNDECIDED: "? undecided", FAILS: "✗ fails", NOT_RUN: "– not run"}
"""Verdict to what is said of it, in the order of tables."""

NO_VERDICT = "– no verdict"
"""Of a metric that failed itself, in place of a verdict: nothing was found out about it."""

FORMS = {
    "theoretical": "binary neurons that are their own concept",
    "experimental": "real neurons, labels corrupted at random",
    "semantic": "real neurons, classes for superclasses and back",
}
CELLS = ResultTable(
    ("metric", "form", "test"),
    {
        "verdict": Column(value=lambda own: verdict_texts(own["verdict"].values.ravel())),
        "ours": Column(".2f", "ours, %", "of draws or neurons in which the score falls"),
        "low": Column(".2f", "low, %", "lower end of its 95 % interval"),
        "high": Column(".2f", "high, %", "upper end of its 95 % interval"),
        "published": Column(".2f", "published, %", "the same in the paper"),
        "apart": Column("+.2f", "ours − published", "in percentage points"),
        "change": Column("+.3f", "mean change", "of the score, in units of the metric's range"),
        "undefined": Column(
            ".1%", "undefined", "fraction of scores on corrupted labels; they count as 0"
        ),
        "reason": Column("", "why they differ", "empty where they agree within sampling"),
    },
)
FREQUENCIES = ResultTable(
    ("metric", "test", "frequency"),
    {
        "frequency": Column(
            ".2%", "active inputs", "fraction of inputs at which the neuron is active"
        ),
        "decrease_rate": Column(".1%", "rate", "fraction of draws in which the score falls"),
        "score_change": Column("+.3f", "mean change", "in units of the metric's range"),
        "undefined_share": Column(
            ".1%", "undefined", "fraction of undefined scores, which count as 0"
        ),
    },
)
METRIC_COLUMNS = {
    "meaning": Column(header="what it is"),
    "bounds": Column(help="smallest and largest possible value"),
    "needs": Column(help="parameters that the value depends on"),
    "partner": Column(help="the same with neuron and concept exchanged, on binary data"),
}


def sanity_choices(datasets: view.Datasets) -> list[view.Choice]:
    """Return that one metric may be looked at in detail."""
    meaning = "One metric in detail: every test, by frequency and by seed."
    metrics = view.options_of(datasets, "metric")
    return [view.Choice("metric", "One metric in detail", metrics, meaning, optional=True)]


# -- all metrics of a setting -----------------------------------------------------------------


def matrix(settings: Sequence[view.Setting]) -> Iterator[Figure]:
    """Yield the verdict on every metric: test by test of one setting, or setting by setting."""
    if len(settings) > 1:
        frame = pd.concat([_of_setting(at) for at in settings], ignore_index=True)
        note = "A metric passes if it passes every decisive test."
    else:
        frame = verdict_cells(_by_verdict(settings[0].own))
        note = (
            "In cells: in how many of 100 draws or neurons the score falls, as it must. A metric "
            "passes if it passes both tests in the theoretical and, where run, the experimental "
            "form."
        )
    chart = signs(frame, looks=VERDICTS)
    yield Figure("sanity-matrix", chart, "Verdicts on every metric", note, least_width=680)


def _of_setting(at: view.Setting) -> pd.DataFrame:
    own = _by_verdict(at.own)
    verdicts = view.texts(own, "passed")
    frame = pd.DataFrame({"y": view.texts(own, "metric"), "x": at.cell, "state": verdicts})
    return frame.assign(text=passed_texts(own))


def verdict_cells(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per metric and test that was run, after the verdict on all of them.

    Returns
    -------
    pd.DataFrame
        ``y`` (metric), ``x`` (``verdict``, or form and test), ``state`` (a key of `VERDICTS`) and
        ``text``, which the cell says.
    """
    metrics, verdicts = view.texts(own, "metric"), view.texts(own, "passed")
    columns = {"verdict": (verdicts, passed_texts(own))}
    for form in forms_run(own):
        for test in view.texts(own, "test"):
            at = own[["decrease_accuracy", "verdict"]].sel(form=form, test=test)
            states = [v if v in VERDICTS else NOT_RUN for v in view.texts(at, "verdict")]
            values = at["decrease_accuracy"].values.tolist()
            texts = [
                MISSING if np.isnan(value) else f"{VERDICTS[state][0]} {100 * value:.0f}"
                for state, value in zip(states, values, strict=True)
            ]
            columns[f"{form}, {test}"] = states, texts
    frames = [
        pd.DataFrame({"y": metrics, "x": name, "state": states, "text": texts})
        for name, (states, texts) in columns.items()
    ]
    return pd.concat(frames, ignore_index=True)


def above(settings: Sequence[view.Setting]) -> Iterator[Part]:
    """Yield one metric in detail, where a reader asks for it."""
    for at in settings if settings[0].chosen["metric"] else ():
        if at.has("metric"):
            yield from _detail(at, at.chosen["metric"])


def compared(settings: Sequence[view.Setting]) -> Iterator[Table]:
    """Yield verdicts of several settings side by side."""
    frames = {
        at.cell: pd.Series(passed_texts(at.own), view.texts(at.own, "metric")) for at in settings
    }
    metrics = view.options_of({at.cell: at.own for at in settings}, "metric")
    frame = pd.DataFrame(frames).reindex(metrics).fillna(VERDICTS[NOT_RUN])
    rank = {text: index for index, text in enumerate([*VERDICTS.values(), NO_VERDICT])}
    first = frame.columns[0]
    frame = frame.sort_values(first, key=lambda column: column.map(rank), kind="stable")
    frame = frame.rename_axis("metric").reset_index()
    title = "Verdicts, setting by setting"
    yield Table("sanity-compared", frame, title)


def blocks(at: view.Setting) -> Iterator[Part]:
    """Yield what became of metrics in their tests, and why ours differ from the published."""
    own = _by_verdict(at.own)
    at = replace(at, own=own)
    yield Note(f"{_forms_text(own)} Variant: {own['variant'].item()}.")
    yield from view.seen_notes(own)
    yield at.table(
        "verdicts",
        verdict_frame(own),
        "Verdicts",
        note="Percentage of draws or neurons in which the score fell; in parentheses, the paper's. "
        f"✓: at least {_percent(own['required'])}, ✗: fewer, ?: within sampling error. "
        "A metric passes if it passes both tests in the theoretical and, "
        "where run, the experimental form. –: not run, or the metric failed itself; the semantic "
        "form needs neurons of classes for extra labels, and of their superclasses for missing "
        "ones.",
        in_sight=40,
    )
    for form in forms_run(own):
        yield _accuracies(at, form)
    yield from _by_frequency(at)
    note = "Intervals: 95 %, over draws or neurons (Wilson)."
    yield at.table("tests", cell_frame(own), "Every test", note=note, columns=CELLS.columns)
    yield from reasons(own)


def _by_verdict(own: xr.Dataset) -> xr.Dataset:
    """Return a dataset with its metrics in the order of their verdicts: what passes comes first."""
    rank = {verdict: index for index, verdict in enumerate(VERDICTS)}
    ranks = [rank.get(verdict, len(rank)) for verdict in view.texts(own, "passed")]
    return own.isel(metric=np.argsort(ranks, kind="stable"))


def verdict_texts(verdicts: Iterable[object]) -> list[str]:
    """Return verdicts with their signs."""
    return [VERDICTS.get(str(verdict), str(verdict)) for verdict in verdicts]


def passed_texts(own: xr.Dataset) -> list[str]:
    """Return the verdict on each metric (metric,) with its sign; none on one that failed itself."""
    failed = faulty_names(own.attrs)
    told = zip(view.texts(own, "metric"), verdict_texts(view.texts(own, "passed")), strict=True)
    return [NO_VERDICT if metric in failed else text for metric, text in told]


def forms_run(own: xr.Dataset) -> list[str]:
    """Return the forms of the tests that were run."""
    accuracy = own["decrease_accuracy"]
    return [f for f in view.texts(own, "form") if accuracy.sel(form=f).notnull().any()]


def _forms_text(own: xr.Dataset) -> str:
    forms = []
    for form in forms_run(own):
        counts = sorted({int(n) for n in own["n_neurons"].sel(form=form).values if n})
        on = f" ({' and '.join(map(str, counts))} tested)" if counts else ""
        forms.append(f"{form.capitalize()}: {FORMS.get(form, form)}{on}.")
    absent = [f for f in view.texts(own, "form") if f not in forms_run(own)]
    return " ".join([*forms, *(f"{form.capitalize()}: not run here." for form in absent)])


def _percent(share: xr.DataArray | float) -> str:
    return f"{100 * float(share):g} %"


def verdict_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per metric: its verdict, and for each form and test ours (published), in %."""
    columns = {
        "metric": view.texts(own, "metric"),
        "verdict": passed_texts(own),
    }
    names = ["decrease_accuracy", "published", "verdict"]
    for form in forms_run(own):
        for test in view.texts(own, "test"):
            at = own[names].sel(form=form, test=test)
            values = zip(*(at[name].values.tolist() for name in names), strict=True)
            columns[f"{form}, {test}"] = [_accuracy_text(*held) for held in values]
    return pd.DataFrame(columns)


def _accuracy_text(accuracy: float, published: float, verdict: str) -> str:
    if np.isnan(accuracy):
        return MISSING
    sign = VERDICTS.get(verdict, " ")[0]
    beside = "" if np.isnan(published) else f" ({100 * published:.1f})"
    return f"{sign} {100 * accuracy:.1f}{beside}"


def cell_frame(own: xr.Dataset) -> pd.DataFrame:
    """Return a row per metric, form and test that was run, with all that is known of it."""
    accuracy = "decrease_accuracy"
    names = {accuracy: "ours", f"{accuracy}_low": "low", f"{accuracy}_high": "high"}
    parts = own[["verdict", "mean_change", "undefined", "difference"]]
    parts = parts.rename(mean_change="change", difference="reason")
    parts = parts.merge(100 * own[[*names, "published"]].rename(names))
    frame = frame_of(CELLS, parts.assign(apart=parts["ours"] - parts["published"]))
    return frame[frame["ours"].notna()].reset_index(drop=True)


def _accuracies(at: view.Setting, form: str) -> Figure:
    own = at.own
    frame = cell_frame(own.sel(form=[form]))
    shown = frame.rename(columns={"metric": "label", "ours": "value", "published": "mark"})
    shown["series"] = frame["test"] + " labels"
    chart = dots(
        shown,
        x_title="scores that fall (%)",
        domain=(0, 100),
        form=".1f",
        series=[f"{test} labels" for test in view.texts(own, "test")],
        mark="published",
        rule=("required", 100 * float(own["required"])),
    )
    note = "Grey ticks: published. Dashed: the required fraction. Grey bars: intervals"
    note += "." if form == THEORETICAL else ", which are wide where few neurons were tested."
    return at.figure(form, chart, f"{form.capitalize()}: {FORMS[form]}", note)


# -- by frequency -----------------------------------------------------------------------------


def _by_frequency(at: view.Setting) -> Iterator[Part]:
    frame = frame_of(FREQUENCIES, at.own)
    if frame["decrease_rate"].isna().all():
        return
    shown = frame.assign(
        y=frame["metric"],
        x=[f"{t}, {100 * f:g} %" for t, f in zip(frame["test"], frame["frequency"], strict=True)],
    )
    largest = float(frame["score_change"].abs().max()) or 1.0
    title = "corrupted labels, active inputs"
    rates = heat(
        shown.assign(value=100 * frame["decrease_rate"]),
        value_title="scores that fall (%)",
        domain=(0, 100),
        x_title=title,
        form=".0f",
    )
    changes = heat(
        shown.assign(value=frame["score_change"]),
        value_title="mean change (fraction of range)",
        domain=(-largest, largest),
        x_title=title,
        form="+.3f",
        is_signed=True,
    )
    note = "A metric may fail on rare concepts, or on frequent ones."
    yield at.figure("rates", rates, "Theoretical: by frequency of the concept", note)
    note = "Drops are negative; drops below epsilon are ignored."
    yield at.figure("changes", changes, "Theoretical: how far scores move", note)
    yield at.table("frequencies", frame, "By frequency", columns=FREQUENCIES.columns)


# -- why ours differ --------------------------------------------------------------------------


def reasons(own: xr.Dataset) -> list[Part]:
    """Return each reason of a difference once, with the tests that it explains."""
    tests: dict[str, list[str]] = {}
    cells = cell_frame(own)
    for row in cells[cells["reason"] != ""].to_dict("records"):
        is_own = row["form"] == THEORETICAL  # of other forms all tests have one reason
        where = f"{row['metric']} ({row['test']})" if is_own else str(row["form"])
        tests.setdefault(str(row["reason"]), []).append(where)
    notes = [
        Note(f"{', '.join(dict.fromkeys(where))}: {reason}.") for reason, where in tests.items()
    ]
    return [Heading("Why ours differ from the published"), *notes] if notes else []


# -- one metric -------------------------------------------------------------------------------


def _detail(at: view.Setting, metric: str) -> Iterator[Part]:
    own = at.own.sel(metric=[metric])
    yield Heading(f"{metric}: {passed_texts(own)[0]} ({at.cell})")
    if (known := list_metrics().get(metric)) is not None:
        yield Note(plain(known.description or known.title))
    yield at.table(f"{metric} tests", cell_frame(own), "Its tests", columns=CELLS.columns)
    frame = frame_of(FREQUENCIES, own).rename(columns={"test": "series"})
    if frame["decrease_rate"].notna().any():
        yield from _curves(at, metric, frame.assign(rate=100 * frame["decrease_rate"]))
    if "seed_accuracy" in own:
        seeds = own["seed_accuracy"].to_series().rename("accuracy").dropna().reset_index()
        columns = {"accuracy": Column(".1%", "scores that fall", "fraction of neurons")}
        seeds = seeds[["metric", "form", "test", "seed", "accuracy"]]
        if len(seeds):
            yield at.table(f"{metric} seeds", seeds, "Seed by seed", columns=columns)


def _curves(at: view.Setting, metric: str, frame: pd.DataFrame) -> Iterator[Figure]:
    drawn = {
        "rate": ("scores that fall (%)", (0.0, 100.0), "Scores that fall, by frequency"),
        "score_change": ("mean change (fraction of range)", None, "Score change, by frequency"),
    }
    for name, (y_title, domain, title) in drawn.items():
        chart = lines(
            frame,
            x="frequency",
            y=name,
            x_title="fraction of active inputs",
            y_title=y_title,
            series=view.texts(at.own, "test"),
            x_log=True,
            domain=domain,
        )
        yield at.figure(f"{metric} {name}", chart, title)


# -- the table of metrics ---------------------------------------------------------------------


def below(settings: Sequence[view.Setting]) -> Iterator[Part]:
    """Yield the table of all registered metrics."""
    yield Heading("The table of metrics")
    yield Table(
        "metrics",
        metric_frame({at.cell: at.own for at in settings}),
        note="Every registered metric: built in, of installed packages, and the project's own.",
        columns=METRIC_COLUMNS,
    )


def metric_frame(datasets: view.Datasets) -> pd.DataFrame:
    """Return a row per registered metric, and per tested one that is registered no more."""
    table = list_metrics()
    tested = view.options_of(datasets, "metric")
    return pd.DataFrame(
        [_metric_row(name, table.get(name), datasets) for name in dict.fromkeys([*table, *tested])],
        columns=["metric", "verdict", "meaning", "bounds", "needs", "family", "partner", "source"],
    )


def plain(text: str) -> str:
    """Return the text of a docstring on one line, without the marks of its formulas."""
    return " ".join(text.replace("`", "").split())


def _metric_row(name: str, row: Metric | None, datasets: view.Datasets) -> dict[str, str]:
    verdicts = [
        passed_texts(own.sel(metric=[name]))[0]
        for own in datasets.values()
        if name in view.texts(own, "metric")
    ]
    columns = {"metric": name, "verdict": " / ".join(verdicts) or VERDICTS[NOT_RUN]}
    if row is None:
        return columns | {"meaning": "not registered here"}
    return columns | {
        "meaning": plain(row.title),
        "bounds": bounds_of(row),
        "needs": ", ".join(row.needs),
        "family": row.family,
        "partner": row.partner or "",
        "source": row.source,
    }


VIEW = view.ResultView(
    *MENU["sanity"],
    "Can a metric be trusted? Half of the labels of a ground-truth concept are removed (missing), "
    "or as many added again (extra): its score must fall, in at least 90 % of the draws or "
    "neurons. A metric that does not notice says little about an explanation (Oikarinen et al., "
    "ICML 2025, arXiv 2506.05774, section 4).",
    blocks,
    lambda at: answers.sanity(at.own),
    matrix,
    (
        view.Headline("✓ pass", "n_passing", ",", "metrics that pass every decisive test"),
        view.Headline("? undecided", "n_undecided", ",", "metrics within sampling error"),
        view.Headline("✗ fail", "n_failing", ",", "metrics that fail one"),
        view.Headline(
            "required",
            lambda own: _percent(own["required"]),
            meaning="of draws or neurons in which the score must fall",
        ),
        view.Headline(
            "epsilon",
            "epsilon",
            "g",
            "drops below this are ignored, as a fraction of the metric's range",
        ),
        view.Headline("draws", "n_draws", ",", "theoretical form: at each frequency"),
    ),
    sanity_choices,
    above,
    compared,
    below=below,
)
