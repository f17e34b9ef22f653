"""The command line of a stage, as Sacred defines it: ``python -m fact.train_sae with …``."""

from __future__ import annotations

import os
import sys
import warnings

from registry.declare.cells import Cell
from registry.declare.declared import SelectionError
from registry.declare.faults import DeclarationError, RenamedWarning, renamed
from registry.declare.stage import Stage, load_stage
from registry.execute.experiment import StageExperiment, sacred_name
from registry.execute.runner import EXIT_INTERRUPTED, EXIT_NOT_RECORDED
from registry.plan.project import Project, open_project
from registry.record.observer import signals_interrupt
from registry.suggest import nearest


def run_module(name: str) -> None:
    """Run the command line of the stage that module ``name`` declares.

    A stage's module ends in this call. It runs the *imported* module's stage, since the one
    under ``__main__`` is a second copy.
    """
    command_line(load_stage(name))


def command_line(stage: Stage, argv: list[str] | None = None) -> None:
    """Run the command line of a stage, as Sacred defines it, and end the process.

    Exit status: 0 if all went well and the record was read back; 1 if the run failed or was
    refused; 3 if it went well but its record has not reached MongoDB yet; 130 after Ctrl-C.
    """
    argv = list(sys.argv if argv is None else argv)
    try:
        project = open_project()
        os.chdir(project.root)
        argv, cells = _named_cells(project, stage, argv)
    except (DeclarationError, SelectionError) as error:
        sys.exit(str(error))
    run = StageExperiment(stage, project, cells=cells)
    try:
        with signals_interrupt():
            run.sacred.run_commandline(argv)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(EXIT_INTERRUPTED)
    finally:
        recorded = run.close()
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
        if "=" in name:
            key, _, value = word.partition("=")
            today = stage.settings.rules.name(key)
            if today != key:
                warnings.warn(renamed(key, today), RenamedWarning, stacklevel=2)
            words[position] = f"{today}={value}"
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
        own = [other for other, entry in experiments.items() if entry.stage == stage.name]
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
