"""Runs the due tasks of a plan: in this process, or side by side in worker processes.

Workers are forked from a server that has loaded the stages' heavy modules once. Each has a fixed
number of threads, so that the same task gives the same bits, and ends when its parent is gone.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import ModuleType

from registry.declare.stage import import_plugins, load_stage
from registry.execute.resolved import PROGRESS, ResolvedTask, planned_task
from registry.plan.plan import Plan, Task
from registry.plan.project import MissingInputsError, Project
from registry.record.journal import journal_root, new_uid, read_journal
from registry.store.durable import read_json

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 30.0
"""How long interrupted workers have to record their end."""

LOG_LINES = 12
IN_JOURNAL_ONLY = "recorded in its journal only; `factbook sync` when MongoDB is back"

EXIT_FAILED, EXIT_NOT_RECORDED, EXIT_INTERRUPTED = 1, 3, 128 + signal.SIGINT
"""How a process ends: not recorded is a run that went well and has not reached MongoDB yet."""
INTERRUPTED = (EXIT_INTERRUPTED, -signal.SIGINT, -signal.SIGTERM)
"""How a process ends that was interrupted before it could record anything."""


class Ending(StrEnum):
    """How a task of a plan ended."""

    COMPLETED = "completed"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class Outcome:
    """What became of one task.

    Attributes
    ----------
    name : str
        The cell.
    ending : Ending
        ``unchanged`` was due only for an input, which came out with the same bits; ``blocked``
        needs something that failed.
    uid : str or None
        The run, if there was one.
    seconds : float
        How long it took.
    message : str
        Why it failed, or what should be known.
    recorded : bool
        Whether the record was read back from MongoDB.
    """

    name: str
    ending: Ending
    uid: str | None = None
    seconds: float = 0.0
    message: str = ""
    recorded: bool = True

    @property
    def is_good(self) -> bool:
        """Whether what needs it can run."""
        return self.ending in (Ending.COMPLETED, Ending.UNCHANGED)


@dataclass(frozen=True)
class Progress:
    """How far a run is: ``done`` of ``total`` of ``what``; a total of 0 is unknown."""

    done: int = 0
    total: int = 0
    what: str = ""


class Watcher:
    """Is told what happens; override what is of interest."""

    def started(self, task: Task, uid: str) -> None:
        """A task begins."""

    def progressed(self, task: Task, progress: Progress) -> None:
        """A running task has come further."""

    def ended(self, task: Task, outcome: Outcome) -> None:
        """A task is over."""


def run_plan(
    project: Project,
    plan: Plan,
    *,
    workers: int = 1,
    here: bool = False,
    journal_only: bool = False,
    watcher: Watcher | None = None,
) -> list[Outcome]:
    """Run what is due, each task as soon as its inputs are there.

    A task that fails blocks what needs it; everything else goes on.

    Parameters
    ----------
    project : Project
        Where the plan was made.
    plan : Plan
        What to run.
    workers : int
        Processes side by side, at least 1. They share the processor's cores.
    here : bool
        Run in this process, one task after the other; for debugging.
    journal_only : bool
        Record to the journals alone.
    watcher : Watcher, optional
        Told what happens.

    Returns
    -------
    list of Outcome
        One for each due task, in the order in which they ended.

    Raises
    ------
    ValueError
        If ``workers`` is below 1.
    """
    if workers < 1:
        raise ValueError(f"workers {workers}; expected at least 1")
    runner = _Here(journal_only) if here else _Workers(workers, journal_only)
    return _Schedule(project, plan, runner, watcher or Watcher()).run()


class _Schedule:
    """Hands out tasks whose inputs are there, and takes back what became of them."""

    def __init__(self, project: Project, plan: Plan, runner: _Here | _Workers, watcher: Watcher):
        self.project = project
        self.runner = runner
        self.watcher = watcher
        self.waiting = {task.name: task for task in plan.due}
        self.running: dict[str, Task] = {}
        self.outcomes: dict[str, Outcome] = {}

    def run(self) -> list[Outcome]:
        """Run everything; return what became of it."""
        self.runner.prepare(self.waiting.values())
        try:
            with _signals_as_keyboard_interrupt():
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
                self._end(task, Outcome(task.name, Ending.BLOCKED, message=f"needs {bad[0]}"))
            elif self.runner.has_room and not self._is_waiting_for_others(task):
                del self.waiting[task.name]
                self._start(task)

    def _is_waiting_for_others(self, task: Task) -> bool:
        pending = self.waiting.keys() | self.running.keys()
        return any(name in pending for name in task.cell.needs.values())

    def _start(self, task: Task) -> None:
        if task.is_conditional and not self.project.plan([task.name]).task(task.name).due:
            self._end(task, Outcome(task.name, Ending.UNCHANGED, message="inputs are the same"))
            return
        uid = new_uid()
        try:
            resolved = planned_task(self.project, task)
        except MissingInputsError as error:
            self._end(task, Outcome(task.name, Ending.BLOCKED, message=str(error)))
            return
        self.running[task.name] = task
        self.watcher.started(task, uid)
        self.runner.start(self.project, task, resolved, uid)

    def _collect(self) -> None:
        for task, progress in self.runner.progress(self.project):
            self.watcher.progressed(task, progress)
        for outcome in self.runner.finished(self.project):
            self._end(self.running.pop(outcome.name), outcome)

    def _end(self, task: Task, outcome: Outcome) -> None:
        self.outcomes[task.name] = outcome
        self.watcher.ended(task, outcome)

    def _interrupt(self) -> None:
        for outcome in self.runner.interrupt(self.project):
            self._end(self.running.pop(outcome.name), outcome)
        for task in (*self.running.values(), *self.waiting.values()):
            self._end(task, Outcome(task.name, Ending.INTERRUPTED))
        self.waiting.clear()


@contextmanager
def _signals_as_keyboard_interrupt() -> Iterator[None]:
    """Take SIGTERM and SIGHUP for Ctrl-C, in the main thread; those that are ignored stay so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, signal.SIG_DFL if previous is None else previous)


