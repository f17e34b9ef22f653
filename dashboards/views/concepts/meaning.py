"""Concepts by what their images are near to: a text or an image, by a model of images and texts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fact.traces.by_concept import Presences
from registry.catalog.lineage import Entry, Lineage

ENCODES = "fact.encode_images"
"""The stage that gives the vectors of images."""

ABOUT = (
    "Concepts by how much nearer their images are to a text, or to an image, than images are on "
    "average: the mean cosine, weighted by presence, minus the mean over all images. It ranks; it "
    "names nothing."
)


def nearness(known: Presences, cosines: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return how much nearer the images of each concept are to something than all images are.

    Parameters
    ----------
    known : Presences
        Of all concepts.
    cosines : ndarray, (image,)
        Of each image with what is sought; NaN where it is not known.

    Returns
    -------
    ndarray, (concept,)
        Mean of the cosines, weighted by presence, minus their mean; NaN for a concept that is
        present in no image of which it is known.
    """
    read = np.asarray(cosines, dtype=np.float64)[: known.n_read]
    is_known = np.isfinite(read)
    apart = np.where(is_known, read - read[is_known].mean() if is_known.any() else 0, 0)
    total = weight = np.zeros(0)
    for number, block in enumerate(known.blocks):
        own = slice(block.start, block.stop)
        parts = block.product(apart[own]), block.product(is_known[own].astype(np.float64))
        total, weight = parts if number == 0 else (total + parts[0], weight + parts[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight != 0, total / weight, np.nan)


def encoded(lineage: Lineage, concepts: Entry) -> list[Entry]:
    """Return what holds vectors of the same images by a model of images and texts."""
    images = concepts.needs.get("images", "")
    return [
        entry
        for entry in lineage.entries.values()
        if entry.stage == ENCODES and entry.needs.get("images") == images and entry.folder
    ]


def declaring(concepts: Entry) -> str:
    """Return the lines for experiments.toml that would make such vectors."""
    split = concepts.config.get("split", "test")
    images = concepts.needs.get("images", "IMAGES")
    return "\n".join(
        [
            "[networks.siglip]",
            'kind = "open-clip"',
            'model = "ViT-L-16-SigLIP-384"',
            "",
            f"[experiments.{concepts.experiment}-vectors]",
            f'stage = "{ENCODES}"',
            f'needs = {{ images = "{images}", model = "siglip" }}',
            f'config = {{ split = "{split}" }}',
        ]
    )
