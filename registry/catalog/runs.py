"""Runs as readers see them: plain values, from records of MongoDB and from journals."""

from __future__ import annotations

import difflib
import re
import warnings
from collections import UserList
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.declare.settings import NO_RULES
from registry.declare.stage import find_stage
from registry.record.journal import aware, read_journal
from registry.record.liveness import journal_status, shown_status
from registry.store.parts import Part
from registry.wording import counted

if TYPE_CHECKING:
    import pandas as pd

KEYS = {
    "id": "_id",
    "started": "start_time",
    "stopped": "stop_time",
    "project": "info.factbook.project",
    **{
        name: f"info.factbook.{name}"
        for name in ("uid", "experiment", "cell", "stage", "host", "fingerprint")
    },
}
"""What a column of a table of runs is called in Sacred's record."""

COLUMNS = ("id", "experiment", "cell", "stage", "status", "started", "seconds", "host", "uid")

SECONDS = "seconds"
"""The column that is computed, and stands in no record."""

UID = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8}")
_NUMBER = re.compile(r"\d{1,18}")  # that MongoDB can hold


def is_run(name: str) -> bool:
    """Return whether a name is the number or the identifier of a run."""
    return is_number(name) or bool(UID.fullmatch(name))


def is_number(name: str) -> bool:
    """Return whether a name can be the number of a run."""
    return bool(_NUMBER.fullmatch(name))


@dataclass(frozen=True)
class RunView:
    """One run as readers see it: plain values, nothing of MongoDB.

    Attributes
    ----------
    id : int or None
        Its number in MongoDB; None while it is in its journal only.
    uid : str
        Its own identifier; "" for records that another Sacred client made.
    experiment, cell, stage : str
        As declared; a run of another client has its experiment's name, and no stage.
    status : str
        ``RUNNING``, ``COMPLETED``, ``FAILED``, ``INTERRUPTED``, …; ``DIED`` where a run says that
        it runs and its process is gone.
    started, stopped, heartbeat : datetime or None
        UTC.
    seconds : float or None
        From start to end; for a running one, to its last sign of life.
    host : str
        Where it ran.
    config, result : mapping
        Plain values.
    fingerprint : str
        Of the task.
    inputs, output, overrides : mapping
        See the README, ``info.factbook``.
    project : str
        The name that its project had; "" for records that another Sacred client made.
    part : Part or None
        The part of the task that it was to write alone; None for a run of its own.
    facts : mapping
        What stands under ``info.factbook``: all of it in :meth:`Catalog.run`; in a list without
        the packages.
    """

    id: int | None
    uid: str
    experiment: str
    cell: str
    stage: str
    status: str
    started: datetime | None
    stopped: datetime | None
    heartbeat: datetime | None
    seconds: float | None
    host: str
    config: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    output: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    project: str = ""
    part: Part | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_record(cls, record: Mapping[str, Any], journals: Path | None = None) -> RunView:
        """Return the view of a document of ``runs``, Sacred's own ones too."""
        facts = _mapping(_mapping(record.get("info")).get("factbook"))
        started, stopped = utc(record.get("start_time")), utc(record.get("stop_time"))
        experiment = str(_mapping(record.get("experiment")).get("name", ""))
        named = str(facts.get("stage", ""))
        stage = find_stage(named)
        rules = stage.settings.rules if stage else NO_RULES
        return cls(
            id=record.get("_id"),
            uid=str(facts.get("uid", "")),
            experiment=str(facts.get("experiment", experiment)),
            cell=str(facts.get("cell", experiment)),
            stage=stage.name if stage else named,
            status=shown_status(record, journals=journals),
            started=started,
            stopped=stopped,
            heartbeat=utc(record.get("heartbeat")),
            seconds=seconds_of(record),
            host=str(facts.get("host") or _mapping(record.get("host")).get("hostname", "")),
            config=rules.completed(_mapping(record.get("config"))),
            result=_as_result(record.get("result")),
            fingerprint=str(facts.get("fingerprint", "")),
            inputs=_mapping(facts.get("inputs")),
            output=_mapping(facts.get("output")),
            overrides=_mapping(facts.get("overrides")),
            project=str(facts.get("project", "")),
            part=_part(facts.get("part")),
            facts=facts,
        )

    @property
    def key(self) -> int | str:
        """Its number, or its own identifier while it has none."""
        return self.uid if self.id is None else self.id

    @property
    def title(self) -> str:
        """Its cell, and which part of it."""
        return f"{self.cell} {self.part}" if self.part else self.cell

    def parts(self) -> list[tuple[Part, str]]:
        """Return the parts of its dataset that other runs wrote, and which runs, in order."""
        told = self.facts.get("parts")
        found = [(_part(each), str(each.get("run", ""))) for each in _mappings(told)]
        return [(part, run) for part, run in found if part is not None]

    def row(self) -> dict[str, Any]:
        """Return the run as one flat row; configuration and result by dotted keys."""
        row = {name: getattr(self, name) for name in (*COLUMNS, "project")}
        row |= {"part": self.part.code} if self.part else {}
        for group in ("config", "result"):
            row |= {f"{group}.{key}": value for key, value in flat(getattr(self, group))}
        return row

    def column(self, name: str) -> Any:
        """Return what stands in one of the columns that every row has."""
        return getattr(self, name)

    def inside(self, column: str) -> Any:
        """Return what its row does not have: a whole group of settings, or one by a former name.

        None where the run has no such thing.
        """
        group, _, key = column.partition(".")
        if not key or group not in ("config", "result"):
            return None
        if group == "config" and (stage := find_stage(self.stage)):
            key = stage.settings.rules.name(key)
        return value_inside(getattr(self, group), key)


