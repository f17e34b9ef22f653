"""Published cells are equal, explained by computing them again, or open."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from evals import compare_published, schemas
from evals.sanity.published_tables import CAUSE, cells_of, compare_cells
from tests.evals.runs import FakeInput, FakeRun

METRICS = ["recall", "iou", "auc", "own"]


def identification(auprc: list[float]) -> xr.Dataset:
    """AUPRC of four metrics, of which three are published."""
    return xr.Dataset(
        {
            "auprc": ("metric", auprc),
            "published": ("metric", [0.3953, 0.6378, 0.7045, np.nan]),
            "split_auprc": (("metric", "seed"), np.array(auprc)[:, None]),
        },
        {"metric": METRICS, "seed": [0], "name": ("neuron", ["a"])},
    )


def sanity(theoretical: list[float], experimental: list[float], error: float) -> xr.Dataset:
    """Decrease accuracies (metric) of missing labels; nothing is published of the last metric."""
    accuracy = np.full((3, 3, 1), np.nan)
    accuracy[:, 0, 0], accuracy[:, 1, 0] = theoretical, experimental
    published = np.full((3, 3, 1), np.nan)
    published[:2, :2, 0] = [[0.672, 0.6405], [1.0, 0.9941]]
    by_test = ("metric", "form", "test")
    return xr.Dataset(
        {
            "decrease_accuracy": (by_test, accuracy),
            "published": (by_test, published),
            "standard_error": (by_test, np.full((3, 3, 1), error)),
        },
        {
            "metric": ["spearman_correlation", "correlation", "own"],
            "form": ["theoretical", "experimental", "semantic"],
            "test": ["missing"],
        },
    )


def test_cells_without_a_published_figure_are_left_out():
    assert cells_of(identification([0.1, 0.2, 0.3, 0.4])).index.tolist() == METRICS[:3]
    found = cells_of(sanity([1, 1, 1], [0.5, 0.5, 0.5], 0.01))
    assert found.index.tolist() == [
        "spearman_correlation, theoretical, missing",
        "spearman_correlation, experimental, missing",
        "correlation, theoretical, missing",
        "correlation, experimental, missing",
    ]
    assert found["error"].tolist() == [0.01, 0, 0.01, 0]
    with pytest.raises(ValueError, match="no published figures"):
        cells_of(identification([0.1, 0.2, 0.3, 0.4]).isel(metric=[3]))


def test_a_difference_is_explained_only_where_the_cause_gives_the_published_figure():
    ours = identification([0.39534, 0.65, 0.71, 0.4])
    theirs = identification([0.1, 0.63776, 0.7046, 0.4])
    compared = compare_cells(ours, theirs)
    assert compared.state.values.tolist() == ["equal", "explained", "open"]
    assert compared.cause.values.tolist() == ["", CAUSE, ""]
    assert (compared.n_equal, compared.n_explained, compared.n_open) == (1, 1, 1)
    np.testing.assert_allclose(compared.difference, [0.00004, 0.0122, 0.0055], atol=1e-12)
    alone = compare_cells(ours, None)
    assert alone.state.values.tolist() == ["equal", "open", "open"]
    assert alone.theirs.isnull().all()


def test_shares_of_draws_may_differ_by_chance_and_those_of_neurons_not():
    ours = sanity([0.675, 1, 1], [0.6435, 0.9941, 1], error=0.002)
    compared = compare_cells(ours, None)
    assert compared.state.values.tolist() == ["equal", "open", "equal", "equal"]
    assert compared.attrs["other_data"].startswith("experimental, published: mean over eight")
    theory = ours.where(ours.form == "theoretical")
    assert "other_data" not in compare_cells(theory, None).attrs
    strict = compare_cells(ours, None, errors=0.5)
    assert strict.state.values[0] == "open"
    rough = compare_cells(ours, None, digits=2)
    assert rough.state.values[1] == "equal"


def test_the_stage_tells_the_open_cells_last(tmp_path, capsys):
    ours = identification([0.39534, 0.65, 0.71, 0.4]).assign_attrs(other_data="are of other data")
    inputs = {
        "ours": FakeInput.of(ours, tmp_path / "ours.nc"),
        "theirs": FakeInput.of(identification([0.1, 0.6378, 0.71, 0.4]), tmp_path / "theirs.nc"),
    }
    run = FakeRun(tmp_path, schemas.COMPARISON)
    compared = compare_published.stage(compare_published.Config(), inputs, run)
    schemas.COMPARISON.check(compared)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == "are of other data"
    assert lines[-1] == "3 published cells: 1 equal, 1 explained, 1 open"
    assert [line.split()[0] for line in lines[1:-2]] == ["recall", "iou", "auc"]


def test_few_draws_of_ours_make_the_published_figure_no_vaguer():
    ours = sanity([1, 1, 1], [0.6405, 0.9941, 1], error=0.0)
    for share, state in ((0.76, "explained"), (0.79, "open")):  # 0.672 is published
        theirs = sanity([share, 1, 1], [0.6405, 0.9941, 1], error=0.05)
        assert compare_cells(ours, theirs).state.values[0] == state
