"""Notes and tags, the one thing that the dashboard writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import streamlit as st

from dashboards.screens.frame import explained, open_catalog, run_index, tell
from dashboards.views.parts.text import literal, time_text
from dashboards.views.runs.advice import Advice, advise
from registry.catalog.access import Catalog
from registry.catalog.notes import (
    MOST_LETTERS,
    Note,
    NoteError,
    NoteSubject,
    concept_subject,
    parse_tags,
    read_note,
    write_note,
)
from registry.mongo.database import DatabaseError

WITHOUT_DATABASE = "Notes and tags need MongoDB, which is not connected."
ABOUT_TAGS = "Separated by spaces; letters, digits and _.:/+-"
_TROUBLE, _KEPT = "note-trouble", "note-kept"


def show_note(catalog: Catalog, subject: NoteSubject, about: Mapping[str, str]) -> None:
    """Show what is noted on a run or a concept, and let it be changed.

    Parameters
    ----------
    catalog : Catalog
        Whose database keeps it.
    subject : NoteSubject
        What it is about.
    about : mapping of str to str
        What is stored beside it, as the ``cell``.
    """
    if catalog.database is None:
        st.caption(WITHOUT_DATABASE)
        return
    if st.session_state.pop(_KEPT, False):
        st.rerun()  # tables show tags too
    with explained():
        note = read_note(catalog.database, subject)
        advice, text = st.session_state.pop(_TROUBLE, (None, ""))
        if isinstance(advice, Advice):
            tell(advice, st.error)
            if text:
                st.code(text, language=None, wrap_lines=True)
        with st.container(horizontal=True, vertical_alignment="center"):
            for tag in note.tags:
                st.badge(literal(tag), icon=":material/sell:", color="gray", width="content")
            with st.popover("Note" if not note.is_empty else "Add a note", icon=":material/edit:"):
                _form(note, about)
        if note.text:
            st.text(note.text)
            st.caption(f"Saved {literal(time_text(note.changed))}.")


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
    notes = run_index(catalog).look().notes
    return {
        note.subject.concept: note
        for note in notes.values()
        if note.subject.run == run and note.subject.concept is not None and not note.is_empty
    }


def _form(note: Note, about: Mapping[str, str]) -> None:
    key = f"note {note.subject.key} {note.version}"
    with st.form(key, border=False):
        st.text_area(
            "Note", note.text, max_chars=MOST_LETTERS, key=f"{key} text", help="Plain text."
        )
        st.text_input("Tags", " ".join(note.tags), key=f"{key} tags", help=ABOUT_TAGS)
        st.form_submit_button("Save", on_click=_save, args=(note, dict(about), key))


def _save(note: Note, about: Mapping[str, str], key: str) -> None:
    """Keep what was typed. What cannot be kept is shown again with the reason."""
    text, tags = (str(st.session_state[f"{key} {part}"] or "") for part in ("text", "tags"))
    try:
        catalog = open_catalog()
        if catalog.database is None:
            raise NoteError("no database is connected")
        write_note(catalog.database, replace(note, text=text, tags=parse_tags(tags)), about)
        run_index(catalog).hurry()
        st.session_state[_KEPT] = True
    except (NoteError, DatabaseError) as error:
        st.session_state[_TROUBLE] = (advise(error), text)
