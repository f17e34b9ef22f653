"""Images of a concept beyond the strongest: across its range, at random, and those that lack it.

What is strongest flatters a concept: whether it means one thing is seen where it is weak, and
whether its name fits where the name is and the concept is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dashboards.views.concepts.neurons import CONCEPTS, Words
from dashboards.views.parts.text import number_text
from fact.traces.by_concept import ENTRY
from registry.wording import counted

STRONGEST, LOWEST = "Strongest", "Lowest"
ACROSS, RANDOM, WITHOUT = "Across its range", "At random", "Named, without it"
BANDS = ("strongest quarter", "second quarter", "third quarter", "weakest quarter")
IN_BAND = 4
"""Images of each quarter, and of a row."""

AT_ONCE = 12

STRONG = 10
"""A neuron, which is nowhere absent, is strong in one of so many inputs."""


@dataclass(frozen=True)
class Examples:
    """Some images of a concept, with what they are.

    Attributes
    ----------
    title, note : str
        In words; the note says how they were drawn.
    rows : ndarray of int
        Indices of the images in the dataset.
    presence : ndarray of float
        Of the concept in each.
    """

    title: str
    rows: NDArray[np.int64]
    presence: NDArray[np.float64]
    note: str = ""

    @classmethod
    def of(cls, title: str, entries: np.ndarray, note: str = "") -> Examples:
        """Return some entries of a concept as examples, in their order."""
        rows, presence = entries["row"].astype(np.int64), entries["presence"].astype(np.float64)
        return cls(title, rows, presence, note)


def present(column: np.ndarray) -> np.ndarray:
    """Return the entries in which a concept is present, the strongest first.

    Parameters
    ----------
    column : ndarray of `fact.traces.by_concept.ENTRY`
        Of the concept.
    """
    known = column[column["presence"] != 0]
    order = np.argsort(-known["presence"], kind="stable")
    return np.asarray(known[order])


def strongest(column: np.ndarray, count: int = AT_ONCE, words: Words = CONCEPTS) -> Examples:
    """Return the images in which a concept is strongest."""
    note = f"{words.input.capitalize()}s with the largest {words.strength}."
    return Examples.of("", present(column)[:count], note)


def across(
    column: np.ndarray, seed: int, count: int = IN_BAND, words: Words = CONCEPTS
) -> list[Examples]:
    """Return images of each quarter of those in which a concept is present, the strongest first.

    Parameters
    ----------
    column : ndarray of `fact.traces.by_concept.ENTRY`
        Of the concept.
    seed : int
        By which images of a quarter are drawn.
    count : int
        Images of each quarter at most.
    words : Words
        For the set.
    """
    ranked = present(column)
    draw = np.random.default_rng(seed)
    found = []
    for name, quarter in zip(BANDS, np.array_split(ranked, len(BANDS)), strict=True):
        if not len(quarter):
            continue
        high, low = (number_text(quarter["presence"][end]) for end in (0, -1))
        title = f"{name.capitalize()}: {words.strength} {low} to {high}, "
        title += counted(len(quarter), words.input)
        found.append(Examples.of(title, _drawn(quarter, draw, count)))
    return found


def at_random(
    column: np.ndarray, seed: int, count: int = AT_ONCE, words: Words = CONCEPTS
) -> Examples:
    """Return images drawn from all in which a concept is present, in the order of drawing."""
    known = np.sort(present(column), order="row")
    draw = np.random.default_rng(seed)
    drawn = known[draw.permutation(len(known))[:count]]
    note = (
        f"Drawn from the {counted(len(known), words.input)} {words.where}, whatever its "
        f"strength (seed {seed})."
    )
    return Examples.of("", drawn, note)


def in_range(
    column: np.ndarray,
    low: float,
    high: float,
    seed: int,
    count: int = AT_ONCE,
    words: Words = CONCEPTS,
) -> Examples:
    """Return images whose presence is in a range, ends included, the strongest first."""
    ranked = present(column)
    inside = ranked[(ranked["presence"] >= low) & (ranked["presence"] <= high)]
    drawn = _drawn(inside, np.random.default_rng(seed), count)
    title = f"{words.strength.capitalize()} {number_text(low)} to {number_text(high)}: "
    title += counted(len(inside), words.input)
    note = f"{len(drawn)} of them, drawn with seed {seed}." if len(drawn) < len(inside) else ""
    return Examples.of(title, drawn, note)


def without(
    column: np.ndarray,
    labelled: NDArray[np.integer],
    label: str,
    seed: int,
    count: int = AT_ONCE,
    words: Words = CONCEPTS,
) -> Examples:
    """Return images that show the label of a concept, and in which the concept is absent.

    Where it is absent from none, those with its lowest presence; of a neuron those in which it is
    lowest.

    Parameters
    ----------
    column : ndarray of `fact.traces.by_concept.ENTRY`
        Of the concept.
    labelled : ndarray of int
        Indices of the images that show the label.
    label : str
        Its name.
    seed : int
        By which they are drawn.
    count : int
        Images at most.
    words : Words
        For the set.
    """
    entries = present(column)
    lacking = np.setdiff1d(labelled, entries["row"])
    shown = f"{counted(len(labelled), words.input)} that show {label!r}"
    if not len(labelled):
        note = f"No {words.input} here is known to show {label!r}."
        return Examples("", lacking, np.zeros(0), note)
    if not words.is_concept:
        zeros = np.zeros(len(lacking), ENTRY)
        zeros["row"] = lacking
        every = np.concatenate([entries[np.isin(entries["row"], labelled)], zeros])
        lowest = every[np.argsort(every["presence"], kind="stable")][:count]
        note = f"Of the {shown}, those in which the {words.strength} is lowest."
        return Examples.of("", lowest, note)
    if len(lacking):
        drawn = np.random.default_rng(seed).permutation(lacking)[:count]
        share = f"Of the {shown}, {len(lacking):,} lack the concept"
        note = f"{share}. These are drawn with seed {seed}."
        return Examples("", drawn.astype(np.int64), np.zeros(len(drawn)), note)
    weakest = entries[np.isin(entries["row"], labelled)][::-1][:count]
    note = f"The concept is present in each of the {shown}. These have the least of it."
    return Examples.of("", weakest, note)


def pair(
    one: np.ndarray,
    other: np.ndarray,
    names: tuple[str, str],
    count: int = IN_BAND,
    words: Words = CONCEPTS,
) -> list[Examples]:
    """Return images in which two concepts are both present, and those of each without the other.

    Of neurons, which are nowhere absent, those in which they are strong: one in `STRONG` of each.

    Parameters
    ----------
    one, other : ndarray of `fact.traces.by_concept.ENTRY`
        Of the concepts.
    names : pair of str
        What they are called.
    count : int
        Images of each kind at most.

    Returns
    -------
    list of Examples
        Three: of both, by the smaller of both ranks; of the first alone; of the second alone.
    """
    ranked = [present(one), present(other)]
    if not words.is_concept:
        ranked = [own[: -(-len(own) // STRONG)] for own in ranked]
    ranks = [dict(zip(own["row"].tolist(), range(len(own)), strict=True)) for own in ranked]
    both = sorted(ranks[0].keys() & ranks[1].keys())
    both.sort(key=lambda row: max(ranked_by[row] for ranked_by in ranks))
    shared = ranked[0][[ranks[0][row] for row in both[:count]]]
    strong = "" if words.is_concept else f" Strong: in its first {100 // STRONG} %."
    note = f"{words.strength.capitalize()} of {names[0]}.{strong}"
    found = [Examples.of(f"Both: {counted(len(both), words.input)}", shared, note)]
    for own, others, name in zip(ranked, ranks[::-1], names, strict=True):
        alone = own[~np.isin(own["row"], list(others))]
        title = f"Only {name}: {counted(len(alone), words.input)}"
        found.append(Examples.of(title, alone[:count]))
    return found


def _drawn(entries: np.ndarray, draw: np.random.Generator, count: int) -> np.ndarray:
    """Return some entries drawn without replacement, in the order in which they were."""
    if len(entries) <= count:
        return entries
    return entries[np.sort(draw.permutation(len(entries))[:count])]
