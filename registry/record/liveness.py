"""Which process a run is, and its real status: one whose process is gone has died."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal

import psutil

from registry.record.appendfile import BALLAST_FILE
from registry.record.journal import (
    CONSOLE,
    EVENTS,
    STATUS_FILE,
    Journal,
    aware,
    read_journal,
    timestamp,
)
from registry.record.plain import encode_event
from registry.record.wholeness import file_crc32, read_summary, was_stored
from registry.store.durable import StoreError, append_line, checked, locked, write_json
from registry.store.manifest import read_manifest
from registry.wording import counted

State = Literal["alive", "gone", "elsewhere"]


@dataclass(frozen=True)
class ProcessIdentity:
    """One process, distinguished from later ones with the same number.

    Attributes
    ----------
    pid : int
        Its number on its host.
    create_time : float
        When it began, in seconds: since the boot on Linux (which no adjustment of the clock
        moves), since 1970 elsewhere.
    boot : str
        Identity of the boot of the host.
    host : str
        Name of the host.
    pid_namespace : str
        Where its number counts, ``pid:[4026531836]``: a container has numbers of its own. "" where
        there is no such thing, and in records from before it was noted.
    """

    pid: int
    create_time: float
    boot: str
    host: str
    pid_namespace: str = ""

    @classmethod
    def current(cls) -> ProcessIdentity:
        """Return the identity of this process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """Return the identity of a living process of this host.

        Raises
        ------
        ProcessLookupError
            If there is none.
        """
        began = create_time(pid)
        if began is None:
            raise ProcessLookupError(f"no process {pid}")
        return cls(pid, began, boot_id(), socket.gethostname(), pid_namespace())

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> ProcessIdentity | None:
        """Return the identity that stands in a journal or record, or None if there is none."""
        with suppress(KeyError, TypeError, ValueError):
            began = float(facts["create_time"])
            boot, host = str(facts["boot"]), str(facts["host"])
            return cls(int(facts["pid"]), began, boot, host, str(facts.get("pid_namespace") or ""))
        return None

    def facts(self) -> dict[str, Any]:
        """Return the identity as plain values."""
        return asdict(self)

    @property
    def place(self) -> str:
        """Where it runs: the host, or a container of it."""
        return f"{self.host}, in another container" if self._is_contained else self.host

    @property
    def is_of_this_host(self) -> bool:
        """Whether its host has this one's name: containers and machines may share one."""
        return self.host == socket.gethostname()

    @property
    def _is_contained(self) -> bool:
        """Whether another PID namespace of this boot has the process."""
        known = self.pid_namespace and self.boot == boot_id()
        return bool(known) and self.pid_namespace != pid_namespace()

    def state(self) -> State:
        """Return whether the process lives, is gone, or cannot be seen because it is elsewhere.

        A process of another boot is elsewhere: this machine may have been started anew, or another
        one may have its name.
        """
        if not self.is_of_this_host or self.boot != boot_id() or self._is_contained:
            return "elsewhere"
        began = create_time(self.pid)
        return "alive" if began is not None and abs(began - self.create_time) < 0.01 else "gone"


def create_time(pid: int) -> float | None:
    """Return when a process began, or None if there is none or only its remains (a zombie)."""
    with suppress(psutil.Error, OverflowError, ValueError):
        boot = psutil.boot_time() if psutil.LINUX else 0.0  # first, since psutil may keep it
        process = psutil.Process(pid)
        if process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return round(float(process.create_time()) - boot, 2)
    return None


@cache
def boot_id() -> str:
    """Return what changes with every boot of this host."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return str(round(psutil.boot_time()))


def pid_namespace() -> str:
    """Return where numbers of processes count for this one, "" where there is no such thing."""
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


STALE = timedelta(seconds=60)
"""A run that is elsewhere, and without a heartbeat for so long, is shown as died."""


@dataclass(frozen=True)
class RunStatus:
    """What is quickly known of a run.

    Attributes
    ----------
    uid : str
        Identity of the run.
    status : str
        As in :class:`registry.record.journal.Journal`; ``DIED`` also where nobody has noted it yet.
    start_time, stop_time : datetime or None
        UTC.
    process : ProcessIdentity or None
        Who runs it.
    """

    uid: str
    status: str
    start_time: datetime | None = None
    stop_time: datetime | None = None
    process: ProcessIdentity | None = None

    @property
    def ended(self) -> bool:
        """Whether the run is over, however it went."""
        return self.status not in ("", "QUEUED", "RUNNING")


def write_status(folder: Path, status: RunStatus) -> None:
    """Replace the summary of a journal.

    Raises
    ------
    StoreError
        If the disk is full.
    """
    summary = {
        "uid": folder.name,
        "status": status.status,
        "start_time": status.start_time and timestamp(status.start_time),
        "stop_time": status.stop_time and timestamp(status.stop_time),
        "process": status.process and status.process.facts(),
    }
    write_json(folder / STATUS_FILE, checked(summary))


def status_of(journal: Journal) -> RunStatus:
    """Return what a journal itself says of its run's status."""
    process = ProcessIdentity.from_facts(journal.facts)
    return RunStatus(journal.uid, journal.status, journal.start_time, journal.stop_time, process)


