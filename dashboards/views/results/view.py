"""The one view of all kinds of results, declared by each: its numbers, blocks and comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.concepts.labels import CALLED, LABEL
from dashboards.views.parts.parts import (
    MISSING,
    Answer,
    Figure,
    Fold,
    Heading,
    Note,
    Number,
    Numbers,
    Part,
    Table,
    file_name,
    folded,
    frame_of,
)
from dashboards.views.parts.replicates import replicate_tables
from dashboards.views.parts.text import number_text
from evals.identification.identification_table import other_data_text
from evals.metrics.tolerance import faults_text
from evals.scoring.seen_images import choice_note, seen_note
from registry.catalog.seeds import seeded_name
from registry.columns import Column, ResultTable
from registry.replicates import Replicated, Replicates
from registry.wording import counted, formed

NAMES = ("name", LABEL)
"""Columns of tables of concepts that hold what these are named; what readers call them follows."""

Datasets: TypeAlias = Mapping[str, xr.Dataset]
"""Of one schema, by the cell that made each."""

MOST_IN_FULL = 4
"""Settings that are shown in full, one after the other, below what compares them all."""


def texts(own: xr.Dataset, name: str) -> list[str]:
    """Return the values of a variable or coordinate as texts."""
    return [str(value) for value in own[name].values]


def options_of(datasets: Datasets, name: str) -> list[str]:
    """Return the values of a coordinate of texts, of all datasets together, each once."""
    return list(dict.fromkeys(text for own in datasets.values() for text in texts(own, name)))


@dataclass(frozen=True)
class Choice:
    """One thing that a reader may choose on a page.

    Attributes
    ----------
    key : str
        Under which blocks find the chosen option, and the name in the address.
    label : str
        What it is called.
    options : sequence of str
        The first is chosen at first, unless the choice is optional.
    meaning : str
        What it changes.
    optional : bool
        Whether nothing may be chosen, which is how it begins.
    """

    key: str
    label: str
    options: Sequence[str]
    meaning: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Setting:
    """One setting of a result: what blocks are made of.

    Attributes
    ----------
    cell : str
        That made the dataset.
    own : xr.Dataset
        Of the view's schema.
    chosen : mapping of str to str
        Options by the key of their choice; "" where nothing is chosen.
    is_compared : bool
        Whether it is shown with others.
    held : dict
        What is computed once for all that is shown of it; see :meth:`once`.
    """

    cell: str
    own: xr.Dataset
    chosen: Mapping[str, str] = field(default_factory=dict)
    is_compared: bool = False
    held: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return what is computed the first time that it is asked for by a name."""
        if name not in self.held:
            self.held[name] = compute()
        return self.held[name]

    def has(self, key: str) -> bool:
        """Return whether what is chosen under a key is a value of the coordinate of its name."""
        return self.chosen[key] in texts(self.own, key)

    def table(
        self,
        name: str,
        rows: pd.DataFrame | ResultTable,
        title: str,
        note: str = "",
        **options: Any,
    ) -> Table:
        """Return a table whose file is called by the cell and a name.

        Parameters
        ----------
        name, title, note : str
            Of the file, above the table, and below it.
        rows : pd.DataFrame or ResultTable
            What it holds; of a declared one, what it has of this setting.
        **options
            As ``columns``, by default those of a declared one.
        """
        if isinstance(rows, ResultTable):
            options = {"columns": rows.columns} | options
            rows = frame_of(rows, self.own)
        if CALLED in self.own and "concept" in rows and CALLED not in rows:
            called = self.own[CALLED].to_series()
            place = max(rows.columns.get_loc(c) for c in ("concept", *NAMES) if c in rows)
            rows = rows.copy()
            rows.insert(place + 1, CALLED, called.reindex(rows["concept"]).to_numpy())
        columns = {
            key: replace(column, help=column.help or self._long_name(column.value or key))
            for key, column in options.pop("columns", {}).items()
        }
        return Table(file_name(self.cell, name), rows, title, note, columns, **options)

    def _long_name(self, variable: object) -> str:
        """Return what a variable holds, in the words of its schema."""
        is_there = isinstance(variable, str) and variable in self.own
        return str(self.own[variable].attrs.get("long_name", "")) if is_there else ""

    def figure(self, name: str, chart: Any, title: str, note: str = "") -> Figure:
        """Return a figure whose file is called by the cell and a name."""
        return Figure(file_name(self.cell, name), chart, title, note)


