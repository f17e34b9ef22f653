"""Tables of results, their columns declared once."""

from __future__ import annotations

import numpy as np
import xarray as xr

from registry.columns import Column, ResultTable, most_common

TABLE = ResultTable(
    "metric",
    {
        "auprc": Column(".2f", "AUPRC"),
        "alpha": Column(value=lambda own: [most_common(v) for v in own["alpha"].values]),
        "lacking": Column(),
        "silent": Column(".1f"),
    },
    sort_by="auprc",
)
FOUND = xr.Dataset(
    {
        "auprc": ("metric", [0.5, np.nan, 0.75]),
        "alpha": (("metric", "seed"), [[0.1, 0.2], [np.nan, np.nan], [0.2, 0.2]]),
        "silent": ("metric", [np.nan] * 3),
    },
    {"metric": ["iou", "mad", "auc"]},
)


def test_the_best_row_comes_first_and_columns_that_say_nothing_are_left_out():
    assert TABLE.text(FOUND).splitlines() == [
        "metric  AUPRC  alpha",
        "auc      0.75    0.2",
        "iou      0.50    0.1",
        "mad",
    ]
    assert len(TABLE.text(FOUND, most=1).splitlines()) == 2


def test_values_are_numbers_as_they_are_by_key():
    values = TABLE.values(FOUND)
    assert list(values) == ["metric", "auprc", "alpha"]
    np.testing.assert_array_equal(values["auprc"], [0.75, 0.5, np.nan])
