"""Runs side by side: which are meant, what differs, what is best, and mean and deviation."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dashboards.views.runs import comparison as view
from dashboards.views.runs import one_run
from dashboards.views.runs.curves import Curve, curve
from dashboards.views.runs.runs import Row, row_of
from registry.catalog.runs import RunView, source_diff
from registry.declare.cells import Graph
from registry.store.parts import Part
from tests.dashboards import fabricate
from tests.dashboards.fabricate import HOSTILE

START = datetime(2026, 11, 22, tzinfo=UTC)
DECLARATION = """
[experiments.sae]
stage = "tests.dashboards.toy.train"
matrix = { k = [4, 8, 16], seed = [0, 1, 2] }

[experiments.concepts]
stage = "tests.dashboards.toy.measure"
needs = { sae = "sae" }

[suites]
all = ["sae", "concepts"]
"""


def row(
    number: int,
    cell: str = "x",
    status: str = "COMPLETED",
    config: dict[str, Any] | None = None,
    result: dict[str, Any] | None = None,
    **told: Any,
) -> Row:
    run = RunView(
        number, f"uid-{number}", cell.partition("[")[0], cell, "stage", status,
        START + timedelta(minutes=number), None, None, 1.0, "lab", config or {}, result or {},
    )  # fmt: skip
    return row_of(replace(run, **told))


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return fabricate.declare(tmp_path / "project", DECLARATION).graph


@pytest.fixture
def matrix(graph: Graph) -> list[Row]:
    """A run of each cell of ``sae``; accuracy is k plus a number of the seed's own."""
    return [
        row(
            number,
            cell.name,
            config={**cell.config, "needs": {}},
            result={"accuracy": cell.config["k"] + (0.0, 0.5, 1.3)[cell.config["seed"]]},
        )
        for number, cell in enumerate(graph.by_experiment["sae"])
    ]


def ids(chosen: view.Chosen) -> list[int | None]:
    return [row.run.id for row in chosen.rows]


# -- which runs -------------------------------------------------------------------------------


def test_names_mean_runs_cells_experiments_patterns_and_suites(graph: Graph) -> None:
    rows = [
        row(5, "sae[k=4,seed=0]", "FAILED"),
        row(4, "sae[k=4,seed=0]"),
        row(3, "sae[k=4,seed=0]"),
        row(2, "sae[k=4,seed=1]", "FAILED"),
        row(1, "concepts[k=4,seed=0]"),
    ]
    assert ids(view.choose(["3", "uid-5"], rows, graph)) == [3, 5]
    assert ids(view.choose(["sae[k=4,seed=0]"], rows, graph)) == [4]
    assert ids(view.choose(["sae[k=4,seed=1]"], rows, graph)) == [2]
    assert ids(view.choose(["sae"], rows, graph)) == [4, 2]
    assert ids(view.choose(["sae[seed=0]", "4"], rows, graph)) == [4]
    assert ids(view.choose(["con*", "sae"], rows, graph)) == [1, 4, 2]
    assert ids(view.choose(["all"], rows, graph)) == [4, 2, 1]
    part = row(6, "sae[k=4,seed=1]", part=Part(1, 2))  # which made no dataset
    assert ids(view.choose(["sae[k=4,seed=1]", "6"], [part, *rows], graph)) == [2, 6]


def test_cells_that_are_not_declared_any_more_are_found_by_their_experiment(graph: Graph) -> None:
    rows = [row(2, "old[k=1]"), row(1, "old[k=2]"), row(0, "sae[k=1000]")]
    assert ids(view.choose(["old"], rows, graph)) == [2, 1]
    assert ids(view.choose(["sae"], rows, graph)) == [0]


@pytest.mark.parametrize("name", [HOSTILE, "../..", '{"$gt":""}', "9" * 60, "uid", "sae[k=99]"])
def test_what_means_no_run_is_told(name: str, graph: Graph) -> None:
    chosen = view.choose([name, "1"], [row(1)], graph)
    assert ids(chosen) == [1]
    assert chosen.unknown == (name,)


def test_runs_of_other_clients_are_named_by_experiment_or_number(graph: Graph) -> None:
    other = row(7, HOSTILE, uid="")
    assert ids(view.choose([HOSTILE], [other], graph)) == [7]
    assert ids(view.choose(["7"], [other], graph)) == [7]


