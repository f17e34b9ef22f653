"""The folder of all outputs: one folder per task, one per finished run, and what is current.

Nothing here needs arrays, so that planning stays quick::

    artifacts/<experiment>/<fingerprint>/task.json      what the task is
    artifacts/<experiment>/<fingerprint>/attempts       identifiers of its runs, newest last
    artifacts/<experiment>/<fingerprint>/partial/       what an unfinished run can resume from
    artifacts/<experiment>/<fingerprint>/<uid>/         the output of a finished run
    artifacts/<experiment>/<fingerprint>/current        link to the latest of these
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import secrets
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.plan.task import NEVER_RAN, Earlier, StateLookup, TaskState
from registry.record.states import State
from registry.store.durable import (
    TEMPORARY,
    Lock,
    StoreError,
    append_line,
    at_once,
    disk_errors,
    lock,
    locked,
    read_json,
    sync,
    whole_file,
    write_json,
)
from registry.store.manifest import (
    CURRENT,
    MANIFEST,
    Provenance,
    file_faults,
    read_manifest,
    seconds_of,
)
from registry.store.parts import (
    Part,
    PartHold,
    WrittenPart,
    hold_part,
    run_at,
    run_at_parts,
    written_part,
    written_parts,
)

if TYPE_CHECKING:
    import xarray as xr

    from registry.declare.cells import Cell
    from registry.store.datasets import Written
    from registry.store.schema import Schema
    from registry.store.shards import Shards

ReadStatus = Callable[[str], str]
"""From a run's identifier to the status in its journal, ``FAILED``; "" where it has none."""

RECORD_KEYS = {entry.name for entry in dataclasses.fields(Earlier)} - {"aside"}
"""What a ``task.json`` holds at least; one that does not is passed over."""

MOST_TIMED = 500
"""Earlier tasks of an experiment whose durations are read; the other cells go by their median."""

ATTEMPTS = "attempts"
PARTIAL = "partial"

ORIGIN = "origin.json"
"""File of a partial folder that says of which inputs and code it is made."""

HOLDER = "holder"
"""File of a partial folder that names the run that it belongs to."""

_WHOLE_PART = re.compile(r"part-\d{6}\.nc")