@dataclass(frozen=True)
class RunDetails:
    """What Sacred notes beside a run, other clients' runs too: plain values.

    Attributes
    ----------
    command : str
        Name of the command that ran.
    host : mapping
        Of the machine: ``hostname``, ``os``, ``cpu``, ``gpus``, ``python_version``.
    repositories : tuple of (str, str, bool)
        Where the code came from: address, commit, and whether files differed from it.
    dependencies : tuple of str
        ``numpy==2.4.6``.
    resources : tuple of str
        Files that it opened.
    artifacts : tuple of str
        Names of files that were added to it.
    """

    command: str = ""
    host: Mapping[str, Any] = field(default_factory=dict)
    repositories: tuple[tuple[str, str, bool], ...] = ()
    dependencies: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> RunDetails:
        """Return what a document of ``runs`` says."""
        experiment = _mapping(record.get("experiment"))
        repositories = (
            (str(each.get("url")), str(each.get("commit")), bool(each.get("dirty")))
            for each in _mappings(experiment.get("repositories"))
        )
        resources = [pair for pair in _list(record.get("resources")) if isinstance(pair, list)]
        return cls(
            str(record.get("command") or ""),
            _mapping(record.get("host")),
            tuple(dict.fromkeys(repositories)),
            tuple(map(str, _list(experiment.get("dependencies")))),
            tuple(str(pair[0]) for pair in resources if pair),
            tuple(str(file.get("name")) for file in _mappings(record.get("artifacts"))),
        )


class Runs(UserList[RunView]):
    """Runs in the order that was asked for."""

    def __repr__(self) -> str:
        return f"{counted(len(self), 'run')}: " + ", ".join(
            f"{run.id} {run.cell}" for run in self[:5]
        )

    def _repr_html_(self) -> str:
        """Show themselves in Jupyter: a row per run."""
        html: str = self.to_frame().iloc[:, : len(COLUMNS)].to_html(max_rows=60, index=False)
        return f"<p>{counted(len(self), 'run')}</p>{html}"

    def to_frame(self) -> pd.DataFrame:
        """Return a DataFrame, a row per run, configuration and result in columns by dotted key."""
        import pandas as pd

        return pd.DataFrame([run.row() for run in self], columns=None if self else COLUMNS)


def seconds_of(record: Mapping[str, Any]) -> float | None:
    """Return how long a run took; of one that runs, until its last sign of life."""
    started = utc(record.get("start_time"))
    ended = utc(record.get("stop_time")) or utc(record.get("heartbeat"))
    return (ended - started).total_seconds() if started and ended else None


def group_value(record: Mapping[str, Any], column: str) -> Any:
    """Return what the view of a record has in a column of its configuration or of its result.

    None where it has no such thing; as a row of the view, or what lies inside of it, without it.
    """
    group, dot, key = column.partition(".")
    values, name = record.get(group), key
    if group == "result":
        values = _as_result(values)
    else:
        facts = _mapping(_mapping(record.get("info")).get("factbook"))
        stage = find_stage(str(facts.get("stage", "")))
        values = _mapping(values)
        if stage is not None:
            rules = stage.settings.rules
            values, name = rules.completed(values), rules.name(key)
    if not dot:
        return None
    found = value_inside(values, key)
    if found is None:  # a name with a dot in it, or a former one
        found = next((value for own, value in flat(values) if own == key), None)
    return value_inside(values, name) if found is None else found


def value_inside(values: Any, key: str) -> Any:
    """Return what nested settings hold at a dotted key, None where there is no such thing."""
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def _as_result(value: Any) -> Mapping[str, Any]:
    """Return a result by names; one that is a single value has none."""
    return value if isinstance(value, Mapping) else {} if value is None else {"": value}


def record_of(folder: Path) -> dict[str, Any] | None:
    """Return what a journal says in the form of a record, or None if there is no such journal.

    One that cannot be read is warned of.
    """
    try:
        journal = read_journal(folder, with_metrics=False)
    except OSError as error:
        warnings.warn(f"{folder} cannot be read: {error.strerror or error}", stacklevel=2)
        return None
    if not journal.status:
        return None
    status = journal_status(folder)
    names = "experiment command host start_time heartbeat config result resources artifacts"
    return {
        "_id": None,
        "status": status.status,
        "stop_time": journal.stop_time or status.stop_time,
        **{name: getattr(journal, name) for name in (*names.split(), "fail_trace")},
        "info": {**journal.info, "factbook": journal.facts},
    }


def _part(value: Any) -> Part | None:
    number, of = (_mapping(value).get(name) for name in ("number", "of"))
    return Part(number, of) if isinstance(number, int) and isinstance(of, int) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in _list(value) if isinstance(item, Mapping)]


def utc(value: Any) -> datetime | None:
    """Return a time of a record with its zone; None for anything else."""
    return aware(value) if isinstance(value, datetime) else None


def source_diff(first: Mapping[str, str], second: Mapping[str, str]) -> str:
    """Return how the code of one run becomes that of another, as a unified diff; "" if alike."""
    lines: list[str] = []
    for name in sorted(first.keys() | second.keys()):
        old, new = (sources.get(name, "").splitlines() for sources in (first, second))
        lines += difflib.unified_diff(old, new, name, name, lineterm="")
    return "\n".join(lines)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested settings as dotted keys and values."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
