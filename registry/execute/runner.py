"""The runner protocol: what runs tasks is given, and what it says of them.

Two runners come with the registry: in this process (:mod:`registry.execute.experiment`) and in
worker processes (:mod:`registry.execute.workers`). Packages add others, as one for a cluster, by an
entry point of the group ``factbook.runners``: a name, and a :data:`RunnerFactory`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from registry.declare.faults import StageError
from registry.execute.resolved import PROGRESS, ResolvedTask
from registry.interrupts import STOPPING
from registry.plan.project import Project
from registry.plan.task import Task
from registry.record.journal import journal_root, read_journal
from registry.record.liveness import note_death
from registry.record.states import State
from registry.store.durable import read_json
from registry.suggest import nearest

RUNNER_GROUP = "factbook.runners"
THREAD_VARIABLES = tuple(f"{name}_NUM_THREADS" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA"))
LOG_LINES = 12

EXIT_FAILED, EXIT_NOT_RECORDED, EXIT_INTERRUPTED = 1, 3, 128 + signal.SIGINT
"""How a process ends: not recorded is a run that went well and has not reached MongoDB yet."""
INTERRUPTED = tuple(status for number in STOPPING for status in (128 + number, -number))
"""How a process ends that was interrupted before it could record anything."""


class RunnerError(RuntimeError):
    """A job that cannot be started; others may be."""


@dataclass(frozen=True)
class TaskOutcome:
    """What became of one task.

    Attributes
    ----------
    name : str
        The cell; what a schedule returns also tells the part, as in ``sae part 2 of 3``.
    ending : State
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
    result : mapping
        The scalars of the dataset that it made.
    busy : str
        Identifier of the run that is at the same task, because of which this one was not begun.
    stopped : bool
        Whether a signal asked for the end, perhaps too late for this task.
    job : str
        Identifier of the job that it is about, where that is not the run's: a job that was
        interrupted may run again.
    """

    name: str
    ending: State
    uid: str | None = None
    seconds: float = 0.0
    message: str = ""
    recorded: bool = True
    result: Mapping[str, Any] = field(default_factory=dict)
    busy: str = ""
    stopped: bool = False
    job: str = ""

    @property
    def is_good(self) -> bool:
        """Whether what needs it can run."""
        return self.ending in (State.COMPLETED, State.UNCHANGED)


@dataclass(frozen=True)
class Progress:
    """How far a run is: ``done`` of ``total`` of ``what``; a total of 0 is unknown.

    ``waits`` says why it has not begun, where a queue does.
    """

    done: int = 0
    total: int = 0
    what: str = ""
    waits: str = ""


@dataclass(frozen=True)
class Job:
    """One task to be run, with all that any process needs to run it; can be pickled.

    Attributes
    ----------
    project : Project
        Where its dataset and record go; without its experiments, which running one task does not
        need.
    task : ResolvedTask
        The task with its configuration and inputs; of one that is cut, `task.part` is the part that
        is to be written, which who makes the job anew elsewhere hands on.
    uid : str
        Identifier of the run.
    journal_only : bool
        Whether the record stays in the journal.
    repeat : bool
        Whether it may run beside another run at the same task.
    away : bool
        Whether the database was away lately, so that it is not waited for.
    ranks : int
        Processes that run it together.
    """

    project: Project
    task: ResolvedTask
    uid: str
    journal_only: bool = False
    repeat: bool = False
    away: bool = False
    ranks: int = 1

    @property
    def name(self) -> str:
        """Name of the cell."""
        return self.task.cell.name

    @property
    def journal(self) -> Path:
        """Folder of the run's journal."""
        return journal_root(self.project.root) / self.uid

    @property
    def log(self) -> Path:
        """File for what the process of the run prints beside the run itself."""
        return self.log_of(self.project, self.uid)

    @staticmethod
    def log_of(project: Project, uid: str) -> Path:
        """Return the file for what the process of a run prints beside the run itself."""
        return project.state / "workers" / f"{uid}.log"

    def progress(self) -> Progress | None:
        """Return how far the run says it is, None before it says anything."""
        found = read_json(self.journal / PROGRESS)
        return Progress(found["done"], found["total"], found["what"]) if found else None


