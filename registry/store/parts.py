"""Parts of one task that several runs write side by side: which run is at which, which are done.

What is known of them lies in the task's folder of what is resumed, so that it goes when that
goes::

    partial/parts/00002-of-00003.lock    locked by the run that writes the part
    partial/parts/00002-of-00003.run     identifier of that run
    partial/parts/00002-of-00003.json    which run has written it, and in how many seconds
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.store.durable import Lock, lock, read_json, write_json

FOLDER = "parts"
MOST_PARTS = 10_000
_NAME = re.compile(r"(\d+)-of-(\d+)\.(?:run|json)")
_TEXT = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True, order=True)
class Part:
    """One of the parts into which a task is cut.

    Attributes
    ----------
    number : int
        From 1.
    of : int
        How many parts there are.
    """

    number: int
    of: int

    def __str__(self) -> str:
        return f"part {self.number} of {self.of}"

    @property
    def code(self) -> str:
        """Both numbers: ``2/3``."""
        return f"{self.number}/{self.of}"

    @classmethod
    def parse(cls, text: str) -> Part | None:
        """Read a :attr:`code`; None where there is none."""
        found = _TEXT.fullmatch(text)
        return cls(*map(int, found.groups())) if found else None

    def share(self, count: int) -> range:
        """Return which of so many pieces are its own: consecutive ones, perhaps none."""
        return range(count * (self.number - 1) // self.of, count * self.number // self.of)


@dataclass(frozen=True)
class WrittenPart:
    """A part that is written, by which run, and how long that took."""

    part: Part
    run: str
    seconds: float

    def entry(self) -> dict[str, Any]:
        """Return it as plain values."""
        own = {"number": self.part.number, "of": self.part.of}
        return {**own, "run": self.run, "seconds": round(self.seconds, 3)}


class PartHold:
    """What keeps other runs from a part while one writes it.

    Parameters
    ----------
    partial : Path
        The task's folder of what is resumed.
    part : Part
        Which.
    run : str
        Identifier of the run that has it.
    held : Lock
        Its lock.
    """

    def __init__(self, partial: Path, part: Part, run: str, held: Lock):
        self._partial, self._part, self._run, self._lock = partial, part, run, held
        _file(partial, part, "json").unlink(missing_ok=True)
        _file(partial, part, "run").write_text(run)

    @property
    def is_held(self) -> bool:
        """Whether this process has it."""
        return self._lock.is_held

    @property
    def holder(self) -> str:
        """The run that has the part by now, "" if none does."""
        return _text(_file(self._partial, self._part, "run"))

    def finish(self, seconds: float) -> None:
        """Note that the part is written."""
        written = WrittenPart(self._part, self._run, seconds)
        write_json(_file(self._partial, self._part, "json"), written.entry())

    def release(self) -> None:
        """Let others have it."""
        if self.holder == self._run:
            _file(self._partial, self._part, "run").unlink()
        self._lock.release()


def hold_part(
    partial: Path, part: Part, run: str, is_running: Callable[[str], bool]
) -> PartHold | str:
    """Take a part for a run; or return the run that is at it, or at a part of another cut.

    The caller holds the task's folder.
    """
    (partial / FOLDER).mkdir(exist_ok=True)
    for other in _begun(partial):
        is_in_the_way = other == part or other.of != part.of
        if is_in_the_way and (run_there := run_at(partial, other, is_running)) is not None:
            return run_there
    held = lock(_file(partial, part, "lock"), wait=False)
    return "" if held is None else PartHold(partial, part, run, held)


def run_at_parts(partial: Path, is_running: Callable[[str], bool]) -> str | None:
    """Return a run that is at any part now, "" if it is not known; None if there is none."""
    found = (run_at(partial, part, is_running) for part in _begun(partial))
    return next((run for run in found if run is not None), None)


def run_at(partial: Path, part: Part, is_running: Callable[[str], bool]) -> str | None:
    """Return the run that is at a part, None if there is none.

    One on another host, whose lock is not seen here, is one whose journal says that it runs.
    """
    run, path = _text(_file(partial, part, "run")), _file(partial, part, "lock")
    if run and is_running(run):
        return run
    held = lock(path, wait=False) if path.exists() else None
    if held is None and path.exists():
        return run
    if held is not None:
        held.release()
    return None


def written_part(partial: Path, part: Part) -> WrittenPart | None:
    """Return what is known of a part that is written, None if it is not."""
    found = read_json(_file(partial, part, "json"))
    try:
        return WrittenPart(part, str(found["run"]), float(found["seconds"])) if found else None
    except (KeyError, TypeError, ValueError):
        return None


def written_parts(partial: Path) -> tuple[WrittenPart, ...]:
    """Return what is known of all parts that are written, in order."""
    found = (written_part(partial, part) for part in sorted(set(_begun(partial))))
    return tuple(written for written in found if written is not None)


def _begun(partial: Path) -> Iterator[Part]:
    for path in (partial / FOLDER).glob("*-of-*"):
        if (found := _NAME.fullmatch(path.name)) is not None:
            yield Part(*map(int, found.groups()))


def _file(partial: Path, part: Part, suffix: str) -> Path:
    return partial / FOLDER / f"{part.number:05d}-of-{part.of:05d}.{suffix}"


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
