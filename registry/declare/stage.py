"""A stage: one verb with a typed configuration, declared inputs and one labelled output.

A stage is declared in a module of its own, which stays free of heavy imports, so that planning
never loads what only running needs. :mod:`registry.execute.experiment` turns a stage into a Sacred
experiment when it is run.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import json
import math
import pkgutil
import re
import shlex
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar, cast, runtime_checkable

import pydantic
import pydantic_core

from registry.declare.packages import require_own_packages
from registry.suggest import nearest

if TYPE_CHECKING:
    import xarray as xr

    from registry.store.datasets import ShardWriter
    from registry.store.schema import Schema

T = TypeVar("T")

PLUGIN_GROUP = "factbook.plugins"

_MAIN_PATH = re.compile(r"\w+(\.\w+)*:\w+")

MAKES_AGAIN = " makes it again"
"""How the reason ends why a damaged input cannot be used, after a command."""


class RuntimeMark:
    """Marks a configuration key that cannot change a result (device, workers, progress)."""


Runtime = Annotated[T, RuntimeMark()]
"""``device: Runtime[str] = "auto"``: a key that stays out of the fingerprint."""


class StageError(Exception):
    """A stage, a kind or a plug-in that cannot be found or is declared wrongly."""


@dataclass(frozen=True)
class ConfigFault:
    """One thing wrong with a configuration: dotted ``key``, and what was got and expected."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" if self.key else self.message


class ConfigError(ValueError):
    """All faults of one configuration, as ``faults``."""

    def __init__(self, faults: tuple[ConfigFault, ...]):
        self.faults = faults
        super().__init__("; ".join(map(str, faults)))


