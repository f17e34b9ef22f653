"""What becomes of jobs that end before their runs have begun."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from registry.declare.executors import Demand
from registry.execute.launched import ranks_of
from registry.execute.queued import Phase, QueueError, QueueRunner, Standing
from registry.execute.resolved import planned_task
from registry.execute.runner import TaskOutcome
from registry.execute.schedule import run_plan
from registry.execute.slurm import SlurmQueue
from registry.execute.submitted import run_submitted
from registry.execute.tickets import Batch, Submitted
from registry.plan.project import open_project
from registry.record.states import State
from tests.registry.lab.project import write_project

DECLARED = """
[executors.queue]
kind = "slurm"
requeues = 1

[experiments.shared]
stage = "tests.registry.lab.share"

[resources.tests.registry.lab.share]
gpus = 4

[resources.twice]
gpus = 4
"""


class Named(NamedTuple):
    id: str

    @property
    def name(self) -> str:
        return self.id


FORGOTTEN, SILENT = -100, -101


class Queue:
    """Ends each job with a status of a list; one whose status is 0 is run."""

    name = "queue"

    def __init__(self, root: Path, statuses: Sequence[int], phase: Phase = Phase.ENDED):
        self.root, self.statuses, self.phase = root, list(statuses), phase
        self.ended: dict[str, int] = {}
        self.is_silent = False

    def submit(self, batch: Batch, demand: Demand) -> str:
        self.is_silent = self.statuses[0] == SILENT
        if self.is_silent:
            del self.statuses[0]
            raise QueueError("connection refused")
        for job in batch.jobs:
            self.ended[job.name] = status = self.statuses.pop(0)
            if status == 0:
                given = (self.root, job.name)
                process = multiprocessing.get_context("fork").Process(
                    target=run_submitted, args=given
                )
                process.start()
                process.join()
        return batch.name

    def find(self, batch: Batch) -> str:
        if self.is_silent:
            raise QueueError("connection refused")
        return ""

    def standings(self, jobs: Sequence[Submitted]) -> Mapping[str, Standing]:
        found = {job.name: self.ended[job.name] for job in jobs}
        known = {name: status for name, status in found.items() if status != FORGOTTEN}
        return {name: Standing(self.phase, "ended", status) for name, status in known.items()}

    def cancel(self, jobs: Sequence[Submitted]) -> None:
        """There is nothing to cancel."""

    def release(self, job: Submitted) -> None:
        """There is nothing to release."""

    def close(self) -> None:
        """Nothing is open."""

    def log(self, job: Submitted) -> Path:
        return job.batch.folder / "log"


def run_twice(root: Path, queue: Queue) -> TaskOutcome:
    (outcome,) = run(root, queue, "twice")
    return outcome


def run(root: Path, queue: Queue, *names: str) -> list[TaskOutcome]:
    project = open_project(write_project(root, DECLARED))
    executor = project.declaration.executors["queue"]
    executor = replace(executor, settings=replace(executor.settings, poll=0))
    runner = QueueRunner(project, executor, queue)
    return run_plan(project, project.plan(names), runner=runner, journal_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("status", [130, 143, -15, 1, FORGOTTEN])
def test_a_job_that_a_signal_ends_or_its_queue_forgets_is_submitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("FACTBOOK_MONGO", "off")
    outcome = run_twice(tmp_path, Queue(tmp_path, [status, 0]))
    assert outcome.ending is State.COMPLETED, outcome.message


@pytest.mark.slow
def test_it_is_submitted_as_often_as_declared_and_not_where_somebody_cancelled_it(
    tmp_path: Path,
) -> None:
    outcome = run_twice(tmp_path / "often", Queue(tmp_path / "often", [143, 143]))
    assert outcome.ending is State.INTERRUPTED
    assert "interrupted 2 times, with requeues = 1" in outcome.message
    cancelled = Queue(tmp_path / "cancelled", [143], Phase.CANCELLED)
    assert run_twice(tmp_path / "cancelled", cancelled).ending is State.INTERRUPTED
    given = {"failed": [2], "refused": [1, 1], "forgotten": [FORGOTTEN, FORGOTTEN]}
    for name, statuses in given.items():
        failed = run_twice(tmp_path / name, Queue(tmp_path / name, statuses))
        assert failed.ending is State.FAILED
        assert "left no trace of a run" in failed.message


@pytest.mark.slow
def test_a_queue_that_has_answered_is_waited_for_when_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACTBOOK_MONGO", "off")
    outcome = run_twice(tmp_path / "again", Queue(tmp_path / "again", [143, *[SILENT] * 4, 0]))
    assert outcome.ending is State.COMPLETED, outcome.message
    queue = Queue(tmp_path / "next", [0, *[SILENT] * 4, 0])
    outcomes = run(tmp_path / "next", queue, "twice", "sweep[factor=1.0,seed=0]")
    assert {outcome.ending for outcome in outcomes} == {State.COMPLETED}, outcomes
    assert not queue.statuses


def test_a_queue_that_never_answers_fails_what_it_is_given(tmp_path: Path) -> None:
    outcome = run_twice(tmp_path, Queue(tmp_path, [SILENT] * 3))
    assert outcome.ending is State.FAILED
    assert outcome.message == "connection refused"


def test_a_job_that_is_ended_before_it_began_is_interrupted(tmp_path: Path) -> None:
    outcome = run_twice(tmp_path, Queue(tmp_path, [-9], Phase.CANCELLED))
    assert outcome.ending is State.INTERRUPTED
    assert outcome.message.endswith("before it began")


def test_an_array_that_never_began_stands_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = open_project(write_project(tmp_path, DECLARED))
    queue = SlurmQueue(project.declaration.executors["queue"].settings, tmp_path)
    lines = ["271|CANCELLED|None|", "272_1|RUNNING|None|n1", "272|PENDING|Resources|"]
    monkeypatch.setattr(queue, "_squeue", lambda form: lines)
    jobs = [Named(id) for id in ("271_0", "271_1", "272_0", "272_1", "273")]
    found = {name: standing.phase for name, standing in queue.standings(jobs).items()}
    assert found == {
        "271_0": Phase.CANCELLED,
        "271_1": Phase.CANCELLED,
        "272_0": Phase.WAITING,
        "272_1": Phase.RUNNING,
    }


def test_a_stage_that_can_be_shared_runs_in_a_process_for_each_gpu(tmp_path: Path) -> None:
    project = open_project(write_project(tmp_path, DECLARED))
    found = {
        name: ranks_of(project, "queue", planned_task(project, project.plan([name]).task(name)))
        for name in ("shared", "twice", "sweep[factor=1.0,seed=0]")
    }
    assert list(found.values()) == [4, 1, 1]
    assert Demand(gpus=2, ranks=1).processes == Demand().processes == Demand(gpus=0).processes == 1
