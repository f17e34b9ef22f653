"""Decoding of image files of any kind into RGB."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from fact.data.images import Pixels

_NOT_PICTURES = {"EPS", "PDF", "MPEG", "BUFR", "GRIB", "HDF5", "WMF"}  # opened, never decoded


@cache
def image_suffixes() -> frozenset[str]:
    """Return the suffixes, in lower case, of the files that are taken for images."""
    registered = Image.registered_extensions()
    return frozenset(
        suffix
        for suffix, name in registered.items()
        if name in Image.OPEN and name not in _NOT_PICTURES
    )


def decode(
    file: Path | io.BytesIO,
    upright: bool = True,
    formats: tuple[str, ...] | None = None,
    most_pixels: int | None = None,
) -> Pixels:
    """Read one image as RGB.

    Transparent pixels are laid over white. Grey of 16 bits is scaled to 8, floating point in
    [0, 1] likewise. Of an animation, the first frame is read.

    Parameters
    ----------
    file : Path or BytesIO
        A file that Pillow reads, or the content of one.
    upright : bool
        Turn the image as its EXIF orientation says.
    formats : tuple of str, optional
        Names of the only formats that are tried, as Pillow calls them: ``PNG``. Of somebody
        else's file, others should not be.
    most_pixels : int, optional
        Largest number of pixels; what has more is refused before anything is decoded.

    Returns
    -------
    ndarray of uint8, (y, x, colour)

    Raises
    ------
    ValueError
        If the file is broken, truncated, no image, none of the formats, or has too many pixels;
        with the reason.
    """
    try:
        with Image.open(file, formats=formats) as image:
            if most_pixels is not None and image.width * image.height > most_pixels:
                raise ValueError(
                    f"{image.width:,} x {image.height:,} pixels; at most {most_pixels:,} are read"
                )
            image.load()
            turned = upright and _orientation(image) != 1  # what stands upright is not copied
            return as_rgb(ImageOps.exif_transpose(image) if turned else image)
    except MemoryError:
        raise
    except UnidentifiedImageError:
        if (file.stat().st_size if isinstance(file, Path) else file.seek(0, io.SEEK_END)) == 0:
            raise ValueError("an empty file") from None
        known = " or ".join(formats) if formats else "a known format"
        raise ValueError(f"not an image in {known}") from None
    except Exception as error:  # decoders of broken files raise all kinds of errors
        raise ValueError(f"cannot be decoded: {error}") from error


def as_rgb(image: Image.Image) -> Pixels:
    """Return an image of any kind as RGB, uint8 (y, x, colour); see `decode`."""
    if image.mode.startswith("I"):  # I, I;16, I;16B, …
        return _from_grey(np.asarray(image).astype(np.int64), 65535)
    if image.mode == "F":
        return _from_grey(np.asarray(image), 1)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _from_grey(values: NDArray[np.int64] | NDArray[np.float32], top: int) -> Pixels:
    if not (values.min() >= 0 and values.max() <= top):
        raise ValueError(f"grey values of {values.min()} to {values.max()}; expected 0 to {top}")
    grey = np.floor(values * (255 / top) + 0.5).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def upright_size(path: Path, upright: bool = True) -> tuple[int, int]:
    """Return the height and width of an image file as `decode` gives them, without decoding."""
    with Image.open(path) as image:
        turned = upright and _orientation(image) in (5, 6, 7, 8)
        return image.size if turned else image.size[::-1]


def _orientation(image: Image.Image) -> object:
    """Return how an image is to be turned, by its EXIF; 1 if it is not."""
    return image.getexif().get(ExifTags.Base.Orientation, 1)
