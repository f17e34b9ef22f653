"""The table of metrics: one decorated function is one row."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Annotated, Any, TypeAlias, TypeVar

import numpy as np
from pydantic import Field

from evals.kernels.statistics import (
    DRAWING,
    AnyArray,
    Counts,
    Drawing,
    Moments,
    Statistics,
    read_only,
)
from registry.suggest import RefusalError, nearest

T = TypeVar("T", Counts, Moments)

Formula = Callable[..., np.ndarray]

FAMILIES: Mapping[str, str] = {
    "contingency": "`Counts` of active and labelled inputs",
    "moment": "`Moments` of activations and labels",
    "statistics": "all `Statistics` of the pairs, for ranks, logarithms, draws or other metrics",
    "arrays": "float64 activations (input, neuron) and labels (input, concept)",
}
"""Family to what the functions of its metrics are given."""

RESERVED = frozenset(
    {"input", "neuron", "concept", "image", "label", "class", "label_set"}
    | {"activations", "labels", "metric", "metrics", "alphas", "lams", "block_size", "workers"}
    | {"split", "variable", "rank", "form", "test", "frequency", "consensus"}
    | {"baseline_class", "basis", "bin", "cell", "measure", "threshold"}
)
"""Names of dimensions, variables and arguments beside metrics, which none may have."""

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
    drawing : Drawing
        How many of these, and from how many of the strongest.
    """

    alpha: float | None = None
    lam: float = 1.0
    seed: int = 0
    drawing: Drawing = DRAWING


DEFAULTS = Parameters()
PARAMETERS = tuple(field.name for field in fields(Parameters))


BUILT_IN = ("evals.metrics.builtin", "evals.scoring.original_rules")
"""Modules whose metrics come along."""

NO_ERRORS = (SystemExit, GeneratorExit, StopIteration, StopAsyncIteration)
"""What Python's own loops, generators and threads take for an end, and not for an error."""

ACTIVATION = "activation"
"""Units of metrics whose values scale with the neuron's activations."""

OUTSIDE = 1e-9
"""Fraction of a metric's range by which rounding may lead out of its bounds."""


