"""The kinds of resources that can be declared: ``[datasets.x] kind = "shapes"``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from registry.declare.faults import StageError
from registry.declare.settings import Settings

T = TypeVar("T")


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