def seen_notes(own: xr.Dataset) -> list[Note]:
    """Return on how many of its images the concepts of a dataset were trained, where that is known.

    What chose the names of localised concepts, too.
    """
    return [Note(told) for told in (seen_note(own), choice_note(own)) if told]


@dataclass(frozen=True)
class Headline:
    """One number of the summary of a setting.

    Attributes
    ----------
    label : str
        What it is called.
    value : str or callable
        Name of a scalar of the dataset, or a function of the dataset; None leaves the number out.
    form : str
        A format of Python; "" for three significant digits.
    meaning : str or callable
        What it means, or a function of the dataset that says it.
    of : callable
        Says of a dataset on what it was measured.
    """

    label: str
    value: str | Callable[[xr.Dataset], Any]
    form: str = ""
    meaning: str | Callable[[xr.Dataset], str] = ""
    of: Callable[[xr.Dataset], str] = lambda _: ""

    def number(self, own: xr.Dataset) -> Number | None:
        """Return it for a dataset; None if the dataset has no such number."""
        value = own[self.value] if isinstance(self.value, str) else self.value(own)
        if value is None:
            return None
        value = np.asarray(value).item()
        meaning = self.meaning if isinstance(self.meaning, str) else self.meaning(own)
        return Number(self.label, _shown(value, self.form), meaning, self.of(own))


def _shown(value: Any, form: str) -> str:
    if isinstance(value, str):
        return value
    if np.isnan(value):
        return MISSING
    return formed(value, form) if form else number_text(float(value))


def numbers(headlines: Iterable[Headline], own: xr.Dataset) -> list[Number]:
    """Return the headlines of a dataset, without those that it does not have."""
    return list(filter(None, (headline.number(own) for headline in headlines)))


def nothing(*_: object) -> list[Any]:
    """Return no choice, or no part."""
    return []


