"""A job that several processes run together: torchrun starts them, from where the job is.

Who starts them stays with them. It passes on a wish to end, and says what became of the run, also
where none of them can. Each connects to it and is told the job; one that loses it ends.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Client, Connection, wait
from pathlib import Path
from typing import NoReturn

from registry.execute.ranks import join_ranks
from registry.execute.resolved import ResolvedTask
from registry.execute.runner import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    THREAD_VARIABLES,
    Job,
    TaskOutcome,
    silent_end,
)
from registry.interrupts import signals_noted
from registry.plan.project import Project
from registry.record.states import State

PATIENCE_SECONDS = 35.0
"""How long processes have to record their end; torchrun kills what takes 30 seconds."""
_POLL_SECONDS = 0.1


def ranks_of(project: Project, executor: str, task: ResolvedTask) -> int:
    """Return in how many processes a task is run on a declared executor."""
    cell = task.cell
    demand = project.declaration.demand(executor, cell.experiment, cell.stage)
    return demand.processes if task.stage.can_be_shared else 1


def run_anyhow(job: Job, noted: list[int] | None = None) -> TaskOutcome:
    """Run a job to its end, in this process or in as many as it asks for.

    Parameters
    ----------
    job : Job
        The job.
    noted : list of int, optional
        Signals that have asked for the end so far, as `signals_noted` yields them.
    """
    from registry.execute.experiment import run_job  # heavy: Sacred

    return run_job(job, noted) if job.ranks == 1 else run_together(job, noted or ())


def run_held(
    job: Job, lifeline: Connection, run: Callable[[Job, list[int]], TaskOutcome]
) -> NoReturn:
    """Run a job, tell its outcome to whoever holds this process, and end, or when that is gone."""
    with signals_noted() as noted:
        threading.Thread(target=_leave_with, args=(lifeline,), daemon=True).start()
        outcome = run(job, noted)
        with suppress(OSError):
            lifeline.send(outcome)
    sys.exit(0 if outcome.is_good else EXIT_FAILED)


def _leave_with(lifeline: Connection) -> None:
    with suppress(EOFError, OSError):
        lifeline.recv()
    os.kill(os.getpid(), signal.SIGTERM)


# -- who starts them ---------------------------------------------------------------------------


def run_together(job: Job, noted: Sequence[int] = ()) -> TaskOutcome:
    """Run a job to its end in `job.ranks` processes; the first of them records and publishes."""
    with (
        tempfile.TemporaryDirectory(prefix="factbook-ranks-") as folder,
        socket.socket(socket.AF_UNIX) as door,
    ):
        door.bind(str(Path(folder, "door")))
        door.listen(job.ranks)
        with subprocess.Popen(
            _command(job, folder),
            cwd=job.project.root,
            env=_environment(job),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a terminal's signals are passed on from here alone
        ) as launcher:
            return _Together(job, launcher, door, noted).outcome()


def _command(job: Job, folder: str) -> list[str]:
    words = ("--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(job.ranks))
    launcher = (sys.executable, "-m", "torch.distributed.run", *words, "--log-dir", folder)
    return [*launcher, "-m", __name__, str(Path(folder, "door"))]


def _environment(job: Job) -> dict[str, str]:
    """Return the environment of the processes, which share the threads that this one may have."""
    threads = {name: os.environ.get(name, "") for name in THREAD_VARIABLES}
    shares = {n: str(max(int(v) // job.ranks, 1)) for n, v in threads.items() if v.isdecimal()}
    # What can be imported here can be there, and no file beside the project's own comes first.
    paths = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, **shares, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}


@dataclass
class _Together:
    """The processes of a job, followed to their end."""

    job: Job
    launcher: subprocess.Popen[bytes]
    door: socket.socket
    noted: Sequence[int]
    lines: dict[Connection, tuple[int, int]] = field(default_factory=dict)  # to rank and number
    told: TaskOutcome | None = None
    deadline: float = 0.0

    def outcome(self) -> TaskOutcome:
        """Wait until all have ended, and return what became of the run."""
        while self.launcher.poll() is None or self.lines:
            if not self.deadline and (self.noted or self.launcher.poll() is not None):
                self.deadline = time.monotonic() + PATIENCE_SECONDS
                self._ask()
            elif self.deadline and time.monotonic() > self.deadline:
                self._kill()
            for ready in wait([self.door, *self.lines], _POLL_SECONDS):
                if isinstance(ready, Connection):
                    self._hear(ready)
                else:
                    self._let_in()
        if self.told is not None:
            return self.told
        asked_by = signal.SIGTERM.name if self.noted else ""
        outcome = silent_end(self.job, self.launcher.returncode or EXIT_FAILED, 0.0, asked_by)
        return replace(outcome, stopped=bool(self.noted))

    def _let_in(self) -> None:
        """Give a process that connects the job; one that comes too late finds nobody."""
        line = Connection(self.door.accept()[0].detach())
        if self.deadline:
            line.close()
            return
        self.lines[line] = -1, 0
        with suppress(OSError):
            line.send(self.job)

    def _hear(self, line: Connection) -> None:
        """Take what a process says: who it is, and in the end its outcome."""
        try:
            said = line.recv()
        except (EOFError, OSError):
            del self.lines[line]
            line.close()
            return
        if isinstance(said, tuple):
            self.lines[line] = said
        elif self.lines[line][0] == 0:
            self.told = said

    def _ask(self) -> None:
        """Ask all to end: through torchrun, and where that is gone, each by itself."""
        if self.launcher.poll() is None:
            self.launcher.terminate()
            return
        for line in self.lines:
            with suppress(OSError):
                line.send(None)

    def _kill(self) -> None:
        self.launcher.kill()
        for number in filter(None, (number for _, number in self.lines.values())):
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)


# -- each of them ------------------------------------------------------------------------------


def main(door: str) -> None:
    """Be one of the processes that torchrun has started."""
    from registry.execute.experiment import run_job  # heavy: Sacred

    try:
        lifeline = Client(door)
        lifeline.send((int(os.environ["RANK"]), os.getpid()))
        job: Job = lifeline.recv()
    except (EOFError, OSError):  # who started this one is gone, or wants no more
        sys.exit(EXIT_INTERRUPTED)
    try:  # signals end it at once, since nothing has begun
        ranks = join_ranks(job.task.stage)
    except Exception as error:
        lifeline.send(TaskOutcome(job.name, State.FAILED, job.uid, message=str(error)))
        raise
    run_held(job, lifeline, partial(run_job, ranks=ranks))


if __name__ == "__main__":
    main(*sys.argv[1:])
