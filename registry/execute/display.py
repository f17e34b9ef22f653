"""The display of a run of a plan: bars of what is under way, a line for what has ended."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import indent
from typing import ClassVar

from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from registry.execute import schedule as execute
from registry.plan.plan import Task
from registry.plan.project import Project
from registry.record.journal import journal_root, read_journal
from registry.terminal import duration, out, print_table, text_of


class Display(execute.Watcher):
    """Shows the running tasks, and a line for each that has ended; a context manager."""

    MARKS: ClassVar = {
        execute.Ending.COMPLETED: "[green]✓[/green]",
        execute.Ending.UNCHANGED: "[green]=[/green]",
        execute.Ending.FAILED: "[red]✗[/red]",
        execute.Ending.INTERRUPTED: "[yellow]![/yellow]",
        execute.Ending.BLOCKED: "[yellow]–[/yellow]",
    }

    def __init__(self) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=30))
        counted = TextColumn("{task.fields[counted]}")
        self.bars = Progress(
            *columns,
            counted,
            TimeElapsedColumn(),
            console=out,
            transient=True,
            disable=not out.is_terminal,
        )
        self.rows: dict[str, TaskID] = {}

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

    def progressed(self, task: Task, progress: execute.Progress) -> None:
        """Move the bar."""
        counted = f"{progress.done:,}/{progress.total:,} {progress.what}"
        self.bars.update(
            self.rows[task.name],
            completed=progress.done,
            total=progress.total or None,
            counted=escape(counted),
        )

    def ended(self, task: Task, outcome: execute.Outcome) -> None:
        """Replace the bar by a line."""
        if task.name in self.rows:
            self.bars.remove_task(self.rows.pop(task.name))
        message = f"\n{indent(escape(outcome.message), '    ')}" if outcome.message else ""
        took = f"  {duration(outcome.seconds)}" if outcome.uid else ""
        mark = self.MARKS[outcome.ending]
        out.print(f"{mark} {escape(task.name)}  {outcome.ending}{took}{message}")


def print_results(project: Project, outcomes: Iterable[execute.Outcome]) -> None:
    """Print what the runs that completed found, as a table."""
    rows = []
    for outcome in outcomes:
        if outcome.ending is execute.Ending.COMPLETED and outcome.uid:
            result = read_journal(journal_root(project.root) / outcome.uid).result
            numbers = result.items() if isinstance(result, dict) else ()
            told = ", ".join(f"{key} {text_of(value)}" for key, value in numbers)
            rows.append((outcome.name, duration(outcome.seconds), told))
    if rows:
        out.print()
        print_table(("experiment", "took", "result"), rows)
