"""Every run of a catalog in memory, kept up to date at the price of what changed.

Listing 10,000 runs takes the embedded server seconds. A reader who stays, as the dashboard does,
reads them once; from then on only new runs, and those that had not ended.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from registry.catalog.access import Catalog
from registry.catalog.listing import COUNTED, COUNTING, FEW, Listing
from registry.catalog.notes import Note, later
from registry.catalog.runs import KEYS, RunView, record_of
from registry.mongo import queries
from registry.mongo.database import Database
from registry.mongo.queries import value_at
from registry.record.journal import EVENTS, journal_root, journal_uids
from registry.record.tombstones import deleted_uids

_UNLISTED = (
    "command",
    *(f"info.factbook.{name}" for name in ("stage_version", "output", "sources", "commit", "root")),
    *(f"info.factbook.{name}" for name in ("interrupted_by", "death_noted")),
)
FIELDS = (
    *(name for name in queries.SUMMARY if name not in _UNLISTED),
    "host.hostname",
    *(f"info.factbook.output.{name}" for name in ("path", "schema", "bytes")),
)
"""What is kept of each run."""

MOST_RUNS = 100_000
"""Runs that are kept, about 5 kB each; others are not listed."""

_OPEN = ("RUNNING", "QUEUED")
_MOST_OPEN = 1_000  # that are looked at again each time; the newest
_OVERLAP = timedelta(minutes=2)  # in which runs may be stored in another order than they began
_NOTES_OVERLAP = timedelta(minutes=10)  # by which clocks of writers may differ
_AHEAD = 100  # numbers that are tried beyond the largest known one


class RunFeed:
    """The runs and notes of a catalog as they were at the last refresh.

    Parameters
    ----------
    catalog : Catalog
        Where they are: its database, or the journals where it has none.

    Attributes
    ----------
    catalog : Catalog
        Where the next refresh reads; another connection to the same database may take its place.
    runs : dict
        Views by number in the database, or by identifier. ``facts`` are left empty.
    notes : dict of str to Note
        By the key of what they are about.
    version : int
        Counts the refreshes that found something new.
    """

    def __init__(self, catalog: Catalog):
        self.catalog = catalog
        self._journals = journal_root(catalog.project.root)
        self.runs: dict[Any, RunView] = {}
        self.notes: dict[str, Note] = {}
        self.version = 0
        self._stored_open: set[Any] = set()
        self._sizes: dict[str, int] = {}
        self._difference = 0
        self._is_filled = False
        self._counted = 0.0

    @property
    def is_partial(self) -> bool:
        """Whether there are more runs than are kept."""
        return len(self.runs) >= MOST_RUNS

    def refresh(self, progress: Callable[[int], None] = lambda count: None) -> bool:
        """Read what is new, at first everything.

        Parameters
        ----------
        progress : callable
            Called, while everything is read, with how many runs are there.

        Returns
        -------
        bool
            Whether something is new.

        Raises
        ------
        DatabaseError
            If the database is away.
        """
        database = self.catalog.database
        if database is None:
            changed = self._read_journals(progress)
        else:
            changed = self._read_database(database, progress)
        changed |= self._read_notes()
        self._is_filled = True
        self.version += changed
        return changed

    # -- from MongoDB -----------------------------------------------------------------------

    def _read_database(self, database: Database, progress: Callable[[int], None]) -> bool:
        scope = self.catalog.scope
        if not self._is_filled:
            for part in self._everything(database, progress):
                self._take(part)
                progress(len(self.runs))
                if self.is_partial:
                    break
            return True
        changed = self._take(queries.runs_by_number(database, self._open(), FIELDS))
        newest = max(map(_start, self.runs.values()), default=datetime.now(UTC))
        for part in queries.each_run(database, FIELDS, newest - _OVERLAP, scope):
            changed |= self._take(part)
        changed |= self._read_ahead(database)
        return self._reconcile(database) or changed

    def _everything(
        self, database: Database, progress: Callable[[int], None]
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield all runs: of many what is kept of them, brought up to date."""
        if not queries.are_many(database, FEW):
            yield from queries.each_run(database, FIELDS, scope=self.catalog.scope)
            return
        listing = Listing(self.catalog.project.root, database)
        listing.refresh(progress)
        yield from listing.records(self.catalog.scope)

    def _take(self, records: Iterable[Mapping[str, Any]]) -> bool:
        """Keep records; return whether one of them is new or another one than before."""
        changed, deleted = False, deleted_uids(self.catalog.project.root)
        for record in filter(self.catalog.scope.holds, records):
            if value_at(record, KEYS["uid"]) in deleted:
                continue
            number = record["_id"]
            view = _slim(RunView.from_record(record, self._journals))
            is_open = record.get("status") in _OPEN
            (self._stored_open.add if is_open else self._stored_open.discard)(number)
            changed |= self._keep(number, view)
        return changed

    def _keep(self, key: Any, view: RunView | None) -> bool:
        """Keep a run, or forget one that is gone; return whether something is new."""
        if self.runs.get(key) == view:
            return False
        if view is None:
            del self.runs[key]
        else:
            self.runs[key] = view
        return True

    def _open(self) -> list[Any]:
        """Return the numbers of runs that had not ended, of the newest ones."""
        known = [number for number in self._stored_open if number in self.runs]
        return sorted(known, key=lambda number: _start(self.runs[number]))[-_MOST_OPEN:]

    def _read_ahead(self, database: Database) -> bool:
        """Read runs that were numbered since, however long ago they began."""
        last = max((number for number in self.runs if isinstance(number, int)), default=0)
        changed = False
        while True:
            ahead = range(last + 1, last + 1 + _AHEAD)
            found = queries.runs_by_number(database, list(ahead), FIELDS)
            if not found:
                return changed
            changed |= self._take(found)
            last += _AHEAD

    def _reconcile(self, database: Database) -> bool:
        """Compare all numbers where the count says that runs were removed, or written elsewhere."""
        number, now = len(self.runs), time.monotonic()
        if number > COUNTED and now < self._counted + COUNTING * number:
            return False  # counting them takes the embedded server seconds
        self._counted = now
        difference = queries.count_runs(database) - len(self.runs)
        if difference == self._difference or self.is_partial:
            return False
        numbers = queries.run_numbers(database, self.catalog.scope)
        removed = self.runs.keys() - numbers
        for number in removed:
            self._keep(number, None)
            self._stored_open.discard(number)
        unknown = sorted(numbers - self.runs.keys(), key=str)
        added = self._take(queries.runs_by_number(database, unknown, FIELDS))
        self._difference = queries.count_runs(database) - len(self.runs)
        return bool(removed) or added

    def _read_notes(self) -> bool:
        times = [note.changed for note in self.notes.values() if note.changed]
        since = max(times) - _NOTES_OVERLAP if times else None
        found = {
            key: later(self.notes.get(key, note), note)
            for key, note in self.catalog.note_book.find(since).items()
        }
        changed = any(self.notes.get(key) != note for key, note in found.items())
        if changed:
            self.notes = {**self.notes, **found}
        return changed

    # -- from journals ----------------------------------------------------------------------

    def _read_journals(self, progress: Callable[[int], None]) -> bool:
        changed = False
        uids = journal_uids(self.catalog.project.root)[-MOST_RUNS:]
        if not self._is_filled and len(uids) > FEW:
            changed = self._read_listing(set(uids), progress)
        for uid in uids:
            size, known = self._size(uid), self.runs.get(uid)
            if known is None or size != self._sizes[uid] or known.status in _OPEN:
                record = record_of(self._journals / uid) if size >= 0 else None
                view = _slim(RunView.from_record(record, self._journals)) if record else None
                self._sizes[uid] = size
                changed |= self._keep(uid, view)
                progress(len(self.runs))
        for uid in self.runs.keys() - set(uids):
            changed |= self._keep(uid, None)
        return changed

    def _read_listing(self, uids: Set[str], progress: Callable[[int], None]) -> bool:
        """Take what is kept of many journals; those that went on since are read again."""
        listing = Listing(self.catalog.project.root, None)
        listing.refresh(progress)
        sizes, changed = listing.sizes(), False
        for part in listing.records():
            for record in part:
                uid = str(value_at(record, KEYS["uid"]))
                if uid in uids:
                    self._sizes[uid] = sizes.get(uid, -1)
                    changed |= self._keep(uid, _slim(RunView.from_record(record, self._journals)))
        return changed

    def _size(self, uid: str) -> int:
        with suppress(OSError):
            return os.stat(f"{self._journals}/{uid}/{EVENTS}").st_size
        return -1


def _slim(view: RunView) -> RunView:
    """Return a view without what takes memory and is not listed."""
    inputs = {
        slot: {"name": given.get("name"), "run": given.get("run")}
        for slot, given in view.inputs.items()
        if isinstance(given, Mapping)
    }
    return replace(view, inputs=inputs, facts={})


def _start(view: RunView) -> datetime:
    return view.started or datetime.fromtimestamp(0, UTC)
