"""What pages and reports are made of: tables, figures, pictures and words, to be shown anywhere.

A view returns parts; a page shows them in a browser, a report writes them into a file. What can be
downloaded of each is said here once: a table as CSV and LaTeX, a figure as SVG.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.parts.measured import ACCURACIES, BY_COMMONEST, commonest_of
from dashboards.views.parts.text import number_text, share_text, value_text
from registry.columns import Column, ResultTable
from registry.terminal import latex_table

MISSING = "–"
PICTURE = "picture"
"""Form of a column of pictures, as ``data:`` addresses; files of numbers leave it out."""
WIDTH = 640
"""Pixels of a figure in a file, unless its chart says another."""
PADDING = {"left": 5, "top": 5, "bottom": 5, "right": 14}
"""Pixels around a chart: at the right, for the half of an axis's last number."""
SIDE, SLACK = 60, 20
"""Characters of a text that stand on each side of its token at first; so many more are not cut."""


@dataclass(frozen=True)
class Number:
    """One number of a summary, ready to be shown.

    Attributes
    ----------
    label, value : str
        What it is called, and what it is.
    meaning : str
        What it means, at more length.
    of : str
        What it was measured on, where that has to be said: ``of 100 test images``.
    """

    label: str
    value: str
    meaning: str = ""
    of: str = ""

    @property
    def title(self) -> str:
        """What stands above it: what it is called, and what it was measured on."""
        return f"{self.label}, {self.of}" if self.of else self.label


def numbers_line(numbers: Iterable[Number], between: str = " · ") -> str:
    """Return numbers in one line: ``accuracy 91 % of 100 test images · concepts per image 51.4``.

    What several in a row were measured on is said once.
    """
    told, before = [], ""
    for number in numbers:
        of = f" {number.of}" if number.of and number.of != before else ""
        told.append(f"{number.label} {number.value}{of}")
        before = number.of
    return between.join(told)


@dataclass(frozen=True)
class Numbers:
    """Numbers that stand side by side."""

    numbers: Sequence[Number]


@dataclass(frozen=True)
class Heading:
    """A heading of what follows it."""

    text: str


@dataclass(frozen=True)
class Note:
    """A paragraph: ours, or stored text, which is shown letter by letter.

    Attributes
    ----------
    text : str
        Plain text.
    kind : str
        ``caption``, ``info`` or ``warning``.
    """

    text: str
    kind: str = "caption"


@dataclass(frozen=True)
class Answer:
    """What numbers say in one sentence, with which a page begins: plain text."""

    text: str


@dataclass(frozen=True)
class Fold:
    """Parts that are there when they are asked for.

    Attributes
    ----------
    title : str
        What they are, which is always seen.
    parts : sequence of Part
        No folds.
    """

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Table:
    """A table with how it is called, shown and downloaded.

    Attributes
    ----------
    name : str
        Of the downloaded file, without its ending.
    frame : pd.DataFrame
        Its index is not shown.
    title, note : str
        Above and below it.
    columns : mapping of str to Column
        How to show them; others are shown as they are.
    in_sight : int
        Rows that a page shows before one scrolls in it.
    """

    name: str
    frame: pd.DataFrame
    title: str = ""
    note: str = ""
    columns: Mapping[str, Column] = field(default_factory=dict)
    in_sight: int = 12

    def csv(self) -> str:
        """Return it as CSV, numbers in full."""
        return str(self.without_pictures().frame.to_csv(index=False, lineterminator="\n"))

    def latex(self) -> str:
        """Return it as LaTeX with the rules of booktabs, numbers as they are shown."""
        table = self.without_pictures()
        shown = table.texts()
        align = "".join("r" if is_numeric(table.frame[name]) else "l" for name in table.frame)
        return latex_table(shown.columns, shown.itertuples(index=False, name=None), align)

    def without_pictures(self) -> Table:
        """Return it without columns of pictures."""
        pictures = [name for name, column in self.columns.items() if column.form == PICTURE]
        return replace(self, frame=self.frame.drop(columns=pictures, errors="ignore"))

    def texts(self) -> pd.DataFrame:
        """Return every cell as it is shown, columns by their titles."""
        columns = {name: self.columns.get(str(name), Column()) for name in self.frame}
        known = self.frame.astype(object).where(self.frame.notna(), None)
        texts = [
            [
                column.text(value, MISSING) if column.form or value is None else value_text(value)
                for value in known[name].tolist()
            ]
            for name, column in columns.items()
        ]
        titles = [column.header or str(name) for name, column in columns.items()]
        return pd.DataFrame(dict(enumerate(texts)), dtype=object).set_axis(titles, axis=1)


