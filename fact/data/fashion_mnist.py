"""Fashion-MNIST: 60,000 + 10,000 grey photographs of clothes, 28 x 28 pixels, ten classes.

Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
Learning Algorithms", arXiv 1708.07747, 2017. MIT licence.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import shutil
import urllib.request
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

import registry
from fact.data.images import (
    FixedSplits,
    Geometry,
    Ids,
    ImageDataError,
    ImageIds,
    Pixels,
    class_concepts,
    in_geometry,
    numbered_ids,
)
from registry.declare.requirements import Download, Requirement

if TYPE_CHECKING:
    import xarray as xr

CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
GROUPS: Mapping[str, tuple[str, ...]] = {
    "clothing": ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Shirt"),
    "tops": ("T-shirt/top", "Pullover", "Coat", "Shirt"),
    "outerwear": ("Pullover", "Coat"),
    "full length": ("Trouser", "Dress"),
    "footwear": ("Sandal", "Sneaker", "Ankle boot"),
    "closed shoes": ("Sneaker", "Ankle boot"),
}
"""Groups of at least two classes: one of a single class could not be told from that class."""

COUNTS: Mapping[str, int] = {"train": 60_000, "test": 10_000}
SIDE = 28
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
PUBLISHED = "fashion-mnist 2017"
"""Identity of the published data, however it is packed."""

_PREFIX = {"train": "train", "test": "t10k"}
# SHA-256 of the published files, and of the same data as Debian packs it.
_SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    ),
    "train-labels-idx1-ubyte.gz": (
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    ),
    "t10k-images-idx3-ubyte.gz": (
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    ),
}
FILES = tuple(_SHA256)


def download_folder() -> Path:
    """Return the folder that a download goes to: under ``$FACTBOOK_DATA``, or in the cache."""
    data = os.environ.get("FACTBOOK_DATA")
    if data:
        return Path(data).expanduser() / "fashion-mnist"
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "factbook" / "fashion-mnist"


def find_folder(path: str | None = None) -> Path | None:
    """Return the folder that holds the files, or None where only a download is left.

    Parameters
    ----------
    path : str, optional
        The folder, if it is named; otherwise ``$FACTBOOK_DATA/fashion-mnist``, Debian's and that
        of an earlier download are tried, and the first with any of the files is taken.
    """
    if path is not None:
        return Path(path).expanduser()
    for folder in (download_folder(), DEBIAN):
        if any((folder / name).is_file() for name in FILES):
            return folder
    return None


def download(folder: Path, url: str = URL) -> None:
    """Download the files that are missing in ``folder``, each checked by its SHA-256.

    Raises
    ------
    ImageDataError
        If one cannot be had, or is not the published one; with the other ways to provide them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if not (folder / name).is_file():
            try:
                _download_file(url + name, folder / name, _SHA256[name][0])
            except (OSError, ValueError) as error:
                raise ImageDataError("Fashion-MNIST", _missing(f"{url}{name}: {error}")) from error


def _missing(reason: str) -> list[str]:
    return [
        f"the files are not here, and cannot be downloaded: {reason}",
        f"put {', '.join(FILES)} into $FACTBOOK_DATA/fashion-mnist, or name their folder by `path`",
        f"or install Debian's package dataset-fashion-mnist, which puts them into {DEBIAN}",
    ]


