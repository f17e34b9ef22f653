"""How a run is recorded: a Sacred observer that writes the journal."""

from __future__ import annotations

import dataclasses
import functools
import logging
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sacred.dependencies import get_digest
from sacred.observers.base import RunObserver
from sacred.observers.mongo import mimetype_detector

from registry.interrupts import signals_held
from registry.record.appendfile import AppendFile, ConsoleFile, Lost
from registry.record.copies import is_copy
from registry.record.journal import CONSOLE, EVENTS, aware, timestamp
from registry.record.liveness import ProcessIdentity, RunStatus, write_status
from registry.record.plain import encode, plain, seal_event, shorten
from registry.store.durable import TEMPORARY, StoreError, sync, whole_file
from registry.suggest import RefusalError

LARGEST_ARTIFACT = 16 * 1024 * 1024
"""Bytes of the largest artifact whose content is kept; larger ones by path and hash alone."""

_LONGEST_TRACE = 50_000  # characters, so that it fits the room that is held back for it
_LOG = logging.getLogger(__name__)


class JournalError(RefusalError):
    """A journal that cannot be begun."""


def _quietly(method: Callable[..., None]) -> Callable[..., None]:
    """Keep an event's error from Sacred, which drops an observer for good at its first error.

    Signals wait, so that an event is written whole.
    """

    @functools.wraps(method)
    def guarded(self: JournalObserver, *args: Any, **kwargs: Any) -> None:
        try:
            with signals_held():
                method(self, *args, **kwargs)
        except Exception:
            _LOG.warning("%s was not journalled", method.__name__, exc_info=True)

    return guarded


