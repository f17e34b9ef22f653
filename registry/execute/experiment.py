"""A stage as a Sacred experiment: its command line, its record, and the execution of a task.

There is one way to run a task, whether ``factbook run`` asks for it or somebody types
``python -m fact.train_sae with fashion-sae``: Sacred resolves the configuration, a hook turns it
into a task and checks the inputs, and the stage's main function runs under an observer that
writes the run's journal.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

with warnings.catch_warnings():  # Sacred 0.8.7 imports pkg_resources, which says that it will go
    warnings.simplefilter("ignore", UserWarning)
    import sacred
from sacred.commandline_options import CLIOption
from sacred.dependencies import PackageDependency, Source, get_digest
from sacred.utils import apply_backspaces_and_linefeeds

from registry.declare.cells import Cell
from registry.declare.declaration import DeclarationError
from registry.declare.reference import SelectionError
from registry.declare.stage import ConfigError, Stage, StageError
from registry.execute.resolved import ResolvedTask, TaskRun, resolve_task
from registry.execute.schedule import EXIT_INTERRUPTED, EXIT_NOT_RECORDED
from registry.mongo.connection import Database, DatabaseError, connect
from registry.mongo.projector import Projector
from registry.plan.artifacts import ExperimentStore
from registry.plan.project import MissingInputsError, Project, open_project
from registry.plan.sources import code_of
from registry.record.journal import journal_root, new_uid
from registry.record.observer import JournalError, JournalObserver, signals_interrupt
from registry.suggest import nearest

if TYPE_CHECKING:
    from registry.store.datasets import Written

JOURNAL_ONLY = "--journal-only"
BEAT, BEAT_SECONDS = "--beat-interval", 2.0
"""Seconds of metrics and console that a killed run loses at most; Sacred's own default is 10."""

sacred.SETTINGS.CAPTURE_MODE = "sys"  # "fd" loses and doubles lines


class TaskRefusedError(SystemExit):
    """A task that cannot be run as asked; ends the process with its message and status 1."""


REFUSALS = (
    ConfigError,
    DatabaseError,
    DeclarationError,
    JournalError,
    MissingInputsError,
    SelectionError,
)


class _Experiment(sacred.Experiment):
    """A Sacred experiment whose help names the command that was typed."""

    command_line = ""

    def get_usage(self, program_name: str | None = None) -> tuple[str, str, str]:
        # Sacred shows a program relative to the sources, in quotes if there is a space in it.
        command = self.command_line
        short, long, internal = super().get_usage(os.path.join(str(self.base_dir), command))
        return short.replace(repr(command), command), long.replace(repr(command), command), internal


def _no_effect(args: Any, run: Any) -> None:
    """Record to the journal alone; `factbook sync` brings it to MongoDB later."""


