"""The page of decisions: what the network says of an image, and which concepts made it say so."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from dashboards.screens import frame as page
from dashboards.screens.datasets import Made, whole
from dashboards.screens.decision_data import Model, read_model, read_naming, strongest_images
from dashboards.screens.parts import show_part
from dashboards.screens.shown import (
    choose_beside,
    choose_shown,
    keep_in_address,
    tell_beside,
    tell_earlier,
)
from dashboards.server.explainer import ExplainerError
from dashboards.views.concepts import decisions as view
from dashboards.views.concepts import image_choice
from dashboards.views.parts.parts import Pictures, file_name
from dashboards.views.parts.text import literal
from dashboards.views.runs.advice import Advice, without_datasets
from dashboards.views.runs.settings import cells_of
from registry.catalog.lineage import Lineage

PREDICTED = "the prediction"
WIDE, NARROW = 300, 200  # pixels of boxes
ASK = ":material/compare_arrows:"


@dataclass(frozen=True)
class Subject:
    """An image that is to be explained.

    Attributes
    ----------
    name, label : str
        What it is called, and its class where that is known.
    uploaded : tuple of str and np.ndarray, or None
        Digest and picture of an uploaded one; None of one that is read by its name.
    """

    name: str
    label: str = ""
    uploaded: tuple[str, np.ndarray] | None = None


def show() -> None:
    """Show the page."""
    catalog = page.begin("Decisions", view.MEANING, shares=page.OF_A_MODEL)
    lineage = page.lineage(catalog)
    names = cells_of(lineage, "concepts")
    if not names:
        page.tell(without_datasets(catalog.project, "concepts"))
        return
    _follow_link(lineage, names)
    row = st.container(horizontal=True, vertical_alignment="bottom")
    entry = choose_shown(catalog, lineage, row, "Experiment", names, WIDE)
    tell_earlier(catalog, lineage, [entry])
    model = read_model(catalog, lineage, entry, _decisions_of(lineage, entry.name, row))
    naming, named = read_naming(catalog, lineage, entry.name, row, NARROW)
    beside = {"Names": named, "Decisions": model.decisions, "Pictures": model.gallery}
    found = {what: made for what, made in beside.items() if made is not None}
    tell_beside(catalog, lineage, entry.name, found)
    keep_in_address([entry.cell], [entry.run], [made.run for made in found.values()])
    subject = _choose(model)
    target, against = _question(model)
    if subject is not None:
        _answer(model, naming, subject, target, against)
        run = entry.run or entry.cell
        page.link_to("runs", "The run that measured these concepts", run=run)


def _follow_link(lineage: Lineage, names: Sequence[str]) -> None:
    """Let an address name decisions, whose concepts are then shown."""
    runs, asked = page.asked(page.RUN), st.query_params.get(page.CELL, "")
    decisions = lineage.of_run(runs[0]) if runs else lineage.entries.get(asked)
    if decisions is None or decisions.provides != "decisions":
        return
    concepts = lineage.entries.get(decisions.needs.get("concepts", ""))
    if concepts is not None and concepts.name in names:
        st.session_state[page.CELL] = concepts.name
        st.session_state[page.RUN] = [concepts.run] if concepts.run else []
        st.session_state["decisions"] = decisions.name


def _decisions_of(lineage: Lineage, name: str, slot: Any) -> str:
    """Return what has explained images of this model in advance, "" if there is nothing."""
    makers = cells_of(lineage, "decisions", made_from=name)
    makers = list(filter(lineage.is_made, makers)) or makers
    if len(makers) < 2:
        return makers[0] if makers else ""
    return choose_beside(lineage, slot, "Explained in advance by", makers, "decisions", WIDE)


# -- what to explain --------------------------------------------------------------------------


def _choose(model: Model) -> Subject | None:
    """Return the image to explain, by widgets that the address holds; None where there is none."""
    namers = [image_choice.ALL, image_choice.RIGHT, image_choice.WRONG]
    if model.concepts is not None:
        namers += [image_choice.EXPLAINED] if model.explained else []
        namers += [image_choice.UPLOAD]
    row = st.container(horizontal=True, vertical_alignment="bottom")
    page.tell_unknown("from", namers)
    which = row.segmented_control(
        "Images",
        namers,
        default=image_choice.ALL,
        key="from",
        bind=page.BOUND,
        on_change=_look_elsewhere,
        help="Right and wrong: by the prediction of the network with its concepts in place. "
        "Explained: in advance, by an experiment.",
    )
    if which == image_choice.UPLOAD:
        return _uploaded()
    label = row.selectbox(
        "Labelled",
        sorted({name for name in model.images["label"] if name}),
        index=None,
        placeholder="any class",
        key="label",
        bind=page.BOUND,
        on_change=_go_to,
        args=("",),
        width=NARROW,
    )
    every = which or image_choice.ALL
    chosen = image_choice.select_images(model.images, every, label or "", model.explained)
    return _by_name(model, chosen, row)


def _by_name(model: Model, chosen: list[str], row: Any) -> Subject | None:
    hint = f"{chosen[0]} (1 of {len(chosen):,})" if chosen else "none"
    text = row.text_input("Image", placeholder=hint, key="image", bind=page.BOUND, width=WIDE) or ""
    current = text.strip() or (chosen[0] if chosen else "")
    before, after = image_choice.neighbours(current, chosen)
    other = image_choice.any_of(chosen, current, np.random.default_rng())
    steps = (("Previous", before), ("Next", after), ("Random", other))
    for word, image in steps:
        row.button(word, on_click=_go_to, args=(image,), disabled=not image)
    try:
        name = image_choice.meant_image(text, model.images, chosen)
    except image_choice.UnknownImageError as error:
        st.info(literal(f"{str(error).capitalize()}."))
        return None
    row = model.images[model.images["image"] == name].iloc[0]
    return Subject(name, str(row["label"]))


def _look_elsewhere() -> None:
    """Begin with other images: the first of them, and with no question left from another image."""
    _go_to("")
    st.session_state["against"] = None


def _go_to(image: str) -> None:
    st.session_state["image"] = image


def _uploaded() -> Subject | None:
    file = st.file_uploader(
        "Picture",
        type=list(image_choice.SUFFIXES),
        max_upload_size=image_choice.MOST_MEGABYTES,
        help="Kept in memory while this page is open; never written to disk.",
        key="upload",
    )
    if file is None:
        st.info("Choose a PNG, JPEG or WebP image.")
        return None
    content = file.getvalue()
    try:
        picture = image_choice.read_upload(content)
    except image_choice.UploadError as error:
        page.tell(Advice("Cannot explain this file", f"{file.name}: {error}"), st.error)
        return None
    return Subject(file.name, uploaded=(hashlib.sha256(content).hexdigest(), picture))


def _question(model: Model) -> tuple[int | None, int | None]:
    """Return the classes to explain: the target, None for the prediction, and one against it."""
    if model.concepts is None:
        return None, None
    row = st.container(horizontal=True, vertical_alignment="bottom")
    options = [PREDICTED, *model.classes]
    page.tell_unknown("class", options)
    page.tell_unknown("against", model.classes)
    target = row.selectbox(
        "Explain the logit of", options, key="class", bind=page.BOUND, width=WIDE
    )
    against = row.selectbox(
        "minus the logit of",
        model.classes,
        index=None,
        placeholder="none",
        help="Why one class and not the other: both logits are sums over the same concepts, and so "
        "is their difference.",
        key="against",
        bind=page.BOUND,
        width=WIDE,
    )
    chosen = options.index(target) - 1
    return chosen if chosen >= 0 else None, None if against is None else options.index(against) - 1


# -- the answer -------------------------------------------------------------------------------


def _answer(
    model: Model, naming: view.Naming, subject: Subject, target: int | None, against: int | None
) -> None:
    if model.concepts is None:
        _show_stored(model, naming, subject)
        return
    try:
        whole = model.explain(subject.name, target, None, subject.uploaded)
        explains_itself = against == int(whole["target"])
        if against is not None and not explains_itself:
            whole = model.explain(subject.name, target, against, subject.uploaded)
    except ExplainerError as error:
        page.tell(Advice("Cannot explain this image here", str(error)), st.warning)
        _show_stored(model, naming, subject)
        return
    if against is not None and explains_itself:
        st.info("Both classes are the same. Showing its logit; choose another class to compare.")
    decision = view.of_image(whole, subject.label)
    show_decision(model, decision, naming, subject.name, lambda: _ask_further(model, decision))
    with st.expander("Every concept present in the image"):
        name = file_name("decision", subject.name)
        show_part(view.contributions_table(whole, naming, name))


def _show_stored(model: Model, naming: view.Naming, subject: Subject) -> None:
    """Show what was explained in advance of an image, if it was."""
    if subject.uploaded or model.decisions is None or subject.name not in model.explained:
        return
    with page.explained():
        decision = view.of_stored(whole(model.decisions), subject.name)
        show_decision(model, decision, naming, subject.name)


def _ask_further(model: Model, decision: view.Decision) -> None:
    """Offer the next question: why not the class that it should have been, or the second.

    Of a class that is not predicted, why the prediction and not this one.
    """
    if decision.target != decision.prediction and not decision.against:
        text = literal(f"Why {decision.prediction}, and not {decision.target}?")
        option = _option(model, decision, decision.target)
        st.button(text, on_click=_ask_against, args=(option, PREDICTED), icon=ASK)
        return
    other = view.runner_up(decision)
    if decision.against or other in ("", decision.target) or decision.classes is None:
        return
    text, option = literal(f"Why not {other}?"), _option(model, decision, other)
    st.button(text, on_click=_ask_against, args=(option,), icon=ASK)


def _option(model: Model, decision: view.Decision, name: str) -> str | None:
    """Return the option of the boxes that stands for a class; None where classes are not known."""
    if decision.classes is None:
        return None
    index: int = decision.classes["class"].tolist().index(name)
    return model.classes[index]


def _ask_against(option: str | None, target: str = "") -> None:
    st.session_state["against"] = option
    if target:
        st.session_state["class"] = target


# -- one decision --------------------------------------------------------------------------------

TILES = 4
COLUMNS = (28, 16, 56)
"""Widths of a concept's row: where it is in the image, words, and its gallery."""


