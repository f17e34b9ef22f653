"""The catalog: the read-only view that joins records and datasets.

The command line, the dashboard and scripts all read through it. Records come from MongoDB, and
from the journals where there is no database, or a run has not reached it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.catalog.conditions import (
    STATUSES,
    Condition,
    QueryError,
    conditions_of,
    nearest_column,
    require_columns,
)
from registry.catalog.listing import FEW, Listing, is_kept
from registry.catalog.notes import NOTED, Note, NoteBook, run_subject
from registry.catalog.runs import (
    COLUMNS,
    KEYS,
    SECONDS,
    UID,
    RunDetails,
    Runs,
    RunView,
    group_value,
    is_number,
    is_run,
    record_of,
    utc,
)
from registry.catalog.scope import scope_of
from registry.declare.declared import SelectionError
from registry.declare.stage import Input, find_stage
from registry.mongo import queries
from registry.mongo.database import INDEXED, URL_VARIABLE, Database, DatabaseError, connect
from registry.mongo.queries import EVERYTHING, PROJECT, Scope, find_metrics, sort_value, value_at
from registry.mongo.removal import find_deleted
from registry.plan.project import MissingInputsError, Project, open_project
from registry.plan.task import Plan
from registry.record.copies import is_copy
from registry.record.journal import journal_root, journal_uids, read_journal
from registry.record.tombstones import Tombstone, deleted_uids, read_tombstone
from registry.store.durable import read_json
from registry.store.manifest import read_manifest
from registry.store.schema import SchemaError
from registry.suggest import RefusalError, nearest

if TYPE_CHECKING:
    import xarray as xr

    from registry.catalog.lineage import FinishedRuns, Lineage
    from registry.replicates import Replicates

REMOVED = "removed.json"
"""In the journal of a run whose dataset was removed on purpose: when, and by what."""

_OVERTAKING = 50  # runs that may have been named before a run that started earlier
_NEWEST = 1_000  # runs that are asked first for the columns that there are
_LOOKED_AT = 8  # times the limit: how many runs are compared first
_GROUPS = ("config", "result")
_SORTED = {*COLUMNS, *KEYS, *KEYS.values(), *queries.SUMMARY} - {*_GROUPS}


PART = "info.factbook.part"
Holds = Callable[[Mapping[str, Any]], bool] | None


class UnknownRunError(RefusalError, LookupError):
    """A run that is in no record.

    Attributes
    ----------
    is_away : bool
        Whether it was named by a number, which only MongoDB knows, and MongoDB is away.
    """

    is_away = False


class DeletedRunError(UnknownRunError):
    """A run that was deleted.

    Attributes
    ----------
    tombstone : Tombstone
        What it was, when it was deleted, and what makes it again.
    """

    def __init__(self, tombstone: Tombstone):
        again = f"; {tombstone.command}" if tombstone.command else ""
        super().__init__(f"{tombstone.told}{again}", command=tombstone.command)
        self.tombstone = tombstone


@dataclass(frozen=True)
class _Compared:
    """A run with its record and note: what stands in any column of it, or at any key."""

    record: Mapping[str, Any]
    journals: Path
    notes: Mapping[str, Note]

    @cached_property
    def run(self) -> RunView:
        return RunView.from_record(self.record, self.journals)

    @cached_property
    def values(self) -> dict[str, Any]:
        return self.run.row()

    def value(self, column: str) -> Any:
        if column in NOTED:
            note = self.notes.get(run_subject(self.run).key)
            return note.column(column) if note else None
        if column.partition(".")[0] in _GROUPS:
            found = group_value(self.record, column)  # without a view of the whole run
        elif column in (*COLUMNS, "project"):
            return self.run.column(column)
        else:
            found = None
        return value_at(self.record, KEYS.get(column, column)) if found is None else found


def _has(view: RunView, column: str) -> bool:
    return view.row().get(column) is not None or view.inside(column) is not None


@dataclass(frozen=True)
class Catalog:
    """Records and datasets of one project; it changes neither.

    Attributes
    ----------
    project : Project
        The declaration, and where things lie.
    database : Database or None
        None if there is none: then the journals are read.
    trouble : str
        Why there is no database, where one was expected.
    scope : Scope
        The runs that are listed, of a database that several projects share.
    """

    project: Project
    database: Database | None = None
    trouble: str = ""
    scope: Scope = EVERYTHING

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection to the database; a catalog is also a context manager."""
        if self.database is not None:
            self.database.close()

    @property
    def _journals(self) -> Path:
        return journal_root(self.project.root)

    # -- runs -------------------------------------------------------------------------------

    def runs(
        self,
        *,
        experiment: str | None = None,
        stage: str | None = None,
        status: str | None = None,
        where: Mapping[str, Any] | str | Sequence[str] | None = None,
        sort: str = "-start_time",
        limit: int | None = None,
    ) -> Runs:
        """Return runs, the newest first.

        Parameters
        ----------
        experiment, stage, status : str, optional
            Exact values; an experiment's name means all its cells, a cell's name this cell. A
            stage and a cell are found under their former names too.
        where : mapping, str or sequence of str, optional
            Values by dotted key of Sacred's record, or by column: ``{"config.k": 16}``; or
            comparisons, ``"config.k>=16, result.accuracy>0.9"``, see
            :mod:`registry.catalog.conditions`. A key of the configuration is found under its former
            names too.
        sort : str
            Such a key, with ``-`` for the largest first.
        limit : int, optional
            How many at most.

        Raises
        ------
        QueryError
            If a comparison cannot be read, or no run has what is compared or sorted by.
        ValueError
            If a key or value could act as an operator, or the limit is below 0.
        DatabaseError
            If the database went away.
        """
        if limit is not None and limit < 0:
            raise ValueError(f"limit {limit}; expected at least 0")
        given, conditions = _asked(where)
        query: dict[str, Any] = {KEYS.get(key, key): value for key, value in given.items()}
        key = sort.removeprefix("-")
        is_reversed = sort.startswith("-")
        sort = sort.replace(key, KEYS.get(key, key))
        if experiment is not None:
            cell = self.project.graph.cells.get(experiment)
            names = [experiment, cell.former_name] if cell and cell.former_name else experiment
            query[f"info.factbook.{'cell' if '[' in experiment else 'experiment'}"] = names
        if stage is not None:
            query[KEYS["stage"]] = stage
        if KEYS["stage"] in query:
            query[KEYS["stage"]] = _all_names(query[KEYS["stage"]])
        if status is not None:  # one that is shown as died may be stored as running
            query["status"] = ["DIED", "RUNNING"] if status == "DIED" else status
        # So some are dropped below.
        bound = None if status in ("DIED", "RUNNING") else limit
        if conditions:
            views = self._compared(query, conditions, sort, bound)
        else:
            records = self._records_of_any(query, sort, bound)
            views = [RunView.from_record(record, self._journals) for record in records]
        if status is not None:
            views = [view for view in views if view.status == status]
            if not views and status not in STATUSES:
                raise QueryError(f"no run is {status[:100]!r}{nearest(status, STATUSES)}")
        if key == SECONDS:
            views.sort(key=lambda view: view.seconds or 0.0, reverse=is_reversed)
        self._require_sortable(key, views[:limit])
        return Runs(views[:limit])

    def _require_sortable(self, key: str, views: Sequence[RunView]) -> None:
        """Make sure that runs have what they are sorted by: one of these, or any other."""
        if key in _SORTED or not views or any(_has(view, key) for view in views):
            return
        [first] = self._records({}, f"-{key}", 1, [key])  # those without come last
        if value_at(first, key) is None:
            known = {*COLUMNS, *(name for view in views for name in view.row())}
            raise QueryError(f"no run has {key[:100]!r} to sort by{nearest_column(key, known)}")

    def _compared(
        self,
        query: Mapping[str, Any],
        conditions: Sequence[Condition],
        sort: str,
        limit: int | None,
    ) -> list[RunView]:
        """Return the runs that fulfil conditions.

        QueryError: no run has what is compared.
        """
        keys = [own.column for own in conditions if own.column not in (*COLUMNS, *NOTED)]
        keys = [queries.safe_key(KEYS.get(key, key)) for key in keys]
        narrowed = {**self._narrowed(conditions), **query}
        notes = self._notes() if any(own.column in NOTED for own in conditions) else {}

        def compared(record: Mapping[str, Any]) -> _Compared:
            return _Compared(record, self._journals, notes)

        def holds(record: Mapping[str, Any]) -> bool:
            run = compared(record)
            return all(own.holds(run) for own in conditions)

        records = self._records_of_any(narrowed, sort, limit, keys, holds)
        if not records or any(own.sign == "!=" for own in conditions):
            known = (
                compared(record)
                for bound in (_NEWEST, None)
                for record in self._records({}, "-start_time", bound, keys)
            )
            require_columns(conditions, known, (*COLUMNS, *NOTED))
        return [RunView.from_record(record, self._journals) for record in records]

    def _narrowed(self, conditions: Iterable[Condition]) -> dict[str, Any]:
        """Return what a database may leave out; all else is compared here."""
        rules = [experiment.rules for experiment in self.project.declaration.experiments.values()]
        late = {key for own in rules for key in (*own.since, *own.nested)}  # not in older records
        query: dict[str, Any] = {}
        for own in conditions:
            group, _, key = own.column.partition(".")
            is_late = group == "config" and key.partition(".")[0] in late
            if own.equal_scalars and not is_late and (group in _GROUPS or own.column == "uid"):
                query[KEYS.get(own.column, own.column)] = own.equal_scalars
        return query

    def _notes(self) -> dict[str, Note]:
        return self.note_book.find()

    @property
    def note_book(self) -> NoteBook:
        """Where names, notes and tags are kept that people give runs and concepts."""
        return NoteBook.of(self.project.root, self.database)

    def own_names(self, of: str | int | RunView) -> dict[int, Note]:
        """Return what people call the concepts of a dataset, by concept.

        Parameters
        ----------
        of : str, int or RunView
            A cell, for its current dataset; or the run that made the dataset. In another dataset
            the same number is another concept, which has no name of these.

        Returns
        -------
        dict of int to Note
            Each with its ``name``, and with who gave it (``by``) and when (``changed``).

        Raises
        ------
        MissingInputsError, SelectionError, UnknownRunError
            As :meth:`path`.
        """
        run = self.path(of).name
        return {
            note.subject.concept: note
            for note in self.note_book.find().values()
            if note.subject.run == run and note.subject.concept is not None and note.name
        }

    def _records_of_any(
        self,
        query: Mapping[str, Any],
        sort: str,
        limit: int | None,
        keys: Sequence[str] = (),
        holds: Holds = None,
    ) -> list[dict[str, Any]]:
        """Return records whose configuration has these values under the names of any time."""
        experiments = self.project.declaration.experiments.values()
        rules = {experiment.stage: experiment.rules for experiment in experiments}
        spelled = [
            sorted({f"config.{n}" for r in rules.values() for n in r.names(key[7:])} or {key})
            if key.startswith("config.")
            else [key]
            for key in query
        ]
        if all(len(names) == 1 for names in spelled):
            return self._records(query, sort, limit, keys, holds)
        found = [
            record
            for names in product(*spelled)
            for record in self._records(
                dict(zip(names, query.values(), strict=True)), sort, limit, keys, holds
            )
        ]
        unique = {str(value_at(record, KEYS["uid"]) or record["_id"]): record for record in found}
        return _select(iter(unique.values()), {}, sort, None)

    def _records(
        self,
        query: Mapping[str, Any],
        sort: str,
        limit: int | None,
        keys: Sequence[str] = (),
        holds: Holds = None,
    ) -> list[dict[str, Any]]:
        """Return records with the fields of a summary, and those of some keys beside them."""
        deleted = deleted_uids(self.project.root)
        asked = [*query, sort.removeprefix("-"), *keys]
        if self._is_listed(query, sort, limit, holds) and all(map(is_kept, asked)):
            listing = Listing(self.project.root, self.database)
            given: dict[str, Any] = {"sort": sort, "limit": limit, "holds": holds}
            return listing.select(query, scope=self.scope, deleted=deleted, **given)
        if sort.removeprefix("-") == SECONDS:  # which stands in no record: all are sorted by it
            sort, limit = "-start_time", None
        if self.database is None:
            queries.conditions_of(query)
            queries.safe_key(sort.lstrip("-"))
            uids = [uid for uid in reversed(journal_uids(self.project.root)) if uid not in deleted]
            records = (record_of(self._journals / uid) for uid in uids)
            return _select(filter(None, records), query, sort, limit, holds)
        bounds = (limit,) if holds is None else (limit and _LOOKED_AT * limit, None)
        for bound in dict.fromkeys(bounds):
            found = queries.find_runs(
                self.database,
                query,
                sort=sort,
                limit=bound,
                fields=(*queries.SUMMARY, *keys),
                scope=self.scope,
            )
            found = [run for run in found if value_at(run, KEYS["uid"]) not in deleted]
            found = [run for run in found if holds is None or holds(run)][:limit]
            if limit and len(found) >= limit:
                break
        return found

    def _is_listed(
        self, query: Mapping[str, Any], sort: str, limit: int | None, holds: Holds
    ) -> bool:
        """Return whether a question is answered sooner by summaries than by the records.

        Of a few runs the records are read; and of many, where no summaries are kept yet, for what
        an index of the database can answer, or the newest journals: to read 100,000 records for one
        question takes the embedded server a minute, and 4 GB.
        """
        if self.database is not None:
            is_many = queries.are_many(self.database, FEW)
        else:
            is_many = len(journal_uids(self.project.root)) > FEW
        if not is_many:
            return False
        if self.database is None:
            is_quick = sort == "-start_time" and limit is not None and not query
        elif query.get("status") in ("RUNNING", ["DIED", "RUNNING"]):
            is_quick = True  # there are few
        else:
            is_indexed = query.keys() <= {*INDEXED, KEYS["uid"]}
            is_narrow = not query.keys().isdisjoint(INDEXED[:3])
            is_quick = sort == "-start_time" and limit is not None and (is_indexed or is_narrow)
        is_quick = is_quick and holds is None
        return not is_quick or Listing(self.project.root, self.database).is_filled

    def run(self, run: int | str) -> RunView:
        """Return one run by its number, its identifier, or the name of a cell: its newest run.

        Raises
        ------
        UnknownRunError
            If there is none; with the nearest name.
        """
        return RunView.from_record(self._record(run), self._journals)

    def _journal_of(self, uid: str) -> Path:
        """Return where a run's journal is, or would be: never outside the folder of journals."""
        return self._journals / (uid if UID.fullmatch(uid) else "none")

    def _find(self, run: int | str) -> dict[str, Any] | None:
        """Return the record of a run by its number or its identifier; None if there is none.

        Raises
        ------
        UnknownRunError
            If it is another project's, or was deleted.
        """
        stored = queries.find_run(self.database, run) if self.database is not None else None
        uid = str(run) if stored is None else str(value_at(stored, KEYS["uid"]))
        deleted = self._tombstone(uid)
        if deleted is None and stored is None and self.database is not None and is_run(str(run)):
            deleted = find_deleted(self.database, run)
        if deleted is not None:
            raise DeletedRunError(deleted)
        if stored is not None and not self.scope.holds(stored):
            command = f"factbook show {run} --all-projects"
            owner = value_at(stored, PROJECT) or "another one"
            message = f"run {run} is of project {owner!r}, not of {self.scope.name!r}; {command}"
            raise UnknownRunError(message, command=command)
        return stored or record_of(self._journal_of(str(run)))

    def _tombstone(self, uid: str) -> Tombstone | None:
        """Return what was noted here of a run that was deleted."""
        return read_tombstone(self.project.root, uid) if UID.fullmatch(uid) else None

    def _record(self, run: int | str) -> dict[str, Any]:
        if (found := self._find(run)) is not None:
            return found
        if isinstance(run, str) and not is_run(run):
            cell = self._cell_name(run)
            for key, name in (("info.factbook.cell", cell), ("info.factbook.experiment", run)):
                newest = self._records({key: name}, "-start_time", 1)
                if newest and value_at(newest[0], PART):  # of it some runs wrote parts alone
                    newest = self._records({key: name, PART: None}, "-start_time", 1) or newest
                if newest:
                    return self._record(newest[0]["info"]["factbook"]["uid"])
        error = UnknownRunError(f"no run {str(run)[:100]!r}{self._near(str(run))}")
        error.is_away = is_number(str(run)) and self.database is None
        raise error

    def _cell_name(self, text: str) -> str:
        """Return the whole name of the one cell that is meant, if one is; else what was given."""
        if "[" in text and text not in self.project.graph.cells:
            with suppress(SelectionError):
                return self.project.graph.select_one(text).name
        return text

    def _near(self, name: str) -> str:
        """Return what to say of a name that no run has."""
        if is_run(name):
            numbered = is_number(name) and self.database is None
            return ": numbers are MongoDB's, which is away; name its identifier" * numbered
        if name in self.project.graph.cells or name in self.project.declaration.experiments:
            return f": it is declared and has never run; factbook run {shlex.quote(name)}"
        return nearest(name, self.project.declaration.experiments)

    def metrics(self, run: RunView) -> dict[str, dict[str, list[Any]]]:
        """Return the curves of a run: by name, ``steps``, ``values`` and ``timestamps``."""
        if self.database is not None and run.id is not None:
            curves = find_metrics(self.database, run.id)
            for curve in curves.values():
                curve["timestamps"] = list(map(utc, curve["timestamps"]))
            return curves
        curves = {}
        for name, series in read_journal(self._journal_of(run.uid)).metrics.items():
            times = [datetime.fromtimestamp(ms / 1000, UTC) for ms in series.column("timestamps")]
            columns = {column: series.column(column) for column in ("steps", "values")}
            curves[name] = {**columns, "timestamps": times}
        return curves

    def console(self, run: RunView) -> str:
        """Return what a run printed."""
        if (journal := self._journal_of(run.uid)).is_dir():
            return read_journal(journal, with_metrics=False).console()
        return str((self._find(run.key) or {}).get("captured_out") or "")

    def trace(self, run: RunView) -> str:
        """Return the traceback of a run that failed, "" of others."""
        trace = self._record(run.key).get("fail_trace")
        return "".join(trace) if isinstance(trace, list) else str(trace or "")

    def details(self, run: RunView) -> RunDetails:
        """Return what Sacred notes beside a run: host, repositories, dependencies, files.

        Raises
        ------
        UnknownRunError
            If it is gone.
        """
        return RunDetails.from_record(self._record(run.key))

    def artifact(self, run: RunView, name: str) -> bytes:
        """Return the content of a file that was added to a run.

        Raises
        ------
        UnknownRunError
            If the run has none of this name, or its content was not kept.
        """
        record = self._find(run.key) or {}
        for artifact in reversed(record.get("artifacts") or []):
            if artifact.get("name") == name:
                identity = str(artifact.get("file_id") or artifact.get("md5"))
                if (content := self._kept(record, "artifacts", identity)) is not None:
                    return content
        raise UnknownRunError(f"run {run.key} has kept no artifact {name[:100]!r}")

    def sources(self, run: RunView) -> dict[str, str]:
        """Return the code of a run, text by file name."""
        record = self._find(run.key) or {}
        sources = (record.get("experiment") or {}).get("sources") or []
        found = {name: self._kept(record, "sources", file) for name, file in sources}
        return {n: code.decode("utf-8", "replace") for n, code in found.items() if code is not None}

    def _kept(self, record: Mapping[str, Any], folder: str, file: str) -> bytes | None:
        """Return the content of a file that was kept of a run, from MongoDB or from its journal."""
        if self.database is not None and record.get("_id") is not None:
            return self.database.read_file(file)
        path = self._journal_of(str(value_at(record, KEYS["uid"]))) / folder / file
        return path.read_bytes() if is_copy(path) else None

    # -- datasets ---------------------------------------------------------------------------

    def path(self, of: str | int | RunView) -> Path:
        """Return the folder of the current dataset of a cell, or of the dataset of any run.

        Parameters
        ----------
        of : str, int or RunView
            A cell, for its current dataset as it is declared now; or a run, its number or its
            identifier, for the dataset that this run made, whatever is declared by now.

        Raises
        ------
        MissingInputsError
            If there is no whole dataset.
        SelectionError
            If the name means several cells, or none.
        UnknownRunError
            If there is no such run.
        """
        if isinstance(of, str) and not is_run(of):
            return self.project.current(of)
        run = of if isinstance(of, RunView) else self.run(of)
        name, recorded = run.key, run.output.get("path")
        if not recorded:
            raise MissingInputsError(f"run {name} made no dataset: it is {run.status}")
        root = self.project.root
        if not self._journal_of(run.uid).is_dir():  # made elsewhere: by a clone on this host?
            root = Path(str(run.facts.get("root") or root))
        path = root / str(recorded)
        if not path.is_dir():
            raise self._gone(run, path)
        return path

    def _gone(self, run: RunView, path: Path) -> MissingInputsError:
        """Return the error that says where a run's dataset is no more, and why if that is known."""
        note = read_json(self._journal_of(run.uid) / REMOVED)
        if note is None:
            return MissingInputsError(f"the dataset of run {run.key} is gone from {path}")
        command = f"factbook run {shlex.quote(run.cell)}"
        day, _, clock = str(note.get("removed")).partition("T")
        how = f"was removed by {note.get('by')} at {day} {clock[:5]} UTC"
        return MissingInputsError(f"the dataset of run {run.key} {how}; {command}", command=command)

    def dataset(self, of: str | int | RunView) -> xr.Dataset:
        """Open the current dataset of a cell, or the dataset of any run, lazily.

        It is in today's form of its schema; where the stage that made it is gone, or cannot read
        so old a version, as it was stored. In Jupyter ``.factbook`` of it shows its tables and
        figures. See :meth:`path` for names and errors.
        """
        from registry.catalog import shown  # noqa: F401  xarray: listing runs needs none
        from registry.store.datasets import open_dataset

        folder = self.path(of)
        dataset = open_dataset(folder)
        stage = find_stage(str((read_manifest(folder) or {}).get("stage", "")))
        with suppress(SchemaError):
            dataset = stage.output.upgrade(dataset) if stage else dataset
        return dataset

    def lineage(self) -> Lineage:
        """Return what was made from what: declared cells, and all finished runs beside them.

        ``catalog.lineage().made_from("shapes-concepts")`` are the names, pictures and scores of
        those concepts; ``.earlier("shapes-concepts")`` the runs that the cell does not ask for any
        more, each with ``run``, ``config``, ``needs`` and ``folder``.
        """
        from registry.catalog.lineage import lineage_of

        self._finished.refresh()
        return lineage_of(self.project, self._finished)

    @cached_property
    def _finished(self) -> FinishedRuns:
        from registry.catalog.lineage import FinishedRuns

        return FinishedRuns(self.project.store.root)

    def input(self, of: str | int | RunView) -> Input:
        """Return a dataset as a stage would be given it, to be read only.

        Through it the network and the images behind a dataset are reached:
        ``catalog.input("shapes-concepts").origin("images").load()``. Paths in the settings of
        what is declared are relative to the project's folder, which must be the current one then.

        Parameters
        ----------
        of : str, int or RunView
            As for :meth:`path`. Behind the dataset of a run stands what that run read, and the
            settings of resources as they were declared then; of those that are the same data
            still, as they are declared now.

        Raises
        ------
        MissingInputsError
            If there is no whole dataset. What is gone of all behind it is left out.
        SelectionError
            If the name means several cells, or none.
        UnknownRunError
            If there is no such run.
        """
        if isinstance(of, str) and not is_run(of):
            return self.project.finished(of)
        folder = self.path(of)
        found = self.project.recorded(folder)
        if found is None:
            raise MissingInputsError(f"the dataset in {folder} is not complete")
        return found

    def over_seeds(
        self,
        *names: str,
        over: str = "seed",
        results: Sequence[str] = (),
        confidence: float = 0.95,
    ) -> Replicates:
        """Return results as means over seeds, to be compared between settings.

        Cells that differ in the seed alone are one setting, wherever in what they were made from
        the seed was varied. Results are those of the current dataset of each cell, as it is
        declared now; a cell without one is named as missing.

        Parameters
        ----------
        *names : str
            Experiments, cells, patterns or suites; settings stand in this order.
        over : str
            The axis of replicates, by its key, or its label as ``fashion-sae.seed``. Where several
            have this key, the one that is drawn first counts, and results are means over the
            others. ``experiment`` makes each name a setting, and its experiments the replicates.
        results : sequence of str
            Names or patterns, as ``accuracy`` or ``score.*``: scalars of datasets, and
            ``column.row`` of the tables that a stage sums up its dataset by. By default the scalars
            that are not the same in all cells.
        confidence : float
            Of the intervals, in (0, 1).

        Returns
        -------
        Replicates
            ``means()`` and ``differences(against)`` are DataFrames; ``settings`` hold the values.

        Raises
        ------
        SelectionError
            If a name means nothing.
        ReplicatesError
            If nothing has such an axis or such a result, or a setting has several stages.
        """
        from registry.catalog.seeds import over_seeds  # pandas: listing runs needs none

        return over_seeds(self.project, names, over=over, results=results, confidence=confidence)

    def plan(self, targets: Sequence[str] = (), **options: Any) -> Plan:
        """Return what would run, and why; see :meth:`registry.plan.project.Project.plan`."""
        return self.project.plan(targets, **options)


