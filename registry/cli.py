"""The command ``factbook``."""

from __future__ import annotations

import csv
import difflib
import gc
import importlib.util
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

# What only some commands need is imported there: planning takes half the time without pymongo.
from registry.declare.declaration import DeclarationError, find_declaration
from registry.declare.faults import ConfigError, StageError
from registry.declare.reference import SelectionError
from registry.plan.plan import Plan, Task
from registry.plan.project import MissingInputsError, Project, open_project
from registry.store.durable import StoreError
from registry.suggest import nearest
from registry.terminal import count, duration, err, exact, out, print_table, say_error, text_of

if TYPE_CHECKING:
    from registry.catalog.access import Catalog
    from registry.catalog.runs import RunView

CONSOLE_LINES = 40
MOST_NOTES = 10
HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


COMMAND_GROUP = "factbook.commands"
"""Entry points of installed packages that are commands of this one: name to a click command."""


class _Group(click.Group):
    """Knows the commands of installed packages; turns errors that the user can mend into one
    message and exit status 1.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *entry_points(group=COMMAND_GROUP).names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        found = () if own else tuple(entry_points(group=COMMAND_GROUP, name=cmd_name))
        if not found:
            return own
        try:
            command: click.Command = found[0].load()
        except (ImportError, AttributeError) as error:
            return _broken_command(cmd_name, f"command {cmd_name!r} cannot be loaded: {error}")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except BrokenPipeError:  # the reader, as `head`, has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except _expected_errors() as error:
            say_error(str(error))
            ctx.exit(1)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    err.print(f"warning: {escape(str(message))}", style="yellow", soft_wrap=True)


def _broken_command(name: str, message: str) -> click.Command:
    """Return a command that says what is wrong with it when it is called, not when it is listed."""

    def refuse(**_: Any) -> None:
        raise StageError(message)

    lenient = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(name, lenient, refuse, short_help=f"({message})")


def _expected_errors() -> tuple[type[Exception], ...]:
    """Return the errors that are about what was asked for; asked for when there is one."""
    from registry.catalog.access import UnknownRunError
    from registry.mongo.database import DatabaseError

    return (
        ConfigError,
        DatabaseError,
        DeclarationError,
        MissingInputsError,
        SelectionError,
        StageError,
        StoreError,
        UnknownRunError,
    )


@click.group("factbook", cls=_Group, context_settings=HELP)
@click.version_option(package_name="factbook", prog_name="factbook")
def main() -> None:
    """A declarative registry of interpretability experiments.

    Works on the experiments.toml of the current folder, or of one above it (or of
    $FACTBOOK_PROJECT). Records go to $FACTBOOK_MONGO, or to an embedded server that is started when
    it is needed.

    \b
    factbook list                what is declared
    factbook plan demo           what would run, why, and about how long
    factbook run demo            run it
    factbook dashboard           look at it
    """  # noqa: D301


@contextmanager
def _no_collection() -> Iterator[None]:
    """Suspend garbage collection, which would walk over 10,000 tasks again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _project() -> Project:
    with _no_collection():
        project = open_project()
    os.chdir(project.root)
    return project


def _root() -> Path:
    """Return the project's folder, whatever is wrong with what it declares."""
    return find_declaration().parent


def _catalog() -> Catalog:
    from registry.catalog.access import open_catalog

    catalog = open_catalog()
    click.get_current_context().call_on_close(catalog.close)
    os.chdir(catalog.project.root)
    if catalog.trouble:
        err.print(f"{escape(catalog.trouble)}; reading the journals instead", style="yellow")
    elif catalog.database is not None:
        _sync_quietly(catalog)
    return catalog


def _sync_quietly(catalog: Catalog) -> None:
    """Bring journals that MongoDB lacks there, so that what is shown is complete."""
    from registry.mongo.projector import sync

    if catalog.database is not None:
        sync(catalog.project.root, catalog.database)


# -- what is declared -------------------------------------------------------------------------


