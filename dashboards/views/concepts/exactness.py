"""Whether contributions are exact, or an approximation, and how that is said beside them."""

from __future__ import annotations

import xarray as xr

APPROXIMATE = (
    "approximate: gradient times activation, of a network that is not linear in its frozen "
    "weights; contributions need not add up to the logit"
)
MARK = "≈ contribution"
"""How a column or an axis of approximations is called."""


MAPS_BY: dict[str, dict[str, str]] = {
    "gradient": {
        "Colours": "the input weights behind its presence, in the colours they respond to, on "
        "white.",
        "Place": "the image, faded where the concept is absent.",
    },
    "≈ gradient": {
        "Colours": "≈ the gradient at the image, in the colours it responds to, on white: an "
        "approximation of where it comes from.",
        "Place": "≈ the image, faded where gradient times image is not above 0: an approximation "
        "of where it comes from.",
    },
    "codes": {
        "Place": "≈ the image, faded where no position of the layer holds it, up-sampled: an "
        "approximation, as coarse as the layer.",
    },
    "crp": {
        "Place": "≈ the image, faded where no relevance came back to it from the layer (CRP): an "
        "approximation.",
    },
}
"""What is shown below images, by the way of mapping, and what it is."""


def shown_below(gallery: xr.Dataset, statistics: xr.Dataset) -> dict[str, str]:
    """Return what can be shown below the images of a gallery; nothing where it has no maps.

    Parameters
    ----------
    gallery : xr.Dataset
        Of the schema ``gallery``.
    statistics : xr.Dataset
        Of the concepts or neurons.
    """
    if "explanation" not in gallery:
        return {}
    return MAPS_BY[_way(gallery, is_exact(statistics))]


def place_in_words(gallery: xr.Dataset) -> str:
    """Return what a picture of where a concept is is called, marked where it is approximate."""
    return "where it is" if _way(gallery) == "gradient" else "≈ where it is"


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
