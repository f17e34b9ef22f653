"""Names, notes and tags that people put on runs and concepts.

They stand in the database of a project, or in a file beside its journals where it has none; see
:class:`NoteBook`. In the database they have a collection of their own, ``factbook_notes``, and are
not in the records: the projector stores ``info`` as a whole whenever a run goes on or is synced,
which would wipe them; a run keeps its note when its record is removed and comes back under another
number; a concept has no record; and Sacred's other clients ignore a collection that they do not
know. In the file every version is a line, appended under a lock and synced: a writer that dies
leaves all that was there before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from registry.catalog.runs import RunView
from registry.mongo.database import Database, DuplicateError, errors
from registry.store.durable import STATE_FOLDER, append_line, json_object, locked, make_state_folder

COLLECTION = "factbook_notes"
NOTES_FILE = "notes.jsonl"
"""In the state folder of a project without a database."""

ARCHIVED = "archived"
"""Tag of a run that lists leave out; its dataset is where it was."""

NOTED = ("tags", "note")
"""Columns of a table of runs that notes fill."""

MOST_LETTERS = 10_000
LONGEST_NAME = 80
MOST_TAGS = 20
LONGEST_TAG = 40
_TAG = re.compile(r"\w[\w.:/+-]*")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


class NoteError(ValueError):
    """A note that cannot be kept."""


class NoteConflictError(NoteError):
    """A note that somebody else has changed meanwhile."""


@dataclass(frozen=True)
class NoteSubject:
    """What a note is about.

    Attributes
    ----------
    kind : str
        ``run`` or ``concept``.
    run : str
        Identifier of the run, or of the run that made the concepts; ``#7`` for run number 7 of
        another Sacred client, which has no identifier.
    concept : int or None
        Index of the concept.
    """

    kind: str
    run: str
    concept: int | None = None

    @property
    def key(self) -> str:
        """The ``_id`` of its note."""
        index = "" if self.concept is None else f" {self.concept}"
        return f"{self.kind} {self.run}{index}"


def run_subject(run: RunView) -> NoteSubject:
    """Return a run as what a note is about."""
    return NoteSubject("run", run.uid or f"#{run.id}")


def concept_subject(run: str, concept: int) -> NoteSubject:
    """Return a concept as what a note is about.

    Parameters
    ----------
    run : str
        Identifier of the run that made the dataset of concepts: in another dataset the same
        number is another concept.
    concept : int
        Its index there.
    """
    return NoteSubject("concept", run, int(concept))


@dataclass(frozen=True)
class Note:
    """What somebody has noted.

    Attributes
    ----------
    subject : NoteSubject
        What it is about.
    text : str
        Plain text.
    tags : tuple of str
        Sorted, each once.
    version : int
        How often it was written; 0 if never.
    changed : datetime or None
        When it was written last, UTC.
    name : str
        What somebody calls it, in one line.
    by : str
        Who wrote it, as they say.
    """

    subject: NoteSubject
    text: str = ""
    tags: tuple[str, ...] = ()
    version: int = 0
    changed: datetime | None = field(default=None, compare=False)
    name: str = ""
    by: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing, any more or yet."""
        return not (self.text or self.tags or self.name)

    def column(self, name: str) -> str | None:
        """Return what stands in one of the columns `NOTED`; None where nothing does."""
        return (" ".join(self.tags) if name == "tags" else self.text) or None


def parse_tags(text: str) -> tuple[str, ...]:
    """Return the tags in a text, which commas and blanks separate: sorted, each once.

    Raises
    ------
    NoteError
        If one of them is none, or there are too many.
    """
    return checked_tags(filter(None, re.split(r"[\s,]+", text)))


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags sorted, each once.

    Raises
    ------
    NoteError
        With all that are no tags: letters, digits and ``_.:/+-``, 40 at most.
    """
    known = sorted(set(tags))
    wrong = [tag[:80] for tag in known if len(tag) > LONGEST_TAG or not _TAG.fullmatch(tag)]
    if wrong:
        listed = ", ".join(map(repr, wrong))
        raise NoteError(
            f"no tag: {listed}; expected letters, digits and _.:/+-, at most {LONGEST_TAG}"
        )
    if len(known) > MOST_TAGS:
        raise NoteError(f"{len(known)} tags; expected at most {MOST_TAGS}")
    return tuple(known)


def checked_text(text: str) -> str:
    """Return a text as it is kept: without blanks at its ends, lines ending alike.

    Raises
    ------
    NoteError
        If it is longer than 10,000 letters, or holds control characters.
    """
    kept = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    if len(kept) > MOST_LETTERS:
        raise NoteError(f"a note of {len(kept):,} letters; expected at most {MOST_LETTERS:,}")
    if _CONTROL.search(kept):
        raise NoteError("a note holds control characters; expected plain text")
    return kept


def checked_name(text: str) -> str:
    """Return a name as it is kept: in one line, blanks once.

    Raises
    ------
    NoteError
        If it is longer than 80 letters, or holds control characters.
    """
    kept = " ".join(text.split())
    if len(kept) > LONGEST_NAME:
        raise NoteError(f"a name of {len(kept):,} letters; expected at most {LONGEST_NAME}")
    if _CONTROL.search(kept):
        raise NoteError("a name holds control characters; expected plain text")
    return kept


def read_note(database: Database, subject: NoteSubject) -> Note:
    """Return the note on a subject; an empty one of version 0 if there is none.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    with errors(database.address):
        found = database.collection(COLLECTION).find_one({"_id": subject.key})
    return _note(found) if found else Note(subject)


