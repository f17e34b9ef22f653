"""Parts of views as a page of a site has them: HTML in which nothing runs, pictures as files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from PIL import ImageColor

from dashboards.report import parts_html
from dashboards.site.folder import SiteFolder
from dashboards.views.parts.charts import BLUE
from dashboards.views.parts.parts import (
    Answer,
    Heading,
    Note,
    Numbers,
    Part,
    Passages,
    Picture,
    Pictures,
    Table,
)
from dashboards.views.parts.pictures import AMOUNTS, COLOURS, FAINT, PLACE, is_small
from registry.declare.licences import Permission

LAYERS = (COLOURS, AMOUNTS)
"""Layers that a site has, else `PLACE`; the exact ones beside them are left to the dashboard."""

WITHHELD = "Where it is, without the image"
"""How a map is called that stands for a picture."""

Block = dict[str, Any]


@dataclass(frozen=True)
class Publisher:
    """What turns parts into blocks of a page.

    Attributes
    ----------
    folder : SiteFolder
        Where pictures go.
    permission : Permission
        Whether images and texts may be passed on.
    """

    folder: SiteFolder
    permission: Permission

    def blocks(self, parts: Iterable[Part]) -> list[Block]:
        """Return parts in order, those between pictures together."""
        kept = [part for one in parts if (part := self._allowed(one)) is not None]
        found: list[Block] = []
        for is_drawn, group in groupby(kept, lambda part: isinstance(part, Pictures)):
            if is_drawn:
                found += [self.pictures(part) for part in group if isinstance(part, Pictures)]
            else:
                found.append({"html": parts_html(group)})
        return found

    def _allowed(self, part: Part) -> Part | None:
        if self.permission.is_given:
            return part
        if isinstance(part, Passages):
            return Note(f"Texts are not published: {self.permission.reason}.")
        return part.without_pictures() if isinstance(part, Table) else part

    def pictures(self, part: Pictures) -> Block:
        """Return pictures with their layers, or maps in their place where they must not be."""
        drawn = [self.picture(one, part.below) for one in part.pictures]
        note = part.note
        if not self.permission.is_given:
            note = f"Maps alone: images are not published ({self.permission.reason})."
        return {"title": part.title, "note": note, "pictures": [one for one in drawn if one]}

    def picture(self, picture: Picture, below: str = "") -> Block | None:
        """Return one picture; None where neither it nor a map of it can be published."""
        told = {"caption": picture.caption, "details": picture.details}
        layers = {name: picture.layers[name] for name in LAYERS if name in picture.layers}
        if not layers and PLACE in picture.layers:
            layers = {PLACE: picture.layers[PLACE]}
        if not self.permission.is_given:
            if not layers:
                return None
            name, layer = next(iter(layers.items()))
            veiled = layer if name == AMOUNTS else bare(layer, is_veil=name == PLACE)
            shown = {"name": WITHHELD, "src": self.folder.picture(veiled)}
            return {**told, "face": "", "layers": [shown]}
        shown_below = below if below in layers else ""
        faces = {"face": self.folder.picture(picture.pixels), "small": is_small(picture.pixels)}
        drawn = [
            {
                "name": name,
                "src": self.folder.picture(layer),
                **({"veil": True} if name == PLACE else {}),
                **({"below": True} if name == shown_below else {}),
            }
            for name, layer in layers.items()
        ]
        return {**told, **faces, "layers": drawn}


def bare(layer: np.ndarray, is_veil: bool) -> np.ndarray:
    """Return where a layer is opaque, in one colour: nothing of an image's own is left in it.

    Parameters
    ----------
    layer : np.ndarray
        uint8 (y, x, rgba).
    is_veil : bool
        Whether it is opaque where there is nothing; see
        :func:`dashboards.views.parts.pictures.veil`.
    """
    opacity = layer[..., 3].astype(np.float64)
    if is_veil:
        opacity = 255 - opacity / (1 - FAINT)
    flat = np.empty_like(layer)
    flat[..., :3] = ImageColor.getrgb(BLUE)
    flat[..., 3] = np.rint(np.clip(opacity, 0, 255))
    return flat


def plain(parts: Iterable[Part]) -> Iterator[Mapping[str, Any]]:
    """Yield what programs can read of parts: numbers, tables as they are shown, and words."""
    for part in parts:
        if isinstance(part, Table):
            shown = part.without_pictures()
            texts = shown.texts()
            rows = texts.to_numpy().tolist()
            yield {"table": part.title, "columns": list(texts.columns), "rows": rows}
        elif isinstance(part, Numbers):
            told = [{"name": n.title, "value": n.value, "is": n.meaning} for n in part.numbers]
            yield {"numbers": told}
        elif isinstance(part, Answer | Heading | Note):
            yield {"text": part.text}
