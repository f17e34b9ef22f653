"""Metrics of a run, of which one that fails takes nothing but itself with it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from evals.kernels.statistics import NeedsInputsError, Statistics
from evals.metrics.table import Metric, MetricError, Parameters
from registry.wording import counted

if TYPE_CHECKING:
    import xarray as xr

PROBED = 2
"""Neurons that a metric is computed of a second time."""

SAME = 1e-6
"""Part of the largest score within which two are the same; formulas round as they like."""

MOST_STRAY = 0.5
"""Share of pairs that may differ: of a constant neuron, rounding is all that some formulas see."""

SILENT = "every score is undefined (NaN) or infinite"
FAULTY = "faulty_metrics"
"""Attribute of a dataset: a line for each metric that failed, and what is wrong with it."""


class Tolerance:
    """What became of the metrics of one run.

    Parameters
    ----------
    metrics : iterable of Metric
        Those of the run. What is built in is trusted: its errors are those of the data.

    Attributes
    ----------
    rows : list of Metric
        The same metrics. One of somebody's own that raises, or returns what it should not, is
        undefined for every pair from then on; if nothing is left, it raises.
    """

    def __init__(self, metrics: Iterable[Metric]):
        self.rows: list[Metric] = [self._watch(row) for row in metrics]
        self._errors: dict[str, str] = {}
        self._defined: set[str] = set()
        self._lock = threading.Lock()

    def _watch(self, row: Metric) -> Metric:
        if row.is_built_in:
            return row
        return WatchedMetric.of(row, tolerance=self)

    @property
    def faults(self) -> Mapping[str, str]:
        """Name of each metric that failed to what is wrong with it."""
        silent = {
            row.name: SILENT
            for row in self.rows
            if isinstance(row, WatchedMetric) and row.name not in self._defined
        }
        return silent | self._errors

    def attributes(self) -> dict[str, str]:
        """Return what a dataset says of metrics that failed; nothing if none did."""
        lines = [f"{name}: {fault}" for name, fault in self.faults.items()]
        return {FAULTY: "\n".join(lines)} if lines else {}

    def leave_open(self, tested: xr.Dataset) -> xr.Dataset:
        """Return numbers (metric, …) with NaN for each metric that failed: nothing was tested."""
        failed = tested["metric"].isin(list(self.faults))
        if not failed.any():
            return tested
        own = [name for name, values in tested.items() if "metric" in values.dims]
        return tested.assign({name: tested[name].where(~failed) for name in own})

    def recall(self, attributes: Mapping[str, object]) -> None:
        """Leave out what failed before this run was resumed, as a part of its dataset says."""
        for line in str(attributes.get(FAULTY, "")).splitlines():
            name, _, fault = line.partition(": ")
            if fault != SILENT:
                self._errors.setdefault(name, fault)

    def has_failed(self, name: str) -> bool:
        """Return whether a metric raised, or returned what it should not."""
        return name in self._errors

    def note_failure(self, name: str, error: Exception) -> None:
        """Note why a metric is left out; raise if it was the last.

        Raises
        ------
        MetricError
            With what is wrong with every metric.
        """
        text = str(error) if isinstance(error, MetricError) else f"{type(error).__name__}: {error}"
        with self._lock:
            self._errors.setdefault(name, text)
        if len(self._errors) == len(self.rows):
            lines = [f"{name}: {fault}" for name, fault in self._errors.items()]
            raise MetricError("no metric is left:\n  " + "\n  ".join(lines)) from error

    def note_scores(self, name: str, scores: np.ndarray) -> None:
        """Note whether a metric has defined scores, which infinite ones are not."""
        if name not in self._defined and np.isfinite(scores).any():
            self._defined.add(name)


@dataclass(frozen=True)
class ProbedMetric(Metric):
    """A metric of one's own, whose first scores are compared with those of fewer neurons."""

    probed: threading.Event = field(default_factory=threading.Event, compare=False, kw_only=True)
    probing: threading.Lock = field(default_factory=threading.Lock, compare=False, kw_only=True)

    @classmethod
    def of(cls, row: Metric, **more: Any) -> ProbedMetric:
        """Return a row of the table as one that is probed."""
        return cls(**{entry.name: getattr(row, entry.name) for entry in fields(Metric)}, **more)

    def evaluate(self, statistics: Statistics, parameters: Parameters | None = None) -> np.ndarray:
        """Return the metric of every pair, as `Metric.evaluate`.

        Raises
        ------
        MetricError
            Also if fewer neurons give a matrix turned about, which none sees where there are as
            many neurons as concepts, or have other scores than among the others, as where a
            formula draws at random.
        """
        scores = super().evaluate(statistics, parameters)
        narrow = getattr(statistics, "narrow", None)  # which draws and counts do not have
        if narrow is None or self.probed.is_set():
            return scores
        with self.probing:  # other threads wait for what comes of it
            if not self.probed.is_set():
                fewer = narrow(PROBED if scores.shape[1] != PROBED else 1)
                self._require_same(super().evaluate(fewer, parameters), scores)
                self.probed.set()
        return scores

    def _require_same(self, few: np.ndarray, scores: np.ndarray) -> None:
        among = scores[: len(few)]
        is_defined = np.isfinite(few) & np.isfinite(among)
        rounding = SAME * np.abs(among[is_defined]).max(initial=0.0)
        differs = np.abs(few[is_defined] - among[is_defined]) > rounding
        if differs.sum() > MOST_STRAY * differs.size:
            raise MetricError(
                f"metric {self.name!r} returned other scores of {counted(len(few), 'neuron')} "
                "alone than "
                f"among {len(scores)}, or does so each time; draw by needs=('seed',)"
            )


