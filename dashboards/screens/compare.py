"""The page that compares runs: settings, results, curves, groups, code and pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from dashboards.screens.datasets import Made, opened, tiles_of
from dashboards.screens.frame import (
    BOUND,
    begin,
    choose_view,
    explained,
    run_index,
    tell,
    tell_unknown,
)
from dashboards.screens.parts import show_figure, show_part, show_parts, show_table
from dashboards.screens.run import curve_controls, curves_of
from dashboards.views.concepts.concepts import drawn
from dashboards.views.concepts.exactness import shown_below
from dashboards.views.parts.parts import Figure, Note, Picture, Pictures, file_name
from dashboards.views.parts.pictures import is_picture, may_be_picture, pixels_of
from dashboards.views.parts.text import literal
from dashboards.views.runs import comparison as view
from dashboards.views.runs.advice import Advice, first_steps
from dashboards.views.runs.one_run import packages_frame
from dashboards.views.runs.runs import Row, RunQuery, named_runs, newest_rows, run_key
from registry.catalog.access import Catalog
from registry.catalog.runs import is_run, source_diff
from registry.declare.stage import find_stage
from registry.wording import counted

HELP = (
    "Runs side by side, as recorded in Sacred's schema. Groups are means over seeds with Student's "
    "t interval, and differ by a t test paired by seed: how far a result moves by chance alone "
    "(Bouthillier et al., MLSys 2021). Copy the address to share the view."
)
FIRST = Advice(
    "Choose runs to compare",
    "Pick two runs or two experiments, tick runs on the Runs page, or name any number of them "
    "above: an experiment with a matrix compares its cells.",
)
TILES = 6
MOST_ATTACHED = 12


def show() -> None:
    """Show the page."""
    catalog = begin("Compare", HELP)
    text = st.text_input(
        "Runs",
        placeholder="12 15, or a cell, an experiment, a pattern, a suite",
        help="Numbers, identifiers, or cells (their newest complete run), separated by spaces.",
        key="runs",
        bind=BOUND,
    )
    names = named_runs(text or "")
    if not names:
        with explained():
            _pick(catalog)
        return
    with explained(stop=True):
        with st.spinner("Reading all runs …", show_time=True):
            snapshot = run_index(catalog).look()
        chosen = view.choose(names, snapshot.rows, catalog.project.graph)
    _tell_missing(catalog, chosen)
    if not chosen.rows:
        return
    section = choose_view(SECTIONS, "compared")
    with explained():
        SECTIONS[section](catalog, chosen.rows)


def _pick(catalog: Catalog) -> None:
    """Let a reader pick two runs or experiments, or one of several suggestions."""
    snapshot = run_index(catalog).peek()
    rows = snapshot.rows if snapshot else newest_rows(catalog, RunQuery())
    rows = tuple(row for row in rows if not row.is_archived)
    options = view.options_of(rows)
    if not options:
        tell(first_steps(catalog.project))
        return
    tell(FIRST)
    one, other, button = st.columns([3, 3, 1], vertical_alignment="bottom")
    first = one.selectbox(
        "Compare", options, None, options.__getitem__, key="one", placeholder="run or experiment"
    )
    second = other.selectbox(
        "With",
        view.partners_of(first, rows) if first else [],
        None,
        options.__getitem__,
        key="other",
        placeholder="another of the same stage" if first else "choose the first one",
        disabled=not first,
    )
    chosen = tuple(filter(None, (first, second)))

    def name(names: Sequence[str]) -> None:
        """Name the runs that names mean now, so that the address shows these for ever."""
        meant = view.choose(names, rows, catalog.project.graph)
        is_told = not (meant.unknown or meant.left_out)
        _name_runs(" ".join([run_key(row.run) for row in meant.rows] if is_told else names))

    button.button("Compare", on_click=name, args=(chosen,), disabled=not second, type="primary")
    if found := view.suggestions(rows):
        st.markdown("**Suggestions**")
        for number, one_of_them in enumerate(found):
            st.button(
                literal(one_of_them.title),
                key=f"suggested-{number}",
                on_click=name,
                args=(one_of_them.names,),
                type="tertiary",
                icon=":material/compare_arrows:",
            )


def _tell_missing(catalog: Catalog, chosen: view.Chosen) -> None:
    if chosen.unknown:
        names = ", ".join(name[:100] for name in chosen.unknown)
        reason = f"No run, cell or experiment is called {names}."
        title = "No such run"
        if catalog.database is None and any(name.isdecimal() for name in chosen.unknown):
            title = "Run numbers are not available now"
            reason += " MongoDB, which numbers the runs, is away. Name identifiers or cells."
        tell(Advice(title, reason, ("factbook runs",)), st.warning)
    if chosen.left_out:
        st.caption(f"Showing the first {len(chosen.rows)}; {chosen.left_out:,} more left out.")
    elif chosen.rows:
        st.caption(f"{counted(len(chosen.rows), 'run')}.")
    named = named_runs(st.session_state["runs"] or "")
    if chosen.rows and not all(map(is_run, named)):
        keys = [run_key(row.run) for row in chosen.rows]
        st.button(
            "Name just these runs in the address",
            on_click=_name_runs,
            args=(" ".join(keys),),
            help="A cell means its newest complete run, so that its address shows others later.",
            type="tertiary",
            icon=":material/link:",
        )


def _name_runs(text: str) -> None:
    st.session_state["runs"] = text


def _side_by_side(catalog: Catalog, rows: Sequence[Row]) -> None:
    keys = view.result_keys(rows, numeric=True)
    everything = st.toggle("All settings", key="all", bind=BOUND)
    show_table(view.settings_table(rows, everything))
    lower = st.multiselect(
        "Smaller is better",
        keys,
        default=[key for key in keys if view.less_is_better(key)],
        format_func=lambda key: key.removeprefix("result."),
        help="Guessed from their names. For all others, larger is better.",
        key="lower",
        bind=BOUND,
    )
    show_table(view.results_table(rows, lower))


def _curves(catalog: Catalog, rows: Sequence[Row]) -> None:
    drawn = rows[: view.MOST_CURVES]
    if len(drawn) < len(rows):
        st.caption(f"Showing curves of the first {counted(len(drawn), 'run')}.")
    curves = [curves_of(catalog, row.run) for row in drawn]
    names = view.metric_names(curves)
    if not names:
        st.info("No metrics logged by these runs.")
        return
    axis, log, smooth = curve_controls()
    columns = st.columns(2 if len(names) > 1 else 1)
    for index, name in enumerate(names):
        with columns[index % len(columns)]:
            chart = view.overlay(drawn, curves, name, axis, log, smooth)
            show_figure(Figure(file_name("compared", name), chart, name))


def _groups(catalog: Catalog, rows: Sequence[Row]) -> None:
    results = view.numeric_results(rows)
    if not results:
        st.info("No numeric results.")
        return
    columns = view.facets(rows, catalog.project.graph)
    left, middle, right = st.columns(3)
    by = left.multiselect(
        "Group by",
        list(columns),
        default=view.default_facets(columns),
        placeholder="one group",
        help="Runs that agree in all of these form one group. By default: everything but seeds.",
        key="by",
        bind=BOUND,
    )
    result = middle.selectbox("Result", results, key="result", bind=BOUND)
    known = list(dict.fromkeys(view.group_names(columns, by, len(rows))))
    tell_unknown("against", known)
    against = right.selectbox(
        "Compare with",
        known,
        index=None,
        placeholder="the first",
        help="The group that all others are compared with, by this result.",
        key="against",
        bind=BOUND,
    )
    show_parts(view.group_parts(rows, columns, by, result or results[0], against or ""))


def _code(catalog: Catalog, rows: Sequence[Row]) -> None:
    if len(rows) < 2:
        st.info("Choose a second run to compare code.")
        return
    labels, keys = view.labels_of(rows), [run_key(row.run) for row in rows]
    values = dict(zip(keys, labels, strict=True))
    slots = st.columns(2)
    first, second = (
        slot.selectbox(title, keys, index, values.__getitem__, key=title.lower(), bind=BOUND)
        for slot, title, index in zip(slots, ("From", "To"), (0, 1), strict=True)
    )
    runs = [catalog.run(name) for name in (first, second)]
    details = [catalog.details(run) for run in runs]
    for slot, detail in zip(slots, details, strict=True):
        for _url, commit, dirty in detail.repositories:
            state = "with uncommitted changes" if dirty else "clean"
            slot.caption(literal(f"commit {commit}, {state}"))
    diff = source_diff(*(catalog.sources(run) for run in runs))
    if diff:
        st.code(diff, language="diff", height=520)
    else:
        st.info("Same code.")
    old, new = (packages_frame(run, own) for run, own in zip(runs, details, strict=True))
    show_table(view.package_diff(old, new, [values[first], values[second]]))


def _pictures(catalog: Catalog, rows: Sequence[Row]) -> None:
    """Show the same concept index of each run, one below the other, and attached pictures."""
    snapshot = run_index(catalog).look()
    concept = int(
        st.number_input("Concept", 0, 1_000_000, 0, key="index", bind=BOUND, width=200) or 0
    )
    st.caption("Concept indices are not comparable across SAEs.")
    without = []
    for label, row in zip(view.labels_of(rows), rows, strict=True):
        made = view.gallery_of(row, snapshot.rows)
        with explained():
            pictures, below = _drawn(catalog, made, concept) if made else ([], "")
            if pictures:
                show_part(Pictures(pictures, f"{label}, concept {concept}", below=below))
            else:
                without.append(label)
            attached = _attached(catalog, row)
            if attached:
                show_part(Pictures(attached, f"{label}, attached pictures"))
    if without:
        show_part(Note(f"No pictures of {', '.join(without)}."))


def _drawn(catalog: Catalog, row: Row, concept: int) -> tuple[list[Picture], str]:
    """Return what a run drew of a concept, and which layer of it to show below.

    It is in today's form where its stage is known.
    """
    cell, stage = catalog.project.graph.cells.get(row.run.cell), find_stage(row.run.stage)
    folder = str(catalog.path(row.run))
    made = Made(row.run.cell, cell.stage if cell else stage.name if stage else "", folder)
    layers = shown_below(opened(made))
    return [drawn(tile, layers) for tile in tiles_of(made, concept, TILES)], next(iter(layers), "")


def _attached(catalog: Catalog, row: Row) -> list[Picture]:
    """Return the pictures that were added to a run."""
    names = [name for name in catalog.details(row.run).artifacts if may_be_picture(name)]
    contents = [(name, catalog.artifact(row.run, name)) for name in names[:MOST_ATTACHED]]
    return [Picture(pixels_of(c), name) for name, c in contents if is_picture(c)]


SECTIONS: dict[str, Callable[[Catalog, Sequence[Row]], None]] = {
    "Side by side": _side_by_side,
    "Curves": _curves,
    "Groups": _groups,
    "Code": _code,
    "Pictures": _pictures,
}
