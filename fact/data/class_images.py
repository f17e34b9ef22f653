"""The images of each class of a split."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fact.data.images import Ids, ImageDataset
from fact.data.keyed import generator_for


def images_by_class(
    images: ImageDataset, split: str, most: int | None = None, seed: int = 0
) -> Iterator[tuple[int, Ids]]:
    """Yield the index of each class that has images, and their ids in the split's order.

    Parameters
    ----------
    images : ImageDataset
        Where they are.
    split : str
        Of which.
    most : int, optional
        Images of a class, drawn where it has more; all by default.
    seed : int
        Of the draw, which depends on the class's name and no other class.
    """
    ids, labels = images.ids(split), images.labels(split)
    for label, name in enumerate(images.classes):
        own: NDArray[np.str_] = ids[labels == label]
        if most is not None and len(own) > most:
            drawn = generator_for(f"{label} {name}", seed).permutation(len(own))[:most]
            own = own[np.sort(drawn)]
        if len(own):
            yield label, own
