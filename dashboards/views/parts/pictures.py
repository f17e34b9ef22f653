"""Pictures of datasets as pictures of a page."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

SHOWN = 112
"""Pixels of the shorter side below which a picture is enlarged."""

THUMBNAIL = 48

ADDRESS = "data:image/png;base64,"


def enlarge(picture: np.ndarray, least: int = SHOWN) -> np.ndarray:
    """Return a small picture by a whole factor, pixel by pixel, so that a browser does not blur it.

    Parameters
    ----------
    picture : np.ndarray
        (y, x, colour).
    least : int
        Pixels that the shorter side has at least; larger pictures stay as they are.
    """
    shorter = min(picture.shape[:2])
    factor = -(-least // shorter) if 0 < shorter < least else 1
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def thumbnail(picture: np.ndarray, side: int = THUMBNAIL) -> str:
    """Return an RGB picture as a small PNG in a ``data:`` address, for a cell of a table."""
    image = Image.fromarray(picture)
    image.thumbnail((side, side))
    return _address(image)


def is_picture(content: bytes) -> bool:
    """Return whether a file is a picture that is no document: PNG, JPEG, GIF or WebP, not SVG."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "GIF", "WEBP")) as image:
            image.verify()
        return True
    except Exception:  # Pillow raises many kinds for what is no picture
        return False


def may_be_picture(name: str) -> bool:
    """Return whether a file's name is that of a picture."""
    return name.lower().rpartition(".")[2] in ("png", "jpg", "jpeg", "gif", "webp")


def pixels_of(content: bytes) -> np.ndarray:
    """Return a picture as uint8 (y, x, colour); see :func:`is_picture`."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def data_address(picture: np.ndarray) -> str:
    """Return a picture (y, x, colour) as a PNG in a ``data:`` address."""
    return _address(Image.fromarray(picture))


def _address(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return ADDRESS + base64.b64encode(file.getvalue()).decode()
