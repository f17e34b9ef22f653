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
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fact.data.images import (
    Catalogue,
    Geometry,
    Ids,
    ImageDataError,
    Pixels,
    class_concepts,
    in_geometry,
    numbered_ids,
)

if TYPE_CHECKING:
    import xarray as xr

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
GROUPS = MappingProxyType(
    {
        "clothing": ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Shirt"),
        "tops": ("T-shirt/top", "Pullover", "Coat", "Shirt"),
        "outerwear": ("Pullover", "Coat"),
        "full length": ("Trouser", "Dress"),
        "footwear": ("Sandal", "Sneaker", "Ankle boot"),
        "closed shoes": ("Sneaker", "Ankle boot"),
    }
)
"""Groups of at least two classes: one of a single class could not be told from that class."""

COUNTS = MappingProxyType({"train": 60_000, "test": 10_000})
SIDE = 28
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
PUBLISHED = "fashion-mnist 2017"
"""Identity of the published data, however it is packed."""

_PREFIX = MappingProxyType({"train": "train", "test": "t10k"})
# SHA-256 of the published files, and of the same data as Debian packs it.
_SHA256 = MappingProxyType(
    {
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
)
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


def identity(path: str | None = None) -> str:
    """Return the identity of the data: `PUBLISHED`, or a hash of files that are something else.

    Raises
    ------
    registry.plan.identity.IdentityError
        If a file is missing or cannot be read.
    """
    from registry.plan.identity import content_identity

    folder = find_folder(path)
    if folder is None:
        return PUBLISHED
    hashes = {name: content_identity(folder / name) for name in FILES}
    if all(hashes[name] in _SHA256[name] for name in FILES):
        return PUBLISHED
    return hashlib.sha256("".join(hashes.values()).encode()).hexdigest()


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


def _read_files(folder: Path, counts: Mapping[str, int]) -> dict[str, tuple[Pixels, Pixels]]:
    """Return images and labels of each split; all faults at once."""
    found: dict[str, list[Pixels]] = {split: [] for split in counts}
    faults = []
    for split, count in counts.items():
        for part, shape in (("images-idx3", (count, SIDE, SIDE)), ("labels-idx1", (count,))):
            try:
                found[split].append(
                    read_idx(folder / f"{_PREFIX[split]}-{part}-ubyte.gz", tuple(shape))
                )
            except ValueError as error:
                faults.append(str(error))
        if len(found[split]) == 2 and found[split][1].max() >= len(CLASSES):
            faults.append(f"labels of {split} reach {found[split][1].max()}; expected 0 to 9")
    if faults:
        raise ImageDataError(f"Fashion-MNIST in {folder}", faults)
    return {split: (images, labels) for split, (images, labels) in found.items()}


class FashionMNIST:
    """Fashion-MNIST in memory, grey made RGB by repetition as it is read.

    Parameters
    ----------
    folder : Path
        Where the four files are.
    limits : mapping of str to (int or None), optional
        How many images of each split to keep, from the first; None keeps all.
    counts : mapping of str to int
        How many images the files hold.

    Raises
    ------
    ImageDataError
        If a file is missing or damaged; all of them are named.
    """

    name = "fashion-mnist"
    classes = CLASSES
    groups = GROUPS
    splits = tuple(COUNTS)

    def __init__(
        self,
        folder: Path,
        limits: Mapping[str, int | None] | None = None,
        counts: Mapping[str, int] = COUNTS,
    ):
        parts = _read_files(folder, counts)
        keep = {split: slice((limits or {}).get(split)) for split in counts}
        self._grey = np.concatenate([parts[split][0][keep[split]] for split in counts])
        self._labels = np.concatenate([parts[split][1][keep[split]] for split in counts])
        sizes = {split: len(parts[split][1][keep[split]]) for split in counts}
        self._catalogue = Catalogue(self.name, {s: numbered_ids(s, n) for s, n in sizes.items()})

    def ids(self, split: str) -> Ids:
        """Return the ids of a split, (image,), in the order of the published files."""
        return self._catalogue.ids(split)

    def labels(self, split: str) -> NDArray[np.int64]:
        """Return the class of each image of a split, (image,)."""
        return self._labels[self._catalogue.slice(split)].astype(np.int64)

    def read(self, ids: Sequence[str] | Ids, geometry: Geometry | None = None) -> Pixels:
        """Return images by id, uint8 RGB (image, y, x, colour) with three equal colours."""
        grey = self._grey[self._catalogue.rows(ids)]
        images = np.repeat(grey[..., None], 3, axis=-1)
        return in_geometry(images, geometry) if geometry else images

    def concepts(self, split: str) -> xr.DataArray:
        """Return the classes and `GROUPS` of classes, bool (image, label)."""
        return class_concepts(self.ids(split), self.labels(split), CLASSES, GROUPS)

    def masks(self, ids: Sequence[str] | Ids, geometry: Geometry | None = None) -> None:
        """Return None: nothing is known of where objects are."""
        self._catalogue.rows(ids)
