"""Published cells are equal, explained by computing them again, or open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from evals import compare_published, schemas
from evals.sanity.published_accuracy import PUBLISHED, TESTED_NEURONS
from evals.sanity.published_tables import CAUSE, cells_of, compare_cells
from fact.data.printed_table import PrintedTable
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


def settings_of(accuracy: np.ndarray, tested: tuple[int, ...]) -> dict[str, xr.Dataset]:
    """Sanity checks of settings by name: decrease accuracies (setting, metric, test)."""
    metrics, forms = ["recall", "auprc", "own"], ["theoretical", "experimental", "semantic"]
    published = np.full((3, 3, 2), np.nan)
    for row, metric in enumerate(metrics[:2]):
        published[row, 0] = np.array(PUBLISHED["theoretical"][metric]) / 100
        published[row, 1] = np.array(PUBLISHED["experimental"][metric]) / 100
    by_test = ("metric", "form", "test")
    found = {}
    for number, (own, count) in enumerate(zip(accuracy, tested, strict=True), 1):
        figures = np.full((3, 3, 2), np.nan)
        figures[:, 0], figures[:, 1] = 1.0, own
        found[f"s{number}"] = xr.Dataset(
            {
                "n_neurons": (("form", "test"), np.tile([[0], [count], [0]], 2)),
                "decrease_accuracy": (by_test, figures),
                "published": (by_test, published),
                "standard_error": (by_test, np.full((3, 3, 2), 0.01)),
            },
            {"form": forms, "metric": metrics, "test": ["missing", "extra"]},  # as in a file
        )
    return found


def test_the_mean_over_settings_is_held_against_the_published_mean():
    """By a plain sum: recall 98.66 and 0, auprc 95.61 and 99.46 are published (table 3)."""
    accuracy = np.random.default_rng(0).uniform(0.5, 1, (8, 3, 2))
    target = np.array([[0.9866, 0.25], [0.5, 0.9946], [0.7, 0.7]])
    accuracy[-1] = 8 * target - accuracy[:-1].sum(axis=0)
    settings = settings_of(accuracy, TESTED_NEURONS)
    again = settings_of(np.repeat([[[0.1, 0], [0.95612, 0.2], [1, 1]]], 8, 0), TESTED_NEURONS)
    compared = compare_cells(settings, again)
    rows = compared.to_dataframe()[["published", "ours", "theirs", "state"]]
    expected = {
        "recall, experimental, missing, mean": (0.9866, 0.9866, 0.1, "equal"),
        "recall, experimental, extra, mean": (0.0, 0.25, 0.0, "explained"),
        "auprc, experimental, missing, mean": (0.9561, 0.5, 0.95612, "explained"),
        "auprc, experimental, extra, mean": (0.9946, 0.9946, 0.2, "equal"),
    }
    assert rows.index.tolist() == list(expected)
    for cell, (*figures, state) in expected.items():
        assert rows.loc[cell, "state"] == state
        np.testing.assert_allclose(rows.loc[cell].iloc[:3].astype(float), figures, atol=1e-9)
    assert "other_data" not in compared.attrs
    fewer = compare_cells({name: settings[name] for name in ("s1", "s5")}, None)
    assert "1,330, 1,946, 347, 487, 107, 107, 475, 475 neurons (here 107, 1,330)" in (
        fewer.other_data
    )
    mean = accuracy[[0, 4], 0, 0].mean()
    assert fewer.ours.sel(cell="recall, experimental, missing, mean") == pytest.approx(mean)


def printed(folder: Path, text: str) -> PrintedTable:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return PrintedTable(str(path))


def test_a_printed_table_of_sanity_checks_is_in_per_cent(tmp_path):
    accuracy = np.array([[[0.5, 0.25], [0.9, 0.8], [1, 1]], [[0.7, 0.75], [0.8, 0.9], [1, 1]]])
    settings = settings_of(accuracy, (107, 475))
    text = """Metric, missing, extra, s2 missing, 1 extra
