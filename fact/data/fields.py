"""Types of configuration keys that many stages share: counts, seeds, devices."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

import registry


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"{value}; expected an odd number")
    return value


Count = Annotated[int, Field(ge=1)]
"""At least 1."""

Odd = Annotated[int, Field(ge=1), AfterValidator(_odd)]
"""An odd number, at least 1."""

Seed = Annotated[int, Field(ge=0)]
"""Of a random generator, 0 or more."""

Positive = Annotated[float, Field(gt=0)]
"""Above 0."""

Device = registry.Runtime[str]
"""``auto``, ``cpu``, ``cuda``, …; it cannot change a result."""
