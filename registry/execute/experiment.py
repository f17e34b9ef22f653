"""A stage as a Sacred experiment, which runs one task and records it.

There is one way to run a task, whether ``factbook run`` asks for it or somebody types
``python -m fact.train_sae with fashion-sae``. :class:`StageExperiment` reads from top to bottom in
the order in which things happen: Sacred is given the stage (`_build`), resolves the configuration,
and calls back twice: to :meth:`~StageExperiment.prepare` the task and open its record, and to do
the :meth:`~StageExperiment.work`. :meth:`~StageExperiment.close` completes the record.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import itertools
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Any

import sacred
from sacred import stdout_capturing
from sacred.commandline_options import CLIOption
from sacred.config.config_files import load_config_file
from sacred.dependencies import PackageDependency, Source
from sacred.utils import apply_backspaces_and_linefeeds

from registry.declare.cells import Cell
from registry.declare.declared import SelectionError
from registry.declare.faults import (
    DEEPEST,
    DeclarationError,
    RenamedWarning,
    StageError,
    is_too_deep,
    renamed,
)
from registry.declare.plugins import load_plugins
from registry.declare.stage import Stage, load_stage
from registry.execute.ranks import Ranks, join_ranks
from registry.execute.resolved import ResolvedTask, TaskRun, adopt_finished, resolve_task
from registry.execute.runner import (
    EXIT_INTERRUPTED,
    EXIT_NOT_RECORDED,
    BlockingRunner,
    Job,
    TaskOutcome,
)
from registry.interrupts import (
    Check,
    handling_signals,
    leave_soon,
    signals_held,
    signals_interrupt,
    signals_noted,
)
from registry.mongo.database import Database, DatabaseError, connect
from registry.mongo.projector import Projector
from registry.plan.artifacts import Attempt, ExperimentStore, TaskBusyError
from registry.plan.project import Project, modules_of, open_project
from registry.plan.sources import Code, code_as_loaded, code_of, loaded_sources
from registry.record.journal import journal_root, new_uid
from registry.record.observer import JournalError, JournalObserver, incomplete_message
from registry.record.states import State
from registry.store.datasets import Written
from registry.store.shards import PartWritten
from registry.suggest import RefusalError, nearest

JOURNAL_ONLY, REPEAT = "--journal-only", "--repeat"
BEAT, BEAT_SECONDS = "--beat-interval", 2.0
"""Seconds of metrics and console that a killed run loses at most; Sacred's own default is 10."""

sacred.SETTINGS.CAPTURE_MODE = "sys"  # "fd" loses and doubles lines
# What a run is made with is told by `_describe`; Sacred need not look for it among our imports.
sacred.SETTINGS.DISCOVER_SOURCES = sacred.SETTINGS.DISCOVER_DEPENDENCIES = "none"


class TaskRefusedError(SystemExit):
    """A task that cannot be run as asked; ends the process with its message and status 1."""


