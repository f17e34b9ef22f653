"""Declared executors, opened: ``factbook run SUITE --on NAME``."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from importlib.metadata import EntryPoint

from registry.declare.executors import EXECUTOR_GROUP, Executor, Local
from registry.declare.faults import StageError
from registry.execute.launched import ranks_of
from registry.execute.runner import Runner
from registry.execute.workers import WorkerRunner
from registry.plan.project import Project
from registry.suggest import RefusalError, nearest

Opener = Callable[[Project, Executor, Collection[str]], Runner]
"""From a project, one of its executors, and the stages that will be run, to a runner."""


class ExecutorError(RefusalError):
    """An executor that is not declared, or cannot be opened."""


def open_executor(project: Project, name: str, stages: Collection[str]) -> Runner:
    """Return the runner of an executor that a project declares.

    Raises
    ------
    ExecutorError
        If it declares none of this name.
    StageError
        If what makes the runner cannot be loaded.
    """
    executors = project.declaration.executors
    if name not in executors:
        near = nearest(name, executors) or "; experiments.toml has no [executors.NAME]"
        raise ExecutorError(f"unknown executor {name!r}{near}")
    executor = executors[name]
    opens = type(executor.settings).opens
    try:
        opener: Opener = EntryPoint(executor.kind, opens, EXECUTOR_GROUP).load()
    except AttributeError as error:
        raise StageError(f"executor kind {executor.kind!r} cannot be loaded: {error}") from error
    return opener(project, executor, stages)


def open_local(project: Project, executor: Executor, stages: Collection[str]) -> Runner:
    """Return the runner of worker processes of this machine."""
    settings: Local = executor.settings
    return WorkerRunner(stages, settings.workers, partial(ranks_of, project, executor.name))
