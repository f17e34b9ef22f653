"""Which image of many: by its name, its class, whether it was predicted rightly, or by stepping."""

from __future__ import annotations

import io
import threading
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


def class_name(index: int, classes: Sequence[str]) -> str:
    """Return the name of the class at an index, "" where there is none."""
    return str(classes[index]) if 0 <= index < len(classes) else ""


# -- pictures that a reader brings ---------------------------------------------------------------

FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = ("png", "jpg", "jpeg", "webp")
MOST_MEGABYTES = 20
MOST_PIXELS = 25_000_000
"""Decoding takes some fifteen bytes a pixel at its peak."""

MOST_NARROW = 8
"""How many times the shorter side the longer one may be."""

_ONE_AT_A_TIME = threading.Lock()


class UploadError(ValueError):
    """A file that is not taken, with the reason."""


def read_upload(content: bytes) -> np.ndarray:
    """Return an uploaded picture as RGB, uint8 (y, x, colour).

    Transparency lies over white, 16 bits become 8, of an animation the first frame is read, and
    the picture is turned as its EXIF orientation says.

    Parameters
    ----------
    content : bytes
        Of the file; nothing of it is trusted, its name least.

    Raises
    ------
    UploadError
        If it is no PNG, JPEG or WebP, is broken, too large, or too narrow.
    """
    from fact.data.decoding import decode

    if len(content) > MOST_MEGABYTES * 1_000_000:
        raise UploadError(f"{len(content):,} bytes; at most {MOST_MEGABYTES} MB are read")
    try:
        with _ONE_AT_A_TIME:  # several large ones at once would fill the memory
            pixels = decode(io.BytesIO(content), formats=FORMATS, most_pixels=MOST_PIXELS)
    except (ValueError, MemoryError) as error:
        raise UploadError(str(error) or "too large for the memory") from error
    height, width = pixels.shape[:2]
    if max(height, width) > MOST_NARROW * min(height, width):
        raise UploadError(
            f"{width:,} x {height:,} pixels: one side is more than {MOST_NARROW} times the other; "
            "cut out what matters"
        )
    return pixels
