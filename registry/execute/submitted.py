"""What ``factbook job`` does, wherever a queue starts it: the run of one ticket."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType

from registry.declare.declaration import parse_tables, read_text, validate_tables
from registry.declare.plugins import load_plugins
from registry.execute.launched import ranks_of, run_anyhow
from registry.execute.resolved import adopt_finished, planned_task, without_experiments
from registry.execute.runner import EXIT_FAILED, EXIT_INTERRUPTED, Job, TaskOutcome
from registry.execute.tickets import (
    JOB,
    SIGNAL,
    TIME_LIMIT,
    Begun,
    Ended,
    Submitted,
    TicketError,
    find_job,
)
from registry.interrupts import signals_noted
from registry.mongo.database import URL_VARIABLE
from registry.plan.project import Project
from registry.record.journal import journal_root
from registry.record.liveness import journal_status
from registry.record.states import State
from registry.store.durable import make_state_folder
from registry.store.parts import Part
from registry.suggest import RefusalError

EXIT_UNSEEN = 76
"""How a job ends that cannot see what the driver wrote."""
SEEN_SECONDS = 30.0
"""How long a file system may take to show on one host what was written on another."""
WATCH_SECONDS = 1.0
PLACES = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")
NOTICE = signal.SIGUSR1
"""What tells a job that its time limit is near."""


def run_submitted(root: Path, name: str, lifeline: bool = False) -> int:
    """Run what a ticket says; return the status to end with.

    Parameters
    ----------
    root : Path
        Folder of the project.
    name : str
        The job: batch and index.
    lifeline : bool
        Whether the job ends when its standard input does, as it does when who holds it is gone.
    """
    try:
        job = _found(root, name)
    except TicketError as error:
        sys.stderr.write(
            f"{error}\n{socket.gethostname()} does not see what the driver wrote: whatever runs "
            f"jobs needs the folder {root}, at this very path\n"
        )
        return EXIT_UNSEEN
    if not job.claim(JOB):
        sys.stderr.write(f"job {name} was given up before it began; there is nothing to do\n")
        return 0
    causes: list[str] = []
    with _noticed(causes), signals_noted() as noted:
        begun = job.begin(socket.gethostname(), _place())
        _watch(job, lifeline)
        outcome = _outcome(job, begun, noted)
        cause = (causes[0] if causes else SIGNAL) if outcome.stopped else ""
        said = Ended(
            str(outcome.ending),
            outcome.uid or begun.uid,
            outcome.message,
            outcome.recorded,
            dict(outcome.result),
            cause,
        )
        job.end(begun, said)
    if outcome.ending is State.INTERRUPTED:
        return EXIT_INTERRUPTED
    return 0 if outcome.is_good else EXIT_FAILED


def _found(root: Path, name: str) -> Submitted:
    """Return the job when its ticket is seen; a network's file system may show it late."""
    deadline = time.monotonic() + SEEN_SECONDS
    while True:
        try:
            return find_job(root, name)
        except TicketError:
            if time.monotonic() > deadline:
                raise
            time.sleep(WATCH_SECONDS)


def _place() -> str:
    """Return the identifier that the queue gave this job, "" if it gave none."""
    raw, array, index = (os.environ.get(name, "") for name in PLACES)
    return f"{array}_{index}" if array else raw


@contextmanager
def _noticed(causes: list[str]) -> Iterator[None]:
    """Take the notice of a time limit for a wish to end, and note it as the cause."""

    def notice(number: int, frame: FrameType | None) -> None:
        causes.append(TIME_LIMIT)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(NOTICE, notice)
    try:
        yield
    finally:
        signal.signal(NOTICE, before)


