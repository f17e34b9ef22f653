"""The schedule of a plan: each task is handed to a runner as soon as its inputs are there."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from registry.execute.resolved import (
    ResolvedTask,
    adopt_finished,
    planned_task,
    without_experiments,
)
from registry.execute.runner import (
    BlockingRunner,
    Job,
    KeepingRunner,
    Progress,
    Runner,
    RunnerError,
    TaskOutcome,
    open_runner,
)
from registry.interrupts import signals_interrupt, signals_noted
from registry.plan.project import MissingInputsError, Project
from registry.plan.task import Plan, Task
from registry.record.journal import STATUS_FILE, journal_root, new_uid
from registry.record.liveness import journal_status
from registry.record.states import State
from registry.suggest import RefusalError

Busy = Literal["wait", "skip", "repeat"]

_SAME_INPUTS = "inputs are the same"
_LEFT = "its job goes on, since the terminal was closed; the same command finds it again"
_POLL_SECONDS = 0.2
_RETRY_SECONDS = 1.0


class Watcher:
    """Is called when something happens; override what is of interest."""

    def started(self, task: Task, uid: str) -> None:
        """A task is handed to the runner; `uid` is what its run will be called."""

    def begun(self, task: Task, uid: str) -> None:
        """The run of a task has begun."""

    def progressed(self, task: Task, progress: Progress) -> None:
        """A running task has come further."""

    def waits(self, task: Task, run: str) -> None:
        """A task waits for the run of another process, which is at the same task."""

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
    busy: Busy = "wait",
    lacking: Mapping[str, str] | None = None,
) -> list[TaskOutcome]:
    """Run what is due, each task as soon as its inputs are there.

    A task that fails blocks what needs it; everything else goes on. A task that is cut into parts
    is as many tasks, and one more, which needs them and closes the dataset.

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
    busy : str
        What becomes of a task that a run of another process is at: ``wait`` for what that makes,
        ``skip`` the task and what needs it, or ``repeat`` it beside the other.
    lacking : mapping of str to str, optional
        Tasks that cannot run, by name, to why; they and what needs them are left out.

    Returns
    -------
    list of TaskOutcome
        One for each task that is due or that another process is running, and for each of their
        parts, in the order in which they ended.

    Raises
    ------
    StageError
        If there is no runner of this name.
    ValueError
        If ``workers`` is below 1.
    """
    if isinstance(runner, str):
        runner = open_runner(runner, {task.stage for task in plan.open}, workers)
    waiting = {
        each.title: each
        for task in plan.open
        for each in ((task,) if busy == "repeat" and task.is_running else task.in_parts())
    }
    watcher = watcher or Watcher()
    schedule = _Schedule(project, runner, watcher, journal_only, waiting, busy, lacking or {})
    return schedule.run()


class _Other(NamedTuple):
    """A run of another process at a task of ours, and when to try again at the soonest."""

    run: str
    retry_at: float


@dataclass
class _Schedule:
    """Hands out tasks whose inputs are there, and takes back what became of them."""

    project: Project
    runner: Runner
    watcher: Watcher
    journal_only: bool
    waiting: dict[str, Task]
    busy: Busy = "wait"
    lacking: Mapping[str, str] = field(default_factory=dict)
    running: dict[str, Task] = field(default_factory=dict)  # by the identifier of the run
    away: bool = False  # whether the last record did not reach the database
    begun: set[str] = field(default_factory=set)  # runs that have said so
    others: dict[str, _Other] = field(default_factory=dict)  # by the title of the task
    adopted: dict[str, str] = field(default_factory=dict)  # runs that were killed, by task
    outcomes: dict[str, TaskOutcome] = field(default_factory=dict)
    noted: list[int] = field(default_factory=list)  # signals that asked for the end

    def run(self) -> list[TaskOutcome]:
        """Run everything; return what became of it.

        Signals are looked for, since what was told of a task that has ended must not get lost.
        """
        if isinstance(self.runner, BlockingRunner):
            self.runner.on_begin = self._begin
        with signals_noted() as self.noted:
            try:
                self._leave_to_others()
                self._leave_out()
                while self.waiting or self.running:
                    before = len(self.waiting)
                    self._start_ready()
                    self._collect()
                    if not self.running and len(self.waiting) == before:  # all wait for others
                        time.sleep(_POLL_SECONDS)
                    self._heed_signals()
            except KeyboardInterrupt:
                self._interrupt()
        return list(self.outcomes.values())

    def _heed_signals(self) -> None:
        if self.noted:
            raise KeyboardInterrupt

    def _leave_to_others(self) -> None:
        """Set aside what other processes are running when the plan is made.

        Of what is cut, they may be at some parts alone: that is seen when these are due.
        """
        running = [t for t in self.waiting.values() if t.is_running and t.parts == 1]
        for task in running if self.busy != "repeat" else ():
            if not self._kept(task):
                self._yield_to(self.waiting.pop(task.title), str(task.state.run))

    def _kept(self, task: Task) -> str:
        """Return the job at a task that outlived the process that started it."""
        return self.runner.kept(task) if isinstance(self.runner, KeepingRunner) else ""

    def _leave_out(self) -> None:
        for task in [task for task in self.waiting.values() if task.name in self.lacking]:
            outcome = TaskOutcome(task.title, State.BLOCKED, message=self.lacking[task.name])
            self._end(self.waiting.pop(task.title), outcome)

    def _start_ready(self) -> None:
        for task in list(self.waiting.values()):
            self._heed_signals()
            needs = [name for name in task.needs if name in self.outcomes]
            bad = [name for name in needs if not self.outcomes[name].is_good]
            if bad:
                del self.waiting[task.title]
                self._end(task, TaskOutcome(task.title, State.BLOCKED, message=f"needs {bad[0]}"))
            elif self.runner.has_room and not self._is_waiting(task) and self._is_free(task):
                del self.waiting[task.title]
                self._start(task)

    def _is_free(self, task: Task) -> bool:
        """Return whether no run of another process is known to be at a task."""
        other = self.others.get(task.title)
        if other is None:
            return True
        return not self._is_running(other.run) and time.monotonic() >= other.retry_at

    def _is_running(self, run: str) -> bool:
        return journal_status(journal_root(self.project.root) / run).status == "RUNNING"

    def _is_waiting(self, task: Task) -> bool:
        pending = self.waiting.keys() | {other.title for other in self.running.values()}
        return any(name in pending for name in task.needs)

    def _start(self, task: Task) -> None:
        if self._end_adopted(task):
            return
        made = "" if self.busy == "repeat" else self._made_since(task)
        if (task.is_conditional or made) and not self._is_still_due(task):
            message = f"run {made} of another process has made it" if made else _SAME_INPUTS
            self._end(task, TaskOutcome(task.title, State.UNCHANGED, message=message))
            return
        try:
            resolved = planned_task(self.project, task)
        except MissingInputsError as error:
            self._end(task, TaskOutcome(task.title, State.BLOCKED, message=str(error)))
            return
        except RefusalError as error:
            self._end(task, TaskOutcome(task.title, State.FAILED, message=str(error)))
            return
        kept = self._kept(task)
        if not kept and (finished := adopt_finished(self.project, resolved)):
            if task.state.status is not State.COMPLETE:
                self.adopted[task.name] = finished
                self._end_adopted(task)
                return
            resolved = replace(resolved, current=finished)
        if not kept and self._is_settled(task, resolved):
            return
        how = (self.journal_only, self.busy == "repeat", self.away)
        job = Job(without_experiments(self.project), resolved, kept or new_uid(), *how)
        self.running[job.uid] = task
        self.watcher.started(task, job.uid)
        try:
            with signals_interrupt(self.noted):  # since it may take long
                self.runner.start(job)
        except RunnerError as error:
            del self.running[job.uid]
            self._end(task, TaskOutcome(task.title, State.FAILED, message=str(error)))

    def _end_adopted(self, task: Task) -> bool:
        """End a task whose dataset a killed run had finished; return whether there was one."""
        finished = self.adopted.get(task.name)
        if finished is None:
            return False
        done = TaskOutcome(task.title, State.UNCHANGED)
        if task.part is None:
            message = f"run {finished} had finished it when it was killed"
            done = TaskOutcome(task.title, State.COMPLETED, finished, message=message)
            done = replace(done, recorded=False)
        self._end(task, done)
        return True

    def _is_settled(self, task: Task, resolved: ResolvedTask) -> bool:
        """End a part that is written, or leave it to the run that is at it, if there is one."""
        written, run = resolved.part_state(self.project.store)
        if run:
            self._yield_to(task, run)
        elif written is not None:
            message = f"run {written.run} has written it"
            self._end(task, TaskOutcome(task.title, State.UNCHANGED, message=message))
        return bool(run or written)

    def _begin(self, uid: str) -> None:
        self.begun.add(uid)
        self.watcher.begun(self.running[uid], uid)

    def _note_begun(self) -> None:
        root = journal_root(self.project.root)
        for uid in [uid for uid in self.running if uid not in self.begun]:
            if (root / uid / STATUS_FILE).exists():
                self._begin(uid)

    def _made_since(self, task: Task) -> str:
        """Return the run that was published since the plan was made; "" if there is none."""
        known = task.state.run if task.state.status is State.COMPLETE else ""
        current = self.project.store.current_run(task.cell.experiment, task.fingerprint)
        return current if current != known and task.state.status is not State.DAMAGED else ""

    def _is_still_due(self, task: Task) -> bool:
        return bool(self.project.plan([task.name]).task(task.name).due)

    def _collect(self) -> None:
        progress_of = list(self.runner.progress())
        finished = self.runner.finished()
        self._note_begun()
        for uid, progress in progress_of:
            self.watcher.progressed(self.running[uid], progress)
        for outcome in finished:
            task = self.running.pop(outcome.job or str(outcome.uid))
            outcome = replace(outcome, name=task.title)
            self.away = not outcome.recorded
            if outcome.busy:
                self._yield_to(task, outcome.busy)
            else:
                self._end(task, outcome)

    def _yield_to(self, task: Task, run: str) -> None:
        """Put a task back until the run of another process is over, or give it up, as asked.

        One that is not the task's current run holds it, whether its journal has begun or not.
        """
        current = self.project.store.current_run(task.cell.experiment, task.fingerprint)
        if self.busy == "skip" and current != run:
            message = f"run {run} of another process is at it"
            self._end(task, TaskOutcome(task.title, State.BLOCKED, message=message))
            return
        if all(known.run != run for known in self.others.values()):
            self.watcher.waits(task, run)
        self.others[task.title] = _Other(run, time.monotonic() + _RETRY_SECONDS)
        self.waiting[task.title] = task

    def _end(self, task: Task, outcome: TaskOutcome) -> None:
        self.outcomes[task.title] = outcome
        self.watcher.ended(task, outcome)

    def _interrupt(self) -> None:
        left = isinstance(self.runner, KeepingRunner) and self.noted[:1] == [signal.SIGHUP]
        for outcome in () if left else self.runner.interrupt():
            task = self.running.pop(outcome.job or str(outcome.uid))
            self._end(task, replace(outcome, name=task.title))
        for task in self.running.values():
            message = _LEFT if left else ""
            self._end(task, TaskOutcome(task.title, State.INTERRUPTED, message=message))
        for task in self.waiting.values():
            self._end(task, TaskOutcome(task.title, State.INTERRUPTED))
        self.waiting.clear()
