"""Runs jobs side by side, each in a worker process of its own.

Workers are forked from a server that has loaded the stages' heavy modules once. Each has a fixed
number of threads, so that the same task gives the same bits, and ends when its parent is gone.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from types import ModuleType

from registry.declare.stage import load_stage
from registry.execute.launched import run_anyhow, run_held
from registry.execute.resolved import ResolvedTask
from registry.execute.runner import (
    EXIT_FAILED,
    THREAD_VARIABLES,
    Job,
    Progress,
    RunnerError,
    TaskOutcome,
    silent_end,
)
from registry.interrupts import STOPPING
from registry.loaded import files_beside
from registry.store.durable import make_state_folder

POLL_SECONDS = 0.1
PATIENCE_SECONDS = 30.0
"""How long interrupted workers have to record their end."""
_LOST = 255
"""What :mod:`multiprocessing` takes for the status of a worker when the server was killed."""
_TRIES = 3
_PAUSE_SECONDS = 0.2
_LOG = logging.getLogger(__name__)
START_SECONDS = 1.0
"""How long a worker that is being started has when all are interrupted."""


@dataclass
class _Worker:
    job: Job
    process: ForkServerProcess
    lifeline: Connection
    began: float
    progress: Progress | None = None
    is_asked: bool = False  # to end

    @property
    def end(self) -> int | Connection:
        """What is ready to be read when it ends.

        The status of a worker whose server was killed is never known; the worker goes on.
        """
        return self.lifeline if self.process.exitcode == _LOST else self.process.sentinel

    @property
    def has_ended(self) -> bool:
        """Whether it is over."""
        if self.process.exitcode != _LOST:
            return self.process.exitcode is not None
        return self.lifeline.closed or self.lifeline.poll()  # its outcome, or that it is gone

    def ask(self, number: int = signal.SIGTERM) -> None:
        """Ask it to end, if it has not."""
        if not self.has_ended and self.process.pid is not None:
            self.is_asked = True
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def join(self, seconds: float | None = None) -> None:
        """Wait for its end."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not self.has_ended and (deadline is None or time.monotonic() < deadline):
            wait([self.end], POLL_SECONDS)

    def outcome(self) -> TaskOutcome:
        """Return what became of the job of a process that has ended."""
        outcome: TaskOutcome | None = None
        seconds = time.monotonic() - self.began
        with self.lifeline, suppress(EOFError, OSError):
            outcome = self.lifeline.recv() if self.lifeline.poll() else None
        if outcome is None:
            asked_by = signal.SIGTERM.name if self.is_asked else ""
            return silent_end(self.job, self.process.exitcode or EXIT_FAILED, seconds, asked_by)
        self.job.log.unlink(missing_ok=True)  # what it holds is in the record
        return replace(outcome, seconds=seconds)


