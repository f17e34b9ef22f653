"""One concept: where it is present, what it contributes to, what is like it, what rests on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from dashboards.views.concepts.exactness import APPROXIMATE, MARK, exactness_note, is_exact
from dashboards.views.concepts.neurons import CONCEPTS, Words, words_of
from dashboards.views.parts.charts import RANGE, bars, binned, histogram
from dashboards.views.parts.parts import Figure, Note, Part, Table, frame_of
from dashboards.views.parts.text import number_text, share_text
from evals.concepts.approximate import maps_note
from fact.traces.by_concept import Presences
from registry.columns import Column, ResultTable
from registry.wording import counted, verb

BINS = 40
CLASSES_SHOWN = 12
ABOUT_PRESENCE = (
    "Presence: the sum of its activations over an image, in units of the layer. Images without the "
    "concept are left out; counts are on a logarithmic scale. "
    "Drag over a part to see images of it."
)


# -- over images ------------------------------------------------------------------------------


def presence_parts(
    name: str, presences: Presences, index: int, statistics: xr.Dataset
) -> list[Part]:
    """Return in how many images a concept is how strongly present, and in which classes.

    Parameters
    ----------
    name : str
        Of the files.
    presences : Presences
        What was read so far.
    index : int
        Of the concept, in the dataset.
    statistics : xr.Dataset
        ``label``, ``prediction`` and ``target`` (image), with the coordinate ``class``; none of
        these of neurons that are no concepts.
    """
    words = words_of(statistics)
    read, column = presences.n_read, presences.column(index)
    present = column["presence"] != 0
    found = presence_note(int(present.sum()), read, words)
    if not presences.is_whole:
        found += f" {read:,} of {counted(presences.n_images, words.input)} read so far."
    if not len(column):
        return [Note(found)]
    if "label" not in statistics:  # neurons that are no concepts
        return [_activation_figure(name, column["presence"], read, words)]
    return [
        Figure(
            f"{name}-presence",
            histogram(
                presence_bins(column["presence"][present]),
                x_title="presence (units of the layer)",
                y_title="images",
                y_log=True,
                height=264,
                is_marked=True,
            ),
            "How strongly it is present",
            f"{found} {ABOUT_PRESENCE}",
        ),
        *_class_parts(name, column[present], column, read, statistics),
    ]


def _activation_figure(name: str, values: NDArray[np.floating], read: int, words: Words) -> Figure:
    """Return the histogram of a neuron's activations, but for those that are 0."""
    zeros = read - len(values)
    chart = histogram(
        presence_bins(values),
        x_title=words.strength,
        y_title=f"{words.input}s",
        y_log=True,
        height=264,
        is_marked=True,
    )
    note = (
        f"Over {counted(read, words.input)}; {zeros:,} where it is 0 {verb(zeros, 'is', 'are')} "
        "left out. Counts are on a logarithmic "
        f"scale. Drag over a part to see {words.input}s of it."
    )
    return Figure(f"{name}-activation", chart, "How strongly it is active", note)


def marked_range(event: Any) -> tuple[float, float] | None:
    """Return which part of a histogram a reader has marked; None for none.

    Parameters
    ----------
    event : mapping
        As `st.altair_chart` returns it.
    """
    marked = (event or {}).get("selection", {}).get(RANGE, {})
    ends = next((ends for ends in marked.values() if len(ends) == 2), None)
    return (float(min(ends)), float(max(ends))) if ends else None


def presence_note(present: int, images: int, words: Words = CONCEPTS) -> str:
    """Return in how many images a concept is present, and in which fraction it is not."""
    if not images:
        return f"No {words.input}s read yet."
    if not words.is_concept:
        zeros = counted(images - present, words.input)
        return f"Its {words.strength} is 0 in {zeros} of {images:,}."
    return (
        f"Present in {present:,} of {counted(images, 'image')}; "
        f"its presence is 0 in {share_text(1 - present / images)}."
    )


def presence_bins(values: NDArray[np.floating], bins: int = BINS) -> pd.DataFrame:
    """Return a histogram of presences as ``low``, ``high`` and ``value``, a count.

    Parameters
    ----------
    values : ndarray
        Presences that are not 0.
    bins : int
        Bins of equal width from 0, or from the lowest value if that is below.
    """
    if not len(values):
        return pd.DataFrame({"low": [], "high": [], "value": []})
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    return binned(values, np.linspace(low, high, bins + 1))


