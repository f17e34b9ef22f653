"""Which image of many: by its name, its class, whether it was predicted rightly, or by stepping."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from registry.suggest import nearest

ALL, RIGHT, WRONG, EXPLAINED, UPLOAD = "All", "Right", "Wrong", "Explained", "Upload"
NEAR = 2000
"""Names among which a misspelt one is sought, which takes time."""


class UnknownImageError(ValueError):
    """An image that is not among those that can be chosen."""


def images_frame(dataset: xr.Dataset) -> pd.DataFrame:
    """Return a row per image: ``image``, and names of its ``label`` and ``prediction``.

    Parameters
    ----------
    dataset : xr.Dataset
        Of schema ``concepts`` or ``decisions``; a class beyond its names is "".
    """
    classes = np.array([*class_options(dataset["class"].values.tolist()), ""], dtype=object)
    columns = {"image": dataset["image"].values.astype(str).astype(object)}
    for name in ("label", "prediction"):
        index = dataset[name].values.astype(np.int64)
        known = (index >= 0) & (index < len(classes) - 1)
        columns[name] = classes[np.where(known, index, -1)]
    return pd.DataFrame(columns)


def select_images(
    frame: pd.DataFrame, which: str, label: str = "", explained: Sequence[str] = ()
) -> list[str]:
    """Return the names of images that are asked for, in their order.

    Parameters
    ----------
    frame : pd.DataFrame
        As :func:`images_frame` returns it.
    which : str
        `RIGHT`, `WRONG`, `EXPLAINED`; anything else means all.
    label : str
        Name of the class that they are labelled with; "" means any.
    explained : sequence of str
        Images that were explained in advance.
    """
    kept = np.ones(len(frame), bool)
    if which in (RIGHT, WRONG):
        kept &= (frame["label"] == frame["prediction"]).to_numpy() == (which == RIGHT)
        kept &= (frame["label"] != "").to_numpy()
    if which == EXPLAINED:
        kept &= frame["image"].isin(set(explained)).to_numpy()
    if label:
        kept &= (frame["label"] == label).to_numpy()
    return list(map(str, frame["image"][kept]))


def meant_image(text: str, frame: pd.DataFrame, chosen: Sequence[str]) -> str:
    """Return the image that a text means; with no text the first of those that are chosen.

    Raises
    ------
    UnknownImageError
        If there is no such image, with the nearest name, or none to choose from.
    """
    name = text.strip()
    if not name:
        if chosen:
            return chosen[0]
        raise UnknownImageError("no image matches; relax a filter")
    known = frame["image"]
    if (known == name).any():
        return name
    start = int(np.searchsorted(np.sort(known.to_numpy(dtype=str)), name[:200]))
    around = np.sort(known.to_numpy(dtype=str))[max(0, start - NEAR // 2) : start + NEAR // 2]
    hint = nearest(name[:200], around.tolist())
    raise UnknownImageError(f"no image {name[:200]!r} among {len(frame):,}{hint}")


def neighbours(image: str, chosen: Sequence[str]) -> tuple[str, str]:
    """Return the images before and after one among those that are chosen, "" at the ends.

    An image that is not among them has the last one before it, and the first one after it.
    """
    if image in chosen:
        index = list(chosen).index(image)
        after = index + 1
    else:
        index = after = int(np.searchsorted(np.asarray(chosen, dtype=str), image))
    before = chosen[index - 1] if index > 0 else ""
    return before, chosen[after] if after < len(chosen) else ""


def any_of(chosen: Sequence[str], other_than: str, random: np.random.Generator) -> str:
    """Return an image by chance, another one than that named if there is one."""
    rest = [name for name in chosen if name != other_than] or list(chosen)
    return rest[int(random.integers(len(rest)))] if rest else ""


def class_options(classes: Sequence[str]) -> list[str]:
    """Return names of classes to choose from, with their index where several have the same."""
    names = list(map(str, classes))
    twice = (
        {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()
    )
    return [f"{name} [{index}]" if name in twice else name for index, name in enumerate(names)]