class MetricError(RefusalError, ValueError):
    """A metric that is declared wrong, or does not return what it should."""


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
        Units of a value, "1" where it has none; ``activation`` where it scales with the neuron's
        activations, so that those of two neurons can be compared in units of their deviations
        alone.
    source : str
        Where the metric was proposed.

    Raises
    ------
    MetricError
        With everything that is wrong with it, as far as it is known without calling the function.
    """

    name: str
    function: Formula
    family: str = "arrays"
    bounds: tuple[float, float] | None = None
    needs: tuple[str, ...] = ()
    partner: str | None = None
    units: str = "1"
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "family", _todays_family(self.family))
        _require_sound(
            self.name,
            [
                *_declared_faults(self.name, self.bounds, self.family, self.needs),
                *_signature_faults(self.function, self.family, self.needs),
            ],
        )
        if self.bounds is not None:
            low, high = map(float, self.bounds)
            object.__setattr__(self, "bounds", (low, high))

    @property
    def is_built_in(self) -> bool:
        """Whether it comes along: what is wrong with others is their own fault."""
        return getattr(self.function, "__module__", "") in BUILT_IN

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
        MetricError
            If the formula returns no real numbers, one for all pairs, another shape, or numbers
            outside the metric's bounds, or ends the program.
        """
        try:
            with np.errstate(divide="ignore", invalid="ignore"):
                values = self._compute(statistics, parameters or DEFAULTS)
        except NO_ERRORS as error:
            raised = f"{type(error).__name__}({error})"
            raise MetricError(f"metric {self.name!r} raised {raised}") from error
        if self.is_built_in:
            return np.broadcast_to(np.asarray(values, dtype=np.float64), statistics.shape)
        scores = self._as_scores(values, statistics.shape)
        self._require_bounds(scores)
        return scores

    def _as_scores(self, values: Any, shape: tuple[int, ...]) -> np.ndarray:
        expected = f"expected one real number for each pair, an array {shape}"
        array = np.asarray(values)
        if isinstance(values, np.ma.MaskedArray) and array.dtype.kind in "biuf":
            array = np.ma.filled(values.astype(np.float64), np.nan)
        if values is None or array.dtype.kind not in "biuf":
            got = "None" if values is None else f"{type(values).__name__} of {array.dtype}"
            raise MetricError(f"metric {self.name!r} returned {got}; {expected}")
        if not array.ndim:
            raise MetricError(f"metric {self.name!r} returned {array} for all pairs; {expected}")
        if array.shape != shape:
            raise MetricError(f"metric {self.name!r} returned shape {array.shape}; {expected}")
        return array.astype(np.float64, copy=False)

    def _require_bounds(self, scores: np.ndarray) -> None:
        low, high = self.bounds or (-math.inf, math.inf)
        slack = OUTSIDE * (high - low) if self.bounds else 0.0
        outside = scores[(scores < low - slack) | (scores > high + slack)]
        if outside.size:
            raise MetricError(
                f"metric {self.name!r} returned {outside.size} scores outside its bounds, as "
                f"{outside[0]:.6g}; expected {low:g} to {high:g}, or bounds=None"
            )

    def _compute(self, statistics: Statistics, parameters: Parameters) -> np.ndarray:
        if self.family == "contingency":
            return self.function(self._lend(statistics.counts(parameters.alpha)))
        if self.family == "moment":
            return self.function(self._lend(statistics.moments))
        needed = {name: getattr(parameters, name) for name in self.needs}
        if self.family == "arrays":
            return statistics.compute(self.function, **needed)
        return self.function(statistics, **needed)

    def _lend(self, shared: T) -> T:
        """Return counts or moments that others read too, so that a stranger cannot change them."""
        if self.is_built_in:
            return shared
        parts = {entry.name: read_only(getattr(shared, entry.name)) for entry in fields(shared)}
        return replace(shared, **parts)

    def __call__(self, activations: AnyArray, labels: AnyArray, **parameters: Any) -> np.ndarray:
        """Score every pair of a neuron and a concept.

        Parameters
        ----------
        activations, labels : array
            (input, neuron) and (input, concept), of any library; rows join by position, and may
            have no other names. A label is 0 or 1, or a probability.
        **parameters
            ``alpha``, ``lam``, ``seed``, ``drawing``, as `Parameters` has them; those that the
            metric does not need are ignored.

        Returns
        -------
        ndarray
            (neuron, concept) float64, NaN where undefined.

        Raises
        ------
        AlignmentError
            If rows have names, and not the same ones in the same order: :func:`evals.score` joins
            them by name.
        """
        from evals.kernels.arrays import require_same_rows
        from evals.kernels.blocks import score_arrays  # with numba: a second, for who computes

        require_same_rows(activations, labels)
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
    MetricError
        With everything that is wrong: the name is taken, or that of a dimension or argument; the
        family or a parameter unknown; bounds that are not a smaller and a larger number; a
        function that cannot be given what the family and ``needs`` say.
    """
    _require_sound(name, _declared_faults(name, bounds, _todays_family(family), needs))

    def register(function: Formula) -> Metric:
        row = Metric(name, function, family, bounds, needs, partner, units, source)
        known = _TABLE.get(name)
        if known and _origin(known.function) != _origin(function):
            raise MetricError(
                f"metric {name!r} is registered already, by {_origin(known.function)}"
            )
        _TABLE[name] = row
        return row

    return register


def _todays_family(family: str) -> str:
    return "statistics" if family in FORMER_FAMILIES else family


def _origin(function: Formula) -> str:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '')}.{name}"


# --- what is wrong with a row, as far as it is known without calling its function ------------


def _require_sound(name: object, faults: Sequence[str] | Iterator[str]) -> None:
    if listed := list(faults):
        raise MetricError(f"metric {name!r}: " + "; ".join(listed))


def _declared_faults(name: Any, bounds: Any, family: str, needs: Any) -> Iterator[str]:
    yield from _name_faults(name)
    if bounds is not None and (fault := _bounds_fault(bounds)):
        yield fault
    if family not in FAMILIES:
        yield f"unknown family {family!r}{nearest(family, FAMILIES)}"
    if isinstance(needs, str):
        yield f"needs is {needs!r}; expected a tuple, as ({needs!r},)"
        return
    for parameter in needs:
        if parameter not in PARAMETERS:
            yield f"cannot be given {parameter!r}{nearest(parameter, PARAMETERS)}"
    if family == "contingency" and "alpha" not in needs:
        yield f"counts need needs=('alpha',); got {needs!r}"
    if family == "moment" and needs:
        yield f"moments depend on no parameter; got needs={needs!r}"


def _name_faults(name: Any) -> Iterator[str]:
    if not isinstance(name, str):
        yield f"a name is a text; got {type(name).__name__}"
    elif not name or "/" in name or any(map(str.isspace, name)) or not name.isprintable():
        yield "a name has no '/' and no blanks, and is not empty"
    elif name in RESERVED or name in PARAMETERS:
        yield "that is the name of a dimension or an argument; give it another"


def _bounds_fault(bounds: Any) -> str:
    expected = "expected a smaller and a larger number, or None where the data bound it"
    try:
        low, high = (float(end) if isinstance(end, Real) else math.nan for end in bounds)
    except (TypeError, ValueError):
        return f"bounds are {bounds!r}; {expected}"
    if low < high and math.isfinite(high - low):
        return ""
    reversed_ = f": did you mean {(high, low)}?" if high < low else ""
    return f"bounds are {bounds!r}; {expected}{reversed_}"


def _signature_faults(function: Any, family: str, needs: tuple[str, ...]) -> Iterator[str]:
    """Yield what tells that a function cannot be called as its family is."""
    if not callable(function):
        yield f"expected a function; got {type(function).__name__}"
        return
    given = {"arrays": ("activations", "labels")}.get(family, (family,))
    passed = needs if family in ("arrays", "statistics") else ()
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a function in C, which says nothing of itself
        return
    try:
        signature.bind(*given, **dict.fromkeys(passed))
    except TypeError as error:
        listed = ", ".join([*given, *(f"{name}=…" for name in passed)])
        yield f"its function {signature} is given ({listed}): {error}"
