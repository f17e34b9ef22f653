"""One table of all benchmarks: what was measured, and the bounds that were asked and are asserted.

A benchmark takes the fixture ``table`` and gives it a row for each thing that it measures. A row
says by which bound it is held; a benchmark with a row beyond its bound has failed, once all its
rows are there. What no issue asks for has only the bound that is asserted.
"""

from __future__ import annotations

import json
import os
import platform
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "output"
RESULTS, PAGE = FOLDER / "benchmarks.json", FOLDER / "benchmarks.md"
HEADER = (
    *("measured", "ours", "against", "ratio or value"),
    *("asked", "asserted", "holds", "took", "load", "note"),
)


@dataclass(frozen=True)
class Row:
    """One measurement, beside its bounds.

    Attributes
    ----------
    name : str
        What was measured.
    value : float
        What is bounded: a ratio, or a quantity in `unit`.
    bound : float or None
        What is asserted of it: at most so much, or at least where `is_least`; None for nothing.
    is_least : bool
        Whether a larger value is the better one.
    asked : float or None
        The bound that an issue asks for; None where none does.
    unit : str
        Of `value`: ``s``, ``MiB``; empty for ratios.
    ours, against : str
        Both sides of a ratio, with their units; whose the other side is.
    note : str
        What a reader has to know beside it.
    """

    name: str
    value: float
    bound: float | None
    is_least: bool
    asked: float | None = None
    unit: str = ""
    ours: str = ""
    against: str = ""
    note: str = ""

    def is_within(self, bound: float | None) -> bool:
        """Return whether the value keeps to a bound, if there is one; NaN keeps to none."""
        if bound is None:
            return True
        return self.value >= bound if self.is_least else self.value <= bound

    @property
    def holds(self) -> bool:
        """Whether it keeps to what is asserted."""
        return self.is_within(self.bound)

    @property
    def verdict(self) -> str:
        """Tell of both bounds whether they are kept."""
        if not self.holds:
            return "NO"
        return "yes" if self.is_within(self.asked) else "not as asked"

    def bounded(self, bound: float | None) -> str:
        """Return a bound as text."""
        if bound is None:
            return ""
        return f"{'≥' if self.is_least else '≤'} {quantity(bound, self.unit)}"

    def __str__(self) -> str:
        sides = f" ({self.ours} against {self.against})" if self.against else ""
        value = quantity(self.value, self.unit)
        return f"{self.name}: {value}{sides}, expected {self.bounded(self.bound)}"


