"""A logged metric as a series of points, cut into parts that fit MongoDB's documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from registry.record.plain import encode, shorten

_PART = 14_400_000  # bytes of a part, at most: 300,000 points of three numbers
_POINT = 48  # bytes of three numbers with the indices that BSON writes arrays
_LONGEST_VALUE = 10_000  # characters of a value that is no number


class ReleasedError(Exception):
    """Points that were forgotten, because they were stored, and are asked for again."""


@dataclass
class Part:
    """Consecutive points of one metric, as many as one document holds.

    Attributes
    ----------
    first : int
        Index of its first point in the metric.
    released : int
        Points at its beginning that were forgotten again, because they are stored elsewhere.
    steps, values, timestamps : list
        The points from `released` on; timestamps in milliseconds since 1970, UTC.
    """

    first: int
    released: int = 0
    steps: list[Any] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Points that it ever had."""
        return self.released + len(self.values)

    def since(self, count: int) -> Mapping[str, list[Any]]:
        """Return the points after the first `count`.

        Raises
        ------
        ReleasedError
            If some of them were released.
        """
        start = count - self.released
        if start < 0:
            raise ReleasedError(f"points {count} to {self.released} are released")
        columns = ("steps", "values", "timestamps")
        return {column: getattr(self, column)[start:] for column in columns}

    def release(self, count: int) -> None:
        """Forget the first `count` points."""
        for column in (self.steps, self.values, self.timestamps):
            del column[: max(0, count - self.released)]
        self.released = max(self.released, count)


@dataclass
class Series:
    """All points of one metric, in the order they were logged.

    Parameters
    ----------
    name : str
        Name of the metric, as ``training.loss``.
    """

    name: str
    parts: list[Part] = field(default_factory=list)
    _bytes: int = 0

    @property
    def count(self) -> int:
        """Points logged."""
        return self.parts[-1].first + self.parts[-1].count if self.parts else 0

    def append(self, step: Any, value: Any, timestamp: int) -> None:
        """Add a point; where a part ends depends on the points alone, never on who reads them."""
        if not isinstance(value, (int, float)):
            value = _short(value)
        size = _POINT if isinstance(value, (int, float)) else _POINT + 16 * len(encode(value))
        if not self.parts or self._bytes + size > _PART:
            self.parts.append(Part(first=self.count))
            self._bytes = 0
        self._bytes += size
        part = self.parts[-1]
        part.steps.append(step)
        part.values.append(value)
        part.timestamps.append(timestamp)

    def column(self, name: str) -> list[Any]:
        """Return ``steps``, ``values`` or ``timestamps`` of all points that are not released."""
        return [item for part in self.parts for item in getattr(part, name)]


def _short(value: Any) -> Any:
    """Return a value that is no number, as text where it is long."""
    text = value if isinstance(value, str) else encode(value)
    return value if len(text) <= _LONGEST_VALUE else shorten(text, _LONGEST_VALUE)
