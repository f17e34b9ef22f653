"""``factbook run``: what is due is run, with bars of what is under way."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from textwrap import indent
from typing import ClassVar

import click
from rich import progress
from rich.markup import escape

from registry.commands.results import results_text
from registry.commands.tasks import (
    HELP,
    choice_of_tasks,
    plan_of,
    print_needs,
    print_notes,
    project_here,
    summary_of,
)
from registry.declare.stage import load_stage
from registry.execute import runner as runners
from registry.execute.executors import open_executor
from registry.execute.probing import take_first_looks
from registry.execute.runner import KeepingRunner, Progress, Runner, TaskOutcome
from registry.execute.schedule import Busy, Watcher, run_plan
from registry.mongo.database import DatabaseError, connect
from registry.mongo.projector import SYNC, sync
from registry.plan.preflight import UnmetNeedsError, look_ahead
from registry.plan.probes import Probes, unprobed
from registry.plan.project import Project
from registry.plan.task import Plan, Task, Why
from registry.record.journal import journal_root
from registry.record.states import State
from registry.store.parts import MOST_PARTS
from registry.terminal import can_animate, duration, out, print_table
from registry.wording import counted

RECORD_SECONDS = 10.0
"""How often the records of jobs elsewhere are brought to the database."""


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
@click.option(
    "--parts",
    type=click.IntRange(min=1, max=MOST_PARTS),
    help="Cut each of TARGETS that can be cut into so many parts, which can run side by side.",
)
@click.option("--here", is_flag=True, help="Run in this process, one by one, for debugging.")
@click.option("--runner", default="workers", help="Runner: workers, here, or one of a plug-in.")
@click.option("--on", "executor", default="", help="Executor: one of [executors] in the file.")
@click.option(
    "--keep-going",
    "-k",
    is_flag=True,
    help="Where something is missing, run what can run without it.",
)
@click.option("--journal-only", is_flag=True, help="Record to journals only; sync later.")
@click.option(
    "--busy",
    type=click.Choice(["wait", "skip", "repeat"]),
    default="wait",
    show_default=True,
    help="What to do with a task that another process is running.",
)
@click.pass_context
def run(
    ctx: click.Context,
    /,
    targets: tuple[str, ...],
    workers: int,
    parts: int | None,
    here: bool,
    runner: str,
    executor: str,
    keep_going: bool,
    journal_only: bool,
    busy: Busy,
    **options: bool,
) -> None:
    """Run what is due of TARGETS, and what they need.

    With --on, tasks run where the table [executors.NAME] says: in processes of this machine, on
    Slurm, or on Dask's workers. A command that was killed finds its jobs when it is typed again.

    TARGETS are experiments, cells ('fashion-sae[k=8]'), patterns ('fashion-*') or suites; all that
    is declared if none is given. Before the first task runs, all that they need is looked for:
    packages, weights, data, trust in code from outside. Exit status: 0 if all went well and is
    recorded, 1 if something failed or is missing, 3 if a record has not reached MongoDB yet, 130 if
    it was interrupted: by Ctrl-C, SIGTERM or SIGHUP, at any time but the first moment, while Python
    itself starts, and the last, when all is said.
    """
    project = project_here()
    made = plan_of(project, targets, **options)
    if parts is not None:
        made = made.cut(parts, {cell.name for cell in project.graph.select(targets)})
    stages = {task.stage for task in made.open}
    chosen = _chosen_runner(project, stages, executor, runner, here, workers)
    if not made.open:
        out.print(f"nothing to run: {counted(len(made.tasks), 'task')} up to date")
        print_notes(made.tasks)
        if not journal_only:
            _store_records(project, _runs_elsewhere(project, chosen))
        return
    out.print(summary_of(made))
    ahead = look_ahead(project, made.due)
    if len(made.due) > 1 and not ahead.missing and unprobed(project, made.due):
        out.print("a first look at networks and images …")
        ahead = look_ahead(project, made.due, wrong=take_first_looks(project, made.due))
        for text in project.foreseen(made, Probes.of(project).of_resource):
            out.print(escape(text))
    if ahead.missing and not keep_going:
        raise UnmetNeedsError(ahead, "nothing was run; --keep-going runs what can run without")
    print_needs(ahead)
    if not journal_only:
        database = connect(project.root, name=project.declaration.project.database)
        if database is not None:
            database.close()
    display = Display()
    with display.bars, _records_follow(project, chosen, journal_only):
        outcomes = run_plan(
            project,
            made,
            workers=workers,
            journal_only=journal_only,
            watcher=display,
            runner=chosen,
            busy=busy,
            lacking=ahead.lacking,
        )
    print_results(outcomes, made)
    left = {o.uid for o in outcomes if o.uid and not o.recorded} | _runs_elsewhere(project, chosen)
    recorded = journal_only or _store_records(project, left)
    if any(outcome.ending is State.INTERRUPTED for outcome in outcomes):
        ctx.exit(runners.EXIT_INTERRUPTED)
    if not all(outcome.is_good for outcome in outcomes):
        ctx.exit(runners.EXIT_FAILED)
    if not recorded:
        ctx.exit(runners.EXIT_NOT_RECORDED)


def _chosen_runner(
    project: Project, stages: set[str], executor: str, runner: str, here: bool, workers: int
) -> str | Runner:
    if not executor:
        return "here" if here else runner
    if here or runner != "workers" or workers != 1:
        raise click.UsageError("--on says where tasks run; no --here, --runner or --workers beside")
    return open_executor(project, executor, stages)


@contextmanager
def _records_follow(project: Project, runner: str | Runner, journal_only: bool) -> Iterator[None]:
    """Bring what jobs elsewhere write to their journals to the database, while they run."""
    if not isinstance(runner, KeepingRunner):
        yield
        return
    over = threading.Event()

    def work() -> None:
        while not over.wait(RECORD_SECONDS):
            with suppress(DatabaseError):  # the end says it
                database = connect(project.root, name=project.declaration.project.database)
                if database is None:
                    return
                try:
                    sync(project.root, database, uids=_runs_elsewhere(project, runner))
                finally:
                    database.close()

    thread = threading.Thread(target=work, name="records", daemon=True)
    try:
        if not journal_only:
            thread.start()
        yield
    finally:
        over.set()
        if thread.is_alive():
            thread.join()
        runner.close()


def _runs_elsewhere(project: Project, runner: str | Runner) -> set[str]:
    """Return the runs that began in jobs elsewhere, and have journals."""
    if not isinstance(runner, KeepingRunner):
        return set()
    return {uid for uid in list(runner.runs) if (journal_root(project.root) / uid).is_dir()}


def _store_records(project: Project, runs: set[str]) -> bool:
    """Bring records to a database that was away when the runs ended; say so if it still is."""
    if not runs:
        return True
    try:
        database = connect(project.root, name=project.declaration.project.database)
        if database is None:
            return True
        done = sync(project.root, database, uids=runs)  # without what is stored already
        database.close()
        reason = next((synced.error for synced in done if synced.error), None)
        if reason is None:
            return True
    except DatabaseError as error:
        reason = str(error)
    out.print()
    out.print(f"{counted(len(runs), 'record')} in journals only: {escape(reason)}")
    out.print(f"Complete them when MongoDB is back: {SYNC}")
    return False


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
            disable=not can_animate(),
        )
        self.rows: dict[str, progress.TaskID] = {}
        self.said_away = False

    def started(self, task: Task, uid: str) -> None:
        """Add a bar."""
        self.rows[task.title] = self.bars.add_task(escape(task.title), total=None, counted="")

    def begun(self, task: Task, uid: str) -> None:
        """Print a line where no terminal shows bars."""
        if not can_animate():
            why = "it never ran" if task.reason == Why.NEVER else task.reason or "it was submitted"
            out.print(escape(f"… starting {task.title} (run {uid}), because {why}"))

    def progressed(self, task: Task, progress: Progress) -> None:
        """Move the bar."""
        if progress.waits and not can_animate():
            out.print(escape(f"… {task.title} {progress.waits}"))
        far = progress.waits or f"{progress.done:,}/{progress.total:,} {progress.what}"
        self.bars.update(
            self.rows[task.title],
            completed=progress.done,
            total=progress.total or None,
            counted=escape(far),
        )

    def waits(self, task: Task, run: str) -> None:
        """Say which run is waited for."""
        if task.title in self.rows:
            self.bars.remove_task(self.rows.pop(task.title))
        out.print(f"… {escape(task.title)}: run {run} of another process is at it; waiting")

    def ended(self, task: Task, outcome: TaskOutcome) -> None:
        """Replace the bar by a line."""
        if task.title in self.rows:
            self.bars.remove_task(self.rows.pop(task.title))
        lines = [outcome.message]
        if not (outcome.recorded or outcome.message or self.said_away):
            self.said_away = True
            lines.append("MongoDB is away; this run and those that follow go on by their journals")
        text = "\n".join(filter(None, lines))
        message = f"\n{indent(escape(text), '    ')}" if text else ""
        took = f"  {duration(outcome.seconds)}" if outcome.uid else ""
        mark = self.MARKS[outcome.ending]
        out.print(f"{mark} {escape(task.title)}  {outcome.ending}{took}{message}")


def print_results(outcomes: Sequence[TaskOutcome], made: Plan) -> None:
    """Print what the runs that completed found, as a table; parts count as of the whole."""
    took = {outcome.name: outcome.seconds for outcome in outcomes}
    tasks = {task.name: task for task in made.open}
    rows = []
    for outcome in outcomes:
        if outcome.ending is State.COMPLETED and outcome.uid and outcome.name in tasks:
            task = tasks[outcome.name]
            output = load_stage(task.cell.stage).output
            found = results_text(outcome.result, task.cell.config, output)
            seconds = sum(took.get(part.title, 0.0) for part in task.in_parts())
            rows.append((outcome.name, duration(seconds), found))
    if rows:
        out.print()
        print_table(("experiment", "took", "result"), rows)