def _light(project: Project) -> Project:
    """Return the project without its experiments: all that running one resolved task needs."""
    declaration = replace(project.declaration, experiments={}, suites={}, order=())
    return Project(declaration)


@dataclass(frozen=True)
class _End:
    """How the process of a task ended: its exit status, and why if no run was begun."""

    status: int
    refusal: str = ""


def _run_one(project: Project, resolved: ResolvedTask, uid: str, journal_only: bool) -> _End:
    """Run a task in this process."""
    from registry.execute.experiment import StageExperiment, TaskRefusedError

    import_plugins(project.declaration.project.plugins)  # a worker has only what is installed
    stage = load_stage(resolved.cell.stage)
    runner = StageExperiment(stage, project, task=resolved, uid=uid, journal_only=journal_only)
    end = _End(EXIT_FAILED)
    try:
        runner.run()
        end = _End(0)
    except TaskRefusedError as error:
        end = _End(EXIT_FAILED, str(error))
    except KeyboardInterrupt:
        end = _End(EXIT_INTERRUPTED)
    except Exception:
        pass  # Sacred has recorded it, and printed it to what the run captures
    finally:
        recorded = runner.close()
    return _End(EXIT_NOT_RECORDED) if end.status == 0 and not recorded else end


def _outcome(project: Project, name: str, uid: str, end: _End, seconds: float) -> Outcome:
    """Say what became of a task; its worker's log is kept where nothing else tells why."""
    journal = read_journal(journal_root(project.root) / uid)
    recorded = end.status != EXIT_NOT_RECORDED
    if end.status in (0, EXIT_NOT_RECORDED):
        message = "" if recorded else IN_JOURNAL_ONLY
        outcome = Outcome(name, Ending.COMPLETED, uid, seconds, message, recorded)
    elif journal.status == "INTERRUPTED" or end.status in INTERRUPTED:
        outcome = Outcome(name, Ending.INTERRUPTED, uid, seconds)
    elif journal.fail_trace:
        outcome = Outcome(name, Ending.FAILED, uid, seconds, _last_line(journal.fail_trace))
    elif end.refusal:
        outcome = Outcome(name, Ending.FAILED, uid, seconds, end.refusal)
    else:
        lines = [_last_words(end.status, journal.status), *_log_lines(project, uid)]
        return Outcome(name, Ending.FAILED, uid, seconds, "\n".join(lines))
    _log_path(project, uid).unlink(missing_ok=True)
    return outcome