@dataclass(frozen=True)
class ResultView:
    """How datasets of one schema are shown, on a page of their own and in reports.

    Attributes
    ----------
    schema : str
        Name of the schema.
    title, path : str
        Of the page: what it is called, and where it is in the address.
    group : str
        Under which the menu has it.
    meaning : str
        The help line: what the numbers mean, and the source.
    blocks : callable
        From a setting to what is shown of it, below its headlines.
    headlines : sequence of Headline
        The numbers of a setting.
    choices : callable
        From datasets to what a reader may choose.
    sentence : callable
        From a setting to its answer in one sentence, with which its page begins.
    figure : callable
        From all settings to the one figure that shows the answer.
    above, below : callable
        From all settings to what is shown below the answer, and last.
    compared : callable
        From all settings to what compares them, where there are several.
    summary : callable, optional
        From a setting to its numbers by name, which are compared between settings; empty for a
        setting that is left out.
    summary_columns : mapping of str to Column
        How to show these; three digits by default.
    replicated : callable, optional
        The same of numbers that are compared over seeds, where a matrix has some; those of the
        summary by default.
    by : str
        Key of the choice that the numbers over seeds depend on.
    together : int
        Settings that differ in their configuration alone, with which the page begins, at most.
    is_named : bool
        Whether its concepts are given their names before it is shown.
    """

    schema: str
    title: str
    path: str
    group: str
    meaning: str
    blocks: Callable[[Setting], Iterable[Part]]
    sentence: Callable[[Setting], str]
    figure: Callable[[Sequence[Setting]], Iterable[Figure]]
    headlines: Sequence[Headline] = ()
    choices: Callable[[Datasets], list[Choice]] = nothing
    above: Callable[[Sequence[Setting]], Iterable[Part]] = nothing
    compared: Callable[[Sequence[Setting]], Iterable[Part]] = nothing
    summary: Callable[[Setting], Mapping[str, float]] | None = None
    summary_columns: Mapping[str, Column] = field(default_factory=dict)
    replicated: Callable[[Setting], Mapping[str, float]] | None = None
    by: str = ""
    below: Callable[[Sequence[Setting]], Iterable[Part]] = nothing
    together: int = 1
    is_named: bool = False

    def parts(self, datasets: Datasets, **chosen: str) -> list[Part]:
        """Return all that is shown: the answer, what compares settings, then each in full.

        Parameters
        ----------
        datasets : mapping of str to xr.Dataset
            Of the view's schema, by the cell that made each.
        **chosen
            Options by the key of their choice; the first option by default.
        """
        settings = self._settings(datasets, chosen)
        return [*self._answer(settings), *self._details(settings)]

    def shown(self, datasets: Datasets, **chosen: str) -> list[Part | Fold]:
        """Return the same as a page shows it: the answer, and details when they are asked for."""
        settings = self._settings(datasets, chosen)
        return [*self._answer(settings), *folded(self._details(settings))]

    def _settings(self, datasets: Datasets, chosen: Mapping[str, str]) -> list[Setting]:
        first = {c.key: "" if c.optional else next(iter(c.options), "")
                 for c in self.choices(datasets)}  # fmt: skip
        chosen = {**first, **{key: option for key, option in chosen.items() if option}}
        is_compared = len(datasets) > 1
        return [Setting(cell, own, chosen, is_compared) for cell, own in datasets.items()]

    def _answer(self, settings: Sequence[Setting]) -> Iterator[Part]:
        """Yield what the numbers say: a sentence for each setting, and one figure of all."""
        told: dict[str, list[str]] = {}
        for at in settings[:MOST_IN_FULL]:
            told.setdefault(self.sentence(at), []).append(at.cell)
        for sentence, cells in told.items():
            before = f"{' and '.join(cells)}: " if len(settings) > 1 else ""
            yield Answer(before + sentence)
        yield from self.figure(settings)
        yield from self.above(settings)

    def _details(self, settings: Sequence[Setting]) -> list[Part]:
        parts: list[Part] = []
        if len(settings) > 1:
            parts += [*self.compared(settings), *self._summaries(settings)]
        if len(settings) > MOST_IN_FULL:
            more = len(settings) - MOST_IN_FULL
            parts.append(
                Note(
                    f"{counted(more, 'more setting is', 'more settings are')} compared above. "
                    "Choose fewer to see all."
                )
            )
        for setting in settings[:MOST_IN_FULL]:
            parts += [Heading(setting.cell)] if len(settings) > 1 else []
            told = faults_text(setting.own.attrs) + other_data_text(setting.own.attrs)
            parts += [Note(told)] if told else []
            headlines = numbers(self.headlines, setting.own)
            parts += [Numbers(headlines)] if headlines else []
            parts += self.blocks(setting)
        return [*parts, *self.below(settings)]

    def _summaries(self, settings: Sequence[Setting]) -> Iterator[Part]:
        """Return the summary of several settings: over seeds, and one by one."""
        by = f", by {settings[0].chosen[self.by]}" if self.by else ""
        if replicated := self.replicated or self.summary:
            seeds = over_seeds(_known(settings, replicated))
            if seeds.settings:
                yield from replicate_tables(seeds, self.path, by)
        if self.summary is None:
            return
        known = _known(settings, self.summary)
        frame = pd.DataFrame([{"setting": cell, **numbers} for cell, numbers in known.items()])
        columns = {name: Column(".3f") for name in frame if name != "setting"}
        columns |= self.summary_columns
        title = "Setting by setting" if self.replicated else f"Setting by setting{by}"
        yield Table(self.path, frame, title, columns=columns)


def _known(
    settings: Sequence[Setting], told: Callable[[Setting], Mapping[str, float]]
) -> dict[str, Mapping[str, float]]:
    """Return what is told of settings by cell, without those that are left out."""
    return {at.cell: numbers for at in settings if (numbers := told(at))}


# -- over seeds -------------------------------------------------------------------------------


def columns_of(table: ResultTable, *names: str) -> Callable[[Setting], dict[str, float]]:
    """Return what gives the numbers of some columns of a table, by ``column.row``."""
    return lambda at: {
        key: value for key, value in table.numbers(at.own).items() if key.partition(".")[0] in names
    }


def over_seeds(values: Mapping[str, Mapping[str, float]]) -> Replicates:
    """Return numbers over seeds, a setting for cells that differ in the seed alone.

    Parameters
    ----------
    values : mapping of str to mapping of str to float
        Numbers by name, by the cell that they are of, as ``sweep[k=8,seed=1]``.

    Returns
    -------
    Replicates
        Only settings that have a seed as an axis; none where no cell has.
    """
    rows: dict[str, list[tuple[Any, Mapping[str, float]]]] = {}
    for cell, found in values.items():
        name = seeded_name(cell)
        if name.seeds:
            rows.setdefault(name.setting, []).append((name.unit, found))
    return Replicates(tuple(Replicated.of(name, own) for name, own in rows.items()))
