"""Notes: what is kept, what is refused, and that no projection wipes them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry.catalog.access import Catalog
from registry.catalog.notes import (
    COLLECTION,
    Note,
    NoteBook,
    NoteConflictError,
    NoteError,
    NoteSubject,
    checked_text,
    concept_subject,
    find_notes,
    parse_tags,
    read_note,
    run_subject,
    write_note,
)
from registry.mongo.database import Database
from registry.mongo.projector import sync
from tests.dashboards import fabricate
from tests.dashboards.fabricate import Told, record

RUN = NoteSubject("run", "20261122T013355-00000001")


def test_a_note_is_read_back(database: Database) -> None:
    assert read_note(database, RUN) == Note(RUN)
    kept = write_note(database, Note(RUN, " the best so far\r\n", ("baseline", "a")), {"cell": "x"})
    assert kept.text == "the best so far"
    assert kept.tags == ("a", "baseline")
    assert read_note(database, RUN) == kept
    again = write_note(database, replace(kept, text="", tags=()))
    assert again.version == 2
    assert read_note(database, RUN).is_empty
    assert database.collection(COLLECTION).find_one({"_id": RUN.key})["cell"] == "x"  # type: ignore[index]


def test_concepts_of_different_datasets_have_different_notes(database: Database) -> None:
    for run, text in (("a", "stripes"), ("b", "eyes")):
        write_note(database, Note(concept_subject(run, 3), text))
    assert read_note(database, concept_subject("a", 3)).text == "stripes"
    assert read_note(database, concept_subject("a", 4)).is_empty
    assert {note.subject.concept for note in find_notes(database)} == {3}


@pytest.mark.parametrize("late", [0, 1])
def test_what_somebody_else_wrote_is_not_overwritten(database: Database, late: int) -> None:
    first = write_note(database, Note(RUN, "mine")) if late else Note(RUN)
    write_note(database, replace(first, text="theirs"))
    with pytest.raises(NoteConflictError, match="meanwhile"):
        write_note(database, replace(first, text="mine again"))
    assert read_note(database, RUN).text == "theirs"


def test_a_note_on_a_run_survives_that_its_record_is_projected_again(
    database: Database, tmp_path: Path
) -> None:
    project = fabricate.declare(tmp_path / "project")
    uid = record(project, Told("toy-sae[k=8]", result={"x": 1}))
    sync(project.root, database)
    catalog = Catalog(project, database)
    subject = run_subject(catalog.run(uid))
    write_note(database, Note(subject, "keep this", ("kept",)))
    sync(project.root, database, again=True)
    database.runs.delete_many({})
    sync(project.root, database, again=True)
    assert catalog.run(uid).result == {"x": 1}
    assert read_note(database, subject).text == "keep this"


def test_runs_of_other_clients_are_known_by_their_number(
    database: Database, tmp_path: Path
) -> None:
    database.runs.insert_one({"_id": 7, "experiment": {"name": "other"}, "status": "COMPLETED"})
    catalog = Catalog(fabricate.declare(tmp_path / "project"), database)
    assert run_subject(catalog.run(7)).key == "run #7"


def test_only_what_is_new_is_found(database: Database) -> None:
    before = datetime.now(UTC)
    write_note(database, Note(RUN, "x"))
    assert len(find_notes(database, before - timedelta(seconds=1))) == 1
    assert find_notes(database, before + timedelta(hours=1)) == []


def test_what_others_left_there_is_read_as_far_as_it_goes(database: Database) -> None:
    database.collection(COLLECTION).insert_one({"_id": RUN.key, "tags": {"$gt": ""}, "text": 3})
    [note] = find_notes(database)
    assert (note.text, note.tags, note.version) == ("3", (), 0)


@pytest.mark.parametrize(
    ("text", "tags"),
    [("", ()), ("b a, b", ("a", "b")), ("k=8", None), ("lr/1e-3,v1.0", ("lr/1e-3", "v1.0"))],
)
def test_tags(text: str, tags: tuple[str, ...] | None) -> None:
    if tags is None:
        with pytest.raises(NoteError, match="no tag: 'k=8'"):
            parse_tags(text)
    else:
        assert parse_tags(text) == tags


@pytest.mark.parametrize(
    "text", ["<script>", "a" * 41, "$gt", "{}", " ".join(f"t{n}" for n in range(21)), "-a", "a\0b"]
)
def test_what_is_no_tag_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        parse_tags(text)


def test_texts_are_plain_and_not_endless() -> None:
    assert checked_text("a\r\nb\tc <script>\n") == "a\nb\tc <script>"
    for text in ("x" * 10_001, "a\0b", "\x1b[31m", "\ud800"):
        with pytest.raises(NoteError):
            checked_text(text)


# -- without a database -----------------------------------------------------------------------


@pytest.fixture
def filed(tmp_path: Path) -> NoteBook:
    return NoteBook.of(tmp_path, None)


def test_names_are_kept_in_a_file_where_there_is_no_database(filed: NoteBook) -> None:
    subject = concept_subject("a", 3)
    assert filed.read(subject) == Note(subject)
    kept = filed.write(Note(subject, name=" red \n discs ", by="ana"), {"cell": "x"})
    assert (kept.name, kept.by, kept.version) == ("red discs", "ana", 1)
    assert filed.read(subject) == kept
    assert filed.read(concept_subject("b", 3)).is_empty
    filed.write(replace(kept, name=""))
    assert filed.read(subject).is_empty
    assert len(filed.path.read_text().splitlines()) == 2, "every version stays"


def test_of_writers_at_once_one_is_kept_and_others_are_told(filed: NoteBook) -> None:
    def write(number: int) -> bool:
        try:
            filed.write(Note(RUN, f"by {number}"))
            for own in range(5):
                filed.write(Note(concept_subject(f"run {number}", own), name="mine"))
        except NoteConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(write, range(8)))
    assert sum(written) == 1
    assert filed.read(RUN).text == f"by {written.index(True)}"
    assert len(filed.find()) == 6


@pytest.mark.parametrize("torn", ['{"kind": "run", "run": "x', "\0\0\0\0", "[1]", '{"a": 1'])
def test_a_writer_that_died_leaves_what_was_there(filed: NoteBook, torn: str) -> None:
    filed.write(Note(RUN, "kept"))
    with filed.path.open("a") as file:
        file.write(torn)
    assert filed.read(RUN).text == "kept"
    filed.write(replace(filed.read(RUN), text="and more"))
    assert filed.read(RUN).text == "and more"


@pytest.mark.parametrize("name", ["a" * 81, "a\0b"])
def test_what_is_no_name_is_refused(filed: NoteBook, name: str) -> None:
    with pytest.raises(NoteError):
        filed.write(Note(RUN, name=name))
    assert not filed.find()


def test_what_was_written_without_the_database_is_found_with_it(
    database: Database, tmp_path: Path
) -> None:
    alone, together = NoteBook.of(tmp_path, None), NoteBook.of(tmp_path, database)
    together.write(Note(RUN, "first"))
    alone.write(Note(RUN, "while it was away"))
    read = together.read(RUN)
    assert (read.text, read.version) == ("while it was away", 1)
    assert together.find()[RUN.key].text == "while it was away"
    together.write(replace(read, text="again there"))
    assert together.read(RUN).text == together.find()[RUN.key].text == "again there"


def test_names_are_those_of_one_dataset(tmp_path: Path) -> None:
    project = fabricate.declare(tmp_path / "project")
    for minutes in (0, 1):
        uid = fabricate.run_uid("toy-concepts", minutes)
        schema = fabricate.schemas.CONCEPTS
        fabricate.store(project, "toy-concepts", fabricate.concepts(), schema, uid)
        catalog = Catalog(project)
        assert catalog.own_names("toy-concepts") == {}, "another run's concept is another one"
        catalog.note_book.write(Note(concept_subject(uid, 2), name=f"discs {minutes}"))
        found = catalog.own_names("toy-concepts")
        assert {concept: note.name for concept, note in found.items()} == {2: f"discs {minutes}"}
