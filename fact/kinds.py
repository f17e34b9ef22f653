"""Kinds of data sets, for ``[datasets.…]`` of a declaration; planning reads them without torch.

Importing this module registers them, and the kinds of networks beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

import registry
from fact.networks.kinds import BcosNetwork as BcosNetwork
from fact.networks.kinds import EfficientNetLite0 as EfficientNetLite0
from fact.networks.kinds import OpenClip as OpenClip
from fact.networks.kinds import TorchvisionNetwork as TorchvisionNetwork

if TYPE_CHECKING:
    from fact.data.array_file import NamedArray
    from fact.data.fashion_mnist import FashionMNIST as FashionMNISTDataset
    from fact.data.folder import ImageFolder as ImageFolderDataset
    from fact.data.photographs import Photographs as PhotographsDataset
    from fact.data.shapes import ShapesDataset

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


@registry.kind("datasets", "shapes", provides="images")
@dataclass(frozen=True)
class Shapes:
    """Coloured, textured shapes over natural-looking grounds, generated in memory.

    Parameters
    ----------
    n_train, n_test : int
        Number of images of each split; the first ones stay the same when more are asked for.
    size : int
        Width and height, in pixels, 24 to 512.
    max_objects : int
        1, or 2 for a second, smaller object in about every other image.
    seed : int
        Another seed gives other images.
    """

    n_train: Count = 6000
    n_test: Count = 2000
    size: Annotated[int, Field(ge=24, le=512)] = 48
    max_objects: Annotated[int, Field(ge=1, le=2)] = 2
    seed: Seed = 0

    def identity(self) -> str:
        """Return the version of the generator."""
        from fact.data.shapes import VERSION

        return f"shapes {VERSION}"

    def load(self) -> ShapesDataset:
        """Return the data set; images are drawn as they are read."""
        from fact.data.shapes import ShapesDataset

        counts = {"train": self.n_train, "test": self.n_test}
        return ShapesDataset(counts, self.size, self.max_objects, self.seed)


@registry.kind("datasets", "fashion-mnist", provides="images")
@dataclass(frozen=True)
class FashionMNIST:
    """Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28 x 28 pixels.

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

    def identity(self) -> str:
        """Return the identity of the published data, or a hash of files that are others."""
        from fact.data.fashion_mnist import identity

        return identity(self.path)

    def load(self) -> FashionMNISTDataset:
        """Read the files into memory, 55 MB; download them first where they are not here.

        Raises
        ------
        fact.data.images.ImageDataError
            If files are missing, damaged, or cannot be downloaded.
        """
        from fact.data.fashion_mnist import FashionMNIST, download, download_folder, find_folder

        folder = find_folder(self.path)
        if folder is None:
            folder = download_folder()
            download(folder)
        return FashionMNIST(folder, {"train": self.n_train, "test": self.n_test})


