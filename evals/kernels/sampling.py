"""Draws of inputs that belong to a neuron: the same whatever else is scored, and in what order.

Every pair of a neuron and an input has a number that looks random and follows from their names and
the seed; a draw takes the inputs with the smallest numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numba import njit

from evals.kernels.statistics import DRAWING


@dataclass(frozen=True)
class Sampler:
    """Draws inputs for neurons.

    Parameters
    ----------
    inputs, neurons : sequence
        Their names, or numbers.
    """

    inputs: Sequence[Any] | np.ndarray
    neurons: Sequence[Any] | np.ndarray

    @cached_property
    def _keys(self) -> np.ndarray:
        return input_keys(self.inputs)

    def draw(self, neuron: int, top: np.ndarray, seed: int, size: int = DRAWING.size) -> np.ndarray:
        """Return inputs drawn from the top ones, then from all, each without replacement.

        Parameters
        ----------
        neuron : int
            Index of the neuron.
        top : ndarray
            (top,) the inputs at which it is strongest.
        seed : int
            Another one draws others.
        size : int
            Inputs in each of the two draws, all of them where there are fewer.

        Returns
        -------
        ndarray
            (drawn,) indices of inputs; those that are in both draws stand twice. In an order that
            follows from names, not from indices.
        """
        everything = np.arange(len(self._keys))
        name = self.neurons[neuron]
        least_of_top = self._least("top", name, seed, top, size)
        return np.append(least_of_top, self._least("all", name, seed, everything, size))

    def _least(self, what: str, name: Any, seed: int, among: np.ndarray, size: int) -> np.ndarray:
        numbers = keyed_numbers(self._keys[among], what, name, seed)
        if len(among) > size:
            kept = np.argpartition(numbers, size)[:size]
            among, numbers = among[kept], numbers[kept]
        return among[np.argsort(numbers)]


def input_keys(inputs: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Return a key (input,) uint64 for each input, which follows from its name."""
    return np.array([_hash("input", name) for name in inputs], dtype=np.uint64)


def keyed_numbers(keys: np.ndarray, *parts: Any) -> np.ndarray:
    """Return a number (input,) for each key, as if drawn from all of uint64, for what is named."""
    return np.asarray(_mix(keys, _hash(*parts)))


def choose_keyed(keys: np.ndarray, probability: float, *parts: Any) -> np.ndarray:
    """Return the indices of keys that are chosen, each with a probability, for what is named."""
    return np.asarray(_find_below(keys, _hash(*parts), probability))


def _hash(*parts: Any) -> np.uint64:
    text = "\x1f".join(map(str, parts))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


@njit(nogil=True, cache=True)
def _mix(keys, salt):  # type: ignore[no-untyped-def]
    numbers = np.empty(keys.size, dtype=np.uint64)
    for i in range(keys.size):
        numbers[i] = _scramble(keys[i] ^ salt)
    return numbers


@njit(nogil=True, cache=True)
def _find_below(keys, salt, probability):  # type: ignore[no-untyped-def]
    found = np.empty(keys.size, dtype=np.int64)
    n_found = 0
    for i in range(keys.size):
        if (_scramble(keys[i] ^ salt) >> np.uint64(11)) * 2.0**-53 < probability:
            found[n_found] = i
            n_found += 1
    return found[:n_found].copy()


@njit(nogil=True, cache=True)
def _scramble(key):  # type: ignore[no-untyped-def]
    """Return a key (uint64) scrambled one to one (SplitMix64; Steele, Lea and Flood 2014)."""
    key = key + np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))
