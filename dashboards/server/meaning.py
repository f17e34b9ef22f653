"""A model of images and texts with the vectors that it gave images, loaded once for all readers."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from registry.declare.faults import StageError
from registry.declare.stage import Input
from registry.store.datasets import open_dataset
from registry.suggest import RefusalError

if TYPE_CHECKING:
    from fact.networks.image_text import ImageTextModel


class MeaningError(RefusalError, RuntimeError):
    """A model that is not on this machine, with the reason."""


class Meaning:
    """What texts and images mean to a model, beside the images that it has seen.

    Parameters
    ----------
    vectors : Input or None
        The vectors of the images with all that is behind them; None if they are gone.
    """

    def __init__(self, vectors: Input | None):
        self._vectors = vectors
        self._lock = threading.Lock()

    def cosines(
        self, images: NDArray[np.str_], sought: str | NDArray[np.uint8]
    ) -> NDArray[np.float64]:
        """Return the cosine of images with a text, or with an image uint8 (y, x, colour).

        Returns
        -------
        ndarray, (image,)
            NaN for images that the model has not seen.

        Raises
        ------
        MeaningError
            If the model cannot be loaded, or does not take what is sought.
        """
        with self._lock:
            try:
                if isinstance(sought, str):
                    vector = self._model.encode_texts([sought])[0]
                else:
                    vector = self._model.encode_images([sought])[0]
            except (OSError, ValueError, RuntimeError, ImportError) as error:
                raise MeaningError(str(error)) from error
            own = np.asarray(vector.float().cpu().numpy(), dtype=np.float64)
        ids, vectors = self._seen
        if vectors.shape[1] != len(own):
            raise MeaningError(f"its vectors have {vectors.shape[1]} channels, this {len(own)}")
        rows = ids.get_indexer(images)
        return np.where(rows >= 0, (vectors @ own)[rows], np.nan)

    @property
    def _given(self) -> Input:
        if self._vectors is None:
            raise MeaningError("the vectors of the images are gone")
        return self._vectors

    @cached_property
    def _seen(self) -> tuple[pd.Index, NDArray[np.float32]]:
        """Ids of the images, and their vectors of length 1."""
        with open_dataset(str(self._given.path)) as dataset:
            ids = pd.Index(dataset["image"].values.astype(str))
            vectors = dataset["activation"].transpose("image", "neuron").values
        size = np.linalg.norm(vectors, axis=1, keepdims=True)
        return ids, np.asarray(vectors / np.where(size > 0, size, 1), dtype=np.float32)

    @cached_property
    def _model(self) -> ImageTextModel:
        try:
            settings = self._given.origin("model").settings
            model: ImageTextModel = getattr(settings, "load_images", settings.load)()
            return model
        except StageError:
            raise MeaningError("the model is not on this machine") from None
