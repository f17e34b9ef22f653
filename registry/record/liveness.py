"""The status of a run as it really is: one whose process is gone has died, whatever it says."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from registry.record.appendfile import BALLAST_FILE
from registry.record.journal import EVENTS, Journal, journal_folders, read_journal, timestamp
from registry.record.plain import encode
from registry.record.process import ProcessIdentity
from registry.store.durable import StoreError, read_json, write_json

STALE = timedelta(seconds=60)
"""A run of another host without a heartbeat for so long is shown as died."""

STATUS_FILE = "status.json"


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
        "status": status.status,
        "start_time": status.start_time and timestamp(status.start_time),
        "stop_time": status.stop_time and timestamp(status.stop_time),
        "process": status.process and status.process.facts(),
    }
    write_json(folder / STATUS_FILE, summary)


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
        With an empty status if there is no such journal.
    """
    status = _summary(folder)
    if status.ended:
        return status
    status = _as_it_is(status, _last_sign(folder), now)
    if not status.ended:
        return status
    # The process is gone; what it wrote last may be newer than its summary.
    return _as_it_is(status_of(read_journal(folder)), _last_sign(folder), now)


def final_status(folder: Path) -> str:
    """Return the status that a journal ends with, wherever its process is."""
    summary = _summary(folder)
    return summary.status if summary.ended else read_journal(folder).status


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
    times = [_aware(record[name]) for name in ("heartbeat", "start_time") if record.get(name)]
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


def _summary(folder: Path) -> RunStatus:
    summary = read_json(folder / STATUS_FILE)
    if summary is None:
        return status_of(read_journal(folder))
    start, stop = (
        datetime.fromisoformat(summary[name]) if summary.get(name) else None
        for name in ("start_time", "stop_time")
    )
    process = ProcessIdentity.from_facts(summary.get("process") or {})
    return RunStatus(folder.name, summary.get("status", ""), start, stop, process)


def _last_sign(folder: Path) -> datetime | None:
    """Return when the run last wrote to its journal, which every heartbeat does."""
    try:
        return datetime.fromtimestamp((folder / EVENTS).stat().st_mtime, UTC)
    except FileNotFoundError:
        return None


def _aware(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def reap(project_root: Path) -> list[str]:
    """Append a ``died`` event to every journal without an end whose process is gone.

    Only runs of this host are noted: nobody else can be sure. Several may do it at once;
    one event is written.

    Parameters
    ----------
    project_root : Path
        Folder of ``experiments.toml``.

    Returns
    -------
    list of str
        The uids of the runs that were noted, oldest first.
    """
    return [folder.name for folder in journal_folders(project_root) if note_death(folder)]


def note_death(folder: Path) -> bool:
    """Append a ``died`` event to one journal, if its process is gone without an end.

    Returns
    -------
    bool
        Whether this call noted it.
    """
    status = journal_status(folder)
    if status.status != "DIED" or not status.process or status.process.state() != "gone":
        return False
    try:
        (folder / BALLAST_FILE).unlink(missing_ok=True)  # room for the event on a full disk
        with open(folder / EVENTS, "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            noted = _append_death(folder, file.fileno())
    except OSError:  # full disk, or not ours to write
        return False
    with suppress(OSError, StoreError):
        write_status(folder, status_of(read_journal(folder)))
    return noted


def _append_death(folder: Path, file: int) -> bool:
    """Append the event unless the journal has an end by now. The caller holds the lock."""
    journal = read_journal(folder)
    if journal.ended:
        return False
    last_sign = journal.heartbeat or journal.start_time or datetime.now(UTC)
    event = {
        "event": "died",
        "time": timestamp(last_sign),
        "status": "DIED",
        "facts": {"death_noted": timestamp(datetime.now(UTC))},
    }
    torn = os.fstat(file).st_size > journal.size
    os.lseek(file, 0, os.SEEK_END)
    os.write(file, f"{chr(10) if torn else ''}{encode(event)}\n".encode())
    os.fsync(file)
    return True
