"""Bytes of images become floats where a network is."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from fact.networks.network import _as_rgb

pytestmark = pytest.mark.benchmark

CPU = torch.device("cpu")


def least_of(
    calls: dict[str, Callable[[], object]],
    times: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return the least time of each, which take turns."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(times):
        for name, call in calls.items():
            start = clock()
            call()
            taken[name].append(clock() - start)
    return {name: min(each) for name, each in taken.items()}


def test_bytes_become_floats_no_slower_than_once() -> None:
    """As they did before bytes were sent: laid out by NumPy, divided, and looked at."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 224, 224, 3), dtype=np.uint8)

    def once() -> None:
        laid_out = torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, 1)))
        floats = laid_out.to(torch.float32) / 255
        assert 0 <= floats.min().item() <= floats.max().item() <= 1

    calls = {"once": once, "now": lambda: _as_rgb(pixels, CPU, torch.float32)}
    taken = least_of(calls, 9, time.process_time)
    print(f"\n64 images as floats: {taken['now']:.3f} s, once {taken['once']:.3f} s")
    assert taken["now"] < 1.1 * taken["once"]
