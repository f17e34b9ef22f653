"""What to do about it: every error that a reader can meet, with the command that helps."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass

from dashboards.views.runs.drafts import MAKERS, lines_for
from registry.catalog.access import Catalog, DeletedRunError, UnknownRunError
from registry.catalog.conditions import QueryError
from registry.catalog.notes import NoteError
from registry.declare.declaration import PROJECT_VARIABLE
from registry.declare.declared import SelectionError
from registry.declare.faults import DeclarationError
from registry.declare.stage import find_stage
from registry.mongo.database import URL_VARIABLE, DatabaseError
from registry.plan.project import MissingInputsError, Project
from registry.store.durable import StoreError
from registry.store.schema import SchemaError
from registry.suggest import RefusalError
from registry.upkeep.deletion import DeletionError

EXPECTED = (
    DatabaseError,
    DeclarationError,
    MissingInputsError,
    SchemaError,
    SelectionError,
    StoreError,
    UnknownRunError,
    OSError,
    QueryError,
    NoteError,
    DeletionError,
)
"""Errors of the outside world, which a page explains; anything else is a defect of ours."""


FIRST_MADE = "gallery"
"""What an empty project is shown how to make: pictures of concepts, and all that they rest on."""

ABOUT_NOTHING = (
    "Add these lines to experiments.toml, images that any computer can draw, then run them. For "
    "images of your own, factbook init writes such a file in an empty folder."
)


@dataclass(frozen=True)
class Advice:
    """One thing that is not as it should be.

    Attributes
    ----------
    title : str
        What is wrong, in one line.
    reason : str
        The message of the error.
    commands : tuple of str
        What to type, "" in none.
    lines : tuple of str
        Of experiments.toml, to be pasted before that.
    """

    title: str
    reason: str = ""
    commands: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()


def advise(error: Exception, cell: str = "") -> Advice:
    """Return what to tell about an error.

    Parameters
    ----------
    error : Exception
        One of `EXPECTED`.
    cell : str
        The cell whose dataset was being read.
    """
    reason = str(error)
    run = (run_command(cell),) if cell else ()
    again = (run_command(cell, verify=True),) if cell else ()
    if isinstance(error, RefusalError) and error.command:
        reason, run = reason.removesuffix(f"; {error.command}"), (error.command,)
        again = run
    if isinstance(error, MissingInputsError):
        title = "The dataset is damaged" if error.is_damaged else "No dataset yet"
        return Advice(title, "\n".join(filter(None, (reason, _answered(error.stage)))), run)
    if isinstance(error, DeclarationError):
        if error.path is not None and error.path.is_file():
            return Advice("experiments.toml has errors", reason, ("factbook list",))
        reason += "\nStart this server in the project's folder, or set:"
        return Advice("No project here", reason, (f"export {PROJECT_VARIABLE}=FOLDER",))
    if isinstance(error, UnknownRunError):
        title = "Run numbers are not available now" if error.is_away else "No such run"
        if isinstance(error, DeletedRunError):
            title = "This run was deleted"
        return Advice(title, reason, (error.command or "factbook runs",))
    others: tuple[tuple[type[Exception], str, tuple[str, ...]], ...] = (
        (StoreError, "The dataset is damaged", again),
        (SchemaError, "The dataset has another version", run),
        (DatabaseError, "MongoDB did not answer", ("factbook sync",)),
        (SelectionError, "No such experiment", ("factbook list",)),
        (QueryError, "Invalid filter", ()),
        (NoteError, "The note was not saved", ()),
        (DeletionError, "Not deleted", ()),
    )
    for kind, title, commands in others:
        if isinstance(error, kind):
            return Advice(title, reason, commands)
    return Advice("Cannot read this", f"{type(error).__name__}: {reason}", again)


def run_command(cell: str, verify: bool = False) -> str:
    """Return the command that runs a cell, if its dataset is not what was written if so wanted."""
    return shlex.join(["factbook", "run", *(["--verify"] if verify else []), cell])


def first_steps(project: Project) -> Advice:
    """Return what to do where nothing has run yet."""
    names = [*project.declaration.suites, *project.declaration.experiments]
    first = "demo" if "demo" in names else next(iter(names), "")
    if not first:
        name, lines = lines_for(project, FIRST_MADE)
        return Advice("Nothing is declared yet", ABOUT_NOTHING, (run_command(name),), tuple(lines))
    return Advice(
        "Nothing has run yet", "Runs appear here as soon as they start.", (run_command(first),)
    )


def without_datasets(project: Project, schema: str) -> Advice:
    """Return what to do where no experiment has made a dataset of a schema: run one, or declare."""
    cells = [cell for cell in project.graph.cells.values() if cell.provides == schema]
    if cells:
        more = f" and {len(cells) - 3} more" if len(cells) > 3 else ""
        names = ", ".join(cell.name for cell in cells[:3])
        return Advice(
            f"No {schema} dataset yet",
            f"{_answered(cells[0].stage)}\nRun {names}{more} to make one.",
            (run_command(cells[0].name),),
        )
    title = f"No {schema} experiment yet"
    if schema not in MAKERS:
        return Advice(title, "Add one to experiments.toml.", ("factbook list",))
    name, lines = lines_for(project, schema)
    reason = f"{_answered(MAKERS[schema])}\nAdd these lines to experiments.toml, then run them:"
    return Advice(title, reason, (run_command(name),), tuple(lines))


def _answered(stage: str) -> str:
    """Return what a stage does, in one line; its name alone where it is of no plug-in."""
    known = find_stage(stage)
    return f"{stage}: {known.doc}" if known else stage


def database_trouble(catalog: Catalog) -> Advice | None:
    """Return what to tell about a database that is away; None where it is there, or not wanted."""
    if catalog.database is not None or not catalog.trouble:
        return None
    text = f"{catalog.trouble}. Showing runs from local journals."
    if os.environ.get(URL_VARIABLE):
        text += f" Start the server that {URL_VARIABLE} names, or work without it:"
        own = f"unset {URL_VARIABLE}  # the project's own server"
        none = f"export {URL_VARIABLE}=off  # journals alone"
        return Advice("MongoDB cannot be reached", text, (own, none))
    is_own = any(name in catalog.trouble for name in ("embedded", "secantusd", "127.0.0.1"))
    text += "\nStart it, then reload this page:" if is_own else ""
    commands = ("factbook mongo start",) if is_own else ()
    return Advice("MongoDB cannot be reached", text, commands)