@dataclass(frozen=True)
class Figure:
    """A chart with how it is called, shown and downloaded.

    Attributes
    ----------
    name : str
        Of the downloaded file, without its ending.
    chart : altair chart
        With its data inside.
    title, note : str
        Above and below it.
    least_width : int
        Pixels; a narrower page scrolls it sideways rather than squeeze it.
    """

    name: str
    chart: Any
    title: str = ""
    note: str = ""
    least_width: int = 0

    def svg(self) -> str:
        """Return it as SVG on white, drawn here and without a network."""
        import vl_convert

        white = self.chart.configure(background="white").configure_view(
            stroke="#dddddd", continuousWidth=WIDTH, discreteWidth=WIDTH
        )
        return str(vl_convert.vegalite_to_svg(white.to_json(validate=False)))


@dataclass(frozen=True)
class Picture:
    """An image with what is said below it.

    Attributes
    ----------
    pixels : np.ndarray
        uint8 (y, x, colour).
    caption : str
        Plain text in short lines: what it is, and how strong.
    details : str
        Plain text that is there when it is asked for, as an id.
    layers : mapping of str to np.ndarray
        What can be laid over it, by name: uint8 (y, x, rgba).
    face : np.ndarray or None
        What is shown in its place until it is enlarged: uint8 (y, x, colour).
    link : str
        Where the caption leads: a path of this dashboard with its query.
    aside : tuple of str
        Another link below the caption: its words, and where it leads.
    """

    pixels: np.ndarray
    caption: str = ""
    details: str = ""
    layers: Mapping[str, np.ndarray] = field(default_factory=dict)
    face: np.ndarray | None = None
    link: str = ""
    aside: tuple[str, str] = ("", "")


def without_image() -> Picture:
    """Return a picture of which only what is said is shown."""
    return Picture(np.empty((0, 0, 3), np.uint8))


@dataclass(frozen=True)
class Pictures:
    """Images side by side, as many in a row as fit.

    Attributes
    ----------
    pictures : sequence of Picture
        From the left.
    title, note : str
        Above and below them.
    below : str
        Which layer stands below each; none by default, then it is seen where one points.
    """

    pictures: Sequence[Picture]
    title: str = ""
    note: str = ""
    below: str = ""

    def shown_layer(self, picture: Picture) -> str:
        """Return the layer that is seen of a picture first, "" where it has none."""
        return self.below if self.below in picture.layers else next(iter(picture.layers), "")


@dataclass(frozen=True)
class Passage:
    """A piece of a text, with one token of it marked.

    Attributes
    ----------
    before, token, following, after : str
        Plain text: what stands before the token, the token, the one behind it, and the rest.
    caption, title : str
        Plain text, below and above it.
    link : str
        Where the title leads: a path of this dashboard with its query.
    """

    before: str
    token: str
    following: str
    after: str
    caption: str = ""
    title: str = ""
    link: str = ""

    @property
    def texts(self) -> tuple[str, str, str, str]:
        """Its text in four parts."""
        return self.before, self.token, self.following, self.after

    @property
    def line(self) -> str:
        """Its text in one line, with the token in ⟦ ⟧."""
        return f"{self.before}⟦{self.token}⟧{self.following}{self.after}"

    def cut(self, most: int = SIDE) -> Passage:
        """Return it with about so many characters at most on each side, in whole words."""
        before, after = self.before, self.after
        if len(before) > most + SLACK:
            before = "…" + (before[-most:].partition(" ")[2] or before[-most:])
        if len(after) > most + SLACK:
            after = (after[:most].rpartition(" ")[0] or after[:most]) + "…"
        return replace(self, before=before, after=after)


