"""The display of a run of a plan: bars of what is under way, a line for what has ended."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import indent
from typing import ClassVar

from rich import progress
from rich.markup import escape

from registry.execute.runner import Progress, TaskOutcome
from registry.execute.schedule import Watcher
from registry.plan.task import Task
from registry.record.states import State
from registry.terminal import duration, out, print_table, text_of


class Display(Watcher):
    """Shows the running tasks, and a line for each that has ended; a context manager."""

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

    def __enter__(self) -> Display:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

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
