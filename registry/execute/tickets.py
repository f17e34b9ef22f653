"""Tickets: what a queue is given to run, on disk, before it is submitted and while it runs.

A batch is what is submitted at once: one job, or an array of them. Its folder is what the driver
and its jobs have in common, so that either may die and be started again, on whatever host::

    .factbook/jobs/<digest>.toml              the declaration, as it was when it was submitted
    .factbook/jobs/<batch>/batch.json         what is submitted: written before, and never again
    .factbook/jobs/<batch>/driver.json        who waits for it; touched while that lives
    .factbook/jobs/<batch>/id                 the queue's own identifier, once it is known
    .factbook/jobs/<batch>/<index>/claim      who was first: the job that began, or the driver that
                                              gave the submission up because nobody has heard of it
    .factbook/jobs/<batch>/<index>/<n>.begun  a run of this job, from 1
    .factbook/jobs/<batch>/<index>/<n>.ended  how it ended
    .factbook/jobs/<batch>/<index>/asked      it is to end
    .factbook/jobs/<batch>/<index>/closed     the driver has taken note of its end

Everything is JSON. A job is named by batch and index, ``20261130T080000-1a2b3c4d:0``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from registry.record.journal import new_uid
from registry.record.liveness import ProcessIdentity
from registry.store.durable import (
    STATE_FOLDER,
    make_state_folder,
    read_json,
    write_json,
    write_whole,
)

JOB, REVOKED = "job", "revoked"
SILENT_SECONDS = 60.0
"""A driver of another host that was not heard of for so long is taken for dead."""


@dataclass(frozen=True)
class Ticket:
    """What a job is to do.

    Attributes
    ----------
    job : str
        Identifier by which the driver knows it, and which its first run has.
    cell, experiment, fingerprint : str
        The task.
    current : str
        The task's current run when it was found to be due.
    part : str
        Which part of the task, as :attr:`registry.store.parts.Part.code`; "" for the whole.
    journal_only, repeat : bool
        As of :class:`registry.execute.runner.Job`.
    earlier : int
        How often it was tried before this was submitted again.
    requeues : int
        How often a run that was interrupted begins again.
    """

    job: str
    cell: str
    experiment: str
    fingerprint: str
    current: str = ""
    part: str = ""
    journal_only: bool = False
    repeat: bool = False
    earlier: int = 0
    requeues: int = 0


@dataclass(frozen=True)
class Begun:
    """A run of a job that has begun: its number, identifier, host and place in the queue."""

    number: int
    uid: str
    host: str
    place: str


@dataclass(frozen=True)
class Ended:
    """How a run of a job ended.

    Attributes
    ----------
    ending, uid, message, recorded, result
        As of :class:`registry.execute.runner.TaskOutcome`.
    cause : str
        What had asked it to end: `TIME_LIMIT` or `SIGNAL`; "" for nothing.
    """

    ending: str
    uid: str
    message: str = ""
    recorded: bool = True
    result: Mapping[str, Any] = field(default_factory=dict)
    cause: str = ""


TIME_LIMIT, SIGNAL = "time limit", "signal"
"""What asks a run to end: the notice of its limit, or any other signal."""


class TicketError(RuntimeError):
    """A job that has no ticket, or whose ticket is not valid any more."""


def jobs_folder(root: Path) -> Path:
    """Return the folder of all tickets of a project."""
    return root / STATE_FOLDER / "jobs"


@dataclass(frozen=True)
class Batch:
    """What is submitted at once; its folder is the whole of it."""

    folder: Path

    @property
    def name(self) -> str:
        """What distinguishes it from all others; queues keep it as a comment."""
        return self.folder.name

    @cached_property
    def _content(self) -> dict[str, Any]:
        content = read_json(self.folder / "batch.json")
        if content is None:
            raise TicketError(f"{self.folder}: there is no such batch")
        return content

    @property
    def executor(self) -> str:
        """Name of the executor that it was submitted to."""
        return str(self._content["executor"])

    @property
    def declaration(self) -> tuple[Path, Path]:
        """The declaration's own file, and a copy of what it said."""
        return Path(self._content["file"]), self.folder.parent / self._content["declaration"]

    @cached_property
    def tickets(self) -> tuple[Ticket, ...]:
        """What its jobs are to do, by index."""
        return tuple(Ticket(**entry) for entry in self._content["tickets"])

    def job(self, index: int) -> Submitted:
        """Return one of its jobs."""
        return Submitted(self, index)

    @property
    def jobs(self) -> Iterator[Submitted]:
        """All of its jobs."""
        return (Submitted(self, index) for index in range(len(self.tickets)))

    @property
    def id(self) -> str:
        """The queue's identifier; "" while it is not known."""
        return str((read_json(self.folder / "id") or {}).get("id", ""))

    def note_id(self, id: str) -> None:
        """Note the queue's identifier."""
        write_json(self.folder / "id", {"id": id})

    # who waits for it

    def take(self) -> None:
        """Note that this process waits for it."""
        write_json(self.folder / "driver.json", ProcessIdentity.current().facts())

    def touch(self) -> None:
        """Show that whoever waits for it lives."""
        with suppress(OSError):
            os.utime(self.folder / "driver.json")

    @property
    def is_ours(self) -> bool:
        """Whether this process waits for it."""
        return self._driver == ProcessIdentity.current()

    @property
    def is_watched(self) -> bool:
        """Whether some process waits for it that lives, as far as can be told."""
        state = self._driver.state() if self._driver else "gone"
        if state == "elsewhere":
            with suppress(OSError):
                return time.time() - (self.folder / "driver.json").stat().st_mtime < SILENT_SECONDS
        return state == "alive"

    @property
    def _driver(self) -> ProcessIdentity | None:
        return ProcessIdentity.from_facts(read_json(self.folder / "driver.json") or {})

    def remove_if_closed(self) -> None:
        """Remove it if the driver has taken note of the ends of all its jobs."""
        if all(job.is_closed for job in self.jobs):
            shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Submitted:
    """A job of a batch: its ticket, and what is known of its runs."""

    batch: Batch
    index: int

    @property
    def name(self) -> str:
        """Batch and index: what ``factbook job`` is given."""
        return f"{self.batch.name}:{self.index}"

    @property
    def ticket(self) -> Ticket:
        """What it is to do."""
        return self.batch.tickets[self.index]

    @property
    def folder(self) -> Path:
        """Where its runs leave what is to be known."""
        return self.batch.folder / str(self.index)

    @property
    def id(self) -> str:
        """The queue's identifier of this job; "" while it is not known."""
        id = self.batch.id
        return f"{id}_{self.index}" if id and len(self.batch.tickets) > 1 else id

    # claims

    def claim(self, by: str) -> bool:
        """Claim the submission for the job or against it; return whether it is claimed so.

        Of a job that begins late and a driver that has given it up, one is first.
        """
        self.folder.mkdir(exist_ok=True)
        scratch = self.folder / f".{by}-{os.getpid()}"
        scratch.write_text(by)
        try:
            os.link(
                scratch, self.folder / "claim"
            )  # whole from the first moment, and atomic on NFS
        except FileExistsError:
            return (self.folder / "claim").read_text() == by
        finally:
            scratch.unlink()
        return True

    def restore(self) -> None:
        """Take back that the submission was given up."""
        (self.folder / "claim").unlink()

    # runs

    def begin(self, host: str, place: str) -> Begun:
        """Note a run that begins, with the next number; two that begin at once get one each."""
        number = len(self._numbers("begun"))
        while True:
            number += 1
            is_first = number + self.ticket.earlier == 1
            begun = Begun(number, self.ticket.job if is_first else new_uid(), host, place)
            scratch = self.folder / f".{number}-{new_uid()}"
            write_json(scratch, asdict(begun))
            try:
                os.link(scratch, self.folder / f"{number}.begun")
                return begun
            except FileExistsError:
                continue
            finally:
                scratch.unlink()

    def end(self, begun: Begun, ended: Ended) -> None:
        """Note how a run ended."""
        write_json(self.folder / f"{begun.number}.ended", asdict(ended))

    @property
    def last(self) -> Begun | None:
        """The run that began last."""
        numbers = self._numbers("begun")
        found = read_json(self.folder / f"{numbers[-1]}.begun") if numbers else None
        return Begun(**found) if found else None

    @property
    def run_uids(self) -> list[str]:
        """Identifiers of the runs that began since it was submitted, oldest first."""
        found = (read_json(self.folder / f"{n}.begun") for n in self._numbers("begun"))
        return [str(begun["uid"]) for begun in found if begun]

    @property
    def task(self) -> tuple[str, str, str]:
        """The task: experiment, fingerprint, and part."""
        return self.ticket.experiment, self.ticket.fingerprint, self.ticket.part

    @property
    def tries(self) -> int:
        """How often it was tried, before it was submitted again too; once if no run has begun."""
        return self.ticket.earlier + max(len(self._numbers("begun")), 1)

    @property
    def ended(self) -> Ended | None:
        """How the last run ended, if it has said so; a run that went well counts most."""
        numbers = self._numbers("ended")
        entries = [read_json(self.folder / f"{number}.ended") for number in numbers]
        found = [Ended(**entry) for entry in entries if entry]
        good = next((ended for ended in found if ended.ending == "completed"), None)
        last = self._numbers("begun")[-1:]
        return good or (found[-1] if found and numbers[-1:] == last else None)

    def _numbers(self, what: str) -> list[int]:
        with suppress(OSError):
            found = (name.split(".") for name in os.listdir(self.folder))
            return sorted(int(n) for n, *rest in found if rest == [what] and n.isdecimal())
        return []

    # what the driver says

    def ask(self) -> None:
        """Ask it to end."""
        self._mark("asked")

    @property
    def is_asked(self) -> bool:
        """Whether it was asked to end."""
        return (self.folder / "asked").exists()

    def close(self) -> None:
        """Note that its end was taken note of."""
        self._mark("closed")

    @property
    def is_closed(self) -> bool:
        """Whether its end was taken note of."""
        return (self.folder / "closed").exists()

    def _mark(self, what: str) -> None:
        with suppress(OSError):
            self.folder.mkdir(exist_ok=True)
            (self.folder / what).touch()


