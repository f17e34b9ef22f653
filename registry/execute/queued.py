"""A runner over a queue: jobs are submitted as commands, and followed by what they leave on disk.

The queue is somebody else's: it decides what runs where and when. Here is what all have in common:
tickets written before anything is submitted, arrays of what became ready together, runs that begin
again after an interruption that nobody wished, and a driver that finds its jobs when it is started
again. A job is over when it has said so, or when the queue says so and its run does not live.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Protocol, TypeVar

from registry.declare.declaration import read_text
from registry.declare.executors import EXECUTOR_GROUP, Demand, Executor
from registry.execute.runner import (
    EXIT_FAILED,
    INTERRUPTED,
    LOG_LINES,
    Job,
    Progress,
    RunnerError,
    TaskOutcome,
    silent_end,
)
from registry.execute.tickets import (
    REVOKED,
    TIME_LIMIT,
    Batch,
    Ended,
    Submitted,
    Ticket,
    jobs_folder,
    open_batches,
    remove_unwritten,
    write_batch,
)
from registry.plan.project import Project
from registry.plan.task import Task
from registry.record.liveness import journal_status
from registry.record.states import State
from registry.store.durable import StoreError, locked
from registry.store.parts import Part

T = TypeVar("T")

INTERRUPT_SECONDS = 60.0
"""How long interrupted jobs have to record their end; Slurm's own KillWait is 30 s by default."""
TRIES = 3
_LOOK_SECONDS = 0.2
_LOG_BYTES = 8000


class QueueError(RuntimeError):
    """A queue that cannot be asked now, or has refused what it was given."""


class _SilentError(QueueError):
    """A queue has answered before, and does not now."""


class Phase(Enum):
    """How a job stands in a queue."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"
    LOST = "lost"
    """It ended for a reason of the queue's own (preempted, over time, its node gone)."""
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Standing:
    """What a queue says of a job: its phase, and why, in the queue's own words.

    ``status`` is how its process ended, negative for a signal, where the queue knows it.
    """

    phase: Phase
    words: str = ""
    status: int | None = None


class Terms(Protocol):
    """What the settings of any queue say: how often a run begins again, how many jobs are in the
    queue at a time, at most, and the seconds between two looks at it.
    """

    requeues: int
    jobs: int
    poll: int


class Queue(Protocol):
    """What runs commands elsewhere. Methods raise `QueueError` where the queue does not answer."""

    name: str
    """For people: ``slurm``."""

    def submit(self, batch: Batch, demand: Demand) -> str:
        """Submit a batch, as an array if it has several jobs; return the queue's identifier."""

    def find(self, batch: Batch) -> str:
        """Return the identifier of a batch that may have been submitted; "" if it was not."""

    def standings(self, jobs: Sequence[Submitted]) -> Mapping[str, Standing]:
        """Return how jobs stand, by name, without what the queue has forgotten or never knew."""

    def cancel(self, jobs: Sequence[Submitted]) -> None:
        """End jobs: those that wait at once, those that run by a signal first."""

    def release(self, job: Submitted) -> None:
        """Forget a job that is over."""

    def close(self) -> None:
        """Let go of what was opened."""

    def log(self, job: Submitted) -> Path:
        """Return the file for what the queue itself, and what it starts, prints of a job."""


def open_queue(project: Project, executor: Executor) -> Queue:
    """Return the queue of a declared executor, which is asked when it is used first."""
    path: str = type(executor.settings).queue
    make: Callable[[Any, Path], Queue] = EntryPoint(executor.kind, path, EXECUTOR_GROUP).load()
    return make(executor.settings, project.root)


def open_queued(project: Project, executor: Executor, stages: Collection[str]) -> QueueRunner:
    """Return the runner of a declared executor that is a queue."""
    return QueueRunner(project, executor, open_queue(project, executor))


