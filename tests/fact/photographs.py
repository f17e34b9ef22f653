"""Crops of two real photographs: a dahlia, and a temple in China. scikit-learn ships both."""

from __future__ import annotations

from functools import cache

import numpy as np
from sklearn.datasets import load_sample_image

SIDE = 160
FLOWER_AT = (190, 340)  # row and column of the bloom's middle


@cache
def photograph(name: str) -> np.ndarray:
    return np.asarray(load_sample_image(f"{name}.jpg"))


def crop(name: str, row: int, column: int) -> np.ndarray:
    """A square whose middle is near (row, column), inside the photograph."""
    whole = photograph(name)
    top = int(np.clip(row - SIDE // 2, 0, whole.shape[0] - SIDE))
    left = int(np.clip(column - SIDE // 2, 0, whole.shape[1] - SIDE))
    return whole[top : top + SIDE, left : left + SIDE]


def round_map(offset: tuple[int, int]) -> np.ndarray:
    """A round map of what a crop offset by so much from its middle shows elsewhere."""
    y, x = np.mgrid[:SIDE, :SIDE]
    middle = SIDE / 2 - offset[0], SIDE / 2 - offset[1]
    return np.exp(-((y - middle[0]) ** 2 + (x - middle[1]) ** 2) / (2 * 30**2))


def same_object(count: int = 8, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Crops around the bloom, each with a map of it."""
    offsets = np.random.default_rng(seed).integers(-45, 46, (count, 2))
    row, column = FLOWER_AT
    crops = [crop("flower", row + dy, column + dx) for dy, dx in offsets]
    return crops, [round_map((dy, dx)) for dy, dx in offsets]


def anything(count: int = 8, seed: int = 1) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Crops from anywhere in both, each with a round map somewhere in it."""
    rng = np.random.default_rng(seed)
    crops, maps = [], []
    for number in range(count):
        name = ("flower", "china")[number % 2]
        height, width = photograph(name).shape[:2]
        crops.append(crop(name, rng.integers(height), rng.integers(width)))
        maps.append(round_map(tuple(rng.integers(-60, 61, 2))))
    return crops, maps