def _last_words(exitcode: int, status: str) -> str:
    """Say how a process ended that did not record a failure."""
    if exitcode < 0:
        return f"the process was killed by {signal.Signals(-exitcode).name}"
    told = f", its run is {status}" if status else ""
    return f"the process ended with status {exitcode}{told}"


def _log_lines(project: Project, uid: str) -> list[str]:
    """Return the last that a worker printed, and where the rest is."""
    log = _log_path(project, uid)
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return [*lines[-LOG_LINES:], f"(log: {log.relative_to(project.root)})"] if lines else []


def _last_line(trace: Iterable[str]) -> str:
    lines = "".join(trace).strip().splitlines()
    starts = [number for number, line in enumerate(lines) if line and not line.startswith(" ")]
    told = "\n".join(lines[starts[-1] :]) if starts else ""
    return re.sub(r"^(?:\w+\.)+(?=\w+:)", "", told)  # an error's module is no news


class _Here:
    """Runs one task at a time in this process."""

    def __init__(self, journal_only: bool):
        self.journal_only = journal_only
        self._done: list[Outcome] = []

    def prepare(self, tasks: Iterable[Task]) -> None:
        """Nothing has to be loaded before it is needed."""

    @property
    def has_room(self) -> bool:
        """Whether another task can be started."""
        return not self._done

    def start(self, project: Project, task: Task, resolved: ResolvedTask, uid: str) -> None:
        """Run a task to its end."""
        began = time.monotonic()
        end = _run_one(_light(project), resolved, uid, self.journal_only)
        outcome = _outcome(project, task.name, uid, end, time.monotonic() - began)
        self._done.append(outcome)
        if outcome.ending is Ending.INTERRUPTED:
            raise KeyboardInterrupt

    def progress(self, project: Project) -> Iterator[tuple[Task, Progress]]:
        """Nothing is under way when this is asked."""
        return iter(())

    def finished(self, project: Project) -> list[Outcome]:
        """Return what has ended since the last call."""
        done, self._done = self._done, []
        return done

    def interrupt(self, project: Project) -> list[Outcome]:
        """Return what has ended."""
        return self.finished(project)


@dataclass
class _Worker:
    task: Task
    uid: str
    process: ForkServerProcess
    lifeline: Connection
    began: float
    progress: Progress = Progress()


