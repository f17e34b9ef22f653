"""``factbook mongo`` and ``factbook dashboard``: the embedded database, and the server of pages."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import click

from registry.commands.tasks import HELP, project_here, root_here
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


@click.command(context_settings=HELP)
@click.option("--port", default=8501, show_default=True, help="0 for any free port.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--browser", is_flag=True, help="Open a browser.")
def dashboard(port: int, host: str, browser: bool) -> None:
    """Serve the dashboard until interrupted."""
    found = importlib.util.find_spec("dashboards")
    if importlib.util.find_spec("streamlit") is None or found is None or not found.origin:
        raise click.ClickException(
            "the dashboard needs Streamlit: pip install 'factbook[dashboard]'"
        )
    project = project_here()
    app = Path(found.origin).with_name("serve.py")
    options = {
        "server.address": host,
        "server.port": port,
        "server.headless": str(not browser).lower(),
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorLinks": "false",
    }
    arguments = [f"--{key}={value}" for key, value in options.items()]
    command = [sys.executable, "-m", "streamlit", "run", str(app), *arguments]
    environment = {**os.environ, "FACTBOOK_PROJECT": str(project.root)}
    os.execve(sys.executable, command, environment)  # so that a signal reaches the server itself
