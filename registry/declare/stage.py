"""A stage: one verb with a typed configuration, declared inputs and one labelled output.

A stage is declared in a module of its own, which stays free of heavy imports, so that planning
never loads what only running needs. :mod:`registry.execute.experiment` turns a stage into a Sacred
experiment when it is run.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import math
import pkgutil
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from registry.declare.faults import StageError
from registry.declare.plugins import plugin_modules, plugin_packages
from registry.declare.requirements import Estimate, Requirement
from registry.declare.settings import Settings
from registry.store.checkpoint import Checkpoint
from registry.store.durable import StoreError
from registry.store.manifest import find_dataset
from registry.store.schema import Schema
from registry.suggest import nearest, needs_extras

if TYPE_CHECKING:  # heavy: xarray and NumPy, which planning does without
    import xarray as xr

    from registry.columns import ResultTable
    from registry.declare.cells import Cell
    from registry.declare.declared import Resource
    from registry.store.shards import ShardWriter

Foresee = Callable[[Mapping[str, Any], Mapping[str, "Resource"]], Iterable[str]]
Refuse = Callable[[Mapping[str, Any], Mapping[str, "Resource | Cell"]], Iterable[str]]
Requires = Callable[[Mapping[str, Any]], Iterable[Requirement]]
Sizes = Mapping[str, Mapping[str, int]]
Estimator = Callable[[Mapping[str, Any], Sizes, Mapping[str, Any]], Estimate | None]

_MAIN_PATH = re.compile(r"\w+(\.\w+)*:\w+")

StageMain = Callable[[Any, Any, Any], Any]
"""A function of the configuration, the inputs (:data:`registry.declare.stage.Inputs`) and the run
(:class:`registry.declare.stage.Run`), which returns a dataset or its shards."""


@dataclass(frozen=True)
class Slot:
    """One input of a stage.

    Attributes
    ----------
    name : str
        Its key under ``needs``.
    kinds : tuple of str
        What it takes: names of schemas, or types that resources provide.
    is_optional : bool
        Whether it may be left empty.
    is_list : bool
        Whether several things may fill it: the first under its name, the others with a number
        behind it, as ``ours``, ``ours_2``; :func:`listed` returns them in their order.
    """

    name: str
    kinds: tuple[str, ...]
    is_optional: bool = False
    is_list: bool = False

    @classmethod
    def parse(cls, name: str, text: str) -> Slot:
        """Read ``concepts``, ``concepts | activations``, or ``sanity?`` where it may be empty.

        ``sanity+`` takes one or a list of them, ``sanity*`` none too.
        """
        kinds = tuple(kind.strip() for kind in text.rstrip("?+*").split("|"))
        mark = text[len(text.rstrip("?+*")) :]
        if not all(kind.isidentifier() for kind in kinds) or len(mark) > 1:
            raise StageError(f"slot {name!r}: expected kinds as 'concepts | labels?'; got {text!r}")
        return cls(name, kinds, mark in ("?", "*"), mark in ("+", "*"))

    def numbered(self, number: int) -> str:
        """Return the name under which the thing of this number, from 1, fills a list."""
        return self.name if number == 1 else f"{self.name}_{number}"

    def has(self, name: str) -> bool:
        """Whether what fills ``name`` is of this list."""
        base, _, number = name.rpartition("_")
        return name == self.name or (self.is_list and base == self.name and number.isdecimal())

    def __str__(self) -> str:
        return " or ".join(map(repr, self.kinds))


class Stage:
    """One verb of the house, as a typed experiment.

    Parameters
    ----------
    name : str
        The module that declares it, as ``fact.train_sae``.
    version : int
        Raised when the same configuration gives another result; part of the fingerprint.
    config : type
        A frozen dataclass with the configuration's keys, ranges and defaults.
    needs : mapping of str to str
        Slot to the kind of thing it takes: a schema's name, or a type that resources provide;
        ``"concepts | activations"`` for one of several, ``"sanity?"`` where it may be left empty.
    output : Schema
        Schema of the dataset that the stage returns.
    main : str, optional
        Path ``"module:function"`` of the function ``(config, inputs, run) -> Dataset`` that does
        the work. Its module is imported when the stage is first run, loaded once for all workers,
        and its code counts as the stage's own. Small stages decorate a function with :meth:`main`
        instead.
    formerly : tuple of str
        Names that the stage had before, the first one first. Declarations, records and datasets
        with such a name are read as this stage's; fingerprints go on hashing the first name. A
        module of a former name imports ``stage`` from here.
    preload : tuple of str
        More modules worth loading once before several tasks are run.
    plugged : callable, optional
        Names of the modules that a configuration, as plain JSON values, names rows of, as those
        of a plug-in: their code counts as the stage's own, which imports none of them.
    tables : tuple of str
        Paths ``"module:name"`` of the tables (:class:`registry.columns.ResultTable`) that sum up a
        dataset of the output. Their numbers are compared between settings and over seeds, beside
        the dataset's scalars.
    shows : tuple of str
        Paths ``"module:function"`` of functions that take a dataset of the output and return what
        Jupyter shows of it: a text, a figure, or several figures. The first are texts.
    foresee : callable, optional
        What a plan should say before anything runs: takes the configuration, as plain JSON values,
        and the declared resources (:class:`registry.declare.declared.Resource`) that the stage
        rests on, by name; returns sentences. It loads nothing.
    requires : callable, optional
        What has to be there beside the inputs, as packages: takes the configuration, as plain JSON
        values; returns :class:`registry.declare.requirements.Requirement`. It loads nothing. What
        is missing is told before a suite's first task is run.
    refuse : callable, optional
        What cannot be done: takes the configuration, as plain JSON values, and what the stage
        loads, by slot: declared resources, with what first looks have found of them, or the cells
        (:class:`registry.declare.cells.Cell`) that make it; returns sentences, one for each reason
        why a task would fail. It loads nothing, and is asked before a suite's first task is run.
    reaches : tuple of str
        Slots of what its inputs were made from, which it loads as well, as ``network`` behind an
        SAE.
    aside : bool
        Whether it reads of the data that it rests on, however far behind, what other stages do
        not, as masks of images: see ``common`` of :class:`registry.declare.declared.Resource`.
    probe : str, optional
        Path ``"module:function"`` of a first look: takes the configuration and the inputs, as far
        as they are declared resources; returns plain JSON values, or raises what is wrong. It is
        run in a process of its own before a suite's first task, wherever all that it looks at is
        there.
    probed : tuple of str
        Slots that the probe looks at.
    cut_by : str
        What it goes through one by one, as ``images``, if tasks can be cut into parts that run
        side by side, each writing shards of its own: the work gives `run.shards` their number,
        and calls the writer's `end_part` when they are written.
    uncut : str
        Why tasks cannot be cut, where that is worth a word.
    estimate : callable, optional
        What a task takes: of the configuration as plain JSON values, the known sizes of each
        input's dimensions by slot, and what the probe has found (empty where none was run);
        returns an :class:`registry.declare.requirements.Estimate`, or None.
    joins : str, optional
        Path ``"module:function"`` of what joins the processes that torchrun has started, and
        returns the words they share (:class:`registry.execute.ranks.Words`). A stage without it
        runs in one process. With it, the first process returns the dataset; what others return
        is passed over.
    """

    def __init__(
        self,
        name: str,
        *,
        version: int,
        config: type,
        needs: Mapping[str, str],
        output: Schema,
        main: str | None = None,
        formerly: tuple[str, ...] = (),
        preload: tuple[str, ...] = (),
        plugged: Callable[[Mapping[str, Any]], Iterable[str]] | None = None,
        tables: tuple[str, ...] = (),
        shows: tuple[str, ...] = (),
        foresee: Foresee | None = None,
        requires: Requires | None = None,
        refuse: Refuse | None = None,
        reaches: tuple[str, ...] = (),
        aside: bool = False,
        probe: str | None = None,
        probed: tuple[str, ...] = (),
        estimate: Estimator | None = None,
        cut_by: str = "",
        uncut: str = "",
        joins: str | None = None,
    ):
        self.name = name
        self.version = version
        self.settings = Settings(config)
        self.needs = dict(needs)
        self.slots = {slot: Slot.parse(slot, text) for slot, text in self.needs.items()}
        self.output = output
        self.formerly = formerly
        self.main_path = main
        self.preload = preload
        self.table_paths = tables
        self.show_paths = shows
        self._plugged = plugged
        self.reaches = reaches
        self.aside = aside
        self._foresee = foresee
        self._requires = requires
        self._refuse = refuse
        self.probe_path = probe
        self.probed = probed
        self._estimate = estimate
        self.cut_by = cut_by
        self._uncut = uncut
        self._joins = joins
        self._main: StageMain | None = None
        if main is not None and not _MAIN_PATH.fullmatch(main):
            raise StageError(f"stage {name!r}: expected main as 'module:function'; got {main!r}")
        for what, path in [("tables", p) for p in tables] + [("shows", p) for p in shows]:
            if not _MAIN_PATH.fullmatch(path):
                raise StageError(f"stage {name!r}: expected {what} as 'module:name'; got {path!r}")

    def __repr__(self) -> str:
        return f"Stage({self.name!r}, version={self.version})"

    @property
    def config(self) -> type:
        """The dataclass of the configuration."""
        return self.settings.cls

    @property
    def main_modules(self) -> tuple[str, ...]:
        """The module of the function that does the work, where it is named by its path."""
        return (self.main_path.partition(":")[0],) if self.main_path else ()

    def slots_of(self, filled: Iterable[str]) -> dict[str, Slot]:
        """Return its slots, those of lists with every number that is filled."""
        lists = [slot for slot in self.slots.values() if slot.is_list]
        return self.slots | {
            name: replace(slot, name=name, is_optional=True)
            for name in sorted(filled, key=_of_list)
            for slot in lists
            if name not in self.slots and slot.has(name)
        }

    @property
    def doc(self) -> str:
        """First line of the docstring of the stage's module."""
        doc = importlib.import_module(self.name).__doc__ or ""
        return doc.strip().split("\n")[0]

    def plugged(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the modules, sorted, that a configuration of plain JSON values names rows of."""
        return tuple(sorted(set(self._plugged(config)))) if self._plugged else ()

    def foresee(
        self, config: Mapping[str, Any], resources: Mapping[str, Resource]
    ) -> tuple[str, ...]:
        """Return what a plan should say of a task with this configuration and these resources."""
        return tuple(self._foresee(config, resources)) if self._foresee else ()

    def requires(self, config: Mapping[str, Any]) -> tuple[Requirement, ...]:
        """Return what has to be there for a configuration of plain JSON values."""
        return tuple(self._requires(config)) if self._requires else ()

    @property
    def uncut(self) -> str:
        """Why tasks of it cannot be cut into parts; "" where they can."""
        reason = self._uncut or "it does not go through images or neurons one by one"
        return "" if self.cut_by else f"{self.name} cannot be cut into parts: {reason}"

    @property
    def refuses(self) -> bool:
        """Whether there is anything to be asked by :meth:`refuse`."""
        return self._refuse is not None

    def refuse(
        self, config: Mapping[str, Any], loaded: Mapping[str, Resource | Cell]
    ) -> tuple[str, ...]:
        """Return why a task with this configuration cannot run on what it would load."""
        return tuple(self._refuse(config, loaded)) if self._refuse else ()

    def probe(self, config: Mapping[str, Any], inputs: Mapping[str, Input]) -> dict[str, Any]:
        """Take a first look at resources; raises what is wrong with them."""
        look = _named(str(self.probe_path))
        if not callable(look):
            raise StageError(f"stage {self.name!r}: there is no function {self.probe_path!r}")
        return dict(look(self.resolve(config), inputs))

    def estimate(
        self, config: Mapping[str, Any], sizes: Sizes, found: Mapping[str, Any]
    ) -> Estimate | None:
        """Return what a task will take, as far as that is known."""
        return self._estimate(config, sizes, found) if self._estimate else None

    @property
    def can_be_shared(self) -> bool:
        """Whether several processes can run a task of it together."""
        return self._joins is not None

    def join(self) -> Any:
        """Join the processes that torchrun has started; None if this stage runs in one."""
        return None if self._joins is None else _named(self._joins)()

    def code_modules(self, config: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        """Return the modules whose code counts as the stage's own, beside its module.

        Parameters
        ----------
        config : mapping, optional
            A configuration of plain JSON values, which may name modules of plug-ins.
        """
        return (*self.main_modules, *(self.plugged(config) if config is not None else ()))

    def main(self, function: StageMain) -> StageMain:
        """Decorate the function ``(config, inputs, run) -> Dataset`` that does the work."""
        self._main = function
        return function

    def __call__(self, config: Any, inputs: Mapping[str, Any], run: Any) -> Any:
        """Do the work."""
        self._main = self._main or self._import_main()
        return self._main(config, inputs, run)

    def _import_main(self) -> StageMain:
        if self.main_path is None:
            raise StageError(f"stage {self.name!r} has no main function; name or decorate one")
        module, _, name = self.main_path.partition(":")
        try:
            main = _named(self.main_path)
        except ModuleNotFoundError as error:
            if error.name and f"{module}.".startswith(f"{error.name}."):
                raise StageError(
                    f"stage {self.name!r} is done by {self.main_path!r}, and there is no module "
                    f"{error.name!r}: put its file back, or change `main` of the stage"
                ) from error
            raise
        if not callable(main):
            raise StageError(f"stage {self.name!r}: module {module!r} has no function {name!r}")
        return cast(StageMain, main)

    def tables(self) -> tuple[ResultTable, ...]:
        """Return the tables that sum up a dataset of the output; imports what declares them."""
        from registry.columns import ResultTable  # heavy: NumPy

        found = tuple(map(_named, self.table_paths))
        for path, table in zip(self.table_paths, found, strict=True):
            if not isinstance(table, ResultTable):
                raise StageError(f"stage {self.name!r}: {path!r} is no ResultTable")
        return found

    def shows(self) -> tuple[Callable[[xr.Dataset], Any], ...]:
        """Return what shows a dataset of the output in Jupyter; imports what declares them."""
        found = tuple(map(_named, self.show_paths))
        for path, show in zip(self.show_paths, found, strict=True):
            if not callable(show):
                raise StageError(f"stage {self.name!r}: {path!r} is no function")
        return found

    def resolve(self, values: Mapping[str, Any]) -> Any:
        """Return the validated configuration that ``values`` give over the defaults.

        Raises
        ------
        ConfigError
            With every fault at once.
        """
        return self.settings.validate(values)

    def configuration(self, config: Any) -> dict[str, Any]:
        """Return a validated configuration as plain JSON values, every key resolved."""
        return self.settings.plain(config)


def _of_list(name: str) -> tuple[str, int]:
    """Return what orders the names that fill a list."""
    base, _, number = name.rpartition("_")
    return (base, int(number)) if number.isdecimal() else (name, 1)


def _named(path: str) -> Any:
    """Return what stands at ``module:name``; None if the module has no such name."""
    module, _, name = path.partition(":")
    with needs_extras():
        return getattr(importlib.import_module(module), name, None)


@functools.cache
def load_stage(name: str) -> Stage:
    """Import the module ``name`` and return the stage that it declares.

    A former name loads the stage that had it.

    Raises
    ------
    StageError
        If there is no such module, or it declares no stage; with the nearest name.
    """
    package = name.rpartition(".")[0]
    if not package or importlib.util.find_spec(package.split(".")[0]) is None:
        raise StageError(f"unknown stage {name!r}{nearest(name, known_stages())}")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and not f"{name}.".startswith(f"{error.name}."):
            raise StageError(f"stage {name!r} cannot be imported: {error}") from error
        raise StageError(f"unknown stage {name!r}{nearest(name, known_stages(package))}") from None
    stage = getattr(module, "stage", None)
    if not isinstance(stage, Stage):
        raise StageError(f"module {name!r} declares no `stage`{nearest(name, known_stages())}")
    if name not in (stage.name, *stage.formerly):
        raise StageError(
            f"module {name!r} declares a stage named {stage.name!r}; expected {name!r}"
        )
    return stage


def find_stage(name: str) -> Stage | None:
    """Return the stage that a record names, by today's name or a former one; None if unknown."""
    is_of_a_plugin = name.split(".")[0] in plugin_packages()  # records may say anything
    return _find_stage(name) if is_of_a_plugin else None


@functools.cache
def _find_stage(name: str) -> Stage | None:
    try:
        return load_stage(name)
    except Exception:  # a stage is somebody else's code
        return None


def known_stages(*packages: str) -> tuple[str, ...]:
    """Names of the modules that declare a stage, found without importing them.

    Parameters
    ----------
    *packages : str
        Packages to search beside those of the plug-ins.
    """
    searched = {*packages, *(module.split(".")[0] for module in plugin_modules())}
    return tuple(name for package in sorted(searched) for name in _stages_in(package))


def _stages_in(package: str) -> Iterator[str]:
    spec = None
    with suppress(ModuleNotFoundError):
        spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return
    for info in pkgutil.iter_modules(spec.submodule_search_locations):
        found = importlib.util.find_spec(f"{package}.{info.name}")
        origin = found.origin if found else None
        if origin and _declares_stage(Path(origin).read_text(encoding="utf-8")):
            yield f"{package}.{info.name}"


def _declares_stage(code: str) -> bool:
    if "\nstage = " not in code:
        return False
    with suppress(SyntaxError):  # the text may stand in a string; code at fault tells when imported
        return any(
            isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "stage"
            for node in ast.parse(code).body
        )
    return True


@dataclass(frozen=True)
class Input:
    """One resolved input of a task: a declared resource, or the output of an earlier task.

    Attributes
    ----------
    slot, name : str
        The slot it fills, and the declared name (of a cell, where there are several).
    kind : str
        Schema name of a dataset, or the type that a resource provides.
    fingerprint : str
        16 hexadecimal digits.
    path : Path or None
        The folder of the run that made it; None for a resource.
    settings : object or None
        Validated settings of a resource; None for a task's output.
    inputs : mapping of str to Input
        What it was made from, so that a stage can reach the network behind its features.
    run, content : str or None
        Identifier of the run that made it and digest of its content; None for a resource.
    """

    slot: str
    name: str
    kind: str
    fingerprint: str
    path: Path | None = None
    settings: Any = None
    inputs: Mapping[str, Input] = field(default_factory=dict)
    run: str | None = None
    content: str | None = None

    def open(self, proven: float | None = None) -> xr.Dataset:
        """Open the dataset lazily, in today's form of its schema.

        Parameters
        ----------
        proven : float, optional
            Bytes up to which files are compared with their checksums; small ones are by default.

        Raises
        ------
        StageError
            If this input is a declared resource, which has no dataset.
        registry.SchemaError
            If it was written in a version of its schema that cannot be read.
        """
        from registry.store.datasets import open_dataset  # heavy: xarray

        folder, manifest = self.proven(proven or 0)
        try:
            return open_dataset(folder, load_stage(manifest["stage"]).output)
        except StoreError as error:
            raise self._damaged(error) from error

    def proven(self, most: float = math.inf) -> tuple[Path, Mapping[str, Any]]:
        """Return the folder of the run that made it, and its manifest, its files being whole.

        Parameters
        ----------
        most : float
            Bytes up to which files are compared with their checksums, not with their sizes alone.

        Raises
        ------
        StageError
            If this input is a declared resource.
        registry.StoreError
            If files are gone or not as they were written, with the command that makes them again.
        """
        if self.path is None:
            raise StageError(f"{self.name!r} is a declared {self.kind}; it has no dataset")
        try:
            return find_dataset(self.path, most)
        except StoreError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: StoreError) -> StoreError:
        command = f"factbook run --verify {shlex.quote(self.name)}"
        text = f"{error}; {command} makes it again"
        return type(error)(text, command=command, is_damaged=True)

    @property
    def config(self) -> Mapping[str, Any]:
        """The whole configuration that a task's output was made with.

        Raises
        ------
        StageError
            If this input is a declared resource.
        """
        if self.path is None:
            raise StageError(f"{self.name!r} is a declared {self.kind}; see its settings")
        manifest = find_dataset(self.path)[1]
        return load_stage(manifest["stage"]).settings.rules.completed(manifest["config"])

    def load(self) -> Any:
        """Load a declared resource, as its kind defines."""
        if self.settings is None:
            raise StageError(f"{self.name!r} is a dataset on disk; open it instead")
        return self.settings.load()

    def origin(self, slot: str) -> Input:
        """Return the nearest input behind this one, or itself, that fills ``slot``.

        Raises
        ------
        StageError
            If nothing that this input was made from fills the slot.
        """
        if self.slot == slot:
            return self
        layer = list(self.inputs.values())
        while layer:
            for candidate in layer:
                if candidate.slot == slot:
                    return candidate
            layer = [deeper for candidate in layer for deeper in candidate.inputs.values()]
        raise StageError(f"nothing that {self.name!r} was made from fills the slot {slot!r}")


