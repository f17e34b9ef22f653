"""Typed settings: one frozen dataclass, validated from plain values, with every fault at once."""

from __future__ import annotations

import dataclasses
import functools
import json
import typing
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import pydantic
import pydantic_core

from registry.declare.faults import (
    DEEPEST,
    ConfigError,
    Fault,
    RenamedWarning,
    StageError,
    is_too_deep,
    renamed,
    unfit,
)
from registry.suggest import nearest

T = TypeVar("T")


class RuntimeMark:
    """Marks a configuration key that cannot change a result (device, workers, progress)."""


Runtime = Annotated[T, RuntimeMark()]
"""``device: Runtime[str] = "auto"``: a key that stays out of the fingerprint."""


@dataclass(frozen=True)
class Since:
    """Marks a key that was added later, with the default that it had then.

    ``margin: Annotated[float, Since(0.0)] = 0.0`` enters the fingerprint only where it differs from
    that default, so that adding it reruns nothing. The marker stays as it is for good, whatever
    the default becomes.
    """

    default: Any


class Formerly:
    """Marks a key that was renamed, with the names that it had before, the first one first.

    ``epochs: Annotated[int, Formerly("passes")] = 16`` is read as ``passes`` too, with a warning;
    the fingerprint goes on hashing the first name.
    """

    def __init__(self, *names: str):
        self.names = names