def journal_status(folder: Path, now: datetime | None = None) -> RunStatus:
    """Return the status of a run by its journal, without reading the journal where possible.

    Parameters
    ----------
    folder : Path
        The journal.
    now : datetime or None
        When, for runs of other hosts; by default now.

    Returns
    -------
    RunStatus
        With an empty status if there is no such journal, or it cannot be read.
    """
    try:
        status = summary_of(folder)
        if status.ended:
            return status
        status = _as_it_is(status, _last_sign(folder), now)
        if not status.ended:
            return status
        # The process is gone; what it wrote last may be newer than its summary.
        journal = read_journal(folder, with_metrics=False)
    except OSError:
        return RunStatus(folder.name, "")
    status = _as_it_is(status_of(journal), _last_sign(folder), now)
    if status.status == "DIED" and (published := _published(journal)):
        return replace(status, status=_whole_end(journal, published)["status"])
    return status


def shown_status(
    record: Mapping[str, Any], now: datetime | None = None, journals: Path | None = None
) -> str:
    """Return the status to show for a record of MongoDB.

    Parameters
    ----------
    record : mapping
        A document of ``runs``, with ``status``, ``start_time``, ``heartbeat`` and
        ``info.factbook``; records made by Sacred alone have no process and go by their heartbeat.
    now : datetime or None
        When; by default now.
    journals : Path or None
        Folder of the project's journals. A run that ended while the database was away is known
        by its journal.
    """
    stored = str(record.get("status", ""))
    if stored != "RUNNING":
        return stored
    info = record.get("info")
    facts = (info.get("factbook") if isinstance(info, Mapping) else None) or {}
    if journals and facts.get("uid") and (journals / facts["uid"] / EVENTS).exists():
        return journal_status(journals / facts["uid"], now).status
    status = RunStatus(str(facts.get("uid", "")), stored, process=ProcessIdentity.from_facts(facts))
    times = [aware(record[name]) for name in ("heartbeat", "start_time") if record.get(name)]
    return _as_it_is(status, max(times, default=None), now).status


def _as_it_is(status: RunStatus, last_sign: datetime | None, now: datetime | None) -> RunStatus:
    if status.status != "RUNNING":
        return status
    state = status.process.state() if status.process else "elsewhere"
    stale = last_sign is None or (now or datetime.now(UTC)) - last_sign > STALE
    died = state == "gone" or (state == "elsewhere" and stale)
    if not died:
        return status
    return RunStatus(status.uid, "DIED", status.start_time, last_sign, status.process)


def summary_of(folder: Path) -> RunStatus:
    """Return what the summary of a journal says, or the journal where that cannot be read."""
    summary = read_summary(folder)
    if summary is None:
        return status_of(read_journal(folder, with_metrics=False))
    try:
        start, stop = (
            datetime.fromisoformat(summary[name]) if summary.get(name) else None
            for name in ("start_time", "stop_time")
        )
    except (TypeError, ValueError):  # not as it was written
        return status_of(read_journal(folder, with_metrics=False))
    process = ProcessIdentity.from_facts(summary.get("process") or {})
    return RunStatus(folder.name, str(summary.get("status", "")), start, stop, process)


def _last_sign(folder: Path) -> datetime | None:
    """Return when the run last wrote to its journal, which every heartbeat does."""
    try:
        return datetime.fromtimestamp((folder / EVENTS).stat().st_mtime, UTC)
    except OSError:
        return None