class _Workers:
    """Runs tasks in processes of their own."""

    def __init__(self, count: int, journal_only: bool):
        self.count = count
        self.journal_only = journal_only
        self._context = multiprocessing.get_context("forkserver")
        self._workers: list[_Worker] = []

    def prepare(self, tasks: Iterable[Task]) -> None:
        """Tell the fork server what to load once, and how many threads a worker has."""
        stages = {task.stage for task in tasks}
        modules = [name for stage in sorted(stages) for name in (stage, *load_stage(stage).preload)]
        self._context.set_forkserver_preload(
            ["registry.execute.schedule", *modules, "registry.execute.preload"]
        )

    @property
    def has_room(self) -> bool:
        """Whether another task can be started."""
        return len(self._workers) < self.count

    def start(self, project: Project, task: Task, resolved: ResolvedTask, uid: str) -> None:
        """Start a task in a process of its own."""
        ours, theirs = self._context.Pipe()
        log = _log_path(project, uid)
        log.parent.mkdir(parents=True, exist_ok=True)
        with _threads_of(self.count), _without_main():
            process = self._context.Process(
                target=_work,
                args=(
                    _light(project),
                    resolved,
                    uid,
                    self.journal_only,
                    log,
                    theirs,
                    dict(os.environ),
                ),
                name=task.name,
            )
            process.start()
        theirs.close()
        self._workers.append(_Worker(task, uid, process, ours, time.monotonic()))

    def progress(self, project: Project) -> Iterator[tuple[Task, Progress]]:
        """Wait a moment; yield what has come further."""
        wait([worker.process.sentinel for worker in self._workers], POLL_SECONDS)
        for worker in self._workers:
            told = read_json(journal_root(project.root) / worker.uid / PROGRESS)
            if told is not None:
                progress = Progress(told["done"], told["total"], told["what"])
                if progress != worker.progress:
                    worker.progress = progress
                    yield worker.task, progress

    def finished(self, project: Project) -> list[Outcome]:
        """Return what has ended since the last call."""
        ended = [worker for worker in self._workers if worker.process.exitcode is not None]
        self._workers = [worker for worker in self._workers if worker not in ended]
        return [self._outcome(project, worker) for worker in ended]

    def _outcome(self, project: Project, worker: _Worker) -> Outcome:
        end = _End(worker.process.exitcode or EXIT_FAILED)  # unless it says that all went well
        with suppress(EOFError, OSError):
            end = worker.lifeline.recv() if worker.lifeline.poll() else end
        worker.lifeline.close()
        seconds = time.monotonic() - worker.began
        return _outcome(project, worker.task.name, worker.uid, end, seconds)

    def interrupt(self, project: Project) -> list[Outcome]:
        """Ask the workers to end, and wait for them to record it."""
        for worker in self._workers:
            _signal(worker.process, signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE_SECONDS
        for worker in self._workers:
            worker.process.join(max(deadline - time.monotonic(), 0))
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()
        return self.finished(project)


def _signal(process: ForkServerProcess, number: int) -> None:
    if process.pid is not None and process.exitcode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _log_path(project: Project, uid: str) -> Path:
    return project.state / "workers" / f"{uid}.log"


@contextmanager
def _threads_of(workers: int) -> Iterator[None]:
    """Give what is started inside its share of the cores, unless the user has chosen.

    Threads that wait sleep: where something else wants the cores, spinning costs several times
    the work itself.
    """
    share = str(max((os.cpu_count() or 1) // workers, 1))
    wanted = {**dict.fromkeys(THREAD_VARIABLES, share), "OMP_WAIT_POLICY": "PASSIVE"}
    chosen = [name for name in wanted if name not in os.environ]
    os.environ.update({name: wanted[name] for name in chosen})
    try:
        yield
    finally:
        for name in chosen:
            os.environ.pop(name, None)


@contextmanager
def _without_main() -> Iterator[None]:
    """Keep what is started inside from running the program that starts it a second time."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _work(
    project: Project,
    resolved: ResolvedTask,
    uid: str,
    journal_only: bool,
    log: Path,
    lifeline: Connection,
    environment: dict[str, str],
) -> None:
    """Be a worker: run one task with the console in a file, and leave when the parent does."""
    os.environ.update(environment)  # the fork server has that of its own start
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and tells us
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(project.root)
    threading.Thread(target=_leave_with_parent, args=(lifeline,), daemon=True).start()
    end = _run_one(project, resolved, uid, journal_only)
    with suppress(OSError):
        lifeline.send(end)
    sys.exit(end.status)


def _leave_with_parent(lifeline: Connection) -> None:
    with suppress(EOFError, OSError):
        lifeline.recv()
    os.kill(os.getpid(), signal.SIGTERM)