@dataclass(frozen=True)
class KeyRules:
    """How the keys of one dataclass are spelled and what of them enters a fingerprint.

    Attributes
    ----------
    runtime : frozenset of str
        Keys that cannot change a result.
    since : mapping of str to value
        Default, when it was added, of each key that was added later.
    formerly : mapping of str to tuple of str
        Former names of each key that was renamed, the first one first.
    nested : mapping of str to KeyRules
        Rules of the keys that hold a dataclass with rules of its own.
    """

    runtime: frozenset[str] = frozenset()
    since: Mapping[str, Any] = field(default_factory=dict)
    formerly: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    nested: Mapping[str, KeyRules] = field(default_factory=dict)

    @property
    def has_history(self) -> bool:
        """Whether any key was added later or renamed."""
        return bool(self.since or self.formerly or self.nested)

    @functools.cached_property
    def _names(self) -> dict[str, str]:
        return {old: key for key, names in self.formerly.items() for old in names}

    def name(self, dotted: str) -> str:
        """Return today's name of a key, ``training.passes``; one that is known to nobody stays."""
        key, dot, inner = dotted.partition(".")
        key = self._names.get(key, key)
        return f"{key}.{self.nested[key].name(inner)}" if key in self.nested else key + dot + inner

    def names(self, dotted: str) -> tuple[str, ...]:
        """Return every name that a key has or had, today's first."""
        key, dot, inner = self.name(dotted).partition(".")
        inners = self.nested[key].names(inner) if dot and key in self.nested else (inner,)
        return tuple(f"{k}{dot}{i}" for k in (key, *self.formerly.get(key, ())) for i in inners)

    def old_keys(
        self, values: Mapping[str, Any], path: tuple[str, ...] = ()
    ) -> Iterator[tuple[tuple[str, ...], str, bool]]:
        """Yield the path of each key given by an old name, its name now, whether by both."""
        for key, value in values.items():
            name = self._names.get(key, key)
            if name != key:
                yield (*path, key), name, name in values
            if name in self.nested and isinstance(value, Mapping):
                yield from self.nested[name].old_keys(value, (*path, key))

    def renamed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values under today's names; what is given under both keeps today's."""
        if not self.has_history:
            return dict(values)
        found = {
            self._names.get(key, key): value
            for key, value in sorted(values.items(), key=lambda item: item[0] not in self._names)
        }
        ordered = {self._names.get(key, key): None for key in values}
        return {key: self._inside(key, found[key], KeyRules.renamed) for key in ordered}

    def completed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return recorded values in today's form: renamed, and with what was added later."""
        if not self.has_history:
            return dict(values)
        found = {**self.since, **self.renamed(values)}
        return {key: self._inside(key, value, KeyRules.completed) for key, value in found.items()}

    def hashed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what of a whole configuration enters a fingerprint, under frozen names."""
        if not self.has_history:
            return {key: value for key, value in values.items() if key not in self.runtime}
        return {
            self.formerly.get(key, (key,))[0]: self._inside(key, value, KeyRules.hashed)
            for key, value in values.items()
            if key not in self.runtime and not (key in self.since and _same(value, self.since[key]))
        }

    def _inside(
        self, key: str, value: Any, change: Callable[[KeyRules, Mapping[str, Any]], dict[str, Any]]
    ) -> Any:
        is_nested = key in self.nested and isinstance(value, Mapping)
        return change(self.nested[key], value) if is_nested else value


NO_RULES = KeyRules()
"""Every key has the name that it always had, and enters the fingerprint."""


def _same(value: Any, default: Any) -> bool:
    return json.dumps(value, sort_keys=True) == json.dumps(default, sort_keys=True)


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
    def rules(self) -> KeyRules:
        """How its keys are spelled, and what of them enters a fingerprint."""
        marks = {key: getattr(self.hints[key], "__metadata__", ()) for key in self.keys}
        inner = {key: _rules_of(self.hints[key]) for key in self.keys}
        return KeyRules(
            frozenset(k for k, found in marks.items() if _marked(found, RuntimeMark)),
            {
                key: pydantic_core.to_jsonable_python(mark.default)
                for key, found in marks.items()
                for mark in _marked(found, Since)
            },
            {k: mark.names for k, found in marks.items() for mark in _marked(found, Formerly)},
            {key: rules for key, rules in inner.items() if rules is not None},
        )

    @functools.cached_property
    def _adapter(self) -> pydantic.TypeAdapter[Any]:
        return pydantic.TypeAdapter(self.cls)

    def validate(self, values: Mapping[str, Any]) -> Any:
        """Return the dataclass that ``values`` describe; defaults fill what is not named.

        Keys under former names are read, with a :class:`RenamedWarning`.

        Raises
        ------
        ConfigError
            With every fault at once.
        """
        for path, name, is_double in self.rules.old_keys(values):
            old = ".".join(path)
            if is_double:
                raise ConfigError((Fault(old, f"given as {name!r} too, its name now"),))
            warnings.warn(renamed(old, name), RenamedWarning, stacklevel=3)
        if faults := tuple(_unfit(values)):
            raise ConfigError(faults)
        try:
            text = json.dumps(self.rules.renamed(values), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError((Fault("", f"not plain JSON values: {error}"),)) from error
        try:
            return self._adapter.validate_json(text, strict=True, extra="forbid")
        except pydantic.ValidationError as error:
            raise ConfigError(tuple(self._faults(error))) from error

    def _faults(self, error: pydantic.ValidationError) -> Iterator[Fault]:
        for detail in error.errors(include_url=False):
            path = tuple(str(part) for part in detail["loc"])
            if detail["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
                known = self._keys_at(path[:-1])
                message = f"unknown key{nearest(path[-1], known)}"
            elif detail["type"] == "missing":
                message = "missing, and has no default"
            else:
                message = f"{detail['msg']}; got {_shortened(detail['input'])}"
            yield Fault(".".join(path), message)

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
        plain: dict[str, Any] = self._adapter.dump_python(settings, mode="json")
        return plain


def _unfit(values: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield a fault for each value that records cannot hold; what is no plain value is none yet."""
    if is_too_deep(values):
        yield Fault("", f"values lie more than {DEEPEST} levels inside each other")
        return
    waiting: list[tuple[str, Any]] = [*values.items()]
    for path, value in waiting:  # grows while it is walked
        if isinstance(value, Mapping):
            waiting += [(f"{path}.{key}", inner) for key, inner in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(f"{path}.{index}", inner) for index, inner in enumerate(value)]
        elif isinstance(value, str | int) and (why := unfit(value)):
            yield Fault(path, why)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}…"


M = TypeVar("M")


def _marked(marks: Iterable[Any], kind: type[M]) -> tuple[M, ...]:
    return tuple(mark for mark in marks if isinstance(mark, kind))


def _rules_of(hint: Any) -> KeyRules | None:
    """Return the rules of a key that holds a dataclass, if there are any.

    Its runtime keys count: what is nested entered fingerprints whole from the beginning.
    """
    cls = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
    if not dataclasses.is_dataclass(cls) or not isinstance(cls, type):
        return None
    rules = dataclasses.replace(Settings(cls).rules, runtime=frozenset())
    return rules if rules.has_history else None