@dataclass(eq=False)
class StageExperiment:
    """One run of a stage as a Sacred experiment.

    Parameters
    ----------
    stage : Stage
        What is run.
    project : Project
        Whose declarations are the named configurations, and whose store takes the output.
    task : ResolvedTask, optional
        What is to run, where that is known already; otherwise Sacred's configuration says it.
    cells : iterable of Cell
        Cells to offer as named configurations beside the experiments.
    uid : str, optional
        Identifier of the run.
    journal_only : bool
        Whether the record stays in the journal.
    repeat : bool
        Whether it may run beside another run at the same task.
    away : bool
        Whether the database was away lately, so that it is not waited for.
    noted : list of int
        Signals that have asked for the end so far, as `signals_noted` yields them: they interrupt a
        run that begins, and keep nobody waiting for the database. Those that come while the end of
        a run is recorded are added.
    on_begin : callable
        Called with the identifier when attempt and record are there, and the run begins.
    ranks : Ranks, optional
        The processes that run it together. Only the first of them records and publishes.
    """

    stage: Stage
    project: Project
    task: ResolvedTask | None = None
    _: KW_ONLY
    cells: tuple[Cell, ...] = ()
    uid: str = field(default_factory=new_uid)
    journal_only: bool = False
    repeat: bool = False
    away: bool = False
    noted: list[int] = field(default_factory=list)
    on_begin: Callable[[str], object] = lambda uid: None
    ranks: Ranks | None = None

    def __post_init__(self) -> None:
        self.unobserved = False
        self.elsewhere: Path | None = None  # where an unobserved run's dataset comes to lie
        self.in_suite = self.task is not None
        self.result: Mapping[str, Any] | None = None  # of a run that has ended well
        self.written: Written | None = None
        self.attempt: Attempt | None = None
        self.starting = ExitStack()  # holds signals from when there is a record until work begins
        self.ending = ExitStack()  # holds signals from when the run can only end well
        self.check_signals: Check = lambda: None
        self.note = ""  # what should be known of a run that went well
        self.link = _Link(self.project, self.in_suite)
        self.observer: JournalObserver | None = None
        self.sacred = self._build((*self.cells, self.task.cell) if self.task else self.cells)

    @property
    def helps(self) -> bool:
        """Whether another process records and publishes what this one works at."""
        return self.ranks is not None and not self.ranks.is_first

    def run(self) -> Mapping[str, Any]:
        """Run the given task through Sacred; what it raises passes through.

        Returns
        -------
        mapping
            The scalars of the dataset that it made.

        Raises
        ------
        TaskRefusedError
            If the task cannot be run as asked.
        JournalError
            If it went well, and its record lacks something.
        """
        if self.task is None:
            raise RuntimeError("no task was given")
        name = sacred_name(self.task.cell.name)
        with self.stopped_by_signals():
            run = self.sacred.run(named_configs=[name])
            self.result = dict(run.result or {})
        self.require_complete_record()
        return self.result

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """Interrupt the run in the block by signals, until it can only end well."""
        with signals_interrupt(self.noted) as self.check_signals, self.starting, self.ending:
            yield

    def require_complete_record(self) -> None:
        """Make sure that the journal holds all of a run that is over.

        Raises
        ------
        JournalError
            If its disk was full.
        """
        if self.observer is not None and self.observer.lost:
            raise JournalError(incomplete_message(self.observer.lost))

    # -- 1: what Sacred is given ------------------------------------------------------------

    def _build(self, cells: tuple[Cell, ...]) -> Any:
        experiment: Any = _new_experiment(self.stage.name)
        modules = self.stage.code_modules()
        code = self.task.code if self.task else code_of(self.stage.name, self.project.root, modules)
        _describe(experiment, self.stage, code)
        known = dict(_named_configurations(self.stage, self.project, cells))
        filled = [values["needs"] for values in known.values()]  # lists have more than their first
        needs = dict.fromkeys(itertools.chain(self.stage.needs, *filled), "")
        defaults = self.stage.settings.defaults()
        experiment.add_config({"seed": 0, **defaults, "experiment": "", "needs": needs})
        for name, values in known.items():
            experiment.add_named_config(name, values)

        # Sacred looks at the names of what its functions take, so that methods will not do.
        def read_options(options: MutableMapping[str, Any]) -> None:
            options[BEAT] = options.get(BEAT) or BEAT_SECONDS
            self.unobserved = bool(options.get("--unobserved")) or self.helps
            if self.helps:
                options["--loglevel"] = "ERROR"  # the first process tells all there is
            self.journal_only = self.journal_only or bool(options.get(JOURNAL_ONLY))
            self.repeat = self.repeat or bool(options.get(REPEAT))

        def prepare(config: Any, command_name: str, logger: Any) -> dict[str, Any]:
            if command_name == experiment.default_command:  # others print the configuration
                self.prepare(config)
            return {}

        def main(_run: Any) -> Mapping[str, Any]:
            return self.work(_run)

        main.__name__, main.__doc__ = self.stage.name.rpartition(".")[2], self.stage.doc
        experiment.option_hook(read_options)
        experiment.config_hook(prepare)
        experiment.main(main)
        return experiment

    # -- 2: before the run ------------------------------------------------------------------

    def prepare(self, config: Mapping[str, Any]) -> None:
        """Turn a resolved configuration into a task and open its record.

        Raises
        ------
        TaskRefusedError
            If there is no such task, its inputs are not there, or it cannot be recorded.
        """
        try:
            task = self.task or resolve_task(self.project, self.stage, config)
            self.task = task = self._load(task)
            if self.unobserved:
                self.elsewhere = Path(tempfile.mkdtemp(prefix="factbook-unobserved-"))
                self.attempt = task.begin(ExperimentStore(self.elsewhere), self.uid)
            else:
                self.task = task if self.in_suite else self._adopt(task)
                self._open_record(self.task)
            if self.ranks is not None and not self.ranks.begin():
                raise SystemExit(0)
            # Sacred records a run whose heartbeat was interrupted as it began as failed, or not.
            self.starting.enter_context(signals_held())
        except TaskBusyError as error:
            raise TaskRefusedError(f"{error}; wait for it, or add {REPEAT}") from error
        except RefusalError as error:
            raise TaskRefusedError(str(error)) from error

    def _load(self, task: ResolvedTask) -> ResolvedTask:
        """Load what does the work, and return the task with the code that was loaded."""
        load_main_modules(self.stage)
        code = code_as_loaded(task.code, self.stage.name, modules_of(task.cell))
        _name_sources(self.sacred, code)
        return replace(task, code=code)

    def _adopt(self, task: ResolvedTask) -> ResolvedTask:
        """Take what a killed run had finished; then nothing is run, unless it is to be repeated."""
        run = adopt_finished(self.project, task)
        if run and not self.repeat:
            words = "had finished this task when it was killed; its dataset is current now"
            sys.stdout.write(f"run {run} {words}; {REPEAT} runs the task again\n")
            if self.ranks is not None:
                self.ranks.begin(goes=False)
            raise SystemExit(0)
        return replace(task, current=run) if run else task

    def _open_record(self, task: ResolvedTask) -> None:
        """Find the database, before Sacred captures the console, and begin attempt and journal."""
        if not self.journal_only:
            self.link.find(self.away)
        self.attempt = task.begin(self.project.store, self.uid, alone=not self.repeat)
        journal = journal_root(self.project.root) / self.uid
        sources = dict(loaded_sources(task.code).values())
        with signals_held():  # a journal is begun, or not
            self.observer = JournalObserver(journal, self._facts(task), sources)
        self.sacred.observers = [self.observer]
        self.on_begin(self.uid)

    def _facts(self, task: ResolvedTask) -> dict[str, Any]:
        """Return what stands under ``info.factbook`` from the start."""
        together = {} if self.ranks is None else {"processes": self.ranks.size}
        return {**task.facts(self.project), **together}

    # -- 3: the run -------------------------------------------------------------------------

    def work(self, sacred_run: Any) -> Mapping[str, Any]:
        """Run the stage's main function and publish its dataset; return the dataset's scalars."""
        try:
            self.starting.close()
            return self._make(sacred_run)
        except BaseException:  # Sacred records how it ends, which no signal changes any more
            self.ending.enter_context(handling_signals(lambda number, _: self.noted.append(number)))
            raise

    def _make(self, sacred_run: Any) -> Mapping[str, Any]:
        if self.task is None or self.attempt is None:
            raise RuntimeError("Sacred ran the main function without the configuration hook")
        journal = None
        if self.observer is not None:
            journal = self.observer.folder
            self.observer.watch(sacred_run)
            self.link.start(journal)
        with self.attempt as attempt:
            run = TaskRun(self.task, attempt, sacred_run, journal, self.check_signals)
            began = time.monotonic()
            try:
                output = self._output(run)
            except SystemExit as error:  # it would look like an end that went well
                raise StageError(f"the stage ended the process, status {error.code}") from error
            except PartWritten:
                self.check_signals()
                self.ending.enter_context(signals_held())
                attempt.finish_part(time.monotonic() - began)
                return {}
            finally:
                run.close()
            if attempt.part is not None:
                raise StageError(f"{self.stage.name} is cut into parts, and does not end as one")
            if self.helps:
                return {}
            written = attempt.publish(
                output, self.stage.output, run.provenance(), self._announce, self.check_signals
            )
        self.written = written
        if self.observer is None:
            sys.stdout.write(f"Not recorded; the dataset is in {written.folder}\n")
        elif attempt.overtaken_by:
            self.note = f"run {attempt.overtaken_by} published first and stays current"
            sys.stdout.write(f"{self.note}\n")
            self.observer.set_facts(overtaken_by=attempt.overtaken_by)
        return written.result

    def _output(self, run: TaskRun) -> Any:
        """Let the stage do its work, with other processes if there are any."""
        if self.task is None:
            raise RuntimeError("no task was given")
        work = self.task.config, self.task.inputs, run
        if self.ranks is None:
            return self.stage(*work)
        try:
            with self.ranks.together():
                return self.stage(*work)
        except BaseException:
            # The launcher's signals to those that are left must not change how this one ends.
            self.ending.enter_context(signals_held())
            raise

    def _announce(self, written: Written) -> None:
        """Record what is about to be published; from here on no signal spoils the end."""
        self.check_signals()
        self.ending.enter_context(signals_held())
        if self.observer is not None:
            facts = {"output": describe_output(written, self.project.root)}
            if parts := written.manifest.get("parts"):
                facts["parts"] = parts
            self.observer.announce(written.result, **facts)

    # -- 4: after the run -------------------------------------------------------------------

    def close(self) -> bool:
        """Wait, in bounded time and until a signal comes, until the record is complete.

        Returns
        -------
        bool
            False if a database was wanted, and does not hold the end of the run yet.
        """
        if self.attempt is not None:
            self.attempt.close()
        if self.elsewhere is not None and self.written is None:
            shutil.rmtree(self.elsewhere, ignore_errors=True)
        if self.observer is not None and not self.observer.has_begun:  # interrupted, or refused
            self.observer.discard()
        return self.link.close(lambda: bool(self.noted))


