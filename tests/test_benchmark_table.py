"""The table of benchmarks: bounds that are asked and asserted, and what did not run."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.benchmarks.table import HEADER, Result, Row, Table, cells, keep, markdown, read, text


def filled() -> Table:
    table = Table()
    table.faster("a step", 0.2, 1.0, 3, against="dense", asked=3)
    table.costs("a loss", 1.5, 1.0, 1.55, against="none", asked=1.3)
    table.within("memory", 1200, 1000, "MiB")
    table.within("not held by anything", 7, None, "s")
    return table


def test_ratios_are_held_by_what_is_asserted_and_shown_beside_what_is_asked() -> None:
    table = filled()
    assert [row.value for row in table.rows] == [5, 1.5, 1200, 7]
    assert [row.verdict for row in table.rows] == ["yes", "not as asked", "NO", "yes"]
    assert table.failures() == ["memory: 1,200 MiB, expected ≤ 1,000 MiB"]


@pytest.mark.parametrize("is_least", [False, True])
def test_what_is_no_number_keeps_to_no_bound(is_least: bool) -> None:
    assert not Row("a", math.nan, 1, is_least).holds


def test_every_row_is_told_and_why_there_is_none() -> None:
    rows = [asdict(row) for row in filled().rows]
    [first, loss, memory, _] = cells("test_a::b", Result("failed", 3.2, 0.4, rows, "memory"))
    assert first[:7] == ("a step", "0.2 s", "dense 1 s", "5", "≥ 3", "≥ 3", "yes")
    assert loss[4:7] == ("≤ 1.3", "≤ 1.55", "not as asked")
    assert (first[7:9], memory[7:9]) == (("3 s", "0.4"), ("", ""))
    [skipped] = cells("test_a::c", Result("skipped", why="pip install it"))
    assert (skipped[0], skipped[6], skipped[-1]) == ("test_a::c", "not run", "pip install it")
    *_, broken = cells("test_a::b", Result("failed", rows=rows[:1], why="AssertionError"))
    assert (broken[6], broken[-1]) == ("FAILED", "AssertionError")


def test_results_of_one_benchmark_leave_those_of_others(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.json"
    keep({"a": Result(rows=[asdict(row) for row in filled().rows])}, path)
    keep({"b": Result("skipped", why="a|b")}, path)
    kept = read(path)
    assert (set(kept), kept["b"].why) == ({"a", "b"}, "a|b")
    page = path.with_suffix(".md").read_text()
    assert page == markdown(kept)
    assert "a\\|b" in page
    for name in ("a step", "not as asked", "not run"):
        assert name in page
        assert name in text(kept, 120)
    assert all(line.count(" | ") == len(HEADER) - 1 for line in page.splitlines()[2:-1])
