"""Runs that are put out of sight, and runs that are deleted with all that they hold."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace

import streamlit as st

from dashboards.screens import frame as page
from dashboards.views.parts.text import literal
from dashboards.views.runs import removal as view
from dashboards.views.runs.advice import Advice
from dashboards.views.runs.runs import named_runs, run_key
from registry.catalog.access import Catalog
from registry.catalog.notes import ARCHIVED, run_subject
from registry.catalog.runs import RunView
from registry.upkeep.deletion import Deletion, DeletionError, delete_run, plan_deletion

ABOUT_ARCHIVE = "Leaves it out of lists. Its record and its dataset stay where they are."
ABOUT_DELETE = "Shows what would go and what depends on it; nothing goes before you say so."
ABOUT_OTHERS = (
    "Others may reach this server, also other users of its machine, so runs are deleted in a "
    "terminal, or here by a server that was started with --allow-delete:"
)

_ASKED, _GONE = "removal-asked", "removal-gone"


def offer_removal(catalog: Catalog, run: RunView) -> None:
    """Offer to archive a run, and to delete it."""
    key = run_key(run)
    with st.container(horizontal=True, vertical_alignment="center"):
        with page.explained():
            _offer_archive(catalog, run)
        if run.status not in ("RUNNING", "QUEUED") and run.uid:
            st.button(
                "Delete …",
                key=f"delete-{key}",
                icon=":material/delete:",
                type="tertiary",
                on_click=_keep(_ASKED, key),
                help=ABOUT_DELETE,
            )
    if st.session_state.get(_ASKED) == key:
        with st.container(border=True):
            _ask(catalog, run)


def may_delete() -> bool:
    """Return whether who started the server lets its readers delete runs; it knows none of them."""
    return "--allow-delete" in sys.argv


def tell_removed() -> None:
    """Say what was deleted, and what makes it again, until another run is chosen."""
    advice, chosen = st.session_state.get(_GONE, (None, ""))
    if advice and st.session_state.get("run", "") == chosen:
        page.tell(advice, st.success)


def _keep(key: str, value: str | None) -> Callable[[], None]:
    def keep() -> None:
        st.session_state[key] = value

    return keep


def _offer_archive(catalog: Catalog, run: RunView) -> None:
    is_archived = ARCHIVED in catalog.note_book.read(run_subject(run)).tags
    st.button(
        "Bring back" if is_archived else "Archive",
        key=f"archive-{run_key(run)}",
        icon=":material/unarchive:" if is_archived else ":material/archive:",
        type="tertiary",
        on_click=_archive,
        args=(run, not is_archived),
        help=ABOUT_ARCHIVE,
    )


def _archive(run: RunView, is_wanted: bool) -> None:
    """Write or take away the tag of a run that lists leave out."""
    with page.explained():
        catalog = page.open_catalog()
        note = catalog.note_book.read(run_subject(run))
        tags = {*note.tags, ARCHIVED} if is_wanted else {*note.tags} - {ARCHIVED}
        about = {"cell": run.cell, "experiment": run.experiment, "number": str(run.id or "")}
        catalog.note_book.write(replace(note, tags=tuple(sorted(tags))), about)
        page.run_index(catalog).hurry()


def _ask(catalog: Catalog, run: RunView) -> None:
    """Show what a deletion would remove, and what depends on it; delete it where that is meant."""
    with page.explained():
        deletion = plan_deletion(catalog, run.uid)
        for line in view.told(deletion):
            st.markdown(literal(line))
        if not may_delete():
            st.caption(ABOUT_OTHERS)
            st.code(shlex.join(["factbook", "delete", run.uid]), language="bash", wrap_lines=True)
            st.button("Close", key=f"keep-{run.uid}", on_click=_keep(_ASKED, None))
            return
        is_meant = st.checkbox(view.consent(deletion), key=f"meant-{run.uid}")
        with st.container(horizontal=True):
            st.button(
                "Delete for good",
                key=f"really-{run.uid}",
                type="primary",
                disabled=not is_meant,
                on_click=_delete,
                args=(deletion,),
            )
            st.button("Keep it", key=f"keep-{run.uid}", on_click=_keep(_ASKED, None))


def _delete(deletion: Deletion) -> None:
    st.session_state[_ASKED] = None
    with page.explained():
        catalog = page.open_catalog()
        if not may_delete():
            raise DeletionError(ABOUT_OTHERS.removesuffix(":"))
        gone = deletion.tombstone
        delete_run(catalog, deletion)
        page.run_index(catalog).hurry()
        chosen = named_runs(st.session_state.get("run") or "")
        mine = {gone.uid, gone.cell, *map(str, gone.numbers.values())}
        others = " ".join(name for name in chosen if name not in mine)
        title = f"Deleted run {gone.uid} of {gone.cell}"
        advice = Advice(title, "This makes it again:", (gone.command,))
        st.session_state["run"], st.session_state[_GONE] = others, (advice, others)
