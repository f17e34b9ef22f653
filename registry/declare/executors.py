"""Where tasks run, ``[executors.NAME]``, and what they ask for, ``[resources]``.

Neither is part of a configuration, nor of a fingerprint: a task is the same wherever it runs.
A kind of executor is a frozen dataclass of settings with a class attribute ``opens``: the path
``module:function`` of what makes a runner of it. Packages add kinds by entry points of the group
``factbook.executors``, a name to such a dataclass.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from registry.declare.faults import StageError
from registry.declare.settings import Settings
from registry.suggest import nearest

EXECUTOR_GROUP = "factbook.executors"
QUEUED = "registry.execute.queued:open_queued"
"""What opens a kind that is a queue, whose path is ``queue`` then: made of settings and root."""

_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")
_SIZES = {
    **{f"{letter}B": 1000**power for power, letter in enumerate("kMGT", 1)},
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)},
}
_TIMES = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def _quantity(units: Mapping[str, int], example: str) -> BeforeValidator:
    """Return what reads a number with one of these units, in the smallest of them."""

    def read(value: Any) -> Any:
        if value is None:
            return None
        found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise ValueError(f"expected a number with its unit, as '{example}'")
        number, unit = found.groups()
        if unit not in units:
            raise ValueError(f"unknown unit {unit!r}{nearest(unit, units)}")
        if not (amount := round(float(number) * units[unit])):
            raise ValueError("expected more than nothing")
        return amount

    return BeforeValidator(read)


Size = Annotated[int | None, _quantity(_SIZES, "16 GB")]
"""Bytes; written as ``"16 GB"`` (of 1000) or ``"16 GiB"`` (of 1024)."""
Duration = Annotated[int | None, _quantity(_TIMES, "2 h")]
"""Seconds; written as ``"90 s"``, ``"30 min"``, ``"2 h"`` or ``"1.5 d"``."""
Period = Annotated[int, _quantity(_TIMES, "2 h")]


@dataclass(frozen=True)
class Demand:
    """What a task asks of the machine that runs it.

    Attributes
    ----------
    gpus : int or None
        Devices.
    cpus : int or None
        Cores; as many threads compute. One where nothing is declared.
    memory : int or None
        Bytes of memory.
    time : int or None
        Seconds after which the run is interrupted, to be resumed by another.
    ranks : int or None
        Processes that share the work, under torchrun, where the stage can be shared, as
        `fact.train_sae`; by default one for each of `gpus`. Other stages run in one process, which
        sees all devices.
    """

    gpus: Annotated[int, Field(ge=0)] | None = None
    cpus: Annotated[int, Field(ge=1)] | None = None
    memory: Size = None
    time: Duration = None
    ranks: Annotated[int, Field(ge=1)] | None = None

    @property
    def processes(self) -> int:
        """How many processes run a task, if its stage can be shared."""
        return self.ranks or self.gpus or 1

    def over(self, other: Demand) -> Demand:
        """Return this demand, and where it asks for nothing, what another one asks for."""
        own = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return Demand(**{k: getattr(other, k) if v is None else v for k, v in own.items()})


DEMAND = Settings(Demand)


@dataclass(frozen=True)
class Local:
    """Worker processes of this machine, as ``factbook run --workers``.

    Attributes
    ----------
    workers : int
        Processes side by side; they share the cores.
    """

    workers: Annotated[int, Field(ge=1)] = 1

    opens: ClassVar[str] = "registry.execute.executors:open_local"


@dataclass(frozen=True)
class Slurm:
    """A Slurm cluster, of which this machine can submit jobs (``sbatch``).

    Attributes
    ----------
    partition, account, qos, constraint : str
        As the options of ``sbatch``; "" leaves them to the cluster.
    options : mapping of str to (str, int or bool)
        Further options of ``sbatch``, by their long names: ``{ exclude = "node7" }``.
    setup : tuple of str
        Lines of shell to be run before the command: ``["module load cuda"]``.
    python : str
        Command that starts Python with factbook there; by default the one that runs here.
    requeues : int
        How often a run that was preempted, reached its time limit or lost its node begins again.
    notice : str
        How long before its time limit a run is told to save what it has and end: ``"60 s"``.
    jobs : int
        Jobs in the queue at a time, at most; an array has no more cells than that either.
    side_by_side : int
        Cells of an array that run at a time, at most; 0 leaves it to the cluster.
    poll : str
        How often the queue is asked: ``"5 s"``.
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    options: Mapping[str, str | int | bool] = field(default_factory=dict)
    setup: tuple[str, ...] = ()
    python: str = ""
    requeues: Annotated[int, Field(ge=0)] = 3
    notice: Period = 60
    jobs: Annotated[int, Field(ge=1)] = 1000
    side_by_side: Annotated[int, Field(ge=0)] = 0
    poll: Period = 5

    opens: ClassVar[str] = QUEUED
    queue: ClassVar[str] = "registry.execute.slurm:SlurmQueue"


