"""Plug-ins: modules that register stages, kinds and metrics when they are imported."""

from __future__ import annotations

import functools
import importlib
from importlib.metadata import entry_points

from registry.declare.faults import StageError
from registry.declare.packages import require_own_packages

PLUGIN_GROUP = "factbook.plugins"

_IMPORTED: set[str] = set()
"""Packages of the plug-ins that a project named."""


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
            _IMPORTED.add(name.split(".")[0])
        except ImportError as error:
            raise StageError(f"plug-in {name!r} cannot be imported: {error}") from error


def plugin_packages() -> set[str]:
    """Names of the packages of all plug-ins: the installed ones and those of projects."""
    return {module.split(".")[0] for module in plugin_modules()} | _IMPORTED