def test_no_more_are_compared_than_can_be_read(graph: Graph) -> None:
    rows = [row(n) for n in range(view.MOST_RUNS + 5)]
    chosen = view.choose([f"uid-{n}" for n in range(len(rows))], rows, graph)
    assert len(chosen.rows) == view.MOST_RUNS
    assert chosen.left_out == 5


def test_runs_of_one_cell_are_told_apart_by_number() -> None:
    rows = [row(1, "a"), row(2, "a"), row(3, "b"), row(4, "a", id=None)]
    assert view.labels_of(rows) == ["a #1", "a #2", "b", "a uid-4"]


@pytest.mark.parametrize(
    ("labels", "short"),
    [
        (["s[k=4,seed=0]", "s[k=8,seed=0]"], ["k=4", "k=8"]),
        (["s[k=4,seed=0]", "s[k=8,seed=1]"], ["k=4, seed=0", "k=8, seed=1"]),
        (["s[k=4]", "t[k=4]"], ["s[k=4]", "t[k=4]"]),
        (["s[k=4] #1", "s[k=4] #2"], ["s[k=4] #1", "s[k=4] #2"]),
        (["s[k=4]", "s[k=4,l=1]"], ["s[k=4]", "s[k=4,l=1]"]),
        (["a"], ["a"]),
        (["s[a,b]", "s[a,b]"], ["s[a,b]", "s[a,b]"]),
    ],
)
def test_a_legend_tells_what_differs(labels: list[str], short: list[str]) -> None:
    assert view.short_labels(labels) == short


# -- settings and results ---------------------------------------------------------------------


def test_only_keys_that_differ_are_shown() -> None:
    rows = [
        row(1, "a", config={"k": 8, "lr": 0.1, "deep": {"x": [1], "y": 2}}),
        row(2, "b", config={"k": 8, "lr": 0.2, "deep": {"x": [1], "y": True}, "new": None}),
    ]
    table = view.settings_table(rows).frame.set_index("setting")
    assert table.index.tolist() == ["lr", "deep.y", "new"]
    assert table.loc["deep.y"].tolist() == ["2", "True"]
    assert table.loc["new"].tolist() == ["–", "None"]
    everything = view.settings_table(rows, everything=True).frame["setting"].tolist()
    assert everything == ["k", "lr", "deep.x", "deep.y", "new"]
    assert view.settings_table(rows[:1]).frame.empty


def test_one_and_true_differ() -> None:
    rows = [row(1, config={"a": 1, "b": 1}), row(2, config={"a": True, "b": 1.0})]
    assert view.settings(rows) == ["config.a", "config.b"]


def test_the_best_of_each_result_is_named() -> None:
    rows = [
        row(1, "a", result={"accuracy": 0.9, "final_loss": 3, "same": 1, "text": "x"}),
        row(2, "b", result={"accuracy": 0.8, "final_loss": 1, "same": 1}),
        row(3, "c", result={"accuracy": 0.9, "final_loss": None, "same": 1}),
    ]
    keys = view.result_keys(rows, numeric=True)
    assert keys == ["result.accuracy", "result.final_loss", "result.same"]
    lower = [key for key in keys if view.less_is_better(key)]
    table = view.results_table(rows, lower).frame.set_index("result")
    assert table["best"].to_dict() == {
        "accuracy": "★ a, c",
        "final_loss": "★ b",
        "same": "",
        "text": "",
    }
    assert view.results_table(rows, []).frame.set_index("result")["best"]["final_loss"] == "★ a"


def test_accuracies_side_by_side_say_of_which_images_they_are() -> None:
    outputs: list[dict[str, Any]] = [
        {"schema": "concepts", "sizes": {"image": images}} for images in (100, 100, 80)
    ]
    rows = [
        row(
            n,
            f"c{n}",
            config={"split": "test"},
            result={"accuracy": 0.9, "n_labelled": output["sizes"]["image"]},
            output=output,
        )
        for n, output in enumerate(outputs)
    ]
    same = view.results_table(rows[:2], [])
    assert same.note.endswith("Accuracies of 100 test images.")
    other = view.results_table(rows, [])
    assert other.note.endswith("Accuracies of 100 test images; of 80 test images, by run.")
    values = one_run.results_frame(rows[2].run).set_index("key")["value"]
    assert values["accuracy"] == "0.9 of 80 test images"
    assert values["n_labelled"] == "80"
    bare = row(1, result={"accuracy": 0.9})
    assert "Accuracies" not in view.results_table([bare], []).note
    assert one_run.results_frame(bare.run)["value"].tolist() == ["0.9"]