@dataclass(frozen=True)
class Passages:
    """Pieces of texts, one below the other.

    Attributes
    ----------
    passages : sequence of Passage
        From above.
    title, note : str
        Above and below them.
    """

    passages: Sequence[Passage]
    title: str = ""
    note: str = ""


Part: TypeAlias = Answer | Heading | Note | Numbers | Table | Figure | Pictures | Passages


def folded(parts: Iterable[Part]) -> list[Part | Fold]:
    """Return parts with the details folded away: figures and tables, and what has a heading.

    A table or a figure becomes a fold by its title, a heading one of all that follows it up to the
    next; notes and numbers stay.
    """
    shown: list[Part | Fold] = []
    below: list[Part] | None = None
    for part in parts:
        if isinstance(part, Heading):
            below = []
            shown.append(Fold(part.text, below))
        elif below is not None:
            below.append(part)
        elif isinstance(part, Table | Figure | Pictures | Passages) and part.title:
            shown.append(Fold(part.title, [part]))
        else:
            shown.append(part)
    return shown


def frame_of(table: ResultTable, dataset: xr.Dataset) -> pd.DataFrame:
    """Return the rows that a declared table has of a dataset, empty columns too."""
    return pd.DataFrame(table.values(dataset, keep_empty=True))


def numbers_of(
    dataset: xr.Dataset,
    named: Mapping[str, tuple[str, str]],
    fractions: Collection[str],
    accuracies_of: str = "",
) -> list[Number]:
    """Return scalars of a dataset that stand side by side; absent ones are left out.

    Parameters
    ----------
    dataset : xr.Dataset
        With the scalars.
    named : mapping of str to (str, str)
        By variable, what it is called and what it means.
    fractions : collection of str
        Variables that are shown in percent.
    accuracies_of : str
        What accuracies were measured on, as :func:`measured.of_labelled` says it.
    """
    values = {name: float(dataset[name]) for name in named if name in dataset}
    texts = {
        name: share_text(value) if name in fractions else number_text(value)
        for name, value in values.items()
    }
    texts |= {name: MISSING for name, value in values.items() if np.isnan(value)}
    ofs = dict.fromkeys(ACCURACIES, accuracies_of)
    found = [Number(named[n][0], text, named[n][1], ofs.get(n, "")) for n, text in texts.items()]
    return beside_accuracies(found, commonest_of(dataset))


def beside_accuracies(numbers: Sequence[Number], commonest: float) -> list[Number]:
    """Return numbers with what always naming the commonest class reaches behind the accuracies.

    Parameters
    ----------
    numbers : sequence of Number
        Those that say what they are of are accuracies.
    commonest : float
        Share of the commonest class, in [0, 1]; NaN where that is not known.
    """
    last = max((place for place, number in enumerate(numbers, 1) if number.of), default=0)
    if not last or np.isnan(commonest):
        return list(numbers)
    meaning = "what naming the class that most of these images have gets right"
    own = Number(BY_COMMONEST, share_text(commonest), meaning)
    return [*numbers[:last], own, *numbers[last:]]


def file_name(*words: object) -> str:
    """Return words as the name of a file: letters, digits, dashes."""
    return re.sub(r"[^A-Za-z0-9]+", "-", " ".join(map(str, words))).strip("-").lower() or "factbook"


def is_numeric(column: pd.Series) -> bool:
    """Return whether a column holds numbers, which stand at its right."""
    return bool(pd.api.types.is_numeric_dtype(column) and column.dtype != bool)
