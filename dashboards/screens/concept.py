"""One concept: its images, the evidence for its name, and what is known of it beside."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from dashboards.screens import datasets
from dashboards.screens.examples import column_of, kinds_of, show_examples, show_groups
from dashboards.screens.frame import (
    BESIDE,
    BOUND,
    CELL,
    RUN,
    choose_view,
    explained,
    link_to,
)
from dashboards.screens.notes import show_concept_note
from dashboards.screens.parts import (
    offer_table,
    show_figure,
    show_folded,
    show_numbers,
    show_part,
    show_table,
    show_when_open,
    wide_columns,
)
from dashboards.views.concepts import concepts as view
from dashboards.views.concepts import evidence as ask
from dashboards.views.concepts import labels, snippets
from dashboards.views.concepts import one_concept as one
from dashboards.views.concepts import similar as like
from dashboards.views.concepts.exactness import meaning_of_maps, shown_below
from dashboards.views.concepts.examples import LOWEST, STRONGEST, in_range, pair
from dashboards.views.concepts.neurons import is_of_neurons
from dashboards.views.concepts.passages import is_of_channels, passages_part
from dashboards.views.parts.charts import RANGE
from dashboards.views.parts.parts import (
    Figure,
    Number,
    Part,
    Passages,
    Pictures,
    Table,
    file_name,
    without_image,
)
from dashboards.views.parts.text import literal, number_text
from dashboards.views.runs.settings import behind
from registry.catalog.access import Catalog
from registry.store.durable import StoreError
from registry.wording import counted

ABOUT_EVIDENCE = (
    "No single number proves a name. Scores are on inputs that were held out when the name was "
    "chosen; rely on metrics that pass the sanity checks."
)
FIRST_TILES = 4
IN_PAIR = 3
OTHER = "with"
"""Key of the concept that stands beside the one that is shown."""

ABOUT_MISSING = (
    "Add to experiments.toml what is not there yet, then run it with `factbook run NAME`. Names "
    "are proposals."
)
ENLARGE = "Click one to enlarge it; point at it for its id."
SIMILAR_IN_ROW = 7
TEXTS_SHOWN = 6
LINKS = 6
REFRESH = "2s"
BADGES = {ask.FOR: "green", ask.AGAINST: "red", ask.OPEN: "gray"}
"""Colours of what a finding speaks for, which is always written too."""


def show_concept(
    catalog: Catalog, model: datasets.Model, frame: pd.DataFrame, concept: int
) -> None:
    """Show one concept: its images, and whether its name can be trusted.

    Parameters
    ----------
    catalog : Catalog
        Whose database keeps notes.
    model : Model
        What is known of its set.
    frame : pd.DataFrame
        All concepts, as :func:`dashboards.views.concepts.concepts.concepts_frame` returns them.
    concept : int
        Its index.
    """
    name, line = view.about(frame, concept)
    st.subheader(literal(name), anchor=False)
    st.caption(literal(line))
    label = str(frame.set_index("concept").loc[concept, "name"])
    show_concept_note(catalog, model.concepts.run, model.concepts.cell, concept)
    _evidence(model, concept, label)
    _images(catalog, model, concept, label)
    _about_evidence(model, concept, label)
    _lead_on(model)


def show_beside(catalog: Catalog, model: datasets.Model, frame: pd.DataFrame, concept: int) -> None:
    """Show what else is known of a concept; see :func:`show_concept`."""
    if names := model.names:
        show = partial(_every_label, model, names, concept)
        show_when_open(labels.BY_EVERY_METRIC, "every-label", show)
    _over_images(catalog, model, frame, concept)
    _similar_directions(model, frame, concept)
    where, decided = wide_columns((1, 1), "where-and-decided")
    with where, explained():
        if model.localisation:
            maps = datasets.whole(model.localisation)
            show_folded(one.location_parts(_file(model, concept), maps, concept), "location")
    with decided:
        if made := model.decisions:
            title = "Decisions that use this concept"
            show_when_open(title, "its-decisions", partial(_decisions, model, made, concept, title))


def _every_label(model: datasets.Model, names: datasets.Made, concept: int) -> None:
    with explained():
        own = datasets.labels_of(names, concept)
        every_name = datasets.names_of(names)
        table = labels.label_table(model.concepts.cell, own, concept, every_name)
        show_table(replace(table, title=""), alt=table.title)


def show_pair(
    catalog: Catalog, model: datasets.Model, frame: pd.DataFrame, concept: int, other: int
) -> None:
    """Show two concepts side by side: what each is, how near they are, and their images.

    Parameters
    ----------
    catalog, model, frame, concept
        As for :func:`show_concept`.
    other : int
        Index of the other one.
    """
    head = st.container(horizontal=True, vertical_alignment="center")
    head.markdown(f"**{literal(f'{view.noun(frame)}s {concept} and {other}')}**")
    head.button("Close", key="close-pair", on_click=_compare_with, args=(None,), type="tertiary")
    for slot, own in zip(st.columns(2, gap="medium"), (concept, other), strict=True):
        with slot, explained():
            title, line = view.about(frame, own)
            st.markdown(f"**{literal(title)}**")
            st.caption(literal(line))
            if answers := _asked(model, own, str(frame.set_index("concept").loc[own, "name"])):
                st.caption(literal(ask.verdict_line(answers)))
            if model.gallery:
                possible = shown_below(datasets.opened(model.gallery))
                tiles = datasets.tiles_of(model.gallery, own, IN_PAIR)
                below = next(iter(possible), "")
                what = model.words.strength
                pictures = [view.drawn(tile, possible, what) for tile in tiles]
                show_part(Pictures(pictures, below=below))
            if model.is_of_texts:
                show_part(Passages(datasets.passages_of(model.concepts, own)[:IN_PAIR]))
    with explained():
        show_numbers(_nearness(model, concept, other))
        first, second = (column_of(model, own)[0] for own in (concept, other))
        names = (f"{view.noun(frame).lower()} {concept}", f"{view.noun(frame).lower()} {other}")
        show_groups(catalog, model, pair(first, second, names, words=model.words))


def _nearness(model: datasets.Model, concept: int, other: int) -> list[Number]:
    """Return how alike two concepts are, by what there is."""
    slots = datasets.statistics(model.concepts).indexes["concept"].get_indexer([concept, other])
    found = []
    if model.sae is not None:
        cosines = like.cosines(datasets.directions(model.sae), int(slots[0]))
        if slots[1] < len(cosines):
            cosine = number_text(float(cosines[slots[1]]))
            found.append(Number("cosine", cosine, "of their directions in the layer"))
    index = datasets.presence_index(model.concepts, model.root)
    if not index.is_dense and index.presences().n_read:
        correlation = float(index.presences().correlations(int(slots[0]))[slots[1]])
        words = model.words
        meaning = f"of their {words.entries} over {words.input}s"
        found.append(Number("correlation", number_text(correlation), meaning))
    return found


def _compare_with(concept: int | None) -> None:
    """Put another concept beside the one that is shown; None takes it away."""
    st.session_state[OTHER] = "" if concept is None else str(concept)


def go_to(concept: int | None) -> None:
    """Choose a concept; None goes back to the first."""
    st.session_state["concept"] = "" if concept is None else str(concept)


def _file(model: datasets.Model, concept: int) -> str:
    return file_name(model.concepts.cell, "concept", concept)


# -- pictures ---------------------------------------------------------------------------------


def _images(catalog: Catalog, model: datasets.Model, concept: int, label: str) -> None:
    with explained():
        drawn = datasets.opened(model.gallery) if model.gallery else None
        sides = (
            [STRONGEST, *([LOWEST] if view.has_lowest(drawn) else [])] if drawn is not None else []
        )
        inputs = f"{model.words.input.capitalize()}s"
        kind = choose_view(kinds_of(model, label, sides), "side", inputs)
        if model.is_of_texts and kind == STRONGEST:
            _texts(model, concept)
        elif model.gallery and kind in sides:
            _gallery(model, model.gallery, concept, kind == LOWEST)
        else:
            show_examples(catalog, model, concept, label, kind)


def _gallery(model: datasets.Model, made: datasets.Made, concept: int, lowest: bool) -> None:
    with explained():
        kept = datasets.statistics(model.concepts)
        possible = shown_below(datasets.opened(made), kept)
        what = "activation" if is_of_neurons(kept) else "presence"
        tiles = datasets.tiles_of(made, concept, lowest=lowest)
        if not tiles:
            st.info(_without_images(what, lowest))
            return
        above = st.container()  # what they look like is chosen below them: pictures first
        with st.container(horizontal=True, vertical_alignment="center"):
            below = next(iter(possible), "")
            if len(possible) > 1:
                below = choose_view(possible, "below", "Below images")
            more = len(tiles) > FIRST_TILES
            every = more and st.toggle(
                f"All {counted(len(tiles), 'image')}", key="images", bind=BOUND
            )
        shown = tiles if every else tiles[:FIRST_TILES]
        pictures = [view.drawn(tile, possible, what) for tile in shown]
        text = f"Images with the {'lowest' if lowest else 'largest'} {what}."
        note = " ".join(filter(None, (text, meaning_of_maps(below, possible), ENLARGE)))
        with above:
            show_part(Pictures(pictures, below=below))
        st.caption(literal(note))


def _texts(model: datasets.Model, neuron: int) -> None:
    passages = datasets.passages_of(model.concepts, neuron)
    more = len(passages) > TEXTS_SHOWN
    every = more and st.toggle(
        f"All {counted(len(passages), 'position')}", key="images", bind=BOUND
    )
    shown = passages if every else passages[:TEXTS_SHOWN]
    of_channels = is_of_channels(datasets.opened(model.concepts))
    show_part(passages_part(shown, of_channels=of_channels))


def _without_images(what: str, lowest: bool) -> str:
    if what == "presence":
        return "No images were drawn: this concept contributes to too few, or to none."
    if lowest:
        return "No images: this neuron is nowhere below 0."
    return "No images were drawn: this neuron was left out, or is the same for all images."


# -- its name ---------------------------------------------------------------------------------


def _evidence(model: datasets.Model, concept: int, label: str) -> None:
    with explained():
        found = _asked(model, concept, label)
        if not found:
            _what_is_missing(model)
            return
        with st.container(gap="xxsmall", key="evidence"):
            title = ask.evidence_title("name" if label else "concept")
            st.markdown(
                f"**{literal(title)}** {literal(ask.verdict_line(found))}", help=ABOUT_EVIDENCE
            )
            for answer in found:
                badge = f":{BADGES[answer.speaks]}-badge[{literal(answer.speaks)}]"
                st.markdown(
                    f"{badge} **{literal(answer.question)}** {literal(answer.finding)}.",
                    help=literal(answer.rule) or None,
                )
            if not model.words.is_concept:
                st.caption(literal(ask.not_asked(model.words)))
        _what_is_missing(model)


def _what_is_missing(model: datasets.Model) -> None:
    """Offer what would answer the questions that are open for want of a dataset."""
    lines = snippets.missing_evidence(model.lineage, model.concepts.name, model.made)

    def show() -> None:
        st.caption(ABOUT_MISSING)
        st.code(lines, language="toml", wrap_lines=True)

    if lines:
        show_when_open("What would answer the open questions", "missing-evidence", show)


def _about_evidence(model: datasets.Model, concept: int, label: str) -> None:
    """Offer the answers as a table, and lead to what the concept is matched to."""
    with explained():
        if found := _asked(model, concept, label):
            what = "name" if label else "concept"
            offer_table(ask.evidence_table(_file(model, concept), found, what))
            _links_to_matches(model, concept)


def _lead_on(model: datasets.Model) -> None:
    """Link to what all this rests on: the run, the tests of the metrics, and other results."""
    names = model.names.name if model.names else ""
    with st.container(horizontal=True):
        link_to("runs", f"The run that measured these {model.words.noun}s", run=model.concepts.run)
        if sanity := behind(model.lineage, names, "sanity"):
            address = model.lineage.entries[sanity].address
            link_to("sanity", "Sanity checks of the metrics", **address)
        others = {"consistency": model.consistency, "localisation": model.localisation}
        for schema, made in others.items():
            if made:
                link_to(schema, schema.capitalize(), **made.address)


def _asked(model: datasets.Model, concept: int, label: str) -> list[ask.Evidence]:
    """Return all questions, answered as far as there are datasets; none where there are none."""
    answers: list[ask.Evidence] = []
    if model.names and concept in datasets.names_of(model.names).indexes["concept"]:
        names = datasets.names_of(model.names)
        answers += [
            ask.agreement(names, concept, label),
            ask.beyond_chance(names, concept, label),
            ask.lead(names, concept, label),
        ]
        answers.append(ask.fit(names, concept, label, _reach(model, concept, label)))
    elif not (model.consistency or model.localisation or model.matchings):
        return []
    if model.is_of_texts:
        return answers
    if model.consistency:
        answers.append(ask.alikeness(datasets.whole(model.consistency), concept))
    elif model.words.is_concept:
        answers.append(_unknown(model, ask.ALIKE, "C2-scores", "consistency"))
    if model.localisation:
        answers.append(ask.location(datasets.whole(model.localisation), concept))
    else:
        answers.append(_unknown(model, ask.THERE, "localisation", "localisation"))
    recurrences = [
        ask.recurrence(model.title(other), one.returns(datasets.whole(made), concept, is_first))
        for made, other, is_first in model.matchings
    ]
    if not recurrences and model.words.is_concept:
        recurrences = [_unknown(model, ask.AGAIN, "matching with another seed", "matching")]
    return answers + recurrences


def _reach(model: datasets.Model, concept: int, label: str) -> ask.Reach | None:
    """Return what the score of a name could be; None where that is not known."""
    if not model.names or not label:
        return None
    kept = datasets.statistics(model.concepts)
    share = float(kept["image_share"].sel(concept=concept)) if "image_share" in kept else 1.0
    return datasets.reach_of(model.concepts, model.names, model.labels, label, share)


def _links_to_matches(model: datasets.Model, concept: int) -> None:
    """Lead to what the concept is matched to, where that set was measured."""
    with st.container(horizontal=True):
        for made, other, is_first in model.matchings:
            if other not in model.cells:
                continue
            found = {
                match.concept for match in one.returns(datasets.whole(made), concept, is_first)
            }
            for match in sorted(found - {-1}):
                st.button(
                    literal(f"Concept {match} of {model.title(other)}"),
                    key=f"match-{other}-{match}",
                    on_click=_go_to_set,
                    args=(other, match),
                    type="tertiary",
                    icon=":material/arrow_forward:",
                )


def _go_to_set(name: str, concept: int) -> None:
    """Choose a concept of another set. A link to its own page would leave the address behind."""
    st.session_state[CELL] = name
    st.session_state[RUN] = st.session_state[BESIDE] = []
    st.session_state["label"] = ""
    go_to(concept)


def _unknown(model: datasets.Model, question: str, what: str, schema: str) -> ask.Evidence:
    return ask.missing(question, what, model.wanted.get(schema, ""))


# -- over all images --------------------------------------------------------------------------


def _over_images(
    catalog: Catalog, model: datasets.Model, frame: pd.DataFrame, concept: int
) -> None:
    with explained():
        reading = datasets.presence_index(model.concepts, model.root).is_reading
        show = st.fragment(_presences, run_every=REFRESH) if reading else _presences
        show(catalog, model, frame, concept, reading)


def _presences(
    catalog: Catalog,
    model: datasets.Model,
    frame: pd.DataFrame,
    concept: int,
    was_reading: bool,
) -> None:
    index = datasets.presence_index(model.concepts, model.root)
    moved = st.session_state.get("concept") or str(concept)
    if was_reading and (not index.is_reading or moved != str(concept)):
        st.rerun()
    known, kept = index.presences(), datasets.statistics(model.concepts)
    slot = int(kept.indexes["concept"].get_loc(concept))
    if index.is_dense:
        alone = datasets.presences_alone(model.concepts, slot)
        _show_presences(
            catalog, model, concept, one.presence_parts(_file(model, concept), alone, 0, kept)
        )
        return
    if index.trouble:
        words = model.words
        what = f"{words.entries.capitalize()} over all {words.input}s"
        st.warning(literal(f"{what} cannot be shown: {index.trouble}"))
        return
    if not known.is_whole:
        inputs = counted(known.n_images, model.words.input)
        text = f"{known.n_read:,} of {inputs} read. This happens once."
        st.progress(known.n_read / max(known.n_images, 1), literal(text))
    if not known.n_read:
        return
    try:
        parts = one.presence_parts(_file(model, concept), known, slot, kept)
        correlations = known.correlations(slot)
    except StoreError:  # what is kept is damaged: it is made anew
        index.read_anew()
        st.rerun()
    _show_presences(catalog, model, concept, parts)
    similar = like.most_similar(correlations, kept["concept"].values, slot, SIMILAR_IN_ROW)
    _similar(model, frame, similar, model.words.together, "correlation", concept)


def _show_presences(
    catalog: Catalog, model: datasets.Model, concept: int, parts: Sequence[Part]
) -> None:
    """Show where a concept is present, and the images of the range that a reader marks there."""
    first, *others = zip(st.columns(3, gap="medium"), parts, strict=False)
    key = f"range {model.concepts.run} {concept}"
    marked = None
    with first[0]:
        if isinstance(first[1], Figure):
            marked = show_figure(first[1], key=key, on_select="rerun", selection_mode=RANGE)
        else:
            show_part(first[1])
    for beside, part in others:
        with beside:
            show_part(part)
    if ends := one.marked_range(marked):
        column, _ = column_of(model, concept)
        show_groups(
            catalog, model, [in_range(column, *ends, seed=concept, words=model.words)], concept
        )


# -- what is like it --------------------------------------------------------------------------


def _similar_directions(model: datasets.Model, frame: pd.DataFrame, concept: int) -> None:
    with explained():
        if model.sae is None:
            return
        kept = datasets.statistics(model.concepts)
        slot = int(kept.indexes["concept"].get_loc(concept))
        cosines = like.cosines(datasets.directions(model.sae), slot)
        similar = like.most_similar(cosines, kept["concept"].values, slot, SIMILAR_IN_ROW)
        _similar(model, frame, similar, "Similar directions in the layer", "cosine", concept)


def _similar(
    model: datasets.Model,
    frame: pd.DataFrame,
    similar: pd.Series,
    title: str,
    what: str,
    concept: int,
) -> None:
    """Show concepts that are like one, each with a link that leads to it."""
    st.markdown(f"**{title}**")
    if similar.empty:
        st.caption(f"None: this {model.words.noun} is constant.")
        return
    table = view.similar_table(_file(model, concept), frame, similar, title, what)
    with explained():
        pictures = datasets.first_pictures(model.gallery, tuple(similar.index))
        lines = (
            datasets.strongest_texts(model.concepts, tuple(map(int, similar.index)))
            if model.is_of_texts
            else {}
        )
        shown = []
        for row in table.frame.to_dict("records"):
            other = int(row["concept"])
            picture = pictures.get(other, without_image())
            caption = _similar_caption(row, what, view.noun(frame), lines.get(other, ""))
            link = _address(model, concept=other)
            both = _address(model, concept=concept, **{OTHER: other})
            shown.append(replace(picture, caption=caption, link=link, aside=("Compare", both)))
        show_part(Pictures(shown))
    offer_table(table)


def _address(model: datasets.Model, **values: object) -> str:
    return f"concepts?{urlencode({**model.address, **values}, doseq=True)}"


def _similar_caption(row: Mapping[Hashable, Any], what: str, kind: str, line: str) -> str:
    called = f"“{row['called']}”" if row.get("called") else ""
    own = row.get("token") or row.get("own_name") or ""
    name = str(row["name"] or ("" if own else "no name"))
    own = "" if own == name else own
    first = f"{kind} {int(row['concept'])}"
    lines = (first, name, own, called, f"{what} {number_text(row[what], 2)}", line)
    return "\n".join(filter(None, lines))


# -- decisions --------------------------------------------------------------------------------


def _decisions(model: datasets.Model, made: datasets.Made, concept: int, title: str) -> None:
    with explained():
        decisions = datasets.opened(made)
        found = one.decision_frame(decisions, concept)
        note = f"Decisions explained by {made.cell} with this concept among the strongest."
        name = f"{_file(model, concept)}-decisions"
        table = Table(name, found, "", note, one.decision_columns(decisions))
        show_table(table, alt=title)
        with st.container(horizontal=True):
            for image in found["image"].tolist()[:LINKS]:
                address = {**model.address, "decisions": made.name, "image": image}
                link_to("decisions", literal(f"Decision on {image}"), **address)