def show_decision(
    model: Model,
    decision: view.Decision,
    naming: view.Naming,
    image: str,
    ask_further: Callable[[], None] = lambda: None,
) -> None:
    """Show a decision.

    Parameters
    ----------
    model : Model
        Whose concepts it is of.
    decision : Decision
        What is explained.
    naming : Naming
        What concepts are called.
    image : str
        What the image is called.
    ask_further : callable
        Shows what can be asked next.
    """
    st.subheader(literal(decision.question), anchor=False)
    st.markdown(literal(view.verdict_line(decision)))
    naming = naming.explaining(decision.target)
    st.markdown(literal(view.reason_line(decision, naming)))
    if decision.against:
        st.caption(literal(view.meaning_of_shares(decision)))
    if line := view.position_line(decision):
        st.caption(literal(line))
    ask_further()
    name = file_name("decision", image)
    left, right = st.columns([5, 8], gap="large")
    with left:
        _subject(decision, image)
        if (figure := view.classes_figure(decision, name)) is not None:
            show_part(figure)
    with right:
        show_part(view.waterfall_figure(decision, naming, name))
        with st.expander("Shares as a table"):
            show_part(view.shares_table(decision, naming, name))
    _terms(model, decision, naming)


def _subject(decision: view.Decision, image: str) -> None:
    show_part(view.subject_pictures(decision, image))