class ExperimentStore:
    """Outputs of all experiments under one folder.

    Parameters
    ----------
    root : Path
        ``artifacts`` of a project; it need not exist.
    read_status : callable or None
        Looks up the journal of an attempt. Without it, an attempt that left no output counts as
        missing.
    """

    def __init__(self, root: Path, read_status: ReadStatus | None = None):
        self.root = root
        self._read_status = read_status or (lambda uid: "")

    def folder(self, experiment: str, fingerprint: str) -> Path:
        """Return the folder of a task, whether it exists or not."""
        return self.root / experiment / fingerprint

    def state(self, experiment: str, fingerprint: str, verify: bool = False) -> TaskState:
        """Return what is on disk for a task. A store that was half deleted is damaged, no error.

        Parameters
        ----------
        experiment, fingerprint : str
            The task.
        verify : bool
            Whether checksums are compared too: reads every byte.
        """
        folder = f"{self.root}/{experiment}/{fingerprint}"
        try:
            run = os.readlink(f"{folder}/current")
        except FileNotFoundError:
            return self._without_output(folder)
        except OSError:
            run = self.last_attempt(experiment, fingerprint)
            return TaskState(State.DAMAGED, run or None, why="current is no link")
        return _output_state(folder, run, verify)

    def _without_output(self, folder: str) -> TaskState:
        attempts = _attempts(folder)
        if not attempts:
            return NEVER_RAN
        run, part = attempts[-1]
        if part is not None:
            return self._in_parts(attempts)
        recorded = self._read_status(run)
        if not recorded:
            why = "the last attempt left neither output nor journal"
            return TaskState(State.MISSING, run, why=why)
        state = State.of_record(recorded)
        if state is State.COMPLETED:
            return TaskState(State.MISSING, run, why="its output is gone")
        return TaskState(state, run)

    def _in_parts(self, attempts: list[tuple[str, Part | None]]) -> TaskState:
        """Return how a task stands that runs write in parts, and none has closed.

        As the newest run at a part that has not ended well; before all, as one that runs.
        """
        whole = [index for index, (_, part) in enumerate(attempts) if part is None]
        newest = {part: run for run, part in attempts[max(whole, default=-1) + 1 :]}
        states = {part: State.of_record(self._read_status(run)) for part, run in newest.items()}
        for wanted in (State.RUNNING, State.FAILED, State.DIED, State.INTERRUPTED):
            found = [part for part, state in states.items() if state is wanted]
            if found:
                return TaskState(wanted, newest[found[-1]], why=str(found[-1]))
        run, last = attempts[-1]
        of = last.of if last else 0
        number = sum(part is not None and part.of == of for part in states)
        return TaskState(State.INTERRUPTED, run, why=f"{number} of {of} parts are written")

    def part_state(
        self,
        experiment: str,
        fingerprint: str,
        part: Part,
        inputs: Mapping[str, str] | None = None,
        sources: str = "",
    ) -> tuple[WrittenPart | None, str]:
        """Return what is known of a part of a task: that it is written, or which run is at it.

        Parameters
        ----------
        experiment, fingerprint : str
            The task.
        part : Part
            Of it.
        inputs, sources : mapping, str
            As for :meth:`begin`; what was made of others does not count as written.

        Returns
        -------
        WrittenPart or None
            None if it is still to be written.
        str
            The run that is at it now, or at the whole task; "" for none.
        """
        folder = self.folder(experiment, fingerprint)
        partial = folder / PARTIAL
        if not partial.is_dir():
            return None, ""
        with _exclusive(folder):
            held = _lock_whole(partial, self._is_running)
            if held is None:
                return None, _holder(partial)
            held.release()
            run = run_at(partial, part, self._is_running)
            same = read_json(partial / ORIGIN) == _origin(inputs, sources)
            return written_part(partial, part) if same else None, run or ""

    def current_run(self, experiment: str, fingerprint: str) -> str:
        """Return the identifier of a task's current run; "" for none."""
        return _current_run(self.folder(experiment, fingerprint))

    def last_attempt(self, experiment: str, fingerprint: str) -> str:
        """Return the identifier of a task's last run, which begins with the time; "" for none."""
        return (read_attempts(f"{self.root}/{experiment}/{fingerprint}") or [""])[-1]

    def history(self, experiment: str) -> dict[str, list[Earlier]]:
        """Return the tasks that were started for each cell of an experiment, oldest first."""
        tasks: dict[str, list[Earlier]] = {}
        with suppress(OSError):
            for fingerprint in os.listdir(f"{self.root}/{experiment}"):
                if (task := self._task(experiment, fingerprint)) is not None:
                    cell = str(task.get("cell", experiment))
                    tasks.setdefault(cell, []).append(Earlier.from_record(task))
        for earlier in tasks.values():
            if len(earlier) > 1:  # the attempt has to be read
                earlier.sort(key=lambda task: self.last_attempt(experiment, task.fingerprint))
        return tasks

    def past(self, experiment: str, fingerprint: str) -> Earlier | None:
        """Return what a task was by its fingerprint, or None if it was never started."""
        task = self._task(experiment, fingerprint)
        return None if task is None else Earlier.from_record(task)

    def _task(self, experiment: str, fingerprint: str) -> dict[str, Any] | None:
        """Return what stands in the ``task.json`` of a task that was started."""
        task = read_json(f"{self.root}/{experiment}/{fingerprint}/task.json")
        whole = task is not None and task.keys() >= RECORD_KEYS
        return {**task, "fingerprint": fingerprint} if task and whole else None

    def states(self, verify: bool = False) -> StateLookup:
        """Return what :func:`registry.plan.plan.make_plan` asks of the disk.

        What an experiment's cells were before is read once, when it is first needed.

        Parameters
        ----------
        verify : bool
            Whether checksums are compared too: reads every byte.
        """
        history = functools.cache(self.history)
        timed: Counter[str] = Counter()

        def lookup(cell: Cell, fingerprint: str) -> TaskState:
            state = self.state(cell.experiment, fingerprint, verify)
            if state.status is State.COMPLETE:
                return state
            known = history(cell.experiment)
            earlier = [*known.get(cell.former_name, ()), *known.get(cell.name, ())]
            earlier = [task for task in earlier if task.fingerprint != fingerprint]
            timed[cell.experiment] += len(earlier)
            durations = state.durations
            if not durations and timed[cell.experiment] <= MOST_TIMED:
                root = f"{self.root}/{cell.experiment}"
                manifests = (
                    read_json(f"{root}/{task.fingerprint}/current/{MANIFEST}") for task in earlier
                )
                found = (seconds_of(manifest or {}) for manifest in manifests)
                durations = tuple(seconds for seconds in found if seconds is not None)
            last, run = self._last_made(cell.experiment, earlier)
            return dataclasses.replace(state, durations=durations, earlier=last, earlier_run=run)

        return lookup

    def _last_made(self, experiment: str, tasks: Sequence[Earlier]) -> tuple[Earlier | None, str]:
        """Return the last of some tasks that has an output, and the run that made this.

        Where none has, the last one, and "".
        """
        for task in reversed(tasks):
            if run := self.current_run(experiment, task.fingerprint):
                return task, run
        return (tasks[-1] if tasks else None), ""

    def begin(
        self,
        experiment: str,
        fingerprint: str,
        task: Mapping[str, Any],
        uid: str,
        inputs: Mapping[str, str] | None = None,
        sources: str = "",
        *,
        current: str | None = None,
        part: Part | None = None,
    ) -> Attempt:
        """Open an attempt at a task: to be used as a context manager.

        Parameters
        ----------
        experiment, fingerprint : str
            The task.
        task : mapping
            What the task is, as plain JSON; written when it is first started.
        uid : str
            Identifier of the run.
        inputs : mapping of str to str
            Slot to content digest of what the run reads.
        sources : str
            Digest of the code. What an earlier attempt has left is resumed only where inputs and
            code are the same, since one dataset must not be made of two.
        current : str or None
            The current run when the task was found to be due, "" for none; None if it does not
            matter what other attempts do.
        part : Part or None
            The part of the task that is attempted alone, while other attempts may be at others.

        Raises
        ------
        TaskBusyError
            If another attempt is at the task, or has published since.
        StoreError
            If the disk is full.
        """
        folder = self.folder(experiment, fingerprint)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            origin = _origin(inputs, sources)
            return Attempt(folder, uid, task, origin, self._is_running, current=current, part=part)

    def adopt(
        self,
        experiment: str,
        fingerprint: str,
        inputs: Mapping[str, str] | None = None,
        announce: Callable[[str], object] = lambda run: None,
    ) -> str:
        """Publish the dataset that a run had finished when it was killed, if there is one.

        Parameters
        ----------
        experiment, fingerprint : str
            The task.
        inputs : mapping of str to str
            Slot to content digest of what the task reads; a dataset made of others is left alone.
        announce : callable
            Called with the identifier of that run when its dataset has its name, and before it is
            current: killed in between, the next call does the rest.

        Returns
        -------
        str
            Identifier of that run; "" if there is no such dataset.
        """
        folder = self.folder(experiment, fingerprint)
        whole = [run for run, part in _attempts(folder) if part is None]
        partial, last = folder / PARTIAL, (whole or [""])[-1]
        if not (partial / "output" / MANIFEST).exists() and not (folder / last / MANIFEST).exists():
            return ""
        with _exclusive(folder):
            current = _current_run(folder)
            # What has its name was whole then; identifiers begin with the time.
            given = inputs or {}
            named = _whole_run(folder / last, given, verify=False) if last > current else ""
            run = named or self._take_output(partial, current, given)
            if run:
                announce(run)
                publish(folder / run)
            if named and partial.is_dir():  # what it was made from is of no more use
                self._remove_partial(partial)
        return run

    def _take_output(self, partial: Path, current: str, inputs: Mapping[str, str]) -> str:
        """Give the output of a killed run its name, and return that; "" if the run lives."""
        run = _holder(partial)
        held = _lock(partial, self._is_running) if run > current else None
        if held is None:
            return ""
        is_whole = _whole_run(partial / "output", inputs, verify=True) == run
        if is_whole:
            _name_output(partial / "output", partial.parent / run)
        held.release()
        if is_whole:
            _remove(partial)
        return run if is_whole else ""

    def claimed_inputs(self, task: Path) -> set[str]:
        """Return the content digests of what attempts at a task read that live now."""
        origins = list(task.glob(f"{PARTIAL}*/{ORIGIN}"))
        claimed: set[str] = set()
        with _exclusive(task) if origins else nullcontext():
            for origin in origins:
                held = _lock(origin.parent, self._is_running)
                if held is None:  # also of a part of it
                    claimed.update(((read_json(origin) or {}).get("inputs") or {}).values())
                else:
                    held.release()
        return claimed

    def remove_run(self, folder: Path) -> None:
        """Remove the dataset of a run; killed in between, it is whole or gone.

        If it is the current one of its task, the task has none then.
        """
        with _exclusive(folder.parent):
            if _current_run(folder.parent) == folder.name:
                (folder.parent / "current").unlink()
            _remove(folder)

    def forget_run(self, folder: Path) -> None:
        """Remove the dataset of a run, and the run from the attempts at its task.

        If it was the current one, the newest whole one before it is current again. The folder
        need not be there: a removal that was cut short is finished. What the run had made whole
        when it was killed, and nobody has published, goes too.
        """
        task = folder.parent
        with _exclusive(task):
            attempts = _attempts(task)
            others = [(run, part) for run, part in attempts if run != folder.name]
            if _current_run(task) == folder.name:
                whole = [run for run, _ in others if (task / run / MANIFEST).exists()]
                publish(task / whole[-1]) if whole else (task / "current").unlink()
            _remove(folder)
            unpublished = read_manifest(task / PARTIAL / "output") or {}
            if unpublished.get("run") == folder.name:
                self._remove_partial(task / PARTIAL)
            if others != attempts:
                with whole_file(task / ATTEMPTS) as temporary:
                    lines = "".join(f"{_attempt_line(*other)}\n" for other in others)
                    temporary.write_text(lines, encoding="utf-8")

    def repair_current(self, task: Path) -> None:
        """Make the newest whole dataset of a task the current one, where what is current is none.

        A folder in the place of the link, which copies that follow links leave, is removed if it
        is a copy of a run's; otherwise it is called ``current-set-aside-…`` then.
        """
        link = task / CURRENT
        with _exclusive(task):
            if link.is_symlink() and (link / MANIFEST).exists():
                return
            whole = [run for run in read_attempts(task) if (task / run / MANIFEST).exists()]
            if link.is_dir() and not link.is_symlink():
                copied = (read_manifest(link) or {}).get("run")
                if copied in whole:
                    _remove(link)
                    whole = [copied]
                else:
                    link.rename(task / f"{CURRENT}-set-aside-{secrets.token_hex(4)}")
            if whole:
                publish(task / whole[-1])
            else:
                link.unlink(missing_ok=True)

    def remove_partials(self, folder: Path, resumable: bool = True) -> None:
        """Remove from a task's folder what runs that are over have left, and temporary files.

        Parameters
        ----------
        folder : Path
            The task's folder.
        resumable : bool
            Whether what the next attempt could resume is removed too.
        """
        with _exclusive(folder):
            _remove_abandoned(folder, self._is_running)
            if resumable and (folder / PARTIAL).is_dir():
                self._remove_partial(folder / PARTIAL)

    def _remove_partial(self, partial: Path) -> None:
        """Remove a partial folder, unless a run is at it."""
        held = _lock(partial, self._is_running)
        if held is not None:
            held.release()
            _remove(partial)

    def _is_running(self, run: str) -> bool:
        return self._read_status(run) == "RUNNING"


