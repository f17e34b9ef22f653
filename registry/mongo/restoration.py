"""Hold the records of runs that are over against their journals, and put back what was changed.

What the registry owns of a record is what its journal says. Everything else in it (notes and tags
of Omniboard, keys of ``info`` that other clients of Sacred add) is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.mongo.database import Database, digest, errors
from registry.mongo.documents import MetricDocument, RunDocuments, Seal, fields_of
from registry.mongo.files import put_back_file
from registry.mongo.removal import DeletedError, unless_deleted
from registry.record.journal import Journal, read_journal
from registry.record.wholeness import journal_faults

Record = Mapping[str, Any]

_UID = "info.factbook.uid"
_BATCH = 200  # records in one answer
_DAMAGED = "its record was changed, and cannot be put back: its journal is damaged"
_MORE = "its record has more points than its journal, which may have lost some: they are kept"


@dataclass(frozen=True)
class Restored:
    """A record that was not what its journal says, and is again.

    Attributes
    ----------
    uid : str
        The run.
    run_id : int
        Its number.
    status : str
        Its status, by its journal.
    fields : tuple of str
        What was put back.
    error : str or None
        Why nothing could be.
    """

    uid: str
    run_id: int
    status: str
    fields: tuple[str, ...] = ()
    error: str | None = None


def restore(
    journals: Path,
    database: Database,
    sizes: Mapping[str, int],
    seals: dict[str, Seal],
    number_of: Callable[[str], int | None],
    *,
    in_full: bool = False,
) -> Iterator[Restored]:
    """Put back what was changed in the records of runs that are over, and yield those.

    A record that was removed stays so, and nothing is taken from a journal that is damaged.

    Parameters
    ----------
    journals : Path
        The folder of the project's journals.
    database : Database
        Where the records are.
    sizes : mapping of str to int
        Bytes of the journals of these runs, by uid.
    seals : dict of str to Seal
        What is known of them, by uid, so that journals need not be read; updated.
    number_of : callable
        From a uid to the number that the run was given here, if it was given one.
    in_full : bool
        Whether every point and every file of every run is compared, which reads all of them;
        otherwise only where anything else was changed.

    Raises
    ------
    DatabaseError
        If the database is away; what was done until then stays done.
    """
    unseen, compared = set(sizes), set[Any]()
    for uid, record in _records(database, unseen, number_of):
        unseen.discard(uid)
        seal = seals.get(uid)
        is_known = seal is not None and seal.size == sizes[uid]
        is_broken = is_known and seal is not None and seal.is_broken(record)
        if is_known and not is_broken and not in_full:
            continue
        journal, run_id = read_journal(journals / uid), int(record["_id"])
        if not journal.ended or journal_faults(journal):
            if is_broken:
                yield Restored(uid, run_id, journal.status, error=_DAMAGED)
            continue
        try:
            with unless_deleted(database, journal) as wanted:
                restoring = _Restoring(journal, database, record, wanted)
                # Where nobody can tell whether the journal is whole, a record that is as it was
                # stored is believed.
                is_believed = is_known and not (is_broken or journal.is_proven)
                fields = restoring.run(in_full, compared, is_believed)
        except DeletedError:
            continue
        if not is_believed:
            seals[uid] = restoring.seal
        if fields:
            yield Restored(uid, run_id, journal.status, fields)
        if restoring.has_more:
            yield Restored(uid, run_id, journal.status, error=_MORE)


def _records(
    database: Database, unseen: Collection[str], number_of: Callable[[str], int | None]
) -> Iterator[tuple[str, Record]]:
    """Yield the records of runs, at last those that have lost what says whose they are."""
    with errors(database.address):
        for record in database.runs.find({_UID: {"$exists": True}}).batch_size(_BATCH):
            if (uid := _uid(record)) in unseen:
                yield uid, record
        for uid in sorted(unseen):
            query = {"_id": number_of(uid), _UID: {"$exists": False}}
            if (found := database.runs.find_one(query)) is not None:
                yield uid, found


def _uid(record: Record) -> str:
    try:
        return str(record["info"]["factbook"]["uid"])
    except (KeyError, TypeError):
        return ""


class _Restoring:
    """One record that is held against its journal."""

    def __init__(self, journal: Journal, database: Database, record: Record, wanted: RunDocuments):
        self.database, self.record, self.documents = database, record, wanted
        self.is_proven, self.has_more = journal.is_proven, False
        self.wanted = fields_of(self.documents.run)
        self.seal = Seal.of(journal.size, self.wanted)

    def run(self, in_full: bool, compared: set[Any], is_believed: bool) -> tuple[str, ...]:
        """Put back what differs; return its names. Files that were compared are so once.

        Where the record `is_believed`, its own fields stay.
        """
        fields = () if is_believed or not self.seal.is_broken(self.record) else self._put_back()
        if fields or in_full:
            metrics = filter(self._put_back_points, self.documents.metrics)
            fields += tuple(f"metric {metric.name}" for metric in metrics)
            fields += tuple(self._put_back_files(compared))
        return fields

    def _put_back_files(self, compared: set[Any]) -> Iterator[str]:
        """Put back the contents of sources and artifacts; yield which ones differed."""
        run_id = int(self.record["_id"])
        named = self.documents.files_by_name() | self.documents.files_by_name(run_id)
        for name, file in named.items():
            if file.id not in compared:
                compared.add(file.id)
                if put_back_file(self.database, name, file):
                    yield f"file {file.name}"

    def _put_back(self) -> tuple[str, ...]:
        stored = self.seal.own(self.record)
        changed = {
            name: value
            for name, value in self.wanted.items()
            if name not in stored or digest({name: stored[name]}) != digest({name: value})
        }
        removed = dict.fromkeys(stored.keys() - self.wanted.keys(), "")
        updates: list[dict[str, Any]] = [{"$set": changed}, {"$unset": removed}]
        if not isinstance(self.record.get("info"), Mapping):
            updates.insert(0, {"$set": {"info": {}}})
        with errors(self.database.address):
            for update in updates:
                if any(update.values()):
                    self.database.runs.update_one({"_id": self.record["_id"]}, update)
        return tuple(sorted({*changed, *removed}))

    def _put_back_points(self, metric: MetricDocument) -> bool:
        """Put back the points of a part of a metric; return whether they were others."""
        part = metric.part
        wanted = {"run_id": self.record["_id"], "name": metric.name, **metric.points()}
        wanted |= {"count": part.count, "first": part.first}
        with errors(self.database.address):
            stored = self.database.metrics.find_one({"_id": metric.id}) or {}
            if digest({name: stored.get(name) for name in wanted}) == digest(wanted):
                return False
            have = stored.get("count")
            if not self.is_proven and isinstance(have, int) and have > part.count:
                self.has_more = True
                return False
            self.database.metrics.update_one({"_id": metric.id}, {"$set": wanted}, upsert=True)
        return True
