"""A task: a cell with its fingerprint, what the disk says of it, and why it should run."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from registry.declare.cells import Cell
from registry.declare.faults import StageError
from registry.declare.stage import load_stage
from registry.record.states import State
from registry.store.parts import Part
from registry.suggest import nearest

COMPLETE_BEFORE = "complete before"
"""How a task stands that never ran, of a cell that is complete as it was declared before."""

LONG = 60
"""Letters of two lists together from which on their difference says more than both."""
NAMED = 3
"""Values that a difference of two lists names, of those that came and of those that left."""


class PlanError(ValueError):
    """A plan that cannot be made from what was given."""


class Why(StrEnum):
    """The kinds of reasons for which a task is due, or not known to be up to date."""

    NEVER = "never ran"
    STAGE = "stage changed"
    CONFIG = "configuration changed"
    INPUT = "input changed"
    FAILED = "failed"
    DIED = "died"
    INTERRUPTED = "interrupted"
    MISSING = "output missing"
    DAMAGED = "output damaged"
    RECOMPUTED = "input recomputed"
    CODE = "code changed"
    FORCED = "forced"
    UPSTREAM = "upstream will run"
    UNREADABLE = "data cannot be read"


@dataclass(frozen=True)
class Change:
    """One key that changed.

    Attributes
    ----------
    key : str
        Dotted where nested: ``training.lr``.
    old, new : str or None
        The values as JSON; None where there was none, or is none any more.
    """

    key: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        if difference := self.difference:
            return f"{self.key} {difference}"
        old, new = (("unset" if value is None else value) for value in (self.old, self.new))
        return f"{self.key} {old} -> {new}"

    @property
    def difference(self) -> str:
        """What came to a long list and what left it; "" where both values say it better."""
        if self.old is None or self.new is None or len(self.old) + len(self.new) < LONG:
            return ""
        old, new = (json.loads(text) for text in (self.old, self.new))
        if not (isinstance(old, list) and isinstance(new, list)):
            return ""
        gone, come = list(old), []
        for value in new:
            if value in gone:
                gone.remove(value)
            else:
                come.append(value)
        if len(gone) == len(old):
            return ""
        words = [*_signed("+", come), *_signed("-", gone)]
        return " ".join(words) or "in another order"


def _signed(sign: str, values: list[Any]) -> list[str]:
    """Return values with their sign, the first of them where they are many."""
    named = values if len(values) <= NAMED + 1 else values[:NAMED]
    more = [f"{sign} {len(values) - NAMED} more"] if len(named) < len(values) else []
    return [*(f"{sign} {_word(value)}" for value in named), *more]


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True)
class Reason:
    """Why a task is due.

    Attributes
    ----------
    why : Why
        The kind of reason.
    text : str
        For people.
    changes : tuple of Change
        The very keys, for a changed configuration.
    slots : tuple of str
        The inputs that it is about.
    run : str or None
        The run that it is about.
    """

    why: Why
    text: str
    changes: tuple[Change, ...] = ()
    slots: tuple[str, ...] = ()
    run: str | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Earlier:
    """What a cell was when it ran before; ``task.json`` holds it.

    Attributes
    ----------
    fingerprint, stage, version, config : str, str, int, mapping
        Of the earlier task; the configuration is whole.
    needs : mapping of str to mapping
        For each slot ``name`` and ``fingerprint``; of a resource also ``family``, ``kind``,
        ``settings`` and ``identity``.
    aside : mapping of str to str
        As of :class:`Task`.
    """

    fingerprint: str
    stage: str
    version: int
    config: Mapping[str, Any]
    needs: Mapping[str, Mapping[str, Any]]
    aside: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Earlier:
        """Read what :meth:`Task.record` wrote; more keys do no harm."""
        own = {entry.name: record[entry.name] for entry in fields(cls) if entry.name != "aside"}
        return cls(**own, aside=record.get("aside", {}))


@dataclass(frozen=True)
class TaskState:
    """What the disk says of one task.

    Attributes
    ----------
    status : State
        Of the latest run with this fingerprint; complete as long as its current output is whole.
    run : str or None
        Identifier of that run.
    content : str or None
        Digest of the current output.
    read : mapping of str to str
        Slot to the digest that its input had when the current output was made.
    sources : str or None
        Hash of the stage's code that made it.
    durations : tuple of float
        Seconds that complete runs of this cell took, whatever their configuration.
    earlier : Earlier or None
        The latest task of this cell that has another fingerprint and a whole output; where none
        has, the latest.
    earlier_run : str
        The current run of that earlier task; "" where it has none.
    why : str
        What is damaged or missing, "" where there is nothing to say.
    path : str
        The current run's folder, "" where there is none.
    """

    status: State = State.NEVER
    run: str | None = None
    content: str | None = None
    read: Mapping[str, str] = field(default_factory=dict)
    sources: str | None = None
    durations: tuple[float, ...] = ()
    earlier: Earlier | None = None
    why: str = ""
    path: str = ""
    earlier_run: str = ""

    @property
    def folder(self) -> Path | None:
        """The current run's folder, where there is one."""
        return Path(self.path) if self.path else None  # made on demand: a plan asks thousands


NEVER_RAN = TaskState()

PastLookup = Callable[[str, str], Earlier | None]
"""From an experiment and a fingerprint to what that task was, None if nobody knows."""

StateLookup = Callable[[Cell, str], TaskState]
"""From a cell and its fingerprint to what the disk says."""


