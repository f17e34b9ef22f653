"""The table of metrics: one decorated function is one row."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypeAlias

import numpy as np
from pydantic import Field

from evals.kernels.statistics import AnyArray, Statistics
from registry.suggest import nearest

Formula = Callable[..., np.ndarray]

FAMILIES: Mapping[str, str] = {
    "contingency": "`Counts` of active and labelled inputs",
    "moment": "`Moments` of activations and labels",
    "statistics": "all `Statistics` of the pairs, for ranks, logarithms, draws or other metrics",
    "arrays": "float64 activations (input, neuron) and labels (input, concept)",
}
"""Family to what the functions of its metrics are given."""

FORMER_FAMILIES = ("ranking", "difference", "likelihood", "sample", "combination")
"""What the family "statistics" was called by its uses; still understood in `metric`."""

ALPHAS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Fractions of inputs at which a neuron may be active, where the best is chosen."""

Alpha: TypeAlias = Annotated[float, Field(gt=0, le=1)]
"""A fraction of inputs, as configurations check it."""

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

    def evaluate(self, statistics: Statistics, parameters: Parameters | None = None) -> np.ndarray:
        """Return the metric of every pair that ``statistics`` knows, NaN where undefined.

        A formula may divide by 0 without a warning: 0 / 0 is NaN, and so undefined.

        Raises
        ------
        ValueError
            If the formula returns another shape.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            values = self._compute(statistics, parameters or DEFAULTS)
        try:
            return np.broadcast_to(np.asarray(values, dtype=np.float64), statistics.shape)
        except ValueError:
            raise ValueError(
                f"metric {self.name!r} returned shape {np.shape(values)}; "
                f"expected one number for each pair, {statistics.shape}"
            ) from None

    def _compute(self, statistics: Statistics, parameters: Parameters) -> np.ndarray:
        if self.family == "contingency":
            return self.function(statistics.counts(parameters.alpha))
        if self.family == "moment":
            return self.function(statistics.moments)
        needed = {name: getattr(parameters, name) for name in self.needs}
        if self.family == "arrays":
            return statistics.compute(self.function, **needed)
        return self.function(statistics, **needed)

    def __call__(self, activations: AnyArray, labels: AnyArray, **parameters: Any) -> np.ndarray:
        """Score every pair of a neuron and a concept.

        Parameters
        ----------
        activations, labels : array
            (input, neuron) and (input, concept), of any library; rows join by position. A label
            is 0 or 1, or a probability.
        **parameters
            ``alpha``, ``lam``, ``seed``, as `Parameters` has them; those that the metric does not
            need are ignored.

        Returns
        -------
        ndarray
            (neuron, concept) float64, NaN where undefined.
        """
        from evals.kernels.blocks import score_arrays  # with numba: a second, for who computes

        return score_arrays([self], activations, labels, Parameters(**parameters))[self.name]


_TABLE: dict[str, Metric] = {}


def registered_so_far() -> dict[str, Metric]:
    """Return the rows by name; :mod:`evals.metrics.registered` loads those that should be here."""
    return dict(_TABLE)


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
    if family in FORMER_FAMILIES:
        family = "statistics"
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
