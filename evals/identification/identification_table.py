"""What was found of known neurons, as a table of text."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import xarray as xr

from evals.identification.config import OTHER_DATA
from evals.metrics.tolerance import faults_text
from evals.scoring.seen_images import seen_line
from registry.columns import Column, ResultTable, most_common
from registry.wording import counted


def _chosen(name: str) -> Callable[[xr.Dataset], list[str]]:
    """Return what most splits chose, and how many did, where it is not all of them."""
    return lambda found: [
        most_common(own, counted=True) for own in found[name].transpose("metric", ...).values
    ]


BY_METRIC = ResultTable(
    "metric",
    {
        "auprc": Column(".3f", "AUPRC", "mean over splits, of the tested neurons; 1 at best"),
        "low": Column(".3f", "", "lower end of the t interval of the mean", "auprc_low"),
        "high": Column(".3f", "", "upper end of the t interval of the mean", "auprc_high"),
        "published": Column(".3f"),
        "mean_rank": Column(".1f", "mean rank", "among the metrics by AUPRC, mean over splits"),
        "top_share": Column(
            ".1%", "top 1", "fraction of tested neurons whose best concept is the ground truth"
        ),
        "alpha": Column(
            "", "", "fraction of active inputs that most splits chose", _chosen("alpha")
        ),
        "lam": Column("", "lambda", "weight of how common a concept is, likewise", _chosen("lam")),
        "undefined_share": Column(
            ".1%", "undefined", "fraction of undefined pairs of tested neurons"
        ),
    },
    sort_by="auprc",
)
"""A row for each metric, the best first; of schema ``identification``."""


def other_data_text(attributes: Mapping[str, object]) -> str:
    """Return a line on published figures of other data, by a dataset's attributes; "" for none."""
    told = str(attributes.get(OTHER_DATA, ""))
    return f"{told}\n" if told else ""


def identification_table(found: xr.Dataset) -> str:
    """Return a line on what was tested, then `BY_METRIC`, of schema ``identification``."""
    n_neurons, n_choosing = int(found["n_neurons"]), int(found["n_choosing"])
    return (
        (
            f"{counted(n_neurons, 'neuron')} of known concept among "
            f"{counted(int(found['n_concepts']), 'label')}, on "
            f"{counted(int(found['n_inputs']), 'input')}; {counted(found.sizes['seed'], 'split')}: "
            f"{n_choosing} choose, "
            f"{n_neurons - n_choosing} are tested\n"
        )
        + BY_METRIC.text(found)
        + faults_text(found.attrs)
        + other_data_text(found.attrs)
        + seen_line(found)
    )