class _Link:
    """The way of a run's record to the database, which may be away.

    Parameters
    ----------
    project : Project
        Which database it is.
    in_suite : bool
        Whether the run goes on by its journal while the database is away; who runs the suite says
        so, once for all of its runs.
    """

    def __init__(self, project: Project, in_suite: bool):
        self._project = project
        self._in_suite = in_suite
        self._is_wanted = False
        self._database: Database | None = None
        self._projector: Projector | None = None

    def find(self, is_away: bool) -> None:
        """Find the database, unless it is known to be away; a server may have to start.

        Raises
        ------
        DatabaseError
            If it is away, and this is no suite.
        """
        self._is_wanted = True
        try:
            if not is_away:
                self._database = self._connect()
                self._is_wanted = self._database is not None
        except DatabaseError:
            if not self._in_suite:
                raise

    def _connect(self) -> Database | None:
        return connect(self._project.root, name=self._project.declaration.project.database)

    def start(self, journal: Path) -> None:
        """Begin to bring a journal to the database, if one is wanted."""
        if self._is_wanted:
            self._projector = Projector(journal, self._database, self._connect)
            self._projector.start()

    def close(self, is_hurried: Callable[[], bool]) -> bool:
        """Return whether the record is complete as it should be, after a while at most."""
        if self._projector is None:
            return True
        standing = self._projector.finish(is_hurried)
        if self._database is not None:
            self._database.close()
        if not standing.recorded and not self._in_suite:
            sys.stderr.write(f"{standing.message}\n")
        return standing.recorded


