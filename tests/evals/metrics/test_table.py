"""The table of metrics: one decorated function is one row, everywhere."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import evals
from evals.kernels.statistics import divide
from evals.metrics import table
from tests.evals import data


@pytest.fixture
def clean_table(monkeypatch):
    monkeypatch.setattr(table, "_TABLE", dict(evals.list_metrics()))


def test_rows_are_complete():
    for name in data.BUILT_IN:
        row = evals.find_metric(name)
        assert row.name == name
        assert row.family in table.FAMILIES
        assert row.title
        assert "ndefined" in row.description, "when is it?"
        assert row.source
        assert row.partner is None or row.partner in evals.list_metrics()
        assert row.bounds is None or row.bounds[0] < row.bounds[1]


def test_partners_are_mutual():
    rows = evals.list_metrics()
    for name, row in rows.items():
        assert row.partner is None or rows[row.partner].partner == name


def test_unknown_names_say_the_nearest():
    with pytest.raises(evals.UnknownMetricError, match="unknown metric 'aurpc'; did you mean 'aup"):
        evals.find_metric("aurpc")


@pytest.mark.usefixtures("clean_table")
def test_a_strangers_metric_is_one_function():
    @evals.metric("mean_on_label", source="here")
    def mean_on_label(activations, labels):
        """Mean activation on labelled inputs. More words."""
        return divide(activations.T @ labels, labels.sum(axis=0))

    @evals.metric("overlap", bounds=(0, 1), family="contingency", needs=("alpha",))
    def overlap(counts):
        return divide(counts.both, np.minimum(counts.active, counts.labelled))

    ids = [f"test/{i}" for i in range(160)]
    neurons = xr.DataArray(data.activations(), dims=("input", "neuron"), coords={"input": ids})
    labels = xr.DataArray(data.one_hot(), dims=("input", "concept"), coords={"input": ids})
    scores = evals.score("mean_on_label", neurons, labels)
    assert scores.attrs["long_name"] == "Mean activation on labelled inputs"
    assert scores.attrs["undefined"] == neurons.sizes["neuron"]  # the empty concept
    expected = data.activations()[data.one_hot()[:, 2], 0].mean()
    np.testing.assert_allclose(scores[0, 2], expected)
    together = evals.score_matrix(neurons, labels, ["overlap", "iou"], alphas=[0.1])
    is_defined = together.overlap.notnull()
    assert is_defined.any()
    assert (together.overlap >= together.iou).where(is_defined, True).all()
    assert "overlap" in evals.list_metrics()


@pytest.mark.usefixtures("clean_table")
def test_a_formula_returns_a_number_for_each_pair():
    evals.metric("transposed")(lambda activations, labels: labels.T @ activations)
    with pytest.raises(ValueError, match=r"'transposed' returned shape \(7, 16\); .*16, 7"):
        evals.find_metric("transposed")(data.activations(), data.one_hot())
    share = evals.metric("share")(lambda activations, labels: labels.mean(axis=0))
    with pytest.raises(ValueError, match=r"'share' returned shape \(7,\); .*16, 7"):
        share(data.activations(), data.one_hot())


@pytest.mark.usefixtures("clean_table")
def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match=r"'iou' is registered already, by evals\.metrics"):
        evals.metric("iou")(lambda activations, labels: None)


def test_a_wrong_row_says_what_is_wrong():
    with pytest.raises(ValueError, match="unknown family 'contingent'; did you mean 'contingency'"):
        evals.metric("x", family="contingent")
    with pytest.raises(ValueError, match="cannot be given 'alfa'; did you mean 'alpha'"):
        evals.metric("x", needs=("alfa",))
    with pytest.raises(ValueError, match="counts need"):
        evals.metric("x", family="contingency")


@pytest.mark.slow
def test_the_table_is_light():
    code = "import sys, evals; evals.find_metric('iou'); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "xarray", "numba", "scipy", "sacred", "pymongo"} & set(loaded)
