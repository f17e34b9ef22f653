"""Pictures of datasets as pictures of a page, and how several are laid out."""

from __future__ import annotations

import base64
import io
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import uniform_filter

from dashboards.views.parts.parts import Picture, Pictures
from dashboards.views.parts.text import unbroken

THUMBNAIL = 48
EXACT_SIDE = 112
"""Pixels of the shorter side up to which a picture is sent as it is, and shown pixel by pixel."""

QUALITY = 88  # of WebP, for larger ones

ADDRESS = "data:image/png;base64,"
BOX = 15 / 224
"""Side of the box over which the authors of B-cos networks smooth opacity, of that of an image."""

LEAST_SMOOTH = 5  # pixels: the dots of a stride of up to 4

COLOURS, WEIGHTS, PLACE = "Colours", "Exact weights", "Place"
AMOUNTS, EXACT_AMOUNTS = "Amounts", "Exact amounts"
"""Layers: weights in colour, smoothed and as they are; a veil over the image where a concept is
absent; what pixels give, smoothed and as it is."""

SMOOTH = (COLOURS, AMOUNTS)
"""Layers of which a browser shows no pixels, however small they are."""

FAINT = 0.2
"""What is left of an image under a veil."""

ABOUT_DOTS = (
    "Maps are smoothed, as in the papers on B-cos networks. Exact weights show dots where a layer "
    "has strides: its windows overlap at some pixels and not at others."
)


# -- layers ------------------------------------------------------------------------------------


