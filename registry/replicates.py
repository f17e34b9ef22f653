"""Seeds are replicates: means over them with an interval, and settings compared by them.

What a seed moves is chance, so a result is its mean over seeds, with Student's t interval (Student,
"The probable error of a mean", Biometrika 6, 1908). Two settings are compared seed by seed where
they have seeds in common, which takes out what a seed does to both; else by Welch's test, for which
their spreads may differ (Welch, Biometrika 34, 1947). Where several comparisons are made, a
difference is one by Holm's p over all of them ("A simple sequentially rejective multiple test
procedure", Scandinavian Journal of Statistics 6, 1979).

The intervals are those of normal values, and know no bounds: of few seeds they may reach beyond
what a fraction can be. They are not cut off, since a cut end would look surer than it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from registry.arrays import as_numbers
from registry.columns import Column
from registry.suggest import RefusalError, nearest
from registry.wording import counted

SEED = "seed"
CONFIDENCE = 0.95
DIFFER, UNDECIDED, ALIKE = "differ", "undecided", "no difference shown"
UNTESTED, NO_SPREAD = "untested", "no spread"
PAIRED, WELCH = "paired", "Welch"

Floats: TypeAlias = NDArray[np.float64]
Values: TypeAlias = xr.DataArray | xr.Dataset | pd.DataFrame | pd.Series
MOST_LISTED = 8
_ROUNDING = 1e-9
"""Of the values: a spread below is that of sums in another order, and of no seed."""


class ReplicatesError(RefusalError, ValueError):
    """Values that cannot be put together over seeds, or compared by them."""


# -- the arithmetic ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """Means, or differences of means, with what Student's t needs; arrays of one shape.

    Attributes
    ----------
    mean : ndarray
        NaN of no seed.
    error : ndarray
        Standard error of the mean; NaN below two seeds, 0 where seeds change nothing.
    freedom : ndarray
        Degrees of freedom.
    n : ndarray of int
        Seeds, or pairs of seeds, with a value.
    """

    mean: Floats
    error: Floats
    freedom: Floats
    n: NDArray[np.int64]

    @classmethod
    def of(cls, values: Floats, scale: Floats | None = None) -> Estimate:
        """Return the mean over values (seed, ...), NaN left out.

        Parameters
        ----------
        values : ndarray
            (seed, ...).
        scale : ndarray, optional
            (seed, ...), how large the numbers were that these come from: a spread below a
            billionth of them is none.
        """
        known = ~np.isnan(values)
        n = known.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(known, values, 0).sum(axis=0) / n
            squares = np.where(known, values - mean, 0) ** 2
            deviation = np.sqrt(squares.sum(axis=0) / np.where(n > 1, n - 1, np.nan))
            size = np.abs(np.where(known, values if scale is None else scale, 0)).max(
                axis=0, initial=0
            )
            deviation = np.where(deviation <= _ROUNDING * size, 0, deviation)
            return cls(mean, deviation / np.sqrt(n), n - 1.0, n)

    @classmethod
    def paired(cls, one: Floats, other: Floats) -> Estimate:
        """Return the mean of `other` minus `one`, of the same seeds (seed, ...)."""
        return cls.of(other - one, np.maximum(np.abs(one), np.abs(other)))

    @classmethod
    def welch(cls, one: Floats, other: Floats) -> Estimate:
        """Return the mean of `other` (seed, ...) minus that of `one`, of other seeds."""
        first, second = cls.of(one), cls.of(other)
        parts = first.error**2, second.error**2
        with np.errstate(invalid="ignore", divide="ignore"):
            freedom = (parts[0] + parts[1]) ** 2 / (
                parts[0] ** 2 / first.freedom + parts[1] ** 2 / second.freedom
            )
        error = np.sqrt(parts[0] + parts[1])
        return cls(second.mean - first.mean, error, freedom, np.minimum(first.n, second.n))

    @property
    def deviation(self) -> Floats:
        """Deviation of the sample, n - 1; NaN below two seeds."""
        return np.asarray(self.error * np.sqrt(self.n))

    @property
    def _spread(self) -> Floats:
        return np.where(self.error > 0, self.error, np.nan)

    def interval(self, confidence: float) -> tuple[Floats, Floats]:
        """Return both ends of the t interval; NaN below two seeds, or where they change nothing."""
        half = stdtrit(self.freedom, (1 + confidence) / 2) * self._spread
        return self.mean - half, self.mean + half

    @property
    def p(self) -> Floats:
        """Two-sided p of a mean of 0; NaN where there is no interval."""
        return np.asarray(2 * stdtr(self.freedom, -np.abs(self.mean) / self._spread))


def holm(p: Floats) -> Floats:
    """Return p-values of a family of comparisons, adjusted by Holm's procedure; NaN is in none."""
    found = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p.flat[known], kind="stable")]
    steps = p.flat[order] * np.arange(len(order), 0, -1)
    found.flat[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return found


def verdicts(
    p: Floats, family_p: Floats, n: NDArray[np.int64], confidence: float
) -> NDArray[np.object_]:
    """Return what is said of each comparison of n pairs; see :func:`compare_over` for the rule."""
    level = 1 - confidence
    chosen = [n < 2, np.isnan(p), family_p <= level, p <= level]
    return np.select(chosen, [UNTESTED, NO_SPREAD, DIFFER, UNDECIDED], ALIKE).astype(object)


# -- for scripts -------------------------------------------------------------------------------


def without_zeros(frame: pd.DataFrame) -> pd.DataFrame:
    """Leave out the counts of a table, as of undefined values, that are 0 in every row."""
    counts = [name for name in ("undefined", "missing", "left_out") if name in frame]
    return frame.drop(columns=[name for name in counts if not frame[name].any()])


def mean_over(values: Values, over: str = SEED, confidence: float = CONFIDENCE) -> xr.Dataset:
    """Return the mean over seeds of every value, with its t interval.

    Parameters
    ----------
    values : DataArray, Dataset, DataFrame or Series
        Real numbers (seed, ...), of any units. Of a DataFrame or a Series a level of the index is
        called as `over`; the columns of a DataFrame, and the variables of a Dataset, are the
        dimension ``result``. NaN is a value that is undefined, and so is an infinite one.
    over : str
        The dimension of the replicates.
    confidence : float
        Of the interval, in (0, 1).

    Returns
    -------
    Dataset
        Over the other dimensions, in the units of the values: ``mean``, NaN of no value; ``low``
        and ``high``, ends of Student's t interval, NaN of fewer than two values and where all are
        equal, not cut off at bounds that the values may have; ``deviation`` of the sample (n - 1);
        ``n``, values; ``undefined``, replicates without one.

    Raises
    ------
    ReplicatesError
        If there is no such dimension, a replicate stands twice, or the confidence is none.

    Notes
    -----
    ``mean ± t(n - 1, (1 + confidence) / 2) deviation / sqrt(n)``: Student, "The probable error of a
    mean", Biometrika 6, 1908.
    """
    given = _labelled(values, over)
    return _described(given.isel({over: 0}, drop=True), _means(given.values, confidence))


def compare_over(
    one: Values, other: Values, over: str = SEED, confidence: float = CONFIDENCE
) -> xr.Dataset:
    """Return how `other` differs from `one`, by seeds: differences of means with their t interval.

    Where both have seeds in common, they are compared seed by seed, those of one alone left out;
    where they have none, by Welch's test.

    Parameters
    ----------
    one, other : DataArray, Dataset, DataFrame or Series
        As for :func:`mean_over`, with names of the seeds, which two arrays are joined by: 1 and
        "1" are the same seed.
    over : str
        The dimension of the replicates.
    confidence : float
        Of each interval, in (0, 1); a difference is one at the level 1 - `confidence`.

    Returns
    -------
    Dataset
        Over the other dimensions: ``difference``, mean of `other` minus that of `one`, in their
        units; ``low`` and ``high``, ends of the interval of this difference alone; ``p``,
        two-sided; ``family_p``, the same by Holm over all comparisons of this call; ``n``, pairs,
        or the seeds of the setting that has fewer; ``left_out``, seeds of both that are in no
        pair, or undefined; ``verdict``; and ``test``: ``paired`` or ``Welch``. The verdict is
        *differ* where ``family_p`` is at most 1 - `confidence`; *undecided* where only ``p`` is;
        *no difference shown* otherwise, which does not say that there is none; *untested* with
        fewer than two pairs (or seeds of a setting); *no spread* where the difference is the same
        in all pairs, to a billionth of the values, so that seeds say nothing of it.

    Raises
    ------
    ReplicatesError
        If there is no such dimension, seeds have no names or stand twice, other dimensions differ,
        or the confidence is none.

    Notes
    -----
    Student, Biometrika 6, 1908; Welch, Biometrika 34, 1947; Holm, Scandinavian Journal of
    Statistics 6, 1979.
    """
    first, second = (_labelled(values, over, is_named=True) for values in (one, other))
    try:
        first, second = xr.align(first, second, join="exact", exclude=[over])
    except ValueError as error:
        raise ReplicatesError(f"both must agree in all dimensions but {over!r}: {error}") from error
    second = second.transpose(*first.dims)
    seeds = _alike(first.indexes[over], second.indexes[over])
    found, test = _differences(first.values, second.values, *seeds, confidence)
    family_p = holm(found["p"])
    verdict = verdicts(found["p"], family_p, found["n"], confidence)
    told = {"family_p": family_p, "verdict": verdict}
    return _described(first.isel({over: 0}, drop=True), found | told).assign(test=test)


def _means(values: Floats, confidence: float) -> dict[str, Any]:
    _require_confidence(confidence)
    own = Estimate.of(values)
    low, high = own.interval(confidence)
    ends = {"mean": own.mean, "low": low, "high": high, "deviation": own.deviation}
    return ends | {"n": own.n, "undefined": len(values) - own.n}


def _differences(
    one: Floats, other: Floats, seeds: pd.Index, other_seeds: pd.Index, confidence: float
) -> tuple[dict[str, Any], str]:
    """Return the columns of a comparison of values (seed, ...), and the test: `compare_over`."""
    _require_confidence(confidence)
    common = seeds.intersection(other_seeds, sort=False)
    if len(common):
        pairs = one[seeds.get_indexer(common)], other[other_seeds.get_indexer(common)]
        found, test, used = Estimate.paired(*pairs), PAIRED, 2
    else:
        found, test, used = Estimate.welch(one, other), WELCH, 0
    defined = (~np.isnan(one)).sum(axis=0) + (~np.isnan(other)).sum(axis=0)
    total = len(one) + len(other)
    low, high = found.interval(confidence)
    left_out = total - (used * found.n if used else defined)
    ends = {"difference": found.mean, "low": low, "high": high, "p": found.p}
    return ends | {"n": found.n, "left_out": left_out}, test


def _alike(one: pd.Index, other: pd.Index) -> tuple[pd.Index, pd.Index]:
    """Return names of seeds as numbers where both are, though one has them as texts."""
    numbers = [as_numbers(own) for own in (one, other)]
    if any(own is None or len(np.unique(own)) < len(own) for own in numbers):
        return one, other
    return pd.Index(numbers[0]), pd.Index(numbers[1])


def _require_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ReplicatesError(f"confidence {confidence}; expected a number between 0 and 1")


def _labelled(values: Values, over: str, is_named: bool = False) -> xr.DataArray:
    """Return values with the replicates first; what is no number, or infinite, is NaN."""
    if isinstance(values, pd.DataFrame):
        stacked = values.rename_axis(columns=values.columns.name or "result")
        values = stacked.stack(future_stack=True)
    if isinstance(values, pd.Series) and not values.index.is_unique:
        twice = values.index[values.index.duplicated()].to_frame().iloc[0]
        told = ", ".join(f"{name} {value}" for name, value in twice.items())
        raise ReplicatesError(f"{told} stands twice; give each replicate once")
    array = xr.DataArray.from_series(values) if isinstance(values, pd.Series) else values
    if isinstance(array, xr.Dataset):
        held = [name for name, own in array.items() if over in own.dims and own.dtype.kind in "fiu"]
        array = array[held].to_dataarray("result")
    if over not in array.dims:
        known = ", ".join(map(repr, array.dims)) or "none"
        raise ReplicatesError(f"no dimension {over!r} to take means over; got {known}")
    if over in array.indexes and not array.indexes[over].is_unique:
        twice = array.indexes[over][array.indexes[over].duplicated()][0]
        raise ReplicatesError(f"{over} {twice} stands twice; give each replicate once")
    if is_named and over not in array.indexes:
        raise ReplicatesError(f"{over!r} has no names to pair by; assign_coords({over}=[0, 1, …])")
    array = array.transpose(over, ...).astype(np.float64)
    return array.where(np.isfinite(array))


_LONG_NAMES = {
    "mean": "mean over replicates",
    "low": "lower end of its t interval",
    "high": "upper end of its t interval",
    "deviation": "deviation of the sample (n - 1)",
    "n": "replicates with a value; pairs of them in a comparison",
    "undefined": "replicates without a value",
    "left_out": "replicates that are in no pair, or have no value",
    "difference": "mean of the second minus that of the first",
    "p": "two-sided p of the comparison alone",
    "family_p": "p by Holm over all comparisons",
    "verdict": f"{DIFFER}, {UNDECIDED}, {ALIKE}, {UNTESTED} or {NO_SPREAD}",
}


def _described(like: xr.DataArray, columns: dict[str, Any]) -> xr.Dataset:
    variables = {
        name: (like.dims, held, {"long_name": _LONG_NAMES[name]}) for name, held in columns.items()
    }
    return xr.Dataset(variables, like.coords)


# -- settings of a matrix ----------------------------------------------------------------------


@dataclass(frozen=True)
class Replicated:
    """One setting with its results under each seed.

    Attributes
    ----------
    name : str
        As ``fashion-sae[k=8]``: what was asked, without the seed.
    values : pd.DataFrame
        A row per seed that has run, by its name; a column per result. NaN is undefined.
    missing : tuple of str
        Cells or runs without a result, as far as they were asked for.
    kind : str
        What its results are of, as the name of a stage: only settings of one kind are compared.
    """

    name: str
    values: pd.DataFrame
    missing: tuple[str, ...] = ()
    kind: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        rows: Sequence[tuple[Any, Mapping[str, float]]],
        missing: Iterable[str] = (),
        kind: str = "",
    ) -> Replicated:
        """Return a setting of seeds, each with numbers by result.

        What has one seed counts once, by its mean: runs of one seed are no replicates, nor are
        those that differ by another seed further down.
        """
        frame = pd.DataFrame([numbers for _, numbers in rows], dtype=np.float64)
        frame.index = pd.Index([seed for seed, _ in rows], name=SEED, dtype=object)
        frame = frame.where(np.isfinite(frame))
        if not frame.index.is_unique:
            by_seed = frame.groupby(level=0, sort=False)
            frame = by_seed.agg(lambda own: own.mean(skipna=False))
        return cls(name, frame, tuple(missing), kind)

    def undefined(self) -> Iterator[str]:
        """Yield each result that some seeds have no value of, with these seeds."""
        for result, own in self.values.items():
            if own.isna().any():
                seeds = ", ".join(map(str, own.index[own.isna()]))
                yield f"{result} ({SEED} {seeds})"