def probed(row: Metric) -> Metric:
    """Return a metric that is probed where it is somebody's own, for one run."""
    return row if row.is_built_in else ProbedMetric.of(row)


@dataclass(frozen=True)
class WatchedMetric(ProbedMetric):
    """A metric of one's own, in a run that goes on without it where it fails."""

    tolerance: Tolerance = field(kw_only=True, compare=False)

    def evaluate(self, statistics: Statistics, parameters: Parameters | None = None) -> np.ndarray:
        """Return the metric of every pair, as `Metric.evaluate`; NaN once it has failed."""
        if not self.tolerance.has_failed(self.name):
            try:
                scores = super().evaluate(statistics, parameters)
            except NeedsInputsError:
                raise
            except Exception as error:  # somebody's code may raise anything
                self.tolerance.note_failure(self.name, error)
            else:
                self.tolerance.note_scores(self.name, scores)
                return scores
        return np.full(statistics.shape, np.nan)


def joint_faults(datasets: Iterable[xr.Dataset]) -> dict[str, str]:
    """Return the attribute of what several datasets say of metrics that failed, each line once."""
    told = [line for one in datasets for line in str(one.attrs.get(FAULTY, "")).splitlines()]
    return {FAULTY: "\n".join(dict.fromkeys(told))} if told else {}


def faults_of_parts(parts: Sequence[xr.Dataset]) -> dict[str, str]:
    """Return the attribute of what is true of a dataset by its parts.

    A metric is undefined everywhere if it is so in every part.
    """
    lines = [str(part.attrs.get(FAULTY, "")).splitlines() for part in parts]
    told = [
        line
        for line in dict.fromkeys(line for own in lines for line in own)
        if not line.endswith(f": {SILENT}") or all(line in own for own in lines)
    ]
    return {FAULTY: "\n".join(told)} if told else {}


def faulty_names(attributes: Mapping[str, object]) -> set[str]:
    """Return the metrics that failed, by a dataset's attributes."""
    return {line.partition(": ")[0] for line in str(attributes.get(FAULTY, "")).splitlines()}


def faults_text(attributes: Mapping[str, object]) -> str:
    """Return a line on each metric that failed, by a dataset's attributes; "" if none did."""
    told = str(attributes.get(FAULTY, ""))
    return "".join(f"metric {line}\n" for line in told.splitlines())