@registry.kind("datasets", "image-folder", provides="images")
@dataclass(frozen=True)
class ImageFolder:
    """A folder of images: ``root/class/…``, or ``root/split/class/…``.

    Parameters
    ----------
    root : str
        The folder, relative to that of the declaration; ``~`` is expanded.
    layout : str
        ``splits`` or ``classes``; ``auto`` tells by the folders' names whether they are splits
        (train, val, test, …).
    test_share, seed : float, int
        Share of each class that becomes the split "test" where the folder has none, and what
        draws it.
    on_error : str
        ``raise``: broken files are an error that names them all. ``skip``: they are left out, at
        the cost of decoding every file once when the data set is loaded.
    upright : bool
        Turn images as their EXIF orientation says. False reads them as torchvision's
        ``ImageFolder`` does, for published numbers.
    labels : str or None
        A CSV file of concept labels: column ``image`` with paths relative to the root, every
        other column a label, 0 or 1 or a probability.
    masks : str or None
        A folder ``masks/label/path.png`` of masks for the images at ``path.jpg``.
    names : str or None
        Names of the classes in the order of their sorted folders: ``imagenet`` for folders named
        ``n01440764`` and so on, ``places365``, or a text file with one on each line. The folders'
        own by default.
    groups : str or None
        Groups of classes: ``imagenet`` for its 400 superclasses, or a JSON file,
        ``{"pets": ["cat", "dog"]}``, of names or indices.
    workers : int
        Threads that decode; 0 takes one for each processor.
    """

    root: registry.Runtime[str]
    layout: Literal["auto", "splits", "classes"] = "auto"
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seed: Seed = 0
    on_error: Literal["raise", "skip"] = "raise"
    upright: bool = True
    labels: registry.Runtime[str | None] = None
    masks: registry.Runtime[str | None] = None
    names: registry.Runtime[str | None] = None
    groups: registry.Runtime[str | None] = None
    workers: registry.Runtime[Annotated[int, Field(ge=0)]] = 0

    def _paths(self) -> dict[str, Path | None]:
        named = {"root": self.root, "labels": self.labels, "masks": self.masks}
        return {part: Path(path).expanduser() if path else None for part, path in named.items()}

    def identity(self) -> str:
        """Return a content hash of the images, and of labels, masks, names, groups if given.

        Raises
        ------
        ValueError
            If one of them is missing or cannot be read.
        """
        from fact.data.vocabulary import identity
        from registry.plan.identity import content_identity

        found = {part: content_identity(path) for part, path in self._paths().items() if path}
        named = {"names": self.names, "groups": self.groups}
        found |= {part: identity(source) or source for part, source in named.items() if source}
        return " ".join(f"{part} {content}" for part, content in found.items())

    def load(self) -> ImageFolderDataset:
        """Find the images.

        Raises
        ------
        fact.data.images.ImageDataError
            With everything that is wrong with the folder.
        """
        from fact.data.folder import ImageFolder

        paths = self._paths()
        return ImageFolder(
            paths["root"] or Path(self.root),
            layout=self.layout,
            test_share=self.test_share,
            seed=self.seed,
            on_error=self.on_error,
            upright=self.upright,
            labels=paths["labels"],
            masks=paths["masks"],
            names=self.names,
            groups=self.groups,
            workers=self.workers,
        )


@registry.kind("datasets", "photographs", provides="images")
@dataclass(frozen=True)
class Photographs:
    """Crops of some thirty real photographs that come with packages; all of the split "test".

    They need ``pip install 'factbook[photos]'``: their files are read, and nothing is fetched.

    Parameters
    ----------
    crops : int
        Crops of each photograph.
    smallest : float
        Smallest side of a crop, as a share of the photograph's shorter side.
    seed : int
        Draws the crops.
    """

    crops: Count = 30
    smallest: Annotated[float, Field(gt=0, le=1)] = 0.6
    seed: Seed = 0

    def identity(self) -> str:
        """Return a content hash of the photographs and of what is known of them.

        Raises
        ------
        FileNotFoundError
            If a package is not installed.
        """
        from fact.data.photographs import identity

        return identity()

    def load(self) -> PhotographsDataset:
        """Find the photographs.

        Raises
        ------
        fact.data.images.ImageDataError
            With everything that is not installed.
        """
        from fact.data.photographs import Photographs

        return Photographs(self.crops, self.smallest, self.seed)


@registry.kind("datasets", "array-file", provides="arrays")
@dataclass(frozen=True)
class ArrayFile:
    """A table (input, column) that was made elsewhere: activations or labels.

    Parameters
    ----------
    path : str
        A file ``.nc``, ``.npz``, ``.npy`` or ``.csv``, relative to the folder of the declaration;
        ``~`` is expanded.
    variable : str
        Name of the table in the file; may be left out where it has only one.
    names : str or None
        Names of the columns, where the file has none: ``cub-attributes``, ``imagenet``,
        ``places365``, or a text file with one on each line.
    """

    path: registry.Runtime[str]
    variable: str = ""
    names: registry.Runtime[str | None] = None

    def identity(self) -> str:
        """Return a content hash of the file, and of the names.

        Raises
        ------
        ValueError
            If one of them is missing or cannot be read.
        """
        from fact.data.vocabulary import identity
        from registry.plan.identity import content_identity

        found = content_identity(self.path)
        return f"{found} names {identity(self.names) or self.names}" if self.names else found

    def load(self) -> NamedArray:
        """Open the file.

        Raises
        ------
        fact.data.array_file.ArrayFileError
            If it is missing or damaged, or does not fit its names.
        """
        from fact.data.array_file import read_array
        from fact.data.vocabulary import read_names

        return read_array(self.path, self.variable, read_names(self.names) if self.names else ())
