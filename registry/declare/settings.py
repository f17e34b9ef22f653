"""Typed settings: one frozen dataclass, validated from plain values, with every fault at once."""

from __future__ import annotations

import dataclasses
import functools
import json
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

import pydantic
import pydantic_core

from registry.declare.faults import ConfigError, ConfigFault, StageError
from registry.suggest import nearest

T = TypeVar("T")


class RuntimeMark:
    """Marks a configuration key that cannot change a result (device, workers, progress)."""


Runtime = Annotated[T, RuntimeMark()]
"""``device: Runtime[str] = "auto"``: a key that stays out of the fingerprint."""


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
