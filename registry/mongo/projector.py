"""Projects journals into MongoDB: one beside its run, or all that are left over."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.mongo.database import AwayError, DamagedError, Database, DatabaseError
from registry.mongo.documents import Seal
from registry.mongo.projection import Sent, store_journal, stored_state, stored_status
from registry.mongo.removal import DeletedError, apply_tombstones, deleted_from
from registry.mongo.restoration import restore
from registry.record.journal import (
    EVENTS,
    OPEN,
    PROJECTED,
    Journal,
    ReleasedError,
    journal_root,
    journal_uids,
    read_journal,
)
from registry.record.liveness import note_death, summary_of
from registry.record.tombstones import deleted_uids
from registry.record.wholeness import (
    NO_END,
    SHORTER,
    is_seal,
    journal_faults,
    proven_status,
    stored_notes,
)
from registry.store.durable import StoreError, make_state_folder, read_json, write_json

SYNC = "factbook sync"

_LONGEST_WAIT = 30.0  # seconds between tries while the database is away
_RETRY = 0.5  # seconds, at the end of the run
_ONE_TRY = 4.0  # seconds that it takes to find that a database is away
_MOST_READ_BACKS = 3  # that find another status than the journal's
_SHARE = 10  # times as long as a projection took is waited until the next one


@dataclass(frozen=True)
class RecordOutcome:
    """Where the record of a run stands when the run is over.

    Attributes
    ----------
    recorded : bool
        Whether the end of the run was read back from the database.
    run_id : int or None
        Number of the run there.
    status : str
        Status of the run by its journal.
    message : str
        One line for people.
    command : str or None
        What to type for the record to be completed, if it is not.
    """

    recorded: bool
    run_id: int | None
    status: str
    message: str
    command: str | None = None


@dataclass(frozen=True)
class Synced:
    """What was done for one journal.

    Attributes
    ----------
    uid : str
        The run.
    run_id : int or None
        Its number in the database; None if it could not be stored.
    status : str
        Its status.
    died : bool
        Whether it was found dead just now.
    error : str or None
        Why it could not be stored.
    restored : tuple of str
        What somebody had changed in its record, and is as its journal says again.
    lacks : str
        What is wrong with the journal or the copies of files beside it, though it was stored.
    """

    uid: str
    run_id: int | None
    status: str
    died: bool = False
    error: str | None = None
    restored: tuple[str, ...] = ()
    lacks: str = ""


class Projector:
    """Projects the journal of a run while it runs, from a thread that never holds it up.

    A context manager around the run; `finish` afterwards says how it went.

    Parameters
    ----------
    folder : Path
        The journal.
    database : Database or None
        Where to; None if it is away, or only the journal is wanted.
    connect : callable, optional
        Returns the database when it is there again; by default none is wanted without one.
    interval : float
        Seconds between two projections. Slow ones are made more rarely.
    grace : float
        Seconds without progress after which `finish` gives up; less for one that is away.
    """

    def __init__(
        self,
        folder: Path,
        database: Database | None,
        connect: Callable[[], Database | None] | None = None,
        *,
        interval: float = 3.0,
        grace: float = 10.0,
    ):
        self._folder = Path(folder)
        self._database = database
        self._connect = connect
        self._reopened: Database | None = None
        self._interval = interval
        self._grace = grace
        self._over = threading.Event()
        self._patient_until = 0.0
        self._error: Exception | None = None
        self._run_id: int | None = None
        self._recorded = False
        self._is_tidy = False
        self._restart()
        self._thread = threading.Thread(target=self._work, name="projector", daemon=True)

    def __enter__(self) -> Projector:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def start(self) -> None:
        """Begin to project."""
        if self._database is not None or self._connect is not None:
            self._thread.start()

    def finish(self, is_hurried: Callable[[], bool] = lambda: False) -> RecordOutcome:
        """Project the end of the run and read it back, in bounded time.

        Parameters
        ----------
        is_hurried : callable
            Whether to wait no longer.

        Returns
        -------
        RecordOutcome
            Where the record stands. The journal is complete in any case.
        """
        self._working(0.0 if self._is_found else _ONE_TRY - self._grace)
        self._over.set()
        while self._thread.is_alive() and time.monotonic() < self._patient_until:
            if is_hurried():
                break
            self._thread.join(0.05)
        known = self._journal.ended
        journal = self._journal if known else read_journal(self._folder, with_metrics=False)
        status = journal.status
        if self._database is None and self._connect is None:
            message = f"{status}; no database is wanted, the journal is complete"
            return RecordOutcome(False, None, status, message, SYNC)
        database = self._reopened or self._database
        if self._recorded and database is not None:
            message = f"{status}, recorded as run {self._run_id} in {database.address}"
            return RecordOutcome(True, self._run_id, status, message)
        waited = f"the database did not answer {'until interrupted' if is_hurried() else 'in time'}"
        reason = self._error or (waited if self._thread.is_alive() else "its end is not stored")
        message = f"{status}, in the journal only: {reason}; complete the record with: {SYNC}"
        return RecordOutcome(False, self._run_id, status, message, SYNC)

    def _work(self) -> None:
        wait = self._interval
        while not self._over.wait(wait):
            began = time.monotonic()
            going = self._attempt()
            took = time.monotonic() - began
            wait = max(self._interval, _SHARE * took) if going else min(2 * wait, _LONGEST_WAIT)
        successes = 0
        while not self._recorded and successes < _MOST_READ_BACKS:
            if self._attempt():
                successes = successes + 1 if self._journal.ended else _MOST_READ_BACKS
            elif time.monotonic() >= self._patient_until or not self._is_found:
                break
            else:
                time.sleep(_RETRY)
        if self._reopened is not None:
            self._reopened.close()

    def _attempt(self) -> bool:
        """Project what the journal says now; after an error, connect anew the next time."""
        try:
            database = self._connected()
            if not self._is_tidy:  # what a deletion that was cut short has left there
                apply_tombstones(self._folder.parents[2], database)
                self._is_tidy = True
            self._journal.refresh()
            if self._journal.status:
                self._run_id = store_journal(self._journal, database, self._sent, self._working)
                self._recorded = _finished(self._journal, self._run_id, database, self._sent)
                self._working()
            self._error = None
            return True
        except ReleasedError:
            self._restart()
        except Exception as error:  # the run must not suffer, whatever it is
            self._error = error
            self._lost = True
        return False

    @property
    def _is_found(self) -> bool:
        """Whether the database was there at any time; for one that is away one try is enough."""
        return bool(self._database or self._reopened)

    def _connected(self) -> Database:
        current = self._reopened or self._database
        if current is not None and not self._lost:
            return current
        connect = current.reopen if current is not None else self._connect
        fresh = connect() if connect is not None else None
        if fresh is None:
            raise DatabaseError("no database is wanted")
        if self._reopened is not None:
            self._reopened.close()
        if current is not None and fresh.identity != current.identity:
            self._restart()
        self._reopened, self._lost = fresh, False
        return fresh

    def _restart(self) -> None:
        """Forget what was read and sent."""
        self._journal = Journal(self._folder)
        self._sent = Sent(release=True)
        self._lost = False

    def _working(self, seconds: float = 0.0) -> None:
        """Be patient with what begins now, and more so with what is known to be slow."""
        patience = self._grace + seconds
        self._patient_until = max(self._patient_until, time.monotonic() + patience)


def sync(
    project_root: Path,
    database: Database,
    *,
    again: bool = False,
    verify: bool = False,
    uids: Collection[str] | None = None,
) -> list[Synced]:
    """Project every journal with something left, and note runs that died.

    What was deleted is removed there, and does not come back.

    Parameters
    ----------
    project_root : Path
        Folder of ``experiments.toml``.
    database : Database
        Where to. What another database holds does not count: after a move everything is
        projected there.
    again : bool
        Whether to project also what is noted as stored, because it was removed there, and to
        remove what is noted as removed, because it came back, as from a backup; with
        `verify` also whether to compare every point of every metric, and every file.
    verify : bool
        Whether to hold the records of all runs that are over against their journals, and to put
        back what was changed in them: all fields that the registry owns, and none of others.
    uids : collection of str or None
        The runs; all by default.

    Returns
    -------
    list of Synced
        What was done, oldest run first.

    Raises
    ------
    DatabaseError
        If the database is away, or fails at its own data; what was done until then stays done.
    """
    done: list[Synced] = []
    apply_tombstones(project_root, database, again=again)
    root, deleted = journal_root(project_root), deleted_from(database) | deleted_uids(project_root)
    # Sizes of the journals that this database holds all of, in one file: 10,000 are read at once.
    cache = root.parent / "projected" / f"{database.identity}.json"
    with _kept(cache, lambda size: type(size) is int) as sizes:
        for uid in journal_uids(project_root) if uids is None else sorted(uids):
            if uid in deleted or (not again and _is_settled(f"{root}/{uid}", sizes, database)):
                continue
            if synced := _sync_journal(root / uid, database):
                done.append(synced)
        if verify:
            known = [uid for uid in journal_uids(project_root) if uid not in deleted]
            done += _verify(root, database, known, sizes, again)
    return done


@contextmanager
def _kept(cache: Path, is_sound: Callable[[Any], bool]) -> Iterator[dict[str, Any]]:
    """Read what a file keeps, and write it again if it has changed; it only saves time.

    A value of another form was damaged, and is left out.
    """
    known = read_json(cache) or {}
    current = {uid: value for uid, value in known.items() if is_sound(value)}
    try:
        yield current
    finally:
        if current != known:
            with suppress(OSError, StoreError):
                make_state_folder(cache.parent)
                write_json(cache, current)


def _verify(
    root: Path, database: Database, uids: list[str], sizes: dict[str, Any], in_full: bool
) -> Iterator[Synced]:
    """Hold settled records against their journals, with a seal of each in one more file."""
    uids = [uid for uid in uids if _is_settled(f"{root}/{uid}", sizes, database)]
    cache = root.parent / "projected" / f"{database.identity}.seals.json"
    with _kept(cache, is_seal) as kept:
        for uid in set(uids) - kept.keys():
            note = _note(root / uid, database)
            kept[uid] = [note.get("bytes", 0), *note.get("seal", [""])]
        seals = {uid: Seal(size, mark, tuple(info)) for uid, (size, mark, *info) in kept.items()}
        settled = {uid: sizes[uid] for uid in uids}
        restored = restore(
            root,
            database,
            settled,
            seals,
            lambda uid: _note(root / uid, database).get("run"),
            in_full=in_full,
        )
        for one in restored:
            yield Synced(one.uid, one.run_id, one.status, False, one.error, one.fields)
        kept.update({uid: [seal.size, seal.digest, *seal.info] for uid, seal in seals.items()})


def _note(folder: Path, database: Database) -> dict[str, Any]:
    """Return what a journal notes of a database that holds all of it."""
    return stored_notes(folder).get(database.identity) or {}


def _is_settled(folder: str, sizes: dict[str, int], database: Database) -> bool:
    """Return whether the database holds all of a journal, and note its size then."""
    try:
        size = os.stat(f"{folder}/{EVENTS}").st_size
    except OSError:
        return False
    uid = os.path.basename(folder)
    if sizes.get(uid) != size:
        if not is_projected(Path(folder), database):
            return False
        sizes[uid] = size
    return True


def is_projected(folder: Path, database: Database) -> bool:
    """Return whether the database holds all of a journal whose run is over."""
    note = _note(folder, database)
    if not note:
        return False
    with suppress(OSError):
        return bool((folder / EVENTS).stat().st_size == note["bytes"])
    return False


def _sync_journal(folder: Path, database: Database) -> Synced | None:
    """Project one journal, if it was begun; only an error that is its own does not raise."""
    try:
        is_over = _is_over_in(database, folder)
        died = not is_over and note_death(folder)
        journal = read_journal(folder)
    except OSError as error:
        reason = f"its journal cannot be read: {error.strerror or error}"
        return Synced(folder.name, None, "", error=reason)
    faults = list(journal_faults(journal))
    if is_over and not journal.ended and NO_END not in faults:
        faults.append(NO_END)
    if not (journal.status or faults):
        return None
    status = journal.status if journal.ended else proven_status(folder) or journal.status
    if not journal.experiment:
        return Synced(journal.uid, None, status, died, "its journal has no beginning")
    try:
        stored = None if journal.is_proven and not faults else stored_state(journal, database)
        if stored and stored.size > journal.size and stored.size > journal.refresh().size:
            faults += [SHORTER] if not (journal.is_proven or SHORTER in faults) else []
        lacks = f"its journal is damaged: {', '.join(faults)}" if faults else ""
        if faults and stored and (stored.size >= journal.size or stored.is_final):
            kept = f"its record is kept as it is, since {lacks}"
            return Synced(journal.uid, stored.run_id, stored.status, died, kept)
        if not journal.ended and status not in OPEN:  # its end is lost, but for that
            journal.status, journal.stop_time = status, summary_of(folder).stop_time
        sent = Sent()
        run_id = store_journal(journal, database, sent, is_damaged=bool(faults))
        if not (stored and (faults or is_projected(folder, database))):
            _finished(journal, run_id, database, sent)
        lacks = "; ".join([lacks] * bool(lacks) + sorted(sent.damaged.values()))
        return Synced(journal.uid, run_id, journal.status, died, lacks=lacks)
    except (AwayError, DamagedError):
        raise
    except DeletedError:
        return None
    except Exception as error:
        database.check()
        return Synced(journal.uid, None, journal.status, died, f"{type(error).__name__}: {error}")


def _is_over_in(database: Database, folder: Path) -> bool:
    """Return whether the record of a run has its end, which its journal seems not to have yet."""
    if summary_of(folder).ended:
        return False
    stored = stored_state(read_journal(folder, with_metrics=False), database)
    return stored is not None and stored.is_final


def _finished(journal: Journal, run_id: int, database: Database, sent: Sent) -> bool:
    """Read back the status of a run that is over, and note in the journal that it is stored."""
    if not journal.ended or stored_status(run_id, database) != journal.status:
        return False
    notes = stored_notes(journal.folder)
    seal = Seal.of(journal.size, sent.fields)
    note = {"bytes": seal.size, "run": run_id, "seal": [seal.digest, *seal.info]}
    notes[database.identity] = note
    with suppress(OSError, StoreError):  # the note only saves time
        write_json(journal.folder / PROJECTED, notes)
    return True
