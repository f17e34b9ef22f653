"""The table of metrics: one decorated function is one row."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.suggest import nearest

if TYPE_CHECKING:
    from evals.metrics.evidence import Evidence

Formula = Callable[..., np.ndarray]

FAMILIES: Mapping[str, str] = {
    "contingency": "`Counts` of active and labelled inputs",
    "moment": "`Moments` of activations and labels",
    "ranking": "the `Evidence`, for average precision and areas under ROC curves",
    "difference": "the `Evidence`, for moments of activations and binary labels",
    "likelihood": "the `Evidence`, for logarithms of labels",
    "sample": "the `Evidence`, for inputs drawn by neuron",
    "combination": "the `Evidence`, for other metrics",
    "arrays": "float64 activations (input, neuron) and labels (input, concept)",
}
"""Family to what the functions of its metrics are given."""

ALPHAS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Fractions of inputs at which a neuron may be active, where the best is chosen."""

LAMBDAS = tuple(i / 100 for i in range(101))
"""Weights that `wpmi` may give to how common a concept is, where the best is chosen."""


@dataclass(frozen=True)
class Parameters:
    """What a metric may need besides activations and labels; each uses what it needs.

    Attributes
    ----------
    alpha : float or None
        Fraction of inputs at which a neuron is active, in (0, 1]; None where activations are 0 or
        1 already.
    lam : float
        Weight of how common a concept is, in `wpmi`.
    seed : int
        Of inputs that are drawn by neuron.
    """

    alpha: float | None = None
    lam: float = 1.0
    seed: int = 0


DEFAULTS = Parameters()
PARAMETERS = tuple(field.name for field in fields(Parameters))


class UnknownMetricError(KeyError):
    """No metric of that name is registered."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Metric:
    """One row of the table: how well does a concept explain a neuron?

    Attributes
    ----------
    name : str
        Name in the table, unique.
    function : callable
        The formula; what it is given depends on ``family``.
    family : str
        A key of `FAMILIES`.
    bounds : tuple of float, or None
        Smallest and largest possible value; None where the data bound it.
    needs : tuple of str
        Parameters that the value depends on, of those that `Parameters` has.
    partner : str or None
        The metric that equals this one with neuron and concept exchanged, on binary data; its own
        name where it is symmetric.
    units : str
        Units of a value, "1" where it has none.
    source : str
        Where the metric was proposed.
    """

    name: str
    function: Formula
    family: str = "arrays"
    bounds: tuple[float, float] | None = None
    needs: tuple[str, ...] = ()
    partner: str | None = None
    units: str = "1"
    source: str = ""

    @property
    def title(self) -> str:
        """First sentence of the function's docstring, or the name in words."""
        doc = self.description or self.name.replace("_", " ")
        return doc.split("\n\n")[0].split(". ")[0].rstrip(".").replace("\n", " ")

    @property
    def description(self) -> str:
        """The function's docstring without its indentation, "" where it has none."""
        return inspect.cleandoc(self.function.__doc__ or "")

    def evaluate(self, evidence: Evidence, parameters: Parameters = DEFAULTS) -> np.ndarray:
        """Return the metric of every pair that ``evidence`` knows, NaN where undefined.

        A formula may divide by 0 without a warning: 0 / 0 is NaN, and so undefined.

        Raises
        ------
        ValueError
            If the formula returns another shape.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            values = self._compute(evidence, parameters)
        try:
            return np.broadcast_to(np.asarray(values, dtype=np.float64), evidence.shape)
        except ValueError:
            raise ValueError(
                f"metric {self.name!r} returned shape {np.shape(values)}; "
                f"expected one number for each pair, {evidence.shape}"
            ) from None

    def _compute(self, evidence: Evidence, parameters: Parameters) -> np.ndarray:
        if self.family == "contingency":
            return self.function(evidence.counts(parameters.alpha))
        if self.family == "moment":
            return self.function(evidence.moments)
        needed = {name: getattr(parameters, name) for name in self.needs}
        if self.family == "arrays":
            return evidence.compute(self.function, **needed)
        return self.function(evidence, **needed)

    def __call__(self, activations: Any, labels: Any, **parameters: Any) -> np.ndarray:
        """Score every pair of a neuron and a concept.

        Parameters
        ----------
        activations, labels : array
            (input, neuron) and (input, concept): NumPy, torch, SciPy-sparse or dask. A label is
            0 or 1, or a probability.
        **parameters
            ``alpha``, ``lam``, ``seed``, as `Parameters` has them; those that the metric does not
            need are ignored.

        Returns
        -------
        ndarray
            (neuron, concept) float64, NaN where undefined.
        """
        from evals.scoring.blocks import score_arrays

        return score_arrays([self], activations, labels, Parameters(**parameters))[self.name]


_TABLE: dict[str, Metric] = {}


def metric(
    name: str,
    *,
    bounds: tuple[float, float] | None = None,
    family: str = "arrays",
    needs: tuple[str, ...] = (),
    partner: str | None = None,
    units: str = "1",
    source: str = "",
) -> Callable[[Formula], Metric]:
    """Register the decorated function as a metric; the arguments are those of `Metric`.

    Examples
    --------
    >>> @metric("overlap", bounds=(0, 1), family="contingency", needs=("alpha",))
    ... def overlap(counts):
    ...     return counts.both / np.minimum(counts.active, counts.labelled)

    Raises
    ------
    ValueError
        If the name is taken, or a family or parameter unknown.
    """
    if family not in FAMILIES:
        raise ValueError(f"metric {name!r}: unknown family {family!r}{nearest(family, FAMILIES)}")
    for parameter in needs:
        if parameter not in PARAMETERS:
            hint = nearest(parameter, PARAMETERS)
            raise ValueError(f"metric {name!r}: cannot be given {parameter!r}{hint}")
    if family == "contingency" and "alpha" not in needs:
        raise ValueError(f"metric {name!r}: counts need needs=('alpha',); got {needs!r}")

    def register(function: Formula) -> Metric:
        row = Metric(name, function, family, bounds, needs, partner, units, source)
        known = _TABLE.get(name)
        if known and _origin(known.function) != _origin(function):
            raise ValueError(f"metric {name!r} is registered already, by {_origin(known.function)}")
        _TABLE[name] = row
        return row

    return register


def _origin(function: Formula) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def find_metric(name: str) -> Metric:
    """Return the metric of that name.

    Raises
    ------
    UnknownMetricError
        If there is none, with the nearest name.
    StageError
        If there is none, and an installed plug-in that might bring it cannot be imported.
    """
    import evals.metrics  # noqa: F401  registers what is built in

    if name in _TABLE:  # without a look at what is installed, which takes time
        return _TABLE[name]
    table = list_metrics()
    if name not in table:
        raise UnknownMetricError(f"unknown metric {name!r}{nearest(name, table)}")
    return table[name]


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
    import evals.metrics  # noqa: F401  registers what is built in

    _load_installed()
    return dict(_TABLE)


@functools.cache
def _load_installed() -> None:
    from registry.declare.plugins import load_plugins

    load_plugins()