def test_nan_is_never_best() -> None:
    rows = [row(n, result={"x": value}) for n, value in enumerate((float("nan"), 1.0, 2.0))]
    assert view.best_of(rows, "result.x", lower=True) == [1]
    assert view.best_of(rows, "result.x", lower=False) == [2]


def test_numbers_stay_numbers_for_download() -> None:
    rows = [row(n, f"c{n}", result={"x": 1 / (n + 3), "n": n}) for n in range(2)]
    frame = view.results_table(rows, []).frame
    assert frame["c0"].tolist() == [1 / 3, 0.0]
    many = [row(n, f"c{n}", result={"x": 1 / (n + 3), "t": "a"}) for n in range(30)]
    table = view.results_table(many, [])
    assert table.frame["x"].tolist() == [1 / (n + 3) for n in range(30)]
    assert table.frame["best in"].tolist() == ["★ x"] + [""] * 29
    assert repr(1 / 5) in table.csv()


# -- groups -----------------------------------------------------------------------------------


def test_seeds_are_grouped_with_mean_and_interval(matrix: list[Row], graph: Graph) -> None:
    columns = view.facets(matrix, graph)
    assert set(columns) == {"k", "seed"}
    by = view.default_facets(columns)
    assert by == ["k"]
    means = view.groups(matrix, columns, by).means()
    assert means["setting"].tolist() == ["k 4", "k 8", "k 16"]
    assert means["n"].tolist() == [3, 3, 3]
    for k, line in zip((4, 8, 16), means.to_dict("records"), strict=True):
        values = [k + 0.0, k + 0.5, k + 1.3]
        assert line["mean"] == pytest.approx(statistics.mean(values))
        assert line["deviation"] == pytest.approx(statistics.stdev(values))
        half = 4.302653 * statistics.stdev(values) / 3**0.5
        assert line["high"] - line["mean"] == pytest.approx(half, rel=1e-5)


def test_any_setting_can_group_and_none_makes_one_group(matrix: list[Row], graph: Graph) -> None:
    columns = view.facets(matrix, graph)
    assert view.groups(matrix, columns, ["seed"]).means()["n"].tolist() == [3, 3, 3]
    alone = view.groups(matrix, columns, ["k", "seed"]).means()
    assert len(alone) == 9
    assert alone["low"].isna().all()
    [whole] = view.groups(matrix, columns, []).means().to_dict("records")
    assert whole["setting"] == "all"
    assert whole["n"] == 9


def test_a_group_is_called_by_what_differs_in_its_experiment() -> None:
    columns = {"experiment": ["a", "a", "b", "b"], "k": [4, 8, None, None], "lr": [1, 1, 1, 2]}
    names = view.group_names(columns, ["experiment", "k", "lr"], 4)
    assert names == ["experiment a, k 4", "experiment a, k 8", "experiment b, lr 1",
                     "experiment b, lr 2"]  # fmt: skip
    assert view.group_names(columns, ["lr"], 4) == ["lr 1", "lr 1", "lr 1", "lr 2"]
    assert view.group_names(columns, [], 2) == ["all", "all"]


def test_axes_that_a_cell_inherits_group_too(graph: Graph) -> None:
    rows = [
        row(n, cell.name, config={"layer": "x", "needs": dict(cell.needs)}, result={"y": n})
        for n, cell in enumerate(graph.by_experiment["concepts"])
    ]
    columns = view.facets(rows, graph)
    assert set(columns) == {"matrix.k", "matrix.seed"}
    assert view.default_facets(columns) == ["matrix.k"]
    found = view.groups(rows, columns, ["matrix.k"])
    assert found.means()["mean"].tolist() == [1.0, 4.0, 7.0]
    assert (found.differences()["test"] == "paired").all()


