"""The page of decisions: what the network says of an image, and which concepts made it say so."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import streamlit as st
import xarray as xr

from dashboards.screens import frame as page
from dashboards.screens.datasets import whole
from dashboards.screens.decision_data import Model, read_model, read_naming, strongest_images
from dashboards.screens.parts import (
    offer_figure,
    show_figure,
    show_part,
    show_when_open,
    wide_columns,
)
from dashboards.screens.shown import (
    choose_beside,
    choose_shown,
    keep_in_address,
    tell_beside,
    tell_earlier,
)
from dashboards.server.explainer import ExplainerError
from dashboards.server.preparation import PREPARATION
from dashboards.views.concepts import decision_charts as charts
from dashboards.views.concepts import decision_pictures as pictures
from dashboards.views.concepts import decision_words as words
from dashboards.views.concepts import decisions as view
from dashboards.views.concepts import image_choice, what_if
from dashboards.views.concepts.decision import Decision, Term, of_image, of_stored
from dashboards.views.concepts.decision_names import Naming
from dashboards.views.concepts.neurons import why_no_decisions
from dashboards.views.parts.parts import Figure, Pictures, file_name
from dashboards.views.parts.text import literal
from dashboards.views.runs.advice import Advice, without_datasets
from dashboards.views.runs.chain import query
from dashboards.views.runs.settings import cells_of
from registry.catalog.lineage import Entry, Lineage

BRIEF = (
    "Every logit, before the bias, as the sum of what concepts contribute (Parchami-Araghi et al., "
    "FaCT, NeurIPS 2025, arXiv 2510.25512)."
)
NEURONS = ("activations", "next_tokens")
"""Schemas of neurons, which contribute to nothing."""

PREDICTED = "the prediction"
AWAITED = (
    "This server has just begun, and still loads what runs networks. The answer of the network, "
    "and sliders, come by themselves …"
)
LOOK_AGAIN = 0.3  # seconds
WIDE, NARROW, SHORT = 260, 180, 150  # pixels of boxes
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
    catalog = page.begin("Decisions", BRIEF, shares=page.OF_A_MODEL)
    lineage = page.lineage(catalog)
    names = cells_of(lineage, "concepts")
    neurons = _neurons_asked(lineage, names)
    if neurons is not None:
        page.tell(why_no_decisions(neurons, lineage))
        page.link_to("concepts", literal(f"The neurons of {neurons.title}"), **neurons.address)
        return
    if not names:
        page.tell(without_datasets(catalog.project, "concepts"))
        return
    _follow_link(lineage, names)
    row = st.container(horizontal=True, vertical_alignment="bottom")
    question = st.container(horizontal=True, vertical_alignment="bottom")
    entry = choose_shown(catalog, lineage, row, "Experiment", names, WIDE)
    tell_earlier(catalog, lineage, [entry])
    model = read_model(catalog, lineage, entry, _decisions_of(lineage, entry.name, row))
    naming, named = read_naming(catalog, lineage, entry.name, row, NARROW)
    beside = {"Names": named, "Decisions": model.decisions, "Pictures": model.gallery}
    found = {what: made for what, made in beside.items() if made is not None}
    tell_beside(catalog, lineage, entry.name, found)
    keep_in_address([entry.cell], [entry.run], [made.run for made in found.values()])
    subject = _choose(model, row, question)
    target, against = _question(model, question)
    if subject is not None:
        _answer(model, naming, subject, target, against)
        run = entry.run or entry.cell
        page.link_to("runs", "The run that measured these concepts", run=run)


def _neurons_asked(lineage: Lineage, names: Sequence[str]) -> Entry | None:
    """Return the neurons that an address asks for, or that are all there is; None for concepts."""
    runs = page.asked(page.RUN)
    cell = str(st.session_state.get(page.CELL) or st.query_params.get(page.CELL, ""))
    asked = lineage.of_run(runs[0]) if runs else lineage.entries.get(cell)
    first = [one for one in lineage.entries.values() if one.provides in NEURONS and one.folder]
    found = asked or (first[0] if first and not names else None)
    return found if found is not None and found.provides in NEURONS else None


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


def _choose(model: Model, slot: Any, row: Any) -> Subject | None:
    """Return the image to explain, by widgets that the address holds; None where there is none."""
    namers = [image_choice.ALL, image_choice.RIGHT, image_choice.WRONG]
    if model.concepts is not None:
        namers += [image_choice.EXPLAINED] if model.explained else []
        namers += [image_choice.UPLOAD]
    page.tell_unknown("from", namers)
    which = slot.segmented_control(
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
    label = slot.selectbox(
        "Labelled",
        sorted({name for name in model.images["label"] if name}),
        index=None,
        placeholder="any class",
        key="label",
        bind=page.BOUND,
        on_change=_go_to,
        args=("",),
        width=SHORT,
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


def _question(model: Model, row: Any) -> tuple[int | None, int | None]:
    """Return the classes to explain: the target, None for the prediction, and one against it."""
    if model.concepts is None:
        return None, None
    options = [PREDICTED, *model.classes]
    page.tell_unknown("class", options)
    page.tell_unknown("against", model.classes)
    target = row.selectbox(
        "Explain the logit of", options, key="class", bind=page.BOUND, width=NARROW
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
        width=NARROW,
    )
    chosen = options.index(target) - 1
    return chosen if chosen >= 0 else None, None if against is None else options.index(against) - 1


# -- the answer -------------------------------------------------------------------------------


def _answer(
    model: Model, naming: Naming, subject: Subject, target: int | None, against: int | None
) -> None:
    if model.concepts is None:
        _show_stored(model, naming, subject)
        return
    if model.is_awaited:
        above = st.container()
        if target is None and against is None:
            _show_stored(model, naming, subject)
        with above:
            _await_network()
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
    decision = of_image(whole, subject.label)
    show_decision(
        model,
        decision,
        naming,
        subject.name,
        lambda: _ask_further(model, decision),
        lambda names: _what_if(model, decision, whole, subject, names),
    )
    name = file_name("decision", subject.name)
    show_when_open(
        "Every concept present in the image",
        "every-concept",
        lambda: show_part(charts.contributions_table(whole, naming, name)),
    )


def _await_network() -> None:
    """Wait until the server has imported what explains, and show the page anew.

    It waits within the page: a fragment that comes again and again would have Streamlit search all
    modules for garbage each time.
    """
    PREPARATION.hurry()
    with st.spinner(AWAITED, show_time=True):
        place = st.empty()
        while not PREPARATION.wait(LOOK_AGAIN):
            place.empty()  # whoever asks for something else meanwhile gets it
    st.rerun()


def _show_stored(model: Model, naming: Naming, subject: Subject) -> None:
    """Show what was explained in advance of an image, if it was."""
    if subject.uploaded or model.decisions is None or subject.name not in model.explained:
        return
    with page.explained():
        decision = of_stored(whole(model.decisions), subject.name)
        show_decision(model, decision, naming, subject.name)


def _ask_further(model: Model, decision: Decision) -> None:
    """Offer the next questions: why not the class that it should have been, nor those behind it.

    Of a class that is not predicted, why the prediction and not this one. The key of a button is
    its class, so that a click counts, for the class that was seen, also while the image changes.
    """
    if decision.target != decision.prediction and not decision.against:
        text = literal(f"Why {decision.prediction}, and not {decision.target}?")
        option = _option(model, decision, decision.target)
        st.button(text, key="ask", on_click=_ask_against, args=(option, PREDICTED), icon=ASK)
        return
    with st.container(horizontal=True, gap="small"):
        for place, name in enumerate(charts.rivals(decision)):
            is_asked = name == decision.against
            st.button(
                literal(f"or {name}?" if place else f"Why not {name}?"),
                key=f"ask-{name}",
                on_click=_ask_against,
                args=(None if is_asked else _option(model, decision, name),),
                icon=None if place else ASK,
                type="primary" if is_asked else "secondary",
            )


def _option(model: Model, decision: Decision, name: str) -> str | None:
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

SUBJECT_AND_SUM = (6, 7)
OTHER_LABELS = "second"
SCALED, SCALED_OF = "scaled", "scaled-of"
"""What the address says of scaled concepts, and of which subject the session holds some."""


def show_decision(
    model: Model,
    decision: Decision,
    naming: Naming,
    image: str,
    ask_further: Callable[[], None] = lambda: None,
    what_if: Callable[[Naming], None] = lambda _: None,
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
    what_if : callable
        Shows what comes of scaled concepts, which it is told the names of.
    """
    name = file_name("decision", image)
    subject, total = wide_columns(SUBJECT_AND_SUM)
    with subject, st.container(key="subject"):
        st.subheader(literal(decision.question), anchor=False)
        sentence = f"{words.verdict_line(decision)} {words.sum_line(decision)}"
        st.markdown(literal(sentence))
        ask_further()
        show_part(pictures.subject_pictures(decision, image))
    title = st.container(horizontal=True, vertical_alignment="bottom")
    naming = _naming_beside(decision, naming, title)
    with total:
        figure = charts.waterfall_figure(decision, naming, name)
        show_figure(replace(figure, note=""), is_offered=False)
    _terms(model, decision, naming, decision.for_it)
    show_when_open(
        "An image in which each of these is strongest",
        "strongest-images",
        lambda: _strongest(model, decision.for_it),
    )
    if decision.against_it:
        st.markdown(f"**{literal(f'Concepts that {decision.opposes}')}**")
        _terms(model, decision, naming, decision.against_it)
    what_if(naming)
    show_when_open(
        "All others, how exact the sum is, what pictures show, every class",
        "all-others",
        lambda: _all_others(decision, naming, name, figure),
    )