class StageExperiment:
    """One stage of one project as a Sacred experiment.

    Parameters
    ----------
    stage : Stage
        What is run.
    project : Project
        Whose declarations are the named configurations, and whose store takes the output.
    task : ResolvedTask, optional
        What is to run, where that is known already; otherwise Sacred's configuration tells.
    cells : iterable of Cell
        Cells to offer as named configurations beside the experiments.
    uid : str, optional
        Identifier of the run.
    journal_only : bool
        Whether the record stays in the journal.
    """

    def __init__(
        self,
        stage: Stage,
        project: Project,
        *,
        task: ResolvedTask | None = None,
        cells: tuple[Cell, ...] = (),
        uid: str | None = None,
        journal_only: bool = False,
    ):
        self.stage = stage
        self.project = project
        self.uid = uid or new_uid()
        self.journal_only = journal_only
        self.unobserved = False
        self._task = task
        self._database: Database | None = None
        self._projector: Projector | None = None
        self._observer: JournalObserver | None = None
        self.experiment = self._build((*cells, task.cell) if task else cells)

    # -- what Sacred is given ---------------------------------------------------------------

    def _build(self, cells: tuple[Cell, ...]) -> sacred.Experiment:
        option = CLIOption(_no_effect, "-J", JOURNAL_ONLY, is_flag=True)
        experiment = _Experiment(
            self.stage.name, save_git_info=False, additional_cli_options=[option]
        )
        experiment.command_line = f"python -m {self.stage.name}"
        self._describe_sources(experiment)
        experiment.add_config(self._default_configuration())
        for name, values in self._named_configurations(cells):
            experiment.add_named_config(name, values)
        experiment.captured_out_filter = apply_backspaces_and_linefeeds  # type: ignore[assignment]
        experiment.option_hook(self._read_options)
        experiment.config_hook(self._hook())
        experiment.main(self._main())
        return experiment

    def _describe_sources(self, experiment: sacred.Experiment) -> None:
        """Name the stage's own files, not this module, as the experiment's source."""
        code = self._task.code if self._task else code_of(self.stage.name, self.project.root)
        commit = code.commit
        state = (commit.repository, commit.commit, commit.dirty) if commit else (None, None, None)
        files = {path: Source(str(path), get_digest(str(path)), *state) for path in code.files}
        experiment.sources = set(files.values())
        experiment.mainfile = files[code.main]
        experiment.base_dir = str(code.main.parent.parent)
        experiment.doc = self._help()
        packages = (PackageDependency(*package) for package in code.packages.items())
        experiment.dependencies = set(packages)

    def _help(self) -> str:
        """What ``--help`` shows: the stage, every key with its unit and range, the inputs."""
        module, config = sys.modules[self.stage.name].__doc__ or "", self.stage.config.__doc__ or ""
        slots = "".join(
            f"\n  needs.{name}: {' or '.join(slot.kinds)}{', if any' if slot.is_optional else ''}"
            for name, slot in self.stage.slots.items()
        )
        text = f"{module.strip()}\n\n{inspect.cleandoc(config)}\n\nInputs:{slots}\n"
        return re.sub(r"(?i)\b(usage|options):", r"\1 :", text)  # these are Sacred's to parse

    def _default_configuration(self) -> dict[str, Any]:
        needs = dict.fromkeys(self.stage.needs, "")
        return {"seed": 0, **self.stage.settings.defaults(), "experiment": "", "needs": needs}

    def _named_configurations(self, cells: tuple[Cell, ...]) -> Iterator[tuple[str, dict]]:
        declaration = self.project.declaration
        for name, experiment in declaration.experiments.items():
            if experiment.stage == self.stage.name:
                own = {axis.key for axis in experiment.axes if axis.origin == name}
                shared = {k: v for k, v in experiment.configs[0].items() if k not in own}
                needs = {need.slot: need.reference(declaration) for need in experiment.needs}
                yield name, {**shared, "experiment": name, "needs": needs}
        for cell in cells:
            values = {**cell.config, "experiment": cell.experiment, "needs": dict(cell.needs)}
            yield sacred_name(cell.name), values

    # -- what Sacred calls back -------------------------------------------------------------

    def _read_options(self, options: MutableMapping[str, Any]) -> None:
        options[BEAT] = options.get(BEAT) or BEAT_SECONDS
        self.unobserved = bool(options.get("--unobserved"))
        self.journal_only = self.journal_only or bool(options.get(JOURNAL_ONLY))

    def _hook(self) -> Callable[[Any, Any, Any], dict[str, Any]]:
        def prepare(config, command_name, logger):  # type: ignore[no-untyped-def]
            if command_name == self.experiment.default_command:
                self._prepare(config)
            return {}

        return prepare

    def _prepare(self, config: dict[str, Any]) -> None:
        """Turn the configuration into a task and open its record, or refuse it."""
        try:
            self._task = self._task or resolve_task(self.project, self.stage, config)
            if self.unobserved:
                return
            self._database = self._connect()
            self._observer = JournalObserver(self.journal, self._task.facts(self.project))
            self.experiment.observers = [self._observer]
        except REFUSALS as error:
            raise TaskRefusedError(str(error)) from error

    def _main(self) -> Callable[..., Any]:
        def main(_run: Any) -> Any:
            if self._observer is not None:
                self._observer.watch(_run)
                self._projector = Projector(self.journal, self._database)
                self._projector.start()
            return self._execute(_run)

        main.__name__ = self.stage.name.rpartition(".")[2]
        main.__doc__ = self.stage.doc
        return main

    # -- the work ---------------------------------------------------------------------------

    def _execute(self, sacred_run: Any) -> dict[str, Any]:
        task = self._task
        if task is None:
            raise RuntimeError("Sacred ran the main function without the configuration hook")
        with ExitStack() as stack:
            attempt = stack.enter_context(task.begin(self._store(), self.uid))
            run = TaskRun(task, attempt, sacred_run, self._journal_to_tell())
            try:
                output = self.stage(task.config, task.inputs, run)
            except SystemExit as error:  # it would look like an end that went well
                raise StageError(f"the stage ended the process, status {error.code}") from error
            written = attempt.publish(output, self.stage.output, run.provenance())
        if self._observer is not None:
            self._observer.set_facts(output=describe_output(written, self.project.root))
        if self.unobserved:
            sys.stdout.write(f"Recorded nowhere; the dataset is in {written.folder}\n")
        return written.result

    @property
    def journal(self) -> Path:
        """The folder of the run's journal."""
        return journal_root(self.project.root) / self.uid

    def _connect(self) -> Database | None:
        """Connect before Sacred captures the console: an embedded server may have to start."""
        if self.journal_only:
            return None
        return connect(self.project.root, name=self.project.declaration.project.database)

    def _journal_to_tell(self) -> Path | None:
        return None if self._observer is None else self.journal

    def _store(self) -> ExperimentStore:
        if self.unobserved:
            return ExperimentStore(Path(tempfile.mkdtemp(prefix="factbook-unobserved-")))
        return self.project.store

    def close(self) -> bool:
        """Wait, in bounded time, until the record is complete.

        Returns
        -------
        bool
            False if a database was wanted, and does not hold the end of the run yet.
        """
        if self._projector is None or self._database is None:
            return True
        outcome = self._projector.finish()
        self._database.close()
        if not outcome.recorded:
            sys.stderr.write(f"{outcome.message}\n")
        return outcome.recorded

    def run(self) -> None:
        """Run the given task through Sacred; what it raises passes through.

        Raises
        ------
        TaskRefusedError
            If the task cannot be run as asked.
        """
        if self._task is None:
            raise RuntimeError("no task was given")
        with signals_interrupt():
            self.experiment.run(named_configs=[sacred_name(self._task.cell.name)])


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


