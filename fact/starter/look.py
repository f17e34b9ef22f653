"""A look at a folder of images: how many, of what sizes and classes, which are broken."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from fact.data.decoding import image_suffixes
from fact.data.folder import FEW, FolderImages, ImageFolder, Layout

MOST_DECODED = 5000
"""Images that are decoded to find broken ones; of more, so many are drawn."""

TRAIN_NAMES, TEST_NAMES = ("train", "training"), ("test", "testing", "val", "valid", "validation")
SMALL = 2000
"""Images below which more of them are kept to test on, and below which a project is small."""


class UnusableImagesError(ValueError):
    """A folder of images that a project cannot begin with."""


@dataclass(frozen=True)
class FolderLook:
    """What there is in a folder of images.

    Attributes
    ----------
    folder : ImageFolder
        How it is declared.
    images : FolderImages
        Its images.
    sizes : ndarray of int, (image, 2)
        Height and width, in pixels, of the images that were looked at.
    broken : dict of str to str
        Path of each broken image that was found, to the reason; they are left out.
    """

    folder: ImageFolder
    images: FolderImages
    sizes: np.ndarray
    broken: dict[str, str]

    @cached_property
    def train(self) -> str:
        """Name of the split to train on."""
        return self._split(TRAIN_NAMES)

    @cached_property
    def test(self) -> str:
        """Name of the split to test on."""
        return self._split(TEST_NAMES)

    def _split(self, names: Sequence[str]) -> str:
        known = {split.lower(): split for split in self.images.splits}
        found = next((known[name] for name in names if name in known), None)
        if found is None:
            raise UnusableImagesError(
                f"the folder has the splits {', '.join(self.images.splits)}; expected one of "
                f"{', '.join(names)}"
            )
        return found

    @property
    def n_train(self) -> int:
        """Images to train on."""
        return len(self.images.ids(self.train))

    @property
    def n_test(self) -> int:
        """Images to test on."""
        return len(self.images.ids(self.test))

    @property
    def is_small(self) -> bool:
        """Whether there are few images."""
        return self.n_train + self.n_test < SMALL

    @property
    def has_classes(self) -> bool:
        """Whether the images have classes, which a network can learn and which can name."""
        return self.folder.layout != "flat"

    @cached_property
    def most_frequent(self) -> tuple[str, float]:
        """The most frequent class of the test images, and the fraction of them that have it."""
        labels = self.images.labels(self.test)
        label, count = Counter(labels.tolist()).most_common(1)[0]
        return self.images.classes[label], count / len(labels)

    @cached_property
    def nameable(self) -> tuple[str, ...]:
        """Classes with so many test images that they can name a concept."""
        counts = Counter(self.images.labels(self.test).tolist())
        return tuple(name for label, name in enumerate(self.images.classes) if counts[label] >= FEW)

    @cached_property
    def few(self) -> dict[str, int]:
        """Images of each class that has few in all."""
        counts: Counter[int] = Counter()
        for split in self.images.splits:
            counts.update(self.images.labels(split).tolist())
        found = {name: counts[label] for label, name in enumerate(self.images.classes)}
        return dict(sorted((e for e in found.items() if e[1] < FEW), key=lambda e: e[1]))

    @cached_property
    def inner_folders(self) -> tuple[str, ...]:
        """Names of folders inside the classes, at any depth, with enough images to name concepts.

        That is `FEW` among the test images.
        """
        counts = Counter(
            name for image in self.images.ids(self.test) for name in set(self._inside(image))
        )
        return tuple(sorted(name for name, count in counts.items() if count >= FEW))

    def _inside(self, image: str) -> tuple[str, ...]:
        """Return the names of the folders between an image and that of its class."""
        return PurePosixPath(image).parts[2 if self.has_classes else 1 : -1]

    def side(self) -> int | None:
        """Return to how many pixels a small network crops; None for images of one small size."""
        if len(np.unique(self.sizes)) == 1 and self.sizes[0, 0] <= 64:
            return None
        return 32 if np.median(self.sizes.min(axis=1)) < 48 else 64

    def write_labels(self, path: Path) -> None:
        """Write inner folders as labels of the images, as the key ``labels`` reads them."""
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["image", *(f"folder:{name}" for name in self.inner_folders)])
            for split in self.images.splits:
                for image in map(str, self.images.ids(split)):
                    own = self._inside(image)
                    shown = [int(name in own) for name in self.inner_folders]
                    table.writerow([self.images.path(image), *shown])


def look_at(root: Path, layout: Layout = "auto", lists: dict[str, str] | None = None) -> FolderLook:
    """Look at a folder of images.

    Parameters
    ----------
    root : Path
        The folder.
    layout, lists : str, dict of str to str
        As the keys of :class:`fact.data.folder.ImageFolder`.

    Raises
    ------
    ImageDataError
        With all that is wrong with the folder.
    UnusableImagesError
        If there are fewer than two classes, or no splits to train and to test on.
    """
    if layout == "auto" and not lists and _has_no_folders(root):
        layout = "flat"
    folder = ImageFolder(str(root), layout, lists=lists or {})
    images = folder.load()
    if images.is_divided and sum(len(images.ids(split)) for split in images.splits) < SMALL:
        folder = replace(folder, test_share=0.4)  # names need images to be tested on
        images = folder.load()
    ids = np.concatenate([images.ids(split) for split in images.splits])
    if len(ids) > MOST_DECODED:
        ids = np.random.default_rng(0).choice(ids, MOST_DECODED, replace=False)
    broken = images.faults(map(str, ids))
    told = {images.path(image): reason for image, reason in broken.items()}
    if broken:
        folder = replace(folder, on_error="skip")
        images = folder.load()
    whole = [str(image) for image in ids if image not in broken]
    look = FolderLook(folder, images, images.sizes(whole), told)
    if len(images.classes) < 2 and look.has_classes:
        raise UnusableImagesError(
            f"only one class, {images.classes[0]!r}; expected a folder for each of at least two, "
            "or --layout flat for images without classes"
        )
    if not whole or not look.n_train or not look.n_test:
        raise UnusableImagesError("no images to train and to test on")
    return look


def _has_no_folders(root: Path) -> bool:
    """Whether images lie in a folder itself, and no folders beside them."""
    if not root.is_dir():
        return False
    folders, images = 0, 0
    for path in root.iterdir():
        folders += path.is_dir() and not path.name.startswith((".", "__"))
        images += path.suffix.lower() in image_suffixes()
    return images > 0 and not folders
