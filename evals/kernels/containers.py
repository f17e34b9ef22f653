"""What an array may be, for annotations: apart from conversions, so that it costs no import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias


class Shaped(Protocol):
    """An array of any library: NumPy, torch, pandas, SciPy-sparse, dask or xarray."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of its dimensions."""


AnyArray: TypeAlias = Shaped | Sequence[float] | Sequence[Sequence[float]]
"""What functions take: an array of any library, or nested sequences of numbers."""
