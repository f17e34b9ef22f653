"""A network with its concepts, loaded once for all readers of a server, that explains images."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from fact.data.images import Geometry
from registry.declare.faults import StageError
from registry.declare.stage import Input
from registry.store.durable import StoreError
from registry.store.manifest import find_dataset
from registry.suggest import RefusalError

if TYPE_CHECKING:
    from fact.data.images import ImageDataset
    from fact.traces.interventions import ConceptSurgery
    from fact.traces.spliced import ConceptSource

FALLBACK_SIDE = 224
"""Pixels to bring a picture to where neither the network nor its images tell a size."""


class ExplainerError(RefusalError, RuntimeError):
    """Something that is needed for explaining and is not on this machine, with the reason."""


class Explainer:
    """One concept model, ready to explain images.

    A network is changed while it explains: it is spliced, and its dynamic weights are frozen. So
    there is a lock, and one reader at a time has it.

    Parameters
    ----------
    concepts : Input
        A finished dataset of schema ``concepts``, as :meth:`registry.Catalog.input`
        gives.
    device : str
        As configured; where there is no such device here, the best that there is.
    side : int, optional
        Of the images that the network was measured on, where these cannot be read.

    Raises
    ------
    ExplainerError
        If network or concepts cannot be loaded.
    """

    def __init__(self, concepts: Input, device: str = "auto", side: int | None = None):
        self._lock = threading.Lock()
        self._concepts = concepts
        self._side = side
        self._source = _load(concepts, device)

    def read(self, image: str) -> np.ndarray:
        """Return an image of the dataset that concepts were measured on, of its own size.

        :meth:`explain` and :meth:`open_concepts` bring it to the network's geometry, which is to
        be done once: a picture that was cut to it and is brought to it again is another one.

        Raises
        ------
        ExplainerError
            If the dataset, or this image, cannot be read.
        """
        with self._lock:
            try:
                found: np.ndarray = self._dataset.read([image])[0]
            except KeyError as error:  # whose text is quoted
                raise ExplainerError(str(error.args[0] if error.args else error)) from error
            except (OSError, ValueError) as error:
                raise ExplainerError(str(error)) from error
            return found

    def fit(self, picture: np.ndarray) -> np.ndarray:
        """Bring somebody's picture to the size of the images, where the network leaves any size.

        Parameters
        ----------
        picture : np.ndarray
            uint8 (y, x, colour).
        """
        with self._lock:
            if self._source.network.geometry.crop is not None:
                return picture
            side = self._side_of_images()
        return Geometry(side, side).apply(picture)

    def explain(
        self, picture: np.ndarray, target: int | None = None, against: int | None = None
    ) -> xr.Dataset:
        """Explain a picture: see :func:`fact.explain_image`.

        Parameters
        ----------
        picture : np.ndarray
            uint8 (y, x, colour), of any size that the network takes.
        target : int, optional
            Index of the class; the prediction by default.
        against : int, optional
            Index of the class whose logit is taken away.

        Raises
        ------
        ExplainerError
            If the network does not take such a picture, or concepts do not add up.
        """
        import fact

        given = "prediction" if target is None else target
        with self._lock:
            try:
                explained: xr.Dataset = fact.explain_image(
                    self._source, picture, target=given, against=against
                )
                return explained
            except (ValueError, RuntimeError) as error:
                raise ExplainerError(str(error)) from error

    def open_concepts(
        self, picture: np.ndarray, target: int, against: int | None = None
    ) -> ConceptSurgery:
        """Return a picture whose concepts :meth:`scale` scales; parameters as of :meth:`explain`.

        Raises
        ------
        ExplainerError
            If the network does not take such a picture.
        """
        from fact.traces.interventions import open_image

        with self._lock:
            try:
                return open_image(self._source, picture, target, against)
            except (ValueError, RuntimeError) as error:
                raise ExplainerError(str(error)) from error

    def scale(self, opened: ConceptSurgery, factors: Mapping[int, float]) -> xr.Dataset:
        """Run the network on scaled concepts: see :func:`fact.traces.interventions.scale_concepts`.

        Raises
        ------
        ExplainerError
            If that cannot be done.
        """
        from fact.traces.interventions import scale_concepts

        with self._lock:
            try:
                return scale_concepts(opened, factors)
            except (ValueError, RuntimeError) as error:
                raise ExplainerError(str(error)) from error

    def _side_of_images(self) -> int:
        """Return the pixels of a side of the images that were measured. The lock is held."""
        if self._side is None:
            with suppress(ExplainerError, OSError, ValueError, KeyError, IndexError):
                images = self._dataset
                first = images.ids(images.splits[0])[:1]
                self._side = int(min(images.read(first, self._source.network.geometry).shape[1:3]))
        return self._side or FALLBACK_SIDE

    @cached_property
    def _dataset(self) -> ImageDataset:
        """The images, opened once. The lock is held."""
        try:
            images: ImageDataset = self._concepts.origin("images").load()
            return images
        except StageError:
            raise ExplainerError("the images are not on this machine") from None
        except (OSError, ValueError, ImportError) as error:
            raise ExplainerError(f"the images cannot be read: {error!s}") from error


def _load(concepts: Input, device: str) -> ConceptSource:
    from fact.networks.network import choose_device
    from fact.traces.spliced import ConceptSource

    usable = "auto"  # the best that there is, where there is no such device as configured
    with suppress(ValueError):
        usable = str(choose_device(device))
    try:
        return ConceptSource.of_concepts(concepts, usable)
    except KeyError as error:
        gone = _gone(concepts) or f"the {error.args[0]}"
        raise ExplainerError(f"{gone} that it was made from is gone, or damaged") from error
    except StageError as error:
        text = "not all that these concepts were made from is on this machine, or whole"
        raise ExplainerError(f"{text}: {error}") from error
    except StoreError as error:
        raise ExplainerError(str(error), command=error.command) from error
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise ExplainerError(str(error)) from error


def _gone(given: Input) -> str:
    """Return the first of all datasets behind one that is not here; "" if none is known."""
    for one in given.inputs.values():
        if found := _gone(one):
            return found
    needs: dict[str, Any] = {}
    with suppress(StoreError, KeyError):
        needs = find_dataset(given.path)[1]["inputs"] if given.path else {}
    for slot, need in sorted(needs.items()):
        if slot not in given.inputs and "run" in need:  # a dataset; images are not needed here
            return f"the {slot} {need['name']!r}"
    return ""


def input_key(given: Input) -> tuple[Any, ...]:
    """Return what identifies a dataset and all that it was made from: immutable folders."""
    behind = tuple(input_key(one) for _, one in sorted(given.inputs.items()))
    return given.name, given.fingerprint, str(given.path), behind