Recall, 60.00%, 50.00, 70, 25.01
AUPRC, 85, , 80.00, 80.00
"""
    compared = compare_cells(settings, None, printed=printed(tmp_path, text).load())
    assert dict(zip(compared.cell.values, compared.state.values, strict=True)) == {
        "recall, experimental, missing, mean": "equal",
        "recall, experimental, extra, mean": "equal",
        "auprc, experimental, missing, mean": "equal",
        "recall, experimental, extra, s1": "open",
        "auprc, experimental, extra, s1": "equal",
        "recall, experimental, missing, s2": "equal",
        "auprc, experimental, missing, s2": "equal",
    }
    assert compared.published.sel(cell="recall, experimental, extra, s1") == 0.2501


def test_settings_of_known_neurons_have_their_own_published_figures_and_a_printed_mean(tmp_path):
    settings = {
        "known-1": identification([0.5, 0.6, 0.7, 0.8]).assign(published=("metric", [np.nan] * 4)),
        "known-7": identification([0.3953, 0.65, 0.71, 0.4]).assign_attrs(other_data="are others"),
    }
    compared = compare_cells(settings, None)
    assert compared.cell.values.tolist() == [f"{name}, known-7" for name in METRICS[:3]]
    assert compared.other_data == "are others"
    table = printed(tmp_path, "metric,mean,known-1\nrecall,0.4477,0.5\nIoU,0.6,0.61\n").load()
    again = compare_cells(settings, settings, printed=table)
    assert dict(zip(again.cell.values, again.state.values, strict=True)) == {
        "recall, mean": "equal",  # (0.5 + 0.3953) / 2 is 0.44765
        "iou, mean": "open",
        "recall, known-1": "equal",
        "iou, known-1": "open",
    }
    assert "other_data" not in again.attrs
    with pytest.raises(ValueError, match="ours has 2 settings, theirs 1"):
        compare_cells(settings, settings["known-7"])
    with pytest.raises(ValueError, match="results of one stage"):
        compare_cells({**settings, "s1": sanity([1, 1, 1], [1, 1, 1], 0)}, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metric,known-2\nrecall,0.5\n", "a column 'known-2'; .*did you mean 'known-7'"),
        ("metric,3\nrecall,0.5\n", "a column '3'; expected 'mean', the name of a setting or"),
        ("metric,mean\nrecal,0.5\n", "'recal'; did you mean 'recall'"),
        ("metric,mean\n", "expected a row of columns and rows of cells"),
        ("", "expected a row of columns and rows of cells"),
        ("metric,mean\nrecall,high\n", "recall, column 1: expected a number; got 'high'"),
        ("metric,mean,mean\nrecall,1,1\n", "column 'mean' stands twice"),
        ("metric,mean\nrecall,1\nrecall,1\n", "row 'recall' stands twice"),
        ("metric,known-1\nrecall,\n", "no published figures"),
    ],
)
def test_a_printed_table_that_cannot_be_read_is_told(tmp_path, text, message):
    settings = {name: identification([0.5, 0.6, 0.7, 0.8]) for name in ("known-1", "known-7")}
    with pytest.raises((ValueError, LookupError), match=message):
        compare_cells(settings, None, printed=printed(tmp_path, text).load())


def test_what_was_declared_otherwise_is_the_cause(tmp_path):
    ours, theirs = identification([0.5, 0.65, 0.71, 0.4]), identification([0.3953, 0.6, 0.7, 0.4])
    neurons, others = (FakeInput(tmp_path, own, fingerprint=own) for own in ("neurons", "others"))
    config = {"compat": "", "n_splits": 10, "share": 0.05}
    inputs = {
        "ours": FakeInput.of(
            ours, tmp_path / "a.nc", name="known", config=config, inputs={"activations": neurons}
        ),
        "theirs": FakeInput.of(
            theirs,
            tmp_path / "b.nc",
            name="again",
            config=config | {"compat": "neuroneval", "n_splits": 1},
            inputs={"activations": others},
        ),
    }
    run = FakeRun(tmp_path, schemas.COMPARISON)
    compared = compare_published.stage(compare_published.Config(), inputs, run)
    cause = "compat = neuroneval, n_splits = 1, activations = others"
    assert compared.cause.values.tolist() == [cause, "", ""]
