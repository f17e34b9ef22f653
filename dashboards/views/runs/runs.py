"""The table of runs: a run as a row, which runs are asked for, and what they give.

Pure: nothing typed reaches a database.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from sys import intern
from typing import Any

import pandas as pd

from dashboards.views.parts.parts import PICTURE
from dashboards.views.parts.text import number_text, time_text, value_text
from dashboards.views.runs.headlines import headline_text
from registry.catalog.access import Catalog
from registry.catalog.conditions import (
    STATUSES,
    Condition,
    conditions_of,
    moment_of,
    require_columns,
)
from registry.catalog.notes import ARCHIVED, NOTED, Note
from registry.catalog.runs import COLUMNS, RunView
from registry.columns import BYTES, DURATION, Column

_EPOCH = datetime.fromtimestamp(0, UTC)
NEWEST_FIRST = "-started"
LIMITS = (50, 200, 1000, 10_000)
FEW_RESULTS = 3
SIZE, RESULTS, LOSS = "size", "results", "loss"
"""Columns of a table of runs that stand in no record as they are shown."""

TOLD = {
    "id": Column("d", "run"),
    "started": Column(header="started (UTC)"),
    LOSS: Column(PICTURE, help="while it was trained"),
    "seconds": Column(DURATION, "took", "asked for in seconds, as seconds<60"),
    SIZE: Column(BYTES, help="of its dataset, on disk; 1 KB is 1,000 bytes"),
}
"""How columns of a table of runs are shown, others as they are."""

_RUN_NAME = re.compile(r"(?:\[[^\]]*\]|[^\s,\[])+")


@dataclass(frozen=True, slots=True)
class Row:
    """One run, ready to be looked for.

    Attributes
    ----------
    run : RunView
        Without its ``facts``.
    values : mapping of str to object
        As :meth:`RunView.row` gives them.
    text : str
        All that words are looked for in, in lower case.
    note : Note or None
        What somebody noted.
    """

    run: RunView
    values: Mapping[str, Any]
    text: str
    note: Note | None = None

    @property
    def start(self) -> datetime:
        """When it started; long ago if it has not."""
        return self.run.started or _EPOCH

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags."""
        return self.note.tags if self.note else ()

    @property
    def is_archived(self) -> bool:
        """Whether it is left out of lists."""
        return ARCHIVED in self.tags

    def value(self, column: str) -> Any:
        """Return what stands in a column, None where the run has no such thing."""
        if column in NOTED:
            return self.note.column(column) if self.note else None
        return self.values[column] if column in self.values else self.run.inside(column)


def row_of(run: RunView, note: Note | None = None) -> Row:
    """Return the row of a run."""
    values = {intern(key): value for key, value in run.row().items()}
    names = (run.id, run.uid, run.cell, run.stage, run.status, run.host, time_text(run.started))
    settings = json.dumps([run.config, run.result], ensure_ascii=False, default=str)
    noted = f"{' '.join(note.tags)} {note.text}" if note else ""
    return Row(run, values, f"{' '.join(map(str, names))} {settings} {noted}".lower(), note)


def known_columns(rows: Iterable[Row]) -> list[str]:
    """Return every column that some run has: the catalog's, notes, ``config.*``, ``result.*``."""
    found = dict.fromkeys(key for row in rows for key in row.values)
    return list(dict.fromkeys([*COLUMNS, *NOTED, *found]))


# -- order ------------------------------------------------------------------------------------


def sort_rows(rows: Iterable[Row], sort: str) -> list[Row]:
    """Return rows by a column, with ``-`` the largest first; those without a value come last."""
    column = sort.removeprefix("-")
    valued = [(row, row.value(column)) for row in rows]
    present = [pair for pair in valued if is_value(pair[1])]
    absent = [row for row, value in valued if not is_value(value)]
    present.sort(key=lambda pair: _order(pair[1]), reverse=sort.startswith("-"))
    return [row for row, _ in present] + absent