class _Start:
    """The start of a worker, in a thread of its own.

    Parameters
    ----------
    start : callable
        What starts it.
    lifeline : Connection
        What a worker ends by that is started too late.
    """

    def __init__(self, start: Callable[[], None], lifeline: Connection):
        self._begin = start
        self._lifeline = lifeline
        self._over = threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Begin, and wait until it has started; what was raised meanwhile is raised here."""
        threading.Thread(target=self._work, name="start", daemon=True).start()
        self._over.wait()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            self._begin()
        except BaseException as error:
            self._error = error
        finally:
            self._over.set()

    def give_up(self) -> None:
        """Wait a moment; a worker that has not started by then will end at once."""
        if not self._over.wait(START_SECONDS):
            self._lifeline.close()


class WorkerRunner:
    """Runs jobs in processes of this machine.

    Parameters
    ----------
    stages : collection of str
        What will be run: loaded once, by the server that workers are forked from.
    workers : int
        Processes side by side; they share the processor's cores.
    ranks_of : callable
        In how many processes a task is run.
    """

    def __init__(
        self,
        stages: Collection[str],
        workers: int,
        ranks_of: Callable[[ResolvedTask], int] = lambda task: 1,
    ):
        self.count, self._ranks_of = workers, ranks_of
        self._context = multiprocessing.get_context("forkserver")
        self._workers: list[_Worker] = []
        self._starting: _Start | None = None
        loaded = map(load_stage, sorted(stages))
        modules = [name for s in loaded for name in (s.name, *s.main_modules, *s.preload)]
        own = ["registry.execute.workers", "registry.execute.preload"]
        self._context.set_forkserver_preload([own[0], *modules, own[1]])
        self._modules, self._server = modules, 0
        self._code = files_beside(modules)

    @property
    def has_room(self) -> bool:
        """Whether another worker can be started."""
        return len(self._workers) < self.count

    def start(self, job: Job) -> None:
        """Start a job in a process of its own.

        A terminal sends Ctrl-C to every process, at any moment. What has to be done as a whole is
        done in a thread, which no signal interrupts; the first time it takes as long as the server
        needs to load the stages, and whoever waits for it is free to go. A server that was killed
        is started anew.

        Raises
        ------
        RunnerError
            If the server is killed again and again.
        """
        make_state_folder(job.log.parent)
        job = replace(job, ranks=self._ranks_of(job.task))
        for _ in range(_TRIES):
            ours, theirs = self._context.Pipe()
            self._starting = _Start(partial(self._start, job, ours, theirs), ours)
            try:
                self._starting.run()
                return
            except (EOFError, OSError) as error:
                lost = error
                theirs.close()
                ours.close()  # by which a worker leaves that nobody knows of
                time.sleep(_PAUSE_SECONDS)
        why = f": {lost}" if str(lost) else ""
        raise RunnerError(f"the server that starts workers was killed, {_TRIES} times{why}")

    def _start(self, job: Job, ours: Connection, theirs: Connection) -> None:
        resource_tracker.ensure_running()  # first, since it blocks and unblocks signals itself
        # Inherited by what is started: the server outlives a signal to all; workers unblock.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        with _threads_of(self.count), _without_main():
            process = self._context.Process(
                target=_work, args=(job, theirs, dict(os.environ)), name=job.name
            )
            process.start()
        self._tell_other_code()
        theirs.close()
        self._workers.append(_Worker(job, process, ours, time.monotonic()))
        with suppress(OSError):  # it is gone, or not wanted any more
            ours.send(True)

    def _tell_other_code(self) -> None:
        """Say if a server that was started in place of a killed one has loaded other code."""
        server = int(getattr(forkserver._forkserver, "_forkserver_pid", None) or 0)
        if server != self._server and self._server:
            code = files_beside(self._modules)
            edited = {*code.items()} ^ {*self._code.items()}
            if names := sorted({os.path.relpath(path) for path, _ in edited}):
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                _LOG.warning(
                    "the server that starts workers was killed; what starts from now on runs code "
                    "that was edited since the suite began: %s%s",
                    ", ".join(names[:3]),
                    more,
                )
            self._code = code
        self._server = server

    def progress(self) -> Iterator[tuple[str, Progress]]:
        """Wait a moment; yield the identifiers of runs that have come further."""
        wait([worker.end for worker in self._workers], POLL_SECONDS)
        for worker in self._workers:
            progress = worker.job.progress()
            if progress is not None and progress != worker.progress:
                worker.progress = progress
                yield worker.job.uid, progress

    def finished(self) -> Sequence[TaskOutcome]:
        """Return what has ended since the last call."""
        ended = [worker for worker in self._workers if worker.has_ended]
        self._workers = [worker for worker in self._workers if worker not in ended]
        return [worker.outcome() for worker in ended]

    def interrupt(self) -> Sequence[TaskOutcome]:
        """Ask the workers to end, and wait for them to record it."""
        if self._starting is not None:
            self._starting.give_up()
        for worker in self._workers:
            worker.ask()
        deadline = time.monotonic() + PATIENCE_SECONDS
        for worker in self._workers:
            worker.join(deadline - time.monotonic())
            if not worker.has_ended:
                worker.ask(signal.SIGKILL)
                worker.join()
        return self.finished()


@contextmanager
def _threads_of(workers: int) -> Iterator[None]:
    """Give what is started inside its part of the cores, unless the user has chosen.

    Threads that wait sleep: where something else wants the cores, spinning costs several times
    the work itself.
    """
    threads = str(max((os.cpu_count() or 1) // workers, 1))
    wanted = {**dict.fromkeys(THREAD_VARIABLES, threads), "OMP_WAIT_POLICY": "PASSIVE"}
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


def _work(job: Job, lifeline: Connection, environment: dict[str, str]) -> None:
    """Be a worker: run one job with the console in a file, and leave when the parent does.

    One that the parent does not know of is never told to begin.
    """
    try:
        lifeline.recv()
    except (EOFError, OSError):
        return
    os.environ.update(environment)  # the fork server has that of its own start
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and passes it on
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    with job.log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(job.project.root)
    run_held(job, lifeline, run_anyhow)
