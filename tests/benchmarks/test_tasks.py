"""1,000 tiny tasks of one plan, recorded on the embedded server: what surrounds each of them.

A task multiplies three numbers. What it takes is the suite's time over its tasks, from the plan to
the last record; the embedded server is the slowest MongoDB there is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from registry.execute.runner import TaskOutcome
from registry.execute.schedule import Watcher, run_plan
from registry.mongo import server
from registry.mongo.database import URL_VARIABLE, connect
from registry.plan.project import open_project
from registry.plan.task import Task
from registry.record.states import State
from tests.benchmarks.table import Table

pytestmark = pytest.mark.benchmark

TASKS, STRETCH = 1000, 100
DECLARATION = f"""
[project]
plugins = ["tests.registry.lab.kinds"]

[datasets.few]
kind = "numbers"

[experiments.wide]
stage = "tests.registry.lab.scale"
needs = {{ numbers = "few" }}
matrix = {{ seed = {list(range(TASKS))} }}
"""


class Clock(Watcher):
    """Notes when tasks are over."""

    def __init__(self) -> None:
        self.times = [time.perf_counter()]

    def ended(self, task: Task, outcome: TaskOutcome) -> None:
        self.times.append(time.perf_counter())

    def stretches(self) -> list[float]:
        """Return the seconds of a task in each stretch of tasks."""
        return [(after - before) / STRETCH for before, after in pairwise(self.times[::STRETCH])]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    (tmp_path / "experiments.toml").write_text(DECLARATION)
    server.start(tmp_path)
    yield tmp_path
    server.stop(tmp_path)


@pytest.mark.parametrize(("runner", "most"), [("here", 0.3), ("workers", 1.0)])
def test_a_tiny_task_takes_a_moment(root: Path, runner: str, most: float, table: Table) -> None:
    clock = Clock()
    project = open_project(root)
    outcomes = run_plan(project, project.plan(), runner=runner, workers=2, watcher=clock)
    taken = (clock.times[-1] - clock.times[0]) / TASKS
    assert [outcome.ending for outcome in outcomes] == TASKS * [State.COMPLETED]
    database = connect(root)
    assert database is not None
    assert database.runs.count_documents({"status": "COMPLETED"}) == TASKS
    database.close()
    each = clock.stretches()
    note = f"{min(each):.2f} to {max(each):.2f} s by hundreds, the last {each[-1]:.2f} s"
    where = "in process" if runner == "here" else "in two workers"
    table.within(f"a task of 1,000, {where}", taken, most, "s", asked=most, note=note)