def read_attempts(task: str | Path) -> list[str]:
    """Return the identifiers of the runs that began at a task, by its folder, oldest first.

    Those that wrote a part of it too.
    """
    return [run for run, _ in _attempts(task)]


def _attempts(task: str | Path) -> list[tuple[str, Part | None]]:
    """Return the runs that began at a task, each with the part of it that it was for."""
    try:
        path = f"{task}/{ATTEMPTS}"
        with open(path, encoding="utf-8", errors="replace", opener=at_once) as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    words = filter(None, map(str.split, lines))
    return [(run, Part.parse(rest[0]) if rest else None) for run, *rest in words]


def _attempt_line(run: str, part: Part | None) -> str:
    return f"{run} {part.code}" if part else run


def _output_state(folder: str, run: str, verify: bool) -> TaskState:
    path = f"{folder}/{run}"
    manifest = read_manifest(path)
    if manifest is None:
        lost = MANIFEST if os.path.isdir(path) else run
        how = "is damaged" if os.path.exists(f"{path}/{MANIFEST}") else "is missing"
        return TaskState(State.DAMAGED, run, why=f"{lost} {how}", path=path)
    faults = file_faults(path, manifest, verify)
    inputs, duration = manifest.get("inputs") or {}, seconds_of(manifest)
    return TaskState(
        State.DAMAGED if faults else State.COMPLETE,
        run,
        manifest.get("content"),
        {slot: entry["content"] for slot, entry in inputs.items() if entry.get("content")},
        manifest.get("sources") or None,
        () if duration is None else (duration,),
        why="; ".join(faults[:3]),
        path=path,
    )


