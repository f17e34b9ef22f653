"""Whether contributions are exact, or an approximation, and how that is said beside them."""

from __future__ import annotations

import xarray as xr

APPROXIMATE = (
    "approximate: gradient times activation, of a network that is not linear in its frozen "
    "weights; contributions need not add up to the logit"
)
MARK = "≈ contribution"
"""How a column or an axis of approximations is called."""


def is_exact(dataset: xr.Dataset) -> bool:
    """Return whether contributions of a dataset must add up; all did where it does not say."""
    return "exact" not in dataset or bool(dataset["exact"])


def exactness_note(dataset: xr.Dataset) -> str:
    """Return a sentence to put beside contributions, "" where they are exact."""
    return "" if is_exact(dataset) else f"Contributions are {APPROXIMATE}."