def _watch(job: Submitted, lifeline: bool) -> None:
    """Ask this process to end when the driver does, or when who started it is gone."""

    def follow() -> None:
        while not job.is_asked:
            time.sleep(WATCH_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    def leave() -> None:
        with suppress(OSError):
            while os.read(0, 1):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    for work in (follow, leave) if lifeline else (follow,):
        threading.Thread(target=work, name=work.__name__, daemon=True).start()


def _outcome(job: Submitted, begun: Begun, noted: list[int]) -> TaskOutcome:
    """Run the task of a job, and return what became of it; whatever goes wrong is told there."""
    ticket, failed = job.ticket, TaskOutcome(job.ticket.cell, State.FAILED, begun.uid)
    if job.tries > ticket.requeues + 1:
        message = f"interrupted {ticket.requeues + 1} times; as often as `requeues` allows"
        return replace(failed, ending=State.INTERRUPTED, message=message)
    try:
        project = _project(job)
        _to_log(Job.log_of(project, begun.uid))
        return _Attempt(project, job, begun.uid, noted).outcome()
    except RefusalError as error:
        return replace(failed, message=str(error))
    except Exception as error:
        return replace(failed, message=f"{type(error).__name__}: {error}")


def _project(job: Submitted) -> Project:
    """Return the project as it was declared when the job was submitted."""
    file, copy = job.batch.declaration
    os.chdir(file.parent)
    if str(file.parent) not in sys.path:  # as `open_project` has it
        sys.path.append(str(file.parent))
    declaration = validate_tables(parse_tables(read_text(copy), file), file)
    load_plugins(declaration.project.plugins)
    return Project(declaration)


def _to_log(log: Path) -> None:
    """Send what this process prints, beside what its run records, to a file for the driver."""
    make_state_folder(log.parent)
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


class _Attempt:
    """An attempt at the task of a job, which waits for others that are at it."""

    def __init__(self, project: Project, job: Submitted, uid: str, noted: list[int]):
        self.project, self.ticket, self.uid, self.noted = project, job.ticket, uid, noted
        self.executor = job.batch.executor

    def outcome(self) -> TaskOutcome:
        """Return what became of it."""
        while True:
            if self.noted:
                ending = State.INTERRUPTED
                return TaskOutcome(self.ticket.cell, ending, self.uid, stopped=True)
            job = self._job()
            if isinstance(job, TaskOutcome):
                return job
            outcome = run_anyhow(job, self.noted)
            if not outcome.busy:
                job.log.unlink(missing_ok=True)  # what it holds is in the record
                return outcome
            self._wait_for(outcome.busy)

    def _job(self) -> Job | TaskOutcome:
        """Return the job as it stands now; what became of it if there is nothing left to do."""
        ticket = self.ticket
        task = self.project.plan([ticket.cell], force=True).task(ticket.cell)
        if ticket.part:
            task = replace(task, part=Part.parse(ticket.part))
        done = TaskOutcome(ticket.cell, State.COMPLETED)
        if task.fingerprint != ticket.fingerprint:
            words = "what the task rests on has changed since it was submitted (its fingerprint is "
            message = f"{words}{task.fingerprint}, was {ticket.fingerprint}); run it again"
            return replace(done, ending=State.FAILED, message=message)
        resolved = planned_task(self.project, task)
        if made := adopt_finished(self.project, resolved):
            message = f"run {made} had finished it when it was killed"
            return replace(done, uid=made, message=message)
        if resolved.current != ticket.current and not ticket.repeat:
            message = f"run {resolved.current} has made it"
            return replace(done, uid=resolved.current, message=message)
        written, run = resolved.part_state(self.project.store)
        if written is not None and not run:
            message = f"run {written.run} has written it"
            return replace(done, uid=written.run, message=message)
        light = without_experiments(self.project)
        job = Job(light, resolved, self.uid, self._keeps_journal, ticket.repeat)
        return replace(job, ranks=ranks_of(self.project, self.executor, resolved))

    @property
    def _keeps_journal(self) -> bool:
        """Whether the record stays in the journal; the driver brings it to the database then.

        The embedded server belongs to the driver's host.
        """
        return self.ticket.journal_only or not os.environ.get(URL_VARIABLE, "").strip()

    def _wait_for(self, run: str) -> None:
        """Wait until the run of another attempt is over, or this one is asked to end."""
        journal = journal_root(self.project.root) / run
        deadline = time.monotonic() + WATCH_SECONDS  # it may not have begun its journal
        while not self.noted:
            if journal_status(journal).status != "RUNNING" and time.monotonic() > deadline:
                return
            time.sleep(WATCH_SECONDS)
