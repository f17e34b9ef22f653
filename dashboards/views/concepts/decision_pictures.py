"""Where concepts of a decision are in its image, in colours and amounts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from PIL import ImageColor

from dashboards.views.concepts.decision import Decision, Term
from dashboards.views.concepts.decision_names import NAMELESS, Naming
from dashboards.views.concepts.decision_words import mark, others_line, share_line, term_line
from dashboards.views.parts.charts import BLUE, VERMILION
from dashboards.views.parts.parts import Picture, Pictures
from dashboards.views.parts.pictures import (
    ABOUT_DOTS,
    AMOUNTS,
    COLOURS,
    EXACT_AMOUNTS,
    colour_layers,
    smoothed_map,
)
from fact.traces.plots import over_white


def picture_in(decision: Decision, explanation: np.ndarray, map: np.ndarray) -> Picture:
    """Return the image of a decision with where something is in it, as layers.

    Parameters
    ----------
    decision : Decision
        Whose image it is.
    explanation : np.ndarray
        uint8 (y, x, rgba).
    map : np.ndarray
        float (y, x).
    """
    amounts = {AMOUNTS: heat(smoothed_map(map)), EXACT_AMOUNTS: heat(map)}
    return Picture(decision.picture, layers={**colour_layers(explanation), **amounts})


def whole_picture(decision: Decision) -> Picture:
    """Return the image of a decision with where its logit comes from."""
    return picture_in(decision, decision.explanation, decision.map)


def term_pictures(
    decision: Decision, naming: Naming, terms: Sequence[Term], link: Callable[[int], str]
) -> Pictures:
    """Return where each of some concepts is in the image, with what it gives.

    Parameters
    ----------
    decision : Decision
        Whose image it is.
    naming : Naming
        What concepts are called.
    terms : sequence of Term
        Which, from the left.
    link : callable
        The address of a concept.
    """
    pictures = []
    for term in terms:
        own = picture_in(decision, term.explanation, term.map)
        lines = (
            naming.short(term.concept),
            share_line(term, decision),
            naming.notes.get(term.concept, ""),
        )
        told = (
            naming.title(term.concept),
            term_line(term, decision),
            naming.verdict.get(term.concept, ""),
        )
        pictures.append(
            replace(
                own,
                caption="\n".join(filter(None, lines)),
                details="; ".join(filter(None, told)),
                face=over_faded(own.layers[COLOURS], decision.picture),
                link=link(term.concept),
            )
        )
    return Pictures(pictures)


def others_picture(decision: Decision) -> Pictures:
    """Return where all concepts without a map are, together."""
    own = picture_in(decision, decision.others_explanation, decision.others_map)
    face = over_faded(own.layers[COLOURS], decision.picture)
    return Pictures([replace(own, caption="all others", details=others_line(decision), face=face)])


def subject_pictures(decision: Decision, image: str) -> Pictures:
    """Return the image, and where what is explained comes from."""
    whole = whole_picture(decision)
    seen = replace(
        whole, caption=f"{decision.label or image}\nas the network sees it", details=image
    )
    origin = replace(
        whole,
        caption=f"{mark(decision)}where it comes from\n{decision.quantity}",
        details=image,
        face=over_white(whole.layers[COLOURS]),
    )
    return Pictures([seen, origin])


def over_faded(layer: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Return a layer (y, x, rgba) over an image (y, x, colour) in faint grey."""
    grey = picture.astype(np.float64).mean(axis=2, keepdims=True)
    ground = 255 - 0.3 * (255 - grey)
    opacity = layer[..., 3:] / 255
    return np.asarray(np.rint(ground * (1 - opacity) + layer[..., :3] * opacity), dtype=np.uint8)


def heat(map: np.ndarray) -> np.ndarray:
    """Return a map as a layer: blue adds, vermilion takes away.

    Parameters
    ----------
    map : np.ndarray
        float (y, x).

    Returns
    -------
    np.ndarray
        uint8 (y, x, rgba). Full colour is at the 99.5th percentile of the map's size.
    """
    size = np.abs(map)
    top = np.percentile(size, 99.5)
    strength = np.clip(size / top, 0, 1) if top > 0 else np.zeros_like(size, dtype=np.float64)
    adds, takes = (ImageColor.getrgb(colour) for colour in (BLUE, VERMILION))
    colour = np.where((map >= 0)[..., None], adds, takes)
    opacity = np.rint(255 * np.sqrt(strength))[..., None]
    return np.concatenate([colour, opacity], axis=2).astype(np.uint8)


ABOUT_PICTURES = (
    "Colours: what the network responds to there, white where nothing. Amounts: what each pixel "
    "adds (blue) or subtracts (orange-red), each map scaled to its largest. "
    f"{ABOUT_DOTS} "
    "A click enlarges, with the exact weights and amounts. For a concept against "
    "the class, the colours are of what it subtracts. Maps of codes that were up-sampled, and by "
    "CRP, have the image's own colours, and are an approximation. Where the sum is exact, it is so "
    "for this image as it is; removing a concept changes the others too: see Intervention."
)


def decision_pictures(decision: Decision, naming: Naming = NAMELESS) -> Pictures:
    """Return the image, where its logit comes from, and every term."""
    pictures = [replace(whole_picture(decision), caption=f"all\n{decision.quantity}")]
    pictures += [
        replace(
            picture_in(decision, term.explanation, term.map),
            caption=f"{naming.title(term.concept)}\n{term_line(term, decision)}",
        )
        for term in decision.terms
    ]
    others = picture_in(decision, decision.others_explanation, decision.others_map)
    pictures += [replace(others, caption=f"all others\n{others_line(decision)}")]
    note = (
        "Below each image, where the concept is in it: the colours that it responds to, on white. "
        f"{ABOUT_DOTS}"
    )
    return Pictures(pictures, note=note, below=COLOURS)
