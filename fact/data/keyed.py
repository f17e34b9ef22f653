"""Random numbers that depend on a name: the same whatever else is drawn, and in whatever order."""

from __future__ import annotations

import hashlib

import numpy as np


def generator_for(name: str, seed: int) -> np.random.Generator:
    """Return the generator of a name, as an image's id, under a seed."""
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))
