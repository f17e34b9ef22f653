"""The schedule of a plan: each task is handed to a runner as soon as its inputs are there."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field, replace

from registry.execute.resolved import planned_task
from registry.execute.runner import Job, Progress, Runner, TaskOutcome, open_runner
from registry.plan.project import MissingInputsError, Project
from registry.plan.task import Plan, Task
from registry.record.journal import new_uid
from registry.record.liveness import handling_signals
from registry.record.states import State


class Watcher:
    """Is called when something happens; override what is of interest."""

    def started(self, task: Task, uid: str) -> None:
        """A task begins."""

    def progressed(self, task: Task, progress: Progress) -> None:
        """A running task has come further."""

    def ended(self, task: Task, outcome: TaskOutcome) -> None:
        """A task is over."""


def run_plan(
    project: Project,
    plan: Plan,
    *,
    workers: int = 1,
    journal_only: bool = False,
    watcher: Watcher | None = None,
    runner: str | Runner = "workers",
) -> list[TaskOutcome]:
    """Run what is due, each task as soon as its inputs are there.

    A task that fails blocks what needs it; everything else goes on.

    Parameters
    ----------
    project : Project
        Where the plan was made.
    plan : Plan
        What to run.
    workers : int
        Tasks side by side, at least 1. Processes on this machine share the processor's cores.
    journal_only : bool
        Record to the journals alone.
    watcher : Watcher, optional
        Called when something happens.
    runner : str or Runner
        What runs the tasks, or its name: ``workers``, ``here`` (in this process, one task after
        the other, for debugging), or that of a plug-in.

    Returns
    -------
    list of TaskOutcome
        One for each due task, in the order in which they ended.

    Raises
    ------
    StageError
        If there is no runner of this name.
    ValueError
        If ``workers`` is below 1.
    """
    if isinstance(runner, str):
        runner = open_runner(runner, {task.stage for task in plan.due}, workers)
    due = {task.name: task for task in plan.due}
    return _Schedule(project, runner, watcher or Watcher(), journal_only, due).run()


@dataclass
class _Schedule:
    """Hands out tasks whose inputs are there, and takes back what became of them."""

    project: Project
    runner: Runner
    watcher: Watcher
    journal_only: bool
    waiting: dict[str, Task]
    running: dict[str, Task] = field(default_factory=dict)  # by the identifier of the run
    outcomes: dict[str, TaskOutcome] = field(default_factory=dict)

    def run(self) -> list[TaskOutcome]:
        """Run everything; return what became of it."""
        try:
            with handling_signals(signal.default_int_handler):  # as Ctrl-C
                while self.waiting or self.running:
                    self._start_ready()
                    self._collect()
        except KeyboardInterrupt:
            self._interrupt()
        return list(self.outcomes.values())

    def _start_ready(self) -> None:
        for task in list(self.waiting.values()):
            needs = [name for name in task.cell.needs.values() if name in self.outcomes]
            bad = [name for name in needs if not self.outcomes[name].is_good]
            if bad:
                del self.waiting[task.name]
                self._end(task, TaskOutcome(task.name, State.BLOCKED, message=f"needs {bad[0]}"))
            elif self.runner.has_room and not self._is_waiting_for_others(task):
                del self.waiting[task.name]
                self._start(task)

    def _is_waiting_for_others(self, task: Task) -> bool:
        pending = self.waiting.keys() | {other.name for other in self.running.values()}
        return any(name in pending for name in task.cell.needs.values())

    def _start(self, task: Task) -> None:
        if task.is_conditional and not self.project.plan([task.name]).task(task.name).due:
            unchanged = TaskOutcome(task.name, State.UNCHANGED, message="inputs are the same")
            self._end(task, unchanged)
            return
        try:
            resolved = planned_task(self.project, task)
        except MissingInputsError as error:
            self._end(task, TaskOutcome(task.name, State.BLOCKED, message=str(error)))
            return
        light = replace(self.project.declaration, experiments={}, suites={}, order=())
        job = Job(Project(light), resolved, new_uid(), self.journal_only)
        self.running[job.uid] = task
        self.watcher.started(task, job.uid)
        self.runner.start(job)

    def _collect(self) -> None:
        for uid, progress in self.runner.progress():
            self.watcher.progressed(self.running[uid], progress)
        for outcome in self.runner.finished():
            self._end(self.running.pop(str(outcome.uid)), outcome)

    def _end(self, task: Task, outcome: TaskOutcome) -> None:
        self.outcomes[task.name] = outcome
        self.watcher.ended(task, outcome)

    def _interrupt(self) -> None:
        for outcome in self.runner.interrupt():
            self._end(self.running.pop(str(outcome.uid)), outcome)
        for task in (*self.running.values(), *self.waiting.values()):
            self._end(task, TaskOutcome(task.name, State.INTERRUPTED))
        self.waiting.clear()
