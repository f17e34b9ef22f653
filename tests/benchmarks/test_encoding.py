"""Bytes of images become floats where a network is."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from fact.networks.network import _as_rgb
from tests.benchmarks.clock import least
from tests.benchmarks.table import Table

pytestmark = pytest.mark.benchmark

CPU = torch.device("cpu")


def test_bytes_become_floats_no_slower_than_once(table: Table) -> None:
    """As they did before bytes were sent: laid out by NumPy, divided, and looked at."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 224, 224, 3), dtype=np.uint8)

    def once() -> None:
        laid_out = torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, 1)))
        floats = laid_out.to(torch.float32) / 255
        assert 0 <= floats.min().item() <= floats.max().item() <= 1

    before, now = least(
        once, lambda: _as_rgb(pixels, CPU, torch.float32), rounds=9, clock=time.process_time
    )
    table.costs("64 images become floats", now, before, 1.1, against="by NumPy, looked at")
