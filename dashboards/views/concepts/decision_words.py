"""Decisions in words: what is said of an image, the sum, what maps leave out."""

from __future__ import annotations

import numpy as np

from dashboards.views.concepts.decision import Decision, Term
from dashboards.views.concepts.decision_names import NAMELESS, REPEATS, Naming
from dashboards.views.concepts.exactness import APPROXIMATE
from dashboards.views.parts.text import number_text, share_text
from registry.wording import counted, signed_text, verb

AGAINST_MATTERS = 0.1
POSITION_MATTERS = 1e-3
"""Fraction of the logit from which on the page says what maps leave out."""


def percent_text(share: float) -> str:
    """Return a probability or a share in percent; nearly none or all as a bound."""
    if not np.isfinite(share):
        return "–"
    if 0 < share < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= share < 1:
        return "> 99.9 %"
    return share_text(round(share, 3))


def probability_text(probability: float) -> str:
    """Return a probability in percent: a sigmoid is never 0 or 1, it is only rounded to them."""
    return percent_text(float(np.clip(probability, 1e-9, 1 - 1e-9)))


OWN_SIGMOID = "each class has a sigmoid of its own, so they need not add up to 100 %"
"""Of probabilities that do not."""


def _probability(of: float, every: np.ndarray, unsure: str = "") -> str:
    """Return the probability of a class; of a low one also that those of all are no shares."""
    lines = [f"probability {probability_text(of)}"]
    if of < 0.5:
        lines[0] += unsure
        lines += [OWN_SIGMOID] if abs(float(every.sum()) - 1) > 1e-3 else []
    return "; ".join(lines)


def said_text(name: str, index: int, probabilities: np.ndarray) -> str:
    """Return a class with its probability, given those of all classes (class,)."""
    return f"{name} ({_probability(float(probabilities[index]), probabilities)})"


def verdict_line(decision: Decision) -> str:
    """Return what the network says of the image, and whether that is right."""
    probability = ""
    if decision.classes is not None:
        every = decision.classes.set_index("class")["probability"]
        own, values = float(every.loc[decision.prediction]), every.to_numpy(dtype=np.float64)
        probability = f" ({_probability(own, values, ', and no class reaches 50 %')})"
    said = f"The network says {decision.prediction}{probability}"
    if not decision.label:
        return f"{said}."
    if decision.label == decision.prediction:
        return f"{said}, and is right."
    return f"{said}, and is wrong: the label is {decision.label}."


def reason_line(decision: Decision, naming: Naming = NAMELESS) -> str:
    """Return the sum of a decision, and the shares of what speaks for it."""
    sums = sum_line(decision)
    if not decision.for_it:
        return sums
    lines = [
        f"{mark(decision)}{percent_text(t.share)} {naming.called(t.concept)}"
        for t in decision.for_it
    ]
    lines += [f"{percent_text(decision.others_share)} all others"] if decision.others_share else []
    lines += [f"{percent_text(decision.offset_share)} the offset"] if decision.offset_share else []
    repeating = [own for own, note in naming.notes.items() if note == REPEATS]
    shown = [str(t.concept) for t in decision.for_it if t.concept in repeating]
    several = len(shown) > 1
    note = (
        f" The name of concept{'s' * several} {', '.join(shown)}, {naming.repeated}, {REPEATS}."
        if shown
        else ""
    )
    return f"{sums} Of what speaks for it: {', '.join(lines)}.{note}"


def sum_line(decision: Decision) -> str:
    """Return in one sentence what adds up to what is explained."""
    count = (
        "its concepts" if decision.n_concepts is None else counted(decision.n_concepts, "concept")
    )
    total = number_text(decision.logit)
    count += f" and the offset ({signed_text(decision.offset)})" if decision.offset else ""
    sign = mark(decision)
    parts = f"{sign}{signed_text(decision.positive)} for it, "
    parts += f"{sign}{signed_text(decision.negative)} against it"
    sums = f"The {decision.quantity} is {total}, which is exactly what {count} add up to: {parts}."
    if not decision.exact:
        sums = (
            f"The {decision.quantity} is {total}. What {count} give is {APPROXIMATE}: {parts}, and "
            f"{signed_text(decision.missed)} that no concept accounts for."
        )
    return sums if decision.for_it else f"{sums} No concept speaks for it."


def repeats_line(decision: Decision, naming: Naming) -> str:
    """Return how many of those that speak for a class have only this class as best label."""
    count = sum(term.concept in naming.notes for term in decision.for_it)
    if not count:
        return ""
    of = f"{count} of {counted(len(decision.for_it), 'name')}"
    return f"{of} only {verb(count, 'repeats', 'repeat')} the class {decision.target}"


def meaning_of_shares(decision: Decision) -> str:
    """Return what shares are of."""
    if decision.against:
        return (
            f"A concept contributes to both logits; counted is by how much more to that of "
            f"{decision.target} than to that of {decision.against}. Shares are of the sum of these "
            "differences where they are above 0; they add up to 100 %."
        )
    return "Shares are of the sum of all contributions above 0; they add up to 100 %."


def residual_line(decision: Decision) -> str:
    """Return how exact the sum is."""
    missed = f"{number_text(decision.residual, 2)} of the sum of their absolute values"
    if not decision.exact:
        return f"Contributions are {APPROXIMATE}. They miss it by {missed}."
    return (
        f"Before the bias. The contributions miss it by {missed}; up to {number_text(1e-5)} is "
        "allowed."
    )


def position_line(decision: Decision) -> str:
    """Return what the maps leave out, "" where that is nothing."""
    constant = decision.missed + (decision.offset or 0.0)
    missing = decision.logit - constant - float(decision.map.sum(dtype=np.float64))
    if abs(missing) <= POSITION_MATTERS * max(abs(decision.logit), decision.positive, 1e-12):
        return ""
    place = "a positional embedding or the bias of an encoder"
    return (
        f"{number_text(missing)} of it comes through "
        f"{place if decision.exact else 'a class token or biases'}, which are in no pixel: the "
        "maps leave it out."
    )


def term_line(term: Term, decision: Decision) -> str:
    """Return what a concept gives, in words."""
    amount = f"{mark(decision)}{signed_text(term.contribution)}"
    if term.contribution < 0:
        return f"{amount} of the {signed_text(decision.negative)} against it"
    return f"{amount} of the {signed_text(decision.positive)} for it: {percent_text(term.share)}"


def share_line(term: Term, decision: Decision) -> str:
    """Return what a concept gives and which share that is, in few words."""
    amount = f"{mark(decision)}{signed_text(term.contribution)}"
    return f"{amount} · {percent_text(term.share)}" if term.contribution > 0 else amount


def mark(decision: Decision) -> str:
    """Return what stands before amounts that are an approximation."""
    return "" if decision.exact else "≈ "


def matters(decision: Decision) -> bool:
    """Return whether what speaks against it is worth a look: a tenth of what speaks for it."""
    return -decision.negative >= AGAINST_MATTERS * decision.positive


def others_line(decision: Decision) -> str:
    """Return what all concepts without a map give together."""
    sign = mark(decision)
    text = f"{sign}{signed_text(decision.others)} in all"
    parts = f"{sign}{signed_text(decision.others_for)} for it"
    if decision.positive > 0:
        parts += (
            f", {percent_text(decision.others_share)} of the {sign}{signed_text(decision.positive)}"
        )
    return f"{text}: {parts}; {sign}{signed_text(decision.others_against)} against it"