def test_runs_without_a_result_are_missing_and_nan_is_counted(
    matrix: list[Row], graph: Graph
) -> None:
    rows = [row(9, matrix[0].run.cell, "FAILED", matrix[0].run.config), *matrix[1:]]
    rows[4] = row(5, matrix[4].run.cell, config=matrix[4].run.config, result={"accuracy": None})
    found = view.groups(rows, view.facets(rows, graph), ["k"])
    means = found.means().set_index("setting")
    assert means["missing"].tolist() == [1, 0, 0]
    assert means["undefined"].tolist() == [0, 1, 0]
    assert means["n"].tolist() == [2, 2, 3]
    assert "Missing of k 4: sae[k=4,seed=0]." in " ".join(found.mean_notes())
    differences = found.differences().set_index("setting")
    assert differences.loc["k 8", ["n", "left_out"]].tolist() == [1, 3]


def test_a_run_again_is_no_replicate(matrix: list[Row], graph: Graph) -> None:
    again = row(99, matrix[0].run.cell, config=matrix[0].run.config, result={"accuracy": 6.0})
    rows = [*matrix[:3], again]
    columns = view.facets(rows, graph)
    assert view.default_facets(columns) == []
    [line] = view.groups(rows, columns, []).means().to_dict("records")
    assert (line["n"], line["mean"]) == (3, pytest.approx((5.0 + 4.5 + 5.3) / 3))
    same = [matrix[0], again]
    [line] = view.groups(same, view.facets(same, graph), []).means().to_dict("records")
    assert line["n"] == 2  # where nothing but the run differs, it is runs that are compared


def test_the_seed_of_what_was_made_first_counts() -> None:
    columns = {"seed": [0, 1, 0, 1], "matrix.sae.seed": [0, 0, 1, 1]}
    rows = [row(n, f"c{n}", result={"y": float(n)}) for n in range(4)]
    [line] = view.groups(rows, columns, []).means().to_dict("records")
    assert (line["n"], line["mean"], line["deviation"]) == (2, 1.5, pytest.approx(2**0.5))


def test_experiments_that_differ_by_a_seed_are_one_group() -> None:
    assert view.default_facets(["experiment", "seed"]) == []
    assert view.default_facets(["experiment"]) == ["experiment"]
    assert view.default_facets(["experiment", "seed", "k"]) == ["experiment", "k"]


@pytest.mark.slow
def test_groups_are_drawn_as_a_curve_over_a_number_and_as_bars_else(
    matrix: list[Row], graph: Graph
) -> None:
    columns = view.facets(matrix, graph)
    figure, means, differences, every = view.group_parts(matrix, columns, ["k"], "accuracy", "k 8")
    drawn = figure.chart.to_dict()  # type: ignore[union-attr]
    marks = [layer["mark"]["type"] for layer in drawn["layer"]]
    assert marks == ["area", "line"]
    assert "<svg" in figure.svg()  # type: ignore[union-attr]
    assert means.frame["n"].tolist() == [3, 3, 3]  # type: ignore[union-attr]
    assert differences.frame["setting"].tolist() == ["k 4", "k 16"]  # type: ignore[union-attr]
    assert "toprule" in differences.latex()  # type: ignore[union-attr]
    assert every.title == "Over seeds, all results"  # type: ignore[union-attr]
    bars = view.group_parts(matrix[:6], view.facets(matrix[:6], graph), ["k"], "accuracy")[0]
    assert bars.chart.to_dict()["layer"][0]["mark"]["type"] == "bar"  # type: ignore[union-attr]


def test_results_that_differ_come_before_those_that_echo_settings() -> None:
    rows = [row(n, config={"k": n}, result={"k": n, "same": 1, "accuracy": n}) for n in range(2)]
    assert view.numeric_results(rows) == ["accuracy", "same", "k"]


# -- curves -----------------------------------------------------------------------------------


def logged(values: Sequence[float], start: datetime) -> Curve:
    times = [start + timedelta(seconds=2 * step) for step in range(len(values))]
    steps = list(range(len(values)))
    return curve("loss", {"steps": steps, "values": list(values), "timestamps": times})


def points_of(chart: Any) -> pd.DataFrame:
    (data,) = chart.to_dict()["datasets"].values()
    return pd.DataFrame(data)


