"""Which runs of a shared database are a project's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from registry.mongo.database import Database, errors

COLLECTION = "factbook.projects"
PROJECT = "info.factbook.project"


@dataclass(frozen=True)
class Scope:
    """The runs of one project in a database.

    Attributes
    ----------
    name : str
        Of the project; "" for all runs, whatever their project.
    others : tuple of str or None
        The other projects, if this one has adopted the runs that name none: those of other
        clients of Sacred, and those from before projects had names. None if another one has.
    """

    name: str = ""
    others: tuple[str, ...] | None = ()

    def holds(self, record: Mapping[str, Any]) -> bool:
        """Whether a document of ``runs`` is one of the project's."""
        project = ((record.get("info") or {}).get("factbook") or {}).get("project")
        return project == self.name if self.others is None else project not in self.others

    def conditions(self) -> dict[str, Any]:
        """Return what MongoDB is asked for, beside all else."""
        if self.others is None:
            return {PROJECT: self.name}
        return {PROJECT: {"$nin": list(self.others)}} if self.others else {}


EVERYTHING = Scope()


def enter(database: Database, name: str) -> Scope:
    """Enter a project into the list that a database keeps, and return its runs.

    The first project that is entered adopts the runs that name no project, once and for all.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    projects = database.collection(COLLECTION)
    with errors(database.address):
        if projects.find_one({"_id": name}) is None:
            adopts = projects.find_one({"adopts": True}) is None
            projects.update_one({"_id": name}, {"$set": {"adopts": adopts}}, upsert=True)
        known = list(projects.find({}))
    adopting = min((entry["_id"] for entry in known if entry.get("adopts")), default=name)
    others = tuple(sorted(str(entry["_id"]) for entry in known if entry["_id"] != name))
    return Scope(name, others if adopting == name else None)