class Table:
    """The rows of one benchmark, as they are measured."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def faster(
        self,
        name: str,
        ours: float,
        other: float,
        least: float | None,
        *,
        against: str = "",
        unit: str = "s",
        asked: float | None = None,
        note: str = "",
    ) -> None:
        """Add how many times as long, or as large, the other side is; `least` is asserted."""
        self._compare(name, other / ours, ours, other, (least, True, asked), unit, against, note)

    def costs(
        self,
        name: str,
        ours: float,
        other: float,
        most: float | None,
        *,
        against: str = "",
        unit: str = "s",
        asked: float | None = None,
        note: str = "",
    ) -> None:
        """Add ours as a multiple of the other side; `most` is asserted."""
        self._compare(name, ours / other, ours, other, (most, False, asked), unit, against, note)

    def within(
        self,
        name: str,
        value: float,
        most: float | None,
        unit: str,
        *,
        asked: float | None = None,
        note: str = "",
    ) -> None:
        """Add a quantity that is at most so much."""
        self.rows.append(Row(name, float(value), most, False, asked, unit, note=note))

    def _compare(
        self,
        name: str,
        ratio: float,
        ours: float,
        other: float,
        bounds: tuple[float | None, bool, float | None],
        unit: str,
        against: str,
        note: str,
    ) -> None:
        sides = quantity(ours, unit), f"{against} {quantity(other, unit)}".strip()
        self.rows.append(Row(name, float(ratio), *bounds, "", *sides, note))

    def failures(self) -> list[str]:
        """Return what is beyond its bound."""
        return [str(row) for row in self.rows if not row.holds]


def quantity(value: float, unit: str = "") -> str:
    """Return a number of three significant digits, with its unit."""
    digits = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{digits} {unit}".strip()


@dataclass
class Result:
    """What became of one benchmark.

    Attributes
    ----------
    outcome : str
        ``passed``, ``failed`` or ``skipped``.
    seconds : float
        What it took, with all that was prepared for it.
    load : float
        Load average of a minute, when it was over.
    rows : list of dict
        Its `Row` s.
    why : str
        Why it failed other than by a bound, or was skipped.
    """

    outcome: str = "passed"
    seconds: float = 0.0
    load: float = 0.0
    rows: list[dict[str, Any]] | None = None
    why: str = ""


def cells(name: str, result: Result) -> list[tuple[str, ...]]:
    """Return the lines of one benchmark: a line for each row, and one for what has none."""
    rows = [Row(**row) for row in result.rows or ()]
    taken = [f"{result.seconds:.0f} s", f"{result.load:.1f}"]
    lines = []
    for row in rows:
        value = quantity(row.value, row.unit)
        bounds = row.bounded(row.asked), row.bounded(row.bound), row.verdict
        lines.append((row.name, row.ours, row.against, value, *bounds, *taken, row.note))
        taken = ["", ""]  # of all rows of a benchmark together
    is_told = result.outcome == "passed" or any(not row.holds for row in rows)
    if not is_told or not rows:
        verdict = {"failed": "FAILED", "skipped": "not run"}.get(result.outcome, "yes")
        lines.append((name, "", "", "", "", "", verdict, *taken, result.why))
    return lines


def read(path: Path = RESULTS) -> dict[str, Result]:
    """Return the results that are kept, by benchmark; none where there is no file."""
    if not path.exists():
        return {}
    kept: dict[str, dict[str, Any]] = json.loads(path.read_text())["benchmarks"]
    return {name: Result(**result) for name, result in kept.items()}


def keep(results: dict[str, Result], path: Path = RESULTS) -> None:
    """Write results beside those of other benchmarks that are kept, and the page of all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    every = read(path) | results
    whole = {
        "machine": machine(),
        "benchmarks": {name: asdict(every[name]) for name in sorted(every)},
    }
    new = path.with_suffix(".new")
    new.write_text(json.dumps(whole, indent=1) + "\n")
    new.replace(path)
    path.with_suffix(".md").write_text(markdown(every))


def markdown(results: dict[str, Result]) -> str:
    """Return the table as a page."""
    lines = [HEADER, ("---",) * len(HEADER), *(line for part in _ordered(results) for line in part)]
    rows = "\n".join("| " + " | ".join(map(_escaped, line)) + " |" for line in lines)
    return f"{machine()}\n\n{rows}\n"


def text(results: dict[str, Result], width: int) -> str:
    """Return the table for a terminal: columns without anything are left out, notes stand below."""
    lines = [line for part in _ordered(results) for line in part]
    shown = [i for i in range(len(HEADER) - 1) if any(line[i] for line in lines)]
    widths = [max(len(line[i]) for line in (HEADER, *lines)) for i in shown]
    widths[0] = min(widths[0], max(30, width - sum(widths[1:]) - 2 * len(widths)))
    printed = []
    for line in (HEADER, *lines):
        own = [line[i] for i in shown]
        first, *wrapped = _wrapped(own[0], widths[0])
        rest = (cell.rjust(size) for cell, size in zip(own[1:], widths[1:], strict=True))
        printed.append("  ".join([first.ljust(widths[0]), *rest]).rstrip())
        printed += wrapped
        if line is not HEADER and line[-1]:
            printed += _wrapped(f"  ({line[-1]})", width)
    return "\n".join([machine(), "", *printed])


def machine() -> str:
    """Return what the numbers are of: processor, cores, versions."""
    name = platform.processor() or platform.machine()
    known = Path("/proc/cpuinfo")
    if known.exists():
        models = [line for line in known.read_text().splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores, Python {platform.python_version()}"


def _ordered(results: dict[str, Result]) -> list[list[tuple[str, ...]]]:
    return [cells(name, results[name]) for name in sorted(results)]


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _wrapped(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width, subsequent_indent="  ") or [""]