def _download_file(url: str, target: Path, sha256: str) -> None:
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with urllib.request.urlopen(url, timeout=30) as source, part.open("wb") as sink:
            shutil.copyfileobj(source, sink)
        with part.open("rb") as file:
            got = hashlib.file_digest(file, "sha256").hexdigest()
        if got != sha256:
            raise ValueError(f"SHA-256 {got}; expected {sha256}")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def read_idx(path: Path, shape: tuple[int, ...]) -> Pixels:
    """Read a compressed IDX file of unsigned bytes.

    Parameters
    ----------
    path : Path
        The file, as ``train-images-idx3-ubyte.gz``.
    shape : tuple of int
        The shape that it must have.

    Raises
    ------
    ValueError
        If the file is missing, damaged, or holds something else.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path.name} is missing") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error
    head = np.frombuffer(content[: 4 * (1 + len(shape))], dtype=">u4").tolist()
    expected = [0x0800 + len(shape), *shape]
    if head != expected:
        raise ValueError(f"{path.name} begins with {head}; expected {expected} (IDX, magic first)")
    body = len(content) - 4 * len(expected)
    if body != math.prod(shape):
        raise ValueError(f"{path.name} holds {body} bytes of data; expected {math.prod(shape)}")
    return np.frombuffer(content, np.uint8, offset=4 * len(expected)).reshape(shape)


def _read(path: Path, shape: tuple[int, ...], faults: list[str]) -> Pixels:
    """Read a file; what is wrong with it is noted, and nothing is returned."""
    try:
        return read_idx(path, shape)
    except ValueError as error:
        faults.append(str(error))
        return np.zeros((0, *shape[1:]), np.uint8)


@registry.kind("datasets", "fashion-mnist", provides="images")
@dataclass(frozen=True)
class FashionMNIST(FixedSplits):
    """Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28 x 28 pixels.

    Images are kept in memory, 55 MB; grey becomes RGB by repetition as it is read.

    Parameters
    ----------
    path : str or None
        Folder with the four files. By default ``$FACTBOOK_DATA/fashion-mnist``, then that of
        Debian's package ``dataset-fashion-mnist``; where there is neither, they are downloaded
        into the first, or into ``~/.cache/factbook``.
    n_train, n_test : int or None
        How many images to take of each split, from the first; None takes all.
    """

    path: registry.Runtime[str | None] = None
    n_train: Annotated[int, Field(ge=1, le=60_000)] | None = None
    n_test: Annotated[int, Field(ge=1, le=10_000)] | None = None

    name = "fashion-mnist"
    licence = "MIT"
    classes = CLASSES
    groups = GROUPS
    splits = tuple(COUNTS)

    def identity(self) -> str:
        """Return the identity of the published data, or a hash of files that are others.

        Raises
        ------
        registry.plan.contents.IdentityError
            If a file is missing or cannot be read.
        """
        folder = find_folder(self.path)
        if folder is None:
            return PUBLISHED
        hashes = {name: registry.content_identity(folder / name) for name in FILES}
        if all(hashes[name] in _SHA256[name] for name in FILES):
            return PUBLISHED
        return hashlib.sha256("".join(hashes.values()).encode()).hexdigest()

    def requires(self) -> Iterator[Requirement]:
        """Yield the files, where they are fetched."""
        if find_folder(self.path) is None:
            others = (
                f"install Debian's package dataset-fashion-mnist, which puts them into {DEBIAN}, "
                "or name their folder by `path`"
            )
            target = str(download_folder() / FILES[0])
            yield Download("Fashion-MNIST", URL + FILES[0], target, "", "MIT", 31, others)

    def load(self) -> FashionMNIST:
        """Read the files into memory; download them first where they are not here.

        Raises
        ------
        ImageDataError
            If files are missing or damaged, all of them, or cannot be downloaded.
        """
        folder = find_folder(self.path)
        if folder is None:
            folder = download_folder()
            download(folder)
        loaded = replace(self, path=str(folder))
        loaded.ids("train")  # reads the files
        return loaded

    @cached_property
    def _arrays(self) -> tuple[Pixels, Pixels, ImageIds]:
        """Grey images and labels of both splits, one after the other, and their ids."""
        folder = find_folder(self.path) or download_folder()
        limits = {"train": self.n_train, "test": self.n_test}
        parts: list[tuple[Pixels, Pixels]] = []
        faults: list[str] = []
        for split, count in COUNTS.items():
            images, labels = (
                _read(folder / f"{_PREFIX[split]}-{part}-ubyte.gz", shape, faults)
                for part, shape in (("images-idx3", (count, SIDE, SIDE)), ("labels-idx1", (count,)))
            )
            if len(images) and labels.max(initial=0) >= len(CLASSES):
                faults.append(f"labels of {split} reach {labels.max()}; expected 0 to 9")
            parts.append((images[: limits[split]], labels[: limits[split]]))
        if faults:
            raise ImageDataError(f"Fashion-MNIST in {folder}", faults)
        ids = {s: numbered_ids(s, len(own)) for s, (_, own) in zip(COUNTS, parts, strict=True)}
        grey, classes = (np.concatenate(column) for column in zip(*parts, strict=True))
        return grey, classes, ImageIds(self.name, ids)

    def ids(self, split: str) -> Ids:
        """Return the ids of a split, (image,), in the order of the published files."""
        return self._arrays[2].ids(split)

    def labels(self, split: str) -> NDArray[np.int64]:
        """Return the class of each image of a split, (image,)."""
        return self._arrays[1][self._arrays[2].slice(split)].astype(np.int64)

    def read(self, ids: Sequence[str] | Ids, geometry: Geometry | None = None) -> Pixels:
        """Return images by id, uint8 RGB (image, y, x, colour) with three equal colours."""
        grey = self._arrays[0][self._arrays[2].rows(ids)]
        return in_geometry(np.repeat(grey[..., None], 3, axis=-1), geometry)

    def concepts(self, split: str) -> xr.DataArray:
        """Return the classes and `GROUPS` of classes, bool (image, label)."""
        return class_concepts(self.ids(split), self.labels(split), CLASSES, GROUPS)

    def masks(self, ids: Sequence[str] | Ids, geometry: Geometry | None = None) -> None:
        """Return None: nothing is known of where objects are."""
        self._arrays[2].rows(ids)
