"""Names, notes and tags, the one thing that the dashboard writes."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import streamlit as st

from dashboards.screens.frame import explained, open_catalog, run_index, tell
from dashboards.views.parts.text import literal, time_text
from dashboards.views.runs.advice import Advice, advise
from registry.catalog.access import Catalog
from registry.catalog.notes import (
    LONGEST_NAME,
    MOST_LETTERS,
    Note,
    NoteError,
    NoteSubject,
    concept_subject,
    parse_tags,
)
from registry.mongo.database import DatabaseError
from registry.store.durable import StoreError

ABOUT_TAGS = "Separated by spaces; letters, digits and _.:/+-"
ABOUT_NAMES = (
    "What you call it, on all pages and in searches. It stands beside the name that was measured, "
    "and says nothing about it."
)
_TROUBLE, _KEPT, _BY = "note-trouble", "note-kept", "note-by"


def show_note(catalog: Catalog, subject: NoteSubject, about: Mapping[str, str]) -> None:
    """Show what is noted on a run or a concept, and let it be changed.

    Parameters
    ----------
    catalog : Catalog
        Whose project keeps it.
    subject : NoteSubject
        What it is about.
    about : mapping of str to str
        What is stored beside it, as the ``cell``.
    """
    if st.session_state.pop(_KEPT, False):
        st.rerun()  # tables show tags too
    with explained():
        note = catalog.note_book.read(subject)
        advice, text = st.session_state.pop(_TROUBLE, (None, ""))
        if isinstance(advice, Advice):
            tell(advice, st.error)
            if text:
                st.code(text, language=None, wrap_lines=True)
        with st.container(horizontal=True, vertical_alignment="center"):
            if note.name:
                st.badge(literal(f"“{note.name}”"), icon=":material/label:", width="content")
            for tag in note.tags:
                st.badge(literal(tag), icon=":material/sell:", color="gray", width="content")
            what = "name or note" if subject.concept is not None else "note"
            label = f"Change {what}" if not note.is_empty else f"Add a {what}"
            with st.popover(label, icon=":material/edit:"):
                _form(note, about)
            if not note.is_empty:
                by = f"By {note.by}, " if note.by else ""
                st.caption(literal(f"{by}{time_text(note.changed)}"))
        if note.text:
            st.text(note.text)


def show_concept_note(catalog: Catalog, run: str, cell: str, concept: int) -> None:
    """Show what is noted on a concept of a dataset.

    Parameters
    ----------
    catalog : Catalog
        Whose database keeps it.
    run, cell : str
        Whose dataset the concept is of; a later dataset begins without notes.
    concept : int
        Its index.
    """
    with explained(cell):
        show_note(catalog, concept_subject(run, concept), {"cell": cell})


def concept_notes(catalog: Catalog, run: str) -> dict[int, Note]:
    """Return the notes on concepts of the dataset of a run, by concept.

    Raises
    ------
    DatabaseError
        If the database is away.
    """
    return _of_concepts(run_index(catalog).look().notes, run)


def own_names(catalog: Catalog, run: str, is_patient: bool = True) -> dict[int, str]:
    """Return what readers call the concepts of the dataset of a run, of those that have a name.

    Nothing where the database does not answer, or where somebody who is not patient would have to
    wait: what was measured is shown all the same.
    """
    with suppress(DatabaseError):
        index = run_index(catalog)
        snapshot = index.look() if is_patient else index.peek()
        noted = _of_concepts(snapshot.notes, run) if snapshot else {}
        return {one: note.name for one, note in noted.items() if note.name}
    return {}


def _of_concepts(notes: Mapping[str, Note], run: str) -> dict[int, Note]:
    return {
        note.subject.concept: note
        for note in notes.values()
        if note.subject.run == run and note.subject.concept is not None and not note.is_empty
    }


def _form(note: Note, about: Mapping[str, str]) -> None:
    key = f"note {note.subject.key} {note.version}"
    with st.form(key, border=False):
        if note.subject.concept is not None:
            st.text_input(
                "Name", note.name, max_chars=LONGEST_NAME, key=f"{key} name", help=ABOUT_NAMES
            )
        st.text_area(
            "Note", note.text, max_chars=MOST_LETTERS, key=f"{key} text", help="Plain text."
        )
        st.text_input("Tags", " ".join(note.tags), key=f"{key} tags", help=ABOUT_TAGS)
        st.text_input("Who", _who(), max_chars=LONGEST_NAME, key=f"{key} by")
        st.form_submit_button("Save", on_click=_save, args=(note, dict(about), key))


def _save(note: Note, about: Mapping[str, str], key: str) -> None:
    """Keep what was typed. What cannot be kept is shown again with the reason."""
    text, tags, name, by = (
        str(st.session_state.get(f"{key} {part}") or "") for part in ("text", "tags", "name", "by")
    )
    st.session_state[_BY] = by
    try:
        catalog = open_catalog()
        changed = replace(note, text=text, tags=parse_tags(tags), name=name, by=by)
        catalog.note_book.write(changed, about)
        run_index(catalog).hurry()
        st.session_state[_KEPT] = True
    except (NoteError, DatabaseError, StoreError, OSError) as error:
        typed = "\n".join(filter(None, (name, text)))
        st.session_state[_TROUBLE] = (advise(error), typed)


def _who() -> str:
    """Return who wrote last in this session; at first, who runs the server."""
    if _BY in st.session_state:
        return str(st.session_state[_BY])
    with suppress(OSError, KeyError, ImportError):  # of a user without a name
        return getpass.getuser()
    return ""
