"""What was recorded, ``factbook runs``, ``show``, ``diff``, ``path`` and ``sync``, and its servers.

``factbook mongo`` is about the embedded database, ``factbook dashboard`` serves the pages.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import socket
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from registry.catalog.access import Catalog, open_catalog
from registry.catalog.notes import ARCHIVED, NoteSubject, run_subject
from registry.catalog.runs import RunView, is_run, source_diff
from registry.commands.results import results_text
from registry.commands.tasks import HELP, project_here, root_here
from registry.declare.declaration import PROJECT_VARIABLE
from registry.declare.stage import find_stage
from registry.mongo import server
from registry.mongo.database import DatabaseError, connect
from registry.mongo.projector import Synced
from registry.mongo.projector import sync as sync_journals
from registry.store.schema import json_value
from registry.suggest import RefusalError, nearest
from registry.terminal import duration, err, exact, out, print_table, text_of
from registry.wording import counted

CONSOLE_LINES = 40
RESULTS_SHOWN = 3  # of a run in a list
FIRST_LINES = 12  # of them, where a console has more


all_projects_option = click.option(
    "--all-projects", is_flag=True, help="Look in every project that shares the database."
)


def catalog_here(all_projects: bool = False) -> Catalog:
    """Open the catalog of the current project for a command, with all that its journals have."""
    catalog = open_catalog(all_projects=all_projects)
    click.get_current_context().call_on_close(catalog.close)
    os.chdir(catalog.project.root)
    if catalog.database is not None:
        try:  # so that what is shown is complete
            sync_journals(catalog.project.root, catalog.database)
        except DatabaseError as error:
            catalog = replace(catalog, database=None, trouble=str(error))
    if catalog.trouble:
        err.print(f"{escape(catalog.trouble)}; reading the journals instead", style="yellow")
    return catalog


@click.command(context_settings=HELP)
@click.argument("experiment", required=False)
@click.option("--stage", help="As fact.train_sae.")
@click.option("--status", help="As COMPLETED, FAILED, RUNNING, DIED.")
@click.option(
    "--where",
    multiple=True,
    metavar="COMPARISONS",
    help="As 'config.k>=16, result.loss<0.1', by = != < <= > >=, and ~ for contains; a comma means "
    "and; repeatable.",
)
@click.option("--sort", default="-start_time", show_default=True, help="Key; -key is descending.")
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(min=0),
    default=30,
    show_default=True,
    help="How many; 0 for all.",
)
@click.option("--archived", is_flag=True, help="Archived runs too; also where tags are asked for.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with all columns.")
@all_projects_option
def runs(
    experiment: str | None,
    stage: str | None,
    status: str | None,
    where: tuple[str, ...],
    sort: str,
    limit: int,
    archived: bool,
    as_csv: bool,
    all_projects: bool,
) -> None:
    """List runs; of one EXPERIMENT or cell if it is named."""
    catalog = catalog_here(all_projects)
    left_out = set() if archived or "tags" in " ".join(where) else _archived(catalog)
    try:
        matching = catalog.runs(
            experiment=experiment,
            stage=stage,
            status=status and status.upper(),
            where=where,
            sort=sort,
            limit=limit + len(left_out) if limit else None,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    found = [view for view in matching if run_subject(view) not in left_out][: limit or None]
    if n_archived := sum(run_subject(view) in left_out for view in matching):
        err.print(f"{counted(n_archived, 'archived run')} left out; --archived shows all")
    if as_csv:
        _write_csv([view.row() for view in found])
        return
    if not found:
        known = catalog.project.graph.cells.keys() | catalog.project.declaration.experiments.keys()
        hint = nearest(experiment, known) if experiment and experiment not in known else ""
        err.print(escape(f"No runs match{hint}"))
        return
    columns = ("run", "cell", "stage", "status", "started", "took", "result")
    if all_projects:
        rows = ((view.project, *_run_row(view)) for view in found)
        print_table(("project", *columns), rows)
    else:
        print_table(columns, map(_run_row, found))


def _archived(catalog: Catalog) -> set[NoteSubject]:
    notes = catalog.note_book.find().values()
    return {note.subject for note in notes if note.subject.kind == "run" and ARCHIVED in note.tags}


def _run_row(view: RunView) -> tuple[Any, ...]:
    stage = find_stage(view.stage)
    schema = None if stage is None else stage.output
    result = results_text(view.result, view.config, schema, RESULTS_SHOWN)
    took = duration(view.seconds)
    return view.key, view.title, view.stage, view.status, view.started, took, result


def _write_csv(rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        plain = {k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()}
        writer.writerow(
            {k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in plain.items()}
        )


@click.command(context_settings=HELP)
@click.argument("run")
@click.option("--console", "whole_console", is_flag=True, help="Print all that the run printed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@all_projects_option
def show(run: str, whole_console: bool, as_json: bool, all_projects: bool) -> None:
    """Show one run: what it is, its configuration, result and console.

    RUN is its number, its identifier, or the name of a cell for its newest run.
    """
    catalog = catalog_here(all_projects)
    view = catalog.run(run)
    if as_json:
        told = json.loads(json.dumps({**view.row(), "facts": view.facts}, default=str))
        click.echo(json.dumps(json_value(told), indent=2))  # which JSON has no NaN for
        return
    if whole_console:
        console = catalog.console(view)
        click.echo(console, nl=not console.endswith("\n"))
        return
    _print_facts(view)
    meanings = {"result": _meanings(view)}
    for title, values in (("configuration", view.config), ("result", view.result)):
        if values:
            out.print(f"\n[bold]{title}[/bold]")
            told = meanings.get(title, {})
            rows = ((key, exact(value), told.get(key, "")) for key, value in values.items())
            print_table(("", "", ""), rows)
    trace = catalog.trace(view)
    lines = (trace or catalog.console(view)).rstrip().splitlines()
    if lines:
        out.print(f"\n[bold]{'traceback' if trace else 'console'}[/bold]")
        click.echo("\n".join(lines[-CONSOLE_LINES:] if trace else both_ends(lines)))


def _meanings(view: RunView) -> dict[str, str]:
    """Return what the results of a run are, as its stage declares them; none of unknown stages."""
    stage = find_stage(view.stage)
    known = {} if stage is None else stage.output.variables
    return {name: variable.long_name for name, variable in known.items()}


def both_ends(lines: list[str]) -> list[str]:
    """Return the first and the last lines of many: tables have their header and best rows first."""
    left_out = len(lines) - CONSOLE_LINES
    if left_out <= 0:
        return lines
    told = f"… {counted(left_out, 'line')} more; --console prints all"
    return [*lines[:FIRST_LINES], told, *lines[FIRST_LINES - CONSOLE_LINES :]]


def _print_facts(view: RunView) -> None:
    output = view.output
    inputs = (
        f"{slot}: {given.get('name')} ({given.get('run', 'declared')})"
        for slot, given in view.inputs.items()
    )
    facts = {
        "run": f"{view.id or '(not in MongoDB)'}  {view.uid}",
        "project": view.project,
        "cell": view.cell,
        "part": view.part.code if view.part else "",
        "parts": ", ".join(f"{part.code} {run}" for part, run in view.parts()),
        "stage": view.stage,
        "status": view.status,
        "started": f"{text_of(view.started)}  took {duration(view.seconds)} on {view.host}",
        "fingerprint": view.fingerprint,
        "overrides": view.overrides or "",
        "inputs": ", ".join(inputs),
        "output": f"{output.get('path')}  ({output.get('schema')})" if output else "",
    }
    print_table(("", ""), ((key, value) for key, value in facts.items() if value))


@click.command(context_settings=HELP)
@click.argument("left")
@click.argument("right")
@all_projects_option
def diff(left: str, right: str, all_projects: bool) -> None:
    """Compare two runs: configuration, result, inputs, packages, code.

    LEFT and RIGHT are runs as for `factbook show`.
    """
    catalog = catalog_here(all_projects)
    first, second = catalog.run(left), catalog.run(right)
    for title, *sides in (
        ("configuration", first.config, second.config),
        ("result", first.result, second.result),
        ("inputs", first.inputs, second.inputs),
        ("packages", first.facts.get("packages", {}), second.facts.get("packages", {})),
    ):
        old, new = (
            {key: json.dumps(v, sort_keys=True, default=str) for key, v in side.items()}
            for side in sides
        )
        keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
        if keys:
            out.print(f"[bold]{title}[/bold]")
            print_table(("", left, right), [(key, old.get(key), new.get(key)) for key in keys])
            out.print()
    code = source_diff(catalog.sources(first), catalog.sources(second))
    click.echo(code or "the code is identical")


@click.command(context_settings=HELP)
@click.argument("name")
@all_projects_option
def path(name: str, all_projects: bool) -> None:
    """Print the folder of a dataset.

    NAME is a cell, for its current dataset, or the number or identifier of a run.
    `xr.open_dataset` opens it.
    """
    where = catalog_here(all_projects).path(name) if is_run(name) else project_here().current(name)
    click.echo(where)


@click.command(context_settings=HELP)
@click.option(
    "--again",
    is_flag=True,
    help="Also bring back removed records, and compare every point of every metric and every file.",
)
@click.pass_context
def sync(ctx: click.Context, again: bool) -> None:
    """Store in MongoDB what only journals have.

    What somebody changed there in the record of a run that is over is put back. Runs whose process
    is gone without an end are noted as died. Notes, tags and whatever else other
    programs write into the records stay as they are.
    """
    project = project_here()
    database = connect(project.root, name=project.declaration.project.database)
    if database is None:
        err.print("FACTBOOK_MONGO is off: no database to sync to")
        ctx.exit(1)
    ctx.call_on_close(database.close)
    done = sync_journals(project.root, database, again=again, verify=True)
    if done:
        print_table(("run", "number", "status", ""), map(_synced_row, done))
    restored = sum(bool(one.restored) for one in done)
    if restored:
        out.print(f"{counted(restored, 'record')} put back to what the journal says")
    brought = sum(not (one.restored or one.error) for one in done)
    out.print(f"{counted(brought, 'journal')} brought to {escape(database.address)}")
    if any(one.error for one in done):
        ctx.exit(1)


def _synced_row(one: Synced) -> tuple[Any, ...]:
    restored = f"put back: {', '.join(one.restored)}" if one.restored else ""
    return one.uid, one.run_id, one.status, one.error or restored or one.lacks


@click.group(context_settings=HELP)
def mongo() -> None:
    """Start, stop or find the embedded database."""


def _declared_database() -> str:
    """Return the name of the project's database; "" where the declaration has faults."""
    with suppress(RefusalError):
        return project_here().declaration.project.database
    return ""