def _class_parts(
    name: str, present: np.ndarray, column: np.ndarray, read: int, statistics: xr.Dataset
) -> list[Part]:
    classes = statistics["class"].values.astype(str).tolist()
    known = "label" if (statistics["label"].values[:read] >= 0).any() else "prediction"
    shares = class_shares(present["row"], statistics[known].values[:read], classes)
    given = class_contributions(column, statistics["target"].values[:read], classes)
    what = {"label": "labelled", "prediction": "predicted"}[known]

    def figure(key: str, frame: pd.DataFrame, title: str, note: str, **look: str) -> Figure:
        if len(frame) > CLASSES_SHOWN:
            note += f" The first {CLASSES_SHOWN} of {counted(len(frame), 'class')}."
        return Figure(f"{name}-{key}", bars(frame.head(CLASSES_SHOWN), **look), title, note.strip())

    present_in = f"Fraction of the images {what} as the class."
    title = "Classes it is present in"
    given_as = "contribution" if is_exact(statistics) else MARK
    contributed = f"mean {given_as}"
    note = f"To the logit, over images explained for the class. {exactness_note(statistics)}"
    return [
        figure("classes", shares, title, present_in, x_title="fraction of images", form=".1%"),
        figure("contributions", given, "Classes it contributes to", note, x_title=contributed),
    ]


def class_shares(
    rows: NDArray[np.integer], of_image: NDArray[np.integer], classes: Sequence[str]
) -> pd.DataFrame:
    """Return the fraction of each class's images in which a concept is present.

    Parameters
    ----------
    rows : ndarray of int
        Indices of the images in which it is present.
    of_image : ndarray of int, (image,)
        Class of every image; below 0 where it has none.
    classes : sequence of str
        Names of the classes.

    Returns
    -------
    pd.DataFrame
        ``label``, ``value``, the fraction, ``images``, the class's images; the largest first,
        classes without an image or without the concept left out.
    """
    return _by_class(_counts(of_image[rows], len(classes)), of_image, classes)


def class_contributions(
    column: np.ndarray, target: NDArray[np.integer], classes: Sequence[str]
) -> pd.DataFrame:
    """Return the mean contribution of a concept to the logit of each class.

    Parameters
    ----------
    column : ndarray of `fact.traces.by_concept.ENTRY`
        Of the concept; images without an entry count as 0.
    target : ndarray of int, (image,)
        The class whose logit is explained, of every image.
    classes : sequence of str
        Names of the classes.

    Returns
    -------
    pd.DataFrame
        ``label``, ``value``, the mean, ``images``; the largest amount first, zeros left out.
    """
    chosen = target[column["row"]]
    inside = chosen >= 0
    given = column["contribution"][inside].astype(np.float64)
    summed = np.bincount(chosen[inside], weights=given, minlength=len(classes))
    return _by_class(summed[: len(classes)], target, classes)


