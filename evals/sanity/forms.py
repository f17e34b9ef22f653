"""The forms of the sanity check together: theoretical, experimental, semantic."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

import registry
from evals.metrics.tolerance import faults_text, faulty_names, joint_faults
from evals.sanity.config import SanityConfig
from evals.sanity.experimental import experimental_sanity
from evals.sanity.protocol import (
    DECISIVE,
    FORMS,
    NOT_RUN,
    TESTS,
    THEORETICAL,
    judge_together,
)
from evals.sanity.theoretical import theoretical_sanity
from evals.scoring.labelled import pair_datasets
from evals.scoring.seen_images import count_seen, seen_line
from registry.columns import Column, ResultTable
from registry.terminal import text_table


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
        "fails" where one is failed, "undecided" otherwise, "" for a metric that failed itself: its
        scores say nothing then. The semantic form has no part in it. ``faulty_metrics`` names it.
    """
    given = [theoretical, *([] if real is None else [real])]
    faults = joint_faults(given)
    per_frequency = theoretical[["score_change", "decrease_rate", "undefined_share"]]
    first = theoretical.drop_dims("frequency").drop_vars(["passed", "published_error", "required"])
    first = first.assign(
        mean_change=per_frequency["score_change"].mean("frequency"),
        undefined=per_frequency["undefined_share"].mean("frequency"),
    ).expand_dims(form=[THEORETICAL])
    forms = first if real is None else xr.concat([first, real[list(first)]], "form")
    texts = {name: "" for name, values in forms.items() if values.dtype.kind in "UO"}
    whole = forms.reindex(form=list(FORMS), fill_value=texts)
    whole = whole.transpose("metric", "form", "test")
    whole = whole.assign({name: whole[name].astype(str) for name in texts}).merge(per_frequency)
    decisive = whole["verdict"].sel(form=list(DECISIVE))
    verdicts = [judge_together(held.ravel().tolist()) for held in decisive.values]
    passed = xr.DataArray(np.array(verdicts, dtype=object), whole["metric"].coords)
    passed = passed.where(~whole["metric"].isin(list(faulty_names(faults))), NOT_RUN)
    whole = whole.assign(passed=passed.astype(str)).assign_attrs(faults)
    if real is None:
        return whole.assign(n_neurons=(("form", "test"), np.zeros((len(FORMS), len(TESTS)), int)))
    return whole.assign(
        n_neurons=real["n_neurons"].reindex(form=list(FORMS), fill_value=0),
        seed_accuracy=real["seed_accuracy"].reindex(form=list(FORMS)),
        alpha=real["alpha"],
        lam=real["lam"],
    )


def check_metrics(config: SanityConfig, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    """Test metrics in every form that the inputs allow."""
    given = [slot for slot in ("activations", "labels") if slot in inputs]
    if len(given) == 1:
        raise ValueError(f"metrics are tested on activations and labels; got {given[0]} alone")
    seen: Mapping[str, Any] = {}
    if given:  # is asked before the theoretical form, which may take minutes
        activations, labels = inputs["activations"].open(), inputs["labels"].open()
        pair = pair_datasets(activations, labels, config.variable, config.split, config.neurons)
        ids = pair[0]["input"].values
        seen = count_seen(inputs["activations"], ids, config.seen_images, "test metrics")
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
        drawing=config.drawing,
        progress=partial(run.progress, what="metrics"),
    )
    real: xr.Dataset | None = None
    if given:
        real = experimental_sanity(
            *pair,
            config.metrics,
            activations.get("right_concept"),
            rates=config.rates,
            criterion=config.criterion,
            seeds=config.seeds,
            options=config,
            progress=partial(run.progress, what="neurons"),
        )
    tested = _summarise(config, combine_forms(theoretical, real), real).assign(seen)
    sys.stdout.write(sanity_table(tested) + seen_line(tested))
    return tested


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
            + (
                f"; experimental: rules of {config.experimental_compat}"
                if config.experimental_compat
                else ""
            )
        ),
    )


BY_TEST = ResultTable(
    ("metric", "form", "test"),
    {
        "decrease_accuracy": Column(
            ".2%", help="of draws, or of neurons, in which the score falls"
        ),
        "published": Column(".2%", help="of real neurons the mean over the paper's settings"),
        "mean_change": Column("+.4f", help="of the score, in units of the metric's range"),
    },
)
"""A row for each metric, form and test, of schema ``sanity``."""

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
        Columns: metric, its verdict (``none`` where it failed itself), then for each form that was
        run and each test the decrease accuracy in per cent, with ``?`` where sampling decides, and
        the published one in parentheses. A note for each theoretical cell that differs from the
        published one.
    """
    accuracy = tested["decrease_accuracy"]
    forms = tested["form"].values[accuracy.notnull().any(["metric", "test"])].tolist()
    columns = [(form, test) for form in forms for test in tested["test"].values.tolist()]
    metrics = tested["metric"].values.tolist()
    verdicts = tested["passed"].values.tolist()
    rows = [
        [metric, verdict, *(_cell(tested.sel(metric=metric, form=f, test=t)) for f, t in columns)]
        for metric, verdict in zip(metrics, verdicts, strict=True)
    ]
    rows.sort(key=lambda row: ORDER.index(row[1]))
    rows = [[metric, verdict or "none", *held] for metric, verdict, *held in rows]
    tests = ["metric", "verdict", *(test for _, test in columns)]
    table = text_table(["", "", *(form for form, _ in columns)], [tests, *rows], 2)
    remarks = "".join(f"{line}\n" for line in [*_remarks(tested, forms), *_notes(tested)])
    return table + remarks + faults_text(tested.attrs)


def _cell(cell: xr.Dataset) -> str:
    accuracy, published = (100 * cell[name].item() for name in ("decrease_accuracy", "published"))
    if np.isnan(accuracy):
        return ""
    doubt = "?" if cell["verdict"].item() == "undecided" else ""
    return f"{doubt}{accuracy:.2f}" + ("" if np.isnan(published) else f" ({published:.2f})")


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