def run_job(
    job: Job,
    noted: list[int] | None = None,
    on_begin: Callable[[str], object] = lambda uid: None,
    ranks: Ranks | None = None,
) -> TaskOutcome:
    """Run a job to its end in this process; nothing that it raises passes through.

    Parameters
    ----------
    job : Job
        The job.
    noted : list of int, optional
        Signals that have asked for the end so far, as `signals_noted` yields them; more may come.
    on_begin : callable
        Called with the run's identifier when it begins.
    ranks : Ranks, optional
        The processes that run it together, of which this is one.
    """
    outcome = TaskOutcome(job.name, State.FAILED, job.uid)
    try:
        load_plugins(job.project.declaration.project.plugins)  # a worker has loaded none
        run = StageExperiment(
            job.task.stage,
            job.project,
            job.task,
            uid=job.uid,
            journal_only=job.journal_only,
            repeat=job.repeat,
            away=job.away,
            noted=[] if noted is None else noted,
            on_begin=on_begin,
            ranks=ranks,
        )
    except RefusalError as error:  # its code is gone since it was planned
        return replace(outcome, message=str(error))
    try:
        result = run.run()
        outcome = replace(outcome, ending=State.COMPLETED, message=run.note, result=result)
    except TaskRefusedError as error:
        other = error.__cause__.run if isinstance(error.__cause__, TaskBusyError) else ""
        outcome = replace(outcome, message=str(error), busy=other)
    except KeyboardInterrupt:
        ending = State.INTERRUPTED if run.result is None else State.COMPLETED
        outcome = replace(outcome, ending=ending, result=run.result or {}, stopped=True)
        leave_soon(EXIT_INTERRUPTED)
    except Exception as error:  # Sacred has recorded it, and printed it to what the run captures
        text = "".join(traceback.format_exception_only(error)).strip()
        outcome = replace(outcome, message=re.sub(r"^(?:\w+\.)+(?=\w+:)", "", text))
    finally:
        recorded = run.close()
    return replace(outcome, recorded=recorded)