Inputs = Mapping[str, Input]


def listed(inputs: Inputs, slot: str) -> tuple[Input, ...]:
    """Return what fills a slot that takes a list, in its order; empty where nothing does."""
    names = filter(Slot(slot, (), is_list=True).has, inputs)
    return tuple(inputs[name] for name in sorted(names, key=_of_list))


@runtime_checkable
class Run(Protocol):
    """What a stage may ask of the run that executes it."""

    uid: str
    experiment: str
    fingerprint: str
    partial: Path
    """A folder for resumable state, kept when the run is killed and found by the next one."""

    def log(self, name: str, value: float, step: int) -> None:
        """Record one point of a metric's curve."""

    def progress(self, done: int, total: int, what: str = "") -> None:
        """Tell whoever watches how far the run is; never recorded."""

    def attach(self, name: str) -> Path:
        """Return the path of a file to write beside the dataset, as ``pictures/3.png``."""

    def checkpoint(self, name: str) -> Checkpoint:
        """Return a file of ``partial`` to resume from, which is whole or not found.

        ``with run.checkpoint("state.npz").write() as path`` replaces it in one step.
        """

    def shards(self, count: int | None = None) -> ShardWriter:
        """Return the writer of the stage's output in shards, resuming what is there.

        Where the task may be cut, `count` says how many shards there will be, and the stage calls
        the writer's `end_part` when all are written.
        """
