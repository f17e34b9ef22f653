"""Pictures of concepts and of decisions, from labelled data sets.

Source: Parchami-Araghi et al., "FaCT", NeurIPS 2025, arXiv 2510.25512, figures 1 and 4. There,
maps are of presence and percentages of contribution; in a decision here both are of contribution.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from registry.suggest import nearest

BLOCK = 256  # concepts ranked at once, which bounds the memory
EMPTY = -1  # in place of a concept or a class where there is none
LOWEST = "lowest_"
"""Begins the names of what a gallery has of images in which neurons are lowest."""

INK, FAINT, LINE = (28, 28, 30), (110, 110, 115), (205, 205, 210)
RIGHT, WRONG, BAR, AGAINST = (38, 140, 85), (200, 55, 50), (76, 114, 176), (200, 55, 50)
MARGIN, GAP, TEXT, STEP = 14, 6, 13, 18
WORDS = 150  # width of what is said of a concept
LINES, TILE_LINES = 2, 3  # of a name at most, and below a picture of a gallery


# -- what to show ----------------------------------------------------------------------------


def select_gallery(presence: xr.DataArray, n: int = 16) -> xr.Dataset:
    """Choose the images in which each concept is strongest.

    Parameters
    ----------
    presence : DataArray, (image, concept)
        May be larger than memory: it is read in blocks of concepts.
    n : int
        Most images of a concept.

    Returns
    -------
    Dataset
        ``image`` (concept, rank): ids, strongest first, ties in order of the ids; "" where fewer
        than ``n`` images have the concept. ``presence`` (concept, rank): NaN there. An image
        where the presence is 0, negative or NaN does not have the concept.

    Raises
    ------
    ValueError
        If ``presence`` has other dimensions, or no ids.
    """
    _check_dims(presence, ("image", "concept"))
    order = np.argsort(presence["image"].values.astype(str), kind="stable")
    ids = presence["image"].values.astype(str)[order]
    count = presence.sizes["concept"]
    chosen = np.full((count, n), "", dtype=ids.dtype if len(ids) else "<U1")
    strength = np.full((count, n), np.nan, dtype=np.float32)
    for start in range(0, count, BLOCK):
        block = presence.isel(concept=slice(start, start + BLOCK))
        values = np.ascontiguousarray(block.transpose("concept", "image").values[:, order])
        for concept, row in enumerate(values, start=start):
            top = _top(row, n)
            chosen[concept, : len(top)], strength[concept, : len(top)] = ids[top], row[top]
    return xr.Dataset(
        {"image": (("concept", "rank"), chosen), "presence": (("concept", "rank"), strength)},
        coords={"concept": _index_of(presence, "concept"), "rank": np.arange(n)},
    )


def decision_shares(
    contribution: xr.DataArray, top: int = 8, offset: xr.DataArray | None = None
) -> xr.Dataset:
    """Divide what speaks for a decision among its strongest concepts and all others together.

    Everything is over one denominator, the sum of the positive contributions: the shares of the
    top concepts and ``others_share`` add up to 1; with an offset, which is one more contribution,
    so do they with ``offset_share``.

    Parameters
    ----------
    contribution : DataArray, (image, concept)
        Contributions to the logit that is explained.
    top : int
        Most concepts of a decision; only those with a positive contribution count.
    offset : DataArray, (image,), optional
        What the bias of an SAE's decoder gives to the logit.

    Returns
    -------
    Dataset
        ``top_concept`` (image, rank), strongest first, ties in order of the concepts, -1 where
        fewer contribute; ``contribution`` and ``share`` (image, rank), 0 there. Of all other
        concepts: ``others`` (image), their contributions, negative ones too, so that with those
        of the top they add up to the logit; ``others_share`` (image), their positive part;
        ``against_share`` (image), all that is negative, at most 0; with an offset ``offset`` and
        ``offset_share`` (image), its positive part. Where nothing contributes positively these
        shares are NaN.

    Raises
    ------
    ValueError
        If ``contribution`` has other dimensions.
    """
    _check_dims(contribution, ("image", "concept"))
    values = contribution.transpose("image", "concept").values.astype(np.float64)
    index = _index_of(contribution, "concept")
    concept = np.full((len(values), top), EMPTY, dtype=np.int64)
    amount = np.zeros((len(values), top))
    for image, row in enumerate(values):
        best = _top(row, top)
        concept[image, : len(best)], amount[image, : len(best)] = index[best], row[best]
    constant = np.zeros(len(values)) if offset is None else offset.values.astype(np.float64)
    positive = values.clip(min=0).sum(axis=1)
    total = positive + constant.clip(min=0)
    whole = np.where(total > 0, total, np.nan)
    against = values.clip(max=0).sum(axis=1) + constant.clip(max=0)
    share = np.nan_to_num(amount / whole[:, None])
    coords = {"image": contribution["image"]} if "image" in contribution.coords else {}
    return xr.Dataset(
        {
            "top_concept": (("image", "rank"), concept),
            "contribution": (("image", "rank"), amount.astype(np.float32)),
            "share": (("image", "rank"), share.astype(np.float32)),
            "others": ("image", (values.sum(axis=1) - amount.sum(axis=1)).astype(np.float32)),
            "others_share": ("image", ((positive - amount.sum(1)) / whole).astype(np.float32)),
            "against_share": ("image", (against / whole).astype(np.float32)),
            **({} if offset is None else _offset_columns(constant, whole)),
        },
        coords={**coords, "rank": np.arange(top)},
    )


def _offset_columns(offset: NDArray[Any], whole: NDArray[Any]) -> dict[str, Any]:
    share = offset.clip(min=0) / whole
    return {
        "offset": ("image", offset.astype(np.float32)),
        "offset_share": ("image", share.astype(np.float32)),
    }


def _check_dims(array: xr.DataArray, expected: tuple[str, ...]) -> None:
    if set(array.dims) != set(expected):
        raise ValueError(f"got dimensions {array.dims}; expected {expected}")


def _index_of(array: xr.DataArray, dim: str) -> NDArray[Any]:
    return array[dim].values if dim in array.coords else np.arange(array.sizes[dim])


def _top(values: NDArray[Any], n: int) -> NDArray[np.int64]:
    """Return the positions of the ``n`` largest values above 0, largest first, ties in order."""
    present = np.flatnonzero(values > 0)
    if len(present) > n:
        least = np.partition(values[present], -n)[-n]
        present = present[values[present] >= least]
    return present[np.argsort(-values[present], kind="stable")][:n]


# -- pictures --------------------------------------------------------------------------------


def over_white(rgba: ArrayLike) -> NDArray[np.uint8]:
    """Lay colour pictures over white.

    Parameters
    ----------
    rgba : array, (…, rgba)
        uint8, or floating point in [0, 1]; alpha last, not premultiplied.

    Returns
    -------
    ndarray of uint8, (…, colour)

    Raises
    ------
    ValueError
        If the last dimension is not 4.
    """
    values = np.asarray(rgba)
    if values.shape[-1:] != (4,):
        raise ValueError(f"got shape {values.shape}; expected red, green, blue and alpha last")
    unit = values / 255 if values.dtype == np.uint8 else values.astype(np.float64)
    colour, alpha = unit[..., :3], unit[..., 3:]
    return np.floor(255 * (colour * alpha + 1 - alpha) + 0.5).astype(np.uint8)


def gallery_picture(
    gallery: xr.Dataset, concept: int, *, title: str = "", columns: int = 8, tile: int = 96
) -> Image.Image:
    """Draw a concept: the images in which it is strongest, each above its explanation.

    Below those of a neuron stand the images in which it is lowest.

    Parameters
    ----------
    gallery : Dataset
        ``image``, ``presence`` and optionally ``label`` (concept, rank), as `select_gallery`
        chooses them; ``picture`` (concept, rank, y, x, colour) and optionally ``explanation``
        (concept, rank, y, x, rgba), uint8; names of the classes in the coordinate ``class``. With
        ``name`` (concept) they are neurons, and may have the same by ``lowest_``.
    concept : int
        Which one.
    title : str
        Written after the concept's number, as a name for it.
    columns, tile : int
        Images in a row; their side in the picture, in pixels.

    Raises
    ------
    KeyError
        If the gallery does not hold the concept.
    """
    entry = pick(gallery, "concept", concept)
    sides = [side for side in sides_of(entry) if filled(side)] or [entry]
    rows = [max(1, -(-len(filled(side)) // columns)) for side in sides]
    names = _names(entry, gallery)
    lines = max((len(_wrapped(name, TEXT, tile, TILE_LINES)) for name in names), default=1)
    row_height = (1 + ("explanation" in entry)) * tile + 2 * GAP + (1 + lines) * STEP
    across = min(columns, max(len(filled(sides[0])), 4))
    width = 2 * MARGIN + across * (tile + GAP) - GAP
    head = int(1.6 * TEXT) + GAP
    page = _Page(width, 2 * MARGIN + len(sides) * head + sum(rows) * row_height)
    page.text(MARGIN, MARGIN, titled(entry, concept, title, "  ·  "), 16)
    top = MARGIN + head
    if not filled(entry):
        page.text(MARGIN, top, "present in no image", TEXT, FAINT)
    for number, side in enumerate(sides):
        if number:
            page.text(MARGIN, top, "lowest", TEXT, FAINT)
            top += head
        _draw_tiles(page, side, gallery, top, columns, tile, row_height)
        top += rows[number] * row_height
    return page.image


def _draw_tiles(
    page: _Page,
    entry: xr.Dataset,
    gallery: xr.Dataset,
    top: int,
    columns: int,
    tile: int,
    row_height: int,
) -> None:
    """Draw the images of one side of a concept in rows."""
    names = _names(entry, gallery)
    for number, rank in enumerate(filled(entry)):
        x = MARGIN + (number % columns) * (tile + GAP)
        y = top + (number // columns) * row_height
        page.picture(x, y, entry["picture"].values[rank], tile)
        y += tile + 2
        if "explanation" in entry:
            page.picture(x, y, over_white(entry["explanation"].values[rank]), tile, LINE)
            y += tile + 2
        presence = float(entry["presence"].values[rank])
        y = page.lines(x, y, names[rank], TEXT, INK, tile, TILE_LINES)
        page.text(x, y, f"{presence:.3g}", TEXT - 2, FAINT, tile)


def _names(entry: xr.Dataset, gallery: xr.Dataset) -> list[str]:
    """Return the class of each image of a concept, or the images' ids where there are none."""
    if "label" in entry and "class" in gallery.coords:
        return [class_name(int(label), gallery) for label in entry["label"].values]
    return list(map(str, entry["image"].values.tolist()))


