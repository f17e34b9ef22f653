"""``factbook run``: what is due is run, with bars of what is under way."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import indent
from typing import ClassVar

import click
from rich import progress
from rich.markup import escape

from registry.commands.tasks import (
    HELP,
    choice_of_tasks,
    plan_of,
    print_notes,
    project_here,
    summary_of,
)
from registry.execute import runner as runners
from registry.execute.runner import Progress, TaskOutcome
from registry.execute.schedule import Watcher, run_plan
from registry.mongo.database import connect
from registry.plan.task import Task
from registry.record.states import State
from registry.terminal import count, duration, out, print_table, text_of


@click.command(context_settings=HELP)
@choice_of_tasks
@click.option(
    "--workers",
    "-w",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes side by side.",
)
@click.option("--here", is_flag=True, help="Run in this process, one by one, for debugging.")
@click.option("--runner", default="workers", help="Runner: workers, here, or one of a plug-in.")
@click.option("--journal-only", is_flag=True, help="Record to journals only; sync later.")
@click.pass_context
def run(
    ctx: click.Context,
    /,
    targets: tuple[str, ...],
    workers: int,
    here: bool,
    runner: str,
    journal_only: bool,
    **options: bool,
) -> None:
    """Run what is due of TARGETS, and what they need.

    TARGETS are experiments, cells ('fashion-sae[k=8]'), patterns ('fashion-*') or suites; all that
    is declared if none is given. Exit status: 0 if all went well and is recorded, 1 if something
    failed, 3 if a record has not reached MongoDB yet, 130 if it was interrupted.
    """
    project = project_here()
    made = plan_of(project, targets, **options)
    if not made.due:
        out.print(f"nothing to run: {count(len(made.tasks), 'task')} up to date")
        print_notes(made.tasks)
        return
    out.print(summary_of(made))
    if not journal_only:
        database = connect(project.root, name=project.declaration.project.database)
        if database is not None:
            database.close()
    display = Display()
    with display.bars:
        outcomes = run_plan(
            project,
            made,
            workers=workers,
            journal_only=journal_only,
            watcher=display,
            runner="here" if here else runner,
        )
    print_results(outcomes)
    if any(outcome.ending is State.INTERRUPTED for outcome in outcomes):
        ctx.exit(runners.EXIT_INTERRUPTED)
    if not all(outcome.is_good for outcome in outcomes):
        ctx.exit(runners.EXIT_FAILED)
    if not all(outcome.recorded for outcome in outcomes):
        ctx.exit(runners.EXIT_NOT_RECORDED)


class Display(Watcher):
    """Shows what runs, while its ``bars`` are entered, and a line for each task that has ended."""

    MARKS: ClassVar = {
        State.COMPLETED: "[green]✓[/green]",
        State.UNCHANGED: "[green]=[/green]",
        State.FAILED: "[red]✗[/red]",
        State.INTERRUPTED: "[yellow]![/yellow]",
        State.BLOCKED: "[yellow]–[/yellow]",
    }

    def __init__(self) -> None:
        self.bars = progress.Progress(
            progress.SpinnerColumn(),
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=30),
            progress.TextColumn("{task.fields[counted]}"),
            progress.TimeElapsedColumn(),
            console=out,
            transient=True,
            disable=not out.is_terminal,
        )
        self.rows: dict[str, progress.TaskID] = {}

    def started(self, task: Task, uid: str) -> None:
        """Add a bar, or print a line where no terminal shows bars."""
        if not out.is_terminal:
            out.print(f"… {escape(task.name)} (run {uid}): {escape(task.reason)}")
        self.rows[task.name] = self.bars.add_task(escape(task.name), total=None, counted="")

    def progressed(self, task: Task, progress: Progress) -> None:
        """Move the bar."""
        self.bars.update(
            self.rows[task.name],
            completed=progress.done,
            total=progress.total or None,
            counted=escape(f"{progress.done:,}/{progress.total:,} {progress.what}"),
        )

    def ended(self, task: Task, outcome: TaskOutcome) -> None:
        """Replace the bar by a line."""
        if task.name in self.rows:
            self.bars.remove_task(self.rows.pop(task.name))
        message = f"\n{indent(escape(outcome.message), '    ')}" if outcome.message else ""
        took = f"  {duration(outcome.seconds)}" if outcome.uid else ""
        mark = self.MARKS[outcome.ending]
        out.print(f"{mark} {escape(task.name)}  {outcome.ending}{took}{message}")


def print_results(outcomes: Iterable[TaskOutcome]) -> None:
    """Print what the runs that completed found, as a table."""
    rows = []
    for outcome in outcomes:
        if outcome.ending is State.COMPLETED and outcome.uid:
            found = ", ".join(f"{key} {text_of(value)}" for key, value in outcome.result.items())
            rows.append((outcome.name, duration(outcome.seconds), found))
    if rows:
        out.print()
        print_table(("experiment", "took", "result"), rows)
