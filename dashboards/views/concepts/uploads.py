"""Pictures that a reader brings: read in memory, within bounds, or refused in words."""

from __future__ import annotations

import io
import threading

import numpy as np

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
