"""The chain behind a concept model: what is done, runs, failed or is missing, and what to type."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from urllib.parse import urlencode

from dashboards.views.parts.text import ago_text, duration_text, unbroken
from dashboards.views.runs.advice import ABOUT_NOTHING, FIRST_MADE
from dashboards.views.runs.drafts import MAKERS, lines_for
from dashboards.views.runs.one_run import Progress, spent_text
from dashboards.views.runs.states import STATES, state_of
from registry.catalog.runs import RunView
from registry.plan.project import Project
from registry.plan.task import Plan, Task
from registry.wording import counted

EVIDENCE = ("gallery", "names", "consistency", "decisions", "localisation", "matching")
"""Schemas of what can be made of a set of concepts, and shows what they are worth."""

MOST_NAMED = 4
"""Experiments that a command names."""

MOST_LINKS = 40
"""Links of a chain that are shown."""

_URGENT = ("running", "failed or interrupted", "unreadable")


@dataclass(frozen=True)
class Link:
    """One experiment of a chain with its cells.

    Attributes
    ----------
    name, task : str
        Of the experiment, and of the cell of it that asks for most attention.
    state : str
        How that cell stands, a key of `STATES`.
    detail : str
        What else there is to say, as ``3 of 9 complete``, or how far a running one is.
    share : float or None
        How far it is, between 0 and 1, where it runs and tells.
    """

    name: str
    task: str
    state: str
    detail: str = ""
    share: float | None = None


def chain_of(project: Project, cell: str) -> list[str]:
    """Return the cells that a cell is made from, the cell, and those made from it, in order."""
    cells = project.graph.cells
    behind, level = {cell}, [cell] if cell in cells else []
    while level:
        level = [n for one in level for n in cells[one].needs.values() if n in cells]
        level = [name for name in dict.fromkeys(level) if name not in behind]
        behind.update(level)
    resting = {cell}
    for one in cells.values():  # each after those that it needs
        if resting.intersection(one.needs.values()):
            resting.add(one.name)
    return [name for name in cells if name in behind or name in resting]


def links_of(
    tasks: Sequence[Task], follow: Callable[[Task], tuple[Progress | None, float | None]]
) -> list[Link]:
    """Return the links of a chain.

    Parameters
    ----------
    tasks : sequence of Task
        Of its cells, each after those that it needs.
    follow : callable
        How far a running task is, and for how many seconds it has been running.
    """
    by_experiment: dict[str, list[Task]] = {}
    for task in tasks:
        by_experiment.setdefault(task.experiment, []).append(task)
    return [_link(name, own, follow) for name, own in by_experiment.items()]


def _link(
    name: str,
    tasks: Sequence[Task],
    follow: Callable[[Task], tuple[Progress | None, float | None]],
) -> Link:
    order = [*_URGENT, *(state for state in STATES if state not in (*_URGENT, "complete"))]
    order.append("complete")
    first = min(tasks, key=lambda task: order.index(state_of(task)))
    state = state_of(first)
    complete = sum(state_of(task) == "complete" for task in tasks)
    detail = f"{complete:,} of {len(tasks):,} complete" if len(tasks) > 1 else ""
    share = None
    if state == "running":
        progress, seconds = follow(first)
        share = progress.share if progress else None
        running = progress_text(progress, seconds, first.seconds)
        detail = " · ".join(filter(None, (running, detail)))
    return Link(name, first.name, state, detail, share)


def progress_text(progress: Progress | None, seconds: float | None, expected: float | None) -> str:
    """Return how far a running run is, and about how long it still takes, where that is known.

    Parameters
    ----------
    progress : Progress or None
        What it says itself.
    seconds : float or None
        Since it started.
    expected : float or None
        Seconds that earlier runs took, by which time is left where it says nothing.
    """
    share = progress.share if progress else 0.0
    said = f"{100 * share:.0f} %" if progress and progress.total else ""
    left = None
    if seconds is not None and share > 0:
        left = seconds * (1 - share) / share
    elif seconds is not None and expected is not None:
        left = expected - seconds
    about = f"about {duration_text(left)} left" if left is not None and left > 0 else ""
    return ", ".join(filter(None, (said, about)))


def _due_of(tasks: Sequence[Task]) -> list[Task]:
    return [t for t in {task.name: task for task in tasks}.values() if t.due and not t.is_running]


def next_line(tasks: Sequence[Task]) -> str:
    """Return how many tasks :func:`next_command` runs, why, and how long that takes.

    Where one of the chain is running, whoever runs it may go on with them: that is told.
    """
    due = _due_of(tasks)
    states = [state_of(task) for task in due]
    why = ", ".join(f"{states.count(s):,} {s}" for s in STATES if s in states)
    known = [task.seconds for task in due if task.seconds is not None]
    unknown = len(due) - len(known)
    rough = "at least" if unknown else "about"
    took = f"; {rough} {duration_text(sum(known))}" if known else ""
    took += f"{',' if known else ';'} {unknown:,} of unknown duration" if unknown else ""
    if not due:
        return ""
    running = next((task.name for task in tasks if task.is_running), "")
    going = f" {running} is running: its command may go on with them." if running else ""
    return f"{counted(len(due), 'task')}: {why}{took}.{going}"


def next_command(tasks: Sequence[Task]) -> str:
    """Return what to type so that all of a chain that is due runs, "" where nothing is.

    A command runs what is needed too, so it names only what nothing else that is due needs.
    """
    due = _due_of(tasks)
    needed = {name for task in due for name in task.cell.needs.values()}
    last = [task for task in due if task.name not in needed]
    names = [task.name for task in last]
    if len(names) > MOST_NAMED:
        names = list(dict.fromkeys(task.experiment for task in last))
    if not names:
        return ""
    return shlex.join(["factbook", "run", *(names if len(names) <= 2 * MOST_NAMED else [])])


def undeclared_line(project: Project, cell: str, cells: Collection[str]) -> str:
    """Return which evidence on a set of concepts no experiment is to make, and what would make it.

    Parameters
    ----------
    project : Project
        What is declared.
    cell : str
        The set; nothing is missing of neurons that are no concepts.
    cells : collection of str
        Its chain, as :func:`chain_of` returns it.
    """
    declared = project.graph.cells
    made = {declared[name].provides for name in cells}
    missing = [schema for schema in EVIDENCE if schema not in made]
    if not missing or declared[cell].provides != "concepts":
        return ""
    return f"Not declared yet: {', '.join(f'{one} ({MAKERS[one]})' for one in missing)}."


def summary_line(plan: Plan) -> str:
    """Return how many tasks stand how, in one line."""
    states = [state_of(task) for task in (*plan.settled, *plan.tasks)]
    told = [f"{STATES[s][0]} {states.count(s):,} {s}" for s in STATES if s in states]
    return " · ".join([counted(len(states), "task"), *told])


# -- as HTML --------------------------------------------------------------------------------------


def chain_html(links: Sequence[Link]) -> str:
    """Return a chain as chips in a row, each a link to its task; every text is escaped."""
    chips = "".join(_chip(link) for link in links[:MOST_LINKS])
    more = len(links) - MOST_LINKS
    tail = f"<span>and {counted(more, 'more experiment')}</span>" if more > 0 else ""
    return f'<div class="fb-chain" role="list" aria-label="chain">{chips}{tail}</div>'


def _chip(link: Link) -> str:
    sign, ground = STATES[link.state]
    words = " · ".join(filter(None, (link.state, link.detail)))
    bar = ""
    if link.share is not None:
        label = escape(f"progress of {link.name}")
        bar = f'<progress value="{link.share:.3f}" max="1" aria-label="{label}"></progress>'
    shown = (
        "" if link.state == "complete" and not link.detail else f" <small>{escape(words)}</small>"
    )
    return (
        f'<span role="listitem"><a class="fb-go fb-chip" style="background: {ground}" '
        f'href="{escape(query("pipeline", task=link.task))}" title="{escape(words)}">'
        f"{sign} {escape(link.name)}{shown}</a>{bar}</span>"
    )


def runs_html(runs: Sequence[RunView], now: datetime) -> str:
    """Return runs as lines, each a link to its run; every text is escaped."""
    lines = "".join(
        f'<li><a class="fb-go" href="{escape(query("runs", run=run.uid or run.id))}">'
        f"{escape(run.cell or run.stage or run.uid)}</a> "
        f"<small>{escape(unbroken(_run_line(run, now)))}</small></li>"
        for run in runs
    )
    return f'<ul class="fb-runs">{lines}</ul>'


def _run_line(run: RunView, now: datetime) -> str:
    started = ago_text(run.started, now)
    return " · ".join(filter(None, (run.status, started, spent_text(run, now))))


def query(page: str, **values: object) -> str:
    """Return the address of a page with its query."""
    return f"{page}?{urlencode({key: str(value) for key, value in values.items()})}"


# -- at the beginning -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One thing to do in a project where nothing has run.

    Attributes
    ----------
    title, words : str
        What it is.
    code : str
        To type, or to paste; "" where it is done.
    language : str
        Of the code.
    """

    title: str
    words: str
    code: str
    language: str = "bash"

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do of it."""
        return not self.code


def first_steps(project: Project) -> tuple[Step, Step, Step]:
    """Return what to do in a project where nothing has run: what is declared need not be again."""
    words, lines = "experiments.toml says what there is and what is to be made of it.", ""
    if not project.declaration.experiments:
        words, lines = ABOUT_NOTHING, "\n".join(lines_for(project, FIRST_MADE)[1])
    return (
        Step("Declare", words, lines, "toml"),
        Step("Run", "See what would run and why, then run it.", "factbook plan && factbook run"),
        Step(
            "Look",
            "This page shows each concept model as soon as it is made; in a terminal:",
            "factbook status",
        ),
    )