@main.command("list", context_settings=HELP)
@click.argument("what", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(what: tuple[str, ...], as_json: bool) -> None:
    """List what is declared: datasets, networks, experiments, suites.

    WHAT narrows it down to names or patterns, as 'fashion-*'.
    """
    project = _project()
    described = project.declaration.describe()
    if what:
        chosen = {cell.experiment for cell in project.graph.select(what)}
        described = {
            "experiments": [e for e in described["experiments"] if e["name"] in chosen],
        }
    if as_json:
        click.echo(json.dumps(described, indent=2))
        return
    for group, rows in described.items():
        _print_group(group, rows)
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


# -- plan, run, status ------------------------------------------------------------------------


def _choice_of_tasks(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the arguments that select tasks and say when they are due."""

    @click.argument("targets", nargs=-1)
    @click.option("--force", is_flag=True, help="Run the targets even if they are complete.")
    @click.option("--changed-code", is_flag=True, help="Rerun outputs of changed code.")
    @click.option("--verify", is_flag=True, help="Compare checksums: reads every byte on disk.")
    @wraps(command)
    def with_choice(**options: Any) -> Any:
        return command(**options)

    return with_choice


def _plan(project: Project, targets: tuple[str, ...], **options: bool) -> Plan:
    with _no_collection():
        return project.plan(
            targets,
            force=options.get("force", False),
            rerun_changed_code=options.get("changed_code", False),
            verify=options["verify"],
        )


@main.command(context_settings=HELP)
@_choice_of_tasks
def plan(targets: tuple[str, ...], **options: bool) -> None:
    """Show what would run, why, and about how long it takes.

    TARGETS are experiments, cells ('fashion-sae[k=8]'), patterns ('fashion-*') or suites; all that
    is declared if none is given. What they need is planned too. Durations are from earlier runs.
    """
    made = _plan(_project(), targets, **options)
    if made.due:
        rows = ((task.name, duration(task.seconds), task.reason) for task in made.due)
        print_table(("would run", "about", "because"), rows)
        out.print()
    complete = sum(not task.is_open for task in (*made.tasks, *made.settled))
    out.print(f"{_summary(made)}; {count(complete, 'task')} up to date")
    _print_notes(made.tasks)


def _summary(made: Plan) -> str:
    if not made.due:
        return "nothing to run"
    known = f"about {duration(made.seconds)}" if made.unknown < len(made.due) else ""
    unknown = f"{made.unknown} of unknown duration" if made.unknown else ""
    return ", ".join(filter(None, (f"{count(len(made.due), 'task')} to run", known, unknown)))


def _print_notes(tasks: Iterable[Task]) -> None:
    notes = [f"{task.name}: {note}" for task in tasks for note in task.notes]
    for note in notes[:MOST_NOTES]:
        out.print(escape(note), style="dim")
    if len(notes) > MOST_NOTES:
        out.print(f"… and {len(notes) - MOST_NOTES:,} more such notes", style="dim")


@main.command(context_settings=HELP)
@_choice_of_tasks
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
    from registry.execute import runner as runners
    from registry.execute.display import Display, print_results
    from registry.execute.schedule import run_plan
    from registry.mongo.database import connect

    project = _project()
    made = _plan(project, targets, **options)
    if not made.due:
        out.print(f"nothing to run: {count(len(made.tasks), 'task')} up to date")
        _print_notes(made.tasks)
        return
    out.print(_summary(made))
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
    if any(outcome.ending is runners.Ending.INTERRUPTED for outcome in outcomes):
        ctx.exit(runners.EXIT_INTERRUPTED)
    if not all(outcome.is_good for outcome in outcomes):
        ctx.exit(runners.EXIT_FAILED)
    if not all(outcome.recorded for outcome in outcomes):
        ctx.exit(runners.EXIT_NOT_RECORDED)


@main.command(context_settings=HELP)
@click.argument("targets", nargs=-1)
@click.option("--verify", is_flag=True, help="Compare checksums: reads every byte on disk.")
def status(targets: tuple[str, ...], verify: bool) -> None:
    """Show the status of every task, and why it would run.

    TARGETS are as for `factbook plan`.
    """
    project = _project()
    made = _plan(project, targets, verify=verify)
    chosen = {cell.name for cell in project.graph.select(targets)}
    tasks = {task.name: task for task in (*made.tasks, *made.settled)}
    rows = (
        (task.name, str(task.state.status), task.state.run, task.reason)
        for task in tasks.values()
        if task.name in chosen or task.due
    )
    print_table(("task", "status", "last run", "would run because"), rows)
    _print_notes(made.tasks)


# -- records ----------------------------------------------------------------------------------


def _filter(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r}; expected key=value, as config.k=16")
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = value
    return key, parsed if isinstance(parsed, str | int | float | bool | None) else value


@main.command(context_settings=HELP)
@click.argument("experiment", required=False)
@click.option("--stage", help="As fact.train_sae.")
@click.option("--status", help="As COMPLETED, FAILED, RUNNING, DIED.")
@click.option("--where", multiple=True, metavar="KEY=VALUE", help="As config.k=16; repeatable.")
@click.option("--sort", default="-start_time", show_default=True, help="Key; -key is descending.")
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(min=0),
    default=30,
    show_default=True,
    help="How many; 0 for all.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with all columns.")
def runs(
    experiment: str | None,
    stage: str | None,
    status: str | None,
    where: tuple[str, ...],
    sort: str,
    limit: int,
    as_csv: bool,
) -> None:
    """List runs; of one EXPERIMENT or cell if it is named."""
    catalog = _catalog()
    try:
        found = catalog.runs(
            experiment=experiment,
            stage=stage,
            status=status and status.upper(),
            where=dict(map(_filter, where)),
            sort=sort,
            limit=limit or None,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if as_csv:
        _write_csv([view.row() for view in found])
        return
    if not found:
        known = catalog.project.graph.cells.keys() | catalog.project.declaration.experiments.keys()
        hint = nearest(experiment, known) if experiment and experiment not in known else ""
        err.print(escape(f"No runs match{hint}"))
        return
    columns = ("run", "cell", "stage", "status", "started", "took", "result")
    print_table(columns, map(_run_row, found))


def _run_row(view: RunView) -> tuple[Any, ...]:
    result = ", ".join(f"{key} {text_of(value)}" for key, value in list(view.result.items())[:3])
    number = view.uid if view.id is None else view.id
    took = duration(view.seconds)
    return number, view.cell, view.stage, view.status, view.started, took, result


def _write_csv(rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        plain = {k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()}
        writer.writerow(
            {k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in plain.items()}
        )


@main.command(context_settings=HELP)
@click.argument("run")
@click.option("--console", "whole_console", is_flag=True, help="Print all that the run printed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(run: str, whole_console: bool, as_json: bool) -> None:
    """Show one run: what it is, its configuration, result and console.

    RUN is its number, its identifier, or the name of a cell for its newest run.
    """
    catalog = _catalog()
    view = catalog.run(run)
    if as_json:
        click.echo(json.dumps({**view.row(), "facts": view.facts}, indent=2, default=str))
        return
    if whole_console:
        console = catalog.console(view)
        click.echo(console, nl=not console.endswith("\n"))
        return
    _print_facts(view)
    for title, values in (("configuration", view.config), ("result", view.result)):
        if values:
            out.print(f"\n[bold]{title}[/bold]")
            print_table(("", ""), ((key, exact(value)) for key, value in values.items()))
    trace = catalog.trace(view)
    lines = (trace or catalog.console(view)).rstrip().splitlines()
    if lines:
        out.print(f"\n[bold]{'traceback' if trace else 'console'}[/bold]")
        click.echo("\n".join(lines[-CONSOLE_LINES:]))


def _print_facts(view: RunView) -> None:
    output = view.output
    inputs = (
        f"{slot}: {given.get('name')} ({given.get('run', 'declared')})"
        for slot, given in view.inputs.items()
    )
    facts = {
        "run": f"{view.id or '(not in MongoDB)'}  {view.uid}",
        "cell": view.cell,
        "stage": view.stage,
        "status": view.status,
        "started": f"{text_of(view.started)}  took {duration(view.seconds)} on {view.host}",
        "fingerprint": view.fingerprint,
        "overrides": view.overrides or "",
        "inputs": ", ".join(inputs),
        "output": f"{output.get('path')}  ({output.get('schema')})" if output else "",
    }
    print_table(("", ""), ((key, value) for key, value in facts.items() if value))


@main.command(context_settings=HELP)
@click.argument("left")
@click.argument("right")
def diff(left: str, right: str) -> None:
    """Compare two runs: configuration, result, inputs, packages, code.

    LEFT and RIGHT are runs as for `factbook show`.
    """
    catalog = _catalog()
    first, second = catalog.run(left), catalog.run(right)
    for title, group in (
        ("configuration", "config"),
        ("result", "result"),
        ("inputs", "inputs"),
        ("packages", "facts"),
    ):
        rows = list(_differences(_group(first, group), _group(second, group)))
        if rows:
            out.print(f"[bold]{title}[/bold]")
            print_table(("", left, right), rows)
            out.print()
    changed = _print_source_diff(catalog.sources(first), catalog.sources(second))
    if not changed:
        out.print("the code is identical")


def _group(view: RunView, group: str) -> dict[str, Any]:
    values = view.facts.get("packages", {}) if group == "facts" else getattr(view, group)
    return {key: json.dumps(value, sort_keys=True, default=str) for key, value in values.items()}


def _differences(first: dict[str, Any], second: dict[str, Any]) -> Iterable[tuple[str, Any, Any]]:
    for key in sorted(first.keys() | second.keys()):
        if first.get(key) != second.get(key):
            yield key, first.get(key), second.get(key)


def _print_source_diff(first: dict[str, str], second: dict[str, str]) -> bool:
    changed = False
    for name in sorted(first.keys() | second.keys()):
        old, new = first.get(name, "").splitlines(), second.get(name, "").splitlines()
        for line in difflib.unified_diff(old, new, name, name, lineterm=""):
            changed = True
            click.echo(line)
    return changed


@main.command(context_settings=HELP)
@click.argument("name")
def path(name: str) -> None:
    """Print the folder of a dataset.

    NAME is a cell, for its current dataset, or the number or identifier of a run.
    `xr.open_dataset` opens it.
    """
    from registry.catalog.runs import is_run

    project = _project()
    if is_run(name):
        click.echo(_catalog().path(name))
    else:
        click.echo(project.current(name))


@main.command(context_settings=HELP)
@click.pass_context
def sync(ctx: click.Context) -> None:
    """Store in MongoDB what only journals have.

    Runs whose process is gone without an end are noted as died.
    """
    from registry.mongo.database import connect
    from registry.mongo.projector import sync as sync_journals

    project = _project()
    database = connect(project.root, name=project.declaration.project.database)
    if database is None:
        err.print("FACTBOOK_MONGO is off: no database to sync to")
        ctx.exit(1)
    ctx.call_on_close(database.close)
    done = sync_journals(project.root, database)
    rows = ((one.uid, one.run_id, one.status, one.error or "") for one in done)
    if done:
        print_table(("run", "number", "status", ""), rows)
    out.print(f"{count(len(done), 'journal')} synced to {escape(database.address)}")
    if any(one.error for one in done):
        ctx.exit(1)


# -- the database -----------------------------------------------------------------------------


@main.group(context_settings=HELP)
def mongo() -> None:
    """Start, stop or find the embedded database."""


@mongo.command("start", context_settings=HELP)
def mongo_start() -> None:
    """Start the embedded server, or find the one that runs, and print its URL."""
    from registry.mongo import server

    click.echo(_started(lambda: server.start(_root())).uri)


@mongo.command("stop", context_settings=HELP)
def mongo_stop() -> None:
    """Stop the embedded server, after proof that it is this project's own."""
    from registry.mongo import server

    stopped = _started(lambda: server.stop(_root()))
    click.echo("stopped" if stopped else "not running")


@mongo.command("uri", context_settings=HELP)
@click.pass_context
def mongo_uri(ctx: click.Context) -> None:
    """Print the URL of the running server, for pymongo and other clients."""
    from registry.mongo import server

    found = _started(lambda: server.uri(_root()))
    if found is None:
        err.print("not running; `factbook mongo start` starts it")
        ctx.exit(1)
    click.echo(found)


def _started(action: Callable[[], Any]) -> Any:
    from registry.mongo import server
    from registry.mongo.database import DatabaseError

    try:
        return action()
    except server.ServerError as error:
        raise DatabaseError(str(error)) from error


# -- the dashboard ----------------------------------------------------------------------------


@main.command(context_settings=HELP)
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
    project = _project()
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


if __name__ == "__main__":
    main()