def is_value(value: Any) -> bool:
    """Return whether there is something to compare: neither None nor NaN."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def _order(value: Any) -> tuple[str, Any]:
    if isinstance(value, bool | int | float):
        return "number", value
    return ("time", value) if isinstance(value, datetime) else ("text", value_text(value))


# -- the query and its table -----------------------------------------------------------------


@dataclass(frozen=True)
class RunQuery:
    """What is asked of the table of runs.

    Attributes
    ----------
    experiment, stage, status, host : str or None
        Exact values; an experiment's name means all its cells. None means any.
    text : str
        Words that all stand somewhere in the run: its names, host, settings, results or note.
    where : str
        Comparisons by column: ``config.k>=16, result.accuracy>0.9``.
    since, until : str
        When it started, as :func:`moment_of` takes it.
    tags : tuple of str
        Tags that it all has.
    sort : str
        A column, with ``-`` for the largest first.
    limit : int
        How many at most.
    archived : bool
        Whether archived runs are shown too; they are where their tag is asked for.
    """

    experiment: str | None = None
    stage: str | None = None
    status: str | None = None
    host: str | None = None
    text: str = ""
    where: str = ""
    since: str = ""
    until: str = ""
    tags: tuple[str, ...] = ()
    sort: str = NEWEST_FIRST
    limit: int = LIMITS[1]
    archived: bool = False

    @property
    def is_quick(self) -> bool:
        """Whether the newest runs answer it; otherwise all runs must be looked at."""
        hard = (self.text, self.where, self.since, self.until, self.host, self.tags)
        return self.sort == NEWEST_FIRST and not any(hard)

    @property
    def is_open(self) -> bool:
        """Whether it leaves no run out."""
        easy = (self.experiment, self.stage, self.status)
        return self.is_quick and not any(easy)


def newest_rows(catalog: Catalog, query: RunQuery) -> tuple[Row, ...]:
    """Return what a quick query means, asked of the catalog at once.

    Raises
    ------
    DatabaseError
        If the database went away.
    """
    found = catalog.runs(
        experiment=query.experiment or None,
        stage=query.stage or None,
        status=query.status or None,
        limit=query.limit,
    )
    return tuple(map(row_of, found))


def select(rows: Sequence[Row], query: RunQuery) -> tuple[Row, ...]:
    """Return the rows that a query means, in its order.

    Parameters
    ----------
    rows : sequence of Row
        All there are, the newest first.
    query : RunQuery
        What is asked.

    Raises
    ------
    QueryError
        If a comparison or a time cannot be read, or no run has what is compared.
    """
    conditions = conditions_of(query.where)
    require_columns(conditions, rows, (*COLUMNS, *NOTED))
    since = moment_of(query.since) if query.since.strip() else None
    until = moment_of(query.until, is_end=True) if query.until.strip() else None
    chosen = [
        row
        for row in rows
        if (since is None or row.start >= since)
        and (until is None or row.start < until)
        and _is_asked(row, query, conditions)
    ]
    return tuple(chosen if query.sort == NEWEST_FIRST else sort_rows(chosen, query.sort))


def _is_asked(row: Row, query: RunQuery, conditions: Iterable[Condition]) -> bool:
    run, named = row.run, query.experiment or ""
    exact = (
        (named, run.cell if "[" in named else run.experiment),
        (query.stage, run.stage),
        (query.status, run.status),
        (query.host, run.host),
    )
    return (
        (query.archived or not row.is_archived or ARCHIVED in query.tags)
        and all(not wanted or wanted == own for wanted, own in exact)
        and all(word in row.text for word in query.text.lower().split())
        and set(query.tags) <= set(row.tags)
        and all(condition.holds(row) for condition in conditions)
    )


def choices(rows: Iterable[Row]) -> tuple[list[str], list[str]]:
    """Return the hosts and the tags that there are."""
    hosts = {row.run.host for row in rows if row.run.host}
    tags = {tag for row in rows for tag in row.tags}
    return sorted(hosts), sorted(tags)


def named_runs(text: str) -> list[str]:
    """Return the names in a text that blanks or commas separate, but not those in brackets."""
    return list(dict.fromkeys(_RUN_NAME.findall(text)))


def runs_frame(rows: Sequence[Row], columns: Sequence[str]) -> pd.DataFrame:
    """Return a row per run with these columns, of one type each, so that any table shows them.

    The column ``results`` holds what runs of its kind are asked for as text, ``size`` the bytes of
    the dataset.
    """
    made: dict[str, Callable[[Row], Any]] = {
        RESULTS: lambda row: _found(row.run),
        SIZE: lambda row: size_of(row.run),
    }
    return pd.DataFrame(
        {
            name: typed_column([made[name](r) if name in made else r.value(name) for r in rows])
            for name in columns
        }
    )


def size_of(run: RunView) -> int | None:
    """Return how many bytes the dataset of a run had when it was written; None without one."""
    size = run.output.get("bytes")
    return size if isinstance(size, int) else None


def total_size(rows: Iterable[Row]) -> int:
    """Return how many bytes the datasets of runs had when they were written."""
    return sum(size_of(row.run) or 0 for row in rows)


def status_counts(rows: Iterable[Row]) -> dict[str, int]:
    """Return how many runs have each status that some run has, in the order of statuses."""
    counts = Counter(row.run.status for row in rows)
    return {status: counts[status] for status in sorted(counts, key=_place)}


def _place(status: str) -> tuple[int, str]:
    return (STATUSES.index(status) if status in STATUSES else len(STATUSES)), status


def _found(run: RunView) -> str:
    """Return the results of a run, or which part of another's dataset it wrote."""
    own = headline_text(run) or results_text(run.result)
    return own or (str(run.part) if run.part else "")


def results_text(result: Mapping[str, Any]) -> str:
    """Return the first few results: ``accuracy 0.91, k 16``."""
    shown = [
        f"{key} {number_text(value) if isinstance(value, float) else value_text(value)}"
        for key, value in list(result.items())[:FEW_RESULTS]
    ]
    return ", ".join(map(str.strip, shown))


def typed_column(values: list[Any]) -> pd.Series:
    """Return values as a column of one type: moments, numbers, else texts."""
    kinds = {_kind(value) for value in values} - {"none"}
    if kinds == {"time"}:
        return pd.Series(pd.to_datetime(values, utc=True))
    if kinds == {"integer"}:
        return pd.Series(values, dtype="Int64")
    if kinds and kinds <= {"integer", "float"}:
        return pd.Series(values, dtype="float64")
    return pd.Series([value_text(value) for value in values], dtype=object)


def _kind(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return "integer"
    kinds = {type(None): "none", float: "float", datetime: "time"}
    return kinds.get(type(value), "text")


def runs_csv(rows: Sequence[Row], columns: Sequence[str] | None = None) -> str:
    """Return runs as CSV, numbers in full; all columns unless some are named."""
    columns = known_columns(rows) if columns is None else columns
    values = [[_csv_value(row.value(name)) for name in columns] for row in rows]
    frame = pd.DataFrame(values, columns=list(columns), dtype=object)
    return str(frame.to_csv(index=False, lineterminator="\n"))


def _csv_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def run_key(run: RunView) -> str:
    """Return what an address names a run by: its own identifier, or its number."""
    return run.uid or str(run.id)
