"""The catalog for as long as a server runs: its project may change, its database come and go."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from registry.catalog.access import Catalog, open_catalog, scoped
from registry.mongo.database import Database, DatabaseError
from registry.mongo.projector import sync
from registry.plan.project import open_project

PERIOD = 15.0
"""Seconds between two looks after the database."""

AWAY_PERIOD = 2.0
"""The same while it is away: somebody may have just started it."""


class Connection:
    """One project's catalog, shared by the threads of a server.

    A reader never waits for a database that is away: it reads the journals, as pages say, while
    a thread of its own looks for the database and brings to it what journals have left.

    Parameters
    ----------
    path : Path or str, optional
        The project's folder; found from the current folder upwards by default.
    url : str, optional
        As for :func:`registry.open_catalog`.
    period : float
        Seconds between two looks after the database.
    all_projects : bool
        As for :func:`registry.open_catalog`.
    """

    def __init__(
        self,
        path: Path | str | None = None,
        url: str | None = None,
        *,
        period: float = PERIOD,
        all_projects: bool = False,
    ):
        self._path = path
        self._url = url
        self._all_projects = all_projects
        self._period = period
        self._lock = threading.Lock()
        self._catalog: Catalog | None = None
        self._away: Database | None = None
        self._read = 0
        self._due = 0.0
        self._upkeep: threading.Thread | None = None

    def catalog(self) -> Catalog:
        """Return the catalog as it is now.

        Raises
        ------
        DeclarationError
            If there is no project, or its declaration has faults.
        """
        with self._lock:
            catalog = self._catalog or self._open(self._path)
            written = written_at(catalog)
            if self._catalog is not None and written != self._read:
                catalog = replace(catalog, project=open_project(catalog.project.root))
                with suppress(DatabaseError):
                    catalog = self._scoped(catalog)
            self._catalog, self._read = catalog, written
            self._look_after(catalog)
            return catalog

    def lost(self) -> bool:
        """Go on with the journals if the database is away, which a reader has reason to think.

        Returns
        -------
        bool
            Whether it is away; otherwise it is there, and has refused what was asked.
        """
        database = self._catalog.database if self._catalog else None
        try:
            if database is not None:
                database.check()
            return database is None
        except DatabaseError as error:
            self._leave(database, error)
            return True

    def _leave(self, database: Database | None, error: DatabaseError) -> None:
        with self._lock:
            if self._catalog is not None and self._catalog.database is database is not None:
                self._away = database
                self._catalog = replace(self._catalog, database=None, trouble=str(error))

    def _look_after(self, catalog: Catalog) -> None:
        """Start the upkeep if it is due. The lock is held."""
        wanted = catalog.database is not None or catalog.trouble
        idle = self._upkeep is None or not self._upkeep.is_alive()
        if wanted and idle and time.monotonic() >= self._due:
            is_there = catalog.database is not None
            period = self._period if is_there else min(self._period, AWAY_PERIOD)
            self._due = time.monotonic() + period
            self._upkeep = threading.Thread(
                target=self._keep_up, args=(catalog,), name="catalog", daemon=True
            )
            self._upkeep.start()

    def _keep_up(self, catalog: Catalog) -> None:
        """Find the database if it is away, and bring to it what journals have left."""
        database = catalog.database or self._find(catalog)
        try:
            if database is not None:
                database.check()
                sync(catalog.project.root, database)
        except DatabaseError as error:
            self._leave(database, error)

    def _find(self, catalog: Catalog) -> Database | None:
        fresh = replace(catalog, database=None, trouble="")
        try:
            if self._away is not None:
                fresh = self._scoped(replace(fresh, database=self._away.reopen()))
            else:
                fresh = self._open(catalog.project.root)
        except DatabaseError as error:
            fresh = replace(fresh, trouble=str(error))
        with self._lock:
            self._catalog = replace(fresh, project=(self._catalog or catalog).project)
        return fresh.database

    def _open(self, path: Path | str | None) -> Catalog:
        return open_catalog(path, self._url, all_projects=self._all_projects)

    def _scoped(self, catalog: Catalog) -> Catalog:
        """Return a catalog that finds the runs of its project as it is declared now."""
        return catalog if self._all_projects else scoped(catalog, self._url)


def written_at(catalog: Catalog) -> int:
    """Return when the declaration was last written, in nanoseconds since 1970."""
    declared = catalog.project.declaration.path
    with suppress(OSError):
        return declared.stat().st_mtime_ns if declared else 0
    return 0
