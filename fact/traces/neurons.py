"""Neurons in a few images each: where activations are largest, and where they are lowest.

A neuron is a channel of a layer, a logit, or a column of a file. It may be negative, and so has two
sides: the images in which it is strongest, and those in which it is furthest below 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fact.data.images import Geometry, ImageDataset
from fact.networks.files import open_network
from fact.networks.linearity import N_IMAGES, known_linearity
from fact.networks.network import Network
from fact.networks.relevance import relevance_pass
from fact.traces.attribution import explain_concepts
from fact.traces.config import MapsBy
from fact.traces.pairs import Locate, Located, PairMaps, Pairs, map_pairs
from fact.traces.plots import BLOCK, LOWEST, select_gallery
from fact.traces.spliced import ConceptSource, each_gradient
from registry import Input
from registry.declare.faults import StageError


@dataclass(frozen=True)
class NeuronSource:
    """What neurons are of: a layer of a network, its logits, or a file that says no more of them.

    Attributes
    ----------
    concepts : ConceptSource or None
        Network and layer, "" for the logits; None for neurons of a file.
    maps_by : str
        How they are mapped; "" where they have no place.
    reason : str
        Why they have none.
    """

    concepts: ConceptSource | None
    maps_by: str
    reason: str = ""

    @classmethod
    def of_activations(
        cls, activations: Input, images: ImageDataset, device: str, maps: MapsBy
    ) -> NeuronSource:
        """Return what collected or imported activations are of.

        Raises
        ------
        ValueError
            If neurons cannot be mapped in a way that is asked for.
        """
        try:
            network = open_network(activations.origin("network"), device)
        except StageError:
            return cls._without_place(None, maps, f"{activations.name!r} come from no network")
        layer = activations.config["layer"]
        if network.linear is None:
            first = images.read(
                images.ids(activations.config["split"])[:N_IMAGES], network.geometry
            )
            network = known_linearity(network, first)
        source = ConceptSource(network, layer, None, maps)
        if layer:
            return cls(source, source.maps_by)
        if activations.config["groups"]:
            return cls._without_place(source, maps, "sums of logits are not mapped")
        if source.maps_by == "codes":
            return cls._without_place(source, maps, "logits have no positions to up-sample")
        return cls(source, source.maps_by)

    @classmethod
    def _without_place(
        cls, concepts: ConceptSource | None, maps: MapsBy, reason: str
    ) -> NeuronSource:
        if maps != "auto":
            raise ValueError(
                f"maps = {maps!r}: {reason}; expected 'auto', which draws images alone"
            )
        return cls(concepts, "", reason)

    @property
    def exact(self) -> bool:
        """Whether maps by the gradient are of weights, and add up; else an approximation."""
        return self.concepts is not None and self.concepts.exact

    @property
    def geometry(self) -> Geometry | None:
        """In which images are drawn: the network's, or their own."""
        return self.concepts.network.geometry if self.concepts else None

    def map_pairs(self, asked: Pairs) -> Iterator[PairMaps]:
        """Yield where each pair's neuron is in its image; see :func:`fact.traces.pairs.map_pairs`.

        Of a layer's channel it is the map of its sum over positions, of a logit its own.
        """
        if self.concepts is None or not self.maps_by:
            raise ValueError(f"{self.reason}; expected neurons with a place, as a layer's channels")
        if self.concepts.layer:
            return map_pairs(self.concepts.network, explain_concepts(self.concepts), asked)
        explained = logit_relevances if self.maps_by == "crp" else logit_gradients
        return map_pairs(self.concepts.network, partial(explained, self.concepts.network), asked)


@contextmanager
def logit_gradients(network: Network, encoded: Tensor) -> Iterator[Locate]:
    """Find where logits come from, by their gradient at the image.

    Parameters
    ----------
    network : Network
        Of one that is linear in its frozen weights the gradient is the weight, and the map adds up
        to the logit before the bias; of others it is an approximation.
    encoded : Tensor
        From :meth:`fact.networks.network.Network.encode`.
    """
    image = encoded.detach().requires_grad_()
    with torch.enable_grad(), network.explanation_mode():
        logits = network.logits(image)

    def locate(classes: Tensor) -> Located:
        vectors = functional.one_hot(classes, logits.shape[1]).to(logits)
        gradients = each_gradient(logits, image, vectors)
        return gradients, (gradients * image.detach()).sum(dim=2)

    yield locate


