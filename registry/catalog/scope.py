"""Which runs of a database are a project's own: those that name it, and those recorded here.

A run names the project that recorded it, and projects may share a database. What was recorded in
this folder stays its own under whatever name it was: the folder may be moved, and named anew.
``.factbook/projects.json`` keeps the names that the folder had, each with the runs recorded then.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from registry.mongo.database import Database
from registry.mongo.queries import EVERYTHING, Scope, enter
from registry.plan.project import Project
from registry.record.journal import EVENTS, journal_root, journal_uids
from registry.record.plain import decode_event
from registry.store.durable import StoreError, read_json, write_json

NAMES = "projects.json"


def scope_of(project: Project, database: Database, *, is_shared: bool) -> Scope:
    """Return which runs of a database are a project's, and enter it there.

    Parameters
    ----------
    project : Project
        Whose runs.
    database : Database
        Where.
    is_shared : bool
        Whether other projects may write there; the embedded database is one project's own until
        another one has written to it.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    name = project.declaration.name
    adopting, known = enter(database, name)
    if not is_shared and known <= {name}:  # without a look at every journal
        return EVERYTHING
    recorded = recorded_here(project)
    if not is_shared and known <= recorded.keys():
        return EVERYTHING
    former = (uid for other, uids in recorded.items() if other != name for uid in uids)
    return Scope(name, adopting in recorded, frozenset(former))


def recorded_here(project: Project) -> dict[str, list[str]]:
    """Return the runs that were recorded in a project's folder, by the name that it had then.

    Today's name is one of them, also where nothing was recorded yet; "" stands for none.
    """
    path = project.state / NAMES
    stored = read_json(path) or {}
    names = {name: list(uids) for name, uids in stored.items() if isinstance(uids, list)}
    names.setdefault(project.declaration.name, [])
    known = {uid for uids in names.values() for uid in uids}
    for uid in journal_uids(project.root):
        if uid not in known and (name := _named_in(journal_root(project.root) / uid)) is not None:
            names.setdefault(name, []).append(uid)
    if names != stored and project.state.is_dir():
        with suppress(OSError, StoreError):  # of a project that is only read, as far as it is known
            write_json(path, names)
    return names


def _named_in(journal: Path) -> str | None:
    """Return the project that the first event of a journal names; None where it cannot be read."""
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        with open(journal / EVENTS, "rb") as file:
            facts: Mapping[str, Any] = decode_event(file.readline(), journal.name)["facts"]
        return str(facts.get("project") or "")
    return None