@runtime_checkable
class Runner(Protocol):
    """Runs jobs, one after the other or side by side, here or elsewhere.

    All methods are called from one thread. A job that ended is returned once, by `finished` or
    `interrupt`.
    """

    @property
    def has_room(self) -> bool:
        """Whether another job can be started now."""

    def start(self, job: Job) -> None:
        """Start a job; a runner that is no process of its own may return when it has ended.

        Raises
        ------
        RunnerError
            If it cannot be started.
        """

    def progress(self) -> Iterable[tuple[str, Progress]]:
        """Wait a moment at most; yield the identifiers of runs that have come further."""
        return ()  # of one that is never asked while a job is under way

    def finished(self) -> Sequence[TaskOutcome]:
        """Return what has ended since the last call."""

    def interrupt(self) -> Sequence[TaskOutcome]:
        """Ask everything to end, wait in bounded time, and return what has ended."""
        return self.finished()


@runtime_checkable
class KeepingRunner(Runner, Protocol):
    """A runner whose jobs live on when this process ends, and are found again by the next one.

    Attributes
    ----------
    runs : set of str
        Identifiers of the runs that began in its jobs, whose records may be in journals alone.
    """

    runs: set[str]

    def close(self) -> None:
        """Let go of what was opened."""

    def kept(self, task: Task) -> str:
        """Return the identifier of a job at a task that was started before; "" for none.

        `start` takes a job of that identifier up again.
        """


@runtime_checkable
class BlockingRunner(Runner, Protocol):
    """A runner whose `start` returns when the job has ended, and which says when its run begins.

    Attributes
    ----------
    on_begin : callable
        Called with the identifier of a run that begins.
    """

    on_begin: Callable[[str], object]


RunnerFactory = Callable[[Collection[str], int], Runner]
"""From the stages that will be run, and how many may run side by side, to a runner."""

_OWN = {  # by path, since a plan in workers needs no Sacred in this process
    "here": "registry.execute.experiment:InProcessRunner",
    "workers": "registry.execute.workers:WorkerRunner",
}


def runner_names() -> tuple[str, ...]:
    """Return the names of the runners that there are, sorted."""
    return tuple(sorted({*_OWN, *entry_points(group=RUNNER_GROUP).names}))


def open_runner(name: str, stages: Collection[str], workers: int) -> Runner:
    """Return a runner by its name.

    Raises
    ------
    StageError
        If there is none of this name, or it cannot be loaded.
    ValueError
        If ``workers`` is below 1.
    """
    if workers < 1:
        raise ValueError(f"workers {workers}; expected at least 1")
    if name not in _OWN and name not in runner_names():
        raise StageError(f"unknown runner {name!r}{nearest(name, runner_names())}")
    own = {name: EntryPoint(name, path, RUNNER_GROUP) for name, path in _OWN.items()}
    try:
        factory: RunnerFactory = (own.get(name) or entry_points(group=RUNNER_GROUP)[name]).load()
    except (ImportError, AttributeError) as error:
        raise StageError(f"runner {name!r} cannot be loaded: {error}") from error
    return factory(stages, workers)


def silent_end(job: Job, status: int, seconds: float, asked_by: str = "") -> TaskOutcome:
    """Say what became of a job whose process could not say it, by its journal and its log.

    Parameters
    ----------
    job : Job
        The job.
    status : int
        How its process ended, negative for a signal.
    seconds : float
        How long it took.
    asked_by : str
        The signal, as ``SIGTERM``, by which the process had been asked to end; then it was
        interrupted, even if it had to be killed.
    """
    if not asked_by and status in INTERRUPTED:
        asked_by = signal.Signals(-status if status < 0 else status - 128).name
    note_death(job.journal, asked_by)  # as completed, if it was killed when it had published
    journal = read_journal(job.journal, with_metrics=False)
    outcome = TaskOutcome(job.name, State.FAILED, job.uid, seconds)
    if journal.status == "COMPLETED":  # ended while its record was brought to MongoDB
        job.log.unlink(missing_ok=True)
        result = journal.result if isinstance(journal.result, dict) else {}
        return replace(outcome, ending=State.COMPLETED, result=result, recorded=False)
    if journal.status == "INTERRUPTED" or (asked_by and journal.status != "FAILED"):
        job.log.unlink(missing_ok=True)
        words = "it did not end in time and was killed" if status == -signal.SIGKILL else ""
        return replace(outcome, ending=State.INTERRUPTED, message=words)
    words = f"the process ended with status {status}"
    if status < 0:
        words = f"the process was killed by {signal.Signals(-status).name}"
    elif journal.status:
        words += f", its run is {journal.status}"
    lines = job.log.read_text(errors="replace").strip().splitlines() if job.log.exists() else []
    if lines:
        lines = [*lines[-LOG_LINES:], f"(log: {job.log.relative_to(job.project.root)})"]
    return replace(outcome, message="\n".join([words, *lines]))