def _counts(of_image: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    return np.bincount(of_image[of_image >= 0], minlength=classes)[:classes]


def _by_class(
    summed: NDArray[Any], of_image: NDArray[np.integer], classes: Sequence[str]
) -> pd.DataFrame:
    """Return sums by class over its images, the largest amount first, zeros left out."""
    total = _counts(of_image, len(classes))
    value = summed / np.maximum(total, 1)
    frame = pd.DataFrame({"label": list(classes), "value": value, "images": total})
    return frame[summed != 0].sort_values(
        "value", key=lambda own: -own.abs(), kind="stable", ignore_index=True
    )


# -- what rests on it -------------------------------------------------------------------------

DECISION_COLUMNS = {
    "rank": Column("d", "rank", "by contribution, from 1"),
    "contribution": Column(".3g", "contribution", "to the logit of the explained class"),
    "share": Column(".1%", "share", "of all positive contributions"),
}
LOCATIONS = ResultTable(
    "measure",
    {
        "score": Column(".3f", "score", "mean over the images that show the name"),
        "low": Column(".3f", "from", "lower end of its interval of 95 %", "interval_low"),
        "high": Column(".3f", "to", "upper end of its interval of 95 %", "interval_high"),
        "chance": Column(".3f", "chance", "of a uniform map"),
        "lift": Column("+.3f", "above chance", "score minus chance"),
    },
)
"""How well a concept's maps lie on what its name names."""


def decision_columns(decisions: xr.Dataset) -> dict[str, Column]:
    """Return the columns of :func:`decision_frame`, which say whether contributions are exact."""
    if is_exact(decisions):
        return DECISION_COLUMNS
    return DECISION_COLUMNS | {
        "contribution": Column(".3g", MARK, APPROXIMATE),
        "share": Column(".1%", "≈ share", "of all positive contributions, an approximation"),
    }


def decision_frame(decisions: xr.Dataset, concept: int) -> pd.DataFrame:
    """Return the explained decisions among whose first concepts one is.

    Parameters
    ----------
    decisions : xr.Dataset
        ``top_concept``, ``contribution``, ``share`` (image, rank); ``target`` (image); ``class``.
    concept : int
        Its index.

    Returns
    -------
    pd.DataFrame
        ``image``, ``explained``, the class, ``rank``, ``contribution``, ``share``, the largest
        share first.
    """
    rows, indices = np.nonzero(decisions["top_concept"].values == concept)
    classes = decisions["class"].values.astype(str)
    frame = pd.DataFrame(
        {
            "image": decisions["image"].values.astype(str)[rows],
            "explained": classes[decisions["target"].values[rows]],
            "rank": indices + 1,
            "contribution": decisions["contribution"].values[rows, indices],
            "share": decisions["share"].values[rows, indices],
        }
    )
    return frame.sort_values("share", ascending=False, kind="stable").reset_index(drop=True)


def location_parts(name: str, localisation: xr.Dataset, concept: int) -> list[Part]:
    """Return whether a concept is where its name says; nothing for one that was not mapped."""
    if concept not in localisation.indexes["concept"]:
        return []
    own = localisation.sel(concept=concept)
    label, shown = str(own["name"].values), int(own["n_shown"])
    note = (
        f"Of {counted(int(own['n_images']), 'mapped image')} {shown:,} "
        f"{verb(shown, 'shows', 'show')} {label!r}. Pointing: whether "
        "the strongest point is inside; energy: the fraction of the map inside; iou: overlap. "
        f"{maps_note(localisation)}"
    ).strip()
    frame, title = frame_of(LOCATIONS, own), "Is it where its name is?"
    return [Table(f"{name}-localisation", frame, title, note, LOCATIONS.columns)]


@dataclass(frozen=True)
class Return:
    """What a concept is matched to in another set.

    Attributes
    ----------
    basis : str
        ``decoder`` or ``presence``.
    concept : int
        Of the other set; -1 where there is none.
    similarity : float
        Cosine or correlation; NaN where there is no match.
    chance : float
        Mean similarity of matches of the null.
    threshold : float
        Similarity from which on a match counts as the same, the middle one of the matching.
    """

    basis: str
    concept: int
    similarity: float
    chance: float
    threshold: float

    @property
    def is_there(self) -> bool:
        """Whether there is a match."""
        return self.concept >= 0

    @property
    def text(self) -> str:
        """It in words."""
        if not self.is_there:
            return f"by {self.basis}: no match"
        what = {"decoder": "cosine", "presence": "correlation"}.get(self.basis, "similarity")
        return (
            f"by {self.basis}: concept {self.concept}, {what} {number_text(self.similarity)} "
            f"(by chance {number_text(self.chance)})"
        )


def returns(matching: xr.Dataset, concept: int, is_first: bool = True) -> list[Return]:
    """Return what a concept is matched to, by each basis.

    Parameters
    ----------
    matching : xr.Dataset
        Of the schema ``matching``.
    concept : int
        Its index in its own set.
    is_first : bool
        Whether its set is the first of both; the matching is one to one, and is read backwards if
        not.
    """
    thresholds = matching["threshold"].values
    middle = float(thresholds[len(thresholds) // 2]) if len(thresholds) else np.nan
    found = []
    for basis in matching["basis"].values:
        own = matching.sel(basis=basis)
        pairs = own[["match", "similarity"]].to_dataframe().reset_index().query("match >= 0")
        mine, other = ("concept", "match") if is_first else ("match", "concept")
        match = pairs.loc[pairs[mine] == concept, [other, "similarity"]]
        index, similarity = match.iloc[0] if len(match) else (-1, np.nan)
        chance = float(own["null_mean_similarity"])
        found.append(Return(str(basis), int(index), float(similarity), chance, middle))
    return found