def load_main_modules(stage: Stage) -> None:
    """Import what does a stage's work; a run that needs what cannot be loaded says so itself."""
    for module in stage.main_modules:
        with suppress(Exception, SystemExit):
            importlib.import_module(module)


class InProcessRunner(BlockingRunner):
    """Runs one job at a time, to its end, in this process: for debugging.

    Parameters
    ----------
    stages : collection of str
        What will be run; all are loaded at once, so that what is edited meanwhile does not count.
    workers : int
        Without effect.
    """

    def __init__(self, stages: Collection[str] = (), workers: int = 1):
        self._done: list[TaskOutcome] = []
        self.on_begin: Callable[[str], object] = lambda uid: None
        for stage in map(load_stage, stages):
            load_main_modules(stage)

    @property
    def has_room(self) -> bool:
        """Whether the outcome of the last job was taken."""
        return not self._done

    def start(self, job: Job) -> None:
        """Run a job to its end.

        Raises
        ------
        KeyboardInterrupt
            If it was interrupted.
        """
        began = time.monotonic()
        with signals_noted() as noted:
            outcome = run_job(job, noted, self.on_begin)
            self._done.append(replace(outcome, seconds=time.monotonic() - began))
        if noted or outcome.stopped:
            raise KeyboardInterrupt

    def finished(self) -> Sequence[TaskOutcome]:
        """Return what has ended since the last call."""
        done, self._done = self._done, []
        return done


# -- what Sacred shows and records of a stage -------------------------------------------------


class _Experiment(sacred.Experiment):
    """A Sacred experiment whose help names the command that was typed."""

    command_line = ""

    def get_usage(self, program_name: str | None = None) -> tuple[str, str, str]:
        # Sacred shows a program relative to the sources, in quotes if there is a space in it.
        command = self.command_line
        program = os.path.join(str(self.base_dir), command)
        short, long, internal = super().get_usage(program)  # type: ignore[no-untyped-call]
        return short.replace(repr(command), command), long.replace(repr(command), command), internal


class _CapturedStream(stdout_capturing.TeeingStreamProxy):
    """An output stream of which a run keeps a copy, and which may be written to when it is over.

    A library that is imported within a run may keep the stream, as a handler of its log does. What
    it writes later is captured by the run that goes on then, if there is one.
    """

    def write(self, text: str) -> None:
        stream = self._now()
        super().write(text) if stream is self else stream.write(text)  # type: ignore[no-untyped-call]

    def flush(self) -> None:
        stream = self._now()
        super().flush() if stream is self else stream.flush()  # type: ignore[no-untyped-call]

    def _now(self) -> Any:
        """Return this stream as long as its run goes on, then that of another, or the console."""
        streams: list[Any] = [self, sys.stdout, sys.stderr]
        for stream in streams:
            is_captured = isinstance(stream, _CapturedStream) and not stream._self_out.closed
            if is_captured and stream.__wrapped__ is self.__wrapped__:
                return stream
        return self.__wrapped__


stdout_capturing.TeeingStreamProxy = _CapturedStream  # type: ignore[misc]


def _no_effect(args: Any, run: Any) -> None:
    """Record to the journal alone; `factbook sync` brings it to MongoDB later."""


def _repeat(args: Any, run: Any) -> None:
    """Run even while another run is at the same task; each has a dataset of its own."""


_JOURNAL_ONLY = CLIOption(_no_effect, "-J", JOURNAL_ONLY, is_flag=True)
_REPEAT = CLIOption(_repeat, "-R", REPEAT, is_flag=True)


