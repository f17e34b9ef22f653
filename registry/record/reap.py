"""Note the death of runs that could not note it themselves."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from registry.record.appendfile import BALLAST_FILE
from registry.record.journal import EVENTS, journal_folders, read_journal, timestamp
from registry.record.plain import encode
from registry.record.process import ProcessIdentity
from registry.record.status import journal_status, status_of, write_status
from registry.store.durable import StoreError


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
    if status.status != "DIED" or not _is_gone(status.process):
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


def _is_gone(process: ProcessIdentity | None) -> bool:
    return process is not None and process.state() == "gone"


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