class JournalObserver(RunObserver):
    """Writes everything that Sacred reports of a run to its journal.

    It needs no server, and none of its events raises. Values become plain JSON
    (:func:`registry.record.plain.plain`).

    Parameters
    ----------
    folder : Path
        The journal, made here; its name is the run's uid.
    facts : mapping, optional
        What the registry knows of the run (experiment, fingerprint, inputs, …); recorded under
        ``info.factbook`` together with the uid and the process.
    sources : mapping of str to bytes, optional
        By MD5 digest, the sources' texts as they were loaded; others are read when the run starts.

    Raises
    ------
    JournalError
        If the journal cannot be made, or the disk has no room for it.
    """

    priority = 100  # before observers that may hang

    def __init__(
        self,
        folder: Path,
        facts: Mapping[str, Any] | None = None,
        sources: Mapping[str, bytes] | None = None,
    ):
        self.folder = Path(folder)
        self._sources = sources or {}
        self._facts: dict[str, Any] = plain(facts or {})
        self._info: dict[str, str] = {}
        self._result = encode(None)
        self._points = 0  # logged so far
        self._status = RunStatus(self.folder.name, "")
        self._run: Any = None
        try:
            self._events = AppendFile(
                self.folder / EVENTS, functools.partial(seal_event, uid=self.folder.name)
            )
        except OSError as error:
            raise JournalError(f"cannot begin the journal {self.folder}: {error}") from error
        self._console = ConsoleFile(self.folder / CONSOLE)
        self.lost = Lost()
        """What did not fit on the journal's disk; known when the run is over."""

    def watch(self, run: Any) -> None:
        """Take the end of the console from a Sacred run, which forgets it when the run fails."""
        self._run = run

    @property
    def has_begun(self) -> bool:
        """Whether the run's start was reported, or that it waits."""
        return bool(self._status.status)

    def discard(self) -> None:
        """Remove the journal of a run that never began; nothing can be said of it."""
        self._events.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @_quietly
    def set_facts(self, **facts: Any) -> None:
        """Add to what stands under ``info.factbook``, or replace it, key by key."""
        self._facts.update(plain(facts))
        if self.has_begun:
            self._write("facts", urgent=True, facts=plain(facts))

    @_quietly
    def announce(self, result: Any, **facts: Any) -> None:
        """Note what the run is about to publish: with it, the record of a killed run is whole.

        Parameters
        ----------
        result : object
            What the run will return.
        **facts
            For :meth:`set_facts`.
        """
        self._run._stop_heartbeat()  # after a last one, of what was logged and printed so far
        if self._run._heartbeat is not None:
            self._run._heartbeat.join()  # Sacred waits for it for two seconds
        self._facts.update(plain(facts))
        values = {"logged": self._points, **self._new_result(result)}
        self._write("facts", urgent=True, facts=plain(facts), **values)

    @_quietly
    def queued_event(self, queue_time: datetime, **event: Any) -> None:
        """Note a run that waits to be started."""
        self._begin("queued", "QUEUED", queue_time, event)

    @_quietly
    def started_event(self, start_time: datetime, **event: Any) -> None:
        """Note the start of the run and keep its sources."""
        self._begin("started", "RUNNING", start_time, event)

    @_quietly
    def heartbeat_event(
        self, info: Mapping[str, Any], captured_out: str, beat_time: datetime, result: Any
    ) -> None:
        """Note that the run lives, what it printed, and what changed in its info."""
        self._write_info(plain(dict(info)))
        self._console.update(captured_out or "")
        values = {"console": self._console.length, **self._new_result(result)}
        self._write("heartbeat", beat_time, **values)

    @_quietly
    def completed_event(self, stop_time: datetime, result: Any) -> None:
        """Note that the run went well."""
        self._end("completed", "COMPLETED", stop_time, self._new_result(result))

    @_quietly
    def interrupted_event(self, interrupt_time: datetime, status: str) -> None:
        """Note that the run was stopped, and by what."""
        cause = sys.exc_info()[1]
        name = getattr(cause, "signal_name", None)
        name = name or ("SIGINT" if isinstance(cause, KeyboardInterrupt) else type(cause).__name__)
        facts = {"interrupted_by": name} if cause else {}
        self._end("interrupted", str(status), interrupt_time, {"facts": facts})

    @_quietly
    def failed_event(self, fail_time: datetime, fail_trace: list[str]) -> None:
        """Note that the run failed, and why."""
        trace: list[str] = plain(fail_trace)
        if sum(map(len, trace)) > _LONGEST_TRACE:
            trace = [shorten("".join(trace), _LONGEST_TRACE)]
        self._end("failed", "FAILED", fail_time, {"trace": trace})

    @_quietly
    def resource_event(self, filename: str) -> None:
        """Note a file that the run reads."""
        with suppress(OSError):
            self._write("resource", path=str(filename), md5=get_digest(filename))

    @_quietly
    def artifact_event(
        self, name: str, filename: str, metadata: Any = None, content_type: str | None = None
    ) -> None:
        """Note a file that the run made, and keep its content if it is not large."""
        path = Path(filename)
        size = path.stat().st_size
        kept = size <= LARGEST_ARTIFACT
        md5 = _keep(path, self.folder / "artifacts") if kept else get_digest(path)
        self._write(
            "artifact",
            name=plain(name),
            path=plain(path),
            md5=md5,
            bytes=size,
            kept=kept,
            content_type=content_type or mimetype_detector.guess_type(str(path))[0],
            metadata=plain(metadata),
        )

    @_quietly
    def log_metrics(self, metrics_by_name: Mapping[str, Any], info: Any) -> None:
        """Write the points that were logged since the last heartbeat."""
        points = [
            {
                "name": plain(name),
                "steps": plain(metric["steps"]),
                "values": plain(metric["values"]),
                "timestamps": [
                    round(aware(moment).timestamp() * 1000) for moment in metric["timestamps"]
                ],
            }
            for name, metric in metrics_by_name.items()
        ]
        if points:
            count = sum(len(entry["values"]) for entry in points)
            self._points += count
            self._write("metrics", points=count, metrics=points)

    def _begin(self, event: str, status: str, moment: datetime, given: Mapping[str, Any]) -> None:
        ex_info, process = given["ex_info"], ProcessIdentity.current()
        base = Path(ex_info["base_dir"])
        sources = [[name, self._keep_source(base / name, md5)] for name, md5 in ex_info["sources"]]
        self._facts = {**self._facts, "uid": self.folder.name, **process.facts()}
        self._status = RunStatus(self.folder.name, status, moment, process=process)
        self._write(
            event,
            moment,
            urgent=True,
            command=plain(given["command"]),
            experiment={**plain(dict(ex_info)), "sources": sources},
            host=plain(given["host_info"]),
            config=plain(given["config"]),
            meta=_without_addresses(plain(given["meta_info"])),
            facts=self._facts,
        )
        self._summarise()

    def _keep_source(self, path: Path, md5: str) -> str:
        """Keep a source file once for all runs, linked into every journal that has it.

        A copy that was damaged is replaced; journals that are linked to it keep it.
        """
        pool = self.folder.parent.parent / "sources"
        try:
            if not is_copy(pool / md5):
                if md5 in self._sources:
                    pool.mkdir(parents=True, exist_ok=True)
                    with whole_file(pool / md5) as written:
                        written.write_bytes(self._sources[md5])
                else:
                    md5 = _keep(path, pool)
            kept = self.folder / "sources" / md5
            kept.parent.mkdir(exist_ok=True)
            try:
                kept.hardlink_to(pool / md5)  # a second name takes no room
            except FileExistsError:
                pass
            except OSError:
                if md5 in self._sources:  # perhaps it is just being removed from the pool
                    kept.write_bytes(self._sources[md5])
                else:
                    shutil.copyfile(pool / md5, kept)
        except OSError:
            _LOG.warning("the source %s was not kept", path, exc_info=True)
        return md5

    def _write_info(self, info: Mapping[str, Any]) -> None:
        written = {name: encode(value) for name, value in info.items()}
        changed = {n: info[n] for n in info if written[n] != self._info.get(n)}
        removed = [name for name in self._info if name not in info]
        if changed or removed:
            self._write("info", set=changed, removed=removed)
        self._info = written

    def _new_result(self, result: Any) -> dict[str, Any]:
        value = plain(result)
        text = encode(value)
        changed, self._result = text != self._result, text
        return {"result": value} if changed else {}

    def _end(self, event: str, status: str, moment: datetime, values: Mapping[str, Any]) -> None:
        self._console_end()
        console = {"console": self._console.length, "console_crc32": self._console.crc32}
        values = {**console, **values}

        def last(lost: Lost) -> str:
            lost = dataclasses.replace(lost, characters=self._console.missing)
            end = (event, status, values) if not lost else _incomplete(event, status, values, lost)
            self._status = dataclasses.replace(self._status, status=end[1], stop_time=moment)
            return _line(end[0], moment, status=end[1], **end[2])

        lost = self._events.finish(last)
        self.lost = dataclasses.replace(lost, characters=self._console.missing)
        self._summarise()

    def _console_end(self) -> None:
        if self._run is None:
            return
        output, text = self._run._output_file, self._run.captured_out
        if output.closed and output.final:
            rest = output.final  # `get` would take it from Sacred, which may still want it
            text += rest if isinstance(rest, str) else rest.decode()
            interpret = self._run.captured_out_filter
            text = interpret(text) if interpret else text
        self._console.update(text)

    def _write(
        self,
        event: str,
        moment: datetime | None = None,
        *,
        points: int = 0,
        urgent: bool = False,
        **values: Any,
    ) -> None:
        line = _line(event, moment or datetime.now(UTC), **values)
        self._events.append(line, points=points, urgent=urgent)

    def _summarise(self) -> None:
        with suppress(OSError, StoreError):  # the summary only saves time
            write_status(self.folder, self._status)