def write_batch(
    root: Path, executor: str, file: Path, text: str, tickets: Sequence[Ticket]
) -> Batch:
    """Write what is about to be submitted.

    Parameters
    ----------
    root : Path
        Folder of the project.
    executor : str
        Where it is submitted to.
    file : Path
        The declaration.
    text : str
        What stands in it, by which the tasks have their fingerprints.
    tickets : sequence of Ticket
        One for each job.

    Raises
    ------
    StoreError
        If the disk is full.
    """
    folder = jobs_folder(root)
    make_state_folder(folder)
    copy = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.toml"
    if not copy.exists():
        write_whole(copy, text.encode())
    batch = Batch(folder / new_uid())
    batch.folder.mkdir()
    batch.take()
    content = {"executor": executor, "file": str(file), "declaration": copy.name}
    entries = [asdict(ticket) for ticket in tickets]
    write_json(batch.folder / "batch.json", {**content, "tickets": entries})
    return batch


def open_batches(root: Path) -> list[Batch]:
    """Return the batches of a project that were written whole, oldest first."""
    with suppress(OSError):
        names = sorted(os.listdir(jobs_folder(root)))
        folders = (jobs_folder(root) / name for name in names)
        return [Batch(folder) for folder in folders if (folder / "batch.json").exists()]
    return []


def remove_unwritten(root: Path) -> None:
    """Remove what drivers that live no more had not written whole, and so not submitted."""
    for folder in jobs_folder(root).glob("*/"):
        if not (folder / "batch.json").exists() and not Batch(folder).is_watched:
            shutil.rmtree(folder, ignore_errors=True)


def find_job(root: Path, name: str) -> Submitted:
    """Return a job by its name.

    Raises
    ------
    TicketError
        If its ticket is not here.
    """
    batch, _, index = name.partition(":")
    found = Batch(jobs_folder(root) / batch)
    if not index.isdecimal() or int(index) >= len(found.tickets):
        raise TicketError(f"{name!r} is no job; expected batch:index")
    return found.job(int(index))