def colour_layers(explanation: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """Return the layers of an explanation in colour: smoothed first, then as it is.

    Parameters
    ----------
    explanation : np.ndarray
        uint8 (y, x, rgba).
    """
    return {COLOURS: smoothed(explanation), WEIGHTS: explanation}


def veil(explanation: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return white that leaves `FAINT` of an image where the opacity of an explanation is 0.

    Parameters
    ----------
    explanation : np.ndarray
        uint8 (y, x, rgba).
    """
    white = np.full_like(explanation, 255)
    white[..., 3] = np.rint((1 - FAINT) * (255 - explanation[..., 3].astype(np.float64)))
    return white


def smoothed(explanation: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an explanation in colour without the dots that strides leave in it.

    Opacity is the mean over a box, over its 99.5th percentile, as in Böhle et al., B-cos Networks
    (CVPR 2022, arXiv 2205.10268); colours are means over a smaller box, weighted by opacity.

    Parameters
    ----------
    explanation : np.ndarray
        uint8 (y, x, rgba).
    """
    side = smoothing(min(explanation.shape[:2]))
    values = explanation.astype(np.float32) / 255
    opacity = values[..., 3:]
    near = _box_mean(opacity, LEAST_SMOOTH)
    colour = _box_mean(values[..., :3] * opacity, LEAST_SMOOTH) / np.maximum(near, 1e-6)
    wide = _box_mean(opacity, side)
    top = float(np.percentile(wide, 99.5))
    shown = np.clip(wide / top, 0, 1) if top > 0 else wide
    if side > LEAST_SMOOTH:  # what opacity reaches beyond the smaller box has the colour around it
        around = _box_mean(values[..., :3] * opacity, side) / np.maximum(wide, 1e-6)
        colour = np.where(near > 1e-6, colour, around)
    drawn = np.concatenate([np.clip(colour, 0, 1), shown], axis=2)
    return np.asarray(np.rint(255 * drawn), dtype=np.uint8)


def smoothing(side: int) -> int:
    """Return over how many pixels opacity is smoothed in an image of so many, an odd number."""
    return max(LEAST_SMOOTH, 2 * round((BOX * side - 1) / 2) + 1)


def smoothed_map(map: np.ndarray) -> NDArray[np.float32]:
    """Return a map (y, x) without the dots that strides leave in it: means over a box."""
    side = smoothing(min(map.shape))
    return _box_mean(np.asarray(map, dtype=np.float32)[..., None], side)[..., 0]


def _box_mean(values: NDArray[Any], side: int) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = uniform_filter(values, (side, side, 1), mode="constant")
    return mean


# -- one picture -------------------------------------------------------------------------------


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
    """Return a picture (y, x, colour or rgba) in a ``data:`` address: PNG; WebP of a large one."""
    image = Image.fromarray(picture)
    if is_small(picture):
        return _address(image)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=QUALITY, method=0)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def is_small(picture: np.ndarray) -> bool:
    """Return whether a picture is enlarged on a page, pixel by pixel, and sent as it is."""
    return bool(min(picture.shape[:2]) <= EXACT_SIDE)


def _address(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return ADDRESS + base64.b64encode(file.getvalue()).decode()


# -- several, laid out -------------------------------------------------------------------------


def style() -> str:
    """Return how pictures are laid out, in CSS."""
    return files("dashboards").joinpath("templates/pictures.css").read_text(encoding="utf-8")


def script() -> str:
    """Return what enlarges a picture that is clicked, in JavaScript."""
    return files("dashboards").joinpath("templates/pictures.js").read_text(encoding="utf-8")


def key_script() -> str:
    """Return what the keys of the page of concepts do, in JavaScript."""
    return files("dashboards").joinpath("templates/keys.js").read_text(encoding="utf-8")


def pictures_html(part: Pictures, inert: bool = False) -> str:
    """Return pictures as HTML, in as many columns as fit; see :func:`style` and :func:`script`.

    Every text is escaped. What is behind a picture, as its layers and its id, lies in the same
    element, for whom clicks it.

    Parameters
    ----------
    part : Pictures
        What to lay out; its title and its note are left to who shows it.
    inert : bool
        For a file in which nothing runs: pictures cannot be clicked.
    """
    figures = "".join(_figure(picture, part, inert) for picture in part.pictures)
    return f'<div class="fb-pictures">{figures}</div>'


def _figure(picture: Picture, part: Pictures, inert: bool) -> str:
    caption = _caption(picture, inert)
    if not picture.pixels.size:
        return f"<figure>{caption}</figure>"
    shown = part.shown_layer(picture)
    is_below = bool(shown and part.below)
    face = picture.pixels if picture.face is None else picture.face
    text = " · ".join(picture.caption.split("\n"))
    about = "; ".join(filter(None, (text, picture.details))) or part.title or "picture"
    images = _img(face, "fb-face", about)
    if is_below:
        images += _below(picture, shown, about)
    tooltip = f' title="{escape(picture.details)}"' if picture.details else ""
    if inert:
        return f"<figure{tooltip}>{images}{caption}</figure>"
    if picture.face is not None:
        images += _img(picture.pixels, "fb-base", more=" hidden")
    for name in picture.layers:
        images += _layer(picture, name, is_below and name == shown, name == shown)
    return (
        f'<figure{tooltip} data-caption="{escape(text)}" data-details="{escape(picture.details)}">'
        f'<button type="button" class="fb-look" aria-label="{escape(f"Enlarge {about}")}"'
        f"{'' if is_below or not shown else ' data-hover'}>{images}</button>{caption}</figure>"
    )


def _below(picture: Picture, layer: str, about: str) -> str:
    """Return a layer as it stands below an image: on white, or a veil on the image once more."""
    alt = f"{layer.lower()}: {about}"
    drawn = _img(picture.layers[layer], "fb-below", alt, is_smooth=layer in SMOOTH)
    if layer != PLACE:
        return drawn
    return f'<span class="fb-stack">{_img(picture.pixels, "fb-under")}{drawn}</span>'


def _layer(picture: Picture, name: str, is_below: bool, is_first: bool) -> str:
    """Return what only a click brings to light; a layer that is seen already is not sent twice."""
    kind = "fb-layer" + " fb-first" * is_first + " fb-veil" * (name == PLACE)
    more = f' hidden data-layer="{escape(name)}"'
    if is_below:
        return f'<span class="{kind}" data-shown="1"{more}></span>'
    return _img(picture.layers[name], kind, more=more, is_smooth=name in SMOOTH)


def _img(
    pixels: np.ndarray, kind: str, alt: str = "", more: str = "", is_smooth: bool = False
) -> str:
    small = " fb-small" if is_small(pixels) and not is_smooth else ""
    return f'<img class="{kind}{small}" src="{data_address(pixels)}" alt="{escape(alt)}"{more}>'


def _caption(picture: Picture, inert: bool) -> str:
    if not picture.caption:
        return ""
    first, *others = (escape(unbroken(line)) for line in picture.caption.split("\n"))
    lines = "".join(f"<span>{line}</span>" for line in others)
    words, leads = picture.aside
    if words and not inert:
        about = f"{words}: {' · '.join(picture.caption.splitlines())}"
        lines += f"<span>{_link(words, leads, about)}</span>"
    first = _link(first, picture.link) if picture.link and not inert else first
    return f"<figcaption><strong>{first}</strong>{lines}</figcaption>"


def _link(words: str, leads: str, about: str = "") -> str:
    """Return a link within the dashboard; `words` are escaped."""
    label = f' aria-label="{escape(about)}"' if about else ""
    return f'<a class="fb-go" href="{escape(leads)}" data-keep{label}>{words}</a>'