def _all_others(decision: Decision, naming: Naming, name: str, waterfall: Figure) -> None:
    """Show what of a decision is not in its first screens."""
    st.markdown(literal(words.others_line(decision)))
    show_part(pictures.others_picture(decision))
    about = (words.position_line(decision), waterfall.note, pictures.ABOUT_PICTURES, view.MEANING)
    for line in filter(None, about):
        st.caption(literal(line))
    show_part(charts.shares_table(decision, naming, name))
    offer_figure(waterfall)
    if (classes := charts.classes_figure(decision, name)) is not None:
        show_part(classes)


def _naming_beside(decision: Decision, naming: Naming, row: Any) -> Naming:
    """Return the names to show; where some only repeat the class, a reader chooses which."""
    best, other = naming.explaining(decision.target), naming.otherwise(decision.target)
    row.markdown(f"**{literal(f'Concepts that {decision.favours}')}**", width="content")
    if not (line := words.repeats_line(decision, best)):
        return best
    if not any(term.concept in best.beyond for term in decision.for_it):
        row.caption(literal(f"{line}."), width="content")
        return best
    chosen = row.toggle(
        "Second labels",
        value=True,
        key=OTHER_LABELS,
        bind=page.BOUND,
        help="The best label that is no class, where it is above chance. To name so for good: "
        '`leave_out = ["class:*"]` or `prefer = "concepts"` of `evals.name_concepts`.',
    )
    told = f"{line}; their second labels are shown" if chosen else line
    row.caption(literal(f"{told}."), width="content")
    return other if chosen else best