MEANS = {
    "result": Column(),
    "setting": Column(),
    "mean": Column(".3g", help="over seeds"),
    "low": Column(".3g", help="lower end of the t interval of the mean; not cut off at bounds"),
    "high": Column(".3g", help="upper end of it"),
    "deviation": Column(".2g", help="of the sample of seeds (n - 1)"),
    "n": Column("d", help="seeds with a value"),
    "undefined": Column("d", help="seeds whose value is NaN or infinite; not in the mean"),
    "missing": Column(
        "d", help="cells or runs without a result as it is declared now; not in the mean"
    ),
}
"""Of :meth:`Replicates.means`."""

DIFFERENCES = {
    "result": Column(),
    "setting": Column(),
    "against": Column(help="the setting that it is compared with"),
    "difference": Column("+.3g", help="mean of the setting minus that of the other one"),
    "low": Column("+.3g", help="lower end of the t interval of this difference alone"),
    "high": Column("+.3g", help="upper end of it"),
    "n": Column("d", help="pairs of seeds; of Welch's test the seeds of the setting with fewer"),
    "left_out": Column("d", "left out", help="seeds of both that are in no pair, or undefined"),
    "test": Column(help="paired by seed; Welch's where no seeds are in common"),
    "p": Column(".2g", help="two-sided, of this comparison alone"),
    "family_p": Column(".2g", "family p", help="by Holm over all comparisons of the table"),
    "verdict": Column(
        help="differ: family p at most 1 - confidence; undecided: p alone; untested: fewer than "
        "two pairs; no spread: the same in all pairs"
    ),
}
"""Of :meth:`Replicates.differences`."""