@contextmanager
def logit_relevances(network: Network, encoded: Tensor) -> Iterator[Locate]:
    """Find where logits come from, as relevance handed back to the image.

    As :func:`logit_gradients`, for networks in which every step has a rule
    (:mod:`fact.networks.relevance`).
    """
    with relevance_pass(network, "", encoded) as (logits, propagate):
        yield lambda classes: (
            None,
            propagate(logits * functional.one_hot(classes, logits.shape[1])),
        )


def varying_neurons(activation: xr.DataArray, most: int | None) -> tuple[NDArray[np.int64], bool]:
    """Return the neurons that are not the same everywhere; or those of them that vary most often.

    Parameters
    ----------
    activation : DataArray, (image, concept)
        Read in blocks of neurons.
    most : int or None
        Most neurons, those above their lowest value in most images; None for all.

    Returns
    -------
    rows : ndarray of int64
        In order.
    is_below : bool
        Whether any neuron is below 0 anywhere.

    Raises
    ------
    ValueError
        If there is none.
    """
    shares, is_below = [], False
    for start in range(0, activation.sizes["concept"], BLOCK):
        block = activation.isel(concept=slice(start, start + BLOCK)).load()
        shares.append((block > block.min("image")).mean("image").values)
        is_below = is_below or bool((block < 0).any())
    share = np.concatenate(shares) if shares else np.zeros(0)
    ranked = np.argsort(-share, kind="stable")[: int((share > 0).sum())]
    if not len(ranked):
        raise ValueError("no neuron varies: each is the same for all images")
    return np.sort(ranked[:most]), is_below


def choose_extremes(activation: xr.DataArray, n: int) -> xr.Dataset:
    """Choose the images in which each neuron is strongest, and those in which it is lowest.

    Parameters
    ----------
    activation : DataArray, (image, concept)
        Neurons as concepts; any sign.
    n : int
        Most images of a side.

    Returns
    -------
    Dataset
        ``image`` (concept, rank) ids, the largest first, none of an image in which the neuron is
        as low as anywhere; ``lowest_image`` (concept, rank), the lowest first, none of a value of
        at least 0, nor of a strongest image; "" where there are fewer. ``presence`` and
        ``lowest_presence``, the activations; NaN there.
    """
    values = activation.transpose("image", "concept").load().astype(np.float64)
    strongest = select_gallery(values - values.min("image"), n)["image"]
    rows, highest = look_up(values, strongest)
    free = np.ones(values.shape, dtype=bool)
    taken = rows >= 0
    columns = np.arange(values.sizes["concept"])[:, None]
    free[rows[taken], np.broadcast_to(columns, rows.shape)[taken]] = False
    below = values.copy(data=np.where(free, -values.values, np.nan))
    lowest = select_gallery(below, n)["image"]
    return xr.Dataset(
        {
            "image": strongest,
            "presence": highest,
            f"{LOWEST}image": lowest,
            f"{LOWEST}presence": look_up(values, lowest)[1],
        }
    )


def look_up(
    activation: xr.DataArray, chosen: xr.DataArray
) -> tuple[NDArray[np.intp], xr.DataArray]:
    """Return the rows of the images that are chosen for neurons, and the activations there.

    Parameters
    ----------
    activation : DataArray, (image, concept)
        In memory.
    chosen : DataArray, (concept, rank)
        Ids, "" for no image.

    Returns
    -------
    rows : ndarray, (concept, rank)
        -1 for no image.
    found : DataArray, (concept, rank)
        float32, NaN for no image.
    """
    values = activation.transpose("image", "concept")
    rows = values.indexes["image"].get_indexer(chosen.values.ravel()).reshape(chosen.shape)
    found = values.values[rows, np.arange(values.sizes["concept"])[:, None]]
    return rows, chosen.copy(data=np.where(rows >= 0, found, np.nan).astype(np.float32))


def labels_of(images: ImageDataset, ids: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return the labelled class of images of any split; -1 where there is none, or for ""."""
    known: dict[str, int] = {}
    for split in {str(name).partition("/")[0] for name in ids.ravel()} & set(images.splits):
        known |= dict(zip(images.ids(split).tolist(), images.labels(split).tolist(), strict=True))
    found = [known.get(str(name), -1) for name in ids.ravel()]
    return np.array(found, dtype=np.int64).reshape(ids.shape)