def open_catalog(
    path: Path | str | None = None, url: str | None = None, *, all_projects: bool = False
) -> Catalog:
    """Open the catalog of a project.

    Parameters
    ----------
    path : Path or str, optional
        The project's folder or its ``experiments.toml``; found from the current folder upwards.
    url : str, optional
        A MongoDB URL, or ``off`` for the journals alone; by default ``$FACTBOOK_MONGO``, else the
        embedded server, which is started if need be.
    all_projects : bool
        Whether runs of every project are found, where several share the database. Otherwise they
        are those that name this project, and those whose journals are in its folder. Runs that
        name none belong to the project that first used the database.

    Returns
    -------
    Catalog
        Without a database, and with the reason in ``trouble``, if it cannot be reached.

    Raises
    ------
    DeclarationError
        If there is no project, or its declaration has faults.
    """
    project = open_project(path)
    try:
        name = project.declaration.project.database
        found = Catalog(project, connect(project.root, url, name=name))
        return found if all_projects else scoped(found, url)
    except DatabaseError as error:
        return Catalog(project, None, str(error))


def scoped(catalog: Catalog, url: str | None = None) -> Catalog:
    """Return a catalog that finds the runs of its own project, as it is declared now.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    if catalog.database is None:
        return catalog
    is_shared = bool(url or os.environ.get(URL_VARIABLE))
    scope = scope_of(catalog.project, catalog.database, is_shared=is_shared)
    return replace(catalog, scope=scope)


def _asked(
    where: Mapping[str, Any] | str | Sequence[str] | None,
) -> tuple[Mapping[str, Any], list[Condition]]:
    """Return the values and the comparisons that runs are asked for by."""
    if where is None or isinstance(where, Mapping):
        return where or {}, []
    texts = [where] if isinstance(where, str) else where
    return {}, [condition for text in texts for condition in conditions_of(text)]


def _all_names(stages: Any) -> Any:
    """Return today's and former names of one stage or of several."""
    if isinstance(stages, str):
        stage = find_stage(stages)
        return [stage.name, *stage.formerly] if stage and stage.formerly else stages
    if isinstance(stages, list | tuple) and all(isinstance(stage, str) for stage in stages):
        found = map(_all_names, stages)
        return [name for names in found for name in ([names] if isinstance(names, str) else names)]
    return stages  # refused where it could act as an operator


def _select(
    records: Iterator[dict[str, Any]],
    query: Mapping[str, Any],
    sort: str,
    limit: int | None,
    holds: Holds = None,
) -> list[dict[str, Any]]:
    """Filter and sort records of journals, which come newest first, as the database would."""

    def matches(record: dict[str, Any]) -> bool:
        return all(
            value_at(record, key) in (wanted if isinstance(wanted, list | tuple) else [wanted])
            for key, wanted in query.items()
        ) and (holds is None or holds(record))

    key = sort.lstrip("-")
    most = limit + _OVERTAKING if sort == "-start_time" and limit is not None else None
    chosen = list(islice(filter(matches, records), most))
    chosen.sort(key=lambda run: sort_value(run, key), reverse=sort.startswith("-"))
    return chosen[:limit]