def publish(folder: Path) -> None:
    """Make a run's folder the current one of its task, in one step.

    Raises
    ------
    StoreError
        If it has no manifest: then it is not whole.
    """
    if not (folder / MANIFEST).exists():
        raise StoreError(f"{folder} has no {MANIFEST}; only a whole dataset can become current")
    link = folder.parent / f".current-{secrets.token_hex(4)}{TEMPORARY}"
    with disk_errors(link):
        link.symlink_to(folder.name)
        os.replace(link, folder.parent / "current")
        sync(folder.parent)


class StaleAttemptError(StoreError):
    """An attempt at a task that another one has taken over: it must not write any more."""


class TaskBusyError(StoreError):
    """A task that another run is at, or has made since it was found to be due.

    Attributes
    ----------
    run : str
        Identifier of that run.
    """

    def __init__(self, run: str):
        self.run = run or "(unknown)"
        super().__init__(f"run {self.run} is at this very task, or has just made it")


class Attempt:
    """One run at a task, and its folders while it lasts.

    A second attempt at the same time has a partial folder of its own, which nobody resumes. Of
    attempts that overlap, the first to publish becomes current; the others keep their datasets in
    their own runs' folders. Neither rests on locks alone, which another host may not see: the
    partial folder names its holder, who is asked for before anything is written, and an attempt
    whose holder's journal says that it runs is not taken over.

    Attempts at parts of a task share its partial folder, each with a hold on its own part. While
    one is at a part, none is at the whole, and the other way round; then it is the whole that
    publishes.

    Attributes
    ----------
    uid : str
        Identifier of the run.
    folder : Path
        The task's folder.
    partial : Path
        For what a later attempt can resume from. It survives a killed process.
    output : Path
        Inside `partial`: what becomes the run's folder. Parts in it are kept for the next
        attempt, anything else begins anew.
    part : Part or None
        The part that it is for; None for the whole task.
    overtaken_by : str
        Identifier of the run that became current between the beginning of this attempt and its
        own publication; "" if none has.
    """

    def __init__(
        self,
        folder: Path,
        uid: str,
        task: Mapping[str, Any],
        origin: Mapping[str, Any],
        is_running: Callable[[str], bool] = lambda run: False,
        *,
        current: str | None = None,
        part: Part | None = None,
    ):
        self.folder = folder
        self.uid = uid
        self.part = part
        self.overtaken_by = ""
        self._task = task
        self._lock: Lock | PartHold | None
        with _exclusive(folder):
            _remove_abandoned(folder, is_running)
            if current is not None:
                _require_same(folder, current)
            if part is not None:
                self.partial = folder / PARTIAL
                self._lock = _claim_part(self.partial, part, uid, origin, is_running)
            else:
                if current is not None:
                    _require_idle(folder, is_running)
                self.partial, self._lock = _claim(folder, uid, origin, is_running)
            self._before = _current_run(folder)
            self.output = self.partial / "output"
            self.output.mkdir(exist_ok=True)
            if part is None:
                _clear_output(self.output)

    @property
    def is_shared(self) -> bool:
        """Whether what this attempt leaves can be resumed."""
        return self.partial.name == PARTIAL

    def __enter__(self) -> Attempt:
        """Note that the attempt is made."""
        with disk_errors(self.folder), _exclusive(self.folder):
            if not (self.folder / "task.json").exists():
                write_json(self.folder / "task.json", dict(self._task))
            append_line(self.folder / ATTEMPTS, _attempt_line(self.uid, self.part))
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def publish(
        self,
        dataset: xr.Dataset | Shards,
        schema: Schema,
        provenance: Provenance,
        announce: Callable[[Written], object] = lambda written: None,
        check: Callable[[], object] = lambda: None,
    ) -> Written:
        """Write what the stage returned, give it its name and make it current.

        It does not become current if another run did since this attempt began: then
        `overtaken_by` names that.

        Parameters
        ----------
        dataset : xr.Dataset or Shards
            What the stage returned.
        schema : Schema
            What it must follow.
        provenance : Provenance
            Where it comes from.
        announce : callable
            Called before it is whole, with the folder that it will have.
        check : callable
            Called now and then before that; what it raises ends the attempt.

        Raises
        ------
        StaleAttemptError
            If another attempt has taken over; nothing is kept.
        SchemaError, StoreError
            As :func:`registry.store.datasets.write_dataset`; what can be resumed stays.
        """
        from registry.store.datasets import lay_down, write_dataset

        self.require_held()
        lay_down(dataset, check)
        final = self.folder / self.uid

        def said(written: Written) -> None:
            announce(dataclasses.replace(written, folder=final))

        written = write_dataset(dataset, self.output, schema, provenance, said)
        with _exclusive(self.folder):
            self.require_held()
            _name_output(self.output, final)
            current = _current_run(self.folder)
            if current in ("", self._before):
                publish(final)
            else:
                self.overtaken_by = current
            self._discard()
        return dataclasses.replace(written, folder=final)

    @property
    def written_parts(self) -> tuple[WrittenPart, ...]:
        """The parts that other runs have written of what this one publishes, in order."""
        return written_parts(self.partial)

    def finish_part(self, seconds: float) -> None:
        """Note that the part of this attempt is written: no other run needs to write it.

        Raises
        ------
        StaleAttemptError
            If another attempt has taken over.
        """
        with _exclusive(self.folder):
            self.require_held()
            if isinstance(self._lock, PartHold):
                self._lock.finish(seconds)

    def require_held(self) -> None:
        """Make sure that what is written still counts.

        Raises
        ------
        StaleAttemptError
            If another attempt has taken over, as one on another host does when this one has not
            been heard of for so long that it was taken for dead.
        """
        own = self._lock.holder if isinstance(self._lock, PartHold) else _holder(self.partial)
        if (holder := own) != self.uid:
            raise StaleAttemptError(
                f"run {self.uid} was taken for dead, and run {holder or '(removed since)'} has "
                f"taken over {self.partial}; this run writes nothing more"
            )

    def close(self) -> None:
        """Let the next attempt resume; what nobody can resume is removed."""
        if self._lock is None or not self._lock.is_held:  # also in a forked child
            return
        with suppress(OSError), _exclusive(self.folder):
            if not self.is_shared:
                self._discard()
            elif _holder(self.partial) == self.uid:
                (self.partial / HOLDER).unlink()
            self._unlock()  # before anybody else can find it locked, and nobody's
        self._unlock()

    def _discard(self) -> None:
        self._unlock()
        _remove(self.partial)

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()