@mongo.command("start", context_settings=HELP)
def mongo_start() -> None:
    """Start the embedded server, or find the one that runs, and print its URL with password."""
    click.echo(server.start(root_here()).url(_declared_database()))


@mongo.command("stop", context_settings=HELP)
def mongo_stop() -> None:
    """Stop the embedded server, after proof that it is this project's own."""
    stopped = server.stop(root_here())
    click.echo("stopped" if stopped else "not running")


@mongo.command("uri", context_settings=HELP)
@click.pass_context
def mongo_uri(ctx: click.Context) -> None:
    """Print the URL of the running server, with its password, for Omniboard, pymongo and others."""
    found = server.find(root_here())
    if found is None:
        err.print("not running; `factbook mongo start` starts it")
        ctx.exit(1)
    click.echo(found.url(_declared_database()))


@click.command(context_settings=HELP)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8501,
    show_default=True,
    help="0 for any free port.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="Name to answer to as well, as behind a proxy; *.example.org for all below; repeatable.",
)
@click.option("--allow-delete", is_flag=True, help="Let whoever reaches it delete runs.")
@click.option("--browser", is_flag=True, help="Open a browser.")
@all_projects_option
def dashboard(
    port: int,
    host: str,
    allow_host: tuple[str, ...],
    allow_delete: bool,
    browser: bool,
    all_projects: bool,
) -> None:
    """Serve the dashboard until interrupted.

    It answers to localhost, to the address of this machine that is asked, and, where it listens for
    other machines, to this machine's name. Anything else, as a name that a proxy gives it, is
    refused unless --allow-host says it.
    """
    found = importlib.util.find_spec("dashboards")
    if importlib.util.find_spec("streamlit") is None or found is None or not found.origin:
        raise click.ClickException(
            "the dashboard needs Streamlit: pip install 'factbook[dashboard]'"
        )
    project = project_here()
    if not host:
        raise click.BadParameter("expected an address", param_hint="--host")
    _require_free(host, port)
    app = Path(found.origin).with_name("app.py")
    options = {
        "server.address": host,
        "server.port": port,
        "server.headless": str(not browser).lower(),
    }
    arguments = [f"--{key}={value}" for key, value in options.items()]
    arguments += ["--", *(f"--allow-host={name}" for name in allow_host)]
    arguments += ["--allow-delete"] if allow_delete else []
    command = [sys.executable, "-m", "streamlit", "run", str(app), *arguments]
    environment = {**os.environ, PROJECT_VARIABLE: str(project.root)}
    if all_projects:
        environment["FACTBOOK_ALL_PROJECTS"] = "1"
    os.execve(sys.executable, command, environment)  # so that a signal reaches the server itself


def _require_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except (OSError, TypeError, UnicodeError) as error:  # TypeError of what is no text
        reason = getattr(error, "strerror", None) or error
        raise click.ClickException(f"cannot listen on {host}, port {port}: {reason}") from error
