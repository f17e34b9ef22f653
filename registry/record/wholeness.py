"""Whether a journal is as its run left it, by what it says of itself and by what lies beside it."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from registry.record.journal import CONSOLE, OPEN, PROJECTED, STATUS_FILE, Journal
from registry.store.durable import CHECK, at_once, is_as_checked, read_json
from registry.wording import counted

NO_END = "its end is missing"
SHORTER = "it is shorter than what was stored of it"
_FORMER = {"status", "start_time", "stop_time", "process"}
_STATUSES = (*OPEN, "COMPLETED", "INTERRUPTED", "TIMEOUT", "FAILED", "DIED")
_CHUNK = 1 << 20  # bytes


def journal_faults(journal: Journal) -> tuple[str, ...]:
    """Return what shows that a journal is not as its run left it, each as the end of a sentence.

    A journal of a version without numbers, or without checksums, may be damaged in ways that
    nobody can see.
    """
    return tuple(_faults(journal))


def _faults(journal: Journal) -> Iterator[str]:
    if not journal.ended and ended_by_summary(journal.folder):
        journal.refresh()  # the end comes first, and the summary then
    if journal.foreign:
        yield f"it has the beginning of run {journal.foreign}"
    if journal.unreadable:
        yield f"{counted(journal.unreadable, 'line')} cannot be read"
    if journal.missing:
        yield f"{counted(journal.missing, 'line is', 'lines are')} missing"
    if not journal.ended:
        if ended_by_summary(journal.folder) or was_stored(journal.folder):
            yield NO_END
        return
    if _is_shorter(journal):
        yield SHORTER
    yield from _console_faults(journal)


def read_summary(folder: Path) -> dict[str, Any] | None:
    """Return the summary of a journal, None where it is gone, damaged, or that of another run.

    Summaries of former versions have no checksum, and are read as long as they are of that form.
    """
    found = read_json(folder / STATUS_FILE)
    if found is None or not isinstance(found.get("status"), str):
        return None
    if found.keys() == _FORMER:
        return found if found["status"] in _STATUSES else None
    return found if found.get("uid") == folder.name and is_as_checked(found) else None


def summary_status(folder: Path) -> str:
    """Return the status in the summary of a journal, "" if that cannot be read."""
    return str((read_summary(folder) or {}).get("status", ""))


def proven_status(folder: Path) -> str:
    """Return the status in the summary of a journal that has its checksum, "" in any other."""
    found = read_summary(folder) or {}
    return str(found["status"]) if CHECK in found else ""


def ended_by_summary(folder: Path) -> bool:
    """Return whether the summary of a journal says that the run is over."""
    return summary_status(folder) not in OPEN


def was_stored(folder: Path) -> bool:
    """Return whether any database was noted to hold all of a journal, from its end on."""
    return bool(_stored_sizes(folder))


def stored_notes(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what a journal notes of the databases that hold all of it, by their identities.

    ``bytes``, its size then; ``run``, the number of the record; ``seal``, texts, of its fields. A
    note of another form was damaged, and only saved time: it is left out.
    """
    notes = read_json(folder / PROJECTED) or {}
    return {name: note for name, note in notes.items() if _is_sound(note)}


def _is_sound(note: Any) -> bool:
    seal = note.get("seal", [""]) if isinstance(note, dict) else None
    return isinstance(seal, list) and is_seal([note.get("bytes"), *seal])


def is_seal(kept: Any) -> bool:
    """Return whether a value is a seal as files keep it: a size, a digest, names."""
    is_list = isinstance(kept, list) and len(kept) > 1 and type(kept[0]) is int
    return is_list and all(isinstance(part, str) for part in kept[1:])


def _stored_sizes(folder: Path) -> list[int]:
    return [note["bytes"] for note in stored_notes(folder).values()]


def _is_shorter(journal: Journal) -> bool:
    """Return whether an earlier state of a journal was longer, which never happens."""
    if journal.size >= max(_stored_sizes(journal.folder), default=0):
        return False
    return not journal.is_proven or summary_status(journal.folder) != journal.status


def _console_faults(journal: Journal) -> Iterator[str]:
    path = journal.folder / CONSOLE
    if journal.console_crc32:
        if file_crc32(path) != journal.console_crc32:
            yield "its console is not what was printed"
    elif journal.console_length and _characters(path, journal.console_length) < (
        journal.console_length
    ):
        yield "its console is shorter than what was printed"


def file_crc32(path: Path) -> str:
    """Return the CRC-32 of a file in hexadecimal digits; of none that can be read, as of b""."""
    check = 0
    for chunk in _chunks(path):
        check = zlib.crc32(chunk, check)
    return f"{check:08x}"


def _characters(path: Path, most: int) -> int:
    """Return how many characters a text file has, or some number from `most` on."""
    decoder, found = codecs.getincrementaldecoder("utf-8")("replace"), 0
    for chunk in _chunks(path):
        found += len(decoder.decode(chunk))
        if found >= most:
            break
    return found


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb", opener=at_once) as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError:
        return