def _line(event: str, moment: datetime, **values: Any) -> str:
    return encode({"event": event, "time": timestamp(moment), **values})


def _incomplete(
    event: str, status: str, values: Mapping[str, Any], lost: Lost
) -> tuple[str, str, dict[str, Any]]:
    """Return the end of a run whose journal lacks something: it did not go well."""
    facts = {**values.get("facts", {}), "lost": dataclasses.asdict(lost)}
    values = {**values, "facts": facts}
    if status != "COMPLETED":
        return event, status, values
    return "failed", "FAILED", {**values, "trace": [incomplete_message(lost)]}


def incomplete_message(lost: Lost) -> str:
    """Say what a record lacks, and why."""
    return f"the disk of the journal was full: {lost} are missing in the record of this run"


def _without_addresses(meta: dict[str, Any]) -> dict[str, Any]:
    """Leave out where Sacred's own options send a run's record: passwords stand there."""
    options = meta.get("options")
    if not isinstance(options, dict):
        return meta
    hidden = {name: "***" for name in ("--mongo_db", "--sql") if options.get(name)}
    return {**meta, "options": {**options, **hidden}}


def _keep(path: Path, folder: Path) -> str:
    """Keep the content of a file in `folder` under its MD5 digest, and return that."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{secrets.token_hex(8)}{TEMPORARY}"
    try:
        shutil.copyfile(path, temporary)
        sync(temporary)
        md5: str = get_digest(temporary)
        temporary.replace(folder / md5)
    finally:
        temporary.unlink(missing_ok=True)
    return md5