@dataclass(frozen=True)
class Dask:
    """Workers of ``dask.distributed``: of a scheduler, or of a cluster that is started for a suite.

    Attributes
    ----------
    address : str
        Of a scheduler that runs: ``"tcp://10.0.0.1:8786"``.
    cluster : str
        Path of a cluster's class, as ``"distributed:SSHCluster"``: it is made with `arguments`, and
        closed at the end. Kubernetes and clouds have such classes in packages of their own.
    arguments : mapping
        What the cluster's class is given, by name.
    scale : int
        Workers that the cluster is asked for; 0 leaves that to its arguments.
    python : str
        Command that starts Python with factbook there; by default the one that runs a worker.
    requeues : int
        How often a run that was interrupted or lost its worker begins again.
    jobs : int
        Tasks that are submitted at a time, at most.
    poll : str
        How often the scheduler is asked: ``"5 s"``.
    """

    address: str = ""
    cluster: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    scale: Annotated[int, Field(ge=0)] = 0
    python: str = ""
    requeues: Annotated[int, Field(ge=0)] = 3
    jobs: Annotated[int, Field(ge=1)] = 1000
    poll: Period = 5

    opens: ClassVar[str] = QUEUED
    queue: ClassVar[str] = "registry.execute.dask:DaskQueue"

    def __post_init__(self) -> None:
        if bool(self.address) == bool(self.cluster):
            raise ValueError("expected either `address` or `cluster`")


_OWN: dict[str, type] = {"local": Local, "slurm": Slurm, "dask": Dask}


@dataclass(frozen=True)
class Executor:
    """A declared executor: ``[executors.NAME]``.

    Attributes
    ----------
    name, kind : str
        ``[executors.gpus] kind = "slurm"``: gpus, slurm.
    settings : object
        The validated settings, an instance of the kind's dataclass.
    demand : Demand
        What a task asks for of which nothing else is declared.
    """

    name: str
    kind: str
    settings: Any
    demand: Demand = Demand()


def executor_kinds() -> tuple[str, ...]:
    """Return the kinds of executors that there are, sorted."""
    return tuple(sorted({*_OWN, *entry_points(group=EXECUTOR_GROUP).names}))


def executor_kind(name: str) -> Settings:
    """Return the settings of a kind of executor that there is.

    Raises
    ------
    StageError
        If a package's cannot be loaded, or says not how it is opened.
    """
    if name in _OWN:
        return Settings(_OWN[name])
    point: EntryPoint = entry_points(group=EXECUTOR_GROUP)[name]
    try:
        cls = point.load()
    except (ImportError, AttributeError) as error:
        raise StageError(f"executor kind {name!r} cannot be loaded: {error}") from error
    if not isinstance(getattr(cls, "opens", None), str):
        raise StageError(f"executor kind {name!r} has no path 'opens' of what makes its runner")
    return Settings(cls)