def _terms(model: Model, decision: view.Decision, naming: view.Naming) -> None:
    if decision.for_it:
        st.markdown(f"**{literal(f'Concepts that {decision.favours}')}**")
        _rows(model, decision, naming, decision.for_it)
    if decision.against_it:
        title = literal(f"Concepts that {decision.opposes}")
        with st.expander(title, expanded=view.matters(decision)):
            _rows(model, decision, naming, decision.against_it)
    here, about, _ = st.columns(COLUMNS)
    with here:
        show_part(view.pictures_in(decision, decision.others_explanation, decision.others_map))
    about.markdown("**All others together**")
    about.markdown(literal(view.others_line(decision)))
    st.caption(view.ABOUT_PICTURES)


def _rows(
    model: Model, decision: view.Decision, naming: view.Naming, terms: Sequence[view.Term]
) -> None:
    for term in terms:
        here, words, gallery = st.columns(COLUMNS)
        with here:
            show_part(view.pictures_in(decision, term.explanation, term.map))
        with words:
            st.markdown(f"**{literal(naming.title(term.concept))}**")
            st.markdown(literal(view.term_line(term, decision)))
            if verdict := naming.verdict.get(term.concept):
                st.caption(literal(verdict))
            address = {**model.address, "concept": term.concept}
            page.link_to("concepts", "About this concept", **address)
        with gallery:
            _strip(model.gallery, term.concept)


def _strip(gallery: Made | None, concept: int) -> None:
    """Show the images in which a concept is strongest; where it is in each, where one points."""
    pictures = strongest_images(gallery, concept, TILES)
    if pictures:
        show_part(Pictures(pictures))
    else:
        st.caption("No pictures drawn.")
