"""The page of one kind of result: one setting of it, or several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st
import xarray as xr

from dashboards.screens import frame as page
from dashboards.screens.datasets import Made, made_by, whole
from dashboards.screens.notes import own_names
from dashboards.screens.parts import show_folds
from dashboards.screens.shown import choose_several, keep_in_address, tell_earlier
from dashboards.views.concepts.labels import with_called, with_names
from dashboards.views.parts.parts import Fold, Part
from dashboards.views.parts.text import literal
from dashboards.views.results.view import Choice, ResultView
from dashboards.views.runs.advice import without_datasets
from dashboards.views.runs.settings import behind, cells_meant, first_settings, settings_of
from registry.catalog.lineage import Entry, Lineage

MOST_AT_ONCE = 8
MOST_CELLS = 32
"""Cells that are read for one page: the page says how many are left out."""


def show_result(result: ResultView) -> None:
    """Show the page."""
    catalog = page.begin(result.title, result.meaning)
    lineage = page.lineage(catalog)
    settings = settings_of(lineage, result.schema)
    if not settings:
        page.tell(without_datasets(catalog.project, result.schema))
        return
    first = first_settings(lineage, settings, result.together)
    meant = choose_several(catalog, lineage, settings, first, MOST_AT_ONCE)
    entries = _entries(lineage, meant)
    datasets: dict[str, xr.Dataset] = {}
    made: list[Made] = []

    noted: dict[str, Mapping[int, str]] = {}

    def called(run: str) -> Mapping[int, str]:
        return noted.setdefault(run, own_names(catalog, run))

    def read(name: str) -> xr.Dataset:
        one = made_by(catalog, lineage, name)
        own = whole(one)
        made.append(one)
        return own

    tell_earlier(catalog, lineage, entries)
    for entry in entries:
        with page.explained(entry.cell if entry.is_current else ""):
            own = with_called(lineage, entry.name, read(entry.name), called)
            if result.is_named:
                own = with_names(lineage, entry.name, own, read)
            datasets[entry.title] = own
    runs = [entry.run for entry in entries if entry.run]
    keep_in_address(_cells(lineage, meant), runs, {one.run for one in made} - set(runs))
    if datasets:
        with page.explained():
            chosen = _choose(result.choices(datasets))
            options, said = tuple(chosen.items()), _said(noted)
            parts = _parts(result.schema, tuple(made), options, said, result, datasets)
            show_folds(parts, "fold", chosen.values())
            _lead_on(lineage, [entry for entry in entries if entry.title in datasets])


def _said(noted: Mapping[str, Mapping[int, str]]) -> tuple[tuple[str, int, str], ...]:
    return tuple((run, *pair) for run, own in sorted(noted.items()) for pair in sorted(own.items()))


def _entries(lineage: Lineage, settings: Sequence[str]) -> list[Entry]:
    """Return what settings mean, as far as it is read for one page."""
    names = cells_meant(lineage, settings)
    if len(names) > MOST_CELLS:
        st.caption(f"{len(names) - MOST_CELLS} cells left out. Choose some by name.")
    return [lineage.entries[name] for name in names[:MOST_CELLS]]


def _cells(lineage: Lineage, settings: Sequence[str]) -> list[str]:
    """Return what an address calls settings: runs by their cells."""
    found = (lineage.entries.get(setting) for setting in settings)
    return [
        entry.cell if entry else setting for entry, setting in zip(found, settings, strict=True)
    ]


@st.cache_resource(max_entries=16, show_spinner=False)
def _parts(
    schema: str,
    made: tuple[Made, ...],
    chosen: tuple[tuple[str, str], ...],
    called: tuple[tuple[str, int, str], ...],
    _result: ResultView,
    _datasets: dict[str, xr.Dataset],
) -> list[Part | Fold]:
    """Return what is shown of datasets, names among them, for what is chosen and called.

    It is kept, since every click draws the page anew.
    """
    return _result.shown(_datasets, **dict(chosen))


def _lead_on(lineage: Lineage, entries: Sequence[Entry]) -> None:
    """Link to the runs that made what is shown, and to the concepts and tests it rests on."""
    leads = {
        "concepts": ("concepts", "Concepts: {}"),
        "activations": ("concepts", "Neurons: {}"),
        "next_tokens": ("concepts", "Next tokens: {}"),
        "sanity": ("sanity", "Sanity checks of the metrics: {}"),
    }
    with st.container(horizontal=True):
        for entry in entries:
            page.link_to("runs", f"Run: {literal(entry.title)}", run=entry.run or entry.cell)
        for schema, (target, known) in leads.items():
            found = (behind(lineage, entry.name, schema) for entry in entries)
            for name in dict.fromkeys(filter(None, found)):
                other = lineage.entries[name]
                page.link_to(target, known.format(literal(other.title)), **other.address)


def _choose(choices: Sequence[Choice]) -> dict[str, str]:
    """Let a reader choose, and return what is chosen by its key."""
    chosen = {}
    for choice in choices:
        page.tell_unknown(choice.key, choice.options)
    for slot, choice in zip(st.columns(max(3, len(choices))), choices, strict=False):
        value = slot.selectbox(
            choice.label,
            choice.options,
            index=None if choice.optional or not choice.options else 0,
            key=choice.key,
            bind=page.BOUND,
            help=choice.meaning or None,
            placeholder="none",
        )
        chosen[choice.key] = value or ""
    return chosen
