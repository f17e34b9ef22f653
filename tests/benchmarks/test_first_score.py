"""How long the first score of a new installation takes: it compiles the kernels that it needs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.benchmark
PROGRAM = """
import numpy as np
import evals

rng = np.random.default_rng(0)
activations, labels = rng.normal(size=(2_000, 20)), rng.random((2_000, 10)) < 0.2
for metric in {metrics}:
    assert evals.score(metric, activations, labels, alpha=0.05).shape == (20, 10)
"""


def seconds_of(metrics: str, cache: Path) -> float:
    """Return the wall time of a process that scores, with what it compiles kept in a folder."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    start = time.perf_counter()
    program = [sys.executable, "-c", PROGRAM.format(metrics=metrics)]
    subprocess.run(program, env=environment, check=True)
    return time.perf_counter() - start


def test_a_first_score_is_there_within_ten_seconds(tmp_path: Path) -> None:
    first = seconds_of("['auprc']", tmp_path / "one")
    again = seconds_of("['auprc']", tmp_path / "one")
    print(f"\nauprc in a new process: {first:.1f} s with nothing compiled, {again:.1f} s then")
    assert first < 10
    every = seconds_of("evals.list_metrics()", tmp_path / "all")
    again = seconds_of("evals.list_metrics()", tmp_path / "all")
    print(f"all metrics: {every:.1f} s with nothing compiled, {again:.1f} s then")
    assert again < every