@dataclass(frozen=True)
class Replicates:
    """Settings with their results over seeds: means, comparisons, and what is to be said of both.

    Attributes
    ----------
    settings : tuple of Replicated
        Each once.
    confidence : float
        Of the intervals, in (0, 1).
    remarks : tuple of str
        What was left out.
    over : str
        What the replicates are values of, in the singular.
    """

    settings: tuple[Replicated, ...]
    confidence: float = CONFIDENCE
    remarks: tuple[str, ...] = ()
    over: str = SEED

    def __post_init__(self) -> None:
        _require_confidence(self.confidence)

    def means(self) -> pd.DataFrame:
        """Return a row per result and setting, with the columns of :data:`MEANS`.

        ``low`` and ``high`` are NaN of a single seed, and where seeds change nothing. A setting
        that has run with no seed has no row.
        """
        tables = []
        for setting in self.settings:
            columns = _means(setting.values.to_numpy(), self.confidence)
            own = pd.DataFrame(columns, index=setting.values.columns).rename_axis("result")
            told = {"setting": setting.name, "missing": len(setting.missing), "kind": setting.kind}
            tables.append(own.assign(**told).reset_index())
        return _by_result(tables, MEANS)

    def differences(self, against: str = "") -> pd.DataFrame:
        """Return how settings differ from one of their kind, with the columns of `DIFFERENCES`.

        Parameters
        ----------
        against : str
            The setting that the others are compared with; the first that has run by default.

        Raises
        ------
        ReplicatesError
            If there is no such setting.
        """
        names = [setting.name for setting in self.settings]
        if against and against not in names:
            raise ReplicatesError(f"no setting {against[:100]!r}{nearest(against, names)}")
        bases: dict[str, Replicated] = {}
        for setting in self.settings:
            if setting.name == against or (not against and len(setting.values)):
                bases.setdefault(setting.kind, setting)
        tables = [
            self._against(bases[own.kind], own)
            for own in self.settings
            if own.kind in bases and own is not bases[own.kind]
        ]
        found = _by_result(tables, DIFFERENCES)
        p = found["p"].to_numpy(dtype=np.float64)
        family_p, n = holm(p), found["n"].to_numpy(dtype=np.int64)
        return found.assign(family_p=family_p, verdict=verdicts(p, family_p, n, self.confidence))

    def _against(self, base: Replicated, other: Replicated) -> pd.DataFrame:
        common = [name for name in base.values.columns if name in other.values.columns]
        one, second = base.values[common], other.values[common]
        columns, test = _differences(
            one.to_numpy(), second.to_numpy(), one.index, second.index, self.confidence
        )
        told = {"setting": other.name, "against": base.name, "test": test, "kind": other.kind}
        return pd.DataFrame({"result": common, **columns, **told})

    @property
    def percent(self) -> str:
        """The confidence in words."""
        return f"{100 * self.confidence:g} %"

    def mean_notes(self) -> Iterator[str]:
        """Yield what is to be said of :meth:`means`."""
        yield from self.remarks
        yield (
            f"low, high: Student's t interval of the mean over {self.over}s, {self.percent}, not "
            f"cut off at bounds; none with one {self.over}, or where {self.over}s change nothing."
        )
        for setting in self.settings:
            if setting.missing:
                yield f"Missing of {setting.name}: {_listed(setting.missing)}."
            if undefined := list(setting.undefined()):
                yield f"Undefined of {setting.name}: {_listed(undefined)}."

    def difference_notes(self, differences: pd.DataFrame) -> Iterator[str]:
        """Yield what is to be said of :meth:`differences`: the rule, and how many were tested."""
        tested = counted(int(differences["p"].notna().sum()), "comparison")
        yield (
            f"Intervals ({self.percent}) and p are of each comparison alone; family p is by Holm "
            f"over {tested}. {DIFFER}: family p ≤ {1 - self.confidence:.3g}; {UNDECIDED}: p alone; "
            f"{ALIKE} is no proof of none. Results that were looked at and left out count too."
        )


def _by_result(tables: list[pd.DataFrame], columns: Mapping[str, Column]) -> pd.DataFrame:
    """Return tables as one, result by result of each kind, in the order in which they stand."""
    tables = [table for table in tables if len(table)]
    if not tables:
        return pd.DataFrame(columns=list(columns))
    whole = pd.concat(tables, ignore_index=True)
    rank = whole.groupby(["kind", "result"], sort=False).ngroup()
    kinds = whole.groupby("kind", sort=False).ngroup()
    order = np.lexsort((rank, kinds))
    return whole.iloc[order].reindex(columns=list(columns)).reset_index(drop=True)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more