def _new_experiment(name: str) -> _Experiment:
    """Return an experiment that knows its name and the options of its command line.

    It is made in a thread: Sacred reads the sources of all functions that are being executed to
    find out who calls it, and below tests or a dashboard these are a hundred.
    """
    own_options = [_JOURNAL_ONLY, _REPEAT]
    options: dict[str, Any] = {"save_git_info": False, "additional_cli_options": own_options}
    with ThreadPoolExecutor(1) as alone:
        return alone.submit(lambda: _Experiment(name, **options)).result()


def _describe(experiment: _Experiment, stage: Stage, code: Code) -> None:
    """Say what Sacred shows of a stage."""
    experiment.base_dir = str(code.main.parent.parent)
    experiment.command_line = f"python -m {stage.name}"
    experiment.doc = _help(stage)
    packages = (PackageDependency(*package) for package in code.packages.items())
    experiment.dependencies = set(packages)
    experiment.captured_out_filter = apply_backspaces_and_linefeeds  # type: ignore[assignment]
    _name_sources(experiment, code)


def _name_sources(experiment: _Experiment, code: Code) -> None:
    """Name the stage's own files, not this module, as the experiment's source."""
    commit = code.commit
    state = (commit.repository, commit.commit, commit.dirty) if commit else (None, None, None)
    loaded = loaded_sources(code)
    files = {path: Source(str(path), md5, *state) for path, (md5, _) in loaded.items()}
    experiment.sources = set(files.values())
    experiment.mainfile = files[code.main]


def _help(stage: Stage) -> str:
    """What ``--help`` shows: the stage, every key with its unit and range, the inputs."""
    module = sys.modules[stage.name].__doc__ or ""
    classes = [cls for cls in stage.config.__mro__ if dataclasses.is_dataclass(cls)]
    config = "\n\n".join(inspect.cleandoc(cls.__doc__ or "") for cls in classes)
    slots = "".join(
        f"\n  needs.{name}: {' or '.join(slot.kinds)}{', if any' if slot.is_optional else ''}"
        for name, slot in stage.slots.items()
    )
    text = f"{module.strip()}\n\n{config}\n\nInputs:{slots}\n"
    return re.sub(r"(?i)\b(usage|options):", r"\1 :", text)  # these are Sacred's to parse


