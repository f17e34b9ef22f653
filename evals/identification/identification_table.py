"""What was found of known neurons, as a table of text."""

from __future__ import annotations

import xarray as xr

from registry.columns import ResultColumn, ResultTable, most_common

METRICS = ResultTable(
    "metric",
    {
        "auprc": ResultColumn(
            "AUPRC", "auprc", ".4f", "mean over splits, of the tested neurons; 1 at best"
        ),
        "low": ResultColumn("low", "auprc_low", ".4f"),
        "high": ResultColumn("high", "auprc_high", ".4f"),
        "mean_rank": ResultColumn("rank", "mean_rank", ".1f"),
        "top_share": ResultColumn("top", "top_share", ".0%"),
        "alpha": ResultColumn(
            "alpha",
            lambda found: [most_common(own) for own in found["alpha"].values],
            help="fraction of active inputs that most splits chose",
        ),
        "lam": ResultColumn(
            "lambda",
            lambda found: [most_common(own) for own in found["lam"].values],
            help="weight of how common a concept is, likewise",
        ),
        "undefined_share": ResultColumn("undefined", "undefined_share", ".1%"),
        "published": ResultColumn("published", "published", ".4f"),
    },
    sort_by="auprc",
)
"""A row for each metric, the best first; of schema ``identification``."""


def identification_table(found: xr.Dataset) -> str:
    """Return a line on what was tested, then `METRICS`, of schema ``identification``."""
    n_neurons, n_choosing = int(found["n_neurons"]), int(found["n_choosing"])
    return (
        f"{n_neurons} neurons of known concept among {int(found['n_concepts'])} labels, on "
        f"{int(found['n_inputs'])} inputs; {found.sizes['seed']} splits: {n_choosing} choose, "
        f"{n_neurons - n_choosing} are tested\n"
    ) + METRICS.text(found)
