"""The table of benchmarks: bounds that are asked and asserted, and what did not run."""

from __future__ import annotations

import math
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from tests.benchmarks import __main__ as runner
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


SLOW = """
import subprocess, sys, time
from pathlib import Path

import pytest

@pytest.mark.benchmark
def test_one():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(__file__).with_name("child").write_text(str(child.pid))
    time.sleep(600)
"""


@pytest.mark.slow
def test_benchmarks_that_take_too_long_end_with_what_they_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Result] = {}
    monkeypatch.setattr(runner, "HERE", tmp_path)
    monkeypatch.setattr(runner, "keep", told.update)
    (tmp_path / "test_slow.py").write_text(SLOW)

    def begun(process: subprocess.Popen[bytes], seconds: float) -> int:
        while not (tmp_path / "child").exists():
            assert process.poll() is None
            time.sleep(0.05)
        raise subprocess.TimeoutExpired("pytest", seconds)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "wait", begun)
        runner.measure("slow", 600)
    assert "ended by signal 9" in told["test_slow"].why
    with suppress(psutil.NoSuchProcess):
        child = psutil.Process(int((tmp_path / "child").read_text()))
        for _ in range(100):  # it ends a little after it was told to
            if child.status() == psutil.STATUS_ZOMBIE:
                break
            time.sleep(0.1)
        else:
            pytest.fail("it goes on")
