"""Metrics by name: those that are built in, those of installed packages, and a project's own."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from evals.metrics import builtin  # noqa: F401  importing registers them
from evals.metrics.table import Metric, UnknownMetricError, registered_so_far
from registry.declare.plugins import load_plugins
from registry.suggest import nearest


def find_metric(name: str | Metric) -> Metric:
    """Return the metric of that name; a metric as it is.

    Raises
    ------
    UnknownMetricError
        If there is none, with the nearest name.
    StageError
        If there is none, and an installed plug-in that might bring it cannot be imported.
    """
    if isinstance(name, Metric):
        return name
    table: Mapping[str, Metric] = registered_so_far()
    if name not in table:
        table = list_metrics()  # looks at what is installed, which takes time
    if name not in table:
        raise UnknownMetricError(f"unknown metric {name!r}{nearest(name, table)}")
    return table[name]


def find_metrics(names: Iterable[str | Metric] | None = None) -> list[Metric]:
    """Return rows of the table of metrics, all of it by default; errors as of `find_metric`."""
    return [find_metric(name) for name in (list_metrics() if names is None else names)]


def resolve_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of metrics, those of the whole table where there is none.

    They are spelt out, so that to a configuration another metric in the table is another task.

    Raises
    ------
    ValueError
        If a metric is unknown, with the nearest name, or named twice.
    """
    for name in names:
        try:
            find_metric(name)
        except UnknownMetricError as error:
            raise ValueError(str(error)) from None
    if len(set(names)) < len(names):
        raise ValueError(f"a metric is named twice in {list(names)}")
    return tuple(names) or tuple(list_metrics())


def metric_modules(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the modules of the metrics that a configuration names as ``metrics``."""
    for name in config["metrics"]:
        yield find_metric(name).function.__module__


def list_metrics() -> Mapping[str, Metric]:
    """Return all registered metrics by name, in order of registration.

    Those that are built in, those of installed packages (entry points of the group
    ``factbook.plugins``), and those that a script or a project has registered so far.
    """
    _load_installed()
    return registered_so_far()


_load_installed = functools.cache(load_plugins)
