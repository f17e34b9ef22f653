"""``factbook mongo``: the embedded database."""

from __future__ import annotations

import click

from registry.commands.here import HELP, root_here
from registry.mongo import server
from registry.terminal import err


@click.group(context_settings=HELP)
def mongo() -> None:
    """Start, stop or find the embedded database."""


@mongo.command("start", context_settings=HELP)
def mongo_start() -> None:
    """Start the embedded server, or find the one that runs, and print its URL."""
    click.echo(server.start(root_here()).uri)


@mongo.command("stop", context_settings=HELP)
def mongo_stop() -> None:
    """Stop the embedded server, after proof that it is this project's own."""
    stopped = server.stop(root_here())
    click.echo("stopped" if stopped else "not running")


@mongo.command("uri", context_settings=HELP)
@click.pass_context
def mongo_uri(ctx: click.Context) -> None:
    """Print the URL of the running server, for pymongo and other clients."""
    found = server.find(root_here())
    if found is None:
        err.print("not running; `factbook mongo start` starts it")
        ctx.exit(1)
    click.echo(found.uri)