def test_curves_lie_over_each_other_by_step_or_since_each_start() -> None:
    rows = [row(1, "a"), row(2, "b"), row(3, "c")]
    curves = [
        [logged([3.0, 2.0, 1.0], START + timedelta(minutes=1))],
        [logged([4.0, 0.0], START + timedelta(minutes=2))],
        [],
    ]
    assert view.metric_names(curves) == ["loss"]
    chart = view.overlay(rows, curves, "loss", "time")
    points = points_of(chart)
    assert points.groupby("series")["seconds"].apply(list).to_dict() == {
        "a": [0.0, 2.0, 4.0],
        "b": [0.0, 2.0],
    }
    encoding = chart.to_dict()["layer"][0]["encoding"]
    assert encoding["x"]["field"] == "seconds"
    dashes = encoding["strokeDash"]["scale"]["range"]
    assert len({tuple(dash) for dash in dashes}) == 3
    assert points_of(view.overlay(rows, curves, "loss", log=True))["value"].min() > 0


@pytest.mark.slow
def test_long_curves_share_what_a_chart_can_hold() -> None:
    rows = [row(n, f"c{n}") for n in range(12)]
    values = np.random.default_rng(0).normal(size=20_000)
    values[11_111] = 99.0
    curves = [[logged(values.tolist(), START)] for _ in rows]
    points = points_of(view.overlay(rows, curves, "loss", smooth=0.9))
    assert len(points) <= view.MOST_POINTS
    assert points.groupby("series")["value"].max().tolist() == [99.0] * 12


# -- picking ----------------------------------------------------------------------------------


def test_what_may_be_worth_comparing_is_suggested() -> None:
    rows = [
        row(9, "b", started=None),
        row(8, "lone", stage="another"),
        row(7, "a[k=2]"),
        row(6, "a[k=1]"),
        row(5, "b"),
        row(4, "c", "FAILED"),
        row(3, "a[k=1]", part=Part(0, 2)),
    ]
    found = {one.title: one.names for one in view.suggestions(rows)}
    assert found == {
        "The 2 cells of a": ("a",),
        "b and a": ("b", "a"),
        "The last two runs of b": ("uid-5", "uid-9"),
    }
    assert view.suggestions([]) == []
    options = view.options_of(rows)
    assert list(options)[:3] == ["b", "lone", "a"]
    assert options["uid-9"] == "run 9: b, completed"
    assert "failed" in options["uid-4"]
    assert view.partners_of("lone", rows) == []
    assert "b" in view.partners_of("a", rows)


# -- code and pictures ------------------------------------------------------------------------


def test_the_difference_of_code_is_a_unified_diff() -> None:
    diff = source_diff({"a.py": "x = 1\n", "b.py": "y\n"}, {"a.py": "x = 2\n", "b.py": "y\n"})
    assert diff.splitlines() == ["--- a.py", "+++ a.py", "@@ -1 +1 @@", "-x = 1", "+x = 2"]
    assert source_diff({"a": "x"}, {"a": "x"}) == ""
    assert "+new" in source_diff({}, {"n.py": "new"})


def test_packages_that_differ() -> None:
    first, second = (
        pd.DataFrame({"package": list(told), "version": list(told.values())})
        for told in ({"a": "1", "b": "1"}, {"a": "1", "b": "2", "c": "3"})
    )
    frame = view.package_diff(first, second, ["x", "y"]).frame
    assert frame.to_dict("list") == {"package": ["b", "c"], "x": ["1", None], "y": ["2", "3"]}
    assert "first" in view.package_diff(first, second, ["x", "x"]).frame


def test_pictures_are_found_along_the_pipeline() -> None:
    def made(number: int, schema: str, source: str, status: str = "COMPLETED") -> Row:
        inputs = {"in": {"name": "n", "run": source}}
        return row(number, schema, status, inputs=inputs, output={"schema": schema})

    rows = [
        made(9, "gallery", "uid-2", "FAILED"),
        made(4, "gallery", "uid-2"),
        made(3, "gallery", "uid-2"),
        made(2, "concepts", "uid-1"),
        made(1, "sae", "uid-0"),
    ]
    for start, drawn in ((4, 4), (2, 4), (1, 4)):
        found = view.gallery_of(next(r for r in rows if r.run.id == start), rows)
        assert found is not None
        assert found.run.id == drawn
    assert view.gallery_of(row(8, uid=""), rows) is None
    assert view.gallery_of(rows[-1], rows[-1:]) is None