def _published(journal: Journal) -> datetime | None:
    """Return when the dataset of a run was complete, None if it has no place in the store.

    A run says what it is about to publish, result and all. If it was killed after it had
    published that, it went well.
    """
    output = journal.facts.get("output")
    if not isinstance(output, dict):
        return None
    root = journal.folder.parents[2]  # of the project
    manifest = read_manifest(root / str(output.get("path")))
    if manifest is None or manifest.get("run") != journal.uid:
        return None
    return datetime.fromisoformat(manifest["stopped"])


def note_death(folder: Path, interrupted_by: str = "") -> bool:
    """Append an end to one journal, if its process is gone without one.

    The end is ``completed`` where the run had published its dataset, and ``died`` otherwise. Only
    runs of this host are noted, and of others of its name once they are silent: nobody else can be
    sure. Several may do it at once; one event is written.

    Parameters
    ----------
    folder : Path
        The journal.
    interrupted_by : str
        The signal that had asked the process to end, as ``SIGTERM``: then the end is
        ``interrupted``.

    Returns
    -------
    bool
        Whether this call noted it.
    """
    status = summary_of(folder)
    if status.status not in ("RUNNING", "DIED"):
        return False
    if not status.process or not status.process.is_of_this_host:
        return False
    running = replace(status, status="RUNNING")
    if _as_it_is(running, _last_sign(folder), None).status == "RUNNING":
        return False
    return _note(folder, lambda journal: _end_of(journal, interrupted_by))


def note_adoption(folder: Path) -> bool:
    """Append to one journal that the run went well, whatever it says: its dataset is the task's.

    Returns
    -------
    bool
        Whether this call noted it.
    """
    return _note(folder, _adopted)


def _note(folder: Path, end_of: Callable[[Journal], dict[str, Any] | None]) -> bool:
    """Append the end that a journal should have; whoever was quicker has done it."""
    try:
        (folder / BALLAST_FILE).unlink(missing_ok=True)  # room for the event on a full disk
        with locked(folder / EVENTS):
            journal = read_journal(folder, with_metrics=False)
            end = end_of(journal)
            if end is not None:
                facts = {"death_noted": timestamp(datetime.now(UTC)), **end.get("facts", {})}
                check = journal.console_crc32 or file_crc32(folder / CONSOLE)
                seen: dict[str, Any] = {"console_crc32": check}
                if journal.lines:  # they are numbered
                    seen["after"] = journal.lines
                line = encode_event({**end, **seen, "facts": facts}, journal.uid)
                append_line(folder / EVENTS, line)
    except (OSError, StoreError):  # full disk, or not ours to write
        return False
    if journal.refresh().ended:
        with suppress(OSError, StoreError):
            write_status(folder, status_of(journal))
    return end is not None


def _missing_points(journal: Journal) -> int:
    """Return how many points a run had logged that its journal does not have."""
    if journal.announced is None:
        return 0
    series = read_journal(journal.folder).metrics.values()
    return journal.announced - sum(each.count for each in series)


def _end_of(journal: Journal, interrupted_by: str = "") -> dict[str, Any] | None:
    """Return the event that ends a run whose process is gone; None if it has its end."""
    if not journal.ended and was_stored(journal.folder):  # which only the end of a run is
        return None
    if journal.status in ("RUNNING", "DIED") and (published := _published(journal)):
        return _whole_end(journal, published)
    if journal.ended:
        return None
    last_sign = journal.heartbeat or journal.start_time or datetime.now(UTC)
    end = {"event": "died", "time": timestamp(last_sign), "status": "DIED"}
    if interrupted_by:
        facts = {"interrupted_by": interrupted_by}
        return {**end, "event": "interrupted", "status": "INTERRUPTED", "facts": facts}
    return end


def _adopted(journal: Journal) -> dict[str, Any] | None:
    """Return the event that a run went well which says otherwise; None if it lacks points."""
    published = _published(journal)
    if published is None or journal.status in ("", "COMPLETED") or "lost" in journal.facts:
        return None
    end = _whole_end(journal, published)
    return end if end["status"] != journal.status else None


def _whole_end(journal: Journal, published: datetime) -> dict[str, Any]:
    """Return the event that ends a run whose dataset is whole: only its journal may not be."""
    end: dict[str, Any] = {"event": "completed", "time": timestamp(published)}
    if missing := _missing_points(journal):
        trace = (
            "killed while the disk of its journal was full: "
            f"{counted(missing, 'point is', 'points are')} missing"
        )
        return {**end, "event": "failed", "status": "FAILED", "trace": [trace]}
    return {**end, "status": "COMPLETED"}
