"""The forms of the sanity check together: theoretical, experimental, semantic."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

import numpy as np
import xarray as xr

import registry
from evals.sanity.config import SanityConfig
from evals.sanity.experimental import experimental_sanity
from evals.sanity.protocol import DECISIVE, FORMS, TESTS, THEORETICAL, judge_together
from evals.sanity.theoretical import theoretical_sanity
from evals.scoring.labelled import pair_datasets
from registry.terminal import text_table

BY_FORM = (
    "decrease_accuracy",
    "decrease_accuracy_low",
    "decrease_accuracy_high",
    "standard_error",
    "mean_change",
    "undefined",
    "verdict",
    "published",
    "difference",
)


def combine_forms(theoretical: xr.Dataset, real: xr.Dataset | None = None) -> xr.Dataset:
    """Put the forms of the tests together, and say what follows for each metric.

    Parameters
    ----------
    theoretical : Dataset
        Of `theoretical_sanity`.
    real : Dataset, optional
        Of `experimental_sanity`, of the same metrics.

    Returns
    -------
    xr.Dataset
        (metric, form, test) all that is known of each form, NaN and "" where it was not run;
        (metric, test, frequency) what is theoretical; ``passed`` (metric,): "passes" where both
        tests are passed in the theoretical and the experimental form, as far as these were run;
        "fails" where one is failed, "undecided" otherwise. The semantic form has no part in it.
    """
    first = theoretical.drop_dims("frequency").assign(
        mean_change=theoretical["score_change"].mean("frequency"),
        undefined=theoretical["undefined_share"].mean("frequency"),
    )
    forms = [first.expand_dims(form=[THEORETICAL]), *([] if real is None else [real])]
    whole = xr.Dataset({name: _join_forms(name, forms) for name in BY_FORM})
    whole = whole.merge(theoretical[["score_change", "decrease_rate", "undefined_share"]])
    decisive = whole["verdict"].sel(form=list(DECISIVE))
    verdicts = [judge_together(held.ravel().tolist()) for held in decisive.values]
    whole = whole.assign(passed=("metric", np.array(verdicts, dtype=str)))
    if real is None:
        return whole.assign(n_neurons=(("form", "test"), np.zeros((len(FORMS), len(TESTS)), int)))
    return whole.assign(
        n_neurons=real["n_neurons"].reindex(form=list(FORMS), fill_value=0),
        seed_accuracy=real["seed_accuracy"].reindex(form=list(FORMS)),
        alpha=real["alpha"],
        lam=real["lam"],
    )


def _join_forms(name: str, forms: Sequence[xr.Dataset]) -> xr.DataArray:
    """Return a variable in all forms (metric, form, test), NaN or "" where one was not run."""
    joined = xr.concat([held[name] for held in forms], "form")
    missing = "" if joined.dtype.kind in "UO" else np.nan
    full = joined.reindex(form=list(FORMS), fill_value=missing)
    return full.astype(str if missing == "" else np.float64).transpose("metric", "form", "test")


def check_metrics(config: SanityConfig, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    """Test metrics in every form that the inputs allow."""
    given = [slot for slot in ("activations", "labels") if slot in inputs]
    if len(given) == 1:
        raise ValueError(f"metrics are tested on activations and labels; got {given[0]} alone")
    theoretical = theoretical_sanity(
        config.metrics,
        frequencies=config.frequencies,
        n_inputs=config.n_inputs,
        n_draws=config.n_draws,
        simulated_draws=config.simulated_draws,
        rates=config.rates,
        criterion=config.criterion,
        seed=config.seed,
        compat=config.compat,
        progress=partial(run.progress, what="metrics"),
    )
    real = _test_on_data(config, inputs, run) if "labels" in inputs else None
    tested = _summarise(config, combine_forms(theoretical, real), real)
    sys.stdout.write(sanity_table(tested))
    return tested


def _test_on_data(config: SanityConfig, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    """Return what became of the metrics on real neurons."""
    activations, labels = inputs["activations"].open(), inputs["labels"].open()
    return experimental_sanity(
        *pair_datasets(activations, labels, config.variable, config.split),
        config.metrics,
        activations.get("right_concept"),
        rates=config.rates,
        criterion=config.criterion,
        seeds=config.seeds,
        options=config,
        progress=partial(run.progress, what="neurons"),
    )


def _summarise(config: SanityConfig, tested: xr.Dataset, real: xr.Dataset | None) -> xr.Dataset:
    """Add what is said of all metrics together."""
    passed = tested["passed"].values.tolist()
    known = "none" if real is None else real.attrs["right_concepts"]
    return tested.assign(
        n_passing=passed.count("passes"),
        n_failing=passed.count("fails"),
        n_undecided=passed.count("undecided"),
        epsilon=config.epsilon,
        required=config.required,
        n_draws=config.n_draws,
        variant=(
            f"kept {config.kept_share:g}, extra {config.extra_factor:g}; "
            f"ground-truth concepts: {known}; ties: {config.compat or 'midranks'}"
        ),
    )


ORDER = ("passes", "undecided", "fails", "")


def sanity_table(tested: xr.Dataset) -> str:
    """Return one line for each metric, those that pass first, then why cells differ.

    Parameters
    ----------
    tested : Dataset
        Of the schema ``sanity``.

    Returns
    -------
    str
        Columns: metric, its verdict, then for each form that was run and each test the decrease
        accuracy in per cent, with ``?`` where sampling decides, and the published one in
        parentheses. A note for each theoretical cell that differs from the published one.
    """
    accuracy = tested["decrease_accuracy"]
    forms = tested["form"].values[accuracy.notnull().any(["metric", "test"])].tolist()
    columns = [(form, test) for form in forms for test in tested["test"].values.tolist()]
    metrics = tested["metric"].values.tolist()
    verdicts = tested["passed"].values.tolist()
    cells = {key: _cells(tested.sel(form=key[0], test=key[1])) for key in columns}
    rows = [
        [metrics[row], verdicts[row], *(held[row] for held in cells.values())]
        for row in sorted(range(len(metrics)), key=lambda row: ORDER.index(verdicts[row]))
    ]
    tests = ["metric", "verdict", *(test for _, test in columns)]
    table = text_table(["", "", *(form for form, _ in columns)], [tests, *rows], 2)
    return table + "".join(f"{line}\n" for line in [*_remarks(tested, forms), *_notes(tested)])


def _cells(cell: xr.Dataset) -> list[str]:
    columns = (cell[name].values.tolist() for name in ("decrease_accuracy", "published", "verdict"))
    return [_cell(*held) for held in zip(*columns, strict=True)]


def _cell(accuracy: float, published: float, verdict: str) -> str:
    if np.isnan(accuracy):
        return ""
    doubt = "?" if verdict == "undecided" else ""
    beside = "" if np.isnan(published) else f" ({100 * published:.2f})"
    return f"{doubt}{100 * accuracy:.2f}{beside}"


def _remarks(tested: xr.Dataset, forms: list[str]) -> list[str]:
    lines = [
        f"Scores fell in so many per cent of the draws or neurons (published in parentheses); "
        f"{100 * float(tested['required']):g} are required; ? where sampling decides."
    ]
    for form in forms:
        if counts := [n for n in tested["n_neurons"].sel(form=form).values.tolist() if n]:
            lines.append(f"{form}: on {' and '.join(map(str, sorted(set(counts))))} neurons.")
    return lines


def _notes(tested: xr.Dataset) -> list[str]:
    """Return why theoretical cells differ from the published ones, each reason once."""
    reasons: dict[str, list[str]] = {}
    theoretical = tested["difference"].sel(form="theoretical")
    for metric in theoretical["metric"].values.tolist():
        for test in theoretical["test"].values.tolist():
            if reason := theoretical.sel(metric=metric, test=test).item():
                reasons.setdefault(reason, []).append(f"{metric} ({test})")
    return [f"{', '.join(cells)}: {reason}." for reason, cells in reasons.items()]