def _named_configurations(
    stage: Stage, project: Project, cells: tuple[Cell, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    declaration = project.declaration
    for name, experiment in declaration.experiments.items():
        if experiment.stage == stage.name:
            shared = {k: v for k, v in experiment.configs[0].items() if k not in experiment.varied}
            needs = {need.slot: need.reference(declaration) for need in experiment.needs}
            yield name, {**shared, "experiment": name, "needs": needs}
    for cell in cells:
        values = {**cell.config, "experiment": cell.experiment, "needs": dict(cell.needs)}
        yield sacred_name(cell.name), values


def sacred_name(cell: str) -> str:
    """Return a cell's name as Sacred can take it as a named configuration.

    Sacred splits at ``=`` and at dots.
    """
    return cell.replace("=", ":").replace(".", "_")


def describe_output(written: Written, root: Path) -> dict[str, Any]:
    """Return what a record says of a run's output, as plain values."""
    manifest = written.manifest
    folder = written.folder
    return {
        "path": str(folder.relative_to(root)) if folder.is_relative_to(root) else str(folder),
        "schema": manifest["schema"],
        "schema_version": manifest["schema_version"],
        "content": written.content,
        "sizes": manifest["sizes"],
        "bytes": written.size,
        "files": len(manifest["files"]),
    }


def run_module(name: str) -> None:
    """Run the command line of the stage that module ``name`` declares.

    A stage's module ends in this call. It runs the *imported* module's stage, since the one
    under ``__main__`` is a second copy.
    """
    command_line(load_stage(name))


def command_line(stage: Stage, argv: list[str] | None = None) -> None:
    """Run the command line of a stage, as Sacred defines it, and end the process.

    Exit status: 0 if all went well and the record was read back; 1 if the run failed or was
    refused; 3 if it went well but its record has not reached MongoDB yet; 130 if it was
    interrupted.
    """
    argv = list(sys.argv if argv is None else argv)
    try:
        project = open_project()
        os.chdir(project.root)
        argv, cells = _named_cells(project, stage, argv)
    except (DeclarationError, SelectionError) as error:
        sys.exit(str(error))
    with signals_noted() as noted:
        try:
            ranks = join_ranks(stage)
        except StageError as error:
            sys.exit(str(error))
        run = StageExperiment(stage, project, cells=cells, noted=noted, ranks=ranks)
        try:
            with run.stopped_by_signals():
                run.sacred.run_commandline(argv)
            run.require_complete_record()
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
            leave_soon(EXIT_INTERRUPTED)
            sys.exit(EXIT_INTERRUPTED)
        except JournalError as error:
            sys.exit(str(error))
        finally:
            recorded = run.close()
    sys.exit(0 if recorded else EXIT_NOT_RECORDED)


def _named_cells(
    project: Project, stage: Stage, argv: list[str]
) -> tuple[list[str], tuple[Cell, ...]]:
    """Replace the names of cells after ``with`` by names that Sacred does not split.

    SelectionError: a name means nothing that this stage makes, or several cells.
    """
    if "with" not in argv:
        return argv, ()
    start = argv.index("with") + 1
    words, cells = argv[start:], {}
    for position, word in enumerate(words):
        name = word.partition("[")[0]
        if "=" in name:
            key, _, value = word.partition("=")
            today = stage.settings.rules.name(key)
            if today != key:
                warnings.warn(renamed(key, today), RenamedWarning, stacklevel=2)
            words[position] = f"{today}={value}"
        if word.startswith("-") or "=" in name or os.path.isfile(word):
            _check_given(word)
            continue
        _require_stage(project, stage, name)
        if "[" in word:
            cell = project.graph.select_one(word)
            cells[cell.name] = cell
            words[position] = sacred_name(cell.name)
        else:
            _require_one_cell(project, name, words)
    return [*argv[:start], *words], tuple(cells.values())


def _check_given(word: str) -> None:
    """Make sure that Sacred can take what is given: a value, or a file of settings.

    SelectionError: it lies too deep inside itself, cannot be read, or would run code.
    """
    key, _, text = word.partition("=")
    is_file = os.path.isfile(word)
    try:
        value = _read_settings(word) if is_file else _literal(text)
        is_deep = key.count(".") > DEEPEST or is_too_deep(value)
    except (RecursionError, MemoryError):
        is_deep = True
    if is_deep:
        where = word if is_file else key[:100]
        raise SelectionError(f"{where}: values lie more than {DEEPEST} levels inside each other")


def _literal(text: str) -> Any:
    """Return what Sacred makes of a text."""
    with warnings.catch_warnings(), suppress(ValueError, SyntaxError):
        warnings.simplefilter("ignore")
        return ast.literal_eval(text)
    return text


def _read_settings(file: str) -> Any:
    """Return what stands in a file that is given after ``with``."""
    if file.endswith(".pickle"):
        raise SelectionError(f"{file} is a pickle, which may hold code; expected a .json file")
    try:
        values = load_config_file(file)
    except RecursionError:
        raise
    except Exception as error:  # of JSON, of YAML, of text
        raise SelectionError(f"{file} cannot be read as settings: {error}") from error
    if not isinstance(values, Mapping):
        raise SelectionError(f"{file}: expected keys with values; got {type(values).__name__}")
    return values


def _require_stage(project: Project, stage: Stage, name: str) -> None:
    experiments = project.declaration.experiments
    if name not in experiments:
        own = [other for other, entry in experiments.items() if entry.stage == stage.name]
        near = nearest(name, own) or f"; none is made by {stage.name}"
        raise SelectionError(f"unknown experiment {name!r}{near}")
    if experiments[name].stage != stage.name:
        maker = experiments[name].stage
        raise SelectionError(f"{name!r} is made by {maker}; python -m {maker} with {name}")


def _require_one_cell(project: Project, name: str, words: list[str]) -> None:
    experiment = project.declaration.experiments[name]
    own = [key for key in experiment.configs[0] if key in experiment.varied]
    given = {word.partition("=")[0] for word in words if "=" in word}
    if not set(own) <= given:
        try:
            project.graph.select_one(name)
        except SelectionError as error:
            raise SelectionError(f"{error}\nor set {', '.join(own)}") from None
