"""Curves: thinned without losing a peak, whatever the values are."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.views.runs.curve_charts import curve_chart
from dashboards.views.runs.curves import (
    MOST_POINTS,
    SPARK,
    curve,
    curve_note,
    curves,
    smoothed,
    spark,
    thin,
)


def metric(values: list[Any], times: list[Any] | None = None) -> dict[str, list[Any]]:
    return {
        "steps": list(range(len(values))),
        "values": values,
        "timestamps": list(range(len(values))) if times is None else times,
    }


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400), st.integers(4, 100))
def test_thinning_keeps_ends_and_extremes(values: list[float], most: int) -> None:
    array = np.array(values)
    kept = thin(array, most)
    assert len(kept) <= most or len(kept) == len(values) <= most
    assert (np.diff(kept) > 0).all()
    assert kept[0] == 0
    assert kept[-1] == len(values) - 1
    assert array[kept].min() == array.min()
    assert array[kept].max() == array.max()


def test_long_curves_are_thinned_and_say_so() -> None:
    values = np.sin(np.arange(200_000) / 1000)
    values[123_457] = 50.0
    drawn = curve("loss", metric(values.tolist()))
    assert len(drawn.points) <= MOST_POINTS
    assert drawn.logged == 200_000
    assert drawn.points["value"].max() == 50.0
    assert drawn.points["step"].iloc[-1] == 199_999
    assert curve_note(drawn) == f"200,000 points, thinned to {len(drawn.points):,}"


def test_up_to_5000_points_stay_as_they_are() -> None:
    drawn = curve("loss", metric([float(value) for value in range(5000)]))
    assert drawn.points["value"].tolist() == list(range(5000))
    assert curve_note(drawn) == ""


def test_what_is_no_finite_number_is_left_out_and_counted() -> None:
    drawn = curve("loss", metric([1.0, math.nan, math.inf, "text", None, 2.0]))
    assert drawn.points["value"].tolist() == [1.0, 2.0]
    assert drawn.points["step"].tolist() == [0.0, 5.0]
    assert drawn.undrawable == 4
    assert "4 values" in curve_note(drawn)


def test_a_curve_without_points_is_empty() -> None:
    for values in ([], [math.nan]):
        drawn = curve("loss", metric(values))
        assert drawn.points.empty
        assert drawn.last is None
        curve_chart(drawn).to_dict()


def test_a_curve_that_is_being_written_is_cut_to_the_shortest_column() -> None:
    drawn = curve("loss", {"steps": [0, 1, 2], "values": [3.0, 4.0], "timestamps": [0, 1, 2]})
    assert drawn.points["value"].tolist() == [3.0, 4.0]


def test_times_come_as_moments_or_as_milliseconds() -> None:
    moment = datetime(2026, 11, 22, 1, 33, 55, tzinfo=UTC)
    from_moment = curve("a", metric([1.0], [moment]))
    from_milliseconds = curve("a", metric([1.0], [round(moment.timestamp() * 1000)]))
    for drawn in (from_moment, from_milliseconds):
        assert drawn.points["time"].iloc[0].to_pydatetime() == moment


def test_curves_are_in_order_of_their_names() -> None:
    assert [c.name for c in curves({"b": metric([1.0]), "a": metric([2.0])})] == ["a", "b"]


@pytest.mark.parametrize("axis", ["step", "time"])
def test_a_chart_has_the_axis_that_was_asked_for(axis: str) -> None:
    whole = curve_chart(curve("weird.name:[x]", metric([1.0, 2.0])), axis).to_dict()
    [chart] = whole["layer"]
    assert chart["encoding"]["x"]["field"] == axis
    assert chart["encoding"]["y"]["scale"]["zero"] is False


def test_a_logarithmic_chart_leaves_out_what_it_cannot_show() -> None:
    drawn = curve("loss", metric([1.0, 0.0, -1.0, 10.0]))
    whole = curve_chart(drawn, log=True).to_dict()
    [chart] = whole["layer"]
    assert chart["encoding"]["y"]["scale"]["type"] == "log"
    (points,) = whole["datasets"].values()
    assert [point["value"] for point in points] == [1.0, 10.0]
    assert "2 values of 0 or less" in curve_note(drawn, log=True)
    assert curve_note(drawn) == ""


@pytest.mark.parametrize("weight", [0.0, 0.5, 0.9, 0.99])
def test_an_average_is_the_weighted_sum_over_all_that_came_before(weight: float) -> None:
    values = np.random.default_rng(0).normal(size=60)
    average = smoothed(curve("loss", metric(values.tolist())), weight)
    for step in range(60):
        weights = weight ** np.arange(step, -1, -1.0)
        expected = (weights * values[: step + 1]).sum() / weights.sum()
        np.testing.assert_allclose(average[step], expected, rtol=1e-5, atol=1e-6)


def test_the_average_of_a_long_curve_is_that_of_all_its_points() -> None:
    values = np.random.default_rng(1).normal(size=20_000)
    drawn = curve("loss", metric(values.tolist()))
    expected, average = 0.0, []
    for step, value in enumerate(values):  # exponential average with TensorBoard's correction
        expected = 0.99 * expected + 0.01 * value
        average.append(expected / (1 - 0.99 ** (step + 1)))
    kept = drawn.points["step"].to_numpy().astype(int)
    np.testing.assert_allclose(smoothed(drawn, 0.99), np.array(average)[kept], atol=1e-5)
    assert len(kept) <= MOST_POINTS


def test_a_smoothed_curve_keeps_what_was_logged_behind_it() -> None:
    chart = curve_chart(curve("loss", metric([1.0, 2.0, 4.0])), smooth=0.5).to_dict()
    raw, average = chart["layer"]
    assert raw["encoding"]["y"]["field"] == "value"
    assert raw["mark"]["opacity"] < 1
    assert average["encoding"]["y"]["field"] == "smooth"
    assert smoothed(curve("empty", metric([])), 0.5).size == 0


def test_a_spark_is_the_loss_in_few_points() -> None:
    def logged(values: list[float]) -> dict[str, list[Any]]:
        return {
            "steps": list(range(len(values))),
            "values": values,
            "timestamps": [0] * len(values),
        }

    losses = [1.0 / (n + 1) for n in range(500)]
    found = spark({"training.loss": logged(losses), "training.auxiliary_loss": logged([3.0, 2.0])})
    assert found is not None
    assert len(found) <= SPARK
    assert found[0] == 1.0
    assert found[-1] == pytest.approx(losses[-1])
    assert spark({"accuracy": logged([0.1, 0.2])}) is None
    assert spark({"loss": logged([1.0])}) is None
    assert spark({}) is None
