"""Runs that are running: how far each is, and about how long it still takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from dashboards.views.parts.text import duration_text, number_text
from dashboards.views.runs.chain import progress_text
from dashboards.views.runs.one_run import Progress
from dashboards.views.runs.runs import Row, run_key
from registry.catalog.runs import RunView

MOST_LIVE = 6


@dataclass(frozen=True)
class Live:
    """One run that is running.

    Attributes
    ----------
    key : str
        As an address names it.
    text : str
        Which it is, what it does, how far it is, and how long it still takes.
    share : float
        How far it is, from 0 to 1; 0 where it does not say.
    """

    key: str
    text: str
    share: float


def live_runs(
    rows: Sequence[Row], follow: Callable[[RunView], Progress | None], now: datetime
) -> list[Live]:
    """Return the runs that are running, the newest first.

    Parameters
    ----------
    rows : sequence of Row
        All runs, the newest first.
    follow : callable
        How far a run is, where it tells.
    now : datetime
        UTC.
    """
    running = [row.run for row in rows if row.run.status == "RUNNING"][:MOST_LIVE]
    return [_live(run, follow(run), expected_seconds(run, rows), now) for run in running]


def expected_seconds(run: RunView, rows: Sequence[Row]) -> float | None:
    """Return how long the newest complete run of the same cell took; None where there is none."""
    before = (row.run for row in rows if row.run.cell == run.cell and row.run.part == run.part)
    return next((own.seconds for own in before if own.status == "COMPLETED"), None)


def _live(run: RunView, done: Progress | None, expected: float | None, now: datetime) -> Live:
    seconds = (now - run.started).total_seconds() if run.started else None
    counted = ""
    if done and done.total:
        counted = f"{done.what} {number_text(done.done)} of {number_text(done.total)}".strip()
    since = f"running for {duration_text(seconds)}" if seconds is not None else "running"
    told = filter(None, (counted, since, progress_text(done, seconds, expected)))
    share = done.share if done else 0.0
    if not share and seconds is not None and expected:
        share = min(0.99, max(0.0, seconds / expected))
    return Live(run_key(run), f"{run.title or run.uid}: {', '.join(told)}", share)
