"""All runs of a project in the memory of a server, refreshed behind the backs of its readers."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

from dashboards.views.runs.runs import Row, choices, known_columns, row_of
from registry.catalog.access import Catalog
from registry.catalog.feed import RunFeed
from registry.catalog.notes import Note, run_subject
from registry.mongo.database import DatabaseError
from registry.wording import counted

PERIOD = 2.0
"""Seconds between two refreshes, while somebody looks."""

PATIENCE = 1.0
"""Seconds that a reader waits for a refresh before what was known is good enough."""

FILLING = 60.0
"""Seconds that a reader waits at most for the first filling, who cannot do without."""


@dataclass(frozen=True)
class Snapshot:
    """All runs as they were at one moment.

    Attributes
    ----------
    version : int
        Grows whenever something has changed.
    rows : tuple of Row
        The newest run first.
    is_partial : bool
        Whether there are more runs than are kept.
    notes : mapping of str to Note
        What is noted on runs and concepts, by the key of its subject.
    """

    version: int
    rows: tuple[Row, ...]
    is_partial: bool = False
    notes: Mapping[str, Note] = field(default_factory=dict)

    @cached_property
    def columns(self) -> list[str]:
        """Every column that some run has."""
        return known_columns(self.rows)

    @cached_property
    def hosts_and_tags(self) -> tuple[list[str], list[str]]:
        """The hosts and the tags that there are."""
        return choices(self.rows)


class RunIndex:
    """The runs of one database, or of the journals, kept up to date while somebody reads.

    A thread reads; it ends when it is done, and the next reader starts another one.

    Parameters
    ----------
    catalog : Catalog
        Where the runs are. Its database may go away; then readers get an error.
    """

    def __init__(self, catalog: Catalog):
        self._feed = RunFeed(catalog)
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._rows: dict[object, Row] = {}
        self._error: DatabaseError | None = None
        self._thread: threading.Thread | None = None
        self._refreshed = -PERIOD
        self.read = 0
        """How many runs the first filling has read so far."""

    def follow(self, catalog: Catalog) -> None:
        """Read from another connection to the same database: it was away, or has moved."""
        self._feed.catalog = catalog

    def peek(self) -> Snapshot | None:
        """Return what is known now, None while it is read for the first time; never wait."""
        self._start()
        return self._snapshot

    def look(self, patience: float = PATIENCE, filling: float = FILLING) -> Snapshot:
        """Return all runs, as they are now if that is quickly found out.

        Parameters
        ----------
        patience : float
            Seconds to wait for a refresh; then what was known is returned.
        filling : float
            Seconds to wait where nothing was known.

        Raises
        ------
        DatabaseError
            If the database is away, or the runs could not be read in time.
        """
        thread = self._start()
        if thread is not None:
            thread.join(filling if self._snapshot is None else patience)
        with self._lock:
            error, self._error = self._error, None
            snapshot = self._snapshot
        if error is not None:
            raise error
        if snapshot is None:
            raise DatabaseError(
                f"only {counted(self.read, 'run was', 'runs were')} read in {filling:.0f} s; try "
                "again"
            )
        return snapshot

    def hurry(self) -> None:
        """Let the next reader see what was written just now."""
        thread = self._thread
        if thread is not None:
            thread.join(PATIENCE)  # it may have begun before
        self._refreshed = -PERIOD

    def _start(self) -> threading.Thread | None:
        """Return the thread that refreshes, started if it is due; None if all is fresh."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return self._thread
            if time.monotonic() - self._refreshed < PERIOD:
                return None
            self._thread = threading.Thread(target=self._refresh, name="runs", daemon=True)
            self._thread.start()
            return self._thread

    def _refresh(self) -> None:
        error = None
        try:
            if self._feed.refresh(partial(setattr, self, "read")) or self._snapshot is None:
                self._publish()
        except DatabaseError as failure:
            error = failure
        with self._lock:
            self._error = error
            self._refreshed = time.monotonic()

    def _publish(self) -> None:
        """Make rows of the runs and notes that changed, and a snapshot of all."""
        feed, rows = self._feed, {}
        for number, run in feed.runs.items():
            note = feed.notes.get(run_subject(run).key)
            row = self._rows.get(number)
            known = row is not None and row.run is run and row.note == note
            rows[number] = row if known and row is not None else row_of(run, note)
        self._rows = rows
        newest = sorted(rows.values(), key=lambda row: row.start, reverse=True)
        self._snapshot = Snapshot(feed.version, tuple(newest), feed.is_partial, feed.notes)
