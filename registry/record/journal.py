"""The journal: the one thing that a run writes about itself, and what it says when read.

A journal is a folder, ``.factbook/journal/<uid>/``, with

- ``events.jsonl``: one JSON object a line, appended in the order of happening (kinds below),
- ``console``: everything that was printed,
- ``sources/<md5>`` and ``artifacts/<md5>``: contents of files as they were,
- ``status.json``: a summary that is quick to read, replaced at the start and at the end;
- ``projected.json``: which databases hold all of it;
- ``ballast``: room on the disk for the last events, while the run lives.

Every event has ``event`` (its kind), ``time`` (ISO 8601, UTC), and last ``n``, the number of lines
that its run has written before it, and ``crc32`` of the run's uid and the text, by which a line
that was damaged, or that another run wrote, is known and left out. What others append has no ``n``,
and says with ``after`` how many lines of the run's own there were. An end has the CRC-32 of the
console, too. Journals of former versions have checksums of the text alone, older ones lack numbers
and the console's checksum, and the first ones all checksums. Kinds: ``queued``, ``started``,
``facts``, ``info``, ``metrics``, ``resource``, ``artifact``, ``heartbeat``, and one end:
``completed``, ``interrupted``, ``failed``, or ``died``, which only others write.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from registry.record.plain import decode, encode, open_event, shorten
from registry.store.durable import at_once

T = TypeVar("T")

EVENTS = "events.jsonl"
CONSOLE = "console"
STATUS_FILE = "status.json"
PROJECTED = "projected.json"
OPEN = ("", "QUEUED", "RUNNING")
"""Statuses of runs that are not over, or never began."""

_BEGINNING = re.compile(rb'\{"event":"(queued|started)"')
_KIND_WITHIN = 24  # bytes at the beginning of an event in which its kind stands
_CONSOLE_END = 50_000  # characters of the console kept at either end by `Journal.console`
_PART = 14_400_000  # bytes of a part, at most: 300,000 points of three numbers
_POINT = 48  # bytes of three numbers with the indices that BSON writes arrays
_LONGEST_VALUE = 10_000  # characters of a value that is no number


class ReleasedError(Exception):
    """Points that were forgotten, because they were stored, and are asked for again."""


@dataclass
class Part:
    """Consecutive points of one metric, as many as one document holds.

    Attributes
    ----------
    first : int
        Index of its first point in the metric.
    released : int
        Points at its beginning that were forgotten again, because they are stored elsewhere.
    steps, values, timestamps : list
        The points from `released` on; timestamps in milliseconds since 1970, UTC.
    """

    first: int
    released: int = 0
    steps: list[Any] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Points that it ever had."""
        return self.released + len(self.values)

    def since(self, count: int) -> Mapping[str, list[Any]]:
        """Return the points after the first `count`.

        Raises
        ------
        ReleasedError
            If some of them were released.
        """
        start = count - self.released
        if start < 0:
            raise ReleasedError(f"points {count} to {self.released} are released")
        columns = ("steps", "values", "timestamps")
        return {column: getattr(self, column)[start:] for column in columns}

    def release(self, count: int) -> None:
        """Forget the first `count` points."""
        for column in (self.steps, self.values, self.timestamps):
            del column[: max(0, count - self.released)]
        self.released = max(self.released, count)


@dataclass
class Series:
    """All points of one metric, in the order they were logged."""

    parts: list[Part] = field(default_factory=list)
    _bytes: int = 0

    @property
    def count(self) -> int:
        """Points logged."""
        return self.parts[-1].first + self.parts[-1].count if self.parts else 0

    def append(self, step: Any, value: Any, timestamp: int) -> None:
        """Add a point; where a part ends depends on the points alone, never on who reads them."""
        size = _POINT
        if not isinstance(value, (int, float)):
            text = value if isinstance(value, str) else encode(value)
            value = value if len(text) <= _LONGEST_VALUE else shorten(text, _LONGEST_VALUE)
            size += 16 * len(encode(value))
        if not self.parts or self._bytes + size > _PART:
            self.parts.append(Part(first=self.count))
            self._bytes = 0
        self._bytes += size
        part = self.parts[-1]
        part.steps.append(step)
        part.values.append(value)
        part.timestamps.append(timestamp)

    def column(self, name: str) -> list[Any]:
        """Return ``steps``, ``values`` or ``timestamps`` of all points that are not released."""
        return [item for part in self.parts for item in getattr(part, name)]


def new_uid(now: datetime | None = None) -> str:
    """Return an identity for a run: ``20261122T013355-1a2b3c4d``, UTC start and 8 random digits."""
    now = now or datetime.now(UTC)
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def journal_root(project_root: Path) -> Path:
    """Return the folder that holds the journals of a project."""
    return Path(project_root) / ".factbook" / "journal"