def _terms(model: Model, decision: Decision, naming: Naming, terms: Sequence[Term]) -> None:
    """Show where concepts are in the image."""

    def link(concept: int) -> str:
        return query("concepts", **model.address, concept=concept)

    show_part(pictures.term_pictures(decision, naming, terms, link))


def _strongest(model: Model, terms: Sequence[Term]) -> None:
    """Show an image in which each of some concepts is strongest, below where it is here."""
    found = {term.concept: strongest_images(model.gallery, term.concept, 1) for term in terms}
    strongest = [
        replace(picture, caption=f"{concept} in {picture.caption}")
        for concept, drawn in found.items()
        for picture in drawn
    ]
    if strongest:
        show_part(Pictures(strongest))
    else:
        st.caption("No pictures of these are drawn; a name leads to its concept, with its images.")


# -- what if -------------------------------------------------------------------------------------


@st.fragment
def _what_if(
    model: Model, decision: Decision, explained: xr.Dataset, subject: Subject, naming: Naming
) -> None:
    """Let a reader scale concepts, and show what was promised, and what the network does."""
    st.markdown("**What if a concept were weaker, or gone?**", help=what_if.MEANING)
    possible = what_if.concepts_to_scale(explained)
    of = f"{subject.name}-{decision.target}-{decision.against}"
    sliders, answer = wide_columns(SUBJECT_AND_SUM, "what-if")
    with sliders:
        _begin_to_scale(of, possible)
        chosen = st.multiselect(
            "Concepts to scale", possible, format_func=naming.short, key=f"scaled-{of}"
        )
        keys = {concept: f"scale-{of}-{concept}" for concept in chosen}
        beside = st.columns(2)
        percents = {}
        for place, (concept, key) in enumerate(keys.items()):
            st.session_state.setdefault(key, what_if.WHOLE)
            label = literal(naming.called(concept))
            percents[concept] = beside[place % 2].slider(
                label, 0, what_if.MOST, step=5, format="%d %%", key=key
            )
        _keep_scaled(what_if.percents_text(percents))
        factors = {concept: percent / what_if.WHOLE for concept, percent in percents.items()}
        with st.container(horizontal=True):
            st.button("Take all of these away", on_click=_set_all, args=(keys.values(), 0))
            st.button("As it was", on_click=_set_all, args=(keys.values(), what_if.WHOLE))
    with answer:
        try:
            scaled = model.scale(subject.name, explained, factors, subject.uploaded)
        except ExplainerError as error:
            page.tell(Advice("Cannot run the network on this", str(error)), st.warning)
            return
        st.markdown(literal(what_if.answer_line(decision, scaled, factors)))
        if what_if.is_as_it_was(factors):
            st.caption("Move a slider: what was promised then stands here beside what happens.")
            return
        for figure in (what_if.promise_figure, what_if.classes_figure):
            show_figure(figure(decision, scaled), is_offered=False)


def _begin_to_scale(of: str, possible: Sequence[int]) -> None:
    """Choose what can be scaled: at first what the address says, of another subject the strongest.

    Parameters
    ----------
    of : str
        Image and classes.
    possible : sequence of int
        The concepts, the strongest first.
    """
    before = st.session_state.get(SCALED_OF)
    if before == of and f"scaled-{of}" in st.session_state:
        return
    said: dict[int, int] = {}
    if before in (None, of):
        said = what_if.percents_of(st.query_params.get(SCALED, ""), possible)
    st.session_state[SCALED_OF] = of
    chosen = list(dict.fromkeys([*possible[: what_if.FIRST], *said]))
    st.session_state[f"scaled-{of}"] = chosen
    for concept, percent in said.items():
        st.session_state[f"scale-{of}-{concept}"] = percent


def _keep_scaled(text: str) -> None:
    """Let the address say to what concepts are scaled, and the session keep it for Back."""
    st.session_state[SCALED] = text
    if text and st.query_params.get(SCALED) != text:
        st.query_params[SCALED] = text
    elif not text and SCALED in st.query_params:
        del st.query_params[SCALED]


def _set_all(keys: Iterable[str], percent: int) -> None:
    for key in keys:
        st.session_state[key] = percent