def queue_notes(project: Project) -> Iterator[tuple[str, str]]:
    """Yield what each job is at that a queue has not begun, and why, in its own words."""
    executors, batches = project.declaration.executors, open_batches(project.root)
    for name in dict.fromkeys(batch.executor for batch in batches):
        jobs = [j for b in batches if b.executor == name for j in b.jobs if not j.is_closed]
        if not jobs or not hasattr(getattr(executors.get(name), "settings", None), "queue"):
            continue
        queue = open_queue(project, executors[name])
        try:
            standings = queue.standings(jobs)
        except QueueError as error:
            yield from ((_what(job), f"submitted to {name!r}; {error}") for job in jobs)
            continue
        for job in jobs:
            if (standing := standings.get(job.name)) and standing.phase is Phase.WAITING:
                yield _what(job), _waits(queue, job, standing)


def _what(job: Submitted) -> str:
    part = Part.parse(job.ticket.part)
    return f"{job.ticket.cell}, {part}:" if part else job.ticket.cell


def _waits(queue: Queue, job: Submitted, standing: Standing) -> str:
    return f"waits in {queue.name}, job {job.id}: {standing.words}"


@dataclass
class _Followed:
    """A job that is waited for: what it is, where it was submitted, what was last seen of it."""

    job: Job
    at: Submitted
    was_gone: bool = False
    waits: str = ""
    shown: Progress | None = None


@dataclass(frozen=True)
class _Verdict:
    """What is to be done about a job: go on following it, submit it again, or tell its outcome."""

    outcome: TaskOutcome | None = None
    again: bool = False


_FOLLOW, _AGAIN = _Verdict(), _Verdict(again=True)