def titled(entry: xr.Dataset, concept: int, title: str = "", between: str = ": ") -> str:
    """Return what a concept of a gallery is called: its number, its own name, and a title."""
    own = str(entry["name"].item()) if "name" in entry else ""
    words = [f"{'neuron' if 'name' in entry else 'concept'} {concept}", own, title]
    return between.join(word for word in dict.fromkeys(words) if word and word != str(concept))


def sides_of(entry: xr.Dataset) -> list[xr.Dataset]:
    """Return the strongest images of a gallery's entry, and, if it has any, the lowest ones."""
    lowest = {
        str(name): str(name).removeprefix(LOWEST)
        for name in entry.data_vars
        if str(name).startswith(LOWEST)
    }
    if not lowest:
        return [entry]
    others = [name for name in entry.data_vars if name not in lowest]
    return [entry.drop_vars(list(lowest)), entry.drop_vars(others).rename(lowest)]


def decision_picture(
    decisions: xr.Dataset,
    image: str,
    gallery: xr.Dataset | None = None,
    *,
    names: Mapping[int, str] | None = None,
    shown: int = 8,
    tile: int = 128,
) -> Image.Image:
    """Draw a decision: what speaks for it, concept by concept, beside each concept's gallery.

    Parameters
    ----------
    decisions : Dataset
        What `decision_shares` returns; ``picture`` (image, y, x, colour), and, of contribution,
        ``logit_explanation`` (image, y, x, rgba), ``explanation`` (image, rank, y, x, rgba) and
        ``others_explanation`` (image, y, x, rgba), uint8; ``logit`` (image), ``prediction`` and
        ``label`` (image), indices into the coordinate ``class``; optionally ``target`` (image),
        the class whose logit is explained, by default the prediction.
    image : str
        Id of the image.
    gallery : Dataset, optional
        As `gallery_picture` takes it.
    names : mapping of int to str, optional
        Names of concepts.
    shown : int
        Most images of a concept's gallery.
    tile : int
        Side of the large pictures, in pixels.

    Raises
    ------
    KeyError
        If there is no such image among the decisions.
    """
    entry = pick(decisions, "image", image)
    ranks = [rank for rank, c in enumerate(entry["top_concept"].values.tolist()) if c != EMPTY]
    left = 2 * tile - tile // 2
    strip = shown * (tile // 2 + GAP // 2) if gallery is not None else 0
    width = 3 * MARGIN + left + 2 * GAP + tile + WORDS + strip
    row_height = tile + 2 * GAP
    titles = MARGIN + int(1.6 * TEXT) + GAP
    head = titles + STEP
    words = (3 * LINES + 1) * STEP  # label, prediction, logit, and what no concept gives
    body = max((len(ranks) + 1) * row_height, 2 * left + words + 2 * GAP)
    page = _Page(width, head + body + MARGIN)
    page.text(MARGIN, MARGIN, str(image), 16, INK, width - 2 * MARGIN)
    _draw_subject(page, entry, decisions, MARGIN, head, left)
    x = 2 * MARGIN + left + GAP
    what = "share of what speaks for it"
    if not is_exact(entry):
        what += ", approximate"
    page.text(x, titles, what, TEXT - 2, FAINT, tile + WORDS)
    if gallery is not None:
        page.text(x + tile + WORDS, titles, "where else the concept is strong", TEXT - 2, FAINT)
    for number, rank in enumerate(ranks):
        y = head + number * row_height
        _draw_concept(page, entry, rank, names or {}, (x, y), tile)
        if gallery is not None:
            concept = int(entry["top_concept"].values[rank])
            _draw_strip(page, gallery, concept, (x + tile + WORDS, y), shown, tile // 2)
    _draw_others(page, entry, (x, head + len(ranks) * row_height), tile)
    return page.image


def _draw_subject(
    page: _Page, entry: xr.Dataset, decisions: xr.Dataset, x: int, y: int, side: int
) -> None:
    """The image with label and prediction, above the explanation of its logit."""
    label, prediction = (int(entry[name].values) for name in ("label", "prediction"))
    verdict = LINE if label == EMPTY else RIGHT if label == prediction else WRONG
    page.picture(x, y, entry["picture"].values, side, verdict, 3)
    y += side + GAP
    y = page.lines(x, y, f"label: {class_name(label, decisions)}", TEXT, INK, side)
    told = f"prediction: {class_name(prediction, decisions)}"
    y = page.lines(x, y, told, TEXT, verdict, side) + GAP
    page.picture(x, y, over_white(entry["logit_explanation"].values), side, LINE)
    logit = float(entry["logit"].values)
    target = int(entry["target"].values) if "target" in entry else prediction
    caption = f"logit {logit:.3g} of {class_name(target, decisions)}"
    y = page.lines(x, y + side + GAP, caption, TEXT, INK, side)
    if not is_exact(entry):
        given = float(entry["contribution"].sum()) + float(entry["others"])
        given += float(entry["offset"]) if "offset" in entry else 0.0
        missed = f"of which {logit - given:+.3g} no concept gives"
        page.text(x, y, missed, TEXT - 2, FAINT, side)


def is_exact(entry: xr.Dataset) -> bool:
    """Return whether contributions must add up to the logit; else they are an approximation."""
    return "exact" not in entry or bool(entry["exact"])


def _amount(entry: xr.Dataset, value: float) -> str:
    return f"{value:+.3g} of the logit" if is_exact(entry) else f"≈ {value:+.3g} to the logit"


def _draw_concept(
    page: _Page,
    entry: xr.Dataset,
    rank: int,
    names: Mapping[int, str],
    at: tuple[int, int],
    tile: int,
) -> None:
    """One concept of a decision: its map, its name, its share."""
    x, y = at
    concept = int(entry["top_concept"].values[rank])
    page.picture(x, y, over_white(entry["explanation"].values[rank]), tile, LINE)
    text, width = x + tile + GAP, WORDS - 2 * GAP
    page.text(text, y, f"concept {concept}", TEXT, INK, width)
    y = max(page.lines(text, y + STEP, names.get(concept, ""), TEXT, FAINT, width), y + 2 * STEP)
    share = float(entry["share"].values[rank])
    page.bar(text, y + GAP, share, width, BAR)
    page.text(text, y + STEP + GAP, f"{100 * share:.1f} %", TEXT + 2)
    amount = float(entry["contribution"].values[rank])
    page.text(text, y + 2 * STEP + 2 * GAP, _amount(entry, amount), TEXT - 2, FAINT)


def _draw_others(page: _Page, entry: xr.Dataset, at: tuple[int, int], tile: int) -> None:
    """All other concepts of a decision together, and what speaks against it."""
    x, y = at
    page.picture(x, y, over_white(entry["others_explanation"].values), tile, LINE)
    text, width = x + tile + GAP, WORDS - 2 * GAP
    share, against, net = (
        float(entry[name].values) for name in ("others_share", "against_share", "others")
    )
    page.text(text, y, "all others", TEXT)
    page.bar(text, y + STEP + GAP, share, width, BAR)
    page.text(text, y + 2 * STEP + GAP, _percent(share), TEXT + 2)
    if against < 0:
        page.bar(text, y + 3 * STEP + 2 * GAP, -against, width, AGAINST)
        page.text(text, y + 4 * STEP + 2 * GAP, f"against: {_percent(against)}", TEXT, AGAINST)
    page.text(text, y + 5 * STEP + 3 * GAP, _amount(entry, net), TEXT - 2, FAINT)
    if "offset" in entry:
        told = f"offset: {float(entry['offset']):+.3g}, {_percent(float(entry['offset_share']))}"
        page.text(text, y + 6 * STEP + 3 * GAP, told, TEXT - 2, FAINT)


def _draw_strip(
    page: _Page, gallery: xr.Dataset, concept: int, at: tuple[int, int], shown: int, tile: int
) -> None:
    """The first images of a concept's gallery, each above its explanation."""
    if concept not in gallery["concept"].values:
        return
    entry = pick(gallery, "concept", concept)
    for number, rank in enumerate(filled(entry)[:shown]):
        x, y = at[0] + number * (tile + GAP // 2), at[1]
        page.picture(x, y, entry["picture"].values[rank], tile)
        page.picture(x, y + tile, over_white(entry["explanation"].values[rank]), tile, LINE)


def pick(dataset: xr.Dataset, dim: str, value: Any) -> xr.Dataset:
    """Return the entry at one coordinate, loaded; an unknown one is a KeyError that says so."""
    known = dataset[dim].values
    if value not in known:
        hint = nearest(str(value), map(str, known.tolist()))
        raise KeyError(f"no {dim} {value!r} among {len(known)}{hint}")
    return dataset.isel({dim: int(np.flatnonzero(known == value)[0])}).load()


def filled(entry: xr.Dataset) -> list[int]:
    """Return the ranks of a gallery's entry that hold an image."""
    return [rank for rank, name in enumerate(entry["image"].values.astype(str)) if name]


def class_name(index: int, dataset: xr.Dataset) -> str:
    """Return the name of a class by its index, "none" for none."""
    if index == EMPTY:
        return "none"
    classes = dataset["class"].values if "class" in dataset.coords else ()
    return str(classes[index]) if 0 <= index < len(classes) else str(index)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if np.isfinite(share) else "undefined"


class _Page:
    """A white page to put pictures, words and bars on; positions in pixels from the top left."""

    def __init__(self, width: int, height: int):
        self.image = Image.new("RGB", (width, height), "white")
        self._draw = ImageDraw.Draw(self.image)

    def picture(
        self,
        x: int,
        y: int,
        pixels: NDArray[np.uint8],
        side: int,
        border: tuple[int, int, int] | None = None,
        thickness: int = 1,
    ) -> None:
        """Put a picture (y, x, colour) into a square; small ones keep their pixels' edges."""
        image = Image.fromarray(np.ascontiguousarray(pixels))
        scale = side / max(image.size)
        width, height = (max(1, round(scale * length)) for length in image.size)
        if scale >= 2:
            whole = math.ceil(scale)
            enlarged = (whole * image.width, whole * image.height)
            image = image.resize(enlarged, Image.Resampling.NEAREST)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
        self.image.paste(image, (x, y))
        if border:
            box = (x, y, x + width - 1, y + height - 1)
            self._draw.rectangle(box, outline=border, width=thickness)

    def text(
        self,
        x: int,
        y: int,
        text: str,
        size: int,
        colour: tuple[int, int, int] = INK,
        width: int | None = None,
    ) -> None:
        """Write one line, shortened to a width."""
        font = _font(size, latin=all(ord(letter) < 256 for letter in text))
        if width is not None:
            text = _shortened(text, font, width)
        self._draw.text((x, y), text, fill=colour, font=font)

    def lines(
        self,
        x: int,
        y: int,
        text: str,
        size: int,
        colour: tuple[int, int, int],
        width: int,
        most: int = LINES,
    ) -> int:
        """Write as many lines as a text needs, at most so many, and return where the next goes."""
        wrapped = _wrapped(text, size, width, most)
        for number, line in enumerate(wrapped):
            self.text(x, y + number * STEP, line, size, colour, width)
        return y + len(wrapped) * STEP

    def bar(self, x: int, y: int, share: float, width: int, colour: tuple[int, int, int]) -> None:
        """Draw a share in [0, 1] as a bar; larger ones are cut, undefined ones empty."""
        filled = round(width * min(max(share, 0.0), 1.0)) if np.isfinite(share) else 0
        self._draw.rectangle((x, y, x + width - 1, y + TEXT - 3), fill=(236, 236, 240))
        if filled:
            self._draw.rectangle((x, y, x + filled - 1, y + TEXT - 3), fill=colour)


def _wrapped(text: str, size: int, width: float, most: int) -> list[str]:
    """Return a text in lines of a width, broken at blanks; the last of so many has all the rest."""
    font = _font(size, latin=all(ord(letter) < 256 for letter in text))
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1] or len(lines) == most:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """Return a text, or as much of its beginning as fits into a width with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."


@cache
def _font(size: int, latin: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font; for letters it lacks DejaVu, where that is installed."""
    with suppress(OSError):
        if not latin:
            return ImageFont.truetype("DejaVuSans.ttf", size)
    return ImageFont.load_default(size)
