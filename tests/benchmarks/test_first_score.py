"""How long the first score of a new installation takes: it compiles the kernels that it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.clock import seconds
from tests.benchmarks.table import Table

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
    program = [sys.executable, "-c", PROGRAM.format(metrics=metrics)]
    return seconds(lambda: subprocess.run(program, env=environment, check=True))


def test_a_first_score_is_there_within_ten_seconds(tmp_path: Path, table: Table) -> None:
    first = seconds_of("['auprc']", tmp_path / "one")
    again = seconds_of("['auprc']", tmp_path / "one")
    table.within("auprc in a new process, nothing compiled", first, 10, "s")
    table.within("auprc in a new process, compiled before", again, None, "s")
    every = seconds_of("evals.list_metrics()", tmp_path / "all")
    again = seconds_of("evals.list_metrics()", tmp_path / "all")
    table.costs("all metrics, compiled before", again, every, 1, against="nothing compiled")
