"""``factbook run``: what is due is run."""

from __future__ import annotations

import click

from registry.commands.here import (
    HELP,
    choice_of_tasks,
    plan_of,
    print_notes,
    project_here,
    summary_of,
)
from registry.execute import runner as runners
from registry.execute.display import Display, print_results
from registry.execute.schedule import run_plan
from registry.mongo.database import connect
from registry.record.states import State
from registry.terminal import count, out


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
    with Display() as display:
        outcomes = run_plan(
            project,
            made,
            workers=workers,
            here=here,
            journal_only=journal_only,
            watcher=display,
            runner=runner,
        )
    print_results(outcomes)
    if any(outcome.ending is State.INTERRUPTED for outcome in outcomes):
        ctx.exit(runners.EXIT_INTERRUPTED)
    if not all(outcome.is_good for outcome in outcomes):
        ctx.exit(runners.EXIT_FAILED)
    if not all(outcome.recorded for outcome in outcomes):
        ctx.exit(runners.EXIT_NOT_RECORDED)
