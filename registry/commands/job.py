"""``factbook job``: what queues are given to run."""

from __future__ import annotations

from pathlib import Path

import click

from registry.commands.tasks import HELP
from registry.interrupts import signals_end


@click.command(context_settings=HELP)
@click.argument("name")
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=".",
    help="The project's folder; by default the current one.",
)
@click.option("--lifeline", is_flag=True, help="End when standard input does.")
@click.pass_context
def job(ctx: click.Context, /, name: str, root: Path, lifeline: bool) -> None:
    """Run a job that a queue was given.

    NAME is its batch and index, as `factbook run --on` has submitted it.

    Queues start it, on any host that sees the project's folder. Exit status: as of `factbook run`
    for one task, 76 if it does not see what the driver wrote, and 128 and the signal's number if it
    is interrupted before it has begun.
    """
    with signals_end():
        from registry.execute.submitted import run_submitted  # heavy

        ctx.exit(run_submitted(root.absolute(), name, lifeline))
