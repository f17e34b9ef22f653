"""``factbook list``, ``plan`` and ``status``: what is declared, and how it stands.

Here stands what other commands have in common with them: the project, its plans, their notes.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from registry.catalog.lineage import FinishedRuns
from registry.declare.declaration import find_declaration
from registry.execute.probing import take_first_looks
from registry.execute.queued import queue_notes
from registry.plan.looking import looked_at_once
from registry.plan.preflight import Preflight, look_ahead
from registry.plan.probes import Probes
from registry.plan.project import Project, open_project
from registry.plan.task import Plan, Task
from registry.terminal import duration, out, print_table
from registry.wording import counted

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
    running = sum(task.is_running for task in made.open)
    at_it = f"{counted(running, 'task')} that another process is running" if running else ""
    if not made.due:
        return at_it or "nothing to run"
    known = f"about {duration(made.seconds)}" if made.unknown < len(made.due) else ""
    unknown = f"{made.unknown} of unknown duration" if made.unknown else ""
    due = f"{counted(len(made.due), 'task')} to run"
    return ", ".join(filter(None, (due, at_it, known, unknown)))


def print_parts(made: Plan) -> None:
    """Print which tasks of a plan are cut into parts, and into how many."""
    cut = [f"{task.name} ({task.parts})" for task in made.due if task.parts > 1]
    if cut:
        more = f" and {len(cut) - MOST_NOTES:,} more" if len(cut) > MOST_NOTES else ""
        out.print(escape(f"cut into parts: {', '.join(cut[:MOST_NOTES])}{more}"))


def print_notes(tasks: Iterable[Task]) -> None:
    """Print what is worth knowing of tasks, and no reason to run them."""
    notes = [f"{task.name}: {note}" for task in tasks for note in task.notes]
    for note in notes[:MOST_NOTES]:
        out.print(escape(note), style="dim")
    if len(notes) > MOST_NOTES:
        out.print(f"… and {len(notes) - MOST_NOTES:,} more such notes", style="dim")


def print_needs(found: Preflight) -> None:
    """Print what is to be known, and what is missing, before anything runs."""
    for need in found.notes:
        out.print(escape(str(need)))
    for need in found.missing:
        out.print(f"[red]missing:[/red] {escape(str(need))}")


@click.command("list", context_settings=HELP)
@click.argument("what", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(what: tuple[str, ...], as_json: bool) -> None:
    """List what is declared: datasets, networks, experiments, suites.

    WHAT narrows it down to names or patterns, as 'fashion-*'.
    """
    project = project_here()
    described = project.declaration.describe()
    if what:
        chosen = {cell.experiment for cell in project.graph.select(what)}
        described = {"experiments": [e for e in described["experiments"] if e["name"] in chosen]}
    if as_json:
        click.echo(json.dumps(described, indent=2))
        return
    for group, rows in described.items():
        _print_group(group, rows)
        out.print()
    if not what:
        _print_undeclared(project)


def _print_undeclared(project: Project) -> None:
    """Print the experiments that have finished runs, and are declared no more."""
    store = FinishedRuns(project.store.root, left_out=project.graph.by_experiment)
    store.refresh()
    newest: dict[str, tuple[str, int]] = {}
    for run, made in sorted(store.runs().items()):
        newest[made.experiment] = (run, newest.get(made.experiment, ("", 0))[1] + 1)
    if newest:
        rows = [(name, number, run) for name, (run, number) in newest.items()]
        print_table(("not declared any more", "finished runs", "newest"), rows)
        out.print()


def _print_group(group: str, rows: list[dict[str, Any]]) -> None:
    if group == "resources":
        resources = [(row["name"], row["family"], row["kind"], row["config"]) for row in rows]
        print_table(("resource", "table", "kind", "settings"), resources)
    elif group == "suites":
        members = [(row["name"], ", ".join(row["experiments"])) for row in rows]
        print_table(("suite", "experiments"), members)
    else:
        needs = [", ".join(f"{k}={v}" for k, v in row["needs"].items()) for row in rows]
        keys = ("name", "stage", "cells")
        lines = [(*(row[key] for key in keys), need) for row, need in zip(rows, needs, strict=True)]
        print_table(("experiment", "stage", "cells", "needs"), lines)


@click.command(context_settings=HELP)
@choice_of_tasks
@click.option(
    "--probe", is_flag=True, help="Load networks and images that nobody has looked at yet."
)
def plan(targets: tuple[str, ...], probe: bool, **options: bool) -> None:
    """Show what would run, why, for how long, and what is missing.

    TARGETS are experiments, cells ('fashion-sae[k=8]'), patterns ('fashion-*') or suites; all that
    is declared if none is given. What they need is planned too. Durations are from earlier runs.
    """
    with looked_at_once():
        _show_plan(project_here(), targets, probe, **options)


def _show_plan(project: Project, targets: tuple[str, ...], probe: bool, **options: bool) -> None:
    made = plan_of(project, targets, **options)
    if made.due:
        rows = ((task.name, duration(task.seconds), task.reason) for task in made.due)
        print_table(("would run", "about", "because"), rows)
        out.print()
    complete = sum(not task.is_open for task in (*made.tasks, *made.settled))
    out.print(f"{summary_of(made)}; {counted(complete, 'task')} up to date")
    print_parts(made)
    wrong = take_first_looks(project, made.due) if probe else {}
    for text in project.foreseen(made, Probes.of(project).of_resource):
        out.print(escape(text))
    print_needs(look_ahead(project, made.due, wrong=wrong))
    print_notes(made.tasks)
    for name, note in project.data_notes(targets):
        out.print(f"{escape(name)}: {escape(note)}", style="dim")


@click.command(context_settings=HELP)
@click.argument("targets", nargs=-1)
@click.option("--verify", is_flag=True, help="Compare checksums: reads every byte on disk.")
def status(targets: tuple[str, ...], verify: bool) -> None:
    """Show the status of every task, and why it would run.

    TARGETS are as for `factbook plan`.
    """
    project = project_here()
    made = plan_of(project, targets, verify=verify)
    chosen = {cell.name for cell in project.graph.select(targets)}
    tasks = {task.name: task for task in (*made.tasks, *made.settled)}
    rows = (
        (task.name, task.standing, task.state.run or task.state.earlier_run, task.reason)
        for task in tasks.values()
        if task.name in chosen or task.due
    )
    print_table(("task", "status", "last run", "would run because"), rows)
    print_notes(made.tasks)
    for what, note in queue_notes(project):
        out.print(f"{escape(what)} {escape(note)}")
