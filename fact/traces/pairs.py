"""Where concepts are, each in images of its own: image by image, from one pass of the network.

An image that many concepts are sought in runs through the network once; their vectors are handed
back from its one graph, several together where that fits. What is found stays on the device: what
is kept of it is made there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fact.data.images import Pixels
from fact.networks.arrays import slices
from fact.networks.network import Network

PIXELS_ON_CPU, PIXELS = 2**16, 2**20
"""Pixels of images, times vectors, that are handed back at once: one image of 224 pixels a side on
a CPU, which many do not make quicker, and 20 where there is a GPU to fill."""

HELD = 2**26
"""Pixels of maps that wait on the device, for those of an image to come together: 256 MiB."""

Indices = NDArray[np.int64]

Located: TypeAlias = tuple[Tensor | None, Tensor]
"""Weights ``(…, colour, y, x)``, None where there are none, and maps ``(…, y, x)``."""

Locate: TypeAlias = Callable[[Tensor], Located]
"""Takes concepts ``(vector, image)`` of the images of a pass, returns where they are."""

Explain: TypeAlias = Callable[[Tensor], AbstractContextManager[Locate]]
"""Runs a network on encoded images; concepts are found in them while its context lasts."""


class Pairs(NamedTuple):
    """Images, and the concept that is sought in each of them: an image may come several times.

    Attributes
    ----------
    pictures : ndarray of uint8, (image, y, x, colour)
        In the network's geometry, each once.
    image : ndarray of int64, (pair,)
        Index of the picture.
    concept : ndarray of int64, (pair,)
        What is sought in it.
    """

    pictures: Pixels
    image: Indices
    concept: Indices


class PairMaps(NamedTuple):
    """Where some concepts are, on the network's device.

    Attributes
    ----------
    pairs : ndarray of int64, (pair,)
        Of which pairs of those that were asked for.
    weights : Tensor or None
        ``(pair, colour, y, x)``.
    values : Tensor
        ``(pair, y, x)``.
    """

    pairs: Indices
    weights: Tensor | None
    values: Tensor


MapPairs: TypeAlias = Callable[[Pairs], Iterator[PairMaps]]
"""Takes pairs, yields where each concept is in its image, as :func:`map_pairs` does."""


def images_at_once(pixels: int, device: torch.device) -> int:
    """Return how many images of so many pixels, or vectors of one, are explained at once."""
    return max(1, (PIXELS_ON_CPU if device.type == "cpu" else PIXELS) // pixels)


def map_pairs(network: Network, explain: Explain, asked: Pairs) -> Iterator[PairMaps]:
    """Yield where each pair's concept is in its image, in an order of its own, every pair once.

    Images with as many concepts run through the network together, as many as fit. While it is
    iterated, nothing else may run the network: rules of relevance stand on it.

    Parameters
    ----------
    network : Network
        Encodes the images.
    explain : callable
        Finds concepts in them.
    asked : Pairs
        What is sought.
    """
    device, size = network.device, asked.pictures.shape[1] * asked.pictures.shape[2]
    most = images_at_once(size, device)
    for images, table in _plan(asked.image, most):
        with explain(network.encode(asked.pictures[images])) as locate:
            for some in slices(len(table), max(1, most // len(images))):
                pairs = table[some]
                filled = pairs >= 0
                wanted = np.where(filled, asked.concept[pairs], asked.concept[pairs[:1]])
                weights, values = locate(torch.from_numpy(wanted).to(device))
                kept = torch.from_numpy(filled).to(device)
                own = None if weights is None else weights[kept]
                yield PairMaps(pairs[filled], own, values[kept])


def _plan(image: Indices, most: int) -> Iterator[tuple[Indices, Indices]]:
    """Yield images that go together, and the pairs of each: ``(rank, image)``, -1 for none."""
    order = np.argsort(image, kind="stable")
    images, first, counts = np.unique(image[order], return_index=True, return_counts=True)
    by_count = np.argsort(-counts, kind="stable")
    for some in slices(len(images), most) if len(images) else ():
        own = by_count[some]
        table = np.full((int(counts[own].max()), len(own)), -1, dtype=np.int64)
        for column, number in enumerate(own):
            start, count = first[number], counts[number]
            table[:count, column] = order[start : start + count]
        yield images[own], table


def maps_by_image(network: Network, explain: Explain, asked: Pairs) -> Iterator[Tensor]:
    """Yield the maps ``(pair, y, x)`` of each picture, in order; those of a few wait at a time.

    Parameters
    ----------
    network, explain, asked
        As of :func:`map_pairs`; pairs are in the order of their pictures.
    """
    size = asked.pictures.shape[1:3]
    ends = np.searchsorted(asked.image, np.arange(len(asked.pictures)), side="right")
    start = 0
    while start < len(ends):
        first = int(ends[start - 1]) if start else 0
        held = (ends[start:] - first) * size[0] * size[1] <= HELD
        stop = start + max(1, int(held.sum()))
        last = int(ends[stop - 1])
        some = Pairs(
            asked.pictures[start:stop], asked.image[first:last] - start, asked.concept[first:last]
        )
        maps = torch.empty(0)
        for found in map_pairs(network, explain, some):
            if not len(maps):
                maps = found.values.new_empty(last - first, *size)
            maps[torch.from_numpy(found.pairs).to(maps.device)] = found.values
        for number in range(start, stop):
            yield maps[(int(ends[number - 1]) if number else 0) - first : int(ends[number]) - first]
        start = stop