def sacred_name(cell: str) -> str:
    """Return a cell's name as Sacred can take it as a named configuration.

    Sacred splits at ``=`` and at dots.
    """
    return cell.replace("=", ":").replace(".", "_")


def command_line(stage: Stage, argv: list[str] | None = None) -> None:
    """Run the command line of a stage, as Sacred defines it, and end the process.

    Exit status: 0 if all went well and the record was read back; 1 if the run failed or was
    refused; 3 if it went well but its record has not reached MongoDB yet; 130 after Ctrl-C.
    """
    argv = list(sys.argv if argv is None else argv)
    try:
        project = open_project()
    except DeclarationError as error:
        sys.exit(str(error))
    os.chdir(project.root)
    try:
        argv, cells = _named_cells(project, stage, argv)
    except SelectionError as error:
        sys.exit(str(error))
    runner = StageExperiment(stage, project, cells=cells)
    try:
        with signals_interrupt():
            runner.experiment.run_commandline(argv)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(EXIT_INTERRUPTED)
    finally:
        recorded = runner.close()
    sys.exit(0 if recorded else EXIT_NOT_RECORDED)


def _named_cells(
    project: Project, stage: Stage, argv: list[str]
) -> tuple[list[str], tuple[Cell, ...]]:
    """Replace the names of cells after ``with`` by names that Sacred does not split.

    Raises
    ------
    SelectionError
        If a name means nothing that this stage makes, or several cells, and what follows does
        not choose one.
    """
    if "with" not in argv:
        return argv, ()
    start = argv.index("with") + 1
    words, cells = argv[start:], {}
    for position, word in enumerate(words):
        name = word.partition("[")[0]
        if word.startswith("-") or "=" in name or os.path.isfile(word):
            continue
        _require_stage(project, stage, name)
        if "[" in word:
            cell = project.graph.select_one(word)
            cells[cell.name] = cell
            words[position] = sacred_name(cell.name)
        else:
            _require_one_cell(project, name, words)
    return [*argv[:start], *words], tuple(cells.values())


def _require_stage(project: Project, stage: Stage, name: str) -> None:
    experiments = project.declaration.experiments
    if name not in experiments:
        own = [other for other, told in experiments.items() if told.stage == stage.name]
        near = nearest(name, own) or f"; none is made by {stage.name}"
        raise SelectionError(f"unknown experiment {name!r}{near}")
    if experiments[name].stage != stage.name:
        maker = experiments[name].stage
        raise SelectionError(f"{name!r} is made by {maker}; python -m {maker} with {name}")


def _require_one_cell(project: Project, name: str, words: list[str]) -> None:
    experiment = project.declaration.experiments[name]
    own = [axis.key for axis in experiment.axes if axis.origin == name]
    given = {word.partition("=")[0] for word in words if "=" in word}
    if not set(own) <= given:
        try:
            project.graph.select_one(name)
        except SelectionError as error:
            raise SelectionError(f"{error}\nor set {', '.join(own)}") from None