def _exclusive(folder: Path) -> AbstractContextManager[None]:
    """Hold a task's folder for the moment in which its names change.

    Whoever holds it removes what writers that died have left, by the ending of its name. So every
    file that is written in the folder itself is written while it is held.
    """
    return locked(folder / ".lock")


def _claim(
    folder: Path, uid: str, origin: Mapping[str, Any], is_running: Callable[[str], bool]
) -> tuple[Path, Lock | None]:
    """Lock the partial folder, emptied if it came from elsewhere, or else a private one."""
    partial = folder / PARTIAL
    held = _lock(partial, is_running)
    if held is None:
        partial = folder / f"partial-{uid}"
        held = _lock(partial, is_running)
    elif _is_of_other_origin(partial, origin):
        held.release()
        _remove(partial)
        held = _lock(partial, is_running)
    _note_origin(partial, origin)
    (partial / HOLDER).write_text(uid)
    return partial, held


def _claim_part(
    partial: Path,
    part: Part,
    uid: str,
    origin: Mapping[str, Any],
    is_running: Callable[[str], bool],
) -> PartHold:
    """Take a part of the partial folder, emptied if it came from elsewhere.

    TaskBusyError: a run is at this part, at the whole, or at parts of another cut or origin.
    """
    held = _lock_whole(partial, is_running)
    if held is None:
        raise TaskBusyError(_holder(partial))
    held.release()
    if _is_of_other_origin(partial, origin):
        if (run := run_at_parts(partial, is_running)) is not None:
            raise TaskBusyError(run)
        sys.stdout.write("What earlier runs left was made of other inputs or code; begun anew\n")
        _remove(partial)
        partial.mkdir()
    _note_origin(partial, origin)
    taken = hold_part(partial, part, uid, is_running)
    if not isinstance(taken, PartHold):
        raise TaskBusyError(taken)
    return taken


