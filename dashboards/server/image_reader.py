"""Images that concepts were measured on, read by their ids, without the network that saw them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from fact.data.images import Geometry
from registry.declare.faults import StageError
from registry.declare.stage import Input
from registry.suggest import RefusalError

if TYPE_CHECKING:
    from fact.data.images import ImageDataset

FALLBACK_SIDE = 224
"""Pixels of a side where no gallery tells how images were seen."""


class ImagesError(RefusalError, RuntimeError):
    """Images that are not on this machine, or cannot be read, with the reason."""


class ImageReader:
    """The images behind one dataset of concepts, opened once for all readers of a server.

    Parameters
    ----------
    concepts : Input or None
        The dataset with all that is behind it; None if it is gone.
    side : int
        Pixels of the square that an image is brought to.
    """

    def __init__(self, concepts: Input | None, side: int = FALLBACK_SIDE):
        self._concepts = concepts
        self._geometry = Geometry(side, side)
        self._lock = threading.Lock()

    def read(self, ids: Sequence[str]) -> list[np.ndarray]:
        """Return images by id, each uint8 (y, x, colour), in a square as the gallery's.

        Raises
        ------
        ImagesError
            If the dataset, or one of these images, cannot be read.
        """
        with self._lock:
            try:
                return [self._dataset.read([image], self._geometry)[0] for image in ids]
            except KeyError as error:  # whose text is quoted
                raise ImagesError(str(error.args[0] if error.args else error)) from error
            except (OSError, ValueError) as error:
                raise ImagesError(str(error)) from error

    def classes(self, ids: Sequence[str]) -> list[str]:
        """Return the names of the classes of images by id, "" of those that have none.

        Raises
        ------
        ImagesError
            If the dataset cannot be read.
        """
        found = dict.fromkeys(ids, "")
        with self._lock:
            for split in self._dataset.splits:
                asked = [image for image in ids if image.startswith(f"{split}/")]
                if not asked:
                    continue
                rows = np.flatnonzero(np.isin(self._dataset.ids(split), asked))
                own = zip(
                    self._dataset.ids(split)[rows], self._dataset.labels(split)[rows], strict=True
                )
                names = self._dataset.classes
                found |= {str(image): names[label] for image, label in own if label >= 0}
        return [found[image] for image in ids]

    @cached_property
    def _dataset(self) -> ImageDataset:
        """The images, opened once. The lock is held."""
        given = self._concepts
        if given is None:
            raise ImagesError("the dataset of the concepts is gone")
        try:
            images: ImageDataset = given.origin("images").load()
            return images
        except StageError:
            raise ImagesError("the images are not on this machine") from None
        except (OSError, ValueError, ImportError) as error:
            raise ImagesError(f"the images cannot be read: {error!s}") from error
