"""What to do about it: every error that a reader can meet, with the command that helps."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from dashboards.views.runs.runs import QueryError
from registry.catalog.access import Catalog, UnknownRunError
from registry.catalog.notes import NoteError
from registry.declare.declaration import PROJECT_VARIABLE
from registry.declare.declared import SelectionError
from registry.declare.faults import DeclarationError
from registry.declare.stage import MAKES_AGAIN
from registry.mongo.database import URL_VARIABLE, DatabaseError
from registry.plan.project import MissingInputsError, Project
from registry.store.durable import StoreError
from registry.store.schema import SchemaError

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
)
"""Errors of the outside world, which a page explains; anything else is a defect of ours."""


MAKERS = {
    "concepts": "fact.measure_concepts",
    "consistency": "evals.measure_consistency",
    "decisions": "fact.explain_decisions",
    "gallery": "fact.draw_concepts",
    "identification": "evals.identify_neurons",
    "intervention": "fact.intervene_concepts",
    "localisation": "evals.localise_concepts",
    "matching": "evals.match_concepts",
    "names": "evals.name_concepts",
    "sanity": "evals.sanity_check",
    "scores": "evals.score_explanations",
}
"""By schema, the stage of this project that makes such datasets; packages may bring others."""


@dataclass(frozen=True)
class Advice:
    """One thing that is not as it should be.

    Attributes
    ----------
    title : str
        What is wrong, in one line.
    reason : str
        As it was told.
    commands : tuple of str
        What to type, "" in none.
    """

    title: str
    reason: str = ""
    commands: tuple[str, ...] = ()


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
    if isinstance(error, MissingInputsError):
        reason, _, command = reason.partition("; factbook ")
        command = command.splitlines()[0] if command else ""
        title = "The dataset is damaged" if " is damaged" in reason else "No dataset yet"
        return Advice(title, reason, (f"factbook {command}",) if command else run)
    if isinstance(error, StoreError):
        command = made_again_by(reason)
        return Advice("The dataset is damaged", reason, (command,) if command else again)
    if isinstance(error, SchemaError):
        return Advice("The dataset has another version", reason, run)
    if isinstance(error, DeclarationError):
        return _of_declaration(error)
    if isinstance(error, DatabaseError):
        return Advice("MongoDB did not answer", reason, ("factbook sync",))
    if isinstance(error, UnknownRunError):
        title = "Run numbers are not available now" if " are MongoDB's" in reason else "No such run"
        return Advice(title, reason, ("factbook runs",))
    if isinstance(error, SelectionError):
        return Advice("No such experiment", reason, ("factbook list",))
    if isinstance(error, QueryError):
        return Advice("Invalid filter", reason)
    if isinstance(error, NoteError):
        return Advice("The note was not saved", reason)
    return Advice("Cannot read this", f"{type(error).__name__}: {reason}", again)


def made_again_by(reason: str) -> str:
    """Return the command that a reason names for what is damaged; "" if it names none."""
    before, _, command = reason.rpartition("; ")
    return command.removesuffix(MAKES_AGAIN) if before and command.endswith(MAKES_AGAIN) else ""


def _of_declaration(error: DeclarationError) -> Advice:
    """Return what to do about a declaration; one that is not there can be listed by no command."""
    if error.path is not None and error.path.is_file():
        return Advice("experiments.toml has errors", str(error), ("factbook list",))
    reason = f"{error}\nStart this server in the project's folder, or set:"
    return Advice("No project here", reason, (f"export {PROJECT_VARIABLE}=FOLDER",))


def run_command(cell: str, verify: bool = False) -> str:
    """Return the command that runs a cell, if its dataset is not what was written if so wanted."""
    return shlex.join(["factbook", "run", *(["--verify"] if verify else []), cell])


def first_steps(project: Project) -> Advice:
    """Return what to do where nothing has run yet."""
    names = [*project.declaration.suites, *project.declaration.experiments]
    first = "demo" if "demo" in names else next(iter(names), "")
    commands = (run_command(first),) if first else ("factbook list",)
    return Advice("Nothing has run yet", "Runs appear here as soon as they start.", commands)


def without_datasets(project: Project, schema: str) -> Advice:
    """Return what to do where no experiment has made a dataset of a schema: run one, or declare."""
    cells = [cell.name for cell in project.graph.cells.values() if cell.provides == schema]
    if cells:
        return Advice(
            f"No {schema} dataset yet",
            f"Run {_listed(cells)} to make one.",
            tuple(run_command(name) for name in cells[:1]),
        )
    commands: tuple[str, ...] = ("factbook list",)
    if schema in MAKERS:
        commands = (f"[experiments.my-{schema}]", f'stage = "{MAKERS[schema]}"', "needs = { … }")
    return Advice(f"No {schema} experiment yet", "Add one to experiments.toml:", commands)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


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
    commands = tuple(_database_commands(catalog.trouble))
    text += "\nStart it, then reload this page:" if commands else ""
    return Advice("MongoDB cannot be reached", text, commands)


def _database_commands(trouble: str) -> Iterator[str]:
    if "embedded" in trouble or "secantusd" in trouble or "127.0.0.1" in trouble:
        yield "factbook mongo start"
