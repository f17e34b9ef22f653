"""Whether maps of concepts are exact, and how to say that they are not."""

from __future__ import annotations

import xarray as xr

MAPPED_BY = {
    "gradient": "gradient times image of a network that is not linear in its frozen weights",
    "codes": "up-sampled codes, as coarse as the layer",
    "crp": "relevance handed back to the image (CRP)",
}
"""Ways of mapping that only approximate where a concept is."""


def approximate_maps(maps: xr.Dataset) -> str:
    """Return how concepts were mapped, where that is an approximation; "" where it is exact."""
    by = str(maps["maps"].item()) if "maps" in maps else "gradient"
    exact = by == "gradient" and bool(maps.get("exact", True))
    return "" if exact else by


def maps_note(localised: xr.Dataset) -> str:
    """Return that scores are of approximate maps, to stand beside them; "" where they are not."""
    if "maps" not in localised:
        return ""
    by = str(localised["maps"].item())
    return (
        f"Scores are approximate: maps are {MAPPED_BY.get(by, by)}, an approximation of where a "
        "concept is."
    )
