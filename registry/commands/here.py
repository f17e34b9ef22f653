"""What commands have in common: the project of the current folder, and plans of it."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from registry.declare.declaration import find_declaration
from registry.plan.project import Project, open_project
from registry.plan.task import Plan, Task
from registry.terminal import count, duration, out

MOST_NOTES = 10
HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@contextmanager
def no_collection() -> Iterator[None]:
    """Suspend garbage collection, which would walk over 10,000 tasks again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def project_here() -> Project:
    """Open the project of the current folder, and make its folder the current one."""
    with no_collection():
        project = open_project()
    os.chdir(project.root)
    return project


def root_here() -> Path:
    """Return the project's folder, whatever is wrong with what it declares."""
    return find_declaration().parent


def choice_of_tasks(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the arguments that select tasks and say when they are due."""

    @click.argument("targets", nargs=-1)
    @click.option("--force", is_flag=True, help="Run the targets even if they are complete.")
    @click.option("--changed-code", is_flag=True, help="Rerun outputs of changed code.")
    @click.option("--verify", is_flag=True, help="Compare checksums: reads every byte on disk.")
    @wraps(command)
    def with_choice(**options: Any) -> Any:
        return command(**options)

    return with_choice


def plan_of(project: Project, targets: tuple[str, ...], **options: bool) -> Plan:
    """Return the plan that arguments of :func:`choice_of_tasks` ask for."""
    with no_collection():
        return project.plan(
            targets,
            force=options.get("force", False),
            rerun_changed_code=options.get("changed_code", False),
            verify=options["verify"],
        )


def summary_of(made: Plan) -> str:
    """Return how much a plan would run, and about how long it takes."""
    if not made.due:
        return "nothing to run"
    known = f"about {duration(made.seconds)}" if made.unknown < len(made.due) else ""
    unknown = f"{made.unknown} of unknown duration" if made.unknown else ""
    return ", ".join(filter(None, (f"{count(len(made.due), 'task')} to run", known, unknown)))


def print_notes(tasks: Iterable[Task]) -> None:
    """Print what is worth knowing of tasks, and no reason to run them."""
    notes = [f"{task.name}: {note}" for task in tasks for note in task.notes]
    for note in notes[:MOST_NOTES]:
        out.print(escape(note), style="dim")
    if len(notes) > MOST_NOTES:
        out.print(f"… and {len(notes) - MOST_NOTES:,} more such notes", style="dim")