def journal_uids(project_root: Path) -> list[str]:
    """Return the names of all journals of a project, oldest run first.

    What else lies in their folder, as the files of a file manager, is none of them.
    """
    try:
        with os.scandir(journal_root(project_root)) as found:
            return sorted(own.name for own in found if own.name[0] != "." and _is_folder(own))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):  # a ring of links
        return entry.is_dir()
    return False


def aware(time: datetime) -> datetime:
    """Return a time in UTC, with its zone; naive times are UTC, as Sacred's are."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def timestamp(time: datetime) -> str:
    """Return a time as journals write it."""
    return aware(time).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Journal:
    """What a journal says so far.

    Attributes
    ----------
    folder : Path
        The journal; its name is the run's uid.
    size : int
        Bytes of ``events.jsonl`` read so far. A journal only grows, so this orders its states.
    status : str
        ``QUEUED``, ``RUNNING``, ``COMPLETED``, ``INTERRUPTED`` (or another status of Sacred's
        interrupts), ``FAILED``, ``DIED``; empty before the first event.
    start_time, stop_time, heartbeat : datetime or None
        UTC.
    experiment, host, config, meta, info, facts : dict
        As Sacred gave them, plain; ``facts`` are the registry's own.
    metrics : dict of str to Series
        What was logged, by name.
    resources : list of [path, md5]
        Files that were read.
    artifacts : list of dict
        Files that were made: ``name``, ``path``, ``md5``, ``bytes``, ``kept``, ``content_type``,
        ``metadata``.
    result : object
        What the command returned.
    fail_trace : list of str or None
        Of a run that failed.
    console_length : int
        Characters of the console, as they were last counted.
    console_crc32 : str
        CRC-32 of the console of a run that is over; "" where that was not noted.
    announced : int or None
        How many points the run had logged when it was about to publish its dataset.
    unreadable : int
        Lines that are damaged, or of another form.
    lines : int
        Lines that the run itself had written, as far as they are numbered.
    missing : int
        Lines of these that are gone.
    is_counted : bool
        Whether the end says how many lines there were before it.
    foreign : str
        The other run whose beginning stands here, "" if none does. Nothing of it is taken.
    with_metrics : bool
        Whether metrics are read; they are most of a journal.
    """

    folder: Path
    size: int = 0
    status: str = ""
    command: str = ""
    start_time: datetime | None = None
    stop_time: datetime | None = None
    heartbeat: datetime | None = None
    experiment: dict[str, Any] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Series] = field(default_factory=dict)
    resources: list[list[Any]] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    result: Any = None
    fail_trace: list[str] | None = None
    console_length: int = 0
    console_crc32: str = ""
    announced: int | None = None
    unreadable: int = 0
    lines: int = 0
    missing: int = 0
    is_counted: bool = False
    foreign: str = ""
    _is_foreign: bool = False  # whether what follows is of that run
    _is_marked: bool = False  # whether a line was there whose checksum is of the uid too
    _damaged: int = 0  # lines since the last one with a number
    with_metrics: bool = True

    @property
    def uid(self) -> str:
        """Identity of the run."""
        return self.folder.name

    @property
    def ended(self) -> bool:
        """Whether the run is over, however it went."""
        return self.status not in OPEN

    @property
    def is_proven(self) -> bool:
        """Whether it can be seen that no line is damaged or gone, of a run that is over."""
        return self.ended and self.is_counted and not (self.unreadable or self.missing)

    def refresh(self) -> Journal:
        """Read what was appended since the last time; a torn last line waits for its rest."""
        try:
            with open(self.folder / EVENTS, "rb", opener=at_once) as file:
                file.seek(self.size)
                data = file.read()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return self
        whole = data[: data.rfind(b"\n") + 1]
        for line in whole.splitlines():
            self._apply(line)
        self.size += len(whole)
        return self

    def console(self) -> str:
        """Return what was printed: all of it, or both ends and how much was left out between."""
        most = 4 * _CONSOLE_END  # bytes that so many characters take at most
        try:
            with open(self.folder / CONSOLE, "rb", opener=at_once) as file:
                head = file.read(most)
                size = file.seek(0, 2)
                if size <= most and self.console_length <= 2 * _CONSOLE_END:
                    return head.decode("utf-8", "replace")
                file.seek(max(0, size - most))
                tail = file.read().decode("utf-8", "replace")[-_CONSOLE_END:]
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return ""
        start = head.decode("utf-8", "replace")[:_CONSOLE_END]
        left_out = max(0, self.console_length - len(start) - len(tail))
        return f"{start}\n[… {left_out} characters left out; the journal has them …]\n{tail}"

    def _apply(self, line: bytes) -> None:
        try:
            text, number, is_own = open_event(line, self.uid)
            if self._is_marked and is_own is False:
                raise ValueError("a line of a former version after one of this")
            if self._is_foreign and not (is_own or _BEGINNING.match(text)):
                raise ValueError(f"a line of run {self.foreign}")
            self._is_marked |= bool(is_own)
            if number is not None:
                self._count(number)
            if self.with_metrics or b'"metrics"' not in text[:_KIND_WITHIN]:
                self._take(decode(text), number)
        except Exception:  # a line of a form that no run writes
            self._damaged += bool(line.strip())
            self.unreadable += bool(line.strip())

    def _count(self, number: int) -> None:
        """Count what is missing before a line of a number; a ValueError if it was there already."""
        if 0 < number < self.lines:
            raise ValueError(f"line {number} is there twice")
        self._count_missing(number)
        # A journal that is begun anew, at 0, goes on; one that is over does not.
        self.lines = max(self.lines if self.ended else 0, number + 1)

    def _count_missing(self, number: int) -> None:
        self.missing += max(0, number - self.lines - self._damaged)
        self.lines, self._damaged = max(self.lines, number), 0

    def _take(self, event: dict[str, Any], number: int | None) -> None:
        """Take what an event says; one of another form raises an error that tells nothing."""
        if event.pop("n", None) != number:
            raise ValueError("a line with a number has lost its checksum")
        match kind := event["event"]:
            case "queued" | "started":
                given = {"command": event["command"]}
                given |= {n: _of(event, n, dict) for n in ("experiment", "host", "config", "meta")}
                facts, moment = _of(event, "facts", dict), _time(event)
                self._is_foreign = facts.get("uid", self.uid) != self.uid
                if self._is_foreign:
                    self.foreign = str(facts["uid"])
                    raise ValueError(f"the beginning of run {self.foreign}")
                for name, value in given.items():
                    setattr(self, name, value)
                self.facts.update(facts)
                if kind == "started":
                    self.start_time = moment
                if self.ended:  # lines out of order: it is over all the same
                    self.unreadable += 1
                else:
                    self.status = "RUNNING" if kind == "started" else "QUEUED"
            case "facts":
                self.facts.update(_of(event, "facts", dict))
                self.result = event.get("result", self.result)
                self.announced = event.get("logged", self.announced)
            case "info":
                self.info.update(_of(event, "set", dict))
                for name in event["removed"]:
                    self.info.pop(name, None)
            case "metrics":
                for entry in event["metrics"]:
                    series = self.metrics.setdefault(entry["name"], Series())
                    columns = (entry[column] for column in ("steps", "values", "timestamps"))
                    for point in zip(*columns, strict=True):
                        series.append(*point)
            case "resource":
                if (resource := [event["path"], event["md5"]]) not in self.resources:
                    self.resources.append(resource)
            case "artifact":
                self.artifacts.append({k: event[k] for k in event if k not in ("event", "time")})
            case "heartbeat":
                self.heartbeat, self.console_length = _time(event), int(event["console"])
                self.console_crc32 = ""  # of a run that lives after all
                self.result = event.get("result", self.result)
            case "completed" | "interrupted" | "failed" | "died":
                if not (kind == "died" and self.ended):
                    self._end(event, number)
            case _:
                self.unreadable += 1

    def _end(self, event: dict[str, Any], number: int | None) -> None:
        facts = _of(event, "facts", dict) if "facts" in event else {}
        status, moment = _of(event, "status", str), _time(event)
        before = event.get("after", number)
        if before is not None:
            self._count_missing(int(before))
        self.is_counted = before is not None
        self.console_crc32 = str(event.get("console_crc32", ""))
        self.console_length = int(event.get("console", self.console_length))
        self.status, self.stop_time = status, moment
        self.result = event.get("result", self.result)
        self.fail_trace = event.get("trace")
        self.facts.update(facts)


def read_journal(folder: Path, *, with_metrics: bool = True) -> Journal:
    """Return all that a journal says, or all but the metrics; an empty state if there is none."""
    return Journal(Path(folder), with_metrics=with_metrics).refresh()


def _of(event: dict[str, Any], name: str, kind: type[T]) -> T:
    """Return what an event says, which must be of a kind; a TypeError otherwise."""
    value = event[name]
    if not isinstance(value, kind):
        raise TypeError(f"{name}: expected {kind.__name__}; got {value!r}")
    return value


def _time(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["time"])