@dataclass(frozen=True, slots=True)
class Task:
    """A cell in a plan.

    Attributes
    ----------
    cell : Cell
        What is to be made.
    fingerprint : str
        16 hexadecimal digits: all that can change the result.
    inputs : mapping of str to str
        Slot to the fingerprint of what fills it.
    resources : mapping of str to mapping
        What stands under the fingerprint of each slot that a resource fills: ``family``,
        ``kind``, ``settings``, ``identity``.
    state : TaskState
        What the disk says.
    reasons : tuple of Reason
        Why it is due; empty if it is not.
    notes : tuple of str
        What is worth showing, and is no reason to run.
    seconds : float or None
        How long it will take, by earlier runs, if it is due.
    is_target : bool
        Whether it was asked for, rather than needed by what was.
    parts : int
        Into how many parts it is cut, that can run side by side; 1 for none.
    part : Part or None
        Which of them this is; None for the whole task, or what closes it when all are written.
    aside : mapping of str to str
        The identity of each resource, however far behind, of which it reads what others do not.
    """

    cell: Cell
    fingerprint: str
    inputs: Mapping[str, str]
    resources: Mapping[str, Mapping[str, Any]]
    state: TaskState
    reasons: tuple[Reason, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float | None = None
    is_target: bool = True
    parts: int = 1
    part: Part | None = None
    aside: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the cell."""
        return self.cell.name

    @property
    def title(self) -> str:
        """Name of the cell, and which part of it."""
        return f"{self.name} {self.part}" if self.part else self.name

    def in_parts(self) -> tuple[Task, ...]:
        """Return the tasks that it is cut into, and itself, which needs these, as the last."""
        if self.parts == 1 or self.part:
            return (self,)
        numbers = range(1, self.parts + 1)
        return (*(replace(self, part=Part(number, self.parts)) for number in numbers), self)

    @property
    def needs(self) -> tuple[str, ...]:
        """Titles of the tasks, and names of the resources, that must be there before it runs."""
        inputs = tuple(self.cell.needs.values())
        return inputs + tuple(part.title for part in self.in_parts()[:-1])

    @property
    def experiment(self) -> str:
        """Name of the experiment, which is its folder in the store."""
        return self.cell.experiment

    @property
    def stage(self) -> str:
        """Name of the stage."""
        return self.cell.stage

    @property
    def due(self) -> bool:
        """Whether it should run."""
        return bool(self.reasons)

    @property
    def standing(self) -> str:
        """How it stands, for people: of one that never ran, whether it did as it was before."""
        if self.state.status is State.NEVER and self.state.earlier_run:
            return COMPLETE_BEFORE
        return str(self.state.status)

    @property
    def reason(self) -> str:
        """Why it is due, for people; "" if it is not."""
        return "; ".join(map(str, self.reasons))

    @property
    def is_conditional(self) -> bool:
        """Whether it is due only because an input will be made again, perhaps to the same bits."""
        return self.due and all(reason.why is Why.UPSTREAM for reason in self.reasons)

    @property
    def is_running(self) -> bool:
        """Whether some process is at it now."""
        return self.state.status is State.RUNNING

    @property
    def is_open(self) -> bool:
        """Whether its output is still to come: due, or being made now."""
        return self.due or self.is_running

    def record(self) -> dict[str, Any]:
        """Return what ``task.json`` says of it, as plain JSON values."""
        cell = self.cell
        return {
            "experiment": cell.experiment,
            "cell": cell.name,
            "fingerprint": self.fingerprint,
            "stage": cell.stage,
            "version": cell.version,
            "config": dict(cell.config),
            "needs": {
                slot: {"name": name, "fingerprint": self.inputs[slot]}
                | dict(self.resources.get(slot, {}))
                for slot, name in cell.needs.items()
            },
            **({"aside": dict(self.aside)} if self.aside else {}),
        }


@dataclass(frozen=True)
class Plan:
    """Tasks, each after those that it needs.

    Attributes
    ----------
    tasks : tuple of Task
        What was asked for, due or not, and what of its inputs is due.
    settled : tuple of Task
        The inputs that are not due; tasks read them.
    """

    tasks: tuple[Task, ...]
    settled: tuple[Task, ...] = ()

    @property
    def due(self) -> tuple[Task, ...]:
        """What should run, in an order in which it can."""
        return tuple(task for task in self.tasks if task.due)

    @property
    def open(self) -> tuple[Task, ...]:
        """What is due, and what another process is running, in the same order."""
        return tuple(task for task in self.tasks if task.is_open)

    def cut(self, parts: int, names: Collection[str]) -> Plan:
        """Return the plan with some of its tasks cut into so many parts, where they can be.

        Parameters
        ----------
        parts : int
            At least 1.
        names : collection of str
            The tasks.

        Raises
        ------
        StageError
            If none of these that is open can be cut; with the reasons.
        """
        meant = [task for task in self.open if task.name in names]
        reasons = {task.name: load_stage(task.stage).uncut for task in meant}
        if meant and all(reasons.values()) and parts > 1:
            raise StageError("\n".join(dict.fromkeys(reasons.values())))
        cut = {name for name, reason in reasons.items() if not reason}
        tasks = (replace(task, parts=parts) if task.name in cut else task for task in self.tasks)
        return replace(self, tasks=tuple(tasks))

    @property
    def seconds(self) -> float:
        """How long all that is due takes one after the other, as far as that is known."""
        return sum(task.seconds for task in self.due if task.seconds is not None)

    @property
    def unknown(self) -> int:
        """Number of due tasks of which no earlier run tells the duration."""
        return sum(task.seconds is None for task in self.due)

    def task(self, name: str) -> Task:
        """Return the task of a cell, settled ones too.

        Raises
        ------
        PlanError
            If the plan has none of this name.
        """
        for task in (*self.tasks, *self.settled):
            if task.name == name:
                return task
        known = [task.name for task in (*self.tasks, *self.settled)]
        raise PlanError(f"no task {name!r} in this plan{nearest(name, known)}")
