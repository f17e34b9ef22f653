"""The table of runs: what is asked for, and what it gives."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from dashboards.views.parts.text import number_text, value_text
from dashboards.views.runs.rows import (
    Condition,
    Row,
    check_columns,
    conditions_of,
    known_columns,
    moment_of,
    row_of,
    sort_rows,
)
from registry.catalog.access import Catalog
from registry.catalog.runs import RunView

STATUSES = ("RUNNING", "COMPLETED", "FAILED", "INTERRUPTED", "DIED", "QUEUED")
NEWEST_FIRST = "-started"
LIMITS = (50, 200, 1000, 10_000)
FEW_RESULTS = 3
_NAME = re.compile(r"(?:\[[^\]]*\]|[^\s,\[])+")


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
        When it started, as :func:`dashboards.views.runs.rows.moment_of` takes it.
    tags : tuple of str
        Tags that it all has.
    sort : str
        A column, with ``-`` for the largest first.
    limit : int
        How many at most.
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
    if conditions and rows:
        check_columns(conditions, known_columns(rows))
    chosen = [row for row in _in_time(rows, query) if _is_asked(row, query, conditions)]
    if query.sort != NEWEST_FIRST:
        chosen = sort_rows(chosen, query.sort)
    return tuple(chosen)


def _in_time(rows: Sequence[Row], query: RunQuery) -> Iterable[Row]:
    since = moment_of(query.since) if query.since.strip() else None
    until = moment_of(query.until, is_end=True) if query.until.strip() else None
    return (
        row
        for row in rows
        if (since is None or row.start >= since) and (until is None or row.start < until)
    )


def _is_asked(row: Row, query: RunQuery, conditions: Iterable[Condition]) -> bool:
    run, named = row.run, query.experiment or ""
    exact = (
        (named, run.cell if "[" in named else run.experiment),
        (query.stage, run.stage),
        (query.status, run.status),
        (query.host, run.host),
    )
    return (
        all(not wanted or wanted == own for wanted, own in exact)
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
    return list(dict.fromkeys(_NAME.findall(text)))


def runs_frame(rows: Sequence[Row], columns: Sequence[str]) -> pd.DataFrame:
    """Return a row per run with these columns, of one type each, so that any table shows them.

    The column ``results`` holds the first few results as text.
    """
    return pd.DataFrame({name: _column([_shown(row, name) for row in rows]) for name in columns})


def _shown(row: Row, column: str) -> Any:
    return results_text(row.run.result) if column == "results" else row.value(column)


def results_text(result: Mapping[str, Any]) -> str:
    """Return the first few results: ``accuracy 0.91, k 16``."""
    shown = list(result.items())[:FEW_RESULTS]
    return ", ".join(f"{key} {_short(value)}".strip() for key, value in shown)


def _short(value: Any) -> str:
    return number_text(value) if isinstance(value, float) else value_text(value)


def _column(values: list[Any]) -> pd.Series:
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
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_csv_value(row.value(name)) for name in columns])
    return text.getvalue()


def _csv_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def run_key(run: RunView) -> str:
    """Return what an address names a run by: its own identifier, or its number."""
    return run.uid or str(run.id)