class Settings:
    """The validation of one frozen dataclass, with JSON's strict types and no unknown key.

    Parameters
    ----------
    cls : type
        A frozen dataclass; pydantic's ``Annotated[..., Field(...)]`` gives ranges.
    """

    def __init__(self, cls: type):
        if not dataclasses.is_dataclass(cls):
            raise StageError(f"{cls.__name__} is no dataclass; got {cls!r}")
        self.cls = cls

    @functools.cached_property
    def hints(self) -> dict[str, Any]:
        """Type of every key, with its annotations."""
        return typing.get_type_hints(self.cls, include_extras=True)

    @functools.cached_property
    def keys(self) -> tuple[str, ...]:
        """Names of the keys, in order of declaration."""
        return tuple(entry.name for entry in dataclasses.fields(self.cls) if entry.init)

    @functools.cached_property
    def runtime_keys(self) -> frozenset[str]:
        """Keys that cannot change a result."""
        return frozenset(
            key
            for key in self.keys
            if any(isinstance(m, RuntimeMark) for m in getattr(self.hints[key], "__metadata__", ()))
        )

    @functools.cached_property
    def _adapter(self) -> pydantic.TypeAdapter[Any]:
        return pydantic.TypeAdapter(self.cls)

    def validate(self, values: Mapping[str, Any]) -> Any:
        """Return the dataclass that ``values`` describe; defaults fill what is not named.

        Raises
        ------
        ConfigError
            With every fault at once.
        """
        try:
            text = json.dumps(dict(values), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError((ConfigFault("", f"not plain JSON values: {error}"),)) from error
        try:
            return self._adapter.validate_json(text, strict=True, extra="forbid")
        except pydantic.ValidationError as error:
            raise ConfigError(tuple(self._faults(error))) from error

    def _faults(self, error: pydantic.ValidationError) -> Iterator[ConfigFault]:
        for detail in error.errors(include_url=False):
            path = tuple(str(part) for part in detail["loc"])
            if detail["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
                known = self._keys_at(path[:-1])
                message = f"unknown key{nearest(path[-1], known)}"
            elif detail["type"] == "missing":
                message = "missing, and has no default"
            else:
                message = f"{detail['msg']}; got {detail['input']!r}"
            yield ConfigFault(".".join(path), message)

    def _keys_at(self, path: tuple[str, ...]) -> tuple[str, ...]:
        cls: Any = self.cls
        for part in path:
            cls = typing.get_type_hints(cls).get(part) if dataclasses.is_dataclass(cls) else None
        if cls is None or not dataclasses.is_dataclass(cls):
            return ()
        return tuple(entry.name for entry in dataclasses.fields(cls))

    def defaults(self) -> dict[str, Any]:
        """Return the default of every key as plain JSON values; None where it has none."""
        plain: dict[str, Any] = dict.fromkeys(self.keys)
        for entry in dataclasses.fields(self.cls):
            if entry.default is not dataclasses.MISSING:
                plain[entry.name] = pydantic_core.to_jsonable_python(entry.default)
            elif entry.default_factory is not dataclasses.MISSING:
                plain[entry.name] = pydantic_core.to_jsonable_python(entry.default_factory())
        return {key: plain[key] for key in self.keys}

    def plain(self, settings: Any) -> dict[str, Any]:
        """Return validated settings as plain JSON values, every key resolved."""
        return self._adapter.dump_python(settings, mode="json")


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
        if self.path is None:
            raise StageError(f"{self.name!r} is a declared {self.kind}; it has no dataset to open")
        from registry.store.datasets import StoreError, open_dataset

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
        from registry.store.datasets import StoreError, find_dataset

        if self.path is None:
            raise StageError(f"{self.name!r} is a declared {self.kind}; it has no dataset")
        try:
            return find_dataset(self.path, most)
        except StoreError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> Exception:
        command = f"factbook run --verify {shlex.quote(self.name)}"
        return type(error)(f"{error}; {command}{MAKES_AGAIN}")

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
        from registry.store.datasets import find_dataset

        config: Mapping[str, Any] = find_dataset(self.path)[1]["config"]
        return config

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

    def shards(self) -> ShardWriter:
        """Return the writer of the stage's output in shards, resuming what is there."""


StageMain = Callable[[Any, Inputs, Run], Any]


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
    """

    name: str
    kinds: tuple[str, ...]
    is_optional: bool = False

    @classmethod
    def parse(cls, name: str, text: str) -> Slot:
        """Read ``concepts``, ``concepts | activations``, or ``sanity?`` where it may be empty."""
        kinds = tuple(kind.strip() for kind in text.removesuffix("?").split("|"))
        if not all(kind.isidentifier() for kind in kinds):
            raise StageError(f"slot {name!r}: expected kinds as 'concepts | labels?'; got {text!r}")
        return cls(name, kinds, text.endswith("?"))

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
        self._plugged = plugged
        self._main: StageMain | None = None
        if main is not None and not _MAIN_PATH.fullmatch(main):
            raise StageError(f"stage {name!r}: expected main as 'module:function'; got {main!r}")

    def __repr__(self) -> str:
        return f"Stage({self.name!r}, version={self.version})"

    @property
    def config(self) -> type:
        """The dataclass of the configuration."""
        return self.settings.cls

    @property
    def runtime_keys(self) -> frozenset[str]:
        """Keys of the configuration that cannot change the result."""
        return self.settings.runtime_keys

    @property
    def main_modules(self) -> tuple[str, ...]:
        """The module of the function that does the work, where it is named by its path."""
        return (self.main_path.partition(":")[0],) if self.main_path else ()

    @property
    def doc(self) -> str:
        """First line of the docstring of the stage's module."""
        doc = importlib.import_module(self.name).__doc__ or ""
        return doc.strip().split("\n")[0]

    def plugged(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the modules, sorted, that a configuration of plain JSON values names rows of."""
        return tuple(sorted(set(self._plugged(config)))) if self._plugged else ()

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

    def __call__(self, config: Any, inputs: Inputs, run: Run) -> Any:
        """Do the work."""
        if self._main is None:
            self._main = self._import_main()
        return self._main(config, inputs, run)

    def _import_main(self) -> StageMain:
        if self.main_path is None:
            raise StageError(f"stage {self.name!r} has no main function; name or decorate one")
        module, _, name = self.main_path.partition(":")
        main = getattr(importlib.import_module(module), name, None)
        if not callable(main):
            raise StageError(f"stage {self.name!r}: module {module!r} has no function {name!r}")
        return cast(StageMain, main)

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


@functools.cache
def stage_names(name: str) -> tuple[str, ...]:
    """Return today's name of a stage and its former ones; a name that no stage has, alone."""
    if name.split(".")[0] not in _plugin_packages() | _IMPORTED:  # records may say anything
        return (name,)
    try:
        stage = load_stage(name)
    except Exception:  # a stage is somebody else's code
        return (name,)
    return (stage.name, *stage.formerly)


def known_stages(*packages: str) -> tuple[str, ...]:
    """Names of the modules that declare a stage, found without importing them.

    Parameters
    ----------
    *packages : str
        Packages to search beside those of the plug-ins.
    """
    searched = {*packages, *_plugin_packages()}
    return tuple(name for package in sorted(searched) for name in _stages_in(package))


def _plugin_packages() -> set[str]:
    return {module.split(".")[0] for module in plugin_modules()}


def _stages_in(package: str) -> Iterator[str]:
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        return
    for info in pkgutil.iter_modules(spec.submodule_search_locations):
        found = importlib.util.find_spec(f"{package}.{info.name}")
        origin = found.origin if found else None
        if origin and "\nstage = " in Path(origin).read_text(encoding="utf-8"):
            yield f"{package}.{info.name}"


@dataclass(frozen=True)
class Kind:
    """One row of the table of resource kinds: ``[datasets.x] kind = "shapes"``."""

    family: str
    name: str
    provides: str
    settings: Settings


_KINDS: dict[str, dict[str, Kind]] = {}


def kind(family: str, name: str, *, provides: str) -> Callable[[type[T]], type[T]]:
    """Register a frozen dataclass as a kind of declared resource.

    The class has ``identity() -> str``, which names the content of outside data ("" if the
    settings determine everything), and ``load()``, which returns the thing itself.

    Parameters
    ----------
    family : str
        The table of the declaration: ``datasets`` or ``networks``.
    name : str
        The value of ``kind`` there.
    provides : str
        The type that the slots of stages ask for: ``images``, ``network``.
    """

    def register(cls: type[T]) -> type[T]:
        for method in ("identity", "load"):
            if not callable(getattr(cls, method, None)):
                raise StageError(f"kind {name!r} of {family!r} has no {method}() method")
        table = _KINDS.setdefault(family, {})
        known = table.get(name)
        if known and known.settings.cls.__qualname__ != cls.__qualname__:
            raise StageError(f"kind {name!r} of {family!r} is registered already")
        table[name] = Kind(family, name, provides, Settings(cls))
        return cls

    return register


def kinds(family: str) -> Mapping[str, Kind]:
    """Return the kinds registered for a family, by name."""
    return _KINDS.get(family, {})


def families() -> tuple[str, ...]:
    """Names of the families that have a kind."""
    return tuple(_KINDS)


@functools.cache
def plugin_modules() -> tuple[str, ...]:
    """Names of the modules that installed packages offer as plug-ins."""
    return tuple(dict.fromkeys(point.value for point in entry_points(group=PLUGIN_GROUP)))


def load_plugins(modules: tuple[str, ...] = ()) -> None:
    """Import the installed plug-ins and the named modules, so that their rows are registered.

    Raises
    ------
    StageError
        If a module cannot be imported.
    ShadowedPackageError
        If another package would be imported by the name of one of ours.
    """
    require_own_packages()
    import_plugins((*plugin_modules(), *modules))


_IMPORTED: set[str] = set()
"""Packages of the plug-ins that were imported by name."""


def import_plugins(modules: tuple[str, ...]) -> None:
    """Import the named modules, as those of a project, so that their rows are registered.

    Raises
    ------
    StageError
        If one cannot be imported.
    """
    for name in modules:
        try:
            importlib.import_module(name)
            if (package := name.split(".")[0]) not in _IMPORTED:
                _IMPORTED.add(package)
                stage_names.cache_clear()
        except ImportError as error:
            raise StageError(f"plug-in {name!r} cannot be imported: {error}") from error


def run_module(name: str) -> None:
    """Run the command line of the stage that module ``name`` declares.

    A stage's module ends in this call. It runs the *imported* module's stage, since the one
    under ``__main__`` is a second copy.
    """
    from registry.execute.command import command_line

    command_line(load_stage(name))