class QueueRunner:
    """Runs jobs by a queue.

    Parameters
    ----------
    project : Project
        Whose tasks they are.
    executor : Executor
        As it is declared; its settings have `requeues`, `jobs` (in the queue at a time, at most)
        and `poll` (seconds between two looks).
    queue : Queue
        The queue.
    """

    def __init__(self, project: Project, executor: Executor, queue: Queue):
        self.queue = queue
        self.terms: Terms = executor.settings
        self._project, self._executor = project, executor
        path = project.declaration.path
        if path is None:
            raise RunnerError("a declaration that is in no file cannot be submitted")
        self._file, self._text = path, read_text(path)
        self._ready: list[tuple[Job, Ticket]] = []
        self._answers = False  # whether the queue has ever answered
        self._silence, self._silent_until = "", 0.0
        self._followed: dict[str, _Followed] = {}
        self._failed: list[TaskOutcome] = []  # what could not be submitted
        self._found: dict[tuple[str, str, str], Submitted] = {}
        self._looked, self._has_looked = 0.0, False
        self.runs: set[str] = set()
        self._take_over()

    # -- what an earlier driver has left -------------------------------------------------------

    def _take_over(self) -> None:
        """Find the jobs of a driver that lives no more."""
        root = self._project.root
        if not jobs_folder(root).is_dir():
            return
        with locked(jobs_folder(root) / ".lock"):
            remove_unwritten(root)
            own = [b for b in open_batches(root) if b.executor == self._executor.name]
            for batch in own:
                if not batch.is_watched:
                    batch.take()
                    self._take(batch)

    def _take(self, batch: Batch) -> None:
        if not batch.id and (id := self._asked(lambda: self.queue.find(batch))):
            batch.note_id(id)
        for job in batch.jobs:
            if job.is_closed:
                continue
            self.runs.update(job.run_uids)
            is_submitted = bool(batch.id) or not job.claim(REVOKED)
            if is_submitted and (job.ended is None or _is_open(job)):
                if older := self._found.get(job.task):  # that was submitted again
                    older.close()
                self._found[job.task] = job
            else:  # never submitted, or over: what it made, the plan knows
                job.close()
        batch.remove_if_closed()

    def kept(self, task: Task) -> str:
        """Return the identifier of a job at a task that was started before; "" for none."""
        part = task.part.code if task.part else ""
        job = self._found.get((task.experiment, task.fingerprint, part))
        return job.ticket.job if job else ""

    # -- start ---------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether another job can be submitted."""
        return len(self._followed) + len(self._ready) < self.terms.jobs

    def start(self, job: Job) -> None:
        """Take a job up, to be submitted with those that become ready at the same time."""
        kept = next((at for at in self._found.values() if at.ticket.job == job.uid), None)
        if kept is not None:
            self._followed[job.uid] = _Followed(job, self._found.pop(kept.task))
        else:
            self._ready.append((job, self._ticket(job)))

    def _ticket(self, job: Job) -> Ticket:
        return Ticket(
            job.uid,
            job.name,
            job.task.cell.experiment,
            job.task.fingerprint,
            job.task.current,
            job.task.part.code if job.task.part else "",
            job.journal_only,
            job.repeat,
            requeues=self.terms.requeues,
        )

    def _submit_ready(self) -> None:
        """Submit what is ready; what a queue does not answer about waits until it does."""
        if time.monotonic() >= self._silent_until:
            ready, self._ready = self._ready, []
            self._ready += self._submit(ready)

    def _submit(self, tickets: Iterable[tuple[Job, Ticket]]) -> list[tuple[Job, Ticket]]:
        """Submit jobs, those of one stage that ask for the same as one array.

        Return those about which the queue does not answer.
        """
        groups: dict[tuple[str, Demand], list[tuple[Job, Ticket]]] = {}
        for job, ticket in tickets:
            cell = job.task.cell
            where = self._executor.name, cell.experiment, cell.stage
            demand = self._project.declaration.demand(*where)
            groups.setdefault((cell.stage, demand), []).append((job, ticket))
        left: list[tuple[Job, Ticket]] = []
        self._silence = ""
        for (_, demand), members in groups.items():
            try:
                batch = self._submitted([ticket for _, ticket in members], demand)
            except _SilentError as error:
                self._silence = str(error)
                self._silent_until = time.monotonic() + self.terms.poll
                left += members
                continue
            except (QueueError, StoreError) as error:
                failed = TaskOutcome("", State.FAILED, message=str(error))
                self._failed += [replace(failed, name=j.name, job=j.uid) for j, _ in members]
                continue
            for (job, _), at in zip(members, batch.jobs, strict=True):
                self._followed[job.uid] = _Followed(job, at)
        return left

    def _submitted(self, tickets: Sequence[Ticket], demand: Demand) -> Batch:
        """Submit a batch, which is on disk before, so that no job is lost or doubled.

        Raises
        ------
        _SilentError
            If the queue, which has answered before, does not answer.
        QueueError
            If it refuses the batch, or has never answered.
        """
        root, given = self._project.root, (self._executor.name, self._file, self._text)
        for attempt in range(1, TRIES + 1):
            batch = write_batch(root, *given, tickets)
            try:
                batch.note_id(self.queue.submit(batch, demand))
                self._answers = True
                return batch
            except QueueError as error:  # it may have been taken all the same
                id = self._asked(partial(self.queue.find, batch))
                if id:
                    batch.note_id(id)
                    return batch
                if not _revoked(batch):
                    return batch
                shutil.rmtree(batch.folder, ignore_errors=True)
                if id is None and self._answers:
                    raise _SilentError(str(error)) from error
                if attempt == TRIES:
                    raise
                time.sleep(self.terms.poll)
        raise AssertionError("unreachable")

    def _asked(self, question: Callable[[], T]) -> T | None:
        """Return what the queue answers; None where it does not."""
        try:
            answer = question()
        except QueueError:
            return None
        self._answers = True
        return answer

    # -- progress ------------------------------------------------------------------------------

    def progress(self) -> Iterator[tuple[str, Progress]]:
        """Submit what is ready; wait a moment; yield the identifiers of runs that came further."""
        self._submit_ready()
        time.sleep(_LOOK_SECONDS)
        if not self._has_looked:
            return
        self._has_looked = False
        if self._silence:
            silence = f"{self.queue.name} does not answer: {self._silence}"
            yield from ((job.uid, Progress(waits=silence)) for job, _ in self._ready)
        for uid, followed in self._followed.items():
            last = followed.at.last
            now = replace(followed.job, uid=last.uid).progress() if last else None
            if followed.waits:
                now = Progress(waits=followed.waits)
            if now is not None and now != followed.shown:
                followed.shown = now
                yield uid, now

    @property
    def _is_time(self) -> bool:
        """Whether queue and disk are to be looked at."""
        return time.monotonic() - self._looked >= self.terms.poll

    # -- the end -------------------------------------------------------------------------------

    def finished(self) -> Sequence[TaskOutcome]:
        """Return what has ended since the last call."""
        failed, self._failed = self._failed, []
        return [*failed, *self._look()] if self._is_time else failed

    def _look(self) -> list[TaskOutcome]:
        """Ask queue and disk how all jobs stand; submit again what was interrupted."""
        self._looked, self._has_looked = time.monotonic(), True
        followed = list(self._followed.values())
        for batch in {each.at.batch.name: each.at.batch for each in followed}.values():
            batch.touch()
        jobs = [each.at for each in followed]
        known = self._asked(lambda: self.queue.standings(jobs)) if jobs else {}
        outcomes, again = [], []
        for each in followed:
            self.runs.update(each.at.run_uids)
            standing = None if known is None else known.get(each.at.name, _FORGOTTEN)
            verdict = self._verdict(each, standing)
            if verdict.outcome is not None:
                self._close(each, standing)
                outcomes.append(replace(verdict.outcome, job=each.job.uid))
            elif verdict.again:
                again.append(each)
        tickets = [(each.job, replace(each.at.ticket, earlier=each.at.tries)) for each in again]
        left = {job.uid for job, _ in self._submit(tickets)} if tickets else set()
        for each in again:  # whose new ticket is on disk
            if each.job.uid not in left:
                self._close(each, None)
        return outcomes

    def _verdict(self, followed: _Followed, standing: Standing | None) -> _Verdict:
        """Return what is to be done about a job; it is over if there is no doubt."""
        job, ended = followed.at, followed.at.ended
        if ended is not None and not _is_open(job):
            return self._told(followed, ended)
        if ended is not None and ended.cause == TIME_LIMIT:
            return self._again(followed)
        if standing is None:
            return _FOLLOW
        is_gone = standing.phase not in (Phase.WAITING, Phase.RUNNING)
        followed.waits = _waits(self.queue, job, standing)
        if standing.phase is not Phase.WAITING:
            followed.waits = ""
        if not is_gone or not followed.was_gone or self._lives(followed):
            followed.was_gone = is_gone
            _refresh(job.folder)  # what it said last may not be seen here yet
            return _FOLLOW
        was_stopped = ended is not None or standing.status in INTERRUPTED
        if standing.phase is Phase.LOST or (was_stopped and standing.phase is not Phase.CANCELLED):
            return self._again(followed)
        if self._was_lost(job, standing) and _has_tries(job):
            return _AGAIN
        if ended is None:
            return self._silent(followed, standing)
        words = ended.message or f"job {job.id} of {self.queue.name} {standing.words}"
        return self._told(followed, replace(ended, message=words))

    def _was_lost(self, job: Submitted, standing: Standing) -> bool:
        """Whether a queue has lost a job, as one whose controller crashed, or never launched it.

        Slurm says of one that its node refused that it failed with status 1; nobody wrote its log.
        """
        if standing is _FORGOTTEN:
            return True
        is_launched = job.last is not None or self.queue.log(job).exists()
        return standing.status == EXIT_FAILED and not is_launched

    def _lives(self, followed: _Followed) -> bool:
        """Whether a run goes on of which the queue knows nothing, as one that outlived a daemon."""
        last = followed.at.last
        if last is None:
            return False
        return journal_status(replace(followed.job, uid=last.uid).journal).status == "RUNNING"

    def _again(self, followed: _Followed) -> _Verdict:
        if _has_tries(followed.at):
            return _AGAIN
        tries, most = followed.at.tries, followed.at.ticket.requeues + 1
        last, message = followed.at.last, ""
        if not followed.at.is_asked:
            message = (
                f"interrupted {tries} times, with requeues = {most - 1}; run it again to go on"
            )
        uid = last.uid if last else None
        return _Verdict(TaskOutcome(followed.job.name, State.INTERRUPTED, uid, message=message))

    def _told(self, followed: _Followed, ended: Ended) -> _Verdict:
        """Return what a run said of its end."""
        run = journal_status(replace(followed.job, uid=ended.uid).journal)
        seconds = 0.0
        if run.start_time and run.stop_time:
            seconds = (run.stop_time - run.start_time).total_seconds()
        return _Verdict(
            TaskOutcome(
                followed.job.name,
                State(ended.ending),
                ended.uid,
                seconds,
                ended.message,
                ended.recorded,
                ended.result,
            )
        )

    def _silent(self, followed: _Followed, standing: Standing) -> _Verdict:
        """Say what became of a job that could not say it."""
        job, last, log = followed.at, followed.at.last, self.queue.log(followed.at)
        words = f"job {job.id or job.name} of {self.queue.name} {standing.words}"
        name, was_ended = followed.job.name, standing.phase is Phase.CANCELLED or job.is_asked
        if last is None and was_ended:
            words, outcome = f"{words} before it began", TaskOutcome(name, State.INTERRUPTED)
        elif last is None:
            words, outcome = f"{words}, and left no trace of a run", TaskOutcome(name, State.FAILED)
            if not log.exists():
                words += (
                    f": whatever runs jobs needs the folder {self._project.root}, at this very "
                    "path, on a file system that it has in common with this machine"
                )
        else:
            asked_by = "SIGTERM" if standing.phase is Phase.CANCELLED else ""
            run = replace(followed.job, uid=last.uid)
            outcome = silent_end(run, EXIT_FAILED, 0.0, asked_by)
            words += f" on {last.host}"
            if outcome.ending is State.COMPLETED:
                return _Verdict(outcome)
            log = run.log if _tail(run.log) and not _tail(log) else log
        # That of the queue goes with its batch, once the end is taken note of.
        kept = (f"(log: {log})",) if log.parent != job.batch.folder else ()
        if lines := _tail(log):
            words = "\n".join([words, *lines, *kept])
        return _Verdict(replace(outcome, message=words))

    def _close(self, followed: _Followed, standing: Standing | None) -> None:
        """Take note of the end of a job; what the queue would still begin of it is cancelled."""
        if self._followed.get(followed.job.uid) is followed:
            del self._followed[followed.job.uid]
        if standing and standing.phase is Phase.WAITING:
            self._asked(lambda: self.queue.cancel([followed.at]))
        self._asked(lambda: self.queue.release(followed.at))
        followed.at.close()
        followed.at.batch.remove_if_closed()

    def close(self) -> None:
        """Let go of the queue; jobs that nobody waits for any more go on."""
        self.queue.close()

    def interrupt(self) -> Sequence[TaskOutcome]:
        """Ask all jobs to end, wait for them to record it, and return what has ended."""
        for job, _ in self._ready:
            self._failed.append(TaskOutcome(job.name, State.INTERRUPTED, job=job.uid))
        self._ready.clear()
        for followed in self._followed.values():
            followed.at.ask()
        self._asked(lambda: self.queue.cancel([each.at for each in self._followed.values()]))
        outcomes, deadline = list(self._failed), time.monotonic() + INTERRUPT_SECONDS
        while self._followed and time.monotonic() < deadline:
            outcomes += self._look()
            time.sleep(_LOOK_SECONDS)
        return outcomes


def _revoked(batch: Batch) -> bool:
    """Give up a submission that nobody has heard of; not if one of its jobs has begun."""
    revoked: list[Submitted] = []
    for job in batch.jobs:
        if not job.claim(REVOKED):
            for other in revoked:
                other.restore()
            return False
        revoked.append(job)
    return True


_FORGOTTEN = Standing(Phase.ENDED, "is not in the queue any more")


def _has_tries(job: Submitted) -> bool:
    """Whether a job that was interrupted begins again."""
    return job.tries <= job.ticket.requeues and not job.is_asked


def _is_open(job: Submitted) -> bool:
    """Whether a run that has ended was interrupted by something that nobody here wished."""
    ended = job.ended
    if ended is None or job.is_asked:
        return False
    return ended.ending == State.INTERRUPTED and bool(ended.cause)


def _refresh(folder: Path) -> None:
    """Have a network's file system look again at what another host wrote into a folder."""
    with suppress(OSError):
        folder.chmod(folder.stat().st_mode)


def _tail(log: Path) -> list[str]:
    """Return the last lines of a log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_BYTES))
            return file.read().decode(errors="replace").strip().splitlines()[-LOG_LINES:]
    except OSError:
        return []