def _origin(inputs: Mapping[str, str] | None, sources: str) -> dict[str, Any]:
    return {"inputs": dict(inputs or {}), "sources": sources}


def _is_of_other_origin(partial: Path, origin: Mapping[str, Any]) -> bool:
    return (partial / ORIGIN).exists() and read_json(partial / ORIGIN) != origin


def _note_origin(partial: Path, origin: Mapping[str, Any]) -> None:
    if not (partial / ORIGIN).exists():
        write_json(partial / ORIGIN, origin)


def _require_same(folder: Path, current: str) -> None:
    if (found := _current_run(folder)) != current:
        raise TaskBusyError(found)


def _require_idle(folder: Path, is_running: Callable[[str], bool]) -> None:
    held = _lock(folder / PARTIAL, is_running)
    if held is None:
        partial = folder / PARTIAL
        raise TaskBusyError(_holder(partial) or run_at_parts(partial, is_running) or "")
    held.release()


def _whole_run(output: Path, inputs: Mapping[str, str], *, verify: bool) -> str:
    """Return the run whose dataset is whole in a folder, and made of these inputs; "" for none."""
    manifest = read_manifest(output)
    given = ((manifest or {}).get("inputs") or {}).items()
    found = {slot: entry.get("content") or entry.get("fingerprint") for slot, entry in given}
    if manifest is None or found != inputs or file_faults(output, manifest, verify):
        return ""
    return str(manifest.get("run") or "")


