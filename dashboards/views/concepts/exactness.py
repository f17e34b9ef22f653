"""Whether contributions are exact, or an approximation, and how that is said beside them."""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from dashboards.views.parts.pictures import ABOUT_DOTS, COLOURS, PLACE, WEIGHTS

APPROXIMATE = (
    "approximate: gradient times activation, of a network that is not linear in its frozen "
    "weights; contributions need not add up to the logit"
)
MARK = "≈ contribution"
"""How a column or an axis of approximations is called."""


MAPS_BY: dict[str, dict[str, str]] = {
    "gradient": {
        COLOURS: "the input weights behind its presence, in the colours they respond to, on white.",
        WEIGHTS: "the same, every pixel as it is.",
        PLACE: "the image, faded where the concept is absent.",
    },
    "≈ gradient": {
        COLOURS: "≈ the gradient at the image, in the colours it responds to, on white: an "
        "approximation of where it comes from.",
        WEIGHTS: "≈ the same approximation, every pixel as it is.",
        PLACE: "≈ the image, faded where gradient times image is not above 0: an approximation "
        "of where it comes from.",
    },
    "codes": {
        PLACE: "≈ the image, faded where no position of the layer holds it, up-sampled: an "
        "approximation, as coarse as the layer.",
    },
    "crp": {
        PLACE: "≈ the image, faded where no relevance came back to it from the layer (CRP): an "
        "approximation.",
    },
}
"""What is shown below images, by the way of mapping, and what it is."""


def shown_below(gallery: xr.Dataset, statistics: xr.Dataset | None = None) -> dict[str, str]:
    """Return what can be shown below the images of a gallery; nothing where it has no maps.

    Parameters
    ----------
    gallery : xr.Dataset
        Of the schema ``gallery``.
    statistics : xr.Dataset, optional
        Of the concepts or neurons, which may say that contributions are approximate.
    """
    if "explanation" not in gallery:
        return {}
    return MAPS_BY[_way(gallery, statistics is None or is_exact(statistics))]


def meaning_of_maps(below: str, possible: Mapping[str, str]) -> str:
    """Return what stands below images, and what its dots are, "" where nothing does."""
    if below not in possible:
        return ""
    dots = f" {ABOUT_DOTS}" if below in (COLOURS, WEIGHTS) else ""
    return f"Below each: {possible[below]}{dots}"


def _way(gallery: xr.Dataset, exact: bool = True) -> str:
    """Return the way of mapping, of `MAPS_BY`, with what is known of the concepts beside."""
    by = str(gallery["maps"].item()) if "maps" in gallery else "gradient"
    return by if by != "gradient" or (exact and is_exact(gallery)) else "≈ gradient"


def is_exact(dataset: xr.Dataset) -> bool:
    """Return whether contributions of a dataset must add up; all did where it does not say."""
    return "exact" not in dataset or bool(dataset["exact"])


def exactness_note(dataset: xr.Dataset) -> str:
    """Return a sentence to put beside contributions, "" where they are exact."""
    return "" if is_exact(dataset) else f"Contributions are {APPROXIMATE}."
