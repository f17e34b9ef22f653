"""Plug-ins: modules that register stages, kinds and metrics when they are imported.

Before any is, it is checked that the packages imported by our names are ours.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from registry.declare.faults import StageError
from registry.declare.licences import TERMS
from registry.declare.requirements import Finding
from registry.declare.settings import Settings

PACKAGES = ("registry", "fact", "evals")
MARKER = "lazy_loader"
"""What the ``__init__.py`` of each of them names, and a package of another distribution hardly."""

ROOT = Path(__file__).resolve().parents[2]

PLUGIN_GROUP = "factbook.plugins"

DATASETS = "datasets"
"""The family whose entries say under which terms they may be passed on."""

_IMPORTED: set[str] = set()
"""Packages of the plug-ins that a project named."""


class ShadowedPackageError(ImportError):
    """Another package has the import name of one of ours, and would be imported instead."""


@functools.cache
def require_own_packages() -> None:
    """Check that nothing shadows a package of ours, in bounded time and without importing any.

    Other distributions have the same import names (OpenAI's ``evals`` on PyPI is one), and so may a
    folder in which a command is typed.

    Raises
    ------
    ShadowedPackageError
        With where the other package is, and what to do.
    """
    for name in PACKAGES:
        spec = find_spec(name)
        expected = ROOT / name
        found = [Path(path) for path in (spec.submodule_search_locations or ())] if spec else []
        if not any(path.resolve() == expected for path in found[:1]):
            where = f"found in {found[0]}" if found else "not found"
            raise ShadowedPackageError(
                f"the package {name!r} is not factbook's: {where}; expected {expected}. Rename "
                "that folder, run from another one, or uninstall what brought it"
            )
        if MARKER not in (expected / "__init__.py").read_text(encoding="utf-8"):
            raise ShadowedPackageError(
                f"another distribution has written over factbook's package {name!r} in {expected} "
                f"(OpenAI's `evals` has this import name); install factbook in an "
                "environment of its own"
            )


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
    for name in (*plugin_modules(), *modules):
        try:
            importlib.import_module(name)
            _IMPORTED.add(name.split(".")[0])
        except ImportError as error:
            raise StageError(f"plug-in {name!r} cannot be imported: {error}") from error


def plugin_packages() -> set[str]:
    """Names of the packages of all plug-ins: the installed ones and those of projects."""
    return {module.split(".")[0] for module in plugin_modules()} | _IMPORTED


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
    settings determine everything), and ``load()``, which returns the thing itself. It may have
    ``notes() -> Iterable[str]``: what `factbook plan` says of the data;
    ``requires() -> Iterable[Requirement]``: packages, weights and what else has to be there
    (:mod:`registry.declare.requirements`); ``source``, a text on how its data can be had; and
    ``check(every) -> Iterable[Finding]``, for ``factbook data check``, if what is registered by
    :func:`checks` for all that provides the same is not enough. A data set whose licence is known
    has it as ``licence``, an SPDX identifier.

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


Check = Callable[[Any, bool], Iterable[Finding]]
"""Says of settings, given whether to look at every part, what is there and what is wrong."""

_CHECKS: dict[str, Check] = {}


def checks(provides: str) -> Callable[[Check], Check]:
    """Register a function that looks at the data of any kind that provides something.

    Parameters
    ----------
    provides : str
        As of :func:`kind`: ``images``.
    """

    def register(check: Check) -> Check:
        _CHECKS[provides] = check
        return check

    return register


def check_of(provides: str) -> Check | None:
    """Return the function that looks at what provides something; None if there is none."""
    return _CHECKS.get(provides)


def kinds(family: str) -> Mapping[str, Kind]:
    """Return the kinds registered for a family, by name."""
    return _KINDS.get(family, {})


def common_keys(kind: Kind) -> tuple[str, ...]:
    """Return the keys that every dataset takes, but for those that a kind has of its own."""
    known = TERMS.keys if kind.family == DATASETS else ()
    return tuple(key for key in known if key not in kind.settings.keys)


def families() -> tuple[str, ...]:
    """Names of the families that have a kind."""
    return tuple(_KINDS)