def _name_output(output: Path, final: Path) -> None:
    os.rename(output, final)
    sync(final.parent)


def _current_run(folder: Path) -> str:
    """Return the identifier of a task's current run, "" if there is none."""
    try:
        return os.readlink(folder / "current")
    except OSError:
        return ""


def _holder(partial: Path) -> str:
    """Return the identifier of the run that a partial folder belongs to, "" if nobody's."""
    try:
        return (partial / HOLDER).read_text().strip()
    except OSError:
        return ""


def _lock(partial: Path, is_running: Callable[[str], bool]) -> Lock | None:
    """Return what holds a partial folder, or None if another process has it, or a part of it."""
    held = _lock_whole(partial, is_running)
    if held is not None and run_at_parts(partial, is_running) is not None:
        held.release()
        return None
    return held


def _lock_whole(partial: Path, is_running: Callable[[str], bool]) -> Lock | None:
    """Return what holds a partial folder, or None if another process has it as a whole."""
    partial.mkdir(exist_ok=True)
    holder = _holder(partial)
    if holder and is_running(holder):  # perhaps on another host, whose lock is not seen here
        return None
    return lock(partial / "lock", wait=False)


def _remove_abandoned(folder: Path, is_running: Callable[[str], bool]) -> None:
    """Remove private and discarded partial folders whose process is gone, and temporary files.

    The caller holds the folder, so that no temporary file in it has a writer who lives.
    """
    for path in folder.glob("partial-*"):
        with suppress(FileNotFoundError):  # its owner is just removing it
            held = _lock(path, is_running)
            if held is not None:
                held.release()
                shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(f".*{TEMPORARY}"):
        path.unlink(missing_ok=True)


def _remove(partial: Path) -> None:
    """Remove a partial folder; killed in between, nobody takes the rest for whole."""
    discarded = partial.with_name(f"partial-discarded-{secrets.token_hex(4)}")
    with suppress(FileNotFoundError):  # somebody who found it abandoned was quicker
        os.rename(partial, discarded)
        sync(partial.parent)
    shutil.rmtree(discarded, ignore_errors=True)


def _clear_output(output: Path) -> None:
    """Remove all but whole parts from what an earlier attempt left."""
    for path in output.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif not _WHOLE_PART.fullmatch(path.name):
            path.unlink()
