"""The folder of a site: its data as JSON and as scripts, its pictures, and how it takes its place.

Each piece of data lies there twice: as ``data/x.json`` for programs, and as ``data/x.js``, which
hands the same to the page. A script is all that a browser loads from a file without a server.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from dashboards.report import base_style, templates
from dashboards.views.parts import pictures
from registry.store.durable import lock, read_json
from registry.suggest import RefusalError

FORMAT = 1
MADE_BY = "factbook publish"
INDEX = "data/site.json"
OWN = {"index.html", "site.css", "site.js", "pictures.js", "data", "pictures"}
"""What a site has in its folder; with anything else in it the folder is not replaced."""

LOSSLESS_SIDE = 64
"""Pixels of the shorter side up to which pictures are kept bit for bit."""

QUALITY = 75  # of WebP, for larger ones
DIGITS = 6  # of numbers, far more than is shown


class SiteError(RefusalError):
    """A folder in which no site may be written."""


class SiteFolder:
    """A folder that a site is written into.

    Parameters
    ----------
    root : Path
        Empty.
    side : int
        Pixels of the longer side of its pictures, at most.

    Attributes
    ----------
    size, files : int
        Bytes and files that were written.
    used : set of str
        Paths that the run which is being written is made of.
    """

    def __init__(self, root: Path, side: int = 224):
        self.root = root
        self.side = side
        self.size = self.files = 0
        self.used: set[str] = set()
        self._lock = Lock()
        self._known: dict[bytes, str] = {}

    def end(self, run: str) -> None:
        """Note what a run's pages are made of."""
        listed = json.dumps(sorted(self.used), separators=(",", ":"))
        self.write(f"data/{run}/files.json", f"{listed}\n".encode())
        self.used = set()

    def data(self, name: str, value: Any) -> None:
        """Write plain values as ``data/NAME.json``, and as a script for the page."""
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        self.write(f"data/{name}.json", f"{text}\n".encode())
        call = f"factbook.take({json.dumps(name)},{text})\n"
        self.write(f"data/{name}.js", call.encode())

    def picture(self, pixels: np.ndarray) -> str:
        """Write a picture (y, x, colour or rgba); return its path, the same for the same pixels.

        What has an opacity is a map, which is smooth: half as many pixels show it.
        """
        key = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()
        path = self._known.get(key, "")
        if not path:
            content = webp(pixels, self.side if pixels.shape[2] == 3 else self.side // 2)
            digest = hashlib.sha256(content).hexdigest()[:20]
            path = f"pictures/{digest[:2]}/{digest}.webp"
            with self._lock:  # several threads encode
                if path not in self.used and not (self.root / path).exists():
                    self.write(path, content)
            self._known[key] = path
        self.used.add(path)
        return path

    def write(self, path: str, content: bytes) -> None:
        """Write a file below the root."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        self.size += len(content)
        self.files += 1
        self.used.add(path)

    def copy(self, source: Path, path: str) -> None:
        """Take over a file of another site, as it is."""
        if not (self.root / path).exists():
            self.write(path, (source / path).read_bytes())

    def frame(self, title: str) -> None:
        """Write the page itself, which shows the data."""
        page = templates().get_template("site.html").render(title=title)
        self.write("index.html", page.encode())
        self.write("site.css", f"{base_style()}{template('site.css')}".encode())
        self.write("site.js", template("site.js").encode())
        self.write("pictures.js", pictures.script().encode())


def template(name: str) -> str:
    """Return a file of this package's templates."""
    return files("dashboards").joinpath(f"templates/{name}").read_text(encoding="utf-8")


def webp(pixels: np.ndarray, side: int) -> bytes:
    """Return a picture as WebP, no longer side above so many pixels; small ones without loss."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    small = min(pixels.shape[:2]) <= LOSSLESS_SIDE
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=small, quality=QUALITY, alpha_quality=QUALITY, method=2)
    return file.getvalue()


def number(value: Any, digits: int = DIGITS) -> float | int | None:
    """Return a number for JSON, to so many significant digits; None where it is not finite."""
    plain = float(value)
    if not math.isfinite(plain):
        return None
    short = float(f"{plain:.{digits}g}")
    return int(short) if short.is_integer() and abs(short) < 2**53 else short


# -- where it takes its place --------------------------------------------------------------------


def published_in(folder: Path) -> Mapping[str, Any] | None:
    """Return the index of the site that a folder holds; None where it is empty or not there.

    Raises
    ------
    SiteError
        If it holds anything else, which is left as it is.
    """
    _finish_what_was_cut_short(folder)
    return _require_site(folder)


def _require_site(folder: Path) -> Mapping[str, Any] | None:
    """Return the index of a site, as :func:`published_in`, whatever lies beside it."""
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise SiteError(f"{folder} is no folder")
    held = sorted(path.name for path in folder.iterdir())
    if not held:
        return None
    index = read_json(folder / INDEX)
    if not isinstance(index, dict) or index.get("made_by") != MADE_BY:
        raise SiteError(
            f"{folder} holds something that `factbook publish` did not write ({held[0]}, …): name "
            "an empty folder, or one that is not there yet"
        )
    if foreign := [name for name in held if name not in OWN]:
        raise SiteError(
            f"{folder} holds {foreign[0]} beside what `factbook publish` wrote there, and would "
            "lose it: move it away, or publish into a folder inside"
        )
    if index.get("format") != FORMAT:
        raise SiteError(f"{folder} was written by a newer `factbook publish`: update factbook")
    return index


@contextmanager
def taking_the_place_of(folder: Path) -> Iterator[Path]:
    """Yield a new folder that takes the place of a site when all of it is written.

    Until then, and after an error, the site stays as it was.

    Raises
    ------
    SiteError
        If the folder holds no site, or another publication is writing there.
    """
    published_in(folder)
    folder = folder.absolute()
    new, old = _beside(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    new.mkdir(exist_ok=True)
    held = lock(new, wait=False)
    if held is None:
        raise SiteError(f"another publication writes {new}: wait until it is done")
    try:
        yield new
        _require_site(folder)  # which may have changed since
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            os.rename(folder, old)
        os.rename(new, folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        held.release()


def _beside(folder: Path) -> tuple[Path, Path]:
    """Return where a site is written, and where the one lies for a moment that it replaces."""
    new, old = (folder.with_name(f".{folder.name}.{word}") for word in ("writing", "replaced"))
    return new, old


def _finish_what_was_cut_short(folder: Path) -> None:
    """End what a publication left that was killed: give its place to a whole site, clear the rest.

    A site is whole when the one before it was put aside. What is being written has a lock, which
    ends with the process.
    """
    folder = folder.absolute()
    new, old = _beside(folder)
    if not (new.exists() or old.exists()):
        return
    held = lock(new if new.exists() else folder.parent, wait=False)
    if held is None:
        return
    try:
        if not folder.exists() and old.exists():
            os.rename(new if new.exists() else old, folder)
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        held.release()