def write_note(database: Database, note: Note, about: Mapping[str, str] | None = None) -> Note:
    """Keep a note in place of the version that it was made from.

    Parameters
    ----------
    database : Database
        Where.
    note : Note
        As read, with another text or other tags.
    about : mapping of str to str, optional
        What is stored beside it for queries of one's own, as the ``cell``.

    Returns
    -------
    Note
        As it is kept.

    Raises
    ------
    NoteError
        If the text or a tag cannot be kept.
    NoteConflictError
        If somebody else has written it since it was read.
    DatabaseError
        If the database is away.
    """
    kept = _next_version(note)
    document = {**(about or {}), **_document(kept), "changed": kept.changed}
    collection = database.collection(COLLECTION)
    try:
        with errors(database.address):
            if note.version == 0:
                collection.create_index("changed")
                collection.insert_one({"_id": note.subject.key, **document})
                return kept
            query = {"_id": note.subject.key, "version": note.version}
            if collection.update_one(query, {"$set": document}).matched_count:
                return kept
    except DuplicateError:
        pass
    raise NoteConflictError(_MEANWHILE)


_MEANWHILE = "somebody else has changed this note meanwhile; look at it again"


def _next_version(note: Note) -> Note:
    """Return a note as it is kept next, all of it checked."""
    return replace(
        note,
        text=checked_text(note.text),
        tags=checked_tags(note.tags),
        name=checked_name(note.name),
        by=checked_name(note.by),
        version=note.version + 1,
        changed=datetime.now(UTC),
    )


def _document(note: Note) -> dict[str, Any]:
    """Return what is kept of a note, but for the time."""
    subject = note.subject
    return {
        "kind": subject.kind,
        "run": subject.run,
        **({} if subject.concept is None else {"concept": subject.concept}),
        "tags": list(note.tags),
        "text": note.text,
        "name": note.name,
        "by": note.by,
        "version": note.version,
    }


def find_notes(database: Database, since: datetime | None = None) -> list[Note]:
    """Return all notes, or those that were written since a moment; emptied ones too.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    query = {} if since is None else {"changed": {"$gte": since}}
    with errors(database.address):
        found = list(database.collection(COLLECTION).find(query))
    return [_note(document) for document in found]


def _note(document: Mapping[str, Any]) -> Note:
    """Return what a document says; others than us may have written it."""
    kind, run, concept = (document.get(key) for key in ("kind", "run", "concept"))
    subject = NoteSubject(str(kind), str(run), concept if isinstance(concept, int) else None)
    tags, version, changed = (document.get(key) for key in ("tags", "version", "changed"))
    return Note(
        subject,
        str(document.get("text") or ""),
        tuple(map(str, tags)) if isinstance(tags, list) else (),
        version if isinstance(version, int) else 0,
        _moment(changed),
        str(document.get("name") or ""),
        str(document.get("by") or ""),
    )


def _moment(value: Any) -> datetime | None:
    """Return a time, aware, of a document or a line; None of what is none."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


# -- where there may be no database -----------------------------------------------------------


@dataclass(frozen=True)
class NoteBook:
    """All notes of a project: in its database, or in a file where it has none.

    What was written while there was no database is found when there is one again: of two notes on
    the same the later one counts.

    Attributes
    ----------
    database : Database or None
        None if there is none.
    path : Path
        The file.
    """

    database: Database | None
    path: Path

    @classmethod
    def of(cls, root: Path, database: Database | None) -> NoteBook:
        """Return the notes of the project in a folder."""
        return cls(database, root / STATE_FOLDER / NOTES_FILE)

    def read(self, subject: NoteSubject) -> Note:
        """Return the note on a subject; an empty one of version 0 if there is none.

        Raises
        ------
        DatabaseError
            If the database is away.
        """
        filed = _filed(self.path).get(subject.key, Note(subject))
        if self.database is None:
            return filed
        kept = read_note(self.database, subject)
        return replace(later(kept, filed), version=kept.version)

    def write(self, note: Note, about: Mapping[str, str] | None = None) -> Note:
        """Keep a note in place of the version that it was made from; see :func:`write_note`.

        Raises
        ------
        NoteError
            If a text, a name or a tag cannot be kept.
        NoteConflictError
            If somebody else has written it since it was read.
        DatabaseError
            If the database is away.
        StoreError
            If the disk is full.
        """
        if self.database is not None:
            return write_note(self.database, note, about)
        kept = _next_version(note)
        make_state_folder(self.path.parent)
        with locked(self.path.with_name(f"{NOTES_FILE}.lock")):
            if _filed(self.path).get(note.subject.key, Note(note.subject)).version != note.version:
                raise NoteConflictError(_MEANWHILE)
            moment = kept.changed.isoformat() if kept.changed else ""
            line = {**(about or {}), **_document(kept), "changed": moment}
            append_line(self.path, json.dumps(line, ensure_ascii=False))
        return kept

    def find(self, since: datetime | None = None) -> dict[str, Note]:
        """Return all notes by what they are about, or of those in a database the new ones.

        Raises
        ------
        DatabaseError
            If the database is away.
        """
        found = dict(_filed(self.path))
        for note in find_notes(self.database, since) if self.database is not None else ():
            known = found.get(note.subject.key)
            found[note.subject.key] = note if known is None else later(note, known)
        return found


def _filed(path: Path) -> dict[str, Note]:
    """Return the last version of every note in a file; a line that was cut short is none."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    documents = filter(None, map(json_object, lines))
    return {note.subject.key: note for note in map(_note, documents)}


def later(kept: Note, filed: Note) -> Note:
    """Return which of two notes on the same was written later, the first if neither was."""
    first, second = kept.changed, filed.changed
    return filed if second is not None and (first is None or second > first) else kept
